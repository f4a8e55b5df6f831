// Training plans of whole models against an f64 forward pass: loss and gradients, every target and every tensor, every architecture, bases of
// several types.

import test from 'ava';
import { TransformerDriver } from '../drivers/engine/transformer/driver.ts';
import { GGML_TYPE, TRAIN_KEEP_ALL, TRAIN_TARGETS, type TrainChoice, type TrainTarget } from '../kernel/abi/index.ts';
import { accepted, random, Rig, type LoadedModel } from './harness.ts';
import { Forward, type ReferencePair } from './reference/forward.ts';
import {
  NAMES,
  randomConfig,
  randomModel,
  type ArchitectureName,
  type Config,
  type RandomModel,
} from './reference/models.ts';
import { trainableOf, TrainRig } from './support/train-rig.ts';

/** A random configuration that f64 gets through often. */
function smallConfig(architecture: ArchitectureName, next: () => number): Config {
  for (;;) {
    const c = randomConfig(architecture, next);
    if (c.embedding <= 48 && c.heads * c.headSize <= 64 && c.feedForward <= 64 && c.vocabulary <= 64) return c;
  }
}

function load(rig: Rig, { file }: RandomModel): LoadedModel {
  const driver = new TransformerDriver({ arena: rig.arena, compute: rig.compute, tokenizer: rig.bareTokenizer });
  const image = accepted(rig.image(file));
  return accepted(rig.load(driver, image, { ctx: 24, kvType: GGML_TYPE.F32, batch: 8 }));
}

const targetsOf = (c: Config): TrainTarget[] =>
  TRAIN_TARGETS.filter(t => {
    if (t === 'qkv') return c.fusedQkv;
    if (t === 'q' || t === 'k' || t === 'v') return !c.fusedQkv;
    return t !== 'gate' || ['llama', 'qwen2', 'qwen3', 'gemma'].includes(c.architecture);
  });

/** Σ −ln p of the tokens that follow, from a position on, in f64. */
function lossOf(
  model: RandomModel,
  ids: readonly number[],
  from: number,
  pairs: ReadonlyMap<string, ReferencePair>,
): number {
  const forward = new Forward(model, GGML_TYPE.F32, true, pairs);
  let loss = 0;
  for (let i = 0; i + 1 < ids.length; i++) {
    const logits = forward.next(ids[i]!);
    if (i < from) continue;
    const top = Math.max(...logits);
    const sum = logits.reduce((s, x) => s + Math.exp(x - top), 0);
    loss += Math.log(sum) + top - logits[ids[i + 1]!]!;
  }
  return loss;
}

/** The parameter vector as the reference has it: f64 values that can be changed, by tensor. */
function referenceOf(t: TrainRig, model: RandomModel): { pairs: Map<string, ReferencePair>; values: Float64Array[] } {
  const { choice, program, parameters } = t;
  const pairs = new Map<string, ReferencePair>();
  const values = program.tensors.map(({ name, from, columns, rows }) => {
    const own = Float64Array.from(parameters.subarray(from, from + columns * rows));
    const weight = model.weights.get(name);
    if (weight !== undefined) weight.values.set(own);
    return weight?.values ?? own;
  });
  program.tensors.forEach(({ name }, i) => {
    if (!name.endsWith('.lora_a')) return;
    const scale = choice.alpha / choice.rank;
    pairs.set(name.replace('.weight.lora_a', ''), { a: values[i]!, b: values[i + 1]!, rank: choice.rank, scale });
  });
  return { pairs, values };
}

const H = 1e-4;
/** The largest relative error of a tensor's gradient at some of its values: of the difference's length to that of the reference's. */
function worstError(
  t: TrainRig,
  model: RandomModel,
  ids: readonly number[],
  from: number,
  next: () => number,
): [number, string] {
  const { pairs, values } = referenceOf(t, model);
  let worst: [number, string] = [0, ''];
  t.program.tensors.forEach((tensor, i) => {
    const own = values[i]!;
    let [difference, length] = [0, 0];
    for (let probe = 0; probe < 6; probe++) {
      const at = Math.floor(next() * own.length);
      const kept = own[at]!;
      own[at] = kept + H;
      const more = lossOf(model, ids, from, pairs);
      own[at] = kept - H;
      const less = lossOf(model, ids, from, pairs);
      own[at] = kept;
      const slope = (more - less) / (2 * H);
      difference += (slope - t.gradients[tensor.from + at]!) ** 2;
      length += slope ** 2;
    }
    const error = Math.sqrt(difference) / Math.max(Math.sqrt(length), 1e-6);
    if (error > worst[0]) worst = [error, tensor.name];
  });
  return worst;
}

function idsOf(c: Config, n: number, next: () => number): number[] {
  return Array.from({ length: n }, () => Math.floor(next() * c.vocabulary));
}

for (const architecture of NAMES)
  test(`${architecture}: loss and gradients of low-rank pairs for every target are those of f64`, t => {
    const next = random(7 + NAMES.indexOf(architecture));
    for (let i = 0; i < 3; i++) {
      const config = smallConfig(architecture, next);
      const model = randomModel(config, next);
      const rig = new Rig();
      const loaded = load(rig, model);
      const choice: Partial<TrainChoice> = {
        targets: targetsOf(config),
        rank: 1 + i,
        ctx: 9,
        picks: 3,
        checkpoint: [TRAIN_KEEP_ALL, 1, 2][i]!,
      };
      const train = new TrainRig(rig, loaded, choice);
      for (let p = 0; p < train.parameters.length; p++) train.parameters[p] = 0.2 * (next() - 0.5);
      const ids = idsOf(config, 7, next);
      train.set({ weight: 1 });
      const loss = train.learn(ids, 1);
      const { pairs } = referenceOf(train, model);
      const wanted = lossOf(model, ids, 1, pairs);
      t.true(Math.abs(loss - wanted) < 1e-4 * wanted, `${loss} ${wanted}`);
      const [error, name] = worstError(train, model, ids, 1, next);
      t.log(architecture, JSON.stringify(choice), loss, wanted, error, name);
      t.true(error < 1e-3, `${name}: ${error}`);
      t.true(train.isSound);
    }
    void trainableOf;
  });
