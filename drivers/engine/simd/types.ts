// What the device does with every weight type: sizes, decoding, layout and activations, each type's own code behind one call. Types in
// groups of four rows are in blocks.ts, those in the file's order in decode.ts, their products in matmul.ts and superblocks.ts.

import {
  ACT_BYTES, GROUP, SUPER, SUPER_ACT_BYTES, TYPE_BF16, TYPE_F16, TYPE_F32, TYPE_F64, TYPE_I16, TYPE_I32, TYPE_I64, TYPE_I8, TYPE_Q4_0, TYPE_Q4_0_R4, TYPE_Q4_1,
  TYPE_Q4_1_R4, TYPE_Q8_0, TYPE_Q8_0_R4,
} from '../ops';
import {
  count_bad_scales, decode_blocks, decode_float, grouped_bytes, half_is_finite, put, quantize_q8, repack_group, round_half,
} from './blocks';
import { decode_plain, decode_super, has_minimum, is, plain_bytes, scale_at, super_bytes } from './decode';
import { quantize_q8_super } from './superblocks';

/** Bytes of a value of the types that are numbers one by one; 0: the others. */
@inline
function value_bytes(type: i32): usize {
  const four = is(type, TYPE_F32) + is(type, TYPE_I32);
  const two = is(type, TYPE_F16) + is(type, TYPE_BF16) + is(type, TYPE_I16);
  return 8 * (is(type, TYPE_F64) + is(type, TYPE_I64)) + 4 * four + 2 * two + is(type, TYPE_I8);
}

/** Bytes of a block of 32; 0: another type. */
@inline
function block_bytes(type: i32): usize {
  return grouped_bytes(type) + plain_bytes(type);
}

/** Bytes of a row of `k` values; 0: no such type. */
@inline
function row_bytes(type: i32, k: i32): usize {
  return k * value_bytes(type) + (k >> 5) * block_bytes(type) + (k >> 8) * super_bytes(type);
}

/** F64 and the integers, rounded to f32. */
function decode_wide(type: i32, from: usize, n: i32, to: usize): void {
  const step = value_bytes(type);
  for (let i = 0; i < n; i++) {
    let x: f32;
    if (type == TYPE_F64) x = <f32>load<f64>(from);
    else if (type == TYPE_I64) x = <f32>load<i64>(from);
    else x = <f32>(type == TYPE_I32 ? load<i32>(from) : type == TYPE_I16 ? <i32>load<i16>(from) : <i32>load<i8>(from));
    put(to + (i << 2), x, false);
    from += step;
  }
}

/** Expands `n` values (whole blocks) in the file's order to f32. Returns 0, or -1 when the type is not known. */
export function dequantize(type: i32, from: usize, n: i32, to: usize): i32 {
  if (super_bytes(type) != 0) decode_super(type, from, n, to, false);
  else if (plain_bytes(type) != 0) decode_plain(type, from, n, to, false);
  else if (grouped_bytes(type) != 0) decode_blocks(type, from, 0, 1, n, to, false);
  else if (type == TYPE_F32 || type == TYPE_F16 || type == TYPE_BF16) decode_float(type, from, n, to, false);
  else if (value_bytes(type) != 0) decode_wide(type, from, n, to);
  else return -1;
  return 0;
}

/** One row of a matrix in the kernels' layout to f32[k], stored or added. */
export function get_row(type: i32, weights: usize, rows: i32, k: i32, row: i32, to: usize, add: bool): void {
  const bytes = row_bytes(type, k);
  const p = weights + row * bytes;
  if (super_bytes(type) != 0) {
    decode_super(type, p, k, to, add);
  } else if (plain_bytes(type) != 0) {
    decode_plain(type, p, k, to, add);
  } else if (grouped_bytes(type) == 0) {
    decode_float(type, p, k, to, add);
  } else {
    const grouped = row < (rows & ~3);
    const lane = select<i32>(row & 3, 0, grouped);
    decode_blocks(type, weights + (row - lane) * bytes, lane, select<usize>(GROUP, 1, grouped), k, to, add);
  }
}

/**
 * Four rows of a matrix in the kernels' layout from `row` on, a multiple of four, or (`four` = false) one of those behind the last four, which are in the
 * file's order: f32[4][k], f32[k]. What get_row gives of each, from addresses that move steadily: certificates know what is read.
 */
export function get_group(type: i32, weights: usize, k: i32, row: i32, four: bool, to: usize): void {
  const p = weights + row * row_bytes(type, k);
  const rows = select<i32>(GROUP, 1, four);
  if (super_bytes(type) != 0) decode_super(type, p, rows * k, to, false);
  else if (plain_bytes(type) != 0) decode_plain(type, p, rows * k, to, false);
  else if (grouped_bytes(type) == 0) decode_float(type, p, rows * k, to, false);
  else {
    for (let lane = 0; lane < rows; lane++) decode_blocks(type, p, lane, rows, k, to + ((lane * k) << 2), false);
  }
}

/** Halves that are not finite among `n`, each `step` bytes behind the one before. */
function count_bad_halves(p: usize, step: usize, n: i32): i32 {
  let bad = 0;
  for (; n > 0; n--) {
    bad += <i32>!half_is_finite(p);
    p += step;
  }
  return bad;
}

/** Scales and minima of `n` blocks at `p`, in the file's order, that are not finite. */
function count_bad_blocks(type: i32, p: usize, n: i32): i32 {
  const step = block_bytes(type) + super_bytes(type);
  p += scale_at(type);
  let bad = count_bad_halves(p, step, n);
  if (type == TYPE_Q4_1 || has_minimum(type)) bad += count_bad_halves(p + 2, step, n);
  return bad;
}

/** The same of the types in groups of four, whose blocks begin with their scales. */
function count_bad_grouped(type: i32, p: usize, n: i32): i32 {
  const step = grouped_bytes(type);
  let bad = count_bad_halves(p, step, n);
  if (type == TYPE_Q4_1) bad += count_bad_halves(p + 2, step, n);
  return bad;
}

/** Values of F32, F16 or BF16 among `n` that are not finite. */
function count_bad(type: i32, p: usize, n: i32): i32 {
  let bad = 0;
  for (; n > 0; n--) {
    if (type == TYPE_F32) {
      bad += <i32>((load<u32>(p) & 0x7f800000) == 0x7f800000);
      p += 4;
    } else {
      const exponent: u32 = type == TYPE_F16 ? 0x7c00 : 0x7f80;
      bad += <i32>((load<u16>(p) & exponent) == exponent);
      p += 2;
    }
  }
  return bad;
}

/** Rows of a type in groups of four from the file's order to that of the kernels; returns how many scales and minima are not finite. */
export function repack_grouped(type: i32, from: usize, rows: i32, k: i32, to: usize): i32 {
  const bytes = (k >> 5) * grouped_bytes(type);
  let bad = 0;
  let left = rows;
  for (; left >= GROUP; left -= GROUP) {
    bad += repack_group(type, from, k, to);
    from += GROUP * bytes;
    to += GROUP * bytes;
  }
  memory.copy(to, from, left * bytes);
  return bad + count_bad_grouped(type, from, left * (k >> 5));
}

/** The type that a prelinked file has in the kernels' layout; 0: any other. */
@inline
function interleaved_type(type: i32): i32 {
  return type == TYPE_Q4_0_R4 ? TYPE_Q4_0 : type == TYPE_Q4_1_R4 ? TYPE_Q4_1 : type == TYPE_Q8_0_R4 ? TYPE_Q8_0 : 0;
}

/** Copies rows that are in the kernels' layout, as repack_grouped leaves them. */
function copy_interleaved(type: i32, from: usize, rows: i32, k: i32, to: usize): i32 {
  const bytes = (k >> 5) * grouped_bytes(type);
  memory.copy(to, from, rows * bytes);
  let bad = 0;
  for (let block = (rows >> 2) * (k >> 5); block > 0; block--) {
    bad += count_bad_scales(type, from);
    from += GROUP * grouped_bytes(type);
  }
  return bad + count_bad_grouped(type, from, (rows & 3) * (k >> 5));
}

/** See EngineCompute.repack. */
export function repack(type: i32, from: usize, rows: i32, k: i32, to: usize): i32 {
  if (interleaved_type(type) != 0) return copy_interleaved(interleaved_type(type), from, rows, k, to);
  if (row_bytes(type, SUPER) == 0 || (type >= TYPE_I8 && type <= TYPE_F64)) return -1;
  if (grouped_bytes(type) != 0) return repack_grouped(type, from, rows, k, to);
  memory.copy(to, from, rows * row_bytes(type, k));
  if (super_bytes(type) != 0) return count_bad_blocks(type, from, rows * (k >> 8));
  return block_bytes(type) != 0 ? count_bad_blocks(type, from, rows * (k >> 5)) : count_bad(type, from, rows * k);
}

/** Bytes of one token's activations. */
@inline
export function act_bytes(type: i32, k: i32): usize {
  const blocks = select<usize>((k >> 5) * ACT_BYTES, k << 2, block_bytes(type) != 0);
  return select<usize>((k >> 8) * SUPER_ACT_BYTES, blocks, super_bytes(type) != 0);
}

/** One token's activations: f32[k] → what products with weights of `type` take. F32 weights need none. */
export function quantize(type: i32, from: usize, k: i32, act: usize): void {
  if (super_bytes(type) != 0) quantize_q8_super(from, k, act);
  else if (block_bytes(type) == 0) round_half(type == TYPE_F16, from, k, act);
  else quantize_q8(from, k, act);
}
