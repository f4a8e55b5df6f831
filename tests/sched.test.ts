// The scheduler: the specification's traces tick by tick.

import test from 'ava';
import { Arena } from '../kernel/arena.ts';
import { SERVER } from '../kernel/abi/index.ts';
import { SCHED_BYTES, Scheduler } from '../kernel/sched.ts';

const quiet = { show: (cycles: number) => `${cycles} cycles`, onMiss() {}, onThrottle() {}, onRefill() {} };

function scheduler(host = quiet): Scheduler {
  const arena = new Arena(new ArrayBuffer(8192));
  return new Scheduler(arena, arena.alloc(SCHED_BYTES), host);
}

/** Who runs in each of `ticks` unit ticks, of sessions with endless work, or as many units as given. */
function trace(s: Scheduler, names: string, ticks: number, work: number[] = []): string {
  let out = '';
  for (let now = 0; now < ticks; now++) {
    const slot = s.pick(now, () => 1);
    out += slot < 0 ? '.' : names[slot]!;
    if (slot < 0) continue;
    s.charge(slot, 1, now + 1);
    if (work[slot] !== undefined && --work[slot]! === 0) s.sleep(slot);
  }
  return out;
}

test('specification §17: earliest deadline first', t => {
  const s = scheduler();
  s.configure('edf', 1_000_000);
  for (const [slot, [budget, period]] of [
    [1, 4],
    [2, 6],
    [3, 12],
  ].entries()) {
    t.is(
      s.admit(slot, { session: slot + 1, kind: SERVER.hard, budget: budget!, period: period!, priority: 0 }, 0, 0),
      null,
    );
    s.wake(slot, 0);
  }
  t.is(trace(s, 'ABC', 24), 'ABBCACBBAC..ABBCACBBAC..');
  t.is(s.figures().misses, 0);
});

test('specification §17: a server of 2 in 5 with 5 units of work, hard and soft', t => {
  for (const [kind, expected] of [
    [SERVER.hard, 'SS...SS...S.'],
    [SERVER.soft, 'SSSSS.......'],
  ] as const) {
    const s = scheduler();
    t.is(s.admit(0, { session: 1, kind, budget: 2, period: 5, priority: 0 }, 0, 0), null);
    s.wake(0, 0);
    t.is(trace(s, 'S', 12, [5]), expected);
  }
});
