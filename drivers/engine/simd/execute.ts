// The plan executor: runs op records from a program counter to END, charging each op's price to the step before it runs. Between entry and
// return nothing is allocated and nothing leaves the arena; a fault (value not finite, record or index out of range) ends the run after its
// op. What an op executes depends on its record and the step, never on data, so that one price fits every run of it; the sampler alone, which
// does, counts for itself.

import {
  Attention, Check, Echo, Elementwise, FAULT_BAD_OP, FAULT_NAN, FLAG_ADD, FLAG_HEAD, FLAG_ROWS, Gathered, GetRows, KV_PAGE, KV_PAGE_LOG2, KvStore, MulMat, Norm, NormHeads, OP_BYTES,
  Op, PICK_BYTES, PICK_FAULT, PICK_ROW, PRICE_BYTES, Quantize, Repack, Reply, Rope, ROPE_ADJACENT, ROPE_HALVES, RopeTable, ROW_BYTES, ROW_POS, ROW_TABLE_AT, Scale, STEP_CTX, STEP_CYCLES, STEP_FAILED, STEP_KV_AT,
  STEP_N, STEP_PICKS, STEP_PICKS_AT, STEP_ROWS_AT, STEP_STATUS, TYPE_BF16, TYPE_F16, TYPE_F32, TYPE_IQ4_NL, TYPE_IQ4_XS, TYPE_Q2_K, TYPE_Q3_K, TYPE_Q4_0, TYPE_Q4_1, TYPE_Q4_K,
  TYPE_Q5_0, TYPE_Q5_1, TYPE_Q5_K, TYPE_Q6_K, TYPE_Q8_0, TYPE_TQ1_0, TYPE_TQ2_0, WORD_FLAGS, WORD_POSITIONS, WORD_TOKENS,
} from '../ops';
import { attention } from './attention';
import { logits_sum } from './checksum';
import {
  add, all_finite, gelu, gelu_f16, gelu_mul_f16, kv_store, layer_norm, rms_norm, rope, rope_halves, rope_table, rope_table_scaled, scale, silu_mul,
} from './layers';
import {
  mul_mat_bf16, mul_mat_f16, mul_mat_f32, mul_mat_iq4_nl, mul_mat_q4_0, mul_mat_q4_1, mul_mat_q5_0, mul_mat_q5_1, mul_mat_q8_0,
} from './matmul';
import { kv_row_bytes } from './kv';
import { take_spent_cycles } from './meter';
import { pick_at, row_at, word } from './record';
import { sample, score } from './sample';
import {
  mul_mat_iq4_xs, mul_mat_q2_k, mul_mat_q3_k, mul_mat_q4_k, mul_mat_q5_k, mul_mat_q6_k, mul_mat_tq1_0, mul_mat_tq2_0,
} from './superblocks';
import { lora_row } from './lora';
import { accumulate, perturb } from './normals';
import { adam, sgd, squares } from './optimise';
import {
  causal_attention_jvp, gelu_jvp, gelu_mul_jvp, norm_jvp, rms_norm_heads_jvp, silu_mul_jvp,
} from './tangent';
import {
  causal_attention_back_row, causal_attention_row, column_sum, copy_rows, fill_rows, gelu_back_rows, gelu_mul_back_rows, gelu_mul_rows, norm_back,
  norm_heads_back, rope_back_rows, rows_back, silu_mul_back_rows,
} from './train';
import { cross_entropy } from './trainloss';
import { float_mul_mat, float_mul_mat_back, outer } from './trainproducts';
import { act_bytes, get_row, quantize, repack_grouped } from './types';

@inline
function spend(step: usize, cycles: u64): void {
  store<u64>(step, load<u64>(step, STEP_CYCLES) + cycles, STEP_CYCLES);
}

/** See Compute.run. One way out of the loop, whether the segment ends or an op has failed: a turn always executes the same. */
export function run(step: usize, op: usize): i32 {
  let fault = 0;
  while ((fault == 0) & (word(op, 0) != Op.END)) {
    fault = run_op(step, op);
    op += OP_BYTES;
  }
  store<i32>(step, fault, STEP_STATUS);
  return fault;
}

/**
 * One record: once over all its tokens, or once for each row. It is charged tokens[n], and each time round positions[pos]; where positions do
 * not matter the price is read again, for nothing, so that charging costs the same for every op.
 */
export function run_op(step: usize, op: usize): i32 {
  const flags = word(op, WORD_FLAGS);
  const head = (flags & FLAG_HEAD) != 0;
  const n = select<i32>(load<i32>(step, STEP_PICKS), load<i32>(step, STEP_N), head);
  const each = select<i32>(1, n, (flags & FLAG_ROWS) != 0);
  const price: usize = word(op, WORD_TOKENS) + n * PRICE_BYTES;
  const positions: usize = word(op, WORD_POSITIONS);
  spend(step, load<u64>(price));
  let to = 0;
  let fault = 0;
  for (let left = n; (fault == 0) & (left > 0); left -= each) {
    const row = select<i32>(load<i32>(pick_at(step, to), PICK_ROW), to, head);
    const pos = load<i32>(row_at(step, row), ROW_POS);
    const more = load<u64>(select<usize>(positions + pos * PRICE_BYTES, price, positions != 0));
    spend(step, select<u64>(more, 0, positions != 0));
    fault = execute(step, op, each, pos, row, to);
    to++;
  }
  store<i32>(step, to - 1, STEP_FAILED);
  return fault;
}

/** One op over `n` tokens, the first of them row `row` of the pass, at position `pos`, and row `to` of the op's buffers. Returns 0 or a FAULT. */
function execute(step: usize, op: usize, n: i32, pos: i32, row: i32, to: i32): i32 {
  switch (word(op, 0)) {
    case Op.GET_ROWS:
      return get_rows(step, op, n);
    case Op.ADD_ROWS:
      return add_row(op, pos, row);
    case Op.RMS_NORM:
    case Op.LAYER_NORM:
      norm(op, n, row, to);
      return 0;
    case Op.QUANTIZE:
      quantize_rows(op, n);
      return 0;
    case Op.MUL_MAT:
      return mul_mat(op, n);
    case Op.ROPE_TABLE: {
      const pairs = word(op, RopeTable.pairs);
      rope_table(pos, pairs, word(op, RopeTable.frequenciesAt), word(op, RopeTable.tableAt) + ((row * pairs) << 3));
      return 0;
    }
    case Op.ROPE:
      return rope_rows(op, n);
    case Op.KV_STORE:
      return kv_row(step, op, pos, row);
    case Op.ATTENTION:
      attention_row(step, op, pos, row);
      return 0;
    case Op.ADD:
      add(word(op, Elementwise.dstAt), word(op, Elementwise.srcAt), n * word(op, Elementwise.n));
      return 0;
    case Op.SILU_MUL:
      silu_rows(op, n);
      return 0;
    case Op.GELU:
      gelu(word(op, Elementwise.srcAt), n * word(op, Elementwise.n), word(op, Elementwise.dstAt));
      return 0;
    case Op.GELU_F16:
      gelu_f16(word(op, Elementwise.srcAt), n * word(op, Elementwise.n), word(op, Elementwise.dstAt));
      return 0;
    case Op.GELU_MUL_F16:
      gelu_mul_f16(word(op, Elementwise.srcAt), word(op, Elementwise.upAt), n * word(op, Elementwise.n), word(op, Elementwise.dstAt));
      return 0;
    case Op.RMS_NORM_HEADS:
      norm_heads(op, n);
      return 0;
    case Op.ROPE_TABLE_SCALED: {
      const pairs = word(op, RopeTable.pairs);
      rope_table_scaled(pos, pairs, word(op, RopeTable.frequenciesAt), word(op, RopeTable.tableAt) + ((row * pairs) << 3));
      return 0;
    }
    case Op.SCALE:
      scale_rows(op, n);
      return 0;
    case Op.CHECK:
      check(step, op, n);
      return 0;
    case Op.SAMPLE:
      sample(step);
      spend(step, take_spent_cycles());
      return 0;
    case Op.SCORE:
      score(step);
      return 0;
    case Op.ECHO:
      echo(step, op, n);
      return 0;
    case Op.LOGITS_SUM:
      logits_sum(step);
      return 0;
    case Op.LORA:
      lora_row(step, op, row);
      return 0;
    case Op.FLOAT_MUL_MAT:
      float_mul_mat(op, n);
      return 0;
    case Op.FLOAT_MUL_MAT_BACK:
      float_mul_mat_back(op, n);
      return 0;
    case Op.OUTER:
      outer(op, n);
      return 0;
    case Op.COLUMN_SUM:
      column_sum(op, n);
      return 0;
    case Op.RMS_NORM_BACK:
    case Op.LAYER_NORM_BACK:
      norm_back(op, n, row, to);
      return 0;
    case Op.RMS_NORM_HEADS_BACK:
      norm_heads_back(op, n);
      return 0;
    case Op.ROPE_BACK:
      return rope_back_rows(op, n);
    case Op.CAUSAL_ATTENTION:
      causal_attention_row(op, pos);
      return 0;
    case Op.CAUSAL_ATTENTION_BACK:
      causal_attention_back_row(op, pos);
      return 0;
    case Op.SILU_MUL_BACK:
      silu_mul_back_rows(op, n);
      return 0;
    case Op.GELU_BACK:
      gelu_back_rows(op, n);
      return 0;
    case Op.GELU_MUL:
      gelu_mul_rows(op, n);
      return 0;
    case Op.GELU_MUL_BACK:
      gelu_mul_back_rows(op, n);
      return 0;
    case Op.CROSS_ENTROPY:
    case Op.CROSS_ENTROPY_BACK:
    case Op.CROSS_ENTROPY_JVP:
      return cross_entropy(op, row, to);
    case Op.ROWS_BACK:
      return rows_back(step, op, n);
    case Op.COPY:
      copy_rows(op, n);
      return 0;
    case Op.FILL:
      fill_rows(op, n);
      return 0;
    case Op.RMS_NORM_JVP:
      norm_jvp(op, n, row, to, false);
      return 0;
    case Op.LAYER_NORM_JVP:
      norm_jvp(op, n, row, to, true);
      return 0;
    case Op.RMS_NORM_HEADS_JVP:
      rms_norm_heads_jvp(op, n);
      return 0;
    case Op.CAUSAL_ATTENTION_JVP:
      causal_attention_jvp(op, pos);
      return 0;
    case Op.SILU_MUL_JVP:
      silu_mul_jvp(op, n);
      return 0;
    case Op.GELU_JVP:
      gelu_jvp(op, n);
      return 0;
    case Op.GELU_MUL_JVP:
      gelu_mul_jvp(op, n);
      return 0;
    case Op.SQUARES:
      squares(op);
      return 0;
    case Op.ADAM:
      adam(op);
      return 0;
    case Op.SGD:
      sgd(op);
      return 0;
    case Op.PERTURB:
      perturb(op);
      return 0;
    case Op.ACCUMULATE:
      accumulate(op);
      return 0;
    default:
      return execute_streamed(step, op, n, pos, row);
  }
}

/** Ops of plans whose weights stream: apart, so that what the others cost does not depend on them. */
function execute_streamed(step: usize, op: usize, n: i32, pos: i32, row: i32): i32 {
  switch (word(op, 0)) {
    case Op.REPACK:
      return repack_tile(op);
    case Op.GET_GATHERED:
      return get_gathered(step, op, n);
    case Op.ADD_GATHERED:
      return add_gathered(op, pos, row);
    default:
      return FAULT_BAD_OP;
  }
}

/** An id outside is a fault, and the first row is read in its stead. */
function get_rows(step: usize, op: usize, n: i32): i32 {
  const rows = word(op, GetRows.rows);
  let record = row_at(step, 0);
  let outside = false;
  for (let t = 0; t < n; t++) {
    const id = load<u32>(record);
    outside |= id >= <u32>rows;
    put_row(op, t, select<u32>(0, id, id >= <u32>rows), rows, false);
    record += ROW_BYTES;
  }
  return select<i32>(FAULT_BAD_OP, 0, outside);
}

/** A position outside is a fault, and the first row is added in its stead. */
function add_row(op: usize, pos: i32, row: i32): i32 {
  const rows = word(op, GetRows.rows);
  const outside = <u32>pos >= <u32>rows;
  put_row(op, row, select<u32>(0, pos, outside), rows, true);
  return select<i32>(FAULT_BAD_OP, 0, outside);
}

@inline
function put_row(op: usize, t: i32, index: u32, rows: i32, add: bool): void {
  const k = word(op, GetRows.k);
  get_row(word(op, GetRows.weightType), word(op, GetRows.weightsAt), rows, k, index, word(op, GetRows.dstAt) + ((t * k) << 2), add);
}

/** As get_rows, each from its unit. */
function get_gathered(step: usize, op: usize, n: i32): i32 {
  let record = row_at(step, 0);
  let outside = false;
  for (let t = 0; t < n; t++) {
    outside |= put_gathered(op, t, load<u32>(record), false);
    record += ROW_BYTES;
  }
  return select<i32>(FAULT_BAD_OP, 0, outside);
}

function add_gathered(op: usize, pos: i32, row: i32): i32 {
  return select<i32>(FAULT_BAD_OP, 0, put_gathered(op, row, pos, true));
}

/** Row `t` of the pass, `name` being its token or position. Returns whether that is outside: its unit holds whatever it does, the first row is taken. */
@inline
function put_gathered(op: usize, t: i32, name: u32, add: bool): bool {
  const k = word(op, Gathered.k);
  const rows = word(op, Gathered.rows);
  const unitRows = word(op, Gathered.unitRows);
  const outside = name >= <u32>rows;
  const index = select<i32>(0, name, outside);
  const inside = index & (unitRows - 1);
  const left = rows - index + inside; // of the matrix, from the unit's first row on
  const unit: usize = word(op, Gathered.weightsAt) + t * word(op, Gathered.unitBytes);
  get_row(word(op, Gathered.weightType), unit, select<i32>(left, unitRows, left < unitRows), k, inside, word(op, Gathered.dstAt) + ((t * k) << 2), add);
  return outside;
}

/** What is not finite ends the run: products assume that there is none. */
function repack_tile(op: usize): i32 {
  const bad = repack_grouped(
    word(op, Repack.weightType), word(op, Repack.weightsAt), word(op, Repack.rows), word(op, Repack.k), word(op, Repack.dstAt),
  );
  return select<i32>(FAULT_NAN, 0, bad != 0);
}

function norm(op: usize, n: i32, row: i32, to: i32): void {
  const length = word(op, Norm.n);
  const eps = op + (Norm.eps << 2);
  let x: usize = word(op, Norm.srcAt) + ((row * length) << 2);
  let dst: usize = word(op, Norm.dstAt) + ((to * length) << 2);
  for (; n > 0; n--) {
    if (word(op, 0) == Op.RMS_NORM) rms_norm(x, length, word(op, Norm.weightsAt), eps, dst);
    else layer_norm(x, length, word(op, Norm.weightsAt), word(op, Norm.biasAt), eps, dst);
    x += length << 2;
    dst += length << 2;
  }
}

function quantize_rows(op: usize, n: i32): void {
  const k = word(op, Quantize.k);
  const type = word(op, Quantize.weightType);
  let x: usize = word(op, Quantize.srcAt);
  let act: usize = word(op, Quantize.actAt);
  for (; n > 0; n--) {
    quantize(type, x, k, act);
    x += k << 2;
    act += act_bytes(type, k);
  }
}

function mul_mat(op: usize, n: i32): i32 {
  const w: usize = word(op, MulMat.weightsAt);
  const rows = word(op, MulMat.rows);
  const k = word(op, MulMat.k);
  const act: usize = word(op, MulMat.actAt);
  const dst: usize = word(op, MulMat.dstAt);
  const stride = word(op, MulMat.dstStride);
  const bias: usize = word(op, MulMat.biasAt);
  const add = (word(op, WORD_FLAGS) & FLAG_ADD) != 0;
  const type = word(op, MulMat.weightType);
  switch (type) {
    case TYPE_F32:
      mul_mat_f32(w, rows, k, act, n, dst, stride, bias, add);
      return 0;
    case TYPE_F16:
      mul_mat_f16(w, rows, k, act, n, dst, stride, bias, add);
      return 0;
    case TYPE_BF16:
      mul_mat_bf16(w, rows, k, act, n, dst, stride, bias, add);
      return 0;
    case TYPE_Q4_0:
      mul_mat_q4_0(w, rows, k, act, n, dst, stride, bias, add);
      return 0;
    case TYPE_Q4_1:
      mul_mat_q4_1(w, rows, k, act, n, dst, stride, bias, add);
      return 0;
    case TYPE_Q8_0:
      mul_mat_q8_0(w, rows, k, act, n, dst, stride, bias, add);
      return 0;
    case TYPE_Q5_0:
      mul_mat_q5_0(w, rows, k, act, n, dst, stride, bias, add);
      return 0;
    case TYPE_Q5_1:
      mul_mat_q5_1(w, rows, k, act, n, dst, stride, bias, add);
      return 0;
    case TYPE_IQ4_NL:
      mul_mat_iq4_nl(w, rows, k, act, n, dst, stride, bias, add);
      return 0;
    default:
      return mul_mat_super(type, w, rows, k, act, n, dst, stride, bias, add);
  }
}

/** Apart from the others, so that both stay chains of tests: a jump through a table would have to be priced. */
function mul_mat_super(type: i32, w: usize, rows: i32, k: i32, act: usize, n: i32, dst: usize, stride: i32, bias: usize, add: bool): i32 {
  switch (type) {
    case TYPE_Q2_K:
      mul_mat_q2_k(w, rows, k, act, n, dst, stride, bias, add);
      return 0;
    case TYPE_Q3_K:
      mul_mat_q3_k(w, rows, k, act, n, dst, stride, bias, add);
      return 0;
    case TYPE_Q4_K:
      mul_mat_q4_k(w, rows, k, act, n, dst, stride, bias, add);
      return 0;
    case TYPE_Q5_K:
      mul_mat_q5_k(w, rows, k, act, n, dst, stride, bias, add);
      return 0;
    case TYPE_Q6_K:
      mul_mat_q6_k(w, rows, k, act, n, dst, stride, bias, add);
      return 0;
    case TYPE_IQ4_XS:
      mul_mat_iq4_xs(w, rows, k, act, n, dst, stride, bias, add);
      return 0;
    case TYPE_TQ1_0:
      mul_mat_tq1_0(w, rows, k, act, n, dst, stride, bias, add);
      return 0;
    case TYPE_TQ2_0:
      mul_mat_tq2_0(w, rows, k, act, n, dst, stride, bias, add);
      return 0;
    default:
      return FAULT_BAD_OP;
  }
}

function rope_rows(op: usize, n: i32): i32 {
  if (word(op, Rope.mode) == ROPE_ADJACENT) turn_rows(op, n, false);
  else if (word(op, Rope.mode) == ROPE_HALVES) turn_rows(op, n, true);
  else return FAULT_BAD_OP;
  return 0;
}

@inline
function turn_rows(op: usize, n: i32, halves: bool): void {
  const pairs = word(op, Rope.pairs);
  let x: usize = word(op, Rope.at);
  let table: usize = word(op, Rope.tableAt);
  for (; n > 0; n--) {
    if (halves) rope_halves(x, word(op, Rope.heads), word(op, Rope.headDim), pairs, table);
    else rope(x, word(op, Rope.heads), word(op, Rope.headDim), pairs, table);
    x += word(op, Rope.stride) << 2;
    table += pairs << 3;
  }
}

function norm_heads(op: usize, n: i32): void {
  const bytes: usize = word(op, NormHeads.headDim) << 2;
  let row: usize = word(op, NormHeads.at);
  for (; n > 0; n--) {
    let x = row;
    for (let head = word(op, NormHeads.heads); head > 0; head--) {
      rms_norm(x, word(op, NormHeads.headDim), word(op, NormHeads.weightsAt), op + (NormHeads.eps << 2), x);
      x += bytes;
    }
    row += word(op, NormHeads.stride) << 2;
  }
}

function scale_rows(op: usize, n: i32): void {
  let x: usize = word(op, Scale.at);
  for (; n > 0; n--) {
    scale(x, word(op, Scale.n), op + (Scale.factor << 2));
    x += word(op, Scale.stride) << 2;
  }
}

/** Token by token: the end of each row is computed in its own way. */
function silu_rows(op: usize, n: i32): void {
  const length = word(op, Elementwise.n);
  for (let at: usize = 0; n > 0; n--) {
    silu_mul(word(op, Elementwise.srcAt) + at, word(op, Elementwise.upAt) + at, length, word(op, Elementwise.dstAt) + at);
    at += length << 2;
  }
}

/** A position outside is a fault, and the first one is written in its stead: with the session that asked for it the cache is lost. */
function kv_row(step: usize, op: usize, pos: i32, row: i32): i32 {
  const type = word(op, KvStore.kvType);
  const n = word(op, KvStore.n);
  const outside = <u32>pos >= load<u32>(step, STEP_CTX);
  const at = select<i32>(0, pos, outside);
  const table: usize = load<i32>(row_at(step, row), ROW_TABLE_AT);
  const page: usize = load<i32>(step, STEP_KV_AT) + load<i32>(table + ((at >> KV_PAGE_LOG2) << 2));
  const to: usize = page + word(op, KvStore.planeAt) + (at & (KV_PAGE - 1)) * kv_row_bytes(type, n);
  const finite = kv_store(type, word(op, KvStore.srcAt) + ((row * word(op, KvStore.srcStride)) << 2), n, to);
  return select<i32>(FAULT_BAD_OP, select<i32>(0, FAULT_NAN, finite), outside);
}

function attention_row(step: usize, op: usize, pos: i32, row: i32): void {
  const kv: usize = load<i32>(step, STEP_KV_AT);
  const heads = word(op, Attention.heads);
  const headDim = word(op, Attention.headDim);
  attention(
    word(op, Attention.kvType), word(op, Attention.qAt) + ((row * word(op, Attention.qStride)) << 2), kv + word(op, Attention.kPlaneAt),
    kv + word(op, Attention.vPlaneAt), load<i32>(row_at(step, row), ROW_TABLE_AT), heads, word(op, Attention.headsKv), headDim, pos + 1,
    op + (Attention.scale << 2), word(op, Attention.scoresAt), word(op, Attention.dstAt) + ((row * heads * headDim) << 2),
  );
}

/** Each pick's logits are looked at to the end: only the session whose they are ends. */
function check(step: usize, op: usize, n: i32): void {
  let x: usize = word(op, Check.at);
  let pick = pick_at(step, 0);
  for (; n > 0; n--) {
    store<i32>(pick, select<i32>(0, FAULT_NAN, all_finite(x, word(op, Check.n))), PICK_FAULT);
    x += word(op, Check.stride) << 2;
    pick += PICK_BYTES;
  }
}

/** The stub's head: the token of each pick is followed by the next id of its session's reply, with certainty. */
function echo(step: usize, op: usize, n: i32): void {
  const bytes = word(op, Echo.n) << 2;
  const stride = word(op, Echo.stride) << 2;
  const replyAt = word(op, Echo.replyAt);
  let logits: usize = word(op, Echo.dstAt);
  for (let i = 0; i < n; i++) {
    const record = row_at(step, load<i32>(pick_at(step, i), PICK_ROW));
    const reply: usize = load<i32>(record, ROW_TABLE_AT) + replyAt;
    const index = load<i32>(record, ROW_POS) + 1 - word(reply, Reply.prompt);
    const inside = (index >= 0) & (index < word(reply, Reply.count));
    const next = select<i32>(word(reply, Reply.ids + select<i32>(index, 0, inside)), word(reply, Reply.end), inside);
    memory.fill(logits, 0, bytes);
    store<f32>(logits + (next << 2), 1);
    logits += stride;
  }
}
