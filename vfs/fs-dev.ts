// devfs: devices as files. The kernel registers what is plugged in (console, tty, random, mem, disks…); the three that need no hardware are
// here. Terminals have no position (ESPIPE); null, zero, full and random take every one for the first, memory and disks really have them.

import { E, KIND, O } from '../kernel/abi/index.ts';
import type { CharDevice, Kind } from '../kernel/abi/index.ts';
import type { FileSystem, FsUsage, Handle } from './inode.ts';
import { CharInode, Inode, readBytes, StaticDir } from './inode.ts';

/** Swallows everything; always at the end. */
export const nullDevice: CharDevice = {
  read: () => 0,
  write: (_memory, _at, length) => length,
};

/** Endless zero bytes; swallows everything. */
export const zeroDevice: CharDevice = {
  read(memory, at, length) {
    memory.fill(0, at, at + length);
    return length;
  },
  write: (_memory, _at, length) => length,
};

/** Endless zero bytes; no room for one byte: for testing how programs take ENOSPC. */
export const fullDevice: CharDevice = {
  read: zeroDevice.read,
  write: () => -E.NOSPC,
};

/** Bytes with positions that programs can read: a disk, or the arena. */
export interface Disk {
  readonly bytes: number;
  /** Up to `length` bytes from `position` on, to `at`; how many: 0 at the end. */
  read(memory: Uint8Array, position: number, at: number, length: number): number;
}

/** A disk whose bytes lie in memory: the boot image. */
export function memoryDisk(contents: Uint8Array): Disk {
  const bytes = contents.length;
  return { bytes, read: (memory, position, at, length) => readBytes(contents, memory, position, at, length) };
}

/** A device with positions: the arena as /dev/mem, disks as block devices. It can be read only. */
class DiskInode extends Inode {
  readonly kind: Kind;
  private readonly disk: Disk;
  private readonly rdev: number;

  constructor(number: number, mode: number, kind: Kind, disk: Disk, rdev: number) {
    super(number, mode);
    this.kind = kind;
    this.disk = disk;
    this.rdev = rdev;
  }
  override deviceNumber(): number {
    return this.rdev;
  }
  override endPosition(): number {
    return this.disk.bytes;
  }
  /** As Linux: a read-only disk cannot be opened for writing, and memory is locked down. */
  override open(flags: number): Handle | number {
    if ((flags & O.ACCMODE) === O.RDONLY) return this;
    return this.kind === KIND.block ? -E.ACCES : -E.PERM;
  }
  override read(memory: Uint8Array, position: number, at: number, length: number): number {
    return this.disk.read(memory, position, at, length);
  }
  override truncate(): number {
    return -E.INVAL;
  }
}

/** Linux's numbers of the devices that it has too: major << 8 | minor. Others get minor numbers of major 10 as they come. */
const NUMBERS: Readonly<Record<string, number>> = {
  mem: 0x101,
  null: 0x103,
  zero: 0x105,
  full: 0x107,
  random: 0x108,
  urandom: 0x109,
  kmsg: 0x10b,
  tty: 0x500,
  console: 0x501,
  ram0: 0x100,
  ram1: 0x101,
};
const MISC = 0xa00;

/** What /proc/devices calls the majors. */
const CHAR_DRIVERS: Readonly<Record<number, string>> = { 1: 'mem', 5: 'tty', 10: 'misc' };
const BLOCK_DRIVERS: Readonly<Record<number, string>> = { 1: 'ramdisk' };

export class DevFs implements FileSystem {
  readonly type = 'devfs';
  readonly readOnly = true; // its names; the devices decide for themselves
  readonly root = new StaticDir(1, 0o755);
  private lastNumber = 1;

  constructor() {
    this.register('null', nullDevice);
    this.register('zero', zeroDevice);
    this.register('full', fullDevice);
  }
  register(name: string, device: CharDevice, mode = 0o666): void {
    const number = ++this.lastNumber;
    this.root.children.set(name, new CharInode(number, mode, device, NUMBERS[name] ?? MISC + number));
  }
  /** The machine's memory: the superuser may look at it. */
  registerMemory(contents: Uint8Array): void {
    const inode = new DiskInode(++this.lastNumber, 0o600, KIND.char, memoryDisk(contents), NUMBERS['mem']!);
    this.root.children.set('mem', inode);
  }
  /** A disk that programs cannot write. */
  registerDisk(name: string, disk: Disk): void {
    const inode = new DiskInode(++this.lastNumber, 0o600, KIND.block, disk, NUMBERS[name]!);
    this.root.children.set(name, inode);
  }

  /** /proc/devices: the drivers there are, by major number. */
  driversText(): string {
    const list = (kind: Kind, names: Readonly<Record<number, string>>): string => {
      const devices = [...this.root.children.values()].filter(inode => inode.kind === kind);
      const majors = new Set(devices.map(inode => inode.deviceNumber() >> 8));
      return [...majors]
        .sort((a, b) => a - b)
        .map(major => `${String(major).padStart(3)} ${names[major]}\n`)
        .join('');
    };
    return `Character devices:\n${list(KIND.char, CHAR_DRIVERS)}\nBlock devices:\n${list(KIND.block, BLOCK_DRIVERS)}`;
  }
  /** /proc/partitions: the disks, in units of 1,024 bytes. */
  disksText(): string {
    const rows = [...this.root.children]
      .filter(([, inode]) => inode.kind === KIND.block)
      .map(([name, inode]) => {
        const [major, minor] = [inode.deviceNumber() >> 8, inode.deviceNumber() & 255];
        const blocks = Math.ceil(inode.endPosition() / 1024);
        return `${String(major).padStart(4)} ${String(minor).padStart(8)} ${String(blocks).padStart(10)} ${name}\n`;
      });
    return `major minor  #blocks  name\n\n${rows.join('')}`;
  }

  usage(): FsUsage {
    return { totalBytes: 0, usedBytes: 0, files: this.root.children.size };
  }
}
