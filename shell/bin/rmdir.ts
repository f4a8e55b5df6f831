// rmdir: removes empty directories.

import { define } from '../lib/program.ts';

export const rmdir = define({
  name: 'rmdir',
  summary: 'remove empty directories',
  usage: ['DIRECTORY...'],
  description: 'Removes each DIRECTORY if it is empty.',
  *main(ctx) {
    if (ctx.operands.length === 0) return yield* ctx.usage('missing operand');
    let status = 0;
    for (const path of ctx.operands) {
      const errno = yield* ctx.sys.rmdir(path);
      if (errno < 0) status = yield* ctx.fail(`failed to remove '${path}'`, -errno);
    }
    return status;
  },
});
