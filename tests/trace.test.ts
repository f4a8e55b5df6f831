// What the kernel traces, and the two files that llmctl makes of it. The ring against a plain list of what was emitted; the Perfetto trace
// read by protobufjs with the field numbers that Perfetto publishes; the CTF trace read by babeltrace2.

import v8 from 'node:v8';
import test from 'ava';
import { E, IOCTL, LIMITS, TRACE, TraceRecord, type CharDevice, type TraceKind } from '../kernel/abi/index.ts';
import { Trace } from '../kernel/trace.ts';
import { makeRandom } from './support/arena.ts';

type TraceEvent = ReturnType<typeof TraceRecord.read>;
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
    t.deepEqual(recordsOf(readAll(trace.device().open!(), 4096)), kept);
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
  const first = trace.device().open!();
  const memory = new Uint8Array(64);
  t.is(first.read(memory, 3, 7), 7);
  fill(LIMITS.traceRecords); // everything that the first open shows has been replaced
  const second = trace.device().open!();
  fill(1);
  t.deepEqual([first, second].map(stream => stream.ioctl!(IOCTL.traceDropped, 0)), [5, LIMITS.traceRecords + 5]);
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
