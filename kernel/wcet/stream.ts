// How long a plan takes whose weights stream: pieces of ops run one after the other, each may wait for a read, and a read begins when its buffer
// is free. A recurrence of maxima and sums over pieces gives the end of each for computing times and transfer times that are put in, at most or
// as usual; Prices asks it for bounds and charges, forecasts for stalls. A marked graph's earliest schedule (Baccelli, Cohen, Olsder and
// Quadrat, Synchronization and Linearity, 1992).
//
// Why a bound by worst times bounds every run. All that happens in a segment, a body or a head, is
//
//   arrive(i) = max(arrive(i − 1), issue(i) + latency(i)) + transfer(i)      where the latency passes while the disk transfers,
//   arrive(i) = max(arrive(i − 1), issue(i)) + latency(i) + transfer(i)      where it does not; reads are answered in order
//   end(i)    = max(end(i − 1), arrive(i)) + computing(i)
//
// issue(i) being the end of the last piece that used the buffer, and the segment's beginning for the first read into each. The single reads of
// rows come behind those first ones, and the first piece waits for them all.
//
// Monotone. Only maxima and sums: no end comes earlier for a later issue, a longer latency, transfer or computation. There are no timing
// anomalies, and times at most, put in together, give an end that no run passes. Kernels compute exactly what they are priced.
// Warm starts. What a segment finds when it begins are reads of its own first tiles, issued before, in this order and no others: each is issued
// no later than its beginning, and what was before them has arrived. So every end is at most that of a cold start, from which bounds count.
// Sums. end(i) is the largest of sums along paths, each of which meets every computation, latency and transfer at most once. So for
// computing times c' + c'' a path is no longer than with c' and with c'' together: segment(c' + c'') ≤ segment(c') + segment(c''). Sessions
// that share a pass take no longer than one after the other, wherever their ops do not; and longer ones lie on a convex function.

import type { DiskTimes, ReadTime, Timing } from '../abi/index.ts';

/** One piece of a segment. */
export interface Piece {
  /** Cycles of its ops over `n` rows, wherever they stand. */
  readonly tokens: (n: number) => number;
  /** Cycles of its ops for each unit of what the rows' positions add. */
  readonly weight: number;
  /** Of the tile that it waits for; 0: none. */
  readonly bytes: number;
  /** The buffer that it uses; 0: none. */
  readonly bufferAt: number;
}

/** Bytes of what is read singly for each row: they depend on which row it is. */
export interface Single {
  readonly least: number;
  readonly most: number;
}

/** Which times of the disk are put in. */
export type Kind = keyof Timing;

/** A segment's state between pieces: when its last op ended, its last read was issued, the disk's last answer came, and buffers were free. */
interface State {
  end: number;
  issued: number;
  before: number;
  readonly free: Float64Array;
  /** By how much each grows with a unit of position. */
  endWeight: number;
  issuedWeight: number;
  beforeWeight: number;
  readonly freeWeight: Float64Array;
}

/** A point of a convex function, and its slope there. */
interface Point {
  readonly units: number;
  readonly cycles: number;
  readonly weight: number;
}

/** The times of one segment's tiles; for how long all of them, and the first into each buffer, keep the disk busy. */
interface Times {
  readonly latency: Float64Array;
  readonly transfer: Float64Array;
  readonly all: number;
  readonly first: number;
}

/** A body, or a head, whose tiles stream. */
export class Streamed {
  readonly #pieces: readonly Piece[];
  readonly #buffer: Int32Array; // by piece, index; −1: none
  readonly #isRead: Uint8Array;
  /** Pieces whose reads are the first into their buffers. */
  readonly #first: readonly number[];
  readonly #singles: readonly Single[];
  readonly #disk: DiskTimes;
  readonly #buffers: number;
  readonly #weights: Float64Array;
  readonly #costs = new Map<number, Float64Array>();
  readonly #times = new Map<Kind, Times>();
  /** What has been computed, by rows. */
  readonly #known: Readonly<Record<Kind, Point[][]>> = { least: [], typical: [], most: [] };
  readonly #arrive: Float64Array;
  readonly #arriveWeight: Float64Array;

  /** `buffers`: where they lie, of body and head; `singles`: what is read for each row before the first piece. */
  constructor(pieces: readonly Piece[], buffers: readonly number[], singles: readonly Single[], disk: DiskTimes) {
    this.#pieces = pieces;
    this.#singles = singles;
    this.#disk = disk;
    this.#buffers = buffers.length;
    this.#buffer = Int32Array.from(pieces, p => buffers.indexOf(p.bufferAt));
    this.#isRead = Uint8Array.from(pieces, p => (p.bytes > 0 ? 1 : 0));
    this.#weights = Float64Array.from(pieces, p => p.weight);
    const used = new Set<number>();
    const first: number[] = [];
    for (const [i, { bytes }] of pieces.entries()) {
      const buffer = this.#buffer[i]!;
      if (bytes > 0 && used.has(buffer)) break; // reads are issued in order
      if (bytes > 0) first.push(i);
      if (buffer >= 0) used.add(buffer);
    }
    this.#first = first;
    this.#arrive = new Float64Array(pieces.length);
    this.#arriveWeight = new Float64Array(pieces.length);
  }

  /**
   * hot: cycles from a cold start, over `n` rows whose positions add `units`. A convex function of `units`, made of lines: where the tangent at one
   * point meets another point there is nothing but that line between them, so a few runs over the pieces answer for all positions.
   */
  cycles(kind: Kind, n: number, units: number): number {
    const points = (this.#known[kind][n] ??= []);
    if (points.length === 0) points.push(this.#point(kind, n, 0));
    for (;;) {
      const at = lowerBound(points, units);
      const behind = points[at];
      if (behind?.units === units) return behind.cycles;
      const before = points[at - 1]!;
      if (behind === undefined) {
        points.push(this.#point(kind, n, 2 * units));
        continue;
      }
      if (along(before, behind.units) === behind.cycles) return along(before, units);
      if (along(behind, before.units) === before.cycles) return along(behind, units);
      const crossing = Math.floor(crossingOf(before, behind));
      const between = Math.min(Math.max(crossing, before.units + 1), behind.units - 1);
      points.splice(at, 0, this.#point(kind, n, between));
    }
  }

  #point(kind: Kind, n: number, units: number): Point {
    const state = this.#cold();
    this.#run(state, kind, n, units, null);
    return { units, cycles: state.end, weight: state.endWeight };
  }

  /** How long each piece waits, from a cold start. */
  stalls(kind: Kind, n: number, units: number): Float64Array {
    const stalls = new Float64Array(this.#pieces.length);
    this.#run(this.#cold(), kind, n, units, stalls);
    return stalls;
  }

  /** Cycles that the disk is busy for the segment over `n` rows; `warm`: its first tiles are there already. */
  transfers(kind: Kind, n: number, warm: boolean): number {
    const { all, first } = this.#timesOf(kind);
    const row = this.#singles.reduce((sum, single) => sum + this.#busy(this.#readSingle(single, kind)), 0);
    return all - (warm ? first : 0) + n * row;
  }

  #readSingle({ least, most }: Single, kind: Kind): ReadTime {
    return this.#disk.read(kind === 'least' ? least : most, kind);
  }

  /** What a read keeps the disk from others. */
  #busy({ latency, transfer }: ReadTime): number {
    return transfer + (this.#disk.overlaps ? 0 : latency);
  }

  #cold(): State {
    return {
      end: 0,
      issued: 0,
      before: 0,
      free: new Float64Array(this.#buffers),
      endWeight: 0,
      issuedWeight: 0,
      beforeWeight: 0,
      freeWeight: new Float64Array(this.#buffers),
    };
  }

  /** Runs the segment behind `s`, in which its reads may have begun as soon as their buffers were free. */
  #run(s: State, kind: Kind, n: number, units: number, stalls: Float64Array | null): void {
    const times = this.#timesOf(kind);
    for (const i of this.#first) this.#read(s, i, times);
    this.#gather(s, kind, n, stalls);
    const costs = this.#costsOf(n);
    const [weights, buffers] = [this.#weights, this.#buffer];
    let next = 0;
    for (let i = 0; i < costs.length; i++) {
      if (this.#isRead[i] === 1) {
        if (i === this.#first[next]) next++;
        else this.#read(s, i, times);
        if (this.#arrive[i]! > s.end) {
          if (stalls !== null) stalls[i]! += this.#arrive[i]! - s.end;
          s.end = this.#arrive[i]!;
          s.endWeight = this.#arriveWeight[i]!;
        }
      }
      s.end += costs[i]! + weights[i]! * units;
      s.endWeight += weights[i]!;
      const buffer = buffers[i]!;
      if (buffer < 0) continue;
      s.free[buffer] = s.end;
      s.freeWeight[buffer] = s.endWeight;
    }
  }

  /** The read of piece `i` is issued, as soon as its buffer is free. */
  #read(s: State, i: number, { latency, transfer }: Times): void {
    const buffer = this.#buffer[i]!;
    this.#answer(s, s.free[buffer]!, s.freeWeight[buffer]!, latency[i]!, transfer[i]!);
    this.#arrive[i] = s.before;
    this.#arriveWeight[i] = s.beforeWeight;
  }

  /** Rows that are read singly: all issued when the segment begins, behind its first tiles. */
  #gather(s: State, kind: Kind, n: number, stalls: Float64Array | null): void {
    if (this.#singles.length === 0) return;
    const { end: from, endWeight: fromWeight } = s;
    for (const single of this.#singles) {
      const { latency, transfer } = this.#readSingle(single, kind);
      for (let row = 0; row < n; row++) this.#answer(s, from, fromWeight, latency, transfer);
    }
    if (s.before <= s.end) return;
    if (stalls !== null) stalls[0]! += s.before - s.end;
    s.end = s.before;
    s.endWeight = s.beforeWeight;
  }

  /** The disk answers a read that may be issued from `from` on: reads are issued in order. */
  #answer(s: State, from: number, fromWeight: number, latency: number, transfer: number): void {
    if (from > s.issued) {
      s.issued = from;
      s.issuedWeight = fromWeight;
    }
    const { overlaps } = this.#disk;
    const begins = overlaps ? s.issued + latency : s.issued;
    if (begins > s.before) {
      s.before = begins;
      s.beforeWeight = s.issuedWeight;
    }
    s.before += overlaps ? transfer : latency + transfer;
  }

  #costsOf(n: number): Float64Array {
    const known = this.#costs.get(n);
    if (known !== undefined) return known;
    const costs = Float64Array.from(this.#pieces, p => p.tokens(n));
    this.#costs.set(n, costs);
    return costs;
  }

  #timesOf(kind: Kind): Times {
    const known = this.#times.get(kind);
    if (known !== undefined) return known;
    const bySize = new Map<number, ReadTime>([[0, { latency: 0, transfer: 0 }]]);
    const reads = this.#pieces.map(({ bytes }) => {
      const read = bySize.get(bytes) ?? this.#disk.read(bytes, kind);
      bySize.set(bytes, read);
      return read;
    });
    const times = {
      latency: Float64Array.from(reads, r => r.latency),
      transfer: Float64Array.from(reads, r => r.transfer),
      all: reads.reduce((sum, read) => sum + this.#busy(read), 0),
      first: this.#first.reduce((sum, i) => sum + this.#busy(reads[i]!), 0),
    };
    this.#times.set(kind, times);
    return times;
  }

  /**
   * Cycles of a step when many follow each other, each tile being read as soon as its buffer is free: the body over one row whose position adds
   * `units`, the head, and `more` behind it that needs no weights. The steps settle down after a few.
   */
  static steady(body: Streamed, head: Streamed, kind: Kind, units: number, more: number): number {
    const s = body.#cold();
    let before = 0;
    for (let lap = 0; lap < LAPS; lap++) {
      before = s.end;
      body.#run(s, kind, 1, units, null);
      head.#run(s, kind, 1, 0, null);
      s.end += more;
    }
    return s.end - before;
  }
}

/** Steps until a steady state is taken to be reached: the first ones are faster by what was read before them. */
const LAPS = 4;

const along = (p: Point, units: number): number => p.cycles + p.weight * (units - p.units);

/** Where the tangents at two points meet. */
const crossingOf = (a: Point, b: Point): number => a.units + (along(b, a.units) - a.cycles) / (a.weight - b.weight);

/** Index of the first point at or beyond `units`. */
function lowerBound(points: readonly Point[], units: number): number {
  let [from, to] = [0, points.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    if (points[middle]!.units < units) from = middle + 1;
    else to = middle;
  }
  return from;
}
