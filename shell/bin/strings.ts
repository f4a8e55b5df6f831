// strings: runs of printable characters in binary files. A run that is not yet long enough is held, the rest streams through.

import { isPrintable } from '../lib/bytes.ts';
import { closeInput, define, openInput, quietly } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import type { Input } from '../lib/stdio.ts';

const options = {
  all: { short: 'a', help: 'search the whole file (the default)' },
  'print-file-name': { short: 'f', help: 'print before each run which file it is in' },
  bytes: { short: 'n', value: 'N', digits: true, help: 'runs of at least N characters (default 4)' },
  radix: { short: 't', value: 'R', help: 'print the place of each run: d decimal, o octal, x hexadecimal' },
  o: { help: 'the same as -t o' },
} as const;
type Strings = Context<typeof options>;

export const strings = define({
  name: 'strings',
  summary: 'print runs of printable characters',
  usage: ['[-a] [-f] [-n N] [-t d|o|x] [FILE]...'],
  options,
  description:
    'Prints the runs of four and more printable ASCII characters and tabs in each FILE, or in standard input, one a line.',
  examples: [['strings -t x /models/fable-q8_0.gguf | head', 'the names in a model file, and where they are']],
  *main(ctx) {
    const text = ctx.options.bytes ?? '4';
    if (!/^(?:[1-9][0-9]*|0)$/.test(text)) return yield* ctx.fail(`invalid integer argument ${text}`);
    const least = Number(text);
    if (least === 0) return yield* ctx.fail('invalid minimum string length 0');
    const letter = ctx.options.radix ?? (ctx.options.o ? 'o' : '');
    const radix = { '': 0, d: 10, o: 8, x: 16 }[letter];
    if (radix === undefined) return yield* ctx.usage(`invalid radix '${letter}'`);
    let status = 0;
    for (const name of ctx.operands.length > 0 ? ctx.operands : ['-']) {
      const input = name === '-' ? ctx.input : yield* openInput(quietly(ctx), name);
      if (input === null) {
        status = yield* ctx.fail(`'${name}': No such file`);
        continue;
      }
      const label = ctx.options['print-file-name'] ? `${name === '-' ? '{standard input}' : name}: ` : '';
      yield* runs(ctx, input, least, radix, label);
      if (!(yield* closeInput(ctx, name, input))) status = 1;
    }
    return status;
  },
});

function* runs(ctx: Strings, input: Input, least: number, radix: number, label: string): Generator<void, void, void> {
  let offset = 0;
  let length = 0; // of the run so far
  let held = ''; // its beginning, while it may be too short
  for (;;) {
    const piece = yield* input.chunk();
    if (piece === null) break;
    let text = '';
    for (const byte of piece) {
      if (isPrintable(byte) || byte === 9) {
        held += String.fromCharCode(byte);
        if (++length >= least) {
          if (length === least) text += label + place(offset + 1 - least, radix);
          text += held;
          held = '';
        }
      } else {
        if (length >= least) text += '\n';
        length = 0;
        held = '';
      }
      offset++;
    }
    yield* ctx.out.print(text);
  }
  if (length >= least) yield* ctx.out.print('\n');
}

const place = (offset: number, radix: number): string => (radix === 0 ? '' : `${offset.toString(radix).padStart(7)} `);
