// The kernels once more, as plainly as they can be said: scalar TypeScript, weights in the file's order, one value at a time, every f32
// operation rounded by Math.fround. The WebAssembly kernels must give the same bits. Written from ggml's formats and the orders of
// summation that drivers/engine/simd states, not from its code.

import { TYPE_BF16, TYPE_F16, TYPE_F32, TYPE_Q4_0, TYPE_Q4_1, TYPE_Q8_0 } from '../../drivers/engine/ops.ts';

const f = Math.fround;
const cell = new DataView(new ArrayBuffer(8));

export const blockOf = (type: number): readonly [values: number, bytes: number] => {
  if (type === TYPE_F32) return [1, 4];
  if (type === TYPE_F16 || type === TYPE_BF16) return [1, 2];
  return [32, type === TYPE_Q4_0 ? 18 : type === TYPE_Q4_1 ? 20 : 34];
};
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
    else {
      const d = f16ToF32(v.getUint16(p, true));
      for (let j = 0; j < 32; j++)
        out[i + j] = f(f(quant(type, v, p, j) * d) + (type === TYPE_Q4_1 ? f16ToF32(v.getUint16(p + 2, true)) : -0));
    }
  }
  return out;
}

/** Value j of the block at p, before its scale. */
function quant(type: number, v: DataView, p: number, j: number): number {
  if (type === TYPE_Q8_0) return v.getInt8(p + 2 + j);
  const byte = v.getUint8(p + (type === TYPE_Q4_1 ? 4 : 2) + (j % 16));
  return (j < 16 ? byte & 15 : byte >> 4) - (type === TYPE_Q4_0 ? 8 : 0);
}

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

/** One row of weights at byte `at` times one token. */
export function dot(type: number, bytes: Uint8Array, at: number, x: Float32Array): number {
  return blockOf(type)[0] === 32 ? dotBlocks(type, bytes, at, x) : dotFloats(type, bytes, at, x);
}

function dotBlocks(type: number, bytes: Uint8Array, at: number, x: Float32Array): number {
  const v = new DataView(bytes.buffer, bytes.byteOffset);
  const size = blockOf(type)[1];
  let sum = 0;
  for (let b = 0; b * 32 < x.length; b++) {
    const y = quantizeQ8(x, b * 32);
    const p = at + b * size;
    let isum = 0;
    for (let j = 0; j < 32; j++) isum += quant(type, v, p, j) * y.q[j]!;
    const scale = f(f16ToF32(v.getUint16(p, true)) * y.d);
    if (type === TYPE_Q4_1) sum = f(sum + f(f(isum * scale) + f(f16ToF32(v.getUint16(p + 2, true)) * y.s)));
    else sum = f(sum + isum * scale); // one rounding
  }
  return sum;
}

/** f32 sum of products in four lanes, (0 + 2) + (1 + 3), then the last length % 4 in order. */
export function dotLanes(a: Float32Array, b: Float32Array): number {
  const lanes = [0, 0, 0, 0];
  const whole = a.length & ~3;
  for (let i = 0; i < whole; i++) lanes[i & 3] = f(lanes[i & 3]! + f(a[i]! * b[i]!));
  let sum = f(f(lanes[0]! + lanes[2]!) + f(lanes[1]! + lanes[3]!));
  for (let i = whole; i < a.length; i++) sum = f(sum + f(a[i]! * b[i]!));
  return sum;
}

function dotFloats(type: number, bytes: Uint8Array, at: number, x: Float32Array): number {
  const y = type === TYPE_F16 ? x.map(roundF16) : type === TYPE_BF16 ? x.map(roundBf16) : x;
  return dotLanes(dequantize(type, bytes, at, x.length), y);
}

// ── Functions ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const polynomial = (x: number, coefficients: readonly number[]): number =>
  coefficients.reduce((p, c, i) => (i === 0 ? f(c) : f(f(p * x) + f(c))));

export function exp(x: number): number {
  if (x < f(-87.33654)) return 0;
  let r = x > f(88.37626) ? f(88.37626) : x;
  const n = roundEven(f(r * f(Math.LOG2E)));
  r = f(r - f(n * f(0.693359375)));
  r = f(r - f(n * f(-2.1219444e-4)));
  const p = polynomial(
    r,
    [0, 1.98756915e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1],
  );
  return f(f(f(f(p * f(r * r)) + r) + 1) * 2 ** n);
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

/** ggml's: by a table over halves. */
export const geluF16 = (x: number): number => (x <= -10 ? 0 : x >= 10 ? x : roundF16(gelu(roundF16(x))));

function sumF64(x: ArrayLike<number>): number {
  const lanes = [0, 0, 0, 0];
  const whole = x.length & ~3;
  for (let i = 0; i < whole; i++) lanes[i & 3]! += x[i]!;
  let sum = lanes[0]! + lanes[2]! + (lanes[1]! + lanes[3]!);
  for (let i = whole; i < x.length; i++) sum += x[i]!;
  return sum;
}

export function rmsNorm(x: Float32Array, w: Float32Array | null, eps: number): Float32Array {
  const mean = f(sumF64(x.map(v => f(v * v))) / x.length);
  const scale = f(1 / f(Math.sqrt(f(mean + f(eps)))));
  return x.map((v, i) => f(f(v * scale) * (w?.[i] ?? 1)));
}

export function layerNorm(x: Float32Array, w: Float32Array | null, b: Float32Array | null, eps: number): Float32Array {
  const mean = f(sumF64(x) / x.length);
  const centred = x.map(v => f(v - mean));
  const variance = f(sumF64(centred.map(v => f(v * v))) / x.length);
  const scale = f(1 / f(Math.sqrt(f(variance + f(eps)))));
  return centred.map((v, i) => f(f(f(v * scale) * (w?.[i] ?? 1)) + (b?.[i] ?? -0)));
}

export function softMax(x: Float32Array): Float32Array {
  const largest = x.reduce((a, b) => Math.max(a, b), -Infinity);
  const e = x.map(v => exp(f(v - largest)));
  const inverse = f(
    1 /
      dotLanes(
        e,
        e.map(() => 1),
      ),
  );
  return e.map(v => f(v * inverse));
}

/** One token's heads over `count` positions; k and v hold f32 rows of headsKv · headDim; `round` is applied to queries and probabilities. */
export function attention(
  q: Float32Array,
  k: Float32Array,
  v: Float32Array,
  heads: number,
  headsKv: number,
  headDim: number,
  count: number,
  scale: number,
  round: (x: number) => number,
): Float32Array {
  const out = new Float32Array(heads * headDim);
  const step = headsKv * headDim;
  for (let h = 0; h < heads; h++) {
    const at = Math.floor(h / (heads / headsKv)) * headDim;
    const query = q.slice(h * headDim, (h + 1) * headDim).map(round);
    const key = (j: number): Float32Array => k.subarray(j * step + at, j * step + at + headDim);
    const scores = Float32Array.from({ length: count }, (_, j) => f(dotLanes(query, key(j)) * f(scale)));
    const p = softMax(scores).map(round);
    for (let i = 0; i < headDim; i++) {
      let sum = 0;
      for (let j = 0; j < count; j++) sum = f(sum + f(p[j]! * v[j * step + at + i]!));
      out[h * headDim + i] = sum;
    }
  }
  return out;
}

/** Turns adjacent pairs of one head by a table of [cos, sin]. */
export function rope(x: Float32Array, table: Float32Array): Float32Array {
  const out = Float32Array.from(x);
  for (let i = 0; i < table.length; i += 2) {
    out[i] = f(f(x[i]! * table[i]!) - f(x[i + 1]! * table[i + 1]!));
    out[i + 1] = f(f(x[i + 1]! * table[i]!) + f(x[i]! * table[i + 1]!));
  }
  return out;
}
