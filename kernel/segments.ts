// How long the processor can be held at most: the longest pass, the dearest step, the longest op of a training, a page on its way to the swap
// device, a program's quantum of system calls. Nothing is preempted inside one of these, so together they are the blocking that servers must bear (Baker's B), and what
// `llmctl status` prints. They follow from prices, before anything runs.

import { LIMITS, refuse, SAMPLER_MODE, type Engine, type Refusal } from './abi/index.ts';
import type { Charging } from './charging.ts';
import type { PlanPrices } from './costs.ts';
import { QUANTUM_CALLS } from './process.ts';
import type { Residency } from './residency.ts';
import type { Service } from './service.ts';
import type { Draw } from './wcet/price.ts';
import { transferCycles } from './wcet/targets.ts';

/** The dearest of the sampler's settings: every stage on, over the whole vocabulary. */
const DEAREST: Draw = { modes: SAMPLER_MODE.penalty | SAMPLER_MODE.topP | SAMPLER_MODE.minP, topK: 0 };

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

export class Segments {
  /** As it was set; 0: as long as a whole batch. */
  private asked = 0;
  /** For which prices the figures below are. */
  private known: PlanPrices | null = null;
  private batchMax = 0;
  private step = 0;
  /** The longest that there was under these prices and this limit. */
  seen = 0;

  constructor(
    private readonly k: Service,
    private readonly charging: Charging,
    private readonly residency: Residency,
    /** The longest op of the training that is open; 0: none is. */
    private readonly trainingMax: () => number,
  ) {}

  /** Cycles that a pass may take at most. */
  get passMax(): number {
    this.price();
    return this.asked === 0 ? this.batchMax : Math.max(this.asked, this.step);
  }
  /** A step of one row at the end of the context, with the dearest draw. */
  get stepMax(): number {
    this.price();
    return this.step;
  }
  /** A system call while servers are admitted. */
  get callMax(): number {
    return this.k.costs.target.overhead.syscallCycles;
  }
  /** A program until it yields. */
  get quantumMax(): number {
    return QUANTUM_CALLS * this.callMax + this.k.costs.target.overhead.switchCycles;
  }
  /** What servers must bear: the longest of all, of a session admitted with dearer steps too. */
  blocking(): number {
    const dearest = Math.max(0, ...this.k.table.live().map(s => s.u64('stepMaxCycles')));
    const { loader, journal } = this.k;
    const others = [this.residency.moveCycles(), loader.drainMost(), this.quantumMax, journal.flushLeast()];
    const training = this.trainingMax();
    return Math.max(this.passMax, dearest, training, ...others);
  }

  /** Another longest pass; 0: as long as a whole batch. Not a shorter one beside servers: what their responses were computed from is their steps. */
  set(cycles: number): Refusal | null {
    if (this.k.loader.engine() === null) return refuse('NODEV', 2001, 'no model loaded: llmctl load FILE');
    if (cycles !== 0 && cycles < this.stepMax)
      return refuse('INVAL', 7001, `a pass of ${cycles} cycles: the dearest step takes ${this.stepMax}`);
    if (cycles !== 0 && cycles < this.passMax && this.k.table.servers > 0)
      return refuse('BUSY', 3002, `a pass of ${cycles} cycles: servers were promised steps of up to ${this.passMax}`);
    const before = this.asked;
    this.asked = cycles;
    const refusal = this.k.sched.segment(this.blocking());
    if (refusal !== null) this.asked = before;
    else this.seen = 0;
    return refusal;
  }

  private price(): void {
    const { loader } = this.k;
    const engine = loader.engine();
    if (engine === null || this.known === loader.prices()) return;
    this.known = loader.prices();
    this.seen = 0;
    this.step = this.stepOf(engine, 1);
    const rows = Math.min(engine.options.batch, engine.options.ctx);
    this.batchMax = Math.max(this.stepOf(engine, rows), this.lossesOf(engine, rows));
  }

  /** `n` rows where they are dearest, and a draw at the end of the context. */
  private stepOf({ options: { ctx } }: Engine, n: number): number {
    const prices = this.k.loader.prices();
    const positions = dearestRun(ctx, n, pos => prices.bodyPosition(pos));
    const tail = this.charging.tailMost(DEAREST, LIMITS.topLogitsMax, ctx);
    return Math.max(...range(n).map(m => prices.passMost(m + 1, positions))) + tail;
  }

  /** `n` rows where they are dearest, all of them scored, behind the text of a chunk from storage. */
  private lossesOf({ options: { ctx } }: Engine, n: number): number {
    const prices = this.k.loader.prices();
    const text = transferCycles(this.k.costs.target, 4 * ctx).upper;
    const positions = dearestRun(ctx, n, pos => prices.bodyPosition(pos));
    return prices.passMost(n, positions) + text + n * this.charging.lossMost(ctx - 1);
  }
}

/**
 * The most that `n` neighbouring positions below `to` cost together. It is not always the last ones: attention takes keys in blocks, and where
 * a block is full a row may cost less than the one before.
 */
export function dearestRun(to: number, n: number, cost: (pos: number) => number): number {
  let sum = 0;
  let most = 0;
  for (let pos = 0; pos < to; pos++) {
    sum += cost(pos) - (pos < n ? 0 : cost(pos - n));
    most = Math.max(most, sum);
  }
  return most;
}
