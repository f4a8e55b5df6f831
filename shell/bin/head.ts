// head: the first lines or bytes of files.

import { LIMITS } from '../../kernel/abi/index.ts';
import { lineEnd } from '../lib/bytes.ts';
import { parseSize } from '../lib/fmt.ts';
import { closeInput, define, openInput } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { Queue } from '../lib/queue.ts';
import type { Input, Output } from '../lib/stdio.ts';

const options = {
  bytes: { short: 'c', value: '[-]N', help: 'print the first N bytes; with - all but the last N' },
  lines: {
    short: 'n',
    value: '[-]N',
    digits: true,
    help: 'print the first N lines (default 10); with - all but the last N',
  },
  quiet: { short: 'q', help: 'never print names' },
  verbose: { short: 'v', help: 'always print names' },
  'zero-terminated': { short: 'z', help: 'lines end in a zero byte' },
} as const;

export const head = define({
  name: 'head',
  summary: 'print the beginning of files',
  usage: ['[-n N | -c N] [FILE]...'],
  options,
  description:
    'Prints the first 10 lines of each FILE, or of standard input. With several FILEs each is preceded by its name.',
  examples: [['head -n 3 /proc/arena', 'the first regions of the arena']],
  *main(ctx) {
    const text = ctx.options.bytes ?? ctx.options.lines ?? '10';
    const what = ctx.options.bytes === undefined ? 'lines' : 'bytes';
    const count = parseSize(text.replace(/^[-+]/, ''));
    if (count === null) return yield* ctx.fail(`invalid number of ${what}: '${text}'`);
    const end = lineEnd(ctx.options['zero-terminated']);
    const allButLast = text.startsWith('-');
    return yield* eachFile(ctx, input =>
      what === 'lines' ? lines(ctx.out, input, count, allButLast, end) : bytes(ctx.out, input, count, allButLast),
    );
  },
});

type Reader = Context<{ quiet: { help: string }; verbose: { help: string } }>;

/** Runs `print`, which may refuse with a message, on each operand; names between as head and tail print them. Returns the exit status. */
export function* eachFile(
  ctx: Reader,
  print: (input: Input) => Generator<void, string | null, void>,
): Generator<void, number, void> {
  const names = ctx.operands.length > 0 ? ctx.operands : ['-'];
  const named = ctx.options.verbose || (names.length > 1 && !ctx.options.quiet);
  let status = 0;
  let blank = '';
  for (const name of names) {
    const input = yield* openInput(ctx, name, `cannot open '${name}' for reading`);
    if (input === null) {
      status = 1;
      continue;
    }
    if (named) yield* ctx.out.print(`${blank}==> ${name === '-' ? 'standard input' : name} <==\n`);
    blank = '\n';
    const refusal = yield* print(input);
    if (refusal !== null) status = yield* ctx.fail(`${name}: ${refusal}`);
    if (!(yield* closeInput(ctx, name, input))) status = 1;
  }
  return status;
}

/** What is said of input whose end is held back, when that would be more than the limit. */
export const tooMuchHeld = `more than ${LIMITS.textBytes} bytes to hold back`;

function* lines(
  out: Output,
  input: Input,
  count: number,
  allButLast: boolean,
  end: number,
): Generator<void, string | null, void> {
  const held = new Queue();
  for (let n = 0; ; n++) {
    const line = allButLast || n < count ? yield* input.line(end) : null;
    if (line === null) return null;
    if (!allButLast) yield* out.write(line);
    else {
      held.push(line);
      if (held.count > count) yield* out.write(held.shift());
      if (held.bytes > LIMITS.textBytes) return tooMuchHeld;
    }
  }
}

function* bytes(out: Output, input: Input, count: number, allButLast: boolean): Generator<void, string | null, void> {
  const held = new Queue();
  let left = count;
  for (;;) {
    const piece = allButLast || left > 0 ? yield* input.chunk() : null;
    if (piece === null) return null;
    if (!allButLast) {
      yield* out.write(piece.subarray(0, left));
      left -= piece.length;
      continue;
    }
    held.push(piece.slice());
    while (held.bytes > count) yield* out.write(held.take(held.bytes - count));
    if (held.bytes > LIMITS.textBytes) return tooMuchHeld;
  }
}
