// The VFS beside the real one: the same operations on a directory of this machine and on a tmpfs must give the same results and the same
// errno, first for a table of situations and then for thousands of random operations with open files. After that what Linux has no
// counterpart for: mounts by path, procfs snapshots, devices, host directories, pipes, limits.

import test from 'ava';
import * as fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createFsFromVolume, Volume } from 'memfs';
import { directory } from '../boot/host-directory.ts';
import { BLOCKED, E, errnoName, KIND, LIMITS, O, SEEK } from '../kernel/abi/index.ts';
import type { HostDirectory } from '../kernel/abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import { DevFs } from '../vfs/fs-dev.ts';
import { HostFs } from '../vfs/fs-host.ts';
import { ProcFs } from '../vfs/fs-proc.ts';
import { TmpFs, TmpPool } from '../vfs/fs-tmp.ts';
import { normalize, pathOf, Vfs, type From, type Place } from '../vfs/vfs.ts';
import { makeArena, makeRandom } from './support/arena.ts';
import {
  arena8System,
  BUFFER_AT,
  copyTree,
  namesIn,
  nodeSystem,
  removeTree,
  shown,
  tree,
  type NodeFs,
  type Result,
  type System,
} from './support/file-systems.ts';
import { FileScript, OPENS, type Opened, type Operation } from './support/random-files.ts';

const arena = makeArena();
const linux = process.platform === 'linux';
const soak = process.env['ARENA8_SOAK'] === '1';

function makeVfs(): Vfs {
  let now = 0;
  const vfs = new Vfs(arena, () => (now += 1000));
  if (vfs.mount('/', vfs.tmpfs(), 'root', false) !== 0) throw new Error('no root');
  return vfs;
}
function placed(place: Place | number): Place {
  if (typeof place === 'number') throw new Error(errnoName(place));
  return place;
}
/** Where chdir leads, as a path. */
const entered = (vfs: Vfs, from: From, to: string): string => pathOf(placed(vfs.chdir(from, to)));
function opened(file: OpenFile | number): OpenFile {
  if (typeof file === 'number') throw new Error(errnoName(file));
  return file;
}
function writeText(file: OpenFile, text: string): number {
  const bytes = Buffer.from(text);
  arena.u8.set(bytes, BUFFER_AT);
  return file.write(BUFFER_AT, bytes.length);
}
function readText(file: OpenFile, length = 65536): string {
  const n = file.read(BUFFER_AT, length);
  return n < 0 ? errnoName(n) : Buffer.from(arena.u8.slice(BUFFER_AT, BUFFER_AT + n)).toString();
}
function putFile(vfs: Vfs, name: string, text: string): void {
  const file = opened(vfs.open('/', name, O.WRONLY | O.CREAT | O.TRUNC, 0o644));
  writeText(file, text);
  file.close();
}
const names = (file: OpenFile, capacity?: number): string[] => namesIn(arena, file, capacity);

// ── Situations ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The tree every situation starts from. */
function plant(s: System): void {
  for (const dir of ['dir', 'dir/sub', 'empty', 'full', 'full/x']) s.mkdir(dir);
  for (const file of ['file', 'other', 'dir/file', 'full/x/y']) {
    const fd = s.open(file, O.WRONLY | O.CREAT);
    s.write(fd, file);
    s.close(fd);
  }
  s.symlink('file', 'tofile');
  s.symlink('dir/', 'todir');
  s.symlink('missing', 'dangling');
  s.symlink('loop', 'loop');
  s.symlink('../dir/sub', 'dir/upward');
}
/** Takes the links away: a host directory resolves its links by itself. */
function uproot(s: System): void {
  for (const link of ['tofile', 'todir', 'dangling', 'loop', 'dir/upward']) s.unlink(link);
}

const LONG = 'n'.repeat(256);
const PATHS = `
  . .. ./ file file/ file/. file/.. file/x .//file dir/../file other tofile tofile/ tofile/x
  dir dir/ dir/. dir/.. dir/sub dir/file dir/new dir/sub/new todir todir/ todir/file todir/.. dir/upward/..
  empty empty/ empty/. empty/.. full full/x missing missing/ missing/x missing/. missing/..
  dangling dangling/ dangling/x loop loop/ loop/x LONG dir/LONG file/LONG missing/LONG LONG/x`
  .trim()
  .split(/\s+/)
  .map(p => p.replace('LONG', LONG));

/** A use of each kind of file opened in each way. */
function useOpen(s: System, p: string, flags: number): string {
  const fd = s.open(p, flags);
  if (fd < 0) return errnoName(fd);
  const is = s.fstat(fd);
  const results = [is, s.read(fd, 4), s.write(fd, 'ab'), is === 'dir' ? 0 : s.truncate(fd, 3)];
  s.close(fd);
  return results.map(shown).join(', ');
}

const SITUATIONS: { name: string; act: (s: System) => string }[] = [
  ...PATHS.flatMap(p => [
    { name: `stat ${p}`, act: (s: System) => shown(s.stat(p)) },
    { name: `list ${p}`, act: (s: System) => shown(s.list(p)) },
    { name: `mkdir ${p}`, act: (s: System) => shown(s.mkdir(p)) },
    { name: `rmdir ${p}`, act: (s: System) => shown(s.rmdir(p)) },
    { name: `unlink ${p}`, act: (s: System) => shown(s.unlink(p)) },
    { name: `symlink ${p}`, act: (s: System) => shown(s.symlink('other', p)) },
    { name: `link to ${p}`, act: (s: System) => shown(s.link('other', p)) },
    { name: `link from ${p}`, act: (s: System) => shown(s.link(p, 'dir/fresh')) },
    { name: `readlink ${p}`, act: (s: System) => shown(s.readlink(p)) },
    { name: `lstat ${p}`, act: (s: System) => shown(s.lstat(p)) },
    { name: `chmod ${p}`, act: (s: System) => shown(s.chmod(p, 0o755)) },
    { name: `truncate ${p}`, act: (s: System) => shown(s.cut(p, 2)) },
    ...Object.entries(OPENS).map(([name, flags]) => ({
      name: `open ${name} ${p}`,
      act: (s: System) => useOpen(s, p, flags),
    })),
  ]),
  ...PATHS.flatMap(a => PATHS.map(b => ({ name: `rename ${a} ${b}`, act: (s: System) => shown(s.rename(a, b)) }))),
];

/** Runs each situation on two systems; both get a new tree whenever one was changed. Returns what differed. */
function compare(
  situations: typeof SITUATIONS,
  fresh: (host: string) => readonly [theirs: System, ours: System],
): string[] {
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'arena8-vfs-'));
  const differences: string[] = [];
  let trees = 0;
  const plantBoth = (): readonly [System, System] => {
    const host = path.join(scratch, String(trees++));
    fs.mkdirSync(host);
    return fresh(host);
  };
  try {
    let systems = plantBoth();
    let planted = systems.map(s => tree(s).join('\n'));
    for (const { name, act } of situations) {
      const results = systems.map(act);
      const after = systems.map(s => tree(s).join('\n'));
      if (results[0] !== results[1] || after[0] !== after[1])
        differences.push(
          `${name.replaceAll(LONG, 'LONG')}\n  linux  ${results[0]} | ${after[0]}\n  arena8 ${results[1]} | ${after[1]}`,
        );
      if (after[0] === planted[0] && after[1] === planted[1]) continue;
      systems = plantBoth();
      planted = systems.map(s => tree(s).join('\n'));
    }
  } finally {
    fs.rmSync(scratch, { recursive: true, force: true });
  }
  return differences;
}

(linux ? test : test.skip)('every call on every kind of path gives the errno of Linux and leaves the same tree', t => {
  const differences = compare(SITUATIONS, host => {
    fs.mkdirSync(`${host}/w`);
    const vfs = makeVfs();
    vfs.chmod('/', '/', 0o755);
    vfs.mkdir('/', '/w', 0o755);
    const systems = [nodeSystem(fs, `${host}/w/`), arena8System(arena, vfs, '/w/')] as const;
    systems.forEach(plant);
    return systems;
  });
  t.deepEqual(differences, []);
  t.log(`${SITUATIONS.length} situations`);
});

(linux ? test : test.skip)('a directory of this machine, mounted, gives the errno of using it directly', t => {
  const plain = SITUATIONS.filter(s => !/tofile|todir|dangling|loop|upward|link|chmod/.test(s.name));
  const differences = compare(plain, host => {
    const vfs = makeVfs();
    vfs.mkdir('/', '/h', 0o755);
    vfs.mount('/h', new HostFs(directory(host, false)), host, false);
    for (const side of ['theirs', 'ours']) {
      fs.mkdirSync(path.join(host, side, 'w'), { recursive: true });
      const direct = nodeSystem(fs, `${host}/${side}/w/`);
      plant(direct);
      uproot(direct);
    }
    return [nodeSystem(fs, `${host}/theirs/w/`), arena8System(arena, vfs, '/h/ours/w/')];
  });
  t.deepEqual(differences, []);
  t.log(`${plain.length} situations`);
});

// ── Random operations: Linux, this machine, memfs ────────────────────────────────────────────────────────────────────────────────

/**
 * Where memfs is not Linux: why, and the situation and both answers by which that is known. A situation is the call and what its paths
 * lead to as they stand: `dir`, `file`, `link` or an errno; `via-` a link on the way, or `under-` a file; for an open file, what it is and
 * how it was opened. Both answers may be the same where only the tree tells.
 */
const MEMFS_DEVIATES: readonly (readonly [why: string, situation: RegExp, linux: RegExp, memfs: RegExp])[] = [
  ['unlink calls a directory EPERM, as POSIX has it', /^unlink (via-)?dir$/, /^EISDIR$/, /^EPERM$/],
  ['a slash at the end asks for nothing', /\/( |$)/, /./, /./],
  ['nor does one at the end of a link', /^(stat|open|truncate|chmod) (via-)?link/, /^ENOTDIR$/, /^[^E]/],
  ['descriptors do not know what they were opened for', /^(read|write|ftruncate) file/, /^(EBADF|EINVAL)$/, /^$|^[^E]/],
  ['directories are read and written', /^(read|write|ftruncate) dir/, /^(EISDIR|EBADF|EINVAL)$/, /^$|^[^E]/],
  ['O_TRUNC does no harm to a directory', /^open \S+ (rdonly )?trunc$/, /^EISDIR$/, /^open$/],
  ['mkdir, symlink, rename: no link is followed on the way', /^(mkdir|symlink|rename) .*via-/, /./, /^ENOTDIR$/],
  ['rename follows the link that it is to move', /^rename (via-)?link/, /./, /./],
  ['rename looks for the old name first', /^rename \S+ (via|under)-/, /^(ENOTDIR|ELOOP)$/, /^ENOENT$/],
  ['rename replaces whatever there is', /^rename/, /^(ENOTEMPTY|ENOTDIR|EISDIR)$/, /^0$/],
  ['rename takes a directory below itself', /^rename (via-)?dir/, /^EINVAL$/, /^0$/],
  ['rename knows no second name of a file', /^rename \S+ \S*(file|link)$/, /^0$/, /^0$/],
  ['what rename has replaced still has a name', /^fstat file/, /^file \d+ \d+ 0$/, /^file \d+ \d+ 1$/],
  ['link gives directories more names', /^link (via-)?dir/, /./, /^0$/],
  ['link puts names under files and links', /^link \S+ (via|under)-/, /./, /^0$/],
];
/** All that memfs says of a symbolic link is how many names it has: the mode is 666 and the size 0. */
const asMemfs = (text: string): string => text.replace(/\blink 777 \d+/g, 'link 666 0');

const [LINUX, ARENA8, MEMFS] = [0, 1, 2];

class Comparison {
  /** How often Linux gave which answer. */
  readonly answers = new Map<string, number>();
  /** How often memfs deviated, by why. */
  readonly deviations = new Map<string, number>();
  private readonly vfs = makeVfs();
  private readonly systems: System[];

  constructor(host: string) {
    this.vfs.mkdir('/', '/w', 0o755);
    this.systems = [nodeSystem(fs, `${host}/`), arena8System(arena, this.vfs, '/w/'), emptyMemfs()];
  }

  /** From an empty directory on. Returns what differs, or null. */
  run(seed: number, steps: number): string | null {
    const script = new FileScript(seed);
    let difference: string | null = null;
    for (let step = 0; step < steps && difference === null; step++) {
      const operation = script.next();
      difference = this.put(operation, script.files);
      script.settle(operation, this.systems);
      if (difference === null && step % 20 === 19) difference = this.treesDiffer(step % 500 === 499);
      if (difference !== null) difference = `seed ${seed}, step ${step}: ${operation.name}: ${difference}`;
    }
    script.end(this.systems);
    return difference ?? this.emptied();
  }

  /** Puts one operation to all three. */
  private put(operation: Operation, files: readonly Opened[]): string | null {
    const situation = this.situation(operation);
    const [linux, arena8] = [LINUX, ARENA8].map(i => shown(operation.act(this.systems[i]!, i)));
    const kind = /^E[A-Z]+$/.test(linux!) ? linux! : 'done';
    this.answers.set(kind, (this.answers.get(kind) ?? 0) + 1);
    if (arena8 !== linux) return `linux ${linux!.slice(0, 99)}, arena8 ${arena8!.slice(0, 99)}`;
    if (!operation.opens && operation.file !== null && operation.file.fds[MEMFS]! < 0) return null; // lost when memfs began anew
    const memfs = shown(operation.act(this.systems[MEMFS]!, MEMFS));
    const deviates = MEMFS_DEVIATES.find(([, where, a, b]) => where.test(situation) && a.test(linux!) && b.test(memfs));
    const agrees = memfs === asMemfs(linux!);
    if (deviates === undefined)
      return agrees ? null : `${situation}: linux ${linux!.slice(0, 99)}, memfs ${memfs.slice(0, 99)}`;
    if (agrees && this.treesDiffer(false) === null) return null;
    const [why] = deviates;
    this.deviations.set(why, (this.deviations.get(why) ?? 0) + 1);
    if (linux!.startsWith('E') && memfs.startsWith('E')) return null;
    if (operation.opens) operation.file!.fds[MEMFS] = -1;
    this.renewMemfs(files);
    return null;
  }

  private situation({ name, paths, file, opens }: Operation): string {
    const [call] = name.split(' ');
    if (file !== null && !opens) return `${call} ${kindOf(this.systems[ARENA8]!.fstat(file.fds[ARENA8]!))} ${file.how}`;
    return [call, ...paths.map(p => this.whatIs(p)), ...(file === null ? [] : [file.how])].join(' ');
  }

  private whatIs(p: string): string {
    const names = p.split('/').filter(Boolean);
    const kinds = names.map((_, i) => kindOf(this.systems[ARENA8]!.lstat(names.slice(0, i + 1).join('/'))));
    const last = kinds.pop();
    const way = kinds.includes('link') ? 'via-' : kinds.includes('file') ? 'under-' : '';
    return `${way}${last}${p.endsWith('/') ? '/' : ''}`;
  }

  /** A memfs with the tree that this machine has, and with its open files as far as they have names. */
  private renewMemfs(files: readonly Opened[]): void {
    const ours = this.systems[ARENA8]!;
    const memfs = (this.systems[MEMFS] = emptyMemfs());
    const paths = copyTree(ours, memfs);
    for (const { how, fds } of files) {
      const p = paths.get(ours.inode(fds[ARENA8]!));
      fds[MEMFS] = p === undefined ? -1 : memfs.open(p, OPENS[how]! & (O.ACCMODE | O.APPEND));
      if (fds[MEMFS]! >= 0) memfs.seek(fds[MEMFS]!, ours.tell(fds[ARENA8]!));
    }
  }

  private treesDiffer(withLinux: boolean): string | null {
    const ours = tree(this.systems[ARENA8]!).join('\n');
    const memfs = tree(this.systems[MEMFS]!).join('\n');
    if (memfs !== asMemfs(ours)) return `the tree of arena8\n${ours}\n and of memfs\n${memfs}`;
    const linux = withLinux ? tree(this.systems[LINUX]!).join('\n') : ours;
    return linux === ours ? null : `the tree of arena8\n${ours}\n and of linux\n${linux}`;
  }

  /** Once all is removed and closed the pool holds two directories and not one page. */
  private emptied(): string | null {
    for (const i of [LINUX, ARENA8]) removeTree(this.systems[i]!);
    this.systems[MEMFS] = emptyMemfs();
    const { bytesUsed, inodesUsed } = this.vfs.pool;
    return bytesUsed === 0 && inodesUsed === 2 ? null : `${bytesUsed} bytes and ${inodesUsed} inodes are left`;
  }
}

/** The first word that a System says of a file. */
const kindOf = (said: Result): string => shown(said).split(' ')[0]!;

function emptyMemfs(): System {
  const volume = new Volume();
  volume.mkdirSync('/w');
  return nodeSystem(createFsFromVolume(volume) as unknown as NodeFs, '/w/');
}

(linux ? test : test.skip)(
  'random operations with open files give what Linux gives, and memfs but for what is listed',
  t => {
    const host = fs.mkdtempSync(path.join(os.tmpdir(), 'arena8-vfs-'));
    const comparison = new Comparison(host);
    const [seeds, steps] = [soak ? 600 : 10, 2000];
    let difference: string | null = null;
    try {
      for (let seed = 1; seed <= seeds && difference === null; seed++) difference = comparison.run(seed, steps);
    } finally {
      fs.rmSync(host, { recursive: true, force: true });
    }
    t.is(difference, null);
    const counted = (map: ReadonlyMap<string, number>): string =>
      [...map]
        .sort((a, b) => b[1] - a[1])
        .map(([what, n]) => `${n} ${what}`)
        .join(', ');
    t.log(`${seeds * steps} operations: ${counted(comparison.answers)}`);
    t.log(`memfs deviates: ${counted(comparison.deviations)}`);
    // Some take long to come up.
    if (soak)
      t.deepEqual(
        MEMFS_DEVIATES.map(([why]) => why).filter(why => !comparison.deviations.has(why)),
        [],
      );
  },
);

// ── What the table above cannot say ──────────────────────────────────────────────────────────────────────────────────────────────

test('paths: working directory, root, limits', t => {
  const vfs = makeVfs();
  vfs.mkdir('/', '/home', 0o755);
  vfs.mkdir('/home', 'user', 0o755);
  t.is(entered(vfs, '/home', 'user/../user/.'), '/home/user');
  t.is(entered(vfs, '/home/user', '../../..'), '/');
  t.is(vfs.chdir('/gone', 'x'), -E.NOENT);
  t.is(vfs.stat('/home', '') as number, -E.NOENT);
  t.is(vfs.stat('/', 'a\0b') as number, -E.INVAL);
  t.is(vfs.mkdir('/', '/', 0o755), -E.EXIST);
  t.is(vfs.rmdir('/', '/'), -E.BUSY);
  t.is(vfs.unlink('/', '/'), -E.ISDIR);
  t.is(vfs.rename('/', '/', '/x'), -E.BUSY);
  t.is(vfs.stat('/', `/${'x/'.repeat(2048)}`) as number, -E.NAMETOOLONG);
  t.is((vfs.stat('/', './'.repeat(2047)) as { kind: number }).kind, KIND.dir); // 4,094 bytes
  t.is(vfs.mkdir('/', 'é'.repeat(128), 0o755), -E.NAMETOOLONG); // 256 bytes
  t.is(vfs.mkdir('/', 'é'.repeat(127), 0o755), 0);
  t.is(normalize('/a/b', '../c//./d/..'), '/a/c');
  t.is(normalize('/', '../..'), '/');
  let at = '';
  for (let i = 0; i <= LIMITS.symlinkDepth; i++) vfs.symlink('/', i === 0 ? '/home' : `/l${i - 1}`, (at = `/l${i}`));
  t.is(vfs.stat('/', at) as number, -E.LOOP);
  t.is((vfs.stat('/', `/l${LIMITS.symlinkDepth - 1}`) as { kind: number }).kind, KIND.dir);
});

test('mounts: covering, crossing, busy, read-only, limit', t => {
  const vfs = new Vfs(arena, () => 0);
  t.is(vfs.stat('/', '/') as number, -E.NOENT);
  t.is(vfs.mount('/mnt', vfs.tmpfs(), 'x', false), -E.NOENT);
  t.is(vfs.mount('/', vfs.tmpfs(), 'root', false), 0);
  vfs.mkdir('/', '/mnt', 0o755);
  putFile(vfs, '/mnt/under', 'under');
  putFile(vfs, '/plain', 'plain');
  t.is(vfs.mount('/missing', vfs.tmpfs(), 'x', false), -E.NOENT);
  t.is(vfs.mount('/plain', vfs.tmpfs(), 'x', false), -E.NOTDIR);
  t.is(vfs.mount('/mnt/.', vfs.tmpfs(), 'x', false), 0);
  t.is(vfs.mount('/mnt', vfs.tmpfs(), 'x', false), -E.BUSY);
  t.is(vfs.mount('/', vfs.tmpfs(), 'x', false), -E.BUSY);
  t.is(vfs.stat('/', '/mnt/under') as number, -E.NOENT);
  t.is(vfs.mkdir('/', '/mnt/sub', 0o755), 0);
  t.is(vfs.mount('/mnt/sub', vfs.tmpfs(), 'y', true), 0);
  t.is(vfs.umount('/mnt'), -E.BUSY); // something beneath
  t.is(vfs.rmdir('/', '/mnt'), -E.BUSY);
  t.is(vfs.rename('/', '/mnt', '/other'), -E.BUSY);
  t.is(vfs.rename('/', '/plain', '/mnt/plain'), -E.XDEV);
  t.is(vfs.rename('/', '/mnt/sub', '/mnt/sup'), -E.BUSY);
  t.is(entered(vfs, '/mnt/sub', '..'), '/mnt');
  t.is(vfs.mkdir('/', '/mnt/sub/d', 0o755), -E.ROFS);
  t.is(vfs.open('/', '/mnt/sub/f', O.WRONLY | O.CREAT, 0o644) as number, -E.ROFS);
  t.is(vfs.unlink('/', '/mnt/sub/f'), -E.ROFS);
  t.is(vfs.umount('/mnt/sub'), 0);
  const open = opened(vfs.open('/', '/mnt/f', O.WRONLY | O.CREAT, 0o644));
  t.is(vfs.umount('/mnt'), -E.BUSY);
  open.close();
  t.is(vfs.umount('/mnt', [placed(vfs.chdir('/', '/mnt/sub'))]), -E.BUSY); // a working directory
  const before = vfs.pool.inodesUsed;
  t.is(vfs.umount('/mnt', [placed(vfs.chdir('/', '/'))]), 0);
  t.is(vfs.pool.inodesUsed, before - 3); // its root, sub and f went back
  t.is(vfs.umount('/mnt'), -E.INVAL);
  t.is(vfs.umount('/'), -E.BUSY);
  t.is((vfs.stat('/', '/mnt/under') as { size: number }).size, 5);
  for (let i = 1; i < LIMITS.mountsMax; i++) {
    vfs.mkdir('/', `/m${i}`, 0o755);
    t.is(vfs.mount(`/m${i}`, vfs.tmpfs(), `s${i}`, false), 0);
  }
  t.is(vfs.mount('/mnt', vfs.tmpfs(), 'x', false), -E.NOSPC);
  t.is(vfs.mounts().length, LIMITS.mountsMax);
  t.like(vfs.statfs('/', '/m3/.'), {
    type: 'tmpfs',
    source: 's3',
    target: '/m3',
    readOnly: 0,
    totalBytes: LIMITS.tmpfsBytes - vfs.pool.bytesUsed, // what the others have left
  });
});

test('tmpfs gives ENOSPC at its limit, for bytes and for inodes, and takes back what is removed', t => {
  const vfs = makeVfs();
  const pool = new TmpPool(() => 0, 8 * 4096, 4);
  vfs.mkdir('/', '/t', 0o755);
  vfs.mount('/t', new TmpFs(pool), 't', false);
  const a = opened(vfs.open('/', '/t/a', O.RDWR | O.CREAT, 0o644));
  t.is(a.write(BUFFER_AT, 7 * 4096 + 1), 7 * 4096 + 1);
  t.is(a.write(BUFFER_AT, 8192), 4095); // to the end of the page it has
  t.is(a.write(BUFFER_AT, 1), -E.NOSPC);
  t.is(a.stat().size, 8 * 4096);
  t.is(a.truncate(100), 0);
  t.is(pool.bytesUsed, 4096);
  t.is(a.truncate(1 << 30), 0); // sparse: costs nothing
  t.is(pool.bytesUsed, 4096);
  a.seek(50, SEEK.set);
  arena.u8.fill(1, BUFFER_AT, BUFFER_AT + 100);
  t.is(a.read(BUFFER_AT, 100), 100);
  t.true(arena.u8.slice(BUFFER_AT + 50, BUFFER_AT + 100).every(b => b === 0)); // what was cut off does not come back
  t.is(vfs.mkdir('/', '/t/d', 0o755), 0);
  t.is(vfs.mkdir('/', '/t/e', 0o755), 0);
  t.is(vfs.mkdir('/', '/t/f', 0o755), -E.NOSPC);
  t.is(vfs.open('/', '/t/g', O.WRONLY | O.CREAT, 0o644) as number, -E.NOSPC);
  vfs.unlink('/', '/t/a');
  t.is(vfs.mkdir('/', '/t/f', 0o755), -E.NOSPC); // still open
  t.is(a.stat().links, 0);
  a.close();
  t.is(vfs.mkdir('/', '/t/f', 0o755), 0);
  t.is(pool.bytesUsed, 0);
});

test('open files: shared position, access, seek limits, directory reading in pieces, file limit', t => {
  const vfs = makeVfs();
  putFile(vfs, '/f', '0123456789');
  const file = opened(vfs.open('/', '/f', O.RDONLY, 0));
  file.retain(); // as dup does
  t.is(readText(file, 4), '0123');
  file.close();
  t.is(readText(file, 4), '4567');
  t.is(file.readAt(2, BUFFER_AT, 3), 3);
  t.is(file.position, 8);
  t.is(file.write(BUFFER_AT, 1), -E.BADF);
  t.is(file.truncate(0), -E.INVAL);
  t.is(file.seek(-1, SEEK.set), -E.INVAL);
  t.is(file.seek(-3, SEEK.end), 7);
  t.is(file.seek(2, SEEK.cur), 9);
  t.is(file.seek(2 ** 40, SEEK.cur), 2 ** 40 + 9);
  t.is(file.seek(2 ** 53 - 1, SEEK.cur), -E.OVERFLOW);
  t.is(file.seek(0, 9), -E.INVAL);
  t.is(file.readdir(BUFFER_AT, 100), -E.NOTDIR);
  t.is(file.ioctl(1, 0), -E.NOTTY);
  file.close();
  const far = opened(vfs.open('/', '/far', O.WRONLY | O.CREAT, 0o600));
  far.seek(2 ** 53 - 1, SEEK.set);
  t.is(far.write(BUFFER_AT, 1), -E.FBIG);
  far.close();

  const all = Array.from({ length: 50 }, (_, i) => `name${i}`);
  vfs.mkdir('/', '/d', 0o755);
  for (const name of all) putFile(vfs, `/d/${name}`, '');
  const dir = opened(vfs.open('/', '/d', O.RDONLY, 0));
  t.is(dir.readdir(BUFFER_AT, 5), -E.INVAL);
  t.deepEqual(names(dir, 40), all.toSorted());
  t.is(dir.readdir(BUFFER_AT, 40), 0);
  vfs.unlink('/', '/d/name0');
  dir.seek(0, SEEK.set);
  t.is(names(dir, 300).length, 49);
  t.is(dir.read(BUFFER_AT, 10), -E.ISDIR);
  dir.close();

  const many: OpenFile[] = [];
  for (let f; typeof (f = vfs.open('/', '/f', O.RDONLY, 0)) !== 'number';) many.push(f);
  t.is(many.length, LIMITS.filesMax);
  t.is(vfs.open('/', '/f', O.RDONLY, 0) as number, -E.NFILE);
  t.is(vfs.open('/', '/new', O.WRONLY | O.CREAT, 0o644) as number, -E.NFILE);
  t.is(vfs.stat('/', '/new') as number, -E.NOENT); // refused before it was made
  t.is(vfs.memfd('m') as number, -E.NFILE);
  for (const f of many) f.close();
  const memfd = opened(vfs.memfd('m'));
  t.is(memfd.path, 'memfd:m');
  writeText(memfd, 'hello');
  memfd.seek(0, SEEK.set);
  t.is(readText(memfd), 'hello');
  const used = vfs.pool.bytesUsed;
  memfd.close();
  t.is(vfs.pool.bytesUsed, used - 4096);
});

test('procfs: text of the moment of opening, directories by path', t => {
  const vfs = makeVfs();
  const proc = new ProcFs();
  let n = 0;
  proc.register('count', () => `${++n} ä\n`);
  proc.register('sys/kernel/seed', () => '7\n');
  vfs.mkdir('/', '/proc', 0o755);
  t.is(vfs.mount('/proc', proc, 'proc', true), 0);
  const first = opened(vfs.open('/', '/proc/count', O.RDONLY, 0));
  const second = opened(vfs.open('/', '/proc/count', O.RDONLY, 0));
  t.is(readText(first, 1), '1');
  t.is(readText(second), '2 ä\n');
  t.is(readText(first), ' ä\n');
  t.is(first.stat().size, 0);
  t.is(vfs.open('/', '/proc/count', O.WRONLY, 0) as number, -E.ROFS);
  t.is(vfs.mkdir('/', '/proc/x', 0o755), -E.ROFS);
  t.deepEqual(names(opened(vfs.open('/', '/proc', O.RDONLY, 0))), ['count', 'sys']);
  t.is(readText(opened(vfs.open('/proc/sys', 'kernel/seed', O.RDONLY, 0))), '7\n');
  t.is(proc.usage().files, 2);
});

test('devices: null, zero, full, and one that blocks', t => {
  const vfs = makeVfs();
  const dev = new DevFs();
  dev.register('slow', { read: () => BLOCKED, write: (_m, _at, n) => n, ioctl: (c, a) => c + a });
  vfs.mkdir('/', '/dev', 0o755);
  vfs.mount('/dev', dev, 'dev', false);
  const open = (name: string): OpenFile => opened(vfs.open('/', `/dev/${name}`, O.RDWR | O.CREAT | O.TRUNC, 0));
  t.is(open('null').read(BUFFER_AT, 10), 0);
  t.is(open('null').write(BUFFER_AT, 10), 10);
  arena.u8.fill(1, BUFFER_AT, BUFFER_AT + 10);
  t.is(open('zero').read(BUFFER_AT, 10), 10);
  t.true(arena.u8.subarray(BUFFER_AT, BUFFER_AT + 10).every(b => b === 0));
  t.is(open('full').write(BUFFER_AT, 1), -E.NOSPC);
  t.is(open('slow').read(BUFFER_AT, 1), BLOCKED);
  t.is(open('slow').ioctl(30, 12), 42);
  t.is(open('null').ioctl(1, 0), -E.NOTTY);
  t.is(open('null').seek(7, SEEK.set), 0);
  t.is(open('slow').seek(0, SEEK.set), -E.SPIPE);
  t.is(open('null').truncate(0), -E.INVAL);
  t.is((vfs.stat('/', '/dev/null') as { kind: number }).kind, KIND.char);
  t.is(vfs.open('/', '/dev/new', O.WRONLY | O.CREAT, 0o644) as number, -E.ROFS);
});

test('pipes: order, blocking, end, broken pipe, whole small writes', t => {
  const vfs = makeVfs();
  let closed = 0;
  const pair = vfs.pipe(65536, LIMITS.pipeBytes, () => closed++);
  if (typeof pair === 'number') return t.fail();
  const [reader, writer] = pair;
  t.is(reader.read(BUFFER_AT, 10), BLOCKED);
  t.is(reader.write(BUFFER_AT, 10), -E.BADF);
  t.is(writer.read(BUFFER_AT, 10), -E.BADF);
  t.is(reader.seek(0, SEEK.set), -E.SPIPE);
  t.is(reader.stat().kind, KIND.fifo);
  // A long random transfer through the ring, held against a queue.
  const random = makeRandom(7);
  const queue: number[] = [];
  let next = 0;
  for (let step = 0; step < 20_000; step++) {
    const n = 1 + random(random(3) === 0 ? 3000 : 40);
    if (random(2) === 0) {
      for (let i = 0; i < n; i++) arena.u8[BUFFER_AT + i] = (next + i) & 255;
      const room = LIMITS.pipeBytes - queue.length;
      const expected = room === 0 || (n <= 512 && n > room) ? BLOCKED : Math.min(n, room);
      if (writer.write(BUFFER_AT, n) !== expected) return t.fail(`write ${n} at step ${step}`);
      for (let i = 0; i < Math.max(0, expected); i++) queue.push(next++ & 255);
    } else {
      const expected = queue.length === 0 ? BLOCKED : Math.min(n, queue.length);
      if (reader.read(BUFFER_AT, n) !== expected) return t.fail(`read ${n} at step ${step}`);
      for (let i = 0; i < Math.max(0, expected); i++)
        if (arena.u8[BUFFER_AT + i] !== queue.shift()) return t.fail(`byte at step ${step}`);
    }
  }
  while (reader.read(BUFFER_AT, 4096) > 0);
  writeText(writer, 'last words');
  writer.close();
  t.is(closed, 0);
  t.is(readText(reader), 'last words');
  t.is(reader.read(BUFFER_AT, 10), 0);
  reader.close();
  t.is(closed, 1);
  const again = vfs.pipe(65536, LIMITS.pipeBytes, () => closed++);
  if (typeof again === 'number') return t.fail();
  again[0].close();
  t.is(again[1].write(BUFFER_AT, 1), -E.PIPE);
  again[1].close();
  t.is(closed, 2);
});

test('host directories: every operation by path, read-only refused, no path leaves', t => {
  const asked: string[] = [];
  let closed = 0;
  const files = new Map<string, Buffer | null>([['', null]]);
  const note = (...paths: string[]): void => void asked.push(...paths);
  const host: HostDirectory = {
    source: '/srv/data',
    readOnly: false,
    stat(p) {
      note(p);
      const f = files.get(p);
      if (f === undefined) return -E.NOENT;
      return { kind: f === null ? KIND.dir : KIND.file, size: f?.length ?? 0, mode: 0o640 };
    },
    list(p) {
      note(p);
      const inside = [...files.keys()].filter(k => k !== '' && path.posix.dirname(`/${k}`) === `/${p}`);
      return inside.map(k => ({ name: path.posix.basename(k), kind: files.get(k) === null ? KIND.dir : KIND.file }));
    },
    open: p => (
      note(p),
      {
        read: (position, into, at, length) => files.get(p)!.copy(into, at, position, position + length),
        write(position, from, at, length) {
          const old = files.get(p)!;
          const grown = Buffer.alloc(Math.max(old.length, position + length));
          old.copy(grown);
          grown.set(from.subarray(at, at + length), position);
          files.set(p, grown);
          return length;
        },
        close: () => void closed++,
      }
    ),
    create: p => (note(p), files.set(p, Buffer.alloc(0)), 0),
    mkdir: p => (note(p), files.set(p, null), 0),
    remove: p => (note(p), files.delete(p), 0),
    removeDirectory: p => (note(p), files.delete(p), 0),
    rename: (a, b) => (note(a, b), files.set(b, files.get(a)!), files.delete(a), 0),
    truncate: (p, size) => (note(p), files.set(p, files.get(p)!.subarray(0, size)), 0),
  };
  const vfs = makeVfs();
  vfs.mkdir('/', '/h', 0o755);
  vfs.mkdir('/', '/r', 0o755);
  t.is(vfs.mount('/h', new HostFs(host), host.source, false), 0);
  t.is(vfs.mount('/r', new HostFs({ ...host, readOnly: true }), host.source, false), 0);
  t.is(vfs.mkdir('/', '/h/d', 0o755), 0);
  putFile(vfs, '/h/d/f', 'hello host');
  const file = opened(vfs.open('/h/d', '../../h/./d//f', O.RDWR | O.APPEND, 0));
  t.is(readText(file, 5), 'hello');
  t.is(writeText(file, '!'), 1);
  t.is(file.stat().size, 11);
  t.is(file.truncate(4), 0);
  const before = closed;
  file.close();
  t.is(closed, before + 1);
  t.is(vfs.rename('/', '/h/d/f', '/h/g'), 0);
  t.is(readText(opened(vfs.open('/', '/r/g', O.RDONLY, 0))), 'hell');
  t.deepEqual(names(opened(vfs.open('/', '/r', O.RDONLY, 0))), ['d', 'g']);
  t.is(vfs.open('/', '/r/g', O.WRONLY, 0) as number, -E.ROFS);
  t.is(vfs.open('/', '/r/n', O.WRONLY | O.CREAT, 0) as number, -E.ROFS);
  for (const status of [
    vfs.mkdir('/', '/r/n', 0),
    vfs.rmdir('/', '/r/d'),
    vfs.unlink('/', '/r/g'),
    vfs.rename('/', '/r/g', '/r/n'),
  ])
    t.is(status, -E.ROFS);
  t.is(vfs.rename('/', '/h/g', '/r/g'), -E.XDEV);
  t.is(vfs.unlink('/', '/h/g'), 0);
  t.is(vfs.rmdir('/', '/h/d'), 0);
  vfs.stat('/', '/h/../../h/../h/x/../..');
  vfs.open('/', '/h/..', O.RDONLY, 0);
  for (const p of asked) t.false(p.startsWith('/') || p.split('/').some(part => part === '..' || part === '.'), p);
});
