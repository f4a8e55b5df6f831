// Matrix products dst[t][rows] = W · act[t] for every weight type, straight from the stored blocks. A row's products are added in the order of
// ggml's AVX2 code, which made the reference logits: then activations that are rounded later are rounded alike. The order is the same whatever
// the batch: one token or many, SIMD128 or relaxed, grouped or left-over row give the same bits. Integer sums are exact; an addition of
// isum · (dw · dx) is rounded once, like a fused multiply-add. Q4_0 with rows in eights adds the whole block of 32 at once; otherwise, and for Q4_1
// and Q8_0, each four neighbouring values of a block have their own sum, eight in all. Floats sum in 32 lanes over k (dot32).

import {
  ACT_BIAS, ACT_BYTES, ACT_D, ACT_Q16, ACT_Q8, ACT_S, GROUP, IQ4_NL_BYTES, Q4_0_BYTES, Q4_1_BYTES, Q5_0_BYTES, Q5_1_BYTES, Q8_0_BYTES,
} from '../ops';
import { BF16, F16, F32, f16_bias, f16_mask, load_f16, load_f16x4, opaque_zero } from './blocks';
import { fifth_bits, nonlinear16 } from './decode';
import { dot32 } from './dot';
import { add_product, sum4 } from './math';

// The relaxed build has two instructions that the other has not: the int8 × int7 dot product, given operands for which the specification allows
// one result, and a multiply-add that is fused (fma4).
const RELAXED = ASC_FEATURE_RELAXED_SIMD;

/** Where results go: f32[token][stride], plus bias f32[rows] when biasAt ≠ 0, added to what is there when `add`. */
@inline
function put4(dst: usize, v: v128, bias: usize, add: bool): void {
  if (bias != 0) v = f32x4.add(v, v128.load(bias));
  if (add) v = f32x4.add(v128.load(dst), v);
  v128.store(dst, v);
}
@inline
export function put1(dst: usize, v: f32, bias: usize, add: bool): void {
  if (bias != 0) v += load<f32>(bias);
  if (add) v = load<f32>(dst) + v;
  store<f32>(dst, v);
}

// ── Blocks of 32 in one sum: Q4_0 ────────────────────────────────────────────────────────────────────────────────────────────────

// A vector q of packed nibbles falls apart into operands of the dot products: relaxed into bytes 0 … 15 (a: low nibbles, b: high ones), SIMD128
// into halfwords (a, b: even and odd bytes' low nibbles, c, d: their high ones). Taken apart once per block, they serve every token of a tile.
@inline
function part_a(q: v128, mask: v128): v128 {
  return v128.and(q, mask);
}
@inline
function part_b(q: v128, mask: v128): v128 {
  return v128.and(i16x8.shr_u(q, RELAXED ? 4 : 8), mask);
}
@inline
function part_c(q: v128, mask: v128): v128 {
  return RELAXED ? q : v128.and(i16x8.shr_u(q, 4), mask);
}
@inline
function part_d(q: v128, mask: v128): v128 {
  return RELAXED ? q : i16x8.shr_u(q, 12);
}

/** One block of four rows times one token: Σ nibble · q per row. */
@inline
function dot_q4(
  a0: v128, b0: v128, c0: v128, d0: v128,
  a1: v128, b1: v128, c1: v128, d1: v128,
  a2: v128, b2: v128, c2: v128, d2: v128,
  a3: v128, b3: v128, c3: v128, d3: v128,
  y: usize, one: v128,
): v128 {
  if (RELAXED) {
    // Eight sums of two products stay within ±8 · 2 · 15 · 128 = ±30,720, exact in i16.
    const y0 = v128.load(y, ACT_Q8);
    const y1 = v128.load(y, ACT_Q8 + 16);
    let t = i16x8.relaxed_dot_i8x16_i7x16_s(v128.shuffle<i32>(y0, y0, 0, 0, 0, 0), a0);
    t = i16x8.add(t, i16x8.relaxed_dot_i8x16_i7x16_s(v128.shuffle<i32>(y1, y1, 0, 0, 0, 0), b0));
    t = i16x8.add(t, i16x8.relaxed_dot_i8x16_i7x16_s(v128.shuffle<i32>(y0, y0, 1, 1, 1, 1), a1));
    t = i16x8.add(t, i16x8.relaxed_dot_i8x16_i7x16_s(v128.shuffle<i32>(y1, y1, 1, 1, 1, 1), b1));
    t = i16x8.add(t, i16x8.relaxed_dot_i8x16_i7x16_s(v128.shuffle<i32>(y0, y0, 2, 2, 2, 2), a2));
    t = i16x8.add(t, i16x8.relaxed_dot_i8x16_i7x16_s(v128.shuffle<i32>(y1, y1, 2, 2, 2, 2), b2));
    t = i16x8.add(t, i16x8.relaxed_dot_i8x16_i7x16_s(v128.shuffle<i32>(y0, y0, 3, 3, 3, 3), a3));
    t = i16x8.add(t, i16x8.relaxed_dot_i8x16_i7x16_s(v128.shuffle<i32>(y1, y1, 3, 3, 3, 3), b3));
    return i32x4.dot_i16x8_s(t, one);
  }
  const y0 = v128.load(y, ACT_Q16 + 0);
  const y1 = v128.load(y, ACT_Q16 + 16);
  const y2 = v128.load(y, ACT_Q16 + 32);
  const y3 = v128.load(y, ACT_Q16 + 48);
  let t = i32x4.dot_i16x8_s(v128.shuffle<i32>(y0, y0, 0, 0, 0, 0), a0);
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y0, y0, 1, 1, 1, 1), b0));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y2, y2, 0, 0, 0, 0), c0));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y2, y2, 1, 1, 1, 1), d0));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y0, y0, 2, 2, 2, 2), a1));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y0, y0, 3, 3, 3, 3), b1));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y2, y2, 2, 2, 2, 2), c1));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y2, y2, 3, 3, 3, 3), d1));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y1, y1, 0, 0, 0, 0), a2));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y1, y1, 1, 1, 1, 1), b2));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y3, y3, 0, 0, 0, 0), c2));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y3, y3, 1, 1, 1, 1), d2));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y1, y1, 2, 2, 2, 2), a3));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y1, y1, 3, 3, 3, 3), b3));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y3, y3, 2, 2, 2, 2), c3));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y3, y3, 3, 3, 3, 3), d3));
  return t;
}

/** sum + the block's product, of four rows with scales `d`. */
@inline
function add_q4_0(sum: v128, isum: v128, d: v128, y: usize): v128 {
  return add_product(sum, i32x4.add(isum, v128.load32_splat(y, ACT_BIAS)), f32x4.mul(d, v128.load32_splat(y, ACT_D)));
}

/** Rows in multiples of eight, all in groups. */
@inline
function mul_mat_blocks(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  const rowBytes = (k >> 5) * Q4_0_BYTES;
  const actStep = (k >> 5) * ACT_BYTES;
  const dstStep: usize = stride << 2;
  const zero = opaque_zero(rows);
  const mask = RELAXED ? i8x16.splat(<i8>(zero + 15)) : i16x8.splat(<i16>(zero + 15));
  const one = i16x8.splat(<i16>(zero + 1));
  const halfMask = f16_mask(zero);
  const halfBias = f16_bias(zero);
  for (let row = 0; row < rows; row += GROUP) {
    const end = w + GROUP * rowBytes;
    let y0 = act;
    let out = dst;
    let t = n;
    for (; t >= 4; t -= 4) {
      let y1 = y0 + actStep;
      let y2 = y1 + actStep;
      let y3 = y2 + actStep;
      let sum0 = f32x4.splat(0);
      let sum1 = sum0;
      let sum2 = sum0;
      let sum3 = sum0;
      for (let p = w; p < end; p += GROUP * Q4_0_BYTES) {
        const d = load_f16x4(p, halfMask, halfBias);
        const q0 = v128.load(p, 8);
        const q1 = v128.load(p, 24);
        const q2 = v128.load(p, 40);
        const q3 = v128.load(p, 56);
        const a0 = part_a(q0, mask);
        const b0 = part_b(q0, mask);
        const c0 = part_c(q0, mask);
        const d0 = part_d(q0, mask);
        const a1 = part_a(q1, mask);
        const b1 = part_b(q1, mask);
        const c1 = part_c(q1, mask);
        const d1 = part_d(q1, mask);
        const a2 = part_a(q2, mask);
        const b2 = part_b(q2, mask);
        const c2 = part_c(q2, mask);
        const d2 = part_d(q2, mask);
        const a3 = part_a(q3, mask);
        const b3 = part_b(q3, mask);
        const c3 = part_c(q3, mask);
        const d3 = part_d(q3, mask);
        sum0 = add_q4_0(sum0, dot_q4(a0, b0, c0, d0, a1, b1, c1, d1, a2, b2, c2, d2, a3, b3, c3, d3, y0, one), d, y0);
        sum1 = add_q4_0(sum1, dot_q4(a0, b0, c0, d0, a1, b1, c1, d1, a2, b2, c2, d2, a3, b3, c3, d3, y1, one), d, y1);
        sum2 = add_q4_0(sum2, dot_q4(a0, b0, c0, d0, a1, b1, c1, d1, a2, b2, c2, d2, a3, b3, c3, d3, y2, one), d, y2);
        sum3 = add_q4_0(sum3, dot_q4(a0, b0, c0, d0, a1, b1, c1, d1, a2, b2, c2, d2, a3, b3, c3, d3, y3, one), d, y3);
        y0 += ACT_BYTES;
        y1 += ACT_BYTES;
        y2 += ACT_BYTES;
        y3 += ACT_BYTES;
      }
      put4(out, sum0, bias, add);
      put4(out + dstStep, sum1, bias, add);
      put4(out + 2 * dstStep, sum2, bias, add);
      put4(out + 3 * dstStep, sum3, bias, add);
      y0 = y3;
      out += 4 * dstStep;
    }
    for (; t > 0; t--) {
      let sum = f32x4.splat(0);
      for (let p = w; p < end; p += GROUP * Q4_0_BYTES) {
        const q0 = v128.load(p, 8);
        const q1 = v128.load(p, 24);
        const q2 = v128.load(p, 40);
        const q3 = v128.load(p, 56);
        const a0 = part_a(q0, mask);
        const b0 = part_b(q0, mask);
        const c0 = part_c(q0, mask);
        const d0 = part_d(q0, mask);
        const a1 = part_a(q1, mask);
        const b1 = part_b(q1, mask);
        const c1 = part_c(q1, mask);
        const d1 = part_d(q1, mask);
        const a2 = part_a(q2, mask);
        const b2 = part_b(q2, mask);
        const c2 = part_c(q2, mask);
        const d2 = part_d(q2, mask);
        const a3 = part_a(q3, mask);
        const b3 = part_b(q3, mask);
        const c3 = part_c(q3, mask);
        const d3 = part_d(q3, mask);
        sum = add_q4_0(sum, dot_q4(a0, b0, c0, d0, a1, b1, c1, d1, a2, b2, c2, d2, a3, b3, c3, d3, y0, one), load_f16x4(p, halfMask, halfBias), y0);
        y0 += ACT_BYTES;
      }
      put4(out, sum, bias, add);
      out += dstStep;
    }
    w = end;
    dst += 16;
    if (bias != 0) bias += 16;
  }
}

// ── Blocks of 32 in eight sums: Q4_0, Q4_1, Q8_0 ─────────────────────────────────────────────────────────────────────────────────

/** Tags of the types. */
type Q4_0 = u8;
type Q4_1 = u32;
type Q8_0 = i32;
type Q5_0 = u16;
type Q5_1 = u64;
type IQ4_NL = f32;

@inline
function quad_block_bytes<Q>(): usize {
  if (isFloat<Q>()) return IQ4_NL_BYTES;
  if (isSigned<Q>()) return Q8_0_BYTES;
  return sizeof<Q>() == 8 ? Q5_1_BYTES : sizeof<Q>() == 4 ? Q4_1_BYTES : sizeof<Q>() == 2 ? Q5_0_BYTES : Q4_0_BYTES;
}
@inline
function has_minimum<Q>(): bool {
  return !isSigned<Q>() && sizeof<Q>() >= 4;
}
@inline
function has_fifth_bits<Q>(): bool {
  return !isSigned<Q>() && (sizeof<Q>() == 2 || sizeof<Q>() == 8);
}

/** Values 4j … 4j + 3 of a block of activations, as i32 pairs of i16 and as i8, in every lane: an instruction each, its place in it. */
@inline
function low_pair(y: usize, j: i32): v128 {
  if (j == 0) return v128.load32_splat(y, ACT_Q16);
  if (j == 1) return v128.load32_splat(y, ACT_Q16 + 8);
  if (j == 2) return v128.load32_splat(y, ACT_Q16 + 16);
  if (j == 3) return v128.load32_splat(y, ACT_Q16 + 24);
  if (j == 4) return v128.load32_splat(y, ACT_Q16 + 32);
  if (j == 5) return v128.load32_splat(y, ACT_Q16 + 40);
  if (j == 6) return v128.load32_splat(y, ACT_Q16 + 48);
  return v128.load32_splat(y, ACT_Q16 + 56);
}
@inline
function high_pair(y: usize, j: i32): v128 {
  if (j == 0) return v128.load32_splat(y, ACT_Q16 + 4);
  if (j == 1) return v128.load32_splat(y, ACT_Q16 + 12);
  if (j == 2) return v128.load32_splat(y, ACT_Q16 + 20);
  if (j == 3) return v128.load32_splat(y, ACT_Q16 + 28);
  if (j == 4) return v128.load32_splat(y, ACT_Q16 + 36);
  if (j == 5) return v128.load32_splat(y, ACT_Q16 + 44);
  if (j == 6) return v128.load32_splat(y, ACT_Q16 + 52);
  return v128.load32_splat(y, ACT_Q16 + 60);
}
@inline
function four_q8(y: usize, j: i32): v128 {
  if (j == 0) return v128.load32_splat(y, ACT_Q8);
  if (j == 1) return v128.load32_splat(y, ACT_Q8 + 4);
  if (j == 2) return v128.load32_splat(y, ACT_Q8 + 8);
  if (j == 3) return v128.load32_splat(y, ACT_Q8 + 12);
  if (j == 4) return v128.load32_splat(y, ACT_Q8 + 16);
  if (j == 5) return v128.load32_splat(y, ACT_Q8 + 20);
  if (j == 6) return v128.load32_splat(y, ACT_Q8 + 24);
  return v128.load32_splat(y, ACT_Q8 + 28);
}

/** Σ weight · q over values 4j … 4j + 3 of a block of four rows at `p`. */
@inline
function quad<Q>(p: usize, y: usize, j: i32, mask: v128, one: v128): v128 {
  if (isSigned<Q>()) {
    const w = v128.load(p + 16 * j + 8);
    const low = i32x4.dot_i16x8_s(low_pair(y, j), i16x8.extend_low_i8x16_s(w));
    return i32x4.add(low, i32x4.dot_i16x8_s(high_pair(y, j), i16x8.extend_high_i8x16_s(w)));
  }
  const w = v128.load(p + 16 * (j & 3), sizeof<Q>() == 4 ? 16 : 8);
  let sum: v128;
  if (RELAXED) {
    const nibbles = j < 4 ? part_a(w, mask) : part_b(w, mask);
    sum = i32x4.dot_i16x8_s(i16x8.relaxed_dot_i8x16_i7x16_s(four_q8(y, j), nibbles), one);
  } else if (j < 4) sum = i32x4.add(i32x4.dot_i16x8_s(low_pair(y, j), part_a(w, mask)), i32x4.dot_i16x8_s(high_pair(y, j), part_b(w, mask)));
  else sum = i32x4.add(i32x4.dot_i16x8_s(low_pair(y, j), part_c(w, mask)), i32x4.dot_i16x8_s(high_pair(y, j), part_d(w, mask)));
  if (sizeof<Q>() == 4) return sum;
  const four = i32x4.add(i32x4.dot_i16x8_s(low_pair(y, j), one), i32x4.dot_i16x8_s(high_pair(y, j), one)); // Q4_0's weights are nibble − 8
  return i32x4.sub(sum, i32x4.shl(four, 3));
}

/** One left-over row in the file's order times one token: the sums are lanes. */
@inline
function row_quads<Q>(w: usize, k: i32, y: usize): f32 {
  let low = f32x4.splat(0); // values 0 … 15 of a block
  let high = f32x4.splat(0);
  let minima: f32 = 0;
  const minimum = has_minimum<Q>();
  for (let b = k >> 5; b > 0; b--) {
    const bits: usize = w + (minimum ? 4 : 2);
    const first = v128.load(has_fifth_bits<Q>() ? bits + 4 : bits);
    let v0 = isSigned<Q>() ? first : v128.and(first, i8x16.splat(15));
    let v1 = isSigned<Q>() ? v128.load(w, 18) : i8x16.shr_u(first, 4);
    if (sizeof<Q>() == 1) {
      v0 = i8x16.sub(v0, i8x16.splat(8));
      v1 = i8x16.sub(v1, i8x16.splat(8));
    }
    if (has_fifth_bits<Q>()) {
      v0 = v128.or(v0, fifth_bits(bits, 0));
      v1 = v128.or(v1, fifth_bits(bits, 2));
    }
    if (sizeof<Q>() == 2) {
      v0 = i8x16.sub(v0, i8x16.splat(16));
      v1 = i8x16.sub(v1, i8x16.splat(16));
    }
    const d = f32x4.splat(load_f16(w) * load<f32>(y, ACT_D));
    low = add_product(low, row_quad(v0, y), d);
    high = add_product(high, row_quad(v1, y + 32), d);
    if (minimum) minima += load_f16(w + 2) * load<f32>(y, ACT_S);
    w += quad_block_bytes<Q>();
    y += ACT_BYTES;
  }
  const sum = sum4(f32x4.add(low, high));
  return minimum ? sum + minima : sum;
}

/** Σ weight · q of each four of sixteen values. */
@inline
function row_quad(w: v128, y: usize): v128 {
  const a = i32x4.dot_i16x8_s(v128.load(y, ACT_Q16), i16x8.extend_low_i8x16_s(w));
  const b = i32x4.dot_i16x8_s(v128.load(y, ACT_Q16 + 16), i16x8.extend_high_i8x16_s(w));
  return i32x4.add(v128.shuffle<i32>(a, b, 0, 2, 4, 6), v128.shuffle<i32>(a, b, 1, 3, 5, 7));
}

/** Four rows times one token. */
@inline
function group_quads<Q>(w: usize, end: usize, y: usize, mask: v128, one: v128, halfMask: v128, halfBias: v128): v128 {
  let minima = f32x4.splat(0);
  let s0 = minima;
  let s1 = minima;
  let s2 = minima;
  let s3 = minima;
  let s4 = minima;
  let s5 = minima;
  let s6 = minima;
  let s7 = minima;
  for (let p = w; p < end; p += GROUP * quad_block_bytes<Q>()) {
    const d = f32x4.mul(load_f16x4(p, halfMask, halfBias), v128.load32_splat(y, ACT_D));
    s0 = add_product(s0, quad<Q>(p, y, 0, mask, one), d);
    s1 = add_product(s1, quad<Q>(p, y, 1, mask, one), d);
    s2 = add_product(s2, quad<Q>(p, y, 2, mask, one), d);
    s3 = add_product(s3, quad<Q>(p, y, 3, mask, one), d);
    s4 = add_product(s4, quad<Q>(p, y, 4, mask, one), d);
    s5 = add_product(s5, quad<Q>(p, y, 5, mask, one), d);
    s6 = add_product(s6, quad<Q>(p, y, 6, mask, one), d);
    s7 = add_product(s7, quad<Q>(p, y, 7, mask, one), d);
    if (has_minimum<Q>()) minima = f32x4.add(minima, f32x4.mul(load_f16x4(p + 8, halfMask, halfBias), v128.load32_splat(y, ACT_S)));
    y += ACT_BYTES;
  }
  const even = f32x4.add(f32x4.add(s0, s4), f32x4.add(s2, s6));
  const sum = f32x4.add(even, f32x4.add(f32x4.add(s1, s5), f32x4.add(s3, s7)));
  return has_minimum<Q>() ? f32x4.add(sum, minima) : sum;
}

@inline
function mul_mat_quads<Q>(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  const block = quad_block_bytes<Q>();
  const rowBytes = (k >> 5) * block;
  const actStep = (k >> 5) * ACT_BYTES;
  const dstStep: usize = stride << 2;
  const zero = opaque_zero(rows);
  const mask = RELAXED ? i8x16.splat(<i8>(zero + 15)) : i16x8.splat(<i16>(zero + 15));
  const one = i16x8.splat(<i16>(zero + 1));
  const halfMask = f16_mask(zero);
  const halfBias = f16_bias(zero);
  let row = 0;
  for (; row + GROUP <= rows; row += GROUP) {
    const end = w + GROUP * rowBytes;
    let y = act;
    let out = dst;
    for (let t = n; t > 0; t--) {
      put4(out, group_quads<Q>(w, end, y, mask, one, halfMask, halfBias), bias, add);
      y += actStep;
      out += dstStep;
    }
    w = end;
    dst += 16;
    if (bias != 0) bias += 16;
  }
  for (; row < rows; row++) {
    for (let t = 0; t < n; t++) put1(dst + t * dstStep, row_quads<Q>(w, k, act + t * actStep), bias, add);
    w += rowBytes;
    dst += 4;
    if (bias != 0) bias += 4;
  }
}

// ── Blocks of 32 in the file's order: Q5_0, Q5_1, IQ4_NL ─────────────────────────────────────────────────────────────────────────

/** Products of i8 with i8, two neighbours each, as i16; |w| · |y| ≤ 127 · 127. */
@inline
export function pairs(y: v128, w: v128): v128 {
  return i16x8.narrow_i32x4_s(
    i32x4.dot_i16x8_s(i16x8.extend_low_i8x16_s(y), i16x8.extend_low_i8x16_s(w)),
    i32x4.dot_i16x8_s(i16x8.extend_high_i8x16_s(y), i16x8.extend_high_i8x16_s(w)),
  );
}

/** Σ weight · q of each four of the values 16h … 16h + 15 of a block of IQ4_NL. */
@inline
function quads_iq4_nl(w: usize, y: usize, h: i32): v128 {
  const nibbles = v128.load(w, 2);
  return row_quad(nonlinear16(h == 0 ? v128.and(nibbles, i8x16.splat(15)) : i8x16.shr_u(nibbles, 4)), y + 32 * h);
}

/** The four sums, in every lane. */
@inline
export function sum_lanes(v: v128): v128 {
  v = i32x4.add(v, v128.shuffle<i64>(v, v, 1, 0));
  return i32x4.add(v, v128.shuffle<i32>(v, v, 1, 0, 3, 2));
}

@inline
function sum_iq4_nl(w: usize, y: usize): v128 {
  return sum_lanes(i32x4.add(quads_iq4_nl(w, y, 0), quads_iq4_nl(w, y, 1)));
}

@inline
function scale_of(w: usize, y: usize): v128 {
  return f32x4.splat(load_f16(w) * load<f32>(y, ACT_D));
}

/** One row of IQ4_NL times one token, each block in one sum. */
@inline
function row_iq4_nl_whole(w: usize, k: i32, y: usize): f32 {
  let sum = f32x4.splat(0);
  for (let b = k >> 5; b > 0; b--) {
    sum = add_product(sum, sum_iq4_nl(w, y), scale_of(w, y));
    w += IQ4_NL_BYTES;
    y += ACT_BYTES;
  }
  return f32x4.extract_lane(sum, 0);
}

/** The same with the blocks taking turns in two times eight sums; a last one without a partner is added at the end. */
@inline
function row_iq4_nl(w: usize, k: i32, y: usize): f32 {
  let low0 = f32x4.splat(0);
  let high0 = low0;
  let low1 = low0;
  let high1 = low0;
  for (let b = k >> 6; b > 0; b--) {
    const d0 = scale_of(w, y);
    low0 = add_product(low0, quads_iq4_nl(w, y, 0), d0);
    high0 = add_product(high0, quads_iq4_nl(w, y, 1), d0);
    const d1 = scale_of(w + IQ4_NL_BYTES, y + ACT_BYTES);
    low1 = add_product(low1, quads_iq4_nl(w + IQ4_NL_BYTES, y + ACT_BYTES, 0), d1);
    high1 = add_product(high1, quads_iq4_nl(w + IQ4_NL_BYTES, y + ACT_BYTES, 1), d1);
    w += 2 * IQ4_NL_BYTES;
    y += 2 * ACT_BYTES;
  }
  const sum = sum4(f32x4.add(f32x4.add(low0, low1), f32x4.add(high0, high1)));
  return (k & 32) == 0 ? sum : f32x4.extract_lane(add_product(f32x4.splat(sum), sum_iq4_nl(w, y), scale_of(w, y)), 0);
}

/** Rows in the file's order, one by one; `whole`: IQ4_NL with blocks in one sum. */
@inline
function mul_mat_rows<Q>(whole: bool, w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  for (let row = 0; row < rows; row++) {
    let y = act;
    let out = dst;
    for (let t = n; t > 0; t--) {
      if (isFloat<Q>()) put1(out, whole ? row_iq4_nl_whole(w, k, y) : row_iq4_nl(w, k, y), bias, add);
      else put1(out, row_quads<Q>(w, k, y), bias, add);
      y += (k >> 5) * ACT_BYTES;
      out += stride << 2;
    }
    w += (k >> 5) * quad_block_bytes<Q>();
    dst += 4;
    if (bias != 0) bias += 4;
  }
}

/** ggml takes blocks whole where rows fall into groups of eight. */
export function mul_mat_q4_0(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  if ((rows & 7) == 0) mul_mat_blocks(w, rows, k, act, n, dst, stride, bias, add);
  else mul_mat_quads<Q4_0>(w, rows, k, act, n, dst, stride, bias, add);
}

export function mul_mat_q4_1(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  mul_mat_quads<Q4_1>(w, rows, k, act, n, dst, stride, bias, add);
}

export function mul_mat_q8_0(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  mul_mat_quads<Q8_0>(w, rows, k, act, n, dst, stride, bias, add);
}

export function mul_mat_q5_0(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  mul_mat_rows<Q5_0>(false, w, rows, k, act, n, dst, stride, bias, add);
}

export function mul_mat_q5_1(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  mul_mat_rows<Q5_1>(false, w, rows, k, act, n, dst, stride, bias, add);
}

export function mul_mat_iq4_nl(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  if ((rows & 7) == 0) mul_mat_rows<IQ4_NL>(true, w, rows, k, act, n, dst, stride, bias, add);
  else mul_mat_rows<IQ4_NL>(false, w, rows, k, act, n, dst, stride, bias, add);
}

// ── Floats: F32, F16, BF16 ───────────────────────────────────────────────────────────────────────────────────────────────────────

@inline
function mul_mat_float<T>(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  const zero = opaque_zero(rows);
  const mask = f16_mask(zero);
  const halfBias = f16_bias(zero);
  for (let row = 0; row < rows; row++) {
    let y = act;
    let out = dst;
    for (let t = n; t > 0; t--) {
      put1(out, dot32<T>(y, w, k, false, mask, halfBias), bias, add);
      y += k << 2;
      out += stride << 2;
    }
    w += k * sizeof<T>();
    dst += 4;
    if (bias != 0) bias += 4;
  }
}

export function mul_mat_f32(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  mul_mat_float<F32>(w, rows, k, act, n, dst, stride, bias, add);
}

export function mul_mat_f16(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  mul_mat_float<F16>(w, rows, k, act, n, dst, stride, bias, add);
}

export function mul_mat_bf16(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  mul_mat_float<BF16>(w, rows, k, act, n, dst, stride, bias, add);
}
