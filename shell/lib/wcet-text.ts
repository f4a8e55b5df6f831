// What is known of a request before it runs, set for a screen of 80 columns (`llmctl wcet`) and for programs (`llmctl wcet --json`, whose
// keys are documented in json(7) and stay).

import { LIMITS } from '../../kernel/abi/index.ts';
import { table, wrap } from './fmt.ts';
import type { Json } from './fmt.ts';
import { GOALS, bounds, duration, layerNames, opOf, sumsBy, threeDigits } from './forecast.ts';
import type { Cost, Forecast, Quantity, Standing, Sum, Verdict } from './forecast.ts';
import { grouped, kvName } from './model.ts';
import { screenWidth } from './program.ts';

/** All that is known of a request before it runs. */
export interface Findings {
  readonly model: string;
  readonly forecast: Forecast;
  readonly costs: readonly Cost[];
  /** A standing per target, the one in force marked. */
  readonly standings: readonly (Standing & { readonly current: boolean })[];
}

export const QUANTITY_LABELS: Readonly<Record<Quantity, string>> = {
  tokenize: 'text to token ids',
  transfers: 'transfers of ids',
  prefill: 'prefill',
  first_token: 'first token, all in',
  decode_step: 'decode step',
  decode_mean: 'decode step, mean',
  last_step: "context's last step",
  sampler: 'of a step, the sampler',
  request: 'request',
  calls: 'system calls',
  whole: 'all in all',
};
/** Rows of layers on a screen; a larger model has several layers in a row. */
const LAYER_ROWS = 8;
const OPS_NAMED = 3;
const MARKS: Readonly<Record<Verdict, string>> = { missed: '-', met: '+', stretch: '++' };

export function findingsText(f: Findings): string {
  const { report } = f.forecast;
  const { hz } = report;
  const time = (cycles: number | null): [string, string] =>
    cycles === null ? ['?', '?'] : [grouped(cycles), duration(cycles, hz)];
  const rows = Object.entries(bounds(f.forecast)).map(([name, { most, least }]) => [
    QUANTITY_LABELS[name as Quantity],
    ...time(most),
    ...(least === null ? ['', ''] : time(least)),
  ]);
  return [
    `${f.model} on ${report.target}, ${threeDigits(hz / 1e6)} MHz\n`,
    `${report.prompt} tokens in (${grouped(report.promptBytes)} bytes at most), ${report.generate} out, context ${report.ctx} ${kvName(report.kvType)}\n`,
    report.sound === 0 ? `${report.target} is a fit: these figures are expected, they bound nothing\n` : '',
    '\n',
    table([['', 'cycles at most', 'time', 'cycles at least', 'time'], ...rows], [false, true, true, true, true]),
    `memory: ${grouped(report.arenaBytes)} of ${grouped(LIMITS.arenaBytes)} bytes exactly, ${grouped(report.kvBytes)} for keys and values\n`,
    f.forecast.tokenizes ? '' : '? what turning the text into ids costs is not known\n',
    '\n',
    sharesText(f.costs),
    wrap(`worst path: ${worstPath(f)}`, screenWidth, 0),
    '\n',
    standingsText(f.standings),
  ].join('');
}

export const percent = (share: number | undefined): string =>
  share === undefined ? '' : `${(share * 100).toFixed(1)} %`;

/** Shares of a prompt's batch and of a decode step: by layer on the left, by op on the right. */
function sharesText(costs: readonly Cost[]): string {
  const halves = [layerNames(costs, LAYER_ROWS), opOf].map(keyOf => {
    const [prefill = [], decode = []] = ['prefill', 'decode'].map(step => sumsBy(costs, step, keyOf));
    return prefill.map(({ key, share }) => [key, percent(share), percent(decode.find(s => s.key === key)?.share)]);
  });
  const [layers = [], ops = []] = halves;
  const lines = Array.from({ length: Math.max(layers.length, ops.length) }, (_, i) => [
    ...(layers[i] ?? ['', '', '']),
    '  ',
    ...(ops[i] ?? []),
  ]);
  const titles = ['by layer', 'prefill', 'decode', '  ', 'by op', 'prefill', 'decode'];
  return table([titles, ...lines], [false, true, true, false, false, true, true]);
}

/** Where the dearest step stands, and what it is made of. */
export function worstPath({ forecast: { report }, costs }: Findings): string {
  const step = report.decodeMax > 0 ? 'decode' : 'prefill';
  const ops = sumsBy(costs, step, opOf).sort((a, b) => b.most - a.most);
  const dearest = costs.filter(c => c.step === step).sort((a, b) => b.most - a.most)[0];
  const at = step === 'decode' ? `decode step at position ${report.decodeWorstPos}` : 'prefill';
  const made = ops.slice(0, OPS_NAMED).map(s => `${s.key} ${percent(s.share)}`);
  return `${at}: ${made.join(', ')}${dearest === undefined ? '' : `; dearest single op: ${dearest.op} ${dearest.name}`}`;
}

function standingsText(standings: Findings['standings']): string {
  const rows = standings.map(({ verdicts: v, ...s }) => [
    `${s.current ? '*' : ' '} ${s.target}${s.sound ? '' : ' (fit)'}`,
    s.firstTokenMs === null ? '?' : `${threeDigits(s.firstTokenMs)} ms`,
    MARKS[v.firstToken],
    threeDigits(s.guaranteed),
    MARKS[v.guaranteed],
    threeDigits(s.typical),
    MARKS[v.typical],
    `${(s.arenaBytes / 1e6).toFixed(2)} MB`,
    MARKS[v.memory],
    String(s.context),
    MARKS[v.context],
  ]);
  const titles = ['  goals', 'first token', '', 'tokens/s, sure', '', 'typical', '', 'memory', '', 'context', ''];
  const right = titles.map((title, i) => i > 0 && title !== '');
  return (
    table([titles, ...rows], right, ' ') +
    `  ${goalsText()}\n  - missed, + met, ++ stretch goal met; sure: any step; typical: the mean one\n`
  );
}

export function goalsText(): string {
  const { firstTokenMs: first, tokensPerSecond: rate, arenaBytes: memory, context } = GOALS;
  return (
    `goals: < ${first.most} ms (${first.stretch}), ≥ ${rate.least} tokens/s (${rate.stretch}), ` +
    `< ${memory.most / 1e6} MB (${memory.stretch / 1e6}), context ≥ ${context.least} (${context.stretch})`
  );
}

export function findingsJson(f: Findings): Json {
  const { report } = f.forecast;
  const entries = Object.entries(bounds(f.forecast));
  const side = (which: 'most' | 'least'): Json =>
    Object.fromEntries(entries.map(([name, b]) => [`${name}_cycles`, b[which]]));
  const sums = (keyOf: (c: Cost) => string): Json =>
    Object.fromEntries(['prefill', 'decode'].map(step => [step, sumsBy(f.costs, step, keyOf).map(sumJson)]));
  return {
    model: f.model,
    target: report.target,
    title: report.title,
    hz: report.hz,
    sound: report.sound !== 0,
    ctx: report.ctx,
    kv_type: kvName(report.kvType),
    batch: report.batch,
    prompt_tokens: report.prompt,
    prompt_bytes: report.promptBytes,
    max_tokens: report.generate,
    most: side('most'),
    least: { ...(side('least') as object), every_token_cycles: report.fullMin },
    decode_worst_pos: report.decodeWorstPos,
    arena_bytes: report.arenaBytes,
    kv_bytes: report.kvBytes,
    layers: sums(layerNames(f.costs, Infinity)),
    ops: sums(opOf),
    targets: f.standings.map(standingJson),
  };
}

export const sumJson = (s: Sum): Json => ({
  name: s.key,
  most_cycles: s.most,
  least_cycles: s.least,
  share: s.share,
  instructions: s.instructions,
  loaded_bytes: s.loaded,
  stored_bytes: s.stored,
});

const standingJson = ({ verdicts, ...s }: Findings['standings'][number]): Json => ({
  target: s.target,
  current: s.current,
  sound: s.sound,
  first_token_ms: s.firstTokenMs,
  tokens_per_second: s.guaranteed,
  tokens_per_second_typical: s.typical,
  arena_bytes: s.arenaBytes,
  ctx: s.context,
  goals: {
    first_token: verdicts.firstToken,
    tokens_per_second: verdicts.guaranteed,
    tokens_per_second_typical: verdicts.typical,
    memory: verdicts.memory,
    context: verdicts.context,
  },
});
