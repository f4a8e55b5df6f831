// Charts of the panel: lines over an axis, a legend, and a cursor that the arrow keys move and that tells where it stands. They are uPlot's, which
// is fetched when somebody looks.

import type uPlot from 'uplot';
import { el } from '../dom.ts';
import { palette } from './palette.ts';
import type { Desk } from './view.ts';

export interface Line {
  readonly label: string;
  readonly series: number;
  /** null: points. */
  readonly dash: number[] | null;
}

export type Data = readonly [number[], ...(readonly (number | null)[])[]];

/** One chart: made when the first data come and uPlot is there, made again in other colours. */
export class Chart {
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
    /** How a value of the first axis is written. */
    private readonly along: (value: number) => string,
    private readonly desk: Pick<Desk, 'changed'>,
  ) {
    this.place.setAttribute('aria-label', `${title}: arrow keys go along it; the table has the same figures`);
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
          { ...axis, size: 24, gap: 2, values: (_, splits) => splits.map(this.along) },
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

/** A figure with its title, appended to a list of such: the element that shows it. */
export function fact(list: HTMLElement, title: string): HTMLElement {
  const value = el('dd', {}, '–');
  list.append(el('div', {}, el('dt', {}, title), value));
  return value;
}
