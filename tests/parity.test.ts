// Agreement with llama.cpp: every logits file of the shared vectors whose model this build computes, streamed where it does not fit the
// arena, and small random models made here, for which tests/fixtures/llama holds its answers.
//
// The kernels add in the order of ggml's AVX2 code and round where it rounds, so all logits are llama.cpp's to the last bit, whatever the types: files
// of whole rows must be equal, those that hold the best logits as decimals to their digits. That is far inside CONTRACT's tolerances (1e-4 to
// 1e-2 of the largest logit), and greedy tokens are the same everywhere, not only where CONTRACT asks for it. llama.cpp's code for other processors
// adds in other orders; beside it one activation in some thousands rounds the other way. Models of other types must be refused by name.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { ENCODE, GGML_TYPE, isRefusal, ggmlTypeName } from '../kernel/abi/index.ts';
import type { Vocabulary } from '../kernel/abi/index.ts';
import { TransformerDriver } from '../drivers/engine/transformer/driver.ts';
import { accepted, argmax, canRun, haveShared, Rig, shared } from './harness.ts';
import { DRAWN, llamaModel, RECIPES } from './reference/llama-models.ts';
import { Streamer } from './support/streamer.ts';

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

const COMPUTED = `F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS TQ1_0 TQ2_0`.split(' ');
/** Share of the largest logit that the decimals of the vectors may be off. */
const DIGITS = 1e-6;

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

/** Prompt tokens, logits and greedy tokens of every run. `full`: where files of whole rows may lie. */
function compare(t: ExecutionContext, rig: Rig, file: string | Uint8Array, v: Vectors, full: string): void {
  const driver = new TransformerDriver({ ...rig, tokenizer: rig.tokenizer() });
  const image = accepted(rig.image(file));
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
    loaded = rig.load(driver, image, { ctx, kvType, batch: 8, tileBytes: 1 << 17, buffers: 2, pinBytes: 1 << 20 });
    t.log('larger than the arena: its weights stream');
  }
  const { engine, place, budget } = accepted(loaded);
  const streamer = engine.stream === null ? null : new Streamer(rig, engine, image.read);
  t.is(engine.vocabulary.count, v.n_vocab);
  let worst = 0;
  let positions = 0;
  for (const [index, run] of v.runs.entries()) {
    t.deepEqual(
      encode(rig, engine.vocabulary, run.prompt, place.scratchAt, budget.scratch),
      [...run.tokens],
      `tokens of ${run.prompt}`,
    );
    const fullFile = `${full}.run${index}.logits.f32`;
    const everything = existsSync(fullFile) ? new Float32Array(new Uint8Array(readFileSync(fullFile)).buffer) : null;
    const ids = [...run.tokens, ...run.greedy.slice(0, -1)];
    const { batch } = engine.options;
    const rows = streamer?.logits(ids, batch) ?? rig.logits(engine, ids, batch);
    t.is(rows.length, run.top.length);
    positions += rows.length;
    for (const [i, row] of rows.entries()) {
      const scale = row.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
      const error = run.top[i]!.reduce((a, [id, logit]) => Math.max(a, Math.abs(row[id]! - logit)), 0) / scale;
      worst = Math.max(worst, error);
      t.true(error <= DIGITS, `run ${index}, position ${i}: error ${error}`);
      if (everything !== null)
        t.deepEqual(
          row,
          everything.subarray(i * v.n_vocab, (i + 1) * v.n_vocab),
          `run ${index}, position ${i}: every bit`,
        );
      const drawn = run.greedy[i - run.tokens.length + 1];
      if (drawn !== undefined) t.is(argmax(row), drawn, `run ${index}: token ${i - run.tokens.length + 1}`);
    }
  }
  t.log(`worst ${worst.toExponential(1)} of ${positions} positions`);
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
    compare(t, rig(), model, v, file.replace('.json', ''));
  });
}

for (const name of [...Object.keys(RECIPES), ...DRAWN])
  test(`logits and greedy tokens of a made model: ${name}`, t => {
    const v = vectors(`tests/fixtures/llama/${name}.json`);
    const made = llamaModel(name);
    t.deepEqual([v.kv, v.runs[0]!.prompt], [made.kv, made.prompt], 'the fixture was recorded for this model');
    compare(t, rig(), made.file, v, '');
  });
