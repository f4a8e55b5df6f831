// /proc/plan and /proc/step: the ops of the loaded plan, and the one that the processor stands before, or ran last. man proc has the keys.

import { keyed, tabbed, type Row } from './parse-text.ts';

/** The ops of the plan in their order; each with the columns that the kernel gives. */
export const parsePlan = (text: string): Row[] => tabbed(text);

/** What is known of the step; lines that follow the keys are as they stand. */
export const parseStep = (text: string): ReadonlyMap<string, string> => keyed(text);
