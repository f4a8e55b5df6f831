// weighted_sum of halves, four values of eight positions (drivers/engine/simd/dot.ts, two_lanes), for Cortex-A72.
// x0 p, x1 v, x6 block table, x2 next in bytes, w3 left | v16 … v23 sums, v25 mask and v26 scale of load_f16x4.

.macro position sum
  ld1r   { v0.4s }, [x4]
  ldr    d1, [x5]
  add    x4, x4, #16
  add    x5, x5, x2
  sshll  v1.4s, v1.4h, #0
  shl    v1.4s, v1.4s, #13
  and    v1.16b, v1.16b, v25.16b
  fmul   v1.4s, v1.4s, v26.4s
  fmul   v1.4s, v0.4s, v1.4s
  fadd   v\sum\().4s, v\sum\().4s, v1.4s
.endm

turn:
  mov    x4, x0
  ldr    w5, [x6], #4
  add    x5, x1, x5
  position 16
  position 20
  position 17
  position 21
  position 18
  position 22
  position 19
  position 23
  add    x0, x0, #128
  sub    w3, w3, #32
  cmp    w3, #31
  b.gt   turn
