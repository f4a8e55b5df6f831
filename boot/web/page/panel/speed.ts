// Speed: tokens a second and how long a reader waits for each, over the machine's own time, from the `token` events of the kernel's trace.

import { el } from '../dom.ts';
import { Chart, fact } from './chart.ts';
import { FigureTable, setText } from './dom.ts';
import { count, time } from './format.ts';
import { onPalette } from './palette.ts';
import { buckets, type Buckets } from './parse-trace.ts';
import type { Desk, Seen, View } from './view.ts';

/** Stretches of time that a chart has at most. */
const MOST = 60;
const seconds = (at: number): string => `${Number(at.toFixed(3))} s`;

export function speedView(desk: Desk): View {
  const rate = new Chart('Tokens a second', [{ label: 'tokens/s', series: 0, dash: [] }], seconds, desk);
  const waits = new Chart(
    'Wait for a token, in milliseconds',
    [
      { label: 'median', series: 0, dash: [] },
      { label: 'longest', series: 1, dash: [4, 3] },
      { label: 'first of a session', series: 2, dash: null },
    ],
    seconds,
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
