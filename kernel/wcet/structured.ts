// The structured bound: what a program made of sequences, choices and counted loops costs at most and at least. Sum, extreme, times: the
// timing schema of Shaw and of Puschner and Koza. Certificates bound the kernels this way; the tests set it against implicit path
// enumeration, the integer programme of Li and Malik, which knows nothing of structure.

/** A flow of control, with costs in any one unit. */
export type Flow =
  | { readonly kind: 'block'; readonly cost: number }
  | { readonly kind: 'sequence'; readonly parts: readonly Flow[] }
  /** A test, then one of the arms. */
  | { readonly kind: 'choice'; readonly cost: number; readonly arms: readonly Flow[] }
  /** A test before each pass and after the last: passes + 1 tests. */
  | {
      readonly kind: 'loop';
      readonly cost: number;
      readonly body: Flow;
      readonly passesMin: number;
      readonly passesMax: number;
    };

/** Largest (`most`) or smallest cost over all paths; costs are at least 0. */
export function structuredBound(flow: Flow, most: boolean): number {
  switch (flow.kind) {
    case 'block':
      return flow.cost;
    case 'sequence':
      return flow.parts.reduce((sum, part) => sum + structuredBound(part, most), 0);
    case 'choice': {
      const arms = flow.arms.map(arm => structuredBound(arm, most));
      return flow.cost + (most ? Math.max(...arms) : Math.min(...arms));
    }
    case 'loop': {
      const passes = most ? flow.passesMax : flow.passesMin;
      return flow.cost * (passes + 1) + structuredBound(flow.body, most) * passes;
    }
  }
}
