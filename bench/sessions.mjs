// `npm run bench -- --sessions`: what serving several sessions at once brings, and what keeping their keys and values costs. Batching: the same
// requests one, two, eight and 32 at a time. Pages: in order and scattered (what a pool too small costs, and what shared beginnings save:
// bench/pages.mjs). Types of keys and values: speed, bytes, sessions that fit, perplexity. Tokens a second are this computer's and of this
// process's processor time, cycles are the simulated processor's.
import { existsSync, writeFileSync } from 'node:fs';
import process from 'node:process';
import { allowRelaxedSimd } from './ceilings.mjs';
import { syntheticModels } from './models.mjs';
import { parts } from './steps.mjs';
import { CONTEXT_CAPACITY, DECODE_TOKENS, PROMPT_TOKENS, promptOf, table } from './workload.mjs';

const root = new URL('..', import.meta.url).pathname;
const CORPUS = `${root}../shared/corpora`;
const MODELS = ['fable-f16', 'fable-q4_0'];
const LARGE = 'synth-5M-q8_0'; // with keys and values in Q4_0 32 sessions of it fit
const KV_TYPES = ['f32', 'f16', 'q8_0', 'q4_0'];
const SESSIONS = [1, 2, 8, 32];
const PAGE = 32; // positions

// A session of the batching and swapping part: a prompt of a few tokens, and one of two lengths. What both lengths have in common (programs
// that start and end, prompts, sessions that begin and end one after the other) cancels out; between them every pass has all sessions.
const SHORT = 12;
const LONG = 44;
const CONTEXT = 64;
const NAMES =
  'Lily Tom Anna Max Lucy Ben Sara Tim Mia Jack Emma Sam Bella Leo Amy Dan Molly Joe Kate Bob Rosie Fred Jane Mark Ella Nick Sue Paul Grace Pip ' +
  'Zoe Carl Ruby Hugo Nina Otto Vera Finn Ida Karl';

/** Processor time of this process, in seconds: other programs take none of it. */
function cpuSeconds() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** A booted machine, its shell and its accounts. */
class Machine {
  #machine;

  constructor(library) {
    const mounts = {
      '/mnt/bench': { path: `${root}build/bench`, readOnly: true },
      ...(existsSync(CORPUS) ? { '/mnt/corpora': { path: CORPUS, readOnly: true } } : {}),
    };
    this.#machine = library.boot({ mounts });
    this.hz = this.json('llmctl wcet --json --prompt 1 --gen 1').hz; // of the simulated processor
  }

  run(line) {
    const { status, stdout, stderr } = this.#machine.exec(line);
    if (status !== 0) throw new Error(`${line.slice(0, 80)}: status ${status}: ${stderr.trim()}`);
    return stdout;
  }
  json(line) {
    return JSON.parse(this.run(line));
  }
  /** The same, where a refusal is an answer too: true if it was accepted. */
  allows(line) {
    return this.#machine.exec(line).status === 0;
  }

  /** What a command line takes: seconds here, cycles in passes; tokens, passes and their rows. */
  measure(line) {
    const before = this.#accounts();
    const start = cpuSeconds();
    this.run(line);
    const seconds = cpuSeconds() - start;
    const after = this.#accounts();
    return { seconds, ...Object.fromEntries(Object.keys(after).map(key => [key, after[key] - before[key]])) };
  }

  #accounts() {
    const { output_tokens: tokens, passes, rows, busy_ns: busyNs } = this.json('llmstats --json');
    return { tokens, passes, rows, cycles: (busyNs / 1e9) * this.hz };
  }
}

const request = (prompt, tokens) => `--timeout 86400000 --temp 0 --max-tokens ${tokens} '${prompt}' > /dev/null`;
const infer = (prompt, tokens) => `llminfer ${request(prompt, tokens)}`;

/** Prompts that the loaded model continues by LONG tokens, thinking of no end. */
function prompts(machine) {
  const good = [];
  for (const name of NAMES.split(' ')) {
    const prompt = `${name} saw a`;
    const { tokens } = machine.json(`llminfer --json --temp 0 --max-tokens ${LONG} '${prompt}'`);
    if (tokens.length === LONG) good.push(prompt);
  }
  return good;
}

/**
 * A command line that has so many sessions run at once, with nobody reading, and waits for all: an hour of the machine's time, which is over as
 * soon as nothing runs. Programs are fewer than sessions may be, so the first is submitted by itself.
 */
function together(chosen, tokens) {
  const [first, ...others] = chosen.map(prompt => `llmctl submit ${request(prompt, tokens)}`);
  return [`${first};`, ...others.map(line => `${line} &`), 'wait; sleep 3600'].join(' ');
}

/** The cheapest of some measurements, and the difference of two such. */
const cheapest = list => list.reduce((best, m) => (m.seconds < best.seconds ? m : best));
const difference = (long, short) => Object.fromEntries(Object.keys(long).map(key => [key, long[key] - short[key]]));

// ── Batching ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function batching(library, { model, kv, guest }, repetitions) {
  const machine = new Machine(library);
  machine.run(
    `llmctl load ${guest} --kv ${kv} --ctx ${CONTEXT} --batch 32 --sessions 32 --pages ${32 * (CONTEXT / PAGE)}`,
  );
  const all = prompts(machine);
  return SESSIONS.map(n => {
    const chosen = all.slice(0, n);
    if (chosen.length < n) throw new Error(`${model}: ${all.length} prompts that it continues, ${n} are wanted`);
    const [short, long] = [SHORT, LONG].map(tokens => together(chosen, tokens));
    const runs = [[], []];
    for (let i = 0; i <= repetitions; i++)
      for (const [which, line] of [short, long].entries()) {
        const m = machine.measure(line);
        if (i > 0) runs[which].push(m); // the first warms up
      }
    const d = difference(cheapest(runs[1]), cheapest(runs[0]));
    return {
      model,
      sessions: n,
      rate: d.tokens / d.seconds,
      cycles: d.cycles / d.tokens,
      rows: d.rows / d.passes,
    };
  });
}

// ── Pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A step at the end of a full context, its pages in order and in no order: seconds and cycles. */
async function scattered(repetitions) {
  const k = await parts();
  const rig = new k.Rig(k.canRun('relaxed') ? 'relaxed' : 'simd128');
  const driver = new k.TransformerDriver({ ...rig, tokenizer: rig.bareTokenizer });
  const image = k.accepted(rig.image(`${root}images/models/${MODELS[0]}.gguf`));
  const pages = CONTEXT_CAPACITY / PAGE;
  const options = { ctx: CONTEXT_CAPACITY, kvType: k.GGML_TYPE.F16, batch: 8, sessions: 1, pages: 5 * pages };
  const { engine } = k.accepted(rig.load(driver, image, options));
  const ids = Array.from({ length: CONTEXT_CAPACITY }, (_, i) => 3 + ((i * 7919) % (engine.vocabulary.count - 3)));
  const orders = [0, 7919].map(stride =>
    Array.from({ length: pages }, (_, i) => (stride === 0 ? i : (i * stride) % options.pages)),
  );
  const step = () => rig.body(engine, CONTEXT_CAPACITY - 1, ids.slice(-1));
  const seconds = orders.map(() => Infinity);
  for (let i = 0; i < 50 * repetitions; i++)
    for (const [which, order] of orders.entries()) {
      rig.page(engine, 0, order);
      if (i === 0) for (let pos = 0; pos < CONTEXT_CAPACITY; pos += 8) rig.body(engine, pos, ids.slice(pos, pos + 8));
      step(); // brings this order's pages into the caches, as the step before would have
      const start = cpuSeconds();
      for (let j = 0; j < 10; j++) step();
      seconds[which] = Math.min(seconds[which], (cpuSeconds() - start) / 10);
    }
  return seconds;
}

// ── Types of keys and values ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** The most sessions of a whole context that a model can be loaded for. */
function sessionsThatFit(machine, model, kv) {
  const pages = CONTEXT_CAPACITY / PAGE;
  let n = 32;
  while (
    n > 0 &&
    !machine.allows(
      `llmctl plan ${model} --stream=off --kv ${kv} --ctx ${CONTEXT_CAPACITY} --sessions ${n} --pages ${n * pages}`,
    )
  )
    n--;
  return n;
}

/** A text to be surprised by: held-out stories where they are at hand. */
function textIn(machine, bytes) {
  if (existsSync(CORPUS)) machine.run(`head -c ${bytes} /mnt/corpora/stories-valid.txt > /tmp/text`);
  else machine.run(`echo '${promptOf(500, 0, text => text.length / 4)}' > /tmp/text`);
}

function kvTypes(library, { repetitions, quick }) {
  const [model] = MODELS;
  const subjects = KV_TYPES.map(kv => {
    const machine = new Machine(library);
    const plan = machine.json(`llmctl plan --json ${model} --kv ${kv} --ctx ${CONTEXT_CAPACITY}`);
    machine.run(`llmctl load ${model} --kv ${kv} --ctx ${CONTEXT_CAPACITY}`);
    textIn(machine, quick ? 10_000 : 60_000);
    const countTokens = text => machine.json(`llmctl tokenize --json --bos '${text}'`).tokens.length;
    let skip = 0;
    let prompt;
    do prompt = promptOf(PROMPT_TOKENS, skip++, countTokens);
    while (machine.measure(infer(prompt, DECODE_TOKENS + 1)).tokens <= DECODE_TOKENS && skip < 40);
    const { tokens, perplexity } = machine.json('llmctl perplexity --json /tmp/text');
    const fit = MODELS.map(m => sessionsThatFit(machine, m, kv));
    return { kv, machine, prompt, tokens, perplexity, bytes: plan.kv_bytes_per_token, fit, runs: [[], []] };
  });
  for (let i = 0; i < repetitions; i++)
    for (const { machine, prompt, runs } of subjects)
      for (const [which, tokens] of [1, DECODE_TOKENS + 1].entries())
        runs[which].push(machine.measure(infer(prompt, tokens)));
  return subjects.map(({ kv, bytes, fit, tokens, perplexity, runs }) => {
    const d = difference(cheapest(runs[1]), cheapest(runs[0]));
    return {
      kv,
      bytes,
      fit,
      tokens,
      perplexity,
      rate: DECODE_TOKENS / d.seconds,
      cycles: d.cycles / DECODE_TOKENS,
    };
  });
}

// ── All of it ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Everything `npm run bench -- --sessions` measures; rates are tokens a second, cycles those of one token. */
export async function sessions(chosen) {
  allowRelaxedSimd();
  const library = await import('../build/index.js');
  syntheticModels(); // written once
  const repetitions = chosen.quick ? 3 : 9;
  return {
    batching: [
      ...MODELS.map(model => ({ model, kv: 'f16', guest: model })),
      { model: LARGE, kv: 'q4_0', guest: `/mnt/bench/${LARGE}.gguf` },
    ].flatMap(subject => batching(library, subject, repetitions)),
    scattered: await scattered(repetitions),
    kvTypes: kvTypes(library, { ...chosen, repetitions }),
  };
}

const whole = x => Math.round(x).toLocaleString('en-US');
const mega = x => (x / 1e6).toFixed(2);
const times = (x, one) => (x / one).toFixed(2);

/** Prints what sessions() found, and writes it as JSON where asked. */
export function print(found, { json }) {
  console.log(`Batching: requests at once, a context of ${CONTEXT}, up to 32 rows a pass\n`);
  const one = model => found.batching.find(r => r.model === model && r.sessions === 1);
  console.log(
    table(
      ['model', 'sessions', 'rows a pass', 'tok/s', '× one', 'M cycles/token', 'one / ×'],
      found.batching.map(r => [
        r.model,
        String(r.sessions),
        r.rows.toFixed(1),
        whole(r.rate),
        times(r.rate, one(r.model).rate),
        mega(r.cycles),
        times(one(r.model).cycles, r.cycles),
      ]),
    ),
  );
  const [inOrder, inNone] = found.scattered;
  console.log(
    `\nPages: a step at position ${CONTEXT_CAPACITY - 1} takes ${(1e6 * inOrder).toFixed(1)} µs with its pages in order, ` +
      `${(1e6 * inNone).toFixed(1)} µs with them scattered over a pool five times as large (${times(inNone, inOrder)}); its cycles are the same`,
  );
  const f16 = found.kvTypes.find(r => r.kv === 'f16');
  console.log(
    `\nKeys and values, ${MODELS[0]}: decoding ${DECODE_TOKENS} tokens behind ${PROMPT_TOKENS}; perplexity over ${whole(f16.tokens)} tokens; ` +
      `sessions of ${CONTEXT_CAPACITY} tokens that fit with the weights of ${MODELS.join(', ')}\n`,
  );
  console.log(
    table(
      ['type', 'bytes/token', 'tok/s', '× f16', 'M cycles/token', '× f16', 'perplexity', 'sessions'],
      found.kvTypes.map(r => [
        r.kv,
        whole(r.bytes),
        whole(r.rate),
        times(r.rate, f16.rate),
        mega(r.cycles),
        times(r.cycles, f16.cycles),
        r.perplexity.toFixed(4),
        r.fit.join(', '),
      ]),
    ),
  );
  if (json) writeFileSync(json, `${JSON.stringify(found, null, 1)}\n`);
}
