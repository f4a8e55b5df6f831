// Compiles the compute kernels (AssemblyScript) twice: SIMD128 and relaxed SIMD. No data segments, no runtime, memory imported: the
// module lives in the arena and owns no byte of it.
import asc from 'assemblyscript/asc';
import { mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';

const root = new URL('..', import.meta.url).pathname;
const sourceDir = 'drivers/engine/simd';
const mtime = file => {
  try {
    return statSync(path.join(root, file)).mtimeMs;
  } catch {
    return -1;
  }
};

async function compile(relaxed, out, text) {
  const tmp = `${out}.${process.pid}.tmp`; // two builds at once must not meet
  const options = [
    `--outFile ${tmp}`,
    ...(text ? [`--textFile ${out}.wat`] : []),
    '-O3 --noAssert --runtime stub --use abort=',
    '--importMemory --noExportMemory --initialMemory 128 --maximumMemory 128',
    `--enable simd ${relaxed ? '--enable relaxed-simd' : ''}`, // the sources ask ASC_FEATURE_RELAXED_SIMD
    '--disableWarning 112 --disableWarning 201 --disableWarning 235', // usize is i32 here; what index.ts exports is i32 only
  ];
  const args = [`${sourceDir}/index.ts`, ...options.join(' ').split(/ +/)];
  const { error, stderr } = await asc.main(args, { baseDir: root });
  if (error) throw new Error(`asc: ${error.message}\n${stderr}`);
  renameSync(path.join(root, tmp), path.join(root, out));
}

/** Builds build/kernels.simd128.wasm and build/kernels.relaxed.wasm when a source is newer. */
export async function buildWasm({ force = false } = {}) {
  mkdirSync(path.join(root, 'build'), { recursive: true });
  const sources = [
    ...readdirSync(path.join(root, sourceDir)).map(f => `${sourceDir}/${f}`),
    'drivers/engine/ops.ts',
    'drivers/engine/vocabulary.ts',
    'tools/wasm.mjs',
  ];
  const newest = Math.max(...sources.map(mtime));
  for (const [name, relaxed] of [
    ['simd128', false],
    ['relaxed', true],
  ]) {
    const out = `build/kernels.${name}.wasm`;
    if (!force && mtime(out) > newest) continue;
    rmSync(path.join(root, out), { force: true });
    await compile(relaxed, out, true);
  }
}

if (import.meta.url === `file://${process.argv[1]}`) await buildWasm({ force: process.argv.includes('--force') });
