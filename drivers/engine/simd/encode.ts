// Rounding f32 to the types that models are stored in, as ggml's reference quantisers do it (quantize_row_q4_0_ref and its kin): the same f32
// operations in the same order, so that a file written here is llama.cpp's to the byte. A block of 32 gets a scale, and in Q4_1 and Q5_1 a
// minimum, as halves; what the integers are computed with is the scale before it became one. Layouts are drawn in decode.ts and ../ops.ts.

import { BLOCK, TYPE_BF16, TYPE_F16, TYPE_F32, TYPE_Q4_0, TYPE_Q4_1, TYPE_Q5_0, TYPE_Q5_1, TYPE_Q8_0 } from '../ops';
import { f32x4_to_f16, half_is_finite } from './blocks';

/** The integer part. What no i32 holds, a NaN too, is 0: the low byte that the reference gets on x86, where its cast leaves 0x80000000. */
@inline
function whole(x: f32): i32 {
  return <i32>select<f32>(x, 0, abs<f32>(x) < 2147483648.0);
}

/** Nearest integer, halves away from zero. x + ½ would not do: it rounds 0.49999997 up. */
@inline
function round_away(x: f32): i32 {
  const part = trunc<f32>(x);
  return whole(part + select<f32>(select<f32>(1, -1, x > 0), 0, abs<f32>(x - part) >= 0.5));
}

@inline
function half_of(x: f32): u16 {
  return <u16>i32x4.extract_lane(f32x4_to_f16(f32x4.splat(x)), 0);
}

@inline
function has_low(type: i32): bool {
  return type == TYPE_Q4_1 || type == TYPE_Q5_1;
}
@inline
function has_fifth(type: i32): bool {
  return type == TYPE_Q5_0 || type == TYPE_Q5_1;
}

/** The integer that `x` becomes; `low` is 0 in types without a minimum. */
@inline
function level(type: i32, x: f32, low: f32, inverse: f32): i32 {
  if (type == TYPE_Q8_0) return round_away(x * inverse);
  if (has_low(type)) return min<i32>(type == TYPE_Q4_1 ? 15 : 255, whole((x - low) * inverse + 0.5));
  return type == TYPE_Q4_0 ? min<i32>(15, whole(x * inverse + 8.5)) : min<i32>(31, whole(x * inverse + 16.5));
}

/** The scale of 32 values: their span in steps, or the one farthest from 0 (its sign kept but in Q8_0) in half the steps. */
@inline
function scale_of(type: i32, from: usize): f32 {
  let peak: f32 = 0;
  for (let j: usize = 0; j < 4 * BLOCK; j += 4) {
    const x = load<f32>(from + j);
    // As the reference compares: a NaN takes the place of Q8_0's peak, and any number its place.
    if (type == TYPE_Q8_0) peak = select<f32>(peak, abs<f32>(x), peak > abs<f32>(x));
    else peak = select<f32>(x, peak, abs<f32>(peak) < abs<f32>(x));
  }
  return type == TYPE_Q8_0 ? peak / 127 : peak / (type == TYPE_Q4_0 ? -8 : -16);
}

@inline
function least(from: usize): f32 {
  let low: f32 = f32.MAX_VALUE;
  for (let j: usize = 0; j < 4 * BLOCK; j += 4) low = select<f32>(load<f32>(from + j), low, load<f32>(from + j) < low);
  return low;
}
@inline
function most(from: usize): f32 {
  let high: f32 = -f32.MAX_VALUE;
  for (let j: usize = 0; j < 4 * BLOCK; j += 4) high = select<f32>(load<f32>(from + j), high, load<f32>(from + j) > high);
  return high;
}

/** Blocks of 32 values; returns how many of their scales and minima are not finite. */
@inline
export function encode_blocks(type: i32, from: usize, n: i32, to: usize): i32 {
  let bad = 0;
  for (let v = 0; v < n; v += BLOCK) {
    const low: f32 = has_low(type) ? least(from) : 0;
    const d: f32 = has_low(type) ? (most(from) - low) / (type == TYPE_Q4_1 ? 15 : 31) : scale_of(type, from);
    const inverse = select<f32>(<f32>1 / d, 0, d != 0);
    store<u16>(to, half_of(d));
    bad += <i32>!half_is_finite(to);
    to += 2;
    if (has_low(type)) {
      store<u16>(to, half_of(low));
      bad += <i32>!half_is_finite(to);
      to += 2;
    }
    if (type == TYPE_Q8_0) {
      for (let j: usize = 0; j < <usize>BLOCK; j++) store<u8>(to + j, level(type, load<f32>(from + (j << 2)), low, inverse));
      to += BLOCK;
    } else {
      const quants: usize = has_fifth(type) ? 4 : 0;
      let fifth = 0;
      for (let j: usize = 0; j < 16; j++) {
        const a = level(type, load<f32>(from + (j << 2)), low, inverse);
        const b = level(type, load<f32>(from + (j << 2) + 64), low, inverse);
        store<u8>(to + quants + j, (a & 15) | (b << 4));
        fifth |= (((a >> 4) & 1) << <i32>j) | (((b >> 4) & 1) << <i32>(j + 16));
      }
      if (has_fifth(type)) store<i32>(to, fifth);
      to += quants + 16;
    }
    from += 4 * BLOCK;
  }
  return bad;
}

/** Values one by one; returns how many are not finite. */
@inline
function encode_floats(type: i32, from: usize, n: i32, to: usize): i32 {
  const exponent = type == TYPE_F32 ? 0x7f800000 : type == TYPE_F16 ? 0x7c00 : 0x7f80;
  let bad = 0;
  for (let i = 0; i < n; i++) {
    const x = load<f32>(from + (i << 2));
    const bits = reinterpret<i32>(x);
    const brain = select<i32>((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16, (bits >>> 16) | 64, x == x);
    const stored = type == TYPE_F32 ? bits : type == TYPE_F16 ? <i32>half_of(x) : brain;
    bad += <i32>((stored & exponent) == exponent);
    if (type == TYPE_F32) store<i32>(to + (i << 2), stored);
    else store<u16>(to + (i << 1), stored);
  }
  return bad;
}

/** See Compute.encode. */
export function encode(type: i32, from: usize, n: i32, to: usize): i32 {
  if (type == TYPE_Q4_0) return encode_blocks(TYPE_Q4_0, from, n, to);
  if (type == TYPE_Q4_1) return encode_blocks(TYPE_Q4_1, from, n, to);
  if (type == TYPE_Q5_0) return encode_blocks(TYPE_Q5_0, from, n, to);
  if (type == TYPE_Q5_1) return encode_blocks(TYPE_Q5_1, from, n, to);
  if (type == TYPE_Q8_0) return encode_blocks(TYPE_Q8_0, from, n, to);
  if (type == TYPE_F16) return encode_floats(TYPE_F16, from, n, to);
  if (type == TYPE_BF16) return encode_floats(TYPE_BF16, from, n, to);
  return type == TYPE_F32 ? encode_floats(TYPE_F32, from, n, to) : -1;
}
