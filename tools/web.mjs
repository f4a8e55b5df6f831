// `npm run web`: the page into build/web, and a server for it on this host. The folder is all there is to it: any static host serves it, from any
// path. Everything but the page itself, its manifest and its service worker lies in a folder named by the digest of its contents, so files
// of two builds never meet; the service worker knows every file by its SHA-256. What each weighs is printed, models apart.
import { build } from 'esbuild';
import { createHash } from 'node:crypto';
import {
  createReadStream,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { buildParts } from './build.mjs';
import { load } from './load.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const FOLDER = path.join(root, 'build/web');
const sha256 = bytes => createHash('sha256').update(bytes).digest('hex');
const read = file => readFileSync(path.join(root, file));

// ── The files ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Tables of the kernel's interface that a script does not use are left out of it: making them has no effect beside. */
const abiIsPure = {
  name: 'abi is pure',
  setup: b =>
    b.onResolve({ filter: /\.ts$/ }, ({ path: file, resolveDir }) => {
      const found = path.join(resolveDir, file);
      return found.startsWith(path.join(root, 'kernel/abi/')) ? { path: found, sideEffects: false } : undefined;
    }),
};

/** What of the room of trust waits until it is called: boot/web/worker/late-crypto.ts stands in for it. */
const isLate = {
  name: 'is late',
  setup: b =>
    b.onResolve({ filter: /^(?:\.\/ecdsa\.ts|@noble\/ciphers\/chacha\.js)$/ }, ({ importer }) =>
      importer.startsWith(path.join(root, 'trust/'))
        ? { path: path.join(root, 'boot/web/worker/late-crypto.ts') }
        : undefined,
    ),
};

const bundle = {
  absWorkingDir: root,
  bundle: true,
  write: false,
  format: 'esm',
  platform: 'browser',
  target: 'es2023',
  minify: true,
  logLevel: 'warning',
  splitting: true,
  outdir: 'out',
  legalComments: 'none',
  loader: { '.wasm': 'binary' },
  plugins: [abiIsPure, isLate],
};

/** Scripts and style sheets from these entries: name → bytes. */
async function bundled(entryPoints, options = {}) {
  const { outputFiles } = await build({ ...bundle, entryPoints, ...options });
  return outputFiles.map(({ path: file, contents }) => [
    path.relative(path.join(root, 'out'), file),
    Buffer.from(contents),
  ]);
}

/**
 * The machine's script, and the one that it loads when it first needs what is in there: esbuild splits modules, so both are split as modules and then
 * made scripts, the second of which finds what they share as a global of the first.
 */
async function machineScripts(define) {
  const entries = { machine: 'boot/web/worker/main.ts', late: 'boot/web/worker/late.ts' };
  const modules = new Map(await bundled(entries, { chunkNames: 'shared-[hash]', define }));
  const shared = [...modules.keys()].find(name => name.startsWith('shared-'));
  if (modules.size !== 3 || shared === undefined) throw new Error(`the machine splits into ${[...modules.keys()]}`);
  const script = async (contents, sharedText) => {
    const module = (name, text) => ({
      name,
      setup(b) {
        b.onResolve({ filter: new RegExp(`^\\./${name}$`) }, () => ({ path: name, namespace: name }));
        b.onLoad({ filter: /.*/, namespace: name }, () => ({ contents: text }));
      },
    });
    const plugins = [module(shared, sharedText), ...[...modules].map(([name, text]) => module(name, `${text}`))];
    const { outputFiles } = await build({ ...bundle, splitting: false, format: 'iife', plugins, stdin: { contents } });
    return Buffer.from(outputFiles[0].contents);
  };
  const first = `import * as shared from './${shared}'; globalThis.arena8Shared = shared; import './machine.js';`;
  return [
    ['machine.js', await script(first, `${modules.get(shared)}`)],
    ['late.js', await script(`import './late.js';`, 'module.exports = globalThis.arena8Shared;')],
  ];
}

/** The boot image as the page fetches it: its pieces in their order, and the files that they are taken from. */
async function imagePieces() {
  const image = read('build/boot.cpio');
  const { readCpio, isRefusal } = await load('vfs/cpio', 'kernel/abi/index');
  const entries = readCpio(image);
  if (isRefusal(entries)) throw new Error(entries.message);
  const models = entries.filter(e => e.name.endsWith('.gguf'));
  const files = [];
  const pieces = [];
  const rest = [];
  let at = 0;
  const upTo = end => {
    rest.push(image.subarray(at, end));
    pieces.push(['image.cpio.gz', end - at]);
    at = end;
  };
  for (const { name, dataAt, bytes } of models) {
    upTo(dataAt);
    at += bytes;
    files.push([path.basename(name), image.subarray(dataAt, at)]);
    pieces.push([path.basename(name), bytes]);
  }
  upTo(image.length);
  files.push(['image.cpio.gz', gzipSync(Buffer.concat(rest), { level: 9 })]);
  return { pieces, files };
}

/** Everything that is named by the build: name → bytes. */
async function versioned() {
  const image = await imagePieces();
  const define = { IMAGE: JSON.stringify(image.pieces) };
  return new Map([
    ...(await bundled({ page: 'boot/web/page/main.ts' }, { chunkNames: 'page-[hash]' })),
    ...(await bundled({ start: 'boot/web/page/start.ts' }, { splitting: false })),
    ...(await bundled({ worker: 'boot/web/worker/worker.ts' }, { splitting: false, format: 'iife', define })),
    ...(await machineScripts(define)),
    ...['relaxed', 'simd128'].map(name => [`kernels.${name}.wasm`, read(`build/kernels.${name}.wasm`)]),
    ['certificates.json', read('build/certificates.json')],
    ...image.files,
  ]);
}

/** The page with its files where they are. */
function pageOf(version) {
  const html = read('boot/web/page/index.html').toString();
  return html
    .replace('href="page.css"', `href="${version}/page.css"`)
    .replace('src="page.js"', `src="${version}/page.js"`)
    .replace(
      '<link rel="stylesheet"',
      `<script type="module" src="${version}/start.js" async></script>\n    <link rel="stylesheet"`,
    );
}

/**
 * Builds the page into a folder, which it replaces. `extra`: more files of this build, by name.
 * @returns {Promise<Map<string, Buffer>>} its files by path
 */
export async function buildWeb({ folder = FOLDER, extra = [] } = {}) {
  await buildParts();
  const inside = new Map([...(await versioned()), ...extra]);
  const list = [...inside].map(([name, bytes]) => `${sha256(bytes)}  ${name}\n`).sort();
  const version = sha256(list.join('')).slice(0, 16);
  const files = new Map([
    ['index.html', Buffer.from(pageOf(version))],
    ['manifest.webmanifest', read('boot/web/page/manifest.webmanifest')],
    ['icon.svg', read('boot/web/page/icon.svg')],
    ...[...inside].map(([name, bytes]) => [`${version}/${name}`, bytes]),
  ]);
  const kept = [...files].map(([name, bytes]) => [name === 'index.html' ? '' : name, sha256(bytes)]);
  const define = { BUILD: JSON.stringify(version), FILES: JSON.stringify(kept) };
  const [[, worker]] = await bundled({ sw: 'boot/web/offline/sw.ts' }, { define, splitting: false });
  files.set('sw.js', worker);
  replaceFolder(folder, files);
  return files;
}

function replaceFolder(folder, files) {
  const [next, last] = ['next', 'last'].map(name => `${folder}.${process.pid}.${name}`);
  for (const [name, bytes] of files) {
    mkdirSync(path.dirname(path.join(next, name)), { recursive: true });
    writeFileSync(path.join(next, name), bytes);
  }
  if (existsSync(folder)) renameSync(folder, last);
  renameSync(next, folder);
  rmSync(last, { recursive: true, force: true });
}

// ── Weight ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a browser fetches before the first prompt, as names within the build: of the kernels the build that most engines take. */
function beforePrompt(files) {
  const scripts = new Set(['page.js']);
  for (const name of scripts)
    // a set grows while it is gone through: chunks that a script imports at its beginning
    for (const [, chunk] of `${files.get(name)}`.matchAll(/(?:from|import)"\.\/([^"]+)"/g)) scripts.add(chunk);
  const others = ['index.html', 'manifest.webmanifest', 'icon.svg', 'start.js', 'page.css', 'worker.js', 'machine.js'];
  return new Set([...scripts, ...others, 'kernels.relaxed.wasm', 'certificates.json', 'image.cpio.gz']);
}

/** Tables of the files: bytes as they are, and as a server sends them that compresses. */
export function weightReport(built) {
  const files = new Map([...built].map(([name, bytes]) => [path.basename(name), bytes]));
  const isFirst = beforePrompt(files);
  const rows = [...files].map(([name, bytes]) => ({
    name,
    raw: bytes.length,
    gzip: Math.min(bytes.length, gzipSync(bytes, { level: 9 }).length),
  }));
  const line = ({ name, raw, gzip }) => `${name.padEnd(24)}${`${raw}`.padStart(10)}${`${gzip}`.padStart(10)}`;
  const part = (title, of) => {
    const sum = what => of.reduce((n, row) => n + row[what], 0);
    const sums = { name: title, raw: sum('raw'), gzip: sum('gzip') };
    return [...of.sort((x, y) => y.gzip - x.gzip).map(line), line(sums), ''];
  };
  const isModel = ({ name }) => name.endsWith('.gguf');
  return [
    `${'file'.padEnd(24)}${'bytes'.padStart(10)}${'gzip'.padStart(10)}`,
    ...part(
      '= before the prompt',
      rows.filter(r => isFirst.has(r.name)),
    ),
    ...part(
      '= later, or on demand',
      rows.filter(r => !isFirst.has(r.name) && !isModel(r)),
    ),
    ...part('= models', rows.filter(isModel)),
  ].join('\n');
}

// ── The server ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.webmanifest': 'application/manifest+json',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
};

/** What a request for that path gets of the folder: a file, or null. */
function fileOf(folder, base, pathname) {
  if (!pathname.startsWith(base)) return null;
  const file = path.join(folder, pathname.slice(base.length) || 'index.html');
  return file.startsWith(folder + path.sep) && existsSync(file) && statSync(file).isFile() ? file : null;
}

/** The bytes from … to, both included, that a Range header asks for; null: all; undefined: none that there are. */
function rangeOf(header, size) {
  const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(header ?? '') ?? [];
  if (first === undefined || first + last === '') return null;
  const from = first === '' ? Math.max(0, size - Number(last)) : Number(first);
  const to = first === '' || last === '' ? size - 1 : Math.min(Number(last), size - 1);
  return from <= to ? { from, to } : undefined;
}

/**
 * Serves a folder beneath `base` on the loopback interface; port 0: any.
 * @returns {Promise<import('node:http').Server>} listening
 */
export function serve({ folder = FOLDER, port = 0, base = '/' } = {}) {
  const server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    const [pathname] = request.url.split('?', 1); // names of the build need no escapes
    const file = ['GET', 'HEAD'].includes(request.method) ? fileOf(folder, base, pathname) : null;
    if (file === null) return response.writeHead(404, { 'content-type': 'text/plain' }).end('not found\n');
    const { size } = statSync(file);
    // What is named by its build never changes; of the rest a browser asks each time.
    const isNamed = path.dirname(file) !== folder;
    const headers = {
      'content-type': TYPES[path.extname(file)] ?? 'application/octet-stream',
      'cache-control': isNamed ? 'public, max-age=31536000, immutable' : 'no-cache',
      'accept-ranges': 'bytes',
    };
    const range = rangeOf(request.headers.range, size);
    if (range === undefined) return response.writeHead(416, { 'content-range': `bytes */${size}` }).end();
    const { from, to } = range ?? { from: 0, to: size - 1 };
    if (range !== null) headers['content-range'] = `bytes ${from}-${to}/${size}`;
    response.writeHead(range === null ? 200 : 206, { ...headers, 'content-length': to - from + 1 });
    if (request.method === 'HEAD') return response.end();
    return createReadStream(file, { start: from, end: to })
      .on('error', () => response.destroy())
      .pipe(response);
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}

const HELP = `Usage: node tools/web.mjs [--serve] [--port N] [--folder DIR] [--base PATH]
Builds the page into build/web and says what its files weigh.

  --serve       then serve it on this host until Ctrl-C
  --port N      there (default 8088; 0: any that is free)
  --folder DIR  serve that folder as it is, and build nothing
  --base PATH   beneath that path (default /)
`;

function fail(message, status) {
  console.error(`web: ${message}`);
  process.exit(status);
}

function options() {
  try {
    const { values } = parseArgs({
      options: {
        serve: { type: 'boolean', default: false },
        port: { type: 'string', default: '8088' },
        folder: { type: 'string' },
        base: { type: 'string', default: '/' },
        help: { type: 'boolean', default: false },
      },
    });
    const port = /^\d{1,5}$/.test(values.port) ? Number(values.port) : 65536;
    if (port > 65535) fail(`--port: '${values.port}' is not a port`, 2);
    return { ...values, port, base: `/${values.base}/`.replace(/\/+/g, '/') };
  } catch (error) {
    return fail(`${error.message}\nTry 'node tools/web.mjs --help'`, 2);
  }
}

async function main() {
  const { serve: isServed, port, base, help, folder: given } = options();
  if (help) return process.stdout.write(HELP);
  const folder = path.resolve(given ?? FOLDER);
  if (given === undefined) console.log(weightReport(await buildWeb({ folder })));
  else if (!existsSync(path.join(folder, 'index.html')))
    fail(`${folder} has no page: node tools/web.mjs builds one`, 1);
  if (!isServed) return undefined;
  try {
    const server = await serve({ folder, port, base });
    console.log(`arena8 is at http://127.0.0.1:${server.address().port}${base} until Ctrl-C`);
  } catch (error) {
    fail(error.code === 'EADDRINUSE' ? `port ${port} is taken: --port N takes another` : error.message, 1);
  }
  return undefined;
}

if (import.meta.url === `file://${process.argv[1]}`) await main();
