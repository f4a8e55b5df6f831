// The compute device as engine drivers see it: what they call of the WebAssembly module (drivers/engine/simd). All arguments and results
// are i32; addresses are arena offsets. The kernel sees only the Compute part.

import type { Compute } from '../../kernel/abi/index.ts';

export interface EngineCompute extends Compute {
  /**
   * Rewrites `rows` rows of `k` values from ggml's row order at `fromAt` into the kernels' layout at `toAt` (same bytes in all; see ops.ts).
   * A matrix may be repacked in pieces of whole groups of four rows, the last piece taking the rest. Ranges must not overlap.
   * Returns the number of scales (blocked types) or values that are not finite: matrix products assume there are none. -1: no such type.
   */
  repack(type: number, fromAt: number, rows: number, k: number, toAt: number): number;
  /**
   * Writes f32[pairs][2] at `toAt`: base^(−1/pairs), the ratio of an angle to the one before, and the divisor that only this pair's angle
   * gets. The base is the f64 at `baseAt`, the divisors f32[pairs] at `factorsAt`; 0 = all 1.
   */
  rope_frequencies(baseAt: number, factorsAt: number, pairs: number, toAt: number): void;

  // Vocabulary and tokenizer: addresses of a Vocab, Work or Transfer record (vocabulary.ts).
  /** Takes whole token strings from a Transfer; returns the bytes taken. Measures only, when it names no vocabulary. */
  vocab_tokens(transferAt: number): number;
  /** Completes the index, byte tokens and special tokens of a vocabulary whose tokens are stored. */
  vocab_index(vocabAt: number): void;
  /** Takes whole merge strings from a Transfer, to count (0) or to place (1) them; returns the bytes taken. */
  vocab_merges(transferAt: number, place: number): number;
  /** Between counting and placing. */
  vocab_merge_groups(vocabAt: number): void;
  /** hot: writes up to `capacity` u32 ids at `outAt`; returns how many; 0 = needs more text, or the end; -1 = refused (Work.status). */
  tokenize(workAt: number, outAt: number, capacity: number): number;
}
