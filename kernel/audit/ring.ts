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
type State = ReturnType<typeof RingState.read>;

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

  private get state(): State {
    return RingState.read(this.arena.u8, this.at);
  }
  private store(state: State): void {
    RingState.write(this.arena.u8, this.at, state);
  }

  /** Number of the next record. */
  get next(): number {
    return this.state.next;
  }
  /** Bytes of frames that are not in the store, and how many there are. */
  get unstored(): { readonly bytes: number; readonly records: number; readonly from: number } {
    const { unstored, next, unstoredBytes } = this.state;
    return { bytes: unstoredBytes, records: next - unstored, from: unstored };
  }
  /** Bytes that may still be appended; asked with every call, and so read alone. */
  get room(): number {
    return LIMITS.auditRingBytes - this.arena.u32[(this.at + RingState.at.unstoredBytes) >> 2]!;
  }

  /** The log goes on behind records that are in the store already: the ring begins empty. */
  begin(next: number): void {
    RingState.write(this.arena.u8, this.at, { first: next, unstored: next, next });
  }

  /** Appends the next record; the oldest ones make room. */
  append(record: Uint8Array): void {
    const s = this.state;
    const bytes = FRAME_BYTES + record.length;
    if (s.unstoredBytes + bytes > LIMITS.auditRingBytes) panic('the audit ring is full of records that are not stored');
    while (s.bytes + bytes > LIMITS.auditRingBytes) {
      const oldest = FRAME_BYTES + this.lengthAt(s.firstAt);
      s.firstAt = wrapped(s.firstAt + oldest);
      s.bytes -= oldest;
      s.first++;
    }
    this.write(s.nextAt, Uint8Array.of(record.length >> 8, record.length & 0xff));
    this.write(wrapped(s.nextAt + FRAME_BYTES), record);
    s.nextAt = wrapped(s.nextAt + bytes);
    s.bytes += bytes;
    s.unstoredBytes += bytes;
    s.next++;
    this.store(s);
  }

  /** The first `count` records that are not in the store, oldest first. */
  pending(count: number): Uint8Array[] {
    const { unstoredAt } = this.state;
    return this.read(unstoredAt, count);
  }

  /** The first `count` of them are in the store now. */
  stored(count: number): void {
    const s = this.state;
    for (let i = 0; i < count; i++) {
      const bytes = FRAME_BYTES + this.lengthAt(s.unstoredAt);
      s.unstoredAt = wrapped(s.unstoredAt + bytes);
      s.unstoredBytes -= bytes;
      s.unstored++;
    }
    this.store(s);
  }

  /** All that are here, oldest first. */
  all(): Uint8Array[] {
    const { firstAt, first, next } = this.state;
    return this.read(firstAt, next - first);
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
