// Opening a model file: a descriptor, its bytes through the DMA buffer at the price of transfers, its header parsed and checked. The file
// stays open for as long as the image is used, as a block device does.

import { E, isRefusal, KIND, LIMITS, O, refuse, strerror, type Compute, type Refusal } from './abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import { parseGguf, type GgufImage } from '../vfs/gguf.ts';
import type { Decode } from '../vfs/values.ts';
import type { From, Vfs } from '../vfs/vfs.ts';
import type { Arena } from './arena.ts';
import type { Costs } from './costs.ts';
import type { Layout } from './layout.ts';

/** What opening a model file stands on. */
export interface ImageContext {
  readonly arena: Arena;
  readonly lay: Layout;
  readonly costs: Costs;
  readonly vfs: Vfs;
}

export interface OpenImage {
  readonly image: GgufImage;
  /** Closed by who opened the image. */
  readonly file: OpenFile;
  /** What its disk failed to read last, which says more than a refusal of those who wanted it. */
  readonly unread: () => Refusal | null;
}

/** The model file at `path` as `from` sees it. A refusal names the file. */
export function openImage({ arena, lay, costs, vfs }: ImageContext, path: string, from: From): OpenImage | Refusal {
  const file = vfs.open(from, path, O.RDONLY, 0);
  if (typeof file === 'number')
    return { errno: -file, code: -file === E.NOENT ? 1001 : 0, message: `${path}: ${strerror(file)}` };
  const { kind, size } = file.stat();
  const disk = costs.disks.of(file);
  let unread: Refusal | null = null;
  const read = (fileAt: number, arenaAt: number, length: number): number => {
    const n = file.readAt(fileAt, arenaAt, length);
    const status = n < 0 ? n : costs.transfer(n, disk, fileAt);
    if (status === 0) return n;
    unread = { errno: -status, code: 0, message: `${file.path}: ${disk.complaint(status, length, fileAt)}` };
    return status;
  };
  const image =
    kind === KIND.dir
      ? refuse('ISDIR', 1002, strerror(E.ISDIR))
      : kind !== KIND.file
        ? refuse('INVAL', 1002, 'not a regular file')
        : parseGguf({ path: file.path, size, read }, arena, lay.dmaAt, LIMITS.dmaBytes);
  if (!isRefusal(image)) return { image, file, unread: () => unread };
  file.close();
  return unread ?? { ...image, message: `${file.path}: ${image.message}` };
}

/**
 * All `bytes` bytes of a file in order through the DMA buffer, each piece given to `take` with its position; the disk's times are booked.
 * Refused where they are not all there.
 */
export function readAll(
  { arena, lay, costs }: ImageContext,
  file: OpenFile,
  bytes: number,
  take: (piece: Uint8Array, at: number) => void,
): Refusal | null {
  const dma = arena.u8.subarray(lay.dmaAt, lay.dmaAt + LIMITS.dmaBytes);
  for (let done = 0; done < bytes;) {
    const n = file.readAt(done, lay.dmaAt, Math.min(LIMITS.dmaBytes, bytes - done));
    if (n <= 0) return refuse('IO', 0, `I/O error reading ${bytes - done} bytes at ${done}`);
    take(dma.subarray(0, n), done);
    done += n;
  }
  return costs.readThrough(bytes, costs.disks.of(file));
}

/** The compute device's decoding, its work booked. */
export function deviceDecode(compute: Compute, costs: Costs): Decode {
  return (type, fromAt, n, toAt) => {
    const status = compute.dequantize(type, fromAt, n, toAt);
    costs.settle();
    return status;
  };
}
