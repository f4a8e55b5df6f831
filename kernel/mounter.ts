// mount(2): turns a type and a source into a file system. Host directories are not among the types: only the host gives those, at boot.

import { E, isRefusal, refuse, type Compute, type Dma, type Refusal } from './abi/index.ts';
import { DevFs } from '../vfs/fs-dev.ts';
import { GgufFs } from '../vfs/fs-gguf.ts';
import type { GgufImage } from '../vfs/gguf.ts';
import { ProcFs } from '../vfs/fs-proc.ts';
import type { FileSystem } from '../vfs/inode.ts';
import type { From, Place, Vfs } from '../vfs/vfs.ts';
import type { Arena } from './arena.ts';
import type { Costs } from './costs.ts';
import { ROOT_DISK } from './disks.ts';
import { deviceDecode, openImage } from './image.ts';
import type { Layout } from './layout.ts';
import type { Packages } from './packages.ts';

export class Mounter {
  constructor(
    readonly arena: Arena,
    readonly lay: Layout,
    readonly costs: Costs,
    readonly vfs: Vfs,
    private readonly compute: Compute,
    private readonly packages: Packages,
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
        return vfs.mount(target, vfs.tmpfs(), source === '' ? 'tmpfs' : source, false, from, ROOT_DISK);
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
  mountHost(target: string, fs: FileSystem, source: string, readOnly: boolean, disk: string): number {
    const r = makeDirectories(this.vfs, target);
    return r < 0 ? r : this.vfs.mount(target, fs, source, readOnly, '/', disk);
  }

  /** What may not be exported is mounted without its weights. A mount keeps the rights that it was made with, as an open file does. */
  private mountGguf(source: string, target: string, from: From): number | Refusal {
    const denied = this.packages.deniesFile(source, from, 'inspect');
    if (denied !== null) return denied;
    const hidden = this.packages.deniesFile(source, from, 'export') !== null;
    const opened = openImage(this, source, from);
    if (isRefusal(opened)) return opened;
    const { file } = opened;
    const image = hidden ? withoutWeights(opened.image) : opened.image;
    // The file stays open as long as it is mounted, as a block device does.
    const fs = new GgufFs(image, this.arena, deviceDecode(this.compute, this.costs), () => void file.close());
    const r = this.vfs.mount(target, fs, image.path, true, from);
    if (r < 0) file.close();
    return r;
  }
}

/** The same image, of whose tensors nothing can be read. */
function withoutWeights(image: GgufImage): GgufImage {
  const dataAt = Math.min(...image.tensors.map(t => t.fileAt));
  const read: Dma = (fileAt, at, length) =>
    fileAt >= dataAt ? -E.ACCES : image.read(fileAt, at, Math.min(length, dataAt - fileAt));
  return Object.create(image, { read: { value: read } }) as GgufImage;
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
