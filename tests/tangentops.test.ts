// Forward mode, adapters, optimizers and normals, op by op in both builds: derivatives against central differences of plain f64 functions and
// against the adjoint ops, the specification's worked vectors, optimizers against plain f64 ones, normals against their distribution.

import test, { type ExecutionContext } from 'ava';
import * as ops from '../drivers/engine/ops.ts';
import { FAULT, TrainBlock } from '../kernel/abi/index.ts';
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

/** The derivative of a gate at x. */
const slope = (op: ops.Op, x: number): number => onAll(d => gatedJvp(d, op, [x], [1], [1], [0]))[0]!;

test('the specification’s silu′(1) = .92767051, and slopes far out are those of a line', t => {
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

// ── Loss ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Registers {
  readonly f64: Readonly<Record<number, number>>;
  readonly f32: Readonly<Record<number, number>>;
  readonly u32: Readonly<Record<number, number>>;
}

/** A TrainBlock with these registers, the others 0. */
function block(d: OpBench, { f64 = {}, f32 = {}, u32 = {} }: Partial<Registers>): number {
  const at = d.room(TrainBlock.bytes / 4);
  d.u8.fill(0, at, at + TrainBlock.bytes);
  for (const [offset, value] of Object.entries(f64)) d.view.setFloat64(at + Number(offset), value, true);
  for (const [offset, value] of Object.entries(f32)) d.view.setFloat32(at + Number(offset), value, true);
  for (const [offset, value] of Object.entries(u32)) d.view.setUint32(at + Number(offset), value, true);
  return at;
}

test('TrainBlock’s registers are where ops look for them', t => {
  t.deepEqual(
    { ...TrainBlock.at },
    {
      loss: ops.TRAIN_LOSS,
      slope: ops.TRAIN_SLOPE,
      squares: ops.TRAIN_SQUARES,
      distance: ops.TRAIN_DISTANCE,
      seedLow: ops.TRAIN_SEED_LOW,
      seedHigh: ops.TRAIN_SEED_HIGH,
      count: ops.TRAIN_COUNT,
      weight: ops.TRAIN_WEIGHT,
      rate: ops.TRAIN_RATE,
      times: ops.TRAIN_TIMES,
      beta1: ops.TRAIN_BETA1,
      beta2: ops.TRAIN_BETA2,
      correction1: ops.TRAIN_CORRECTION1,
      correction2: ops.TRAIN_CORRECTION2,
      epsilon: ops.TRAIN_EPSILON,
      decay: ops.TRAIN_DECAY,
      anchor: ops.TRAIN_ANCHOR,
      sigma: ops.TRAIN_SIGMA,
      coefficient: ops.TRAIN_COEFFICIENT,
      reserved: ops.TRAIN_COEFFICIENT + 4,
    },
  );
});

interface LossCase {
  readonly logits: Float32Array;
  readonly tangents: Float32Array;
  readonly n: number;
  readonly stride: number;
  readonly picks: number[];
  readonly targets: number[];
  readonly weight: number;
}

/** loss, slope, count and the fault of CROSS_ENTROPY or its tangent. */
function lossOf(d: OpBench, op: ops.Op, c: LossCase): Float64Array {
  const blockAt = block(d, {
    f64: { [ops.TRAIN_LOSS]: 1.5, [ops.TRAIN_SLOPE]: -2 },
    f32: { [ops.TRAIN_WEIGHT]: c.weight },
    u32: { [ops.TRAIN_COUNT]: 3 },
  });
  const words = {
    [ops.CrossEntropy.at]: d.put(c.logits),
    [ops.CrossEntropy.n]: c.n,
    [ops.CrossEntropy.stride]: c.stride,
    [ops.CrossEntropy.targetsAt]: d.putU32(c.targets),
    [ops.CrossEntropy.blockAt]: blockAt,
    ...(op === Op.CROSS_ENTROPY ? {} : { [ops.CrossEntropy.tangentAt]: d.put(c.tangents) }),
  };
  const fault = d.run(op, words, { n: c.targets.length, picks: c.picks, byRows: true });
  const real = (at: number): number => d.view.getFloat64(blockAt + at, true);
  return Float64Array.of(
    real(ops.TRAIN_LOSS),
    real(ops.TRAIN_SLOPE),
    d.view.getUint32(blockAt + ops.TRAIN_COUNT, true),
    fault,
  );
}

test('CROSS_ENTROPY_JVP: loss and slope over the picks, each with its target; the loss is that of CROSS_ENTROPY to the bit', t => {
  for (const n of [2, 3, 7, 64, 1001]) {
    const [stride, weight] = [n + 2, 0.25];
    const targets = [0, n - 1, ops.NO_TARGET, 1, 1];
    const picks = [1, 4, 0];
    const [logits, tangents] = [normals(picks.length * stride, 4), normals(picks.length * stride)];
    const c = { logits, tangents, n, stride, picks, targets, weight };
    const [loss, slope, count, fault] = onAll(d => lossOf(d, Op.CROSS_ENTROPY_JVP, c));
    t.is(fault, 0);
    t.is(count, 3 + picks.length);
    const rows = rowsOf(logits, stride).map(row => row.slice(0, n));
    const ways = rowsOf(tangents, stride).map(row => row.slice(0, n));
    const total = (all: reference.Row): number[] => [
      picks.reduce((sum, row, i) => sum + reference.crossEntropy(all.slice(i * n, (i + 1) * n), targets[row]!), 0),
    ];
    t.true(Math.abs(loss! - 1.5 - total(rows.flat())[0]!) < 1e-6 * Math.abs(loss!), `${n}: loss ${loss}`);
    const [want] = reference.derivative(total, rows.flat(), ways.flat());
    t.true(
      Math.abs((slope! + 2) / weight - want!) <= AIM * Math.hypot(...ways.flat()),
      `${n}: slope ${slope}, ${want}`,
    );
    const [plain, , counted] = onAll(d => lossOf(d, Op.CROSS_ENTROPY, c));
    t.deepEqual([plain, counted], [loss, count]);
    // A row without a target counts for nothing; a target that no logit has is a fault.
    t.deepEqual([...onAll(d => lossOf(d, Op.CROSS_ENTROPY_JVP, { ...c, picks: [2, 2, 2] }))], [1.5, -2, 3, 0]);
    t.is(onAll(d => lossOf(d, Op.CROSS_ENTROPY_JVP, { ...c, targets: targets.with(4, n) }))[3], FAULT.badOp);
  }
});

test('a logit or tangent that is not finite makes the slope so', t => {
  const c = { n: 5, stride: 5, picks: [0], targets: [1], weight: 1 };
  for (const bad of [NaN, Infinity]) {
    const [logits, tangents] = [normals(5), normals(5)];
    t.false(
      Number.isFinite(onAll(d => lossOf(d, Op.CROSS_ENTROPY_JVP, { ...c, tangents, logits: logits.with(2, bad) }))[1]),
    );
    t.false(
      Number.isFinite(
        onAll(d => lossOf(d, Op.CROSS_ENTROPY_JVP, { ...c, logits, tangents: tangents.with(2, bad) }))[1],
      ),
    );
  }
});

// ── Adjoints ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What ⟨y, J x⟩ and ⟨Jᵀ y, x⟩ may differ by, of the sum of their products' sizes. */
const ADJOINT = 1e-6;
const total = (list: readonly number[]): number => list.reduce((sum, v) => sum + v, 0);
function adjoint(
  t: ExecutionContext,
  pairs: readonly [ArrayLike<number>, ArrayLike<number>][],
  others: typeof pairs,
  what: string,
): void {
  const products = (list: typeof pairs): number[] => list.flatMap(([a, b]) => Array.from(a).map((v, i) => v * b[i]!));
  const [forwards, backwards] = [products(pairs), products(others)];
  const size = total([...forwards, ...backwards].map(Math.abs));
  const error = Math.abs(total(forwards) - total(backwards)) / size;
  t.true(error < ADJOINT, `${what}: ${total(forwards)} forwards, ${total(backwards)} backwards`);
}

test('tangents and gradients are adjoint: norms', t => {
  for (const [forward, backward] of [
    [Op.RMS_NORM_JVP, Op.RMS_NORM_BACK],
    [Op.LAYER_NORM_JVP, Op.LAYER_NORM_BACK],
  ] as const)
    for (const n of [5, 32, 131]) {
      const [x, dx, y, w] = [normals(2 * n), normals(2 * n), normals(2 * n), normals(n)];
      const jx = onAll(d => normJvp(d, forward, { x, dx, n, w, eps: 1e-5 }));
      const jty = onAll(d => {
        const dstAt = d.put(new Float32Array(2 * n));
        const words = {
          [ops.NormBack.dstAt]: dstAt,
          [ops.NormBack.n]: n,
          [ops.NormBack.srcAt]: d.put(y),
          [ops.NormBack.xAt]: d.put(x),
          [ops.NormBack.weightsAt]: d.put(w),
          [ops.NormBack.eps]: { f32: 1e-5 },
        };
        t.is(d.run(backward, words, { n: 2 }), 0);
        return d.f32(dstAt, 2 * n);
      });
      adjoint(t, [[y, jx]], [[jty, dx]], `${Op[backward]}, ${n}`);
    }
});

test('tangents and gradients are adjoint: attention', t => {
  for (const [heads, headsKv, headDim, n] of [
    [1, 1, 3, 4],
    [4, 2, 8, 11],
    [3, 1, 18, 6],
  ] as const) {
    const shape = { heads, headsKv, headDim, scale: Math.fround(1 / Math.sqrt(headDim)) };
    const stride = (heads + 2 * headsKv) * headDim;
    const [x, dx, y] = [normals(n * stride), normals(n * stride), normals(n * heads * headDim)];
    const jx = onAll(d => attentionJvp(d, shape, x, dx, stride));
    const jty = onAll(d => {
      const dstAt = d.put(new Float32Array(n * stride));
      const words = {
        [ops.CausalAttentionBack.dstAt]: dstAt,
        [ops.CausalAttentionBack.srcAt]: d.put(y),
        [ops.CausalAttentionBack.qAt]: d.put(x),
        [ops.CausalAttentionBack.heads]: heads,
        [ops.CausalAttentionBack.headsKv]: headsKv,
        [ops.CausalAttentionBack.headDim]: headDim,
        [ops.CausalAttentionBack.stride]: stride,
        [ops.CausalAttentionBack.scale]: { f32: shape.scale },
        [ops.CausalAttentionBack.scoresAt]: d.room(2 * n),
      };
      t.is(d.run(Op.CAUSAL_ATTENTION_BACK, words, { n, byRows: true }), 0);
      return d.f32(dstAt, n * stride);
    });
    adjoint(t, [[y, jx]], [[jty, dx]], `${heads}/${headsKv} heads of ${headDim}`);
  }
});

test('tangents and gradients are adjoint: gates', t => {
  for (const [forward, backward] of [
    [Op.SILU_MUL_JVP, Op.SILU_MUL_BACK],
    [Op.GELU_MUL_JVP, Op.GELU_MUL_BACK],
    [Op.GELU_JVP, Op.GELU_BACK],
  ] as const)
    for (const n of [3, 50]) {
      const [x, dx, up, dup, y] = [normals(n, 2), normals(n), normals(n), normals(n), normals(n)];
      const gated = forward !== Op.GELU_JVP;
      const jx = onAll(d => gatedJvp(d, forward, x, dx, up, dup));
      const jty = onAll(d => {
        const [dstAt, upDstAt] = [d.room(n), d.put(new Float32Array(n))];
        const words = {
          [ops.GatedBack.dstAt]: dstAt,
          [ops.GatedBack.n]: n,
          [ops.GatedBack.srcAt]: d.put(x),
          [ops.GatedBack.gradAt]: d.put(y),
          ...(gated ? { [ops.GatedBack.upAt]: d.put(up), [ops.GatedBack.upGradAt]: upDstAt } : {}),
        };
        t.is(d.run(backward, words), 0);
        return Float32Array.from([...d.f32(dstAt, n), ...d.f32(upDstAt, n)]);
      });
      adjoint(
        t,
        [[y, jx]],
        [
          [jty.subarray(0, n), dx],
          [jty.subarray(n), dup],
        ],
        `${Op[backward]}, ${n}`,
      );
    }
});

test('tangents and gradients are adjoint: loss', t => {
  const [n, stride, picks, targets, weight] = [37, 40, [1, 0], [3, 36], 0.5];
  const [logits, tangents] = [normals(2 * stride), normals(2 * stride)];
  const [, slope] = onAll(d =>
    lossOf(d, Op.CROSS_ENTROPY_JVP, { logits, tangents, n, stride, picks, targets, weight }),
  );
  const grad = onAll(d => {
    const at = d.put(logits);
    const words = {
      [ops.CrossEntropy.at]: at,
      [ops.CrossEntropy.n]: n,
      [ops.CrossEntropy.stride]: stride,
      [ops.CrossEntropy.targetsAt]: d.putU32(targets),
      [ops.CrossEntropy.blockAt]: block(d, { f32: { [ops.TRAIN_WEIGHT]: weight } }),
    };
    t.is(d.run(Op.CROSS_ENTROPY_BACK, words, { n: 2, picks, byRows: true }), 0);
    return Float32Array.from(rowsOf(d.f32(at, 2 * stride), stride).flatMap(row => row.slice(0, n)));
  });
  adjoint(
    t,
    [[[1], [slope! + 2]]],
    [[grad, rowsOf(tangents, stride).flatMap(row => row.slice(0, n))]],
    'CROSS_ENTROPY_BACK',
  );
});

// ── Optimizers ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Settings {
  readonly rate: number;
  readonly times: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly decay: number;
  readonly anchor: number;
}
const SETTINGS: Settings = { rate: 0.01, times: 1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0, anchor: 0 };

/** Parameters and moments after steps of an optimizer, the vectors behind each other. `momentum`: of SGD. */
function optimised(
  d: OpBench,
  op: ops.Op,
  s: Settings,
  theta0: Float32Array,
  grads: readonly Float32Array[],
  momentum = true,
): Float32Array {
  const n = theta0.length;
  const [theta, first, second, anchor] = [
    d.put(theta0),
    d.put(new Float32Array(n)),
    d.put(new Float32Array(n)),
    d.put(theta0),
  ];
  let [power1, power2] = [1, 1];
  for (const grad of grads) {
    power1 *= Math.fround(s.beta1);
    power2 *= Math.fround(s.beta2);
    const f32 = {
      [ops.TRAIN_RATE]: s.rate,
      [ops.TRAIN_TIMES]: s.times,
      [ops.TRAIN_BETA1]: s.beta1,
      [ops.TRAIN_BETA2]: s.beta2,
      [ops.TRAIN_CORRECTION1]: 1 - power1,
      [ops.TRAIN_CORRECTION2]: 1 - power2,
      [ops.TRAIN_EPSILON]: s.epsilon,
      [ops.TRAIN_DECAY]: s.decay,
      [ops.TRAIN_ANCHOR]: s.anchor,
    };
    const [gradAt, before] = [d.put(grad), d.f32(theta, n)];
    const words = {
      [ops.Update.dstAt]: theta,
      [ops.Update.n]: n,
      [ops.Update.gradAt]: gradAt,
      [ops.Update.firstAt]: momentum ? first : 0,
      [ops.Update.secondAt]: op === Op.ADAM ? second : 0,
      [ops.Update.anchorAt]: s.anchor === 0 ? 0 : anchor,
      [ops.Update.blockAt]: block(d, { f32 }),
    };
    if (d.run(op, words) !== 0) throw new Error('a fault');
    // What parameters were is where gradients have been.
    if (Buffer.compare(Buffer.from(d.f32(gradAt, n).buffer), Buffer.from(before.buffer)) !== 0)
      throw new Error('what parameters were is lost');
  }
  return Float32Array.from([theta, first, second].flatMap(at => [...d.f32(at, n)]));
}

/** torch.optim.AdamW and SGD in plain doubles, decay decoupled in both. */
function plainOptimised(
  op: ops.Op,
  s: Settings,
  theta0: Float32Array,
  grads: readonly Float32Array[],
  momentum = true,
): number[] {
  const b1 = Math.fround(s.beta1);
  const b2 = Math.fround(s.beta2);
  const state = Array.from(theta0, theta => ({ theta, first: 0, second: 0 }));
  grads.forEach((grad, i) => {
    const steps = i + 1;
    state.forEach((p, j) => {
      const g = grad[j]! * s.times + 2 * s.anchor * (p.theta - theta0[j]!);
      p.theta -= s.rate * s.decay * p.theta;
      if (op === Op.ADAM) {
        p.first = b1 * p.first + (1 - b1) * g;
        p.second = b2 * p.second + (1 - b2) * g * g;
        p.theta -= (s.rate * (p.first / (1 - b1 ** steps))) / (Math.sqrt(p.second / (1 - b2 ** steps)) + s.epsilon);
      } else {
        if (momentum) p.first = b1 * p.first + g;
        p.theta -= s.rate * (momentum ? p.first : g);
      }
    });
  });
  return [state.map(p => p.theta), state.map(p => p.first), state.map(p => p.second)].flat();
}

for (const [name, op] of [
  ['ADAM', Op.ADAM],
  ['SGD', Op.SGD],
] as const)
  test(`${name}: many steps, against plain doubles`, t => {
    const cases: [string, Partial<Settings>, boolean?][] = [
      ['as it is', {}],
      ['clipped', { times: 0.125 }],
      ['with decay', { decay: 0.1 }],
      ['with an anchor', { anchor: 0.5 }],
      ['with all', { times: 0.3, decay: 0.01, anchor: 0.1, rate: 0.001, beta1: 0.8, beta2: 0.95, epsilon: 1e-4 }],
      ['without momentum', { beta1: 0, decay: 0.1, anchor: 0.2 }, op === Op.ADAM],
    ];
    for (const n of [1, 3, 4, 5, 18, 67]) {
      for (const [what, some, momentum = true] of cases) {
        const s = { ...SETTINGS, ...some };
        const theta = normals(n);
        const grads = Array.from({ length: 60 }, () => normals(n, 3));
        const got = onAll(d => optimised(d, op, s, theta, grads, momentum));
        const want = plainOptimised(op, s, theta, grads, momentum);
        for (const part of [0, 1, 2]) {
          const [a, b] = [got.subarray(part * n, (part + 1) * n), want.slice(part * n, (part + 1) * n)];
          // A parameter may end near 0: errors are those of its way there.
          const error = Math.hypot(...b.map((v, k) => v - a[k]!)) / Math.hypot(1, ...b);
          t.true(error < 3e-6, `${what}, ${n}, vector ${part}: ${error}`);
        }
      }
    }
  });

test('the first step of Adam is the rate, whatever the gradient’s size; without one nothing moves', t => {
  const got = onAll(d =>
    optimised(d, Op.ADAM, SETTINGS, Float32Array.of(1, 1, 1, 1, 1), [Float32Array.of(1e-3, -1e-3, 7, 1e4, 0)]),
  );
  [0.99, 1.01, 0.99, 0.99, 1].forEach((want, i) => t.true(Math.abs(got[i]! - want) < 1e-6, `${got[i]}`));
});

test('what a step does to a value does not depend on where in a vector it lies', t => {
  const [theta, grads] = [normals(11), [normals(11), normals(11)]];
  for (const op of [Op.ADAM, Op.SGD]) {
    const s = { ...SETTINGS, decay: 0.1, anchor: 0.1 };
    const whole = onAll(d => optimised(d, op, s, theta, grads));
    for (let i = 0; i < 11; i++) {
      const [one] = onAll(d =>
        optimised(
          d,
          op,
          s,
          theta.subarray(i, i + 1),
          grads.map(g => g.subarray(i, i + 1)),
        ),
      );
      t.is(one, whole[i]);
    }
  }
});

test('SQUARES: a gradient’s norm and a distance, in f64', t => {
  for (const n of [1, 2, 3, 4, 5, 100, 1003]) {
    const [x, y] = [normals(n, 100), normals(n, 100)];
    for (const anchored of [false, true]) {
      const [got] = onAll(d => {
        const blockAt = block(d, { f64: { [ops.TRAIN_DISTANCE]: 0.5 } });
        const words = {
          [ops.Squares.srcAt]: d.put(x),
          [ops.Squares.n]: n,
          [ops.Squares.anchorAt]: anchored ? d.put(y) : 0,
          [ops.Squares.blockAt]: blockAt,
          [ops.Squares.sumAt]: ops.TRAIN_DISTANCE,
        };
        t.is(d.run(Op.SQUARES, words), 0);
        return Float64Array.of(d.view.getFloat64(blockAt + ops.TRAIN_DISTANCE, true));
      });
      const want = Array.from(x).reduce((sum, v, i) => sum + (v - (anchored ? y[i]! : 0)) ** 2, 0.5);
      t.true(Math.abs(got! - want) <= 1e-13 * want, `${n}: ${got}, ${want}`);
    }
  }
});

// ── Normals ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Stream {
  readonly low: number;
  readonly high?: number;
  readonly from?: number;
}

/** `n` values of a stream of normals, times sigma, and added to `src` where there is one. */
function stream(
  d: OpBench,
  n: number,
  { low, high = 0, from = 0 }: Stream,
  sigma = 1,
  src: Float32Array | null = null,
): Float32Array {
  const dstAt = d.room(n);
  const words = {
    [ops.Perturb.dstAt]: dstAt,
    [ops.Perturb.n]: n,
    [ops.Perturb.srcAt]: src === null ? 0 : d.put(src),
    [ops.Perturb.blockAt]: block(d, {
      f32: { [ops.TRAIN_SIGMA]: sigma },
      u32: { [ops.TRAIN_SEED_LOW]: low, [ops.TRAIN_SEED_HIGH]: high },
    }),
    [ops.Perturb.from]: from,
  };
  if (d.run(Op.PERTURB, words) !== 0) throw new Error('a fault');
  return d.f32(dstAt, n);
}

test('normals: the bits of some', t => {
  const got = onAll(d => stream(d, 8, { low: 42 }));
  const hex = [...new Uint32Array(got.buffer)].map(v => v.toString(16));
  t.deepEqual(hex, ['bf5576ce', 'bf93bd97', '3e99f7dc', '3d0c068f', 'c008b976', 'bf2b3448', 'bfa5a182', '3f04fdda']);
});

const u64 = (x: bigint): bigint => BigInt.asUintN(64, x);
function mixed(x: bigint): bigint {
  const a = u64((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n);
  const b = u64((a ^ (a >> 27n)) * 0x94d049bb133111ebn);
  return b ^ (b >> 31n);
}

test('normals: what the mix of seed and index gives, computed plainly', t => {
  const step = 0x9e3779b97f4a7c15n;
  for (const [low, high, from] of [
    [42, 0, 0],
    [0, 0, 7],
    [0xffffffff, 0xfedcba98, 1_999_990],
  ] as const) {
    const got = onAll(d => stream(d, 20, { low, high, from }));
    const first = mixed(u64((BigInt(high) << 32n) + BigInt(low) + step));
    got.forEach((v, i) => {
      const bits = mixed(u64(first + BigInt(from + i) * step));
      const u = (Number(bits >> 32n) + 1) / 2 ** 32;
      const want = Math.sqrt(-2 * Math.log(u)) * Math.cos((2 * Math.PI * Number(bits & 0xffffffffn)) / 2 ** 32);
      t.true(Math.abs(v - want) < 3e-6, `${from + i}: ${v}, ${want}`);
    });
  }
});

const density = (v: number): number => Math.exp((-v * v) / 2) / Math.sqrt(2 * Math.PI);
/** The chance that a normal number is beyond x. */
function beyond(x: number): number {
  // Simpson's rule over the density, from x to 12.
  const [n, h] = [4000, (12 - x) / 4000];
  let sum = density(x) + density(12);
  for (let i = 1; i < n; i++) sum += density(x + i * h) * (i % 2 === 0 ? 2 : 4);
  return (sum * h) / 3;
}

const MANY = 1_000_000;

test('normals: moments, tails, correlations of a million, for several seeds', t => {
  const d = benches[0]!;
  for (const seed of [{ low: 0 }, { low: 1 }, { low: 0, high: 1 }, { low: 0xffffffff, high: 0xdeadbeef }]) {
    d.reset();
    const x = stream(d, MANY, seed);
    const moment = (k: number): number => x.reduce((sum, v) => sum + v ** k, 0) / MANY;
    // Five standard errors of each: the variance of x^k is E x^2k − (E x^k)².
    const error = 5 / Math.sqrt(MANY);
    t.true(Math.abs(moment(1)) < error, `mean ${moment(1)}`);
    t.true(Math.abs(moment(2) - 1) < error * Math.sqrt(2), `variance ${moment(2)}`);
    t.true(Math.abs(moment(3)) < error * Math.sqrt(15), `skewness ${moment(3)}`);
    t.true(Math.abs(moment(4) - 3) < error * Math.sqrt(96), `kurtosis ${moment(4)}`);
    for (const lag of [1, 2, 3, 64, 4096]) {
      let [plain, squared] = [0, 0];
      for (let i = 0; i + lag < MANY; i++) {
        plain += x[i]! * x[i + lag]!;
        squared += (x[i]! ** 2 - 1) * (x[i + lag]! ** 2 - 1);
      }
      t.true(Math.abs(plain / MANY) < error, `lag ${lag}: ${plain / MANY}`);
      t.true(Math.abs(squared / MANY) < error * 2, `lag ${lag}, squares: ${squared / MANY}`);
    }
    for (const edge of [1, 2, 3, 4, 4.5]) {
      const p = beyond(edge);
      for (const side of [1, -1]) {
        const n = x.reduce((sum, v) => sum + Number(v * side > edge), 0);
        t.true(
          Math.abs(n - MANY * p) < 5 * Math.sqrt(MANY * p) + 1,
          `${n} beyond ${side * edge}, ${MANY * p} expected`,
        );
      }
    }
    t.true(x.every(v => Math.abs(v) < 6.67));
  }
});

test('normals: their probabilities are uniform in a thousand cells', t => {
  const d = benches[0]!;
  d.reset();
  const sorted = stream(d, MANY, { low: 7 }).toSorted();
  // Kolmogorov and Smirnov: the largest distance between the two distributions, at a thousand places.
  let most = 0;
  for (let i = 1; i < 1000; i++) {
    const v = sorted[(i * MANY) / 1000]!;
    const p = v < 0 ? beyond(-v) : 1 - beyond(v);
    most = Math.max(most, Math.abs(p - i / 1000));
  }
  t.true(most < 1.95 / Math.sqrt(MANY), `${most}`); // one in a thousand
});

test('normals: streams of seeds, and of directions, have nothing to do with each other', t => {
  const d = benches[0]!;
  d.reset();
  const n = 100_000;
  const streams = [{ low: 5 }, { low: 6 }, { low: 5, high: 1 }, { low: 5, high: 2 }, { low: 0x9e3779b9, high: 5 }].map(
    s => stream(d, n, s),
  );
  streams.forEach((a, i) =>
    streams.slice(i + 1).forEach((b, j) => {
      for (const lag of [0, 1, 2]) {
        let sum = 0;
        for (let k = 0; k + lag < n; k++) sum += a[k]! * b[k + lag]!;
        t.true(Math.abs(sum / n) < 5 / Math.sqrt(n), `${i} and ${i + 1 + j}: ${sum / n}`);
      }
    }),
  );
});

test('normals: any value alone is what it is in a run; PERTURB adds sigma times it, ACCUMULATE coefficient times it', t => {
  const seed = { low: 123, high: 9 };
  const run = onAll(d => stream(d, 37, { ...seed, from: 1000 }));
  for (let i = 0; i < 37; i++) t.is(onAll(d => stream(d, 1, { ...seed, from: 1000 + i }))[0], run[i]);
  const src = normals(37);
  const sum = (v: number, factor: number, i: number): number =>
    Math.fround(Math.fround(Math.fround(factor) * run[i]!) + v);
  for (const sigma of [0.02, -0.02]) {
    const perturbed = onAll(d => stream(d, 37, { ...seed, from: 1000 }, sigma, src));
    t.deepEqual(
      [...perturbed],
      [...src].map((v, i) => sum(v, sigma, i)),
    );
  }
  const gathered = onAll(d => {
    const dstAt = d.put(src);
    const words = {
      [ops.Perturb.dstAt]: dstAt,
      [ops.Perturb.n]: 37,
      [ops.Perturb.blockAt]: block(d, {
        f32: { [ops.TRAIN_COEFFICIENT]: -1.75 },
        u32: { [ops.TRAIN_SEED_LOW]: seed.low, [ops.TRAIN_SEED_HIGH]: seed.high },
      }),
      [ops.Perturb.from]: 1000,
    };
    t.is(d.run(Op.ACCUMULATE, words), 0);
    return d.f32(dstAt, 37);
  });
  t.deepEqual(
    [...gathered],
    [...src].map((v, i) => sum(v, -1.75, i)),
  );
});
