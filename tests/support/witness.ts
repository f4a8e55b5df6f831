// A second opinion on every charge: while a request runs on a machine, a module that counts its instructions does the same work in a memory of
// its own, op by op. What it counts, at the target's prices, with the traffic of the op's operands and the overhead of its record, must be
// what the machine charges, to the cycle. The counting module is the priced build's as it was compiled: neither metered nor charging.

import { readFileSync } from 'node:fs';
import { isRefusal, PLAN_RECORD, RowRecord, StepBlock, type Refusal } from '../../kernel/abi/index.ts';
import { Op } from '../../drivers/engine/ops.ts';
import { Certificates, type CertificateFile } from '../../kernel/wcet/certificate.ts';
import { counterName, instrument } from '../../kernel/wcet/instrument.ts';
import type { Segment } from '../../kernel/wcet/price.ts';
import { Shape, type Figures } from '../../kernel/wcet/shape.ts';
import { MILLI, type Target } from '../../kernel/wcet/targets.ts';
import { CLASSES, decodeModule } from '../../kernel/wcet/wasm.ts';
import { Broken, type Observer, type Subject } from './requests.ts';

type Exports = Record<string, (...args: number[]) => number>;
const SEGMENTS = ['body', 'head', 'sample', 'score'] as const;
const step = StepBlock.at;
const PRICED = 'relaxed';

const given = <T>(value: T | Refusal): T => {
  if (isRefusal(value)) throw new Error(value.message);
  return value;
};
const cyclesOf = (milli: number): number => Math.ceil(milli / MILLI);

/** Thousandths of a cycle that the sampler's instructions cost: a byte moved is a share of a line from where lines are dearest. */
function meteredPrices(target: Target): number[] {
  const line = Math.max(...Object.values(target.home).map(level => target.levels[level]!.lineUpper));
  const byte = Math.ceil(line / target.lineBytes);
  return CLASSES.map((cls, i) => target.upper[i]! + (cls.startsWith('bytes_') ? byte : 0));
}

const dot = (counts: readonly number[], prices: readonly number[]): number =>
  counts.reduce((sum, n, cls) => sum + n * prices[cls]!, 0);

/** Thousandths of a cycle: for instructions, for memory and the dispatch of the record. */
interface Loops {
  readonly compute: number;
  readonly more: number;
}

export class Witness implements Observer {
  private readonly subject: Subject;
  private readonly u8: Uint8Array;
  private readonly i32: Int32Array;
  private readonly exports: Exports;
  private readonly counters: readonly WebAssembly.Global[];
  private readonly certificates: Certificates;
  private target!: Target;
  private metered: readonly number[] = [];
  /** What the executor's loops around a record take, by how often it is executed. */
  private loops: readonly Loops[] = [];
  /** Cycles that the last top_k must have spent. */
  private pending = 0;
  /** Ops and calls of metered kernels that agreed, since the witness was sworn in. */
  agreed = 0;
  /** Cycles charged and confirmed since take(). */
  private charged = 0;

  constructor(subject: Subject) {
    this.subject = subject;
    const bytes = readFileSync(`build/kernels.${PRICED}.plain.wasm`);
    const memory = new WebAssembly.Memory({ initial: 128, maximum: 128 });
    const module = new WebAssembly.Module(Buffer.from(instrument(bytes, decodeModule(bytes))));
    const { exports } = new WebAssembly.Instance(module, { env: { memory } });
    this.exports = exports as unknown as Exports;
    this.counters = CLASSES.map(c => exports[counterName(c)] as WebAssembly.Global);
    this.u8 = new Uint8Array(memory.buffer);
    this.i32 = new Int32Array(memory.buffer);
    const file = JSON.parse(readFileSync('build/certificates.json', 'utf8')) as CertificateFile;
    this.certificates = given(Certificates.of(file));
  }

  /** Call it when the machine has another model or another target. */
  meet(): void {
    const { kernel } = this.subject.machine;
    const { target } = kernel.costs;
    this.target = target;
    this.metered = meteredPrices(target);
    const figures = (name: string, passes: number): Figures =>
      given(
        Shape.of(given(this.certificates.get(name)), {
          target,
          prices: target.upper,
          regionOf: address => (address < this.subject.engine.bodyAt ? 'fixed' : 'plan'),
          args: [kernel.lay.stepAt, this.subject.engine.bodyAt],
          passes,
          read: () => 'data',
          cases: [() => [0, 0]],
        }),
      ).figures(1)[0]!;
    const run = figures('run', 1);
    this.loops = Array.from({ length: this.subject.engine.options.batch + 1 }, (_, turns) => {
      const rows = figures('run_op', turns);
      const dispatch = turns * target.overhead.recordCycles * MILLI;
      return { compute: run.compute + rows.compute, more: run.memory + rows.memory + dispatch };
    });
  }

  /** Cycles confirmed since the last time. */
  take(): number {
    const { charged } = this;
    this.charged = 0;
    return charged;
  }

  run(stepAt: number, opAt: number): number {
    const { arena } = this.subject.machine;
    this.copy();
    const expected = this.segment(stepAt, opAt);
    const status = this.subject.kernels.run(stepAt, opAt);
    const charged = arena.u32[(stepAt + step.cycles) >> 2]! + arena.u32[(stepAt + step.cycles + 4) >> 2]! * 2 ** 32;
    if (charged !== expected)
      throw new Broken(`${this.name(opAt)} was charged ${charged} cycles, counted were ${expected}`);
    const [mine, its] = [this.u8, arena.u8].map(u8 => u8.subarray(0, arena.usage().offset));
    mine!.set(its!.subarray(stepAt + step.cycles, stepAt + step.cycles + 8), stepAt + step.cycles);
    if (Buffer.compare(mine!, its!) !== 0)
      throw new Broken(`${this.name(opAt)} left other bytes than the compiled module`);
    this.charged += charged;
    return status;
  }

  top_k(...args: [logitsAt: number, n: number, k: number, outAt: number]): void {
    this.copy();
    this.zero();
    this.exports['top_k']!(...args);
    this.pending = cyclesOf(dot(this.counts(), this.metered));
    this.subject.kernels.top_k(...args);
  }

  take_spent(): number {
    const spent = this.subject.kernels.take_spent() >>> 0;
    if (this.pending > 0 && spent !== this.pending)
      throw new Broken(`top_k spent ${spent} cycles, counted were ${this.pending}`);
    this.agreed += this.pending > 0 ? 1 : 0;
    this.charged += this.pending;
    this.pending = 0;
    return spent;
  }

  /** Runs the ops of a segment one by one; returns what they cost. */
  private segment(stepAt: number, opAt: number): number {
    const { prices } = this.subject;
    const name = this.name(opAt);
    const n = name === 'body' ? this.word(stepAt + step.n) : this.word(stepAt + step.picks);
    let sum = 0;
    for (const [i, { memory }] of prices.ops(name, n, 0).entries()) {
      const at = opAt + i * PLAN_RECORD.bytes;
      const drawn = this.word(at) === Op.SAMPLE ? this.drawn(stepAt) : null;
      const [tokensAt, positionsAt] = [this.recordWord(at, 'tokens'), this.recordWord(at, 'positions')];
      const rows = positionsAt === 0 ? [] : this.rows(stepAt, n);
      const parts = rows.map(row => this.alone(stepAt, at, row) + prices.ops(name, 1, row.pos)[i]!.memory);
      const all = this.op(at, stepAt);
      const counts = drawn === null ? all : all.map((x, cls) => x - drawn[cls]!);
      const { compute, more } = this.loops[(this.recordWord(at, 'flags') & PLAN_RECORD.flagRows) === 0 ? 1 : n]!;
      const own = positionsAt === 0 ? dot(counts, this.target.upper) + memory : compute;
      const charge = [own + more, ...parts].reduce((total, milli) => total + cyclesOf(milli), 0);
      const price = rows.reduce(
        (total, row) => total + this.u64(positionsAt + 8 * row.pos),
        this.u64(tokensAt + 8 * n),
      );
      if (charge !== price) throw new Broken(`${name} ${i} ${Op[this.word(at)]}: priced ${price}, counted ${charge}`);
      sum += charge + (drawn === null ? 0 : cyclesOf(dot(drawn, this.metered)));
      this.agreed++;
    }
    return sum;
  }

  private rows(stepAt: number, n: number): ReturnType<typeof RowRecord.read>[] {
    const rowsAt = this.word(stepAt + step.rowsAt);
    return Array.from({ length: n }, (_, i) => RowRecord.read(this.u8, rowsAt + i * RowRecord.bytes));
  }

  /** What an op executes of one row, without the loops around it: the row's position and pages are the first one's meanwhile. */
  private alone(stepAt: number, at: number, row: ReturnType<typeof RowRecord.read>): number {
    const rowsAt = this.word(stepAt + step.rowsAt);
    const [first, n] = [RowRecord.read(this.u8, rowsAt), this.word(stepAt + step.n)];
    RowRecord.write(this.u8, rowsAt, row);
    this.i32[(stepAt + step.n) >> 2] = 1;
    const milli = dot(this.op(at, stepAt), this.target.upper) - this.loops[1]!.compute;
    RowRecord.write(this.u8, rowsAt, first);
    this.i32[(stepAt + step.n) >> 2] = n;
    return milli;
  }

  /** What the sampler executes, which leaves the memory as it was. */
  private drawn(stepAt: number): number[] {
    const before = this.u8.slice(0, this.subject.machine.arena.usage().offset);
    this.zero();
    this.exports['sample']!(stepAt);
    const counts = this.counts();
    this.u8.set(before);
    return counts;
  }

  /** Runs one record: the one behind it is an end meanwhile. */
  private op(at: number, stepAt: number): number[] {
    const next = (at + PLAN_RECORD.bytes) >> 2;
    const held = this.i32[next]!;
    this.i32[next] = Op.END;
    this.zero();
    this.exports['run']!(stepAt, at);
    this.i32[next] = held;
    return this.counts();
  }

  private name(opAt: number): Segment {
    const { engine } = this.subject;
    return SEGMENTS.find(s => engine[`${s}At`] === opAt)!;
  }
  private recordWord(at: number, name: 'flags' | 'tokens' | 'positions'): number {
    return this.word(at + 4 * PLAN_RECORD[name]);
  }
  private u64(at: number): number {
    return (this.word(at) >>> 0) + this.word(at + 4) * 2 ** 32;
  }
  private word(at: number): number {
    return this.i32[at >> 2]!;
  }
  private copy(): void {
    const { arena } = this.subject.machine;
    this.u8.set(arena.u8.subarray(0, arena.usage().offset));
  }
  private zero(): void {
    for (const c of this.counters) c.value = 0n;
  }
  private counts(): number[] {
    return this.counters.map(c => Number(c.value));
  }
}
