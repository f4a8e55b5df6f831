// The scheduler once more, as plainly as it can be said: a list of objects, exact fractions, every moment tried instead of the ones that
// matter. What kernel/sched.ts computes must agree with it, operation by operation.

import { SERVER } from '../../kernel/abi/index.ts';
import type { StepCost } from '../../kernel/sched.ts';

export interface PlainSession {
  readonly slot: number;
  readonly session: number;
  readonly kind: number; // SERVER
  readonly priority: number;
  readonly budget: number;
  readonly period: number;
  state: 'asleep' | 'ready' | 'throttled';
  begin: number;
  used: number; // of the budget
  turn: number;
}

type Arrival = Pick<PlainSession, 'slot' | 'session' | 'kind' | 'priority' | 'budget' | 'period'>;

const byNumbers = (a: readonly number[], b: readonly number[]): number => {
  const i = a.findIndex((x, i) => x !== b[i]);
  return i < 0 ? 0 : a[i]! - b[i]!;
};

export class PlainScheduler {
  sessions: PlainSession[] = [];
  blocking = 0;
  private lastTurn = 0;

  /** Whether in every stretch of L the servers with periods up to L, and a segment, fit; and ⌊ppm⌋ add up to no more than the bound. */
  admits(s: Pick<Arrival, 'budget' | 'period'>, blocking: number, boundPpm: number): boolean {
    const all = [...this.servers(), s];
    const ppm = all.reduce((sum, { budget, period }) => sum + Math.floor((budget * 1e6) / period), 0);
    if (ppm > boundPpm) return false;
    const unit = all.reduce((product, { period }) => product * BigInt(period), 1n);
    const longest = Math.max(...all.map(({ period }) => period));
    for (let length = 1; length <= longest; length++) {
      const counted = all.filter(({ period }) => period <= length);
      const rate = counted.reduce((sum, { budget, period }) => sum + (BigInt(budget) * unit) / BigInt(period), 0n);
      if (counted.length > 0 && rate * BigInt(length) + BigInt(blocking) * unit > BigInt(length) * unit) return false;
    }
    return true;
  }

  /** The first begin from `fromAt` on at which nobody would lack anything at any later time. */
  firstBegin(s: Arrival, now: number, fromAt: number): number {
    const fresh = (begin: number): PlainSession => ({ ...s, state: 'asleep', begin, used: 0, turn: 0 });
    for (let begin = fromAt; ; begin++) {
      const all = [...this.servers(), fresh(begin)];
      const until = now + 2000;
      let fits = true;
      for (let time = begin + s.period; fits && time < until; time++) fits = left(all, now, time) >= 0;
      if (fits) return begin;
    }
  }

  add(s: Arrival, begin: number): void {
    this.sessions.push({ ...s, state: 'asleep', begin, used: 0, turn: 0 });
    this.sessions.sort((a, b) => a.slot - b.slot);
  }

  remove(slot: number): void {
    this.sessions = this.sessions.filter(s => s.slot !== slot);
  }

  wake(slot: number, now: number): void {
    const s = this.at(slot);
    if (s.state !== 'asleep') return;
    s.state = 'ready';
    if (s.kind !== SERVER.none) this.start(s, Math.max(s.begin, now), now);
    this.line(s, now);
  }

  sleep(slot: number): void {
    const s = this.at(slot);
    if (s.state === 'asleep') return;
    if (s.kind !== SERVER.none) s.begin = virtual(s);
    s.used = 0;
    s.state = 'asleep';
  }

  advance(now: number, cost: StepCost): void {
    for (const s of this.servers()) {
      if (s.state === 'throttled' && s.begin <= now) s.state = 'ready';
      if (s.state !== 'ready' || s.used + cost(s.slot) <= s.budget) continue;
      this.start(s, virtual(s), now);
    }
  }

  order(now: number): number[] {
    const key = (s: PlainSession): number[] =>
      this.isDue(s, now) ? [0, s.begin + s.period, s.session] : [1, s.turn, s.session];
    const ready = this.sessions.filter(s => s.state === 'ready');
    return ready.sort((a, b) => byNumbers(key(a), key(b))).map(s => s.slot);
  }

  charge(slot: number, cycles: number, now: number): void {
    const s = this.at(slot);
    if (!this.isDue(s, now)) this.lastTurn = s.turn += cycles;
    if (s.kind !== SERVER.none) s.used += cycles;
  }

  nextEvent(): number | null {
    const times = this.sessions.filter(s => s.state === 'throttled').map(s => s.begin);
    return times.length === 0 ? null : Math.min(...times);
  }

  /** What is left at the time at which least is left, less `beside` before the first deadline of those who are due. */
  slack(now: number, beside: number): number {
    const servers = this.servers();
    if (servers.length === 0) return Infinity;
    const due = servers.filter(s => this.isDue(s, now) && s.state !== 'asleep').map(s => s.begin + s.period);
    const last = Math.max(...servers.map(s => deadline(s, now)));
    let slack = Infinity;
    for (let time = now; time <= last; time++) {
      if (servers.every(s => deadline(s, now) > time)) continue;
      slack = Math.min(slack, left(servers, now, time) - (due.some(d => d <= time) ? 0 : beside));
    }
    return slack;
  }

  private start(s: PlainSession, begin: number, now: number): void {
    s.begin = begin;
    s.used = 0;
    if (begin <= now) return;
    if (s.kind === SERVER.hard) s.state = 'throttled';
    else this.line(s, now);
  }

  private line(s: PlainSession, now: number): void {
    const others = this.sessions.filter(o => o !== s && o.state === 'ready' && !this.isDue(o, now));
    s.turn = Math.max(s.turn, others.length === 0 ? this.lastTurn : Math.min(...others.map(o => o.turn)));
  }

  private isDue(s: PlainSession, now: number): boolean {
    return s.kind !== SERVER.none && s.begin <= now;
  }
  private servers(): PlainSession[] {
    return this.sessions.filter(s => s.kind !== SERVER.none);
  }
  private at(slot: number): PlainSession {
    return this.sessions.find(s => s.slot === slot)!;
  }
}

/** begin + used · T/Q, rounded up. */
function virtual({ begin, used, budget, period }: PlainSession): number {
  return begin + Math.ceil((used * period) / budget);
}

function deadline(s: PlainSession, now: number): number {
  return (s.state === 'asleep' ? Math.max(s.begin, now) : s.begin) + s.period;
}

/** time − now less what these servers may ask for by `time`; rounded down. */
function left(servers: readonly PlainSession[], now: number, time: number): number {
  const unit = servers.reduce((product, { period }) => product * BigInt(period), 1n);
  let sum = BigInt(time - now) * unit;
  for (const s of servers) {
    const late = time - deadline(s, now);
    if (late < 0) continue;
    sum -= BigInt(s.budget - s.used) * unit + (BigInt(late * s.budget) * unit) / BigInt(s.period);
  }
  const whole = sum / unit;
  return Number(sum < 0n && whole * unit !== sum ? whole - 1n : whole);
}
