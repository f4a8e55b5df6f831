// GGUF files as programs make them: another file's keys and tensors read through a descriptor, a new file laid out from keys at hand or taken
// over byte for byte, and written as NAME.part until it is whole, so that whoever looks finds the old file or the new one. What a loader
// would refuse here is refused by the kernel when the file is loaded; this reader believes no count either.

import {
  E,
  GGML_BLOCK,
  GGUF_ALIGNMENT_DEFAULT,
  GGUF_MAGIC,
  GGUF_TYPE,
  GGUF_VALUE_BYTES,
  GgufFields,
  ggmlTypeName,
  LIMITS,
  O,
  SEEK,
  shown,
  utf8Decode,
} from '../../../kernel/abi/index.ts';
import type { GgufScalar, Sys } from '../../../kernel/abi/index.ts';
import { fstat } from '../files.ts';
import { CHUNK_BYTES, writeAll } from '../stdio.ts';

/** A stretch of an open file. */
export interface Stretch {
  readonly fd: number;
  readonly at: number;
  readonly bytes: number;
}

/** A metadata value of a file: a scalar, or an array that stays where it is. `stored`: its type and what follows, as the file has them. */
export interface StoredValue {
  readonly type: number;
  readonly value: GgufScalar | null;
  readonly count: number; // of an array
  readonly stored: Stretch;
}

/** What a tensor is called and how large it is. */
export interface TensorShape {
  readonly name: string;
  readonly type: number; // GGML_TYPE
  readonly shape: readonly number[]; // ne[0] first
}
export interface FileTensor extends TensorShape {
  readonly data: Stretch;
}

export interface ModelFile {
  readonly fd: number;
  readonly bytes: number;
  readonly keys: ReadonlyMap<string, StoredValue>;
  readonly tensors: readonly FileTensor[];
  readonly byName: ReadonlyMap<string, FileTensor>;
}

/** Bytes that a tensor of this type and shape takes. */
export function tensorBytes({ type, shape }: Pick<TensorShape, 'type' | 'shape'>): number {
  const [values, bytes] = GGML_BLOCK[ggmlTypeName(type)!];
  return (shape.reduce((product, extent) => product * extent, 1) / values) * bytes;
}

/** A key that is text, or ''. */
export const textOf = (file: ModelFile, key: string): string => {
  const value = file.keys.get(key)?.value;
  return typeof value === 'string' ? value : '';
};
/** A key that is a number, or null. */
export const numberOf = (file: ModelFile, key: string): number | null => {
  const value = file.keys.get(key)?.value;
  return typeof value === 'number' ? value : null;
};

// ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Fills `into` from a position of an open file: 0, or -errno; EIO where the file ends before. */
export function* readAt(sys: Sys, fd: number, at: number, into: Uint8Array): Generator<void, number, void> {
  const moved = yield* sys.lseek(fd, at, SEEK.set);
  if (moved < 0) return moved;
  for (let done = 0; done < into.length;) {
    const n = yield* sys.read(fd, into.subarray(done));
    if (n <= 0) return n < 0 ? n : -E.IO;
    done += n;
  }
  return 0;
}

/** Fields of a file one after the other, through a buffer. After the first that cannot be had `why` says so, and all others are 0 or empty. */
class Fields {
  at = 0;
  why = '';
  private readonly buffer = new Uint8Array(CHUNK_BYTES);
  private readonly view = new DataView(this.buffer.buffer);
  private from = 0;
  private length = 0;

  constructor(
    private readonly sys: Sys,
    readonly fd: number,
    readonly size: number,
  ) {}

  fail(why: string): void {
    if (this.why === '') this.why = why;
  }

  /** Whether n bytes more are there. */
  private has(n: number): boolean {
    if (n > this.size - this.at) this.fail(`ends at byte ${this.size}, ${n} bytes are due at ${this.at}`);
    return this.why === '';
  }

  /** Index in the buffer of the next n ≤ CHUNK_BYTES bytes; -1 where they cannot be had. */
  private *take(n: number): Generator<void, number, void> {
    if (!this.has(n)) return -1;
    if (this.at < this.from || this.at + n > this.from + this.length) {
      this.from = this.at;
      this.length = Math.min(CHUNK_BYTES, this.size - this.at);
      const failed = yield* readAt(this.sys, this.fd, this.at, this.buffer.subarray(0, this.length));
      if (failed < 0) {
        this.fail(`reading at byte ${this.at} failed`);
        return -1;
      }
    }
    const index = this.at - this.from;
    this.at += n;
    return index;
  }
  *u32(): Generator<void, number, void> {
    const index = yield* this.take(4);
    return index < 0 ? 0 : this.view.getUint32(index, true);
  }
  /** A count, length or offset. */
  *u64(): Generator<void, number, void> {
    const index = yield* this.take(8);
    const value = index < 0 ? 0 : Number(this.view.getBigUint64(index, true));
    if (Number.isSafeInteger(value)) return value;
    this.fail(`a count of ${value} at byte ${this.at - 8}`);
    return 0;
  }
  *string(most: number): Generator<void, string, void> {
    const bytes = yield* this.u64();
    if (bytes > most) this.fail(`a text of ${bytes} bytes at ${this.at}, the limit is ${most}`);
    if (!this.has(bytes)) return '';
    const text = new Uint8Array(bytes);
    for (let done = 0; done < bytes;) {
      const n = Math.min(CHUNK_BYTES, bytes - done);
      const index = yield* this.take(n);
      if (index < 0) return '';
      text.set(this.buffer.subarray(index, index + n), done);
      done += n;
    }
    return utf8Decode(text);
  }
  *scalar(type: number): Generator<void, GgufScalar, void> {
    const at = yield* this.take(GGUF_VALUE_BYTES[type]!);
    const { view } = this;
    if (at < 0) return 0;
    if (type === GGUF_TYPE.f32) return view.getFloat32(at, true);
    if (type === GGUF_TYPE.f64) return view.getFloat64(at, true);
    if (type === GGUF_TYPE.bool) return view.getUint8(at) !== 0;
    if (type === GGUF_TYPE.u64) return view.getBigUint64(at, true);
    if (type === GGUF_TYPE.i64) return view.getBigInt64(at, true);
    if (type === GGUF_TYPE.u32) return view.getUint32(at, true);
    if (type === GGUF_TYPE.i32) return view.getInt32(at, true);
    if (type === GGUF_TYPE.u16) return view.getUint16(at, true);
    if (type === GGUF_TYPE.i16) return view.getInt16(at, true);
    return type === GGUF_TYPE.i8 ? view.getInt8(at) : view.getUint8(at);
  }
  /** Steps over n bytes. */
  skip(n: number): void {
    if (this.has(n)) this.at += n;
  }
}

/** The file behind a descriptor, which stays open; or what is wrong with it. */
export function* readModelFile(sys: Sys, fd: number): Generator<void, ModelFile | string, void> {
  const st = yield* fstat(sys, fd);
  if (typeof st === 'number') return 'cannot be looked at';
  const r = new Fields(sys, fd, st.size);
  if ((yield* r.u32()) !== GGUF_MAGIC) r.fail('is no GGUF file');
  const version = yield* r.u32();
  if (version !== 2 && version !== 3) r.fail(`is of GGUF version ${version}: read are 2 and 3`);
  const tensorCount = yield* r.u64();
  const keyCount = yield* r.u64();
  if (tensorCount > LIMITS.ggufTensorsMax || keyCount > LIMITS.ggufKeysMax)
    r.fail(`has ${keyCount} keys and ${tensorCount} tensors, more than are read`);
  const keys = new Map<string, StoredValue>();
  for (let i = 0; i < keyCount && r.why === ''; i++) keys.set(yield* r.string(LIMITS.ggufKeyBytes), yield* valueAt(r));
  const shapes: Described[] = [];
  for (let i = 0; i < tensorCount && r.why === ''; i++) shapes.push(yield* shapeAt(r));
  if (r.why !== '') return r.why;
  const alignment = Number(keys.get('general.alignment')?.value ?? GGUF_ALIGNMENT_DEFAULT);
  const dataAt = r.at + padding(r.at, alignment);
  const tensors = shapes.map(({ offset, ...shape }) => ({
    ...shape,
    data: { fd, at: dataAt + offset, bytes: tensorBytes(shape) },
  }));
  const beyond = tensors.find(({ data }) => !(data.at + data.bytes <= st.size));
  if (beyond !== undefined) return `ends before its tensor ${shown(beyond.name)} does`;
  return { fd, bytes: st.size, keys, tensors, byName: new Map(tensors.map(t => [t.name, t])) };
}

function* valueAt(r: Fields): Generator<void, StoredValue, void> {
  const { at } = r;
  const type = yield* r.u32();
  let value: GgufScalar | null = null;
  let count = 0;
  if (type === GGUF_TYPE.string) value = yield* r.string(LIMITS.ggufStringBytes);
  else if (type === GGUF_TYPE.array) {
    const elementType = yield* r.u32();
    count = yield* r.u64();
    if (elementType === GGUF_TYPE.string) for (let i = 0; i < count && r.why === ''; i++) r.skip(yield* r.u64());
    else if (elementType === GGUF_TYPE.array || elementType > GGUF_TYPE.f64)
      r.fail(`has an array of type ${elementType} at byte ${at}`);
    else r.skip(count * GGUF_VALUE_BYTES[elementType]!);
  } else if (type <= GGUF_TYPE.f64) value = yield* r.scalar(type);
  else r.fail(`has a value of type ${type} at byte ${at}`);
  return { type, value, count, stored: { fd: r.fd, at, bytes: r.at - at } };
}

/** A tensor's description; its offset counts from the beginning of the data. */
type Described = TensorShape & { readonly offset: number };

function* shapeAt(r: Fields): Generator<void, Described, void> {
  const name = yield* r.string(LIMITS.ggufTensorNameBytes);
  const dims = yield* r.u32();
  if (dims < 1 || dims > LIMITS.tensorDimsMax) r.fail(`tensor ${shown(name)} has ${dims} dimensions`);
  const shape: number[] = [];
  for (let d = 0; d < dims && r.why === ''; d++) shape.push(yield* r.u64());
  const type = yield* r.u32();
  if (ggmlTypeName(type) === undefined) r.fail(`tensor ${shown(name)} is of type ${type}`);
  return { name, type, shape, offset: yield* r.u64() };
}

// ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A value of a new file: at hand, or as another file has it. */
export type NewValue =
  | { readonly type: number; readonly value: GgufScalar }
  | { readonly elementType: number; readonly elements: readonly GgufScalar[] }
  | { readonly stored: Stretch };

export const textValue = (value: string): NewValue => ({ type: GGUF_TYPE.string, value });
export const u32Value = (value: number): NewValue => ({ type: GGUF_TYPE.u32, value });
export const f32Value = (value: number): NewValue => ({ type: GGUF_TYPE.f32, value });

/** The keys of a file as they are, but for those that are given again, and its alignment: new files have the default. */
export function keysOf(file: ModelFile, changed: readonly (readonly [string, NewValue])[] = []): Map<string, NewValue> {
  const keys = new Map<string, NewValue>([...file.keys].map(([key, { stored }]) => [key, { stored }]));
  keys.delete('general.alignment');
  for (const [key, value] of changed) keys.set(key, value);
  return keys;
}

/** Bytes between a position and the next multiple of `alignment`. */
export const padding = (bytes: number, alignment: number): number => (alignment - (bytes % alignment)) % alignment;

/** Descriptions of tensors, one behind the other in the data as llama.cpp writes them: each at the next multiple of the alignment. */
function describe(tensors: readonly TensorShape[]): Uint8Array {
  const fields = new GgufFields();
  let offset = 0;
  for (const tensor of tensors) {
    const { name, type, shape } = tensor;
    fields.string(name).u32(shape.length);
    for (const extent of shape) fields.u64(extent);
    fields.u32(type).u64(offset);
    const bytes = tensorBytes(tensor);
    offset += bytes + padding(bytes, GGUF_ALIGNMENT_DEFAULT);
  }
  return fields.done();
}

/** A file that grows as NAME.part and takes its name when it is whole. After the first failure every write does nothing. */
export class NewFile {
  /** -errno of what failed, or 0. */
  error = 0;
  /** Bytes written. */
  bytes = 0;
  private readonly buffer = new Uint8Array(CHUNK_BYTES);
  private held = 0;
  private readonly part: string;

  private constructor(
    private readonly sys: Sys,
    private readonly fd: number,
    readonly path: string,
  ) {
    this.part = `${path}.part`;
  }

  /** The file, begun; or -errno. */
  static *begin(sys: Sys, path: string): Generator<void, NewFile | number, void> {
    const fd = yield* sys.open(`${path}.part`, O.WRONLY | O.CREAT | O.TRUNC, 0o666);
    return fd < 0 ? fd : new NewFile(sys, fd, path);
  }

  *write(bytes: Uint8Array): Generator<void, void, void> {
    for (let done = 0; done < bytes.length && this.error === 0;) {
      const n = Math.min(bytes.length - done, CHUNK_BYTES - this.held);
      this.buffer.set(bytes.subarray(done, done + n), this.held);
      this.held += n;
      done += n;
      this.bytes += n;
      if (this.held === CHUNK_BYTES) yield* this.flush();
    }
  }

  /** Bytes of another file, which may not be this one. */
  *copy({ fd, at, bytes }: Stretch): Generator<void, void, void> {
    const buffer = new Uint8Array(CHUNK_BYTES);
    for (let done = 0; done < bytes && this.error === 0;) {
      const piece = buffer.subarray(0, Math.min(CHUNK_BYTES, bytes - done));
      const failed = yield* readAt(this.sys, fd, at + done, piece);
      if (failed < 0) this.error = failed;
      else yield* this.write(piece);
      done += piece.length;
    }
  }

  /** Header, keys and descriptions of a GGUF file; its data are written next, each tensor followed by `align`. */
  *head(keys: ReadonlyMap<string, NewValue>, tensors: readonly TensorShape[]): Generator<void, void, void> {
    yield* this.write(new GgufFields().u32(GGUF_MAGIC).u32(3).u64(tensors.length).u64(keys.size).done());
    for (const [key, value] of keys) {
      const fields = new GgufFields().string(key);
      if ('type' in value) fields.u32(value.type).scalar(value.type, value.value);
      else if ('elements' in value) {
        fields.u32(GGUF_TYPE.array).u32(value.elementType).u64(value.elements.length);
        for (const element of value.elements) fields.scalar(value.elementType, element);
      }
      yield* this.write(fields.done());
      if ('stored' in value) yield* this.copy(value.stored);
    }
    yield* this.write(describe(tensors));
    yield* this.align();
  }

  /** Zeros up to a multiple of GGUF's alignment. */
  *align(): Generator<void, void, void> {
    yield* this.write(new Uint8Array(padding(this.bytes, GGUF_ALIGNMENT_DEFAULT)));
  }

  /** Puts the file in its place: 0, or -errno, and then it is as if nothing had been. */
  *finish(): Generator<void, number, void> {
    yield* this.flush();
    yield* this.sys.close(this.fd);
    if (this.error === 0) this.error = yield* this.sys.rename(this.part, this.path);
    if (this.error < 0) yield* this.sys.unlink(this.part);
    return this.error;
  }

  /** Gives the file up. */
  *drop(): Generator<void, void, void> {
    yield* this.sys.close(this.fd);
    yield* this.sys.unlink(this.part);
  }

  private *flush(): Generator<void, void, void> {
    const piece = this.buffer.subarray(0, this.held);
    this.held = 0;
    if (this.error === 0 && piece.length > 0) this.error = yield* writeAll(this.sys, this.fd, piece);
  }
}

/** A whole file in one go: 0, or -errno, and then the old one is still there. */
export function* writeFile(sys: Sys, path: string, bytes: Uint8Array): Generator<void, number, void> {
  const file = yield* NewFile.begin(sys, path);
  if (typeof file === 'number') return file;
  yield* file.write(bytes);
  return yield* file.finish();
}
