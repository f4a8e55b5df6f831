// llama.cpp as an oracle: node-llama-cpp's own binary, without the package around it. `node llama.mjs LIBRARIES JOBS.json` answers with one line of
// JSON: for each job {model, adapters: [{path, scale}], prompt, draw} the ids that it draws greedily and its largest logits behind the prompt. One
// thread, keys and values in F16, no flash attention.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import process from 'node:process';

const [libraries, jobs] = process.argv.slice(2);
const llama = createRequire(import.meta.url)(path.resolve(libraries, 'llama-addon.node'));
const LOGITS = 8;
const CONTEXT = { contextSize: 512, batchSize: 512, sequences: 1, flashAttention: false, threads: 1 };
const ERRORS = 2; // and worse are told
const SILENCE = 0;

llama.setLoggerLogLevel(process.env.LLAMA_LOG ? ERRORS : SILENCE);
llama.loadBackends(path.resolve(libraries));
await llama.init();

const models = new Map();
async function modelOf(file) {
  const known = models.get(file) ?? new llama.AddonModel(file, { addonExports: llama, gpuLayers: 0, useMmap: false });
  if (!models.has(file) && !(await known.init())) throw new Error(`${file} is not loaded`);
  models.set(file, known);
  return known;
}

async function answer({ model: file, adapters, prompt, draw }) {
  const model = await modelOf(file);
  const loras = [];
  for (const { path: adapter } of adapters) {
    const lora = new llama.AddonModelLora(model, adapter);
    await model.loadLora(lora);
    loras.push(lora);
  }
  const context = new llama.AddonContext(model, CONTEXT);
  if (!(await context.init())) throw new Error('no context');
  context.setLoras(
    loras,
    adapters.map(a => a.scale),
  );
  const sampler = new llama.AddonSampler(model);
  sampler.applyConfig({ temperature: 0 });
  const ids = [];
  let logits = [];
  for (let [next, at] = [prompt, 0]; ids.length < draw;) {
    context.initBatch(next.length);
    const [row] = context.addToBatch(0, at, Uint32Array.from(next), Uint32Array.of(next.length - 1));
    await context.decodeBatch();
    const wanted = ids.length === 0 ? [[], false, false, false, LOGITS] : false;
    const drawn = await context.sampleToken(row, sampler, false, false, wanted);
    if (ids.length === 0) logits = drawn[3];
    const id = Array.isArray(drawn) ? drawn[0] : drawn;
    ids.push(id);
    if (model.isEogToken(id)) break;
    at += next.length;
    next = [id];
  }
  await context.dispose();
  return { ids, logits: Array.from({ length: logits.length / 2 }, (_, i) => [logits[2 * i], logits[2 * i + 1]]) };
}

const answers = [];
for (const job of JSON.parse(readFileSync(jobs, 'utf8'))) answers.push(await answer(job));
console.log(JSON.stringify(answers));
process.exit(0); // its threads stay
