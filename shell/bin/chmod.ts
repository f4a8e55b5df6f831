// chmod: changes permission bits, by octal or symbolic mode.

import { KIND } from '../../kernel/abi/index.ts';
import { lstat, stat } from '../lib/files.ts';
import { getopt } from '../lib/getopt.ts';
import { parseMode, type ModeChange } from '../lib/mode.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { below } from '../lib/walk.ts';

const options = { recursive: { short: 'R', help: 'change directories and what is in them' } } as const;

export const chmod = define({
  name: 'chmod',
  summary: 'change permission bits',
  usage: ['[-R] MODE[,MODE]... FILE...'],
  options,
  order: 'none',
  description:
    'Sets the permission bits of each FILE. MODE is octal (755, 1777) or symbolic: who (u g o a), an operator (+ - =) and rights (r w x X s t, or u g o to copy). Only the owner and root may.',
  examples: [
    ['chmod 600 notes', 'nobody else reads it'],
    ['chmod u+x,go-w script', 'the owner may run it, others not write it'],
    ['chmod -R go= /home/user', 'shuts a tree to everyone else'],
  ],
  *main(ctx) {
    // `-x` is a mode: it is taken out before the options are read.
    const args = ctx.argv.slice(1);
    const dashed = args.findIndex(arg => /^-[rwxXstugo]/.test(arg));
    const mode = dashed < 0 ? undefined : args.splice(dashed, 1)[0]!;
    const parsed = getopt(options, args, 'gnu');
    if (parsed.error !== null) return yield* ctx.usage(parsed.error);
    const operands = mode === undefined ? parsed.operands : [mode, ...parsed.operands];
    if (operands.length === 0) return yield* ctx.usage('missing operand');
    if (operands.length === 1) return yield* ctx.usage(`missing operand after '${operands[0]}'`);
    const umask = yield* ctx.sys.umask(0);
    yield* ctx.sys.umask(umask);
    const change = parseMode(operands[0]!, umask);
    if (change === null) return yield* ctx.usage(`invalid mode: '${operands[0]}'`);
    let status = 0;
    for (const path of operands.slice(1)) {
      status |= yield* changeOne(ctx, path, change, true);
      if (!parsed.options['recursive']) continue;
      for (const inside of yield* below(ctx, path)) status |= yield* changeOne(ctx, inside, change, false);
    }
    return status;
  },
});

/** Links inside a tree are left alone: they have no permissions of their own. */
function* changeOne(
  ctx: Pick<Context, 'sys' | 'fail'>,
  path: string,
  change: ModeChange,
  follow: boolean,
): Generator<void, number, void> {
  const st = yield* follow ? stat(ctx.sys, path) : lstat(ctx.sys, path);
  if (typeof st === 'number') return yield* ctx.fail(`cannot access '${path}'`, -st);
  if (st.kind === KIND.link) return 0;
  const errno = yield* ctx.sys.chmod(path, change(st.mode, st.kind === KIND.dir));
  return errno < 0 ? yield* ctx.fail(`changing permissions of '${path}'`, -errno) : 0;
}
