// A pipe: a ring of bytes in the arena between a writer and a reader. Full or empty, it answers BLOCKED while the other end is open;
// afterwards the reader drains it and meets the end, the writer gets EPIPE. Writes up to 512 bytes are not split, as POSIX asks.

import { BLOCKED, E, KIND } from '../kernel/abi/index.ts';
import type { Attributes, Handle } from './inode.ts';
import { Inode } from './inode.ts';

/** _POSIX_PIPE_BUF: the longest write that never mingles with another's. */
const ATOMIC_BYTES = 512;

export class Pipe extends Inode {
  readonly kind = KIND.fifo;
  private readonly ringAt: number;
  private readonly capacity: number;
  private readonly onClosed: () => void;
  private head = 0; // index of the oldest byte
  private held = 0; // bytes in the ring
  private readers = 1;
  private writers = 1;

  /** `capacity` bytes of arena at `ringAt` are the pipe's until `onClosed` is called: both ends are closed. */
  constructor(ringAt: number, capacity: number, onClosed: () => void) {
    super(0, 0o600);
    this.ringAt = ringAt;
    this.capacity = capacity;
    this.onClosed = onClosed;
  }

  override setAttributes(change: Attributes): number {
    Object.assign(this, change);
    return 0;
  }

  readonly readEnd: Handle = {
    read: (memory, _position, at, length) => this.take(memory, at, length),
    write: () => -E.BADF,
    release: () => {
      this.readers = 0;
      if (this.writers === 0) this.onClosed();
    },
  };
  readonly writeEnd: Handle = {
    read: () => -E.BADF,
    write: (memory, _position, at, length) => this.put(memory, at, length),
    release: () => {
      this.writers = 0;
      if (this.readers === 0) this.onClosed();
    },
  };

  private take(memory: Uint8Array, at: number, length: number): number {
    if (this.held === 0) return this.writers === 0 ? 0 : BLOCKED;
    const n = Math.min(length, this.held);
    const first = Math.min(n, this.capacity - this.head);
    memory.copyWithin(at, this.ringAt + this.head, this.ringAt + this.head + first);
    memory.copyWithin(at + first, this.ringAt, this.ringAt + n - first);
    this.head = (this.head + n) % this.capacity;
    this.held -= n;
    return n;
  }

  private put(memory: Uint8Array, at: number, length: number): number {
    if (this.readers === 0) return -E.PIPE;
    const room = this.capacity - this.held;
    if (room === 0 || (length <= ATOMIC_BYTES && length > room)) return BLOCKED;
    const n = Math.min(length, room);
    const tail = (this.head + this.held) % this.capacity;
    const first = Math.min(n, this.capacity - tail);
    memory.copyWithin(this.ringAt + tail, at, at + first);
    memory.copyWithin(this.ringAt, at + first, at + n);
    this.held += n;
    return n;
  }
}
