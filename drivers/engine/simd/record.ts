// How kernels read what they are given: the words of an op's record, and of a step's rows and picks. No bounds are checked here: the engine that
// wrote the records vouches for them.

import { PICK_BYTES, ROW_BYTES, STEP_PICKS_AT, STEP_ROWS_AT } from '../ops';

@inline
export function word(op: usize, index: i32): i32 {
  return load<i32>(op + (index << 2));
}

/** The record of row `row` of the pass. */
@inline
export function row_at(step: usize, row: i32): usize {
  return load<i32>(step, STEP_ROWS_AT) + row * ROW_BYTES;
}

/** Pick `i` of the pass. */
@inline
export function pick_at(step: usize, i: i32): usize {
  return load<i32>(step, STEP_PICKS_AT) + i * PICK_BYTES;
}

/** Whether position `pos` is one of those that a record is for: from ≤ pos < until, where 0 is no end. */
@inline
export function is_for(op: usize, from: i32, until: i32, pos: i32): bool {
  if (pos < word(op, from)) return false;
  const end = word(op, until);
  if (end == 0) return true;
  return pos < end;
}
