// Looking at the machine from outside, as a logic analyser does: files and directories of every mounted file system as the superuser reads them,
// and the digest of the whole state, without a cycle, a trace event, an audit record or a byte of the arena or of storage being other than
// it would have been. Works between any two ops of a pass. And the one way in: the host puts a file into the tree, as the boot image does.

import { bytesToHex } from '@noble/hashes/utils.js';
import { E, KIND, O, utf8Encode, type Hasher, type Kind } from './abi/index.ts';
import { makeDirectories } from './mounter.ts';
import { TmpFs, type TmpPool } from '../vfs/fs-tmp.ts';
import type { Inode } from '../vfs/inode.ts';
import { ROOT } from '../vfs/permission.ts';
import { pathOf, type Mount, type Place, type Vfs } from '../vfs/vfs.ts';

/** The most that one look answers with, and that is stored at once: what an array of bytes surely holds on every host. */
const OBSERVED_MOST = 2 ** 30; // 1 GiB
/** What files of unknown length are read by, and files are hashed by. */
const PIECE_BYTES = 64 * 1024;
const STORED_MODE = 0o644;

/** An entry of a directory, a link itself and not what it leads to. `bytes`: 0 where the length is not known before reading. */
export interface ObservedEntry {
  readonly name: string;
  readonly kind: Kind;
  readonly bytes: number;
}

/** What of the state is no file. */
export interface StateParts {
  /** SHA-256 of what is allocated in the arena, hexadecimal. */
  readonly arena: () => string;
  readonly cycles: () => number;
  /** The newest checkpoint of the audit log; '' where nothing is logged. */
  readonly head: () => string;
  readonly sha256: () => Hasher;
}

export class Observer {
  /** Whether what is being read now is read from outside: nothing may be noted of it, stored for it or made up to date. */
  isLooking = false;
  private readonly pools: TmpPool[];

  constructor(
    private readonly vfs: Vfs,
    private readonly parts: StateParts,
  ) {
    this.pools = [vfs.pool];
  }

  /** Memory storage of its own, whose access times stay too. */
  alsoOf(pool: TmpPool): void {
    this.pools.push(pool);
  }

  /**
   * Up to `length` bytes of a file from `from` on, read as the superuser; or -errno. -EINVAL: it is a device without positions, whose bytes are gone
   * once they are read. -ENOTSUP: it lies on fs-gguf, which makes bytes in the machine's own buffers, in its time. -EFBIG: more than 1 GiB.
   */
  read(path: string, from = 0, length = Infinity): Uint8Array | number {
    return this.looking(() => {
      const place = this.vfs.resolve('/', path);
      if (typeof place === 'number') return place;
      const { inode } = place;
      if (inode.kind === KIND.dir) return -E.ISDIR;
      if (inode.kind !== KIND.file && inode.endPosition() <= 0) return -E.INVAL;
      return isComputed(place.mount) ? -E.NOTSUP : contentsOf(inode, from, length);
    });
  }

  /** What a directory holds, in the order of names; or -errno. */
  list(path: string): readonly ObservedEntry[] | number {
    return this.looking(() => {
      const place = this.vfs.resolve('/', path);
      if (typeof place === 'number') return place;
      return isComputed(place.mount) ? -E.NOTSUP : this.entriesOf(place);
    });
  }

  private entriesOf(place: Place): readonly ObservedEntry[] | number {
    const names = namesIn(place.inode);
    if (typeof names === 'number') return names;
    const entries: ObservedEntry[] = [];
    for (const name of names) {
      const child = this.vfs.resolve({ cwd: place, credentials: ROOT, umask: 0 }, name, false);
      if (typeof child === 'number') continue; // the host has removed it meanwhile
      entries.push({ name, kind: child.inode.kind, bytes: child.inode.size() });
    }
    return entries;
  }

  /**
   * A file of these bytes at `path`, belonging to whom the directory belongs to, in place of one that is there: that one stays what it is until the
   * new one is whole. Directories above it are made where they are missing. 0 or -errno. It takes no time, as nothing does that the host has done before power-on.
   */
  store(path: string, bytes: Uint8Array): number {
    const { vfs } = this;
    if (bytes.length > OBSERVED_MOST) return -E.FBIG;
    const old = vfs.resolve('/', path);
    if (typeof old === 'number' && old !== -E.NOENT) return old;
    if (typeof old !== 'number' && old.inode.kind !== KIND.file)
      return old.inode.kind === KIND.dir ? -E.ISDIR : -E.INVAL;
    const at = typeof old === 'number' ? vfs.normalize('/', path) : pathOf(old);
    const above = at.slice(0, at.lastIndexOf('/') + 1);
    const made = makeDirectories(vfs, above);
    const directory = made < 0 ? made : vfs.resolve('/', above);
    if (typeof directory === 'number') return directory;
    const whole = `${at}~`;
    const file = vfs.open('/', whole, O.WRONLY | O.CREAT | O.EXCL, STORED_MODE);
    if (typeof file === 'number') return file;
    const written = writeAll(file.inode, bytes);
    file.close();
    const { uid, gid } = directory.inode;
    if (uid !== 0 || gid !== 0) vfs.chown('/', whole, uid, gid); // a directory of the host has one owner
    const status = written < 0 ? written : vfs.rename('/', whole, at);
    if (status < 0) vfs.unlink('/', whole);
    return status;
  }

  /**
   * SHA-256 of the machine's state, hexadecimal: of the text that docs/DESIGN.md describes under "The state digest". Equal machines have equal digests
   * on every host; what a directory of the host holds is the host's, and only where it is mounted is part of the state.
   */
  stateDigest(): string {
    return this.looking(() => {
      const { arena, cycles, head, sha256 } = this.parts;
      const hash = sha256();
      const line = (...fields: readonly (string | number)[]): void => {
        hash.update(utf8Encode(`${fields.join(' ')}\n`));
      };
      line('arena8 state 1');
      line('arena', arena());
      line('cycles', cycles());
      line('audit', this.digestOf([utf8Encode(head())]));
      for (const mount of this.vfs.mounts()) {
        const { target, fs, readOnly } = mount;
        line('mount', fs.type, readOnly ? 'ro' : 'rw', JSON.stringify(target));
        if (fs instanceof TmpFs) this.describe(fs.root, line);
      }
      return bytesToHex(hash.digest());
    });
  }

  /** A line for everything in a tree of memory storage, in the order of paths within each directory; without recursion, for trees may be deep. */
  private describe(root: Inode, line: (...fields: (string | number)[]) => void): void {
    const pending: { readonly inode: Inode; readonly path: string }[] = [{ inode: root, path: '/' }];
    for (let next; (next = pending.pop()) !== undefined;) {
      const { inode, path } = next;
      const fields = [inode.mode.toString(8), inode.uid, inode.gid, JSON.stringify(path)];
      if (inode.kind === KIND.link) line('link', ...fields, JSON.stringify(inode.readlink()));
      else if (inode.kind === KIND.file) line('file', ...fields, inode.size(), this.digestOf(piecesOf(inode)));
      else {
        line('dir', ...fields);
        const names = namesIn(inode);
        if (typeof names === 'number') continue;
        for (const name of names.reverse()) {
          const child = inode.lookup(name);
          if (typeof child !== 'number')
            pending.push({ inode: child, path: path === '/' ? `/${name}` : `${path}/${name}` });
        }
      }
    }
  }

  private digestOf(pieces: Iterable<Uint8Array>): string {
    const hash = this.parts.sha256();
    for (const piece of pieces) hash.update(piece);
    return bytesToHex(hash.digest());
  }

  private looking<T>(look: () => T): T {
    this.look(true);
    try {
      return look();
    } finally {
      this.look(false);
    }
  }
  private look(is: boolean): void {
    this.isLooking = is;
    for (const pool of this.pools) pool.notesAccess = !is;
  }
}

/** fs-gguf reads through the DMA buffer and at the price of transfers. */
const isComputed = ({ fs }: Mount): boolean => fs.type === 'gguf';

function namesIn(directory: Inode): string[] | number {
  if (directory.kind !== KIND.dir) return -E.NOTDIR;
  const entries = directory.list();
  if (typeof entries === 'number') return entries;
  return Array.from({ length: entries.length }, (_, i) => entries.at(i)!.name).sort();
}

/** Into memory of the host's: nothing passes through the arena. */
function contentsOf(inode: Inode, from: number, length: number): Uint8Array | number {
  const known = inode.kind === KIND.file ? inode.size() : inode.endPosition();
  // Of files whose length is not known before reading, pieces are read until there is no more.
  const most = Math.min(length, known > 0 ? Math.max(0, known - from) : OBSERVED_MOST);
  if (most > OBSERVED_MOST) return -E.FBIG;
  const handle = inode.open(O.RDONLY);
  if (typeof handle === 'number') return handle;
  let bytes = new Uint8Array(known > 0 ? most : PIECE_BYTES);
  let done = 0;
  let status = 0;
  while (done < most) {
    if (done === bytes.length) bytes = doubled(bytes);
    status = handle.read(bytes, from + done, done, Math.min(bytes.length, most) - done);
    if (status <= 0) break;
    done += status;
  }
  handle.release?.();
  return status < 0 ? status : bytes.subarray(0, done);
}

function doubled(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(2 * bytes.length);
  larger.set(bytes);
  return larger;
}

/** The bytes of a stored file in pieces; what cannot be read is left out, as in a file that has got shorter. */
function* piecesOf(inode: Inode): Generator<Uint8Array> {
  for (let at = 0; ;) {
    const piece = contentsOf(inode, at, PIECE_BYTES);
    if (typeof piece === 'number' || piece.length === 0) return;
    yield piece;
    at += piece.length;
  }
}

/** 0 or -errno. */
function writeAll(inode: Inode, bytes: Uint8Array): number {
  const handle = inode.open(O.WRONLY);
  if (typeof handle === 'number') return handle;
  let status = 0;
  for (let done = 0; done < bytes.length && status >= 0; done += status) {
    status = handle.write(bytes, done, done, bytes.length - done);
    if (status === 0) status = -E.IO;
  }
  handle.release?.();
  return Math.min(0, status);
}
