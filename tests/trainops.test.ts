// Reverse mode, op by op in both builds: forward values and gradients against plain f64 functions and their central differences, every way back
// against the tangent it is the transpose of, products with weights of every type, and the bits that must not depend on how a pass is cut.

import test, { type ExecutionContext } from 'ava';
import * as ops from '../drivers/engine/ops.ts';
import { FAULT, TrainBlock } from '../kernel/abi/index.ts';
import { random } from './harness.ts';
import * as reference from './reference/float-ops.ts';
import * as plain from './reference/kernels.ts';
import { benches, OpBench, onAll } from './support/op-bench.ts';
import { TYPES, randomWeights } from './support/weights.ts';

const { Op } = ops;
const next = random(7);
const below = (n: number): number => Math.floor(next() * n);
const normal = (): number => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
const normals = (n: number, scale = 1): Float32Array => Float32Array.from({ length: n }, () => normal() * scale);
const list = (values: ArrayLike<number>): number[] => Array.from(values);
const rowsOf = (values: ArrayLike<number>, n: number): number[][] =>
  Array.from({ length: values.length / n }, (_, i) => list(values).slice(i * n, (i + 1) * n));
const inner = (a: ArrayLike<number>, b: ArrayLike<number>): number => list(a).reduce((s, v, i) => s + v * b[i]!, 0);
const GAP = 3; // values between rows that have a stride
/** Rows of `n` values, GAP more between them, which nothing may change. */
const spread = (values: ArrayLike<number>, n: number): number[] =>
  rowsOf(values, n).flatMap(row => [...row, ...Array.from({ length: GAP }, () => 12345)]);
/** The rows again; throws when what lies between them was changed. */
function tight(values: ArrayLike<number>, n: number): number[] {
  return rowsOf(values, n + GAP).flatMap(row => {
    if (row.slice(n).some(v => v !== 12345)) throw new Error('what lies between rows is not left alone');
    return row.slice(0, n);
  });
}
function done(fault: number): void {
  if (fault !== 0) throw new Error(`fault ${fault}`);
}

const AIM = 1e-5;
let worst = 0;
function close(t: ExecutionContext, got: ArrayLike<number>, want: readonly number[], what: string, aim = AIM): void {
  t.is(got.length, want.length);
  const error = want.every(v => v === 0) ? Math.max(0, ...list(got).map(Math.abs)) : reference.relativeError(got, want);
  worst = Math.max(worst, error);
  if (!(error <= aim)) t.fail(`${what}: relative error ${error}`);
  else t.pass();
}

/** The gradient of c · f(x), by differences of fourth order. */
const gradient = (f: (x: reference.Row) => number[], x: reference.Row, c: reference.Row, h = 1e-3): number[] =>
  x.map((_, i) => {
    const unit = x.map((__, j) => (i === j ? 1 : 0));
    return reference.dot(c, reference.derivative(f, x, unit, h));
  });

test('this host runs both builds', t => {
  t.deepEqual(
    benches.map(bench => bench.build),
    ['simd128', 'relaxed'],
  );
});

// ── Products ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Matrix {
  readonly type: number;
  readonly rows: number;
  readonly k: number;
  readonly file: Uint8Array;
  readonly values: readonly number[]; // dequantised
}
function matrix(type: number, rows: number, k: number): Matrix {
  const file = randomWeights(type, rows * k, { below, normal });
  return { type, rows, k, file, values: list(plain.dequantize(type, file, 0, rows * k)) };
}

/** The matrix as the kernels have it. */
function place(d: OpBench, { type, rows, k, file }: Matrix): number {
  const at = d.putBytes(file);
  if (![ops.TYPE_Q4_0, ops.TYPE_Q4_1, ops.TYPE_Q8_0].includes(type as 2)) return at;
  const to = d.room(Math.ceil(file.length / 4));
  const words = {
    [ops.Repack.dstAt]: to,
    [ops.Repack.rows]: rows,
    [ops.Repack.k]: k,
    [ops.Repack.weightsAt]: at,
    [ops.Repack.weightType]: type,
  };
  done(d.run(Op.REPACK, words));
  return to;
}

interface Product {
  readonly w: Matrix;
  readonly src: ArrayLike<number>; // of all tokens
  readonly dst: ArrayLike<number>;
  readonly bias?: ArrayLike<number>;
  readonly add?: boolean;
  readonly times?: number;
  /** Rows of each record. */
  readonly piece?: number;
}

/** FLOAT_MUL_MAT or its way back: dst of all tokens. */
function product(
  d: OpBench,
  op: ops.Op,
  { w, src, dst, bias, add = false, times = 1, piece = w.rows }: Product,
): Float32Array {
  const back = op === Op.FLOAT_MUL_MAT_BACK;
  const [from, to] = back ? [w.rows, w.k] : [w.k, w.rows];
  const n = src.length / from;
  const weightsAt = place(d, w);
  const srcAt = d.put(spread(src, from));
  const dstAt = d.put(spread(dst, to));
  const biasAt = bias === undefined ? 0 : d.put(bias);
  const rowAt = d.room(4 * w.k);
  for (let row = 0; row < w.rows; row += piece) {
    const words = {
      [ops.FloatMulMat.dstAt]: dstAt + (back ? 0 : 4 * row),
      [ops.FloatMulMat.rows]: Math.min(piece, w.rows - row),
      [ops.FloatMulMat.k]: w.k,
      [ops.FloatMulMat.weightsAt]: weightsAt + plain.bytesOf(w.type, row * w.k),
      [ops.FloatMulMat.weightType]: w.type,
      [ops.FloatMulMat.srcAt]: srcAt + (back ? 4 * row : 0),
      [ops.FloatMulMat.biasAt]: biasAt === 0 ? 0 : biasAt + 4 * row,
      [ops.FloatMulMat.dstStride]: to + GAP,
      [ops.FloatMulMat.srcStride]: from + GAP,
      [ops.FloatMulMat.rowAt]: rowAt,
      [ops.FloatMulMat.times]: { f32: times },
    };
    done(d.run(op, words, { n, add: add || (back && row > 0) }));
  }
  return Float32Array.from(tight(d.f32(dstAt, n * (to + GAP)), to));
}

/** The same in f64. */
function productOf(op: ops.Op, { w, src, dst, bias, add = false, times = 1 }: Product): number[] {
  const back = op === Op.FLOAT_MUL_MAT_BACK;
  const columns = Array.from({ length: w.k }, (_, i) => rowsOf(w.values, w.k).map(row => row[i]!));
  const lines = back ? columns : rowsOf(w.values, w.k);
  const factor = Math.fround(times);
  return rowsOf(src, back ? w.rows : w.k).flatMap((x, t) =>
    lines.map((line, i) => factor * reference.dot(line, x) + (bias?.[i] ?? 0) + (add ? dst[t * lines.length + i]! : 0)),
  );
}

const SHAPES = [
  [1, 1, 1],
  [3, 5, 2],
  [4, 4, 1],
  [7, 30, 3],
  [8, 33, 5],
  [13, 64, 2],
  [16, 96, 8],
  [9, 256, 3],
  [6, 512, 7],
] as const;

for (const [name, type] of Object.entries(TYPES))
  test(`products with ${name}: forward, back, added, with a bias and a factor`, t => {
    const [values] = plain.blockOf(type);
    for (const [rows, k, n] of SHAPES) {
      if (k % values !== 0) continue;
      const w = matrix(type, rows, k);
      const [x, y, bias] = [normals(n * k), normals(n * rows), normals(rows)];
      const [toY, toX] = [normals(n * rows), normals(n * k)];
      for (const [op, c] of [
        [Op.FLOAT_MUL_MAT, { w, src: x, dst: toY }],
        [Op.FLOAT_MUL_MAT, { w, src: x, dst: toY, bias, add: true, times: -0.3 }],
        [Op.FLOAT_MUL_MAT_BACK, { w, src: y, dst: toX }],
        [Op.FLOAT_MUL_MAT_BACK, { w, src: y, dst: toX, add: true, times: 1.7 }],
      ] as const)
        close(
          t,
          onAll(d => product(d, op, c)),
          productOf(op, c),
          `${Op[op]} ${rows}×${k}, ${n} tokens`,
          1e-6,
        );
      const wx = onAll(d => product(d, Op.FLOAT_MUL_MAT, { w, src: x, dst: toY }));
      const wy = onAll(d => product(d, Op.FLOAT_MUL_MAT_BACK, { w, src: y, dst: toX }));
      const size = Math.sqrt(inner(wx, wx) * inner(y, y));
      t.true(Math.abs(inner(y, wx) - inner(wy, x)) <= 1e-6 * size, `${rows}×${k}: ⟨y, W·x⟩ is not ⟨Wᵀ·y, x⟩`);
    }
  });

test('products do not depend on how tokens and rows are cut', t => {
  for (const type of [TYPES.F32, TYPES.Q8_0, TYPES.Q4_1, TYPES.Q5_0, TYPES.F16]) {
    const [rows, k, n] = [22, 96, 7];
    const w = matrix(type, rows, k);
    for (const op of [Op.FLOAT_MUL_MAT, Op.FLOAT_MUL_MAT_BACK]) {
      const [from, to] = op === Op.FLOAT_MUL_MAT ? [k, rows] : [rows, k];
      const [src, dst] = [normals(n * from), new Float32Array(n * to)];
      const whole = onAll(d => product(d, op, { w, src, dst }));
      for (const piece of [4, 8, 12])
        t.deepEqual(
          onAll(d => product(d, op, { w, src, dst, piece })),
          whole,
          `pieces of ${piece} rows`,
        );
      for (let i = 0; i < n; i++) {
        const one = onAll(d =>
          product(d, op, { w, src: src.subarray(i * from, (i + 1) * from), dst: dst.subarray(0, to) }),
        );
        t.deepEqual(one, whole.subarray(i * to, (i + 1) * to), `token ${i}`);
      }
    }
  }
});

/** OUTER: dst[rows][k]. */
function outer(
  d: OpBench,
  rows: number,
  k: number,
  y: Float32Array,
  x: Float32Array,
  dst: Float32Array,
  times: number,
): Float32Array {
  const dstAt = d.put(dst);
  const words = {
    [ops.Outer.dstAt]: dstAt,
    [ops.Outer.rows]: rows,
    [ops.Outer.k]: k,
    [ops.Outer.srcAt]: d.put(spread(y, rows)),
    [ops.Outer.xAt]: d.put(spread(x, k)),
    [ops.Outer.srcStride]: rows + GAP,
    [ops.Outer.xStride]: k + GAP,
    [ops.Outer.times]: { f32: times },
  };
  done(d.run(Op.OUTER, words, { n: y.length / rows }));
  return d.f32(dstAt, rows * k);
}

test('OUTER: the gradient of a matrix, added to what is there', t => {
  for (const [rows, k, n] of [...SHAPES, [4, 8, 128], [2, 12, 1], [5, 15, 64], [17, 31, 33]] as const) {
    const [y, x, dst] = [normals(n * rows), normals(n * k), normals(rows * k)];
    const got = onAll(d => outer(d, rows, k, y, x, dst, 0.7));
    const want = list(dst).map((v, i) => {
      const [row, column] = [Math.floor(i / k), i % k];
      const sum = Array.from({ length: n }, (_, t) => y[t * rows + row]! * x[t * k + column]!).reduce(
        (a, b) => a + b,
        0,
      );
      return v + Math.fround(0.7) * sum;
    });
    close(t, got, want, `${rows}×${k}, ${n} tokens`, 1e-6);
  }
});

test('COLUMN_SUM: the gradient of a bias, added to what is there', t => {
  for (const [n, tokens] of [
    [1, 1],
    [5, 3],
    [64, 9],
    [30, 128],
  ] as const) {
    const [src, dst] = [normals(n * tokens), normals(n)];
    const got = onAll(d => {
      const dstAt = d.put(dst);
      const words = {
        [ops.ColumnSum.dstAt]: dstAt,
        [ops.ColumnSum.n]: n,
        [ops.ColumnSum.srcAt]: d.put(spread(src, n)),
        [ops.ColumnSum.srcStride]: n + GAP,
      };
      done(d.run(Op.COLUMN_SUM, words, { n: tokens }));
      return d.f32(dstAt, n);
    });
    const rows = rowsOf(src, n);
    close(
      t,
      got,
      list(dst).map((v, i) => v + rows.reduce((s, row) => s + row[i]!, 0)),
      `${n}`,
      1e-6,
    );
  }
});

// ── Normalisation ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface NormCase {
  readonly x: Float32Array;
  readonly g: Float32Array;
  readonly dst: Float32Array;
  readonly n: number;
  readonly w: Float32Array | null;
  readonly eps: number;
}

/** dst, and the gradients of weights and biases behind it; with picks row i of g is pick i's. */
function normBack(
  d: OpBench,
  op: ops.Op,
  { x, g, dst, n, w, eps }: NormCase,
  grads: boolean,
  picks?: number[],
): Float32Array {
  const at = d.put([...dst, ...Array.from({ length: 2 * n }, () => 0.5)]);
  const wGradAt = at + 4 * dst.length;
  const words = {
    [ops.NormBack.dstAt]: at,
    [ops.NormBack.n]: n,
    [ops.NormBack.srcAt]: d.put(g),
    [ops.NormBack.xAt]: d.put(x),
    [ops.NormBack.weightsAt]: w === null ? 0 : d.put(w),
    [ops.NormBack.eps]: { f32: eps },
    [ops.NormBack.weightsGradAt]: grads ? wGradAt : 0,
    [ops.NormBack.biasGradAt]: grads ? wGradAt + 4 * n : 0,
  };
  const rows = x.length / n;
  done(d.run(op, words, picks === undefined ? { n: rows } : { n: rows, picks, byRows: true }));
  return d.f32(at, dst.length + 2 * n);
}

for (const [name, op] of [
  ['RMS_NORM_BACK', Op.RMS_NORM_BACK],
  ['LAYER_NORM_BACK', Op.LAYER_NORM_BACK],
] as const)
  test(`${name}: against differences, with and without weights, over the pass and for the rows of a head`, t => {
    const layer = op === Op.LAYER_NORM_BACK;
    for (const n of [3, 4, 7, 30, 48]) {
      for (const weighted of [false, true]) {
        const [rows, eps] = [3, Math.fround(n === 7 ? 0.1 : 1e-5)];
        const w = weighted ? normals(n) : null;
        const c = { x: normals(rows * n, 2), g: normals(rows * n), dst: normals(rows * n), n, w, eps };
        const f = (row: reference.Row, weights: reference.Row | null, bias: reference.Row | null): number[] =>
          layer ? reference.layerNorm(row, weights, bias, eps) : reference.rmsNorm(row, weights, eps);
        const weights = w === null ? null : list(w);
        const [xs, gs] = [rowsOf(c.x, n), rowsOf(c.g, n)];
        const dx = xs.map((row, i) => gradient(v => f(v, weights, null), row, gs[i]!, 1e-4));
        const got = onAll(d => normBack(d, op, c, weighted));
        close(
          t,
          got.subarray(0, rows * n),
          dx.flat().map((v, i) => c.dst[i]! + v),
          `${n}: the row`,
        );
        const each = (wanted: number[][]): number[] =>
          Array.from({ length: n }, (_, i) => 0.5 + wanted.reduce((s, row) => s + row[i]!, 0));
        if (weighted) {
          const dw = xs.map((row, i) => gradient(v => f(row, v, null), weights!, gs[i]!));
          close(t, got.subarray(rows * n, rows * n + n), each(dw), `${n}: weights`);
          if (layer) close(t, got.subarray(rows * n + n), each(gs), `${n}: biases`);
        } else
          t.true(
            got.subarray(rows * n).every(v => v === 0.5),
            'gradients that are not wanted are left alone',
          );
        const picks = [2, 0, 2];
        const picked = onAll(d => normBack(d, op, c, weighted, picks));
        const want = list(c.dst);
        picks.forEach((row, i) => {
          const grad = gradient(v => f(v, weights, null), xs[row]!, gs[i]!, 1e-4);
          grad.forEach((v, j) => (want[row * n + j]! += v));
        });
        close(t, picked.subarray(0, rows * n), want, `${n}: picks`);
        if (weighted && !layer) {
          const dw = picks.map((row, i) => gradient(v => f(xs[row]!, v, null), weights!, gs[i]!));
          close(t, picked.subarray(rows * n, rows * n + n), each(dw), `${n}: weights by picks`);
        }
      }
    }
  });

test('RMS_NORM_HEADS_BACK: in place, head by head, over a stride', t => {
  for (const [heads, headDim] of [
    [1, 4],
    [3, 10],
    [4, 32],
  ] as const) {
    const [rows, eps, width] = [2, Math.fround(1e-6), heads * headDim];
    const [x, g, w] = [normals(rows * width), normals(rows * width), normals(headDim)];
    const got = onAll(d => {
      const at = d.put(spread(g, width));
      const gradAt = d.put(new Float32Array(headDim));
      const words = {
        [ops.NormHeadsBack.at]: at,
        [ops.NormHeadsBack.heads]: heads,
        [ops.NormHeadsBack.headDim]: headDim,
        [ops.NormHeadsBack.stride]: width + GAP,
        [ops.NormHeadsBack.weightsAt]: d.put(w),
        [ops.NormHeadsBack.eps]: { f32: eps },
        [ops.NormHeadsBack.xAt]: d.put(spread(x, width)),
        [ops.NormHeadsBack.weightsGradAt]: gradAt,
      };
      done(d.run(Op.RMS_NORM_HEADS_BACK, words, { n: rows }));
      return Float32Array.from([...tight(d.f32(at, rows * (width + GAP)), width), ...d.f32(gradAt, headDim)]);
    });
    const [xs, gs] = [rowsOf(x, headDim), rowsOf(g, headDim)];
    const dx = xs.map((row, i) => gradient(v => reference.rmsNorm(v, list(w), eps), row, gs[i]!, 1e-4));
    close(t, got.subarray(0, rows * width), dx.flat(), `${heads} heads of ${headDim}`);
    const dw = xs.map((row, i) => gradient(v => reference.rmsNorm(row, v, eps), list(w), gs[i]!));
    close(
      t,
      got.subarray(rows * width),
      list(w).map((_, i) => dw.reduce((s, row) => s + row[i]!, 0)),
      'weights',
    );
  }
});

// ── Rotary positions ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('ROPE_BACK is the transpose of ROPE: ⟨y, R·x⟩ = ⟨Rᵀ·y, x⟩, with any amplitudes, both orders of pairs', t => {
  for (const mode of [ops.ROPE_ADJACENT, ops.ROPE_HALVES]) {
    for (const [heads, headDim, pairs] of [
      [1, 2, 1],
      [2, 10, 5],
      [3, 16, 4],
      [2, 48, 24],
    ] as const) {
      const [rows, width] = [3, heads * headDim];
      const [x, y, table] = [normals(rows * width), normals(rows * width), normals(rows * pairs * 2)];
      const turn = (op: ops.Op, values: Float32Array): Float32Array =>
        onAll(d => {
          const at = d.put(spread(values, width));
          const words = {
            [ops.Rope.at]: at,
            [ops.Rope.heads]: heads,
            [ops.Rope.headDim]: headDim,
            [ops.Rope.pairs]: pairs,
            [ops.Rope.tableAt]: d.put(table),
            [ops.Rope.stride]: width + GAP,
            [ops.Rope.mode]: mode,
          };
          done(d.run(op, words, { n: rows }));
          return Float32Array.from(tight(d.f32(at, rows * (width + GAP)), width));
        });
      const [turned, back] = [turn(Op.ROPE, x), turn(Op.ROPE_BACK, y)];
      // Value by value: the gradient of y · R·x is what unit vectors give.
      const want = list(x).map((_, i) =>
        inner(
          y,
          turn(
            Op.ROPE,
            Float32Array.from(x, (__, j) => (i === j ? 1 : 0)),
          ),
        ),
      );
      if (width <= 20) close(t, back, want, `${heads} heads of ${headDim}`, 1e-6);
      const size = Math.sqrt(inner(turned, turned) * inner(y, y));
      t.true(Math.abs(inner(y, turned) - inner(back, x)) <= 1e-6 * size);
    }
  }
});

// ── Attention ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const ATTENTION = [
  [1, 1, 1, 3],
  [1, 1, 2, 2],
  [2, 1, 5, 9],
  [4, 2, 10, 7],
  [2, 2, 16, 12],
  [3, 3, 23, 5],
  [6, 2, 12, 6],
] as const;
interface AttentionCase extends reference.Heads {
  readonly n: number;
  readonly width: number;
}
const attentionCases: AttentionCase[] = ATTENTION.map(([heads, headsKv, headDim, n]) => ({
  heads,
  headsKv,
  headDim,
  n,
  scale: Math.fround(1 / Math.sqrt(headDim)),
  width: (heads + 2 * headsKv) * headDim,
}));

function attention(d: OpBench, c: AttentionCase, x: Float32Array): Float32Array {
  const dstAt = d.room(c.n * c.heads * c.headDim);
  const words = {
    [ops.CausalAttention.dstAt]: dstAt,
    [ops.CausalAttention.qAt]: d.put(spread(x, c.width)),
    [ops.CausalAttention.heads]: c.heads,
    [ops.CausalAttention.headsKv]: c.headsKv,
    [ops.CausalAttention.headDim]: c.headDim,
    [ops.CausalAttention.stride]: c.width + GAP,
    [ops.CausalAttention.scale]: { f32: c.scale },
    [ops.CausalAttention.scoresAt]: d.room(c.n),
  };
  done(d.run(Op.CAUSAL_ATTENTION, words, { n: c.n, byRows: true }));
  return d.f32(dstAt, c.n * c.heads * c.headDim);
}

/** CAUSAL_ATTENTION_BACK or _JVP, each with the other's shapes of src and dst. */
function attentionSlope(d: OpBench, op: ops.Op, c: AttentionCase, x: Float32Array, src: Float32Array): Float32Array {
  const back = op === Op.CAUSAL_ATTENTION_BACK;
  // Gradients of keys and values need no zeros beforehand.
  const dst = back
    ? spread(
        x.map(() => NaN),
        c.width,
      )
    : new Float32Array(c.n * c.heads * c.headDim);
  const dstAt = d.put(dst);
  const words = {
    [ops.CausalAttentionBack.dstAt]: dstAt,
    [ops.CausalAttentionBack.srcAt]: d.put(back ? src : spread(src, c.width)),
    [ops.CausalAttentionBack.qAt]: d.put(spread(x, c.width)),
    [ops.CausalAttentionBack.heads]: c.heads,
    [ops.CausalAttentionBack.headsKv]: c.headsKv,
    [ops.CausalAttentionBack.headDim]: c.headDim,
    [ops.CausalAttentionBack.stride]: c.width + GAP,
    [ops.CausalAttentionBack.scale]: { f32: c.scale },
    [ops.CausalAttentionBack.scoresAt]: d.room(2 * c.n),
  };
  done(d.run(op, words, { n: c.n, byRows: true }));
  const got = d.f32(dstAt, dst.length);
  return back ? Float32Array.from(tight(got, c.width)) : got;
}

test('CAUSAL_ATTENTION: every position, grouped heads, any head size', t => {
  for (const c of attentionCases) {
    const x = normals(c.n * c.width);
    const want = reference.causalAttention(rowsOf(x, c.width), c).flat();
    close(
      t,
      onAll(d => attention(d, c, x)),
      want,
      `${c.heads}/${c.headsKv} heads of ${c.headDim}`,
      1e-6,
    );
  }
});

test('CAUSAL_ATTENTION_BACK: against differences, for every query, key and value', t => {
  for (const c of attentionCases) {
    const [x, g] = [normals(c.n * c.width), normals(c.n * c.heads * c.headDim)];
    const got = onAll(d => attentionSlope(d, Op.CAUSAL_ATTENTION_BACK, c, x, g));
    const f = (all: reference.Row): number[] => reference.causalAttention(rowsOf(all, c.width), c).flat();
    // Where differences of each value take too long, they are taken along a few directions.
    if (x.length * c.n < 2500) close(t, got, gradient(f, list(x), list(g)), `${c.heads}/${c.headsKv} of ${c.headDim}`);
    for (let i = 0; i < 3; i++) {
      const v = list(normals(x.length));
      const want = reference.dot(list(g), reference.derivative(f, list(x), v));
      const size = Math.sqrt(inner(got, got) * inner(v, v));
      t.true(
        Math.abs(inner(got, v) - want) <= AIM * size,
        `${c.heads}/${c.headsKv} of ${c.headDim}: along a direction`,
      );
    }
  }
});

test('the way back of attention is the transpose of its tangent', t => {
  for (const c of attentionCases) {
    const [x, v, y] = [normals(c.n * c.width), normals(c.n * c.width), normals(c.n * c.heads * c.headDim)];
    const jv = onAll(d => attentionSlope(d, Op.CAUSAL_ATTENTION_JVP, c, x, v));
    const jty = onAll(d => attentionSlope(d, Op.CAUSAL_ATTENTION_BACK, c, x, y));
    const size = Math.sqrt(inner(jv, jv) * inner(y, y));
    t.true(Math.abs(inner(y, jv) - inner(jty, v)) <= AIM * size);
  }
});

// ── Gates ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const GATES = { SILU_MUL_BACK: reference.silu, GELU_BACK: reference.gelu, GELU_MUL_BACK: reference.gelu } as const;

/** Gradients of gate and up, in the places of the result's gradient and of up; of GELU_BACK the second is up as it was. */
function gatedBack(
  d: OpBench,
  op: ops.Op,
  x: Float32Array,
  up: Float32Array,
  grad: Float32Array,
  rows: number,
): Float32Array {
  const at = d.put([...grad, ...up]);
  const upAt = at + 4 * grad.length;
  const words = {
    [ops.GatedBack.dstAt]: at,
    [ops.GatedBack.n]: x.length / rows,
    [ops.GatedBack.srcAt]: d.put(x),
    [ops.GatedBack.gradAt]: at,
    ...(op === Op.GELU_BACK ? {} : { [ops.GatedBack.upAt]: upAt, [ops.GatedBack.upGradAt]: upAt }),
  };
  done(d.run(op, words, { n: rows }));
  return d.f32(at, 2 * x.length);
}

for (const [name, gate] of Object.entries(GATES))
  test(`${name}: against differences, in place`, t => {
    const op = Op[name as keyof typeof GATES];
    for (const n of [1, 2, 3, 4, 5, 9, 48, 2001]) {
      const rows = n === 48 ? 3 : 1;
      const [x, up, grad] = [normals(n, 3), normals(n), normals(n)];
      const got = onAll(d => gatedBack(d, op, x, up, grad, rows));
      const slope = (v: number): number => reference.derivative(([u]) => [gate(u!)], [v], [1])[0]!;
      const single = op === Op.GELU_BACK;
      close(
        t,
        got.subarray(0, n),
        list(x).map((v, i) => grad[i]! * slope(v) * (single ? 1 : up[i]!)),
        `gate of ${n}`,
      );
      close(
        t,
        got.subarray(n),
        list(x).map((v, i) => (single ? up[i]! : grad[i]! * gate(v))),
        `up of ${n}`,
      );
    }
    // Far out gates are lines; what is not finite there would end a training.
    for (const x of [30, 88, 89, 100, 1e4, 1e30, 3.4e38]) {
      const far = onAll(d => gatedBack(d, op, Float32Array.of(x, -x), Float32Array.of(1, 1), Float32Array.of(1, 1), 1));
      t.is(far[0], 1);
      t.true(Math.abs(far[1]!) < 1e-10, `${name} at −${x}: ${far[1]}`);
    }
    const nan = onAll(d =>
      gatedBack(d, op, Float32Array.of(NaN, 1), Float32Array.of(1, 1), Float32Array.of(1, NaN), 1),
    );
    t.true(Number.isNaN(nan[0]) && Number.isNaN(nan[1]));
  });

test('GELU_MUL: in f32 throughout', t => {
  for (const n of [1, 3, 4, 7, 64, 2001]) {
    const [x, up] = [normals(n, 3), normals(n)];
    const got = onAll(d => {
      const at = d.put(x);
      const words = {
        [ops.Elementwise.dstAt]: at,
        [ops.Elementwise.n]: n,
        [ops.Elementwise.srcAt]: at,
        [ops.Elementwise.upAt]: d.put(up),
      };
      done(d.run(Op.GELU_MUL, words));
      return d.f32(at, n);
    });
    close(
      t,
      got,
      list(x).map((v, i) => reference.gelu(v) * up[i]!),
      `${n}`,
      1e-6,
    );
  }
});

// ── Loss ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface LossCase {
  readonly logits: Float32Array; // row i: pick i's
  readonly n: number;
  readonly picks: number[];
  readonly targets: number[]; // by row of the pass
  readonly weight: number;
}

/** The logits as they were left, then TrainBlock's loss and count, and the fault. */
function crossEntropy(d: OpBench, op: ops.Op, c: LossCase): Float64Array {
  const blockAt = d.room(TrainBlock.bytes / 4);
  d.u8.fill(0, blockAt, blockAt + TrainBlock.bytes);
  d.view.setFloat64(blockAt + ops.TRAIN_LOSS, 1.5, true);
  d.view.setUint32(blockAt + ops.TRAIN_COUNT, 7, true);
  d.view.setFloat32(blockAt + ops.TRAIN_WEIGHT, c.weight, true);
  const at = d.put(spread(c.logits, c.n));
  const words = {
    [ops.CrossEntropy.at]: at,
    [ops.CrossEntropy.n]: c.n,
    [ops.CrossEntropy.stride]: c.n + GAP,
    [ops.CrossEntropy.targetsAt]: d.putU32(c.targets),
    [ops.CrossEntropy.blockAt]: blockAt,
  };
  const fault = d.run(op, words, { n: c.targets.length, picks: c.picks, byRows: true });
  return Float64Array.from([
    ...tight(d.f32(at, c.picks.length * (c.n + GAP)), c.n),
    d.view.getFloat64(blockAt + ops.TRAIN_LOSS, true) - 1.5,
    d.view.getUint32(blockAt + ops.TRAIN_COUNT, true) - 7,
    fault,
  ]);
}

test('CROSS_ENTROPY and its gradient: of the rows that are picked, in any order', t => {
  for (const n of [1, 2, 5, 32, 259, 2001]) {
    const picks = [3, 0, 1];
    const targets = Array.from({ length: 4 }, () => below(n));
    const weight = Math.fround(0.125 / 3);
    const logits = normals(3 * n, n === 32 ? 30 : 3);
    const c = { logits, n, picks, targets, weight };
    const rows = rowsOf(logits, n);
    const loss = rows.reduce((s, row, i) => s + reference.crossEntropy(row, targets[picks[i]!]!), 0);
    const forward = onAll(d => crossEntropy(d, Op.CROSS_ENTROPY, c));
    t.deepEqual([...forward.subarray(0, 3 * n)], list(logits), 'logits are left as they are');
    t.true(
      Math.abs(forward[3 * n]! - loss) <= 1e-6 * Math.max(1, Math.abs(loss)),
      `${n}: ${forward[3 * n]}, not ${loss}`,
    );
    t.deepEqual([...forward.subarray(3 * n + 1)], [3, 0]);
    const back = onAll(d => crossEntropy(d, Op.CROSS_ENTROPY_BACK, c));
    t.deepEqual([...back.subarray(3 * n)], [...forward.subarray(3 * n)]);
    const want = rows.flatMap((row, i) =>
      reference.softMax(row).map((p, j) => weight * (p - (j === targets[picks[i]!] ? 1 : 0))),
    );
    close(t, back.subarray(0, 3 * n), want, `gradient of ${n} logits`);
    if (n > 32) continue;
    const differences = rows.flatMap((row, i) =>
      gradient(v => [reference.crossEntropy(v, targets[picks[i]!]!)], row, [weight], 1e-4),
    );
    close(t, back.subarray(0, 3 * n), differences, `differences of ${n} logits`);
  }
});

test('a row without a target counts for nothing; a target beyond the vocabulary is a fault', t => {
  const [n, logits] = [10, normals(20)];
  const c = { logits, n, picks: [0, 1], targets: [4, ops.NO_TARGET], weight: 1 };
  const one = { ...c, logits: logits.subarray(0, 10), picks: [0] };
  for (const op of [Op.CROSS_ENTROPY, Op.CROSS_ENTROPY_BACK]) {
    const [both, alone] = [onAll(d => crossEntropy(d, op, c)), onAll(d => crossEntropy(d, op, one))];
    t.deepEqual([...both.subarray(20)], [...alone.subarray(10)]);
    if (op === Op.CROSS_ENTROPY_BACK) t.true(both.subarray(10, 20).every(v => v === 0));
    for (const target of [10, 11, 0x7fffffff, 0xfffffffe]) {
      const bad = onAll(d => crossEntropy(d, op, { ...one, targets: [target, 0] }));
      t.deepEqual([...bad.subarray(10)], [0, 0, FAULT.badOp]);
    }
  }
});

test('a loss of logits that are not finite is none', t => {
  for (const value of [NaN, Infinity]) {
    const logits = Float32Array.of(1, 2, value, 4, 5);
    const c = { logits, n: 5, picks: [0], targets: [1], weight: 1 };
    t.true(Number.isNaN(onAll(d => crossEntropy(d, Op.CROSS_ENTROPY_BACK, c).subarray(5, 6))[0]));
  }
});

// ── Rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('ROWS_BACK: to the rows that tokens or positions name, one after the other', t => {
  for (const byPosition of [0, 1]) {
    const [rows, k] = [9, 13];
    const names = [3, 8, 3, 0];
    const [src, dst] = [normals(names.length * k), normals(rows * k)];
    const add = (tokens: readonly number[], positions: readonly number[]): Float32Array =>
      onAll(d => {
        const dstAt = d.put(dst);
        const words = {
          [ops.RowsBack.dstAt]: dstAt,
          [ops.RowsBack.k]: k,
          [ops.RowsBack.srcAt]: d.put(src),
          [ops.RowsBack.rows]: rows,
          [ops.RowsBack.byPosition]: byPosition,
        };
        const fault = d.run(Op.ROWS_BACK, words, { tokens, positions });
        return Float32Array.from([...d.f32(dstAt, rows * k), fault]);
      });
    const others = [1, 1, 1, 1];
    const got = byPosition === 1 ? add(others, names) : add(names, others);
    const want = list(dst);
    names.forEach((row, i) => src.subarray(i * k, (i + 1) * k).forEach((v, j) => (want[row * k + j]! += v)));
    close(t, got, [...want, 0], 'rows', 1e-6);
    const outside = [3, 9, 3, 0];
    t.is((byPosition === 1 ? add(others, outside) : add(outside, others)).at(-1), FAULT.badOp);
  }
});

test('COPY and FILL', t => {
  for (const n of [1, 3, 4, 30, 257]) {
    const src = normals(3 * n);
    const copied = onAll(d => {
      const dstAt = d.room(3 * n);
      const words = { [ops.Copy.dstAt]: dstAt, [ops.Copy.n]: n, [ops.Copy.srcAt]: d.put(src) };
      done(d.run(Op.COPY, words, { n: 3 }));
      return d.f32(dstAt, 3 * n);
    });
    t.deepEqual(copied, src);
    const filled = onAll(d => {
      const dstAt = d.put(src);
      done(d.run(Op.FILL, { [ops.Fill.dstAt]: dstAt, [ops.Fill.n]: n, [ops.Fill.value]: { f32: -2.5 } }, { n: 3 }));
      return d.f32(dstAt, 3 * n);
    });
    t.true(filled.every(v => v === -2.5));
  }
});

// ── What is not a number ─────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a NaN comes through products, norms, attention and sums', t => {
  const nanAt = (n: number, at: number): Float32Array => Float32Array.from(normals(n), (v, i) => (i === at ? NaN : v));
  const some = (work: (d: OpBench) => Float32Array): void => {
    for (const d of benches) {
      d.reset();
      t.true(work(d).some(Number.isNaN), d.build);
    }
  };
  const w = matrix(TYPES.Q8_0, 6, 32);
  some(d => product(d, Op.FLOAT_MUL_MAT, { w, src: nanAt(64, 31), dst: new Float32Array(12) }));
  some(d => product(d, Op.FLOAT_MUL_MAT_BACK, { w, src: nanAt(12, 5), dst: new Float32Array(64) }));
  some(d => outer(d, 6, 9, nanAt(12, 11), normals(18), new Float32Array(54), 1));
  some(d => outer(d, 6, 9, normals(12), nanAt(18, 8), new Float32Array(54), 1));
  for (const op of [Op.RMS_NORM_BACK, Op.LAYER_NORM_BACK]) {
    const c = { x: normals(9), g: normals(9), dst: normals(9), n: 9, w: null, eps: 1e-5 };
    some(d => normBack(d, op, { ...c, x: nanAt(9, 8) }, false));
    some(d => normBack(d, op, { ...c, g: nanAt(9, 3) }, false));
  }
  const c = attentionCases[3]!;
  const [x, g] = [normals(c.n * c.width), normals(c.n * c.heads * c.headDim)];
  for (const at of [0, (c.heads + 1) * c.headDim, c.width - 1]) some(d => attention(d, c, nanAt(x.length, at)));
  some(d => attentionSlope(d, Op.CAUSAL_ATTENTION_BACK, c, x, nanAt(g.length, 1)));
});

test.after('how near gradients come to differences', t => {
  t.log(`largest relative error: ${worst.toExponential(1)}`);
  t.pass();
});
