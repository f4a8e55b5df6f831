// The builtins: commands that change the shell itself, and so cannot be programs. Each has its manual page beside it.

import { E, LIMITS, strerror, utf8Decode } from '../../kernel/abi/index.ts';
import { defaultPath, findProgram, launch, waitFor, STATUS } from '../lib/exec.ts';
import { readText } from '../lib/files.ts';
import type { Page } from '../lib/program.ts';
import type { Output } from '../lib/stdio.ts';
import type { Shell } from './exec.ts';
import { quote } from './quote.ts';

export interface Builtin extends Page {
  /** POSIX's special builtins: assignments before them last. */
  readonly special?: true;
  run(shell: Shell, argv: readonly string[], out: Output): Generator<void, number, void>;
}

const nameRule = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** A status argument: the last command's when absent, null when it is not a number. */
function statusArgument(shell: Shell, text: string | undefined): number | null {
  if (text === undefined) return shell.status;
  return /^[0-9]+$/.test(text) ? Number(text) & 0xff : null;
}

const table: readonly Builtin[] = [
  {
    name: ':',
    special: true,
    summary: 'do nothing, successfully',
    usage: ['[ARG]...'],
    description: 'Expands its arguments and returns 0.',
    *run() {
      return 0;
    },
  },
  {
    name: '.',
    special: true,
    summary: 'run the commands of a file in this shell',
    usage: ['FILE [ARG]...'],
    description:
      'Reads FILE (searched in PATH when it has no slash) and runs it in this shell. ARGs become $1, $2, … meanwhile.',
    run: source,
  },
  {
    name: 'source',
    summary: 'run the commands of a file in this shell',
    usage: ['FILE [ARG]...'],
    description: 'The same as `.`.',
    run: source,
  },
  {
    name: 'cd',
    summary: 'change the working directory',
    usage: ['[DIRECTORY]', '-'],
    description:
      'Makes DIRECTORY the working directory; without one, $HOME. `-` is $OLDPWD, and its name is printed. Sets PWD and OLDPWD.',
    *run(shell, argv, out) {
      const target = argv[1] === '-' ? shell.get('OLDPWD') : (argv[1] ?? shell.get('HOME'));
      if (argv.length > 2) return yield* shell.fail('cd: too many arguments', 2);
      if (target === undefined) return yield* shell.fail(`cd: ${argv[1] === '-' ? 'OLDPWD' : 'HOME'} not set`, 2);
      const before = yield* workingDirectory(shell);
      const errno = yield* shell.sys.chdir(target);
      if (errno < 0) return yield* shell.fail(`cd: ${target}: ${strerror(errno)}`, 2);
      const now = yield* workingDirectory(shell);
      shell.set('OLDPWD', before);
      shell.set('PWD', now);
      if (argv[1] === '-') yield* out.print(`${now}\n`);
      return 0;
    },
  },
  {
    name: 'eval',
    special: true,
    summary: 'run arguments as a command line',
    usage: ['[ARG]...'],
    description: 'Joins its arguments with spaces and runs the result in this shell.',
    *run(shell, argv) {
      const text = argv.slice(1).join(' ');
      shell.status = 0;
      return yield* shell.runText(text);
    },
  },
  {
    name: 'exec',
    special: true,
    summary: 'redirect the shell, or end it with a command',
    usage: ['[COMMAND [ARG]...]'],
    description: 'With COMMAND: runs it and leaves with its status. Without: redirections on the line stay in force.',
    *run(shell, argv) {
      if (argv.length === 1) return 0;
      const env = new Map(shell.list().flatMap(v => (v.exported ? [[v.name, v.value] as const] : [])));
      const path = yield* findProgram(shell.sys, argv[1]!, shell.get('PATH') ?? defaultPath);
      const pid =
        typeof path === 'number'
          ? path
          : yield* launch(shell.sys, path, argv.slice(1), env, [shell.fds[0]!, shell.fds[1]!, shell.fds[2]!]);
      if (pid < 0) {
        const missing = pid === -E.NOENT;
        yield* shell.fail(
          `exec: ${argv[1]}: ${missing ? 'not found' : strerror(pid)}`,
          missing ? STATUS.notFound : STATUS.cannotExecute,
        );
      } else shell.status = yield* waitFor(shell.sys, pid);
      if (pid >= 0 || !shell.interactive) shell.leaving = shell.status;
      return shell.status;
    },
  },
  {
    name: 'exit',
    special: true,
    summary: 'leave the shell',
    usage: ['[STATUS]'],
    description: 'Ends the shell with STATUS, or with the status of the last command.',
    *run(shell, argv) {
      const status = statusArgument(shell, argv[1]);
      if (status === null) yield* shell.fail(`exit: Illegal number: ${argv[1]}`, 2);
      return (shell.leaving = status ?? 2);
    },
  },
  {
    name: 'export',
    special: true,
    summary: 'give variables to the commands that are run',
    usage: ['[-p]', 'NAME[=VALUE]...'],
    description:
      'Marks each NAME for the environment of commands, setting it to VALUE if given. Without names lists those marked.',
    *run(shell, argv, out) {
      const names = argv.slice(1).filter(a => a !== '-p' && a !== '--');
      if (names.length === 0) {
        for (const v of shell.list()) if (v.exported) yield* out.print(`export ${v.name}=${quote(v.value)}\n`);
      }
      for (const text of names) {
        const eq = text.indexOf('=');
        const name = eq < 0 ? text : text.slice(0, eq);
        if (!nameRule.test(name)) return yield* shell.fail(`export: ${name}: bad variable name`, 2);
        if (eq < 0) shell.export(name);
        else shell.set(name, text.slice(eq + 1), true);
      }
      return 0;
    },
  },
  {
    name: 'read',
    summary: 'read a line into variables',
    usage: ['[-r] NAME...'],
    description:
      'Reads a line from standard input and splits it by IFS; the last NAME takes the rest. A backslash joins lines and makes the next character ordinary, unless -r. Returns 1 at the end of input.',
    *run(shell, argv) {
      const names = argv.slice(1).filter(a => a !== '-r');
      if (names.length === 0) return yield* shell.fail('read: arg count', 2);
      let { text, ended } = yield* shell.readLine();
      while (!argv.includes('-r') && /(?:^|[^\\])(?:\\\\)*\\$/.test(text) && !ended) {
        const more = yield* shell.readLine();
        text = text.slice(0, -1) + more.text;
        ended = more.ended;
      }
      splitInto(shell, names, argv.includes('-r') ? text : text.replace(/\\(.)/gs, '$1'));
      return ended ? 1 : 0;
    },
  },
  {
    name: 'return',
    special: true,
    summary: 'end a sourced file',
    usage: ['[STATUS]'],
    description: 'Ends the file being run by `.` with STATUS, or with the status of the last command.',
    *run(shell, argv) {
      const status = statusArgument(shell, argv[1]);
      shell.returning = true;
      return status ?? (yield* shell.fail(`return: Illegal number: ${argv[1]}`, 2));
    },
  },
  {
    name: 'set',
    special: true,
    summary: 'set shell options and parameters',
    usage: ['[-efux] [+efux] [--] [ARG]...'],
    description:
      'Without arguments lists the variables. -e: leave when a command fails. -f: no pathname expansion. -u: unset variables are errors. -x: print commands. `+` turns an option off. ARGs become $1, $2, …',
    *run(shell, argv, out) {
      if (argv.length === 1) {
        for (const v of shell.list()) yield* out.print(`${v.name}=${quote(v.value)}\n`);
      }
      for (let i = 1; i < argv.length; i++) {
        const arg = argv[i]!;
        if (arg === '--' || !/^[-+]./.test(arg)) {
          shell.positional = argv.slice(arg === '--' ? i + 1 : i);
          return 0;
        }
        const bad = setOptions(shell, arg);
        if (bad !== null) return yield* shell.fail(`set: Illegal option ${arg[0]}${bad}`, 2);
      }
      return 0;
    },
  },
  {
    name: 'shift',
    special: true,
    summary: 'drop the first parameters',
    usage: ['[N]'],
    description: 'Drops the first N (default 1) of $1, $2, …',
    *run(shell, argv) {
      const n = statusArgument(shell, argv[1] ?? '1');
      if (n === null) return yield* shell.fail(`shift: Illegal number: ${argv[1]}`, 2);
      if (n > shell.positional.length) return yield* shell.fail("shift: can't shift that many", 2);
      shell.positional = shell.positional.slice(n);
      return 0;
    },
  },
  {
    name: 'type',
    summary: 'say what a command name stands for',
    usage: ['NAME...'],
    description: 'Says of each NAME whether it is a shell builtin or which file it is.',
    *run(shell, argv, out) {
      let status = 0;
      for (const name of argv.slice(1)) {
        const path = builtins.has(name) ? '' : yield* findProgram(shell.sys, name, shell.get('PATH') ?? defaultPath);
        if (path === '') yield* out.print(`${name} is a shell builtin\n`);
        else if (typeof path === 'string') yield* out.print(`${name} is ${path}\n`);
        else {
          yield* out.print(`${name}: not found\n`);
          status = STATUS.notFound;
        }
      }
      return status;
    },
  },
  {
    name: 'unset',
    special: true,
    summary: 'forget variables',
    usage: ['NAME...'],
    description: 'Removes each variable NAME.',
    *run(shell, argv) {
      for (const name of argv.slice(1)) {
        if (name === '-v') continue;
        if (!nameRule.test(name)) return yield* shell.fail(`unset: ${name}: bad variable name`, 2);
        shell.unset(name);
      }
      return 0;
    },
  },
];

export const builtins: ReadonlyMap<string, Builtin> = new Map(table.map(b => [b.name, b]));

/** Applies `-eu` or `+x`; returns the letter that is no option, or null. */
export function setOptions(shell: Shell, text: string): string | null {
  const on = text.startsWith('-');
  for (const letter of text.slice(1)) {
    if (letter === 'e') shell.errexit = on;
    else if (letter === 'f') shell.noglob = on;
    else if (letter === 'u') shell.nounset = on;
    else if (letter === 'x') shell.xtrace = on;
    else return letter;
  }
  return null;
}

function* source(shell: Shell, argv: readonly string[]): Generator<void, number, void> {
  const [, name, ...args] = argv;
  if (name === undefined) return yield* shell.fail(`${argv[0]}: filename argument required`, 2);
  const text = yield* sourceText(shell, name);
  if (typeof text === 'number') {
    // POSIX: a script whose `.` finds nothing ends.
    if (!shell.interactive && argv[0] === '.') shell.leaving = 2;
    return yield* shell.fail(`${argv[0]}: cannot open ${name}: ${strerror(text)}`, 2);
  }
  const outer = shell.positional;
  if (args.length > 0) shell.positional = args;
  shell.status = 0;
  const status = yield* shell.runText(text);
  if (args.length > 0) shell.positional = outer;
  shell.returning = false;
  return status;
}

function* sourceText(shell: Shell, name: string): Generator<void, string | number, void> {
  if (name.includes('/')) return yield* readText(shell.sys, name);
  for (const directory of (shell.get('PATH') ?? defaultPath).split(':')) {
    const text = yield* readText(shell.sys, `${directory || '.'}/${name}`);
    if (typeof text === 'string') return text;
  }
  return yield* readText(shell.sys, name);
}

function* workingDirectory(shell: Shell): Generator<void, string, void> {
  const path = new Uint8Array(LIMITS.pathBytes);
  const n = yield* shell.sys.getcwd(path);
  return n < 0 ? '' : utf8Decode(path, 0, n);
}

/** Splits a line by IFS into variables; the last takes what is left, without the separators around it. */
function splitInto(shell: Shell, names: readonly string[], line: string): void {
  const ifs = shell.get('IFS') ?? ' \t\n';
  const isBlank = (c: string | undefined): boolean => c !== undefined && ifs.includes(c) && ' \t\n'.includes(c);
  let at = 0;
  while (isBlank(line[at])) at++;
  names.forEach((name, i) => {
    let end = at;
    if (i === names.length - 1) {
      end = line.length;
      while (end > at && isBlank(line[end - 1])) end--;
    } else while (end < line.length && !ifs.includes(line[end]!)) end++;
    shell.set(name, line.slice(at, end));
    at = end;
    while (isBlank(line[at])) at++;
    if (at < line.length && ifs.includes(line[at]!)) at++;
    while (isBlank(line[at])) at++;
  });
}
