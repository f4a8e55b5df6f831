// llmsummary: llmctl summary.

import { alias } from '../lib/alias.ts';

export const llmsummary = alias('llmsummary', 'list sessions in the words of the specification', '', ['summary']);
