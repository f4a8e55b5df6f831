// Attention of one token over its session's cache, straight from the stored keys and values, page by page as the session's block table names
// them (paged attention, as in vLLM). With an F16 cache queries and probabilities are
// rounded to F16 first, as ggml does for any product with F16 operands. Scores and weighted sums are added in dot32's order, soft_max eight
// positions at a time and those sums in f64, as in ggml's AVX2 code. Nothing depends on the pass a token came in, nor on where pages lie.

import { KV_PAGE, TYPE_F16, TYPE_Q4_0, TYPE_Q8_0 } from '../ops';
import { F16, F32, f16_mask, f16_partner, opaque_zero, round_f16x4, round_half } from './blocks';
import { dot32, weighted_sum } from './dot';
import { Q4_0, Q8_0, kv_bytes } from './kv';
import { exp4, sum4 } from './math';

/** Four of x[n] from index i; −∞ where x has ended. */
@inline
function four_of(x: usize, i: i32, n: i32): v128 {
  const v = v128.load(x + (i << 2));
  return i + 4 <= n ? v : v128.bitselect(v, f32x4.splat(-Infinity), i32x4.lt_s(i32x4.add(i32x4.splat(i), i32x4(0, 1, 2, 3)), i32x4.splat(n)));
}

@inline
function put_four(x: usize, i: i32, n: i32, v: v128): void {
  if (i + 4 <= n) v128.store(x + (i << 2), v);
  else {
    if (i < n) v128.store32_lane(x + (i << 2), v, 0);
    if (i + 1 < n) v128.store32_lane(x + (i << 2), v, 1, 4);
    if (i + 2 < n) v128.store32_lane(x + (i << 2), v, 2, 8);
  }
}

/** x[n] → e^(x − max) / Σ, in place. */
export function soft_max(x: usize, n: i32): void {
  let m = f32x4.splat(-Infinity);
  for (let i = 0; i < n; i += 4) m = f32x4.max(m, four_of(x, i, n));
  m = f32x4.max(m, v128.shuffle<i64>(m, m, 1, 0));
  m = f32x4.splat(max<f32>(f32x4.extract_lane(m, 0), f32x4.extract_lane(m, 1)));
  let sum: f64 = 0;
  for (let i = 0; i < n; i += 8) {
    const low = exp4(f32x4.sub(four_of(x, i, n), m));
    const high = exp4(f32x4.sub(four_of(x, i + 4, n), m));
    put_four(x, i, n, low);
    put_four(x, i + 4, n, high);
    sum += <f64>sum4(f32x4.add(low, high));
  }
  const inverse = <f32>(1 / sum);
  let i = 0;
  for (; i + 4 <= n; i += 4) v128.store(x + (i << 2), f32x4.mul(v128.load(x + (i << 2)), f32x4.splat(inverse)));
  for (; i < n; i++) store<f32>(x + (i << 2), load<f32>(x + (i << 2)) * inverse);
}

/** scores[n] = q · K · scale for n positions that follow each other. */
@inline
function scores_of<T>(q: usize, key: usize, step: usize, headDim: i32, n: i32, scale: f32, scores: usize, mask: v128): void {
  for (; n > 0; n--) {
    store<f32>(scores, dot32<T>(q, key, headDim, true, mask, mask) * scale);
    key += step;
    scores += 4;
  }
}

/** to[n] = x[n] rounded to halves, as dot32 and weighted_sum take them. */
function half_operands(x: usize, n: i32, up: v128, to: usize): void {
  for (let i = 0; i < n; i += 4) put_four(to, i, n, f32x4.mul(round_f16x4(four_of(x, i, n)), up));
}

@inline
function attention_of<T>(q: usize, k: usize, v: usize, table: usize, heads: i32, headsKv: i32, headDim: i32, count: i32, scale: f32, scores: usize, dst: usize): void {
  const step = kv_bytes<T>(headsKv * headDim);
  const group = heads / headsKv;
  const zero = opaque_zero(count);
  const mask = f16_mask(zero);
  const up = f16_partner(zero);
  if (sizeof<T>() == 2) round_half(true, q, heads * headDim, q);
  for (let h = 0; h < heads; h++) {
    const head = kv_bytes<T>((h / group) * headDim);
    if (sizeof<T>() == 2) half_operands(q, headDim, up, dst); // until the head's sums are there
    const operand = sizeof<T>() == 2 ? dst : q;
    let page = table;
    let to = scores;
    let left = count;
    for (; left >= KV_PAGE; left -= KV_PAGE) {
      scores_of<T>(operand, k + load<i32>(page) + head, step, headDim, KV_PAGE, scale, to, mask);
      page += 4;
      to += 4 * KV_PAGE;
    }
    if (left > 0) scores_of<T>(operand, k + load<i32>(page) + head, step, headDim, left, scale, to, mask);
    soft_max(scores, count);
    if (sizeof<T>() == 2) half_operands(scores, count, up, scores);
    weighted_sum<T>(scores, v + head, table, step, headDim, count, dst, mask);
    q += headDim << 2;
    dst += headDim << 2;
  }
}

/**
 * One token: q[heads · headDim] (rounded in place for an F16 cache) against positions 0 … count − 1. `k`, `v`: where these planes of a page at
 * offset 0 would lie, [KV_PAGE][headsKv · headDim]; `table`: the offsets of the pages. `scaleAt`: where the f32 lies. A function for each type
 * of cache, exported so that it stays one: in a function of them all, registers run out.
 */
export function attention_f32(
  q: usize, k: usize, v: usize, table: usize, heads: i32, headsKv: i32, headDim: i32, count: i32, scaleAt: usize, scores: usize, dst: usize,
): void {
  attention_of<F32>(q, k, v, table, heads, headsKv, headDim, count, load<f32>(scaleAt), scores, dst);
}
export function attention_f16(
  q: usize, k: usize, v: usize, table: usize, heads: i32, headsKv: i32, headDim: i32, count: i32, scaleAt: usize, scores: usize, dst: usize,
): void {
  attention_of<F16>(q, k, v, table, heads, headsKv, headDim, count, load<f32>(scaleAt), scores, dst);
}
export function attention_q8_0(
  q: usize, k: usize, v: usize, table: usize, heads: i32, headsKv: i32, headDim: i32, count: i32, scaleAt: usize, scores: usize, dst: usize,
): void {
  attention_of<Q8_0>(q, k, v, table, heads, headsKv, headDim, count, load<f32>(scaleAt), scores, dst);
}
export function attention_q4_0(
  q: usize, k: usize, v: usize, table: usize, heads: i32, headsKv: i32, headDim: i32, count: i32, scaleAt: usize, scores: usize, dst: usize,
): void {
  attention_of<Q4_0>(q, k, v, table, heads, headsKv, headDim, count, load<f32>(scaleAt), scores, dst);
}

/** The same, whatever type the cache has. */
export function attention(
  type: i32, q: usize, k: usize, v: usize, table: usize, heads: i32, headsKv: i32, headDim: i32, count: i32, scaleAt: usize, scores: usize, dst: usize,
): void {
  if (type == TYPE_F16) attention_f16(q, k, v, table, heads, headsKv, headDim, count, scaleAt, scores, dst);
  else if (type == TYPE_Q8_0) attention_q8_0(q, k, v, table, heads, headsKv, headDim, count, scaleAt, scores, dst);
  else if (type == TYPE_Q4_0) attention_q4_0(q, k, v, table, heads, headsKv, headDim, count, scaleAt, scores, dst);
  else attention_f32(q, k, v, table, heads, headsKv, headDim, count, scaleAt, scores, dst);
}
