// `npm run bench:peers`: arena8 beside llama.cpp, on the same files, the same prompt ids, one thread each. Every engine has a process of its own
// (bench/engines.mjs); they take turns, a prompt and its continuation each, round after round, so that whatever else the machine does hits
// all of them, and what is compared is the ratio within a round: the median of these counts. The context is 256 positions long on average.
// --quick: fewer rounds; --models A,B and --engines A,B: only those whose names contain one of these; --markdown: README's tables; --json FILE.
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { boot } from '../build/index.js';
import { arenaInBrowser, arenaInNode, install, native, nodeOf, wllama } from './engines.mjs';
import { largeModel } from './large.mjs';
import { syntheticModels } from './models.mjs';
import { promptTokens, Subject } from './subject.mjs';
import { promptOf, spread, table } from './workload.mjs';

const root = new URL('..', import.meta.url).pathname;
const NATIVE = 'llama.cpp, native AVX2';
const WLLAMA = 'llama.cpp, wllama in Chromium';

/** In the order in which they take turns; what is not here says so when it is opened. */
const engines = () => [
  arenaInNode(process.execPath, 'relaxed'),
  arenaInNode(process.execPath, 'simd128'),
  arenaInNode(nodeOf(22), 'relaxed'),
  arenaInNode(nodeOf(24), 'relaxed'),
  arenaInNode(nodeOf(24), 'simd128'),
  arenaInNode(process.execPath, 'relaxed', 'prelinked'),
  arenaInNode(nodeOf(24), 'relaxed', 'prelinked'),
  arenaInBrowser('chrome', 'arena8, Chromium'),
  arenaInBrowser('firefox', 'arena8, Firefox'),
  native('haswell', NATIVE),
  native('best', 'llama.cpp, native, the backend it prefers'),
  wllama(WLLAMA),
];

function options() {
  const flag = { type: 'boolean', default: false };
  const text = { type: 'string' };
  const { values } = parseArgs({
    options: { quick: flag, markdown: flag, models: text, engines: text, json: text },
  });
  const among = list => name => list === undefined || list.split(',').some(part => name.includes(part));
  return {
    ...values,
    warmUpMs: values.quick ? 500 : 1500,
    wantsModel: among(values.models),
    wantsEngine: among(values.engines),
  };
}

/**
 * What is run of each model: prompts of whole pages and a token more, so many tokens drawn after the first. `context` and `kv`: what the arena
 * has room for; `rounds`, and how many of them an engine takes part in that is ten times as slow.
 */
function models(quick) {
  const small = { pages: 6, drawn: 128, context: 512, kv: 'f16', rounds: quick ? 3 : 11, slowRounds: quick ? 1 : 3 };
  const large = { pages: 7, drawn: 64, context: 320, kv: 'q8_0', rounds: quick ? 2 : 5, slowRounds: 1 };
  const fable = { name: 'fable-f16', file: `${root}images/models/fable-f16.gguf` };
  return [
    ...syntheticModels().map(m => ({ ...m, ...small })),
    { ...fable, ...small },
    { ...large, ...largeModel('135M-q4_0'), prelink: true },
  ];
}

// ── Jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A model with everything that the engines are asked: texts, ids, how arena8 is to load it; what arena8 writes. */
function jobOf(model) {
  const { name, file, context, kv, pages, drawn, prelink } = model;
  const folder = path.dirname(file);
  const machine = boot({ mounts: { '/mnt/bench': { path: folder, readOnly: false } } });
  const loadOf = f => `--ctx ${context} --kv ${kv} /mnt/bench/${path.basename(f)}`;
  const load = loadOf(file);
  const subject = new Subject(machine, load);
  subject.forget();
  // A trained model ends its story when it thinks it is over: the first prompt after which it does not is taken.
  const textFrom = skip => promptOf(promptTokens(pages), skip, t => subject.idsOf(t).length);
  let skip = 0;
  let text = textFrom(skip);
  let measured = subject.measure(text, drawn);
  while (measured.ids.length <= drawn && skip < 40) measured = subject.measure((text = textFrom(++skip)), drawn);
  const job = { ...model, folder, load, text, prompt: subject.idsOf(text), ids: measured.ids };
  if (!prelink) return job;
  const prelinked = file.replace(/\.gguf$/, '.prelinked.gguf');
  if (!existsSync(prelinked) || statSync(prelinked).mtimeMs < statSync(file).mtimeMs)
    subject.command(`llmctl prelink ${['', prelinked].map(f => `/mnt/bench/${path.basename(f || file)}`).join(' ')}`);
  const status = subject.command('llmctl status');
  return { ...job, name: `${name}, streamed`, prelinked: loadOf(prelinked), status };
}

/** All engines by turns on one job: rates by engine, a number for each round; undefined where one sat out. */
async function turns(job, wanted, warmUpMs, notes) {
  const opened = [];
  for (const engine of wanted) {
    try {
      const subject = await engine.open(job);
      const end = performance.now() + warmUpMs;
      let ids;
      do ({ ids } = await subject.run());
      while (!engine.slow && performance.now() < end);
      opened.push({ engine, subject, same: sameIds(ids, job.ids), prefill: [], decode: [] });
    } catch (error) {
      notes.push(`${job.name}: ${engine.name} is left out: ${error.message.split('\n')[0]}`);
    }
  }
  for (let round = 0; round < job.rounds; round++)
    for (const { engine, subject, prefill, decode } of opened) {
      if (engine.slow && round >= job.slowRounds) continue;
      const rates = await subject.run();
      prefill[round] = rates.prefill;
      decode[round] = rates.decode;
    }
  for (const { subject } of opened) await subject.close();
  return opened.map(({ engine, subject, same, prefill, decode }) => ({
    model: job.name,
    engine: [engine.name, subject.detail].filter(Boolean).join(', '),
    prefill,
    decode,
    same,
  }));
}

function sameIds(ids, reference) {
  if (ids === undefined) return undefined;
  const differs = reference.findIndex((id, i) => id !== ids[i]);
  return `${differs < 0 ? reference.length : differs} of ${reference.length}`;
}

// ── Report ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Median of the ratios to another engine in the same rounds; null without it. */
function ratio(result, other, kind) {
  const ratios = result[kind].flatMap((x, round) => (other?.[kind][round] ? [x / other[kind][round]] : []));
  return ratios.length === 0 || other === result ? null : spread(ratios).median;
}

const grouped = x => (x < 100 ? x.toFixed(1) : Math.round(x).toLocaleString('en-US'));
const times = x => (x === null ? '-' : `${x.toFixed(2)}×`);
const range = rates => {
  const { median, min, max } = spread(rates.filter(x => x !== undefined));
  return `${grouped(median)} (${grouped(min)}–${grouped(max)})`;
};
const median = rates => grouped(spread(rates.filter(x => x !== undefined)).median);

function rowsOf(run, cells) {
  return run.results.map(r => {
    const among = run.results.filter(other => other.model === r.model);
    const against = name => among.find(other => other.engine === name);
    return cells(
      r,
      kind => times(ratio(r, against(NATIVE), kind)),
      kind => times(ratio(r, against(WLLAMA), kind)),
    );
  });
}

function text(run) {
  const head = ['model', 'engine', 'prefill tok/s', 'decode tok/s', 'prefill / native', 'decode / native'];
  const rows = rowsOf(run, (r, native, web) => [
    r.model,
    r.engine,
    range(r.prefill),
    range(r.decode),
    native('prefill'),
    native('decode'),
    web('prefill'),
    web('decode'),
    r.same ?? '-',
  ]);
  return table([...head, 'prefill / wllama', 'decode / wllama', 'ids as arena8'], rows);
}

/** Engines down, models across: `decode / prefill`, and below the ratios to native llama.cpp and to wllama. */
function markdown(run) {
  const names = run.jobs.map(j => j.name);
  const engines = [...new Set(run.results.map(r => r.engine))];
  const line = cells => `| ${cells.join(' | ')} |`;
  const body = cellOf =>
    engines.map(engine =>
      line([
        engine,
        ...names.map(m =>
          cellOf(
            run.results.find(r => r.model === m && r.engine === engine),
            m,
          ),
        ),
      ]),
    );
  const head = [line(['', ...names]), line(names.map(() => '---').concat('---'))];
  const reference = (model, name) => run.results.find(r => r.model === model && r.engine === name);
  const ratios = r =>
    [NATIVE, WLLAMA]
      .map(name => ['decode', 'prefill'].map(kind => times(ratio(r, reference(r.model, name), kind))).join(' / '))
      .join(' · ');
  return [
    `${run.host}. Tokens a second, decode / prefill, medians:`,
    '',
    ...head,
    ...body(r => (r ? `${median(r.decode)} / ${median(r.prefill)}` : '-')),
    '',
    'Ratios in the same rounds, decode / prefill, to native llama.cpp (AVX2) · to wllama:',
    '',
    ...head,
    ...body(r => (r ? ratios(r) : '-')),
  ].join('\n');
}

function print(run, { json, markdown: wantsMarkdown }) {
  if (wantsMarkdown) console.log(markdown(run));
  else {
    console.log(`${run.host}\n`);
    for (const { name, prompt, drawn, kv, status } of run.jobs) {
      console.log(
        `${name}: ${prompt.length} prompt tokens, ${drawn} drawn after the first; arena8 keeps keys and values in ${kv}`,
      );
      for (const streamed of status?.match(/^streams .*$/gm) ?? []) console.log(`  ${streamed}`);
    }
    console.log(`\n${text(run)}`);
    console.log(
      '\nids as arena8: greedy ids up to the first that differs; where the best two logits are closer than a rounding, either is right',
    );
  }
  for (const note of run.notes) console.log(note);
  if (json) writeFileSync(json, `${JSON.stringify(run, null, 1)}\n`);
}

const chosen = options();
const host = `${cpus()[0]?.model.trim() ?? 'unknown processor'}, ${process.platform} ${process.arch}, one thread each`;
const run = { host, jobs: [], results: [], notes: [] };
try {
  install();
} catch (error) {
  run.notes.push(`no peers: ${error.message}`);
}
const all = engines();
for (const model of models(chosen.quick).filter(m => chosen.wantsModel(m.name))) {
  const job = jobOf(model);
  run.jobs.push(job);
  const wanted = all.filter(e => chosen.wantsEngine(e.name) && (e.variant === undefined || job[e.variant]));
  run.results.push(...(await turns(job, wanted, chosen.warmUpMs, run.notes)));
}
print(run, chosen);
process.exit(0);
