// What the parts of the session service share: the machine's memory, clock and prices, the loaded model, the table of sessions, and the
// ledgers that a request is entered in. Put together once, at boot.

import type { Compute, Hasher, Refusal, RngDriver, SessionOptions, SessionReport } from './abi/index.ts';
import type { AuditFields, AuditOp } from '../trust/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import type { Vfs } from '../vfs/vfs.ts';
import type { Arena } from './arena.ts';
import type { PeriodBudget } from './budget.ts';
import type { Clock } from './clock.ts';
import type { Costs } from './costs.ts';
import type { Layout } from './layout.ts';
import type { Loader } from './loader.ts';
import type { Monitor } from './monitor.ts';
import type { Pace } from './pace.ts';
import type { PagePool } from './pages.ts';
import type { Quotas } from './quota.ts';
import type { Scheduler } from './sched.ts';
import type { Breach, Session, SessionTable } from './session.ts';
import type { Processor } from './step.ts';
import type { Streams } from './stream.ts';
import type { Trace } from './trace.ts';

export type Report = ReturnType<typeof SessionReport.read>;

/** A request as far as it is known: its options, stop strings, and ids that it begins with. */
export interface Request {
  readonly o: ReturnType<typeof SessionOptions.read>;
  readonly stops: readonly Uint8Array[];
  readonly ids: OpenFile;
  readonly count: number;
}

/** How a session has ended. */
export interface Ended {
  readonly report: Report;
  /** Of the specification, 0 when nothing went wrong. */
  readonly code: number;
  /** It missed its deadline. */
  readonly late: boolean;
  /** Its history in the arena: ids of prompt and output. 0: it has none, its ids are still in storage. */
  readonly historyAt: number;
  readonly message: string;
}

/** Where what is done and refused is written down for good: the audit log. */
export interface Journal {
  /** Something was done, or refused, at the wish of user `uid`. Returns the number of its record. */
  note(op: AuditOp, uid: number, fields: AuditFields): number;
  /** A request was admitted; `quotaBefore`: quotaOf its user before it was. */
  submitted(s: Session, request: Pick<Request, 'o' | 'stops'>, quotaBefore: readonly string[]): void;
  /** A request was refused; the journal is told what was known of it by then. */
  refused(uid: number, request: Partial<Request>, refusal: Refusal): void;
  /** A session ended. */
  ended(s: Session, end: Ended): void;
  /** A charge lies outside its bounds. */
  breached(breach: Breach): void;
  /** A user's quota, as records say it. */
  quotaOf(uid: number): readonly string[];
  /** The loaded model, as records say it. */
  modelFields(): AuditFields;
  /** Whether there is room for what a call may leave; false: not before the next flush. A refusal: why not at all. */
  gate(): boolean | Refusal;
  /** Null when a request may be admitted: its records have room. */
  admits(): Refusal | null;
  /** Whether the record of a session's end can be lost no more. */
  isAcknowledged(s: Session): boolean;
  /** Why the log does not go on; null: it does. */
  stopped(): Refusal | null;
  /** Stores what waits, as far as `slack` cycles go; `idle`: what nobody waits for too. True when something was done. */
  flush(slack: () => number, idle: boolean): boolean;
  /** When its disk will answer, in cycles; null: nothing is on its way. */
  nextEvent(): number | null;
  /** Cycles of the shortest flush at most. */
  flushLeast(): number;
}

export interface Service {
  readonly arena: Arena;
  readonly lay: Layout;
  readonly clock: Clock;
  readonly costs: Costs;
  readonly vfs: Vfs;
  readonly loader: Loader;
  readonly streams: Streams;
  readonly compute: Compute;
  readonly processor: Processor;
  readonly rng: { readonly xor128: RngDriver; readonly lcg: RngDriver };
  readonly table: SessionTable;
  readonly pool: PagePool;
  readonly sched: Scheduler;
  readonly quotas: Quotas;
  readonly budget: PeriodBudget;
  readonly pace: Pace;
  readonly trace: Trace;
  readonly journal: Journal;
  /** A charge lies outside its bounds. */
  readonly breached: (breach: Breach) => void;
  readonly monitor: Monitor;
  readonly sha256: () => Hasher;
}
