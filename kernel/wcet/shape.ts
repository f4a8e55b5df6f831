// One kernel at one shape: its certificate with all that is known put in, priced for a target. What stays open (tokens, position) costs a
// sweep over a few terms, exact in numbers, for all cases together. Instructions are priced by class, memory by operand: the extents that begin at the same
// pointers are one operand, which lies in one region, is so large from its first byte to its last, and is touched in so many lines.

import { isRefusal, refuse } from '../abi/index.ts';
import type { Refusal } from '../abi/index.ts';
import type { Certificate, Extent, Movement } from './certify.ts';
import { PASSES } from './certify.ts';
import { ARGUMENT_MAX, ONE, ZERO, combine, evaluate, extreme, mentions, param } from './poly.ts';
import type { Atom, Poly } from './poly.ts';
import { Specialiser, noteParams, spanOf } from './specialise.ts';
import { Sweep, columnOf, extremeOf, sumOfColumns, valueIn } from './sweep.ts';
import type { Column } from './sweep.ts';
import { linesOf, trafficMilli } from './targets.ts';
import type { MemoryRegion, Target } from './targets.ts';
import { CLASSES, classIndex } from './wasm.ts';

/** What an execution takes: thousandths of a cycle, instructions, bytes. */
export interface Figures {
  readonly compute: number;
  readonly memory: number;
  readonly instructions: number;
  readonly loaded: number;
  readonly stored: number;
  /** Thousandths of a cycle that each of the target's resources is busy at least. */
  readonly busy: readonly number[];
}

/** An i32 of memory when it is known; `open`: it will be given; `data`: only the run will know it. */
export type Word = number | 'open' | 'data';

export interface Setting {
  readonly target: Target;
  /** Thousandths of a cycle by class, at most. */
  readonly prices: readonly number[];
  readonly regionOf: (address: number) => MemoryRegion;
  /** Arguments; null stays open. */
  readonly args: readonly (number | null)[];
  /** Of the certificate's loop without end: none, unless it says so; null stays open. */
  readonly passes?: number | null;
  readonly read: (address: number) => Word;
  /** Between which values what is open may lie, by unknown: the certificate must hold in all of these cases. */
  readonly cases: readonly Case[];
}
export type Case = (index: number) => readonly [low: number, high: number];

const LOADED = classIndex('bytes_loaded');
const STORED = classIndex('bytes_stored');
const indexOf = (a: Atom): number => (a.kind === 'param' ? a.index : -1);

/** Bytes moved in runs of one length. */
interface Runs {
  readonly moved: Poly;
  readonly run: Poly;
  readonly width: number;
}
interface Operand {
  readonly region: MemoryRegion | null; // null: a pointer is data
  readonly pointers: readonly number[];
  readonly at: number; // where they point
  readonly extents: readonly Extent[];
  readonly runs: readonly Runs[];
  /** Where it lies: in one range, or scattered over pieces. */
  readonly parts: readonly Part[];
}
interface Part {
  readonly pieces: Poly;
  /** The first byte of a piece is the least of these, its end the largest of those. */
  readonly froms: readonly Poly[];
  readonly tos: readonly Poly[];
}

/** Bytes from … to − 1 behind where the pointers, added up, point: each is read. */
export interface Read {
  readonly pointers: readonly number[];
  readonly from: number;
  readonly to: number;
}

/** The values of a certificate's unknowns; undefined: open or data. */
export interface Unknowns {
  readonly values: readonly (bigint | undefined)[];
  readonly data: ReadonlySet<number>;
  /** Open words. */
  readonly open: readonly number[];
}

export function unknownsOf(c: Certificate, s: Setting): Unknowns | Refusal {
  const values: (bigint | undefined)[] = s.args.map(a => (a === null ? undefined : BigInt(a)));
  const data = new Set<number>();
  const open: number[] = [];
  values[PASSES] = s.passes === null ? undefined : BigInt(s.passes ?? 0);
  const known = Array.from(values, v => v ?? 0n);
  for (const w of c.words) {
    const hidden = mentions(w.address, a => a.kind === 'param' && values[a.index] === undefined);
    const word = hidden ? 'data' : s.read(Number(evaluate(w.address, known)));
    if (word === 'data') data.add(w.param);
    if (word === 'open') open.push(w.param);
    if (typeof word !== 'number') continue;
    if (w.value !== undefined && w.value !== word)
      return refuse('INVAL', 9999, `${c.name}: holds where word ${w.param} is ${w.value}, it is ${word}`);
    if (word < 0 || word > ARGUMENT_MAX)
      return refuse('RANGE', 9999, `${c.name}: word ${w.param} is ${word}, not in 0 … ${ARGUMENT_MAX}`);
    values[w.param] = known[w.param] = BigInt(word);
  }
  return { values, data, open };
}

export class Shape {
  readonly name: string;
  readonly #target: Target;
  readonly #sweep = new Sweep();
  readonly #compute: Poly;
  readonly #instructions: Poly;
  readonly #loaded: Poly;
  readonly #loadedLeast: Poly;
  readonly #stored: Poly;
  readonly #busy: readonly Poly[];
  readonly #operands: readonly Operand[];
  readonly #strays: readonly Movement[];
  readonly #strayRuns: readonly Runs[];
  readonly #strayMilli: number; // a line from the farthest home
  /** Unknowns that the cost depends on, of those that are open. */
  readonly dependsOn: ReadonlySet<number>;
  readonly #openWords: readonly number[];

  static of(c: Certificate, s: Setting): Shape | Refusal {
    const unknowns = unknownsOf(c, s);
    if (isRefusal(unknowns)) return unknowns;
    const { values, data } = unknowns;
    const known = new Specialiser(i => values[i] ?? (data.has(i) ? 'data' : 'open'));
    // Of what only the run will know no more than the certificates' own condition is known.
    const cases = s.cases.map(
      (of): Case =>
        i =>
          data.has(i) ? [0, Number(ARGUMENT_MAX)] : of(i),
    );
    const refusal = outsideDomain(c, known, cases) ?? overwritten(c, known, cases, data);
    if (refusal !== null) return refusal;
    const shape = new Shape(c, s, unknowns, known);
    const blind = [...shape.dependsOn].find(i => data.has(i));
    if (blind !== undefined)
      return refuse('NOTSUP', 9999, `${c.name}: its cost depends on word ${blind}, which is data`);
    return shape;
  }

  private constructor(c: Certificate, s: Setting, { values, data, open }: Unknowns, known: Specialiser) {
    this.name = c.name;
    this.#openWords = open;
    const { target } = s;
    this.#target = target;
    const most = c.most.map(p => extreme(known.of(p), true));
    const least = c.least.map(p => extreme(known.of(p), false));
    const unit = CLASSES.map(cls => (cls.startsWith('bytes_') ? 0 : 1));
    this.#compute = combine(most, s.prices);
    this.#instructions = combine(most, unit);
    this.#loaded = most[LOADED] ?? ZERO;
    this.#loadedLeast = least[LOADED] ?? ZERO;
    this.#stored = most[STORED] ?? ZERO;
    this.#busy = target.lower.map(r => combine(least, r.prices));

    // Extents that begin at the same pointers are one operand. A pointer may be data; what else depends on data may lie anywhere.
    const isData = (a: Atom): boolean => a.kind === 'param' && data.has(a.index);
    const extents = new Map<string, { pointers: readonly number[]; extents: Extent[] }>();
    const settled = (x: Movement): Movement => ({
      store: x.store,
      width: x.width,
      moved: extreme(known.of(x.moved), true),
      run: known.of(x.run),
    });
    const strays = c.strays.map(settled);
    for (const x of c.extents) {
      if (known.of(x.reach).constant === 0n) continue; // most are of other types
      const movement = settled(x);
      if (movement.moved.constant === 0n) continue;
      const pointers = basesOf(x.from);
      const distance = pointers.reduce((rest, i) => rest.minus(param(i)), x.from);
      if (mentions(distance, isData)) {
        strays.push(movement);
        continue;
      }
      const operand = extents.get(pointers.join()) ?? { pointers, extents: [] };
      extents.set(pointers.join(), operand);
      const scatter = x.scatter && { table: known.of(x.scatter.table), pieces: known.of(x.scatter.pieces) };
      operand.extents.push({ ...movement, reach: x.reach, from: known.of(x.from), to: known.of(x.to), scatter });
    }
    this.#operands = [...extents.values()].map(o => {
      const at = o.pointers.reduce((sum, i) => sum + Number(values[i] ?? 0n), 0);
      return {
        ...o,
        at,
        region: o.pointers.some(i => data.has(i)) ? null : s.regionOf(at),
        runs: runsOf(o.extents),
        parts: partsOf(o.extents),
      };
    });
    this.#strays = strays;
    this.#strayRuns = runsOf(strays);
    this.#strayMilli = Math.max(...Object.values(target.home).map(home => target.levels[home]?.lineUpper ?? 0));

    const used = new Set<number>();
    const seen = new Set<Poly>();
    const note = (p: Poly): void => noteParams(p, used, seen);
    for (const p of [this.#compute, this.#instructions, this.#loaded, this.#stored, ...this.#busy]) note(p);
    for (const o of this.#operands) {
      const first = o.extents[0]?.from ?? ZERO;
      for (const { from, to, moved, run, scatter } of o.extents)
        for (const p of [from.minus(first), to.minus(first), moved, run, scatter?.pieces ?? ZERO]) note(p);
    }
    for (const x of strays) for (const p of [x.moved, x.run]) note(p);
    this.dependsOn = used;
  }

  /** Whether all that was computed so far was exact; where it was not, no figure holds. */
  get exact(): boolean {
    return this.#sweep.exact;
  }

  /** Gives an open unknown its value in each case. */
  set(index: number, values: Column): void {
    this.#sweep.set(index, values);
  }

  /** Whether open words matter. */
  get varies(): boolean {
    return this.#openWords.some(i => this.dependsOn.has(i));
  }

  /** Gives every open word its value. */
  setWords(value: number): void {
    for (const i of this.#openWords) this.#sweep.set(i, value);
  }

  /** For each of so many cases. */
  figures(cases: number): Figures[] {
    const compute = this.#sweep.of(this.#compute);
    const instructions = this.#sweep.of(this.#instructions);
    const loaded = this.#sweep.of(this.#loaded);
    const stored = this.#sweep.of(this.#stored);
    const busy = this.#busy.map(p => this.#sweep.of(p));
    const memory = this.#memory();
    return Array.from({ length: cases }, (_, i) => ({
      compute: valueIn(compute, i),
      memory: valueIn(memory, i),
      instructions: valueIn(instructions, i),
      loaded: valueIn(loaded, i),
      stored: valueIn(stored, i),
      busy: busy.map(b => valueIn(b, i)),
    }));
  }

  #memory(): Column {
    const strays = this.#lines(this.#strayRuns);
    return sumOfColumns([
      ...this.#operands.map(o => this.#trafficOf(o)),
      columnOf([strays], i => valueIn(strays, i) * this.#strayMilli),
    ]);
  }

  #trafficOf({ region, runs, parts }: Operand): Column {
    const lines = this.#lines(runs);
    if (lines === 0) return 0;
    const hulls = parts.map(part => this.#hullOf(part));
    const hullBytes = sumOfColumns(hulls.map(h => h.bytes));
    const hullLines = sumOfColumns(hulls.map(h => h.lines));
    return columnOf([lines, hullBytes, hullLines], i => {
      const touched = valueIn(lines, i);
      const hull = { hullBytes: valueIn(hullBytes, i), hullLines: valueIn(hullLines, i) };
      return touched === 0 ? 0 : trafficMilli(this.#target, { region, ...hull, lines: touched });
    });
  }

  /** What all pieces of a part have together. */
  #hullOf({ pieces, froms, tos }: Part): { readonly bytes: Column; readonly lines: Column } {
    const n = this.#sweep.of(pieces);
    const lows = froms.map(p => this.#sweep.of(p));
    const highs = tos.map(p => this.#sweep.of(p));
    const low = extremeOf(lows, Math.min);
    const high = extremeOf(highs, Math.max);
    const bytes = columnOf([low, high], i => Math.max(0, valueIn(high, i) - valueIn(low, i)));
    return {
      bytes: columnOf([n, bytes], i => valueIn(n, i) * valueIn(bytes, i)),
      lines: columnOf([n, bytes], i => {
        const each = valueIn(bytes, i);
        return valueIn(n, i) * linesOf(this.#target, each, each, 1);
      }),
    };
  }

  #lines(all: readonly Runs[]): Column {
    return sumOfColumns(
      all.map(({ moved, run, width }) => {
        const [bytes, length] = [this.#sweep.of(moved), this.#sweep.of(run)];
        return columnOf([bytes, length], i =>
          linesOf(this.#target, Math.max(0, valueIn(bytes, i)), Math.max(1, valueIn(length, i)), width),
        );
      }),
    );
  }

  /**
   * Ranges of a region of which every byte is read: gone over in one run from end to end. Only where all that may be loaded is loaded, each
   * part of it having been counted once. For each of so many cases.
   */
  reads(region: MemoryRegion, cases: number): Read[][] {
    const of = (p: Poly): Column => this.#sweep.of(p);
    const operands = this.#operands.filter(o => o.region === region);
    if (operands.length === 0) return Array.from({ length: cases }, () => []);
    const loads = [...this.#strays, ...this.#operands.flatMap(o => o.extents)].filter(x => !x.store);
    const [sum, most, least] = [sumOfColumns(loads.map(x => of(x.moved))), of(this.#loaded), of(this.#loadedLeast)];
    const ranges = operands.flatMap(({ pointers, at, extents }) =>
      extents
        .filter(x => !x.store && x.scatter === null)
        .map(x => ({ pointers, at, moved: of(x.moved), run: of(x.run), from: of(x.from), to: of(x.to) })),
    );
    return Array.from({ length: cases }, (_, i) => {
      if (valueIn(sum, i) !== valueIn(most, i) || valueIn(sum, i) !== valueIn(least, i)) return [];
      return ranges.flatMap(({ pointers, at, moved, run, ...x }) => {
        const [from, to] = [valueIn(x.from, i), valueIn(x.to, i)];
        const whole = valueIn(moved, i) > 0 && valueIn(run, i) >= to - from;
        return whole ? [{ pointers, from: from - at, to: to - at }] : [];
      });
    });
  }
}

/** Movements by the length of their runs and the width of their accesses. */
function runsOf(movements: readonly Movement[]): Runs[] {
  const alike = new Map<string, Runs>();
  for (const { moved, run, width } of movements) {
    const key = `${width} ${run.key}`;
    alike.set(key, { run, width, moved: moved.plus(alike.get(key)?.moved ?? ZERO) });
  }
  return [...alike.values()];
}

/** Extents scattered over the same pieces are one part, those that are not scattered another. */
function partsOf(extents: readonly Extent[]): Part[] {
  const alike = new Map<string, { pieces: Poly; extents: Extent[] }>();
  for (const x of extents) {
    const key = x.scatter === null ? '' : `${x.scatter.table.key} × ${x.scatter.pieces.key}`;
    const part = alike.get(key) ?? { pieces: x.scatter?.pieces ?? ONE, extents: [] };
    alike.set(key, part);
    part.extents.push(x);
  }
  return [...alike.values()].map(({ pieces, extents: own }) => ({
    pieces,
    froms: ends(
      own.map(x => x.from),
      false,
    ),
    tos: ends(
      own.map(x => x.to),
      true,
    ),
  }));
}

/** Of values that differ by a constant the largest (or the smallest). */
function ends(values: readonly Poly[], largest: boolean): Poly[] {
  const kept: Poly[] = [];
  for (const v of values) {
    const n = kept.findIndex(k => k.minus(v).constant !== null);
    const beyond = n >= 0 && ((kept[n] ?? v).minus(v).constant ?? 0n) < 0n === largest;
    if (n < 0) kept.push(v);
    else if (beyond) kept[n] = v;
  }
  return kept;
}

/** Unknowns that are pointers: extents begin at them. */
function pointersOf(c: Certificate): Set<number> {
  return new Set(c.extents.flatMap(x => basesOf(x.from)));
}
/** Unknowns that are added up as they stand. */
const basesOf = (p: Poly): number[] =>
  p.list.flatMap(t => (t.coef === 1n && t.atoms.length === 1 ? t.atoms.map(indexOf).filter(i => i >= 0) : []));

/** What of a certificate's unknowns its cost can depend on. */
export interface Dependence {
  readonly pointers: ReadonlySet<number>;
  /** Where operands begin: pointers to be added up. */
  readonly operands: readonly (readonly number[])[];
  /** Unknowns that instructions or bytes depend on. */
  readonly counted: ReadonlySet<number>;
}
const dependences = new WeakMap<Certificate, Dependence>();
/** The certificate, of which that much is known already. */
export function depending(known: Dependence, c: Certificate): Certificate {
  dependences.set(c, known);
  return c;
}
export function dependenceOf(c: Certificate): Dependence {
  const known = dependences.get(c);
  if (known !== undefined) return known;
  const operands = new Map<string, number[]>();
  for (const x of c.extents) operands.set(basesOf(x.from).join('+'), basesOf(x.from));
  const counted = new Set<number>();
  const seen = new Set<Poly>();
  for (const p of [...c.least, ...c.most, ...c.extents.flatMap(x => [x.moved, x.run]), ...c.strays.map(x => x.moved)])
    noteParams(p, counted, seen);
  const found = { pointers: pointersOf(c), operands: [...operands.values()], counted };
  dependences.set(c, found);
  return found;
}

/** Between which values an expression lies, in all cases. */
function spanIn(p: Poly, cases: readonly Case[]): readonly [low: number, high: number] {
  if (p.constant !== null) return [Number(p.constant), Number(p.constant)];
  const spans = cases.map(of => spanOf(p, of));
  return [Math.min(...spans.map(x => x[0])), Math.max(...spans.map(x => x[1]))];
}

/** Where the certificate does not hold in all cases, by name. */
function outsideDomain(c: Certificate, known: Specialiser, cases: readonly Case[]): Refusal | null {
  for (const g of c.domain) {
    if (known.of(g.reach).constant === 0n) continue;
    const [low, high] = spanIn(known.of(g.value), cases);
    if (low < Number(g.low) || high > Number(g.high))
      return refuse(
        'RANGE',
        9999,
        `${c.name}: ${low} … ${high} is not in ${g.low} … ${g.high}, outside the certificate's domain`,
      );
  }
  return null;
}

/** A word that the cost depends on must stay as it was. */
function overwritten(
  c: Certificate,
  known: Specialiser,
  cases: readonly Case[],
  data: ReadonlySet<number>,
): Refusal | null {
  const relied = c.words.filter(w => !data.has(w.param));
  const addresses = relied.flatMap(w => known.of(w.address).constant ?? []).map(Number);
  for (const x of c.extents) {
    if (!x.store || x.scatter !== null || known.of(x.reach).constant === 0n) continue;
    if (known.of(x.moved).constant === 0n) continue;
    const [[from], [, to]] = [spanIn(known.of(x.from), cases), spanIn(known.of(x.to), cases)];
    const at = addresses.find(address => from < address + 4 && address < to);
    if (at !== undefined)
      return refuse('RANGE', 9999, `${c.name}: may overwrite the word at ${at} that its cost depends on`);
  }
  return null;
}
