// cp: copies files, and with -r trees. Data go through one window-sized buffer.

import { E, KIND, O } from '../../kernel/abi/index.ts';
import { basename, copyDescriptor, join, listDirectory, lstat, readlink, stat } from '../lib/files.ts';
import type { FileStat } from '../lib/files.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

const options = { recursive: { short: 'rR', help: 'copy directories and what is in them' } } as const;

export const cp = define({
  name: 'cp',
  summary: 'copy files and directories',
  usage: ['[-r] SOURCE DEST', '[-r] SOURCE... DIRECTORY'],
  options,
  description: 'Copies SOURCE to DEST, or each SOURCE into DIRECTORY. A file that is there is overwritten.',
  examples: [['cp /etc/motd /tmp/note', 'copies one file']],
  *main(ctx) {
    const plan = yield* destinations(ctx);
    if (typeof plan === 'number') return plan;
    let status = 0;
    for (const [from, to] of plan) status |= yield* copyTree(ctx, from, to, ctx.options.recursive);
    return status;
  },
});

type Reporter = Pick<Context, 'sys' | 'operands' | 'fail' | 'failCall' | 'usage'>;

/** The pairs that `SOURCE... DEST` means, for cp and mv; an exit status after a message. */
export function* destinations(ctx: Reporter): Generator<void, [from: string, to: string][] | number, void> {
  const { operands } = ctx;
  if (operands.length === 0) return yield* ctx.usage('missing file operand');
  if (operands.length === 1) return yield* ctx.usage(`missing destination file operand after '${operands[0]}'`);
  const target = operands.at(-1)!;
  const sources = operands.slice(0, -1);
  const st = yield* stat(ctx.sys, target);
  const isDirectory = typeof st !== 'number' && st.kind === KIND.dir;
  if (isDirectory) return sources.map(from => [from, join(target, basename(from))]);
  if (sources.length > 1) return yield* ctx.fail(`target '${target}'`, typeof st === 'number' ? -st : E.NOTDIR);
  return [[sources[0]!, target]];
}

/** Copies a file or, when `recursive`, a tree. Returns the exit status. */
export function* copyTree(ctx: Reporter, from: string, to: string, recursive: boolean): Generator<void, number, void> {
  const { sys } = ctx;
  const source = yield* recursive ? lstat(sys, from) : stat(sys, from);
  if (typeof source === 'number') return yield* ctx.fail(`cannot stat '${from}'`, -source);
  const target = yield* stat(sys, to);
  const exists = typeof target !== 'number';
  if (exists && target.device === source.device && target.inode === source.inode) {
    return yield* ctx.fail(`'${from}' and '${to}' are the same file`);
  }
  if (source.kind !== KIND.dir) {
    if (exists && target.kind === KIND.dir)
      return yield* ctx.fail(`cannot overwrite directory '${to}' with non-directory`);
    if (source.kind === KIND.link) return yield* copyLink(ctx, from, to);
    // A device in a tree is not its data; named alone, it is.
    if (recursive && source.kind !== KIND.file) return yield* ctx.fail(`cannot create special file '${to}'`, E.NOTSUP);
    return yield* copyFile(ctx, from, to, source.mode);
  }
  if (!recursive) return yield* ctx.fail(`-r not specified; omitting directory '${from}'`);
  if (exists && target.kind !== KIND.dir)
    return yield* ctx.fail(`cannot overwrite non-directory '${to}' with directory '${from}'`);
  // The listing is taken before the copy exists: a directory copied into itself must not meet its own copy.
  const entries = yield* listDirectory(sys, from);
  if (typeof entries === 'number') return yield* ctx.fail(`cannot access '${from}'`, -entries);
  if (!exists) {
    const errno = yield* sys.mkdir(to, source.mode);
    if (errno < 0) return yield* ctx.fail(`cannot create directory '${to}'`, -errno);
    if (yield* isBelow(ctx, to, source)) {
      yield* sys.rmdir(to);
      return yield* ctx.fail(`cannot copy a directory, '${from}', into itself, '${to}'`);
    }
  }
  let status = 0;
  for (const { name } of entries) status |= yield* copyTree(ctx, join(from, name), join(to, name), true);
  return status;
}

/** A link in a tree is copied as the link that it is. */
function* copyLink(ctx: Reporter, from: string, to: string): Generator<void, number, void> {
  const target = yield* readlink(ctx.sys, from);
  if (typeof target === 'number') return yield* ctx.fail(`cannot read symbolic link '${from}'`, -target);
  const errno = yield* ctx.sys.symlink(target, to);
  return errno < 0 ? yield* ctx.fail(`cannot create symbolic link '${to}'`, -errno) : 0;
}

/** True when `path` lies below the directory whose stat record is `outer`. */
function* isBelow(ctx: Reporter, path: string, outer: FileStat): Generator<void, boolean, void> {
  let here = yield* stat(ctx.sys, path);
  for (let up = join(path, '..'); ; up = join(up, '..')) {
    const parent = yield* stat(ctx.sys, up);
    if (typeof here === 'number' || typeof parent === 'number') return false;
    if (parent.inode === here.inode && parent.device === here.device) return false; // the root is its own parent
    if (parent.inode === outer.inode && parent.device === outer.device) return true;
    here = parent;
  }
}

function* copyFile(ctx: Reporter, from: string, to: string, mode: number): Generator<void, number, void> {
  const { sys } = ctx;
  const input = yield* sys.open(from, O.RDONLY, 0);
  if (input < 0) return yield* ctx.failCall(`cannot open '${from}' for reading`, -input);
  const output = yield* sys.open(to, O.WRONLY | O.CREAT | O.TRUNC, mode);
  if (output < 0) {
    yield* sys.close(input);
    return yield* ctx.failCall(`cannot create regular file '${to}'`, -output);
  }
  const result = yield* copyDescriptor(sys, input, output);
  yield* sys.close(input);
  yield* sys.close(output);
  if (result === 0) return 0;
  return yield* ctx.fail(result.side === 'read' ? `error reading '${from}'` : `error writing '${to}'`, result.errno);
}
