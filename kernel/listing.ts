// The loaded plan as people read it: which op lies where, and where in it the processor stands.

import { PLAN_RECORD, type Engine, type PlanRow } from './abi/index.ts';
import { panic } from './panic.ts';
import type { Loader } from './loader.ts';
import { SEGMENTS, type Segment } from './wcet/op-price.ts';

/** A segment's records in the arena, and the row of the plan's text that the first of them has. */
interface Stretch {
  readonly segment: Segment;
  readonly at: number;
  readonly row: number;
}

/** The text of one loaded plan. Its rows follow its records, ENDs included. */
interface Text {
  readonly engine: Engine;
  readonly rows: readonly PlanRow[];
  readonly stretches: readonly Stretch[];
}

export class Listing {
  private text: Text | null = null;

  constructor(private readonly loader: Loader) {}

  /** The layer of the op at an arena offset; -1: of none. */
  layerOf(opAt: number): number {
    const { rows, stretches } = this.current();
    const { at, row } = stretches.findLast(s => s.at <= opAt)!;
    return rows[row + (opAt - at) / PLAN_RECORD.bytes]!.layer;
  }

  private current(): Text {
    const engine = this.loader.engine() ?? panic('no plan is loaded');
    if (this.text?.engine === engine) return this.text;
    const rows = engine.ops();
    const stretches = SEGMENTS.map(segment => {
      return { segment, at: engine[`${segment}At`], row: rows.findIndex(r => r.segment === segment) };
    });
    stretches.sort((a, b) => a.at - b.at);
    this.text = { engine, rows, stretches: stretches.filter(s => s.at !== 0) };
    return this.text;
  }
}
