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

/** Whether two public byte strings are the same; not for secrets: it stops at the first difference. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
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
