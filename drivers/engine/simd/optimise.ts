// What changes parameters by their gradients: one step of AdamW (Loshchilov and Hutter 2019) or of gradient descent with momentum, over vectors of
// f32, as torch.optim has them; decay is decoupled in both. A gradient is first clipped (TrainBlock.times), then the anchor's is added,
// 2 λ (θ − θ0). And the sums of squares that clipping and the distance from the anchor are told by, in f64.

import {
  Squares, TRAIN_ANCHOR, TRAIN_BETA1, TRAIN_BETA2, TRAIN_CORRECTION1, TRAIN_CORRECTION2, TRAIN_DECAY, TRAIN_EPSILON, TRAIN_RATE, TRAIN_TIMES, Update,
} from '../ops';
import { word } from './record';
import { madd, put, take } from './vectors';

// ── Sums of squares ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** (x − y)², exact until it is added; without an anchor x². */
@inline
function square(x: usize, y: usize): f64 {
  const d = <f64>load<f32>(x) - (y != 0 ? <f64>load<f32>(y) : 0);
  return d * d;
}

/** SQUARES: four sums, added in pairs two apart, then the last n % 4 in order. */
export function squares(op: usize): void {
  let x: usize = word(op, Squares.srcAt);
  let y: usize = word(op, Squares.anchorAt);
  const to: usize = word(op, Squares.blockAt) + word(op, Squares.sumAt);
  const step: usize = y != 0 ? 4 : 0;
  let n = word(op, Squares.n);
  let a: f64 = 0;
  let b: f64 = 0;
  let c: f64 = 0;
  let d: f64 = 0;
  for (; n >= 4; n -= 4) {
    a += square(x, y);
    b += square(x + 4, y + step);
    c += square(x + 8, y + 2 * step);
    d += square(x + 12, y + 3 * step);
    x += 16;
    y += 4 * step;
  }
  let sum = a + c + (b + d);
  for (; n > 0; n--) {
    sum += square(x, y);
    x += 4;
    y += step;
  }
  store<f64>(to, load<f64>(to) + sum);
}

// ── Steps ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

@inline
function figure(block: usize, at: i32): v128 {
  return v128.load32_splat(block + at);
}

/** 1 − rate · decay: what decay leaves of a parameter. */
@inline
function kept_of(block: usize): v128 {
  return f32x4.sub(f32x4.splat(1), f32x4.mul(figure(block, TRAIN_RATE), figure(block, TRAIN_DECAY)));
}

/** The gradient that a step takes: `times` that of the loss, and the anchor's; `pull`: 2 λ. */
@inline
function gradient(grad: usize, theta: usize, anchor: usize, times: v128, pull: v128, four: bool): v128 {
  const g = f32x4.mul(take(grad, four), times);
  return anchor != 0 ? madd(g, pull, f32x4.sub(take(theta, four), take(anchor, four))) : g;
}

/** θ · kept − rate · direction; `before` then holds what θ was. */
@inline
function move(theta: usize, before: usize, kept: v128, rate: v128, direction: v128, four: bool): void {
  const x = take(theta, four);
  put(before, x, four);
  put(theta, f32x4.sub(f32x4.mul(x, kept), f32x4.mul(rate, direction)), four);
}

/** moment · β + g · share, stored. */
@inline
function follow(moment: usize, beta: v128, g: v128, share: v128, four: bool): v128 {
  const v = madd(f32x4.mul(take(moment, four), beta), g, share);
  put(moment, v, four);
  return v;
}

/** first / (√(second / correction) + ε); `root`: 1 / √correction. */
@inline
function adam_direction(first: v128, second: v128, root: v128, epsilon: v128): v128 {
  return f32x4.div(first, f32x4.add(f32x4.mul(f32x4.sqrt(second), root), epsilon));
}

/** ADAM. */
export function adam(op: usize): void {
  const block: usize = word(op, Update.blockAt);
  const one = f32x4.splat(1);
  const times = figure(block, TRAIN_TIMES);
  const pull = f32x4.mul(f32x4.splat(2), figure(block, TRAIN_ANCHOR));
  const kept = kept_of(block);
  const beta1 = figure(block, TRAIN_BETA1);
  const share1 = f32x4.sub(one, beta1);
  const beta2 = figure(block, TRAIN_BETA2);
  const share2 = f32x4.sub(one, beta2);
  const rate = f32x4.div(figure(block, TRAIN_RATE), figure(block, TRAIN_CORRECTION1));
  const root = f32x4.div(one, f32x4.sqrt(figure(block, TRAIN_CORRECTION2)));
  const epsilon = figure(block, TRAIN_EPSILON);
  let theta: usize = word(op, Update.dstAt);
  let grad: usize = word(op, Update.gradAt);
  let first: usize = word(op, Update.firstAt);
  let second: usize = word(op, Update.secondAt);
  let anchor: usize = word(op, Update.anchorAt);
  let n = word(op, Update.n);
  for (; n >= 4; n -= 4) {
    const g = gradient(grad, theta, anchor, times, pull, true);
    const m = follow(first, beta1, g, share1, true);
    const v = follow(second, beta2, f32x4.mul(g, g), share2, true);
    move(theta, grad, kept, rate, adam_direction(m, v, root, epsilon), true);
    theta += 16;
    grad += 16;
    first += 16;
    second += 16;
    if (anchor != 0) anchor += 16;
  }
  for (; n > 0; n--) {
    const g = gradient(grad, theta, anchor, times, pull, false);
    const m = follow(first, beta1, g, share1, false);
    const v = follow(second, beta2, f32x4.mul(g, g), share2, false);
    move(theta, grad, kept, rate, adam_direction(m, v, root, epsilon), false);
    theta += 4;
    grad += 4;
    first += 4;
    second += 4;
    if (anchor != 0) anchor += 4;
  }
}

/** SGD: TrainBlock.beta1 is the momentum. */
export function sgd(op: usize): void {
  const block: usize = word(op, Update.blockAt);
  const one = f32x4.splat(1);
  const times = figure(block, TRAIN_TIMES);
  const pull = f32x4.mul(f32x4.splat(2), figure(block, TRAIN_ANCHOR));
  const kept = kept_of(block);
  const momentum = figure(block, TRAIN_BETA1);
  const rate = figure(block, TRAIN_RATE);
  let theta: usize = word(op, Update.dstAt);
  let grad: usize = word(op, Update.gradAt);
  let first: usize = word(op, Update.firstAt);
  let anchor: usize = word(op, Update.anchorAt);
  let n = word(op, Update.n);
  for (; n >= 4; n -= 4) {
    let g = gradient(grad, theta, anchor, times, pull, true);
    if (first != 0) {
      g = follow(first, momentum, g, one, true);
      first += 16;
    }
    move(theta, grad, kept, rate, g, true);
    theta += 16;
    grad += 16;
    if (anchor != 0) anchor += 16;
  }
  for (; n > 0; n--) {
    let g = gradient(grad, theta, anchor, times, pull, false);
    if (first != 0) {
      g = follow(first, momentum, g, one, false);
      first += 4;
    }
    move(theta, grad, kept, rate, g, false);
    theta += 4;
    grad += 4;
    if (anchor != 0) anchor += 4;
  }
}
