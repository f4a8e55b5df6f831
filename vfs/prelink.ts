// Prelinked images: GGUF files whose tensors lie as the kernels read them, as prelink once laid shared libraries out for the addresses they
// would run at. Matrices of Q4_0, Q4_1 and Q8_0 have private types (…_R4) with rows in groups of four, tensors stand in the order of
// execution, and three keys tie the file to its source and to its own data. docs/IMAGE.md draws the bits; other readers refuse the types by number.

import { GGML_BLOCK, GGML_TYPE, ggmlTypeName, isGrouped, plainType, refuse, shown } from '../kernel/abi/index.ts';
import type { MetaValue, ModelImage, Refusal, TensorInfo } from '../kernel/abi/index.ts';

export const PRELINK_VERSION = 1;
export const PRELINK_KEYS = {
  version: 'arena8.prelink.version', // u32
  source: 'arena8.prelink.source_sha256', // of the whole file it was made from, hex
  data: 'arena8.prelink.sha256', // of everything from the first tensor to the end of the file, hex
} as const;
const DIGEST = /^[0-9a-f]{64}$/;

/** Rows of a group. */
export const GROUP_ROWS = 4;

/** What a prelinked image says of itself. */
export interface Prelink {
  readonly sourceSha256: string;
  readonly dataSha256: string;
  /** Where its data begin in the file; they go on to the file's end. */
  readonly dataAt: number;
}

/** What makes a parsed file no prelinked image of this version, though it has the keys or the types of one. */
export function checkPrelink(
  meta: (key: string) => MetaValue | undefined,
  tensors: readonly TensorInfo[],
): Refusal | undefined {
  const version = meta(PRELINK_KEYS.version);
  const grouped = tensors.find(t => isGrouped(t.type));
  if (version === undefined) {
    if (grouped === undefined) return undefined;
    const { name, type } = grouped;
    return refuse('NOEXEC', 6001, `tensor ${shown(name)} is ${ggmlTypeName(type)}, and no key ${PRELINK_KEYS.version}`);
  }
  if (version !== PRELINK_VERSION)
    return refuse(
      'NOEXEC',
      1004,
      `prelinked by version ${typeof version === 'object' ? '?' : version}, read is ${PRELINK_VERSION}: prelink the source again`,
    );
  for (const key of [PRELINK_KEYS.source, PRELINK_KEYS.data]) {
    const digest = meta(key);
    if (typeof digest !== 'string' || !DIGEST.test(digest))
      return refuse('NOEXEC', 6002, `key ${key} is no SHA-256 in hex`);
  }
  const odd = tensors.find(t => isGrouped(t.type) && (t.shape.length !== 2 || t.shape[1]! < GROUP_ROWS));
  return odd === undefined
    ? undefined
    : refuse('NOEXEC', 6001, `tensor ${shown(odd.name)}: ${odd.shape.join(' × ')} values are no group of rows`);
}

/** Of a parsed image; null: it is not prelinked. */
export function prelinkOf(image: ModelImage): Prelink | null {
  if (image.meta(PRELINK_KEYS.version) === undefined) return null;
  return {
    sourceSha256: String(image.meta(PRELINK_KEYS.source)),
    dataSha256: String(image.meta(PRELINK_KEYS.data)),
    dataAt: image.tensors[0]?.fileAt ?? image.fileBytes,
  };
}

/** Bytes of scales and minima before a block's quants, and of one row's share of each step through these. */
const PARTS: ReadonlyMap<number, { readonly header: number; readonly part: number }> = new Map([
  [GGML_TYPE.Q4_0, { header: 2, part: 4 }],
  [GGML_TYPE.Q4_1, { header: 4, part: 4 }],
  [GGML_TYPE.Q8_0, { header: 2, part: 2 }],
]);

/** Row `lane` of a group: its `blocks` blocks out of the group's at `fromAt`, in ggml's order, to `toAt`. `type`: as stored. */
export function takeRow(
  memory: Uint8Array,
  type: number,
  fromAt: number,
  blocks: number,
  lane: number,
  toAt: number,
): void {
  const plain = plainType(type);
  const { header, part } = PARTS.get(plain)!;
  const blockBytes = GGML_BLOCK[ggmlTypeName(plain)!][1];
  const swapped = plain !== GGML_TYPE.Q8_0; // nibbles lie in the order 0 2 1 3
  let to = toAt;
  for (let group = fromAt; group < fromAt + GROUP_ROWS * blocks * blockBytes; group += GROUP_ROWS * blockBytes) {
    for (let h = 0; h < header; h += 2) {
      const at = group + GROUP_ROWS * h + 2 * lane;
      memory[to++] = memory[at]!;
      memory[to++] = memory[at + 1]!;
    }
    for (let q = header; q < blockBytes; q += part) {
      const at = group + GROUP_ROWS * q + part * lane;
      for (let i = 0; i < part; i++) memory[to++] = memory[at + (swapped && (i === 1 || i === 2) ? 3 - i : i)]!;
    }
  }
}
