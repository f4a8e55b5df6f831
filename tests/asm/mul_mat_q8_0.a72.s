// mul_mat_q8_0, one block of four interleaved rows times one token (drivers/engine/simd/matmul.ts), for Cortex-A72.
// x0 act, x1 weights, x2 end | v16 … v23 the eight sums, v25 mask and v26 scale of load_f16x4.

.macro dot to, a, b                 // i32x4.dot_i16x8_s
  smull  v\to\().4s, v\a\().4h, v\b\().4h
  smull2 v7.4s, v\a\().8h, v\b\().8h
  addp   v\to\().4s, v\to\().4s, v7.4s
.endm
.macro quad at, sum                 // four neighbouring values of each row
  ld1r   { v0.4s }, [x3], #4
  ldr    q2, [x1, #\at]
  sshll  v3.8h, v2.8b, #0
  dot    5, 0, 3
  ld1r   { v1.4s }, [x3], #4
  sshll2 v4.8h, v2.16b, #0
  dot    6, 1, 4
  add    v5.4s, v5.4s, v6.4s
  scvtf  v5.4s, v5.4s
  fmla   v\sum\().4s, v5.4s, v8.4s
.endm

block:
  ldr    d8, [x1]                   // load_f16x4
  sshll  v8.4s, v8.4h, #0
  shl    v8.4s, v8.4s, #13
  and    v8.16b, v8.16b, v25.16b
  fmul   v8.4s, v8.4s, v26.4s
  ld1r   { v9.4s }, [x0]            // ACT_D
  fmul   v8.4s, v8.4s, v9.4s
  add    x3, x0, #48                // ACT_Q16
  quad   8, 16
  quad   24, 17
  quad   40, 18
  quad   56, 19
  quad   72, 20
  quad   88, 21
  quad   104, 22
  quad   120, 23
  add    x0, x0, #112               // ACT_BYTES
  add    x1, x1, #136               // GROUP · Q8_0_BYTES
  cmp    x1, x2
  b.lo   block
