// Transcendental functions from + − × ÷ √ and integer steps only, so that their bits are equal on every engine: f32 in four lanes for
// activations and softmax, f64 for RoPE angles and the loss. NaN stays NaN. Polynomials: Arm's optimized routines
// (exp as ggml has it; sin and cos as glibc has them), Cephes (tanhf), fdlibm (log).

/** The upper two lanes of four in the place of the lower. */
@inline
export function upper(v: v128): v128 {
  return v128.shuffle<i64>(v, v, 1, 0);
}

/**
 * a · b + c in two f64 lanes, where the product of two f32 is exact: the sum rounded to odd, so that rounding it to f32 afterwards rounds once. Of
 * an inexact sum the digits are cut off, towards zero, and the last bit is set: s, or its neighbour inwards where s lies outward of the sum.
 */
@inline
export function add_odd(a: v128, b: v128, c: v128): v128 {
  const zero = f64x2.splat(0);
  const p = f64x2.mul(a, b);
  const s = f64x2.add(p, c);
  const q = f64x2.sub(s, c);
  const error = f64x2.add(f64x2.sub(c, f64x2.sub(s, q)), f64x2.sub(p, q)); // 2Sum; no product below comes near the ends of f64
  const cut = i64x2.add(s, f64x2.lt(f64x2.mul(s, error), zero));
  return v128.or(cut, i64x2.shr_u(f64x2.gt(f64x2.mul(error, error), zero), 63));
}

/** a · b + c in four lanes, rounded once. The relaxed build runs only where the multiply-add of its name is fused, which boot has tried. */
@inline
export function fma4(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return fma_f64(f64x2.promote_low_f32x4(a), f64x2.promote_low_f32x4(upper(a)), b, c);
}

/** The same by f64, where a0 and a1 are the halves of a. */
@inline
function fma_f64(a0: v128, a1: v128, b: v128, c: v128): v128 {
  const low = add_odd(a0, f64x2.promote_low_f32x4(b), f64x2.promote_low_f32x4(c));
  const high = add_odd(a1, f64x2.promote_low_f32x4(upper(b)), f64x2.promote_low_f32x4(upper(c)));
  return v128.shuffle<i64>(f32x4.demote_f64x2_zero(low), f32x4.demote_f64x2_zero(high), 0, 2);
}

/** sum + isum · scale, rounded once; |isum| < 2^24, exact in f32. */
@inline
export function add_product(sum: v128, isum: v128, scale: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(f32x4.convert_i32x4_s(isum), scale, sum);
  return fma_f64(f64x2.convert_low_i32x4_s(isum), f64x2.convert_low_i32x4_s(upper(isum)), scale, sum);
}

/** The same of single values. */
@inline
export function fma1(a: f32, b: f32, c: f32): f32 {
  return f32x4.extract_lane(fma4(f32x4.splat(a), f32x4.splat(b), f32x4.splat(c)), 0);
}

/** e^x in four lanes, ≤ 2 ulp; 0 below −87.34, 2^127.5 above 88.38. ggml's: x = n ln 2 + b, then 2^n (1 + b + b² …), each step fused. */
@inline
export function exp4(x: v128): v128 {
  const tiny = f32x4.lt(x, f32x4.splat(-87.33654));
  // pmin and pmax return their first operand when it is NaN.
  const r = f32x4.pmin(f32x4.pmax(x, f32x4.splat(-87.33654)), f32x4.splat(88.37626));
  const n = f32x4.sub(fma4(r, f32x4.splat(1.442695), f32x4.splat(12582912)), f32x4.splat(12582912)); // 1.5 · 2^23: rounded to an integer
  const b = fma4(n, f32x4.splat(-1.4286068e-6), fma4(n, f32x4.splat(-0.69314575), r)); // ln 2 in two parts
  const square = f32x4.mul(b, b);
  const high = fma4(fma4(f32x4.splat(0.00824739), b, f32x4.splat(0.041899767)), square, fma4(f32x4.splat(0.16668396), b, f32x4.splat(0.49999127)));
  const p = fma4(high, square, f32x4.mul(f32x4.splat(0.9999994), b));
  const power = i32x4.shl(i32x4.add(i32x4.trunc_sat_f32x4_s(n), i32x4.splat(127)), 23); // 2^n
  return v128.andnot(fma4(power, p, power), tiny);
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

/** x, and ±`most` beyond; NaN stays. */
@inline
function within(x: v128, most: f32): v128 {
  return f32x4.pmin(f32x4.pmax(x, f32x4.splat(-most)), f32x4.splat(most));
}

/** Derivative of x · sigmoid(z) by x; `turn`: x · z'. σ (1 + x z' (1 − σ)), where 1 − σ is e^−z · σ, which loses nothing to cancellation. */
@inline
function gate_slope4(z: v128, turn: v128): v128 {
  const one = f32x4.splat(1);
  const e = exp4(f32x4.neg(z));
  const s = f32x4.div(one, f32x4.add(one, e));
  return f32x4.mul(s, f32x4.add(one, f32x4.mul(turn, f32x4.mul(e, s))));
}

/** Derivative of silu4. Its own function, as the next, for its size. Beyond ±88 it is 0 and 1 in f32. */
export function silu_slope4(x: v128): v128 {
  const near = within(x, 88);
  return gate_slope4(near, near);
}

/** Derivative of gelu4, which is x · sigmoid(2u). Beyond ±10 it is 0 and 1 in f32. */
export function gelu_slope4(x: v128): v128 {
  const near = within(x, 10);
  const cubic = f32x4.mul(f32x4.mul(f32x4.splat(0.071354816), near), near); // 2 √(2/π) · 0.044715
  const linear = f32x4.splat(1.5957691); // 2 √(2/π)
  const slope = f32x4.add(linear, f32x4.mul(f32x4.splat(3), cubic));
  return gate_slope4(f32x4.mul(near, f32x4.add(linear, cubic)), f32x4.mul(near, slope));
}

// exp4, silu4 and gelu4 as functions: their code is long without fused products, and kernels that take four values, then single ones, have it twice.
export function exp_of(x: v128): v128 {
  return exp4(x);
}
export function silu_of(x: v128): v128 {
  return silu4(x);
}
export function gelu_of(x: v128): v128 {
  return gelu4(x);
}

// sin and cos on [−π/4, π/4], to f32's precision: ≤ 0.57 ulp once rounded.
@inline
function sinKernel(x: f64): f64 {
  const z = x * x;
  const cube = x * z;
  return x + cube * -0.16666654943701084 + cube * z * (0.008332178146138854 + z * -0.00019517298981385725);
}
@inline
function cosKernel(x: f64): f64 {
  const z = x * x;
  const square = z * z;
  return 1.0 + z * -0.49999999725108224 + square * 0.041666623324344516 + square * z * (-0.001388676379437604 + z * 2.4390450703564542e-5);
}
/** x − q π/2 with π/2 in three parts; exact enough for |x| < 2²⁰. */
@inline
function reduced(x: f64, q: f64): f64 {
  return x - q * 1.57079632673412561417 - q * 6.07710050630396597660e-11 - q * 2.02226624879595063154e-21;
}
@inline
export function sin32(x: f32): f32 {
  const q = nearest<f64>(<f64>x * 6.36619772367581382433e-1);
  const r = reduced(x, q);
  const v = select<f64>(cosKernel(r), sinKernel(r), <i32>q & 1);
  return <f32>select<f64>(-v, v, <i32>q & 2);
}
@inline
export function cos32(x: f32): f32 {
  const q = nearest<f64>(<f64>x * 6.36619772367581382433e-1);
  const r = reduced(x, q);
  const v = select<f64>(sinKernel(r), cosKernel(r), <i32>q & 1);
  return <f32>select<f64>(-v, v, (<i32>q + 1) & 2);
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

/** e^x as glibc's expf gives it, which is not always the nearest: a cubic in x mod ln 2 / 32; between e^−100 and e^100. */
export function exp32(x: f32): f32 {
  const z = 46.16624130844683 * min<f64>(max<f64>(x, -100), 100);
  const k = nearest<f64>(z);
  const r = z - k;
  const p = (1.6938359250920212e-6 * r + 0.00023459809789509004) * (r * r) + (0.021660849396613134 * r + 1.0);
  return <f32>(p * exp64(k * (0.69314718055994530942 / 32)));
}

/** tanh x, to f32's precision whatever its sign and size. */
export function tanh32(x: f32): f32 {
  return <f32>(1.0 - 2.0 / (exp64(2.0 * min<f64>(max<f64>(x, -20), 20)) + 1.0));
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
