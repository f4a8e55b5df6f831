// A second opinion on every charge: while a request runs on a machine, a module that counts its instructions does the same work in a memory of
// its own, op by op. What it counts, at the target's prices, with the traffic of the op's operands and the overhead of its record, must be
// what the machine charges, to the cycle. The counting module is the priced build's as it was compiled: neither metered nor charging.

import { readFileSync } from 'node:fs';
import { isRefusal, PLAN_RECORD, StepBlock, type Refusal } from '../../kernel/abi/index.ts';
import { Op } from '../../drivers/engine/ops.ts';
import { Certificates, type CertificateFile } from '../../kernel/wcet/certificate.ts';
import { counterName, instrument } from '../../kernel/wcet/instrument.ts';
import type { Segment } from '../../kernel/wcet/price.ts';
import { Shape } from '../../kernel/wcet/shape.ts';
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

export class Witness implements Observer {
  private readonly subject: Subject;
  private readonly u8: Uint8Array;
  private readonly i32: Int32Array;
  private readonly exports: Exports;
  private readonly counters: readonly WebAssembly.Global[];
  private readonly certificates: Certificates;
  private target!: Target;
  private metered: readonly number[] = [];
  /** What the executor's pass of its loop moves, in thousandths of a cycle. */
  private passMilli = 0;
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
    const executor = Shape.of(given(this.certificates.get('run')), {
      target,
      prices: target.upper,
      regionOf: address => (address < this.subject.engine.bodyAt ? 'fixed' : 'plan'),
      args: [kernel.lay.stepAt, this.subject.engine.bodyAt],
      passes: 1,
      read: () => 'data',
      cases: [() => [0, 0]],
    });
    this.passMilli = given(executor).figures().memory;
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
    const [n, pos] = [name === 'body' ? this.word(stepAt + step.n) : 1, this.word(stepAt + step.pos)];
    const costs = prices.ops(name, n, pos);
    let sum = 0;
    for (const [i, cost] of costs.entries()) {
      const at = opAt + i * PLAN_RECORD.bytes;
      const drawn = this.word(at) === Op.SAMPLE ? this.drawn(stepAt) : null;
      const positional = this.word(at + 4 * PLAN_RECORD.positions) !== 0;
      const parts = positional ? this.parts(stepAt, at, name, i, n, pos) : null;
      const all = this.op(at, stepAt);
      const counts = drawn === null ? all : all.map((x, cls) => x - drawn[cls]!);
      const fixed = this.passMilli + this.target.overhead.recordCycles * MILLI;
      const charge = parts ?? cyclesOf(dot(counts, this.target.upper) + cost.memory + fixed);
      if (charge !== cost.most)
        throw new Broken(`${name} ${i} ${Op[this.word(at)]}: priced ${cost.most}, counted ${charge}`);
      sum += charge + (drawn === null ? 0 : cyclesOf(dot(drawn, this.metered)));
      this.agreed++;
    }
    return sum;
  }

  /** An op whose price is a sum over its tokens: what no token costs, and each at its position; each a price of its own, in whole cycles. */
  private parts(stepAt: number, at: number, name: Segment, i: number, n: number, pos: number): number {
    const milliOf = (tokens: number, position: number): number => {
      this.i32[(stepAt + step.n) >> 2] = tokens;
      this.i32[(stepAt + step.pos) >> 2] = position;
      return dot(this.op(at, stepAt), this.target.upper);
    };
    const none = milliOf(0, pos);
    let sum = cyclesOf(none + this.passMilli + this.target.overhead.recordCycles * MILLI);
    for (let t = 0; t < n; t++) {
      const { memory } = this.subject.prices.ops(name, 1, pos + t)[i]!;
      sum += cyclesOf(milliOf(1, pos + t) - none + memory);
    }
    this.i32[(stepAt + step.n) >> 2] = this.subject.machine.arena.i32[(stepAt + step.n) >> 2]!;
    this.i32[(stepAt + step.pos) >> 2] = pos;
    return sum;
  }

  /** What the sampler executes, which leaves the memory as it was. */
  private drawn(stepAt: number): number[] {
    this.zero();
    this.exports['sample']!(stepAt);
    const counts = this.counts();
    this.copy();
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
