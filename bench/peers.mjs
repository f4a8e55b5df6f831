// `npm run bench:peers`: llama.cpp beside arena8 on the same files, the same prompt ids and one thread each: natively through node-llama-cpp
// (its prebuilt binary), and as WebAssembly through wllama in Chromium. They live in bench/peers with their own lock file and are never
// a dependency of the project. A peer that cannot be had is left out with one line saying why.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { bench, options, print } from './bench.mjs';
import { CONTEXT_CAPACITY, DECODE_TOKENS, spread } from './workload.mjs';

const folder = new URL('peers/', import.meta.url).pathname;
const modules = path.join(folder, 'node_modules');

const mtime = file => (existsSync(file) ? statSync(file).mtimeMs : -1);

function install() {
  if (mtime(path.join(modules, '.package-lock.json')) >= mtime(path.join(folder, 'package-lock.json'))) return;
  console.error('bench: installing node-llama-cpp and wllama into bench/peers (about 100 MB)');
  // No optional packages (GPU builds) and no install scripts: the binary comes inside @node-llama-cpp/linux-x64. Not `npm ci`: it also
  // wants the optional packages of every other platform to be obtainable.
  const args = [
    'install',
    '--no-save',
    '--ignore-scripts',
    '--omit=optional',
    '--no-audit',
    '--no-fund',
    '--loglevel',
    'error',
  ];
  const { status } = spawnSync('npm', args, { cwd: folder, stdio: ['ignore', 2, 2] });
  if (status !== 0) throw new Error('npm could not install the peers');
}

const sameIds = (ids, reference) => {
  const differs = ids.findIndex((id, i) => id !== reference[i]);
  return `${differs < 0 ? ids.length : differs} of ${ids.length}`;
};

/** llama.cpp natively. Its own performance counters are reported: the trips through the JavaScript interface are not charged to it. */
async function nodeLlamaCpp(jobs, repetitions) {
  const { getLlama } = await import(pathToFileURL(path.join(modules, 'node-llama-cpp/dist/index.js')).href);
  const log = [];
  const llama = await getLlama({
    build: 'never',
    skipDownload: true,
    gpu: false,
    maxThreads: 1,
    progressLogs: false,
    logLevel: 'info',
    logger: (_level, message) => log.push(message),
  });
  const counter = name => {
    // `llama_perf_context_print: prompt eval time = 19.55 ms / 224 tokens (…)`
    const m = log.map(l => new RegExp(`: +${name} time = +([0-9.]+) ms / +([0-9]+)`).exec(l)).find(Boolean);
    if (!m) throw new Error(`llama.cpp printed no ${name} time`);
    return (Number(m[2]) / Number(m[1])) * 1000;
  };
  const results = [];
  for (const job of jobs) {
    const model = await llama.loadModel({ modelPath: job.file });
    const context = await model.createContext({
      contextSize: CONTEXT_CAPACITY,
      threads: 1,
      sequences: 1,
      performanceTracking: true,
    });
    const sequence = context.getSequence();
    /** Runs once; returns the ids and llama.cpp's own rate of `what`. */
    const infer = async (prompt, tokens, what) => {
      await sequence.clearHistory();
      const ids = [];
      for await (const id of sequence.evaluate(prompt, { temperature: 0 })) if (ids.push(id) === tokens) break;
      log.length = 0;
      await context.printTimings();
      return { ids, rate: counter(what) };
    };
    const prefill = [];
    const decode = [];
    let ids = [];
    for (let i = -1; i < repetitions; i++) {
      const read = await infer(job.longPrompt, 2, 'prompt eval');
      const wrote = await infer(job.prompt, 1 + DECODE_TOKENS, 'eval');
      ids = wrote.ids;
      if (i < 0) continue; // warm-up
      prefill.push(read.rate);
      decode.push(wrote.rate);
    }
    results.push({
      engine: 'llama.cpp (node-llama-cpp)',
      model: job.model,
      prefill: spread(prefill),
      decode: spread(decode),
      same: sameIds(ids, job.output),
    });
    await context.dispose();
    await model.dispose();
  }
  await llama.dispose();
  return results;
}

const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const CHROMIUM_FLAGS =
  '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync';

/** Files by URL path from the loopback interface, and nothing else. */
async function serve(files) {
  const types = { html: 'text/html', js: 'text/javascript', wasm: 'application/wasm' };
  const server = createServer((request, response) => {
    const name = new URL(request.url, 'http://localhost').pathname;
    const body = files.get(name);
    if (body === undefined) return response.writeHead(404).end();
    const type = types[name.split('.').at(-1)] ?? 'application/octet-stream';
    return response
      .writeHead(200, { 'content-type': type })
      .end(typeof body === 'string' && existsSync(body) ? readFileSync(body) : body);
  });
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  return server;
}

/** llama.cpp as WebAssembly in Chromium; its server core reports the timings. */
async function wllama(jobs, repetitions) {
  const executablePath = CHROMIUM.find(existsSync);
  if (!executablePath) throw new Error('no Chromium here');
  const { default: puppeteer } = await import('puppeteer-core');
  const esm = path.join(modules, '@wllama/wllama/esm');
  const server = await serve(
    new Map([
      ['/index.html', '<!doctype html><title>bench</title>'],
      ['/index.js', path.join(esm, 'index.js')],
      ['/wllama.wasm', path.join(esm, 'wasm/wllama.wasm')],
      ...jobs.map((job, i) => [`/${i}.gguf`, job.file]),
    ]),
  );
  const profile = mkdtempSync(path.join(tmpdir(), 'arena8-bench-'));
  const browser = await puppeteer.launch({
    executablePath,
    headless: true,
    userDataDir: profile,
    args: CHROMIUM_FLAGS.split(' '),
  });
  try {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/index.html`);
    const results = [];
    for (const [i, job] of jobs.entries()) {
      const measured = await page.evaluate(
        async (url, texts, tokens, capacity, times) => {
          const { Wllama } = await import('/index.js');
          const quiet = { debug() {}, log() {}, warn() {}, error() {} };
          const engine = new Wllama(
            { default: '/wllama.wasm' },
            { suppressNativeLog: true, logger: quiet, allowOffline: true },
          );
          const blob = await (await fetch(url)).blob();
          await engine.loadModel([blob], { n_ctx: capacity, n_threads: 1, n_gpu_layers: 0, n_parallel: 1 });
          const infer = async (prompt, max_tokens) =>
            (await engine.createCompletion({ prompt, max_tokens, temperature: 0, cache_prompt: false })).timings;
          const read = [];
          const wrote = [];
          for (let run = -1; run < times; run++) {
            const timings = [await infer(texts.long, 1), await infer(texts.short, 1 + tokens)];
            if (run < 0) continue; // warm-up
            read.push(timings[0]);
            wrote.push(timings[1]);
          }
          const threads = engine.getNumThreads();
          await engine.exit();
          return { read, wrote, threads };
        },
        `/${i}.gguf`,
        { long: job.longText, short: job.text },
        DECODE_TOKENS,
        CONTEXT_CAPACITY,
        repetitions,
      );
      if (measured.threads !== 1) throw new Error(`wllama runs on ${measured.threads} threads`);
      const { prompt_n: promptTokens } = measured.read[0];
      if (promptTokens !== job.longPrompt.length)
        throw new Error(`wllama read ${promptTokens} prompt tokens, not ${job.longPrompt.length}`);
      results.push({
        engine: 'llama.cpp (wllama, Chromium)',
        model: job.model,
        prefill: spread(measured.read.map(t => (t.prompt_n / t.prompt_ms) * 1000)),
        // The first token is the prompt's: its time is in prompt_ms.
        decode: spread(measured.wrote.map(t => ((t.predicted_n - 1) / t.predicted_ms) * 1000)),
      });
    }
    return results;
  } finally {
    await browser.close();
    server.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

const chosen = options();
const run = await bench(chosen);
try {
  install();
  for (const [name, peer] of [
    ['node-llama-cpp', nodeLlamaCpp],
    ['wllama', wllama],
  ]) {
    try {
      run.results.push(...(await peer(run.jobs, chosen.repetitions)));
    } catch (error) {
      run.notes.push(`${name} is left out: ${error.message.split('\n')[0]}`);
    }
  }
} catch (error) {
  run.notes.push(`no peers: ${error.message}`);
}
print(run, chosen);
// node-llama-cpp keeps its thread pool alive.
process.exit(0);
