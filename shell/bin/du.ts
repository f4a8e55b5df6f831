// du: how much storage trees take.

import { KIND } from '../../kernel/abi/index.ts';
import { join, listDirectory, lstat } from '../lib/files.ts';
import type { FileStat } from '../lib/files.ts';
import { humanSize } from '../lib/fmt.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

const options = {
  all: { short: 'a', help: 'print files too, not only directories' },
  'apparent-size': { help: 'count bytes of contents instead of storage' },
  bytes: { short: 'b', help: 'the same, printed in bytes' },
  total: { short: 'c', help: 'print a sum at the end' },
  'max-depth': { short: 'd', value: 'N', help: 'print only what lies at most N directories down' },
  'human-readable': { short: 'h', help: 'sizes as 1.5K, 13M' },
  k: { help: 'sizes in KiB, as they are anyway' },
  summarize: { short: 's', help: 'print only a sum for each FILE' },
} as const;
type Du = Context<typeof options>;

interface Count {
  status: number;
  /** Files of several names are counted once: device and inode of those met. */
  readonly met: Set<string>;
  readonly depthMax: number;
}

export const du = define({
  name: 'du',
  summary: 'show how much storage files take',
  usage: ['[OPTION]... [FILE]...'],
  options,
  description:
    'Prints the storage that each directory takes with all that is in it, in KiB. A file with several names counts once.',
  examples: [['du -sh /models /usr', 'a line for each']],
  *main(ctx) {
    const { options, operands } = ctx;
    const depth = options['max-depth'];
    if (depth !== undefined && !/^[0-9]+$/.test(depth)) return yield* ctx.usage(`invalid maximum depth '${depth}'`);
    if (options.summarize && options.all) return yield* ctx.usage('cannot both summarize and show all entries');
    if (options.summarize && depth !== undefined && Number(depth) > 0)
      return yield* ctx.usage(`warning: summarizing conflicts with --max-depth=${depth}`);
    const depthMax = options.summarize ? 0 : depth === undefined ? Infinity : Number(depth);
    const count: Count = { status: 0, met: new Set(), depthMax };
    let total = 0;
    for (const path of operands.length > 0 ? operands : ['.']) total += yield* measure(ctx, count, path, 0);
    if (options.total) yield* show(ctx, total, 'total');
    return count.status;
  },
});

/** Bytes of `path` and all beneath; prints on the way. */
function* measure(ctx: Du, count: Count, path: string, depth: number): Generator<void, number, void> {
  const st = yield* lstat(ctx.sys, path);
  if (typeof st === 'number') {
    count.status = yield* ctx.fail(`cannot access '${path}'`, -st);
    return 0;
  }
  const key = `${st.device} ${st.inode}`;
  if (st.kind !== KIND.dir && st.links > 1 && count.met.has(key)) return 0;
  count.met.add(key);
  let bytes = bytesOf(ctx, st);
  if (st.kind === KIND.dir) {
    const entries = yield* listDirectory(ctx.sys, path);
    if (typeof entries === 'number') count.status = yield* ctx.fail(`cannot read directory '${path}'`, -entries);
    else for (const { name } of entries) bytes += yield* measure(ctx, count, join(path, name), depth + 1);
  }
  if (depth === 0 || (depth <= count.depthMax && (ctx.options.all || st.kind === KIND.dir)))
    yield* show(ctx, bytes, path);
  return bytes;
}

function bytesOf({ options }: Du, st: FileStat): number {
  return options.bytes || options['apparent-size'] ? st.size : st.blocks * 512;
}

function* show(ctx: Du, bytes: number, path: string): Generator<void, void, void> {
  const { options } = ctx;
  const size = options['human-readable'] ? humanSize(bytes) : String(options.bytes ? bytes : Math.ceil(bytes / 1024));
  yield* ctx.out.print(`${size}\t${path}\n`);
}
