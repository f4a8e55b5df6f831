// Products with weights in ggml's super-blocks of 256 (Q2_K … Q6_K, IQ4_XS, TQ1_0, TQ2_0) and their activations. Rows stay in the file's
// order: a chunk of sixteen neighbouring values is one vector of weights and one of activations, four neighbours add up in a lane, times the
// chunk's scale, so a block ends as eight exact integer sums in two vectors: `low` of the even chunks, `high` of the odd ones. They are
// ggml's AVX2 sums, and are scaled, fused and added up in its order. Fields are drawn in decode.ts.

import {
  SUPER, SUPER_ACT_BYTES, SUPER_ACT_D, SUPER_ACT_Q, SUPER_ACT_SUMS, TYPE_IQ4_XS, TYPE_Q2_K, TYPE_Q3_K, TYPE_Q4_K, TYPE_Q5_K, TYPE_Q6_K, TYPE_TQ1_0,
  TYPE_TQ2_0,
} from '../ops';
import { load_f16, round_even } from './blocks';
import { has_minimum, nonlinear16, scale_at, super_bytes } from './decode';
import { add_product, fma1, sum4 } from './math';
import { pairs, put1, sum_lanes } from './matmul';

const RELAXED = ASC_FEATURE_RELAXED_SIMD;

// ── Activations ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The first value of the largest magnitude, of 256. */
@inline
function extreme(from: usize): f32 {
  let largest: f32 = 0;
  let value: f32 = 0;
  for (let i = 0; i < SUPER; i++) {
    const x = load<f32>(from + (i << 2));
    const larger = abs<f32>(x) > largest;
    largest = select<f32>(abs<f32>(x), largest, larger);
    value = select<f32>(x, value, larger);
  }
  return value;
}

/** One token's activations for weights in super-blocks: the extreme becomes −127. */
export function quantize_q8_super(from: usize, k: i32, act: usize): void {
  for (let b = k >> 8; b > 0; b--) {
    const value = extreme(from);
    const inverse = select<f32>(<f32>-127.0 / value, 0, value != 0);
    const by = f32x4.splat(inverse);
    store<f32>(act, select<f32>(<f32>1.0 / inverse, 0, value != 0), SUPER_ACT_D);
    for (let c: usize = 0; c < 16; c++) {
      const q = i8x16.narrow_i16x8_s(
        i16x8.narrow_i32x4_s(round_even(f32x4.mul(v128.load(from), by)), round_even(f32x4.mul(v128.load(from, 16), by))),
        i16x8.narrow_i32x4_s(round_even(f32x4.mul(v128.load(from, 32), by)), round_even(f32x4.mul(v128.load(from, 48), by))),
      );
      v128.store(act + (c << 4), q, SUPER_ACT_Q);
      store<i16>(act + (c << 1), i32x4.extract_lane(sum_lanes(quads(q, i8x16.splat(1), i16x8.splat(1))), 0), SUPER_ACT_SUMS);
      from += 64;
    }
    act += SUPER_ACT_BYTES;
  }
}

// ── Weights ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** v shifted right by n, or left by −n: fields that are masked afterwards. */
@inline
function shift(v: v128, n: i32): v128 {
  return n >= 0 ? i16x8.shr_u(v, n) : i16x8.shl(v, -n);
}

/** v, each byte masked, after a shift as above. */
@inline
function field(p: usize, n: i32, mask: i8): v128 {
  return v128.and(shift(v128.load(p), n), i8x16.splat(mask));
}

/** Digit `n` (0 … 4) of sixteen bytes of TQ1_0: 256 · fraction in base 3, whose integer part is the digit once it is tripled. */
@inline
function digits(x: v128, n: i32): v128 {
  if (n > 0) x = i8x16.add(x, i8x16.add(x, x));
  if (n > 1) x = i8x16.add(x, i8x16.add(x, x));
  if (n > 2) x = i8x16.add(x, i8x16.add(x, x));
  if (n > 3) x = i8x16.add(x, i8x16.add(x, x));
  return i8x16.neg(i8x16.add(i8x16.ge_u(x, i8x16.splat(86)), i8x16.ge_u(x, i8x16.splat(-85)))); // 171
}

/** The last sixteen values of a block of TQ1_0: digits 0 … 3 of four bytes. */
@inline
function last_digits(p: usize): v128 {
  const x0 = v128.load32_splat(p);
  const x1 = i8x16.add(x0, i8x16.add(x0, x0));
  const x2 = i8x16.add(x1, i8x16.add(x1, x1));
  const x3 = i8x16.add(x2, i8x16.add(x2, x2));
  const x01 = v128.bitselect(x0, x1, i32x4(-1, 0, 0, 0));
  const x23 = v128.bitselect(x2, x3, i32x4(0, 0, -1, 0));
  return digits(v128.bitselect(x01, x23, i32x4(-1, -1, 0, 0)), 0);
}

/** Chunk c of a block: sixteen weights of 0 … 63, before Q3_K's 4, Q6_K's 32 and the 1 of TQ1_0 and TQ2_0 are taken off; of IQ4_XS as they are. */
@inline
function chunk(type: i32, p: usize, c: i32): v128 {
  const at = (c & 1) << 4;
  const pair = p + ((c >> 3) << 5) + at; // of two-bit fields
  const n = c & 6;
  if (type == TYPE_Q2_K) return field(pair + 16, n, 3);
  if (type == TYPE_Q3_K) return v128.or(field(pair + 32, n, 3), field(p + at, (c >> 1) - 2, 4));
  if (type == TYPE_TQ2_0) return field(pair, n, 3);
  if (type == TYPE_Q4_K) return field(p + 16 + ((c >> 2) << 5) + at, (c & 2) << 1, 15);
  if (type == TYPE_Q5_K) return v128.or(field(p + 48 + ((c >> 2) << 5) + at, (c & 2) << 1, 15), field(p + 16 + at, (c >> 1) - 4, 16));
  if (type == TYPE_Q6_K) return v128.or(field(p + ((c >> 3) << 6) + ((c & 2) << 4) + at, c & 4, 15), field(pair + 128, n - 4, 0x30));
  if (type == TYPE_IQ4_XS) return nonlinear16(field(p + 8 + ((c >> 1) << 4), (c & 1) << 2, 15));
  if (c < 10) return digits(v128.load(p + at), c >> 1);
  return c < 15 ? digits(v128.load(p + 32), c - 10) : last_digits(p + 48);
}

/** Two bits of each lane's own place, moved to 0x30: lanes 0 … 3 (of 32 bits, or each four of 16) take bits 0, 2, 4, 6 of their byte. */
@inline
function top_bits(v: v128, lane0: v128, lane1: v128, lane2: v128, lane3: v128): v128 {
  const low = v128.or(v128.and(i32x4.shl(v, 4), lane0), v128.and(i32x4.shl(v, 2), lane1));
  return v128.or(low, v128.or(v128.and(v, lane2), v128.and(i32x4.shr_u(v, 2), lane3)));
}

/** Q4_K, Q5_K: eight numbers of six bits as i16. The first four are the low bits of `a`; the others four bits of `b` below the high bits of `a`. */
@inline
function six_bits(a: v128, b: v128): v128 {
  const first = v128.and(a, i8x16.splat(63));
  const last = v128.or(v128.and(b, i8x16.splat(15)), v128.and(i32x4.shr_u(a, 2), i8x16.splat(0x30)));
  return i16x8.extend_low_i8x16_u(v128.bitselect(first, last, i32x4(-1, 0, 0, 0)));
}

/** Scales of chunks 8h … 8h + 7 as i16; for Q4_K, Q5_K and IQ4_XS the eight of pairs of chunks. */
@inline
function scales(type: i32, p: usize, h: i32): v128 {
  if (type == TYPE_Q4_K || type == TYPE_Q5_K) return six_bits(v128.load32_splat(p, 4), v128.load32_splat(p, 12));
  if (type == TYPE_IQ4_XS) {
    const l = v128.load32_splat(p, 4);
    const nibbles = v128.and(
      v128.bitselect(i8x16.shuffle(l, l, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3), i16x8.shr_u(i8x16.shuffle(l, l, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3), 4), i32x4.splat(0xffff)),
      i16x8.splat(15),
    );
    const t = v128.load32_splat(p);
    const pairs = i8x16.shuffle(t, t, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const top = top_bits(pairs, i16x8(0x30, 0, 0, 0, 0x30, 0, 0, 0), i16x8(0, 0x30, 0, 0, 0, 0x30, 0, 0), i16x8(0, 0, 0x30, 0, 0, 0, 0x30, 0), i16x8(0, 0, 0, 0x30, 0, 0, 0, 0x30));
    return i16x8.sub(v128.or(nibbles, top), i16x8.splat(32));
  }
  let bytes: v128;
  if (type == TYPE_Q2_K) bytes = v128.and(v128.load(p), i8x16.splat(15));
  else if (type == TYPE_Q6_K) bytes = v128.load(p, 192);
  else if (type == TYPE_Q3_K) {
    const v = v128.load(p, 94); // two bytes of quants, then the twelve of the scales
    const l = i8x16.shuffle(v, v, 2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5, 6, 7, 8, 9);
    const t = i8x16.shuffle(v, v, 10, 11, 12, 13, 10, 11, 12, 13, 10, 11, 12, 13, 10, 11, 12, 13);
    const nibbles = v128.and(v128.bitselect(l, i16x8.shr_u(l, 4), i64x2(-1, 0)), i8x16.splat(15));
    const m = 0x30303030;
    bytes = i8x16.sub(v128.or(nibbles, top_bits(t, i32x4(m, 0, 0, 0), i32x4(0, m, 0, 0), i32x4(0, 0, m, 0), i32x4(0, 0, 0, m))), i8x16.splat(32));
  } else return i16x8.splat(1);
  return h == 0 ? i16x8.extend_low_i8x16_s(bytes) : i16x8.extend_high_i8x16_s(bytes);
}

// ── Products ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Σ y · w of each four neighbours, times a scale. Weights 0 … 127 have an instruction in the relaxed build. */
@inline
function quads(y: v128, w: v128, scale: v128): v128 {
  return i32x4.dot_i16x8_s(RELAXED ? i16x8.relaxed_dot_i8x16_i7x16_s(y, w) : pairs(y, w), scale);
}

/** Lane n of eight in all lanes. */
@inline
function splat16(v: v128, n: i32): v128 {
  if (n == 0) return v128.shuffle<i16>(v, v, 0, 0, 0, 0, 0, 0, 0, 0);
  if (n == 1) return v128.shuffle<i16>(v, v, 1, 1, 1, 1, 1, 1, 1, 1);
  if (n == 2) return v128.shuffle<i16>(v, v, 2, 2, 2, 2, 2, 2, 2, 2);
  if (n == 3) return v128.shuffle<i16>(v, v, 3, 3, 3, 3, 3, 3, 3, 3);
  if (n == 4) return v128.shuffle<i16>(v, v, 4, 4, 4, 4, 4, 4, 4, 4);
  if (n == 5) return v128.shuffle<i16>(v, v, 5, 5, 5, 5, 5, 5, 5, 5);
  if (n == 6) return v128.shuffle<i16>(v, v, 6, 6, 6, 6, 6, 6, 6, 6);
  return v128.shuffle<i16>(v, v, 7, 7, 7, 7, 7, 7, 7, 7);
}

/** Chunk c of a block times the activations, by its scale: `s0` has those of the first half of the block, `s1` of the second. */
@inline
function term(type: i32, p: usize, y: usize, c: i32, s0: v128, s1: v128): v128 {
  const q = v128.load(y + (c << 4), SUPER_ACT_Q);
  const w = chunk(type, p, c);
  const own = type == TYPE_Q2_K || type == TYPE_Q3_K || type == TYPE_Q6_K;
  const shared = type == TYPE_Q4_K || type == TYPE_Q5_K || type == TYPE_IQ4_XS;
  const s = shared ? splat16(s0, c >> 1) : own ? splat16(c < 8 ? s0 : s1, c & 7) : s0;
  if (type == TYPE_IQ4_XS) return i32x4.dot_i16x8_s(pairs(q, w), s);
  if (type != TYPE_Q3_K) return quads(q, w, s);
  const o = i8x16.splat(4);
  if (!RELAXED) return i32x4.dot_i16x8_s(pairs(q, i8x16.sub(w, o)), s);
  return i32x4.dot_i16x8_s(i16x8.sub(i16x8.relaxed_dot_i8x16_i7x16_s(q, w), i16x8.relaxed_dot_i8x16_i7x16_s(q, o)), s);
}

/** The even chunks (0) or the odd ones (1) of a block: four sums of eight chunks. */
@inline
function half_block(type: i32, p: usize, y: usize, h: i32, s0: v128, s1: v128): v128 {
  const a = i32x4.add(term(type, p, y, h, s0, s1), term(type, p, y, h + 2, s0, s1));
  const b = i32x4.add(term(type, p, y, h + 4, s0, s1), term(type, p, y, h + 6, s0, s1));
  const c = i32x4.add(term(type, p, y, h + 8, s0, s1), term(type, p, y, h + 10, s0, s1));
  const d = i32x4.add(term(type, p, y, h + 12, s0, s1), term(type, p, y, h + 14, s0, s1));
  const sum = i32x4.add(i32x4.add(a, b), i32x4.add(c, d));
  // The weights of these are less by 1 or 32; which lane a sum of activations is taken from is ggml's choice.
  const sums = v128.load(y + (h << 4), SUPER_ACT_SUMS);
  if (type == TYPE_TQ1_0 || type == TYPE_TQ2_0) return i32x4.sub(sum, i32x4.extadd_pairwise_i16x8_s(sums));
  if (type == TYPE_Q6_K) return i32x4.sub(sum, i32x4.shl(i32x4.dot_i16x8_s(sums, h == 0 ? s0 : s1), 5));
  return sum;
}

/** Q4_K, Q5_K: Σ minimum · Σq, in four lanes of two groups of 32 each. */
@inline
function minima(p: usize, y: usize): v128 {
  const low = i32x4.extadd_pairwise_i16x8_s(v128.load(y, SUPER_ACT_SUMS));
  const high = i32x4.extadd_pairwise_i16x8_s(v128.load(y, SUPER_ACT_SUMS + 16));
  return i32x4.dot_i16x8_s(six_bits(v128.load32_splat(p, 8), i32x4.shr_u(v128.load32_splat(p, 12), 4)), i16x8.narrow_i32x4_s(low, high));
}

@inline
function add_scaled(sum: v128, isum: v128, d: f32): v128 {
  return add_product(sum, isum, f32x4.splat(d));
}

/** One row times one token. `whole`: the sums of a block are added up before they are scaled. */
@inline
function row_product(type: i32, p: usize, k: i32, y: usize, whole: bool): f32 {
  let low = f32x4.splat(0);
  let high = low;
  let less = low;
  let last: f32 = 0;
  for (let b = k >> 8; b > 0; b--) {
    const dy = load<f32>(y, SUPER_ACT_D);
    const d = dy * load_f16(p + scale_at(type));
    const dmin = has_minimum(type) ? -dy * load_f16(p + scale_at(type) + 2) : 0;
    const s0 = scales(type, p, 0);
    const s1 = type == TYPE_Q2_K || type == TYPE_Q3_K || type == TYPE_Q6_K ? scales(type, p, 1) : s0;
    if (type == TYPE_Q2_K) {
      const bytes = v128.and(i16x8.shr_u(v128.load(p), 4), i8x16.splat(15));
      low = add_scaled(low, i32x4.dot_i16x8_s(i16x8.extend_low_i8x16_s(bytes), v128.load(y, SUPER_ACT_SUMS)), dmin);
      high = add_scaled(high, i32x4.dot_i16x8_s(i16x8.extend_high_i8x16_s(bytes), v128.load(y, SUPER_ACT_SUMS + 16)), dmin);
    }
    const even = half_block(type, p, y, 0, s0, s1);
    const odd = half_block(type, p, y, 1, s0, s1);
    if (whole) {
      low = add_scaled(low, sum_lanes(i32x4.add(even, odd)), d);
      less = add_scaled(less, sum_lanes(minima(p, y)), dmin);
    } else {
      low = add_scaled(low, even, d);
      high = add_scaled(high, odd, d);
      if (type == TYPE_Q4_K) less = add_scaled(less, minima(p, y), dmin);
      if (type == TYPE_Q5_K) last = fma1(dmin, <f32>i32x4.extract_lane(sum_lanes(minima(p, y)), 0), last);
    }
    p += super_bytes(type);
    y += SUPER_ACT_BYTES;
  }
  if (whole) return f32x4.extract_lane(low, 0) + f32x4.extract_lane(less, 0);
  const sum = sum4(f32x4.add(low, high));
  if (type == TYPE_Q4_K) return sum + sum4(less);
  return type == TYPE_Q5_K ? sum + last : sum;
}

@inline
function mul_mat_super(type: i32, whole: bool, w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  const step = (k >> 8) * SUPER_ACT_BYTES;
  for (let row = 0; row < rows; row++) {
    let y = act;
    let out = dst;
    for (let t = n; t > 0; t--) {
      put1(out, row_product(type, w, k, y, whole), bias, add);
      y += step;
      out += stride << 2;
    }
    w += (k >> 8) * super_bytes(type);
    dst += 4;
    if (bias != 0) bias += 4;
  }
}

export function mul_mat_q2_k(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  mul_mat_super(TYPE_Q2_K, false, w, rows, k, act, n, dst, stride, bias, add);
}

export function mul_mat_q3_k(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  mul_mat_super(TYPE_Q3_K, false, w, rows, k, act, n, dst, stride, bias, add);
}

/** ggml takes blocks whole where rows fall into groups of eight. */
export function mul_mat_q4_k(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  if ((rows & 7) == 0) mul_mat_super(TYPE_Q4_K, true, w, rows, k, act, n, dst, stride, bias, add);
  else mul_mat_super(TYPE_Q4_K, false, w, rows, k, act, n, dst, stride, bias, add);
}

export function mul_mat_q5_k(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  mul_mat_super(TYPE_Q5_K, false, w, rows, k, act, n, dst, stride, bias, add);
}

export function mul_mat_q6_k(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  mul_mat_super(TYPE_Q6_K, false, w, rows, k, act, n, dst, stride, bias, add);
}

export function mul_mat_iq4_xs(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  mul_mat_super(TYPE_IQ4_XS, false, w, rows, k, act, n, dst, stride, bias, add);
}

export function mul_mat_tq1_0(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  mul_mat_super(TYPE_TQ1_0, false, w, rows, k, act, n, dst, stride, bias, add);
}

export function mul_mat_tq2_0(w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): void {
  mul_mat_super(TYPE_TQ2_0, false, w, rows, k, act, n, dst, stride, bias, add);
}
