# weighted_sum of halves, four values of eight positions (drivers/engine/simd/dot.ts, two_lanes), for SiFive U74, lane by lane.
# a0 p, a6 v, a5 block table, a2 next in bytes, a3 left, a4 31 | s9 mask and fs0 scale of load_f16x4, sp the 32 sums.

.macro product i, lane
  lh    t0, 2*\lane(a1)
  slliw t0, t0, 13
  and   t0, t0, s9
  fmv.w.x ft1, t0
  fmul.s ft1, ft1, fs0
  fmul.s ft1, ft0, ft1
  flw   ft2, 16*\i+4*\lane(sp)
  fadd.s ft2, ft2, ft1
  fsw   ft2, 16*\i+4*\lane(sp)
.endm

turn:
  lw    a1, 0(a5)
  add   a1, a1, a6
  addi  a5, a5, 4
  .irp  i, 0, 1, 2, 3, 4, 5, 6, 7
  flw   ft0, 16*\i(a0)
  product \i, 0
  product \i, 1
  product \i, 2
  product \i, 3
  add   a1, a1, a2
  .endr
  addi  a0, a0, 128
  addiw a3, a3, -32
  blt   a4, a3, turn
