// Matrix products dst[t][rows] = W · act[t] for every weight type, straight from the stored blocks. Four rows are lanes of one vector, so
// each row's sum is formed in block order whatever the batch: one token or many, SIMD128 or relaxed, grouped or left-over row give the
// same bits. Per block of 32 the integer sum is exact, then sum = f32(sum + isum · (dw · dx)) with one rounding (through f64), as ggml's fused
// multiply-add gives it; Q4_1 rounds product and sum apart. Float weights sum in four lanes over
// k, lanes (0 + 2) + (1 + 3) at the end, then the last k % 4 products in order. Tokens share each pass over the weights.

import {
  ACT_BIAS, ACT_BYTES, ACT_D, ACT_Q16, ACT_Q8, ACT_S, GROUP, Q4_0_BYTES, Q4_1_BYTES, Q8_0_BYTES, TYPE_BF16, TYPE_F16, TYPE_F32, TYPE_Q4_0, TYPE_Q4_1,
} from '../ops';
import { BF16, F16, F32, bits4, f16_bias, f16_mask, f16_to_f32, load1, load4, load_f16x4, opaque_zero, scaled4 } from './blocks';
import { sum4, sums4 } from './math';

// The relaxed build differs in two instructions, the int8 × int7 dot product and the f64 multiply-add, given operands for which the specification
// allows one result.
const RELAXED = ASC_FEATURE_RELAXED_SIMD;

/** Where results go: f32[token][stride], plus bias f32[rows] when biasAt ≠ 0, added to what is there when `add`. */
@inline
function put4(dst: usize, v: v128, bias: usize, add: bool): void {
  if (bias != 0) v = f32x4.add(v, v128.load(bias));
  if (add) v = f32x4.add(v128.load(dst), v);
  v128.store(dst, v);
}
@inline
function put1(dst: usize, v: f32, bias: usize, add: bool): void {
  if (bias != 0) v += load<f32>(bias);
  if (add) v = load<f32>(dst) + v;
  store<f32>(dst, v);
}

// ── Blocks of 32: Q4_0, Q4_1, Q8_0 ───────────────────────────────────────────────────────────────────────────────────────────────

/** Tags of the two 4-bit types. */
type Q4_0 = i32;
type Q4_1 = u32;

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

/** sum + isum · scale, rounded once: |isum| < 2^20 makes the product exact in f64. */
@inline
function add_product(sum: v128, isum: v128, scale: v128): v128 {
  const a = f32x4.demote_f64x2_zero(add_exact(f64x2.convert_low_i32x4_s(isum), f64x2.promote_low_f32x4(scale), f64x2.promote_low_f32x4(sum)));
  const b = f32x4.demote_f64x2_zero(
    add_exact(f64x2.convert_low_i32x4_s(upper(isum)), f64x2.promote_low_f32x4(upper(scale)), f64x2.promote_low_f32x4(upper(sum))),
  );
  return v128.shuffle<i64>(a, b, 0, 2);
}
/** a · b + c of a product that is exact, so that a fused and an unfused multiply-add agree. */
@inline
function add_exact(a: v128, b: v128, c: v128): v128 {
  return RELAXED ? f64x2.relaxed_madd(a, b, c) : f64x2.add(f64x2.mul(a, b), c);
}
@inline
function upper(v: v128): v128 {
  return v128.shuffle<i64>(v, v, 1, 0);
}

/** sum + the block's product, of four rows: scales `d`, minima `m` (Q4_1). */
@inline
function add_q4<Q>(sum: v128, isum: v128, d: v128, m: v128, y: usize): v128 {
  const scale = f32x4.mul(d, v128.load32_splat(y, ACT_D));
  if (isSigned<Q>()) return add_product(sum, i32x4.add(isum, v128.load32_splat(y, ACT_BIAS)), scale);
  return f32x4.add(sum, f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(isum), scale), f32x4.mul(m, v128.load32_splat(y, ACT_S))));
}

/** One left-over row in the file's order times one token. */
function row_q4<Q>(w: usize, k: i32, y: usize): f32 {
  const header: usize = isSigned<Q>() ? 2 : 4;
  let sum: f32 = 0;
  for (let b = k >> 5; b > 0; b--) {
    const q = v128.load(w + header);
    const low = v128.and(q, i8x16.splat(15));
    const high = i8x16.shr_u(q, 4);
    let t = i32x4.dot_i16x8_s(v128.load(y, ACT_Q16), i16x8.extend_low_i8x16_u(low));
    t = i32x4.add(t, i32x4.dot_i16x8_s(v128.load(y, ACT_Q16 + 16), i16x8.extend_high_i8x16_u(low)));
    t = i32x4.add(t, i32x4.dot_i16x8_s(v128.load(y, ACT_Q16 + 32), i16x8.extend_low_i8x16_u(high)));
    t = i32x4.add(t, i32x4.dot_i16x8_s(v128.load(y, ACT_Q16 + 48), i16x8.extend_high_i8x16_u(high)));
    const isum = i32x4.splat(sum_i32x4(t));
    const m: f32 = isSigned<Q>() ? 0 : f16_to_f32(load<u16>(w, 2));
    sum = f32x4.extract_lane(add_q4<Q>(f32x4.splat(sum), isum, f32x4.splat(f16_to_f32(load<u16>(w))), f32x4.splat(m), y), 0);
    w += header + 16;
    y += ACT_BYTES;
  }
  return sum;
}

@inline
function sum_i32x4(t: v128): i32 {
  return i32x4.extract_lane(t, 0) + i32x4.extract_lane(t, 1) + i32x4.extract_lane(t, 2) + i32x4.extract_lane(t, 3);
}

@inline
function mul_mat_q4<Q>(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  const header: usize = isSigned<Q>() ? 8 : 16;
  const block = header + 64;
  const rowBytes = (k >> 5) * (isSigned<Q>() ? Q4_0_BYTES : Q4_1_BYTES);
  const actStep = (k >> 5) * ACT_BYTES;
  const dstStep: usize = stride << 2;
  const zero = opaque_zero(rows);
  const mask = RELAXED ? i8x16.splat(<i8>(zero + 15)) : i16x8.splat(<i16>(zero + 15));
  const one = i16x8.splat(<i16>(zero + 1));
  const halfMask = f16_mask(zero);
  const halfBias = f16_bias(zero);
  let m = f32x4.splat(0);
  let row = 0;
  for (; row + GROUP <= rows; row += GROUP) {
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
      for (let p = w; p < end; p += block) {
        const d = load_f16x4(p, halfMask, halfBias);
        if (!isSigned<Q>()) m = load_f16x4(p + 8, halfMask, halfBias);
        const q0 = v128.load(p + header);
        const q1 = v128.load(p + header, 16);
        const q2 = v128.load(p + header, 32);
        const q3 = v128.load(p + header, 48);
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
        sum0 = add_q4<Q>(sum0, dot_q4(a0, b0, c0, d0, a1, b1, c1, d1, a2, b2, c2, d2, a3, b3, c3, d3, y0, one), d, m, y0);
        sum1 = add_q4<Q>(sum1, dot_q4(a0, b0, c0, d0, a1, b1, c1, d1, a2, b2, c2, d2, a3, b3, c3, d3, y1, one), d, m, y1);
        sum2 = add_q4<Q>(sum2, dot_q4(a0, b0, c0, d0, a1, b1, c1, d1, a2, b2, c2, d2, a3, b3, c3, d3, y2, one), d, m, y2);
        sum3 = add_q4<Q>(sum3, dot_q4(a0, b0, c0, d0, a1, b1, c1, d1, a2, b2, c2, d2, a3, b3, c3, d3, y3, one), d, m, y3);
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
      for (let p = w; p < end; p += block) {
        const q0 = v128.load(p + header);
        const q1 = v128.load(p + header, 16);
        const q2 = v128.load(p + header, 32);
        const q3 = v128.load(p + header, 48);
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
        if (!isSigned<Q>()) m = load_f16x4(p + 8, halfMask, halfBias);
        sum = add_q4<Q>(sum, dot_q4(a0, b0, c0, d0, a1, b1, c1, d1, a2, b2, c2, d2, a3, b3, c3, d3, y0, one), load_f16x4(p, halfMask, halfBias), m, y0);
        y0 += ACT_BYTES;
      }
      put4(out, sum, bias, add);
      out += dstStep;
    }
    w = end;
    dst += 16;
    if (bias != 0) bias += 16;
  }
  for (; row < rows; row++) {
    for (let t = 0; t < n; t++) put1(dst + t * dstStep, row_q4<Q>(w, k, act + t * actStep), bias, add);
    w += rowBytes;
    dst += 4;
    if (bias != 0) bias += 4;
  }
}

export function mul_mat_q4_0(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  mul_mat_q4<Q4_0>(w, rows, k, act, n, dst, stride, bias, add);
}

export function mul_mat_q4_1(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  mul_mat_q4<Q4_1>(w, rows, k, act, n, dst, stride, bias, add);
}

/** One block of four rows times one token: Σ weight · q per row. Each vector of weights holds two values of four rows. */
@inline
function dot_q8(
  w0: v128, w1: v128, w2: v128, w3: v128, w4: v128, w5: v128, w6: v128, w7: v128,
  w8: v128, w9: v128, w10: v128, w11: v128, w12: v128, w13: v128, w14: v128, w15: v128,
  y: usize,
): v128 {
  const y0 = v128.load(y, ACT_Q16 + 0);
  const y1 = v128.load(y, ACT_Q16 + 16);
  const y2 = v128.load(y, ACT_Q16 + 32);
  const y3 = v128.load(y, ACT_Q16 + 48);
  let t = i32x4.dot_i16x8_s(v128.shuffle<i32>(y0, y0, 0, 0, 0, 0), w0);
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y0, y0, 1, 1, 1, 1), w1));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y0, y0, 2, 2, 2, 2), w2));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y0, y0, 3, 3, 3, 3), w3));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y1, y1, 0, 0, 0, 0), w4));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y1, y1, 1, 1, 1, 1), w5));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y1, y1, 2, 2, 2, 2), w6));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y1, y1, 3, 3, 3, 3), w7));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y2, y2, 0, 0, 0, 0), w8));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y2, y2, 1, 1, 1, 1), w9));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y2, y2, 2, 2, 2, 2), w10));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y2, y2, 3, 3, 3, 3), w11));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y3, y3, 0, 0, 0, 0), w12));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y3, y3, 1, 1, 1, 1), w13));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y3, y3, 2, 2, 2, 2), w14));
  t = i32x4.add(t, i32x4.dot_i16x8_s(v128.shuffle<i32>(y3, y3, 3, 3, 3, 3), w15));
  return t;
}

@inline
function add_q8(sum: v128, isum: v128, d: v128, y: usize): v128 {
  return add_product(sum, isum, f32x4.mul(d, v128.load32_splat(y, ACT_D)));
}

/** One left-over row in the file's order times one token. */
function row_q8_0(w: usize, k: i32, y: usize): f32 {
  let sum: f32 = 0;
  for (let b = k >> 5; b > 0; b--) {
    let t = i32x4.dot_i16x8_s(v128.load(y, ACT_Q16), v128.load8x8_s(w, 2));
    t = i32x4.add(t, i32x4.dot_i16x8_s(v128.load(y, ACT_Q16 + 16), v128.load8x8_s(w, 10)));
    t = i32x4.add(t, i32x4.dot_i16x8_s(v128.load(y, ACT_Q16 + 32), v128.load8x8_s(w, 18)));
    t = i32x4.add(t, i32x4.dot_i16x8_s(v128.load(y, ACT_Q16 + 48), v128.load8x8_s(w, 26)));
    sum = <f32>(<f64>sum + <f64>sum_i32x4(t) * <f64>(f16_to_f32(load<u16>(w)) * load<f32>(y, ACT_D)));
    w += Q8_0_BYTES;
    y += ACT_BYTES;
  }
  return sum;
}

export function mul_mat_q8_0(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  const rowBytes = (k >> 5) * Q8_0_BYTES;
  const actStep = (k >> 5) * ACT_BYTES;
  const dstStep: usize = stride << 2;
  const zero = opaque_zero(rows);
  const halfMask = f16_mask(zero);
  const halfBias = f16_bias(zero);
  let row = 0;
  for (; row + GROUP <= rows; row += GROUP) {
    const end = w + GROUP * rowBytes;
    let y0 = act;
    let out = dst;
    let t = n;
    for (; t >= 4; t -= 4) {
      let y1 = y0 + actStep;
      let y2 = y1 + actStep;
      let y3 = y2 + actStep;
      let sum0 = f32x4.splat(0);
      let sum1 = f32x4.splat(0);
      let sum2 = f32x4.splat(0);
      let sum3 = f32x4.splat(0);
      for (let p = w; p < end; p += 136) {
        const q0 = v128.load(p, 8);
        const q1 = v128.load(p, 24);
        const q2 = v128.load(p, 40);
        const q3 = v128.load(p, 56);
        const q4 = v128.load(p, 72);
        const q5 = v128.load(p, 88);
        const q6 = v128.load(p, 104);
        const q7 = v128.load(p, 120);
        const w0 = i16x8.extend_low_i8x16_s(q0);
        const w1 = i16x8.extend_high_i8x16_s(q0);
        const w2 = i16x8.extend_low_i8x16_s(q1);
        const w3 = i16x8.extend_high_i8x16_s(q1);
        const w4 = i16x8.extend_low_i8x16_s(q2);
        const w5 = i16x8.extend_high_i8x16_s(q2);
        const w6 = i16x8.extend_low_i8x16_s(q3);
        const w7 = i16x8.extend_high_i8x16_s(q3);
        const w8 = i16x8.extend_low_i8x16_s(q4);
        const w9 = i16x8.extend_high_i8x16_s(q4);
        const w10 = i16x8.extend_low_i8x16_s(q5);
        const w11 = i16x8.extend_high_i8x16_s(q5);
        const w12 = i16x8.extend_low_i8x16_s(q6);
        const w13 = i16x8.extend_high_i8x16_s(q6);
        const w14 = i16x8.extend_low_i8x16_s(q7);
        const w15 = i16x8.extend_high_i8x16_s(q7);
        const d = load_f16x4(p, halfMask, halfBias);
        sum0 = add_q8(sum0, dot_q8(w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15, y0), d, y0);
        sum1 = add_q8(sum1, dot_q8(w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15, y1), d, y1);
        sum2 = add_q8(sum2, dot_q8(w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15, y2), d, y2);
        sum3 = add_q8(sum3, dot_q8(w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15, y3), d, y3);
        y0 += ACT_BYTES;
        y1 += ACT_BYTES;
        y2 += ACT_BYTES;
        y3 += ACT_BYTES;
      }
      put4(out + 0 * dstStep, sum0, bias, add);
      put4(out + 1 * dstStep, sum1, bias, add);
      put4(out + 2 * dstStep, sum2, bias, add);
      put4(out + 3 * dstStep, sum3, bias, add);
      y0 = y3;
      out += 4 * dstStep;
    }
    for (; t > 0; t--) {
      let sum = f32x4.splat(0);
      for (let p = w; p < end; p += 136) {
        const q0 = v128.load(p, 8);
        const q1 = v128.load(p, 24);
        const q2 = v128.load(p, 40);
        const q3 = v128.load(p, 56);
        const q4 = v128.load(p, 72);
        const q5 = v128.load(p, 88);
        const q6 = v128.load(p, 104);
        const q7 = v128.load(p, 120);
        const w0 = i16x8.extend_low_i8x16_s(q0);
        const w1 = i16x8.extend_high_i8x16_s(q0);
        const w2 = i16x8.extend_low_i8x16_s(q1);
        const w3 = i16x8.extend_high_i8x16_s(q1);
        const w4 = i16x8.extend_low_i8x16_s(q2);
        const w5 = i16x8.extend_high_i8x16_s(q2);
        const w6 = i16x8.extend_low_i8x16_s(q3);
        const w7 = i16x8.extend_high_i8x16_s(q3);
        const w8 = i16x8.extend_low_i8x16_s(q4);
        const w9 = i16x8.extend_high_i8x16_s(q4);
        const w10 = i16x8.extend_low_i8x16_s(q5);
        const w11 = i16x8.extend_high_i8x16_s(q5);
        const w12 = i16x8.extend_low_i8x16_s(q6);
        const w13 = i16x8.extend_high_i8x16_s(q6);
        const w14 = i16x8.extend_low_i8x16_s(q7);
        const w15 = i16x8.extend_high_i8x16_s(q7);
        sum = add_q8(sum, dot_q8(w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15, y0), load_f16x4(p, halfMask, halfBias), y0);
        y0 += ACT_BYTES;
      }
      put4(out, sum, bias, add);
      out += dstStep;
    }
    w = end;
    dst += 16;
    if (bias != 0) bias += 16;
  }
  for (; row < rows; row++) {
    for (let t = 0; t < n; t++) put1(dst + t * dstStep, row_q8_0(w, k, act + t * actStep), bias, add);
    w += rowBytes;
    dst += 4;
    if (bias != 0) bias += 4;
  }
}

// ── Floats: F32, F16, BF16 ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** One row times one token, in the order of the header. */
@inline
function dot_float<T>(w: usize, k: i32, y: usize): f32 {
  const mask = f16_mask(0);
  const bias = f16_bias(0);
  let sum = f32x4.splat(0);
  let i = 0;
  for (; i + 4 <= k; i += 4) {
    sum = f32x4.add(sum, f32x4.mul(load4<T>(w, mask, bias), v128.load(y)));
    w += 4 * sizeof<T>();
    y += 16;
  }
  let s = sum4(sum);
  for (; i < k; i++) {
    s += load1<T>(w) * load<f32>(y);
    w += sizeof<T>();
    y += 4;
  }
  return s;
}

/** Four values `step` bytes apart. */
@inline
function gather4(p: usize, step: usize): v128 {
  let v = v128.load32_splat(p);
  v = f32x4.replace_lane(v, 1, load<f32>(p + step));
  v = f32x4.replace_lane(v, 2, load<f32>(p + 2 * step));
  return f32x4.replace_lane(v, 3, load<f32>(p + 3 * step));
}

/** Four rows times one token: a vector of four sums, each in the order of the header. */
function rows4<T>(w: usize, k: i32, y: usize, dst: usize, bias: usize, add: bool, mask: v128, halfBias: v128): void {
  const rowBytes: usize = k * sizeof<T>();
  const w1 = w + rowBytes;
  const w2 = w1 + rowBytes;
  const w3 = w2 + rowBytes;
  let a = f32x4.splat(0);
  let b = a;
  let c = a;
  let d = a;
  let i = 0;
  for (; i + 8 <= k; i += 8) {
    const at = i * sizeof<T>();
    const next = at + 4 * sizeof<T>();
    const x = scaled4<T>(y + (i << 2), halfBias);
    a = f32x4.add(a, f32x4.mul(bits4<T>(w + at, mask), x));
    b = f32x4.add(b, f32x4.mul(bits4<T>(w1 + at, mask), x));
    c = f32x4.add(c, f32x4.mul(bits4<T>(w2 + at, mask), x));
    d = f32x4.add(d, f32x4.mul(bits4<T>(w3 + at, mask), x));
    const z = scaled4<T>(y + (i << 2) + 16, halfBias);
    a = f32x4.add(a, f32x4.mul(bits4<T>(w + next, mask), z));
    b = f32x4.add(b, f32x4.mul(bits4<T>(w1 + next, mask), z));
    c = f32x4.add(c, f32x4.mul(bits4<T>(w2 + next, mask), z));
    d = f32x4.add(d, f32x4.mul(bits4<T>(w3 + next, mask), z));
  }
  for (; i + 4 <= k; i += 4) {
    const at = i * sizeof<T>();
    const x = scaled4<T>(y + (i << 2), halfBias);
    a = f32x4.add(a, f32x4.mul(bits4<T>(w + at, mask), x));
    b = f32x4.add(b, f32x4.mul(bits4<T>(w1 + at, mask), x));
    c = f32x4.add(c, f32x4.mul(bits4<T>(w2 + at, mask), x));
    d = f32x4.add(d, f32x4.mul(bits4<T>(w3 + at, mask), x));
  }
  let sum = sums4(a, b, c, d);
  for (; i < k; i++) {
    const at = i * sizeof<T>();
    let v = f32x4.splat(load1<T>(w + at));
    v = f32x4.replace_lane(v, 1, load1<T>(w1 + at));
    v = f32x4.replace_lane(v, 2, load1<T>(w2 + at));
    v = f32x4.replace_lane(v, 3, load1<T>(w3 + at));
    sum = f32x4.add(sum, f32x4.mul(v, v128.load32_splat(y + (i << 2))));
  }
  put4(dst, sum, bias, add);
}

/** One row times four tokens, which share each weight read, their activations `step` bytes apart: lane t is the sum of token t. */
function row_tokens4<T>(w: usize, k: i32, y: usize, step: usize, mask: v128, halfBias: v128): v128 {
  let a = f32x4.splat(0);
  let b = a;
  let c = a;
  let d = a;
  let i = 0;
  for (; i + 4 <= k; i += 4) {
    const x = load4<T>(w, mask, halfBias);
    a = f32x4.add(a, f32x4.mul(x, v128.load(y)));
    b = f32x4.add(b, f32x4.mul(x, v128.load(y + step)));
    c = f32x4.add(c, f32x4.mul(x, v128.load(y + 2 * step)));
    d = f32x4.add(d, f32x4.mul(x, v128.load(y + 3 * step)));
    w += 4 * sizeof<T>();
    y += 16;
  }
  let sum = sums4(a, b, c, d);
  for (; i < k; i++) {
    sum = f32x4.add(sum, f32x4.mul(f32x4.splat(load1<T>(w)), gather4(y, step)));
    w += sizeof<T>();
    y += 4;
  }
  return sum;
}

@inline
function mul_mat_float<T>(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  const rowBytes: usize = k * sizeof<T>();
  const step: usize = k << 2;
  const dstStep: usize = stride << 2;
  const zero = opaque_zero(rows);
  const mask = f16_mask(zero);
  const halfBias = f16_bias(zero);
  let row = 0;
  for (; row + GROUP <= rows; row += GROUP) {
    let y = act;
    let out = dst;
    let t = n;
    for (; t >= 4; t -= 4) {
      const r0 = row_tokens4<T>(w, k, y, step, mask, halfBias);
      const r1 = row_tokens4<T>(w + rowBytes, k, y, step, mask, halfBias);
      const r2 = row_tokens4<T>(w + 2 * rowBytes, k, y, step, mask, halfBias);
      const r3 = row_tokens4<T>(w + 3 * rowBytes, k, y, step, mask, halfBias);
      const a = v128.shuffle<i32>(r0, r1, 0, 4, 1, 5); // rows 0 and 1 of tokens 0 and 1
      const b = v128.shuffle<i32>(r2, r3, 0, 4, 1, 5);
      const c = v128.shuffle<i32>(r0, r1, 2, 6, 3, 7);
      const d = v128.shuffle<i32>(r2, r3, 2, 6, 3, 7);
      put4(out, v128.shuffle<i64>(a, b, 0, 2), bias, add);
      put4(out + dstStep, v128.shuffle<i64>(a, b, 1, 3), bias, add);
      put4(out + 2 * dstStep, v128.shuffle<i64>(c, d, 0, 2), bias, add);
      put4(out + 3 * dstStep, v128.shuffle<i64>(c, d, 1, 3), bias, add);
      y += 4 * step;
      out += 4 * dstStep;
    }
    for (; t > 0; t--) {
      rows4<T>(w, k, y, out, bias, add, mask, halfBias);
      y += step;
      out += dstStep;
    }
    w += GROUP * rowBytes;
    dst += 16;
    if (bias != 0) bias += 16;
  }
  for (; row < rows; row++) {
    for (let t = 0; t < n; t++) put1(dst + t * dstStep, dot_float<T>(w, k, act + t * step), bias, add);
    w += rowBytes;
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
