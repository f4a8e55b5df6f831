// Users on the VFS beside users on this machine: the same random operations by root and two ordinary users, on a directory of the host and
// on a tmpfs, must give the same results, errno by errno, and leave the same tree, down to modes, owners, links and sizes. Needs root, to
// become others. A file of its own: a change of user holds for the whole process.

import test from 'ava';
import type { ExecutionContext } from 'ava';
import * as fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { ACCESS, E, errnoName, KIND, O, SEEK, UTIME } from '../kernel/abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import { credentialsOf, ROOT, type Credentials } from '../vfs/permission.ts';
import { pathOf, Vfs, type View } from '../vfs/vfs.ts';
import { makeArena, makeRandom } from './support/arena.ts';

const arena = makeArena();
const BUFFER_AT = 4096;
const soak = process.env['ARENA8_SOAK'] === '1';
const canBecomeOthers = process.platform === 'linux' && process.getuid?.() === 0;

const setting = (name: string): number => Number(fs.readFileSync(`/proc/sys/fs/${name}`, 'utf8'));

// ── Two systems behind one face ──────────────────────────────────────────────────────────────────────────────────────────────────

/** Results are text, counts, or minus an errno. */
type Result = string | number;

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
    // As seteuid leaves them: the real user stays root.
    const credentials: Credentials = { ...credentialsOf(0, 0, groups), euid: uid, egid: uid };
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
    const names: string[] = [];
    for (let n; (n = dir.readdir(BUFFER_AT, 4096)) > 0;)
      for (let at = BUFFER_AT; at < BUFFER_AT + n; at += 2 + arena.u8[at + 1]!)
        names.push(Buffer.from(arena.u8.slice(at + 2, at + 2 + arena.u8[at + 1]!)).toString());
    dir.close();
    return names.sort().join(' ');
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
    return this.vfs.access({ ...this.view, credentials: { ...this.view.credentials, euid: 0, egid: 0 } }, p, mask);
  }
  truncate(p: string, size: number): number {
    return this.vfs.truncate(this.view, p, size);
  }
  touch(p: string, now: boolean): number {
    const how = now ? UTIME.now : UTIME.set;
    return this.vfs.utimens(this.view, p, { accessed: how, modified: how, accessedNs: 1e9, modifiedNs: 1e9 });
  }
}

/** What `f` returns, or minus the errno of what it throws. */
function guard<T>(f: () => T): T | number {
  try {
    return f();
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    if (errno === undefined) throw error;
    return errno;
  }
}
function status(f: () => void): number {
  const r = guard(f);
  return typeof r === 'number' ? r : 0;
}

class Theirs implements System {
  private readonly base: string;
  constructor(base: string) {
    this.base = `${base}/`;
  }
  become(uid: number, groups: readonly number[], umask: number): void {
    process.seteuid!(0);
    process.setgroups!([...groups]);
    process.setegid!(uid);
    process.seteuid!(uid);
    process.umask(umask);
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

const shown = (r: Result): string => (typeof r === 'number' && r < 0 ? errnoName(r) : String(r));

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

const USERS: readonly (readonly [uid: number, groups: readonly number[]])[] = [
  [0, [0]],
  [1000, [100]],
  [1000, []],
  [1001, [100, 1000]],
  [1002, []],
];
const MODES = [
  0o777, 0o755, 0o700, 0o644, 0o600, 0o666, 0o750, 0o070, 0o007, 0o1777, 0o4755, 0o2755, 0o6777, 0o2644, 0o2770, 0o111,
  0, 0o3777,
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

function compareUsers(t: ExecutionContext, seed: number, steps: number): void {
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
      if (theirs !== ours) return void t.fail(`seed ${seed}, step ${step}: ${name}: linux ${theirs}, arena8 ${ours}`);
      script.settle(systems);
      if (step % 1000 !== 999 && step !== steps - 1) continue;
      for (const s of systems) s.become(0, [0], 0o022);
      const [left, right] = systems.map(s => tree(s).join('\n'));
      if (left !== right) return void t.is(right, left, `the tree of seed ${seed} after step ${step}`);
    }
    t.pass();
  } finally {
    systems[0].become(0, [0], 0o022);
    for (const pair of script.files) systems[0].close(pair[0]);
    fs.rmSync(host, { recursive: true, force: true });
  }
}

(canBecomeOthers ? test : test.skip)('random operations by three users give what Linux gives', t => {
  for (let seed = 1; seed <= (soak ? 50 : 8); seed++) compareUsers(t, seed, 20_000);
});
