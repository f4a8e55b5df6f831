// The vocabulary as a lexicon: building it in place from a file's strings, and finding a token by its text. Storage is bounded and known
// beforehand: nothing is sorted in extra memory, groups are placed by counting. Layouts are drawn in ../vocabulary.ts.

import {
  INDEX_ID_BITS, MERGE_BYTES_MAX, MERGE_LEFT_BITS, TOKEN_BYTES_MAX, TOKEN_END, TOKEN_RAW, TOKEN_TEXT_MASK, TOKEN_TYPE_SHIFT, TRANSFER_MERGE_TOO_LONG,
  TRANSFER_TOKEN_TOO_LONG, Transfer, TYPE_BYTE, TYPE_CONTROL, TYPE_NORMAL, TYPE_UNKNOWN, TYPE_USER_DEFINED, Vocab, VOCAB_BPE,
} from '../vocabulary';

@inline
export function word(at: usize, field: i32): i32 {
  return load<i32>(at + field);
}
@inline
export function setWord(at: usize, field: i32, value: i32): void {
  store<i32>(at + field, value);
}

// ── Tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

@inline
function entry(vocab: usize, id: i32): u32 {
  return load<u32>(word(vocab, Vocab.tokensAt) + (id << 2));
}
@inline
export function tokenType(vocab: usize, id: i32): i32 {
  return (entry(vocab, id) >> TOKEN_TYPE_SHIFT) & 7;
}
@inline
export function textOf(vocab: usize, id: i32): usize {
  return word(vocab, Vocab.textAt) + (entry(vocab, id) & TOKEN_TEXT_MASK);
}
@inline
export function lengthOf(vocab: usize, id: i32): i32 {
  return (entry(vocab, id + 1) & TOKEN_TEXT_MASK) - (entry(vocab, id) & TOKEN_TEXT_MASK);
}
@inline
function isSpecial(type: i32): bool {
  return type == TYPE_UNKNOWN || type == TYPE_CONTROL || type == TYPE_USER_DEFINED;
}

/** Whether `n` bytes are equal; 1 ≤ n ≤ most. Four at a time; the last four may overlap those before, fewer than four are looked at apart. */
export function sameBytes(a: usize, b: usize, n: i32, most: i32): bool {
  if (n < 4) return shortWord(a, n) == shortWord(b, n);
  let i = 0;
  for (let k = 4; k < most && i < n - 4; k += 4) {
    if (load<u32>(a + i) != load<u32>(b + i)) return false;
    i += 4;
  }
  return load<u32>(a + n - 4) == load<u32>(b + n - 4);
}

/** One to three bytes as a number. */
@inline
function shortWord(at: usize, n: i32): u32 {
  return load<u8>(at) | (<u32>load<u8>(at + (n >> 1)) << 8) | (<u32>load<u8>(at + n - 1) << 16);
}

function copyBytes(to: usize, from: usize, n: i32, most: i32): void {
  for (let i = 0; i < most && i < n; i++) store<u8>(to + i, load<u8>(from + i));
}

/** Four bytes at a time, as above, then a final mix: the low bits choose the bucket, the high bits are the tag. 1 ≤ n ≤ most. */
function hash(at: usize, n: i32, most: i32): u32 {
  let h: u32 = n * 0x9e3779b1;
  if (n < 4) h ^= shortWord(at, n);
  else {
    let i = 0;
    for (let k = 4; k < most && i < n - 4; k += 4) {
      h = (h ^ load<u32>(at + i)) * 0x85ebca6b;
      h ^= h >> 15;
      i += 4;
    }
    h ^= load<u32>(at + n - 4);
  }
  h = (h ^ (h >> 15)) * 0x2c1b3c6d;
  return h ^ (h >> 15);
}

/**
 * The token whose text is the `n` ≥ 1 bytes at `at`, or -1. Of several with the same text the last, as in llama.cpp. A bucket is ascending, so
 * the candidates are those with the tag of the text, from the last entry that is not above it downwards.
 */
export function lookup(vocab: usize, at: usize, n: i32, longest: i32, halvings: i32, tagMost: i32): i32 {
  if (n > longest) return -1;
  const h = hash(at, n, longest);
  const bucket = word(vocab, Vocab.bucketsAt) + ((h & (word(vocab, Vocab.buckets) - 1)) << 2);
  const wanted = h | ((1 << INDEX_ID_BITS) - 1);
  let size: usize = load<u32>(bucket, 4) - load<u32>(bucket);
  if (size == 0) return -1;
  const first: usize = word(vocab, Vocab.indexAt) + (load<u32>(bucket) << 2);
  let p = first;
  for (let i = 0; i < halvings; i++) {
    const middle = p + ((size >> 1) << 2);
    p = select(middle, p, load<u32>(middle) <= wanted);
    size -= size >> 1;
  }
  for (let i = 0; i < tagMost && p >= first; i++) {
    const e = load<u32>(p);
    if ((e ^ wanted) >> INDEX_ID_BITS) return -1;
    const id = e & ((1 << INDEX_ID_BITS) - 1);
    if (lengthOf(vocab, id) == n && sameBytes(textOf(vocab, id), at, n, longest)) return id;
    p -= 4;
  }
  return -1;
}

/** The rank of the merge that makes token `id` from a left part of `left` bytes and the rest, or -1. */
export function merge_rank(vocab: usize, id: i32, left: i32, groupMost: i32): i32 {
  const starts = word(vocab, Vocab.prioritiesAt) + (id << 2);
  const merges: usize = word(vocab, Vocab.mergesAt);
  const begin = merges + (load<u32>(starts) << 2);
  // Later merges lie before earlier ones: of a repeated merge the first in the file counts.
  let p = merges + (load<u32>(starts, 4) << 2);
  for (let i = 0; i < groupMost && p > begin; i++) {
    p -= 4;
    const m = load<u32>(p);
    if ((m & ((1 << MERGE_LEFT_BITS) - 1)) == left) return m >> MERGE_LEFT_BITS;
  }
  return -1;
}

// ── Building: tokens ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The byte that a code point of byte-level BPE stands for (GPT-2's table: printable Latin-1 is itself, the rest follow from U+0100 on), or -1. */
function letterByte(cp: i32): i32 {
  if ((cp >= 0x21 && cp <= 0x7e) || (cp >= 0xa1 && cp <= 0xac) || (cp >= 0xae && cp <= 0xff)) return cp;
  const n = cp - 0x100;
  if (n < 0 || n > 67) return -1;
  return n <= 0x20 ? n : n == 0x21 ? 0x7f : n < 67 ? n - 0x22 + 0x80 : 0xad;
}

/** Decodes n ≤ `most` bytes of byte-level letters; writes when `to` is not 0. Returns their number, or -1 when something is no such letter. */
function decodeLetters(from: usize, n: i32, to: usize, most: i32): i32 {
  let length = 0;
  let i = 0;
  for (let k = 0; k < most && i < n; k++) {
    let cp: i32 = load<u8>(from + i++);
    if (cp >= 0x80) {
      if ((cp & 0xe0) != 0xc0 || i == n) return -1;
      cp = ((cp & 0x1f) << 6) | (load<u8>(from + i++) & 0x3f);
    }
    const b = letterByte(cp);
    if (b < 0) return -1;
    if (to) store<u8>(to + length, b);
    length++;
  }
  return length;
}

@inline
function isUnderline(at: usize, left: i32): bool {
  return left >= 3 && load<u8>(at) == 0xe2 && load<u8>(at, 1) == 0x96 && load<u8>(at, 2) == 0x81; // ▁ U+2581
}

/** Turns ▁ into a space; writes when `to` is not 0. Returns the number of bytes, or -1 when there is a space already. */
function decodeUnderlines(from: usize, n: i32, to: usize): i32 {
  let length = 0;
  let i = 0;
  for (let k = 0; k < TOKEN_BYTES_MAX && i < n; k++) {
    let b: i32 = load<u8>(from + i);
    if (b == 0x20) return -1;
    if (isUnderline(from + i, n - i)) {
      b = 0x20;
      i += 3;
    } else i++;
    if (to) store<u8>(to + length, b);
    length++;
  }
  return length;
}

function hexDigit(c: i32): i32 {
  return c >= 0x30 && c <= 0x39 ? c - 0x30 : c >= 0x41 && c <= 0x46 ? c - 0x37 : c >= 0x61 && c <= 0x66 ? c - 0x57 : -1;
}

/** The byte of `<0x41>`, or -1. */
function namedByte(at: usize, n: i32): i32 {
  if (n != 6 || load<u8>(at) != 0x3c || load<u8>(at, 1) != 0x30 || load<u8>(at, 2) != 0x78 || load<u8>(at, 5) != 0x3e) return -1;
  const high = hexDigit(load<u8>(at, 3));
  const low = hexDigit(load<u8>(at, 4));
  return high < 0 || low < 0 ? -1 : (high << 4) | low;
}

/** True when a token's spelling in the file is also its text. */
function spelledPlain(bpe: bool, at: usize, n: i32): bool {
  for (let i = 0; i < TOKEN_BYTES_MAX && i < n; i++) {
    const b = load<u8>(at + i);
    if (b == 0x20 || (bpe ? b < 0x21 || b > 0x7e : isUnderline(at + i, n - i))) return false;
  }
  return true;
}

/** 0 when the name is not in the list of Transfer.namesAt, 1 when it is, 2 when it also ends generation. */
function named(list: usize, names: i32, nameMost: i32, at: usize, n: i32): i32 {
  for (let i = 0; i < names; i++) {
    const length: i32 = load<u8>(list);
    if (length == n && sameBytes(list + 2, at, n, nameMost)) return 1 + load<u8>(list, 1);
    list += 2 + length;
  }
  return 0;
}

let textBytes: i32 = 0; // Transfer.textBytes while vocab_tokens runs: no bound depends on a register

/** Measures one token and, when there is a vocabulary to fill, stores it. */
function putToken(t: usize, names: i32, nameMost: i32, id: i32, type: i32, from: usize, n: i32): void {
  const bpe = (word(t, Transfer.flags) & VOCAB_BPE) != 0;
  const vocab: usize = word(t, Transfer.vocabAt);
  const offset = textBytes;
  const to: usize = vocab ? <usize>word(vocab, Vocab.textAt) + offset : 0;
  const name = named(word(t, Transfer.namesAt), names, nameMost, from, n);
  if (name) type = TYPE_CONTROL;

  let length = -1;
  let raw = false;
  if (isSpecial(type)) {
    raw = type != TYPE_USER_DEFINED || !spelledPlain(bpe, from, n);
    if (n) setWord(t, Transfer.specials, word(t, Transfer.specials) + 1);
  } else if (bpe) length = decodeLetters(from, n, to, TOKEN_BYTES_MAX);
  else if (type == TYPE_BYTE && namedByte(from, n) >= 0) {
    if (to) store<u8>(to, namedByte(from, n));
    length = 1;
    raw = true;
  } else {
    if (type == TYPE_BYTE) type = TYPE_NORMAL;
    length = decodeUnderlines(from, n, to);
  }
  if (length < 0) {
    raw = raw || !isSpecial(type);
    if (to) copyBytes(to, from, n, TOKEN_BYTES_MAX);
    length = n;
  }
  if (vocab) {
    const flags = (raw ? TOKEN_RAW : 0) | (name == 2 ? TOKEN_END : 0);
    store<u32>(word(vocab, Vocab.tokensAt) + (id << 2), flags | (type << TOKEN_TYPE_SHIFT) | offset);
  }
  textBytes = offset + length;
}

/** Takes token strings from the transfer buffer. Returns the bytes taken: whole strings only; Transfer.taken says how many. */
export function vocab_tokens(t: usize): i32 {
  const begin: usize = word(t, Transfer.at);
  const bytes = word(t, Transfer.bytes);
  const end = begin + bytes;
  const types: usize = word(t, Transfer.typesAt);
  const names = word(t, Transfer.names);
  const nameMost = word(t, Transfer.nameMost);
  const first = word(t, Transfer.next);
  const stop = min(word(t, Transfer.count), types ? first + word(t, Transfer.types) : i32.MAX_VALUE);
  textBytes = word(t, Transfer.textBytes);
  let p = begin;
  let id = first;
  for (let k = 0; k < bytes >> 3; k++) {
    if (id >= stop || end - p < 8) break;
    const n = load<u32>(p, 4) ? -1 : load<i32>(p);
    if (n < 0 || n > TOKEN_BYTES_MAX) {
      setWord(t, Transfer.status, TRANSFER_TOKEN_TOO_LONG);
      setWord(t, Transfer.number, n);
      break;
    }
    if (end - p < <usize>n + 8) break;
    let type = TYPE_NORMAL;
    if (types) {
      type = load<i32>(types + ((id - first) << 2));
      if (type < 0 || type > TYPE_BYTE) type = 0;
    }
    putToken(t, names, nameMost, id, type, p + 8, n);
    p += 8 + n;
    id++;
  }
  setWord(t, Transfer.taken, id - first);
  setWord(t, Transfer.textBytes, textBytes);
  const vocab: usize = word(t, Transfer.vocabAt);
  if (vocab) store<u32>(word(vocab, Vocab.tokensAt) + (id << 2), textBytes);
  return <i32>(p - begin);
}

// ── Building: index ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Counts become ends: u32[n] at `at` is replaced by its running sums, the last of which follows it. Returns the largest count. */
function endsFromCounts(at: usize, n: i32): i32 {
  let sum = 0;
  let most = 0;
  for (let i = 0; i < n; i++, at += 4) {
    most = max(most, load<i32>(at));
    sum += load<i32>(at);
    store<i32>(at, sum);
  }
  store<i32>(at, sum);
  return most;
}

@inline
function isIndexed(vocab: usize, id: i32): bool {
  return (entry(vocab, id) & TOKEN_RAW) == 0 && lengthOf(vocab, id) > 0;
}

/** A token with a space after another character. */
function crosses(at: usize, n: i32): bool {
  for (let i = 1; i < TOKEN_BYTES_MAX && i < n; i++) if (load<u8>(at + i) == 0x20 && load<u8>(at + i - 1) != 0x20) return true;
  return false;
}

/** When every token is stored: where each bucket of the index ends, and what the vocabulary's texts are like. */
export function vocab_count(vocab: usize): void {
  const count = word(vocab, Vocab.count);
  const buckets = word(vocab, Vocab.buckets);
  const bucketsAt: usize = word(vocab, Vocab.bucketsAt);
  let longest = 0;
  let crossing = false;
  memory.fill(bucketsAt, 0, (buckets + 1) << 2);
  for (let id = 0; id < count; id++) {
    if (!isIndexed(vocab, id)) continue;
    const n = lengthOf(vocab, id);
    const text = textOf(vocab, id);
    const bucket = bucketsAt + ((hash(text, n, TOKEN_BYTES_MAX) & (buckets - 1)) << 2);
    store<u32>(bucket, load<u32>(bucket) + 1);
    longest = max(longest, n);
    crossing = crossing || crosses(text, n);
  }
  setWord(vocab, Vocab.longest, longest);
  setWord(vocab, Vocab.crossing, <i32>crossing);
  const bucketMost = endsFromCounts(bucketsAt, buckets);
  setWord(vocab, Vocab.bucketMost, bucketMost);
  setWord(vocab, Vocab.halvings, bucketMost > 1 ? 32 - clz(bucketMost - 1) : 0);
}

/** After vocab_count: the index, the tokens of single bytes, the special tokens. */
export function vocab_index(vocab: usize): void {
  const count = word(vocab, Vocab.count);
  const buckets = word(vocab, Vocab.buckets);
  const bucketMost = word(vocab, Vocab.bucketMost);
  const halvings = word(vocab, Vocab.halvings);
  const specials = word(vocab, Vocab.specials);
  placeTokens(vocab, count, buckets);
  sortBuckets(vocab, buckets, bucketMost);
  findBytes(vocab, count, halvings, bucketMost);
  listSpecials(vocab, count, specials);
}

/** Every bucket is filled from its end; its word moves down to where it begins. */
function placeTokens(vocab: usize, count: i32, buckets: i32): void {
  for (let id = 0; id < count; id++) {
    if (!isIndexed(vocab, id)) continue;
    const h = hash(textOf(vocab, id), lengthOf(vocab, id), TOKEN_BYTES_MAX);
    const bucket = word(vocab, Vocab.bucketsAt) + ((h & (buckets - 1)) << 2);
    const slot = load<u32>(bucket) - 1;
    store<u32>(bucket, slot);
    store<u32>(word(vocab, Vocab.indexAt) + (slot << 2), ((h >> INDEX_ID_BITS) << INDEX_ID_BITS) | id);
  }
}

/** How deep a heap of 2^INDEX_ID_BITS words can be. */
const HEAP_DEPTH = INDEX_ID_BITS + 1;

/** Lets word `i` of the heap u32[n] sink to where no child is above it. */
function sink(heap: usize, i: i32, n: i32): void {
  const value = load<u32>(heap + (i << 2));
  for (let k = 0; k < HEAP_DEPTH; k++) {
    let child = (i << 1) + 1;
    if (child >= n) break;
    if (child + 1 < n && load<u32>(heap + (child << 2), 4) > load<u32>(heap + (child << 2))) child++;
    const above = load<u32>(heap + (child << 2));
    if (above <= value) break;
    store<u32>(heap + (i << 2), above);
    i = child;
  }
  store<u32>(heap + (i << 2), value);
}

/** Sorts u32[n], n ≤ `most`, ascending, in place. By a heap: a file cannot choose an order that takes long. */
function sortWords(at: usize, n: i32, most: i32): void {
  const half = n >> 1;
  for (let i = 0; i < most && i < half; i++) sink(at, half - 1 - i, n);
  for (let i = 1; i < most && i < n; i++) {
    const last = at + ((n - i) << 2);
    const greatest = load<u32>(at);
    store<u32>(at, load<u32>(last));
    store<u32>(last, greatest);
    sink(at, 0, n - i);
  }
}

/** Sorts each bucket. Counts how many entries of one may share a tag. */
function sortBuckets(vocab: usize, buckets: i32, bucketMost: i32): void {
  let tagMost = 0;
  for (let b = 0; b < buckets; b++) {
    const bucket = word(vocab, Vocab.bucketsAt) + (b << 2);
    const first: usize = word(vocab, Vocab.indexAt) + (load<u32>(bucket) << 2);
    const size: i32 = load<u32>(bucket, 4) - load<u32>(bucket);
    sortWords(first, size, bucketMost);
    let same = 0;
    let tag: u32 = 0;
    for (let i = 0; i < bucketMost && i < size; i++) {
      const t = load<u32>(first + (i << 2)) >> INDEX_ID_BITS;
      same = t == tag ? same + 1 : 1;
      tag = t;
      tagMost = max(tagMost, same);
    }
  }
  setWord(vocab, Vocab.tagMost, tagMost);
}

/** The token of each byte: `<0x41>` where there is one, otherwise the token whose text is that byte. */
function findBytes(vocab: usize, count: i32, halvings: i32, bucketMost: i32): void {
  for (let b = 0; b < 256; b++) {
    const slot: usize = word(vocab, Vocab.bytesAt) + (b << 2);
    store<u8>(slot, b);
    store<i32>(slot, lookup(vocab, slot, 1, 1, halvings, bucketMost));
  }
  for (let id = 0; id < count; id++) {
    if (tokenType(vocab, id) != TYPE_BYTE) continue;
    store<i32>(word(vocab, Vocab.bytesAt) + (<i32>load<u8>(textOf(vocab, id)) << 2), id);
  }
}

/** Special tokens, longest text first, lower id first among equals. */
function listSpecials(vocab: usize, count: i32, specials: i32): void {
  const list: usize = word(vocab, Vocab.specialsAt);
  memory.fill(vocab + Vocab.startsAll, 0, 64);
  let listed = 0;
  for (let id = 0; id < count; id++) {
    const type = tokenType(vocab, id);
    if (!isSpecial(type) || lengthOf(vocab, id) == 0) continue;
    const b = load<u8>(textOf(vocab, id));
    addStart(vocab + Vocab.startsAll, b);
    if (type == TYPE_USER_DEFINED) addStart(vocab + Vocab.startsUser, b);
    store<i32>(list + (listed++ << 2), ((TOKEN_BYTES_MAX - lengthOf(vocab, id)) << INDEX_ID_BITS) | id);
  }
  sortWords(list, listed, specials);
  for (let i = 0; i < specials; i++) {
    const p = list + (i << 2);
    store<i32>(p, load<i32>(p) & ((1 << INDEX_ID_BITS) - 1));
  }
  setWord(vocab, Vocab.longestSpecial, specials ? lengthOf(vocab, load<i32>(list)) : 0);
}

@inline
function addStart(set: usize, b: i32): void {
  store<u8>(set + (b >> 3), <i32>load<u8>(set + (b >> 3)) | (1 << (b & 7)));
}

// ── Building: merges ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Takes merge strings (`left right`, in byte-level letters) from the transfer buffer: counts them by the token they make, or places them.
 * A merge that makes no token of the vocabulary is left out. Returns the bytes taken; Transfer.taken says how many merges.
 */
export function vocab_merges(t: usize, place: i32): i32 {
  const vocab: usize = word(t, Transfer.vocabAt);
  const begin: usize = word(t, Transfer.at);
  const bytes = word(t, Transfer.bytes);
  const end = begin + bytes;
  const scratch: usize = word(t, Transfer.scratchAt);
  const longest = word(vocab, Vocab.longest);
  const halvings = word(vocab, Vocab.halvings);
  const tagMost = word(vocab, Vocab.tagMost);
  const first = word(t, Transfer.next);
  const stop = word(t, Transfer.count);
  let p = begin;
  let rank = first;
  for (let k = 0; k < bytes >> 3; k++) {
    if (rank >= stop || end - p < 8) break;
    const n = load<u32>(p, 4) ? -1 : load<i32>(p);
    if (n < 0 || n > MERGE_BYTES_MAX) {
      setWord(t, Transfer.status, TRANSFER_MERGE_TOO_LONG);
      setWord(t, Transfer.number, n);
      break;
    }
    if (end - p < <usize>n + 8) break;
    putMerge(vocab, rank, p + 8, n, scratch, place, longest, halvings, tagMost);
    p += 8 + n;
    rank++;
  }
  setWord(t, Transfer.taken, rank - first);
  return <i32>(p - begin);
}

function putMerge(
  vocab: usize, rank: i32, from: usize, n: i32, scratch: usize, place: i32, longest: i32, halvings: i32, tagMost: i32,
): void {
  let space = 1;
  for (let k = 1; k < MERGE_BYTES_MAX && space < n; k++) {
    if (load<u8>(from + space) == 0x20) break;
    space++;
  }
  if (space >= n) return;
  const left = decodeLetters(from, space, scratch, MERGE_BYTES_MAX);
  if (left < 0 || left > TOKEN_BYTES_MAX) return;
  const right = decodeLetters(from + space + 1, n - space - 1, scratch + left, MERGE_BYTES_MAX);
  if (right < 0) return;
  const id = lookup(vocab, scratch, left + right, longest, halvings, tagMost);
  if (id < 0) return;
  const group = word(vocab, Vocab.prioritiesAt) + (id << 2);
  if (!place) {
    store<u32>(group, load<u32>(group) + 1);
    return;
  }
  const slot = load<u32>(group) - 1;
  store<u32>(group, slot);
  store<u32>(word(vocab, Vocab.mergesAt) + (slot << 2), (rank << MERGE_LEFT_BITS) | left);
}

/** Between counting and placing: where the merges of each token end. */
export function vocab_merge_groups(vocab: usize): void {
  setWord(vocab, Vocab.groupMost, endsFromCounts(word(vocab, Vocab.prioritiesAt), word(vocab, Vocab.count)));
}
