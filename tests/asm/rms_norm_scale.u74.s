# rms_norm, four values scaled (drivers/engine/simd/layers.ts, scale_row), for SiFive U74, lane by lane.
# a0 x, a1 w, a2 dst, a3 n, a4 i | fa6 0, fa7 the scale.

.macro value at
  flw   ft0, \at(t0)
  fsub.s ft0, ft0, fa6
  fmul.s ft0, ft0, fa7
  flw   ft1, \at(t1)
  fmul.s ft0, ft0, ft1
  fsw   ft0, \at(t2)
.endm

turn:
  slli  t3, a4, 2
  add   t0, a0, t3
  add   t2, a2, t3
  beqz  a1, plain
  add   t1, a1, t3
  value 0
  value 4
  value 8
  value 12
  addiw a4, a4, 4
  addiw t3, a4, 4
  ble   t3, a3, turn
plain:
