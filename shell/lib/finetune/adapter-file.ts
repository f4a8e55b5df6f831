// LoRA adapters as files. Written as llama.cpp's convert_lora_to_gguf.py names things: general.type adapter, adapter.type lora, the base's
// architecture, alpha, and for each matrix W of the base two F32 tensors W.lora_a [in, rank] and W.lora_b [rank, out], so that the matrix
// becomes W + scale · alpha / rank · B · A. Read are F32, F16 and BF16, as others write them.

import { E, GGML_TYPE, O, ggmlTypeName, shown } from '../../../kernel/abi/index.ts';
import type { Sys, TrainTensor } from '../../../kernel/abi/index.ts';
import {
  NewFile,
  f32Value,
  keysOf,
  numberOf,
  readAt,
  readModelFile,
  textOf,
  textValue,
  u32Value,
} from './model-file.ts';
import type { FileTensor, ModelFile, NewValue, TensorShape } from './model-file.ts';

/** A low-rank pair, row by row: a[rank][in], b[out][rank]. */
export interface Pair {
  readonly base: string; // the matrix it changes
  readonly rank: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly a: Float32Array;
  readonly b: Float32Array;
}

export interface Adapter {
  readonly architecture: string;
  readonly name: string; // general.name, or ''
  readonly alpha: number;
  readonly pairs: readonly Pair[];
}

export const A_SUFFIX = '.lora_a';
export const B_SUFFIX = '.lora_b';

// ── Numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The f32 values of little-endian bytes, wherever these lie. */
export const floatsOf = (bytes: Uint8Array): Float32Array => new Float32Array(bytes.slice().buffer);
/** The little-endian bytes of f32 values. */
export const bytesOf = (values: Float32Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** An IEEE half as a number: subnormals are multiples of 2^-24. */
export function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** Values of F32, F16 or BF16 as f32; null of another type. */
export function widen(type: number, bytes: Uint8Array): Float32Array | null {
  const name = ggmlTypeName(type);
  if (name === 'F32') return floatsOf(bytes);
  if (name !== 'F16' && name !== 'BF16') return null;
  const bits = new Uint16Array(bytes.slice().buffer);
  if (name === 'F16') return Float32Array.from(bits, halfValue);
  return new Float32Array(Uint32Array.from(bits, b => b << 16).buffer);
}

// ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The adapter in a GGUF file; or what is wrong, as a sentence; or -errno of opening it. */
export function* readAdapter(sys: Sys, path: string): Generator<void, Adapter | string | number, void> {
  const fd = yield* sys.open(path, O.RDONLY, 0);
  if (fd < 0) return fd;
  const file = yield* readModelFile(sys, fd);
  const adapter = typeof file === 'string' ? file : yield* adapterOf(sys, file);
  yield* sys.close(fd);
  return adapter;
}

/** Whether a file says that it is an adapter. */
export const isAdapter = (file: ModelFile): boolean => textOf(file, 'general.type') === 'adapter';

function* adapterOf(sys: Sys, file: ModelFile): Generator<void, Adapter | string, void> {
  if (!isAdapter(file)) return 'is no adapter: general.type is not adapter';
  const type = textOf(file, 'adapter.type');
  if (type !== 'lora') return `is an adapter of type ${shown(type)}: known is lora`;
  const alpha = numberOf(file, 'adapter.lora.alpha');
  if (alpha === null) return 'has no key adapter.lora.alpha';
  const stray = file.tensors.find(t => !t.name.endsWith(A_SUFFIX) && !t.name.endsWith(B_SUFFIX));
  if (stray !== undefined) return `tensor ${shown(stray.name)} is no half of a low-rank pair`;
  const pairs: Pair[] = [];
  for (const a of file.tensors.filter(t => t.name.endsWith(A_SUFFIX))) {
    const pair = yield* pairOf(sys, file, a);
    if (typeof pair === 'string') return pair;
    pairs.push(pair);
  }
  if (2 * pairs.length !== file.tensors.length) return 'has halves of low-rank pairs without the other half';
  if (pairs.length === 0) return 'has no low-rank pairs';
  return { architecture: textOf(file, 'general.architecture'), name: textOf(file, 'general.name'), alpha, pairs };
}

function* pairOf(sys: Sys, file: ModelFile, first: FileTensor): Generator<void, Pair | string, void> {
  const base = first.name.slice(0, -A_SUFFIX.length);
  const second = file.byName.get(base + B_SUFFIX);
  if (second === undefined) return `tensor ${shown(first.name)} has no ${B_SUFFIX} beside it`;
  const [inputs = 0, rank = 0] = first.shape;
  const [columns = 0, outputs = 0] = second.shape;
  if (first.shape.length !== 2 || second.shape.length !== 2 || columns !== rank || rank < 1)
    return `${shown(base)}: ${first.shape.join(' × ')} and ${second.shape.join(' × ')} are no low-rank pair`;
  const a = yield* valuesOf(sys, first);
  const b = yield* valuesOf(sys, second);
  if (typeof a === 'string' || typeof b === 'string') return typeof a === 'string' ? a : String(b);
  return { base, rank, inputs, outputs, a, b };
}

/** A tensor's values; or why they cannot be had. */
export function* valuesOf(sys: Sys, tensor: FileTensor): Generator<void, Float32Array | string, void> {
  const bytes = new Uint8Array(tensor.data.bytes);
  const failed = yield* readAt(sys, tensor.data.fd, tensor.data.at, bytes);
  if (failed < 0) return `tensor ${shown(tensor.name)} cannot be read`;
  const values = widen(tensor.type, bytes);
  return values ?? `tensor ${shown(tensor.name)} is ${ggmlTypeName(tensor.type)}: read are F32, F16 and BF16`;
}

// ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Keys of an adapter file. */
export const adapterKeys = (architecture: string, name: string, alpha: number): ReadonlyMap<string, NewValue> =>
  new Map([
    ['general.architecture', textValue(architecture)],
    ['general.type', textValue('adapter')],
    ['general.name', textValue(name)],
    ['general.file_type', u32Value(0)], // F32
    ['adapter.type', textValue('lora')],
    ['adapter.lora.alpha', f32Value(alpha)],
  ]);

/** Both halves of the pairs as tensors of a file. */
export const shapesOf = (pairs: readonly Pair[]): TensorShape[] =>
  pairs.flatMap(({ base, inputs, outputs, rank }) => [
    { name: base + A_SUFFIX, type: GGML_TYPE.F32, shape: [inputs, rank] },
    { name: base + B_SUFFIX, type: GGML_TYPE.F32, shape: [rank, outputs] },
  ]);

/** Writes an adapter to `path`: its bytes, or -errno. */
export function* writeAdapter(sys: Sys, path: string, adapter: Adapter): Generator<void, number, void> {
  const file = yield* NewFile.begin(sys, path);
  if (typeof file === 'number') return file;
  yield* file.head(adapterKeys(adapter.architecture, adapter.name, adapter.alpha), shapesOf(adapter.pairs));
  for (const { a, b } of adapter.pairs)
    for (const values of [a, b]) {
      yield* file.write(bytesOf(values));
      yield* file.align();
    }
  const failed = yield* file.finish();
  return failed < 0 ? failed : file.bytes;
}

/** Reads f32 values of a vector from a byte on into a buffer: bytes read, or -errno. */
export type ReadValues = (from: number, buffer: Uint8Array) => Generator<void, number, void>;

/** Tensors of a vector of parameters, as a file's. */
const trainedShape = ({ name, columns, rows }: TrainTensor): TensorShape => ({
  name,
  type: GGML_TYPE.F32,
  shape: rows === 1 && !name.endsWith(A_SUFFIX) && !name.endsWith(B_SUFFIX) ? [columns] : [columns, rows],
});

/** Writes a vector of pairs as an adapter: bytes, or -errno. */
export function* writeTrainedAdapter(
  sys: Sys,
  path: string,
  keys: ReadonlyMap<string, NewValue>,
  tensors: readonly TrainTensor[],
  values: ReadValues,
): Generator<void, number, void> {
  const file = yield* NewFile.begin(sys, path);
  if (typeof file === 'number') return file;
  yield* file.head(keys, tensors.map(trainedShape));
  for (const tensor of tensors) yield* writeValues(file, tensor, values);
  const failed = yield* file.finish();
  return failed < 0 ? failed : file.bytes;
}

/** Writes a whole model: the base file with the trained tensors in place of its own. Bytes, or -errno. */
export function* writeTrainedModel(
  sys: Sys,
  path: string,
  base: ModelFile,
  name: string,
  tensors: readonly TrainTensor[],
  values: ReadValues,
): Generator<void, number, void> {
  const trained = new Map(tensors.map(t => [t.name, t]));
  const file = yield* NewFile.begin(sys, path);
  if (typeof file === 'number') return file;
  yield* file.head(
    keysOf(base, [['general.name', textValue(name)]]),
    base.tensors.map(t => (trained.has(t.name) ? { ...t, type: GGML_TYPE.F32 } : t)),
  );
  for (const t of base.tensors) {
    const tensor = trained.get(t.name);
    if (tensor !== undefined) yield* writeValues(file, tensor, values);
    else {
      yield* file.copy(t.data);
      yield* file.align();
    }
  }
  const failed = yield* file.finish();
  return failed < 0 ? failed : file.bytes;
}

const PIECE_BYTES = 8192;

function* writeValues(file: NewFile, tensor: TrainTensor, values: ReadValues): Generator<void, void, void> {
  const end = 4 * (tensor.from + tensor.columns * tensor.rows);
  const buffer = new Uint8Array(PIECE_BYTES);
  for (let at = 4 * tensor.from; at < end && file.error === 0;) {
    const n = yield* values(at, buffer.subarray(0, Math.min(PIECE_BYTES, end - at)));
    if (n <= 0) file.error = n < 0 ? n : -E.IO;
    else yield* file.write(buffer.subarray(0, n));
    at += n;
  }
  yield* file.align();
}
