// A trace in the Common Trace Format 1.8 (diamon.org/ctf): `metadata`, a text in TSDL that describes every byte of the other file, and `stream`, the
// events in packets. Readers such as babeltrace2 need nothing else. An event stands at the moment when the kernel noted it, which is the end
// of what takes time; its `duration_ns` says how long that took. Times are virtual nanoseconds since power-on.

import { eventKinds, kindOf } from './trace-events.ts';
import type { EventKind, Names, TraceEvent } from './trace-events.ts';

const MAGIC = 0xc1fc1fc1;
const PACKET_BYTES = 65536; // at most; readers hold one in memory
const OVERHEAD_BYTES = 2 * 4 + 5 * 8; // of a packet: its header and its context
const EVENT_BYTES = 4 + 8 + 4; // id, timestamp, session

// ── Metadata ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const enumOf = (names: Names): string =>
  `enum : u32 { ${names.map(([number, name]) => `"${name}" = ${number}`).join(', ')} }`;

function eventClass({ kind, id, timed, fields }: EventKind): string {
  const members = [
    ...(timed ? ['u64 duration_ns;'] : []),
    ...fields.map(({ name, names }) => `${names === undefined ? 'u32' : enumOf(names)} ${name};`),
  ];
  return `event {
  name = "${kind}";
  id = ${id};
  stream_id = 0;
  fields := struct { ${members.join(' ')} };
};
`;
}

/** TSDL: little-endian, every field at the next byte. */
export function ctfMetadata(): string {
  return `/* CTF 1.8 */

typealias integer { size = 32; align = 8; signed = false; } := u32;
typealias integer { size = 64; align = 8; signed = false; } := u64;

trace {
  major = 1;
  minor = 8;
  byte_order = le;
  packet.header := struct { u32 magic; u32 stream_id; };
};

env {
  sysname = "arena8";
  tracer_name = "arena8";
};

clock {
  name = virtual;
  description = "virtual time since power-on";
  freq = 1000000000;
  offset = 0;
};

typealias integer { size = 64; align = 8; signed = false; map = clock.virtual.value; } := time;

stream {
  id = 0;
  packet.context := struct {
    time timestamp_begin;
    time timestamp_end;
    u64 content_size;
    u64 packet_size;
    u64 events_discarded;
  };
  event.header := struct { u32 id; time timestamp; };
  event.context := struct { u32 session; };
};

${eventKinds.map(eventClass).join('\n')}`;
}

// ── The stream ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A piece of the stream being filled, little-endian. */
class Packet {
  private readonly view = new DataView(new ArrayBuffer(PACKET_BYTES));
  private at = 0;

  u32(value: number): void {
    this.view.setUint32(this.at, value, true);
    this.at += 4;
  }
  u64(value: number): void {
    this.u32(value % 2 ** 32);
    this.u32(Math.floor(value / 2 ** 32));
  }
  /** The packet's bytes. */
  finish(): Uint8Array {
    return new Uint8Array(this.view.buffer, 0, this.at);
  }
}

function eventBytes(event: TraceEvent): number {
  const { timed, fields } = kindOf(event);
  return EVENT_BYTES + (timed ? 8 : 0) + 4 * fields.length;
}

function packetOf(events: readonly TraceEvent[], bytes: number, dropped: number): Uint8Array {
  const out = new Packet();
  out.u32(MAGIC);
  out.u32(0);
  out.u64(events[0]?.atNs ?? 0);
  out.u64(events.at(-1)?.atNs ?? 0);
  out.u64(bytes * 8); // content and packet, in bits: nothing is padded
  out.u64(bytes * 8);
  out.u64(dropped);
  for (const event of events) {
    const { id, timed, fields } = kindOf(event);
    out.u32(id);
    out.u64(event.atNs);
    out.u32(event.session);
    if (timed) out.u64(event.durationNs);
    for (const { from } of fields) out.u32(event[from]);
  }
  return out.finish();
}

/**
 * The stream's packets, one after the other. Every packet says how many events have been lost so far: all `dropped` of them before the first
 * event, which readers can tell from an empty packet at power-on that knows of none.
 */
export function* ctfStream(events: readonly TraceEvent[], dropped: number): Generator<Uint8Array, void, void> {
  if (dropped > 0) yield packetOf([], OVERHEAD_BYTES, 0);
  let first = 0;
  let bytes = OVERHEAD_BYTES;
  for (const [i, event] of events.entries()) {
    const more = eventBytes(event);
    if (bytes + more > PACKET_BYTES) {
      yield packetOf(events.slice(first, i), bytes, dropped);
      first = i;
      bytes = OVERHEAD_BYTES;
    }
    bytes += more;
  }
  yield packetOf(events.slice(first), bytes, dropped);
}
