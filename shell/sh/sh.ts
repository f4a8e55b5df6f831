// sh: the command interpreter's ways of running: a command text, a script, standard input, a person at a terminal, and the machine's own
// /dev/exec. Each is a source of lines in front of the same executor.

import { E, IOCTL, LIMITS, O, SIG, utf8Decode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { readText } from '../lib/files.ts';
import { define, signalStatus } from '../lib/program.ts';
import type { Manual } from '../lib/program.ts';
import { concat } from '../lib/stdio.ts';
import { Shell, usageError } from './exec.ts';
import { ownHistoryFile } from './history.ts';
import { LineReader } from './lines.ts';
import { Parser } from './parse.ts';

const options = {
  c: { value: 'COMMANDS', help: 'run COMMANDS; the operands are $0, $1, …' },
  a: { help: 'export what is assigned' },
  C: { help: '> does not overwrite files' },
  e: { help: 'leave when a command fails' },
  f: { help: 'no pathname expansion' },
  n: { help: 'read commands, do not run them' },
  u: { help: 'unset variables are errors' },
  v: { help: 'print commands as they are read' },
  x: { help: 'print commands before they run' },
  o: { value: 'NAME', many: true, help: 'an option by its long name: errexit, nounset, …' },
  s: { help: 'commands come from standard input; the operands are $1, …' },
  i: { help: 'behave as if a person were typing' },
  serve: { help: 'run what the machine hands in through /dev/exec' },
} as const;

const description = [
  'Runs commands from COMMANDS, FILE or standard input. The language is POSIX, as dash has it.',
  'Words: quoting with \\ \' "; $x ${x} ${#x} ${x:-word} ${x:=word} ${x:?word} ${x:+word} ${x#pattern} ${x##pattern} ${x%pattern} ${x%%pattern}; $? $$ $! $# $- $0 $1 … $@ $*; $(commands) and `commands`; $((arithmetic)) of 64 bits with the operators of C and assignment; ~ and ~user; patterns * ? […]. Without the colon, :- and its kin look only at whether x is set. Unquoted results are split at the characters of IFS.',
  'Commands: pipes |, lists ; && || ! and & for the background, ( subshell ), { group; }, if, while, until, for, case, functions name() { …; } with local and return. Assignments before a command are for it alone.',
  'Redirections: < > >> >| <> <<word <<-word, n>&m, n>&-, for the descriptors 0 to 9.',
  'Builtins: . : [ alias bg break cd command continue echo eval exec exit export false fg getopts jobs kill local printf pwd read readonly return set shift test times trap true type umask unalias unset wait; each has its own page. A command is a function, a builtin, or a program found in PATH.',
  'Variables it uses: HOME, PATH, IFS, PWD, OLDPWD, CDPATH, OPTIND, OPTARG, PS1, PS2, PS4, PPID, LINENO, HISTFILE.',
  'Jobs: at a terminal every pipeline is a process group. Ctrl-C ends the one in the foreground and Ctrl-Z stops it; see jobs, fg, bg, wait, kill. A stage of a pipe that writes faster than the next one reads waits for it, and ends by SIGPIPE (status 141) when nobody reads any more.',
  'The exit status is that of the last command; 2 for a syntax error, 126 and 127 when a command cannot be run or is not found, 128 + N when signal N ended it. What is larger than `man limits` says is refused with a message.',
].join('\n\n');

export const sh = define({
  name: 'sh',
  summary: 'command interpreter',
  usage: [
    '[-aCefnuvx] [-o NAME] [FILE [ARG]...]',
    '[OPTION]... -c COMMANDS [NAME [ARG]...]',
    '[OPTION]... -s [ARG]...',
  ],
  options,
  order: 'posix',
  usageStatus: 2,
  description,
  examples: [
    ["sh -c 'echo $1' sh hello", 'prints hello'],
    ['sh /etc/rc', 'runs the boot script'],
  ],
  *main(ctx) {
    const { sys, options, operands } = ctx;
    const shell = new Shell(sys, 'sh', ctx.env);
    for (const letter of ['a', 'C', 'e', 'f', 'n', 'u', 'v', 'x', 's'] as const)
      if (options[letter]) shell.options.set(letter, true);
    for (const name of options.o)
      if (!shell.options.set(name, true)) return yield* shell.fail(`Illegal option -o ${name}`, usageError);
    if (options.serve) return yield* serve(shell);
    if (options.c !== undefined) {
      if (operands.length > 0) shell.name = operands[0]!;
      shell.positional = operands.slice(1);
      yield* shell.runText(options.c);
      return yield* shell.finish();
    }
    const [file, ...args] = operands;
    if (options.s) shell.positional = [...operands];
    else if (file !== undefined) {
      const text = yield* readText(sys, file);
      if (typeof text === 'number') {
        yield* ctx.fail(`cannot open ${file}`, -text);
        return usageError;
      }
      shell.name = file;
      shell.positional = args;
      yield* shell.runText(text, 1, true);
      return yield* shell.finish();
    }
    shell.options.set('s', true);
    const terminal = (yield* sys.ioctl(0, IOCTL.isatty, 0)) === 1;
    shell.interactive = options.i || terminal;
    yield* shell.interactive ? interact(shell, ctx.manual, terminal) : readCommands(shell);
    return yield* shell.finish();
  },
});

/** Ctrl-C ends the command in the foreground, not this shell. */
function* catchInterrupt(shell: Shell): Generator<void, void, void> {
  yield* shell.sys.signal(SIG.INT, 1);
  shell.catchesInterrupt = true;
}

/** Every pipeline becomes a process group, which the terminal's Ctrl-C and Ctrl-Z reach alone. Returns which group had the terminal. */
function* controlJobs(shell: Shell): Generator<void, number, void> {
  const { sys } = shell;
  // Caught rather than ignored: programs would inherit that.
  yield* sys.signal(SIG.TSTP, 1);
  yield* sys.setpgid(0, 0);
  shell.group = yield* sys.getpid();
  shell.options.set('m', true);
  return yield* sys.tcsetpgrp(0, shell.group);
}

// ── A person ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function* interact(shell: Shell, manual: Manual, terminal: boolean): Generator<void, void, void> {
  const { sys } = shell;
  yield* catchInterrupt(shell);
  shell.options.set('i', true);
  const before = terminal ? yield* controlJobs(shell) : 0;
  shell.assign('HISTFILE', yield* ownHistoryFile(sys, name => shell.get(name)));
  shell.variables.mark('HISTFILE', { exported: true });
  const profile = yield* readText(sys, '/etc/profile');
  if (typeof profile === 'string') yield* shell.runText(profile);
  const lines = new LineReader(shell, manual);
  let text = ''; // lines of a command that is not complete yet
  let warned = false; // that jobs are stopped
  for (;;) {
    if (shell.leaving !== null) {
      if (warned || !shell.jobs.list.some(job => job.state === 'stopped')) break;
      warned = true;
      shell.leaving = null;
      yield* shell.say('You have stopped jobs.\n');
    }
    yield* tellJobs(shell);
    const prompt = text === '' ? (shell.get('PS1') ?? 'sis> ') : (shell.get('PS2') ?? '> ');
    const line = yield* lines.read(prompt);
    if (line === 'end') {
      shell.leaving = shell.status;
      continue;
    }
    shell.interrupted = false;
    if (line === 'interrupt') {
      text = '';
      shell.status = signalStatus(SIG.INT);
      continue;
    }
    text += `${line.text}\n`;
    if (isIncomplete(shell, text)) continue;
    yield* lines.remember(text);
    yield* shell.runText(text);
    text = '';
  }
  if (terminal) yield* sys.tcsetpgrp(0, before);
}

/** Says which jobs have ended or stopped since the last prompt. */
function* tellJobs(shell: Shell): Generator<void, void, void> {
  const { jobs } = shell;
  yield* jobs.poll(shell.sys);
  for (const job of jobs.list) if (job.state === 'done') yield* shell.say(jobs.line(job));
  jobs.prune();
}

/** True when the text ends inside a command: a quote, a compound command or a here-document. */
function isIncomplete(shell: Shell, text: string): boolean {
  const parser = new Parser(text, 1, shell.aliases);
  for (;;) {
    const result = parser.next();
    if (result.kind === 'fault') return result.fault.incomplete;
    if (result.kind === 'end') return parser.hereIsOpen;
  }
}

// ── Standard input ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Commands from standard input: reads no further than the line that is run, so that commands may read the rest. */
function* readCommands(shell: Shell): Generator<void, void, void> {
  let text = '';
  let firstLine = 1;
  let lines = 0;
  const read = yield* lineReader(shell.sys);
  while (shell.leaving === null) {
    const line = yield* read();
    if (line === null && text === '') break;
    text += line ?? '';
    lines++;
    if (line !== null && isIncomplete(shell, text)) continue;
    yield* shell.runText(text, firstLine, true);
    firstLine += lines;
    lines = 0;
    text = '';
  }
}

/** Lines of descriptor 0 with their newline, null at the end: from the terminal driver, by seeking back, or byte by byte. */
function* lineReader(sys: Sys): Generator<void, () => Generator<void, string | null, void>, void> {
  const buffer = new Uint8Array(LIMITS.windowBytes);
  const seekable = (yield* sys.lseek(0, 0, 1)) >= 0;
  return function* () {
    const bytes: number[] = [];
    for (;;) {
      const n = yield* sys.read(0, seekable ? buffer : buffer.subarray(0, 1));
      if (n <= 0) return bytes.length === 0 ? null : utf8Decode(Uint8Array.from(bytes));
      const newline = buffer.subarray(0, n).indexOf(10);
      const taken = newline < 0 ? n : newline + 1;
      for (let i = 0; i < taken; i++) bytes.push(buffer[i]!);
      if (taken < n) yield* sys.lseek(0, taken - n, 1);
      if (newline >= 0) return utf8Decode(Uint8Array.from(bytes));
    }
  };
}

// ── The machine ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** `sh --serve`: descriptor 0 gives command texts, each ended by a read that does not fill the buffer; the state lasts from one to the next, and `exit` ends only the text. */
function* serve(shell: Shell): Generator<void, number, void> {
  const { sys } = shell;
  yield* catchInterrupt(shell);
  const empty = yield* sys.open('/dev/null', O.RDONLY, 0);
  const buffer = new Uint8Array(LIMITS.windowBytes);
  let pieces: Uint8Array[] = [];
  for (;;) {
    const n = yield* sys.read(0, buffer);
    if (n === -E.INTR) continue;
    if (n <= 0 && pieces.length === 0) return 0;
    pieces.push(buffer.slice(0, n));
    if (n === buffer.length) continue;
    const text = utf8Decode(concat(pieces));
    pieces = [];
    shell.fds = [empty, 1, 2];
    shell.leaving = null;
    shell.interrupted = false;
    const status = yield* shell.runText(text);
    yield* sys.ioctl(0, IOCTL.execDone, shell.leaving ?? status);
  }
}
