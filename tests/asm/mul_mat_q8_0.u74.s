# mul_mat_q8_0, one block of four rows times one token (drivers/engine/simd/matmul.ts: the loop over p with one sum), for SiFive U74: lanes
# are rows, one after the other; a row has two bytes of every eight.
# a0 p, a1 end, a2 y0 | fs0 … fs3 sum, fa7 halfBias, s1 halfMask.

.macro products at, y               # isum += weight · q, twice
  lb    t1, \at(a0)
  lh    t2, \y(a2)
  mulw  t1, t1, t2
  addw  t3, t3, t1
  lb    t4, \at+1(a0)
  lh    t5, \y+2(a2)
  mulw  t4, t4, t5
  addw  t3, t3, t4
.endm
.macro row r
  li    t3, 0
  .irp  j, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  products 8+8*\j+2*\r, 48+4*\j     # w0 … w15, ACT_Q16
  .endr
  lh    t4, 2*\r(a0)                # load_f16x4, this row's scale
  slliw t4, t4, 13
  and   t4, t4, s1
  fmv.w.x ft0, t4
  fmul.s ft0, ft0, fa7
  flw   ft1, 0(a2)                  # ACT_D
  fmul.s ft0, ft0, ft1              # scale
  fcvt.d.w ft2, t3                  # add_product
  fcvt.d.s ft3, ft0
  fmul.d ft2, ft2, ft3
  fcvt.d.s ft4, fs\r
  fadd.d ft2, ft4, ft2
  fcvt.s.d fs\r, ft2
.endm

block:
  row 0
  row 1
  row 2
  row 3
  addi  a2, a2, 112                 # ACT_BYTES
  addi  a0, a0, 136                 # block
  bltu  a0, a1, block
