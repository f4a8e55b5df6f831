// Prices of a training plan: the certificates of its ops, as of every plan. A sequence is always rows 0 … n − 1 at positions 0 … n − 1, so that a
// segment over it has one price for each n; over picks, one for each number of rows and of picks; ops over the vector of parameters have just one.

import { isRefusal, PLAN_RECORD, TRAIN_SEGMENTS } from '../abi/index.ts';
import type { Refusal, TrainSegment } from '../abi/index.ts';
import type { Certificates } from './certificate.ts';
import { fillRows, Pricer, range, sumOf } from './op-price.ts';
import type { Op, PlanSource, Row } from './op-price.ts';
import type { Target } from './targets.ts';

/** Of a plan source what training plans have: no KV pool, no history, no sampler, nothing that streams. */
export interface TrainingSource extends Pick<
  PlanSource,
  'word' | 'regionOf' | 'vocabulary' | 'logitsAt' | 'rowsAt' | 'picksAt' | 'stepAt'
> {
  readonly ctx: number;
  readonly picks: number;
  readonly segments: Readonly<Record<TrainSegment, number>>;
}

/** Segments whose ops run over all rows of a sequence, and over some of them; the others over one row. */
const BY_SEQUENCE: ReadonlySet<TrainSegment> = new Set(['forward', 'backward', 'forwardQuantised']);
const BY_PICKS: ReadonlySet<TrainSegment> = new Set(['loss', 'score', 'scoreQuantised']);

interface Priced extends Op {
  readonly isHead: boolean;
  /** Of the prices of positions, the sum of those before. */
  readonly before: readonly number[];
}

export class TrainPrices {
  readonly #ops: Readonly<Record<TrainSegment, readonly Priced[]>>;
  /** Of any op over any sequence: what the processor is held for at least, and never longer by training. */
  readonly sliceMax: number;

  /** Prices every op of the plan; a refusal names the op that cannot be priced. */
  static of(certificates: Certificates, target: Target, source: TrainingSource): TrainPrices | Refusal {
    const plan = {
      ...source,
      bodyAt: 0,
      headAt: 0,
      sampleAt: 0,
      scoreAt: 0,
      stream: null,
      kvAt: 0,
      historyAt: 0,
      samplerAt: 0,
    };
    const draws = source.picks;
    const byRows = new Pricer(certificates, target, { ...plan, draws, batch: source.ctx });
    const single = new Pricer(certificates, target, { ...plan, draws, batch: 1 });
    const ops: Partial<Record<TrainSegment, readonly Priced[]>> = {};
    for (const name of TRAIN_SEGMENTS) {
      const at = source.segments[name];
      const isWide = BY_SEQUENCE.has(name) || BY_PICKS.has(name);
      const own = at === 0 ? [] : (isWide ? byRows : single).ops(at, source.picks);
      if (isRefusal(own)) return own;
      ops[name] = own.map((op, i): Priced => {
        const flags = source.word(at + i * PLAN_RECORD.bytes + 4 * PLAN_RECORD.flags);
        return { ...op, isHead: (flags & PLAN_RECORD.flagHead) !== 0, before: beforeOf(op.row) };
      });
    }
    return new TrainPrices(ops as Record<TrainSegment, readonly Priced[]>, source);
  }

  private constructor(ops: Readonly<Record<TrainSegment, readonly Priced[]>>, { ctx, picks }: TrainingSource) {
    this.#ops = ops;
    let most = 0;
    for (const name of TRAIN_SEGMENTS)
      for (const op of ops[name])
        for (let n = 1; n <= (op.isHead ? picks : BY_SEQUENCE.has(name) || BY_PICKS.has(name) ? ctx : 1); n++)
          most = Math.max(most, costOf(op, n, n));
    this.sliceMax = most;
  }

  /** Whether a segment runs over one row: the vector of parameters. */
  isOverVector(name: TrainSegment): boolean {
    return !BY_SEQUENCE.has(name) && !BY_PICKS.has(name);
  }

  /** Writes the rows that the records point to. `u32`: the arena. */
  fill(u32: Uint32Array): void {
    fillRows(u32, Object.values(this.#ops).flat());
  }

  /** A segment over `n` rows, and `picks` of them where its ops run over picks. Over one row: (name, 1). */
  segment(name: TrainSegment, n: number, picks = 0): number {
    return sumOf(this.#ops[name].map(op => costOf(op, n, picks)));
  }

  /** A segment over picks that goes over `rows` rows of a sequence of `n`, in groups of at most `most`. */
  groups(name: TrainSegment, n: number, rows: number, most: number): number {
    const [whole, rest] = [Math.floor(rows / most), rows % most];
    const full = whole === 0 ? 0 : whole * this.segment(name, n, most);
    return full + (rest === 0 ? 0 : this.segment(name, n, rest));
  }
}

function beforeOf({ positions }: Row): number[] {
  const before = [0];
  for (const i of range(positions?.length ?? 0)) before.push((before[i] ?? 0) + (positions?.[i] ?? 0));
  return before;
}

/** Rows stand at positions 0 … n − 1; picks are no ops whose price depends on them. */
const costOf = ({ row, isHead, before }: Priced, n: number, picks: number): number =>
  isHead ? (row.tokens[picks] ?? 0) : (row.tokens[n] ?? 0) + (before[n] ?? 0);
