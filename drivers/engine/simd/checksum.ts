// The running checksum over logits: every row that a token was drawn from, or a loss taken of, goes into sixteen bytes of its session, so that
// two runs that agree in them computed the same numbers, and not only the same tokens. The arithmetic is the main loop of XXH32 (Yann Collet):
// four lanes of 32 bits, each of its own values, multiply, add, rotate, multiply. Integers only, so every engine has the same bits. The lanes
// are never folded into one, and go on from row to row. It finds what went wrong by chance; against forgery the record's signature stands.

import { STEP_LOGITS_AT, STEP_LOGITS_SUM, STEP_VOCABULARY } from '../ops';

// XXH32's first and second prime.
const PRIME_1: i32 = 0x9e3779b1;
const PRIME_2: i32 = 0x85ebca77;

/** The four lanes after the 16 bytes at `p`. */
@inline
function after(lanes: v128, p: usize): v128 {
  const sum = i32x4.add(lanes, i32x4.mul(v128.load(p), i32x4.splat(PRIME_2)));
  return i32x4.mul(v128.or(i32x4.shl(sum, 13), i32x4.shr_u(sum, 19)), i32x4.splat(PRIME_1));
}

/** Logits of the step → StepBlock.logits0 … 3, which go on. What fills the row's last 16 bytes up counts as zeros. Logits are left as they are. */
export function logits_sum(step: usize): void {
  const at: usize = load<i32>(step, STEP_LOGITS_AT);
  const n = load<i32>(step, STEP_VOCABULARY);
  const whole = (n + 3) & ~3;
  for (let i = n; i < whole; i++) store<i32>(at + (i << 2), 0);
  let lanes = v128.load(step, STEP_LOGITS_SUM);
  for (let i = 0; i < whole; i += 4) lanes = after(lanes, at + (i << 2));
  v128.store(step, lanes, STEP_LOGITS_SUM);
}
