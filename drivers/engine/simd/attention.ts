// Attention over a session's cache, straight from the stored keys and values. With an F16 cache queries and probabilities are
// rounded to F16 first, as ggml does for any product with F16 operands; products and sums are f32. A score sums over
// a head's values in four lanes, (0 + 2) + (1 + 3), then the last headDim % 4; soft_max subtracts the maximum and sums likewise over positions;
// the weighted sum of values runs in order of positions. Four tokens of a batch share each pass over keys and values, and nothing
// depends on the batch a token came in: what a token may not see yet it meets with probability 0, which changes no bit.

import { ATTENTION_TILE, TYPE_F16 } from '../ops';
import { F16, F32, bits4, f16_bias, f16_mask, load1, load4, opaque_zero, quantize } from './blocks';
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

/** The same for four tokens at once, each key read once: queries and scores lie `qStep` and `scoresStep` bytes apart. */
@inline
function attention_scores4<T>(q: usize, qStep: usize, k: usize, step: usize, n: i32, count: i32, scale: f32, scores: usize, scoresStep: usize): void {
  const zero = opaque_zero(count);
  const mask = f16_mask(zero);
  const bias = f16_bias(zero);
  for (let j = 0; j < count; j++) {
    let a = f32x4.splat(0);
    let b = a;
    let c = a;
    let d = a;
    let i = 0;
    for (; i + 4 <= n; i += 4) {
      const v = load4<T>(k + i * sizeof<T>(), mask, bias);
      const y = q + (i << 2);
      a = f32x4.add(a, f32x4.mul(v128.load(y), v));
      b = f32x4.add(b, f32x4.mul(v128.load(y + qStep), v));
      c = f32x4.add(c, f32x4.mul(v128.load(y + 2 * qStep), v));
      d = f32x4.add(d, f32x4.mul(v128.load(y + 3 * qStep), v));
    }
    let sums = sums4(a, b, c, d);
    if (i < n) {
      sums = f32x4.replace_lane(sums, 0, dot_tail<T>(f32x4.extract_lane(sums, 0), q, k, i, n));
      sums = f32x4.replace_lane(sums, 1, dot_tail<T>(f32x4.extract_lane(sums, 1), q + qStep, k, i, n));
      sums = f32x4.replace_lane(sums, 2, dot_tail<T>(f32x4.extract_lane(sums, 2), q + 2 * qStep, k, i, n));
      sums = f32x4.replace_lane(sums, 3, dot_tail<T>(f32x4.extract_lane(sums, 3), q + 3 * qStep, k, i, n));
    }
    sums = f32x4.mul(sums, f32x4.splat(scale));
    v128.store32_lane(scores, sums, 0);
    v128.store32_lane(scores + scoresStep, sums, 1);
    v128.store32_lane(scores + 2 * scoresStep, sums, 2);
    v128.store32_lane(scores + 3 * scoresStep, sums, 3);
    scores += 4;
    k += step;
  }
}

/**
 * Probabilities as they meet cached values. With F16 they are rounded to halves (adding and taking away 1.5 · 2^13 times a value's power of two leaves
 * eleven bits, ties to even) and made 2^112 times too large, since values are read as bits4 reads them.
 */
@inline
function factor4<T>(x: v128): v128 {
  if (sizeof<T>() == 4) return x;
  const power = f32x4.pmax(v128.and(x, i32x4.splat(0x7f800000)), f32x4.splat(6.103515625e-5)); // at least 2^-14: below, halves lie evenly
  const m = f32x4.mul(power, f32x4.splat(12288));
  return f32x4.mul(f32x4.sub(f32x4.add(x, m), m), i32x4.splat(0x77800000));
}
/** One cached value as bits4 reads four. */
@inline
function bits1<T>(p: usize): f32 {
  if (sizeof<T>() == 4) return load<f32>(p);
  const h = <u32>load<u16>(p);
  return reinterpret<f32>(((h & 0x8000) << 16) | ((h & 0x7fff) << 13));
}

/** e^(x − largest) of four values, in place. */
@inline
function exp_shifted4(x: usize, largest: v128): v128 {
  const e = exp4(f32x4.sub(v128.load(x), largest));
  v128.store(x, e);
  return e;
}

/** x[n] → e^(x − max) / Σ, in place, as factors of values of a cache of T. */
@inline
function probabilities<T>(x: usize, n: i32): void {
  // pmax, one instruction, drops a NaN; the sum does not.
  let m = f32x4.splat(-Infinity);
  let i = 0;
  for (; i + 4 <= n; i += 4) m = f32x4.pmax(m, v128.load(x + (i << 2)));
  for (; i < n; i++) m = f32x4.pmax(m, v128.load32_splat(x + (i << 2)));
  m = f32x4.pmax(m, v128.shuffle<i64>(m, m, 1, 0));
  m = f32x4.pmax(m, v128.shuffle<i32>(m, m, 1, 0, 3, 2));

  // Two fours at a time share the constants of exp.
  const fours = n & ~3;
  const eights = n & ~7;
  let lanes = f32x4.splat(0);
  for (i = 0; i < eights; i += 8) {
    const e = exp_shifted4(x + (i << 2), m);
    const f = exp_shifted4(x + (i << 2) + 16, m);
    lanes = f32x4.add(f32x4.add(lanes, e), f);
  }
  if (eights < fours) lanes = f32x4.add(lanes, exp_shifted4(x + (eights << 2), m));
  let sum = sum4(lanes);
  for (i = fours; i < n; i++) {
    const e = exp32(load<f32>(x + (i << 2)) - f32x4.extract_lane(m, 0));
    store<f32>(x + (i << 2), e);
    sum += e;
  }
  const inverse = f32x4.splat(<f32>1 / sum);
  for (i = 0; i + 4 <= n; i += 4) v128.store(x + (i << 2), factor4<T>(f32x4.mul(v128.load(x + (i << 2)), inverse)));
  for (; i < n; i++) store<f32>(x + (i << 2), f32x4.extract_lane(factor4<T>(f32x4.mul(v128.load32_splat(x + (i << 2)), inverse)), 0));
}

/** x[n] → e^(x − max) / Σ, in place. */
export function soft_max(x: usize, n: i32): void {
  probabilities<F32>(x, n);
}

/** dst[n] = Σ over positions of p[position] · V[position]; sixteen, four, then single values at a time. */
@inline
function attention_values<T>(p: usize, v: usize, step: usize, n: i32, count: i32, dst: usize): void {
  const zero = opaque_zero(count);
  const mask = f16_mask(zero);
  let i = 0;
  for (; i + 16 <= n; i += 16) {
    let a = f32x4.splat(0);
    let b = a;
    let c = a;
    let d = a;
    let row = v + i * sizeof<T>();
    for (let j = 0; j < count; j++) {
      const w = v128.load32_splat(p + (j << 2));
      a = f32x4.add(a, f32x4.mul(w, bits4<T>(row, mask)));
      b = f32x4.add(b, f32x4.mul(w, bits4<T>(row + 4 * sizeof<T>(), mask)));
      c = f32x4.add(c, f32x4.mul(w, bits4<T>(row + 8 * sizeof<T>(), mask)));
      d = f32x4.add(d, f32x4.mul(w, bits4<T>(row + 12 * sizeof<T>(), mask)));
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
      a = f32x4.add(a, f32x4.mul(v128.load32_splat(p + (j << 2)), bits4<T>(row, mask)));
      row += step;
    }
    v128.store(dst + (i << 2), a);
  }
  for (; i < n; i++) {
    let a: f32 = 0;
    let row = v + i * sizeof<T>();
    for (let j = 0; j < count; j++) {
      a += load<f32>(p + (j << 2)) * bits1<T>(row);
      row += step;
    }
    store<f32>(dst + (i << 2), a);
  }
}

/** The same for four tokens at once, each value read once. */
@inline
function attention_values4<T>(p: usize, pStep: usize, v: usize, step: usize, n: i32, count: i32, dst: usize, dstStep: usize): void {
  const mask = f16_mask(opaque_zero(count));
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    let a = f32x4.splat(0);
    let b = a;
    let c = a;
    let d = a;
    let row = v + i * sizeof<T>();
    let w = p;
    for (let j = 0; j < count; j++) {
      const x = bits4<T>(row, mask);
      a = f32x4.add(a, f32x4.mul(v128.load32_splat(w), x));
      b = f32x4.add(b, f32x4.mul(v128.load32_splat(w + pStep), x));
      c = f32x4.add(c, f32x4.mul(v128.load32_splat(w + 2 * pStep), x));
      d = f32x4.add(d, f32x4.mul(v128.load32_splat(w + 3 * pStep), x));
      w += 4;
      row += step;
    }
    const to = dst + (i << 2);
    v128.store(to, a);
    v128.store(to + dstStep, b);
    v128.store(to + 2 * dstStep, c);
    v128.store(to + 3 * dstStep, d);
  }
  if (i < n) {
    for (let t = 0; t < ATTENTION_TILE; t++) attention_values<T>(p + t * pStep, v + i * sizeof<T>(), step, n - i, count, dst + t * dstStep + (i << 2));
  }
}

function attention_of<T>(q: usize, k: usize, v: usize, heads: i32, headsKv: i32, headDim: i32, count: i32, scale: f32, scores: usize, dst: usize): void {
  const step: usize = headsKv * headDim * sizeof<T>();
  const group = heads / headsKv;
  if (isInteger<T>()) quantize(TYPE_F16, q, heads * headDim, q);
  for (let h = 0; h < heads; h++) {
    const head: usize = (h / group) * headDim * sizeof<T>();
    attention_scores<T>(q, k + head, step, headDim, count, scale, scores);
    probabilities<T>(scores, count);
    attention_values<T>(scores, v + head, step, headDim, count, dst);
    q += headDim << 2;
    dst += headDim << 2;
  }
}

/** Scores → probabilities of the first `count` positions, 0 for those up to `last`. */
function see_until<T>(scores: usize, count: i32, last: i32): void {
  probabilities<T>(scores, count);
  for (let i = count; i < last; i++) store<f32>(scores + (i << 2), 0);
}

function attention4_of<T>(
  q: usize, qStep: usize, k: usize, v: usize, heads: i32, headsKv: i32, headDim: i32, count: i32, scale: f32, scores: usize, scoresStep: usize, dst: usize,
): void {
  const step: usize = headsKv * headDim * sizeof<T>();
  const dstStep: usize = (heads * headDim) << 2;
  const group = heads / headsKv;
  const last = count + ATTENTION_TILE - 1;
  if (isInteger<T>()) {
    for (let t = 0; t < ATTENTION_TILE; t++) quantize(TYPE_F16, q + t * qStep, heads * headDim, q + t * qStep);
  }
  for (let h = 0; h < heads; h++) {
    const head: usize = (h / group) * headDim * sizeof<T>();
    attention_scores4<T>(q, qStep, k + head, step, headDim, last, scale, scores, scoresStep);
    see_until<T>(scores, count, last);
    see_until<T>(scores + scoresStep, count + 1, last);
    see_until<T>(scores + 2 * scoresStep, count + 2, last);
    see_until<T>(scores + 3 * scoresStep, last, last);
    attention_values4<T>(scores, scoresStep, v + head, step, headDim, last, dst, dstStep);
    q += headDim << 2;
    dst += headDim << 2;
  }
}

/** One token: q[heads · headDim] (rounded in place for an F16 cache) against positions 0 … count − 1 of K and V, [position][headsKv · headDim]. `scaleAt`: where the f32 lies. */
export function attention(type: i32, q: usize, k: usize, v: usize, heads: i32, headsKv: i32, headDim: i32, count: i32, scaleAt: usize, scores: usize, dst: usize): void {
  const scale = load<f32>(scaleAt);
  if (type != TYPE_F16) attention_of<F32>(q, k, v, heads, headsKv, headDim, count, scale, scores, dst);
  else attention_of<F16>(q, k, v, heads, headsKv, headDim, count, scale, scores, dst);
}

/**
 * Four tokens that follow each other, the first seeing positions 0 … count − 1; all their keys and values are stored. Queries lie qStep bytes
 * apart, scores are f32[4][scoresStep bytes], dst is [4][heads · headDim].
 */
export function attention4(
  type: i32, q: usize, qStep: usize, k: usize, v: usize, heads: i32, headsKv: i32, headDim: i32, count: i32, scaleAt: usize, scores: usize, scoresStep: usize,
  dst: usize,
): void {
  const scale = load<f32>(scaleAt);
  if (type != TYPE_F16) attention4_of<F32>(q, qStep, k, v, heads, headsKv, headDim, count, scale, scores, scoresStep, dst);
  else attention4_of<F16>(q, qStep, k, v, heads, headsKv, headDim, count, scale, scores, scoresStep, dst);
}
