// mv: renames; across file systems it copies and then removes.

import { E, KIND } from '../../kernel/abi/index.ts';
import { lstat } from '../lib/files.ts';
import { define } from '../lib/program.ts';
import { copyTree, destinations } from './cp.ts';
import { removeTree } from './rm.ts';

export const mv = define({
  name: 'mv',
  summary: 'move or rename files',
  usage: ['SOURCE DEST', 'SOURCE... DIRECTORY'],
  description:
    'Renames SOURCE to DEST, or moves each SOURCE into DIRECTORY. Between file systems it copies, then removes.',
  examples: [['mv /tmp/a /tmp/b', 'renames a file']],
  *main(ctx) {
    const plan = yield* destinations(ctx);
    if (typeof plan === 'number') return plan;
    let status = 0;
    for (const [from, to] of plan) {
      const source = yield* lstat(ctx.sys, from);
      const target = yield* lstat(ctx.sys, to);
      const both = typeof source !== 'number' && typeof target !== 'number';
      if (typeof source === 'number') status = yield* ctx.fail(`cannot stat '${from}'`, -source);
      else if (both && source.inode === target.inode && source.device === target.device) {
        status = yield* ctx.fail(`'${from}' and '${to}' are the same file`);
      } else if (both && target.kind === KIND.dir && source.kind !== KIND.dir) {
        status = yield* ctx.fail(`cannot overwrite directory '${to}' with non-directory`);
      } else if (both && target.kind !== KIND.dir && source.kind === KIND.dir) {
        status = yield* ctx.fail(`cannot overwrite non-directory '${to}' with directory '${from}'`);
      } else {
        const errno = yield* ctx.sys.rename(from, to);
        if (errno === -E.XDEV)
          status |= (yield* copyTree(ctx, from, to, true)) || (yield* removeTree(ctx, from, false));
        else if (errno === -E.INVAL)
          status = yield* ctx.fail(`cannot move '${from}' to a subdirectory of itself, '${to}'`);
        else if (errno < 0) status = yield* ctx.fail(`cannot move '${from}' to '${to}'`, -errno);
      }
    }
    return status;
  },
});
