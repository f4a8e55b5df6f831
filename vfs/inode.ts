// The inode: what a name stands for, and the file system it belongs to. Every file system here is a tree of these two things; the VFS
// walks the tree, checks what Linux would check, and calls the operation. Operations return a count or a value, or minus an errno; they
// move data between storage and the arena (`memory` at `at`) and never throw. After the inode operations of 4.4BSD and Linux.

import { E, KIND } from '../kernel/abi/index.ts';
import type { CharDevice, Kind } from '../kernel/abi/index.ts';

export interface DirEntry {
  readonly name: string;
  readonly kind: Kind;
}

/** One open of an inode. Most inodes are their own handle; those with a state per open (snapshots, pipe ends) make one. */
export interface Handle {
  /** Up to `length` bytes from `position` on; 0 at the end. Streams ignore `position` and may answer BLOCKED. */
  read(memory: Uint8Array, position: number, at: number, length: number): number;
  /** Returns bytes taken, perhaps fewer than `length`. */
  write(memory: Uint8Array, position: number, at: number, length: number): number;
  ioctl?(command: number, argument: number): number;
  /** The last descriptor is closed. */
  release?(): void;
}

/** Defaults are those of a read-only file system: override what the file system can do. The VFS calls directory operations on directories only, with checked names. */
export abstract class Inode implements Handle {
  abstract readonly kind: Kind;
  readonly number: number;
  /** Permission bits. Recorded and shown; the machine has one user, so nothing is refused by them. */
  mode: number;
  links = 1;
  modifiedNs = 0;

  constructor(number: number, mode: number) {
    this.number = number;
    this.mode = mode;
  }

  /** Bytes; 0 where the length is not known before reading (procfs, devices). */
  size(): number {
    return 0;
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

  // Directories
  lookup(_name: string): Inode | number {
    return -E.NOENT;
  }
  list(): readonly DirEntry[] | number {
    return [];
  }
  create(_name: string, _mode: number): Inode | number {
    return -E.ROFS;
  }
  mkdir(_name: string, _mode: number): number {
    return -E.ROFS;
  }
  symlink(_name: string, _target: string): number {
    return -E.ROFS;
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

  constructor(number: number, mode: number, device: CharDevice) {
    super(number, mode);
    this.device = device;
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
