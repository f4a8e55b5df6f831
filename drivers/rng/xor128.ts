// Marsaglia's xor128 as the seedrandom package has it: that package makes the initial state from the seed, the steps are taken here, on
// four i32 in the arena, so that a session's generator lies with the session and costs no JavaScript memory per draw.

import xor128Of from 'seedrandom/lib/xor128.js';
import type { ArenaView, RngDriver } from '../../kernel/abi/index.ts';

/** State: i32 x, y, z, w. Draws equal `seedrandom.xor128(seed | 0).int32()` as unsigned numbers. */
export const xor128: RngDriver = {
  seed(arena: ArenaView, stateAt: number, seed: number): void {
    const { x, y, z, w } = xor128Of(seed | 0, { state: true }).state();
    arena.i32.set([x, y, z, w], stateAt >> 2);
  },

  next(arena: ArenaView, stateAt: number): number {
    const { i32 } = arena;
    const at = stateAt >> 2;
    const x = i32[at]!;
    const t = x ^ (x << 11);
    const w = i32[at + 3]!;
    i32[at] = i32[at + 1]!;
    i32[at + 1] = i32[at + 2]!;
    i32[at + 2] = w;
    const next = w ^ (w >>> 19) ^ t ^ (t >>> 8);
    i32[at + 3] = next;
    return next >>> 0;
  },
};
