// The verbs of llmctl that tell time before it is spent: the bounds of a request (`wcet`), the priced plan (`plan --cost`) and the simulated
// processors (`target`). The figures are the kernel's; here they are asked for, set in tables and written out.

import { LIMITS, O, utf8Encode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { readText } from './files.ts';
import { jsonLine, table, wrap } from './fmt.ts';
import type { Json } from './fmt.ts';
import {
  GOALS,
  REQUEST_DEFAULTS,
  bounds,
  duration,
  foretell,
  layerNames,
  opOf,
  pricedPlan,
  standing,
  sumsBy,
  targets,
  threeDigits,
} from './forecast.ts';
import type { Cost, Forecast, Quantity, Standing, Subject, Sum, TargetLine, Verdict } from './forecast.ts';
import { failAbout, grouped, kvName, loadChoice, loadedFile, loadedModel, modelId, modelPath } from './model.ts';
import type { OptionTable } from './getopt.ts';
import { screenWidth } from './program.ts';
import type { Context } from './program.ts';
import { integer, numbersOf, samplerOptions, samplerRules } from './sampling.ts';
import { writeAll } from './stdio.ts';
import { checkBudget, checkJson } from './wcet-budget.ts';
import type { Check } from './wcet-budget.ts';
import { wcetPage } from './wcet-page.ts';

export const wcetOptions = {
  model: { short: 'm', value: 'M', help: 'wcet: of M, a file or a name in /models, as it would be loaded' },
  prompt: { value: 'N', help: `wcet, plan --cost: tokens of the prompt (default ${REQUEST_DEFAULTS.prompt})` },
  gen: { value: 'N', help: `wcet, plan --cost: tokens to draw at most (default ${REQUEST_DEFAULTS.generate})` },
  target: { value: 'T', help: "wcet, plan --cost: on that processor instead of the machine's" },
  cost: { help: 'plan: its price, op by op' },
  html: { value: 'FILE', help: 'wcet: write a page with tables and bars to FILE' },
  check: { value: 'FILE', help: "wcet: hold the bounds against FILE's limits" },
  ...samplerOptions,
} as const satisfies OptionTable;

/** The options of a forecast beside --json, by name. */
export const requestOptions = ['prompt', 'gen', 'target', 'temp', 'top-k', 'top-p', 'min-p', 'repeat-penalty'] as const;

type Ctx = Context<
  typeof wcetOptions & {
    json: { help: string };
    ctx: { value: string; help: string };
    kv: { value: string; help: string };
  }
>;
type Run = Generator<void, number, void>;
/** Nothing is known: exit status 1 is kept for a budget that is exceeded. */
const NO_ANSWER = 2;

// ── What is asked ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Asked extends Subject {
  readonly model: string; // as JSON names it
  readonly targets: readonly TargetLine[];
}

/** The request that the command line describes, to `file` or --model or else the loaded model; null after a message. */
function* asked(ctx: Ctx, file: string | undefined): Generator<void, Asked | null, void> {
  const { sys, options } = ctx;
  const numbers = numbersOf(requestRules, options);
  if (typeof numbers === 'string') return yield* nothing(ctx, numbers);
  const choice = loadChoice(options);
  if (typeof choice === 'string') return yield* nothing(ctx, choice);
  const known = yield* targets(sys);
  if (typeof known === 'number') return yield* nothing(ctx, '/proc/targets');
  const { target = '' } = options;
  if (options.target !== undefined && !known.some(t => t.name === target))
    return yield* nothing(ctx, `--target '${target}' is not ${known.map(t => t.name).join(', ')}`);

  const question = { ...numbers, target };
  if (file !== undefined) {
    const path = yield* modelPath(sys, file);
    return { path, hasFile: true, model: path, question: { ...question, ...choice }, targets: known };
  }
  const loaded = yield* loadedModel(sys);
  if (typeof loaded === 'number') {
    yield* failAbout(ctx, '', loaded);
    return null;
  }
  if (options.ctx === undefined && options.kv === undefined)
    return { path: '', hasFile: loaded.path !== '', model: modelId(loaded), question, targets: known };
  const again = yield* loadedFile(sys, options, choice);
  if (typeof again === 'number' || again.path === '')
    return yield* nothing(ctx, 'the loaded engine has no file to load otherwise');
  return {
    path: again.path,
    hasFile: true,
    model: again.path,
    question: { ...question, ...again.choice },
    targets: known,
  };
}

const requestRules = {
  prompt: integer('prompt', 1, LIMITS.promptTokensMax, REQUEST_DEFAULTS.prompt),
  generate: integer('gen', 1, LIMITS.generationTokensMax, REQUEST_DEFAULTS.generate),
  ...samplerRules,
};

function* nothing(ctx: Ctx, message: string): Generator<void, null, void> {
  yield* ctx.fail(message);
  return null;
}

// ── llmctl wcet ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** All that is known of a request before it runs. */
interface Findings {
  readonly model: string;
  readonly forecast: Forecast;
  readonly costs: readonly Cost[];
  /** A standing per target, the one in force marked. */
  readonly standings: readonly (Standing & { readonly current: boolean })[];
}

export function* wcet(ctx: Ctx): Run {
  const { html, check, json } = ctx.options;
  if (html !== undefined && (json || check !== undefined))
    return yield* ctx.usage('wcet: --html excludes --json and --check');
  const what = yield* asked(ctx, ctx.options.model);
  if (what === null) return NO_ANSWER;
  const forecast = yield* foretell(ctx.sys, what);
  if (typeof forecast === 'number') return yield* unanswered(ctx, what.path, forecast);
  if (check !== undefined) return yield* checked(ctx, check, forecast);
  const found = yield* findings(ctx.sys, what, forecast);
  if (typeof found === 'number') return yield* unanswered(ctx, what.path, found);
  if (html !== undefined) return yield* writePage(ctx, html, found);
  yield* ctx.out.print(json ? jsonLine(findingsJson(found)) : findingsText(found));
  return 0;
}

function* writePage(ctx: Ctx, file: string, found: Findings): Run {
  const { sys } = ctx;
  const page = wcetPage({
    ...found,
    labels: QUANTITY_LABELS,
    worstPath: worstPath(found),
    goals: goalsText(),
  });
  const fd = yield* sys.open(file, O.WRONLY | O.CREAT | O.TRUNC, 0o644);
  const written = fd < 0 ? fd : yield* writeAll(sys, fd, utf8Encode(page));
  if (fd >= 0) yield* sys.close(fd);
  if (written >= 0) return 0;
  yield* ctx.fail(file, -written);
  return NO_ANSWER;
}

function* unanswered(ctx: Ctx, path: string, errno: number): Run {
  yield* failAbout(ctx, path, errno);
  return NO_ANSWER;
}

function* findings(sys: Sys, what: Asked, forecast: Forecast): Generator<void, Findings | number, void> {
  const costs = yield* pricedPlan(sys, what);
  if (typeof costs === 'number') return costs;
  const standings: (Standing & { current: boolean })[] = [];
  for (const { name, current } of what.targets) {
    const other = yield* foretell(sys, what, name);
    if (typeof other === 'number') return other;
    standings.push({ ...standing(other), current });
  }
  return { model: what.model, forecast, costs, standings };
}

function* checked(ctx: Ctx, file: string, forecast: Forecast): Run {
  const { sound, target } = forecast.report;
  if (sound === 0) {
    yield* ctx.fail(`--check: ${target} is a fit, its figures bound nothing: no limit can be held against them`);
    return NO_ANSWER;
  }
  const text = yield* readText(ctx.sys, file);
  if (typeof text === 'number') {
    yield* ctx.fail(file, -text);
    return NO_ANSWER;
  }
  const checks = checkBudget(text, forecast);
  if (typeof checks === 'string') {
    yield* ctx.fail(`${file}:${checks}`);
    return NO_ANSWER;
  }
  yield* ctx.out.print(ctx.options.json ? jsonLine(checkJson(checks)) : checkText(checks));
  return checks.every(c => c.met) ? 0 : 1;
}

const checkText = (checks: readonly Check[]): string =>
  table(
    checks.map(({ key, bound, limit, relation, met }) => [
      key,
      bound === null ? 'unknown' : figure(bound),
      relation,
      figure(limit),
      met ? 'ok' : 'exceeded',
    ]),
    [false, true, false, true],
  );

const figure = (n: number): string => (Number.isInteger(n) ? grouped(n) : threeDigits(n));

const QUANTITY_LABELS: Readonly<Record<Quantity, string>> = {
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

function findingsText(f: Findings): string {
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

const percent = (share: number | undefined): string => (share === undefined ? '' : `${(share * 100).toFixed(1)} %`);

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
function worstPath({ forecast: { report }, costs }: Findings): string {
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

function goalsText(): string {
  const { firstTokenMs: first, tokensPerSecond: rate, arenaBytes: memory, context } = GOALS;
  return (
    `goals: < ${first.most} ms (${first.stretch}), ≥ ${rate.least} tokens/s (${rate.stretch}), ` +
    `< ${memory.most / 1e6} MB (${memory.stretch / 1e6}), context ≥ ${context.least} (${context.stretch})`
  );
}

function findingsJson(f: Findings): Json {
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

const sumJson = (s: Sum): Json => ({
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

// ── llmctl plan --cost ───────────────────────────────────────────────────────────────────────────────────────────────────────────

export function* planCost(ctx: Ctx, file: string | undefined): Run {
  const what = yield* asked(ctx, file);
  if (what === null) return 2;
  const forecast = yield* foretell(ctx.sys, what);
  if (typeof forecast === 'number') return yield* failAbout(ctx, what.path, forecast);
  const costs = yield* pricedPlan(ctx.sys, what);
  if (typeof costs === 'number') return yield* failAbout(ctx, what.path, costs);
  const { target, hz } = forecast.report;
  if (ctx.options.json) {
    yield* ctx.out.print(
      jsonLine({ model: what.model, target, hz, steps: stepsOf(costs).map(s => stepJson(costs, s)) }),
    );
    return 0;
  }
  for (const step of stepsOf(costs)) yield* ctx.out.print(stepText(costs, step, target, hz));
  return 0;
}

const stepsOf = (costs: readonly Cost[]): string[] => [...new Set(costs.map(c => c.step))];
const segmentOf = (c: Cost): string => c.segment;

function stepJson(costs: readonly Cost[], step: string): Json {
  const ops = costs.filter(c => c.step === step);
  const { n, pos } = ops[0]!;
  return {
    step,
    tokens: n,
    pos,
    most_cycles: total(ops, 'most'),
    least_cycles: total(ops, 'least'),
    segments: sumsBy(costs, step, segmentOf).map(sumJson),
    ops: ops.map(c => ({
      segment: c.segment,
      op: c.op,
      layer: c.layer < 0 ? null : c.layer,
      name: c.name,
      most_cycles: c.most,
      least_cycles: c.least,
      compute_cycles: c.compute / 1000,
      memory_cycles: c.memory / 1000,
      overhead_cycles: c.overhead / 1000,
      instructions: c.instructions,
      loaded_bytes: c.loaded,
      stored_bytes: c.stored,
    })),
  };
}

const total = (ops: readonly Cost[], column: 'most' | 'least'): number => ops.reduce((sum, c) => sum + c[column], 0);

type Costed = Pick<Sum, 'most' | 'least' | 'instructions' | 'loaded' | 'stored' | 'share'>;
const costRow = (label: readonly string[], s: Costed): string[] => [
  percent(s.share),
  ...[s.most, s.least, s.instructions, s.loaded, s.stored].map(grouped),
  ...label,
];

function stepText(costs: readonly Cost[], step: string, target: string, hz: number): string {
  const ops = costs.filter(c => c.step === step);
  const { n, pos } = ops[0]!;
  const most = total(ops, 'most');
  const rows = [
    ['share', 'at most', 'at least', 'instructions', 'loaded', 'stored', 'op', 'of'],
    ...ops.map(c => costRow([c.op, c.name], { ...c, share: most === 0 ? 0 : c.most / most })),
    ...sumsBy(costs, step, segmentOf).map(s => costRow([`all of ${s.key}`], s)),
    ...sumsBy(costs, step, () => `all of ${step}`).map(s => costRow([s.key], s)),
  ];
  const what = n === 1 ? `1 token at position ${pos}` : `${n} tokens from position ${pos}`;
  return `${step}: ${what} on ${target}, ${duration(most, hz)} at most\n${table(rows, [true, true, true, true, true, true])}\n`;
}

// ── llmctl target ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const TARGET_NAME_BYTES = 64;

export function* target(ctx: Ctx, [name = '']: readonly string[]): Run {
  const { sys, out } = ctx;
  if (name !== '') {
    const result = yield* sys.target(name, new Uint8Array(TARGET_NAME_BYTES));
    if (result < 0) return yield* failAbout(ctx, '', result);
  }
  const known = yield* targets(sys);
  if (typeof known === 'number') return yield* ctx.fail('/proc/targets', -known);
  if (ctx.options.json) {
    yield* out.print(jsonLine({ target: known.find(t => t.current)!.name, targets: known.map(t => ({ ...t })) }));
    return 0;
  }
  const shown = name === '' ? known : known.filter(t => t.current);
  yield* out.print(
    table(shown.map(t => [`${t.current ? '*' : ' '} ${t.name}`, `${threeDigits(t.hz / 1e6)} MHz`, t.title])),
  );
  return 0;
}
