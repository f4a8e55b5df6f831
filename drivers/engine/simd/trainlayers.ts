// The small ops of a layer, backwards: from the gradient of what a kernel of layers.ts (or GELU_MUL here) gives to those of what it takes. The
// derivatives are those of the functions as numbers have them, not of their roundings. Sums over a row run in f64, from its first value to its last.

import { sum_f64, variance_of } from './layers';
import { gelu_of, gelu_slope4, silu_of, silu_slope4 } from './math';
import { put, take } from './vectors';

// ── Normalisation ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Σ g · w, or Σ g · w · (x − mean); w may be absent (0). */
@inline
function sum_of_gradients(g: usize, w: usize, x: usize, n: i32, mean: f32, centred: bool): f64 {
  let sum: f64 = 0;
  for (let i: usize = 0, end: usize = n << 2; i < end; i += 4) {
    let v = <f64>load<f32>(g + i);
    if (w != 0) v *= <f64>load<f32>(w + i);
    if (centred) v *= <f64>(load<f32>(x + i) - mean);
    sum += v;
  }
  return sum;
}

/**
 * dst (+)= (g · w − shift − x̂ · slope) · scale, where x̂ = (x − mean) · scale; gradients of weights += g · x̂ and of biases += g, where there are
 * any. Four values, or one.
 */
@inline
function norm_back_part(
  g: usize, x: usize, w: usize, mean: v128, scale: v128, shift: v128, slope: v128, dst: usize, wGrad: usize, bGrad: usize, add: bool, four: bool,
): void {
  const grad = take(g, four);
  const normed = f32x4.mul(f32x4.sub(take(x, four), mean), scale);
  if (wGrad != 0) put(wGrad, f32x4.add(take(wGrad, four), f32x4.mul(grad, normed)), four);
  if (bGrad != 0) put(bGrad, f32x4.add(take(bGrad, four), grad), four);
  let v = grad;
  if (w != 0) v = f32x4.mul(v, take(w, four));
  v = f32x4.mul(f32x4.sub(f32x4.sub(v, shift), f32x4.mul(normed, slope)), scale);
  if (add) v = f32x4.add(take(dst, four), v);
  put(dst, v, four);
}

@inline
function norm_back_row(
  g: usize, x: usize, n: i32, w: usize, mean: f32, scale: f32, shift: f32, slope: f32, dst: usize, wGrad: usize, bGrad: usize, add: bool,
): void {
  const m = f32x4.splat(mean);
  const r = f32x4.splat(scale);
  const a = f32x4.splat(shift);
  const b = f32x4.splat(slope);
  let i = n;
  for (; i >= 4; i -= 4) {
    norm_back_part(g, x, w, m, r, a, b, dst, wGrad, bGrad, add, true);
    g += 16;
    x += 16;
    dst += 16;
    if (w != 0) w += 16;
    if (wGrad != 0) wGrad += 16;
    if (bGrad != 0) bGrad += 16;
  }
  for (; i > 0; i--) {
    norm_back_part(g, x, w, m, r, a, b, dst, wGrad, bGrad, add, false);
    g += 4;
    x += 4;
    dst += 4;
    if (w != 0) w += 4;
    if (wGrad != 0) wGrad += 4;
    if (bGrad != 0) bGrad += 4;
  }
}

/** Of rms_norm: with r = 1/√(mean(x²) + eps) and h = g · w, dst (+)= r · (h − x̂ · mean(h · x̂)). `dst` may be `g` where nothing is added. */
export function rms_norm_back(g: usize, x: usize, n: i32, w: usize, epsAt: usize, dst: usize, wGrad: usize, add: bool): void {
  const scale = <f32>1 / sqrt<f32>(<f32>(sum_f64(x, n, true) / <f64>n) + load<f32>(epsAt));
  const slope = <f32>((sum_of_gradients(g, w, x, n, 0, true) * <f64>scale) / <f64>n);
  norm_back_row(g, x, n, w, 0, scale, 0, slope, dst, wGrad, 0, add);
}

/** Of layer_norm: dst += r · (h − mean(h) − x̂ · mean(h · x̂)). */
export function layer_norm_back(g: usize, x: usize, n: i32, w: usize, epsAt: usize, dst: usize, wGrad: usize, bGrad: usize): void {
  const mean = <f32>sum_f64(x, n, false) / <f32>n;
  const scale = <f32>1 / sqrt<f32>(variance_of(x, n, mean) + load<f32>(epsAt));
  const shift = <f32>(sum_of_gradients(g, w, x, n, 0, false) / <f64>n);
  const slope = <f32>((sum_of_gradients(g, w, x, n, mean, true) * <f64>scale) / <f64>n);
  norm_back_row(g, x, n, w, mean, scale, shift, slope, dst, wGrad, bGrad, true);
}

// ── Rotary positions ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Of rope and rope_halves, in place: (x, y) → (x cos + y sin, y cos − x sin). `next`, `second`: bytes to the next pair and to a pair's second value. */
@inline
function turn_back(x: usize, heads: i32, headDim: i32, pairs: i32, table: usize, next: usize, second: usize): void {
  for (; heads > 0; heads--) {
    let p = x;
    let angle = table;
    for (let i = pairs; i > 0; i--) {
      const a = load<f32>(p);
      const b = load<f32>(p + second);
      const c = load<f32>(angle);
      const s = load<f32>(angle, 4);
      store<f32>(p, a * c + b * s);
      store<f32>(p + second, b * c - a * s);
      p += next;
      angle += 8;
    }
    x += headDim << 2;
  }
}

export function rope_back(x: usize, heads: i32, headDim: i32, pairs: i32, table: usize, halves: bool): void {
  if (halves) turn_back(x, heads, headDim, pairs, table, 4, pairs << 2);
  else turn_back(x, heads, headDim, pairs, table, 8, 4);
}

// ── Elementwise ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Gradients of silu(gate) · up: `dst` of the gate, `upDst` of up. */
@inline
function silu_mul_back_part(gate: usize, up: usize, grad: usize, dst: usize, upDst: usize, four: bool): void {
  const x = take(gate, four);
  const u = take(up, four);
  const g = take(grad, four);
  put(dst, f32x4.mul(f32x4.mul(g, u), silu_slope4(x)), four);
  put(upDst, f32x4.mul(g, silu_of(x)), four);
}
export function silu_mul_back(gate: usize, up: usize, grad: usize, n: i32, dst: usize, upDst: usize): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) silu_mul_back_part(gate + (i << 2), up + (i << 2), grad + (i << 2), dst + (i << 2), upDst + (i << 2), true);
  for (; i < n; i++) silu_mul_back_part(gate + (i << 2), up + (i << 2), grad + (i << 2), dst + (i << 2), upDst + (i << 2), false);
}

/** dst = grad · gelu'(x). */
export function gelu_back(x: usize, grad: usize, n: i32, dst: usize): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) put(dst + (i << 2), f32x4.mul(take(grad + (i << 2), true), gelu_slope4(take(x + (i << 2), true))), true);
  for (; i < n; i++) put(dst + (i << 2), f32x4.mul(take(grad + (i << 2), false), gelu_slope4(take(x + (i << 2), false))), false);
}

/** dst = gelu(gate) · up. */
export function gelu_mul(gate: usize, up: usize, n: i32, dst: usize): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) put(dst + (i << 2), f32x4.mul(gelu_of(take(gate + (i << 2), true)), take(up + (i << 2), true)), true);
  for (; i < n; i++) put(dst + (i << 2), f32x4.mul(gelu_of(take(gate + (i << 2), false)), take(up + (i << 2), false)), false);
}

/** Gradients of gelu(gate) · up. */
@inline
function gelu_mul_back_part(gate: usize, up: usize, grad: usize, dst: usize, upDst: usize, four: bool): void {
  const x = take(gate, four);
  const u = take(up, four);
  const g = take(grad, four);
  put(dst, f32x4.mul(f32x4.mul(g, u), gelu_slope4(x)), four);
  put(upDst, f32x4.mul(g, gelu_of(x)), four);
}
export function gelu_mul_back(gate: usize, up: usize, grad: usize, n: i32, dst: usize, upDst: usize): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) gelu_mul_back_part(gate + (i << 2), up + (i << 2), grad + (i << 2), dst + (i << 2), upDst + (i << 2), true);
  for (; i < n; i++) gelu_mul_back_part(gate + (i << 2), up + (i << 2), grad + (i << 2), dst + (i << 2), upDst + (i << 2), false);
}
