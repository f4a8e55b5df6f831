// Compiles the compute kernels (AssemblyScript) twice: SIMD128 and relaxed SIMD. No data segments, no runtime, memory imported: the
// module lives in the arena and owns no byte of it. What comes out is the program that is certified, build/kernels.*.plain.wasm; the
// machine runs build/kernels.*.wasm, the same with its data-dependent kernels metered.
import asc from 'assemblyscript/asc';
import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { load } from './load.mjs';

const root = new URL('..', import.meta.url).pathname;
const sourceDir = 'drivers/engine/simd';
const mtime = file => {
  try {
    return statSync(path.join(root, file)).mtimeMs;
  } catch {
    return -1;
  }
};

/** What the compiler is told. */
export function compilerArguments(relaxed, out) {
  const options = [
    `--outFile ${out}`,
    '-O3 --noAssert --runtime stub --use abort=',
    '--importMemory --noExportMemory --initialMemory 128 --maximumMemory 128',
    `--enable simd ${relaxed ? '--enable relaxed-simd' : ''}`, // the sources ask ASC_FEATURE_RELAXED_SIMD
    '--disableWarning 112 --disableWarning 201 --disableWarning 235', // usize is i32 here; what index.ts exports is i32 only
  ];
  return [`${sourceDir}/index.ts`, ...options.join(' ').split(/ +/)];
}

async function compile(relaxed, out) {
  const tmp = `${out}.${process.pid}.tmp`; // two builds at once must not meet
  const args = [...compilerArguments(relaxed, tmp), '--textFile', `${out}.wat`];
  const { error, stderr } = await asc.main(args, { baseDir: root });
  if (error) throw new Error(`asc: ${error.message}\n${stderr}`);
  renameSync(path.join(root, tmp), path.join(root, out));
}

const BUILDS = ['simd128', 'relaxed'];
export const plainModule = name => `build/kernels.${name}.plain.wasm`;
export const meteredModule = name => `build/kernels.${name}.wasm`;

/** The rewriter: meterModule and what it is told. */
const rewriter = () => load('kernel/wcet/kernels', 'kernel/wcet/meter', 'kernel/wcet/wasm');

/** One build's module, metered. */
export function meter(wcet, name) {
  const bytes = readFileSync(path.join(root, plainModule(name)));
  const module = wcet.decodeModule(bytes);
  return wcet.meterModule(bytes, module, wcet.meteredKernels(module));
}

/** Writes the metered modules. Both builds charge the relaxed one's prices, block by block, so their blocks must correspond. */
async function meterAll() {
  const wcet = await rewriter();
  const [simd128, relaxed] = BUILDS.map(name => meter(wcet, name));
  const difference = wcet.skeletonsDiffer(simd128.skeletons, relaxed.skeletons);
  if (difference !== null) throw new Error(`metered kernels of simd128 and relaxed differ: ${difference}`);
  for (const [i, { bytes }] of [simd128, relaxed].entries()) {
    const out = path.join(root, meteredModule(BUILDS[i]));
    const tmp = `${out}.${process.pid}.tmp`;
    writeFileSync(tmp, bytes);
    renameSync(tmp, out);
  }
}

export const sha256Module = 'build/sha256.wasm';

/** SHA-256 for hosts without one; it is no kernel of the machine's and is not priced. */
async function buildSha256() {
  const source = 'boot/web/sha256.as.ts';
  if (mtime(sha256Module) > Math.max(mtime(source), mtime('tools/wasm.mjs'))) return;
  const tmp = `${sha256Module}.${process.pid}.tmp`;
  const args = `${source} --outFile ${tmp} -O3 --noAssert --runtime stub --initialMemory 1 --maximumMemory 1`;
  const { error, stderr } = await asc.main(args.split(' '), { baseDir: root });
  if (error) throw new Error(`asc: ${error.message}\n${stderr}`);
  renameSync(path.join(root, tmp), path.join(root, sha256Module));
}

/** Builds the modules of both builds, plain and metered, where a source is newer. */
export async function buildWasm({ force = false } = {}) {
  mkdirSync(path.join(root, 'build'), { recursive: true });
  await buildSha256();
  const sources = [
    ...readdirSync(path.join(root, sourceDir)).map(f => `${sourceDir}/${f}`),
    'drivers/engine/ops.ts',
    'drivers/engine/vocabulary.ts',
    'tools/wasm.mjs',
  ];
  const newest = Math.max(...sources.map(mtime));
  for (const name of BUILDS) {
    const out = plainModule(name);
    if (!force && mtime(out) > newest) continue;
    rmSync(path.join(root, out), { force: true });
    await compile(name === 'relaxed', out);
  }
  const meterSources = ['encode', 'kernels', 'meter', 'wasm'].map(f => `kernel/wcet/${f}.ts`);
  const stale = Math.max(...[...BUILDS.map(plainModule), ...meterSources, 'tools/wasm.mjs'].map(mtime));
  if (force || BUILDS.some(name => mtime(meteredModule(name)) <= stale)) await meterAll();
}

if (import.meta.url === `file://${process.argv[1]}`) await buildWasm({ force: process.argv.includes('--force') });
