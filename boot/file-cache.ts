// Bytes of host files that were read more than once, in this process's own memory: what a disk's own cache is to a machine. A model that streams
// is read whole for every token, and a system call copies from the host's cache several times slower than memory is copied. Nothing of it
// is seen inside: what is read and when it arrives are the same, and a file that has changed is read anew.

import fs from 'node:fs';
import { performance } from 'node:perf_hooks';

const CHUNK_BYTES = 1024 * 1024;
/** Of all files together; a larger file is not kept, since reading it in order would drop each piece before it is wanted again. */
const CACHE_BYTES = 512 * 1024 * 1024;
/** How long a file that was looked at is taken to be as it was: a token has hundreds of reads, and asking takes as long as copying 64 KiB. */
const TRUSTED_MS = 5;

/** What is kept of one file. */
interface Kept {
  readonly name: string;
  size: number;
  changedMs: number;
  /** By position: undefined was never read, null was read once. */
  chunks: (Uint8Array | null | undefined)[];
  bytes: number;
}

export class FileCache {
  /** By device and inode, least recently used first. */
  readonly #files = new Map<string, Kept>();
  /** By descriptor: the file behind it when it was last looked at. */
  readonly #seen = new Map<number, { readonly kept: Kept; readonly untilMs: number }>();
  #bytes = 0;

  constructor(private readonly limit = CACHE_BYTES) {}

  /** As fs.readSync: up to `length` bytes of an open regular file from `position` on, to `into` at `at`; how many. Throws what node:fs throws. */
  read(fd: number, position: number, into: Uint8Array, at: number, length: number): number {
    const kept = this.#behind(fd);
    const { size } = kept;
    if (size > this.limit) return readAll(fd, position, into, at, length);
    const end = Math.min(position + length, size);
    let done = 0;
    while (position + done < end) {
      const from = position + done;
      const within = from % CHUNK_BYTES;
      const n = Math.min(end - from, CHUNK_BYTES - within);
      const chunk = this.#chunk(kept, fd, (from - within) / CHUNK_BYTES);
      if (chunk === null) {
        const got = readAll(fd, from, into, at + done, n);
        if (got < n) return done + got;
      } else into.set(chunk.subarray(within, within + n), at + done);
      done += n;
    }
    return done;
  }

  /** The file behind `fd` is changed through this process. */
  forget(fd: number): void {
    const { dev, ino } = fs.fstatSync(fd);
    this.#drop(`${dev}:${ino}`);
  }

  /** The descriptor is closed: its number will be another file's. */
  closed(fd: number): void {
    this.#seen.delete(fd);
  }

  #behind(fd: number): Kept {
    const now = performance.now();
    const seen = this.#seen.get(fd);
    if (seen !== undefined && now < seen.untilMs) return seen.kept;
    const { dev, ino, size, mtimeMs, ctimeMs } = fs.fstatSync(fd);
    const kept = this.#of(`${dev}:${ino}`, size, Math.max(mtimeMs, ctimeMs));
    this.#seen.set(fd, { kept, untilMs: now + TRUSTED_MS });
    return kept;
  }

  #of(name: string, size: number, changedMs: number): Kept {
    let kept = this.#files.get(name);
    if (kept !== undefined && (kept.size !== size || kept.changedMs !== changedMs)) {
      this.#drop(name);
      kept = undefined;
    }
    kept ??= { name, size, changedMs, chunks: [], bytes: 0 };
    this.#files.delete(name);
    this.#files.set(name, kept);
    return kept;
  }

  #drop(name: string): void {
    this.#bytes -= this.#files.get(name)?.bytes ?? 0;
    this.#files.delete(name);
    for (const [fd, { kept }] of this.#seen) if (kept.name === name) this.#seen.delete(fd);
  }

  /** A chunk that is wanted for the second time is kept; null: it is not. */
  #chunk(kept: Kept, fd: number, index: number): Uint8Array | null {
    const known = kept.chunks[index];
    if (known === undefined) return (kept.chunks[index] = null);
    if (known !== null) return known;
    const bytes = Math.min(CHUNK_BYTES, kept.size - index * CHUNK_BYTES);
    const chunk = new Uint8Array(bytes);
    if (readAll(fd, index * CHUNK_BYTES, chunk, 0, bytes) < bytes) return null; // cut short this very moment
    kept.chunks[index] = chunk;
    kept.bytes += bytes;
    this.#bytes += bytes;
    while (this.#bytes > this.limit) this.#drop(this.#files.keys().next().value!);
    return chunk;
  }
}

function readAll(fd: number, position: number, into: Uint8Array, at: number, length: number): number {
  let done = 0;
  for (let n = 1; done < length && n > 0; done += n)
    n = fs.readSync(fd, into, at + done, length - done, position + done);
  return done;
}
