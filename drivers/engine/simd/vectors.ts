// Sums of products in plain f32, as training and adapters take them: every product and every sum is rounded, in an order that the length alone
// gives, so that both builds and every way of cutting a matrix into rows come to the same bits.

import { sum4 } from './math';

/** sum + a · b. */
@inline
export function madd(sum: v128, a: v128, b: v128): v128 {
  return f32x4.add(sum, f32x4.mul(a, b));
}

/** Four values at `p`, or copies of one. */
@inline
export function take(p: usize, four: bool): v128 {
  return four ? v128.load(p) : v128.load32_splat(p);
}

/** Stores four values, or the first. */
@inline
export function put(p: usize, v: v128, four: bool): void {
  if (four) v128.store(p, v);
  else v128.store32_lane(p, v, 0);
}

/** sum4 of each of four. */
@inline
export function sums4(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.add(v128.shuffle<i32>(a, b, 0, 1, 4, 5), v128.shuffle<i32>(a, b, 2, 3, 6, 7));
  const cd = f32x4.add(v128.shuffle<i32>(c, d, 0, 1, 4, 5), v128.shuffle<i32>(c, d, 2, 3, 6, 7));
  return f32x4.add(v128.shuffle<i32>(ab, cd, 0, 2, 4, 6), v128.shuffle<i32>(ab, cd, 1, 3, 5, 7));
}

/** Of four rows `step` bytes apart the value at `p`. */
@inline
export function column4(p: usize, step: usize): v128 {
  const ab = v128.shuffle<i32>(v128.load32_splat(p), v128.load32_splat(p + step), 0, 4, 1, 5);
  const cd = v128.shuffle<i32>(v128.load32_splat(p + 2 * step), v128.load32_splat(p + 3 * step), 0, 4, 1, 5);
  return v128.shuffle<i64>(ab, cd, 0, 2);
}

/** Σ a · b over n values: four lanes, added as sum4 does, then the last n % 4 in order. */
@inline
export function dot(a: usize, b: usize, n: i32): f32 {
  let sums = f32x4.splat(0);
  let i = 0;
  for (; i + 4 <= n; i += 4) sums = madd(sums, v128.load(a + (i << 2)), v128.load(b + (i << 2)));
  let sum = sum4(sums);
  for (; i < n; i++) sum += load<f32>(a + (i << 2)) * load<f32>(b + (i << 2));
  return sum;
}

/** That of b[n] with each of four rows of n values at `a`, in the same order. */
@inline
export function dots4(a: usize, b: usize, n: i32): v128 {
  const step: usize = n << 2;
  let s0 = f32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const y = v128.load(b + (i << 2));
    const p = a + (i << 2);
    s0 = madd(s0, v128.load(p), y);
    s1 = madd(s1, v128.load(p + step), y);
    s2 = madd(s2, v128.load(p + 2 * step), y);
    s3 = madd(s3, v128.load(p + 3 * step), y);
  }
  let sums = sums4(s0, s1, s2, s3);
  for (; i < n; i++) sums = madd(sums, column4(a + (i << 2), step), v128.load32_splat(b + (i << 2)));
  return sums;
}
