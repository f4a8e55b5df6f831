// xargs: arguments from standard input. Words are quoted by POSIX's rules; command lines are filled until the next word does not fit what a
// program can be given. Commands run one at a time, with /dev/null as their standard input.

import { E, LIMITS, O, SpawnHeader, utf8Decode, utf8Length } from '../../kernel/abi/index.ts';
import { NEWLINE } from '../lib/bytes.ts';
import { STATUS, defaultPath, findProgram, launch, waitFor } from '../lib/exec.ts';
import { closeInput, define, openInput } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import type { Input } from '../lib/stdio.ts';

const options = {
  null: { short: '0', help: 'words end in a zero byte; nothing is quoted' },
  'arg-file': { short: 'a', value: 'FILE', help: 'read FILE instead of standard input' },
  delimiter: { short: 'd', value: 'BYTE', help: 'words end in BYTE; nothing is quoted' },
  E: { value: 'WORD', help: 'a line WORD ends the input' },
  replace: { short: 'I', value: 'TEXT', help: 'one command for each line, which replaces TEXT in it' },
  'max-lines': { short: 'L', value: 'N', help: 'at most N lines for each command' },
  'max-args': { short: 'n', value: 'N', help: 'at most N words for each command' },
  'no-run-if-empty': { short: 'r', help: 'no words: run nothing' },
  'max-chars': { short: 's', value: 'N', help: 'at most N bytes for each command' },
  verbose: { short: 't', help: 'show each command on standard error before it runs' },
  exit: { short: 'x', help: 'end when a command would be too long' },
} as const;
type Xargs = Context<typeof options>;

/** Exit statuses of xargs itself. */
const SOME_FAILED = 123;
const GAVE_UP = 124;
const KILLED = 125;

export const xargs = define({
  name: 'xargs',
  summary: 'run a command with arguments from standard input',
  usage: ['[OPTION]... [COMMAND [ARG]...]'],
  options,
  order: 'posix',
  description: `Runs COMMAND (default echo) with its ARGs and with words from standard input, as many at a time as fit: a command line with its environment takes at most ${LIMITS.argBytes} bytes and ${LIMITS.argsMax} words. Blanks and newlines end words; quotes and backslashes keep them. Status: 123 when a command failed, 124 when one ended with 255, 126 and 127 when it cannot be run or found.`,
  examples: [
    ['find /usr -name "*.md" | xargs wc -l', 'counts the lines of every page'],
    ['ls /models | xargs -I M echo /models/M', 'a path for each name'],
  ],
  *main(ctx) {
    const limits = limitsOf(ctx);
    if (typeof limits === 'string') return yield* ctx.usage(limits);
    const name = ctx.options['arg-file'] ?? '-';
    const input = yield* openInput(ctx, name, `Cannot open input file '${name}'`);
    if (input === null) return 1;
    const status = yield* runAll(ctx, limits, new Words(ctx, input));
    return (yield* closeInput(ctx, name, input)) ? status : 1;
  },
});

interface Limits {
  readonly words: number;
  readonly lines: number;
  readonly bytes: number;
  /** A command line that does not reach `words` or `lines` because of `bytes` is an error. */
  readonly strict: boolean;
}

/** The limits that the options set, or what is wrong with them. */
function limitsOf(ctx: Xargs): Limits | string {
  const { options } = ctx;
  for (const [letter, text] of [
    ['n', options['max-args']],
    ['L', options['max-lines']],
    ['s', options['max-chars']],
  ] as const) {
    if (text === undefined) continue;
    if (!/^\+?[0-9]+$/.test(text)) return `invalid number "${text}" for -${letter} option`;
    if (Number(text) === 0) return `value 0 for -${letter} option should be >= 1`;
  }
  const environment = [...ctx.env].reduce((sum, [name, value]) => sum + utf8Length(`${name}=${value}`) + 1, 0);
  // The path of the program crosses the window beside its arguments.
  const room = LIMITS.argBytes - SpawnHeader.bytes - environment - LIMITS.nameBytes;
  return {
    words: Math.min(Number(options['max-args'] ?? Infinity), LIMITS.argsMax - ctx.env.size - ctx.operands.length - 1),
    lines: options.replace === undefined ? Number(options['max-lines'] ?? Infinity) : 1,
    bytes: Math.min(room, Number(options['max-chars'] ?? room)),
    strict: options.exit || options.replace !== undefined || options['max-lines'] !== undefined,
  };
}

const commandBytes = (argv: readonly string[]): number => argv.reduce((sum, word) => sum + utf8Length(word) + 1, 0);

function* runAll(ctx: Xargs, limits: Limits, words: Words): Generator<void, number, void> {
  const runner = new Runner(ctx);
  const initial = ctx.operands.length > 0 ? ctx.operands : ['echo'];
  const { replace } = ctx.options;
  let argv = [...initial];
  let bytes = commandBytes(argv);
  let lines = 0;
  let ran = false;
  const run = function* (): Generator<void, boolean, void> {
    ran = true;
    const goOn = yield* runner.run(argv);
    argv = [...initial];
    bytes = commandBytes(argv);
    lines = 0;
    return goOn;
  };
  for (;;) {
    const word = yield* words.next();
    if (word === null) break;
    if (replace !== undefined) {
      argv = initial.map((text, i) => (i === 0 ? text : text.replaceAll(replace, () => word.text)));
      if (commandBytes(argv) > limits.bytes) return yield* ctx.fail('argument list too long');
      if (!(yield* run())) return runner.status;
      continue;
    }
    const cost = utf8Length(word.text) + 1;
    if (bytes + cost > limits.bytes || argv.length - initial.length >= limits.words) {
      if (argv.length === initial.length) return yield* ctx.fail('argument line too long');
      if (limits.strict && argv.length - initial.length < limits.words)
        return yield* ctx.fail('argument list too long');
      if (!(yield* run())) return runner.status;
      if (bytes + cost > limits.bytes) return yield* ctx.fail('argument line too long');
    }
    argv.push(word.text);
    bytes += cost;
    if (word.endsLine && ++lines >= limits.lines && !(yield* run())) return runner.status;
  }
  const left = argv.length > initial.length;
  if (words.error !== null) {
    if (left) yield* run();
    return yield* ctx.fail(words.error);
  }
  if (replace === undefined && (left || (!ran && !ctx.options['no-run-if-empty']))) yield* run();
  return runner.status;
}

/** Runs the commands and keeps the status that xargs ends with. */
class Runner {
  status = 0;
  private readonly ctx: Xargs;

  constructor(ctx: Xargs) {
    this.ctx = ctx;
  }

  /** False when no other command is to run. */
  *run(argv: readonly string[]): Generator<void, boolean, void> {
    const { ctx } = this;
    const { sys } = ctx;
    const name = argv[0]!;
    yield* ctx.out.flush();
    if (ctx.options.verbose) yield* ctx.err.print(`${argv.map(shellWord).join(' ')}\n`);
    const path = yield* findProgram(sys, name, ctx.env.get('PATH') ?? defaultPath);
    let pid = Number(path);
    if (typeof path === 'string') {
      const nothing = yield* sys.open('/dev/null', O.RDONLY, 0);
      pid = yield* launch(sys, path, argv, ctx.env, [nothing < 0 ? 0 : nothing, 1, 2]);
      if (nothing >= 0) yield* sys.close(nothing);
    }
    if (pid < 0) {
      yield* ctx.fail(name, -pid);
      this.status = pid === -E.NOENT ? STATUS.notFound : STATUS.cannotExecute;
      return false;
    }
    const status = yield* waitFor(sys, pid);
    if (status === 255) {
      this.status = GAVE_UP;
      yield* ctx.fail(`${name}: exited with status 255; aborting`);
    } else if (status > 128) {
      this.status = KILLED;
      yield* ctx.fail(`${name}: terminated by signal ${status - 128}`);
    } else if (status !== 0) this.status = SOME_FAILED;
    return status <= 128;
  }
}

/** A word as a shell takes it: bare, quoted, control characters as $'\\n'. */
function shellWord(word: string): string {
  if (word !== '' && !/[\p{Cc} !"$&'()*;<=>?[\\^`|]|^[#~]|^[{}]$/u.test(word)) return word;
  if (/'/.test(word) && !/[\p{Cc}!"$`\\]/u.test(word)) return `"${word}"`;
  const quoted = word.replaceAll("'", "'\\''");
  const parts = `'${quoted.replace(/\p{Cc}+/gu, controls => `'$'${[...controls].map(control).join('')}''`)}'`;
  return parts.endsWith("'''") ? parts.slice(0, -2) : parts; // nothing follows the last control character
}
function control(c: string): string {
  const letter = { '\x07': 'a', '\b': 'b', '\t': 't', '\n': 'n', '\v': 'v', '\f': 'f', '\r': 'r' }[c];
  return `\\${letter ?? c.charCodeAt(0).toString(8).padStart(3, '0')}`;
}

interface Word {
  readonly text: string;
  /** The last word of its line. */
  readonly endsLine: boolean;
}

/** The words of the input. `error` says what ended it early. */
class Words {
  error: string | null = null;
  private readonly pending: Word[] = [];
  private readonly input: Input;
  private readonly options: Xargs['options'];
  private readonly end: number | null; // what ends words when nothing is quoted

  constructor({ options }: Xargs, input: Input) {
    this.input = input;
    this.options = options;
    this.end = options.null ? 0 : options.delimiter === undefined ? null : delimiterByte(options.delimiter);
  }

  *next(): Generator<void, Word | null, void> {
    if (this.end !== null) {
      const item = yield* this.input.line(this.end);
      if (item === null) return null;
      return { text: utf8Decode(item.at(-1) === this.end ? item.subarray(0, -1) : item), endsLine: true };
    }
    while (this.pending.length === 0) {
      if (this.error !== null || !(yield* this.readLine())) return null;
    }
    return this.pending.shift()!;
  }

  /** The words of the next line; with -L, lines that end in a blank are one with the next. */
  private *readLine(): Generator<void, boolean, void> {
    let line = yield* this.textLine();
    if (line === null) return false;
    // A backslash before the newline keeps it in the word.
    while (/(?:^|[^\\])(?:\\\\)*\\\n$/.test(line)) {
      const more = yield* this.textLine();
      if (more === null) break;
      line += more;
    }
    while (this.options['max-lines'] !== undefined && /[ \t]\n$/.test(line) && line.trim() !== '') {
      const more = yield* this.textLine();
      if (more === null) break;
      line = line.slice(0, -1) + more;
    }
    const { words, unmatched } = splitWords(line.replace(/\n$/, ''), this.options.replace !== undefined);
    if (unmatched !== null) {
      this.error = `unmatched ${unmatched} quote; by default quotes are special to xargs unless you use the -0 option`;
    }
    const stop = this.options.E === undefined ? -1 : words.indexOf(this.options.E);
    const kept = stop < 0 ? words : words.slice(0, stop);
    kept.forEach((text, i) => this.pending.push({ text, endsLine: i === kept.length - 1 }));
    return this.pending.length > 0 || (stop < 0 && unmatched === null);
  }

  private *textLine(): Generator<void, string | null, void> {
    const line = yield* this.input.line(NEWLINE);
    return line === null ? null : utf8Decode(line);
  }
}

/**
 * Words of a line, quotes and backslashes removed, up to a quote that has no end. `whole`: the line without leading blanks is one word.
 */
export function splitWords(line: string, whole: boolean): { words: string[]; unmatched: 'single' | 'double' | null } {
  const words: string[] = [];
  let word: string | null = null;
  for (let i = 0; i < line.length; i++) {
    const c = line[i]!;
    if (/[ \t\n]/.test(c) && (!whole || word === null)) {
      if (word !== null) words.push(word);
      word = null;
    } else if (c === "'" || c === '"') {
      const end = line.indexOf(c, i + 1);
      if (end < 0) return { words, unmatched: c === "'" ? 'single' : 'double' };
      word = (word ?? '') + line.slice(i + 1, end);
      i = end;
    } else if (c === '\\') word = (word ?? '') + (line[++i] ?? '');
    else word = (word ?? '') + c;
  }
  if (word !== null) words.push(word);
  return { words, unmatched: null };
}

const delimiterByte = (text: string): number =>
  ({ '\\n': 10, '\\t': 9, '\\0': 0, '\\r': 13 })[text] ?? (utf8Length(text) > 0 ? text.charCodeAt(0) & 0xff : 0);
