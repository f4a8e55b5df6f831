// Absolute paths without `.`, `..` and symbolic links, found by walking: what realpath(3) gives.

import { E, KIND, LIMITS, utf8Decode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { dirname, join, lstat, readlink } from './files.ts';

/** How much of a path must be there: all of it, all but its last name, or nothing. */
export type Presence = 'all' | 'parent' | 'none';

/** The canonical form of `path`, or -errno. */
export function* canonical(sys: Sys, path: string, presence: Presence): Generator<void, string | number, void> {
  if (path === '') return -E.NOENT;
  let here = '/';
  if (!path.startsWith('/')) {
    const cwd = new Uint8Array(LIMITS.pathBytes);
    const bytes = yield* sys.getcwd(cwd);
    if (bytes < 0) return bytes;
    here = utf8Decode(cwd, 0, bytes);
  }
  const pending = path.split('/').reverse();
  let links = 0;
  while (pending.length > 0) {
    const name = pending.pop()!;
    if (name === '' || name === '.') continue;
    if (name === '..') {
      here = dirname(here);
      continue;
    }
    const next = join(here, name);
    const last = !pending.some(rest => rest !== '');
    const st = yield* lstat(sys, next);
    if (typeof st === 'number') {
      const free = st === -E.NOENT && (presence === 'none' || (presence === 'parent' && last));
      if (!free && presence !== 'none') return st;
      here = next;
    } else if (st.kind === KIND.link) {
      if (++links > LIMITS.symlinkDepth) return -E.LOOP;
      const target = yield* readlink(sys, next);
      if (typeof target === 'number') return target;
      if (target.startsWith('/')) here = '/';
      pending.push(...target.split('/').reverse());
    } else if (st.kind !== KIND.dir && (!last || pending.length > 0) && presence !== 'none') return -E.NOTDIR;
    else here = next;
  }
  return here;
}
