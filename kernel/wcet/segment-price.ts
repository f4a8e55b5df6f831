// The ops of a segment added up, whole or in the pieces that its plan falls apart into where weights stream. Records of pieces are read from the
// plan; what a piece computes and waits for goes to the recurrence of stream.ts.

import { bytesOfUnit, PieceRecord, type Gather } from '../abi/index.ts';
import { plus, range, rangesOf, sumOf } from './op-price.ts';
import type { Op, PlanSource, Range, Row, Segment } from './op-price.ts';
import { Streamed } from './stream.ts';
import type { Piece, Single } from './stream.ts';
import type { Target } from './targets.ts';

/** A segment's ops, added up: by tokens, and beyond that by the position of each. */
export interface Sums {
  readonly ops: readonly Op[];
  readonly charged: readonly number[];
  readonly chargedAt: readonly number[]; // empty: no op depends on the position
  readonly chargedBefore: readonly number[]; // the sum of those before
  readonly busy: readonly (readonly number[])[];
  readonly busyBefore: readonly (readonly number[])[];
}

export function sumsOf(ops: readonly Op[], { batch, ctx }: PlanSource, target: Target): Sums {
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
export interface Stretched {
  readonly opAt: number;
  readonly bufferAt: number;
  readonly bytes: number;
}

export function piecesOf({ word, stream, ...plan }: PlanSource, s: Segment): Stretched[] {
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
export interface Streaming {
  readonly times: Streamed;
  /** Cycles of positions that make a unit: with each a piece takes `weight` cycles more. */
  readonly unit: number;
  /** The op that each piece begins with. */
  readonly opOf: readonly number[];
  readonly bytes: readonly number[];
}

/** Parts of a unit where positions do not add the same to all ops: each piece is given its largest share. */
const SHARES = 4096;

export function streamingOf(
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
  const singles = segment === 'body' ? program.gathers.map(singleOf) : [];
  const buffers = [...new Set([...piecesOf(plan, 'body'), ...piecesOf(plan, 'head')].map(p => p.bufferAt))];
  return {
    times: new Streamed(
      timed,
      buffers.filter(at => at !== 0),
      singles,
      disk,
    ),
    unit,
    opOf,
    bytes: pieces.map(p => p.bytes),
  };
}

/** The last unit of a matrix may be a shorter read than the others. */
function singleOf(gather: Gather): Single {
  const last = Math.ceil(gather.rows / gather.unitRows) - 1;
  return { least: bytesOfUnit(gather, last), most: gather.unitBytes };
}

/** Bytes of the weights that segments must read, each over so many tokens. */
export function weightBytes(runs: readonly (readonly [sums: Sums, tokens: number])[]): number {
  return unionBytes(runs.flatMap(([{ ops }, n]) => ops.flatMap(op => rangesOf(op, n))));
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
