// `audit export DIR`: the log as it is now, as files that any C2SP client reads: checkpoint, tiles and bundles of records, and the key. What lies
// in DIR already is gone over first: an older export of the same log grows, anything else is left as it is and the first difference named. The
// checkpoint comes last, and a file takes its name when it is whole, so that DIR is a log at every moment.

import { isRefusal, refuse, utf8Encode } from '../../kernel/abi/index.ts';
import type { Refusal } from '../../kernel/abi/index.ts';
import { parseTilePath, sameBytes, TILE_WIDTH, tilePath, tilesOf } from '../../trust/index.ts';
import type { Tree } from '../../trust/index.ts';
import { refused } from './audit-face.ts';
import type { Face, Run } from './audit-face.ts';
import { CHECKPOINT_FILE, openLog, PUBLIC_KEY_FILE } from './audit-reader.ts';
import type { LogFiles, OpenLog } from './audit-reader.ts';
import { jsonLine } from './fmt.ts';
import { grouped } from './model.ts';

/** A directory that an export goes to. */
export interface ExportTarget extends LogFiles {
  /** Makes a file, and the directories above it, or replaces one: under its name only when it is whole (until then PATH.part). */
  put(path: string, bytes: Uint8Array): Generator<void, Refusal | null, void>;
  /** Removes a file, and the directory that it was in when nothing else is there. */
  remove(path: string): Generator<void, Refusal | null, void>;
}

/** What has not got its name yet, or was cut off on the way. */
export const PART = '.part';

export function* exportLog(face: Face, log: OpenLog, files: LogFiles, target: ExportTarget): Run {
  const done = yield* exportTo(face, log, files, target);
  if (isRefusal(done)) return yield* refused(face, done);
  const { size, origin } = log.checkpoint;
  const { was, written } = done;
  const { place } = target;
  yield* face.out.print(
    face.options.json
      ? jsonLine({ directory: place, origin, size, was, written })
      : `${place}: ${grouped(size)} records of ${origin}, ${grouped(size - was)} of them new, ${grouped(written)} files written\n`,
  );
  return 0;
}

function* exportTo(
  face: Face,
  log: OpenLog,
  files: LogFiles,
  target: ExportTarget,
): Generator<void, { readonly was: number; readonly written: number } | Refusal, void> {
  const tree = yield* log.tree();
  if (isRefusal(tree)) return tree;
  if (!sameBytes(tree.root(), log.checkpoint.root))
    return refuse('PROTO', 0, `${log.place}: its records are not those of its checkpoint: nothing is exported`);
  const there = yield* target.read(CHECKPOINT_FILE);
  if (isRefusal(there)) return there;
  const was = there === null ? 0 : yield* earlier(log, tree, target);
  if (isRefusal(was)) return was;
  const written = yield* copyFiles(face, log, files, target);
  if (isRefusal(written)) return written;
  const head = utf8Encode(log.head);
  const isNew = there === null || !sameBytes(there, head);
  const wrong = isNew ? yield* target.put(CHECKPOINT_FILE, head) : null;
  return wrong ?? (yield* removeStale(log, target)) ?? { was, written: written + Number(isNew) };
}

// ── What lies there ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** How many records an older export of this log holds; refused where what lies there is no beginning of it. */
function* earlier(log: OpenLog, tree: Tree, target: LogFiles): Generator<void, number | Refusal, void> {
  const old = yield* openLog(target);
  if (isRefusal(old)) return old;
  const { place } = target;
  const { origin, size, root } = old.checkpoint;
  const own = log.checkpoint;
  if (origin !== own.origin) return refuse('EXIST', 0, `${place}: a log of ${origin}, this is ${own.origin}`);
  if (size > own.size) {
    const sizes = `holds ${grouped(size)} records, this log only ${grouped(own.size)}`;
    return refuse('EXIST', 0, `${place}: ${sizes}: nothing is overwritten`);
  }
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
  face: Face,
  log: OpenLog,
  files: LogFiles,
  target: ExportTarget,
): Generator<void, number | Refusal, void> {
  const paths = [...tilesOf(log.checkpoint.size)].map(tilePath);
  let written = 0;
  for (const [done, path] of [...paths, PUBLIC_KEY_FILE].entries()) {
    yield* face.progress(done, paths.length);
    const bytes = yield* (path === PUBLIC_KEY_FILE ? files : log.tiled).read(path);
    if (isRefusal(bytes)) return bytes;
    if (bytes === null && path === PUBLIC_KEY_FILE) continue; // a store has none
    if (bytes === null) return refuse('NOENT', 0, `${log.place}/${path}: missing`);
    const there = yield* target.read(path);
    if (isRefusal(there)) return there;
    if (there !== null && sameBytes(there, bytes)) continue;
    if (there !== null)
      return refuse('EXIST', 0, `${target.place}/${path}: differs from the log: nothing is overwritten`);
    const wrong = yield* target.put(path, bytes);
    if (wrong !== null) return wrong;
    written++;
  }
  return written;
}

/** Tiles that were not full and are wider now, and what was cut off on its way: a log of this size has no such files. */
function* removeStale(log: OpenLog, target: ExportTarget): Generator<void, Refusal | null, void> {
  const now = new Set([...tilesOf(log.checkpoint.size)].map(tilePath));
  const paths = yield* target.paths();
  if (isRefusal(paths)) return paths;
  for (const path of paths) {
    const isCut = path.endsWith(PART);
    const whole = isCut ? path.slice(0, -PART.length) : path;
    const tile = parseTilePath(whole);
    const isOurs = isRefusal(tile)
      ? isCut && [CHECKPOINT_FILE, PUBLIC_KEY_FILE].includes(whole)
      : isCut || tile.width < TILE_WIDTH;
    const wrong = isOurs && !now.has(path) ? yield* target.remove(path) : null;
    if (wrong !== null) return wrong;
  }
  return null;
}
