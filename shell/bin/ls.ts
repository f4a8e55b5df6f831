// ls: directory listings, sorted by bytes. Columns on a terminal, one name a line elsewhere, as coreutils does.

import { IOCTL, KIND, Stat } from '../../kernel/abi/index.ts';
import { Accounts, readAccounts } from '../lib/accounts.ts';
import { byteOrder, join, listDirectory, lstat, readlink, stat } from '../lib/files.ts';
import type { FileStat } from '../lib/files.ts';
import { columns, humanSize, isoMinute, modeString, table, times } from '../lib/fmt.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

const options = {
  all: { short: 'a', help: 'do not leave out names that begin with a dot' },
  'almost-all': { short: 'A', help: 'the same without . and ..' },
  directory: { short: 'd', help: 'list directories themselves, not what is in them' },
  classify: { short: 'F', help: 'append / to directories, * to programs, @ to links, | to pipes' },
  dereference: { short: 'L', help: 'show what links lead to instead of the links' },
  'human-readable': { short: 'h', help: 'with -l: sizes as 1.5K, 13M' },
  inode: { short: 'i', help: 'print inode numbers' },
  l: { help: 'long listing: mode, links, owner, group, size, time, name' },
  'numeric-uid-gid': { short: 'n', help: 'long listing with numbers for owner and group' },
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
  /** Of a symbolic link, in long listings. */
  readonly target?: string;
}

/** What a listing needs to know once. */
interface View {
  readonly width: number; // of the terminal; 0: one name a line
  readonly long: boolean;
  readonly accounts: Accounts;
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
      const item = yield* examine(ctx, view, name, name, !view.long && !ctx.options.directory && !ctx.options.classify);
      if (typeof item === 'number') status = (yield* ctx.fail(`cannot access '${name}'`, -item)) + 1;
      else (item.stat.kind === KIND.dir && !ctx.options.directory ? directories : files).push(item);
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
  const { options } = ctx;
  const isTerminal = (yield* ctx.sys.ioctl(1, IOCTL.isatty, 0)) === 1;
  const long = options.l || options['numeric-uid-gid'];
  const wide = isTerminal && !options['1'] && !long;
  return {
    width: wide ? Math.max(1, yield* ctx.sys.ioctl(1, IOCTL.columns, 0)) : 0,
    long,
    accounts: long && !options['numeric-uid-gid'] ? yield* readAccounts(ctx.sys) : new Accounts('', ''),
    epochSeconds: long ? (yield* times(ctx.sys)).bootEpochSeconds : 0,
  };
}

/** What is to be shown of `path`, or -errno. A link that leads nowhere is shown as a link even when it was to be followed. */
function* examine(
  ctx: Ls,
  view: View,
  name: string,
  path: string,
  follow: boolean,
): Generator<void, Item | number, void> {
  const { sys, options } = ctx;
  const followed = follow || options.dereference ? yield* stat(sys, path) : -1;
  if (typeof followed !== 'number') return { name, stat: followed };
  const st = yield* lstat(sys, path);
  if (typeof st === 'number') return st;
  const target = view.long && st.kind === KIND.link ? yield* readlink(sys, path) : '';
  return typeof target === 'string' && target !== '' ? { name, stat: st, target } : { name, stat: st };
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
  const detailed = view.long || options.S || options.t || options.classify || options.inode;
  for (const name of names) {
    const item = yield* examine(ctx, view, name, join(path, name), false);
    if (typeof item === 'number') {
      if (detailed) status = yield* ctx.fail(`cannot access '${join(path, name)}'`, -item);
      items.push({ name, stat: nothingKnown, unknown: true });
    } else items.push(item);
  }
  sort(ctx, items);
  if (view.long) {
    const blocks = items.reduce((sum, item) => sum + Math.ceil(item.stat.blocks / 2), 0);
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
  if (view.long) {
    const right = [...(options.inode ? [true] : []), false, true, false, false, true];
    const rows = items.map(item => longRow(ctx, view, item));
    yield* ctx.out.print(table(rows, right, ' '));
    return;
  }
  const names = items.map(item => (options.inode ? `${item.stat.inode} ` : '') + shown(ctx, item));
  yield* ctx.out.print(view.width > 0 ? columns(names, view.width) : names.map(n => `${n}\n`).join(''));
}

const MARKS: Readonly<Record<number, string>> = { [KIND.dir]: '/', [KIND.link]: '@', [KIND.fifo]: '|' };

function shown({ options }: Ls, { name, stat: st, target }: Item): string {
  const mark = MARKS[st.kind] ?? (st.kind === KIND.file && st.mode & 0o111 ? '*' : '');
  if (target !== undefined) return `${name} -> ${target}`;
  return options.classify ? name + mark : name;
}

function longRow(ctx: Ls, view: View, item: Item): string[] {
  const { options } = ctx;
  const { stat: st } = item;
  if (item.unknown) return [...(options.inode ? ['?'] : []), '??????????', '?', '?', '?', '?', '?', item.name];
  const isDevice = st.kind === KIND.char || st.kind === KIND.block;
  const size = options['human-readable'] ? humanSize(st.size) : String(st.size);
  return [
    ...(options.inode ? [String(st.inode)] : []),
    modeString(st.kind, st.mode),
    String(st.links),
    view.accounts.userName(st.uid) ?? String(st.uid),
    view.accounts.groupName(st.gid) ?? String(st.gid),
    isDevice ? `${st.deviceNumber >> 8}, ${st.deviceNumber & 0xff}` : size,
    isoMinute(view.epochSeconds + st.modifiedNs / 1e9),
    shown(ctx, item),
  ];
}
