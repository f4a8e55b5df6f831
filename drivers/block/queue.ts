// The request queue of a disk: reads are answered in the order they come in, and when each is done is known as soon as it is submitted. A
// device that takes several commands at once serves the latency of one while the one before it transfers; attempts after a failed one are
// made in place. Faults are put in from outside and strike by count or by place, never by chance: the same reads meet the same faults. After
// the request queue of Linux's block layer and its null_blk and dm-flakey.

import { E } from '../../kernel/abi/index.ts';
import type { DiskFault, DiskRates, ReadAnswer, RequestQueue } from '../../kernel/abi/index.ts';

/** A fault in place, and what it has seen. */
interface Planted {
  readonly fault: DiskFault;
  seen: number; // attempts it could have struck
  struck: number;
}

const FAILED = -1;

/** One attempt: how long it took, and how many of the bytes asked for it brought, or FAILED. */
interface Attempt {
  readonly latency: number;
  readonly transfer: number;
  readonly bytes: number;
}

export class Queue implements RequestQueue {
  idleAt = 0;
  private planted: Planted[] = [];
  /** When each read in flight is done, oldest first. */
  private pending: number[] = [];

  get faults(): readonly DiskFault[] {
    return this.planted.map(p => p.fault);
  }

  get isGone(): boolean {
    return this.planted.some(({ fault, struck }) => fault.kind === 'gone' && (fault.next === 0 || struck < fault.next));
  }

  inject(fault: DiskFault): void {
    this.planted.push({ fault, seen: 0, struck: 0 });
  }

  heal(): void {
    this.planted = [];
  }

  submit(rates: DiskRates, attempts: number, now: number, position: number, bytes: number): ReadAnswer {
    this.retire(now);
    // A device takes queueDepth commands at most: one more waits outside until the oldest of those is done.
    const full = this.pending.length - rates.queueDepth;
    const issued = rates.queueDepth > 1 && full >= 0 ? this.pending[full]! : now;
    const free = Math.max(this.idleAt, now);
    let doneAt = 0;
    let status = -E.IO;
    let made = 0;
    let from = position;
    const end = position + bytes;
    const worst = this.strikes('worst', position, end);
    while (made < attempts && status === -E.IO) {
      if (this.strikes('gone', from, end)) {
        status = -E.NODEV;
        doneAt = Math.max(doneAt, free);
        break;
      }
      const a = worst ? longest(rates, bytes, made === attempts - 1) : this.attempt(rates, from, end);
      const overlaps = rates.queueDepth > 1 && made === 0;
      doneAt = overlaps
        ? Math.max(free, issued + a.latency) + a.transfer
        : (made === 0 ? free : doneAt) + a.latency + a.transfer;
      made++;
      if (a.bytes > 0) from += a.bytes;
      if (from >= end) status = 0;
    }
    this.idleAt = doneAt;
    if (doneAt > now) this.pending.push(doneAt);
    return { beganAt: free, doneAt, status, attempts: made, sectors: sectorsOf(rates, position, from) };
  }

  private retire(now: number): void {
    let done = 0;
    while (done < this.pending.length && this.pending[done]! <= now) done++;
    if (done > 0) this.pending = this.pending.slice(done);
  }

  /** A healthy attempt at the bytes [from, end), and what faults make of it. */
  private attempt(rates: DiskRates, from: number, end: number): Attempt {
    const fails = this.strikes('error', from, end);
    const bytes = fails ? end - from : this.brings(rates, from, end);
    const moved = sectorsOf(rates, from, from + bytes) * rates.sectorBytes;
    const factor = this.slowness(from, end);
    const latency = Math.ceil(rates.latency.typical * factor);
    const transfer = Math.ceil(rates.transfer(moved, 'typical') * factor);
    // Nobody waits longer for a command than the worst that its device is known for.
    const worst = rates.transfer(moved, 'most');
    const givenUp = latency > rates.latency.most || transfer > worst;
    return {
      latency: Math.min(latency, rates.latency.most),
      transfer: Math.min(transfer, worst),
      bytes: fails || givenUp ? FAILED : bytes,
    };
  }

  /** Bytes that an attempt brings: all, or the first half of the sectors. */
  private brings(rates: DiskRates, from: number, end: number): number {
    if (!this.strikes('short', from, end)) return end - from;
    const sectors = sectorsOf(rates, from, end);
    if (sectors < 2) return end - from;
    const first = Math.floor(from / rates.sectorBytes);
    return (first + (sectors >> 1)) * rates.sectorBytes - from;
  }

  private slowness(from: number, end: number): number {
    let factor = 1;
    for (const p of this.planted) if (p.fault.kind === 'slow' && strikes(p, from, end)) factor *= p.fault.factor;
    return factor;
  }

  /** Whether a fault of that kind strikes; each that could is told of the attempt. */
  private strikes(kind: DiskFault['kind'], from: number, end: number): boolean {
    let any = false;
    for (const p of this.planted) if (p.fault.kind === kind && strikes(p, from, end)) any = true;
    return any;
  }
}

function strikes(p: Planted, from: number, end: number): boolean {
  const { fault } = p;
  if (end <= fault.from || from > fault.to) return false;
  if (fault.next > 0 && p.struck >= fault.next) return false;
  if (++p.seen % fault.every !== 0) return false;
  p.struck++;
  return true;
}

/** The longest attempt at so many bytes, wherever they lie. */
function longest(rates: DiskRates, bytes: number, succeeds: boolean): Attempt {
  const { sectorBytes, latency } = rates;
  const transfer = rates.transfer(Math.ceil((bytes + sectorBytes - 1) / sectorBytes) * sectorBytes, 'most');
  return { latency: latency.most, transfer, bytes: succeeds ? bytes : FAILED };
}

/** Sectors that the bytes [from, end) touch. */
function sectorsOf({ sectorBytes }: DiskRates, from: number, end: number): number {
  return end <= from ? 0 : Math.floor((end - 1) / sectorBytes) - Math.floor(from / sectorBytes) + 1;
}
