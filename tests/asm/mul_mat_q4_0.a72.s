// mul_mat_q4_0, one block of four rows times one token (drivers/engine/simd/matmul.ts: the loop over p with one sum), for Cortex-A72.
// x0 p, x1 end, x2 y0 | v28 sum, v29 halfBias, v30 halfMask, v31 mask (15 in each halfword).
// i32x4.dot_i16x8_s is smull, smull2 and addp; accumulating, one addp at the end serves sixteen of them.

.macro dot y, lane, w               // t += dot(shuffle<i32>(y, lane …), w)
  dup    v20.4s, v\y\().s[\lane]
  smlal  v26.4s, v20.4h, v\w\().4h
  smlal2 v27.4s, v20.8h, v\w\().8h
.endm
.macro vector at, even, odd, y, yHigh // q at p + at: part_a … part_d, four dots
  ldr    q16, [x0, #\at]
  and    v17.16b, v16.16b, v31.16b  // part_a: low nibbles of even bytes
  dot    \y, \even, 17
  ushr   v18.8h, v16.8h, #8
  and    v18.16b, v18.16b, v31.16b  // part_b: low nibbles of odd bytes
  dot    \y, \odd, 18
  ushr   v19.8h, v16.8h, #4
  and    v19.16b, v19.16b, v31.16b  // part_c: high nibbles of even bytes
  dot    \yHigh, \even, 19
  ushr   v21.8h, v16.8h, #12        // part_d: high nibbles of odd bytes
  dot    \yHigh, \odd, 21
.endm

block:
  ldr    q0, [x2, #48]              // y0 … y3: ACT_Q16
  ldr    q1, [x2, #64]
  ldr    q2, [x2, #80]
  ldr    q3, [x2, #96]
  movi   v26.4s, #0
  movi   v27.4s, #0
  vector 8, 0, 1, 0, 2              // q0
  vector 24, 2, 3, 0, 2             // q1
  vector 40, 0, 1, 1, 3             // q2
  vector 56, 2, 3, 1, 3             // q3
  addp   v26.4s, v26.4s, v27.4s     // isum
  add    x3, x2, #4
  ld1r   { v4.4s }, [x3]            // ACT_BIAS
  add    v26.4s, v26.4s, v4.4s
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
  sshll2 v18.2d, v26.4s, #0         // lanes 2 and 3: upper() is in the instructions
  scvtf  v18.2d, v18.2d
  fcvtl2 v19.2d, v5.4s
  fmul   v18.2d, v18.2d, v19.2d
  fcvtl2 v20.2d, v28.4s
  fadd   v18.2d, v20.2d, v18.2d
  fcvtn  v28.2s, v7.2d
  fcvtn2 v28.4s, v18.2d
  add    x2, x2, #112               // ACT_BYTES
  add    x0, x0, #72                // block
  cmp    x0, x1
  b.lo   block
