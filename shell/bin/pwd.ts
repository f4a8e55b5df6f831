// pwd: the working directory.

import { LIMITS } from '../../kernel/abi/index.ts';
import { define } from '../lib/program.ts';

export const pwd = define({
  name: 'pwd',
  summary: 'print the working directory',
  usage: [''],
  description: 'Prints the absolute path of the working directory.',
  *main(ctx) {
    const path = new Uint8Array(LIMITS.pathBytes);
    const n = yield* ctx.sys.getcwd(path);
    if (n < 0) return yield* ctx.fail('cannot find the working directory', -n);
    yield* ctx.out.write(path.subarray(0, n));
    yield* ctx.out.print('\n');
    return 0;
  },
});
