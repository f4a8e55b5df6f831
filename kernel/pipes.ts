// Pipe buffers: a fixed set of rings in the arena, handed out to pipes and taken back when both ends are closed.

import { E, LIMITS } from './abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import type { Vfs } from '../vfs/vfs.ts';

export class Pipes {
  private readonly taken: boolean[] = Array.from({ length: LIMITS.pipesMax }, () => false);

  constructor(
    private readonly vfs: Vfs,
    private readonly ringsAt: number,
  ) {}

  /** Both ends, or -errno: all rings are taken, or too many files are open. */
  open(): readonly [reader: OpenFile, writer: OpenFile] | number {
    const i = this.taken.indexOf(false);
    if (i < 0) return -E.NFILE;
    this.taken[i] = true;
    const ringAt = this.ringsAt + i * LIMITS.pipeBytes;
    this.vfs.arena.u8.fill(0, ringAt, ringAt + LIMITS.pipeBytes); // what others wrote is nowhere
    const ends = this.vfs.pipe(ringAt, LIMITS.pipeBytes, () => {
      this.taken[i] = false;
    });
    if (typeof ends === 'number') this.taken[i] = false;
    return ends;
  }
}
