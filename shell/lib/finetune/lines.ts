// The lines of a file that may be larger than memory, with their numbers and the file's digest: a long line comes in pieces, and whoever wants
// lines whole says how long one may be.

import { sha256 } from '@noble/hashes/sha2.js';
import { toHex } from '../../../trust/index.ts';
import { concat } from '../stdio.ts';
import type { Input } from '../stdio.ts';

export interface LinePiece {
  readonly number: number; // of the line, from 1
  /** Without the newline; valid until the next call. */
  readonly bytes: Uint8Array;
  readonly first: boolean;
  readonly last: boolean;
}

export class Lines {
  /** Bytes read so far. */
  bytes = 0;
  private readonly hash = sha256.create();
  private piece: Uint8Array | null = new Uint8Array();
  private number = 1;
  private first = true;

  constructor(private readonly input: Input) {}

  /** The next bytes, valid until the next call; null at the end. */
  *chunk(): Generator<void, Uint8Array | null, void> {
    const piece = yield* this.input.chunk();
    if (piece === null) return null;
    this.hash.update(piece);
    this.bytes += piece.length;
    return piece;
  }

  /** The next piece of a line, of `least` bytes or more unless the line ends before; null at the end. */
  *next(least = 0): Generator<void, LinePiece | null, void> {
    let piece = yield* this.part();
    while (piece !== null && !piece.last && piece.bytes.length < least) {
      const head = piece.bytes.slice();
      const { first } = piece;
      const more = yield* this.part();
      if (more !== null) piece = { ...more, bytes: concat([head, more.bytes]), first };
    }
    return piece;
  }

  /** What of a line is in the bytes at hand; behind the last one without a newline comes an end without bytes. */
  private *part(): Generator<void, LinePiece | null, void> {
    while (this.piece !== null && this.piece.length === 0) this.piece = yield* this.chunk();
    if (this.piece === null) {
      if (this.first) return null;
      this.first = true;
      return { number: this.number, bytes: new Uint8Array(), first: false, last: true };
    }
    const end = this.piece.indexOf(10);
    const bytes = end < 0 ? this.piece : this.piece.subarray(0, end);
    const line = { number: this.number, bytes, first: this.first, last: end >= 0 };
    this.piece = this.piece.subarray(end < 0 ? bytes.length : end + 1);
    this.first = end >= 0;
    if (end >= 0) this.number++;
    return line;
  }

  /** The next line whole, a copy; its bytes are null when they are more than `most`. Null at the end. */
  *whole(most: number): Generator<void, { readonly number: number; readonly bytes: Uint8Array | null } | null, void> {
    const pieces: Uint8Array[] = [new Uint8Array()];
    let length = 0;
    for (;;) {
      const piece = yield* this.next();
      if (piece === null) return null;
      length += piece.bytes.length;
      if (length <= most) pieces.push(piece.bytes.slice());
      if (piece.last) return { number: piece.number, bytes: length <= most ? concat(pieces) : null };
    }
  }

  /** SHA-256 of what was read, in hexadecimal; nothing can be read after it. */
  digest(): string {
    return toHex(this.hash.digest());
  }

  /** errno of a read that failed, 0: none. */
  get error(): number {
    return this.input.error;
  }
}
