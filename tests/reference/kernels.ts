// The kernels once more, as plainly as they can be said: scalar TypeScript, weights in the file's order, one value at a time, every f32
// operation rounded by Math.fround. The WebAssembly kernels must give the same bits. Written from ggml's formats and the orders of
// summation that drivers/engine/simd states, not from its code.

import {
  TYPE_BF16,
  TYPE_F16,
  TYPE_F32,
  TYPE_IQ4_NL,
  TYPE_IQ4_XS,
  TYPE_Q2_K,
  TYPE_Q3_K,
  TYPE_Q4_0,
  TYPE_Q4_1,
  TYPE_Q4_K,
  TYPE_Q5_0,
  TYPE_Q5_1,
  TYPE_Q5_K,
  TYPE_Q6_K,
  TYPE_Q8_0,
  TYPE_TQ1_0,
} from '../../drivers/engine/ops.ts';
import { GGML_BLOCK, ggmlTypeName } from '../../kernel/abi/index.ts';

const f = Math.fround;
const cell = new DataView(new ArrayBuffer(8));

export const blockOf = (type: number): readonly [values: number, bytes: number] => GGML_BLOCK[ggmlTypeName(type)!];
export const bytesOf = (type: number, n: number): number => (n / blockOf(type)[0]) * blockOf(type)[1];

// ── Number formats ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

export function f16ToF32(h: number): number {
  const exponent = (h >> 10) & 31;
  const mantissa = h & 1023;
  const sign = h & 0x8000 ? -1 : 1;
  if (exponent === 31) return mantissa === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * mantissa * 2 ** -24 : sign * (1024 + mantissa) * 2 ** (exponent - 25);
}

/** To nearest, ties to even; the value is an f32. */
export function f32ToF16(x: number): number {
  if (Number.isNaN(x)) return 0x7e00;
  const sign = Object.is(x, -0) || x < 0 ? 0x8000 : 0;
  const a = Math.abs(x);
  if (a >= 65520) return sign | 0x7c00;
  let exponent = -14;
  while (exponent < 15 && a >= 2 ** (exponent + 1)) exponent++;
  const ulps = a / 2 ** (exponent - 10);
  let n = Math.floor(ulps);
  if (ulps - n > 0.5 || (ulps - n === 0.5 && n % 2 === 1)) n++;
  return sign | (n + (exponent + 14) * 1024); // a carry out of the mantissa raises the exponent
}

export const roundF16 = (x: number): number => f16ToF32(f32ToF16(x));

export function bf16ToF32(h: number): number {
  cell.setUint32(0, h << 16);
  return cell.getFloat32(0);
}

export function roundBf16(x: number): number {
  if (Number.isNaN(x)) return NaN;
  cell.setFloat32(0, x);
  const bits = cell.getUint32(0);
  cell.setUint32(0, ((bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000) >>> 0);
  return cell.getFloat32(0);
}

/** `n` values of a type at byte `at`, in the file's order. */
export function dequantize(type: number, bytes: Uint8Array, at: number, n: number): Float32Array {
  const v = new DataView(bytes.buffer, bytes.byteOffset);
  const out = new Float32Array(n);
  const [values, size] = blockOf(type);
  for (let i = 0; i < n; i += values) {
    const p = at + (i / values) * size;
    if (type === TYPE_F32) out[i] = v.getFloat32(p, true);
    else if (type === TYPE_F16) out[i] = f16ToF32(v.getUint16(p, true));
    else if (type === TYPE_BF16) out[i] = bf16ToF32(v.getUint16(p, true));
    else if (values === 256) out.set(decodeSuper(superBlock(type, v, p)), i);
    else {
      const d = f16ToF32(v.getUint16(p, true));
      const m = hasMinimum(type) ? f16ToF32(v.getUint16(p + 2, true)) : -0;
      for (let j = 0; j < 32; j++) out[i + j] = f(f(quant(type, v, p, j) * d) + m);
    }
  }
  return out;
}

const hasMinimum = (type: number): boolean => type === TYPE_Q4_1 || type === TYPE_Q5_1;
const NONLINEAR = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/** Value j of the block at p, before its scale. */
function quant(type: number, v: DataView, p: number, j: number): number {
  if (type === TYPE_Q8_0) return v.getInt8(p + 2 + j);
  const fifth = type === TYPE_Q5_0 || type === TYPE_Q5_1;
  const header = (hasMinimum(type) ? 4 : 2) + (fifth ? 4 : 0);
  const byte = v.getUint8(p + header + (j % 16));
  const nibble = j < 16 ? byte & 15 : byte >> 4;
  if (type === TYPE_IQ4_NL) return NONLINEAR[nibble]!;
  const bit = fifth ? (v.getUint32(p + header - 4, true) >>> j) & 1 : 0;
  return nibble + 16 * bit - (type === TYPE_Q4_0 ? 8 : type === TYPE_Q5_0 ? 16 : 0);
}

/** A super-block taken apart: value j is d · scales[j >> 4] · q[j] − dmin · minima[j >> 4]; `less` was taken off each q. */
interface SuperBlock {
  readonly d: number;
  readonly dmin: number;
  readonly scales: readonly number[];
  readonly minima: readonly number[] | null;
  readonly q: readonly number[];
  readonly less: number;
}

function superBlock(type: number, v: DataView, p: number): SuperBlock {
  const half = (at: number): number => f16ToF32(v.getUint16(p + at, true));
  const byte = (at: number): number => v.getUint8(p + at);
  const list = <T>(n: number, of: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => of(i));
  // Two bits of value j: in one of 64 bytes, four of 128 values 32 apart in each.
  const two = (at: number, j: number): number => (byte(at + 32 * (j >> 7) + (j % 32)) >> (2 * ((j >> 5) % 4))) & 3;
  const one = (at: number, j: number): number => (byte(at + (j % 32)) >> (j >> 5)) & 1;
  const plain = { dmin: 0, minima: null, less: 0 };
  switch (type) {
    case TYPE_Q2_K:
      return {
        d: half(80),
        dmin: half(82),
        less: 0,
        scales: list(16, c => byte(c) & 15),
        minima: list(16, c => byte(c) >> 4),
        q: list(256, j => two(16, j)),
      };
    case TYPE_Q3_K:
      return {
        ...plain,
        d: half(108),
        scales: list(16, c => {
          const low = c < 8 ? byte(96 + c) & 15 : byte(88 + c) >> 4;
          return low + 16 * ((byte(104 + (c % 4)) >> (2 * (c >> 2))) & 3) - 32;
        }),
        q: list(256, j => two(32, j) + 4 * one(0, j) - 4),
      };
    case TYPE_Q4_K:
    case TYPE_Q5_K: {
      const s = (g: number): number => (g < 4 ? byte(4 + g) % 64 : (byte(8 + g) % 16) + 16 * (byte(g) >> 6));
      const m = (g: number): number => (g < 4 ? byte(8 + g) % 64 : (byte(8 + g) >> 4) + 16 * (byte(4 + g) >> 6));
      const nibbles = type === TYPE_Q4_K ? 16 : 48;
      const nibble = (j: number): number => (byte(nibbles + 32 * (j >> 6) + (j % 32)) >> (4 * ((j >> 5) % 2))) % 16;
      return {
        d: half(0),
        dmin: half(2),
        less: 0,
        scales: list(16, c => s(c >> 1)),
        minima: list(16, c => m(c >> 1)),
        q: list(256, j => nibble(j) + (type === TYPE_Q5_K ? 16 * one(16, j) : 0)),
      };
    }
    case TYPE_Q6_K:
      return {
        ...plain,
        d: half(208),
        less: 32,
        scales: list(16, c => v.getInt8(p + 192 + c)),
        q: list(256, j => ((byte(64 * (j >> 7) + (j % 64)) >> (4 * ((j >> 6) % 2))) % 16) + 16 * two(128, j) - 32),
      };
    case TYPE_IQ4_XS:
      return {
        ...plain,
        d: half(0),
        scales: list(16, c => {
          const g = c >> 1;
          const low = (byte(4 + (g >> 1)) >> (4 * (g % 2))) % 16;
          return low + 16 * ((v.getUint16(p + 2, true) >> (2 * g)) & 3) - 32;
        }),
        q: list(256, j => NONLINEAR[(byte(8 + 16 * (j >> 5) + (j % 16)) >> (4 * ((j >> 4) % 2))) % 16]!),
      };
    case TYPE_TQ1_0: {
      const digit = (at: number, n: number): number => ((((byte(at) * 3 ** n) % 256) * 3) >> 8) - 1;
      return {
        ...plain,
        d: half(52),
        less: 1,
        scales: list(16, () => 1),
        q: list(256, j => {
          if (j < 160) return digit(j % 32, j >> 5);
          return j < 240 ? digit(32 + (j % 16), (j - 160) >> 4) : digit(48 + (j % 4), (j - 240) >> 2);
        }),
      };
    }
    default:
      return { ...plain, d: half(64), less: 1, scales: list(16, () => 1), q: list(256, j => two(0, j) - 1) };
  }
}

const decodeSuper = ({ d, dmin, scales, minima, q }: SuperBlock): Float32Array =>
  Float32Array.from(q, (w, j) => {
    const x = f(f(d * scales[j >> 4]!) * w);
    return minima === null ? x : f(x - f(dmin * minima[j >> 4]!));
  });

// ── Activations and products ─────────────────────────────────────────────────────────────────────────────────────────────────────

export interface Q8 {
  readonly d: number;
  readonly s: number;
  readonly q: number[];
}

export function quantizeQ8(x: Float32Array, at: number): Q8 {
  let amax = 0;
  for (let j = 0; j < 32; j++) amax = Math.max(amax, Math.abs(x[at + j]!));
  const d = f(amax / 127);
  const inverse = amax === 0 ? 0 : f(127 / amax);
  const q = Array.from({ length: 32 }, (_, j) =>
    Math.max(-128, Math.min(127, roundEven(f(x[at + j]! * inverse)) || 0)),
  );
  const sum = q.reduce((a, b) => a + b, 0);
  return { d: roundF16(d), s: roundF16(f(sum * d)), q };
}

export interface Q8K {
  readonly d: number;
  readonly q: number[];
  readonly sums: number[]; // of sixteen
}

/** 256 values: the first of the largest magnitude becomes −127. */
export function quantizeQ8K(x: Float32Array, at: number): Q8K {
  const values = x.subarray(at, at + 256);
  const value = values.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0);
  const inverse = value === 0 ? 0 : f(-127 / value);
  const q = Array.from(values, v => Math.max(-128, Math.min(127, roundEven(f(v * inverse)) || 0)));
  const sums = Array.from({ length: 16 }, (_, c) => q.slice(16 * c, 16 * c + 16).reduce((a, b) => a + b, 0));
  return { d: value === 0 ? 0 : f(1 / inverse), q, sums };
}

/** One row of weights at byte `at` times one token; `rows`: of the whole matrix. */
export function dot(type: number, bytes: Uint8Array, at: number, x: Float32Array, rows: number): number {
  const [values] = blockOf(type);
  if (values === 256) return dotSuper(type, bytes, at, x, rows);
  if (type === TYPE_IQ4_NL && rows % 8 !== 0) return dotNonlinear(bytes, at, x);
  return values === 32 ? dotBlocks(type, bytes, at, x, rows) : dotFloats(type, bytes, at, x);
}

/**
 * A super-block's integer sum is scaled and added in eight parts, each of four values in every 32; at once where Q4_K rows come in eights. What
 * `less` takes off is taken from part c >> 1 for chunk c. Minima: Q2_K's are added to the same parts first, Q4_K's to four parts, Q5_K's as one.
 */
function dotSuper(type: number, bytes: Uint8Array, at: number, x: Float32Array, rows: number): number {
  const v = new DataView(bytes.buffer, bytes.byteOffset);
  const whole = type === TYPE_Q4_K && rows % 8 === 0;
  const sums = Array.from({ length: whole ? 1 : 8 }, () => 0);
  const minima = Array.from({ length: type === TYPE_Q4_K && !whole ? 4 : 1 }, () => 0);
  for (let b = 0; b * 256 < x.length; b++) {
    const y = quantizeQ8K(x, b * 256);
    const w = superBlock(type, v, at + b * blockOf(type)[1]);
    const d = f(w.d * y.d);
    const dmin = f(-y.d * w.dmin);
    const isums = sums.map(() => 0);
    w.q.forEach((q, j) => (isums[whole ? 0 : (j % 32) >> 2]! += (q + w.less) * w.scales[j >> 4]! * y.q[j]!));
    y.sums.forEach((s, c) => (isums[whole ? 0 : c >> 1]! -= w.less * w.scales[c]! * s));
    if (w.minima !== null) {
      const into = type === TYPE_Q2_K ? sums : minima;
      const products = into.map((_, part) => {
        const chunks = 16 / into.length;
        return y.sums
          .slice(part * chunks, (part + 1) * chunks)
          .reduce((a, s, i) => a + s * w.minima![part * chunks + i]!, 0);
      });
      products.forEach((m, part) => (into[part] = fma(f(m), dmin, into[part]!)));
    }
    isums.forEach((s, part) => (sums[part] = fma(f(s), d, sums[part]!)));
  }
  if (whole) return f(sums[0]! + minima[0]!);
  const sum = sumOfFour(halved(sums));
  if (type === TYPE_Q4_K) return f(sum + sumOfFour(minima));
  return type === TYPE_Q5_K ? f(sum + minima[0]!) : sum;
}

/** IQ4_NL, rows not in eights: even and odd blocks have eight sums each, a last one without a partner is added at the end. */
function dotNonlinear(bytes: Uint8Array, at: number, x: Float32Array): number {
  const v = new DataView(bytes.buffer, bytes.byteOffset);
  const count = x.length / 32;
  const sums = [0, 1].map(() => Array.from({ length: 8 }, () => 0));
  let total = 0;
  for (let b = 0; b < count; b++) {
    const y = quantizeQ8(x, b * 32);
    const p = at + b * blockOf(TYPE_IQ4_NL)[1];
    const scale = f(f16ToF32(v.getUint16(p, true)) * y.d);
    const parts = Array.from({ length: 8 }, () => 0);
    y.q.forEach((q, j) => (parts[j >> 2]! += quant(TYPE_IQ4_NL, v, p, j) * q));
    if (b < (count & ~1)) parts.forEach((s, i) => (sums[b % 2]![i] = fma(s, scale, sums[b % 2]![i]!)));
    if (b !== count - 1) continue;
    total = sumOfFour(halved(sums[0]!.map((s, i) => f(s + sums[1]![i]!))));
    if (b % 2 === 0)
      total = fma(
        parts.reduce((a, s) => a + s, 0),
        scale,
        total,
      );
  }
  return total;
}

/** A block's integer sum is scaled and added at once where Q4_0 or IQ4_NL rows come in eights, else in eight parts: four neighbouring values each. */
function dotBlocks(type: number, bytes: Uint8Array, at: number, x: Float32Array, rows: number): number {
  const v = new DataView(bytes.buffer, bytes.byteOffset);
  const size = blockOf(type)[1];
  const parts = (type === TYPE_Q4_0 || type === TYPE_IQ4_NL) && rows % 8 === 0 ? 1 : 8;
  const sums = Array.from({ length: parts }, () => 0);
  let minima = 0;
  for (let b = 0; b * 32 < x.length; b++) {
    const y = quantizeQ8(x, b * 32);
    const p = at + b * size;
    const scale = f(f16ToF32(v.getUint16(p, true)) * y.d);
    for (let part = 0; part < parts; part++) {
      let isum = 0;
      for (let j = (part * 32) / parts; j < ((part + 1) * 32) / parts; j++) isum += quant(type, v, p, j) * y.q[j]!;
      sums[part] = fma(isum, scale, sums[part]!);
    }
    if (hasMinimum(type)) minima = f(minima + f(f16ToF32(v.getUint16(p + 2, true)) * y.s));
  }
  if (parts === 1) return sums[0]!;
  const sum = sumOfFour(halved(sums));
  return hasMinimum(type) ? f(sum + minima) : sum;
}

const wide = new Float64Array(1);
const bits = new BigInt64Array(wide.buffer);

/** a · b + c, rounded once: the product is exact in f64, the sum is rounded to odd, which leaves f32 to round it. */
export function fma(a: number, b: number, c: number): number {
  const p = a * b;
  const s = p + c;
  const q = s - c;
  const error = c - (s - q) + (p - q);
  wide[0] = s;
  if (Math.abs(error) > 0 && (bits[0]! & 1n) === 0n) bits[0]! += error > 0 === s > 0 ? 1n : -1n;
  return f(wide[0]!);
}
/** The second half of the lanes added to the first. */
const halved = (lanes: readonly number[]): number[] =>
  lanes.slice(0, lanes.length / 2).map((v, i) => f(v + lanes[i + lanes.length / 2]!));
const sumOfFour = ([a, b, c, d]: readonly number[]): number => f(f(a! + c!) + f(b! + d!));

/** Σ a · b in 32 lanes, the quarters of eight lanes added as (0 + 2) + (1 + 3), then the last length % 32. */
export function dotLanes(type: number, a: Float32Array, b: Float32Array): number {
  let lanes = Array.from({ length: 32 }, () => 0);
  const whole = a.length & ~31;
  for (let i = 0; i < whole; i++)
    lanes[i & 31] = type === TYPE_F32 ? fma(a[i]!, b[i]!, lanes[i & 31]!) : f(lanes[i & 31]! + f(a[i]! * b[i]!));
  while (lanes.length > 4) lanes = halved(lanes);
  let sum = type === TYPE_BF16 ? sumOfFour(lanes) : f(f(lanes[0]! + lanes[1]!) + f(lanes[2]! + lanes[3]!));
  if (type !== TYPE_F32) {
    for (let i = whole; i < a.length; i++) sum += f(a[i]! * b[i]!); // in f64
    return f(sum);
  }
  const fused = a.length & ~3;
  for (let i = whole; i < fused; i++) sum = f(sum + f(a[i]! * b[i]!));
  for (let i = fused; i < a.length; i++) sum = fma(a[i]!, b[i]!, sum);
  return sum;
}

function dotFloats(type: number, bytes: Uint8Array, at: number, x: Float32Array): number {
  const y = type === TYPE_F16 ? x.map(roundF16) : type === TYPE_BF16 ? x.map(roundBf16) : x;
  return dotLanes(type, dequantize(type, bytes, at, x.length), y);
}

// ── Functions ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const polynomial = (x: number, coefficients: readonly number[]): number =>
  coefficients.reduce((p, c, i) => (i === 0 ? f(c) : f(f(p * x) + f(c))));

export function exp(x: number): number {
  if (x < f(-87.33654)) return 0;
  const r = x > f(88.37626) ? f(88.37626) : x;
  const n = f(fma(r, f(1.442695), 12582912) - 12582912);
  const b = fma(n, f(-1.4286068e-6), fma(n, f(-0.69314575), r));
  const square = f(b * b);
  const low = fma(f(0.16668396), b, f(0.49999127));
  const p = fma(fma(fma(f(0.00824739), b, f(0.041899767)), square, low), square, f(f(0.9999994) * b));
  return fma(2 ** n, p, 2 ** n);
}

/** The scalar library's: a cubic in x mod ln 2 / 32. */
export function expf(x: number): number {
  const z = 46.16624130844683 * Math.max(-100, Math.min(100, x));
  const k = roundEven(z);
  const r = z - k;
  const p = (1.6938359250920212e-6 * r + 0.00023459809789509004) * (r * r) + (0.021660849396613134 * r + 1);
  return f(p * 2 ** (k / 32));
}

function roundEven(x: number): number {
  const n = Math.floor(x);
  return x - n > 0.5 || (x - n === 0.5 && n % 2 !== 0) ? n + 1 : n;
}

export function tanh(x: number): number {
  const a = Math.abs(x);
  if (a >= 0.625) return Math.sign(x) * f(1 - f(2 / f(exp(f(a + a)) + 1)));
  const z = f(x * x);
  const p = polynomial(
    z,
    [0, -5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1],
  );
  return f(f(f(p * z) * x) + x);
}

export const silu = (x: number): number => f(x / f(1 + exp(-x)));

export function gelu(x: number): number {
  const u = f(f(f(0.7978845608028654) * x) * f(1 + f(f(f(0.044715) * x) * x)));
  return u < -1 ? f(x / f(1 + exp(f(-2 * u)))) : f(f(0.5 * x) * f(1 + tanh(u)));
}

/** silu(gate) · up of one row: its last length % 8 values by expf. */
export const siluMul = (gate: Float32Array, up: Float32Array): Float32Array =>
  gate.map((x, i) => f((i < (gate.length & ~7) ? silu(x) : f(x / f(1 + expf(-x)))) * up[i]!));

/** ggml's: by a table over halves. */
export function geluF16(x: number): number {
  if (x <= -10) return 0;
  if (x >= 10) return x;
  const h = roundF16(x);
  const u = f(f(f(0.7978845608028654) * h) * fma(f(f(0.044715) * h), h, 1));
  return roundF16(f(f(0.5 * h) * f(1 + f(Math.tanh(u)))));
}

const sumF64 = (x: Float32Array): number => x.reduce((sum, v) => sum + v, 0);

export function rmsNorm(x: Float32Array, w: Float32Array | null, eps: number): Float32Array {
  const mean = f(sumF64(x.map(v => f(v * v))) / x.length);
  const scale = f(1 / f(Math.sqrt(f(mean + f(eps)))));
  return x.map((v, i) => f(f(v * scale) * (w?.[i] ?? 1)));
}

export function layerNorm(x: Float32Array, w: Float32Array | null, b: Float32Array | null, eps: number): Float32Array {
  const mean = f(f(sumF64(x)) / x.length);
  const centred = x.map(v => f(v - mean));
  const squares = Array.from(centred, v => f(v * v));
  const whole = x.length & ~7;
  let sum = 0;
  for (let i = 0; i < whole; i += 8) sum += sumOfFour(halved(squares.slice(i, i + 8)));
  for (let i = whole; i < x.length; i++) sum += squares[i]!;
  const scale = f(1 / f(Math.sqrt(f(f(sum / x.length) + f(eps)))));
  return centred.map((v, i) => f(f(f(v * scale) * (w?.[i] ?? 1)) + (b?.[i] ?? -0)));
}

export function softMax(x: Float32Array): Float32Array {
  const largest = x.reduce((a, b) => Math.max(a, b), -Infinity);
  const e = x.map(v => exp(f(v - largest)));
  let sum = 0;
  for (let i = 0; i < e.length; i += 8) sum += sumOfFour(halved(Array.from({ length: 8 }, (_, j) => e[i + j] ?? 0)));
  const inverse = f(1 / sum);
  return e.map(v => f(v * inverse));
}

/** One token's heads over `count` positions; k and v hold f32 rows of headsKv · headDim. With a cache of F16 queries and probabilities are rounded. */
export function attention(
  q: Float32Array,
  k: Float32Array,
  v: Float32Array,
  heads: number,
  headsKv: number,
  headDim: number,
  count: number,
  scale: number,
  type: number,
): Float32Array {
  const out = new Float32Array(heads * headDim);
  const step = headsKv * headDim;
  const round = type === TYPE_F16 ? roundF16 : (x: number): number => x;
  const padded = (count + 31) & ~31;
  for (let h = 0; h < heads; h++) {
    const at = Math.floor(h / (heads / headsKv)) * headDim;
    const query = q.slice(h * headDim, (h + 1) * headDim).map(round);
    const key = (j: number): Float32Array => k.subarray(j * step + at, j * step + at + headDim);
    const scores = Float32Array.from({ length: count }, (_, j) => f(dotLanes(type, query, key(j)) * f(scale)));
    const p = new Float32Array(padded);
    p.set(softMax(scores).map(round));
    for (let i = 0; i < headDim; i++) {
      const column = Float32Array.from({ length: padded }, (_, j) => (j < count ? v[j * step + at + i]! : 0));
      out[h * headDim + i] = dotLanes(type, p, column);
    }
  }
  return out;
}

/** Turns the pairs of one head by a table of [cos, sin]: adjacent ones, or those whose second values follow all first ones. */
export function rope(x: Float32Array, table: Float32Array, halves = false): Float32Array {
  const out = Float32Array.from(x);
  for (let i = 0; i < table.length; i += 2) {
    const [at, other] = halves ? [i / 2, (i + table.length) / 2] : [i, i + 1];
    out[at] = fma(x[at]!, table[i]!, -f(x[other]! * table[i + 1]!));
    out[other] = fma(x[at]!, table[i + 1]!, f(x[other]! * table[i]!));
  }
  return out;
}
