// What the verbs of the audit log have in common, in the machine (`llmctl audit`) and at the host (`arena8 audit`): their options, and what
// they need of the program that they run in. A verb prints records and tables and returns an exit status; where files come from and
// where text goes is the program's.

import { formatRefusal } from '../../kernel/abi/index.ts';
import type { Refusal } from '../../kernel/abi/index.ts';
import type { Sha256 } from '../../trust/index.ts';
import { noSuchRecord } from './audit-reader.ts';
import type { OpenLog } from './audit-reader.ts';
import { STATUS_WORDS } from './audit-record.ts';
import type { OptionTable } from './getopt.ts';
import type { Context } from './program.ts';
import type { Output } from './stdio.ts';

/** Options of the verbs that read a log, beside --json and --model, which has a meaning for other verbs of llmctl too. */
export const auditOptions = {
  user: { value: 'USER', help: 'audit list: records of this user, by name or number' },
  session: { value: 'ID', help: 'audit list: of the session with this number' },
  status: { value: 'WORDS', help: `audit list: with such an end: ${STATUS_WORDS.join(', ')}; several with commas` },
  op: { value: 'WORDS', help: 'audit list: of such operations, as infer,reject' },
  since: { value: 'TIME', help: "audit list: from then on, [BOOT:]SECONDS of the machine's clock" },
  until: { value: 'TIME', help: 'audit list: up to then' },
  last: { value: 'N', help: 'audit list: of those the last N' },
  key: { value: 'VKEY', help: "audit verify, prove: the log's verifier key, NAME+ID+KEY, or a file that holds it" },
  seen: { value: 'FILE', many: true, help: 'audit verify: a checkpoint seen before, which the log must continue' },
  witness: { value: 'VKEY', many: true, help: 'audit verify: the key of a witness who must have cosigned, or a file' },
} as const satisfies OptionTable;
export const modelHelp = 'audit list: of this model, by name, path or the first digits of its digest';

type Ctx = Context<
  typeof auditOptions & {
    readonly model: { readonly value: string; readonly help: string };
    readonly json: { readonly help: string };
  }
>;
export type AuditOptionValues = Ctx['options'];

export interface Face extends Pick<Ctx, 'options' | 'fail'> {
  readonly out: Pick<Output, 'print' | 'write'>;
  readonly err: Pick<Output, 'print'>;
  /** How wide a line may be; Infinity where no terminal cuts it. */
  readonly columns: number;
  /** A small file that an option names. */
  readFile(path: string): Generator<void, Uint8Array | Refusal, void>;
  /** A person sees how far a long piece of work is. */
  progress(done: number, total: number): Generator<void, void, void>;
  /** The host's own SHA-256, where there is one. */
  readonly hash?: Sha256;
}

export type Run = Generator<void, number, void>;

/** A refusal as the message of a verb. Returns 1. */
export const refused = (face: Pick<Face, 'fail'>, refusal: Refusal): Run => face.fail(formatRefusal(refusal));

/** The record that an operand names: a number, or `last`. A message and its status where there is none. */
export function* recordNumber(
  face: Pick<Face, 'fail'>,
  log: OpenLog,
  word: string,
): Generator<void, { readonly number: number } | { readonly status: number }, void> {
  const { size } = log.checkpoint;
  const number = word === 'last' ? size - 1 : /^[0-9]{1,15}$/.test(word) ? Number(word) : NaN;
  if (Number.isNaN(number)) {
    yield* face.fail(`'${word}' is not the number of a record, nor last`);
    return { status: 2 };
  }
  if (number >= 0 && number < size) return { number };
  yield* face.fail(`${log.place}: ${noSuchRecord(Math.max(0, number), size)}`);
  return { status: 1 };
}
