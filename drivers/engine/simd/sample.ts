// Choosing the next token, and the loss of a given one. Order as the specification has it: repetition penalty, temperature, top-k, top-p,
// min-p, draw. Nothing is sorted and no memory is used beside the logits, which are consumed: a cut-off is found by bisection over the bits
// of the values, between which counts or sums are taken in order of ids. So results do not depend on anything but the operands' bits.
//
// With top-k or top-p in force the distribution is drawn from in descending order of probability, ties by lower id. With both off it is
// drawn from in order of ids, over the whole vocabulary: the same distribution, other tokens for the same draws.

import {
  SAMPLER_MIN_P, SAMPLER_REPEAT_PENALTY, SAMPLER_TEMP, SAMPLER_TOP_K, SAMPLER_TOP_P, STEP_DRAW, STEP_HISTORY_AT, STEP_HISTORY_LENGTH, STEP_LOGITS_AT,
  STEP_LOSS, STEP_NEXT, STEP_SAMPLER_AT, STEP_TARGET, STEP_VOCABULARY,
} from '../ops';
import { exp4, exp64, ln64 } from './math';

// ── Passes over f32[n] ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The largest value that is not above `bound`. */
function maximumBelow(at: usize, n: i32, bound: f32): f32 {
  const bounds = f32x4.splat(bound);
  const none = f32x4.splat(-Infinity);
  let m4 = none;
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const x = v128.load(at + (i << 2));
    m4 = f32x4.pmax(m4, v128.bitselect(x, none, f32x4.le(x, bounds)));
  }
  let m = max(max(f32x4.extract_lane(m4, 0), f32x4.extract_lane(m4, 1)), max(f32x4.extract_lane(m4, 2), f32x4.extract_lane(m4, 3)));
  for (; i < n; i++) {
    const x = load<f32>(at + (i << 2));
    if (x <= bound) m = max(m, x);
  }
  return m;
}

/** The lowest index from `from` on that holds `x`; n when none does. */
function indexOf(at: usize, n: i32, x: f32, from: i32): i32 {
  let i = from;
  for (; i + 4 <= n; i += 4) if (v128.any_true(f32x4.eq(v128.load(at + (i << 2)), f32x4.splat(x)))) break;
  while (i < n && load<f32>(at + (i << 2)) != x) i++;
  return i;
}

/** How many values are above `bound`. */
function countAbove(at: usize, n: i32, bound: f32): i32 {
  const bounds = f32x4.splat(bound);
  let c4 = i32x4.splat(0);
  let i = 0;
  for (; i + 4 <= n; i += 4) c4 = i32x4.sub(c4, f32x4.gt(v128.load(at + (i << 2)), bounds));
  let c = i32x4.extract_lane(c4, 0) + i32x4.extract_lane(c4, 1) + i32x4.extract_lane(c4, 2) + i32x4.extract_lane(c4, 3);
  for (; i < n; i++) c += i32(load<f32>(at + (i << 2)) > bound);
  return c;
}

@inline
function isBetween(at: usize, lows: v128, highs: v128): v128 {
  const x = v128.load(at);
  return v128.and(f32x4.gt(x, lows), f32x4.le(x, highs));
}

/** Of the values low < x ≤ high: the sum, in order of ids; how many go to `summed`. Sixteen that are all outside cost next to nothing. */
function sumBetween(at: usize, n: i32, low: f32, high: f32): f64 {
  const lows = f32x4.splat(low);
  const highs = f32x4.splat(high);
  let sum: f64 = 0;
  summed = 0;
  for (let i = 0; i < n; ) {
    if (i + 16 <= n) {
      const p = at + (i << 2);
      const first = v128.or(isBetween(p, lows, highs), isBetween(p + 16, lows, highs));
      const second = v128.or(isBetween(p + 32, lows, highs), isBetween(p + 48, lows, highs));
      if (!v128.any_true(v128.or(first, second))) {
        i += 16;
        continue;
      }
    }
    for (const end = min(i + 16, n); i < end; i++) {
      const x = load<f32>(at + (i << 2));
      if (x <= low || x > high) continue;
      sum += <f64>x;
      summed++;
    }
  }
  return sum;
}
let summed: i32 = 0;

/** Values below `bound`, and all but the first `ties` equal to it, become `fill`. */
function keepFrom(at: usize, n: i32, bound: f32, ties: i32, fill: f32): void {
  for (let i = 0; i < n; ) {
    if (i + 4 <= n && !v128.any_true(f32x4.ge(v128.load(at + (i << 2)), f32x4.splat(bound)))) {
      v128.store(at + (i << 2), f32x4.splat(fill));
      i += 4;
      continue;
    }
    for (const end = min(i + 4, n); i < end; i++) {
      const x = load<f32>(at + (i << 2));
      if (x == bound && ties > 0) ties--;
      else if (!(x > bound)) store<f32>(at + (i << 2), fill);
    }
  }
}

/** x → e^((x − top) / temp): a mass of 1 for the best token, 0 where it would be below 2⁻¹²⁶. Inlined, as metered kernels must be alike in all builds. */
@inline
function masses(at: usize, n: i32, top: f32, temp: f32): void {
  const tops = f32x4.splat(top);
  const temps = f32x4.splat(temp);
  let i = 0;
  for (; i + 4 <= n; i += 4) v128.store(at + (i << 2), exp4(f32x4.div(f32x4.sub(v128.load(at + (i << 2)), tops), temps)));
  for (; i < n; i++) v128.store32_lane(at + (i << 2), exp4(f32x4.div(f32x4.sub(v128.load32_splat(at + (i << 2)), tops), temps)), 0);
}

// ── Cut-offs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Floats as integers of the same order, and back. */
@inline
function keyOf(x: f32): i32 {
  const bits = reinterpret<i32>(x);
  return bits < 0 ? bits ^ 0x7fffffff : bits;
}
@inline
function valueOf(key: i32): f32 {
  return reinterpret<f32>(key < 0 ? key ^ 0x7fffffff : key);
}
@inline
function between(low: i32, high: i32): i32 {
  return low + <i32>(<u32>(high - low) >> 1);
}

/** The k-th largest value, equal ones counted apiece; how many are above it goes to `above`. 1 ≤ k ≤ values above −∞. */
function kthLargest(at: usize, n: i32, k: i32, top: f32): f32 {
  // The value looked for is in (low, high]: fewer than k values are above high, at least k above low.
  let low = keyOf(-Infinity);
  let high = keyOf(top);
  let aboveLow = n;
  let aboveHigh = 0;
  while (<u32>(high - low) > 1 && aboveLow - aboveHigh > 1) {
    const middle = between(low, high);
    const c = countAbove(at, n, valueOf(middle));
    if (c < k) {
      high = middle;
      aboveHigh = c;
    } else {
      low = middle;
      aboveLow = c;
    }
  }
  above = aboveHigh;
  return maximumBelow(at, n, valueOf(high));
}

/**
 * In descending order of masses, the value at which their sum reaches `target`, or passes it when `strict`; the sum before that value goes
 * to `above`. All masses are in 0 … 1 and sum to more than the target.
 */
function massReaching(at: usize, n: i32, target: f64, strict: bool): f32 {
  let low = 0;
  let high = keyOf(1);
  let sum: f64 = 0; // of the masses above high
  let left = n; // values in (low, high]
  while (<u32>(high - low) > 1 && left > 1) {
    const middle = between(low, high);
    const s = sum + sumBetween(at, n, valueOf(middle), valueOf(high));
    if (strict ? s <= target : s < target) {
      high = middle;
      sum = s;
      left -= summed;
    } else {
      low = middle;
      left = summed;
    }
  }
  above = sum;
  return maximumBelow(at, n, valueOf(high));
}
let above: f64 = 0;

// ── Steps of sampling ────────────────────────────────────────────────────────────────────────────────────────────────────────────

const MARK: u32 = 0x7fe00000; // a NaN that no arithmetic makes; its low 21 bits are an index into the history
const NEGATIVE: u32 = 0x80000000;

/**
 * Divides (logits ≥ 0) or multiplies by the penalty, once per distinct id of the history. The first occurrence of an id exchanges places
 * with its logit and leaves a mark there, so that later ones are known; a pass over the logits puts everything back.
 */
function penalise(at: usize, n: i32, history: usize, length: i32, penalty: f32): void {
  for (let i = 0; i < length; i++) {
    const id = load<u32>(history + (i << 2));
    if (id >= <u32>n) continue;
    const bits = load<u32>(at + (id << 2));
    if (bits >= MARK && bits < NEGATIVE) continue;
    store<u32>(history + (i << 2), bits);
    store<u32>(at + (id << 2), MARK | i);
  }
  for (let id = 0; id < n; ) {
    if (id + 4 <= n) {
      const x = v128.load(at + (id << 2));
      if (!v128.any_true(f32x4.ne(x, x))) {
        id += 4;
        continue;
      }
    }
    for (const end = min(id + 4, n); id < end; id++) {
      const bits = load<u32>(at + (id << 2));
      if (bits < MARK || bits >= NEGATIVE) continue;
      const slot = history + ((bits & 0x1fffff) << 2);
      const x = load<f32>(slot);
      store<u32>(slot, id);
      store<f32>(at + (id << 2), x >= 0 ? x / penalty : x * penalty);
    }
  }
}

/** The token at which the cumulative mass, in order of ids, passes `target`. */
function drawById(at: usize, n: i32, target: f64): i32 {
  let sum: f64 = 0;
  let id = 0;
  for (let i = 0; i < n; i++) {
    const x = load<f32>(at + (i << 2));
    if (x == 0) continue;
    id = i;
    sum += <f64>x;
    if (sum > target) break;
  }
  return id;
}

/** The same in descending order of mass, ties by lower id. */
function drawByMass(at: usize, n: i32, target: f64): i32 {
  const value = massReaching(at, n, target, true);
  let skip = <i32>((target - above) / <f64>value); // equal masses before it
  let id = indexOf(at, n, value, 0);
  for (; skip > 0; skip--) {
    const next = indexOf(at, n, value, id + 1);
    if (next == n) break;
    id = next;
  }
  return id;
}

/** logits, SamplerRecord, history and draw of the step → StepBlock.next. Logits are finite; afterwards they are garbage. */
export function sample(step: usize): void {
  const at: usize = load<i32>(step, STEP_LOGITS_AT);
  const n = load<i32>(step, STEP_VOCABULARY);
  const sampler: usize = load<i32>(step, STEP_SAMPLER_AT);
  const temp = load<f32>(sampler, SAMPLER_TEMP);
  const topK = load<i32>(sampler, SAMPLER_TOP_K);
  const topP = load<f32>(sampler, SAMPLER_TOP_P);
  const minP = min(load<f32>(sampler, SAMPLER_MIN_P), 1);
  const penalty = load<f32>(sampler, SAMPLER_REPEAT_PENALTY);

  if (penalty != 1) penalise(at, n, load<i32>(step, STEP_HISTORY_AT), load<i32>(step, STEP_HISTORY_LENGTH), penalty);
  const top = maximumBelow(at, n, Infinity);
  if (temp <= 0 || topK == 1) {
    store<i32>(step, indexOf(at, n, top, 0), STEP_NEXT);
    return;
  }
  // A positive temperature does not change the order, so top-k may look at the logits before rounding makes equals of them.
  const topKOn = topK > 0 && topK < n;
  if (topKOn) {
    const value = kthLargest(at, n, topK, top);
    keepFrom(at, n, value, topK - <i32>above, -Infinity);
  }
  masses(at, n, top, temp);
  if (topP < 1) {
    const target = max(<f64>topP * sumBetween(at, n, 0, 1), 1e-300);
    const value = massReaching(at, n, target, false);
    keepFrom(at, n, value, <i32>ceil((target - above) / <f64>value), 0);
  }
  if (minP > 0) keepFrom(at, n, minP, i32.MAX_VALUE, 0);
  const target = (<f64>load<u32>(step, STEP_DRAW) / 4294967296.0) * sumBetween(at, n, 0, 1);
  store<i32>(step, topKOn || topP < 1 ? drawByMass(at, n, target) : drawById(at, n, target), STEP_NEXT);
}

/** −ln softmax(logits)[target] of the step in f64 → StepBlock.loss. Logits are left as they are. */
export function score(step: usize): void {
  const at: usize = load<i32>(step, STEP_LOGITS_AT);
  const n = load<i32>(step, STEP_VOCABULARY);
  const top = <f64>maximumBelow(at, n, Infinity);
  let sum: f64 = 0;
  for (let i = 0; i < n; i++) {
    const x = <f64>load<f32>(at + (i << 2)) - top;
    if (x > -700) sum += exp64(x);
  }
  const target = <f64>load<f32>(at + (load<i32>(step, STEP_TARGET) << 2));
  store<f64>(step, ln64(sum) - (target - top), STEP_LOSS);
}

/** See Compute.top_k. Work is at most n · k: a value below the last of k found costs one comparison. */
export function top_k(logits: usize, n: i32, k: i32, out: usize): void {
  let found = 0;
  for (let id = 0; id < n; id++) {
    const x = load<f32>(logits + (id << 2));
    if (found == k && !(x > load<f32>(out + (k << 3) - 4))) continue;
    if (found < k) found++;
    let slot = found - 1;
    for (; slot > 0 && load<f32>(out + (slot << 3) - 4) < x; slot--) store<u64>(out + (slot << 3), load<u64>(out + (slot << 3) - 8));
    store<u32>(out + (slot << 3), id);
    store<f32>(out + (slot << 3), x, 4);
  }
}
