// Sizes of the buffers that plan ops share, as engines need them to budget: the TypeScript side of ops.ts.

import {
  ACT_BYTES,
  BLOCK,
  TOP_K_SMALL,
  TYPE_BF16,
  TYPE_F16,
  TYPE_F32,
  TYPE_Q4_0,
  TYPE_Q4_1,
  TYPE_Q8_0,
} from './ops.ts';

/** True when a matrix of this ggml type can be multiplied and its rows read. */
export function hasKernels(type: number): boolean {
  return type === TYPE_F32 || type === TYPE_F16 || type === TYPE_BF16 || isBlocked(type);
}

/** True for the types stored in blocks of 32, whose rows must be whole blocks and whose activations are int8. */
export function isBlocked(type: number): boolean {
  return type === TYPE_Q4_0 || type === TYPE_Q4_1 || type === TYPE_Q8_0;
}

/** The activations that products with a weight type take; equal kinds share one QUANTIZE, f32 needs none. */
export function actKind(type: number): 'f32' | 'f16' | 'bf16' | 'q8' {
  if (isBlocked(type)) return 'q8';
  return type === TYPE_F16 ? 'f16' : type === TYPE_BF16 ? 'bf16' : 'f32';
}

/** Bytes of one token's activations of `k` values for weights of `type` (a multiple of 4; buffers hold tokens without gaps). */
export function actBytes(type: number, k: number): number {
  return isBlocked(type) ? (k / BLOCK) * ACT_BYTES : 4 * k;
}

/** Bytes of ROPE_TABLE's output for a batch. */
export function ropeTableBytes(batch: number, pairs: number): number {
  return 8 * batch * pairs;
}

/** Bytes of the frequencies that ROPE_TABLE, or ROPE_TABLE_SCALED, reads. */
export function ropeFrequenciesBytes(pairs: number, scaled: boolean): number {
  return scaled ? 8 * pairs + 4 * (2 + pairs) : 8 * pairs;
}

/** Bytes of ATTENTION's scratch, whatever the batch and the number of heads. */
export function scoresBytes(ctx: number): number {
  return 4 * ctx;
}

/** Bytes of the logits of `n` ids and of the sampler's memory behind them, see simd/sample.ts. */
export function logitsBytes(n: number): number {
  const blocks = Math.ceil(n / 16);
  const groups = Math.ceil(blocks / 16);
  return 64 * (blocks + groups + Math.ceil(groups / 16)) + 12 * TOP_K_SMALL;
}
