// The scheduler: the specification's traces tick by tick; admission against an exact test of processor demand and against schedules run to
// the end; schedules of an adversary, none of whose servers may miss what it was promised; greed, fairness, other policies; every operation
// against a scheduler written plainly.

import test from 'ava';
import type { ExecutionContext } from 'ava';
import { Arena } from '../kernel/arena.ts';
import { LIMITS, SAMPLES, SERVER } from '../kernel/abi/index.ts';
import type { Policy } from '../kernel/abi/index.ts';
import { SCHED_BYTES, Scheduler, utilisationPpm } from '../kernel/sched.ts';
import type { SchedulerHost } from '../kernel/sched.ts';
import { percentile, Samples, SAMPLES_BYTES } from '../kernel/samples.ts';
import { random, soak } from './harness.ts';
import { Adversary, emptyTally, HONEST } from './support/adversary.ts';
import type { Cheat } from './support/adversary.ts';
import { hyperperiodOf, meetsDemand, randomTasks } from './support/demand.ts';
import type { Task } from './support/demand.ts';
import { PlainScheduler } from './support/plain-scheduler.ts';

const QUIET = { show: (cycles: number): string => `${cycles} cycles`, onMiss() {}, onThrottle() {}, onRefill() {} };

function scheduler(policy: Policy = 'edf', boundPpm = 1_000_000, host: SchedulerHost = QUIET): Scheduler {
  const arena = new Arena(new ArrayBuffer(4096));
  const s = new Scheduler(arena, arena.alloc(SCHED_BYTES), host);
  s.configure(policy, boundPpm);
  return s;
}

type Kind = typeof SERVER.hard | typeof SERVER.soft;

/** A server of session slot + 1; null, or why it was refused. */
function admit(
  s: Scheduler,
  slot: number,
  budget: number,
  period: number,
  o: { kind?: Kind; segment?: number } = {},
): string | null {
  const server = { session: slot + 1, kind: o.kind ?? SERVER.hard, budget, period, priority: 0 };
  return s.admit(slot, server, 0, o.segment ?? 0)?.message ?? null;
}

/** Who runs in each of `ticks` ticks, every step one tick; sessions have endless work, or as many units as given. */
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

// ── The specification ────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('specification §17: admission', t => {
  const s = scheduler('edf', 500_000);
  t.is(admit(s, 0, 300, 1000), null);
  t.is(admit(s, 1, 200, 1000), null);
  t.regex(admit(s, 2, 400, 1000)!, /400000 ppm; servers use 500000 of 500000, 0 left/);
  t.like(s.figures(), { usedPpm: 500_000, accepted: 2, rejected: 1, servers: 2, boundPpm: 500_000 });
  t.regex(admit(s, 3, 1, 0)!, /both are 1 to 2251799813685248/);

  const llm = scheduler('edf', LIMITS.utilisationPpm);
  const ms = 62_500; // cycles at 62.5 MHz
  t.is(utilisationPpm(25_000, ms), 400_000);
  t.is(admit(llm, 0, 25_000, ms), null);
  t.is(admit(llm, 1, 25_000, ms), null);
  t.not(admit(llm, 2, 25_000, ms), null);
  t.is(llm.figures().usedPpm, 800_000);

  const demo = scheduler('edf', 750_000);
  for (const [slot, [cycles, period]] of [
    [25_000, 5],
    [40_000, 15],
    [60_000, 50],
  ].entries()) {
    t.is(admit(demo, slot, cycles!, period! * ms), null);
  }
  t.is(demo.figures().usedPpm, 80_000 + 42_666 + 19_200);
  t.is(demo.figures().usedPpm, 141_866);
});

test('specification §17: earliest deadline first', t => {
  const s = scheduler();
  for (const [slot, [budget, period]] of [
    [1, 4],
    [2, 6],
    [3, 12],
  ].entries()) {
    t.is(admit(s, slot, budget!, period!), null);
    s.wake(slot, 0);
  }
  t.is(trace(s, 'ABC', 24), 'ABBCACBBAC..ABBCACBBAC..');
  t.is(s.figures().misses, 0);
});

test('specification §17: a server of 2 in 5 with 5 units of work', t => {
  for (const [kind, expected, deadlines] of [
    [SERVER.hard, 'SS...SS...S.', [5, 5, 10, 10, 15]],
    [SERVER.soft, 'SSSSS.......', [5, 5, 10, 10, 15]],
  ] as const) {
    const s = scheduler();
    t.is(admit(s, 0, 2, 5, { kind }), null);
    s.wake(0, 0);
    t.is(trace(s, 'S', 12, [5]), expected);
    const again = scheduler();
    admit(again, 0, 2, 5, { kind });
    again.wake(0, 0);
    const seen: number[] = [];
    for (let now = 0; seen.length < 5; now++) {
      if (again.pick(now, () => 1) < 0) continue;
      seen.push(again.deadline(0));
      again.charge(0, 1, now + 1);
    }
    t.deepEqual(seen, deadlines);
  }
});

test('specification §17: the percentile is a sample, of 64 at 0.99 the one at index 62', t => {
  const values = Array.from({ length: 64 }, (_, i) => (i * 37) % 64);
  t.is(percentile(values, 0.99), 62);
  t.is(percentile(values, 0.5), 31);
  t.is(percentile(values, 0.01), 0);
  t.is(percentile([7], 0.99), 7);
  t.is(percentile([], 0.99), 0);
  const arena = new Arena(new ArrayBuffer(1024));
  const ring = new Samples(arena, arena.alloc(SAMPLES_BYTES));
  t.is(ring.percentile(0.5), 0);
  for (let i = 0; i < 200; i++) {
    ring.add(i * 2 ** 40 + 3);
    t.is(ring.count, Math.min(i + 1, SAMPLES));
    const kept = Array.from({ length: ring.count }, (_, k) => (i - k) * 2 ** 40 + 3);
    for (const q of [0, 0.01, 0.5, 0.99, 1]) t.is(ring.percentile(q), percentile(kept, q));
  }
});

// ── Admission ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a refusal says what is used, asked and left, and the shortest period that would do', t => {
  const s = scheduler('edf', 850_000);
  t.is(admit(s, 0, 400, 1000, { segment: 100 }), null);
  t.is(
    admit(s, 1, 500, 1000, { segment: 100 }),
    '500 cycles every 1000 cycles are 500000 ppm; servers use 400000 of 850000, 450000 left; the shortest period that would do is 1112 cycles',
  );
  t.not(admit(s, 1, 500, 1111, { segment: 100 }), null);
  t.is(admit(s, 1, 500, 1112, { segment: 100 }), null);
  // Its own period must hold the segment of somebody else beside its budget …
  const one = scheduler();
  t.is(
    admit(one, 0, 1, 90, { segment: 100 }),
    '1 cycles every 90 cycles are 11111 ppm; servers use 0 of 1000000, 1000000 left; its deadlines must bear a segment of 100 cycles (llmctl sched --segment-max); the shortest period that would do is 101 cycles',
  );
  // … and so must those that were there: 0.4 + 0.4 + 300/1000 > 1.
  const two = scheduler();
  t.is(admit(two, 0, 400, 1000, { segment: 300 }), null);
  t.regex(
    admit(two, 1, 320, 800, { segment: 300 })!,
    /; session 1's deadlines must bear a segment of 300 cycles \(llmctl sched --segment-max\); the shortest period that would do is 1034 /,
  );
  t.regex(two.segment(601)!.message, /a segment of 601 cycles would be too long for session 1's server/);
  t.is(two.segment(600), null);
  t.regex(two.configure('rr', 1000)!.message, /the policy stays edf while 1 servers are admitted/);
  t.regex(two.configure('edf', 0)!.message, /1 to 1000000/);
  two.remove(0);
  t.is(two.configure('rr', 1000), null);
});

test('what ⌊ppm⌋ hides does not count as room', t => {
  // 31 servers of 1/2,000,001 are 0 ppm each; with one of 999,999/1,000,000 they are more than the whole processor.
  const s = scheduler();
  t.is(admit(s, 31, 999_999, 1_000_000), null);
  const admitted = Array.from({ length: 31 }, (_, slot) => admit(s, slot, 1, 2_000_001)).filter(r => r === null);
  t.is(s.figures().usedPpm, 999_999);
  t.is(admitted.length, 2); // 1/1,000,000 left holds 2/2,000,001 and no third
});

test('the shortest period is the least that is admitted', t => {
  const next = random(3);
  for (let i = 0; i < (soak ? 3000 : 200); i++) {
    const { tasks, segment } = randomTasks(next);
    const s = scheduler('edf', 850_000);
    for (const [slot, { budget, period }] of tasks.entries()) {
      const message = admit(s, slot, budget, period, { segment });
      if (message === null) continue;
      const shortest = Number(/shortest period that would do is (\d+)/.exec(message)![1]);
      t.true(shortest > period);
      t.not(admit(s, slot, budget, shortest - 1, { segment }), null);
      t.is(admit(s, slot, budget, shortest, { segment }), null);
    }
  }
});

// ── Budgets ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Deadlines of a soft server's steps, 10 every 100, with these bounds, when they take so long. */
function deadlines(bounds: readonly number[], taken: readonly number[]): number[] {
  const s = scheduler();
  s.admit(0, { session: 1, kind: SERVER.soft, budget: 10, period: 100, priority: 0 }, 0, 10);
  s.wake(0, 0);
  let now = 0;
  return bounds.map((bound, i) => {
    s.pick(now, () => bound);
    s.charge(0, taken[i]!, (now += taken[i]!));
    return s.deadline(0);
  });
}

test('what the scheduler tells: throttled until when, refilled, missed by how much', t => {
  const told: string[] = [];
  const host: SchedulerHost = {
    show: String,
    onThrottle: (slot, begin) => void told.push(`${slot} throttled until ${begin}`),
    onRefill: (slot, budget) => void told.push(`${slot} has ${budget}`),
    onMiss: (slot, late) => void told.push(`${slot} late by ${late}`),
  };
  for (const [kind, expected] of [
    [SERVER.hard, ['0 has 2', '0 throttled until 5', '0 has 2', '0 throttled until 10', '0 has 2']],
    [SERVER.soft, ['0 has 2', '0 throttled until 5', '0 has 2', '0 throttled until 10', '0 has 2']],
  ] as const) {
    told.length = 0;
    const s = scheduler('edf', 1_000_000, host);
    admit(s, 0, 2, 5, { kind });
    s.wake(0, 0);
    trace(s, 'S', 12, [5]);
    t.deepEqual(told, expected);
  }
  told.length = 0;
  const s = scheduler('fp', 1_000_000, host);
  admit(s, 0, 2, 5);
  s.wake(0, 0);
  s.pick(14, () => 1); // nobody let it run: the deadlines at 5 and 10 are gone, that at 15 is not
  t.deepEqual(told, ['0 has 2', '0 late by 9']);
  t.is(s.server(0).misses, 2);
  t.is(s.deadline(0), 15);
  t.is(s.figures().misses, 2);
});

test('a soft server far ahead is not charged, so that sums stay exact', t => {
  const s = scheduler();
  admit(s, 0, 1, 2 ** 50, { kind: SERVER.soft });
  s.wake(0, 0);
  for (let now = 0; now < 100; now++) {
    t.is(
      s.pick(now, () => 1),
      0,
    );
    s.charge(0, 1, now + 1);
    t.true(Number.isSafeInteger(s.deadline(0)));
  }
  t.is(s.figures().misses, 0);
});

test('what only a kernel bug can ask for panics', t => {
  const s = scheduler();
  admit(s, 0, 2, 5);
  t.throws(() => admit(s, 0, 1, 5), { message: /slot 0 is taken/ });
  t.throws(() => s.wake(1, 0), { message: /slot 1 has nothing/ });
  s.wake(0, 0);
  t.throws(() => s.pick(0, () => 3), { message: /a step of 3 passes its budget/ });
  t.throws(() => s.charge(0, 3, 3), { message: /used 1 cycles too many/ });
});

test('a step that takes less may make a later one due later, and response bounds know', t => {
  t.deepEqual(deadlines([5, 6, 4], [5, 6, 4]), [100, 150, 150]); // 5 of 10 used: the second period begins at 50
  t.deepEqual(deadlines([5, 6, 4], [4, 6, 4]), [100, 100, 200]); // 10 of 10 used
  const s = scheduler();
  s.admit(0, { session: 1, kind: SERVER.soft, budget: 10, period: 100, priority: 0 }, 0, 10);
  t.is(s.responseBound(0, [5, 6, 4], 0), 100 + 110 + 3); // a period after the virtual time that 5 + 6 make, rounded up three times
  t.is(s.responseBound(0, [5, 5], 0), 100);
  t.is(s.responseBound(0, [5, 5], 7), 100);
});

test('who wakes has a whole period, however little of its budget it has left', t => {
  for (const kind of [SERVER.hard, SERVER.soft]) {
    const s = scheduler();
    s.admit(0, { session: 1, kind, budget: 10, period: 100, priority: 0 }, 0, 20);
    s.wake(0, 0);
    t.is(
      s.pick(0, () => 9),
      0,
    );
    s.charge(0, 9, 9);
    s.sleep(0);
    // The classic rule would keep 1 cycle and the deadline 100, as 1 in 10 is its rate: a segment of 20 may just have begun.
    s.wake(0, 90);
    t.is(s.server(0).begin, 90);
    t.is(s.deadline(0), 190);
    t.is(s.server(0).remaining, 10);
    s.sleep(0);
    s.wake(0, 90);
    t.is(s.deadline(0), 190, 'and no less for sleeping again');
  }
});

// ── Admitted means no deadline missed ────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Runs the tasks from their synchronous start to the hyperperiod's end, beside a best-effort session that always has a longest segment to
 * run and began one a cycle before they start. Returns at how many of their deadlines k · T fewer than k · Q units had been done, by its own
 * count; null where a task is not admitted.
 */
function lateAt(
  s: Scheduler,
  tasks: readonly Task[],
  segment: number,
  priority: (t: Task, all: readonly Task[]) => number,
): number | null {
  const hog = tasks.length;
  for (const [slot, task] of tasks.entries()) {
    const server = { ...task, session: slot + 1, kind: SERVER.hard, priority: priority(task, tasks) };
    if (s.admit(slot, server, 0, segment) !== null) return null;
  }
  s.addBestEffort(hog, { session: hog + 1, priority: 31 });
  s.wake(hog, 0);
  const start = 1;
  const done = tasks.map(() => 0);
  const jobs = tasks.map(() => 0); // deadlines that have passed
  const cost = (slot: number): number =>
    slot === hog ? segment : Math.min(tasks[slot]!.step, tasks[slot]!.budget - (done[slot]! % tasks[slot]!.budget));
  let late = 0;
  const pass = (until: number): void => {
    for (const [i, { budget, period }] of tasks.entries()) {
      for (; start + (jobs[i]! + 1) * period <= until; jobs[i]!++) if (done[i]! < (jobs[i]! + 1) * budget) late++;
    }
  };
  const end = start + hyperperiodOf(tasks);
  for (let now = 0; now < end;) {
    const slot = s.pick(now, cost);
    const took = cost(slot);
    if (now < start) for (const i of tasks.keys()) s.wake(i, start);
    now += took;
    pass(now - 1);
    if (slot !== hog) done[slot]! += took;
    pass(now);
    s.charge(slot, took, now);
  }
  return late;
}

const SETS = soak ? 100_000 : 3_000;
/** The shortest period is the most urgent. */
const rateMonotonic = (task: Task, tasks: readonly Task[]): number => tasks.filter(t => t.period < task.period).length;

test.serial(`${SETS} random task sets: admitted means that the demand fits and no deadline is missed`, t => {
  t.timeout(3_600_000);
  const next = random(17);
  const count = { admitted: 0, within850: 0, exact: 0, fp: 0, random: 0, rr: 0 };
  for (let i = 0; i < SETS; i++) {
    const { tasks, segment } = randomTasks(next);
    const fits = meetsDemand(tasks, segment);
    if (fits) count.exact++;
    const s = scheduler();
    const late = lateAt(s, tasks, segment, rateMonotonic);
    if (late === null) continue;
    count.admitted++;
    const what = JSON.stringify({ tasks, segment });
    if (!fits) return t.fail(`admitted, but the demand does not fit: ${what}`);
    if (late > 0 || s.figures().misses > 0) return t.fail(`${late} deadlines missed: ${what}`);
    if (s.figures().usedPpm <= LIMITS.utilisationPpm) count.within850++;
    const order = tasks.map(() => next());
    if (lateAt(scheduler('fp'), tasks, segment, rateMonotonic)! > 0) count.fp++;
    if (lateAt(scheduler('fp'), tasks, segment, task => Math.floor(31 * order[tasks.indexOf(task)]!))! > 0)
      count.random++;
    if (lateAt(scheduler('rr'), tasks, segment, rateMonotonic)! > 0) count.rr++;
  }
  t.log(
    `${SETS} sets: ${count.exact} pass the exact test, ${count.admitted} are admitted (${count.within850} within 850,000 ppm)`,
  );
  t.log(
    `of those admitted miss deadlines: edf 0, rate monotonic ${count.fp}, random priorities ${count.random}, round robin ${count.rr}`,
  );
  t.true(count.admitted > SETS / 4);
  t.true(count.fp > 0 && count.random > count.fp && count.rr > count.random);
});

// ── An adversary ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const SCHEDULES = soak ? 1_000_000 : 20_000;
const SHARDS = soak ? 20 : 2;
const totals = emptyTally();

for (let shard = 1; shard <= SHARDS; shard++) {
  const unit = shard % 2 === 1 ? 1 : 123_456_789; // products of two times pass 2⁵³
  test.serial(`an adversary's schedules in units of ${unit} cycles, part ${shard} of ${SHARDS}`, t => {
    t.timeout(3_600_000);
    const next = random(shard);
    for (let i = 0; i < SCHEDULES / SHARDS; i++) new Adversary(next, totals, HONEST, unit).run();
    t.is(totals.misses, 0, 'deadlines');
    t.is(totals.late, 0, 'steps past their deadlines');
    t.is(totals.broken, 0, 'response bounds');
    t.is(totals.noRoom, 0, 'nobody due and no room for a segment');
  });
}

test.serial('what the adversary did', t => {
  t.is(totals.schedules, SCHEDULES);
  for (const [what, n] of Object.entries(totals)) t.log(`${what} ${n}`);
  t.is(totals.tightest, 1); // some request took as long as it was told
  t.true(totals.deferred > 0);
});

/** Deadlines that 1,000 schedules of one who cheats miss. */
function caught(cheat: Cheat): number {
  const tally = emptyTally();
  const next = random(99);
  for (let i = 0; i < 1000; i++) new Adversary(next, tally, cheat).run();
  return tally.misses;
}

test.serial('an adversary that takes a cycle more than slack, or longer segments, is found out', t => {
  const [one, two] = [caught({ outOfTurn: 1, segment: 0 }), caught({ outOfTurn: 0, segment: 2 })];
  t.true(one > 0 && two > 0);
  t.log(
    `deadlines missed in 1,000 schedules: ${one} with a cycle more than slack, ${two} with segments two cycles longer`,
  );
});

// ── Greed and fairness ───────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a greedy session delays another no more than its server permits, however many there are', t => {
  const [Q, T, segment] = [10, 100, 20];
  const worst = (greedy: number, kind: Kind | null): number => {
    const s = scheduler('edf', LIMITS.utilisationPpm);
    t.is(admit(s, 0, Q, T, { segment }), null);
    for (let slot = 1; slot <= greedy; slot++) {
      if (kind === null) s.addBestEffort(slot, { session: slot + 1, priority: 0 });
      else t.is(admit(s, slot, 20, 900, { kind, segment }), null);
      s.wake(slot, 0);
    }
    const cost = (slot: number): number => (slot === 0 ? Q : 20);
    let response = 0;
    let asked = -T;
    let waits = false;
    for (let now = 0; now < 100_000;) {
      const slot = s.pick(now, cost);
      const end = slot < 0 ? now + 1 : now + cost(slot);
      // Every step is a request of its own, a period or more after the last one, made one cycle after somebody's segment has begun.
      if (!waits && slot !== 0 && now + 1 >= asked + T && (slot > 0 || greedy === 0)) {
        waits = true;
        asked = now + 1;
        s.wake(0, asked);
        t.is(s.responseBound(0, [Q], asked), T);
      }
      now = end;
      if (slot < 0) continue;
      s.charge(slot, cost(slot), now);
      if (slot !== 0) continue;
      response = Math.max(response, now - asked);
      waits = false;
      s.sleep(0);
    }
    t.is(s.figures().misses, 0);
    return response;
  };
  const alone = worst(0, null);
  for (const [name, kind] of [
    ['best effort', null],
    ['soft servers', SERVER.soft],
    ['hard servers', SERVER.hard],
  ] as const) {
    const line = [1, 8, 31].map(n => worst(n, kind));
    for (const r of line) t.true(r <= T);
    t.log(`worst response of 10 cycles every 100, alone ${alone}, beside 1, 8, 31 greedy ${name}: ${line.join(', ')}`);
  }
});

/** Jain's index of what each got: 1 where all got the same, 1/n where one got all. */
function jain(shares: readonly number[]): number {
  const sum = shares.reduce((a, b) => a + b, 0);
  return sum ** 2 / (shares.length * shares.reduce((a, b) => a + b * b, 0));
}

/** Cycles that each of 32 sessions, always awake, gets of 400,000 with steps of up to 50. */
function shares(s: Scheduler, steps: (slot: number) => number): number[] {
  const got = Array.from({ length: 32 }, () => 0);
  const bounds = got.map((_, slot) => steps(slot));
  for (let now = 0; now < 400_000;) {
    const slot = s.pick(now, slot => bounds[slot]!);
    if (slot < 0) {
      now = s.nextEvent()!;
      continue;
    }
    now += bounds[slot]!;
    got[slot]! += bounds[slot]!;
    s.charge(slot, bounds[slot]!, now);
    bounds[slot] = steps(slot);
  }
  return got;
}

function best(): Scheduler {
  const s = scheduler();
  for (let slot = 0; slot < 32; slot++) {
    s.addBestEffort(slot, { session: slot + 1, priority: 0 });
    s.wake(slot, 0);
  }
  return s;
}

test("Jain's index of equal sessions", t => {
  const next = random(5);
  const servers = (kind: Kind): Scheduler => {
    const s = scheduler('edf', LIMITS.utilisationPpm);
    for (let slot = 0; slot < 32; slot++) {
      t.is(admit(s, slot, 53, 2000, { kind, segment: 50 }), null);
      s.wake(slot, 0);
    }
    return s;
  };
  const sizes = Array.from({ length: 32 }, () => 1 + Math.floor(next() * 50));
  const indices = {
    'best effort, steps of random size': jain(shares(best(), () => 1 + Math.floor(next() * 50))),
    'best effort, each with steps of its size': jain(shares(best(), slot => sizes[slot]!)),
    'hard servers, steps of random size': jain(shares(servers(SERVER.hard), () => 1 + Math.floor(next() * 50))),
    'hard servers, each with steps of its size': jain(shares(servers(SERVER.hard), slot => sizes[slot]!)),
    'soft servers, steps of random size': jain(shares(servers(SERVER.soft), () => 1 + Math.floor(next() * 50))),
    'soft servers, each with steps of its size': jain(shares(servers(SERVER.soft), slot => sizes[slot]!)),
  };
  for (const [who, index] of Object.entries(indices)) {
    t.true(index >= 0.99, `${who}: ${index}`);
    t.log(`32 ${who}: ${index.toFixed(6)}`);
  }
});

test('who comes back does not make up for the time that it was away', t => {
  const s = scheduler();
  for (const slot of [0, 1]) s.addBestEffort(slot, { session: slot + 1, priority: 0 });
  s.wake(0, 0);
  for (let now = 0; now < 1000; now += 10)
    s.charge(
      s.pick(now, () => 10),
      10,
      now + 10,
    );
  s.wake(1, 1000);
  const got = [0, 0];
  for (let now = 1000; now < 1200; now += 10) {
    const slot = s.pick(now, () => 10);
    got[slot]!++;
    s.charge(slot, 10, now + 10);
  }
  t.deepEqual(got, [10, 10]);
});

// ── Other policies ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('fixed priorities, equals in turn; round robin; neither promises anything', t => {
  const fp = scheduler('fp');
  for (const [slot, priority] of [2, 1, 1].entries()) {
    fp.addBestEffort(slot, { session: slot + 1, priority });
    fp.wake(slot, 0);
  }
  t.is(trace(fp, 'ABC', 10, [4, 3, 3]), 'BCBCBCAAAA');
  const rr = scheduler('rr');
  admit(rr, 0, 1, 100);
  rr.addBestEffort(1, { session: 2, priority: 0 });
  rr.addBestEffort(2, { session: 3, priority: 9 });
  for (const slot of [0, 1, 2]) rr.wake(slot, 0);
  t.is(trace(rr, 'ABC', 9), 'ABCABCABC'); // budgets are not enforced
  for (const s of [fp, rr]) {
    t.is(s.slack(9), Infinity);
    t.is(s.responseBound(0, [1], 9), Infinity);
  }
});

// ── Every operation ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

const STATES = ['asleep', 'ready', 'throttled'] as const;

/** Random operations on both schedulers. Returns how many. */
function compareWithPlain(t: ExecutionContext, next: () => number): number {
  const whole = (least: number, most: number): number => least + Math.floor(next() * (most - least + 1));
  const s = scheduler('edf', 900_000);
  const plain = new PlainScheduler();
  const segment = whole(1, 6);
  const steps = Array.from({ length: 8 }, () => 1);
  const cost = (slot: number): number => steps[slot]!;
  let now = 0;
  let ids = 0;
  const join = (): void => {
    const slot = steps.findIndex((_, i) => plain.sessions.every(x => x.slot !== i));
    if (slot < 0) return;
    const period = whole(2, 40);
    const budget = whole(1, Math.ceil(period / 3));
    const kind = [SERVER.none, SERVER.hard, SERVER.soft][whole(0, 2)]!;
    const arrival = { slot, session: ++ids, kind, priority: 0, budget: kind === SERVER.none ? 0 : budget, period };
    steps[slot] = whole(1, Math.min(segment, budget));
    if (kind === SERVER.none) {
      s.addBestEffort(slot, arrival);
      return plain.add(arrival, 0);
    }
    const fromAt = now + whole(0, 3);
    const refused = s.admit(slot, { ...arrival, kind: kind as Kind }, now, segment, fromAt) !== null;
    t.is(refused, !plain.admits(arrival, segment, 900_000));
    if (refused) return;
    const begin = plain.firstBegin(arrival, now, fromAt);
    const ours = s.server(slot).begin;
    t.true(ours >= begin && ours <= begin + Math.ceil(period / budget)); // one cycle of demand for the rounding
    plain.add(arrival, ours);
  };
  const step = (): void => {
    const order = s.order(now, cost);
    plain.advance(now, cost);
    t.deepEqual(order, plain.order(now));
    const first = order[0] === undefined ? 0 : cost(order[0]);
    for (const beside of [0, first]) {
      const exact = plain.slack(now, beside);
      const slack = s.slack(now, beside);
      t.true(exact === Infinity ? slack === Infinity : slack <= Math.max(0, exact) && slack >= exact - 1);
    }
    t.is(s.nextEvent(), plain.nextEvent());
    const slot = order[0];
    if (slot === undefined) return void (now = Math.min(now + whole(1, 5), s.nextEvent() ?? Infinity));
    const took = whole(1, cost(slot));
    now += took;
    s.charge(slot, took, now);
    plain.charge(slot, took, now);
    const { kind, budget } = plain.sessions.find(x => x.slot === slot)!;
    steps[slot] = whole(1, Math.min(segment, kind === SERVER.none ? segment : budget));
  };
  const count = whole(20, 120);
  for (let i = 0; i < count; i++) {
    const some = plain.sessions[whole(0, plain.sessions.length - 1)];
    const dice = next();
    if (some === undefined || dice < 0.08) join();
    else if (dice < 0.1) {
      s.remove(some.slot);
      plain.remove(some.slot);
    } else if (dice < 0.3) {
      s.wake(some.slot, now);
      plain.wake(some.slot, now);
    } else if (dice < 0.4) {
      s.sleep(some.slot);
      plain.sleep(some.slot);
    } else step();
    for (const x of plain.sessions) {
      const { session, state, begin, remaining } = s.server(x.slot);
      t.deepEqual(
        { session, state: STATES[state], begin, remaining },
        { session: x.session, state: x.state, begin: x.begin, remaining: x.budget - x.used },
      );
    }
  }
  t.is(s.figures().misses, 0);
  return count;
}

test('every operation agrees with a scheduler written plainly', t => {
  t.timeout(3_600_000);
  const next = random(23);
  const rounds = soak ? 20_000 : 400;
  let operations = 0;
  for (let i = 0; i < rounds; i++) operations += compareWithPlain(t, next);
  t.log(`${operations} operations in ${rounds} lives`);
});
