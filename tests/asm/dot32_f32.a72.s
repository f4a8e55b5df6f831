// dot32 of f32, 32 fused products (drivers/engine/simd/dot.ts), for Cortex-A72: mul_mat_f32 and the scores of attention over an F32 cache.
// x0 a, x1 b, w3 i | v16 … v23 the 32 sums.

.macro four at, sum
  ldr    q0, [x0, #\at]
  ldr    q1, [x1, #\at]
  fmla   v\sum\().4s, v0.4s, v1.4s
.endm

turn:
  four   0, 16
  four   16, 17
  four   32, 18
  four   48, 19
  four   64, 20
  four   80, 21
  four   96, 22
  four   112, 23
  add    x0, x0, #128
  add    x1, x1, #128
  sub    w3, w3, #32
  cmp    w3, #32
  b.ge   turn
