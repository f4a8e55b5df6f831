// The GGUF writer: a model file laid out from keys and tensors without being held. What is known at once (header, scalars, tensor
// descriptions) becomes bytes; what lies elsewhere (arrays of another file, tensors) is a piece that is asked for its bytes when they are
// read. So a file of any size is read through any buffer, from any position. Written as llama.cpp writes: version 3, little-endian, tensors in
// the order given, each padded with zeros to the alignment, the last one too. What the reader would refuse is refused here.

import {
  GGML_BLOCK,
  GGUF_ALIGNMENT_DEFAULT,
  GGUF_MAGIC,
  GGUF_TYPE,
  GgufFields,
  ggmlTypeName,
  LIMITS,
  refuse,
  shown,
  utf8Length,
} from '../kernel/abi/index.ts';
import type { GgufScalar, MetaArray, MetaValue, Refusal } from '../kernel/abi/index.ts';
import type { GgufImage } from './gguf.ts';
import { readBytes } from './inode.ts';

/** Bytes that can be had from any position on: `read` puts up to `length` of them at memory[at]; how many, or -errno. */
export interface Piece {
  readonly bytes: number;
  read(memory: Uint8Array, position: number, at: number, length: number): number;
}

/** A metadata value: a scalar, an array of them, or an array that lies somewhere as GGUF stores it. */
export type GgufValue =
  | { readonly type: number; readonly value: GgufScalar }
  | { readonly elementType: number; readonly elements: readonly GgufScalar[] }
  | { readonly elementType: number; readonly count: number; readonly stored: Piece };

/** A tensor to be written: `data` has exactly the bytes that type and shape ask for. */
export interface GgufTensor {
  readonly name: string;
  readonly type: number; // GGML_TYPE
  readonly shape: readonly number[]; // ne[0] first
  readonly data: Piece;
}

export interface GgufContent {
  readonly keys: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly GgufTensor[];
}

function given(bytes: Uint8Array): Piece {
  return {
    bytes: bytes.length,
    read: (memory, position, at, length) => readBytes(bytes, memory, position, at, length),
  };
}

function zeros(bytes: number): Piece {
  return {
    bytes,
    read: (memory, position, at, length) => {
      const n = Math.max(0, Math.min(length, bytes - position));
      memory.fill(0, at, at + n);
      return n;
    },
  };
}

/** A stretch of a parsed file as it is there. */
export function stretch(image: GgufImage, fileAt: number, bytes: number): Piece {
  return {
    bytes,
    read: (_memory, position, at, length) => {
      const n = Math.min(length, bytes - position);
      return n <= 0 ? 0 : image.read(fileAt + position, at, n);
    },
  };
}

/** A key's value as a parsed file has it; arrays stay in that file. */
export function valueOf(image: GgufImage, key: string): GgufValue {
  const value: MetaValue = image.meta(key)!;
  if (typeof value !== 'object') return { type: image.typeOf(key)!, value };
  const { elementType, count, fileAt, bytes }: MetaArray = value;
  return { elementType, count, stored: stretch(image, fileAt, bytes) };
}

/** All that a parsed file holds: laying it out again gives the file, byte for byte when llama.cpp wrote it. */
export function contentOf(image: GgufImage): GgufContent {
  return {
    keys: new Map(image.keys.map(key => [key, valueOf(image, key)])),
    tensors: image.tensors.map(({ name, type, shape, fileAt, bytes }) => ({
      name,
      type,
      shape,
      data: stretch(image, fileAt, bytes),
    })),
  };
}

/** Pieces one after the other, as one. */
class Sequence implements Piece {
  readonly bytes: number;
  private readonly pieces: readonly Piece[];
  private readonly startAt: readonly number[];

  constructor(pieces: readonly Piece[]) {
    this.pieces = pieces.filter(piece => piece.bytes > 0);
    let at = 0;
    this.startAt = this.pieces.map(piece => (at += piece.bytes) - piece.bytes);
    this.bytes = at;
  }

  read(memory: Uint8Array, position: number, at: number, length: number): number {
    let done = 0;
    for (let i = this.find(position); i < this.pieces.length && done < length; i++) {
      const piece = this.pieces[i]!;
      for (let from = position + done - this.startAt[i]!; from < piece.bytes && done < length;) {
        const n = piece.read(memory, from, at + done, Math.min(length - done, piece.bytes - from));
        if (n <= 0) return done > 0 ? done : n;
        from += n;
        done += n;
      }
    }
    return done;
  }

  /** The piece that `position` lies in; past the last one at the end. */
  private find(position: number): number {
    let low = 0;
    let high = this.pieces.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.startAt[middle]! + this.pieces[middle]!.bytes <= position) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** The file with that content. */
export function layOutGguf({ keys, tensors }: GgufContent): Piece | Refusal {
  const alignment = alignmentOf(keys);
  const bad = checkKeys(keys) ?? checkTensors(tensors);
  if (bad !== undefined) return bad;
  if (typeof alignment !== 'number') return alignment;
  const head = [given(new GgufFields().u32(GGUF_MAGIC).u32(3).u64(tensors.length).u64(keys.size).done())];
  for (const [key, value] of keys) head.push(...keyPieces(key, value));
  const descriptions = new GgufFields();
  const data: Piece[] = [];
  let offset = 0;
  for (const { name, type, shape, data: piece } of tensors) {
    descriptions.string(name).u32(shape.length);
    for (const extent of shape) descriptions.u64(extent);
    descriptions.u32(type).u64(offset);
    const gap = padding(piece.bytes, alignment);
    data.push(piece, zeros(gap));
    offset += piece.bytes + gap;
  }
  head.push(given(descriptions.done()));
  const headBytes = head.reduce((sum, piece) => sum + piece.bytes, 0);
  return new Sequence([...head, zeros(padding(headBytes, alignment)), ...data]);
}

const padding = (bytes: number, alignment: number): number => (alignment - (bytes % alignment)) % alignment;

function keyPieces(key: string, value: GgufValue): Piece[] {
  const fields = new GgufFields().string(key);
  if ('type' in value) return [given(fields.u32(value.type).scalar(value.type, value.value).done())];
  fields.u32(GGUF_TYPE.array).u32(value.elementType);
  if ('stored' in value) return [given(fields.u64(value.count).done()), value.stored];
  fields.u64(value.elements.length);
  for (const element of value.elements) fields.scalar(value.elementType, element);
  return [given(fields.done())];
}

/** general.alignment: as in the reader, a u32 that is a power of two. */
function alignmentOf(keys: ReadonlyMap<string, GgufValue>): number | Refusal {
  const given = keys.get('general.alignment');
  if (given === undefined) return GGUF_ALIGNMENT_DEFAULT;
  const bytes = 'type' in given && given.type === GGUF_TYPE.u32 ? Number(given.value) : 0;
  if (bytes > 0 && (bytes & (bytes - 1)) === 0) return bytes;
  return refuse('INVAL', 6002, 'general.alignment is no u32 that is a power of two');
}

function checkKeys(keys: ReadonlyMap<string, GgufValue>): Refusal | undefined {
  if (keys.size > LIMITS.ggufKeysMax)
    return refuse('INVAL', 6001, `${keys.size} keys, the limit is ${LIMITS.ggufKeysMax}`);
  for (const [key, value] of keys) {
    const bytes = utf8Length(key);
    if (bytes < 1 || bytes > LIMITS.ggufKeyBytes)
      return refuse('INVAL', 6001, `a key of ${bytes} bytes, 1 to ${LIMITS.ggufKeyBytes} are allowed`);
    const type = 'type' in value ? value.type : value.elementType;
    if (type === GGUF_TYPE.array || !(type >= 0 && type <= GGUF_TYPE.f64))
      return refuse('INVAL', 6001, `key ${shown(key)}: no value can be of type ${type}`);
  }
  return undefined;
}

function checkTensors(tensors: readonly GgufTensor[]): Refusal | undefined {
  if (tensors.length > LIMITS.ggufTensorsMax)
    return refuse('INVAL', 6001, `${tensors.length} tensors, the limit is ${LIMITS.ggufTensorsMax}`);
  const names = new Set<string>();
  for (const { name, type, shape, data } of tensors) {
    const nameBytes = utf8Length(name);
    if (nameBytes < 1 || nameBytes > LIMITS.ggufTensorNameBytes || names.has(name))
      return refuse(
        'INVAL',
        6001,
        `tensor name ${shown(name)} of ${nameBytes} bytes is empty, too long or there twice`,
      );
    names.add(name);
    const typeName = ggmlTypeName(type);
    if (typeName === undefined) return refuse('INVAL', 6001, `tensor ${shown(name)}: no type ${type}`);
    const [blockValues, blockBytes] = GGML_BLOCK[typeName];
    const count = shape.reduce((product, extent) => product * extent, 1);
    if (shape.length < 1 || shape.length > LIMITS.tensorDimsMax || shape[0]! % blockValues !== 0)
      return refuse('INVAL', 6001, `tensor ${shown(name)}: ${typeName} cannot have the shape ${shape.join(' × ')}`);
    const bytes = (count / blockValues) * blockBytes;
    if (data.bytes !== bytes)
      return refuse('INVAL', 6001, `tensor ${shown(name)}: ${data.bytes} bytes of data, its shape asks for ${bytes}`);
  }
  return undefined;
}
