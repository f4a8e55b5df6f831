// What the kernel foretells of a request, as programs see it: its bounds on a target, and the priced plan behind them. Cycles come from the
// kernel; times, rates, shares and sums by layer and by op are worked out here, for the tables, the JSON and the page of `llmctl wcet`.

import { COST_COLUMNS, GGML_TYPE, WcetOptions, WcetReport, utf8Decode } from '../../kernel/abi/index.ts';
import type { RecordValue, Sys } from '../../kernel/abi/index.ts';
import { readText } from './files.ts';
import { SAMPLER_DEFAULTS } from './sampling.ts';
import { readAll } from './stdio.ts';

export type Report = RecordValue<typeof WcetReport.fields>;
/** What is asked: a request, and on which target ('' = the machine's). */
export type Question = Partial<RecordValue<typeof WcetOptions.fields>>;

export const REQUEST_DEFAULTS = { kvType: GGML_TYPE.F16, prompt: 32, generate: 64, ...SAMPLER_DEFAULTS } as const;

function record(question: Question): Uint8Array {
  const options = new Uint8Array(WcetOptions.bytes);
  WcetOptions.write(options, 0, { ...REQUEST_DEFAULTS, ...question });
  return options;
}

export interface Forecast {
  readonly report: Report;
  /** False: what turning the prompt's text into ids costs is not known; a file's vocabulary may not have fitted beside the loaded model. */
  readonly tokenizes: boolean;
}

/** Whose cost is asked: the model at `path` ('' = the loaded one). One without a file has no vocabulary to search: its ids are bytes. */
export interface Subject {
  readonly path: string;
  readonly hasFile: boolean;
  readonly question: Question;
}

/** Bounds of a request, on the question's target or another; or -errno. */
export function* foretell(
  sys: Sys,
  { path, hasFile, question }: Subject,
  target = question.target ?? '',
): Generator<void, Forecast | number, void> {
  const bytes = new Uint8Array(WcetReport.bytes);
  const result = yield* sys.model_wcet(path, record({ ...question, target }), bytes);
  if (result < 0) return result;
  const report = WcetReport.read(bytes, 0);
  return { report, tokenizes: !hasFile || report.tokenizeMax > 0 };
}

// ── Bounds ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Cycles; null where nothing is said. */
export interface Bounds {
  readonly most: number | null;
  readonly least: number | null;
}

/** What a forecast says, by the name under which tables, JSON and budgets have it. */
export type Quantity =
  | 'tokenize'
  | 'transfers'
  | 'prefill'
  | 'first_token'
  | 'decode_step'
  | 'decode_mean'
  | 'last_step'
  | 'sampler'
  | 'request'
  | 'calls'
  | 'whole';

/**
 * first_token: from the text to the first token, system calls of a request of one token included. decode_step: the dearest step at most, the
 * cheapest at least. request: what a session is charged; at least: it ends with its first token. whole: request, tokenizing, transfers, calls.
 */
export function bounds(f: Forecast): Readonly<Record<Quantity, Bounds>> {
  const r = f.report;
  const textMin = r.tokenizeMin + r.transferMin;
  const textMax = f.tokenizes ? r.tokenizeMax + r.transferMax : null;
  const after = (cycles: number): number | null => (textMax === null ? null : textMax + cycles);
  const steps = r.generate - 1;
  return {
    tokenize: { most: f.tokenizes ? r.tokenizeMax : null, least: r.tokenizeMin },
    transfers: { most: r.transferMax, least: r.transferMin },
    prefill: { most: r.prefillMax, least: r.prefillMin },
    first_token: { most: after(r.prefillMax + r.callsMin), least: textMin + r.prefillMin },
    decode_step: { most: r.decodeMax, least: r.decodeMin },
    decode_mean: { most: r.decodeMeanMax, least: steps > 0 ? Math.floor((r.fullMin - r.prefillMin) / steps) : 0 },
    last_step: { most: r.contextMax, least: null },
    sampler: { most: r.drawMax, least: r.drawMin },
    request: { most: r.requestMax, least: r.requestMin },
    calls: { most: r.callsMax, least: r.callsMin },
    whole: { most: after(r.requestMax + r.callsMax), least: textMin + r.requestMin + r.callsMin },
  };
}

// ── The goals of the reference design ────────────────────────────────────────────────────────────────────────────────────────────

/** Whether a goal is met: not at all, as it must be, or as far as one can wish (its stretch). */
export type Verdict = 'missed' | 'met' | 'stretch';

export const GOALS = {
  firstTokenMs: { most: 500, stretch: 200 },
  tokensPerSecond: { least: 5, stretch: 10 },
  arenaBytes: { most: 8_000_000, stretch: 6_000_000 },
  context: { least: 512, stretch: 1024 },
} as const;

export interface Standing {
  readonly target: string;
  readonly hz: number;
  /** False: the target is a fit, its figures bound nothing. */
  readonly sound: boolean;
  readonly firstTokenMs: number | null; // at most
  readonly guaranteed: number; // tokens per second: the dearest step, at the end of the context
  readonly typical: number; // tokens per second: the mean step of the request
  readonly arenaBytes: number;
  readonly context: number;
  readonly verdicts: {
    readonly firstToken: Verdict;
    readonly guaranteed: Verdict;
    readonly typical: Verdict;
    readonly memory: Verdict;
    readonly context: Verdict;
  };
}

const below = (value: number, goal: { readonly most: number; readonly stretch: number }): Verdict =>
  value < goal.stretch ? 'stretch' : value < goal.most ? 'met' : 'missed';
const reached = (value: number, goal: { readonly least: number; readonly stretch: number }): Verdict =>
  value >= goal.stretch ? 'stretch' : value >= goal.least ? 'met' : 'missed';

/** How a forecast stands to the goals. A generation of one token has no decode step: the last step speaks for it. */
export function standing(f: Forecast): Standing {
  const r = f.report;
  const firstToken = bounds(f).first_token.most;
  const firstTokenMs = firstToken === null ? null : milliseconds(firstToken, r.hz);
  const guaranteed = perSecond(r.contextMax, r.hz);
  const typical = perSecond(r.decodeMeanMax || r.contextMax, r.hz);
  return {
    target: r.target,
    hz: r.hz,
    sound: r.sound !== 0,
    firstTokenMs,
    guaranteed,
    typical,
    arenaBytes: r.arenaBytes,
    context: r.ctx,
    verdicts: {
      firstToken: below(firstTokenMs ?? Infinity, GOALS.firstTokenMs),
      guaranteed: reached(guaranteed, GOALS.tokensPerSecond),
      typical: reached(typical, GOALS.tokensPerSecond),
      memory: below(r.arenaBytes, GOALS.arenaBytes),
      context: reached(r.ctx, GOALS.context),
    },
  };
}

// ── The priced plan ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

const TEXT_COLUMNS = ['step', 'segment', 'op', 'name'] as const;
type TextColumn = (typeof TEXT_COLUMNS)[number];
/** One op of one step; `most` and `least` in cycles, `compute`, `memory`, `overhead` in thousandths of one. */
export type Cost = { readonly [C in (typeof COST_COLUMNS)[number]]: C extends TextColumn ? string : number };

/** The priced plan of that request, an entry an op, or -errno. */
export function* pricedPlan(sys: Sys, { path, question }: Subject): Generator<void, Cost[] | number, void> {
  const fd = yield* sys.model_cost(path, record(question));
  if (fd < 0) return fd;
  const bytes = yield* readAll(sys, fd, Infinity);
  yield* sys.close(fd);
  if (typeof bytes === 'number') return bytes;
  return utf8Decode(bytes)
    .split('\n')
    .slice(0, -1)
    .map(line => {
      const cells = line.split('\t');
      const entries = COST_COLUMNS.map((column, i) => [column, isText(column) ? (cells[i] ?? '') : Number(cells[i])]);
      return Object.fromEntries(entries) as unknown as Cost;
    });
}
const isText = (column: string): boolean => (TEXT_COLUMNS as readonly string[]).includes(column);

export interface Sum {
  readonly key: string;
  readonly most: number;
  readonly least: number;
  readonly memory: number; // cycles
  readonly instructions: number;
  readonly loaded: number;
  readonly stored: number;
  /** Of the whole step at most, 0 … 1. */
  readonly share: number;
}

/** One step's costs summed by a key, in order of appearance. */
export function sumsBy(costs: readonly Cost[], step: string, keyOf: (c: Cost) => string): Sum[] {
  const chosen = costs.filter(c => c.step === step);
  const whole = chosen.reduce((sum, c) => sum + c.most, 0);
  const sums = new Map<string, Omit<Sum, 'share'>>();
  for (const c of chosen) {
    const key = keyOf(c);
    const s = sums.get(key) ?? { key, most: 0, least: 0, memory: 0, instructions: 0, loaded: 0, stored: 0 };
    sums.set(key, {
      key,
      most: s.most + c.most,
      least: s.least + c.least,
      memory: s.memory + c.memory / 1000,
      instructions: s.instructions + c.instructions,
      loaded: s.loaded + c.loaded,
      stored: s.stored + c.stored,
    });
  }
  return [...sums.values()].map(s => ({ ...s, share: whole === 0 ? 0 : s.most / whole }));
}

/**
 * Names `layer 3`, or with more than `rowsMax` layers of them several together, `layers 6-8`; what stands outside of layers has its
 * segment's name.
 */
export function layerNames(costs: readonly Cost[], rowsMax: number): (c: Cost) => string {
  const layers = Math.max(-1, ...costs.map(c => c.layer)) + 1;
  const together = Math.max(1, Math.ceil(layers / rowsMax));
  return ({ layer, segment }) => {
    if (layer < 0) return segment === 'body' ? 'embedding' : segment;
    const first = layer - (layer % together);
    return together === 1 ? `layer ${layer}` : `layers ${first}-${Math.min(first + together, layers) - 1}`;
  };
}
export const opOf = (c: Cost): string => c.op;

// ── Targets ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface TargetLine {
  readonly name: string;
  readonly hz: number;
  readonly kind: string; // model, fit
  readonly current: boolean;
  readonly title: string;
}

/** The targets of this machine, as /proc/targets lists them: `*` or `-`, name, hz, kind, title. Or -errno. */
export function* targets(sys: Sys): Generator<void, TargetLine[] | number, void> {
  const text = yield* readText(sys, '/proc/targets');
  if (typeof text === 'number') return text;
  return text
    .split('\n')
    .slice(0, -1)
    .map(line => {
      const [, mark = '', name = '', hz = '', kind = '', title = ''] =
        /^([*-]) (\S+) +(\S+) +(\S+) +(.*)$/.exec(line) ?? [];
      return { name, hz: Number(hz), kind, current: mark === '*', title };
    });
}

// ── Times and rates ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

export const milliseconds = (cycles: number, hz: number): number => (cycles / hz) * 1000;
export const perSecond = (cycles: number, hz: number): number => (cycles === 0 ? 0 : hz / cycles);

/** A duration as people read it: `812 ns`, `3.25 µs`, `41.7 ms`, `1.24 s`. */
export function duration(cycles: number, hz: number): string {
  const ns = (cycles / hz) * 1e9;
  for (const [unit, scale] of [
    ['ns', 1],
    ['µs', 1e3],
    ['ms', 1e6],
  ] as const)
    if (ns < 999.5 * scale) return `${threeDigits(ns / scale)} ${unit}`;
  return `${threeDigits(ns / 1e9)} s`;
}

/** `0.812`, `3.25`, `41.7`, `812`, `12400`. */
export const threeDigits = (n: number): string =>
  n.toFixed(n === 0 || n >= 99.95 ? 0 : n >= 9.995 ? 1 : n >= 0.9995 ? 2 : 3);
