// Sampling and randomness: the specification's worked figures, a plain f64 reference over random settings, χ² against exact probabilities,
// equal bits in both builds; xor128 against the seedrandom package; and the whole machine's draws, made again from the logits it shows.

import test from 'ava';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { boot } from '../boot/index.ts';
import { SAMPLER_MODE, SamplerRecord, StepBlock } from '../kernel/abi/index.ts';
import { lcg } from '../drivers/rng/lcg.ts';
import { xor128 } from '../drivers/rng/xor128.ts';
import { BUILDS, canRun, random, Rig, soak } from './harness.ts';

const SAMPLER_AT = 512;
const HISTORY_AT = 32 * 1024;
const LOGITS_AT = 64 * 1024;
const PAIRS_AT = 1024 * 1024;
const STATE_AT = 640;
const TWO32 = 2 ** 32;
const seedrandom = createRequire(import.meta.url)('seedrandom') as {
  xor128: (seed: number, options: { state: true }) => { int32: () => number };
};

interface Settings {
  readonly temp?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repeatPenalty?: number;
}

interface Sampling {
  readonly sample: (stepAt: number) => void;
  readonly score: (stepAt: number) => void;
}
const kernels = (rig: Rig): Sampling => rig.compute as unknown as Sampling;

/** The stages that settings ask for. */
function modesOf({ temp = 1, topK = 0, topP = 1, minP = 0, repeatPenalty = 1 }: Settings): number {
  return (
    (repeatPenalty !== 1 ? SAMPLER_MODE.penalty : 0) |
    (temp <= 0 || topK === 1 ? SAMPLER_MODE.greedy : 0) |
    (topP < 1 ? SAMPLER_MODE.topP : 0) |
    (minP > 0 ? SAMPLER_MODE.minP : 0)
  );
}

/** Copies logits in and runs the sampler once. */
function draw(rig: Rig, logits: Float32Array, s: Settings, u32: number, history: readonly number[] = []): number {
  rig.arena.f32.set(logits, LOGITS_AT >> 2);
  rig.arena.u32.set(history, HISTORY_AT >> 2);
  SamplerRecord.write(rig.arena.u8, SAMPLER_AT, {
    temp: 1,
    topP: 1,
    repeatPenalty: 1,
    ...s,
    modes: modesOf(s),
  });
  StepBlock.write(rig.arena.u8, rig.stepAt, {
    samplerAt: SAMPLER_AT,
    logitsAt: LOGITS_AT,
    vocabulary: logits.length,
    draw: u32,
    next: -1,
    historyAt: HISTORY_AT,
    historyLength: history.length,
  });
  kernels(rig).sample(rig.stepAt);
  return rig.get('next');
}

/** The distribution in f64, as [id, probability] in the order it is drawn from. */
function distribution(logits: ArrayLike<number>, s: Settings, history: readonly number[] = []): [number, number][] {
  const { temp = 1, topK = 0, topP = 1, minP = 0, repeatPenalty = 1 } = s;
  const x = Array.from(logits);
  for (const id of new Set(history))
    x[id] = Math.fround(x[id]! >= 0 ? x[id]! / Math.fround(repeatPenalty) : x[id]! * Math.fround(repeatPenalty));
  const top = Math.max(...x);
  if (temp <= 0 || topK === 1) return [[x.indexOf(top), 1]];
  let kept = x.map((v, id): [number, number] => [id, v]).sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  if (topK > 0) kept = kept.slice(0, topK);
  kept = kept.map(([id, v]) => [id, Math.exp((v - top) / Math.fround(temp))]);
  if (topP < 1) {
    const target = Math.fround(topP) * kept.reduce((sum, [, m]) => sum + m, 0);
    let sum = 0;
    const n = kept.findIndex(([, m]) => (sum += m) >= target);
    kept = kept.slice(0, n + 1);
  }
  kept = kept.filter(([, m]) => m >= Math.fround(minP));
  if (topP >= 1 && !(topK > 0 && topK < x.length)) kept.sort((a, b) => a[0] - b[0]);
  const total = kept.reduce((sum, [, m]) => sum + m, 0);
  return kept.map(([id, m]) => [id, m / total]);
}

/** The token at u, and whether rounding may make it its neighbour. */
function expected(d: readonly [number, number][], u: number): { id: number; close: boolean } {
  let sum = 0;
  for (const [id, p] of d) {
    if (u < sum + p) return { id, close: Math.min(u - sum, sum + p - u) < 1e-6 };
    sum += p;
  }
  return { id: d.at(-1)![0], close: true };
}

const near = (actual: number, wanted: number, tolerance: number): boolean => Math.abs(actual - wanted) <= tolerance;

// ── The specification's figures (§9) ─────────────────────────────────────────────────────────────────────────────────────────────

test('LCG: the worked draws', t => {
  const { arena } = new Rig();
  lcg.seed(arena, STATE_AT, 0);
  t.deepEqual(
    [1, 2, 3, 4].map(() => lcg.next(arena, STATE_AT)),
    [1013904223, 1196435762, 3519870697, 2868466484],
  );
  lcg.seed(arena, STATE_AT, 42);
  t.deepEqual(
    [1, 2, 3].map(() => lcg.next(arena, STATE_AT)),
    [1083814273, 378494188, 2479403867],
  );
});

/** The share of u in [0, 1) that gives each id, found by bisection on the draw. */
function shares(rig: Rig, logits: Float32Array, s: Settings): number[] {
  const d = distribution(logits, s).map(([id]) => id);
  const out = Array.from<number>({ length: logits.length }).fill(0);
  let begin = 0;
  d.forEach((id, i) => {
    let low = begin; // gives id
    let high = TWO32; // gives a later one
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (d.indexOf(draw(rig, logits, s, middle)) <= i) low = middle;
      else high = middle;
    }
    out[id] = (high - begin) / TWO32;
    begin = high;
  });
  return out;
}

for (const build of BUILDS.filter(canRun)) {
  test(`the worked probabilities and draws (${build})`, t => {
    const rig = new Rig(build);
    const logits = Float32Array.of(2, 1, 0, -1);
    const cases: [Settings, number[]][] = [
      [{}, [0.64391426, 0.23688282, 0.08714432, 0.0320586]],
      [{ temp: 0.8 }, [0.71833531, 0.20580651, 0.05896455, 0.01689363]],
      [{ temp: 0.8, topK: 3 }, [0.73067913, 0.20934308, 0.0599778, 0]],
      [{ temp: 0.8, topP: 0.9 }, [0.77729986, 0.22270014, 0, 0]],
      [{ minP: 0.135 }, [0.66524096, 0.24472847, 0.09003057, 0]],
    ];
    for (const [s, p] of cases)
      shares(rig, logits, s).forEach((share, id) =>
        t.true(near(share, p[id]!, 2e-7), `${JSON.stringify(s)} id ${id}: ${share}`),
      );
    lcg.seed(rig.arena, STATE_AT, 0);
    t.deepEqual(
      [1, 2, 3].map(() => draw(rig, logits, {}, lcg.next(rig.arena, STATE_AT))),
      [0, 0, 1],
    );
    const masses = Float32Array.of(Math.log(0.5), Math.log(0.3), Math.log(0.15), Math.log(0.05));
    t.deepEqual(
      shares(rig, masses, { topP: 0.79 }).map(p => Math.round(p * 1e6)),
      [625000, 375000, 0, 0],
    );
  });
}

test('greedy: temperature 0 and top-k 1 take the largest after the penalty, the lowest id on ties', t => {
  const rig = new Rig();
  t.is(draw(rig, Float32Array.of(1, 3, 3, 2), { temp: 0 }, 0xffffffff), 1);
  t.is(draw(rig, Float32Array.of(1, 3, 3, 2), { topK: 1 }, 0xffffffff), 1);
  t.is(draw(rig, Float32Array.of(1, 3, 3, 2), { temp: 0, repeatPenalty: 2 }, 0, [1]), 2);
  t.is(draw(rig, Float32Array.of(-1, -3, -1.5, -2), { temp: 0, repeatPenalty: 2 }, 0, [0]), 2);
});

test('ties: top-k keeps exactly k, the lower ids', t => {
  const rig = new Rig();
  const equal = new Float32Array(11).fill(1.5);
  t.deepEqual(
    [0, 0.3, 0.6, 0.99].map(u => draw(rig, equal, { topK: 3 }, u * TWO32)),
    [0, 0, 1, 2],
  );
  t.deepEqual(
    [0, 0.45, 0.999].map(u => draw(rig, equal, { topP: 0.5 }, u * TWO32)),
    [0, 2, 5],
  );
  t.deepEqual(
    [0, 0.45, 0.999].map(u => draw(rig, equal, {}, u * TWO32)),
    [0, 4, 10],
  );
});

// ── Random settings ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('random logits and settings: the reference, the same in both builds; history comes back whole', t => {
  const rigs = BUILDS.filter(canRun).map(build => new Rig(build));
  const next = random(7);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)]!;
  let close = 0;
  const cases = soak ? 20000 : 3000;
  for (let i = 0; i < cases; i++) {
    const n = pick([1, 2, 3, 4, 5, 7, 33, 512, 1021]);
    const spread = pick([0.1, 3, 30]);
    const coarse = next() < 0.3; // many ties
    const logits = Float32Array.from({ length: n }, () => {
      const x = (next() + next() + next() - 1.5) * spread;
      return coarse ? Math.round(x) : x;
    });
    const settings: Settings = {
      temp: pick([0, 0.3, 0.8, 1, 2]),
      topK: pick([0, 0, 1, 2, 3, 40, 128, 129, 500, 5000]),
      topP: pick([1, 1, 0.01, 0.5, 0.95]),
      minP: pick([0, 0, 0.05, 0.3]),
      repeatPenalty: pick([1, 1, 1.1, 1.7, 0.8]),
    };
    const history = Array.from({ length: pick([0, 1, 5, 60]) }, () => Math.floor(next() * n));
    const u32 = Math.floor(next() * TWO32);
    const got = rigs.map(rig => draw(rig, logits, settings, u32, history));
    t.is(new Set(got).size, 1);
    for (const rig of rigs)
      t.deepEqual(Array.from(rig.arena.u32.subarray(HISTORY_AT >> 2, (HISTORY_AT >> 2) + history.length)), history);
    const d = distribution(logits, settings, history);
    const want = expected(d, u32 / TWO32);
    if (got[0] !== want.id) {
      // Only where the cut of top-p or the draw falls within rounding of a boundary.
      const loose = [-1e-6, 1e-6].map(e =>
        expected(
          distribution(logits, { ...settings, ...(settings.topP! < 1 ? { topP: settings.topP! + e } : {}) }, history),
          u32 / TWO32,
        ),
      );
      t.true(
        want.close || loose.some(l => l.id === got[0] || l.close),
        `${JSON.stringify({ n, settings, u32 })}: ${got[0]}, not ${want.id}`,
      );
      close++;
    }
  }
  t.log(`${close} of ${cases} draws at a boundary`);
  t.true(close < cases / 200);
});

test('χ²: 10⁵ draws of xor128 follow the exact probabilities', t => {
  const rig = new Rig();
  const next = random(3);
  const logits = Float32Array.from({ length: 64 }, () => (next() + next() - 1) * 5);
  const draws = 100_000;
  for (const settings of [
    {},
    { temp: 0.8, topK: 40, topP: 0.95 },
    { temp: 1.5, topP: 0.9 },
    { topK: 10 },
    { minP: 0.05 },
  ] as Settings[]) {
    const counts = new Map<number, number>();
    xor128.seed(rig.arena, STATE_AT, 12345);
    for (let i = 0; i < draws; i++) {
      const id = draw(rig, logits, settings, xor128.next(rig.arena, STATE_AT));
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    const d = distribution(logits, settings);
    t.true(
      [...counts.keys()].every(id => d.some(([k]) => k === id)),
      'nothing outside the support',
    );
    // Classes of at least 5 expected draws; the rest are one class.
    let chi2 = 0;
    let classes = 0;
    let restExpected = 0;
    let restSeen = 0;
    for (const [id, p] of d) {
      const e = p * draws;
      const seen = counts.get(id) ?? 0;
      if (e < 5) {
        restExpected += e;
        restSeen += seen;
      } else {
        chi2 += (seen - e) ** 2 / e;
        classes++;
      }
    }
    if (restExpected > 1) {
      chi2 += (restSeen - restExpected) ** 2 / restExpected;
      classes++;
    }
    const freedom = classes - 1;
    // Wilson and Hilferty: z is about standard normal; 4 is one in 30,000.
    const z = (Math.cbrt(chi2 / freedom) - (1 - 2 / (9 * freedom))) / Math.sqrt(2 / (9 * freedom));
    t.log(`${JSON.stringify(settings)}: χ² ${chi2.toFixed(1)} at ${freedom} degrees of freedom, z ${z.toFixed(2)}`);
    t.true(z < 4);
  }
});

test('extremes: tiny temperatures, huge spreads, one token, draws at both ends', t => {
  const rig = new Rig();
  const logits = Float32Array.of(-1e30, 3e38, 0, -3e38, 2.9e38);
  for (const s of [
    {},
    { temp: 1e-38 },
    { topK: 2 },
    { topP: 0.5 },
    { topP: 0 },
    { minP: 1 },
    { minP: 7 },
  ] as Settings[]) {
    for (const u of [0, 1, 2 ** 31, TWO32 - 1]) t.is(draw(rig, logits, s, u), 1, JSON.stringify(s));
  }
  t.is(draw(rig, Float32Array.of(-5), { topK: 40, topP: 0.95 }, TWO32 - 1), 0);
  const flat = new Float32Array(50257).fill(0.25);
  t.is(draw(rig, flat, {}, TWO32 - 1), 50256);
  t.is(draw(rig, flat, { topP: 0.5 }, TWO32 - 1), 25128);
});

test('a penalty whose logits would be beyond f32 leaves them finite', t => {
  for (const rig of BUILDS.filter(canRun).map(build => new Rig(build))) {
    const low = Float32Array.of(-2e38, -3e38);
    for (const temp of [0, 1]) t.is(draw(rig, low, { temp, repeatPenalty: 1.1 }, 0, [1]), 0);
    t.is(draw(rig, Float32Array.of(-2e38), { repeatPenalty: 100 }, TWO32 - 1, [0]), 0);
    const both = { repeatPenalty: 100 };
    t.deepEqual(
      [draw(rig, low, both, 0, [0, 1]), draw(rig, low, both, TWO32 - 1, [0, 1])],
      [0, 1],
      'both at the least',
    );
    const high = Float32Array.of(1, 3e38);
    t.is(draw(rig, high, { repeatPenalty: 0.5 }, 0, [1]), 1);
  }
});

// ── Loss and top logits ──────────────────────────────────────────────────────────────────────────────────────────────────────────

test('score: −ln softmax in f64, the same bits in both builds', t => {
  const rigs = BUILDS.filter(canRun).map(build => new Rig(build));
  const next = random(11);
  for (let i = 0; i < 300; i++) {
    const n = 1 + Math.floor(next() * 3000);
    const spread = [1, 20, 2000][i % 3]!;
    const logits = Float32Array.from({ length: n }, () => (next() - 0.5) * spread);
    const target = Math.floor(next() * n);
    const losses = rigs.map(rig => {
      rig.arena.f32.set(logits, LOGITS_AT >> 2);
      StepBlock.write(rig.arena.u8, rig.stepAt, { logitsAt: LOGITS_AT, vocabulary: n, target });
      kernels(rig).score(rig.stepAt);
      return rig.step().loss;
    });
    t.is(new Set(losses).size, 1);
    const top = Math.max(...logits);
    const want = Math.log(logits.reduce((sum, x) => sum + Math.exp(x - top), 0)) - (logits[target]! - top);
    t.true(near(losses[0]!, want, 1e-12 * Math.max(1, want)), `${losses[0]} ${want}`);
  }
});

test('top_k: largest first, ties by lower id', t => {
  const rig = new Rig();
  const next = random(13);
  for (let i = 0; i < 200; i++) {
    const n = 1 + Math.floor(next() * 300);
    const k = 1 + Math.floor(next() * Math.min(n, 64));
    const logits = Float32Array.from({ length: n }, () => (i % 2 === 0 ? next() : Math.floor(next() * 5)));
    rig.arena.f32.set(logits, LOGITS_AT >> 2);
    rig.arena.u32.fill(0xdeadbeef, PAIRS_AT >> 2, (PAIRS_AT >> 2) + 2 * k + 2);
    rig.compute.top_k(LOGITS_AT, n, k, PAIRS_AT);
    const got = Array.from({ length: k }, (_, j) => [
      rig.arena.u32[(PAIRS_AT >> 2) + 2 * j]!,
      rig.arena.f32[(PAIRS_AT >> 2) + 2 * j + 1]!,
    ]);
    const want = Array.from(logits, (x, id) => [id, x]).sort((a, b) => b[1]! - a[1]! || a[0]! - b[0]!);
    t.deepEqual(got, want.slice(0, k));
    t.is(rig.arena.u32[(PAIRS_AT >> 2) + 2 * k], 0xdeadbeef);
  }
});

// ── Randomness ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('xor128: 10⁵ draws are the seedrandom package’s, and the state is all there is', t => {
  const { arena } = new Rig();
  for (const seed of [1, 3, -7, 42, 2 ** 31 - 1, -(2 ** 31)]) {
    const theirs = seedrandom.xor128(seed | 0, { state: true });
    xor128.seed(arena, STATE_AT, seed);
    let same = 0;
    for (let i = 0; i < 100_000; i++) {
      if (i === 500) arena.u8.copyWithin(STATE_AT + 64, STATE_AT, STATE_AT + 16);
      if (xor128.next(arena, i < 500 ? STATE_AT : STATE_AT + 64) === theirs.int32() >>> 0) same++;
    }
    t.is(same, 100_000);
  }
});

// ── On the machine ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Answer {
  readonly tokens: readonly number[];
  readonly steps: readonly {
    readonly token: number;
    readonly top: readonly (readonly [id: number, logit: number])[];
  }[];
}

/** Ids as llminfer must have drawn them: from its own logits, which reach beyond top-k, with the generator's draws. */
function redrawn({ steps }: Answer, s: Settings, next: () => number): { id: number; close: boolean }[] {
  return steps.map(({ top }) => {
    const logits = new Float32Array(1 + Math.max(...top.map(([id]) => id))).fill(-1e30);
    for (const [id, logit] of top) logits[id] = logit;
    return expected(distribution(logits, s), next() / TWO32);
  });
}

test('llminfer draws with xor128 or the LCG from the logits it shows', t => {
  const machine = boot({ image: readFileSync('build/boot.cpio') });
  const generators: Record<string, (seed: number) => () => number> = {
    xor128: seed => {
      const { int32 } = seedrandom.xor128(seed | 0, { state: true });
      return () => int32() >>> 0;
    },
    lcg: seed => {
      let state = seed >>> 0;
      return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0);
    },
  };
  let compared = 0;
  for (const [rng, seeded] of Object.entries(generators))
    for (const seed of [0, 1, 2, 7, 12345])
      for (const [options, settings] of [
        ['', { temp: 0.8, topK: 40, topP: 0.95 }],
        ['--temp 1.3 --top-k 12 --top-p 1 --min-p 0.05', { temp: 1.3, topK: 12, minP: 0.05 }],
      ] as const) {
        const line = `llminfer --json --logits 64 --max-tokens 30 --rng ${rng} --seed ${seed} ${options} 'Once upon a time'`;
        const { status, stdout, stderr } = machine.exec(line);
        t.is(status, 0, stderr);
        const answer = JSON.parse(stdout) as Answer;
        t.is(answer.steps.length, answer.tokens.length);
        for (const [i, want] of redrawn(answer, settings, seeded(seed)).entries()) {
          if (answer.tokens[i] !== want.id)
            t.true(want.close, `${line}: token ${i} is ${answer.tokens[i]}, not ${want.id}`);
          t.is(answer.steps[i]!.token, answer.tokens[i]!);
          compared++;
        }
      }
  t.true(compared > 400, `${compared} draws`);
});
