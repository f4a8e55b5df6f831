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

/** One row of weights at byte `at` times one token; `rows`: of the whole matrix. */
export function dot(type: number, bytes: Uint8Array, at: number, x: Float32Array, rows: number): number {
  return blockOf(type)[0] === 32 ? dotBlocks(type, bytes, at, x, rows) : dotFloats(type, bytes, at, x);
}

/** A block's integer sum is scaled and added at once where Q4_0 rows come in eights, else in eight parts: four neighbouring values each. */
function dotBlocks(type: number, bytes: Uint8Array, at: number, x: Float32Array, rows: number): number {
  const v = new DataView(bytes.buffer, bytes.byteOffset);
  const size = blockOf(type)[1];
  const parts = type === TYPE_Q4_0 && rows % 8 === 0 ? 1 : 8;
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
    if (type === TYPE_Q4_1) minima = f(minima + f(f16ToF32(v.getUint16(p + 2, true)) * y.s));
  }
  if (parts === 1) return sums[0]!;
  const sum = sumOfFour(halved(sums));
  return type === TYPE_Q4_1 ? f(sum + minima) : sum;
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
