// `npm run bench`: how fast the machine writes, on one thread, measured from outside: shell commands into a booted machine, host time around
// them. Prefill and decode rates for the default image and for two synthetic llamas that fill the arena, for each build of the kernels this
// engine runs, beside this machine's own ceilings measured in the same process. --quick: fewer repetitions; --json FILE:
// everything as JSON. Instead of all that, --calibrate measures single steps (bench/calibrate.mjs), --accounting what it costs to count
// cycles (bench/accounting.mjs), --sessions what several sessions at once bring and types of keys and values cost (bench/sessions.mjs), --pages
// what pages bring (bench/pages.mjs), --kernels each compute kernel beside native code (bench/kernels.mjs; --only NAME: those of that name),
// --startup how long a process takes to its first token (bench/startup.mjs), --audit what the audit log costs (bench/audit.mjs), --page the page in
// browsers (bench/page.mjs), --train training beside PyTorch (bench/train.mjs).
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { allowRelaxedSimd, ceilings } from './ceilings.mjs';
import { syntheticModels, workOf } from './models.mjs';
import {
  CONTEXT,
  CONTEXT_CAPACITY,
  DECODE_TOKENS,
  PREFILL_TOKENS,
  PROMPT_TOKENS,
  percent,
  promptOf,
  report,
  spread,
} from './workload.mjs';

const root = new URL('..', import.meta.url).pathname;
const BUILDS = ['simd128', 'relaxed'];

export function options() {
  const flag = { type: 'boolean', default: false };
  const { values } = parseArgs({
    options: {
      quick: flag,
      calibrate: flag,
      accounting: flag,
      sessions: flag,
      pages: flag,
      kernels: flag,
      startup: flag,
      audit: flag,
      page: flag,
      train: flag,
      only: { type: 'string' },
      json: { type: 'string' },
    },
  });
  // Warm-up: the engine compiles twice, quickly and then well, the second time beside the running code.
  return {
    repetitions: values.quick ? 5 : 15,
    warmUpMs: values.quick ? 1000 : 3000,
    ceilingMs: 4000,
    quick: values.quick,
    calibrate: values.calibrate,
    accounting: values.accounting,
    sessions: values.sessions,
    pages: values.pages,
    kernels: values.kernels,
    startup: values.startup,
    audit: values.audit,
    page: values.page,
    train: values.train,
    only: values.only,
    json: values.json,
  };
}

/** The default image's model and the synthetic ones: host file, and where the machine sees it. */
function models() {
  const image = 'fable-f16';
  return [
    ...syntheticModels().map(m => ({ ...m, guest: `/mnt/bench/${path.basename(m.file)}` })),
    { name: image, file: `${root}images/models/${image}.gguf`, guest: `/models/${image}.gguf` },
  ];
}

/** A booted machine with the model loaded: a way to run a command that must succeed, and to load the model anew, which forgets what prompts began with. */
function powerOn(library, build, model) {
  const machine = library.boot({ build, mounts: { '/mnt/bench': { path: `${root}build/bench`, readOnly: true } } });
  const run = line => {
    const { status, stdout, stderr } = machine.exec(line);
    if (status !== 0) throw new Error(`${line.slice(0, 60)}: status ${status}: ${stderr.trim()}`);
    return stdout;
  };
  const load = () => run(`llmctl load --ctx ${CONTEXT_CAPACITY} --kv f16 ${model.guest}`);
  load();
  return { run, load };
}

/** Units a second, when runs of `whole` do `units` more than those of `part`. */
const rates = (units, whole, part) => spread(whole.seconds.map(s => units / (s - spread(part.seconds).median)));

/** Rates of one model on one build, its prompt and what it wrote. */
function measure(library, build, model, { repetitions, warmUpMs }) {
  const { run, load } = powerOn(library, build, model);
  const idsOf = text => JSON.parse(run(`llmctl tokenize --json --bos '${text}'`)).tokens;
  const infer = (prompt, tokens) => {
    load(); // a prompt that is known would not be read again
    const start = performance.now();
    const answer = JSON.parse(run(`llminfer --json --temp 0 --max-tokens ${tokens} '${prompt}'`));
    return { seconds: (performance.now() - start) / 1000, answer };
  };
  const textOf = (tokens, skip) => promptOf(tokens, skip, text => idsOf(text).length);
  // A trained model ends its story when it thinks it is over: the first prompt after which it does not is taken.
  let skip = 0;
  let text;
  do text = textOf(PROMPT_TOKENS, skip++);
  while (infer(text, 1 + DECODE_TOKENS).answer.tokens.length <= DECODE_TOKENS && skip < 40);
  const longText = textOf(PREFILL_TOKENS, skip);
  // Runs that differ by prompt positions alone or by generated tokens alone: start-up, first token and JSON cancel out.
  const start = { prompt: text.slice(0, text.indexOf(' ')), tokens: 1, seconds: [] };
  const read = { prompt: longText, tokens: 1, seconds: [] };
  const first = { prompt: text, tokens: 1, seconds: [] };
  const all = { prompt: text, tokens: 1 + DECODE_TOKENS, seconds: [] };
  for (const end = performance.now() + warmUpMs; performance.now() < end;) infer(text, 1 + DECODE_TOKENS);
  for (let i = 0; i < repetitions; i++)
    for (const kind of [start, read, first, all]) {
      const { seconds, answer } = infer(kind.prompt, kind.tokens);
      kind.answer = answer;
      kind.seconds.push(seconds);
    }
  const { prompt_tokens: prompt, tokens: output, arena_peak_bytes: arenaPeakBytes } = all.answer;
  const longPrompt = read.answer.prompt_tokens;
  const prefill = rates(longPrompt.length - start.answer.prompt_tokens.length, read, start);
  const decode = rates(DECODE_TOKENS, all, first);
  return { text, prompt, longText, longPrompt, output, arenaPeakBytes, prefill, decode };
}

/**
 * Everything `npm run bench` measures.
 * @returns {Promise<{ host: object, ceilings: object[], jobs: object[], results: object[], notes: string[] }>} rates are per second
 */
export async function bench(chosen) {
  allowRelaxedSimd();
  const library = await import('../build/index.js');
  const start = { cpu: process.cpuUsage(), wall: performance.now() };
  const run = { host: hostLine(), ceilings: [], jobs: [], results: [], notes: [] };
  run.ceilings = await ceilings(BUILDS, chosen.ceilingMs);
  for (const build of BUILDS)
    if (!run.ceilings.some(c => c.build === build)) run.notes.push(`this engine does not run the ${build} build`);
  for (const model of models()) {
    const work = workOf(model.file, CONTEXT);
    let job;
    for (const ceiling of run.ceilings) {
      const m = measure(library, ceiling.build, model, chosen);
      const { text, prompt, longText, longPrompt, output } = m;
      job ??= { model: model.name, file: model.file, text, prompt, longText, longPrompt, output, ...work };
      if (m.output.join() !== job.output.join()) throw new Error(`${model.name}: the builds write different tokens`);
      const peak = work.types.some(type => type.startsWith('Q')) ? ceiling.int8 : ceiling.f32;
      run.results.push({
        engine: `arena8 ${ceiling.build}`,
        model: model.name,
        prefill: m.prefill,
        decode: m.decode,
        arenaPeakBytes: m.arenaPeakBytes,
        shares: {
          multiplyAdd: (m.decode.median * work.multiplyAdds) / peak,
          bandwidth: (m.decode.median * work.bytes) / ceiling.bandwidth,
        },
      });
    }
    run.jobs.push(job);
  }
  const { user, system } = process.cpuUsage(start.cpu);
  const share = (user + system) / 1000 / (performance.now() - start.wall);
  if (share < 0.95)
    run.notes.push(
      `the machine was busy with other things: this process got ${percent(share)} of a core, rates are too low`,
    );
  return run;
}

const hostLine = () =>
  `${cpus()[0]?.model.trim() ?? 'unknown processor'}, Node ${process.versions.node}, ${process.platform} ${process.arch}, one thread`;

const giga = x => (x / 1e9).toFixed(1);

/** Prints a run, models together, and writes it as JSON where asked. */
export function print(run, { json, repetitions }) {
  console.log(run.host);
  for (const c of run.ceilings)
    console.log(
      `ceilings, ${c.build}: ${giga(c.int8)} G int8 and ${giga(c.f32)} G f32 multiply-adds/s, ${giga(c.bandwidth)} GB/s from 7 MiB`,
    );
  console.log(
    `prefill: a prompt of ${PREFILL_TOKENS} tokens; decode: ${DECODE_TOKENS} greedy tokens, context ${CONTEXT} on average; F16 KV cache of ${CONTEXT_CAPACITY}; ` +
      `median (min–max) of ${repetitions}\n`,
  );
  for (const j of run.jobs)
    console.log(
      `${j.model}: ${(j.parameters / 1e6).toFixed(2)} M parameters ${j.types.join(' ')}; a token costs ${(j.multiplyAdds / 1e6).toFixed(2)} M multiply-adds, ` +
        `${(j.bytes / 1e6).toFixed(2)} MB read`,
    );
  const order = run.jobs.map(j => j.model);
  const results = run.results.toSorted((a, b) => order.indexOf(a.model) - order.indexOf(b.model));
  console.log(`\n${report(results, 'arena8 simd128')}`);
  console.log(
    '\nmul-add, bandwidth: share of the ceiling reached while decoding (int8 ceiling for quantised weights, f32 for others)',
  );
  for (const note of run.notes) console.log(note);
  if (json) writeFileSync(json, `${JSON.stringify(run, null, 1)}\n`);
}

if (import.meta.url === `file://${process.argv[1]}`) {
  const chosen = options();
  if (chosen.calibrate) {
    const { calibrate, print } = await import('./calibrate.mjs');
    print(await calibrate(chosen), chosen);
  } else if (chosen.accounting) {
    const { accounting, print } = await import('./accounting.mjs');
    print(await accounting(chosen), chosen);
  } else if (chosen.sessions) {
    const { sessions, print } = await import('./sessions.mjs');
    print(await sessions(chosen), chosen);
  } else if (chosen.pages) {
    const { pages, print } = await import('./pages.mjs');
    print(await pages(), chosen);
  } else if (chosen.startup) {
    const { startup, print } = await import('./startup.mjs');
    print(await startup(chosen), chosen);
  } else if (chosen.audit) {
    const { audit, print } = await import('./audit.mjs');
    print(await audit(chosen), chosen);
  } else if (chosen.page) {
    const { page, print } = await import('./page.mjs');
    print(await page(chosen), chosen);
  } else if (chosen.train) {
    const { trainings, print } = await import('./train.mjs');
    print(await trainings(chosen), chosen);
  } else if (chosen.kernels) {
    const { kernels, print } = await import('./kernels.mjs');
    print(await kernels(chosen), chosen);
  } else print(await bench(chosen), chosen);
}
