// logits_sum, four values (drivers/engine/simd/checksum.ts), for Cortex-A72.
// x0 logits, w1 i, w2 end | v0 lanes, v16 PRIME_2, v17 PRIME_1.

turn:
  ubfiz  x3, x1, #2, #32
  ldr    q1, [x0, x3]
  mul    v1.4s, v1.4s, v16.4s
  add    v0.4s, v0.4s, v1.4s
  shl    v1.4s, v0.4s, #13
  ushr   v0.4s, v0.4s, #19
  orr    v0.16b, v0.16b, v1.16b
  mul    v0.4s, v0.4s, v17.4s
  add    w1, w1, #4
  cmp    w1, w2
  b.lt   turn
