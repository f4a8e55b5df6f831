// The dispatcher: which rows go through the plan next. One pass over the weights takes steps of several sessions: of the first in the
// scheduler's order always, of others while there are rows, while the pass stays as short as was promised, and while no server's deadline
// would be missed for it (Orca's iteration-level batching, under EDF). It also says who waits: in the queue, for pages, for a reader or a pace.

import type { Engine } from './abi/index.ts';
import { lengthOf, type Charging } from './charging.ts';
import type { PlanPrices } from './costs.ts';
import type { Life } from './life.ts';
import { isChunkBegin, Passes, type Part } from './pass.ts';
import type { Residency } from './residency.ts';
import { Samples, SAMPLES_BYTES } from './samples.ts';
import { TRAIN_SLOT } from './sched.ts';
import type { Segments } from './segments.ts';
import type { Service } from './service.ts';
import type { Session } from './session.ts';
import type { Trainer } from './train/trainer.ts';
import { transferCycles } from './wcet/targets.ts';

/** What the pass at hand, or the last one, has taken so far, and takes at most; the prices of its plan. Null: there was none. */
export interface PassFigures {
  readonly cycles: number;
  readonly bound: number;
  readonly prices: PlanPrices | null;
}

/** A pass that has begun: its parts, the most that it takes, and when it began. */
interface Running {
  readonly parts: readonly Part[];
  readonly bound: number;
  readonly from: number;
  readonly fromNs: number;
}

export class Dispatcher {
  /** Sessions in a pass at most; 0: as many as there are rows. */
  sessionsMax = 0;
  readonly figures = { passes: 0, rows: 0, spent: 0, busyNs: 0, preemptions: 0 };
  readonly stepNs: Samples;
  readonly slackNs: Samples;
  readonly jitterNs: Samples;
  readonly passes: Passes;
  /** Who was in the last pass. */
  private last: readonly Session[] = [];
  /** The pass that the processor is held in the middle of; null: it is not. */
  private held: Running | null = null;
  /** The pass that has ended last. */
  private ended: PassFigures = { cycles: 0, bound: 0, prices: null };

  constructor(
    private readonly k: Service,
    private readonly charging: Charging,
    private readonly residency: Residency,
    private readonly segments: Segments,
    private readonly life: Life,
    private readonly training: Trainer,
  ) {
    const { arena, lay } = k;
    this.passes = new Passes(k, charging, residency, life);
    this.stepNs = new Samples(arena, lay.samplesAt + SAMPLES_BYTES);
    this.slackNs = new Samples(arena, lay.samplesAt + 2 * SAMPLES_BYTES);
    this.jitterNs = new Samples(arena, lay.samplesAt + 3 * SAMPLES_BYTES);
  }

  // ── What comes next ────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The processor is held in the middle of a pass: run() goes on with it. */
  get isHeld(): boolean {
    return this.held !== null;
  }

  get latest(): PassFigures {
    const { clock, loader, processor } = this.k;
    if (this.held === null) return this.ended;
    const { from, bound } = this.held;
    return { cycles: clock.cycles() - from + processor.unbooked, bound, prices: loader.prices() };
  }

  /** One segment: a pass, a slice of a training, a page moved, or reads that have failed waited for. False when nothing can run. */
  run(): boolean {
    const { loader, sched, clock, table, streams } = this.k;
    if (this.held !== null) {
      this.go(this.held);
      return true;
    }
    const engine = loader.engine();
    if (engine === null) return false;
    if (streams.hasFailed) return this.drain();
    const ended = this.end();
    const begun = this.begin(engine);
    this.residency.settle();
    this.resume();
    const order = this.order(engine);
    for (const slot of order) {
      if (slot === TRAIN_SLOT) {
        this.training.slice();
        return true;
      }
      const s = table.at(slot)!;
      if (this.residency.isReady(s, s.get('pos') + this.alone(s, engine))) {
        this.pass(engine, order.slice(order.indexOf(slot)));
        return true;
      }
      if (!this.residency.mayMove(s)) continue;
      const from = clock.cycles();
      if (this.residency.move(s, order)) {
        sched.charge(slot, clock.cycles() - from, clock.cycles());
        this.segments.seen = Math.max(this.segments.seen, clock.cycles() - from);
        return true;
      }
      this.suspend(s);
    }
    return ended || begun;
  }

  /** Weights that were read ahead have failed: what is on its way with them is waited for, and the next pass asks again. */
  private drain(): true {
    const { streams, clock } = this.k;
    const from = clock.cycles();
    streams.drain();
    this.segments.seen = Math.max(this.segments.seen, clock.cycles() - from);
    return true;
  }

  /** Whether work that is nobody's step may take the processor for so long, and no server misses a deadline for it. */
  mayTake(cycles: number): boolean {
    return cycles <= this.slack();
  }

  /** For how long it may; Infinity where nobody is served. */
  slack(): number {
    const engine = this.k.loader.engine();
    if (engine === null || this.k.table.servers === 0) return Infinity;
    this.order(engine);
    return this.k.sched.slack(this.k.clock.cycles());
  }

  /** Who has a step to run, in order, as of now. */
  private order(engine: Engine): readonly number[] {
    const { sched, clock, table } = this.k;
    this.rouse();
    return sched.order(clock.cycles(), slot =>
      slot === TRAIN_SLOT ? this.training.next : this.nextCycles(table.at(slot)!, engine),
    );
  }

  /** The next moment at which something can run that cannot now, in cycles; null: nothing waits for time. */
  nextEvent(): number | null {
    const { clock, sched, table } = this.k;
    const paced = table.live().filter(s => s.isRunning && !s.output.isFull && s.u64('pacedNs') > clock.nowNs());
    const times = paced.map(s => clock.cyclesAt(s.u64('pacedNs')));
    const refill = sched.nextEvent();
    if (refill !== null) times.push(refill);
    return times.length === 0 ? null : Math.min(...times);
  }

  /** The first moment at which a session has taken too long, in cycles; null: none can. */
  nextTimeout(): number | null {
    const times = this.k.table.live().map(s => s.u64('timeoutNs'));
    const first = Math.min(...times.filter(ns => ns !== 0));
    return Number.isFinite(first) ? this.k.clock.cyclesAt(first + 1) : null;
  }

  /** Ends what was cancelled, or has taken too long. */
  private end(): boolean {
    const nowNs = this.k.clock.nowNs();
    let ended = false;
    for (const s of this.k.table.live()) {
      const late = s.u64('timeoutNs') !== 0 && nowNs > s.u64('timeoutNs');
      if (!s.isCancelled && !late) continue;
      this.life.finish(s, s.isCancelled ? 'cancel' : 'timeout');
      ended = true;
    }
    return ended;
  }

  /** The next in the queue begins when there is a slot, and pages for its prompt, or nobody else who could use them. */
  private begin(engine: Engine): boolean {
    const { table, sched, costs } = this.k;
    const urgency = (s: Session): number => (sched.policy === 'fp' ? s.get('priority') : 0);
    let begun = false;
    for (;;) {
      const queue = table.live().filter(s => s.isQueued);
      const next = queue.sort((a, b) => urgency(a) - urgency(b))[0];
      if (next === undefined || table.live().some(s => s.isSuspended)) return begun;
      if (!this.residency.fits(next) && this.anyoneRuns()) return begun;
      if (!this.mayTake(transferCycles(costs.target, next.idCount * 4).upper)) return begun;
      const place = this.life.place();
      if (place === 0) return begun;
      this.life.begin(next, engine, place);
      begun = true;
    }
  }

  /** A session that waits for its pages goes on when there is room, or nobody else who could use it. */
  private resume(): void {
    let isBlocked = false; // by one that came before and waits on
    for (const s of this.k.table.live()) {
      if (!s.isSuspended || (isBlocked && !s.isServer)) continue;
      isBlocked = !this.residency.fits(s) && this.anyoneRuns();
      if (isBlocked) continue;
      s.isSuspended = false;
      this.residency.regain(s);
    }
  }

  private suspend(s: Session): void {
    s.isSuspended = true;
    s.isAwake = false;
    this.k.sched.sleep(s.slot);
  }

  /** A session that has something to do, and pages to do it with or a claim on them: without a server, or with one and not its pages yet. */
  private anyoneRuns(): boolean {
    const nowNs = this.k.clock.nowNs();
    return this.k.table.live().some(s => !s.isResident && this.canRun(s, nowNs));
  }

  private canRun(s: Session, nowNs: number): boolean {
    return s.isRunning && !s.isSuspended && !s.output.isFull && s.u64('pacedNs') <= nowNs;
  }

  /** Tells the scheduler who has a step to run, and who waits. */
  private rouse(): void {
    const { clock, sched, table } = this.k;
    const nowNs = clock.nowNs();
    this.training.rouse();
    for (const s of table.live()) {
      const awake = this.canRun(s, nowNs);
      if (awake === s.isAwake) continue;
      s.isAwake = awake;
      if (awake) sched.wake(s.slot, clock.cycles());
      else if (!s.isQueued) sched.sleep(s.slot);
    }
  }

  // ── Steps ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Rows of a session's next step when there are `rows`: up to the next whole chunk of its prompt, or one token. */
  private rowsOf(s: Session, engine: Engine, rows: number): number {
    const pos = s.get('pos');
    const chunk = s.get('chunk');
    return Math.min(lengthOf(s, engine) - pos, chunk - (pos % chunk), rows);
  }

  /** The most that its next step takes: a page moved where one is lacking. */
  private nextCycles(s: Session, engine: Engine): number {
    const n = this.alone(s, engine);
    const pos = s.get('pos');
    if (!this.residency.isReady(s, pos + n)) return this.residency.moveCycles();
    return Math.max(1, this.boundOf(s, engine, pos, n));
  }

  /** The most that a step of `n` rows takes: the text of a chunk that is scored comes from storage first. */
  private boundOf(s: Session, engine: Engine, pos: number, n: number): number {
    const cycles = this.charging.step(s, engine, pos, n);
    if (!isChunkBegin(s, pos)) return cycles;
    return cycles + transferCycles(this.k.costs.target, lengthOf(s, engine) * 4).upper;
  }

  /** Rows of its next step by itself: as many as a pass may take. */
  private alone(s: Session, engine: Engine): number {
    const { passMax } = this.segments;
    let n = this.rowsOf(s, engine, engine.options.batch);
    while (n > 1 && this.boundOf(s, engine, s.get('pos'), n) > passMax) n--;
    return n;
  }

  /** The pass that begins with `first`, and the most that it takes. */
  private form(
    first: Session,
    engine: Engine,
    order: readonly number[],
  ): { readonly parts: readonly Part[]; readonly bound: number } {
    const { sched, clock, loader, table } = this.k;
    const prices = loader.prices();
    const { batch } = engine.options;
    const parts = [this.part(first, engine, this.alone(first, engine), 0)];
    let { n: rows, positions, bound: cycles } = parts[0]!;
    this.residency.take(first, first.get('pos') + rows);
    const sessions = this.sessionsMax === 0 ? batch : this.sessionsMax;
    // A training's server alone holds nobody up.
    const slack = table.servers === 0 ? Infinity : sched.slack(clock.cycles(), cycles);
    const most = Math.min(this.segments.passMax, cycles + slack);
    for (const slot of order.slice(1)) {
      if (slot === TRAIN_SLOT) continue;
      if (rows === batch || parts.length === sessions || cycles >= most) break;
      const s = table.at(slot)!;
      if (s.isSuspended) continue;
      const whole = this.alone(s, engine);
      // A server's steps are those that its response was computed from.
      if (s.isServer && whole > batch - rows) continue;
      const part = this.part(s, engine, Math.min(whole, this.rowsOf(s, engine, batch - rows)), rows);
      // Nobody joins whose rows add more to the pass than they take alone: what is charged then covers what is spent.
      const together = prices.passMost(rows + part.n, positions + part.positions) - prices.passMost(rows, positions);
      const added = part.bound - prices.passMost(part.n, part.positions) + together;
      if (cycles + added > most || added > part.bound || !this.residency.isReady(s, part.pos + part.n)) continue;
      this.residency.take(s, part.pos + part.n);
      parts.push(part);
      rows += part.n;
      positions += part.positions;
      cycles += added;
    }
    return { parts, bound: cycles };
  }

  private part(s: Session, engine: Engine, n: number, first: number): Part {
    const prices = this.k.loader.prices();
    const pos = s.get('pos');
    let positions = 0;
    for (let p = pos; p < pos + n; p++) positions += prices.bodyPosition(p);
    return { s, pos, n, row: first, positions, bound: this.boundOf(s, engine, pos, n) };
  }

  // ── A pass ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private pass(engine: Engine, order: readonly number[]): void {
    const { clock, table } = this.k;
    const { parts, bound } = this.form(table.at(order[0]!)!, engine, order);
    const [from, fromNs] = [clock.cycles(), clock.nowNs()];
    this.preempt(parts, order);
    this.passes.begin(engine, parts);
    this.go({ parts, bound, from, fromNs });
  }

  /** Runs a pass to its end, and notes what it was; or on to where the processor is to be held. */
  private go(pass: Running): void {
    const { clock, loader, trace, breached } = this.k;
    const alone = this.passes.go();
    this.held = alone === null ? pass : null;
    if (alone === null) return;
    const { parts, bound, from, fromNs } = pass;
    const rows = parts.reduce((n, part) => n + part.n, 0);
    const cycles = clock.cycles() - from;
    const durationNs = clock.nowNs() - fromNs;
    const [{ s: first, pos }] = parts as [Part];
    if (cycles > bound) {
      const outputTokens = first.get('outputTokens');
      breached({ what: 'pass', session: first.id, outputTokens, pos, charged: cycles, most: bound, least: 0 });
    }
    this.ended = { cycles, bound, prices: loader.prices() };
    const f = this.figures;
    f.passes++;
    f.rows += rows;
    f.spent += cycles;
    f.busyNs += durationNs;
    this.segments.seen = Math.max(this.segments.seen, cycles);
    trace.emit('pass', 0, rows, parts.length, durationNs);
    this.residency.traceMemory();
    const spent = shares(parts, alone, cycles);
    for (const [i, part] of parts.entries()) this.account(part, spent[i]!, durationNs);
  }

  /** Whoever was in the last pass, has more to do, and is not in this one, has been preempted by its first session. */
  private preempt(parts: readonly Part[], order: readonly number[]): void {
    const [{ s: first }] = parts as [Part];
    for (const s of this.last) {
      const isGone = this.k.table.at(s.slot) !== s; // its slot may be another's by now
      if (isGone || !order.includes(s.slot) || s.hasEnded || parts.some(part => part.s === s)) continue;
      s.set('preemptions', s.get('preemptions') + 1);
      this.figures.preemptions++;
      this.k.trace.emit('preempt', s.id, first.id, 0);
    }
    this.last = parts.map(part => part.s);
  }

  /** Notes what a step was, and tells the scheduler. */
  private account({ s, pos, n, bound }: Part, cycles: number, durationNs: number): void {
    const { clock, sched, trace } = this.k;
    s.setU64('ranNs', clock.nowNs());
    trace.emit(pos < s.get('promptTokens') || s.isScore ? 'prefill' : 'decode', s.id, pos, n, durationNs);
    this.stepNs.add(durationNs);
    this.jitterNs.add(clock.nsOf(Math.max(0, bound - cycles)));
    if (s.hasEnded) return;
    sched.charge(s.slot, cycles, clock.cycles());
    if (!s.isServer) return;
    const slackNs = clock.nsOf(Math.max(0, sched.deadline(s.slot) - clock.cycles()));
    s.noteSlack(slackNs);
    this.slackNs.add(slackNs);
  }
}

/**
 * What each part of a pass of `cycles` has had of the processor: what it takes alone, and where slow reads have made the pass longer than all of them
 * together, of that as much as it had been promised more. Nobody has more than its bound.
 */
function shares(parts: readonly Part[], alone: readonly number[], cycles: number): readonly number[] {
  let excess = cycles - alone.reduce((sum, own) => sum + own, 0);
  if (excess <= 0) return alone;
  const room = parts.map(({ bound }, i) => Math.max(0, bound - alone[i]!));
  const all = room.reduce((sum, left) => sum + left, 0);
  const part = room.map(left => (all === 0 ? 0 : Math.min(left, Math.floor((excess / all) * left))));
  excess -= part.reduce((sum, more) => sum + more, 0);
  return alone.map((own, i) => {
    const rest = Math.min(excess, room[i]! - part[i]!); // of a few cycles that rounding has left
    excess -= rest;
    return own + part[i]! + rest;
  });
}
