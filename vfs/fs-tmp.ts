// tmpfs: files in memory storage, a device beside the arena as a disk is. Every tmpfs and every memfd draws on one pool of 4 KiB pages and
// of inodes (LIMITS.tmpfsBytes, tmpfsInodes), so the machine's limit holds however many are mounted. Files are sparse: a page exists once it has been
// written. A removed file lives on until its last descriptor closes. After Linux's tmpfs.

import { E, KIND, LIMITS, utf8Length } from '../kernel/abi/index.ts';
import type { Attributes, DirEntry, FileSystem, FsUsage, Handle, Ownership } from './inode.ts';
import { Inode } from './inode.ts';
import type { Credentials } from './permission.ts';

const PAGE_BYTES = 4096;

/** The storage that all tmpfs and memfds share. */
export class TmpPool {
  readonly bytesMax: number;
  readonly inodesMax: number;
  readonly nowNs: () => number;
  bytesUsed = 0;
  inodesUsed = 0;
  /** False while the host reads: what it looks at shows nothing of that. */
  notesAccess = true;
  private lastNumber = 1; // every root's

  constructor(nowNs: () => number, bytesMax: number = LIMITS.tmpfsBytes, inodesMax: number = LIMITS.tmpfsInodes) {
    this.nowNs = nowNs;
    this.bytesMax = bytesMax;
    this.inodesMax = inodesMax;
  }

  /** True when there is no room for another page or inode. */
  get full(): boolean {
    return this.bytesUsed + PAGE_BYTES > this.bytesMax || this.inodesUsed >= this.inodesMax;
  }
  /** A page of zeros, or null when the pool is used up. */
  page(): Uint8Array | null {
    if (this.bytesUsed + PAGE_BYTES > this.bytesMax) return null;
    this.bytesUsed += PAGE_BYTES;
    return new Uint8Array(PAGE_BYTES);
  }
  /** A number for a new inode, or 0 when the pool is used up. */
  inode(): number {
    if (this.inodesUsed >= this.inodesMax) return 0;
    this.inodesUsed++;
    return ++this.lastNumber;
  }
}

/** What every inode of a tmpfs has: an owner, and times of the pool's clock. */
abstract class TmpInode extends Inode {
  protected readonly pool: TmpPool;

  constructor(pool: TmpPool, number: number, { mode, uid, gid }: Ownership) {
    super(number, mode);
    this.pool = pool;
    this.uid = uid;
    this.gid = gid;
    this.touch();
    this.accessedNs = this.modifiedNs;
  }
  override setAttributes(change: Attributes): number {
    Object.assign(this, change);
    this.changedNs = this.pool.nowNs();
    return 0;
  }
  /** Its data or entries have changed. */
  protected touch(): void {
    this.modifiedNs = this.changedNs = this.pool.nowNs();
  }
  /** A name has come or gone, or another has taken its place. */
  relinked(by: number): void {
    this.links += by;
    this.changedNs = this.pool.nowNs();
  }
  /** It has been read. As with Linux's relatime, that is noted once after each change. */
  protected accessed(): void {
    if (!this.pool.notesAccess) return;
    if (this.accessedNs <= this.modifiedNs || this.accessedNs <= this.changedNs) this.accessedNs = this.pool.nowNs();
  }
  /** Gives everything back once no name and no descriptor is left. */
  abstract reclaim(): void;
}

export class TmpFile extends TmpInode {
  readonly kind = KIND.file;
  private readonly pages = new Map<number, Uint8Array>();
  private bytes = 0;
  private opens = 0;

  override size(): number {
    return this.bytes;
  }
  override open(): Handle {
    this.opens++;
    return this;
  }
  release(): void {
    this.opens--;
    this.reclaim();
  }
  reclaim(): void {
    if (this.links > 0 || this.opens > 0) return;
    this.dropPages(0);
    this.pool.inodesUsed--;
  }

  override read(memory: Uint8Array, position: number, at: number, length: number): number {
    const n = Math.min(length, this.bytes - position);
    for (let done = 0; done < n;) {
      const inPage = (position + done) % PAGE_BYTES;
      const step = Math.min(n - done, PAGE_BYTES - inPage);
      const page = this.pages.get((position + done - inPage) / PAGE_BYTES);
      if (page === undefined) memory.fill(0, at + done, at + done + step);
      else memory.set(page.subarray(inPage, inPage + step), at + done);
      done += step;
    }
    this.accessed();
    return Math.max(0, n);
  }

  override write(memory: Uint8Array, position: number, at: number, length: number): number {
    let done = 0;
    while (done < length) {
      const inPage = (position + done) % PAGE_BYTES;
      const step = Math.min(length - done, PAGE_BYTES - inPage);
      const index = (position + done - inPage) / PAGE_BYTES;
      let page = this.pages.get(index);
      if (page === undefined) {
        const fresh = this.pool.page();
        if (fresh === null) break;
        this.pages.set(index, (page = fresh));
      }
      page.set(memory.subarray(at + done, at + done + step), inPage);
      done += step;
    }
    if (done === 0) return -E.NOSPC;
    this.bytes = Math.max(this.bytes, position + done);
    this.touch();
    return done;
  }

  override truncate(size: number): number {
    if (size < this.bytes) {
      this.dropPages(Math.ceil(size / PAGE_BYTES));
      this.pages.get(Math.floor(size / PAGE_BYTES))?.fill(0, size % PAGE_BYTES);
    }
    this.bytes = size;
    this.touch();
    return 0;
  }

  override storageBytes(): number {
    return this.pages.size * PAGE_BYTES;
  }
  private dropPages(from: number): void {
    for (const index of this.pages.keys()) {
      if (index < from) continue;
      this.pages.delete(index);
      this.pool.bytesUsed -= PAGE_BYTES;
    }
  }
}

class TmpLink extends TmpInode {
  readonly kind = KIND.link;
  private readonly target: string;

  constructor(pool: TmpPool, number: number, target: string, as: Ownership) {
    super(pool, number, as);
    this.target = target;
  }
  override size(): number {
    return utf8Length(this.target);
  }
  override readlink(): string {
    this.accessed();
    return this.target;
  }
  reclaim(): void {
    if (this.links === 0) this.pool.inodesUsed--;
  }
}

class TmpDir extends TmpInode {
  readonly kind = KIND.dir;
  private readonly children = new Map<string, TmpInode>();

  constructor(pool: TmpPool, number: number, as: Ownership) {
    super(pool, number, as);
    this.links = 2; // its name and its own `.`; each subdirectory's `..` adds one
  }

  override lookup(name: string): Inode | number {
    return this.children.get(name) ?? -E.NOENT;
  }
  override list(): readonly DirEntry[] {
    this.accessed();
    return Array.from(this.children, ([name, inode]) => ({ name, kind: inode.kind }));
  }
  override create(name: string, as: Ownership): Inode | number {
    const number = this.pool.inode();
    return number === 0 ? -E.NOSPC : this.enter(name, new TmpFile(this.pool, number, as));
  }
  override mkdir(name: string, as: Ownership): number {
    const number = this.pool.inode();
    if (number === 0) return -E.NOSPC;
    this.enter(name, new TmpDir(this.pool, number, as));
    return 0;
  }
  override symlink(name: string, target: string, as: Ownership): number {
    const number = this.pool.inode();
    if (number === 0) return -E.NOSPC;
    this.enter(name, new TmpLink(this.pool, number, target, as));
    return 0;
  }
  override link(name: string, inode: TmpInode): number {
    this.enter(name, inode);
    inode.relinked(1);
    return 0;
  }
  override unlink(name: string): number {
    this.remove(name);
    return 0;
  }
  override rmdir(name: string): number {
    const child = this.children.get(name);
    if (child instanceof TmpDir && child.children.size > 0) return -E.NOTEMPTY;
    this.remove(name);
    return 0;
  }
  override rename(name: string, to: TmpDir, toName: string): number {
    const child = this.children.get(name)!;
    const old = to.children.get(toName);
    if (old instanceof TmpDir && old.children.size > 0) return -E.NOTEMPTY;
    if (old !== undefined) to.remove(toName);
    this.leave(name, child);
    to.enter(toName, child);
    child.relinked(0);
    return 0;
  }

  private enter<T extends TmpInode>(name: string, child: T): T {
    this.children.set(name, child);
    if (child instanceof TmpDir) this.links++;
    this.touch();
    return child;
  }
  private leave(name: string, child: TmpInode): void {
    this.children.delete(name);
    if (child instanceof TmpDir) this.links--;
    this.touch();
  }
  private remove(name: string): void {
    const child = this.children.get(name)!;
    this.leave(name, child);
    child.relinked(child instanceof TmpDir ? -child.links : -1);
    child.reclaim();
  }

  /** Everything beneath, each inode once however many names it has; without recursion, for trees may be as deep as they are large. */
  private beneath(): Set<TmpInode> {
    const found = new Set<TmpInode>();
    const pending: TmpDir[] = [this];
    for (let dir; (dir = pending.pop()) !== undefined;)
      for (const child of dir.children.values()) {
        found.add(child);
        if (child instanceof TmpDir) pending.push(child);
      }
    return found;
  }
  usage(): { bytes: number; files: number } {
    const all = this.beneath();
    let bytes = 0;
    for (const inode of all) bytes += inode.storageBytes();
    return { bytes, files: all.size };
  }
  reclaim(): void {
    this.pool.inodesUsed--;
  }
  /** The file system is gone: gives back everything beneath, and this. */
  reclaimTree(): void {
    for (const inode of this.beneath()) {
      inode.links = 0;
      inode.reclaim();
    }
    this.children.clear();
    this.reclaim();
  }
}

export class TmpFs implements FileSystem {
  readonly type = 'tmpfs';
  readonly readOnly = false;
  readonly root: Inode;
  private readonly pool: TmpPool;
  private readonly top: TmpDir;

  constructor(pool: TmpPool, mode = 0o1777) {
    this.pool = pool;
    // The root exists even when the pool's inodes are used up: a mount point must have a directory.
    pool.inodesUsed++;
    this.top = new TmpDir(pool, 1, { mode, uid: 0, gid: 0 });
    this.root = this.top;
  }
  /** What lies here, and as total that plus what the pool has left for everyone. */
  usage(): FsUsage {
    const { bytes, files } = this.top.usage();
    return { totalBytes: bytes + this.pool.bytesMax - this.pool.bytesUsed, usedBytes: bytes, files };
  }
  release(): void {
    this.top.reclaimTree();
  }
}

/** An anonymous file of the pool (memfd): no name, gone with its last descriptor. -ENOSPC when no inode is left. */
export function anonymousFile(pool: TmpPool, who: Credentials): TmpFile | number {
  const number = pool.inode();
  if (number === 0) return -E.NOSPC;
  const file = new TmpFile(pool, number, { mode: 0o600, uid: who.euid, gid: who.egid });
  file.links = 0;
  return file;
}
