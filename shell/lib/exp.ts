// e^x and ln x in plain double arithmetic: Math.exp and Math.log differ between JavaScript engines in their last digit, these do not. e^x is
// Cody and Waite's scheme: x = k·ln 2 + r with |r| ≤ ln 2 / 2, a Taylor polynomial for e^r, then a power of two. Within 1e-15 of the true
// value, relatively.

const LN2_HIGH = 0.69314718036912381649; // 33 significant bits: k × LN2_HIGH is exact for |k| < 2²⁰
const LN2_LOW = 1.90821492927058770002e-10;
const TERMS = 14; // (ln 2 / 2)¹⁵ / 15! < 1e-19

export function exp(x: number): number {
  if (x > 709.78) return Infinity;
  if (x < -745.13) return 0;
  const k = Math.round(x / (LN2_HIGH + LN2_LOW));
  const r = x - k * LN2_HIGH - k * LN2_LOW;
  let sum = 1;
  for (let i = TERMS; i >= 1; i--) sum = 1 + (r / i) * sum;
  const half = Math.trunc(k / 2); // in two steps: 2^1024 alone is out of range
  return sum * powerOfTwo(half) * powerOfTwo(k - half);
}

/** 2^k by repeated squaring, exact. */
function powerOfTwo(k: number): number {
  let power = 1;
  let base = k < 0 ? 0.5 : 2;
  for (let n = Math.abs(k); n > 0; n >>= 1) {
    if (n & 1) power *= base;
    base *= base;
  }
  return power;
}

/**
 * ln x of a finite x > 0, within 1e-15: x = m · 2^e with m in [√½, √2), and ln m = 2 · artanh s, s = (m − 1) / (m + 1), as a series. |s| ≤ 0.172:
 * behind 13 terms less than 1e-21 is left.
 */
export function ln(x: number): number {
  let e = 0;
  let m = x;
  for (; m >= Math.SQRT2; e++) m /= 2;
  for (; m < Math.SQRT1_2; e--) m *= 2;
  const s = (m - 1) / (m + 1);
  let sum = 0;
  for (let k = 25; k >= 1; k -= 2) sum = sum * s * s + 1 / k;
  return e * LN2_HIGH + (2 * s * sum + e * LN2_LOW);
}
