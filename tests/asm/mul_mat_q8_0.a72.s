// mul_mat_q8_0, one block of four rows times one token (drivers/engine/simd/matmul.ts: the loop over p with one sum), for Cortex-A72.
// x0 p, x1 end, x2 y0 | v28 sum, v29 halfBias, v30 halfMask. See mul_mat_q4_0.a72.s for the dot product.

.macro dot y, lane, w               // t += dot(shuffle<i32>(y, lane …), w)
  dup    v20.4s, v\y\().s[\lane]
  smlal  v26.4s, v20.4h, v\w\().4h
  smlal2 v27.4s, v20.8h, v\w\().8h
.endm
.macro vector at, y, first, second  // q at p + at: extend_low, extend_high, two dots
  ldr    q16, [x0, #\at]
  sshll  v17.8h, v16.8b, #0
  dot    \y, \first, 17
  sshll2 v18.8h, v16.16b, #0
  dot    \y, \second, 18
.endm

block:
  ldr    q0, [x2, #48]              // y0 … y3: ACT_Q16
  ldr    q1, [x2, #64]
  ldr    q2, [x2, #80]
  ldr    q3, [x2, #96]
  movi   v26.4s, #0
  movi   v27.4s, #0
  vector 8, 0, 0, 1                 // w0, w1
  vector 24, 0, 2, 3                // w2, w3
  vector 40, 1, 0, 1                // w4, w5
  vector 56, 1, 2, 3                // w6, w7
  vector 72, 2, 0, 1                // w8, w9
  vector 88, 2, 2, 3                // w10, w11
  vector 104, 3, 0, 1               // w12, w13
  vector 120, 3, 2, 3               // w14, w15
  addp   v26.4s, v26.4s, v27.4s     // isum
  ldr    d5, [x0]                   // load_f16x4(p): four scales
  sshll  v5.4s, v5.4h, #13
  and    v5.16b, v5.16b, v30.16b
  fmul   v5.4s, v5.4s, v29.4s
  ld1r   { v6.4s }, [x2]            // ACT_D
  fmul   v5.4s, v5.4s, v6.4s        // scale
  sshll  v7.2d, v26.2s, #0          // add_product, lanes 0 and 1
  scvtf  v7.2d, v7.2d
  fcvtl  v16.2d, v5.2s
  fmul   v7.2d, v7.2d, v16.2d
  fcvtl  v17.2d, v28.2s
  fadd   v7.2d, v17.2d, v7.2d
  sshll2 v18.2d, v26.4s, #0         // lanes 2 and 3
  scvtf  v18.2d, v18.2d
  fcvtl2 v19.2d, v5.4s
  fmul   v18.2d, v18.2d, v19.2d
  fcvtl2 v20.2d, v28.4s
  fadd   v18.2d, v20.2d, v18.2d
  fcvtn  v28.2s, v7.2d
  fcvtn2 v28.4s, v18.2d
  add    x2, x2, #112               // ACT_BYTES
  add    x0, x0, #136               // block
  cmp    x0, x1
  b.lo   block
