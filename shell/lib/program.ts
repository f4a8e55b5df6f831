// A program as the shell room writes it: a table entry with its manual beside its main, and the start-up code (crt0) that turns it into
// an image the kernel can run: arguments fetched, options parsed, streams opened and flushed, the return value the exit status.

import {
  E,
  LastError,
  O,
  SIG,
  SpawnHeader,
  formatRefusal,
  spawnFds,
  strerror,
  utf8Decode,
  utf8Encode,
} from '../../kernel/abi/index.ts';
import type { Entry, Gate, SpecCode, Sys } from '../../kernel/abi/index.ts';
import { wrap } from './fmt.ts';
import { getopt, optionLines } from './getopt.ts';
import type { OptionOrder, OptionTable, ParsedOptions } from './getopt.ts';
import { Input, Output } from './stdio.ts';
import { makeSys } from './sys.ts';

/** What the manual says of a command. */
export interface Page {
  readonly name: string;
  /** One phrase, lower case, no full stop: `list directory contents`. */
  readonly summary: string;
  /** Arguments after the name, one line per form: `[OPTION]... [FILE]...`. */
  readonly usage: readonly string[];
  readonly description: string;
  readonly options?: OptionTable;
  readonly examples?: readonly (readonly [command: string, effect: string])[];
}

export interface Program extends Page {
  readonly entry: (manual: Manual) => Entry;
  /** Runs it inside the process of another program, as the shell does with its builtins. A write that fails makes the status 1. */
  readonly within: (call: Call) => Generator<void, number, void>;
}

/** What a program is called with. */
export interface Call {
  readonly sys: Sys;
  readonly argv: readonly string[];
  readonly env: ReadonlyMap<string, string>;
  /** Its descriptors 0, 1, 2. */
  readonly fds: readonly number[];
  readonly manual: Manual;
}

/** Every page of this build by name: what `man` and `help` read. */
export type Manual = ReadonlyMap<string, Page>;

/** What a running program holds. */
export interface Context<T extends OptionTable = OptionTable> {
  readonly sys: Sys;
  /** Its name, as messages begin. */
  readonly name: string;
  readonly argv: readonly string[];
  readonly env: ReadonlyMap<string, string>;
  readonly options: ParsedOptions<T>;
  readonly operands: readonly string[];
  readonly input: Input;
  readonly out: Output;
  readonly err: Output;
  readonly manual: Manual;
  /** `NAME: MESSAGE[: what errno means]` on standard error. Returns 1, the exit status that goes with it. */
  fail(message: string, errno?: number): Generator<void, number, void>;
  /** The same with the kernel's own sentence about this process's last failed call. */
  failCall(message: string, errno: number): Generator<void, number, void>;
  /** A wrong command line: the message, or the usage without one; a pointer to --help; the program's usage status. */
  usage(message?: string): Generator<void, number, void>;
}

export interface ProgramSpec<T extends OptionTable> extends Page {
  readonly options?: T;
  readonly order?: OptionOrder;
  /** Exit status of a wrong command line; default 1. */
  readonly usageStatus?: number;
  main(ctx: Context<T>): Generator<void, number, void>;
}

/** Exit status of a process ended by a signal, as the shell reports it. */
export const signalStatus = (signal: number): number => 128 + signal;

export function define<const T extends OptionTable = Record<never, never>>(spec: ProgramSpec<T>): Program {
  return { ...spec, entry: manual => gate => start(gate, spec, manual), within: call => run(spec, call, false) };
}

/** The width that texts are folded at. */
export const screenWidth = 80;

/** One form of use after `prefix`; what does not fit `width` continues below its beginning. */
export function usageLine(prefix: string, form: string, width: number): string {
  return (prefix + wrap(form, width, prefix.length).trim()).trimEnd();
}

/** `Usage: NAME …` with summary, description and options: what --help prints. */
export function helpText(page: Page): string {
  const forms = page.usage.map((form, i) =>
    usageLine(`${i === 0 ? 'Usage:' : '   or:'} ${page.name} `, form, screenWidth),
  );
  const options = optionLines(page.options ?? {}, screenWidth);
  return [...forms, '', wrap(page.description, screenWidth), 'Options:', ...options, ''].join('\n');
}

function* start<T extends OptionTable>(
  gate: Gate,
  spec: ProgramSpec<T>,
  manual: Manual,
): Generator<void, number, void> {
  const sys = makeSys(gate);
  const { argv, env } = yield* fetchArguments(sys, gate.windowBytes);
  return yield* run(spec, { sys, argv, env, fds: [0, 1, 2], manual }, true);
}

/** `owner`: the process is this program's, and ends when nobody takes its output. */
function* run<T extends OptionTable>(spec: ProgramSpec<T>, call: Call, owner: boolean): Generator<void, number, void> {
  const { sys, argv, env, fds, manual } = call;
  const parsed = getopt(spec.options ?? {}, argv.slice(1), spec.order ?? 'gnu');
  const { name } = spec;

  let broken = false;
  const out = new Output(sys, fds[1] ?? -1, function* (errno) {
    // A reader that went away ends a filter quietly, as SIGPIPE does.
    if (owner && errno === E.PIPE) yield* sys.exit(signalStatus(SIG.PIPE));
    yield* err.print(`${name}: write error: ${yield* meaningOf(sys, errno)}\n`);
    if (owner) yield* sys.exit(1);
    broken = true;
  });
  // Where would an error about standard error go?
  const err = new Output(sys, fds[2] ?? -1, function* () {}, 0);
  const complain = function* (text: string): Generator<void, number, void> {
    yield* out.flush();
    yield* err.print(`${name}: ${text}\n`);
    return 1;
  };
  const ctx: Context<T> = {
    sys,
    name,
    argv,
    env,
    options: parsed.options as ParsedOptions<T>,
    operands: parsed.operands,
    input: new Input(sys, fds[0] ?? -1, out),
    out,
    err,
    manual,
    *fail(message, errno) {
      return yield* complain(errno === undefined ? message : `${message}: ${yield* meaningOf(sys, errno)}`);
    },
    *failCall(message, errno) {
      return yield* complain(`${message}: ${yield* lastError(sys, errno)}`);
    },
    *usage(message) {
      if (message === undefined) yield* err.print(`Usage: ${name} ${spec.usage[0]}\n`);
      else yield* complain(message);
      yield* err.print(`Try '${name} --help' for more information.\n`);
      return spec.usageStatus ?? 1;
    },
  };

  let status: number;
  if (parsed.help) {
    yield* out.print(helpText(spec));
    status = 0;
  } else if (parsed.error !== null) status = yield* ctx.usage(parsed.error);
  else if (spec.usage[0] === '' && ctx.operands.length > 0)
    status = yield* ctx.usage(`extra operand '${ctx.operands[0]}'`);
  else status = yield* spec.main(ctx);
  yield* out.flush();
  return broken ? 1 : status;
}

function* fetchArguments(
  sys: Sys,
  capacity: number,
): Generator<void, { argv: string[]; env: Map<string, string> }, void> {
  const block = new Uint8Array(capacity);
  yield* sys.getargs(block);
  const { argc, envc } = SpawnHeader.read(block, 0);
  const strings: string[] = [];
  let at = SpawnHeader.bytes;
  while (strings.length < argc + envc) {
    const end = block.indexOf(0, at);
    strings.push(utf8Decode(block, at, end));
    at = end + 1;
  }
  const env = new Map<string, string>();
  for (const text of strings.slice(argc)) {
    const eq = text.indexOf('=');
    env.set(text.slice(0, eq), text.slice(eq + 1));
  }
  return { argv: strings.slice(0, argc), env };
}

/** The argument block of spawn. */
export function argumentBlock(
  argv: readonly string[],
  env: ReadonlyMap<string, string>,
  fds: readonly number[],
  trace = -1,
): Uint8Array {
  const strings = [...argv, ...[...env].map(([name, value]) => `${name}=${value}`)];
  const text = utf8Encode(strings.map(s => `${s}\0`).join(''));
  const block = new Uint8Array(SpawnHeader.bytes + text.length);
  SpawnHeader.write(block, 0, { argc: argv.length, envc: env.size, trace, ...spawnFds(fds) });
  block.set(text, SpawnHeader.bytes);
  return block;
}

/** What the kernel says about this process's last failed call: its sentence where it left one, else what `errno` means. */
export function* lastError(sys: Sys, errno: number): Generator<void, string, void> {
  const record = new Uint8Array(LastError.bytes);
  if ((yield* sys.last_error(record)) < 0) return strerror(errno);
  const last = LastError.read(record, 0);
  if (last.errno !== Math.abs(errno) || last.message === '') return strerror(errno);
  return formatRefusal({ errno: last.errno, code: last.code as SpecCode, message: last.message });
}

/** Errors that tell of a limit, or of a disk: the kernel knows which, and how large, or where. */
const EXPLAINED_ERRORS: ReadonlySet<number> = new Set([
  E.IO,
  E.NODEV,
  E.MFILE,
  E.NFILE,
  E.NAMETOOLONG,
  E.LOOP,
  E.TOOBIG,
  E.FBIG,
  E.AGAIN,
  E.NOSPC,
]);

/** What `errno` means, and where the kernel knows it, the number. */
function* meaningOf(sys: Sys, errno: number): Generator<void, string, void> {
  return EXPLAINED_ERRORS.has(Math.abs(errno)) ? yield* lastError(sys, errno) : strerror(errno);
}

// ── Operands that are files ──────────────────────────────────────────────────────────────────────────────────────────────────────

type Streams = Pick<Context, 'sys' | 'input' | 'failCall'>;

/** A file named on the command line as a stream, `-` being standard input; null after `message`. */
export function* openInput(ctx: Streams, name: string, message = name): Generator<void, Input | null, void> {
  if (name === '-') return ctx.input;
  const fd = yield* ctx.sys.open(name, O.RDONLY, 0);
  if (fd >= 0) return new Input(ctx.sys, fd);
  yield* ctx.failCall(message, -fd);
  return null;
}

/** The same context without a word about calls that fail. */
export const quietly = <C extends Streams>(ctx: C): C => ({
  ...ctx,
  *failCall() {
    return 1;
  },
});

/** Closes what openInput opened; false after a message when reading had failed. */
export function* closeInput(ctx: Streams, name: string, input: Input): Generator<void, boolean, void> {
  if (input.error !== 0) yield* ctx.failCall(name, input.error);
  if (input !== ctx.input) yield* ctx.sys.close(input.fd);
  return input.error === 0;
}
