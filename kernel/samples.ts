// The last so many samples of a quantity, and their percentiles as the specification takes them: the sample at index ⌊(n − 1) · q⌋ of the
// sorted ones (SIS §17).

import { SAMPLES } from './abi/index.ts';

export class Samples {
  private readonly ring = new Float64Array(SAMPLES);
  private count = 0;

  add(value: number): void {
    this.ring[this.count++ % SAMPLES] = value;
  }

  /** 0 while there is no sample. */
  percentile(q: number): number {
    const n = Math.min(this.count, SAMPLES);
    if (n === 0) return 0;
    return this.ring.slice(0, n).sort()[Math.floor((n - 1) * q)]!;
  }
}
