// What the scheduler tells of servers, noted where it is looked for: a session's misses in its record, everything of sessions in the trace. The
// training's misses are in its state.

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
    if (s === null) return;
    s.set('misses', s.get('misses') + 1);
    this.trace.emit('miss', s.id, Math.ceil(this.clock.nsOf(lateCycles) / 1000), 0);
  }

  onThrottle(slot: number, begin: number): void {
    const s = this.table.at(slot);
    if (s === null) return;
    const waits = this.clock.nsOf(Math.max(0, begin - this.clock.cycles()));
    this.trace.emit('throttle', s.id, Math.ceil(waits / 1e6), 0);
  }

  onRefill(slot: number, budget: number): void {
    const s = this.table.at(slot);
    if (s !== null) this.trace.emit('refill', s.id, budget, 0);
  }
}
