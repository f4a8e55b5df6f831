// Encoding: text in working memory to token ids, as llama.cpp does it. The text is cut at special tokens, then into words that no token
// crosses; within a word, neighbouring symbols are merged, best pair first (leftmost among equals), until no pair makes a token. Memory
// is what the caller gave; the loops are bounded by it, and their trip counts are left in the Work record.

import {
  ENCODE_TEXT_TOO_LONG, ENCODE_WORD_TOO_LONG, TYPE_USER_DEFINED, Vocab, VOCAB_BPE, VOCAB_CROSSING, VOCAB_IGNORE_MERGES, VOCAB_SPACE_PREFIX, Work,
} from '../vocabulary';
import { lengthOf, lookup, merge_rank, sameBytes, setWord, textOf, tokenType, word } from './lexicon';
import { characterBytes, charactersSeen, touchedLimit, word_end } from './pretokenize';

export { vocab_index, vocab_merge_groups, vocab_merges, vocab_tokens } from './lexicon';

const ENCODE_SPECIAL = 2; // ENCODE.special of the ABI
const NO_PAIR = i32.MAX_VALUE;

// What the next word is.
const WORD = 1;
const NEED_TEXT = 0;
const REFUSED = -1;

@inline
function count(work: usize, field: i32, n: i32): void {
  setWord(work, field, word(work, field) + n);
}

// ── Special tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

@inline
function isWanted(work: usize, vocab: usize, id: i32): bool {
  return (word(work, Work.flags) & ENCODE_SPECIAL) != 0 || tokenType(vocab, id) == TYPE_USER_DEFINED;
}

/** Bytes of the longest wanted special token at `at`, or 0. */
function specialBytes(work: usize, vocab: usize, at: usize, end: usize): i32 {
  const starts = vocab + ((word(work, Work.flags) & ENCODE_SPECIAL) != 0 ? Vocab.startsAll : Vocab.startsUser);
  const b: i32 = load<u8>(at);
  if ((<i32>load<u8>(starts + (b >> 3)) & (1 << (b & 7))) == 0) return 0;
  const n = word(vocab, Vocab.specials);
  for (let i = 0; i < n; i++) {
    const id = load<i32>(word(vocab, Vocab.specialsAt) + (i << 2));
    const length = lengthOf(vocab, id);
    if (at + length <= end && isWanted(work, vocab, id) && sameBytes(textOf(vocab, id), at, length)) return length;
  }
  return 0;
}

/**
 * Moves plainTo over text in which no special token begins, and sets `special` when one begins there. llama.cpp takes the longest tokens
 * first, wherever they stand, so among overlapping candidates the leftmost need not win: the whole cluster of them is looked at.
 */
function findSpecial(work: usize, vocab: usize): void {
  const text: usize = word(work, Work.textAt);
  const end = text + word(work, Work.length);
  const longest = max(1, word(vocab, Vocab.longestSpecial));
  // A token that begins before `sure` would end within the text.
  const sure = word(work, Work.final) ? end : end - min(longest - 1, word(work, Work.length));
  let p = text + word(work, Work.plainTo);
  let n = 0;
  while (p < sure) {
    n = specialBytes(work, vocab, p, end);
    if (n) break;
    p++;
  }
  count(work, Work.characters, <i32>(p - text) - word(work, Work.plainTo));
  setWord(work, Work.plainTo, <i32>(p - text));
  if (n == 0) return;

  let clusterEnd = p + n;
  for (let q = p + 1; q < clusterEnd; q++) {
    if (q >= sure) return; // undecided without more text
    clusterEnd = max(clusterEnd, q + specialBytes(work, vocab, q, end));
  }
  // The first occurrence of the longest token bounds where the next may be, and so on: what remains is the leftmost token taken.
  const specials = word(vocab, Vocab.specials);
  let bound = clusterEnd;
  for (let i = 0; i < specials; i++) {
    const id = load<i32>(word(vocab, Vocab.specialsAt) + (i << 2));
    if (!isWanted(work, vocab, id)) continue;
    const length = lengthOf(vocab, id);
    for (let q = p; q + length <= bound; q++) {
      if (!sameBytes(textOf(vocab, id), q, length)) continue;
      bound = q;
      setWord(work, Work.special, id);
    }
  }
  setWord(work, Work.plainTo, <i32>(bound - text));
}

// ── Words ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** SentencePiece: spaces and what follows them up to the next space, no further than `end`. */
function chunkEnd(at: usize, end: usize): usize {
  while (at < end && load<u8>(at) == 0x20) at++;
  while (at < end && load<u8>(at) != 0x20) at++;
  return at;
}

/** Could a token of the vocabulary cover the bytes on both sides of `p`, within begin … end? */
function isCrossed(work: usize, vocab: usize, begin: usize, p: usize, end: usize): bool {
  const longest = word(vocab, Vocab.longest);
  for (let a = p - 1; a >= begin && p - a < <usize>longest; a--) {
    for (let b = p + 1; b <= end && b - a <= <usize>longest; b++) {
      count(work, Work.lookups, 1);
      if (lookup(vocab, a, <i32>(b - a)) >= 0) return true;
    }
  }
  return false;
}

/** A place to cut a run that is too long for the symbols, as far right as can be told, or 0. The merges on its two sides cannot meet. */
function safeCut(work: usize, vocab: usize, begin: usize, end: usize): usize {
  const longest = <usize>word(vocab, Vocab.longest);
  let p = min(end - longest, begin + word(work, Work.symbols));
  for (; p > begin; p--) {
    if ((load<u8>(p) & 0xc0) != 0x80 && !isCrossed(work, vocab, begin, p, end)) return p;
  }
  return 0;
}

@inline
function refuse(work: usize, status: i32, bytes: i32): i32 {
  setWord(work, Work.status, status);
  setWord(work, Work.wordBytes, bytes);
  return REFUSED;
}

/** Moves what is left to the beginning of the buffer. */
function compact(work: usize): void {
  const shift = word(work, Work.position) - 1;
  if (shift <= 0) return;
  const text: usize = word(work, Work.textAt);
  const length = word(work, Work.length);
  memory.copy(text + 1, text + 1 + shift, length - 1 - shift);
  setWord(work, Work.position, 1);
  setWord(work, Work.length, length - shift);
  setWord(work, Work.plainTo, word(work, Work.plainTo) - shift);
}

/** The next word needs text that has not come: there may be room for it, or none. */
function needText(work: usize): i32 {
  compact(work);
  const bytes = word(work, Work.length) - word(work, Work.position);
  if (word(work, Work.final) || word(work, Work.length) < word(work, Work.textBytes)) return NEED_TEXT;
  return refuse(work, ENCODE_TEXT_TOO_LONG, bytes);
}

/** Prepares the next word's symbols, or the next special token's id in `pending`. */
function nextWord(work: usize, vocab: usize): i32 {
  const text: usize = word(work, Work.textAt);
  if (word(work, Work.special) < 0) findSpecial(work, vocab);
  const special = word(work, Work.special);
  const plainTo = word(work, Work.plainTo);
  let position = word(work, Work.position);
  if (position == plainTo) {
    if (special < 0) return needText(work);
    position += lengthOf(vocab, special);
    setWord(work, Work.pending, special);
    setWord(work, Work.special, -1);
    setWord(work, Work.position, position);
    setWord(work, Work.plainTo, position);
    setWord(work, Work.fresh, 1);
    return WORD;
  }
  const flags = word(vocab, Vocab.flags);
  if (word(work, Work.fresh)) {
    setWord(work, Work.fresh, 0);
    if (flags & VOCAB_SPACE_PREFIX) {
      setWord(work, Work.position, --position);
      store<u8>(text + position, 0x20); // over the end of what has been encoded, or the byte that was kept free
    }
  }

  const begin = text + position;
  const limit = text + plainTo;
  // Nothing can follow the piece of plain text that ends at `limit`.
  const closed = special >= 0 || (word(work, Work.final) != 0 && plainTo == word(work, Work.length));
  let end: usize;
  if (flags & VOCAB_BPE) {
    end = word_end(word(vocab, Vocab.pre), word(vocab, Vocab.unicodeAt), begin, limit);
    count(work, Work.characters, charactersSeen());
    if (touchedLimit() && !closed) return needText(work);
    if (end - begin > <usize>word(work, Work.symbols)) return refuse(work, ENCODE_WORD_TOO_LONG, <i32>(end - begin));
  } else {
    end = flags & VOCAB_CROSSING ? limit : chunkEnd(begin, limit);
    count(work, Work.characters, <i32>(end - begin));
    if (end - begin > <usize>word(work, Work.symbols)) {
      const whole = end;
      end = safeCut(work, vocab, begin, whole);
      if (end == 0) return refuse(work, ENCODE_WORD_TOO_LONG, <i32>(whole - begin));
    } else if (end == limit && !closed) return needText(work);
  }
  setSymbols(work, vocab, begin, end);
  setWord(work, Work.position, <i32>(end - text));
  return WORD;
}

// ── Merging ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** How urgently the texts a … b and b … c want to be merged: lower first, NO_PAIR when they make no token. */
function priority(work: usize, vocab: usize, a: u32, b: u32, c: u32): i32 {
  count(work, Work.lookups, 1);
  const id = lookup(vocab, <usize>word(work, Work.textAt) + a, c - a);
  if (id < 0) return NO_PAIR;
  if (word(vocab, Vocab.flags) & VOCAB_BPE) {
    const rank = merge_rank(vocab, id, b - a);
    return rank < 0 ? NO_PAIR : rank;
  }
  // The score's bits as an integer of the same order, turned round; + 0 makes one zero of two.
  const bits = reinterpret<i32>(load<f32>(word(vocab, Vocab.prioritiesAt) + (id << 2)) + 0);
  return min(~(bits < 0 ? bits ^ 0x7fffffff : bits), NO_PAIR - 1);
}

function setSymbols(work: usize, vocab: usize, begin: usize, end: usize): void {
  const text: usize = word(work, Work.textAt);
  const starts: usize = word(work, Work.startsAt);
  const flags = word(vocab, Vocab.flags);
  setWord(work, Work.symbol, 0);
  setWord(work, Work.symbolBytes, 0);
  let n = 0;
  if (flags & VOCAB_IGNORE_MERGES && lookup(vocab, begin, <i32>(end - begin)) >= 0) {
    store<u32>(starts, <u32>(begin - text));
    n = 1;
  } else {
    for (let p = begin; p < end; n++) {
      store<u32>(starts + (n << 2), <u32>(p - text));
      p += flags & VOCAB_BPE ? 1 : characterBytes(p, end);
    }
  }
  store<u32>(starts + (n << 2), <u32>(end - text));
  setWord(work, Work.symbolCount, n > 1 ? merge(work, vocab, n) : n);
}

/** Merges until nothing merges; returns how many symbols are left. Each sweep does all merges of one priority, from left to right. */
function merge(work: usize, vocab: usize, n: i32): i32 {
  const starts: usize = word(work, Work.startsAt);
  const priorities: usize = word(work, Work.prioritiesAt);
  for (let i = 0; i < n - 1; i++) {
    const s = starts + (i << 2);
    store<i32>(priorities + (i << 2), priority(work, vocab, load<u32>(s), load<u32>(s, 4), load<u32>(s, 8)));
  }
  store<i32>(priorities + ((n - 1) << 2), NO_PAIR);

  while (true) {
    let best = NO_PAIR;
    let first = 0;
    for (let i = 0; i < n - 1; i++) {
      const p = load<i32>(priorities + (i << 2));
      if (p < best) {
        best = p;
        first = i;
      }
    }
    count(work, Work.scans, n);
    if (best == NO_PAIR) return n;
    n = sweep(work, vocab, n, first, best);
  }
}

/**
 * Merges the pairs of priority `best` from the symbol `first` on, closing the gaps. A merge that brings up a pair of no lower urgency ends
 * the sweep's merging: that pair is to the left of what remains and comes before it.
 */
function sweep(work: usize, vocab: usize, n: i32, first: i32, best: i32): i32 {
  const starts: usize = word(work, Work.startsAt);
  const priorities: usize = word(work, Work.prioritiesAt);
  let merging = true;
  let to = first;
  for (let from = first; from < n; to++) {
    const s = starts + (to << 2);
    const p = priorities + (to << 2);
    store<u32>(s, load<u32>(starts + (from << 2)));
    const own = load<i32>(priorities + (from << 2));
    if (!merging || own != best) {
      store<i32>(p, own);
      from++;
      continue;
    }
    from += 2;
    const next = starts + (from << 2); // where the merged symbol ends
    const right = from < n ? priority(work, vocab, load<u32>(s), load<u32>(next), load<u32>(next, 4)) : NO_PAIR;
    store<i32>(p, right);
    if (right <= best) merging = false;
    if (to > 0) {
      const left = priority(work, vocab, load<u32>(s - 4), load<u32>(s), load<u32>(next));
      store<i32>(p - 4, left);
      if (left <= best) merging = false;
    }
  }
  store<u32>(starts + (to << 2), load<u32>(starts + (n << 2)));
  return to;
}

// ── Ids ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Writes ids of the symbols that are ready; a symbol that is no token goes byte by byte. Returns how many ids. */
function writeSymbols(work: usize, vocab: usize, out: usize, capacity: i32): i32 {
  const text: usize = word(work, Work.textAt);
  const starts: usize = word(work, Work.startsAt);
  const symbols = word(work, Work.symbolCount);
  let symbol = word(work, Work.symbol);
  let written = 0;
  for (; symbol < symbols; symbol++) {
    const s = starts + (symbol << 2);
    const at = text + load<u32>(s);
    const n: i32 = load<u32>(s, 4) - load<u32>(s);
    let done = word(work, Work.symbolBytes);
    if (written == capacity) break;
    const id = done ? -1 : lookup(vocab, at, n);
    if (id >= 0) store<i32>(out + (written++ << 2), id);
    else {
      for (; done < n && written < capacity; done++) {
        let byte = load<i32>(word(vocab, Vocab.bytesAt) + (<i32>load<u8>(at + done) << 2));
        if (byte < 0) byte = word(vocab, Vocab.unknown);
        if (byte >= 0) store<i32>(out + (written++ << 2), byte);
      }
      setWord(work, Work.symbolBytes, done < n ? done : 0);
      if (done < n) break;
    }
  }
  setWord(work, Work.symbol, symbol);
  return written;
}

/** Writes up to `capacity` u32 ids at `out`; returns how many. 0 = needs more text, or the end. -1 = refused, see Work.status. */
export function tokenize(work: usize, out: usize, capacity: i32): i32 {
  const vocab: usize = word(work, Work.vocabAt);
  let written = 0;
  while (written < capacity && word(work, Work.status) == 0) {
    const pending = word(work, Work.pending);
    if (pending >= 0) {
      store<i32>(out + (written++ << 2), pending);
      setWord(work, Work.pending, -1);
      continue;
    }
    if (word(work, Work.symbol) < word(work, Work.symbolCount)) {
      written += writeSymbols(work, vocab, out + (written << 2), capacity - written);
      continue;
    }
    if (nextWord(work, vocab) != WORD) break;
  }
  return written == 0 && word(work, Work.status) != 0 ? -1 : written;
}
