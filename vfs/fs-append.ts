// appendfs: a file system that its users can only read, over another one that holds its files. Nothing in it can be written, cut, renamed or
// removed by a call, by nobody: the superuser is refused as everyone is (EPERM). What is new comes from the one Appender that is made with
// it, which the kernel keeps for its audit log. After the append-only attribute of 4.4BSD's sappnd, which root cannot clear either.

import { E, KIND, O } from '../kernel/abi/index.ts';
import type { FileSystem, FsUsage, Handle, Listing, Ownership } from './inode.ts';
import { Inode } from './inode.ts';
import { ROOT } from './permission.ts';

/** Who may look: the owner is the superuser. */
export interface AppendOwner {
  readonly gid: number;
}

const DIRECTORY_MODE = 0o750;
const FILE_MODE = 0o440;

class AppendInode extends Inode {
  readonly kind;

  constructor(
    private readonly stored: Inode,
    private readonly owner: AppendOwner,
  ) {
    super(stored.number, stored.kind === KIND.dir ? DIRECTORY_MODE : FILE_MODE);
    this.kind = stored.kind;
    this.gid = owner.gid;
    this.links = stored.links;
    this.accessedNs = stored.accessedNs;
    this.modifiedNs = stored.modifiedNs;
    this.changedNs = stored.changedNs;
  }

  override size(): number {
    return this.stored.size();
  }
  override storageBytes(): number {
    return this.stored.storageBytes();
  }
  override open(flags: number): Handle | number {
    if (this.kind === KIND.dir) return this;
    return (flags & O.ACCMODE) === O.RDONLY ? this.stored.open(O.RDONLY) : -E.PERM;
  }
  override lookup(name: string): Inode | number {
    const inode = this.stored.lookup(name);
    return typeof inode === 'number' ? inode : new AppendInode(inode, this.owner);
  }
  override list(): Listing | number {
    return this.stored.list();
  }

  override write(): number {
    return -E.PERM;
  }
  override truncate(): number {
    return -E.PERM;
  }
  override setAttributes(): number {
    return -E.PERM;
  }
  override create(): number {
    return -E.PERM;
  }
  override mkdir(): number {
    return -E.PERM;
  }
  override symlink(): number {
    return -E.PERM;
  }
  override link(): number {
    return -E.PERM;
  }
  override unlink(): number {
    return -E.PERM;
  }
  override rmdir(): number {
    return -E.PERM;
  }
  override rename(): number {
    return -E.PERM;
  }
}

const AS_ROOT: Ownership = { mode: 0o600, uid: ROOT.euid, gid: ROOT.egid };

/** A file that grows, and is read while it does. It stays open: a name is looked at once. */
export class AppendFile {
  constructor(
    private readonly inode: Inode,
    private readonly handle: Handle,
    /** Bytes that are there; what the storage holds behind them does not count, and is overwritten. */
    public bytes: number,
  ) {}

  /** Bytes that the storage holds. */
  storedBytes(): number {
    return this.inode.size();
  }

  /** All of `data` behind what is there, or -errno: then nothing is there that was not, and the same may be tried again. */
  append(data: Uint8Array): number {
    for (let done = 0; done < data.length;) {
      const n = this.handle.write(data, this.bytes + done, done, data.length - done);
      if (n <= 0) return n === 0 ? -E.IO : n;
      done += n;
    }
    this.bytes += data.length;
    return 0;
  }

  /** Bytes from `position` on, fewer at the end; or -errno. */
  read(position: number, length: number): Uint8Array | number {
    const into = new Uint8Array(Math.max(0, Math.min(length, this.bytes - position)));
    for (let done = 0; done < into.length;) {
      const n = this.handle.read(into, position + done, done, into.length - done);
      if (n <= 0) return n === 0 ? -E.IO : n;
      done += n;
    }
    return into;
  }

  /** What lies behind the first `bytes` bytes is dropped. 0 or -errno. */
  cut(bytes: number): number {
    const status = this.storedBytes() > bytes ? this.inode.truncate(bytes) : 0;
    if (status === 0) this.bytes = bytes;
    return status;
  }

  close(): void {
    this.handle.release?.();
  }
}

/** The only way to write: names are relative, without `.` and `..`. Numbers < 0 are -errno. */
export class Appender {
  constructor(private readonly root: Inode) {}

  /** Names in a directory in order; none where there is no such directory. */
  list(directory: string): readonly string[] | number {
    const inode = this.find(directory);
    if (inode === -E.NOENT) return [];
    if (typeof inode === 'number') return inode;
    const entries = inode.list();
    if (typeof entries === 'number') return entries;
    return Array.from({ length: entries.length }, (_, i) => entries.at(i)!.name).sort();
  }

  /** Opens a file, and makes it, and the directory that it lies in, where there is none. */
  open(path: string): AppendFile | number {
    const [name = '', directory = ''] = path.split('/').reverse();
    const parent = directory === '' ? this.root : this.directory(directory);
    if (typeof parent === 'number') return parent;
    const found = parent.lookup(name);
    const inode = found === -E.NOENT ? parent.create(name, AS_ROOT) : found;
    if (typeof inode === 'number') return inode;
    const handle = inode.open(O.RDWR);
    return typeof handle === 'number' ? handle : new AppendFile(inode, handle, inode.size());
  }

  private directory(name: string): Inode | number {
    const found = this.root.lookup(name);
    if (found !== -E.NOENT) return found;
    const made = this.root.mkdir(name, { ...AS_ROOT, mode: 0o700 });
    return made < 0 ? made : this.root.lookup(name);
  }

  private find(path: string): Inode | number {
    let at: Inode | number = this.root;
    for (const name of path.split('/')) if (typeof at !== 'number' && name !== '') at = at.lookup(name);
    return at;
  }
}

export class AppendFs implements FileSystem {
  readonly type = 'appendfs';
  readonly readOnly = false;
  readonly root: Inode;
  readonly appender: Appender;

  constructor(
    private readonly stored: FileSystem,
    owner: AppendOwner,
  ) {
    this.root = new AppendInode(stored.root, owner);
    this.appender = new Appender(stored.root);
  }
  usage(): FsUsage {
    return this.stored.usage();
  }
  release(): void {
    this.stored.release?.();
  }
}
