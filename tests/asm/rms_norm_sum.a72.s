// rms_norm, one square into the sum in f64 (drivers/engine/simd/layers.ts, sum_f64), for Cortex-A72. x0 x, x1 end | d1 sum.

turn:
  ldr    s0, [x0], #4
  fmul   s0, s0, s0
  fcvt   d0, s0
  fadd   d1, d1, d0
  cmp    x0, x1
  b.lo   turn
