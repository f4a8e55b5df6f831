// Training, backwards: which function executes an op that reverse-mode training is made of. Ops of forward mode and of parameter vectors follow
// in tangent.ts: both stay chains of tests, and what the ops of inference cost does not depend on either.

import { Op } from '../ops';
import { execute_tangent } from './tangent';
import { word } from './record';
import { float_mul_mat, float_mul_mat_back, outer } from './trainproducts';

/** As execute() in execute.ts, which asks here last. */
export function execute_training(step: usize, op: usize, n: i32, pos: i32, row: i32, to: i32): i32 {
  switch (word(op, 0)) {
    case Op.FLOAT_MUL_MAT:
      float_mul_mat(op, n);
      return 0;
    case Op.FLOAT_MUL_MAT_BACK:
      float_mul_mat_back(op, n);
      return 0;
    case Op.OUTER:
      outer(op, n);
      return 0;
    default:
      return execute_tangent(step, op, n, pos, row, to);
  }
}
