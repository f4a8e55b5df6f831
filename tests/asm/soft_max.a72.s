// soft_max, the exponentials of eight scores and their sum (drivers/engine/simd/attention.ts), for Cortex-A72; the last, shorter turn is not here.
// x0 scores, x4 end | d15 sum, v16 … v27 the constants of exp4 in the order of their use, v28 the largest score.

.macro exp4 at, to
  ldr    q0, [x0, #\at]
  add    x5, x0, #\at+16            // four of them left?
  cmp    x5, x4
  b.hi   rest
  fsub   v0.4s, v0.4s, v28.4s
  fcmgt  v1.4s, v16.4s, v0.4s       // tiny
  mov    v2.16b, v1.16b
  bsl    v2.16b, v16.16b, v0.16b    // pmax
  fcmgt  v3.4s, v2.4s, v17.4s
  bsl    v3.16b, v17.16b, v2.16b    // pmin
  mov    v4.16b, v19.16b
  fmla   v4.4s, v3.4s, v18.4s
  fsub   v4.4s, v4.4s, v19.4s       // n
  fmla   v3.4s, v4.4s, v20.4s
  fmla   v3.4s, v4.4s, v21.4s       // b
  fmul   v5.4s, v3.4s, v3.4s
  fcvtzs v6.4s, v4.4s
  add    v6.4s, v6.4s, v22.4s
  shl    v6.4s, v6.4s, #23          // 2^n
  mov    v7.16b, v24.16b
  fmla   v7.4s, v3.4s, v23.4s
  mov    v2.16b, v26.16b
  fmla   v2.4s, v3.4s, v25.4s
  fmla   v2.4s, v7.4s, v5.4s
  fmul   v7.4s, v3.4s, v27.4s
  fmla   v7.4s, v2.4s, v5.4s        // p
  mov    v\to\().16b, v6.16b
  fmla   v\to\().4s, v6.4s, v7.4s
  bic    v\to\().16b, v\to\().16b, v1.16b
.endm

turn:
  exp4   0, 8
  exp4   16, 9
  add    x5, x0, #16
  cmp    x5, x4
  b.hi   rest
  str    q8, [x0]
  add    x5, x0, #32
  cmp    x5, x4
  b.hi   rest
  str    q9, [x0, #16]
  fadd   v8.4s, v8.4s, v9.4s
  ext    v9.16b, v8.16b, v8.16b, #8
  fadd   v8.4s, v8.4s, v9.4s
  mov    s9, v8.s[1]
  fadd   s8, s8, s9
  fcvt   d8, s8
  fadd   d15, d15, d8
  add    x0, x0, #32
  cmp    x0, x4
  b.lo   turn
rest:
