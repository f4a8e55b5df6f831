// mkdir: makes directories.

import { E } from '../../kernel/abi/index.ts';
import { isDirectory } from '../lib/files.ts';
import { parseMode } from '../lib/mode.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

const options = {
  mode: { short: 'm', value: 'MODE', help: 'permission bits, as chmod takes them; without it 777 less the umask' },
  parents: { short: 'p', help: 'make missing parents; a directory that is there is no error' },
} as const;

export const mkdir = define({
  name: 'mkdir',
  summary: 'make directories',
  usage: ['[-p] [-m MODE] DIRECTORY...'],
  options,
  description: 'Makes each DIRECTORY.',
  examples: [['mkdir -p /mnt/x', 'makes a mount point']],
  *main(ctx) {
    const { options, operands } = ctx;
    if (operands.length === 0) return yield* ctx.usage('missing operand');
    const change = options.mode === undefined ? null : parseMode(options.mode, 0);
    if (options.mode !== undefined && change === null) return yield* ctx.fail(`invalid mode: '${options.mode}'`);
    const mode = change?.(0o777, true) ?? null;
    let status = 0;
    for (const path of operands)
      status |= yield* options.parents ? makeParents(ctx, path, mode) : make(ctx, path, mode);
    return status;
  },
});

/** A mode that is given is given exactly: the umask has no say. */
function* makeOne({ sys }: Pick<Context, 'sys'>, path: string, mode: number | null): Generator<void, number, void> {
  const errno = yield* sys.mkdir(path, 0o777);
  return errno < 0 || mode === null ? errno : yield* sys.chmod(path, mode);
}

function* make(ctx: Context<typeof options>, path: string, mode: number | null): Generator<void, number, void> {
  const errno = yield* makeOne(ctx, path, mode);
  return errno < 0 ? yield* ctx.fail(`cannot create directory '${path}'`, -errno) : 0;
}

function* makeParents(ctx: Context<typeof options>, path: string, mode: number | null): Generator<void, number, void> {
  const parts = path.split('/').filter(p => p !== '');
  let prefix = path.startsWith('/') ? '/' : '';
  for (const [i, part] of parts.entries()) {
    prefix += part;
    const errno = yield* makeOne(ctx, prefix, i === parts.length - 1 ? mode : null);
    // A read-only file system may answer EROFS for a directory that is there.
    if (errno < 0 && !(yield* isDirectory(ctx.sys, prefix))) {
      return yield* ctx.fail(
        `cannot create directory '${prefix}'`,
        errno === -E.EXIST && i < parts.length - 1 ? E.NOTDIR : -errno,
      );
    }
    prefix += '/';
  }
  return 0;
}
