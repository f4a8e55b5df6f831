// Sessions: the service that programs see. Prompts are submitted, read, cancelled and closed here; admission, dispatch and the ledgers are
// behind it. Every user sees sessions of his own only, the superuser all; a handle that is nobody's, or somebody else's, says so.

import {
  E,
  isRefusal,
  KIND,
  POLICY,
  SCHED_KEEP,
  refuse,
  SESSION_COLUMNS,
  SESSION_STATE,
  FINISH,
  type LlmStats,
  type ProbeOptions,
  type Refusal,
  type SchedOptions,
  type SchedReport,
} from './abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import { ROOT } from '../vfs/permission.ts';
import { Admission } from './admission.ts';
import { Charging } from './charging.ts';
import { Dispatcher, type PassFigures } from './dispatch.ts';
import { Life } from './life.ts';
import { pageMap } from './page-map.ts';
import { Probe, wishOf, type Look } from './probe.ts';
import { Residency } from './residency.ts';
import { Segments } from './segments.ts';
import type { Report, Service } from './service.ts';
import type { Caller, Session, Submitter } from './session.ts';
import { Trainer } from './train/trainer.ts';
import { transferCycles } from './wcet/targets.ts';

type Figures = ReturnType<typeof LlmStats.read>;
type SchedFigures = ReturnType<typeof SchedReport.read>;

/** Rights of the kernel itself. */
const KERNEL: Caller = { pid: 0, uid: ROOT.euid };

export class Sessions {
  private readonly charging: Charging;
  private readonly residency: Residency;
  private readonly life: Life;
  private readonly segments: Segments;
  private readonly admission: Admission;
  private readonly dispatcher: Dispatcher;
  readonly probe: Probe;
  readonly training: Trainer;

  constructor(private readonly k: Service) {
    this.charging = new Charging(k);
    this.residency = new Residency(k);
    this.life = new Life(k, this.charging, this.residency);
    this.segments = new Segments(k, this.charging, this.residency, () => this.training.opMax);
    this.training = new Trainer(k, this.segments);
    this.admission = new Admission(k, this.charging, this.residency, this.segments, this.life);
    this.dispatcher = new Dispatcher(k, this.charging, this.residency, this.segments, this.life, this.training);
    this.probe = new Probe(k, this.residency);
  }

  // ── Calls ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Decodes and checks everything, then commits. Returns the session's handle. */
  open(caller: Submitter, optionsAt: number, prompt: OpenFile): number | Refusal {
    this.sync();
    const s = this.admission.open(caller, optionsAt, prompt);
    return isRefusal(s) ? s : s.handle;
  }

  /** What open() takes at most: the text to ids, those of the session it continues before them, all of them to storage and back; and its call. */
  openingMax(prompt: OpenFile): number {
    const { loader, costs } = this.k;
    const { kind, size } = prompt.stat();
    if (kind !== KIND.file) return Infinity; // it may be of any length
    const bytes = Math.max(0, size - prompt.position);
    const priced = bytes === 0 ? null : loader.priced(costs.target, { bytes, tokens: 0 });
    if (priced === null || isRefusal(priced)) return 0; // refused at once
    const tokens = 2 * (bytes + 1) + priced.options.ctx;
    const { syscallCycles, switchCycles } = costs.target.overhead;
    const moved = 3 * transferCycles(costs.target, 4 * tokens).upper;
    return (priced.tokenize?.most ?? 0) + moved + syscallCycles + switchCycles;
  }

  /** A handle of the session with that id, or -errno. */
  find(id: number, caller: Caller): number {
    const s = this.k.table.byId(id);
    return s?.isSeenBy(caller.uid) ? s.handle : -E.SRCH;
  }

  /** Writes the next event at `to`; bytes written, 0 after the end, null when there is none yet; -errno. The end is there once it is recorded. */
  read(handle: number, to: number, capacity: number, caller = KERNEL): number | null {
    const s = this.own(handle, caller);
    if (typeof s === 'number') return s;
    if (s.output.isAtEnd && !this.k.journal.isAcknowledged(s)) return null;
    const n = s.output.read(this.k.arena.u8, to, capacity);
    return n === -1 ? -E.RANGE : n;
  }

  /** Why the end of a session, to which its reader has come, will not be recorded; null: it is, or will be. */
  unwritten(handle: number): Refusal | null {
    const { table, journal } = this.k;
    const s = table.find(handle);
    return s === null || !s.output.isAtEnd || journal.isAcknowledged(s) ? null : journal.stopped();
  }

  /** The session ends before its next step. */
  cancel(handle: number, caller = KERNEL): number {
    const s = this.own(handle, caller);
    if (typeof s === 'number') return s;
    s.isCancelled = true;
    return 0;
  }

  report(handle: number, caller = KERNEL): Report | number {
    const s = this.own(handle, caller);
    return typeof s === 'number' ? s : this.life.report(s);
  }

  /** Token ids of prompt and output from index `from` on, copied to `to`; bytes written. They stand in the history of a session that has begun. */
  tokens(handle: number, from: number, to: number, capacity: number, caller = KERNEL): number {
    const s = this.own(handle, caller);
    if (typeof s === 'number') return s;
    const slot = this.residency.slotOf(s);
    if (slot === null || s.isScore) return 0;
    const length = s.get('promptTokens') + s.get('outputTokens');
    const bytes = Math.max(0, Math.min(length - from, capacity >> 2)) * 4;
    this.k.arena.u8.copyWithin(to, slot.historyAt + from * 4, slot.historyAt + from * 4 + bytes);
    return bytes;
  }

  /** A look into a step of the session, or with handle 0 of the one that took a step last. */
  look(handle: number, asked: ReturnType<typeof ProbeOptions.read>, caller: Caller): Look | Refusal | number {
    const s = handle === 0 ? null : this.own(handle, caller);
    if (typeof s === 'number') return s;
    const wish = wishOf(s?.id ?? 0, asked);
    return isRefusal(wish) ? wish : this.probe.look(wish, caller.uid);
  }

  /** A session still running is cancelled first. */
  close(handle: number, caller = KERNEL): number {
    const s = this.own(handle, caller);
    if (typeof s === 'number') return s;
    this.drop(s);
    return 0;
  }

  /** A process ended: so do its training and its sessions, but those that were to outlive it. */
  closeOwnedBy(pid: number): void {
    this.training.closeOwnedBy(pid);
    for (const s of this.k.table.all()) if (s.get('pid') === pid && !s.isDetached) this.drop(s);
  }

  /** After a load the histories of ended sessions are gone: those that nobody holds open go with them. None is live then. */
  private sync(): void {
    if (!this.residency.sync()) return;
    for (const s of this.k.table.all()) {
      s.set('place', 0);
      if (s.isDetached) this.life.forget(s);
    }
  }

  private drop(s: Session): void {
    this.life.finish(s, 'cancel');
    this.life.forget(s);
  }

  /** The session, if the caller may see it. */
  private own(handle: number, caller: Caller): Session | number {
    const s = this.k.table.find(handle);
    if (s === null) return -E.BADF;
    return s.isSeenBy(caller.uid) ? s : -E.ACCES;
  }

  // ── Running ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The processor is held in the middle of a pass: run() goes on with that, and with nothing else. */
  get isHeld(): boolean {
    return this.dispatcher.isHeld;
  }
  /** Passes since power-on, and what the one at hand, or the last one, takes. */
  get passes(): number {
    return this.dispatcher.figures.passes;
  }
  get latestPass(): PassFigures {
    return this.dispatcher.latest;
  }

  /** One segment: a pass over the weights, or a page moved; and the audit log is flushed. False when nothing can run. */
  run(): boolean {
    if (this.isHeld) return this.dispatcher.run();
    this.sync();
    const { journal } = this.k;
    const slack = (): number => this.dispatcher.slack();
    const flushed = journal.flush(slack, false);
    return this.dispatcher.run() || flushed || journal.flush(slack, true);
  }

  /** When something can run that cannot now, in cycles; null: nothing waits for time. */
  nextEvent(): number | null {
    const next = this.dispatcher.nextEvent();
    const stored = this.k.journal.nextEvent();
    return next === null || stored === null ? (next ?? stored) : Math.min(next, stored);
  }
  /** When the first session of all will have taken too long, in cycles; null: none can. */
  nextTimeout(): number | null {
    return this.dispatcher.nextTimeout();
  }

  /** True when other work may take the processor for so long, and no server misses a deadline for it. */
  mayTake(cycles: number): boolean {
    return this.dispatcher.mayTake(cycles);
  }

  /** A program may run until it yields. */
  mayRunProgram(): boolean {
    return this.mayTake(this.segments.quantumMax);
  }

  /** Servers are admitted: calls whose length nobody knows wait until they have ended. */
  get isServing(): boolean {
    return this.k.table.servers > 0;
  }
  get callMax(): number {
    return this.segments.callMax;
  }

  /** The id of the session whose step is running, for panics; 0 = none. */
  current(): number {
    return this.dispatcher.passes.current;
  }

  // ── What is told ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

  queueDepth(): number {
    return this.life.queueDepth();
  }
  active(): number {
    return this.life.active();
  }

  /** Whether a user may know what a session does: their own while they are there, the superuser all. */
  isSeenBy(uid: number, id: number): boolean {
    return uid === ROOT.euid || (this.k.table.byId(id)?.isSeenBy(uid) ?? false);
  }

  /** /proc/sessions as a user sees it: SESSION_COLUMNS, then a line a session. */
  list(uid: number): string {
    const rows = this.k.table
      .all()
      .filter(s => s.isSeenBy(uid))
      .map(s => {
        const report = this.life.report(s);
        const words = { ...report, state: SESSION_STATE[report.state], finish: FINISH[report.finish] || '-' };
        return SESSION_COLUMNS.map(column => words[column]).join('\t');
      });
    return [SESSION_COLUMNS.join('\t'), ...rows].map(line => `${line}\n`).join('');
  }

  /** /proc/pages as a user sees it; empty until the pool of a model that has just been loaded is laid out. */
  pages(uid: number): string {
    const engine = this.k.loader.engine();
    if (engine === null || !this.residency.isLaidOut) return '';
    const holders = this.k.table.all().flatMap(session => {
      const slot = session.isRunning ? this.residency.slotOf(session) : null;
      return slot === null ? [] : [{ session, tableAt: slot.tableAt }];
    });
    return pageMap(this.k.pool, holders, engine.options.ctx, uid);
  }

  /** Cycles of the sessions that a process has open. */
  cyclesOf(pid: number): number {
    let cycles = 0;
    for (const s of this.k.table.all()) if (s.get('pid') === pid) cycles += s.u64('cycles');
    return cycles;
  }

  /** The machine's figures as a user sees them: of single requests, and of those that run, only their own are in it. */
  stats(uid: number = ROOT.euid): Figures {
    const t = this.life.totals;
    const { passes, rows, spent, busyNs } = this.dispatcher.figures;
    const { firstTokenNs } = this.life;
    const { stepNs, slackNs, jitterNs } = this.dispatcher;
    const pool = this.k.pool.figures();
    // Those that run count with what they have so far: what was saved is known at once.
    const live = this.k.table.live().filter(s => s.isSeenBy(uid));
    const isLastSeen = uid === ROOT.euid || uid === t.lastUid;
    const sum = (ended: number, of: (s: Session) => number): number => live.reduce((n, s) => n + of(s), ended);
    const charged = sum(t.cycles, s => s.u64('cycles'));
    return {
      sessionsTotal: t.total,
      sessionsActive: this.active(),
      queueDepth: this.queueDepth(),
      queueDepthMax: t.queueDepthMax,
      promptTokens: sum(t.promptTokens, s => s.get('promptTokens')),
      outputTokens: sum(t.outputTokens, s => s.get('outputTokens')),
      cancelled: t.cancelled,
      faulted: t.faulted,
      deadlineMisses: t.deadlineMisses,
      rejects: t.rejects,
      lastLatencyNs: isLastSeen ? t.lastLatencyNs : 0,
      lastFirstTokenNs: isLastSeen ? t.lastFirstTokenNs : 0,
      cyclesTotal: charged,
      passes,
      rows,
      savedCycles: Math.max(0, charged - spent),
      busyNs,
      ttftP50Ns: firstTokenNs.percentile(0.5),
      ttftP99Ns: firstTokenNs.percentile(0.99),
      stepP50Ns: stepNs.percentile(0.5),
      stepP99Ns: stepNs.percentile(0.99),
      slackP50Ns: slackNs.percentile(0.5),
      slackP1Ns: slackNs.percentile(0.01),
      jitterP99Ns: jitterNs.percentile(0.99),
      pagesTotal: pool.total,
      pagesFree: pool.free,
      pagesCached: pool.cached,
      pagesShared: pool.shared,
      pagesSwapped: pool.swapped,
      copies: pool.copies,
      evictions: pool.evictions,
      swapOuts: pool.swapOuts,
      swapIns: pool.swapIns,
      prefixTokens: pool.prefixTokens,
    };
  }

  // ── The scheduler ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Sets what is not SCHED_KEEP: all of it, or nothing. */
  configure(o: ReturnType<typeof SchedOptions.read>): Refusal | null {
    const { sched, pace, loader } = this.k;
    const policy = o.policy === SCHED_KEEP ? sched.policy : POLICY[o.policy];
    if (policy === undefined) return refuse('INVAL', 7001, `no policy ${o.policy}: ${POLICY.join(', ')}`);
    const rows = loader.engine()?.options.batch ?? 0;
    if (o.batch !== SCHED_KEEP && o.batch > rows)
      return refuse('INVAL', 7001, `${o.batch} sessions in a pass, it has ${rows} rows`);
    const before = { policy: sched.policy, boundPpm: sched.boundPpm };
    const refusal = sched.configure(policy, o.boundPpm === SCHED_KEEP ? sched.boundPpm : o.boundPpm);
    if (refusal !== null) return refusal;
    const tooLong = o.segmentCycles === SCHED_KEEP ? null : this.segments.set(o.segmentCycles);
    if (tooLong !== null) {
      sched.configure(before.policy, before.boundPpm);
      return tooLong;
    }
    if (o.batch !== SCHED_KEEP) this.dispatcher.sessionsMax = o.batch;
    const scale = o.paceScale === SCHED_KEEP ? pace.scale : o.paceScale;
    pace.set(scale, o.paceAuto === SCHED_KEEP ? pace.auto : o.paceAuto !== 0);
    return null;
  }

  schedule(): SchedFigures {
    const { sched, pace, loader } = this.k;
    const { passes, preemptions } = this.dispatcher.figures;
    const isLoaded = loader.engine() !== null;
    return {
      ...sched.figures(),
      batch: this.dispatcher.sessionsMax || (loader.engine()?.options.batch ?? 0),
      paceScale: pace.scale,
      paceAuto: Number(pace.auto),
      segmentMax: isLoaded ? this.segments.blocking() : 0,
      stepMax: isLoaded ? this.segments.stepMax : 0,
      callMax: this.segments.callMax,
      segmentSeen: isLoaded ? this.segments.seen : 0,
      jitterP99Ns: this.dispatcher.jitterNs.percentile(0.99),
      passes,
      preemptions,
    };
  }
}
