// rm: removes names, and with -r trees, deepest first.

import { E, KIND } from '../../kernel/abi/index.ts';
import { basename, join, listDirectory, lstat } from '../lib/files.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

const options = {
  force: { short: 'f', help: 'files that are not there are no error' },
  recursive: { short: 'rR', help: 'remove directories and what is in them' },
} as const;

export const rm = define({
  name: 'rm',
  summary: 'remove files and directories',
  usage: ['[-f] [-r] FILE...'],
  options,
  description: 'Removes each FILE. Refuses `/`, `.` and `..`.',
  examples: [['rm -r /tmp/work', 'removes a directory and what is in it']],
  *main(ctx) {
    const { options, operands } = ctx;
    if (operands.length === 0 && !options.force) return yield* ctx.usage('missing operand');
    let status = 0;
    for (const path of operands) {
      const st = yield* lstat(ctx.sys, path);
      if (typeof st === 'number') {
        if (!options.force || st !== -E.NOENT) status = yield* ctx.fail(`cannot remove '${path}'`, -st);
      } else if (st.kind === KIND.dir && !options.recursive)
        status = yield* ctx.fail(`cannot remove '${path}'`, E.ISDIR);
      else if (/^\/+$/.test(path)) status = yield* ctx.fail("it is dangerous to operate recursively on '/'");
      else if (['.', '..'].includes(basename(path))) {
        status = yield* ctx.fail(`refusing to remove '.' or '..' directory: skipping '${path}'`);
      } else status |= yield* removeTree(ctx, path, options.force);
    }
    return status;
  },
});

/** Removes a file or a whole tree; with `quiet` what is already gone is no error. Returns the exit status. */
export function* removeTree(
  ctx: Pick<Context, 'sys' | 'fail'>,
  path: string,
  quiet: boolean,
): Generator<void, number, void> {
  const { sys } = ctx;
  const st = yield* lstat(sys, path);
  let status = 0;
  const isDirectory = typeof st !== 'number' && st.kind === KIND.dir;
  if (isDirectory) {
    const entries = yield* listDirectory(sys, path);
    if (typeof entries === 'number') return yield* ctx.fail(`cannot remove '${path}'`, -entries);
    for (const { name } of entries) status |= yield* removeTree(ctx, join(path, name), quiet);
    if (status !== 0) return status;
  }
  const errno = yield* isDirectory ? sys.rmdir(path) : sys.unlink(path);
  if (errno < 0 && !(quiet && errno === -E.NOENT)) status = yield* ctx.fail(`cannot remove '${path}'`, -errno);
  return status;
}
