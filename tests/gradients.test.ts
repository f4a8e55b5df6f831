// Training plans of whole models against an f64 forward pass and its central differences: losses, gradients of every target and every tensor,
// derivatives along tangents, perturbed parameters; every architecture, bases of every kind of type. What memory a plan is given changes no bit:
// checkpoints, picks. The quantised path says what inference says.

import { existsSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { TransformerDriver } from '../drivers/engine/transformer/driver.ts';
import {
  GGML_TYPE,
  isRefusal,
  TRAIN_KEEP_ALL,
  TRAIN_TARGETS,
  type TrainChoice,
  type TrainTarget,
} from '../kernel/abi/index.ts';
import { accepted, BUILDS, canRun, random, Rig, shared, type LoadedModel, type RigOptions } from './harness.ts';
import { Forward, type ReferencePair } from './reference/forward.ts';
import { dequantize } from './reference/kernels.ts';
import {
  NAMES,
  randomConfig,
  randomModel,
  type ArchitectureName,
  type Config,
  type RandomModel,
  type Weight,
} from './reference/models.ts';
import { CHOICE, refusalOf, trainableOf, TrainRig } from './support/train-rig.ts';

const FABLE = shared('models/fable-q8_0.gguf');
const whenFable = existsSync(FABLE) ? test : test.skip;

// ── Models and their reference ───────────────────────────────────────────────────────────────────────────────────────────────────

/** A random configuration that f64 gets through often. */
function smallConfig(architecture: ArchitectureName, next: () => number): Config {
  for (;;) {
    const c = randomConfig(architecture, next);
    if (c.embedding <= 48 && c.heads * c.headSize <= 64 && c.feedForward <= 64 && c.vocabulary <= 64) return c;
  }
}
const inF32 = (c: Config): Config => ({ ...c, types: () => GGML_TYPE.F32, vectorType: GGML_TYPE.F32 });

const OPTIONS: RigOptions = { ctx: 24, kvType: GGML_TYPE.F32, batch: 8 };
function load(rig: Rig, file: Uint8Array | string, options = OPTIONS): LoadedModel {
  const tokenizer = typeof file === 'string' ? rig.tokenizer() : rig.bareTokenizer;
  const driver = new TransformerDriver({ arena: rig.arena, compute: rig.compute, tokenizer });
  return accepted(rig.load(driver, accepted(rig.image(file)), options));
}

const GATED: readonly ArchitectureName[] = ['llama', 'qwen2', 'qwen3', 'gemma'];
const targetsOf = (c: Config): TrainTarget[] =>
  TRAIN_TARGETS.filter(t => {
    if (t === 'qkv') return c.fusedQkv;
    if (t === 'q' || t === 'k' || t === 'v') return !c.fusedQkv;
    return t !== 'gate' || GATED.includes(c.architecture);
  });

const idsOf = (c: Config, n: number, next: () => number): number[] =>
  Array.from({ length: n }, () => Math.floor(next() * c.vocabulary));

/** Gives the vectors values of about ±`most`: no pair is zero. */
function shake({ parameters }: TrainRig, most: number, next: () => number): void {
  for (let i = 0; i < parameters.length; i++) parameters[i]! += 2 * most * (next() - 0.5);
}

/** The function that is trained, in f64, of parameters that can be changed. */
class Reference {
  /** By tensor of the parameter vector; what the function reads. */
  readonly values: readonly Float64Array[];
  private readonly pairs = new Map<string, ReferencePair>();

  constructor(
    private readonly model: RandomModel,
    { choice, program, parameters }: TrainRig,
    private readonly ids: readonly number[],
    private readonly from: number,
  ) {
    this.values = program.tensors.map(({ name, from: first, columns, rows }) => {
      const own = Float64Array.from(parameters.subarray(first, first + columns * rows));
      const weight = model.weights.get(name);
      weight?.values.set(own);
      return weight?.values ?? own;
    });
    const scale = choice.alpha / choice.rank;
    program.tensors.forEach(({ name }, i) => {
      const [a, b] = [this.values[i]!, this.values[i + 1]!];
      if (name.endsWith('.lora_a'))
        this.pairs.set(name.replace('.weight.lora_a', ''), { a, b, rank: choice.rank, scale });
    });
  }

  /** Σ −ln p of the tokens that follow. */
  loss(): number {
    const forward = new Forward(this.model, GGML_TYPE.F32, true, this.pairs);
    let loss = 0;
    for (let i = 0; i + 1 < this.ids.length; i++) {
      const logits = forward.next(this.ids[i]!);
      if (i < this.from) continue;
      const top = Math.max(...logits);
      loss += Math.log(logits.reduce((sum, x) => sum + Math.exp(x - top), 0)) + top - logits[this.ids[i + 1]!]!;
    }
    return loss;
  }

  /** Central difference along a direction, f(θ + h·d) − f(θ − h·d) over 2h. */
  along(direction: readonly (Float64Array | null)[]): number {
    const h = 1e-4;
    const kept = this.values.map(v => v.slice());
    const at = (step: number): number => {
      this.values.forEach((own, t) => own.forEach((_, i) => (own[i] = kept[t]![i]! + step * (direction[t]?.[i] ?? 0))));
      return this.loss();
    };
    const slope = (at(h) - at(-h)) / (2 * h);
    this.values.forEach((own, t) => own.set(kept[t]!));
    return slope;
  }
}

/**
 * The largest relative error among the tensors' gradients: at the largest of each, and along a random direction of ±1, there of the length of the whole.
 */
function worstOf(t: TrainRig, reference: Reference, next: () => number): { error: number; name: string } {
  let worst = { error: 0, name: '' };
  // Some are zero but for roundings: a key's bias, where positions are learned, adds the same to all scores of a row.
  const least = 1e-4 * Math.sqrt(t.gradients.reduce((sum, x) => sum + x * x, 0));
  t.program.tensors.forEach(({ name, from, columns, rows }, index) => {
    const gradient = t.gradients.subarray(from, from + columns * rows);
    const largest = gradient.reduce((best, x, i) => (Math.abs(x) > Math.abs(gradient[best]!) ? i : best), 0);
    const signs = Float64Array.from(gradient, () => (next() < 0.5 ? -1 : 1));
    const one = new Float64Array(gradient.length);
    one[largest] = 1;
    const length = Math.sqrt(gradient.reduce((sum, x) => sum + x * x, 0));
    for (const direction of [one, signs]) {
      const slope = reference.along(reference.values.map((_, i) => (i === index ? direction : null)));
      const own = gradient.reduce((sum, x, i) => sum + x * direction[i]!, 0);
      const size = direction === one ? Math.abs(slope) : length;
      const error = Math.abs(own - slope) / Math.max(size, least);
      if (!(error <= worst.error)) worst = { error, name };
    }
  });
  return worst;
}

/** Loss and gradients of one sequence. */
function holds(
  t: ExecutionContext,
  model: RandomModel,
  train: TrainRig,
  ids: readonly number[],
  next: () => number,
): void {
  const from = 1;
  train.set({ weight: 1 });
  const loss = train.learn(ids, from);
  const reference = new Reference(model, train, ids, from);
  const wanted = reference.loss();
  t.true(Math.abs(loss - wanted) < 1e-5 * wanted, `loss ${loss}, in f64 ${wanted}`);
  const { error, name } = worstOf(train, reference, next);
  t.log(`${model.config.architecture}, rank ${train.choice.rank}: relative error ${error.toExponential(1)} of ${name}`);
  t.true(error < 1e-3, `${name}: ${error}`);
  t.true(train.isSound);
}

const CHECKPOINTS = [TRAIN_KEEP_ALL, 1, 2] as const;

for (const architecture of NAMES) {
  test(`${architecture}: loss and gradients of low-rank pairs for every target are those of f64`, t => {
    const next = random(7 + NAMES.indexOf(architecture));
    CHECKPOINTS.forEach((checkpoint, i) => {
      const model = randomModel(smallConfig(architecture, next), next);
      const rig = new Rig();
      const choice = { targets: targetsOf(model.config), rank: 1 + 2 * i, ctx: 9, picks: 3, checkpoint };
      const train = new TrainRig(rig, load(rig, model.file), choice);
      shake(train, 0.1, next);
      holds(t, model, train, idsOf(model.config, 6, next), next);
    });
  });

  test(`${architecture}: full training has the gradients of f64 for every tensor`, t => {
    const next = random(70 + NAMES.indexOf(architecture));
    for (const checkpoint of [TRAIN_KEEP_ALL, 2]) {
      const model = randomModel(inF32(smallConfig(architecture, next)), next);
      const rig = new Rig();
      const train = new TrainRig(rig, load(rig, model.file), { method: 'full', ctx: 9, picks: 3, checkpoint });
      t.deepEqual(train.program.tensors.map(tensor => tensor.name).sort(), [...model.weights.keys()].sort());
      holds(t, model, train, idsOf(model.config, 6, next), next);
    }
  });

  test(`${architecture}: the slope along a tangent is that of f64, and gradient times tangent`, t => {
    const next = random(700 + NAMES.indexOf(architecture));
    for (let i = 0; i < 2; i++) {
      const model = randomModel(smallConfig(architecture, next), next);
      const rig = new Rig();
      const loaded = load(rig, model.file);
      const ids = idsOf(model.config, 6, next);
      const choice: Partial<TrainChoice> = { targets: targetsOf(model.config), rank: 3, ctx: 9, picks: 4 };
      const reverse = new TrainRig(rig, loaded, choice);
      shake(reverse, 0.1, next);
      const first = reverse.parameters.slice();
      reverse.set({ weight: 0.5 });
      const loss = reverse.learn(ids, 1);
      const gradients = reverse.gradients.slice();
      const dual = new TrainRig(rig, loaded, { ...choice, method: 'fmea' });
      dual.parameters.set(first);
      dual.set({ weight: 0.5, seedLow: 5, seedHigh: i, sigma: 1, coefficient: 3 });
      dual.run('perturb');
      t.is(dual.learn(ids, 1), loss);
      const tangent = dual.beside.slice();
      const { slope } = dual.block();
      const inner = gradients.reduce((sum, g, at) => sum + g * tangent[at]!, 0);
      const reference = new Reference(model, dual, ids, 1);
      const direction = dual.program.tensors.map(({ from }, at) =>
        Float64Array.from(reference.values[at]!, (_, j) => tangent[from + j]!),
      );
      const wanted = 0.5 * reference.along(direction);
      const size = Math.sqrt(gradients.reduce((sum, g) => sum + g * g, 0));
      t.true(Math.abs(slope - inner) < 1e-4 * size, `${slope} ${inner}`);
      t.true(Math.abs(slope - wanted) < 1e-4 * size, `${slope} ${wanted}`);
      dual.run('gather');
      t.deepEqual(
        dual.gradients,
        tangent.map(x => Math.fround(3 * x)),
      );
      t.true(dual.isSound);
    }
  });
}

test('the base may have any type: gradients are those of the function of its dequantised weights', t => {
  const next = random(11);
  const types = ['Q2_K', 'Q3_K', 'Q4_K', 'Q5_K', 'Q6_K', 'IQ4_XS', 'TQ1_0', 'TQ2_0', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q8_0', 'IQ4_NL', 'F16', 'BF16'] as const; // prettier-ignore
  let used = 0;
  const chosen = new Map<string, number>();
  const config: Config = {
    ...smallConfig('llama', next),
    layers: 2,
    heads: 4,
    headsKv: 2,
    headSize: 64,
    embedding: 256,
    feedForward: 256,
    vocabulary: 64,
    ropeDimensions: 64,
    tied: false,
    fusedQkv: false,
    types: name => {
      const type = chosen.get(name) ?? GGML_TYPE[types[used++ % types.length]!];
      chosen.set(name, type);
      return type;
    },
  };
  const random_ = randomModel(config, next);
  const rig = new Rig();
  const loaded = load(rig, random_.file);
  const weights = new Map<string, Weight>(random_.weights);
  for (const { name, fileType, fileAt } of loaded.engine.tensors()) {
    const w = weights.get(name)!;
    if (w.values.length > 0) continue;
    weights.set(name, { ...w, values: Float64Array.from(dequantize(fileType, random_.file, fileAt, w.k * w.rows)) });
  }
  const model = { ...random_, weights };
  const train = new TrainRig(rig, loaded, { targets: targetsOf(config), rank: 4, ctx: 5, picks: 2 });
  shake(train, 0.1, next);
  holds(t, model, train, idsOf(config, 4, next), next);
  t.true(used >= types.length);
});

// ── The same bits ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Loss and gradients as bytes, with other choices of memory. */
function bitsOf(rig: Rig, loaded: LoadedModel, choice: Partial<TrainChoice>, ids: readonly number[]): string {
  const train = new TrainRig(rig, loaded, choice);
  if (choice.method !== 'full') shake(train, 0.1, random(5));
  train.set({ weight: 1 / 3 });
  const losses = [train.learn(ids, 2), train.learn(ids.toReversed())];
  const { gradients } = train;
  return [...losses, Buffer.from(gradients.buffer, gradients.byteOffset, gradients.byteLength).toString('hex')].join();
}

for (const build of BUILDS)
  (canRun(build) ? test : test.skip)(`${build}: checkpoints and picks change no bit of losses and gradients`, t => {
    const rig = new Rig(build);
    const next = random(19);
    for (const architecture of ['qwen3', 'phi2', 'gpt2'] as const)
      for (const method of ['lora', 'full'] as const) {
        const config = { ...smallConfig(architecture, next), layers: 5 };
        const model = randomModel(method === 'full' ? inF32(config) : config, next);
        const loaded = load(rig, model.file);
        const ids = idsOf(config, 20, next);
        const choice = { method, targets: targetsOf(config), rank: 3, ctx: 20 };
        const wanted = bitsOf(rig, loaded, { ...choice, checkpoint: TRAIN_KEEP_ALL, picks: 20 }, ids);
        for (const checkpoint of [1, 2, 3, 4, 5, 9])
          t.is(
            bitsOf(rig, loaded, { ...choice, checkpoint, picks: 20 }, ids),
            wanted,
            `${method}, checkpoint ${checkpoint}`,
          );
        for (const picks of [1, 2, 3, 7, 19])
          t.is(bitsOf(rig, loaded, { ...choice, checkpoint: 1, picks }, ids), wanted, `${method}, picks ${picks}`);
      }
  });

test('gradients of sequences add up; a vector is zero where it says so', t => {
  const next = random(23);
  const model = randomModel(smallConfig('llama', next), next);
  const rig = new Rig();
  const train = new TrainRig(rig, load(rig, model.file), { targets: targetsOf(model.config), ctx: 12 });
  shake(train, 0.1, next);
  train.set({ weight: 1 });
  const sequences = [5, 12, 2].map(n => idsOf(model.config, n, next));
  const single = sequences.map(ids => {
    train.run('zero');
    t.true(train.gradients.every(x => x === 0));
    train.learn(ids);
    return train.gradients.slice();
  });
  train.run('zero');
  for (const ids of sequences) train.learn(ids);
  const most = Math.max(...train.gradients.map(Math.abs));
  train.gradients.forEach((g, i) => {
    const sum = single.reduce((total, one) => total + one[i]!, 0);
    if (Math.abs(g - sum) > 1e-5 * most) t.fail(`${i}: ${g} ${sum}`);
  });
  train.set({ squares: 0 });
  train.run('measure');
  const squares = train.gradients.reduce((sum, g) => sum + g * g, 0);
  t.true(Math.abs(train.block().squares - squares) < 1e-6 * squares);
});

// ── Other methods ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('nes: forward passes read perturbed parameters, and with sigma 0 the parameters themselves', t => {
  const next = random(29);
  const model = randomModel(smallConfig('qwen2', next), next);
  const rig = new Rig();
  const loaded = load(rig, model.file);
  const ids = idsOf(model.config, 8, next);
  const targets = targetsOf(model.config);
  const lora = new TrainRig(rig, loaded, { targets });
  shake(lora, 0.1, next);
  const first = lora.parameters.slice();
  const at = lora.score(ids);
  const nes = new TrainRig(rig, loaded, { targets, method: 'nes' });
  nes.parameters.set(first);
  nes.set({ sigma: 0 });
  nes.run('perturb');
  t.is(nes.score(ids), at);
  t.is(nes.learn(ids), at);
  for (const sigma of [0.05, -0.05]) {
    nes.set({ sigma, seedLow: 3, seedHigh: 4 });
    nes.run('perturb');
    const loss = nes.learn(ids);
    nes.set({ coefficient: sigma });
    nes.run('zero');
    nes.run('gather');
    nes.gradients.forEach((normal, i) => t.true(Math.abs(first[i]! + normal - nes.beside[i]!) < 1e-6));
    const wanted = new Reference(model, nes, ids, 0);
    nes.program.tensors.forEach(({ from }, i) =>
      wanted.values[i]!.forEach((_, j, own) => (own[j] = nes.beside[from + j]!)),
    );
    t.true(Math.abs(loss - wanted.loss()) < 1e-5 * loss);
    t.not(loss, at);
  }
  t.deepEqual(nes.parameters, first);
  t.true(nes.isSound);
});

// ── The path that inference takes ────────────────────────────────────────────────────────────────────────────────────────────────

/** −ln p of each token that follows, summed, as inference scores it. */
function inferenceLoss(rig: Rig, { engine }: LoadedModel, ids: readonly number[]): number {
  let loss = 0;
  for (let i = 0; i + 1 < ids.length; i++) {
    rig.body(engine, i, [ids[i]!]);
    rig.head(engine, 0);
    rig.set('logitsAt', engine.logitsAt);
    rig.set('target', ids[i + 1]!);
    rig.run(engine.scoreAt);
    loss += rig.step().loss;
  }
  return loss;
}

test('the quantised passes say what inference says', t => {
  const next = random(31);
  for (const architecture of NAMES)
    for (let i = 0; i < 3; i++) {
      const model = randomModel(smallConfig(architecture, next), next);
      const rig = new Rig();
      const loaded = load(rig, model.file);
      const ids = idsOf(model.config, 9, next);
      const wanted = inferenceLoss(rig, loaded, ids);
      const train = new TrainRig(rig, loaded, { targets: targetsOf(model.config), ctx: 10, picks: 4 });
      const loss = train.score(ids, 0, true);
      t.log(architecture, loss, wanted, loss - wanted);
      t.true(Math.abs(loss - wanted) < 1e-6 * wanted, `${architecture}: ${loss} ${wanted}`);
    }
});
