// Pre-tokenizers of byte-level BPE: where the next word of a text ends. Each is a regular expression of llama.cpp's written as a program
// over character classes (../unicode.ts), with its leftmost, first-alternative meaning. Bytes that are not UTF-8 are symbols, one each.
//
//   gpt2      's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//   llama3    (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//   qwen2     the same with \p{N} instead of \p{N}{1,3}
//   smollm    \p{N} apart, then gpt2 on what lies between
//   default   runs of [\p{P}$+<=>^~|] apart, then gpt2, then \p{N}+ apart, then [0-9][0-9][0-9] apart

import { Pre } from '../vocabulary';

const END = 0; // past the text, or past the piece that an earlier expression cut
const OTHER = 1;
const LETTER = 2;
const NUMBER = 3;
const SPACE = 4;
const PUNCTUATION = 5;

const STOP_NEVER = 0;
const STOP_NUMBERS = 1; // numbers end the piece
const STOP_MARKS = 2; // the marks of `default` end the piece

// Registers of one word_end call.
let table: usize = 0;
let limit: usize = 0;
let stop: i32 = 0; // STOP_NEVER; a named constant here would cost the module a start function
let width: i32 = 0; // bytes of the character that classAt saw
let touched: bool = false;
let seen: i32 = 0;

/** True when the last word_end looked at or past its limit: with more text the word may end elsewhere. */
export function touchedLimit(): bool {
  return touched;
}
/** Characters classified by the last word_end. */
export function charactersSeen(): i32 {
  return seen;
}

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
  for (let i = 1; i < n; i++) {
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
  let low: u32 = 0;
  let high = load<u32>(table); // runs low … high − 1 may hold c; run `low` begins at or before it
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((load<u32>(table + (middle << 2), 4) & 0x1fffff) <= c) low = middle;
    else high = middle;
  }
  return load<u32>(table + (low << 2), 4) >> 21;
}

/** The marks that `default` sets apart. */
@inline
function isMark(k: i32): bool {
  const c = codePoint;
  return k == PUNCTUATION || c == 0x24 || c == 0x2b || (c >= 0x3c && c <= 0x3e) || c == 0x5e || c == 0x7c || c == 0x7e; // $ + <=> ^ | ~
}

function classAt(at: usize): i32 {
  if (at >= limit) {
    touched = true;
    return END;
  }
  width = characterBytes(at, limit);
  if (unfinished) touched = true;
  seen++;
  const k = classOf(codePoint);
  if (stop == STOP_NUMBERS && k == NUMBER) return END;
  if (stop == STOP_MARKS && isMark(k)) return END;
  return k;
}

/** The byte at `at`, or -1 past the limit. */
function byteAt(at: usize): i32 {
  if (at < limit) return load<u8>(at);
  touched = true;
  return -1;
}

@inline
function isSymbol(k: i32): bool {
  return k == OTHER || k == PUNCTUATION;
}

function endOfRun(at: usize, k: i32): usize {
  while (classAt(at) == k) at += width;
  return at;
}
function endOfSymbols(at: usize): usize {
  while (isSymbol(classAt(at))) at += width;
  return at;
}

/** \s+(?!\S)|\s+ : all white space, but its last character is left to a word that follows. */
function endOfSpaces(at: usize): usize {
  let last = at;
  let end = at;
  let k = classAt(end);
  while (k == SPACE) {
    last = end;
    end += width;
    k = classAt(end);
  }
  return k != END && last > at ? last : end;
}

/** End of 's 't 're 've 'm 'll 'd at the apostrophe `at`, or 0. `fold`: in either case. */
function endOfContraction(at: usize, fold: i32): usize {
  const a = byteAt(at + 1) | fold;
  if (a == 0x73 || a == 0x74 || a == 0x6d || a == 0x64) return at + 2;
  if (a != 0x72 && a != 0x76 && a != 0x6c) return 0;
  const b = byteAt(at + 2) | fold;
  return b == (a == 0x6c ? 0x6c : 0x65) ? at + 3 : 0;
}

function gpt2(at: usize): usize {
  const first = load<u8>(at);
  if (first == 0x27) {
    const end = endOfContraction(at, 0);
    if (end) return end;
  }
  const start = first == 0x20 ? at + 1 : at;
  const k = classAt(start);
  if (k == LETTER || k == NUMBER) return endOfRun(start, k);
  if (isSymbol(k)) return endOfSymbols(start);
  return endOfSpaces(at);
}

function llama3(at: usize, digits: i32): usize {
  const first = load<u8>(at);
  if (first == 0x27) {
    const end = endOfContraction(at, 0x20);
    if (end) return end;
  }
  const k = classAt(at);
  const second = at + width;
  if (k == LETTER) return endOfRun(second, LETTER);
  if (k == NUMBER) {
    let end = second;
    for (let i = 1; i < digits && classAt(end) == NUMBER; i++) end += width;
    return end;
  }
  if (first != 0x0d && first != 0x0a && classAt(second) == LETTER) return endOfRun(second, LETTER);
  const start = first == 0x20 ? second : at;
  if (isSymbol(classAt(start))) {
    let end = endOfSymbols(start);
    for (let b = byteAt(end); b == 0x0d || b == 0x0a; b = byteAt(end)) end++;
    return end;
  }
  // \s*[\r\n]+ reaches the last line end of the white space.
  let lineEnd: usize = 0;
  for (let p = at; classAt(p) == SPACE; p += width) if (codePoint == 0x0d || codePoint == 0x0a) lineEnd = p + 1;
  return lineEnd ? lineEnd : endOfSpaces(at);
}

function smollm(at: usize): usize {
  if (classAt(at) == NUMBER) return at + width;
  stop = STOP_NUMBERS;
  return gpt2(at);
}

@inline
function isDigit(at: usize): bool {
  return <u32>byteAt(at) - 0x30 < 10;
}

function fallback(at: usize): usize {
  let k = classAt(at);
  if (isMark(k)) {
    let end = at;
    for (; k != END && isMark(k); k = classAt(end)) end += width;
    return end;
  }
  stop = STOP_MARKS;
  const end = gpt2(at);
  if (load<u8>(at) == 0x20 && end > at + 1 && classAt(at + 1) == NUMBER) return at + 1;
  if (k != NUMBER) return end;
  for (let p = at; p + 3 <= end; p++) if (isDigit(p) && isDigit(p + 1) && isDigit(p + 2)) return p == at ? p + 3 : p;
  return end;
}

/** Where the word that begins at `at` ends, no further than `end`; the text is taken to end there. at < end. */
export function word_end(pre: i32, unicode: usize, at: usize, end: usize): usize {
  table = unicode;
  limit = end;
  stop = STOP_NEVER;
  touched = false;
  seen = 0;
  if (pre == Pre.gpt2) return gpt2(at);
  if (pre == Pre.llama3) return llama3(at, 3);
  if (pre == Pre.qwen2) return llama3(at, 1);
  if (pre == Pre.smollm) return smollm(at);
  return fallback(at);
}
