// Dot products and weighted sums of floats, added in the order of ggml's AVX2 code, which made the reference logits: where activations are
// rounded later, only the same order lets every rounding fall the same way. Half-precision products are exact in f32; those of F32 are fused.

import { BLOCK, KV_PAGE } from '../ops';
import { load1, load4 } from './blocks';
import { block4, has_nibbles, is_blocked, kv_bytes, quants16, scale_of, widen } from './kv';
import { fma1, fma4, sum4 } from './math';

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

/** a · b + c: products of halves are exact in f32, all others are fused. */
@inline
function madd<T>(a: v128, b: v128, c: v128): v128 {
  return sizeof<T>() != 2 ? fma4(a, b, c) : f32x4.add(c, f32x4.mul(a, b));
}

/** Σ a · b over n values, a in f32, b in blocks: dot32<F32> over the dequantised values. */
@inline
function dot_blocks<T>(a: usize, b: usize, n: i32): f32 {
  let s0 = f32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  let s4 = s0;
  let s5 = s0;
  let s6 = s0;
  let s7 = s0;
  for (let i = 0; i + BLOCK <= n; i += BLOCK) {
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
  return sum4_pairs(sum_lanes(s0, s1, s2, s3, s4, s5, s6, s7));
}

/**
 * Σ a · b over n values, a in f32, b of type T, in the order of ggml's AVX2 code: 32 lanes, halved until one is left (16, 8, 4; the last four
 * as the type has it), then the last n % 32 products in order, in f64 for halves.
 */
@inline
export function dot32<T>(a: usize, b: usize, n: i32, mask: v128, bias: v128): f32 {
  if (is_blocked<T>()) return dot_blocks<T>(a, b, n);
  let s0 = f32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  let s4 = s0;
  let s5 = s0;
  let s6 = s0;
  let s7 = s0;
  let i = 0;
  for (; i + 32 <= n; i += 32) {
    s0 = madd<T>(v128.load(a), load4<T>(b, mask, bias), s0);
    s1 = madd<T>(v128.load(a, 16), load4<T>(b + 4 * sizeof<T>(), mask, bias), s1);
    s2 = madd<T>(v128.load(a, 32), load4<T>(b + 8 * sizeof<T>(), mask, bias), s2);
    s3 = madd<T>(v128.load(a, 48), load4<T>(b + 12 * sizeof<T>(), mask, bias), s3);
    s4 = madd<T>(v128.load(a, 64), load4<T>(b + 16 * sizeof<T>(), mask, bias), s4);
    s5 = madd<T>(v128.load(a, 80), load4<T>(b + 20 * sizeof<T>(), mask, bias), s5);
    s6 = madd<T>(v128.load(a, 96), load4<T>(b + 24 * sizeof<T>(), mask, bias), s6);
    s7 = madd<T>(v128.load(a, 112), load4<T>(b + 28 * sizeof<T>(), mask, bias), s7);
    a += 128;
    b += 32 * sizeof<T>();
  }
  const lanes = sum_lanes(s0, s1, s2, s3, s4, s5, s6, s7);
  const sum = isSigned<T>() && sizeof<T>() == 2 ? sum4(lanes) : sum4_pairs(lanes);
  if (i == n) return sum;
  return sizeof<T>() == 4 ? tail_f32(sum, a, b, n - i) : tail_half<T>(sum, a, b, n - i);
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
function tail_half<T>(sum: f32, a: usize, b: usize, n: i32): f32 {
  let total = <f64>sum;
  for (; n > 0; n--) {
    total += <f64>(load<f32>(a) * load1<T>(b));
    a += 4;
    b += sizeof<T>();
  }
  return <f32>total;
}

/** What is taken of a row for a vector: four values, or four copies of one; of a block with nibbles four low ones, or the four high ones beside them. */
enum Part { FOUR, ONE, HIGH }

/**
 * dst[n] = Σ over positions of p[position] · V[position], the positions being the lanes of dot32: with 32 lanes and `count` padded by zeros to
 * whole blocks of 32, each of which is a page: `v` is where a page at offset 0 would lie, `table` says the offsets. Four values at a time, then
 * single ones.
 */
@inline
export function weighted_sum<T>(p: usize, v: usize, table: usize, step: usize, n: i32, count: i32, dst: usize, mask: v128, bias: v128): void {
  if (has_nibbles<T>()) return nibble_sums<T>(p, v, table, step, n, count, dst, mask, bias);
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    if (is_blocked<T>()) v128.store(dst + (i << 2), columns<T>(p, v + kv_bytes<T>(i), i & 31, Part.FOUR, table, step, count, mask, bias));
    else v128.store(dst + (i << 2), columns<T>(p, v, i * sizeof<T>(), Part.FOUR, table, step, count, mask, bias));
  }
  if (is_blocked<T>()) return;
  for (; i < n; i++) v128.store32_lane(dst + (i << 2), columns<T>(p, v, i * sizeof<T>(), Part.ONE, table, step, count, mask, bias), 0);
}

/** The same of blocks of nibbles, in the order of their bytes. */
@inline
function nibble_sums<T>(p: usize, v: usize, table: usize, step: usize, n: i32, count: i32, dst: usize, mask: v128, bias: v128): void {
  for (; n > 0; n -= BLOCK) {
    for (let c: usize = 0; c < 16; c += 4) {
      v128.store(dst, columns<T>(p, v, c, Part.FOUR, table, step, count, mask, bias));
      v128.store(dst, columns<T>(p, v, c, Part.HIGH, table, step, count, mask, bias), 64);
      dst += 16;
    }
    v += kv_bytes<T>(BLOCK);
    dst += 64;
  }
}

/** A vector of weighted sums: of the values `at` bytes into the rows, of the quants as many bytes into the blocks. */
@inline
function columns<T>(p: usize, v: usize, at: usize, part: Part, table: usize, step: usize, count: i32, mask: v128, bias: v128): v128 {
  const t0 = two_lanes<T>(p, v, at, part, table, step, count, 0, mask, bias);
  const t1 = two_lanes<T>(p, v, at, part, table, step, count, 1, mask, bias);
  const t2 = two_lanes<T>(p, v, at, part, table, step, count, 2, mask, bias);
  const t3 = two_lanes<T>(p, v, at, part, table, step, count, 3, mask, bias);
  return f32x4.add(f32x4.add(t0, t1), f32x4.add(t2, t3));
}

/** The part of lanes `lane` and `lane` + 4 of each eight: positions lane, lane + 4, lane + 8, … */
@inline
function two_lanes<T>(p: usize, v: usize, at: usize, part: Part, table: usize, step: usize, count: i32, lane: i32, mask: v128, bias: v128): v128 {
  let a0 = f32x4.splat(0);
  let a1 = a0;
  let a2 = a0;
  let a3 = a0;
  let b0 = a0;
  let b1 = a0;
  let b2 = a0;
  let b3 = a0;
  const next = 4 * step;
  v += lane * step + (is_blocked<T>() ? 0 : at);
  p += lane << 2;
  let left = count;
  for (; left >= KV_PAGE; left -= KV_PAGE) {
    let x = v + load<i32>(table);
    a0 = madd<T>(v128.load32_splat(p), value<T>(x, at, part, mask, bias), a0);
    b0 = madd<T>(v128.load32_splat(p, 16), value<T>((x += next), at, part, mask, bias), b0);
    a1 = madd<T>(v128.load32_splat(p, 32), value<T>((x += next), at, part, mask, bias), a1);
    b1 = madd<T>(v128.load32_splat(p, 48), value<T>((x += next), at, part, mask, bias), b1);
    a2 = madd<T>(v128.load32_splat(p, 64), value<T>((x += next), at, part, mask, bias), a2);
    b2 = madd<T>(v128.load32_splat(p, 80), value<T>((x += next), at, part, mask, bias), b2);
    a3 = madd<T>(v128.load32_splat(p, 96), value<T>((x += next), at, part, mask, bias), a3);
    b3 = madd<T>(v128.load32_splat(p, 112), value<T>((x += next), at, part, mask, bias), b3);
    table += 4;
    p += 128;
  }
  left -= lane;
  if (left > 0) {
    const x = v + load<i32>(table);
    a0 = madd<T>(v128.load32_splat(p), value<T>(x, at, part, mask, bias), a0);
    if (left > 4) b0 = madd<T>(v128.load32_splat(p, 16), value<T>(x + next, at, part, mask, bias), b0);
    if (left > 8) a1 = madd<T>(v128.load32_splat(p, 32), value<T>(x + 2 * next, at, part, mask, bias), a1);
    if (left > 12) b1 = madd<T>(v128.load32_splat(p, 48), value<T>(x + 3 * next, at, part, mask, bias), b1);
    if (left > 16) a2 = madd<T>(v128.load32_splat(p, 64), value<T>(x + 4 * next, at, part, mask, bias), a2);
    if (left > 20) b2 = madd<T>(v128.load32_splat(p, 80), value<T>(x + 5 * next, at, part, mask, bias), b2);
    if (left > 24) a3 = madd<T>(v128.load32_splat(p, 96), value<T>(x + 6 * next, at, part, mask, bias), a3);
    if (left > 28) b3 = madd<T>(v128.load32_splat(p, 112), value<T>(x + 7 * next, at, part, mask, bias), b3);
  }
  const a = f32x4.add(f32x4.add(a0, a2), f32x4.add(a1, a3));
  return f32x4.add(a, f32x4.add(f32x4.add(b0, b2), f32x4.add(b1, b3)));
}

@inline
function value<T>(row: usize, at: usize, part: Part, mask: v128, bias: v128): v128 {
  if (is_blocked<T>()) return block4<T>(row, at, part == Part.HIGH);
  return part == Part.ONE ? f32x4.splat(load1<T>(row)) : load4<T>(row, mask, bias);
}
