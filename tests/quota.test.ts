// Quotas, the period budget and the pace: the specification's §10 tick by tick, the refusals' words, then random requests against ledgers
// that keep every request in a list and add it all up anew each time.

import test from 'ava';
import assert from 'node:assert';
import { readFileSync } from 'node:fs';
import { boot } from '../boot/index.ts';
import type { Machine } from '../boot/index.ts';
import { LIMITS, QUOTA_DEFAULTS, QUOTA_SET, isRefusal } from '../kernel/abi/index.ts';
import { Arena } from '../kernel/arena.ts';
import { BUDGET_BYTES, PeriodBudget } from '../kernel/budget.ts';
import { PACE, PACE_BYTES, Pace } from '../kernel/pace.ts';
import { QUOTA_BYTES, Quotas, timeOfDay } from '../kernel/quota.ts';
import { Names } from '../kernel/accounts.ts';
import { parseQuotas } from '../kernel/quota-file.ts';
import { readCpio, writeCpio } from '../vfs/cpio.ts';
import { random, soak } from './harness.ts';
import { json, ok, refused } from './support/commands.ts';

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

// ── What a refusal says ──────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a refusal says what was asked, what is left and when it comes back', t => {
  const { clock, quotas } = bench(11 * 3600 + 59 * 60); // power-on at 11:59:00
  const asks = (wanted: Partial<Parameters<Quotas['admit']>[1]>) =>
    message(quotas.admit(ADA, { tokens: 0, cycles: 0, kvBytes: 0, ...wanted }));
  quotas.set({ uid: ADA, set: QUOTA_SET.tokens | QUOTA_SET.cycles | QUOTA_SET.kv | QUOTA_SET.sessions, tokensPerHour: 600, cyclesPerHour: 5_000_000, kvBytes: 100_000, sessions: 2 }); // prettier-ignore
  t.is(asks({ tokens: 563, cycles: 4_000_000, kvBytes: 98_304 }), 'admitted');
  t.is(asks({ tokens: 512 }), 'user ada asked 512 tokens, 37 left until 12:00:00; 563 are reserved by sessions that have not ended'); // prettier-ignore
  t.is(asks({ tokens: 601 }), 'user ada asked 601 tokens, 37 left until 12:00:00, and 600 an hour');
  t.is(asks({ cycles: 1_000_001 }), 'user ada asked 1000001 cycles, 1000000 left until 12:00:00; 4000000 are reserved by sessions that have not ended'); // prettier-ignore
  t.is(asks({ kvBytes: 49_152 }), 'user ada asked 49152 bytes of KV pages, 1696 of 100000 left until a session ends');
  t.is(asks({ tokens: 37, cycles: 1_000_000, kvBytes: 1_696 }), 'admitted');
  t.is(asks({}), 'user ada asked a session, 0 of 2 left until one ends');
  t.is(quotas.get(ADA).refused, 5);
  quotas.settle(ADA, { tokens: 563, cycles: 4_000_000, kvBytes: 98_304 }, { tokens: 563, cycles: 3_999_999 });
  t.is(asks({ tokens: 512 }), 'user ada asked 512 tokens, 0 left until 12:00:00; 37 are reserved by sessions that have not ended'); // prettier-ignore
  // The hour of the machine's date ends a minute after power-on; what is reserved stays so.
  clock.now = 60 * SECOND - 1;
  t.is(quotas.get(ADA).tokensUsed, 563);
  clock.now++;
  t.like(quotas.get(ADA), { tokensUsed: 0, cyclesUsed: 0, tokensReserved: 37, hourEndNs: 60 * SECOND + HOUR });
  t.is(asks({ tokens: 564 }), 'user ada asked 564 tokens, 563 left until 13:00:00; 37 are reserved by sessions that have not ended'); // prettier-ignore
  t.is(message(quotas.admit(4242, tokens(10_001))), 'user 4242 asked 10001 tokens, 10000 left until 13:00:00, and 10000 an hour'); // prettier-ignore
});

test("a moment of the machine's date", t => {
  const clock = { nowNs: () => 0, bootEpochSeconds: 86_400 * 20_000 + 3_600 };
  t.is(timeOfDay(clock, 0), '01:00:00');
  t.is(timeOfDay(clock, 23 * HOUR - 1), '00:00:00');
  t.is(timeOfDay(clock, 23 * HOUR), '00:00:00');
  t.is(timeOfDay(clock, 1.5 * SECOND), '01:00:01.500');
  t.is(timeOfDay(clock, 1_000_001), '01:00:00.002');
});

test('zero is off: no budget, no limit', t => {
  const { quotas, budget } = bench();
  for (const [periodNs, maxTokens] of [
    [0, 8],
    [SECOND, 0],
    [0, 0],
  ] as const) {
    budget.configure({ wcetCycles: 0, periodNs, maxTokens });
    t.is(budget.request(1e9), null);
    t.true(budget.token());
    budget.settle(1e9, 5);
    t.like(budget.record(), { issued: 0, rejects: 0 });
  }
  t.is(budget.missAfter(77), 77);
  budget.configure({ wcetCycles: 25_000, periodNs: 0, maxTokens: 0 });
  t.is(budget.missAfter(77), 25_000);

  t.is(quotas.admit(0, tokens(1e12)), null); // root has no limits by default
  quotas.settle(0, tokens(1e12), tokens(1e12));
  t.like(quotas.get(0), { tokensPerHour: 0, tokensUsed: 1e12 });
  quotas.set({ uid: 0, set: QUOTA_SET.tokens, tokensPerHour: 5, cyclesPerHour: 0, kvBytes: 0, sessions: 0 });
  t.is(message(quotas.admit(0, tokens(1))), 'user root asked 1 token, 0 left until 01:00:00');
  quotas.set({ uid: ADA, set: QUOTA_SET.tokens, tokensPerHour: 0, cyclesPerHour: 0, kvBytes: 0, sessions: 0 });
  t.is(quotas.admit(ADA, { tokens: 1e12, cycles: 1e15, kvBytes: 1e9 }), null);
});

test('defaults reach everybody without limits of their own, at once', t => {
  const { quotas } = bench();
  t.is(quotas.get(ADA).tokensPerHour, LIMITS.tokensPerHour);
  t.is(quotas.admit(ADA, tokens(10)), null);
  quotas.set({ uid: 1002, set: QUOTA_SET.tokens, tokensPerHour: 7, cyclesPerHour: 9, kvBytes: 9, sessions: 9 });
  quotas.set({ uid: QUOTA_DEFAULTS, set: QUOTA_SET.tokens | QUOTA_SET.sessions, tokensPerHour: 20, cyclesPerHour: 9, kvBytes: 9, sessions: 1 }); // prettier-ignore
  t.is(quotas.set({ uid: 1002, set: 0xff0, tokensPerHour: 9, cyclesPerHour: 9, kvBytes: 9, sessions: 9 }), null); // no bits of ours
  t.like(quotas.get(QUOTA_DEFAULTS), { tokensPerHour: 20, cyclesPerHour: 0, kvBytes: 0, sessions: 1 });
  t.like(quotas.get(ADA), { set: 0, tokensPerHour: 20, cyclesPerHour: 0, sessions: 1, sessionsUsed: 1 });
  t.like(quotas.get(1002), { set: QUOTA_SET.tokens, tokensPerHour: 7, cyclesPerHour: 0, kvBytes: 0, sessions: 1 });
  t.like(quotas.get(0), { tokensPerHour: 0, sessions: 0 });
  t.is(message(quotas.admit(ADA, tokens(1))), 'user ada asked a session, 0 of 1 left until one ends');
});

test('a lowered limit takes nothing back: what is left is none', t => {
  const { quotas, budget } = bench();
  t.is(quotas.admit(ADA, tokens(500)), null);
  quotas.set({ uid: ADA, set: QUOTA_SET.tokens, tokensPerHour: 100, cyclesPerHour: 0, kvBytes: 0, sessions: 0 });
  t.regex(message(quotas.admit(ADA, tokens(1))), /asked 1 token, 0 left/);
  quotas.settle(ADA, tokens(500), tokens(500));
  t.is(quotas.get(ADA).tokensUsed, 500);
  budget.configure({ wcetCycles: 0, periodNs: SECOND, maxTokens: 10 });
  t.is(budget.request(9), null);
  budget.configure({ wcetCycles: 0, periodNs: SECOND, maxTokens: 5 });
  t.is(message(budget.request(1)), "1 token asked, 0 of the machine's 5 a period left until 00:00:01");
  t.false(budget.token());
  budget.settle(9, 2);
  t.is(budget.request(3), null);
});

test('requests side by side cannot take more than one after the other', t => {
  const { quotas, budget } = bench();
  budget.configure({ wcetCycles: 0, periodNs: SECOND, maxTokens: 10_000 });
  const admitted = Array.from({ length: LIMITS.sessionsMax }, () => {
    const mine = quotas.admit(ADA, tokens(400)) === null;
    t.is(budget.request(400) === null, mine);
    return mine;
  });
  t.is(admitted.filter(Boolean).length, 25); // 25 · 400 = 10,000; all 32 would have passed a check of what is used
  for (const mine of admitted) {
    if (!mine) continue;
    quotas.settle(ADA, tokens(400), tokens(400));
    budget.settle(400, 400);
  }
  t.like(quotas.get(ADA), { tokensUsed: 10_000, tokensReserved: 0, refused: 7 });
  t.like(budget.record(), { issued: 10_000, rejects: 7 });
  t.not(quotas.admit(ADA, tokens(1)), null);
});

test('a request that passes the end of its hour or period keeps its reservation, and is charged where it ends', t => {
  const { clock, quotas, budget } = bench();
  budget.configure({ wcetCycles: 0, periodNs: SECOND, maxTokens: 8 });
  t.is(quotas.admit(ADA, tokens(10_000)), null);
  t.is(budget.request(5), null);
  clock.now = HOUR; // both are over
  t.regex(message(quotas.admit(ADA, tokens(1))), /0 left until 02:00:00; 10000 are reserved/);
  t.regex(message(budget.request(4)), /3 of the machine's 8 a period left until 01:00:01$/);
  t.is(budget.request(3), null); // begins a period; 5 + 3 of 8
  t.false(budget.token());
  budget.settle(5, 4);
  t.like(budget.record(), { issued: 7, windowStartNs: HOUR });
  t.true(budget.token());
  quotas.settle(ADA, tokens(10_000), tokens(9_000));
  t.like(quotas.get(ADA), { tokensUsed: 9_000, tokensReserved: 0 });
  // Nothing is charged to a period that has not begun: the next one begins with its own first use.
  clock.now = HOUR + SECOND;
  budget.settle(3, 3);
  t.like(budget.record(), { issued: 0, windowStartNs: HOUR + SECOND });
  clock.now += 1;
  t.is(budget.request(8), null);
  t.is(budget.record().windowStartNs, HOUR + SECOND + 1);
});

test('giving back what was not reserved is a kernel bug', t => {
  const { quotas, budget } = bench();
  t.throws(() => quotas.settle(ADA, tokens(1), tokens(1)), { message: /no quota record/ });
  t.is(quotas.admit(ADA, tokens(5)), null);
  t.throws(() => quotas.settle(ADA, tokens(5), tokens(6)), { message: /more than was reserved/ });
  t.throws(() => quotas.settle(ADA, tokens(6), tokens(6)), { message: /more than was reserved/ });
  quotas.settle(ADA, tokens(5), tokens(5));
  t.throws(() => quotas.settle(ADA, tokens(0), tokens(0)), { message: /more than was reserved/ });
  t.is(budget.request(5), null);
  t.throws(() => budget.settle(6, 5), { message: /given back/ });
  t.throws(() => budget.settle(5, 6), { message: /given back/ });
});

// ── The table of users ───────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a full table forgets who was idle longest, never a limit, a session or what was used this hour', t => {
  const { clock, quotas } = bench();
  const none = { tokensPerHour: 50, cyclesPerHour: 0, kvBytes: 0, sessions: 0 };
  const use = (uid: number, n: number) => {
    clock.now++;
    t.is(quotas.admit(uid, tokens(n)), null);
    quotas.settle(uid, tokens(n), tokens(n));
  };
  quotas.set({ uid: 1, set: QUOTA_SET.tokens, ...none });
  t.is(quotas.admit(2, tokens(10)), null);
  for (let uid = 3; uid < 3 + LIMITS.quotaUsersMax - 2; uid++) use(uid, 10);
  t.is(quotas.list().length, LIMITS.quotaUsersMax);
  t.deepEqual(quotas.admit(100, tokens(1)), {
    errno: 122,
    code: 3003,
    message: 'user 100 is one more than the 16 whose quotas are counted; none is idle until 01:00:00',
  });
  t.not(quotas.set({ uid: 100, set: QUOTA_SET.tokens, ...none }), null);
  t.like(quotas.get(100), { tokensPerHour: 10_000, tokensUsed: 0 }); // to read makes no record

  clock.now = HOUR; // what they used has fallen to 0; 3 is the one that was longest without a request
  use(4, 1);
  use(100, 10);
  t.deepEqual(
    quotas.list().map(q => q.uid),
    [1, 2, ...Array.from({ length: 13 }, (_, i) => i + 4), 100],
  );
  t.like(quotas.get(1), { set: QUOTA_SET.tokens, tokensPerHour: 50 });
  t.like(quotas.get(2), { tokensReserved: 10, sessionsUsed: 1 });
  t.like(quotas.get(3), { tokensUsed: 0, tokensPerHour: 10_000 });
  const scored = { tokens: 0, cycles: 7, kvBytes: 0 };
  t.is(quotas.admit(5, scored), null);
  quotas.settle(5, scored, scored); // cycles without a token are remembered, too
  // A request that took nothing leaves nothing to remember.
  for (let uid = 200; uid < 240; uid++) use(uid, 0);
  t.like(quotas.get(4), { tokensUsed: 1 });
  t.like(quotas.get(5), { cyclesUsed: 7 });
  t.like(quotas.get(100), { tokensUsed: 10 });
});

// ── /etc/quota ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const names = new Names(
  'root:x:0:0:root:/root:/bin/sh\nada::1001:1001:Ada:/:/bin/sh\n7::1002:1:seven:/:/bin/sh\nshort:x:9\n',
  '',
);

const uidOf = (name: string): number | null => names.uid(name);

test('/etc/passwd: names and ids both ways', t => {
  t.deepEqual(['root', 'ada', '7', '1001', '5', 'short', '', 'eve', '2147483648'].map(uidOf), [
    0,
    1001,
    1002,
    1001,
    5,
    null,
    null,
    null,
    null,
  ]);
  t.deepEqual(
    [0, 1001, 1002, 9].map(uid => names.name(uid)),
    ['root', 'ada', '7', '9'],
  );
});

test('/etc/quota: lines, comments, defaults; what is wrong is named and left out', t => {
  const text = [
    '# everybody',
    '*   10000 - - 4   # four at once',
    '',
    ' ada\t5000  0 65536 -\r',
    'root - - - -',
    'eve 1 2 3 4',
    'ada 1 2 3 4',
    '1003 1 2 3',
    '1003 1 2 3 4 5',
    '1003 1k 2 3 4',
    '1003 1 -2 3 4',
    '1003 1 2 9007199254740992 4',
    '1003 1 2 3 33',
    '1003 1 2 3 \u001b[2J',
    '1003 9007199254740991 2 3 32',
  ].join('\n');
  const bits = QUOTA_SET.tokens | QUOTA_SET.cycles | QUOTA_SET.kv | QUOTA_SET.sessions;
  t.deepEqual(parseQuotas(text, uidOf), {
    lines: [
      { uid: QUOTA_DEFAULTS, set: QUOTA_SET.tokens | QUOTA_SET.sessions, tokensPerHour: 10_000, cyclesPerHour: 0, kvBytes: 0, sessions: 4 }, // prettier-ignore
      { uid: ADA, set: bits & ~QUOTA_SET.sessions, tokensPerHour: 5_000, cyclesPerHour: 0, kvBytes: 65_536, sessions: 0 }, // prettier-ignore
      { uid: 0, set: 0, tokensPerHour: 0, cyclesPerHour: 0, kvBytes: 0, sessions: 0 },
      { uid: 1003, set: bits, tokensPerHour: 2 ** 53 - 1, cyclesPerHour: 2, kvBytes: 3, sessions: 32 },
    ],
    complaints: [
      '/etc/quota:6: no user eve',
      '/etc/quota:7: a second line for ada',
      '/etc/quota:8: 3 limits, not 4: user tokens_per_hour cycles_per_hour kv_bytes sessions',
      '/etc/quota:9: 5 limits, not 4: user tokens_per_hour cycles_per_hour kv_bytes sessions',
      '/etc/quota:10: tokens_per_hour 1k is neither a number nor -',
      '/etc/quota:11: cycles_per_hour -2 is neither a number nor -',
      '/etc/quota:12: kv_bytes 9007199254740992 is neither a number nor -',
      '/etc/quota:13: sessions 33, 32 at most',
      '/etc/quota:14: sessions "\\u{1b}[2J" is neither a number nor -',
    ],
  });
  const many = Array.from({ length: 18 }, (_, i) => `${2000 + i} 1 1 1 1\n`).join('');
  const parsed = parseQuotas(`${many}* 1 1 1 1`, uidOf);
  t.is(parsed.lines.length, LIMITS.quotaUsersMax + 1);
  t.deepEqual(parsed.complaints, ['/etc/quota:17: 16 users at most', '/etc/quota:18: 16 users at most']);
});

test("the boot image's /etc/quota has no mistake and says what holds without it", t => {
  const { quotas } = bench();
  const before = quotas.get(QUOTA_DEFAULTS);
  const { lines, complaints } = parseQuotas(readFileSync('images/root/etc/quota', 'utf8'), uidOf);
  t.deepEqual(complaints, []);
  for (const line of lines) t.is(quotas.set(line), null);
  t.like(quotas.get(QUOTA_DEFAULTS), { ...before, set: 15 });
});

// ── Against ledgers ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

const RUNS = soak ? 1_000 : 100;
const STEPS = 250;

/** Assertions by the million, where AVA's own would take most of the time: the first that fails is thrown. */
const same = {
  is: (got: unknown, want: unknown, what?: string): void => assert.strictEqual(got, want, what),
  true: (holds: boolean, what?: string): void => assert.ok(holds, what),
  like: (got: object, want: Readonly<Record<string, unknown>>): void => {
    for (const [key, value] of Object.entries(want))
      if (got[key as keyof typeof got] !== value) assert.fail(`${key} ${got[key as keyof typeof got]}, not ${value}`);
  },
};

/** One request of the ledgers; `endHour` is null while it runs. */
interface Entry {
  readonly uid: number;
  readonly asked: { readonly tokens: number; readonly cycles: number; readonly kvBytes: number };
  drawn: number;
  cycles: number;
  endHour: number | null;
}

const sum = <T>(list: readonly T[], of: (x: T) => number): number => list.reduce((n, x) => n + of(x), 0);

test('random requests, clocks and limits: the same answers and figures as a list of every request, and nothing overdrawn', t => {
  for (let run = 0; run < RUNS; run++) {
    const draw = random(run);
    const below = (n: number): number => Math.floor(draw() * n);
    const bootEpochSeconds = below(2 ** 31);
    const { clock, quotas } = bench(bootEpochSeconds);
    const hourOf = (ns: number): number =>
      Number((BigInt(bootEpochSeconds) * 1_000_000_000n + BigInt(ns)) / 3_600_000_000_000n);
    const users = [0, ADA, 1002, 1003];
    const entries: Entry[] = [];
    const own = new Map<number, Partial<Record<'tokens' | 'cycles' | 'kvBytes' | 'sessions', number>>>();
    const lowered = new Set<number>(); // users whose limits changed: only then may they be above one
    const drawnInHour = new Map<string, number>();
    const defaults = { tokens: 10_000, cycles: 0, kvBytes: 0, sessions: 0 };
    const none = { tokens: 0, cycles: 0, kvBytes: 0, sessions: 0 };
    const refused = new Map<number, number>();
    /** Everything added up anew. */
    const ledger = (uid: number) => {
      const mine = entries.filter(e => e.uid === uid);
      const live = mine.filter(e => e.endHour === null);
      const hour = hourOf(clock.now);
      const ended = mine.filter(e => e.endHour === hour);
      return {
        limits: { ...(uid === 0 ? none : defaults), ...own.get(uid) },
        tokensUsed: sum(ended, e => e.drawn),
        cyclesUsed: sum(ended, e => e.cycles),
        tokensReserved: sum(live, e => e.asked.tokens),
        cyclesReserved: sum(live, e => e.asked.cycles),
        kvBytesUsed: sum(live, e => e.asked.kvBytes),
        sessionsUsed: live.length,
      };
    };
    for (let step = 0; step < STEPS; step++) {
      const uid = users[below(users.length)]!;
      const what = below(100);
      if (what < 15) clock.now += below(3) === 0 ? below(HOUR) : below(60 * SECOND);
      else if (what < 20) clock.now = quotas.get(uid).hourEndNs - below(2);
      else if (what < 25) {
        const bits = below(16);
        const limits = {
          tokens: below(3) * 700,
          cycles: below(3) * 9_000,
          kvBytes: below(3) * 500,
          sessions: below(6),
        };
        same.is(quotas.set({ uid, set: bits, tokensPerHour: limits.tokens, cyclesPerHour: limits.cycles, kvBytes: limits.kvBytes, sessions: limits.sessions }), null); // prettier-ignore
        const mine = own.get(uid) ?? {};
        if ((bits & QUOTA_SET.tokens) !== 0) mine.tokens = limits.tokens;
        if ((bits & QUOTA_SET.cycles) !== 0) mine.cycles = limits.cycles;
        if ((bits & QUOTA_SET.kv) !== 0) mine.kvBytes = limits.kvBytes;
        if ((bits & QUOTA_SET.sessions) !== 0) mine.sessions = limits.sessions;
        own.set(uid, mine);
        lowered.add(uid);
      } else if (what < 65) {
        const asked = { tokens: below(513), cycles: below(5_000), kvBytes: below(300) };
        const l = ledger(uid);
        const { limits } = l;
        const fits =
          (limits.tokens === 0 || l.tokensUsed + l.tokensReserved + asked.tokens <= limits.tokens) &&
          (limits.cycles === 0 || l.cyclesUsed + l.cyclesReserved + asked.cycles <= limits.cycles) &&
          (limits.kvBytes === 0 || l.kvBytesUsed + asked.kvBytes <= limits.kvBytes) &&
          (limits.sessions === 0 || l.sessionsUsed < limits.sessions);
        const refusal = quotas.admit(uid, asked);
        same.is(refusal === null, fits, `run ${run} step ${step}: ${message(refusal)}`);
        if (fits) entries.push({ uid, asked, drawn: 0, cycles: 0, endHour: null });
        else refused.set(uid, (refused.get(uid) ?? 0) + 1);
        // What the refusal says is left is admitted.
        const left = Number(/tokens?, (\d+) left/.exec(message(refusal))?.[1] ?? NaN);
        if (!fits && Number.isFinite(left) && !lowered.has(uid)) {
          same.is(quotas.admit(uid, tokens(left)), null);
          quotas.settle(uid, tokens(left), tokens(0));
          same.true(left < asked.tokens);
        }
      } else if (what < 80) {
        // A session draws some of what it may.
        const live = entries.filter(e => e.endHour === null);
        const e = live[below(live.length)];
        if (e === undefined) continue;
        const n = below(e.asked.tokens - e.drawn + 1);
        e.drawn += n;
        e.cycles += below(e.asked.cycles - e.cycles + 1);
        const hour = `${e.uid} ${hourOf(clock.now)}`;
        drawnInHour.set(hour, (drawnInHour.get(hour) ?? 0) + n);
      } else {
        const live = entries.filter(e => e.endHour === null);
        const e = live[below(live.length)];
        if (e === undefined) continue;
        quotas.settle(e.uid, e.asked, { tokens: e.drawn, cycles: e.cycles });
        e.endHour = hourOf(clock.now);
      }
      const l = ledger(uid);
      const q = quotas.get(uid);
      const { limits, ...figures } = l;
      same.like(q, { ...figures, refused: refused.get(uid) ?? 0, tokensPerHour: limits.tokens, cyclesPerHour: limits.cycles, kvBytes: limits.kvBytes, sessions: limits.sessions }); // prettier-ignore
      same.true(q.hourEndNs > clock.now && q.hourEndNs - clock.now <= HOUR);
      same.is(hourOf(q.hourEndNs), hourOf(clock.now) + 1);
      same.is(hourOf(q.hourEndNs - 1), hourOf(clock.now));
      if (uid !== 0 && !lowered.has(uid)) same.true(q.tokensUsed + q.tokensReserved <= q.tokensPerHour);
    }
    for (const [hour, n] of drawnInHour) {
      const uid = Number(hour.split(' ')[0]);
      if (uid !== 0 && !lowered.has(uid)) same.true(n <= 10_000, `run ${run}: ${n} tokens drawn in hour ${hour}`);
    }
    // Every request has ended: nothing is held any more, and what was charged is what was drawn.
    for (const e of entries)
      if (e.endHour === null) quotas.settle(e.uid, e.asked, { tokens: e.drawn, cycles: e.cycles });
    for (const uid of users) same.like(quotas.get(uid), { tokensReserved: 0, cyclesReserved: 0, kvBytesUsed: 0, sessionsUsed: 0 }); // prettier-ignore
  }
  t.pass();
});

test('random requests and streams under a period budget: the answers of a log read from its beginning, no period overdrawn', t => {
  for (let run = 0; run < RUNS; run++) {
    const draw = random(10_000 + run);
    const below = (n: number): number => Math.floor(draw() * n);
    const { clock, budget } = bench();
    const periodNs = 1 + below(5_000);
    const maxTokens = 1 + below(40);
    budget.configure({ wcetCycles: 0, periodNs, maxTokens });
    const requests: { asked: number; drawn: number; live: boolean }[] = [];
    /** What was granted, in order: the log. `n` 0 opens a period at most. */
    const log: { atNs: number; n: number; opens: boolean }[] = [];
    /** The period of now, and what has been charged to it. */
    const period = () => {
      let startNs = -1;
      let issued = 0;
      for (const { atNs, n, opens } of [...log, { atNs: clock.now, n: 0, opens: false }]) {
        if (startNs >= 0 && atNs - startNs >= periodNs) [startNs, issued] = [-1, 0];
        if (startNs < 0 && opens) startNs = atNs;
        if (startNs >= 0) issued += n;
      }
      return { startNs, issued };
    };
    const drawnIn = new Map<number, number>();
    const drew = (n: number): void => {
      const { startNs } = period();
      if (startNs >= 0) drawnIn.set(startNs, (drawnIn.get(startNs) ?? 0) + n);
    };
    let rejects = 0;
    for (let step = 0; step < STEPS; step++) {
      const reserved = sum(requests, r => (r.live ? r.asked : 0));
      const { startNs, issued } = period();
      const what = below(100);
      if (what < 25) clock.now += below(2 * periodNs);
      else if (what < 30 && startNs >= 0) clock.now = startNs + periodNs - below(2);
      else if (what < 60) {
        const asked = below(20);
        const fits = issued + reserved + asked <= maxTokens;
        const refusal = budget.request(asked);
        same.is(refusal === null, fits);
        if (fits) {
          requests.push({ asked, drawn: 0, live: true });
          log.push({ atNs: clock.now, n: 0, opens: true });
        } else {
          rejects++;
          const left = Math.max(0, maxTokens - issued - reserved);
          same.true(message(refusal).startsWith(`${asked} token${asked === 1 ? '' : 's'} asked, ${left} of the machine's ${maxTokens} a period left until `)); // prettier-ignore
        }
      } else if (what < 75) {
        const fits = issued + reserved + 1 <= maxTokens;
        same.is(budget.token(), fits);
        if (fits) {
          log.push({ atNs: clock.now, n: 1, opens: true });
          drew(1);
        } else rejects++;
      } else {
        const live = requests.filter(r => r.live);
        const r = live[below(live.length)];
        if (r === undefined) continue;
        const n = below(r.asked - r.drawn + 1);
        r.drawn += n;
        drew(n);
        if (below(2) === 0) continue;
        r.live = false;
        budget.settle(r.asked, r.drawn);
        log.push({ atNs: clock.now, n: r.drawn, opens: false });
      }
      const now = period();
      const held = sum(requests, r => (r.live ? r.asked : 0));
      same.like(budget.record(), { issued: now.issued + held, windowStartNs: now.startNs < 0 ? clock.now : now.startNs, rejects }); // prettier-ignore
      same.true(now.issued + held <= maxTokens);
    }
    for (const [startNs, n] of drawnIn)
      same.true(n <= maxTokens, `run ${run}: ${n} tokens in the period from ${startNs}`);
  }
  t.pass();
});

test('more users than records: whoever has a limit, a session or tokens of this hour is never forgotten', t => {
  let refusals = 0;
  for (let run = 0; run < RUNS; run++) {
    const draw = random(20_000 + run);
    const below = (n: number): number => Math.floor(draw() * n);
    const { clock, quotas } = bench(below(2 ** 31));
    /** What must be remembered of each user, and until when what it has used counts. */
    const known = new Map<number, { limit: number | null; live: number[]; used: number; hourEndNs: number }>();
    const of = (uid: number) => known.get(uid) ?? { limit: null, live: [], used: 0, hourEndNs: 0 };
    const used = (uid: number): number => (of(uid).hourEndNs > clock.now ? of(uid).used : 0);
    const isKept = (uid: number): boolean => of(uid).limit !== null || of(uid).live.length > 0 || used(uid) > 0;
    for (let step = 0; step < STEPS; step++) {
      const uid = 2_000 + below(LIMITS.quotaUsersMax + 4);
      const kept = [...known.keys()].filter(isKept);
      const what = below(100);
      const user = { ...of(uid), used: used(uid), hourEndNs: quotas.get(uid).hourEndNs };
      if (what < 8) clock.now += below(HOUR);
      else if (what < 60) {
        const r = what < 10 ? quotas.set({ uid, set: QUOTA_SET.tokens, tokensPerHour: 5_000, cyclesPerHour: 0, kvBytes: 0, sessions: 0 }) : quotas.admit(uid, tokens(10)); // prettier-ignore
        const full = !isKept(uid) && kept.length === LIMITS.quotaUsersMax;
        same.is(r !== null, full, `run ${run} step ${step}: ${message(r)}`);
        if (full) {
          refusals++;
          same.true(/^user \d+ is one more than the 16 whose quotas are counted; none is idle until /.test(message(r)));
        } else if (what < 10) known.set(uid, { ...user, limit: 5_000 });
        else known.set(uid, { ...user, live: [...user.live, 10] });
      } else if (user.live.length > 0) {
        const n = below(11);
        quotas.settle(uid, tokens(10), tokens(n));
        known.set(uid, { ...user, live: user.live.slice(1), used: user.used + n });
      }
      for (const other of known.keys())
        same.like(quotas.get(other), { tokensUsed: used(other), sessionsUsed: of(other).live.length, tokensPerHour: of(other).limit ?? 10_000 }); // prettier-ignore
    }
    same.true(quotas.list().length <= LIMITS.quotaUsersMax);
  }
  t.true(refusals > RUNS);
});

// ── In the machine ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

const image = readFileSync('build/boot.cpio');

/** The boot image with another text in place of one of its files. */
function imageWith(file: string, text: string): Uint8Array {
  const entries = readCpio(image);
  if (isRefusal(entries)) throw new Error(entries.message);
  const sources = entries.map(({ name, kind, mode, uid, dataAt, bytes }) => {
    const data = name === file ? new TextEncoder().encode(text) : image.subarray(dataAt, dataAt + bytes);
    return { name, kind, mode, owner: uid, data };
  });
  return writeCpio(sources);
}

const powerOn = (quotaFile?: string): Machine =>
  boot({ strict: true, image: quotaFile === undefined ? image : imageWith('etc/quota', quotaFile) });

/** A command as user, single quotes around it. */
const asUser = (command: string): string => `su user -c '${command}'`;

const over = 'llminfer: EDQUOT 3003 TokenBudgetExceeded:';

test('§10, a user, in the machine: 9,900 used, 200 refused, 100 admitted, what it draws charged', t => {
  const machine = powerOn();
  ok(machine, 'llmctl backend stub');
  // The stub answers with 19 tokens, less than it might: the rest comes back.
  const drawn = Number((json(machine, asUser('llminfer --json --max-tokens 100 hello'))['tokens'] as number[]).length);
  t.true(drawn > 1 && drawn < 100);
  t.like(json(machine, asUser('llmctl quota --json')), {
    tokens_used: drawn,
    tokens_reserved: 0,
    tokens_left: 10_000 - drawn,
  });
  ok(machine, `llmctl quota user --tokens ${100 + drawn}`);
  refused(
    t,
    machine,
    asUser('llminfer --max-tokens 200 hello'),
    1,
    `${over} user user asked 200 tokens, 100 left until 01:00:00, and ${100 + drawn} an hour`,
  );
  ok(machine, asUser('llminfer --max-tokens 100 hello'));
  t.like(json(machine, 'llmctl quota --json user'), {
    user: 'user',
    uid: 1000,
    own: ['tokens'],
    tokens_per_hour: 100 + drawn,
    cycles_per_hour: null,
    tokens_used: 2 * drawn,
    tokens_reserved: 0,
    tokens_left: 100 - drawn,
    sessions: 0,
    refused: 1,
  });
  ok(machine, 'sleep 3600');
  t.like(json(machine, 'llmctl quota --json user'), { tokens_used: 0, tokens_left: 100 + drawn, refused: 1 });
});

test('two requests at once take no more than one after the other', t => {
  const machine = powerOn();
  ok(machine, 'llmctl quota user --tokens 100');
  const both = machine.exec(
    asUser('llminfer --temp 0 --max-tokens 60 Once & llminfer --temp 0 --max-tokens 60 Once; wait'),
  );
  t.is(
    both.stderr,
    `${over} user user asked 60 tokens, 40 left until 01:00:00; 60 are reserved by sessions that have not ended\n`,
  );
  t.like(json(machine, 'llmctl quota --json user'), { tokens_used: 60, tokens_reserved: 0, sessions: 0, refused: 1 });
  // One session at a time
  ok(machine, 'llmctl quota user --tokens 0 --sessions 1');
  const second = machine.exec(
    asUser('llminfer --temp 0 --max-tokens 60 Once & llminfer --temp 0 --max-tokens 60 Once; wait'),
  );
  t.is(second.stderr, `${over} user user asked a session, 0 of 1 left until one ends\n`);
  // A cancelled request is charged what it drew.
  const before = json(machine, 'llmctl quota --json user')['tokens_used'] as number;
  machine.exec(asUser('llminfer --temp 0 --max-tokens 60 Once & sleep 0.5; kill -INT $!; wait'));
  const { tokens_used: after, tokens_reserved: reserved } = json(machine, 'llmctl quota --json user') as Record<
    string,
    number
  >;
  t.is(reserved, 0);
  t.true(after! > before && after! < before + 60, `${before} ${after}`);
});

test('cycles and KV bytes are held while a request runs, and have limits of their own', t => {
  const machine = powerOn();
  const page = 32 * 1536; // positions of a page × bytes of a token's keys and values, f16
  const during = machine.exec(
    asUser('llminfer --temp 0 --max-tokens 60 Once > /tmp/out & sleep 0.5; llmctl quota --json; wait'),
  );
  const bound = Number(json(machine, 'llminfer --json --temp 0 --max-tokens 60 Once')['wcet_cycles']);
  t.like(JSON.parse(during.stdout), {
    tokens_used: 0,
    tokens_reserved: 60,
    cycles_used: 0,
    cycles_reserved: bound,
    kv_bytes: 2 * page, // 2 tokens of the prompt and 59 that are fed back
    sessions: 1,
  });
  const after = json(machine, 'llmctl quota --json user');
  t.like(after, { tokens_used: 60, tokens_reserved: 0, cycles_reserved: 0, kv_bytes: 0, sessions: 0 });
  t.true((after['cycles_used'] as number) > 0 && (after['cycles_used'] as number) <= bound);

  ok(machine, `sleep 3600; llmctl quota user --kv ${page}`);
  ok(machine, asUser('llminfer --temp 0 --max-tokens 31 Once')); // 32 positions
  refused(t, machine, asUser('llminfer --temp 0 --max-tokens 32 Once'), 1, `${over} user user asked ${2 * page} bytes of KV pages, ${page} of ${page} left until a session ends`); // prettier-ignore
  const used = json(machine, 'llmctl quota --json user')['cycles_used'] as number;
  ok(machine, `llmctl quota user --kv 0 --cycles ${bound}`);
  refused(t, machine, asUser('llminfer --temp 0 --max-tokens 60 Once'), 1, `${over} user user asked ${bound} cycles, ${bound - used} left until 02:00:00`); // prettier-ignore
  ok(machine, 'sleep 3600');
  ok(machine, asUser('llminfer --temp 0 --max-tokens 60 Once')); // a limit is inclusive
});

test('§10, the trace of the period budget, in the machine: 5, 4 refused, 6 cut to 3, 8', t => {
  const machine = powerOn();
  ok(machine, 'llmctl budget --period-ns 1000000000 --max-tokens-per-period 8');
  const now = (): number => Number(ok(machine, 'date +%s%N'));
  ok(machine, 'llminfer --temp 0 --max-tokens 5 Once');
  const { window_start_ns: start } = json(machine, 'llmctl budget --json') as Record<string, number>;
  ok(machine, 'sleep 0.3');
  refused(
    t,
    machine,
    'llminfer --temp 0 --max-tokens 4 Once',
    1,
    /: 4 tokens asked, 3 of the machine's 8 a period left/,
  );
  const cut = machine.exec('llmstream --temp 0 --max-tokens 6 Once');
  t.is(cut.status, 1);
  t.regex(cut.stdout, /^\[LLM\]\[STREAM\] infer id=2 tokens=3 /m);
  t.regex(
    cut.stderr,
    /EDQUOT 3003 TokenBudgetExceeded: session 2 was cut after 3 tokens, the period budget of 8 is used up/,
  );
  t.true(now() < start! + SECOND);
  t.like(json(machine, 'llmctl budget --json'), { window_start_ns: start, issued: 8, left: 0, rejects: 2 });
  ok(machine, `sleep ${(start! + SECOND - now()) / SECOND}`);
  ok(machine, 'llminfer --temp 0 --max-tokens 8 Once');
  const after = json(machine, 'llmctl budget --json') as Record<string, number>;
  t.like(after, { issued: 8, left: 0, rejects: 2 });
  t.true(after['window_start_ns']! >= start! + SECOND);
  const audit = ok(machine, 'grep op=[34] /proc/audit').trimEnd().split('\n').reverse();
  t.deepEqual(
    audit.map(line => ['tokens', 'what', 'status', 'code'].map(key => new RegExp(` ${key}=(\\S+)`).exec(line)?.[1])),
    [
      ['5', 'infer', '1', '0'],
      ['0', 'reject', '2', '3003'],
      ['3', 'exhausted', '1', '3003'],
      ['8', 'infer', '1', '0'],
    ],
  );
});

test('§10, the period budget, in the machine', t => {
  const machine = powerOn();
  t.is(ok(machine, 'llmctl budget --period-ns 5000000000 --max-tokens-per-period 8'), '[LLM] budget configured\n');
  ok(machine, 'llminfer --temp 0 --max-tokens 5 Once');
  const { window_start_ns: start } = json(machine, 'llmctl budget --json') as Record<string, number>;
  refused(
    t,
    machine,
    'llminfer --temp 0 --max-tokens 4 Once',
    1,
    /^llminfer: EDQUOT 3003 TokenBudgetExceeded: 4 tokens asked, 3 of the machine's 8 a period left until 00:00:0\d\.\d{3}\n$/,
  );
  t.deepEqual(json(machine, 'llmctl budget --json'), {
    wcet_cycles: 0,
    period_ns: 5e9,
    max_tokens_per_period: 8,
    window_start_ns: start,
    issued: 5,
    left: 3,
    rejects: 1,
  });
  t.regex(
    ok(machine, 'grep -m1 status=2 /proc/audit'),
    /\[LLM\]\[AUD\] op=3 prompt_len=2 tokens=0 .* status=2 ts_ns=\d+ record=\d+ what=reject user=0 code=3003 /,
  );
  ok(machine, 'sleep 5');
  t.like(json(machine, 'llmctl budget --json'), { issued: 0, left: 8 });
  ok(machine, 'llminfer --temp 0 --max-tokens 8 Once');
  t.like(json(machine, 'llmctl budget --json'), { issued: 8, left: 0, rejects: 1 });
  t.regex(
    ok(machine, 'llmctl budget'),
    /^budget   8 tokens a period of 5000 ms\nissued   8, 0 left until 00:00:\d\d\.\d{3}\nrefused  1\nlate     after its own bound\n$/,
  );
  // What is not named stays; a period of 0 switches it off.
  ok(machine, 'llmctl budget --wcet-cycles 25000');
  t.like(json(machine, 'llmctl budget --json'), {
    wcet_cycles: 25_000,
    period_ns: 5e9,
    max_tokens_per_period: 8,
    issued: 8,
  });
  ok(machine, 'llmctl budget --period 0');
  t.like(json(machine, 'llmctl budget --json'), { period_ns: 0, window_start_ns: null, left: null });
  t.is(ok(machine, 'llmctl budget'), 'budget   off\nrefused  1\nlate     after 25,000 cycles, 16.7 µs\n');
  ok(machine, 'llminfer --temp 0 --max-tokens 20 Once');
});

test('what users were charged adds up to what the machine has done', t => {
  const machine = powerOn('* 150 - - 6\n');
  ok(machine, 'llmctl backend stub');
  const draw = random(5);
  const requests = (n: number): string =>
    Array.from({ length: n }, () => `llminfer --max-tokens ${1 + Math.floor(draw() * 60)} ${'word '.repeat(1 + Math.floor(draw() * 20))}&`).join(' '); // prettier-ignore
  for (const user of ['root', 'user', 'root', 'user', 'user'])
    machine.exec(`su ${user} -c '(${requests(9)} wait) > /tmp/${user}'`);
  const stats = json(machine, 'llmstats --json') as Record<string, number>;
  const { users } = json(machine, 'llmctl quota --json') as { users: Record<string, number>[] };
  const total = (key: string): number => sum(users, u => u[key]!);
  t.is(total('tokens_used'), stats['output_tokens']!);
  t.is(String(total('cycles_used')), String(stats['cycles_total']));
  t.is(total('refused'), stats['rejects']!);
  t.true(total('refused') > 0);
  t.is(stats['sessions_total']! + total('refused'), 45);
  for (const key of ['tokens_reserved', 'cycles_reserved', 'kv_bytes', 'sessions']) t.is(total(key), 0, key);
  t.true(users.find(u => u['uid'] === 1000)!['tokens_used']! <= 150);
  const rows = ok(machine, 'cat /proc/quotas').trimEnd().split('\n').map(row => row.split('\t')); // prettier-ignore
  for (const [i, title] of rows[0]!.entries())
    if (title === 'tokensUsed')
      t.is(
        sum(rows.slice(1), row => Number(row[i])),
        total('tokens_used'),
      );
});

test('/etc/quota is read at boot; its mistakes are in the log', t => {
  const machine = powerOn('* 500 - - 3\nuser 64 - - -\neve 1 1 1 1\n');
  t.regex(ok(machine, 'dmesg'), / quota: \/etc\/quota:3: no user eve\n/);
  t.regex(
    ok(machine, 'llmctl quota'),
    /^USER +TOKENS\/HOUR +CYCLES\/HOUR +KV BYTES +SESSIONS +REFUSED\n\* +500 +- +- +3\nroot +0 \/ - .*\nuser +0 \/ 64 +0 \/ - +0 \/ - +0 \/ 3 +0\nauditor +0 \/ 500 .*\nnobody +0 \/ 500 .*\nthe hour ends at 01:00:00\n$/,
  );
  refused(
    t,
    machine,
    asUser('llminfer --max-tokens 65 Once'),
    1,
    `${over} user user asked 65 tokens, 64 left until 01:00:00, and 64 an hour`,
  );
});

test('llmctl budget, quota, sched, pace: who may, wrong command lines, what is printed', t => {
  const machine = powerOn();
  const denied =
    /^llmctl: user user may not manage (quota|budget|sched): \/etc\/llm\/rights:\d+ decides: \* run,read \*\n$/;
  for (const line of [
    'quota user --tokens 0',
    'quota root',
    'quota "*"',
    'budget --period 0',
    'pace auto on',
    'pace --scale 50',
    'sched --policy rr',
  ])
    refused(t, machine, asUser(`llmctl ${line}`), 1, denied);
  for (const line of ['quota', 'budget', 'pace', 'sched', 'status']) ok(machine, asUser(`llmctl ${line}`));
  t.like(json(machine, asUser('llmctl quota --json')), { user: 'user', own: [], tokens_per_hour: 10_000 });

  refused(t, machine, 'llmctl quota eve', 1, "llmctl: no user 'eve'");
  refused(t, machine, 'llmctl quota --tokens 5', 2, /^llmctl: quota: whose limits\? USER is missing\n/);
  refused(
    t,
    machine,
    'llmctl quota user --tokens many',
    2,
    "llmctl: --tokens 'many' is not an integer from 0 to 9007199254740991",
  );
  refused(t, machine, 'llmctl quota user --sessions 33', 2, "llmctl: --sessions '33' is not an integer from 0 to 32");
  refused(t, machine, 'llmctl quota user --kv f16', 2, "llmctl: --kv 'f16' is not an integer from 0 to 8388608");
  refused(
    t,
    machine,
    'llmctl budget --period 1 --period-ns 1',
    2,
    'llmctl: budget: --period and --period-ns exclude each other',
  );
  refused(t, machine, 'llmctl budget --period -1', 2, "llmctl: --period '-1' is not a number of milliseconds");
  refused(t, machine, 'llmctl budget --tokens 1', 2, /^llmctl: budget takes no --tokens\n/);
  refused(t, machine, 'llmctl pace auto', 2, /^llmctl: pace: auto on, auto off or auto status\n/);
  refused(t, machine, 'llmctl pace --scale -5', 2, "llmctl: --scale '-5' is not an integer from 0 to 2147483647");
  refused(t, machine, 'llmctl sched --policy lottery', 2, "llmctl: --policy 'lottery' is not edf, fp or rr");
  refused(
    t,
    machine,
    'llmctl sched --bound 1000001',
    2,
    "llmctl: --bound '1000001' is not an integer from 1 to 1000000",
  );
  refused(
    t,
    machine,
    'llmctl sched --segment-max 2s',
    2,
    "llmctl: --segment-max '2s' is neither cycles nor milliseconds as 2.5ms",
  );

  const before = json(machine, 'llmctl sched --json') as Record<string, number>;
  t.like(before, { policy: 'edf', bound_ppm: 850_000, used_ppm: 0, servers: 0, batch: 8, pace_scale_percent: 100 });
  const { step_max_cycles: step, segment_max_cycles: segment } = before;
  t.true(step! > 0 && segment! > step!);
  // One dearest step is the least that a pass may be bound to; a time is cut to whole cycles.
  refused(t, machine, `llmctl sched --segment-max ${step! - 1}`, 1, /^llmctl: EINVAL 7001 InvalidConfig: .*\d/);
  const set = json(machine, `llmctl sched --segment-max ${step} --policy rr --bound 500000 --batch 2 --json`);
  t.like(set, { policy: 'rr', bound_ppm: 500_000, batch: 2, step_max_cycles: step });
  t.true((set['segment_max_cycles'] as number) < segment!);
  t.like(json(machine, 'llmctl sched --policy EDF --json'), { ...set, policy: 'edf' });
  t.deepEqual(json(machine, 'llmctl sched --segment-max 200ms --bound 850000 --batch 0 --json')['batch'], 8);
  t.deepEqual(json(machine, 'llmctl sched --segment-max 0 --json'), before);

  t.is(ok(machine, 'llmctl pace'), '[LLM][PACE] scale=100% auto=OFF\n');
  t.is(ok(machine, 'llmctl pace --scale 600'), '[LLM][PACE] scale=500% auto=OFF\n');
  t.is(ok(machine, 'llmctl pace auto on --scale 10'), '[LLM][PACE] scale=50% auto=ON\n');
  t.deepEqual(json(machine, 'llmctl pace auto status --json'), { scale_percent: 50, auto: true });
  t.is(ok(machine, 'llmctl pace auto off'), '[LLM][PACE] scale=50% auto=OFF\n');

  const status = ok(machine, 'llmctl status').split('\n');
  t.is(status.at(-2), '[LLM][DET] used_ppm=0 accepted=0 rejected=0 deadline_misses=0 jitter_p99_ns=0');
  t.regex(
    status.at(-3)!,
    /^segment +[0-9,]+ cycles \([0-9.]+ .?s\) at most, [0-9,]+ cycles \([0-9.]+ .?s\) the longest so far$/,
  );
});
