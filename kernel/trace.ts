// The event ring: what the kernel did last, one record an event — a flight recorder that always runs, after Linux's ftrace ring buffer.
// Newest events replace the oldest; what was replaced is counted, never hidden. Bookkeeping outside the arena, of a fixed size taken at
// power-on: no event is ever lost for want of memory, and none takes any. Programs read it as /dev/trace.

import { E, IOCTL, LIMITS, TRACE, TraceRecord, type CharDevice, type TraceKind } from './abi/index.ts';

const CAPACITY = LIMITS.traceRecords;
/** Nobody but the kernel adds to the ring. */
const write = (): number => -E.PERM;
/** A record and its fields, in words. */
const WORDS = TraceRecord.bytes / 4;
const [AT, DURATION, KIND, SESSION, A, B] = (['atNs', 'durationNs', 'kind', 'session', 'a', 'b'] as const).map(
  name => TraceRecord.at[name] / 4,
) as [number, number, number, number, number, number];

/** TRACE's indices by name. */
const KIND_OF = Object.fromEntries(TRACE.map((name, index) => [name, index])) as Record<TraceKind, number>;
const HIGH = 4294967296;

/** TraceRecords, and what there is to say of how they follow on those before. */
export interface TraceNews {
  readonly bytes: Uint8Array;
  readonly total: number;
  readonly dropped: number;
}

export class Trace {
  /** 16,384 records × 32 B = 512 KiB. */
  private readonly ring = new Uint8Array(CAPACITY * TraceRecord.bytes);
  private readonly words = new Uint32Array(this.ring.buffer);
  /** Events since power-on by kind, and of all kinds: the next record goes to `total` modulo CAPACITY. */
  private readonly byKind = new Float64Array(TRACE.length);
  private total = 0;

  constructor(private readonly nowNs: () => number) {}

  /**
   * hot: notes an event that ends now and began `durationNs` ago; TRACE says what `a` and `b` are. They and the session's id (0: none) are
   * kept modulo 2³², times below 2⁵³. It allocates nothing.
   */
  emit(kind: TraceKind, session: number, a: number, b: number, durationNs = 0): void {
    const { words } = this;
    const i = (this.total % CAPACITY) * WORDS;
    const index = KIND_OF[kind];
    const now = this.nowNs();
    words[i + AT] = now; // stores keep the low 32 bits
    words[i + AT + 1] = now / HIGH;
    words[i + DURATION] = durationNs;
    words[i + DURATION + 1] = durationNs / HIGH;
    words[i + KIND] = index;
    words[i + SESSION] = session;
    words[i + A] = a;
    words[i + B] = b;
    this.byKind[index]!++;
    this.total++;
  }

  /** Events that newer ones have replaced. */
  get dropped(): number {
    return Math.max(0, this.total - CAPACITY);
  }

  /** Events since power-on, by kind. */
  counts(): Record<TraceKind, number> {
    return Object.fromEntries(TRACE.map((name, i) => [name, this.byKind[i]!]).slice(1)) as Record<TraceKind, number>;
  }

  /** /proc/trace: `events` since power-on, `dropped` of them, then a line a kind that there were some of. */
  text(): string {
    const kinds = Object.entries(this.counts()).filter(([, n]) => n > 0);
    return [['events', this.total], ['dropped', this.dropped], ...kinds].map(([k, n]) => `${k} ${n}\n`).join('');
  }

  /**
   * Records of all events behind the first `total`, oldest first: for whoever looks again and again. `dropped`: those among them that newer ones have
   * replaced; `total`: what to ask with the next time.
   */
  since(total: number): TraceNews {
    const from = Math.max(total, this.dropped);
    const count = Math.max(0, this.total - from);
    const bytes = new Uint8Array(count * TraceRecord.bytes);
    for (let n = 0; n < count; n++) {
      const at = ((from + n) % CAPACITY) * TraceRecord.bytes;
      bytes.set(this.ring.subarray(at, at + TraceRecord.bytes), n * TraceRecord.bytes);
    }
    return { bytes, total: this.total, dropped: Math.max(0, this.dropped - total) };
  }

  /** The records, oldest first, as bytes of their own: those of no session, and of sessions that `sees` says yes to. */
  private snapshot(sees: (session: number) => boolean): Uint8Array {
    const { ring, words, total } = this;
    const records = new Uint8Array(Math.min(total, CAPACITY) * TraceRecord.bytes);
    let length = 0;
    for (let n = this.dropped; n < total; n++) {
      const i = (n % CAPACITY) * WORDS;
      const session = words[i + SESSION]!;
      if (session !== 0 && !sees(session)) continue;
      records.set(ring.subarray(i * 4, i * 4 + TraceRecord.bytes), length);
      length += TraceRecord.bytes;
    }
    return records.subarray(0, length);
  }

  /**
   * TraceRecords, oldest first: each open reads the ring as it was then, however slowly, and then finds the end. `reader`, asked by each open,
   * says whose sessions whoever opens it may see.
   */
  device(reader: () => (session: number) => boolean): CharDevice {
    return {
      read: () => 0,
      write,
      open: () => {
        const records = this.snapshot(reader());
        const { dropped } = this;
        let position = 0;
        return {
          read: (memory, at, length) => {
            const piece = records.subarray(position, position + length);
            memory.set(piece, at);
            position += piece.length;
            return piece.length;
          },
          write,
          ioctl: command => (command === IOCTL.traceDropped ? dropped : -E.NOTTY),
        };
      },
    };
  }
}
