// Encoding: text in working memory to token ids, as llama.cpp does it. The text is cut at special tokens, then into words that no token
// crosses; within a word, neighbouring symbols are merged, best pair first (leftmost among equals), until no pair makes a token. Three
// kernels do this, each for a number of bytes that is its argument: what a text costs is proportional to its length, whatever it says
// (but for a tournament's height, its logarithm). Other bounds are words of the vocabulary, read before anything is written.

import { ITEM_SPECIAL, TYPE_USER_DEFINED, Vocab, VOCAB_BPE, VOCAB_IGNORE_MERGES, VOCAB_SPACE_PREFIX, Work } from '../vocabulary';
import { lengthOf, lookup, merge_rank, sameBytes, setWord, textOf, tokenType, word } from './lexicon';
import {
  begin, beginCutting, characterBytes, cut, cutCharacter, inLetters, cutEnd, cutPrefix, cutSpecial, endCutting, lengths, nodes, text, useArrays, values,
} from './pretokenize';

export { vocab_count, vocab_index, vocab_merge_groups, vocab_merges, vocab_tokens } from './lexicon';

const ENCODE_SPECIAL = 2; // ENCODE.special of the ABI
const NO_PAIR = i32.MAX_VALUE;
const TAKEN: u32 = 0xffff; // lengths: a byte of a special token, until the words around it are cut
const FEW = 8; // so many values are looked at one by one, more hold a tournament
const WORD_MASK = ITEM_SPECIAL - 1;

// Elements of the arrays of Work.
@inline
function half(array: usize, p: i32): i32 {
  return load<u16>(array + (p << 1));
}
@inline
function setHalf(array: usize, p: i32, value: i32): void {
  store<u16>(array + (p << 1), value);
}
@inline
function value(array: usize, p: i32): i32 {
  return load<i32>(array + (p << 2));
}
@inline
function setValue(array: usize, p: i32, v: i32): void {
  store<i32>(array + (p << 2), v);
}

// ── Special tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

@inline
function isWanted(vocab: usize, id: i32): bool {
  return all || tokenType(vocab, id) == TYPE_USER_DEFINED;
}

/** Bytes of the longest wanted special token at `at`, or 0; one that is wanted begins with this byte. */
function specialBytes(vocab: usize, at: usize, end: usize, specials: i32, longest: i32): i32 {
  const list: usize = word(vocab, Vocab.specialsAt);
  for (let i = 0; i < specials; i++) {
    const id = load<i32>(list + (i << 2));
    const length = lengthOf(vocab, id);
    if (at + length <= end && isWanted(vocab, id) && sameBytes(textOf(vocab, id), at, length, longest)) return length;
  }
  return 0;
}

// Registers of tokenize_cut: positions of Work. Registers are no words of memory to a certificate, so that no bound depends on them.
let length: i32 = 0;
let decided: i32 = 0;
let final: bool = false;
let checked: i32 = 0;
let clusterEnd: i32 = 0;
let found: bool = false;
let scanned: i32 = 0;
let fresh: bool = false;
let all: bool = false; // every special token is wanted, not only what users defined

/**
 * Moves `checked` over text and `decided` to where no special token that begins before can reach. Overlapping ones are decided together.
 * Returns whether there are any before `decided`.
 */
function findSpecials(vocab: usize, work: usize, bytes: i32, specials: i32, longest: i32): bool {
  // A token that begins before `sure` would end within the text.
  const sure = final ? length : length - longest + 1;
  const from = decided;
  const starts = vocab + (all ? Vocab.startsAll : Vocab.startsUser);
  clusterEnd = word(work, Work.clusterEnd);
  found = word(work, Work.found) != 0;
  checked = word(work, Work.checked);
  let p = checked;
  for (let i = 0; i < bytes; i++) {
    if (p >= sure) break;
    setHalf(lengths, p, 0);
    const b: i32 = load<u8>(text + p);
    if (<i32>load<u8>(starts + (b >> 3)) & (1 << (b & 7))) {
      const n = specialBytes(vocab, text + p, text + length, specials, longest);
      found = found || n > 0;
      clusterEnd = max(clusterEnd, p + n);
    }
    if (++p >= clusterEnd) decided = p;
  }
  setWord(work, Work.checked, p);
  setWord(work, Work.clusterEnd, clusterEnd);
  setWord(work, Work.decided, decided);
  setWord(work, Work.found, <i32>(found && decided < p));
  if (!found || decided == from) return false;
  takeSpecials(vocab, from, bytes, specials, longest);
  return true;
}

/** llama.cpp takes the longest tokens first, wherever they stand: those taken from `from` to `decided` are marked. */
function takeSpecials(vocab: usize, from: i32, bytes: i32, specials: i32, longest: i32): void {
  for (let s = 0; s < specials; s++) {
    const id = load<i32>(word(vocab, Vocab.specialsAt) + (s << 2));
    const n = lengthOf(vocab, id);
    if (!isWanted(vocab, id)) continue;
    let p = from;
    for (let i = 0; i < bytes; i++) {
      if (p + n > decided) break;
      // What was taken before is no shorter: it holds the first or the last byte if it holds any.
      const free = half(lengths, p) != TAKEN && half(lengths, p + n - 1) != TAKEN;
      if (free && sameBytes(textOf(vocab, id), text + p, n, longest)) {
        setHalf(nodes, p, n | ITEM_SPECIAL);
        setValue(values, p, id);
        for (let k = 0; k < longest && k < n; k++) setHalf(lengths, p + k, TAKEN);
      }
      p++;
    }
  }
}

// ── Cutting ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Cuts the text that has come into items, as far as it can tell without more. `bytes`: length − scanned. */
export function tokenize_cut(vocab: usize, work: usize, bytes: i32): void {
  const specials = word(vocab, Vocab.specials);
  const longest = max(1, word(vocab, Vocab.longestSpecial));
  beginCutting(vocab, work);
  length = word(work, Work.length);
  decided = word(work, Work.decided);
  final = word(work, Work.final) != 0;
  all = (word(work, Work.flags) & ENCODE_SPECIAL) != 0;
  const marked = findSpecials(vocab, work, bytes, specials, longest);
  cutWords(vocab, work, bytes, marked);
  endCutting(work);
}

/** The words up to `decided`. */
function cutWords(vocab: usize, work: usize, bytes: i32, marked: bool): void {
  const closed = final && decided == length;
  const prefix = (word(vocab, Vocab.flags) & VOCAB_SPACE_PREFIX) != 0;
  fresh = word(work, Work.fresh) != 0;
  scanned = word(work, Work.scanned);
  let special = -1; // where the special token lies that ends at `p`, if it is not written yet
  let p = scanned;
  for (let i = 0; i < bytes; i++) {
    if (p >= decided) break;
    if (marked && half(lengths, p) == TAKEN) {
      cutEnd(p);
      special = p;
      p += half(nodes, p) & WORD_MASK;
      cutSpecial(p);
      fresh = true;
      continue;
    }
    if (fresh && prefix) putPrefix(work, p - 1, special);
    fresh = false;
    if (inLetters(p)) {
      p++;
      continue;
    }
    let limit = decided;
    if (marked) {
      for (let k = 3; k > 0; k--) if (p + k < decided && half(lengths, p + k) == TAKEN) limit = p + k;
    }
    const width = cutCharacter(p, limit, closed || limit < decided);
    if (width == 0) break;
    p += width;
  }
  if (closed && p == decided) cutEnd(p);
  setWord(work, Work.scanned, p);
  setWord(work, Work.fresh, <i32>fresh);
}

/**
 * Puts a space at `p`, before plain text. It takes the place of the last byte of the special token before; when that leaves the token no
 * bytes, the word keeps its id. Where no such token waits to be written, there is a free byte.
 */
function putPrefix(work: usize, p: i32, special: i32): void {
  cutPrefix(p, special == p ? value(values, p) : -1);
  if (special < 0) {
    setWord(work, Work.merged, p);
    setWord(work, Work.written, p);
    setWord(work, Work.itemEnd, p);
  } else if (special < p) setHalf(nodes, special, (p - special) | ITEM_SPECIAL);
}

/** Moves the last `bytes` bytes of the text, which begin at `from`, to its beginning. */
export function tokenize_shift(work: usize, from: i32, bytes: i32): void {
  const at: usize = word(work, Work.textAt);
  memory.copy(at + 1, at + from, bytes);
}

/**
 * Cuts `llama` text that fills the room without ending a word, as far right in its last `bytes` bytes as a place is found that no token of
 * the vocabulary could cross: the merges on its two sides cannot meet. Returns 0 when there is none.
 */
export function tokenize_split(vocab: usize, work: usize, bytes: i32): i32 {
  const longest = word(vocab, Vocab.longest);
  const halvings = word(vocab, Vocab.halvings);
  const tagMost = word(vocab, Vocab.tagMost);
  beginCutting(vocab, work);
  length = word(work, Work.length);
  scanned = max(begin, length - bytes);
  let reach = scanned > begin ? scanned + longest - 1 : scanned; // no token that begins before `scanned` ends behind it
  let at = 0;
  for (let i = 0; i < bytes; i++) {
    if (scanned > length - longest) break;
    if (scanned > begin && reach <= scanned && (load<u8>(text + scanned) & 0xc0) != 0x80) at = scanned;
    for (let n = 2; n <= longest; n++) {
      if (lookup(vocab, text + scanned, n, longest, halvings, tagMost) >= 0) reach = max(reach, scanned + n);
    }
    scanned++;
  }
  if (at == 0) return 0;
  cut(at);
  endCutting(work);
  return 1;
}

// ── Merging ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** How urgently the texts a … b and b … c want to be merged: lower first, NO_PAIR when they make no token. */
function priority(
  vocab: usize, a: i32, b: i32, c: i32, bpe: bool, longest: i32, halvings: i32, tagMost: i32, groupMost: i32,
): i32 {
  const id = lookup(vocab, text + a, c - a, longest, halvings, tagMost);
  if (id < 0) return NO_PAIR;
  if (bpe) {
    const rank = merge_rank(vocab, id, b - a, groupMost);
    return rank < 0 ? NO_PAIR : rank;
  }
  // The score's bits as an integer of the same order, turned round; + 0 makes one zero of two.
  const bits = reinterpret<i32>(load<f32>(word(vocab, Vocab.prioritiesAt) + (id << 2)) + 0);
  return min(~(bits < 0 ? bits ^ 0x7fffffff : bits), NO_PAIR - 1);
}

/** Levels of a tournament of fewer than `n` < 2¹⁵ values: as a sum of comparisons, which a certificate can hold. */
@inline
function heightOf(n: i32): i32 {
  return (
    <i32>(n > 1) + <i32>(n > 2) + <i32>(n > 4) + <i32>(n > 8) + <i32>(n > 16) + <i32>(n > 32) + <i32>(n > 64) + <i32>(n > 128) +
    <i32>(n > 256) + <i32>(n > 512) + <i32>(n > 1024) + <i32>(n > 2048) + <i32>(n > 4096) + <i32>(n > 8192) + <i32>(n > 16384)
  );
}

/** The better of the two below node `k` in the tournament of `m` values from position b on; leaves are nodes m … 2m − 1. */
@inline
function winner(b: i32, m: i32, k: i32): i32 {
  const left = k << 1;
  const x = left >= m ? left - m : half(nodes, b + left);
  const y = left + 1 >= m ? left + 1 - m : half(nodes, b + left + 1);
  const u = value(values, b + x);
  const v = value(values, b + y);
  return u < v || (u == v && x < y) ? x : y;
}

/** The best of m ≤ FEW values, the first of equals. */
@inline
function bestOf(b: i32, m: i32): i32 {
  let best = value(values, b);
  let at = 0;
  for (let j = 1; j < FEW && j < m; j++) {
    const v = value(values, b + j);
    at = v < best ? j : at;
    best = min(v, best);
  }
  return at;
}

/** Value j of a tournament is new. */
function play(b: i32, m: i32, j: i32, height: i32): void {
  let k = (m + j) >> 1;
  for (let i = 0; i < height && k > 0; i++) {
    const w = winner(b, m, k);
    if (w == half(nodes, b + k) && w != j) break; // above, nothing changes
    setHalf(nodes, b + k, w);
    k >>= 1;
  }
}

/** Makes symbols of `bytes` bytes of items and merges them. bytes = begin − merged. */
export function tokenize_merge(vocab: usize, work: usize, bytes: i32): void {
  const longest = min(bytes, word(vocab, Vocab.longest));
  const halvings = word(vocab, Vocab.halvings);
  const tagMost = word(vocab, Vocab.tagMost);
  const groupMost = word(vocab, Vocab.groupMost);
  const flags = word(vocab, Vocab.flags);
  useArrays(work);
  const from = word(work, Work.merged);
  makeSymbols(vocab, from, bytes, flags, longest, halvings, tagMost, groupMost);
  setUp(from, bytes);
  mergeAll(vocab, from, bytes, (flags & VOCAB_BPE) != 0, longest, halvings, tagMost, groupMost);
  setWord(work, Work.merged, from + bytes);
}

/** The symbols that a word begins with, byte by byte, and how urgently each wants to be merged with the next. */
function makeSymbols(
  vocab: usize, from: i32, bytes: i32, flags: i32, longest: i32, halvings: i32, tagMost: i32, groupMost: i32,
): void {
  const bpe = (flags & VOCAB_BPE) != 0;
  let p = from;
  let end = from; // of the item
  let next = from; // symbol to come
  let symbol = -1; // the one before it in the word
  let isWord = false;
  for (let i = 0; i < bytes; i++) {
    if (p == end) {
      const item = half(nodes, p);
      end = p + (item & WORD_MASK);
      next = p;
      symbol = -1;
      isWord = (item & ITEM_SPECIAL) == 0;
      if (!isWord) next = end;
      else if (flags & VOCAB_IGNORE_MERGES && lookup(vocab, text + p, end - p, longest, halvings, tagMost) >= 0) {
        next = end;
        setHalf(lengths, p, end - p);
        setHalf(lengths, end - 1, end - p);
      }
    }
    if (p == next) {
      const n = bpe || load<u8>(text + p) < 0x80 ? 1 : characterBytes(text + p, text + end);
      next = p + n;
      setHalf(lengths, p, n);
      setHalf(lengths, next - 1, n);
      if (symbol >= 0) setValue(values, symbol, priority(vocab, symbol, p, next, bpe, longest, halvings, tagMost, groupMost));
      symbol = p;
    }
    if (isWord && p + 1 < end) setValue(values, p, NO_PAIR);
    p++;
  }
}

/** The tournament of each word with more than FEW pairs, node by node from its end: fewer nodes than bytes. */
function setUp(from: i32, bytes: i32): void {
  const to = from + bytes;
  let p = from; // where the next item begins
  let b = from;
  let m = 0;
  let k = 0;
  for (let i = 0; i < bytes; i++) {
    if (k == 0) {
      if (p >= to) return;
      const item = half(nodes, p);
      const n = item & WORD_MASK;
      b = p;
      p += n;
      m = item & ITEM_SPECIAL ? 0 : n - 1;
      k = m > FEW ? m - 1 : 0;
      if (k == 0) continue;
    }
    setHalf(nodes, b + k, winner(b, m, k));
    k--;
  }
}

/** Word after word, merges the best pair until there is none: a word of n bytes has at most n − 1 merges, and one look that finds no more. */
function mergeAll(
  vocab: usize, from: i32, bytes: i32, bpe: bool, longest: i32, halvings: i32, tagMost: i32, groupMost: i32,
): void {
  const height = heightOf(bytes);
  const to = from + bytes;
  let b = from;
  let end = from;
  let m = 0;
  for (let i = 0; i < bytes; i++) {
    if (m == 0) {
      if (end >= to) return;
      b = end;
      const item = half(nodes, b);
      end += item & WORD_MASK;
      if (item & ITEM_SPECIAL) continue;
      m = end - b - 1;
      if (m == 0) continue;
    }
    const p = b + (m > FEW ? half(nodes, b + 1) : bestOf(b, m));
    if (value(values, p) == NO_PAIR) {
      m = 0;
      continue;
    }
    // The symbol at p takes in the one at q, which ends where r begins.
    const q = p + half(lengths, p);
    const r = q + half(lengths, q);
    setHalf(lengths, p, r - p);
    setHalf(lengths, r - 1, r - p);
    if (q - b < m) change(b, m, q - b, NO_PAIR, height);
    const right =
      r < end ? priority(vocab, p, r, r + half(lengths, r), bpe, longest, halvings, tagMost, groupMost) : NO_PAIR;
    change(b, m, p - b, right, height);
    if (p > b) {
      const o = p - half(lengths, p - 1);
      change(b, m, o - b, priority(vocab, o, p, r, bpe, longest, halvings, tagMost, groupMost), height);
    }
  }
}

/** Gives value j of m a new value. */
@inline
function change(b: i32, m: i32, j: i32, v: i32, height: i32): void {
  setValue(values, b + j, v);
  if (m > FEW) play(b, m, j, height);
}

// ── Ids ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Writes up to `capacity` u32 ids at `out` of the `bytes` bytes of items that are merged and not written; a symbol that is no token goes
 * byte by byte. Returns how many ids; there may be none, for each step takes a byte at least and there are no more than `capacity`.
 */
export function tokenize_write(vocab: usize, work: usize, bytes: i32, out: usize, capacity: i32): i32 {
  const longest = min(bytes, word(vocab, Vocab.longest));
  const halvings = word(vocab, Vocab.halvings);
  const tagMost = word(vocab, Vocab.tagMost);
  const steps = min(bytes, capacity);
  useArrays(work);
  const unknown = word(vocab, Vocab.unknown);
  const byteTokens: usize = word(vocab, Vocab.bytesAt);
  let p = word(work, Work.written);
  let end = word(work, Work.itemEnd);
  let spelled = word(work, Work.spelled);
  let written = 0;
  const to = p + bytes;
  for (let i = 0; i < steps && p < to && written < capacity; i++) {
    if (p == end) {
      const item = half(nodes, p);
      end += item & WORD_MASK;
      if (item & ITEM_SPECIAL) {
        setValue(out, written++, value(values, p));
        p = end;
        continue;
      }
      const before = value(values, end - 1);
      if (before >= 0) {
        setValue(values, end - 1, -1);
        setValue(out, written++, before);
        if (written == capacity) break;
      }
    }
    const n = half(lengths, p);
    let id = spelled ? -1 : lookup(vocab, text + p, n, longest, halvings, tagMost);
    if (id >= 0) spelled = n;
    else {
      id = load<i32>(byteTokens + (<i32>load<u8>(text + p + spelled) << 2));
      if (id < 0) id = unknown;
      spelled++;
    }
    if (id >= 0) setValue(out, written++, id);
    if (spelled < n) continue;
    p += n;
    spelled = 0;
  }
  setWord(work, Work.written, p);
  setWord(work, Work.itemEnd, end);
  setWord(work, Work.spelled, spelled);
  return written;
}
