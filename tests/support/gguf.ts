// Writes GGUF files for tests, good ones and bad ones: nothing is checked, and every field that the format derives can be given instead.
// Independent of vfs/gguf.ts.

export type Value =
  | ['u8' | 'i8' | 'u16' | 'i16' | 'u32' | 'i32' | 'f32' | 'bool' | 'f64', number]
  | ['u64' | 'i64', number | bigint]
  | ['string', string | Uint8Array]
  | ['array', string, readonly unknown[]]
  | ['raw', number, Uint8Array]; // any type number, any bytes

export const TYPE_NUMBER: Record<string, number> = Object.fromEntries(
  'u8 i8 u16 i16 u32 i32 f32 bool string array u64 i64 f64'.split(' ').map((name, i) => [name, i]),
);

export interface TensorSpec {
  readonly name: string | Uint8Array;
  readonly shape: readonly (number | bigint)[];
  readonly type: number;
  readonly offset: number | bigint;
  readonly dims?: number;
}

export interface FileSpec {
  readonly magic?: string;
  readonly version?: number;
  readonly keyCount?: number | bigint;
  readonly tensorCount?: number | bigint;
  readonly keys?: readonly (readonly [key: string | Uint8Array, value: Value])[];
  readonly tensors?: readonly TensorSpec[];
  readonly alignment?: number;
  readonly data?: number; // bytes after the aligned end of the descriptions
}

class Bytes {
  private buffer = Buffer.alloc(4096);
  length = 0;
  /** Where the next `n` bytes go, which are zero. */
  private grow(n: number): number {
    const at = this.length;
    this.length += n;
    if (this.length > this.buffer.length)
      this.buffer = Buffer.concat([this.buffer.subarray(0, at)], 2 * Math.max(this.length, this.buffer.length));
    return at;
  }
  raw(b: Uint8Array): this {
    const at = this.grow(b.length);
    this.buffer.set(b, at);
    return this;
  }
  number(write: (b: Buffer, at: number) => void, n: number): this {
    const at = this.grow(n);
    write(this.buffer, at);
    return this;
  }
  u32(x: number): this {
    return this.number((b, at) => b.writeUInt32LE(x >>> 0, at), 4);
  }
  u64(x: number | bigint): this {
    return this.number((b, at) => b.writeBigUInt64LE(BigInt.asUintN(64, BigInt(x)), at), 8);
  }
  string(s: string | Uint8Array): this {
    const b = typeof s === 'string' ? Buffer.from(s) : s;
    return this.u64(b.length).raw(b);
  }
  scalar(type: string, x: unknown): this {
    const n = Number(x);
    switch (type) {
      case 'u8':
      case 'bool':
        return this.number((b, at) => b.writeUInt8(n, at), 1);
      case 'i8':
        return this.number((b, at) => b.writeInt8(n, at), 1);
      case 'u16':
        return this.number((b, at) => b.writeUInt16LE(n, at), 2);
      case 'i16':
        return this.number((b, at) => b.writeInt16LE(n, at), 2);
      case 'u32':
        return this.u32(n);
      case 'i32':
        return this.number((b, at) => b.writeInt32LE(n, at), 4);
      case 'f32':
        return this.number((b, at) => b.writeFloatLE(n, at), 4);
      case 'f64':
        return this.number((b, at) => b.writeDoubleLE(n, at), 8);
      case 'string':
        return this.string(x as string | Uint8Array);
      default:
        return this.u64(x as number | bigint);
    }
  }
  done(): Buffer {
    return this.buffer.subarray(0, this.length);
  }
}

export function ggufFile(spec: FileSpec): Buffer {
  const { keys = [], tensors = [] } = spec;
  const out = new Bytes();
  out.raw(Buffer.from(spec.magic ?? 'GGUF', 'latin1')).u32(spec.version ?? 3);
  out.u64(spec.tensorCount ?? tensors.length).u64(spec.keyCount ?? keys.length);
  for (const [key, value] of keys) {
    out.string(key);
    if (value[0] === 'raw') out.u32(value[1]).raw(value[2]);
    else if (value[0] === 'array') {
      out.u32(9).u32(TYPE_NUMBER[value[1]]!).u64(value[2].length);
      for (const x of value[2]) out.scalar(value[1], x);
    } else out.u32(TYPE_NUMBER[value[0]]!).scalar(value[0], value[1]);
  }
  for (const t of tensors) {
    out.string(t.name).u32(t.dims ?? t.shape.length);
    for (const n of t.shape) out.u64(n);
    out.u32(t.type).u64(t.offset);
  }
  const alignment = spec.alignment ?? 32;
  out.raw(Buffer.alloc((alignment - (out.length % alignment)) % alignment));
  for (let i = 0, n = spec.data ?? 0; i < n; i += 4096) out.raw(Buffer.alloc(Math.min(4096, n - i), i >> 12));
  return out.done();
}
