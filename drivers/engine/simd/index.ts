// The compute device's module: what it exports to its host. Internal helpers stay inside; every export takes and returns i32 only.

export { dequantize, get_row, quantize, repack } from './types';
export { encode } from './encode';
export {
  mul_mat_bf16, mul_mat_f16, mul_mat_f32, mul_mat_iq4_nl, mul_mat_q4_0, mul_mat_q4_1, mul_mat_q5_0, mul_mat_q5_1, mul_mat_q8_0,
} from './matmul';
export {
  mul_mat_iq4_xs, mul_mat_q2_k, mul_mat_q3_k, mul_mat_q4_k, mul_mat_q5_k, mul_mat_q6_k, mul_mat_tq1_0, mul_mat_tq2_0,
} from './superblocks';
export {
  add, all_finite, gelu, gelu_f16, gelu_mul_f16, kv_store, layer_norm, rms_norm, rope, rope_frequencies, rope_halves, rope_scaling, rope_table,
  rope_table_scaled, scale, silu_mul,
} from './layers';
export { attention, attention_f16, attention_f32, attention_q4_0, attention_q8_0, soft_max } from './attention';
export { run, run_op } from './execute';
export { prices, set_prices, spent, take_spent } from './meter';
export * from './sample';
export * from './tokenize';
