// Byte strings: JavaScript strings with one character a byte, 0 to 255. The text programs work on them because they compare, cut and search
// like strings, hold any bytes, and order as the C locale does; UTF-8 passes through unchanged, each character as its several bytes.

import { utf8Encode } from '../../kernel/abi/index.ts';

const pieceBytes = 8192; // String.fromCharCode takes its arguments on the stack

export function byteString(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    text += String.fromCharCode(...bytes.subarray(at, at + pieceBytes));
  }
  return text;
}

/** An argument of the command line, which is text, as its bytes. */
export const argumentBytes = (text: string): string => byteString(utf8Encode(text));

export function bytesOf(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** A line without its end, `delimiter` being a byte. */
export function lineText(line: Uint8Array, delimiter: number): string {
  return byteString(line.at(-1) === delimiter ? line.subarray(0, -1) : line);
}

export const NEWLINE = 10;
/** What ends lines: a newline, or with -z a zero byte. */
export const lineEnd = (zero: boolean): number => (zero ? 0 : NEWLINE);

export const isBlank = (byte: string | undefined): boolean => byte === ' ' || byte === '\t';
/** Blanks of the C locale, and the newline that -z leaves inside lines. */
export const isFieldBlank = (byte: string | undefined): boolean => isBlank(byte) || byte === '\n';
export const isPrintable = (byte: number): boolean => byte >= 32 && byte < 127;

/** Letters a to z in upper case; other bytes, those of UTF-8 too, stay. String.toUpperCase would change them. */
export const foldCase = (text: string): string => text.replace(/[a-z]+/g, letters => letters.toUpperCase());

/** A line's characters as code points, and the byte that each begins at (one more, for the end). A byte that is no UTF-8 is U+DC00 + byte. */
export interface Characters {
  readonly codes: Int32Array;
  readonly at: Int32Array;
}

export function decodeCharacters(bytes: Uint8Array): Characters {
  const codes = new Int32Array(bytes.length);
  const at = new Int32Array(bytes.length + 1);
  let count = 0;
  for (let i = 0; i < bytes.length;) {
    const length = sequenceBytes(bytes, i);
    let code = bytes[i]!;
    if (length > 1) {
      code &= 0xff >> (length + 1);
      for (let k = 1; k < length; k++) code = (code << 6) | (bytes[i + k]! & 0x3f);
    } else if (code >= 0x80) code += 0xdc00;
    at[count] = i;
    codes[count++] = code;
    i += length;
  }
  at[count] = bytes.length;
  return { codes: codes.subarray(0, count), at: at.subarray(0, count + 1) };
}

/** Bytes of the UTF-8 character at `i`; 1 when there is none (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF). */
function sequenceBytes(bytes: Uint8Array, i: number): number {
  const lead = bytes[i]!;
  const length = lead < 0xc2 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 1;
  for (let k = 1; k < length; k++) {
    const byte = bytes[i + k] ?? 0;
    const low = k > 1 ? 0x80 : lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
    const high = k > 1 ? 0xbf : lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
    if (byte < low || byte > high) return 1;
  }
  return length;
}
