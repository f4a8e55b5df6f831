// devfs: character devices as files. The kernel registers what is plugged in (console, tty, random, kmsg…); the three that need no
// hardware are here.

import { E } from '../kernel/abi/index.ts';
import type { CharDevice } from '../kernel/abi/index.ts';
import type { FileSystem, FsUsage } from './inode.ts';
import { CharInode, StaticDir } from './inode.ts';

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
    this.root.children.set(name, new CharInode(++this.lastNumber, mode, device));
  }
  usage(): FsUsage {
    return { totalBytes: 0, usedBytes: 0, files: this.root.children.size };
  }
}
