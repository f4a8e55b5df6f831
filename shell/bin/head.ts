// head: the first lines or bytes of files.

import { lineEnd } from '../lib/bytes.ts';
import { parseSize } from '../lib/fmt.ts';
import { closeInput, define, openInput } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { concat } from '../lib/stdio.ts';
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

/** Runs `print` on each operand, with names between as head and tail print them. Returns the exit status. */
export function* eachFile(
  ctx: Reader,
  print: (input: Input) => Generator<void, void, void>,
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
    yield* print(input);
    if (!(yield* closeInput(ctx, name, input))) status = 1;
  }
  return status;
}

function* lines(
  out: Output,
  input: Input,
  count: number,
  allButLast: boolean,
  end: number,
): Generator<void, void, void> {
  const held: Uint8Array[] = [];
  for (let n = 0; ; n++) {
    const line = allButLast || n < count ? yield* input.line(end) : null;
    if (line === null) return;
    if (!allButLast) yield* out.write(line);
    else if (held.push(line) > count) yield* out.write(held.shift()!);
  }
}

function* bytes(out: Output, input: Input, count: number, allButLast: boolean): Generator<void, void, void> {
  let held: Uint8Array = new Uint8Array(0);
  let left = count;
  for (;;) {
    const piece: Uint8Array | null = allButLast || left > 0 ? yield* input.chunk() : null;
    if (piece === null) return;
    if (allButLast) {
      const all: Uint8Array = concat([held, piece]);
      const cut = Math.max(0, all.length - count);
      yield* out.write(all.subarray(0, cut));
      held = all.slice(cut);
    } else {
      yield* out.write(piece.subarray(0, left));
      left -= piece.length;
    }
  }
}
