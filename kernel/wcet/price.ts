// The price of a plan: what its segments take on a target, for any number of tokens at any position, before anything runs. The executor charges an
// op what its record's rows say; this fills the rows. Where weights stream, a segment takes longer than its ops, by what it waits for: at most,
// as sessions are charged it, and at least. The lower bound is taken over a whole step: no target is faster than its busiest resource, than
// what it must bring from memory, or than its disk. Kernels that count for themselves (the sampler) are bounded by the prices they count with.

import { SamplerRecord, StepBlock, isRefusal } from '../abi/index.ts';
import type { Refusal } from '../abi/index.ts';
import { panic } from '../panic.ts';
import type { Certificates } from './certificate.ts';
import {
  Pricer,
  SEGMENTS,
  chargeOf,
  constantWord,
  fillRows,
  nothing,
  plus,
  range,
  sumOf,
  upperMilli,
  wholeCycles,
} from './op-price.ts';
import type { Op, PlanSource, Segment } from './op-price.ts';
import { piecesOf, streamingOf, sumsOf, weightBytes } from './segment-price.ts';
import type { Streaming, Sums } from './segment-price.ts';
import { Shape } from './shape.ts';
import type { Figures, Setting, Word } from './shape.ts';
import { Streamed } from './stream.ts';
import type { Kind } from './stream.ts';
import { MILLI, trafficMilliMin } from './targets.ts';
import type { Target } from './targets.ts';
import { CLASSES } from './wasm.ts';

export type { PlanSource, Segment } from './op-price.ts';

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

// ── Plans ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

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
    fillRows(
      u32,
      SEGMENTS.flatMap(s => this.#segments[s].ops),
    );
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

  /** Op by op over `n` tokens from position `pos`; `most` is what each is charged. */
  ops(s: Segment, n: number, pos: number): OpCost[] {
    return this.opsAt(
      s,
      range(n).map(i => pos + i),
    );
  }

  /** The same over rows at these positions, in any order. */
  opsAt(s: Segment, positions: readonly number[]): OpCost[] {
    return this.#segments[s].ops.map(({ row }) => {
      const none = nothing(this.#target);
      const at = positions.map(pos => row.byPosition?.[pos] ?? none);
      const parts = [row.byTokens[positions.length] ?? none, ...at];
      const sum = (of: (f: Figures) => number): number => sumOf(parts.map(of));
      const most = chargeOf(row, positions);
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
    const known = this.#bytesRead.get(key) ?? weightBytes(stretch.map(([s, n]) => [this.#segments[s], n] as const));
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

/** The sampler counts for itself: its op, the last of its segment, costs what the record does, and that. */
export function withDraw(ops: readonly OpCost[], drawn: Bound): OpCost[] {
  return ops.map((op, i) => {
    if (i + 1 < ops.length) return op;
    const [most, compute] = [op.most + drawn.most, op.compute + drawn.most * MILLI];
    return { ...op, most, least: Math.max(op.least, drawn.least), compute };
  });
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
  const [figures] = shape.figures(1);
  return shape.exact && figures !== undefined ? figures : panic(`no bound: ${shape.name} costs more than 2⁵³`);
}

const boundOf = (f: Figures): Bound => ({
  most: wholeCycles(f.compute),
  least: Math.floor(Math.max(0, ...f.busy) / MILLI),
});
