// File systems behind one face, so that tests can put the same operations to each and hold the answers side by side: this machine's VFS, and
// whatever has the interface of Node's fs: the host's own, memfs. Answers are text, counts, descriptors or minus an errno, as Linux numbers them.
import type * as fs from 'node:fs';
import os from 'node:os';
import { E, errnoName, KIND, O, SEEK } from '../../kernel/abi/index.ts';
import type { ArenaView } from '../../kernel/abi/index.ts';
import type { OpenFile } from '../../vfs/file.ts';
import type { Vfs } from '../../vfs/vfs.ts';

/** In tests' arenas: where they put what they write and find what they read. */
export const BUFFER_AT = 4096;

export type Result = string | number;

export interface System {
  open(p: string, flags: number): number; // a descriptor, or -errno
  close(fd: number): void;
  read(fd: number, length: number): Result;
  write(fd: number, text: string): number;
  seek(fd: number, to: number): void;
  tell(fd: number): number;
  inode(at: string | number): number; // of what is there or open; links are not followed
  truncate(fd: number, size: number): number;
  stat(p: string): Result;
  fstat(fd: number): string;
  list(p: string): Result;
  mkdir(p: string): number;
  rmdir(p: string): number;
  unlink(p: string): number;
  rename(a: string, b: string): number;
  symlink(target: string, p: string): number;
  link(existing: string, p: string): number;
  readlink(p: string): Result;
  lstat(p: string): Result;
  chmod(p: string, mode: number): number;
  cut(p: string, size: number): number; // truncate(2)
}

export function shown(r: Result): string {
  return typeof r === 'number' && r < 0 ? errnoName(r) : String(r);
}

/** Bytes of a directory are each file system's own affair. */
function described(kind: number, mode: number, size: number, links: number): string {
  if (kind === KIND.dir) return `dir ${mode.toString(8)}`;
  return `${kind === KIND.link ? 'link' : 'file'} ${mode.toString(8)} ${size} ${links}`;
}

/** The names in an open directory, sorted. */
export function namesIn(arena: ArenaView, dir: OpenFile, capacity = 4096): string[] {
  const found: string[] = [];
  for (let n; (n = dir.readdir(BUFFER_AT, capacity)) > 0;)
    for (let p = BUFFER_AT; p < BUFFER_AT + n; p += 2 + arena.u8[p + 1]!)
      found.push(Buffer.from(arena.u8.slice(p + 2, p + 2 + arena.u8[p + 1]!)).toString());
  return found.sort();
}

/** This machine's, below the directory `base`, which ends in '/'. */
export function arena8System(arena: ArenaView, vfs: Vfs, base: string): System {
  const files = new Map<number, OpenFile>();
  let last = 2;
  const stat = (p: string, follow: boolean): Result => {
    const s = vfs.stat('/', base + p, follow);
    return typeof s === 'number' ? s : described(s.kind, s.mode, s.size, s.links);
  };
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
    write(fd, text) {
      arena.u8.set(Buffer.from(text), BUFFER_AT);
      return files.get(fd)!.write(BUFFER_AT, text.length);
    },
    seek: (fd, to) => void files.get(fd)!.seek(to, SEEK.set),
    tell: fd => files.get(fd)!.position,
    inode(at) {
      const s = typeof at === 'number' ? files.get(at)!.stat() : vfs.stat('/', base + at, false);
      return typeof s === 'number' ? s : s.inode;
    },
    truncate: (fd, size) => files.get(fd)!.truncate(size),
    stat: p => stat(p, true),
    lstat: p => stat(p, false),
    fstat(fd) {
      const s = files.get(fd)!.stat();
      return described(s.kind, s.mode, s.size, s.links);
    },
    list(p) {
      const dir = vfs.open('/', base + p, O.RDONLY | O.DIRECTORY, 0);
      if (typeof dir === 'number') return dir;
      const found = namesIn(arena, dir);
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
    chmod: (p, mode) => vfs.chmod('/', base + p, mode),
    cut: (p, size) => vfs.truncate('/', base + p, size),
  };
}

/** What `f` returns, or minus the errno of what it throws. */
export function guard<T>(f: () => T): T | number {
  try {
    return f();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const errno = (os.constants.errno as Record<string, number>)[code ?? ''];
    if (errno === undefined) throw error;
    return -errno;
  }
}
/** 0, or minus the errno of what `f` throws. */
export function status(f: () => void): number {
  const r = guard(f);
  return typeof r === 'number' ? r : 0;
}

/** What of Node's fs the comparison calls. */
export type NodeFs = Pick<
  typeof fs,
  | 'openSync'
  | 'closeSync'
  | 'readSync'
  | 'writeSync'
  | 'ftruncateSync'
  | 'truncateSync'
  | 'fstatSync'
  | 'statSync'
  | 'lstatSync'
  | 'readdirSync'
  | 'mkdirSync'
  | 'rmdirSync'
  | 'unlinkSync'
  | 'renameSync'
  | 'symlinkSync'
  | 'linkSync'
  | 'readlinkSync'
  | 'chmodSync'
>;

/** One with the interface of Node's fs, below the directory `base`, which ends in '/'. Positions are kept here: Node has no lseek. */
export function nodeSystem(host: NodeFs, base: string): System {
  const files = new Map<number, { position: number; append: boolean }>();
  const describeStat = (s: fs.Stats): string => described(s.mode >> 12, s.mode & 0o7777, s.size, s.nlink);
  return {
    open(p, flags) {
      const fd = guard(() => host.openSync(base + p, flags, 0o644));
      if (fd >= 0) files.set(fd, { position: 0, append: (flags & O.APPEND) !== 0 });
      return fd;
    },
    close(fd) {
      host.closeSync(fd);
      files.delete(fd);
    },
    read(fd, length) {
      const file = files.get(fd)!;
      const into = Buffer.alloc(length);
      const n = guard(() => host.readSync(fd, into, 0, length, file.position));
      if (n < 0) return n;
      file.position += n;
      return into.subarray(0, n).toString('latin1');
    },
    write(fd, text) {
      const file = files.get(fd)!;
      const n = guard(() => host.writeSync(fd, Buffer.from(text), 0, undefined, file.position));
      // pwrite to a file opened for appending goes to its end, and there a shared position would be.
      if (n >= 0) file.position = file.append ? host.fstatSync(fd).size : file.position + n;
      return n;
    },
    seek: (fd, to) => void (files.get(fd)!.position = to),
    tell: fd => files.get(fd)!.position,
    inode: at => guard(() => (typeof at === 'number' ? host.fstatSync(at) : host.lstatSync(base + at)).ino),
    truncate: (fd, size) => status(() => host.ftruncateSync(fd, size)),
    stat: p => guard(() => describeStat(host.statSync(base + p))),
    lstat: p => guard(() => describeStat(host.lstatSync(base + p))),
    fstat: fd => describeStat(host.fstatSync(fd)),
    list: p =>
      guard(() =>
        host
          .readdirSync(base + p)
          .sort()
          .join(' '),
      ),
    mkdir: p => status(() => host.mkdirSync(base + p, 0o755)),
    rmdir: p => status(() => host.rmdirSync(base + p)),
    unlink: p => status(() => host.unlinkSync(base + p)),
    rename: (a, b) => status(() => host.renameSync(base + a, base + b)),
    symlink: (target, p) => status(() => host.symlinkSync(target, base + p)),
    link: (existing, p) => status(() => host.linkSync(base + existing, base + p)),
    readlink: p => guard(() => host.readlinkSync(base + p)),
    chmod: (p, mode) => status(() => host.chmodSync(base + p, mode)),
    cut: (p, size) => status(() => host.truncateSync(base + p, size)),
  };
}

/** Everything beneath `dir` ('' or ending in '/'), a line each; links say what they hold and are not followed. */
export function tree(s: System, dir = ''): string[] {
  const found = s.list(`${dir}.`);
  if (typeof found === 'number') return [`${dir}: ${errnoName(found)}`];
  return found
    .split(' ')
    .filter(name => name !== '')
    .flatMap(name => {
      const is = shown(s.lstat(dir + name));
      const line = `${dir}${name}: ${is}${is.startsWith('link') ? ` -> ${shown(s.readlink(dir + name))}` : ''}`;
      return is.startsWith('dir') ? [line, ...tree(s, `${dir}${name}/`)] : [line];
    });
}

const names = (list: Result): string[] => String(list).split(' ').filter(Boolean);

/**
 * What lies beneath `dir` ('' or ending in '/') on one system, made on another; what has several names keeps them all. Returns a path for each
 * inode of the first.
 */
export function copyTree(from: System, to: System, dir = '', copied = new Map<number, string>()): Map<number, string> {
  for (const name of names(from.list(`${dir}.`))) {
    const p = dir + name;
    const inode = from.inode(p);
    const other = copied.get(inode);
    const [kind, mode, size] = shown(from.lstat(p)).split(' ');
    if (other !== undefined) {
      to.link(other, p);
      continue;
    }
    copied.set(inode, p);
    if (kind === 'link') {
      to.symlink(String(from.readlink(p)), p);
      continue;
    }
    if (kind === 'dir') {
      to.mkdir(p);
      copyTree(from, to, `${p}/`, copied);
    } else copyFile(from, to, p, Number(size));
    to.chmod(p, parseInt(mode!, 8));
  }
  return copied;
}

function copyFile(from: System, to: System, p: string, size: number): void {
  const source = from.open(p, O.RDONLY);
  const target = to.open(p, O.WRONLY | O.CREAT);
  if (size > 0) to.write(target, String(from.read(source, size)));
  from.close(source);
  to.close(target);
}

export function removeTree(s: System, dir = ''): void {
  for (const name of names(s.list(`${dir}.`)))
    if (s.unlink(dir + name) === -E.ISDIR) {
      removeTree(s, `${dir}${name}/`);
      s.rmdir(dir + name);
    }
}
