// llmcancel: llmctl cancel.

import { alias } from '../lib/alias.ts';

export const llmcancel = alias('llmcancel', 'end a session at its next token', '[ID]', ['cancel']);
