// Pacing: how long a paced session waits between two tokens, as a share of what a request may take (SIS §10). The scale is set by hand or
// moves by itself, up quickly under pressure and down slowly with slack, as congestion control does. A pace delays; it promises nothing.

import { layout, type ArenaView } from './abi/index.ts';

/** In the kernel tables. */
const PaceRecord = layout({
  scale: 'u32', // percent
  auto: 'u32', // 1: the scale moves by itself
});

export const PACE_BYTES = PaceRecord.bytes;

/** Percent. */
export const PACE = { least: 50, most: 500, start: 100, up: 10, down: 5 } as const;

export class Pace {
  constructor(
    private readonly arena: ArenaView,
    /** PACE_BYTES in the kernel tables. */
    private readonly at: number,
  ) {
    this.set(PACE.start, false);
  }

  get scale(): number {
    return this.arena.u32[(this.at + PaceRecord.at.scale) >> 2]!;
  }
  get auto(): boolean {
    return this.arena.u32[(this.at + PaceRecord.at.auto) >> 2] !== 0;
  }

  /** A scale beyond its limits becomes the nearest within. */
  set(scale: number, auto: boolean): void {
    PaceRecord.write(this.arena.u8, this.at, {
      scale: Math.min(PACE.most, Math.max(PACE.least, scale)),
      auto: Number(auto),
    });
  }

  /** A request has ended. Pressure: it missed its bound, or others wait. */
  after({ missed, queued }: { readonly missed: boolean; readonly queued: number }): void {
    if (!this.auto) return;
    this.set(this.scale + (missed || queued > 0 ? PACE.up : -PACE.down), true);
  }

  /** Nanoseconds between two tokens of a request that takes `wcetNs` and draws at most `cap` ≥ 1: ⌊wcetNs · scale / (100 · cap)⌋, exactly. */
  delayNs(wcetNs: number, cap: number): number {
    const parts = 100 * cap;
    // The remainder is below 100 · 512, times 500 below 2²⁵: nothing passes 2⁵³ as the whole product could.
    return Math.floor(wcetNs / parts) * this.scale + Math.floor(((wcetNs % parts) * this.scale) / parts);
  }
}
