// procfs: what the kernel tells about itself, as text files. The kernel registers `path → function`; opening a file calls the function
// once and keeps the text, so one reader sees one moment. Sizes are 0, as on Linux: the length is not known before reading.

import { E, KIND, utf8Encode } from '../kernel/abi/index.ts';
import type { FileSystem, FsUsage, Handle } from './inode.ts';
import { Inode, readBytes, StaticDir } from './inode.ts';

class ProcFile extends Inode {
  readonly kind = KIND.file;
  private readonly text: () => string;

  constructor(number: number, text: () => string) {
    super(number, 0o444);
    this.text = text;
  }
  override open(): Handle {
    const snapshot = utf8Encode(this.text());
    return {
      read: (memory, position, at, length) => readBytes(snapshot, memory, position, at, length),
      write: () => -E.ROFS,
    };
  }
}

export class ProcFs implements FileSystem {
  readonly type = 'proc';
  readonly readOnly = true;
  readonly root = new StaticDir(1, 0o555);
  private lastNumber = 1;
  private files = 0;

  /** Adds `path` (`arena`, `sys/kernel/seed`, `7/status`), with the directories above it. */
  register(path: string, text: () => string): void {
    const names = path.split('/');
    const name = names.pop()!;
    let dir = this.root;
    for (const part of names) {
      let child = dir.children.get(part);
      if (!(child instanceof StaticDir)) dir.children.set(part, (child = new StaticDir(++this.lastNumber, 0o555)));
      dir = child as StaticDir;
    }
    if (!dir.children.has(name)) this.files++;
    dir.children.set(name, new ProcFile(++this.lastNumber, text));
  }

  usage(): FsUsage {
    return { totalBytes: 0, usedBytes: 0, files: this.files };
  }
}
