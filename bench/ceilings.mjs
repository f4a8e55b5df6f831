// Measures this machine's ceilings on one thread, in the same engine and process as the bench: int8 and f32 multiply-adds a second from
// the first-level cache, and bytes a second read from an arena-sized set (the roofline of Williams, Waterman and Patterson, 2009).
import asc from 'assemblyscript/asc';
import { mkdirSync, readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';

const root = new URL('..', import.meta.url).pathname;
const SET_BYTES = 7 << 20; // what a full arena reads for one token
const TILE_BYTES = 2048; // bench/ceilings.as.ts
const TURNS = 10; // calls in a row: the second finds in the caches what the first left there, as the next token does

/** Node 20 has relaxed SIMD behind a flag; where it is standard the flag is gone or has no effect. */
export function allowRelaxedSimd() {
  try {
    setFlagsFromString('--experimental-wasm-relaxed-simd');
  } catch {
    // An engine that does not know the flag decides for itself.
  }
}

/** The exports of bench/ceilings.as.ts compiled for a build, or null when this engine does not run it. */
async function kernels(build) {
  const relaxed = build === 'relaxed';
  const out = `build/bench/ceilings.${build}.wasm`;
  mkdirSync(`${root}build/bench`, { recursive: true });
  const features = `--enable simd ${relaxed ? '--enable relaxed-simd' : ''} --use RELAXED=${relaxed ? 1 : 0}`;
  const args = `bench/ceilings.as.ts --outFile ${out} -O3 --noAssert --runtime stub --initialMemory 128 --maximumMemory 128 ${features}`;
  const { error, stderr } = await asc.main(args.split(/ +/), { baseDir: root });
  if (error) throw new Error(`asc: ${error.message}\n${stderr}`);
  const bytes = readFileSync(root + out);
  if (!WebAssembly.validate(bytes)) return null;
  return new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports;
}

/**
 * Ceilings of the builds ('simd128', 'relaxed') that this engine runs. The kernels take turns for `ms` milliseconds and the highest rate of each
 * counts: a ceiling is a maximum, and a moment in which the machine was busy elsewhere then costs all of them the same.
 * @returns {Promise<{ build: string, int8: number, f32: number, bandwidth: number }[]>} multiply-adds and bytes per second
 */
export async function ceilings(builds, ms) {
  const found = [];
  const works = [];
  for (const build of builds) {
    const k = await kernels(build);
    if (k === null) continue;
    new Float32Array(k.memory.buffer).fill(1); // ordinary numbers: subnormal ones take a slow path in many processors
    const rounds = 20000;
    const products = rounds * (TILE_BYTES / 16) * 2;
    const ceiling = { build, int8: 0, f32: 0, bandwidth: 0 };
    found.push(ceiling);
    works.push(
      {
        ceiling,
        kind: 'int8',
        units: products * (build === 'relaxed' ? 16 : 8),
        work: () => k.multiply_add_int8(4096, rounds),
      },
      { ceiling, kind: 'f32', units: products * 4, work: () => k.multiply_add_f32(4096, rounds) },
      { ceiling, kind: 'bandwidth', units: SET_BYTES, work: () => k.stream(65536, SET_BYTES) },
    );
  }
  for (const end = performance.now() + ms; performance.now() < end;)
    for (const { ceiling, kind, units, work } of works)
      for (let turn = 0; turn < TURNS; turn++) {
        const start = performance.now();
        work();
        ceiling[kind] = Math.max(ceiling[kind], (units * 1000) / (performance.now() - start));
      }
  return found;
}
