// Dot products and weighted sums of floats, added in the order of ggml's AVX2 code, which made the reference logits: where activations are
// rounded later, only the same order lets every rounding fall the same way. Half-precision products are exact in f32; those of F32 are fused.

import { BLOCK, KV_PAGE, KV_PAGE_LOG2 } from '../ops';
import { load1, load4, small1, small4 } from './blocks';
import { is_blocked, kv_bytes, quants16, scale_of, widen } from './kv';
import { fma1, fma4, sum4, upper } from './math';

/** The other order, ggml's for f32 and f16 products: (0 + 1) + (2 + 3). */
@inline
function sum4_pairs(v: v128): f32 {
  return f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1) + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3));
}

/** 32 lanes to four: those 16 apart, then 8. */
@inline
function sum_lanes(s0: v128, s1: v128, s2: v128, s3: v128, s4: v128, s5: v128, s6: v128, s7: v128): v128 {
  const low = f32x4.add(f32x4.add(s0, s4), f32x4.add(s2, s6));
  return f32x4.add(low, f32x4.add(f32x4.add(s1, s5), f32x4.add(s3, s7)));
}

/** a · b + c, fused; products of brain floats are rounded, those of halves exact in f32 either way. */
@inline
function madd<T>(a: v128, b: v128, c: v128): v128 {
  const fused = sizeof<T>() != 2 || (is_f16<T>() && ASC_FEATURE_RELAXED_SIMD);
  return fused ? fma4(a, b, c) : f32x4.add(c, f32x4.mul(a, b));
}

@inline
function is_f16<T>(): bool {
  return sizeof<T>() == 2 && !isSigned<T>();
}
@inline
function is_bf16<T>(): bool {
  return sizeof<T>() == 2 && isSigned<T>();
}

/** lanes32 with b in blocks: that of the dequantised values. n whole blocks. */
@inline
function lanes_of_blocks<T>(a: usize, b: usize, n: i32): v128 {
  let s0 = f32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  let s4 = s0;
  let s5 = s0;
  let s6 = s0;
  let s7 = s0;
  for (let i = n; i >= BLOCK; i -= BLOCK) {
    const d = scale_of<T>(b);
    const low = quants16<T>(b, false);
    const q01 = i16x8.extend_low_i8x16_s(low);
    const q23 = i16x8.extend_high_i8x16_s(low);
    s0 = fma4(v128.load(a), widen(i32x4.extend_low_i16x8_s(q01), d), s0);
    s1 = fma4(v128.load(a, 16), widen(i32x4.extend_high_i16x8_s(q01), d), s1);
    s2 = fma4(v128.load(a, 32), widen(i32x4.extend_low_i16x8_s(q23), d), s2);
    s3 = fma4(v128.load(a, 48), widen(i32x4.extend_high_i16x8_s(q23), d), s3);
    const high = quants16<T>(b, true);
    const q45 = i16x8.extend_low_i8x16_s(high);
    const q67 = i16x8.extend_high_i8x16_s(high);
    s4 = fma4(v128.load(a, 64), widen(i32x4.extend_low_i16x8_s(q45), d), s4);
    s5 = fma4(v128.load(a, 80), widen(i32x4.extend_high_i16x8_s(q45), d), s5);
    s6 = fma4(v128.load(a, 96), widen(i32x4.extend_low_i16x8_s(q67), d), s6);
    s7 = fma4(v128.load(a, 112), widen(i32x4.extend_high_i16x8_s(q67), d), s7);
    a += 4 * BLOCK;
    b += kv_bytes<T>(BLOCK);
  }
  return sum_lanes(s0, s1, s2, s3, s4, s5, s6, s7);
}

/**
 * The first whole 32s of Σ a · b: 32 lanes halved until four are left (16, then 8 apart). `small`: halves come as small4 has them, a times f16_partner.
 */
@inline
function lanes32<T>(a: usize, b: usize, n: i32, small: bool, mask: v128, bias: v128): v128 {
  let s0 = f32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  let s4 = s0;
  let s5 = s0;
  let s6 = s0;
  let s7 = s0;
  for (let i = n; i >= 32; i -= 32) {
    s0 = madd<T>(v128.load(a), small ? small4<T>(b, 0, mask) : load4<T>(b, 0, mask, bias), s0);
    s1 = madd<T>(v128.load(a, 16), small ? small4<T>(b, 4, mask) : load4<T>(b, 4, mask, bias), s1);
    s2 = madd<T>(v128.load(a, 32), small ? small4<T>(b, 8, mask) : load4<T>(b, 8, mask, bias), s2);
    s3 = madd<T>(v128.load(a, 48), small ? small4<T>(b, 12, mask) : load4<T>(b, 12, mask, bias), s3);
    s4 = madd<T>(v128.load(a, 64), small ? small4<T>(b, 16, mask) : load4<T>(b, 16, mask, bias), s4);
    s5 = madd<T>(v128.load(a, 80), small ? small4<T>(b, 20, mask) : load4<T>(b, 20, mask, bias), s5);
    s6 = madd<T>(v128.load(a, 96), small ? small4<T>(b, 24, mask) : load4<T>(b, 24, mask, bias), s6);
    s7 = madd<T>(v128.load(a, 112), small ? small4<T>(b, 28, mask) : load4<T>(b, 28, mask, bias), s7);
    a += 128;
    b += 32 * sizeof<T>();
  }
  return sum_lanes(s0, s1, s2, s3, s4, s5, s6, s7);
}

/**
 * Σ a · b over n values, a in f32, b of type T, in the order of ggml's AVX2 code: 32 lanes, halved until one is left (16, 8, 4; the last four
 * as the type has it), then the last n % 32 products in order, in f64 for halves. `small`: halves come as small4 has them, a times f16_partner.
 */
@inline
export function dot32<T>(a: usize, b: usize, n: i32, small: bool, mask: v128, bias: v128): f32 {
  const lanes = is_blocked<T>() ? lanes_of_blocks<T>(a, b, n) : lanes32<T>(a, b, n, small, mask, bias);
  let sum = is_bf16<T>() ? sum4(lanes) : sum4_pairs(lanes);
  if (is_blocked<T>()) return sum;
  if ((n & 31) != 0) {
    const whole: usize = n & ~31;
    a += whole << 2;
    b += whole * sizeof<T>();
    sum = sizeof<T>() == 4 ? tail_f32(sum, a, b, n & 31) : tail_half<T>(sum, a, b, n & 31, small, mask, bias);
  }
  return small && is_f16<T>() ? sum + sum : sum;
}

/** Products and sums are rounded apart but for the last n % 4, which are fused. */
@inline
function tail_f32(sum: f32, a: usize, b: usize, n: i32): f32 {
  for (; n > 3; n -= 4) {
    sum += load<f32>(a) * load<f32>(b);
    sum += load<f32>(a, 4) * load<f32>(b, 4);
    sum += load<f32>(a, 8) * load<f32>(b, 8);
    sum += load<f32>(a, 12) * load<f32>(b, 12);
    a += 16;
    b += 16;
  }
  for (; n > 0; n--) {
    sum = fma1(load<f32>(a), load<f32>(b), sum);
    a += 4;
    b += 4;
  }
  return sum;
}

@inline
function tail_half<T>(sum: f32, a: usize, b: usize, n: i32, small: bool, mask: v128, bias: v128): f32 {
  let total = <f64>sum;
  for (; n >= 4; n -= 4) {
    const w = f32x4.mul(v128.load(a), small ? small4<T>(b, 0, mask) : load4<T>(b, 0, mask, bias));
    const low = f64x2.promote_low_f32x4(w);
    const high = f64x2.promote_low_f32x4(upper(w));
    total = total + f64x2.extract_lane(low, 0) + f64x2.extract_lane(low, 1) + f64x2.extract_lane(high, 0) + f64x2.extract_lane(high, 1);
    a += 16;
    b += 4 * sizeof<T>();
  }
  for (; n > 0; n--) {
    total += <f64>(load<f32>(a) * (small ? small1<T>(b) : load1<T>(b)));
    a += 4;
    b += sizeof<T>();
  }
  return <f32>total;
}

// ── Weighted sums ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Halves that came 2^112 too small met partners 2^111 too large. */
@inline
function grown<T>(sum: v128): v128 {
  return is_f16<T>() ? f32x4.add(sum, sum) : sum;
}

/**
 * dst[n] = Σ over positions of p[position] · V[position], p times f16_partner where V is in halves, the positions being the lanes of dot32: with 32 lanes
 * and `count` padded by zeros to whole blocks of 32, each of which is a page: `v` is where a page at offset 0 would lie, `table` says the offsets.
 * Sixteen values at a time, so that a line of the cache is gone over once or twice, then four, then single ones.
 */
@inline
export function weighted_sum<T>(p: usize, v: usize, table: usize, step: usize, n: i32, count: i32, dst: usize, mask: v128): void {
  for (; n >= 16; n -= 16) {
    sixteen_sums<T>(p, v, false, table, step, count, dst, mask);
    dst += 64;
    if (is_blocked<T>()) {
      n -= 16;
      sixteen_sums<T>(p, v, true, table, step, count, dst, mask);
      dst += 64;
      v += kv_bytes<T>(BLOCK);
    } else v += 16 * sizeof<T>();
  }
  if (is_blocked<T>()) return;
  for (; n >= 4; n -= 4) {
    v128.store(dst, column<T>(p, v, true, table, step, count, mask));
    v += 4 * sizeof<T>();
    dst += 16;
  }
  for (; n > 0; n--) {
    v128.store32_lane(dst, column<T>(p, v, false, table, step, count, mask), 0);
    v += sizeof<T>();
    dst += 4;
  }
}

/**
 * Sixteen values, of a block the first or the last (`high`). A loop for each bit of a lane's number: the innermost adds lanes 16 apart, the next those
 * 8 apart, then 4, 1 and 2, as dot32 ends. Sums begin at −0, to which every number is added unchanged.
 */
@inline
function sixteen_sums<T>(p: usize, v: usize, high: bool, table: usize, step: usize, count: i32, dst: usize, mask: v128): void {
  const minus = f32x4.splat(-0.0);
  const whole: usize = table + ((count >> KV_PAGE_LOG2) << 2);
  const rest = count & (KV_PAGE - 1);
  let r0 = minus;
  let r1 = minus;
  let r2 = minus;
  let r3 = minus;
  for (let by2 = 0; by2 < 4; by2 += 2) {
    let q0 = minus;
    let q1 = minus;
    let q2 = minus;
    let q3 = minus;
    for (let by1 = 0; by1 < 2; by1++) {
      let t0 = minus;
      let t1 = minus;
      let t2 = minus;
      let t3 = minus;
      for (let by4 = 0; by4 < 8; by4 += 4) {
        let u0 = minus;
        let u1 = minus;
        let u2 = minus;
        let u3 = minus;
        for (let by8 = 0; by8 < 16; by8 += 8) {
          let w0 = minus;
          let w1 = minus;
          let w2 = minus;
          let w3 = minus;
          for (let by16 = 0; by16 < 32; by16 += 16) {
            const lane = by2 + by1 + by4 + by8 + by16;
            const row = v + lane * step;
            let weight: usize = p + (lane << 2);
            let s0 = f32x4.splat(0);
            let s1 = s0;
            let s2 = s0;
            let s3 = s0;
            let page = table;
            for (; page < whole; page += 4) {
              const at = row + load<i32>(page);
              const y = v128.load32_splat(weight);
              const q = is_blocked<T>() ? quants16<T>(at, high) : mask;
              const d = is_blocked<T>() ? scale_of<T>(at) : mask;
              s0 = madd<T>(y, four_of_sixteen<T>(at, 0, q, d, mask), s0);
              s1 = madd<T>(y, four_of_sixteen<T>(at, 4, q, d, mask), s1);
              s2 = madd<T>(y, four_of_sixteen<T>(at, 8, q, d, mask), s2);
              s3 = madd<T>(y, four_of_sixteen<T>(at, 12, q, d, mask), s3);
              weight += 4 * KV_PAGE;
            }
            if (lane < rest) {
              const at = row + load<i32>(page);
              const y = v128.load32_splat(weight);
              const q = is_blocked<T>() ? quants16<T>(at, high) : mask;
              const d = is_blocked<T>() ? scale_of<T>(at) : mask;
              s0 = madd<T>(y, four_of_sixteen<T>(at, 0, q, d, mask), s0);
              s1 = madd<T>(y, four_of_sixteen<T>(at, 4, q, d, mask), s1);
              s2 = madd<T>(y, four_of_sixteen<T>(at, 8, q, d, mask), s2);
              s3 = madd<T>(y, four_of_sixteen<T>(at, 12, q, d, mask), s3);
            }
            w0 = f32x4.add(w0, s0);
            w1 = f32x4.add(w1, s1);
            w2 = f32x4.add(w2, s2);
            w3 = f32x4.add(w3, s3);
          }
          u0 = f32x4.add(u0, w0);
          u1 = f32x4.add(u1, w1);
          u2 = f32x4.add(u2, w2);
          u3 = f32x4.add(u3, w3);
        }
        t0 = f32x4.add(t0, u0);
        t1 = f32x4.add(t1, u1);
        t2 = f32x4.add(t2, u2);
        t3 = f32x4.add(t3, u3);
      }
      q0 = f32x4.add(q0, t0);
      q1 = f32x4.add(q1, t1);
      q2 = f32x4.add(q2, t2);
      q3 = f32x4.add(q3, t3);
    }
    r0 = f32x4.add(r0, q0);
    r1 = f32x4.add(r1, q1);
    r2 = f32x4.add(r2, q2);
    r3 = f32x4.add(r3, q3);
  }
  v128.store(dst, grown<T>(r0));
  v128.store(dst, grown<T>(r1), 16);
  v128.store(dst, grown<T>(r2), 32);
  v128.store(dst, grown<T>(r3), 48);
}

/** Values i … i + 3 of sixteen at `at`; q, d: those of a block, and its scale. */
@inline
function four_of_sixteen<T>(at: usize, i: i32, q: v128, d: v128, mask: v128): v128 {
  if (!is_blocked<T>()) return small4<T>(at, i, mask);
  const eight = i < 8 ? i16x8.extend_low_i8x16_s(q) : i16x8.extend_high_i8x16_s(q);
  return widen((i & 4) == 0 ? i32x4.extend_low_i16x8_s(eight) : i32x4.extend_high_i16x8_s(eight), d);
}

@inline
function column_of<T>(at: usize, four: bool, mask: v128): v128 {
  return four ? small4<T>(at, 0, mask) : f32x4.splat(small1<T>(at));
}

/** Four values, or copies of one: the same sums. */
@inline
function column<T>(p: usize, v: usize, four: bool, table: usize, step: usize, count: i32, mask: v128): v128 {
  const whole: usize = table + ((count >> KV_PAGE_LOG2) << 2);
  const rest = count & (KV_PAGE - 1);
  let r = f32x4.splat(-0.0);
  for (let by2 = 0; by2 < 4; by2 += 2) {
    let q = f32x4.splat(-0.0);
    for (let by1 = 0; by1 < 2; by1++) {
      let t = f32x4.splat(-0.0);
      for (let by4 = 0; by4 < 8; by4 += 4) {
        let u = f32x4.splat(-0.0);
        for (let by8 = 0; by8 < 16; by8 += 8) {
          let w = f32x4.splat(-0.0);
          for (let by16 = 0; by16 < 32; by16 += 16) {
            const lane = by2 + by1 + by4 + by8 + by16;
            const row = v + lane * step;
            let weight: usize = p + (lane << 2);
            let s = f32x4.splat(0);
            let page = table;
            for (; page < whole; page += 4) {
              s = madd<T>(v128.load32_splat(weight), column_of<T>(row + load<i32>(page), four, mask), s);
              weight += 4 * KV_PAGE;
            }
            if (lane < rest) s = madd<T>(v128.load32_splat(weight), column_of<T>(row + load<i32>(page), four, mask), s);
            w = f32x4.add(w, s);
          }
          u = f32x4.add(u, w);
        }
        t = f32x4.add(t, u);
      }
      q = f32x4.add(q, t);
    }
    r = f32x4.add(r, q);
  }
  return grown<T>(r);
}
