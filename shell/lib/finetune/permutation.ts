// A seeded order of examples that takes no memory: the place of each is computed from its index. A balanced Feistel network (Luby and Rackoff,
// 1988) over the next power of four, walked until it is back in range (Black and Rogaway's cycle walking, 2002).

const ROUNDS = 6;

/** The `i`-th of the numbers 0 … n - 1 in the order that `seed` and `round` name; n ≤ 2³⁰. */
export function permuted(i: number, n: number, seed: number, round: number): number {
  let bits = 1; // of each half
  while (2 ** (2 * bits) < n) bits++;
  const mask = 2 ** bits - 1;
  let x = i;
  do {
    let left = x >>> bits;
    let right = x & mask;
    for (let r = 0; r < ROUNDS; r++)
      [left, right] = [right, left ^ (mixed(right ^ mixed(seed ^ mixed(round * ROUNDS + r))) & mask)];
    x = ((left << bits) | right) >>> 0;
  } while (x >= n);
  return x;
}

/** A bijection of 32 bits in which each depends on all (the finalizer of MurmurHash3, Appleby). */
export function mixed(value: number): number {
  let h = (value + 0x9e3779b9) | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
