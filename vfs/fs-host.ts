// A directory of the host, mounted as a file system. Names go to the HostDirectory by path; nothing is cached here, so the host's own changes
// show when the next round of the machine begins at the latest. A file that is open is the host's open file: as on Unix it stays what was
// opened, though its name be removed or given to another. A name that could mean another directory never reaches the host; that links on
// the host do not lead out of the directory is the HostDirectory's promise.

import { E, KIND, O } from '../kernel/abi/index.ts';
import type { HostDirectory, HostFile, HostStat, Kind } from '../kernel/abi/index.ts';
import type { Attributes, DirEntry, FileSystem, FsUsage, Handle, Ownership } from './inode.ts';
import { Inode } from './inode.ts';
import { ROOT } from './permission.ts';

/** Inode numbers are FNV-1a of the path: the host's own are not part of the machine. */
function numberOf(path: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < path.length; i++) h = Math.imul(h ^ path.charCodeAt(i), 0x01000193);
  return h >>> 0;
}

class HostHandle implements Handle {
  private readonly file: HostFile;

  constructor(file: HostFile) {
    this.file = file;
  }
  read(memory: Uint8Array, position: number, at: number, length: number): number {
    return this.file.read(position, memory, at, length);
  }
  write(memory: Uint8Array, position: number, at: number, length: number): number {
    return this.file.write(position, memory, at, length);
  }
  release(): void {
    this.file.close();
  }
}

class HostInode extends Inode {
  readonly kind: Kind;
  private readonly host: HostDirectory;
  private readonly path: string;

  constructor(host: HostDirectory, path: string, stat: Pick<HostStat, 'kind' | 'mode' | 'uid' | 'gid'>) {
    super(numberOf(path), stat.mode);
    this.host = host;
    this.path = path;
    this.kind = stat.kind as Kind;
    this.uid = stat.uid ?? ROOT.uid;
    this.gid = stat.gid ?? ROOT.gid;
  }

  /** The path of an entry, or -EINVAL for a name that is not one plain component. */
  private child(name: string): string | number {
    if (name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('\0')) return -E.INVAL;
    return this.path === '' ? name : `${this.path}/${name}`;
  }

  override size(): number {
    if (this.kind === KIND.dir) return 0;
    const stat = this.host.stat(this.path);
    return typeof stat === 'number' ? 0 : stat.size;
  }
  override open(flags: number): Handle | number {
    if (this.kind === KIND.dir) return this;
    const file = this.host.open(this.path, flags & O.ACCMODE);
    return typeof file === 'number' ? file : new HostHandle(file);
  }
  override truncate(size: number): number {
    return this.host.truncate(this.path, size);
  }

  /** Times are the host's: setting them does nothing. */
  override setAttributes({ mode, uid, gid }: Attributes): number {
    if (mode === undefined && uid === undefined && gid === undefined) return 0;
    if (this.host.change === undefined) return -E.PERM;
    const now = { mode: mode ?? this.mode, uid: uid ?? this.uid, gid: gid ?? this.gid };
    const status = this.host.change(this.path, now);
    if (status === 0) Object.assign(this, now);
    return status;
  }

  override lookup(name: string): Inode | number {
    const path = this.child(name);
    if (typeof path === 'number') return path;
    const stat = this.host.stat(path);
    if (typeof stat === 'number') return stat;
    return new HostInode(this.host, path, stat);
  }
  override list(): readonly DirEntry[] | number {
    return this.host.list(this.path) as readonly DirEntry[] | number;
  }
  override create(name: string, { mode, uid, gid }: Ownership): Inode | number {
    const path = this.child(name);
    if (typeof path === 'number') return path;
    const status = this.host.create(path, mode, uid, gid);
    const owner = this.host.change === undefined ? {} : { uid, gid };
    return status < 0 ? status : new HostInode(this.host, path, { kind: KIND.file, mode, ...owner });
  }
  override mkdir(name: string, { mode, uid, gid }: Ownership): number {
    const path = this.child(name);
    return typeof path === 'number' ? path : this.host.mkdir(path, mode, uid, gid);
  }
  override unlink(name: string): number {
    const path = this.child(name);
    return typeof path === 'number' ? path : this.host.remove(path);
  }
  override rmdir(name: string): number {
    const path = this.child(name);
    return typeof path === 'number' ? path : this.host.removeDirectory(path);
  }
  override rename(name: string, to: HostInode, toName: string): number {
    const from = this.child(name);
    const target = to.child(toName);
    if (typeof from === 'number') return from;
    return typeof target === 'number' ? target : this.host.rename(from, target);
  }
}

export class HostFs implements FileSystem {
  readonly type = 'hostfs';
  readonly readOnly: boolean;
  readonly root: Inode;

  constructor(host: HostDirectory) {
    this.readOnly = host.readOnly;
    this.root = new HostInode(host, '', { kind: KIND.dir, mode: 0o755 });
  }
  usage(): FsUsage {
    return { totalBytes: 0, usedBytes: 0, files: 0 };
  }
}
