// weighted_sum of halves, sixteen values of a position (drivers/engine/simd/dot.ts, sixteen_sums), for Cortex-A72.
// x0 p, x1 v, x6 block table, x3 its end | v16 … v19 sums, v25 mask of small4.

.macro four half, sum
  ldr    d1, [x5, #\half]
  sshll  v1.4s, v1.4h, #0
  shl    v1.4s, v1.4s, #13
  and    v1.16b, v1.16b, v25.16b
  fmla   v\sum\().4s, v0.4s, v1.4s
.endm

turn:
  ldr    w5, [x6], #4
  add    x5, x1, x5
  ld1r   { v0.4s }, [x0]
  four   0, 16
  four   8, 17
  four   16, 18
  four   24, 19
  add    x0, x0, #128
  cmp    x6, x3
  b.lo   turn
