// Training, forwards (dual numbers, Wengert 1964): from the tangents of an op's arguments to that of its result, beside the values
// themselves. Products need no op of their own: the tangent of
// W · x is that product of x's tangent. The loss along its tangent is in trainloss.ts.

import { CausalAttentionBack, GatedBack, NormBack, NormHeadsBack, Op } from '../ops';
import { soft_max } from './attention';
import { gelu_of, gelu_slope4, silu_of, silu_slope4 } from './math';
import { is_for, word } from './record';
import { dot, madd, put, take } from './vectors';

// ── Normalisation ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** mean(x · y) of values less their means, products exact in f64. */
@inline
function mean_product(x: usize, y: usize, n: i32, meanX: f64, meanY: f64): f64 {
  let sum: f64 = 0;
  for (let i = 0; i < n; i++) sum += (<f64>load<f32>(x + (i << 2)) - meanX) * (<f64>load<f32>(y + (i << 2)) - meanY);
  return sum / <f64>n;
}

@inline
function mean_of(x: usize, n: i32): f64 {
  let sum: f64 = 0;
  for (let i = 0; i < n; i++) sum += <f64>load<f32>(x + (i << 2));
  return sum / <f64>n;
}

/** dst = ((dx − meanDx) − (x − meanX) · along) · scale · w; w may be absent (0). */
@inline
function jvp_lanes(x: usize, dx: usize, meanX: v128, meanDx: v128, along: v128, scale: v128, w: usize, dst: usize, four: bool): void {
  const across = f32x4.sub(f32x4.sub(take(dx, four), meanDx), f32x4.mul(f32x4.sub(take(x, four), meanX), along));
  const v = f32x4.mul(across, scale);
  put(dst, w != 0 ? f32x4.mul(v, take(w, four)) : v, four);
}

/**
 * Tangent of (x − mean) · r · w with r = 1 / √(variance + eps), or of x · r · w with the mean of squares, about 0: what dx has along x changes r
 * and cancels but for eps, so r · w · (dx − x · mean(x · dx) · r²) of values less their means.
 */
function norm_row(x: usize, dx: usize, n: i32, meanX: f64, meanDx: f64, w: usize, eps: f32, dst: usize): void {
  const square = 1 / (mean_product(x, x, n, meanX, meanX) + <f64>eps);
  const scale = f32x4.splat(<f32>sqrt<f64>(square));
  const along = f32x4.splat(<f32>(mean_product(x, dx, n, meanX, meanDx) * square));
  const aboutX = f32x4.splat(<f32>meanX);
  const aboutDx = f32x4.splat(<f32>meanDx);
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const at = i << 2;
    jvp_lanes(x + at, dx + at, aboutX, aboutDx, along, scale, w != 0 ? w + at : 0, dst + at, true);
  }
  for (; i < n; i++) {
    const at = i << 2;
    jvp_lanes(x + at, dx + at, aboutX, aboutDx, along, scale, w != 0 ? w + at : 0, dst + at, false);
  }
}

/** RMS_NORM_JVP and LAYER_NORM_JVP over n tokens, from row `row` of the pass to row `to` of dst. */
@inline
export function norm_jvp(op: usize, n: i32, row: i32, to: i32, centred: bool): void {
  const length = word(op, NormBack.n);
  const bytes: usize = length << 2;
  const eps = load<f32>(op, NormBack.eps << 2);
  const w: usize = word(op, NormBack.weightsAt);
  let x: usize = word(op, NormBack.xAt) + row * bytes;
  let dx: usize = word(op, NormBack.srcAt) + row * bytes;
  let dst: usize = word(op, NormBack.dstAt) + to * bytes;
  for (; n > 0; n--) {
    norm_row(x, dx, length, centred ? mean_of(x, length) : 0, centred ? mean_of(dx, length) : 0, w, eps, dst);
    x += bytes;
    dx += bytes;
    dst += bytes;
  }
}

/** RMS_NORM_HEADS_JVP over n tokens. */
export function rms_norm_heads_jvp(op: usize, n: i32): void {
  const headDim = word(op, NormHeadsBack.headDim);
  const bytes: usize = headDim << 2;
  const step: usize = word(op, NormHeadsBack.stride) << 2;
  const heads = word(op, NormHeadsBack.heads);
  const w: usize = word(op, NormHeadsBack.weightsAt);
  const eps = load<f32>(op, NormHeadsBack.eps << 2);
  let x: usize = word(op, NormHeadsBack.xAt);
  let dx: usize = word(op, NormHeadsBack.at);
  for (; n > 0; n--) {
    for (let head = 0; head < heads; head++) {
      const at: usize = head * bytes;
      norm_row(x + at, dx + at, headDim, 0, 0, w, eps, dx + at);
    }
    x += step;
    dx += step;
  }
}

// ── Attention ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** dst = Σ over n positions of p · dv + slope · v, four values or one, positions in order. */
@inline
function mixed_lanes(p: usize, slope: usize, v: usize, dv: usize, step: usize, n: i32, dst: usize, four: bool): void {
  let sum = f32x4.splat(0);
  for (; n > 0; n--) {
    sum = madd(sum, v128.load32_splat(p), take(dv, four));
    sum = madd(sum, v128.load32_splat(slope), take(v, four));
    p += 4;
    slope += 4;
    v += step;
    dv += step;
  }
  put(dst, sum, four);
}

/** The same of sixteen values. */
@inline
function mixed_sixteen(p: usize, slope: usize, v: usize, dv: usize, step: usize, n: i32, dst: usize): void {
  let s0 = f32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  for (; n > 0; n--) {
    const a = v128.load32_splat(p);
    const b = v128.load32_splat(slope);
    s0 = madd(madd(s0, a, v128.load(dv)), b, v128.load(v));
    s1 = madd(madd(s1, a, v128.load(dv, 16)), b, v128.load(v, 16));
    s2 = madd(madd(s2, a, v128.load(dv, 32)), b, v128.load(v, 32));
    s3 = madd(madd(s3, a, v128.load(dv, 48)), b, v128.load(v, 48));
    p += 4;
    slope += 4;
    v += step;
    dv += step;
  }
  v128.store(dst, s0);
  v128.store(dst, s1, 16);
  v128.store(dst, s2, 32);
  v128.store(dst, s3, 48);
}

/** dst[headDim] of a head, as mixed_lanes. */
@inline
function mixed(p: usize, slope: usize, v: usize, dv: usize, step: usize, n: i32, headDim: i32, dst: usize): void {
  let i = 0;
  for (; i + 16 <= headDim; i += 16) mixed_sixteen(p, slope, v + (i << 2), dv + (i << 2), step, n, dst + (i << 2));
  for (; i + 4 <= headDim; i += 4) mixed_lanes(p, slope, v + (i << 2), dv + (i << 2), step, n, dst + (i << 2), true);
  for (; i < headDim; i++) mixed_lanes(p, slope, v + (i << 2), dv + (i << 2), step, n, dst + (i << 2), false);
}

/** x[n] → p · (x − Σ p x): from the tangents of scores to those of their soft_max p. */
@inline
function soft_max_jvp(p: usize, x: usize, n: i32): void {
  const mean = f32x4.splat(dot(p, x, n));
  let i = 0;
  for (; i + 4 <= n; i += 4) v128.store(x + (i << 2), f32x4.mul(v128.load(p + (i << 2)), f32x4.sub(v128.load(x + (i << 2)), mean)));
  for (; i < n; i++) put(x + (i << 2), f32x4.mul(v128.load32_splat(p + (i << 2)), f32x4.sub(v128.load32_splat(x + (i << 2)), mean)), false);
}

/** CAUSAL_ATTENTION_JVP of this position, which is its row's number too. */
export function causal_attention_jvp(op: usize, pos: i32): void {
  if (!is_for(op, CausalAttentionBack.from, CausalAttentionBack.until, pos)) return;
  const heads = word(op, CausalAttentionBack.heads);
  const headsKv = word(op, CausalAttentionBack.headsKv);
  const headDim = word(op, CausalAttentionBack.headDim);
  const step: usize = word(op, CausalAttentionBack.stride) << 2;
  const scale = load<f32>(op, CausalAttentionBack.scale << 2);
  const p: usize = word(op, CausalAttentionBack.scoresAt);
  const count = pos + 1;
  const slopes: usize = p + (count << 2);
  const bytes: usize = headDim << 2;
  const group = heads / headsKv;
  const values: usize = word(op, CausalAttentionBack.qAt);
  const tangents: usize = word(op, CausalAttentionBack.srcAt);
  const toKeys: usize = heads * bytes;
  const toValues: usize = headsKv * bytes;
  let q: usize = values + pos * step;
  let dq: usize = tangents + pos * step;
  let dst: usize = word(op, CausalAttentionBack.dstAt) + pos * heads * bytes;
  for (let h = 0; h < heads; h++) {
    const head: usize = toKeys + (h / group) * bytes;
    let k = values + head;
    let dk = tangents + head;
    for (let j = 0; j < count; j++) {
      store<f32>(p + (j << 2), dot(q, k, headDim) * scale);
      store<f32>(slopes + (j << 2), (dot(dq, k, headDim) + dot(q, dk, headDim)) * scale);
      k += step;
      dk += step;
    }
    soft_max(p, count);
    soft_max_jvp(p, slopes, count);
    mixed(p, slopes, values + head + toValues, tangents + head + toValues, step, count, headDim, dst);
    q += bytes;
    dq += bytes;
    dst += bytes;
  }
}

// ── Gates ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** dst = gate'(x) · dx · up + gate(x) · dup. */
@inline
function gated_lanes(x: v128, dx: usize, up: usize, dup: usize, dst: usize, silu: bool, four: bool): void {
  const slope = silu ? silu_slope4(x) : gelu_slope4(x);
  const value = silu ? silu_of(x) : gelu_of(x);
  put(dst, madd(f32x4.mul(f32x4.mul(slope, take(dx, four)), take(up, four)), value, take(dup, four)), four);
}

@inline
function gated_jvp(op: usize, n: i32, silu: bool): void {
  const x: usize = word(op, GatedBack.srcAt);
  const dx: usize = word(op, GatedBack.gradAt);
  const up: usize = word(op, GatedBack.upAt);
  const dup: usize = word(op, GatedBack.upGradAt);
  const dst: usize = word(op, GatedBack.dstAt);
  const bytes: usize = (n * word(op, GatedBack.n)) << 2;
  let i: usize = 0;
  for (; i + 16 <= bytes; i += 16) gated_lanes(v128.load(x + i), dx + i, up + i, dup + i, dst + i, silu, true);
  for (; i < bytes; i += 4) gated_lanes(v128.load32_splat(x + i), dx + i, up + i, dup + i, dst + i, silu, false);
}

/** SILU_MUL_JVP over n tokens. */
export function silu_mul_jvp(op: usize, n: i32): void {
  gated_jvp(op, n, true);
}

/** GELU_MUL_JVP over n tokens. */
export function gelu_mul_jvp(op: usize, n: i32): void {
  gated_jvp(op, n, false);
}

/** GELU_JVP over n tokens. */
export function gelu_jvp(op: usize, n: i32): void {
  const x: usize = word(op, GatedBack.srcAt);
  const dx: usize = word(op, GatedBack.gradAt);
  const dst: usize = word(op, GatedBack.dstAt);
  const length = n * word(op, GatedBack.n);
  let i = 0;
  for (; i + 4 <= length; i += 4) put(dst + (i << 2), f32x4.mul(gelu_slope4(v128.load(x + (i << 2))), v128.load(dx + (i << 2))), true);
  for (; i < length; i++) put(dst + (i << 2), f32x4.mul(gelu_slope4(v128.load32_splat(x + (i << 2))), v128.load32_splat(dx + (i << 2))), false);
}
