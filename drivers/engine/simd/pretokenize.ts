// Pre-tokenizers: where the words of a text end. Each regular expression of llama.cpp's is an automaton here, with the same leftmost,
// first-alternative meaning: it takes one character at a time, looks at most two bytes ahead, and cuts words off behind itself. So the
// time is proportional to the text, and a text may come in pieces. Bytes that are not UTF-8 are symbols, one each. Classes: ../unicode.ts.
//
//   gpt2      's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//   llama3    (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//   qwen2     the same with \p{N} instead of \p{N}{1,3}
//   smollm    \p{N} apart, then gpt2 on what lies between
//   default   runs of [\p{P}$+<=>^~|] apart, then gpt2, then \p{N}+ apart, then [0-9][0-9][0-9] apart
//   llama     no expression: spaces and what follows them up to the next space

import { Pre, UNICODE_HALVINGS, Vocab, VOCAB_BPE, Work } from '../vocabulary';
import { setWord, word } from './lexicon';

// Kinds of characters. PUNCTUATION counts as OTHER but for `default`.
const END = 0; // no character: the text ends here, or the piece of it that may be cut
const OTHER = 1;
const LETTER = 2;
const NUMBER = 3;
const SPACE = 4;
const PUNCTUATION = 5;

// States of the automata: START, a run of the kind of that number (for llama3 a number of up to three digits), or
const START = END;
const LEAD = 6; // one character that may belong to the word after it: gpt2's space, any but letters, numbers and line ends of llama3
const CONTRACTION = 7; // up to `last`
const MARKS = 8; // default: what it sets apart
const LINE_ENDS = 9; // llama3: those after symbols

// Beside those of Pre, for `llama`: words cut at spaces; no cut before the text's end.
const SPACES = -1;
const CROSSING = -2;

// Registers. Positions are those of Work.
export let text: usize = 0;
export let lengths: usize = 0;
export let nodes: usize = 0;
export let values: usize = 0;
let table: usize = 0;
let pre: i32 = 0;
let state: i32 = 0;
export let begin: i32 = 0; // of the word being cut
let last: i32 = 0; // of a run of white space: its last character
let lineEnd: i32 = 0; // of a run of white space: behind its last line end, or 0
let digits: i32 = 0; // seen of a number
let lead: i32 = 0; // the kind of the character of LEAD
let before: i32 = 0; // Work.before

let codePoint: u32 = 0;
let unfinished: bool = false;

/** Bytes of the character at `at`, its code point in `codePoint`. What is not well-formed UTF-8 counts as U+FFFD, byte by byte. */
export function characterBytes(at: usize, end: usize): i32 {
  const a: u32 = load<u8>(at);
  unfinished = false;
  codePoint = a;
  if (a < 0x80) return 1;
  codePoint = 0xfffd;
  if (a < 0xc2 || a > 0xf4) return 1;
  const n = a < 0xe0 ? 2 : a < 0xf0 ? 3 : 4;
  let c = a & (0x7f >> n);
  for (let i = 1; i < 4 && i < n; i++) {
    if (at + i >= end) {
      unfinished = true;
      return 1;
    }
    const b: u32 = load<u8>(at + i);
    const low: u32 = i > 1 ? 0x80 : a == 0xe0 ? 0xa0 : a == 0xf0 ? 0x90 : 0x80;
    const high: u32 = i > 1 ? 0xbf : a == 0xed ? 0x9f : a == 0xf4 ? 0x8f : 0xbf;
    if (b < low || b > high) return 1;
    c = (c << 6) | (b & 0x3f);
  }
  codePoint = c;
  return n;
}

function classOf(c: u32): i32 {
  if ((c | 0x20) - 0x61 < 26) return LETTER;
  if (c == 0x20) return SPACE;
  if (c - 0x30 < 10) return NUMBER;
  let low: u32 = 0;
  let high = load<u32>(table); // runs low … high − 1 may hold c; run `low` begins at or before it
  for (let i = 0; i < UNICODE_HALVINGS && high - low > 1; i++) {
    const middle = (low + high) >> 1;
    if ((load<u32>(table + (middle << 2), 4) & 0x1fffff) <= c) low = middle;
    else high = middle;
  }
  return load<u32>(table + (low << 2), 4) >> 21;
}

/** The marks that `default` sets apart. */
@inline
function isMark(k: i32, c: u32): bool {
  return k == PUNCTUATION || c == 0x24 || c == 0x2b || (c >= 0x3c && c <= 0x3e) || c == 0x5e || c == 0x7c || c == 0x7e; // $ + <=> ^ | ~
}

@inline
function byteAt(p: i32): i32 {
  return load<u8>(text + p);
}
@inline
function isLineEnd(p: i32): bool {
  return byteAt(p) == 0x0d || byteAt(p) == 0x0a;
}

/** The word up to `to` is complete. */
export function cut(to: i32): void {
  store<u16>(nodes + (begin << 1), to - begin);
  store<i32>(values + ((to - 1) << 2), before);
  before = -1;
  begin = to;
  state = START;
}

/** End of 's 't 're 've 'm 'll 'd at the apostrophe `p`, or 0. `fold`: in either case. Nothing is read from `limit` on. */
function endOfContraction(p: i32, limit: i32, fold: i32): i32 {
  if (p + 1 >= limit) return 0;
  const a = byteAt(p + 1) | fold;
  if (a == 0x73 || a == 0x74 || a == 0x6d || a == 0x64) return p + 2;
  if ((a != 0x72 && a != 0x76 && a != 0x6c) || p + 2 >= limit) return 0;
  const b = byteAt(p + 2) | fold;
  return b == (a == 0x6c ? 0x6c : 0x65) ? p + 3 : 0;
}

/** Takes the character of kind `k` at `p`; END: there is none. */
function gpt2(p: i32, k: i32, limit: i32): void {
  if (state == SPACE) {
    if (k == SPACE) {
      last = p;
      return;
    }
    // \s+(?!\S)|\s+ : all white space, but its last character is left to a word that follows.
    if (k != END && last > begin) {
      cut(last);
      if (byteAt(last) == 0x20) state = LEAD;
    }
    if (state != LEAD) cut(p);
  } else if (state == CONTRACTION) {
    if (p < last) return;
    cut(p);
  } else if (state != START && state != LEAD) {
    if (state == k) return;
    cut(p);
  }
  if (state == LEAD) {
    if (k == END || (k == NUMBER && pre == Pre.fallback)) cut(p);
    else {
      state = k;
      last = p;
      return;
    }
  }
  if (k == END) return;
  const b = byteAt(p);
  const end = b == 0x27 ? endOfContraction(p, limit, 0) : 0;
  state = end ? CONTRACTION : b == 0x20 ? LEAD : k;
  last = end ? end : p;
}

/** llama3: whether the character belongs to the run that the word being cut is; `digitsMax` make a number. */
function continues(p: i32, k: i32, width: i32, digitsMax: i32): bool {
  if (state == LETTER) return k == LETTER;
  if (state == CONTRACTION) return p < last;
  if (state == LINE_ENDS) return isLineEnd(p);
  if (state != NUMBER || k != NUMBER) return false;
  if (++digits == digitsMax) cut(p + width);
  return true;
}

/** The same of white space. Where it ends, words are cut off, and one character may be left that belongs to the next. */
function continuesSpace(p: i32, k: i32): bool {
  if (k == SPACE) {
    if (isLineEnd(p)) lineEnd = p + 1;
    last = p;
    return true;
  }
  // \s*[\r\n]+ reaches the last line end.
  if (lineEnd) cut(lineEnd);
  if (last > begin) cut(last);
  state = begin < p ? LEAD : START;
  lead = SPACE;
  return false;
}

/** What one character begins that may belong to what follows it; false: it is a word, or a symbol before something else. */
function continuesLead(p: i32, k: i32): bool {
  const b = byteAt(begin);
  if (k == LETTER && b != 0x0d && b != 0x0a) state = LETTER;
  else if (lead != SPACE) {
    state = OTHER;
    return false;
  } else if (k == SPACE) {
    state = SPACE;
    lineEnd = isLineEnd(p) ? p + 1 : isLineEnd(begin) ? begin + 1 : 0;
    last = p;
  } else if (b == 0x20 && k == OTHER) state = OTHER;
  else {
    cut(p);
    return false;
  }
  return true;
}

function llama3(p: i32, k: i32, width: i32, limit: i32, digitsMax: i32): void {
  if (state == SPACE) {
    if (continuesSpace(p, k)) return;
  } else if (state != LEAD && state != OTHER && state != START) {
    if (continues(p, k, width, digitsMax)) return;
    cut(p);
  }
  if (state == LEAD && continuesLead(p, k)) return;
  if (state == OTHER) {
    if (k == OTHER) return;
    if (isLineEnd(p)) {
      state = LINE_ENDS;
      return;
    }
    cut(p);
  }
  const end = byteAt(p) == 0x27 ? endOfContraction(p, limit, 0x20) : 0;
  state = end ? CONTRACTION : k == LETTER ? LETTER : k == NUMBER ? NUMBER : LEAD;
  last = end;
  lead = k;
  digits = 1;
  if (state == NUMBER && digitsMax == 1) cut(p + width);
}

function smollm(p: i32, k: i32, width: i32, limit: i32): void {
  gpt2(p, k == NUMBER ? END : k, limit);
  if (k == NUMBER) cut(p + width);
}

function fallback(p: i32, k: i32, limit: i32, mark: bool): void {
  if (mark) {
    if (state != MARKS) gpt2(p, END, limit);
    state = MARKS;
    return;
  }
  if (state == MARKS) cut(p);
  gpt2(p, k, limit);
  if (k != NUMBER) return;
  // Three ASCII digits in a row are a word.
  if (begin == p) digits = 0;
  digits = <u32>byteAt(p) - 0x30 < 10 ? digits + 1 : 0;
  if (digits < 3) return;
  if (p - 2 > begin) cut(p - 2);
  cut(p + 1);
}

/** `llama`: a word ends before a space that follows something else. */
function spaces(p: i32): void {
  const isSpace = byteAt(p) == 0x20;
  if (state != START && isSpace && pre == SPACES) cut(p);
  if (!isSpace) state = LETTER;
}

/** Whether the character at `p` is an ASCII letter in a word of letters: nothing changes, whatever the expression is. */
@inline
export function inLetters(p: i32): bool {
  return state == LETTER && <u32>(byteAt(p) | 0x20) - 0x61 < 26;
}

/**
 * Takes the character at `p` into the word being cut, which may complete one or two; nothing is read from `limit` on. Returns its bytes, or
 * 0 when more text may change what it means; `closed`: none follows.
 */
export function cutCharacter(p: i32, limit: i32, closed: bool): i32 {
  if (pre < 0) {
    spaces(p);
    return 1;
  }
  const width = characterBytes(text + p, text + limit);
  if (!closed && (unfinished || (codePoint == 0x27 && p + 2 >= limit))) return 0;
  const c = classOf(codePoint);
  const k = c == PUNCTUATION ? OTHER : c;
  if (pre == Pre.gpt2) gpt2(p, k, limit);
  else if (pre == Pre.smollm) smollm(p, k, width, limit);
  else if (pre == Pre.fallback) fallback(p, k, limit, isMark(c, codePoint));
  else llama3(p, k, width, limit, pre == Pre.qwen2 ? 1 : 3);
  return width;
}

/** No character follows at `p`: what there is of a word is one. */
export function cutEnd(p: i32): void {
  if (state == SPACE && lineEnd > begin && lineEnd < p) cut(lineEnd);
  if (begin < p) cut(p);
}

/** A word begins with a space that is put at `p`; `special`: Work.before. */
export function cutPrefix(p: i32, special: i32): void {
  begin = p;
  before = special;
  store<u8>(text + p, 0x20);
}
/** The special token up to `to` is an item. */
export function cutSpecial(to: i32): void {
  begin = to;
}

/** Loads the addresses of Work's arrays. */
export function useArrays(work: usize): void {
  text = word(work, Work.textAt);
  lengths = word(work, Work.lengthsAt);
  nodes = word(work, Work.nodesAt);
  values = word(work, Work.valuesAt);
}

/** Loads the registers from a Work record. */
export function beginCutting(vocab: usize, work: usize): void {
  useArrays(work);
  table = word(vocab, Vocab.unicodeAt);
  pre = word(vocab, Vocab.flags) & VOCAB_BPE ? word(vocab, Vocab.pre) : word(vocab, Vocab.crossing) ? CROSSING : SPACES;
  state = word(work, Work.state);
  begin = word(work, Work.begin);
  last = word(work, Work.last);
  lineEnd = word(work, Work.lineEnd);
  digits = word(work, Work.digits);
  lead = word(work, Work.lead);
  before = word(work, Work.before);
}

/** Stores them. */
export function endCutting(work: usize): void {
  setWord(work, Work.state, state);
  setWord(work, Work.begin, begin);
  setWord(work, Work.last, last);
  setWord(work, Work.lineEnd, lineEnd);
  setWord(work, Work.digits, digits);
  setWord(work, Work.lead, lead);
  setWord(work, Work.before, before);
}
