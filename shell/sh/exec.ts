// The shell's executor: runs what the parser built. A command that must not change this shell — a stage of a pipeline, ( … ), $( … ),
// … & — runs in a fork: a second process whose program is a copy of this shell's state. A program in the foreground is spawned; as the last
// thing that a fork does it is exec'd. Descriptors 0 … 9 of commands are a table of the shell's own, so that a redirection changes the
// table and never has to be undone.

import {
  E,
  KIND,
  LIMITS,
  O,
  SEEK,
  SIG,
  SPAWN_FDS,
  WAIT,
  strerror,
  utf8Decode,
  utf8Encode,
} from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { STATUS, defaultPath, findProgram, launch } from '../lib/exec.ts';
import { stat, textBytesMax } from '../lib/files.ts';
import { compilePattern, matches } from '../lib/glob.ts';
import { makeSys } from '../lib/sys.ts';
import { Output, readAll, writeAll } from '../lib/stdio.ts';
import { builtins } from './builtins.ts';
import type { Builtin } from './builtins.ts';
import { Expander } from './expand.ts';
import type { Host } from './expand.ts';
import { collect, Jobs } from './jobs.ts';
import type { Job } from './jobs.ts';
import { Options } from './options.ts';
import { Parser } from './parse.ts';
import type { AndOr, Command, List, Pipeline, Redirect, SimpleCommand } from './parse.ts';
import { quoteIfNeeded } from './quote.ts';
import { Traps } from './traps.ts';
import { Variables } from './variables.ts';

/** Status of a command line that the shell itself could not do: syntax, redirection, expansion. */
export const usageError = 2;
const openFlags = {
  '<': O.RDONLY,
  '>': O.WRONLY | O.CREAT | O.TRUNC,
  '>|': O.WRONLY | O.CREAT | O.TRUNC,
  '>>': O.WRONLY | O.CREAT | O.APPEND,
  '<>': O.RDWR | O.CREAT,
} as const;

/** What a command's descriptors are in this process (-1: closed), and which of them must be closed after it. */
interface Streams {
  readonly fds: number[];
  readonly opened: number[];
}

/** Commands that the shell runs by itself before it lets other processes run. */
const quantumCommands = 64;

export class Shell implements Host {
  sys: Sys;
  name: string;
  positional: string[] = [];
  status = 0;
  /** What descriptors 0, 1, 2, … of commands are in this process; redirections change them. */
  fds: readonly number[] = [0, 1, 2];
  readonly variables: Variables;
  readonly functions: Map<string, Command>;
  readonly aliases: Map<string, string>;
  readonly options: Options;
  readonly traps: Traps;
  jobs = new Jobs();
  /** Set by `exit`: the shell leaves as soon as the current command returns. */
  leaving: number | null = null;
  /** Set by `return`: the function or sourced file ends. */
  returning = false;
  /** A SIGINT was seen, or nesting has no end: the rest of the command line is dropped. */
  interrupted = false;
  /** Outlives SIGINT, which ends only the command in the foreground. */
  catchesInterrupt = false;
  /** A person types at it: errors do not end it. */
  interactive = false;
  /** Job control: every pipeline is a process group, and this is the shell's own; 0: there is none. */
  group = 0;
  /** How many loops are being run, and how many of them `break` or `continue` is leaving. */
  loops = 0;
  skipping = 0;
  continues = false;
  /** Functions and sourced files being run: where `return` means something. */
  calls = 0;
  /** Where getopts is inside the argument with that number. */
  optionOffset = { index: 1, at: 0 };
  /** Run by `command`: mistakes end nothing. */
  private lenient = 0;
  /** `$!`. */
  lastBackground: number | null = null;
  /** The status of the last command substitution of the command being expanded. */
  private substituted: number | null = null;
  /** Assignments before the command being expanded: each is seen by the next. */
  private prefix: ReadonlyMap<string, string> | null = null;
  /** Conditions being evaluated, in which `set -e` does not act. */
  private tested = 0;
  private pid = 0;
  private parent = 0;
  private line = 0;
  private nesting = 0; // texts and functions being run inside one another
  private commands = 0;
  /** Descriptors of this process that are open for the shell: a fork closes those that it does not use. */
  private readonly open: Set<number>;

  constructor(sys: Sys, name: string, env: ReadonlyMap<string, string>, from?: Shell) {
    this.sys = sys;
    this.name = name;
    this.variables = new Variables(from?.variables);
    this.functions = new Map(from?.functions);
    this.aliases = new Map(from?.aliases);
    this.options = new Options(from?.options);
    this.traps = new Traps(from?.traps);
    this.open = new Set(from?.open ?? [0, 1, 2]);
    for (const [key, value] of env) {
      this.variables.set(key, value);
      this.variables.mark(key, { exported: true });
    }
    if (from === undefined) this.variables.set('IFS', ' \t\n');
    else {
      const { positional, status, fds, pid, parent, line, loops, calls, lastBackground, tested, nesting } = from;
      Object.assign(this, {
        positional,
        status,
        fds,
        pid,
        parent,
        line,
        loops,
        calls,
        lastBackground,
        tested,
        nesting,
      });
    }
  }

  // ── What expansion asks ────────────────────────────────────────────────────────────────────────────────────────────────────────

  get nounset(): boolean {
    return this.options.has('u');
  }
  get noglob(): boolean {
    return this.options.has('f');
  }

  get(name: string): string | undefined {
    if (/^[0-9]+$/.test(name)) return name === '0' ? this.name : this.positional[Number(name) - 1];
    switch (name) {
      case '?':
        return String(this.status);
      case '$':
        return String(this.pid);
      case '!':
        return this.lastBackground === null ? undefined : String(this.lastBackground);
      case '#':
        return String(this.positional.length);
      case '-':
        return this.options.letters();
      case 'LINENO':
        return String(this.line);
      case 'PPID':
        return String(this.parent);
      default:
        return this.prefix?.get(name) ?? this.variables.get(name);
    }
  }

  assign(name: string, value: string): string | null {
    const refusal = this.variables.set(name, value);
    if (refusal === null && this.options.has('a')) this.variables.mark(name, { exported: true });
    return refusal;
  }

  *substitute(list: List): Generator<void, string, void> {
    const fd = yield* this.sys.memfd('substitution');
    if (fd < 0) {
      yield* this.fail(`cannot make a file for $(…): ${strerror(fd)}`, usageError);
      return '';
    }
    this.open.add(fd);
    const fds = [this.fds[0]!, fd, ...this.fds.slice(2)];
    const pid = yield* this.fork(fds, child => child.runAll(list));
    this.substituted = pid > 0 ? yield* this.waitForPid(pid) : usageError;
    yield* this.sys.lseek(fd, 0, SEEK.set);
    const bytes = yield* readAll(this.sys, fd, textBytesMax);
    yield* this.close(fd);
    if (typeof bytes !== 'number') return utf8Decode(bytes.filter(c => c !== 0)).replace(/\n+$/, '');
    this.substituted = yield* this.fail(`$(…): ${strerror(bytes)}`, usageError);
    return '';
  }

  // ── Messages ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** `sh: MESSAGE` on standard error; sets and returns the status. */
  *fail(message: string, status: number, fd: number = this.fds[2] ?? -1): Generator<void, number, void> {
    yield* this.say(`${this.name}: ${message}\n`, fd);
    return (this.status = status);
  }

  *say(text: string, fd: number = this.fds[2] ?? -1): Generator<void, void, void> {
    const err = new Output(this.sys, fd, function* () {}, 0);
    yield* err.print(text);
  }

  /** As fail, for what ends a shell that no person types at. */
  *failHard(message: string, status: number, fd?: number): Generator<void, number, void> {
    yield* this.fail(message, status, fd);
    if (this.lenient > 0) return status;
    if (this.interactive) this.interrupted = true;
    else this.leaving = status;
    return status;
  }

  // ── Texts and lists ────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Runs a whole text, command by command, up to its end, an exit, or a syntax error. Returns the status, 0 when there was no command.
   * `isInput`: it comes from a file or a person, and `set -v` shows it.
   */
  *runText(text: string, firstLine = 1, isInput = false): Generator<void, number, void> {
    if (this.pid === 0) {
      this.pid = yield* this.sys.getpid();
      this.parent = yield* this.sys.getppid();
    }
    return (yield* this.nest(() => this.runLines(text, firstLine, isInput))) ?? this.status;
  }

  private *nest<T>(body: () => Generator<void, T, void>): Generator<void, T | null, void> {
    if (this.nesting === LIMITS.callDepthMax) {
      yield* this.failHard(`commands are nested more than ${LIMITS.callDepthMax} deep`, usageError);
      return null;
    }
    this.nesting++;
    const result = yield* body();
    this.nesting--;
    return result;
  }

  private *runLines(text: string, firstLine: number, isInput: boolean): Generator<void, number, void> {
    const parser = new Parser(text, firstLine, this.aliases);
    for (let ran = false; ; ran = true) {
      const result = parser.next();
      if (result.kind === 'end') return ran ? this.status : 0;
      if (result.kind === 'fault')
        return yield* this.failHard(`line ${result.fault.line}: ${result.fault.message}`, usageError);
      if (isInput && this.options.has('v')) yield* this.say(parser.taken());
      yield* this.runList(result.list);
      if (this.stopped()) return this.status;
    }
  }

  private stopped(): boolean {
    return this.leaving !== null || this.returning || this.interrupted || this.skipping > 0;
  }

  *runList(list: List): Generator<void, void, void> {
    for (const item of list) {
      if (item.background) yield* this.runInBackground(item);
      else yield* this.runAndOr(item);
      if (this.stopped()) return;
    }
  }

  private *runAndOr(item: AndOr): Generator<void, void, void> {
    const last = item.rest.length - 1;
    yield* this.runPipeline(item.first, last >= 0, item.text);
    for (let i = 0; i <= last && !this.stopped(); i++) {
      const { operator, pipeline } = item.rest[i]!;
      if ((operator === '&&') === (this.status === 0)) yield* this.runPipeline(pipeline, i < last, item.text);
    }
  }

  /** Runs a list whose status is only looked at: `set -e` does not act on it. */
  private *runCondition(list: List): Generator<void, boolean, void> {
    this.tested++;
    yield* this.runList(list);
    this.tested--;
    return this.status === 0 && !this.stopped();
  }

  /** `tested`: its status is looked at by && or ||. */
  private *runPipeline(pipeline: Pipeline, tested: boolean, text: string): Generator<void, void, void> {
    const lenient = tested || pipeline.negated;
    if (lenient) this.tested++;
    const [first, ...others] = pipeline.commands;
    if (others.length === 0) yield* this.runCommand(first!, false, text);
    else {
      yield* this.runStages(pipeline.commands, text);
      this.checkStatus();
    }
    if (lenient) this.tested--;
    if (pipeline.negated && !this.stopped()) this.status = this.status === 0 ? 1 : 0;
  }

  /** `set -e`. */
  private checkStatus(): void {
    if (this.status !== 0 && this.tested === 0 && this.options.has('e') && !this.stopped()) this.leaving = this.status;
  }

  private *runStages(commands: readonly Command[], text: string): Generator<void, void, void> {
    const { pids, status } = yield* this.startStages(commands, this.fds);
    if (pids.length > 0) yield* this.waitForeground(pids, text);
    if (status !== null) this.status = status;
  }

  /** Starts the stages of a pipeline; `status` is its status when the last one could not be started. */
  private *startStages(
    commands: readonly Command[],
    fds: readonly number[],
  ): Generator<void, { pids: number[]; status: number | null }, void> {
    const pids: number[] = [];
    let input = fds[0]!;
    for (const [i, command] of commands.entries()) {
      const last = i === commands.length - 1;
      const ends = last ? [-1, fds[1]!] : yield* this.pipe();
      if (ends === null) break;
      const [next, output] = ends;
      const leader = pids[0];
      const stageFds = [input, output!, ...fds.slice(2)];
      const pid = yield* this.fork(stageFds, child => child.runCommand(command, true), leader);
      if (i > 0) yield* this.close(input);
      if (!last) yield* this.close(output!);
      input = last ? fds[0]! : next!;
      if (pid < 0) break;
      pids.push(pid);
    }
    // A pipeline that could not be finished leaves its last reading end.
    if (input !== fds[0]) yield* this.close(input);
    return { pids, status: pids.length === commands.length ? null : usageError };
  }

  private *pipe(): Generator<void, number[] | null, void> {
    const ends = new Uint8Array(8);
    const errno = yield* this.sys.pipe(ends);
    if (errno < 0) {
      yield* this.fail(`cannot make a pipe: ${strerror(errno)}`, usageError);
      return null;
    }
    const view = new DataView(ends.buffer);
    const fds = [view.getUint32(0, true), view.getUint32(4, true)];
    for (const fd of fds) this.open.add(fd);
    return fds;
  }

  // ── Processes ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Starts a second process that runs `body` on a copy of this shell with these descriptors, and ends with the copy's status. `leader`: the
   * first process of its job. Returns its pid, or -errno after a message.
   */
  private *fork(
    fds: readonly number[],
    body: (child: Shell) => Generator<void, void, void>,
    leader?: number,
    background = false,
  ): Generator<void, number, void> {
    const child = new Shell(this.sys, this.name, new Map(), this);
    child.fds = fds;
    const reset = this.catchesInterrupt || this.group !== 0;
    // Without job control nothing but ignoring it keeps the terminal's Ctrl-C from what runs in the background.
    const deaf = background && this.group === 0 ? [SIG.INT, SIG.QUIT] : [];
    const before: number[] = [];
    for (const signal of deaf) before.push(yield* this.sys.signal(signal, 2));
    const pid = yield* this.sys.fork(gate => child.live(makeSys(gate), body, reset && deaf.length === 0));
    for (const [i, signal] of deaf.entries()) yield* this.sys.signal(signal, before[i]!);
    if (pid < 0) {
      yield* this.fail(`Cannot fork: ${strerror(pid)}`, usageError);
      return pid;
    }
    if (this.group !== 0) yield* this.sys.setpgid(pid, leader ?? 0);
    return pid;
  }

  /** The life of a fork. */
  private *live(
    sys: Sys,
    body: (child: Shell) => Generator<void, void, void>,
    reset: boolean,
  ): Generator<void, number, void> {
    this.sys = sys;
    for (const fd of this.open) {
      if (this.fds.includes(fd)) continue;
      this.open.delete(fd);
      yield* sys.close(fd);
    }
    yield* this.traps.resetForFork(sys);
    if (reset) for (const signal of [SIG.INT, SIG.TSTP]) yield* sys.signal(signal, 0);
    yield* body(this);
    return yield* this.finish();
  }

  /** The shell's end: the EXIT trap runs. Returns the exit status. */
  *finish(): Generator<void, number, void> {
    if (this.leaving === null) yield* this.pause();
    const status = this.leaving ?? this.status;
    const action = this.traps.takeExit();
    if (action === undefined) return status;
    this.leaving = null;
    this.interrupted = false;
    this.returning = false;
    this.skipping = 0;
    this.status = status;
    yield* this.runTrap(action);
    return this.leaving ?? status;
  }

  /** Everything that a fork has to do: when it is one program, that takes the fork's place. */
  private *runAll(list: List): Generator<void, void, void> {
    const [only, ...others] = list;
    if (only !== undefined && others.length + only.rest.length === 0 && !only.background && !only.first.negated) {
      if (only.first.commands.length === 1) return yield* this.runCommand(only.first.commands[0]!, true);
    }
    if (list.length === 0) this.status = 0;
    yield* this.runList(list);
  }

  private *runInBackground(item: AndOr): Generator<void, void, void> {
    yield* this.jobs.poll(this.sys);
    const job = yield* this.startBackground(item);
    if (job !== null) {
      this.lastBackground = job.pids.at(-1)!;
      if (this.interactive) yield* this.say(`[${job.id}] ${job.pids[0]}\n`);
      this.status = 0;
    }
  }

  private *startBackground(item: AndOr): Generator<void, Job | null, void> {
    const fds = [...this.fds];
    let empty = -1;
    if (this.group === 0) {
      empty = yield* this.sys.open('/dev/null', O.RDONLY, 0);
      this.open.add(empty);
      fds[0] = empty;
    }
    const { commands, negated } = item.first;
    let pids: number[] = [];
    if (item.rest.length === 0 && !negated && commands.length > 1) pids = (yield* this.startStages(commands, fds)).pids;
    else {
      const list: List = [{ ...item, background: false }];
      const body = function* (child: Shell): Generator<void, void, void> {
        child.tested = 0;
        yield* child.runAll(list);
      };
      const pid = yield* this.fork(fds, body, undefined, true);
      if (pid > 0) pids = [pid];
    }
    if (empty >= 0) yield* this.close(empty);
    return pids.length === 0 ? null : this.jobs.add(pids, item.text);
  }

  /** Waits for the processes of the command in the foreground and sets the status. With job control they have the terminal meanwhile. */
  private *waitForeground(pids: readonly number[], text: string): Generator<void, void, void> {
    yield* this.waitForJob(this.jobs.foreground(pids, text));
  }

  /** Lends the terminal to a job until it ends or stops; a stopped one is kept. */
  *waitForJob(job: Job): Generator<void, void, void> {
    yield* this.lendTerminal(job);
    job.state = 'running';
    const flags = this.group !== 0 ? WAIT.untraced : 0;
    for (const pid of job.alive) {
      let result: number;
      do {
        result = yield* collect(this.sys, job, pid, flags);
        if (this.sys.signalled()) yield* this.noteSignals();
      } while (result === -E.INTR);
    }
    if (this.group !== 0) yield* this.sys.tcsetpgrp(0, this.group);
    this.status = job.status;
    // A stage that stopped before the others ended leaves the job stopped.
    if (job.alive.size > 0) {
      job.state = 'stopped';
      const kept = this.jobs.keep(job);
      yield* this.say(`\n${this.jobs.line(kept)}`);
    } else {
      this.jobs.remove(job);
      if (this.catchesInterrupt && this.status === 128 + SIG.INT) this.interrupted = true;
    }
  }

  *lendTerminal(job: Job): Generator<void, void, void> {
    if (this.group !== 0) yield* this.sys.tcsetpgrp(0, job.pids[0]!);
  }

  private *waitForPid(pid: number): Generator<void, number, void> {
    const job = this.jobs.foreground([pid], '');
    while ((yield* collect(this.sys, job, pid, 0)) === -E.INTR) yield* this.noteSignals();
    if (this.catchesInterrupt && job.status === 128 + SIG.INT) this.interrupted = true;
    return job.status;
  }

  /** Signals that the shell itself outlives, trap or not. */
  catches(signal: number): boolean {
    return (this.catchesInterrupt && signal === SIG.INT) || (this.group !== 0 && signal === SIG.TSTP);
  }

  // ── Signals ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Takes the caught signals: traps are run before the next command, a SIGINT without one drops the command line. */
  *noteSignals(): Generator<void, void, void> {
    const caught = yield* this.sys.signals();
    this.traps.note(caught);
    if ((caught & (1 << SIG.INT)) !== 0 && !this.traps.has(SIG.INT)) this.interrupted = true;
  }

  /** Between two commands: signals, and other processes' turn. */
  private *pause(): Generator<void, void, void> {
    if (++this.commands % quantumCommands === 0) yield* this.sys.sched_yield();
    if (this.sys.signalled()) yield* this.noteSignals();
    for (let action = this.traps.next(); action !== undefined; action = this.traps.next()) yield* this.runTrap(action);
  }

  /** Runs a trap's action; `$?` is afterwards what it was. */
  private *runTrap(action: string): Generator<void, void, void> {
    const { status } = this;
    const outer = this.traps.statusBefore;
    this.traps.statusBefore = status;
    yield* this.runText(action);
    this.traps.statusBefore = outer;
    if (this.leaving === null && !this.returning) this.status = status;
  }

  // ── Commands ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Runs a command in this shell. `last`: the process ends with it, so that a program may take its place. */
  private *runCommand(command: Command, last: boolean, text = ''): Generator<void, void, void> {
    yield* this.pause();
    if (this.stopped() || (this.options.has('n') && !this.interactive)) return;
    this.line = command.line;
    if (command.kind === 'simple') {
      yield* this.runSimple(command, last, text);
      return this.checkStatus();
    }
    if (command.redirects.length === 0) return yield* this.runCompound(command, text);
    const streams = yield* this.redirectAll(command.redirects, new Expander(this));
    if (streams === null) return this.checkStatus();
    const outer = this.fds;
    this.fds = streams.fds;
    yield* this.runCompound(command, text);
    this.fds = outer;
    yield* this.closeAll(streams);
  }

  private *runCompound(command: Exclude<Command, SimpleCommand>, text: string): Generator<void, void, void> {
    switch (command.kind) {
      case 'group':
        return yield* this.runList(command.body);
      case 'subshell': {
        const pid = yield* this.fork(this.fds, child => child.runAll(command.body));
        if (pid > 0) yield* this.waitForeground([pid], text);
        return this.checkStatus();
      }
      case 'if': {
        for (const { condition, body } of command.branches) {
          if (yield* this.runCondition(condition)) return yield* this.runList(body);
          if (this.stopped()) return;
        }
        if (command.otherwise.length === 0) this.status = 0;
        return yield* this.runList(command.otherwise);
      }
      case 'while':
      case 'until':
        return yield* this.runLoop(command);
      case 'for':
        return yield* this.runFor(command);
      case 'case':
        return yield* this.runCase(command);
      case 'function':
        if (this.functions.size < LIMITS.definitionsMax || this.functions.has(command.name)) {
          this.functions.set(command.name, command.body);
          this.status = 0;
        } else yield* this.failHard(`${command.name}: more than ${LIMITS.definitionsMax} functions`, usageError);
    }
  }

  private *runLoop(loop: Command & { kind: 'while' | 'until' }): Generator<void, void, void> {
    let status = 0;
    this.loops++;
    for (;;) {
      yield* this.pause();
      const holds = yield* this.runCondition(loop.condition);
      if (!this.stopped()) {
        if (holds !== (loop.kind === 'while')) break;
        yield* this.runList(loop.body);
        ({ status } = this);
      }
      if (!this.goesOn()) break;
    }
    this.loops--;
    if (!this.stopped()) this.status = status;
  }

  private *runFor(loop: Command & { kind: 'for' }): Generator<void, void, void> {
    const words = yield* this.expandFields(loop.words ?? [], loop.words === null ? this.positional : null);
    if (words === null) return;
    if (words.length === 0) this.status = 0;
    this.loops++;
    for (const word of words) {
      const refusal = this.assign(loop.name, word);
      if (refusal !== null) yield* this.failHard(refusal, usageError);
      else {
        yield* this.pause();
        yield* this.runList(loop.body);
      }
      if (!this.goesOn()) break;
    }
    this.loops--;
  }

  /** After the body of a loop: false when the loop ends. */
  private goesOn(): boolean {
    if (this.skipping > 0 && this.leaving === null) {
      this.skipping--;
      return this.skipping === 0 && this.continues;
    }
    return !this.stopped();
  }

  private *runCase(command: Command & { kind: 'case' }): Generator<void, void, void> {
    const expander = new Expander(this);
    const subject = yield* expander.text(command.word);
    for (const { patterns, body } of command.items) {
      for (const pattern of patterns) {
        if (expander.fault !== null) break;
        const compiled = compilePattern(yield* expander.casePattern(pattern));
        if (expander.fault !== null || !matches(compiled, subject)) continue;
        if (body.length === 0) this.status = 0;
        return yield* this.runList(body);
      }
    }
    this.status = 0;
    if (expander.fault !== null) yield* this.failHard(expander.fault, usageError);
  }

  private *expandFields(
    words: SimpleCommand['words'],
    given: readonly string[] | null,
  ): Generator<void, readonly string[] | null, void> {
    if (given !== null) return given;
    const expander = new Expander(this);
    const fields = yield* expander.fields(words);
    if (expander.fault === null) return fields;
    yield* this.failHard(expander.fault, usageError);
    return null;
  }

  // ── Simple commands ────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private *runSimple(command: SimpleCommand, last: boolean, text: string): Generator<void, void, void> {
    const expander = new Expander(this);
    this.substituted = null;
    const argv = yield* expander.command(command.words);
    const body = this.functions.get(argv[0] ?? '');
    const builtin = body === undefined ? builtins.get(argv[0] ?? '') : undefined;
    const streams = expander.fault === null ? yield* this.redirectAll(command.redirects, expander) : null;
    const assignments = streams === null ? null : yield* this.expandAssignments(command, argv, expander);
    if (streams === null || assignments === null) {
      if (expander.fault !== null) yield* this.failHard(expander.fault, usageError, streams?.fds[2]);
      else if (builtin?.special && !this.interactive) this.leaving = this.status;
      if (streams !== null) yield* this.closeAll(streams);
      return;
    }
    if (this.options.has('x')) yield* this.trace(assignments, argv);
    if (argv.length === 0) this.status = this.substituted ?? 0;
    else if (body !== undefined) yield* this.runFunction(body, argv, assignments, streams.fds);
    else if (builtin !== undefined) {
      yield* this.runBuiltin(builtin, argv, assignments, streams);
      if (argv[0] === 'exec' && argv.length === 1) return yield* this.keepOpen(streams);
    } else yield* this.runProgram(argv, assignments, streams.fds, last, text);
    yield* this.closeAll(streams);
  }

  /** The assignments before a command, each seen by the next; null when one fails. Without a command they are the shell's own. */
  private *expandAssignments(
    command: SimpleCommand,
    argv: readonly string[],
    expander: Expander,
  ): Generator<void, Map<string, string> | null, void> {
    const assignments = new Map<string, string>();
    if (argv.length > 0) this.prefix = assignments;
    for (const { name, value } of command.assignments) {
      assignments.set(name, yield* expander.text(value, true));
      if (argv.length === 0 && expander.fault === null) expander.fault = this.assign(name, assignments.get(name)!);
    }
    this.prefix = null;
    return expander.fault === null ? assignments : null;
  }

  private *runFunction(
    body: Command,
    argv: readonly string[],
    assignments: ReadonlyMap<string, string>,
    fds: readonly number[],
  ): Generator<void, void, void> {
    const outer = { positional: this.positional, fds: this.fds, loops: this.loops };
    this.variables.pushFrame();
    for (const [name, value] of assignments) {
      this.variables.local(name);
      this.assign(name, value);
      this.variables.mark(name, { exported: true });
    }
    this.positional = argv.slice(1);
    this.fds = fds;
    this.loops = 0;
    this.calls++;
    yield* this.nest(() => this.runCommand(body, false));
    this.calls--;
    this.returning = false;
    Object.assign(this, outer);
    this.variables.popFrame();
  }

  private *runBuiltin(
    builtin: Builtin,
    argv: readonly string[],
    assignments: ReadonlyMap<string, string>,
    streams: Streams,
  ): Generator<void, void, void> {
    const keeps = builtin.special === true;
    const framed = !keeps && assignments.size > 0;
    if (framed) this.variables.pushFrame();
    for (const [name, value] of assignments) {
      if (framed) this.variables.local(name);
      const refusal = this.assign(name, value);
      if (refusal !== null) yield* this.failHard(refusal, usageError);
      if (argv[0] === 'exec') this.variables.mark(name, { exported: true });
    }
    const outer = this.fds;
    this.fds = streams.fds;
    const broken: number[] = [];
    const out = new Output(this.sys, streams.fds[1] ?? -1, function* (errno) {
      broken.push(errno);
    });
    const status = this.stopped() ? this.status : yield* builtin.run(this, argv, out);
    yield* out.flush();
    this.status = status;
    for (const errno of broken) {
      yield* this.say(`${argv[0]}: write error: ${strerror(errno)}\n`);
      this.status = 1;
    }
    this.fds = outer;
    if (framed) this.variables.popFrame();
  }

  /** The builtin or program of a name that may also be a function's. What would end a script here is a status only. */
  *runWithoutFunctions(argv: readonly string[], out: Output): Generator<void, number, void> {
    const builtin = builtins.get(argv[0]!);
    if (builtin === undefined) {
      yield* this.runProgram(argv, new Map(), this.fds, false, argv.join(' '));
      return this.status;
    }
    this.lenient++;
    const status = yield* builtin.run(this, argv, out);
    this.lenient--;
    return status;
  }

  private *runProgram(
    argv: readonly string[],
    assignments: ReadonlyMap<string, string>,
    fds: readonly number[],
    last: boolean,
    text: string,
  ): Generator<void, void, void> {
    const env = this.variables.environment();
    for (const [name, value] of assignments) env.set(name, value);
    const replace = last && !this.traps.any();
    const pid = yield* this.startProgram(argv, env, fds, replace ? 'exec' : 'spawn');
    if (pid <= 0) return;
    if (this.group !== 0) yield* this.sys.setpgid(pid, 0);
    yield* this.waitForeground([pid], text);
  }

  /** Starts a program, or becomes it; on failure says why, sets the status and returns -errno. */
  *startProgram(
    argv: readonly string[],
    env: ReadonlyMap<string, string>,
    fds: readonly number[],
    how: 'spawn' | 'exec',
  ): Generator<void, number, void> {
    const name = argv[0]!;
    const path = yield* findProgram(this.sys, name, env.get('PATH') ?? this.get('PATH') ?? defaultPath);
    const pid = typeof path === 'number' ? path : yield* launch(this.sys, path, argv, env, fds, -1, how);
    if (pid > 0) return pid;
    const missing = pid === -E.NOENT || pid === -E.NOTDIR;
    const reason = missing ? 'not found' : strerror(pid);
    yield* this.fail(`${name}: ${reason}`, missing ? STATUS.notFound : STATUS.cannotExecute, fds[2]);
    return pid;
  }

  /** `set -x`: the command as it will be run, after PS4. */
  private *trace(assignments: ReadonlyMap<string, string>, argv: readonly string[]): Generator<void, void, void> {
    const shown = [
      ...[...assignments].map(([name, value]) => `${name}=${quoteIfNeeded(value)}`),
      ...argv.map(quoteIfNeeded),
    ];
    yield* this.say(`${this.get('PS4') ?? '+ '}${shown.join(' ')}\n`);
  }

  // ── Redirections ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** What redirections make of the descriptors; null after a message, with what was opened closed again. */
  private *redirectAll(redirects: readonly Redirect[], expander: Expander): Generator<void, Streams | null, void> {
    const streams: Streams = { fds: [...this.fds], opened: [] };
    for (const redirect of redirects) {
      const why = yield* this.redirect(redirect, expander, streams);
      if (why === null) continue;
      if (expander.fault === null) yield* this.fail(why, usageError, streams.fds[2]);
      yield* this.closeAll(streams);
      return null;
    }
    return streams;
  }

  /** Returns what is wrong, or null. */
  private *redirect(redirect: Redirect, expander: Expander, streams: Streams): Generator<void, string | null, void> {
    const { fd, operator } = redirect;
    const target = yield* expander.text(redirect.target);
    if (expander.fault !== null) return expander.fault;
    if (fd >= SPAWN_FDS) return `${fd}: ${strerror(E.BADF)}`;
    if (operator === '>&' || operator === '<&') {
      if (!/^(?:-|[0-9]+)$/.test(target)) return `${target}: bad fd number`;
      const source = target === '-' ? -1 : (streams.fds[Number(target)] ?? -1);
      if (source < 0 && target !== '-') return `${target}: ${strerror(E.BADF)}`;
      setDescriptor(streams.fds, fd, source);
      return null;
    }
    const opened = operator === '<<' ? yield* this.hereDocument(target) : yield* this.openFile(target, operator);
    if (opened < 0) return `${operator === '<<' ? '<<' : target}: ${strerror(opened)}`;
    this.open.add(opened);
    streams.opened.push(opened);
    setDescriptor(streams.fds, fd, opened);
    return null;
  }

  private *openFile(path: string, operator: keyof typeof openFlags): Generator<void, number, void> {
    const mode = 0o666;
    if (operator !== '>' || !this.options.has('C')) return yield* this.sys.open(path, openFlags[operator], mode);
    // noclobber: devices may be written to, files must be new.
    const there = yield* stat(this.sys, path);
    const device = typeof there !== 'number' && there.kind !== KIND.file;
    return yield* this.sys.open(path, openFlags['>'] | (device ? 0 : O.EXCL), mode);
  }

  private *hereDocument(text: string): Generator<void, number, void> {
    const fd = yield* this.sys.memfd('here-document');
    if (fd < 0) return fd;
    yield* writeAll(this.sys, fd, utf8Encode(text));
    yield* this.sys.lseek(fd, 0, SEEK.set);
    return fd;
  }

  /** `exec >file`: what the redirections made stays, and what it replaced is closed. */
  private *keepOpen(streams: Streams): Generator<void, void, void> {
    const replaced = [...this.fds, ...streams.opened].filter(fd => fd > 2 && !streams.fds.includes(fd));
    this.fds = streams.fds;
    for (const fd of new Set(replaced)) yield* this.close(fd);
  }

  private *closeAll(streams: Streams): Generator<void, void, void> {
    for (const fd of streams.opened) yield* this.close(fd);
  }

  private *close(fd: number): Generator<void, void, void> {
    this.open.delete(fd);
    yield* this.sys.close(fd);
  }
}

/** Puts a descriptor into a table, closed ones between. */
function setDescriptor(fds: number[], fd: number, source: number): void {
  while (fds.length < fd) fds.push(-1);
  fds[fd] = source;
}
