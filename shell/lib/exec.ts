// Starting programs: the search along PATH, the interpreter line of scripts, waiting. Used by the shell and by programs that run a
// command (env, time, strace).

import { E, KIND, O, utf8Decode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { join, stat } from './files.ts';
import { argumentBlock } from './program.ts';
import type { Context } from './program.ts';

export const defaultPath = '/bin';
/** Exit statuses of POSIX for a command that could not be started. */
export const STATUS = { cannotExecute: 126, notFound: 127 } as const;

/** What becomes descriptor 0, 1, 2, … of a program; -1: closed. */
export type Descriptors = readonly number[];

/** Where a command name leads: its path, or -errno (ENOENT, or EACCES when only a file without execute permission was found). */
export function* findProgram(sys: Sys, name: string, path: string): Generator<void, string | number, void> {
  const candidates = name.includes('/') ? [name] : path.split(':').map(d => join(d === '' ? '.' : d, name));
  let errno: number = -E.NOENT;
  for (const candidate of candidates) {
    const st = yield* stat(sys, candidate);
    if (typeof st === 'number') {
      if (st === -E.NOTDIR) errno = st;
    } else if (st.kind === KIND.file && (st.mode & 0o111) !== 0) return candidate;
    else if (name.includes('/') || st.kind !== KIND.dir) errno = -E.ACCES;
  }
  return errno;
}

/**
 * Starts the file at `path`: a linked program, or a script by its interpreter line (`sh` when it has none). Returns its pid or -errno. `how`
 * exec: this process becomes it, and only a failure returns.
 */
export function* launch(
  sys: Sys,
  path: string,
  argv: readonly string[],
  env: ReadonlyMap<string, string>,
  fds: Descriptors,
  trace = -1,
  how: 'spawn' | 'exec' = 'spawn',
): Generator<void, number, void> {
  const pid = yield* sys[how](path, argumentBlock(argv, env, fds, trace));
  if (pid !== -E.NOEXEC) return pid;
  const interpreter = yield* interpreterOf(sys, path);
  if (typeof interpreter === 'number') return interpreter;
  return yield* sys[how](interpreter[0]!, argumentBlock([...interpreter, path, ...argv.slice(1)], env, fds, trace));
}

/** `#!PATH [ARGUMENT]` of a script; /bin/sh for text without one; -ENOEXEC for anything else. */
function* interpreterOf(sys: Sys, path: string): Generator<void, string[] | number, void> {
  const head = new Uint8Array(256);
  const fd = yield* sys.open(path, O.RDONLY, 0);
  if (fd < 0) return fd;
  const n = yield* sys.read(fd, head);
  yield* sys.close(fd);
  if (n < 0) return n;
  if (head.subarray(0, n).includes(0)) return -E.NOEXEC;
  const line = utf8Decode(head, 0, n).split('\n', 1)[0]!;
  if (!line.startsWith('#!')) return ['/bin/sh'];
  const [, program, argument] = /^#![ \t]*([^ \t]+)[ \t]*(.*?)[ \t]*$/.exec(line) ?? [];
  if (program === undefined) return -E.NOEXEC;
  return argument ? [program, argument] : [program];
}

/** Waits for a child. Returns its exit status; a signal that this process catches does not end the wait but is told to `interrupted`. */
export function* waitFor(sys: Sys, pid: number, interrupted?: () => void): Generator<void, number, void> {
  const status = new Uint8Array(4);
  for (;;) {
    const result = yield* sys.wait(pid, status, 0);
    if (result >= 0) return new DataView(status.buffer).getUint32(0, true);
    if (result !== -E.INTR) return STATUS.notFound;
    interrupted?.();
  }
}

/** Runs a command in the foreground with this program's streams, as env, time and strace do. Returns its exit status. */
export function* runCommand(
  ctx: Pick<Context, 'sys' | 'env' | 'out' | 'fail'>,
  argv: readonly string[],
  trace = -1,
): Generator<void, number, void> {
  const pid = yield* startCommand(ctx, argv, trace);
  return pid < 0 ? -pid : yield* waitFor(ctx.sys, pid);
}

/** The first half of runCommand: the pid, or minus the exit status after a message. */
export function* startCommand(
  ctx: Pick<Context, 'sys' | 'env' | 'out' | 'fail'>,
  argv: readonly string[],
  trace = -1,
): Generator<void, number, void> {
  yield* ctx.out.flush();
  const name = argv[0]!;
  const path = yield* findProgram(ctx.sys, name, ctx.env.get('PATH') ?? defaultPath);
  const pid = typeof path === 'number' ? path : yield* launch(ctx.sys, path, argv, ctx.env, [0, 1, 2], trace);
  if (pid >= 0) return pid;
  yield* ctx.fail(`'${name}'`, -pid);
  return -(pid === -E.NOENT ? STATUS.notFound : STATUS.cannotExecute);
}
