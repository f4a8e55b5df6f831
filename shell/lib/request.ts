// A request as command lines say it: how many tokens, how each is drawn, and what is promised about its time. One table of options and one
// reading of them for every program that submits prompts. Promises are those of a constant-bandwidth server (Abeni and Buttazzo, 1998): a
// budget of cycles each period, admitted or refused before anything runs.

import {
  LIMITS,
  PRIORITY_DEFAULT,
  PRIORITY_MAX,
  RNG,
  SERVER,
  SESSION_FLAG,
  SessionOptions,
  utf8Encode,
} from '../../kernel/abi/index.ts';
import { adapterOptions } from './adapters.ts';
import type { OptionTable, ParsedOptions } from './getopt.ts';
import { parseCycles, parseDecimal } from './model.ts';
import { integer, numbersOf, samplerOptions, samplerRules } from './sampling.ts';
import type { NumberRule } from './sampling.ts';

/** What is drawn. */
export const drawOptions = {
  'max-tokens': {
    short: 'n',
    value: 'N',
    help: `draw at most N tokens, 1 to ${LIMITS.generationTokensMax} (default 64)`,
  },
  ...samplerOptions,
  seed: { short: 's', value: 'S', help: 'seed of the random draws (default 0)' },
  stop: { value: 'S', many: true, help: `end before the text S; up to ${LIMITS.stopStringsMax} of them` },
  rng: { value: 'NAME', help: 'random generator: xor128 (default) or lcg' },
  ...adapterOptions,
} as const satisfies OptionTable;

/** When it is computed, and what it follows. Times are virtual. */
export const promiseOptions = {
  continue: { value: 'ID', help: 'PROMPT follows what session ID, which has ended, has read and said' },
  deadline: { value: 'MS', help: 'to be ended MS milliseconds after it is submitted, or refused now' },
  period: { value: 'MS', help: 'run in a server with a budget of cycles every MS milliseconds' },
  budget: {
    value: 'Q',
    help: "the server's budget: Q cycles, or milliseconds as 2.5ms (default: one dearest step, with --deadline the whole request)",
  },
  soft: { help: 'a server without budget goes on with a later deadline, instead of waiting for its next period' },
  prio: {
    value: 'P',
    help: `priority for the policy fp, 0 (most urgent) to ${PRIORITY_MAX} (default ${PRIORITY_DEFAULT})`,
  },
  timeout: {
    value: 'MS',
    help: `give up after MS milliseconds (default ${LIMITS.sessionTimeoutMs}, or the request's own bound or what a server promises, if that is longer)`,
  },
} as const satisfies OptionTable;

export const requestOptions = { ...drawOptions, ...promiseOptions } as const;
type RequestValues = ParsedOptions<typeof requestOptions>;

/** What a program asks of the session besides. */
interface RequestExtras {
  readonly flags: number; // SESSION_FLAG
  readonly logitsK: number;
}

const millisecondsMax = 86_400_000; // a day

const milliseconds = (option: string): NumberRule => ({
  option,
  otherwise: 0,
  parse: parseDecimal,
  isValid: ms => ms * 1e6 >= 1 && ms <= millisecondsMax,
  range: `a number of milliseconds, more than 0 and at most ${millisecondsMax}`,
});

const rules = {
  // 0 leaves the kernel its default, cut to what the context leaves.
  maxTokens: integer('max-tokens', 1, LIMITS.generationTokensMax, 0),
  ...samplerRules,
  seed: integer('seed', -(2 ** 31), 2 ** 31 - 1, 0),
  parent: integer('continue', 1, 2 ** 32 - 1, 0),
  priority: integer('prio', 0, PRIORITY_MAX, PRIORITY_DEFAULT),
  timeoutMs: integer('timeout', 1, millisecondsMax, 0),
};
const times = { periodMs: milliseconds('period'), deadlineMs: milliseconds('deadline') };

/** The SessionOptions record of a request on a processor of `hz`, or what is wrong with an option. */
export function sessionRecord(given: RequestValues, hz: number, extras: RequestExtras): Uint8Array | string {
  const values = numbersOf(rules, given);
  if (typeof values === 'string') return values;
  const promised = numbersOf(times, given);
  if (typeof promised === 'string') return promised;
  const { rng = 'xor128' } = given;
  if (!Object.hasOwn(RNG, rng)) return `--rng '${rng}' is not xor128 or lcg`;
  const stops = stopStrings(given.stop);
  if (typeof stops === 'string') return stops;
  const served = promised.periodMs > 0 || promised.deadlineMs > 0;
  if (!served && (given.soft || given.budget !== undefined))
    return `--${given.soft ? 'soft' : 'budget'} needs --period or --deadline`;
  const budget = given.budget === undefined ? 0 : parseCycles(given.budget, hz) || null; // 0 would be the default
  if (budget === null) return `--budget '${given.budget}' is not a number of cycles, nor of milliseconds as in 2.5ms`;

  const record = new Uint8Array(SessionOptions.bytes);
  SessionOptions.write(record, 0, {
    ...values,
    rng: RNG[rng as keyof typeof RNG],
    logitsK: extras.logitsK,
    flags: extras.flags,
    server: !served ? SERVER.none : given.soft ? SERVER.soft : SERVER.hard,
    periodNs: Math.round(promised.periodMs * 1e6),
    deadlineNs: Math.round(promised.deadlineMs * 1e6),
    budgetCycles: budget,
    stopCount: stops.length,
  });
  writeStops(record, stops);
  return record;
}

/** Stop strings into a SessionOptions record. */
export function writeStops(record: Uint8Array, stops: readonly Uint8Array[]): void {
  let at = SessionOptions.at.stopBytes;
  for (const stop of stops) {
    record[at] = stop.length;
    record.set(stop, at + 1);
    at += 1 + stop.length;
  }
}

/** The bytes of --stop's values, or what is wrong with them. */
function stopStrings(given: readonly string[]): readonly Uint8Array[] | string {
  const stops = given.map(utf8Encode);
  if (stops.length > LIMITS.stopStringsMax)
    return `--stop given ${stops.length} times, ${LIMITS.stopStringsMax} at most`;
  const bad = stops.findIndex(s => s.length === 0 || s.length > LIMITS.stopBytes);
  return bad < 0
    ? stops
    : `--stop '${given[bad]}' is ${stops[bad]!.length} bytes, 1 to ${LIMITS.stopBytes} are allowed`;
}

/** Flags of SESSION_FLAG by name, those that are true. */
export function flagsOf(on: Partial<Record<keyof typeof SESSION_FLAG, boolean>>): number {
  let flags = 0;
  for (const [name, bit] of Object.entries(SESSION_FLAG)) if (on[name as keyof typeof SESSION_FLAG]) flags |= bit;
  return flags;
}
