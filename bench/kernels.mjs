// `npm run bench -- --kernels`: the compute kernels one by one, each build of them, beside this machine's ceilings and beside native C (bench/native,
// where a compiler is there): matrix products of each weight type for one token and for batches, weights going round through an arena-sized set
// and through a tile that stays in the second-level cache, attention over pages of each type of cache, and what lies between products. All take
// turns in short runs; of a run the quickest pass counts and of the runs their median, so that what else the machine does costs all the same.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import process from 'node:process';
import seedrandom from 'seedrandom';
import { allowRelaxedSimd, ceilings } from './ceilings.mjs';
import { table } from './workload.mjs';

const root = new URL('..', import.meta.url).pathname;
const BUILDS = ['simd128', 'relaxed'];
const BATCHES = [1, 2, 4, 8, 32];
const SETS = [
  { name: '7 MiB', bytes: 7 << 20 },
  { name: '256 KiB', bytes: 256 << 10 },
];
const [ROWS, K] = [512, 512];

/** ggml's numbers; bytes of so many values; where a block's halves lie; whether the machine keeps rows in groups. */
const TYPES = {
  Q4_0: { type: 2, values: 32, bytes: 18, halves: [0], grouped: true },
  Q4_1: { type: 3, values: 32, bytes: 20, halves: [0, 2], grouped: true },
  Q5_0: { type: 6, values: 32, bytes: 22, halves: [0] },
  Q8_0: { type: 8, values: 32, bytes: 34, halves: [0], grouped: true },
  Q4_K: { type: 12, values: 256, bytes: 144, halves: [0, 2] },
  Q5_K: { type: 13, values: 256, bytes: 176, halves: [0, 2] },
  Q6_K: { type: 14, values: 256, bytes: 210, halves: [208] },
  F16: { type: 1, values: 1, bytes: 2 },
  BF16: { type: 30, values: 1, bytes: 2 },
  F32: { type: 0, values: 1, bytes: 4 },
};
const F32 = 0;
const ACT_BYTES = { 1: 4, 32: 112, 256: 304 }; // of as many values, by the length of a block
const KV_TYPES = { F32: [0, 4], F16: [1, 2], Q8_0: [8, 34 / 32], Q4_0: [2, 18 / 32] };
const PAGE = 32; // positions

// Where operands lie: the arena's last 7 MiB are weights, or keys and values.
const [ACT, STAGE, OUT, X, UP, SCORES, PAGES] = [0x10000, 0x40000, 0x90000, 0xc0000, 0xc8000, 0xd8000, 0xe0000];
const WEIGHTS = 1 << 20;
const SCALE = 0x8000; // an f32 of attention, or of a norm

const random = seedrandom('kernels');
const floats = n => Float32Array.from({ length: n }, () => random() * 2 - 1);

/** Random blocks: any quants, scales of ± 2^-7 … 2^-6. */
function weightsOf({ type, values, bytes, halves }, total) {
  if (type === F32) return new Uint8Array(floats(total / 4).buffer);
  const data = new Uint8Array(total);
  const words = new Uint32Array(data.buffer, 0, total >> 2);
  for (let i = 0; i < words.length; i++) words[i] = random.int32();
  const half = new DataView(data.buffer);
  const set = (at, exponent) => half.setUint16(at, (half.getUint16(at, true) & 0x83ff) | exponent, true);
  if (values === 1) for (let at = 0; at < total; at += 2) set(at, type === 1 ? 0x2000 : 0x3c00);
  else for (let at = 0; at + bytes <= total; at += bytes) for (const h of halves) set(at + h, 0x2000);
  return data;
}

/** One build in an arena of its own. */
function instance(build) {
  const memory = new WebAssembly.Memory({ initial: 128, maximum: 128 });
  const module = new WebAssembly.Module(readFileSync(`${root}build/kernels.${build}.wasm`));
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  return { build, run: exports, u8: new Uint8Array(memory.buffer), buffer: memory.buffer };
}

const put = (machine, at, data) => machine.u8.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);

/** x as `n` tokens' activations of a type, all alike. */
function putActivations(machine, { type, values }, x, n) {
  put(machine, X, x);
  const step = (x.length / values) * ACT_BYTES[values];
  for (let t = 0; t < n; t++)
    if (type === F32) put(machine, ACT + t * step, x);
    else machine.run.quantize(type, X, x.length, ACT + t * step);
}

/** Matrices of rows × k that follow each other, as the machine keeps them. */
function putWeights(machine, { type, values, bytes, grouped }, data, rows, k) {
  if (!grouped) return void put(machine, WEIGHTS, data);
  const size = ((rows * k) / values) * bytes;
  for (let at = 0; at + size <= data.length; at += size) {
    put(machine, STAGE, data.subarray(at, at + size));
    machine.run.repack(type, STAGE, rows, k, WEIGHTS + at);
  }
}

/** Products with all matrices of a set: what a pass does, and its size. */
function product(name, n, set, rowsMax = ROWS, k = K) {
  const t = TYPES[name];
  const rows = Math.min(rowsMax, 8 * Math.floor(set.bytes / 8 / ((k / t.values) * t.bytes)));
  const size = ((rows * k) / t.values) * t.bytes;
  const count = Math.floor(set.bytes / size);
  const data = weightsOf(t, count * size);
  const x = floats(k);
  const file = 'build/bench/weights.bin';
  return {
    name: `${name} product`,
    n,
    set: set.name,
    multiplyAdds: count * rows * k * n,
    bytes: count * size,
    peak: t.values === 1 ? 'f32' : 'int8',
    prepare(machine) {
      putWeights(machine, t, data, rows, k);
      putActivations(machine, t, x, n);
    },
    native: {
      write: () => writeFileSync(root + file, Buffer.concat([data, new Uint8Array(x.buffer)])),
      args: ms => [t.type, rows, k, n, data.length, ms, root + file].map(String),
      out: { at: OUT, count: rows },
    },
    pass({ run }) {
      const multiply = run[`mul_mat_${name.toLowerCase()}`];
      for (let i = 0; i < count; i++) multiply(WEIGHTS + i * size, rows, k, ACT, n, OUT, rows, 0, 0);
    },
  };
}

/** One token's attention at position `count` − 1; two shapes of heads. */
function attention(name, heads, headsKv, headDim, count) {
  const [type, valueBytes] = KV_TYPES[name];
  const row = headsKv * headDim * valueBytes;
  const values = WEIGHTS + count * row;
  return {
    name: `attention, KV ${name}, ${heads}/${headsKv} heads of ${headDim}`,
    n: 1,
    set: `${count} positions`,
    multiplyAdds: 2 * heads * headDim * count,
    bytes: 2 * count * row,
    peak: 'f32',
    prepare(machine) {
      put(machine, SCALE, Float32Array.of(1 / Math.sqrt(headDim)));
      put(
        machine,
        PAGES,
        Int32Array.from({ length: count / PAGE }, (_, i) => i * PAGE * row),
      );
      for (let p = 0; p < 2 * count; p++) {
        put(machine, X, floats(headsKv * headDim));
        machine.run.kv_store(type, X, headsKv * headDim, WEIGHTS + p * row);
      }
      put(machine, X, floats(heads * headDim));
    },
    pass: ({ run }) =>
      run.attention(type, X, WEIGHTS, values, PAGES, heads, headsKv, headDim, count, SCALE, SCORES, OUT),
  };
}

/** What lies between products, `values` values a pass. */
function between(name, values, pass) {
  const [x, up] = [floats(values), floats(values)];
  return {
    name,
    n: 1,
    set: `${values} values`,
    values,
    prepare(machine) {
      put(machine, SCALE, Float32Array.of(1e-5));
      put(machine, X, x);
      put(machine, UP, up);
    },
    pass: ({ run }) => pass(run, values),
  };
}

/** Gate, up and SiLU of a layer as the plan has them. */
function gated(name, width, hidden, n) {
  const one = product(name, n, SETS[0], 2 * hidden, width);
  const size = ((hidden * width) / TYPES[name].values) * TYPES[name].bytes;
  const count = Math.floor(one.bytes / (2 * size));
  return {
    ...one,
    name: `${name} gate, up, SiLU`,
    native: undefined,
    pass({ run }) {
      const multiply = run[`mul_mat_${name.toLowerCase()}`];
      for (let i = 0; i < count; i++) {
        const w = WEIGHTS + 2 * i * size;
        multiply(w, hidden, width, ACT, n, OUT, hidden, 0, 0);
        multiply(w + size, hidden, width, ACT, n, STAGE, hidden, 0, 0);
        for (let t = 0; t < n; t++)
          run.silu_mul(OUT + 4 * hidden * t, STAGE + 4 * hidden * t, hidden, OUT + 4 * hidden * t);
      }
    },
  };
}

function cases() {
  const list = [];
  for (const set of SETS)
    for (const name of Object.keys(TYPES)) for (const n of BATCHES) list.push(() => product(name, n, set));
  const vocabulary = { name: 'vocabulary', bytes: 4096 * 288 };
  list.push(() => ({ ...product('Q4_0', 1, vocabulary, 4096, 288), name: 'Q4_0 vocabulary' }));
  for (const n of [1, 32]) list.push(() => gated('Q4_0', 288, 768, n));
  for (const name of Object.keys(KV_TYPES)) list.push(() => attention(name, 8, 4, 64, 256));
  for (const name of ['F32', 'F16']) list.push(() => attention(name, 6, 6, 48, 256));
  list.push(
    () =>
      between('norm and quantise', 512, (run, n) => {
        run.rms_norm(X, n, UP, SCALE, OUT);
        run.quantize(TYPES.Q4_0.type, OUT, n, ACT);
      }),
    () => between('SiLU', 768, (run, n) => run.silu_mul(X, UP, n, OUT)),
    () => between('soft_max', 256, (run, n) => run.soft_max(X, n)),
    () => between('repack Q4_0', 512 * 64, (run, n) => run.repack(TYPES.Q4_0.type, WEIGHTS, n / 512, 512, STAGE)),
  );
  return list;
}

/** Compiles bench/native/dot.c for AVX2; its path, or null where that cannot be. */
function compileNative() {
  const out = `${root}build/bench/dot`;
  const source = `${root}bench/native/dot.c`;
  const options = ['-O3', '-mavx2', '-mfma', '-mf16c', '-o', out, source, '-lm'];
  return spawnSync('gcc', options).status === 0 ? out : null;
}

const median = list => list.toSorted((a, b) => a - b)[list.length >> 1];

/** Seconds of the quickest pass in `ms` milliseconds. */
function quickest(machine, work, ms) {
  let best = Infinity;
  for (const end = performance.now() + ms; performance.now() < end;) {
    let passes = 0;
    const start = performance.now();
    do {
      work.pass(machine);
      passes++;
    } while (performance.now() - start < 0.3); // the clock's steps are small beside it
    best = Math.min(best, (performance.now() - start) / passes);
  }
  return best / 1000;
}

/** The native program's answer; it must have computed the same, to the activations' rounding. */
function native(program, work, ms, machine) {
  const r = spawnSync(program, work.native.args(ms), { encoding: 'utf8' });
  if (r.status !== 0) throw new Error(`${program}: status ${r.status}`);
  const { seconds, out } = JSON.parse(r.stdout);
  const ours = new Float32Array(machine.buffer, work.native.out.at, work.native.out.count);
  const size = Math.sqrt(ours.reduce((sum, v) => sum + v * v, 0) / ours.length);
  const wrong = out.findIndex((v, i) => Math.abs(v - ours[i]) > 0.02 * size);
  if (wrong >= 0) throw new Error(`${work.name}: row ${wrong} is ${ours[wrong]}, native ${out[wrong]}`);
  return seconds;
}

/** Measures every case. `only`: a part of its name. */
export async function kernels({ quick, only }) {
  process.chdir(root);
  allowRelaxedSimd();
  mkdirSync(`${root}build/bench`, { recursive: true });
  const ceiling = await ceilings(BUILDS, quick ? 1000 : 4000);
  const machines = ceiling.map(({ build }) => instance(build));
  const program = compileNative();
  const [turns, ms] = quick ? [5, 4] : [11, 12];
  const rows = [];
  for (const make of cases()) {
    const work = make();
    if (only && !work.name.includes(only)) continue;
    const seconds = new Map();
    const add = (engine, s) => seconds.set(engine, [...(seconds.get(engine) ?? []), s]);
    for (const machine of machines) {
      work.prepare(machine);
      quickest(machine, work, 4 * ms); // until it is compiled well
    }
    if (program && work.native) work.native.write();
    for (let turn = 0; turn < turns; turn++) {
      for (const machine of machines) add(machine.build, quickest(machine, work, ms));
      if (program && work.native) add('native', native(program, work, ms, machines[0]));
    }
    const { name, n, set, multiplyAdds, bytes, values, peak } = work;
    rows.push({
      name,
      n,
      set,
      multiplyAdds,
      bytes,
      values,
      peak,
      seconds: Object.fromEntries([...seconds].map(([e, s]) => [e, median(s)])),
    });
  }
  const cpu = cpus()[0]?.model.trim() ?? 'unknown processor';
  return {
    host: `${cpu}, Node ${process.versions.node}, one thread`,
    native: program !== null,
    ceilings: ceiling,
    rows,
  };
}

const giga = x => (x / 1e9).toFixed(1);

/** Rate, and its share of the roofline: of the lower of multiply-adds a second and what the bytes allow. */
function cell(row, engine, ceiling) {
  const s = row.seconds[engine];
  if (s === undefined) return '';
  if (row.values) return `${((s / row.values) * 1e9).toFixed(2)} ns a value`;
  const rate = `${giga(row.multiplyAdds / s)} G  ${giga(row.bytes / s)} GB/s`;
  if (!ceiling) return rate;
  const roof = Math.min(ceiling[row.peak], (ceiling.bandwidth * row.multiplyAdds) / row.bytes);
  return `${rate}  ${((100 * row.multiplyAdds) / s / roof).toFixed(0)} %`;
}

export function print(run, { json }) {
  console.log(run.host);
  for (const c of run.ceilings)
    console.log(
      `ceilings, ${c.build}: ${giga(c.int8)} G int8 and ${giga(c.f32)} G f32 multiply-adds/s, ${giga(c.bandwidth)} GB/s from 7 MiB`,
    );
  console.log(
    'multiply-adds a second, bytes of weights or cache a second, share of the roofline' +
      (run.native ? '; native: C with AVX2, a dot product for each row and token\n' : '\n'),
  );
  const engines = [...run.ceilings.map(c => c.build), ...(run.native ? ['native'] : [])];
  const lines = run.rows.map(row => [
    row.name,
    `${row.n}`,
    row.set,
    ...engines.map(e =>
      cell(
        row,
        e,
        run.ceilings.find(c => c.build === e),
      ),
    ),
    row.seconds.native ? (row.seconds.native / (row.seconds.relaxed ?? row.seconds.simd128)).toFixed(2) : '',
  ]);
  console.log(table(['kernel', 'tokens', 'set', ...engines, 'of native'], lines));
  if (json) writeFileSync(json, `${JSON.stringify(run, null, 1)}\n`);
}
