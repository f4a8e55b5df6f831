// ls: directory listings, sorted by bytes. Columns on a terminal, one name a line elsewhere, as coreutils does.

import { IOCTL, KIND, Stat } from '../../kernel/abi/index.ts';
import { byteOrder, join, listDirectory, readText, stat } from '../lib/files.ts';
import type { FileStat } from '../lib/files.ts';
import { columns, humanSize, isoMinute, modeString, table, times } from '../lib/fmt.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

const options = {
  all: { short: 'a', help: 'do not leave out names that begin with a dot' },
  'almost-all': { short: 'A', help: 'the same without . and ..' },
  directory: { short: 'd', help: 'list directories themselves, not what is in them' },
  classify: { short: 'F', help: 'append / to directories and * to programs' },
  'human-readable': { short: 'h', help: 'with -l: sizes as 1.5K, 13M' },
  inode: { short: 'i', help: 'print inode numbers' },
  l: { help: 'long listing: mode, links, owner, group, size, time, name' },
  reverse: { short: 'r', help: 'reverse the order' },
  recursive: { short: 'R', help: 'list directories below as well' },
  S: { help: 'sort by size, largest first' },
  t: { help: 'sort by time, newest first' },
  '1': { help: 'one name a line' },
} as const;
type Ls = Context<typeof options>;

interface Item {
  readonly name: string; // as shown
  readonly stat: FileStat;
  /** Listed by its directory, and not to be looked at: only its name is known. */
  readonly unknown?: true;
}

/** What a listing needs to know once. */
interface View {
  readonly width: number; // of the terminal; 0: one name a line
  readonly users: ReadonlyMap<number, string>;
  readonly epochSeconds: number; // of virtual time 0
}

const nothingKnown: FileStat = Stat.read(new Uint8Array(Stat.bytes), 0);

export const ls = define({
  name: 'ls',
  summary: 'list directory contents',
  usage: ['[OPTION]... [FILE]...'],
  options,
  usageStatus: 2,
  description: 'Lists each FILE, or what is in it when it is a directory; without FILE the working directory.',
  examples: [
    ['ls -l /models', 'the models of the boot image, with sizes'],
    ['ls /mnt/x/tensors', 'the tensors of a model mounted there'],
  ],
  *main(ctx) {
    const view = yield* prepareView(ctx);
    const operands = ctx.operands.length > 0 ? ctx.operands : ['.'];
    let status = 0;
    const files: Item[] = [];
    const directories: Item[] = [];
    for (const name of operands) {
      const st = yield* stat(ctx.sys, name);
      if (typeof st === 'number') status = (yield* ctx.fail(`cannot access '${name}'`, -st)) + 1;
      else (st.kind === KIND.dir && !ctx.options.directory ? directories : files).push({ name, stat: st });
    }
    if (files.length > 0) yield* show(ctx, view, sort(ctx, files));
    const headed = operands.length > 1 || ctx.options.recursive;
    let blank = files.length > 0;
    for (const { name } of sort(ctx, directories)) {
      status = Math.max(status, yield* listOne(ctx, view, name, headed, blank));
      blank = true;
    }
    return status;
  },
});

function* prepareView(ctx: Ls): Generator<void, View, void> {
  const isTerminal = (yield* ctx.sys.ioctl(1, IOCTL.isatty, 0)) === 1;
  const wide = isTerminal && !ctx.options['1'] && !ctx.options.l;
  const users = new Map<number, string>();
  let epochSeconds = 0;
  if (ctx.options.l) {
    const passwd = yield* readText(ctx.sys, '/etc/passwd');
    for (const line of typeof passwd === 'string' ? passwd.split('\n') : []) {
      const [name, , uid] = line.split(':');
      if (uid !== undefined) users.set(Number(uid), name!);
    }
    epochSeconds = (yield* times(ctx.sys)).bootEpochSeconds;
  }
  return { width: wide ? Math.max(1, yield* ctx.sys.ioctl(1, IOCTL.columns, 0)) : 0, users, epochSeconds };
}

function sort(ctx: Ls, items: Item[]): Item[] {
  items.sort((a, b) => {
    const bySize = ctx.options.S ? b.stat.size - a.stat.size : 0;
    const byTime = ctx.options.t ? b.stat.modifiedNs - a.stat.modifiedNs : 0;
    return bySize || byTime || byteOrder(a.name, b.name);
  });
  return ctx.options.reverse ? items.reverse() : items;
}

/** One directory, and with -R those below it. Returns the exit status. */
function* listOne(ctx: Ls, view: View, path: string, headed: boolean, blank: boolean): Generator<void, number, void> {
  const { options, sys } = ctx;
  const entries = yield* listDirectory(sys, path);
  if (typeof entries === 'number') return (yield* ctx.fail(`cannot open directory '${path}'`, -entries)) + 1;
  if (headed) yield* ctx.out.print(`${blank ? '\n' : ''}${path}:\n`);
  const names = entries.map(e => e.name).filter(n => options.all || options['almost-all'] || !n.startsWith('.'));
  if (options.all) names.push('.', '..');
  let status = 0;
  const items: Item[] = [];
  const detailed = options.l || options.S || options.t || options.classify || options.inode;
  for (const name of names) {
    const st = yield* stat(sys, join(path, name));
    if (typeof st === 'number') {
      if (detailed) status = yield* ctx.fail(`cannot access '${join(path, name)}'`, -st);
      items.push({ name, stat: nothingKnown, unknown: true });
    } else items.push({ name, stat: st });
  }
  sort(ctx, items);
  if (options.l) {
    const blocks = items.reduce((sum, item) => sum + Math.ceil(item.stat.size / 1024), 0);
    yield* ctx.out.print(`total ${options['human-readable'] ? humanSize(blocks * 1024) : blocks}\n`);
  }
  yield* show(ctx, view, items);
  if (!options.recursive) return status;
  for (const { name, stat: st } of items) {
    if (st.kind !== KIND.dir || name === '.' || name === '..') continue;
    status = Math.max(status, yield* listOne(ctx, view, join(path, name), true, true));
  }
  return status;
}

function* show(ctx: Ls, view: View, items: readonly Item[]): Generator<void, void, void> {
  const { options } = ctx;
  const shown = ({ name, stat: st }: Item): string => {
    const mark = st.kind === KIND.dir ? '/' : st.kind === KIND.file && st.mode & 0o111 ? '*' : '';
    return name + (options.classify ? mark : '');
  };
  if (options.l) {
    const rows = items.map(item => {
      const { stat: st } = item;
      const unknown = [...(options.inode ? ['?'] : []), '??????????', '?', '?', '?', '?', '?', item.name];
      if (item.unknown) return unknown;
      const owner = (id: number): string => view.users.get(id) ?? String(id);
      return [
        ...(options.inode ? [String(st.inode)] : []),
        modeString(st.kind, st.mode),
        String(st.links),
        owner(st.uid),
        owner(st.gid),
        options['human-readable'] ? humanSize(st.size) : String(st.size),
        isoMinute(view.epochSeconds + st.modifiedNs / 1e9),
        shown(item),
      ];
    });
    const right = [...(options.inode ? [true] : []), false, true, false, false, true];
    yield* ctx.out.print(table(rows, right, ' '));
  } else {
    const names = items.map(item => (options.inode ? `${item.stat.inode} ` : '') + shown(item));
    yield* ctx.out.print(view.width > 0 ? columns(names, view.width) : names.map(n => `${n}\n`).join(''));
  }
}
