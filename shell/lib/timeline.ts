// Events laid out on tracks, as a viewer draws them: the processor, the block device, each session, and counters beside them. Slices of one
// track follow each other and never overlap, and no track's time runs backwards; so every viewer nests them alike. A flow is the chain of
// arrows from a request through its prefill to each of its tokens. After Perfetto's model of tracks and track events.

import { kindOf } from './trace-events.ts';
import type { TraceEvent } from './trace-events.ts';

export const COUNTERS = ['arena', 'KV pages', 'waiting', 'running'] as const;
export type Counter = (typeof COUNTERS)[number];

/** `cpu`, `block`, a counter's name, or the id of a session. */
export type Track = 'cpu' | 'block' | Counter | number;

export interface TrackPoint {
  readonly atNs: number;
  readonly track: Track;
  readonly type: 'begin' | 'end' | 'instant' | 'counter';
  /** Of slices and instants; an end has its beginning's. */
  readonly name: string;
  /** Beginnings and instants: the event whose numbers they carry. */
  readonly event?: TraceEvent;
  /** Counters. */
  readonly value?: number;
  /** The request whose flow goes through here, by its session's id. */
  readonly flow?: number;
  /** The flow ends here. */
  readonly last?: boolean;
}

/** The slice of a session between its submission and its beginning. */
export const WAITING = 'queued';

/** Kinds that stand on the block device's track; the processor's has `pass` and whatever belongs to no session. */
const BLOCK: ReadonlySet<string> = new Set(['swap-out', 'swap-in']);
const FLOW: ReadonlySet<string> = new Set(['submit', 'prefill', 'token', 'end']);

class Layout {
  readonly points: TrackPoint[] = [];
  /** Where the slices of each track have come to: the next begins there or later. Instants may lie inside of slices. */
  private readonly sliceNs = new Map<Track, number>();
  private readonly waiting = new Set<number>();

  add(event: TraceEvent): void {
    const { kind, timed } = kindOf(event);
    const { atNs, session } = event;
    if (kind === 'queue' || kind === 'arena') return this.count(event, kind === 'queue' ? 2 : 0);
    if (kind === 'begin' || kind === 'end' || kind === 'submit') this.leaveQueue(session, atNs);
    const track: Track = BLOCK.has(kind) ? 'block' : kind === 'pass' || session === 0 ? 'cpu' : session;
    const flow = session !== 0 && FLOW.has(kind) ? { flow: session, last: kind === 'end' } : {};
    const point = { track, name: kind, event, ...flow };
    if (timed) {
      // A slice that would reach into what is there already begins where that ends.
      const beginNs = Math.max(0, atNs - event.durationNs, this.sliceNs.get(track) ?? 0);
      this.points.push({ ...point, atNs: beginNs, type: 'begin' }, { atNs, track, type: 'end', name: kind });
      this.sliceNs.set(track, atNs);
    } else this.points.push({ ...point, atNs, type: 'instant' });
    if (kind === 'submit' && session !== 0) this.enterQueue(session, atNs);
  }

  private enterQueue(session: number, atNs: number): void {
    this.waiting.add(session);
    this.sliceNs.set(session, atNs);
    this.points.push({ atNs, track: session, type: 'begin', name: WAITING });
  }
  private leaveQueue(session: number, atNs: number): void {
    if (!this.waiting.delete(session)) return;
    this.sliceNs.set(session, atNs);
    this.points.push({ atNs, track: session, type: 'end', name: WAITING });
  }
  private count({ atNs, a, b }: TraceEvent, first: number): void {
    for (const [i, value] of [a, b].entries())
      this.points.push({ atNs, track: COUNTERS[first + i]!, type: 'counter', name: COUNTERS[first + i]!, value });
  }
}

/**
 * The points of all events, by time; those of one moment in the order in which they came. A slice that has no end is the wait of a session
 * that waits still.
 */
export function layTimeline(events: readonly TraceEvent[]): readonly TrackPoint[] {
  const layout = new Layout();
  for (const event of events) layout.add(event);
  return layout.points.sort((a, b) => a.atNs - b.atNs);
}
