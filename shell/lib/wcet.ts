// The verbs of llmctl that tell time before it is spent: the bounds of a request (`wcet`), the priced plan (`plan --cost`) and the simulated
// processors (`target`). The figures are the kernel's; here they are asked for, set in tables and written out.

import { LIMITS, O, utf8Encode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { readText } from './files.ts';
import { jsonLine, table } from './fmt.ts';
import type { Json } from './fmt.ts';
import {
  REQUEST_DEFAULTS,
  duration,
  foretell,
  pricedPlan,
  standing,
  sumsBy,
  targets,
  threeDigits,
} from './forecast.ts';
import type { Cost, Forecast, Standing, Subject, Sum, TargetLine } from './forecast.ts';
import { failAbout, grouped, loadChoice, loadedFile, loadedModel, modelId, modelPath } from './model.ts';
import type { OptionTable } from './getopt.ts';
import type { Context } from './program.ts';
import { integer, numbersOf, samplerOptions, samplerRules } from './sampling.ts';
import { writeAll } from './stdio.ts';
import { checkBudget, checkJson } from './wcet-budget.ts';
import type { Check } from './wcet-budget.ts';
import { wcetPage } from './wcet-page.ts';
import { findingsJson, findingsText, percent, sumJson } from './wcet-text.ts';
import type { Findings } from './wcet-text.ts';

export const wcetOptions = {
  model: {
    short: 'm',
    value: 'M',
    help: 'wcet: of M, a file or a name in /models, as it would be loaded; disk: the kind of storage, man disk; audit list: records of that model',
  },
  prompt: {
    value: 'N',
    help: `wcet, plan --cost: tokens of the prompt (default ${REQUEST_DEFAULTS.prompt}); audit replay: the record's prompt, a text`,
  },
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
  const fd = yield* sys.open(file, O.WRONLY | O.CREAT | O.TRUNC, 0o666);
  const written = fd < 0 ? fd : yield* writeAll(sys, fd, utf8Encode(wcetPage(found)));
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
