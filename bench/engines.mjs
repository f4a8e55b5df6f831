// The engines that bench/peers.mjs lets take turns, each in a process of its own: arena8 under several versions of Node and in browsers, llama.cpp
// natively (bench/native/llama.c) and as WebAssembly (wllama in Chromium). All read the same ids on one thread. `open(job)` gives something that
// can `run()`: tokens a second of prefill and decode, and the ids drawn; or it throws one line that says why this engine is not here.
import { build } from 'esbuild';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import puppeteer from 'puppeteer-core';
import { common } from '../tools/build.mjs';
import { benchFolder } from './models.mjs';

const folder = new URL('.', import.meta.url).pathname;
const peers = path.join(folder, 'peers');
const modules = path.join(peers, 'node_modules');
const root = path.join(folder, '..');

const mtime = file => (existsSync(file) ? statSync(file).mtimeMs : -1);

/** Installs what bench/peers/package.json names, when its lock file is newer than what is there. */
export function install() {
  if (mtime(path.join(modules, '.package-lock.json')) >= mtime(path.join(peers, 'package-lock.json'))) return;
  console.error('bench: installing llama.cpp, wllama and two versions of Node into bench/peers (about 500 MB)');
  // No install scripts: binaries come inside the packages. Not `npm ci`: it also wants the optional packages of every other platform.
  const args = '--no-save --ignore-scripts --omit=optional --no-audit --no-fund --loglevel error'.split(' ');
  const { status } = spawnSync('npm', ['install', ...args], { cwd: peers, stdio: ['ignore', 2, 2] });
  if (status !== 0) throw new Error('npm could not install the peers');
}

// ── Processes that answer lines ──────────────────────────────────────────────────────────────────────────────────────────────────

/** A process that says when it is ready, and then answers each line with a line of JSON. */
async function conversation(command, args) {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let errors = '';
  child.stderr.on('data', data => (errors = (errors + data).slice(-2000)));
  const ended = new Promise((_, reject) => {
    child.on('error', reject);
    child.on('close', () => reject(new Error(errors.trim().split('\n').at(-1) || 'it ended without a word')));
  });
  ended.catch(() => {});
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async () => JSON.parse((await Promise.race([lines.next(), ended])).value ?? (await ended));
  await answer();
  return {
    ask(line) {
      child.stdin.write(`${line}\n`);
      return answer();
    },
    close: () => child.kill(),
  };
}

const versionOf = node => spawnSync(node, ['--version'], { encoding: 'utf8' }).stdout?.trim().slice(1) ?? 'missing';

/** arena8 under a Node binary. `variant`: the job's load of that name, of jobs that have one. */
export const arenaInNode = (node, build, variant) => ({
  name: ['arena8', build, variant].filter(Boolean).join(' ') + `, Node ${versionOf(node)}`,
  variant,
  async open(job) {
    const { text, drawn, load } = { ...job, load: job[variant ?? 'load'] };
    const child = await conversation(node, [path.join(folder, 'child.mjs'), build, job.folder, load]);
    return { run: () => child.ask(JSON.stringify([text, drawn])), close: child.close };
  },
});

/** The binary of one of the packages node22, node24 … */
export const nodeOf = version => path.join(modules, `node${version}/bin/node`);

/** llama.cpp from C; backend: `haswell` (AVX2), or `best`, which llama.cpp chooses. */
export const native = (backend, name) => ({
  name,
  async open({ file, prompt, drawn, context }) {
    const libraries = path.join(modules, '@node-llama-cpp/linux-x64/bins/linux-x64');
    const program = await compileNative(libraries);
    const child = await conversation(program, [libraries, backend, file, `${Math.ceil(context / 256) * 256}`]);
    return {
      async run() {
        const { prefill, decode, ids } = await child.ask([1 + drawn, prompt.length, ...prompt].join(' '));
        return { prefill: prompt.length / prefill, decode: drawn / decode, ids };
      },
      close: child.close,
    };
  },
});

function compileNative(libraries) {
  const source = path.join(folder, 'native/llama.c');
  const program = path.join(benchFolder(), 'llama');
  if (mtime(program) > mtime(source)) return program;
  const library = name => readdirSync(libraries).find(f => f.startsWith(`lib${name}.`) && f.endsWith('.so'));
  const defines = ['llama', 'ggml'].map(name => `-DLIB${name.toUpperCase()}="${library(name)}"`);
  const { status } = spawnSync('gcc', ['-O2', ...defines, source, '-o', program, '-ldl'], { stdio: ['ignore', 2, 2] });
  if (status !== 0) throw new Error('there is no gcc here');
  return program;
}

// ── Browsers ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const BROWSERS = {
  chrome: ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'],
  firefox: ['/usr/bin/firefox-esr', '/usr/bin/firefox'],
};
const CHROMIUM_FLAGS =
  '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync';
const TYPES = { html: 'text/html', js: 'text/javascript', wasm: 'application/wasm' };

/** A page in a browser of its own, which is given these files by the loopback interface and nothing else. */
async function page(browserName, files) {
  const executablePath = BROWSERS[browserName].find(existsSync);
  if (!executablePath) throw new Error(`no ${browserName} here`);
  const server = createServer((request, response) => {
    const name = new URL(request.url, 'http://localhost').pathname;
    const body = { '/index.html': '<!doctype html><title>bench</title>', ...files }[name];
    if (body === undefined) return response.writeHead(404).end();
    const type = TYPES[name.split('.').at(-1)] ?? 'application/octet-stream';
    return response
      .writeHead(200, { 'content-type': type })
      .end(typeof body === 'string' && existsSync(body) ? readFileSync(body) : body);
  });
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  const userDataDir = mkdtempSync(path.join(tmpdir(), 'arena8-bench-'));
  const browser = await puppeteer.launch({
    browser: browserName,
    executablePath,
    headless: true,
    userDataDir,
    protocolTimeout: 600_000,
    args: browserName === 'chrome' ? CHROMIUM_FLAGS.split(' ') : [],
  });
  const close = async () => {
    await browser.close();
    server.close();
    rmSync(userDataDir, { recursive: true, force: true });
  };
  try {
    const opened = await browser.newPage();
    await opened.goto(`http://127.0.0.1:${server.address().port}/index.html`);
    return { page: opened, version: await browser.version(), close };
  } catch (error) {
    await close();
    throw error;
  }
}

const PAGE = `
import { Machine, bestBuild } from './boot/machine.ts';
import { PARTS } from './boot/parts.ts';
import { singleFile } from './boot/host-directory.ts';
import { Subject } from './bench/subject.mjs';
const bytes = async url => new Uint8Array(await (await fetch(url)).arrayBuffer());
globalThis.start = async (name, load) => {
  const directory = singleFile(name, await bytes('/model'));
  const machine = new Machine({
    parts: PARTS,
    image: await bytes('/boot.cpio'),
    mounts: [{ guest: '/mnt/bench', directory }],
  });
  globalThis.subject = new Subject(machine, load);
  return bestBuild();
};
`;
/** What the host gives in Node is not there in a page, and not called. */
const noNode = {
  name: 'no node',
  setup(b) {
    b.onResolve({ filter: /^node:/ }, ({ path: name }) => ({ path: name, namespace: 'none' }));
    b.onLoad({ filter: /.*/, namespace: 'none' }, () => ({ contents: 'export default { constants: {} };' }));
  },
};

/** arena8 in a browser, in the build that it takes. */
export const arenaInBrowser = (browserName, name) => ({
  name,
  async open({ file, text, drawn, load }) {
    const bundle = await build({
      ...common,
      banner: {},
      platform: 'browser',
      stdin: { contents: PAGE, resolveDir: root, loader: 'ts' },
      plugins: [...common.plugins, noNode],
      write: false,
    });
    const files = {
      '/page.js': Buffer.from(bundle.outputFiles[0].contents),
      '/boot.cpio': path.join(root, 'build/boot.cpio'),
      '/model': file,
    };
    const { page: opened, close } = await page(browserName, files);
    await opened.evaluate(() => import('/page.js'));
    const chosen = await opened.evaluate((f, l) => globalThis.start(f, l), path.basename(file), load);
    return {
      detail: chosen,
      run: () => opened.evaluate((t, n) => globalThis.subject.measure(t, n), text, drawn),
      close,
    };
  },
});

/** llama.cpp as WebAssembly in Chromium; its server core reports the timings. */
export const wllama = name => ({
  name,
  slow: true,
  async open({ file, text, prompt, drawn, context }) {
    const esm = path.join(modules, '@wllama/wllama/esm');
    const { page: opened, close } = await page('chrome', {
      '/index.js': path.join(esm, 'index.js'),
      '/wllama.wasm': path.join(esm, 'wasm/wllama.wasm'),
      '/model.gguf': file,
    });
    const threads = await opened.evaluate(async capacity => {
      const { Wllama } = await import('/index.js');
      const quiet = { debug() {}, log() {}, warn() {}, error() {} };
      const settings = { suppressNativeLog: true, logger: quiet, allowOffline: true };
      globalThis.engine = new Wllama({ default: '/wllama.wasm' }, settings);
      const blob = await (await fetch('/model.gguf')).blob();
      await globalThis.engine.loadModel([blob], { n_ctx: capacity, n_threads: 1, n_gpu_layers: 0, n_parallel: 1 });
      return globalThis.engine.getNumThreads();
    }, context);
    if (threads !== 1) throw new Error(`wllama runs on ${threads} threads`);
    return {
      async run() {
        const timings = await opened.evaluate(
          async (request, tokens) =>
            (
              await globalThis.engine.createCompletion({
                prompt: request,
                max_tokens: tokens,
                temperature: 0,
                cache_prompt: false,
              })
            ).timings,
          text,
          1 + drawn,
        );
        if (timings.prompt_n !== prompt.length)
          throw new Error(`wllama read ${timings.prompt_n} prompt tokens, not ${prompt.length}`);
        // The first token is the prompt's: its time is in prompt_ms.
        return {
          prefill: (timings.prompt_n / timings.prompt_ms) * 1000,
          decode: ((timings.predicted_n - 1) / timings.predicted_ms) * 1000,
        };
      },
      close,
    };
  },
});
