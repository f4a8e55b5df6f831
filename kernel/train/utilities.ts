// Rank utilities of an evolution strategy (PERSPECTIVE §11, after Wierstra et al. 2014): not how good a perturbation was weighs, but its place among
// all of them. So the estimate does not change with any monotone change of the losses, and no outlier carries it away.

import { log2 } from '../log2.ts';

/**
 * Of K fitnesses, greatest first: u = max(0, ln(K/2 + 1) − ln rank) / Σ − 1/K, which sum to 0. Equal fitnesses keep their order. The logarithms' base
 * goes out with the sum.
 */
export function rankUtilities(fitness: readonly number[]): number[] {
  const k = fitness.length;
  const order = fitness.map((_, i) => i).sort((a, b) => fitness[b]! - fitness[a]! || a - b);
  const raw = order.map((_, place) => Math.max(0, log2(k / 2 + 1) - log2(place + 1)));
  const sum = raw.reduce((a, b) => a + b, 0);
  const utilities = Array.from({ length: k }, () => 0);
  for (const [place, i] of order.entries()) utilities[i] = raw[place]! / sum - 1 / k;
  return utilities;
}
