// A session's life: it leaves the queue, it ends, and what is told of it. Whatever ends a session passes through `finish`, once: there it is
// struck from the ledgers that admission entered it in (scheduler, page pool, quotas, the period budget) and told to totals, audit and trace.

import { FINISH, SESSION_FLAG, type Engine, type FinishReason } from './abi/index.ts';
import { scalesOf } from './adapters.ts';
import { prefixOf, type Charging } from './charging.ts';
import { panic } from './panic.ts';
import type { Residency } from './residency.ts';
import { Samples } from './samples.ts';
import type { Report, Service } from './service.ts';
import { ROOT } from '../vfs/permission.ts';
import { SessionRecord, STATE, type Session } from './session.ts';

/** What has been since power-on, of ended sessions where nothing else is said. */
export interface SessionTotals {
  total: number; // admitted
  promptTokens: number;
  outputTokens: number;
  cancelled: number;
  faulted: number;
  deadlineMisses: number; // requests that came too late: time-outs, deadlines of their own, the machine's bound
  rejects: number;
  lastUid: number; // whose the last was
  lastLatencyNs: number;
  lastFirstTokenNs: number;
  cycles: number;
  queueDepthMax: number;
}

/** The specification's code for an end that was not the session's own. */
const CODES: Partial<Record<FinishReason, number>> = { fault: 5002, cancel: 2005, timeout: 2004, quota: 3003 };

/** Of a session whose weights could not be read. */
const UNREADABLE = 6001;

export class Life {
  readonly totals: SessionTotals = {
    total: 0,
    promptTokens: 0,
    outputTokens: 0,
    cancelled: 0,
    faulted: 0,
    deadlineMisses: 0,
    rejects: 0,
    lastUid: ROOT.euid,
    lastLatencyNs: 0,
    lastFirstTokenNs: 0,
    cycles: 0,
    queueDepthMax: 0,
  };
  readonly firstTokenNs: Samples;

  constructor(
    private readonly k: Service,
    private readonly charging: Charging,
    private readonly residency: Residency,
  ) {
    this.firstTokenNs = new Samples(k.arena, k.lay.samplesAt);
  }

  // ── It begins ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** An engine slot for a session that is to begin; where none is free, that of the longest ended one that nobody holds open; or 0. */
  place(): number {
    const free = this.residency.freePlace();
    if (free !== 0) return free;
    const oldest = this.k.table.evictable().find(s => s.get('place') !== 0);
    if (oldest === undefined) return 0;
    this.forget(oldest);
    return this.residency.freePlace();
  }

  /** A session leaves the queue for an engine slot that is free: its history is written, and what the pool knows of it is found. */
  begin(s: Session, engine: Engine, place: number): void {
    const { arena, clock, costs, sched, trace } = this.k;
    s.set('place', place);
    s.set('state', STATE.prefill);
    s.setU64('beganNs', clock.nowNs());
    const { historyAt, tableAt } = this.residency.slotOf(s)!;
    arena.u8.fill(0, historyAt, historyAt + engine.slots.bytes); // whoever was there before
    arena.f32.set(scalesOf(s.scales, engine.options.adapters.length), (tableAt + engine.scalesAt) >> 2);
    if (!s.isScore) {
      s.ids.readAt(0, historyAt, s.idCount * 4);
      costs.transfer(s.idCount * 4);
      engine.begin(historyAt, s.idCount, s.get('maxTokens'));
    }
    const shared = this.residency.begin(s);
    s.set('pos', shared);
    s.set('sharedTokens', shared);
    this.charging.body(s, engine, shared);
    if (s.isServer) this.residency.settle();
    else sched.addBestEffort(s.slot, { session: s.id, priority: s.get('priority') });
    trace.emit('begin', s.id, s.slot, shared);
    this.traceQueue();
  }

  /** The next chunk of a text that is scored: its tokens behind a first one, if the model has one. */
  beginChunk(s: Session, engine: Engine): void {
    const { arena, costs } = this.k;
    const { historyAt } = this.residency.slotOf(s)!;
    const prefix = prefixOf(engine);
    const done = s.get('promptTokens');
    const textTokens = Math.min(engine.options.ctx - 1, s.idCount - done);
    if (prefix === 1) arena.u32[historyAt >> 2] = engine.vocabulary.bos;
    s.ids.readAt(done * 4, historyAt + prefix * 4, textTokens * 4);
    costs.transfer(textTokens * 4);
  }

  // ── It ends ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Ends a session, and as a fault if its charges are not what was said. */
  finish(s: Session, reason: FinishReason): void {
    const { clock, sched, trace } = this.k;
    if (s.hasEnded) return;
    clock.check();
    const why = reason !== 'fault' && !this.charging.isEnded(s, reason) ? 'fault' : reason;
    if (s.isRunning) {
      sched.remove(s.slot);
      if (s.isServer) this.k.table.servers--;
      this.residency.release(s);
    }
    s.isAwake = false;
    s.set('state', endState(why));
    s.set('finish', FINISH.indexOf(why));
    s.setU64('endedNs', clock.nowNs());
    this.notePeaks();
    s.output.end(why);
    const late = this.isLate(s, why);
    this.settle(s);
    this.count(s, why, late);
    trace.emit('end', s.id, FINISH.indexOf(why), s.get('outputTokens'));
    this.traceQueue();
    this.residency.traceMemory();
    this.k.journal.ended(s, {
      report: this.report(s),
      code: s.fault === '' ? (CODES[why] ?? 0) : UNREADABLE,
      late,
      historyAt: s.isScore ? 0 : (this.residency.slotOf(s)?.historyAt ?? 0),
      message: s.fault,
    });
    s.ids.close();
  }

  /** Gives back what it reserved and did not use. */
  private settle(s: Session): void {
    const { quotas, budget } = this.k;
    const tokens = s.get('outputTokens');
    const reserved = { tokens: s.get('reservedTokens'), cycles: s.u64('wcetCycles'), kvBytes: s.u64('kvBytes') };
    quotas.settle(s.uid, reserved, { tokens, cycles: s.u64('cycles') });
    if (!s.has(SESSION_FLAG.stream)) budget.settle(s.get('budgetTokens'), Math.min(tokens, s.get('budgetTokens')));
  }

  /** Later than it was to be: timed out, behind its own deadline, or dearer than the machine allows. */
  private isLate(s: Session, why: FinishReason): boolean {
    const { trace, budget } = this.k;
    const deadline = s.u64('deadlineNs');
    const ended = s.u64('endedNs');
    if (deadline !== 0 && ended > deadline && why !== 'cancel') {
      trace.emit('miss', s.id, Math.ceil((ended - deadline) / 1000), 0);
      return true;
    }
    return why === 'timeout' || s.u64('cycles') > budget.missAfter(s.u64('wcetCycles'));
  }

  private count(s: Session, why: FinishReason, late: boolean): void {
    const t = this.totals;
    const submitted = s.u64('submittedNs');
    const first = s.u64('firstTokenNs');
    t.promptTokens += s.get('promptTokens');
    t.outputTokens += s.get('outputTokens');
    t.cycles += s.u64('cycles');
    t.lastUid = s.uid;
    t.lastLatencyNs = s.u64('endedNs') - submitted;
    t.lastFirstTokenNs = first === 0 ? 0 : first - submitted;
    if (why === 'cancel') t.cancelled++;
    if (why === 'fault') t.faulted++;
    if (late) t.deadlineMisses++;
    this.k.pace.after({ missed: late, queued: this.queueDepth() });
  }

  /** Forgets a session that has ended; its slots are free. */
  forget(s: Session): void {
    if (!s.hasEnded) panic(`session ${s.id} has not ended`);
    this.k.table.remove(s);
  }

  // ── What is told of it ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  report(s: Session): Report {
    if (!s.hasEnded) this.notePeaks();
    const r = SessionRecord.read(this.k.arena.u8, s.recordAt);
    const engine = this.k.loader.engine();
    const pages = this.residency.named(s);
    const known = engine !== null && r.model === this.k.loader.generation;
    return {
      ...r,
      pages,
      swappedPages: this.residency.swapped(s),
      consumed: s.output.consumed,
      nll: r.scored === 0 ? 0 : r.nllSum / r.scored,
      kvBytes: known ? pages * engine.pageBytes : 0,
      model: known ? engine.shape.name : '',
      fault: s.fault,
    };
  }

  /** The machine's peak since the last time belongs to everyone who was there. */
  notePeaks(): void {
    const { arena, table } = this.k;
    const peak = Math.max(arena.takeWindowPeak(), arena.usage().offset);
    for (const s of table.live()) s.setU64('arenaPeak', Math.max(s.u64('arenaPeak'), peak));
  }

  queueDepth(): number {
    return this.k.table.live().filter(s => s.isQueued).length;
  }
  active(): number {
    return this.k.table.live().length;
  }

  traceQueue(): void {
    const queued = this.queueDepth();
    this.k.trace.emit('queue', 0, queued, this.active() - queued);
  }
}

function endState(why: FinishReason): number {
  if (why === 'fault') return STATE.faulted;
  if (why === 'cancel') return STATE.cancelled;
  return why === 'timeout' ? STATE.timeout : STATE.done;
}
