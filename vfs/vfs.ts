// The virtual file system: the mount table, the path walk, and the calls that take names. Every refusal is the errno that Linux gives in
// the same situation, in the order in which Linux looks (tests/vfs.test.ts holds the two side by side). A directory that is in use is known
// by its place in the tree and not by its path, so it may be renamed, or a directory above it. After Linux's fs/namei.c.

import { ACCESS, E, KIND, LIMITS, O, utf8Length, UTIME } from '../kernel/abi/index.ts';
import type { ArenaView, FsStat, RecordValue, Utimes } from '../kernel/abi/index.ts';
import { OpenFile, statOf } from './file.ts';
import type { StatValue } from './file.ts';
import { anonymousFile, TmpFs, TmpPool } from './fs-tmp.ts';
import type { Attributes, FileSystem, Handle, Inode, Ownership } from './inode.ts';
import {
  clearSetIds,
  heldBySticky,
  inGroup,
  keepsGroupBit,
  MAY,
  MODE,
  owns,
  permits,
  ROOT,
  runsAsGroup,
  strangerIn,
  withoutSetIds,
} from './permission.ts';
import type { Credentials } from './permission.ts';
import { Pipe } from './pipe.ts';

export type FsStatValue = RecordValue<typeof FsStat.fields>;

/** Where a path led: an inode, and the way back up. A directory in use has one Place, which follows it when it is renamed. */
export interface Place {
  readonly mount: Mount;
  readonly inode: Inode;
  /** The directory it is in; null at the root of a file system. */
  parent: Place | null;
  name: string; // in it
}

export class Mount {
  /** Open files on it: it cannot be unmounted while there are any. */
  opens = 0;
  readonly root: Place;
  /** The Place of each directory that was walked through. */
  readonly places = new WeakMap<Inode, Place>();

  constructor(
    readonly fs: FileSystem,
    readonly source: string,
    readonly readOnly: boolean,
    readonly device: number,
    /** The directory it lies on; null for the first. */
    readonly covered: Place | null,
    /** What it lies on; '' for what is not stored. */
    readonly disk: string,
  ) {
    this.root = { mount: this, inode: fs.root, parent: null, name: '' };
  }
  /** Path of the directory it is mounted on, as it is called now. */
  get target(): string {
    return pathOf(this.root);
  }
}

/** Who names a file, and from where. A process is one. */
export interface View {
  readonly cwd: Place;
  readonly credentials: Credentials;
  readonly umask: number;
}
/** The kernel may name files itself, with every right, from the directory of that path on. */
export type From = View | string;

/** A path up to its last name, which is not looked at yet. */
interface Last {
  readonly parent: Place; // a directory
  readonly name: string; // '' when the path is the root
  readonly slash: boolean; // the path ended in '/': only a directory will do
  readonly links: number; // symbolic links followed on the way
  readonly view: View;
}

/** Device number of what lies on no mount: pipes and anonymous files. */
const NO_DEVICE = 0;

/** The absolute path of a place, without `.`, `..` and links. */
export function pathOf(place: Place): string {
  const names: string[] = [];
  for (let at = place; ;) {
    if (at.parent !== null) {
      names.push(at.name);
      at = at.parent;
    } else if (at.mount.covered !== null) at = at.mount.covered;
    else return `/${names.reverse().join('/')}`;
  }
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

/** Links that lie in wait for others: /proc/sys/fs/protected_hardlinks and protected_symlinks, both on as in Debian. */
export interface LinkProtection {
  readonly hard: boolean; // only what one owns, or may read and write, gets another name
  readonly symbolic: boolean; // in a sticky directory that all may write, others' links are not followed
}

export class Vfs {
  readonly arena: ArenaView;
  /** The storage of every tmpfs and memfd. */
  readonly pool: TmpPool;
  readonly protection: LinkProtection;
  /** By the directory covered (keyOf), in the order of mounting; the root's is the first. */
  private readonly table = new Map<number, Mount>();
  private top: Mount | null = null;
  private lastDevice = NO_DEVICE;
  private filesOpen = 0;

  constructor(arena: ArenaView, nowNs: () => number, protection: LinkProtection = { hard: true, symbolic: true }) {
    this.arena = arena;
    this.pool = new TmpPool(nowNs);
    this.protection = protection;
  }

  // ── Mounts ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A new, empty tmpfs on the machine's pool, its root open to all and sticky unless `mode` says otherwise. */
  tmpfs(mode?: number): TmpFs {
    return new TmpFs(this.pool, mode);
  }

  /** Mounts `fs` on the directory `target`. The first mount is the root's. One mount a directory: -EBUSY for a second. */
  mount(target: string, fs: FileSystem, source: string, readOnly: boolean, from: From = '/', disk = ''): number {
    let covered: Place | null = null;
    if (this.top !== null) {
      const place = this.resolve(from, target);
      if (typeof place === 'number') return place;
      if (place.inode.kind !== KIND.dir) return -E.NOTDIR;
      if (place.parent === null) return -E.BUSY;
      covered = place;
    } else if (normalize('/', target) !== '/') return -E.NOENT;
    if (this.table.size >= LIMITS.mountsMax) return -E.NOSPC;
    const mount = new Mount(fs, source, readOnly || fs.readOnly, ++this.lastDevice, covered, disk);
    this.table.set(covered === null ? NO_DEVICE : keyOf(covered), mount);
    this.top ??= mount;
    return 0;
  }

  /** Unmounts; -EBUSY while a file on it is open, something is mounted beneath, or one of `held` (working directories) is inside. */
  umount(target: string, held: readonly Place[] = [], from: From = '/'): number {
    const place = this.resolve(from, target);
    if (typeof place === 'number') return place;
    const { mount } = place;
    if (place.parent !== null) return -E.INVAL;
    if (mount.covered === null || this.usersOf(mount, held).length > 0) return -E.BUSY;
    this.table.delete(keyOf(mount.covered));
    mount.fs.release?.();
    return 0;
  }

  /** What keeps `mount` from being unmounted, in words. */
  usersOf(mount: Mount, held: readonly Place[]): string[] {
    const users: string[] = [];
    const { opens } = mount;
    if (opens > 0) users.push(`${opens} open file${opens === 1 ? '' : 's'}`);
    const inside = held.filter(cwd => cwd.mount === mount).length;
    if (inside > 0) users.push(`${inside} working director${inside === 1 ? 'y' : 'ies'}`);
    for (const other of this.table.values()) if (other.covered?.mount === mount) users.push(`${other.target} beneath`);
    return users;
  }

  /** In the order of mounting. */
  mounts(): readonly Mount[] {
    return [...this.table.values()];
  }

  /** The root of what is mounted on a directory; else the directory itself. */
  private entered(place: Place): Place {
    return this.table.get(keyOf(place))?.root ?? place;
  }

  // ── The walk ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  normalize(cwd: string, path: string): string {
    return normalize(cwd, path);
  }

  private viewOf(from: From): View | number {
    if (typeof from !== 'string') return from;
    const { top } = this;
    if (top === null) return -E.NOENT;
    const view: View = { cwd: top.root, credentials: ROOT, umask: 0 };
    if (from === '/') return view;
    const cwd = this.resolve(view, from);
    return typeof cwd === 'number' ? cwd : { ...view, cwd };
  }

  /** What `path` names: links followed, or the link itself when that is the last name and nothing asks for what it leads to. */
  resolve(from: From, path: string, follow = true): Place | number {
    let last = this.walk(from, path);
    for (;;) {
      if (typeof last === 'number') return last;
      const place = this.find(last);
      if (typeof place === 'number') return place;
      if (place.inode.kind !== KIND.link || !(follow || last.slash))
        return last.slash && place.inode.kind !== KIND.dir ? -E.NOTDIR : place;
      last = this.through(last, place.inode);
    }
  }

  private walk(from: From, path: string): Last | number {
    if (path === '') return -E.NOENT;
    if (path.includes('\0')) return -E.INVAL;
    if (tooLong(path, LIMITS.pathBytes - 1)) return -E.NAMETOOLONG;
    const view = this.viewOf(from);
    return typeof view === 'number' ? view : this.walkFrom(view, view.cwd, path, 0);
  }

  /** All but the last name of `path`, from `from` on or from the root. */
  private walkFrom(view: View, from: Place, path: string, linksBefore: number): Last | number {
    const root = this.top!.root;
    let here = path.startsWith('/') ? root : from;
    let links = linksBefore;
    const pending = namesReversed(path);
    while (pending.length > 1) {
      const next = this.step(here, pending.pop()!, view);
      if (typeof next === 'number') return next;
      if (next.inode.kind !== KIND.link) here = next;
      else {
        if (++links > LIMITS.symlinkDepth) return -E.LOOP;
        if (this.guarded(next, view)) return -E.ACCES;
        const target = next.inode.readlink();
        pending.push(...namesReversed(target));
        if (target.startsWith('/')) here = root;
      }
    }
    if (here.inode.kind !== KIND.dir) return -E.NOTDIR;
    const name = pending[0] ?? '';
    if (name !== '' && !permits(here.inode, view.credentials, MAY.exec)) return -E.ACCES;
    return { parent: here, name, slash: path.endsWith('/'), links, view };
  }

  /** The last name goes on through the link that it is. */
  private through(last: Last, link: Inode): Last | number {
    if (last.links >= LIMITS.symlinkDepth) return -E.LOOP;
    if (this.guarded({ inode: link, parent: last.parent }, last.view)) return -E.ACCES;
    const next = this.walkFrom(last.view, last.parent, link.readlink(), last.links + 1);
    return typeof next === 'number' ? next : { ...next, slash: last.slash || next.slash };
  }

  private guarded(link: Pick<Place, 'inode' | 'parent'>, { credentials }: View): boolean {
    return this.protection.symbolic && strangerIn(link.parent!.inode, link.inode, credentials);
  }

  /** What the last name stands for, a link not followed. */
  private find(last: Last): Place | number {
    return last.name === '' ? last.parent : this.step(last.parent, last.name, last.view);
  }

  /** As find, for a name that may be free: null. */
  private findOrFree(last: Last): Place | null | number {
    const place = this.find(last);
    return place === -E.NOENT ? null : place;
  }

  /** One component: `name` in the directory `here`. */
  private step(here: Place, name: string, { credentials }: View): Place | number {
    if (here.inode.kind !== KIND.dir) return -E.NOTDIR;
    if (!permits(here.inode, credentials, MAY.exec)) return -E.ACCES;
    if (name === '.') return here;
    if (name === '..') return this.above(here);
    if (tooLong(name, LIMITS.nameBytes)) return -E.NAMETOOLONG;
    const inode = here.inode.lookup(name);
    if (typeof inode === 'number') return inode;
    if (inode.kind !== KIND.dir) return { mount: here.mount, inode, parent: here, name };
    let place = here.mount.places.get(inode);
    if (place === undefined) {
      place = { mount: here.mount, inode, parent: here, name };
      here.mount.places.set(inode, place);
    }
    return this.entered(place);
  }

  private above(here: Place): Place {
    let at = here;
    while (at.parent === null && at.mount.covered !== null) at = at.mount.covered;
    return at.parent === null ? at : this.entered(at.parent);
  }

  // ── Opening ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  open(from: From, path: string, flags: number, mode: number): OpenFile | number {
    const access = flags & O.ACCMODE;
    const creating = (flags & O.CREAT) !== 0;
    if (access === O.ACCMODE || (creating && (flags & O.DIRECTORY) !== 0)) return -E.INVAL;
    const exclusive = creating && (flags & O.EXCL) !== 0;
    let last = this.walk(from, path);
    let place: Place | null | number;
    for (;;) {
      if (typeof last === 'number') return last;
      if (creating && last.slash && isName(last.name)) return -E.ISDIR;
      place = this.findOrFree(last);
      if (typeof place === 'number') return place;
      if (exclusive || place?.inode.kind !== KIND.link) break;
      if ((flags & O.NOFOLLOW) !== 0 && !last.slash) return refusedLink(last, place.inode, flags);
      last = this.through(last, place.inode);
    }
    if (place === null) return creating ? this.create(last, flags, mode) : -E.NOENT;
    if (exclusive) return -E.EXIST;
    const { view } = last;
    const refused = this.refusedToOpen(place, last, flags);
    if (refused < 0) return refused;
    const file = this.openInode(place.inode, pathOf(place), flags, place.mount);
    if (typeof file !== 'number' && place.inode.kind === KIND.file && (flags & O.TRUNC) !== 0) {
      const status = place.inode.truncate(0);
      if (status < 0) {
        file.close();
        return status;
      }
      clearSetIds(place.inode, view.credentials);
    }
    return file;
  }

  /** -errno where what is there cannot be opened like this. */
  private refusedToOpen({ inode, mount }: Place, { slash, view }: Last, flags: number): number {
    const access = flags & O.ACCMODE;
    const changes = access !== O.RDONLY || (flags & O.TRUNC) !== 0;
    if (inode.kind === KIND.dir) {
      if (changes || (flags & O.CREAT) !== 0) return -E.ISDIR;
    } else if (slash || (flags & O.DIRECTORY) !== 0) return -E.NOTDIR;
    if (inode.kind === KIND.file && changes && mount.readOnly) return -E.ROFS;
    const mask = (access === O.WRONLY ? 0 : MAY.read) | (changes ? MAY.write : 0);
    return permits(inode, view.credentials, mask) ? 0 : -E.ACCES;
  }

  private create(last: Last, flags: number, mode: number): OpenFile | number {
    const refused = refusedAsNew(last);
    if (refused < 0) return refused;
    if (this.filesOpen >= LIMITS.filesMax) return -E.NFILE;
    const { parent, name, view } = last;
    const inode = parent.inode.create(name, ownershipIn(parent.inode, view, mode & 0o7777, false));
    if (typeof inode === 'number') return inode;
    const place = { mount: parent.mount, inode, parent, name };
    return this.openInode(inode, pathOf(place), flags, parent.mount);
  }

  /** An anonymous file of the memory pool, open for reading and writing. */
  memfd(name: string, who: Credentials = ROOT): OpenFile | number {
    if (tooLong(name, LIMITS.nameBytes)) return -E.INVAL;
    const file = anonymousFile(this.pool, who);
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

  /** Opens an inode that was found already, or that no directory names (`mount` null). */
  openInode(inode: Inode, path: string, flags: number, mount: Mount | null): OpenFile | number {
    if (this.filesOpen >= LIMITS.filesMax) return -E.NFILE;
    const handle = inode.open(flags);
    return typeof handle === 'number' ? handle : this.opened(inode, handle, path, flags, mount);
  }

  private opened(inode: Inode, handle: Handle, path: string, flags: number, mount: Mount | null): OpenFile {
    this.filesOpen++;
    if (mount !== null) mount.opens++;
    return new OpenFile(inode, handle, path, flags, this.arena, {
      device: mount?.device ?? NO_DEVICE,
      readOnly: mount?.readOnly ?? false,
      disk: mount?.disk ?? '',
      onClosed: () => {
        this.filesOpen--;
        if (mount !== null) mount.opens--;
      },
    });
  }

  // ── What is known of a name ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** Of what the path leads to, or of the link itself. */
  stat(from: From, path: string, follow = true): StatValue | number {
    const place = this.resolve(from, path, follow);
    return typeof place === 'number' ? place : statOf(place.inode, place.mount.device);
  }

  statfs(from: From, path: string): FsStatValue | number {
    const place = this.resolve(from, path);
    if (typeof place === 'number') return place;
    const { fs, source, target, readOnly } = place.mount;
    return { type: fs.type, source, target, ...fs.usage(), readOnly: readOnly ? 1 : 0 };
  }

  readlink(from: From, path: string): string | number {
    const place = this.resolve(from, path, false);
    if (typeof place === 'number') return place;
    return place.inode.kind === KIND.link ? place.inode.readlink() : -E.INVAL;
  }

  /** Whether `mask` (ACCESS) may be done: 0 or -errno. */
  access(view: View, path: string, mask: number): number {
    if ((mask & ~(ACCESS.read | ACCESS.write | ACCESS.exec)) !== 0) return -E.INVAL;
    const place = this.resolve(view, path);
    if (typeof place === 'number') return place;
    const { inode, mount } = place;
    if (!permits(inode, view.credentials, mask)) return -E.ACCES;
    const stored = inode.kind === KIND.file || inode.kind === KIND.dir;
    return (mask & ACCESS.write) !== 0 && stored && mount.readOnly ? -E.ROFS : 0;
  }

  /** A directory that can be worked in. */
  chdir(from: From, path: string): Place | number {
    const view = this.viewOf(from);
    if (typeof view === 'number') return view;
    const place = this.resolve(view, path);
    if (typeof place === 'number') return place;
    if (place.inode.kind !== KIND.dir) return -E.NOTDIR;
    return permits(place.inode, view.credentials, MAY.exec) ? place : -E.ACCES;
  }

  /** The path of a working directory; -ENOENT when it has been removed. */
  getcwd(cwd: Place): string | number {
    return cwd.inode.links === 0 ? -E.NOENT : pathOf(cwd);
  }

  // ── Attributes ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** fchmod. */
  changeMode(file: OpenFile, who: Credentials, mode: number): number {
    return file.opening.readOnly ? -E.ROFS : changeMode(file.inode, who, mode);
  }

  /** fchown. */
  changeOwner(file: OpenFile, who: Credentials, uid: number, gid: number): number {
    return file.opening.readOnly ? -E.ROFS : changeOwner(file.inode, who, uid, gid);
  }

  chmod(from: From, path: string, mode: number): number {
    return this.change(from, path, true, (inode, who) => changeMode(inode, who, mode));
  }

  /** -1 leaves an id as it is. */
  chown(from: From, path: string, uid: number, gid: number, follow = true): number {
    return this.change(from, path, follow, (inode, who) => changeOwner(inode, who, uid, gid));
  }

  utimens(from: From, path: string, times: RecordValue<typeof Utimes.fields>, follow = true): number {
    return this.change(from, path, follow, (inode, who) => changeTimes(inode, who, times, this.pool.nowNs()));
  }

  truncate(from: From, path: string, size: number): number {
    const view = this.viewOf(from);
    if (typeof view === 'number') return view;
    if (size < 0) return -E.INVAL;
    const place = this.resolve(view, path);
    if (typeof place === 'number') return place;
    const { inode, mount } = place;
    if (inode.kind === KIND.dir) return -E.ISDIR;
    if (inode.kind !== KIND.file) return -E.INVAL;
    if (mount.readOnly) return -E.ROFS;
    if (!permits(inode, view.credentials, MAY.write)) return -E.ACCES;
    const status = inode.truncate(size);
    if (status === 0) clearSetIds(inode, view.credentials);
    return status;
  }

  private change(from: From, path: string, follow: boolean, act: (inode: Inode, who: Credentials) => number): number {
    const view = this.viewOf(from);
    if (typeof view === 'number') return view;
    const place = this.resolve(view, path, follow);
    if (typeof place === 'number') return place;
    return place.mount.readOnly ? -E.ROFS : act(place.inode, view.credentials);
  }

  // ── Names ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  mkdir(from: From, path: string, mode: number): number {
    const last = this.free(from, path, true);
    if (typeof last === 'number') return last;
    const { parent, name, view } = last;
    const refused = refusedAsNew(last);
    return refused < 0 ? refused : parent.inode.mkdir(name, ownershipIn(parent.inode, view, mode & 0o1777, true));
  }

  /** A symbolic link at `path` to `target`, which need not exist. */
  symlink(from: From, target: string, path: string): number {
    if (target === '') return -E.NOENT;
    if (tooLong(target, LIMITS.pathBytes - 1)) return -E.NAMETOOLONG;
    const last = this.free(from, path, false);
    if (typeof last === 'number') return last;
    const { parent, name, view } = last;
    const refused = refusedAsNew(last);
    const as = { ...ownershipIn(parent.inode, view, 0, false), mode: 0o777 };
    return refused < 0 ? refused : parent.inode.symlink(name, target, as);
  }

  /** One more name, `path`, for the file `existing`; a symbolic link is not followed but linked. */
  link(from: From, existing: string, path: string): number {
    const old = this.resolve(from, existing, false);
    if (typeof old === 'number') return old;
    const last = this.free(from, path, false);
    if (typeof last === 'number') return last;
    if (old.mount !== last.parent.mount) return -E.XDEV;
    const { inode } = old;
    const who = last.view.credentials;
    if (this.protection.hard && !owns(inode, who) && !safeToLink(inode, who)) return -E.PERM;
    const refused = refusedAsNew(last);
    if (refused < 0) return refused;
    return inode.kind === KIND.dir ? -E.PERM : last.parent.inode.link(last.name, inode);
  }

  /** A name that nothing has yet, on a file system that can be written. */
  private free(from: From, path: string, directory: boolean): Last | number {
    const last = this.walk(from, path);
    if (typeof last === 'number') return last;
    const place = this.findOrFree(last);
    if (place !== null) return typeof place === 'number' ? place : -E.EXIST;
    if (last.slash && !directory) return -E.NOENT;
    return last.parent.mount.readOnly ? -E.ROFS : last;
  }

  rmdir(from: From, path: string): number {
    const last = this.walk(from, path);
    if (typeof last === 'number') return last;
    if (last.name === '') return -E.BUSY;
    if (last.name === '.') return -E.INVAL;
    if (last.name === '..') return -E.NOTEMPTY;
    if (last.parent.mount.readOnly) return -E.ROFS;
    const place = this.find(last);
    if (typeof place === 'number') return place;
    const refused = refusedToDelete(last.parent.inode, place, last.view.credentials, true);
    if (refused < 0) return refused;
    return place.parent === null ? -E.BUSY : last.parent.inode.rmdir(last.name);
  }

  unlink(from: From, path: string): number {
    const last = this.walk(from, path);
    if (typeof last === 'number') return last;
    if (!isName(last.name)) return -E.ISDIR;
    if (last.parent.mount.readOnly) return -E.ROFS;
    const place = this.find(last);
    if (typeof place === 'number') return place;
    if (last.slash) return place.inode.kind === KIND.dir ? -E.ISDIR : -E.NOTDIR;
    const refused = refusedToDelete(last.parent.inode, place, last.view.credentials, false);
    return refused < 0 ? refused : last.parent.inode.unlink(last.name);
  }

  rename(from: From, oldPath: string, newPath: string): number {
    const a = this.walk(from, oldPath);
    if (typeof a === 'number') return a;
    const b = this.walk(from, newPath);
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
    if (isOrHolds(source, b.parent)) return -E.INVAL;
    if (old !== null && isOrHolds(old, a.parent)) return -E.NOTEMPTY;
    if (old !== null && sameInode(source, old)) return 0; // two names of one file: both stay
    const refused = this.refusedToRename(a, b, source, old);
    if (refused < 0) return refused;
    const status = a.parent.inode.rename(a.name, b.parent.inode, b.name);
    if (status === 0 && directory) {
      source.parent = b.parent;
      source.name = b.name;
    }
    return status;
  }

  /** The rights that a rename needs, and mount points in its way. */
  private refusedToRename(a: Last, b: Last, source: Place, old: Place | null): number {
    const who = a.view.credentials;
    const directory = source.inode.kind === KIND.dir;
    let refused = refusedToDelete(a.parent.inode, source, who, directory);
    if (refused < 0) return refused;
    refused = old === null ? refusedAsNew(b) : refusedToDelete(b.parent.inode, old, who, directory);
    if (refused < 0) return refused;
    // A directory that moves gets another `..`.
    if (directory && !sameInode(a.parent, b.parent) && !permits(source.inode, who, MAY.write)) return -E.ACCES;
    return source.parent === null || old?.parent === null ? -E.BUSY : 0;
  }
}

// ── Rules ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What an open that does not follow links says to one: O_CREAT looks at sticky directories first. */
function refusedLink({ parent, view }: Last, link: Inode, flags: number): number {
  if ((flags & O.CREAT) !== 0 && strangerIn(parent.inode, link, view.credentials)) return -E.ACCES;
  return (flags & O.DIRECTORY) !== 0 ? -E.NOTDIR : -E.LOOP;
}

/** -errno where `last` cannot be made: a read-only mount, a removed directory, no right; nothing lies deeper than an absolute path can say. */
function refusedAsNew({ parent, name, view }: Last): number {
  if (parent.inode.links === 0) return -E.NOENT;
  if (parent.mount.readOnly) return -E.ROFS;
  if (!permits(parent.inode, view.credentials, MAY.write | MAY.exec)) return -E.ACCES;
  return tooLong(`${pathOf(parent)}/${name}`, LIMITS.pathBytes - 1) ? -E.NAMETOOLONG : 0;
}

/** -errno where `who` cannot take `victim` out of `dir`, or it is of the wrong kind. */
function refusedToDelete(dir: Inode, { inode }: Place, who: Credentials, directory: boolean): number {
  if (!permits(dir, who, MAY.write | MAY.exec)) return -E.ACCES;
  if (heldBySticky(dir, inode, who)) return -E.PERM;
  if (directory) return inode.kind === KIND.dir ? 0 : -E.NOTDIR;
  return inode.kind === KIND.dir ? -E.ISDIR : 0;
}

/** What is made in `dir` belongs to whoever makes it; below a set-group-ID directory to its group, and directories pass the bit on. */
function ownershipIn(dir: Inode, { credentials, umask }: View, mode: number, directory: boolean): Ownership {
  const inherits = (dir.mode & MODE.setGroup) !== 0;
  const gid = inherits ? dir.gid : credentials.egid;
  let bits = mode & ~umask;
  if (directory && inherits) bits |= MODE.setGroup;
  else if (inherits && runsAsGroup(mode) && !keepsGroupBit(credentials, gid)) bits &= ~MODE.setGroup;
  return { mode: bits, uid: credentials.euid, gid };
}

/** chmod and fchmod. */
function changeMode(inode: Inode, who: Credentials, mode: number): number {
  if (!owns(inode, who)) return -E.PERM;
  const bits = mode & 0o7777;
  return inode.setAttributes({ mode: keepsGroupBit(who, inode.gid) ? bits : bits & ~MODE.setGroup });
}

/** chown and fchown: -1 leaves an id as it is. */
function changeOwner(inode: Inode, who: Credentials, uid: number, gid: number): number {
  const privileged = who.euid === 0;
  const own = who.euid === inode.uid;
  if (uid !== -1 && !privileged && !(own && uid === inode.uid)) return -E.PERM;
  if (gid !== -1 && !privileged && !(own && (gid === inode.gid || inGroup(who, gid)))) return -E.PERM;
  const change: Attributes = {};
  if (uid !== -1) change.uid = uid;
  if (gid !== -1) change.gid = gid;
  if (inode.kind !== KIND.dir) {
    const mode = withoutSetIds(inode, who);
    if (mode !== inode.mode && !owns(inode, who)) return -E.PERM;
    change.mode = mode;
  }
  return inode.setAttributes(change);
}

/** utimens: whoever may write may set both times to now; any other time is the owner's to set. */
function changeTimes(inode: Inode, who: Credentials, times: RecordValue<typeof Utimes.fields>, nowNs: number): number {
  const { accessed, modified } = times;
  if (accessed > UTIME.omit || modified > UTIME.omit) return -E.INVAL;
  if (accessed === UTIME.omit && modified === UTIME.omit) return 0;
  const now = accessed === UTIME.now && modified === UTIME.now;
  if (!owns(inode, who) && !(now && permits(inode, who, MAY.write))) return now ? -E.ACCES : -E.PERM;
  const change: Attributes = {};
  if (accessed !== UTIME.omit) change.accessedNs = accessed === UTIME.now ? nowNs : times.accessedNs;
  if (modified !== UTIME.omit) change.modifiedNs = modified === UTIME.now ? nowNs : times.modifiedNs;
  return inode.setAttributes(change);
}

/** True for a plain file that `who` may read and write: a second name gives no more than that. */
function safeToLink(inode: Inode, who: Credentials): boolean {
  if (inode.kind !== KIND.file || (inode.mode & MODE.setUser) !== 0 || runsAsGroup(inode.mode)) return false;
  return permits(inode, who, MAY.read | MAY.write);
}

// ── Places and names ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A number for an inode among all file systems. Inode numbers are below 2³², devices below 2²⁰. */
function keyOf({ mount, inode }: Place): number {
  return mount.device * 2 ** 32 + inode.number;
}
function sameInode(a: Place, b: Place): boolean {
  return a.mount === b.mount && a.inode.number === b.inode.number;
}
/** True when `inner` is `outer` or lies somewhere in it; both on one mount. */
function isOrHolds(outer: Place, inner: Place): boolean {
  if (outer.inode.kind !== KIND.dir) return false;
  for (let at: Place | null = inner; at !== null; at = at.parent) if (sameInode(outer, at)) return true;
  return false;
}

/** True when `text` takes more than `bytesMax` bytes. */
function tooLong(text: string, bytesMax: number): boolean {
  return text.length * 3 > bytesMax && utf8Length(text) > bytesMax;
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
