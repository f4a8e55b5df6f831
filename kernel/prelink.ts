// The linker of models: what a plan would do to every tensor at every load is done once and written down. Tensors come in the order in which
// the plan reads them, vectors first since those stay in memory, matrices without gaps so that one read may span several; matrices of Q4_0,
// Q4_1 and Q8_0 in the kernels' groups of four rows; every value and scale is looked at. Nothing is stored: the image is a descriptor that is
// read once from its data's beginning to its end, which hashes data and source, and then holds the header with both digests.

import { bytesToHex } from '@noble/hashes/utils.js';
import {
  E,
  GGML_BLOCK,
  GGUF_ALIGNMENT_DEFAULT,
  GGUF_TYPE,
  ggmlTypeName,
  GROUPED_TYPE,
  isRefusal,
  refuse,
  shown,
  type Compute,
  type Hasher,
  type ModelImage,
  type PrelinkReport,
  type RecordValue,
  type Refusal,
  type TensorInfo,
} from './abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import type { GgufImage } from '../vfs/gguf.ts';
import { layOutGguf, valueOf, type GgufTensor, type GgufValue, type Piece } from '../vfs/gguf-writer.ts';
import type { Handle } from '../vfs/inode.ts';
import { GROUP_ROWS, PRELINK_KEYS, PRELINK_VERSION, prelinkOf } from '../vfs/prelink.ts';
import type { From } from '../vfs/vfs.ts';
import { openImage, type ImageContext, type OpenImage } from './image.ts';
import { openView } from './view.ts';

type Report = RecordValue<typeof PrelinkReport.fields>;
/** The tensors of a model in the order of execution, by name; those of no plan are missing. */
export type ExecutionOrder = (image: ModelImage) => readonly string[] | Refusal;

/** Stands for a digest while it is not known: as long as one. */
const NO_DIGEST = '0'.repeat(64);

export class Prelinker {
  constructor(
    private readonly k: ImageContext,
    private readonly compute: Compute,
    private readonly sha256: () => Hasher,
    private readonly order: ExecutionOrder,
  ) {}

  /** The model at `path` as a prelinked image: a file whose header can be read when its data have been, in order. */
  prelink(path: string, from: From): { file: OpenFile; report: Report } | Refusal {
    const opened = openImage(this.k, path, from);
    if (isRefusal(opened)) return opened;
    const made = this.view(opened);
    if (!isRefusal(made)) return made;
    const { image, file } = opened;
    file.close();
    return { ...made, message: made.message.includes(image.path) ? made.message : `${image.path}: ${made.message}` };
  }

  private view(source: OpenImage): { file: OpenFile; report: Report } | Refusal {
    const { image } = source;
    const prelinked = prelinkOf(image);
    if (prelinked !== null) return refuse('INVAL', 7001, `is prelinked already, from ${prelinked.sourceSha256}`);
    const parts = image.meta('split.count');
    if (typeof parts === 'number' && parts > 1)
      return refuse('NOTSUP', 6001, `one of ${parts} parts of a model: key split.count`);
    const order = this.order(image);
    if (isRefusal(order)) return order;
    const tensors = laidOut(image.tensors, order).map(t => new LinkedTensor(this.k, this.compute, image, t));
    const content = (digests: Digests) => layOutGguf({ keys: keysFor(image, digests), tensors });
    const blank = content({ source: NO_DIGEST, data: NO_DIGEST });
    if (isRefusal(blank)) return blank;
    const linked = new LinkedImage(this.k, source, tensors, blank, content, this.sha256);
    const file = openView(this.k.vfs, blank.bytes, linked, image.path);
    if (isRefusal(file)) return file;
    const grouped = tensors.filter(t => t.grouped).length;
    const { headerBytes } = linked;
    const report = { bytes: blank.bytes, sourceBytes: image.fileBytes, headerBytes, tensors: tensors.length, grouped };
    return { file, report };
  }
}

interface Digests {
  readonly source: string;
  readonly data: string;
}

/** Embeddings, which are read by the row; vectors; matrices as they are executed; what no plan reads. */
function laidOut(tensors: readonly TensorInfo[], order: readonly string[]): TensorInfo[] {
  const place = new Map(order.map((name, i) => [name, i]));
  const rank = ({ name, shape }: TensorInfo): number =>
    /^(token|position)_embd\./.test(name) ? 0 : !place.has(name) ? 3 : shape.length === 1 ? 1 : 2;
  const at = (t: TensorInfo): number => place.get(t.name) ?? 0;
  return [...tensors].sort((a, b) => rank(a) - rank(b) || at(a) - at(b));
}

/** The metadata as they are, at the default alignment, and what makes the file a prelinked one. */
function keysFor(image: GgufImage, { source, data }: Digests): Map<string, GgufValue> {
  const keys = new Map<string, GgufValue>();
  for (const key of image.keys) if (key !== 'general.alignment') keys.set(key, valueOf(image, key));
  keys.set(PRELINK_KEYS.version, { type: GGUF_TYPE.u32, value: PRELINK_VERSION });
  keys.set(PRELINK_KEYS.source, { type: GGUF_TYPE.string, value: source });
  keys.set(PRELINK_KEYS.data, { type: GGUF_TYPE.string, value: data });
  return keys;
}

/** A stretch of a tensor that passes through the DMA buffer at once: the same bytes of the source and of the image, in another order. */
interface Stretch {
  readonly at: number; // from the tensor's beginning
  readonly bytes: number;
  /** Rows of groups, whole or cut across; one where rows are not in groups. */
  readonly rows: number;
  readonly blocks: number; // of each row
}

/** A tensor as the kernels read it. Half of the DMA buffer takes a stretch as stored, half as written. Why a read failed is in `why`. */
class LinkedTensor implements Piece, GgufTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly type: number;
  readonly bytes: number;
  readonly data = this;
  readonly grouped: boolean;
  why: Refusal | null = null;
  private readonly blockBytes: number;
  private readonly blockValues: number;
  private readonly rowBytes: number;
  /** Bytes of the rows that are in groups. */
  private readonly groupedBytes: number;

  constructor(
    private readonly k: ImageContext,
    private readonly compute: Compute,
    private readonly image: GgufImage,
    private readonly tensor: TensorInfo,
  ) {
    const { name, shape, type, bytes } = tensor;
    const [row, rows = 1] = shape as readonly [number, number?];
    const to = GROUPED_TYPE.get(type);
    this.grouped = to !== undefined && shape.length === 2 && rows >= GROUP_ROWS;
    this.name = name;
    this.shape = shape;
    this.type = this.grouped ? to! : type;
    this.bytes = bytes;
    [this.blockValues, this.blockBytes] = GGML_BLOCK[ggmlTypeName(type)!];
    this.rowBytes = (row / this.blockValues) * this.blockBytes;
    this.groupedBytes = this.grouped ? (rows - (rows % GROUP_ROWS)) * this.rowBytes : 0;
  }

  read(memory: Uint8Array, position: number, at: number, length: number): number {
    const part = this.stretchAt(position);
    const status = this.make(part);
    if (status < 0) return status;
    const n = Math.min(length, part.at + part.bytes - position);
    const from = this.writtenAt + position - part.at;
    memory.copyWithin(at, from, from + n);
    return n;
  }

  private get writtenAt(): number {
    return this.image.dmaAt + this.image.dmaBytes / 2;
  }

  /** The stretch that byte `position` lies in: as many whole groups as half the buffer holds, or as many blocks of one; then plain blocks. */
  private stretchAt(position: number): Stretch {
    const { blockBytes, rowBytes, groupedBytes, bytes } = this;
    const room = this.image.dmaBytes / 2;
    const groupBytes = GROUP_ROWS * rowBytes;
    if (position < groupedBytes && groupBytes <= room) {
      const step = Math.floor(room / groupBytes) * groupBytes;
      const at = Math.floor(position / step) * step;
      const n = Math.min(step, groupedBytes - at);
      return { at, bytes: n, rows: n / rowBytes, blocks: rowBytes / blockBytes };
    }
    const rows = position < groupedBytes ? GROUP_ROWS : 1;
    const from = rows === 1 ? groupedBytes : Math.floor(position / groupBytes) * groupBytes;
    const end = rows === 1 ? bytes : from + groupBytes;
    const step = Math.floor(room / (rows * blockBytes)) * rows * blockBytes;
    const at = from + Math.floor((position - from) / step) * step;
    const n = Math.min(step, end - at);
    return { at, bytes: n, rows, blocks: n / (rows * blockBytes) };
  }

  /** Reads a stretch and writes it as the kernels have it, looking at every scale: 0, or -errno. */
  private make({ at, bytes, rows, blocks }: Stretch): number {
    const { image, tensor, rowBytes, blockBytes, blockValues } = this;
    const storedAt = image.dmaAt;
    if (rows > 1 && blocks * blockBytes < rowBytes) {
      // Across the rows of one group: a read for each.
      const groupAt = Math.floor(at / (rows * rowBytes)) * rows * rowBytes;
      const column = (at - groupAt) / rows;
      const n = bytes / rows;
      for (let row = 0; row < rows; row++) {
        const status = transfer(image, tensor.fileAt + groupAt + row * rowBytes + column, storedAt + row * n, n);
        if (status < 0) return status;
      }
    } else {
      const status = transfer(image, tensor.fileAt + at, storedAt, bytes);
      if (status < 0) return status;
    }
    const bad = this.compute.repack(tensor.type, storedAt, rows, blocks * blockValues, this.writtenAt);
    this.k.costs.settle();
    // Types that are no product's weights are turned into numbers, and looked at, when they are loaded.
    if (bad < 0) this.k.arena.u8.copyWithin(this.writtenAt, storedAt, storedAt + bytes);
    if (bad <= 0) return 0;
    this.why = refuse(
      'NOEXEC',
      1002,
      `${image.path}: tensor ${shown(tensor.name)}: ${bad} values or scales in its bytes ${at} to ${at + bytes - 1} are not finite`,
    );
    return -E.NOEXEC;
  }
}

/** `length` bytes of a file to the arena: 0, or -errno. */
function transfer(image: GgufImage, fileAt: number, at: number, length: number): number {
  for (let got = 0; got < length;) {
    const n = image.read(fileAt + got, at + got, length - got);
    if (n <= 0) return n < 0 ? n : -E.IO;
    got += n;
  }
  return 0;
}

const padded = (bytes: number): number => Math.ceil(bytes / GGUF_ALIGNMENT_DEFAULT) * GGUF_ALIGNMENT_DEFAULT;
const hexOf = (hash: Hasher): string => bytesToHex(hash.digest());

/** The whole image. What is read of the data in order is hashed, and as great a share of the source, which so takes no call of its own. */
class LinkedImage implements Handle {
  readonly headerBytes: number;
  private readonly dataHash: Hasher;
  private readonly sourceHash: Hasher;
  private hashed: number; // up to here, in the image
  private sourceHashed = 0;
  private whole: Piece | null = null; // with the digests
  private why: Refusal | null = null;

  constructor(
    private readonly k: ImageContext,
    private readonly source: OpenImage,
    private readonly tensors: readonly LinkedTensor[],
    private readonly blank: Piece,
    private readonly content: (digests: Digests) => Piece | Refusal,
    sha256: () => Hasher,
  ) {
    this.dataHash = sha256();
    this.sourceHash = sha256();
    this.headerBytes = blank.bytes - tensors.reduce((sum, t) => sum + padded(t.bytes), 0);
    this.hashed = this.headerBytes;
  }

  read(memory: Uint8Array, position: number, at: number, length: number): number {
    if (position < this.headerBytes) return this.readHeader(memory, position, at, length);
    const n = this.blank.read(memory, position, at, length);
    if (n <= 0 || position !== this.hashed) return n;
    this.dataHash.update(memory.subarray(at, at + n));
    this.hashed += n;
    const share = (this.hashed - this.headerBytes) / (this.blank.bytes - this.headerBytes);
    const status = this.hashSource(Math.floor(share * this.source.image.fileBytes));
    return status < 0 ? status : n;
  }

  write(): number {
    return -E.BADF;
  }

  refusal(): Refusal | null {
    return this.tensors.find(t => t.why !== null)?.why ?? this.why ?? this.source.unread();
  }

  release(): void {
    this.source.file.close();
  }

  private readHeader(memory: Uint8Array, position: number, at: number, length: number): number {
    if (this.whole === null) {
      const status = this.finish();
      if (status < 0) return status;
    }
    return this.whole!.read(memory, position, at, Math.min(length, this.headerBytes - position));
  }

  /** All data are hashed: the header can be written. */
  private finish(): number {
    const { blank, hashed } = this;
    const { image } = this.source;
    if (hashed < blank.bytes) {
      this.why = refuse(
        'INVAL',
        7001,
        `${image.path}: the header holds the digest of the data: bytes ${hashed} to ${blank.bytes - 1} come first`,
      );
      return -E.INVAL;
    }
    const status = this.hashSource(image.fileBytes);
    if (status < 0) return status;
    const whole = this.content({ source: hexOf(this.sourceHash), data: hexOf(this.dataHash) });
    if (isRefusal(whole)) {
      this.why = whole;
      return -whole.errno;
    }
    this.whole = whole;
    return 0;
  }

  /** Takes the source up to byte `end` into its digest: 0, or -errno. */
  private hashSource(end: number): number {
    const { image } = this.source;
    while (this.sourceHashed < end) {
      const n = Math.min(image.dmaBytes, end - this.sourceHashed);
      const status = transfer(image, this.sourceHashed, image.dmaAt, n);
      if (status < 0) return status;
      this.sourceHash.update(this.k.arena.u8.subarray(image.dmaAt, image.dmaAt + n));
      this.sourceHashed += n;
    }
    return 0;
  }
}
