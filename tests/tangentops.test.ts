// Forward mode, adapters, optimizers and normals, op by op in both builds: derivatives against central differences of plain f64 functions and
// against the adjoint ops, the specification's worked vectors, optimizers against plain f64 ones, normals against their distribution.

import test from 'ava';
import * as ops from '../drivers/engine/ops.ts';
import { benches, OpBench, onAll } from './support/op-bench.ts';
import { random } from './harness.ts';

const { Op } = ops;
const next = random(2026);
const normal = (): number => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
const normals = (n: number, scale = 1): Float32Array => Float32Array.from({ length: n }, () => normal() * scale);

test('this host runs both builds', t => {
  t.deepEqual(
    benches.map(bench => bench.build),
    ['simd128', 'relaxed'],
  );
});

// ── Adapters ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Pair {
  readonly rows: number;
  readonly k: number;
  readonly rank: number;
  readonly a: ArrayLike<number>;
  readonly b: ArrayLike<number>;
  readonly times: number;
}

const SCALES_AT = 12;

/** dst of every row of the pass, [row][rows + gap], after LORA with each row's own scale. */
function lora(
  d: OpBench,
  pair: Pair,
  src: ArrayLike<number>,
  dst: ArrayLike<number>,
  scales: readonly number[],
): Float32Array {
  const dstAt = d.put(dst);
  const words = {
    [ops.Lora.dstAt]: dstAt,
    [ops.Lora.rows]: pair.rows,
    [ops.Lora.k]: pair.k,
    [ops.Lora.aAt]: d.put(pair.a),
    [ops.Lora.bAt]: d.put(pair.b),
    [ops.Lora.rank]: pair.rank,
    [ops.Lora.srcAt]: d.put(src),
    [ops.Lora.dstStride]: dst.length / scales.length,
    [ops.Lora.midAt]: d.room(pair.rank),
    [ops.Lora.scalesAt]: SCALES_AT,
    [ops.Lora.times]: { f32: pair.times },
  };
  scales.forEach((s, row) => d.view.setFloat32(d.tableOf(row) + SCALES_AT, s, true));
  if (d.run(Op.LORA, words, { n: scales.length, byRows: true }) !== 0) throw new Error('a fault');
  return d.f32(dstAt, dst.length);
}

test('the specification’s adapter: W·x = [9, 21], y = [8, 23]', t => {
  const pair = { rows: 2, k: 3, rank: 1, a: [1, 0, -1], b: [0.5, -1], times: 2 };
  t.deepEqual([...onAll(d => lora(d, pair, [1, 1, 2], [9, 21], [1]))], [8, 23]);
  t.deepEqual([...onAll(d => lora(d, pair, [1, 1, 2], [9, 21], [-2]))], [11, 17]);
});

test('an adapter adds scale · times · B · A · x to every row, with that row’s scale, over a stride', t => {
  for (const [rows, k, rank] of [
    [1, 1, 1],
    [2, 3, 1],
    [5, 7, 2],
    [6, 48, 3],
    [16, 64, 4],
    [33, 50, 5],
    [12, 32, 8],
    [9, 30, 17],
    [64, 288, 16],
  ] as const) {
    const scales = [1, 0.25, -1.5, 3];
    const stride = rows + 3;
    const pair = { rows, k, rank, a: normals(rank * k), b: normals(rows * rank), times: 0.75 };
    const src = normals(k * scales.length);
    const dst = normals(stride * scales.length);
    const got = onAll(d => lora(d, pair, src, dst, scales));
    scales.forEach((scale, row) => {
      for (let j = 0; j < stride; j++) {
        const i = row * stride + j;
        if (j >= rows) {
          t.is(got[i], dst[i], 'what lies between rows is left alone');
          continue;
        }
        let [want, size] = [0, 0];
        for (let r = 0; r < rank; r++)
          for (let c = 0; c < k; c++) {
            const term = pair.b[j * rank + r]! * pair.a[r * k + c]! * src[row * k + c]!;
            want += term;
            size += Math.abs(term);
          }
        const error = Math.abs(got[i]! - (dst[i]! + scale * 0.75 * want));
        t.true(
          error <= 1e-6 * (Math.abs(dst[i]!) + Math.abs(scale) * 0.75 * size),
          `${rows}×${k}, rank ${rank}: [${i}] is off by ${error}`,
        );
      }
    });
  }
});

test('a row whose session does not use the adapter keeps its very bits, whatever lies there', t => {
  const values = [-0, 0, 1e-42, NaN, Infinity, -1.5, 3e38];
  const pair = { rows: 7, k: 2, rank: 5, a: normals(10), b: [Infinity, NaN, ...normals(33)], times: 2 };
  for (const off of [0, -0]) {
    const got = onAll(d => lora(d, pair, [1, NaN, 1, 2], [...values, ...values], [off, 1]));
    t.deepEqual([...got.subarray(0, 7)], values.map(Math.fround));
    t.true(Number.isNaN(got[7]));
  }
});

test('rows of an adapter do not depend on the others that are computed with them', t => {
  const [rows, k, rank] = [11, 20, 6];
  const [a, b, src, dst] = [normals(rank * k), normals(rows * rank), normals(k), normals(rows)];
  const whole = onAll(d => lora(d, { rows, k, rank, a, b, times: 1 }, src, dst, [1]));
  for (let j = 0; j < rows; j++) {
    const pair = { rows: 1, k, rank, a, b: b.subarray(j * rank, (j + 1) * rank), times: 1 };
    t.is(onAll(d => lora(d, pair, src, [dst[j]!], [1]))[0], whole[j]);
  }
});
