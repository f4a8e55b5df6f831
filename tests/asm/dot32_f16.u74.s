# dot32 of activations in f32 and halves, 32 products (drivers/engine/simd/dot.ts), for SiFive U74, lane by lane: mul_mat_f16.
# a0 a, a1 b, a2 31, a3 i | s9 mask and fs0 scale of load_f16x4, sp the 32 sums.

.macro product i
  flw   ft0, 4*\i(a0)
  lh    t0, 2*\i(a1)
  slliw t0, t0, 13
  and   t0, t0, s9
  fmv.w.x ft1, t0
  fmul.s ft1, ft1, fs0
  flw   ft2, 4*\i(sp)
  fmadd.s ft2, ft0, ft1, ft2
  fsw   ft2, 4*\i(sp)
.endm

turn:
  .irp  i, 0, 4, 8, 12, 16, 20, 24, 28
  product \i
  product \i+1
  product \i+2
  product \i+3
  .endr
  addi  a0, a0, 128
  addi  a1, a1, 64
  addiw a3, a3, -32
  blt   a2, a3, turn
