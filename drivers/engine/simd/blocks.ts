// Number formats: half and brain floats, the blocks of 32 that lie in the kernels' own layout of four interleaved rows (Q4_0, Q4_1, Q8_0), and
// the activations that meet blocks of 32 in matrix products. Decoding is ggml's to the bit (a NaN comes out as 0x7fc00000, F32 included); rounding is to nearest, ties to even,
// the int8 of activations too: ggml's portable reference rounds those away from zero, its x86 code, which made the vectors, does not. Layouts are
// drawn in ../ops.ts.

import {
  ACT_BIAS, ACT_BYTES, ACT_D, ACT_Q16, ACT_Q8, ACT_S, BLOCK, GROUP, Q4_0_BYTES, Q4_1_BYTES, Q8_0_BYTES,
  TYPE_BF16, TYPE_F16, TYPE_F32, TYPE_Q4_0, TYPE_Q4_1, TYPE_Q8_0,
} from '../ops';
import { column4 } from './vectors';

/** Where decoded values go: stored, or added to what is there; a NaN as the canonical one. */
@inline
export function put(to: usize, x: f32, add: bool): void {
  if (add) x += load<f32>(to);
  store<f32>(to, select<f32>(x, reinterpret<f32>(0x7fc00000), x == x));
}

/** The same of four values. */
@inline
export function put_four(to: usize, x: v128, add: bool): void {
  if (add) x = f32x4.add(x, v128.load(to));
  v128.store(to, v128.bitselect(x, i32x4.splat(0x7fc00000), f32x4.eq(x, x)));
}

/** Sixteen i8, each times d, plus m. */
@inline
export function put_sixteen(to: usize, q: v128, d: v128, m: v128, add: bool): void {
  const low = i16x8.extend_low_i8x16_s(q);
  const high = i16x8.extend_high_i8x16_s(q);
  put_four(to, f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(low)), d), m), add);
  put_four(to + 16, f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(low)), d), m), add);
  put_four(to + 32, f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(high)), d), m), add);
  put_four(to + 48, f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(high)), d), m), add);
}

// ── Half and brain floats ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Tags for generic code over the element types of float matrices and KV caches. */
export type F32 = f32;
export type F16 = u16;
export type BF16 = i16;

/** A finite half, exact: its bits moved to an f32's places, times 2^112. One that is not reads as ±65,536 · 1.m: repack and kv_store report those. */
@inline
function finite_f16(h: i32): f32 {
  return reinterpret<f32>((h << 13) & 0x8fffe000) * reinterpret<f32>(0x77800000);
}
@inline
export function load_f16(p: usize): f32 {
  return finite_f16(load<i16>(p));
}

/** Any half at `p`, exact, infinities and NaNs too. No branch: it takes the same time for each. */
@inline
export function load_any_f16(p: usize): f32 {
  const h = <i32>load<i16>(p);
  return reinterpret<f32>(reinterpret<u32>(finite_f16(h)) | select<u32>(0x7f800000, 0, (h & 0x7c00) == 0x7c00));
}

/** load_f16 of four halves. The two constants come from the caller, see opaque_zero. */
@inline
export function load_f16x4(p: usize, mask: v128, bias: v128): v128 {
  return f32x4.mul(v128.and(i32x4.shl(v128.load16x4_s(p), 13), mask), bias);
}
@inline
export function f16_mask(zero: i32): v128 {
  return i32x4.splat(zero + 0x8fffe000);
}
@inline
export function f16_bias(zero: i32): v128 {
  return i32x4.splat(zero + 0x77800000);
}

/** What a half's partner is times, when the half comes from small4: 2^111; the sum is then doubled. Nothing over- or underflows. */
@inline
export function f16_partner(zero: i32): v128 {
  return i32x4.splat(zero + 0x77000000);
}

/** 0, of a count ≥ 0, in a way that compilers do not see: V8 loads vector constants anew in every iteration, but keeps computed ones in registers. */
@inline
export function opaque_zero(count: i32): i32 {
  return count >> 31;
}

/** Rounds to halves, in the low 16 bits of each lane; beyond 65,519 infinity, NaN 0x7e00. */
@inline
export function f32x4_to_f16(x: v128): v128 {
  const a = v128.and(x, i32x4.splat(0x7fffffff));
  const odd = v128.and(i32x4.shr_u(a, 13), i32x4.splat(1));
  // 112 << 23 is the difference of the exponents' biases.
  const normal = i32x4.shr_u(i32x4.add(i32x4.add(i32x4.sub(a, i32x4.splat(112 << 23)), i32x4.splat(0xfff)), odd), 13);
  // Below 2^-14 an ulp of ½ is an ulp of the subnormal half: let the addition round.
  const subnormal = i32x4.sub(f32x4.add(a, f32x4.splat(0.5)), f32x4.splat(0.5));
  let h = v128.bitselect(subnormal, normal, i32x4.lt_s(a, i32x4.splat(113 << 23)));
  h = v128.bitselect(i32x4.splat(0x7c00), h, i32x4.gt_s(a, i32x4.splat(0x477fefff)));
  h = v128.or(h, v128.and(i32x4.shr_u(x, 16), i32x4.splat(0x8000)));
  return v128.bitselect(i32x4.splat(0x7e00), h, i32x4.gt_s(a, i32x4.splat(0x7f800000)));
}

/** f32 → the nearest half, as f32 again, in four lanes. */
@inline
export function round_f16x4(x: v128): v128 {
  const h = f32x4_to_f16(x);
  const magnitude = v128.and(h, i32x4.splat(0x7fff));
  const finite = f32x4.mul(i32x4.shl(magnitude, 13), i32x4.splat(0x77800000));
  const special = i32x4.add(i32x4.shl(magnitude, 13), i32x4.splat(0x70000000)); // infinity, NaN
  const value = v128.bitselect(special, finite, i32x4.gt_s(magnitude, i32x4.splat(0x7bff)));
  return v128.or(value, i32x4.shl(v128.and(h, i32x4.splat(0x8000)), 16));
}

@inline
function round_bf16x4(x: v128): v128 {
  const odd = v128.and(i32x4.shr_u(x, 16), i32x4.splat(1));
  const rounded = v128.and(i32x4.add(i32x4.add(x, i32x4.splat(0x7fff)), odd), i32x4.splat(0xffff0000));
  return v128.bitselect(rounded, i32x4.splat(0x7fc00000), f32x4.eq(x, x));
}

/**
 * Four values, the i-th on (a multiple of 4 below 32); halves come as they are moved, 2^112 too small. The compiler leaves additions to addresses of
 * widening loads where they are, so each i has an instruction.
 */
@inline
export function small4<T>(p: usize, i: i32, mask: v128): v128 {
  if (sizeof<T>() == 4) return i == 16 ? v128.load(p, 64) : v128.load(p + 4 * i);
  if (isSigned<T>()) return i32x4.shl(words<u16>(p, i), 16);
  return v128.and(i32x4.shl(words<i16>(p, i), 13), mask);
}

/** Four i16 or u16, the i-th on, as i32. */
@inline
function words<S>(p: usize, i: i32): v128 {
  if (i == 0) return isSigned<S>() ? v128.load16x4_s(p) : v128.load16x4_u(p);
  if (i == 4) return isSigned<S>() ? v128.load16x4_s(p, 8) : v128.load16x4_u(p, 8);
  if (i == 8) return isSigned<S>() ? v128.load16x4_s(p, 16) : v128.load16x4_u(p, 16);
  if (i == 12) return isSigned<S>() ? v128.load16x4_s(p, 24) : v128.load16x4_u(p, 24);
  if (i == 16) return isSigned<S>() ? v128.load16x4_s(p, 32) : v128.load16x4_u(p, 32);
  if (i == 20) return isSigned<S>() ? v128.load16x4_s(p, 40) : v128.load16x4_u(p, 40);
  if (i == 24) return isSigned<S>() ? v128.load16x4_s(p, 48) : v128.load16x4_u(p, 48);
  return isSigned<S>() ? v128.load16x4_s(p, 56) : v128.load16x4_u(p, 56);
}

@inline
export function load1<T>(p: usize): f32 {
  if (sizeof<T>() == 4) return load<f32>(p);
  if (isSigned<T>()) return reinterpret<f32>(<u32>load<u16>(p) << 16);
  return load_f16(p);
}

/** small4 with halves as they are: times `bias`. */
@inline
export function load4<T>(p: usize, i: i32, mask: v128, bias: v128): v128 {
  const v = small4<T>(p, i, mask);
  return sizeof<T>() == 2 && !isSigned<T>() ? f32x4.mul(v, bias) : v;
}

/** load1, but a half comes 2^112 too small. */
@inline
export function small1<T>(p: usize): f32 {
  if (sizeof<T>() == 4) return load<f32>(p);
  if (isSigned<T>()) return load1<T>(p);
  return reinterpret<f32>((<i32>load<i16>(p) << 13) & 0x8fffe000);
}

// ── Decoding ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Four halves, infinities and NaNs too. */
@inline
function load_any_f16x4(p: usize): v128 {
  const exponent = i32x4.splat(0x7c00);
  const special = i32x4.eq(v128.and(v128.load16x4_u(p), exponent), exponent);
  return v128.or(load4<F16>(p, 0, f16_mask(0), f16_bias(0)), v128.and(special, i32x4.splat(0x7f800000)));
}

export function decode_float(type: i32, from: usize, n: i32, to: usize, add: bool): void {
  for (; n >= 4; n -= 4) {
    const x = type == TYPE_F32 ? v128.load(from) : type == TYPE_F16 ? load_any_f16x4(from) : small4<BF16>(from, 0, i32x4.splat(0));
    put_four(to, x, add);
    from += type == TYPE_F32 ? 16 : 8;
    to += 16;
  }
  for (; n > 0; n--) {
    put(to, type == TYPE_F32 ? load<f32>(from) : type == TYPE_F16 ? load_any_f16(from) : load1<BF16>(from), add);
    from += type == TYPE_F32 ? 4 : 2;
    to += 4;
  }
}

/** Four bytes from each of four places `stride` apart. */
@inline
function gather_words(p: usize, stride: usize): v128 {
  return column4(p, stride);
}

/** Two bytes from each of eight. */
@inline
function gather_pairs(p: usize, stride: usize): v128 {
  let v = i16x8.splat(load<i16>(p));
  v = i16x8.replace_lane(v, 1, load<i16>(p + stride));
  v = i16x8.replace_lane(v, 2, load<i16>(p + 2 * stride));
  v = i16x8.replace_lane(v, 3, load<i16>(p + 3 * stride));
  v = i16x8.replace_lane(v, 4, load<i16>(p + 4 * stride));
  v = i16x8.replace_lane(v, 5, load<i16>(p + 5 * stride));
  v = i16x8.replace_lane(v, 6, load<i16>(p + 6 * stride));
  return i16x8.replace_lane(v, 7, load<i16>(p + 7 * stride));
}

/**
 * One block of 32. `d`: where its scale lies (its minimum `minimum` bytes after); `q`: its first byte of quants; the parts of a row
 * (4 bytes of nibbles, 2 of int8) follow each other every `stride` bytes.
 */
@inline
function decode_block(type: i32, d: usize, minimum: usize, q: usize, stride: usize, interleaved: bool, to: usize, add: bool): void {
  const scale = f32x4.splat(load_any_f16(d));
  const none = f32x4.splat(-0.0); // x + −0 = x
  if (type == TYPE_Q8_0) {
    put_sixteen(to, gather_pairs(q, stride), scale, none, add);
    put_sixteen(to + 64, gather_pairs(q + 8 * stride, stride), scale, none, add);
    return;
  }
  const q4_1 = type == TYPE_Q4_1;
  const bytes = gather_words(q, stride);
  const nibbles = select<v128>(swap_middles(bytes), bytes, interleaved);
  const offset = i8x16.splat(q4_1 ? 0 : 8);
  const m = q4_1 ? f32x4.splat(load_any_f16(d + minimum)) : none;
  put_sixteen(to, i8x16.sub(v128.and(nibbles, i8x16.splat(15)), offset), scale, m, add);
  put_sixteen(to + 64, i8x16.sub(i8x16.shr_u(nibbles, 4), offset), scale, m, add);
}


/** Bytes of a block of a type in groups of four rows; 0 for the others. */
@inline
export function grouped_bytes(type: i32): usize {
  return type == TYPE_Q4_0 ? Q4_0_BYTES : type == TYPE_Q4_1 ? Q4_1_BYTES : type == TYPE_Q8_0 ? Q8_0_BYTES : 0;
}

/**
 * `k` values from the blocks at `p` on: row `lane` of `group` rows that are interleaved. A row of its own (0 of 1) takes the same instructions,
 * so that what a token's embedding costs does not depend on the token.
 */
export function decode_blocks(type: i32, p: usize, lane: usize, group: usize, k: i32, to: usize, add: bool): void {
  const part: usize = type == TYPE_Q8_0 ? 2 : 4;
  const header: usize = type == TYPE_Q4_1 ? 4 : 2;
  const step = group * grouped_bytes(type);
  const stride = group * part;
  let d = p + 2 * lane;
  let q = p + group * header + lane * part;
  for (let i = 0; i < k; i += BLOCK) {
    decode_block(type, d, 2 * group, q, stride, group != 1, to, add);
    d += step;
    q += step;
    to += 4 * BLOCK;
  }
}

// ── Layout ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

@inline
export function half_is_finite(p: usize): bool {
  return (load<u16>(p) & 0x7c00) != 0x7c00;
}

/** How many of the halves in lanes are not finite; `counted`: −1 in lanes that are looked at, 0 in others. */
@inline
function bad_halves(halves: v128, counted: v128): i32 {
  const exponent = i16x8.splat(0x7c00);
  const bad = i16x8.eq(v128.and(halves, exponent), exponent); // −1 each
  const pairs = i32x4.dot_i16x8_s(bad, counted);
  return i32x4.extract_lane(pairs, 0) + i32x4.extract_lane(pairs, 1) + i32x4.extract_lane(pairs, 2) + i32x4.extract_lane(pairs, 3);
}

/** Scales and minima of a block of four rows at `p`, in the kernels' layout, that are not finite. */
@inline
export function count_bad_scales(type: i32, p: usize): i32 {
  return bad_halves(v128.load(p), select<v128>(i16x8.splat(-1), i64x2(-1, 0), type == TYPE_Q4_1));
}

/** A half of each of four rows, `bytes` apart: lanes 0 … 3, and again 4 … 7. */
@inline
function four_halves(p: usize, bytes: usize): v128 {
  return i64x2.splat(load<u16>(p) | (<u64>load<u16>(p + bytes) << 16) | (<u64>load<u16>(p + 2 * bytes) << 32) | (<u64>load<u16>(p + 3 * bytes) << 48));
}

/** Of every four bytes the two in the middle change places. */
@inline
function swap_middles(bytes: v128): v128 {
  return i8x16.shuffle(bytes, bytes, 0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
}

/** 16 bytes of nibbles of each of four rows: four bytes of each, in the order 0 2 1 3, four times. */
@inline
function interleave_nibbles(p: usize, bytes: usize, to: usize): void {
  const q0 = swap_middles(v128.load(p));
  const q1 = swap_middles(v128.load(p + bytes));
  const q2 = swap_middles(v128.load(p + 2 * bytes));
  const q3 = swap_middles(v128.load(p + 3 * bytes));
  const low01 = v128.shuffle<i32>(q0, q1, 0, 4, 1, 5);
  const low23 = v128.shuffle<i32>(q2, q3, 0, 4, 1, 5);
  const high01 = v128.shuffle<i32>(q0, q1, 2, 6, 3, 7);
  const high23 = v128.shuffle<i32>(q2, q3, 2, 6, 3, 7);
  v128.store(to, v128.shuffle<i64>(low01, low23, 0, 2));
  v128.store(to, v128.shuffle<i64>(low01, low23, 1, 3), 16);
  v128.store(to, v128.shuffle<i64>(high01, high23, 0, 2), 32);
  v128.store(to, v128.shuffle<i64>(high01, high23, 1, 3), 48);
}

/** 16 bytes of int8 of each of four rows: two bytes of each, eight times. */
@inline
function interleave_pairs(p: usize, bytes: usize, to: usize): void {
  const q0 = v128.load(p);
  const q1 = v128.load(p + bytes);
  const q2 = v128.load(p + 2 * bytes);
  const q3 = v128.load(p + 3 * bytes);
  const low01 = v128.shuffle<i16>(q0, q1, 0, 8, 1, 9, 2, 10, 3, 11);
  const low23 = v128.shuffle<i16>(q2, q3, 0, 8, 1, 9, 2, 10, 3, 11);
  const high01 = v128.shuffle<i16>(q0, q1, 4, 12, 5, 13, 6, 14, 7, 15);
  const high23 = v128.shuffle<i16>(q2, q3, 4, 12, 5, 13, 6, 14, 7, 15);
  v128.store(to, v128.shuffle<i32>(low01, low23, 0, 4, 1, 5));
  v128.store(to, v128.shuffle<i32>(low01, low23, 2, 6, 3, 7), 16);
  v128.store(to, v128.shuffle<i32>(high01, high23, 0, 4, 1, 5), 32);
  v128.store(to, v128.shuffle<i32>(high01, high23, 2, 6, 3, 7), 48);
}

/** Four rows of `k` values at `from` to one group; returns how many scales and minima are not finite. */
export function repack_group(type: i32, from: usize, k: i32, to: usize): i32 {
  const block = grouped_bytes(type);
  const bytes = (k >> 5) * block;
  let bad = 0;
  for (let b = k >> 5; b > 0; b--) {
    const scales = four_halves(from, bytes);
    v128.store64_lane(to, scales, 0);
    bad += bad_halves(scales, i64x2(-1, 0));
    if (type == TYPE_Q8_0) {
      interleave_pairs(from + 2, bytes, to + 8);
      interleave_pairs(from + 18, bytes, to + 72);
    } else if (type == TYPE_Q4_1) {
      const minima = four_halves(from + 2, bytes);
      v128.store64_lane(to, minima, 0, 8);
      bad += bad_halves(minima, i64x2(-1, 0));
      interleave_nibbles(from + 4, bytes, to + 16);
    } else {
      interleave_nibbles(from + 2, bytes, to + 8);
    }
    from += block;
    to += GROUP * block;
  }
  return bad;
}

// ── Activations ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Nearest integer, ties to even, as i32. */
@inline
export function round_even(x: v128): v128 {
  return i32x4.trunc_sat_f32x4_s(f32x4.nearest(x));
}

/** One token's activations for weights in blocks of 32. */
export function quantize_q8(from: usize, k: i32, act: usize): void {
  for (let b = k >> 5; b > 0; b--) {
    let m = f32x4.splat(0);
    for (let i: usize = 0; i < 128; i += 16) m = f32x4.max(m, f32x4.abs(v128.load(from + i)));
    m = f32x4.max(m, v128.shuffle<i64>(m, m, 1, 0));
    const amax: f32 = max<f32>(f32x4.extract_lane(m, 0), f32x4.extract_lane(m, 1));
    const d = amax / 127.0;
    const inverse = f32x4.splat(select<f32>(<f32>127.0 / amax, 0, amax != 0));
    let sum = i32x4.splat(0);
    for (let i: usize = 0; i < 16; i += 8) {
      // The narrowing saturates: 127/amax overflows when every value is subnormal.
      const q = i8x16.narrow_i16x8_s(
        i16x8.narrow_i32x4_s(round_even(f32x4.mul(v128.load(from), inverse)), round_even(f32x4.mul(v128.load(from, 16), inverse))),
        i16x8.narrow_i32x4_s(round_even(f32x4.mul(v128.load(from, 32), inverse)), round_even(f32x4.mul(v128.load(from, 48), inverse))),
      );
      v128.store(act + 2 * i, i8x16.shuffle(q, q, 0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15), ACT_Q8);
      v128.store(act + 4 * i, i16x8.extend_low_i8x16_s(q), ACT_Q16);
      v128.store(act + 4 * i, i16x8.extend_high_i8x16_s(q), ACT_Q16 + 16);
      sum = i32x4.add(sum, i32x4.extadd_pairwise_i16x8_s(i16x8.extadd_pairwise_i8x16_s(q)));
      from += 64;
    }
    sum = i32x4.add(sum, v128.shuffle<i64>(sum, sum, 1, 0));
    const total = i32x4.extract_lane(sum, 0) + i32x4.extract_lane(sum, 1);
    const halves = round_f16x4(f32x4.replace_lane(f32x4.splat(d), 1, <f32>total * d));
    v128.store32_lane(act, halves, 0, ACT_D);
    store<i32>(act, -8 * total, ACT_BIAS);
    v128.store32_lane(act, halves, 1, ACT_S);
    store<i32>(act, 0, 12);
    act += ACT_BYTES;
  }
}

/** Rounds f32[k] to halves, or to brain floats, as f32 again. */
export function round_half(f16: bool, from: usize, k: i32, to: usize): void {
  let i = 0;
  for (; i + 4 <= k; i += 4) {
    const x = v128.load(from + (i << 2));
    v128.store(to + (i << 2), f16 ? round_f16x4(x) : round_bf16x4(x));
  }
  for (; i < k; i++) {
    const x = f32x4.splat(load<f32>(from + (i << 2)));
    store<f32>(to + (i << 2), f32x4.extract_lane(f16 ? round_f16x4(x) : round_bf16x4(x), 0));
  }
}
