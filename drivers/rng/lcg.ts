// The specification's linear congruential generator (SIS §9): x ← 1664525 x + 1013904223 mod 2³². Offered so that its worked draws can be
// tested; its low bits are poor, xor128 is the default.

import type { ArenaView, RngDriver } from '../../kernel/abi/index.ts';

/** State: u32 x, the seed to begin with; the other 12 bytes stay zero. A draw is the new x. */
export const lcg: RngDriver = {
  seed(arena: ArenaView, stateAt: number, seed: number): void {
    arena.u32.fill(0, stateAt >> 2, (stateAt >> 2) + 4);
    arena.i32[stateAt >> 2] = seed | 0;
  },

  next(arena: ArenaView, stateAt: number): number {
    const at = stateAt >> 2;
    arena.i32[at] = Math.imul(arena.i32[at]!, 1664525) + 1013904223;
    return arena.u32[at]!;
  },
};
