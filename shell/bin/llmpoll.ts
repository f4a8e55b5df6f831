// llmpoll: llmctl poll of the newest session.

import { alias } from '../lib/alias.ts';

export const llmpoll = alias('llmpoll', 'what your newest session has said since', '[MAX]', ['poll', 'last']);
