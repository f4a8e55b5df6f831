// cat: the simplest filter. Streams window-sized pieces, so a file of any size passes through the same few kilobytes.

import { closeInput, define, openInput } from '../lib/program.ts';

const options = { number: { short: 'n', help: 'number the lines' } } as const;

export const cat = define({
  name: 'cat',
  summary: 'concatenate files',
  usage: ['[-n] [FILE]...'],
  options,
  description: 'Copies each FILE to standard output. Without FILE, or where FILE is `-`, reads standard input.',
  examples: [
    ['cat /etc/motd', 'prints the message of the day'],
    ['cat -n /etc/rc', 'prints the boot script with line numbers'],
  ],
  *main(ctx) {
    let status = 0;
    let line = 0;
    for (const name of ctx.operands.length > 0 ? ctx.operands : ['-']) {
      const input = yield* openInput(ctx, name);
      if (input === null) {
        status = 1;
        continue;
      }
      if (ctx.options.number) {
        let bytes: Uint8Array | null;
        while ((bytes = yield* input.line()) !== null) {
          yield* ctx.out.print(`${String(++line).padStart(6)}\t`);
          yield* ctx.out.write(bytes);
        }
      } else {
        let piece: Uint8Array | null;
        while ((piece = yield* input.chunk()) !== null) yield* ctx.out.write(piece);
      }
      if (!(yield* closeInput(ctx, name, input))) status = 1;
    }
    return status;
  },
});
