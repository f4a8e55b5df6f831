// quantize_q8, one block of 32 activations (drivers/engine/simd/blocks.ts), for Cortex-A72. Its two inner loops are unrolled.
// x0 from, x1 act, x2 end | v30 the order 0 2 1 3 of bytes, v31 127 in lane 0, v11 … v15 and
// v24 … v29 constants of round_f16x4.

.macro largest at                   // m = max(m, abs(load(from + at)))
  ldr    q1, [x0, #\at]
  fabs   v1.4s, v1.4s
  fmax   v0.4s, v0.4s, v1.4s
.endm
.macro round_four to, at            // round_even(load · inverse): nearest and trunc_sat are one instruction
  ldr    q\to, [x0, #\at]
  fmul   v\to\().4s, v\to\().4s, v7.4s
  fcvtns v\to\().4s, v\to\().4s
.endm
.macro sixteen from, bytes, halves  // half a block
  round_four 16, \from
  round_four 17, \from+16
  round_four 18, \from+32
  round_four 19, \from+48
  sqxtn  v16.4h, v16.4s             // i16x8.narrow_i32x4_s
  sqxtn2 v16.8h, v17.4s
  sqxtn  v18.4h, v18.4s
  sqxtn2 v18.8h, v19.4s
  sqxtn  v16.8b, v16.8h             // i8x16.narrow_i16x8_s
  sqxtn2 v16.16b, v18.8h
  tbl    v17.16b, { v16.16b }, v30.16b
  str    q17, [x1, #\bytes]         // ACT_Q8
  sshll  v18.8h, v16.8b, #0
  str    q18, [x1, #\halves]        // ACT_Q16
  sshll2 v19.8h, v16.16b, #0
  str    q19, [x1, #\halves+16]
  saddlp v16.8h, v16.16b            // both extadd_pairwise and the sum
  sadalp v6.4s, v16.8h
.endm
.macro round_f16x4                  // v16 in place
  mov    v10.16b, v16.16b
  bic    v16.4s, #128, lsl #24      // a: no sign
  ushr   v17.4s, v16.4s, #13
  and    v17.16b, v17.16b, v24.16b  // odd
  sub    v18.4s, v16.4s, v25.4s     // 112 << 23
  add    v18.4s, v18.4s, v26.4s     // 0xfff
  add    v18.4s, v18.4s, v17.4s
  ushr   v18.4s, v18.4s, #13        // normal
  fadd   v19.4s, v16.4s, v27.4s     // ½
  sub    v19.4s, v19.4s, v27.4s     // subnormal
  cmgt   v20.4s, v28.4s, v16.4s
  bsl    v20.16b, v19.16b, v18.16b
  cmgt   v21.4s, v16.4s, v29.4s     // infinity
  bsl    v21.16b, v28.16b, v20.16b
  ushr   v22.4s, v10.4s, #16
  and    v22.16b, v22.16b, v24.16b
  orr    v21.16b, v21.16b, v22.16b
  cmgt   v23.4s, v16.4s, v25.4s     // NaN
  bsl    v23.16b, v28.16b, v21.16b
  and    v16.16b, v23.16b, v14.16b  // magnitude, 0x7fff
  shl    v17.4s, v16.4s, #13
  fmul   v18.4s, v17.4s, v15.4s     // 2^112
  add    v17.4s, v17.4s, v13.4s     // infinity, NaN
  cmgt   v19.4s, v16.4s, v12.4s     // 0x7bff
  bsl    v19.16b, v17.16b, v18.16b
  and    v20.16b, v23.16b, v11.16b  // sign, 0x8000
  shl    v20.4s, v20.4s, #16
  orr    v16.16b, v19.16b, v20.16b
.endm

block:
  movi   v0.4s, #0
  largest 0
  largest 16
  largest 32
  largest 48
  largest 64
  largest 80
  largest 96
  largest 112
  ext    v1.16b, v0.16b, v0.16b, #8
  fmax   v0.4s, v0.4s, v1.4s
  mov    s1, v0.s[1]
  fmax   s0, s0, s1                 // amax
  fdiv   s2, s0, s31                // d
  fdiv   s3, s31, s0
  movi   v4.4s, #0
  fcmp   s0, #0.0
  fcsel  s3, s3, s4, ne
  dup    v7.4s, v3.s[0]             // inverse
  movi   v6.4s, #0                  // sum
  sixteen 0, 16, 48
  sixteen 64, 32, 80
  add    x0, x0, #128
  ext    v1.16b, v6.16b, v6.16b, #8
  add    v6.4s, v6.4s, v1.4s
  umov   w8, v6.s[0]
  umov   w9, v6.s[1]
  add    w8, w8, w9                 // total
  scvtf  s5, w8
  fmul   s5, s5, s2
  dup    v16.4s, v2.s[0]
  mov    v16.s[1], v5.s[0]
  round_f16x4
  str    s16, [x1]                  // ACT_D
  neg    w9, w8, lsl #3
  str    w9, [x1, #4]               // ACT_BIAS
  add    x8, x1, #8
  st1    { v16.s }[1], [x8]         // ACT_S
  str    wzr, [x1, #12]
  add    x1, x1, #112               // ACT_BYTES
  cmp    x1, x2
  b.lo   block
