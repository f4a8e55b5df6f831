// The virtual file system: the mount table, the path walk, and the calls that take names. Every refusal is the errno that Linux gives in
// the same situation (tests/vfs.test.ts holds the two side by side). Mounts are known by canonical path, so a directory above a mount
// point cannot be renamed (EBUSY). Paths are text, '/'-separated; a working directory is a canonical path. After Linux's fs/namei.c.

import { E, KIND, LIMITS, O, utf8Length } from '../kernel/abi/index.ts';
import type { ArenaView, FsStat, RecordValue } from '../kernel/abi/index.ts';
import { OpenFile, statOf } from './file.ts';
import type { StatValue } from './file.ts';
import { anonymousFile, TmpFs, TmpPool } from './fs-tmp.ts';
import type { FileSystem, Handle, Inode } from './inode.ts';
import { Pipe } from './pipe.ts';

export type FsStatValue = RecordValue<typeof FsStat.fields>;

export interface Mount {
  readonly target: string;
  readonly source: string;
  readonly fs: FileSystem;
  readonly readOnly: boolean;
  readonly device: number;
  /** Open files on it: it cannot be unmounted while there are any. */
  opens: number;
}

/** Where a path led. */
export interface Place {
  readonly mount: Mount;
  readonly inode: Inode;
  readonly path: string; // canonical: absolute, no `.`, `..`, links or doubled slashes
}

/** The end of a walk: the directory it came to and the last name in it. */
interface Last {
  readonly parent: Place;
  readonly name: string; // '' when the path is the root
  readonly place: Place | null; // null: no such name in parent
  readonly slash: boolean; // the path ended in '/': only a directory will do
}

/** Device number of what lies on no mount: pipes and anonymous files. */
const NO_DEVICE = 0;

function join(dir: string, name: string): string {
  return dir === '/' ? `/${name}` : `${dir}/${name}`;
}
function dirname(path: string): string {
  return path.slice(0, Math.max(1, path.lastIndexOf('/')));
}
function within(path: string, dir: string): boolean {
  return path === dir || path.startsWith(dir === '/' ? dir : `${dir}/`);
}

/** `path` seen from `cwd` as an absolute path without `.`, `..` and doubled slashes, by text alone: links are not looked at. */
export function normalize(cwd: string, path: string): string {
  const names: string[] = [];
  for (const name of (path.startsWith('/') ? path : `${cwd}/${path}`).split('/')) {
    if (name === '..') names.pop();
    else if (name !== '' && name !== '.') names.push(name);
  }
  return `/${names.join('/')}`;
}

export class Vfs {
  readonly arena: ArenaView;
  /** The storage of every tmpfs and memfd. */
  readonly pool: TmpPool;
  private readonly table = new Map<string, Mount>();
  private lastDevice = NO_DEVICE;
  private filesOpen = 0;

  constructor(arena: ArenaView, nowNs: () => number) {
    this.arena = arena;
    this.pool = new TmpPool(nowNs);
  }

  // ── Mounts ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A new, empty tmpfs on the machine's pool. */
  tmpfs(): TmpFs {
    return new TmpFs(this.pool);
  }

  /** Mounts `fs` on the directory `target` (absolute). The first mount is the root's. One mount a directory: -EBUSY for a second. */
  mount(target: string, fs: FileSystem, source: string, readOnly: boolean): number {
    let path = '/';
    if (this.table.size > 0) {
      const place = this.resolve('/', target);
      if (typeof place === 'number') return place;
      if (place.inode.kind !== KIND.dir) return -E.NOTDIR;
      path = place.path;
    } else if (normalize('/', target) !== '/') return -E.NOENT;
    if (this.table.has(path)) return -E.BUSY;
    if (this.table.size >= LIMITS.mountsMax) return -E.NOSPC;
    const device = ++this.lastDevice;
    this.table.set(path, { target: path, source, fs, readOnly: readOnly || fs.readOnly, device, opens: 0 });
    return 0;
  }

  /** Unmounts; -EBUSY while a file on it is open, something is mounted beneath, or one of `held` (working directories) is inside. */
  umount(target: string, held: readonly string[] = []): number {
    const place = this.resolve('/', target);
    if (typeof place === 'number') return place;
    const mount = this.table.get(place.path);
    if (mount === undefined) return -E.INVAL;
    if (mount.opens > 0 || place.path === '/' || this.mountedBelow(place.path)) return -E.BUSY;
    if (held.some(cwd => within(cwd, place.path))) return -E.BUSY;
    this.table.delete(place.path);
    mount.fs.release?.();
    return 0;
  }

  /** In the order of mounting. */
  mounts(): readonly Mount[] {
    return [...this.table.values()];
  }

  private mountedBelow(path: string): boolean {
    for (const target of this.table.keys()) if (target !== path && within(target, path)) return true;
    return false;
  }

  // ── The walk ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  normalize(cwd: string, path: string): string {
    return normalize(cwd, path);
  }

  /** What `path` names, links followed. */
  resolve(cwd: string, path: string): Place | number {
    const last = this.walk(cwd, path, true);
    if (typeof last === 'number') return last;
    if (last.place === null) return -E.NOENT;
    return last.slash && last.place.inode.kind !== KIND.dir ? -E.NOTDIR : last.place;
  }

  private walk(cwd: string, path: string, followLast: boolean): Last | number {
    if (path === '') return -E.NOENT;
    if (path.includes('\0')) return -E.INVAL;
    if (utf8Length(path) >= LIMITS.pathBytes) return -E.NAMETOOLONG;
    const root = this.rootPlace();
    if (typeof root === 'number') return root;
    let here = path.startsWith('/') || cwd === '/' ? root : this.resolve('/', cwd);
    if (typeof here === 'number') return here;
    const pending = namesReversed(path);
    let slash = path.endsWith('/');
    let links = 0;
    for (;;) {
      const name = pending.pop();
      if (name === undefined) return { parent: here, name: '', place: here, slash };
      const isLast = pending.length === 0;
      const next = this.step(here, name);
      if (next === -E.NOENT && isLast) return { parent: here, name, place: null, slash };
      if (typeof next === 'number') return next;
      if (next.inode.kind === KIND.link && (!isLast || followLast)) {
        if (++links > LIMITS.symlinkDepth) return -E.LOOP;
        const target = next.inode.readlink();
        if (isLast && target.endsWith('/')) slash = true;
        pending.push(...namesReversed(target));
        if (target.startsWith('/')) here = root;
      } else if (isLast) return { parent: here, name, place: next, slash };
      else here = next;
    }
  }

  /** One component: `name` in the directory `here`. -ENOENT only says that a good name is not there. */
  private step(here: Place, name: string): Place | number {
    if (here.inode.kind !== KIND.dir) return -E.NOTDIR;
    if (name === '.') return here;
    if (name === '..') return here.path === '/' ? here : this.resolve('/', dirname(here.path));
    if (utf8Length(name) > LIMITS.nameBytes) return -E.NAMETOOLONG;
    const path = join(here.path, name);
    const mount = this.table.get(path);
    if (mount !== undefined) return { mount, inode: mount.fs.root, path };
    const inode = here.inode.lookup(name);
    return typeof inode === 'number' ? inode : { mount: here.mount, inode, path };
  }

  private rootPlace(): Place | number {
    const mount = this.table.get('/');
    return mount === undefined ? -E.NOENT : { mount, inode: mount.fs.root, path: '/' };
  }

  // ── Opening ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  open(cwd: string, path: string, flags: number, mode: number): OpenFile | number {
    const access = flags & O.ACCMODE;
    const creating = (flags & O.CREAT) !== 0;
    if (access === O.ACCMODE || (creating && (flags & O.DIRECTORY) !== 0)) return -E.INVAL;
    const exclusive = creating && (flags & O.EXCL) !== 0;
    const last = this.walk(cwd, path, !exclusive);
    if (typeof last === 'number') return last;
    if (last.place === null) {
      if (!creating) return -E.NOENT;
      if (last.slash) return -E.ISDIR;
      if (last.parent.mount.readOnly) return -E.ROFS;
      if (this.filesOpen >= LIMITS.filesMax) return -E.NFILE;
      const inode = last.parent.inode.create(last.name, mode & 0o777);
      if (typeof inode === 'number') return inode;
      return this.openInode(inode, join(last.parent.path, last.name), flags, last.parent.mount);
    }
    const { inode, mount } = last.place;
    if (creating && last.slash) return -E.ISDIR;
    if (exclusive) return -E.EXIST;
    if (inode.kind === KIND.dir) {
      if (access !== O.RDONLY || creating || (flags & O.TRUNC) !== 0) return -E.ISDIR;
    } else if (last.slash || (flags & O.DIRECTORY) !== 0) return -E.NOTDIR;
    const changes = access !== O.RDONLY || (flags & O.TRUNC) !== 0;
    if (inode.kind === KIND.file && changes && mount.readOnly) return -E.ROFS;
    const file = this.openInode(inode, last.place.path, flags, mount);
    if (typeof file !== 'number' && inode.kind === KIND.file && (flags & O.TRUNC) !== 0) {
      const status = inode.truncate(0);
      if (status < 0) {
        file.close();
        return status;
      }
    }
    return file;
  }

  /** An open file on an inode that lies on no mount: what the kernel makes for itself. */
  openAnonymous(inode: Inode, name: string, flags: number): OpenFile | number {
    return this.openInode(inode, name, flags, null);
  }

  /** An anonymous file of the memory pool, open for reading and writing. */
  memfd(name: string): OpenFile | number {
    if (utf8Length(name) > LIMITS.nameBytes) return -E.INVAL;
    const file = anonymousFile(this.pool);
    if (typeof file === 'number') return file;
    const opened = this.openInode(file, `memfd:${name}`, O.RDWR, null);
    if (typeof opened === 'number') file.reclaim();
    return opened;
  }

  /** Both ends of a pipe over `capacity` bytes of arena at `ringAt`; `onClosed` gives the ring back. */
  pipe(ringAt: number, capacity: number, onClosed: () => void): readonly [read: OpenFile, write: OpenFile] | number {
    if (this.filesOpen + 2 > LIMITS.filesMax) return -E.NFILE;
    const pipe = new Pipe(ringAt, capacity, onClosed);
    return [
      this.opened(pipe, pipe.readEnd, 'pipe:', O.RDONLY, null),
      this.opened(pipe, pipe.writeEnd, 'pipe:', O.WRONLY, null),
    ];
  }

  private openInode(inode: Inode, path: string, flags: number, mount: Mount | null): OpenFile | number {
    if (this.filesOpen >= LIMITS.filesMax) return -E.NFILE;
    const handle = inode.open(flags);
    return typeof handle === 'number' ? handle : this.opened(inode, handle, path, flags, mount);
  }

  private opened(inode: Inode, handle: Handle, path: string, flags: number, mount: Mount | null): OpenFile {
    this.filesOpen++;
    if (mount !== null) mount.opens++;
    return new OpenFile(inode, handle, path, flags, this.arena, mount?.device ?? NO_DEVICE, () => {
      this.filesOpen--;
      if (mount !== null) mount.opens--;
    });
  }

  // ── Names ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  stat(cwd: string, path: string): StatValue | number {
    const place = this.resolve(cwd, path);
    return typeof place === 'number' ? place : statOf(place.inode, place.mount.device);
  }

  statfs(cwd: string, path: string): FsStatValue | number {
    const place = this.resolve(cwd, path);
    if (typeof place === 'number') return place;
    const { fs, source, target, readOnly } = place.mount;
    return { type: fs.type, source, target, ...fs.usage(), readOnly: readOnly ? 1 : 0 };
  }

  /** The canonical path of a directory, to be the working directory. */
  chdir(cwd: string, path: string): string | number {
    const place = this.resolve(cwd, path);
    if (typeof place === 'number') return place;
    return place.inode.kind === KIND.dir ? place.path : -E.NOTDIR;
  }

  mkdir(cwd: string, path: string, mode: number): number {
    const last = this.walk(cwd, path, false);
    if (typeof last === 'number') return last;
    if (last.place !== null) return -E.EXIST;
    return last.parent.mount.readOnly ? -E.ROFS : last.parent.inode.mkdir(last.name, mode & 0o777);
  }

  /** A symbolic link at `path` to `target`, which need not exist. */
  symlink(cwd: string, target: string, path: string): number {
    if (target === '') return -E.NOENT;
    if (utf8Length(target) >= LIMITS.pathBytes) return -E.NAMETOOLONG;
    const last = this.walk(cwd, path, false);
    if (typeof last === 'number') return last;
    if (last.place !== null) return -E.EXIST;
    if (last.slash) return -E.NOENT;
    return last.parent.mount.readOnly ? -E.ROFS : last.parent.inode.symlink(last.name, target);
  }

  rmdir(cwd: string, path: string): number {
    const last = this.walk(cwd, path, false);
    if (typeof last === 'number') return last;
    if (last.name === '') return -E.BUSY;
    if (last.name === '.') return -E.INVAL;
    if (last.name === '..') return -E.NOTEMPTY;
    if (last.parent.mount.readOnly) return -E.ROFS;
    if (last.place === null) return -E.NOENT;
    if (last.place.inode.kind !== KIND.dir) return -E.NOTDIR;
    return this.table.has(last.place.path) ? -E.BUSY : last.parent.inode.rmdir(last.name);
  }

  unlink(cwd: string, path: string): number {
    const last = this.walk(cwd, path, false);
    if (typeof last === 'number') return last;
    if (!isName(last.name)) return -E.ISDIR;
    if (last.parent.mount.readOnly) return -E.ROFS;
    if (last.place === null) return -E.NOENT;
    if (last.place.inode.kind === KIND.dir) return -E.ISDIR;
    return last.slash ? -E.NOTDIR : last.parent.inode.unlink(last.name);
  }

  rename(cwd: string, from: string, to: string): number {
    const a = this.walk(cwd, from, false);
    if (typeof a === 'number') return a;
    const b = this.walk(cwd, to, false);
    if (typeof b === 'number') return b;
    if (a.parent.mount !== b.parent.mount) return -E.XDEV;
    if (!isName(a.name) || !isName(b.name)) return -E.BUSY;
    if (a.parent.mount.readOnly) return -E.ROFS;
    if (a.place === null) return -E.NOENT;
    const directory = a.place.inode.kind === KIND.dir;
    if (!directory && (a.slash || b.slash)) return -E.NOTDIR;
    const target = join(b.parent.path, b.name);
    if (target === a.place.path) return this.table.has(target) ? -E.BUSY : 0;
    if (within(target, a.place.path)) return -E.INVAL;
    if (within(a.place.path, target)) return -E.NOTEMPTY;
    if (b.place !== null) {
      const onto = b.place.inode.kind === KIND.dir;
      if (directory && !onto) return -E.NOTDIR;
      if (!directory && onto) return -E.ISDIR;
    }
    if (this.table.has(target) || this.table.has(a.place.path) || this.mountedBelow(a.place.path)) return -E.BUSY;
    return a.parent.inode.rename(a.name, b.parent.inode, b.name);
  }
}

function isName(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..';
}

/** The components of a path, last one first: a stack to pop from. */
function namesReversed(path: string): string[] {
  return path
    .split('/')
    .filter(name => name !== '')
    .reverse();
}
