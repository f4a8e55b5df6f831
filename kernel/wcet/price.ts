// STAND-IN until the pricer lands.
import type { Refusal } from '../abi/index.ts';
import type { MemoryRegion, Target } from './targets.ts';

export interface PlanSource {
  readonly word: (address: number) => number;
  readonly bodyAt: number;
  readonly headAt: number;
  readonly sampleAt: number;
  readonly scoreAt: number;
  readonly regionOf: (address: number) => MemoryRegion;
  readonly ctx: number;
  readonly batch: number;
  readonly vocabulary: number;
  readonly logitsAt: number;
  readonly kvAt: number;
  readonly historyAt: number;
  readonly stepAt: number;
  readonly samplerAt: number;
}
export type Segment = 'body' | 'head' | 'sample' | 'score';
export interface Bound {
  readonly most: number;
  readonly least: number;
}
export interface Draw {
  readonly modes: number;
  readonly topK: number;
}
export interface OpCost {
  readonly most: number;
  readonly least: number;
  readonly compute: number;
  readonly memory: number;
  readonly overhead: number;
  readonly instructions: number;
  readonly loaded: number;
  readonly stored: number;
}
export type Certificates = object;
const wide: Bound = { most: 2 ** 40, least: 0 };
export class Prices {
  static of(_certificates: Certificates, _target: Target, _plan: PlanSource): Prices | Refusal {
    return new Prices();
  }
  fill(_u32: Uint32Array): void {}
  segment(_s: Segment, _n: number, _pos: number): Bound {
    return wide;
  }
  step(_n: number, _pos: number, _draws: boolean, _d: Draw, _historyLength: number): Bound {
    return wide;
  }
  draw(_d: Draw, _historyLength: number): Bound {
    return wide;
  }
  topK(_k: number): Bound {
    return wide;
  }
  tokenize(_textBytes: number, _vocabAt: number, _word: (address: number) => number): Bound | Refusal {
    return wide;
  }
  ops(_s: Segment, _n: number, _pos: number): OpCost[] {
    return [];
  }
}
export function meterTable(_certificates: Certificates, _target: Target): Uint32Array {
  return new Uint32Array(0);
}
