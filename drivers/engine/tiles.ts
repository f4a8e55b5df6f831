// Tiles: how the weights that do not stay in the arena are cut for their way through it. A tile is what one read brings: whole rows of a
// matrix, or of several that follow each other in the file and in the program. Which matrices stay is decided here too: spread evenly, so
// that while a pinned one computes the device fetches the next. Double buffering of tiles as in out-of-core linear algebra.

import { refuse } from '../../kernel/abi/index.ts';
import type { Refusal } from '../../kernel/abi/index.ts';
import { GROUP } from './ops.ts';

/** A matrix that a segment of the program goes over. Bytes and rows as the file has them. */
export interface Matrix {
  readonly name: string;
  readonly layer: number; // -1: outside of layers
  readonly fileAt: number;
  readonly rows: number;
  readonly rowBytes: number;
}

/** Rows of a matrix in a tile. */
export interface TilePart {
  readonly matrix: Matrix;
  readonly row: number;
  readonly rows: number;
  readonly offset: number; // from the tile's first byte
}

export interface Tile {
  readonly fileAt: number;
  readonly bytes: number;
  readonly parts: readonly TilePart[];
}

/** A tile reads over so many bytes between two matrices, alignment or a vector, rather than be two tiles. */
const GAP_MAX = 4096;

/** Two groups: kernels choose the order of additions by whether a matrix's rows are a multiple of it, so its tiles must be alike. */
const PAIR = 2 * GROUP;

/**
 * The most rows, up to `most`, that a tile may take of the `left` last rows of a matrix: multiples of eight where the matrix has such a number;
 * elsewhere whole groups, but never a multiple of eight, and all that is left if that is none. 0: not even the least.
 */
function takeRows(matrix: Matrix, left: number, most: number): number {
  const room = Math.max(0, Math.min(left, most));
  if (matrix.rows % PAIR === 0) return room - (room % PAIR);
  if (left <= most && left % PAIR !== 0) return left;
  const odd = Math.min(room, left - 1);
  return odd < GROUP ? 0 : odd - ((odd - GROUP) % PAIR);
}

/** The least number of rows that some tile of the matrix must hold. */
const leastRows = ({ rows }: Matrix): number => (rows % PAIR === 0 ? PAIR : Math.min(rows, GROUP));

/** Fills tiles of up to `limit` bytes, one after the other; null where a group of rows does not fit. */
function fill(parts: readonly TilePart[], limit: number): Tile[] | null {
  const tiles: Tile[] = [];
  let taken: TilePart[] = [];
  let [from, to] = [0, 0]; // bytes of the file in the tile so far
  const end = (): void => {
    if (taken.length > 0) tiles.push({ fileAt: from, bytes: to - from, parts: taken });
    taken = [];
  };
  for (const part of parts) {
    const { matrix } = part;
    for (let done = 0; done < part.rows;) {
      const at = matrix.fileAt + (part.row + done) * matrix.rowBytes;
      if (taken.length === 0) from = at;
      const rows = takeRows(matrix, part.rows - done, Math.floor((from + limit - at) / matrix.rowBytes));
      if (rows === 0 && taken.length === 0) return null;
      if (rows === 0) {
        end();
        continue;
      }
      taken.push({ matrix, row: part.row + done, rows, offset: at - from });
      done += rows;
      to = at + rows * matrix.rowBytes;
    }
  }
  end();
  return tiles;
}

/** The least number from `low` to `high` that holds, `high` being known to. */
function least(low: number, high: number, holds: (n: number) => boolean): number {
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return high;
}

/** The least size of a tile with which there are as few of them as with `limit`. */
function evenBytes(parts: readonly TilePart[], limit: number): number {
  const tiles = fill(parts, limit) ?? [];
  const bytes = tiles.reduce((sum, tile) => sum + tile.bytes, 0);
  const enough = (n: number): boolean => (fill(parts, n)?.length ?? Infinity) <= tiles.length;
  return least(Math.min(limit, Math.floor(bytes / tiles.length)), limit, enough);
}

/** A tile as two of about its half, where its rows allow it. */
function halves(tile: Tile): Tile[] | null {
  const two = (n: number): boolean => (fill(tile.parts, n)?.length ?? Infinity) <= 2;
  const limit = least(Math.floor(tile.bytes / 2), tile.bytes, two);
  const tiles = fill(tile.parts, limit);
  return tiles?.length === 2 ? tiles : null;
}

/** Splits the largest tiles until their number is a multiple of `buffers`, as far as their rows allow. */
function fillRing(tiles: readonly Tile[], buffers: number): readonly Tile[] {
  const ring = [...tiles];
  const whole = new Set<Tile>(); // cannot be split
  while (ring.length % buffers !== 0) {
    const splittable = ring.filter(tile => !whole.has(tile));
    const largest = splittable.reduce<Tile | null>((a, b) => (a === null || b.bytes > a.bytes ? b : a), null);
    if (largest === null) return tiles;
    const split = halves(largest);
    if (split === null) whole.add(largest);
    else ring.splice(ring.indexOf(largest), 1, ...split);
  }
  return ring;
}

/** Matrices that follow each other in the file and belong to one layer: layers alike are cut alike, and so share their prices. */
function runs(matrices: readonly Matrix[]): TilePart[][] {
  const found: TilePart[][] = [];
  let last: Matrix | null = null;
  for (const matrix of matrices) {
    const gap = last === null ? -1 : matrix.fileAt - (last.fileAt + last.rows * last.rowBytes);
    const part = { matrix, row: 0, rows: matrix.rows, offset: 0 };
    const run = found.at(-1);
    if (run !== undefined && last?.layer === matrix.layer && gap >= 0 && gap <= GAP_MAX) run.push(part);
    else found.push([part]);
    last = matrix;
  }
  return found;
}

/** Cuts a segment's matrices, in the order in which it goes over them, into tiles of up to `tileBytes`. */
export function cutTiles(matrices: readonly Matrix[], tileBytes: number, buffers: number): readonly Tile[] | Refusal {
  const tiles: Tile[] = [];
  for (const matrix of matrices) {
    const [rows, bytes] = [leastRows(matrix), leastRows(matrix) * matrix.rowBytes];
    if (bytes > tileBytes)
      return refuse('INVAL', 7001, `tiles of ${tileBytes} bytes: ${rows} rows of ${matrix.name} take ${bytes}`);
  }
  const known = new Map<string, number>(); // layers are alike
  for (const run of runs(matrices)) {
    const [first] = run as [TilePart];
    const shape = run.map(p => [p.matrix.fileAt - first.matrix.fileAt, p.rows, p.matrix.rowBytes].join(' ')).join();
    const bytes = known.get(shape) ?? evenBytes(run, tileBytes);
    known.set(shape, bytes);
    for (const tile of fill(run, bytes) ?? []) tiles.push(tile);
  }
  return fillRing(tiles, buffers);
}

// ── Pinning ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Names of the matrices that stay, `budget` bytes at most, spread evenly over the program: going over them in order, one is taken whenever its share
 * of the budget has come together; what is left over then is shared out again among those that still fit.
 */
export function spreadPins(
  matrices: readonly { readonly name: string; readonly bytes: number }[],
  budget: number,
): ReadonlySet<string> {
  const pinned = new Set<string>();
  let left = budget;
  for (;;) {
    const fitting = matrices.filter(m => !pinned.has(m.name) && m.bytes <= left);
    const last = fitting.at(-1);
    if (last === undefined) return pinned;
    const share = Math.min(1, left / fitting.reduce((sum, m) => sum + m.bytes, 0));
    let saved = 0;
    const before = pinned.size;
    for (const m of fitting) {
      saved += m.bytes * share;
      const due = saved >= m.bytes || (m === last && pinned.size === before); // all shares together pay for the last
      if (!due || m.bytes > left) continue;
      pinned.add(m.name);
      left -= m.bytes;
      saved -= m.bytes;
    }
  }
}
