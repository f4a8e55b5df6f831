// Weights in the file's order, sixteen values at a time: Q5_0, Q5_1, IQ4_NL in blocks of 32, and ggml's super-blocks of 256. A value is
// scale · weight − minimum, both integers times a half of the block; all products are exact in f32, so that decoding is ggml's to the bit
// however it is compiled. The same instructions run whatever the data: bits are shifted, never branched on.
//
//   Q5_0    f16 d, u32 fifth bits, 16 B nibbles                  Q5_1    f16 d, f16 m, then as Q5_0
//   IQ4_NL  f16 d, 16 B nibbles                                  IQ4_XS  f16 d, 8 × 2 bits of scales, 8 × 4 bits of scales, 128 B nibbles
//   Q2_K    16 × (4 bits scale, 4 bits minimum), 64 B pairs of bits, f16 d, f16 dmin
//   Q3_K    32 B third bits, 64 B pairs of bits, 16 × 6 bits of scales, f16 d
//   Q4_K    f16 d, f16 dmin, 8 × (6 bits scale, 6 bits minimum), 128 B nibbles       Q5_K    the same with 32 B fifth bits before the nibbles
//   Q6_K    128 B nibbles, 64 B pairs of bits, i8[16] scales, f16 d
//   TQ1_0   48 B of five base-3 digits, 4 B of four, f16 d       TQ2_0   64 B pairs of bits, f16 d
// In a block of 32 a byte holds values j and j + 16; in super-blocks fields lie 32 values apart, their bytes in runs of 32 or 64.

import {
  BLOCK, IQ4_NL_BYTES, IQ4_XS_BYTES, Q2_K_BYTES, Q3_K_BYTES, Q4_K_BYTES, Q5_0_BYTES, Q5_1_BYTES, Q5_K_BYTES, Q6_K_BYTES, SUPER, TQ1_0_BYTES,
  TQ2_0_BYTES, TYPE_IQ4_NL, TYPE_IQ4_XS, TYPE_Q2_K, TYPE_Q3_K, TYPE_Q4_K, TYPE_Q5_0, TYPE_Q5_1, TYPE_Q5_K, TYPE_Q6_K, TYPE_TQ1_0, TYPE_TQ2_0,
} from '../ops';
import { load_any_f16, put_four, put_sixteen } from './blocks';

/** Bytes of a block of Q5_0, Q5_1 and IQ4_NL; 0: another type. Sums of truths, so that sizes stay short in certificates. */
@inline
export function plain_bytes(type: i32): usize {
  return is(type, TYPE_Q5_0) * Q5_0_BYTES + is(type, TYPE_Q5_1) * Q5_1_BYTES + is(type, TYPE_IQ4_NL) * IQ4_NL_BYTES;
}
/** Bytes of a super-block; 0: another type. */
@inline
export function super_bytes(type: i32): usize {
  return (
    is(type, TYPE_Q2_K) * Q2_K_BYTES + is(type, TYPE_Q3_K) * Q3_K_BYTES + is(type, TYPE_Q4_K) * Q4_K_BYTES + is(type, TYPE_Q5_K) * Q5_K_BYTES +
    is(type, TYPE_Q6_K) * Q6_K_BYTES + is(type, TYPE_IQ4_XS) * IQ4_XS_BYTES + is(type, TYPE_TQ1_0) * TQ1_0_BYTES + is(type, TYPE_TQ2_0) * TQ2_0_BYTES
  );
}
@inline
export function is(type: i32, other: i32): usize {
  return <usize>(type == other);
}

/** Where a block's scale lies in it. */
@inline
export function scale_at(type: i32): usize {
  return is(type, TYPE_Q2_K) * 80 + is(type, TYPE_Q3_K) * 108 + is(type, TYPE_Q6_K) * 208 + is(type, TYPE_TQ1_0) * 52 + is(type, TYPE_TQ2_0) * 64;
}

/** A second half, the minimum or its scale, follows the first. */
@inline
export function has_minimum(type: i32): bool {
  return (is(type, TYPE_Q5_1) | is(type, TYPE_Q2_K) | is(type, TYPE_Q4_K) | is(type, TYPE_Q5_K)) != 0;
}

@inline
function byte(p: usize): i32 {
  return load<u8>(p);
}

/** `a` where x < limit, else `b`; without a comparison, which certificates would take for one that decides how long a loop runs. */
@inline
function below(x: i32, limit: i32, a: i32, b: i32): i32 {
  return b ^ ((a ^ b) & ((x - limit) >> 31));
}

/** Sixteen of the 32 bits at `p`, from byte `from` on, each as 16 in a byte of its own. */
@inline
export function fifth_bits(p: usize, from: i32): v128 {
  const bits = v128.load32_splat(p);
  const bit = i8x16(1, 2, 4, 8, 16, 32, 64, -128, 1, 2, 4, 8, 16, 32, 64, -128);
  const bytes = from == 0
    ? i8x16.shuffle(bits, bits, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1)
    : i8x16.shuffle(bits, bits, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
  return v128.and(i8x16.eq(v128.and(bytes, bit), bit), i8x16.splat(16));
}

@inline
function either(a: i8, b: i8, second: v128): v128 {
  return v128.bitselect(i8x16.splat(b), i8x16.splat(a), second);
}

/** Where bytes have a bit set. */
@inline
function has_bit(v: v128, bit: i8): v128 {
  return i8x16.eq(v128.and(v, i8x16.splat(bit)), i8x16.splat(bit));
}

/** The values of IQ4_NL and IQ4_XS for sixteen nibbles, chosen bit by bit: −127 −104 −83 −65 −49 −35 −22 −10, 1 13 25 38 53 69 89 113. */
@inline
export function nonlinear16(nibbles: v128): v128 {
  const b0 = has_bit(nibbles, 1);
  const b1 = has_bit(nibbles, 2);
  const b2 = has_bit(nibbles, 4);
  const v0 = v128.bitselect(either(-83, -65, b0), either(-127, -104, b0), b1);
  const v4 = v128.bitselect(either(-22, -10, b0), either(-49, -35, b0), b1);
  const v8 = v128.bitselect(either(25, 38, b0), either(1, 13, b0), b1);
  const v12 = v128.bitselect(either(89, 113, b0), either(53, 69, b0), b1);
  return v128.bitselect(v128.bitselect(v12, v8, b2), v128.bitselect(v4, v0, b2), has_bit(nibbles, 8));
}

// Value i of a super-block is 128 n + 64 a + 32 b + 16 c + m; of a block of 32, 16 c + m. So written, every address moves steadily with the loops.

/** The integer that the chunk of sixteen values from 128 n + 64 a + 32 b + 16 c on is scaled by. */
@inline
function chunk_scale(type: i32, p: usize, n: i32, a: i32, b: i32, c: i32): i32 {
  const pair = 4 * n + 2 * a + b;
  if (type == TYPE_Q2_K) return byte(p + 2 * pair + c) & 15;
  if (type == TYPE_Q3_K) return (((byte(p + 96 + 4 * a + 2 * b + c) >> (4 * n)) & 15) | (((byte(p + 104 + 2 * b + c) >> (4 * n + 2 * a)) & 3) << 4)) - 32;
  if (type == TYPE_Q6_K) return load<i8>(p + 192 + 2 * pair + c);
  if (type == TYPE_IQ4_XS) return (((byte(p + 4 + 2 * n + a) >> (4 * b)) & 15) | (((<i32>load<u16>(p + 2) >> (2 * pair)) & 3) << 4)) - 32;
  const split = (byte(p + 8 + pair) & 15) | ((byte(p + pair) >> 6) << 4);
  return below(n, 1, byte(p + 4 + pair) & 63, split);
}

/** The integer that Q2_K, Q4_K and Q5_K scale the minimum of that chunk by. */
@inline
function chunk_minimum(type: i32, p: usize, n: i32, a: i32, b: i32, c: i32): i32 {
  const pair = 4 * n + 2 * a + b;
  if (type == TYPE_Q2_K) return byte(p + 2 * pair + c) >> 4;
  const x = byte(p + 8 + pair);
  return below(n, 1, x & 63, (x >> 4) | ((byte(p + 4 + pair) >> 6) << 4));
}

/**
 * The field that begins at bit `from` of each of sixteen bytes at `p`. Shifts of lanes are priced as instructions with an immediate, and `from` is
 * none: the field is multiplied up to the next byte, even bytes and odd ones each in lanes of their own.
 */
@inline
function field(p: usize, from: i32, mask: i8): v128 {
  const v = v128.load(p);
  const m = i16x8.splat(<i16>(<i32>mask << from));
  const times = i32x4.splat(256 >> from); // of two bytes apart: no product reaches the next one
  const even = i16x8.shr_u(i32x4.mul(v128.and(v, m), times), 8);
  const odd = i32x4.mul(v128.and(i16x8.shr_u(v, 8), m), times);
  return v128.or(even, v128.and(odd, i16x8.splat(-256)));
}

/** v + the field of one bit, or two, that begins there, at bit `to`. */
@inline
function with_field(v: v128, p: usize, from: i32, mask: i8, to: i32): v128 {
  return v128.or(v, i16x8.shl(field(p, from, mask), to));
}

/** The integer weights of the values from 128 n + 64 a + 32 b + 16 c on. */
@inline
function weights16(type: i32, p: usize, n: i32, a: i32, b: i32, c: i32): v128 {
  const l = 16 * c;
  const bit = 4 * n + 2 * a + b;
  const two = 4 * a + 2 * b; // where a pair of bits lies in its byte
  if (type == TYPE_Q2_K) return field(p + 16 + 32 * n + l, two, 3);
  if (type == TYPE_Q3_K) return i8x16.sub(with_field(field(p + 32 + 32 * n + l, two, 3), p + l, bit, 1, 2), i8x16.splat(4));
  if (type == TYPE_Q4_K) return field(p + 16 + 64 * n + 32 * a + l, 4 * b, 15);
  if (type == TYPE_Q5_K) return with_field(field(p + 48 + 64 * n + 32 * a + l, 4 * b, 15), p + 16 + l, bit, 1, 4);
  if (type == TYPE_Q6_K) return i8x16.sub(with_field(field(p + 64 * n + 32 * b + l, 4 * a, 15), p + 128 + 32 * n + l, two, 3, 4), i8x16.splat(32));
  if (type == TYPE_IQ4_XS) return nonlinear16(field(p + 8 + 64 * n + 32 * a + 16 * b, 4 * c, 15));
  return i8x16.sub(field(p + 32 * n + l, two, 3), i8x16.splat(1));
}

/** A chunk: its integer scale and minimum are taken times the block's. */
@inline
function decode_chunk(type: i32, p: usize, n: i32, a: i32, b: i32, c: i32, to: usize, add: bool): void {
  const d = load_any_f16(p + scale_at(type));
  const scale = type == TYPE_TQ2_0 ? d : d * <f32>chunk_scale(type, p, n, a, b, c);
  const minimum = has_minimum(type) ? -(load_any_f16(p + scale_at(type) + 2) * <f32>chunk_minimum(type, p, n, a, b, c)) : -0.0; // x + −0 = x
  put_sixteen(to, weights16(type, p, n, a, b, c), f32x4.splat(scale), f32x4.splat(minimum), add);
}

@inline
function decode_super_blocks(type: i32, p: usize, k: i32, to: usize, add: bool): void {
  for (let v = 0; v < k; v += SUPER) {
    for (let n = 0; n < 2; n++) {
      for (let a = 0; a < 2; a++) {
        for (let b = 0; b < 2; b++) {
          for (let c = 0; c < 2; c++) {
            decode_chunk(type, p, n, a, b, c, to, add);
            to += 64;
          }
        }
      }
    }
    p += super_bytes(type);
  }
}

// One function a type, each called from two places: else the compiler merges them into one that asks for the type value by value.

function decode_q2_k(p: usize, k: i32, to: usize, add: bool): void {
  decode_super_blocks(TYPE_Q2_K, p, k, to, add);
}
function decode_q3_k(p: usize, k: i32, to: usize, add: bool): void {
  decode_super_blocks(TYPE_Q3_K, p, k, to, add);
}
function decode_q4_k(p: usize, k: i32, to: usize, add: bool): void {
  decode_super_blocks(TYPE_Q4_K, p, k, to, add);
}
function decode_q5_k(p: usize, k: i32, to: usize, add: bool): void {
  decode_super_blocks(TYPE_Q5_K, p, k, to, add);
}
function decode_q6_k(p: usize, k: i32, to: usize, add: bool): void {
  decode_super_blocks(TYPE_Q6_K, p, k, to, add);
}
function decode_iq4_xs(p: usize, k: i32, to: usize, add: bool): void {
  decode_super_blocks(TYPE_IQ4_XS, p, k, to, add);
}
function decode_tq2_0(p: usize, k: i32, to: usize, add: bool): void {
  decode_super_blocks(TYPE_TQ2_0, p, k, to, add);
}

/** Values of TQ1_0 from bytes that are 256 · 0.digits in base 3, rounded up: the integer part of three times that, less 1. */
@inline
function first_digits(x: v128): v128 {
  return i8x16.sub(i8x16.splat(-1), i8x16.add(i8x16.ge_u(x, i8x16.splat(86)), i8x16.ge_u(x, i8x16.splat(-85)))); // 171
}

/** What follows the first digit. */
@inline
function shifted_digits(x: v128): v128 {
  return i8x16.add(x, i8x16.add(x, x));
}

/** Five values from each of sixteen bytes at `p`; the next digits of all of them are `step` bytes further. */
@inline
function decode_digits(p: usize, d: v128, to: usize, step: usize, add: bool): void {
  let x = v128.load(p);
  for (let n = 0; n < 5; n++) {
    put_sixteen(to, first_digits(x), d, f32x4.splat(-0.0), add);
    x = shifted_digits(x);
    to += step;
  }
}

/** Four values from each of four. */
@inline
function decode_last_digits(p: usize, d: v128, to: usize, add: bool): void {
  let x = v128.load32_splat(p);
  for (let n = 0; n < 4; n++) {
    const q = i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(first_digits(x)));
    put_four(to, f32x4.mul(f32x4.convert_i32x4_s(q), d), add);
    x = shifted_digits(x);
    to += 16;
  }
}

function decode_tq1_0(p: usize, k: i32, to: usize, add: bool): void {
  for (let v = 0; v < k; v += SUPER) {
    const d = f32x4.splat(load_any_f16(p + scale_at(TYPE_TQ1_0)));
    decode_digits(p, d, to, 128, add);
    decode_digits(p + 16, d, to + 64, 128, add);
    decode_digits(p + 32, d, to + 640, 64, add);
    decode_last_digits(p + 48, d, to + 960, add);
    p += TQ1_0_BYTES;
    to += 4 * SUPER;
  }
}

@inline
function decode_nibbles_of(type: i32, p: usize, k: i32, to: usize, add: bool): void {
  const bits: usize = type == TYPE_Q5_1 ? 4 : 2;
  for (let v = 0; v < k; v += BLOCK) {
    const d = f32x4.splat(load_any_f16(p));
    const m = type == TYPE_Q5_1 ? f32x4.splat(load_any_f16(p + 2)) : f32x4.splat(-0.0); // x + −0 = x
    const bytes = type == TYPE_IQ4_NL ? p + 2 : p + bits + 4;
    let low = field(bytes, 0, 15);
    let high = field(bytes, 4, 15);
    if (type == TYPE_IQ4_NL) {
      low = nonlinear16(low);
      high = nonlinear16(high);
    } else {
      low = v128.or(low, fifth_bits(p + bits, 0));
      high = v128.or(high, fifth_bits(p + bits, 2));
    }
    if (type == TYPE_Q5_0) {
      low = i8x16.sub(low, i8x16.splat(16));
      high = i8x16.sub(high, i8x16.splat(16));
    }
    put_sixteen(to, low, d, m, add);
    put_sixteen(to + 64, high, d, m, add);
    p += plain_bytes(type);
    to += 4 * BLOCK;
  }
}

function decode_q5_0(p: usize, k: i32, to: usize, add: bool): void {
  decode_nibbles_of(TYPE_Q5_0, p, k, to, add);
}
function decode_q5_1(p: usize, k: i32, to: usize, add: bool): void {
  decode_nibbles_of(TYPE_Q5_1, p, k, to, add);
}
function decode_iq4_nl(p: usize, k: i32, to: usize, add: bool): void {
  decode_nibbles_of(TYPE_IQ4_NL, p, k, to, add);
}

/** `k` values of a type in blocks of 32 that stays in the file's order, to f32[k] at `to`, stored or added. */
@inline
export function decode_plain(type: i32, p: usize, k: i32, to: usize, add: bool): void {
  if (type == TYPE_Q5_0) decode_q5_0(p, k, to, add);
  else if (type == TYPE_Q5_1) decode_q5_1(p, k, to, add);
  else decode_iq4_nl(p, k, to, add);
}

/** The same of a type in super-blocks. */
@inline
export function decode_super(type: i32, p: usize, k: i32, to: usize, add: bool): void {
  if (type == TYPE_Q4_K) decode_q4_k(p, k, to, add);
  else if (type == TYPE_Q5_K) decode_q5_k(p, k, to, add);
  else if (type == TYPE_Q6_K) decode_q6_k(p, k, to, add);
  else if (type == TYPE_Q2_K) decode_q2_k(p, k, to, add);
  else if (type == TYPE_Q3_K) decode_q3_k(p, k, to, add);
  else if (type == TYPE_IQ4_XS) decode_iq4_xs(p, k, to, add);
  else if (type == TYPE_TQ1_0) decode_tq1_0(p, k, to, add);
  else decode_tq2_0(p, k, to, add);
}
