// A log as files that anyone can serve and fetch (C2SP tlog-tiles): the tree cut into tiles of 256 hashes, eight levels high each, and
// the records in bundles of 256. A path says all there is to know about a tile; a tile that is full never changes.

import { shown } from '../kernel/abi/index.ts';
import type { Refusal } from '../kernel/abi/index.ts';
import { HASH_BYTES, joined, malformed } from './bytes.ts';
import type { Tree } from './tree.ts';

/** Hashes of a full tile, records of a full bundle. */
export const TILE_WIDTH = 256;

/** A record's length is a u16. */
const RECORD_BYTES_MOST = 65535;

/** `level` 0 holds leaf hashes, each level above the roots of full tiles below; `entries` the records themselves. */
export interface TileName {
  readonly level: number | 'entries';
  readonly index: number;
  /** 1–256; 256 is a full tile. */
  readonly width: number;
}

/** `tile/0/x001/x234/067`, and `.p/112` after it for a tile of 112. */
export function tilePath({ level, index, width }: TileName): string {
  let digits = threeDigits(index % 1000);
  for (let n = Math.floor(index / 1000); n > 0; n = Math.floor(n / 1000))
    digits = `x${threeDigits(n % 1000)}/${digits}`;
  return `tile/${level}/${digits}${width === TILE_WIDTH ? '' : `.p/${width}`}`;
}

const threeDigits = (n: number): string => String(n).padStart(3, '0');

/** The tile that `tilePath` gives this path. */
export function parseTilePath(path: string): TileName | Refusal {
  const parts =
    /^tile\/(entries|[0-9]|[1-5][0-9]|6[0-3])\/((?:x[0-9]{3}\/){0,5}[0-9]{3})(?:\.p\/([1-9][0-9]{0,2}))?$/.exec(path);
  if (parts !== null) {
    const level = parts[1] === 'entries' ? 'entries' : Number(parts[1]);
    const width = parts[3] === undefined ? TILE_WIDTH : Number(parts[3]);
    const tile = { level, index: Number(parts[2]!.replace(/[x/]/g, '')), width } as const;
    if (tilePath(tile) === path) return tile; // one too wide, or with leading zeros, has another
  }
  return malformed(`not the path of a tile: ${shown(path)}`);
}

/** The tiles of a tree of `size`: the bundles of its records, then level by level; a partial tile ends each row. */
export function* tilesOf(size: number): Generator<TileName> {
  yield* row('entries', size);
  for (let [level, hashes] = [0, size]; hashes > 0; [level, hashes] = [level + 1, Math.floor(hashes / TILE_WIDTH)])
    yield* row(level, hashes);
}

function* row(level: number | 'entries', count: number): Generator<TileName> {
  for (let index = 0; index * TILE_WIDTH < count; index++)
    yield { level, index, width: Math.min(TILE_WIDTH, count - index * TILE_WIDTH) };
}

/** How many hashes or records the row has that `level` names, in a tree of `size`. */
export function rowLength(level: number | 'entries', size: number): number {
  let count = size;
  for (let l = level === 'entries' ? 0 : level; l > 0; l--) count = Math.floor(count / TILE_WIDTH);
  return count;
}

/** The hashes of a tile, 32 bytes each. */
export function tileHashes(tree: Tree, level: number, index: number, width: number): Uint8Array {
  return tree.level(8 * level, index * TILE_WIDTH, width);
}

/** One record of a bundle, at most 65,535 bytes: its length, big-endian, and they. The log is kept in such frames too. */
export function frame(record: Uint8Array): Uint8Array {
  return joined(Uint8Array.of(record.length >> 8, record.length), record);
}

/** The records whose frames are whole, from `at` on, and where the first one that is cut off begins: `bytes.length` when none is. */
export function readFrames(
  bytes: Uint8Array,
  at = 0,
): { readonly records: readonly Uint8Array[]; readonly end: number } {
  const records: Uint8Array[] = [];
  let end = at;
  while (end + 2 <= bytes.length) {
    const next = end + 2 + bytes[end]! * 256 + bytes[end + 1]!;
    if (next > bytes.length) break;
    records.push(bytes.slice(end + 2, next));
    end = next;
  }
  return { records, end };
}

/** The records of a bundle of `width`. */
export function parseEntryBundle(bytes: Uint8Array, width: number): readonly Uint8Array[] | Refusal {
  if (bytes.length > TILE_WIDTH * (RECORD_BYTES_MOST + 2)) return malformed(`bundle of ${bytes.length} bytes`);
  const { records, end } = readFrames(bytes);
  if (end < bytes.length) return malformed(`bundle, byte ${end}: record ${records.length} of it is cut off`);
  if (records.length !== width) return malformed(`bundle: ${records.length} records, not ${width}`);
  return records;
}

/** The hashes of a tile of `width`. */
export function parseHashTile(bytes: Uint8Array, width: number): readonly Uint8Array[] | Refusal {
  if (bytes.length !== width * HASH_BYTES) return malformed(`tile of ${bytes.length} bytes, not ${width * HASH_BYTES}`);
  return Array.from({ length: width }, (_, i) => bytes.slice(i * HASH_BYTES, (i + 1) * HASH_BYTES));
}
