// `npm run bench -- --accounting`: what it costs the machine to know what things cost. Two machines take turns, token by token, at the same request:
// the one that is shipped, and one whose executor charges nothing, whose sampler does not count itself, and whose kernel books nothing and
// holds nothing against bounds. They write the same tokens; the difference in time is the price of accounting.
import asc from 'assemblyscript/asc';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { load } from '../tools/load.mjs';
import { compilerArguments } from '../tools/wasm.mjs';
import { allowRelaxedSimd } from './ceilings.mjs';
import { syntheticModels } from './models.mjs';
import { table } from './workload.mjs';

const root = new URL('..', import.meta.url).pathname;
const BUILDS = ['simd128', 'relaxed'];
const TOKENS = 96;
const OWNER = { pid: 1 << 20, uid: 0, groups: [] }; // no process
const SAMPLER = { temp: 0.8, topK: 40, topP: 0.95, repeatPenalty: 1 };
const PROMPT = 'Once upon a time';

/** What the executor does for the accounts. */
const ACCOUNTING = [
  'spend(step, load<u64>(price));',
  'spend(step, select<u64>(more, 0, positions != 0));',
  'spend(step, take_spent_cycles());',
];

/** The kernels of a build without it, not metered either. */
async function bareKernels(build) {
  let found = 0;
  let bytes = null;
  const readFile = (name, baseDir) => {
    let text;
    try {
      text = readFileSync(path.join(baseDir, name), 'utf8');
    } catch {
      return null; // the compiler tries several names
    }
    if (!name.endsWith('/execute.ts')) return text;
    for (const statement of ACCOUNTING) {
      found += text.split(statement).length - 1;
      text = text.replace(statement, '');
    }
    return text;
  };
  const writeFile = (name, contents) => void (name.endsWith('.wasm') && (bytes = contents));
  const args = compilerArguments(build === 'relaxed', 'bare.wasm');
  const { error, stderr } = await asc.main(args, { baseDir: root, readFile, writeFile });
  if (error) throw new Error(`asc: ${error.message}\n${stderr}`);
  if (found !== ACCOUNTING.length) throw new Error(`execute.ts accounts in ${found} places`);
  return bytes;
}

/** A machine that answers one request again and again, token by token. */
class Writer {
  #machine;
  #abi;
  #session = 0;

  constructor({ library, abi }, options, model) {
    const mounts = { '/mnt/bench': { path: `${root}build/bench`, readOnly: true } };
    this.#machine = library.boot({ ...options, mounts });
    this.#abi = abi;
    const { status, stderr } = this.#machine.exec(`llmctl load --kv f16 ${model.guest}`);
    if (status !== 0) throw new Error(`${model.name}: ${stderr.trim()}`);
  }

  /** Books nothing and compares nothing from now on. */
  stripped() {
    const { sessions, clock } = this.#machine.kernel;
    const nothing = () => {};
    const fine = () => true;
    Object.assign(sessions.charging, { body: nothing, isCharged: fine, isDrawn: fine, isEnded: fine });
    Object.assign(clock, { advance: nothing, check: nothing });
    return this;
  }

  /** Submits the request. */
  begin(seed) {
    const { arena, kernel } = this.#machine;
    const { lay, vfs, sessions } = kernel;
    const prompt = vfs.memfd('prompt');
    arena.u8.set(new TextEncoder().encode(PROMPT), lay.dmaAt);
    prompt.write(lay.dmaAt, PROMPT.length);
    prompt.seek(0, 0);
    this.#abi.SessionOptions.write(arena.u8, lay.windowAt, { ...SAMPLER, maxTokens: TOKENS, seed });
    this.#session = sessions.open(OWNER, lay.windowAt, prompt);
    prompt.close();
  }

  end() {
    this.#machine.kernel.sessions.close(this.#session);
  }

  /** The next token and the seconds it took; null behind the last. */
  next() {
    const { arena, kernel } = this.#machine;
    const { lay, sessions } = kernel;
    const start = performance.now();
    for (;;) {
      if (sessions.read(this.#session, lay.windowAt, this.#abi.LIMITS.windowBytes) === null) {
        sessions.run();
        continue;
      }
      const seconds = (performance.now() - start) / 1000;
      const { kind, token } = this.#abi.SessionEvent.read(arena.u8, lay.windowAt);
      return kind === this.#abi.EVENT.token ? { token, seconds } : null;
    }
  }
}

/** One answer of each machine, token by token in turns; seconds of each token. Null: the model ended it early, or `seed` was not it. */
function answers(writers, seed, round) {
  for (const w of writers) w.begin(seed);
  const seconds = writers.map(() => []);
  for (let i = 0; i < TOKENS; i++) {
    const order = (i + round) % 2 === 0 ? [0, 1] : [1, 0];
    const tokens = [];
    for (const w of order) {
      const next = writers[w].next();
      if (next === null) continue;
      tokens.push(next.token);
      seconds[w].push(next.seconds);
    }
    if (tokens[0] !== tokens[1]) throw new Error('accounting changes the tokens');
    if (tokens.length === 0) break;
  }
  for (const w of writers) w.end();
  return seconds[0].length === TOKENS ? seconds : null;
}

/** The shortest time of each decoded token, added up: what other programs took from the host is then in none of them. */
const shortest = rounds => {
  let sum = 0;
  for (let i = 1; i < TOKENS; i++) sum += Math.min(...rounds.map(seconds => seconds[i])); // the first has the prompt in it
  return sum;
};

function measure(parts, build, bare, model, { rounds }) {
  const without = { ...parts.library.PARTS, kernels: { [build]: bare } };
  const writers = [new Writer(parts, { build }, model), new Writer(parts, { build, parts: without }, model).stripped()];
  let seed = 0;
  while (answers(writers, seed, 0) === null) seed++; // a model may end its story early
  const found = [];
  for (let i = 0; i < rounds; i++) found.push(answers(writers, seed, i));
  const [shipped, stripped] = [0, 1].map(w => shortest(found.map(seconds => seconds[w])));
  const rate = seconds => (TOKENS - 1) / seconds;
  return { build, model: model.name, shipped: rate(shipped), without: rate(stripped), cost: shipped / stripped - 1 };
}

/** Decode rates of both machines, tokens a second, and the cost as a share, for each build this engine runs and each model. */
export async function accounting({ quick }) {
  allowRelaxedSimd();
  const parts = { library: await import('../build/index.js'), abi: await load('kernel/abi/index') };
  const image = 'fable-f16';
  const [large] = syntheticModels();
  const models = [
    { name: large.name, guest: `/mnt/bench/${path.basename(large.file)}` },
    { name: image, guest: `/models/${image}.gguf` },
  ];
  const results = [];
  for (const build of BUILDS) {
    const bare = await bareKernels(build);
    if (!WebAssembly.validate(bare)) continue;
    for (const model of models) results.push(measure(parts, build, bare, model, { rounds: quick ? 15 : 60 }));
  }
  return results;
}

export function print(results, { json, quick }) {
  const rate = x => Math.round(x).toLocaleString('en-US');
  console.log(`${TOKENS} tokens with default sampling, the shortest time of each in ${quick ? 15 : 60} answers\n`);
  const rows = results.map(r => [r.model, r.build, rate(r.shipped), rate(r.without), `${(100 * r.cost).toFixed(2)} %`]);
  console.log(table(['model', 'build', 'decode tok/s', 'without accounting', 'cost of accounting'], rows));
  if (json) writeFileSync(json, `${JSON.stringify(results, null, 1)}\n`);
}
