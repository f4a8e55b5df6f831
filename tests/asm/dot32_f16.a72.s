// dot32 of activations in f32 and halves, 32 products (drivers/engine/simd/dot.ts), for Cortex-A72: mul_mat_f16.
// x0 a, x1 b, w3 i | v16 … v23 the 32 sums, v25 mask and v26 scale of load_f16x4.

.macro four at, half, sum           // products of halves are exact, fused or not
  ldr    q0, [x0, #\at]
  ldr    d1, [x1, #\half]
  sshll  v1.4s, v1.4h, #0
  shl    v1.4s, v1.4s, #13
  and    v1.16b, v1.16b, v25.16b
  fmul   v1.4s, v1.4s, v26.4s
  fmla   v\sum\().4s, v0.4s, v1.4s
.endm

turn:
  four   0, 0, 16
  four   16, 8, 17
  four   32, 16, 18
  four   48, 24, 19
  four   64, 32, 20
  four   80, 40, 21
  four   96, 48, 22
  four   112, 56, 23
  add    x0, x0, #128
  add    x1, x1, #64
  sub    w3, w3, #32
  cmp    w3, #32
  b.ge   turn
