// A file of /etc that the kernel keeps in mind: read at boot and again whenever it has become another one. What says so is the inode and the
// time of its last change, which no program sets; looking costs a walk of two names. Text goes through the DMA buffer, as every file's, and is
// part of the price of the call that found the change: beside servers no call takes more than was promised.

import { E, LIMITS, O, utf8Decode, type ArenaView } from './abi/index.ts';
import type { Vfs } from '../vfs/vfs.ts';
import type { Layout } from './layout.ts';

/** What reading such files stands on. */
export interface EtcContext {
  readonly arena: ArenaView;
  readonly lay: Layout;
  readonly vfs: Vfs;
}

export class EtcFile {
  /** Its bytes; null: there is no such file, or it is longer than LIMITS.etcFileBytes. */
  bytes: Uint8Array | null = null;
  private seen = '';

  constructor(
    private readonly k: EtcContext,
    readonly path: string,
  ) {}

  get text(): string {
    return this.bytes === null ? '' : utf8Decode(this.bytes, 0, this.bytes.length);
  }

  /**
   * Reads it where it is not the one that was read last. True when it was another. One that is there and cannot be opened now (too many files are
   * open) is not taken for an empty one: what was read last counts until it can.
   */
  refresh(): boolean {
    const now = this.identity();
    if (now === this.seen) return false;
    const bytes = this.read();
    if (bytes === undefined) return false;
    this.seen = now;
    this.bytes = bytes;
    return true;
  }

  /** Mount, inode and the time of its last change; the errno where there is none. */
  private identity(): string {
    const place = this.k.vfs.resolve('/', this.path);
    if (typeof place === 'number') return `${place}`;
    return `${place.mount.device}:${place.inode.number}:${place.inode.changedNs}:${place.inode.size()}`;
  }

  private read(): Uint8Array | null | undefined {
    const { arena, lay, vfs } = this.k;
    const file = vfs.open('/', this.path, O.RDONLY, 0);
    if (typeof file === 'number') return file === -E.NOENT ? null : undefined;
    const whole = new Uint8Array(LIMITS.etcFileBytes + 1);
    let bytes = 0;
    for (let n = 0; (n = file.read(lay.dmaAt, Math.min(LIMITS.dmaBytes, whole.length - bytes))) > 0; bytes += n)
      whole.set(arena.u8.subarray(lay.dmaAt, lay.dmaAt + n), bytes);
    file.close();
    return bytes > LIMITS.etcFileBytes ? null : whole.slice(0, bytes);
  }
}
