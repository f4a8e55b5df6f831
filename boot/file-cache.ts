// Bytes of host files that were read more than once, in this process's own memory: what a disk's own cache is to a machine. A model that streams
// is read whole for every token, and a system call copies from the host's cache several times slower than memory is copied. Nothing of it
// is seen inside: what is read and when it arrives are the same, and a file that has changed is read anew. Whether it has is asked once for each
// round of the machine, since a token has hundreds of reads; nothing that is read depends on a clock of the host.

import fs from 'node:fs';

const CHUNK_BYTES = 1024 * 1024;
/** Of all files together; a larger file is not kept, since reading it in order would drop each piece before it is wanted again. */
const CACHE_BYTES = 512 * 1024 * 1024;
/** Time stamps of files move in steps, of a few milliseconds to two seconds (FAT): one that has just changed may change again and not show it. */
const SETTLED_MS = 2000;

/** What is kept of one file. */
interface Kept {
  readonly size: number;
  readonly changedMs: number;
  /** By position: undefined was never read, null was read once. */
  readonly chunks: (Uint8Array | null | undefined)[];
  bytes: number;
}

export class FileCache {
  /** By device and inode, least recently used first. */
  readonly #files = new Map<string, Kept>();
  /** By descriptor, since the last refresh(): the file behind it; null: nothing is kept of it. */
  readonly #seen = new Map<number, Kept | null>();
  #bytes = 0;

  constructor(
    private readonly limit = CACHE_BYTES,
    private readonly settledMs = SETTLED_MS,
  ) {}

  /** As fs.readSync: up to `length` bytes of an open regular file from `position` on, to `into` at `at`; how many. Throws what node:fs throws. */
  read(fd: number, position: number, into: Uint8Array, at: number, length: number): number {
    const kept = this.#behind(fd);
    if (kept === null) return readAll(fd, position, into, at, length);
    const { size } = kept;
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

  /** What the host has changed until now is seen from now on. */
  refresh(): void {
    this.#seen.clear();
  }

  /** The file behind `fd` is changed through this process. */
  forget(fd: number): void {
    const { dev, ino } = fs.fstatSync(fd);
    this.#drop(`${dev}:${ino}`);
    this.#seen.clear();
  }

  /** The descriptor is closed: its number will be another file's. */
  closed(fd: number): void {
    this.#seen.delete(fd);
  }

  #behind(fd: number): Kept | null {
    const seen = this.#seen.get(fd);
    if (seen !== undefined) return seen;
    const { dev, ino, size, mtimeMs, ctimeMs } = fs.fstatSync(fd);
    const changedMs = Math.max(mtimeMs, ctimeMs);
    // Files that the host makes up while they are read, as those of /proc, say that they are empty.
    const isKept = size > 0 && size <= this.limit && Date.now() - changedMs >= this.settledMs;
    const kept = isKept ? this.#of(`${dev}:${ino}`, size, changedMs) : null;
    this.#seen.set(fd, kept);
    return kept;
  }

  /** What is kept of the file as it is now. */
  #of(name: string, size: number, changedMs: number): Kept {
    let kept = this.#files.get(name);
    if (kept !== undefined && (kept.size !== size || kept.changedMs !== changedMs)) {
      this.#drop(name);
      kept = undefined;
    }
    kept ??= { size, changedMs, chunks: [], bytes: 0 };
    this.#files.delete(name);
    this.#files.set(name, kept);
    return kept;
  }

  #drop(name: string): void {
    this.#bytes -= this.#files.get(name)?.bytes ?? 0;
    this.#files.delete(name);
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
