// sh: the command interpreter's ways of running: a command text, a script, standard input, a person at a terminal, and the machine's own
// /dev/exec. Each is a source of lines in front of the same executor.

import { E, IOCTL, LIMITS, O, READLINE, SIG, utf8Decode, utf8Encode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { readText } from '../lib/files.ts';
import { define, signalStatus } from '../lib/program.ts';
import type { Manual } from '../lib/program.ts';
import { concat } from '../lib/stdio.ts';
import { setOptions } from './builtins.ts';
import { Shell, usageError } from './exec.ts';
import { ownHistoryFile } from './history.ts';
import { LineReader } from './lines.ts';
import { Parser } from './parse.ts';

const options = {
  c: { value: 'COMMANDS', help: 'run COMMANDS; the operands are $0, $1, …' },
  e: { help: 'leave when a command fails' },
  f: { help: 'no pathname expansion' },
  u: { help: 'unset variables are errors' },
  x: { help: 'print commands before they run' },
  i: { help: 'behave as if a person were typing' },
  serve: { help: 'run what the machine hands in through /dev/exec' },
  subshell: { value: 'STATUS', help: 'used by the shell for its own subshells: $? begins as STATUS' },
} as const;

export const sh = define({
  name: 'sh',
  summary: 'command interpreter',
  usage: ['[-efuxi] [FILE [ARG]...]', '[-efux] -c COMMANDS [NAME [ARG]...]'],
  options,
  order: 'posix',
  usageStatus: 2,
  description:
    'Runs commands from COMMANDS, FILE or standard input. The language is POSIX: quoting with \\ \' ", variables $x ${x} $? $$ $# $1 "$@", ${x:-word} and its kin, pipes, && || ; !, redirections < > >> 2> 2>&1, patterns * ? […], comments. A command is a builtin, or a program found in PATH. The exit status is that of the last command; 2 for a syntax error, 126 and 127 when a command cannot be run or is not found.',
  examples: [
    ["sh -c 'echo $1' sh hello", 'prints hello'],
    ['sh /etc/rc', 'runs the boot script'],
  ],
  *main(ctx) {
    const { sys, options, operands } = ctx;
    const shell = new Shell(sys, 'sh', ctx.env);
    for (const letter of 'efux') if (options[letter as 'e' | 'f' | 'u' | 'x']) setOptions(shell, `-${letter}`);
    if (options.subshell !== undefined) shell.status = Number(options.subshell);
    if (options.serve) return yield* serve(shell);
    if (options.c !== undefined) {
      if (operands.length > 0) shell.name = operands[0]!;
      shell.positional = operands.slice(1);
      const status = yield* shell.runText(options.c);
      return shell.leaving ?? status;
    }
    const [file, ...args] = operands;
    if (file !== undefined) {
      const text = yield* readText(sys, file);
      if (typeof text === 'number') {
        yield* ctx.fail(`cannot open ${file}`, -text);
        return usageError;
      }
      shell.name = file;
      shell.positional = args;
      const status = yield* shell.runText(text);
      return shell.leaving ?? status;
    }
    shell.interactive = options.i || (yield* sys.ioctl(0, IOCTL.isatty, 0)) === 1;
    return yield* shell.interactive ? interact(shell, ctx.manual) : readCommands(shell);
  },
});

/** Ctrl-C ends the command in the foreground, not this shell. */
function* catchInterrupt(shell: Shell): Generator<void, void, void> {
  yield* shell.sys.signal(SIG.INT, 1);
  shell.catchesInterrupt = true;
}

// ── A person ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function* interact(shell: Shell, manual: Manual): Generator<void, number, void> {
  const { sys } = shell;
  yield* catchInterrupt(shell);
  shell.set('HISTFILE', yield* ownHistoryFile(sys, name => shell.get(name)), true);
  const profile = yield* readText(sys, '/etc/profile');
  if (typeof profile === 'string') yield* shell.runText(profile);
  const lines = new LineReader(shell, manual);
  let text = ''; // lines of a command that is not complete yet
  while (shell.leaving === null) {
    const prompt = text === '' ? (shell.get('PS1') ?? 'sis> ') : (shell.get('PS2') ?? '> ');
    const line = yield* lines.read(prompt);
    if (line === 'end') break;
    shell.interrupted = false;
    if (line === 'interrupt') {
      text = '';
      shell.status = signalStatus(SIG.INT);
      continue;
    }
    text += `${line.text}\n`;
    if (isIncomplete(text)) continue;
    yield* lines.remember(text);
    yield* shell.runText(text);
    text = '';
  }
  return shell.leaving ?? shell.status;
}

function isIncomplete(text: string): boolean {
  const parser = new Parser(text);
  for (;;) {
    const result = parser.next();
    if (result.kind === 'fault') return result.fault.incomplete;
    if (result.kind === 'end') return false;
  }
}

// ── Standard input ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Commands from standard input: reads no further than the line that is run, so that commands may read the rest. */
function* readCommands(shell: Shell): Generator<void, number, void> {
  let text = '';
  let firstLine = 1;
  let lines = 0;
  const read = yield* lineReader(shell.sys);
  while (shell.leaving === null) {
    const line = yield* read();
    if (line === null && text === '') break;
    text += line ?? '';
    lines++;
    if (line !== null && isIncomplete(text)) continue;
    yield* shell.runText(text, firstLine);
    firstLine += lines;
    lines = 0;
    text = '';
  }
  return shell.leaving ?? shell.status;
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
