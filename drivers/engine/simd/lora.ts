// Low-rank adapters (Hu et al. 2021) beside a product: a row of its result gets the adapter's part, W·x + scale · B·(A·x), with the scale of the
// session whose row it is. The same instructions run whatever the scale is, so an adapter that a session does not use costs it as much as one
// that it uses, and changes no bit. Sums are added in one order: a result does not depend on the pass it came in, nor on the build.

import { Lora, ROW_TABLE_AT } from '../ops';
import { sum4 } from './math';
import { row_at, word } from './record';

/** Σ a · b over n values: four lanes, added as sum4 does, then the last n % 4 in order. */
@inline
function dot(a: usize, b: usize, n: i32): f32 {
  let sum = f32x4.splat(0);
  let i = 0;
  for (; i + 4 <= n; i += 4) sum = f32x4.add(sum, f32x4.mul(v128.load(a + (i << 2)), v128.load(b + (i << 2))));
  let total = sum4(sum);
  for (; i < n; i++) total += load<f32>(a + (i << 2)) * load<f32>(b + (i << 2));
  return total;
}

/** Four lanes of each of four vectors, added as sum4 does: lane i is the sum of vector i. */
@inline
function sums_of_four(s0: v128, s1: v128, s2: v128, s3: v128): v128 {
  const low = f32x4.add(v128.shuffle<i32>(s0, s1, 0, 1, 4, 5), v128.shuffle<i32>(s0, s1, 2, 3, 6, 7));
  const high = f32x4.add(v128.shuffle<i32>(s2, s3, 0, 1, 4, 5), v128.shuffle<i32>(s2, s3, 2, 3, 6, 7));
  return f32x4.add(v128.shuffle<i32>(low, high, 0, 2, 4, 6), v128.shuffle<i32>(low, high, 1, 3, 5, 7));
}

/** The same products as four dots of b[n] with a and the rows of n values that follow it. */
@inline
function four_dots(a: usize, b: usize, n: i32): v128 {
  const step: usize = n << 2;
  let s0 = f32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const y = v128.load(b + (i << 2));
    const row = a + (i << 2);
    s0 = f32x4.add(s0, f32x4.mul(v128.load(row), y));
    s1 = f32x4.add(s1, f32x4.mul(v128.load(row + step), y));
    s2 = f32x4.add(s2, f32x4.mul(v128.load(row + 2 * step), y));
    s3 = f32x4.add(s3, f32x4.mul(v128.load(row + 3 * step), y));
  }
  let sums = sums_of_four(s0, s1, s2, s3);
  for (; i < n; i++) {
    const row = a + (i << 2);
    let column = v128.load32_splat(row);
    column = v128.load32_lane(row + step, column, 1);
    column = v128.load32_lane(row + 2 * step, column, 2);
    column = v128.load32_lane(row + 3 * step, column, 3);
    sums = f32x4.add(sums, f32x4.mul(column, v128.load32_splat(b + (i << 2))));
  }
  return sums;
}

/** dst[rows] = matrix[rows][n] · x, each row as dot has it. */
@inline
function products(matrix: usize, rows: i32, n: i32, x: usize, dst: usize): void {
  const step: usize = n << 2;
  let i = 0;
  for (; i + 4 <= rows; i += 4) {
    v128.store(dst + (i << 2), four_dots(matrix, x, n));
    matrix += 4 * step;
  }
  for (; i < rows; i++) {
    store<f32>(dst + (i << 2), dot(matrix, x, n));
    matrix += step;
  }
}

/** dst[rows] += factor · b[rows][rank] · mid; where `on` is 0, dst keeps its bits, whatever was computed. */
@inline
function add_products(b: usize, rows: i32, rank: i32, mid: usize, factor: f32, on: v128, dst: usize): void {
  const step: usize = rank << 2;
  let i = 0;
  for (; i + 4 <= rows; i += 4) {
    const old = v128.load(dst + (i << 2));
    const sum = f32x4.add(old, f32x4.mul(f32x4.splat(factor), four_dots(b, mid, rank)));
    v128.store(dst + (i << 2), v128.bitselect(sum, old, on));
    b += 4 * step;
  }
  for (; i < rows; i++) {
    const old = v128.load32_zero(dst + (i << 2));
    const sum = f32x4.add(old, f32x4.splat(factor * dot(b, mid, rank)));
    v128.store32_lane(dst + (i << 2), v128.bitselect(sum, old, on), 0);
    b += step;
  }
}

/** LORA for row `row` of the pass. */
export function lora_row(step: usize, op: usize, row: i32): void {
  const k = word(op, Lora.k);
  const rank = word(op, Lora.rank);
  const mid: usize = word(op, Lora.midAt);
  const scale = load<f32>(<usize>load<i32>(row_at(step, row), ROW_TABLE_AT) + word(op, Lora.scalesAt));
  products(word(op, Lora.aAt), rank, k, word(op, Lora.srcAt) + ((row * k) << 2), mid);
  add_products(
    word(op, Lora.bAt), word(op, Lora.rows), rank, mid, scale * load<f32>(op, Lora.times << 2), f32x4.ne(f32x4.splat(scale), f32x4.splat(0)),
    word(op, Lora.dstAt) + ((row * word(op, Lora.dstStride)) << 2),
  );
}
