// Requests drawn by chance, and what may and may not become of them: run side by side on a bench, each must say what it says alone and be
// charged what it is charged alone, whatever else the machine does.

import type { ExecutionContext } from 'ava';
import { setImmediate } from 'node:timers/promises';
import { logitsSum, SERVER } from '../../kernel/abi/index.ts';
import type { Bench, Outcome, Wish } from './service.ts';

export type Next = () => number;
export const below = (next: Next, n: number): number => Math.floor(next() * n);
export const oneOf = <T>(next: Next, list: readonly T[]): T => list[below(next, list.length)]!;
const WORDS = 'once upon a time there was little girl named Lily who had 3 dogs, Zoë & 42 cats! The'.split(' ');

export const NEVER = Infinity;

/** A text of so many words; texts of one number begin alike. */
export const textOf = (next: Next, words: number): string => {
  const alike = below(next, 3) * 7;
  return Array.from({ length: words }, (_, i) => (i < alike ? WORDS[i % WORDS.length]! : oneOf(next, WORDS))).join(' ');
};

export interface Mix {
  readonly wordsMax: number;
  readonly tokensMax: number;
  readonly users: number;
  readonly servers: boolean;
}

export function wishOf(next: Next, bench: Bench, { wordsMax, tokensMax, users, servers }: Mix): Wish {
  const { hz } = bench.kernel.clock;
  const served = servers && next() < 0.3;
  const budget = (1.5 + 3 * next()) * bench.kernel.sessions.schedule().stepMax;
  return {
    text: textOf(next, 1 + below(next, wordsMax)),
    uid: 1 + below(next, users),
    options: {
      maxTokens: 1 + below(next, tokensMax),
      seed: below(next, 1000),
      temp: oneOf(next, [0, 0.5, 1.2]),
      topK: oneOf(next, [0, 1, 5, 40]),
      topP: oneOf(next, [0.3, 0.95, 1]),
      repeatPenalty: oneOf(next, [1, 1.2]),
      logitsK: next() < 0.1 ? 1 + below(next, 5) : 0,
      priority: below(next, 32),
      server: served ? oneOf(next, [SERVER.hard, SERVER.soft]) : SERVER.none,
      budgetCycles: served ? Math.floor(budget) : 0,
      periodNs: served ? Math.floor((budget / (0.05 + 0.3 * next()) / hz) * 1e9) : 0,
      timeoutMs: next() < 0.05 ? 1 + below(next, 2000) : 3_600_000,
    },
    at: below(next, 60),
    cancelAfter: next() < 0.1 ? below(next, 60) : NEVER,
    readEvery: next() < 0.15 ? 1 + below(next, 30) : 1,
  };
}

/** Natural ends say it all; others say a beginning. A server ends within its bound, unless its reader kept it waiting. */
export function agrees(
  t: ExecutionContext,
  together: Outcome,
  alone: Outcome,
  { readEvery, ...wish }: Wish,
  cutShort: readonly string[] = ['cancel', 'timeout'],
): void {
  const what = JSON.stringify(wish);
  const { beganNs, endedNs, responseNs } = together.report;
  if (responseNs !== 0 && readEvery === 1 && wish.options.logitsK === 0)
    t.true(endedNs - beganNs <= responseNs, `${endedNs - beganNs} ns: ${what} ${JSON.stringify(together)}`);
  if (cutShort.includes(together.finish)) {
    t.deepEqual(together.tokens, alone.tokens.slice(0, together.tokens.length), what);
    t.true(together.cycles <= alone.cycles, what);
    return;
  }
  const { tokens, text, tops, finish, cycles } = alone;
  t.like(together, { tokens, text, tops, finish, cycles }, what);
  t.is(together.report.wcetCycles, alone.report.wcetCycles, what);
  t.deepEqual(logitsSum(together.report), logitsSum(alone.report), what);
}

/** Options of a request that runs alone. */
export const ALONE = { server: SERVER.none, periodNs: 0, budgetCycles: 0, timeoutMs: 3_600_000 } as const;

export interface Seen {
  requests: number;
  refused: number;
  cancelled: number;
  timedOut: number;
  servers: number;
}

export async function compare(
  t: ExecutionContext,
  bench: Bench,
  next: Next,
  wishes: readonly Wish[],
  seen: Seen,
): Promise<void> {
  bench.forget();
  const outcomes = bench.together(wishes);
  await setImmediate();
  for (const [i, together] of outcomes.entries()) {
    const { text, options, uid } = wishes[i]!;
    seen.requests++;
    if (together === null) {
      seen.refused++;
      continue;
    }
    if (together.finish === 'cancel') seen.cancelled++;
    if (together.finish === 'timeout') seen.timedOut++;
    if (options.server !== SERVER.none) seen.servers++;
    const alone = bench.alone(text, { ...options, ...ALONE }, uid);
    agrees(t, together, alone, wishes[i]!);
    if (i % 8 === 0) await setImmediate();
  }
}

export const freshSeen = (): Seen => ({ requests: 0, refused: 0, cancelled: 0, timedOut: 0, servers: 0 });
