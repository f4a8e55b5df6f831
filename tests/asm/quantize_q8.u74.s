# quantize_q8, one block of 32 activations (drivers/engine/simd/blocks.ts), for SiFive U74, lane by lane, inner loops unrolled.
# a0 from, a1 act, a2 end | fa1 127, s2 … s10, a3 … a6 constants of round_f16x4 as bits, fs1 ½, fs2 2^112, s11 −128, a7 127.

.macro largest at                   # m = max(m, abs(x)); a finite x, so fmax's way with NaN does not matter
  flw   ft0, \at(a0)
  fabs.s ft0, ft0
  fmax.s fa0, fa0, ft0
.endm
.macro quantized at, byte, half     # round_even(x · inverse), narrowed with saturation, as byte, halfword and part of the sum
  flw   ft0, \at(a0)
  fmul.s ft0, ft0, fa3
  fcvt.w.s t0, ft0, rne
  slt   t1, t0, s11                 # below −128
  xor   t2, t0, s11
  neg   t1, t1
  and   t2, t2, t1
  xor   t0, t0, t2
  slt   t1, a7, t0                  # above 127
  xor   t2, t0, a7
  neg   t1, t1
  and   t2, t2, t1
  xor   t0, t0, t2
  sb    t0, \byte(a1)               # ACT_Q8, in the order 0 2 1 3
  sh    t0, \half(a1)               # ACT_Q16
  addw  t6, t6, t0
.endm
.macro four i
  quantized 16*\i, 16+4*\i, 48+8*\i
  quantized 16*\i+4, 18+4*\i, 50+8*\i
  quantized 16*\i+8, 17+4*\i, 52+8*\i
  quantized 16*\i+12, 19+4*\i, 54+8*\i
.endm
.macro round_f16 from, to           # one lane of round_f16x4
  fmv.x.w t0, \from
  and   t1, t0, s2                  # a: no sign
  srliw t2, t1, 13
  andi  t2, t2, 1                   # odd
  subw  t3, t1, s3                  # 112 << 23
  addw  t3, t3, s4                  # 0xfff
  addw  t3, t3, t2
  srliw t3, t3, 13                  # normal
  fmv.w.x ft0, t1
  fadd.s ft0, ft0, fs1
  fmv.x.w t4, ft0
  subw  t4, t4, s5                  # subnormal
  slt   t5, t1, s6
  neg   t5, t5
  xor   t4, t4, t3
  and   t4, t4, t5
  xor   t3, t3, t4
  slt   t5, s7, t1                  # infinity
  neg   t5, t5
  xor   t4, s8, t3
  and   t4, t4, t5
  xor   t3, t3, t4
  slt   t5, s10, t1                 # NaN
  neg   t5, t5
  xor   t4, a5, t3
  and   t4, t4, t5
  xor   t3, t3, t4
  srliw t4, t0, 16                  # sign
  and   t4, t4, s9
  and   t1, t3, a6                  # magnitude
  slliw t1, t1, 13
  fmv.w.x ft0, t1
  fmul.s ft0, ft0, fs2
  fmv.x.w t2, ft0
  addw  t1, t1, a3                  # infinity, NaN
  slt   t5, a4, t3
  neg   t5, t5
  xor   t1, t1, t2
  and   t1, t1, t5
  xor   t2, t2, t1
  slliw t4, t4, 16
  or    t2, t2, t4
  fmv.w.x \to, t2
.endm

block:
  fmv.w.x fa0, zero
  .irp  i, 0, 1, 2, 3, 4, 5, 6, 7
  largest 16*\i
  largest 16*\i+4
  largest 16*\i+8
  largest 16*\i+12
  .endr
  fdiv.s fa2, fa0, fa1              # d
  fdiv.s fa3, fa1, fa0              # inverse
  fmv.w.x ft0, zero
  feq.s t0, fa0, ft0
  beqz  t0, some
  fmv.s fa3, ft0
some:
  li    t6, 0                       # sum
  .irp  i, 0, 1, 2, 3, 4, 5, 6, 7
  four  \i
  .endr
  fcvt.s.w fa4, t6
  fmul.s fa4, fa4, fa2
  slliw t0, t6, 3
  negw  t0, t0
  sw    t0, 4(a1)                   # ACT_BIAS
  round_f16 fa2, ft2
  round_f16 fa4, ft3
  round_f16 fa2, ft4
  round_f16 fa2, ft5
  fsw   ft2, 0(a1)                  # ACT_D
  fsw   ft3, 8(a1)                  # ACT_S
  sw    zero, 12(a1)
  addi  a0, a0, 128
  addi  a1, a1, 112                 # ACT_BYTES
  bltu  a1, a2, block
