# dot32 of f32, 32 fused products (drivers/engine/simd/dot.ts), for SiFive U74, lane by lane: mul_mat_f32 and the scores of attention over an
# F32 cache. a0 a, a1 b, a2 31, a3 i | sp the 32 sums.

.macro product i
  flw   ft0, 4*\i(a0)
  flw   ft1, 4*\i(a1)
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
  addi  a1, a1, 128
  addiw a3, a3, -32
  blt   a2, a3, turn
