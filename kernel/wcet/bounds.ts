// STAND-IN until the pricer lands.
import type { Refusal } from '../abi/index.ts';
import type { Bound, Draw, Prices as P } from './price.ts';
type Prices = Pick<P, keyof P>;

export interface Request {
  readonly prompt: number;
  readonly generate: number;
  readonly draw: Draw;
  readonly logitsK: number;
}
export interface RequestBounds {
  readonly prefill: Bound;
  readonly decode: Bound;
  readonly decodeWorstPos: number;
  readonly decodeMeanMost: number;
  readonly total: Bound;
  readonly full: Bound;
}
const wide: Bound = { most: 2 ** 50, least: 0 };
export function requestBounds(_prices: Prices, r: Request): RequestBounds | Refusal {
  return { prefill: wide, decode: wide, decodeWorstPos: r.prompt, decodeMeanMost: 0, total: wide, full: wide };
}
export function scoreBounds(_prices: Prices, _tokens: number, _prefix: 0 | 1): Bound | Refusal {
  return wide;
}
