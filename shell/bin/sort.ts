// sort: lines in order. The input is held whole, up to a stated limit; the sort is stable, and lines whose keys are equal are told apart by
// all their bytes, so the output depends on the lines alone. Keys, options and their precedence are POSIX's with -g, -h and -M of GNU.

import { LIMITS, O, strerror } from '../../kernel/abi/index.ts';
import { argumentBytes, bytesOf, lineEnd, lineText } from '../lib/bytes.ts';
import { closeInput, define, openInput } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { comparator, clashOf, parseKey } from '../lib/sortkey.ts';
import type { Key, Ordering } from '../lib/sortkey.ts';
import { Output } from '../lib/stdio.ts';

const options = {
  'ignore-leading-blanks': { short: 'b', help: 'keys begin after leading blanks' },
  'dictionary-order': { short: 'd', help: 'compare only blanks, letters and digits' },
  'ignore-case': { short: 'f', help: 'compare lower-case letters as upper-case' },
  'general-numeric-sort': { short: 'g', help: 'compare as floating-point numbers' },
  'human-numeric-sort': { short: 'h', help: 'compare sizes such as 2K and 1G' },
  'ignore-nonprinting': { short: 'i', help: 'compare only printable characters' },
  'month-sort': { short: 'M', help: 'compare as JAN to DEC' },
  'numeric-sort': { short: 'n', help: 'compare as decimal numbers of any length' },
  reverse: { short: 'r', help: 'reverse the order' },
  check: { short: 'c', help: 'tell the first line out of order; print nothing else' },
  C: { help: 'as -c, without telling' },
  key: { short: 'k', value: 'FROM[,TO]', many: true, help: 'compare this part: FIELD[.CHARACTER][bdfghiMnr]' },
  merge: { short: 'm', help: 'inputs are sorted already (accepted; they are sorted again)' },
  output: { short: 'o', value: 'FILE', help: 'write to FILE, which may be an input' },
  stable: { short: 's', help: 'leave lines with equal keys in the order of the input' },
  'field-separator': { short: 't', value: 'BYTE', help: 'fields are what stands between BYTEs' },
  unique: { short: 'u', help: 'print only the first of lines with equal keys' },
  'zero-terminated': { short: 'z', help: 'lines end in a zero byte' },
} as const;
type Sort = Context<typeof options>;

const FAILED = 2;

export const sort = define({
  name: 'sort',
  summary: 'sort lines',
  usage: ['[OPTION]... [FILE]...'],
  options,
  usageStatus: FAILED,
  description: `Prints the lines of all FILEs, or of standard input, in order of their keys (default: the whole line). Order is that of bytes, as in the C locale, in which UTF-8 sorts by code point. Fields are separated by blanks, which belong to the field after them, or by -t. It holds its input: at most ${LIMITS.textBytes} bytes.`,
  examples: [
    ['sort -t : -k 3n /etc/passwd', 'users by number'],
    ['du -a /usr | sort -rn | head', 'what takes most room'],
  ],
  *main(ctx) {
    const plan = yield* planOf(ctx);
    if (plan === null) return FAILED;
    const { options } = ctx;
    const end = lineEnd(options['zero-terminated']);
    if (options.check || options.C) return yield* check(ctx, plan, end);
    const lines = yield* readLines(ctx, ctx.operands.length > 0 ? ctx.operands : ['-'], end);
    if (lines === null) return FAILED;
    lines.sort(plan.compare);
    const out = yield* outputOf(ctx);
    if (out === null) return FAILED;
    let previous: string | null = null;
    for (const line of lines) {
      if (options.unique && previous !== null && plan.compareKeys(previous, line) === 0) continue;
      yield* out.write(bytesOf(line + String.fromCharCode(end)));
      previous = line;
    }
    yield* out.flush();
    return 0;
  },
});

type Compare = (a: string, b: string) => number;
interface Plan {
  readonly compareKeys: Compare;
  /** compareKeys, and what decides when it says nothing. */
  readonly compare: Compare;
}

/** How lines compare, from the options; null after a message. */
function* planOf(ctx: Sort): Generator<void, Plan | null, void> {
  const { options } = ctx;
  const refuse = function* (message: string): Generator<void, null, void> {
    yield* ctx.fail(message);
    return null;
  };
  let separator: string | null = null;
  if (options['field-separator'] !== undefined) {
    separator = argumentBytes(options['field-separator']);
    if (separator === '\\0') separator = '\0';
    if (separator === '') return yield* refuse('empty tab');
    if (separator.length > 1) return yield* refuse(`multi-character tab '${options['field-separator']}'`);
  }
  const whole: Ordering = {
    blanks: options['ignore-leading-blanks'],
    dictionary: options['dictionary-order'],
    fold: options['ignore-case'],
    general: options['general-numeric-sort'],
    human: options['human-numeric-sort'],
    printable: options['ignore-nonprinting'],
    month: options['month-sort'],
    numeric: options['numeric-sort'],
    reverse: options.reverse,
  };
  const keys: Key[] = [];
  for (const text of options.key) {
    const key = parseKey(text, whole);
    if (typeof key === 'string') return yield* refuse(key);
    keys.push(key);
  }
  for (const ordering of keys.length > 0 ? keys.map(key => key.ordering) : [whole]) {
    const clash = clashOf(ordering);
    if (clash !== null) return yield* refuse(`options '-${clash}' are incompatible`);
  }
  if (options.check && ctx.operands.length > 1) {
    return yield* refuse(`extra operand '${ctx.operands[1]}' not allowed with -c`);
  }
  const compareKeys = comparator(keys, whole, separator);
  const sign = options.reverse ? -1 : 1;
  if (options.stable || options.unique) return { compareKeys, compare: compareKeys };
  const compare: Compare = (a, b) => compareKeys(a, b) || (a < b ? -sign : a > b ? sign : 0);
  return { compareKeys, compare };
}

/** Every line of the files; null after a message. */
function* readLines(ctx: Sort, names: readonly string[], end: number): Generator<void, string[] | null, void> {
  const lines: string[] = [];
  let bytes = 0;
  for (const name of names) {
    const input = yield* openInput(ctx, name, `cannot read: ${name}`);
    if (input === null) return null;
    let line: Uint8Array | null;
    while ((line = yield* input.line(end)) !== null) {
      bytes += line.length;
      if (bytes > LIMITS.textBytes) {
        yield* ctx.fail(`${name}: more than ${LIMITS.textBytes} bytes to sort`);
        return null;
      }
      lines.push(lineText(line, end));
    }
    if (input.error !== 0) {
      yield* ctx.failCall(`read failed: ${name}`, input.error);
      return null;
    }
    yield* closeInput(ctx, name, input);
  }
  return lines;
}

/** Where the lines go, opened after the inputs were read, so that it may be one of them; null after a message. */
function* outputOf(ctx: Sort): Generator<void, Output | null, void> {
  const name = ctx.options.output;
  if (name === undefined || name === '-') return ctx.out;
  const fd = yield* ctx.sys.open(name, O.WRONLY | O.CREAT | O.TRUNC, 0o666);
  if (fd >= 0) {
    return new Output(ctx.sys, fd, function* (errno) {
      yield* ctx.fail(`write failed: ${name}: ${strerror(errno)}`);
      yield* ctx.sys.exit(FAILED);
    });
  }
  yield* ctx.failCall(`open failed: ${name}`, -fd);
  return null;
}

function* check(ctx: Sort, plan: Plan, end: number): Generator<void, number, void> {
  const name = ctx.operands[0] ?? '-';
  const input = yield* openInput(ctx, name, `cannot read: ${name}`);
  if (input === null) return FAILED;
  let previous: string | null = null;
  for (let number = 1; ; number++) {
    const line = yield* input.line(end);
    if (line === null) break;
    const text = lineText(line, end);
    const order = previous === null ? -1 : plan.compare(previous, text);
    if (order > 0 || (order === 0 && ctx.options.unique)) {
      if (!ctx.options.C) {
        yield* ctx.err.print(`${ctx.name}: ${name}:${number}: disorder: `);
        yield* ctx.err.write(bytesOf(`${text}\n`));
      }
      return 1;
    }
    previous = text;
  }
  return (yield* closeInput(ctx, name, input)) ? 0 : FAILED;
}
