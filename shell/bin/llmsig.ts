// llmsig: llmctl sign.

import { alias } from '../lib/alias.ts';

export const llmsig = alias('llmsig', 'print the signature beside a model', '[FILE]', ['sign']);
