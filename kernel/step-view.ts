// /proc/step and /proc/plan: where in its plan the processor stands, what the op there works on, and what it costs, as a debugger shows the
// instruction that a processor is held before. Computed when somebody reads it, from the plan and the step block; the machine does nothing for it.
//
// /proc/step is lines of `key value`:
//   state     held: before this op; done: it ran last; failed: it ran last, and ended the pass; none: no pass has run since the model was loaded,
//             priced anew or looked into by a program; denied: the model's package does not let anybody look, `why` says so. Behind these two
//             there are no more lines
//   index     in /proc/plan; `ops`: how many there are; `pc`: its record in the arena
//   segment, op, layer, name, n, most, least, compute, memory, overhead, instructions, loaded, stored: see PLAN_COLUMNS
//   positions, tokens, sessions: of each of the n rows, blanks between
//   cycles    that the pass has taken so far; `bound`: the most that it takes; `left`: of that; `clock`: cycles since power-on
// then a line an operand of the record, `key name …`:
//   place NAME SHAPE AT REGION WHAT    memory: f32[1][288] (- where it has no shape), arena offset, region, tensor or buffer (the rest of the line)
//   plane NAME OFFSET PAGE …           of pages of the KV pool: where in a page, and which pages, up to the positions of all rows
//   word NAME VALUE                    a number or a type

import {
  FAULT,
  ggmlTypeName,
  KV_PAGE,
  PLAN_COLUMNS,
  PLAN_RECORD,
  RowRecord,
  SamplerRecord,
  StepBlock,
  type Engine,
  type PlanOperand,
} from './abi/index.ts';
import type { Arena } from './arena.ts';
import type { Clock } from './clock.ts';
import type { PassFigures } from './dispatch.ts';
import type { Layout } from './layout.ts';
import type { Listed, Listing } from './listing.ts';
import type { Loader } from './loader.ts';
import { rowsOf, type Processor } from './step.ts';
import { SEGMENTS, type Segment } from './wcet/op-price.ts';
import { withDraw, type OpCost } from './wcet/price.ts';

const step = StepBlock.at;

/** What of the machine is looked at. */
export interface Viewed {
  readonly arena: Arena;
  readonly lay: Layout;
  readonly clock: Clock;
  readonly loader: Loader;
  readonly listing: Listing;
  readonly processor: Processor;
  /** The pass at hand, or the last one. */
  readonly pass: () => PassFigures;
  /** Whether who looks may know what this session does. */
  readonly isSeen: (session: number) => boolean;
}

/** A row of the last pass. */
type Row = ReturnType<typeof RowRecord.read>;
type Line = readonly [key: string, ...values: (string | number)[]];
type Columns = Readonly<Record<(typeof PLAN_COLUMNS)[number], string | number>>;

export class StepView {
  constructor(private readonly k: Viewed) {}

  /** /proc/step. Empty when nothing is loaded, and for those who may not see every session of the pass. */
  step(): string {
    const { arena, clock, lay, listing, loader, processor } = this.k;
    const engine = loader.engine();
    if (engine === null) return '';
    const denied = loader.denies('inspect');
    if (denied !== null) return `state denied\nwhy ${denied.message}\n`;
    const rows = this.rows();
    const op = rows === null ? null : listing.at(processor.pc);
    if (rows === null || op === null) return 'state none\n';
    if (!this.isSeen(rows)) return '';
    const own = rowsOf(arena, lay.stepAt, op.at).map(i => rows[i]!);
    const { cycles, bound } = this.k.pass();
    const columns = columnsOf(op, own.length, this.costs(op.segment, rows)[op.own]!);
    const all: Line[] = [
      ['state', processor.isHeld ? 'held' : processor.status === FAULT.none ? 'done' : 'failed'],
      ['ops', listing.ops().length],
      ['pc', op.at],
      ...PLAN_COLUMNS.map((key): Line => [key, columns[key]]),
      ['positions', ...own.map(row => row.pos)],
      ['tokens', ...own.map(row => row.token)],
      ['sessions', ...own.map(row => row.session)],
      ['cycles', cycles],
      ['bound', bound],
      ['left', bound - cycles],
      ['clock', clock.cycles() + processor.unbooked],
      ...op.row.operands.map(operand => this.operand(op, operand, own, engine)),
      ...this.registers(op),
    ];
    return all.map(words => `${words.join(' ')}\n`).join('');
  }

  /** /proc/plan: PLAN_COLUMNS, then a line an op. Empty when nothing is loaded, or nobody may look into what is. */
  plan(): string {
    const { listing, loader } = this.k;
    if (loader.engine() === null || loader.denies('inspect') !== null) return '';
    const found = this.rows();
    const rows = found !== null && this.isSeen(found) ? found : null;
    const costs = new Map(SEGMENTS.map(s => [s, this.costs(s, rows)]));
    const texts = listing.ops().map(op => {
      const columns = columnsOf(op, this.positions(op.segment, rows).length, costs.get(op.segment)![op.own]!);
      return PLAN_COLUMNS.map(key => columns[key]).join('\t');
    });
    return [PLAN_COLUMNS.join('\t'), ...texts].map(line => `${line}\n`).join('');
  }

  // ── The pass ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Its rows; null: none has run under the prices that are in force, or its step block is another's by now. */
  private rows(): readonly Row[] | null {
    const { arena, lay, loader, pass, processor } = this.k;
    if (pass().prices !== loader.prices() || processor.pc === 0) return null; // in this order: a pc of another plan is no op's
    return Array.from({ length: this.word(lay.stepAt + step.n) }, (_, i) =>
      RowRecord.read(arena.u8, lay.rowsAt + i * RowRecord.bytes),
    );
  }

  private isSeen(rows: readonly Row[]): boolean {
    return rows.every(row => this.k.isSeen(row.session));
  }

  /** Where the rows stand that a segment runs over: the one that runs, or ran last, over what it does, others but the body over the last row. */
  private positions(segment: Segment, rows: readonly Row[] | null): readonly number[] {
    const { arena, lay, listing, processor } = this.k;
    if (rows === null) return [0];
    const all = rows.map(row => row.pos);
    if (segment === 'body') return all;
    const here = listing.at(processor.pc);
    return here?.segment === segment ? rowsOf(arena, lay.stepAt, here.at).map(i => all[i]!) : all.slice(-1);
  }

  /** Of each op of a segment. */
  private costs(segment: Segment, rows: readonly Row[] | null): readonly OpCost[] {
    const { arena, lay, loader } = this.k;
    const positions = this.positions(segment, rows);
    const costs = loader.prices().opsAt(segment, positions);
    if (segment !== 'sample') return costs;
    const { modes, topK } = SamplerRecord.read(arena.u8, lay.samplerAt);
    return withDraw(costs, loader.prices().draw({ modes, topK }, positions[0]! + 1));
  }

  // ── Operands ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private operand(
    op: Listed,
    { name, word, kind, place, shape }: PlanOperand,
    rows: readonly Row[],
    engine: Engine,
  ): Line {
    const at = op.at + 4 * word;
    const value = this.word(at);
    switch (kind) {
      case 'place':
        return this.place(name, shape.replace('[t]', `[${rows.length}]`), value, place);
      case 'plane':
        return ['plane', name, value, ...this.pages(rows, engine)];
      case 'type':
        return ['word', name, ggmlTypeName(value) ?? value];
      case 'real':
        return ['word', name, this.k.arena.f32[at >> 2]!];
      case 'integer':
        return ['word', name, value];
    }
  }

  private place(name: string, shape: string, at: number, what: string): Line {
    const region = this.k.arena.regions().find(r => at >= r.startAt && at < r.startAt + r.bytes);
    return ['place', name, shape || '-', at, region?.name.replace(' ', '-') ?? '-', what];
  }

  /** Pages of the pool that hold the positions of these rows, and those before them. */
  private pages(rows: readonly Row[], engine: Engine): number[] {
    const pages = new Set<number>();
    for (const { tableAt, pos } of rows)
      for (let i = 0; i <= pos / KV_PAGE; i++) pages.add(this.word(tableAt + 4 * i) / engine.pageBytes);
    return [...pages].filter(page => page < engine.options.pages); // what has been swapped out since is on no page
  }

  /** What the segments behind a head read beside their records: logits of one pick, and for the draw, their last op, what was asked for. */
  private registers(op: Listed): Line[] {
    const { arena, lay, listing } = this.k;
    if (op.segment !== 'sample' && op.segment !== 'score') return [];
    const { logitsAt, vocabulary, historyAt, historyLength, target, draw } = StepBlock.read(arena.u8, lay.stepAt);
    const logits = this.place('logits', `f32[${vocabulary}]`, logitsAt, 'logits');
    if (listing.at(op.at + PLAN_RECORD.bytes) !== null) return [logits];
    if (op.segment === 'score') return [logits, ['word', 'target', target]];
    const asked = Object.entries(SamplerRecord.read(arena.u8, lay.samplerAt));
    return [
      logits,
      this.place('history', `u32[${historyLength}]`, historyAt, 'history'),
      ...asked.map(([name, value]): Line => ['word', name, value]),
      ['word', 'draw', draw],
    ];
  }

  private word(at: number): number {
    return this.k.arena.u32[at >> 2]!;
  }
}

function columnsOf({ index, segment, row: { op, layer, name } }: Listed, n: number, cost: OpCost): Columns {
  return { index, segment, op, layer, name, n, ...cost };
}
