// A model as another model's file: its weights rounded to another type while they are read, everything else as it is. Nothing is stored and
// nothing is loaded: who reads the descriptor from beginning to end and writes it down has quantised the model, with a buffer of 16 KiB. What
// comes out is llama.cpp's `llama-quantize --pure` to the byte: which tensors are rounded, their order, the metadata. Blocks are the
// compute device's work (its encode and dequantize, metered like all its kernels); each transfer is booked; the call itself costs a call.

import {
  CONVERT,
  type ConvertReport,
  E,
  GGML_BLOCK,
  GGML_TYPE,
  GGUF_TYPE,
  ggmlTypeName,
  isRefusal,
  plainType,
  refuse,
  shown,
  type Compute,
  type GgmlTypeName,
  type RecordValue,
  type Refusal,
  type TensorInfo,
} from './abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import type { GgufImage } from '../vfs/gguf.ts';
import { layOutGguf, stretch, valueOf, type GgufTensor, type GgufValue, type Piece } from '../vfs/gguf-writer.ts';
import type { Handle } from '../vfs/inode.ts';
import { prelinkOf } from '../vfs/prelink.ts';
import { PIECE, PIECE_VALUES, TensorValues, type Decode } from '../vfs/values.ts';
import type { From } from '../vfs/vfs.ts';
import { comparison } from './compare.ts';
import { deviceDecode, openImage, type ImageContext, type OpenImage } from './image.ts';
import { openView } from './view.ts';

/** What a model can be rounded to, with llama.cpp's number of such a file (general.file_type). */
const FILE_TYPE: Partial<Record<GgmlTypeName, number>> = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q4_1: 3,
  Q8_0: 7,
  Q5_0: 8,
  Q5_1: 9,
  BF16: 32,
};
/** Of the block formats: general.quantization_version. */
const QUANTIZATION_VERSION = 2;
/** Weights of two dimensions that are small, or not multiplied with: llama.cpp leaves them as they are. */
const LEFT_ALONE =
  /_norm\.weight|ffn_gate_inp\.weight|altup|laurel|per_layer_model_proj|^position_embd\.weight$|^token_types\.weight$|ssm_conv1d\.weight|shortconv\.conv\.weight|time_mix_(?:first|w[012]|[av][012]|g[12]|decay_w[12]|lerp_fused)\.weight|attn_rel_b\.weight/;

type Report = RecordValue<typeof ConvertReport.fields>;

/** A tensor rounded to another type. Why a read failed is in `why`. */
class Encoded implements Piece {
  readonly bytes: number;
  why: Refusal | null = null;
  private readonly pieceBytes: number;

  constructor(
    private readonly values: TensorValues,
    private readonly type: GgmlTypeName,
    private readonly encode: Compute['encode'],
  ) {
    const [blockValues, blockBytes] = GGML_BLOCK[type];
    this.bytes = (values.count / blockValues) * blockBytes;
    this.pieceBytes = (PIECE_VALUES / blockValues) * blockBytes;
  }

  read(memory: Uint8Array, position: number, at: number, length: number): number {
    const index = Math.floor(position / this.pieceBytes);
    const spareAt = this.values.image.dmaAt + PIECE.spareAt;
    const bytes = this.make(index * PIECE_VALUES, spareAt);
    if (bytes < 0) return bytes;
    const from = position - index * this.pieceBytes;
    const n = Math.min(length, bytes - from);
    memory.copyWithin(at, spareAt + from, spareAt + from + n);
    return n;
  }

  /** The piece from value `first` on, rounded, at `toAt`: its bytes, or -errno. */
  private make(first: number, toAt: number): number {
    const { values, type } = this;
    const valuesAt = values.image.dmaAt + PIECE.valuesAt;
    const n = values.load(first, valuesAt);
    if (n < 0) return n;
    const bad = this.encode(GGML_TYPE[type], valuesAt, n, toAt);
    if (bad === 0) return Math.min(this.pieceBytes, this.bytes - (first / PIECE_VALUES) * this.pieceBytes);
    const { tensor, image } = values;
    const where = `${image.path}: tensor ${shown(tensor.name)}: values ${first} to ${first + n - 1}`;
    this.why = refuse('RANGE', 6001, `${where} are not all finite in ${type}`);
    return -E.RANGE;
  }
}

export class Converter {
  constructor(
    private readonly k: ImageContext,
    private readonly compute: Compute,
  ) {}

  /** The model at `path` with weights of ggml type `type`, as a file that can be read from any position. */
  convert(path: string, type: number, flags: number, from: From): { file: OpenFile; report: Report } | Refusal {
    const name = ggmlTypeName(type);
    if (name === undefined || FILE_TYPE[name] === undefined)
      return refuse('INVAL', 7001, `cannot write type ${name ?? type}: ${Object.keys(FILE_TYPE).join(', ')}`);
    const opened = openImage(this.k, path, from);
    if (isRefusal(opened)) return opened;
    const { image } = opened;
    const made = this.view(opened, name, (flags & CONVERT.requantize) !== 0);
    if (!isRefusal(made)) return made;
    opened.file.close();
    return { ...made, message: made.message.includes(image.path) ? made.message : `${image.path}: ${made.message}` };
  }

  /** How the tensors and metadata of two models differ, as text: see DIFF_COLUMNS. */
  compare(left: string, right: string, from: From): OpenFile | Refusal {
    const a = openImage(this.k, left, from);
    if (isRefusal(a)) return a;
    const b = openImage(this.k, right, from);
    if (isRefusal(b)) {
      a.file.close();
      return b;
    }
    const release = (): void => {
      a.file.close();
      b.file.close();
    };
    const why = this.undecodable(a.image, a.image.tensors) ?? this.undecodable(b.image, b.image.tensors);
    const handle = comparison(a.image, b.image, this.decode, this.k.arena);
    const file = why ?? openView(this.k.vfs, 0, { ...handle, release }, 'diff');
    if (isRefusal(file)) release();
    return file;
  }

  private get decode(): Decode {
    return deviceDecode(this.compute, this.k.costs);
  }

  /** The refusal of the first of these tensors whose values the device cannot tell. */
  private undecodable({ path, dmaAt }: GgufImage, tensors: readonly TensorInfo[]): Refusal | undefined {
    const strange = tensors.find(t => this.decode(plainType(t.type), dmaAt, 0, dmaAt) < 0);
    if (strange === undefined) return undefined;
    const { name, type } = strange;
    return refuse('NOTSUP', 6001, `${path}: tensor ${shown(name)}: values of ${ggmlTypeName(type)} cannot be decoded`);
  }

  /** The file with its tensors and metadata laid out, opened; the source is closed with it. */
  private view(
    source: OpenImage,
    type: GgmlTypeName,
    requantize: boolean,
  ): { file: OpenFile; report: Report } | Refusal {
    const { image } = source;
    const parts = image.meta('split.count');
    if (typeof parts === 'number' && parts > 1)
      return refuse('NOTSUP', 6001, `one of ${parts} parts of a model: key split.count`);
    if (prelinkOf(image) !== null)
      return refuse('INVAL', 7001, 'is prelinked: quantize the file that it was made from');
    const report = { bytes: 0, sourceBytes: image.fileBytes, tensors: image.tensors.length, converted: 0, ragged: 0 };
    const made: Encoded[] = [];
    const tensors: GgufTensor[] = [];
    for (const t of inLayerOrder(image.tensors)) {
      const to = typeFor(t, type);
      const stored = ggmlTypeName(t.type)!;
      if (to !== type && to !== stored) report.ragged++;
      if (to === stored) {
        tensors.push({ ...t, data: stretch(image, t.fileAt, t.bytes) });
        continue;
      }
      if (GGML_BLOCK[stored][0] > 1 && !requantize)
        return refuse(
          'INVAL',
          7001,
          `tensor ${shown(t.name)} is ${stored} already: rounding twice loses more than once`,
        );
      const strange = this.undecodable(image, [t]);
      if (strange !== undefined) return strange;
      const data = new Encoded(new TensorValues(image, t, this.decode, this.k.arena.u8), to, this.encode);
      made.push(data);
      report.converted++;
      tensors.push({ ...t, type: GGML_TYPE[to], data });
    }
    const piece = layOutGguf({ keys: keysFor(image, type), tensors });
    if (isRefusal(piece)) return piece;
    const handle: Handle = {
      read: (memory, position, at, length) => piece.read(memory, position, at, length),
      write: () => -E.BADF,
      refusal: () => made.find(m => m.why !== null)?.why ?? source.unread(),
      release: () => void source.file.close(),
    };
    const file = openView(this.k.vfs, piece.bytes, handle, image.path);
    return isRefusal(file) ? file : { file, report: { ...report, bytes: piece.bytes } };
  }

  private readonly encode: Compute['encode'] = (type, fromAt, n, toAt) => {
    const bad = this.compute.encode(type, fromAt, n, toAt);
    this.k.costs.settle();
    return bad;
  };
}

/** What tensor `t` is written as in a model of `type`: as it is, or that type, or F16 where its rows are no whole blocks. */
function typeFor(t: TensorInfo, type: GgmlTypeName): GgmlTypeName {
  const matrix = t.shape.some((extent, d) => d > 0 && extent > 1);
  if (!matrix || !t.name.endsWith('weight') || LEFT_ALONE.test(t.name)) return ggmlTypeName(t.type)!;
  return t.shape[0]! % GGML_BLOCK[type][0] === 0 ? type : 'F16';
}

/** llama.cpp's order: what belongs to no layer, then layer by layer, each by name. */
function inLayerOrder(tensors: readonly TensorInfo[]): TensorInfo[] {
  const layerOf = (name: string): number => Number(/^blk\.([0-9]+)/.exec(name)?.[1] ?? -1);
  return [...tensors].sort(
    (a, b) => layerOf(a.name) - layerOf(b.name) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
  );
}

/** The metadata as they are, then what the file is now. */
function keysFor(image: GgufImage, type: GgmlTypeName): Map<string, GgufValue> {
  const replaced = [
    'general.quantization_version',
    'general.file_type',
    'split.no',
    'split.count',
    'split.tensors.count',
  ];
  const keys = new Map<string, GgufValue>();
  for (const key of image.keys) if (!replaced.includes(key)) keys.set(key, valueOf(image, key));
  keys.set('general.quantization_version', { type: GGUF_TYPE.u32, value: QUANTIZATION_VERSION });
  keys.set('general.file_type', { type: GGUF_TYPE.u32, value: FILE_TYPE[type]! });
  return keys;
}
