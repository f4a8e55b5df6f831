// The processor, as the kernel holds it: it runs a segment of the loaded plan from its first op to its end, in one go, or up to where somebody
// wants it held, as a debugger holds a processor by its single-step flag: between two op records, in the middle of a pass. While it is held nothing
// else of the machine runs and nothing is booked that would not have been; going on, it comes to the same bytes as one that was never held.

import { FAULT, PickRecord, PLAN_RECORD, RowRecord, StepBlock, type Compute } from './abi/index.ts';
import type { Arena } from './arena.ts';
import type { Clock } from './clock.ts';
import type { Layout } from './layout.ts';
import type { Streams } from './stream.ts';
import type { Segment } from './wcet/price.ts';

const step = StepBlock.at;

/** Where the machine stops: before every op; before the first of a segment and of each layer in it; behind every pass. */
export type StopAt = 'op' | 'layer' | 'token';

export class Processor {
  /** null: nowhere. It may change while the processor is held. */
  stopAt: StopAt | null = null;
  /** Of the segment that runs, or ran last: which, a FAULT, and what its ops have been charged; up to now, where it is held. */
  segment: Segment = 'body';
  status: number = FAULT.none;
  cycles = 0;
  /** The op that runs next; 0: no segment runs. */
  private opAt = 0;
  /** The op that ran last, 0: none has; or one after which all ran up to the next END. */
  private ranAt = 0;
  private ranOn = false;
  /** The segment has run none yet. */
  private isFirst = true;
  private held = false;
  private isStreamed = false;
  /** What of `cycles` is on the clock. */
  private booked = 0;

  constructor(
    private readonly arena: Arena,
    private readonly lay: Layout,
    private readonly clock: Clock,
    private readonly compute: Compute,
    private readonly streams: Streams,
    /** The layer of the op at an arena offset; -1: of none. */
    private readonly layerOf: (opAt: number) => number,
  ) {}

  /** Held before its next op: the segment goes on with go(). */
  get isHeld(): boolean {
    return this.held;
  }

  /** Where the op lies that it is held before, or that it ran last; 0: it has run none. */
  get pc(): number {
    if (this.held) return this.opAt;
    return this.ranOn ? this.lastOf(this.ranAt) : this.ranAt;
  }

  /** What of `cycles` the clock does not show yet, as it will when the segment, or its piece, has run. */
  get unbooked(): number {
    return this.cycles - this.booked;
  }

  /** Step block and rows are no longer those of the op that ran last: from here on none has. */
  forget(): void {
    this.ranAt = 0;
    this.ranOn = false;
  }

  /** hot: a segment begins, its first op being at `opAt` (0: an engine without it); of a model that streams body and head, over `rows` rows. */
  begin(segment: Segment, opAt: number, rows = 0): void {
    const { arena, lay, streams } = this;
    const i = (lay.stepAt + step.cycles) >> 2;
    arena.u32[i] = 0;
    arena.u32[i + 1] = 0;
    this.segment = segment;
    this.status = FAULT.none;
    this.cycles = 0;
    this.booked = 0;
    this.isFirst = true;
    this.opAt = opAt;
    this.isStreamed = streams.isStreaming && (segment === 'body' || segment === 'head');
    if (!this.isStreamed) return;
    if (segment === 'body') this.status = streams.body(rows);
    else streams.head();
    this.follow();
  }

  /** hot: runs the segment to its end. False: it is held before its next op. */
  go(): boolean {
    while (this.opAt !== 0) {
      if (this.stopAt !== 'op' && this.stopAt !== 'layer') this.runOut();
      else if (!this.single()) return false;
      this.clock.advance(this.cycles - this.booked, 'plan');
      this.booked = this.cycles;
      this.follow();
    }
    return true;
  }

  /** hot: where a segment streams, behind a piece of it comes the next. */
  private follow(): void {
    this.opAt = this.isStreamed && this.status === FAULT.none ? this.streams.next() : 0;
    if (this.opAt >= 0) return;
    this.opAt = 0;
    this.status = FAULT.io;
  }

  /** hot: one call into WebAssembly, up to the next END or a fault. */
  private runOut(): void {
    const { arena, compute, lay, opAt } = this;
    this.held = false;
    this.status = compute.run(lay.stepAt, opAt);
    const before = this.cycles;
    this.cycles = this.spent();
    if (arena.i32[opAt >> 2] === 0) return; // a segment without ops
    this.isFirst = false;
    this.ranOn = this.status === FAULT.none;
    this.ranAt = this.ranOn ? opAt : this.failedAt(opAt, this.cycles - before);
  }

  /** Op by op. False: it is held before one. */
  private single(): boolean {
    const { arena, compute, lay } = this;
    while (arena.i32[this.opAt >> 2] !== 0 && this.status === FAULT.none) {
      this.held = !this.held && this.stopsHere();
      if (this.held) return false;
      this.status = compute.run_op(lay.stepAt, this.opAt);
      this.cycles = this.spent();
      this.isFirst = false;
      this.ranAt = this.opAt;
      this.ranOn = false;
      this.opAt += PLAN_RECORD.bytes;
    }
    arena.i32[(lay.stepAt + step.status) >> 2] = this.status;
    return true;
  }

  private stopsHere(): boolean {
    return this.stopAt === 'op' || this.isFirst || this.layerOf(this.opAt) !== this.layerOf(this.ranAt);
  }

  /** hot: what StepBlock.cycles holds. */
  private spent(): number {
    const i = (this.lay.stepAt + step.cycles) >> 2;
    return this.arena.u32[i]! + this.arena.u32[i + 1]! * 4294967296;
  }

  /** The last op before the END that follows `opAt`. */
  private lastOf(opAt: number): number {
    while (this.arena.i32[(opAt + PLAN_RECORD.bytes) >> 2] !== 0) opAt += PLAN_RECORD.bytes;
    return opAt;
  }

  /** Of the ops from `opAt` on the one that a run has ended with which was charged `cycles`: the executor says what an op has failed with, not which. */
  private failedAt(opAt: number, cycles: number): number {
    let left = cycles - chargeOf(this.arena, this.lay.stepAt, opAt);
    while (left > 0 && this.arena.i32[(opAt + PLAN_RECORD.bytes) >> 2] !== 0) {
      opAt += PLAN_RECORD.bytes;
      left -= chargeOf(this.arena, this.lay.stepAt, opAt);
    }
    return opAt;
  }
}

/** Rows that the op at `opAt` runs over, as the step block has them: of the pass, or of its picks. */
export function rowsOf(arena: Arena, stepAt: number, opAt: number): number[] {
  const word = (at: number): number => arena.i32[at >> 2]!;
  const isHead = (word(opAt + 4 * PLAN_RECORD.flags) & PLAN_RECORD.flagHead) !== 0;
  const n = word(stepAt + (isHead ? step.picks : step.n));
  const picksAt = word(stepAt + step.picksAt);
  return Array.from({ length: n }, (_, i) => (isHead ? word(picksAt + i * PickRecord.bytes + PickRecord.at.row) : i));
}

/** What the op at `opAt` is charged over these rows, by the prices in its plan: cycles. */
function chargeOf(arena: Arena, stepAt: number, opAt: number): number {
  const word = (at: number): number => arena.u32[at >> 2]!;
  const price = (at: number): number => word(at) + word(at + 4) * 4294967296;
  const rows = rowsOf(arena, stepAt, opAt);
  const positionsAt = word(opAt + 4 * PLAN_RECORD.positions);
  const rowsAt = word(stepAt + step.rowsAt);
  let cycles = price(word(opAt + 4 * PLAN_RECORD.tokens) + 8 * rows.length);
  if (positionsAt !== 0)
    for (const row of rows) cycles += price(positionsAt + 8 * word(rowsAt + row * RowRecord.bytes + RowRecord.at.pos));
  return cycles;
}
