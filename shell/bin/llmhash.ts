// llmhash: llmctl hash.

import { alias } from '../lib/alias.ts';

export const llmhash = alias('llmhash', 'print the SHA-256 of a model file', '[FILE]', ['hash']);
