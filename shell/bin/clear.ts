// clear: an empty screen (ECMA-48: cursor home, erase all).

import { define } from '../lib/program.ts';

export const clear = define({
  name: 'clear',
  summary: 'clear the screen',
  usage: [''],
  description: 'Clears the terminal and puts the cursor in the upper left corner.',
  *main(ctx) {
    yield* ctx.out.print('\x1b[H\x1b[2J\x1b[3J');
    return 0;
  },
});
