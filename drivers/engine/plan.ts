// Plans: the programs of the executor. An engine compiles a model by emitting ops into a sink; the same emission counts the bytes of a
// plan (budget), writes it into the arena (load) or into an image of its own (prices of a model that is not loaded), or prints it (llmctl
// plan --ops), so they cannot differ. Behind the records lie the rows of their prices: room for them is made here, the kernel fills it. Where
// weights stream, a segment falls apart into pieces, one for each tile, and the records of the pieces come last.

import { ggmlTypeName, PieceRecord } from '../../kernel/abi/index.ts';
import type { ArenaView, PlanImage, PlanOperand, PlanRow, StreamProgram } from '../../kernel/abi/index.ts';
import { alignUp } from './memory.ts';
import { isAbsent, kindOf, shapeOf } from './shapes.ts';
import type { Tile } from './tiles.ts';
import {
  Attention,
  CausalAttention,
  CausalAttentionBack,
  Check,
  ColumnSum,
  Copy,
  CrossEntropy,
  Echo,
  Elementwise,
  Fill,
  FLAG_ADD,
  FLAG_HEAD,
  FLAG_ROWS,
  FloatMulMat,
  GatedBack,
  Gathered,
  GetRows,
  KvStore,
  Lora,
  MulMat,
  Norm,
  NormBack,
  NormHeads,
  NormHeadsBack,
  Op,
  OP_BYTES,
  Outer,
  Perturb,
  PRICE_BYTES,
  Quantize,
  Repack,
  Rope,
  RopeTable,
  RowsBack,
  Scale,
  Squares,
  Update,
  WORD_FLAGS,
  WORD_POSITIONS,
  WORD_TOKENS,
} from './ops.ts';

/** Memory an op reads or writes, by name: the name is for people, the offset for the executor. */
export interface Place {
  readonly name: string;
  readonly at: number;
  /** It is a tile's, or trained: nearer to the processor than weights that stay, and so of another price. */
  readonly isNear?: true;
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
  [Op.GELU_MUL_F16]: Elementwise,
  [Op.RMS_NORM_HEADS]: NormHeads,
  [Op.ROPE_TABLE_SCALED]: RopeTable,
  [Op.SCALE]: Scale,
  [Op.CHECK]: Check,
  [Op.SAMPLE]: NONE,
  [Op.SCORE]: NONE,
  [Op.ECHO]: Echo,
  [Op.REPACK]: Repack,
  [Op.GET_GATHERED]: Gathered,
  [Op.ADD_GATHERED]: Gathered,
  [Op.LOGITS_SUM]: NONE,
  [Op.LORA]: Lora,
  [Op.FLOAT_MUL_MAT]: FloatMulMat,
  [Op.FLOAT_MUL_MAT_BACK]: FloatMulMat,
  [Op.OUTER]: Outer,
  [Op.COLUMN_SUM]: ColumnSum,
  [Op.RMS_NORM_BACK]: NormBack,
  [Op.LAYER_NORM_BACK]: NormBack,
  [Op.RMS_NORM_HEADS_BACK]: NormHeadsBack,
  [Op.ROPE_BACK]: Rope,
  [Op.CAUSAL_ATTENTION]: CausalAttention,
  [Op.CAUSAL_ATTENTION_BACK]: CausalAttentionBack,
  [Op.SILU_MUL_BACK]: GatedBack,
  [Op.GELU_BACK]: GatedBack,
  [Op.GELU_MUL]: Elementwise,
  [Op.GELU_MUL_BACK]: GatedBack,
  [Op.CROSS_ENTROPY]: CrossEntropy,
  [Op.CROSS_ENTROPY_BACK]: CrossEntropy,
  [Op.CROSS_ENTROPY_JVP]: CrossEntropy,
  [Op.ROWS_BACK]: RowsBack,
  [Op.COPY]: Copy,
  [Op.FILL]: Fill,
  [Op.RMS_NORM_JVP]: NormBack,
  [Op.LAYER_NORM_JVP]: NormBack,
  [Op.RMS_NORM_HEADS_JVP]: NormHeadsBack,
  [Op.CAUSAL_ATTENTION_JVP]: CausalAttentionBack,
  [Op.SILU_MUL_JVP]: GatedBack,
  [Op.GELU_JVP]: GatedBack,
  [Op.GELU_MUL_JVP]: GatedBack,
  [Op.SQUARES]: Squares,
  [Op.ADAM]: Update,
  [Op.SGD]: Update,
  [Op.PERTURB]: Perturb,
  [Op.ACCUMULATE]: Perturb,
} as const;
export type Operands<O extends Op> = { readonly [W in keyof (typeof WORDS)[O] & string]: Operand };

export interface OpOptions {
  /** The op runs for the picks: row i of its buffers belongs to pick i. */
  readonly head?: boolean;
  /** MUL_MAT, FLOAT_MUL_MAT and its BACK add to their destination. */
  readonly add?: boolean;
  /** The op runs over one row only: over a vector of parameters. */
  readonly once?: boolean;
}

/** The read of a tile to a buffer of the ring. */
export interface TileRead {
  readonly tile: Tile;
  readonly bufferAt: number;
  readonly buffer: number; // its number
  readonly tensor: number; // index, in the directory, of the first matrix
}

/** Where an engine emits its plan. */
export interface PlanSink {
  /** Starts a segment; returns the arena offset of its first op. */
  segment(name: string): number;
  /** The ops that follow, up to the segment's end, belong to this layer; -1: to none. */
  layer(index: number): void;
  /** Ends a piece of the segment: the ops that follow wait for this read. */
  tile(read: TileRead): void;
  emit<O extends Op>(op: O, operands: Operands<O>, options?: OpOptions): void;
}

const word = (operand: Operand): number =>
  typeof operand === 'number' ? operand : 'at' in operand ? operand.at : operand.f32;

/** Ops that run row by row: each needs its position or its session's block table. */
const BY_ROWS: ReadonlySet<Op> = new Set([
  Op.ADD_ROWS,
  Op.ADD_GATHERED,
  Op.ROPE_TABLE,
  Op.ROPE_TABLE_SCALED,
  Op.KV_STORE,
  Op.ATTENTION,
  Op.LORA,
  Op.CAUSAL_ATTENTION,
  Op.CAUSAL_ATTENTION_BACK,
  Op.CAUSAL_ATTENTION_JVP,
]);
/** Those of them whose cost depends on the position. */
const POSITIONAL: ReadonlySet<Op> = new Set([
  Op.ATTENTION,
  Op.CAUSAL_ATTENTION,
  Op.CAUSAL_ATTENTION_BACK,
  Op.CAUSAL_ATTENTION_JVP,
]);

/** What ops without operands write. */
const WRITTEN: Partial<Record<Op, string>> = { [Op.SAMPLE]: 'next', [Op.SCORE]: 'loss', [Op.LOGITS_SUM]: 'sum' };

/** Those that run pick by pick in a head: rows of the pass come from anywhere in it. */
const BY_PICKS: ReadonlySet<Op> = new Set([
  Op.RMS_NORM,
  Op.LAYER_NORM,
  Op.RMS_NORM_BACK,
  Op.LAYER_NORM_BACK,
  Op.RMS_NORM_JVP,
  Op.LAYER_NORM_JVP,
  Op.CROSS_ENTROPY,
  Op.CROSS_ENTROPY_BACK,
  Op.CROSS_ENTROPY_JVP,
]);

function flagsOf(op: Op, { head = false, add = false }: OpOptions): number {
  const byRows = BY_ROWS.has(op) || (head && BY_PICKS.has(op));
  return (head ? FLAG_HEAD : 0) | (add ? FLAG_ADD : 0) | (byRows ? FLAG_ROWS : 0);
}

/**
 * What an op's price depends on: the op, its flags, lengths and types, which of its operands are absent and which are the same buffer. Not
 * where they lie: offsets into the KV cache are addresses too.
 */
function priceKeyOf(op: Op, operands: Readonly<Record<string, Operand>>, options: OpOptions): string {
  const places: string[] = [];
  let shape = `${op} ${flagsOf(op, options)}`;
  for (const name in operands) {
    const operand = operands[name]!;
    if (typeof operand === 'number') shape += name.endsWith('At') ? ' -' : ` ${operand}`;
    else if (!('at' in operand)) shape += ' .';
    else {
      const known = places.indexOf(operand.name);
      shape += `${operand.isNear ? ' ~' : ' @'}${known < 0 ? places.push(operand.name) - 1 : known}`;
    }
  }
  return shape;
}

// ── Sinks ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Views of the same bytes, which begin at arena offset `originAt`. */
interface PlanMemory {
  readonly i32: Int32Array;
  readonly f32: Float32Array;
  readonly u8: Uint8Array;
  readonly originAt: number;
}

interface PriceRows {
  readonly op: Op;
  readonly tokens: number; // at most
  readonly records: number[]; // offsets of the records they price
}

interface Piece {
  readonly opAt: number;
  readonly read: TileRead | null;
}

const NO_READ = { bufferAt: 0, tensor: 0, tile: { bytes: 0, fileAt: 0 } };

/** Where the pieces of the segments that can stream are. */
type PiecePlaces = Pick<StreamProgram, 'bodyPiecesAt' | 'bodyPieces' | 'headPiecesAt' | 'headPieces'>;
/** The rest of a stream program, which an engine knows before it emits ops. */
export type StreamFacts = Omit<StreamProgram, keyof PiecePlaces>;

/** How many rows an op may run over, and positions there are: for so many it has prices. */
export interface PlanRows {
  readonly batch: number; // rows of a pass
  readonly picks?: number; // of a head; as many where it is missing
  readonly ctx: number;
}

/** Writes ops from `at` on, then the rows of their prices, empty, then the pieces; with no memory it only counts the bytes. */
class PlanWriter implements PlanSink {
  private readonly rows = new Map<string, PriceRows>();
  private readonly pieces = new Map<string, Piece[]>(); // by segment
  private current: Piece[] = [];

  constructor(
    private readonly memory: PlanMemory | null,
    private at: number,
    private readonly most: PlanRows,
  ) {}

  segment(name: string): number {
    this.current = [{ opAt: this.at, read: null }];
    this.pieces.set(name, this.current);
    return this.at;
  }

  layer(): void {}

  tile(read: TileRead): void {
    this.emit(Op.END, {});
    this.current.push({ opAt: this.at, read });
  }

  emit<O extends Op>(op: O, operands: Operands<O>, options: OpOptions = {}): void {
    const at = this.at;
    this.at += OP_BYTES;
    if (op !== Op.END) {
      const { batch, picks = batch } = this.most;
      const tokens = options.once === true ? 1 : options.head === true ? picks : batch;
      const shape = `${priceKeyOf(op, operands, options)} ${tokens}`;
      const rows = this.rows.get(shape) ?? { op, tokens, records: [] };
      rows.records.push(at);
      this.rows.set(shape, rows);
    }
    if (this.memory === null) return;
    const { i32, f32, originAt } = this.memory;
    const base = (at - originAt) >> 2;
    i32.fill(0, base, base + OP_BYTES / 4);
    i32[base] = op;
    i32[base + WORD_FLAGS] = flagsOf(op, options);
    const words: Readonly<Record<string, number | string>> = WORDS[op];
    for (const [name, operand] of Object.entries<Operand>(operands)) {
      const i = base + Number(words[name]);
      if (typeof operand === 'object' && 'f32' in operand) f32[i] = operand.f32;
      else i32[i] = word(operand);
    }
  }

  /** Lays the rows of prices out and points the records to them. */
  finish(): void {
    const firstAt = this.at;
    for (const { op, tokens, records } of this.rows.values()) {
      this.point(records, WORD_TOKENS, tokens + 1);
      if (POSITIONAL.has(op)) this.point(records, WORD_POSITIONS, this.most.ctx);
    }
    this.pad(firstAt);
  }

  /** Writes the pieces of body and head behind all else. */
  finishPieces(): PiecePlaces {
    const firstAt = this.at;
    const body = this.pieces.get('body') ?? [];
    const head = this.pieces.get('head') ?? [];
    const headPiecesAt = firstAt + body.length * PieceRecord.bytes;
    this.at = headPiecesAt + head.length * PieceRecord.bytes;
    this.pad(this.at);
    if (this.memory !== null) {
      const { u8, originAt } = this.memory;
      [...body, ...head].forEach(({ opAt, read }, i) => {
        const { bufferAt, tensor, tile } = read ?? NO_READ;
        const { bytes, fileAt } = tile;
        PieceRecord.write(u8, firstAt - originAt + i * PieceRecord.bytes, { opAt, bufferAt, bytes, tensor, fileAt });
      });
    }
    return { bodyPiecesAt: firstAt, bodyPieces: body.length, headPiecesAt, headPieces: head.length };
  }

  /** A multiple of the arena's alignment. */
  get endAt(): number {
    return this.at;
  }

  /** Rounds the end up; all bytes from `firstAt` on are 0. */
  private pad(firstAt: number): void {
    this.at = alignUp(this.at);
    if (this.memory === null) return;
    const { i32, originAt } = this.memory;
    i32.fill(0, (firstAt - originAt) >> 2, (this.at - originAt) >> 2);
  }

  private point(records: readonly number[], word: number, prices: number): void {
    if (this.memory !== null)
      for (const at of records) this.memory.i32[((at - this.memory.originAt) >> 2) + word] = this.at;
    this.at += prices * PRICE_BYTES;
  }
}

/**
 * Turns a plan into text, one row per op: `MUL_MAT  dst=query rows=288 k=288 weights=blk.0.attn_q.weight …`. The END between two pieces of a
 * segment is listed as the TILE that the second waits for.
 */
class PlanLister implements PlanSink {
  readonly rows: PlanRow[] = [];
  private current = '';
  private currentLayer = -1;

  segment(name: string): number {
    this.current = name;
    this.currentLayer = -1;
    return 0;
  }

  layer(index: number): void {
    this.currentLayer = index;
  }

  tile({ tile: { parts, bytes, fileAt }, buffer }: TileRead): void {
    const rows = parts.map(({ matrix, row, rows: n }) => `${matrix.name}[${row}…${row + n - 1}]`);
    this.rows.push({
      segment: this.current,
      op: 'TILE',
      layer: this.currentLayer,
      name: parts[0]!.matrix.name,
      detail: `${rows.join(' ')} bytes=${bytes} file=${fileAt} buffer=${buffer}`,
      operands: [],
    });
  }

  emit<O extends Op>(op: O, operands: Operands<O>, options: OpOptions = {}): void {
    const detail: string[] = [];
    let buffer = WRITTEN[op] ?? '';
    let weights = '';
    for (const [name, operand] of Object.entries<Operand>(operands)) {
      const key = name.endsWith('At') ? name.slice(0, -2) : name;
      if (name === 'biasAt' && operand === 0) continue;
      else if (name.endsWith('Type')) detail.push(`${key}=${ggmlTypeName(word(operand)) ?? word(operand)}`);
      else if (typeof operand === 'object' && 'at' in operand) {
        detail.push(`${key}=${operand.name}`);
        if (name === 'weightsAt' || name === 'aAt') weights = operand.name;
        else if (buffer === '') buffer = operand.name; // what is written is named first
      } else detail.push(`${key}=${word(operand)}`);
    }
    if (options.add === true) detail.push('add');
    this.rows.push({
      segment: this.current,
      op: Op[op],
      layer: this.currentLayer,
      name: weights || buffer,
      detail: detail.join(' '),
      operands: operandsOf(op, operands),
    });
  }
}

/** The operands of an op that are there, in the order in which it was emitted with them. */
function operandsOf(op: Op, operands: Readonly<Record<string, Operand>>): PlanOperand[] {
  const words: Readonly<Record<string, number | string>> = WORDS[op];
  return Object.entries(operands).flatMap(([key, operand]): PlanOperand[] => {
    const entry = { name: key.endsWith('At') ? key.slice(0, -2) : key, word: Number(words[key]), place: '', shape: '' };
    if (typeof operand === 'object' && 'f32' in operand) return [{ ...entry, kind: 'real' }];
    if (typeof operand === 'number') return isAbsent(key, operand) ? [] : [{ ...entry, kind: kindOf(key) }];
    const shape = shapeOf(op, key, name => word(operands[name]!));
    return [{ ...entry, kind: 'place', place: operand.name, shape }];
  });
}

/**
 * The segments that end every engine's plan: from the logits of one pick to a token, and to the loss of one. `sums`: both add the row to the
 * session's checksum first, while it is as the head has left it.
 */
export function emitDraws(
  sink: PlanSink,
  { sums }: { readonly sums: boolean },
): Pick<Segments, 'sampleAt' | 'scoreAt'> {
  const segment = (name: string, op: Op.SAMPLE | Op.SCORE): number => {
    const at = sink.segment(name);
    if (sums) sink.emit(Op.LOGITS_SUM, {}, { head: true });
    sink.emit(op, {}, { head: true });
    sink.emit(Op.END, {});
    return at;
  };
  return { sampleAt: segment('sample', Op.SAMPLE), scoreAt: segment('score', Op.SCORE) };
}

// ── A plan ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Arena offsets of the segments' first ops. */
export type Segments = Pick<PlanImage, 'bodyAt' | 'headAt' | 'sampleAt' | 'scoreAt'>;

/** A plan in memory: its segments, and how it streams. */
export type Placed<S = Segments> = S & Pick<PlanImage, 'stream'>;

/** A program that an engine can emit again and again: its records begin at `recordsAt`. `facts`: of one whose weights stream. */
export class Plan<S extends object = Segments> {
  constructor(
    private readonly emit: (sink: PlanSink) => S,
    private readonly recordsAt: number,
    private readonly most: PlanRows,
    private readonly facts: StreamFacts | null = null,
  ) {}

  /** Where the plan ends, a multiple of the arena's alignment. */
  endAt(): number {
    return this.write(null).endAt;
  }

  /** Into the arena, `endAt() − recordsAt` bytes. */
  load({ i32, f32, u8 }: ArenaView): Placed<S> {
    return this.write({ i32, f32, u8, originAt: 0 }).placed;
  }

  /** As load() would leave the region that begins at `originAt`; what precedes the records is 0. */
  image(originAt: number): Placed<S> & Pick<PlanImage, 'words' | 'rows'> {
    const words = new Int32Array((this.endAt() - originAt) >> 2);
    const { buffer } = words;
    const { placed } = this.write({ i32: words, f32: new Float32Array(buffer), u8: new Uint8Array(buffer), originAt });
    return { ...placed, words, rows: this.rows() };
  }

  rows(): readonly PlanRow[] {
    const lister = new PlanLister();
    this.emit(lister);
    return lister.rows;
  }

  private write(memory: PlanMemory | null): { readonly placed: Placed<S>; readonly endAt: number } {
    const writer = new PlanWriter(memory, this.recordsAt, this.most);
    const segments = this.emit(writer);
    writer.finish();
    const stream = this.facts === null ? null : { ...this.facts, ...writer.finishPieces() };
    return { placed: { ...segments, stream }, endAt: writer.endAt };
  }
}
