// Speed: tokens a second and how long a reader waits for each, over the machine's own time, from the `token` events of the kernel's trace. The
// charts are uPlot's, fetched when somebody looks.

import type uPlot from 'uplot';
import { el } from '../dom.ts';
import { FigureTable, setText } from './dom.ts';
import { count, time } from './format.ts';
import { onPalette, palette } from './palette.ts';
import { buckets, type Buckets } from './parse-trace.ts';
import type { Desk, Seen, View } from './view.ts';

/** Stretches of time that a chart has at most. */
const MOST = 60;

export function speedView(desk: Desk): View {
  const rate = new Chart('Tokens a second', [{ label: 'tokens/s', series: 0, dash: [] }], desk);
  const waits = new Chart(
    'Wait for a token, in milliseconds',
    [
      { label: 'median', series: 0, dash: [] },
      { label: 'longest', series: 1, dash: [4, 3] },
      { label: 'first of a session', series: 2, dash: null },
    ],
    desk,
  );
  const facts = el('dl', { class: 'numbers' });
  const total = fact(facts, 'tokens');
  const middle = fact(facts, 'median wait');
  const worst = fact(facts, 'longest wait');
  const first = fact(facts, 'first token, longest');
  const caption = el('p', { class: 'caption' });
  const figure = el('div', { class: 'speed' }, facts, rate.element, waits.element, caption);
  const table = new FigureTable(
    'Tokens and waits by stretches of the machine’s time',
    ['from', 'tokens/s', 'median wait', 'longest wait', 'first token'],
    new Set(['from', 'tokens/s', 'median wait', 'longest wait', 'first token']),
  );
  let drawn = -1;
  let version = 0;
  onPalette(() => {
    version++;
    desk.changed();
  });

  return {
    name: 'speed',
    about: 'Tokens a second and what each was waited for, in the machine’s own time.',
    command: () => 'llmstats',
    paths: [],
    trace: true,
    probe: () => null,
    everyMs: 250,
    figure,
    tables: [table.element],
    update(seen: Seen) {
      const { timeline } = seen;
      if (timeline.tokens.length === 0)
        return 'No token has been drawn yet: type llmctl load fable-f16, then llminfer Once upon a time';
      const state = timeline.tokens.length + timeline.lastNs + version * 1e15;
      if (state === drawn) return '';
      drawn = state;
      const b = buckets(timeline.tokens, timeline.lastNs, MOST);
      const between = Float64Array.from(
        timeline.tokens.filter(t => !t.isFirst && !Number.isNaN(t.waitNs)),
        t => t.waitNs,
      );
      const firsts = timeline.tokens.filter(t => t.isFirst && !Number.isNaN(t.waitNs)).map(t => t.waitNs);
      between.sort(); // numbers
      setText(total, count(timeline.counts.get('token') ?? 0));
      setText(middle, time(between[(between.length - 1) >> 1] ?? NaN));
      setText(worst, time(between.at(-1) ?? NaN));
      setText(first, time(firsts.length === 0 ? NaN : firsts.reduce((x, y) => Math.max(x, y))));
      rate.set([b.times, b.perSecond], version, i => setText(caption, summary(b, i)));
      waits.set([b.times, b.median, b.longest, b.first], version, i => setText(caption, summary(b, i)));
      table.set(
        b.times.map((at, i) => [
          `${(at - b.widthNs / 2e9).toFixed(2)} s`,
          b.perSecond[i]!.toFixed(1),
          ms(b.median[i]),
          ms(b.longest[i]),
          ms(b.first[i]),
        ]),
      );
      return '';
    },
  };
}

/** Milliseconds of a chart. */
const ms = (value: number | null | undefined): string => (typeof value === 'number' ? time(value * 1e6) : '–');

/** A stretch of time in a sentence. */
function summary(b: Buckets, i: number): string {
  return `${b.times[i]!.toFixed(2)} s: ${b.perSecond[i]!.toFixed(1)} tokens/s, median wait ${ms(b.median[i])}, longest ${ms(b.longest[i])}, first token ${ms(b.first[i])}`;
}

function fact(list: HTMLElement, title: string): HTMLElement {
  const value = el('dd', {}, '–');
  list.append(el('div', {}, el('dt', {}, title), value));
  return value;
}

interface Line {
  readonly label: string;
  readonly series: number;
  /** null: points. */
  readonly dash: number[] | null;
}

type Data = readonly [number[], ...(readonly (number | null)[])[]];

/** One chart: made when the first data come and uPlot is there, made again in other colours. */
class Chart {
  readonly element: HTMLElement;
  private readonly place = el('div', { class: 'plot', tabindex: 0, role: 'application' });
  private plot: uPlot | null = null;
  private data: Data | null = null;
  private version = -1;
  private isComing = false;
  private width = 0;
  private tell: (index: number) => void = () => {};

  constructor(
    title: string,
    private readonly lines: readonly Line[],
    private readonly desk: Desk,
  ) {
    this.place.setAttribute('aria-label', `${title}: arrow keys go through time; the table has the same figures`);
    const keys = lines.map(line =>
      el(
        'li',
        {},
        el('span', {
          class: `stroke series-${line.series + 1} ${line.dash === null ? 'points' : line.dash.length > 0 ? 'dashed' : ''}`,
        }),
        line.label,
      ),
    );
    this.element = el(
      'div',
      { class: 'chart' },
      el('h3', {}, title),
      el('ul', { class: 'legend' }, ...keys),
      this.place,
    );
    new ResizeObserver(entries => {
      const { width } = entries[0]!.contentRect;
      if (width === 0 || width === this.width) return;
      this.width = width;
      this.plot?.setSize({ width, height: this.height });
    }).observe(this.place);
    this.place.addEventListener('keydown', event => this.key(event));
  }

  private get height(): number {
    return this.lines.length > 1 ? 190 : 150;
  }

  set(data: Data, version: number, tell: (index: number) => void): void {
    this.data = data;
    this.tell = tell;
    if (this.version !== version) {
      this.plot?.destroy();
      this.plot = null;
      this.version = version;
    }
    if (this.plot !== null) this.plot.setData(data as unknown as uPlot.AlignedData);
    else void this.make();
  }

  private async make(): Promise<void> {
    if (this.isComing) return;
    this.isComing = true;
    const { default: UPlot } = await import('uplot');
    this.isComing = false;
    if (this.plot !== null || this.data === null) return;
    const colours = palette();
    const axis = {
      stroke: colours.muted,
      font: `11px ${colours.mono}`,
      grid: { stroke: colours.line, width: 1 },
      ticks: { stroke: colours.line, width: 1, size: 4 },
    };
    this.plot = new UPlot(
      {
        width: this.width === 0 ? 400 : this.width,
        height: this.height,
        legend: { show: false },
        cursor: { drag: { x: false, y: false }, points: { size: 6 } },
        scales: { x: { time: false }, y: { range: (_, __, most) => [0, Math.max(most * 1.1, 1)] } },
        axes: [
          { ...axis, size: 24, gap: 2, values: (_, splits) => splits.map(at => `${Number(at.toFixed(3))} s`) },
          { ...axis, size: 48, gap: 4, values: (_, splits) => splits.map(String) },
        ],
        series: [
          {},
          ...this.lines.map(line => ({
            label: line.label,
            stroke: colours.series[line.series]!,
            width: 1.5,
            spanGaps: true,
            ...(line.dash === null
              ? { paths: () => null, points: { show: true, size: 7, fill: colours.surface } }
              : { dash: line.dash, points: { show: false } }),
          })),
        ],
        hooks: { setCursor: [plot => typeof plot.cursor.idx === 'number' && this.tell(plot.cursor.idx)] },
      },
      this.data as unknown as uPlot.AlignedData,
      this.place,
    );
    this.desk.changed();
  }

  private key(event: KeyboardEvent): void {
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined || this.plot === null || this.data === null) return;
    event.preventDefault();
    const last = this.data[0].length - 1;
    const index = Math.min(last, Math.max(0, (this.plot.cursor.idx ?? last) + by));
    this.plot.setCursor({ left: this.plot.valToPos(this.data[0][index]!, 'x'), top: 0 });
    this.tell(index);
  }
}
