// ps: the processes of the machine.

import { readText } from '../lib/files.ts';
import { define } from '../lib/program.ts';

export const ps = define({
  name: 'ps',
  summary: 'list processes',
  usage: [''],
  description: 'Prints one line per process: its number, its parent, its state, its cycles and its command.',
  *main(ctx) {
    const text = yield* readText(ctx.sys, '/proc/ps');
    if (typeof text === 'number') return yield* ctx.fail('/proc/ps', -text);
    yield* ctx.out.print(text);
    return 0;
  },
});
