// The kernel's events as every reader of them sees them: records out of the bytes of /dev/trace, and what the two numbers of each kind are
// called. One table for the Perfetto trace, the CTF trace and the manual; the kinds themselves are the ABI's (TRACE).

import { FINISH, SERVER, TRACE, TraceRecord } from '../../kernel/abi/index.ts';
import type { RecordValue, TraceKind } from '../../kernel/abi/index.ts';

export type TraceEvent = RecordValue<typeof TraceRecord.fields>;

/** Numbers that stand for words, by number. */
export type Names = readonly (readonly [number: number, name: string])[];

interface EventField {
  readonly from: 'a' | 'b';
  readonly name: string;
  readonly names?: Names;
}

export interface EventKind {
  readonly kind: TraceKind;
  /** Its number in a record. */
  readonly id: number;
  /** It takes time: its record has a duration. */
  readonly timed: boolean;
  readonly fields: readonly EventField[];
}

const servers: Names = Object.entries(SERVER).map(([name, n]) => [n, name]);
const finishes: Names = FINISH.map((name, n) => [n, name === '' ? 'none' : name] as const);

/** What `a` and `b` are called; kinds with `b` null have one number. */
const NAMES: Readonly<Record<TraceKind, readonly [a: string, b: string | null]>> = {
  submit: ['prompt_tokens', 'max_tokens'],
  admit: ['ppm', 'server'],
  reject: ['code', 'errno'],
  begin: ['slot', 'shared_tokens'],
  pass: ['rows', 'sessions'],
  prefill: ['position', 'tokens'],
  decode: ['position', 'tokens'],
  token: ['token', 'output_tokens'],
  throttle: ['wait_ms', null],
  refill: ['cycles', null],
  miss: ['late_us', null],
  preempt: ['by_session', null],
  'swap-out': ['pages', 'bytes'],
  'swap-in': ['pages', 'bytes'],
  copy: ['page', null],
  end: ['finish', 'output_tokens'],
  queue: ['waiting', 'running'],
  arena: ['bytes', 'kv_pages'],
  train: ['training', 'updates'],
};
const TIMED: ReadonlySet<TraceKind> = new Set<TraceKind>([
  'pass',
  'prefill',
  'decode',
  'token',
  'swap-out',
  'swap-in',
  'train',
]);
const WORDS: Readonly<Partial<Record<string, Names>>> = { server: servers, finish: finishes };

/** The kinds in the order of their numbers, which begin at 1. */
export const eventKinds: readonly EventKind[] = (TRACE.slice(1) as readonly TraceKind[]).map((kind, i) => {
  const fields = NAMES[kind].flatMap((name, k): EventField[] => {
    if (name === null) return [];
    const names = WORDS[name];
    return [{ from: k === 0 ? 'a' : 'b', name, ...(names === undefined ? {} : { names }) }];
  });
  return { kind, id: i + 1, timed: TIMED.has(kind), fields };
});

/** The kind of an event. */
export const kindOf = (event: TraceEvent): EventKind => eventKinds[event.kind - 1]!;

/** Whole records; a piece of one at the end is dropped. */
export function decodeEvents(bytes: Uint8Array): TraceEvent[] {
  const count = Math.floor(bytes.length / TraceRecord.bytes);
  return Array.from({ length: count }, (_, i) => TraceRecord.read(bytes, i * TraceRecord.bytes));
}

/** How many of each kind, in the order of TRACE; kinds without any are left out. */
export function countEvents(events: readonly TraceEvent[]): readonly (readonly [kind: TraceKind, count: number])[] {
  const counts = eventKinds.map(() => 0);
  for (const event of events) counts[event.kind - 1]!++;
  return eventKinds.flatMap(({ kind, id }) => (counts[id - 1]! > 0 ? [[kind, counts[id - 1]!] as const] : []));
}
