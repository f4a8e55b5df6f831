// Single ops of the executor on an arena of their own, in every build that this host runs: operands are laid out behind each other between
// guard values, one record is run over rows and picks, and what it wrote is read back. All builds must write the same bits.

import { readFileSync } from 'node:fs';
import v8 from 'node:v8';
import * as ops from '../../drivers/engine/ops.ts';
import { BUILDS, canRun } from '../harness.ts';

v8.setFlagsFromString('--experimental-wasm-relaxed-simd');

const [STEP, RECORD, PRICES] = [1024, 2048, 4096]; // a record, an END behind it; its price is 0 throughout
const [ROWS, PICKS, TABLES] = [8192, 16384, 20480]; // 256 rows at most, and as many picks; block tables of TABLE_BYTES each
const TABLE_BYTES = 64;
const FIRST = 0x10000;
const GUARD = -1.2345678e30;

/** An operand word: an address or integer, or a real number as f32 bits. */
type Word = number | { readonly f32: number };
export interface Run {
  /** Positions of the rows of the pass; 0 … by default as many as `n`. */
  readonly positions?: readonly number[];
  readonly tokens?: readonly number[];
  readonly n?: number;
  /** Rows of the pass that a head names: the op runs for these. */
  readonly picks?: readonly number[];
  /** Row by row. */
  readonly byRows?: boolean;
  readonly add?: boolean;
}

export class OpBench {
  readonly build: string;
  readonly u8: Uint8Array;
  readonly view: DataView;
  readonly #run: (step: number, record: number) => number;
  #next = FIRST;
  #guards: number[] = [];

  constructor(build: string) {
    this.build = build;
    const memory = new WebAssembly.Memory({ initial: 128, maximum: 128 });
    const module = new WebAssembly.Module(readFileSync(`build/kernels.${build}.wasm`));
    const { exports } = new WebAssembly.Instance(module, { env: { memory } });
    this.u8 = new Uint8Array(memory.buffer);
    this.view = new DataView(memory.buffer);
    this.#run = exports['run'] as (step: number, record: number) => number;
  }

  /** Forgets all operands. */
  reset(): void {
    this.#next = FIRST;
    this.#guards = [];
  }

  /** Room for `n` values, and a guard behind them. */
  room(n: number): number {
    const at = this.#next;
    const guard = at + 4 * n;
    this.view.setFloat32(guard, GUARD, true);
    this.#guards.push(guard);
    this.#next = Math.ceil((guard + 4) / 16) * 16;
    return at;
  }

  put(values: ArrayLike<number>): number {
    const at = this.room(values.length);
    for (let i = 0; i < values.length; i++) this.view.setFloat32(at + 4 * i, values[i]!, true);
    return at;
  }

  putU32(values: readonly number[]): number {
    const at = this.room(values.length);
    values.forEach((v, i) => this.view.setUint32(at + 4 * i, v, true));
    return at;
  }

  putBytes(bytes: Uint8Array): number {
    const at = this.room(Math.ceil(bytes.length / 4));
    this.u8.set(bytes, at);
    return at;
  }

  f32(at: number, n: number): Float32Array {
    return new Float32Array(this.u8.buffer.slice(at, at + 4 * n));
  }

  /** The block table of row `row`: what else a session keeps lies behind it. */
  tableOf(row: number): number {
    return TABLES + row * TABLE_BYTES;
  }

  /** Runs one record; returns the fault. Throws where a guard was overwritten. */
  run(op: ops.Op, operands: Readonly<Record<number, Word>>, how: Run = {}): number {
    const { n = how.positions?.length ?? 1, picks, byRows = false, add = false } = how;
    const { view } = this;
    this.u8.fill(0, STEP, ROWS);
    const words: [number, number][] = [
      [ops.STEP_N, n],
      [ops.STEP_PICKS, picks?.length ?? 0],
      [ops.STEP_ROWS_AT, ROWS],
      [ops.STEP_PICKS_AT, PICKS],
      [ops.STEP_CTX, 256],
    ];
    for (const [at, value] of words) view.setInt32(STEP + at, value, true);
    for (let row = 0; row < n; row++) {
      const record = ROWS + row * ops.ROW_BYTES;
      view.setUint32(record + ops.ROW_TOKEN, how.tokens?.[row] ?? 0, true);
      view.setUint32(record + ops.ROW_POS, how.positions?.[row] ?? row, true);
      view.setUint32(record + ops.ROW_TABLE_AT, this.tableOf(row), true);
    }
    picks?.forEach((row, i) => view.setInt32(PICKS + i * ops.PICK_BYTES + ops.PICK_ROW, row, true));
    const flags = (picks === undefined ? 0 : ops.FLAG_HEAD) | (add ? ops.FLAG_ADD : 0) | (byRows ? ops.FLAG_ROWS : 0);
    view.setInt32(RECORD, op, true);
    view.setInt32(RECORD + 4 * ops.WORD_FLAGS, flags, true);
    view.setInt32(RECORD + 4 * ops.WORD_TOKENS, PRICES, true);
    for (const [word, value] of Object.entries(operands)) {
      const at = RECORD + 4 * Number(word);
      if (typeof value === 'number') view.setInt32(at, value, true);
      else view.setFloat32(at, value.f32, true);
    }
    const fault = this.#run(STEP, RECORD);
    const broken = this.#guards.findIndex(at => view.getFloat32(at, true) !== Math.fround(GUARD));
    if (broken >= 0) throw new Error(`${ops.Op[op]}, ${this.build}: wrote behind operand ${broken}`);
    return fault;
  }
}

export const benches = BUILDS.filter(canRun).map(build => new OpBench(build));

/** What `work` gives on every build, which must be the same to the bit. */
export function onAll<T extends Float32Array | Float64Array>(work: (bench: OpBench) => T): T {
  const [first, ...others] = benches.map(bench => {
    bench.reset();
    return work(bench);
  });
  for (const [i, other] of others.entries())
    if (Buffer.compare(Buffer.from(first!.buffer), Buffer.from(other.buffer)) !== 0) {
      const at = first!.findIndex((v, j) => !Object.is(v, other[j]));
      throw new Error(`${benches[i + 1]!.build} differs: [${at}] = ${other[at]}, not ${first![at]}`);
    }
  return first!;
}
