// Gradients that are estimated, by the kernel's own steps: forward mode along drawn directions (FMEA) and differences of losses at perturbed parameters
// (NES) against the gradients that they stand for, on functions whose gradients are known on paper and on a tiny transformer against reverse mode.

import test from 'ava';
import * as ops from '../drivers/engine/ops.ts';
import { GGML_TYPE, LIMITS, LOAD_DEFAULTS, O, OPTIMIZERS, TRAIN_BATCH, type TrainMethod } from '../kernel/abi/index.ts';
import { random } from './harness.ts';
import { randomConfig, randomModel } from './reference/models.ts';
import { spmVocabulary } from './reference/vocabularies.ts';
import { OpBench } from './support/op-bench.ts';
import { PlainFunction, type FunctionName } from './support/plain-function.ts';
import { optionsOf, TrainBench, type Sequences, type Step } from './support/train-bench.ts';

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

/** Steps of gradient descent, without an update unless they say so. */
const PLAIN: Partial<Step> = { update: 0, directions: 1, beta1: 0 };

class EstimatingBench extends TrainBench {
  /** A llama of one layer with F32 weights and a few hundred pieces, `seed` choosing them. */
  loadTiny(seed: number): void {
    const next = random(seed);
    const sizes = { layers: 1, heads: 2, headsKv: 1, headSize: 8, embedding: 16, feedForward: 32, vocabulary: 290 };
    const types = { types: () => GGML_TYPE.F32, vectorType: GGML_TYPE.F32 };
    const plain = { biases: false, tied: true, fusedQkv: false, ropeDimensions: 8, context: 32 };
    const config = { ...randomConfig('llama', next), ...sizes, ...types, ...plain };
    const { file } = randomModel(config, next, spmVocabulary(sizes.vocabulary, next));
    const { vfs, lay, loader } = this.kernel;
    const to = vfs.open('/', '/tiny.gguf', O.CREAT | O.TRUNC | O.WRONLY, 0o644);
    if (typeof to === 'number') throw new Error(`/tiny.gguf: ${to}`);
    for (let at = 0; at < file.length; at += LIMITS.dmaBytes) {
      const piece = file.subarray(at, at + LIMITS.dmaBytes);
      this.machine.arena.u8.set(piece, lay.dmaAt);
      to.write(lay.dmaAt, piece.length);
    }
    to.close();
    const refusal = loader.load('/tiny.gguf', { ...LOAD_DEFAULTS, ctx: 16 });
    if (refusal !== null) throw new Error(refusal.message);
  }

  begin(method: TrainMethod): void {
    const optimizer = OPTIMIZERS.indexOf('sgd');
    this.open(optionsOf(method, { rank: 1, alpha: 2, ctx: 8, batch: 1, sharePpm: 0, optimizer }));
  }

  floats(name: 'parameters' | 'gradients'): Float32Array {
    return new Float32Array(this.vector(name).buffer);
  }
  putFloats(name: 'parameters' | 'gradients', values: Float32Array): void {
    this.put(name, new Uint8Array(values.buffer));
  }
  get count(): number {
    return this.vector('parameters').length / 4;
  }

  /** The gradients that a batch leaves, from none. */
  gradient(sequences: Sequences, s: Partial<Step> = {}): Float32Array {
    this.putFloats('gradients', new Float32Array(this.count));
    const { message } = this.learn(sequences, { ...PLAIN, ...s });
    if (message !== '') throw new Error(message);
    return this.floats('gradients');
  }
}

/** A machine that trains a function from these parameters; its one batch is of one token and another that follows it. */
function functionBench(of: FunctionName, first: readonly number[], about: readonly number[] = []): EstimatingBench {
  const bench = new EstimatingBench();
  bench.loadTiny(1);
  Object.assign(bench.engine, { training: new PlainFunction(bench.machine.arena, of, first, about) });
  bench.begin(of === 'sphere' ? 'nes' : 'fmea');
  return bench;
}
const TARGET = 2;
const ONE = [[1, TARGET]];

/** The mean of the gradients of many batches, each of directions of its own. */
function meanOf(bench: EstimatingBench, sequences: Sequences, batches: number, s: Partial<Step>): Float64Array {
  const sum = new Float64Array(bench.count);
  for (let i = 0; i < batches; i++) {
    const g = bench.gradient(sequences, { ...s, directions: MANY, seedLow: 1000 + i });
    g.forEach((v, j) => (sum[j]! += v / batches));
  }
  return sum;
}

// ── On paper ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

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
    const loss = (): number => bench.floats('parameters').reduce((sum, v, i) => sum + (v - about[i]!) ** 2, 0);
    const before = loss();
    const steps = 150;
    for (let i = 0; i < steps; i++) {
      // Ranks forget how steep it is, so their steps become shorter.
      const rate = ranked === 1 ? 0.5 * 0.96 ** i : 0.12;
      bench.learn(ONE, { directions: 32, ranked, update: 1, rate, beta1: 0.5, sigma: 0.05, seedLow: i });
    }
    t.log(`${before.toFixed(3)} to ${loss().toExponential(2)} in ${steps} steps of 32 pairs`);
    t.true(loss() < 1e-3 * before);
  });

// ── On a transformer ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

const SEQUENCES = [[5, 270, 12, 281, 40, 33, 270]];

/** A machine that trains pairs of the tiny model's queries and values, 16 + 16 and 16 + 8 numbers, from its own parameters or from these. */
function tinyBench(method: TrainMethod, parameters: Float32Array | null = null): EstimatingBench {
  const bench = new EstimatingBench();
  bench.loadTiny(11);
  bench.begin(method);
  if (parameters !== null) bench.putFloats('parameters', parameters);
  return bench;
}

/** Parameters away from B = 0, and what reverse mode says of them. */
function reverse(): { parameters: Float32Array; gradient: Float32Array } {
  const next = random(13);
  const bench = tinyBench('lora');
  const parameters = Float32Array.from({ length: bench.count }, () => next() - 0.5);
  bench.putFloats('parameters', parameters);
  return { parameters, gradient: bench.gradient(SEQUENCES) };
}
const { parameters, gradient } = reverse();

test('methods begin with the same parameters: A drawn, B zero, so that A has no gradient and B has one', t => {
  const [lora, fmea, nes] = (['lora', 'fmea', 'nes'] as const).map(method => tinyBench(method)) as [
    EstimatingBench,
    EstimatingBench,
    EstimatingBench,
  ];
  const first = lora.floats('parameters');
  t.deepEqual(fmea.floats('parameters'), first);
  t.deepEqual(nes.floats('parameters'), first);
  const g = lora.gradient(SEQUENCES);
  t.deepEqual(
    [...first].map(v => v === 0),
    [...g].map(v => v !== 0),
  );
});

test('fmea: on a transformer every direction v gives (∇f · v) v, with reverse mode’s ∇f', t => {
  const bench = tinyBench('fmea', parameters);
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
  const bench = tinyBench('fmea', parameters);
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
  const bench = tinyBench('nes', parameters);
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
function estimated(draws: readonly Vector[]): { mean: number[]; variance: number[] } {
  const count = draws.length;
  const mean = Array.from(draws[0]!, (_, i) => draws.reduce((sum, d) => sum + d[i]!, 0) / count);
  const variance = mean.map((m, i) => draws.reduce((sum, d) => sum + (d[i]! - m) ** 2, 0) / (count * (count - 1)));
  return { mean, variance };
}

test('nes: where σ smooths, the mean over many pairs is the gradient of the smoothed loss, that over reverse mode’s at perturbed parameters', t => {
  const sigma = 0.4;
  const strategy = tinyBench('nes', parameters);
  const pairs = estimated(
    Array.from({ length: 60 }, (_, i) => strategy.gradient(SEQUENCES, { sigma, directions: MANY, seedLow: i })),
  );
  const exact = tinyBench('lora');
  const there = estimated(
    Array.from({ length: 800 }, (_, i) => {
      const epsilon = normals(parameters.length, i, 99);
      exact.putFloats(
        'parameters',
        parameters.map((v, j) => v + sigma * epsilon[j]!),
      );
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
  ['fmea', 'fmea', { directions: 16 }],
  ['nes', 'nes', { directions: 16, sigma: 0.05 }],
  ['nes by ranks', 'nes', { directions: 16, sigma: 0.05, ranked: 1 }],
] as const)
  test(`${name} lowers the loss of a transformer`, t => {
    const bench = tinyBench(by);
    const measured = (): number => bench.learn(SEQUENCES, { kind: TRAIN_BATCH.measure, update: 0 }).loss;
    const before = measured();
    for (let i = 0; i < 40; i++)
      bench.learn(SEQUENCES, { ...s, update: 1, rate: 0.5, beta1: 0.9, clip: 1, seedLow: i });
    t.true(measured() < 0.9 * before, `${before} to ${measured()}`);
    t.log(`${before.toFixed(3)} to ${measured().toFixed(3)}`);
  });
