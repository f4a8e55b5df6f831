// Placing buffers in a region: a cursor that only moves forward and can go back to a mark, so that buffers never live at the same time
// share bytes. What it reached is what the region must hold; the same walk from 0 is the budget, from the region's offset the layout.

import { LIMITS } from '../../kernel/abi/index.ts';
import type { Place } from './plan.ts';

/** The next multiple of the arena's alignment. */
export function alignUp(bytes: number): number {
  return Math.ceil(bytes / LIMITS.arenaAlign) * LIMITS.arenaAlign;
}

export class Cursor {
  private next: number;
  private furthest: number;

  constructor(private readonly base: number) {
    this.next = base;
    this.furthest = base;
  }

  /** `bytes` (rounded up to the alignment) under a name. */
  take(name: string, bytes: number): Place {
    const place = { name, at: this.next };
    this.next += alignUp(bytes);
    this.furthest = Math.max(this.furthest, this.next);
    return place;
  }

  mark(): number {
    return this.next;
  }

  /** Buffers taken since `mark` are dead; the next ones overlay them. */
  release(mark: number): void {
    this.next = mark;
  }

  /** Goes behind all that was taken so far, which stays. */
  behind(): number {
    this.next = this.furthest;
    return this.next;
  }

  /** Bytes reached so far, a multiple of the alignment. */
  bytes(): number {
    return this.furthest - this.base;
  }
}
