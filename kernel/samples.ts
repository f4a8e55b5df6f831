// The last SAMPLES values of one figure (a step's time, its jitter, the slack at a deadline) in a ring in the arena, and the percentile
// that the specification takes of them: no interpolation, one of the samples themselves.

import { SAMPLES, type ArenaView } from './abi/index.ts';

/** u32 samples ever added (wraps), u32 kept, then SAMPLES × u64: 8 + 64 × 8 B = 520 B. */
export const SAMPLES_BYTES = 8 + SAMPLES * 8;

/** The sample at index ⌊(n − 1) · q⌋ in ascending order, of 64 samples at q = 0.99 the one at 62; 0 of none. */
export function percentile(samples: readonly number[], q: number): number {
  const ascending = [...samples].sort((a, b) => a - b);
  return ascending[Math.floor((ascending.length - 1) * q)] ?? 0;
}

/** A ring of whole numbers below 2⁵³. */
export class Samples {
  constructor(
    private readonly arena: ArenaView,
    /** SAMPLES_BYTES in the kernel tables, a multiple of 8. */
    private readonly at: number,
  ) {}

  /** hot: takes the place of the oldest once there are SAMPLES. */
  add(value: number): void {
    const u32 = this.arena.u32;
    const head = this.at >> 2;
    const i = head + 2 + (u32[head]! % SAMPLES) * 2;
    u32[i] = value % 4294967296;
    u32[i + 1] = Math.floor(value / 4294967296);
    u32[head] = u32[head]! + 1;
    if (u32[head + 1]! < SAMPLES) u32[head + 1] = u32[head + 1]! + 1;
  }

  get count(): number {
    return this.arena.u32[(this.at >> 2) + 1]!;
  }

  percentile(q: number): number {
    const first = (this.at >> 2) + 2;
    const value = (_: unknown, i: number): number =>
      this.arena.u32[first + 2 * i]! + this.arena.u32[first + 2 * i + 1]! * 4294967296;
    return percentile(Array.from({ length: this.count }, value), q);
  }
}
