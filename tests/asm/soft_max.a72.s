// soft_max, e^(x − max) of twice four scores (drivers/engine/simd/attention.ts, exp4 in math.ts), for Cortex-A72. Constants stay in registers.
// x0 x, x1 end | v0 sum of lanes, v1 largest, v8 … v23 exp4's constants in the order of their use.

step:
.rept 2
  ldr    q2, [x0]
  fsub   v2.4s, v2.4s, v1.4s
  fcmgt  v3.4s, v8.4s, v2.4s        // tiny
  fcmgt  v4.4s, v8.4s, v2.4s        // pmax
  bsl    v4.16b, v8.16b, v2.16b
  fcmgt  v5.4s, v4.4s, v9.4s        // pmin
  bsl    v5.16b, v9.16b, v4.16b     // r
  fmul   v6.4s, v5.4s, v10.4s
  frintn v6.4s, v6.4s               // n
  fmul   v7.4s, v6.4s, v11.4s
  fsub   v5.4s, v5.4s, v7.4s
  fmul   v7.4s, v6.4s, v12.4s
  fsub   v5.4s, v5.4s, v7.4s
  fmul   v7.4s, v13.4s, v5.4s       // p: five steps of Horner's rule
  fadd   v7.4s, v7.4s, v14.4s
  fmul   v7.4s, v7.4s, v5.4s
  fadd   v7.4s, v7.4s, v15.4s
  fmul   v7.4s, v7.4s, v5.4s
  fadd   v7.4s, v7.4s, v16.4s
  fmul   v7.4s, v7.4s, v5.4s
  fadd   v7.4s, v7.4s, v17.4s
  fmul   v7.4s, v7.4s, v5.4s
  fadd   v7.4s, v7.4s, v18.4s
  fmul   v24.4s, v5.4s, v5.4s
  fmul   v7.4s, v7.4s, v24.4s
  fadd   v7.4s, v7.4s, v5.4s
  fadd   v7.4s, v7.4s, v19.4s
  fcvtzs v6.4s, v6.4s               // power
  add    v6.4s, v6.4s, v20.4s
  shl    v6.4s, v6.4s, #23
  fmul   v7.4s, v7.4s, v6.4s
  bic    v7.16b, v7.16b, v3.16b
  str    q7, [x0]
  fadd   v0.4s, v0.4s, v7.4s        // lanes
  add    x0, x0, #16
.endr
  cmp    x0, x1
  b.lo   step
