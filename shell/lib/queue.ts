// Pieces of a stream held back in order, first in, first out: what head and tail keep of their input. Taking from the front costs the same
// however many are held.

export class Queue {
  bytes = 0;
  private pieces: Uint8Array[] = [];
  private first = 0; // those before it are gone

  get count(): number {
    return this.pieces.length - this.first;
  }

  push(piece: Uint8Array): void {
    this.pieces.push(piece);
    this.bytes += piece.length;
  }

  /** The first piece; there must be one. */
  shift(): Uint8Array {
    const piece = this.pieces[this.first]!;
    this.bytes -= piece.length;
    if (++this.first > 1024 && this.first * 2 > this.pieces.length) {
      this.pieces = this.pieces.slice(this.first);
      this.first = 0;
    }
    return piece;
  }

  /** At most `most` bytes from the front, out of one piece. */
  take(most: number): Uint8Array {
    const piece = this.pieces[this.first]!;
    if (piece.length <= most) return this.shift();
    this.pieces[this.first] = piece.subarray(most);
    this.bytes -= most;
    return piece.subarray(0, most);
  }
}
