// A trace as Perfetto reads it (ui.perfetto.dev, trace_processor): protobuf messages written directly, with the field numbers that Perfetto
// publishes in protos/perfetto/trace. One process is the machine, with the processor and the block device as its threads and its counters; the
// other holds a thread for each session. Timestamps are virtual nanoseconds since power-on, which Perfetto calls BOOTTIME.

import { utf8Encode } from '../../kernel/abi/index.ts';
import { COUNTERS, layTimeline } from './timeline.ts';
import type { Counter, Track, TrackPoint } from './timeline.ts';
import { kindOf } from './trace-events.ts';
import type { TraceEvent } from './trace-events.ts';

// ── Protocol buffers: a message is its fields, each a tag (number << 3 | wire type) and a value ──────────────────────────────────────

const [VARINT, FIXED64, LENGTH] = [0, 1, 2];

class Message {
  private buffer = new Uint8Array(128);
  private length = 0;

  /** uint32, uint64, int32, int64, bool and enums from 0 to 2⁵³ − 1: seven bits a byte, the lowest first. */
  uint(field: number, value: number): this {
    return this.tag(field, VARINT).varint(value);
  }
  fixed64(field: number, value: number): this {
    this.tag(field, FIXED64);
    for (let i = 0, rest = value; i < 8; i++, rest = Math.floor(rest / 256)) this.byte(rest % 256);
    return this;
  }
  text(field: number, value: string): this {
    return this.bytes(field, utf8Encode(value));
  }
  message(field: number, value: Message): this {
    return this.bytes(field, value.finish());
  }
  finish(): Uint8Array {
    return this.buffer.subarray(0, this.length);
  }

  private bytes(field: number, value: Uint8Array): this {
    this.tag(field, LENGTH).varint(value.length);
    this.grow(value.length);
    this.buffer.set(value, this.length);
    this.length += value.length;
    return this;
  }
  private tag(field: number, wireType: number): this {
    return this.varint(field * 8 + wireType);
  }
  private varint(value: number): this {
    let rest = value;
    for (; rest >= 128; rest = Math.floor(rest / 128)) this.byte((rest % 128) + 128);
    this.byte(rest);
    return this;
  }
  private byte(value: number): void {
    this.grow(1);
    this.buffer[this.length++] = value;
  }
  private grow(bytes: number): void {
    if (this.length + bytes <= this.buffer.length) return;
    const larger = new Uint8Array(Math.max(2 * this.buffer.length, this.length + bytes));
    larger.set(this.finish());
    this.buffer = larger;
  }
}

// ── Perfetto's field numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────

const TRACE = { packet: 1 };
const PACKET = {
  clockSnapshot: 6,
  timestamp: 8,
  sequence: 10, // trusted_packet_sequence_id
  event: 11, // track_event
  sequenceFlags: 13,
  dropped: 42, // previous_packet_dropped
  track: 60, // track_descriptor
};
const CLOCK_SNAPSHOT = { clocks: 1, primary: 2 };
const CLOCK = { id: 1, timestamp: 2 };
const TRACK = { uuid: 1, name: 2, process: 3, thread: 4, parent: 5, counter: 8 };
const PROCESS = { pid: 1, name: 6 };
const THREAD = { pid: 1, tid: 2, name: 5 };
const COUNTER = { unit: 3 };
const EVENT = {
  annotation: 4, // debug_annotations
  type: 9,
  track: 11,
  category: 22,
  name: 23,
  counter: 30,
  flow: 47,
  lastFlow: 48, // terminating_flow_ids
};
const ANNOTATION = { uint: 3, text: 6, name: 10 };

const TYPE = { begin: 1, end: 2, instant: 3, counter: 4 };
const UNIT = { count: 2, bytes: 3 };
const BOOTTIME = 6;
const INCREMENTAL_STATE_CLEARED = 1;
/** All packets come from one writer. */
const SEQUENCE = 1;

// ── The trace ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const MACHINE = { pid: 1, uuid: 1, name: 'arena8' };
const SESSIONS = { pid: 2, uuid: 2, name: 'sessions' };
type Process = typeof MACHINE;

/** Tracks in the order in which they are described, with their uuids: 1 and 2 are the processes. */
const CPU = { uuid: 3, tid: 1, name: 'CPU' };
const BLOCK = { uuid: 4, tid: 3, name: 'block device' };
const COUNTERS_UUID = 16;
const SESSIONS_UUID = 2 ** 32;
/** Threads of sessions: Perfetto wants every thread of a trace to have a number of its own, of 31 bits. */
const sessionThread = (session: number): number => (1000 + session) & 0x7fffffff;

const UNITS: Readonly<Record<Counter, number>> = {
  arena: UNIT.bytes,
  'KV pages': UNIT.count,
  waiting: UNIT.count,
  running: UNIT.count,
};

function uuidOf(track: Track): number {
  if (typeof track === 'number') return SESSIONS_UUID + track;
  if (track === 'cpu') return CPU.uuid;
  return track === 'block' ? BLOCK.uuid : COUNTERS_UUID + COUNTERS.indexOf(track);
}

const packet = (): Message => new Message().uint(PACKET.sequence, SEQUENCE);

/** The first packet: which clock the timestamps are of, and whether something came before what is here. */
function head(fromNs: number, dropped: number): Message {
  const clock = new Message().uint(CLOCK.id, BOOTTIME).uint(CLOCK.timestamp, fromNs);
  const snapshot = new Message().message(CLOCK_SNAPSHOT.clocks, clock).uint(CLOCK_SNAPSHOT.primary, BOOTTIME);
  const first = packet().uint(PACKET.sequenceFlags, INCREMENTAL_STATE_CLEARED).message(PACKET.clockSnapshot, snapshot);
  return dropped > 0 ? first.uint(PACKET.dropped, 1) : first;
}

function processTrack({ uuid, pid, name }: Process): Message {
  const process = new Message().uint(PROCESS.pid, pid).text(PROCESS.name, name);
  return new Message().uint(TRACK.uuid, uuid).text(TRACK.name, name).message(TRACK.process, process);
}

function threadTrack(owner: Process, uuid: number, tid: number, name: string): Message {
  const thread = new Message().uint(THREAD.pid, owner.pid).uint(THREAD.tid, tid).text(THREAD.name, name);
  const track = new Message().uint(TRACK.uuid, uuid).uint(TRACK.parent, owner.uuid).text(TRACK.name, name);
  return track.message(TRACK.thread, thread);
}

function counterTrack(name: Counter): Message {
  const track = new Message().uint(TRACK.uuid, uuidOf(name)).uint(TRACK.parent, MACHINE.uuid).text(TRACK.name, name);
  return track.message(TRACK.counter, new Message().uint(COUNTER.unit, UNITS[name]));
}

function tracks(sessions: Iterable<number>): Message[] {
  return [
    processTrack(MACHINE),
    threadTrack(MACHINE, CPU.uuid, CPU.tid, CPU.name),
    threadTrack(MACHINE, BLOCK.uuid, BLOCK.tid, BLOCK.name),
    ...COUNTERS.map(counterTrack),
    processTrack(SESSIONS),
    ...[...sessions].map(id => threadTrack(SESSIONS, uuidOf(id), sessionThread(id), `session ${id}`)),
  ];
}

/** The event's numbers under their names; whose it is, where its track does not say so. */
function annotate(message: Message, event: TraceEvent, track: Track): void {
  if (event.session !== 0 && track !== event.session)
    message.message(
      EVENT.annotation,
      new Message().text(ANNOTATION.name, 'session').uint(ANNOTATION.uint, event.session),
    );
  for (const { from, name, names } of kindOf(event).fields) {
    const annotation = new Message().text(ANNOTATION.name, name);
    const word = names?.find(([number]) => number === event[from])?.[1];
    if (word === undefined) annotation.uint(ANNOTATION.uint, event[from]);
    else annotation.text(ANNOTATION.text, word);
    message.message(EVENT.annotation, annotation);
  }
}

function trackEvent({ track, type, name, event, value, flow, last }: TrackPoint): Message {
  const message = new Message().uint(EVENT.type, TYPE[type]).uint(EVENT.track, uuidOf(track));
  if (type === 'counter') return message.uint(EVENT.counter, value ?? 0);
  if (type === 'end') return message;
  message.text(EVENT.name, name).text(EVENT.category, typeof track === 'number' ? 'session' : track);
  if (event !== undefined) annotate(message, event, track);
  if (flow !== undefined) message.fixed64(last ? EVENT.lastFlow : EVENT.flow, flow);
  return message;
}

/** The file's bytes. `dropped`: how many events there were before the first. */
export function perfettoTrace(events: readonly TraceEvent[], dropped: number): Uint8Array {
  const trace = new Message();
  const points = layTimeline(events);
  trace.message(TRACE.packet, head(points[0]?.atNs ?? 0, dropped));
  const sessions = new Set(points.flatMap(({ track }) => (typeof track === 'number' ? [track] : [])));
  for (const track of tracks(sessions)) trace.message(TRACE.packet, packet().message(PACKET.track, track));
  for (const point of points)
    trace.message(TRACE.packet, packet().uint(PACKET.timestamp, point.atNs).message(PACKET.event, trackEvent(point)));
  return trace.finish();
}
