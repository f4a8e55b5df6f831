// The open file description: what a descriptor points at. It holds the position and the access mode, is shared by dup and by children,
// and ends when its last holder closes it. All data moves between storage and arena offsets. After POSIX.1 "open file description".

import { E, KIND, O, SEEK, utf8Write } from '../kernel/abi/index.ts';
import type { ArenaView, RecordValue, Refusal, Stat } from '../kernel/abi/index.ts';
import type { Handle, Inode, Listing } from './inode.ts';
import { clearSetIds, ROOT, type Credentials } from './permission.ts';

export type StatValue = RecordValue<typeof Stat.fields>;

/** The last position that a number holds exactly: files of the host may be larger than 4 GiB. */
export const POSITION_MAX = Number.MAX_SAFE_INTEGER;
/** The unit of Stat.blocks. */
const STAT_BLOCK_BYTES = 512;

export function statOf(inode: Inode, device: number): StatValue {
  return {
    kind: inode.kind,
    mode: inode.mode,
    size: inode.size(),
    inode: inode.number,
    device,
    links: inode.links,
    uid: inode.uid,
    gid: inode.gid,
    modifiedNs: inode.modifiedNs,
    accessedNs: inode.accessedNs,
    changedNs: inode.changedNs,
    blocks: Math.ceil(inode.storageBytes() / STAT_BLOCK_BYTES),
    deviceNumber: inode.deviceNumber(),
  };
}

/** What the VFS knows of an open that the description does not: where it lies, and what happens at its end. */
export interface Opening {
  readonly device: number;
  readonly readOnly: boolean; // its mount
  readonly disk: string; // '' where it lies on none
  readonly onClosed: () => void;
}

export class OpenFile {
  readonly inode: Inode;
  /** What it was opened as; for messages. */
  readonly path: string;
  readonly flags: number;
  readonly opening: Opening;
  position = 0;
  private references = 1;
  private entries: Listing = [];
  private readonly handle: Handle;
  private readonly memory: Uint8Array;

  /** Made by Vfs.open and its relatives. */
  constructor(inode: Inode, handle: Handle, path: string, flags: number, arena: ArenaView, opening: Opening) {
    this.inode = inode;
    this.handle = handle;
    this.path = path;
    this.flags = flags;
    this.memory = arena.u8;
    this.opening = opening;
  }

  get readable(): boolean {
    return (this.flags & O.ACCMODE) !== O.WRONLY;
  }
  get writable(): boolean {
    return (this.flags & O.ACCMODE) !== O.RDONLY;
  }
  /** It has no positions that mean anything. */
  private get stream(): boolean {
    const { kind } = this.inode;
    return kind === KIND.fifo || (kind === KIND.char && this.inode.endPosition() <= 0);
  }

  /** Into the arena at `at`. Returns bytes read, 0 at the end, BLOCKED, or -errno. */
  read(at: number, length: number): number {
    const n = this.readAt(this.position, at, length);
    if (n > 0 && !this.stream) this.position += n;
    return n;
  }

  /** As read, from a given position of the file and without moving this one's: the block device's DMA. */
  readAt(position: number, at: number, length: number): number {
    if (!this.readable) return -E.BADF;
    if (this.inode.kind === KIND.dir) return -E.ISDIR;
    if (length === 0) return 0;
    return this.handle.read(this.memory, position, at, length);
  }

  /** From the arena at `at`. Returns bytes written (perhaps fewer), BLOCKED, or -errno. `who` writes: a program changed by others loses its rights. */
  write(at: number, length: number, who: Credentials = ROOT): number {
    if (!this.writable) return -E.BADF;
    if (this.stream) return length === 0 ? 0 : this.handle.write(this.memory, 0, at, length);
    if ((this.flags & O.APPEND) !== 0) this.position = this.inode.size();
    if (length === 0) return 0;
    if (this.position >= POSITION_MAX) return -E.FBIG;
    const n = this.handle.write(this.memory, this.position, at, Math.min(length, POSITION_MAX - this.position));
    if (n > 0) {
      this.position += n;
      clearSetIds(this.inode, who);
    }
    return n;
  }

  seek(offset: number, whence: number): number {
    if (this.stream) return Math.min(0, this.inode.endPosition()); // null, zero, random: every position is the first
    let base = 0;
    if (whence === SEEK.cur) base = this.position;
    else if (whence === SEEK.end) base = this.inode.endPosition();
    else if (whence !== SEEK.set) return -E.INVAL;
    const position = base + offset;
    if (position < 0) return -E.INVAL;
    if (position > POSITION_MAX) return -E.OVERFLOW;
    this.position = position;
    return position;
  }

  stat(): StatValue {
    return statOf(this.inode, this.opening.device);
  }

  truncate(size: number, who: Credentials = ROOT): number {
    if (!this.writable || this.inode.kind !== KIND.file || size < 0) return -E.INVAL;
    const status = this.inode.truncate(size);
    if (status === 0) clearSetIds(this.inode, who);
    return status;
  }

  /**
   * Entries from the position on, packed {u8 kind, u8 name bytes, name}…; `.` and `..` are not listed. The directory is listed
   * when the position is 0, so what changes afterwards is not seen until rewind. Returns bytes, 0 at the end, -EINVAL when the next
   * entry does not fit.
   */
  readdir(at: number, capacity: number): number {
    if (this.inode.kind !== KIND.dir) return -E.NOTDIR;
    if (this.position === 0) {
      if (this.inode.links === 0) return -E.NOENT;
      const entries = this.inode.list();
      if (typeof entries === 'number') return entries;
      this.entries = entries;
    }
    let p = at;
    for (; this.position < this.entries.length; this.position++) {
      const { name, kind } = this.entries.at(this.position)!;
      const n = p + 2 > at + capacity ? -1 : utf8Write(name, this.memory, p + 2, Math.min(255, at + capacity - p - 2));
      if (n < 0) return p > at ? p - at : -E.INVAL;
      this.memory[p] = kind;
      this.memory[p + 1] = n;
      p += 2 + n;
    }
    return p - at;
  }

  ioctl(command: number, argument: number): number {
    return this.handle.ioctl?.(command, argument) ?? -E.NOTTY;
  }

  /** Why the last read or write failed, where more is known than its errno. */
  refusal(): Refusal | null {
    return this.handle.refusal?.() ?? null;
  }

  /** One more holder: dup, or a child's descriptor. */
  retain(): this {
    this.references++;
    return this;
  }
  close(): number {
    if (--this.references === 0) {
      this.handle.release?.();
      this.opening.onClosed();
    }
    return 0;
  }
}
