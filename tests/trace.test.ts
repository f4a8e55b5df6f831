// What the kernel traces, and the two files that llmctl makes of it. The ring against a plain list of what was emitted; the Perfetto trace
// read by protobufjs with the field numbers that Perfetto publishes; the CTF trace read by babeltrace2.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import v8 from 'node:v8';
import test, { type ExecutionContext } from 'ava';
import protobuf from 'protobufjs';
import { boot, type Machine } from '../boot/index.ts';
import { E, FINISH, IOCTL, LIMITS, TRACE, TraceRecord, type CharDevice, type TraceKind } from '../kernel/abi/index.ts';
import { Trace } from '../kernel/trace.ts';
import { ctfMetadata, ctfStream } from '../shell/lib/ctf.ts';
import { perfettoTrace } from '../shell/lib/perfetto.ts';
import { BUILDS, canRun } from './harness.ts';
import { makeRandom } from './support/arena.ts';

type TraceEvent = ReturnType<typeof TraceRecord.read>;
const SEEDS = process.env['ARENA8_SOAK'] === '1' ? 2000 : 100;
const KINDS = TRACE.slice(1) as readonly TraceKind[];

// ── The ring ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** All that one open of a device reads, in pieces of `piece` bytes. */
function readAll(stream: CharDevice, piece: number): Uint8Array {
  const memory = new Uint8Array(LIMITS.traceRecords * TraceRecord.bytes + piece);
  let at = 0;
  for (let n; (n = stream.read(memory, at, piece)) !== 0; at += n);
  return memory.subarray(0, at);
}

const recordsOf = (bytes: Uint8Array): TraceEvent[] =>
  Array.from({ length: bytes.length / TraceRecord.bytes }, (_, i) => TraceRecord.read(bytes, i * TraceRecord.bytes));

for (const [name, count] of [
  ['no events', 0],
  ['some events', 1000],
  ['exactly as many as it holds', LIMITS.traceRecords],
  ['one more', LIMITS.traceRecords + 1],
  ['twice round and some', 2 * LIMITS.traceRecords + 777],
] as const)
  test(`the ring: ${name}`, t => {
    const next = makeRandom(count + 1);
    let now = 0;
    const trace = new Trace(() => now);
    const all: TraceEvent[] = [];
    for (let i = 0; i < count; i++) {
      now += next(2) * 2 ** next(38); // past 2³² soon
      const kind = 1 + next(KINDS.length);
      const e = {
        atNs: now,
        durationNs: next(3) * 2 ** next(40),
        kind,
        session: next(1000),
        a: next(2 ** 31) * 2,
        b: i,
      };
      trace.emit(TRACE[kind] as TraceKind, e.session, e.a, e.b, e.durationNs);
      all.push(e);
    }
    const kept = all.slice(-LIMITS.traceRecords);
    t.deepEqual(recordsOf(readAll(trace.device(() => () => true).open!(), 4096)), kept);
    t.is(trace.dropped, count - kept.length);
    const counts = Object.fromEntries(KINDS.map((kind, i) => [kind, all.filter(e => e.kind === i + 1).length]));
    t.deepEqual(trace.counts(), counts as Record<TraceKind, number>);
    const lines = Object.entries(counts).filter(([, n]) => n > 0);
    const text = [['events', count], ['dropped', trace.dropped], ...lines].map(([k, n]) => `${k} ${n}\n`).join('');
    t.is(trace.text(), text);
  });

test('an open of /dev/trace is one moment, whatever the reads are cut into', t => {
  let now = 0;
  const trace = new Trace(() => ++now);
  const fill = (n: number): void => {
    for (let i = 0; i < n; i++) trace.emit('token', 1, i, 0);
  };
  fill(LIMITS.traceRecords + 5);
  const first = trace.device(() => () => true).open!();
  const memory = new Uint8Array(64);
  t.is(first.read(memory, 3, 7), 7);
  fill(LIMITS.traceRecords); // everything that the first open shows has been replaced
  const second = trace.device(() => () => true).open!();
  fill(1);
  t.deepEqual(
    [first, second].map(stream => stream.ioctl!(IOCTL.traceDropped, 0)),
    [5, LIMITS.traceRecords + 5],
  );
  t.is(first.ioctl!(IOCTL.isatty, 0), -E.NOTTY);
  const before = recordsOf(new Uint8Array([...memory.subarray(3, 10), ...readAll(first, 33)]));
  t.deepEqual([before.length, before[0]!.atNs, before.at(-1)!.atNs], [LIMITS.traceRecords, 6, LIMITS.traceRecords + 5]);
  const after = recordsOf(readAll(second, 1 << 20));
  t.deepEqual([after[0]!.atNs, after.at(-1)!.atNs], [LIMITS.traceRecords + 6, 2 * LIMITS.traceRecords + 5]);
  t.is(second.write(memory, 0, 8), -E.PERM);
});

test('an event allocates nothing', t => {
  let now = 0;
  const trace = new Trace(() => ++now);
  const loop = (events: number): void => {
    for (let i = 0; i < events; i++) trace.emit(KINDS[i % KINDS.length]!, i & 31, i, i, i & 7);
  };
  const used = (): number => v8.getHeapStatistics().used_heap_size;
  for (let i = 0; i < 40; i++) loop(25_000); // until the optimising compiler is done with it
  (globalThis as { gc?: () => void }).gc?.();
  used();
  const empty = -(used() - used());
  const before = used();
  loop(10_000);
  const bytes = used() - before - empty;
  t.log(`${bytes} B over 10,000 events`);
  t.true(bytes < 10_000, `${bytes} B: less than one an event, so none`);
});

// ── Event sequences ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What the numbers of each kind mean, as the manual says it. */
const MEANING: Readonly<Record<TraceKind, string>> = {
  submit: 'prompt_tokens max_tokens',
  admit: 'ppm server',
  reject: 'code errno',
  begin: 'slot shared_tokens',
  pass: 'rows sessions',
  prefill: 'position tokens',
  decode: 'position tokens',
  token: 'token output_tokens',
  throttle: 'wait_ms',
  refill: 'cycles',
  miss: 'late_us',
  preempt: 'by_session',
  'swap-out': 'pages bytes',
  'swap-in': 'pages bytes',
  copy: 'page',
  end: 'finish output_tokens',
  queue: 'waiting running',
  arena: 'bytes kv_pages',
  train: 'training updates',
};
const TIMED: readonly TraceKind[] = ['pass', 'prefill', 'decode', 'token', 'swap-out', 'swap-in', 'train'];
const nameOf = (e: TraceEvent): TraceKind => KINDS[e.kind - 1]!;

/** The numbers of an event by name; words where the number stands for one. */
function valuesOf(e: TraceEvent): Record<string, number | string> {
  const values = MEANING[nameOf(e)].split(' ').map((name, i): [string, number | string] => {
    const value = i === 0 ? e.a : e.b;
    if (name === 'server') return [name, ['none', 'hard', 'soft'][value] ?? value];
    if (name === 'finish') return [name, value === 0 ? 'none' : (FINISH[value] ?? value)];
    return [name, value];
  });
  return Object.fromEntries(values);
}

const event = (atNs: number, kind: TraceKind, session = 0, a = 0, b = 0, durationNs = 0): TraceEvent => ({
  atNs,
  durationNs,
  kind: TRACE.indexOf(kind),
  session,
  a,
  b,
});

/** One session that waits, is prefilled in two passes, draws two tokens and ends; another one waits still. */
const SHORT: readonly TraceEvent[] = [
  event(100, 'submit', 1, 12, 2),
  event(100, 'admit', 1, 250_000, 1),
  event(110, 'queue', 0, 1, 0),
  event(120, 'begin', 1, 3, 0),
  event(130, 'reject', 0, 3002, 11),
  event(150, 'submit', 2, 7, 5),
  event(220, 'pass', 0, 8, 1, 100),
  event(220, 'prefill', 1, 0, 8, 100),
  event(275, 'token', 1, 501, 1, 20),
  event(280, 'pass', 0, 4, 1, 60),
  event(280, 'prefill', 1, 8, 4, 60),
  event(300, 'arena', 0, 4_000_000_000, 2),
  event(340, 'swap-out', 1, 1, 4096, 30),
  event(380, 'swap-in', 1, 1, 4096, 30),
  event(430, 'token', 1, 502, 2, 50),
  event(430, 'end', 1, 2, 2),
  event(430, 'pass', 0, 1, 1, 50),
  event(430, 'decode', 1, 12, 1, 50),
];

/** Events as no scheduler would make them: any kind, any numbers, slices that reach into each other, several at one moment. */
function anyEvents(seed: number, count: number): TraceEvent[] {
  const next = makeRandom(seed);
  let now = next(2) * 2 ** 40;
  return Array.from({ length: count }, () => {
    now += next(4) * 2 ** next(24);
    const kind = KINDS[next(KINDS.length)]!;
    const word = (): number => (next(3) === 0 ? next(2 ** 31) * 2 + next(2) : next(12));
    return event(now, kind, next(7), word(), word(), TIMED.includes(kind) ? next(3) * 2 ** next(26) : 0);
  });
}

// ── Perfetto ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What is used of Perfetto's messages, with the numbers and types that its repository publishes (protos/perfetto/trace). */
const MESSAGES = `
  syntax = "proto2";
  message Trace { repeated TracePacket packet = 1; }
  message TracePacket {
    optional ClockSnapshot clock_snapshot = 6;
    optional uint64 timestamp = 8;
    optional uint32 trusted_packet_sequence_id = 10;
    optional TrackEvent track_event = 11;
    optional uint32 sequence_flags = 13;
    optional uint32 previous_packet_dropped = 42;
    optional TrackDescriptor track_descriptor = 60;
  }
  message ClockSnapshot {
    message Clock { optional uint32 clock_id = 1; optional uint64 timestamp = 2; }
    repeated Clock clocks = 1;
    optional int32 primary_trace_clock = 2;
  }
  message TrackDescriptor {
    optional uint64 uuid = 1;
    optional string name = 2;
    optional ProcessDescriptor process = 3;
    optional ThreadDescriptor thread = 4;
    optional uint64 parent_uuid = 5;
    optional CounterDescriptor counter = 8;
  }
  message ProcessDescriptor { optional int32 pid = 1; optional string process_name = 6; }
  message ThreadDescriptor { optional int32 pid = 1; optional int32 tid = 2; optional string thread_name = 5; }
  message CounterDescriptor {
    enum Unit { UNIT_UNSPECIFIED = 0; UNIT_TIME_NS = 1; UNIT_COUNT = 2; UNIT_SIZE_BYTES = 3; }
    optional Unit unit = 3;
  }
  message TrackEvent {
    enum Type {
      TYPE_UNSPECIFIED = 0; TYPE_SLICE_BEGIN = 1; TYPE_SLICE_END = 2; TYPE_INSTANT = 3; TYPE_COUNTER = 4;
    }
    repeated DebugAnnotation debug_annotations = 4;
    optional Type type = 9;
    optional uint64 track_uuid = 11;
    repeated string categories = 22;
    optional string name = 23;
    optional int64 counter_value = 30;
    repeated fixed64 flow_ids = 47;
    repeated fixed64 terminating_flow_ids = 48;
  }
  message DebugAnnotation { optional uint64 uint_value = 3; optional string string_value = 6; optional string name = 10; }
`;
const PERFETTO = protobuf.parse(MESSAGES, { keepCase: true }).root.lookupType('Trace');

interface Descriptor {
  readonly uuid: number;
  readonly name: string;
  readonly process?: { readonly pid: number; readonly process_name: string };
  readonly thread?: { readonly pid: number; readonly tid: number; readonly thread_name: string };
  readonly parent_uuid?: number;
  readonly counter?: { readonly unit: string };
}
interface Packet {
  readonly clock_snapshot?: {
    readonly clocks: readonly { readonly clock_id: number; readonly timestamp: number }[];
    readonly primary_trace_clock: number;
  };
  readonly timestamp?: number;
  readonly trusted_packet_sequence_id: number;
  readonly sequence_flags?: number;
  readonly previous_packet_dropped?: number;
  readonly track_descriptor?: Descriptor;
  readonly track_event?: {
    readonly type: string;
    readonly track_uuid: number;
    readonly name?: string;
    readonly counter_value?: number;
    readonly flow_ids?: readonly number[];
    readonly terminating_flow_ids?: readonly number[];
    readonly debug_annotations?: readonly {
      readonly name: string;
      readonly uint_value?: number;
      readonly string_value?: string;
    }[];
  };
}

/** What happened on one track, or to one counter. */
interface Item {
  readonly track: string;
  readonly name: string;
  readonly beginNs: number;
  /** Null: it did not end. Of an instant, its moment. */
  endNs: number | null;
  readonly slice: boolean;
  readonly values: Record<string, number | string>;
  readonly flows: readonly number[];
  readonly lastFlows: readonly number[];
}
interface Read {
  readonly items: readonly Item[];
  readonly counters: Readonly<Record<string, readonly (readonly [atNs: number, value: number])[]>>;
  readonly packets: readonly Packet[];
  readonly tracks: ReadonlyMap<number, Descriptor>;
}

/** The file as a viewer takes it: an end closes the slice of its track that began last. */
function readPerfetto(t: ExecutionContext, bytes: Uint8Array): Read {
  const message = PERFETTO.decode(bytes);
  t.is(PERFETTO.encode(message).finish().length, bytes.length, 'nothing in the file is unknown');
  const { packet: packets } = PERFETTO.toObject(message, { longs: Number, enums: String }) as { packet: Packet[] };
  const tracks = new Map<number, Descriptor>();
  const open = new Map<number, Item[]>();
  const items: Item[] = [];
  const counters: Record<string, [number, number][]> = {};
  let now = 0;
  for (const packet of packets) {
    const { track_descriptor: described, track_event: e, timestamp = -1 } = packet;
    if (described !== undefined) {
      if (tracks.has(described.uuid)) t.fail(`track ${described.uuid} is described twice`);
      if (described.process === undefined && tracks.get(described.parent_uuid!)?.process === undefined)
        t.fail(`track ${described.name} belongs to no process`);
      tracks.set(described.uuid, described);
    }
    if (e === undefined) continue;
    if (timestamp < now) t.fail(`${timestamp} comes after ${now}`);
    now = timestamp;
    const track = tracks.get(e.track_uuid);
    if (track === undefined) return t.fail(`track ${e.track_uuid} is not described`) as never;
    if ((e.type === 'TYPE_COUNTER') !== (track.counter !== undefined)) t.fail(`${e.type} on ${track.name}`);
    const stack = open.get(e.track_uuid) ?? [];
    open.set(e.track_uuid, stack);
    if (e.type === 'TYPE_COUNTER') (counters[track.name] ??= []).push([timestamp, e.counter_value!]);
    else if (e.type === 'TYPE_SLICE_END') {
      const slice = stack.pop();
      if (slice === undefined) t.fail(`at ${timestamp} on ${track.name} something ends that has not begun`);
      else slice.endNs = timestamp;
    } else {
      const slice = e.type === 'TYPE_SLICE_BEGIN';
      const values = Object.fromEntries(
        (e.debug_annotations ?? []).map(({ name, uint_value, string_value }) => [name, string_value ?? uint_value!]),
      );
      items.push({
        track: track.name,
        name: e.name!,
        beginNs: timestamp,
        endNs: slice ? null : timestamp,
        slice,
        values,
        flows: e.flow_ids ?? [],
        lastFlows: e.terminating_flow_ids ?? [],
      });
      if (slice) stack.push(items.at(-1)!);
    }
  }
  return { items, counters, packets, tracks };
}

/** Where an event of a kind stands. */
function trackOf(e: TraceEvent): string {
  const kind = nameOf(e);
  if (kind === 'swap-out' || kind === 'swap-in') return 'block device';
  return kind === 'pass' || e.session === 0 ? 'CPU' : `session ${e.session}`;
}

/** Everything that a trace must say about its events, derived from the events alone. */
function checkPerfetto(t: ExecutionContext, events: readonly TraceEvent[], dropped: number): Read {
  const read = readPerfetto(t, perfettoTrace(events, dropped));
  const shown = events.filter(e => nameOf(e) !== 'queue' && nameOf(e) !== 'arena');
  const own = read.items.filter(item => item.name !== 'queued');
  // The same events: what, where, when it ended, its numbers.
  const line = (track: string, name: string, endNs: number | null, values: object): string =>
    `${track} ${name} ${endNs} ${JSON.stringify(values)}`;
  const wanted = shown.map(e => {
    const track = trackOf(e);
    const session = e.session !== 0 && track !== `session ${e.session}` ? { session: e.session } : {};
    return line(track, nameOf(e), e.atNs, { ...session, ...valuesOf(e) });
  });
  const found = own.map(item => line(item.track, item.name, item.endNs, item.values));
  t.deepEqual(found.toSorted(), wanted.toSorted());
  checkSlices(t, events, read.items);
  // Flows: the chain of a session in the order of its events.
  for (const id of new Set(shown.map(e => e.session).filter(s => s !== 0))) {
    const steps = own.filter(item => [...item.flows, ...item.lastFlows].includes(id));
    const chain = shown.filter(e => e.session === id && ['submit', 'prefill', 'token', 'end'].includes(nameOf(e)));
    t.deepEqual(steps.map(i => i.name).toSorted(), chain.map(nameOf).toSorted());
    t.true(
      steps.every(i => i.flows.length + i.lastFlows.length === 1 && i.lastFlows.length === Number(i.name === 'end')),
    );
  }
  const series = (kind: TraceKind, field: 'a' | 'b') =>
    events.filter(e => nameOf(e) === kind).map((e): [number, number] => [e.atNs, e[field]]);
  t.deepEqual(read.counters['arena'] ?? [], series('arena', 'a'));
  t.deepEqual(read.counters['KV pages'] ?? [], series('arena', 'b'));
  t.deepEqual(read.counters['waiting'] ?? [], series('queue', 'a'));
  t.deepEqual(read.counters['running'] ?? [], series('queue', 'b'));
  checkFrame(t, read, dropped);
  return read;
}

/** Slices end when they ended and last as long as they lasted; but none reaches into another one of its track that began before it. */
function checkSlices(t: ExecutionContext, events: readonly TraceEvent[], items: readonly Item[]): void {
  const wanted = new Map<string, number[]>();
  const want = (track: string, name: string, beginNs: number, endNs: number | null): void => {
    const key = `${track} ${name} ${endNs}`;
    wanted.set(key, [...(wanted.get(key) ?? []), beginNs]);
  };
  // A session is queued from its submission until it begins or ends.
  const since = new Map<number, number>();
  for (const e of events) {
    const name = nameOf(e);
    if (TIMED.includes(name)) want(trackOf(e), name, Math.max(0, e.atNs - e.durationNs), e.atNs);
    if (e.session === 0 || !['submit', 'begin', 'end'].includes(name)) continue;
    if (since.has(e.session)) want(`session ${e.session}`, 'queued', since.get(e.session)!, e.atNs);
    since.delete(e.session);
    if (name === 'submit') since.set(e.session, e.atNs);
  }
  for (const [session, beginNs] of since) want(`session ${session}`, 'queued', beginNs, null);

  const slices = items.filter(i => i.slice);
  t.is(slices.length, [...wanted.values()].flat().length);
  const byEnd = new Map<string, Item[]>();
  for (const s of slices) byEnd.set(`${s.track} ${s.endNs}`, [...(byEnd.get(`${s.track} ${s.endNs}`) ?? []), s]);
  for (const s of slices) {
    const begins = wanted.get(`${s.track} ${s.name} ${s.endNs}`) ?? [];
    const cuts = (beginNs: number): boolean =>
      beginNs < s.beginNs && (byEnd.get(`${s.track} ${s.beginNs}`) ?? []).some(other => other.beginNs < beginNs);
    if (!begins.includes(s.beginNs) && !begins.some(cuts))
      t.fail(`${s.name} on ${s.track} begins at ${s.beginNs} and ends at ${s.endNs}, not ${begins.join(' ')}`);
  }
}

/** The clock, the one sequence of packets, what was lost, and tracks whose numbers are their own. */
function checkFrame(t: ExecutionContext, { packets, tracks }: Read, dropped: number): void {
  const [first, ...others] = packets;
  const times = packets.flatMap(p => (p.track_event === undefined ? [] : [p.timestamp!]));
  const clocks = [{ clock_id: 6, timestamp: times[0] ?? 0 }];
  t.deepEqual(first?.clock_snapshot, { clocks, primary_trace_clock: 6 });
  t.deepEqual([first?.sequence_flags, first?.previous_packet_dropped], [1, dropped > 0 ? 1 : undefined]);
  t.true(packets.every(p => p.trusted_packet_sequence_id === 1));
  t.true(others.every(p => p.clock_snapshot === undefined));
  const all = [...tracks.values()];
  const threads = all.flatMap(d => (d.thread === undefined ? [] : [d.thread]));
  t.is(new Set(threads.map(d => d.tid)).size, threads.length);
  const processes = all.flatMap(d => (d.process === undefined ? [] : [d.process]));
  t.deepEqual(processes, [
    { pid: 1, process_name: 'arena8' },
    { pid: 2, process_name: 'sessions' },
  ]);
  t.true(all.every(d => [d.process, d.thread, d.counter].filter(part => part !== undefined).length === 1));
}

test('Perfetto: a short trace, point by point', t => {
  const { items, counters, tracks } = checkPerfetto(t, SHORT, 0);
  const text = items.map(i => {
    const flow = [...i.flows, ...i.lastFlows.map(id => `${id}.`)].map(id => ` flow ${id}`).join('');
    const values = Object.entries(i.values).map(([name, value]) => ` ${name}=${value}`);
    return `${i.track}: ${i.slice ? `${i.beginNs}-${i.endNs}` : i.beginNs} ${i.name}${values.join('')}${flow}`;
  });
  t.deepEqual(text, [
    'session 1: 100 submit prompt_tokens=12 max_tokens=2 flow 1',
    'session 1: 100 admit ppm=250000 server=hard',
    'session 1: 100-120 queued',
    'session 1: 120 begin slot=3 shared_tokens=0',
    'session 1: 120-220 prefill position=0 tokens=8 flow 1',
    'CPU: 120-220 pass rows=8 sessions=1',
    'CPU: 130 reject code=3002 errno=11',
    'session 2: 150 submit prompt_tokens=7 max_tokens=5 flow 2',
    'session 2: 150-null queued',
    'session 1: 220-280 prefill position=8 tokens=4 flow 1',
    'CPU: 220-280 pass rows=4 sessions=1',
    'session 1: 255-275 token token=501 output_tokens=1 flow 1',
    'block device: 310-340 swap-out session=1 pages=1 bytes=4096',
    'block device: 350-380 swap-in session=1 pages=1 bytes=4096',
    'session 1: 380-430 decode position=12 tokens=1',
    'session 1: 380-430 token token=502 output_tokens=2 flow 1',
    'CPU: 380-430 pass rows=1 sessions=1',
    'session 1: 430 end finish=length output_tokens=2 flow 1.',
  ]);
  t.deepEqual(counters, {
    arena: [[300, 4_000_000_000]],
    'KV pages': [[300, 2]],
    waiting: [[110, 1]],
    running: [[110, 0]],
  });
  const shape = [...tracks.values()].map(d => [d.name, tracks.get(d.parent_uuid ?? 0)?.name, d.counter?.unit]);
  t.deepEqual(shape, [
    ['arena8', undefined, undefined],
    ['CPU', 'arena8', undefined],
    ['block device', 'arena8', undefined],
    ['arena', 'arena8', 'UNIT_SIZE_BYTES'],
    ['KV pages', 'arena8', 'UNIT_COUNT'],
    ['waiting', 'arena8', 'UNIT_COUNT'],
    ['running', 'arena8', 'UNIT_COUNT'],
    ['sessions', undefined, undefined],
    ['session 1', 'sessions', undefined],
    ['session 2', 'sessions', undefined],
  ]);
});

test('Perfetto: nothing, and any events', t => {
  checkPerfetto(t, [], 0);
  for (let seed = 1; seed <= SEEDS; seed++) checkPerfetto(t, anyEvents(seed, 1 + (seed % 7) * 50), seed % 3);
  checkPerfetto(t, anyEvents(99, LIMITS.traceRecords), 12345);
});

// ── CTF ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const BABELTRACE = '/usr/bin/babeltrace2';
const withBabeltrace = existsSync(BABELTRACE) || process.env['CI'] === 'true' ? test : test.skip;

/** The events that babeltrace2 reads in a directory, and how many it says had been lost. */
function readCtf(directory: string): { readonly lines: readonly string[]; readonly lost: number } {
  const r = spawnSync(BABELTRACE, ['--clock-cycles', '--no-delta', directory], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  if (r.status !== 0) throw new Error(`babeltrace2: ${r.stderr || r.error?.message}`);
  const lost = [...r.stderr.matchAll(/discarded ([0-9]+) events/g)].reduce((n, [, count]) => n + Number(count), 0);
  if (r.stderr !== '' && lost === 0) throw new Error(r.stderr);
  return { lines: r.stdout.split('\n').slice(0, -1), lost };
}

/** An event as babeltrace2 prints it. */
function printed(e: TraceEvent): string {
  const values = Object.entries(valuesOf(e)).map(([name, value], i) => {
    if (name !== 'server' && name !== 'finish') return `${name} = ${value}`;
    const number = i === 0 ? e.a : e.b;
    return `${name} = ( ${typeof value === 'string' ? `"${value}"` : '<unknown>'} : container = ${number} )`;
  });
  const duration = TIMED.includes(nameOf(e)) ? [`duration_ns = ${e.durationNs}`] : [];
  const at = String(e.atNs).padStart(20, '0');
  return `[${at}] ${nameOf(e)}: { session = ${e.session} }, { ${[...duration, ...values].join(', ')} }`;
}

withBabeltrace('CTF: babeltrace2 reads every event as it was', t => {
  const directory = mkdtempSync(path.join(tmpdir(), 'arena8-ctf-'));
  try {
    const check = (events: readonly TraceEvent[], dropped: number): void => {
      const place = path.join(directory, `${events.length}-${dropped}`);
      mkdirSync(place);
      writeFileSync(path.join(place, 'metadata'), ctfMetadata());
      writeFileSync(path.join(place, 'stream'), Buffer.concat([...ctfStream(events, dropped)]));
      const { lines, lost } = readCtf(place);
      t.deepEqual(lines, events.map(printed));
      t.is(lost, dropped);
    };
    check([], 0);
    check(SHORT, 0);
    check(SHORT, 5);
    for (let seed = 1; seed <= SEEDS / 10; seed++) check(anyEvents(seed, 10 * seed), 0);
    const many = anyEvents(7, LIMITS.traceRecords);
    t.true([...ctfStream(many, 0)].length > 5, 'several packets');
    check(many, 0);
    check(many.slice(1), 2 ** 33);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

// ── llmctl trace ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const image = readFileSync('build/boot.cpio');

/** A machine with a directory of the host, which goes when the test ends. */
function machineWith(t: ExecutionContext): { readonly machine: Machine; readonly directory: string } {
  const directory = mkdtempSync(path.join(tmpdir(), 'arena8-trace-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return { machine: boot({ strict: true, image, mounts: { '/host': directory } }), directory };
}

/** The kernel's own ring. */
const ringOf = (machine: Machine): Trace => (machine.kernel as unknown as { readonly trace: Trace }).trace;

/** The kernel notes these now; the clock stands still meanwhile. */
function inject(machine: Machine, events: readonly TraceEvent[]): void {
  for (const e of events) ringOf(machine).emit(nameOf(e), e.session, e.a, e.b, e.durationNs);
}

function succeed(t: ExecutionContext, machine: Machine, command: string): string {
  const { status, stdout, stderr } = machine.exec(command);
  t.is(status, 0, `${command}: ${stderr}`);
  return stdout;
}

/** The ring's records as a program reads them. */
function ringRecords(t: ExecutionContext, machine: Machine, directory: string): TraceEvent[] {
  succeed(t, machine, 'cat /dev/trace > /host/ring');
  return recordsOf(readFileSync(path.join(directory, 'ring')));
}

/** Both files that llmctl writes of a machine that nothing runs on, held against the ring. */
function checkFiles(
  t: ExecutionContext,
  machine: Machine,
  directory: string,
): { readonly events: readonly TraceEvent[]; readonly items: readonly Item[] } {
  const events = ringRecords(t, machine, directory);
  const { dropped } = ringOf(machine);
  const counts = Object.fromEntries(
    KINDS.map(kind => [kind, events.filter(e => nameOf(e) === kind).length]).filter(([, n]) => n !== 0),
  );
  const facts = (file: string, format: string, bytes: number) => ({
    file,
    format,
    bytes,
    events: events.length,
    dropped,
    first_ns: events[0]?.atNs ?? null,
    last_ns: events.at(-1)?.atNs ?? null,
    counts,
  });
  const said = (command: string): unknown => JSON.parse(succeed(t, machine, command));
  const perfetto = said('llmctl trace --json /host/t.pftrace');
  const bytes = readFileSync(path.join(directory, 't.pftrace'));
  t.deepEqual(perfetto, facts('/host/t.pftrace', 'perfetto', bytes.length));
  t.true(bytes.equals(perfettoTrace(events, dropped)));
  const { items } = checkPerfetto(t, events, dropped);
  const ctf = said('llmctl trace --json --format ctf /host/ctf');
  const stream = readFileSync(path.join(directory, 'ctf/stream'));
  t.deepEqual(ctf, facts('/host/ctf', 'ctf', stream.length));
  t.true(stream.equals(Buffer.concat([...ctfStream(events, dropped)])));
  t.is(readFileSync(path.join(directory, 'ctf/metadata'), 'utf8'), ctfMetadata());
  if (existsSync(BABELTRACE)) {
    const read = readCtf(path.join(directory, 'ctf'));
    t.deepEqual(read.lines, events.map(printed));
    t.is(read.lost, dropped);
  }
  return { events, items };
}

test('llmctl trace: both files of one ring, their counts, what is refused', t => {
  const { machine, directory } = machineWith(t);
  inject(machine, SHORT);
  checkFiles(t, machine, directory);
  t.regex(
    succeed(t, machine, 'llmctl trace /tmp/t.pftrace'),
    /^submit +2\nadmit +1\n(?:[a-z-]+ +\d+\n)+\/tmp\/t\.pftrace: 18 events, [\d,]+ bytes\n$/,
  );
  t.regex(succeed(t, machine, 'ls -l /tmp/t.pftrace'), /^-rw------- 1 root root/);
  succeed(t, machine, 'llmctl trace --format ctf /tmp/ctf');
  t.is(succeed(t, machine, 'ls /tmp/ctf'), 'metadata\nstream\n');
  inject(machine, anyEvents(5, LIMITS.traceRecords));
  checkFiles(t, machine, directory);
  t.regex(
    succeed(t, machine, 'llmctl trace /tmp/t.pftrace'),
    /: 16,384 events, [\d,]+ bytes; 18 older ones are gone\n$/,
  );
  const refused = (command: string, status: number, message: string): void => {
    const r = machine.exec(command);
    t.deepEqual([r.status, r.stdout, r.stderr.split('\n')[0]], [status, '', message], command);
  };
  refused('llmctl trace', 2, 'llmctl: trace: missing operand: FILE [--format FORMAT]');
  refused('llmctl trace --format json /tmp/x', 2, "llmctl: trace: no format 'json': perfetto or ctf");
  refused('llmctl status --format ctf', 2, 'llmctl: status takes no --format');
  refused('llmctl trace /nowhere/t', 1, 'llmctl: /nowhere/t: No such file or directory');
  refused('llmctl trace /tmp', 1, 'llmctl: /tmp: Is a directory');
  refused('llmctl trace --format ctf /tmp/t.pftrace', 1, 'llmctl: /tmp/t.pftrace: File exists');
  refused('llmctl trace /dev/full', 1, 'llmctl: /dev/full: No space left on device');
  refused('llmctl trace --format ctf /nowhere/t', 1, 'llmctl: /nowhere/t: No such file or directory');
  refused("su user -c 'cat /tmp/t.pftrace'", 1, 'cat: /tmp/t.pftrace: Permission denied');
  refused('echo x > /dev/trace', 1, 'echo: write error: Operation not permitted');
});

test('a user traces and profiles their own sessions, and sees nothing of those of others', t => {
  const machine = boot({ strict: true, image });
  succeed(t, machine, 'llmctl submit -n 3 Once; su user -c "llmctl submit -n 5 Then"; sleep 5');
  const counts = (who: string): Record<string, number> =>
    (JSON.parse(succeed(t, machine, `${who}; rm /tmp/t`)) as { counts: Record<string, number> }).counts;
  const own = counts(`su user -c 'llmctl trace --json /tmp/t'`);
  const all = counts('llmctl trace --json /tmp/t');
  t.deepEqual([own['submit'], own['token'], own['end']], [1, 5, 1]);
  t.deepEqual([all['submit'], all['token'], all['end']], [2, 8, 2]);
  t.is(own['pass'], all['pass']);
  t.regex(succeed(t, machine, `su user -c 'llmctl profile'`), /^session 2, DONE, /);
  t.is(machine.exec(`su user -c 'llmctl profile 1'`).status, 1);
});

/** Servers, hogs that outgrow the page pool, another user, a refusal, a cancellation: everything that is traced but a missed deadline. */
const BUSY = [
  'llmctl load fable-q4_0 --kv f32',
  'llminfer --json --seed 1 --max-tokens 20 --period 700 Once upon a time > /tmp/1 &',
  'llminfer --json --seed 2 --max-tokens 20 --period 900 --soft The little girl > /tmp/2 &',
  'llminfer --deadline 1 --max-tokens 60 no way',
  "su user -c 'llminfer --json --seed 3 --max-tokens 5 Once upon a time' > /tmp/3 &",
  'for i in 4 5 6 7 8 9 10 11',
  'do llminfer --json --seed $i --max-tokens 230 "The old man number $i went to the sea" > /tmp/$i &',
  'done',
  'wait',
  'id=$(llmctl submit --max-tokens 100 Once there was a dog)',
  'llmctl cancel $id',
  'llminfer --json --seed 12 --max-tokens 9 Ten little boats > /tmp/12',
  'echo The old man and the sea. > /tmp/text',
  'llmfinetune start /tmp/text sea --quiet --store /tmp/adapters --ctx 8 --rank 1 > /dev/null',
].join('\n');

interface Answer {
  readonly id: number;
  readonly prompt_tokens: readonly number[];
  readonly tokens: readonly number[];
  readonly finish_reason: string;
  readonly ttft_ns: number;
  readonly elapsed_ns: number;
  readonly shared_tokens: number;
  readonly preemptions: number;
  readonly swap_ins: number;
}
interface Stats {
  readonly pages: Readonly<Record<string, number>>;
  readonly [name: string]: unknown;
}

test('the trace of a busy machine agrees with llmstats, /proc, the answers, and itself', t => {
  const { machine, directory } = machineWith(t);
  succeed(t, machine, BUSY);
  const stats = JSON.parse(succeed(t, machine, 'llmstats --json')) as Stats;
  const proc = succeed(t, machine, 'cat /proc/trace');
  const { events, items } = checkFiles(t, machine, directory);
  const of = (kind: TraceKind): TraceEvent[] => events.filter(e => nameOf(e) === kind);
  const sum = (kind: TraceKind, field: 'a' | 'b' | 'durationNs'): number => of(kind).reduce((n, e) => n + e[field], 0);
  for (const kind of KINDS) if (kind !== 'miss') t.true(of(kind).length > 0, `${kind} has happened`);

  const lines = KINDS.filter(kind => of(kind).length > 0).map(kind => `${kind} ${of(kind).length}\n`);
  t.is(proc, `events ${events.length}\ndropped 0\n${lines.join('')}`);
  t.like(stats, {
    sessions_total: of('submit').length,
    rejects: of('reject').length,
    prompt_tokens: sum('submit', 'a'),
    output_tokens: of('token').length,
    cancelled: of('end').filter(e => FINISH[e.a] === 'cancel').length,
    server_misses: of('miss').length,
    servers_accepted: of('admit').length,
    preemptions: of('preempt').length,
    passes: of('pass').length,
    rows: sum('pass', 'a'),
    busy_ns: sum('pass', 'durationNs'),
    prefix_tokens: sum('begin', 'b'),
  });
  const { copies, swap_outs: outs, swap_ins: ins, total = 0, free = 0, cached = 0 } = stats.pages;
  t.deepEqual([copies, outs, ins], [of('copy').length, sum('swap-out', 'a'), sum('swap-in', 'a')]);
  t.is(of('arena').at(-1)!.b, total - free - cached);
  t.deepEqual([of('queue').at(-1)!.a, of('queue').at(-1)!.b], [stats['queue_depth'], stats['sessions_active']]);
  for (let i = 1; i <= 12; i++) checkAnswer(t, events, JSON.parse(succeed(t, machine, `cat /tmp/${i}`)) as Answer);
  checkPasses(t, events);
  const slices = items.filter(i => i.slice && i.name !== 'queued');
  const shown = slices.reduce((n, i) => n + i.endNs! - i.beginNs, 0);
  t.is(
    shown,
    TIMED.reduce((n, kind) => n + sum(kind, 'durationNs'), 0),
    'no slice had to be cut',
  );
});

test('the same requests leave the same trace, whichever build computes', t => {
  const traces = BUILDS.filter(canRun).map(build => {
    const machine = boot({ strict: true, image, build });
    succeed(t, machine, 'for i in 1 2 3; do llminfer --seed $i --max-tokens 6 Once upon a time & done; wait');
    succeed(t, machine, 'llmctl trace /tmp/t; llmctl trace --format ctf /tmp/ctf');
    return succeed(t, machine, 'wc -c /dev/trace; sha256sum /dev/trace /tmp/t /tmp/ctf/*');
  });
  t.is(new Set(traces).size, 1);
});

/** What a program was told of its session, and what the trace says of it. */
function checkAnswer(t: ExecutionContext, events: readonly TraceEvent[], answer: Answer): void {
  const own = events.filter(e => e.session === answer.id);
  const of = (kind: TraceKind): TraceEvent[] => own.filter(e => nameOf(e) === kind);
  const [submit] = of('submit');
  const [begin] = of('begin');
  const [end] = of('end');
  t.is(submit?.a, answer.prompt_tokens.length);
  t.deepEqual(
    of('token').map(e => [e.a, e.b]),
    answer.tokens.map((token, i) => [token, i + 1]),
  );
  t.deepEqual([begin?.b, of('preempt').length], [answer.shared_tokens, answer.preemptions]);
  t.is(
    of('swap-in').reduce((n, e) => n + e.a, 0),
    answer.swap_ins,
  );
  t.deepEqual([FINISH[end!.a], end!.b], [answer.finish_reason, answer.tokens.length]);
  t.is(of('token')[0]!.atNs - submit!.atNs, answer.ttft_ns);
  t.is(end!.atNs - submit!.atNs, answer.elapsed_ns);
  // Each position after those shared is computed once, but by sessions that gave up their pages.
  const steps = own.filter(e => nameOf(e) === 'prefill' || nameOf(e) === 'decode');
  const first = steps.map(e => e.a);
  if (first.every((pos, i) => i === 0 || pos > first[i - 1]!))
    t.deepEqual(
      first,
      steps.map((_, i) => begin!.b + steps.slice(0, i).reduce((n, e) => n + e.b, 0)),
    );
}

/** Passes follow one another; each is the time of its sessions' parts, whose tokens are its rows; tokens are drawn in parts. */
function checkPasses(t: ExecutionContext, events: readonly TraceEvent[]): void {
  const passes = events.filter(e => nameOf(e) === 'pass');
  const parts = events.filter(e => nameOf(e) === 'prefill' || nameOf(e) === 'decode');
  let busyUntil = 0;
  for (const pass of passes) {
    if (pass.atNs - pass.durationNs < busyUntil) t.fail(`the pass at ${pass.atNs} begins before ${busyUntil}`);
    busyUntil = pass.atNs;
    const own = parts.filter(e => e.atNs === pass.atNs && e.durationNs === pass.durationNs);
    const rows = own.reduce((n, e) => n + e.b, 0);
    if (own.length !== pass.b || rows !== pass.a) t.fail(`the pass at ${pass.atNs}: ${own.length} parts, ${rows} rows`);
  }
  for (const token of events.filter(e => nameOf(e) === 'token')) {
    const within = (e: TraceEvent): boolean => e.atNs - e.durationNs <= token.atNs && token.atNs <= e.atNs;
    if (!parts.some(e => e.session === token.session && within(e)))
      t.fail(`the token at ${token.atNs} is drawn outside of steps`);
  }
}

test('the manual and docs/TRACE.md name every kind and its numbers', t => {
  const page = readFileSync('images/root/usr/share/man/trace.md', 'utf8');
  const listed = [...page.matchAll(/^ {4}([a-z-]+?)(\*?) {2,}([a-z_ ]+?)(?: {2,}.*)?$/gm)].map(
    ([, kind, timed, names]) => [kind, timed === '*', names],
  );
  const wanted = KINDS.map(kind => [kind, TIMED.includes(kind), MEANING[kind]]);
  t.deepEqual(listed, wanted);
  const rows = readFileSync('docs/TRACE.md', 'utf8').matchAll(/^\| `([a-z-]+)` \| (.*?) \| (.*?) \|$/gm);
  const described = [...rows].map(([, kind, when = '', numbers = '']) => [
    kind,
    /took time/.test(when) || when === 'the same' || when.startsWith('the same,'),
    [...numbers.matchAll(/`([a-z_]+)`/g)].map(([, name]) => name).join(' '),
  ]);
  t.deepEqual(described, wanted);
});
