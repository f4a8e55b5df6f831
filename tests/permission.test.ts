// Users on the VFS beside users on this machine: the same random operations by root and two ordinary users, on a directory of the host and
// on a tmpfs, must give the same results, errno by errno, and leave the same tree, down to modes, owners, links and sizes. Needs root, to become
// others; without it one user is compared. A file of its own: a change of user holds for the whole process. Then the programs.

import test from 'ava';
import type { ExecutionContext } from 'ava';
import * as fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { boot } from '../boot/index.ts';
import { E, errnoName, KIND, O, SEEK, UTIME } from '../kernel/abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import { credentialsOf, ROOT, type Credentials } from '../vfs/permission.ts';
import { pathOf, Vfs, type Place, type View } from '../vfs/vfs.ts';
import { makeArena, makeRandom } from './support/arena.ts';
import { BUFFER_AT, guard, namesIn, shown, status, type Result } from './support/file-systems.ts';

const arena = makeArena();
const soak = process.env['ARENA8_SOAK'] === '1';
const linux = process.platform === 'linux';
const self = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, groups: process.getgroups?.() ?? [] };
const canBecomeOthers = self.uid === 0;

const setting = (name: string): number => Number(fs.readFileSync(`/proc/sys/fs/${name}`, 'utf8'));

// ── Two systems behind one face ──────────────────────────────────────────────────────────────────────────────────────────────────

interface System {
  become(uid: number, groups: readonly number[], umask: number): void;
  open(p: string, flags: number, mode: number): number;
  close(fd: number): void;
  read(fd: number): Result;
  write(fd: number, text: string): number;
  truncateOpen(fd: number, size: number): number;
  chmodOpen(fd: number, mode: number): number;
  lstat(p: string): Result;
  list(p: string): Result;
  readlink(p: string): Result;
  mkdir(p: string, mode: number): number;
  rmdir(p: string): number;
  unlink(p: string): number;
  rename(a: string, b: string): number;
  link(a: string, b: string): number;
  symlink(target: string, p: string): number;
  chmod(p: string, mode: number): number;
  chown(p: string, uid: number, gid: number, follow: boolean): number;
  access(p: string, mask: number): number;
  truncate(p: string, size: number): number;
  touch(p: string, now: boolean): number;
}

interface Described {
  readonly kind: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  readonly size: number;
}
/** Sizes of directories are each file system's own affair. */
const describe = (s: Described): string =>
  `${s.kind} ${s.mode.toString(8)} ${s.uid}:${s.gid} ×${s.links}${s.kind === KIND.dir ? '' : ` ${s.size}`}`;

class Ours implements System {
  readonly vfs: Vfs;
  private view: View;
  private readonly files = new Map<number, OpenFile>();
  private last = 0;

  constructor(vfs: Vfs) {
    this.vfs = vfs;
    const cwd = vfs.chdir('/', '/w');
    if (typeof cwd === 'number') throw new Error(errnoName(cwd));
    this.view = { cwd, credentials: ROOT, umask: 0o022 };
  }
  become(uid: number, groups: readonly number[], umask: number): void {
    // As seteuid leaves them: the real user stays the same.
    const own = credentialsOf(self.uid, self.gid, groups);
    const credentials: Credentials = canBecomeOthers ? { ...own, euid: uid, egid: uid } : own;
    this.view = { ...this.view, credentials, umask };
  }
  open(p: string, flags: number, mode: number): number {
    const file = this.vfs.open(this.view, p, flags, mode);
    if (typeof file === 'number') return file;
    this.files.set(++this.last, file);
    return this.last;
  }
  close(fd: number): void {
    this.files.get(fd)!.close();
    this.files.delete(fd);
  }
  read(fd: number): Result {
    const file = this.files.get(fd)!;
    file.seek(0, SEEK.set);
    const n = file.read(BUFFER_AT, 100);
    return n < 0 ? n : Buffer.from(arena.u8.slice(BUFFER_AT, BUFFER_AT + n)).toString('latin1');
  }
  write(fd: number, text: string): number {
    arena.u8.set(Buffer.from(text), BUFFER_AT);
    const file = this.files.get(fd)!;
    file.seek(0, SEEK.set);
    return file.write(BUFFER_AT, text.length, this.view.credentials);
  }
  truncateOpen(fd: number, size: number): number {
    return this.files.get(fd)!.truncate(size, this.view.credentials);
  }
  chmodOpen(fd: number, mode: number): number {
    return this.vfs.changeMode(this.files.get(fd)!, this.view.credentials, mode);
  }
  lstat(p: string): Result {
    const s = this.vfs.stat(this.view, p, false);
    return typeof s === 'number' ? s : describe(s);
  }
  list(p: string): Result {
    const dir = this.vfs.open(this.view, p, O.RDONLY | O.DIRECTORY, 0);
    if (typeof dir === 'number') return dir;
    const names = namesIn(arena, dir);
    dir.close();
    return names.join(' ');
  }
  readlink(p: string): Result {
    return this.vfs.readlink(this.view, p);
  }
  mkdir(p: string, mode: number): number {
    return this.vfs.mkdir(this.view, p, mode);
  }
  rmdir(p: string): number {
    return this.vfs.rmdir(this.view, p);
  }
  unlink(p: string): number {
    return this.vfs.unlink(this.view, p);
  }
  rename(a: string, b: string): number {
    return this.vfs.rename(this.view, a, b);
  }
  link(a: string, b: string): number {
    return this.vfs.link(this.view, a, b);
  }
  symlink(target: string, p: string): number {
    return this.vfs.symlink(this.view, target, p);
  }
  chmod(p: string, mode: number): number {
    return this.vfs.chmod(this.view, p, mode);
  }
  chown(p: string, uid: number, gid: number, follow: boolean): number {
    return this.vfs.chown(this.view, p, uid, gid, follow);
  }
  access(p: string, mask: number): number {
    const { credentials } = this.view;
    return this.vfs.access({ ...this.view, credentials: { ...credentials, euid: self.uid, egid: self.gid } }, p, mask);
  }
  truncate(p: string, size: number): number {
    return this.vfs.truncate(this.view, p, size);
  }
  touch(p: string, now: boolean): number {
    const how = now ? UTIME.now : UTIME.set;
    return this.vfs.utimens(this.view, p, { accessed: how, modified: how, accessedNs: 1e9, modifiedNs: 1e9 });
  }
}

class Theirs implements System {
  private readonly base: string;
  constructor(base: string) {
    this.base = `${base}/`;
  }
  become(uid: number, groups: readonly number[], umask: number): void {
    process.umask(umask);
    if (!canBecomeOthers) return;
    process.seteuid!(0);
    process.setgroups!([...groups]);
    process.setegid!(uid);
    process.seteuid!(uid);
  }
  open(p: string, flags: number, mode: number): number {
    return guard(() => fs.openSync(this.base + p, flags, mode));
  }
  close(fd: number): void {
    fs.closeSync(fd);
  }
  read(fd: number): Result {
    const into = Buffer.alloc(100);
    const n = guard(() => fs.readSync(fd, into, 0, 100, 0));
    return n < 0 ? n : into.subarray(0, n).toString('latin1');
  }
  write(fd: number, text: string): number {
    return guard(() => fs.writeSync(fd, Buffer.from(text), 0, undefined, 0));
  }
  truncateOpen(fd: number, size: number): number {
    return status(() => fs.ftruncateSync(fd, size));
  }
  chmodOpen(fd: number, mode: number): number {
    return status(() => fs.fchmodSync(fd, mode));
  }
  lstat(p: string): Result {
    return guard(() => {
      const s = fs.lstatSync(this.base + p);
      return describe({ ...s, kind: s.mode >> 12, mode: s.mode & 0o7777, links: s.nlink });
    });
  }
  list(p: string): Result {
    return guard(() => {
      const names = fs.readdirSync(this.base + p);
      return names.sort().join(' ');
    });
  }
  readlink(p: string): Result {
    return guard(() => fs.readlinkSync(this.base + p));
  }
  mkdir(p: string, mode: number): number {
    return status(() => void fs.mkdirSync(this.base + p, mode));
  }
  rmdir(p: string): number {
    return status(() => fs.rmdirSync(this.base + p));
  }
  unlink(p: string): number {
    return status(() => fs.unlinkSync(this.base + p));
  }
  rename(a: string, b: string): number {
    return status(() => fs.renameSync(this.base + a, this.base + b));
  }
  link(a: string, b: string): number {
    return status(() => fs.linkSync(this.base + a, this.base + b));
  }
  symlink(target: string, p: string): number {
    return status(() => fs.symlinkSync(target, this.base + p));
  }
  chmod(p: string, mode: number): number {
    return status(() => fs.chmodSync(this.base + p, mode));
  }
  chown(p: string, uid: number, gid: number, follow: boolean): number {
    // The host's -1, in Node's unsigned ids.
    const id = (n: number): number => (n === -1 ? 0xffffffff : n);
    return status(() => fs[follow ? 'chownSync' : 'lchownSync'](this.base + p, id(uid), id(gid)));
  }
  access(p: string, mask: number): number {
    return status(() => fs.accessSync(this.base + p, mask));
  }
  truncate(p: string, size: number): number {
    return status(() => fs.truncateSync(this.base + p, size));
  }
  touch(p: string, now: boolean): number {
    // Node has no UTIME_NOW: only times that are given can be compared.
    return now ? 0 : status(() => fs.utimesSync(this.base + p, 1, 1));
  }
}

/** Everything beneath `dir`, as root sees it. */
function tree(s: System, dir = ''): string[] {
  const found = s.list(dir === '' ? '.' : dir);
  if (typeof found === 'number') return [`${dir}: ${errnoName(found)}`];
  return found
    .split(' ')
    .filter(name => name !== '')
    .flatMap(name => {
      const p = dir === '' ? name : `${dir}/${name}`;
      const is = s.lstat(p);
      const line = `${p}: ${shown(is)}${String(is).startsWith('10 ') ? ` ${s.readlink(p)}` : ''}`;
      return String(is).startsWith('4 ') ? [line, ...tree(s, p)] : [line];
    });
}

// ── Random operations ────────────────────────────────────────────────────────────────────────────────────────────────────────────

type User = readonly [uid: number, groups: readonly number[]];
const USERS: readonly User[] = canBecomeOthers
  ? [
      [0, [0]],
      [0, [0]], // more often: what others may do depends on what there is
      [0, [0]],
      [1000, [100]],
      [1000, []],
      [1001, [100, 1000]],
      [1002, []],
    ]
  : [[self.uid, self.groups]];
const FIRST_USER = [...USERS[0]!, 0o022] as const;
const MODES = [
  0o777, 0o777, 0o777, 0o777, 0o755, 0o700, 0o644, 0o600, 0o666, 0o750, 0o070, 0o007, 0o1777, 0o4755, 0o2755, 0o6777,
  0o2644, 0o2770, 0o111, 0, 0o3777,
];
const OPENS = [
  O.RDONLY,
  O.WRONLY,
  O.RDWR,
  O.RDONLY | O.DIRECTORY,
  O.RDONLY | O.NOFOLLOW,
  O.RDONLY | O.NOFOLLOW | O.DIRECTORY,
  O.WRONLY | O.TRUNC,
  O.RDONLY | O.TRUNC,
  O.WRONLY | O.CREAT,
  O.RDWR | O.CREAT,
  O.RDONLY | O.CREAT,
  O.WRONLY | O.CREAT | O.EXCL,
  O.RDWR | O.CREAT | O.TRUNC,
  O.WRONLY | O.CREAT | O.NOFOLLOW,
];

/** One operation: what it is called, and what it does on either system. Descriptors are pairs. */
type Operation = readonly [name: string, act: (s: System, side: 0 | 1) => Result];

class Script {
  private readonly random: (n: number) => number;
  private readonly modes: readonly number[];
  readonly files: [number, number][] = [];

  constructor(seed: number, modes: readonly number[]) {
    this.random = makeRandom(seed);
    this.modes = modes;
  }
  private one<T>(list: readonly T[]): T {
    return list[this.random(list.length)]!;
  }
  /** Never above the directory: every name leads further down, and `..` comes only after one. */
  private path(): string {
    const names = Array.from({ length: 1 + this.random(3) }, () => this.one(['a', 'b', 'c', 'd']));
    if (this.random(25) === 0) names.splice(1, 0, this.one(['.', '..']));
    return names.join('/') + (this.random(25) === 0 ? '/' : '');
  }
  user(): readonly [uid: number, groups: readonly number[], umask: number] {
    return [...this.one(USERS), this.one([0, 0o022, 0o077, 0o027])];
  }
  next(): Operation {
    const { random } = this;
    const p = this.path();
    const mode = this.one(this.modes);
    const size = random(50);
    if (random(4) === 0 && this.files.length > 0) return this.onOpen(this.one(this.files), mode, size);
    switch (random(19)) {
      case 0:
      case 1:
      case 2:
        return [`mkdir ${p} ${mode.toString(8)}`, s => s.mkdir(p, mode)];
      case 3:
        return [`rmdir ${p}`, s => s.rmdir(p)];
      case 4:
        return [`unlink ${p}`, s => s.unlink(p)];
      case 5:
      case 6: {
        const q = this.path();
        return [`rename ${p} ${q}`, s => s.rename(p, q)];
      }
      case 7:
      case 8: {
        const q = this.path();
        return [`link ${p} ${q}`, s => s.link(p, q)];
      }
      case 9: {
        const target = this.path().replace('./', '').replace('../', '').replace(/^\.+/, 'a');
        return [`symlink ${target} ${p}`, s => s.symlink(target, p)];
      }
      case 10:
        return [`lstat ${p}`, s => s.lstat(p)];
      case 11:
        return random(2) === 0 ? [`list ${p}`, s => s.list(p)] : [`readlink ${p}`, s => s.readlink(p)];
      case 12:
      case 13:
        return [`chmod ${p} ${mode.toString(8)}`, s => s.chmod(p, mode)];
      case 14: {
        const [uid, gid, follow] = [this.one([-1, 0, 1000, 1001]), this.one([-1, 0, 100, 1000, 1001]), random(3) > 0];
        return [`chown ${p} ${uid} ${gid} ${follow}`, s => s.chown(p, uid, gid, follow)];
      }
      case 15:
        if (random(3) === 0) return [`truncate ${p} ${size}`, s => s.truncate(p, size)];
        if (random(2) === 0) return [`touch ${p}`, s => s.touch(p, false)];
        return [`access ${p}`, s => s.access(p, size % 8)];
      default:
        return this.opening(p, this.one(OPENS), mode);
    }
  }
  private opening(p: string, flags: number, mode: number): Operation {
    const pair: [number, number] = [-1, -1];
    this.files.push(pair);
    return [
      `open ${p} 0${flags.toString(8)} ${mode.toString(8)}`,
      (s, side) => {
        pair[side] = s.open(p, flags, mode);
        return pair[side] < 0 ? pair[side] : 'open';
      },
    ];
  }
  private onOpen(pair: [number, number], mode: number, size: number): Operation {
    switch (this.random(5)) {
      case 0:
        return ['read', (s, side) => s.read(pair[side])];
      case 1:
        return [`write ${size + 1}`, (s, side) => s.write(pair[side], 'x'.repeat(size + 1))];
      case 2:
        return [`ftruncate ${size}`, (s, side) => s.truncateOpen(pair[side], size)];
      case 3:
        return [`fchmod ${mode.toString(8)}`, (s, side) => s.chmodOpen(pair[side], mode)];
      default:
        this.files.splice(this.files.indexOf(pair), 1);
        return ['close', (s, side) => (s.close(pair[side]), 0)];
    }
  }
  /** Forgets what could not be opened, and asks for a close when there are too many. */
  settle(systems: readonly [System, System]): void {
    const last = this.files.at(-1);
    if (last !== undefined && last[0] < 0) this.files.pop();
    if (this.files.length <= 16) return;
    const pair = this.files.shift()!;
    systems.forEach((s, side) => s.close(pair[side as 0 | 1]));
  }
}

/** Counts in `counts` what was refused and why. */
function compareUsers(t: ExecutionContext, seed: number, steps: number, counts: Map<string, number>): void {
  const host = fs.mkdtempSync(path.join(os.tmpdir(), 'arena8-users-'));
  fs.chmodSync(host, 0o755);
  fs.mkdirSync(`${host}/w`);
  fs.chmodSync(`${host}/w`, 0o777);
  let now = 0;
  const vfs = new Vfs(arena, () => (now += 1000), {
    hard: setting('protected_hardlinks') !== 0,
    symbolic: setting('protected_symlinks') !== 0,
  });
  vfs.mount('/', vfs.tmpfs(), 'root', false);
  vfs.mkdir('/', '/w', 0o755);
  vfs.chmod('/', '/w', 0o777);
  vfs.chown('/', '/w', self.uid, self.gid);
  const systems = [new Theirs(`${host}/w`), new Ours(vfs)] as const;
  // Hosts may keep others' files in sticky directories from O_CREAT; this machine does not.
  const modes = setting('protected_regular') === 0 ? MODES : MODES.filter(mode => (mode & 0o1000) === 0);
  const script = new Script(seed, modes);
  try {
    for (let step = 0; step < steps; step++) {
      if (step % 4 === 0) {
        const user = script.user();
        for (const s of systems) s.become(...user);
      }
      const [name, act] = script.next();
      const [theirs, ours] = systems.map((s, side) => shown(act(s, side as 0 | 1)));
      const errno = theirs!.startsWith('E') ? theirs! : 'done';
      counts.set(errno, (counts.get(errno) ?? 0) + 1);
      if (theirs !== ours) return void t.fail(`seed ${seed}, step ${step}: ${name}: linux ${theirs}, arena8 ${ours}`);
      script.settle(systems);
      if (step % 500 !== 499 && step !== steps - 1) continue;
      for (const s of systems) s.become(...FIRST_USER);
      const [left, right] = systems.map(s => tree(s).join('\n'));
      if (left !== right) return void t.is(right, left, `the tree of seed ${seed} after step ${step}`);
    }
    t.pass();
  } finally {
    systems[0].become(...FIRST_USER);
    for (const pair of script.files) systems[0].close(pair[0]);
    fs.rmSync(host, { recursive: true, force: true });
  }
}

(linux ? test : test.skip)('random operations by several users give what Linux gives', t => {
  const counts = new Map<string, number>();
  for (let seed = 1; seed <= (soak ? 500 : 10); seed++) compareUsers(t, seed, 2000, counts);
  const rows = [...counts].sort((a, b) => b[1] - a[1]).map(([what, n]) => `${what} ${n}`);
  t.log(`${new Set(USERS.map(([uid]) => uid)).size} users: ${rows.join(', ')}`);
});

// ── What the comparison cannot say ───────────────────────────────────────────────────────────────────────────────────────────────

test('modification and reading show in the times that they should', t => {
  let now = 0;
  const vfs = new Vfs(arena, () => ++now);
  vfs.mount('/', vfs.tmpfs(), 'root', false);
  const made = vfs.open('/', '/f', O.RDWR | O.CREAT, 0o644);
  if (typeof made === 'number') return t.fail(errnoName(made));
  vfs.mkdir('/', '/d', 0o755);
  const times = (p: string): { a: number; m: number; c: number } => {
    const s = vfs.stat('/', p, false);
    if (typeof s === 'number') throw new Error(errnoName(s));
    return { a: s.accessedNs, m: s.modifiedNs, c: s.changedNs };
  };
  /** Which of a, m, c of each path an action moves. */
  const moved = (paths: readonly string[], act: () => unknown): string => {
    const before = paths.map(times);
    act();
    const after = paths.map(times);
    return after.map((x, i) => (['a', 'm', 'c'] as const).filter(k => x[k] !== before[i]![k]).join('')).join(' ');
  };
  t.is(
    moved(['/f', '/'], () => made.write(BUFFER_AT, 10)),
    'mc ',
  );
  made.seek(0, SEEK.set);
  t.is(
    moved(['/f'], () => made.read(BUFFER_AT, 5)),
    'a',
  );
  t.is(
    moved(['/f'], () => made.read(BUFFER_AT, 5)),
    '',
  ); // as relatime has it
  t.is(
    moved(['/f'], () => vfs.chmod('/', '/f', 0o600)),
    'c',
  );
  t.is(
    moved(['/f'], () => vfs.chown('/', '/f', 1, 1)),
    'c',
  );
  t.is(
    moved(['/f', '/d', '/'], () => vfs.link('/', '/f', '/d/g')),
    'c mc ',
  );
  t.is(
    moved(['/f', '/d', '/'], () => vfs.rename('/', '/d/g', '/g')),
    'c mc mc',
  );
  t.is(
    moved(['/f', '/d', '/'], () => vfs.unlink('/', '/g')),
    'c  mc',
  );
  t.is(
    moved(['/d', '/'], () => vfs.mkdir('/', '/d/e', 0o755)),
    'mc ',
  );
  t.is(
    moved(['/f'], () => vfs.utimens('/', '/f', { accessed: 0, accessedNs: 777, modified: UTIME.omit, modifiedNs: 0 })),
    'ac',
  );
  t.is(times('/f').a, 777);
  made.close();
});

test('a directory in use follows its renames, and outlives its name', t => {
  const vfs = new Vfs(arena, () => 0);
  vfs.mount('/', vfs.tmpfs(), 'root', false);
  for (const dir of ['/a', '/a/b', '/a/b/m', '/x']) vfs.mkdir('/', dir, 0o755);
  vfs.mount('/a/b/m', vfs.tmpfs(), 'below', false);
  const cwd = vfs.chdir('/', '/a/b/m');
  if (typeof cwd === 'number') return t.fail(errnoName(cwd));
  const view: View = { cwd, credentials: ROOT, umask: 0o022 };
  t.is(vfs.rename('/', '/a/b', '/x/c'), 0); // a mount point lies beneath
  t.is(vfs.getcwd(cwd), '/x/c/m');
  t.is(vfs.mounts()[1]!.target, '/x/c/m');
  t.is(vfs.rename('/', '/x/c/m', '/x/m'), -E.BUSY);
  t.is(vfs.mkdir(view, '../here', 0o755), 0);
  t.is((vfs.stat('/', '/x/c/here') as { kind: number }).kind, KIND.dir);
  const here = vfs.chdir(view, '../here');
  if (typeof here === 'number') return t.fail(errnoName(here));
  t.is(vfs.rmdir('/', '/x/c/here'), 0);
  t.is(vfs.getcwd(here) as number, -E.NOENT);
  t.is(vfs.mkdir({ ...view, cwd: here }, 'new', 0o755), -E.NOENT);
  t.is(pathOf(vfs.chdir({ ...view, cwd: here }, '..') as Place), '/x/c');
  t.is(vfs.link('/', '/x', '/y'), -E.PERM);
  t.is(vfs.link('/', '/x/c/m', '/y'), -E.XDEV);
});

test('another name in a shared directory is no trap: protected links', t => {
  const vfs = new Vfs(arena, () => 0);
  vfs.mount('/', vfs.tmpfs(), 'root', false);
  const as = (uid: number): View => ({
    cwd: vfs.mounts()[0]!.root,
    credentials: credentialsOf(uid, uid),
    umask: 0o022,
  });
  const make = (uid: number, p: string): unknown =>
    (vfs.open(as(uid), p, O.WRONLY | O.CREAT, 0o644) as OpenFile).close();
  make(1, '/one');
  t.is(vfs.link(as(2), '/one', '/two'), -E.PERM);
  t.is(vfs.symlink(as(2), 'one', '/trap'), 0);
  t.is(vfs.stat(as(1), '/trap') as number, -E.ACCES);
  t.is((vfs.stat(as(2), '/trap') as { size: number }).size, 0);
  t.is(vfs.readlink(as(1), '/trap'), 'one');
  t.is(vfs.unlink(as(1), '/trap'), -E.PERM); // sticky
  t.is(vfs.chmod(as(2), '/one', 0o777), -E.PERM);
});

// ── Programs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const machine = boot({ image: fs.readFileSync('build/boot.cpio') });
const run = (line: string): string => {
  const r = machine.exec(line);
  return `${r.stdout}${r.stderr}${r.status === 0 ? '' : `[${r.status}]`}`;
};

test.serial('su, id and whoami: who one is and may become', t => {
  t.is(run('id; whoami'), 'uid=0(root) gid=0(root) groups=0(root)\nroot\n');
  t.is(
    run("su user -c 'id; whoami; id -un; id -Gn; id -g'"),
    'uid=1000(user) gid=1000(user) groups=1000(user),100(users)\nuser\nuser\nuser users\n1000\n',
  );
  t.is(run("su - user -c 'pwd; echo $HOME $USER'"), '/home/user\n/home/user user\n');
  t.is(run("su user -c 'su -c id'"), 'su: Authentication failure\n[1]');
  t.is(run("su user -c 'su user -c whoami'"), 'user\n');
  t.regex(run('su nobody'), /\[1\]$/);
  t.regex(run('su ada -c id'), /^su: user ada does not exist.*\n\[1\]$/);
  t.is(
    run('id nobody; id ada'),
    "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)\nid: 'ada': no such user\n[1]",
  );
  t.is(run("su user -c 'mount -t tmpfs x /mnt'"), 'mount: /mnt: Operation not permitted\n[32]');
  t.is(run("su user -c '/bin/kill -15 1'"), 'kill: (1) - Operation not permitted\n[1]');
});

test.serial('chmod, chown, ln, readlink, stat: what they change and how they refuse', t => {
  machine.exec('rm -rf /tmp/p; mkdir /tmp/p; cd /tmp/p; echo hello > f');
  for (const [mode, shown] of [
    ['600', '600 -rw-------'],
    ['a+x', '711 -rwx--x--x'],
    ['u=rw,g=u,o=', '660 -rw-rw----'],
    ['+x', '771 -rwxrwx--x'],
    ['-x', '660 -rw-rw----'],
    ['u+s,g+s', '6660 -rwSrwS---'],
    ['1755', '1755 -rwxr-xr-t'],
    ['go-rwx', '1700 -rwx-----T'],
    ['u-x,a+X', '1600 -rw------T'],
  ])
    t.is(run(`chmod ${mode} f && stat -c '%a %A' f`), `${shown}\n`, mode);
  t.is(run('chmod 888 f'), "chmod: invalid mode: '888'\nTry 'chmod --help' for more information.\n[1]");
  t.is(run('chmod 644 none'), "chmod: cannot access 'none': No such file or directory\n[1]");
  t.is(
    run("su user -c 'chmod 777 f; chown user f'"),
    "chmod: changing permissions of 'f': Operation not permitted\nchown: changing ownership of 'f': Operation not permitted\n[1]",
  );
  t.is(
    run("chown user:users f; stat -c '%U:%G' f; chown 0: f; stat -c %u:%g f; chown ada f"),
    "user:users\n0:0\nchown: invalid user: 'ada'\n[1]",
  );
  t.is(
    run("ln f g; ln -s f s; stat -c '%h %N' f s; readlink s; readlink -f s; readlink f"),
    "2 'f'\n1 's' -> 'f'\nf\n/tmp/p/f\n[1]",
  );
  t.is(
    run('ln f g; ln -s f s; ln /tmp d; ln none x'),
    "ln: failed to create hard link 'g': File exists\nln: failed to create symbolic link 's': File exists\nln: /tmp: hard link not allowed for directory\nln: failed to access 'none': No such file or directory\n[1]",
  );
  t.is(
    run('ln -sf g s; readlink s; ln -s loop loop; cat loop; test -L loop && echo link'),
    'g\nlink\ncat: loop: Too many levels of symbolic links (at most 40 are followed)\n',
  );
  t.is(
    run('mkdir d; ln -s ../f d/up; cp -r d e; readlink e/up; cat e/up; rm -r e; ls d; cat f'),
    '../f\nhello\nup\nhello\n',
  );
  t.is(run('ln -s d dd; rm -r dd; ls d; mv s t; readlink t; ls -F'), 'up\ng\nd/\nf\ng\nloop@\nt@\n');
  t.is(run('cd; rm -r /tmp/p'), '');
});

test.serial('find and du walk what is there', t => {
  machine.exec(
    'rm -rf /tmp/p; mkdir -p /tmp/p/d/e; cd /tmp/p; echo one > d/f; head -c 5000 /dev/zero > d/e/big; ln d/f g; ln -s d l',
  );
  t.is(run('find'), '.\n./d\n./d/e\n./d/e/big\n./d/f\n./g\n./l\n');
  t.is(run('find . -type f -name "*g"'), './d/e/big\n./g\n');
  t.is(run('find d -maxdepth 1 ! -type d -o -name e'), 'd/e\nd/f\n');
  t.is(run('find . -size +4k -o -links 2 -type f -print'), './d/f\n./g\n');
  t.is(run('find . -samefile g; find . -lname d; find . -name d -prune -o -print'), './d/f\n./g\n./l\n.\n./g\n./l\n');
  t.is(
    run('find d -type f -exec wc -c {} ";"; find d -type f -exec echo all {} +'),
    '5000 d/e/big\n4 d/f\nall d/e/big d/f\n',
  );
  t.is(
    run(
      "chmod 600 g; find . -perm 600; find . -perm -200 -type f -perm /077; su user -c 'find . -user root -readable -type f'",
    ),
    './d/f\n./g\n./d/e/big\n./d/e/big\n',
  );
  t.is(run('find . -nonsense'), "find: unknown predicate '-nonsense'\n[1]");
  t.is(run('find none'), "find: 'none': No such file or directory\n[1]");
  t.is(
    run('du -a; du -sb d; du -h d/e; du -d 0 .'),
    '8\t./d/e/big\n8\t./d/e\n4\t./d/f\n12\t./d\n0\t./l\n12\t.\n5004\td\n8.0K\td/e\n12\t.\n',
  );
  t.is(run('find /tmp/p -depth -delete; ls /tmp/p; cd'), "ls: cannot access '/tmp/p': No such file or directory\n");
});

test.serial('a limit that was reached is named with its number, a busy file system with what uses it', t => {
  const long = 'n'.repeat(256);
  t.is(
    run(`mkdir /tmp/${long}`),
    `mkdir: cannot create directory '/tmp/${long}': File name too long (a name has at most 255 bytes, a path 4095)\n[1]`,
  );
  t.regex(
    run('head -c 70M /dev/zero > /tmp/big; rm /tmp/big'),
    /^head: write error: No space left on device \(67108864 of 67108864 bytes, \d+ of 16384 files\)\n$/,
  );
  run('mkdir /tmp/m; mount -t tmpfs a /tmp/m; mkdir /tmp/m/x; mount -t tmpfs b /tmp/m/x; echo x > /tmp/m/f');
  t.is(run('umount /tmp/m'), 'umount: /tmp/m: target is busy: /tmp/m/x beneath\n[32]');
  t.is(run('umount /tmp/m/x; umount /tmp/m < /tmp/m/f'), 'umount: /tmp/m: target is busy: 1 open file\n[32]');
  t.is(run('cd /tmp/m; umount /tmp/m'), 'umount: /tmp/m: target is busy: 2 working directories\n[32]');
  t.is(
    run('cd; umount /tmp/m; umount /tmp/m; umount /'),
    'umount: /tmp/m: not mounted\numount: /: target is busy: the root\n[32]',
  );
  t.is(run("su user -c 'umount /tmp'"), 'umount: /tmp: Operation not permitted\n[32]');
  t.is(run('rmdir /tmp/m'), '');
});

test.serial('what /proc and /dev hold is in the manual, and the lab about users works', t => {
  const [proc, dev] = [run('man proc'), run('man dev')];
  for (const name of run('ls /proc').split('\n').filter(Boolean)) t.regex(proc, new RegExp(`^ +${name}\\b`, 'm'), name);
  const known = run('ls /dev')
    .split('\n')
    .filter(name => name !== '' && !name.includes('-') && name !== 'exec');
  for (const name of known) t.regex(dev, new RegExp(`^ +${name} `, 'm'), name);
  const failing = /note'$|^ln -s circle|^rm other|ls \/root|^strace|^mkdir.*lab/;
  for (const [, command] of run('cat /usr/share/labs/users.md').matchAll(/^ {4}\$ (.*)$/gm)) {
    const { status, stderr } = machine.exec(command!);
    if (!failing.test(command!)) t.is(status, 0, `${command}: ${stderr}`);
  }
});

test.serial('/dev and /proc: positions, refusals, counts', t => {
  t.is(run('head -c 6 /dev/ram0; echo; tail -c +7 /dev/ram0 | head -c 8'), '070701\n00000001');
  t.is(run('echo x > /dev/ram0'), 'sh: /dev/ram0: Permission denied\n[2]');
  t.is(run('echo x > /dev/mem'), 'sh: /dev/mem: Operation not permitted\n[2]');
  t.is(run("su user -c 'head -c 1 /dev/mem'"), "head: cannot open '/dev/mem' for reading: Permission denied\n[1]");
  t.is(run('wc -c < /dev/mem'), '8388608\n');
  t.is(run('echo x > /dev/full'), 'echo: write error: No space left on device\n[1]');
  t.regex(
    run('head -c 4 /dev/urandom | wc -c; cat /proc/interrupts /proc/partitions'),
    /^4\n +CPU0\n {2}0: [^]*block[^]*ram0\n.*ram1\n$/,
  );
  t.regex(run('cat /proc/mounts'), /^rootfs \/ tmpfs rw 0 0\n[^]*tmpfs \/tmp tmpfs rw 0 0\n(audit \/.*\n)*$/);
  t.regex(
    run('ls -l /dev/null /dev/ram0 /dev/tty'),
    /^crw-rw-rw- 1 root root 1, 3 .*\nbrw------- 1 root root 1, 0 .*\ncrw-rw-rw- 1 root root 5, 0 /,
  );
});
