// safetensors, Hugging Face's container of tensors: u64 length of the header (little-endian), the header, which is JSON and ends in blanks up to a
// multiple of 8, then the data, without holes, in the order of the offsets. Adapters keep GGUF's names in it and the usual order of extents,
// the slowest first: W.lora_a is [rank, in], W.lora_b is [out, rank]; architecture and alpha are metadata.

import { GGML_TYPE, O, shown, utf8Decode, utf8Encode } from '../../../kernel/abi/index.ts';
import type { Sys } from '../../../kernel/abi/index.ts';
import { fstat } from '../files.ts';
import { A_SUFFIX, B_SUFFIX, bytesOf, widen } from './adapter-file.ts';
import type { Adapter, Pair } from './adapter-file.ts';
import { NewFile, padding, readAt } from './model-file.ts';

/** Of a header that is read; the format's own limit is 100 MB. */
const HEADER_BYTES = 1 << 20;
const HEADER_ALIGNMENT = 8;
const TYPES: Readonly<Record<string, number>> = { F32: GGML_TYPE.F32, F16: GGML_TYPE.F16, BF16: GGML_TYPE.BF16 };
const VALUE_BYTES: Readonly<Record<string, number>> = { F32: 4, F16: 2, BF16: 2 };

/** A tensor as the header describes it; offsets count from the end of the header. */
interface Described {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [from: number, to: number];
}

// ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Writes an adapter, F32, in the order of names: bytes, or -errno. */
export function* writeSafetensors(sys: Sys, path: string, adapter: Adapter): Generator<void, number, void> {
  const halves = adapter.pairs
    .flatMap(({ base, rank, inputs, outputs, a, b }) => [
      { name: base + A_SUFFIX, shape: [rank, inputs], values: a },
      { name: base + B_SUFFIX, shape: [outputs, rank], values: b },
    ])
    .sort((x, y) => (x.name < y.name ? -1 : 1));
  const { architecture, name, alpha } = adapter;
  const header: Record<string, Described | Record<string, string>> = {
    __metadata__: { format: 'arena8-lora', architecture, name, alpha: String(alpha) },
  };
  let at = 0;
  for (const { name: tensor, shape, values } of halves)
    header[tensor] = { dtype: 'F32', shape, data_offsets: [at, (at += values.byteLength)] };
  const text = utf8Encode(JSON.stringify(header));
  const blanks = padding(text.length, HEADER_ALIGNMENT);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(text.length + blanks), true);
  const file = yield* NewFile.begin(sys, path);
  if (typeof file === 'number') return file;
  yield* file.write(length);
  yield* file.write(text);
  yield* file.write(new Uint8Array(blanks).fill(0x20));
  for (const { values } of halves) yield* file.write(bytesOf(values));
  const failed = yield* file.finish();
  return failed < 0 ? failed : file.bytes;
}

// ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The adapter in a safetensors file with GGUF's names; or what is wrong, as a sentence; or -errno of opening it. */
export function* readSafetensors(sys: Sys, path: string): Generator<void, Adapter | string | number, void> {
  const fd = yield* sys.open(path, O.RDONLY, 0);
  if (fd < 0) return fd;
  const adapter = yield* read(sys, fd);
  yield* sys.close(fd);
  return adapter;
}

function* read(sys: Sys, fd: number): Generator<void, Adapter | string, void> {
  const st = yield* fstat(sys, fd);
  const length = new Uint8Array(8);
  if (typeof st === 'number' || (yield* readAt(sys, fd, 0, length)) < 0) return 'is neither GGUF nor safetensors';
  const bytes = Number(new DataView(length.buffer).getBigUint64(0, true));
  if (bytes > HEADER_BYTES || bytes > st.size - 8)
    return `is neither GGUF nor safetensors, whose header would have ${bytes} bytes`;
  const text = new Uint8Array(bytes);
  if ((yield* readAt(sys, fd, 8, text)) < 0) return 'has a header that cannot be read';
  const header = parse(utf8Decode(text));
  if (header === null) return 'has a header that is not JSON';
  const { __metadata__: metadata, ...rest } = header;
  const tensors = new Map(Object.entries(rest as Record<string, Described>));
  const wrong = check(tensors, st.size - 8 - bytes);
  if (wrong !== null) return wrong;
  const facts = (metadata ?? {}) as Readonly<Record<string, string>>;
  const alpha = Number(facts['alpha'] ?? NaN);
  if (!Number.isFinite(alpha)) return 'has no alpha in its metadata';
  const pairs: Pair[] = [];
  for (const name of tensors.keys()) {
    if (!name.endsWith(A_SUFFIX)) continue;
    const pair = yield* pairAt(sys, fd, 8 + bytes, tensors, name.slice(0, -A_SUFFIX.length));
    if (typeof pair === 'string') return pair;
    pairs.push(pair);
  }
  if (pairs.length === 0 || 2 * pairs.length !== tensors.size)
    return `has tensors that are no NAME${A_SUFFIX} and NAME${B_SUFFIX}`;
  return { architecture: facts['architecture'] ?? '', name: facts['name'] ?? '', alpha, pairs };
}

function parse(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** The package's rules: known types, extents and offsets that agree, no holes, no overlap, nothing behind the last. */
function check(tensors: ReadonlyMap<string, Described>, dataBytes: number): string | null {
  let at = 0;
  const inOrder = [...tensors].sort(([, x], [, y]) => (x.data_offsets?.[0] ?? 0) - (y.data_offsets?.[0] ?? 0));
  for (const [name, { dtype, shape, data_offsets: offsets }] of inOrder) {
    const label = `tensor ${shown(name)}`;
    if (VALUE_BYTES[dtype] === undefined) return `${label} is ${shown(String(dtype))}: read are F32, F16 and BF16`;
    if (!Array.isArray(shape) || shape.length !== 2) return `${label} has no two extents`;
    const bytes = shape[0]! * shape[1]! * VALUE_BYTES[dtype];
    if (!Array.isArray(offsets) || offsets[0] !== at || offsets[1] !== at + bytes || !Number.isSafeInteger(bytes))
      return `${label}: its offsets do not follow those before, or not its extents`;
    at += bytes;
  }
  return at === dataBytes ? null : `has ${dataBytes} bytes of data, its tensors have ${at}`;
}

function* pairAt(
  sys: Sys,
  fd: number,
  dataAt: number,
  tensors: ReadonlyMap<string, Described>,
  base: string,
): Generator<void, Pair | string, void> {
  const [first, second] = [tensors.get(base + A_SUFFIX), tensors.get(base + B_SUFFIX)];
  if (first === undefined || second === undefined) return `tensor ${shown(base + A_SUFFIX)} has no other half`;
  const [rank = 0, inputs = 0] = first.shape;
  const [outputs = 0, columns = 0] = second.shape;
  if (columns !== rank || rank < 1) return `${shown(base)}: its halves are no low-rank pair`;
  const halves: Float32Array[] = [];
  for (const { dtype, data_offsets: offsets } of [first, second]) {
    const bytes = new Uint8Array(offsets[1] - offsets[0]);
    if ((yield* readAt(sys, fd, dataAt + offsets[0], bytes)) < 0) return `${shown(base)} cannot be read`;
    halves.push(widen(TYPES[dtype]!, bytes)!);
  }
  return { base, rank, inputs, outputs, a: halves[0]!, b: halves[1]! };
}
