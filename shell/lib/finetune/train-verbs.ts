// The verbs of `llmfinetune` that train: what it would take, starting, watching, stopping and going on, and the curve of the losses.

import type { OptionTable } from '../getopt.ts';
import type { Verbs } from './verb.ts';

export const trainOptions = {} as const satisfies OptionTable;

export const trainVerbs: Verbs<typeof trainOptions> = {};
