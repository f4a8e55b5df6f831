// Training, backwards: what of an op of reverse-mode training the executor calls: its record is read here, and gone over row by row where the
// kernels behind it (trainlayers.ts, trainattention.ts) take one row each.

import {
  CausalAttention, CausalAttentionBack, ColumnSum, Copy, Elementwise, FAULT_BAD_OP, Fill, GatedBack, NormBack, NormHeadsBack, Op, ROPE_ADJACENT,
  ROPE_HALVES, ROW_BYTES, ROW_POS, ROW_TOKEN, Rope, RowsBack,
} from '../ops';
import { add } from './layers';
import { is_for, row_at, word } from './record';
import { causal_attention, causal_attention_back } from './trainattention';
import { gelu_back, gelu_mul, gelu_mul_back, layer_norm_back, rms_norm_back, rope_back, silu_mul_back } from './trainlayers';

export function silu_mul_back_rows(op: usize, n: i32): void {
  silu_mul_back(
    word(op, GatedBack.srcAt), word(op, GatedBack.upAt), word(op, GatedBack.gradAt), n * word(op, GatedBack.n), word(op, GatedBack.dstAt),
    word(op, GatedBack.upGradAt),
  );
}

export function gelu_back_rows(op: usize, n: i32): void {
  gelu_back(word(op, GatedBack.srcAt), word(op, GatedBack.gradAt), n * word(op, GatedBack.n), word(op, GatedBack.dstAt));
}

export function gelu_mul_rows(op: usize, n: i32): void {
  gelu_mul(word(op, Elementwise.srcAt), word(op, Elementwise.upAt), n * word(op, Elementwise.n), word(op, Elementwise.dstAt));
}

export function gelu_mul_back_rows(op: usize, n: i32): void {
  gelu_mul_back(
    word(op, GatedBack.srcAt), word(op, GatedBack.upAt), word(op, GatedBack.gradAt), n * word(op, GatedBack.n), word(op, GatedBack.dstAt),
    word(op, GatedBack.upGradAt),
  );
}

export function copy_rows(op: usize, n: i32): void {
  memory.copy(word(op, Copy.dstAt), word(op, Copy.srcAt), (n * word(op, Copy.n)) << 2);
}

export function fill_rows(op: usize, n: i32): void {
  fill(word(op, Fill.dstAt), n * word(op, Fill.n), op + (Fill.value << 2));
}

/** dst[n] += rows of src, one after the other. */
export function column_sum(op: usize, n: i32): void {
  let x: usize = word(op, ColumnSum.srcAt);
  for (; n > 0; n--) {
    add(word(op, ColumnSum.dstAt), x, word(op, ColumnSum.n));
    x += word(op, ColumnSum.srcStride) << 2;
  }
}

/** Rows of gradients from `to` on; of what was normalised, and of the result, from `row` on. */
export function norm_back(op: usize, n: i32, row: i32, to: i32): void {
  const length = word(op, NormBack.n);
  const eps = op + (NormBack.eps << 2);
  let g: usize = word(op, NormBack.srcAt) + ((to * length) << 2);
  let x: usize = word(op, NormBack.xAt) + ((row * length) << 2);
  let dst: usize = word(op, NormBack.dstAt) + ((row * length) << 2);
  const w: usize = word(op, NormBack.weightsAt);
  const wGrad: usize = word(op, NormBack.weightsGradAt);
  for (; n > 0; n--) {
    if (word(op, 0) == Op.RMS_NORM_BACK) rms_norm_back(g, x, length, w, eps, dst, wGrad, true);
    else layer_norm_back(g, x, length, w, eps, dst, wGrad, word(op, NormBack.biasGradAt));
    g += length << 2;
    x += length << 2;
    dst += length << 2;
  }
}

export function norm_heads_back(op: usize, n: i32): void {
  const bytes: usize = word(op, NormHeadsBack.headDim) << 2;
  let row: usize = word(op, NormHeadsBack.at);
  let rowX: usize = word(op, NormHeadsBack.xAt);
  for (; n > 0; n--) {
    let g = row;
    let x = rowX;
    for (let head = word(op, NormHeadsBack.heads); head > 0; head--) {
      rms_norm_back(
        g, x, word(op, NormHeadsBack.headDim), word(op, NormHeadsBack.weightsAt), op + (NormHeadsBack.eps << 2), g, word(op, NormHeadsBack.weightsGradAt),
        false,
      );
      g += bytes;
      x += bytes;
    }
    row += word(op, NormHeadsBack.stride) << 2;
    rowX += word(op, NormHeadsBack.stride) << 2;
  }
}

export function rope_back_rows(op: usize, n: i32): i32 {
  const mode = word(op, Rope.mode);
  if (mode != ROPE_ADJACENT && mode != ROPE_HALVES) return FAULT_BAD_OP;
  const pairs = word(op, Rope.pairs);
  let x: usize = word(op, Rope.at);
  let table: usize = word(op, Rope.tableAt);
  for (; n > 0; n--) {
    rope_back(x, word(op, Rope.heads), word(op, Rope.headDim), pairs, table, mode == ROPE_HALVES);
    x += word(op, Rope.stride) << 2;
    table += pairs << 3;
  }
  return 0;
}

/** Of a sequence row t is position t: so what lies where follows from the position alone, and with it the price. */
export function causal_attention_row(op: usize, pos: i32): void {
  if (!is_for(op, CausalAttention.from, CausalAttention.until, pos)) return;
  const heads = word(op, CausalAttention.heads);
  const headDim = word(op, CausalAttention.headDim);
  const first: usize = word(op, CausalAttention.qAt);
  const step: usize = word(op, CausalAttention.stride) << 2;
  causal_attention(
    first, first + pos * step, step, heads, word(op, CausalAttention.headsKv), headDim, pos + 1, op + (CausalAttention.scale << 2),
    word(op, CausalAttention.scoresAt), word(op, CausalAttention.dstAt) + ((pos * heads * headDim) << 2),
  );
}

export function causal_attention_back_row(op: usize, pos: i32): void {
  if (!is_for(op, CausalAttentionBack.from, CausalAttentionBack.until, pos)) return;
  const heads = word(op, CausalAttentionBack.heads);
  const headDim = word(op, CausalAttentionBack.headDim);
  const first: usize = word(op, CausalAttentionBack.qAt);
  const firstGrad: usize = word(op, CausalAttentionBack.dstAt);
  const step: usize = word(op, CausalAttentionBack.stride) << 2;
  causal_attention_back(
    first, first + pos * step, step, heads, word(op, CausalAttentionBack.headsKv), headDim, pos + 1, op + (CausalAttentionBack.scale << 2),
    word(op, CausalAttentionBack.scoresAt), word(op, CausalAttentionBack.srcAt) + ((pos * heads * headDim) << 2), firstGrad, firstGrad + pos * step,
  );
}

/** A token or position outside is a fault, and the first row is added to in its stead. */
export function rows_back(step: usize, op: usize, n: i32): i32 {
  const k = word(op, RowsBack.k);
  const rows = <u32>word(op, RowsBack.rows);
  let record = row_at(step, 0) + select<usize>(ROW_POS, ROW_TOKEN, word(op, RowsBack.byPosition) != 0);
  let x: usize = word(op, RowsBack.srcAt);
  let outside = false;
  for (; n > 0; n--) {
    const name = load<u32>(record);
    outside |= name >= rows;
    add(word(op, RowsBack.dstAt) + ((select<u32>(0, name, name >= rows) * k) << 2), x, k);
    record += ROW_BYTES;
    x += k << 2;
  }
  return select<i32>(FAULT_BAD_OP, 0, outside);
}

/** x[n] = the f32 at `valueAt`. */
function fill(x: usize, n: i32, valueAt: usize): void {
  const value = v128.load32_splat(valueAt);
  let i = 0;
  for (; i + 4 <= n; i += 4) v128.store(x + (i << 2), value);
  for (; i < n; i++) v128.store32_lane(x + (i << 2), value, 0);
}
