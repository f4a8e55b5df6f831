// Gradients that are estimated, by the kernel's own steps: forward mode along drawn directions (FMEA) and differences of losses at perturbed parameters
// (NES) against the gradients that they stand for, on functions whose gradients are known on paper and on a tiny transformer against reverse mode.

import test from 'ava';
import * as ops from '../drivers/engine/ops.ts';
import { TRAIN_METHODS } from '../kernel/abi/index.ts';
import { rankUtilities } from '../kernel/train/utilities.ts';
import { random } from './harness.ts';
import { OpBench } from './support/op-bench.ts';
import { TrainingBench, type Step } from './support/training-bench.ts';

const method = (name: (typeof TRAIN_METHODS)[number]): number => TRAIN_METHODS.indexOf(name);
const [LORA, FMEA, NES] = [method('lora'), method('fmea'), method('nes')];
/** Directions of a batch at most. */
const MANY = 64;

type Vector = ArrayLike<number>;
const dot = (a: Vector, b: Vector): number => Array.from(a).reduce((sum, v, i) => sum + v * b[i]!, 0);
const size = (a: Vector): number => Math.sqrt(dot(a, a));

const drawing = new OpBench('simd128');
/** The first `n` normals of a seed: those that the device draws. */
function normals(n: number, seedLow: number, seedHigh: number): Float32Array {
  const d = drawing;
  d.reset();
  const [dstAt, blockAt] = [d.room(n), d.put(new Float32Array(24))];
  d.view.setUint32(blockAt + ops.TRAIN_SEED_LOW, seedLow, true);
  d.view.setUint32(blockAt + ops.TRAIN_SEED_HIGH, seedHigh, true);
  d.view.setFloat32(blockAt + ops.TRAIN_SIGMA, 1, true);
  d.run(ops.Op.PERTURB, { [ops.Perturb.dstAt]: dstAt, [ops.Perturb.n]: n, [ops.Perturb.blockAt]: blockAt });
  return d.f32(dstAt, n);
}

/** A machine that trains a function; its one batch is of one token and another that follows it. */
function functionBench(
  of: 'sphere' | 'choice',
  first: readonly number[],
  about: readonly number[] = [],
): TrainingBench {
  const bench = new TrainingBench();
  bench.loadTiny(1);
  bench.loadFunction(of, first, about);
  bench.open({ method: of === 'sphere' ? NES : FMEA });
  return bench;
}
const TARGET = 2;
const ONE = [[1, TARGET]];

/** The mean of the gradients of many batches, each of directions of its own. */
function meanOf(
  bench: TrainingBench,
  sequences: readonly (readonly number[])[],
  batches: number,
  s: Partial<Step>,
): Float64Array {
  const sum = new Float64Array(bench.program.parameters);
  for (let i = 0; i < batches; i++) {
    const g = bench.gradient(sequences, { ...s, directions: MANY, seedLow: 1000 + i });
    g.forEach((v, j) => (sum[j]! += v / batches));
  }
  return sum;
}

// ── On paper ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('the specification’s rank utilities', t => {
  const want = [0.48042271, 0.01957729, -0.25, -0.25];
  rankUtilities([9, 8, 1, -3]).forEach((u, i) => t.true(Math.abs(u - want[i]!) < 1e-8, `${u}`));
  // Whatever the fitnesses are, their order alone counts; and utilities sum to 0.
  t.deepEqual(
    rankUtilities([-3, 1e9, 8, 8.5]),
    [3, 0, 2, 1].map(place => rankUtilities([4, 3, 2, 1])[place]!),
  );
  for (const k of [2, 10, 128]) {
    const all = rankUtilities(Array.from({ length: k }, (_, i) => Math.sin(i)));
    t.true(Math.abs(all.reduce((a, b) => a + b, 0)) < 1e-12);
  }
});

test('nes: F = −(x − 3)² at 1, where each pair gives exactly 4ε²', t => {
  const bench = functionBench('sphere', [1], [3]);
  for (let seed = 0; seed < 20; seed++) {
    const [epsilon] = normals(1, seed, 7);
    const [g] = bench.gradient(ONE, { sigma: 2 ** -6, seedLow: seed, seedHigh: 7 });
    // Of the loss, which is −F. Where x is perturbed to is rounded to f32, 6e-8 of σ = 2^−6.
    t.true(Math.abs(-g! - 4 * epsilon! ** 2) < 2e-5 * Math.abs(epsilon!), `${-g!}, ε ${epsilon}`);
  }
});

test('nes: on a quadratic, the mean over many pairs is its gradient, which that of the smoothed function is too', t => {
  const next = random(5);
  const n = 12;
  const [theta, about] = [
    Array.from({ length: n }, () => 2 * next() - 1),
    Array.from({ length: n }, () => 2 * next() - 1),
  ];
  const bench = functionBench('sphere', theta, about);
  const want = theta.map((v, i) => 2 * (Math.fround(v) - Math.fround(about[i]!)));
  const batches = 100;
  const got = meanOf(bench, ONE, batches, { sigma: 0.5 });
  // A pair gives (g · ε) ε, whose i-th value has the variance |g|² + gᵢ².
  const error = want.map(g => Math.sqrt((dot(want, want) + g * g) / (batches * MANY)));
  const z = want.map((g, i) => (got[i]! - g) / error[i]!);
  t.true(Math.max(...z.map(Math.abs)) < 4, z.map(v => v.toFixed(2)).join());
  t.true(dot(z, z) < 32.9, `χ² of ${n}: ${dot(z, z)}`); // one in a thousand
  t.log(`${batches * MANY} pairs: relative error ${(size(want.map((g, i) => got[i]! - g)) / size(want)).toFixed(4)}`);
});

test('fmea: every direction v gives (∇f · v) v, and the mean over many is the gradient, known on paper', t => {
  const next = random(6);
  const n = 10;
  const theta = Array.from({ length: n }, () => 3 * next());
  const bench = functionBench('choice', theta);
  const powers = theta.map(v => Math.exp(v));
  const all = powers.reduce((a, b) => a + b, 0);
  const want = powers.map((p, i) => p / all - Number(i === TARGET));
  for (let seed = 0; seed < 10; seed++) {
    const v = normals(n, seed, 3);
    const got = bench.gradient(ONE, { seedLow: seed, seedHigh: 3 });
    const slope = dot(want, v);
    t.true(size(Array.from(v, (x, i) => got[i]! - slope * x)) < 1e-6 * size(v), `${seed}`);
  }
  const batches = 100;
  const got = meanOf(bench, ONE, batches, {});
  const z = want.map((g, i) => (got[i]! - g) / Math.sqrt((dot(want, want) + g * g) / (batches * MANY)));
  t.true(Math.max(...z.map(Math.abs)) < 4, z.map(x => x.toFixed(2)).join());
  t.true(dot(z, z) < 29.6, `χ² of ${n}: ${dot(z, z)}`); // one in a thousand
});

for (const ranked of [0, 1])
  test(`nes converges on the sphere, ${ranked === 1 ? 'by ranks' : 'by losses'}`, t => {
    const next = random(9);
    const n = 20;
    const first = Array.from({ length: n }, () => 4 * next() - 2);
    const about = Array.from({ length: n }, () => 4 * next() - 2);
    const bench = functionBench('sphere', first, about);
    const loss = (): number => bench.parameters.reduce((sum, v, i) => sum + (v - about[i]!) ** 2, 0);
    const before = loss();
    const steps = 150;
    for (let i = 0; i < steps; i++) {
      // Ranks forget how steep it is, so their steps become shorter.
      const rate = ranked === 1 ? 0.5 * 0.96 ** i : 0.12;
      bench.batch(ONE, { directions: 32, ranked, update: 1, rate, beta1: 0.5, sigma: 0.05, seedLow: i });
    }
    t.log(`${before.toFixed(3)} to ${loss().toExponential(2)} in ${steps} steps of 32 pairs`);
    t.true(loss() < 1e-3 * before);
  });

// ── On a transformer ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

const SEQUENCES = [[5, 270, 12, 281, 40, 33, 270]];
/** Pairs of queries and values: 16 + 16 and 16 + 8 values. */
const PAIRS = { targets: 0b101, rank: 1 };

/** A machine that trains the tiny model by that method from these parameters. */
function tinyBench(by: number, parameters: Float32Array | null): TrainingBench {
  const bench = new TrainingBench();
  bench.loadTiny(11);
  bench.open({ ...PAIRS, method: by });
  if (parameters !== null) bench.parameters.set(parameters);
  return bench;
}

/** Parameters away from B = 0, and what reverse mode says of them. */
function reverse(): { parameters: Float32Array; gradient: Float64Array } {
  const next = random(13);
  const bench = tinyBench(LORA, null);
  const parameters = Float32Array.from({ length: bench.program.parameters }, () => next() - 0.5);
  bench.parameters.set(parameters);
  return { parameters, gradient: bench.gradient(SEQUENCES) };
}
const { parameters, gradient } = reverse();

test('methods begin with the same parameters: A drawn, B zero, and a gradient that is none but of B', t => {
  const [lora, fmea, nes] = [LORA, FMEA, NES].map(by => tinyBench(by, null)) as [
    TrainingBench,
    TrainingBench,
    TrainingBench,
  ];
  t.deepEqual(fmea.parameters, lora.parameters);
  t.deepEqual(nes.parameters, lora.parameters);
  const g = lora.gradient(SEQUENCES);
  for (const { name, from, columns, rows } of lora.program.tensors) {
    const part = (of: Vector): number[] => Array.from(of).slice(from, from + columns * rows);
    const isB = name.endsWith('lora_b');
    t.is(
      part(lora.parameters).every(v => v === 0),
      isB,
      name,
    );
    t.is(
      part(g).every(v => v === 0),
      !isB,
      name,
    );
  }
});

test('fmea: on a transformer every direction v gives (∇f · v) v, with reverse mode’s ∇f', t => {
  const bench = tinyBench(FMEA, parameters);
  let worst = 0;
  for (let seed = 0; seed < 50; seed++) {
    const v = normals(parameters.length, seed, 0);
    const got = bench.gradient(SEQUENCES, { seedLow: seed });
    const slope = dot(got, v) / dot(v, v);
    const error = Math.abs(slope - dot(gradient, v)) / (size(gradient) * size(v));
    worst = Math.max(worst, error);
    t.true(size(Array.from(v, (x, i) => got[i]! - slope * x)) < 1e-6 * Math.abs(slope) * size(v), 'it points along v');
  }
  t.true(worst < 1e-6, `${worst}`);
  t.log(`slopes are off by ${worst.toExponential(1)} of |∇f| |v|`);
});

test('fmea: on a transformer the mean over many directions is the gradient', t => {
  const bench = tinyBench(FMEA, parameters);
  const batches = 40;
  const got = meanOf(bench, SEQUENCES, batches, {});
  const n = parameters.length;
  const z = Array.from(
    gradient,
    (g, i) => (got[i]! - g) / Math.sqrt((dot(gradient, gradient) + g * g) / (batches * MANY)),
  );
  const spread = dot(z, z);
  t.true(Math.max(...z.map(Math.abs)) < 4.5, z.map(x => x.toFixed(2)).join());
  t.true(Math.abs(spread - n) < 3.3 * Math.sqrt(2 * n), `χ² of ${n}: ${spread}`);
  t.log(
    `${batches * MANY} directions: cosine ${(dot(got, gradient) / size(got) / size(gradient)).toFixed(4)}, χ² ${spread.toFixed(1)} of ${n}`,
  );
});

test('nes: on a transformer the mean over many pairs is the gradient, within its statistical error', t => {
  const bench = tinyBench(NES, parameters);
  const batches = 30;
  const got = meanOf(bench, SEQUENCES, batches, { sigma: 0.01 });
  const n = parameters.length;
  // What σ = 0.01 smooths away is far below what so many pairs leave uncertain.
  const z = Array.from(
    gradient,
    (g, i) => (got[i]! - g) / Math.sqrt((dot(gradient, gradient) + g * g) / (batches * MANY)),
  );
  const spread = dot(z, z);
  t.true(Math.max(...z.map(Math.abs)) < 4.5, z.map(x => x.toFixed(2)).join());
  t.true(Math.abs(spread - n) < 3.3 * Math.sqrt(2 * n), `χ² of ${n}: ${spread}`);
  t.log(
    `${batches * MANY} pairs: cosine ${(dot(got, gradient) / size(got) / size(gradient)).toFixed(4)}, χ² ${spread.toFixed(1)} of ${n}`,
  );
});

/** Of many drawn vectors the mean, and the variance of each of its values. */
function estimated(draws: readonly Float64Array[]): { mean: number[]; variance: number[] } {
  const count = draws.length;
  const mean = Array.from(draws[0]!, (_, i) => draws.reduce((sum, d) => sum + d[i]!, 0) / count);
  const variance = mean.map((m, i) => draws.reduce((sum, d) => sum + (d[i]! - m) ** 2, 0) / (count * (count - 1)));
  return { mean, variance };
}

test('nes: where σ smooths, the mean over many pairs is the gradient of the smoothed loss, that over reverse mode’s at perturbed parameters', t => {
  const sigma = 0.4;
  const strategy = tinyBench(NES, parameters);
  const pairs = estimated(
    Array.from({ length: 60 }, (_, i) => strategy.gradient(SEQUENCES, { sigma, directions: MANY, seedLow: i })),
  );
  const exact = tinyBench(LORA, null);
  const there = estimated(
    Array.from({ length: 800 }, (_, i) => {
      const epsilon = normals(parameters.length, i, 99);
      exact.parameters.set(parameters.map((v, j) => v + sigma * epsilon[j]!));
      return exact.gradient(SEQUENCES);
    }),
  );
  const n = parameters.length;
  const spread = (want: Vector, variance: (i: number) => number): number =>
    pairs.mean.reduce((sum, m, i) => sum + (m - want[i]!) ** 2 / (pairs.variance[i]! + variance(i)), 0);
  const smoothed = spread(there.mean, i => there.variance[i]!);
  t.true(Math.abs(smoothed - n) < 3.3 * Math.sqrt(2 * n), `χ² of ${n}: ${smoothed}`);
  const plain = spread(gradient, () => 0);
  t.true(plain > 2 * smoothed, `the loss itself has another gradient: χ² ${plain}`);
  t.log(`χ² of ${n}: ${smoothed.toFixed(1)}; against the gradient of the loss itself ${plain.toFixed(1)}`);
});

for (const [name, by, s] of [
  ['fmea', FMEA, { directions: 16 }],
  ['nes', NES, { directions: 16, sigma: 0.05 }],
  ['nes by ranks', NES, { directions: 16, sigma: 0.05, ranked: 1 }],
] as const)
  test(`${name} lowers the loss of a transformer`, t => {
    const bench = tinyBench(by, null);
    const measured = (): number => bench.batch(SEQUENCES, { kind: 1 }).loss;
    const before = measured();
    for (let i = 0; i < 40; i++)
      bench.batch(SEQUENCES, { ...s, update: 1, rate: 0.5, beta1: 0.9, clip: 1, seedLow: i });
    t.true(measured() < 0.9 * before, `${before} to ${measured()}`);
    t.log(`${before.toFixed(3)} to ${measured().toFixed(3)}`);
  });
