// The small kernels of a transformer step: normalisation, rotary positions, elementwise functions, the KV cache's writer. Each operation is
// rounded where ggml's AVX2 code rounds it: a norm's sums in f64, products of a rotation and of an exponential fused as its compiler fuses them.

import { TYPE_F16, TYPE_Q4_0, TYPE_Q8_0 } from '../ops';
import { f32x4_to_f16, round_f16x4 } from './blocks';
import { Q4_0, Q8_0, store_blocks } from './kv';
import { cos32, exp32, exp64, fma1, fma4, gelu4, ln64, silu4, sin32, sum4, tanh32 } from './math';

// ── Normalisation ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Σ x, or Σ x², each value or square in f32, added in order in f64. */
@inline
export function sum_f64(x: usize, n: i32, squares: bool): f64 {
  let sum: f64 = 0;
  for (const end = x + (n << 2); x < end; x += 4) {
    const v = load<f32>(x);
    sum += <f64>(squares ? v * v : v);
  }
  return sum;
}

/** Σ (x − mean)²: eight at a time in f32, those sums in f64, then the last n % 8. */
@inline
function sum_of_squares(x: usize, n: i32, mean: f32): f64 {
  let sum: f64 = 0;
  const m = f32x4.splat(mean);
  for (const end = x + ((n & ~7) << 2); x < end; x += 32) {
    const low = f32x4.sub(v128.load(x), m);
    const high = f32x4.sub(v128.load(x, 16), m);
    sum += <f64>sum4(f32x4.add(f32x4.mul(low, low), f32x4.mul(high, high)));
  }
  for (let i = n & 7; i > 0; i--) {
    const v = load<f32>(x) - mean;
    sum += <f64>(v * v);
    x += 4;
  }
  return sum;
}

/** The mean of (x − mean)². */
@inline
export function variance_of(x: usize, n: i32, mean: f32): f32 {
  return <f32>(sum_of_squares(x, n, mean) / <f64>n);
}

/** dst = (x − mean) · scale · w + b, value by value; w and b may be absent (0). */
@inline
function scale_row(x: usize, n: i32, mean: f32, scale: f32, w: usize, b: usize, dst: usize): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    let v = f32x4.mul(f32x4.sub(v128.load(x + (i << 2)), f32x4.splat(mean)), f32x4.splat(scale));
    if (w != 0) v = f32x4.mul(v, v128.load(w + (i << 2)));
    if (b != 0) v = f32x4.add(v, v128.load(b + (i << 2)));
    v128.store(dst + (i << 2), v);
  }
  for (; i < n; i++) {
    let v = (load<f32>(x + (i << 2)) - mean) * scale;
    if (w != 0) v *= load<f32>(w + (i << 2));
    if (b != 0) v += load<f32>(b + (i << 2));
    store<f32>(dst + (i << 2), v);
  }
}

/** dst[n] = x / √(mean(x²) + eps) · w. `epsAt`: where the f32 lies. */
export function rms_norm(x: usize, n: i32, w: usize, epsAt: usize, dst: usize): void {
  const mean = <f32>(sum_f64(x, n, true) / <f64>n);
  scale_row(x, n, 0, <f32>1 / sqrt<f32>(mean + load<f32>(epsAt)), w, 0, dst);
}

/** dst[n] = (x − mean) / √(variance + eps) · w + b. */
export function layer_norm(x: usize, n: i32, w: usize, b: usize, epsAt: usize, dst: usize): void {
  const mean = <f32>sum_f64(x, n, false) / <f32>n;
  scale_row(x, n, mean, <f32>1 / sqrt<f32>(variance_of(x, n, mean) + load<f32>(epsAt)), w, b, dst);
}

// ── Rotary positions ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** See EngineCompute.rope_frequencies. */
export function rope_frequencies(baseAt: usize, factors: usize, pairs: i32, to: usize): void {
  // The exponent is rounded to f32 first, as in ggml: with head sizes that are no power of two it shows.
  const ratio = <f32>exp64(ln64(load<f64>(baseAt)) * <f64>(<f32>-1 / <f32>pairs));
  for (let i = 0; i < pairs; i++) {
    store<f32>(to + (i << 3), ratio);
    store<f32>(to + (i << 3), factors == 0 ? 1 : load<f32>(factors + (i << 2)), 4);
  }
}

/** corr_dim of YaRN: the pair that turns `rotations` times in `context` positions. */
@inline
function turning_pair(rotations: f32, context: f32, pairs: i32, base: f32): f32 {
  const wavelengths = context / (rotations * 2 * <f32>Math.PI);
  return (<f32>(pairs << 1) * <f32>ln64(<f64>wavelengths)) / (2 * <f32>ln64(<f64>base));
}

/** See EngineCompute.rope_scaling. The pairs that turn 32 times or more in the first context keep their angles, those that turn once or less are slowed. */
export function rope_scaling(from: usize, pairs: i32, to: usize): void {
  const slowing = <f32>load<f64>(from, 8);
  const yarn = load<f64>(from, 24) != 0;
  const log = <f32>ln64(<f64>(<f32>1 / slowing));
  const growth = <f32>0.1 * log + 1;
  // llama.cpp divides by the growth what its operation multiplies by it: at a factor below 1 the growth is gone, above it nearly.
  const kept = (log <= 0 ? <f32>1 : growth) * (<f32>1 / growth) * <f32>load<f64>(from, 16);
  store<f32>(to, slowing);
  store<f32>(to, yarn ? kept * fma1(<f32>0.1, log, 1) : <f32>load<f64>(from, 16), 4);
  const base = <f32>load<f64>(from);
  const context = <f32>load<f64>(from, 32);
  const low = max<f32>(0, floor<f32>(turning_pair(32, context, pairs, base)));
  const high = min<f32>(<f32>((pairs << 1) - 1), ceil<f32>(turning_pair(1, context, pairs, base)));
  for (let i = 0; i < pairs; i++) {
    const ramp = (<f32>i - low) / max<f32>(<f32>0.001, high - low);
    store<f32>(to + (i << 2), yarn ? <f32>1 - min<f32>(1, max<f32>(0, ramp)) : <f32>0, 8);
  }
}

/**
 * table[pairs][2] = cos, sin of position · ratio^i / divisor of i: the angles are formed by repeated f32 products, as ggml does, since at
 * large positions their rounding shows.
 */
export function rope_table(position: i32, pairs: i32, frequencies: usize, table: usize): void {
  let product = <f32>position;
  for (let i = 0; i < pairs; i++) {
    const angle = product / load<f32>(frequencies + (i << 3), 4);
    store<f32>(table + (i << 3), cos32(angle));
    store<f32>(table + (i << 3), sin32(angle), 4);
    product *= load<f32>(frequencies + (i << 3));
  }
}

/** The same with the scaling behind the frequencies: an angle is mixed from the slowed one and the one it was, cos and sin are multiplied. */
export function rope_table_scaled(position: i32, pairs: i32, frequencies: usize, table: usize): void {
  const scaling = frequencies + (pairs << 3);
  const slowing = load<f32>(scaling);
  const amplitude = load<f32>(scaling, 4);
  let product = <f32>position;
  for (let i = 0; i < pairs; i++) {
    const full = product / load<f32>(frequencies + (i << 3), 4);
    const share = load<f32>(scaling + (i << 2), 8);
    const angle = fma1(slowing * full, <f32>1 - share, full * share);
    store<f32>(table + (i << 3), cos32(angle) * amplitude);
    store<f32>(table + (i << 3), sin32(angle) * amplitude, 4);
    product *= load<f32>(frequencies + (i << 3));
  }
}

/** Turns the adjacent pairs of each head of one token: (x, y) → (x cos − y sin, x sin + y cos). */
export function rope(x: usize, heads: i32, headDim: i32, pairs: i32, table: usize): void {
  for (; heads > 0; heads--) {
    let i = 0;
    for (; i + 2 <= pairs; i += 2) {
      const p = x + (i << 3);
      const v = v128.load(p);
      const cs = v128.load(table + (i << 3));
      const turned = v128.xor(v128.shuffle<i32>(cs, cs, 1, 0, 3, 2), i64x2.splat(0x80000000)); // −sin for x, cos for y
      v128.store(p, fma4(v128.shuffle<i32>(v, v, 0, 0, 2, 2), cs, f32x4.mul(v128.shuffle<i32>(v, v, 1, 1, 3, 3), turned)));
    }
    if (i < pairs) {
      const p = x + (i << 3);
      const a = load<f32>(p);
      const b = load<f32>(p, 4);
      const c = load<f32>(table + (i << 3));
      const s = load<f32>(table + (i << 3), 4);
      store<f32>(p, fma1(a, c, -(b * s)));
      store<f32>(p, fma1(a, s, b * c), 4);
    }
    x += headDim << 2;
  }
}

/** The same where the second values of all pairs follow the first: (i, pairs + i). */
export function rope_halves(x: usize, heads: i32, headDim: i32, pairs: i32, table: usize): void {
  const half = <usize>pairs << 2;
  for (; heads > 0; heads--) {
    let i = 0;
    for (; i + 4 <= pairs; i += 4) {
      const p = x + (i << 2);
      const a = v128.load(p);
      const b = v128.load(p + half);
      const low = v128.load(table + (i << 3));
      const high = v128.load(table + (i << 3), 16);
      const c = v128.shuffle<i32>(low, high, 0, 2, 4, 6);
      const s = v128.shuffle<i32>(low, high, 1, 3, 5, 7);
      v128.store(p, fma4(a, c, f32x4.neg(f32x4.mul(b, s))));
      v128.store(p + half, fma4(a, s, f32x4.mul(b, c)));
    }
    for (; i < pairs; i++) {
      const p = x + (i << 2);
      const a = load<f32>(p);
      const b = load<f32>(p + half);
      const c = load<f32>(table + (i << 3));
      const s = load<f32>(table + (i << 3), 4);
      store<f32>(p, fma1(a, c, -(b * s)));
      store<f32>(p + half, fma1(a, s, b * c));
    }
    x += headDim << 2;
  }
}

// ── Elementwise ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** dst[n] += x[n]. */
export function add(dst: usize, x: usize, n: i32): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) v128.store(dst + (i << 2), f32x4.add(v128.load(dst + (i << 2)), v128.load(x + (i << 2))));
  for (; i < n; i++) store<f32>(dst + (i << 2), load<f32>(dst + (i << 2)) + load<f32>(x + (i << 2)));
}

/** x[n] *= the f32 at `factorAt`. */
export function scale(x: usize, n: i32, factorAt: usize): void {
  const factor = load<f32>(factorAt);
  let i = 0;
  for (; i + 4 <= n; i += 4) v128.store(x + (i << 2), f32x4.mul(v128.load(x + (i << 2)), f32x4.splat(factor)));
  for (; i < n; i++) store<f32>(x + (i << 2), load<f32>(x + (i << 2)) * factor);
}

/** dst[n] = silu(gate) · up; the last n % 8 by another exponential, as ggml calls expf there. */
export function silu_mul(gate: usize, up: usize, n: i32, dst: usize): void {
  let i = 0;
  for (const whole = n & ~7; i < whole; i += 4) v128.store(dst + (i << 2), f32x4.mul(silu4(v128.load(gate + (i << 2))), v128.load(up + (i << 2))));
  for (; i < n; i++) {
    const x = load<f32>(gate + (i << 2));
    store<f32>(dst + (i << 2), (x / (<f32>1 + exp32(-x))) * load<f32>(up + (i << 2)));
  }
}

/** dst[n] = gelu(x), tanh form. */
export function gelu(x: usize, n: i32, dst: usize): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) v128.store(dst + (i << 2), gelu4(v128.load(x + (i << 2))));
  for (; i < n; i++) store<f32>(dst + (i << 2), f32x4.extract_lane(gelu4(v128.load32_splat(x + (i << 2))), 0));
}

/**
 * ggml's gelu of four values: a table over halves, so argument and result are rounded to F16; computed in f32, with all the cancellation below
 * zero. 0 up to −10 and x from 10 on.
 */
@inline
function gelu_f16x4(x: v128): v128 {
  const h = round_f16x4(x);
  const inner = fma4(f32x4.mul(f32x4.splat(0.044715), h), h, f32x4.splat(1));
  const u = f32x4.mul(f32x4.mul(f32x4.splat(0.7978845608028654), h), inner);
  let t = f32x4.splat(tanh32(f32x4.extract_lane(u, 0)));
  t = f32x4.replace_lane(t, 1, tanh32(f32x4.extract_lane(u, 1)));
  t = f32x4.replace_lane(t, 2, tanh32(f32x4.extract_lane(u, 2)));
  t = f32x4.replace_lane(t, 3, tanh32(f32x4.extract_lane(u, 3)));
  const g = round_f16x4(f32x4.mul(f32x4.mul(f32x4.splat(0.5), h), f32x4.add(f32x4.splat(1), t)));
  return v128.bitselect(x, v128.andnot(g, f32x4.le(x, f32x4.splat(-10))), f32x4.ge(x, f32x4.splat(10)));
}

/** dst[n] = gelu(x) as ggml computes it, to F16 precision. */
export function gelu_f16(x: usize, n: i32, dst: usize): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) v128.store(dst + (i << 2), gelu_f16x4(v128.load(x + (i << 2))));
  for (; i < n; i++) store<f32>(dst + (i << 2), f32x4.extract_lane(gelu_f16x4(v128.load32_splat(x + (i << 2))), 0));
}

/** dst[n] = gelu(gate) · up, gelu as above. */
export function gelu_mul_f16(gate: usize, up: usize, n: i32, dst: usize): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) v128.store(dst + (i << 2), f32x4.mul(gelu_f16x4(v128.load(gate + (i << 2))), v128.load(up + (i << 2))));
  for (; i < n; i++) store<f32>(dst + (i << 2), f32x4.extract_lane(gelu_f16x4(v128.load32_splat(gate + (i << 2))), 0) * load<f32>(up + (i << 2)));
}

/** True when each of f32[n] is finite. */
export function all_finite(x: usize, n: i32): bool {
  const infinity = f32x4.splat(Infinity);
  let finite = i32x4.splat(-1);
  let i = 0;
  for (; i + 4 <= n; i += 4) finite = v128.and(finite, f32x4.lt(f32x4.abs(v128.load(x + (i << 2))), infinity));
  for (; i < n; i++) finite = v128.and(finite, f32x4.lt(f32x4.abs(v128.load32_splat(x + (i << 2))), infinity));
  return i32x4.all_true(finite);
}

// ── KV cache ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Writes f32[n] as one position of a cache of F32 or F16. Returns false when a value is not finite there: attention assumes finite halves. */
export function kv_store(type: i32, x: usize, n: i32, to: usize): bool {
  if (type == TYPE_Q8_0) return store_blocks<Q8_0>(x, n, to) & all_finite(x, n);
  if (type == TYPE_Q4_0) return store_blocks<Q4_0>(x, n, to) & all_finite(x, n);
  if (type != TYPE_F16) {
    memory.copy(to, x, n << 2);
    return all_finite(x, n);
  }
  const exponent = i32x4.splat(0x7c00);
  let bad = i32x4.splat(0);
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const h = f32x4_to_f16(v128.load(x + (i << 2)));
    bad = v128.or(bad, i32x4.eq(v128.and(h, exponent), exponent));
    v128.store64_lane(to + (i << 1), i16x8.narrow_i32x4_u(h, h), 0);
  }
  for (; i < n; i++) {
    const h = f32x4_to_f16(v128.load32_splat(x + (i << 2)));
    bad = v128.or(bad, i32x4.eq(v128.and(h, exponent), exponent));
    store<u16>(to + (i << 1), i32x4.extract_lane(h, 0));
  }
  return !v128.any_true(bad);
}
