// Agreement with llama.cpp: every logits file of the shared vectors whose model this build computes and whose tensors fit the arena, and
// small random models made here, for which tests/fixtures/llama holds its answers.
// Tolerances and the rule for greedy tokens are CONTRACT's. Models of other types must be refused by name.
//
// Where activations are rounded (F16, BF16, int8), two programs that add floats in different orders agree to 1e-7 until one activation
// lies so near a tie that it falls the other way. That step spreads: later layers round other values, later positions read other keys. The
// distance then is a share of the rounding's own noise. So each file must stay within a few times CONTRACT's tolerance, and the share of
// positions within it is pinned; F32, where nothing is rounded, has no such excuse. Greedy tokens keep CONTRACT's rule everywhere.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { ENCODE, GGML_TYPE, isRefusal, ggmlTypeName } from '../kernel/abi/index.ts';
import type { Vocabulary } from '../kernel/abi/index.ts';
import { TransformerDriver } from '../drivers/engine/transformer/driver.ts';
import { accepted, argmax, canRun, haveShared, Rig, shared } from './harness.ts';
import { llamaModel, RECIPES } from './reference/llama-models.ts';

interface Run {
  readonly prompt: string;
  readonly tokens: readonly number[];
  readonly top: readonly (readonly (readonly [id: number, logit: number])[])[];
  readonly greedy: readonly number[];
}
interface Vectors {
  readonly model: string;
  readonly n_vocab: number;
  readonly kv: 'f32' | 'f16';
  readonly runs: readonly Run[];
}

const COMPUTED = ['F32', 'F16', 'BF16', 'Q4_0', 'Q4_1', 'Q8_0'];
const AFTER_FLIP = 5; // × tolerance

/** Percent of positions within CONTRACT's tolerance, as measured: agreement may grow, never shrink. Files not named: all of them. */
const SHARE_LEAST: Readonly<Record<string, number>> = {
  'fable-q4_0.kvf32.json': 99,
  'fable-q8_0.kvf32.json': 87,
  'stories260K-q4_0.kvf32.json': 95,
  'stories260K-q4_1.kvf32.json': 78,
  'stories260K-q8_0.kvf32.json': 98,
  'synth8M-q4_0.kvf32.json': 92,
  'synth8M-q8_0.kvf32.json': 33,
  'synthKQ-bf16.kvf32.json': 17,
  'synthKQ-f16.kvf32.json': 98,
  'synthKQ-q4_1.kvf32.json': 53,
  'synthKQ-q8_0.kvf32.json': 89,
};

/** The relative error CONTRACT allows for weights of these types. */
function tolerance(types: ReadonlySet<string>, kv: 'f32' | 'f16'): number {
  const matrices = [...types].filter(type => type !== 'F32');
  const weights = matrices.some(type => type.startsWith('Q')) ? 5e-3 : matrices.length > 0 ? 1e-3 : 1e-4;
  return weights + (kv === 'f16' ? 5e-3 : 0);
}

function encode(rig: Rig, v: Vocabulary, text: string, workAt: number, workBytes: number): number[] {
  const bytes = new TextEncoder().encode(text);
  const outAt = rig.dmaAt;
  v.begin(v.addBos ? ENCODE.bos : 0, workAt, workBytes);
  rig.arena.u8.set(bytes, v.inputAt());
  v.input(bytes.length, true);
  const ids: number[] = [];
  for (let n = v.encode(outAt, 512); n !== 0; n = v.encode(outAt, 512)) {
    if (n < 0) throw new Error(v.refusal()?.message);
    ids.push(...rig.arena.u32.subarray(outAt >> 2, (outAt >> 2) + n));
  }
  return ids;
}

/** Prompt tokens, logits and greedy tokens of every run; `least`: percent of positions that must be within the tolerance. */
function compare(
  t: ExecutionContext,
  rig: Rig,
  file: string | Uint8Array,
  v: Vectors,
  least: number,
  full: string,
): void {
  const driver = new TransformerDriver({ ...rig, tokenizer: rig.tokenizer() });
  const image = accepted(rig.image(file));
  const types = new Set(image.tensors.map(i => ggmlTypeName(i.type) ?? String(i.type)));
  const strange = image.tensors.find(i => !COMPUTED.includes(ggmlTypeName(i.type) ?? ''));
  if (strange !== undefined) {
    const refusal = driver.describe(image);
    if (!isRefusal(refusal)) return t.fail(`${v.model} has ${ggmlTypeName(strange.type)} and was accepted`);
    t.true(refusal.message.includes(`type ${ggmlTypeName(strange.type)}`), refusal.message);
    return t.log(`refused: ${refusal.message}`);
  }
  const ctx = Math.max(...v.runs.map(r => r.tokens.length + r.greedy.length));
  const kvType = v.kv === 'f32' ? GGML_TYPE.F32 : GGML_TYPE.F16;
  let loaded = rig.load(driver, image, { ctx, kvType, batch: 8 });
  if (isRefusal(loaded) && loaded.code === 1003) loaded = rig.load(driver, image, { ctx, kvType, batch: 1 });
  if (isRefusal(loaded) && loaded.code === 1003) {
    t.true(image.tensors.reduce((sum, i) => sum + i.bytes, 0) > 6.2e6, `refused though small: ${loaded.message}`);
    return t.log(`does not fit: ${loaded.message}`);
  }
  const { engine, place, budget } = accepted(loaded);
  t.is(engine.vocabulary.count, v.n_vocab);
  const allowed = tolerance(types, v.kv);
  const limit = types.size === 1 && v.kv === 'f32' ? allowed : AFTER_FLIP * allowed;
  const margin = 2 * allowed;
  const errors: number[] = [];
  let compared = 0;
  for (const [index, run] of v.runs.entries()) {
    t.deepEqual(
      encode(rig, engine.vocabulary, run.prompt, place.scratchAt, budget.scratch),
      [...run.tokens],
      `tokens of ${run.prompt}`,
    );
    const fullFile = `${full}.run${index}.logits.f32`;
    const everything = existsSync(fullFile) ? new Float32Array(new Uint8Array(readFileSync(fullFile)).buffer) : null;
    const rows = rig.logits(engine, [...run.tokens, ...run.greedy.slice(0, -1)], engine.options.batch);
    t.is(rows.length, run.top.length);
    let tieBroken = false;
    for (const [i, row] of rows.entries()) {
      const top = run.top[i]!;
      const scale = row.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
      let error = 0;
      for (const [id, logit] of top) error = Math.max(error, Math.abs(row[id]! - logit));
      if (everything !== null)
        for (let id = 0; id < v.n_vocab; id++)
          error = Math.max(error, Math.abs(row[id]! - everything[i * v.n_vocab + id]!));
      errors.push(error / scale);
      t.true(error / scale <= limit, `run ${index}, position ${i}: error ${error / scale}, ${limit} allowed`);
      const drawn = run.greedy[i - run.tokens.length + 1];
      if (drawn === undefined || tieBroken) continue;
      if (argmax(row) !== drawn) {
        const gap = top[0]![1] - top[1]![1];
        t.true(
          gap <= margin * scale,
          `run ${index}: token ${i - run.tokens.length + 1} is ${argmax(row)}, ${drawn} leads by ${gap}`,
        );
        tieBroken = true;
        continue;
      }
      compared++;
    }
  }
  const share = (bound: number): number => Math.round((100 * errors.filter(e => e <= bound).length) / errors.length);
  t.true(share(allowed) >= least, `only ${share(allowed)} % of positions within ${allowed}`);
  t.log(
    `worst ${Math.max(...errors).toExponential(1)} · within ${allowed.toExponential(0)}: ${share(allowed)} % · within 1e-6: ${share(1e-6)} % ` +
      `of ${errors.length} positions · ${compared} greedy tokens equal`,
  );
}

const rig = (): Rig => new Rig(canRun('relaxed') ? 'relaxed' : 'simd128');
const vectors = (file: string): Vectors => JSON.parse(readFileSync(file, 'utf8')) as Vectors;

const directory = shared('vectors/logits');
if (!haveShared) test.skip('parity: the shared vectors are not beside this checkout', t => t.pass());
for (const name of haveShared ? readdirSync(directory).filter(f => f.endsWith('.json')) : []) {
  const file = `${directory}/${name}`;
  const v = vectors(file);
  const model = shared(`models/${v.model}`);
  if (name.includes('-deq32') || !existsSync(model)) continue; // expanded weights: the files themselves are not in the fixtures
  test(`logits and greedy tokens: ${name}`, t => {
    compare(t, rig(), model, v, SHARE_LEAST[name] ?? 100, file.replace('.json', ''));
  });
}

for (const name of Object.keys(RECIPES))
  test(`logits and greedy tokens of a made model: ${name}`, t => {
    const v = vectors(`tests/fixtures/llama/${name}.json`);
    const made = llamaModel(name);
    t.deepEqual([v.kv, v.runs[0]!.prompt], [made.kv, made.prompt], 'the fixture was recorded for this model');
    compare(t, rig(), made.file, v, SHARE_LEAST[name] ?? 100, '');
  });
