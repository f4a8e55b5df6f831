// Files that are made while they are read: an inode without a name whose bytes come from a handle. A program that reads such a descriptor and
// writes it down has a new file; nothing is stored meanwhile.

import { KIND, O, refuse, strerror, type Refusal } from './abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import { Inode, type Handle } from '../vfs/inode.ts';
import type { Vfs } from '../vfs/vfs.ts';

class ViewInode extends Inode {
  readonly kind = KIND.file;

  constructor(
    private readonly bytes: number,
    private readonly handle: Handle,
  ) {
    super(0, 0o400);
  }
  override size(): number {
    return this.bytes;
  }
  override open(): Handle {
    return this.handle;
  }
}

/** The view that `handle` makes, open for reading; `name` is for messages. */
export function openView(vfs: Vfs, bytes: number, handle: Handle, name: string): OpenFile | Refusal {
  const file = vfs.openInode(new ViewInode(bytes, handle), `view:${name}`, O.RDONLY, null);
  return typeof file === 'number' ? refuse('NFILE', 0, strerror(file)) : file;
}
