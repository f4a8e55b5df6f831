// mount(2): turns a type and a source into a file system. Host directories are not among the types: only the host gives those, at boot.

import { E, isRefusal, LIMITS, O, refuse, strerror, type Refusal } from './abi/index.ts';
import { DevFs } from '../vfs/fs-dev.ts';
import { GgufFs } from '../vfs/fs-gguf.ts';
import { ProcFs } from '../vfs/fs-proc.ts';
import { parseGguf } from '../vfs/gguf.ts';
import type { FileSystem } from '../vfs/inode.ts';
import type { From, Place, Vfs } from '../vfs/vfs.ts';
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
    private readonly held: () => readonly Place[],
  ) {}

  /** Paths are the caller's. */
  mount(type: string, source: string, target: string, from: From): number | Refusal {
    const { vfs } = this;
    switch (type) {
      case 'tmpfs':
        return vfs.mount(target, vfs.tmpfs(), source === '' ? 'tmpfs' : source, false, from);
      case 'proc':
        return vfs.mount(target, this.proc, 'proc', true, from);
      case 'dev':
      case 'devfs':
        return vfs.mount(target, this.dev, 'dev', false, from);
      case 'gguf':
        return this.mountGguf(source, target, from);
      default:
        return refuse('NODEV', 0, `unknown file system type '${type}': tmpfs, proc, dev, gguf`);
    }
  }

  /** What is not mounted, or is in use, is refused with what it is that uses it. */
  umount(target: string, from: From): number | Refusal {
    const held = this.held();
    const r = this.vfs.umount(target, held, from);
    if (r === -E.INVAL) return refuse('INVAL', 0, 'not mounted');
    if (r !== -E.BUSY) return r;
    const place = this.vfs.resolve(from, target) as Place;
    const users = place.mount.covered === null ? ['the root'] : this.vfs.usersOf(place.mount, held);
    return refuse('BUSY', 0, `target is busy: ${users.join(', ')}`);
  }

  /** A mount point the host asked for: missing directories above it are made. */
  mountHost(target: string, fs: FileSystem, source: string, readOnly: boolean): number {
    const r = makeDirectories(this.vfs, target);
    return r < 0 ? r : this.vfs.mount(target, fs, source, readOnly);
  }

  private mountGguf(source: string, target: string, from: From): number | Refusal {
    const file = this.vfs.open(from, source, O.RDONLY, 0);
    if (typeof file === 'number') return { errno: -file, code: 0, message: `${source}: ${strerror(file)}` };
    const { path } = file;
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
    const r = this.vfs.mount(target, new GgufFs(image, this.arena, () => void file.close()), path, true, from);
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
