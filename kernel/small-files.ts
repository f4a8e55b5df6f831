// Small files that the kernel reads whole: settings, keys, packages. A limit is given with each, and what is longer is refused; the bytes go
// through the DMA buffer at the price of a transfer.

import { E, isRefusal, KIND, LIMITS, O, refuse, strerror, utf8Decode, type Refusal } from './abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import { readAll, type ImageContext } from './image.ts';

/** All of a regular file of at most `most` bytes. */
export function contentsOf(k: ImageContext, file: OpenFile, most: number): Uint8Array | Refusal {
  const { kind, size } = file.stat();
  if (kind !== KIND.file) return refuse('INVAL', 0, `${file.path}: not a regular file`);
  if (size > most) return refuse('FBIG', 0, `${file.path}: ${size} bytes, at most ${most}`);
  const bytes = new Uint8Array(size);
  return readAll(k, file, size, (piece, at) => bytes.set(piece, at)) ?? bytes;
}

/** A file of the machine as text; null where there is none. */
export function textOf(k: ImageContext, path: string, most: number): string | null | Refusal {
  const file = k.vfs.open('/', path, O.RDONLY, 0);
  if (typeof file === 'number')
    return file === -E.NOENT ? null : { errno: -file, code: 0, message: `${path}: ${strerror(file)}` };
  const bytes = contentsOf(k, file, most);
  file.close();
  return isRefusal(bytes) ? bytes : utf8Decode(bytes);
}

/** What a directory holds, sorted; nothing where it is not there. */
export function namesIn({ vfs, arena, lay }: ImageContext, directory: string): string[] {
  const dir = vfs.open('/', directory, O.RDONLY | O.DIRECTORY, 0);
  if (typeof dir === 'number') return [];
  const names: string[] = [];
  for (let n; (n = dir.readdir(lay.dmaAt, LIMITS.dmaBytes)) > 0;)
    for (let at = lay.dmaAt; at < lay.dmaAt + n; at += 2 + arena.u8[at + 1]!)
      names.push(utf8Decode(arena.u8, at + 2, at + 2 + arena.u8[at + 1]!));
  dir.close();
  return names.sort();
}
