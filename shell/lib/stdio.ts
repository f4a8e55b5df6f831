// Buffered streams over descriptors: standard output is collected and written at 4 KiB, at exit and before standard input is read;
// standard error goes out at once, after what was printed before it. Data are bytes; only lines that a program asks for as text are
// decoded.

import { E, LIMITS, utf8Encode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';

const bufferBytes = 4096;
/** The longest line that is taken as one; what has no end in sight is refused with EOVERFLOW. */
const lineBytesMax = 1 << 24;
/** How much one read asks for: as much as the window holds. */
export const CHUNK_BYTES = LIMITS.windowBytes;

/** Writes all of `bytes`, as often as it takes. Returns 0 or -errno. */
export function* writeAll(sys: Sys, fd: number, bytes: Uint8Array): Generator<void, number, void> {
  for (let at = 0; at < bytes.length;) {
    const n = yield* sys.write(fd, at === 0 ? bytes : bytes.subarray(at));
    if (n < 0) return n;
    at += n;
  }
  return 0;
}

/** An output stream. A write that fails is final: `onError` hears of it once, and later output is dropped. */
export class Output {
  private buffer: Uint8Array | null = null; // most programs that a shell runs inside itself print nothing
  private readonly capacity: number;
  private length = 0;
  private failed = false;
  private readonly sys: Sys;
  readonly fd: number;
  private readonly onError: (errno: number) => Generator<void, void, void>;

  /** `capacity` 0: unbuffered. */
  constructor(
    sys: Sys,
    fd: number,
    onError: (errno: number) => Generator<void, void, void>,
    capacity: number = bufferBytes,
  ) {
    this.sys = sys;
    this.fd = fd;
    this.onError = onError;
    this.capacity = capacity;
  }

  *print(text: string): Generator<void, void, void> {
    yield* this.write(utf8Encode(text));
  }

  *write(bytes: Uint8Array): Generator<void, void, void> {
    if (this.length + bytes.length > this.capacity) yield* this.flush();
    if (bytes.length > this.capacity) return yield* this.send(bytes);
    this.buffer ??= new Uint8Array(this.capacity);
    this.buffer.set(bytes, this.length);
    this.length += bytes.length;
  }

  *flush(): Generator<void, void, void> {
    const length = this.length;
    this.length = 0;
    if (this.buffer !== null && length > 0) yield* this.send(this.buffer.subarray(0, length));
  }

  private *send(bytes: Uint8Array): Generator<void, void, void> {
    if (this.failed) return;
    const result = yield* writeAll(this.sys, this.fd, bytes);
    if (result < 0) {
      this.failed = true;
      yield* this.onError(-result);
    }
  }
}

/** An input stream: pieces as they come, or lines. `error` is the errno that ended it, 0 for the end of the data. */
export class Input {
  error = 0;
  private readonly sys: Sys;
  readonly fd: number;
  private readonly before: Output | null;
  private readonly buffer = new Uint8Array(CHUNK_BYTES);
  private at = 0;
  private end = 0;

  /** `before` is flushed whenever more is read (standard input: what was asked must be seen before it is answered). */
  constructor(sys: Sys, fd: number, before: Output | null = null) {
    this.sys = sys;
    this.fd = fd;
    this.before = before;
  }

  /** The next bytes, valid until the next call; null at the end. */
  *chunk(): Generator<void, Uint8Array | null, void> {
    if (this.at === this.end && !(yield* this.fill())) return null;
    const piece = this.buffer.subarray(this.at, this.end);
    this.at = this.end;
    return piece;
  }

  /** The next line with the byte that ends it (the last may lack it), as a copy; null at the end. */
  *line(delimiter = 10): Generator<void, Uint8Array | null, void> {
    const pieces: Uint8Array[] = [];
    for (let bytes = 0; ;) {
      if (bytes > lineBytesMax) {
        this.error = E.OVERFLOW;
        return null;
      }
      if (this.at === this.end && !(yield* this.fill())) return pieces.length === 0 ? null : concat(pieces);
      const newline = this.buffer.subarray(0, this.end).indexOf(delimiter, this.at);
      const stop = newline < 0 ? this.end : newline + 1;
      pieces.push(this.buffer.slice(this.at, stop));
      bytes += stop - this.at;
      this.at = stop;
      if (newline >= 0) return concat(pieces);
    }
  }

  private *fill(): Generator<void, boolean, void> {
    if (this.before !== null) yield* this.before.flush();
    const n = yield* this.sys.read(this.fd, this.buffer);
    this.at = 0;
    this.end = Math.max(0, n);
    if (n < 0) this.error = -n;
    return n > 0;
  }
}

export function concat(pieces: readonly Uint8Array[]): Uint8Array {
  if (pieces.length === 1) return pieces[0]!;
  let bytes = 0;
  for (const piece of pieces) bytes += piece.length;
  const all = new Uint8Array(bytes);
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

/** The rest of a descriptor in memory, or -errno. For files that are small by nature; refuses beyond `limit` bytes. */
export function* readAll(sys: Sys, fd: number, limit: number): Generator<void, Uint8Array | number, void> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  const buffer = new Uint8Array(CHUNK_BYTES);
  for (;;) {
    const n = yield* sys.read(fd, buffer);
    if (n < 0) return n;
    if (n === 0) return concat(pieces);
    bytes += n;
    if (bytes > limit) return -E.FBIG;
    pieces.push(buffer.slice(0, n));
  }
}

/** The first bytes of the rest of a descriptor, at most `limit`; what was read before an error. */
export function* readUpTo(sys: Sys, fd: number, limit: number): Generator<void, Uint8Array, void> {
  const bytes = new Uint8Array(limit);
  let filled = 0;
  while (filled < limit) {
    const n = yield* sys.read(fd, bytes.subarray(filled));
    if (n <= 0) break;
    filled += n;
  }
  return bytes.subarray(0, filled);
}
