// Quotas, the period budget and the pace: the specification's §10 tick by tick, the refusals' words, then random requests against ledgers
// that keep every request in a list and add it all up anew each time.

import test from 'ava';
import { LIMITS, QUOTA_DEFAULTS, QUOTA_SET, isRefusal, utf8Decode } from '../kernel/abi/index.ts';
import { Arena } from '../kernel/arena.ts';
import { AuditRing } from '../kernel/audit.ts';
import { BUDGET_BYTES, PeriodBudget } from '../kernel/budget.ts';
import { Clock, ClockRecord } from '../kernel/clock.ts';
import { PACE, PACE_BYTES, Pace } from '../kernel/pace.ts';
import { QUOTA_BYTES, Quotas, timeOfDay } from '../kernel/quota.ts';
import { random, soak } from './harness.ts';

const SECOND = 1e9;
const HOUR = 3600 * SECOND;
const ADA = 1001;
const NAMES = new Map([
  [0, 'root'],
  [ADA, 'ada'],
  [1002, 'bob'],
]);
const nameOf = (uid: number): string => NAMES.get(uid) ?? String(uid);

/** A clock that the test moves; records in an arena of their own. */
function bench(bootEpochSeconds = 0) {
  const arena = new Arena(new ArrayBuffer(64 * 1024));
  const clock = { now: 0, nowNs: () => clock.now, bootEpochSeconds };
  const quotas = new Quotas(arena, arena.alloc(QUOTA_BYTES), clock, nameOf);
  const budget = new PeriodBudget(arena, arena.alloc(BUDGET_BYTES), clock);
  const pace = new Pace(arena, arena.alloc(PACE_BYTES));
  return { arena, clock, quotas, budget, pace };
}

const tokens = (n: number) => ({ tokens: n, cycles: 0, kvBytes: 0 });
const message = (r: unknown): string => (isRefusal(r) ? r.message : 'admitted');

// ── The specification's traces ───────────────────────────────────────────────────────────────────────────────────────────────────

test('§10, the period budget: period 1 s, 8 tokens at most', t => {
  const { clock, budget } = bench();
  budget.configure({ wcetCycles: 0, periodNs: SECOND, maxTokens: 8 });
  // t 0: infer 5 → ok
  t.is(budget.request(5), null);
  budget.settle(5, 5);
  t.like(budget.record(), { issued: 5, windowStartNs: 0, rejects: 0 });
  // t .5: infer 4 → reject
  clock.now = SECOND / 2;
  t.deepEqual(budget.request(4), {
    errno: 122,
    code: 3003,
    message: "4 tokens asked, 3 of the machine's 8 a period left until 00:00:01",
  });
  t.like(budget.record(), { issued: 5, windowStartNs: 0, rejects: 1 });
  // t .6: stream 6 → 3 emitted, truncated
  clock.now = 0.6 * SECOND;
  const stream = Array.from({ length: 4 }, () => budget.token());
  t.deepEqual(stream, [true, true, true, false]);
  t.like(budget.record(), { issued: 8, windowStartNs: 0, rejects: 2 });
  // One nanosecond before the period ends nothing has changed
  clock.now = SECOND - 1;
  t.like(budget.record(), { issued: 8, windowStartNs: 0 });
  // t 1.0: window reset; infer 8 → ok
  clock.now = SECOND;
  t.is(budget.request(8), null);
  budget.settle(8, 8);
  t.like(budget.record(), { issued: 8, windowStartNs: SECOND, rejects: 2 });
});

test('§10, a user: 9,900 used, 200 refused, 100 admitted, 37 drawn', t => {
  const { clock, quotas } = bench();
  t.is(quotas.admit(ADA, tokens(9_900)), null);
  quotas.settle(ADA, tokens(9_900), tokens(9_900));
  t.like(quotas.get(ADA), { tokensPerHour: 10_000, tokensUsed: 9_900, tokensReserved: 0, hourEndNs: HOUR });
  t.deepEqual(quotas.admit(ADA, tokens(200)), {
    errno: 122,
    code: 3003,
    message: 'user ada asked 200 tokens, 100 left until 01:00:00',
  });
  t.is(quotas.admit(ADA, tokens(100)), null); // the limit is inclusive
  t.like(quotas.get(ADA), { tokensUsed: 9_900, tokensReserved: 100, sessionsUsed: 1, refused: 1 });
  quotas.settle(ADA, tokens(100), tokens(37));
  t.like(quotas.get(ADA), { tokensUsed: 9_937, tokensReserved: 0, sessionsUsed: 0 });
  clock.now = HOUR - 1;
  t.like(quotas.get(ADA), { tokensUsed: 9_937 });
  clock.now = HOUR;
  t.like(quotas.get(ADA), { tokensUsed: 0, hourEndNs: 2 * HOUR });
});

test('§10, the pace: 100 % at first, 50 to 500, up 10 under pressure, down 5 with slack', t => {
  const { pace } = bench();
  t.like(pace, { scale: 100, auto: false });
  pace.after({ missed: true, queued: 3 });
  t.is(pace.scale, 100); // it does not move by itself until told to
  pace.set(100, true);
  for (const [missed, queued, scale] of [
    [true, 0, 110],
    [false, 1, 120],
    [true, 2, 130],
    [false, 0, 125],
  ] as const) {
    pace.after({ missed, queued });
    t.is(pace.scale, scale);
  }
  for (let i = 0; i < 100; i++) pace.after({ missed: true, queued: 0 });
  t.is(pace.scale, PACE.most);
  for (let i = 0; i < 100; i++) pace.after({ missed: false, queued: 0 });
  t.is(pace.scale, PACE.least);
  pace.set(20, false);
  t.is(pace.scale, 50);
  pace.set(1000, false);
  t.is(pace.scale, 500);
});

test('a paced token waits wcet / cap · scale / 100, to the nanosecond', t => {
  const { pace } = bench();
  t.is(pace.delayNs(400_000, 64), 6_250); // §1's default: 25,000 cycles at 62.5 MHz, 64 tokens
  pace.set(150, false);
  t.is(pace.delayNs(400_000, 64), 9_375);
  const draw = random(3);
  for (let i = 0; i < 2_000; i++) {
    const wcetNs = Math.floor(draw() * 2 ** (1 + 52 * draw()));
    const cap = 1 + Math.floor(draw() * 512);
    pace.set(50 + Math.floor(draw() * 451), false);
    const exact = (BigInt(wcetNs) * BigInt(pace.scale)) / BigInt(100 * cap);
    t.is(BigInt(pace.delayNs(wcetNs, cap)), exact, `${wcetNs} ns, ${cap} tokens, ${pace.scale} %`);
  }
});
