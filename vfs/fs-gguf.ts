// fs-gguf: a model file as a directory, read-only and without copying. metadata/KEY is the value as text, one line for a scalar and one line
// per element for an array; tensors/NAME/ holds type, shape, offset, size, data, which is the tensor's bytes straight from the file, f32, the
// same as numbers, and stats, what they are like. vocabulary/ and adapter/ show again what belongs to a tokenizer or a LoRA adapter. Arrays
// are turned to text and blocks to numbers while they are read, through the DMA buffer, and never held. docs/IMAGE.md draws the tree.

import {
  E,
  GGUF_TYPE,
  GGUF_VALUE_BYTES,
  ggmlTypeName,
  KIND,
  LIMITS,
  utf8Encode,
  utf8Length,
  utf8Write,
} from '../kernel/abi/index.ts';
import type { ArenaView, MetaArray, MetaValue, TensorInfo } from '../kernel/abi/index.ts';
import { DmaWindow, readScalar } from './gguf.ts';
import type { GgufImage } from './gguf.ts';
import type { DirEntry, FileSystem, FsUsage, Handle } from './inode.ts';
import { Inode, readBytes, StaticDir } from './inode.ts';
import { F32View, statisticsOf, TensorValues } from './values.ts';
import type { Decode, Statistics } from './values.ts';

/** The shortest decimal that reads back as the same f32: 1e-5 stored as f32 prints as 0.00001, not as the f64 beneath it. */
export function f32Text(x: number): string {
  for (let digits = 1; digits < 9; digits++) {
    const shorter = Number(x.toPrecision(digits));
    if (Math.fround(shorter) === x) return String(shorter);
  }
  return String(x);
}

/** A scalar as text; an f32 as the shortest decimal that reads back as it. */
export function scalarText(type: number, value: MetaValue): string {
  return type === GGUF_TYPE.f32 ? f32Text(value as number) : String(value);
}

/**
 * A name from the file as a file name: `/`, `%` and control characters as %XX, `.` and `..` too; one that is too long is cut and ends in
 * `%~` and its index. Different names stay different.
 */
export function fileNameOf(name: string, index: number): string {
  let s = '';
  for (const c of name) {
    const code = c.codePointAt(0)!;
    s +=
      c === '/' || c === '%' || code < 32 || code === 127 ? `%${code.toString(16).toUpperCase().padStart(2, '0')}` : c;
  }
  if (s === '.' || s === '..') s = s.replaceAll('.', '%2E');
  if (utf8Length(s) <= LIMITS.nameBytes) return s;
  const end = `%~${index}`;
  while (utf8Length(s) + end.length > LIMITS.nameBytes)
    s = s.slice(0, (s.charCodeAt(s.length - 1) & 0xfc00) === 0xdc00 ? -2 : -1);
  return s + end;
}

/** A file whose few bytes are made when it is asked for. */
class TextFile extends Inode {
  readonly kind = KIND.file;
  private readonly text: () => string;

  constructor(number: number, text: () => string) {
    super(number, 0o444);
    this.text = text;
  }
  override size(): number {
    return utf8Length(this.text());
  }
  override open(): Handle {
    const bytes = utf8Encode(this.text());
    return {
      read: (memory, position, at, length) => readBytes(bytes, memory, position, at, length),
      write: () => -E.ROFS,
    };
  }
}

/** A tensor's bytes where they lie in the file. */
class DataFile extends Inode {
  readonly kind = KIND.file;
  private readonly image: GgufImage;
  private readonly tensor: TensorInfo;

  constructor(number: number, image: GgufImage, tensor: TensorInfo) {
    super(number, 0o444);
    this.image = image;
    this.tensor = tensor;
  }
  override size(): number {
    return this.tensor.bytes;
  }
  override read(_memory: Uint8Array, position: number, at: number, length: number): number {
    const n = Math.min(length, this.tensor.bytes - position);
    return n <= 0 ? 0 : this.image.read(this.tensor.fileAt + position, at, n);
  }
}

/**
 * The text of an array, made piece by piece: a piece is one number with its newline, one character of a string, or the newline after a
 * string. Reading on is cheap; reading back starts over. In strings `\` and control characters are escaped as in C, so that a line is
 * an element; all other bytes are as in the file.
 */
class ArrayText implements Handle {
  private readonly array: MetaArray;
  private readonly window: DmaWindow;
  private readonly piece = new Uint8Array(32);
  private pieceAt = 0; // of the piece, in the text
  private pieceBytes = 0;
  private element = 0; // the next one to begin
  private fileAt = 0; // the next byte to take
  private stringBytes = -1; // left of the string being given out; -1 = between elements

  constructor(array: MetaArray, window: DmaWindow) {
    this.array = array;
    this.window = window;
    this.fileAt = array.fileAt;
  }

  read(memory: Uint8Array, position: number, at: number, length: number): number {
    if (position < this.pieceAt) this.rewind();
    this.window.forget();
    let done = 0;
    while (done < length) {
      const from = position + done - this.pieceAt;
      if (from >= this.pieceBytes) {
        const status = this.advance();
        if (status <= 0) return done > 0 ? done : status;
      } else memory[at + done++] = this.piece[from]!;
    }
    return done;
  }
  write(): number {
    return -E.ROFS;
  }

  /** Bytes of the whole text, or -errno. */
  length(): number {
    this.rewind();
    this.window.forget();
    for (;;) {
      const status = this.advance();
      if (status <= 0) return status < 0 ? status : this.pieceAt;
    }
  }

  private rewind(): void {
    this.pieceAt = this.pieceBytes = this.element = 0;
    this.fileAt = this.array.fileAt;
    this.stringBytes = -1;
  }

  /** Makes the next piece. 1, or 0 at the end, or -errno. */
  private advance(): number {
    this.pieceAt += this.pieceBytes;
    this.pieceBytes = 0;
    const { elementType, count } = this.array;
    if (this.stringBytes < 0 && this.element >= count) return 0;
    if (elementType !== GGUF_TYPE.string) return this.takeNumber(elementType);
    if (this.stringBytes < 0) {
      const p = this.window.hold(this.fileAt, 8);
      if (p < 0) return p;
      this.stringBytes = this.window.view.getUint32(p + 4, true) * 2 ** 32 + this.window.view.getUint32(p, true);
      this.fileAt += 8;
      this.element++;
    }
    if (this.stringBytes === 0) {
      this.stringBytes = -1;
      this.piece[0] = 0x0a;
      this.pieceBytes = 1;
      return 1;
    }
    return this.takeCharacter();
  }

  private takeNumber(type: number): number {
    const bytes = GGUF_VALUE_BYTES[type]!;
    const p = this.window.hold(this.fileAt, bytes);
    if (p < 0) return p;
    this.fileAt += bytes;
    this.element++;
    const text = scalarText(type, readScalar(this.window.view, type, p));
    this.pieceBytes = utf8Write(`${text}\n`, this.piece, 0, this.piece.length);
    return 1;
  }

  private takeCharacter(): number {
    const p = this.window.hold(this.fileAt, 1);
    if (p < 0) return p;
    this.fileAt++;
    this.stringBytes--;
    const c = this.window.u8[p]!;
    if (c >= 0x20 && c !== 0x5c && c !== 0x7f) {
      this.piece[0] = c;
      this.pieceBytes = 1;
      return 1;
    }
    const short = c === 0x0a ? 'n' : c === 0x09 ? 't' : c === 0x0d ? 'r' : c === 0x5c ? '\\' : '';
    const escape = short === '' ? `\\x${c.toString(16).padStart(2, '0')}` : `\\${short}`;
    this.pieceBytes = utf8Write(escape, this.piece, 0, this.piece.length);
    return 1;
  }
}

class ArrayFile extends Inode {
  readonly kind = KIND.file;
  private readonly array: MetaArray;
  private readonly window: () => DmaWindow;
  private bytes = -1;

  constructor(number: number, array: MetaArray, window: () => DmaWindow) {
    super(number, 0o444);
    this.array = array;
    this.window = window;
  }
  /** Found by reading the array once. */
  override size(): number {
    if (this.bytes < 0) this.bytes = new ArrayText(this.array, this.window()).length();
    return Math.max(0, this.bytes);
  }
  override open(): Handle {
    return new ArrayText(this.array, this.window());
  }
}

/** A tensor's values as f32, whatever they are stored as. */
class F32File extends Inode {
  readonly kind = KIND.file;
  private readonly view: F32View;

  constructor(number: number, values: TensorValues) {
    super(number, 0o444);
    this.view = new F32View(values);
  }
  override size(): number {
    return this.view.bytes;
  }
  override read(memory: Uint8Array, position: number, at: number, length: number): number {
    return this.view.read(memory, position, at, length);
  }
}

/** What a tensor's values are like, found when it is first read: as in procfs, the size is not known before. */
class StatsFile extends Inode {
  readonly kind = KIND.file;
  private readonly values: TensorValues;
  private readonly arena: ArenaView;

  constructor(number: number, values: TensorValues, arena: ArenaView) {
    super(number, 0o444);
    this.values = values;
    this.arena = arena;
  }
  override open(): Handle {
    let bytes: Uint8Array | null = null;
    return {
      read: (memory, position, at, length) => {
        if (bytes === null) {
          const s = statisticsOf(this.values, this.arena);
          if (typeof s === 'number') return s;
          bytes = utf8Encode(statisticsText(s));
        }
        return readBytes(bytes, memory, position, at, length);
      },
      write: () => -E.ROFS,
    };
  }
}

/** A line each: extremes as f32, sums as f64, in the shortest decimals that read back. */
function statisticsText(s: Statistics): string {
  const { min, max, histogram, ...others } = s;
  const lines = { ...others, min: f32Text(min), max: f32Text(max), histogram: histogram.join(' ') };
  return STATISTICS_KEYS.map(key => `${key} ${lines[key]}\n`).join('');
}
const STATISTICS_KEYS = [
  'count',
  'nan',
  'infinite',
  'zeros',
  'min',
  'max',
  'mean',
  'variance',
  'l2',
  'histogram',
] as const satisfies readonly (keyof Statistics)[];

/** A directory with a fixed list of names whose inodes are made when they are looked up: a model has thousands of files. */
class NamedDir extends Inode {
  readonly kind = KIND.dir;
  private readonly names: ReadonlyMap<string, number>;
  private readonly childKind: DirEntry['kind'];
  private readonly make: (index: number) => Inode;

  constructor(
    number: number,
    names: ReadonlyMap<string, number>,
    childKind: DirEntry['kind'],
    make: (index: number) => Inode,
  ) {
    super(number, 0o555);
    this.names = names;
    this.childKind = childKind;
    this.make = make;
  }
  override lookup(name: string): Inode | number {
    const index = this.names.get(name);
    return index === undefined ? -E.NOENT : this.make(index);
  }
  override list(): readonly DirEntry[] {
    return Array.from(this.names.keys(), name => ({ name, kind: this.childKind }));
  }
}

const TENSOR_FILES = ['type', 'shape', 'offset', 'size', 'data', 'f32', 'stats'] as const;
const LORA_FILES = ['rank', 'scale', 'a', 'b'] as const;
/** Inode numbers: root 1, metadata 2, tensors 3, then keys, then each tensor's directory and its files, then what is shown again. */
const FIRST_NUMBER = 4;
const NUMBERS_PER_TENSOR = 1 + TENSOR_FILES.length;
const NUMBERS_PER_PAIR = 1 + LORA_FILES.length;

const numbered = (names: readonly string[]): ReadonlyMap<string, number> => new Map(names.map((name, i) => [name, i]));

export class GgufFs implements FileSystem {
  readonly type = 'gguf';
  readonly readOnly = true;
  readonly root: StaticDir;
  private readonly image: GgufImage;
  private readonly arena: ArenaView;
  private readonly decode: Decode;
  private readonly onRelease: () => void;
  /** The next inode number behind those of keys and tensors. */
  private nextNumber: number;

  /** `image.read`, the image's DMA buffer and `decode` are used until unmounting, which calls `onRelease`. */
  constructor(image: GgufImage, arena: ArenaView, decode: Decode, onRelease: () => void) {
    this.image = image;
    this.arena = arena;
    this.decode = decode;
    this.onRelease = onRelease;
    this.nextNumber = FIRST_NUMBER + image.keys.length + image.tensors.length * NUMBERS_PER_TENSOR;
    this.root = new StaticDir(1, 0o555);
    const keys = numbered(image.keys.map(fileNameOf));
    const tensors = numbered(image.tensors.map((t, i) => fileNameOf(t.name, i)));
    this.root.children.set('metadata', new NamedDir(2, keys, KIND.file, i => this.metadata(i)));
    this.root.children.set('tensors', new NamedDir(3, tensors, KIND.dir, i => this.tensor(i)));
    this.showKeys('vocabulary', /^tokenizer\.(?:ggml\.)?/);
    this.showKeys('adapter', /^adapter\.(?:lora\.)?/);
    this.showPairs();
  }

  private metadata(index: number): Inode {
    const { image, arena } = this;
    const key = image.keys[index]!;
    const value = image.meta(key)!;
    const number = FIRST_NUMBER + index;
    const window = (): DmaWindow =>
      new DmaWindow({ path: image.path, size: image.fileBytes, read: image.read }, arena, image.dmaAt, image.dmaBytes);
    if (typeof value === 'object') return new ArrayFile(number, value, window);
    const type = image.typeOf(key)!;
    return new TextFile(number, () => `${scalarText(type, value)}\n`);
  }

  private tensor(index: number): Inode {
    const t = this.image.tensors[index]!;
    const number = FIRST_NUMBER + this.image.keys.length + index * NUMBERS_PER_TENSOR;
    const values = (): TensorValues => new TensorValues(this.image, t, this.decode, this.arena.u8);
    const make: Record<(typeof TENSOR_FILES)[number], (number: number) => Inode> = {
      type: n => new TextFile(n, () => `${ggmlTypeName(t.type)}\n`),
      shape: n => new TextFile(n, () => `${t.shape.join(' ')}\n`),
      offset: n => new TextFile(n, () => `${t.fileAt}\n`),
      size: n => new TextFile(n, () => `${t.bytes}\n`),
      data: n => new DataFile(n, this.image, t),
      f32: n => new F32File(n, values()),
      stats: n => new StatsFile(n, values(), this.arena),
    };
    return new NamedDir(number, numbered(TENSOR_FILES), KIND.file, i => make[TENSOR_FILES[i]!](number + 1 + i));
  }

  /** The keys with that prefix again, as a directory of their own, without it; none where there are no such keys. */
  private showKeys(directory: string, prefix: RegExp): void {
    const names = new Map<string, number>();
    this.image.keys.forEach((key, i) => {
      if (prefix.test(key)) names.set(fileNameOf(key.replace(prefix, ''), i), i);
    });
    if (names.size === 0) return;
    const dir = new StaticDir(this.nextNumber++, 0o555);
    for (const [name, i] of names) dir.children.set(name, this.metadata(i));
    this.root.children.set(directory, dir);
  }

  /** adapter/tensors/NAME: the tensor that a LoRA pair changes, with its rank, alpha / rank, and the two factors. */
  private showPairs(): void {
    const adapter = this.root.children.get('adapter');
    if (!(adapter instanceof StaticDir)) return;
    const { tensors } = this.image;
    const bases: { readonly name: string; readonly a: number; readonly b: number }[] = [];
    tensors.forEach(({ name }, a) => {
      if (!name.endsWith('.lora_a')) return;
      const base = name.slice(0, -'.lora_a'.length);
      const b = tensors.findIndex(t => t.name === `${base}.lora_b`);
      if (b >= 0) bases.push({ name: base, a, b });
    });
    const from = this.nextNumber + 1;
    const names = numbered(bases.map(({ name }, i) => fileNameOf(name, i)));
    const make = (i: number): Inode => this.pair(bases[i]!.a, bases[i]!.b, from + i * NUMBERS_PER_PAIR);
    adapter.children.set('tensors', new NamedDir(this.nextNumber, names, KIND.dir, make));
    this.nextNumber = from + bases.length * NUMBERS_PER_PAIR;
  }

  private pair(a: number, b: number, number: number): Inode {
    const dir = new StaticDir(number, 0o555);
    const rank = this.image.tensors[b]!.shape[0]!;
    const alpha = Number(this.image.meta('adapter.lora.alpha') ?? rank); // none: as if it were the rank
    dir.children.set('rank', new TextFile(number + 1, () => `${rank}\n`));
    dir.children.set('scale', new TextFile(number + 2, () => `${alpha / rank}\n`));
    dir.children.set('a', this.tensor(a));
    dir.children.set('b', this.tensor(b));
    return dir;
  }

  usage(): FsUsage {
    const bytes = this.image.fileBytes;
    return {
      totalBytes: bytes,
      usedBytes: bytes,
      files: this.image.keys.length + this.image.tensors.length * TENSOR_FILES.length,
    };
  }
  release(): void {
    this.onRelease();
  }
}
