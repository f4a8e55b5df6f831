// What the kernel says of a refused call beside its errno: the C library's words, and where a limit was reached, the limit. After the
// house rule that an error names the number that would have fitted.

import { E, LIMITS, strerror, type CallName } from './abi/index.ts';
import { POSITION_MAX } from '../vfs/file.ts';
import type { TmpPool } from '../vfs/fs-tmp.ts';

/** Which limit an errno of a call tells of; null for none. */
function limitReached(call: CallName, errno: number, pool: TmpPool): string | null {
  switch (errno) {
    case E.MFILE:
      return `${LIMITS.filesPerProcess} in a process`;
    case E.NFILE:
      return call === 'pipe' ? `${LIMITS.pipesMax} pipes, ${LIMITS.filesMax} files` : `${LIMITS.filesMax}`;
    case E.NAMETOOLONG:
      return `a name has at most ${LIMITS.nameBytes} bytes, a path ${LIMITS.pathBytes - 1}`;
    case E.LOOP:
      return `at most ${LIMITS.symlinkDepth} are followed`;
    case E.TOOBIG:
      return `at most ${LIMITS.argBytes} bytes, ${LIMITS.argsMax} strings`;
    case E.FBIG:
      return `at most ${POSITION_MAX} bytes`;
    case E.AGAIN:
      return call === 'spawn' || call === 'fork' ? `${LIMITS.processesMax} processes` : null;
    case E.NOSPC:
      if (call === 'mount') return `${LIMITS.mountsMax} mounts`;
      return pool.full
        ? `${pool.bytesUsed} of ${pool.bytesMax} bytes, ${pool.inodesUsed} of ${pool.inodesMax} files`
        : null;
    default:
      return null;
  }
}

/** The sentence for `errno` (> 0), e.g. `Too many open files (32 in a process)`. */
export function explain(call: CallName, errno: number, pool: TmpPool): string {
  const limit = limitReached(call, errno, pool);
  return limit === null ? strerror(errno) : `${strerror(errno)} (${limit})`;
}
