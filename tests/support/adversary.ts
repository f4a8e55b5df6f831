// An adversary of the scheduler: servers that fill what admission permits, sessions that sleep, wake inside segments, hog or take steps that
// do not fill their budgets, admission and removal in between, and work out of turn wherever `slack` allows it, as much as it allows. It
// keeps its own accounts of what every server was promised, and counts each promise that was not kept.

import { Arena } from '../../kernel/arena.ts';
import { SERVER } from '../../kernel/abi/index.ts';
import { SCHED_BYTES, Scheduler } from '../../kernel/sched.ts';

/** What the adversary does beyond what it may, to see that it would be noticed. */
export interface Cheat {
  readonly outOfTurn: number; // cycles more than slack
  readonly segment: number; // cycles by which best effort's segments pass the bound
}
export const HONEST: Cheat = { outOfTurn: 0, segment: 0 };

export interface Tally {
  schedules: number;
  segments: number;
  steps: number; // of servers
  outOfTurn: number; // pieces of work
  outOfTurnCycles: number;
  rowsBeside: number; // steps taken into somebody else's segment
  admitted: number;
  deferred: number; // of them, whose first period had to begin later
  refused: number;
  promises: number; // response bounds
  broken: number; // of them
  late: number; // steps that ended after their deadline, or after what the adversary's own sum says
  misses: number; // as the scheduler counts them
  noRoom: number; // times that nobody was due and a longest segment did not fit
  tightest: number; // the largest share of its response bound that a request took
}
export const emptyTally = (): Tally => ({
  schedules: 0,
  segments: 0,
  steps: 0,
  outOfTurn: 0,
  outOfTurnCycles: 0,
  rowsBeside: 0,
  admitted: 0,
  deferred: 0,
  refused: 0,
  promises: 0,
  broken: 0,
  late: 0,
  misses: 0,
  noRoom: 0,
  tightest: 0,
});

interface Client {
  readonly slot: number;
  readonly id: number;
  readonly budget: number; // of its server; 0: best effort
  readonly period: number;
  readonly stepMax: number;
  readonly habit: 'hog' | 'random' | 'misfit' | 'short';
  awake: boolean;
  wakeAt: number;
  steps: number[]; // bounds of the steps of its present request
  wokenAt: number;
  promiseAt: number;
  virtualQ: number; // its virtual time × Q, exact
  rounded: number; // cycles that the scheduler's, rounded up, is later at most
}

const MEMBERS_MAX = 9;
const LENGTH = 160; // of a schedule
/** Above it the adversary's own sums are no longer exact, and only the scheduler's deadlines and promises are held against the clock. */
const EXACT_MAX = 2 ** 52;

/** One schedule. `next` draws from [0, 1); all times are of the order of `unit` cycles. */
export class Adversary {
  private readonly sched: Scheduler;
  private readonly clients = new Map<number, Client>();
  private readonly segmentMax: number;
  private readonly spree: number; // how readily it works out of turn
  private now = 0;
  private ids = 0;

  constructor(
    private readonly next: () => number,
    private readonly tally: Tally,
    private readonly cheat: Cheat = HONEST,
    private readonly unit = 1,
  ) {
    const arena = new Arena(new ArrayBuffer(4096));
    const quiet = { show: String, onThrottle() {}, onRefill() {}, onMiss: () => void this.tally.misses++ };
    this.sched = new Scheduler(arena, arena.alloc(SCHED_BYTES), quiet);
    this.sched.configure('edf', 1_000_000);
    this.segmentMax = this.span(1, 9);
    this.spree = next();
  }

  run(): void {
    this.tally.schedules++;
    const count = this.whole(1, 6);
    for (let i = 0; i < count; i++) this.join();
    while (this.now < LENGTH * this.unit) this.turn();
  }

  private turn(): void {
    const { sched, next, now } = this;
    if (next() < 0.04) this.change();
    for (const c of this.clients.values()) if (!c.awake && c.wakeAt <= now) this.wake(c, now);
    const cost = (slot: number): number => this.clients.get(slot)!.steps[0]!;
    const order = sched.order(now, cost);
    const first = this.clients.get(order[0] ?? -1);
    const slack = sched.slack(now);
    const nobodyDue = first === undefined || first.budget === 0 || sched.server(first.slot).begin > now;
    if (nobodyDue && slack < this.segmentMax) this.tally.noRoom++;
    if (slack > 0 && slack < Infinity && next() < this.spree * (first === undefined ? 0.3 : 0.6)) {
      const most = slack + this.cheat.outOfTurn;
      this.outOfTurn(next() < 0.7 ? most : this.whole(1, most));
    } else if (first === undefined) this.idle();
    else this.pass(first, order, cost);
  }

  private outOfTurn(cycles: number): void {
    this.tally.outOfTurn++;
    this.tally.outOfTurnCycles += cycles;
    this.elapse(cycles);
  }

  private idle(): void {
    const wakes = [...this.clients.values()].filter(c => !c.awake).map(c => c.wakeAt);
    const until = Math.min(this.sched.nextEvent() ?? Infinity, this.now + this.span(1, 8), ...wakes);
    this.now = Math.max(until, this.now + 1);
  }

  /** The first one's step and, in the same segment, steps of others for which slack leaves room. */
  private pass(first: Client, order: readonly number[], cost: (slot: number) => number): void {
    const members = [first];
    let room = this.next() < 0.5 ? this.sched.slack(this.now, cost(first.slot)) + this.cheat.outOfTurn : 0;
    for (const slot of order.slice(1)) {
      if (cost(slot) > room || this.next() < 0.2) continue;
      room -= cost(slot);
      members.push(this.clients.get(slot)!);
      this.tally.rowsBeside++;
    }
    const taken = members.map(c => (this.next() < 0.7 ? c.steps[0]! : this.whole(1, c.steps[0]!)));
    const sum = taken.reduce((a, b) => a + b, 0);
    // A pass may save time; its members are charged as if each were alone.
    const time = members.length > 1 && this.next() < 0.5 ? this.whole(Math.max(...taken), sum) : sum;
    this.elapse(first.budget === 0 ? time + this.cheat.segment : time);
    for (const [i, c] of members.entries()) this.ended(c, taken[i]!);
  }

  /** A segment runs to its end; meanwhile sleepers wake, best of all together just after it has begun. */
  private elapse(cycles: number): void {
    this.tally.segments++;
    const end = this.now + cycles;
    const ambush = this.next() < 0.3;
    for (const c of this.clients.values()) {
      if (c.awake) continue;
      const at = ambush ? this.now + 1 : c.wakeAt;
      if (at > this.now && at < end) this.wake(c, at);
    }
    this.now = end;
  }

  private wake(c: Client, at: number): void {
    const count = c.habit === 'hog' ? 40 : this.whole(1, 6);
    const size: Record<Client['habit'], () => number> = {
      hog: () => c.stepMax,
      random: () => this.whole(1, c.stepMax),
      misfit: () => Math.min(c.stepMax, Math.floor(c.budget / 2) + 1),
      short: () => Math.min(c.stepMax, this.unit),
    };
    c.awake = true;
    c.wokenAt = at;
    c.steps = Array.from({ length: count }, size[c.habit]);
    this.sched.wake(c.slot, at);
    if (c.budget === 0) return;
    if (c.virtualQ + c.rounded * c.budget < at * c.budget) c.rounded = 0;
    c.virtualQ = Math.max(c.virtualQ, at * c.budget);
    c.promiseAt = at + this.sched.responseBound(c.slot, c.steps, at);
  }

  private ended(c: Client, taken: number): void {
    const { now, sched, tally } = this;
    c.steps.shift();
    if (c.budget > 0) {
      tally.steps++;
      c.rounded++;
      const own = Math.ceil(c.virtualQ / c.budget) + c.rounded + c.period;
      if (now > sched.deadline(c.slot) || (c.virtualQ < EXACT_MAX && now > own)) tally.late++;
      c.virtualQ += taken * c.period;
    }
    sched.charge(c.slot, taken, now);
    if (c.steps.length > 0) return;
    if (c.budget > 0) {
      tally.promises++;
      if (now > c.promiseAt) tally.broken++;
      tally.tightest = Math.max(tally.tightest, (now - c.wokenAt) / (c.promiseAt - c.wokenAt));
    }
    sched.sleep(c.slot);
    c.awake = false;
    c.wakeAt = now + (this.next() < 0.4 ? 0 : this.span(1, 60));
  }

  /** Somebody goes, in the middle of whatever it does, or comes. */
  private change(): void {
    const gone = [...this.clients.values()][this.whole(0, MEMBERS_MAX)];
    if (gone !== undefined) {
      this.sched.remove(gone.slot);
      this.clients.delete(gone.slot);
    }
    if (gone === undefined || this.next() < 0.7) this.join();
  }

  private join(): void {
    const { sched, next, now, tally } = this;
    const slot = Array.from({ length: MEMBERS_MAX }, (_, i) => i).find(i => !this.clients.has(i));
    if (slot === undefined) return;
    const id = ++this.ids;
    const period = this.span(2, next() < 0.5 ? 20 : 70);
    const most = this.mostBudget(period);
    const fromAt = now + (next() < 0.3 ? this.span(1, 10) : 0);
    const best = next() < 0.2 || most < 1;
    let budget = 0;
    if (best) sched.addBestEffort(slot, { session: id, priority: 0 });
    else {
      const kind = next() < 0.6 ? SERVER.hard : SERVER.soft;
      const admitted = (wanted: number): boolean => {
        budget = wanted;
        const server = { session: id, kind, budget, period, priority: 0 };
        const refusal = sched.admit(slot, server, now, this.segmentMax, fromAt);
        if (refusal !== null) tally.refused++;
        return refusal === null;
      };
      // More than there should be, then all that there is, or some of it.
      const greedy = next() < 0.05 && admitted(this.whole(most + 1, period));
      if (!greedy && !admitted(next() < 0.7 ? most : this.whole(1, most))) return;
      tally.admitted++;
      if (sched.server(slot).begin > fromAt) tally.deferred++;
    }
    const habits = best ? (['hog', 'random'] as const) : (['hog', 'random', 'misfit', 'short'] as const);
    const client: Client = {
      slot,
      id,
      budget,
      period,
      stepMax: best ? this.segmentMax : Math.min(budget, this.segmentMax),
      habit: habits[this.whole(0, habits.length - 1)]!,
      awake: false,
      wakeAt: now + (next() < 0.6 ? 0 : this.span(1, 30)),
      steps: [],
      wokenAt: 0,
      promiseAt: 0,
      virtualQ: best ? 0 : sched.server(slot).begin * budget,
      rounded: 0,
    };
    this.clients.set(slot, client);
    if (!best && fromAt > now) this.wake(client, fromAt); // it has work at once, and may begin then
  }

  /** The largest budget with this period that the blocking test leaves, by the formula in doubles. */
  private mostBudget(period: number): number {
    const servers = [...this.clients.values()].filter(c => c.budget > 0);
    const room = [period, ...servers.map(c => c.period)]
      .filter(p => p >= period)
      .map(p => 1 - this.segmentMax / p - servers.reduce((u, c) => u + (c.period <= p ? c.budget / c.period : 0), 0));
    return Math.floor(period * Math.min(...room) + 1e-9);
  }

  private span(least: number, most: number): number {
    return this.whole(least * this.unit, most * this.unit);
  }

  /** A whole number from `least` to `most`, both included. */
  private whole(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1));
  }
}
