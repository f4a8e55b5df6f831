// Tensors as numbers: values of any storage type as f32, a piece at a time through the DMA buffer, and what can be said of them in one look.
// The VFS knows where a tensor lies; the arithmetic is the compute device's, handed in as a function. A piece is 1,024 values (whole blocks of
// every type), so that what is stored, its f32 and what they may be rounded to fit the buffer together: 8 + 4 + 4 KiB.

import { E, GGML_BLOCK, GGML_TYPE, ggmlTypeName, isGrouped, plainType } from '../kernel/abi/index.ts';
import type { ArenaView, TensorInfo } from '../kernel/abi/index.ts';
import type { GgufImage } from './gguf.ts';
import type { Piece } from './gguf-writer.ts';
import { GROUP_ROWS, takeRow } from './prelink.ts';

export const PIECE_VALUES = 1024;
/** Where in the DMA buffer a piece goes: as stored (8 bytes a value at most), as f32, and what is left for the reader. */
export const PIECE = { storedAt: 0, valuesAt: 8 * PIECE_VALUES, spareAt: 12 * PIECE_VALUES } as const;

/** Expands `n` values of a ggml type to f32: 0, or -1 when the type is not known to the device. */
export type Decode = (type: number, fromAt: number, n: number, toAt: number) => number;

/** The values of one tensor. */
export class TensorValues {
  readonly image: GgufImage;
  readonly tensor: TensorInfo;
  readonly count: number;
  private readonly decode: Decode;
  private readonly memory: Uint8Array;

  /** `memory`: the arena. */
  constructor(image: GgufImage, tensor: TensorInfo, decode: Decode, memory: Uint8Array) {
    this.image = image;
    this.tensor = tensor;
    this.decode = decode;
    this.memory = memory;
    this.count = tensor.shape.reduce((product, extent) => product * extent, 1);
  }

  /**
   * Puts the piece that begins with value `first` (a multiple of PIECE_VALUES) as f32 at arena offset `toAt`. Returns how many values it has,
   * or -errno: ENOTSUP when the device does not know the type. F32 is given as it is stored, to the bit.
   */
  load(first: number, toAt: number): number {
    const { image, tensor } = this;
    const n = Math.min(PIECE_VALUES, this.count - first);
    if (isGrouped(tensor.type)) return this.loadGrouped(first, n, toAt);
    const bytes = (tensor.bytes / this.count) * n;
    const storedAt = tensor.type === GGML_TYPE.F32 ? toAt : image.dmaAt + PIECE.storedAt;
    const status = this.transfer((tensor.bytes / this.count) * first, storedAt, bytes);
    if (status < 0) return status;
    if (storedAt === toAt) return n;
    return this.decode(tensor.type, storedAt, n, toAt) < 0 ? -E.NOTSUP : n;
  }

  /** The same of rows in groups: a stretch of a row is taken out of its group's, 4 × 32 blocks of 34 bytes at most, and put behind. */
  private loadGrouped(first: number, n: number, toAt: number): number {
    const { image, tensor } = this;
    const [k, rows] = tensor.shape as readonly [number, number];
    const [blockValues, blockBytes] = GGML_BLOCK[ggmlTypeName(tensor.type)!];
    const rowBytes = (k / blockValues) * blockBytes;
    const storedAt = image.dmaAt + PIECE.storedAt;
    for (let done = 0, taken = 0; done < n; done += taken) {
      const row = Math.floor((first + done) / k);
      const column = first + done - row * k;
      taken = Math.min(n - done, k - column);
      const blocks = taken / blockValues;
      const lane = row % GROUP_ROWS;
      const grouped = row - lane + GROUP_ROWS <= rows;
      const share = grouped ? GROUP_ROWS : 1;
      const bytes = share * blocks * blockBytes;
      const rowAt = (grouped ? row - lane : row) * rowBytes;
      const status = this.transfer(rowAt + share * (column / blockValues) * blockBytes, storedAt, bytes);
      if (status < 0) return status;
      if (grouped) takeRow(this.memory, tensor.type, storedAt, blocks, lane, storedAt + bytes);
      const plainAt = grouped ? storedAt + bytes : storedAt;
      if (this.decode(plainType(tensor.type), plainAt, taken, toAt + 4 * done) < 0) return -E.NOTSUP;
    }
    return n;
  }

  /** `bytes` bytes of the tensor from its byte `from` on, to `at`: 0, or -errno. */
  private transfer(from: number, at: number, bytes: number): number {
    const { image, tensor } = this;
    for (let got = 0; got < bytes;) {
      const step = image.read(tensor.fileAt + from + got, at + got, bytes - got);
      if (step <= 0) return step < 0 ? step : -E.IO;
      got += step;
    }
    return 0;
  }
}

/** A tensor's f32 values as bytes. */
export class F32View implements Piece {
  readonly bytes: number;
  private readonly values: TensorValues;

  constructor(values: TensorValues) {
    this.values = values;
    this.bytes = 4 * values.count;
  }
  /** -ENOTSUP when the bytes are wanted in the DMA buffer, where they are made. */
  read(memory: Uint8Array, position: number, at: number, length: number): number {
    const { dmaAt, dmaBytes } = this.values.image;
    if (at < dmaAt + dmaBytes && at + length > dmaAt) return -E.NOTSUP;
    const end = Math.min(position + length, this.bytes);
    const valuesAt = this.values.image.dmaAt + PIECE.valuesAt;
    for (let from = position; from < end;) {
      const first = Math.floor(from / (4 * PIECE_VALUES)) * PIECE_VALUES;
      const n = this.values.load(first, valuesAt);
      if (n < 0) return from > position ? from - position : n;
      const pieceAt = from - 4 * first;
      const take = Math.min(4 * n - pieceAt, end - from);
      memory.copyWithin(at + from - position, valuesAt + pieceAt, valuesAt + pieceAt + take);
      from += take;
    }
    return Math.max(0, end - position);
  }
}

/** Columns of a histogram: of equal width between the least and the greatest value. */
export const HISTOGRAM_BINS = 16;

/** All but `count`, `nan` and `infinite` are of the finite values; sums are f64, in the file's order. */
export interface Statistics {
  readonly count: number;
  readonly nan: number;
  readonly infinite: number;
  readonly zeros: number;
  readonly min: number; // NaN where there are no finite values, as the next three
  readonly max: number;
  readonly mean: number;
  readonly variance: number; // of all of them: divided by their number
  readonly l2: number;
  readonly histogram: readonly number[];
}

/** Reads the tensor twice: sums and extremes, then what is measured from them. -errno as load. */
export function statisticsOf(values: TensorValues, arena: ArenaView): Statistics | number {
  let nan = 0;
  let infinite = 0;
  let zeros = 0;
  let min = Infinity;
  let max = -Infinity;
  let sum = 0;
  let squares = 0;
  const first = eachValue(values, arena, x => {
    if (x - x !== 0) {
      if (x === x) infinite++;
      else nan++;
      return;
    }
    if (x === 0) zeros++;
    if (x < min) min = x;
    if (x > max) max = x;
    sum += x;
    squares += x * x;
  });
  if (first < 0) return first;
  const finite = values.count - nan - infinite;
  const mean = sum / finite;
  const histogram = Array.from({ length: HISTOGRAM_BINS }, () => 0);
  const scale = max > min ? HISTOGRAM_BINS / (max - min) : 0;
  let spread = 0;
  const second = eachValue(values, arena, x => {
    if (x - x !== 0) return;
    spread += (x - mean) * (x - mean);
    histogram[Math.min(HISTOGRAM_BINS - 1, Math.floor((x - min) * scale))]!++;
  });
  if (second < 0) return second;
  return {
    count: values.count,
    nan,
    infinite,
    zeros,
    min: finite > 0 ? min : NaN,
    max: finite > 0 ? max : NaN,
    mean,
    variance: spread / finite,
    l2: Math.sqrt(squares),
    histogram,
  };
}

/** Calls `use` for each value in the file's order. 0, or -errno. */
function eachValue(values: TensorValues, arena: ArenaView, use: (x: number) => void): number {
  const valuesAt = values.image.dmaAt + PIECE.valuesAt;
  for (let first = 0; first < values.count; first += PIECE_VALUES) {
    const n = values.load(first, valuesAt);
    if (n < 0) return n;
    for (let i = valuesAt >> 2, end = i + n; i < end; i++) use(arena.f32[i]!);
  }
  return 0;
}

/** How two tensors of one shape differ. Sums are f64, in the file's order, over the pairs that are finite. */
export interface Difference {
  readonly differing: number; // values that are not equal; a NaN equals a NaN
  readonly most: number; // the greatest |a - b|; infinite where one of a pair is not finite and they differ
  readonly rms: number; // root of the mean of (a - b)²
  readonly cosine: number; // of the angle between them; 1 where nothing differs
}

/** The second tensor's pieces go behind the first's. */
export function differenceOf(a: TensorValues, b: TensorValues, arena: ArenaView): Difference | number {
  const aAt = a.image.dmaAt + PIECE.valuesAt;
  const bAt = a.image.dmaAt + PIECE.spareAt;
  let differing = 0;
  let most = 0;
  let squares = 0;
  let product = 0;
  let normA = 0;
  let normB = 0;
  for (let first = 0; first < a.count; first += PIECE_VALUES) {
    const n = Math.min(a.load(first, aAt), b.load(first, bAt));
    if (n < 0) return n;
    for (let i = 0; i < n; i++) {
      const x = arena.f32[(aAt >> 2) + i]!;
      const y = arena.f32[(bAt >> 2) + i]!;
      const same = x === y || (x !== x && y !== y);
      if (!same) differing++;
      const delta = Math.abs(x - y);
      if (delta - delta === 0) {
        if (delta > most) most = delta;
        squares += delta * delta;
        product += x * y;
        normA += x * x;
        normB += y * y;
      } else if (!same) most = Infinity;
    }
  }
  const norms = Math.sqrt(normA) * Math.sqrt(normB);
  const cosine = differing === 0 ? 1 : norms > 0 ? product / norms : 0;
  return { differing, most, rms: Math.sqrt(squares / a.count), cosine };
}
