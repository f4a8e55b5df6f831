// The swap device: pages of keys and values that wait, each with its record, in storage beside the arena as a disk is. Slots of equal size,
// the lowest free one first; storage is taken from the host piece by piece, when a slot in it is first written, LIMITS.swapBytes in all.
// Programs may look at it as /dev/ram1, as at a disk; /proc/swaps shows it in Linux's columns.

import { LIMITS, PAGE_RECORD_BYTES, type ArenaView } from './abi/index.ts';
import type { SwapDevice } from './pages.ts';
import { panic } from './panic.ts';
import type { Disk } from '../vfs/fs-dev.ts';

const PIECE_BYTES = 1024 * 1024; // 32 pieces are the whole device
const EMPTY = new Uint8Array(0);

export class Swap implements SwapDevice, Disk {
  private readonly pieces: Uint8Array[];
  private pageBytes = 0;
  private taken = EMPTY; // a byte a slot: 1 when something is stored there
  private used = 0;
  private lowest = 0; // no slot below it is free

  constructor(
    private readonly arena: ArenaView,
    readonly bytes: number = LIMITS.swapBytes,
  ) {
    this.pieces = Array.from({ length: Math.ceil(bytes / PIECE_BYTES) }, () => EMPTY);
  }

  format(pageBytes: number): void {
    this.pageBytes = pageBytes;
    this.taken = new Uint8Array(pageBytes === 0 ? 0 : Math.floor(this.bytes / this.slotBytes()));
    this.used = 0;
    this.lowest = 0;
  }

  put(pageAt: number, recordAt: number): number {
    const slot = this.taken.indexOf(0, this.lowest);
    if (slot < 0) return -1;
    this.taken[slot] = 1;
    this.used++;
    this.lowest = slot + 1;
    const at = slot * this.slotBytes();
    this.write(at, pageAt, this.pageBytes);
    this.write(at + this.pageBytes, recordAt, PAGE_RECORD_BYTES);
    return slot;
  }

  take(slot: number, pageAt: number, recordAt: number): void {
    this.drop(slot);
    const at = slot * this.slotBytes();
    this.read(this.arena.u8, at, pageAt, this.pageBytes);
    this.read(this.arena.u8, at + this.pageBytes, recordAt, PAGE_RECORD_BYTES);
  }

  drop(slot: number): void {
    if (this.taken[slot] !== 1) panic(`slot ${slot} of the swap device holds nothing`);
    this.taken[slot] = 0;
    this.used--;
    this.lowest = Math.min(this.lowest, slot);
  }

  /** Pages that it holds, and that it could hold. */
  usage(): { readonly used: number; readonly slots: number } {
    return { used: this.used, slots: this.taken.length };
  }

  /** /proc/swaps, in units of 1,024 bytes. */
  text(): string {
    const used = Math.ceil((this.used * this.slotBytes()) / 1024);
    const row = `${'/dev/ram1'.padEnd(40)}partition\t${Math.floor(this.bytes / 1024)}\t\t${used}\t\t-2\n`;
    return `Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n${row}`;
  }

  /** What was never written reads as zeros. */
  read(memory: Uint8Array, position: number, at: number, length: number): number {
    const end = Math.min(length, this.bytes - position);
    for (let done = 0; done < end;) {
      const within = (position + done) % PIECE_BYTES;
      const piece = this.pieces[Math.floor((position + done) / PIECE_BYTES)]!;
      const n = Math.min(end - done, PIECE_BYTES - within);
      if (piece.length === 0) memory.fill(0, at + done, at + done + n);
      else memory.set(piece.subarray(within, within + n), at + done);
      done += n;
    }
    return Math.max(0, end);
  }

  private write(position: number, fromAt: number, length: number): void {
    for (let done = 0; done < length;) {
      const within = (position + done) % PIECE_BYTES;
      const index = Math.floor((position + done) / PIECE_BYTES);
      const n = Math.min(length - done, PIECE_BYTES - within);
      if (this.pieces[index]!.length === 0) this.pieces[index] = new Uint8Array(PIECE_BYTES);
      this.pieces[index]!.set(this.arena.u8.subarray(fromAt + done, fromAt + done + n), within);
      done += n;
    }
  }

  private slotBytes(): number {
    return this.pageBytes + PAGE_RECORD_BYTES;
  }
}
