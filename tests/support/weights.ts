// Random weights of every type that matrices have, in the file's order.

import * as ops from '../../drivers/engine/ops.ts';
import { ggmlTypeName } from '../../kernel/abi/index.ts';
import * as reference from '../reference/kernels.ts';

export const TYPES = {
  F32: ops.TYPE_F32,
  F16: ops.TYPE_F16,
  BF16: ops.TYPE_BF16,
  Q4_0: ops.TYPE_Q4_0,
  Q4_1: ops.TYPE_Q4_1,
  Q5_0: ops.TYPE_Q5_0,
  Q5_1: ops.TYPE_Q5_1,
  Q8_0: ops.TYPE_Q8_0,
  Q2_K: ops.TYPE_Q2_K,
  Q3_K: ops.TYPE_Q3_K,
  Q4_K: ops.TYPE_Q4_K,
  Q5_K: ops.TYPE_Q5_K,
  Q6_K: ops.TYPE_Q6_K,
  IQ4_NL: ops.TYPE_IQ4_NL,
  IQ4_XS: ops.TYPE_IQ4_XS,
  TQ1_0: ops.TYPE_TQ1_0,
  TQ2_0: ops.TYPE_TQ2_0,
} as const;

/** Where a type's blocks have their scales, and minima or scales of minima. */
const HALVES: Partial<Record<keyof typeof TYPES, readonly number[]>> = {
  Q4_1: [0, 2],
  Q5_1: [0, 2],
  Q2_K: [80, 82],
  Q3_K: [108],
  Q4_K: [0, 2],
  Q5_K: [0, 2],
  Q6_K: [208],
  TQ1_0: [52],
  TQ2_0: [64],
};
export const halvesOf = (type: number): readonly number[] => HALVES[ggmlTypeName(type) as keyof typeof TYPES] ?? [0];

/** `n` weights: any quants, finite scales of either sign. `below(n)` gives integers 0 … n − 1, `normal` numbers about 0. */
export function randomWeights(
  type: number,
  n: number,
  { below, normal }: { readonly below: (n: number) => number; readonly normal: () => number },
): Uint8Array {
  if (type === ops.TYPE_F32) return new Uint8Array(Float32Array.from({ length: n }, normal).buffer);
  const out = new Uint8Array(reference.bytesOf(type, n)).map(() => below(256));
  const view = new DataView(out.buffer);
  const half = (at: number): void =>
    view.setUint16(at, reference.f32ToF16(Math.fround(normal() * (below(8) === 0 ? 1e-6 : 0.02))), true);
  if (type === ops.TYPE_F16) for (let i = 0; i < n; i++) half(2 * i);
  else if (type === ops.TYPE_BF16) for (let i = 0; i < n; i++) out[2 * i + 1] = (out[2 * i + 1]! & 0x80) | 0x3d;
  else {
    for (let p = 0; p < out.length; p += reference.blockOf(type)[1]) {
      for (const offset of halvesOf(type)) half(p + offset);
    }
  }
  return out;
}
