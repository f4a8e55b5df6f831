# mul_mat_f32, four values of four rows times one token (drivers/engine/simd/matmul.ts: mul_mat_float with one token), for SiFive U74.
# a0 p, a1 end, a2 … a4 p + rowBytes times 1 … 3, a5 y | fs0 … fs11, fa0 … fa3 sums a0 … a3. Product and sum round apart: no fmadd.

.macro product at, row, y, sum      # one lane
  flw   ft8, \at(\row)
  fmul.s ft8, ft8, \y
  fadd.s \sum, \sum, ft8
.endm
.macro row at, s0, s1, s2, s3
  product 0, \at, ft0, \s0
  product 4, \at, ft1, \s1
  product 8, \at, ft2, \s2
  product 12, \at, ft3, \s3
.endm

step:
  flw   ft0, 0(a5)                  # ya
  flw   ft1, 4(a5)
  flw   ft2, 8(a5)
  flw   ft3, 12(a5)
  row   a0, fs0, fs1, fs2, fs3
  row   a2, fs4, fs5, fs6, fs7
  row   a3, fs8, fs9, fs10, fs11
  row   a4, fa0, fa1, fa2, fa3
  addi  a5, a5, 16
  addi  a0, a0, 16
  addi  a2, a2, 16
  addi  a3, a3, 16
  addi  a4, a4, 16
  bltu  a0, a1, step
