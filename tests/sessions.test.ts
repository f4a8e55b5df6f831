// Sessions side by side: whatever the order of arrival, the passes they share, who is preempted, swapped out or cancelled, each says what it
// says alone, to the bit, and is charged what it is charged alone. No admitted server misses a deadline, and every ledger agrees with every
// other after every segment.

import test, { type ExecutionContext } from 'ava';
import { setImmediate } from 'node:timers/promises';
import { SCHED_KEEP, SERVER, type RecordValue, type SchedOptions } from '../kernel/abi/index.ts';
import { random, soak, type Next } from './harness.ts';
import { Bench, type Outcome, type Wish } from './support/service.ts';

const below = (next: Next, n: number): number => Math.floor(next() * n);
const oneOf = <T>(next: Next, list: readonly T[]): T => list[below(next, list.length)]!;
const WORDS = 'once upon a time there was little girl named Lily who had 3 dogs, Zoë & 42 cats! The'.split(' ');

const NEVER = Infinity;

/** A text of so many words; texts of one number begin alike. */
const textOf = (next: Next, words: number): string => {
  const alike = below(next, 3) * 7;
  return Array.from({ length: words }, (_, i) => (i < alike ? WORDS[i % WORDS.length]! : oneOf(next, WORDS))).join(' ');
};

interface Mix {
  readonly wordsMax: number;
  readonly tokensMax: number;
  readonly users: number;
  readonly servers: boolean;
}

function wishOf(next: Next, bench: Bench, { wordsMax, tokensMax, users, servers }: Mix): Wish {
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

/** Natural ends say it all; others say a beginning. */
function agrees(t: ExecutionContext, together: Outcome, alone: Outcome, what: string): void {
  if (['cancel', 'timeout'].includes(together.finish)) {
    t.deepEqual(together.tokens, alone.tokens.slice(0, together.tokens.length), what);
    t.true(together.cycles <= alone.cycles, what);
    return;
  }
  const { tokens, text, tops, finish, cycles } = alone;
  t.like(together, { tokens, text, tops, finish, cycles }, what);
  t.is(together.report.wcetCycles, alone.report.wcetCycles, what);
}

interface Seen {
  requests: number;
  refused: number;
  cancelled: number;
  timedOut: number;
  servers: number;
}

async function compare(t: ExecutionContext, bench: Bench, next: Next, wishes: readonly Wish[], seen: Seen): Promise<void> {
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
    const alone = bench.alone(text, { ...options, server: SERVER.none, periodNs: 0, budgetCycles: 0, timeoutMs: 3_600_000 }, uid);
    agrees(t, together, alone, JSON.stringify(wishes[i]));
    if (i % 8 === 0) await setImmediate();
  }
}

const KEEP = {
  policy: SCHED_KEEP,
  boundPpm: SCHED_KEEP,
  segmentCycles: SCHED_KEEP,
  paceScale: SCHED_KEEP,
  paceAuto: SCHED_KEEP,
  batch: SCHED_KEEP,
};

function setScheduler(bench: Bench, options: Partial<RecordValue<typeof SchedOptions.fields>>): void {
  const refusal = bench.kernel.sessions.configure({ ...KEEP, ...options });
  if (refusal !== null) throw new Error(refusal.message);
}

const freshSeen = (): Seen => ({ requests: 0, refused: 0, cancelled: 0, timedOut: 0, servers: 0 });

for (const [name, request, schedules] of [
  ['fable-f16', { ctx: 128, pages: 14, sessions: 32 }, 2],
  ['fable-q4_0', { ctx: 96, pages: 120, sessions: 5, batch: 4 }, 1],
] as const)
  test(`32 sessions on ${name}, ${request.pages} pages: the same to the bit as each alone`, async t => {
    t.timeout(600_000);
    const next = random(name.length);
    const bench = new Bench();
    bench.load(name, request);
    const seen = freshSeen();
    for (let i = 0; i < (soak ? 20 : 1) * schedules; i++) {
      const mix = { wordsMax: 20, tokensMax: 30, users: 3, servers: i % 2 === 0 };
      const wishes = Array.from({ length: 32 }, () => wishOf(next, bench, mix));
      await compare(t, bench, next, wishes, seen);
    }
    const { swapOuts, swapIns, copies, prefixTokens, evictions } = bench.kernel.pool.figures();
    const { preemptions, passes } = bench.kernel.sessions.schedule();
    t.log({ ...seen, swapOuts, swapIns, copies, prefixTokens, evictions, preemptions, passes });
  });

// ── Schedules without arithmetic ─────────────────────────────────────────────────────────────────────────────────────────────────

test('schedules of the stub, which computes nothing: ledgers agree after every segment, no deadline is missed', async t => {
  t.timeout(3_600_000);
  const next = random(77);
  const bench = new Bench();
  const seen = freshSeen();
  for (let i = 0; i < (soak ? 400 : 12); i++) {
    const ctx = oneOf(next, [64, 128, 256]);
    const pages = Math.ceil(ctx / 32) + below(next, oneOf(next, [2, 8, 60]));
    bench.load('stub', { ctx, pages, sessions: 1 + below(next, 32), batch: 1 + below(next, 32) });
    const policy = next() < 0.7 ? 0 : 1 + below(next, 2);
    setScheduler(bench, { policy });
    for (let j = 0; j < 10; j++) {
      const mix = { wordsMax: 8, tokensMax: 40, users: 4, servers: policy === 0 };
      const wishes = Array.from({ length: 1 + below(next, 32) }, () => wishOf(next, bench, mix));
      await compare(t, bench, next, wishes, seen);
    }
  }
  t.log(seen, bench.kernel.sessions.schedule());
});
