// rms_norm, four values scaled (drivers/engine/simd/layers.ts, scale_row), for Cortex-A72.
// x0 x, x1 w, x2 dst, w3 n, w4 i | v16 0, s17 the scale.

turn:
  ubfiz  x5, x4, #2, #32
  ldr    q0, [x0, x5]
  fsub   v0.4s, v0.4s, v16.4s
  dup    v1.4s, v17.s[0]
  fmul   v0.4s, v0.4s, v1.4s
  cbz    x1, plain
  ldr    q2, [x1, x5]
  fmul   v0.4s, v0.4s, v2.4s
plain:
  str    q0, [x2, x5]
  add    w4, w4, #4
  add    w6, w4, #4
  cmp    w6, w3
  b.le   turn
