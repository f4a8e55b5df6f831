# soft_max, e^(x − max) of twice four scores (drivers/engine/simd/attention.ts, exp4 in math.ts), for SiFive U74, lane by lane.
# a0 x, a1 end | fa0 … fa3 sum of lanes, fa4 largest, fs0 … fs11, fa5, fa6 exp4's constants in the order of their use.

.macro lane at, sum
  flw   ft0, \at(a0)
  fsub.s ft0, ft0, fa4
  flt.s t0, ft0, fs0                # tiny
  fmax.s ft0, ft0, fs0              # scores are finite: no NaN to keep
  fmin.s ft0, ft0, fs1              # r
  fmul.s ft1, ft0, fs2
  fcvt.w.s t1, ft1, rne             # n, as integer and as float
  fcvt.s.w ft1, t1
  fmul.s ft2, ft1, fs3
  fsub.s ft0, ft0, ft2
  fmul.s ft2, ft1, fs4
  fsub.s ft0, ft0, ft2
  fmul.s ft3, fs5, ft0              # p: five steps of Horner's rule
  fadd.s ft3, ft3, fs6
  fmul.s ft3, ft3, ft0
  fadd.s ft3, ft3, fs7
  fmul.s ft3, ft3, ft0
  fadd.s ft3, ft3, fs8
  fmul.s ft3, ft3, ft0
  fadd.s ft3, ft3, fs9
  fmul.s ft3, ft3, ft0
  fadd.s ft3, ft3, fs10
  fmul.s ft2, ft0, ft0
  fmul.s ft3, ft3, ft2
  fadd.s ft3, ft3, ft0
  fadd.s ft3, ft3, fs11
  addiw t1, t1, 127                 # power
  slliw t1, t1, 23
  fmv.w.x ft1, t1
  fmul.s ft3, ft3, ft1
  addi  t0, t0, -1                  # andnot tiny
  fmv.x.w t1, ft3
  and   t1, t1, t0
  sw    t1, \at(a0)
  fmv.w.x ft3, t1
  fadd.s \sum, \sum, ft3
.endm

step:
.rept 2
  lane  0, fa0
  lane  4, fa1
  lane  8, fa2
  lane  12, fa3
  addi  a0, a0, 16
.endr
  bltu  a0, a1, step
