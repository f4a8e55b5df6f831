// touch: makes files that are not there. Times are virtual and change only when data do.

import { touch as makeFile } from '../lib/files.ts';
import { define } from '../lib/program.ts';

export const touch = define({
  name: 'touch',
  summary: 'make empty files',
  usage: ['FILE...'],
  description: 'Makes each FILE that is not there, empty. One that is there is left as it is.',
  *main(ctx) {
    if (ctx.operands.length === 0) return yield* ctx.usage('missing file operand');
    let status = 0;
    for (const path of ctx.operands) {
      const errno = yield* makeFile(ctx.sys, path);
      if (errno < 0) status = yield* ctx.fail(`cannot touch '${path}'`, -errno);
    }
    return status;
  },
});
