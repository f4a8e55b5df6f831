// UTF-8, both ways, without the host's TextEncoder: the deterministic rooms do not see the host. Decoding replaces each maximal invalid
// part by U+FFFD, as the WHATWG Encoding Standard does; a test holds it against TextDecoder.

export function utf8Length(s: string): number {
  let n = 0;
  for (let i = 0; i < s.length; i++) {
    const c = s.charCodeAt(i);
    if (c < 0x80) n += 1;
    else if (c < 0x800) n += 2;
    else if (c >= 0xd800 && c < 0xdc00 && i + 1 < s.length && (s.charCodeAt(i + 1) & 0xfc00) === 0xdc00) {
      n += 4;
      i++;
    } else n += 3;
  }
  return n;
}

/** Writes `s` at `at`, at most `cap` bytes; returns the bytes written, or -1 when it does not fit (nothing useful is then written). Lone surrogates become U+FFFD. */
export function utf8Write(s: string, into: Uint8Array, at: number, cap: number): number {
  let p = at;
  const end = at + cap;
  for (let i = 0; i < s.length; i++) {
    let c = s.charCodeAt(i);
    if ((c & 0xf800) === 0xd800) {
      const low = i + 1 < s.length ? s.charCodeAt(i + 1) : 0;
      if (c < 0xdc00 && (low & 0xfc00) === 0xdc00) {
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        i++;
      } else c = 0xfffd;
    }
    const n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    if (p + n > end) return -1;
    if (n === 1) into[p++] = c;
    else if (n === 2) {
      into[p++] = 0xc0 | (c >> 6);
      into[p++] = 0x80 | (c & 63);
    } else if (n === 3) {
      into[p++] = 0xe0 | (c >> 12);
      into[p++] = 0x80 | ((c >> 6) & 63);
      into[p++] = 0x80 | (c & 63);
    } else {
      into[p++] = 0xf0 | (c >> 18);
      into[p++] = 0x80 | ((c >> 12) & 63);
      into[p++] = 0x80 | ((c >> 6) & 63);
      into[p++] = 0x80 | (c & 63);
    }
  }
  return p - at;
}

export function utf8Encode(s: string): Uint8Array {
  const out = new Uint8Array(utf8Length(s));
  utf8Write(s, out, 0, out.length);
  return out;
}

/**
 * Length in bytes of the well-formed sequence at `i`, or minus the length of the maximal invalid part (Unicode §3.9, table 3-7), or 0
 * when the bytes up to `end` are a good beginning that is merely unfinished.
 */
export function utf8Step(b: Uint8Array, i: number, end: number): number {
  const c = b[i]!;
  if (c < 0x80) return 1;
  if (c < 0xc2 || c > 0xf4) return -1;
  const n = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
  for (let k = 1; k < n; k++) {
    if (i + k >= end) return 0;
    const d = b[i + k]!;
    let lo = 0x80;
    let hi = 0xbf;
    if (k === 1) {
      if (c === 0xe0) lo = 0xa0;
      else if (c === 0xed) hi = 0x9f;
      else if (c === 0xf0) lo = 0x90;
      else if (c === 0xf4) hi = 0x8f;
    }
    if (d < lo || d > hi) return -k;
  }
  return n;
}

/** UTF-16 units of a piece of text on its way into a string: appending characters one by one is a hundred times slower, a typed array six times. */
const units: number[] = Array.from({ length: 4096 }, () => 0);

export function utf8Decode(b: Uint8Array, start = 0, end = b.length): string {
  let s = '';
  let filled = 0;
  for (let i = start; i < end;) {
    if (filled > units.length - 2) {
      s += textOf(filled);
      filled = 0;
    }
    const plainEnd = Math.min(end, i + units.length - filled);
    while (i < plainEnd && b[i]! < 0x80) units[filled++] = b[i++]!;
    if (i === plainEnd || filled > units.length - 2) continue;
    const n = utf8Step(b, i, end);
    if (n <= 0) {
      units[filled++] = 0xfffd;
      i += n === 0 ? end - i : -n;
      continue;
    }
    const c = b[i]!;
    if (n === 2) units[filled++] = ((c & 31) << 6) | (b[i + 1]! & 63);
    else if (n === 3) units[filled++] = ((c & 15) << 12) | ((b[i + 1]! & 63) << 6) | (b[i + 2]! & 63);
    else {
      const point = ((c & 7) << 18) | ((b[i + 1]! & 63) << 12) | ((b[i + 2]! & 63) << 6) | (b[i + 3]! & 63);
      units[filled++] = 0xd7c0 + (point >> 10); // 0xd800 - (0x10000 >> 10)
      units[filled++] = 0xdc00 | (point & 0x3ff);
    }
    i += n;
  }
  return s + textOf(filled);
}

/** The first `n` of `units` as a string. */
function textOf(n: number): string {
  return String.fromCharCode.apply(null, units.slice(0, n));
}

/** True when the bytes are well-formed UTF-8. */
export function utf8Valid(b: Uint8Array, start = 0, end = b.length): boolean {
  for (let i = start; i < end;) {
    const n = utf8Step(b, i, end);
    if (n <= 0) return false;
    i += n;
  }
  return true;
}
