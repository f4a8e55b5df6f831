// Records of /dev/trace, and what they add up to: who ran when, how long anybody waited, which deadlines were missed. Records come in
// batches and are never read twice; what is older than the ring of the kernel is forgotten here too. See docs/TRACE.md.

import { FINISH, LIMITS, SERVER, TRACE, TraceRecord, type TraceKind } from '../../../../kernel/abi/index.ts';

export interface TraceEvent {
  readonly kind: TraceKind;
  readonly atNs: number;
  readonly durationNs: number;
  readonly session: number;
  readonly a: number;
  readonly b: number;
}

/** Records one after another, as /dev/trace has them. Kinds that this page does not know are left out. */
export function parseTrace(bytes: Uint8Array): TraceEvent[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { at } = TraceRecord;
  const long = (i: number): number => view.getUint32(i, true) + view.getUint32(i + 4, true) * 2 ** 32;
  const events: TraceEvent[] = [];
  for (let i = 0; i + TraceRecord.bytes <= bytes.length; i += TraceRecord.bytes) {
    const kind = TRACE[view.getUint32(i + at.kind, true)];
    if (kind === undefined || kind === '') continue;
    events.push({
      kind,
      atNs: long(i + at.atNs),
      durationNs: long(i + at.durationNs),
      session: view.getUint32(i + at.session, true),
      a: view.getUint32(i + at.a, true),
      b: view.getUint32(i + at.b, true),
    });
  }
  return events;
}

/** What took time. */
export interface Span {
  readonly kind: 'queued' | 'prefill' | 'decode' | 'token' | 'swap-out' | 'swap-in' | 'throttle';
  readonly fromNs: number;
  /** Infinity: not over. */
  toNs: number;
  readonly note: string;
}

/** What happened at a moment. */
export interface Mark {
  readonly kind: 'miss' | 'preempt' | 'refill' | 'copy' | 'end' | 'reject' | 'admit';
  readonly atNs: number;
  readonly note: string;
}

/** One session's life. */
export interface Lane {
  readonly session: number;
  readonly spans: Span[];
  readonly marks: Mark[];
  finish: string;
  tokens: number;
  /** In passes, so far. */
  busyNs: number;
}

export interface Pass {
  readonly fromNs: number;
  readonly toNs: number;
  readonly rows: number;
  readonly sessions: number;
}

/** A token drawn, and what its reader waited for it. */
export interface TokenTime {
  readonly atNs: number;
  readonly session: number;
  /** Since the one before, or, of a session's first, since submission; NaN where that was forgotten. */
  readonly waitNs: number;
  readonly isFirst: boolean;
}

const NAMES_OF_SERVERS = Object.fromEntries(Object.entries(SERVER).map(([name, n]) => [n, name]));

/** Everything that the records of one power-on have told so far. */
export class Timeline {
  readonly lanes = new Map<number, Lane>();
  /** In order of time, as everything below. */
  passes: Pass[] = [];
  tokens: TokenTime[] = [];
  /** Of no session: refused requests. */
  refusals: Mark[] = [];
  /** Counts of all events seen, by kind, as /proc/trace has them. */
  readonly counts = new Map<TraceKind, number>();
  events = 0;
  /** Time of the newest event. */
  lastNs = 0;
  waiting = 0;
  running = 0;
  private readonly before = new Map<number, number>();

  add(events: readonly TraceEvent[]): void {
    for (const event of events) {
      this.events++;
      this.lastNs = Math.max(this.lastNs, event.atNs);
      this.counts.set(event.kind, (this.counts.get(event.kind) ?? 0) + 1);
      this.one(event);
    }
    if (this.passes.length > LIMITS.traceRecords) this.passes = this.passes.slice(-LIMITS.traceRecords);
    if (this.tokens.length > LIMITS.traceRecords) this.tokens = this.tokens.slice(-LIMITS.traceRecords);
    this.forget();
  }

  private one(event: TraceEvent): void {
    const { kind, atNs, durationNs, session, a, b } = event;
    const fromNs = atNs - durationNs;
    if (kind === 'pass') this.passes.push({ fromNs, toNs: atNs, rows: a, sessions: b });
    else if (kind === 'queue') [this.waiting, this.running] = [a, b];
    else if (kind === 'reject') this.refusals.push({ kind, atNs, note: `refused: code ${a}` });
    else if (session !== 0) this.ofSession(this.laneOf(session), event, fromNs);
  }

  private ofSession(lane: Lane, { kind, atNs, a, b }: TraceEvent, fromNs: number): void {
    const span = (name: Span['kind'], note: string): unknown =>
      lane.spans.push({ kind: name, fromNs, toNs: atNs, note });
    const mark = (name: Mark['kind'], note: string): unknown => lane.marks.push({ kind: name, atNs, note });
    switch (kind) {
      case 'submit':
        this.before.set(lane.session, atNs);
        lane.spans.push({ kind: 'queued', fromNs: atNs, toNs: Infinity, note: `prompt of ${a} tokens` });
        break;
      case 'begin':
        this.close(lane, 'queued', atNs);
        break;
      case 'admit':
        mark(kind, `${NAMES_OF_SERVERS[b] ?? ''} server, ${a} ppm`);
        break;
      case 'prefill':
        lane.busyNs += atNs - fromNs;
        span(kind, `${b} ${b === 1 ? 'token' : 'tokens'} from position ${a}`);
        break;
      case 'decode':
        lane.busyNs += atNs - fromNs;
        span(kind, `position ${a}`);
        break;
      case 'token':
        this.token(lane, atNs, b);
        span(kind, `output token ${b}, id ${a}`);
        break;
      case 'throttle':
        lane.spans.push({ kind, fromNs: atNs, toNs: Infinity, note: `budget used up, ${a} ms to the next period` });
        break;
      case 'refill':
        this.close(lane, 'throttle', atNs);
        mark(kind, `budget filled: ${a} cycles`);
        break;
      case 'swap-out':
      case 'swap-in':
        span(kind, `${a} pages, ${b} bytes`);
        break;
      case 'miss':
        mark(kind, `deadline missed by ${a} µs`);
        break;
      case 'preempt':
        mark(kind, `session ${a} goes first`);
        break;
      case 'copy':
        mark(kind, `page ${a} copied on write`);
        break;
      case 'end':
        this.close(lane, 'queued', atNs);
        this.close(lane, 'throttle', atNs);
        lane.finish = FINISH[a] ?? '';
        mark(kind, `${lane.finish}, ${b} tokens`);
        break;
      default:
    }
  }

  private token(lane: Lane, atNs: number, n: number): void {
    const before = this.before.get(lane.session);
    this.tokens.push({
      atNs,
      session: lane.session,
      waitNs: before === undefined ? NaN : atNs - before,
      isFirst: n === 1,
    });
    this.before.set(lane.session, atNs);
    lane.tokens = n;
  }

  private laneOf(session: number): Lane {
    let lane = this.lanes.get(session);
    if (lane === undefined) {
      lane = { session, spans: [], marks: [], finish: '', tokens: 0, busyNs: 0 };
      this.lanes.set(session, lane);
    }
    return lane;
  }

  private close(lane: Lane, kind: Span['kind'], atNs: number): void {
    for (let i = lane.spans.length - 1; i >= 0; i--) {
      const span = lane.spans[i]!;
      if (span.kind === kind && span.toNs === Infinity) {
        span.toNs = atNs;
        return;
      }
    }
  }

  /** No more lanes than the machine can have sessions twice over: the oldest that ended go. */
  private forget(): void {
    for (const [session, lane] of this.lanes) {
      if (this.lanes.size <= 2 * LIMITS.sessionsMax) return;
      if (lane.finish === '') continue;
      this.lanes.delete(session);
      this.before.delete(session);
    }
  }
}

/** Token rates and waits in equal stretches of virtual time, for charts. */
export interface Buckets {
  readonly widthNs: number;
  /** Seconds: the middle of each. */
  readonly times: number[];
  readonly perSecond: number[];
  /** Milliseconds; null where no token came. */
  readonly median: (number | null)[];
  readonly longest: (number | null)[];
  readonly first: (number | null)[];
}

/** The width is the least of 50 ms × 2ⁿ with which all tokens lie in at most `most` stretches. The last stretch ends at `nowNs`. */
export function buckets(tokens: readonly TokenTime[], nowNs: number, most: number): Buckets {
  const beginNs = tokens[0]?.atNs ?? nowNs;
  let widthNs = 50e6;
  const firstOf = (): number => Math.floor(beginNs / widthNs);
  const lastOf = (): number => Math.floor(Math.max(nowNs, beginNs) / widthNs);
  while (lastOf() - firstOf() + 1 > most) widthNs *= 2;
  const first = firstOf();
  const waits: number[][] = Array.from({ length: lastOf() - first + 1 }, () => []);
  const firsts: (number | null)[] = waits.map(() => null);
  const drawn = waits.map(() => 0);
  for (const { atNs, waitNs, isFirst } of tokens) {
    const i = Math.min(waits.length - 1, Math.floor(atNs / widthNs) - first);
    drawn[i]!++;
    if (Number.isNaN(waitNs)) continue;
    if (isFirst) firsts[i] = Math.max(firsts[i] ?? 0, waitNs / 1e6);
    else waits[i]!.push(waitNs / 1e6);
  }
  for (const list of waits) list.sort((x, y) => x - y);
  return {
    widthNs,
    times: waits.map((_, i) => ((first + i + 0.5) * widthNs) / 1e9),
    perSecond: drawn.map(n => n / (widthNs / 1e9)),
    median: waits.map(list => list[(list.length - 1) >> 1] ?? null),
    longest: waits.map(list => list.at(-1) ?? null),
    first: firsts,
  };
}
