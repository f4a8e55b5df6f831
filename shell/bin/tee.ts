// tee: copies standard input to standard output and to files.

import { O, strerror } from '../../kernel/abi/index.ts';
import { define } from '../lib/program.ts';
import { Output } from '../lib/stdio.ts';

const options = { append: { short: 'a', help: 'append to the files instead of overwriting them' } } as const;

export const tee = define({
  name: 'tee',
  summary: 'copy input to files and output',
  usage: ['[-a] [FILE]...'],
  options,
  description: 'Copies standard input to standard output and to each FILE.',
  *main(ctx) {
    let status = 0;
    const outputs = [ctx.out];
    for (const name of ctx.operands) {
      const fd = yield* ctx.sys.open(name, O.WRONLY | O.CREAT | (ctx.options.append ? O.APPEND : O.TRUNC), 0o666);
      if (fd < 0) status = yield* ctx.failCall(name, -fd);
      else {
        outputs.push(
          new Output(ctx.sys, fd, function* (errno) {
            status = yield* ctx.fail(`${name}: ${strerror(errno)}`);
          }),
        );
      }
    }
    let piece: Uint8Array | null;
    while ((piece = yield* ctx.input.chunk()) !== null) for (const output of outputs) yield* output.write(piece);
    for (const output of outputs) yield* output.flush();
    return status;
  },
});
