// The price of a plan: what each of its ops costs on a target, for any number of tokens at any position, before anything runs. The executor
// charges an op what its record's rows say; this fills the rows, from the certificate of the op at the record's shape. What is charged is
// the upper price of every instruction and of every line of memory, each op by itself; beside it stands the lower bound, taken over a
// whole step: no target is faster than its busiest resource, or than what it must bring from memory. Kernels that count for themselves
// (the sampler) are bounded here by the prices that they count with.

import { PLAN_RECORD, PieceRecord, SamplerRecord, StepBlock, isRefusal, refuse } from '../abi/index.ts';
import type { DiskTimes, Refusal, StreamProgram } from '../abi/index.ts';
import { panic } from '../panic.ts';
import type { Certificates } from './certificate.ts';
import type { Certificate } from './certify.ts';
import { Shape, dependenceOf, unknownsOf } from './shape.ts';
import type { Case, Figures, Read, Setting, Unknowns, Word } from './shape.ts';
import { Streamed } from './stream.ts';
import type { Kind, Piece } from './stream.ts';
import { MILLI, trafficMilliMin } from './targets.ts';
import type { MemoryRegion, Target } from './targets.ts';
import { CLASSES } from './wasm.ts';

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

const SEGMENTS = ['body', 'head', 'sample', 'score'] as const;
export type Segment = (typeof SEGMENTS)[number];

/** Whole cycles, below 2⁵³. */
export interface Bound {
  readonly most: number;
  readonly least: number;
}

/** A read that an op waits for, and how long at most. */
export interface Wait {
  readonly op: number;
  readonly bytes: number;
  readonly most: number;
}

/** A decode step among others, on a disk in good health: how long it takes, its ops and draw alone, and how long the disk is busy for it. */
export interface Prediction {
  readonly cycles: number;
  readonly computed: number;
  readonly transfers: number;
}

/** What the sampler's work depends on: fields of SamplerRecord. */
export interface Draw {
  readonly modes: number;
  readonly topK: number;
}

/** One op of a plan: cycles that it is charged and that it takes at least; the charge in thousandths, by kind; instructions and bytes. */
export interface OpCost extends Bound {
  readonly compute: number;
  readonly memory: number;
  readonly overhead: number;
  readonly instructions: number;
  readonly loaded: number;
  readonly stored: number;
}

// ── Metered kernels ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** How a metered kernel's memory is priced: by the bytes it moves, or by a whole line for each access. */
type Access = 'stream' | 'random';
/** Lines that one instruction of a class touches where a kernel looks here and there; memory.copy begins and ends in one each. */
const LINES: Partial<Record<string, number>> = { load: 1, store: 1, v_load: 1, v_store: 1, bulk: 2 };

/** Thousandths of a cycle by class, memory included: what blocks of metered kernels count with. Data lie as far away as any do. */
function meteredPrices(target: Target, access: Access): number[] {
  const line = Math.max(...Object.values(target.home).map(home => target.levels[home]?.lineUpper ?? 0));
  const byte = Math.ceil(line / target.lineBytes);
  return CLASSES.map((cls, i) => {
    const lines = access === 'random' ? (LINES[cls] ?? 0) : 0;
    return (target.upper[i] ?? 0) + lines * line + (cls.startsWith('bytes_') ? byte : 0);
  });
}

/** The meter's table: thousandths of a cycle by block number, as Compute.set_prices takes it. */
export function meterTable(certificates: Certificates, target: Target): Uint32Array {
  const prices = { stream: meteredPrices(target, 'stream'), random: meteredPrices(target, 'random') };
  return Uint32Array.from(certificates.blocks, ({ access, counts }) =>
    counts.reduce((sum, n, cls) => sum + n * (prices[access][cls] ?? 0), 0),
  );
}

// ── Ops ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const PRICE_BYTES = 8;
// Arguments of the function that executes a record, in this order after step block and record.
const [TOKENS, POSITION, ROW, TO] = [2, 3, 4, 5];

/** What ops of one shape take: for so many tokens, and beyond that for a token at each position where that matters. */
interface Row {
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
type Range = readonly [from: number, to: number];

interface Op {
  readonly row: Row;
  readonly tokensAt: number;
  readonly positionsAt: number;
  /** Where the row's pointers point. */
  readonly at: readonly number[];
}

const wholeCycles = (milli: number): number => Math.ceil(milli / MILLI);
const upperMilli = (f: Figures): number => f.compute + f.memory;
const plus = (a: readonly number[], b: readonly number[], times = 1): number[] =>
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
class Pricer {
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
    const setting = this.#setting(record, byRows ? 1 : tokens);
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

  #setting(record: number, tokensMax: number): Setting {
    const { stepAt } = this.#plan;
    return {
      target: this.#target,
      prices: this.#target.upper,
      regionOf: this.#plan.regionOf,
      args: [stepAt, record, tokensMax === 1 ? 1 : null, null, null, null],
      read: address => this.#read(address, record),
      cases: range(tokensMax).map(n => this.#caseOf(n + 1)),
    };
  }

  /** So many tokens, each at any position: a pass mixes sessions. */
  #caseOf(tokens: number): Case {
    const { ctx, batch } = this.#plan;
    return i => (i === TOKENS ? [tokens, tokens] : [0, i === POSITION ? ctx - 1 : batch - 1]);
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
    const { ctx } = this.#plan;
    const positions = range(shape.dependsOn.has(POSITION) ? ctx : 1);
    const none = nothing(this.#target);
    const byPosition = positional ? range(ctx).map(pos => figuresAt(shape, 1, pos)) : null;
    const byTokens = [none];
    const tokens = [0];
    for (let n = 1; n <= most; n++) {
      const times = byRows ? n : 1;
      const loops = around[times] ?? none;
      const each = positional ? none : dearest(positions.map(pos => figuresAt(shape, byRows ? 1 : n, pos)));
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

  /** Once for the whole plan. A record's turn of the outer loop is charged with that loop's beginning and end, since a segment may have one. */
  #executor(setting: Setting): readonly Figures[] | Refusal {
    if (this.#around !== null) return this.#around;
    const [stepAt = 0, record = 0] = setting.args;
    const loop = (name: string, passes: number): Figures | Refusal => {
      const c = this.#certificates.get(name);
      if (isRefusal(c)) return c;
      const shape = Shape.of(c, { ...setting, args: [stepAt, record], passes });
      return isRefusal(shape) ? shape : shape.figures();
    };
    const [none, one] = [loop('run', 0), loop('run', 1)];
    if (isRefusal(none)) return none;
    if (isRefusal(one)) return one;
    const around: Figures[] = [];
    for (let times = 0; times <= this.#plan.batch; times++) {
      const rows = loop('run_op', times);
      if (isRefusal(rows)) return rows;
      around.push({ ...added(one, rows), busy: plus(plus(one.busy, none.busy, -1), rows.busy) });
    }
    return (this.#around = around);
  }

  #reads(shape: Shape, most: number): (readonly Read[])[] {
    return range(most + 1).map(n => {
      if (n === 0) return [];
      shape.set(TOKENS, n);
      shape.set(POSITION, 0);
      return shape.reads('weights');
    });
  }
}

const beyond = (name: string): Refusal => refuse('RANGE', 9999, `${name}: its cost is beyond 2⁵³`);

const range = (n: number): number[] => Array.from({ length: Math.max(0, n) }, (_, i) => i);
const sumOf = (list: readonly number[]): number => list.reduce((sum, x) => sum + x, 0);

const nothing = (target: Target): Figures => ({
  compute: 0,
  memory: 0,
  instructions: 0,
  loaded: 0,
  stored: 0,
  busy: target.lower.map(() => 0),
});

function figuresAt(shape: Shape, tokens: number, position: number): Figures {
  shape.set(TOKENS, tokens);
  shape.set(POSITION, position);
  return shape.figures();
}

/** For as many tokens as both have prices for. */
const sameCharges = (a: Row, b: Row): boolean =>
  a === b ||
  (a.tokens.every((price, n) => price === (b.tokens[n] ?? price)) && a.positions?.join() === b.positions?.join());

/** What an op over `n` tokens reads of the weights. */
function rangesOf({ row, at }: Op, n: number): Range[] {
  return (row.reads[n] ?? []).map(({ pointers, from, to }) => {
    const base = sumOf(pointers.map(i => at[row.pointers.indexOf(i)] ?? 0));
    return [base + from, base + to];
  });
}

/** A word that is the same in every step of the plan, or null. */
function constantWord(plan: PlanSource, address: number): number | null {
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

// ── Segments ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A segment's ops, added up: by tokens, and beyond that by the position of each. */
interface Sums {
  readonly ops: readonly Op[];
  readonly charged: readonly number[];
  readonly chargedAt: readonly number[]; // empty: no op depends on the position
  readonly chargedBefore: readonly number[]; // the sum of those before
  readonly busy: readonly (readonly number[])[];
  readonly busyBefore: readonly (readonly number[])[];
}

function sumsOf(ops: readonly Op[], { batch, ctx }: PlanSource, target: Target): Sums {
  const none = target.lower.map(() => 0);
  const counts = range(batch + 1);
  const positional = positionalOf(ops);
  const chargedAt: number[] = [];
  const chargedBefore = [0];
  const busyBefore: (readonly number[])[] = [none];
  for (let p = 0; p < ctx && positional.size > 0; p++) {
    let charged = 0;
    let busy = busyBefore[p] ?? none;
    for (const [row, times] of positional) {
      charged += times * (row.positions?.[p] ?? 0);
      busy = plus(busy, row.byPosition?.[p]?.busy ?? none, times);
    }
    chargedAt.push(charged);
    chargedBefore.push((chargedBefore[p] ?? 0) + charged);
    busyBefore.push(busy);
  }
  const rows = timesOf(ops);
  const all = [...rows];
  return {
    ops,
    charged: counts.map(n => sumOf(all.map(([row, times]) => times * (row.tokens[n] ?? 0)))),
    chargedAt,
    chargedBefore,
    busy: counts.map(n => all.reduce((sum, [row, times]) => plus(sum, row.byTokens[n]?.busy ?? none, times), none)),
    busyBefore,
  };
}

/** Rows of prices, and with how many of the ops each is the row of. */
function timesOf(ops: readonly Op[]): Map<Row, number> {
  const times = new Map<Row, number>();
  for (const { row } of ops) times.set(row, (times.get(row) ?? 0) + 1);
  return times;
}
/** Of those only the ones that depend on the position. */
const positionalOf = (ops: readonly Op[]): Map<Row, number> => timesOf(ops.filter(op => op.row.positions !== null));

// ── Pieces ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A piece of a segment as its record says, or the segment itself. */
interface Stretched {
  readonly opAt: number;
  readonly bufferAt: number;
  readonly bytes: number;
}

function piecesOf({ word, stream, ...plan }: PlanSource, s: Segment): Stretched[] {
  const at = plan[`${s}At`];
  if (stream === null || (s !== 'body' && s !== 'head')) return at === 0 ? [] : [{ opAt: at, bufferAt: 0, bytes: 0 }];
  const { bodyPiecesAt, bodyPieces, headPiecesAt, headPieces } = stream.program;
  const [piecesAt, pieces] = s === 'body' ? [bodyPiecesAt, bodyPieces] : [headPiecesAt, headPieces];
  return range(pieces).map(i => {
    const field = (name: keyof Stretched): number => word(piecesAt + i * PieceRecord.bytes + PieceRecord.at[name]);
    return { opAt: field('opAt'), bufferAt: field('bufferAt'), bytes: field('bytes') };
  });
}

/** A segment whose weights stream. */
interface Streaming {
  readonly times: Streamed;
  /** Cycles of positions that make a unit: with each a piece takes `weight` cycles more. */
  readonly unit: number;
  /** The op that each piece begins with. */
  readonly opOf: readonly number[];
  readonly bytes: readonly number[];
}

/** Parts of a unit where positions do not add the same to all ops: each piece is given its largest share. */
const SHARES = 4096;

function streamingOf(
  plan: PlanSource,
  segment: Segment,
  pieces: readonly Stretched[],
  ops: readonly (readonly Op[])[],
  sums: Sums,
): Streaming | null {
  if (plan.stream === null || (segment !== 'body' && segment !== 'head')) return null;
  const { disk, program } = plan.stream;
  const positional = positionalOf(ops.flat());
  const [[only, times] = [null, 1]] = positional;
  const unit = positional.size > 1 ? SHARES : times;
  const weightOf = (piece: readonly Op[]): number => {
    if (positional.size <= 1) return piece.filter(op => op.row === only).length;
    const own = [...positionalOf(piece)];
    if (own.length === 0) return 0;
    const at = (p: number): number => sumOf(own.map(([row, n]) => n * (row.positions?.[p] ?? 0)));
    return Math.ceil(SHARES * Math.max(0, ...sums.chargedAt.map((all, p) => (all === 0 ? 0 : at(p) / all))));
  };
  const timed = pieces.map(({ bufferAt, bytes }, i): Piece => {
    const rows = [...timesOf(ops[i] ?? [])];
    const tokens = (n: number): number => sumOf(rows.map(([row, count]) => count * (row.tokens[n] ?? 0)));
    return { tokens, weight: weightOf(ops[i] ?? []), bytes, bufferAt };
  });
  const opOf: number[] = [];
  for (const [i] of ops.entries()) opOf.push(i === 0 ? 0 : (opOf[i - 1] ?? 0) + (ops[i - 1]?.length ?? 0));
  const single = segment === 'body' ? program.gathers.map(g => g.unitBytes) : [];
  const buffers = [...new Set([...piecesOf(plan, 'body'), ...piecesOf(plan, 'head')].map(p => p.bufferAt))];
  return {
    times: new Streamed(
      timed,
      buffers.filter(at => at !== 0),
      single,
      disk,
    ),
    unit,
    opOf,
    bytes: pieces.map(p => p.bytes),
  };
}

/** Bytes in any of the ranges. */
function unionBytes(ranges: readonly Range[]): number {
  let [bytes, end] = [0, 0];
  for (const [from, to] of [...ranges].sort((a, b) => a[0] - b[0])) {
    bytes += Math.max(0, to - Math.max(from, end));
    end = Math.max(end, to);
  }
  return bytes;
}

/** Segments that run one after the other, each over tokens from a position on. */
type Run = readonly [segment: Segment, tokens: number, position: number];
type Stretch = readonly Run[];

/** Metered kernels that a session runs. */
const METERED = ['sample', 'top_k'] as const;

export class Prices {
  readonly ctx: number;
  readonly batch: number;
  /** Rows that a head should take at once, plan.draws at most: together they take no longer than one by one. */
  readonly headPicks: number;
  readonly #target: Target;
  readonly #plan: PlanSource;
  readonly #certificates: Certificates;
  readonly #segments: Readonly<Record<Segment, Sums>>;
  readonly #body: Streaming | null;
  readonly #head: Streaming | null;
  readonly #metered = new Map<string, Shape>();
  /** Of the sampler, for settings whose cost does not depend on the history. */
  readonly #draws = new Map<string, Figures>();
  readonly #bytesRead = new Map<string, number>();

  /** Prices every op of the plan; a refusal names the op that cannot be priced. */
  static of(certificates: Certificates, target: Target, plan: PlanSource): Prices | Refusal {
    const pricer = new Pricer(certificates, target, plan);
    const segments: Partial<Record<Segment, Sums>> = {};
    const streaming: Partial<Record<Segment, Streaming | null>> = {};
    for (const name of METERED) {
      const c = certificates.get(name);
      if (isRefusal(c)) return c;
    }
    for (const s of SEGMENTS) {
      const pieces = piecesOf(plan, s);
      const ops: Op[][] = [];
      for (const { opAt } of pieces) {
        const own = pricer.ops(opAt, s === 'head' ? plan.draws : 1);
        if (isRefusal(own)) return own;
        ops.push(own);
      }
      const sums = sumsOf(ops.flat(), plan, target);
      segments[s] = sums;
      streaming[s] = streamingOf(plan, s, pieces, ops, sums);
    }
    return new Prices(certificates, target, plan, segments as Record<Segment, Sums>, streaming);
  }

  private constructor(
    certificates: Certificates,
    target: Target,
    plan: PlanSource,
    segments: Readonly<Record<Segment, Sums>>,
    { body, head }: Partial<Record<Segment, Streaming | null>>,
  ) {
    this.#certificates = certificates;
    this.#target = target;
    this.#plan = plan;
    this.ctx = plan.ctx;
    this.batch = plan.batch;
    this.#segments = segments;
    this.#body = body ?? null;
    this.#head = head ?? null;
    const dearer = range(plan.draws).find(i => this.headMost(i + 1) > (i + 1) * this.headMost(1));
    this.headPicks = dearer ?? plan.draws;
  }

  /** Writes the rows that the records point to. `u32`: the arena. */
  fill(u32: Uint32Array): void {
    const write = (at: number, row: readonly number[]): void =>
      row.forEach((price, i) => {
        const word = (at + i * PRICE_BYTES) >> 2;
        u32[word] = price % 2 ** 32;
        u32[word + 1] = Math.floor(price / 2 ** 32);
      });
    const written = new Map<number, Row>();
    for (const s of SEGMENTS)
      for (const { tokensAt, positionsAt, row } of this.#segments[s].ops) {
        if ((written.get(tokensAt)?.tokens.length ?? 0) >= row.tokens.length) continue;
        written.set(tokensAt, row);
        write(tokensAt, row.tokens);
        if (row.positions !== null) write(positionsAt, row.positions);
      }
  }

  /** One segment over `n` tokens from position `pos`, without what the sampler counts itself; over one row but for the body. */
  segment(s: Segment, n: number, pos: number): Bound {
    return { most: this.#timed('most', s, n, pos), least: this.#least([[s, n, pos]], []) };
  }

  /** A step: the body over `n` tokens from `pos`; when it draws, then head and sampler for the last of them, `historyLength` tokens being there. */
  step(n: number, pos: number, draws: boolean, draw: Draw, historyLength: number): Bound {
    const body: Run = ['body', n, pos];
    if (!draws) return this.segment(...body);
    const drawn = this.#drawn(draw, historyLength);
    const last = pos + n - 1;
    const stretch: Stretch = [body, ['head', 1, last], ['sample', 1, last]];
    const most = sumOf(stretch.map(s => this.#timed('most', ...s)));
    return { most: most + wholeCycles(drawn.compute), least: this.#least(stretch, drawn.busy) };
  }

  /** The sampler alone, which is metered. */
  draw(draw: Draw, historyLength: number): Bound {
    return boundOf(this.#drawn(draw, historyLength));
  }

  /** The `k` largest logits, which are metered. */
  topK(k: number): Bound {
    const { logitsAt, vocabulary, samplerAt } = this.#plan;
    const args = [logitsAt, vocabulary, k, samplerAt]; // where they go does not matter
    return boundOf(exactFigures(this.#kernel(`top_k ${k}`, 'top_k', args, () => 'data')));
  }

  /** Any metered kernel at these arguments, which looks here and there in memory; `word`: an i32 that its work depends on, or null. */
  kernel(name: string, args: readonly number[], word: (address: number) => number | null): Bound | Refusal {
    const shape = meteredShape(this.#certificates, this.#target, name, 'random', args, a => word(a) ?? 'data', 0);
    return isRefusal(shape) ? shape : boundOf(exactFigures(shape));
  }

  /** Op by op; `most` is what each is charged. */
  ops(s: Segment, n: number, pos: number): OpCost[] {
    return this.#segments[s].ops.map(({ row }) => {
      const none = nothing(this.#target);
      const parts = [row.byTokens[n] ?? none, ...(row.byPosition?.slice(pos, pos + n) ?? [])];
      const sum = (of: (f: Figures) => number): number => sumOf(parts.map(of));
      const most = chargeOf(row, n, pos);
      return {
        most,
        least: Math.floor(Math.max(0, ...parts.reduce((total, f) => plus(total, f.busy), none.busy)) / MILLI),
        compute: sum(f => f.compute),
        memory: sum(f => f.memory),
        overhead: most * MILLI - sum(upperMilli), // and what rounding to whole cycles adds
        instructions: sum(f => f.instructions),
        loaded: sum(f => f.loaded),
        stored: sum(f => f.stored),
      };
    });
  }

  /** What each op of the body or head waits for: a read of so many bytes, so long at most. `op` is its index among the segment's ops. */
  waits(s: 'body' | 'head', n: number, pos: number): Wait[] {
    const streaming = s === 'body' ? this.#body : this.#head;
    if (streaming === null) return [];
    const { times, unit, opOf, bytes } = streaming;
    const positions = this.computed(s, n, pos) - (this.#segments[s].charged[n] ?? 0);
    const stalls = times.stalls('most', n, Math.ceil(positions / unit));
    return opOf.flatMap((op, i) => {
      const [most = 0, size = 0] = [stalls[i], bytes[i]];
      return most > 0 || size > 0 ? [{ op, bytes: size, most }] : [];
    });
  }

  /** Steps of one token at `pos` one after the other, each with its draw. */
  predict(pos: number, draw: Draw): Prediction {
    const drawn = this.draw(draw, pos + 1).most;
    const computed =
      this.computed('body', 1, pos) + this.computed('head', 1, pos) + this.computed('sample', 1, pos) + drawn;
    if (this.#body === null || this.#head === null) return { cycles: computed, computed, transfers: 0 };
    const units = Math.ceil((this.computed('body', 1, pos) - this.bodyTokens(1)) / this.#body.unit);
    const more = this.computed('sample', 1, pos) + drawn;
    const [body, head] = [this.#body.times, this.#head.times];
    return {
      cycles: Streamed.steady(body, head, 'typical', units, more),
      computed,
      transfers: body.transfers('typical', 1, false) + head.transfers('typical', 1, false),
    };
  }

  /**
   * hot: what the ops of a segment over `n` tokens of one session from position `pos` take, which the executor counts, without what the
   * sampler counts itself. Rows of a pass may be of any sessions and positions: `bodyTokens` of them all, and `bodyPosition` of each.
   */
  computed(s: Segment, n: number, pos: number): number {
    const { charged, chargedBefore: before } = this.#segments[s];
    return (charged[n] ?? 0) + (before[pos + n] ?? 0) - (before[pos] ?? 0);
  }

  /** hot: what a session is charged for that: as if alone, on a disk in good health, nothing being there when it begins. */
  charged(s: Segment, n: number, pos: number): number {
    return this.#timed('typical', s, n, pos);
  }

  /** hot: of a pass's body, what the ops of its rows take wherever they stand. */
  bodyTokens(n: number): number {
    return this.#segments.body.charged[n] ?? 0;
  }

  /** hot: of a pass's body, what those of a row at this position take beyond that. */
  bodyPosition(pos: number): number {
    return this.#segments.body.chargedAt[pos] ?? 0;
  }

  /** hot: what the head's ops over `m` rows take, at most `draws`. */
  headTokens(m: number): number {
    return this.#segments.head.charged[m] ?? 0;
  }

  /** hot: a pass's body over `n` rows, bodyPosition of which are `positions` together, takes no longer. */
  passMost(n: number, positions: number): number {
    return this.#bodyTime('most', n, positions);
  }

  /** hot: nor does the head over `m` rows, at most `draws`. */
  headMost(m: number): number {
    return this.#headTime('most', m);
  }

  #bodyTime(kind: Kind, n: number, positions: number): number {
    const body = this.#body;
    if (body === null) return this.bodyTokens(n) + positions;
    return body.times.cycles(kind, n, Math.ceil(positions / body.unit));
  }

  #headTime(kind: Kind, m: number): number {
    return this.#head === null ? this.headTokens(m) : this.#head.times.cycles(kind, m, 0);
  }

  #timed(kind: Kind, s: Segment, n: number, pos: number): number {
    if (s === 'head') return this.#headTime(kind, n);
    const computed = this.computed(s, n, pos);
    return s === 'body' ? this.#bodyTime(kind, n, computed - this.bodyTokens(n)) : computed;
  }

  /** At least: the busiest resource over the whole stretch, what it must read of the weights, or of the disk. */
  #least(stretch: Stretch, more: readonly number[]): number {
    let busy = nothing(this.#target).busy;
    for (const [s, n, pos] of stretch) {
      const { busy: own, busyBefore: before } = this.#segments[s];
      busy = plus(plus(plus(busy, own[n] ?? []), before[pos + n] ?? []), before[pos] ?? [], -1);
    }
    const read = trafficMilliMin(this.#target, 'weights', this.#weightBytes(stretch));
    return Math.max(Math.floor(Math.max(read, ...plus(busy, more)) / MILLI), this.#transfersLeast(stretch));
  }

  /** What the disk is busy for at least: the first tiles of all may be there already. */
  #transfersLeast(stretch: Stretch): number {
    let sum = 0;
    let warm = true;
    for (const [s, n] of stretch) {
      const times = (s === 'body' ? this.#body : s === 'head' ? this.#head : null)?.times;
      if (times === undefined) continue;
      sum += times.transfers('least', n, warm);
      warm = false;
    }
    return sum;
  }

  #weightBytes(stretch: Stretch): number {
    const key = stretch.map(([s, n]) => `${s} ${n}`).join();
    const known =
      this.#bytesRead.get(key) ??
      unionBytes(stretch.flatMap(([s, n]) => this.#segments[s].ops.flatMap(op => rangesOf(op, n))));
    this.#bytesRead.set(key, known);
    return known;
  }

  #drawn(draw: Draw, historyLength: number): Figures {
    const { stepAt, samplerAt } = this.#plan;
    const read = (address: number): Word => {
      if (address === stepAt + StepBlock.at.historyLength) return 'open';
      if (address === samplerAt + SamplerRecord.at.modes) return draw.modes;
      if (address === samplerAt + SamplerRecord.at.topK) return draw.topK;
      return constantWord(this.#plan, address) ?? 'data';
    };
    const key = `sample ${draw.modes} ${draw.topK}`;
    const known = this.#draws.get(key);
    if (known !== undefined) return known;
    const shape = this.#kernel(key, 'sample', [stepAt], read);
    shape.setWords(historyLength);
    const figures = exactFigures(shape);
    if (!shape.varies) this.#draws.set(key, figures);
    return figures;
  }

  /** A metered kernel that streams, at these arguments. */
  #kernel(key: string, name: (typeof METERED)[number], args: readonly number[], read: Setting['read']): Shape {
    const known = this.#metered.get(key);
    if (known !== undefined) return known;
    const shape = meteredShape(this.#certificates, this.#target, name, 'stream', args, read, this.ctx);
    if (isRefusal(shape)) return panic(`no bound: ${shape.message}`); // it has a certificate, and settings are checked before
    this.#metered.set(key, shape);
    return shape;
  }
}

/** A metered kernel at these arguments, words that are open lying between 0 and `openMax`. Its memory is in `compute`. */
function meteredShape(
  certificates: Certificates,
  target: Target,
  name: string,
  access: Access,
  args: readonly number[],
  read: Setting['read'],
  openMax: number,
): Shape | Refusal {
  const c = certificates.get(name);
  if (isRefusal(c)) return c;
  const prices = meteredPrices(target, access);
  return Shape.of(c, { target, prices, regionOf: () => 'io', args, read, cases: [() => [0, openMax]] });
}

function exactFigures(shape: Shape): Figures {
  const figures = shape.figures();
  return shape.exact ? figures : panic(`no bound: ${shape.name} costs more than 2⁵³`);
}

function chargeOf(row: Row, n: number, pos: number): number {
  return (row.tokens[n] ?? 0) + sumOf(row.positions?.slice(pos, pos + n) ?? []);
}

const boundOf = (f: Figures): Bound => ({
  most: wholeCycles(f.compute),
  least: Math.floor(Math.max(0, ...f.busy) / MILLI),
});
