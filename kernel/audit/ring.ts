// The ring of audit records in the arena: the newest of them, as frames (u16 big-endian length, then the record) one behind the other in a
// ring of bytes. Frames that are not yet in the store are never overwritten: who appends asks for room first. A panic prints the ring, and
// /proc/audit shows it.

import { layout, LIMITS, type ArenaView } from '../abi/index.ts';
import { panic } from '../panic.ts';

/** Where the ring stands; positions are bytes of the ring. In the arena, so that machines in the same state have the same digest. */
export const RingState = layout({
  first: 'u64', // number of the oldest record in the ring
  unstored: 'u64', // of the first that is not in the store
  next: 'u64', // of the next record
  firstAt: 'u32',
  unstoredAt: 'u32',
  nextAt: 'u32',
  bytes: 'u32', // of all frames
  unstoredBytes: 'u32', // of those that are not in the store
  reserved: 'u32',
});
type Field = keyof (typeof RingState)['fields'];

/** Bytes in front of a record. */
export const FRAME_BYTES = 2;

export class AuditRing {
  private readonly ringAt: number;

  constructor(
    private readonly arena: ArenaView,
    /** RingState, then the ring. */
    private readonly at: number,
  ) {
    this.ringAt = at + RingState.bytes;
  }

  private get(field: Field): number {
    const i = (this.at + RingState.at[field]) >> 2;
    const low = this.arena.u32[i]!;
    return RingState.fields[field] === 'u64' ? low + this.arena.u32[i + 1]! * 4294967296 : low;
  }
  private set(field: Field, value: number): void {
    const i = (this.at + RingState.at[field]) >> 2;
    this.arena.u32[i] = value % 4294967296;
    if (RingState.fields[field] === 'u64') this.arena.u32[i + 1] = Math.floor(value / 4294967296);
  }

  /** Number of the next record. */
  get next(): number {
    return this.get('next');
  }
  /** Number of the first record that is not in the store, how many there are, and bytes of their frames. */
  get unstored(): { readonly from: number; readonly records: number; readonly bytes: number } {
    const from = this.get('unstored');
    return { from, records: this.next - from, bytes: this.get('unstoredBytes') };
  }
  /** Bytes that may still be appended. */
  get room(): number {
    return LIMITS.auditRingBytes - this.get('unstoredBytes');
  }

  /** The log goes on behind records that are in the store already: the ring begins empty. */
  begin(next: number): void {
    RingState.write(this.arena.u8, this.at, { first: next, unstored: next, next });
  }

  /** Appends the next record; the oldest ones make room. */
  append(record: Uint8Array): void {
    const bytes = FRAME_BYTES + record.length;
    if (bytes > this.room) panic('the audit ring is full of records that are not stored');
    let kept = this.get('bytes');
    while (kept + bytes > LIMITS.auditRingBytes) {
      kept -= this.step('firstAt');
      this.set('first', this.get('first') + 1);
    }
    const at = this.get('nextAt');
    this.write(at, Uint8Array.of(record.length >> 8, record.length & 0xff));
    this.write(wrapped(at + FRAME_BYTES), record);
    this.set('nextAt', wrapped(at + bytes));
    this.set('bytes', kept + bytes);
    this.set('unstoredBytes', this.get('unstoredBytes') + bytes);
    this.set('next', this.next + 1);
  }

  /** A position goes on to the next frame; returns the bytes of this one. */
  private step(position: 'firstAt' | 'unstoredAt'): number {
    const at = this.get(position);
    const bytes = FRAME_BYTES + this.lengthAt(at);
    this.set(position, wrapped(at + bytes));
    return bytes;
  }

  /** The first `count` records that are not in the store, oldest first. */
  pending(count: number): Uint8Array[] {
    return this.read(this.get('unstoredAt'), count);
  }

  /** The first `count` of them are in the store now. */
  stored(count: number): void {
    let bytes = 0;
    for (let i = 0; i < count; i++) bytes += this.step('unstoredAt');
    this.set('unstoredBytes', this.get('unstoredBytes') - bytes);
    this.set('unstored', this.get('unstored') + count);
  }

  /** All that are here, oldest first. */
  all(): Uint8Array[] {
    return this.read(this.get('firstAt'), this.next - this.get('first'));
  }

  private read(from: number, count: number): Uint8Array[] {
    const records: Uint8Array[] = [];
    for (let at = from; records.length < count;) {
      const length = this.lengthAt(at);
      const record = new Uint8Array(length);
      const begin = wrapped(at + FRAME_BYTES);
      const straight = Math.min(length, LIMITS.auditRingBytes - begin);
      record.set(this.arena.u8.subarray(this.ringAt + begin, this.ringAt + begin + straight));
      record.set(this.arena.u8.subarray(this.ringAt, this.ringAt + length - straight), straight);
      records.push(record);
      at = wrapped(begin + length);
    }
    return records;
  }

  private lengthAt(at: number): number {
    const { u8 } = this.arena;
    return u8[this.ringAt + at]! * 256 + u8[this.ringAt + wrapped(at + 1)]!;
  }
  private write(at: number, bytes: Uint8Array): void {
    const straight = Math.min(bytes.length, LIMITS.auditRingBytes - at);
    this.arena.u8.set(bytes.subarray(0, straight), this.ringAt + at);
    this.arena.u8.set(bytes.subarray(straight), this.ringAt);
  }
}

const wrapped = (at: number): number => (at >= LIMITS.auditRingBytes ? at - LIMITS.auditRingBytes : at);
