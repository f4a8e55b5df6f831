// Normal numbers by index: value i of the stream of a seed is a function of both and of nothing else, so a direction of as many values as a model
// has parameters is kept as its seed and made again, in any order, wherever it is needed (Salmon et al. 2011). A 64-bit mix (splitmix64's, Steele,
// Lea and Flood 2014) gives two uniform numbers, these a normal one (Box and Muller 1958), of 6.66 at most. Every value costs the same.

import { Perturb, TRAIN_COEFFICIENT, TRAIN_SEED_LOW, TRAIN_SIGMA } from '../ops';
import { cos32, ln64 } from './math';
import { word } from './record';

/** What states of one stream lie apart: 2^64 divided by the golden ratio, odd. */
const STEP: u64 = 0x9e3779b97f4a7c15;

/** Bits of the argument to any bit of the result; one to one. */
@inline
function mixed(x: u64): u64 {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/** Where the stream of the block's seed begins: streams of seeds that follow each other lie anywhere. */
@inline
function stream_of(block: usize): u64 {
  return mixed(load<u64>(block, TRAIN_SEED_LOW) + STEP);
}

@inline
function normal(stream: u64, index: u32): f32 {
  const bits = mixed(stream + <u64>index * STEP);
  const u = (<f64><u32>(bits >> 32) + 1) * 2.3283064365386963e-10; // (0, 1]
  const angle = <f64><u32>bits * 1.4629180792671596e-9; // [0, 2π): 2π / 2^32 a step
  return <f32>sqrt<f64>(-2 * ln64(u)) * cos32(<f32>angle);
}

/** PERTURB: dst = src + sigma · normals. */
export function perturb(op: usize): void {
  const block: usize = word(op, Perturb.blockAt);
  const sigma = load<f32>(block, TRAIN_SIGMA);
  const src: usize = word(op, Perturb.srcAt);
  const dst: usize = word(op, Perturb.dstAt);
  const from = word(op, Perturb.from);
  const stream = stream_of(block);
  const n = word(op, Perturb.n);
  for (let i = 0; i < n; i++) {
    let v = sigma * normal(stream, from + i);
    if (src != 0) v += load<f32>(src + (i << 2));
    store<f32>(dst + (i << 2), v);
  }
}

/** ACCUMULATE: dst += coefficient · normals. */
export function accumulate(op: usize): void {
  const block: usize = word(op, Perturb.blockAt);
  const coefficient = load<f32>(block, TRAIN_COEFFICIENT);
  const dst: usize = word(op, Perturb.dstAt);
  const from = word(op, Perturb.from);
  const stream = stream_of(block);
  const n = word(op, Perturb.n);
  for (let i = 0; i < n; i++) {
    const at = dst + (i << 2);
    store<f32>(at, load<f32>(at) + coefficient * normal(stream, from + i));
  }
}
