# weighted_sum of halves, sixteen values of a position (drivers/engine/simd/dot.ts, sixteen_sums), for SiFive U74, lane by lane.
# a0 p, a6 v, a5 block table, a3 its end | s9 mask of small4, sp the sixteen sums.

.macro product i
  lh    t0, 2*\i(a1)
  slliw t0, t0, 13
  and   t0, t0, s9
  fmv.w.x ft1, t0
  flw   ft2, 4*\i(sp)
  fmadd.s ft2, ft0, ft1, ft2
  fsw   ft2, 4*\i(sp)
.endm

turn:
  lw    a1, 0(a5)
  add   a1, a1, a6
  addi  a5, a5, 4
  flw   ft0, 0(a0)
  .irp  i, 0, 4, 8, 12
  product \i
  product \i+1
  product \i+2
  product \i+3
  .endr
  addi  a0, a0, 128
  bltu  a5, a3, turn
