// The inode: what a name stands for, and the file system it belongs to. Every file system here is a tree of these two things; the VFS
// walks the tree, checks what Linux would check, and calls the operation. Operations return a count or a value, or minus an errno; they
// move data between storage and the arena (`memory` at `at`) and never throw. After the inode operations of 4.4BSD and Linux.

import { E, KIND } from '../kernel/abi/index.ts';
import type { CharDevice, Kind, Refusal } from '../kernel/abi/index.ts';

/** What chmod, chown and utimens change; only what is given. */
export interface Attributes {
  mode?: number;
  uid?: number;
  gid?: number;
  accessedNs?: number;
  modifiedNs?: number;
}

/** Owner and mode of something new. */
export interface Ownership {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

export interface DirEntry {
  readonly name: string;
  readonly kind: Kind;
}

/** What a directory lists, by position: an array, or what makes its entries as they are asked for. It stays as it is. */
export interface Listing {
  readonly length: number;
  at(position: number): DirEntry | undefined;
}

/** One open of an inode. Most inodes are their own handle; those with a state per open (snapshots, pipe ends) make one. */
export interface Handle {
  /** Up to `length` bytes from `position` on; 0 at the end. Streams ignore `position` and may answer BLOCKED. */
  read(memory: Uint8Array, position: number, at: number, length: number): number;
  /** Returns bytes taken, perhaps fewer than `length`. */
  write(memory: Uint8Array, position: number, at: number, length: number): number;
  ioctl?(command: number, argument: number): number;
  /** Why the last read or write failed, where it has more to say than its errno. */
  refusal?(): Refusal | null;
  /** The last descriptor is closed. */
  release?(): void;
}

/** Defaults are those of a read-only file system: override what the file system can do. The VFS calls directory operations on directories only, with checked names. */
export abstract class Inode implements Handle {
  abstract readonly kind: Kind;
  readonly number: number;
  mode: number; // the twelve permission bits
  uid = 0;
  gid = 0;
  links = 1; // 0: removed, and still open or a working directory
  accessedNs = 0; // virtual time, as the next two
  modifiedNs = 0; // of data or entries
  changedNs = 0; // of the inode itself

  constructor(number: number, mode: number) {
    this.number = number;
    this.mode = mode;
  }

  /** Bytes; 0 where the length is not known before reading (procfs, devices). */
  size(): number {
    return 0;
  }
  /** Bytes of storage it takes. */
  storageBytes(): number {
    return this.kind === KIND.file ? this.size() : 0;
  }
  /** Devices: major << 8 | minor. */
  deviceNumber(): number {
    return 0;
  }
  /** Where SEEK_END leads. Character devices: 0 where every position is the first; -ESPIPE where there is none, as in pipes. */
  endPosition(): number {
    return this.kind === KIND.fifo ? -E.SPIPE : this.size();
  }
  open(_flags: number): Handle | number {
    return this;
  }
  read(_memory: Uint8Array, _position: number, _at: number, _length: number): number {
    return -E.INVAL;
  }
  write(_memory: Uint8Array, _position: number, _at: number, _length: number): number {
    return -E.ROFS;
  }
  truncate(_size: number): number {
    return -E.ROFS;
  }
  /** The caller has been found to be allowed to. -EPERM where the file system has no place for it. */
  setAttributes(_change: Attributes): number {
    return -E.PERM;
  }

  // Directories
  lookup(_name: string): Inode | number {
    return -E.NOENT;
  }
  list(): Listing | number {
    return [];
  }
  create(_name: string, _as: Ownership): Inode | number {
    return -E.ROFS;
  }
  mkdir(_name: string, _as: Ownership): number {
    return -E.ROFS;
  }
  symlink(_name: string, _target: string, _as: Ownership): number {
    return -E.PERM;
  }
  /** One more name for `inode`, a file of the same file system and no directory. */
  link(_name: string, _inode: Inode): number {
    return -E.PERM;
  }
  unlink(_name: string): number {
    return -E.ROFS;
  }
  rmdir(_name: string): number {
    return -E.ROFS;
  }
  /** Moves `name` to `toName` in `to` (same file system), replacing a file or an empty directory there; kinds are already checked. */
  rename(_name: string, _to: Inode, _toName: string): number {
    return -E.ROFS;
  }

  // Symbolic links
  readlink(): string {
    return '';
  }
}

export interface FsUsage {
  readonly totalBytes: number;
  readonly usedBytes: number;
  readonly files: number;
}

export interface FileSystem {
  readonly type: string; // as `mount -t` and `df -T` name it
  readonly root: Inode;
  /** True when nothing in it can ever be written; devices in it still can. */
  readonly readOnly: boolean;
  usage(): FsUsage;
  /** It has been unmounted. */
  release?(): void;
}

/** A directory filled by its file system and not by calls. */
export class StaticDir extends Inode {
  readonly kind = KIND.dir;
  readonly children = new Map<string, Inode>();

  override lookup(name: string): Inode | number {
    return this.children.get(name) ?? -E.NOENT;
  }
  override list(): readonly DirEntry[] {
    return Array.from(this.children, ([name, inode]) => ({ name, kind: inode.kind }));
  }
}

/** A character device under a name. */
export class CharInode extends Inode {
  readonly kind = KIND.char;
  readonly device: CharDevice;
  private readonly rdev: number;

  constructor(number: number, mode: number, device: CharDevice, rdev: number) {
    super(number, mode);
    this.device = device;
    this.rdev = rdev;
  }
  override open(): Handle {
    const stream = this.device.open?.();
    return stream === undefined ? this : new CharInode(this.number, this.mode, stream, this.rdev);
  }
  override deviceNumber(): number {
    return this.rdev;
  }
  override endPosition(): number {
    return this.device.ioctl === undefined && this.device.open === undefined ? 0 : -E.SPIPE;
  }
  override read(memory: Uint8Array, _position: number, at: number, length: number): number {
    return this.device.read(memory, at, length);
  }
  override write(memory: Uint8Array, _position: number, at: number, length: number): number {
    return this.device.write(memory, at, length);
  }
  override truncate(): number {
    return -E.INVAL;
  }
  ioctl(command: number, argument: number): number {
    return this.device.ioctl?.(command, argument) ?? -E.NOTTY;
  }
}

/** Copies the part of `bytes` that starts at `position` into memory; the read of everything that is one piece of bytes. */
export function readBytes(bytes: Uint8Array, memory: Uint8Array, position: number, at: number, length: number): number {
  const n = Math.min(length, bytes.length - position);
  if (n <= 0) return 0;
  memory.set(bytes.subarray(position, position + n), at);
  return n;
}
