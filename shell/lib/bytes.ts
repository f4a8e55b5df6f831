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
