// Files as programs use them: stat records, directory listings, whole small files, and paths as text.

import { E, FsStat, KIND, LIMITS, O, Stat, utf8Decode } from '../../kernel/abi/index.ts';
import type { RecordValue, Sys } from '../../kernel/abi/index.ts';
import { CHUNK_BYTES, readAll, writeAll } from './stdio.ts';

export type FileStat = RecordValue<typeof Stat.fields>;

/** Largest file that a program takes into memory whole (scripts, lists, manual pages). */
export const textBytesMax: number = 1 << 20;

/** The stat record of a path, or -errno. */
export function* stat(sys: Sys, path: string): Generator<void, FileStat | number, void> {
  const record = new Uint8Array(Stat.bytes);
  const result = yield* sys.stat(path, record);
  return result < 0 ? result : Stat.read(record, 0);
}

/** As stat, of a symbolic link itself. */
export function* lstat(sys: Sys, path: string): Generator<void, FileStat | number, void> {
  const record = new Uint8Array(Stat.bytes);
  const result = yield* sys.lstat(path, record);
  return result < 0 ? result : Stat.read(record, 0);
}

/** What a symbolic link holds, or -errno. */
export function* readlink(sys: Sys, path: string): Generator<void, string | number, void> {
  const target = new Uint8Array(LIMITS.pathBytes);
  const bytes = yield* sys.readlink(path, target);
  return bytes < 0 ? bytes : utf8Decode(target, 0, bytes);
}

export function* fstat(sys: Sys, fd: number): Generator<void, FileStat | number, void> {
  const record = new Uint8Array(Stat.bytes);
  const result = yield* sys.fstat(fd, record);
  return result < 0 ? result : Stat.read(record, 0);
}

export function* isDirectory(sys: Sys, path: string): Generator<void, boolean, void> {
  const st = yield* stat(sys, path);
  return typeof st !== 'number' && st.kind === KIND.dir;
}

/** Size of the file system that a path is on, or -errno. */
export function* fileSystem(sys: Sys, path: string): Generator<void, RecordValue<typeof FsStat.fields> | number, void> {
  const record = new Uint8Array(FsStat.bytes);
  const result = yield* sys.statfs(path, record);
  return result < 0 ? result : FsStat.read(record, 0);
}

export interface DirectoryEntry {
  readonly name: string;
  readonly kind: number; // KIND
}

/** The entries of a directory in byte order of their names, without `.` and `..`; or -errno. */
export function* listDirectory(sys: Sys, path: string): Generator<void, DirectoryEntry[] | number, void> {
  const fd = yield* sys.open(path, O.RDONLY | O.DIRECTORY, 0);
  if (fd < 0) return fd;
  const entries: DirectoryEntry[] = [];
  const buffer = new Uint8Array(CHUNK_BYTES);
  let n: number;
  while ((n = yield* sys.readdir(fd, buffer)) > 0) {
    for (let at = 0; at < n;) {
      const nameBytes = buffer[at + 1]!;
      const name = utf8Decode(buffer, at + 2, at + 2 + nameBytes);
      if (name !== '.' && name !== '..') entries.push({ kind: buffer[at]!, name });
      at += 2 + nameBytes;
    }
  }
  yield* sys.close(fd);
  if (n === -E.NOENT) return []; // it has been removed, and is still somebody's working directory
  return n < 0 ? n : entries.sort((a, b) => byteOrder(a.name, b.name));
}

/** A small file's bytes, or -errno (EFBIG beyond `limit`). */
export function* readFile(sys: Sys, path: string, limit = textBytesMax): Generator<void, Uint8Array | number, void> {
  const fd = yield* sys.open(path, O.RDONLY, 0);
  if (fd < 0) return fd;
  const bytes = yield* readAll(sys, fd, limit);
  yield* sys.close(fd);
  return bytes;
}

/** A small file as text, or -errno. */
export function* readText(sys: Sys, path: string, limit = textBytesMax): Generator<void, string | number, void> {
  const bytes = yield* readFile(sys, path, limit);
  return typeof bytes === 'number' ? bytes : utf8Decode(bytes);
}

/** The first `bytes` bytes of a file as text, or -errno. */
export function* readHead(sys: Sys, path: string, bytes: number): Generator<void, string | number, void> {
  const fd = yield* sys.open(path, O.RDONLY, 0);
  if (fd < 0) return fd;
  const head = new Uint8Array(bytes);
  const n = yield* sys.read(fd, head);
  yield* sys.close(fd);
  return n < 0 ? n : utf8Decode(head, 0, n);
}

/** Everything from one descriptor to another: 0, or the side that failed and its errno. */
export function* copyDescriptor(
  sys: Sys,
  from: number,
  to: number,
): Generator<void, { readonly side: 'read' | 'write'; readonly errno: number } | 0, void> {
  const buffer = new Uint8Array(CHUNK_BYTES);
  for (;;) {
    const n = yield* sys.read(from, buffer);
    if (n < 0) return { side: 'read', errno: -n };
    if (n === 0) return 0;
    const result = yield* writeAll(sys, to, buffer.subarray(0, n));
    if (result < 0) return { side: 'write', errno: -result };
  }
}

// ── Paths ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export function join(directory: string, name: string): string {
  return directory.endsWith('/') ? directory + name : `${directory}/${name}`;
}

/** The last component, without trailing slashes; `/` for the root. */
export function basename(path: string): string {
  const trimmed = path.replace(/\/+$/, '');
  if (trimmed === '') return path === '' ? '' : '/';
  return trimmed.slice(trimmed.lastIndexOf('/') + 1);
}

/** Everything before the last component: `.` when there is no slash. */
export function dirname(path: string): string {
  const trimmed = path.replace(/\/+$/, '');
  const slash = trimmed.lastIndexOf('/');
  if (slash < 0) return trimmed === '' && path !== '' ? '/' : '.';
  return trimmed.slice(0, slash).replace(/\/+$/, '') || '/';
}

/** Orders two texts as their UTF-8 bytes would be: by code point, so surrogates sort above the rest of the plane. */
export function byteOrder(a: string, b: string): number {
  const n = Math.min(a.length, b.length);
  for (let i = 0; i < n; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x !== y) return codePointRank(x) - codePointRank(y);
  }
  return a.length - b.length;
}
const codePointRank = (unit: number): number => ((unit & 0xf800) === 0xd800 ? unit + 0x10000 : unit);
