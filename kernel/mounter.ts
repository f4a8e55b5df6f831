// mount(2): turns a type and a source into a file system. Host directories are not among the types: only the host gives those, at boot.

import { E, isRefusal, LIMITS, O, refuse, strerror, type Refusal } from './abi/index.ts';
import { DevFs } from '../vfs/fs-dev.ts';
import { GgufFs } from '../vfs/fs-gguf.ts';
import { ProcFs } from '../vfs/fs-proc.ts';
import { parseGguf } from '../vfs/gguf.ts';
import type { FileSystem } from '../vfs/inode.ts';
import type { Vfs } from '../vfs/vfs.ts';
import type { Arena } from './arena.ts';
import type { Costs } from './costs.ts';
import type { Layout } from './layout.ts';

export class Mounter {
  constructor(
    private readonly arena: Arena,
    private readonly lay: Layout,
    private readonly costs: Costs,
    private readonly vfs: Vfs,
    private readonly dev: DevFs,
    private readonly proc: ProcFs,
    /** Working directories in use: what keeps a file system busy. */
    private readonly held: () => readonly string[],
  ) {}

  mount(type: string, source: string, target: string, cwd: string): number | Refusal {
    const at = this.vfs.normalize(cwd, target);
    switch (type) {
      case 'tmpfs':
        return this.vfs.mount(at, this.vfs.tmpfs(), source === '' ? 'tmpfs' : source, false);
      case 'proc':
        return this.vfs.mount(at, this.proc, 'proc', true);
      case 'dev':
      case 'devfs':
        return this.vfs.mount(at, this.dev, 'dev', false);
      case 'gguf':
        return this.mountGguf(this.vfs.normalize(cwd, source), at);
      default:
        return refuse('NODEV', 0, `unknown file system type '${type}': tmpfs, proc, dev, gguf`);
    }
  }

  umount(target: string): number {
    return this.vfs.umount(target, this.held());
  }

  /** A mount point the host asked for: missing directories above it are made. */
  mountHost(target: string, fs: FileSystem, source: string, readOnly: boolean): number {
    const r = makeDirectories(this.vfs, target);
    return r < 0 ? r : this.vfs.mount(target, fs, source, readOnly);
  }

  private mountGguf(path: string, target: string): number | Refusal {
    const file = this.vfs.open('/', path, O.RDONLY, 0);
    if (typeof file === 'number') return { errno: -file, code: 0, message: `${path}: ${strerror(file)}` };
    const read = (fileAt: number, arenaAt: number, length: number): number => {
      const n = file.readAt(fileAt, arenaAt, length);
      this.costs.transfer(Math.max(0, n));
      return n;
    };
    const image = parseGguf({ path, size: file.stat().size, read }, this.arena, this.lay.dmaAt, LIMITS.dmaBytes);
    if (isRefusal(image)) {
      file.close();
      return { ...image, message: `${path}: ${image.message}` };
    }
    // The file stays open as long as it is mounted, as a block device does.
    const r = this.vfs.mount(target, new GgufFs(image, this.arena, () => void file.close()), path, true);
    if (r < 0) file.close();
    return r;
  }
}

/** `mkdir -p`. */
export function makeDirectories(vfs: Vfs, path: string): number {
  let at = '';
  for (const name of vfs.normalize('/', path).split('/').slice(1)) {
    if (name === '') continue;
    at += `/${name}`;
    const r = vfs.mkdir('/', at, 0o755);
    if (r < 0 && r !== -E.EXIST) return r;
  }
  return 0;
}
