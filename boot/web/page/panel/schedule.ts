// Schedule: who had the processor when, from the kernel's trace: a lane for the processor's passes and one for each session, over the machine's
// own time. Beside it what is promised and what is left of it, from /proc/sched, /proc/budget and /proc/sessions.

import { el } from '../dom.ts';
import { FigureTable, setAttribute, setText } from './dom.ts';
import { count, time } from './format.ts';
import { fill, onPalette, palette, prepared, tickStep, type Hatch, type Palette } from './palette.ts';
import { figure as valueOf, keyed, tabbed, type Row } from './parse-text.ts';
import type { Lane, Mark, Span, Timeline } from './parse-trace.ts';
import type { Desk, Seen, View } from './view.ts';

const GUTTER = 40;
const LANE = 24;
const AXIS = 20;
const LANES_MOST = 12;
const WINDOWS_NS = [50e6, 100e6, 250e6, 500e6, 1e9, 2.5e9, 5e9, 10e9, 30e9, 60e9];

/** How a span is drawn: which of the page's colours, and which pattern. */
const LOOKS: Record<Span['kind'], { readonly series: number; readonly hatch: Hatch; readonly title: string }> = {
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

export function scheduleView(desk: Desk): View {
  const canvas = el('canvas', { 'aria-hidden': 'true' });
  const board = el(
    'div',
    {
      class: 'board',
      role: 'application',
      tabindex: 0,
      'aria-label':
        'Timeline: arrow keys go from event to event and from lane to lane, plus and minus change the scale',
    },
    canvas,
  );
  const caption = el('p', { class: 'caption', 'aria-live': 'polite' });
  const meters = el('dl', { class: 'meters' });
  const servers = meter(meters, 'Servers');
  const tokens = meter(meters, 'Tokens this period');
  const facts = el('p', { class: 'sum' });
  const follow = el(
    'button',
    { type: 'button', 'aria-pressed': 'true', onclick: () => setFollow(!isFollowing) },
    'Follow',
  );
  const scale = el('span', { class: 'scale' });
  const controls = el(
    'div',
    { class: 'tools', role: 'group', 'aria-label': 'Timeline' },
    el('button', { type: 'button', 'aria-label': 'Earlier', onclick: () => pan(-0.5) }, '←'),
    el('button', { type: 'button', 'aria-label': 'Later', onclick: () => pan(0.5) }, '→'),
    el('button', { type: 'button', 'aria-label': 'Longer stretch of time', onclick: () => zoom(1) }, '−'),
    scale,
    el('button', { type: 'button', 'aria-label': 'Shorter stretch of time', onclick: () => zoom(-1) }, '+'),
    follow,
  );
  const figure = el('div', { class: 'schedule' }, meters, facts, controls, board, legend(), caption);
  const sessionsTable = new FigureTable(
    'Sessions',
    ['id', 'state', 'end', 'output', 'server', 'deadline', 'slack', 'misses', 'preempted', 'processor'],
    new Set(['id', 'output', 'misses', 'preempted', 'processor']),
  );
  const eventsTable = new FigureTable('Newest events', ['time', 'session', 'event'], new Set(['session']));

  let window = 5;
  let endNs = 0;
  let isFollowing = true;
  let lane = 0;
  let cursor: Stop | null = null;
  let width = 0;
  let drawn = '';
  let timeline: Timeline | null = null;
  let sessions: readonly Row[] = [];

  const span = (): number => WINDOWS_NS[window]!;
  const redraw = (): void => {
    drawn = '';
    desk.changed();
  };
  new ResizeObserver(entries => {
    const next = entries[0]!.contentRect.width;
    if (next === width || next === 0) return;
    width = next;
    redraw();
  }).observe(board);
  onPalette(redraw);

  function setFollow(isOn: boolean): void {
    isFollowing = isOn;
    setAttribute(follow, 'aria-pressed', String(isOn));
    redraw();
  }
  function zoom(by: number): void {
    const middle = endNs - span() / 2;
    window = Math.min(WINDOWS_NS.length - 1, Math.max(0, window + by));
    if (!isFollowing) endNs = middle + span() / 2;
    redraw();
  }
  function pan(share: number): void {
    setFollow(false);
    endNs = Math.max(span() / 2, endNs + share * span());
    redraw();
  }

  /** Lanes in sight: those that did something in the window, newest sessions last. */
  function lanes(): Lane[] {
    const from = endNs - span();
    return [...(timeline?.lanes.values() ?? [])]
      .filter(l => l.spans.some(s => s.toNs >= from && s.fromNs <= endNs))
      .slice(-LANES_MOST);
  }
  function stops(index: number): Stop[] {
    if (index === 0)
      return (timeline?.passes ?? []).map(p => ({
        ...p,
        text: `Processor: a pass of ${p.rows} ${p.rows === 1 ? 'row' : 'rows'} for ${p.sessions} ${p.sessions === 1 ? 'session' : 'sessions'}, ${time(p.toNs - p.fromNs)}`,
      }));
    const of = lanes()[index - 1];
    if (of === undefined) return [];
    return [
      ...of.spans.map(s => ({
        fromNs: s.fromNs,
        toNs: s.toNs,
        text: `Session ${of.session}, ${LOOKS[s.kind].title}: ${s.note}${s.toNs === Infinity ? '' : `, ${time(s.toNs - s.fromNs)}`}`,
      })),
      ...of.marks.map(m => ({ fromNs: m.atNs, toNs: m.atNs, text: `Session ${of.session}, ${m.kind}: ${m.note}` })),
    ].sort((a, b) => a.fromNs - b.fromNs);
  }
  function stand(stop: Stop | undefined): void {
    if (stop === undefined) return;
    cursor = stop;
    setText(caption, `${time(stop.fromNs)}  ${stop.text}`);
    if (stop.fromNs < endNs - span() || stop.fromNs > endNs) {
      setFollow(false);
      endNs = stop.fromNs + span() / 2;
    }
    redraw();
  }
  function step(by: number): void {
    const all = stops(lane);
    const here =
      cursor === null ? all.length : all.findIndex(s => s.fromNs >= cursor!.fromNs && s.text === cursor!.text);
    stand(all[Math.min(all.length - 1, Math.max(0, (here < 0 ? all.length : here) + by))]);
  }
  board.addEventListener('keydown', event => {
    const keys: Record<string, () => void> = {
      ArrowLeft: () => step(-1),
      ArrowRight: () => step(1),
      ArrowUp: () => changeLane(-1),
      ArrowDown: () => changeLane(1),
      '+': () => zoom(-1),
      '=': () => zoom(-1),
      '-': () => zoom(1),
      End: () => setFollow(true),
    };
    const act = keys[event.key];
    if (act === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    act();
  });
  function changeLane(by: number): void {
    lane = Math.min(lanes().length, Math.max(0, lane + by));
    const at = cursor?.fromNs ?? endNs;
    const all = stops(lane);
    stand(all.filter(s => s.fromNs <= at).at(-1) ?? all[0]);
  }
  board.addEventListener('pointermove', event => {
    const at = endNs - span() + ((event.offsetX - GUTTER) / (width - GUTTER)) * span();
    const index = Math.floor(event.offsetY / LANE);
    const near = span() / width;
    const hit = stops(index).filter(s => s.fromNs - 3 * near <= at && s.toNs + 3 * near >= at);
    const best = hit.sort((a, b) => a.toNs - a.fromNs - (b.toNs - b.fromNs))[0];
    if (best !== undefined) setText(caption, `${time(best.fromNs)}  ${best.text}`);
  });

  function draw(): void {
    const shown = lanes();
    const height = LANE * (1 + Math.max(1, shown.length)) + AXIS;
    canvas.style.height = `${height}px`;
    const context = prepared(canvas, width, height);
    if (context === null || timeline === null) return;
    const colours = palette();
    const fromNs = endNs - span();
    const x = (ns: number): number => GUTTER + ((ns - fromNs) / span()) * (width - GUTTER);
    drawAxis(context, colours, fromNs, endNs, x, height, width);
    drawGutter(context, colours, ['CPU', ...shown.map(l => `#${l.session}`)], width);
    context.save();
    context.beginPath();
    context.rect(GUTTER, 0, width - GUTTER, height - AXIS);
    context.clip();
    for (let i = timeline.passes.length - 1; i >= 0; i--) {
      const pass = timeline.passes[i]!;
      if (pass.toNs < fromNs) break;
      if (pass.fromNs > endNs) continue;
      const w = x(pass.toNs) - x(pass.fromNs);
      fill(context, [x(pass.fromNs), 5, w - 0.5, LANE - 10], colours.series[0]!, 'solid');
      if (w > 14) label(context, colours, String(pass.rows), x(pass.fromNs) + 4, LANE / 2, colours.surface);
    }
    shown.forEach((l, i) => {
      drawLane(context, colours, l, LANE * (i + 1), x, fromNs, endNs);
      const deadlineNs = Number(sessions.find(row => row['id'] === String(l.session))?.['deadlineNs'] ?? 0);
      if (deadlineNs > 0) drawDeadline(context, colours, x(deadlineNs), LANE * (i + 1));
    });
    if (cursor !== null && document.activeElement === board) {
      context.strokeStyle = colours.accent;
      context.lineWidth = 2;
      const w = Math.max(6, Math.min(x(cursor.toNs), width) - x(cursor.fromNs));
      context.strokeRect(x(cursor.fromNs) - 1, LANE * lane + 3, w + 2, LANE - 6);
    }
    context.restore();
  }

  function figures(seen: Seen): void {
    const sched = keyed(seen.file('/proc/sched'));
    const budget = keyed(seen.file('/proc/budget'));
    const [used, bound] = [valueOf(sched, 'usedPpm'), valueOf(sched, 'boundPpm')];
    servers(used / bound, `${count(used)} of ${count(bound)} ppm, ${count(bound - used)} left`);
    const [issued, most] = [valueOf(budget, 'issued'), valueOf(budget, 'maxTokens')];
    tokens(
      most > 0 ? issued / most : 0,
      most > 0
        ? `${count(issued)} of ${count(most)}, ${count(Math.max(0, most - issued))} left`
        : `${count(issued)}, no limit`,
    );
    setText(
      facts,
      `${sched.get('policy') ?? ''}: ${count(valueOf(sched, 'passes'))} passes, ${count(valueOf(sched, 'preemptions'))} preemptions, ${count(valueOf(sched, 'misses'))} deadlines missed`,
    );
  }

  function tables(): void {
    sessionsTable.set(
      sessions.map(row => {
        const of = timeline?.lanes.get(Number(row['id']));
        const busyNs = (of?.spans ?? []).reduce(
          (sum, s) => (s.kind === 'prefill' || s.kind === 'decode' ? sum + s.toNs - s.fromNs : sum),
          0,
        );
        const periodNs = Number(row['periodNs']);
        const deadlineNs = Number(row['deadlineNs']);
        const slackNs = Number(row['slackNs']);
        return [
          row['id']!,
          row['state']!,
          row['finish']!,
          count(Number(row['outputTokens'])),
          periodNs > 0 ? `${count(Number(row['budgetCycles']))} cycles every ${time(periodNs)}` : 'none',
          deadlineNs > 0 ? time(deadlineNs) : 'none',
          slackNs < Number.MAX_SAFE_INTEGER ? time(slackNs) : '–',
          row['misses']!,
          row['preemptions']!,
          time(busyNs),
        ];
      }),
    );
    const newest = [...(timeline?.lanes.values() ?? [])].flatMap(l => [
      ...l.spans.slice(-40).map(s => ({ at: s.fromNs, session: l.session, text: `${LOOKS[s.kind].title}: ${s.note}` })),
      ...l.marks.slice(-40).map(m => ({ at: m.atNs, session: l.session, text: `${m.kind}: ${m.note}` })),
    ]);
    eventsTable.set(
      newest
        .sort((a, b) => b.at - a.at)
        .slice(0, 40)
        .map(e => [time(e.at), String(e.session), e.text]),
    );
  }

  return {
    name: 'schedule',
    about: 'Who had the processor when, and what is promised to whom.',
    command: () => 'llmctl sched; llmctl sessions',
    paths: ['/proc/sched', '/proc/budget', '/proc/sessions'],
    trace: true,
    probe: () => null,
    everyMs: 100,
    figure,
    tables: [sessionsTable.element, eventsTable.element],
    update(seen) {
      if (seen.timeline.lanes.size === 0)
        return 'No session has run yet: type llmctl load fable-f16, then llminfer Once upon a time';
      if (isFollowing) endNs = Math.max(seen.timeline.lastNs, span() / 2);
      const texts = [
        ...this.paths.map(path => seen.file(path)),
        seen.timeline.events,
        endNs,
        window,
        width,
        lane,
        cursor?.fromNs,
      ].join('\0');
      if (texts === drawn && timeline === seen.timeline) return '';
      drawn = texts;
      timeline = seen.timeline;
      sessions = tabbed(seen.file('/proc/sessions'));
      setText(scale, time(span()));
      figures(seen);
      tables();
      draw();
      return '';
    },
  };
}

/** A figure against its bound. Returns what sets it: the share, and the words. */
function meter(list: HTMLElement, title: string): (share: number, text: string) => void {
  const bar = el('span', { class: 'bar' });
  const words = el('span');
  list.append(el('dt', {}, title), el('dd', {}, el('span', { class: 'gauge' }, bar), words));
  return (share, text) => {
    const width = `${Math.min(100, Math.max(0, Number.isFinite(share) ? share * 100 : 0)).toFixed(1)}%`;
    if (bar.style.width !== width) bar.style.width = width;
    setText(words, text);
  };
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
  for (const s of lane.spans) {
    if (s.toNs < fromNs || s.fromNs > toNs) continue;
    const { series, hatch } = LOOKS[s.kind];
    const [left, right] = [x(Math.max(s.fromNs, fromNs - 1e6)), x(Math.min(s.toNs, toNs))];
    const [y, height] = s.kind === 'token' ? [top + LANE - 9, 5] : [top + 5, LANE - 10];
    fill(context, [left, y, right - left - 0.5, height], colours.series[series]!, hatch);
  }
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
