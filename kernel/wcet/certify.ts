// The certifier: walks the structured control flow of a compiled function once, symbolically, and says how often every class of instruction
// runs, as expressions in the function's i32 arguments. Locals hold expressions; a loop's induction variables are the locals that every
// back edge moves by the same amount, and its trip count follows from the exit test that such a variable governs. Conditions on arguments
// become brackets and stay exact; conditions on data become free choices of 0 or 1, and the count an interval. Calls are walked in place.
// Nothing is taken on trust: what cannot be derived is refused by function, loop and reason. The idea is Cousot's abstract interpretation
// with the trip counts of compilers' scalar evolution; free choices are maximised as in IPET, without a solver because flow is structured.

import {
  ONE,
  ZERO,
  ARGUMENT_MAX,
  atomsOf,
  constant,
  counter,
  extreme,
  floor,
  free,
  hasEntry,
  isNegative,
  isTruth,
  isZero,
  loaded,
  local,
  mentions,
  param,
  positive,
  scattered,
  split,
  substitute,
  sum,
  trend,
} from './poly.ts';
import type { Atom, Poly } from './poly.ts';
import { CLASSES, I32, OP, classIndex } from './wasm.ts';
import type { FunctionBody, Instruction, Module } from './wasm.ts';

/** Holds wherever `reach` is not 0: low ≤ value ≤ high. Outside of its domain a certificate says nothing. */
export interface Guard {
  readonly reach: Poly;
  readonly value: Poly;
  readonly low: bigint;
  readonly high: bigint;
}

/**
 * What accesses move in all, repetitions included, at most. They go over memory in runs: contiguous ranges of `run` bytes or more, each
 * gone over from one end to the other before the next. So they touch no more lines than moved / run runs have.
 */
export interface Movement {
  readonly store: boolean;
  readonly moved: Poly;
  readonly run: Poly;
  /** Bytes of the narrowest access. */
  readonly width: number;
}

/** `pieces` i32 of memory from address `table` on, none of which the function writes: distances, as a page table's or a block table's. */
export interface Scatter {
  readonly table: Poly;
  readonly pieces: Poly;
}

/**
 * Bytes from ≤ address < to are read or written, where `reach` is not 0. With a scatter there are as many such ranges as it has pieces, each
 * that much further on: what is known of them is how many and how long they are, not where.
 */
export interface Extent extends Movement {
  readonly reach: Poly;
  readonly from: Poly;
  readonly to: Poly;
  readonly scatter: Scatter | null;
}

export interface Certificate {
  readonly name: string;
  readonly index: number;
  readonly params: number;
  /** Fewest and most of each class (CLASSES), the same object where the count is exact. */
  readonly least: readonly Poly[];
  readonly most: readonly Poly[];
  readonly domain: readonly Guard[];
  readonly extents: readonly Extent[];
  /** What is moved at addresses that depend on data, outside of `extents`. */
  readonly strays: readonly Movement[];
  readonly loops: number;
  /** i32 words of memory that counts depend on, read at `address`: unknown number `param` of the expressions, like an argument. */
  readonly words: readonly Word[];
}

/** No store of the function may touch the word: the certifier refuses where one must, the domain where one would. */
export interface Word {
  readonly param: number;
  readonly address: Poly;
  /** The certificate holds only where the word is this. */
  readonly value?: number;
}

/** Unknowns of expressions: arguments first, then the number of passes, then words. */
export const PASSES = 63;
export const WORD_FIRST = 64;

export interface CertifyOptions {
  /** Words whose value is given: a record's op code, say. */
  readonly given?: readonly { readonly address: Poly; readonly value: number }[];
  /** Functions whose cost is certified apart and left out here. */
  readonly apart?: ReadonlySet<number>;
  /** A loop that only data end goes round as often as unknown PASSES says, and leaves in the pass after: an interpreter's, over its program. */
  readonly passes?: boolean;
}

/** Why a function has no certificate. */
export interface Uncertified {
  readonly name: string;
  readonly index: number;
  readonly reason: string;
}

export const isCertificate = (c: Certificate | Uncertified): c is Certificate => 'least' in c;
export const isExact = (c: Certificate): boolean => c.least.every((p, i) => p.equals(c.most[i] ?? ZERO));

const U32 = 1n << 32n;
const I32_MIN = -(1n << 31n);
const TERMS_MAX = 4000;
const REACH_TERMS_MAX = 256;
const STEPS_MAX = 4_000_000;

const BYTES_LOADED = classIndex('bytes_loaded');
const BYTES_STORED = classIndex('bytes_stored');

class Refused extends Error {}

type Value = Poly | null; // null: not known

interface State {
  readonly reach: Poly; // relative to the head of the loop around, or to the function's entry: 0 or 1 on every run
  readonly locals: readonly Value[];
  readonly stack: readonly Value[];
}

interface Label {
  readonly loop: boolean;
  readonly results: number;
  readonly arrivals: State[];
}

interface Access extends Movement {
  readonly reach: Poly;
  readonly from: Value;
  readonly to: Value;
  readonly scatter: Scatter | null;
}
/** An access whose address is known. */
type Located = Access & { readonly from: Poly; readonly to: Poly };
const isLocated = (a: Access): a is Located => a.from !== null && a.to !== null;

/** What one pass through the body of a loop, or one run of the function, adds up to. */
interface Scope {
  readonly least: Poly[];
  readonly most: Poly[];
  readonly guards: Map<string, Guard>;
  readonly accesses: Map<string, Access>;
}

const newScope = (): Scope => ({
  least: CLASSES.map(() => ZERO),
  most: CLASSES.map(() => ZERO),
  guards: new Map(),
  accesses: new Map(),
});

/** Certifies one function of the module: `index` counts imported and defined functions. */
export function certify(
  module: Module,
  index: number,
  name: string,
  options: CertifyOptions = {},
): Certificate | Uncertified {
  const body = module.bodies[index - module.functionsImported];
  if (body === undefined) return { name, index, reason: 'the function is imported' };
  const walker = new Walker(module, options);
  try {
    walker.invoke(
      body,
      { reach: ONE, locals: [], stack: body.type.params.map((t, i) => (t === I32 ? param(i) : null)) },
      [],
    );
    const { least, most, guards, accesses } = walker.scope;
    const upper = most.map(p => extreme(p, true));
    const lower = least.map((p, i) => {
      const low = extreme(p, false);
      const high = upper[i];
      return high !== undefined && high.equals(low) ? high : low;
    });
    const domain = [...guards.values()];
    const settled = [...accesses.values()].map(a => ({ ...a, moved: extreme(a.moved, true), run: runOf(a) }));
    const extents = extentsOf(settled.filter(isLocated));
    const strays = settled
      .filter(a => !isLocated(a))
      .map(({ store, moved, run, width }) => ({ store, moved, run, width }));
    const words = wordsOf(walker.words, [
      ...lower,
      ...upper,
      ...domain.flatMap(g => [g.reach, g.value]),
      ...extents.flatMap(x => [x.reach, x.from, x.to, x.moved, x.run]),
      ...extents.flatMap(({ scatter }) => (scatter === null ? [] : [scatter.table, scatter.pieces])),
      ...strays.flatMap(x => [x.moved, x.run]),
    ]);
    for (const w of words)
      for (const a of accesses.values()) {
        const located = a.store && a.scatter === null ? a.from : null;
        const distance = located && located.minus(w.address).constant;
        const end = a.to === null ? null : a.to.minus(w.address).constant;
        if (distance !== null && distance < 4n && (end === null ? distance > -16n : end > 0n))
          throw new Refused(`function ${index} overwrites a word that its cost depends on`);
      }
    return {
      name,
      index,
      params: body.type.params.length,
      least: lower,
      most: upper,
      domain,
      extents,
      strays,
      loops: walker.loops,
      words,
    };
  } catch (e) {
    if (e instanceof Refused || e instanceof RangeError) return { name, index, reason: e.message };
    throw e;
  }
}

/** Words whose value is given, those that the expressions mention, and those that addresses of such words mention. */
function wordsOf(all: ReadonlyMap<string, Word>, expressions: readonly Poly[]): Word[] {
  const used = new Map<number, Word>();
  const byParam = new Map([...all.values()].map(w => [w.param, w]));
  for (const w of all.values()) if (w.value !== undefined) used.set(w.param, w);
  const visit = (p: Poly): void =>
    void mentions(p, a => {
      const word = a.kind === 'param' && !used.has(a.index) ? byParam.get(a.index) : undefined;
      if (word !== undefined) {
        used.set(word.param, word);
        visit(word.address);
      }
      return false;
    });
  for (const p of expressions) visit(p);
  return [...used.values()].sort((a, b) => a.param - b.param);
}

/** The run of an access once free choices are settled: at least. */
const runOf = (a: Access): Poly => (a.run.hasFree ? ONE : a.run);

/** Accesses to the fields of one record, at constant distances under one condition, become one extent. */
function extentsOf(accesses: readonly Located[]): Extent[] {
  const extents: Extent[] = [];
  for (const { store, reach, from, to, moved, run, width, scatter } of joinRuns(accesses)) {
    const given = extreme(reach, true);
    const n = extents.findIndex(
      x =>
        x.store === store &&
        sameScatter(x.scatter, scatter) &&
        x.reach.equals(given) &&
        x.run.minus(run).constant !== null &&
        x.from.minus(from).constant !== null &&
        x.to.minus(to).constant !== null,
    );
    const old = extents[n];
    if (old === undefined) extents.push({ store, reach: given, from, to, moved, run, width, scatter });
    else
      extents[n] = {
        ...old,
        from: (old.from.minus(from).constant ?? 0n) > 0n ? from : old.from,
        to: (old.to.minus(to).constant ?? 0n) < 0n ? to : old.to,
        moved: old.moved.plus(moved),
        run: (old.run.minus(run).constant ?? 0n) > 0n ? run : old.run,
        width: Math.min(old.width, width),
      };
  }
  return extents;
}

const sameScatter = (a: Scatter | null, b: Scatter | null): boolean => keyOf(a) === keyOf(b);
const keyOf = (s: Scatter | null): string => (s === null ? '' : `${s.table.key} × ${s.pieces.key}`);

const atLeast = (p: Poly, low: bigint): boolean => (p.range[0] ?? low - 1n) >= low;
/** Gone over in one run; what is scattered over several pieces is not, even where each of them is. */
const isWhole = (a: Located): boolean =>
  a.run.equals(a.to.minus(a.from)) && (a.scatter === null || a.scatter.pieces.equals(ONE));

/** Neighbours that are each gone over in one run and under one condition, loads or stores, are gone over in one run together. */
function joinRuns(accesses: readonly Located[]): Located[] {
  const joined: Located[] = [];
  for (const next of accesses) {
    let access = next;
    for (let n = 0; isWhole(access) && n < joined.length; n++) {
      const other = joined[n];
      const both = other === undefined ? null : (joinTwo(other, access) ?? joinTwo(access, other));
      if (both === null) continue;
      access = both;
      joined.splice(n, 1);
      n = -1; // what is longer now may reach another
    }
    joined.push(access);
  }
  return joined;
}

/** `b` begins within `a` or where it ends. */
function joinTwo(a: Located, b: Located): Located | null {
  if (a.store !== b.store || !a.reach.equals(b.reach) || !isWhole(a) || !sameScatter(a.scatter, b.scatter)) return null;
  if (!atLeast(b.from.minus(a.from), 0n) || !atLeast(a.to.minus(b.from), 0n)) return null;
  const both = { ...a, moved: a.moved.plus(b.moved), width: Math.min(a.width, b.width) };
  if (atLeast(a.to.minus(b.to), 0n)) return both;
  return atLeast(b.to.minus(a.to), 0n) ? { ...both, to: b.to, run: b.to.minus(a.from) } : null;
}

class Walker {
  readonly #module: Module;
  scope = newScope();
  loops = 0;
  #ids = 0; // of counters, free choices and locals
  #steps = 0;
  #probing = false;
  #clobbered: boolean; // a store may have gone anywhere: words read from now on are not those at entry
  #wordsRead = 0;
  /** Pointers that are 0 in every pass of a loop or in none, by the key of their value: `if (bias != 0) bias += 16`. */
  readonly #sticky = new Map<string, Poly>();

  readonly words = new Map<string, Word>();
  readonly #options: CertifyOptions;
  readonly #given: ReadonlyMap<string, number>;

  constructor(module: Module, options: CertifyOptions) {
    this.#module = module;
    this.#options = options;
    this.#clobbered = options.passes === true; // what one pass writes the next one reads
    this.#given = new Map((options.given ?? []).map(g => [g.address.key, g.value]));
  }

  /** Walks a called function in place: arguments on the caller's stack become locals. Returns its results on the stack. */
  invoke(body: FunctionBody, state: State, callers: readonly number[]): State | null {
    if (callers.includes(body.index)) throw new Refused(`function ${body.index} calls itself`);
    const count = body.type.params.length;
    const below = state.stack.slice(0, state.stack.length - count);
    const locals: Value[] = [
      ...state.stack.slice(state.stack.length - count).map(known),
      ...body.locals.map(t => (t === I32 ? ZERO : null)),
    ];
    const root: Label = { loop: false, results: body.type.results.length, arrivals: [] };
    const frame = new Frame(body, [...callers, body.index]);
    const outer = this.scope;
    this.scope = newScope();
    const fall = this.#walk(frame, 0, body.code.length - 1, { reach: ONE, locals, stack: [] }, [root]);
    const { scope } = this;
    this.scope = outer;
    this.#add(scope, state.reach, a => a.kind === 'free');
    const end = join([...(fall === null ? [] : [fall]), ...root.arrivals], root.results);
    return end && { reach: end.reach.times(state.reach), locals: state.locals, stack: [...below, ...end.stack] };
  }

  /** Adds what a part of the code does. The free choices made in it are settled when nothing after it depends on them. */
  #add(scope: Scope, reach: Poly, settled: ((a: Atom) => boolean) | null): void {
    const settles = (p: Poly): boolean => settled !== null && !mentions(p, a => a.kind === 'free' && !settled(a));
    const limit = (p: Poly, largest: boolean): Poly => (settles(p) ? extreme(p, largest) : p);
    CLASSES.forEach((_, cls) => {
      const [low, high] = [scope.least[cls] ?? ZERO, scope.most[cls] ?? ZERO];
      if (high.terms.size === 0) return;
      const most = limit(high, true);
      const least = low === high && most === high ? most : limit(low, false);
      this.#addTo(this.scope.most, cls, reach.times(most));
      this.#addTo(this.scope.least, cls, reach.times(least));
    });
    for (const g of scope.guards.values()) this.#guard(reach.times(g.reach), g.value, g.low, g.high);
    for (const a of scope.accesses.values())
      this.#record({ ...a, reach: reach.times(a.reach), moved: reach.times(limit(a.moved, true)) });
  }
  #addTo(side: Poly[], cls: number, amount: Poly): void {
    const total = (side[cls] ?? ZERO).plus(amount);
    if (total.terms.size > TERMS_MAX) throw new Refused('the control flow has too many cases');
    side[cls] = total;
  }

  #count(reach: Poly, cls: number, n: Poly): void {
    if (this.#probing) return;
    if (reach.terms.size > REACH_TERMS_MAX) throw new Refused('the control flow has too many cases');
    const amount = reach.times(n);
    for (const side of [this.scope.least, this.scope.most]) this.#addTo(side, cls, amount);
  }

  /** Instructions from `from` up to `to`; null when control does not fall out at the end. */
  #walk(frame: Frame, from: number, to: number, entry: State, labels: readonly Label[]): State | null {
    const pending = new Map<number, number>();
    let { reach } = entry;
    let locals = [...entry.locals];
    let stack = [...entry.stack];
    const popTest = (): Value => stack.pop() ?? null;
    const pop = (): Value => known(popTest());
    const here = (weight: Poly = ONE): State => ({
      reach: reach.times(weight),
      locals: [...locals],
      stack: [...stack],
    });
    const flush = (): void => {
      for (const [cls, n] of pending) this.#count(reach, cls, constant(n));
      pending.clear();
    };
    const become = (next: State | null): boolean => {
      if (next === null || next.reach.constant === 0n) return false;
      ({ reach } = next);
      locals = [...next.locals];
      stack = [...next.stack];
      return true;
    };
    for (let i = from; i < to; i++) {
      const ins = frame.at(i);
      const { opcode } = ins;
      if (++this.#steps > STEPS_MAX) throw new Refused('the control flow has too many cases');
      if (opcode.cls >= 0) pending.set(opcode.cls, (pending.get(opcode.cls) ?? 0) + 1);
      switch (opcode.code) {
        case OP.block:
        case OP.loop:
        case OP.if: {
          if (ins.params > 0) throw new Refused(`block with parameters at byte ${ins.at}`);
          const condition = opcode.code === OP.if ? this.#truth(popTest(), reach) : ONE;
          flush();
          const end = frame.end(i);
          const next =
            opcode.code === OP.loop
              ? this.#loop(frame, i, here(), labels)
              : this.#branches(frame, i, end, here(), condition, labels);
          if (!become(next)) return null;
          i = end;
          break;
        }
        case OP.br:
          flush();
          arrive(labels, ins.value, here());
          return null;
        case OP.return:
          flush();
          arrive(labels, labels.length - 1, here());
          return null;
        case OP.unreachable:
          flush();
          return null;
        case OP.br_if: {
          const condition = this.#truth(popTest(), reach);
          flush();
          arrive(labels, ins.value, assume(here(condition), condition));
          const not = ONE.minus(condition);
          if (!become(assume(here(not), not))) return null;
          break;
        }
        case OP.br_table: {
          const index = plain(pop());
          flush();
          ins.labels.forEach((depth, n) => {
            const last = n === ins.labels.length - 1;
            const taken = last ? ONE : index === null ? this.#free() : this.#equals(index, constant(n), reach);
            arrive(labels, depth, assume(here(taken), taken));
            reach = reach.times(ONE.minus(taken));
          });
          return null;
        }
        case OP.call: {
          flush();
          const callee = this.#module.bodies[ins.value - this.#module.functionsImported];
          if (callee === undefined) throw new Refused(`${frame.where} calls imported function ${ins.value}`);
          const apart = this.#options.apart?.has(callee.index) === true;
          if (!become(this.#probing || apart ? skipped(callee, here()) : this.invoke(callee, here(), frame.callers)))
            return null;
          if (apart) this.#clobbered = true;
          break;
        }
        case OP.local_get:
          stack.push(locals[ins.value] ?? null);
          break;
        case OP.local_set:
          locals[ins.value] = pop();
          break;
        case OP.local_tee:
          locals[ins.value] = known(stack.at(-1) ?? null);
          break;
        case OP.i32_const:
          stack.push(constant(ins.value));
          break;
        case OP.select: {
          const condition = pop();
          const [b, a] = [pop(), pop()];
          if (a === null || b === null) stack.push(null);
          else if (a.equals(b)) stack.push(a);
          else if (condition === null) stack.push(null);
          else {
            const c = this.#truth(condition, reach);
            stack.push(c.times(a).plus(ONE.minus(c).times(b)));
          }
          break;
        }
        case OP.memory_copy:
        case OP.memory_fill: {
          const [n, source, to] = [plain(pop()), pop(), pop()];
          if (n === null)
            throw new Refused(`the length of ${opcode.name} at byte ${ins.at} of ${frame.where} depends on data`);
          this.#guard(reach, n, 0n, U32 - 1n);
          this.#count(reach, BYTES_STORED, n);
          this.#access(true, reach, to, n, 1);
          if (opcode.code === OP.memory_fill) break;
          this.#count(reach, BYTES_LOADED, n);
          this.#access(false, reach, source, n, 1);
          break;
        }
        default: {
          if (opcode.name === 'call_indirect')
            throw new Refused(`${frame.where} calls through a table at byte ${ins.at}`);
          if (opcode.name === 'memory.grow') throw new Refused(`${frame.where} grows the memory at byte ${ins.at}`);
          const operands = stack.splice(stack.length - opcode.pops, opcode.pops);
          const args = LOGIC.has(opcode.name) ? operands : operands.map(known);
          if (opcode.bytes > 0) {
            const store = opcode.name.includes('.store');
            const cls = store ? BYTES_STORED : BYTES_LOADED;
            pending.set(cls, (pending.get(cls) ?? 0) + opcode.bytes);
            const address = args[0] ?? null;
            const where = address && address.plus(constant(ins.value));
            this.#access(store, reach, where, constant(opcode.bytes), opcode.bytes);
            if (opcode.code === OP.i32_load) {
              stack.push(where && this.#word(where));
              break;
            }
          }
          if (opcode.pushes > 0) stack.push(this.#arithmetic(opcode.name, args, reach));
        }
      }
    }
    flush();
    return { reach, locals, stack };
  }

  /** A block (condition 1) or an if. */
  #branches(
    frame: Frame,
    at: number,
    end: number,
    state: State,
    condition: Poly,
    labels: readonly Label[],
  ): State | null {
    const label: Label = { loop: false, results: frame.at(at).results, arrivals: [] };
    const outer = this.scope;
    const first = this.#ids;
    const stand = labels.map(standIn);
    const inner = [label, ...stand];
    this.scope = newScope();
    const otherwise = frame.body.elseOf.get(at);
    const arm = (from: number, to: number, weight: Poly): void => {
      if (weight.constant === 0n) return;
      const entry = assume({ reach: weight, locals: state.locals, stack: [] }, weight);
      const fall = from < to ? this.#walk(frame, from, to, entry, inner) : entry;
      if (fall !== null) label.arrivals.push(fall);
    };
    arm(at + 1, otherwise === undefined ? end : otherwise + 1, condition); // with `else`, the jump over the other arm
    if (frame.at(at).opcode.code === OP.if)
      arm(otherwise === undefined ? end : otherwise + 1, end, ONE.minus(condition));
    const { scope } = this;
    this.scope = outer;
    const joined = join(label.arrivals, label.results);
    const isOwn = (a: Atom): boolean => a.kind === 'free' && a.id >= first;
    const isLive = (s: State): boolean =>
      mentions(s.reach, isOwn) || s.stack.some(v => v !== null && mentions(v, isOwn));
    const live = stand.some(s => s.arrivals.some(isLive)) || (joined !== null && isLive(joined));
    this.#add(scope, state.reach, live ? null : isOwn);
    stand.forEach((s, i) =>
      labels[i]?.arrivals.push(...s.arrivals.map(a => ({ ...a, reach: a.reach.times(state.reach) }))),
    );
    return joined && { ...joined, reach: joined.reach.times(state.reach), stack: [...state.stack, ...joined.stack] };
  }

  // ── Loops ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A loop; once more where it writes anywhere: what it reads in one pass it may have written in the one before. */
  #loop(frame: Frame, at: number, entry: State, labels: readonly Label[]): State | null {
    if (this.#clobbered) return this.#loopOnce(frame, at, entry, labels);
    const { least, most, guards, accesses } = this.scope;
    const before: Scope = {
      least: [...least],
      most: [...most],
      guards: new Map(guards),
      accesses: new Map(accesses),
    };
    const arrivals = labels.map(l => l.arrivals.length);
    const [loops, wordsRead] = [this.loops, this.#wordsRead];
    const next = this.#loopOnce(frame, at, entry, labels);
    if (!this.#clobbered || this.#wordsRead === wordsRead) return next;
    this.scope = before;
    this.loops = loops;
    labels.forEach((l, i) => l.arrivals.splice(arrivals[i] ?? 0));
    return this.#loopOnce(frame, at, entry, labels);
  }

  #loopOnce(frame: Frame, at: number, entry: State, labels: readonly Label[]): State | null {
    const end = frame.end(at);
    if (!this.#probing) this.loops++;
    const variables = this.#inductionVariables(frame, at, entry, labels);
    const id = this.#ids++;
    const j = counter(id);
    const assigned = frame.assigned(at);
    const locals = entry.locals.map((v, l) => (assigned.has(l) ? (variables.get(l)?.at(j) ?? null) : v));
    const sticky = [...variables.values()].filter(v => v.sticky);
    for (const v of sticky) this.#sticky.set(v.at(j).key, isZero(v.first));
    const { scope, backs, exits } = this.#body(frame, at, end, { reach: ONE, locals, stack: [] }, labels);
    const back = backs.reduce((total, s) => total.plus(s.reach), ZERO);
    const isCounter = (a: Atom): boolean => a.kind === 'counter' && a.id === id;

    const governed =
      back.constant === 0n
        ? { trips: ZERO, key: '', exact: true, going: 1n }
        : this.#trips(frame, at, back, id, entry.reach);
    const { trips, key, exact, going } = governed;
    const chosen = key === PASSES_KEY ? forced(back) : null;
    const declined = chosen && refused(back, chosen);
    const given = (p: Poly, goes: boolean): Poly =>
      chosen === null
        ? substitute(p, a => (a.key === key ? constant(goes ? going : 1n - going) : undefined))
        : substitute(p, a => (goes ? chosen : declined)?.get(a.key));
    const pass = (p: Poly, n: Poly): Poly => substitute(p, a => (isCounter(a) ? n : undefined));
    const leaving = (p: Poly): Poly => pass(given(p, false), trips);
    for (const v of sticky) {
      this.#sticky.delete(v.at(j).key);
      this.#guard(entry.reach, v.at(trips), 0n, U32 - 1n);
    }

    // Counts: passes 0 … trips − 1 go on, pass `trips` leaves. Where data may end the loop early, that is the most, and one pass the least.
    const empty = isZero(trips);
    const whole = (p: Poly, largest: boolean): Poly => {
      const body = extreme(given(p, true), largest);
      return sum(id, trips, body).plus(extreme(leaving(p), largest));
    };
    const once = (p: Poly): Poly => {
      const first = (goes: boolean): Poly => pass(extreme(given(p, goes), false), ZERO);
      return empty.times(first(false)).plus(ONE.minus(empty).times(first(true)));
    };
    CLASSES.forEach((_, cls) => {
      const [low, high] = [scope.least[cls] ?? ZERO, scope.most[cls] ?? ZERO];
      if (high.constant === 0n) return;
      const most = whole(high, true);
      const least = exact || chosen !== null ? (low === high && !high.hasFree ? most : whole(low, false)) : once(low);
      this.scope.most[cls] = (this.scope.most[cls] ?? ZERO).plus(entry.reach.times(most));
      this.scope.least[cls] = (this.scope.least[cls] ?? ZERO).plus(entry.reach.times(least));
    });

    // What must hold in each pass that goes on, first and last, must hold in all: values move one way. The pass that leaves is apart.
    for (const g of scope.guards.values()) {
      const going = entry.reach.times(steady(given(g.reach, true), isCounter));
      if (trend(g.value, id) === null)
        throw new Refused(`a compared value does not move steadily in ${frame.loop(at)}`);
      for (const n of [ZERO, trips]) this.#guard(going, pass(given(g.value, true), n), g.low, g.high);
      this.#guard(entry.reach.times(steady(leaving(g.reach), isCounter)), leaving(g.value), g.low, g.high);
    }
    for (const a of passing([...scope.accesses.values()], p => given(p, true))) {
      const end = (v: Value, largest: boolean): Value => {
        const t = v && trend(v, id);
        return v === null || t === null ? null : pass(v, t > 0 === largest ? trips.minus(ONE) : ZERO);
      };
      const [from, to] = [end(a.from, false), end(a.to, true)];
      const scatter = a.scatter && scatterOver(a.scatter, id, trips);
      const known = from !== null && to !== null && (scatter !== null || a.scatter === null);
      const { run, gapless } = runOver(a, id, trips);
      const reach = entry.reach.times(steady(a.reach, isCounter));
      this.#record({
        store: a.store,
        reach: gapless ? reach : reach.times(ONE.minus(empty)), // a gapless run of no passes is empty by itself
        from: known ? from : null,
        to: known ? to : null,
        moved: entry.reach.times(sum(id, trips, extreme(a.moved, true))),
        run,
        width: a.width,
        scatter: known ? scatter : null,
      });
    }
    for (const a of scope.accesses.values()) {
      const reach = entry.reach.times(steady(leaving(a.reach), isCounter));
      const [from, to] = [a.from && leaving(a.from), a.to && leaving(a.to)];
      const moved = entry.reach.times(extreme(leaving(a.moved), true));
      const scatter = a.scatter && mapScatter(a.scatter, leaving);
      this.#record({ store: a.store, reach, from, to, moved, run: leaving(a.run), width: a.width, scatter });
    }

    // Where control goes from here, and what the locals hold then.
    const living = exits.filter(e => e.states.some(s => s.reach.constant !== 0n));
    let left = entry.reach;
    let fall: State[] = [];
    living.forEach(({ label, states }, n) => {
      let out: State[];
      if (exact)
        out = states.map(s => ({
          reach: entry.reach.times(leaving(s.reach)),
          locals: s.locals.map((v, l) => (assigned.has(l) ? v && leaving(v) : (entry.locals[l] ?? null))),
          stack: s.stack.map(v => v && leaving(v)),
        }));
      else {
        const share = n === living.length - 1 ? left : left.times(this.#free());
        left = left.minus(share);
        out = [{ ...merge(states, v => !mentions(v, isCounter) && !v.hasFree), reach: share }];
      }
      if (label === null) fall = out;
      else for (const s of out) label.arrivals.push({ ...s, stack: [...entry.stack, ...s.stack] });
    });
    const joined = join(fall, frame.at(at).results);
    return joined && { ...joined, stack: [...entry.stack, ...joined.stack] };
  }

  /** Walks a loop's body in a scope of its own. Branches out of it are collected instead of taken. */
  #body(frame: Frame, at: number, end: number, head: State, labels: readonly Label[]): Passed {
    const outer = this.scope;
    this.scope = newScope();
    const self: Label = { loop: true, results: 0, arrivals: [] };
    const stand = labels.map(standIn);
    const fall = this.#walk(frame, at + 1, end, head, [self, ...stand]);
    const { scope } = this;
    this.scope = outer;
    const exits = stand.flatMap((s, i) =>
      s.arrivals.length > 0 ? [{ label: labels[i] ?? null, states: s.arrivals }] : [],
    );
    return {
      scope,
      backs: self.arrivals,
      exits: [...exits, ...(fall === null ? [] : [{ label: null, states: [fall] }])],
    };
  }

  /** Locals that every back edge moves by the same amount: found by one walk with an unknown in each local the body sets. */
  #inductionVariables(frame: Frame, at: number, entry: State, labels: readonly Label[]): Map<number, Variable> {
    const assigned = frame.assigned(at);
    const symbols = new Map<number, Poly>();
    for (const l of assigned) if ((entry.locals[l] ?? null) !== null) symbols.set(l, local(this.#ids++));
    const own = new Set([...symbols.values()].map(s => s.key));
    const locals = entry.locals.map((v, l) => (assigned.has(l) ? (symbols.get(l) ?? null) : v));
    const outer = this.#probing;
    this.#probing = true; // a called function does not change the caller's locals
    const { backs } = this.#body(frame, at, frame.end(at), { reach: ONE, locals, stack: [] }, labels);
    this.#probing = outer;
    const back = join(backs, 0);
    const found = new Map<number, Variable>();
    if (back === null) return found;
    // Settled before the whole body is walked: a test that says nothing of these locals bounds nothing.
    if (!this.#options.passes && !mentions(back.reach, a => own.has(`1${a.key}`)))
      throw new Refused(`no test of an induction variable bounds ${frame.loop(at)}`);
    // Suppose that a pointer stays 0 or stays away from 0; the step must then bear it out.
    const sticky = new Map<string, number>();
    for (const [l, s] of symbols) sticky.set(isZero(s).key, l);
    for (const [l, s] of symbols) {
      const next = back.locals[l] ?? null;
      const first = entry.locals[l] ?? null;
      if (next === null || first === null) continue;
      const used = new Set<number>();
      const step = substitute(next.minus(s), a => {
        const pointer = a.kind === 'zero' ? sticky.get(`1${a.key}`) : undefined;
        if (pointer === undefined) return undefined;
        used.add(pointer);
        return isZero(entry.locals[pointer] ?? ZERO);
      });
      if (mentions(step, a => own.has(`1${a.key}`) || a.kind === 'free')) continue;
      found.set(l, { first, at: n => first.plus(step.times(n)), sticky: used.has(l), step, needs: [...used] });
    }
    const bornOut = (l: number): boolean => {
      const v = found.get(l);
      if (v === undefined || (v.first.range[0] ?? -1n) < 0n || (v.step.range[0] ?? -1n) < 0n) return false;
      return isZero(v.first).times(v.step).constant === 0n;
    };
    for (let before = -1; before !== found.size;) {
      before = found.size;
      for (const [l, v] of found) if (!v.needs.every(bornOut)) found.delete(l);
    }
    for (const [l, v] of found) {
      const needed = [...found.values()].some(o => o.needs.includes(l));
      if (needed && !v.sticky) found.set(l, { ...v, sticky: true });
    }
    return found;
  }

  /** The number of back edges, from a bracket without which none is taken. */
  #trips(frame: Frame, at: number, back: Poly, id: number, reach: Poly): Governed {
    const isCounter = (a: Atom): boolean => a.kind === 'counter' && a.id === id;
    let best: Governed | null = null;
    for (const a of atomsOf(back)) {
      if ((a.kind !== 'negative' && a.kind !== 'zero') || !mentions(a.of, isCounter)) continue;
      const given = (v: bigint): Poly => substitute(back, x => (x.key === a.key ? constant(v) : undefined));
      const going = given(0n).constant === 0n ? 1n : given(1n).constant === 0n ? 0n : null;
      if (going === null) continue;
      const parted = split(a.of, `j${id}`);
      if (parted === null || mentions(parted.coefficient, isCounter) || mentions(parted.rest, isCounter)) continue;
      const trips = this.#solve(a.kind === 'negative', going === 1n, parted.rest, parted.coefficient, reach);
      if (trips === null) continue;
      const governed = { trips, key: a.key, exact: given(going).constant === 1n, going };
      if (governed.exact) return governed;
      best ??= governed;
    }
    if (best === null && this.#options.passes)
      return { trips: param(PASSES), key: PASSES_KEY, exact: false, going: 1n };
    if (best === null) throw new Refused(`no test of an induction variable bounds ${frame.loop(at)}`);
    return best;
  }

  /** The first pass n ≥ 0 in which first + step · n stops being negative (or not negative, or not zero). Guards say when the answer holds. */
  #solve(negative: boolean, whenTrue: boolean, first: Poly, step: Poly, reach: Poly): Poly | null {
    const away = whenTrue ? step : step.scaled(-1n); // towards the end, ≥ 1
    const distance = whenTrue ? first.scaled(-1n) : first;
    if (negative) {
      if ((away.range[1] ?? 1n) < 1n) return null;
      this.#guard(reach, away, 1n, ARGUMENT_MAX);
      return positive(whenTrue ? floor(distance.plus(away).minus(ONE), away) : floor(distance, away).plus(ONE));
    }
    const s = step.constant;
    if (whenTrue || s === null || s === 0n) return null;
    const size = s < 0n ? -s : s;
    const span = s < 0n ? first : first.scaled(-1n);
    const trips = floor(span, constant(size));
    this.#guard(reach, trips, 0n, U32 - 1n); // else it would go round the numbers
    this.#guard(reach, span.minus(trips.scaled(size)), 0n, 0n); // and must meet 0, not step over it
    return positive(trips);
  }

  // ── Values ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  #free(): Poly {
    return free(this.#ids++);
  }

  /** Expressions equal the machine's words modulo 2³²; where an operation is not modular, a guard keeps them in range. */
  #guard(reach: Poly, value: Poly, low: bigint, high: bigint): void {
    const [min, max] = value.range;
    if (min !== null && max !== null && min >= low && max <= high) return;
    if (this.#probing) return;
    const guard = { reach: extreme(reach, true), value, low, high };
    if (guard.reach.constant !== 0n) this.scope.guards.set(`${guard.reach.key}:${value.key}:${low}:${high}`, guard);
  }
  #signed(reach: Poly, ...values: readonly Poly[]): void {
    for (const v of values) this.#guard(reach, v, I32_MIN, ARGUMENT_MAX);
  }
  #unsigned(reach: Poly, ...values: readonly Poly[]): void {
    for (const v of values) this.#guard(reach, v, 0n, U32 - 1n);
  }

  /** A word: an unknown where its address does not change, an entry of a table where a loop moves on. */
  #word(address: Poly): Value {
    if (this.#clobbered || hasEntry(address)) return null;
    this.#wordsRead++;
    if (mentions(address, a => a.kind !== 'param')) return loaded(address);
    const value = this.#given.get(address.key);
    const word = { param: WORD_FIRST + this.words.size, address, ...(value === undefined ? {} : { value }) };
    const known = this.words.get(address.key) ?? word;
    this.words.set(address.key, known);
    return known.value === undefined ? param(known.param) : constant(known.value);
  }

  #equals(a: Poly, b: Poly, reach: Poly): Poly {
    const difference = a.minus(b);
    const known = this.#sticky.get(difference.key);
    if (known !== undefined) return known;
    this.#guard(reach, difference, 1n - U32, U32 - 1n);
    return isZero(difference);
  }

  /** 1 where a condition's word is not 0; a free choice when it is not known. */
  #truth(value: Value, reach: Poly): Poly {
    if (value === null || hasEntry(value)) return this.#free();
    return isTruth(value) ? value : ONE.minus(this.#equals(value, ZERO, reach));
  }

  #arithmetic(name: string, operands: readonly Value[], reach: Poly): Value {
    if (!name.startsWith('i32.')) return null;
    const op = name.slice(4);
    const [a = null, b = null] = op === 'add' || op === 'sub' ? operands : operands.map(plain);
    if (op === 'and') {
      // The last bit of what is not known, where the other is 1.
      const test = a === null ? b : b === null ? a : null;
      if (test !== null && isTruth(test)) return test.times(this.#free());
    }
    if (a === null) return null;
    if (op === 'eqz') return isTruth(a) ? ONE.minus(a) : this.#equals(a, ZERO, reach);
    if (b === null) return null;
    const c = b.constant;
    const shift = c !== null && c >= 0n && c < 32n ? c : null;
    switch (op) {
      case 'add':
        return a.plus(b);
      case 'sub':
        return a.minus(b);
      case 'mul':
        return a.times(b);
      case 'shl':
        return shift === null ? null : a.scaled(1n << shift);
      case 'shr_s':
      case 'shr_u':
        if (shift === null) return null;
        if (op === 'shr_s') this.#signed(reach, a);
        else this.#unsigned(reach, a);
        return floor(a, constant(1n << shift));
      case 'div_s':
      case 'div_u':
      case 'rem_s':
      case 'rem_u': {
        if (b.equals(ONE)) return op.startsWith('div') ? a : ZERO;
        this.#guard(reach, a, 0n, ARGUMENT_MAX);
        this.#guard(reach, b, 1n, ARGUMENT_MAX);
        const quotient = floor(a, b);
        return op.startsWith('div') ? quotient : a.minus(b.times(quotient));
      }
      case 'and':
        if (isTruth(a) && isTruth(b)) return a.times(b);
        return c === null ? null : masked(a, c);
      case 'or':
        return isTruth(a) && isTruth(b) ? a.plus(b).minus(a.times(b)) : null;
      case 'eq':
        return this.#equals(a, b, reach);
      case 'ne':
        return ONE.minus(this.#equals(a, b, reach));
    }
    const comparison = /^([lg])([te])_([su])$/.exec(op);
    if (comparison === null) return null;
    if (comparison[3] === 's') this.#signed(reach, a, b);
    else this.#unsigned(reach, a, b);
    const [x, y] = comparison[1] === 'l' ? [a, b] : [b, a];
    return comparison[2] === 't' ? isNegative(x.minus(y)) : ONE.minus(isNegative(y.minus(x)));
  }

  #access(store: boolean, reach: Poly, address: Value, bytes: Poly, width: number): void {
    const apart = address && scattered(address);
    const from = apart?.distance ?? plain(address);
    const scatter = apart && { table: apart.table, pieces: ONE };
    const to = from && from.plus(bytes);
    this.#record({ store, reach, from, to, moved: reach.times(bytes), run: bytes, width, scatter });
  }
  #record(a: Access): void {
    if (this.#probing || a.reach.constant === 0n) return;
    if (a.store && (a.from === null || a.scatter !== null)) this.#clobbered = true;
    if (a.from === null && mentions(a.reach, () => true)) return this.#record({ ...a, reach: ONE });
    const key = `${a.store}:${a.reach.key}:${a.from?.key}:${a.to?.key}:${a.run.key}:${keyOf(a.scatter)}`;
    const before = this.scope.accesses.get(key);
    this.scope.accesses.set(
      key,
      before === undefined ? a : { ...a, moved: before.moved.plus(a.moved), width: Math.min(before.width, a.width) },
    );
  }
}

interface Passed {
  readonly scope: Scope;
  readonly backs: readonly State[];
  readonly exits: readonly { readonly label: Label | null; readonly states: readonly State[] }[];
}
interface Variable {
  readonly first: Poly;
  readonly step: Poly;
  readonly at: (pass: Poly) => Poly;
  readonly sticky: boolean;
  readonly needs: readonly number[]; // locals whose being 0 the step depends on
}
interface Governed {
  readonly trips: Poly;
  readonly key: string; // the bracket that decides
  readonly going: bigint; // its value while the loop goes on
  readonly exact: boolean;
}

class Frame {
  readonly body: FunctionBody;
  readonly callers: readonly number[];
  constructor(body: FunctionBody, callers: readonly number[]) {
    this.body = body;
    this.callers = callers;
  }
  get where(): string {
    return `function ${this.body.index}`;
  }
  loop(at: number): string {
    return `the loop at byte ${this.at(at).at} of ${this.where}`;
  }
  at(i: number): Instruction {
    const ins = this.body.code[i];
    if (ins === undefined) throw new Refused(`${this.where} has no instruction ${i}`);
    return ins;
  }
  end(i: number): number {
    return this.body.endOf.get(i) ?? this.body.code.length - 1;
  }
  /** Locals set in the loop that begins at instruction `i`. */
  assigned(i: number): Set<number> {
    const set = new Set<number>();
    for (const ins of this.body.code.slice(i, this.end(i)))
      if (ins.opcode.code === OP.local_set || ins.opcode.code === OP.local_tee) set.add(ins.value);
    return set;
  }
}

/** A label that collects what arrives at another, to be passed on later. */
const standIn = (l: Label): Label => ({ loop: l.loop, results: l.results, arrivals: [] });

function arrive(labels: readonly Label[], depth: number, state: State): void {
  const label = labels[depth];
  if (label === undefined) throw new Refused(`branch to label ${depth} of ${labels.length}`);
  if (state.reach.constant === 0n) return;
  const results = label.loop ? 0 : label.results;
  label.arrivals.push({ ...state, stack: state.stack.slice(state.stack.length - results) });
}

/** The choices without which a loop does not go on. */
function forced(back: Poly): Map<string, Poly> {
  const choices = new Map<string, Poly>();
  for (const a of atomsOf(back)) {
    if (a.kind !== 'free') continue;
    for (const v of [ZERO, ONE])
      if (substitute(back, x => (x.key === a.key ? v : undefined)).constant === 0n) choices.set(a.key, ONE.minus(v));
  }
  return choices;
}
/** The choice with which it leaves, where one alone decides. */
function refused(back: Poly, choices: ReadonlyMap<string, Poly>): Map<string, Poly> {
  const alone = choices.size === 1 && substitute(back, a => choices.get(a.key)).constant === 1n;
  return new Map(alone ? [...choices].map(([key, v]) => [key, ONE.minus(v)]) : []);
}
const PASSES_KEY = 'passes';

/** A test that data take part in is no value: it may be combined with other tests and branched on, and is not known otherwise. */
const known = (v: Value): Value => (v !== null && v.hasFree ? null : v);
const LOGIC: ReadonlySet<string> = new Set(['i32.and', 'i32.or', 'i32.eqz']);

/** What memory holds is no value but for addresses: it is added to, and nothing is decided by it. */
const plain = (v: Value): Value => (v !== null && hasEntry(v) ? null : v);

/** A call whose effects do not matter: its results are unknown. */
function skipped(callee: FunctionBody, state: State): State {
  const below = state.stack.slice(0, state.stack.length - callee.type.params.length);
  return { ...state, stack: [...below, ...callee.type.results.map(() => null)] };
}

/** a & mask for masks whose ones stand side by side, modulo 2³². */
function masked(a: Poly, mask: bigint): Value {
  const low = mask & -mask;
  const high = mask + low; // the bit above the ones; 0 where they reach to the top
  if (mask === 0n) return ZERO;
  if ((high & (high - 1n)) !== 0n) return null;
  const rounded = (unit: bigint): Poly => floor(a, constant(unit)).scaled(unit);
  return high === 0n ? rounded(low) : rounded(low).minus(rounded(high));
}

/** The accesses of a pass, by what is known in it, runs joined. */
function passing(accesses: readonly Access[], known: (p: Poly) => Poly): Access[] {
  const all = accesses.map(a => ({
    store: a.store,
    reach: known(a.reach),
    from: a.from && known(a.from),
    to: a.to && known(a.to),
    moved: known(a.moved),
    run: known(a.run),
    width: a.width,
    scatter: a.scatter && mapScatter(a.scatter, known),
  }));
  return [...joinRuns(all.filter(isLocated)), ...all.filter(a => !isLocated(a))];
}

/**
 * The runs of all passes 0 … trips − 1: one where each pass begins in what the one before went over, or where it ended (then `gapless`);
 * where arguments decide whether it does, under that condition.
 */
function runOver(a: Access, id: number, trips: Poly): { run: Poly; gapless: boolean } {
  const isCounter = (x: Atom): boolean => x.kind === 'counter' && x.id === id;
  // Runs that differ from pass to pass are at least as long as the shortest, in the first or the last.
  const t = trend(a.run, id);
  const shortest = substitute(a.run, x => (!isCounter(x) ? undefined : t === 1 ? ZERO : trips.minus(ONE)));
  const apart = { run: t === null ? ONE : shortest, gapless: false };
  if (a.scatter !== null && mentions(a.scatter.table, isCounter)) return apart; // each pass in a piece of its own
  if (!isLocated(a) || !isWhole(a) || mentions(a.run, isCounter) || mentions(a.reach, isCounter)) return apart;
  const step = split(a.from, `j${id}`)?.coefficient;
  if (step === undefined || step.terms.size === 0 || mentions(a.from.minus(step.times(counter(id))), isCounter))
    return apart;
  if (!atLeast(step, 0n)) return apart;
  const meets = atLeast(a.run.minus(step), 0n) ? ONE : isZero(a.run.minus(step));
  return { run: a.run.plus(meets.times(step).times(trips.minus(ONE))), gapless: a.run.equals(step) };
}

const mapScatter = ({ table, pieces }: Scatter, by: (p: Poly) => Poly): Scatter => ({
  table: by(table),
  pieces: by(pieces),
});

/** The pieces of all passes: the same ones, or one after the other as the table has them; null: neither. */
function scatterOver(s: Scatter, id: number, trips: Poly): Scatter | null {
  const isCounter = (x: Atom): boolean => x.kind === 'counter' && x.id === id;
  if (mentions(s.pieces, isCounter)) return null;
  if (!mentions(s.table, isCounter)) return s;
  const parted = split(s.table, `j${id}`);
  const next = parted?.coefficient.constant === ENTRY_BYTES && s.pieces.equals(ONE);
  return parted !== null && next && !mentions(parted.rest, isCounter) ? { table: parted.rest, pieces: trips } : null;
}
const ENTRY_BYTES = 4n;

/** A reach that does not depend on the pass: where it does, the whole. */
const steady = (reach: Poly, isCounter: (a: Atom) => boolean): Poly => {
  const settled = extreme(reach, true);
  return mentions(settled, isCounter) ? ONE : settled;
};

/** What a state knows once a condition, a single bracket or its complement, is taken as true. */
function assume(state: State, condition: Poly): State {
  const [atom, second] = atomsOf(condition);
  if (atom === undefined || second !== undefined || (atom.kind !== 'negative' && atom.kind !== 'zero')) return state;
  const holds = condition.terms.size === 1 ? ONE : ZERO;
  const known = (v: Value): Value => v && substitute(v, a => (a.key === atom.key ? holds : undefined));
  return { reach: state.reach, locals: state.locals.map(known), stack: state.stack.map(known) };
}

/** Values that all states agree on and that pass the test. */
function merge(states: readonly State[], keeps: (v: Poly) => boolean): State {
  const [first, ...others] = states;
  if (first === undefined) return { reach: ZERO, locals: [], stack: [] };
  const agreed = (v: Value, same: (s: State) => Value): Value =>
    v !== null && keeps(v) && others.every(s => same(s)?.equals(v) === true) ? v : null;
  return {
    reach: first.reach,
    locals: first.locals.map((v, l) => agreed(v, s => s.locals[l] ?? null)),
    stack: first.stack.map((v, n) => agreed(v, s => s.stack[n] ?? null)),
  };
}

/** Control flow meets: a value that differs is the sum of the values, each times the reach of its way, of which one is 1. */
function join(states: readonly State[], results: number): State | null {
  const alive = states
    .filter(s => s.reach.constant !== 0n)
    .map(s => ({ ...s, stack: s.stack.slice(s.stack.length - results) }));
  const [first, ...others] = alive;
  if (first === undefined) return null;
  if (others.length === 0) return first;
  const reach = alive.reduce((total, s) => total.plus(s.reach), ZERO);
  const exact = !alive.some(s => s.reach.hasFree);
  // Brackets without which this point is not reached.
  const settled = new Map<string, Poly>();
  for (const a of atomsOf(reach)) {
    if (a.kind !== 'negative' && a.kind !== 'zero') continue;
    for (const v of [ZERO, ONE])
      if (substitute(reach, x => (x.key === a.key ? v : undefined)).constant === 0n) settled.set(a.key, ONE.minus(v));
  }
  const meet = (of: (s: State) => Value): Value => {
    const value = of(first);
    if (value === null) return null;
    if (others.every(s => of(s)?.equals(value) === true)) return value;
    if (!exact || others.some(s => of(s) === null)) return null;
    const weighted = alive.reduce((total, s) => total.plus(s.reach.times(of(s) ?? ZERO)), ZERO);
    return weighted.terms.size > TERMS_MAX ? null : substitute(weighted, a => settled.get(a.key));
  };
  return {
    reach,
    locals: first.locals.map((_, l) => meet(s => s.locals[l] ?? null)),
    stack: first.stack.map((_, n) => meet(s => s.stack[n] ?? null)),
  };
}
