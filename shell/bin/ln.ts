// ln: gives a file another name, or makes a symbolic link to it.

import { E, KIND } from '../../kernel/abi/index.ts';
import { basename, join, lstat, stat } from '../lib/files.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

const options = {
  force: { short: 'f', help: 'remove what is there first' },
  'no-dereference': { short: 'n', help: 'a LINK that is a symbolic link to a directory is a name, not a directory' },
  symbolic: { short: 's', help: 'make symbolic links' },
} as const;
type Ln = Context<typeof options>;

export const ln = define({
  name: 'ln',
  summary: 'make links between files',
  usage: ['[-s] [-f] [-n] TARGET LINK', '[-s] [-f] TARGET', '[-s] [-f] TARGET... DIRECTORY'],
  options,
  description:
    'Makes LINK another name of the file TARGET: both are the file, neither is the first. With -s LINK is a symbolic link, which holds TARGET as text, seen from where LINK is.',
  examples: [
    ['ln -s /models/fable-q8_0.gguf /tmp/model', 'a short name for a model'],
    ['ln notes copy', 'two names of one file: stat shows 2 links'],
  ],
  *main(ctx) {
    const { operands } = ctx;
    if (operands.length === 0) return yield* ctx.usage('missing file operand');
    if (operands.length === 1) return yield* make(ctx, operands[0]!, basename(operands[0]!));
    const last = operands.at(-1)!;
    const targets = operands.slice(0, -1);
    const st = yield* ctx.options['no-dereference'] ? lstat(ctx.sys, last) : stat(ctx.sys, last);
    const isDirectory = typeof st !== 'number' && st.kind === KIND.dir;
    if (!isDirectory && targets.length > 1)
      return yield* ctx.fail(`target '${last}'`, typeof st === 'number' ? -st : E.NOTDIR);
    let status = 0;
    for (const target of targets) status |= yield* make(ctx, target, isDirectory ? join(last, basename(target)) : last);
    return status;
  },
});

function* make(ctx: Ln, target: string, path: string): Generator<void, number, void> {
  const { sys, options } = ctx;
  const source = yield* lstat(sys, target);
  if (!options.symbolic) {
    if (typeof source === 'number') return yield* ctx.fail(`failed to access '${target}'`, -source);
    if (source.kind === KIND.dir) return yield* ctx.fail(`${target}: hard link not allowed for directory`);
  }
  const call = options.symbolic ? sys.symlink : sys.link;
  let errno = yield* call(target, path);
  if (errno === -E.EXIST && options.force) {
    const old = yield* lstat(sys, path);
    const same =
      typeof source !== 'number' &&
      typeof old !== 'number' &&
      source.inode === old.inode &&
      source.device === old.device;
    if (same) return yield* ctx.fail(`'${target}' and '${path}' are the same file`);
    errno = yield* sys.unlink(path);
    if (errno === 0) errno = yield* call(target, path);
  }
  if (errno >= 0) return 0;
  if (options.symbolic) return yield* ctx.fail(`failed to create symbolic link '${path}'`, -errno);
  const arrow = errno === -E.EXIST ? '' : ` => '${target}'`;
  return yield* ctx.fail(`failed to create hard link '${path}'${arrow}`, -errno);
}
