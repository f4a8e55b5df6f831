// What the parts of the session service share: the machine's memory, clock and prices, the loaded model, the table of sessions, and the
// ledgers that a request is entered in. Put together once, at boot.

import { errnoName, type Compute, type Refusal, type RngDriver, type SessionReport } from './abi/index.ts';
import type { AuditFields, AuditOp } from '../trust/index.ts';
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
import type { Breach, SessionTable } from './session.ts';
import type { Streams } from './stream.ts';
import type { Trace } from './trace.ts';

export type Report = ReturnType<typeof SessionReport.read>;

/** Where what is done and refused is written down for good: the audit log. */
export interface Journal {
  /** Something was done, or refused, at the wish of user `uid`. */
  note(op: AuditOp, uid: number, fields: AuditFields): void;
  /** A session ended; `code`: of the specification, 0 when nothing went wrong; `late`: it missed its deadline. */
  ended(report: Report, code: number, late: boolean): void;
  /** A request was refused; `promptTokens`: 0 when they were not counted yet. */
  refused(uid: number, promptTokens: number, refusal: Refusal): void;
  /** A charge lies outside its bounds. */
  breached(breach: Breach): void;
}

/** What a refusal says of itself in the log. */
export function refusedFields({ errno, code, message }: Refusal): AuditFields {
  return { 'error.type': errnoName(errno), 'arena8.code': code, 'arena8.message': message };
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
  readonly rng: { readonly xor128: RngDriver; readonly lcg: RngDriver };
  readonly table: SessionTable;
  readonly pool: PagePool;
  readonly sched: Scheduler;
  readonly quotas: Quotas;
  readonly budget: PeriodBudget;
  readonly pace: Pace;
  readonly trace: Trace;
  readonly journal: Journal;
  readonly monitor: Monitor;
}
