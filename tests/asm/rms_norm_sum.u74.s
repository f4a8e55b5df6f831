# rms_norm, one square into the sum in f64 (drivers/engine/simd/layers.ts, sum_f64), for SiFive U74. a0 x, a1 end | fa1 sum.

turn:
  flw   fa0, 0(a0)
  fmul.s fa0, fa0, fa0
  fcvt.d.s fa0, fa0
  fadd.d fa1, fa1, fa0
  addi  a0, a0, 4
  bltu  a0, a1, turn
