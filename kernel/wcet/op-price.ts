// The price of each op of a plan on a target, for any number of tokens at any position: the certificate of the op, evaluated at the record's
// shape. What is charged is the upper price of every instruction and of every line of memory, each op by itself; beside it stands for how long
// each of the target's resources is busy at least. Ops of equal shape share a row of prices, as their records do.

import { PLAN_RECORD, StepBlock, isRefusal, refuse } from '../abi/index.ts';
import type { DiskTimes, Refusal, StreamProgram } from '../abi/index.ts';
import type { Certificates } from './certificate.ts';
import { PASSES } from './certify.ts';
import type { Certificate } from './certify.ts';
import { Shape, dependenceOf, unknownsOf } from './shape.ts';
import type { Case, Figures, Read, Setting, Unknowns, Word } from './shape.ts';
import { casesOf } from './sweep.ts';
import type { Column } from './sweep.ts';
import { MILLI } from './targets.ts';
import type { MemoryRegion, Target } from './targets.ts';

/** A plan to be priced, loaded or only compiled. Addresses are arena offsets; segments without ops are 0. */
export interface PlanSource {
  /** An i32 of the plan region. */
  readonly word: (address: number) => number;
  readonly bodyAt: number;
  readonly headAt: number;
  readonly sampleAt: number;
  readonly scoreAt: number;
  readonly regionOf: (address: number) => MemoryRegion;
  readonly ctx: number;
  readonly batch: number;
  /** Rows of a pass that the head runs over together. */
  readonly draws: number;
  /** How its weights come while it runs, and from what; null: they are there. */
  readonly stream: { readonly program: StreamProgram; readonly disk: DiskTimes } | null;
  readonly vocabulary: number;
  readonly logitsAt: number;
  readonly kvAt: number;
  readonly historyAt: number; // of any session
  readonly rowsAt: number;
  readonly picksAt: number;
  readonly stepAt: number;
  readonly samplerAt: number;
}

const PRICE_BYTES = 8;

export const SEGMENTS = ['body', 'head', 'sample', 'score'] as const;
export type Segment = (typeof SEGMENTS)[number];

// Arguments of the function that executes a record, in this order after step block and record.
const [TOKENS, POSITION, ROW, TO] = [2, 3, 4, 5];

/** What ops of one shape take: for so many tokens, and beyond that for a token at each position where that matters. */
export interface Row {
  readonly byTokens: readonly Figures[]; // entry 0: nothing
  readonly byPosition: readonly Figures[] | null;
  /** Cycles, as the plan holds them. */
  readonly tokens: readonly number[];
  readonly positions: readonly number[] | null;
  /** What is read of the weights, by tokens, and the unknowns that point there. */
  readonly reads: readonly (readonly Read[])[];
  readonly pointers: readonly number[];
}

/** Bytes of the arena. */
export type Range = readonly [from: number, to: number];

export interface Op {
  readonly row: Row;
  readonly tokensAt: number;
  readonly positionsAt: number;
  /** Where the row's pointers point. */
  readonly at: readonly number[];
}

export const wholeCycles = (milli: number): number => Math.ceil(milli / MILLI);
export const upperMilli = (f: Figures): number => f.compute + f.memory;
export const plus = (a: readonly number[], b: readonly number[], times = 1): number[] =>
  a.map((x, i) => x + times * (b[i] ?? 0));

const scaled = (f: Figures, times: number): Figures => ({
  compute: times * f.compute,
  memory: times * f.memory,
  instructions: times * f.instructions,
  loaded: times * f.loaded,
  stored: times * f.stored,
  busy: f.busy.map(x => times * x),
});
const added = (a: Figures, b: Figures): Figures => ({
  compute: a.compute + b.compute,
  memory: a.memory + b.memory,
  instructions: a.instructions + b.instructions,
  loaded: a.loaded + b.loaded,
  stored: a.stored + b.stored,
  busy: plus(a.busy, b.busy),
});
/** The one that costs most, and the least time of each resource. */
const dearest = (all: readonly Figures[]): Figures => ({
  ...all.reduce((a, b) => (upperMilli(b) > upperMilli(a) ? b : a)),
  busy: all.map(f => f.busy).reduce((a, b) => a.map((x, r) => Math.min(x, b[r] ?? 0))),
});

/** Prices the records of one plan; equal shapes once. */
export class Pricer {
  readonly #certificates: Certificates;
  readonly #target: Target;
  readonly #plan: PlanSource;
  readonly #rows = new Map<string, Row | Refusal>();
  readonly #byAddress = new Map<number, Row>();
  /** Beside what an op executes: by how often it does, the executor's loops around it, beginnings and ends too. Entry 0 is not used. */
  #around: readonly Figures[] | null = null;

  constructor(certificates: Certificates, target: Target, plan: PlanSource) {
    this.#certificates = certificates;
    this.#target = target;
    this.#plan = plan;
  }

  /** The ops from `at` to the next END; `picks`: over how many rows they run at most where it is not over those of a pass. */
  ops(at: number, picks: number): Op[] | Refusal {
    const ops: Op[] = [];
    for (let record = at; this.#plan.word(record) !== 0; record += PLAN_RECORD.bytes) {
      const op = this.#op(record, picks);
      if (isRefusal(op)) return op;
      ops.push(op);
    }
    return ops;
  }

  #op(record: number, picks: number): Op | Refusal {
    const { word } = this.#plan;
    const certificate = this.#certificates.op(word(record));
    if (isRefusal(certificate)) return certificate;
    const flags = word(record + 4 * PLAN_RECORD.flags);
    const [head, byRows] = [(flags & PLAN_RECORD.flagHead) !== 0, (flags & PLAN_RECORD.flagRows) !== 0];
    const [tokensAt, positionsAt] = [word(record + 4 * PLAN_RECORD.tokens), word(record + 4 * PLAN_RECORD.positions)];
    const tokens = head ? picks : this.#plan.batch;
    const setting = this.#setting(record, byRows ? 1 : tokens, tokens);
    const unknowns = unknownsOf(certificate, setting);
    if (isRefusal(unknowns)) return unknowns;
    const key = this.#keyOf(certificate, unknowns, [tokens, byRows, positionsAt !== 0]);
    const row =
      this.#rows.get(key) ?? this.#row(certificate, setting, { tokens, byRows, positional: positionsAt !== 0 });
    this.#rows.set(key, row);
    if (isRefusal(row)) return row;
    const other = this.#byAddress.get(tokensAt) ?? row;
    if (!sameCharges(other, row))
      return refuse(
        'INVAL',
        9999,
        `${certificate.name} at ${record} shares a row of prices with an op of another shape`,
      );
    this.#byAddress.set(tokensAt, row.tokens.length > other.tokens.length ? row : other);
    return { row, tokensAt, positionsAt, at: row.pointers.map(i => Number(unknowns.values[i] ?? 0n)) };
  }

  /** An op's price depends on the words of its record; of pointers on whether they are there, and on the regions where operands begin. */
  #keyOf(c: Certificate, { values }: Unknowns, more: readonly (number | boolean)[]): string {
    const { pointers, operands, counted } = dependenceOf(c);
    const words = c.words.map(({ param }) =>
      !pointers.has(param) ? values[param] : counted.has(param) ? values[param] === 0n : '',
    );
    const regions = operands.map(o => this.#plan.regionOf(sumOf(o.map(i => Number(values[i] ?? 0n)))));
    return [c.name, ...words, ...regions, ...more].join();
  }

  #setting(record: number, tokensMax: number, places: number): Setting {
    const { stepAt } = this.#plan;
    return {
      target: this.#target,
      prices: this.#target.upper,
      regionOf: this.#plan.regionOf,
      args: [stepAt, record, tokensMax === 1 ? 1 : null, null, null, null],
      read: address => this.#read(address, record),
      cases: range(tokensMax).map(n => this.#caseOf(n + 1, places)),
    };
  }

  /** So many tokens, each at any position: a pass mixes sessions. `places`: rows that the op may write to. */
  #caseOf(tokens: number, places: number): Case {
    const { ctx, batch } = this.#plan;
    const most: Readonly<Record<number, number>> = { [POSITION]: ctx - 1, [TO]: places - 1 };
    return i => (i === TOKENS ? [tokens, tokens] : [0, most[i] ?? batch - 1]);
  }

  /** Words of the record, and what of the step block is the same in every step. */
  #read(address: number, record: number): Word {
    if (address >= record && address < record + PLAN_RECORD.bytes) return this.#plan.word(address);
    return constantWord(this.#plan, address) ?? 'data';
  }

  #row(
    c: Certificate,
    setting: Setting,
    {
      tokens: most,
      byRows,
      positional,
    }: { readonly tokens: number; readonly byRows: boolean; readonly positional: boolean },
  ): Row | Refusal {
    if (positional && !byRows)
      return refuse('NOTSUP', 9999, `${c.name}: a pass has several positions, and it is not run row by row`);
    const around = this.#executor(setting);
    if (isRefusal(around)) return around;
    const shape = Shape.of(c, setting);
    if (isRefusal(shape)) return shape;
    if (shape.dependsOn.has(ROW) || shape.dependsOn.has(TO))
      return refuse('NOTSUP', 9999, `${c.name}: its cost depends on the row of the batch`);
    const none = nothing(this.#target);
    const byPosition = positional ? figuresAt(shape, 1, columnFrom(0, this.#plan.ctx)) : null;
    const anywhere = positional ? [] : this.#anywhere(shape, byRows ? 1 : most);
    const byTokens = [none];
    const tokens = [0];
    for (let n = 1; n <= most; n++) {
      const times = byRows ? n : 1;
      const loops = around[times] ?? none;
      const each = anywhere[byRows ? 0 : n - 1] ?? none;
      byTokens.push({ ...scaled(each, times), busy: plus(loops.busy, each.busy, times) });
      const dispatch = times * this.#target.overhead.recordCycles * MILLI;
      tokens.push(wholeCycles(times * upperMilli(each) + upperMilli(loops) + dispatch));
    }
    if (!shape.exact) return beyond(shape.name);
    const reads = positional ? tokens.map(() => []) : this.#reads(shape, most);
    return {
      byTokens,
      byPosition,
      tokens,
      positions: byPosition?.map(f => wholeCycles(upperMilli(f))) ?? null,
      reads,
      pointers: [...new Set(reads.flatMap(list => list.flatMap(read => read.pointers)))],
    };
  }

  /** Of 1 … `most` tokens, at the position that costs most. */
  #anywhere(shape: Shape, most: number): readonly Figures[] {
    if (!shape.dependsOn.has(POSITION)) return figuresAt(shape, columnFrom(1, most), 0);
    return range(most).map(n => dearest(figuresAt(shape, n + 1, columnFrom(0, this.#plan.ctx))));
  }

  /** Once for the whole plan. A record's turn of the outer loop is charged with that loop's beginning and end, since a segment may have one. */
  #executor(setting: Setting): readonly Figures[] | Refusal {
    if (this.#around !== null) return this.#around;
    const [stepAt = 0, record = 0] = setting.args;
    const loop = (name: string, most: number): Figures[] | Refusal => {
      const c = this.#certificates.get(name);
      if (isRefusal(c)) return c;
      const cases = range(most + 1).map((n): Case => () => [n, n]);
      const shape = Shape.of(c, { ...setting, args: [stepAt, record], passes: null, cases });
      if (isRefusal(shape)) return shape;
      shape.set(PASSES, columnFrom(0, most + 1));
      return shape.figures(most + 1);
    };
    const [records, rows] = [loop('run', 1), loop('run_op', this.#plan.batch)];
    if (isRefusal(records)) return records;
    if (isRefusal(rows)) return rows;
    const [none, one = nothing(this.#target)] = records;
    const turn = plus(one.busy, none?.busy ?? [], -1);
    this.#around = rows.map(own => ({ ...added(one, own), busy: plus(turn, own.busy) }));
    return this.#around;
  }

  /** By tokens. */
  #reads(shape: Shape, most: number): (readonly Read[])[] {
    shape.set(TOKENS, columnFrom(1, most));
    shape.set(POSITION, 0);
    return [[], ...shape.reads('weights', most)];
  }
}

const beyond = (name: string): Refusal => refuse('RANGE', 9999, `${name}: its cost is beyond 2⁵³`);

export const range = (n: number): number[] => Array.from({ length: Math.max(0, n) }, (_, i) => i);
export const sumOf = (list: readonly number[]): number => list.reduce((sum, x) => sum + x, 0);

export const nothing = (target: Target): Figures => ({
  compute: 0,
  memory: 0,
  instructions: 0,
  loaded: 0,
  stored: 0,
  busy: target.lower.map(() => 0),
});

/** `first` and the `count` − 1 numbers after it. */
const columnFrom = (first: number, count: number): Float64Array => Float64Array.from(range(count), i => first + i);

/** For each number of tokens, or at each position. */
function figuresAt(shape: Shape, tokens: Column, position: Column): Figures[] {
  shape.set(TOKENS, tokens);
  shape.set(POSITION, position);
  return shape.figures(Math.max(1, casesOf([tokens, position])));
}

/** For as many tokens as both have prices for. */
const sameCharges = (a: Row, b: Row): boolean =>
  a === b ||
  (a.tokens.every((price, n) => price === (b.tokens[n] ?? price)) && a.positions?.join() === b.positions?.join());

/** What an op over `n` tokens reads of the weights. */
export function rangesOf({ row, at }: Op, n: number): Range[] {
  return (row.reads[n] ?? []).map(({ pointers, from, to }) => {
    const base = sumOf(pointers.map(i => at[row.pointers.indexOf(i)] ?? 0));
    return [base + from, base + to];
  });
}

/** A word that is the same in every step of the plan, or null. */
export function constantWord(plan: PlanSource, address: number): number | null {
  const { at } = StepBlock;
  switch (address - plan.stepAt) {
    case at.rowsAt:
      return plan.rowsAt;
    case at.historyAt:
      return plan.historyAt;
    case at.samplerAt:
      return plan.samplerAt;
    case at.logitsAt:
      return plan.logitsAt;
    case at.vocabulary:
      return plan.vocabulary;
    case at.kvAt:
      return plan.kvAt;
    case at.picksAt:
      return plan.picksAt;
    case at.ctx:
      return plan.ctx;
    default:
      return null;
  }
}

/** Writes the rows of prices that records point to, each as long as the longest that an op has: u64 cycles. `u32`: the arena. */
export function fillRows(u32: Uint32Array, ops: readonly Op[]): void {
  const write = (at: number, row: readonly number[]): void =>
    row.forEach((price, i) => {
      const word = (at + i * PRICE_BYTES) >> 2;
      u32[word] = price % 2 ** 32;
      u32[word + 1] = Math.floor(price / 2 ** 32);
    });
  const written = new Map<number, Row>();
  for (const { tokensAt, positionsAt, row } of ops) {
    if ((written.get(tokensAt)?.tokens.length ?? 0) >= row.tokens.length) continue;
    written.set(tokensAt, row);
    write(tokensAt, row.tokens);
    if (row.positions !== null) write(positionsAt, row.positions);
  }
}

/** What an op is charged over rows at these positions. */
export function chargeOf(row: Row, positions: readonly number[]): number {
  return (row.tokens[positions.length] ?? 0) + sumOf(positions.map(pos => row.positions?.[pos] ?? 0));
}
