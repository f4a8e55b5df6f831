// The VFS beside the real one: the same operations on a directory of this machine and on a tmpfs must give the same results and the same
// errno, first for a table of situations and then for thousands of random operations with open files. After that what Linux has no
// counterpart for: mounts by path, procfs snapshots, devices, host directories, pipes, limits.

import test from 'ava';
import type { ExecutionContext } from 'ava';
import * as fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
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

const arena = makeArena();
const BUFFER_AT = 4096; // where the tests put what they write and find what they read
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
function names(file: OpenFile, capacity = 4096): string[] {
  const found: string[] = [];
  for (let n; (n = file.readdir(BUFFER_AT, capacity)) > 0;)
    for (let p = BUFFER_AT; p < BUFFER_AT + n; p += 2 + arena.u8[p + 1]!)
      found.push(Buffer.from(arena.u8.slice(p + 2, p + 2 + arena.u8[p + 1]!)).toString());
  return found.sort();
}

// ── Two systems behind one face: results as text, errors as errno names ──────────────────────────────────────────────────────────

interface System {
  open(p: string, flags: number): number; // a descriptor, or -errno
  close(fd: number): void;
  read(fd: number, length: number): string | number;
  write(fd: number, text: string): number;
  seek(fd: number, to: number): void;
  truncate(fd: number, size: number): number;
  stat(p: string): string | number;
  fstat(fd: number): string;
  list(p: string): string | number;
  mkdir(p: string): number;
  rmdir(p: string): number;
  unlink(p: string): number;
  rename(a: string, b: string): number;
  symlink(target: string, p: string): number;
  link(existing: string, p: string): number;
  readlink(p: string): string | number;
  lstat(p: string): string | number;
  chmod(p: string, mode: number): number;
  cut(p: string, size: number): number; // truncate(2)
}

const describeRecord = (s: { kind: number; size: number; links: number }): string =>
  s.kind === KIND.dir ? 'dir' : `file ${s.size} ${s.links}`;

function arena8System(vfs: Vfs, base: string): System {
  const files = new Map<number, OpenFile>();
  let last = 2;
  return {
    open(p, flags) {
      const file = vfs.open('/', base + p, flags, 0o644);
      if (typeof file === 'number') return file;
      files.set(++last, file);
      return last;
    },
    close(fd) {
      files.get(fd)!.close();
      files.delete(fd);
    },
    read(fd, length) {
      const n = files.get(fd)!.read(BUFFER_AT, length);
      return n < 0 ? n : Buffer.from(arena.u8.slice(BUFFER_AT, BUFFER_AT + n)).toString('latin1');
    },
    write: (fd, text) => writeText(files.get(fd)!, text),
    seek: (fd, to) => void files.get(fd)!.seek(to, SEEK.set),
    truncate: (fd, size) => files.get(fd)!.truncate(size),
    stat(p) {
      const s = vfs.stat('/', base + p);
      return typeof s === 'number' ? s : describeRecord(s);
    },
    fstat: fd => describeRecord(files.get(fd)!.stat()),
    list(p) {
      const dir = vfs.open('/', base + p, O.RDONLY | O.DIRECTORY, 0);
      if (typeof dir === 'number') return dir;
      const found = names(dir);
      dir.close();
      return found.join(' ');
    },
    mkdir: p => vfs.mkdir('/', base + p, 0o755),
    rmdir: p => vfs.rmdir('/', base + p),
    unlink: p => vfs.unlink('/', base + p),
    rename: (a, b) => vfs.rename('/', base + a, base + b),
    symlink: (target, p) => vfs.symlink('/', target, base + p),
    link: (existing, p) => vfs.link('/', base + existing, base + p),
    readlink: p => vfs.readlink('/', base + p),
    lstat(p) {
      const s = vfs.stat('/', base + p, false);
      return typeof s === 'number' ? s : `${describeRecord(s)}${s.kind === KIND.link ? ' link' : ''}`;
    },
    chmod: (p, mode) => vfs.chmod('/', base + p, mode),
    cut: (p, size) => vfs.truncate('/', base + p, size),
  };
}

/** What `f` returns, or minus the errno of what it throws. */
function guard<T>(f: () => T): T | number {
  try {
    return f();
  } catch (error) {
    const errno = (error as NodeJS.ErrnoException).errno;
    if (errno === undefined) throw error;
    return errno;
  }
}
function status(f: () => void): number {
  const r = guard(f);
  return typeof r === 'number' ? r : 0;
}
const describeStat = (s: fs.Stats): string => (s.isDirectory() ? 'dir' : `file ${s.size} ${s.nlink}`);
/** Descriptors of the host opened for appending. */
const appending = new Set<number>();

function linuxSystem(base: string): System {
  const positions = new Map<number, number>();
  return {
    open(p, flags) {
      const fd = guard(() => fs.openSync(base + p, flags, 0o644));
      if (fd >= 0) positions.set(fd, 0);
      return fd;
    },
    close(fd) {
      fs.closeSync(fd);
      positions.delete(fd);
    },
    read(fd, length) {
      const into = Buffer.alloc(length);
      const n = guard(() => fs.readSync(fd, into, 0, length, positions.get(fd)!));
      if (n < 0) return n;
      positions.set(fd, positions.get(fd)! + n);
      return into.subarray(0, n).toString('latin1');
    },
    write(fd, text) {
      const n = guard(() => fs.writeSync(fd, Buffer.from(text), 0, undefined, positions.get(fd)!));
      // pwrite to a file opened for appending goes to its end, and there a shared position would be.
      if (n >= 0) positions.set(fd, appending.has(fd) ? fs.fstatSync(fd).size : positions.get(fd)! + n);
      return n;
    },
    seek: (fd, to) => void positions.set(fd, to),
    truncate: (fd, size) => status(() => fs.ftruncateSync(fd, size)),
    stat: p => guard(() => describeStat(fs.statSync(base + p))),
    fstat: fd => describeStat(fs.fstatSync(fd)),
    list: p =>
      guard(() =>
        fs
          .readdirSync(base + p)
          .sort()
          .join(' '),
      ),
    mkdir: p => status(() => fs.mkdirSync(base + p)),
    rmdir: p => status(() => fs.rmdirSync(base + p)),
    unlink: p => status(() => fs.unlinkSync(base + p)),
    rename: (a, b) => status(() => fs.renameSync(base + a, base + b)),
    symlink: (target, p) => status(() => fs.symlinkSync(target, base + p)),
    link: (existing, p) => status(() => fs.linkSync(base + existing, base + p)),
    readlink: p => guard(() => fs.readlinkSync(base + p)),
    lstat: p =>
      guard(() => {
        const s = fs.lstatSync(base + p);
        return `${describeStat(s)}${s.isSymbolicLink() ? ' link' : ''}`;
      }),
    chmod: (p, mode) => status(() => fs.chmodSync(base + p, mode)),
    cut: (p, size) => status(() => fs.truncateSync(base + p, size)),
  };
}
function shownResult(r: string | number): string {
  return typeof r === 'number' && r < 0 ? errnoName(r) : String(r);
}

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

/** Everything beneath `dir`, links followed where they lead somewhere. */
function tree(s: System, dir = ''): string {
  const found = s.list(`${dir}.`);
  if (typeof found === 'number') return errnoName(found);
  return found
    .split(' ')
    .filter(name => name !== '')
    .map(name => {
      const is = s.stat(dir + name);
      const below = is === 'dir' && !name.startsWith('to') && name !== 'upward' ? `(${tree(s, `${dir}${name}/`)})` : '';
      return `${name}:${shownResult(is)}${below}`;
    })
    .join(' ');
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

const FLAGS: Record<string, number> = {
  rdonly: O.RDONLY,
  wronly: O.WRONLY,
  rdwr: O.RDWR,
  directory: O.RDONLY | O.DIRECTORY,
  trunc: O.WRONLY | O.TRUNC,
  'rdonly trunc': O.RDONLY | O.TRUNC,
  creat: O.WRONLY | O.CREAT,
  'rdonly creat': O.RDONLY | O.CREAT,
  'creat excl': O.WRONLY | O.CREAT | O.EXCL,
  'creat trunc': O.RDWR | O.CREAT | O.TRUNC,
  'creat directory': O.RDONLY | O.CREAT | O.DIRECTORY,
  'directory wronly': O.WRONLY | O.DIRECTORY,
};

/** A use of each kind of file opened in each way. */
function useOpen(s: System, p: string, flags: number): string {
  const fd = s.open(p, flags);
  if (fd < 0) return errnoName(fd);
  const is = s.fstat(fd);
  const results = [is, s.read(fd, 4), s.write(fd, 'ab'), is === 'dir' ? 0 : s.truncate(fd, 3)];
  s.close(fd);
  return results.map(shownResult).join(', ');
}

const SITUATIONS: { name: string; act: (s: System) => string }[] = [
  ...PATHS.flatMap(p => [
    { name: `stat ${p}`, act: (s: System) => shownResult(s.stat(p)) },
    { name: `list ${p}`, act: (s: System) => shownResult(s.list(p)) },
    { name: `mkdir ${p}`, act: (s: System) => shownResult(s.mkdir(p)) },
    { name: `rmdir ${p}`, act: (s: System) => shownResult(s.rmdir(p)) },
    { name: `unlink ${p}`, act: (s: System) => shownResult(s.unlink(p)) },
    { name: `symlink ${p}`, act: (s: System) => shownResult(s.symlink('other', p)) },
    { name: `link to ${p}`, act: (s: System) => shownResult(s.link('other', p)) },
    { name: `link from ${p}`, act: (s: System) => shownResult(s.link(p, 'dir/fresh')) },
    { name: `readlink ${p}`, act: (s: System) => shownResult(s.readlink(p)) },
    { name: `lstat ${p}`, act: (s: System) => shownResult(s.lstat(p)) },
    { name: `chmod ${p}`, act: (s: System) => shownResult(s.chmod(p, 0o755)) },
    { name: `truncate ${p}`, act: (s: System) => shownResult(s.cut(p, 2)) },
    ...Object.entries(FLAGS).map(([name, flags]) => ({
      name: `open ${name} ${p}`,
      act: (s: System) => useOpen(s, p, flags),
    })),
  ]),
  ...PATHS.flatMap(a =>
    PATHS.map(b => ({ name: `rename ${a} ${b}`, act: (s: System) => shownResult(s.rename(a, b)) })),
  ),
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
    let planted = systems.map(s => tree(s));
    for (const { name, act } of situations) {
      const results = systems.map(act);
      const after = systems.map(s => tree(s));
      if (results[0] !== results[1] || after[0] !== after[1])
        differences.push(
          `${name.replaceAll(LONG, 'LONG')}\n  linux  ${results[0]} | ${after[0]}\n  arena8 ${results[1]} | ${after[1]}`,
        );
      if (after[0] === planted[0] && after[1] === planted[1]) continue;
      systems = plantBoth();
      planted = systems.map(s => tree(s));
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
    vfs.mkdir('/', '/w', 0o755);
    const systems = [linuxSystem(`${host}/w/`), arena8System(vfs, '/w/')] as const;
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
      const direct = linuxSystem(`${host}/${side}/w/`);
      plant(direct);
      uproot(direct);
    }
    return [linuxSystem(`${host}/theirs/w/`), arena8System(vfs, '/h/ours/w/')];
  });
  t.deepEqual(differences, []);
  t.log(`${plain.length} situations`);
});

/** Random operations on both systems from an empty directory on. Deep trees pile up slowly, so a long run is many short ones. */
function compareRandomly(t: ExecutionContext, seed: number, steps: number): void {
  const host = fs.mkdtempSync(path.join(os.tmpdir(), 'arena8-vfs-'));
  const vfs = makeVfs();
  vfs.mkdir('/', '/w', 0o755);
  const theirs = linuxSystem(`${host}/`);
  const ours = arena8System(vfs, '/w/');
  const random = makeRandom(seed);
  const words = ['a', 'b', 'c', 'd'];
  const somePath = (): string =>
    Array.from({ length: 1 + random(3) }, () => words[random(4)]!).join('/') + (random(20) === 0 ? '/' : '');
  const flagsOf = Object.values(FLAGS);
  const files: { ours: number; theirs: number; append: boolean }[] = [];
  const closeOne = (i: number): void => {
    const f = files.splice(i, 1)[0]!;
    ours.close(f.ours);
    theirs.close(f.theirs);
    appending.delete(f.theirs);
  };
  const both = (f: (s: System) => string | number): [string, string] => [shownResult(f(theirs)), shownResult(f(ours))];
  try {
    for (let step = 0; step < steps; step++) {
      const p = somePath();
      const q = somePath();
      const file = files[random(Math.max(1, files.length))];
      let name = '';
      let pair: [string, string] = ['', ''];
      const kind = random(16);
      if (kind < 3) {
        name = `mkdir ${p}`;
        pair = both(s => s.mkdir(p));
      } else if (kind === 3) {
        name = `rmdir ${p}`;
        pair = both(s => s.rmdir(p));
      } else if (kind === 4) {
        name = `unlink ${p}`;
        pair = both(s => s.unlink(p));
      } else if (kind === 5) {
        name = `rename ${p} ${q}`;
        pair = both(s => s.rename(p, q));
      } else if (kind === 6) {
        name = `stat ${p}`;
        pair = both(s => s.stat(p));
      } else if (kind === 7) {
        name = `list ${p}`;
        pair = both(s => s.list(p));
      } else if (kind < 11) {
        const append = random(4) === 0;
        const flags = flagsOf[random(flagsOf.length)]! | (append ? O.APPEND : 0);
        name = `open ${p} ${flags.toString(8)}`;
        const f = { theirs: theirs.open(p, flags), ours: ours.open(p, flags), append };
        pair = [f.theirs < 0 ? errnoName(f.theirs) : 'open', f.ours < 0 ? errnoName(f.ours) : 'open'];
        if (f.theirs >= 0 && f.ours >= 0) {
          files.push(f);
          if (append) appending.add(f.theirs);
        }
        if (files.length > 24) closeOne(random(files.length));
      } else if (file === undefined) continue;
      else if (kind === 11) {
        const length = 1 + (random(3) === 0 ? random(20000) : random(50)); // Node makes no call for 0
        name = `read ${length}`;
        pair = [shownResult(theirs.read(file.theirs, length)), shownResult(ours.read(file.ours, length))];
      } else if (kind === 12) {
        const text = String.fromCharCode(97 + random(26)).repeat(random(3) === 0 ? random(20000) : random(50));
        name = `write ${text.length}`;
        pair = [shownResult(theirs.write(file.theirs, text)), shownResult(ours.write(file.ours, text))];
      } else if (kind === 13) {
        const to = random(30000);
        theirs.seek(file.theirs, to);
        ours.seek(file.ours, to);
      } else if (kind === 14) {
        const size = random(20000);
        name = `truncate ${size}`;
        pair =
          theirs.fstat(file.theirs) === 'dir'
            ? ['', '']
            : [shownResult(theirs.truncate(file.theirs, size)), shownResult(ours.truncate(file.ours, size))];
      } else {
        name = 'fstat';
        pair = [theirs.fstat(file.theirs), ours.fstat(file.ours)];
        if (random(2) === 0) closeOne(files.indexOf(file));
      }
      if (pair[0] !== pair[1])
        return void t.fail(
          `seed ${seed}, step ${step}: ${name}: linux ${pair[0].slice(0, 99)}, arena8 ${pair[1].slice(0, 99)}`,
        );
    }
    t.is(tree(ours), tree(theirs));
    while (files.length > 0) closeOne(0);
  } finally {
    for (const f of files) fs.closeSync(f.theirs);
    fs.rmSync(host, { recursive: true, force: true });
  }
  // Everything removed and closed: the pool holds the two directories that are left and not one page.
  const remove = (dir: string): void => {
    const handle = opened(vfs.open('/', dir, O.RDONLY, 0));
    const inside = names(handle);
    handle.close();
    for (const name of inside)
      if (vfs.unlink('/', `${dir}/${name}`) === -E.ISDIR) {
        remove(`${dir}/${name}`);
        vfs.rmdir('/', `${dir}/${name}`);
      }
  };
  remove('/w');
  t.is(vfs.pool.bytesUsed, 0);
  t.is(vfs.pool.inodesUsed, 2);
}

(linux ? test : test.skip)('random operations with open files give what Linux gives', t => {
  for (let seed = 1; seed <= (soak ? 40 : 1); seed++) compareRandomly(t, seed, 30_000);
});

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
  t.is(file.seek(0x7fffffff, SEEK.cur), -E.OVERFLOW);
  t.is(file.seek(0, 9), -E.INVAL);
  t.is(file.readdir(BUFFER_AT, 100), -E.NOTDIR);
  t.is(file.ioctl(1, 0), -E.NOTTY);
  file.close();
  const far = opened(vfs.open('/', '/far', O.WRONLY | O.CREAT, 0o600));
  far.seek(0x7fffffff, SEEK.set);
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
    read(p, position, into, at, length) {
      note(p);
      return files.get(p)!.copy(into, at, position, position + length);
    },
    write(p, position, from, at, length) {
      note(p);
      const old = files.get(p)!;
      const grown = Buffer.alloc(Math.max(old.length, position + length));
      old.copy(grown);
      grown.set(from.subarray(at, at + length), position);
      files.set(p, grown);
      return length;
    },
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
  file.close();
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
