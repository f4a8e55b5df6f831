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

/** A path up to its last name, which is not looked at yet. */
interface Last {
  readonly parent: Place; // a directory
  readonly name: string; // '' when the path is the root
  readonly slash: boolean; // the path ended in '/': only a directory will do
  readonly links: number; // symbolic links followed on the way
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
    let last = this.walk(cwd, path);
    for (;;) {
      if (typeof last === 'number') return last;
      const place = this.find(last);
      if (typeof place === 'number') return place;
      if (place.inode.kind !== KIND.link) return last.slash && place.inode.kind !== KIND.dir ? -E.NOTDIR : place;
      last = this.through(last, place.inode);
    }
  }

  private walk(cwd: string, path: string): Last | number {
    if (path === '') return -E.NOENT;
    if (path.includes('\0')) return -E.INVAL;
    if (utf8Length(path) >= LIMITS.pathBytes) return -E.NAMETOOLONG;
    const from = path.startsWith('/') || cwd === '/' ? this.rootPlace() : this.resolve('/', cwd);
    return typeof from === 'number' ? from : this.walkFrom(from, path, 0);
  }

  /** All but the last name of `path`, from `from` on or from the root. */
  private walkFrom(from: Place, path: string, linksBefore: number): Last | number {
    const root = this.rootPlace();
    if (typeof root === 'number') return root;
    let here = path.startsWith('/') ? root : from;
    let links = linksBefore;
    const pending = namesReversed(path);
    while (pending.length > 1) {
      const next = this.step(here, pending.pop()!);
      if (typeof next === 'number') return next;
      if (next.inode.kind !== KIND.link) here = next;
      else {
        if (++links > LIMITS.symlinkDepth) return -E.LOOP;
        const target = next.inode.readlink();
        pending.push(...namesReversed(target));
        if (target.startsWith('/')) here = root;
      }
    }
    if (here.inode.kind !== KIND.dir) return -E.NOTDIR;
    return { parent: here, name: pending[0] ?? '', slash: path.endsWith('/'), links };
  }

  /** The last name goes on through the link that it is. */
  private through(last: Last, link: Inode): Last | number {
    if (last.links >= LIMITS.symlinkDepth) return -E.LOOP;
    const next = this.walkFrom(last.parent, link.readlink(), last.links + 1);
    return typeof next === 'number' ? next : { ...next, slash: last.slash || next.slash };
  }

  /** What the last name stands for, a link not followed. */
  private find(last: Last): Place | number {
    return last.name === '' ? last.parent : this.step(last.parent, last.name);
  }

  /** As find, for a name that may be free: null. */
  private findOrFree(last: Last): Place | null | number {
    const place = this.find(last);
    return place === -E.NOENT ? null : place;
  }

  /** One component: `name` in the directory `here`. */
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
    let last = this.walk(cwd, path);
    let place: Place | null | number;
    for (;;) {
      if (typeof last === 'number') return last;
      if (creating && last.slash && isName(last.name)) return -E.ISDIR;
      place = this.findOrFree(last);
      if (typeof place === 'number') return place;
      if (exclusive || place?.inode.kind !== KIND.link) break;
      last = this.through(last, place.inode);
    }
    if (place === null) return creating ? this.create(last, flags, mode) : -E.NOENT;
    const { inode, mount } = place;
    if (exclusive) return -E.EXIST;
    if (inode.kind === KIND.dir) {
      if (access !== O.RDONLY || creating || (flags & O.TRUNC) !== 0) return -E.ISDIR;
    } else if (last.slash || (flags & O.DIRECTORY) !== 0) return -E.NOTDIR;
    const changes = access !== O.RDONLY || (flags & O.TRUNC) !== 0;
    if (inode.kind === KIND.file && changes && mount.readOnly) return -E.ROFS;
    const file = this.openInode(inode, place.path, flags, mount);
    if (typeof file !== 'number' && inode.kind === KIND.file && (flags & O.TRUNC) !== 0) {
      const status = inode.truncate(0);
      if (status < 0) {
        file.close();
        return status;
      }
    }
    return file;
  }

  private create(last: Last, flags: number, mode: number): OpenFile | number {
    const refused = refusedAsNew(last);
    if (refused < 0) return refused;
    if (this.filesOpen >= LIMITS.filesMax) return -E.NFILE;
    const inode = last.parent.inode.create(last.name, mode & 0o777);
    if (typeof inode === 'number') return inode;
    return this.openInode(inode, join(last.parent.path, last.name), flags, last.parent.mount);
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
    const last = this.free(cwd, path);
    return typeof last === 'number' ? last : last.parent.inode.mkdir(last.name, mode & 0o777);
  }

  /** A symbolic link at `path` to `target`, which need not exist. */
  symlink(cwd: string, target: string, path: string): number {
    if (target === '') return -E.NOENT;
    if (utf8Length(target) >= LIMITS.pathBytes) return -E.NAMETOOLONG;
    const last = this.free(cwd, path);
    if (typeof last === 'number') return last;
    return last.slash ? -E.NOENT : last.parent.inode.symlink(last.name, target);
  }

  /** A name that something new can have. */
  private free(cwd: string, path: string): Last | number {
    const last = this.walk(cwd, path);
    if (typeof last === 'number') return last;
    const place = this.findOrFree(last);
    if (place !== null) return typeof place === 'number' ? place : -E.EXIST;
    const refused = refusedAsNew(last);
    return refused < 0 ? refused : last;
  }

  rmdir(cwd: string, path: string): number {
    const last = this.walk(cwd, path);
    if (typeof last === 'number') return last;
    if (last.name === '') return -E.BUSY;
    if (last.name === '.') return -E.INVAL;
    if (last.name === '..') return -E.NOTEMPTY;
    if (last.parent.mount.readOnly) return -E.ROFS;
    const place = this.find(last);
    if (typeof place === 'number') return place;
    if (place.inode.kind !== KIND.dir) return -E.NOTDIR;
    return this.table.has(place.path) ? -E.BUSY : last.parent.inode.rmdir(last.name);
  }

  unlink(cwd: string, path: string): number {
    const last = this.walk(cwd, path);
    if (typeof last === 'number') return last;
    if (!isName(last.name)) return -E.ISDIR;
    if (last.parent.mount.readOnly) return -E.ROFS;
    const place = this.find(last);
    if (typeof place === 'number') return place;
    if (place.inode.kind === KIND.dir) return -E.ISDIR;
    return last.slash ? -E.NOTDIR : last.parent.inode.unlink(last.name);
  }

  rename(cwd: string, from: string, to: string): number {
    const a = this.walk(cwd, from);
    if (typeof a === 'number') return a;
    const b = this.walk(cwd, to);
    if (typeof b === 'number') return b;
    if (a.parent.mount !== b.parent.mount) return -E.XDEV;
    if (!isName(a.name) || !isName(b.name)) return -E.BUSY;
    if (a.parent.mount.readOnly) return -E.ROFS;
    const source = this.find(a);
    if (typeof source === 'number') return source;
    const old = this.findOrFree(b);
    if (typeof old === 'number') return old;
    const directory = source.inode.kind === KIND.dir;
    if (!directory && (a.slash || b.slash)) return -E.NOTDIR;
    const target = join(b.parent.path, b.name);
    if (utf8Length(target) >= LIMITS.pathBytes) return -E.NAMETOOLONG;
    if (target === source.path) return this.table.has(target) ? -E.BUSY : 0;
    if (within(target, source.path)) return -E.INVAL;
    if (within(source.path, target)) return -E.NOTEMPTY;
    if (old !== null && directory && old.inode.kind !== KIND.dir) return -E.NOTDIR;
    if (old !== null && !directory && old.inode.kind === KIND.dir) return -E.ISDIR;
    if (this.table.has(target) || this.table.has(source.path) || this.mountedBelow(source.path)) return -E.BUSY;
    return a.parent.inode.rename(a.name, b.parent.inode, b.name);
  }
}

/** -errno where no name can be made: nothing may lie deeper than an absolute path can say. */
function refusedAsNew(last: Last): number {
  if (last.parent.mount.readOnly) return -E.ROFS;
  return utf8Length(join(last.parent.path, last.name)) >= LIMITS.pathBytes ? -E.NAMETOOLONG : 0;
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
