// Keys and values in blocks, Q8_0 and Q4_0: rows as ggml's reference quantisers write them, attention equal to the bit to attention over an F32
// cache of the dequantised values, whole models against the f64 forward pass, and what a machine says of such a cache. There is no vector of
// llama.cpp for these types: its attention rounds queries to Q8_0 first, this one does not.

import test from 'ava';
import { readFileSync } from 'node:fs';
import type { EngineCompute } from '../drivers/engine/compute.ts';
import { KV_PAGE } from '../kernel/abi/index.ts';
import { GGML_TYPE, ggmlTypeName } from '../kernel/abi/index.ts';
import { BUILDS, canRun, random, Rig } from './harness.ts';
import { encode } from './reference/encode.ts';
import * as reference from './reference/kernels.ts';

const soak = process.env['ARENA8_SOAK'] === '1';
const { F32, F16, Q8_0, Q4_0 } = GGML_TYPE;
const BLOCKED = [Q8_0, Q4_0];

// ── Kernels ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Kernels extends EngineCompute {
  kv_store(type: number, xAt: number, n: number, toAt: number): number;
  attention(
    type: number,
    qAt: number,
    kAt: number,
    vAt: number,
    tableAt: number,
    heads: number,
    headsKv: number,
    headDim: number,
    count: number,
    scaleAt: number,
    scoresAt: number,
    toAt: number,
  ): void;
}
const rigs = BUILDS.filter(canRun).map(build => new Rig(build));
const kernelsOf = (rig: Rig): Kernels => rig.compute as unknown as Kernels;

// Where tests put things.
const [X, SCALE, SCORES, OUT, TABLE, POOL] = [0x1000, 0x8000, 0x9000, 0x10000, 0x18000, 0x20000];

const next = random(41);
const below = (n: number): number => Math.floor(next() * n);
const normal = (): number => (next() + next() + next() + next() - 2) * 1.7;
const floats = (n: number, scale = 1): Float32Array => Float32Array.from({ length: n }, () => normal() * scale);
const bytesOf = (rig: Rig, at: number, n: number): string =>
  Buffer.from(rig.arena.u8.subarray(at, at + n)).toString('hex');
const hex = (x: Float32Array): string => Buffer.from(x.buffer, x.byteOffset, x.byteLength).toString('hex');
/** What a row of these values is worth once it is stored. */
const kept = (type: number, x: Float32Array): Float32Array =>
  reference.dequantize(type, encode(ggmlTypeName(type)!, x), 0, x.length);

test('rows are stored as ggml’s reference quantisers write them, and nothing beside', t => {
  for (const rig of rigs)
    for (const type of BLOCKED)
      for (let i = 0; i < (soak ? 4000 : 400); i++) {
        const n = 32 * (1 + below(6));
        const x = floats(n, 2 ** (below(40) - 30));
        if (i % 5 === 0) x.fill(0, 0, 32); // a block of zeros
        if (i % 5 === 1)
          x.set(
            x.subarray(0, 16).map(v => -v),
            16,
          ); // two values farthest from 0
        const bytes = reference.bytesOf(type, n);
        rig.arena.f32.set(x, X >> 2);
        rig.arena.u8.fill(0xa5, OUT - 64, OUT + bytes + 64);
        t.is(kernelsOf(rig).kv_store(type, X, n, OUT), 1);
        t.is(bytesOf(rig, OUT, bytes), Buffer.from(encode(ggmlTypeName(type)!, x)).toString('hex'));
        t.is(bytesOf(rig, OUT - 64, 64) + bytesOf(rig, OUT + bytes, 64), 'a5'.repeat(128));
      }
});

test('a row says when a value or a scale of it is not finite', t => {
  // The largest scale of a half is 65,504, and 65,520 rounds to infinity; a block holds 127 scales one way, or 8.
  const largest = { [Q8_0]: 65504 * 127, [Q4_0]: 65504 * 8 };
  const tooLarge = { [Q8_0]: 65520 * 127, [Q4_0]: 65520 * 8 };
  for (const rig of rigs)
    for (const type of BLOCKED)
      for (const [value, finite] of [
        [largest[type]!, 1],
        [-largest[type]!, 1],
        [tooLarge[type]!, 0],
        [-tooLarge[type]!, 0],
        [Infinity, 0],
        [-Infinity, 0],
        [NaN, 0],
      ] as const)
        for (const i of [0, 5, 31, 32, 63]) {
          const x = floats(64);
          x[i] = value;
          rig.arena.f32.set(x, X >> 2);
          t.is(kernelsOf(rig).kv_store(type, X, 64, OUT), finite, `${ggmlTypeName(type)}: ${value} at ${i}`);
        }
});

interface Shape {
  readonly heads: number;
  readonly headsKv: number;
  readonly headDim: number;
  readonly count: number;
}

/** Stores K and V in pages that lie scattered, and runs attention over them. */
function attend(
  rig: Rig,
  type: number,
  { heads, headsKv, headDim, count }: Shape,
  [q, k, v]: readonly Float32Array[],
): Float32Array {
  const { arena } = rig;
  const n = headsKv * headDim;
  const row = reference.bytesOf(type, n);
  const pages = Math.ceil(count / KV_PAGE);
  const order = Array.from({ length: pages }, (_, i) => i).sort(() => next() - 0.5);
  const pageAt = (i: number): number => order[i]! * 2 * KV_PAGE * row;
  for (let i = 0; i < pages; i++) arena.u32[(TABLE >> 2) + i] = pageAt(i);
  const vPlane = KV_PAGE * row;
  for (let j = 0; j < count; j++) {
    const at = POOL + pageAt(Math.floor(j / KV_PAGE)) + (j % KV_PAGE) * row;
    for (const [x, plane] of [
      [k!, 0],
      [v!, vPlane],
    ] as const) {
      arena.f32.set(x.subarray(j * n, (j + 1) * n), X >> 2);
      kernelsOf(rig).kv_store(type, X, n, at + plane);
    }
  }
  arena.f32.set(q!, X >> 2);
  arena.f32[SCALE >> 2] = 1 / Math.sqrt(headDim);
  kernelsOf(rig).attention(type, X, POOL, POOL + vPlane, TABLE, heads, headsKv, headDim, count, SCALE, SCORES, OUT);
  return arena.f32.slice(OUT >> 2, (OUT >> 2) + heads * headDim);
}

/** The same in f64, with nothing rounded on the way. */
function attention64({ heads, headsKv, headDim, count }: Shape, [q, k, v]: readonly Float32Array[]): Float64Array {
  const out = new Float64Array(heads * headDim);
  const n = headsKv * headDim;
  for (let h = 0; h < heads; h++) {
    const at = Math.floor(h / (heads / headsKv)) * headDim;
    const scores = Array.from({ length: count }, (_, j) => {
      let sum = 0;
      for (let i = 0; i < headDim; i++) sum += q![h * headDim + i]! * k![j * n + at + i]!;
      return sum / Math.sqrt(headDim);
    });
    const largest = Math.max(...scores);
    const total = scores.reduce((sum, s) => sum + Math.exp(s - largest), 0);
    for (let j = 0; j < count; j++)
      for (let i = 0; i < headDim; i++)
        out[h * headDim + i]! += (Math.exp(scores[j]! - largest) / total) * v![j * n + at + i]!;
  }
  return out;
}

test('attention over blocks is attention over an F32 cache of their values, to the bit; and near f64', t => {
  let worst = 0;
  for (let i = 0; i < (soak ? 2000 : 120); i++) {
    const headsKv = 1 + below(3);
    const shape = { headsKv, heads: headsKv * (1 + below(3)), headDim: 32 * (1 + below(4)), count: 1 + below(150) };
    const type = BLOCKED[i % 2]!;
    const rows = (count: number): Float32Array => floats(count * headsKv * shape.headDim, 2 ** (below(9) - 4));
    const [q, k, v] = [floats(shape.heads * shape.headDim), rows(shape.count), rows(shape.count)];
    const values = [q, kept(type, k), kept(type, v)] as const;
    const outs = rigs.flatMap(rig => [attend(rig, type, shape, [q, k, v]), attend(rig, F32, shape, values)]);
    const what = `${ggmlTypeName(type)} ${JSON.stringify(shape)}`;
    t.deepEqual(
      outs.map(hex),
      Array.from(outs, () => hex(outs[0]!)),
      what,
    );
    const { heads, headDim, count } = shape;
    const scalar = reference.attention(...values, heads, headsKv, headDim, count, 1 / Math.sqrt(headDim), F32);
    t.is(hex(outs[0]!), hex(scalar), what);
    const exact = attention64(shape, values);
    const size = exact.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    const error = exact.reduce((most, x, j) => Math.max(most, Math.abs(x - outs[0]![j]!)), 0) / size;
    worst = Math.max(worst, error);
    t.true(error < 1e-4, `${what}: ${error}`);
  }
  t.log(`worst distance from f64 ${worst.toExponential(1)} of the largest value`);
});

test('queries are not rounded for a cache of blocks, as they are for one of halves', t => {
  const shape = { heads: 1, headsKv: 1, headDim: 32, count: 2 };
  const q = new Float32Array(32).fill(1 + 2 ** -20);
  const k = floats(64);
  for (const rig of rigs)
    for (const type of [F16, Q8_0, Q4_0]) {
      attend(rig, type, shape, [q, k, k]);
      t.is(rig.arena.f32[X >> 2], type === F16 ? 1 : 1 + 2 ** -20, ggmlTypeName(type));
    }
});
