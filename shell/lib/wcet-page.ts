// The page of `llmctl wcet --html`: a forecast as one HTML file that needs nothing else: no script, no font, no network. What a reader of the
// terminal sees in columns stands here in captioned tables, costs by layer and by op with bars, and the priced plan in full.

import { humanSize } from './fmt.ts';
import { bounds, duration, layerNames, opOf, sumsBy, threeDigits } from './forecast.ts';
import type { Cost, Forecast, Quantity, Standing, Sum, Verdict } from './forecast.ts';
import { grouped, kvName } from './model.ts';

/** What the page shows. */
export interface PageContent {
  readonly model: string;
  readonly forecast: Forecast;
  readonly costs: readonly Cost[];
  readonly standings: readonly (Standing & { readonly current: boolean })[];
  /** The names of quantities, the worst path and the goals in words. */
  readonly labels: Readonly<Record<Quantity, string>>;
  readonly worstPath: string;
  readonly goals: string;
}

export function wcetPage(content: PageContent): string {
  const { model, forecast, costs } = content;
  const { report } = forecast;
  const request = `${report.prompt} tokens of prompt, at most ${report.generate} drawn, context ${report.ctx}, ${kvName(report.kvType)} keys and values`;
  const meaning =
    report.sound === 0
      ? 'This target is a fit to measurements: its figures are what to expect; they bound nothing.'
      : 'No run of this request on this target is charged more than the upper bound, and none can take less than the lower one.';
  const steps = [...new Set(costs.map(c => c.step))];
  return [
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n',
    '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n',
    `<title>${escaped(`Bounds: ${model} on ${report.target}`)}</title>\n<style>\n${STYLE}</style>\n</head>\n<body>\n<main>\n`,
    `<h1>${escaped(model)} on ${escaped(report.target)}</h1>\n`,
    paragraph(`${report.title}, ${threeDigits(report.hz / 1e6)} MHz. ${request}.`),
    paragraph(meaning),
    '<h2>Bounds</h2>\n',
    boundsTable(content),
    paragraph(`Worst path: ${content.worstPath}.`),
    '<h2>Goals</h2>\n',
    goalsTable(content),
    '<h2>Where the time goes</h2>\n',
    paragraph('Upper bounds of one batch of the prompt and of the last decode step, as shares of each.'),
    sharesTable('Cost by layer', costs, layerNames(costs, Infinity), report.hz),
    sharesTable('Cost by op', costs, opOf, report.hz),
    '<h2>The priced plan</h2>\n',
    ...steps.map(step => planTable(costs, step, report.hz)),
    '</main>\n</body>\n</html>\n',
  ].join('');
}

// Text colours have a contrast of 4.5 or more with their ground in both schemes; the bars' figures stand beside them, not in them.
const STYLE = `:root { color-scheme: light dark; --ink: #1b1f24; --dim: #59636e; --ground: #ffffff; --rule: #d1d9e0; --bar: #2f6fbb;
  --good: #1a7f37; --bad: #cf222e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --dim: #9198a1; --ground: #0d1117; --rule: #30363d; --bar: #5b9df0; --good: #3fb950; --bad: #ff7b72; }
}
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--dim); padding-bottom: 0.3rem; }
th, td { padding: 0.2rem 0.6rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th:first-child, td.text { text-align: left; }
th { font-weight: 600; }
tbody th { font-weight: 400; }
td.bar { width: 30%; text-align: left; }
td.bar span { display: inline-block; height: 0.8rem; background: var(--bar); vertical-align: middle; }
.met, .stretch { color: var(--good); }
.missed { color: var(--bad); }
`;

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
const escaped = (text: string): string => text.replace(/[&<>"]/g, c => ENTITIES[c]!);
const paragraph = (text: string): string => `<p>${escaped(text)}</p>\n`;

interface Cell {
  readonly text: string;
  readonly className?: string;
  /** A bar that long, 0 … 1, instead of text. */
  readonly bar?: number;
}
type Row = readonly (string | Cell)[];

/** The first cell of a row names it. */
function htmlTable(caption: string, titles: readonly string[], rows: readonly Row[]): string {
  const head = titles.map(title => `<th scope="col">${escaped(title)}</th>`).join('');
  const body = rows.map(
    ([name = '', ...cells]) => `<tr><th scope="row">${cellText(name)}</th>${cells.map(cell).join('')}</tr>\n`,
  );
  return (
    `<div class="wide"><table>\n<caption>${escaped(caption)}</caption>\n` +
    `<thead><tr>${head}</tr></thead>\n<tbody>\n${body.join('')}</tbody>\n</table></div>\n`
  );
}

const cellText = (c: string | Cell): string => escaped(typeof c === 'string' ? c : c.text);

function cell(c: string | Cell): string {
  if (typeof c === 'string') return `<td>${escaped(c)}</td>`;
  if (c.bar !== undefined) return `<td class="bar"><span style="width: ${(c.bar * 100).toFixed(2)}%"></span></td>`;
  return `<td class="${c.className}">${escaped(c.text)}</td>`;
}

function boundsTable({ forecast, labels }: PageContent): string {
  const { report } = forecast;
  const time = (cycles: number | null): string[] =>
    cycles === null ? ['', ''] : [grouped(cycles), duration(cycles, report.hz)];
  const rows = Object.entries(bounds(forecast)).map(([name, { most, least }]) => [
    labels[name as Quantity],
    ...time(most),
    ...time(least),
  ]);
  return (
    htmlTable(
      'Cycles and time of the request, at most and at least',
      ['', 'at most, cycles', 'time', 'at least, cycles', 'time'],
      rows,
    ) +
    paragraph(
      `Memory: ${grouped(report.arenaBytes)} bytes (${humanSize(report.arenaBytes)}), of them ${grouped(report.kvBytes)} for keys and values; exact, the same before, during and after every request.`,
    )
  );
}

const VERDICTS: Readonly<Record<Verdict, string>> = { missed: '✗', met: '✓', stretch: '✓✓' };
const judged = (text: string, verdict: Verdict): Cell => ({
  text: `${text} ${VERDICTS[verdict]}`,
  className: verdict,
});

function goalsTable({ standings, goals }: PageContent): string {
  const rows = standings.map(({ verdicts: v, ...s }) => [
    `${s.target}${s.current ? ' (in force)' : ''}${s.sound ? '' : ' (fit, no bound)'}`,
    judged(s.firstTokenMs === null ? 'unknown' : `${threeDigits(s.firstTokenMs)} ms`, v.firstToken),
    judged(threeDigits(s.guaranteed), v.guaranteed),
    judged(threeDigits(s.typical), v.typical),
    judged(`${(s.arenaBytes / 1e6).toFixed(2)} MB`, v.memory),
    judged(String(s.context), v.context),
  ]);
  const titles = ['target', 'first token', 'tokens/s, guaranteed', 'tokens/s, typical', 'memory', 'context'];
  return (
    htmlTable(`This model on every target; ${goals}`, titles, rows) +
    paragraph(
      '✗ missed, ✓ met, ✓✓ the stretch goal in brackets too. Guaranteed: the upper bound of a step at the end of the context. Typical: the mean of the request’s steps, by their upper bounds.',
    )
  );
}

/** Sums of both steps by a key, bars to the scale of the longest. */
function sharesTable(caption: string, costs: readonly Cost[], keyOf: (c: Cost) => string, hz: number): string {
  const [prefill = [], decode = []] = ['prefill', 'decode'].map(step => sumsBy(costs, step, keyOf));
  const longest = Math.max(...[...prefill, ...decode].map(s => s.share)) || 1;
  const cells = (s: Sum | undefined): Row =>
    s === undefined
      ? ['', '', '']
      : [duration(s.most, hz), `${(s.share * 100).toFixed(1)} %`, { text: '', bar: s.share / longest }];
  const rows = prefill.map(s => [s.key, ...cells(s), ...cells(decode.find(d => d.key === s.key))]);
  return htmlTable(caption, ['', 'prefill batch', 'share', '', 'decode step', 'share', ''], rows);
}

function planTable(costs: readonly Cost[], step: string, hz: number): string {
  const ops = costs.filter(c => c.step === step);
  const { n, pos } = ops[0]!;
  const most = ops.reduce((sum, c) => sum + c.most, 0);
  const rows = ops.map(c => [
    c.op,
    { text: c.name, className: 'text' },
    grouped(c.most),
    grouped(c.least),
    `${most === 0 ? '0.0' : ((c.most / most) * 100).toFixed(1)} %`,
    ...[c.instructions, c.loaded, c.stored].map(grouped),
  ]);
  const what = n === 1 ? `one token at position ${pos}` : `${n} tokens from position ${pos}`;
  return htmlTable(
    `${step}: ${what}, ${grouped(most)} cycles at most, ${duration(most, hz)}`,
    ['op', 'of', 'at most', 'at least', 'share', 'instructions', 'bytes loaded', 'bytes stored'],
    rows,
  );
}
