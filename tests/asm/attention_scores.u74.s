# attention_scores over an F16 cache, four values of four positions (drivers/engine/simd/attention.ts: the innermost loop), for SiFive U74.
# a0 q, a1 … a4 keys of four positions, a5 end of q | fs0 … fs11, fa0 … fa3 sums a … d, fa7 bias, s1 mask.

.macro product at, key, q, sum      # one lane: sum += v · load_f16(k)
  lh    t0, \at(\key)
  slliw t0, t0, 13
  and   t0, t0, s1
  fmv.w.x ft8, t0
  fmul.s ft8, ft8, fa7
  fmul.s ft8, \q, ft8
  fadd.s \sum, \sum, ft8
.endm
.macro position key, s0, s1, s2, s3
  product 0, \key, ft0, \s0
  product 2, \key, ft1, \s1
  product 4, \key, ft2, \s2
  product 6, \key, ft3, \s3
  addi  \key, \key, 8
.endm

step:
  flw   ft0, 0(a0)                  # v
  flw   ft1, 4(a0)
  flw   ft2, 8(a0)
  flw   ft3, 12(a0)
  position a1, fs0, fs1, fs2, fs3
  position a2, fs4, fs5, fs6, fs7
  position a3, fs8, fs9, fs10, fs11
  position a4, fa0, fa1, fa2, fa3
  addi  a0, a0, 16
  bltu  a0, a5, step
