// What the kernel foretells of a request, as programs see it: its bounds on a target, and the priced plan behind them. Cycles come from the
// kernel; times, rates, shares and sums by layer and by op are worked out here, for the tables, the JSON and the page of `llmctl wcet`.

import { COST_COLUMNS, SAMPLER_DEFAULTS, WcetOptions, WcetReport, utf8Decode } from '../../kernel/abi/index.ts';
import type { RecordValue, Sys } from '../../kernel/abi/index.ts';
import { readText } from './files.ts';
import { readAll } from './stdio.ts';

export type Report = RecordValue<typeof WcetReport.fields>;
/** What is asked: a request, and on which target ('' = the machine's). */
export type Question = Partial<RecordValue<typeof WcetOptions.fields>>;

export const REQUEST_DEFAULTS = { prompt: 32, generate: 64, ...SAMPLER_DEFAULTS } as const;

function record(question: Question): Uint8Array {
  const options = new Uint8Array(WcetOptions.bytes);
  WcetOptions.write(options, 0, { ...REQUEST_DEFAULTS, ...question });
  return options;
}

/** Bounds of a request to the model at `path` ('' = the loaded one), or -errno. */
export function* foretell(sys: Sys, path: string, question: Question): Generator<void, Report | number, void> {
  const report = new Uint8Array(WcetReport.bytes);
  const result = yield* sys.model_wcet(path, record(question), report);
  return result < 0 ? result : WcetReport.read(report, 0);
}

// ── The priced plan ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

const TEXT_COLUMNS = ['step', 'segment', 'op', 'name'] as const;
type TextColumn = (typeof TEXT_COLUMNS)[number];
/** One op of one step; `most` and `least` in cycles, `compute`, `memory`, `overhead` in thousandths of one. */
export type Cost = { readonly [C in (typeof COST_COLUMNS)[number]]: C extends TextColumn ? string : number };

/** The priced plan of that request, an entry an op, or -errno. */
export function* pricedPlan(sys: Sys, path: string, question: Question): Generator<void, Cost[] | number, void> {
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
      const isText = (column: string): boolean => (TEXT_COLUMNS as readonly string[]).includes(column);
      const entry = (column: string, i: number): [string, string | number] => [
        column,
        isText(column) ? (cells[i] ?? '') : Number(cells[i]),
      ];
      return Object.fromEntries(COST_COLUMNS.map(entry)) as unknown as Cost;
    });
}

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

/** `layer 3`, or the segment of what stands outside of layers. */
export const layerOf = (c: Cost): string =>
  c.layer >= 0 ? `layer ${c.layer}` : c.segment === 'body' ? 'embedding' : c.segment;
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
      const [, mark = '', name = '', hz = '', kind = '', title = ''] = /^([*-]) (\S+) +(\S+) +(\S+) +(.*)$/.exec(line) ?? [];
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
export const threeDigits = (n: number): string => n.toFixed(n === 0 || n >= 99.95 ? 0 : n >= 9.995 ? 1 : n >= 0.9995 ? 2 : 3);
