// The dispatcher: which rows go through the plan next. One pass over the weights takes steps of several sessions: of the first in the
// scheduler's order always, of others while there are rows, while the pass stays as short as was promised, and while no server's deadline
// would be missed for it (Orca's iteration-level batching, under EDF). Nothing runs between a pass's beginning and its last draw, and
// nothing in it allocates arena memory: it is the longest segment that is not preempted.

import { FAULT, LIMITS, RowRecord, SamplerRecord, SESSION_FLAG, StepBlock, type Engine } from './abi/index.ts';
import { lengthOf, type Charging } from './charging.ts';
import type { Life } from './life.ts';
import type { Residency } from './residency.ts';
import { Samples, SAMPLES_BYTES } from './samples.ts';
import type { Segments } from './segments.ts';
import type { Service } from './service.ts';
import { STATE, type Session } from './session.ts';
import type { Segment } from './wcet/price.ts';
import { transferCycles } from './wcet/targets.ts';

const step = StepBlock.at;
const row = RowRecord.at;
const EMPTY = new Uint8Array(0);

/** One session's rows in a pass. */
interface Part {
  readonly s: Session;
  readonly pos: number;
  readonly n: number;
  /** Its first row. */
  readonly row: number;
  /** What they take alone, at most. */
  readonly bound: number;
}

export class Dispatcher {
  /** Sessions in a pass at most; 0: as many as there are rows. */
  sessionsMax = 0;
  readonly figures = { passes: 0, rows: 0, spent: 0, busyNs: 0, preemptions: 0 };
  readonly stepNs: Samples;
  readonly slackNs: Samples;
  readonly jitterNs: Samples;
  /** The id of the session whose segment is running, for panics; 0 = none. */
  current = 0;
  /** Who was in the last pass. */
  private last: readonly Session[] = [];

  constructor(
    private readonly k: Service,
    private readonly charging: Charging,
    private readonly residency: Residency,
    private readonly segments: Segments,
    private readonly life: Life,
  ) {
    const { arena, lay } = k;
    this.stepNs = new Samples(arena, lay.samplesAt + SAMPLES_BYTES);
    this.slackNs = new Samples(arena, lay.samplesAt + 2 * SAMPLES_BYTES);
    this.jitterNs = new Samples(arena, lay.samplesAt + 3 * SAMPLES_BYTES);
  }

  // ── What comes next ────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** One segment: a pass, or a page moved. False when nothing can run. */
  run(): boolean {
    const { loader, sched, clock, table } = this.k;
    const engine = loader.engine();
    if (engine === null) return false;
    const ended = this.end();
    const begun = this.begin(engine);
    this.resume();
    const order = this.order(engine);
    for (const slot of order) {
      const s = table.at(slot)!;
      if (this.residency.isReady(s, s.get('pos') + this.alone(s, engine))) {
        this.pass(engine, this.form(s, engine, order));
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

  /** Whether work that is nobody's step may take the processor for so long, and no server misses a deadline for it. */
  mayTake(cycles: number): boolean {
    const engine = this.k.loader.engine();
    if (engine === null || this.k.table.servers === 0) return true;
    this.order(engine);
    return cycles <= this.k.sched.slack(this.k.clock.cycles());
  }

  /** Who has a step to run, in order, as of now. */
  private order(engine: Engine): readonly number[] {
    const { sched, clock, table } = this.k;
    this.rouse();
    return sched.order(clock.cycles(), slot => this.nextCycles(table.at(slot)!, engine));
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
      const place = this.place();
      if (place === 0) return begun;
      this.life.begin(next, engine, place);
      begun = true;
    }
  }

  private place(): number {
    const free = this.residency.freePlace();
    if (free !== 0) return free;
    const oldest = this.k.table.evictable().find(s => s.get('place') !== 0);
    if (oldest === undefined) return 0;
    this.life.forget(oldest);
    return this.residency.freePlace();
  }

  /** A session that waits for its pages goes on when there is room, or nobody else who could use it. */
  private resume(): void {
    for (const s of this.k.table.live()) {
      if (!s.isSuspended) continue;
      if (!this.residency.fits(s) && this.anyoneRuns()) return;
      s.isSuspended = false;
      this.residency.regain(s);
    }
  }

  private suspend(s: Session): void {
    s.isSuspended = true;
    s.isAwake = false;
    this.k.sched.sleep(s.slot);
  }

  /** A session without a server that has something to do, and pages to do it with. */
  private anyoneRuns(): boolean {
    const nowNs = this.k.clock.nowNs();
    return this.k.table.live().some(s => !s.isServer && this.canRun(s, nowNs));
  }

  private canRun(s: Session, nowNs: number): boolean {
    return s.isRunning && !s.isSuspended && !s.output.isFull && s.u64('pacedNs') <= nowNs;
  }

  /** Tells the scheduler who has a step to run, and who waits. */
  private rouse(): void {
    const { clock, sched, table } = this.k;
    const nowNs = clock.nowNs();
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

  /** The pass that begins with `first`. */
  private form(first: Session, engine: Engine, order: readonly number[]): Part[] {
    const { sched, clock, loader, table } = this.k;
    const prices = loader.prices();
    const { batch } = engine.options;
    const parts = [this.part(first, engine, this.alone(first, engine), 0)];
    let rows = parts[0]!.n;
    let cycles = parts[0]!.bound;
    this.residency.take(first, first.get('pos') + rows);
    if (first.isAlone) return parts;
    const sessions = this.sessionsMax === 0 ? batch : this.sessionsMax;
    const most = Math.min(this.segments.passMax, cycles + sched.slack(clock.cycles(), cycles));
    for (const slot of order.slice(order.indexOf(first.slot) + 1)) {
      if (rows === batch || parts.length === sessions || cycles >= most) break;
      const s = table.at(slot)!;
      if (s.isAlone || s.isSuspended) continue;
      const whole = this.alone(s, engine);
      // A server's steps are those that its response was computed from.
      if (s.isServer && whole > batch - rows) continue;
      const part = this.part(s, engine, Math.min(whole, this.rowsOf(s, engine, batch - rows)), rows);
      // What the rows add to the pass is no more than they take alone.
      const added = part.bound - prices.bodyTokens(part.n) + prices.bodyTokens(rows + part.n) - prices.bodyTokens(rows);
      if (cycles + added > most || !this.residency.isReady(s, part.pos + part.n)) continue;
      this.residency.take(s, part.pos + part.n);
      parts.push(part);
      rows += part.n;
      cycles += added;
    }
    return parts;
  }

  private part(s: Session, engine: Engine, n: number, first: number): Part {
    const pos = s.get('pos');
    return { s, pos, n, row: first, bound: this.boundOf(s, engine, pos, n) };
  }

  // ── A pass ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private pass(engine: Engine, parts: readonly Part[]): void {
    const { clock, trace } = this.k;
    const [from, fromNs] = [clock.cycles(), clock.nowNs()];
    const rows = parts.reduce((n, part) => n + part.n, 0);
    this.preempt(parts);
    for (const part of parts) this.prepare(part, engine);
    const alone = parts.map(part => ({ part, cycles: 0 }));
    if (this.body(engine, parts, rows)) for (const a of alone) a.cycles = this.finishStep(a.part, engine);
    this.current = 0;

    const cycles = clock.cycles() - from;
    const durationNs = clock.nowNs() - fromNs;
    const f = this.figures;
    f.passes++;
    f.rows += rows;
    f.spent += cycles;
    f.busyNs += durationNs;
    this.segments.seen = Math.max(this.segments.seen, cycles);
    trace.emit('pass', 0, rows, parts.length, durationNs);
    this.residency.traceMemory();
    for (const a of alone) this.account(a.part, a.cycles, durationNs);
  }

  /** Whoever was in the last pass, has more to do, and is not in this one, has been preempted by its first session. */
  private preempt(parts: readonly Part[]): void {
    const [{ s: first }] = parts as [Part];
    for (const s of this.last) {
      if (!s.isAwake || parts.some(part => part.s === s)) continue;
      s.set('preemptions', s.get('preemptions') + 1);
      this.figures.preemptions++;
      this.k.trace.emit('preempt', s.id, first.id, 0);
    }
    this.last = parts.map(part => part.s);
  }

  /** Writes a session's rows. */
  private prepare({ s, pos, n, row: first }: Part, engine: Engine): void {
    const { arena, lay } = this.k;
    if (isChunkBegin(s, pos)) this.life.beginChunk(s, engine);
    const { historyAt, tableAt } = this.residency.slotOf(s)!;
    for (let i = 0; i < n; i++) {
      const at = lay.rowsAt + (first + i) * RowRecord.bytes;
      arena.u32[(at + row.token) >> 2] = arena.u32[(historyAt >> 2) + pos + i]!;
      arena.u32[(at + row.pos) >> 2] = pos + i;
      arena.u32[(at + row.tableAt) >> 2] = tableAt;
      arena.u32[(at + row.session) >> 2] = s.id;
    }
  }

  /** hot: all rows through the layers. False when the pass faulted, and nobody has come any further. */
  private body(engine: Engine, parts: readonly Part[], rows: number): boolean {
    const { lay, loader } = this.k;
    const [{ s: first, pos }] = parts as [Part];
    this.current = first.id;
    this.set(step.rowsAt, lay.rowsAt);
    this.set(step.logitsAt, engine.logitsAt);
    this.set(step.vocabulary, engine.vocabulary.count);
    this.set(step.kvAt, engine.kvAt);
    this.set(step.ctx, engine.options.ctx);
    this.set(step.n, rows);
    const prices = loader.prices();
    let price = engine.bodyAt === 0 ? 0 : prices.bodyTokens(rows);
    if (engine.bodyAt !== 0)
      for (const part of parts) for (let p = part.pos; p < part.pos + part.n; p++) price += prices.bodyPosition(p);
    const { status, cycles } = this.segment(engine.bodyAt);
    if (status === FAULT.none && this.charging.isCharged(first, 'body', pos, cycles, price)) return true;
    // Of several it is not known whose values were not finite: each runs alone the next time.
    if (parts.length === 1 || status === FAULT.none) for (const { s } of parts) this.life.finish(s, 'fault');
    else for (const { s } of parts) s.isAlone = true;
    return false;
  }

  /** hot: what follows a session's rows: the draw, or the losses. Returns what the step took alone. */
  private finishStep({ s, pos, n, row: first }: Part, engine: Engine): number {
    const prices = this.k.loader.prices();
    let cycles = prices.bodyTokens(n);
    for (let p = pos; p < pos + n; p++) cycles += prices.bodyPosition(p);
    this.current = s.id;
    s.isAlone = false;
    s.set('pos', pos + n);
    this.residency.computed(s, pos, pos + n);
    this.charging.body(s, engine, pos + n);
    const before = s.u64('cycles');
    if (s.isScore) this.score(s, engine, pos, n, first);
    else if (pos + n === lengthOf(s, engine)) this.draw(s, engine, first + n - 1);
    return cycles + (s.u64('cycles') - before);
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

  // ── Draws and losses ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Logits of a row of the pass, the draw, and what follows from it. */
  private draw(s: Session, engine: Engine, from: number): void {
    const { arena, lay, budget, clock, compute, costs } = this.k;
    const { historyAt, stateAt } = this.residency.slotOf(s)!;
    const fromNs = clock.nowNs();
    if (s.has(SESSION_FLAG.stream) && !budget.token()) return this.life.finish(s, 'quota');
    this.set(step.row, from);
    this.set(step.replyAt, stateAt);
    const length = lengthOf(s, engine);
    if (!this.priced(s, 'head', engine.headAt, length - 1)) return;
    const k = s.get('logitsK');
    if (k > 0) {
      compute.top_k(engine.logitsAt, engine.vocabulary.count, k, lay.topAt);
      s.charge(costs.settle());
    }
    this.sampler(s);
    this.set(step.samplerAt, lay.samplerAt);
    this.set(step.historyAt, historyAt);
    this.set(step.historyLength, length);
    this.set(step.draw, this.charging.random(s));
    if (!this.priced(s, 'sample', engine.sampleAt, length - 1)) return;
    if (!this.charging.isDrawn(s, engine, length - 1)) return this.life.finish(s, 'fault');
    const token = arena.i32[(lay.stepAt + step.next) >> 2]!;
    arena.u32[(historyAt >> 2) + length] = token;
    s.set('outputTokens', s.get('outputTokens') + 1);
    s.set('state', STATE.decode);
    this.accept(s, engine, token, k, fromNs);
  }

  private sampler(s: Session): void {
    const { arena, lay } = this.k;
    SamplerRecord.write(arena.u8, lay.samplerAt, {
      temp: s.f32('temp'),
      topK: s.get('topK'),
      topP: s.f32('topP'),
      minP: s.f32('minP'),
      repeatPenalty: s.f32('repeatPenalty'),
      modes: s.draw.modes,
    });
  }

  /** A token was drawn: its event, its text, when the next may come, and whether it is the last. */
  private accept(s: Session, engine: Engine, token: number, k: number, fromNs: number): void {
    const { arena, clock, lay, pace, trace } = this.k;
    const nowNs = clock.nowNs();
    const outputTokens = s.get('outputTokens');
    if (outputTokens === 1) {
      s.setU64('firstTokenNs', nowNs);
      this.life.firstTokenNs.add(nowNs - s.u64('submittedNs'));
    }
    trace.emit('token', s.id, token, outputTokens, nowNs - fromNs);
    const end = engine.vocabulary.isEnd(token);
    let piece: Uint8Array = EMPTY;
    if (!end) {
      const bytes = engine.vocabulary.piece(token, lay.dmaAt, LIMITS.dmaBytes, false);
      piece = arena.u8.slice(lay.dmaAt, lay.dmaAt + Math.max(0, bytes));
    }
    const shown = Math.min(k, engine.vocabulary.count) * 8; // {id, logit}
    const stopped = s.output.token(token, piece, k === 0 ? EMPTY : arena.u8.slice(lay.topAt, lay.topAt + shown));
    if (s.has(SESSION_FLAG.paced))
      s.setU64('pacedNs', nowNs + pace.delayNs(clock.nsOf(s.u64('wcetCycles')), s.get('maxTokens')));
    if (end) this.life.finish(s, 'eos');
    else if (stopped) this.life.finish(s, 'stop');
    else if (outputTokens >= s.get('maxTokens')) this.life.finish(s, 'length');
    else if (s.get('promptTokens') + outputTokens >= engine.options.ctx) this.life.finish(s, 'context');
  }

  /**
   * Losses of a pass's rows. A text is cut into chunks of context − 1 tokens, each behind a first token if the model has one; every text
   * token but the first of a chunk is scored.
   */
  private score(s: Session, engine: Engine, pos: number, n: number, first: number): void {
    const { arena, lay } = this.k;
    const history = this.residency.slotOf(s)!.historyAt >> 2;
    const length = lengthOf(s, engine);
    for (let p = pos; p < pos + n; p++) {
      if (!this.charging.isScored(s, engine, p)) continue;
      this.set(step.row, first + p - pos);
      this.set(step.target, arena.u32[history + p + 1]!);
      if (!this.priced(s, 'head', engine.headAt, p) || !this.priced(s, 'score', engine.scoreAt, p)) return;
      s.addLoss(arena.f64[(lay.stepAt + step.loss) >> 3]!);
    }
    s.set('scoredTo', Math.max(s.get('scoredTo'), pos + n));
    if (pos + n < length) return;
    const done = s.get('promptTokens') + Math.min(engine.options.ctx - 1, s.idCount - s.get('promptTokens'));
    s.set('promptTokens', done);
    s.set('pos', 0);
    s.set('priced', 0);
    s.set('scoredTo', 0);
    s.output.progress(done, s.nllSum);
    if (done >= s.idCount) this.life.finish(s, 'length');
  }

  // ── Segments ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** hot: a segment for one session, charged to it. False when it has faulted. */
  private priced(s: Session, what: Segment, opAt: number, pos: number): boolean {
    if (opAt === 0) return true; // an engine without this segment
    const { status, cycles } = this.segment(opAt);
    s.charge(cycles);
    const price = this.k.loader.prices().charged(what, 1, pos);
    const asSaid = (): boolean => what === 'sample' || this.charging.isCharged(s, what, pos, cycles, price);
    if (status === FAULT.none && asSaid()) return true;
    this.life.finish(s, 'fault');
    return false;
  }

  /** hot: one call into WebAssembly; what it cost goes to the clock. */
  private segment(opAt: number): { status: number; cycles: number } {
    const { arena, lay, clock, compute } = this.k;
    if (opAt === 0) return { status: FAULT.none, cycles: 0 };
    const i = (lay.stepAt + step.cycles) >> 2;
    arena.u32[i] = 0;
    arena.u32[i + 1] = 0;
    const status = compute.run(lay.stepAt, opAt);
    const cycles = arena.u32[i]! + arena.u32[i + 1]! * 4294967296;
    clock.advance(cycles, 'plan');
    return { status, cycles };
  }

  private set(field: number, value: number): void {
    this.k.arena.i32[(this.k.lay.stepAt + field) >> 2] = value;
  }
}

/** The first step of a chunk of a text that is scored. */
const isChunkBegin = (s: Session, pos: number): boolean => s.isScore && pos === 0 && s.get('scoredTo') === 0;
