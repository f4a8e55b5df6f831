// Admission: whether a request may become a session, in the specification's order (SIS §10) — its own lengths, places, quotas, the context,
// the processor. Everything is checked before anything is committed; what was reserved on the way is given back when a later check refuses.
// A refusal carries the number that would have fitted. A server's request begins at once or is refused; others may have to queue.

import {
  isRefusal,
  LIMITS,
  LOGITS_BEGIN,
  NO_SLACK,
  PRIORITY_MAX,
  refuse,
  RNG,
  SERVER,
  SESSION_FLAG,
  SESSION_KIND,
  SessionOptions,
  ENCODE,
  strerror,
  type Engine,
  type Refusal,
} from './abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import { checkScales, withScales } from './adapters.ts';
import { prefixOf, type Charging } from './charging.ts';
import type { Life } from './life.ts';
import { Output, readStops } from './output.ts';
import { pagesOf } from './pages.ts';
import type { Residency } from './residency.ts';
import { utilisationPpm } from './sched.ts';
import { dearestRun, type Segments } from './segments.ts';
import type { Request as Asked, Service } from './service.ts';
import { drawOf, Session, STATE, type Caller, type SessionTable, type Submitter } from './session.ts';
import type { Bound } from './wcet/price.ts';
import { transferCycles } from './wcet/targets.ts';

type Options = ReturnType<typeof SessionOptions.read>;
type Fields = Parameters<SessionTable['add']>[1];

/** Events that wait for their reader at most; logits are large, and a detached session's reader may come after its end. */
const EVENTS_MAX = 64;

/** A request as it is after its own checks. */
interface Request {
  readonly caller: Caller;
  readonly engine: Engine;
  readonly o: Options;
  readonly ids: OpenFile;
  readonly count: number;
  readonly maxTokens: number;
  /** Tokens that it can draw at most. */
  readonly tokens: number;
  readonly bound: Bound;
  /** KV pages that it can take. */
  readonly pages: number;
  readonly stops: Uint8Array[];
}

/** A server's figures in cycles, and the rows of its steps. */
interface Served {
  readonly budget: number;
  readonly period: number;
  readonly chunk: number;
  /** Bounds of its steps, in order. */
  readonly steps: readonly number[];
}

export class Admission {
  constructor(
    private readonly k: Service,
    private readonly charging: Charging,
    private readonly residency: Residency,
    private readonly segments: Segments,
    private readonly life: Life,
  ) {}

  /** Admits a request, or says why not; what is refused is written down too. */
  open(caller: Submitter, optionsAt: number, prompt: OpenFile): Session | Refusal {
    const { loader, journal } = this.k;
    const refused = (r: Refusal, known: Partial<Asked> = {}): Refusal => {
      this.life.totals.rejects++;
      this.k.trace.emit('reject', 0, r.code, r.errno);
      journal.refused(caller.uid, known, r);
      return r;
    };
    const unwritten = journal.admits();
    if (unwritten !== null) return refused(unwritten);
    const engine = loader.engine();
    if (engine === null) return refused(refuse('NODEV', 2001, 'no model loaded: llmctl load FILE'));
    const denied = this.k.monitor.refusal(caller, 'run', loader.source()) ?? loader.denies('execute');
    if (denied !== null) return refused(denied);
    const asked = SessionOptions.read(this.k.arena.u8, optionsAt);
    const bad = checkOptions(asked, engine);
    if (bad !== null) return refused(bad, { o: asked });
    const stops = readStops(this.k.arena.u8, optionsAt + SessionOptions.at.stopBytes, asked.stopCount);
    const text = this.tokenize(caller, engine, asked, prompt);
    if (isRefusal(text)) return refused(text, { o: asked, stops });
    const parent = asked.parent === 0 ? null : this.k.table.byId(asked.parent);
    const o = withScales(asked, engine.options.adapters, parent?.scales ?? null);
    const quotaBefore = journal.quotaOf(caller.uid);
    const s = this.admit(this.requestOf(caller, engine, o, text, stops));
    if (isRefusal(s)) {
      refused(s, { o, stops, ids: text.file, count: text.count });
      text.file.close();
    } else journal.submitted(s, { o, stops }, quotaBefore);
    return s;
  }

  private requestOf(
    caller: Caller,
    engine: Engine,
    o: Options,
    { file: ids, count }: { file: OpenFile; count: number },
    stops: Uint8Array[],
  ): Request {
    const { ctx } = engine.options;
    const score = o.kind === SESSION_KIND.score;
    const maxTokens = o.maxTokens === 0 ? Math.min(64, ctx) : o.maxTokens;
    const room = Math.max(1, ctx - count);
    const tokens = score ? 0 : o.maxTokens === 0 ? Math.min(maxTokens, room) : maxTokens;
    const positions = score ? Math.min(ctx, prefixOf(engine) + count) : Math.min(ctx, count + tokens - 1);
    // A request that is too long has no bound, and is refused before it is wanted.
    const isLong = !score && count + Math.max(1, o.maxTokens) > ctx;
    const bound = isLong ? { most: 0, least: 0 } : this.charging.request(engine, o, count, maxTokens);
    return { caller, engine, o, ids, count, maxTokens, tokens, bound, pages: pagesOf(positions), stops };
  }

  // ── The prompt ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The ids that the session begins with: of a session that it continues, then of the prompt. */
  private tokenize(
    caller: Caller,
    engine: Engine,
    o: Options,
    prompt: OpenFile,
  ): { file: OpenFile; count: number } | Refusal {
    const parent = o.parent === 0 ? null : this.parentOf(caller, o.parent);
    if (isRefusal(parent)) return parent;
    const begins = o.kind === SESSION_KIND.generate && parent === null && engine.vocabulary.addBos;
    const flags = (begins ? ENCODE.bos : 0) | ((o.flags & SESSION_FLAG.special) !== 0 ? ENCODE.special : 0);
    const ids =
      (o.flags & SESSION_FLAG.ids) === 0
        ? this.k.loader.tokenizeToFile(engine.vocabulary, prompt, flags)
        : this.copyIds(prompt, engine.vocabulary.count);
    if (isRefusal(ids)) return ids;
    if (ids.count === 0) {
      ids.file.close();
      return refuse('INVAL', 4001, 'empty prompt after tokenization');
    }
    return parent === null ? ids : this.behind(parent, engine, ids);
  }

  /** A prompt that is token ids already, checked against the vocabulary. */
  private copyIds(prompt: OpenFile, vocabulary: number): { file: OpenFile; count: number } | Refusal {
    const { arena, lay, vfs, costs } = this.k;
    const file = vfs.memfd('tokens');
    if (typeof file === 'number') return refuse('NFILE', 4001, `no file for the token ids: ${strerror(file)}`);
    const refused = (r: Refusal): Refusal => {
      file.close();
      return r;
    };
    let count = 0;
    for (let odd = 0; ;) {
      const n = prompt.read(lay.dmaAt + odd, LIMITS.dmaBytes - odd);
      if (n < 0) return refused(refuse('IO', 4001, `cannot read the token ids: ${strerror(n)}`));
      if (n === 0 && odd > 0)
        return refused(refuse('INVAL', 4001, `${count * 4 + odd} bytes are no list of token ids of 4 bytes each`));
      if (n === 0) break;
      const whole = (odd + n) >> 2;
      const strange = arena.u32.subarray(lay.dmaAt >> 2, (lay.dmaAt >> 2) + whole).findIndex(id => id >= vocabulary);
      if (strange >= 0) {
        const id = arena.u32[(lay.dmaAt >> 2) + strange]!;
        return refused(refuse('INVAL', 4002, `token ${count + strange} is ${id}, the vocabulary has ${vocabulary}`));
      }
      if (file.write(lay.dmaAt, whole * 4) !== whole * 4)
        return refused(refuse('NOSPC', 4001, `no room in memory storage for ${count + whole} token ids`));
      odd = (odd + n) & 3;
      arena.u8.copyWithin(lay.dmaAt, lay.dmaAt + whole * 4, lay.dmaAt + whole * 4 + odd);
      count += whole;
    }
    costs.transfer(4 * count);
    file.seek(0, 0);
    return { file, count };
  }

  /** A session of the caller's that has ended, and whose history is still there. */
  private parentOf(caller: Caller, id: number): Session | Refusal {
    const parent = this.k.table.byId(id);
    if (!parent?.isSeenBy(caller.uid))
      return refuse('SRCH', 7001, `no session ${id} to continue: it was closed, or its memory was wanted`);
    if (!parent.hasEnded) return refuse('BUSY', 7001, `session ${id} has not ended`);
    if (parent.isScore || this.residency.slotOf(parent) === null)
      return refuse('INVAL', 7001, `session ${id} has no history to continue: it never began, or scored a text`);
    return parent;
  }

  /** What the parent has read and said, without the token that ended it, and the new ids behind. */
  private behind(
    parent: Session,
    engine: Engine,
    { file: tail, count }: { file: OpenFile; count: number },
  ): { file: OpenFile; count: number } | Refusal {
    const { arena, lay, vfs, costs } = this.k;
    const { historyAt } = this.residency.slotOf(parent)!;
    let length = parent.get('promptTokens') + parent.get('outputTokens');
    if (parent.get('outputTokens') > 0 && engine.vocabulary.isEnd(arena.u32[(historyAt >> 2) + length - 1]!)) length--;
    const file = vfs.memfd('tokens');
    const wrote = typeof file === 'number' ? file : file.write(historyAt, length * 4);
    if (typeof file === 'number' || wrote !== length * 4) {
      tail.close();
      return refuse('NOSPC', 4001, `no room in memory storage for ${length + count} token ids`);
    }
    for (let n = 0; (n = tail.read(lay.dmaAt, LIMITS.dmaBytes)) > 0;) file.write(lay.dmaAt, n);
    tail.close();
    costs.transfer((length + count) * 4);
    file.seek(0, 0);
    return { file, count: length + count };
  }

  // ── In order ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private admit(r: Request): Session | Refusal {
    const { quotas, budget } = this.k;
    const { o, caller } = r;
    const refusal = checkPrompt(r) ?? this.checkPlaces();
    if (refusal !== null) return refusal;
    const reserved = {
      tokens: r.tokens,
      cycles: r.bound.most,
      kvBytes: r.pages * r.engine.pageBytes,
    };
    const overQuota = quotas.admit(caller.uid, reserved);
    if (overQuota !== null) return overQuota;
    const streams = (o.flags & SESSION_FLAG.stream) !== 0;
    const budgetTokens = streams ? 0 : r.tokens;
    const overBudget = streams ? null : budget.request(budgetTokens);
    const late = overBudget ?? checkContext(r);
    const s = late ?? this.commit(r, reserved.kvBytes, budgetTokens);
    if (isRefusal(s)) {
      quotas.settle(caller.uid, reserved, { tokens: 0, cycles: 0 });
      if (!streams && overBudget === null) budget.settle(budgetTokens, 0);
    }
    return s;
  }

  /** Sessions of all users, and the slots of those that have ended and are still open. */
  private checkPlaces(): Refusal | null {
    const { table } = this.k;
    const most = LIMITS.sessionsMax;
    if (table.live().length >= most) return refuse('AGAIN', 3002, `${most} sessions are live, ${most} at most`);
    const [oldest] = table.evictable();
    if (table.freeSlot() >= 0 || oldest !== undefined) return null;
    return refuse('AGAIN', 3002, `all ${most} slots are taken by sessions that are still open; one must be closed`);
  }

  private commit(r: Request, kvBytes: number, budgetTokens: number): Session | Refusal {
    const { table, trace } = this.k;
    const { engine, o } = r;
    const stepMax = this.stepMax(r);
    const served = o.server === SERVER.none ? this.besides(stepMax) : this.serve(r, stepMax);
    if (isRefusal(served)) return served;
    if (table.freeSlot() < 0) this.life.forget(table.evictable()[0]!);
    const slot = table.freeSlot();
    const detached = (o.flags & SESSION_FLAG.detached) !== 0;
    const capacity = o.logitsK > 0 ? 1 : detached ? LIMITS.generationTokensMax + 1 : EVENTS_MAX;
    const output = new Output(r.stops, capacity);
    const s = new Session(this.k.arena, slot, table.recordAt(slot), output, r.ids, r.count, drawOf(o));
    this.life.notePeaks(); // what there was until now is not this session's
    table.add(s, { ...this.recordOf(r, served), kvBytes, budgetTokens, stepMaxCycles: stepMax });
    this.charging.seed(s, o.seed);
    const now = this.afterwards(r.count);
    const refusal = served === null ? null : this.promise(s, engine, o, served, now);
    if (refusal !== null) {
      table.remove(s);
      return refusal;
    }
    this.life.totals.total++;
    trace.emit('submit', s.id, r.count, r.tokens);
    if (served !== null) {
      trace.emit('admit', s.id, utilisationPpm(served.budget, served.period), o.server);
      table.servers++;
      this.life.begin(s, engine, this.life.place());
      this.k.sched.wake(slot, now);
      s.isAwake = true;
    }
    this.life.totals.queueDepthMax = Math.max(this.life.totals.queueDepthMax, this.life.queueDepth());
    this.life.traceQueue();
    return s;
  }

  /** What its record says of it from the beginning, most of it as it was asked for. */
  private recordOf({ caller, engine, o, count, tokens, maxTokens, bound }: Request, served: Served | null): Fields {
    const { clock, arena, loader } = this.k;
    const nowNs = clock.nowNs();
    const score = o.kind === SESSION_KIND.score;
    // A request that must take longer by itself gets the time that it was told it would take.
    const timeoutNs =
      o.timeoutMs === 0 ? Math.max(LIMITS.sessionTimeoutMs * 1e6, clock.nsOf(bound.most)) : o.timeoutMs * 1e6;
    return {
      ...o,
      ...LOGITS_BEGIN,
      state: STATE.queued,
      uid: caller.uid,
      pid: caller.pid,
      model: loader.generation,
      promptTokens: score ? 0 : count,
      chunk: served?.chunk ?? engine.options.batch,
      maxTokens,
      reservedTokens: tokens,
      wcetCycles: bound.most,
      bcetCycles: bound.least,
      budgetCycles: served?.budget ?? 0,
      periodNs: served === null ? 0 : clock.nsOf(served.period),
      deadlineNs: o.deadlineNs === 0 ? 0 : nowNs + o.deadlineNs,
      slackNs: NO_SLACK,
      timeoutNs: score && o.timeoutMs === 0 ? 0 : nowNs + timeoutNs,
      submittedNs: nowNs,
      arenaPeak: arena.usage().offset,
    };
  }

  // ── The processor ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Its dearest step of one row. */
  private stepMax({ engine, o, count, tokens }: Request): number {
    const prices = this.k.loader.prices();
    const { ctx } = engine.options;
    const score = o.kind === SESSION_KIND.score;
    const length = score ? ctx : Math.min(ctx, count + tokens);
    const row = prices.passMost(
      1,
      dearestRun(length, 1, pos => prices.bodyPosition(pos)),
    );
    if (!score) return row + this.charging.tailMost(drawOf(o), o.logitsK, length);
    return row + this.charging.lossMost(ctx - 1) + transferCycles(this.k.costs.target, 4 * ctx).upper; // the text of a chunk comes before its first row
  }

  /** Beside servers nobody's step is longer than they were promised. */
  private besides(stepMax: number): Refusal | null {
    if (this.k.table.servers === 0 || stepMax <= this.segments.blocking()) return null;
    return refuse(
      'AGAIN',
      3002,
      `a step of ${stepMax} cycles: servers were promised that none is longer than ${this.segments.blocking()}`,
    );
  }

  /** A server's figures, when what it needs beside the processor is there: a slot, its pages, a budget for its dearest step. */
  private serve(r: Request, stepMax: number): Served | Refusal {
    const { clock } = this.k;
    const { o, engine } = r;
    const least = Math.max(stepMax, this.residency.moveCycles());
    const passMax = Math.max(this.segments.passMax, least);
    // Of a request that has only a deadline: what is left of it where the first period can begin.
    const lead = this.afterwards(r.count) - clock.cycles();
    const period = o.periodNs > 0 ? clock.cyclesIn(o.periodNs) : Math.max(1, clock.cyclesIn(o.deadlineNs) - lead);
    if (o.budgetCycles !== 0 && o.budgetCycles < least)
      return refuse('INVAL', 7001, `a budget of ${o.budgetCycles} cycles: its dearest step takes ${least}`);
    const whole = this.steps(r, this.chunkFor(r, passMax));
    const asked = o.budgetCycles !== 0 ? o.budgetCycles : o.deadlineNs !== 0 ? Math.max(least, sum(whole)) : least;
    const chunk = this.chunkFor(r, Math.min(passMax, asked));
    const place = this.residency.freePlace();
    if (place === 0 && !this.k.table.evictable().some(s => s.get('place') !== 0)) {
      const slots = engine.options.sessions;
      return refuse('AGAIN', 3002, `all ${slots} slots are taken; a server begins at once or not at all`);
    }
    const pages = engine.options.pages - this.residency.promised();
    if (r.pages > pages)
      return refuse(
        'NOMEM',
        3001,
        `${r.pages} ${r.pages === 1 ? 'page is' : 'pages are'} to be kept for it, ${pages} of ${engine.options.pages} are left`,
      );
    return { budget: asked, period, chunk, steps: this.steps(r, chunk) };
  }

  /** The most rows of a step that takes no more than `most` cycles, wherever it stands. */
  private chunkFor(r: Request, most: number): number {
    let chunk = Math.min(r.engine.options.batch, r.count);
    while (chunk > 1 && this.steps(r, chunk).some(cycles => cycles > most)) chunk--;
    return chunk;
  }

  /**
   * Bounds of a request's steps, prompt by chunks and then token by token. Of a chunk whose beginning is shared the rest is computed, and fewer
   * rows may take longer than more do where kernels take several at once.
   */
  private steps({ o, count, tokens }: Request, chunk: number): number[] {
    const prices = this.k.loader.prices();
    const draw = drawOf(o);
    const steps: number[] = [];
    const step = (n: number, pos: number, draws: boolean): void => {
      let positions = 0;
      for (let p = pos; p < pos + n; p++) positions += prices.bodyPosition(p);
      let dearest = 0;
      for (let rows = 1; rows <= n; rows++) dearest = Math.max(dearest, prices.passMost(rows, positions));
      steps.push(dearest + (draws ? this.charging.tailMost(draw, o.logitsK, pos + n) : 0));
    };
    for (let pos = 0; pos < count; pos += chunk) step(Math.min(chunk, count - pos), pos, pos + chunk >= count);
    for (let pos = count; pos < count + tokens - 1; pos++) step(1, pos, true);
    return steps;
  }

  /** When the call that admits a server has ended and its history is read: its first period begins no sooner. */
  private afterwards(tokens: number): number {
    const { clock, costs } = this.k;
    const { switchCycles } = costs.target.overhead;
    return clock.cycles() + transferCycles(costs.target, tokens * 4).upper + this.segments.callMax + switchCycles;
  }

  /** Enters the session with the scheduler; a deadline of its own must lie behind what that promises. */
  private promise(s: Session, engine: Engine, o: Options, served: Served, now: number): Refusal | null {
    const { sched, clock } = this.k;
    const { budget, period } = served;
    const kind = o.server === SERVER.hard ? SERVER.hard : SERVER.soft;
    const lead = o.periodNs > 0 ? {} : { lead: now - clock.cycles() };
    const wanted = { session: s.id, kind, budget, period, priority: o.priority, ...lead };
    const refusal = sched.admit(s.slot, wanted, clock.cycles(), this.segments.blocking(), now);
    if (refusal !== null) return refusal;
    // Pages that others must give up first: each is a step of its own.
    const lacking = this.residency.lackingFor(s.u64('kvBytes') / engine.pageBytes);
    const moves = Array.from({ length: lacking }, () => this.residency.moveCycles());
    const response = now - clock.cycles() + sched.responseBound(s.slot, [...moves, ...served.steps], now);
    const responseNs = Number.isFinite(response) ? clock.nsOf(response) : 0;
    s.setU64('responseNs', responseNs);
    // What is promised is waited for, unless a shorter time was asked for.
    if (o.timeoutMs === 0) s.setU64('timeoutNs', Math.max(s.u64('timeoutNs'), clock.nowNs() + responseNs));
    if (o.deadlineNs === 0 || (responseNs !== 0 && responseNs <= o.deadlineNs)) return null;
    sched.remove(s.slot);
    return refuse(
      'AGAIN',
      3002,
      responseNs === 0
        ? `policy ${sched.policy} promises nothing: no deadline can be kept`
        : `${budget} cycles every ${clock.nsOf(period)} ns end it within ${responseNs} ns, ${o.deadlineNs} ns were asked`,
    );
  }
}

const sum = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0);

// ── A request by itself ──────────────────────────────────────────────────────────────────────────────────────────────────────────

function checkOptions(o: Options, engine: Engine): Refusal | null {
  const bad = (text: string): Refusal => refuse('INVAL', 7001, text);
  if (!(o.temp >= 0 && o.temp <= 100)) return bad(`temperature ${o.temp} is not in 0…100`);
  if (!(o.topP > 0 && o.topP <= 1)) return bad(`top-p ${o.topP} is not in 0…1, 0 excluded`);
  if (!(o.minP >= 0 && o.minP <= 1)) return bad(`min-p ${o.minP} is not in 0…1`);
  if (!(o.repeatPenalty > 0 && o.repeatPenalty <= 100))
    return bad(`repeat penalty ${o.repeatPenalty} is not in 0…100, 0 excluded`);
  if (o.logitsK > LIMITS.topLogitsMax) return bad(`logits ${o.logitsK} asked, ${LIMITS.topLogitsMax} at most`);
  if (o.stopCount > LIMITS.stopStringsMax) return bad(`${o.stopCount} stop strings, ${LIMITS.stopStringsMax} at most`);
  if (o.rng > RNG.lcg) return bad(`unknown random generator ${o.rng}`);
  if (o.kind > SESSION_KIND.score) return bad(`unknown session kind ${o.kind}`);
  if (o.priority > PRIORITY_MAX) return bad(`priority ${o.priority} is not in 0…${PRIORITY_MAX}`);
  if (o.server > SERVER.soft) return bad(`unknown server ${o.server}`);
  if (o.server !== SERVER.none && o.periodNs === 0 && o.deadlineNs === 0)
    return bad('a server without a period, and without a deadline that could be one');
  const scales = checkScales(o, engine.options.adapters);
  if (scales !== null || o.kind !== SESSION_KIND.score) return scales;
  if (o.server !== SERVER.none || o.parent !== 0) return bad('a text is scored by itself, and without a server');
  return engine.scoreAt === 0
    ? refuse('NOTSUP', 5002, `the ${engine.name} engine has no probabilities to score`)
    : null;
}

const promptTooLong = (tokens: number): Refusal | null =>
  tokens > LIMITS.promptTokensMax
    ? refuse('TOOBIG', 2002, `prompt is ${tokens} tokens, ${LIMITS.promptTokensMax} at most`)
    : null;

function checkPrompt({ o, count }: Request): Refusal | null {
  const tooLong = o.kind === SESSION_KIND.score ? null : promptTooLong(count);
  if (tooLong !== null) return tooLong;
  if (o.maxTokens > LIMITS.generationTokensMax)
    return refuse('INVAL', 2002, `max-tokens ${o.maxTokens} asked, ${LIMITS.generationTokensMax} at most`);
  return null;
}

const checkContext = ({ o, count, engine }: Request): Refusal | null =>
  o.kind === SESSION_KIND.score ? null : checkLength(count, o.maxTokens, engine.options.ctx);

/** Spec §10: prompt > limit → 2002; prompt + generation > context → 2003. */
export function checkLength(promptTokens: number, maxTokens: number, ctx: number): Refusal | null {
  const tooLong = promptTooLong(promptTokens);
  if (tooLong !== null) return tooLong;
  const generation = Math.max(1, maxTokens);
  if (promptTokens + generation > ctx)
    return refuse(
      'OVERFLOW',
      2003,
      `prompt ${promptTokens} + generation ${generation} tokens > context ${ctx}; ` +
        (promptTokens < ctx
          ? `${ctx - promptTokens} would fit`
          : `a prompt of ${Math.max(1, ctx - generation)} tokens would fit`),
    );
  return null;
}
