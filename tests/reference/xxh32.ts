// XXH32 as its specification has it (xxHash fast digest algorithm, version 0.2.0, Yann Collet), one 32-bit number at a time: what the checksum
// over logits is held against. Written from the document's text, sharing nothing with the kernel.

const [P1, P2, P3, P4, P5] = [2654435761, 2246822519, 3266489917, 668265263, 374761393];

const times = (a: number, b: number): number => Math.imul(a, b) >>> 0;
const plus = (a: number, b: number): number => (a + b) >>> 0;
const rotated = (x: number, by: number): number => ((x << by) | (x >>> (32 - by))) >>> 0;

export type Lanes = readonly [number, number, number, number];

/** Step 1: the accumulators of a seed. */
export const lanesOf = (seed: number): Lanes => [plus(plus(seed, P1), P2), plus(seed, P2), seed, (seed - P1) >>> 0];

/** Step 2: whole stripes of 16 bytes, a lane to each 32 bits of them, little-endian. */
export function consume(lanes: Lanes, bytes: Uint8Array): Lanes {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const acc = [...lanes];
  for (let at = 0; at + 16 <= bytes.length; at += 16)
    for (let i = 0; i < 4; i++)
      acc[i] = times(rotated(plus(acc[i]!, times(view.getUint32(at + 4 * i, true), P2)), 13), P1);
  return acc as unknown as Lanes;
}

/** Step 3: four lanes to one. */
const converge = ([a, b, c, d]: Lanes): number =>
  [rotated(a, 1), rotated(b, 7), rotated(c, 12), rotated(d, 18)].reduce(plus);

/** Steps 3, 4 and 6: lanes that have consumed `length` bytes, whole stripes and at least one, folded into the hash of those bytes. */
export const fold = (lanes: Lanes, length: number): number => avalanche(plus(converge(lanes), length));

function avalanche(hash: number): number {
  let h = hash;
  h = times(h ^ (h >>> 15), P2);
  h = times(h ^ (h >>> 13), P3);
  return (h ^ (h >>> 16)) >>> 0;
}

/** The whole hash of any bytes. */
export function xxh32(bytes: Uint8Array, seed: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = bytes.length - (bytes.length % 16);
  let h = plus(at === 0 ? plus(seed, P5) : converge(consume(lanesOf(seed), bytes)), bytes.length);
  for (; at + 4 <= bytes.length; at += 4) h = times(rotated(plus(h, times(view.getUint32(at, true), P3)), 17), P4);
  for (; at < bytes.length; at++) h = times(rotated(plus(h, times(bytes[at]!, P5)), 11), P1);
  return avalanche(h);
}
