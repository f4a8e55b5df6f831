// The options of `audit replay`, in the machine and at the host: what is known of the requests that are run again.

import type { OptionTable } from './getopt.ts';
import type { Context } from './program.ts';

export const replayOptions = {
  ids: { value: 'FILE', help: "audit replay: the token ids of the record's prompt, decimal, with blanks between" },
  salt: {
    value: 'HEX',
    help: "audit replay: the record's salt, where it was disclosed and the log's directory has it not",
  },
  identity: { value: 'FILE', help: 'audit replay: the secret key (age) that opens stored texts' },
  disclosed: {
    value: 'FILE',
    help: 'audit replay: what is known of records, a JSON object a line: record, and any of salt, prompt, prompt_ids, stops',
  },
} as const satisfies OptionTable;

/** Options that have a meaning for other verbs of llmctl too. */
export const REPLAY_SHARED = ['prompt', 'file', 'stop', 'all', 'log'] as const;

type Flag = { readonly help: string };
type Value = Flag & { readonly value: string };

/** The options that a program has whose verb `replay` is. */
export type ReplayTable = typeof replayOptions & {
  readonly prompt: Value;
  readonly file: Value;
  readonly log: Value;
  readonly stop: Value & { readonly many: true };
  readonly all: Flag;
  readonly json: Flag;
};
export type ReplayContext = Context<ReplayTable>;
