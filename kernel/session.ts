// Sessions: one inference request from submission to its last token. A session owns the model's KV cache and token history while it runs;
// others queue in order of arrival. Each step is one decision: which tokens go through the plan, then one draw. Everything a session is
// lies in its arena record; the objects here are handles. Between the executor's entry and its return nothing allocates. What a request can
// cost is known before it runs; every step and every session is held against it, as aiT's users hold measured times against computed ones.

import {
  ENCODE,
  EVENT,
  FAULT,
  FINISH,
  isRefusal,
  KV_PAGE,
  layout,
  LIMITS,
  refuse,
  RNG,
  RowRecord,
  SAMPLER_MODE,
  SamplerRecord,
  SESSION_FLAG,
  SESSION_KIND,
  SESSION_STATE,
  SessionEvent,
  SessionOptions,
  SessionReport,
  StepBlock,
  type Compute,
  type Engine,
  type FinishReason,
  type Refusal,
  type RngDriver,
} from './abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import type { Arena } from './arena.ts';
import { addU64, type Clock } from './clock.ts';
import type { Costs } from './costs.ts';
import type { Layout } from './layout.ts';
import type { Loader } from './loader.ts';
import { requestBounds, scoreBounds } from './wcet/bounds.ts';
import type { Bound, Draw, Segment } from './wcet/price.ts';

/** A session's record in the kernel tables. */
export const SessionRecord = layout({
  id: 'u32', // 0: free
  state: 'u32', // index into SESSION_STATE
  finish: 'u32', // index into FINISH
  kind: 'u32', // SESSION_KIND
  promptTokens: 'u32',
  outputTokens: 'u32',
  pos: 'u32', // tokens whose keys and values are in the cache
  maxTokens: 'u32',
  logitsK: 'u32',
  seed: 'i32',
  rng: 'u32', // RNG
  scored: 'u32',
  temp: 'f32',
  topK: 'u32',
  topP: 'f32',
  minP: 'f32',
  repeatPenalty: 'f32',
  reserved: 'u32',
  rngState0: 'u32', // 16 bytes: xor128's x y z w, or the LCG's x
  rngState1: 'u32',
  rngState2: 'u32',
  rngState3: 'u32',
  nllSum: 'f64',
  cycles: 'u64', // charged so far
  wcetCycles: 'u64', // it cannot be charged more
  bcetCycles: 'u64', // nor, with its first token, less
  submittedNs: 'u64',
  firstTokenNs: 'u64',
  endedNs: 'u64',
  arenaPeak: 'u64',
});

const at = SessionRecord.at;
const step = StepBlock.at;
const stateIndex = (s: (typeof SESSION_STATE)[number]): number => SESSION_STATE.indexOf(s);
const QUEUED = stateIndex('QUEUED');
const PREFILL = stateIndex('PREFILL');
const DECODE = stateIndex('DECODE');
const DONE = stateIndex('DONE');
const FAULTED = stateIndex('FAULTED');

/** What a reader has not taken yet. `top` are {id, logit} pairs as they lay in the arena. */
interface Event {
  readonly kind: number;
  readonly token: number;
  readonly piece: Uint8Array;
  readonly top: Uint8Array;
  readonly nll: number;
}

type Options = ReturnType<typeof SessionOptions.read>;

const EMPTY = new Uint8Array(0);
const EVENTS_MAX = 64;

/** The handle of one session: its record's address and what waits outside the arena. */
class Session {
  readonly events: Event[] = [];
  readonly stops: Uint8Array[] = [];
  /** Output bytes held back because they may begin a stop string. */
  held: Uint8Array = EMPTY;
  cancelled = false;
  endSeen = false;
  constructor(
    readonly id: number,
    readonly recordAt: number,
    readonly owner: number,
    /** Token ids in storage still to be run: the prompt of a queued session, the text of a score session. */
    readonly ids: OpenFile,
    readonly idCount: number,
    readonly draw: Draw,
    /** Tokenised for this model; another load in between makes the session stale. */
    readonly generation: number,
  ) {}
}

/** What was charged and what should have been: to audit. `what`: a segment, a step that drew a token, or the whole session. */
export interface Breach extends Bound {
  readonly what: Segment | 'step' | 'session';
  readonly session: number;
  readonly outputTokens: number;
  readonly pos: number; // of the first token of the step
  readonly charged: number;
}

export interface SessionTotals {
  total: number;
  promptTokens: number;
  outputTokens: number;
  cancelled: number;
  faulted: number;
  deadlineMisses: number;
  rejects: number;
  lastLatencyNs: number;
  lastFirstTokenNs: number;
  cycles: number;
  queueDepthMax: number;
}

export interface SessionDevices {
  readonly compute: Compute;
  readonly xor128: RngDriver;
  readonly lcg: RngDriver;
}

export class Sessions {
  private readonly table: (Session | null)[] = Array.from({ length: LIMITS.sessionsMax }, () => null);
  private nextId = 1;
  /** The session that owns the KV cache and the history. */
  private owner: Session | null = null;
  /** Charged to it since its step began. */
  private stepCycles = 0;
  readonly totals: SessionTotals = {
    total: 0,
    promptTokens: 0,
    outputTokens: 0,
    cancelled: 0,
    faulted: 0,
    deadlineMisses: 0,
    rejects: 0,
    lastLatencyNs: 0,
    lastFirstTokenNs: 0,
    cycles: 0,
    queueDepthMax: 0,
  };

  constructor(
    private readonly arena: Arena,
    private readonly lay: Layout,
    private readonly clock: Clock,
    private readonly costs: Costs,
    private readonly loader: Loader,
    private readonly devices: SessionDevices,
    /** Called when a session ends: the audit ring. */
    private readonly ended: (report: ReturnType<typeof SessionReport.read>, code: number) => void,
    /** Called when a charge lies outside its bounds; the session then ends FAULTED. */
    private readonly breached: (breach: Breach) => void,
  ) {}

  // ── Calls ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Decodes and checks everything, then commits. Returns the session's id. */
  open(owner: number, optionsAt: number, prompt: OpenFile): number | Refusal {
    const engine = this.loader.engine();
    if (engine === null) return this.rejected(refuse('NODEV', 2001, 'no model loaded: llmctl load FILE'));
    const slot = this.table.indexOf(null);
    if (slot < 0)
      return this.rejected(refuse('AGAIN', 3002, `all ${LIMITS.sessionsMax} sessions are taken; close one first`));
    const o = SessionOptions.read(this.arena.u8, optionsAt);
    const bad = checkOptions(o);
    if (bad !== null) return this.rejected(bad);
    const score = o.kind === SESSION_KIND.score;
    if (score && engine.scoreAt === 0)
      return this.rejected(refuse('NOTSUP', 5002, `the ${engine.name} engine has no probabilities to score`));

    const flags =
      (!score && engine.vocabulary.addBos ? ENCODE.bos : 0) |
      ((o.flags & SESSION_FLAG.special) !== 0 ? ENCODE.special : 0);
    const ids = this.loader.tokenizeToFile(engine.vocabulary, prompt, flags);
    if (isRefusal(ids)) return this.rejected(ids);
    const count = ids.count;
    const refusal = score ? null : checkLength(count, o.maxTokens, engine.options.ctx);
    if (refusal !== null || count === 0) {
      ids.file.close();
      return this.rejected(refusal ?? refuse('INVAL', 4001, 'empty prompt after tokenization'));
    }

    const draw = drawOf(o);
    const maxTokens = o.maxTokens === 0 ? Math.min(64, engine.options.ctx) : o.maxTokens;
    const bound = this.requestBound(engine, o, count, maxTokens);

    const recordAt = this.lay.sessionsAt + slot * SessionRecord.bytes;
    const s = new Session(this.nextId++, recordAt, owner, ids.file, count, draw, this.loader.generation);
    this.table[slot] = s;
    SessionRecord.write(this.arena.u8, recordAt, {
      id: s.id,
      state: QUEUED,
      kind: o.kind,
      promptTokens: score ? 0 : count,
      maxTokens,
      logitsK: o.logitsK,
      seed: o.seed,
      rng: o.rng,
      temp: o.temp,
      topK: o.topK,
      topP: o.topP,
      minP: o.minP,
      repeatPenalty: o.repeatPenalty,
      wcetCycles: bound.most,
      bcetCycles: bound.least,
      submittedNs: this.clock.nowNs(),
    });
    readStops(this.arena.u8, optionsAt + SessionOptions.at.stopBytes, o.stopCount, s.stops);
    this.rngOf(s).seed(this.arena, recordAt + at.rngState0, o.seed);
    for (const other of this.live()) this.notePeak(other);
    this.arena.takeWindowPeak();
    this.notePeak(s);
    this.totals.total++;
    this.promote();
    this.totals.queueDepthMax = Math.max(this.totals.queueDepthMax, this.queueDepth());
    return s.id;
  }

  /** Writes the next event at `to`; bytes written, 0 after the end, null when there is none yet, -1 when `capacity` is too small. */
  read(id: number, to: number, capacity: number): number | null | undefined {
    const s = this.find(id);
    if (s === undefined) return undefined;
    const e = s.events[0];
    if (e === undefined) return s.endSeen ? 0 : null;
    const bytes = SessionEvent.bytes + e.piece.length + e.top.length;
    if (bytes > capacity) return -1;
    SessionEvent.write(this.arena.u8, to, {
      kind: e.kind,
      token: e.token,
      pieceBytes: e.piece.length,
      topCount: e.top.length / 8,
      nll: e.nll,
    });
    this.arena.u8.set(e.piece, to + SessionEvent.bytes);
    this.arena.u8.set(e.top, to + SessionEvent.bytes + e.piece.length);
    s.events.shift();
    if (e.kind === EVENT.end) s.endSeen = true;
    return bytes;
  }

  cancel(id: number): boolean {
    const s = this.find(id);
    if (s === undefined) return false;
    s.cancelled = true;
    if (this.stateOf(s) === QUEUED) this.finish(s, 'cancel');
    return true;
  }

  report(id: number): ReturnType<typeof SessionReport.read> | undefined {
    const s = this.find(id);
    return s === undefined ? undefined : this.reportOf(s);
  }

  /** Token ids of prompt and output from index `from` on, copied to `to`; bytes written. They stand in the history while the session owns it. */
  tokens(id: number, from: number, to: number, capacity: number): number | undefined {
    const s = this.find(id);
    const engine = this.loader.engine();
    if (s === undefined || engine === null) return undefined;
    if (s !== this.owner || this.get(s, at.kind) === SESSION_KIND.score) return 0;
    const length = this.get(s, at.promptTokens) + this.get(s, at.outputTokens);
    const bytes = Math.max(0, Math.min(length - from, capacity >> 2)) * 4;
    this.arena.u8.copyWithin(to, engine.slots.at + from * 4, engine.slots.at + from * 4 + bytes);
    return bytes;
  }

  /** A session still running is cancelled first. */
  close(id: number): boolean {
    const s = this.find(id);
    if (s === undefined) return false;
    if (!this.hasEnded(s)) this.finish(s, 'cancel');
    s.ids.close();
    this.set(s, at.id, 0);
    this.table[this.table.indexOf(s)] = null;
    if (this.owner === s) {
      this.owner = null;
      this.promote();
    }
    return true;
  }

  /** A process ended: so do its sessions. */
  closeOwnedBy(pid: number): void {
    for (const s of this.live()) if (s.owner === pid) this.close(s.id);
  }

  // ── Running ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** One step of the running session: a batch of the prompt, or one token. False when no session can run. */
  run(): boolean {
    const s = this.owner;
    const engine = this.loader.engine();
    if (s === null || engine === null || this.hasEnded(s)) return false;
    if (s.events.length >= (this.get(s, at.logitsK) > 0 ? 1 : EVENTS_MAX)) return false;
    const score = this.get(s, at.kind) === SESSION_KIND.score;
    this.stepCycles = 0;
    if (s.cancelled) this.finish(s, 'cancel');
    else if (!score && this.clock.nowNs() - this.submittedNs(s) > LIMITS.sessionTimeoutMs * 1e6)
      this.finish(s, 'timeout');
    else if (score) this.scoreChunk(s, engine);
    else if (this.stateOf(s) === PREFILL) this.prefill(s, engine);
    else this.decode(s, engine);
    return true;
  }

  /** The id of the session whose step is running, for panics; 0 = none. */
  current(): number {
    return this.owner?.id ?? 0;
  }

  queueDepth(): number {
    return this.live().filter(s => this.stateOf(s) === QUEUED).length;
  }

  active(): number {
    return this.live().filter(s => !this.hasEnded(s)).length;
  }

  /** One line per session, for /proc/sessions. */
  list(): readonly ReturnType<typeof SessionReport.read>[] {
    return this.live().map(s => this.reportOf(s));
  }

  /** Cycles of the sessions that a process has open. */
  cyclesOf(pid: number): number {
    let cycles = 0;
    for (const s of this.live()) if (s.owner === pid) cycles += this.reportOf(s).cycles;
    return cycles;
  }

  private promote(): void {
    const engine = this.loader.engine();
    while (this.owner === null) {
      let next: Session | null = null;
      for (const s of this.live()) if (this.stateOf(s) === QUEUED && (next === null || s.id < next.id)) next = s;
      if (next === null) return;
      if (engine === null || next.generation !== this.loader.generation) {
        this.finish(next, 'fault');
        continue;
      }
      this.owner = next;
      this.begin(next, engine);
    }
  }

  private begin(s: Session, engine: Engine): void {
    this.set(s, at.state, PREFILL);
    this.setStep(step.logitsAt, engine.logitsAt);
    this.setStep(step.vocabulary, engine.vocabulary.count);
    this.setStep(step.kvAt, engine.kvAt);
    this.setStep(step.ctx, engine.options.ctx);
    this.setStep(step.rowsAt, this.lay.rowsAt);
    this.setStep(step.historyAt, engine.slots.at);
    this.setStep(step.samplerAt, this.lay.samplerAt);
    this.setStep(step.replyAt, engine.slots.at + engine.slots.stateAt);
    for (let i = 0; i < Math.ceil(engine.options.ctx / KV_PAGE); i++)
      this.arena.u32[((engine.slots.at + engine.slots.tableAt) >> 2) + i] = i * engine.pageBytes;
    SamplerRecord.write(this.arena.u8, this.lay.samplerAt, {
      temp: this.f32(s, at.temp),
      topK: this.get(s, at.topK),
      topP: this.f32(s, at.topP),
      minP: this.f32(s, at.minP),
      repeatPenalty: this.f32(s, at.repeatPenalty),
      modes: s.draw.modes,
    });
    if (this.get(s, at.kind) === SESSION_KIND.score) return;
    s.ids.readAt(0, engine.slots.at, s.idCount * 4);
    this.costs.transfer(s.idCount * 4);
    engine.begin(engine.slots.at, s.idCount, this.get(s, at.maxTokens));
  }

  /** One batch of prompt tokens; after the last one, the first draw. */
  private prefill(s: Session, engine: Engine): void {
    const pos = this.get(s, at.pos);
    const left = s.idCount - pos;
    const n = Math.min(left, engine.options.batch);
    if (!this.body(s, engine, pos, n)) return;
    if (n === left) {
      this.set(s, at.state, DECODE);
      this.draw(s, engine, n - 1);
    }
  }

  /** The token drawn last goes through the plan, then the next draw. */
  private decode(s: Session, engine: Engine): void {
    if (this.body(s, engine, this.get(s, at.pos), 1)) this.draw(s, engine, 0);
  }

  /** hot: runs `n` tokens of the history from `pos` on. False when the session faulted. */
  private body(s: Session, engine: Engine, pos: number, n: number): boolean {
    const { at: historyAt, tableAt } = engine.slots;
    for (let i = 0; i < n; i++) {
      const row = (this.lay.rowsAt + i * RowRecord.bytes) >> 2;
      this.arena.u32[row] = this.arena.u32[(historyAt >> 2) + pos + i]!;
      this.arena.u32[row + 1] = pos + i;
      this.arena.u32[row + 2] = historyAt + tableAt;
      this.arena.u32[row + 3] = s.id;
    }
    this.setStep(step.n, n);
    if (!this.segment(s, 'body', engine.bodyAt)) return false;
    this.set(s, at.pos, pos + n);
    return true;
  }

  /** Logits of batch row `row`, the draw, and what follows from it. */
  private draw(s: Session, engine: Engine, row: number): void {
    this.setStep(step.row, row);
    if (!this.segment(s, 'head', engine.headAt)) return;
    const k = this.get(s, at.logitsK);
    if (k > 0) {
      this.devices.compute.top_k(engine.logitsAt, engine.vocabulary.count, k, this.lay.topAt);
      this.charge(s, this.costs.settle());
    }
    const produced = this.get(s, at.outputTokens);
    const length = this.get(s, at.promptTokens) + produced;
    this.setStep(step.historyLength, length);
    this.setStep(step.draw, this.rngOf(s).next(this.arena, s.recordAt + at.rngState0));
    if (!this.segment(s, 'sample', engine.sampleAt)) return;
    if (!this.isWithin(s, 'step', this.stepCycles, this.drawBound(s, k, length))) return;
    const token = this.arena.i32[(this.lay.stepAt + step.next) >> 2]!;
    this.arena.u32[(engine.slots.at >> 2) + length] = token;
    this.set(s, at.outputTokens, produced + 1);
    this.accept(s, engine, token, k);
  }

  /** A token was drawn: its event, its text, and whether it is the last. */
  private accept(s: Session, engine: Engine, token: number, k: number): void {
    const outputTokens = this.get(s, at.outputTokens);
    if (outputTokens === 1) this.setU64(s, at.firstTokenNs, this.clock.nowNs());
    const end = engine.vocabulary.isEnd(token);
    let piece: Uint8Array = EMPTY;
    if (!end) {
      const bytes = engine.vocabulary.piece(token, this.lay.dmaAt, LIMITS.dmaBytes, false);
      piece = this.arena.u8.slice(this.lay.dmaAt, this.lay.dmaAt + Math.max(0, bytes));
    }
    const { release, stopped } = this.holdBack(s, piece);
    s.events.push({
      kind: EVENT.token,
      token,
      piece: release,
      top:
        k === 0
          ? EMPTY
          : this.arena.u8.slice(this.lay.topAt, this.lay.topAt + Math.min(k, engine.vocabulary.count) * 8),
      nll: 0,
    });
    if (end) this.finish(s, 'eos');
    else if (stopped) this.finish(s, 'stop');
    else if (outputTokens >= this.get(s, at.maxTokens)) this.finish(s, 'length');
    else if (this.get(s, at.promptTokens) + outputTokens >= engine.options.ctx) this.finish(s, 'context');
  }

  /** Adds a piece to the held text; releases what cannot begin a stop string any more. On a stop, the text before it is released. */
  private holdBack(s: Session, piece: Uint8Array): { release: Uint8Array; stopped: boolean } {
    if (s.stops.length === 0) return { release: piece, stopped: false };
    const text = new Uint8Array(s.held.length + piece.length);
    text.set(s.held);
    text.set(piece, s.held.length);
    let first = -1;
    for (const stop of s.stops) {
      const i = indexOfBytes(text, stop);
      if (i >= 0 && (first < 0 || i < first)) first = i;
    }
    if (first >= 0) {
      s.held = EMPTY;
      return { release: text.slice(0, first), stopped: true };
    }
    let keep = 0;
    for (const stop of s.stops) keep = Math.max(keep, overlap(text, stop));
    s.held = text.slice(text.length - keep);
    return { release: text.slice(0, text.length - keep), stopped: false };
  }

  /**
   * Perplexity, one batch at a time. The text is cut into chunks of context − 1 tokens, each prefixed by BOS if the model has one; every
   * text token but the first of a chunk is scored.
   */
  private scoreChunk(s: Session, engine: Engine): void {
    const ctx = engine.options.ctx;
    const chunk = ctx - 1;
    const prefix = prefixOf(engine);
    const done = this.get(s, at.promptTokens); // text tokens of finished chunks
    const textTokens = Math.min(chunk, s.idCount - done);
    const length = prefix + textTokens;
    const pos = this.get(s, at.pos);
    const history = engine.slots.at >> 2;
    if (pos === 0) {
      if (prefix === 1) this.arena.u32[history] = engine.vocabulary.bos;
      s.ids.readAt(done * 4, engine.slots.at + prefix * 4, textTokens * 4);
      this.costs.transfer(textTokens * 4);
      this.set(s, at.state, PREFILL);
    }
    const n = Math.min(engine.options.batch, length - pos);
    if (!this.body(s, engine, pos, n)) return;
    for (let row = 0; row < n; row++) {
      const target = pos + row + 1;
      if (target <= prefix || target >= length) continue; // nothing predicts the first text token; nothing follows the last
      this.setStep(step.row, row);
      this.setStep(step.target, this.arena.u32[history + target]!);
      if (!this.segment(s, 'head', engine.headAt) || !this.segment(s, 'score', engine.scoreAt)) return;
      const sum = (s.recordAt + at.nllSum) >> 3;
      this.arena.f64[sum] = this.arena.f64[sum]! + this.arena.f64[(this.lay.stepAt + step.loss) >> 3]!;
      this.set(s, at.scored, this.get(s, at.scored) + 1);
    }
    if (pos + n < length) return;
    this.set(s, at.promptTokens, done + textTokens);
    this.set(s, at.pos, 0);
    const nll = this.arena.f64[(s.recordAt + at.nllSum) >> 3]!;
    s.events.push({ kind: EVENT.progress, token: done + textTokens, piece: EMPTY, top: EMPTY, nll });
    if (done + textTokens >= s.idCount) this.finish(s, 'length');
  }

  /** hot: one call into WebAssembly; what it cost goes to the clock and to the session. False when the session faulted. */
  private segment(s: Session, name: Segment, opAt: number): boolean {
    if (opAt === 0) return true; // an engine without this segment
    const u32 = this.arena.u32;
    const i = (this.lay.stepAt + step.cycles) >> 2;
    u32[i] = 0;
    u32[i + 1] = 0;
    const status = this.devices.compute.run(this.lay.stepAt, opAt);
    const cycles = u32[i]! + u32[i + 1]! * 4294967296;
    this.clock.advance(cycles, 'plan');
    this.charge(s, cycles);
    if (status !== FAULT.none) {
      this.finish(s, 'fault');
      return false;
    }
    return name === 'sample' || this.isCharged(s, name, cycles);
  }

  /** hot: to the session; the clock has moved already. */
  private charge(s: Session, cycles: number): void {
    addU64(this.arena.u32, (s.recordAt + at.cycles) >> 2, cycles);
    this.stepCycles += cycles;
  }

  // ── Bounds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Of a whole request, before it runs. */
  private requestBound(engine: Engine, o: Options, tokens: number, maxTokens: number): Bound {
    const prices = this.loader.prices();
    if (o.kind === SESSION_KIND.score) return scoreBounds(prices, tokens, prefixOf(engine));
    return requestBounds(prices, { prompt: tokens, generate: maxTokens, draw: drawOf(o), logitsK: o.logitsK }).total;
  }

  /** Of the step that has just drawn a token. */
  private drawBound(s: Session, logitsK: number, historyLength: number): Bound {
    const prices = this.loader.prices();
    const drawn = prices.step(this.getStep(step.n), this.stepPos(), true, s.draw, historyLength);
    return { most: drawn.most + (logitsK > 0 ? prices.topK(logitsK).most : 0), least: drawn.least };
  }

  /** Ops of plans are charged exactly what they were priced; only the sampler's share depends on data. */
  private isCharged(s: Session, name: Segment, cycles: number): boolean {
    const n = name === 'body' ? this.getStep(step.n) : 1;
    const price = this.loader.prices().charged(name, n, this.stepPos());
    return cycles === price || this.isWithin(s, name, cycles, { most: price, least: price });
  }

  /** A session that drew its first token, or scored its whole text, has cost at least what its request must. */
  private endsWithin(s: Session, why: FinishReason): boolean {
    const score = this.get(s, at.kind) === SESSION_KIND.score;
    const whole = score ? why === 'length' : this.get(s, at.outputTokens) > 0;
    const least = whole ? this.getU64(s, at.bcetCycles) : 0;
    return this.isWithin(s, 'session', this.getU64(s, at.cycles), { most: this.getU64(s, at.wcetCycles), least });
  }

  /** False, and the session has faulted, when the charge lies outside its bound. */
  private isWithin(s: Session, what: Breach['what'], charged: number, { most, least }: Bound): boolean {
    if (charged <= most && charged >= least) return true;
    const outputTokens = this.get(s, at.outputTokens);
    this.breached({ what, session: s.id, outputTokens, pos: this.stepPos(), charged, most, least });
    this.finish(s, 'fault');
    return false;
  }

  private finish(s: Session, why: FinishReason): void {
    if (this.hasEnded(s)) return;
    this.clock.check();
    if (why !== 'fault' && !this.endsWithin(s, why)) return; // it has ended as a fault
    this.set(s, at.state, why === 'fault' ? FAULTED : DONE);
    this.set(s, at.finish, FINISH.indexOf(why));
    this.setU64(s, at.endedNs, this.clock.nowNs());
    for (const other of this.live()) this.notePeak(other);
    this.arena.takeWindowPeak();
    const held = why === 'stop' ? EMPTY : s.held;
    s.held = EMPTY;
    s.events.push({ kind: EVENT.end, token: FINISH.indexOf(why), piece: held, top: EMPTY, nll: 0 });
    const report = this.reportOf(s);
    const t = this.totals;
    t.promptTokens += report.promptTokens;
    t.outputTokens += report.outputTokens;
    t.cycles += report.cycles;
    t.lastLatencyNs = report.endedNs - report.submittedNs;
    t.lastFirstTokenNs = report.firstTokenNs === 0 ? 0 : report.firstTokenNs - report.submittedNs;
    if (why === 'cancel') t.cancelled++;
    if (why === 'fault') t.faulted++;
    if (why === 'timeout') t.deadlineMisses++;
    this.ended(report, why === 'fault' ? 5002 : why === 'cancel' ? 2005 : why === 'timeout' ? 2004 : 0);
  }

  private rejected(r: Refusal): Refusal {
    this.totals.rejects++;
    return r;
  }

  private reportOf(s: Session): ReturnType<typeof SessionReport.read> {
    const r = SessionRecord.read(this.arena.u8, s.recordAt);
    const engine = this.loader.engine();
    return {
      id: r.id,
      state: r.state,
      finish: r.finish,
      promptTokens: r.promptTokens,
      outputTokens: r.outputTokens,
      seed: r.seed,
      scored: r.scored,
      reserved: 0,
      nll: r.scored === 0 ? 0 : r.nllSum / r.scored,
      arenaPeak: r.arenaPeak,
      kvBytes: engine === null ? 0 : engine.shape.kvBytesPerToken(engine.options.kvType) * engine.options.ctx,
      cycles: r.cycles,
      wcetCycles: r.wcetCycles,
      bcetCycles: r.bcetCycles,
      submittedNs: r.submittedNs,
      firstTokenNs: r.firstTokenNs,
      endedNs: r.endedNs,
      model: engine?.shape.name ?? '',
    };
  }

  private notePeak(s: Session): void {
    if (this.hasEnded(s)) return;
    const now = this.arena.usage().offset;
    const window = s === this.owner ? this.arena.takeWindowPeak() : now;
    const i = (s.recordAt + at.arenaPeak) >> 2;
    this.arena.u32[i] = Math.max(this.arena.u32[i]!, window, now);
  }

  private live(): Session[] {
    return this.table.filter(s => s !== null);
  }
  private find(id: number): Session | undefined {
    return this.live().find(s => s.id === id);
  }
  private stateOf(s: Session): number {
    return this.get(s, at.state);
  }
  private hasEnded(s: Session): boolean {
    const state = this.stateOf(s);
    return state === DONE || state === FAULTED;
  }
  private rngOf(s: Session): RngDriver {
    return this.get(s, at.rng) === RNG.lcg ? this.devices.lcg : this.devices.xor128;
  }
  private submittedNs(s: Session): number {
    return this.getU64(s, at.submittedNs);
  }
  private get(s: Session, field: number): number {
    return this.arena.u32[(s.recordAt + field) >> 2]!;
  }
  private set(s: Session, field: number, value: number): void {
    this.arena.u32[(s.recordAt + field) >> 2] = value;
  }
  private getU64(s: Session, field: number): number {
    const i = (s.recordAt + field) >> 2;
    return this.arena.u32[i]! + this.arena.u32[i + 1]! * 4294967296;
  }
  private setU64(s: Session, field: number, value: number): void {
    const i = (s.recordAt + field) >> 2;
    this.arena.u32[i] = value % 4294967296;
    this.arena.u32[i + 1] = Math.floor(value / 4294967296);
  }
  private f32(s: Session, field: number): number {
    return this.arena.f32[(s.recordAt + field) >> 2]!;
  }
  /** Position of the pass's first row. */
  private stepPos(): number {
    return this.arena.u32[(this.lay.rowsAt + RowRecord.at.pos) >> 2]!;
  }
  private getStep(field: number): number {
    return this.arena.i32[(this.lay.stepAt + field) >> 2]!;
  }
  private setStep(field: number, value: number): void {
    this.arena.i32[(this.lay.stepAt + field) >> 2] = value;
  }
}

/** Which stages of the sampler these settings switch on. Temperature 0 and top-k 1 leave nothing to draw. */
export function drawOf(o: {
  readonly temp: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repeatPenalty: number;
}): Draw {
  const modes =
    (o.repeatPenalty === 1 ? 0 : SAMPLER_MODE.penalty) |
    (o.temp <= 0 || o.topK === 1 ? SAMPLER_MODE.greedy : 0) |
    (o.topP < 1 ? SAMPLER_MODE.topP : 0) |
    (o.minP > 0 ? SAMPLER_MODE.minP : 0);
  return { modes, topK: o.topK };
}

/** Tokens put before every chunk of a text that is scored. */
const prefixOf = (engine: Engine): 0 | 1 => (engine.vocabulary.bos >= 0 ? 1 : 0);

function checkOptions(o: Options): Refusal | null {
  const bad = (text: string): Refusal => refuse('INVAL', 7001, text);
  if (o.maxTokens > LIMITS.generationTokensMax)
    return refuse('INVAL', 2002, `max-tokens ${o.maxTokens} asked, ${LIMITS.generationTokensMax} at most`);
  if (!(o.temp >= 0 && o.temp <= 100)) return bad(`temperature ${o.temp} is not in 0…100`);
  if (!(o.topP > 0 && o.topP <= 1)) return bad(`top-p ${o.topP} is not in 0…1, 0 excluded`);
  if (!(o.minP >= 0 && o.minP <= 1)) return bad(`min-p ${o.minP} is not in 0…1`);
  if (!(o.repeatPenalty > 0 && o.repeatPenalty <= 100))
    return bad(`repeat penalty ${o.repeatPenalty} is not in 0…100, 0 excluded`);
  if (o.logitsK > LIMITS.topLogitsMax) return bad(`logits ${o.logitsK} asked, ${LIMITS.topLogitsMax} at most`);
  if (o.stopCount > LIMITS.stopStringsMax) return bad(`${o.stopCount} stop strings, ${LIMITS.stopStringsMax} at most`);
  if (o.rng > RNG.lcg) return bad(`unknown random generator ${o.rng}`);
  if (o.kind > SESSION_KIND.score) return bad(`unknown session kind ${o.kind}`);
  return null;
}

/** Spec §10: prompt > limit → 2002; prompt + generation > context → 2003. */
export function checkLength(promptTokens: number, maxTokens: number, ctx: number): Refusal | null {
  if (promptTokens > LIMITS.promptTokensMax)
    return refuse('TOOBIG', 2002, `prompt is ${promptTokens} tokens, ${LIMITS.promptTokensMax} at most`);
  const generation = Math.max(1, maxTokens);
  if (promptTokens + generation > ctx)
    return refuse(
      'OVERFLOW',
      2003,
      `prompt ${promptTokens} + generation ${generation} tokens > context ${ctx}; ` +
        (promptTokens < ctx ? `${ctx - promptTokens} would fit` : `a prompt of ${ctx - 1} tokens would fit`),
    );
  return null;
}

function readStops(memory: Uint8Array, from: number, count: number, into: Uint8Array[]): void {
  let p = from;
  for (let i = 0; i < count; i++) {
    const bytes = Math.min(memory[p]!, LIMITS.stopBytes);
    if (bytes > 0) into.push(memory.slice(p + 1, p + 1 + bytes));
    p += 1 + bytes;
  }
}

function indexOfBytes(text: Uint8Array, word: Uint8Array): number {
  for (let i = 0; i + word.length <= text.length; i++) {
    let j = 0;
    while (j < word.length && text[i + j] === word[j]) j++;
    if (j === word.length) return i;
  }
  return -1;
}

/** The longest end of `text` that is a proper beginning of `word`. */
function overlap(text: Uint8Array, word: Uint8Array): number {
  for (let n = Math.min(text.length, word.length - 1); n > 0; n--) {
    let j = 0;
    while (j < n && text[text.length - n + j] === word[j]) j++;
    if (j === n) return n;
  }
  return 0;
}
