// Hashes of the log's tree: 64 bytes a record, in memory storage beside the arena. They are nothing that must be kept: power-on makes them again
// from the records. What the pool has no page for is refused before it is needed.

import { LIMITS } from '../abi/index.ts';
import type { HashStore } from '../../trust/index.ts';
import { anonymousFile, type TmpFile, type TmpPool } from '../../vfs/fs-tmp.ts';
import { ROOT } from '../../vfs/permission.ts';
import { panic } from '../panic.ts';

const HASH_BYTES = 32; // SHA-256

/** Bytes that the hashes of one flush take at most, and the page that they begin in. */
const FLUSH_BYTES = (2 * LIMITS.auditFileRecords + 64) * HASH_BYTES + 2 * 4096;

export class HashFile implements HashStore {
  private readonly file: TmpFile;
  private count = 0;

  constructor(private readonly pool: TmpPool) {
    const file = anonymousFile(pool, ROOT);
    if (typeof file === 'number') panic('no file for the hashes of the audit log');
    file.open();
    this.file = file;
  }

  /** Whether the records of one file can be hashed. */
  get hasRoom(): boolean {
    return this.pool.bytesUsed + FLUSH_BYTES <= this.pool.bytesMax;
  }

  append(hash: Uint8Array): void {
    if (this.file.write(hash, this.count++ * HASH_BYTES, 0, HASH_BYTES) !== HASH_BYTES)
      panic('no room for the hashes of the audit log');
  }

  read(index: number): Uint8Array {
    const hash = new Uint8Array(HASH_BYTES);
    this.file.read(hash, index * HASH_BYTES, 0, HASH_BYTES);
    return hash;
  }
}
