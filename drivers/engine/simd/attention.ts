// Attention of one token over its session's cache, straight from the stored keys and values. With an F16 cache queries and probabilities are
// rounded to F16 first, as ggml does for any product with F16 operands; products and sums are f32. A score sums over
// a head's values in four lanes, (0 + 2) + (1 + 3), then the last headDim % 4; soft_max subtracts the maximum and sums likewise over positions;
// the weighted sum of values runs in order of positions. Nothing depends on the batch a token came in.

import { TYPE_F16 } from '../ops';
import { F16, F32, f16_bias, f16_mask, load1, load4, opaque_zero, quantize } from './blocks';
import { exp32, exp4, sum4, sums4 } from './math';

/** q · k over headDim values. */
@inline
function dot<T>(q: usize, k: usize, n: i32, mask: v128, bias: v128): f32 {
  let sum = f32x4.splat(0);
  let i = 0;
  for (; i + 4 <= n; i += 4) sum = f32x4.add(sum, f32x4.mul(v128.load(q + (i << 2)), load4<T>(k + i * sizeof<T>(), mask, bias)));
  return dot_tail<T>(sum4(sum), q, k, i, n);
}
@inline
function dot_tail<T>(sum: f32, q: usize, k: usize, i: i32, n: i32): f32 {
  for (; i < n; i++) sum += load<f32>(q + (i << 2)) * load1<T>(k + i * sizeof<T>());
  return sum;
}

/** scores[count] = q · K[position] · scale, four positions at a time. */
@inline
function attention_scores<T>(q: usize, k: usize, step: usize, n: i32, count: i32, scale: f32, scores: usize): void {
  const zero = opaque_zero(count);
  const mask = f16_mask(zero);
  const bias = f16_bias(zero);
  let j = 0;
  for (; j + 4 <= count; j += 4) {
    const k1 = k + step;
    const k2 = k1 + step;
    const k3 = k2 + step;
    let a = f32x4.splat(0);
    let b = a;
    let c = a;
    let d = a;
    let i = 0;
    for (; i + 4 <= n; i += 4) {
      const v = v128.load(q + (i << 2));
      const at = i * sizeof<T>();
      a = f32x4.add(a, f32x4.mul(v, load4<T>(k + at, mask, bias)));
      b = f32x4.add(b, f32x4.mul(v, load4<T>(k1 + at, mask, bias)));
      c = f32x4.add(c, f32x4.mul(v, load4<T>(k2 + at, mask, bias)));
      d = f32x4.add(d, f32x4.mul(v, load4<T>(k3 + at, mask, bias)));
    }
    let sums = sums4(a, b, c, d);
    if (i < n) {
      sums = f32x4.replace_lane(sums, 0, dot_tail<T>(f32x4.extract_lane(sums, 0), q, k, i, n));
      sums = f32x4.replace_lane(sums, 1, dot_tail<T>(f32x4.extract_lane(sums, 1), q, k1, i, n));
      sums = f32x4.replace_lane(sums, 2, dot_tail<T>(f32x4.extract_lane(sums, 2), q, k2, i, n));
      sums = f32x4.replace_lane(sums, 3, dot_tail<T>(f32x4.extract_lane(sums, 3), q, k3, i, n));
    }
    v128.store(scores + (j << 2), f32x4.mul(sums, f32x4.splat(scale)));
    k = k3 + step;
  }
  for (; j < count; j++) {
    store<f32>(scores + (j << 2), dot<T>(q, k, n, mask, bias) * scale);
    k += step;
  }
}

/** x[n] → e^(x − max) / Σ, in place. */
export function soft_max(x: usize, n: i32): void {
  let m = f32x4.splat(-Infinity);
  let i = 0;
  for (; i + 4 <= n; i += 4) m = f32x4.max(m, v128.load(x + (i << 2)));
  m = f32x4.max(m, v128.shuffle<i64>(m, m, 1, 0));
  let largest = max<f32>(f32x4.extract_lane(m, 0), f32x4.extract_lane(m, 1));
  for (; i < n; i++) largest = max<f32>(largest, load<f32>(x + (i << 2)));

  let lanes = f32x4.splat(0);
  for (i = 0; i + 4 <= n; i += 4) {
    const e = exp4(f32x4.sub(v128.load(x + (i << 2)), f32x4.splat(largest)));
    v128.store(x + (i << 2), e);
    lanes = f32x4.add(lanes, e);
  }
  let sum = sum4(lanes);
  for (; i < n; i++) {
    const e = exp32(load<f32>(x + (i << 2)) - largest);
    store<f32>(x + (i << 2), e);
    sum += e;
  }
  const inverse = <f32>1 / sum;
  for (i = 0; i + 4 <= n; i += 4) v128.store(x + (i << 2), f32x4.mul(v128.load(x + (i << 2)), f32x4.splat(inverse)));
  for (; i < n; i++) store<f32>(x + (i << 2), load<f32>(x + (i << 2)) * inverse);
}

/** dst[n] = Σ over positions of p[position] · V[position]; sixteen, four, then single values at a time. */
@inline
function attention_values<T>(p: usize, v: usize, step: usize, n: i32, count: i32, dst: usize): void {
  const zero = opaque_zero(count);
  const mask = f16_mask(zero);
  const bias = f16_bias(zero);
  let i = 0;
  for (; i + 16 <= n; i += 16) {
    let a = f32x4.splat(0);
    let b = a;
    let c = a;
    let d = a;
    let row = v + i * sizeof<T>();
    for (let j = 0; j < count; j++) {
      const w = v128.load32_splat(p + (j << 2));
      a = f32x4.add(a, f32x4.mul(w, load4<T>(row, mask, bias)));
      b = f32x4.add(b, f32x4.mul(w, load4<T>(row + 4 * sizeof<T>(), mask, bias)));
      c = f32x4.add(c, f32x4.mul(w, load4<T>(row + 8 * sizeof<T>(), mask, bias)));
      d = f32x4.add(d, f32x4.mul(w, load4<T>(row + 12 * sizeof<T>(), mask, bias)));
      row += step;
    }
    v128.store(dst + (i << 2), a);
    v128.store(dst + (i << 2), b, 16);
    v128.store(dst + (i << 2), c, 32);
    v128.store(dst + (i << 2), d, 48);
  }
  for (; i + 4 <= n; i += 4) {
    let a = f32x4.splat(0);
    let row = v + i * sizeof<T>();
    for (let j = 0; j < count; j++) {
      a = f32x4.add(a, f32x4.mul(v128.load32_splat(p + (j << 2)), load4<T>(row, mask, bias)));
      row += step;
    }
    v128.store(dst + (i << 2), a);
  }
  for (; i < n; i++) {
    let a: f32 = 0;
    let row = v + i * sizeof<T>();
    for (let j = 0; j < count; j++) {
      a += load<f32>(p + (j << 2)) * load1<T>(row);
      row += step;
    }
    store<f32>(dst + (i << 2), a);
  }
}

@inline
function attention_of<T>(q: usize, k: usize, v: usize, heads: i32, headsKv: i32, headDim: i32, count: i32, scale: f32, scores: usize, dst: usize): void {
  const step: usize = headsKv * headDim * sizeof<T>();
  const group = heads / headsKv;
  if (isInteger<T>()) quantize(TYPE_F16, q, heads * headDim, q);
  for (let h = 0; h < heads; h++) {
    const head: usize = (h / group) * headDim * sizeof<T>();
    attention_scores<T>(q, k + head, step, headDim, count, scale, scores);
    soft_max(scores, count);
    if (isInteger<T>()) quantize(TYPE_F16, scores, count, scores);
    attention_values<T>(scores, v + head, step, headDim, count, dst);
    q += headDim << 2;
    dst += headDim << 2;
  }
}

/** One token: q[heads · headDim] (rounded in place for an F16 cache) against positions 0 … count − 1 of K and V, [position][headsKv · headDim]. `scaleAt`: where the f32 lies. */
export function attention(type: i32, q: usize, k: usize, v: usize, heads: i32, headsKv: i32, headDim: i32, count: i32, scaleAt: usize, scores: usize, dst: usize): void {
  const scale = load<f32>(scaleAt);
  if (type == TYPE_F16) attention_of<F16>(q, k, v, heads, headsKv, headDim, count, scale, scores, dst);
  else attention_of<F32>(q, k, v, heads, headsKv, headDim, count, scale, scores, dst);
}
