// The builtins: commands that change the shell itself, and so cannot be programs, and a few programs that scripts use so often that the
// shell runs them in its own process. Each has its manual page beside it.

import { E, LIMITS, strerror, utf8Decode } from '../../kernel/abi/index.ts';
import { echo, interpret } from '../bin/echo.ts';
import { falseProgram } from '../bin/false.ts';
import { printf } from '../bin/printf.ts';
import { pwd } from '../bin/pwd.ts';
import { bracket, test } from '../bin/test.ts';
import { trueProgram } from '../bin/true.ts';
import { defaultPath, findProgram } from '../lib/exec.ts';
import { readText } from '../lib/files.ts';
import type { Page, Program } from '../lib/program.ts';
import type { Output } from '../lib/stdio.ts';
import type { Shell } from './exec.ts';
import { jobBuiltins } from './builtins-jobs.ts';
import { readBuiltin } from './read.ts';
import { reserved } from './parse.ts';
import { quote } from './quote.ts';
import { signalName, signalNumber } from './traps.ts';

export interface Builtin extends Page {
  /** POSIX's special builtins: assignments before them last, and their mistakes end a script. */
  readonly special?: true;
  run(shell: Shell, argv: readonly string[], out: Output): Generator<void, number, void>;
}

const nameRule = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** A number of POSIX's kind: digits only; null when it is none. */
const number = (text: string): number | null => (/^[0-9]+$/.test(text) ? Number(text) : null);

/** `NAME` or `NAME=VALUE`. */
function splitOperand(text: string): { name: string; value: string | undefined } {
  const eq = text.indexOf('=');
  return eq < 0 ? { name: text, value: undefined } : { name: text.slice(0, eq), value: text.slice(eq + 1) };
}

// ── Variables ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** export and readonly: marks names, or lists those that are marked. */
function marker(word: 'export' | 'readonly', mark: 'exported' | 'readonly'): Builtin['run'] {
  return function* (shell, argv, out) {
    const names = argv.slice(argv[1] === '-p' || argv[1] === '--' ? 2 : 1);
    if (names.length === 0) {
      for (const v of shell.variables.marked(variable => variable[mark]))
        yield* out.print(`${word} ${v.name}${v.value === undefined ? '' : `=${quote(v.value)}`}\n`);
    }
    for (const text of names) {
      const { name, value } = splitOperand(text);
      if (!nameRule.test(name)) return yield* shell.failHard(`${word}: ${text}: bad variable name`, 2);
      const refusal = value === undefined ? null : shell.assign(name, value);
      if (refusal !== null) return yield* shell.failHard(refusal, 2);
      shell.variables.mark(name, mark === 'exported' ? { exported: true } : { readonly: true });
    }
    return 0;
  };
}

function* local(shell: Shell, argv: readonly string[]): Generator<void, number, void> {
  for (const text of argv.slice(1)) {
    const { name, value } = splitOperand(text);
    if (!nameRule.test(name)) return yield* shell.failHard(`local: ${text}: bad variable name`, 2);
    if (!shell.variables.local(name)) return yield* shell.failHard('local: not in a function', 2);
    const refusal = value === undefined ? null : shell.assign(name, value);
    if (refusal !== null) return yield* shell.failHard(refusal, 2);
  }
  return 0;
}

function* unset(shell: Shell, argv: readonly string[]): Generator<void, number, void> {
  const functions = argv[1] === '-f';
  const names = argv.slice(functions || argv[1] === '-v' ? 2 : 1);
  for (const name of names) {
    if (functions) shell.functions.delete(name);
    else {
      const refusal = nameRule.test(name) ? shell.variables.unset(name) : `${name}: bad variable name`;
      if (refusal !== null) return yield* shell.failHard(`unset: ${refusal}`, 2);
    }
  }
  return 0;
}

/** Applies `-eu`, `+x` and `-o NAME` from argv[from] on. Returns the index of the first operand, or what is wrong. */
export function* takeOptions(
  shell: Shell,
  argv: readonly string[],
  from: number,
  out: Output,
): Generator<void, number | string, void> {
  let i = from;
  for (; i < argv.length && /^[-+]./.test(argv[i]!) && argv[i] !== '--'; i++) {
    const sign = argv[i]![0]!;
    for (const letter of argv[i]!.slice(1)) {
      if (letter !== 'o') {
        if (!shell.options.set(letter, sign === '-')) return `Illegal option ${sign}${letter}`;
      } else if (argv[i + 1] === undefined) yield* out.print(shell.options.listing(sign === '+'));
      else if (!shell.options.set(argv[++i]!, sign === '-')) return `Illegal option ${sign}o ${argv[i]}`;
    }
  }
  return i;
}

function* set(shell: Shell, argv: readonly string[], out: Output): Generator<void, number, void> {
  if (argv.length === 1) {
    for (const v of shell.variables.list()) yield* out.print(`${v.name}=${quote(v.value)}\n`);
  }
  const operands = yield* takeOptions(shell, argv, 1, out);
  if (typeof operands === 'string') return yield* shell.failHard(`set: ${operands}`, 2);
  const ended = argv[operands] === '--' || argv[operands] === '-';
  if (operands < argv.length) shell.positional = argv.slice(operands + (ended ? 1 : 0));
  return 0;
}

/** getopts: one option a call. Where it stands inside an argument like `-abc` is kept beside OPTIND. */
function* getopts(shell: Shell, argv: readonly string[]): Generator<void, number, void> {
  const [, letters, name, ...given] = argv;
  if (letters === undefined || name === undefined)
    return yield* shell.fail('getopts: Usage: getopts optstring var [arg]', 2);
  const args = given.length > 0 ? given : shell.positional;
  const silent = letters.startsWith(':');
  const [indexText = '1', offsetText] = (shell.get('OPTIND') ?? '1').split(' ');
  let index = number(indexText) ?? 1;
  let offset = shell.optionOffset.index === index && offsetText === undefined ? shell.optionOffset.at : 0;
  const answer = (letter: string, value?: string): number => {
    shell.assign(name, letter);
    if (value === undefined) shell.variables.unset('OPTARG');
    else shell.assign('OPTARG', value);
    shell.assign('OPTIND', String(index));
    shell.optionOffset = { index, at: offset };
    return 0;
  };
  const arg = args[index - 1];
  if (offset === 0) {
    if (arg === '--') index++;
    if (arg === undefined || !/^-./.test(arg) || arg === '--') {
      answer('?');
      return 1;
    }
    offset = 1;
  }
  const letter = arg![offset]!;
  const at = letter === ':' ? -1 : letters.indexOf(letter, silent ? 1 : 0);
  const rest = arg!.slice(offset + 1);
  const next = (): void => {
    index++;
    offset = 0;
  };
  if (rest === '' || letters[at + 1] === ':') next();
  else offset++;
  if (at < 0) {
    if (!silent) yield* shell.say(`Illegal option -${letter}\n`);
    return answer('?', silent ? letter : undefined);
  }
  if (letters[at + 1] !== ':') return answer(letter, '');
  if (rest !== '') return answer(letter, rest);
  const value = args[index - 1];
  if (value !== undefined) {
    next();
    return answer(letter, value);
  }
  if (silent) return answer(':', letter);
  yield* shell.say(`No arg for -${letter} option\n`);
  return answer('?');
}

// ── Running ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function* source(shell: Shell, argv: readonly string[]): Generator<void, number, void> {
  const [, name, ...args] = argv;
  if (name === undefined) return yield* shell.failHard(`${argv[0]}: filename argument required`, 2);
  const text = yield* sourceText(shell, name);
  if (typeof text === 'number') return yield* shell.failHard(`${argv[0]}: cannot open ${name}: ${strerror(text)}`, 2);
  const outer = shell.positional;
  if (args.length > 0) shell.positional = args;
  shell.calls++;
  const status = yield* shell.runText(text, 1, true);
  shell.calls--;
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

function* evaluate(shell: Shell, argv: readonly string[]): Generator<void, number, void> {
  return yield* shell.runText(argv.slice(1).join(' '));
}

function* execute(shell: Shell, argv: readonly string[]): Generator<void, number, void> {
  const command = argv.slice(argv[1] === '--' ? 2 : 1);
  if (command.length === 0) return 0;
  yield* shell.startProgram(command, shell.variables.environment(), shell.fds, 'exec');
  if (!shell.interactive) shell.leaving = shell.status;
  return shell.status;
}

function* exit(shell: Shell, argv: readonly string[]): Generator<void, number, void> {
  const status = argv[1] === undefined ? (shell.traps.statusBefore ?? shell.status) : number(argv[1]);
  if (status === null) return yield* shell.failHard(`exit: Illegal number: ${argv[1]}`, 2);
  return (shell.leaving = status & 0xff);
}

function* goBack(shell: Shell, argv: readonly string[]): Generator<void, number, void> {
  const status = argv[1] === undefined ? shell.status : number(argv[1]);
  if (status === null) return yield* shell.failHard(`return: Illegal number: ${argv[1]}`, 2);
  shell.returning = true;
  if (shell.calls === 0 && !shell.interactive) shell.leaving = status & 0xff;
  return status;
}

/** break and continue. */
function leaveLoop(continues: boolean): Builtin['run'] {
  return function* (shell, argv) {
    const levels = number(argv[1] ?? '1');
    if (levels === null || levels === 0) return yield* shell.failHard(`${argv[0]}: Illegal number: ${argv[1]}`, 2);
    shell.skipping = Math.min(levels, shell.loops);
    shell.continues = continues;
    return 0;
  };
}

function* shift(shell: Shell, argv: readonly string[]): Generator<void, number, void> {
  const n = number(argv[1] ?? '1');
  if (n === null) return yield* shell.failHard(`shift: Illegal number: ${argv[1]}`, 2);
  if (n > shell.positional.length) return yield* shell.failHard("shift: can't shift that many", 2);
  shell.positional = shell.positional.slice(n);
  return 0;
}

function* trap(shell: Shell, argv: readonly string[], out: Output): Generator<void, number, void> {
  const args = argv.slice(argv[1] === '--' ? 2 : 1);
  if (args.length === 0 || args[0] === '-p') {
    for (const [signal, action] of shell.traps.list())
      yield* out.print(`trap -- ${quote(action)} ${signalName(signal)}\n`);
    return 0;
  }
  if (args[0] === '-l') {
    for (let signal = 1; signal < 32; signal++)
      yield* out.print(`${String(signal).padStart(2)}) ${signalName(signal)}\n`);
    return 0;
  }
  // `trap 2` and `trap - 2` are the same.
  const [first, ...others] = args;
  const resets = others.length === 0 || number(first!) !== null;
  const action = resets || first === '-' ? null : first!;
  for (const text of resets ? args : others) {
    if (text === '-' && resets) continue;
    const signal = signalNumber(text);
    if (signal === null) return yield* shell.fail(`trap: ${text}: bad trap`, 1);
    yield* shell.traps.set(shell.sys, signal, action, shell.catches(signal));
  }
  return 0;
}

// ── Names of commands ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a command name stands for. `short`: as `command -v` says it; else as `type`. Null: nothing. */
function* describe(shell: Shell, name: string, short: boolean): Generator<void, string | null, void> {
  const alias = shell.aliases.get(name);
  const builtin = builtins.get(name);
  if (reserved.includes(name)) return short ? name : `${name} is a shell keyword`;
  if (alias !== undefined) return short ? `alias ${name}=${quote(alias)}` : `${name} is an alias for ${alias}`;
  if (shell.functions.has(name)) return short ? name : `${name} is a shell function`;
  if (builtin !== undefined) return short ? name : `${name} is a ${builtin.special ? 'special ' : ''}shell builtin`;
  const path = yield* findProgram(shell.sys, name, shell.get('PATH') ?? defaultPath);
  if (typeof path === 'number') return null;
  return short ? path : `${name} is ${path}`;
}

function* type(shell: Shell, argv: readonly string[], out: Output): Generator<void, number, void> {
  let status = 0;
  for (const name of argv.slice(1)) {
    const text = yield* describe(shell, name, false);
    yield* out.print(`${text ?? `${name}: not found`}\n`);
    if (text === null) status = 127;
  }
  return status;
}

function* command(shell: Shell, argv: readonly string[], out: Output): Generator<void, number, void> {
  let i = 1;
  let how = '';
  for (; /^-[pvV]+$/.test(argv[i] ?? ''); i++) how += argv[i]!.slice(1);
  if (argv[i] === '--') i++;
  const rest = argv.slice(i);
  if (rest.length === 0) return 0;
  if (/[vV]/.test(how)) {
    const text = yield* describe(shell, rest[0]!, how.includes('v'));
    if (text !== null) yield* out.print(`${text}\n`);
    else if (how.includes('V')) yield* out.print(`${rest[0]}: not found\n`);
    return text === null ? 127 : 0;
  }
  return yield* shell.runWithoutFunctions(rest, out);
}

function* alias(shell: Shell, argv: readonly string[], out: Output): Generator<void, number, void> {
  let status = 0;
  const listed = argv.length > 1 ? argv.slice(1) : [...shell.aliases.keys()].sort();
  for (const text of listed) {
    const { name, value } = splitOperand(text);
    const held = shell.aliases.get(name);
    const room = held !== undefined || shell.aliases.size < LIMITS.definitionsMax;
    if (value !== undefined && room) shell.aliases.set(name, value);
    else if (value !== undefined) status = yield* shell.fail(`alias: more than ${LIMITS.definitionsMax} aliases`, 1);
    else if (held !== undefined) yield* out.print(`${name}=${quote(held)}\n`);
    else status = yield* shell.fail(`alias: ${name} not found`, 1);
  }
  return status;
}

function* unalias(shell: Shell, argv: readonly string[]): Generator<void, number, void> {
  if (argv[1] === '-a') shell.aliases.clear();
  else
    for (const name of argv.slice(1))
      if (!shell.aliases.delete(name)) return yield* shell.fail(`unalias: ${name} not found`, 1);
  return 0;
}

// ── The process ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function* cd(shell: Shell, argv: readonly string[], out: Output): Generator<void, number, void> {
  const args = argv.slice(1).filter((arg, i) => !(i === 0 && /^-[LP]$/.test(arg)) && arg !== '--');
  const target = args[0] === '-' ? shell.get('OLDPWD') : (args[0] ?? shell.get('HOME'));
  if (args.length > 1) return yield* shell.fail('cd: too many arguments', 2);
  if (target === undefined) return args[0] === '-' ? yield* shell.fail('cd: OLDPWD not set', 2) : 0;
  const before = yield* workingDirectory(shell);
  let errno: number = -E.NOENT;
  let announced = args[0] === '-';
  if (!/^\.{0,2}(?:\/|$)/.test(target)) {
    for (const directory of (shell.get('CDPATH') ?? '').split(':')) {
      if (directory === '' || errno >= 0) continue;
      errno = yield* shell.sys.chdir(`${directory}/${target}`);
      announced ||= errno >= 0;
    }
  }
  if (errno < 0) errno = yield* shell.sys.chdir(target === '' ? '.' : target);
  if (errno < 0) return yield* shell.fail(`cd: ${target}: ${strerror(errno)}`, 2);
  const now = yield* workingDirectory(shell);
  shell.assign('OLDPWD', before);
  shell.assign('PWD', now);
  if (announced) yield* out.print(`${now}\n`);
  return 0;
}

function* workingDirectory(shell: Shell): Generator<void, string, void> {
  const path = new Uint8Array(LIMITS.pathBytes);
  const n = yield* shell.sys.getcwd(path);
  return n < 0 ? '' : utf8Decode(path, 0, n);
}

function* umask(shell: Shell, argv: readonly string[], out: Output): Generator<void, number, void> {
  const { sys } = shell;
  const mask = yield* sys.umask(0);
  yield* sys.umask(mask);
  const symbolic = argv[1] === '-S';
  const text = argv[symbolic ? 2 : 1];
  if (text === undefined) {
    const classes = ['u', 'g', 'o'].map((who, i) => {
      const allowed = (~mask >> (6 - 3 * i)) & 7;
      return `${who}=${[...'rwx'].filter((_, bit) => (allowed & (4 >> bit)) !== 0).join('')}`;
    });
    yield* out.print(symbolic ? `${classes.join(',')}\n` : `${mask.toString(8).padStart(4, '0')}\n`);
    return 0;
  }
  const wanted = /^[0-7]+$/.test(text) ? parseInt(text, 8) & 0o777 : symbolicMask(text, mask);
  if (wanted === null)
    return yield* shell.fail(`umask: Illegal ${/^[0-9]/.test(text) ? 'number' : 'mode'}: ${text}`, 2);
  yield* sys.umask(wanted);
  return 0;
}

/** `u=rwx,g-w`: what is allowed, as chmod writes it. Returns the mask, or null. */
function symbolicMask(text: string, mask: number): number | null {
  let allowed = ~mask & 0o777;
  for (const clause of text.split(',')) {
    const [, who, operator, rights] = /^([ugoa]*)([-+=])([rwx]*)$/.exec(clause) ?? [];
    if (operator === undefined) return null;
    const classes = /^$|a/.test(who!) ? 'ugo' : who!;
    for (const c of classes) {
      const shiftBits = 6 - 3 * 'ugo'.indexOf(c);
      const bits = [...rights!].reduce((sum, r) => sum | (4 >> 'rwx'.indexOf(r)), 0) << shiftBits;
      if (operator === '=') allowed &= ~(7 << shiftBits);
      allowed = operator === '-' ? allowed & ~bits : allowed | bits;
    }
  }
  return ~allowed & 0o777;
}

// ── Programs inside the shell ────────────────────────────────────────────────────────────────────────────────────────────────────

/** A program as a builtin: the same behaviour without a process. */
function inside(program: Program): Builtin {
  return {
    ...program,
    *run(shell, argv) {
      const { sys, fds } = shell;
      return yield* program.within({ sys, argv, env: shell.variables.environment(), fds, manual: new Map() });
    },
  };
}

/** echo as POSIX's XSI has it, and dash: backslash escapes are interpreted unless -E forbids it. */
function* echoEscaped(_: Shell, argv: readonly string[], out: Output): Generator<void, number, void> {
  let i = 1;
  let newline = true;
  let escapes = true;
  for (; /^-[neE]+$/.test(argv[i] ?? ''); i++) {
    if (argv[i]!.includes('n')) newline = false;
    if (argv[i]!.includes('E')) escapes = false;
  }
  const text = argv.slice(i).join(' ');
  if (!escapes) yield* out.print(text);
  const { bytes, stopped } = interpret(escapes ? text : '');
  yield* out.write(bytes);
  if (newline && !stopped) yield* out.print('\n');
  return 0;
}

// ── The table ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

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
    name: 'alias',
    summary: 'give a command line a name',
    usage: ['[NAME[=VALUE]]...'],
    description:
      'Makes NAME stand for the text VALUE where a command name is expected, from the next line on. With NAME alone shows it; without arguments shows all.',
    run: alias,
  },
  {
    name: 'break',
    special: true,
    summary: 'leave a loop',
    usage: ['[N]'],
    description: 'Leaves the innermost loop, or the N innermost.',
    run: leaveLoop(false),
  },
  {
    name: 'cd',
    summary: 'change the working directory',
    usage: ['[-L|-P] [DIRECTORY]', '-'],
    description:
      'Makes DIRECTORY the working directory; without one, $HOME. `-` is $OLDPWD, and its name is printed. A DIRECTORY that does not begin with / or . is looked for in CDPATH first. Sets PWD and OLDPWD.',
    run: cd,
  },
  {
    name: 'command',
    summary: 'run a command that is no function, or say what a name is',
    usage: ['[-p] COMMAND [ARG]...', '-v|-V NAME'],
    description:
      'Runs COMMAND even where a function has its name; a special builtin run so does not end a script by its mistakes. -v: how the shell would find NAME. -V: the same as a sentence.',
    run: command,
  },
  {
    name: 'continue',
    special: true,
    summary: 'begin the next round of a loop',
    usage: ['[N]'],
    description: 'Goes to the next round of the innermost loop, or of the Nth around it.',
    run: leaveLoop(true),
  },
  {
    name: 'eval',
    special: true,
    summary: 'run arguments as a command line',
    usage: ['[ARG]...'],
    description: 'Joins its arguments with spaces and runs the result in this shell.',
    run: evaluate,
  },
  {
    name: 'exec',
    special: true,
    summary: 'become a command, or redirect the shell',
    usage: ['[COMMAND [ARG]...]'],
    description: 'With COMMAND: it takes the place of the shell. Without: redirections on the line stay in force.',
    run: execute,
  },
  {
    name: 'exit',
    special: true,
    summary: 'leave the shell',
    usage: ['[STATUS]'],
    description: 'Ends the shell with STATUS, or with the status of the last command. The EXIT trap runs.',
    run: exit,
  },
  {
    name: 'export',
    special: true,
    summary: 'give variables to the commands that are run',
    usage: ['[-p]', 'NAME[=VALUE]...'],
    description:
      'Marks each NAME for the environment of commands, setting it to VALUE if given. Without names lists those marked.',
    run: marker('export', 'exported'),
  },
  {
    name: 'getopts',
    summary: 'take apart the options of a script',
    usage: ['LETTERS NAME [ARG]...'],
    description:
      'Puts the next option of the parameters (or ARGs) into NAME, its value into OPTARG where LETTERS has a colon after it; OPTIND is the next argument. An unknown option gives `?`; a colon before LETTERS keeps quiet about it. Returns 1 after the last option.',
    examples: [['while getopts ab:v o; do echo $o $OPTARG; done', 'shows each option of a script']],
    run: getopts,
  },
  {
    name: 'hash',
    summary: 'forget where commands are',
    usage: ['[-r]'],
    description: 'Does nothing: this shell looks commands up anew each time.',
    *run() {
      return 0;
    },
  },
  {
    name: 'local',
    special: true,
    summary: 'make variables local to a function',
    usage: ['NAME[=VALUE]...'],
    description: 'What is assigned to NAME from here on is undone when the function returns.',
    run: local,
  },
  {
    name: 'readonly',
    special: true,
    summary: 'protect variables from assignment',
    usage: ['[-p]', 'NAME[=VALUE]...'],
    description:
      'Marks each NAME, set to VALUE if given: later assignments are errors. Without names lists those marked.',
    run: marker('readonly', 'readonly'),
  },
  {
    name: 'return',
    special: true,
    summary: 'end a function or a sourced file',
    usage: ['[STATUS]'],
    description: 'Ends the function, or the file being run by `.`, with STATUS or with that of the last command.',
    run: goBack,
  },
  {
    name: 'set',
    special: true,
    summary: 'set shell options and parameters',
    usage: ['[-aCefnuvx] [+aCefnuvx] [-o NAME] [--] [ARG]...'],
    description:
      'Without arguments lists the variables. ARGs become $1, $2, … Options, which + turns off again:\n  -a  export what is assigned\n  -C  > does not overwrite files\n  -e  leave when a command fails that nothing tests\n  -f  no pathname expansion\n  -n  read commands, do not run them\n  -u  unset variables are errors\n  -v  print lines as they are read\n  -x  print commands before they run\n  -o NAME  the same by name; without NAME lists them',
    run: set,
  },
  {
    name: 'shift',
    special: true,
    summary: 'drop the first parameters',
    usage: ['[N]'],
    description: 'Drops the first N (default 1) of $1, $2, …',
    run: shift,
  },
  {
    name: 'trap',
    special: true,
    summary: 'say what happens when a signal comes',
    usage: ['[ACTION SIGNAL...]', '- SIGNAL...'],
    description:
      'Runs the command line ACTION when SIGNAL (a name or a number) comes, before the next command; EXIT or 0 is the end of the shell. An empty ACTION ignores the signal, `-` gives it its usual effect again. Without arguments lists the actions.',
    examples: [["trap 'rm -f /tmp/work' EXIT", 'cleans up however the script ends']],
    run: trap,
  },
  {
    name: 'type',
    summary: 'say what a command name stands for',
    usage: ['NAME...'],
    description: 'Says of each NAME whether it is a keyword, an alias, a function, a builtin, or which file it is.',
    run: type,
  },
  {
    name: 'umask',
    summary: 'show or set the mask of file modes',
    usage: ['[-S] [MASK]'],
    description:
      'The rights in MASK (octal, or as u=rwx,g=rx,o=) are not given to files that this shell and its programs create. -S: symbolically.',
    run: umask,
  },
  {
    name: 'unalias',
    summary: 'forget aliases',
    usage: ['NAME...', '-a'],
    description: 'Forgets each alias NAME; -a: all.',
    run: unalias,
  },
  {
    name: 'unset',
    special: true,
    summary: 'forget variables or functions',
    usage: ['[-v|-f] NAME...'],
    description: 'Removes each variable NAME; with -f each function.',
    run: unset,
  },
  readBuiltin,
  ...jobBuiltins,
  ...[falseProgram, printf, pwd, bracket, test, trueProgram].map(inside),
  { ...echo, run: echoEscaped },
];

export const builtins: ReadonlyMap<string, Builtin> = new Map(table.map(b => [b.name, b]));
