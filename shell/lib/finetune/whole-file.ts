// Files that are there whole or not at all: written beside their name and renamed when they are complete, so that a power cut leaves the old
// one or the new one.

import { O } from '../../../kernel/abi/index.ts';
import type { Context } from '../program.ts';
import { writeAll } from '../stdio.ts';

type Caller = Pick<Context, 'sys' | 'failCall'>;

/** What is written before it has its name. */
export const partOf = (path: string): string => `${path}.part`;

/** `fill` writes the descriptor's file, which then has the name `path`: 0, or the status after a message. `fill` returns 0 or -errno. */
export function* writeWhole(
  ctx: Caller,
  path: string,
  fill: (fd: number) => Generator<void, number, void>,
): Generator<void, number, void> {
  const { sys } = ctx;
  const part = partOf(path);
  const fd = yield* sys.open(part, O.WRONLY | O.CREAT | O.TRUNC, 0o644);
  if (fd < 0) return yield* ctx.failCall(part, -fd);
  let status = yield* fill(fd);
  if (status < 0) status = yield* ctx.failCall(part, -status);
  yield* sys.close(fd);
  if (status === 0) {
    const renamed = yield* sys.rename(part, path);
    if (renamed === 0) return 0;
    status = yield* ctx.failCall(path, -renamed);
  }
  yield* sys.unlink(part);
  return status;
}

/** The same with these bytes. */
export const writeBytes = (ctx: Caller, path: string, bytes: Uint8Array): Generator<void, number, void> =>
  writeWhole(ctx, path, fd => writeAll(ctx.sys, fd, bytes));
