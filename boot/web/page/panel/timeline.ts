// The timeline of the schedule: a lane for the processor's passes and one for each session, drawn on a canvas over the machine's own time, with a
// cursor that the arrow keys move from event to event. What a span is, is told by its pattern and its place; the colour only helps.

import { el } from '../dom.ts';
import { setAttribute, setText } from './dom.ts';
import { time } from './format.ts';
import { fill, onPalette, palette, prepared, tickStep, type Box, type Hatch, type Palette } from './palette.ts';
import type { Row } from './parse-text.ts';
import { Timeline, type Lane, type Mark, type Pass, type Span } from './parse-trace.ts';

const GUTTER = 40;
const LANE = 24;
const AXIS = 20;
const LANES_MOST = 12;
/** Stretches of time that can be seen. */
const SPANS_NS = [50e6, 100e6, 250e6, 500e6, 1e9, 2.5e9, 5e9, 10e9, 30e9, 60e9];

/** How a span is drawn: which of the page's colours, and which pattern. */
export const LOOKS: Record<Span['kind'], { readonly series: number; readonly hatch: Hatch; readonly title: string }> = {
  queued: { series: 7, hatch: 'dots', title: 'waits' },
  prefill: { series: 1, hatch: 'lines', title: 'prompt' },
  decode: { series: 0, hatch: 'solid', title: 'pass' },
  token: { series: 2, hatch: 'solid', title: 'draw' },
  throttle: { series: 4, hatch: 'empty', title: 'budget used up' },
  'swap-out': { series: 3, hatch: 'cross', title: 'swap' },
  'swap-in': { series: 3, hatch: 'cross', title: 'swap' },
};
const MARKS: Record<Mark['kind'], string> = {
  miss: '!',
  preempt: '<',
  refill: '|',
  copy: 'c',
  end: '■',
  reject: '×',
  admit: '+',
};

/** What the cursor can stand on. */
interface Stop {
  readonly fromNs: number;
  readonly toNs: number;
  readonly text: string;
}

/** The board, its buttons, what its signs mean, and what is pointed at. */
export class TimelineBoard {
  private readonly canvas = el('canvas', { 'aria-hidden': 'true' });
  readonly element = el(
    'div',
    {
      class: 'board',
      role: 'application',
      tabindex: 0,
      'aria-label':
        'Timeline: arrow keys go from event to event and from lane to lane, plus and minus change the scale',
    },
    this.canvas,
  );
  readonly caption = el('p', { class: 'caption', 'aria-live': 'polite' });
  private readonly follow = button('Follow', 'Follow', () => this.setFollow(!this.isFollowing));
  private readonly scale = el('span', { class: 'scale' });
  readonly controls = el(
    'div',
    { class: 'tools', role: 'group', 'aria-label': 'Timeline' },
    button('←', 'Earlier', () => this.pan(-0.5)),
    button('→', 'Later', () => this.pan(0.5)),
    button('−', 'Longer stretch of time', () => this.zoom(1)),
    this.scale,
    button('+', 'Shorter stretch of time', () => this.zoom(-1)),
    this.follow,
  );
  readonly legend = legend();
  private timeline = new Timeline();
  private sessions: readonly Row[] = [];
  /** What is seen: the SPANS_NS before `endNs`; while it follows, before the newest event. */
  private span = 5;
  private endNs = 0;
  private isFollowing = true;
  /** Where the cursor stands: 0 is the processor, then the lanes in sight. */
  private lane = 0;
  private cursor: Stop | null = null;
  private width = 0;
  private drawn = '';

  /** `redraw`: something has changed that no news tells. */
  constructor(private readonly redraw: () => void) {
    setAttribute(this.follow, 'aria-pressed', 'true');
    new ResizeObserver(entries => this.resize(entries[0]!.contentRect.width)).observe(this.element);
    onPalette(() => this.again());
    this.element.addEventListener('keydown', event => this.key(event));
    for (const name of ['focus', 'blur']) this.element.addEventListener(name, () => this.again()); // the cursor comes and goes
    this.element.addEventListener('pointermove', event => this.point(event.offsetX, event.offsetY));
  }

  /** Draws what has happened, if it is something else than is drawn. */
  update(timeline: Timeline, sessions: readonly Row[]): void {
    this.sessions = sessions;
    if (this.isFollowing) this.endNs = Math.max(timeline.lastNs, this.spanNs / 2);
    const deadlines = sessions.map(row => row['deadlineNs']).join();
    const { endNs, span, width, lane, cursor } = this;
    const text = [timeline.events, endNs, span, width, lane, cursor?.fromNs, deadlines].join();
    if (text === this.drawn && timeline === this.timeline) return;
    this.drawn = text;
    this.timeline = timeline;
    setText(this.scale, time(this.spanNs));
    this.draw();
  }

  private get spanNs(): number {
    return SPANS_NS[this.span]!;
  }

  private get beginNs(): number {
    return this.endNs - this.spanNs;
  }

  private again(): void {
    this.drawn = '';
    this.redraw();
  }

  private resize(width: number): void {
    if (width === 0 || width === this.width) return;
    this.width = width;
    this.again();
  }

  // ── Moving about ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private setFollow(isOn: boolean): void {
    this.isFollowing = isOn;
    setAttribute(this.follow, 'aria-pressed', String(isOn));
    this.redraw();
  }

  /** By so many steps; the middle stays where it is. */
  private zoom(by: number): void {
    const middle = this.endNs - this.spanNs / 2;
    this.span = Math.min(SPANS_NS.length - 1, Math.max(0, this.span + by));
    if (!this.isFollowing) this.endNs = middle + this.spanNs / 2;
    this.redraw();
  }

  private pan(share: number): void {
    this.endNs = Math.max(this.spanNs / 2, this.endNs + share * this.spanNs);
    this.setFollow(false);
  }

  private key(event: KeyboardEvent): void {
    const act = {
      ArrowLeft: () => this.step(-1),
      ArrowRight: () => this.step(1),
      ArrowUp: () => this.changeLane(-1),
      ArrowDown: () => this.changeLane(1),
      '+': () => this.zoom(-1),
      '=': () => this.zoom(-1), // the key that has + where it is shifted
      '-': () => this.zoom(1),
      End: () => this.setFollow(true),
    }[event.key];
    if (act === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    act();
  }

  private step(by: number): void {
    const all = this.stops(this.lane);
    const { cursor } = this;
    const here = cursor === null ? -1 : all.findIndex(s => s.fromNs === cursor.fromNs && s.text === cursor.text);
    const to = (here < 0 ? all.length : here) + by;
    this.stand(all[Math.min(all.length - 1, Math.max(0, to))]);
  }

  private changeLane(by: number): void {
    this.lane = Math.min(this.lanes().length, Math.max(0, this.lane + by));
    const atNs = this.cursor?.fromNs ?? this.endNs;
    const all = this.stops(this.lane);
    this.stand(all.findLast(s => s.fromNs <= atNs) ?? all[0]);
  }

  private stand(stop: Stop | undefined): void {
    if (stop === undefined) return;
    this.cursor = stop;
    setText(this.caption, `${time(stop.fromNs)}  ${stop.text}`);
    if (stop.fromNs >= this.beginNs && stop.fromNs <= this.endNs) return this.redraw();
    this.endNs = stop.fromNs + this.spanNs / 2;
    this.setFollow(false);
  }

  /** Says what lies under the pointer: the shortest, where several do. */
  private point(x: number, y: number): void {
    const nearNs = (3 * this.spanNs) / this.width;
    const atNs = this.beginNs + ((x - GUTTER) / (this.width - GUTTER)) * this.spanNs;
    const [best] = this.stops(Math.floor(y / LANE))
      .filter(s => s.fromNs - nearNs <= atNs && s.toNs + nearNs >= atNs)
      .sort((a, b) => a.toNs - a.fromNs - (b.toNs - b.fromNs));
    if (best !== undefined) setText(this.caption, `${time(best.fromNs)}  ${best.text}`);
  }

  /** Lanes in sight: sessions that did something then, the newest last. */
  private lanes(): Lane[] {
    const seen = (s: Span): boolean => s.toNs >= this.beginNs && s.fromNs <= this.endNs;
    return [...this.timeline.lanes.values()].filter(l => l.spans.some(seen)).slice(-LANES_MOST);
  }

  /** Everything in a lane, in order of time. */
  private stops(index: number): Stop[] {
    if (index === 0) return this.timeline.passes.map(stopOfPass);
    const lane = this.lanes()[index - 1];
    if (lane === undefined) return [];
    const spans = lane.spans.map(s => stopOfSpan(lane.session, s));
    const marks = lane.marks.map(m => {
      return { fromNs: m.atNs, toNs: m.atNs, text: `Session ${lane.session}, ${m.kind}: ${m.note}` };
    });
    return [...spans, ...marks].sort((a, b) => a.fromNs - b.fromNs);
  }

  // ── Drawing ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private draw(): void {
    const { beginNs, endNs, width, timeline } = this;
    const lanes = this.lanes();
    const height = LANE * (1 + Math.max(1, lanes.length)) + AXIS;
    this.canvas.style.height = `${height}px`;
    const context = prepared(this.canvas, width, height);
    if (context === null) return;
    const colours = palette();
    const x = (ns: number): number => GUTTER + ((ns - beginNs) / (endNs - beginNs)) * (width - GUTTER);
    drawAxis(context, colours, beginNs, endNs, x, height, width);
    drawGutter(context, colours, ['CPU', ...lanes.map(l => `#${l.session}`)], width);
    context.save();
    context.beginPath();
    context.rect(GUTTER, 0, width - GUTTER, height - AXIS);
    context.clip();
    drawPasses(context, colours, timeline.passes, x, beginNs, endNs);
    lanes.forEach((lane, i) => {
      drawLane(context, colours, lane, LANE * (i + 1), x, beginNs, endNs);
      const row = this.sessions.find(s => s['id'] === String(lane.session));
      const deadlineNs = Number(row?.['deadlineNs'] ?? 0);
      if (deadlineNs > 0) drawDeadline(context, colours, x(deadlineNs), LANE * (i + 1));
    });
    this.drawCursor(context, colours, x);
    context.restore();
  }

  private drawCursor(context: CanvasRenderingContext2D, colours: Palette, x: Scale): void {
    const { cursor, lane, width } = this;
    if (cursor === null || document.activeElement !== this.element) return;
    context.strokeStyle = colours.accent;
    context.lineWidth = 2;
    const left = x(cursor.fromNs);
    context.strokeRect(left - 1, LANE * lane + 3, Math.max(6, Math.min(x(cursor.toNs), width) - left) + 2, LANE - 6);
  }
}

function button(text: string, name: string, onclick: () => void): HTMLElement {
  return el('button', { type: 'button', 'aria-label': name, onclick }, text);
}

const plural = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;

function stopOfPass({ fromNs, toNs, rows, sessions }: Pass): Stop {
  const text = `Processor: a pass of ${plural(rows, 'row')} for ${plural(sessions, 'session')}, ${time(toNs - fromNs)}`;
  return { fromNs, toNs, text };
}

function stopOfSpan(session: number, { kind, fromNs, toNs, note }: Span): Stop {
  const took = toNs === Infinity ? '' : `, ${time(toNs - fromNs)}`;
  return { fromNs, toNs, text: `Session ${session}, ${LOOKS[kind].title}: ${note}${took}` };
}

function legend(): HTMLElement {
  const shown = ['queued', 'prefill', 'decode', 'token', 'throttle', 'swap-in'] as const;
  const spans = shown.map(kind => el('li', {}, el('span', { class: `swatch ${kind}` }), LOOKS[kind].title));
  const marks = (['miss', 'preempt', 'refill', 'copy', 'end'] as const).map(kind =>
    el(
      'li',
      {},
      el('span', { class: 'glyph' }, MARKS[kind]),
      { miss: 'deadline missed', preempt: 'preempted', refill: 'new period', copy: 'page copied', end: 'ended' }[kind],
    ),
  );
  return el(
    'ul',
    { class: 'legend' },
    ...spans,
    ...marks,
    el('li', {}, el('span', { class: 'glyph' }, '¦'), 'deadline'),
  );
}

type Scale = (ns: number) => number;

function label(
  context: CanvasRenderingContext2D,
  colours: Palette,
  text: string,
  x: number,
  y: number,
  colour: string,
): void {
  context.font = `11px ${colours.mono}`;
  context.textBaseline = 'middle';
  context.fillStyle = colour;
  context.fillText(text, x, y);
}

function drawGutter(
  context: CanvasRenderingContext2D,
  colours: Palette,
  names: readonly string[],
  width: number,
): void {
  names.forEach((name, i) => {
    label(context, colours, name, 0, LANE * (i + 0.5), colours.muted);
    context.fillStyle = colours.line;
    context.fillRect(0, LANE * (i + 1) - 0.5, width, 0.5);
  });
}

function drawAxis(
  context: CanvasRenderingContext2D,
  colours: Palette,
  fromNs: number,
  toNs: number,
  x: Scale,
  height: number,
  width: number,
): void {
  const step = tickStep(toNs - fromNs, Math.max(2, width / 90));
  for (let at = Math.ceil(fromNs / step) * step; at <= toNs; at += step) {
    if (at < 0) continue;
    context.fillStyle = colours.line;
    context.fillRect(x(at), 0, 1, height - AXIS + 4);
    const text = `${(at / 1e9).toFixed(step >= 1e9 ? 0 : step >= 1e8 ? 1 : step >= 1e7 ? 2 : 3)} s`;
    if (x(at) + 48 < width) label(context, colours, text, x(at) + 3, height - AXIS / 2, colours.muted);
  }
}

function drawLane(
  context: CanvasRenderingContext2D,
  colours: Palette,
  lane: Lane,
  top: number,
  x: Scale,
  fromNs: number,
  toNs: number,
): void {
  const boxes = new Map<Span['kind'], Box[]>();
  for (const s of lane.spans) {
    if (s.toNs < fromNs || s.fromNs > toNs) continue;
    const left = x(Math.max(s.fromNs, fromNs - 1e6)); // its edge out of sight
    const width = x(Math.min(s.toNs, toNs)) - left - 0.5;
    const box: Box = s.kind === 'token' ? [left, top + LANE - 9, width, 5] : [left, top + 5, width, LANE - 10];
    const of = boxes.get(s.kind);
    if (of === undefined) boxes.set(s.kind, [box]);
    else of.push(box);
  }
  for (const kind of Object.keys(LOOKS) as Span['kind'][])
    fill(context, boxes.get(kind) ?? [], colours.series[LOOKS[kind].series]!, LOOKS[kind].hatch);
  for (const m of lane.marks) {
    if (m.atNs < fromNs || m.atNs > toNs) continue;
    const colour = m.kind === 'miss' ? colours.bad : colours.text;
    label(context, colours, MARKS[m.kind], x(m.atNs) - 3, top + LANE / 2, colour);
  }
}

function drawDeadline(context: CanvasRenderingContext2D, colours: Palette, x: number, top: number): void {
  context.strokeStyle = colours.bad;
  context.lineWidth = 2;
  context.setLineDash([4, 3]);
  context.beginPath();
  context.moveTo(x, top + 1);
  context.lineTo(x, top + LANE - 1);
  context.stroke();
  context.setLineDash([]);
}

function drawPasses(
  context: CanvasRenderingContext2D,
  colours: Palette,
  passes: readonly Pass[],
  x: Scale,
  fromNs: number,
  toNs: number,
): void {
  const seen: Pass[] = [];
  for (let i = passes.length - 1; i >= 0 && passes[i]!.toNs >= fromNs; i--)
    if (passes[i]!.fromNs <= toNs) seen.push(passes[i]!);
  const widthOf = (pass: Pass): number => x(pass.toNs) - x(pass.fromNs);
  const boxes = seen.map((p): Box => [x(p.fromNs), 5, widthOf(p) - 0.5, LANE - 10]);
  fill(context, boxes, colours.series[0]!, 'solid');
  for (const pass of seen)
    if (widthOf(pass) > 14) label(context, colours, String(pass.rows), x(pass.fromNs) + 4, LANE / 2, colours.surface);
}
