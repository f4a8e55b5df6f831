// Numbers of the GGUF container (versions 2 and 3) as ggml/docs/gguf.md fixes them, and the fields that its files are written with. The kernel
// reads and writes such files through its own device; programs write what they made of them.

import { utf8Encode } from './utf8.ts';

/** Types of metadata values and array elements. */
export const GGUF_TYPE = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;

/** Bytes of one value of each type that has a fixed size; 0 for strings and arrays. */
export const GGUF_VALUE_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8] as const;

export const GGUF_MAGIC = 0x46554747; // 'GGUF', little-endian
export const GGUF_ALIGNMENT_DEFAULT = 32;

export type GgufScalar = number | bigint | boolean | string;

/** Little-endian fields one after the other, in a buffer that grows. */
export class GgufFields {
  private buffer = new Uint8Array(256);
  private view = new DataView(this.buffer.buffer);
  private length = 0;

  private take(n: number): number {
    const at = this.length;
    this.length += n;
    if (this.length > this.buffer.length) {
      const larger = new Uint8Array(Math.max(2 * this.buffer.length, this.length));
      larger.set(this.buffer);
      this.buffer = larger;
      this.view = new DataView(larger.buffer);
    }
    return at;
  }
  u32(x: number): this {
    const at = this.take(4);
    this.view.setUint32(at, x, true);
    return this;
  }
  u64(x: number | bigint): this {
    const at = this.take(8);
    this.view.setBigUint64(at, BigInt.asUintN(64, BigInt(x)), true);
    return this;
  }
  string(text: string): this {
    const bytes = utf8Encode(text);
    this.u64(bytes.length);
    const at = this.take(bytes.length);
    this.buffer.set(bytes, at);
    return this;
  }
  /** A value of GGUF_TYPE `type`, not an array. */
  scalar(type: number, value: GgufScalar): this {
    if (type === GGUF_TYPE.string) return this.string(String(value));
    if (type === GGUF_TYPE.u64 || type === GGUF_TYPE.i64) return this.u64(value as number | bigint);
    const bytes = GGUF_VALUE_BYTES[type]!;
    const at = this.take(bytes);
    const x = Number(value);
    if (type === GGUF_TYPE.f32) this.view.setFloat32(at, x, true);
    else if (type === GGUF_TYPE.f64) this.view.setFloat64(at, x, true);
    else if (bytes === 4) this.view.setUint32(at, x, true);
    else if (bytes === 2) this.view.setUint16(at, x, true);
    else this.view.setUint8(at, x);
    return this;
  }
  /** What was written so far. */
  done(): Uint8Array {
    return this.buffer.subarray(0, this.length);
  }
}
