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
  private parts: Buffer[] = [];
  length = 0;
  raw(b: Uint8Array): this {
    this.parts.push(Buffer.from(b));
    this.length += b.length;
    return this;
  }
  number(write: (b: Buffer) => void, n: number): this {
    const b = Buffer.alloc(n);
    write(b);
    return this.raw(b);
  }
  u32(x: number): this {
    return this.number(b => b.writeUInt32LE(x >>> 0), 4);
  }
  u64(x: number | bigint): this {
    return this.number(b => b.writeBigUInt64LE(BigInt.asUintN(64, BigInt(x))), 8);
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
        return this.number(b => b.writeUInt8(n), 1);
      case 'i8':
        return this.number(b => b.writeInt8(n), 1);
      case 'u16':
        return this.number(b => b.writeUInt16LE(n), 2);
      case 'i16':
        return this.number(b => b.writeInt16LE(n), 2);
      case 'u32':
        return this.u32(n);
      case 'i32':
        return this.number(b => b.writeInt32LE(n), 4);
      case 'f32':
        return this.number(b => b.writeFloatLE(n), 4);
      case 'f64':
        return this.number(b => b.writeDoubleLE(n), 8);
      case 'string':
        return this.string(x as string | Uint8Array);
      default:
        return this.u64(x as number | bigint);
    }
  }
  done(): Buffer {
    return Buffer.concat(this.parts);
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
