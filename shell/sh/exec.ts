// The shell's executor: runs what the parser built. A process here cannot fork, so a subshell (a builtin inside a pipeline) is a new sh
// that is given the parent's state as text; every other command of a pipeline is spawned on its pipe ends, then all are waited for.

import { E, LIMITS, O, SIG, strerror, utf8Decode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { STATUS, defaultPath, findProgram, launch, waitFor } from '../lib/exec.ts';
import type { Descriptors } from '../lib/exec.ts';
import { signalStatus } from '../lib/program.ts';
import { Output } from '../lib/stdio.ts';
import { builtins } from './builtins.ts';
import { Expander } from './expand.ts';
import type { Variables } from './expand.ts';
import { Parser } from './parse.ts';
import type { AndOr, Command, List, Pipeline, Redirect, SimpleCommand } from './parse.ts';
import { quote, quoteIfNeeded } from './quote.ts';

interface Variable {
  /** Undefined: exported before it is set. */
  readonly value: string | undefined;
  readonly exported: boolean;
}

/** Status of a command line that the shell itself could not do: syntax, redirection, expansion. */
export const usageError = 2;
const openFlags = {
  '<': O.RDONLY,
  '>': O.WRONLY | O.CREAT | O.TRUNC,
  '>>': O.WRONLY | O.CREAT | O.APPEND,
  '<>': O.RDWR | O.CREAT,
} as const;

/** Redirections name descriptors 0 to 9; a program is given the first three. */
const descriptorsMax = 10;

/** What a command's descriptors are in this process (-1: closed), and which of them must be closed after it. */
interface Streams {
  readonly fds: number[];
  readonly opened: number[];
}

/** How deep `.` and eval may call one another. */
const nestingMax = 64;

export class Shell implements Variables {
  readonly sys: Sys;
  name: string;
  positional: string[] = [];
  status = 0;
  /** What descriptors 0, 1, 2, … of commands are in this process; `exec >file` changes them. */
  fds: readonly number[] = [0, 1, 2];
  /** Set by `exit`: the shell leaves as soon as the current command returns. */
  leaving: number | null = null;
  /** Set by `return`: the sourced file ends. */
  returning = false;
  /** A SIGINT was seen, or nesting has no end: the rest of the command line is dropped. */
  interrupted = false;
  /** Outlives SIGINT, which ends only the command in the foreground. */
  catchesInterrupt = false;
  /** A person types at it: errors do not end it. */
  interactive = false;
  errexit = false;
  nounset = false;
  noglob = false;
  xtrace = false;
  private readonly variables = new Map<string, Variable>();
  private pid = 0;
  private nesting = 0; // texts being run inside one another by `.` and eval

  constructor(sys: Sys, name: string, env: ReadonlyMap<string, string>) {
    this.sys = sys;
    this.name = name;
    for (const [key, value] of env) this.variables.set(key, { value, exported: true });
  }

  // ── Variables ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  get(name: string): string | undefined {
    if (/^[0-9]+$/.test(name)) return name === '0' ? this.name : this.positional[Number(name) - 1];
    switch (name) {
      case '?':
        return String(this.status);
      case '$':
        return String(this.pid);
      case '#':
        return String(this.positional.length);
      case '-':
        return `${this.errexit ? 'e' : ''}${this.noglob ? 'f' : ''}${this.interactive ? 'i' : ''}${this.nounset ? 'u' : ''}${this.xtrace ? 'x' : ''}`;
      default:
        return this.variables.get(name)?.value;
    }
  }

  set(name: string, value: string, exported?: boolean): void {
    this.variables.set(name, { value, exported: exported ?? this.variables.get(name)?.exported ?? false });
  }

  unset(name: string): void {
    this.variables.delete(name);
  }

  /** Marks a variable, set or not, for the environment of commands. */
  export(name: string): void {
    this.variables.set(name, { value: this.variables.get(name)?.value, exported: true });
  }

  /** The variables that are set, in order of name. */
  list(): { name: string; value: string; exported: boolean }[] {
    const all = [...this.variables].flatMap(([name, { value, exported }]) =>
      value === undefined ? [] : [{ name, value, exported }],
    );
    return all.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  private environment(extra: ReadonlyMap<string, string>): Map<string, string> {
    const env = new Map<string, string>();
    for (const [name, v] of this.variables) if (v.exported && v.value !== undefined) env.set(name, v.value);
    for (const [name, value] of extra) env.set(name, value);
    return env;
  }

  // ── Messages ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** `sh: MESSAGE` on standard error; sets and returns the status. */
  *fail(message: string, status: number, fd: number = this.fds[2]!): Generator<void, number, void> {
    const err = new Output(this.sys, fd, function* () {}, 0);
    yield* err.print(`${this.name}: ${message}\n`);
    return (this.status = status);
  }

  // ── Texts and lists ────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Runs a whole text, line by line, up to its end, an exit, or a syntax error. Returns the status. */
  *runText(text: string, firstLine = 1): Generator<void, number, void> {
    if (this.nesting === nestingMax) {
      this.interrupted = true; // or each of its callers would go on and try again
      return yield* this.fail(`commands are nested more than ${nestingMax} deep`, usageError);
    }
    this.pid ||= yield* this.sys.getpid();
    this.nesting++;
    const status = yield* this.runLines(text, firstLine);
    this.nesting--;
    return status;
  }

  private *runLines(text: string, firstLine: number): Generator<void, number, void> {
    const parser = new Parser(text, firstLine);
    for (;;) {
      const result = parser.next();
      if (result.kind === 'end') return this.status;
      if (result.kind === 'fault')
        return yield* this.fail(`line ${result.fault.line}: ${result.fault.message}`, usageError);
      yield* this.runList(result.list);
      if (this.stopped()) return this.status;
    }
  }

  private stopped(): boolean {
    return this.leaving !== null || this.returning || this.interrupted;
  }

  *runList(list: List): Generator<void, void, void> {
    for (const item of list) {
      yield* this.runAndOr(item);
      if (this.stopped()) return;
    }
  }

  private *runAndOr(item: AndOr): Generator<void, void, void> {
    yield* this.runPipeline(item.first, item.rest.length > 0);
    for (let i = 0; i < item.rest.length && !this.stopped(); i++) {
      const { operator, pipeline } = item.rest[i]!;
      if ((operator === '&&') === (this.status === 0)) yield* this.runPipeline(pipeline, i < item.rest.length - 1);
    }
  }

  /** `tested`: its status is looked at by && or ||, so that `set -e` does not act on it. */
  private *runPipeline(pipeline: Pipeline, tested: boolean): Generator<void, void, void> {
    const [first, ...others] = pipeline.commands;
    if (others.length === 0) yield* this.runCommand(first!);
    else yield* this.runStages(pipeline.commands);
    if (pipeline.negated) this.status = this.status === 0 ? 1 : 0;
    else if (this.errexit && !tested && this.status !== 0 && this.leaving === null) this.leaving = this.status;
  }

  private *runStages(commands: readonly Command[]): Generator<void, void, void> {
    const { sys } = this;
    const before = this.status;
    const saved = new Map(this.variables);
    const children: number[] = []; // a pid, or minus a status, for each stage
    let input = this.fds[0]!;
    for (const [i, command] of commands.entries()) {
      const last = i === commands.length - 1;
      const ends = new Uint8Array(8);
      const errno = last ? 0 : yield* sys.pipe(ends);
      if (errno < 0) {
        children.push(-(yield* this.fail(`cannot make a pipe: ${strerror(errno)}`, usageError)));
        break;
      }
      const view = new DataView(ends.buffer);
      const output = last ? this.fds[1]! : view.getUint32(4, true);
      this.status = before;
      children.push(yield* this.spawnCommand(command, [input, output, ...this.fds.slice(2)]));
      if (i > 0) yield* sys.close(input);
      if (!last) yield* sys.close(output);
      input = last ? this.fds[0]! : view.getUint32(0, true);
    }
    // A pipeline that could not be finished leaves its last read end.
    if (input !== this.fds[0]) yield* sys.close(input);
    // Each stage is a subshell: what its expansions assigned is gone.
    this.variables.clear();
    for (const [name, variable] of saved) this.variables.set(name, variable);
    for (const child of children) this.status = child > 0 ? yield* this.waitFor(child) : -child;
  }

  private *waitFor(pid: number): Generator<void, number, void> {
    const status = yield* waitFor(this.sys, pid, () => (this.interrupted = true));
    if (this.catchesInterrupt && status === signalStatus(SIG.INT)) this.interrupted = true;
    return status;
  }

  // ── Simple commands ────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Runs a command in this shell, in the foreground. */
  private *runCommand(command: SimpleCommand): Generator<void, void, void> {
    const prepared = yield* this.prepare(command, this.fds);
    if (prepared === null) return;
    const { argv, assignments, streams } = prepared;
    const builtin = builtins.get(argv[0] ?? '');
    if (argv.length === 0) this.status = 0;
    else if (builtin !== undefined) {
      const keep = builtin.special === true;
      const before = keep ? [] : [...assignments.keys()].map(name => [name, this.variables.get(name)] as const);
      for (const [name, value] of assignments) this.set(name, value);
      this.status = yield* this.runBuiltin(builtin, argv, streams);
      for (const [name, variable] of before) {
        if (variable === undefined) this.variables.delete(name);
        else this.variables.set(name, variable);
      }
      if (argv[0] === 'exec' && argv.length === 1) {
        this.fds = [...streams.fds];
        return; // what exec opened stays open
      }
    } else {
      const pid = yield* this.spawnProgram(argv, this.environment(assignments), standard(streams));
      if (pid > 0) this.status = yield* this.waitFor(pid);
    }
    yield* this.closeAll(streams);
  }

  private *runBuiltin(
    builtin: { run(shell: Shell, argv: readonly string[], out: Output): Generator<void, number, void> },
    argv: readonly string[],
    streams: Streams,
  ): Generator<void, number, void> {
    const outer = this.fds;
    this.fds = streams.fds;
    const out = new Output(this.sys, streams.fds[1]!, function* () {});
    const status = yield* builtin.run(this, argv, out);
    yield* out.flush();
    this.fds = outer;
    return status;
  }

  /** Starts one command of a pipeline. Returns its pid, or minus its status when there is nothing to wait for. */
  private *spawnCommand(command: SimpleCommand, fds: readonly number[]): Generator<void, number, void> {
    const prepared = yield* this.prepare(command, fds);
    if (prepared === null) return -this.status;
    const { argv, assignments, streams } = prepared;
    let pid = 0;
    if (builtins.has(argv[0] ?? '')) {
      pid = yield* this.spawnSubshell(argv.map(quote).join(' '), assignments, standard(streams));
    } else if (argv.length > 0) pid = yield* this.spawnProgram(argv, this.environment(assignments), standard(streams));
    yield* this.closeAll(streams);
    return pid < 0 ? -this.status : pid;
  }

  /** Starts a program; on failure says why, sets the status and returns -errno. */
  private *spawnProgram(
    argv: readonly string[],
    env: ReadonlyMap<string, string>,
    fds: Descriptors,
  ): Generator<void, number, void> {
    const name = argv[0]!;
    const path = yield* findProgram(this.sys, name, env.get('PATH') ?? this.get('PATH') ?? defaultPath);
    const pid = typeof path === 'number' ? path : yield* launch(this.sys, path, argv, env, fds);
    if (pid > 0) return pid;
    const missing = pid === -E.NOENT || pid === -E.NOTDIR;
    const reason = missing && !name.includes('/') ? 'not found' : strerror(pid);
    yield* this.fail(`${name}: ${reason}`, missing ? STATUS.notFound : STATUS.cannotExecute, fds[2]);
    return pid;
  }

  /** Starts a new sh that runs `text` with this shell's variables, parameters and status. */
  private *spawnSubshell(
    text: string,
    assignments: ReadonlyMap<string, string>,
    fds: Descriptors,
  ): Generator<void, number, void> {
    const env = this.environment(assignments);
    const locals = this.list().filter(v => !v.exported && !assignments.has(v.name));
    const prelude = locals.map(v => `${v.name}=${quote(v.value)}\n`).join('');
    const flags = (this.get('-') ?? '').replace('i', '');
    const argv = ['sh', `--subshell=${this.status}`, ...(flags === '' ? [] : [`-${flags}`]), '-c', prelude + text];
    return yield* this.spawnProgram([...argv, this.name, ...this.positional], env, fds);
  }

  /** Expands a command and opens its redirections; null when something failed and was reported. */
  private *prepare(
    command: SimpleCommand,
    fds: readonly number[],
  ): Generator<void, { argv: string[]; assignments: Map<string, string>; streams: Streams } | null, void> {
    const expander = new Expander(this.sys, this);
    const argv = yield* expander.fields(command.words);
    const streams: Streams = { fds: [...fds], opened: [] };
    let ok = expander.fault === null;
    for (const redirect of command.redirects) ok &&= yield* this.redirect(redirect, expander, streams);
    const assignments = new Map<string, string>();
    for (const { name, value } of command.assignments) {
      assignments.set(name, expander.text(value, true));
      // Without a command the assignments are the shell's own, each seen by the next.
      if (argv.length === 0) this.set(name, assignments.get(name)!);
    }
    if (expander.fault !== null) {
      yield* this.fail(expander.fault, usageError);
      if (!this.interactive) this.leaving = usageError;
      ok = false;
    }
    if (!ok) {
      yield* this.closeAll(streams);
      return null;
    }
    if (this.xtrace) yield* this.trace(assignments, argv);
    return { argv, assignments, streams };
  }

  private *trace(assignments: ReadonlyMap<string, string>, argv: readonly string[]): Generator<void, void, void> {
    const shown = [
      ...[...assignments].map(([name, value]) => `${name}=${quoteIfNeeded(value)}`),
      ...argv.map(quoteIfNeeded),
    ];
    const err = new Output(this.sys, this.fds[2]!, function* () {}, 0);
    yield* err.print(`+ ${shown.join(' ')}\n`);
  }

  private *redirect(redirect: Redirect, expander: Expander, streams: Streams): Generator<void, boolean, void> {
    const target = expander.text(redirect.target);
    if (expander.fault !== null) return false;
    const { fd, operator } = redirect;
    const refuse = function* (shell: Shell, what: string, why: string): Generator<void, boolean, void> {
      yield* shell.fail(`${what}: ${why}`, usageError, streams.fds[2]!);
      return false;
    };
    if (fd >= descriptorsMax) return yield* refuse(this, String(fd), strerror(E.BADF));
    if (operator === '>&' || operator === '<&') {
      if (target === '-') streams.fds[fd] = -1;
      else {
        const source = /^[0-9]$/.test(target) ? (streams.fds[Number(target)] ?? -1) : -1;
        if (source < 0) return yield* refuse(this, target, strerror(E.BADF));
        streams.fds[fd] = source;
      }
      return true;
    }
    const opened = yield* this.sys.open(target, openFlags[operator], 0o644);
    if (opened < 0) return yield* refuse(this, target, strerror(opened));
    streams.opened.push(opened);
    streams.fds[fd] = opened;
    return true;
  }

  private *closeAll(streams: Streams): Generator<void, void, void> {
    for (const fd of streams.opened) yield* this.sys.close(fd);
  }

  /** Reads one line from descriptor 0 of the current command, byte by byte so that nothing after it is taken; at most LIMITS.lineBytes. */
  *readLine(): Generator<void, { text: string; ended: boolean }, void> {
    const byte = new Uint8Array(1);
    const bytes: number[] = [];
    for (;;) {
      const n = yield* this.sys.read(this.fds[0]!, byte);
      if (n <= 0 || byte[0] === 10 || bytes.length === LIMITS.lineBytes)
        return { text: utf8Decode(Uint8Array.from(bytes)), ended: n <= 0 };
      bytes.push(byte[0]!);
    }
  }
}

/** The three descriptors that a program is started with. */
const standard = ({ fds }: Streams): Descriptors => [fds[0] ?? -1, fds[1] ?? -1, fds[2] ?? -1];
