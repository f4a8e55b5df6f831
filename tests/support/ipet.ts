// Implicit path enumeration: the cost of a control flow as an integer programme. Every edge of the flow graph is a count; what enters a
// node leaves it; a loop's back edge is taken between passesMin and passesMax times per entry. After Li and Malik. It uses nothing of
// the flow's structure but its edges, so it can judge the structured bound.
import type { Flow } from '../../kernel/wcet/structured.ts';

/** The programme in CPLEX's LP format. */
export function programmeOf(flow: Flow, most: boolean): string {
  let edges = 0;
  const costs = new Map<string, number>();
  const constraints: string[] = ['x0 = 1'];
  const edge = (): string => `x${++edges}`;
  const equal = (left: readonly string[], right: readonly string[]): void => {
    constraints.push(`${left.join(' + ')} - ${right.join(' - ')} = 0`);
  };
  const charge = (cost: number, at: string): void => {
    costs.set(at, (costs.get(at) ?? 0) + cost);
  };
  /** Lays `part` behind edge `from`; returns the edge that leaves it. */
  const lay = (part: Flow, from: string): string => {
    switch (part.kind) {
      case 'block':
        charge(part.cost, from);
        return from;
      case 'sequence':
        return part.parts.reduce((at, p) => lay(p, at), from);
      case 'choice': {
        charge(part.cost, from);
        const arms = part.arms.map(() => edge());
        equal([from], arms);
        const left = part.arms.map((arm, i) => lay(arm, arms[i]!));
        const joined = edge();
        equal(left, [joined]);
        return joined;
      }
      case 'loop': {
        const [header, body, out] = [edge(), edge(), edge()];
        charge(part.cost, header);
        const back = lay(part.body, body);
        equal([from, back], [header]);
        equal([header], [body, out]);
        constraints.push(`${back} - ${part.passesMax} ${from} <= 0`, `${back} - ${part.passesMin} ${from} >= 0`);
        return out;
      }
    }
  };
  lay(flow, 'x0');
  const all = Array.from({ length: edges + 1 }, (_, i) => `x${i}`).join('\n');
  const objective = [...costs].map(([at, cost]) => `${cost} ${at}`).join('\n + ');
  return `${most ? 'Maximize' : 'Minimize'}\n ${objective}\nSubject To\n ${constraints.join('\n ')}\nGeneral\n${all}\nEnd\n`;
}

/** A random flow of at most `depth` levels; `random(n)` draws below n. */
export function randomFlow(random: (n: number) => number, depth: number): Flow {
  const cost = random(100);
  switch (depth === 0 ? 0 : random(4)) {
    case 1:
      return { kind: 'sequence', parts: Array.from({ length: 1 + random(3) }, () => randomFlow(random, depth - 1)) };
    case 2:
      return { kind: 'choice', cost, arms: Array.from({ length: 2 + random(2) }, () => randomFlow(random, depth - 1)) };
    case 3: {
      const passesMin = random(4);
      const passesMax = passesMin + random(6);
      return { kind: 'loop', cost, body: randomFlow(random, depth - 1), passesMin, passesMax };
    }
    default:
      return { kind: 'block', cost };
  }
}
