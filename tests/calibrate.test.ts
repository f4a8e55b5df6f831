// The calibration of the target `host`: the regression finds prices that are there and invents none, and what it is given, counts of whole
// steps, are those by which the target then charges.

import test from 'ava';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { HOST_PRICES, HOST_PRIOR, hostTarget, type HostPrice, type Target } from '../kernel/wcet/targets.ts';
import { makeRandom } from './support/arena.ts';

interface Row {
  readonly model: string;
  readonly counts: readonly number[];
  readonly time: number;
}
interface Spread {
  readonly median: number;
  readonly ninety: number;
  readonly worst: number;
}
type Figures = Readonly<Record<'fitted' | 'heldOut' | 'unseen', Spread>> & { readonly steps: number };
interface Fit {
  fit(rows: readonly Row[], prior: readonly number[], ridge?: number): number[];
  assess(
    rows: readonly Row[],
    prior: readonly number[],
  ): { prices: number[]; worst: number; all: Figures; models: ({ model: string } & Figures)[] };
}
interface Step {
  readonly n: number;
  readonly pos: number;
  readonly draw: string | null;
  readonly seconds: number;
  readonly counts: readonly number[];
}
interface Steps {
  parts(): Promise<object>;
  measureSteps(
    subjects: readonly object[],
    parts: object,
    targets: readonly Target[],
    ms: number,
  ): { build: string; steps: Step[] };
}

// Plain JavaScript, outside of the rooms that the compiler knows.
const bench = async <T>(file: string): Promise<T> =>
  (await import(pathToFileURL(path.resolve('bench', file)).href)) as T;

const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, x, i) => sum + x * b[i]!, 0);

/** Rows of counts of quite different sizes whose times are exact, or off by up to `noise`. */
function rowsOf(prices: readonly number[], noise: number): Row[] {
  const random = makeRandom(11);
  return Array.from({ length: 120 }, (_, i) => {
    const size = 10 ** (3 + random(4));
    const counts = prices.map(() => 1 + random(size));
    return { model: `m${i % 4}`, counts, time: dot(counts, prices) * (1 + (noise * (random(2001) - 1000)) / 1000) };
  });
}

test('the regression finds the prices that made the times, whatever the prior', async t => {
  const { fit } = await bench<Fit>('fit.mjs');
  const prices = [0.05, 2, 0, 0.7];
  const near = (found: number[], tolerance: number): void =>
    found.forEach((p, j) => t.true(Math.abs(p - prices[j]!) <= tolerance, `${j}: ${p}, ${prices[j]}`));
  near(fit(rowsOf(prices, 0), [1, 1, 1, 1], 0), 1e-4);
  near(fit(rowsOf(prices, 0.05), [1, 1, 1, 1], 0), 0.05);
});

test('no price is negative, and what no step contains keeps its proportion', async t => {
  const { fit } = await bench<Fit>('fit.mjs');
  // The second count is there where time is not: least squares without bounds would pay for it.
  const rows = [1, 2, 3, 4, 5].map(i => ({ model: 'm', counts: [10, i, 0], time: 12 - i }));
  const found = fit(rows, [1, 1, 3], 1e-6);
  t.is(found[1], 0);
  t.true(found.every(p => p >= 0));
  t.true(found[2]! > 0, 'never counted: the prior, scaled');
});

test('every third step is held out, and a model is judged by the others', async t => {
  const { assess } = await bench<Fit>('fit.mjs');
  const prices = [0.5, 2, 1];
  const exact = assess(rowsOf(prices, 0), prices);
  t.true(exact.worst < 1e-9);
  t.deepEqual(exact.prices, prices);
  t.is(exact.all.steps, 120);
  t.deepEqual(
    exact.models.map(m => [m.model, m.steps]),
    ['m0', 'm1', 'm2', 'm3'].map(m => [m, 30]),
  );
  const rows = rowsOf(prices, 0).map((row, i) => (i % 3 === 2 ? { ...row, time: row.time * 2 } : row));
  const { all } = assess(rows, prices);
  t.true(all.fitted.worst < 1e-9, 'they were not looked at');
  t.true(Math.abs(all.heldOut.median - 0.5) < 1e-9 && Math.abs(all.heldOut.worst - 0.5) < 1e-9);
  const odd = rowsOf(prices, 0).map(row => (row.model === 'm1' ? { ...row, time: row.time * 3 } : row));
  t.true(assess(odd, prices).models[1]!.unseen.median > 0.6, 'three times as slow as the others say');
});

type HostPrices = Readonly<Record<HostPrice, number>>;
const priced = (prices: HostPrices): Target => hostTarget({ digest: '', cpu: 'test', hz: 1e9, prices, errorMilli: 0 });
const only = (name: HostPrice): Target =>
  priced(Object.fromEntries(HOST_PRICES.map(other => [other, other === name ? 1000 : 0])) as unknown as HostPrices);

test('steps are counted by the prices that the target charges: the sum of counts at any prices is its charge', async t => {
  const { parts, measureSteps } = await bench<Steps>('steps.mjs');
  const subject = { name: 'fable', file: 'images/models/fable-q4_0.gguf', ctx: 64, kv: 'F32' };
  const targets = [...HOST_PRICES.map(only), priced(HOST_PRIOR)];
  const { steps } = measureSteps([subject], await parts(), targets, 100);
  const prices = HOST_PRICES.map(name => HOST_PRIOR[name] / 1000);
  for (const { n, pos, draw, seconds, counts } of steps) {
    const charge = counts.at(-1)!;
    const predicted = dot(prices, counts);
    // Each row of each op is rounded up to a whole cycle.
    t.true(charge >= predicted && charge <= predicted * 1.001 + 1000, `${n} from ${pos}: ${predicted}, ${charge}`);
    t.true(seconds > 0 && seconds < 1, `${seconds} s`);
    t.true(
      counts.every((c, j) => c > 0 || HOST_PRICES[j] === 'byte' || HOST_PRICES[j] === undefined),
      `${n} from ${pos}, ${draw}: ${counts.join()}`,
    );
  }
  t.true(new Set(steps.map(s => `${s.n} ${s.pos} ${s.draw}`)).size === steps.length && steps.length === 72);
});
