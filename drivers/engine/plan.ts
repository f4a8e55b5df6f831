// Plans: the programs of the executor. An engine compiles a model by emitting ops into a sink; the same emission counts the bytes of a
// plan (budget), writes it into the arena (load) or prints it (llmctl plan --ops), so the three cannot differ. Each op is priced here,
// from its operands alone: what a step costs is known before it runs.

import { GGML_BLOCK, ggmlTypeName } from '../../kernel/abi/index.ts';
import {
  Attention,
  Check,
  Elementwise,
  FLAG_ADD,
  FLAG_HEAD,
  GetRows,
  KvStore,
  MulMat,
  Norm,
  Op,
  OP_BYTES,
  Quantize,
  Rope,
  RopeTable,
} from './ops.ts';
import { WORD_COST0, WORD_COST1, WORD_COST2, WORD_FLAGS } from './ops.ts';
import { isBlocked } from './sizes.ts';

/** Memory an op reads or writes, by name: the name is for people, the offset for the executor. */
export interface Place {
  readonly name: string;
  readonly at: number;
}
/** An operand: an integer, a named place, or a real number stored as f32 bits. */
export type Operand = number | Place | { readonly f32: number };

const NONE = {};
/** The operand words of each op, by name. */
const WORDS = {
  [Op.END]: NONE,
  [Op.GET_ROWS]: GetRows,
  [Op.ADD_ROWS]: GetRows,
  [Op.RMS_NORM]: Norm,
  [Op.LAYER_NORM]: Norm,
  [Op.QUANTIZE]: Quantize,
  [Op.MUL_MAT]: MulMat,
  [Op.ROPE_TABLE]: RopeTable,
  [Op.ROPE]: Rope,
  [Op.KV_STORE]: KvStore,
  [Op.ATTENTION]: Attention,
  [Op.ADD]: Elementwise,
  [Op.SILU_MUL]: Elementwise,
  [Op.GELU]: Elementwise,
  [Op.GELU_F16]: Elementwise,
  [Op.CHECK]: Check,
  [Op.SAMPLE]: NONE,
  [Op.SCORE]: NONE,
  [Op.ECHO]: NONE,
} as const;
export type Operands<O extends Op> = { readonly [W in keyof (typeof WORDS)[O] & string]: Operand };

export interface OpOptions {
  /** The op runs for one token of the batch: StepBlock.row, buffers' row 0. */
  readonly head?: boolean;
  /** MUL_MAT adds to its destination. */
  readonly add?: boolean;
  /** For ops without a length of their own: how many values they go over. */
  readonly values?: number;
}

/** Where an engine emits its plan. */
export interface PlanSink {
  /** Starts a segment; returns the arena offset of its first op. */
  segment(name: string): number;
  emit<O extends Op>(op: O, operands: Operands<O>, options?: OpOptions): void;
}

// ── Prices ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Cycles of one op: fixed + perToken · tokens + perPosition · Σ(position + 1). */
export interface Price {
  readonly fixed: number;
  readonly perToken: number;
  readonly perPosition: number;
}

/**
 * A provisional price list in the shape of a 128-bit in-order core: a cost per record, throughputs of arithmetic and memory. The
 * certificates of the compiled kernels replace it; what is promised now is only that a price depends on shapes and nothing else.
 */
export const PRICE_LIST = {
  record: 32, // fetch, decode, call
  weightBytesPerCycle: 4, // once per pass over a matrix, whatever the batch
  multiplyAddsPerCycle: 2, // of floats
  blockMultiplyAddsPerCycle: 8, // of int8 in quantised products
  value: 2, // load, one operation, store
  norm: 4, // a value of a norm: sum, scale
  quantize: 4, // a value of an activation
  transcendental: 16, // exp, tanh or a sine and cosine
  draw: 24, // a value of the logits in the sampler
} as const;

type Words = Readonly<Record<string, number>>;
const price = (fixed: number, perToken: number, perPosition = 0): Price => ({
  fixed: PRICE_LIST.record + Math.ceil(fixed),
  perToken: Math.ceil(perToken),
  perPosition: Math.ceil(perPosition),
});
const rowBytes = (type: number, k: number): number => {
  const [values, bytes] = GGML_BLOCK[ggmlTypeName(type)!];
  return (k / values) * bytes;
};

const PRICES: Record<Op, (w: Words, values: number) => Price> = {
  [Op.END]: () => price(0, 0),
  [Op.GET_ROWS]: w => price(0, w['k']! * PRICE_LIST.value),
  [Op.ADD_ROWS]: w => price(0, w['k']! * PRICE_LIST.value),
  [Op.RMS_NORM]: w => price(0, w['n']! * PRICE_LIST.norm),
  [Op.LAYER_NORM]: w => price(0, w['n']! * PRICE_LIST.norm),
  [Op.QUANTIZE]: w => price(0, w['k']! * PRICE_LIST.quantize),
  [Op.MUL_MAT]: w => {
    const bytes = w['rows']! * rowBytes(w['weightType']!, w['k']!);
    const perCycle = isBlocked(w['weightType']!)
      ? PRICE_LIST.blockMultiplyAddsPerCycle
      : PRICE_LIST.multiplyAddsPerCycle;
    return price(bytes / PRICE_LIST.weightBytesPerCycle, (w['rows']! * w['k']!) / perCycle);
  },
  [Op.ROPE_TABLE]: w => price(0, w['pairs']! * PRICE_LIST.transcendental),
  [Op.ROPE]: w => price(0, w['heads']! * w['pairs']! * 2 * PRICE_LIST.value),
  [Op.KV_STORE]: w => price(0, w['n']! * PRICE_LIST.value),
  [Op.ATTENTION]: w => {
    const query = w['heads']! * w['headDim']!;
    const cacheBytes = 2 * rowBytes(w['kvType']!, w['headsKv']! * w['headDim']!);
    const perPosition =
      (2 * query) / PRICE_LIST.multiplyAddsPerCycle +
      w['heads']! * PRICE_LIST.transcendental +
      cacheBytes / PRICE_LIST.weightBytesPerCycle;
    return price(0, query * PRICE_LIST.value, perPosition);
  },
  [Op.ADD]: w => price(0, w['n']! * PRICE_LIST.value),
  [Op.SILU_MUL]: w => price(0, w['n']! * PRICE_LIST.transcendental),
  [Op.GELU]: w => price(0, w['n']! * PRICE_LIST.transcendental),
  [Op.GELU_F16]: w => price(0, w['n']! * PRICE_LIST.transcendental),
  [Op.CHECK]: w => price(0, w['n']!),
  [Op.SAMPLE]: (_, values) => price(0, values * PRICE_LIST.draw),
  [Op.SCORE]: (_, values) => price(0, values * PRICE_LIST.transcendental),
  [Op.ECHO]: (_, values) => price(0, values * PRICE_LIST.value),
};

const word = (operand: Operand): number =>
  typeof operand === 'number' ? operand : 'at' in operand ? operand.at : operand.f32;

/** What an op with these operands costs. */
export function priceOf<O extends Op>(op: O, operands: Operands<O>, values = 0): Price {
  const words: Record<string, number> = {};
  for (const [name, operand] of Object.entries<Operand>(operands)) words[name] = word(operand);
  return PRICES[op](words, values);
}

// ── Sinks ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Writes ops from `at` on; with no memory it only counts them. */
export class PlanWriter implements PlanSink {
  /** Where the next op goes. */
  at: number;

  constructor(
    private readonly memory: { readonly i32: Int32Array; readonly f32: Float32Array } | null,
    at: number,
  ) {
    this.at = at;
  }

  segment(): number {
    return this.at;
  }

  emit<O extends Op>(op: O, operands: Operands<O>, options: OpOptions = {}): void {
    const base = this.at >> 2;
    this.at += OP_BYTES;
    if (this.memory === null) return;
    const { i32, f32 } = this.memory;
    const cost = priceOf(op, operands, options.values);
    i32.fill(0, base, base + OP_BYTES / 4);
    i32[base] = op;
    i32[base + WORD_FLAGS] = (options.head === true ? FLAG_HEAD : 0) | (options.add === true ? FLAG_ADD : 0);
    i32[base + WORD_COST0] = cost.fixed;
    i32[base + WORD_COST1] = cost.perToken;
    i32[base + WORD_COST2] = cost.perPosition;
    const words: Readonly<Record<string, number | string>> = WORDS[op];
    for (const [name, operand] of Object.entries<Operand>(operands)) {
      const i = base + Number(words[name]);
      if (typeof operand === 'object' && 'f32' in operand) f32[i] = operand.f32;
      else i32[i] = word(operand);
    }
  }
}

export interface PlanRow {
  readonly segment: string;
  readonly op: string;
  readonly detail: string;
}

/** Turns a plan into text, one row per op: `MUL_MAT  dst=query rows=288 k=288 weights=blk.0.attn_q.weight …`. */
export class PlanLister implements PlanSink {
  readonly rows: PlanRow[] = [];
  private current = '';

  segment(name: string): number {
    this.current = name;
    return 0;
  }

  emit<O extends Op>(op: O, operands: Operands<O>, options: OpOptions = {}): void {
    const detail: string[] = [];
    for (const [name, operand] of Object.entries<Operand>(operands)) {
      const key = name.endsWith('At') ? name.slice(0, -2) : name;
      if (name === 'biasAt' && operand === 0) continue;
      else if (name.endsWith('Type')) detail.push(`${key}=${ggmlTypeName(word(operand)) ?? word(operand)}`);
      else if (typeof operand === 'object' && 'at' in operand) detail.push(`${key}=${operand.name}`);
      else detail.push(`${key}=${word(operand)}`);
    }
    if (options.add === true) detail.push('add');
    const cost = priceOf(op, operands, options.values);
    const terms = [
      cost.fixed,
      cost.perToken > 0 ? `${cost.perToken}/token` : '',
      cost.perPosition > 0 ? `${cost.perPosition}/position` : '',
    ];
    detail.push(`cycles=${terms.filter(t => t !== '').join('+')}`);
    this.rows.push({ segment: this.current, op: Op[op], detail: detail.join(' ') });
  }
}
