// /proc/arena: the arena's regions, each from its first byte to the one behind its last. What `free -v` prints.

import { spaced } from './parse-text.ts';

export interface Region {
  readonly name: string;
  /** Offsets in the arena. */
  readonly startAt: number;
  readonly endAt: number;
  readonly bytes: number;
  /** Now, and at most since power-on, in bytes. */
  readonly used: number;
  readonly peak: number;
}

export interface ArenaMap {
  /** In order, without gaps; the last is `free`. */
  readonly regions: readonly Region[];
  readonly total: Region;
}

/** null: not a text of /proc/arena. */
export function parseArena(text: string): ArenaMap | null {
  const all = spaced(text).map(row => ({
    name: row['region']!,
    startAt: Number(row['start']),
    endAt: Number(row['end']),
    bytes: Number(row['bytes']),
    used: Number(row['used']),
    peak: Number(row['peak']),
  }));
  const total = all.pop();
  return total?.name === 'total' ? { regions: all, total } : null;
}

/** A stretch of a map that is drawn in rows of `rowBytes`, as text is set in lines. */
export interface Piece {
  readonly row: number;
  /** Parts of a row, 0 … 1. */
  readonly from: number;
  readonly to: number;
}

/** Where [startAt, endAt) lies in a map that begins at `originAt`. */
export function piecesOf(startAt: number, endAt: number, originAt: number, rowBytes: number): Piece[] {
  const pieces: Piece[] = [];
  let at = startAt - originAt;
  const end = endAt - originAt;
  while (at < end) {
    const row = Math.floor(at / rowBytes);
    const to = Math.min(end, (row + 1) * rowBytes);
    pieces.push({ row, from: at / rowBytes - row, to: to / rowBytes - row });
    at = to;
  }
  return pieces;
}

/** Bytes of a row: the least power of two, 32 and more, with which `bytes` take at most `rowsMost` rows. */
export function rowBytesOf(bytes: number, rowsMost: number): number {
  let rowBytes = 32;
  while (rowBytes * rowsMost < bytes) rowBytes *= 2;
  return rowBytes;
}
