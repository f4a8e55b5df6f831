// Sizes of the buffers that plan ops share, as engines need them to budget: the TypeScript side of ops.ts.

import { GROUPED_TYPE, plainType } from '../../kernel/abi/index.ts';
import {
  ACT_BYTES,
  BLOCK,
  SUPER,
  SUPER_ACT_BYTES,
  TOP_K_SMALL,
  TYPE_BF16,
  TYPE_F16,
  TYPE_F32,
  TYPE_F64,
  TYPE_I16,
  TYPE_I32,
  TYPE_I64,
  TYPE_I8,
  TYPE_IQ4_NL,
  TYPE_IQ4_XS,
  TYPE_Q2_K,
  TYPE_Q3_K,
  TYPE_Q4_0,
  TYPE_Q4_1,
  TYPE_Q4_K,
  TYPE_Q5_0,
  TYPE_Q5_1,
  TYPE_Q5_K,
  TYPE_Q6_K,
  TYPE_Q8_0,
  TYPE_TQ1_0,
  TYPE_TQ2_0,
} from './ops.ts';

const blocked = [TYPE_Q4_0, TYPE_Q4_1, TYPE_Q5_0, TYPE_Q5_1, TYPE_Q8_0, TYPE_IQ4_NL];
const superBlocked = [TYPE_Q2_K, TYPE_Q3_K, TYPE_Q4_K, TYPE_Q5_K, TYPE_Q6_K, TYPE_IQ4_XS, TYPE_TQ1_0, TYPE_TQ2_0];
const numbers = [TYPE_F32, TYPE_F16, TYPE_BF16];
const wide = [TYPE_F64, TYPE_I8, TYPE_I16, TYPE_I32, TYPE_I64];

/** True for the types stored as single numbers, which a vector may have. */
export function isNumber(type: number): boolean {
  return numbers.includes(type) || wide.includes(type);
}

/** True for types that a file has in another layout than the kernels read. */
export function needsRepack(type: number): boolean {
  return GROUPED_TYPE.has(type);
}

/**
 * The type a matrix of this ggml type is kept and multiplied in: its own; that of which it is the prelinked form; F32 for F64 and the integers;
 * null where it cannot be.
 */
export function matrixType(type: number): number | null {
  if (wide.includes(type)) return TYPE_F32;
  const plain = plainType(type);
  return [numbers, blocked, superBlocked].some(types => types.includes(plain)) ? plain : null;
}

/** The activations that products with a weight type take; equal kinds share one QUANTIZE, f32 needs none. */
export function actKind(type: number): 'f32' | 'f16' | 'bf16' | 'q8' | 'q8_K' {
  if (blocked.includes(type)) return 'q8';
  if (superBlocked.includes(type)) return 'q8_K';
  return type === TYPE_F16 ? 'f16' : type === TYPE_BF16 ? 'bf16' : 'f32';
}

/** Bytes of one token's activations of `k` values for weights of `type` (a multiple of 4; buffers hold tokens without gaps). */
export function actBytes(type: number, k: number): number {
  const kind = actKind(type);
  if (kind === 'q8_K') return (k / SUPER) * SUPER_ACT_BYTES;
  return kind === 'q8' ? (k / BLOCK) * ACT_BYTES : 4 * k;
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

/** Bytes of one row of logits of `n` ids, the sampler's memory behind them: see simd/sample.ts. A multiple of 64. */
export function logitsBytes(n: number): number {
  const blocks = Math.ceil(n / 16);
  const groups = Math.ceil(blocks / 16);
  return 64 * (blocks + groups + Math.ceil(groups / 16)) + 12 * TOP_K_SMALL;
}
