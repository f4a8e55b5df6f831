// Keys and values in blocks: rows of a cache of Q8_0 or Q4_0, blocks of 32 as ggml stores them. What is written is what its reference quantisers
// write (encode.ts). What is read are the dequantised values, a scale times an integer, which an f32 holds exactly: attention over such a cache
// is attention over an F32 cache of them, to the bit. What a block costs does not depend on what is in it.
//
//   Q8_0   34 B   f16 d   i8 q[32]          value i = d · q[i]
//   Q4_0   18 B   f16 d   16 B of nibbles   value i = d · (nibble − 8); low nibbles are values 0 … 15, high ones 16 … 31

import { Q4_0_BYTES, Q8_0_BYTES, TYPE_F16, TYPE_Q4_0, TYPE_Q8_0 } from '../ops';
import { F16, F32, load_f16 } from './blocks';
import { encode_blocks } from './encode';

/** Tags beside F32, F16 and BF16 for generic code over the element types of caches: of one byte, as no other. */
export type Q8_0 = i8;
export type Q4_0 = u8;

@inline
export function is_blocked<T>(): bool {
  return sizeof<T>() == 1;
}

@inline
export function has_nibbles<T>(): bool {
  return is_blocked<T>() && !isSigned<T>();
}

/** Bytes of `n` values of a row; whole blocks where the type has blocks. */
@inline
export function kv_bytes<T>(n: i32): usize {
  if (!is_blocked<T>()) return n * sizeof<T>();
  return (n >> 5) * (has_nibbles<T>() ? Q4_0_BYTES : Q8_0_BYTES);
}

/** The same of a type by its number; F32 if it is no other. */
@inline
export function kv_row_bytes(type: i32, n: i32): usize {
  if (type == TYPE_Q8_0) return kv_bytes<Q8_0>(n);
  if (type == TYPE_Q4_0) return kv_bytes<Q4_0>(n);
  return type == TYPE_F16 ? kv_bytes<F16>(n) : kv_bytes<F32>(n);
}

/** Writes f32[n], n whole blocks. Returns false when a scale is not finite: values up to 65,504 · 127 and · 8 have one that is; a NaN need not show in it. */
@inline
export function store_blocks<T>(x: usize, n: i32, to: usize): bool {
  return encode_blocks(has_nibbles<T>() ? TYPE_Q4_0 : TYPE_Q8_0, x, n, to) == 0;
}

/** A block's scale; of Q4_0 its sixteenth, for nibbles are widened where they are, 16 · (nibble − 8): the top bit turned over is the sign. It saves a subtraction and changes no bit. */
@inline
export function scale_of<T>(block: usize): v128 {
  return f32x4.splat(has_nibbles<T>() ? load_f16(block) * 0.0625 : load_f16(block));
}

@inline
export function widen(q: v128, d: v128): v128 {
  return f32x4.mul(f32x4.convert_i32x4_s(q), d);
}

/** Sixteen values of a block, 0 or 16 on, as signed bytes. */
@inline
export function quants16<T>(block: usize, high: bool): v128 {
  if (!has_nibbles<T>()) return high ? v128.load(block, 18) : v128.load(block, 2);
  const bytes = v128.load(block, 2);
  return v128.xor(v128.and(high ? bytes : i32x4.shl(bytes, 4), i32x4.splat(0xf0f0f0f0)), i32x4.splat(0x80808080));
}
