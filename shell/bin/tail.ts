// tail: the last lines or bytes of files. What might be the end is held back while the input streams past.

import { LIMITS } from '../../kernel/abi/index.ts';
import { lineEnd } from '../lib/bytes.ts';
import { parseSize } from '../lib/fmt.ts';
import { define } from '../lib/program.ts';
import { Queue } from '../lib/queue.ts';
import type { Input, Output } from '../lib/stdio.ts';
import { eachFile, tooMuchHeld } from './head.ts';

const options = {
  bytes: { short: 'c', value: '[+]N', help: 'print the last N bytes; with + from byte N on' },
  lines: {
    short: 'n',
    value: '[+]N',
    digits: true,
    help: 'print the last N lines (default 10); with + from line N on',
  },
  quiet: { short: 'q', help: 'never print names' },
  verbose: { short: 'v', help: 'always print names' },
  'zero-terminated': { short: 'z', help: 'lines end in a zero byte' },
} as const;

export const tail = define({
  name: 'tail',
  summary: 'print the end of files',
  usage: ['[-n N | -c N] [FILE]...'],
  options,
  description:
    'Prints the last 10 lines of each FILE, or of standard input. With several FILEs each is preceded by its name.',
  examples: [['dmesg | tail -n 5', 'the last messages of the kernel']],
  *main(ctx) {
    const text = ctx.options.bytes ?? ctx.options.lines ?? '10';
    const what = ctx.options.bytes === undefined ? 'lines' : 'bytes';
    const count = parseSize(text.replace(/^[-+]/, ''));
    if (count === null) return yield* ctx.fail(`invalid number of ${what}: '${text}'`);
    const from = text.startsWith('+') ? Math.max(0, count - 1) : null;
    const end = lineEnd(ctx.options['zero-terminated']);
    return yield* eachFile(ctx, input =>
      what === 'lines' ? lines(ctx.out, input, count, from, end) : bytes(ctx.out, input, count, from),
    );
  },
});

/** `from`: how many to skip, or null to print the last `count`. */
function* lines(
  out: Output,
  input: Input,
  count: number,
  from: number | null,
  end: number,
): Generator<void, string | null, void> {
  const held = new Queue();
  for (let n = 0; ; n++) {
    const line = yield* input.line(end);
    if (line === null) break;
    if (from === null) {
      held.push(line);
      if (held.count > count) held.shift();
      if (held.bytes > LIMITS.textBytes) return tooMuchHeld;
    } else if (n >= from) yield* out.write(line);
  }
  while (held.count > 0) yield* out.write(held.shift());
  return null;
}

function* bytes(out: Output, input: Input, count: number, from: number | null): Generator<void, string | null, void> {
  const held = new Queue();
  let skip = from ?? 0;
  for (;;) {
    const piece = yield* input.chunk();
    if (piece === null) break;
    if (from === null) {
      held.push(piece.slice());
      while (held.bytes > count) held.take(held.bytes - count);
      if (held.bytes > LIMITS.textBytes) return tooMuchHeld;
    } else {
      yield* out.write(piece.subarray(Math.min(skip, piece.length)));
      skip = Math.max(0, skip - piece.length);
    }
  }
  while (held.count > 0) yield* out.write(held.shift());
  return null;
}
