// Measures this machine's ceilings on one thread, in the same engine and process as the bench: int8 and f32 multiply-adds a second from
// the first-level cache, and bytes a second read from an arena-sized set (the roofline of Williams, Waterman and Patterson, 2009).
import asc from 'assemblyscript/asc';
import { mkdirSync, readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';

const root = new URL('..', import.meta.url).pathname;
const SET_BYTES = 7 << 20; // what a full arena reads for one token
const TILE_BYTES = 2048; // bench/ceilings.as.ts

/** Node 20 has relaxed SIMD behind a flag; where it is standard the flag is gone or has no effect. */
export function allowRelaxedSimd() {
  try {
    setFlagsFromString('--experimental-wasm-relaxed-simd');
  } catch {
    // An engine that does not know the flag decides for itself.
  }
}

async function kernels(build) {
  const relaxed = build === 'relaxed';
  const out = `build/bench/ceilings.${build}.wasm`;
  mkdirSync(`${root}build/bench`, { recursive: true });
  const features = `--enable simd ${relaxed ? '--enable relaxed-simd' : ''} --use RELAXED=${relaxed ? 1 : 0}`;
  const args = `bench/ceilings.as.ts --outFile ${out} -O3 --noAssert --runtime stub --initialMemory 128 --maximumMemory 128 ${features}`;
  const { error, stderr } = await asc.main(args.split(/ +/), { baseDir: root });
  if (error) throw new Error(`asc: ${error.message}\n${stderr}`);
  const module = new WebAssembly.Module(readFileSync(root + out));
  return new WebAssembly.Instance(module).exports;
}

/** Best rate of `work()` (units a call) over about `ms` milliseconds after as much warm-up: a ceiling is a maximum. */
function best(units, work, ms) {
  let rate = 0;
  for (const pass of ['warm-up', 'measured']) {
    const end = performance.now() + ms;
    while (performance.now() < end) {
      const start = performance.now();
      work();
      const seconds = (performance.now() - start) / 1000;
      if (pass === 'measured') rate = Math.max(rate, units / seconds);
    }
  }
  return rate;
}

/**
 * Ceilings of one build ('simd128' or 'relaxed'), or null when this engine does not run it.
 * @returns {Promise<{ build: string, int8: number, f32: number, bandwidth: number } | null>} multiply-adds and bytes per second
 */
export async function ceilings(build, ms = 400) {
  let k;
  try {
    k = await kernels(build);
  } catch (error) {
    if (error instanceof WebAssembly.CompileError) return null;
    throw error;
  }
  new Float32Array(k.memory.buffer).fill(1); // ordinary numbers: subnormal ones take a slow path in many processors
  const rounds = 20000;
  const products = rounds * (TILE_BYTES / 16) * 2;
  return {
    build,
    int8: best(products * (build === 'relaxed' ? 16 : 8), () => k.multiply_add_int8(4096, rounds), ms),
    f32: best(products * 4, () => k.multiply_add_f32(4096, rounds), ms),
    bandwidth: best(SET_BYTES, () => k.stream(65536, SET_BYTES), ms),
  };
}
