// A text that is paged through, by byte offsets: a file is read where it lies, a stream is kept in an anonymous file as far as it was
// looked at. Memory is bounded however long the text or its lines: a few blocks, and one count of newlines for every 64 KiB.

import { E, KIND, LIMITS, SEEK } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { fstat } from './files.ts';
import { CHUNK_BYTES, concat, writeAll } from './stdio.ts';

/** A line longer than this is shown as several. */
export const LINE_BYTES: number = LIMITS.lineBytes;
const BLOCK_BYTES = 16 * 1024;
const BLOCKS_HELD = 16; // 256 KiB
const COUNT_BYTES = 64 * 1024; // newlines are counted by pieces of this size

export class Document {
  /** Bytes known so far; all of them once `ended`. */
  size = 0;
  ended = false;
  /** Why it ended early, or ''. */
  trouble = '';
  private readonly sys: Sys;
  private readonly fd: number; // read by offset
  private readonly stream: number; // read once, -1: there is none
  private readonly blocks = new Map<number, Uint8Array>(); // least recently used first
  private readonly newlines = [0]; // [k]: newlines in the first k × COUNT_BYTES

  private constructor(sys: Sys, fd: number, stream: number, size: number) {
    this.sys = sys;
    this.fd = fd;
    this.stream = stream;
    this.size = size;
    this.ended = stream < 0;
  }

  /** Of an open descriptor, which stays the caller's and must not be read by others; or -errno. */
  static *open(sys: Sys, fd: number): Generator<void, Document | number, void> {
    const st = yield* fstat(sys, fd);
    if (typeof st === 'number') return st;
    if (st.kind === KIND.dir) return -E.ISDIR;
    // Files of unknown length (procfs) have size 0: they are read like streams.
    if (st.kind === KIND.file && st.size > 0) return new Document(sys, fd, -1, st.size);
    const spool = yield* sys.memfd('pager');
    return spool < 0 ? spool : new Document(sys, spool, fd, 0);
  }

  /** A signal that the program catches has come. */
  get interrupted(): boolean {
    return this.sys.signalled();
  }

  /** Reads the stream on until `bytes` are known or it ends. False: a signal came first. */
  *fill(bytes: number): Generator<void, boolean, void> {
    const buffer = new Uint8Array(CHUNK_BYTES);
    while (!this.ended && this.size < bytes) {
      if (this.size >= LIMITS.pagerBytes) this.stop(`only the first ${LIMITS.pagerBytes} bytes are kept`);
      else {
        if (this.interrupted) return false;
        const n = yield* this.sys.read(this.stream, buffer);
        if (n === -E.INTR) return false;
        if (n <= 0) this.stop(n < 0 ? 'read error' : '');
        else yield* this.keep(buffer.subarray(0, n));
      }
    }
    return true;
  }

  private *keep(bytes: Uint8Array): Generator<void, void, void> {
    yield* this.sys.lseek(this.fd, this.size, SEEK.set);
    const result = yield* writeAll(this.sys, this.fd, bytes);
    if (result < 0) this.stop(`storage is full after ${this.size} bytes`);
    else this.size += bytes.length;
  }

  private stop(why: string): void {
    this.ended = true;
    this.trouble = why;
  }

  /** Looks whether a file has grown, as `tail -f` does. */
  *grow(): Generator<void, void, void> {
    const st = this.stream < 0 ? yield* fstat(this.sys, this.fd) : -E.INVAL;
    if (typeof st !== 'number') this.size = Math.max(this.size, st.size);
  }

  /** A block of BLOCK_BYTES, shorter at the end of what is known. */
  private *block(i: number): Generator<void, Uint8Array, void> {
    const wanted = Math.min(BLOCK_BYTES, this.size - i * BLOCK_BYTES);
    let block = this.blocks.get(i);
    this.blocks.delete(i);
    if (block === undefined || block.length < wanted) block = yield* this.readBlock(i, wanted);
    this.blocks.set(i, block);
    if (this.blocks.size > BLOCKS_HELD) this.blocks.delete(this.blocks.keys().next().value!);
    return block;
  }

  private *readBlock(i: number, length: number): Generator<void, Uint8Array, void> {
    const block = new Uint8Array(length);
    yield* this.sys.lseek(this.fd, i * BLOCK_BYTES, SEEK.set);
    let filled = 0;
    while (filled < length) {
      const n = yield* this.sys.read(this.fd, block.subarray(filled));
      if (n === -E.INTR) continue;
      if (n <= 0) {
        // The file has become shorter.
        this.size = i * BLOCK_BYTES + filled;
        break;
      }
      filled += n;
    }
    return block.subarray(0, filled);
  }

  /** Bytes [at, end) of what is known. */
  *bytes(at: number, end: number): Generator<void, Uint8Array, void> {
    const pieces: Uint8Array[] = [new Uint8Array()];
    while (at < Math.min(end, this.size)) {
      const i = Math.floor(at / BLOCK_BYTES);
      const block = yield* this.block(i);
      const piece = block.subarray(at - i * BLOCK_BYTES, end - i * BLOCK_BYTES);
      if (piece.length === 0) break;
      pieces.push(piece);
      at += piece.length;
    }
    return pieces.length === 2 ? pieces[1]! : concat(pieces);
  }

  /**
   * Where the line that begins at `at` ends: behind its newline, at the end of the text, or after about LINE_BYTES, between characters.
   * -1 when a signal came before that was known.
   */
  *lineEnd(at: number): Generator<void, number, void> {
    for (let from = at; ;) {
      if (from >= this.size) {
        if (!(yield* this.fill(from + 1))) return -1;
        if (from >= this.size) return this.size;
      }
      const i = Math.floor(from / BLOCK_BYTES);
      const block = yield* this.block(i);
      const newline = block.indexOf(10, from - i * BLOCK_BYTES);
      const end = newline < 0 ? i * BLOCK_BYTES + block.length : i * BLOCK_BYTES + newline + 1;
      if (end - at > LINE_BYTES) return yield* this.characterEnd(at + LINE_BYTES, end);
      if (newline >= 0) return end;
      from = end;
    }
  }

  /** `at`, or behind the bytes that continue a character there. */
  private *characterEnd(at: number, end: number): Generator<void, number, void> {
    const following = yield* this.bytes(at, Math.min(end, at + 3));
    let n = 0;
    while (n < following.length && (following[n]! & 0xc0) === 0x80) n++;
    return at + n;
  }

  /** Where the line before the one that begins at `at` begins; `at` > 0. */
  *lineBefore(at: number): Generator<void, number, void> {
    let start = yield* this.lineStart(at - 1);
    for (;;) {
      const end = yield* this.lineEnd(start);
      if (end < 0 || end >= at) return start;
      start = end;
    }
  }

  /** Where the line with the byte before `at` begins, its newline not counted: behind the last newline in [0, at). */
  *lineStart(at: number): Generator<void, number, void> {
    for (let to = at; to > 0;) {
      const i = Math.floor((to - 1) / BLOCK_BYTES);
      const block = yield* this.block(i);
      const newline = block.subarray(0, to - i * BLOCK_BYTES).lastIndexOf(10);
      if (newline >= 0) return i * BLOCK_BYTES + newline + 1;
      to = i * BLOCK_BYTES;
    }
    return 0;
  }

  /** Number of the line at `at`, from 1 on. */
  *lineNumber(at: number): Generator<void, number, void> {
    const k = Math.floor(at / COUNT_BYTES);
    if (!(yield* this.countTo(k))) return 0;
    return 1 + this.newlines[k]! + countNewlines(yield* this.bytes(k * COUNT_BYTES, at));
  }

  /** Where line `number` begins; the last line's beginning when there are fewer; -1 when a signal came first. */
  *lineAt(number: number): Generator<void, number, void> {
    for (let k = 0; ; k++) {
      if (!(yield* this.fill((k + 1) * COUNT_BYTES))) return -1;
      const whole = (k + 1) * COUNT_BYTES <= this.size;
      if (whole && (yield* this.countTo(k + 1)) && this.newlines[k + 1]! < number - 1) continue;
      const bytes = yield* this.bytes(k * COUNT_BYTES, (k + 1) * COUNT_BYTES);
      let before = this.newlines[k]!;
      let start = before === number - 1 ? 0 : -1;
      for (let i = bytes.indexOf(10); start < 0 && i >= 0; i = bytes.indexOf(10, i + 1)) {
        if (++before === number - 1) start = i + 1;
      }
      const at = k * COUNT_BYTES + start;
      return start >= 0 && at < this.size ? at : yield* this.lineStart(Math.max(0, this.size - 1));
    }
  }

  /** Counts newlines up to the k-th piece. False: a signal came first. */
  private *countTo(k: number): Generator<void, boolean, void> {
    while (this.newlines.length <= k) {
      if (this.interrupted) return false;
      const last = this.newlines.length - 1;
      const bytes = yield* this.bytes(last * COUNT_BYTES, (last + 1) * COUNT_BYTES);
      this.newlines.push(this.newlines[last]! + countNewlines(bytes));
    }
    return true;
  }
}

function countNewlines(bytes: Uint8Array): number {
  let n = 0;
  for (let i = bytes.indexOf(10); i >= 0; i = bytes.indexOf(10, i + 1)) n++;
  return n;
}
