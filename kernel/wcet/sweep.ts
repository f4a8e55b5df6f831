// Expressions evaluated in all cases at once: an unknown is given a column of values, one for each case, and so is each expression, atom by
// atom in plain loops over numbers. What is the same in all cases stays one number and is computed once. So a plan is priced at all of its
// positions in one sweep, which costs a few terms times the positions. Values are exact or the sweep says that they are not. Column-wise
// evaluation is how array languages and databases run expressions.

import { atomMentions } from './poly.ts';
import type { Atom, Poly } from './poly.ts';

/** A value for each case, or one that holds in all of them. */
export type Column = number | Float64Array;

export const valueIn = (column: Column, i: number): number => (typeof column === 'number' ? column : column[i]!);

/** In how many cases these are to be told apart; 0: all are the same everywhere. */
export function casesOf(columns: readonly Column[]): number {
  for (const c of columns) if (typeof c !== 'number') return c.length;
  return 0;
}

/** A column computed case by case from others, once where all of them are the same everywhere. */
export function columnOf(from: readonly Column[], value: (i: number) => number): Column {
  const cases = casesOf(from);
  if (cases === 0) return value(0);
  const result = new Float64Array(cases);
  for (let i = 0; i < cases; i++) result[i] = value(i);
  return result;
}

export function sumOfColumns(columns: readonly Column[]): Column {
  const sum = new Sum();
  for (const c of columns) sum.add(c, 1);
  return sum.total();
}

/** The least or the largest of columns, case by case; there is one at least. */
export function extremeOf(columns: readonly Column[], choose: (a: number, b: number) => number): Column {
  return columns.reduce((a, b) => columnOf([a, b], i => choose(valueIn(a, i), valueIn(b, i))));
}

/** Adds columns up. */
class Sum {
  #same = 0;
  readonly #columns: Float64Array[] = [];
  readonly #times: number[] = [];

  add(column: Column, times: number): void {
    if (typeof column === 'number') this.#same += times * column;
    else {
      this.#columns.push(column);
      this.#times.push(times);
    }
  }
  total(): Column {
    const [first] = this.#columns;
    if (first === undefined) return this.#same;
    if (this.#columns.length === 1 && this.#times[0] === 1 && this.#same === 0) return first;
    const sum = new Float64Array(first.length).fill(this.#same);
    for (const [i, column] of this.#columns.entries()) addTo(sum, column, this.#times[i]!);
    return sum;
  }
}

// Loops over cases stand alone, short: engines compile them soon.
function addTo(sum: Float64Array, column: Float64Array, times: number): void {
  for (let i = 0; i < sum.length; i++) sum[i]! += times * column[i]!;
}
function product(a: Column, b: Column): Column {
  if (a === 1 || b === 0) return b;
  if (b === 1 || a === 0) return a;
  if (typeof a === 'number') return typeof b === 'number' ? a * b : scaled(b, a);
  if (typeof b === 'number') return scaled(a, b);
  const result = new Float64Array(a.length);
  for (let i = 0; i < result.length; i++) result[i] = a[i]! * b[i]!;
  return result;
}
function scaled(column: Float64Array, by: number): Float64Array {
  const result = new Float64Array(column.length);
  addTo(result, column, by);
  return result;
}
function largest(column: Float64Array): number {
  let most = 0;
  for (let i = 0; i < column.length; i++) most = Math.max(most, Math.abs(column[i]!));
  return most;
}

/** What atoms multiply to, and how large that is at most, whatever its sign. */
interface Product {
  readonly values: Column;
  readonly size: number;
}

const ONE: Product = { values: 1, size: 1 };

const isCounter = (a: Atom): boolean => a.kind === 'counter';

/** Evaluates expressions over the same unknowns. Products that several of them contain are evaluated once. */
export class Sweep {
  readonly #unknowns = new Map<number, Column>();
  readonly #counters = new Map<number, number>(); // of the sums within which it is
  readonly #products = new Map<string, Product>(); // by the keys of their atoms
  /** False when a value met on the way was too large for a number to hold exactly: then results mean nothing. */
  exact = true;

  /** Gives an unknown its values, 0 before; columns of several unknowns are of one length. */
  set(index: number, values: Column): void {
    this.#unknowns.set(index, values);
    this.#products.clear();
  }

  of(p: Poly): Column {
    if (p.constant !== null) return Number(p.constant);
    const sum = new Sum();
    let size = 0;
    for (const [key, { coef, atoms }] of p.terms) {
      const times = Number(coef);
      const { values, size: each } = this.#product(key, atoms);
      sum.add(values, times);
      size += Math.abs(times) * each;
    }
    if (!(size <= Number.MAX_SAFE_INTEGER)) this.exact = false;
    return sum.total();
  }

  #product(key: string, atoms: readonly Atom[]): Product {
    const known = this.#products.get(key);
    if (known !== undefined) return known;
    const [first, ...others] = atoms;
    let { values, size } =
      first === undefined ? ONE : others.length === 0 ? this.#atom(first) : this.#product(first.key, [first]);
    for (const a of others) {
      if (values === 0) break; // a bracket that is 0 shields its factors
      const factor = this.#product(a.key, [a]);
      values = product(values, factor.values);
      size = typeof values === 'number' ? Math.abs(values) : size * factor.size;
    }
    const found = { values, size };
    const passing = this.#counters.size > 0 && atoms.some(a => atomMentions(a, isCounter));
    if (!passing) this.#products.set(key, found);
    return found;
  }

  #atom(a: Atom): Product {
    const values = this.#valueOf(a);
    if (typeof values === 'number') return { values, size: Math.abs(values) };
    return { values, size: a.kind === 'negative' || a.kind === 'zero' ? 1 : largest(values) };
  }

  #valueOf(a: Atom): Column {
    switch (a.kind) {
      case 'param':
        return this.#unknowns.get(a.index) ?? 0;
      case 'counter':
        return this.#counters.get(a.id) ?? 0;
      case 'floor': {
        const [of, by] = [this.of(a.of), this.of(a.by)];
        return columnOf([of, by], i => {
          const divisor = valueIn(by, i);
          return divisor > 0 ? Math.floor(valueIn(of, i) / divisor) : 0;
        });
      }
      case 'max': {
        const of = this.of(a.of);
        return columnOf([of], i => Math.max(0, valueIn(of, i)));
      }
      case 'negative': {
        const of = this.of(a.of);
        return columnOf([of], i => (valueIn(of, i) < 0 ? 1 : 0));
      }
      case 'zero': {
        const of = this.of(a.of);
        return columnOf([of], i => (valueIn(of, i) === 0 ? 1 : 0));
      }
      case 'sum':
        return this.#sum(a.id, this.of(a.count), a.of);
      default: // a choice or a local that nobody has removed
        this.exact = false;
        return 0;
    }
  }

  #sum(id: number, count: Column, of: Poly): Column {
    let total: Column = 0;
    const passes = typeof count === 'number' ? count : count.reduce((a, b) => Math.max(a, b), 0);
    for (let j = 0; j < passes; j++) {
      this.#counters.set(id, j);
      const before: Column = total;
      const term = this.of(of);
      total = columnOf([before, term, count], i => valueIn(before, i) + (j < valueIn(count, i) ? valueIn(term, i) : 0));
    }
    this.#counters.delete(id);
    return total;
  }
}
