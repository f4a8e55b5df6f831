// The compute device as engine drivers see it: every export of the WebAssembly module (drivers/engine/simd). All arguments and results
// are i32; addresses are arena offsets. The kernel sees only the Compute part.

import type { Compute } from '../../kernel/abi/index.ts';

export interface EngineCompute extends Compute {
  /** Rewrites `rows` rows of `k` values from ggml's row order at `fromAt` into the kernels' layout at `toAt` (same bytes in all). Ranges must not overlap. */
  repack(type: number, fromAt: number, rows: number, k: number, toAt: number): void;
}
