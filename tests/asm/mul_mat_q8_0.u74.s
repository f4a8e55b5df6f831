# mul_mat_q8_0, one block of four interleaved rows times one token (drivers/engine/simd/matmul.ts), for SiFive U74, lane by lane.
# a0 act, a1 weights, a2 end | s9 mask and fs0 scale of load_f16x4, fa0 … fa3 scales, sp the eight sums of four lanes.

.macro scale r
  lh    a3, 2*\r(a1)
  slliw a3, a3, 13
  and   a3, a3, s9
  fmv.w.x fa\r, a3
  fmul.s fa\r, fa\r, fs0
  fmul.s fa\r, fa\r, fa4
.endm
.macro lane j, r                    # four values of one row
  lb    a3, 8+16*\j+2*\r(a1)
  lb    a4, 9+16*\j+2*\r(a1)
  lb    a5, 16+16*\j+2*\r(a1)
  lb    a6, 17+16*\j+2*\r(a1)
  mulw  a3, a3, t0
  mulw  a4, a4, t1
  mulw  a5, a5, t2
  mulw  a6, a6, t3
  addw  a3, a3, a4
  addw  a5, a5, a6
  addw  a3, a3, a5
  fcvt.s.w ft0, a3
  flw   ft1, 16*\j+4*\r(sp)
  fmadd.s ft1, ft0, fa\r, ft1
  fsw   ft1, 16*\j+4*\r(sp)
.endm
.macro quad j
  lh    t0, 48+8*\j(a0)             # ACT_Q16
  lh    t1, 50+8*\j(a0)
  lh    t2, 52+8*\j(a0)
  lh    t3, 54+8*\j(a0)
  lane  \j, 0
  lane  \j, 1
  lane  \j, 2
  lane  \j, 3
.endm

block:
  flw   fa4, 0(a0)                  # ACT_D
  scale 0
  scale 1
  scale 2
  scale 3
  .irp  j, 0, 1, 2, 3, 4, 5, 6, 7
  quad  \j
  .endr
  addi  a0, a0, 112                 # ACT_BYTES
  addi  a1, a1, 136                 # GROUP · Q8_0_BYTES
  bltu  a1, a2, block
