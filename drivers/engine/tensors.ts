// The tensor directory: what is where in the weights region, or in the file where it streams, as records in the arena, so that a debugger, a
// certificate or another engine finds a tensor without the file's header. One 64-byte record per tensor, in weights order, then their names.

import { alignUp } from './memory.ts';
import { layout, utf8Length, utf8Write } from '../../kernel/abi/index.ts';
import type { TensorInfo } from '../../kernel/abi/index.ts';

//   0 nameAt · 4 nameBytes · 8 type · 12 fileType · 16 ne[4] · 32 at · 36 bytes · 40 fileAt · 48 fileBytes · 56 index · 60 reserved
export const TensorRecord = layout({
  nameAt: 'u32',
  nameBytes: 'u32',
  type: 'u32', // GGML_TYPE as kept in the arena
  fileType: 'u32', // as stored: an F16 vector is kept as F32
  ne0: 'u32', // elements; absent dimensions are 1
  ne1: 'u32',
  ne2: 'u32',
  ne3: 'u32',
  at: 'u32', // arena offset of the data, 32-aligned, in the kernels' layout; 0: the tensor streams
  bytes: 'u32', // in the arena
  fileAt: 'u64',
  fileBytes: 'u64',
  index: 'u32',
  reserved: 'u32',
});

export interface DirectoryEntry {
  readonly info: TensorInfo;
  readonly type: number;
  readonly at: number;
  readonly bytes: number;
}

/** Bytes of the directory of these tensors, a multiple of 32. */
export function directoryBytes(tensors: Iterable<{ readonly info: TensorInfo }>): number {
  let bytes = 0;
  for (const { info } of tensors) bytes += TensorRecord.bytes + utf8Length(info.name);
  return alignUp(bytes);
}

/** Writes the directory at `at`; returns the bytes taken, as directoryBytes() said. */
export function writeDirectory(memory: Uint8Array, at: number, entries: readonly DirectoryEntry[]): number {
  let nameAt = at + entries.length * TensorRecord.bytes;
  entries.forEach(({ info, type, at: dataAt, bytes }, index) => {
    const nameBytes = utf8Length(info.name);
    const [ne0 = 1, ne1 = 1, ne2 = 1, ne3 = 1] = info.shape;
    TensorRecord.write(memory, at + index * TensorRecord.bytes, {
      nameAt,
      nameBytes,
      type,
      fileType: info.type,
      ne0,
      ne1,
      ne2,
      ne3,
      at: dataAt,
      bytes,
      fileAt: info.fileAt,
      fileBytes: info.bytes,
      index,
    });
    utf8Write(info.name, memory, nameAt, nameBytes);
    nameAt += nameBytes;
  });
  return alignUp(nameAt - at);
}
