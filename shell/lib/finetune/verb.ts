// What a verb of `llmfinetune` is: a row of one of the two tables that the program dispatches by (train-verbs.ts, store-verbs.ts) and that
// its --help and manual page are made from.

import { storeOptions } from './store.ts';
import type { OptionTable } from '../getopt.ts';
import type { Context } from '../program.ts';

export type Run = Generator<void, number, void>;

/** What every verb takes. */
export const commonOptions = {
  json: { help: 'print JSON, one object a line' },
  ...storeOptions,
} as const;

export interface Verb<T extends OptionTable> {
  /** Operands and options: `NAME [--scale X]`. */
  readonly usage: string;
  /** One phrase for the manual, lower case, no full stop. */
  readonly help: string;
  /** Options it takes, beside those of all verbs. */
  readonly takes: readonly (keyof T & string)[];
  /** How many operands it takes after its name. */
  readonly operands: readonly [least: number, most: number];
  run(ctx: Context<T & typeof commonOptions>, operands: readonly string[]): Run;
}

export type Verbs<T extends OptionTable> = Readonly<Record<string, Verb<T>>>;
