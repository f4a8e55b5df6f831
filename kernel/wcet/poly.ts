// Exact integer expressions: polynomials whose unknowns are the arguments of a kernel and *atoms* made of further polynomials: quotients
// rounded down, max(0, …), brackets that are 1 where a comparison holds and 0 elsewhere, sums over a loop counter. Certificates are
// written in them. Coefficients are BigInt, so nothing overflows; constructors simplify, so equal counts mostly look equal. Arguments are
// taken to lie in 0 … 2³¹ − 1 (the certificate's domain says so), which is what lets max(0, ⌊n/4⌋) become ⌊n/4⌋.

export type Atom =
  | { readonly kind: 'param'; readonly index: number; readonly key: string }
  /** Counts the passes of one loop, from 0. */
  | { readonly kind: 'counter'; readonly id: number; readonly key: string }
  /** 0 or 1, as the data decide: must be eliminated (`extreme`) before an expression can be evaluated. */
  | { readonly kind: 'free'; readonly id: number; readonly key: string }
  /** What a local holds at the head of a loop, while the loop is being studied. */
  | { readonly kind: 'local'; readonly id: number; readonly key: string }
  /** The i32 that stands at an address: an entry of a table, for addresses to begin at. */
  | { readonly kind: 'entry'; readonly of: Poly; readonly key: string }
  | { readonly kind: 'floor'; readonly of: Poly; readonly by: Poly; readonly key: string }
  | { readonly kind: 'max'; readonly of: Poly; readonly key: string }
  | { readonly kind: 'negative'; readonly of: Poly; readonly key: string }
  | { readonly kind: 'zero'; readonly of: Poly; readonly key: string }
  /** Σ of `of` over counter `id` = 0 … count − 1. */
  | { readonly kind: 'sum'; readonly id: number; readonly count: Poly; readonly of: Poly; readonly key: string };

export interface Term {
  readonly coef: bigint;
  readonly atoms: readonly Atom[]; // sorted by key, repeated for powers
}

/** A closed interval of integers; null is unbounded. */
export type Range = readonly [low: bigint | null, high: bigint | null];

export const ARGUMENT_MAX = (1n << 31n) - 1n;

/** Terms that are written down somewhere. */
interface Written {
  /** All that have no such factor. */
  without(zero: (a: Atom) => boolean): readonly Term[];
}

export class Poly {
  #terms: ReadonlyMap<string, Term> | undefined;
  #list: readonly Term[] | undefined;
  readonly #written: Written | undefined;
  #key: string | undefined;
  #range: Range | undefined;
  #constant: bigint | null | undefined;
  #hasFree: boolean | undefined;

  /** From terms by the keys of their atoms; or from terms that are written down somewhere and read when they are asked for. */
  constructor(terms: ReadonlyMap<string, Term> | Written) {
    if ('without' in terms) this.#written = terms;
    else this.#terms = terms;
  }
  get terms(): ReadonlyMap<string, Term> {
    return (this.#terms ??= new Map(this.list.map(t => [t.atoms.map(a => a.key).join('*'), t])));
  }
  /** The same without the keys, which cost more than all the rest. */
  get list(): readonly Term[] {
    return (this.#list ??= this.#written?.without(() => false) ?? [...this.terms.values()]);
  }
  /** Those that are not 0, when such atoms are; or more: of terms that are written down the others are not even read. */
  without(zero: (a: Atom) => boolean): readonly Term[] {
    return this.#list ?? this.#written?.without(zero) ?? this.list;
  }
  get key(): string {
    return (this.#key ??= [...this.terms]
      .map(([k, t]) => `${t.coef}${k}`)
      .sort()
      .join('+'));
  }
  get range(): Range {
    return (this.#range ??= rangeOf(this));
  }
  /** The value when it has no unknowns, else null. */
  get constant(): bigint | null {
    return this.#constant === undefined ? (this.#constant = this.#constantOf()) : this.#constant;
  }
  #constantOf(): bigint | null {
    const { size } = this.#terms ?? { size: this.list.length };
    if (size !== 1) return size === 0 ? 0n : null;
    const only = this.#terms === undefined ? this.list[0] : this.#terms.get('');
    return only?.atoms.length === 0 ? only.coef : null;
  }
  /** Whether a choice is left in it, at any depth. */
  get hasFree(): boolean {
    return (this.#hasFree ??= this.list.some(t => t.atoms.some(isOpen)));
  }
  equals(other: Poly): boolean {
    return this === other || this.key === other.key;
  }
  plus(other: Poly, times = 1n): Poly {
    if (other.terms.size === 0) return this;
    const terms = new Map(this.terms);
    for (const [key, { coef, atoms }] of other.terms) accumulate(terms, key, coef * times, atoms);
    return new Poly(terms);
  }
  minus(other: Poly): Poly {
    return this.plus(other, -1n);
  }
  scaled(by: bigint): Poly {
    return by === 1n ? this : ZERO.plus(this, by);
  }
  times(other: Poly): Poly {
    const c = other.constant;
    if (c !== null) return c === 0n ? ZERO : this.scaled(c);
    const terms = new Map<string, Term>();
    for (const a of this.terms.values())
      for (const b of other.terms.values()) {
        const atoms = product(a.atoms, b.atoms);
        if (atoms !== null) accumulate(terms, atoms.map(x => x.key).join('*'), a.coef * b.coef, atoms);
      }
    return new Poly(terms);
  }
  toString(): string {
    return print(this);
  }
}

/** Σ factor · expression, gathered. */
export class Sum {
  #known = 0n;
  #terms: Map<string, Term> | null = null;

  add(p: Poly, factor: bigint): void {
    const c = p.constant;
    if (c !== null) {
      if (c !== 0n) this.#known += c * factor;
      return;
    }
    this.#terms ??= new Map();
    for (const [key, { coef, atoms }] of p.terms) accumulate(this.#terms, key, coef * factor, atoms);
  }
  addNumber(value: bigint): void {
    this.#known += value;
  }
  /** The sum so far; nothing is to be added to it afterwards. */
  total(): Poly {
    if (this.#terms === null) return constant(this.#known);
    accumulate(this.#terms, '', this.#known, []);
    return new Poly(this.#terms);
  }
}

/** Σ factor · expression. */
export function combine(polys: readonly Poly[], factors: readonly number[]): Poly {
  const sum = new Sum();
  polys.forEach((p, i) => {
    const factor = factors[i] ?? 0;
    if (factor !== 0 && p !== ZERO) sum.add(p, BigInt(factor));
  });
  return sum.total();
}

function accumulate(terms: Map<string, Term>, key: string, coef: bigint, atoms: readonly Atom[]): void {
  const sum = coef + (terms.get(key)?.coef ?? 0n);
  if (sum === 0n) terms.delete(key);
  else terms.set(key, { coef: sum, atoms });
}

const isBracket = (a: Atom): boolean => a.kind === 'negative' || a.kind === 'zero' || a.kind === 'free';

/** 0 or 1 and made of brackets only: its products stay as short as it is. */
export function isTruth(p: Poly): boolean {
  const [low, high] = p.range;
  if (low === null || high === null || low < 0n || high > 1n) return false;
  return [...p.terms.values()].every(t => t.atoms.every(isBracket));
}

/** Two brackets that ask one value to be two constants. */
const exclude = (a: Atom, b: Atom): boolean =>
  a.kind === 'zero' && b.kind === 'zero' && (a.of.minus(b.of).constant ?? 0n) !== 0n;

/** Null when the product is 0. */
function product(a: readonly Atom[], b: readonly Atom[]): readonly Atom[] | null {
  if (a.length === 0) return b;
  if (b.length === 0) return a;
  const merged = [...a];
  for (const x of b) {
    if (isBracket(x) && a.some(y => y.key === x.key)) continue; // 1·1 = 1, 0·0 = 0
    if (a.some(y => exclude(x, y))) return null;
    merged.push(x);
  }
  return merged.sort((x, y) => (x.key < y.key ? -1 : x.key > y.key ? 1 : 0));
}

// ── Constructors ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export const ZERO = new Poly(new Map());
export const constant = (value: bigint | number): Poly =>
  BigInt(value) === 0n ? ZERO : new Poly(new Map([['', { coef: BigInt(value), atoms: [] }]]));
export const ONE = constant(1);
const ofAtom = (atom: Atom): Poly => new Poly(new Map([[atom.key, { coef: 1n, atoms: [atom] }]]));

/** A polynomial from terms: nothing is simplified. */
export function fromTerms(terms: readonly (readonly [coef: bigint, atoms: readonly Atom[]])[]): Poly {
  return new Poly({ without: () => terms.map(([coef, atoms]) => ({ coef, atoms })) });
}

/** Atoms as they stand. The functions below simplify and are what expressions are built with. */
export const ATOM = {
  param: (index: number): Atom => ({ kind: 'param', index, key: `p${index}` }),
  counter: (id: number): Atom => ({ kind: 'counter', id, key: `j${id}` }),
  free: (id: number): Atom => ({ kind: 'free', id, key: `u${id}` }),
  local: (id: number): Atom => ({ kind: 'local', id, key: `l${id}` }),
  entry: (of: Poly): Atom => ({ kind: 'entry', of, key: `@(${of.key})` }),
  floor: (of: Poly, by: Poly): Atom => ({ kind: 'floor', of, by, key: `⌊${of.key}/${by.key}⌋` }),
  max: (of: Poly): Atom => ({ kind: 'max', of, key: `max(${of.key})` }),
  negative: (of: Poly): Atom => ({ kind: 'negative', of, key: `[${of.key}<0]` }),
  zero: (of: Poly): Atom => ({ kind: 'zero', of, key: `[${of.key}=0]` }),
  sum: (id: number, count: Poly, of: Poly): Atom => ({
    kind: 'sum',
    id,
    count,
    of,
    key: `Σ${id}(${count.key})(${of.key})`,
  }),
} as const;

export const param = (index: number): Poly => ofAtom(ATOM.param(index));
export const counter = (id: number): Poly => ofAtom(ATOM.counter(id));
export const free = (id: number): Poly => ofAtom(ATOM.free(id));
export const local = (id: number): Poly => ofAtom(ATOM.local(id));
export const loaded = (at: Poly): Poly => ofAtom(ATOM.entry(at));

const abs = (x: bigint): bigint => (x < 0n ? -x : x);
const gcd = (a: bigint, b: bigint): bigint => (b === 0n ? abs(a) : gcd(b, a % b));
const floorDiv = (a: bigint, b: bigint): bigint => (a - (((a % b) + b) % b)) / b; // b > 0

/** p = unit · g + d: the polynomial without its constant divided by the greatest common divisor of its coefficients. */
function primitive(p: Poly): { unit: Poly; g: bigint; d: bigint } {
  let g = 0n;
  for (const [key, t] of p.terms) if (key !== '') g = gcd(g, t.coef);
  if (g === 0n) g = 1n;
  const unit = new Map<string, Term>();
  for (const [key, t] of p.terms) if (key !== '') unit.set(key, { coef: t.coef / g, atoms: t.atoms });
  return { unit: new Poly(unit), g, d: p.terms.get('')?.coef ?? 0n };
}

/** ⌊of / by⌋; `by` is positive wherever the value is used (the caller keeps a guard when that is not evident). */
export function floor(of: Poly, by: Poly): Poly {
  const c = by.constant;
  if (of.terms.size === 0) return ZERO;
  if (c === null || c <= 0n) return ofAtom(ATOM.floor(of, by)); // by 0: on ways that are not taken
  if (c === 1n) return of;
  // Multiples of c come out in front; what remains may lie in 0 … c − 1.
  const whole = new Map<string, Term>();
  const rest = new Map<string, Term>();
  for (const [key, t] of of.terms) {
    const q = key === '' ? floorDiv(t.coef, c) : t.coef % c === 0n ? t.coef / c : 0n;
    accumulate(whole, key, q, t.atoms);
    accumulate(rest, key, t.coef - q * c, t.atoms);
  }
  const front = new Poly(whole);
  const remainder = new Poly(rest);
  const [low, high] = remainder.range;
  if (low !== null && high !== null && floorDiv(low, c) === floorDiv(high, c))
    return front.plus(constant(floorDiv(low, c)));
  const { unit, g, d } = primitive(remainder);
  const common = gcd(g, c);
  const reduced = unit.scaled(g / common).plus(constant(floorDiv(d, common)));
  const [only] = reduced.terms.values();
  const inner = reduced.terms.size === 1 && only?.coef === 1n && only.atoms.length === 1 ? only.atoms[0] : undefined;
  if (inner?.kind === 'floor' && inner.by.constant !== null)
    return front.plus(floor(inner.of, inner.by.scaled(c / common)));
  return front.plus(ofFloor(reduced, constant(c / common)));
}
const ofFloor = (of: Poly, by: Poly): Poly => (by.constant === 1n ? of : ofAtom(ATOM.floor(of, by)));

/** max(0, of). */
export function positive(of: Poly): Poly {
  const [low, high] = of.range;
  if (low !== null && low >= 0n) return of;
  if (high !== null && high <= 0n) return ZERO;
  return ofAtom(ATOM.max(of));
}

/** 1 where of < 0, else 0. */
export function isNegative(of: Poly): Poly {
  const [low, high] = of.range;
  if (high !== null && high < 0n) return ONE;
  if (low !== null && low >= 0n) return ZERO;
  if (low === -1n && high === 0n) return ONE.minus(isZero(of));
  const { unit, g, d } = primitive(of);
  const reduced = unit.plus(constant(floorDiv(d, g)));
  return ofAtom(ATOM.negative(reduced));
}

/** 1 where of = 0, else 0. */
export function isZero(of: Poly): Poly {
  const [low, high] = of.range;
  if (low === 0n && high === 0n) return ONE;
  if ((high !== null && high < 0n) || (low !== null && low > 0n)) return ZERO;
  if (isTruth(of)) return ONE.minus(of);
  if (low === -1n && isTruth(of.scaled(-1n))) return ONE.plus(of);
  if ([...of.terms.values()].every(t => t.coef > 0n && t.atoms.length === 1 && t.atoms.every(isBracket)))
    return atomsOf(of).reduce((all, a) => all.times(ONE.minus(ofAtom(a))), ONE); // a sum of brackets is 0 where each of them is
  const { unit, g, d } = primitive(of);
  if (d % g !== 0n) return ZERO;
  const reduced = unit.plus(constant(d / g));
  const [lead] = [...reduced.terms].filter(([key]) => key !== '').sort(([a], [b]) => (a < b ? -1 : 1));
  const signed = lead !== undefined && lead[1].coef < 0n ? reduced.scaled(-1n) : reduced;
  return ofAtom(ATOM.zero(signed));
}

/** Σ of `of` over the counter = 0 … count − 1; count ≥ 0. */
export function sum(id: number, count: Poly, of: Poly): Poly {
  const isCounter = (a: Atom): boolean => a.kind === 'counter' && a.id === id;
  let total = ZERO;
  const rest = new Map<string, Term>();
  for (const [key, t] of of.terms) {
    const term = new Poly(new Map([[key, t]]));
    if (!mentions(term, isCounter)) total = total.plus(term.times(count));
    else if (
      t.atoms.filter(isCounter).length === 1 &&
      !t.atoms.some(a => !isCounter(a) && atomMentions(a, isCounter))
    ) {
      const others = t.atoms.filter(a => !isCounter(a));
      const coef = new Poly(new Map([[others.map(a => a.key).join('*'), { coef: t.coef, atoms: others }]]));
      total = total.plus(coef.times(floor(count.times(count.minus(ONE)), constant(2)))); // 0 + 1 + … + (count − 1)
    } else {
      const brackets = t.atoms.filter(a => atomMentions(a, isCounter));
      const holds = holdsIn(brackets, id, count);
      if (holds === null) rest.set(key, t);
      else total = total.plus(fromTerms([[t.coef, t.atoms.filter(a => !brackets.includes(a))]]).times(holds));
    }
  }
  if (rest.size === 0 || count.constant === 0n) return total;
  const open = new Poly(rest);
  return total.plus(ofAtom(ATOM.sum(id, count, open)));
}

/** For how many values of the counter, 0 … count − 1, all of these hold; null where they are not brackets over lines of constant slope. */
function holdsIn(brackets: readonly Atom[], id: number, count: Poly): Poly | null {
  let [from, to] = [ZERO, count];
  for (const b of brackets) {
    const line = b.kind === 'negative' ? split(b.of, `j${id}`) : null;
    const slope = line?.coefficient.constant ?? null;
    if (line === null || slope === null || mentions(line.rest, a => a.kind === 'counter' && a.id === id)) return null;
    // Falling, it holds from a first value on; rising, before a last one.
    if (slope < 0n) from = largerOf(from, floor(line.rest, constant(-slope)).plus(ONE));
    else to = smallerOf(to, floor(line.rest.scaled(-1n).minus(ONE), constant(slope)).plus(ONE));
  }
  return positive(to.minus(from));
}
const largerOf = (a: Poly, b: Poly): Poly => a.plus(positive(b.minus(a)));
const smallerOf = (a: Poly, b: Poly): Poly => a.minus(positive(a.minus(b)));

// ── Inspection and substitution ──────────────────────────────────────────────────────────────────────────────────────────────────

/** The expressions that an atom is made of. */
export const partsOf = (a: Atom): readonly Poly[] => {
  switch (a.kind) {
    case 'floor':
      return [a.of, a.by];
    case 'entry':
    case 'max':
    case 'negative':
    case 'zero':
      return [a.of];
    case 'sum':
      return [a.count, a.of];
    default:
      return [];
  }
};
export const atomMentions = (a: Atom, test: (a: Atom) => boolean): boolean =>
  test(a) || partsOf(a).some(p => mentions(p, test));

/** Whether an atom that passes the test occurs anywhere in `p`. */
export function mentions(p: Poly, test: (a: Atom) => boolean): boolean {
  for (const t of p.list) if (t.atoms.some(a => atomMentions(a, test))) return true;
  return false;
}

/** The atoms of the top level, each once. */
export function atomsOf(p: Poly): Atom[] {
  const found = new Map<string, Atom>();
  for (const t of p.terms.values()) for (const a of t.atoms) found.set(a.key, a);
  return [...found.values()];
}

/** Replaces atoms, at every depth, for which `by` has an answer. */
export function substitute(p: Poly, by: (a: Atom) => Poly | undefined): Poly {
  const cache = new Map<string, Poly | undefined>();
  const image = (a: Atom): Poly | undefined => {
    if (cache.has(a.key)) return cache.get(a.key);
    let result = by(a);
    if (result === undefined) {
      const old = partsOf(a);
      const [x, y] = old.map(q => substitute(q, by));
      if (x !== undefined && (x !== old[0] || (y !== undefined && y !== old[1]))) result = rebuild(a, x, y);
    }
    cache.set(a.key, result);
    return result;
  };
  let changed = false;
  for (const t of p.terms.values()) for (const a of t.atoms) if (image(a) !== undefined) changed = true;
  if (!changed) return p;
  let total = ZERO;
  for (const t of p.terms.values()) {
    let term = constant(t.coef);
    for (const a of t.atoms) term = term.times(image(a) ?? ofAtom(a));
    total = total.plus(term);
  }
  return total;
}

function rebuild(a: Atom, x: Poly, y: Poly | undefined): Poly {
  switch (a.kind) {
    case 'floor':
      return floor(x, y ?? a.by);
    case 'entry':
      return loaded(x);
    case 'max':
      return positive(x);
    case 'negative':
      return isNegative(x);
    case 'zero':
      return isZero(x);
    case 'sum':
      return sum(a.id, x, y ?? a.of);
    default:
      return ofAtom(a);
  }
}

/** p = coefficient · atom + rest, both without the atom at top level; null where it occurs squared. */
export function split(p: Poly, key: string): { coefficient: Poly; rest: Poly } | null {
  const coefficient = new Map<string, Term>();
  const rest = new Map<string, Term>();
  for (const [k, t] of p.terms) {
    const others = t.atoms.filter(a => a.key !== key);
    if (others.length === t.atoms.length) rest.set(k, t);
    else if (others.length === t.atoms.length - 1)
      accumulate(coefficient, others.map(a => a.key).join('*'), t.coef, others);
    else return null;
  }
  return { coefficient: new Poly(coefficient), rest: new Poly(rest) };
}

const add = (a: bigint | null, b: bigint | null): bigint | null => (a === null || b === null ? null : a + b);

function rangeOf(p: Poly): Range {
  let low: bigint | null = 0n;
  let high: bigint | null = 0n;
  for (const t of p.terms.values()) {
    let r: Range = [t.coef, t.coef];
    for (const a of t.atoms) r = timesRange(r, atomRange(a));
    low = add(low, r[0]);
    high = add(high, r[1]);
  }
  // e − c⌊e/c⌋ lies in 0 … c − 1, which the sum of the terms' ranges does not see.
  for (const t of p.terms.values()) {
    const f = t.atoms.length === 1 ? t.atoms[0] : undefined;
    const c = f?.kind === 'floor' ? f.by.constant : null;
    if (f?.kind !== 'floor' || c === null || t.coef % c !== 0n) continue;
    const m = -t.coef / c;
    const simpler = p.minus(f.of.scaled(m)).plus(ofAtom(f), m * c);
    if (simpler.terms.size >= p.terms.size) continue;
    const [l, h] = simpler.range;
    const span = m * (c - 1n);
    low = tighter(low, add(l, span < 0n ? span : 0n), true);
    high = tighter(high, add(h, span > 0n ? span : 0n), false);
  }
  // A bracket is 0 everywhere or 1 everywhere: x − [c]·x is never negative when x is not.
  const brackets = atomsOf(p).filter(isBracket);
  const [b] = brackets;
  if (
    b === undefined ||
    p.terms.size < 2 ||
    brackets.length > CASES_MAX ||
    (low !== null && low >= 0n && high !== null)
  )
    return [low, high];
  const parted = split(p, b.key);
  if (parted === null) return [low, high];
  const off = parted.rest.range;
  const apart = [...parted.rest.terms].filter(([, t]) => !t.atoms.some(a => exclude(a, b)));
  const on = new Poly(new Map(apart)).plus(parted.coefficient).range;
  return [tighter(low, hull(off[0], on[0], true), true), tighter(high, hull(off[1], on[1], false), false)];
}
const CASES_MAX = 4;
const hull = (x: bigint | null, y: bigint | null, least: boolean): bigint | null =>
  x === null || y === null ? null : x < y === least ? x : y;
const tighter = (a: bigint | null, b: bigint | null, low: boolean): bigint | null =>
  a === null ? b : b === null ? a : a > b === low ? a : b;

function timesRange([a, b]: Range, [c, d]: Range): Range {
  if (a !== null && c !== null && a >= 0n && c >= 0n) return [a * c, b === null || d === null ? null : b * d];
  if (b !== null && c !== null && b <= 0n && c >= 0n) return [a === null || d === null ? null : a * d, b * c];
  if (a === null || b === null || c === null || d === null) return [null, null];
  const all = [a * c, a * d, b * c, b * d];
  return [all.reduce((x, y) => (x < y ? x : y)), all.reduce((x, y) => (x > y ? x : y))];
}

function atomRange(a: Atom): Range {
  switch (a.kind) {
    case 'param':
      return [0n, ARGUMENT_MAX];
    case 'counter':
      return [0n, null];
    case 'free':
    case 'negative':
    case 'zero':
      return [0n, 1n];
    case 'max':
      return [0n, a.of.range[1]];
    case 'floor': {
      const c = a.by.constant;
      const [low, high] = a.of.range;
      if (c !== null && c <= 0n) return [null, null];
      if (c === null) return [low !== null && low >= 0n ? 0n : null, high !== null && high >= 0n ? high : null];
      return [low === null ? null : floorDiv(low, c), high === null ? null : floorDiv(high, c)];
    }
    case 'sum':
      return [a.of.range[0] !== null && a.of.range[0] >= 0n ? 0n : null, null];
    default:
      return [null, null];
  }
}

/** Whether `p` grows (1) or falls (−1) with a counter, does not contain it (0), or cannot be told (null). */
export function trend(p: Poly, id: number): -1 | 0 | 1 | null {
  const isCounter = (a: Atom): boolean => a.kind === 'counter' && a.id === id;
  if (!mentions(p, isCounter)) return 0;
  const linear = split(p, `j${id}`);
  if (linear !== null && !mentions(linear.coefficient, isCounter) && !mentions(linear.rest, isCounter)) {
    const [low, high] = linear.coefficient.range;
    return low !== null && low >= 0n ? 1 : high !== null && high <= 0n ? -1 : null;
  }
  let result: -1 | 0 | 1 = 0;
  for (const t of p.terms.values()) {
    const [first, ...more] = t.atoms.filter(a => atomMentions(a, isCounter));
    if (first === undefined) continue;
    const sign =
      more.length > 0 || t.atoms.some(a => a !== first && (atomRange(a)[0] ?? -1n) < 0n) ? null : atomTrend(first, id);
    if (sign === null) return null;
    const signed = (t.coef < 0n ? 0 - sign : sign) as -1 | 0 | 1;
    if (result !== 0 && signed !== 0 && signed !== result) return null;
    if (signed !== 0) result = signed;
  }
  return result;
}
function atomTrend(a: Atom, id: number): -1 | 0 | 1 | null {
  if (a.kind === 'counter') return 1;
  if (a.kind === 'max') return trend(a.of, id);
  if (a.kind === 'floor' && trend(a.by, id) === 0) return trend(a.of, id);
  if (a.kind === 'negative') {
    const t = trend(a.of, id);
    return t === null ? null : ((0 - t) as -1 | 0 | 1);
  }
  return null;
}

const isEntry = (a: Atom): boolean => a.kind === 'entry';
export const hasEntry = (p: Poly): boolean => mentions(p, isEntry);

/** An address that begins at an entry of a table, as the entry's own address and the distance from there; null where it does not, or is not plain. */
export function scattered(p: Poly): { readonly table: Poly; readonly distance: Poly } | null {
  const [begins, second] = atomsOf(p).filter(isEntry);
  if (begins?.kind !== 'entry' || second !== undefined) return null;
  const distance = p.minus(ofAtom(begins));
  return hasEntry(distance) || hasEntry(begins.of) ? null : { table: begins.of, distance };
}

const isOpen = (a: Atom): boolean => a.kind === 'free' || partsOf(a).some(p => p.hasFree);

/** The largest or smallest value over all choices of the free atoms, as an expression without them. */
export function extreme(p: Poly, largest: boolean): Poly {
  if (!p.hasFree) return p;
  const open = atomsOf(p).filter(isOpen);
  open.sort((a, b) => order(a) - order(b));
  // What holds free atoms goes first, then one whose coefficient has a sign, whatever the others are.
  for (let i = open.length - 1; i >= 0; i--) {
    const atom = open[i];
    if (atom === undefined) break;
    const parted = split(p, atom.key);
    if (parted === null) throw new RangeError('a free choice is squared');
    const { coefficient, rest } = parted;
    const [min, max] = coefficient.range;
    const sign = min !== null && min >= 0n ? 1 : max !== null && max <= 0n ? -1 : 0;
    const up = sign > 0 === largest;
    if (sign !== 0)
      return extreme(
        rest.plus(coefficient.times(atom.kind !== 'free' ? extremeAtom(atom, up) : up ? ONE : ZERO)),
        largest,
      );
    if (atom.kind === 'free') continue;
    // coefficient · x, bounded by its positive and its negative part apart.
    const [low, high] = [extremeAtom(atom, false), extremeAtom(atom, true)];
    const plus = positive(extreme(coefficient, true));
    const minus = positive(extreme(coefficient, false).scaled(-1n));
    const gain = largest
      ? plus.times(positive(high)).plus(minus.times(positive(low.scaled(-1n))))
      : plus.times(positive(low.scaled(-1n))).plus(minus.times(positive(high)));
    return extreme(rest, largest).plus(gain, largest ? 1n : -1n);
  }
  // The choice made first, both ways: the others depend on it.
  const [first] = open;
  const given = (v: Poly): Poly =>
    extreme(
      substitute(p, a => (a.key === first?.key ? v : undefined)),
      largest,
    );
  const [no, yes] = [given(ZERO), given(ONE)];
  return largest ? no.plus(positive(yes.minus(no))) : no.minus(positive(no.minus(yes)));
}
const order = (a: Atom): number => (a.kind === 'free' ? a.id : Number.MAX_SAFE_INTEGER);

function extremeAtom(a: Atom, largest: boolean): Poly {
  switch (a.kind) {
    case 'max':
      return positive(extreme(a.of, largest));
    case 'negative':
      return isNegative(extreme(a.of, !largest));
    case 'zero':
      return largest ? ONE : ZERO;
    case 'floor':
      if (!a.by.hasFree) return floor(extreme(a.of, largest), a.by);
      break;
    case 'sum':
      if (!a.count.hasFree) return sum(a.id, a.count, extreme(a.of, largest));
      if ((a.of.range[0] ?? -1n) >= 0n) return sum(a.id, extreme(a.count, largest), extreme(a.of, largest));
      break;
  }
  throw new RangeError('a divisor depends on the data');
}

// ── Evaluation and text ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const SUM_MAX = 1n << 20n;

/** The value at integer arguments; a RangeError for sums of more than 2²⁰ terms. Sums that have no closed form are added up: their cost is their count. */
export function evaluate(p: Poly, args: readonly bigint[], counters: Map<number, bigint> = new Map()): bigint {
  let total = 0n;
  for (const t of p.list) {
    let value = t.coef;
    for (const a of t.atoms) {
      if (value === 0n) break; // a bracket that is 0 shields its factors, a division by 0 among them
      value *= evaluateAtom(a, args, counters);
    }
    total += value;
  }
  return total;
}

function evaluateAtom(a: Atom, args: readonly bigint[], counters: Map<number, bigint>): bigint {
  switch (a.kind) {
    case 'param':
      return args[a.index] ?? 0n;
    case 'counter':
      return counters.get(a.id) ?? 0n;
    case 'floor': {
      const by = evaluate(a.by, args, counters);
      return by > 0n ? floorDiv(evaluate(a.of, args, counters), by) : 0n; // where it is used a guard has by ≥ 1
    }
    case 'max': {
      const v = evaluate(a.of, args, counters);
      return v > 0n ? v : 0n;
    }
    case 'negative':
      return evaluate(a.of, args, counters) < 0n ? 1n : 0n;
    case 'zero':
      return evaluate(a.of, args, counters) === 0n ? 1n : 0n;
    case 'sum': {
      const count = evaluate(a.count, args, counters);
      if (count > SUM_MAX) throw new RangeError(`a sum of ${count} terms`);
      let total = 0n;
      for (let j = 0n; j < count; j++) {
        counters.set(a.id, j);
        total += evaluate(a.of, args, counters);
      }
      counters.delete(a.id);
      return total;
    }
    default:
      throw new RangeError(`${a.key} has no value`);
  }
}

/** Text with the arguments called `names[i]`, else p0, p1 …: `117·⌊p2/32⌋·⌊p1/4⌋ + 34`. */
export function print(p: Poly, names: readonly string[] = []): string {
  const terms = [...p.terms.values()].sort((a, b) => b.atoms.length - a.atoms.length);
  if (terms.length === 0) return '0';
  return terms
    .map(({ coef, atoms }, i) => {
      const sign = i === 0 ? (coef < 0n ? '−' : '') : coef < 0n ? ' − ' : ' + ';
      const factors = atoms.map(a => printAtom(a, names)).join('·');
      const size = abs(coef);
      return sign + (factors === '' ? `${size}` : size === 1n ? factors : `${size}·${factors}`);
    })
    .join('');
}
function printAtom(a: Atom, names: readonly string[]): string {
  const inside = (p: Poly): string => (p.terms.size > 1 ? `(${print(p, names)})` : print(p, names));
  switch (a.kind) {
    case 'param':
      return names[a.index] ?? a.key;
    case 'floor':
      return `⌊${inside(a.of)}/${inside(a.by)}⌋`;
    case 'max':
      return `max(0, ${print(a.of, names)})`;
    case 'negative':
      return `[${print(a.of, names)} < 0]`;
    case 'zero':
      return `[${print(a.of, names)} = 0]`;
    case 'sum':
      return `Σ(j${a.id} < ${print(a.count, names)}: ${print(a.of, names)})`;
    default:
      return a.key;
  }
}
