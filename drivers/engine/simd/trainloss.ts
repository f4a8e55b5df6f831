// The loss of training, its gradient and its slope, pick by pick: −ln p of the token that follows. A row's position need not have one (NO_TARGET: prompts are
// masked): then the same instructions run, and nothing is added. Exponentials in f32, their sum and its logarithm in f64.

import { CrossEntropy, FAULT_BAD_OP, NO_TARGET, Op, TRAIN_COUNT, TRAIN_LOSS, TRAIN_SLOPE, TRAIN_WEIGHT } from '../ops';
import { exp_of, ln64, upper } from './math';
import { word } from './record';

/** The largest of f32[n]; NaN when one is. */
@inline
function maximum(x: usize, n: i32): f32 {
  let m = f32x4.splat(-Infinity);
  let i = 0;
  for (; i + 4 <= n; i += 4) m = f32x4.max(m, v128.load(x + (i << 2)));
  for (; i < n; i++) m = f32x4.max(m, v128.load32_splat(x + (i << 2)));
  m = f32x4.max(m, upper(m));
  return max<f32>(f32x4.extract_lane(m, 0), f32x4.extract_lane(m, 1));
}

/** Σ e^(x − top), of lanes in pairs, then the last n % 4. */
@inline
function sum_exp(x: usize, n: i32, top: f32): f64 {
  const m = f32x4.splat(top);
  let even: f64 = 0;
  let odd: f64 = 0;
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const e = exp_of(f32x4.sub(v128.load(x + (i << 2)), m));
    even += <f64>f32x4.extract_lane(e, 0) + <f64>f32x4.extract_lane(e, 2);
    odd += <f64>f32x4.extract_lane(e, 1) + <f64>f32x4.extract_lane(e, 3);
  }
  let sum = even + odd;
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

/** Σ e^(x − top) · dx, added as sum_exp does. */
@inline
function sum_slopes(x: usize, dx: usize, n: i32, top: f32): f64 {
  const m = f32x4.splat(top);
  let even: f64 = 0;
  let odd: f64 = 0;
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const v = f32x4.mul(exp_of(f32x4.sub(v128.load(x + (i << 2)), m)), v128.load(dx + (i << 2)));
    even += <f64>f32x4.extract_lane(v, 0) + <f64>f32x4.extract_lane(v, 2);
    odd += <f64>f32x4.extract_lane(v, 1) + <f64>f32x4.extract_lane(v, 3);
  }
  let sum = even + odd;
  for (; i < n; i++) {
    const v = f32x4.mul(exp_of(f32x4.sub(v128.load32_splat(x + (i << 2)), m)), v128.load32_splat(dx + (i << 2)));
    sum += <f64>f32x4.extract_lane(v, 0);
  }
  return sum;
}

/**
 * CROSS_ENTROPY for pick `to`, row `row` of the pass: TrainBlock.loss and .count. Of CROSS_ENTROPY_BACK the logits become their gradient times
 * TrainBlock.weight; of CROSS_ENTROPY_JVP its product with their tangent is added to TrainBlock.slope. A target that no logit has is a fault, and
 * counts for nothing.
 */
export function cross_entropy(op: usize, row: i32, to: i32): i32 {
  const code = word(op, 0); // before anything is stored where data say
  const n = word(op, CrossEntropy.n);
  const first: usize = (to * word(op, CrossEntropy.stride)) << 2;
  const x: usize = word(op, CrossEntropy.at) + first;
  const block: usize = word(op, CrossEntropy.blockAt);
  // By way of a vector: a word would be one that certificates let costs depend on, and bound.
  const target = <u32>i32x4.extract_lane(v128.load32_splat(word(op, CrossEntropy.targetsAt) + (row << 2)), 0);
  const counts = target < <u32>n;
  const chosen: usize = select<u32>(target, 0, counts) << 2;
  const top = maximum(x, n);
  const sum = sum_exp(x, n, top);
  // ln64 asks for a number: of a sum that is none the difference is NaN.
  const loss = ln64(sum) + (sum - sum) + (<f64>top - <f64>load<f32>(x + chosen));
  const weight = select<f32>(load<f32>(block, TRAIN_WEIGHT), 0, counts);
  store<f64>(block, load<f64>(block, TRAIN_LOSS) + select<f64>(loss, 0, counts), TRAIN_LOSS);
  store<u32>(block, load<u32>(block, TRAIN_COUNT) + select<u32>(1, 0, counts), TRAIN_COUNT);
  if (code == Op.CROSS_ENTROPY_BACK) {
    probabilities(x, n, top, <f32>(<f64>weight / sum));
    store<f32>(x + chosen, load<f32>(x + chosen) - weight);
  }
  if (code == Op.CROSS_ENTROPY_JVP) {
    const dx: usize = word(op, CrossEntropy.tangentAt) + first;
    const slope = <f64>weight * (sum_slopes(x, dx, n, top) / sum - <f64>load<f32>(dx + chosen));
    store<f64>(block, load<f64>(block, TRAIN_SLOPE) + select<f64>(slope, 0, counts), TRAIN_SLOPE);
  }
  return select<i32>(0, FAULT_BAD_OP, counts | (target == NO_TARGET));
}
