// One pass over the weights: rows of several sessions go through the layers together, then those whose logits are wanted through the output
// matrix, and each session that is at its end draws a token, or has its text's losses taken. Nothing runs between a pass's beginning and its
// end and nothing in it allocates arena memory: it is the longest segment that is not preempted. How far it has come is written down and not on
// the stack, so that the processor can be held in the middle of it. What a row says does not depend on who else is in the pass, so neither does
// what a session says.

import {
  FAULT,
  LIMITS,
  PickRecord,
  RowRecord,
  SamplerRecord,
  SESSION_FLAG,
  StepBlock,
  type Engine,
} from './abi/index.ts';
import { lengthOf, type Charging } from './charging.ts';
import type { Life } from './life.ts';
import { panic } from './panic.ts';
import type { Residency } from './residency.ts';
import type { Service } from './service.ts';
import { STATE, type Session } from './session.ts';

const step = StepBlock.at;
const row = RowRecord.at;
const EMPTY = new Uint8Array(0);
const SUM_BYTES = 16; // logits0 … logits3

/** One session's rows in a pass. */
export interface Part {
  readonly s: Session;
  readonly pos: number;
  readonly n: number;
  /** Its first row. */
  readonly row: number;
  /** What their positions cost, Prices.bodyPosition. */
  readonly positions: number;
  /** What they take alone, at most. */
  readonly bound: number;
}

/** How far a part has come. */
interface Step {
  readonly part: Part;
  /** Its picks that are still to come. */
  picks: number;
  isAdvanced: boolean;
  /** What its rows took alone; what its session had been charged before, but for its rows. */
  cycles: number;
  before: number;
}

/** A row of a pass whose logits are wanted. */
interface Pick {
  readonly own: Step;
  readonly row: number;
  readonly pos: number;
}

/** A pass under way: one segment after the other, and what follows from each. */
interface Pass {
  readonly engine: Engine;
  readonly parts: readonly Part[];
  readonly rows: number;
  readonly steps: readonly Step[];
  /** Those that no head has taken yet. */
  readonly picks: Pick[];
  /** Those that the head runs over, or ran over last, and how many of them have had their turn. */
  group: readonly Pick[];
  taken: number;
  /** When that head began, and how long it took; when the token that is drawn began to be computed. */
  headFromNs: number;
  headNs: number;
  drawFromNs: number;
}

export class Passes {
  /** The id of the session whose segment is running, for panics; 0 = none. */
  current = 0;
  private pass: Pass | null = null;

  constructor(
    private readonly k: Service,
    private readonly charging: Charging,
    private readonly residency: Residency,
    private readonly life: Life,
  ) {}

  /** A pass of these parts begins; go() runs it. */
  begin(engine: Engine, parts: readonly Part[]): void {
    for (const part of parts) this.prepare(part, engine);
    const rows = parts.reduce((n, part) => n + part.n, 0);
    const steps = parts.map((part): Step => {
      return { part, picks: 0, isAdvanced: false, cycles: 0, before: part.s.u64('cycles') };
    });
    const picks = steps.flatMap(own => this.picksOf(own, engine));
    if (engine.stream !== null) this.k.streams.begin(Math.ceil(picks.length / this.k.loader.prices().headPicks));
    const pass = { engine, parts, rows, steps, picks, group: [], taken: 0, headFromNs: 0, headNs: 0, drawFromNs: 0 };
    this.pass = pass;
    this.beginBody(pass);
  }

  /**
   * Runs the pass on. Null: the processor is held in the middle of it. At its end what each part has taken as if alone. In a pass that faulted
   * nobody has come any further; its first part, whose turn it was, has spent its step all the same.
   */
  go(): readonly number[] | null {
    const pass = this.pass ?? panic('no pass has begun');
    do if (!this.k.processor.go()) return null;
    while (this.follow(pass));
    if (pass.engine.stream !== null) this.k.streams.end();
    this.current = 0;
    this.pass = null;
    return pass.steps.map(({ part: { s }, cycles, before }) => cycles + s.u64('cycles') - before);
  }

  /** A segment has ended: what follows from it, and the next one. False: it was the last. */
  private follow(pass: Pass): boolean {
    switch (this.k.processor.segment) {
      case 'body':
        if (this.bodyEnded(pass)) break;
        return false;
      case 'head':
        this.headEnded(pass);
        break;
      case 'sample':
        this.drawEnded(pass);
        break;
      case 'score':
        this.scoreEnded(pass);
    }
    return this.next(pass);
  }

  /** Begins the next segment: for a pick whose logits are there, or the head for others. False: there is none, the pass is at its end. */
  private next(pass: Pass): boolean {
    for (;;) {
      while (pass.taken < pass.group.length) if (this.beginPick(pass, pass.taken++)) return true;
      if (pass.picks.length === 0) break;
      pass.group = this.group(pass);
      pass.taken = 0;
      if (pass.group.length === 0) continue;
      this.beginHead(pass);
      return true;
    }
    for (const own of pass.steps) {
      if (!own.part.s.isScore || own.part.s.hasEnded || own.picks > 0) continue;
      this.advance(own, pass.engine);
      this.finishScore(own.part, pass.engine);
    }
    return false;
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

  /** hot: all rows through the layers. */
  private beginBody({ engine, parts, rows }: Pass): void {
    const { lay, processor } = this.k;
    this.current = parts[0]!.s.id;
    this.set(step.rowsAt, lay.rowsAt);
    this.set(step.picksAt, lay.picksAt);
    this.set(step.vocabulary, engine.vocabulary.count);
    this.set(step.kvAt, engine.kvAt);
    this.set(step.ctx, engine.options.ctx);
    this.set(step.n, rows);
    processor.begin('body', engine.bodyAt, rows);
  }

  /** False when the pass faulted, and nobody has come any further. */
  private bodyEnded({ engine, parts, rows, steps }: Pass): boolean {
    const { loader, processor } = this.k;
    const { status, cycles } = processor;
    const [{ s: first, pos }] = parts as [Part];
    const prices = loader.prices();
    let price = engine.bodyAt === 0 ? 0 : prices.bodyTokens(rows);
    if (engine.bodyAt !== 0)
      for (const part of parts) for (let p = part.pos; p < part.pos + part.n; p++) price += prices.bodyPosition(p);
    if (status === FAULT.none && this.charging.isCharged(first, 'body', pos, cycles, price)) {
      for (const own of steps) if (own.picks === 0) this.advance(own, engine);
      return true;
    }
    // Values are looked at row by row, where keys and values are stored: only the session whose row it was ends.
    const failed = this.get(step.failed);
    for (const part of parts)
      if (status === FAULT.none || (failed >= part.row && failed < part.row + part.n)) this.fault(part.s, status);
    steps[0]!.cycles = Math.min(cycles, parts[0]!.bound);
    return false;
  }

  /** A session has come further, and pays for its rows: in whole batches, so that what this step took is another sum. */
  private advance(own: Step, engine: Engine): void {
    if (own.isAdvanced) return;
    const { s, pos, n } = own.part;
    const before = s.u64('cycles');
    s.set('pos', pos + n);
    this.residency.computed(s, pos, pos + n);
    this.charging.body(s, engine, pos + n);
    own.isAdvanced = true;
    own.cycles = this.k.loader.prices().charged('body', n, pos);
    own.before += s.u64('cycles') - before;
  }

  // ── Draws and losses ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The rows whose logits a step needs: the last of its text, to draw what follows it; or each whose loss is wanted. */
  private picksOf(own: Step, engine: Engine): Pick[] {
    const { s, pos, n, row: first } = own.part;
    const picks: Pick[] = [];
    for (let p = pos; p < pos + n; p++) {
      const isPicked = s.isScore ? this.charging.isScored(s, engine, p) : p + 1 === lengthOf(s, engine);
      if (isPicked) picks.push({ own, row: first + p - pos, pos: p });
    }
    own.picks = picks.length;
    return picks;
  }

  /** Takes the next picks off the list, as many as a head takes at once. A stream that may not draw ends here. */
  private group({ picks, engine }: Pass): Pick[] {
    const { headPicks } = this.k.loader.prices();
    const group: Pick[] = [];
    while (picks.length > 0 && group.length < headPicks) {
      const pick = picks.shift()!;
      const { s } = pick.own.part;
      if (s.hasEnded) continue;
      if (s.isScore || this.mayDraw(s)) group.push(pick);
      else {
        this.advance(pick.own, engine);
        this.life.finish(s, 'quota');
      }
    }
    return group;
  }

  /** A stream asks the period's budget for each token. */
  private mayDraw(s: Session): boolean {
    if (!s.has(SESSION_FLAG.stream)) return true;
    s.isGranted ||= this.k.budget.token();
    return s.isGranted;
  }

  /** hot: logits of all picks of a group. */
  private beginHead(pass: Pass): void {
    const { arena, lay, clock, processor } = this.k;
    const { group, engine } = pass;
    pass.headFromNs = clock.nowNs();
    this.current = group[0]!.own.part.s.id;
    for (const [i, { row }] of group.entries()) PickRecord.write(arena.u8, lay.picksAt + i * PickRecord.bytes, { row });
    this.set(step.picksAt, lay.picksAt);
    this.set(step.picks, group.length);
    processor.begin('head', engine.headAt);
  }

  /** When it has failed, the first pick, whose turn it was, bears it; whoever still waits for one has come no further, and tries again. */
  private headEnded(pass: Pass): void {
    const { loader, clock, processor } = this.k;
    const { engine, group, picks } = pass;
    const { status, cycles } = processor;
    const [{ own, pos }] = group as [Pick];
    const { s: first } = own.part;
    pass.headNs = clock.nowNs() - pass.headFromNs;
    const price = engine.headAt === 0 ? 0 : loader.prices().headTokens(group.length);
    if (status === FAULT.none && this.charging.isCharged(first, 'head', pos, cycles, price)) return;
    this.fault(first, status);
    pass.group = [];
    picks.length = 0;
  }

  /** What follows from the logits of pick `i` of the group begins; false: nothing does. Only the session whose logits are no numbers ends. */
  private beginPick(pass: Pass, i: number): boolean {
    const { arena, clock, lay, loader } = this.k;
    const { engine } = pass;
    const { own, pos } = pass.group[i]!;
    const { s } = own.part;
    if (s.hasEnded) return false;
    const pickAt = lay.picksAt + i * PickRecord.bytes;
    this.set(step.picksAt, pickAt);
    this.set(step.picks, 1);
    this.set(step.logitsAt, engine.logitsAt + i * engine.logitsStride);
    const fault = arena.i32[(pickAt + PickRecord.at.fault) >> 2]!;
    this.current = s.id;
    own.picks--;
    const ends = fault !== FAULT.none;
    if (ends || !s.isScore) this.advance(own, engine);
    s.charge(loader.prices().charged('head', 1, pos));
    if (ends) {
      this.fault(s, fault);
      return false;
    }
    pass.drawFromNs = clock.nowNs() - pass.headNs;
    if (s.isScore) this.beginScore(s, engine, pos);
    else this.beginDraw(s, engine, pos);
    return true;
  }

  /** The pick that had its turn last. */
  private turnOf({ group, taken }: Pass): Pick {
    return group[taken - 1]!;
  }

  /** The draw behind position `pos`. */
  private beginDraw(s: Session, engine: Engine, pos: number): void {
    const { lay, compute, costs } = this.k;
    const k = s.get('logitsK');
    s.isGranted = false;
    if (k > 0) {
      compute.top_k(this.get(step.logitsAt), engine.vocabulary.count, k, lay.topAt);
      s.charge(costs.settle());
    }
    this.sampler(s);
    this.set(step.samplerAt, lay.samplerAt);
    this.set(step.historyAt, this.residency.slotOf(s)!.historyAt);
    this.set(step.historyLength, pos + 1);
    this.set(step.draw, this.charging.random(s));
    this.beginOwn(s, 'sample', engine.sampleAt);
  }

  /** A token was drawn, and what follows from it. */
  private drawEnded(pass: Pass): void {
    const { arena, lay } = this.k;
    const { own, pos } = this.turnOf(pass);
    const { s } = own.part;
    if (!this.ownEnded(s, 'sample', pos)) return;
    if (!this.charging.isDrawn(s, pass.engine, pos)) return this.life.finish(s, 'fault');
    const token = arena.i32[(lay.stepAt + step.next) >> 2]!;
    arena.u32[(this.residency.slotOf(s)!.historyAt >> 2) + pos + 1] = token;
    s.set('outputTokens', s.get('outputTokens') + 1);
    s.set('state', STATE.decode);
    this.accept(s, pass.engine, token, s.get('logitsK'), pass.drawFromNs);
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

  /** The loss of the token behind position `pos`. */
  private beginScore(s: Session, engine: Engine, pos: number): void {
    const { historyAt } = this.residency.slotOf(s)!;
    this.set(step.target, this.k.arena.u32[(historyAt >> 2) + pos + 1]!);
    this.beginOwn(s, 'score', engine.scoreAt);
  }

  private scoreEnded(pass: Pass): void {
    const { arena, lay } = this.k;
    const { own, pos } = this.turnOf(pass);
    const { s } = own.part;
    if (!this.ownEnded(s, 'score', pos)) return;
    s.addLoss(arena.f64[(lay.stepAt + step.loss) >> 3]!);
    s.set('scoredTo', pos + 1);
  }

  /**
   * Behind the losses of a pass. A text is cut into chunks of context − 1 tokens, each behind a first token if the model has one; every text
   * token but the first of a chunk is scored.
   */
  private finishScore({ s, pos, n }: Part, engine: Engine): void {
    const length = lengthOf(s, engine);
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

  /** A segment for one session, which goes on with its checksum over logits. */
  private beginOwn(s: Session, what: 'sample' | 'score', opAt: number): void {
    const sumAt = this.k.lay.stepAt + step.logits0;
    this.k.arena.u8.copyWithin(sumAt, s.logitsSumAt, s.logitsSumAt + SUM_BYTES);
    this.k.processor.begin(what, opAt);
  }

  /** It is charged to it. False when it has faulted. */
  private ownEnded(s: Session, what: 'sample' | 'score', pos: number): boolean {
    const { arena, lay, processor, loader } = this.k;
    const { status, cycles } = processor;
    const sumAt = lay.stepAt + step.logits0;
    arena.u8.copyWithin(s.logitsSumAt, sumAt, sumAt + SUM_BYTES);
    s.charge(cycles);
    const price = loader.prices().computed(what, 1, pos);
    if (status === FAULT.none && (what === 'sample' || this.charging.isCharged(s, what, pos, cycles, price)))
      return true;
    this.fault(s, status);
    return false;
  }

  /** A session's own rows, or weights that it was its turn to read, have failed. */
  private fault(s: Session, status: number): void {
    if (status === FAULT.io) s.fault = this.k.streams.failure();
    this.life.finish(s, 'fault');
  }

  private get(field: number): number {
    return this.k.arena.i32[(this.k.lay.stepAt + field) >> 2]!;
  }
  private set(field: number, value: number): void {
    this.k.arena.i32[(this.k.lay.stepAt + field) >> 2] = value;
  }
}

/** The first step of a chunk of a text that is scored. */
export const isChunkBegin = (s: Session, pos: number): boolean => s.isScore && pos === 0 && s.get('scoredTo') === 0;
