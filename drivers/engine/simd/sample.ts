// Choosing the next token, and the loss of a given one. Order as the specification has it: repetition penalty, temperature, top-k, top-p,
// min-p, draw. A cut-off is found by bisection over the bits of the values, between which counts or sums are taken in order of ids, so that
// results depend on nothing but the operands' bits. A small top-k is a tournament, and leaves the later stages k values instead of all.
// Which stages run is decided by integers, and their work by lengths, so that it can be bounded before: to the data is left only how many
// bisections it takes and which blocks of sixteen are passed over.
//
// With top-k or top-p in force the distribution is drawn from in descending order of probability, ties by lower id. With both off it is
// drawn from in order of ids, over the whole vocabulary: the same distribution, other tokens for the same draws.

import {
  SAMPLER_GREEDY, SAMPLER_MIN_P, SAMPLER_MIN_P_ON, SAMPLER_MODES, SAMPLER_PENALTY_ON, SAMPLER_REPEAT_PENALTY, SAMPLER_TEMP, SAMPLER_TOP_K, SAMPLER_TOP_P,
  SAMPLER_TOP_P_ON, STEP_DRAW, STEP_HISTORY_AT, STEP_HISTORY_LENGTH, STEP_LOGITS_AT, STEP_LOSS, STEP_NEXT, STEP_SAMPLER_AT, STEP_TARGET, STEP_VOCABULARY,
  TOP_K_SMALL,
} from '../ops';
import { exp4, exp64, ln64, upper } from './math';

// ── The logits buffer ────────────────────────────────────────────────────────────────────────────────────────────────────────────
//
// It is all the memory there is (logitsBytes in sizes.ts). Values stand in blocks of sixteen, the last one filled up with −∞:
//
//   f32[n] logits │ f32 the largest of each block │ f32 the largest of each block of those │ survivors: f32[TOP_K_SMALL] │ i32[…] │ i32[…]
//
// The first of these two levels also serves the penalty, as a set of ids.

/** Blocks that hold n values. */
@inline
function blocksOf(n: i32): i32 {
  return (n + 15) >> 4;
}

/** Where f32[n] in whole blocks ends. */
@inline
function after(at: usize, n: i32): usize {
  return at + (blocksOf(n) << 6);
}

/** Fills the last block of f32[n] up: no pass takes −∞ for a value. */
@inline
function pad(at: usize, n: i32): void {
  for (let i = n; i < blocksOf(n) << 4; i++) store<f32>(at + (i << 2), -Infinity);
}

// ── Passes over blocks ───────────────────────────────────────────────────────────────────────────────────────────────────────────

@inline
function largestLane(v: v128): f32 {
  const two = f32x4.pmax(v, upper(v));
  return max(f32x4.extract_lane(two, 0), f32x4.extract_lane(two, 1));
}

/** The largest of each of four lanes over a block. */
@inline
function largestFour(p: usize): v128 {
  return f32x4.pmax(f32x4.pmax(v128.load(p), v128.load(p, 16)), f32x4.pmax(v128.load(p, 32), v128.load(p, 48)));
}

/** The largest value. */
@inline
function maximum(at: usize, blocks: i32): f32 {
  let m = f32x4.splat(-Infinity);
  for (let b = 0; b < blocks; b++) m = f32x4.pmax(m, largestFour(at + (b << 6)));
  return largestLane(m);
}

@inline
function atMost(p: usize, bounds: v128): v128 {
  const x = v128.load(p);
  return v128.bitselect(x, f32x4.splat(-Infinity), f32x4.le(x, bounds));
}

/** The largest value that is not above `bound`. */
function maximumBelow(at: usize, blocks: i32, bound: f32): f32 {
  const bounds = f32x4.splat(bound);
  let m = f32x4.splat(-Infinity);
  for (let b = 0; b < blocks; b++) {
    const p = at + (b << 6);
    const first = f32x4.pmax(atMost(p, bounds), atMost(p + 16, bounds));
    const second = f32x4.pmax(atMost(p + 32, bounds), atMost(p + 48, bounds));
    m = f32x4.pmax(m, f32x4.pmax(first, second));
  }
  return largestLane(m);
}

/** Which values of a block equal `x`: a bit each. */
@inline
function matches(p: usize, x: f32): i32 {
  const xs = f32x4.splat(x);
  const first = i16x8.narrow_i32x4_s(f32x4.eq(v128.load(p), xs), f32x4.eq(v128.load(p, 16), xs));
  const second = i16x8.narrow_i32x4_s(f32x4.eq(v128.load(p, 32), xs), f32x4.eq(v128.load(p, 48), xs));
  return i8x16.bitmask(i8x16.narrow_i16x8_s(first, second));
}

/** The index of the first `x` in a block; within the block even where there is none. */
@inline
function indexInBlock(p: usize, x: f32): i32 {
  return ctz(matches(p, x)) & 15;
}

/** The lowest index that holds `x`, which occurs. */
@inline
function firstOf(at: usize, blocks: i32, x: f32): i32 {
  let first = i32.MAX_VALUE;
  for (let b = 0; b < blocks; b++) {
    const bits = matches(at + (b << 6), x);
    first = min(first, select((b << 4) + ctz(bits), i32.MAX_VALUE, bits));
  }
  return first;
}

/** The index that holds the `skip`-th `x` from 0 on, or the last one where there are fewer. */
function nthOf(at: usize, blocks: i32, x: f32, skip: i32): i32 {
  let index = 0;
  let seen = 0;
  for (let b = 0; b < blocks; b++) {
    const bits = matches(at + (b << 6), x);
    if (bits == 0) continue;
    for (let i = 0; i < 16; i++) {
      const hit = (bits >> i) & 1;
      index = select((b << 4) + i, index, hit & i32(seen <= skip));
      seen += hit;
    }
  }
  return index;
}

@inline
function sumOfLanes(v: v128): i32 {
  const two = i32x4.add(v, upper(v));
  return i32x4.extract_lane(two, 0) + i32x4.extract_lane(two, 1);
}

/** How many values are above `bound`. */
@inline
function countAbove(at: usize, blocks: i32, bound: f32): i32 {
  const bounds = f32x4.splat(bound);
  let c4 = i32x4.splat(0);
  for (let b = 0; b < blocks; b++) {
    const p = at + (b << 6);
    const first = i32x4.add(f32x4.gt(v128.load(p), bounds), f32x4.gt(v128.load(p, 16), bounds));
    const second = i32x4.add(f32x4.gt(v128.load(p, 32), bounds), f32x4.gt(v128.load(p, 48), bounds));
    c4 = i32x4.sub(c4, i32x4.add(first, second));
  }
  return sumOfLanes(c4);
}

@inline
function isBetween(p: usize, lows: v128, highs: v128): v128 {
  const x = v128.load(p);
  return v128.and(f32x4.gt(x, lows), f32x4.le(x, highs));
}

/** sum + x₀ + x₁ + x₂ + x₃ of the lanes in the mask, in order. The others add 0, which changes no sum that is not negative. */
@inline
function addLanes(sum: f64, p: usize, mask: v128): f64 {
  const x = v128.and(v128.load(p), mask);
  const first = f64x2.promote_low_f32x4(x);
  const second = f64x2.promote_low_f32x4(upper(x));
  return sum + f64x2.extract_lane(first, 0) + f64x2.extract_lane(first, 1) + f64x2.extract_lane(second, 0) + f64x2.extract_lane(second, 1);
}

/** Of the values low < x ≤ high, low ≥ 0: the sum, in order of ids; how many go to `summed`. A block without one is passed over. */
function sumBetween(at: usize, blocks: i32, low: f32, high: f32): f64 {
  const lows = f32x4.splat(low);
  const highs = f32x4.splat(high);
  let sum: f64 = 0;
  let c4 = i32x4.splat(0);
  for (let b = 0; b < blocks; b++) {
    const p = at + (b << 6);
    const m0 = isBetween(p, lows, highs);
    const m1 = isBetween(p + 16, lows, highs);
    const m2 = isBetween(p + 32, lows, highs);
    const m3 = isBetween(p + 48, lows, highs);
    if (!v128.any_true(v128.or(v128.or(m0, m1), v128.or(m2, m3)))) continue;
    c4 = i32x4.sub(c4, i32x4.add(i32x4.add(m0, m1), i32x4.add(m2, m3)));
    sum = addLanes(addLanes(addLanes(addLanes(sum, p, m0), p + 16, m1), p + 32, m2), p + 48, m3);
  }
  summed = sumOfLanes(c4);
  return sum;
}
let summed: i32 = 0;

/** Values below `bound`, and all but the first `ties` equal to it, become `fill`. */
function keepFrom(at: usize, blocks: i32, bound: f32, ties: i32, fill: f32): void {
  const bounds = f32x4.splat(bound);
  const fills = f32x4.splat(fill);
  for (let b = 0; b < blocks; b++) {
    const p = at + (b << 6);
    if (!v128.any_true(f32x4.ge(largestFour(p), bounds))) {
      v128.store(p, fills);
      v128.store(p, fills, 16);
      v128.store(p, fills, 32);
      v128.store(p, fills, 48);
      continue;
    }
    for (let i = 0; i < 16; i++) {
      const x = load<f32>(p + (i << 2));
      const tie = i32(x == bound) & i32(ties > 0);
      ties -= tie;
      store<f32>(p + (i << 2), select(x, fill, tie | i32(x > bound)));
    }
  }
}

/** x → e^((x − top) / temp): a mass of 1 for the best token, 0 where it would be below 2⁻¹²⁶. */
@inline
function masses(at: usize, blocks: i32, top: f32, temp: f32): void {
  const tops = f32x4.splat(top);
  const temps = f32x4.splat(temp);
  for (let i = 0; i < blocks << 2; i++) {
    const p = at + (i << 4);
    v128.store(p, exp4(f32x4.div(f32x4.sub(v128.load(p), tops), temps)));
  }
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
const KEY_BITS = 32; // halvings of all keys until one is left
const MASS_BITS = 30; // of the keys of 0 … 1, which are below 2³⁰

/** The k-th largest value, equal ones counted apiece; how many are above it goes to `above`. 1 ≤ k ≤ values above −∞. */
function kthLargest(at: usize, n: i32, k: i32, top: f32): f32 {
  // The value looked for is in (low, high]: fewer than k values are above high, at least k above low.
  const blocks = blocksOf(n);
  let low = keyOf(-Infinity);
  let high = keyOf(top);
  let aboveLow = n;
  let aboveHigh = 0;
  for (let round = 0; round < KEY_BITS; round++) {
    if (<u32>(high - low) <= 1 || aboveLow - aboveHigh <= 1) break;
    const middle = between(low, high);
    const c = countAbove(at, blocks, valueOf(middle));
    if (c < k) {
      high = middle;
      aboveHigh = c;
    } else {
      low = middle;
      aboveLow = c;
    }
  }
  above = aboveHigh;
  return maximumBelow(at, blocks, valueOf(high));
}

/**
 * In descending order of masses, the value at which their sum reaches `target`, or passes it when `strict`; the sum before that value goes
 * to `above`. All n masses are in 0 … 1 and sum to more than the target.
 */
function massReaching(at: usize, n: i32, target: f64, strict: bool): f32 {
  const blocks = blocksOf(n);
  let low = 0;
  let high = keyOf(1);
  let sum: f64 = 0; // of the masses above high
  let left = n; // values in (low, high]
  for (let round = 0; round < MASS_BITS; round++) {
    if (<u32>(high - low) <= 1 || left <= 1) break;
    const middle = between(low, high);
    const s = sum + sumBetween(at, blocks, valueOf(middle), valueOf(high));
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
  return maximumBelow(at, blocks, valueOf(high));
}
let above: f64 = 0;

// ── The tournament ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** f32[n] → the largest of each block, in blocks themselves, from `to` on. */
@inline
function largestOfBlocks(at: usize, n: i32, to: usize): void {
  const blocks = blocksOf(n);
  for (let b = 0; b < blocks; b++) store<f32>(to + (b << 2), largestLane(largestFour(at + (b << 6))));
  pad(to, blocks);
}

/**
 * The k largest of f32[n], descending, ties by lower id → values and ids. Each one taken becomes −∞ where it was: the largest of its block,
 * and of its block of blocks, are found anew. k ≤ n.
 */
function takeLargest(at: usize, n: i32, k: i32, values: usize, ids: usize): void {
  const blocks = after(at, n);
  const count = blocksOf(n);
  const groups = after(blocks, count);
  const top = blocksOf(blocksOf(count));
  largestOfBlocks(at, n, blocks);
  largestOfBlocks(blocks, count, groups);
  for (let j = 0; j < k; j++) {
    const largest = maximum(groups, top);
    const group = firstOf(groups, top, largest);
    const p = blocks + (group << 6);
    const block = (group << 4) + indexInBlock(p, largest);
    const q = at + (block << 6);
    const id = (block << 4) + indexInBlock(q, largest);
    store<f32>(values + (j << 2), load<f32>(at + (id << 2)));
    store<i32>(ids + (j << 2), id);
    store<f32>(at + (id << 2), -Infinity);
    store<f32>(blocks + (block << 2), largestLane(largestFour(q)));
    store<f32>(groups + (group << 2), largestLane(largestFour(p)));
  }
}

/** Where takeLargest puts what it takes: values, ids, and room for as many ids again. */
@inline
function survivorsOf(at: usize, n: i32): usize {
  const count = blocksOf(n);
  return after(after(after(at, n), count), blocksOf(count));
}

/** The k largest logits move to the front of the buffer, in order of ids; their ids go to the end of it. Returns the largest. */
@inline
function keepLargest(at: usize, n: i32, k: i32): f32 {
  const values = survivorsOf(at, n);
  const ids = values + (TOP_K_SMALL << 2);
  const ordered = ids + (TOP_K_SMALL << 2);
  takeLargest(at, n, k, values, ids);
  const vectors = (k + 3) >> 2;
  for (let j = k; j < vectors << 2; j++) store<i32>(ids + (j << 2), i32.MAX_VALUE);
  for (let j = 0; j < k; j++) {
    const id = load<i32>(ids + (j << 2));
    let lower = i32x4.splat(0);
    for (let v = 0; v < vectors; v++) lower = i32x4.sub(lower, i32x4.lt_s(v128.load(ids + (v << 4)), i32x4.splat(id)));
    const rank = sumOfLanes(lower);
    store<f32>(at + (rank << 2), load<f32>(values + (j << 2)));
    store<i32>(ordered + (rank << 2), id);
  }
  pad(at, k);
  return load<f32>(values);
}

// ── Steps of sampling ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Divides (logits ≥ 0) or multiplies by the penalty, once per distinct id of the history. What would be beyond f32 stays finite: ∞ − ∞ is no mass. */
@inline
function penalise(at: usize, n: i32, history: usize, length: i32, penalty: f32): void {
  const seen = after(at, n); // a bit per id
  memory.fill(seen, 0, blocksOf(n) << 1);
  for (let i = 0; i < length; i++) {
    const id = load<u32>(history + (i << 2));
    const known = id < <u32>n;
    const index = select<u32>(id, 0, known);
    const word = seen + ((index >> 5) << 2);
    const before = load<u32>(word);
    const bit = u32(known) << (index & 31);
    store<u32>(word, before | bit);
    const p = at + (index << 2);
    const x = load<f32>(p);
    const penalised = select<f32>(min<f32>(x / penalty, f32.MAX_VALUE), max<f32>(x * penalty, -f32.MAX_VALUE), x >= 0);
    store<f32>(p, select<f32>(penalised, x, bit & ~before));
  }
}

/** The token at which the cumulative mass, in order of ids, passes `target`. */
function drawById(at: usize, blocks: i32, target: f64): i32 {
  let sum: f64 = 0;
  let id = 0;
  for (let b = 0; b < blocks; b++) {
    if (sum > target) continue;
    for (let i = b << 4; i < (b + 1) << 4; i++) {
      const x = load<f32>(at + (i << 2));
      id = select(i, id, i32(x != 0) & i32(sum <= target));
      sum += <f64>x;
    }
  }
  return id;
}

/** The same in descending order of mass, ties by lower id. */
@inline
function drawByMass(at: usize, n: i32, target: f64): i32 {
  const value = massReaching(at, n, target, true);
  return nthOf(at, blocksOf(n), value, <i32>((target - above) / <f64>value)); // after equal masses that the target passes
}

/** logits, SamplerRecord, history and draw of the step → StepBlock.next. Logits are finite; afterwards they are garbage. */
export function sample(step: usize): void {
  // Every word that decides what runs is read here, before anything is stored.
  const at: usize = load<i32>(step, STEP_LOGITS_AT);
  const n = load<i32>(step, STEP_VOCABULARY);
  const history: usize = load<i32>(step, STEP_HISTORY_AT);
  const length = load<i32>(step, STEP_HISTORY_LENGTH);
  const sampler: usize = load<i32>(step, STEP_SAMPLER_AT);
  const topK = load<i32>(sampler, SAMPLER_TOP_K);
  const modes = load<i32>(sampler, SAMPLER_MODES);

  pad(at, n);
  if (modes & SAMPLER_PENALTY_ON) penalise(at, n, history, length, load<f32>(sampler, SAMPLER_REPEAT_PENALTY));
  const next = modes & SAMPLER_GREEDY ? firstOf(at, blocksOf(n), maximum(at, blocksOf(n))) : drawn(step, sampler, at, n, topK, modes);
  store<i32>(step, next, STEP_NEXT);
}

/** The token drawn from n logits. */
function drawn(step: usize, sampler: usize, at: usize, n: i32, topK: i32, modes: i32): i32 {
  // A positive temperature does not change the order, so top-k may look at the logits before rounding makes equals of them.
  const topKOn = topK > 0 && topK < n;
  const small = topKOn && topK <= TOP_K_SMALL;
  const left = small ? topK : n;
  const blocks = blocksOf(left);
  let top: f32;
  if (small) top = keepLargest(at, n, topK);
  else {
    top = maximum(at, blocks);
    if (topKOn) {
      const value = kthLargest(at, n, topK, top);
      keepFrom(at, blocks, value, topK - <i32>above, -Infinity);
    }
  }
  masses(at, blocks, top, load<f32>(sampler, SAMPLER_TEMP));
  const topPOn = (modes & SAMPLER_TOP_P_ON) != 0;
  if (topPOn) {
    const target = max(<f64>load<f32>(sampler, SAMPLER_TOP_P) * sumBetween(at, blocks, 0, 1), 1e-300);
    const value = massReaching(at, left, target, false);
    keepFrom(at, blocks, value, <i32>ceil((target - above) / <f64>value), 0);
  }
  if (modes & SAMPLER_MIN_P_ON) keepFrom(at, blocks, min(load<f32>(sampler, SAMPLER_MIN_P), 1), i32.MAX_VALUE, 0);
  const target = (<f64>load<u32>(step, STEP_DRAW) / 4294967296.0) * sumBetween(at, blocks, 0, 1);
  const index = topKOn || topPOn ? drawByMass(at, left, target) : drawById(at, blocks, target);
  return small ? load<i32>(survivorsOf(at, n) + (TOP_K_SMALL << 3) + (index << 2)) : index;
}

/** −ln softmax(logits)[target] of the step in f64 → StepBlock.loss. Logits are left as they are. */
export function score(step: usize): void {
  const at: usize = load<i32>(step, STEP_LOGITS_AT);
  const n = load<i32>(step, STEP_VOCABULARY);
  const target = <f64>load<f32>(at + (load<i32>(step, STEP_TARGET) << 2));
  pad(at, n);
  const top = <f64>maximum(at, blocksOf(n));
  let sum: f64 = 0;
  for (let i = 0; i < n; i++) {
    const x = <f64>load<f32>(at + (i << 2)) - top;
    const counts = x > -700; // e^−700 is the least that exp64 gives
    sum += select<f64>(exp64(select<f64>(x, -700, counts)), 0, counts);
  }
  store<f64>(step, ln64(sum) - (target - top), STEP_LOSS);
}

/** See Compute.top_k: k ≤ TOP_K_SMALL. Logits are left as they are, what follows them in their buffer is not. */
export function top_k(logits: usize, n: i32, k: i32, out: usize): void {
  pad(logits, n);
  const values = survivorsOf(logits, n);
  const ids = values + (TOP_K_SMALL << 2);
  const taken = min(k, n);
  takeLargest(logits, n, taken, values, ids);
  for (let j = 0; j < taken; j++) {
    const id = load<i32>(ids + (j << 2));
    const x = load<f32>(values + (j << 2));
    store<f32>(logits + (id << 2), x);
    store<i32>(out + (j << 3), id);
    store<f32>(out + (j << 3), x, 4);
  }
}
