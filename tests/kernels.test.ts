// The compute device, kernel by kernel, in both builds: against the scalar reference bit for bit over random shapes, against ggml's own
// dequantised tensors, against the specification's worked vectors. Every output lies between guard bytes, and both builds must agree.

import test from 'ava';
import type { ExecutionContext } from 'ava';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import v8 from 'node:v8';
import type { EngineCompute } from '../drivers/engine/compute.ts';
import * as ops from '../drivers/engine/ops.ts';
import { actBytes } from '../drivers/engine/sizes.ts';
import {
  FAULT,
  GGML_BLOCK,
  GGML_TYPE,
  KV_PAGE,
  LIMITS,
  PLAN_RECORD,
  PickRecord,
  RowRecord,
  SAMPLER_MODE,
  SamplerRecord,
  StepBlock,
} from '../kernel/abi/index.ts';
import { walkGguf } from './reference/gguf-walk.ts';
import { BUILDS, canRun } from './harness.ts';
import * as reference from './reference/kernels.ts';
import { TYPES, halvesOf, randomWeights } from './support/weights.ts';

v8.setFlagsFromString('--experimental-wasm-relaxed-simd');

const { TYPE_F32, TYPE_F16, TYPE_BF16, TYPE_Q4_0, TYPE_Q8_0 } = ops;
const BLOCKED = (Object.values(TYPES) as number[]).filter(type => reference.blockOf(type)[0] > 1);
/** The module's exports that engines do not call themselves. */
interface Kernels extends EngineCompute {
  quantize(type: number, xAt: number, k: number, actAt: number): void;
  get_row(type: number, weightsAt: number, rows: number, k: number, row: number, toAt: number, add: number): void;
  rms_norm(xAt: number, n: number, wAt: number, epsAt: number, toAt: number): void;
  layer_norm(xAt: number, n: number, wAt: number, bAt: number, epsAt: number, toAt: number): void;
  rope_table(position: number, pairs: number, frequenciesAt: number, tableAt: number): void;
  rope(xAt: number, heads: number, headDim: number, pairs: number, tableAt: number): void;
  rope_halves(xAt: number, heads: number, headDim: number, pairs: number, tableAt: number): void;
  rope_table_scaled(position: number, pairs: number, frequenciesAt: number, tableAt: number): void;
  scale(xAt: number, n: number, factorAt: number): void;
  add(toAt: number, xAt: number, n: number): void;
  silu_mul(gateAt: number, upAt: number, n: number, toAt: number): void;
  gelu(xAt: number, n: number, toAt: number): void;
  gelu_f16(xAt: number, n: number, toAt: number): void;
  gelu_mul_f16(gateAt: number, upAt: number, n: number, toAt: number): void;
  kv_store(type: number, xAt: number, n: number, toAt: number): number;
  soft_max(xAt: number, n: number): void;
  attention(
    ...[type, qAt, kAt, vAt, tableAt, heads, headsKv, headDim, count, scaleAt, scoresAt, toAt]: [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ]
  ): void;
}
type MulMat = (
  wAt: number,
  rows: number,
  k: number,
  actAt: number,
  n: number,
  toAt: number,
  stride: number,
  biasAt: number,
  add: number,
) => void;

/** One build on an arena of its own. */
class Device {
  readonly name: string;
  readonly u8: Uint8Array;
  readonly view: DataView;
  readonly kernels: Kernels;
  private readonly exports: WebAssembly.Exports;

  constructor(name: string) {
    this.name = name;
    const memory = new WebAssembly.Memory({ initial: 128, maximum: 128 });
    this.u8 = new Uint8Array(memory.buffer);
    this.view = new DataView(memory.buffer);
    this.exports = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(`build/kernels.${name}.wasm`)), {
      env: { memory },
    }).exports;
    this.kernels = this.exports as unknown as Kernels;
  }
  mulMat(type: string): MulMat {
    return this.exports[`mul_mat_${type.toLowerCase()}`] as MulMat;
  }
  f32(at: number, n: number): Float32Array {
    return new Float32Array(this.u8.buffer.slice(at, at + 4 * n));
  }
  put(at: number, data: Float32Array | Float64Array | Uint8Array): void {
    this.u8.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
  }
  /** Runs a kernel whose only output is `bytes` bytes at `at`, and says so if it wrote beside them. */
  guarded(t: ExecutionContext, at: number, bytes: number, action: () => void): void {
    this.u8.fill(GUARD, at - 256, at);
    this.u8.fill(GUARD, at + bytes, at + bytes + 256);
    action();
    for (let i = 1; i <= 256; i++) {
      if (this.u8[at - i] !== GUARD || this.u8[at + bytes + i - 1] !== GUARD)
        return void t.fail(`${this.name}: wrote outside its ${bytes} bytes`);
    }
  }
}
const GUARD = 0xa5;
const devices = BUILDS.filter(canRun).map(build => new Device(build));
const device = devices[0]!;

// Where tests put things.
const [X, W, B, ACT, PACKED, OUT, SCRATCH] = [0x10000, 0x80000, 0x100000, 0x180000, 0x200000, 0x300000, 0x400000];
const TABLE = 0xc00; // a block table

let seed = 1;
/** 32 random bits (xorshift). */
function bits(): number {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return seed >>> 0;
}
const below = (n: number): number => bits() % n;
/** A random permutation of 0 … n − 1. */
function shuffled(n: number): number[] {
  const list = Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = below(i + 1);
    [list[i], list[j]] = [list[j]!, list[i]!];
  }
  return list;
}
const normal = (): number => ((below(65536) + below(65536) + below(65536) + below(65536)) / 65536 - 2) * 1.7;
const floats = (n: number, scale = 1): Float32Array => Float32Array.from({ length: n }, () => normal() * scale);

const weights = (type: number, n: number): Uint8Array => randomWeights(type, n, { below, normal });

const hex = (a: Float32Array): string => Buffer.from(a.buffer, a.byteOffset, a.byteLength).toString('hex');
/** Equal to the bit, and a message naming the first difference. */
function same(t: ExecutionContext, got: Float32Array, want: Float32Array, what: string): void {
  if (hex(got) === hex(want)) return void t.pass();
  const i = got.findIndex((v, j) => !Object.is(v, want[j]));
  t.fail(`${what}: [${i}] = ${got[i]}, reference ${want[i]}`);
}
const near = (t: ExecutionContext, got: ArrayLike<number>, want: readonly number[], tolerance: number): void =>
  want.forEach((w, i) => t.true(Math.abs(got[i]! - w) <= tolerance, `[${i}]: ${got[i]} instead of ${w}`));
const fromHex = (s: string): Uint8Array => Uint8Array.from(Buffer.from(s.replaceAll(' ', ''), 'hex'));

// ── The module ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('the shared constants are those of the ABI', t => {
  const step = StepBlock.at;
  t.deepEqual(
    { ...step },
    {
      status: ops.STEP_STATUS,
      rowsAt: ops.STEP_ROWS_AT,
      n: ops.STEP_N,
      picks: ops.STEP_PICKS,
      draw: ops.STEP_DRAW,
      next: ops.STEP_NEXT,
      historyAt: ops.STEP_HISTORY_AT,
      historyLength: ops.STEP_HISTORY_LENGTH,
      samplerAt: ops.STEP_SAMPLER_AT,
      logitsAt: ops.STEP_LOGITS_AT,
      vocabulary: ops.STEP_VOCABULARY,
      kvAt: ops.STEP_KV_AT,
      ctx: ops.STEP_CTX,
      target: ops.STEP_TARGET,
      picksAt: ops.STEP_PICKS_AT,
      failed: ops.STEP_FAILED,
      logits0: ops.STEP_LOGITS_SUM,
      logits1: ops.STEP_LOGITS_SUM + 4,
      logits2: ops.STEP_LOGITS_SUM + 8,
      logits3: ops.STEP_LOGITS_SUM + 12,
      cycles: ops.STEP_CYCLES,
      loss: ops.STEP_LOSS,
    },
  );
  t.like(RowRecord.at, { token: ops.ROW_TOKEN, pos: ops.ROW_POS, tableAt: ops.ROW_TABLE_AT });
  t.deepEqual({ ...PickRecord.at }, { row: ops.PICK_ROW, fault: ops.PICK_FAULT });
  t.is(PickRecord.bytes, ops.PICK_BYTES);
  t.deepEqual([RowRecord.bytes, KV_PAGE, KV_PAGE], [ops.ROW_BYTES, ops.KV_PAGE, 1 << ops.KV_PAGE_LOG2]);
  t.deepEqual(
    { ...SamplerRecord.at },
    {
      temp: ops.SAMPLER_TEMP,
      topK: ops.SAMPLER_TOP_K,
      topP: ops.SAMPLER_TOP_P,
      minP: ops.SAMPLER_MIN_P,
      repeatPenalty: ops.SAMPLER_REPEAT_PENALTY,
      modes: ops.SAMPLER_MODES,
    },
  );
  t.deepEqual(
    { ...SAMPLER_MODE },
    {
      penalty: ops.SAMPLER_PENALTY_ON,
      greedy: ops.SAMPLER_GREEDY,
      topP: ops.SAMPLER_TOP_P_ON,
      minP: ops.SAMPLER_MIN_P_ON,
    },
  );
  t.true(LIMITS.topLogitsMax <= ops.TOP_K_SMALL);
  t.deepEqual([FAULT.nan, FAULT.badOp], [ops.FAULT_NAN, ops.FAULT_BAD_OP]);
  t.deepEqual(
    { ...PLAN_RECORD },
    {
      bytes: ops.OP_BYTES,
      flags: ops.WORD_FLAGS,
      flagHead: ops.FLAG_HEAD,
      flagRows: ops.FLAG_ROWS,
      tokens: ops.WORD_TOKENS,
      positions: ops.WORD_POSITIONS,
    },
  );
  for (const name of Object.keys(TYPES) as (keyof typeof TYPES)[]) {
    t.is(TYPES[name], GGML_TYPE[name]);
    t.deepEqual(reference.blockOf(TYPES[name]), GGML_BLOCK[name]);
  }
});

test('the module owns no byte: memory imported at 8 MiB, no data, no tables, no start, i32 only at its boundary', t => {
  t.is(devices.length, 2, 'this host runs both builds');
  for (const { name } of devices) {
    const file = readFileSync(`build/kernels.${name}.wasm`);
    const module = new WebAssembly.Module(file);
    t.deepEqual(WebAssembly.Module.imports(module), [{ module: 'env', name: 'memory', kind: 'memory' }]);
    const small = new WebAssembly.Memory({ initial: 127, maximum: 127 });
    t.throws(() => new WebAssembly.Instance(module, { env: { memory: small } }), { instanceOf: WebAssembly.LinkError });
    const sections = wasmSections(file);
    for (const [id, what] of [
      [4, 'table'],
      [8, 'start'],
      [9, 'elements'],
      [11, 'data'],
    ] as const)
      t.false(sections.has(id), `${name} has a ${what} section`);
    for (const type of exportedTypes(file, sections)) t.regex(type, /^(7f)*>(7f)?$/, `${name}: ${type}`);
  }
});

/** Section id → where its contents begin. */
function wasmSections(file: Uint8Array): Map<number, number> {
  const found = new Map<number, number>();
  for (let p = 8; p < file.length;) {
    const id = file[p]!;
    const [size, at] = leb(file, p + 1);
    found.set(id, at);
    p = at + size;
  }
  return found;
}
function leb(file: Uint8Array, p: number): [value: number, next: number] {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = file[p++]!;
    value |= (byte & 127) << shift;
    if (byte < 128) return [value, p];
  }
}
/** Each exported function's type as hex `params>results`. */
function exportedTypes(file: Uint8Array, sections: Map<number, number>): string[] {
  const list = <T>(section: number, entry: (p: number) => [T, number]): T[] => {
    const [n, first] = leb(file, sections.get(section)!);
    let p = first;
    return Array.from({ length: n }, () => {
      const [value, next] = entry(p);
      p = next;
      return value;
    });
  };
  const bytes = (p: number): [string, number] => {
    const [n, at] = leb(file, p);
    return [Buffer.from(file.subarray(at, at + n)).toString('hex'), at + n];
  };
  const types = list(1, p => {
    const [params, middle] = bytes(p + 1);
    const [results, next] = bytes(middle);
    return [`${params}>${results}`, next];
  });
  const functions = list(3, p => leb(file, p));
  const exports = list(7, p => {
    const kindAt = bytes(p)[1];
    const [index, next] = leb(file, kindAt + 1);
    return [file[kindAt] === 0 ? index : -1, next];
  });
  return exports.filter(i => i >= 0).map(i => types[functions[i]!]!);
}

// ── Number formats ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

const around = (x: number): number[] => [x, -x, Math.fround(x * (1 + 2 ** -23)), Math.fround(x * (1 - 2 ** -23))];
test('every half decodes exactly; f32 rounds to half to nearest even', t => {
  const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const want = Float32Array.from(halves, reference.f16ToF32);
  for (const d of devices) {
    d.put(X, new Uint8Array(halves.buffer));
    d.guarded(t, OUT, 4 * 65536, () => t.is(d.kernels.dequantize(TYPE_F16, X, 65536, OUT), 0));
    same(t, d.f32(OUT, 65536), want, d.name);
  }
  const values = Float32Array.from([
    ...[...want].filter(Number.isFinite).flatMap(v => (v === 0 ? [v] : [v, Math.fround(v * 1.00048828125)])), // each half and (nearly) each midpoint
    ...[
      1,
      0.5,
      65504,
      65519,
      65520,
      1e9,
      2 ** -14,
      2 ** -24,
      2 ** -25,
      3 * 2 ** -25,
      1 + 2 ** -11,
      1 + 3 * 2 ** -11,
      1 / 3,
      0.1,
      1e-30,
    ].flatMap(around),
    ...Array.from({ length: 50000 }, () => normal() * 2 ** (below(44) - 26)),
  ]).subarray(0, 120_000);
  for (const d of devices) {
    d.put(X, values);
    d.guarded(t, OUT, 2 * values.length, () => d.kernels.kv_store(TYPE_F16, X, values.length, OUT));
    const wrong = values.findIndex((v, i) => d.view.getUint16(OUT + 2 * i, true) !== reference.f32ToF16(v));
    t.is(wrong, -1, `${d.name}: ${values[wrong]} → ${d.view.getUint16(OUT + 2 * wrong, true)}`);
  }
  const spec = {
    1: '003c',
    0.5: '0038',
    65504: 'ff7b',
    65520: '007c',
    [2 ** -14]: '0004',
    [2 ** -24]: '0100',
    [2 ** -25]: '0000',
    [3 * 2 ** -25]: '0200',
    [1 + 2 ** -11]: '003c',
    [1 + 3 * 2 ** -11]: '023c',
    [1 / 3]: '5535',
    0.1: '662e',
  };
  for (const [x, bytes] of Object.entries(spec)) {
    device.put(X, Float32Array.of(Number(x)));
    device.kernels.kv_store(TYPE_F16, X, 1, OUT);
    t.is(Buffer.from(device.u8.subarray(OUT, OUT + 2)).toString('hex'), bytes, x);
  }
});

test('a cache row says when a value has no finite form in it', t => {
  for (const d of devices) {
    for (const n of [1, 4, 7]) {
      for (const [type, bad] of [
        [TYPE_F16, 65520],
        [TYPE_F16, NaN],
        [TYPE_F32, Infinity],
        [TYPE_F32, NaN],
      ] as const) {
        const x = floats(n);
        d.put(X, x);
        t.is(d.kernels.kv_store(type, X, n, OUT), 1);
        x[n - 1] = bad;
        d.put(X, x);
        t.is(d.kernels.kv_store(type, X, n, OUT), 0);
      }
    }
  }
});

test('the specification’s blocks decode as ggml has it', t => {
  const cases: readonly [number, string, (v: Float32Array) => void][] = [
    [
      TYPE_Q4_0,
      '0034 809191a2a2b3b3c4c4d5d5e6e6f7f7f8',
      v => near(t, v.subarray(0, 5), [-2, -1.75, -1.75, -1.5, -1.5], 0),
    ],
    [TYPE_Q4_0, '0034 809191a2a2b3b3c4c4d5d5e6e6f7f7f8', v => near(t, v.subarray(29), [1.75, 1.75, 1.75], 0)],
    [
      TYPE_Q4_0,
      `0038 01 ${'88'.repeat(15)}`,
      v => near(t, v, [-3.5, ...Array(15).fill(0), -4, ...Array(15).fill(0)], 0),
    ],
    [TYPE_Q4_0, `0080 ${'88'.repeat(16)}`, v => near(t, v, Array(32).fill(0), 0)],
    [
      TYPE_Q8_0,
      '0824 8189 9199 a1a9 b1b9 c0c8 d0d8 e0e8 f0f8 0008 1018 2028 3038 4047 4f57 5f67 6f77',
      v => near(t, v, [-1.999878], 5e-7),
    ],
    [TYPE_Q8_0, '00'.repeat(34), v => near(t, v, Array(32).fill(0), 0)],
  ];
  for (const d of devices) {
    for (const [type, block, check] of cases) {
      d.put(W, fromHex(block));
      d.kernels.dequantize(type, W, 32, OUT);
      check(d.f32(OUT, 32));
    }
    t.is(d.kernels.dequantize(GGML_TYPE.IQ2_XXS, W, 256, OUT), -1, 'a type without kernels is refused');
    // A NaN scale gives canonical NaNs.
    d.put(W, fromHex(`ff ff ${'37'.repeat(16)}`));
    d.kernels.dequantize(TYPE_Q4_0, W, 32, OUT);
    t.is(d.view.getUint32(OUT + 4, true), 0x7fc00000);
  }
});

test('F64 and integers are rounded to f32', t => {
  const values = [0, 1, -1, 100, -128];
  const big = [2 ** 31 - 1, -(2 ** 31)];
  const cases: readonly [number, ArrayBufferView, readonly number[]][] = [
    [ops.TYPE_I8, Int8Array.from(values), values],
    [ops.TYPE_I16, Int16Array.from([...values, -32768, 32767]), [...values, -32768, 32767]],
    [ops.TYPE_I32, Int32Array.from([...values, ...big, 16777217, 16777219]), [...values, ...big, 16777217, 16777219]],
    [ops.TYPE_I64, BigInt64Array.from([5n, -(2n ** 63n), 2n ** 24n + 1n]), [5, -(2 ** 63), 2 ** 24 + 1]],
    [ops.TYPE_F64, Float64Array.from([0.1, -1e300, 1e-320, -0]), [0.1, -1e300, 1e-320, -0]],
  ];
  for (const d of devices)
    for (const [type, data, want] of cases) {
      d.put(W, new Uint8Array(data.buffer));
      d.guarded(t, OUT, 4 * want.length, () => t.is(d.kernels.dequantize(type, W, want.length, OUT), 0));
      same(t, d.f32(OUT, want.length), Float32Array.from(want), `type ${type}`);
      t.is(d.kernels.repack(type, W, 1, want.length, OUT), -1, 'kept as F32, not repacked');
    }
});

const digests = '../shared/vectors/dequant-sha256.json';
(existsSync(digests) ? test : test.skip)('dequantised tensors are llama.cpp’s, by SHA-256', t => {
  const files = JSON.parse(readFileSync(digests, 'utf8')) as Record<
    string,
    Record<string, { type: number; sha256_f32le: string }>
  >;
  let checked = 0;
  for (const [name, tensors] of Object.entries(files)) {
    const file = readFileSync(`../shared/models/${name}`);
    for (const tensor of walkGguf(file)) {
      const { type, sha256_f32le } = tensors[tensor.name]!;
      t.is(tensor.type, type);
      if (!(Object.values(TYPES) as number[]).includes(type)) continue;
      const n = tensor.ne.reduce((a, b) => a * b);
      const hashes = devices.map(() => createHash('sha256'));
      for (let from = 0; from < n; from += 65536) {
        const count = Math.min(65536, n - from);
        const at = tensor.at + reference.bytesOf(type, from);
        devices.forEach((d, i) => {
          d.u8.set(file.subarray(at, at + reference.bytesOf(type, count)), W);
          d.kernels.dequantize(type, W, count, OUT);
          hashes[i]!.update(d.u8.subarray(OUT, OUT + 4 * count));
        });
      }
      for (const h of hashes) t.is(h.digest('hex'), sha256_f32le, `${name} ${tensor.name}`);
      checked++;
    }
  }
  t.log(`${checked} tensors × ${devices.length} builds`);
});

// ── Weights and activations ──────────────────────────────────────────────────────────────────────────────────────────────────────

const randomLength = (type: number): number => {
  const [values] = reference.blockOf(type);
  return values === 1 ? 1 + below(200) : values * (1 + below(values === 32 ? 9 : 3));
};

test('repack keeps the bytes’ number and every row; in pieces as in one', t => {
  for (const [name, type] of Object.entries(TYPES)) {
    for (let i = 0; i < 12; i++) {
      const k = randomLength(type);
      const rows = 1 + below(13);
      const file = weights(type, rows * k);
      for (const d of devices) {
        d.put(W, file);
        d.guarded(t, PACKED, file.length, () => t.is(d.kernels.repack(type, W, rows, k, PACKED), 0));
        const whole = d.u8.slice(PACKED, PACKED + file.length);
        const cut = 4 * below(Math.floor(rows / 4) + 1);
        const cutBytes = reference.bytesOf(type, cut * k);
        d.kernels.repack(type, W, cut, k, PACKED);
        d.kernels.repack(type, W + cutBytes, rows - cut, k, PACKED + cutBytes);
        t.deepEqual(d.u8.slice(PACKED, PACKED + file.length), whole);
        for (let row = 0; row < rows; row++) {
          const want = reference.dequantize(type, file, reference.bytesOf(type, row * k), k);
          d.guarded(t, OUT, 4 * k, () => d.kernels.get_row(type, PACKED, rows, k, row, OUT, 0));
          same(t, d.f32(OUT, k), want, `${name} row ${row} of ${rows} × ${k}`);
          d.kernels.get_row(type, PACKED, rows, k, row, OUT, 1);
          same(
            t,
            d.f32(OUT, k),
            want.map(v => v + v),
            'added',
          );
        }
      }
    }
  }
  t.is(device.kernels.repack(GGML_TYPE.IQ2_XXS, W, 4, 256, PACKED), -1);
});

/** Types that repack() interleaves, and those of files that are so already. */
const INTERLEAVED = new Map([
  [ops.TYPE_Q4_0, ops.TYPE_Q4_0_R4],
  [ops.TYPE_Q4_1, ops.TYPE_Q4_1_R4],
  [ops.TYPE_Q8_0, ops.TYPE_Q8_0_R4],
]);

test('repack counts the scales and values that are not finite', t => {
  for (const type of Object.values(TYPES)) {
    const [rows, k] = [7, 512];
    const file = weights(type, rows * k);
    const [values, size] = reference.blockOf(type);
    const bad = [0, 3, 5, 6];
    for (const row of bad) {
      const at = ((row * k) / values) * size;
      if (type === TYPE_F32) file.set([0, 0, 0x80, 0xff], at);
      else file.set([0x00, type === TYPE_BF16 ? 0x7f : 0x7c], at + (size > 4 ? halvesOf(type).at(-1)! : 0));
      if (type === TYPE_BF16) file[at] = 0x80;
    }
    for (const d of devices) {
      d.put(W, file);
      t.is(d.kernels.repack(type, W, rows, k, PACKED), bad.length);
      const linked = INTERLEAVED.get(type);
      if (linked === undefined) continue;
      d.guarded(t, OUT, file.length, () =>
        t.is(d.kernels.repack(linked, PACKED, rows, k, OUT), bad.length, 'prelinked'),
      );
      t.deepEqual(d.u8.slice(OUT, OUT + file.length), d.u8.slice(PACKED, PACKED + file.length));
    }
  }
});

test('activations are quantised as ggml does', t => {
  for (let i = 0; i < 300; i++) {
    const k = 32 * (1 + below(6));
    const x = floats(k, 10 ** (below(9) - 5));
    if (i === 0) x.fill(0);
    if (i === 1) x.fill(1e-42); // 127/amax overflows
    if (i === 2) x.set(Array.from({ length: 32 }, (_, j) => (j - 16) / 2 + 0.5)); // halves, to even
    if (i === 2) x[0] = 127;
    for (const d of devices) {
      d.put(X, x);
      d.guarded(t, ACT, actBytes(TYPE_Q8_0, k), () => d.kernels.quantize(TYPE_Q8_0, X, k, ACT));
      for (let b = 0; b < k / 32; b++) {
        const p = ACT + b * ops.ACT_BYTES;
        const want = reference.quantizeQ8(x, 32 * b);
        const q16 = Array.from({ length: 32 }, (_, j) => d.view.getInt16(p + ops.ACT_Q16 + 2 * j, true));
        const q8 = Array.from({ length: 32 }, (_, j) =>
          d.view.getInt8(p + ops.ACT_Q8 + (j & ~3) + [0, 2, 1, 3][j & 3]!),
        );
        t.deepEqual([q16, q8], [want.q, want.q]);
        t.is(d.view.getFloat32(p + ops.ACT_D, true), want.d);
        t.is(d.view.getFloat32(p + ops.ACT_S, true), want.s);
        t.is(d.view.getInt32(p + ops.ACT_BIAS, true), -8 * want.q.reduce((a, b) => a + b) || 0);
      }
    }
  }
  for (let i = 0; i < 60; i++) {
    const k = 256 * (1 + below(3));
    const x = floats(k, 10 ** (below(9) - 5));
    if (i === 0) x.fill(0);
    if (i === 1) x.fill(1e-42);
    if (i === 2) [x[9], x[100]] = [99, -99]; // the first of equal magnitudes decides the sign
    if (i === 3) [x[9], x[100]] = [-99, 99];
    for (const d of devices) {
      d.put(X, x);
      d.guarded(t, ACT, actBytes(ops.TYPE_Q4_K, k), () => d.kernels.quantize(ops.TYPE_Q4_K, X, k, ACT));
      for (let b = 0; b < k / 256; b++) {
        const p = ACT + b * ops.SUPER_ACT_BYTES;
        const want = reference.quantizeQ8K(x, 256 * b);
        t.is(d.view.getFloat32(p + ops.SUPER_ACT_D, true), want.d);
        t.deepEqual([...new Int8Array(d.u8.buffer, p + ops.SUPER_ACT_Q, 256)], want.q);
        t.deepEqual([...new Int16Array(d.u8.buffer, p + ops.SUPER_ACT_SUMS, 16)], want.sums);
      }
    }
  }
  for (const [type, round] of [
    [TYPE_F16, reference.roundF16],
    [TYPE_BF16, reference.roundBf16],
  ] as const) {
    for (let k = 1; k < 40; k++) {
      const x = floats(k, 2 ** (below(50) - 30));
      for (const d of devices) {
        d.put(X, x);
        d.guarded(t, ACT, actBytes(type, k), () => d.kernels.quantize(type, X, k, ACT));
        same(t, d.f32(ACT, k), x.map(round), `${k} of type ${type}`);
      }
    }
  }
});

// ── Matrix products ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

for (const [name, type] of Object.entries(TYPES)) {
  test(`mul_mat ${name}: scalar reference = SIMD128 = relaxed, batched = single, to the bit`, t => {
    for (let i = 0; i < 40; i++) {
      const k = i === 0 && !BLOCKED.includes(type) ? 172 : randomLength(type);
      const rows = i < 2 ? 4 : i < 4 ? 16 : 1 + below(14);
      const tokens = 1 + below(9);
      const stride = rows + below(3);
      const file = weights(type, rows * k);
      const x = Array.from({ length: tokens }, () => floats(k, 10 ** (below(5) - 2)));
      const bias = below(2) === 0 ? null : floats(rows);
      const before = below(2) === 0 ? null : floats(tokens * stride);
      const want = new Float32Array(tokens * stride);
      if (before) want.set(before);
      for (let token = 0; token < tokens; token++) {
        for (let row = 0; row < rows; row++) {
          let v = reference.dot(type, file, reference.bytesOf(type, row * k), x[token]!, rows);
          if (bias) v = Math.fround(v + bias[row]!);
          want[token * stride + row] = before ? Math.fround(before[token * stride + row]! + v) : v;
        }
      }
      for (const d of devices) {
        d.put(W, file);
        d.kernels.repack(type, W, rows, k, PACKED);
        if (bias) d.put(B, bias);
        const bytes = actBytes(type, k);
        x.forEach((v, token) => {
          d.put(X, v);
          if (type === TYPE_F32) d.put(ACT + token * bytes, v);
          else d.kernels.quantize(type, X, k, ACT + token * bytes);
        });
        const multiply = d.mulMat(name);
        const what = `${d.name} ${rows} × ${k}, ${tokens} tokens`;
        const start = (): void => d.put(OUT, before ?? new Float32Array(tokens * stride));
        start();
        d.guarded(t, OUT, 4 * tokens * stride, () =>
          multiply(PACKED, rows, k, ACT, tokens, OUT, stride, bias ? B : 0, before ? 1 : 0),
        );
        same(t, d.f32(OUT, tokens * stride), want, what);
        start();
        for (let token = 0; token < tokens; token++) {
          multiply(
            PACKED,
            rows,
            k,
            ACT + token * bytes,
            1,
            OUT + 4 * token * stride,
            stride,
            bias ? B : 0,
            before ? 1 : 0,
          );
        }
        same(t, d.f32(OUT, tokens * stride), want, `${what}, one at a time`);
      }
    }
  });
}

test('a fused addition is rounded once, where twice would differ', t => {
  // 1 + 2^-24 (1 + 2^-36) lies above the middle of two f32; rounded to f64 first it lies on it, and would fall to 1.
  const w = new Float32Array(64);
  const x = new Float32Array(64);
  [w[0], x[0], w[32], x[32]] = [1, 1, 1 + 2 ** -12, 2 ** -24 * (1 - 2 ** -12 + 2 ** -24)];
  t.is(reference.fma(w[32]!, x[32]!, 1), 1 + 2 ** -23);
  for (const sign of [1, -1])
    for (const d of devices) {
      d.put(PACKED, w);
      d.put(
        ACT,
        x.map(v => sign * v),
      );
      d.mulMat('f32')(PACKED, 1, 64, ACT, 1, OUT, 1, 0, 0);
      t.is(d.f32(OUT, 1)[0], sign * (1 + 2 ** -23), d.name);
    }
});

test('extreme operands of the integer products: every weight and activation at its limits', t => {
  const rows = 5;
  for (const [name, type] of Object.entries(TYPES)) {
    if (!BLOCKED.includes(type)) continue;
    const [values, bytes] = reference.blockOf(type);
    const k = 3 * values;
    const x = Float32Array.from({ length: k }, (_, i) => (i % 32 === 7 ? -1 : 1)); // q = ±127
    // Blocks of ones, of zeros, and of both by turns, with scales 1, −1 and 65,504.
    const row = Uint8Array.from(
      [0xff, 0, 0xf0].flatMap(fill => Array.from({ length: bytes }, (_, i) => (fill === 0xf0 ? 0xff * (i % 2) : fill))),
    );
    const view = new DataView(row.buffer);
    [0x3c00, 0xbc00, 0x7bff].forEach((half, b) => {
      for (const offset of halvesOf(type)) view.setUint16(b * bytes + offset, half, true);
    });
    const file = Uint8Array.from(Array.from({ length: rows }, () => [...row]).flat());
    const want = new Float32Array(rows).fill(reference.dot(type, row, 0, x, rows));
    for (const d of devices) {
      d.put(W, file);
      d.put(X, x);
      d.kernels.repack(type, W, rows, k, PACKED);
      d.kernels.quantize(type, X, k, ACT);
      d.mulMat(name)(PACKED, rows, k, ACT, 1, OUT, rows, 0, 0);
      same(t, d.f32(OUT, rows), want, `${d.name} ${name}`);
    }
  }
});

// ── Functions ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The specification's [1,2,3,4] and friends, put at X. */
const at = (d: Device, ...values: number[]): Float32Array => {
  const x = Float32Array.from(values);
  d.put(X, x);
  return x;
};

test('norms: reference bits and the specification’s vectors', t => {
  const eps = 1e-5;
  for (const d of devices) {
    d.put(SCRATCH, Float32Array.of(eps));
    for (let n = 1; n < 90; n++) {
      const [x, w, b] = [floats(n, 3), floats(n), floats(n)];
      d.put(X, x);
      d.put(W, w);
      d.put(B, b);
      for (const [useW, useB] of [
        [1, 1],
        [1, 0],
        [0, 0],
      ] as const) {
        d.guarded(t, OUT, 4 * n, () => d.kernels.rms_norm(X, n, useW * W, SCRATCH, OUT));
        same(t, d.f32(OUT, n), reference.rmsNorm(x, useW ? w : null, eps), `rms_norm ${n}`);
        d.guarded(t, OUT, 4 * n, () => d.kernels.layer_norm(X, n, useW * W, useB * B, SCRATCH, OUT));
        same(t, d.f32(OUT, n), reference.layerNorm(x, useW ? w : null, useB ? b : null, eps), `layer_norm ${n}`);
      }
    }
    at(d, 1, 2, 3, 4);
    d.kernels.layer_norm(X, 4, 0, 0, SCRATCH, OUT);
    near(t, d.f32(OUT, 4), [-1.34163542, -0.44721181, 0.44721181, 1.34163542], 1e-7);
    d.kernels.rms_norm(X, 4, 0, SCRATCH, OUT);
    near(t, d.f32(OUT, 4), [0.36514813, 0.73029626, 1.09544438, 1.46059251], 1.5e-7);
  }
});

test('silu, gelu, add: reference bits, accuracy, the specification’s vector', t => {
  const edge = [0, -0, 0.625, -0.625, 1, -1, 0.7978, 87, -87.4, 88.4, 100, -100, 1e10, -1e10, 1e-30, -1e-40];
  const x = Float32Array.from([...edge, ...floats(20001, 2), ...floats(10000, 30)]);
  const up = floats(x.length);
  for (const d of devices) {
    d.put(X, x);
    d.put(W, up);
    d.guarded(t, OUT, 4 * x.length, () => d.kernels.silu_mul(X, W, x.length, OUT));
    same(t, d.f32(OUT, x.length), reference.siluMul(x, up), 'silu_mul');
    for (let n = 1; n < 20; n++) {
      d.guarded(t, OUT, 4 * n, () => d.kernels.silu_mul(X, W, n, OUT));
      same(t, d.f32(OUT, n), reference.siluMul(x.slice(0, n), up.slice(0, n)), `silu_mul ${n}`);
    }
    d.guarded(t, OUT, 4 * x.length, () => d.kernels.gelu(X, x.length, OUT));
    same(t, d.f32(OUT, x.length), x.map(reference.gelu), 'gelu');
    d.guarded(t, OUT, 4 * x.length, () => d.kernels.gelu_f16(X, x.length, OUT));
    same(t, d.f32(OUT, x.length), x.map(reference.geluF16), 'gelu_f16');
    for (const n of [x.length, 1, 3, 6]) {
      d.guarded(t, OUT, 4 * n, () => d.kernels.gelu_mul_f16(X, W, n, OUT));
      const want = x.slice(0, n).map((v, i) => Math.fround(reference.geluF16(v) * up[i]!));
      same(t, d.f32(OUT, n), want, `gelu_mul_f16 ${n}`);
      d.put(OUT, x.slice(0, n));
      d.put(SCRATCH, Float32Array.of(0.3));
      d.guarded(t, OUT, 4 * n, () => d.kernels.scale(OUT, n, SCRATCH));
      const third = x.slice(0, n).map(v => Math.fround(v * Math.fround(0.3)));
      same(t, d.f32(OUT, n), third, `scale ${n}`);
    }
    d.put(OUT, up);
    d.guarded(t, OUT, 4 * x.length, () => d.kernels.add(OUT, X, x.length));
    same(
      t,
      d.f32(OUT, x.length),
      x.map((v, i) => Math.fround(v + up[i]!)),
      'add',
    );
    at(d, -3, -1, -0.5, 0.5, 1, 2, 3, NaN);
    d.kernels.gelu(X, 8, OUT);
    near(t, d.f32(OUT, 7), [-0.0036374, -0.158808, -0.154286, 0.345714, 0.841192, 1.9545977, 2.9963626], 5e-7);
    t.true(Number.isNaN(d.f32(OUT, 8)[7]), 'NaN stays NaN');
  }
  // Against f64: relative error of silu and exp, absolute error of gelu.
  const worst = { exp: 0, silu: 0, gelu: 0 };
  for (const v of x) {
    if (Math.abs(v) > 80 || v === 0 || Math.abs(v) < 1e-20) continue;
    const u = Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3);
    worst.exp = Math.max(worst.exp, Math.abs(reference.exp(v) / Math.exp(v) - 1));
    worst.silu = Math.max(worst.silu, Math.abs(reference.silu(v) / (v / (1 + Math.exp(-v))) - 1));
    worst.gelu = Math.max(
      worst.gelu,
      Math.abs(reference.gelu(v) - 0.5 * v * (1 + Math.tanh(u))) / Math.max(1, Math.abs(v)),
    );
  }
  t.true(worst.exp < 2.4e-7 && worst.silu < 2.5e-7 && worst.gelu < 4e-7, JSON.stringify(worst));
});

test('rope: frequencies and table to f32’s last bit, rotation to the reference’s bits', t => {
  for (const d of devices) {
    for (const [base, pairs] of [
      [10000, 24],
      [500000, 32],
      [1e6, 5],
      [10000, 1],
    ] as const) {
      d.view.setFloat64(SCRATCH, base, true);
      const factors = Float32Array.from({ length: pairs }, (_, i) => 1 + i / 3);
      d.put(PACKED, factors);
      const factored = pairs === 24;
      d.guarded(t, W, 8 * pairs, () => d.kernels.rope_frequencies(SCRATCH, factored ? PACKED : 0, pairs, W));
      const ratio = Math.fround(base ** Math.fround(-1 / pairs));
      for (const position of [0, 1, 511, 131071]) {
        d.guarded(t, B, 8 * pairs, () => d.kernels.rope_table(position, pairs, W, B));
        const table = d.f32(B, 2 * pairs);
        let angle = position;
        for (let i = 0; i < pairs; i++) {
          t.deepEqual([...d.f32(W + 8 * i, 2)], [ratio, factored ? factors[i] : 1]);
          const divided = factored ? Math.fround(angle / factors[i]!) : angle;
          near(t, table.subarray(2 * i), [Math.cos(divided), Math.sin(divided)], 4e-8);
          angle = Math.fround(angle * ratio);
        }
        const [heads, headDim] = [1 + below(3), 2 * pairs + below(5)];
        const x = floats(heads * headDim);
        for (const halves of [false, true]) {
          d.put(X, x);
          const turn = halves ? d.kernels.rope_halves : d.kernels.rope;
          d.guarded(t, X, 4 * x.length, () => turn(X, heads, headDim, pairs, B));
          const want = Array.from({ length: heads }, (_, h) => [
            ...reference.rope(x.slice(h * headDim, (h + 1) * headDim), table, halves),
          ]);
          same(t, d.f32(X, x.length), Float32Array.from(want.flat()), `rope ${heads} × ${headDim}, ${halves}`);
        }
      }
    }
    d.view.setFloat64(SCRATCH, 10000, true);
    d.kernels.rope_frequencies(SCRATCH, 0, 2, W);
    d.kernels.rope_table(1, 2, W, B);
    at(d, 1, 2, 3, 4);
    d.kernels.rope(X, 1, 4, 2, B);
    near(t, d.f32(X, 4), [-1.14263966, 1.9220756, 2.95985067, 4.0297995], 2.5e-7);
  }
});

test('rope: linear and YaRN scaling', t => {
  const pairs = 20;
  for (const d of devices)
    for (const [factor, amplitude, yarn, context] of [
      [4, 1, 0, 64],
      [4, 1, 1, 4096],
      [3.7, 1.2, 1, 300],
      [0.5, 1, 1, 1e6],
      [2, 1, 1, 3],
    ] as const) {
      const slowing = Math.fround(1 / factor);
      [10000, slowing, Math.fround(amplitude), yarn, context].forEach((v, i) =>
        d.view.setFloat64(SCRATCH + 8 * i, v, true),
      );
      const scalingAt = W + 8 * pairs;
      d.guarded(t, scalingAt, 4 * (2 + pairs), () => d.kernels.rope_scaling(SCRATCH, pairs, scalingAt));
      d.kernels.rope_frequencies(SCRATCH, 0, pairs, W);
      // YaRN: dimension of a wavelength that fits the context β times; 1 before β = 32, 0 after β = 1, a ramp between.
      const dimension = (turns: number): number =>
        (2 * pairs * Math.log(context / (turns * 2 * Math.PI))) / (2 * Math.log(10000));
      const low = Math.max(0, Math.floor(dimension(32)));
      const high = Math.min(2 * pairs - 1, Math.ceil(dimension(1)));
      const share = Array.from({ length: pairs }, (_, i) =>
        yarn === 0 ? 0 : 1 - Math.min(1, Math.max(0, (i - low) / Math.max(0.001, high - low))),
      );
      const growth = amplitude * (yarn === 1 && factor > 1 ? 1 + 0.1 * Math.log(factor) : 1);
      near(t, d.f32(scalingAt, 2 + pairs), [slowing, growth, ...share], 3e-7);
      for (const position of [0, 1, 511]) {
        d.guarded(t, B, 8 * pairs, () => d.kernels.rope_table_scaled(position, pairs, W, B));
        const table = d.f32(B, 2 * pairs);
        for (let i = 0; i < pairs; i++) {
          const full = position * 10000 ** (-i / pairs);
          const angle = full * slowing * (1 - share[i]!) + full * share[i]!;
          near(t, table.subarray(2 * i), [growth * Math.cos(angle), growth * Math.sin(angle)], 1e-4);
        }
      }
    }
});

test('soft_max: reference bits, the specification’s vector, NaN not hidden', t => {
  for (const d of devices) {
    for (let n = 1; n < 300; n += 1 + (n >> 4)) {
      const x = floats(n, 1 + below(60));
      d.put(X, x);
      d.guarded(t, X, 4 * n, () => d.kernels.soft_max(X, n));
      same(t, d.f32(X, n), reference.softMax(x), `soft_max ${n}`);
      t.true(Math.abs(d.f32(X, n).reduce((a, b) => a + b) - 1) < 1e-5);
    }
    at(d, 1, 2, 3);
    d.kernels.soft_max(X, 3);
    near(t, d.f32(X, 3), [0.09003057, 0.24472847, 0.66524096], 1e-7);
    at(d, 1, NaN, 3, 4, 5);
    d.kernels.soft_max(X, 5);
    t.true(d.f32(X, 5).every(Number.isNaN));
  }
});

test('attention: reference bits for F32 and F16 caches wherever their pages lie, grouped and single heads; the specification’s two heads', t => {
  for (const d of devices) {
    for (let i = 0; i < 40; i++) {
      const headsKv = 1 + below(3);
      const heads = headsKv * (1 + below(3));
      const headDim = 1 + below(70);
      const count = 1 + below(i % 4 === 0 ? 140 : 40);
      const n = headsKv * headDim;
      const [q, k, v] = [floats(heads * headDim), floats(count * n), floats(count * n)];
      const type = i % 2 === 0 ? TYPE_F32 : TYPE_F16;
      const pages = shuffled(Math.ceil(count / KV_PAGE) + 2).slice(2); // of a pool of two more
      const pageBytes = reference.bytesOf(type, KV_PAGE * n) + 32;
      pages.forEach((page, p) => d.view.setUint32(TABLE + 4 * p, page * pageBytes, true));
      const put = (values: Float32Array, planeAt: number): void => {
        d.put(SCRATCH, values);
        for (let j = 0; j < count; j++) {
          const to = planeAt + pages[Math.floor(j / KV_PAGE)]! * pageBytes + reference.bytesOf(type, (j % KV_PAGE) * n);
          d.kernels.kv_store(type, SCRATCH + 4 * j * n, n, to);
        }
      };
      d.put(X, q);
      put(k, W);
      put(v, PACKED);
      const scale = 1 / Math.sqrt(headDim);
      d.put(SCRATCH, Float32Array.of(scale));
      const scores = SCRATCH + 1024;
      d.guarded(t, scores, 4 * count, () =>
        d.guarded(t, OUT, 4 * heads * headDim, () =>
          d.kernels.attention(type, X, W, PACKED, TABLE, heads, headsKv, headDim, count, SCRATCH, scores, OUT),
        ),
      );
      const round = type === TYPE_F16 ? reference.roundF16 : (v: number) => v;
      const want = reference.attention(q, k.map(round), v.map(round), heads, headsKv, headDim, count, scale, type);
      same(t, d.f32(OUT, heads * headDim), want, `${heads}/${headsKv} × ${headDim}, ${count} positions`);
    }
    d.view.setUint32(TABLE, 0, true);
    d.put(W, Float32Array.of(1, 1, 0, 0, 1, 0, 1, 1));
    d.put(B, Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    d.put(SCRATCH, Float32Array.of(1 / Math.sqrt(2)));
    at(d, 1, 0, 0, 1);
    d.kernels.attention(TYPE_F32, X, W, B, TABLE, 2, 2, 2, 1, SCRATCH, SCRATCH + 64, OUT);
    near(t, d.f32(OUT, 4), [1, 2, 3, 4], 0);
    at(d, 0, 1, 1, 0);
    d.kernels.attention(TYPE_F32, X, W, B, TABLE, 2, 2, 2, 2, SCRATCH, SCRATCH + 64, OUT);
    near(t, d.f32(OUT, 4), [2.3209538, 3.3209538, 5.6790462, 6.6790462], 5e-7);
  }
});

// ── The executor ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const [STEP, PLAN, ROWS, PICKS, PRICES] = [0x100, 0x1000, 0x800, 0xa00, 0x4000];

/** Writes op records from PLAN on; words by index, all else zero; then END. */
function plan(
  d: Device,
  ...records: readonly (readonly [op: ops.Op, words?: Readonly<Record<number, number>>])[]
): void {
  d.u8.fill(0, PLAN, PLAN + (records.length + 1) * ops.OP_BYTES);
  records.forEach(([op, words], i) => {
    d.view.setInt32(PLAN + i * ops.OP_BYTES, op, true);
    for (const [word, value] of Object.entries(words ?? {}))
      d.view.setInt32(PLAN + i * ops.OP_BYTES + 4 * Number(word), value, true);
  });
}
/** A pass of so many rows, at these positions, and which of them a head reads; of one session, whose block table lies at TABLE. */
function step(
  d: Device,
  {
    at = [0],
    ids = [],
    picks = [0],
    ...fields
  }: Omit<Partial<Parameters<typeof StepBlock.write>[2]>, 'picks'> & {
    readonly at?: readonly number[];
    readonly ids?: readonly number[];
    readonly picks?: readonly number[];
  },
): void {
  at.forEach((pos, i) =>
    RowRecord.write(d.u8, ROWS + i * RowRecord.bytes, { token: ids[i] ?? 0, pos, tableAt: TABLE }),
  );
  picks.forEach((row, i) => PickRecord.write(d.u8, PICKS + i * PickRecord.bytes, { row, fault: 77 }));
  const passed = { n: at.length, rowsAt: ROWS, picks: picks.length, picksAt: PICKS };
  StepBlock.write(d.u8, STEP, { ctx: 16, ...passed, ...fields });
}
const from = (pos: number, n: number): number[] => Array.from({ length: n }, (_, i) => pos + i);

const bits64 = (): bigint => (BigInt(bits()) << 32n) | BigInt(bits());

test('run charges each op for its tokens and the position of each, beyond 2^32 and modulo 2^64', t => {
  const [batch, ctx] = [8, 40];
  for (const d of devices) {
    for (let round = 0; round < 300; round++) {
      // Four ops that do nothing (an addition of 0 values), with prices of their own or shared, row by row or not.
      const rowBytes = 8 * (batch + 1 + ctx);
      const small = below(2) === 0;
      for (let at = PRICES; at < PRICES + 3 * rowBytes; at += 8)
        d.view.setBigUint64(at, small ? BigInt(bits()) * 1000n : bits64(), true);
      const records = Array.from({ length: 4 }, () => {
        const tokens = PRICES + below(3) * rowBytes;
        const flags = [0, ops.FLAG_HEAD, ops.FLAG_ROWS, ops.FLAG_ROWS][below(4)]!;
        return {
          [ops.WORD_FLAGS]: flags,
          [ops.WORD_TOKENS]: tokens,
          [ops.WORD_POSITIONS]: flags === ops.FLAG_ROWS && below(2) === 0 ? tokens + 8 * (batch + 1) : 0,
        };
      });
      plan(d, ...records.map(words => [ops.Op.ADD, words] as const));
      const at = Array.from({ length: 1 + below(batch) }, () => below(ctx));
      const picks = Array.from({ length: 1 + below(batch) }, () => below(at.length));
      const already = below(3) === 0 ? bits64() : 0n;
      step(d, { at, picks, ctx });
      d.view.setBigUint64(STEP + ops.STEP_CYCLES, already, true);
      t.is(d.kernels.run(STEP, PLAN), 0);
      const price = (from: number, i: number): bigint => d.view.getBigUint64(from + 8 * i, true);
      const want = records.reduce((sum, words) => {
        const tokens = words[ops.WORD_FLAGS] === ops.FLAG_HEAD ? picks.length : at.length;
        const positions = words[ops.WORD_POSITIONS] ?? 0;
        const further = positions === 0 ? 0n : at.reduce((all, pos) => all + price(positions, pos), 0n);
        return sum + price(words[ops.WORD_TOKENS] ?? 0, tokens) + further;
      }, already);
      const got = d.view.getBigUint64(STEP + ops.STEP_CYCLES, true);
      if (got !== BigInt.asUintN(64, want))
        return void t.fail(`positions ${at.join()}, picks ${picks.join()}: ${got}, not ${want}`);
    }
  }
});

test('run executes a plan, charges it, and reads the rows a head picks', t => {
  const [k, rows, stride] = [64, 6, 10];
  const file = weights(TYPE_Q8_0, rows * k);
  const ids = [5, 0, 3];
  for (const d of devices) {
    d.put(W, file);
    d.kernels.repack(TYPE_Q8_0, W, rows, k, PACKED);
    plan(
      d,
      [
        ops.Op.GET_ROWS,
        {
          [ops.GetRows.dstAt]: X,
          [ops.GetRows.k]: k,
          [ops.GetRows.weightsAt]: PACKED,
          [ops.GetRows.weightType]: TYPE_Q8_0,
          [ops.GetRows.rows]: rows,
          [ops.WORD_TOKENS]: PRICES,
        },
      ],
      [
        ops.Op.ADD_ROWS,
        {
          [ops.WORD_FLAGS]: ops.FLAG_ROWS,
          [ops.GetRows.dstAt]: X,
          [ops.GetRows.k]: k,
          [ops.GetRows.weightsAt]: PACKED,
          [ops.GetRows.weightType]: TYPE_Q8_0,
          [ops.GetRows.rows]: rows,
          [ops.WORD_TOKENS]: PRICES,
          [ops.WORD_POSITIONS]: PRICES + 64,
        },
      ],
      [
        ops.Op.RMS_NORM,
        {
          [ops.WORD_FLAGS]: ops.FLAG_HEAD | ops.FLAG_ROWS,
          [ops.Norm.dstAt]: B,
          [ops.Norm.n]: k,
          [ops.Norm.srcAt]: X,
          [ops.WORD_TOKENS]: PRICES,
        },
      ],
      [
        ops.Op.QUANTIZE,
        {
          [ops.WORD_FLAGS]: ops.FLAG_HEAD,
          [ops.Quantize.actAt]: ACT,
          [ops.Quantize.k]: k,
          [ops.Quantize.srcAt]: B,
          [ops.Quantize.weightType]: TYPE_Q8_0,
        },
      ],
      [
        ops.Op.MUL_MAT,
        {
          [ops.WORD_FLAGS]: ops.FLAG_HEAD,
          [ops.MulMat.dstAt]: OUT,
          [ops.MulMat.rows]: rows,
          [ops.MulMat.k]: k,
          [ops.MulMat.weightsAt]: PACKED,
          [ops.MulMat.weightType]: TYPE_Q8_0,
          [ops.MulMat.actAt]: ACT,
          [ops.MulMat.dstStride]: stride,
        },
      ],
    );
    const picks = [1, 0];
    step(d, { at: [2, 5, 0], ids, picks });
    [0, 100, 170, 230].forEach((v, i) => d.view.setBigUint64(PRICES + 8 * i, BigInt(v), true));
    [1, 4, 9, 16, 25, 36].forEach((v, i) => d.view.setBigUint64(PRICES + 64 + 8 * i, BigInt(v), true));
    t.is(d.kernels.run(STEP, PLAN), 0);
    // Three tokens: 230; positions 2, 5 and 0: 230 + 9 + 36 + 1; the head's two: 170. The other ops have no price.
    t.is(StepBlock.read(d.u8, STEP).cycles, 230 + 276 + 170);
    const row = (id: number): Float32Array =>
      reference.dequantize(TYPE_Q8_0, file, reference.bytesOf(TYPE_Q8_0, id * k), k);
    for (const [i, pick] of picks.entries()) {
      const hidden = row(ids[pick]!).map((v, j) => Math.fround(v + row([2, 5, 0][pick]!)[j]!));
      const normed = reference.rmsNorm(hidden, null, 0);
      const want = Float32Array.from({ length: rows }, (_, r) =>
        reference.dot(TYPE_Q8_0, file, reference.bytesOf(TYPE_Q8_0, r * k), normed, rows),
      );
      same(t, d.f32(OUT + 4 * i * stride, rows), want, `logits of pick ${i}`);
    }
  }
});

test('run norms, scales and turns heads token by token, over a stride', t => {
  const [heads, headDim, stride, tokens] = [3, 10, 35, 2];
  const x = floats(stride * tokens, 2);
  const w = floats(headDim);
  const row = (i: number, from: number, count: number): Float32Array =>
    x.slice(i * stride + from, i * stride + from + count);
  for (const d of devices) {
    d.put(X, x);
    d.put(W, w);
    plan(
      d,
      [
        ops.Op.RMS_NORM_HEADS,
        {
          [ops.NormHeads.at]: X,
          [ops.NormHeads.heads]: heads,
          [ops.NormHeads.headDim]: headDim,
          [ops.NormHeads.stride]: stride,
          [ops.NormHeads.weightsAt]: W,
        },
      ],
      [
        ops.Op.SCALE,
        { [ops.Scale.at]: X, [ops.Scale.n]: 7, [ops.Scale.stride]: stride, [ops.Scale.factor]: 0x3f000000 },
      ],
    );
    step(d, { at: from(0, tokens) });
    t.is(d.kernels.run(STEP, PLAN), 0);
    const want = Array.from({ length: tokens }, (_, i) => [
      ...Array.from({ length: heads }, (_, h) => [...reference.rmsNorm(row(i, h * headDim, headDim), w, 0)]).flat(),
      ...row(i, heads * headDim, stride - heads * headDim),
    ]).flatMap(values => values.map((v, k) => (k < 7 ? v / 2 : v)));
    same(t, d.f32(X, x.length), Float32Array.from(want), 'heads');
  }
});

test('run faults on what it cannot do, and does nothing more', t => {
  const getRows = {
    [ops.GetRows.dstAt]: X,
    [ops.GetRows.k]: 4,
    [ops.GetRows.weightsAt]: W,
    [ops.GetRows.weightType]: TYPE_F32,
    [ops.GetRows.rows]: 8,
  };
  const kv = {
    [ops.KvStore.srcAt]: X,
    [ops.KvStore.n]: 4,
    [ops.KvStore.srcStride]: 4,
    [ops.KvStore.kvType]: TYPE_F16,
  };
  const cases: readonly [
    string,
    number,
    ops.Op,
    Record<number, number>,
    Partial<{ at: number[]; ids: number[]; flags: number; failed: number }>?,
  ][] = [
    ['unknown op', FAULT.badOp, 99 as ops.Op, {}],
    ['id outside the vocabulary', FAULT.badOp, ops.Op.GET_ROWS, { ...getRows, [ops.GetRows.rows]: 7 }],
    [
      'position outside the table',
      FAULT.badOp,
      ops.Op.ADD_ROWS,
      getRows,
      { at: [3, 8, 2], flags: ops.FLAG_ROWS, failed: 1 },
    ],
    ['unknown weight type', FAULT.badOp, ops.Op.MUL_MAT, { [ops.MulMat.weightType]: 9 }],
    ['unknown rope mode', FAULT.badOp, ops.Op.ROPE, { [ops.Rope.mode]: 2 }],
    ['id far outside the vocabulary', FAULT.badOp, ops.Op.GET_ROWS, getRows, { ids: [0xffff_fff0] }],
    ['position before the table', FAULT.badOp, ops.Op.ADD_ROWS, getRows, { at: [-1], flags: ops.FLAG_ROWS }],
    ['position outside the cache', FAULT.badOp, ops.Op.KV_STORE, kv, { at: [15, 16], flags: ops.FLAG_ROWS, failed: 1 }],
    ['position before the cache', FAULT.badOp, ops.Op.KV_STORE, kv, { at: [-1], flags: ops.FLAG_ROWS }],
    ['both faults', FAULT.badOp, ops.Op.KV_STORE, kv, { at: [16], flags: ops.FLAG_ROWS }],
    ['value beyond half range', FAULT.nan, ops.Op.KV_STORE, kv, { flags: ops.FLAG_ROWS }],
  ];
  for (const d of devices) {
    d.view.setUint32(TABLE, 0, true);
    for (const [what, fault, op, words, { at = [0], ids = at.map(() => 7), flags = 0, failed = 0 } = {}] of cases) {
      d.put(X, Float32Array.of(1, 2, 3, at.length > 1 ? 4 : 1e6, 1, 2, 3, 1e6));
      d.put(B, Float32Array.of(1, 2, 3, 4, 5, NaN, 7));
      d.view.setFloat32(OUT, 5, true);
      plan(
        d,
        [op, { ...words, [ops.WORD_FLAGS]: flags }],
        [
          ops.Op.ADD,
          {
            [ops.Elementwise.dstAt]: OUT,
            [ops.Elementwise.srcAt]: OUT,
            [ops.Elementwise.n]: 1,
          },
        ],
      );
      step(d, { kvAt: SCRATCH, at, ids });
      d.guarded(t, SCRATCH, 16 * 4 * 2, () => t.is(d.kernels.run(STEP, PLAN), fault, what));
      t.like(StepBlock.read(d.u8, STEP), { status: fault, failed });
      t.is(d.view.getFloat32(OUT, true), 5, `${what}: ran on`);
    }
  }
});

test('an op does all its rows, and costs the same, when one of them is a fault; row by row it ends there', t => {
  const matrix = floats(8 * 4);
  const keys = Float32Array.of(4, 5, 6, 7, 1, Infinity, 2, 3, 8, 9, 10, 11);
  for (const d of devices) {
    d.put(W, matrix);
    plan(d, [
      ops.Op.GET_ROWS,
      {
        [ops.GetRows.dstAt]: X,
        [ops.GetRows.k]: 4,
        [ops.GetRows.weightsAt]: W,
        [ops.GetRows.weightType]: TYPE_F32,
        [ops.GetRows.rows]: 8,
      },
    ]);
    step(d, { at: from(0, 3), ids: [9, 3, 0xffff_ffff] });
    d.guarded(t, X, 3 * 16, () => t.is(d.kernels.run(STEP, PLAN), FAULT.badOp));
    const first = [...matrix.subarray(0, 4)];
    t.deepEqual([...d.f32(X, 12)], [...first, ...matrix.subarray(12, 16), ...first]);

    d.put(X, keys);
    plan(d, [
      ops.Op.KV_STORE,
      {
        [ops.WORD_FLAGS]: ops.FLAG_ROWS,
        [ops.KvStore.srcAt]: X,
        [ops.KvStore.n]: 4,
        [ops.KvStore.srcStride]: 4,
        [ops.KvStore.kvType]: TYPE_F32,
      },
    ]);
    d.view.setUint32(TABLE, 4096, true);
    step(d, { at: from(5, 3), kvAt: SCRATCH });
    d.guarded(t, SCRATCH + 4096 + 5 * 16, 32, () => t.is(d.kernels.run(STEP, PLAN), FAULT.nan));
    same(t, d.f32(SCRATCH + 4096 + 5 * 16, 8), keys.subarray(0, 8), 'cache');
    t.is(StepBlock.read(d.u8, STEP).failed, 1);
  }
});

test('keys and values go to the page that a row’s block table names, whatever other rows are in the pass', t => {
  for (const d of devices)
    for (let round = 0; round < 40; round++) {
      const [n, stride, type] = [1 + below(20), 25, [TYPE_F32, TYPE_F16][below(2)]!];
      const [sessions, pages] = [3, shuffled(12)]; // four pages each
      const bytes = reference.bytesOf(type, n);
      const pageBytes = KV_PAGE * bytes + 64;
      pages.forEach((page, i) => d.view.setUint32(TABLE + 4 * i, page * pageBytes, true));
      const places = shuffled(sessions * 4 * KV_PAGE)
        .slice(0, 8)
        .map(i => ({ session: Math.floor(i / (4 * KV_PAGE)), pos: i % (4 * KV_PAGE) }));
      const x = floats(places.length * stride);
      d.put(X, x);
      const plane = 16;
      plan(d, [
        ops.Op.KV_STORE,
        {
          [ops.WORD_FLAGS]: ops.FLAG_ROWS,
          [ops.KvStore.srcAt]: X,
          [ops.KvStore.n]: n,
          [ops.KvStore.srcStride]: stride,
          [ops.KvStore.planeAt]: plane,
          [ops.KvStore.kvType]: type,
        },
      ]);
      step(d, { at: places.map(p => p.pos), kvAt: SCRATCH, ctx: 4 * KV_PAGE });
      places.forEach(({ session }, i) =>
        d.view.setUint32(ROWS + i * ops.ROW_BYTES + ops.ROW_TABLE_AT, TABLE + 16 * session, true),
      );
      const pool = new Uint8Array(12 * pageBytes + 64).fill(GUARD);
      d.put(SCRATCH, pool);
      t.is(d.kernels.run(STEP, PLAN), 0);
      places.forEach(({ session, pos }, i) => {
        const at = plane + pages[session * 4 + Math.floor(pos / KV_PAGE)]! * pageBytes + (pos % KV_PAGE) * bytes;
        d.kernels.kv_store(type, X + 4 * i * stride, n, B);
        pool.set(d.u8.subarray(B, B + bytes), at);
      });
      t.is(Buffer.compare(pool, d.u8.subarray(SCRATCH, SCRATCH + pool.length)), 0, `${n} values, ${type}`);
    }
});

test('a pick whose logits are not finite is told, and the others are looked at all the same', t => {
  const [n, stride] = [7, 9];
  const bad = [NaN, Infinity, -Infinity];
  for (const d of devices) {
    const x = floats(stride * 5);
    bad.forEach((v, i) => (x[stride * (i + 1) + below(n)] = v));
    x[n] = NaN; // behind the first row
    d.put(B, x);
    const words = { [ops.Check.at]: B, [ops.Check.n]: n, [ops.Check.stride]: stride };
    plan(d, [ops.Op.CHECK, { ...words, [ops.WORD_FLAGS]: ops.FLAG_HEAD }]);
    step(d, { at: [0, 1], picks: [1, 0, 0, 1, 0] });
    t.is(d.kernels.run(STEP, PLAN), 0);
    const told = from(0, 5).map(i => PickRecord.read(d.u8, PICKS + i * PickRecord.bytes));
    t.deepEqual(
      told.map(pick => pick.fault),
      [0, FAULT.nan, FAULT.nan, FAULT.nan, 0],
    );
    t.deepEqual(
      told.map(pick => pick.row),
      [1, 0, 0, 1, 0],
    );
  }
});

test('echo makes the stub’s replies certain, token by token, then their end, for each pick its session’s', t => {
  const [n, stride, tableBytes] = [20, 24, 32];
  for (const d of devices) {
    const tables = [B, B + 256];
    [3, 2, 5 /* prompt */, 11, 12, 13].forEach((v, i) => d.view.setUint32(B + tableBytes + 4 * i, v, true));
    [1, 3, 2 /* prompt */, 17].forEach((v, i) => d.view.setUint32(B + 256 + tableBytes + 4 * i, v, true));
    const words = { [ops.Echo.dstAt]: OUT, [ops.Echo.n]: n, [ops.Echo.stride]: stride, [ops.Echo.replyAt]: tableBytes };
    plan(d, [ops.Op.ECHO, { ...words, [ops.WORD_FLAGS]: ops.FLAG_HEAD }]);
    const drawn = [0, 1, 2, 3, 4].map(i => {
      step(d, { at: [i, 4 + i, 1 + i], picks: [2, 1] });
      for (const row of [0, 1, 2])
        d.view.setUint32(ROWS + row * ops.ROW_BYTES + ops.ROW_TABLE_AT, tables[row === 2 ? 1 : 0]!, true);
      d.f32(OUT + 4 * n, stride - n).fill(7);
      d.guarded(t, OUT, 4 * (stride + n), () => t.is(d.kernels.run(STEP, PLAN), 0));
      return [0, 1].map(pick => {
        const logits = d.f32(OUT + 4 * pick * stride, n);
        t.is(
          logits.reduce((a, b) => a + b),
          1,
        );
        return logits.indexOf(1);
      });
    });
    t.deepEqual(drawn, [[17, 11], [3, 12], [3, 13], [3, 2], [3, 2]]); // prettier-ignore
  }
});
