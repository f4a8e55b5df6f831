// The loss of training and its gradient, pick by pick: −ln p of the token that follows. A row's position need not have one (NO_TARGET: prompts are
// masked): then the same instructions run, and nothing is added. Exponentials in f32, their sum and its logarithm in f64.

import { CrossEntropy, FAULT_BAD_OP, NO_TARGET, TRAIN_COUNT, TRAIN_LOSS, TRAIN_WEIGHT } from '../ops';
import { exp_of, ln64, upper } from './math';
import { word } from './record';

/** The largest of f32[n]; NaN when one is. */
@inline
export function maximum(x: usize, n: i32): f32 {
  let m = f32x4.splat(-Infinity);
  let i = 0;
  for (; i + 4 <= n; i += 4) m = f32x4.max(m, v128.load(x + (i << 2)));
  for (; i < n; i++) m = f32x4.max(m, v128.load32_splat(x + (i << 2)));
  m = f32x4.max(m, upper(m));
  return max<f32>(f32x4.extract_lane(m, 0), f32x4.extract_lane(m, 1));
}

/** Σ e^(x − top), of lanes in pairs, then the last n % 4. */
@inline
export function sum_exp(x: usize, n: i32, top: f32): f64 {
  const m = f32x4.splat(top);
  let sums = f64x2.splat(0);
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const e = exp_of(f32x4.sub(v128.load(x + (i << 2)), m));
    sums = f64x2.add(sums, f64x2.add(f64x2.promote_low_f32x4(e), f64x2.promote_low_f32x4(upper(e))));
  }
  let sum = f64x2.extract_lane(sums, 0) + f64x2.extract_lane(sums, 1);
  for (; i < n; i++) sum += <f64>f32x4.extract_lane(exp_of(f32x4.sub(v128.load32_splat(x + (i << 2)), m)), 0);
  return sum;
}

/** x[n] → e^(x − top) · scale. */
@inline
function probabilities(x: usize, n: i32, top: f32, scale: f32): void {
  const m = f32x4.splat(top);
  const s = f32x4.splat(scale);
  let i = 0;
  for (; i + 4 <= n; i += 4) v128.store(x + (i << 2), f32x4.mul(exp_of(f32x4.sub(v128.load(x + (i << 2)), m)), s));
  for (; i < n; i++) v128.store32_lane(x + (i << 2), f32x4.mul(exp_of(f32x4.sub(v128.load32_splat(x + (i << 2)), m)), s), 0);
}

/** What follows row `row`. By way of a vector: a word would be one that certificates let costs depend on, and bound. */
@inline
export function target_of(op: usize, row: i32): u32 {
  return <u32>i32x4.extract_lane(v128.load32_zero(word(op, CrossEntropy.targetsAt) + (row << 2)), 0);
}

/**
 * CROSS_ENTROPY and CROSS_ENTROPY_BACK for pick `to`, row `row` of the pass: TrainBlock.loss and .count, and with `back` the logits become their
 * gradient times TrainBlock.weight. A target that no logit has is a fault, and counts for nothing.
 */
export function cross_entropy(op: usize, row: i32, to: i32, back: bool): i32 {
  const n = word(op, CrossEntropy.n);
  const x: usize = word(op, CrossEntropy.at) + ((to * word(op, CrossEntropy.stride)) << 2);
  const block: usize = word(op, CrossEntropy.blockAt);
  const target = target_of(op, row);
  const counts = target < <u32>n;
  const at = x + (select<u32>(target, 0, counts) << 2);
  const top = maximum(x, n);
  const sum = sum_exp(x, n, top);
  // ln64 asks for a number: of a sum that is none the difference is NaN.
  const loss = ln64(sum) + (sum - sum) + (<f64>top - <f64>load<f32>(at));
  store<f64>(block, load<f64>(block, TRAIN_LOSS) + select<f64>(loss, 0, counts), TRAIN_LOSS);
  store<u32>(block, load<u32>(block, TRAIN_COUNT) + select<u32>(1, 0, counts), TRAIN_COUNT);
  if (back) {
    const weight = select<f32>(load<f32>(block, TRAIN_WEIGHT), 0, counts);
    probabilities(x, n, top, <f32>(<f64>weight / sum));
    store<f32>(at, load<f32>(at) - weight);
  }
  return select<i32>(0, FAULT_BAD_OP, counts | (target == NO_TARGET));
}
