// The GGUF container (versions 2 and 3): the format of llama.cpp's models, read as the kernel reads an executable. No count, length or
// offset in the file is believed: each is compared with the file's size before it is used, nothing is allocated from one, arrays are
// stepped over and not read. All bytes come through the DMA buffer in the arena. What is wrong is said in one line that names the key or
// tensor and the number. docs/IMAGE.md has the table of what is refused and what is accepted.

import {
  E,
  GGML_BLOCK,
  GGUF_ALIGNMENT_DEFAULT,
  GGUF_MAGIC,
  GGUF_TYPE,
  GGUF_VALUE_BYTES,
  ggmlTypeName,
  LIMITS,
  refuse,
  shown,
  utf8Decode,
  utf8Step,
} from '../kernel/abi/index.ts';
import type {
  ArenaView,
  Dma,
  ErrnoName,
  MetaArray,
  MetaValue,
  ModelImage,
  Refusal,
  SpecCode,
  TensorInfo,
} from '../kernel/abi/index.ts';
import { checkPrelink } from './prelink.ts';

/** Offsets and sizes are added up to here: every sum that a message prints is exact. */
const SUM_MAX = 2 ** 52;
// The least that an entry can take: an 8-byte length, one character, a type, one byte; and likewise for a tensor with one dimension.
const KEY_BYTES_MIN = 8 + 1 + 4 + 1;
const TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8;

export interface GgufSource {
  readonly path: string;
  readonly size: number;
  readonly read: Dma;
}

/** A checked GGUF file. */
export type GgufImage = ModelImage;

/** A window on a file through the DMA buffer: bytes of the file, in the arena, for as long as nobody else uses the buffer. */
export class DmaWindow {
  private from = 0;
  private to = 0;
  private readonly source: GgufSource;
  private readonly arena: ArenaView;
  private readonly at: number;
  private readonly capacity: number;

  constructor(source: GgufSource, arena: ArenaView, dmaAt: number, dmaBytes: number) {
    this.source = source;
    this.arena = arena;
    this.at = dmaAt;
    this.capacity = dmaBytes;
  }

  /** Where in the arena the `n` bytes at `fileAt` are (n ≤ capacity), or -errno when the device fails or the file has changed and ends before. */
  hold(fileAt: number, n: number): number {
    if (fileAt < this.from || fileAt + n > this.to) {
      if (fileAt + n > this.source.size) return -E.IO;
      const wanted = Math.min(this.capacity, this.source.size - fileAt);
      let got = 0;
      while (got < n) {
        const step = this.source.read(fileAt + got, this.at + got, wanted - got);
        if (step <= 0) {
          this.forget();
          return step < 0 ? step : -E.IO;
        }
        got += step;
      }
      this.from = fileAt;
      this.to = fileAt + got;
    }
    return this.at + (fileAt - this.from);
  }
  /** How many bytes from `fileAt` on one hold() can give. */
  reach(fileAt: number): number {
    return Math.min(this.capacity, this.source.size - fileAt);
  }
  /** Someone else has used the buffer. */
  forget(): void {
    this.from = this.to = 0;
  }
  get u8(): Uint8Array {
    return this.arena.u8;
  }
  get view(): DataView {
    return this.arena.view;
  }
}

/**
 * Reads values one after the other. The first thing that goes wrong is kept in `refusal`; from then on every read answers 0 or '' and
 * moves nothing, so callers look at `refusal` once per entry and not after each field.
 */
class Reader {
  at = 0;
  refusal: Refusal | null = null;
  /** What is being read, for messages: `key general.name`. */
  subject = 'the header';
  readonly size: number;
  private readonly window: DmaWindow;

  constructor(source: GgufSource, arena: ArenaView, dmaAt: number, dmaBytes: number) {
    this.size = source.size;
    this.window = new DmaWindow(source, arena, dmaAt, dmaBytes);
  }

  fail(message: string, code: SpecCode = 6001, errno: ErrnoName = 'NOEXEC'): void {
    this.refusal ??= refuse(errno, code, message);
  }

  /** Arena offset of the next `n` bytes (few), which are then behind; -1 after a refusal. */
  private take(n: number): number {
    if (this.refusal !== null) return -1;
    if (n > this.size - this.at) {
      this.fail(`Buffer underflow: ${this.subject} needs ${n} bytes at ${this.at}, the file ends at ${this.size}`);
      return -1;
    }
    const p = this.window.hold(this.at, n);
    if (p < 0) {
      this.fail(`${this.subject}: reading ${n} bytes at ${this.at} failed`, 6001, 'IO');
      return -1;
    }
    this.at += n;
    return p;
  }

  u8(): number {
    const p = this.take(1);
    return p < 0 ? 0 : this.window.u8[p]!;
  }
  u32(): number {
    const p = this.take(4);
    return p < 0 ? 0 : this.window.view.getUint32(p, true);
  }
  /** A count, length or offset: u64, at most 2^53 − 1. */
  u64(what: string): number {
    const p = this.take(8);
    if (p < 0) return 0;
    const high = this.window.view.getUint32(p + 4, true);
    const value = high * 2 ** 32 + this.window.view.getUint32(p, true);
    if (high < 0x200000) return value;
    this.fail(`${this.subject}: ${what} is ${this.window.view.getBigUint64(p, true)}, above 2^53 - 1`);
    return 0;
  }

  /** A length-prefixed string of at most `limit` bytes as text. */
  string(what: string, limit: number): string {
    const bytes = this.u64(`${what} length`);
    const start = this.at;
    if (!this.fits(what, bytes)) return '';
    if (bytes > limit) {
      this.fail(`${this.subject}: ${what} of ${bytes} bytes at ${start}, the limit is ${limit}`);
      return '';
    }
    let text = '';
    for (let left = bytes; left > 0 && this.refusal === null;) {
      const n = Math.min(left, this.window.reach(this.at));
      const p = this.take(n);
      if (p < 0) break;
      const good = this.wellFormed(p, n);
      // A character cut by the end of the buffer is read again with what follows it; anything else is not UTF-8.
      if (good < n && (n === left || utf8Step(this.window.u8, p + good, p + n) < 0)) {
        this.fail(`Invalid UTF-8 in string: ${this.subject}, ${what}, byte ${bytes - left + good}`);
        break;
      }
      text += utf8Decode(this.window.u8, p, p + good);
      this.at -= n - good;
      left -= good;
    }
    return text;
  }

  /** Bytes of whole, well-formed characters at the beginning of n bytes. */
  private wellFormed(p: number, n: number): number {
    const { u8 } = this.window;
    let i = p;
    while (i < p + n) {
      if (u8[i]! < 0x80) {
        i++;
        continue;
      }
      const step = utf8Step(u8, i, p + n);
      if (step <= 0) break;
      i += step;
    }
    return i - p;
  }

  private fits(what: string, bytes: number): boolean {
    if (this.refusal !== null) return false;
    if (bytes <= this.size - this.at) return true;
    this.fail(
      `Buffer underflow: ${this.subject}: ${what} of ${bytes} bytes at ${this.at}, the file ends at ${this.size}`,
    );
    return false;
  }

  /** A scalar of a fixed size. 64-bit integers become numbers where that is exact, else bigint. */
  scalar(type: number): number | bigint | boolean {
    const p = this.take(GGUF_VALUE_BYTES[type]!);
    return p < 0 ? 0 : this.decode(type, p);
  }

  private decode(type: number, p: number): number | bigint | boolean {
    if (type !== GGUF_TYPE.bool) return readScalar(this.window.view, type, p);
    const value = this.window.u8[p]!;
    if (value > 1) this.fail(`${this.subject}: bool is ${value} at ${this.at - 1}, want 0 or 1`);
    return value === 1;
  }

  /** Steps over `count` bools, checking each. */
  private bools(count: number): void {
    for (let left = count; left > 0;) {
      const n = Math.min(left, this.window.reach(this.at));
      const p = this.take(n);
      if (p < 0) return;
      for (let i = p; i < p + n; i++) {
        if (this.window.u8[i]! <= 1) continue;
        this.fail(`${this.subject}: bool is ${this.window.u8[i]} at ${this.at - n + i - p}, want 0 or 1`);
        return;
      }
      left -= n;
    }
  }

  /** Steps over an array, checking that all of it is there. */
  array(): MetaArray {
    const elementType = this.u32();
    const count = this.u64('count');
    const fileAt = this.at;
    if (elementType === GGUF_TYPE.array) this.fail(`Unsupported metadata type: ${this.subject} is an array of arrays`);
    else if (elementType > GGUF_TYPE.f64)
      this.fail(`Unknown GGUF type: ${this.subject} is an array of type ${elementType}, known are 0 to 12`);
    const bytesMin = elementType === GGUF_TYPE.string ? 8 : (GGUF_VALUE_BYTES[elementType] ?? 1);
    if (this.refusal === null && count > (this.size - this.at) / bytesMin)
      this.fail(
        `Buffer underflow: ${this.subject}: array of ${count} elements at ${fileAt}, the file ends at ${this.size}`,
      );
    if (this.refusal !== null) return { elementType, count: 0, fileAt, bytes: 0 };
    if (elementType === GGUF_TYPE.string) {
      for (let i = 0; i < count; i++) {
        const bytes = this.u64('string length');
        if (bytes > this.size - this.at) this.fits(`element ${i}`, bytes);
        if (this.refusal !== null) break;
        this.at += bytes;
      }
    } else if (elementType === GGUF_TYPE.bool) {
      this.bools(count);
    } else this.at += count * bytesMin;
    return { elementType, count, fileAt, bytes: this.at - fileAt };
  }
}

/** The scalar of GGUF_TYPE `type` at arena offset `p` (bools are one byte, not 0 = true). 64-bit integers become numbers where that is exact. */
export function readScalar(view: DataView, type: number, p: number): number | bigint | boolean {
  switch (type) {
    case GGUF_TYPE.u8:
      return view.getUint8(p);
    case GGUF_TYPE.i8:
      return view.getInt8(p);
    case GGUF_TYPE.u16:
      return view.getUint16(p, true);
    case GGUF_TYPE.i16:
      return view.getInt16(p, true);
    case GGUF_TYPE.u32:
      return view.getUint32(p, true);
    case GGUF_TYPE.i32:
      return view.getInt32(p, true);
    case GGUF_TYPE.f32:
      return view.getFloat32(p, true);
    case GGUF_TYPE.bool:
      return view.getUint8(p) !== 0;
    case GGUF_TYPE.f64:
      return view.getFloat64(p, true);
    default: {
      const value = type === GGUF_TYPE.u64 ? view.getBigUint64(p, true) : view.getBigInt64(p, true);
      const number = Number(value);
      return Number.isSafeInteger(number) ? number : value;
    }
  }
}

class Image implements GgufImage {
  readonly path: string;
  readonly fileBytes: number;
  readonly version: number;
  readonly keys: readonly string[];
  readonly tensors: readonly TensorInfo[];
  readonly read: Dma;
  readonly dmaAt: number;
  readonly dmaBytes: number;
  private readonly values: ReadonlyMap<string, TypedValue>;
  private readonly byName: ReadonlyMap<string, TensorInfo>;

  constructor(
    source: GgufSource,
    dma: { at: number; bytes: number },
    version: number,
    values: ReadonlyMap<string, TypedValue>,
    tensors: readonly TensorInfo[],
  ) {
    this.path = source.path;
    this.fileBytes = source.size;
    this.read = source.read;
    this.dmaAt = dma.at;
    this.dmaBytes = dma.bytes;
    this.version = version;
    this.values = values;
    this.keys = [...values.keys()];
    this.tensors = tensors;
    this.byName = new Map(tensors.map(t => [t.name, t]));
  }
  /** Empty when the file does not say: such a file can be looked at, and no engine takes it. */
  get architecture(): string {
    const value = this.meta('general.architecture');
    return typeof value === 'string' ? value : '';
  }
  meta(key: string): MetaValue | undefined {
    return this.values.get(key)?.value;
  }
  typeOf(key: string): number | undefined {
    return this.values.get(key)?.type;
  }
  tensor(name: string): TensorInfo | undefined {
    return this.byName.get(name);
  }
}

interface TypedValue {
  readonly type: number;
  readonly value: MetaValue;
}

/** Parses and checks a file. `dmaBytes` ≥ 64 of arena at `dmaAt` are used while parsing. Codes: 1002 magic, 1004 version, 6001 everything inside, 6002 a key of the wrong type. */
export function parseGguf(source: GgufSource, arena: ArenaView, dmaAt: number, dmaBytes: number): GgufImage | Refusal {
  const r = new Reader(source, arena, dmaAt, dmaBytes);
  const magic = r.u32();
  if (r.refusal === null && magic !== GGUF_MAGIC)
    r.fail(`Invalid GGUF magic number: ${hexOf(magic)}, want 47475546`, 1002);
  const version = r.u32();
  if (r.refusal === null && version !== 2 && version !== 3) {
    const why = version === 0x02000000 || version === 0x03000000 ? 'a big-endian file' : 'read are 2 and 3';
    r.fail(`Unsupported GGUF version: ${version}, ${why}`, 1004);
  }
  const tensorCount = r.u64('tensor count');
  const keyCount = r.u64('key count');
  checkCount(r, 'keys', keyCount, LIMITS.ggufKeysMax, KEY_BYTES_MIN);
  checkCount(r, 'tensors', tensorCount, LIMITS.ggufTensorsMax, TENSOR_BYTES_MIN);
  if (r.refusal !== null) return r.refusal;

  const values = new Map<string, TypedValue>();
  for (let i = 0; i < keyCount; i++) {
    readKey(r, i, values);
    if (r.refusal !== null) return r.refusal;
  }
  const alignment = alignmentOf(r, values);
  const described: TensorInfo[] = [];
  const names = new Set<string>();
  let next = 0;
  for (let i = 0; i < tensorCount; i++) {
    const tensor = readTensor(r, i, alignment, next, names);
    if (r.refusal !== null) return r.refusal;
    described.push(tensor);
    next = alignUp(next + tensor.bytes, alignment);
  }
  if (r.refusal !== null) return r.refusal;
  const dataAt = alignUp(r.at, alignment);
  const tensors = described.map(t => ({ ...t, fileAt: dataAt + t.fileAt }));
  const last = tensors.find(t => t.fileAt + t.bytes > source.size);
  if (last !== undefined) {
    const over = last.fileAt + last.bytes - source.size;
    return refuse('NOEXEC', 6001, `Truncated tensor data: tensor ${shown(last.name)} ends ${over} bytes past the file`);
  }
  return (
    checkPrelink(key => values.get(key)?.value, tensors) ??
    new Image(source, { at: dmaAt, bytes: dmaBytes }, version, values, tensors)
  );
}

function alignUp(n: number, alignment: number): number {
  return Math.ceil(n / alignment) * alignment;
}

function hexOf(magic: number): string {
  let s = '';
  for (let i = 0; i < 32; i += 8) s += ((magic >>> i) & 255).toString(16).padStart(2, '0');
  return s;
}

function checkCount(r: Reader, what: string, count: number, limit: number, bytesMin: number): void {
  const left = r.size - r.at;
  if (count * bytesMin > left)
    r.fail(`Buffer underflow: ${count} ${what} cannot be in the ${left} bytes after the header`);
  else if (count > limit) r.fail(`${count} ${what}, the limit is ${limit}`);
}

function readKey(r: Reader, index: number, values: Map<string, TypedValue>): void {
  r.subject = `key ${index}`;
  const key = r.string('name', LIMITS.ggufKeyBytes);
  if (r.refusal !== null) return;
  if (key === '') return r.fail(`key ${index} has an empty name`);
  r.subject = `key ${shown(key)}`;
  if (values.has(key))
    return r.fail(`Duplicate key ${shown(key)}: keys ${[...values.keys()].indexOf(key)} and ${index}`);
  const type = r.u32();
  let value: MetaValue = 0;
  if (type === GGUF_TYPE.string) value = r.string('value', LIMITS.ggufStringBytes);
  else if (type === GGUF_TYPE.array) value = r.array();
  else if (type <= GGUF_TYPE.f64) value = r.scalar(type);
  else r.fail(`Unknown GGUF type: key ${shown(key)} has type ${type}, known are 0 to 12`);
  values.set(key, { type, value });
}

/** general.alignment: a u32, a power of two, as llama.cpp asks. */
function alignmentOf(r: Reader, values: ReadonlyMap<string, TypedValue>): number {
  const found = values.get('general.alignment');
  if (found === undefined) return GGUF_ALIGNMENT_DEFAULT;
  const { type, value } = found;
  if (type !== GGUF_TYPE.u32 || typeof value !== 'number') {
    r.fail(`Metadata key not found or wrong type: general.alignment has type ${type}, want 4 (u32)`, 6002);
    return GGUF_ALIGNMENT_DEFAULT;
  }
  if (value === 0 || (value & (value - 1)) !== 0) r.fail(`key general.alignment is ${value}, want a power of two`);
  return value;
}

/** A tensor's description; its fileAt still counts from the start of the data. As in llama.cpp tensors lie one behind the other: this one at `next`. */
function readTensor(r: Reader, index: number, alignment: number, next: number, names: Set<string>): TensorInfo {
  r.subject = `tensor ${index}`;
  const name = r.string('name', LIMITS.ggufTensorNameBytes);
  const label = `tensor ${shown(name)}`;
  if (r.refusal === null) {
    if (name === '') r.fail(`tensor ${index} has an empty name`);
    else if (names.has(name)) r.fail(`Duplicate ${label}: tensors ${[...names].indexOf(name)} and ${index}`);
    r.subject = label;
    names.add(name);
  }
  const shape = readShape(r, label);
  const type = r.u32();
  const offset = r.u64('offset');
  const typeName = ggmlTypeName(type);
  if (r.refusal === null && typeName === undefined) r.fail(`Unknown GGUF type: ${label} has tensor type ${type}`);
  const [blockValues, blockBytes] = GGML_BLOCK[typeName ?? 'F32'];
  const bytes = (shape.reduce((product, extent) => product * extent, 1) / blockValues) * blockBytes;
  if (r.refusal !== null) return { name, type, shape, fileAt: offset, bytes };
  if (shape[0]! % blockValues !== 0)
    r.fail(`${label}: rows of ${shape[0]} values are not a multiple of ${typeName}'s block of ${blockValues}`);
  else if (bytes > SUM_MAX - next - alignment)
    r.fail(`${label}: size overflow, ${shape.join(' × ')} values of ${typeName} behind ${next} bytes`);
  else if (offset % alignment !== 0)
    r.fail(`${label}: offset ${offset} is not a multiple of the alignment ${alignment}`);
  else if (offset !== next)
    r.fail(`${label}: offset ${offset}, want ${next}: tensors follow each other without gap or overlap`);
  return { name, type, shape, fileAt: offset, bytes };
}

/** The extents of a tensor, at most 2^53 − 1 values. */
function readShape(r: Reader, label: string): readonly number[] {
  const dims = r.u32();
  if (r.refusal === null && (dims < 1 || dims > LIMITS.tensorDimsMax))
    r.fail(`${label} has ${dims} dimensions, allowed 1 to ${LIMITS.tensorDimsMax}`);
  const shape: number[] = [];
  let count = 1;
  for (let d = 0; d < dims && r.refusal === null; d++) {
    const extent = r.u64(`dimension ${d}`);
    if (r.refusal === null && extent === 0) r.fail(`${label}: dimension ${d} is 0`);
    shape.push(extent);
    count *= extent;
    if (count > Number.MAX_SAFE_INTEGER) r.fail(`${label}: product overflow, ${shape.join(' × ')} values`);
  }
  return shape;
}
