// Training, forwards, and what changes parameters: which function executes an op of forward mode, of low-rank pairs, of optimizers and normals.

import { FAULT_BAD_OP, Op } from '../ops';
import { lora_row } from './lora';
import { word } from './record';

/** As execute() in execute.ts; an op that nobody knows is a fault. */
export function execute_tangent(step: usize, op: usize, n: i32, pos: i32, row: i32, to: i32): i32 {
  switch (word(op, 0)) {
    case Op.LORA:
      lora_row(step, op, row);
      return 0;
    default:
      return FAULT_BAD_OP;
  }
}
