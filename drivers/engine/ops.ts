// The instruction set of the plan executor: op codes, the words of each op record, and the layouts of the buffers that ops share. A plan
// is a flat array of 64-byte records in the arena; an engine writes it, `run` (simd/execute.ts) executes it from a record to the next END.
// This file is compiled twice, by TypeScript and by AssemblyScript, so it holds enums and integer constants only; what engines compute from
// them (actKind, actBytes, scoresBytes …) is in sizes.ts.
//
//   word   0        1         2 … 12             13         14          15
//        ┌────────┬─────────┬──────────────────┬──────────┬───────────┬──────────┐
//        │ Op     │ FLAG_…  │ operands, by op  │ tokens   │ positions │ 0        │   16 × i32, little-endian
//        └────────┴─────────┴──────────────────┴──────────┴───────────┴──────────┘
//
// An op over n tokens takes tokens[n] cycles, and where its cost depends on positions, positions[p] for each of them more, p being its position:
// such an op runs row by row (FLAG_ROWS). Words 13 and 14 are the addresses of these u64, batch + 1 and ctx of them, which lie behind the
// records; positions = 0: the position does not matter. n is StepBlock.n, or StepBlock.picks with FLAG_HEAD. Engines make room for prices,
// the kernel fills them in (PLAN_RECORD in kernel/abi/device.ts).

export const OP_BYTES = 64;
export const WORD_FLAGS = 1;
export const WORD_TOKENS = 13;
export const WORD_POSITIONS = 14;
export const PRICE_BYTES = 8;

/**
 * The op runs for the picks: row i of its buffers belongs to pick i. A norm reads the row of the pass that a pick names and writes row i, pick
 * by pick: with FLAG_ROWS.
 */
export const FLAG_HEAD = 1;
/** MUL_MAT adds its result to dst (residual stream) instead of storing it. */
export const FLAG_ADD = 2;
/** The op runs for one row of the pass after the other: what it does depends on the row's position or its session's block table. */
export const FLAG_ROWS = 4;

/** Matrices are f32[token][…] without gaps unless the op has a stride word; strides and lengths are in values, `…At` are arena offsets. */
export enum Op {
  END = 0, // returns StepBlock.status
  GET_ROWS = 1, // dst[t][k] = the row of a weight matrix that a token names, dequantised
  ADD_ROWS = 2, // dst[t][k] += the row of a weight matrix that a position names: learned positions; row by row
  RMS_NORM = 3, // dst[t][n] = src · w / √(mean(src²) + eps)
  LAYER_NORM = 4, // dst[t][n] = (src − mean) / √(variance + eps) · w + b
  QUANTIZE = 5, // src[t][k] → activations for products with weights of a type
  MUL_MAT = 6, // dst[t][rows] (+)= W · act[t] + bias
  ROPE_TABLE = 7, // cos and sin of position × frequency, once per pass; row by row
  ROPE = 8, // rotates pairs of every head in place
  KV_STORE = 9, // src[t][n] → its position in the cache; row by row
  ATTENTION = 10, // dst[t][heads · headDim] = soft_max(q·K · scale) · V over positions 0 … its own; row by row
  ADD = 11, // dst[t][n] += src[t][n]
  SILU_MUL = 12, // dst[t][n] = silu(gate) · up
  GELU = 13, // dst[t][n] = gelu(src), tanh form
  CHECK = 14, // a value of f32[pick][n] that is not finite: that pick's fault = FAULT.nan, and the run goes on
  SAMPLE = 15, // sample(step): logits → StepBlock.next
  SCORE = 16, // score(step): logits, target → StepBlock.loss
  ECHO = 17, // stub engine: logits from the prepared reply of each pick's session, see Reply
  GELU_F16 = 18, // GELU with argument and result rounded to F16: what ggml computes, by its table over halves
  GELU_MUL_F16 = 19, // dst[t][n] = gelu(gate) · up, gelu as GELU_F16
  RMS_NORM_HEADS = 20, // every head of f32[token][stride], in place, as RMS_NORM
  ROPE_TABLE_SCALED = 21, // ROPE_TABLE with angles slowed down and amplitudes changed: linear and YaRN scaling
  SCALE = 22, // f32[token][stride], the first n values of each token, times a factor, in place
  REPACK = 23, // rows of a matrix as the file has them → repack()'s layout: a streamed tile; whatever the tokens
  GET_GATHERED = 24, // GET_ROWS of a matrix that streams: from the unit of rows that was read for this row of the pass
  ADD_GATHERED = 25, // ADD_ROWS of one; row by row
  LOGITS_SUM = 26, // logits_sum(step): logits → StepBlock.logits0 … 3, the checksum that runs on from row to row
  LORA = 27, // dst[t][rows] += scale of the row's session · times · B · (A · src[t]); row by row. Where that scale is 0, dst keeps its bits

  // Training (transformer/train.ts): the float function of the dequantised weights over one sequence, row t of every buffer being position t, its
  // derivatives, and what changes parameters. …_BACK: from the gradient of an op's result to that of its arguments; …_JVP: from tangents of its
  // arguments to that of its result. Gradients are added where said (+=), so that those of several uses come together.
  FLOAT_MUL_MAT = 28, // dst[t][rows] (+)= times · W · src[t] + bias, W dequantised row by row, src f32 as it is
  FLOAT_MUL_MAT_BACK = 29, // dst[t][k] (+)= times · Wᵀ · src[t]
  OUTER = 30, // dst[rows][k] += src[t] ⊗ (times · x[t]), token by token: the gradient of a matrix
  COLUMN_SUM = 31, // dst[n] += Σt src[t][n]: the gradient of a bias
  RMS_NORM_BACK = 32, // dst[t][n] += ; with FLAG_HEAD src's row i is pick i's, x and dst are rows of the pass
  LAYER_NORM_BACK = 33,
  RMS_NORM_HEADS_BACK = 34, // in place: gradient of the result → of the argument
  ROPE_BACK = 35, // in place: the transposed turn
  CAUSAL_ATTENTION = 36, // dst[t] = soft_max(q[t] · K · scale) · V over positions 0 … t; row by row
  CAUSAL_ATTENTION_BACK = 37, // dst: the gradients of query, keys and values (=) side by side; row by row, from position 0 on
  SILU_MUL_BACK = 38, // gradients of gate and up (=)
  GELU_BACK = 39, // dst = grad · gelu'(src)
  GELU_MUL = 40, // dst = gelu(gate) · up, in f32 throughout
  GELU_MUL_BACK = 41,
  CROSS_ENTROPY = 42, // TrainBlock.loss += −ln p(target) for each pick, .count += 1; pick by pick
  CROSS_ENTROPY_BACK = 43, // the same, and logits → their gradient · TrainBlock.weight
  CROSS_ENTROPY_JVP = 44, // the same as the first, and TrainBlock.slope += weight · derivative along the logits' tangent
  ROWS_BACK = 45, // dst[token or position][k] += src[t][k]: the gradient of GET_ROWS, ADD_ROWS
  COPY = 46, // dst[t][n] = src[t][n]
  FILL = 47, // dst[t][n] = a value
  RMS_NORM_JVP = 48, // dst[t][n] = ; with FLAG_HEAD src and x are rows of the pass, dst's row i is pick i's
  LAYER_NORM_JVP = 49,
  RMS_NORM_HEADS_JVP = 50, // in place: tangent of the argument → of the result
  CAUSAL_ATTENTION_JVP = 51, // dst: the tangent of the result; src: those of query, key, value; row by row
  SILU_MUL_JVP = 52,
  GELU_JVP = 53,
  GELU_MUL_JVP = 54,
  SQUARES = 55, // a sum of TrainBlock += Σ x², or Σ (x − anchor)²
  ADAM = 56, // one step of AdamW (Loshchilov and Hutter 2019) over a vector of parameters; the gradient's place then holds what they were
  SGD = 57, // one step with momentum; the same
  PERTURB = 58, // dst[n] = src + TrainBlock.sigma · normal(seed, from + i)
  ACCUMULATE = 59, // dst[n] += TrainBlock.coefficient · normal(seed, from + i)
}

// The operand words of each op.
export enum GetRows {
  // also ADD_ROWS
  dstAt = 2,
  k = 3,
  weightsAt = 4,
  weightType = 5, // TYPE_…
  rows = 6, // of the matrix, ≥ 1; an id or position outside is a FAULT.badOp
}
export enum Gathered {
  // GET_GATHERED, ADD_GATHERED: the first words as GetRows, but that weightsAt are units, one for each row of the pass
  dstAt = 2,
  k = 3,
  weightsAt = 4, // [batch][unitBytes]
  weightType = 5,
  rows = 6,
  unitBytes = 7,
  unitRows = 8, // 1; 4 where four rows are interleaved. A matrix's last unit may have fewer
}
export enum Norm {
  // RMS_NORM, LAYER_NORM; dst may be src
  dstAt = 2,
  n = 3,
  srcAt = 4,
  weightsAt = 5, // f32[n]; 0 = none
  biasAt = 6, // f32[n]; 0 = none; LAYER_NORM only
  eps = 7, // f32 bits
}
export enum NormHeads {
  at = 2, // f32[token][stride], the heads first
  heads = 3,
  headDim = 4,
  stride = 5,
  weightsAt = 6, // f32[headDim], of all heads; 0 = none
  eps = 7, // f32 bits
}
export enum Quantize {
  // not needed for F32 weights: there MUL_MAT's actAt is the matrix itself
  actAt = 2,
  k = 3,
  srcAt = 4,
  weightType = 5,
}
export enum MulMat {
  dstAt = 2,
  rows = 3,
  k = 4,
  weightsAt = 5, // in repack()'s layout
  weightType = 6,
  actAt = 7,
  biasAt = 8, // f32[rows]; 0 = none
  dstStride = 9, // values between tokens in dst, ≥ rows
}
export enum Repack {
  dstAt = 2,
  rows = 3,
  k = 4,
  weightsAt = 5, // in the file's order
  weightType = 6, // Q4_0, Q4_1 or Q8_0
}
export enum RopeTable {
  // also ROPE_TABLE_SCALED
  tableAt = 2, // f32[token][pairs][2]: cos, sin
  pairs = 3,
  frequenciesAt = 4, // f32[pairs][2]: rope_frequencies(); scaled, f32[2 + pairs] follow: rope_scaling()
}
export enum Rope {
  at = 2, // f32[token][stride], the heads first
  heads = 3,
  headDim = 4,
  pairs = 5, // rotated per head; 2 · pairs ≤ headDim
  tableAt = 6,
  stride = 7,
  mode = 8, // ROPE_…
}
export enum KvStore {
  srcAt = 2, // f32[token][srcStride]
  n = 3, // values per position: headsKv · headDim
  srcStride = 4,
  planeAt = 5, // bytes from the beginning of a page to this layer's K or V: [KV_PAGE][n]
  kvType = 6, // TYPE_F32, F16, Q8_0 or Q4_0; of the last two n is whole blocks
}
export enum Attention {
  dstAt = 2,
  qAt = 3, // f32[token][qStride]; with an F16 cache rounded to F16 in place, as ggml does
  heads = 4,
  headsKv = 5,
  headDim = 6,
  kPlaneAt = 7, // bytes from the beginning of a page
  vPlaneAt = 8,
  kvType = 9,
  scale = 10, // f32 bits: 1/√headDim, or 1 where the queries are scaled
  scoresAt = 11, // scratch, f32[ctx]: scoresBytes()
  qStride = 12,
}
export enum Elementwise {
  // ADD, SILU_MUL, GELU, GELU_F16, GELU_MUL_F16; dst may be src
  dstAt = 2,
  n = 3,
  srcAt = 4, // the gate of SILU_MUL and GELU_MUL_F16
  upAt = 5, // of these two only
}
export enum Scale {
  at = 2,
  n = 3,
  stride = 4, // ≥ n
  factor = 5, // f32 bits
}
export enum Check {
  at = 2,
  n = 3,
  stride = 4, // ≥ n
}
export enum Lora {
  dstAt = 2, // f32[token][dstStride]
  rows = 3,
  k = 4,
  aAt = 5, // f32[rank][k]
  bAt = 6, // f32[rows][rank]
  rank = 7, // ≥ 1
  srcAt = 8, // f32[token][k]
  dstStride = 9,
  midAt = 10, // scratch, f32[rank]
  scalesAt = 11, // bytes from a session's block table to its f32 scale of this adapter
  times = 12, // f32 bits: alpha / rank
}

// Training. `t` counts positions of the sequence; strides in values. A parameter vector's op runs over one token.
export enum FloatMulMat {
  // FLOAT_MUL_MAT, FLOAT_MUL_MAT_BACK
  dstAt = 2,
  rows = 3,
  k = 4,
  weightsAt = 5, // in repack()'s layout, any type of matrixType()
  weightType = 6,
  srcAt = 7, // [t][srcStride]: k values; BACK: rows values
  biasAt = 8, // f32[rows]; 0 = none; not of BACK
  dstStride = 9,
  srcStride = 10,
  rowAt = 11, // scratch, f32[4 · k]: rows of the matrix dequantised
  times = 12, // f32 bits
}
export enum Outer {
  dstAt = 2, // f32[rows][k]
  rows = 3,
  k = 4,
  srcAt = 5, // f32[t][srcStride], rows values
  xAt = 6, // f32[t][xStride], k values
  srcStride = 7,
  xStride = 8,
  times = 9, // f32 bits
}
export enum ColumnSum {
  dstAt = 2,
  n = 3,
  srcAt = 4,
  srcStride = 5,
}
export enum NormBack {
  // RMS_NORM_BACK, LAYER_NORM_BACK, and their JVP, whose src is the tangent of x
  dstAt = 2,
  n = 3,
  srcAt = 4,
  xAt = 5, // what was normalised
  weightsAt = 6, // f32[n]; 0 = none
  eps = 7, // f32 bits
  weightsGradAt = 8, // f32[n] +=; 0 = not wanted; BACK only, as the next
  biasGradAt = 9,
}
export enum NormHeadsBack {
  // RMS_NORM_HEADS_BACK and its JVP
  at = 2, // f32[t][stride], the heads first
  heads = 3,
  headDim = 4,
  stride = 5,
  weightsAt = 6, // f32[headDim], of all heads; 0 = none
  eps = 7, // f32 bits
  xAt = 8, // f32[t][stride]: what was normalised
  weightsGradAt = 9, // f32[headDim] +=; 0 = not wanted; BACK only
}
export enum CausalAttention {
  dstAt = 2, // f32[t][heads · headDim]
  qAt = 3, // f32[t][stride]: query, key, value of a position side by side
  heads = 4,
  headsKv = 5,
  headDim = 6,
  stride = 7,
  scale = 8, // f32 bits
  scoresAt = 9, // scratch, f32[ctx]
  from = 10, // the first position whose row is computed
  until = 11, // the first one that is not any more; 0: all that follow
}
export enum CausalAttentionBack {
  // CAUSAL_ATTENTION_BACK: dst as qAt, src as the result; CAUSAL_ATTENTION_JVP: the other way round
  dstAt = 2,
  srcAt = 3,
  qAt = 4, // f32[t][stride]: query, key, value of a position side by side
  heads = 5,
  headsKv = 6,
  headDim = 7,
  stride = 8,
  scale = 9, // f32 bits
  scoresAt = 10, // scratch, f32[2 · ctx]
  from = 11, // as CausalAttention; backwards the rows before have been computed
  until = 12,
}
export enum GatedBack {
  // SILU_MUL_BACK, GELU_MUL_BACK, GELU_BACK (no up), and their JVP; dst may be grad, upDst may be up
  dstAt = 2, // gradient of the gate; JVP: tangent of the result
  n = 3,
  srcAt = 4, // the gate; of GELU_BACK its argument
  upAt = 5,
  gradAt = 6, // gradient of the result; JVP: tangent of the gate
  upGradAt = 7, // gradient of up, written; JVP: tangent of up, read
}
export enum CrossEntropy {
  at = 2, // f32[pick][stride]: logits
  n = 3,
  stride = 4,
  targetsAt = 5, // u32[row of the pass]: the token that follows
  blockAt = 6, // TrainBlock
  tangentAt = 7, // f32[pick][stride]: of the logits; JVP only
}
export enum RowsBack {
  dstAt = 2, // f32[rows][k]
  k = 3,
  srcAt = 4, // f32[t][k]
  rows = 5,
  byPosition = 6, // 1: rows are named by positions; 0: by tokens
}
export enum Copy {
  dstAt = 2,
  n = 3,
  srcAt = 4,
}
export enum Fill {
  dstAt = 2,
  n = 3,
  value = 4, // f32 bits
}
export enum Squares {
  srcAt = 2,
  n = 3,
  anchorAt = 4, // f32[n]; 0 = none
  blockAt = 5, // TrainBlock
  sumAt = 6, // bytes from there to the f64 that is added to
}
export enum Update {
  // ADAM, SGD: f32[n] each; the figures are TrainBlock's
  dstAt = 2, // parameters
  n = 3,
  gradAt = 4, // in: gradients; out: what the parameters were
  firstAt = 5, // first moments; SGD: momentum, 0 = none
  secondAt = 6, // second moments; ADAM only
  anchorAt = 7, // what the anchor penalty draws to; 0 = none
  blockAt = 8,
}
export enum Perturb {
  // PERTURB, ACCUMULATE
  dstAt = 2,
  n = 3,
  srcAt = 4, // 0: zeros; PERTURB only
  blockAt = 5, // TrainBlock
  from = 6, // index of the first value in the stream of normals
}
export enum Echo {
  dstAt = 2, // f32[pick][stride], of which it writes n
  n = 3,
  stride = 4,
  replyAt = 5, // bytes from a session's block table to its reply
}

// The two values of pair i that RoPE turns in a head.
export const ROPE_ADJACENT = 0; // 2i and 2i + 1: llama.cpp's "norm" mode
export const ROPE_HALVES = 1; // i and pairs + i: its "neox" mode

/** The stub's reply to a session, as u32 words: the token at position prompt − 1 is followed by ids[0], and so on; after the last, `end`. */
export enum Reply {
  count = 0,
  end = 1,
  prompt = 2, // prompt tokens
  ids = 3, // first of `count`
}

// Weight types: ggml's numbers. The integers and F64 are decoded only; matrices of them are kept as F32.
export const TYPE_F32 = 0;
export const TYPE_F16 = 1;
export const TYPE_Q4_0 = 2;
export const TYPE_Q4_1 = 3;
export const TYPE_Q5_0 = 6;
export const TYPE_Q5_1 = 7;
export const TYPE_Q8_0 = 8;
export const TYPE_Q2_K = 10;
export const TYPE_Q3_K = 11;
export const TYPE_Q4_K = 12;
export const TYPE_Q5_K = 13;
export const TYPE_Q6_K = 14;
export const TYPE_IQ4_NL = 20;
export const TYPE_IQ4_XS = 23;
export const TYPE_I8 = 24;
export const TYPE_I16 = 25;
export const TYPE_I32 = 26;
export const TYPE_I64 = 27;
export const TYPE_F64 = 28;
export const TYPE_BF16 = 30;
export const TYPE_TQ1_0 = 34;
export const TYPE_TQ2_0 = 35;
// Prelinked files': Q4_0, Q4_1 and Q8_0 in repack()'s layout. In the arena they are these.
export const TYPE_Q4_0_R4 = 1002;
export const TYPE_Q4_1_R4 = 1003;
export const TYPE_Q8_0_R4 = 1008;

/** Values per block of the quantised types, and of their activations. */
export const BLOCK = 32;
/** Values per super-block: Q2_K to Q6_K, IQ4_XS, TQ1_0, TQ2_0, and of their activations. */
export const SUPER = 256;

// Activations of 32 values for weights in blocks of 32 (ggml's Q8_0 and Q8_1 in one record), 112 bytes:
//   0 f32 d      scale, rounded to f16          8 f32 s    Σq · scale, rounded to f16 (ggml's Q8_1; for Q4_1)
//   4 i32 bias   −8 · Σq (for Q4_0)            12 i32 0
//  16 i8[32]     q, each four in the order 0 2 1 3 (relaxed dot products)
//  48 i16[32]    q, in order (i32x4.dot_i16x8_s)
export const ACT_D = 0;
export const ACT_BIAS = 4;
export const ACT_S = 8;
export const ACT_Q8 = 16;
export const ACT_Q16 = 48;
export const ACT_BYTES = 112;

// Activations of 256 values for weights in super-blocks (ggml's Q8_K), 304 bytes:
//   0 f32 d      scale      16 i16[16]   Σq of each sixteen values      48 i8[256]   q, in order
export const SUPER_ACT_D = 0;
export const SUPER_ACT_SUMS = 16;
export const SUPER_ACT_Q = 48;
export const SUPER_ACT_BYTES = 304;

// Weights as repack() lays them out, the same bytes in all as the file: Q4_0, Q4_1 and Q8_0 matrices have rows in groups of four, blocks
// of a group following each other; the last rows % 4 rows stay in the file's order. All other types stay as they are.
//   Q4_0 × 4   72 B: f16 d[4]            then 4 × 16 B: 4 bytes of each row, low nibbles values 4j…, high 16 + 4j…, each four in the order 0 2 1 3
//   Q4_1 × 4   80 B: f16 d[4], f16 m[4]  then as Q4_0
//   Q8_0 × 4  136 B: f16 d[4]            then 16 × 8 B: 2 bytes of each row
export const GROUP = 4;
export const Q4_0_BYTES = 18;
export const Q4_1_BYTES = 20;
export const Q8_0_BYTES = 34;

// Blocks of the types that stay in the file's order; their fields are in simd/decode.ts.
export const Q5_0_BYTES = 22;
export const Q5_1_BYTES = 24;
export const IQ4_NL_BYTES = 18;
export const Q2_K_BYTES = 84;
export const Q3_K_BYTES = 110;
export const Q4_K_BYTES = 144;
export const Q5_K_BYTES = 176;
export const Q6_K_BYTES = 210;
export const IQ4_XS_BYTES = 136;
export const TQ1_0_BYTES = 54;
export const TQ2_0_BYTES = 66;

/** Positions of a page of the KV pool; entries of a block table are u32 offsets from StepBlock.kvAt. */
export const KV_PAGE = 32;
export const KV_PAGE_LOG2 = 5;

/** A top-k up to this is found by a tournament in the room behind the logits; a larger one by bisection. At least LIMITS.topLogitsMax. */
export const TOP_K_SMALL = 128;

// StepBlock, RowRecord, PickRecord, SamplerRecord and TrainBlock (kernel/abi/records.ts) as the kernels address them; a test holds the two together.
export const STEP_STATUS = 0;
export const STEP_ROWS_AT = 4;
export const STEP_N = 8;
export const STEP_PICKS = 12;
export const STEP_DRAW = 16;
export const STEP_NEXT = 20;
export const STEP_HISTORY_AT = 24;
export const STEP_HISTORY_LENGTH = 28;
export const STEP_SAMPLER_AT = 32;
export const STEP_LOGITS_AT = 36;
export const STEP_VOCABULARY = 40;
export const STEP_KV_AT = 44;
export const STEP_CTX = 48;
export const STEP_TARGET = 52;
export const STEP_PICKS_AT = 56;
export const STEP_FAILED = 60;
export const STEP_LOGITS_SUM = 64; // 16 bytes
export const STEP_CYCLES = 80;
export const STEP_LOSS = 88;
export const ROW_TOKEN = 0;
export const ROW_POS = 4;
export const ROW_TABLE_AT = 8;
export const ROW_BYTES = 16;
export const PICK_ROW = 0;
export const PICK_FAULT = 4;
export const PICK_BYTES = 8;
export const SAMPLER_TEMP = 0;
export const SAMPLER_TOP_K = 4;
export const SAMPLER_TOP_P = 8;
export const SAMPLER_MIN_P = 12;
export const SAMPLER_REPEAT_PENALTY = 16;
export const SAMPLER_MODES = 20;
export const SAMPLER_PENALTY_ON = 1; // SAMPLER_MODE
export const SAMPLER_GREEDY = 2;
export const SAMPLER_TOP_P_ON = 4;
export const SAMPLER_MIN_P_ON = 8;
// TrainBlock.
export const TRAIN_LOSS = 0;
export const TRAIN_SLOPE = 8;
export const TRAIN_SQUARES = 16;
export const TRAIN_DISTANCE = 24;
export const TRAIN_SEED_LOW = 32;
export const TRAIN_SEED_HIGH = 36;
export const TRAIN_COUNT = 40;
export const TRAIN_WEIGHT = 44;
export const TRAIN_RATE = 48;
export const TRAIN_TIMES = 52;
export const TRAIN_BETA1 = 56;
export const TRAIN_BETA2 = 60;
export const TRAIN_CORRECTION1 = 64;
export const TRAIN_CORRECTION2 = 68;
export const TRAIN_EPSILON = 72;
export const TRAIN_DECAY = 76;
export const TRAIN_ANCHOR = 80;
export const TRAIN_SIGMA = 84;
export const TRAIN_COEFFICIENT = 88;
export const NO_TARGET = 0xffffffff;
export const FAULT_NAN = 1;
export const FAULT_BAD_OP = 2;
