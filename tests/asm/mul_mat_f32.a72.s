// mul_mat_f32, four values of four rows times one token (drivers/engine/simd/matmul.ts: mul_mat_float with one token), for Cortex-A72.
// x0 p, x1 end, x2 … x4 rowBytes times 1 … 3, x5 y | v0 … v3 sums a0 … a3. Product and sum round apart: no fmla.

step:
  ldr    q4, [x5], #16              // ya
  ldr    q5, [x0]
  fmul   v5.4s, v5.4s, v4.4s
  fadd   v0.4s, v0.4s, v5.4s        // a0
  ldr    q6, [x0, x2]
  fmul   v6.4s, v6.4s, v4.4s
  fadd   v1.4s, v1.4s, v6.4s        // a1
  ldr    q7, [x0, x3]
  fmul   v7.4s, v7.4s, v4.4s
  fadd   v2.4s, v2.4s, v7.4s        // a2
  ldr    q16, [x0, x4]
  fmul   v16.4s, v16.4s, v4.4s
  fadd   v3.4s, v3.4s, v16.4s       // a3
  add    x0, x0, #16
  cmp    x0, x1
  b.lo   step
