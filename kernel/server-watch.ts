// What the scheduler tells of servers, noted where it is looked for: a session's misses in its record, everything in the trace.

import type { Clock } from './clock.ts';
import type { SchedulerHost } from './sched.ts';
import type { SessionTable } from './session.ts';
import type { Trace } from './trace.ts';

export class ServerWatch implements SchedulerHost {
  constructor(
    private readonly clock: Clock,
    private readonly table: SessionTable,
    private readonly trace: Trace,
  ) {}

  show(cycles: number): string {
    return `${this.clock.nsOf(cycles) / 1e6} ms`;
  }

  onMiss(slot: number, lateCycles: number): void {
    const s = this.table.at(slot);
    s?.set('misses', s.get('misses') + 1);
    this.trace.emit('miss', s?.id ?? 0, Math.ceil(this.clock.nsOf(lateCycles) / 1000), 0);
  }

  onThrottle(slot: number, begin: number): void {
    const waits = this.clock.nsOf(Math.max(0, begin - this.clock.cycles()));
    this.trace.emit('throttle', this.table.at(slot)?.id ?? 0, Math.ceil(waits / 1e6), 0);
  }

  onRefill(slot: number, budget: number): void {
    this.trace.emit('refill', this.table.at(slot)?.id ?? 0, budget, 0);
  }
}
