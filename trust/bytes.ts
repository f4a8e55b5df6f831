// What the formats of this room share: SHA-256, byte strings put together and compared, and their refusals. Two kinds only:
// `malformed` (these bytes are not such a thing) and `unproven` (they are, and what they claim does not hold).

import { sha256 as digest } from '@noble/hashes/sha2.js';
import { refuse } from '../kernel/abi/index.ts';
import type { Refusal } from '../kernel/abi/index.ts';

/** SHA-256 of the parts one after the other; hosts may hand in their native one. */
export type Sha256 = (...parts: readonly Uint8Array[]) => Uint8Array;

export const HASH_BYTES = 32;

export const sha256: Sha256 = (...parts) => {
  const hash = digest.create();
  for (const part of parts) hash.update(part);
  return hash.digest();
};

export const malformed = (message: string): Refusal => refuse('INVAL', 0, message);
export const unproven = (message: string): Refusal => refuse('PROTO', 0, message);

/** In a time that depends on the lengths alone, so that it serves for secrets too. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.length ^ b.length;
  for (let i = 0; i < a.length; i++) difference |= a[i]! ^ (b[i] ?? 0);
  return difference === 0;
}

/** The parts one after the other. */
export function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, p) => sum + p.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

const HEX = '0123456789abcdef';
const BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

export function toHex(bytes: Uint8Array): string {
  let text = '';
  for (const b of bytes) text += HEX[b >> 4]! + HEX[b & 15]!;
  return text;
}

/** The bytes of hexadecimal digits in either case, or null. */
export function fromHex(text: string): Uint8Array | null {
  if (text.length % 2 !== 0 || !/^[0-9a-f]*$/i.test(text)) return null;
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => Number.parseInt(text.slice(2 * i, 2 * i + 2), 16));
}

/** RFC 4648 base64, padded. */
export function toBase64(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 3) {
    const left = bytes.length - i;
    const word = (bytes[i]! << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    text += BASE64[word >> 18]! + BASE64[(word >> 12) & 63]!;
    text += left > 1 ? BASE64[(word >> 6) & 63]! : '=';
    text += left > 2 ? BASE64[word & 63]! : '=';
  }
  return text;
}

/** The bytes that `toBase64` writes as `text`, or null: padding is asked for, and bits without a meaning must be 0 (RFC 4648 §3.5). */
export function fromBase64(text: string): Uint8Array | null {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return null;
  const digits = text.replace(/=+$/, '');
  const bytes = new Uint8Array(Math.floor((digits.length * 3) / 4));
  let [word, bits, at] = [0, 0, 0];
  for (const digit of digits) {
    word = ((word << 6) | BASE64.indexOf(digit)) & 0xfff;
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes[at++] = word >> bits;
  }
  return (word & ((1 << bits) - 1)) === 0 ? bytes : null;
}
