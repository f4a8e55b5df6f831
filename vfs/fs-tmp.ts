// tmpfs: files in memory storage, a device beside the arena as a disk is. Every tmpfs and every memfd draws on one pool of 4 KiB pages and
// of inodes (LIMITS.tmpfsBytes, tmpfsInodes), so the machine's limit holds however many are mounted. Files are sparse: a page exists once it has been
// written. A removed file lives on until its last descriptor closes. After Linux's tmpfs.

import { E, KIND, LIMITS, utf8Length } from '../kernel/abi/index.ts';
import type { DirEntry, FileSystem, FsUsage, Handle } from './inode.ts';
import { Inode } from './inode.ts';

const PAGE_BYTES = 4096;

/** The storage that all tmpfs and memfds share. */
export class TmpPool {
  readonly bytesMax: number;
  readonly inodesMax: number;
  readonly nowNs: () => number;
  bytesUsed = 0;
  inodesUsed = 0;
  private lastNumber = 0;

  constructor(nowNs: () => number, bytesMax: number = LIMITS.tmpfsBytes, inodesMax: number = LIMITS.tmpfsInodes) {
    this.nowNs = nowNs;
    this.bytesMax = bytesMax;
    this.inodesMax = inodesMax;
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

export class TmpFile extends Inode {
  readonly kind = KIND.file;
  private readonly pool: TmpPool;
  private readonly pages = new Map<number, Uint8Array>();
  private bytes = 0;
  private opens = 0;

  constructor(pool: TmpPool, number: number, mode: number) {
    super(number, mode);
    this.pool = pool;
    this.modifiedNs = pool.nowNs();
  }

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
  /** Gives everything back once no name and no descriptor is left. */
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
    this.modifiedNs = this.pool.nowNs();
    return done;
  }

  override truncate(size: number): number {
    if (size < this.bytes) {
      this.dropPages(Math.ceil(size / PAGE_BYTES));
      this.pages.get(Math.floor(size / PAGE_BYTES))?.fill(0, size % PAGE_BYTES);
    }
    this.bytes = size;
    this.modifiedNs = this.pool.nowNs();
    return 0;
  }

  pageBytes(): number {
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

class TmpLink extends Inode {
  readonly kind = KIND.link;
  private readonly pool: TmpPool;
  private readonly target: string;

  constructor(pool: TmpPool, number: number, target: string) {
    super(number, 0o777);
    this.pool = pool;
    this.target = target;
    this.modifiedNs = pool.nowNs();
  }
  override size(): number {
    return utf8Length(this.target);
  }
  override readlink(): string {
    return this.target;
  }
  reclaim(): void {
    this.pool.inodesUsed--;
  }
}

type TmpInode = TmpFile | TmpLink | TmpDir;

class TmpDir extends Inode {
  readonly kind = KIND.dir;
  private readonly pool: TmpPool;
  private readonly children = new Map<string, TmpInode>();

  constructor(pool: TmpPool, number: number, mode: number) {
    super(number, mode);
    this.pool = pool;
    this.links = 2; // its name and its own `.`; each subdirectory's `..` adds one
    this.modifiedNs = pool.nowNs();
  }

  override lookup(name: string): Inode | number {
    return this.children.get(name) ?? -E.NOENT;
  }
  override list(): readonly DirEntry[] {
    return Array.from(this.children, ([name, inode]) => ({ name, kind: inode.kind }));
  }
  override create(name: string, mode: number): Inode | number {
    const number = this.pool.inode();
    if (number === 0) return -E.NOSPC;
    const file = new TmpFile(this.pool, number, mode);
    this.enter(name, file);
    return file;
  }
  override mkdir(name: string, mode: number): number {
    const number = this.pool.inode();
    if (number === 0) return -E.NOSPC;
    this.enter(name, new TmpDir(this.pool, number, mode));
    return 0;
  }
  override symlink(name: string, target: string): number {
    const number = this.pool.inode();
    if (number === 0) return -E.NOSPC;
    this.enter(name, new TmpLink(this.pool, number, target));
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
    return 0;
  }

  private enter(name: string, child: TmpInode): void {
    this.children.set(name, child);
    if (child instanceof TmpDir) this.links++;
    this.modifiedNs = this.pool.nowNs();
  }
  private leave(name: string, child: TmpInode): void {
    this.children.delete(name);
    if (child instanceof TmpDir) this.links--;
    this.modifiedNs = this.pool.nowNs();
  }
  private remove(name: string): void {
    const child = this.children.get(name)!;
    this.leave(name, child);
    child.links = 0;
    child.reclaim();
  }
  /** Storage and inodes of everything beneath. */
  usage(): { bytes: number; files: number } {
    const sum = { bytes: 0, files: 0 };
    for (const child of this.children.values()) {
      const below = child instanceof TmpDir ? child.usage() : { bytes: 0, files: 0 };
      sum.bytes += child instanceof TmpFile ? child.pageBytes() : below.bytes;
      sum.files += 1 + below.files;
    }
    return sum;
  }
  /** Gives back the whole tree beneath; a directory keeps nothing for those who still hold it open. */
  reclaim(): void {
    for (const name of this.children.keys()) this.remove(name);
    this.pool.inodesUsed--;
  }
}

export class TmpFs implements FileSystem {
  readonly type = 'tmpfs';
  readonly readOnly = false;
  readonly root: Inode;
  private readonly pool: TmpPool;
  private readonly top: TmpDir;

  constructor(pool: TmpPool) {
    this.pool = pool;
    // The root exists even when the pool's inodes are used up: a mount point must have a directory.
    pool.inodesUsed++;
    this.top = new TmpDir(pool, 1, 0o755);
    this.root = this.top;
  }
  /** What lies here, and as total that plus what the pool has left for everyone. */
  usage(): FsUsage {
    const { bytes, files } = this.top.usage();
    return { totalBytes: bytes + this.pool.bytesMax - this.pool.bytesUsed, usedBytes: bytes, files };
  }
  release(): void {
    this.top.reclaim();
  }
}

/** An anonymous file of the pool (memfd): no name, gone with its last descriptor. -ENOSPC when no inode is left. */
export function anonymousFile(pool: TmpPool): TmpFile | number {
  const number = pool.inode();
  if (number === 0) return -E.NOSPC;
  const file = new TmpFile(pool, number, 0o600);
  file.links = 0;
  return file;
}
