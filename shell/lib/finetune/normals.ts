// Normally distributed numbers from a seed, the same to the bit on every host: xoshiro128** (Blackman and Vigna, 2018) gives the bits, Marsaglia's
// polar method (1964) the shape, and the logarithm is this library's own, since hosts disagree in the last place of theirs.

import { ln } from '../exp.ts';

/** A generator of u32, its state filled from a seed by SplitMix32, so that neighbouring seeds have nothing in common. */
class Bits {
  private readonly s = new Uint32Array(4);

  constructor(seed: number) {
    let state = seed | 0;
    for (let i = 0; i < 4; i++) {
      state = (state + 0x9e3779b9) | 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      this.s[i] = z ^ (z >>> 15);
    }
  }

  next(): number {
    const { s } = this;
    const turned = Math.imul(s[1]!, 5);
    const out = Math.imul((turned << 7) | (turned >>> 25), 9) >>> 0;
    const t = s[1]! << 9;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= t;
    s[3] = (s[3]! << 11) | (s[3]! >>> 21);
    return out;
  }

  /** In (−1, 1), 53 bits. */
  signed(): number {
    const high = this.next() >>> 5;
    return (high * 2 ** 26 + (this.next() >>> 6)) * 2 ** -52 - 1;
  }
}

/** A stream of numbers from N(0, 1). */
export class Normals {
  private readonly bits: Bits;
  private spare: number | null = null;

  constructor(seed: number) {
    this.bits = new Bits(seed);
  }

  next(): number {
    if (this.spare !== null) {
      const x = this.spare;
      this.spare = null;
      return x;
    }
    for (;;) {
      const u = this.bits.signed();
      const v = this.bits.signed();
      const square = u * u + v * v;
      if (square >= 1 || square === 0) continue;
      const times = Math.sqrt((-2 * ln(square)) / square);
      this.spare = v * times;
      return u * times;
    }
  }
}
