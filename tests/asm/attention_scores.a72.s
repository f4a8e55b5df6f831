// attention_scores over an F16 cache, four values of four positions (drivers/engine/simd/attention.ts: the innermost loop), for Cortex-A72.
// x0 q, x1 … x4 keys of four positions, x5 end of q | v0 … v3 sums a … d, v29 bias, v30 mask.

.macro key at, sum                  // sum += v · load_f16x4(k)
  ldr    d16, [x\at], #8
  sshll  v16.4s, v16.4h, #13
  and    v16.16b, v16.16b, v30.16b
  fmul   v16.4s, v16.4s, v29.4s
  fmul   v16.4s, v4.4s, v16.4s
  fadd   v\sum\().4s, v\sum\().4s, v16.4s
.endm

step:
  ldr    q4, [x0], #16              // v
  key    1, 0
  key    2, 1
  key    3, 2
  key    4, 3
  cmp    x0, x5
  b.lo   step
