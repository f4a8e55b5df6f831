// Adapters beside llama.cpp, which computes them by itself: the same file, the same prompt, the same words, greedily, and logits as near as without
// an adapter. It reads what the project writes, and this reads what is made for it. node-llama-cpp's binary is looked for among the project's
// packages and among those of the bench (npm run bench:peers).

import test, { type ExecutionContext } from 'ava';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { boot } from '../boot/index.ts';
import type { Machine } from '../boot/machine.ts';
import { GGML_TYPE } from '../kernel/abi/index.ts';
import { random } from './harness.ts';
import { FABLE, randomAdapter, type Adapter } from './support/adapters.ts';
import { json, ok } from './support/commands.ts';

const LIBRARIES = ['node_modules', 'bench/peers/node_modules']
  .map(modules => `${modules}/@node-llama-cpp/linux-x64/bins/linux-x64`)
  .find(existsSync);
const withLlama = LIBRARIES === undefined ? test.skip : test;

const DRAWN = 64;
const { F32, F16, BF16 } = GGML_TYPE;

const adapter = (seed: number, rank: number, alpha: number, size: number, type: number): Adapter =>
  randomAdapter({ architecture: 'llama', matrices: FABLE, rank, alpha, size, type }, random(seed));
const ADAPTERS: Readonly<Record<string, Adapter>> = {
  small: adapter(11, 4, 8, 0.1, F32),
  wide: adapter(12, 16, 16, 0.1, F32),
  one: adapter(13, 1, 0, 0.2, F32), // without an alpha a pair counts as it is
  half: adapter(14, 4, 8, 0.1, F16),
  brain: adapter(15, 8, 8, 0.1, BF16),
};
/** Which are applied, and how strongly. */
const CHOICES: readonly Readonly<Record<string, number>>[] = [
  {},
  { small: 1 },
  { wide: 1 },
  { wide: -0.5 },
  { one: 2 },
  { small: 0.75, wide: 0.5, one: -1 },
];
/** llama.cpp rounds what it multiplies factors of halves with; where the base rounds to eight bits, too, that is seen in the logits. */
const HALVES: typeof CHOICES = [{ half: 1 }, { brain: 1 }];
/** Two logits so near, as a part of the largest, may change places: a sum in another order falls the other way when it is rounded to eight bits. */
const NEAR = 2e-2;
const PROMPTS = ['Once upon a time', 'Tom and Lily went to the park because'];

type Logits = readonly (readonly [id: number, logit: number])[];
interface Answer {
  readonly ids: readonly number[];
  readonly logits: Logits; // the largest behind the prompt
}
interface Said {
  readonly prompt_tokens: readonly number[];
  readonly tokens: readonly number[];
  readonly steps: readonly { readonly top: Logits }[];
}

/** What llama.cpp answers to these jobs, in a process of its own. */
function ask(libraries: string, directory: string, jobs: readonly object[]): Answer[] {
  const file = path.join(directory, 'jobs.json');
  writeFileSync(file, JSON.stringify(jobs));
  const line = execFileSync(process.execPath, ['tests/outside/llama.mjs', libraries, file], { encoding: 'utf8' });
  return JSON.parse(line.trim().split('\n').at(-1)!) as Answer[];
}

const MODELS = ['fable-f16', 'fable-q8_0', 'fable-q4_0'];
for (const model of MODELS)
  withLlama(
    `${model}: with adapters llama.cpp draws the same ${DRAWN} tokens, but where two are as good as equal`,
    t => {
      const directory = room(t);
      for (const [name, { file }] of Object.entries(ADAPTERS))
        writeFileSync(path.join(directory, `${name}.gguf`), file);
      const machine = boot({ image: readFileSync('build/boot.cpio'), strict: true, mounts: { '/host': directory } });
      ok(machine, `llmctl load ${model}`);
      const choices = model === 'fable-f16' ? [...CHOICES, ...HALVES] : CHOICES;
      compare(t, machine, { model, directory, choices, named: name => `/host/${name}.gguf` });
    },
  );

/** Learnt of the image's own examples: by the default settings' q and v, and by every matrix. */
const TRAININGS: Readonly<Record<string, string>> = {
  form: 'style.json form --ctx 32 --batch 4 --lr 0.01 --steps 6',
  facts: 'facts.jsonl facts --ctx 32 --lr 0.01 --steps 6 --targets q,k,v,o,gate,up,down --rank 2 --alpha 4',
};
const OF_TRAINED: typeof CHOICES = [
  {},
  { form: 1 },
  { facts: 1 },
  { form: 0.75, facts: -0.5 },
  { form: 0.5, facts: 1 },
];
for (const model of MODELS)
  withLlama(`${model}: so it does with adapters that were trained here and exported, applied from the store`, t => {
    const directory = room(t);
    const machine = boot({ image: readFileSync('build/boot.cpio'), strict: true, mounts: { '/host': directory } });
    ok(machine, `llmctl load ${model} --pages 24`);
    for (const [name, training] of Object.entries(TRAININGS)) {
      ok(machine, `llmfinetune start /usr/share/finetune/${training} --val 0 --quiet`);
      ok(machine, `llmfinetune export ${name} --format gguf -o /host/${name}.gguf`);
    }
    compare(t, machine, { model, directory, choices: OF_TRAINED, named: name => name });
  });

interface Comparison {
  readonly model: string;
  readonly directory: string; // where NAME.gguf of each adapter is
  readonly choices: typeof CHOICES;
  readonly named: (name: string) => string; // how the machine is told which adapter
}

/** Every prompt is continued with every choice of adapters, here and by llama.cpp: the words and the largest logits agree. */
function compare(t: ExecutionContext, machine: Machine, { model, directory, choices, named }: Comparison): void {
  const jobs: object[] = [];
  const ours: Said[] = [];
  for (const choice of choices) {
    ok(machine, 'llmfinetune detach');
    const chosen = Object.entries(choice);
    for (const [name, scale] of chosen) ok(machine, `llmfinetune apply ${named(name)} --scale ${scale}`);
    for (const prompt of PROMPTS) {
      const said = json<Said>(machine, `llminfer --json --temp 0 --logits 8 --max-tokens ${DRAWN} ${prompt}`);
      ours.push(said);
      const adapters = chosen.map(([name, scale]) => ({ path: path.join(directory, `${name}.gguf`), scale }));
      jobs.push({ model: `images/models/${model}.gguf`, adapters, prompt: said.prompt_tokens, draw: DRAWN });
    }
  }
  const theirs = ask(LIBRARIES!, directory, jobs);
  let [worst, equal] = [0, 0];
  for (const [i, { ids, logits }] of theirs.entries()) {
    const { tokens, steps } = ours[i]!;
    const what = `${JSON.stringify(choices[i >> 1])} ${PROMPTS[i & 1]}`;
    worst = Math.max(worst, distance(steps[0]!.top, logits));
    const apart = tokens.findIndex((id, k) => id !== ids[k]);
    if (apart < 0) equal++;
    else t.true(gap(steps[apart]!.top, ids[apart]!) < NEAR, `${what}: other words from token ${apart} on`);
    if (model === 'fable-f16' && !what.includes('brain')) t.deepEqual(tokens, ids, what);
  }
  t.is(new Set(theirs.map(({ ids }) => ids.join())).size > choices.length, true, 'adapters change what is said');
  t.log(`${equal} of ${theirs.length} texts are equal, worst distance of the largest logits ${worst.toExponential(1)}`);
  t.true(worst < NEAR);
  t.true(equal >= 0.7 * theirs.length);
}

/** A directory of the host for one test. */
function room(t: ExecutionContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'arena8-llama-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** How far the same logits lie apart, as a part of the largest. */
function distance(ours: Logits, theirs: Logits): number {
  const own = new Map(ours);
  const apart = theirs.map(([id, logit]) => Math.abs((own.get(id) ?? logit) - logit));
  return Math.max(...apart) / Math.abs(theirs[0]![1]);
}

/** How far an id is from being the one with the largest logit. */
function gap(logits: Logits, id: number): number {
  const [[, most]] = logits as [Logits[number]];
  const own = logits.find(([other]) => other === id)?.[1] ?? -Infinity;
  return (most - own) / Math.abs(most);
}
