// umount: detaches file systems, named by where they are mounted or by what is mounted.

import { E } from '../../kernel/abi/index.ts';
import { mountTable } from '../lib/mounts.ts';
import { define } from '../lib/program.ts';

const options = {
  all: { short: 'a', help: 'everything that is not in use, the latest first; the root stays' },
  types: { short: 't', value: 'TYPE', help: 'with -a: file systems of this type only' },
  verbose: { short: 'v', help: 'say what was detached' },
} as const;

export const umount = define({
  name: 'umount',
  summary: 'detach a file system',
  usage: ['[-v] DIRECTORY|SOURCE...', '-a [-v] [-t TYPE]'],
  options,
  description:
    'Detaches the file system mounted at each DIRECTORY, or the one whose SOURCE is named. One that holds open files, a working directory or another mount is busy.',
  examples: [['umount /mnt/x', 'detaches a model']],
  *main(ctx) {
    const { all, types, verbose } = ctx.options;
    if (!all && ctx.operands.length === 0) return yield* ctx.usage('bad usage');
    const mounts = yield* mountTable(ctx.sys);
    if (typeof mounts === 'number') return yield* ctx.fail('/proc/mounts', -mounts);
    const latest = mounts.toReversed();
    const targets = all
      ? latest.filter(m => m.target !== '/' && (types === undefined || m.type === types)).map(m => m.target)
      : ctx.operands.map(name => latest.find(m => m.source === name && m.source.startsWith('/'))?.target ?? name);
    let status = 0;
    for (const target of targets) {
      const errno = yield* ctx.sys.umount(target);
      if (errno === -E.BUSY && all) continue;
      if (errno < 0) status = 31 + (yield* ctx.failCall(target, -errno));
      else if (verbose) yield* ctx.out.print(`umount: ${target} unmounted\n`);
    }
    return status;
  },
});
