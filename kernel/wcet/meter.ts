// Metering: rewrites a module so that kernels whose cost depends on data count it themselves. Their code is cut into blocks of instructions
// that are executed equally often; each block adds its price, read from a table in the arena, to a local, and a function's exits add
// that to the global `spent`. What the plan's exact ops execute is left as it is, to the byte: functions that both need are cloned. Blocks are
// classes of control equivalence (dominance both ways, in one loop) as in Ball and Larus's profiling; structured control makes them easy.
//
// Instruction counts of a block are those of the build that is priced; other builds charge the same blocks, and so must have the same skeleton.

import { I64, addToGlobal, rewriteModule, sized, string, unsigned, withLocals } from './encode.ts';
import { CLASSES, I32, OP, WasmError, classIndex } from './wasm.ts';
import type { FunctionBody, Instruction, InstructionClass, Module } from './wasm.ts';

/** How a kernel's memory traffic is priced: by the bytes it moves, or a whole line for each load and store. */
export type Access = 'stream' | 'random';

export interface MeterRoot {
  readonly name: string; // of the export
  readonly access: Access;
  /** The plan calls it: what the plan executes is the metered function too. */
  readonly inPlan: boolean;
}

/** Instructions and bytes of one block, by class, each time it is executed. */
export interface MeterBlock {
  readonly counts: readonly number[];
  readonly access: Access;
}

/** A metered function's name, and its control flow in one line for each instruction that has a part in it. */
export interface Skeleton {
  readonly name: string;
  readonly lines: readonly string[];
}

export interface Metered {
  readonly bytes: Uint8Array;
  /** By number, as in the table. The first two are one byte copied by memory.copy and one filled by memory.fill. */
  readonly blocks: readonly MeterBlock[];
  readonly skeletons: readonly Skeleton[];
}

/** The exports of a module to be metered that the meter itself uses. The globals are hidden in the metered module. */
export const METER = { spent: 'spent', prices: 'prices', functions: ['take_spent', 'set_prices'] } as const;

const COPIED = 0;
const FILLED = 1;
const BYTE_BLOCKS: readonly (readonly InstructionClass[])[] = [['bytes_loaded', 'bytes_stored'], ['bytes_stored']];

/** Rewrites `module`, decoded from `bytes`. Throws a WasmError where it holds what cannot be metered. */
export function meterModule(bytes: Uint8Array, module: Module, roots: readonly MeterRoot[]): Metered {
  return new Meter(bytes, module, roots).metered();
}

/** Where two builds' metered functions part, in one line; null where they are alike. */
export function skeletonsDiffer(a: readonly Skeleton[], b: readonly Skeleton[]): string | null {
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    const [one, other] = [a[i], b[i]];
    if (one === undefined || other === undefined || one.name !== other.name)
      return `${one?.name ?? 'nothing'} stands against ${other?.name ?? 'nothing'}`;
    for (let line = 0; line < Math.max(one.lines.length, other.lines.length); line++) {
      const [x, y] = [one.lines[line] ?? 'nothing', other.lines[line] ?? 'nothing'];
      if (x !== y) return `${one.name}: step ${line} of its control flow is "${x}" against "${y}"`;
    }
  }
  return null;
}

/** A function to be metered. */
interface Job {
  readonly body: FunctionBody;
  readonly name: string; // of an export, or of the first caller and where it calls
  readonly index: number; // of the metered function in the module to be
  readonly cloned: boolean;
  access: Access;
}

class Meter {
  readonly #bytes: Uint8Array;
  readonly #module: Module;
  readonly #roots: readonly MeterRoot[];
  readonly #spent: number;
  readonly #prices: number;
  readonly #jobs = new Map<number, Job>(); // by the index of the original, in the order of the first call
  readonly #blocks: MeterBlock[] = BYTE_BLOCKS.map(classes => ({
    counts: CLASSES.map(c => (classes.includes(c) ? 1 : 0)),
    access: 'stream',
  }));

  constructor(bytes: Uint8Array, module: Module, roots: readonly MeterRoot[]) {
    this.#bytes = bytes;
    this.#module = module;
    this.#roots = roots;
    this.#spent = this.#export(METER.spent, 3);
    this.#prices = this.#export(METER.prices, 3);
  }

  metered(): Metered {
    const kept = this.#keptFunctions();
    let next = this.#module.functionsImported + this.#module.bodies.length;
    for (const root of this.#roots) this.#reach(this.#export(root.name, 0), root.name, root.access, kept, () => next++);
    const skeletons: Skeleton[] = [];
    const bodies = new Map<number, number[]>(); // by the index of the metered function
    for (const job of this.#jobs.values()) {
      const { body, lines } = this.#meterFunction(job);
      bodies.set(job.index, body);
      skeletons.push({ name: job.name, lines });
    }
    return { bytes: this.#assemble(bodies), blocks: this.#blocks, skeletons };
  }

  #export(name: string, kind: number): number {
    const found = this.#module.exports.find(e => e.name === name && e.kind === kind);
    if (found === undefined) throw new WasmError(`the module exports no ${kind === 3 ? 'global' : 'function'} ${name}`);
    return found.index;
  }

  #body(index: number): FunctionBody {
    const body = this.#module.bodies[index - this.#module.functionsImported];
    if (body === undefined) throw new WasmError(`function ${index} is imported and cannot be metered`);
    return body;
  }

  /** Functions that run unmetered: all that exports reach which are no roots. Calls of `inPlan` roots are none of theirs. */
  #keptFunctions(): Set<number> {
    const roots = new Map(this.#roots.map(r => [this.#export(r.name, 0), r]));
    const kept = new Set<number>();
    const called = new Set<number>();
    const visit = (index: number): void => {
      const root = roots.get(index);
      if (root?.inPlan === true) return void called.add(index);
      if (kept.has(index)) return;
      kept.add(index);
      for (const callee of callees(this.#module, index)) visit(callee);
    };
    for (const e of this.#module.exports) if (e.kind === 0 && !roots.has(e.index)) visit(e.index);
    for (const [index, root] of roots)
      if (root.inPlan && !called.has(index)) throw new WasmError(`${root.name}: no plan calls it, it was inlined`);
    return kept;
  }

  /** Takes a function and what it calls, in the order of calls, on the list. */
  #reach(index: number, name: string, access: Access, kept: ReadonlySet<number>, fresh: () => number): void {
    const known = this.#jobs.get(index);
    if (known !== undefined && (known.access === 'random' || access === 'stream')) return;
    const body = this.#body(index);
    if (known !== undefined) known.access = access;
    else {
      const cloned = kept.has(index);
      this.#jobs.set(index, { body, name, index: cloned ? fresh() : index, cloned, access });
    }
    for (const [i, callee] of callees(this.#module, index).entries())
      this.#reach(callee, this.#exportedAs(callee) ?? `${name}/${i}`, access, kept, fresh);
  }

  #exportedAs(index: number): string | undefined {
    return this.#module.exports.find(e => e.kind === 0 && e.index === index)?.name;
  }

  #meterFunction(job: Job): { body: number[]; lines: string[] } {
    const { body } = job;
    if (body.type.results.length > 1) throw new WasmError(`${job.name}: more than one result`);
    const flow = new Flow(body);
    // A block is a stretch in which anything happens; numbers go in the order of where they begin.
    const blockAt = new Map<number, number>();
    for (const { beginsAfter, counts } of flow.stretches) {
      if (counts.every(n => n === 0)) continue;
      blockAt.set(beginsAfter, this.#blocks.length);
      this.#blocks.push({ counts, access: job.access });
    }
    const writer = new FunctionWriter(this.#bytes, body, this.#prices);
    writer.begin(blockAt.get(BEGINNING));
    const lines = [`${body.type.params.join()} → ${body.type.results.join()}, block ${blockAt.get(BEGINNING) ?? '-'}`];
    for (const [i, ins] of body.code.entries()) {
      const { code, name } = ins.opcode;
      const callee = code === OP.call ? this.#jobs.get(ins.value) : undefined;
      const block = blockAt.get(i);
      writer.instruction(ins, callee?.index, i === body.code.length - 1 ? this.#spent : undefined);
      if (block !== undefined) writer.charge(block);
      if (callee !== undefined) lines.push(`call ${callee.name}`);
      else if (CONTROL.has(code)) lines.push(`${name} ${[ins.value, ...ins.labels].join(' ')}, block ${block ?? '-'}`);
    }
    return { body: writer.out, lines };
  }

  #assemble(metered: ReadonlyMap<number, readonly number[]>): Uint8Array {
    const module = this.#module;
    const bytes = this.#bytes;
    const clones = [...this.#jobs.values()].filter(j => j.cloned);
    const hidden = new Set<string>([METER.spent, METER.prices]);
    const roots = new Set(this.#roots.map(r => r.name));
    return rewriteModule(bytes, module, (id, old) => {
      if (id === 3) {
        const types = clones.flatMap(j => unsigned(module.types.indexOf(j.body.type)));
        return { count: old.count + clones.length, bytes: [...old.bytes, ...types] };
      }
      if (id === 7) {
        const exports = module.exports.filter(e => e.kind !== 3 || !hidden.has(e.name));
        const index = (e: (typeof exports)[number]): number =>
          e.kind === 0 && roots.has(e.name) ? (this.#jobs.get(e.index)?.index ?? e.index) : e.index;
        return {
          count: exports.length,
          bytes: exports.flatMap(e => [...string(e.name), e.kind, ...unsigned(index(e))]),
        };
      }
      if (id === 10) {
        const own = module.bodies.map(b => metered.get(b.index) ?? [...bytes.subarray(b.localsAt, b.end)]);
        const cloned = clones.map(j => metered.get(j.index) ?? []);
        return { count: own.length + cloned.length, bytes: [...own, ...cloned].flatMap(sized) };
      }
      return null;
    });
  }
}

/** The functions that a function calls, call by call. */
export function callees(module: Module, index: number): number[] {
  const code = module.bodies[index - module.functionsImported]?.code ?? [];
  return code.filter(i => i.opcode.code === OP.call).map(i => i.value);
}

// ── Blocks ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const CONTROL: ReadonlySet<number> = new Set([
  OP.unreachable,
  OP.block,
  OP.loop,
  OP.if,
  OP.else,
  OP.end,
  OP.br,
  OP.br_if,
  OP.br_table,
  OP.return,
  OP.memory_copy,
  OP.memory_fill,
]);

/** What a stretch that begins with the function begins after. */
const BEGINNING = -1;
const LOADED = classIndex('bytes_loaded');
const STORED = classIndex('bytes_stored');

/** Instructions that are executed equally often: from one place on, and after every construct that control leaves only at its end. */
interface Stretch {
  readonly beginsAfter: number; // index of an instruction, or BEGINNING
  readonly counts: number[]; // by class
}

/** A block, loop or if being walked. */
interface Frame {
  readonly kind: number;
  readonly outside: Stretch | null; // where it stands
  readonly loop: Loop | null;
  left: boolean; // control may leave it otherwise than at its end
  targeted: boolean; // a branch goes to its end
}

interface Loop {
  readonly header: Stretch;
  readonly entry: Stretch;
  readonly backs: Stretch[]; // stretches that end in a jump back
  conditional: boolean; // one of the jumps is
}

/** Cuts a function into stretches. Code that cannot be reached belongs to none. */
class Flow {
  readonly stretches: Stretch[] = [];
  readonly #frames: Frame[] = [];
  readonly #loops: Loop[] = [];
  #now: Stretch | null;

  constructor(body: FunctionBody) {
    this.#now = this.#open(BEGINNING);
    for (const [i, ins] of body.code.entries()) {
      if (this.#now !== null) count(this.#now.counts, ins);
      this.#walk(i, ins);
    }
    // A loop's header runs as often as it is entered and jumped back to: it is charged there, once a turn instead of twice.
    for (const { header, entry, backs, conditional } of this.#loops.toReversed()) {
      if (conditional || backs.includes(header)) continue;
      for (const from of [entry, ...backs])
        for (const [cls, n] of header.counts.entries()) from.counts[cls] = (from.counts[cls] ?? 0) + n;
      header.counts.fill(0);
    }
  }

  #open(beginsAfter: number): Stretch {
    const stretch = { beginsAfter, counts: CLASSES.map(() => 0) };
    this.stretches.push(stretch);
    return stretch;
  }

  #walk(i: number, ins: Instruction): void {
    const { code } = ins.opcode;
    const here = this.#now;
    const reached = here !== null;
    switch (code) {
      case OP.block:
      case OP.loop:
      case OP.if: {
        if (reached && code !== OP.block) this.#now = this.#open(i);
        let loop: Loop | null = null;
        if (reached && code === OP.loop && this.#now !== null) {
          loop = { header: this.#now, entry: here, backs: [], conditional: false };
          this.#loops.push(loop);
        }
        this.#frames.push({ kind: code, outside: here, loop, left: false, targeted: false });
        return;
      }
      case OP.else:
        this.#now = this.#frames.at(-1)?.outside === null ? null : this.#open(i);
        return;
      case OP.end:
        this.#leave(i, this.#frames.pop());
        return;
      case OP.br:
      case OP.br_if:
      case OP.br_table:
        if (!reached) return;
        for (const label of code === OP.br_table ? ins.labels : [ins.value]) this.#branch(label, code !== OP.br, here);
        this.#now = code === OP.br_if ? this.#open(i) : null;
        return;
      case OP.return:
        if (!reached) return;
        this.#branch(this.#frames.length, false, here);
        this.#now = null;
        return;
      case OP.unreachable:
        this.#now = null;
        return;
      default:
    }
  }

  #branch(label: number, conditional: boolean, from: Stretch): void {
    const target = this.#frames.length - 1 - label; // −1: the function's end
    for (const frame of this.#frames.slice(target + 1)) frame.left = true;
    const frame = this.#frames[target];
    if (frame === undefined) return;
    if (frame.loop === null) frame.targeted = true;
    else {
      frame.loop.backs.push(from);
      frame.loop.conditional ||= conditional;
    }
  }

  /** Behind the end at `i` of a construct; of the function, when there is none. */
  #leave(i: number, frame: Frame | undefined): void {
    if (frame === undefined) return;
    if (!frame.left || frame.outside === null) this.#now = frame.outside;
    else if (frame.kind === OP.if || frame.targeted) this.#now = this.#open(i);
  }
}

function count(counts: number[], ins: Instruction): void {
  const { cls, bytes, name } = ins.opcode;
  const add = (to: number, n: number): void => void (counts[to] = (counts[to] ?? 0) + n);
  if (cls >= 0) add(cls, 1);
  if (bytes > 0) add(name.includes('.store') ? STORED : LOADED, bytes);
}

// ── Code ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const VOID = 0x40;
const WORD_ALIGNED = 2;

/** Writes a metered function: its body as a block whose label every exit goes to, behind which the sum is added to `spent`. */
class FunctionWriter {
  readonly out: number[];
  readonly #bytes: Uint8Array;
  readonly #body: FunctionBody;
  readonly #prices: number;
  // Locals of ours, behind the function's.
  readonly #sum: number; // i64
  readonly #table: number; // i32
  readonly #length: number; // i32, of memory.copy and memory.fill
  #depth = 0;

  constructor(bytes: Uint8Array, body: FunctionBody, prices: number) {
    this.#bytes = bytes;
    this.#body = body;
    this.#prices = prices;
    this.#sum = body.type.params.length + body.locals.length;
    this.#table = this.#sum + 1;
    this.#length = this.#sum + 2;
    this.out = withLocals(bytes, body.localsAt, body.codeAt, [I64, I32, I32]);
  }

  begin(block: number | undefined): void {
    this.out.push(OP.global_get, ...unsigned(this.#prices), OP.local_set, ...unsigned(this.#table));
    this.out.push(OP.block, this.#body.type.results[0] ?? VOID);
    if (block !== undefined) this.charge(block);
  }

  /** sum += price of the block, times what `factor` leaves as an i64. */
  charge(block: number, factor: readonly number[] = []): void {
    this.out.push(OP.local_get, ...unsigned(this.#table));
    this.out.push(OP.i64_load32_u, WORD_ALIGNED, ...unsigned(4 * block));
    if (factor.length > 0) this.out.push(...factor, OP.i64_mul);
    this.out.push(OP.local_get, ...unsigned(this.#sum), OP.i64_add, OP.local_set, ...unsigned(this.#sum));
  }

  /** One of the function's instructions; a call goes to `callee`; behind the last the sum goes to the global `spent`. */
  instruction(ins: Instruction, callee: number | undefined, spent: number | undefined): void {
    const { code } = ins.opcode;
    if (code === OP.block || code === OP.loop || code === OP.if) this.#depth++;
    if (code === OP.end) this.#depth--;
    if (code === OP.return) this.out.push(OP.br, ...unsigned(this.#depth));
    else if (callee !== undefined) this.out.push(OP.call, ...unsigned(callee));
    else if (code === OP.memory_copy || code === OP.memory_fill) {
      this.out.push(OP.local_tee, ...unsigned(this.#length));
      this.#copy(ins);
      this.charge(code === OP.memory_copy ? COPIED : FILLED, [
        OP.local_get,
        ...unsigned(this.#length),
        OP.i64_extend_i32_u,
      ]);
    } else this.#copy(ins);
    if (spent === undefined) return;
    this.out.push(...addToGlobal(spent, [OP.local_get, ...unsigned(this.#sum)]), OP.end);
  }

  #copy(ins: Instruction): void {
    for (let at = ins.at; at < ins.end; at++) this.out.push(this.#bytes[at] ?? 0);
  }
}
