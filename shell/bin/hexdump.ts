// hexdump: bytes in hexadecimal and as ASCII, sixteen a line (the canonical form). Repeated lines are shown once, then as `*`.

import { parseSize } from '../lib/fmt.ts';
import { closeInput, define, openInput } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { Span } from '../lib/span.ts';

const options = {
  canonical: { short: 'C', help: 'hexadecimal and ASCII (the default and only form)' },
  length: { short: 'n', value: 'N', help: 'stop after N bytes' },
  skip: { short: 's', value: 'N', help: 'begin at byte N' },
  'no-squeezing': { short: 'v', help: 'show every line, also repeated ones' },
} as const;

export const hexdump = define({
  name: 'hexdump',
  summary: 'show bytes in hexadecimal',
  usage: ['[-C] [-v] [-n N] [-s N] [FILE]...'],
  options,
  description: 'Shows the bytes of the FILEs, one after the other, or of standard input. N takes K, M, 0x….',
  examples: [['hexdump -C -n 64 /models/fable.gguf', 'the header of a model file']],
  *main(ctx) {
    const length = count(ctx.options.length ?? String(Number.MAX_SAFE_INTEGER));
    const skip = count(ctx.options.skip ?? '0');
    if (length === null) return yield* ctx.fail(`bad length: '${ctx.options.length}'`);
    if (skip === null) return yield* ctx.fail(`bad offset: '${ctx.options.skip}'`);
    const dump = new Dump(ctx, skip, length);
    const names = ctx.operands.length > 0 ? ctx.operands : ['-'];
    let opened = 0;
    let status = 0;
    for (const name of names) {
      const input = yield* openInput(ctx, name);
      if (input === null) {
        status = 1;
        continue;
      }
      opened++;
      yield* dump.add(input);
      if (!(yield* closeInput(ctx, name, input))) status = 1;
      if (dump.left === 0) break;
    }
    if (opened === 0) return yield* ctx.fail('all input file arguments failed');
    yield* dump.end();
    return status;
  },
});

const count = (text: string): number | null => (/^0x[0-9a-f]+$/i.test(text) ? Number(text) : parseSize(text));
const hex = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

class Dump extends Span {
  private previous: string | null = null;
  private squeezing = false;
  private readonly ctx: Context<typeof options>;

  constructor(ctx: Context<typeof options>, skip: number, length: number) {
    super(ctx.sys, skip, length, new Uint8Array(16));
    this.ctx = ctx;
  }

  *end(): Generator<void, void, void> {
    const began = this.previous !== null || this.filled > 0;
    const total = this.at + this.filled;
    if (this.filled > 0) yield* this.flush();
    if (began) yield* this.ctx.out.print(`${total.toString(16).padStart(8, '0')}\n`);
  }

  protected *flush(): Generator<void, void, void> {
    let bytes = '';
    let ascii = '';
    for (let i = 0; i < 16; i++) {
      const byte = this.block[i]!;
      bytes += i === 8 ? '  ' : ' ';
      bytes += i < this.filled ? hex[byte]! : '  ';
      if (i < this.filled) ascii += byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '.';
    }
    const repeated = bytes === this.previous && this.filled === 16 && !this.ctx.options['no-squeezing'];
    if (!repeated) yield* this.ctx.out.print(`${this.at.toString(16).padStart(8, '0')} ${bytes}  |${ascii}|\n`);
    else if (!this.squeezing) yield* this.ctx.out.print('*\n');
    this.squeezing = repeated;
    this.previous = bytes;
    this.at += this.filled;
    this.filled = 0;
  }
}
