// The Merkle tree of a log: RFC 6962 (and 9162) hashes and proofs. The root of n records fixes every one of them and their order; a
// proof of ⌈log₂ n⌉ hashes shows a record in it, or that one root continues another. Hashes of complete subtrees are stored once, in the
// order of Crosby and Wallach (USENIX Security 2009, §3.3) that Go's sumdb/tlog uses too; nothing stored ever changes.

import type { Refusal } from '../kernel/abi/index.ts';
import { HASH_BYTES, joined, malformed, sameBytes, sha256, unproven } from './bytes.ts';
import type { Sha256 } from './bytes.ts';

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

/** Hashes of a proof at most: a tree of 2⁵³ records, the most that a number counts, needs 53. */
export const PROOF_HASHES_MOST = 64;

export const leafHash = (record: Uint8Array, hash: Sha256 = sha256): Uint8Array => hash(LEAF, record);
export const nodeHash = (left: Uint8Array, right: Uint8Array, hash: Sha256 = sha256): Uint8Array =>
  hash(NODE, left, right);

/** Where the hash of subtree `n` of `level` is stored: the records [n·2^level, (n+1)·2^level). */
export function storedIndex(level: number, n: number): number {
  let last = n; // its last record: the hash was stored with it, after those of the levels below
  for (let l = 0; l < level; l++) last = 2 * last + 1;
  return storedCount(last) + level;
}

/** How many hashes a tree of `size` records stores: 2·size less the ones in its binary form. */
export function storedCount(size: number): number {
  let count = 0;
  for (let n = size; n > 0; n = Math.floor(n / 2)) count += n;
  return count;
}

/** Hashes in the order in which they become known; index 0 is the first record's. */
export interface HashStore {
  append(hash: Uint8Array): void;
  /** The hash that was appended as number `index`. */
  read(index: number): Uint8Array;
}

/** A store in memory: 64 bytes a record, doubled when it is full. */
export class HashMemory implements HashStore {
  #bytes = new Uint8Array(64 * HASH_BYTES);
  #count = 0;

  append(hash: Uint8Array): void {
    const at = this.#count++ * HASH_BYTES;
    if (at === this.#bytes.length) {
      const more = new Uint8Array(2 * at);
      more.set(this.#bytes);
      this.#bytes = more;
    }
    this.#bytes.set(hash, at);
  }

  read(index: number): Uint8Array {
    return this.#bytes.slice(index * HASH_BYTES, (index + 1) * HASH_BYTES);
  }
}

/** The tree over a store: grows by leaf hashes, and answers for every size that it ever had. */
export class Tree {
  readonly #store: HashStore;
  readonly #hash: Sha256;
  #size: number;

  /** `size`: records whose hashes the store holds already. */
  constructor(store: HashStore = new HashMemory(), hash: Sha256 = sha256, size = 0) {
    this.#store = store;
    this.#hash = hash;
    this.#size = size;
  }

  get size(): number {
    return this.#size;
  }

  append(leaf: Uint8Array): void {
    this.#store.append(leaf);
    let n = this.#size++;
    let hash = leaf;
    for (let level = 0; n % 2 === 1; level++) {
      hash = nodeHash(this.#stored(level, n - 1), hash, this.#hash);
      this.#store.append(hash);
      n = (n - 1) / 2;
    }
  }

  /** Root of the first `size` records, at most the tree's; of none: SHA-256 of nothing. */
  root(size = this.#size): Uint8Array {
    return size === 0 ? this.#hash() : this.#subtree(0, size);
  }

  /** RFC 6962 §2.1.1: shows record `n` in the tree of `size`, the deepest hash first. */
  inclusion(n: number, size = this.#size): readonly Uint8Array[] | Refusal {
    if (!isSize(size) || size > this.#size) return malformed(`no tree of ${size}: the log has ${this.#size} records`);
    if (!isSize(n) || n >= size) return malformed(`no record ${n} in a tree of ${size}`);
    const path: Uint8Array[] = [];
    for (let begin = 0, end = size; end - begin > 1;) {
      const middle = begin + split(end - begin);
      path.push(n < middle ? this.#subtree(middle, end) : this.#subtree(begin, middle));
      if (n < middle) end = middle;
      else begin = middle;
    }
    return path.reverse();
  }

  /** RFC 6962 §2.1.2: shows that the tree of `size` begins with the tree of `old`; no hashes for the empty one and for the same. */
  consistency(old: number, size = this.#size): readonly Uint8Array[] | Refusal {
    if (!isSize(size) || size > this.#size) return malformed(`no tree of ${size}: the log has ${this.#size} records`);
    if (!isSize(old) || old > size) return malformed(`a tree of ${size} does not continue one of ${old}`);
    if (old === 0 || old === size) return [];
    const path: Uint8Array[] = [];
    let [begin, end] = [0, size];
    while (old < end) {
      const middle = begin + split(end - begin);
      path.push(old <= middle ? this.#subtree(middle, end) : this.#subtree(begin, middle));
      if (old <= middle) end = middle;
      else begin = middle;
    }
    if (begin > 0) path.push(this.#subtree(begin, end)); // else it is the old root itself
    return path.reverse();
  }

  /** Hashes [begin, begin + count) of a level, one after the other: what a tile holds. */
  level(level: number, begin: number, count: number): Uint8Array {
    return joined(...Array.from({ length: count }, (_, i) => this.#stored(level, begin + i)));
  }

  /** Hash of the records [begin, end); begin is a multiple of the largest power of two within, as everywhere in the tree. */
  #subtree(begin: number, end: number): Uint8Array {
    let [level, width] = [0, 1];
    while (2 * width <= end - begin) {
      width *= 2;
      level++;
    }
    const left = this.#stored(level, begin / width);
    return begin + width === end ? left : nodeHash(left, this.#subtree(begin + width, end), this.#hash);
  }

  #stored(level: number, n: number): Uint8Array {
    return this.#store.read(storedIndex(level, n));
  }
}

/** Null when `proof` shows that the record with this leaf hash is number `n` of the `size` under `root`. */
export function verifyInclusion(
  leaf: Uint8Array,
  n: number,
  size: number,
  root: Uint8Array,
  proof: readonly Uint8Array[],
  hash: Sha256 = sha256,
): Refusal | null {
  const what = `inclusion of record ${n} in ${size}`;
  if (!isSize(size) || !isSize(n) || n >= size) return malformed(`${what}: there is no such record`);
  const wrong = notHashes([leaf, root, ...proof]);
  if (wrong !== null) return malformed(`${what}: ${wrong}`);
  const sides: boolean[] = []; // from the root down: does the record lie left of the split?
  for (let [at, width] = [n, size]; width > 1;) {
    const left = split(width);
    sides.push(at < left);
    [at, width] = at < left ? [at, left] : [at - left, width - left];
  }
  if (proof.length !== sides.length) return malformed(`${what}: ${proof.length} hashes, not ${sides.length}`);
  let sum = leaf;
  for (const [i, other] of proof.entries())
    sum = sides.at(-1 - i) ? nodeHash(sum, other, hash) : nodeHash(other, sum, hash);
  return sameBytes(sum, root) ? null : unproven(`${what}: the proof leads to another root`);
}

/** Null when `proof` shows that the `size` records under `root` begin with the `old` ones under `oldRoot`. */
export function verifyConsistency(
  old: number,
  oldRoot: Uint8Array,
  size: number,
  root: Uint8Array,
  proof: readonly Uint8Array[],
  hash: Sha256 = sha256,
): Refusal | null {
  const what = `consistency of ${old} with ${size}`;
  if (!isSize(old) || !isSize(size) || old > size) return malformed(`${what}: it is not longer`);
  const wrong = notHashes([oldRoot, root, ...proof]);
  if (wrong !== null) return malformed(`${what}: ${wrong}`);
  if (old === 0 || old === size) {
    if (proof.length > 0) return malformed(`${what}: ${proof.length} hashes, not 0`);
    return sameBytes(oldRoot, old === 0 ? hash() : root) ? null : unproven(`${what}: the old root is another`);
  }
  const sides: boolean[] = []; // from the root down: does the old tree end left of the split?
  let [at, width] = [old, size];
  while (at < width) {
    const left = split(width);
    sides.push(at <= left);
    [at, width] = at <= left ? [at, left] : [at - left, width - left];
  }
  const rest = sides.includes(false) ? proof : [oldRoot, ...proof]; // the old tree is a subtree: its root begins the proof
  if (rest.length !== sides.length + 1)
    return malformed(`${what}: ${proof.length} hashes, not ${sides.length + 1 - rest.length + proof.length}`);
  let [oldSum, sum] = [rest[0]!, rest[0]!];
  for (const [i, other] of rest.slice(1).entries()) {
    if (sides.at(-1 - i)) sum = nodeHash(sum, other, hash);
    else [oldSum, sum] = [nodeHash(other, oldSum, hash), nodeHash(other, sum, hash)];
  }
  if (!sameBytes(oldSum, oldRoot)) return unproven(`${what}: the proof leads to another old root`);
  return sameBytes(sum, root) ? null : unproven(`${what}: the proof leads to another root`);
}

/** The largest power of two smaller than `width` (> 1): how many records the left subtree has. */
function split(width: number): number {
  let left = 1;
  while (2 * left < width) left *= 2;
  return left;
}

const isSize = (n: number): boolean => Number.isSafeInteger(n) && n >= 0;

function notHashes(hashes: readonly Uint8Array[]): string | null {
  if (hashes.length > PROOF_HASHES_MOST + 2) return `more than ${PROOF_HASHES_MOST} hashes`;
  const wrong = hashes.find(h => h.length !== HASH_BYTES);
  return wrong === undefined ? null : `a hash of ${wrong.length} bytes`;
}
