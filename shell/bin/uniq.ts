// uniq: runs of equal lines as one. Only neighbours are compared, so one run's first line is all that is held.

import { O, strerror } from '../../kernel/abi/index.ts';
import { bytesOf, foldCase, isFieldBlank, lineEnd, lineText } from '../lib/bytes.ts';
import { closeInput, define, openInput } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { Output } from '../lib/stdio.ts';

const options = {
  count: { short: 'c', help: 'print before each line how often it came' },
  repeated: { short: 'd', help: 'print only lines that came more than once' },
  D: { help: 'print every line that came more than once, each time' },
  'skip-fields': { short: 'f', value: 'N', help: 'leave the first N fields out of the comparison' },
  'ignore-case': { short: 'i', help: 'letters are equal in either case' },
  'skip-chars': { short: 's', value: 'N', help: 'leave out N bytes more' },
  unique: { short: 'u', help: 'print only lines that came once' },
  'check-chars': { short: 'w', value: 'N', help: 'compare no more than N bytes' },
  'zero-terminated': { short: 'z', help: 'lines end in a zero byte' },
} as const;
type Uniq = Context<typeof options>;

export const uniq = define({
  name: 'uniq',
  summary: 'report or leave out repeated lines',
  usage: ['[OPTION]... [INPUT [OUTPUT]]'],
  options,
  description:
    'Prints the lines of INPUT (default standard input), of equal neighbours only the first. Fields are blanks and what follows up to the next blank; bytes are compared, as in the C locale.',
  examples: [['cut -d : -f 7 /etc/passwd | sort | uniq -c', 'how many users have which shell']],
  *main(ctx) {
    if (ctx.operands.length > 2) return yield* ctx.usage(`extra operand '${ctx.operands[2]}'`);
    const compared = yield* comparedPart(ctx);
    if (compared === null) return 1;
    if (ctx.options.D && ctx.options.count) {
      return yield* ctx.usage('printing all duplicated lines and repeat counts is meaningless');
    }
    const name = ctx.operands[0] ?? '-';
    const input = yield* openInput(ctx, name);
    if (input === null) return 1;
    const out = yield* outputOf(ctx, ctx.operands[1] ?? '-');
    if (out === null) return 1;
    const end = lineEnd(ctx.options['zero-terminated']);
    let first: string | null = null; // of the run
    let key = '';
    let count = 0;
    for (;;) {
      const line = yield* input.line(end);
      const text = line === null ? null : lineText(line, end);
      if (text !== null && first !== null && compared(text) === key) {
        if (++count === 2 && ctx.options.D) yield* print(ctx, out, first, 0, end);
        if (ctx.options.D) yield* print(ctx, out, text, 0, end);
        continue;
      }
      if (first !== null) yield* print(ctx, out, first, count, end);
      if (text === null) break;
      first = text;
      key = compared(text);
      count = 1;
    }
    yield* out.flush();
    return (yield* closeInput(ctx, name, input)) ? 0 : 1;
  },
});

/** A run's line if the options want it; `count` 0: one of all the repeated. */
function* print({ options }: Uniq, out: Output, line: string, count: number, end: number): Generator<void, void, void> {
  if (count === 1 && (options.repeated || options.D)) return;
  if (count > 1 && (options.unique || options.D)) return;
  if (count === 0 && options.unique) return;
  const head = options.count ? `${String(count).padStart(7)} ` : '';
  yield* out.write(bytesOf(head + line + String.fromCharCode(end)));
}

/** What of a line is compared; null after a message. */
function* comparedPart(ctx: Uniq): Generator<void, ((line: string) => string) | null, void> {
  const numbers: number[] = [];
  for (const [text, what] of [
    [ctx.options['skip-fields'], 'fields to skip'],
    [ctx.options['skip-chars'], 'bytes to skip'],
    [ctx.options['check-chars'], 'bytes to compare'],
  ] as const) {
    if (text !== undefined && !/^\+?[0-9]+$/.test(text)) {
      yield* ctx.fail(`${text}: invalid number of ${what}`);
      return null;
    }
    numbers.push(Number(text ?? (what === 'bytes to compare' ? Infinity : 0)));
  }
  const [fields = 0, bytes = 0, most = 0] = numbers;
  return line => {
    let at = 0;
    for (let n = 0; n < fields && at < line.length; n++) {
      while (at < line.length && isFieldBlank(line[at])) at++;
      while (at < line.length && !isFieldBlank(line[at])) at++;
    }
    const part = line.slice(at + bytes, at + bytes + most);
    return ctx.options['ignore-case'] ? foldCase(part) : part;
  };
}

function* outputOf(ctx: Uniq, name: string): Generator<void, Output | null, void> {
  if (name === '-') return ctx.out;
  const fd = yield* ctx.sys.open(name, O.WRONLY | O.CREAT | O.TRUNC, 0o666);
  if (fd >= 0) {
    return new Output(ctx.sys, fd, function* (errno) {
      yield* ctx.fail(`${name}: ${strerror(errno)}`);
      yield* ctx.sys.exit(1);
    });
  }
  yield* ctx.failCall(name, -fd);
  return null;
}
