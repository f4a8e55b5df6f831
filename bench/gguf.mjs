// Writes GGUF v3 files and quantises rows by ggml's rules (Q4_0, Q8_0), so that the bench can make the models it measures and any
// other GGUF reader can load the same bytes. Tensor data is 32-byte aligned, as the format's default says.

const u32 = x => {
  const b = Buffer.alloc(4);
  b.writeUInt32LE(x);
  return b;
};
const f32 = x => {
  const b = Buffer.alloc(4);
  b.writeFloatLE(x);
  return b;
};
const u64 = x => {
  const b = Buffer.alloc(8);
  b.writeBigUInt64LE(BigInt(x));
  return b;
};
const string = s => Buffer.concat([u64(Buffer.byteLength(s)), Buffer.from(s)]);
const list = (elementType, write) => xs => Buffer.concat([u32(elementType), u64(xs.length), ...xs.map(write)]);

/** Value kinds a model's metadata needs: [GGUF value type, writer]. */
const kinds = {
  u32: [4, u32],
  f32: [6, f32],
  bool: [7, x => Buffer.from([x ? 1 : 0])],
  string: [8, string],
  strings: [9, list(8, string)],
  f32s: [9, list(6, f32)],
  i32s: [9, list(5, u32)],
};

const bits = new DataView(new ArrayBuffer(4));

/** IEEE half bits of a number, round to nearest even; overflow becomes infinity. */
export function f16Bits(x) {
  bits.setFloat32(0, x);
  const b = bits.getUint32(0);
  const sign = (b >>> 16) & 0x8000;
  const exponent = (b >>> 23) & 0xff;
  if (exponent >= 143) return sign | (exponent === 255 && (b & 0x7fffff) !== 0 ? 0x7e00 : 0x7c00);
  if (exponent < 102) return sign;
  // Below 2^-14 halves are subnormal: the implicit one joins the mantissa and moves down.
  const mantissa = exponent < 113 ? ((b & 0x7fffff) | 0x800000) >>> 0 : b & 0x7fffff;
  const shift = exponent < 113 ? 126 - exponent : 13;
  const high = exponent < 113 ? 0 : (exponent - 112) << 10;
  const half = 1 << (shift - 1);
  const rest = mantissa & ((1 << shift) - 1);
  const whole = mantissa >>> shift;
  const up = rest > half || (rest === half && (whole & 1) === 1) ? 1 : 0;
  return sign | (high + whole + up); // a carry moves into the exponent, as it should
}

/** ggml's Q4_0: per 32 values an f16 scale d = (the value of largest magnitude) / -8, then 16 bytes of nibbles, low half first. */
function q4_0(values) {
  const out = Buffer.alloc((values.length / 32) * 18);
  for (let block = 0; block < values.length / 32; block++) {
    const x = values.subarray(block * 32, block * 32 + 32);
    let largest = 0;
    for (const v of x) if (Math.abs(v) > Math.abs(largest)) largest = v;
    const d = Math.fround(largest / -8);
    const inverse = d === 0 ? 0 : Math.fround(1 / d);
    const nibble = v => Math.min(15, Math.trunc(Math.fround(Math.fround(v * inverse) + 8.5)));
    out.writeUInt16LE(f16Bits(d), block * 18);
    for (let j = 0; j < 16; j++) out[block * 18 + 2 + j] = nibble(x[j]) | (nibble(x[j + 16]) << 4);
  }
  return out;
}

/** ggml's Q8_0: per 32 values an f16 scale d = (largest magnitude) / 127, then 32 int8, rounded half away from zero. */
function q8_0(values) {
  const out = Buffer.alloc((values.length / 32) * 34);
  for (let block = 0; block < values.length / 32; block++) {
    const x = values.subarray(block * 32, block * 32 + 32);
    let largest = 0;
    for (const v of x) largest = Math.max(largest, Math.abs(v));
    const d = Math.fround(largest / 127);
    const inverse = d === 0 ? 0 : Math.fround(1 / d);
    out.writeUInt16LE(f16Bits(d), block * 34);
    for (let j = 0; j < 32; j++) {
      const v = Math.fround(x[j] * inverse);
      out.writeInt8(Math.sign(v) * Math.floor(Math.abs(v) + 0.5), block * 34 + 2 + j);
    }
  }
  return out;
}

/** Storage types the writer knows: ggml's number, values and bytes of a block, and the encoder of a Float32Array whose rows are whole blocks. */
const types = {
  F32: [0, 1, 4, values => Buffer.from(values.buffer, values.byteOffset, values.byteLength)],
  Q4_0: [2, 32, 18, q4_0],
  Q4_1: [3, 32, 20],
  Q8_0: [8, 32, 34, q8_0],
};
const ALIGNMENT = 32;
const padded = n => Math.ceil(n / ALIGNMENT) * ALIGNMENT;

/** Bytes of a row of `k` values. */
export function rowBytes(type, k) {
  const [, blockValues, blockBytes] = types[type];
  return (k / blockValues) * blockBytes;
}

/**
 * A GGUF v3 file before its data: the header, padded, where in the file each tensor's data begins and how long they are, and the file's length.
 * @param {readonly (readonly [key: string, kind: keyof typeof kinds | 'stored', value: unknown])[]} metadata 'stored': type and value as another file has them
 * @param {readonly { name: string, shape: readonly number[], type: keyof typeof types }[]} tensors shape[0] is the row length
 */
export function layOutGguf(metadata, tensors) {
  const head = [Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(metadata.length)];
  for (const [key, kind, value] of metadata) {
    head.push(string(key));
    if (kind === 'stored') head.push(value);
    else head.push(u32(kinds[kind][0]), kinds[kind][1](value));
  }
  const places = [];
  let offset = 0;
  for (const { name, shape, type } of tensors) {
    head.push(string(name), u32(shape.length), ...shape.map(u64), u32(types[type][0]), u64(offset));
    const bytes = rowBytes(type, shape[0]) * shape.slice(1).reduce((product, n) => product * n, 1);
    places.push({ at: offset, bytes });
    offset += padded(bytes);
  }
  const length = head.reduce((sum, part) => sum + part.length, 0);
  const header = Buffer.concat([...head, Buffer.alloc(padded(length) - length)]);
  return {
    header,
    places: places.map(({ at, bytes }) => ({ at: header.length + at, bytes })),
    fileBytes: header.length + offset,
  };
}

/** The bytes of a GGUF v3 file; `values` of each tensor as a Float32Array. */
export function writeGguf(metadata, tensors) {
  const { header, places, fileBytes } = layOutGguf(metadata, tensors);
  const file = Buffer.alloc(fileBytes);
  header.copy(file);
  tensors.forEach(({ type, values }, i) => types[type][3](values).copy(file, places[i].at));
  return file;
}
