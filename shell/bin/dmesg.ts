// dmesg: the kernel's log.

import { closeInput, define, openInput } from '../lib/program.ts';

const log = '/proc/kmsg';

export const dmesg = define({
  name: 'dmesg',
  summary: 'print the kernel log',
  usage: [''],
  description: 'Prints the messages of the kernel since boot, each with its virtual time in seconds.',
  examples: [['dmesg | grep model', 'what the loader said']],
  *main(ctx) {
    const input = yield* openInput(ctx, log);
    if (input === null) return 1;
    let piece: Uint8Array | null;
    while ((piece = yield* input.chunk()) !== null) yield* ctx.out.write(piece);
    return (yield* closeInput(ctx, log, input)) ? 0 : 1;
  },
});
