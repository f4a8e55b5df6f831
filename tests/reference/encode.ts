// ggml's reference quantisers as they are written there, value by value in doubles that are rounded after each operation, for one block of 32 or
// one float. Independent of drivers/engine/simd/encode.ts.

import type { GgmlTypeName } from '../../kernel/abi/index.ts';
import { f32ToF16 } from './kernels.ts';

const f = Math.fround;
const bits = new DataView(new ArrayBuffer(4));

/** A C cast to i32 on x86, and its low byte. */
function castByte(x: number): number {
  const i = Math.abs(x) < 2 ** 31 ? Math.trunc(x) : -(2 ** 31); // NaN too
  return i & 0xff;
}
const int8 = (byte: number): number => (byte << 24) >> 24;
/** C's roundf: halves away from zero. */
const roundf = (x: number): number => Math.sign(x) * Math.floor(Math.abs(x) + 0.5);

export function bf16Bits(x: number): number {
  bits.setFloat32(0, x);
  const b = bits.getUint32(0);
  return Number.isNaN(x) ? (b >>> 16) | 64 : ((b + 0x7fff + ((b >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The block that 32 values become. */
export function encodeBlock(type: GgmlTypeName, x: Float32Array): Uint8Array {
  const half = (out: DataView, at: number, value: number): void => out.setUint16(at, f32ToF16(value), true);
  let amax = 0;
  let peak = 0;
  let min = 3.4028234663852886e38;
  let max = -min;
  for (const v of x) {
    if (type === 'Q8_0') amax = amax > Math.abs(v) ? amax : Math.abs(v);
    else if (amax < Math.abs(v)) {
      amax = Math.abs(v);
      peak = v;
    }
    if (v < min) min = v;
    if (v > max) max = v;
  }
  const inverse = (d: number): number => (d !== 0 ? f(1 / d) : 0);
  if (type === 'Q8_0') {
    const out = new DataView(new ArrayBuffer(34));
    const d = f(amax / 127);
    half(out, 0, d);
    x.forEach((v, j) => out.setUint8(2 + j, castByte(roundf(f(v * inverse(d))))));
    return new Uint8Array(out.buffer);
  }
  const low = type === 'Q4_1' || type === 'Q5_1';
  const fifth = type === 'Q5_0' || type === 'Q5_1';
  const steps = fifth ? 31 : 15;
  const d = low ? f(f(max - min) / steps) : f(peak / (fifth ? -16 : -8));
  const id = inverse(d);
  const level = (v: number): number => {
    if (!low) return Math.min(steps, int8(castByte(f(f(v * id) + (fifth ? 16.5 : 8.5)))));
    const q = castByte(f(f(f(v - min) * id) + 0.5));
    return fifth ? q : Math.min(steps, int8(q));
  };
  const header = (low ? 4 : 2) + (fifth ? 4 : 0);
  const out = new DataView(new ArrayBuffer(header + 16));
  half(out, 0, d);
  if (low) half(out, 2, min);
  let high = 0;
  for (let j = 0; j < 16; j++) {
    const [a, b] = [level(x[j]!), level(x[j + 16]!)];
    out.setUint8(header + j, (a & 15) | (b << 4));
    high |= (((a >> 4) & 1) << j) | (((b >> 4) & 1) << (j + 16));
  }
  if (fifth) out.setInt32(header - 4, high, true);
  return new Uint8Array(out.buffer);
}

/** `x` as a type, blocks or floats. */
export function encode(type: GgmlTypeName, x: Float32Array): Uint8Array {
  if (type === 'F32') return new Uint8Array(x.slice().buffer);
  if (type === 'F16') return new Uint8Array(Uint16Array.from(x, f32ToF16).buffer);
  if (type === 'BF16') return new Uint8Array(Uint16Array.from(x, bf16Bits).buffer);
  const blocks = Array.from({ length: x.length / 32 }, (_, i) => encodeBlock(type, x.subarray(32 * i, 32 * i + 32)));
  return new Uint8Array(Buffer.concat(blocks));
}
