// Forward mode, adapters, optimizers and normals, op by op in both builds: derivatives against central differences of plain f64 functions and
// against the adjoint ops, the specification's worked vectors, optimizers against plain f64 ones, normals against their distribution.

import test, { type ExecutionContext } from 'ava';
import * as ops from '../drivers/engine/ops.ts';
import { benches, OpBench, onAll } from './support/op-bench.ts';
import { random } from './harness.ts';
import * as reference from './reference/float-ops.ts';

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

// ── Forward mode ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const AIM = 1e-5;
let worst = 0;
/** Derivatives come from differences in f64 of the plain function, at what the op was given. */
function close(t: ExecutionContext, got: Float32Array, want: readonly number[], what: string): void {
  const error = reference.relativeError(got, want);
  worst = Math.max(worst, error);
  if (!(error <= AIM)) t.fail(`${what}: relative error ${error}`);
  else t.pass();
}
const rowsOf = (values: ArrayLike<number>, n: number): number[][] =>
  Array.from({ length: values.length / n }, (_, i) => Array.from(values).slice(i * n, (i + 1) * n));

interface NormCase {
  readonly x: ArrayLike<number>;
  readonly dx: ArrayLike<number>;
  readonly n: number;
  readonly w: ArrayLike<number> | null;
  readonly eps: number;
}

/** dst of a norm's tangent; with picks row by row. */
function normJvp(d: OpBench, op: ops.Op, { x, dx, n, w, eps }: NormCase, picks?: number[]): Float32Array {
  const rows = x.length / n;
  const dstAt = d.room((picks?.length ?? rows) * n);
  const words = {
    [ops.NormBack.dstAt]: dstAt,
    [ops.NormBack.n]: n,
    [ops.NormBack.srcAt]: d.put(dx),
    [ops.NormBack.xAt]: d.put(x),
    [ops.NormBack.weightsAt]: w === null ? 0 : d.put(w),
    [ops.NormBack.eps]: { f32: eps },
  };
  const how = picks === undefined ? { n: rows } : { n: rows, picks, byRows: true };
  if (d.run(op, words, how) !== 0) throw new Error('a fault');
  return d.f32(dstAt, (picks?.length ?? rows) * n);
}

test('the specification’s tangent of RMSNorm', t => {
  const got = onAll(d =>
    normJvp(d, Op.RMS_NORM_JVP, { x: [1, 2, 3, 4], dx: [0.1, 0, -0.1, 0.2], n: 4, w: null, eps: 1e-6 }),
  );
  const want = [0.029211869, -0.014605932, -0.058423733, 0.043817806];
  want.forEach((w, i) => t.true(Math.abs(got[i]! - w) < 2e-8, `${got[i]} instead of ${w}`));
});

for (const [name, op] of [
  ['RMS_NORM_JVP', Op.RMS_NORM_JVP],
  ['LAYER_NORM_JVP', Op.LAYER_NORM_JVP],
] as const)
  test(`${name}: against differences, over the pass and for the rows of a head`, t => {
    for (const n of [2, 3, 4, 7, 30, 64, 288]) {
      for (const weighted of [false, true]) {
        const [rows, eps] = [3, n === 7 ? 0.1 : 1e-5];
        const [x, dx, w] = [normals(rows * n, 2), normals(rows * n), weighted ? normals(n) : null];
        const got = onAll(d => normJvp(d, op, { x, dx, n, w, eps }));
        const weights = w === null ? null : Array.from(w);
        const plain = (row: reference.Row): number[] =>
          op === Op.RMS_NORM_JVP
            ? reference.rmsNorm(row, weights, Math.fround(eps))
            : reference.layerNorm(row, weights, null, Math.fround(eps));
        // In two dimensions a layer norm is a sign: its derivative is eps's alone, small beside what cancels.
        if (n > 2 || op === Op.RMS_NORM_JVP) {
          const want = rowsOf(x, n).flatMap((row, i) => reference.derivative(plain, row, rowsOf(dx, n)[i]!, 1e-4));
          close(t, got, want, `${n}${weighted ? ', weighted' : ''}`);
        }
        const picks = [2, 0, 2];
        const picked = onAll(d => normJvp(d, op, { x, dx, n, w, eps }, picks));
        t.deepEqual(
          [...picked],
          picks.flatMap(row => [...got.subarray(row * n, (row + 1) * n)]),
        );
      }
    }
  });

test('RMS_NORM_HEADS_JVP: in place, head by head, over a stride', t => {
  for (const [heads, headDim, stride] of [
    [1, 4, 4],
    [3, 10, 35],
    [4, 32, 130],
  ] as const) {
    const [rows, eps] = [2, 1e-6];
    const [x, dx, w] = [normals(rows * stride), normals(rows * stride), normals(headDim)];
    const got = onAll(d => {
      const at = d.put(dx);
      const words = {
        [ops.NormHeadsBack.at]: at,
        [ops.NormHeadsBack.heads]: heads,
        [ops.NormHeadsBack.headDim]: headDim,
        [ops.NormHeadsBack.stride]: stride,
        [ops.NormHeadsBack.weightsAt]: d.put(w),
        [ops.NormHeadsBack.eps]: { f32: eps },
        [ops.NormHeadsBack.xAt]: d.put(x),
      };
      t.is(d.run(Op.RMS_NORM_HEADS_JVP, words, { n: rows }), 0);
      return d.f32(at, rows * stride);
    });
    const plain = (row: reference.Row): number[] =>
      row.length === 0 ? [] : reference.rmsNorm(row, Array.from(w), Math.fround(eps));
    for (let row = 0; row < rows; row++) {
      for (let h = 0; h < heads; h++) {
        const from = row * stride + h * headDim;
        const part = (a: Float32Array): number[] => Array.from(a.subarray(from, from + headDim));
        close(t, got.subarray(from, from + headDim), reference.derivative(plain, part(x), part(dx), 1e-4), `head ${h}`);
      }
      const rest = [row * stride + heads * headDim, (row + 1) * stride];
      t.deepEqual([...got.subarray(...rest)], [...dx.subarray(...rest)], 'what lies behind the heads is left alone');
    }
  }
});

/** Tangents of the results of all positions. */
function attentionJvp(
  d: OpBench,
  { heads, headsKv, headDim, scale }: reference.Heads,
  x: Float32Array,
  dx: Float32Array,
  stride: number,
): Float32Array {
  const n = x.length / stride;
  const dstAt = d.room(n * heads * headDim);
  const words = {
    [ops.CausalAttentionBack.dstAt]: dstAt,
    [ops.CausalAttentionBack.srcAt]: d.put(dx),
    [ops.CausalAttentionBack.qAt]: d.put(x),
    [ops.CausalAttentionBack.heads]: heads,
    [ops.CausalAttentionBack.headsKv]: headsKv,
    [ops.CausalAttentionBack.headDim]: headDim,
    [ops.CausalAttentionBack.stride]: stride,
    [ops.CausalAttentionBack.scale]: { f32: scale },
    [ops.CausalAttentionBack.scoresAt]: d.room(2 * n),
  };
  if (d.run(Op.CAUSAL_ATTENTION_JVP, words, { n, byRows: true }) !== 0) throw new Error('a fault');
  return d.f32(dstAt, n * heads * headDim);
}

test('the specification’s tangent of soft_max, by attention over three positions', t => {
  // Scores are q · k = [1, 2, 3], tangents of keys [1, 0, 0]; with one-hot values the result is soft_max itself, dimension by dimension.
  const want = [0.08192507, -0.02203305, -0.05989203];
  const one = { heads: 1, headsKv: 1, headDim: 3, scale: 1 };
  const rows = [
    [1, 0, 0, 1, 0, 0, 1, 0, 0],
    [1, 0, 0, 2, 0, 0, 0, 1, 0],
    [1, 0, 0, 3, 0, 0, 0, 0, 1],
  ];
  const dx = new Float32Array(27);
  dx[3] = 1;
  const got = onAll(d => attentionJvp(d, one, Float32Array.from(rows.flat()), dx, 9)).subarray(6);
  want.forEach((w, i) => t.true(Math.abs(got[i]! - w) < 1e-7, `${got[i]} instead of ${w}`));
});

test('CAUSAL_ATTENTION_JVP: against differences, every position, grouped heads, any head size', t => {
  for (const [heads, headsKv, headDim, gap, n] of [
    [1, 1, 1, 0, 3],
    [1, 1, 2, 0, 2],
    [2, 1, 5, 3, 9],
    [4, 2, 10, 0, 7],
    [2, 2, 16, 1, 12],
    [3, 3, 23, 0, 5],
    [6, 2, 48, 0, 6],
  ] as const) {
    const shape = { heads, headsKv, headDim, scale: Math.fround(1 / Math.sqrt(headDim)) };
    const width = (heads + 2 * headsKv) * headDim;
    const stride = width + gap;
    const [x, dx] = [normals(n * stride), normals(n * stride)];
    const got = onAll(d => attentionJvp(d, shape, x, dx, stride));
    const plain = (all: reference.Row): number[] => reference.causalAttention(rowsOf(all, width), shape).flat();
    const tight = (a: Float32Array): number[] => rowsOf(a, stride).flatMap(row => row.slice(0, width));
    close(t, got, reference.derivative(plain, tight(x), tight(dx)), `${heads}/${headsKv} heads of ${headDim}`);
  }
});

test('the specification’s silu′(1) = .92767051, and slopes far out are those of a line', t => {
  const slope = (op: ops.Op, x: number): number => onAll(d => gatedJvp(d, op, [x], [1], [1], [0]))[0]!;
  t.true(Math.abs(slope(Op.SILU_MUL_JVP, 1) - 0.92767051) < 6e-8);
  for (const op of [Op.SILU_MUL_JVP, Op.GELU_JVP, Op.GELU_MUL_JVP]) {
    for (const x of [100, 1e4, 1e30, 3.4e38]) {
      t.is(slope(op, x), 1, `${Op[op]} at ${x}`);
      t.true(Math.abs(slope(op, -x)) < 1e-30, `${Op[op]} at −${x}`);
    }
    t.is(slope(op, 0), 0.5);
    t.true(Number.isNaN(slope(op, NaN)));
  }
});

/** Of GELU_JVP the last two have no meaning. */
function gatedJvp(
  d: OpBench,
  op: ops.Op,
  x: ArrayLike<number>,
  dx: ArrayLike<number>,
  up: ArrayLike<number>,
  dup: ArrayLike<number>,
  rows = 1,
): Float32Array {
  const dstAt = d.put(dx); // dst may be the gate's tangent
  const words = {
    [ops.GatedBack.dstAt]: dstAt,
    [ops.GatedBack.n]: x.length / rows,
    [ops.GatedBack.srcAt]: d.put(x),
    [ops.GatedBack.gradAt]: dstAt,
    ...(op === Op.GELU_JVP ? {} : { [ops.GatedBack.upAt]: d.put(up), [ops.GatedBack.upGradAt]: d.put(dup) }),
  };
  if (d.run(op, words, { n: rows }) !== 0) throw new Error('a fault');
  return d.f32(dstAt, x.length);
}

test('SILU_MUL_JVP, GELU_JVP, GELU_MUL_JVP: against differences', t => {
  for (const n of [1, 2, 3, 4, 5, 9, 48, 2001]) {
    const rows = n === 48 ? 3 : 1;
    const [x, dx, up, dup] = [normals(n, 3), normals(n), normals(n), normals(n)];
    for (const op of [Op.SILU_MUL_JVP, Op.GELU_JVP, Op.GELU_MUL_JVP]) {
      const gate = op === Op.SILU_MUL_JVP ? reference.silu : reference.gelu;
      const got = onAll(d => gatedJvp(d, op, x, dx, up, dup, rows));
      const want = Array.from(x).flatMap((v, i) =>
        reference.derivative(([g, u]) => [gate(g!) * (op === Op.GELU_JVP ? 1 : u!)], [v, up[i]!], [dx[i]!, dup[i]!]),
      );
      close(t, got, want, `${Op[op]}, ${n}`);
    }
  }
});

test.after('how near tangents come to differences', t => {
  t.log(`largest relative error of a tangent: ${worst.toExponential(1)}`);
  t.pass();
});
