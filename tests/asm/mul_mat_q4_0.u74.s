# mul_mat_q4_0, one block of four rows times one token (drivers/engine/simd/matmul.ts: the loop over p with one sum), for SiFive U74: lanes
# are rows, one after the other; a row has four bytes of each 16-byte vector, two halfwords of the vector's part_a … part_d.
# a0 p, a1 end, a2 y0 | fs0 … fs3 sum, fa7 halfBias, s1 halfMask.

.macro product shift, at            # isum += nibble · q
  srli  t1, t0, \shift
  andi  t1, t1, 15
  lh    t2, \at(a2)
  mulw  t1, t1, t2
  addw  t3, t3, t1
.endm
.macro vector at, low, high         # lane of the q at p + at: y0 or y1 from `low` on, y2 or y3 from `high` on
  lw    t0, \at(a0)
  product 0, \low                   # part_a: low nibbles of even bytes
  product 16, \low+2
  product 8, \low+4                 # part_b: low nibbles of odd bytes
  product 24, \low+6
  product 4, \high                  # part_c: high nibbles of even bytes
  product 20, \high+2
  product 12, \high+4               # part_d: high nibbles of odd bytes
  product 28, \high+6
.endm
.macro row r
  lw    t3, 4(a2)                   # ACT_BIAS
  vector 8+4*\r, 48, 80             # q0
  vector 24+4*\r, 56, 88            # q1
  vector 40+4*\r, 64, 96            # q2
  vector 56+4*\r, 72, 104           # q3
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
  addi  a0, a0, 72                  # block
  bltu  a0, a1, block
