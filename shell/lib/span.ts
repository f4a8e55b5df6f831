// A span of bytes over several inputs, read as one: the first `skip` are passed over (sought over where an input can), then at most `left` are
// gathered into blocks. What od -j -N and hexdump -s -n show.

import { SEEK, type Sys } from '../../kernel/abi/index.ts';
import type { Input } from './stdio.ts';

export abstract class Span {
  /** Bytes still wanted, and still to be passed over. */
  left: number;
  skip: number;
  /** Offset of the block in progress, and the bytes that it has. */
  protected at: number;
  protected filled = 0;

  protected constructor(
    private readonly sys: Sys,
    skip: number,
    most: number,
    protected block: Uint8Array,
  ) {
    this.skip = skip;
    this.at = skip;
    this.left = most;
  }

  /** Shows the block, which is whole or the last, and begins the next: `at` and `filled` are the shower's to move on. */
  protected abstract flush(): Generator<void, void, void>;

  *add(input: Input): Generator<void, void, void> {
    if (this.skip > 0 && this.skip < 2 ** 31) {
      const end = yield* this.sys.lseek(input.fd, 0, SEEK.end);
      if (end >= 0) {
        const to = Math.min(end, this.skip);
        yield* this.sys.lseek(input.fd, to, SEEK.set);
        this.skip -= to;
      }
    }
    while (this.left > 0) {
      const piece = yield* input.chunk();
      if (piece === null) return;
      const from = Math.min(this.skip, piece.length);
      this.skip -= from;
      for (let i = from; i < piece.length && this.left > 0; i++, this.left--) {
        this.block[this.filled++] = piece[i]!;
        if (this.filled === this.block.length) yield* this.flush();
      }
    }
  }
}
