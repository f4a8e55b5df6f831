// The audit log as the page reads it: the ring's lines (/proc/audit), the signed head (/audit/head) and the shape of a Merkle tree of
// RFC 6962 with so many leaves. docs/AUDIT.md has the formats.

export interface AuditLine {
  readonly record: number;
  readonly what: string;
  /** The machine's clock. */
  readonly atNs: number;
  /** 1: it was done. */
  readonly isDone: boolean;
  /** All names and values, in the line's order. */
  readonly fields: ReadonlyMap<string, string>;
}

/** Lines `[LLM][AUD] name=value name="value with blanks" …`, newest first, as they stand. */
export function parseAudit(text: string): AuditLine[] {
  const lines: AuditLine[] = [];
  for (const line of text.split('\n')) {
    if (!line.startsWith('[LLM][AUD] ')) continue;
    const fields = new Map<string, string>();
    for (const [, name, quoted, plain] of line.slice(11).matchAll(/([\w.]+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))/g))
      fields.set(name!, quoted ?? plain ?? '');
    lines.push({
      record: Number(fields.get('record')),
      what: fields.get('what') ?? fields.get('op') ?? '',
      atNs: Number(fields.get('ts_ns')),
      isDone: fields.get('status') === '1',
      fields,
    });
  }
  return lines;
}

export interface AuditHead {
  readonly origin: string;
  /** Records that it covers. */
  readonly size: number;
  /** Base64 of 32 bytes. */
  readonly root: string;
  /** Names of who signed. */
  readonly signers: readonly string[];
}

/** A checkpoint; null: none yet. */
export function parseHead(text: string): AuditHead | null {
  const [origin, size, root, ...rest] = text.split('\n');
  if (root === undefined || !/^\d+$/.test(size ?? '')) return null;
  const signers = rest.filter(line => line.startsWith('\u2014 ')).map(line => line.split(' ')[1]!);
  return { origin: origin!, size: Number(size), root, signers };
}

/** A node over leaves [from, from + leaves); `leaves` is a power of two where the node is whole and never changes again. */
export interface TreeNode {
  readonly from: number;
  readonly leaves: number;
  /** null: a leaf, or what is drawn as one node. */
  readonly children: readonly [TreeNode, TreeNode] | null;
}

/** The largest power of two below n > 1: where RFC 6962 splits a tree of n leaves. */
export function splitOf(n: number): number {
  let k = 1;
  while (k * 2 < n) k *= 2;
  return k;
}

/** The tree of `size` ≥ 1 leaves. Subtrees that are whole and end before leaf `openFrom` are closed: drawn as one node. */
export function treeOf(size: number, openFrom: number, from = 0): TreeNode {
  const isWhole = (size & (size - 1)) === 0;
  if (size === 1 || (isWhole && from + size <= openFrom)) return { from, leaves: size, children: null };
  const left = splitOf(size);
  return {
    from,
    leaves: size,
    children: [treeOf(left, openFrom, from), treeOf(size - left, openFrom, from + left)],
  };
}

/** What the root is made of: files of hashes of whole subtrees (docs/AUDIT.md, tiles) that cover every leaf of a tree of `size` < 65,536 leaves. */
export function tilesOf(size: number): { readonly path: string; readonly level: number }[] {
  const full = Math.floor(size / 256);
  const part = size % 256;
  return [
    ...(full > 0 ? [{ path: `/audit/tile/1/000.p/${full}`, level: 1 }] : []),
    ...(part > 0 ? [{ path: `/audit/tile/0/${String(full).padStart(3, '0')}.p/${part}`, level: 0 }] : []),
  ];
}

/** SHA-256 of bytes. */
export type Sha256 = (bytes: Uint8Array) => Promise<Uint8Array>;

/** The root over a row of hashes, each of as many leaves as the others but that those behind may be of fewer: RFC 6962's interior nodes. */
export async function rootOf(
  hashes: readonly Uint8Array[],
  leavesOf: readonly number[],
  sha256: Sha256,
): Promise<Uint8Array> {
  if (hashes.length === 1) return hashes[0]!;
  const leaves = leavesOf.reduce((sum, n) => sum + n, 0);
  const left = splitOf(leaves);
  let i = 0;
  for (let n = 0; n < left; i++) n += leavesOf[i]!;
  const pair = new Uint8Array(65);
  pair[0] = 1;
  pair.set(await rootOf(hashes.slice(0, i), leavesOf.slice(0, i), sha256), 1);
  pair.set(await rootOf(hashes.slice(i), leavesOf.slice(i), sha256), 33);
  return sha256(pair);
}
