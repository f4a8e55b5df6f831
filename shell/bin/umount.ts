// umount: detaches a file system.

import { define } from '../lib/program.ts';

export const umount = define({
  name: 'umount',
  summary: 'detach a file system',
  usage: ['DIRECTORY...'],
  description: 'Detaches the file system mounted at each DIRECTORY. One with open files is busy.',
  *main(ctx) {
    if (ctx.operands.length === 0) return yield* ctx.usage('bad usage');
    let status = 0;
    for (const target of ctx.operands) {
      const errno = yield* ctx.sys.umount(target);
      if (errno < 0) status = 31 + (yield* ctx.failCall(target, -errno));
    }
    return status;
  },
});
