// How many columns a character takes on a terminal, and where one user-perceived character ends. A terminal's cells are fixed, so the
// editor and pager must agree with it about widths; the table is pinned here (Unicode 17.0) because engines ship different Unicode versions.
// Two columns: East_Asian_Width W or F. None: combining marks (Mn, Me), format characters (Cf) other than the soft hyphen, and the Hangul
// vowels and finals that join the syllable before them. One: everything else. After Markus Kuhn's wcwidth.

/** Ranges as base-36 pairs: distance from the end of the range before, length − 1. Unassigned code points between two ranges are taken in. */
const NONE =
  'lc 33 7o 6 7c 18 2 0 2 1 2 1 2 0 1l 5 b a 2 0 1b k h 0 2u 7 2 5 3 1 2 3 y 0 2 0 v q 2k a 1n 8 a 0 p 3 2 8 2 ' +
  '2 2 4 18 2 1h f 17 1k 1k 0 2 0 5 7 5 0 4 6 b 1 u 0 1n 0 5 3 9 0 l 1 r 4 1m 0 5 g v 1 4 0 c 1 1m 0 5 7 5 0 l ' +
  '1 n 7 1n 0 3 0 2 3 9 9 c 1 v 0 1q 0 d 0 1f 0 4 0 1k 0 2 2 6 g c 1 u 0 1n 0 3 0 7 0 6 1 l 1 t 1 1m 1 5 3 9 0 ' +
  'l 1 u 0 21 0 8 4 2j 0 3 6 d 7 2r 0 3 8 c 6 22 1 s 0 2 0 2 0 1k d 2 4 2 1 6 1b a 0 2v 3 2 5 2 1 3 1 q 1 5 2 h ' +
  '3 e 0 3 1 7 0 g 0 5f 4f 9q 2 qb 2 u 1 v 1 v 1 1t 1 2 6 9 0 3 a a 0 1a 4 3a 1 z 0 3b 2 5 1 a 0 7 2 64 1 3 0 ' +
  '1n 0 2 8 2 0 3 7 7 c 1d 2b 1d 0 2 4 2 0 6 0 15 8 d 1 x 3 3 1 2 2 1l 0 2 1 4 0 2 2 1n 7 3 1 49 2 2 c 2 6 5 0 ' +
  '7 0 4 1 5j 1r ek 4 r 4 1e f 2p w 2db 2 3y 0 2p v ff 3 30 1 n9x 3 2 9 x 1 29 1 7l 0 4 0 5 0 q 1 6 0 48 1 r h ' +
  'e 0 13 7 q a 1b 2 1d 0 3 3 3 1 14 0 1w 5 3 1 3 1 d 0 9 0 1c 0 1g 0 2 2 3 1 6 1 2 0 17 1 9 0 6n 0 3 0 5 0 8n7 ' +
  '27 6xr 0 ki f h f 5s 0 6y 2 ea 0 6b 0 46 4 1af e 15 7 4m 1 fy 3 1u 4 8u 1 26 5 1z a 1e 3 3g 0 1j e 16 0 3 1 ' +
  'b 2 1e 3 3 1 3 0 5 b 1f 2 11 4 2 7 1r 0 d 1 1h 8 b 3 3 0 2o 2 3 0 2 1 7 0 3 0 4e 0 4 7 m 1 1m 1 4 0 12 e 1z ' +
  '5 e 0 2 0 2 0 f 1 2e 7 3 2 2 0 o 0 2d 5 2 0 5 1 2 1 6n 3 7 1 2 1 s 1 2e 7 3 0 2 1 2z 0 2 0 3 5 2 0 2u 0 2 0 ' +
  '3 3 2 4 78 8 2 1 75 1 2 0 5 0 41 7 5 0 x 9 15 5 3 3 9 0 a 5 3 2 1b c 2 1 5j 0 2 2 2 0 5m d 2 0 2b l 3 6 2 1 ' +
  '2 1 3f k 2 0 21 1 4 0 2 0 9o 1 c 1 1h 4 6 0 2 0 o 0 446 g 7 e 8uh b 4 2 1xd 4 1o 6 t5 0 1s 3 2a 0 f5l 1 2 3 ' +
  '3ml 1y f5 2 a f 3 6 v 3 45 2 1j0 1i 5 1d 9 0 f 0 n k 11t 16 2t 0 4h 6 ag 0 1q 3 e5 3 73 1 6s 0 3 0 8 1 6 0 ' +
  'd7 6 32 6 gzav dq';
const WIDE =
  '3cw 2n 3i3 1 e 1 5b 3 4 0 3 0 ei 1 m 1 r 7 h b 18 0 b 5 4 0 e 0 9 1 i 1 6 1 9 0 6 0 m 0 8 1 2 0 5 0 3 0 8 0 ' +
  '5 1 t 0 10 0 2 0 5 2 2 0 1q 2 p 0 f 0 nw 1 1g 0 5 0 mj bt 5 g 3 2d 5 bw 9 mly wq s hw 8mb 6l9 e7 lt 9 n 1n ' +
  '46 2n 3k 6 m4a 3 d d8r 6bp 3a 5n2 0 5n 0 5b 0 3 9 k 0 2a 80 d 8 2 1x 2 l d 16 5 4 d g 4 0 4 1y 2 0 2 56 3 1q ' +
  'e 3 2 n j 0 r 1 e 0 2f 2c 1d 1x 7 0 4 2 3 a c 1 8 8 66 m 7w 1a 2 9 2 54 35 3u zq 2t4t';

function decode(table: string): Uint32Array {
  let at = 0;
  return Uint32Array.from(table.split(' '), delta => (at += Number.parseInt(delta, 36)));
}
const none = decode(NONE);
const wide = decode(WIDE);

/** True when `c` lies in one of the ranges [first, last, first, last, …]. */
function within(ranges: Uint32Array, c: number): boolean {
  let low = 0;
  let high = ranges.length >> 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranges[2 * middle + 1]! < c) low = middle + 1;
    else high = middle;
  }
  return 2 * low < ranges.length && ranges[2 * low]! <= c;
}

/** Columns of a code point: 0, 1 or 2. Control characters have no width of their own and count as 1. */
export function codePointWidth(c: number): 0 | 1 | 2 {
  if (c < 0x300) return 1;
  return within(none, c) ? 0 : within(wide, c) ? 2 : 1;
}

/** Columns that text takes when none of it is a control character. */
export function textWidth(s: string): number {
  let columns = 0;
  for (let i = 0; i < s.length; i++) {
    const c = s.codePointAt(i)!;
    columns += codePointWidth(c);
    if (c > 0xffff) i++;
  }
  return columns;
}

const JOINER = 0x200d;

/** Characters that are shown by others: no mark can stand on them. */
export const isControl = (c: number): boolean => c < 0x20 || (c >= 0x7f && c < 0xa0);

/** Does the code point `c`, standing after `before`, belong to the same character? Marks do, and what an emoji joiner joins. */
function continues(before: number, c: number): boolean {
  return !isControl(before) && (codePointWidth(c) === 0 || before === JOINER);
}

/** Where the character that begins at `i` ends (UTF-16 index). */
export function nextCharacter(s: string, i: number): number {
  if (i >= s.length) return s.length;
  let before = s.codePointAt(i)!;
  let end = i + (before > 0xffff ? 2 : 1);
  while (end < s.length) {
    const c = s.codePointAt(end)!;
    if (!continues(before, c)) break;
    end += c > 0xffff ? 2 : 1;
    before = c;
  }
  return end;
}

/** Where the character that ends at `i` begins. */
export function previousCharacter(s: string, i: number): number {
  let start = i;
  while (start > 0) {
    start -= start > 1 && isLow(s.charCodeAt(start - 1)) && isHigh(s.charCodeAt(start - 2)) ? 2 : 1;
    if (start === 0 || !continues(codePointBefore(s, start), s.codePointAt(start)!)) break;
  }
  return start;
}

const isHigh = (unit: number): boolean => (unit & 0xfc00) === 0xd800;
const isLow = (unit: number): boolean => (unit & 0xfc00) === 0xdc00;

function codePointBefore(s: string, i: number): number {
  const unit = s.charCodeAt(i - 1);
  return i > 1 && isLow(unit) && isHigh(s.charCodeAt(i - 2)) ? s.codePointAt(i - 2)! : unit;
}
