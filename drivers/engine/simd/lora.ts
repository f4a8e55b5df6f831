// Low-rank adapters (Hu et al. 2021) beside a product: a row of its result gets the adapter's part, W·x + scale · B·(A·x), with the scale of the
// session whose row it is. The same instructions run whatever the scale is, so an adapter that a session does not use costs it as much as one
// that it uses, and changes no bit.

import { Lora, ROW_TABLE_AT } from '../ops';
import { row_at, word } from './record';
import { dot, dots4 } from './vectors';

/** dst[rows] = matrix[rows][n] · x. */
@inline
function products(matrix: usize, rows: i32, n: i32, x: usize, dst: usize): void {
  const step: usize = n << 2;
  let i = 0;
  for (; i + 4 <= rows; i += 4) {
    v128.store(dst + (i << 2), dots4(matrix, x, n));
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
    const sum = f32x4.add(old, f32x4.mul(f32x4.splat(factor), dots4(b, mid, rank)));
    v128.store(dst + (i << 2), v128.bitselect(sum, old, on));
    b += 4 * step;
  }
  for (; i < rows; i++) {
    const old = v128.load32_splat(dst + (i << 2));
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
