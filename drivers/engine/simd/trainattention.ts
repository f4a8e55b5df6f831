// Attention of training: over queries, keys and values that lie side by side in one buffer, a row for each position of a sequence from its
// beginning; no pages, no rounding to halves. A position at a time, forwards and backwards. The way back computes probabilities anew from queries
// and keys (as FlashAttention does, Dao et al. 2022): nothing of size context² is kept. Sums run over a head's values in four lanes, over
// positions one after the other.

import { soft_max } from './attention';
import { dot, madd } from './vectors';

/** dst[count] = a · rows of f32[count][stride] · times. */
@inline
function dots(a: usize, rows: usize, step: usize, n: i32, count: i32, times: f32, dst: usize): void {
  for (; count > 0; count--) {
    store<f32>(dst, dot(a, rows, n) * times);
    rows += step;
    dst += 4;
  }
}

/** dst[n] += x[n] times the f32 at `weight`. */
@inline
function add_times(dst: usize, x: usize, n: i32, weight: usize): void {
  const w = v128.load32_splat(weight);
  let i = 0;
  for (; i + 4 <= n; i += 4) v128.store(dst + (i << 2), madd(v128.load(dst + (i << 2)), v128.load(x + (i << 2)), w));
  for (; i < n; i++) v128.store32_lane(dst + (i << 2), madd(v128.load32_splat(dst + (i << 2)), v128.load32_splat(x + (i << 2)), w), 0);
}

/** dst[n] = Σ over `count` positions of weight · row. */
@inline
function weighted_rows(dst: usize, rows: usize, step: usize, n: i32, count: i32, weights: usize): void {
  memory.fill(dst, 0, n << 2);
  for (; count > 0; count--) {
    add_times(dst, rows, n, weights);
    rows += step;
    weights += 4;
  }
}

/** Each of `count` rows += x[n] times its weight. */
@inline
function add_to_rows(rows: usize, step: usize, n: i32, count: i32, x: usize, weights: usize): void {
  for (; count > 0; count--) {
    add_times(rows, x, n, weights);
    rows += step;
    weights += 4;
  }
}

/**
 * Position count − 1: dst[heads · headDim] = soft_max(q · K · scale) · V over the positions up to it. `first`: row 0 of f32[t][step], query, key and
 * value side by side; `row`: the position's own; `scores`: scratch, f32[count].
 */
export function causal_attention(
  first: usize, row: usize, step: usize, heads: i32, headsKv: i32, headDim: i32, count: i32, scaleAt: usize, scores: usize, dst: usize,
): void {
  const group = heads / headsKv;
  const keys = first + ((heads * headDim) << 2);
  const values = keys + ((headsKv * headDim) << 2);
  for (let h = 0; h < heads; h++) {
    const shared: usize = ((h / group) * headDim) << 2;
    const own: usize = (h * headDim) << 2;
    dots(row + own, keys + shared, step, headDim, count, load<f32>(scaleAt), scores);
    soft_max(scores, count);
    weighted_rows(dst + own, values + shared, step, headDim, count, scores);
  }
}

/** From gradients of probabilities p to those of scores, in place: p · (g − Σ p · g) · scale. */
@inline
function soft_max_back(p: usize, g: usize, n: i32, scale: f32): void {
  let sum: f64 = 0;
  for (let i = 0; i < n; i++) sum += <f64>load<f32>(p + (i << 2)) * <f64>load<f32>(g + (i << 2));
  const mean = <f32>sum;
  for (let i = 0; i < n; i++) store<f32>(g + (i << 2), load<f32>(p + (i << 2)) * (load<f32>(g + (i << 2)) - mean) * scale);
}

/**
 * The way back from position count − 1, after those before it: from `grad` f32[heads · headDim] to the gradients of query, key and value, which lie in
 * `firstGrad` as these in `first`. Of keys and values before the position gradients are added to; the position's own are written, as is its query's.
 * `scores`: scratch, f32[2 · count].
 */
export function causal_attention_back(
  first: usize, row: usize, step: usize, heads: i32, headsKv: i32, headDim: i32, count: i32, scaleAt: usize, scores: usize, grad: usize, firstGrad: usize,
  rowGrad: usize,
): void {
  const group = heads / headsKv;
  const keysAt: usize = (heads * headDim) << 2;
  const valuesAt: usize = keysAt + ((headsKv * headDim) << 2);
  const scoresGrad = scores + (count << 2);
  memory.fill(rowGrad + keysAt, 0, (2 * headsKv * headDim) << 2);
  for (let h = 0; h < heads; h++) {
    const shared: usize = ((h / group) * headDim) << 2;
    const own: usize = (h * headDim) << 2;
    const keys = first + keysAt + shared;
    dots(row + own, keys, step, headDim, count, load<f32>(scaleAt), scores);
    soft_max(scores, count);
    dots(grad + own, first + valuesAt + shared, step, headDim, count, 1, scoresGrad);
    add_to_rows(firstGrad + valuesAt + shared, step, headDim, count, grad + own, scores);
    soft_max_back(scores, scoresGrad, count, load<f32>(scaleAt));
    weighted_rows(rowGrad + own, keys, step, headDim, count, scoresGrad);
    add_to_rows(firstGrad + keysAt + shared, step, headDim, count, row + own, scoresGrad);
  }
}
