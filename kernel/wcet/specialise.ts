// Expressions made ready: partial evaluation puts in what is known (a record's shape) and folds what follows from it. A certificate is so turned
// from thousands of terms into a few, which sweep.ts then evaluates at hundreds of positions in the time that a model's load can spare. The
// idea is Futamura's, on polynomials.

import {
  ATOM,
  Sum,
  constant,
  floor,
  fromTerms,
  isNegative,
  isZero,
  mentions,
  partsOf,
  positive,
  sum,
  ZERO,
} from './poly.ts';
import type { Atom, Poly } from './poly.ts';

/** What is known of an unknown: its value, that it stays open, or (`data`) that only the run itself will know it. */
export type Known = (index: number) => bigint | 'open' | 'data';

const UNROLLED_MAX = 64n;

/** Puts known values into expressions. Brackets over data become free choices: `extreme` removes them. */
export class Specialiser {
  readonly #known: Known;
  readonly #counters: ReadonlyMap<number, bigint>;
  readonly #atoms = new Map<Atom, Poly>();
  readonly #polys = new Map<Poly, Poly>();
  readonly #choices: Map<string, Poly>;
  /** For bodies of sums, with the counter known. */
  readonly #passes = new Map<string, Specialiser>();

  constructor(known: Known, counters: ReadonlyMap<number, bigint> = new Map(), choices = new Map<string, Poly>()) {
    this.#known = known;
    this.#counters = counters;
    this.#choices = choices;
  }

  of(p: Poly): Poly {
    const done = this.#polys.get(p);
    if (done !== undefined) return done;
    const sum = new Sum();
    for (const { coef, atoms } of p.without(this.#isZero)) {
      let value = coef;
      let rest: Poly | null = null;
      for (const a of atoms) {
        const image = this.#atom(a);
        const c = image.constant;
        if (c === null) rest = rest === null ? image : rest.times(image);
        else value *= c;
        if (value === 0n) break; // a bracket that is 0 shields its factors, a division by 0 among them
      }
      if (rest === null) sum.addNumber(value);
      else if (value !== 0n) sum.add(rest, value);
    }
    const total = sum.total();
    this.#polys.set(p, total);
    return total;
  }

  #atom(a: Atom): Poly {
    const done = this.#atoms.get(a);
    if (done !== undefined) return done;
    const image = this.#image(a);
    this.#atoms.set(a, image);
    return image;
  }

  readonly #isZero = (a: Atom): boolean => this.#atom(a) === ZERO;

  #image(a: Atom): Poly {
    switch (a.kind) {
      case 'param': {
        const value = this.#known(a.index);
        return typeof value === 'bigint' ? constant(value) : fromTerms([[1n, [a]]]);
      }
      case 'floor': {
        const by = this.of(a.by);
        return by.constant !== null && by.constant <= 0n ? ZERO : floor(this.of(a.of), by);
      }
      case 'max':
        return positive(this.of(a.of));
      case 'negative':
        return this.#bracket(isNegative(this.of(a.of)));
      case 'zero':
        return this.#bracket(isZero(this.of(a.of)));
      case 'sum': {
        const count = this.of(a.count);
        const n = count.constant;
        return n === null || n > UNROLLED_MAX ? sum(a.id, count, this.of(a.of)) : this.#unrolled(a.id, n, a.of);
      }
      case 'counter': {
        const pass = this.#counters.get(a.id);
        return pass === undefined ? fromTerms([[1n, [a]]]) : constant(pass);
      }
      default:
        return fromTerms([[1n, [a]]]);
    }
  }

  #bracket(p: Poly): Poly {
    const isData = (a: Atom): boolean => a.kind === 'param' && this.#known(a.index) === 'data';
    if (!mentions(p, isData)) return p;
    const choice = this.#choices.get(p.key) ?? fromTerms([[1n, [ATOM.free(this.#choices.size)]]]);
    this.#choices.set(p.key, choice);
    return choice;
  }

  #unrolled(id: number, passes: bigint, of: Poly): Poly {
    let total = ZERO;
    for (let j = 0n; j < passes; j++) {
      const key = `${id}:${j}`;
      const pass =
        this.#passes.get(key) ?? new Specialiser(this.#known, new Map(this.#counters).set(id, j), this.#choices);
      this.#passes.set(key, pass);
      total = total.plus(pass.of(of));
    }
    return total;
  }
}

/** Adds to `into` every argument and word that `p` depends on, at any depth; `seen`: expressions that were looked through before. */
export function noteParams(p: Poly, into: Set<number>, seen: Set<Poly>): void {
  if (seen.has(p)) return;
  seen.add(p);
  for (const t of p.list)
    for (const a of t.atoms) {
      if (a.kind === 'param') into.add(a.index);
      for (const inner of partsOf(a)) noteParams(inner, into, seen);
    }
}

// ── Ranges ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

type Span = readonly [low: number, high: number];

/** Between which values `p` lies while each unknown lies in its range. Not the narrowest answer, never too narrow. */
export function spanOf(
  p: Poly,
  ranges: (index: number) => Span,
  counters: ReadonlyMap<number, Span> = new Map(),
): Span {
  let [low, high] = [0, 0];
  for (const { coef, atoms } of p.list) {
    let term: Span = [Number(coef), Number(coef)];
    for (const a of atoms) term = productOf(term, spanOfAtom(a, ranges, counters));
    low += term[0];
    high += term[1];
  }
  return [low, high];
}

function productOf([a, b]: Span, [c, d]: Span): Span {
  const all = [a * c, a * d, b * c, b * d].map(x => (Number.isNaN(x) ? 0 : x)); // 0 · ∞
  return [Math.min(...all), Math.max(...all)];
}

function spanOfAtom(a: Atom, ranges: (index: number) => Span, counters: ReadonlyMap<number, Span>): Span {
  const of = (p: Poly): Span => spanOf(p, ranges, counters);
  switch (a.kind) {
    case 'param':
      return ranges(a.index);
    case 'counter':
      return counters.get(a.id) ?? [0, Infinity];
    case 'floor': {
      const [[low, high], [least, most]] = [of(a.of), of(a.by)];
      if (least < 1) return [-Infinity, Infinity];
      return [Math.floor(low / (low < 0 ? least : most)), Math.floor(high / (high < 0 ? most : least))];
    }
    case 'max': {
      const [low, high] = of(a.of);
      return [Math.max(0, low), Math.max(0, high)];
    }
    case 'sum': {
      const [, count] = of(a.count);
      const last = Math.max(0, count - 1);
      const term = spanOf(a.of, ranges, new Map(counters).set(a.id, [0, last]));
      return productOf([0, Math.max(0, count)], [Math.min(0, term[0]), Math.max(0, term[1])]);
    }
    case 'local':
      return [-Infinity, Infinity];
    default:
      return [0, 1];
  }
}
