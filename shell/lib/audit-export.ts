// `audit export DIR`: the log as it is now, as files that any C2SP client reads: checkpoint, tiles and bundles of records, and the key. What lies
// in DIR already is gone over first: an older export of the same log grows, anything else is left as it is and the first difference named. The
// checkpoint comes last and takes its name when it is whole, so that DIR is a log at every moment.

import { E, isRefusal, O, refuse, strerror, utf8Encode } from '../../kernel/abi/index.ts';
import type { Refusal } from '../../kernel/abi/index.ts';
import { sameBytes, tilePath, tilesOf } from '../../trust/index.ts';
import { refused } from './audit-face.ts';
import type { Face, Run } from './audit-face.ts';
import { AUDIT_DIRECTORY, machineFiles, withLog } from './audit-machine.ts';
import type { AuditContext } from './audit-machine.ts';
import { CHECKPOINT_FILE, openLog, PUBLIC_KEY_FILE } from './audit-reader.ts';
import type { LogFiles, OpenLog } from './audit-reader.ts';
import { dirname, join } from './files.ts';
import { jsonLine } from './fmt.ts';
import { grouped } from './model.ts';
import { writeAll } from './stdio.ts';

export function* exportLog(ctx: AuditContext, [directory = '']: readonly string[]): Run {
  return yield* withLog(ctx, AUDIT_DIRECTORY, function* (face, log, files) {
    const target = machineFiles(ctx.sys, directory);
    const before = yield* earlier(log, target);
    if (isRefusal(before)) return yield* refused(face, before);
    const written = yield* copyFiles(ctx, face, log, files, target);
    if (isRefusal(written)) return yield* refused(face, written);
    const stale = yield* removeStale(ctx, before, log.checkpoint.size, directory);
    if (isRefusal(stale)) return yield* refused(face, stale);
    const { size, origin } = log.checkpoint;
    if (ctx.options.json) yield* ctx.out.print(jsonLine({ directory, origin, size, was: before, written }));
    else
      yield* ctx.out.print(
        `${directory}: ${grouped(size)} records of ${origin}, ${grouped(size - before)} of them new, ${grouped(written)} files written\n`,
      );
    return 0;
  });
}

// ── What lies there ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** How many records an older export of this log holds, 0 where there is none; refused where what lies there is no beginning of it. */
function* earlier(log: OpenLog, target: LogFiles): Generator<void, number | Refusal, void> {
  const checkpoint = yield* target.read(CHECKPOINT_FILE);
  if (isRefusal(checkpoint)) return checkpoint;
  if (checkpoint === null) return 0;
  const old = yield* openLog(target);
  if (isRefusal(old)) return old;
  const { place } = target;
  const { origin, size, root } = old.checkpoint;
  if (origin !== log.checkpoint.origin)
    return refuse('EXIST', 0, `${place}: a log of ${origin}, this is ${log.checkpoint.origin}`);
  if (size > log.checkpoint.size)
    return refuse(
      'EXIST',
      0,
      `${place}: holds ${grouped(size)} records, this log only ${grouped(log.checkpoint.size)}: nothing is overwritten`,
    );
  const tree = yield* log.tree();
  if (isRefusal(tree)) return tree;
  return sameBytes(tree.root(size), root) ? size : yield* firstDifference(log, old);
}

/** The first record in which an export is not the beginning of the log. */
function* firstDifference(log: OpenLog, old: OpenLog): Generator<void, Refusal, void> {
  const { size } = old.checkpoint;
  for (let number = 0; number < size; number++) {
    const [ours, theirs] = [yield* log.record(number), yield* old.record(number)];
    if (isRefusal(ours)) return ours;
    if (isRefusal(theirs)) return theirs;
    if (!sameBytes(ours, theirs)) return refuse('EXIST', 0, `${old.place}: another log: record ${number} differs`);
  }
  return refuse(
    'EXIST',
    0,
    `${old.place}/${CHECKPOINT_FILE}: another log: its root is not that of the first ${grouped(size)} records`,
  );
}

// ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** How many files were written; those that were there are only compared. */
function* copyFiles(
  { sys }: AuditContext,
  face: Face,
  log: OpenLog,
  files: LogFiles,
  target: LogFiles,
): Generator<void, number | Refusal, void> {
  const paths = [...[...tilesOf(log.checkpoint.size)].map(tilePath), PUBLIC_KEY_FILE];
  const directories = new Set<string>();
  let written = 0;
  for (const [done, path] of paths.entries()) {
    yield* face.progress(done, paths.length);
    const bytes = yield* files.read(path);
    if (isRefusal(bytes)) return bytes;
    if (bytes === null) return refuse('NOENT', 0, `${files.place}/${path}: missing`);
    const there = yield* target.read(path);
    if (isRefusal(there)) return there;
    if (there !== null && sameBytes(there, bytes)) continue;
    if (there !== null)
      return refuse('EXIST', 0, `${target.place}/${path}: differs from the log: nothing is overwritten`);
    const wrong = yield* putFile(sys, target.place, path, bytes, directories);
    if (wrong !== null) return wrong;
    written++;
  }
  yield* face.progress(paths.length, paths.length);
  const head = utf8Encode(log.head);
  const there = yield* target.read(CHECKPOINT_FILE);
  if (there instanceof Uint8Array && sameBytes(there, head)) return written;
  return (yield* putFile(sys, target.place, CHECKPOINT_FILE, head, directories)) ?? written + 1;
}

type Sys = AuditContext['sys'];

/** Writes a file beside its name and gives it the name when it is whole; directories above it are made. */
function* putFile(
  sys: Sys,
  place: string,
  path: string,
  bytes: Uint8Array,
  directories: Set<string>,
): Generator<void, Refusal | null, void> {
  const full = join(place, path);
  const failed = (errno: number): Refusal => ({ errno: -errno, code: 0, message: `${full}: ${strerror(errno)}` });
  const made = yield* makeDirectories(sys, dirname(full), directories);
  if (made < 0) return failed(made);
  const part = `${full}.part`;
  const fd = yield* sys.open(part, O.WRONLY | O.CREAT | O.TRUNC, 0o666);
  if (fd < 0) return failed(fd);
  let status = yield* writeAll(sys, fd, bytes);
  yield* sys.close(fd);
  if (status === 0) status = yield* sys.rename(part, full);
  if (status === 0) return null;
  yield* sys.unlink(part);
  return failed(status);
}

/** `mkdir -p`; `known` are there. */
function* makeDirectories(sys: Sys, path: string, known: Set<string>): Generator<void, number, void> {
  if (known.has(path) || path === '/' || path === '.') return 0;
  const above = yield* makeDirectories(sys, dirname(path), known);
  const status = above < 0 ? above : yield* sys.mkdir(path, 0o777);
  if (status < 0 && status !== -E.EXIST) return status;
  known.add(path);
  return 0;
}

/** Tiles that were not full then and are wider now: a log of this size does not have them. */
function* removeStale(
  { sys }: AuditContext,
  before: number,
  size: number,
  directory: string,
): Generator<void, Refusal | null, void> {
  const now = new Set([...tilesOf(size)].map(tilePath));
  for (const tile of tilesOf(before)) {
    const path = tilePath(tile);
    if (now.has(path)) continue;
    const full = join(directory, path);
    const status = yield* sys.unlink(full);
    if (status < 0 && status !== -E.NOENT) return { errno: -status, code: 0, message: `${full}: ${strerror(status)}` };
    yield* sys.rmdir(dirname(full)); // where another tile of this width or more is beside it, it stays
  }
  return null;
}
