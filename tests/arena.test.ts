// The arena and the clock: the specification's vectors, then 100,000 random operations against a model list.
import test from 'ava';
import { Arena, alignUp } from '../kernel/arena.ts';
import { ACCOUNTS, Clock, ClockRecord } from '../kernel/clock.ts';
import { LIMITS, StepBlock, SessionOptions, layout } from '../kernel/abi/index.ts';

const fresh = (bytes: number = LIMITS.arenaBytes): Arena => new Arena(new ArrayBuffer(bytes));

test('specification §2: addresses, failures, statistics', t => {
  const a = fresh();
  t.is(a.alloc(1024, 8), 0);
  t.is(a.usage().offset, 1024);
  const b = fresh();
  b.alloc(1, 1);
  t.is(b.alloc(16, 16), 16);
  t.is(b.usage().offset, 32);
  const c = fresh();
  t.is(c.alloc(8_388_609, 1), -1);
  t.is(c.usage().offset, 0);
  t.is(c.alloc(8_388_608, 1), 0);
  t.is(c.remaining(), 0);
  c.reset();
  t.deepEqual(c.usage(), { offset: 0, high_water: 8_388_608 });
  t.is(c.stats().allocation_count, 1);
  const d = fresh();
  d.alloc(1024 * 1024);
  t.is(d.stats().utilization, 12.5);
  t.true(d.is_near_capacity(12));
  t.false(d.is_near_capacity(13));
});

test('what cannot be allocated changes nothing', t => {
  const a = fresh(4096);
  a.alloc(100, 32, 'x');
  const before = [a.usage(), a.stats(), a.regions().map(r => ({ ...r }))];
  for (const [size, align] of [
    [0, 8],
    [-1, 8],
    [8, 3],
    [8, 0],
    [4096, 32],
    [Number.MAX_SAFE_INTEGER, 32],
    [1.5, 8],
    [NaN, 8],
    [Infinity, 8],
  ] as const)
    t.is(a.alloc(size, align), -1, `size ${size} align ${align}`);
  t.deepEqual([a.usage(), a.stats(), a.regions().map(r => ({ ...r }))], before);
});

test('sealing: only named regions grow; memory is cleared when it is given out', t => {
  const a = fresh(4096);
  a.alloc(64, 32, 'tables');
  a.seal(['weights']);
  t.is(a.alloc(64, 32, 'tables'), -1);
  const mark = a.mark();
  const at = a.alloc(64, 32, 'weights');
  t.is(at, 64);
  a.u8.fill(0xff, at, at + 64);
  a.release(mark);
  t.is(a.usage().offset, 64);
  t.is(a.alloc(32, 32, 'weights'), 64);
  t.true(a.u8.subarray(64, 96).every(b => b === 0));
  t.is(a.regionPeak('weights'), 64);
});

test('100,000 random alloc, allocArray, mark, release against a model: aligned, disjoint, exact figures', t => {
  const a = fresh(1 << 20);
  let seed = 1;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * n);
  };
  let live: { at: number; size: number }[] = [];
  const marks: { mark: ReturnType<Arena['mark']>; live: number }[] = [];
  let high = 0;
  for (let i = 0; i < 100_000; i++) {
    const what = random(10);
    if (what < 6) {
      const size = 1 + random(2000);
      const align = 1 << random(9);
      const at = a.alloc(size, align, `r${random(3)}`);
      const offset = live.length === 0 ? 0 : live[live.length - 1]!.at + live[live.length - 1]!.size;
      if (at < 0) {
        if (alignUp(offset, align) + size <= a.capacity) t.fail('refused what fits');
      } else {
        if (at % align !== 0 || at < offset) t.fail('misaligned or overlapping');
        live.push({ at, size });
        high = Math.max(high, at + size);
      }
    } else if (what < 7) marks.push({ mark: a.mark(), live: live.length });
    else if (what < 9 && marks.length > 0) {
      const m = marks.splice(random(marks.length))[0]!;
      a.release(m.mark);
      live = live.slice(0, m.live);
    } else if (random(200) === 0) {
      a.reset();
      live = [];
      marks.length = 0;
    }
    const expected = live.length === 0 ? 0 : live[live.length - 1]!.at + live[live.length - 1]!.size;
    if (a.usage().offset !== expected || a.usage().high_water !== high) {
      t.fail(`offset ${a.usage().offset} ≠ ${expected} after ${i} operations`);
      return;
    }
  }
  t.pass();
});

test('the clock is an exact 64-bit counter, its accounts add up, and time goes on when the processor changes', t => {
  const a = fresh(4096);
  const clock = new Clock(a, 64, 1_500_000_000);
  const accounts = new Map(ACCOUNTS.map(account => [account, 0n]));
  const rates = [1_500_000_000, 480_000_000, 1_200_000_000, 6_123_456_789];
  let exact = 0n;
  let base = { cycles: 0n, ns: 0n, hz: 1_500_000_000n };
  let before = 0;
  let seed = 7;
  const next = (): number => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0);
  for (let i = 0; i < 20_000; i++) {
    // Steps on slow processors exceed 2³² cycles; carries come from both words.
    const cycles = i % 3 === 0 ? next() : next() * 2 ** (i % 8) + (i % 5);
    const account = ACCOUNTS[i % ACCOUNTS.length]!;
    clock.advance(cycles, account);
    exact += BigInt(cycles);
    accounts.set(account, accounts.get(account)! + BigInt(cycles));
    const ns = base.ns + ((exact - base.cycles) * 1_000_000_000n) / base.hz;
    const now = clock.nowNs();
    if (BigInt(now) !== ns || now < before || clock.cyclesAt(now) > clock.cycles())
      t.fail(`step ${i}: ${now} for ${ns}`);
    before = now;
    if (i % 500 !== 499) continue;
    const hz = rates[next() % rates.length]!;
    clock.switchTo(hz);
    base = { cycles: exact, ns, hz: BigInt(hz) };
    t.is(clock.nowNs(), now);
    t.is(clock.hz, hz);
  }
  t.is(BigInt(clock.cycles()), exact);
  for (const [account, cycles] of accounts) t.is(BigInt(clock.record()[account]), cycles, account);
  t.notThrows(() => clock.check());
  clock.jumpTo(10);
  t.is(BigInt(clock.cycles()), exact, 'never back');
  const idle = clock.record().idle;
  clock.jumpTo(2 ** 52);
  t.is(clock.cycles(), 2 ** 52);
  t.is(BigInt(clock.record().idle - idle), 2n ** 52n - exact);
  a.u32[(64 + ClockRecord.at.calls) >> 2]! += 1;
  t.throws(() => clock.check(), { message: /the clock shows 4503599627370496 cycles, its accounts 4503599627370497/ });
});

test('records: written = read, fields aligned, text cut at whole characters', t => {
  const R = layout({ a: 'u32', b: 'f64', c: 'u64', d: 'i32', e: 's8', f: 'f32' });
  t.is(R.at.b % 8, 0);
  t.is(R.bytes % 8, 0);
  const m = new Uint8Array(R.bytes + 8);
  R.write(m, 8, { a: 4294967295, b: -0.1, c: 2 ** 53 - 1, d: -5, e: 'ab€d€', f: 0.5 });
  t.deepEqual(R.read(m, 8), { a: 4294967295, b: -0.1, c: 2 ** 53 - 1, d: -5, e: 'ab€d', f: 0.5 });
  t.is(StepBlock.at.cycles, 80);
  t.is(SessionOptions.at.maxTokens, 0);
});
