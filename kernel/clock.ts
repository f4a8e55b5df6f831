// The one clock: virtual cycles, a 64-bit integer in the arena, advanced by executed cost, by a fixed price per system call, and by
// device completions — never by the host. Nanoseconds are derived from it exactly, by integer division.

import type { ArenaView } from './abi/index.ts';

/** Prices that are not plan ops. Provisional figures, stated so that they can be argued with; plan ops carry their own. */
export const CYCLES = {
  /** Entry, checks, dispatch, exit of one system call on an in-order core: a few hundred instructions. */
  syscall: 600,
  /** Switch to another process. */
  contextSwitch: 1200,
  /** One byte moved between a storage device and the arena: about 1.5 GB/s at 1.5 GHz. */
  dmaByte: 1,
} as const;

/** The last moment that is exact as a number: 69 days at 1.5 GHz. Nobody sleeps past it. */
export const CYCLES_MAX = Number.MAX_SAFE_INTEGER;

export class Clock {
  constructor(
    private readonly arena: ArenaView,
    /** u64 in the kernel tables. */
    private readonly at: number,
    readonly hz: number,
  ) {}

  /** hot: adds up to 2³² − 1 cycles. */
  advance(cycles: number): void {
    const u32 = this.arena.u32;
    const i = this.at >> 2;
    const low = u32[i]! + cycles;
    u32[i] = low;
    if (low >= 4294967296) u32[i + 1] = u32[i + 1]! + 1;
  }

  /** Cycles since power-on; exact below 2⁵³ (69 days at 1.5 GHz). */
  cycles(): number {
    const i = this.at >> 2;
    return this.arena.u32[i]! + this.arena.u32[i + 1]! * 4294967296;
  }

  nowNs(): number {
    return this.toNs(this.cycles());
  }

  toNs(cycles: number): number {
    return Number((BigInt(cycles) * 1_000_000_000n) / BigInt(this.hz));
  }

  toCycles(ns: number): number {
    return Number((BigInt(ns) * BigInt(this.hz) + 999_999_999n) / 1_000_000_000n);
  }

  /** Jumps forward to a later moment: nothing was runnable until then. */
  jumpTo(cycles: number): void {
    if (cycles <= this.cycles()) return;
    const i = this.at >> 2;
    this.arena.u32[i] = cycles % 4294967296;
    this.arena.u32[i + 1] = Math.floor(cycles / 4294967296);
  }
}
