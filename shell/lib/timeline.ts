// Events laid out on tracks, as a viewer draws them: the processor, the block device, each session, and counters beside them. Slices of one
// track lie beside or within each other, and no track's time runs backwards; so every viewer nests them alike. A flow is the chain of arrows
// from a request through its prefill to each of its tokens. After Perfetto's model of tracks and track events.

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
const WAITING = 'queued';

/** Kinds that stand on the block device's track; the processor's has `pass` and whatever belongs to no session. */
const BLOCK: ReadonlySet<string> = new Set(['swap-out', 'swap-in']);
const FLOW: ReadonlySet<string> = new Set(['submit', 'prefill', 'token', 'end']);

/** A slice or an instant, and the span it takes: Infinity where its end is not known. */
interface Node {
  readonly beginNs: number;
  readonly endNs: number;
  readonly first: TrackPoint;
  readonly within: readonly Node[];
}

class Layout {
  /** What lies on each track, not within anything: in order, and disjoint. */
  private readonly tracks = new Map<Track, Node[]>();
  /** When each session that waits began to. */
  private readonly waiting = new Map<number, number>();
  private readonly counters: TrackPoint[] = [];

  add(event: TraceEvent): void {
    const { kind, timed } = kindOf(event);
    const { atNs, durationNs, session } = event;
    if (kind === 'queue' || kind === 'arena') return this.count(event, kind === 'queue' ? 2 : 0);
    if (kind === 'begin' || kind === 'end' || kind === 'submit') this.leaveQueue(session, atNs);
    const track: Track = BLOCK.has(kind) ? 'block' : kind === 'pass' || session === 0 ? 'cpu' : session;
    const flow = session !== 0 && FLOW.has(kind) ? { flow: session, last: kind === 'end' } : {};
    const point = { track, name: kind, event, ...flow };
    if (timed) this.slice(Math.max(0, atNs - durationNs), atNs, point);
    else
      this.nodesOf(track).push({ beginNs: atNs, endNs: atNs, first: { ...point, atNs, type: 'instant' }, within: [] });
    if (kind === 'submit' && session !== 0) this.waiting.set(session, atNs);
  }

  /** All points by time; those of one moment and track in an order in which they nest. */
  points(): TrackPoint[] {
    for (const session of this.waiting.keys()) this.leaveQueue(session, Infinity);
    const points = [...this.counters];
    const write = ({ first, within, endNs }: Node): void => {
      points.push(first);
      within.forEach(write);
      if (first.type === 'begin' && endNs < Infinity)
        points.push({ atNs: endNs, track: first.track, type: 'end', name: first.name });
    };
    for (const nodes of this.tracks.values()) nodes.forEach(write);
    return points.sort((a, b) => a.atNs - b.atNs); // stable
  }

  /**
   * Events come in the order of their ends, what is within before what is around it. A slice takes in what has begun since it did; where it
   * would cut something it begins at that one's end.
   */
  private slice(fromNs: number, endNs: number, point: Omit<TrackPoint, 'atNs' | 'type'>): void {
    const nodes = this.nodesOf(point.track);
    let i = nodes.length;
    while (i > 0 && nodes[i - 1]!.endNs > fromNs) i--;
    const cut = nodes[i];
    let beginNs = fromNs;
    if (cut !== undefined && cut.beginNs < fromNs) {
      beginNs = cut.endNs;
      i++;
    }
    const within = nodes.splice(i);
    nodes.push({ beginNs, endNs, first: { ...point, atNs: beginNs, type: 'begin' }, within });
  }

  private nodesOf(track: Track): Node[] {
    const nodes = this.tracks.get(track) ?? [];
    this.tracks.set(track, nodes);
    return nodes;
  }
  private leaveQueue(session: number, atNs: number): void {
    const sinceNs = this.waiting.get(session);
    if (sinceNs !== undefined) this.slice(sinceNs, atNs, { track: session, name: WAITING });
    this.waiting.delete(session);
  }
  private count({ atNs, a, b }: TraceEvent, first: number): void {
    for (const [i, value] of [a, b].entries()) {
      const track = COUNTERS[first + i]!;
      this.counters.push({ atNs, track, type: 'counter', name: track, value });
    }
  }
}

/** The points of all events. A slice that has no end is the wait of a session that waits still. */
export function layTimeline(events: readonly TraceEvent[]): readonly TrackPoint[] {
  const layout = new Layout();
  for (const event of events) layout.add(event);
  return layout.points();
}
