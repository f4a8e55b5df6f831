# soft_max, the exponentials of eight scores and their sum (drivers/engine/simd/attention.ts), for SiFive U74, lane by lane; the last, shorter
# turn is not here. a0 scores, a4 end | fs0 sum, fs1 the largest score, fa0 … fa7, ft8 … ft10 the constants of exp4, ft11 0.

.macro exp1 at, to
  flw   ft0, \at(a0)
  fsub.s ft0, ft0, fs1
  flt.s t0, ft0, fa0                # tiny
  fmv.s ft1, ft0
  beqz  t0, above\@
  fmv.s ft1, fa0                    # pmax
above\@:
  flt.s t1, fa1, ft1
  beqz  t1, below\@
  fmv.s ft1, fa1                    # pmin
below\@:
  fmadd.s ft2, ft1, fa2, fa3
  fsub.s ft2, ft2, fa3              # n
  fmadd.s ft1, ft2, fa4, ft1
  fmadd.s ft1, ft2, fa5, ft1        # b
  fmul.s ft3, ft1, ft1
  fcvt.w.s t1, ft2, rtz
  feq.s t2, ft2, ft2                # 0 for NaN
  neg   t2, t2
  and   t1, t1, t2
  addiw t1, t1, 127
  slliw t1, t1, 23
  fmv.w.x ft4, t1                   # 2^n
  fmadd.s ft5, ft1, fa6, fa7
  fmadd.s ft6, ft1, ft8, ft9
  fmadd.s ft6, ft5, ft3, ft6
  fmul.s ft5, ft1, ft10
  fmadd.s ft5, ft6, ft3, ft5        # p
  fmadd.s \to, ft4, ft5, ft4
  beqz  t0, kept\@
  fmv.s \to, ft11
kept\@:
.endm

turn:
  addi  a5, a0, 16
  bltu  a4, a5, rest
  exp1  0, fs2
  exp1  4, fs3
  exp1  8, fs4
  exp1  12, fs5
  addi  a5, a0, 32
  bltu  a4, a5, rest
  exp1  16, fs6
  exp1  20, fs7
  exp1  24, fs8
  exp1  28, fs9
  addi  a5, a0, 16
  bltu  a4, a5, rest
  fsw   fs2, 0(a0)
  fsw   fs3, 4(a0)
  fsw   fs4, 8(a0)
  fsw   fs5, 12(a0)
  addi  a5, a0, 32
  bltu  a4, a5, rest
  fsw   fs6, 16(a0)
  fsw   fs7, 20(a0)
  fsw   fs8, 24(a0)
  fsw   fs9, 28(a0)
  fadd.s fs2, fs2, fs6
  fadd.s fs3, fs3, fs7
  fadd.s fs4, fs4, fs8
  fadd.s fs5, fs5, fs9
  fadd.s fs2, fs2, fs4
  fadd.s fs3, fs3, fs5
  fadd.s fs2, fs2, fs3
  fcvt.d.s ft0, fs2
  fadd.d fs0, fs0, ft0
  addi  a0, a0, 32
  bltu  a0, a4, turn
rest:
