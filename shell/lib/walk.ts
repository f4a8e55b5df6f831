// Trees as the utilities walk them: directories before what is in them, names in byte order, symbolic links never followed.

import { KIND } from '../../kernel/abi/index.ts';
import { join, listDirectory, lstat } from './files.ts';
import type { Context } from './program.ts';

/** Every path beneath `path`, if that is a directory; what cannot be read is reported and left out. */
export function* below(ctx: Pick<Context, 'sys' | 'fail'>, path: string): Generator<void, string[], void> {
  const found: string[] = [];
  const st = yield* lstat(ctx.sys, path);
  const pending = typeof st !== 'number' && st.kind === KIND.dir ? [path] : [];
  for (let dir; (dir = pending.pop()) !== undefined;) {
    const entries = yield* listDirectory(ctx.sys, dir);
    if (typeof entries === 'number') {
      yield* ctx.fail(`cannot read directory '${dir}'`, -entries);
      continue;
    }
    for (const { name, kind } of entries) {
      const inside = join(dir, name);
      found.push(inside);
      if (kind === KIND.dir) pending.push(inside);
    }
  }
  return found;
}
