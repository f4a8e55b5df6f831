// Training plans of whole models against an f64 forward pass and its central differences: losses, gradients of every target and every tensor,
// derivatives along tangents, perturbed parameters; every architecture, bases of every kind of type. What memory a plan is given changes no bit:
// checkpoints, picks. The quantised path says what inference says.

import { existsSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { TransformerDriver } from '../drivers/engine/transformer/driver.ts';
import { Op, OP_BYTES } from '../drivers/engine/ops.ts';
import {
  ENCODE,
  GGML_TYPE,
  isRefusal,
  TRAIN_KEEP_ALL,
  TRAIN_METHODS,
  TRAIN_SEGMENTS,
  TRAIN_TARGETS,
  type TrainChoice,
  type TrainTarget,
} from '../kernel/abi/index.ts';
import {
  accepted,
  BUILDS,
  canRun,
  MODEL_AT,
  random,
  Rig,
  shared,
  type LoadedModel,
  type RigOptions,
} from './harness.ts';
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

test('a long sequence goes through attention in several records', t => {
  const next = random(53);
  const config = {
    ...inF32(smallConfig('llama', next)),
    layers: 1,
    heads: 4,
    headsKv: 2,
    headSize: 16,
    ropeDimensions: 16,
    embedding: 32,
    feedForward: 32,
    tied: true,
    fusedQkv: false,
  };
  const { ropeFactors: _, ...plain } = config as Config;
  const model = randomModel(plain, next);
  for (const method of ['lora', 'fmea'] as const) {
    const rig = new Rig();
    const train = new TrainRig(rig, load(rig, model.file), { method, ctx: 270, picks: 32, targets: targetsOf(plain) });
    const rows = accepted(train.plan()).rows.filter(row => row.op.startsWith('CAUSAL'));
    t.is(rows.filter(row => row.segment === 'forward' && row.op === 'CAUSAL_ATTENTION').length, 3);
    t.is(
      rows.filter(row => row.op === (method === 'lora' ? 'CAUSAL_ATTENTION_BACK' : 'CAUSAL_ATTENTION_JVP')).length,
      3,
    );
    shake(train, 0.1, next);
    const ids = idsOf(plain, 260, next);
    if (method === 'lora') {
      holds(t, model, train, ids, next);
      continue;
    }
    train.set({ weight: 1, sigma: 1, seedLow: 9 });
    train.run('perturb');
    train.learn(ids);
    const reference = new Reference(model, train, ids, 0);
    const direction = train.program.tensors.map(({ from }, at) =>
      Float64Array.from(reference.values[at]!, (_value, j) => train.beside[from + j]!),
    );
    const [slope, wanted] = [train.block().slope, reference.along(direction)];
    t.true(Math.abs(slope - wanted) < 1e-4 * Math.abs(wanted), `${slope} ${wanted}`);
  }
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

// ── A plan ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('what cannot be trained is refused in a line that says what can', t => {
  const next = random(37);
  const refused = (config: Config, choice: Partial<TrainChoice>, options: Partial<RigOptions> = {}): string => {
    const rig = new Rig();
    const { engine } = load(rig, randomModel(config, next).file, { ...OPTIONS, ...options });
    if (isRefusal(engine.training)) return engine.training.message;
    const whole = { ...CHOICE, ...choice };
    const said = refusalOf(engine.training.budget(whole));
    t.is(refusalOf(engine.training.load(whole, { at: 0, blockAt: 0, targetsAt: 0 })), said);
    t.is(refusalOf(engine.training.plan(whole, { at: 0, blockAt: 0, targetsAt: 0 })), said);
    return said;
  };
  const fused = smallConfig('gpt2', next);
  t.is(
    refused(fused, {}),
    'target q: this model keeps queries, keys and values in one matrix; it has o, up, down, qkv',
  );
  t.is(refused(fused, { targets: ['gate'] }), 'target gate: this model has none; it has o, up, down, qkv');
  t.is(refused(fused, { targets: [] }), 'no target to train; the model has o, up, down, qkv');
  const separate = { ...smallConfig('llama', next), fusedQkv: false };
  t.is(
    refused(separate, { targets: ['qkv'] }),
    'target qkv: this model keeps queries, keys and values apart; it has q, k, v, o, gate, up, down',
  );
  for (const rank of [0, 257, 1.5]) t.is(refused(separate, { rank }), `rank ${rank} is outside 1…256`);
  t.is(refused(fused, { targets: ['qkv'], ctx: 33 }), `context 33: the model has ${fused.context} learned positions`);
  const half = { ...separate, types: () => GGML_TYPE.F16 };
  t.regex(refused(half, { method: 'full' }), /^full training is of F32 models: token_embd.weight is F16; /);
  const mixed = { ...separate, types: (name: string) => GGML_TYPE[name === 'blk.0.ffn_up.weight' ? 'Q8_0' : 'F32'] };
  t.regex(
    refused({ ...mixed, embedding: 32, heads: 2, headsKv: 1, headSize: 16, ropeDimensions: 16 }, { method: 'full' }),
    /blk.0.ffn_up.weight is Q8_0/,
  );
  t.regex(refused(separate, {}, { tileBytes: 1 << 16, buffers: 2 }), /^weights that stream cannot be trained: /);
});

test('the listing has a row for each record, and names what it works on', t => {
  const next = random(41);
  for (const method of TRAIN_METHODS) {
    const model = randomModel(inF32({ ...smallConfig('qwen3', next), fusedQkv: false }), next);
    const rig = new Rig();
    const train = new TrainRig(rig, load(rig, model.file), { method });
    const { words, planAt, rows, segments } = accepted(train.plan());
    t.deepEqual(segments, train.program.segments);
    const loaded = rig.arena.i32.slice(planAt >> 2, (planAt >> 2) + words.length);
    t.deepEqual(loaded, words);
    for (const name of TRAIN_SEGMENTS) {
      const own = rows.filter(row => row.segment === name);
      if (segments[name] === 0) t.is(own.length, 0, name);
      own.forEach(({ op }, i) =>
        t.is(words[(segments[name] + i * OP_BYTES - planAt) >> 2], Op[op as keyof typeof Op], `${name} ${i}`),
      );
    }
    t.true(rows.every(({ op, name }) => name !== '' || op === 'END'));
    t.true(rows.some(row => row.op === 'ADAM' && row.segment === 'update'));
  }
});

test('no record of a product multiplies and adds more than four million times', t => {
  const rig = new Rig();
  const next = random(43);
  const config = {
    ...inF32({ ...smallConfig('llama', next), fusedQkv: false }),
    embedding: 48,
    feedForward: 1024,
    vocabulary: 4096,
    layers: 1,
  };
  const ctx = 96;
  const choice = { targets: targetsOf(config), ctx, picks: 8, rank: 8 };
  const train = new TrainRig(rig, load(rig, randomModel(config, next).file), choice);
  const { rows, words } = accepted(train.plan());
  const seen = new Set<string>();
  rows.forEach(({ op, operands, segment, name }, index) => {
    if (!op.startsWith('FLOAT_MUL_MAT') && op !== 'OUTER') return;
    const word = (operand: string): number =>
      words[(index * OP_BYTES) / 4 + operands.find(o => o.name === operand)!.word]!;
    const tokens = segment === 'loss' || segment === 'score' ? 32 : ctx;
    t.true(word('rows') * word('k') * tokens <= 2 ** 22, `${segment} ${op} ${name}`);
    const key = `${segment} ${op} ${name}`;
    if (seen.has(key)) seen.add(`${key} again`);
    seen.add(key);
  });
  t.true(seen.has('forward FLOAT_MUL_MAT blk.0.ffn_up.weight again')); // 1024 × 48 × 96 in two
  t.true(
    seen.has('loss FLOAT_MUL_MAT_BACK token_embd.weight again') ||
      seen.has('loss FLOAT_MUL_MAT_BACK output.weight again'),
  );
});

function encode(rig: Rig, { engine, place, budget }: LoadedModel, text: string): number[] {
  const v = engine.vocabulary;
  const bytes = new TextEncoder().encode(text);
  v.begin(ENCODE.bos, place.scratchAt, budget.scratch);
  rig.arena.u8.set(bytes, v.inputAt());
  v.input(bytes.length, true);
  const ids: number[] = [];
  for (let n = v.encode(rig.dmaAt, 7); n > 0; n = v.encode(rig.dmaAt, 7))
    ids.push(...rig.arena.u32.subarray(rig.dmaAt >> 2, (rig.dmaAt >> 2) + n));
  return ids;
}

whenFable('a batch of a real model is learnt by steps of Adam, the same in either build', t => {
  const text = 'Once upon a time there was a small dragon who was afraid of the dark.';
  const ends = BUILDS.filter(canRun).map(build => {
    const rig = new Rig(build);
    const loaded = load(rig, FABLE, { ctx: 64, kvType: GGML_TYPE.F16, batch: 8 });
    const ids = encode(rig, loaded, text);
    const train = new TrainRig(rig, loaded, {
      targets: ['q', 'v', 'down'],
      rank: 4,
      alpha: 16,
      ctx: 40,
      picks: 16,
      checkpoint: 2,
    });
    const before = Buffer.from(rig.arena.u8.subarray(MODEL_AT, loaded.endAt));
    const first = train.score(ids, 0, true);
    const losses: number[] = [];
    train.set({ weight: 1 / (ids.length - 1), times: 1, rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 });
    for (let step = 1; step <= 12; step++) {
      losses.push(train.learn(ids) / (ids.length - 1));
      train.set({ correction1: 1 - 0.9 ** step, correction2: 1 - 0.999 ** step });
      train.run('update');
      train.run('zero');
    }
    t.log(build, losses.map(x => x.toFixed(3)).join(' '));
    t.true(losses.at(-1)! < losses[0]! / 2, losses.join());
    t.true(losses.every((x, i) => i === 0 || x < losses[i - 1]!));
    const last = train.score(ids, 0, true);
    t.true(last < first / 2);
    t.true(Math.abs(first / (ids.length - 1) - losses[0]!) < 0.02); // int8 activations are near the float function
    t.true(train.isSound);
    t.is(Buffer.compare(before, rig.arena.u8.subarray(MODEL_AT, loaded.endAt)), 0); // of inference nothing has changed
    const { parameters } = train;
    return Buffer.from(parameters.buffer, parameters.byteOffset, parameters.byteLength).toString('hex');
  });
  t.is(new Set(ends).size, 1);
});

test('first values are those of the specification', t => {
  const next = random(47);
  const rig = new Rig();
  const config = { ...smallConfig('llama', next), fusedQkv: false, layers: 2 };
  const train = new TrainRig(rig, load(rig, randomModel(config, next).file), { seed: 42, anchored: true });
  const { tensors } = train.program;
  t.deepEqual(tensors.map(x => x.name), [0, 1].flatMap(l => ['q', 'v'].flatMap(m => ['a', 'b'].map(f => `blk.${l}.attn_${m}.weight.lora_${f}`)))); // prettier-ignore
  t.deepEqual(Array.from(train.parameters.slice(0, 4), x => x.toFixed(8)), ['0.00082306', '0.00019806', '-0.00034027', '0.00277008']); // prettier-ignore
  let s = 42;
  let end = 0;
  for (const { name, from, columns, rows } of tensors) {
    t.is(from, end);
    end += columns * rows;
    for (let i = 0; i < columns * rows; i++) {
      if (name.endsWith('b')) {
        t.is(train.parameters[from + i], 0);
        continue;
      }
      s = Number((BigInt(s) * 1103515245n + 12345n) % 2n ** 32n);
      t.is(train.parameters[from + i], Math.fround(((Math.floor(s / 65536) % 32768) / 32768 - 0.5) * 0.01));
    }
  }
  t.is(end, train.program.parameters);
  t.deepEqual(accepted(trainableOf(train.loaded).count(train.choice)), { matrices: 4, parameters: end });
  t.deepEqual(train.vector(train.program.anchorAt), train.parameters);
  for (const at of [train.program.gradientsAt, train.program.firstAt, train.program.secondAt])
    t.true(train.vector(at).every(x => x === 0));
});
