// Matrix products of training, in plain f32: W · x and its two transposes, Wᵀ · y for the gradient of x and y ⊗ x for that of W. Weights of any
// type are dequantised, four rows at a time, before all tokens of the sequence go over them. Every product and every sum is rounded; the order of
// a sum is given by its length alone: products of four lanes over k, of rows and of tokens one after the other.

import { FLAG_ADD, FloatMulMat, GROUP, Outer, TYPE_F32, WORD_FLAGS } from '../ops';
import { sum4 } from './math';
import { word } from './record';
import { get_group } from './types';
import { column4, madd, put, sums4, take } from './vectors';

@inline
function real(op: usize, index: i32): f32 {
  return load<f32>(op + (index << 2));
}

/** Where the result of four rows goes. */
@inline
function put4(dst: usize, sum: v128, times: f32, bias: usize, add: bool): void {
  let v = f32x4.mul(sum, f32x4.splat(times));
  if (bias != 0) v = f32x4.add(v, v128.load(bias));
  if (add) v = f32x4.add(v128.load(dst), v);
  v128.store(dst, v);
}

// ── W · x ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Four rows of f32[k] at `w`, one behind the other, times n tokens: dst[t][4]. Two tokens at a time share what is loaded of the rows. */
function four_rows(w: usize, k: i32, x: usize, xStep: usize, n: i32, dst: usize, dstStep: usize, bias: usize, times: f32, add: bool): void {
  const step: usize = k << 2;
  const rest: usize = (k & ~3) << 2;
  for (; n >= 2; n -= 2) {
    let a0 = f32x4.splat(0);
    let a1 = a0;
    let a2 = a0;
    let a3 = a0;
    let b0 = a0;
    let b1 = a0;
    let b2 = a0;
    let b3 = a0;
    let p = w;
    let p1 = w + step;
    let p2 = p1 + step;
    let p3 = p2 + step;
    let u = x;
    let v = x + xStep;
    for (let i = k; i >= 4; i -= 4) {
      const y = v128.load(u);
      const z = v128.load(v);
      const q0 = v128.load(p);
      a0 = madd(a0, q0, y);
      b0 = madd(b0, q0, z);
      const q1 = v128.load(p1);
      a1 = madd(a1, q1, y);
      b1 = madd(b1, q1, z);
      const q2 = v128.load(p2);
      a2 = madd(a2, q2, y);
      b2 = madd(b2, q2, z);
      const q3 = v128.load(p3);
      a3 = madd(a3, q3, y);
      b3 = madd(b3, q3, z);
      p += 16;
      p1 += 16;
      p2 += 16;
      p3 += 16;
      u += 16;
      v += 16;
    }
    let a = sums4(a0, a1, a2, a3);
    let b = sums4(b0, b1, b2, b3);
    for (let i = rest; i < step; i += 4) {
      const q = column4(w + i, step);
      a = madd(a, q, v128.load32_splat(x + i));
      b = madd(b, q, v128.load32_splat(x + xStep + i));
    }
    put4(dst, a, times, bias, add);
    put4(dst + dstStep, b, times, bias, add);
    x += 2 * xStep;
    dst += 2 * dstStep;
  }
  if (n > 0) {
    let a0 = f32x4.splat(0);
    let a1 = a0;
    let a2 = a0;
    let a3 = a0;
    let p = w;
    let u = x;
    for (let i = k; i >= 4; i -= 4) {
      const y = v128.load(u);
      a0 = madd(a0, v128.load(p), y);
      a1 = madd(a1, v128.load(p + step), y);
      a2 = madd(a2, v128.load(p + 2 * step), y);
      a3 = madd(a3, v128.load(p + 3 * step), y);
      p += 16;
      u += 16;
    }
    let a = sums4(a0, a1, a2, a3);
    for (let i = rest; i < step; i += 4) a = madd(a, column4(w + i, step), v128.load32_splat(x + i));
    put4(dst, a, times, bias, add);
  }
}

/** One row times n tokens, added in the same order. */
function one_row(w: usize, k: i32, x: usize, xStep: usize, n: i32, dst: usize, dstStep: usize, bias: usize, times: f32, add: bool): void {
  for (; n > 0; n--) {
    let sums = f32x4.splat(0);
    let i = 0;
    for (; i + 4 <= k; i += 4) sums = madd(sums, v128.load(w + (i << 2)), v128.load(x + (i << 2)));
    let sum = sum4(sums);
    for (; i < k; i++) sum += load<f32>(w + (i << 2)) * load<f32>(x + (i << 2));
    sum *= times;
    if (bias != 0) sum += load<f32>(bias);
    if (add) sum = load<f32>(dst) + sum;
    store<f32>(dst, sum);
    x += xStep;
    dst += dstStep;
  }
}

/** Four rows of the matrix, or one of the last (`four`), as f32: where they lie in it, or dequantised to scratch. */
@inline
function float_rows(op: usize, row: i32, four: bool): usize {
  const type = word(op, FloatMulMat.weightType);
  const k = word(op, FloatMulMat.k);
  const w: usize = word(op, FloatMulMat.weightsAt);
  if (type == TYPE_F32) return w + ((row * k) << 2);
  const to: usize = word(op, FloatMulMat.rowAt);
  get_group(type, w, k, row, four, to);
  return to;
}

/** FLOAT_MUL_MAT over n tokens. */
export function float_mul_mat(op: usize, n: i32): void {
  const rows = word(op, FloatMulMat.rows);
  const k = word(op, FloatMulMat.k);
  const src: usize = word(op, FloatMulMat.srcAt);
  const srcStep: usize = word(op, FloatMulMat.srcStride) << 2;
  const dstStep: usize = word(op, FloatMulMat.dstStride) << 2;
  const times = real(op, FloatMulMat.times);
  const add = (word(op, WORD_FLAGS) & FLAG_ADD) != 0;
  let dst: usize = word(op, FloatMulMat.dstAt);
  let bias: usize = word(op, FloatMulMat.biasAt);
  let row = 0;
  for (; row + GROUP <= rows; row += GROUP) {
    four_rows(float_rows(op, row, true), k, src, srcStep, n, dst, dstStep, bias, times, add);
    dst += 4 * GROUP;
    if (bias != 0) bias += 4 * GROUP;
  }
  for (; row < rows; row++) {
    one_row(float_rows(op, row, false), k, src, srcStep, n, dst, dstStep, bias, times, add);
    dst += 4;
    if (bias != 0) bias += 4;
  }
}

// ── Wᵀ · y ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


/** The values that tokens have for four rows, each times `times`. */
@inline
function four_of(y: usize, lane: i32, times: f32): v128 {
  return f32x4.splat(load<f32>(y + (lane << 2)) * times);
}

/** dst[t][k] += Σ over four rows at `w`, one behind the other, of y[t][row] · times · W[row], in the order of rows. */
function four_rows_back(w: usize, k: i32, y: usize, yStep: usize, n: i32, dst: usize, dstStep: usize, times: f32): void {
  const step: usize = k << 2;
  for (; n >= 2; n -= 2) {
    const s0 = four_of(y, 0, times);
    const s1 = four_of(y, 1, times);
    const s2 = four_of(y, 2, times);
    const s3 = four_of(y, 3, times);
    const r0 = four_of(y + yStep, 0, times);
    const r1 = four_of(y + yStep, 1, times);
    const r2 = four_of(y + yStep, 2, times);
    const r3 = four_of(y + yStep, 3, times);
    let p = w;
    let p1 = p + step;
    let p2 = p1 + step;
    let p3 = p2 + step;
    let d = dst;
    let e = dst + dstStep;
    let i = k;
    for (; i >= 4; i -= 4) {
      const q0 = v128.load(p);
      const q1 = v128.load(p1);
      const q2 = v128.load(p2);
      const q3 = v128.load(p3);
      v128.store(d, madd(madd(madd(madd(v128.load(d), q0, s0), q1, s1), q2, s2), q3, s3));
      v128.store(e, madd(madd(madd(madd(v128.load(e), q0, r0), q1, r1), q2, r2), q3, r3));
      p += 16;
      p1 += 16;
      p2 += 16;
      p3 += 16;
      d += 16;
      e += 16;
    }
    for (; i > 0; i--) {
      const q0 = v128.load32_splat(p);
      const q1 = v128.load32_splat(p1);
      const q2 = v128.load32_splat(p2);
      const q3 = v128.load32_splat(p3);
      v128.store32_lane(d, madd(madd(madd(madd(v128.load32_splat(d), q0, s0), q1, s1), q2, s2), q3, s3), 0);
      v128.store32_lane(e, madd(madd(madd(madd(v128.load32_splat(e), q0, r0), q1, r1), q2, r2), q3, r3), 0);
      p += 4;
      p1 += 4;
      p2 += 4;
      p3 += 4;
      d += 4;
      e += 4;
    }
    y += 2 * yStep;
    dst += 2 * dstStep;
  }
  if (n > 0) {
    for (let row = 0; row < GROUP; row++) {
      one_token_back(w, k, y, dst, times);
      w += step;
      y += 4;
    }
  }
}

/** dst[k] += y · times · W of one row. */
@inline
function one_token_back(w: usize, k: i32, y: usize, dst: usize, times: f32): void {
  const s = four_of(y, 0, times);
  let i = 0;
  for (; i + 4 <= k; i += 4) v128.store(dst + (i << 2), madd(v128.load(dst + (i << 2)), v128.load(w + (i << 2)), s));
  for (; i < k; i++) {
    v128.store32_lane(dst + (i << 2), madd(v128.load32_splat(dst + (i << 2)), v128.load32_splat(w + (i << 2)), s), 0);
  }
}

/** The same of one row. */
function one_row_back(w: usize, k: i32, y: usize, yStep: usize, n: i32, dst: usize, dstStep: usize, times: f32): void {
  for (; n > 0; n--) {
    one_token_back(w, k, y, dst, times);
    y += yStep;
    dst += dstStep;
  }
}

/** FLOAT_MUL_MAT_BACK over n tokens. */
export function float_mul_mat_back(op: usize, n: i32): void {
  const rows = word(op, FloatMulMat.rows);
  const k = word(op, FloatMulMat.k);
  const dst: usize = word(op, FloatMulMat.dstAt);
  const dstStep: usize = word(op, FloatMulMat.dstStride) << 2;
  const srcStep: usize = word(op, FloatMulMat.srcStride) << 2;
  const times = real(op, FloatMulMat.times);
  if ((word(op, WORD_FLAGS) & FLAG_ADD) == 0) {
    let to = dst;
    for (let t = n; t > 0; t--) {
      memory.fill(to, 0, k << 2);
      to += dstStep;
    }
  }
  let src: usize = word(op, FloatMulMat.srcAt);
  let row = 0;
  for (; row + GROUP <= rows; row += GROUP) {
    four_rows_back(float_rows(op, row, true), k, src, srcStep, n, dst, dstStep, times);
    src += 4 * GROUP;
  }
  for (; row < rows; row++) {
    one_row_back(float_rows(op, row, false), k, src, srcStep, n, dst, dstStep, times);
    src += 4;
  }
}

// ── y ⊗ x ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Eight columns of rows of f32[rows][k]: dst += Σt y[t][row] · (times · x[t][column]), token by token onto what is there: a sequence that comes in
 * groups of tokens gives the same bits.
 */
function outer_eight(y: usize, yStep: usize, x: usize, xStep: usize, n: i32, rows: i32, dst: usize, step: usize, times: v128): void {
  // Two rows at once: with four, V8 keeps sums in memory.
  for (; rows >= 2; rows -= 2) {
    let a0 = v128.load(dst);
    let b0 = v128.load(dst, 16);
    let a1 = v128.load(dst + step);
    let b1 = v128.load(dst + step, 16);
    let p = y;
    let q = x;
    for (let t = n; t > 0; t--) {
      const u = f32x4.mul(v128.load(q), times);
      const v = f32x4.mul(v128.load(q, 16), times);
      const s0 = v128.load32_splat(p);
      a0 = madd(a0, s0, u);
      b0 = madd(b0, s0, v);
      const s1 = v128.load32_splat(p, 4);
      a1 = madd(a1, s1, u);
      b1 = madd(b1, s1, v);
      p += yStep;
      q += xStep;
    }
    v128.store(dst, a0);
    v128.store(dst, b0, 16);
    v128.store(dst + step, a1);
    v128.store(dst + step, b1, 16);
    dst += 2 * step;
    y += 8;
  }
  if (rows > 0) {
    outer_column(y, yStep, x, xStep, n, dst, times, true);
    outer_column(y, yStep, x + 16, xStep, n, dst + 16, times, true);
  }
}

/** One row's four columns, or one. */
@inline
function outer_column(y: usize, yStep: usize, x: usize, xStep: usize, n: i32, dst: usize, times: v128, four: bool): void {
  let sum = take(dst, four);
  for (; n > 0; n--) {
    sum = madd(sum, v128.load32_splat(y), f32x4.mul(take(x, four), times));
    y += yStep;
    x += xStep;
  }
  put(dst, sum, four);
}

/** The same of the columns that are left: fours, then single ones. */
@inline
function outer_rest(y: usize, yStep: usize, x: usize, xStep: usize, n: i32, rows: i32, dst: usize, step: usize, times: v128, four: bool): void {
  for (; rows > 0; rows--) {
    outer_column(y, yStep, x, xStep, n, dst, times, four);
    dst += step;
    y += 4;
  }
}

/** OUTER over n tokens. Columns are the outer loop: what it reads of all tokens stays near while rows pass. */
export function outer(op: usize, n: i32): void {
  const rows = word(op, Outer.rows);
  const y: usize = word(op, Outer.srcAt);
  const yStep: usize = word(op, Outer.srcStride) << 2;
  const xStep: usize = word(op, Outer.xStride) << 2;
  const step: usize = word(op, Outer.k) << 2;
  const times = v128.load32_splat(op + (Outer.times << 2));
  let x: usize = word(op, Outer.xAt);
  let dst: usize = word(op, Outer.dstAt);
  let left = word(op, Outer.k);
  for (; left >= 8; left -= 8) {
    outer_eight(y, yStep, x, xStep, n, rows, dst, step, times);
    x += 32;
    dst += 32;
  }
  for (; left >= 4; left -= 4) {
    outer_rest(y, yStep, x, xStep, n, rows, dst, step, times, true);
    x += 16;
    dst += 16;
  }
  for (; left > 0; left--) {
    outer_rest(y, yStep, x, xStep, n, rows, dst, step, times, false);
    x += 4;
    dst += 4;
  }
}
