# mul_mat_q4_0, one block of four interleaved rows times one token (drivers/engine/simd/matmul.ts), for SiFive U74, lane by lane.
# a0 act, a1 weights, a2 end | s0 … s7 the eight 16-bit sums, s8 one, s9 mask and fs0 scale of load_f16x4, fa0 … fa3 sums.

.macro weight at, lane, low, high   # both nibbles of a byte
  lbu   a3, \at(a1)
  andi  a4, a3, 15
  srli  a3, a3, 4
  mulw  a4, a4, \low
  mulw  a3, a3, \high
  addw  \lane, \lane, a4
  addw  \lane, \lane, a3
.endm
.macro row at, even, odd            # four bytes of a row
  weight \at, \even, t0, t4
  weight \at+1, \even, t1, t5
  weight \at+2, \odd, t2, t6
  weight \at+3, \odd, t3, a6
.endm
.macro quarter j                    # four activations of each half of the block, four rows
  lb    t0, 16+4*\j(a0)             # ACT_Q8
  lb    t1, 17+4*\j(a0)
  lb    t2, 18+4*\j(a0)
  lb    t3, 19+4*\j(a0)
  lb    t4, 32+4*\j(a0)
  lb    t5, 33+4*\j(a0)
  lb    t6, 34+4*\j(a0)
  lb    a6, 35+4*\j(a0)
  row   8+16*\j, s0, s1
  row   12+16*\j, s2, s3
  row   16+16*\j, s4, s5
  row   20+16*\j, s6, s7
.endm
.macro lane r, even, odd, sum       # times ones, plus the bias, times the scales
  mulw  \even, \even, s8
  mulw  \odd, \odd, s8
  addw  \even, \even, \odd
  addw  \even, \even, a5
  fcvt.s.w ft0, \even
  lh    a3, 2*\r(a1)                # load_f16x4
  slliw a3, a3, 13
  and   a3, a3, s9
  fmv.w.x ft1, a3
  fmul.s ft1, ft1, fs0
  fmul.s ft1, ft1, fa4
  fmadd.s \sum, ft0, ft1, \sum
.endm

block:
  .irp  s, s0, s1, s2, s3, s4, s5, s6, s7
  li    \s, 0
  .endr
  quarter 0
  quarter 1
  quarter 2
  quarter 3
  lw    a5, 4(a0)                   # ACT_BIAS
  flw   fa4, 0(a0)                  # ACT_D
  lane  0, s0, s1, fa0
  lane  1, s2, s3, fa1
  lane  2, s4, s5, fa2
  lane  3, s6, s7, fa3
  addi  a0, a0, 112                 # ACT_BYTES
  addi  a1, a1, 72                  # GROUP · Q4_0_BYTES
  bltu  a1, a2, block
