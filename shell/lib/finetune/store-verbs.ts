// The verbs of `llmfinetune` about what was trained: applying it, its versions, its files.

import type { OptionTable } from '../getopt.ts';
import type { Verbs } from './verb.ts';

export const storeVerbOptions = {} as const satisfies OptionTable;

export const storeVerbs: Verbs<typeof storeVerbOptions> = {};
