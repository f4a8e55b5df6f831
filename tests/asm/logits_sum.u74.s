# logits_sum, four values (drivers/engine/simd/checksum.ts), for SiFive U74, lane by lane.
# a0 logits, a1 i, a2 end, a3 PRIME_2, a4 PRIME_1 | s2 to s5 the lanes.

.macro value at, lane
  lw    t1, \at(t0)
  mulw  t1, t1, a3
  addw  \lane, \lane, t1
  slliw t1, \lane, 13
  srliw \lane, \lane, 19
  or    \lane, \lane, t1
  mulw  \lane, \lane, a4
.endm

turn:
  slli  t0, a1, 2
  add   t0, a0, t0
  value 0, s2
  value 4, s3
  value 8, s4
  value 12, s5
  addiw a1, a1, 4
  blt   a1, a2, turn
