// The loaded plan as a list of its ops, as a debugger lists a program: which op lies where in the arena, and what of the plan's text is its own.
// Made when somebody looks, once for each plan that is loaded.

import { PLAN_RECORD, type Engine, type PlanRow } from './abi/index.ts';
import type { Loader } from './loader.ts';
import { panic } from './panic.ts';
import { SEGMENTS, type Segment } from './wcet/op-price.ts';

/** An op that is executed: neither an END nor the tile that it stands for. */
export interface Listed {
  /** Among all ops of the plan, and among those of its segment. */
  readonly index: number;
  readonly own: number;
  readonly segment: Segment;
  readonly at: number;
  readonly row: PlanRow;
}

export class Listing {
  private engine: Engine | null = null;
  private list: readonly Listed[] = [];
  private byAddress: ReadonlyMap<number, Listed> = new Map();

  constructor(private readonly loader: Loader) {}

  /** Segment by segment, in the order of their records; empty when nothing is loaded. */
  ops(): readonly Listed[] {
    const engine = this.loader.engine();
    if (engine !== this.engine) {
      this.engine = engine;
      this.list = engine === null ? [] : listOf(engine);
      this.byAddress = new Map(this.list.map(op => [op.at, op]));
    }
    return this.list;
  }

  /** The op at an arena offset; null: there is none. */
  at(address: number): Listed | null {
    this.ops();
    return this.byAddress.get(address) ?? null;
  }

  /** The layer of an op of the loaded plan; -1: of none. */
  layerOf(address: number): number {
    return (this.at(address) ?? panic(`no op of the plan at ${address}`)).row.layer;
  }
}

/** A plan's rows follow its records, those that end a piece or a segment included. */
function listOf(engine: Engine): Listed[] {
  const rows = engine.ops();
  let index = 0;
  return SEGMENTS.flatMap(segment => {
    let own = 0;
    const records = rows.filter(row => row.segment === segment);
    return records.flatMap((row, record) => {
      if (row.op === 'END' || row.op === 'TILE') return [];
      return [{ index: index++, own: own++, segment, at: engine[`${segment}At`] + record * PLAN_RECORD.bytes, row }];
    });
  });
}
