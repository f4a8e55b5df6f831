// Writes GGUF v3 (SIS §7.1) for tests: metadata and tensors in the order given. Values name their type; `general.alignment` is kept to.

import { GGML_BLOCK, ggmlTypeName } from '../../kernel/abi/index.ts';

export type MetaInput =
  | { readonly u32: number }
  | { readonly i32: number }
  | { readonly f32: number }
  | { readonly bool: boolean }
  | { readonly string: string }
  | { readonly strings: readonly string[] }
  | { readonly f32s: readonly number[] }
  | { readonly i32s: readonly number[] };

export interface TensorInput {
  readonly name: string;
  readonly type: number;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

const ALIGNMENT = 32; // where general.alignment says nothing
const utf8 = new TextEncoder();

class Bytes {
  private parts: Uint8Array[] = [];
  length = 0;
  raw(b: Uint8Array): this {
    this.parts.push(b);
    this.length += b.length;
    return this;
  }
  scalar(bytes: number, write: (v: DataView) => void): this {
    const b = new Uint8Array(bytes);
    write(new DataView(b.buffer));
    return this.raw(b);
  }
  u32 = (x: number): this => this.scalar(4, v => v.setUint32(0, x, true));
  i32 = (x: number): this => this.scalar(4, v => v.setInt32(0, x, true));
  f32 = (x: number): this => this.scalar(4, v => v.setFloat32(0, x, true));
  u64 = (x: number): this => this.scalar(8, v => v.setBigUint64(0, BigInt(x), true));
  text(s: string): this {
    const b = utf8.encode(s);
    return this.u64(b.length).raw(b);
  }
  pad(alignment: number): this {
    return this.raw(new Uint8Array((alignment - (this.length % alignment)) % alignment));
  }
  joined(): Uint8Array {
    const out = new Uint8Array(this.length);
    let at = 0;
    for (const p of this.parts) {
      out.set(p, at);
      at += p.length;
    }
    return out;
  }
}

function writeMeta(out: Bytes, value: MetaInput): void {
  if ('u32' in value) out.u32(4).u32(value.u32);
  else if ('i32' in value) out.u32(5).i32(value.i32);
  else if ('f32' in value) out.u32(6).f32(value.f32);
  else if ('bool' in value) out.u32(7).raw(new Uint8Array([value.bool ? 1 : 0]));
  else if ('string' in value) out.u32(8).text(value.string);
  else if ('strings' in value) {
    out.u32(9).u32(8).u64(value.strings.length);
    for (const s of value.strings) out.text(s);
  } else if ('f32s' in value) {
    out.u32(9).u32(6).u64(value.f32s.length);
    for (const x of value.f32s) out.f32(x);
  } else {
    out.u32(9).u32(5).u64(value.i32s.length);
    for (const x of value.i32s) out.i32(x);
  }
}

/** Bytes of a tensor of this type and shape. */
export function tensorBytes(type: number, shape: readonly number[]): number {
  const [values, bytes] = GGML_BLOCK[ggmlTypeName(type)!];
  return (shape.reduce((a, b) => a * b, 1) / values) * bytes;
}

export function writeGguf(meta: Readonly<Record<string, MetaInput>>, tensors: readonly TensorInput[]): Uint8Array {
  const out = new Bytes();
  const aligned = meta['general.alignment'];
  const alignment = aligned !== undefined && 'u32' in aligned ? aligned.u32 : ALIGNMENT;
  out.raw(utf8.encode('GGUF')).u32(3).u64(tensors.length).u64(Object.keys(meta).length);
  for (const [key, value] of Object.entries(meta)) {
    out.text(key);
    writeMeta(out, value);
  }
  let at = 0;
  for (const t of tensors) {
    out.text(t.name).u32(t.shape.length);
    for (const n of t.shape) out.u64(n);
    out.u32(t.type).u64(at);
    at += Math.ceil(t.data.length / alignment) * alignment;
  }
  out.pad(alignment);
  for (const t of tensors) out.raw(t.data).pad(alignment);
  return out.joined();
}
