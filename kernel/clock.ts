// The one clock: virtual cycles, a 64-bit integer in the arena, advanced by executed cost, by a fixed price per system call, and by
// device completions — never by the host. Every cycle is booked to an account, and the accounts add up to the clock. Nanoseconds are derived
// exactly, by integer division, from the moment the simulated processor was last switched, as an operating system does when a clock source
// changes its rate.

import { layout, type ArenaView } from './abi/index.ts';
import { panic } from './panic.ts';

/** What cycles are spent on: ops of plans, all other kernels, system calls, switches between processes, storage, weights that were waited for, the audit log, waiting. */
export const ACCOUNTS = ['plan', 'kernels', 'calls', 'switches', 'transfers', 'stalls', 'audit', 'idle'] as const;
export type Account = (typeof ACCOUNTS)[number];

/** The clock in the kernel tables. nanoseconds = baseNs + ⌊(cycles − baseCycles) · 10⁹ / hz⌋. */
export const ClockRecord = layout({
  cycles: 'u64', // since power-on
  baseCycles: 'u64', // at the last switch of processors
  baseNs: 'u64',
  hz: 'u64', // of the processor since then
  plan: 'u64', // ACCOUNTS
  kernels: 'u64',
  calls: 'u64',
  switches: 'u64',
  transfers: 'u64',
  stalls: 'u64',
  audit: 'u64',
  idle: 'u64',
});
const field = ClockRecord.at;

/** The last moment that is exact as a number: 69 days at 1.5 GHz, 104 days of nanoseconds. Nobody sleeps past it. */
export const CYCLES_MAX = Number.MAX_SAFE_INTEGER;
export const NS_MAX = Number.MAX_SAFE_INTEGER;

/** hot: adds an integer below 2⁵³ to the u64 whose low word is `u32[i]`. */
export function addU64(u32: Uint32Array, i: number, n: number): void {
  const high = Math.floor(n / 4294967296);
  const low = u32[i]! + (n - high * 4294967296);
  u32[i] = low;
  u32[i + 1] = u32[i + 1]! + high + (low >= 4294967296 ? 1 : 0);
}

export class Clock {
  constructor(
    private readonly arena: ArenaView,
    /** ClockRecord in the kernel tables. */
    private readonly at: number,
    hz: number,
  ) {
    ClockRecord.write(arena.u8, at, { hz });
  }

  /** hot: adds cycles, an integer below 2⁵³, and books them. */
  advance(cycles: number, account: Account): void {
    addU64(this.arena.u32, (this.at + field.cycles) >> 2, cycles);
    addU64(this.arena.u32, (this.at + field[account]) >> 2, cycles);
  }

  /** Cycles since power-on; exact below 2⁵³ (69 days at 1.5 GHz). */
  cycles(): number {
    return this.u64('cycles');
  }

  get hz(): number {
    return this.u64('hz');
  }

  nowNs(): number {
    const elapsed = BigInt(this.cycles() - this.u64('baseCycles'));
    return this.u64('baseNs') + Number((elapsed * 1_000_000_000n) / BigInt(this.hz));
  }

  /** The first cycle of the processor in force at which the clock shows `ns`, a moment not before the last switch. */
  cyclesAt(ns: number): number {
    const elapsed = BigInt(ns - this.u64('baseNs'));
    return this.u64('baseCycles') + Number((elapsed * BigInt(this.hz) + 999_999_999n) / 1_000_000_000n);
  }

  /** Cycles of the processor in force that fit into `ns`. */
  cyclesIn(ns: number): number {
    return Number((BigInt(ns) * BigInt(this.hz)) / 1_000_000_000n);
  }
  /** Nanoseconds that `cycles` take, rounded up. */
  nsOf(cycles: number): number {
    return Number((BigInt(cycles) * 1_000_000_000n + BigInt(this.hz) - 1n) / BigInt(this.hz));
  }

  /** Jumps forward to a later moment: nothing was runnable until then. */
  jumpTo(cycles: number): void {
    const idle = cycles - this.cycles();
    if (idle > 0) this.advance(idle, 'idle');
  }

  /** Another processor from now on: its cycles are counted on, and time goes on from where it is. */
  switchTo(hz: number): void {
    const baseNs = this.nowNs();
    ClockRecord.write(this.arena.u8, this.at, { ...this.record(), baseCycles: this.cycles(), baseNs, hz });
  }

  record(): ReturnType<typeof ClockRecord.read> {
    return ClockRecord.read(this.arena.u8, this.at);
  }

  /** Panics unless the accounts add up to the clock. */
  check(): void {
    const record = this.record();
    const sum = ACCOUNTS.reduce((n, account) => n + record[account], 0);
    if (sum !== record.cycles) panic(`the clock shows ${record.cycles} cycles, its accounts ${sum}`);
  }

  private u64(name: keyof typeof field): number {
    const i = (this.at + field[name]) >> 2;
    return this.arena.u32[i]! + this.arena.u32[i + 1]! * 4294967296;
  }
}
