// The audit log for programs of the machine: files over system calls, a terminal's width, and the kernel's own log where it shows it, /audit.

import { E, IOCTL, isRefusal, KIND, O, refuse, strerror } from '../../kernel/abi/index.ts';
import type { Refusal, Sys } from '../../kernel/abi/index.ts';
import { PART } from './audit-export.ts';
import type { ExportTarget } from './audit-export.ts';
import { auditOptions, refused } from './audit-face.ts';
import type { Face, Run } from './audit-face.ts';
import { LOG_FILE_BYTES_MOST, openLog } from './audit-reader.ts';
import type { LogFiles, OpenLog } from './audit-reader.ts';
import { dirname, join, listDirectory, readFile, stat } from './files.ts';
import type { OptionTable } from './getopt.ts';
import { grouped, isTerminal } from './model.ts';
import type { Context } from './program.ts';
import { ProgressBar } from './progress.ts';
import { writeAll } from './stdio.ts';
import { replayOptions } from './replay-options.ts';
import type { ReplayTable } from './replay-options.ts';

/** Where the machine shows its own log. */
export const AUDIT_DIRECTORY = '/audit';

export const auditVerbOptions = {
  ...auditOptions,
  ...replayOptions,
  log: { value: 'DIR', help: "audit list, show, diff, head, replay: of the log in DIR instead of the machine's own" },
} as const satisfies OptionTable;

export type AuditContext = Context<
  typeof auditVerbOptions &
    ReplayTable & {
      readonly model: { readonly value: string; readonly help: string };
      readonly json: { readonly help: string };
    }
>;

/** Where `llmctl audit export` goes. */
export function machineTarget(sys: Sys, place: string): ExportTarget {
  const directories = new Set<string>();
  const wrong = (path: string, errno: number): Refusal | null => (errno < 0 ? failed(path, errno) : null);
  return {
    ...machineFiles(sys, place),
    *put(name, bytes) {
      const path = join(place, name);
      const part = path + PART;
      const made = yield* makeDirectories(sys, dirname(path), directories);
      const fd = made < 0 ? made : yield* sys.open(part, O.WRONLY | O.CREAT | O.TRUNC, 0o666);
      if (fd < 0) return failed(path, fd);
      let status = yield* writeAll(sys, fd, bytes);
      yield* sys.close(fd);
      if (status === 0) status = yield* sys.rename(part, path);
      if (status < 0) yield* sys.unlink(part);
      return wrong(path, status);
    },
    *remove(name) {
      const path = join(place, name);
      const status = yield* sys.unlink(path);
      if (status === 0) yield* sys.rmdir(dirname(path)); // something may be left there
      return wrong(path, status);
    },
  };
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

/** Files below `place`. */
export function machineFiles(sys: Sys, place: string): LogFiles {
  return {
    place,
    *read(path) {
      const bytes = yield* readFile(sys, join(place, path), LOG_FILE_BYTES_MOST);
      if (typeof bytes !== 'number') return bytes;
      return bytes === -E.NOENT || bytes === -E.NOTDIR ? null : failed(join(place, path), bytes);
    },
    *paths() {
      return yield* walk(sys, place, '');
    },
  };
}

/** All files below `place`/`path`, each by its path from `place`. */
function* walk(sys: Sys, place: string, path: string): Generator<void, string[] | Refusal, void> {
  const entries = yield* listDirectory(sys, path === '' ? place : join(place, path));
  if (typeof entries === 'number') return failed(join(place, path), entries);
  const found: string[] = [];
  for (const { name, kind } of entries) {
    const child = path === '' ? name : `${path}/${name}`;
    if (kind !== KIND.dir) found.push(child);
    else {
      const below = yield* walk(sys, place, child);
      if (isRefusal(below)) return below;
      found.push(...below);
    }
  }
  return found;
}

/** Who may read /audit, where that is what is wrong. */
const failed = (path: string, errno: number): Refusal => ({
  errno: -errno,
  code: 0,
  message:
    errno === -E.ACCES && path.startsWith(`${AUDIT_DIRECTORY}/`)
      ? `${AUDIT_DIRECTORY}: ${strerror(errno)}: the log is for root and the group auditor; requests of your own are in /proc/audit`
      : `${path}: ${strerror(errno)}`,
});

/** More steps than this are worth a progress bar. */
const QUICK_STEPS = 16;

export function* faceOf(ctx: AuditContext): Generator<void, Face, void> {
  const { sys } = ctx;
  const bar = new ProgressBar(ctx, (done, total) => `${grouped(done)} of ${grouped(total)} files`);
  const columns = (yield* isTerminal(sys, 1)) ? yield* sys.ioctl(1, IOCTL.columns, 0) : 0;
  return {
    options: ctx.options,
    out: ctx.out,
    err: ctx.err,
    columns: columns > 0 ? columns : Infinity,
    *fail(message) {
      yield* bar.end();
      return yield* ctx.fail(message);
    },
    *readFile(path) {
      const bytes = yield* readFile(sys, path);
      return typeof bytes === 'number' ? refuse('NOENT', 0, `${path}: ${strerror(bytes)}`) : bytes;
    },
    *progress(done, total) {
      if (total <= QUICK_STEPS) return;
      yield* bar.show(done, total);
      if (done === total) yield* bar.end();
    },
  };
}

/** Runs a verb over the log in `directory`. */
export function* withLog(
  ctx: AuditContext,
  directory: string,
  verb: (face: Face, log: OpenLog, files: LogFiles) => Run,
): Run {
  const face = yield* faceOf(ctx);
  if (directory === AUDIT_DIRECTORY && (yield* stat(ctx.sys, directory)) === -E.NOENT)
    return yield* face.fail(`${directory}: this machine keeps no audit log (--audit off)`);
  const files = machineFiles(ctx.sys, directory);
  const log = yield* openLog(files);
  return isRefusal(log) ? yield* refused(face, log) : yield* verb(face, log, files);
}
