// Transcendental functions from + − × ÷ √ and integer steps only, so that their bits are equal on every engine: f32 in four lanes for
// activations and softmax, f64 for RoPE angles and the loss. NaN stays NaN. Polynomials: Cephes (expf, tanhf), fdlibm (sin, cos, log).

/** e^x in four lanes, ≤ 1 ulp; 0 below −87.34, 2^127.5 above 88.38. */
@inline
export function exp4(x: v128): v128 {
  const tiny = f32x4.lt(x, f32x4.splat(-87.33654));
  // pmin and pmax return their first operand when it is NaN.
  let r = f32x4.pmin(f32x4.pmax(x, f32x4.splat(-87.33654)), f32x4.splat(88.37626));
  const n = f32x4.nearest(f32x4.mul(r, f32x4.splat(1.44269504088896341)));
  r = f32x4.sub(r, f32x4.mul(n, f32x4.splat(0.693359375))); // ln 2 in two parts
  r = f32x4.sub(r, f32x4.mul(n, f32x4.splat(-2.1219444e-4)));
  let p = f32x4.splat(1.98756915e-4);
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.3981999507e-3));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(8.3334519073e-3));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(4.1665795894e-2));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.6666665459e-1));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(5.0000001201e-1));
  p = f32x4.add(f32x4.add(f32x4.mul(p, f32x4.mul(r, r)), r), f32x4.splat(1));
  const power = i32x4.shl(i32x4.add(i32x4.trunc_sat_f32x4_s(n), i32x4.splat(127)), 23); // 2^n
  return v128.andnot(f32x4.mul(p, power), tiny);
}

@inline
export function exp32(x: f32): f32 {
  return f32x4.extract_lane(exp4(f32x4.splat(x)), 0);
}

/** tanh in four lanes: a polynomial below 0.625, 1 − 2/(e^2x + 1) above. */
@inline
export function tanh4(x: v128): v128 {
  const a = f32x4.abs(x);
  const z = f32x4.mul(x, x);
  let p = f32x4.splat(-5.70498872745e-3);
  p = f32x4.add(f32x4.mul(p, z), f32x4.splat(2.06390887954e-2));
  p = f32x4.add(f32x4.mul(p, z), f32x4.splat(-5.37397155531e-2));
  p = f32x4.add(f32x4.mul(p, z), f32x4.splat(1.33314422036e-1));
  p = f32x4.add(f32x4.mul(p, z), f32x4.splat(-3.33332819422e-1));
  p = f32x4.add(f32x4.mul(f32x4.mul(p, z), x), x);
  const e = exp4(f32x4.add(a, a));
  const q = f32x4.sub(f32x4.splat(1), f32x4.div(f32x4.splat(2), f32x4.add(e, f32x4.splat(1))));
  return v128.bitselect(p, v128.or(q, v128.and(x, i32x4.splat(0x80000000))), f32x4.lt(a, f32x4.splat(0.625)));
}

/** x · sigmoid(x). */
@inline
export function silu4(x: v128): v128 {
  return f32x4.div(x, f32x4.add(f32x4.splat(1), exp4(f32x4.neg(x))));
}

/** ½x (1 + tanh u), u = √(2/π) (x + 0.044715 x³); below −1 as x · sigmoid(2u), which loses nothing to cancellation. */
@inline
export function gelu4(x: v128): v128 {
  const inner = f32x4.add(f32x4.splat(1), f32x4.mul(f32x4.mul(f32x4.splat(0.044715), x), x));
  const u = f32x4.mul(f32x4.mul(f32x4.splat(0.7978845608028654), x), inner);
  const near = f32x4.mul(f32x4.mul(f32x4.splat(0.5), x), f32x4.add(f32x4.splat(1), tanh4(u)));
  const tail = f32x4.div(x, f32x4.add(f32x4.splat(1), exp4(f32x4.mul(f32x4.splat(-2), u))));
  return v128.bitselect(tail, near, f32x4.lt(u, f32x4.splat(-1)));
}

// sin and cos on [−π/4, π/4].
@inline
function sinKernel(x: f64): f64 {
  const z = x * x;
  const r = 8.33333333332248946124e-3 + z * (-1.98412698298579493134e-4 + z * (2.75573137070700676789e-6 + z * (-2.50507602534068634195e-8 + z * 1.58969099521155010221e-10)));
  return x + z * x * (-1.66666666666666324348e-1 + z * r);
}
@inline
function cosKernel(x: f64): f64 {
  const z = x * x;
  const r = z * (4.16666666666666019037e-2 + z * (-1.38888888888741095749e-3 + z * (2.48015872894767294178e-5 + z * (-2.75573143513906633035e-7 + z * (2.08757232129817482790e-9 + z * -1.13596475577881948265e-11)))));
  const w = 1.0 - 0.5 * z;
  return w + (1.0 - w - 0.5 * z + z * r);
}
/** x − q π/2 with π/2 in three parts; exact enough for |x| < 2²⁰. */
@inline
function reduced(x: f64, q: f64): f64 {
  return x - q * 1.57079632673412561417 - q * 6.07710050630396597660e-11 - q * 2.02226624879595063154e-21;
}
export function sin64(x: f64): f64 {
  const q = nearest<f64>(x * 6.36619772367581382433e-1);
  const r = reduced(x, q);
  const v = select<f64>(cosKernel(r), sinKernel(r), <i32>q & 1);
  return select<f64>(-v, v, <i32>q & 2);
}
export function cos64(x: f64): f64 {
  const q = nearest<f64>(x * 6.36619772367581382433e-1);
  const r = reduced(x, q);
  const v = select<f64>(sinKernel(r), cosKernel(r), <i32>q & 1);
  return select<f64>(-v, v, (<i32>q + 1) & 2);
}

/** e^x for |x| < 708. */
export function exp64(x: f64): f64 {
  const n = nearest<f64>(x * 1.44269504088896338700);
  const r = x - n * 6.93147180369123816490e-1 - n * 1.90821492927058770002e-10;
  let p: f64 = 1.6059043836821613e-10; // 1/13!, …, 1/2!
  p = p * r + 2.08767569878681e-9;
  p = p * r + 2.505210838544172e-8;
  p = p * r + 2.755731922398589e-7;
  p = p * r + 2.7557319223985893e-6;
  p = p * r + 2.48015873015873e-5;
  p = p * r + 1.984126984126984e-4;
  p = p * r + 1.388888888888889e-3;
  p = p * r + 8.333333333333333e-3;
  p = p * r + 4.1666666666666664e-2;
  p = p * r + 1.6666666666666666e-1;
  p = p * r + 0.5;
  return (p * r * r + r + 1.0) * reinterpret<f64>((<i64>n + 1023) << 52);
}

/** ln x for normal positive x. */
export function ln64(x: f64): f64 {
  // x = 2^k (1 + f), √½ < 1 + f < √2
  const bits = reinterpret<i64>(x) + (0x3ff0000000000000 - 0x3fe6a09e667f3bcd);
  const k = <f64>(<i32>(bits >> 52) - 1023);
  const f = reinterpret<f64>((bits & 0x000fffffffffffff) + 0x3fe6a09e667f3bcd) - 1.0;
  const s = f / (2.0 + f);
  const z = s * s;
  const w = z * z;
  const odd = z * (6.666666666666735130e-1 + w * (2.857142874366239149e-1 + w * (1.818357216161805012e-1 + w * 1.479819860511658591e-1)));
  const even = w * (3.999999999940941908e-1 + w * (2.222219843214978396e-1 + w * 1.531383769920937332e-1));
  const half = 0.5 * f * f;
  return k * 6.93147180369123816490e-1 - (half - (s * (half + odd + even) + k * 1.90821492927058770002e-10) - f);
}

/** Sum of the lanes, in the order every sum of the kernels ends with: (0 + 2) + (1 + 3). */
@inline
export function sum4(v: v128): f32 {
  const t = f32x4.add(v, i8x16.shuffle(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  return f32x4.extract_lane(t, 0) + f32x4.extract_lane(t, 1);
}

/** sum4 of four vectors at once: lane i is sum4 of the i-th. */
@inline
export function sums4(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.add(v128.shuffle<i64>(a, b, 0, 2), v128.shuffle<i64>(a, b, 1, 3)); // a0+a2 a1+a3 b0+b2 b1+b3
  const cd = f32x4.add(v128.shuffle<i64>(c, d, 0, 2), v128.shuffle<i64>(c, d, 1, 3));
  return f32x4.add(v128.shuffle<i32>(ab, cd, 0, 2, 4, 6), v128.shuffle<i32>(ab, cd, 1, 3, 5, 7));
}
