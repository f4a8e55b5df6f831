// mul_mat_q4_0, one block of four interleaved rows times one token (drivers/engine/simd/matmul.ts), for Cortex-A72.
// x0 act, x1 weights, x2 end | v19 sums, v23 nibble mask, v24 ones, v25 mask and v26 scale of load_f16x4.

.macro dot8 to, a, b                // i16x8.relaxed_dot_i8x16_i7x16_s
  smull  v\to\().8h, v\a\().8b, v\b\().8b
  smull2 v9.8h, v\a\().16b, v\b\().16b
  addp   v\to\().8h, v\to\().8h, v9.8h
.endm
.macro row r, at                    // v2 += both halves of the block of one row: bytes by row, activations four at a time
  ldr    q3, [x1, #\at]
  dup    v4.4s, v0.s[\r]
  and    v5.16b, v3.16b, v23.16b
  dot8   8, 4, 5
  add    v2.8h, v2.8h, v8.8h
  dup    v6.4s, v1.s[\r]
  ushr   v7.8h, v3.8h, #4
  and    v7.16b, v7.16b, v23.16b
  dot8   10, 6, 7
  add    v2.8h, v2.8h, v10.8h
.endm

block:
  ldr    q0, [x0, #16]              // ACT_Q8
  ldr    q1, [x0, #32]
  movi   v2.4s, #0
  row    0, 8
  row    1, 24
  row    2, 40
  row    3, 56
  smull  v8.4s, v2.4h, v24.4h       // i32x4.dot_i16x8_s
  smull2 v9.4s, v2.8h, v24.8h
  addp   v8.4s, v8.4s, v9.4s
  add    x3, x0, #4
  ld1r   { v9.4s }, [x3]            // ACT_BIAS
  add    v8.4s, v8.4s, v9.4s
  scvtf  v8.4s, v8.4s
  ldr    d10, [x1]                  // load_f16x4
  sshll  v10.4s, v10.4h, #0
  shl    v10.4s, v10.4s, #13
  and    v10.16b, v10.16b, v25.16b
  fmul   v10.4s, v10.4s, v26.4s
  ld1r   { v11.4s }, [x0]           // ACT_D
  fmul   v10.4s, v10.4s, v11.4s
  fmla   v19.4s, v8.4s, v10.4s
  add    x0, x0, #112               // ACT_BYTES
  add    x1, x1, #72                // GROUP · Q4_0_BYTES
  cmp    x1, x2
  b.lo   block
