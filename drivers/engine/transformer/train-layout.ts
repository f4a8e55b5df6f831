// The train region: vectors of parameters, residual streams that are kept, activations of one layer or of all, gradients of activations, the
// head's buffers, the plan. Buffers whose lives do not meet share bytes. In reverse mode what a layer computes must still be there, or
// come again, when its gradients are taken: checkpointing after Chen et al. (2016), every c-th residual stream kept.

import { TRAIN_KEEP_ALL } from '../../../kernel/abi/index.ts';
import type { TrainBudget, TrainChoice } from '../../../kernel/abi/index.ts';
import { Cursor } from '../memory.ts';
import type { Place } from '../plan.ts';
import { actBytes, actKind, ropeTableBytes } from '../sizes.ts';
import { keyValueLength, queryLength } from './architecture.ts';
import type { BoundTensor } from './architecture.ts';
import type { Model } from './compile.ts';
import type { Parameters } from './train-parameters.ts';

/** Values, and beside them their tangents where the method carries them: dual numbers. */
export interface Dual extends Place {
  readonly tangent: Place | null;
}

/** What a layer computes, T rows each. Reverse mode finds it again; the others overlay what is dead. */
export interface LayerBuffers {
  readonly normed: Dual; // [embedding]
  readonly qkv: Dual; // [query + 2 · keyValue]: of a position side by side, as the products leave them
  readonly turned: Dual; // the same behind norms of heads, rotation and scale; without norms of heads it is `qkv`
  readonly heads: Dual; // [query] attention's result
  readonly between: Dual; // [embedding] residual stream between the halves; of a parallel block the halves' sum
  readonly normedUp: Dual; // [embedding] feed-forward's input; of a parallel block `normed`
  readonly gate: Dual; // [feedForward]; the only one where up has no gate
  readonly up: Dual; // [feedForward]
  readonly active: Dual; // [feedForward] what `down` reads
  readonly mids: ReadonlyMap<string, Dual>; // [rank] A · input, by the matrix's name without its layer
}

/** Buffers that gradients may do without; then null. */
type Spared = 'normed' | 'heads' | 'between' | 'normedUp' | 'active';
type NeededBuffers = Omit<LayerBuffers, Spared> & { readonly [B in Spared]: Dual | null };

/** Gradients of activations, T rows each. */
export interface GradientBuffers {
  readonly stream: Place; // [embedding] of the residual stream
  readonly normed: Place; // [embedding] of a norm's result
  readonly qkv: Place; // [query + 2 · keyValue]
  readonly heads: Place; // [query]
  readonly active: Place; // [feedForward], then of the gate
  readonly mid: Place; // [rank]
  readonly normedHead: Place; // [picks][embedding]
}

export interface TrainLayout {
  readonly budget: Omit<TrainBudget, 'plan'>;
  readonly parameters: Place; // what is trained
  readonly working: Place; // what the forward pass reads: the same, but of nes
  readonly tangents: Place | null; // of fmea
  readonly gradients: Place;
  readonly first: Place;
  readonly second: Place | null; // of Adam
  readonly anchor: Place | null;
  /** Before each layer, and behind the last. */
  readonly residuals: readonly Dual[];
  /** Layers from one kept residual stream to the next. */
  readonly stretch: number;
  readonly keepsAll: boolean;
  readonly layers: readonly LayerBuffers[];
  readonly backward: GradientBuffers | null; // of lora and full
  readonly angles: Place; // [T][pairs][2]
  readonly scores: Place; // [2 · T]
  readonly row: Place; // [4 · longest row] weights dequantised
  readonly act: Place; // [T] activations quantised
  readonly normedHead: Dual; // [picks][embedding]
  readonly actHead: Place;
  readonly logits: Dual; // [picks][logitsStride]
  readonly logitsStride: number; // values
  readonly planAt: number;
}

/** Logits of a pick begin at whole vectors of eight. */
const STRIDE = 8;

export function layOutTraining(
  model: Model<BoundTensor>,
  choice: TrainChoice,
  parameters: Parameters,
  at: number,
): TrainLayout {
  const { method, optimizer, anchored } = choice;
  let next = at;
  const sizes: Record<string, number> = {};
  const part = <T>(name: keyof TrainBudget, lay: (c: Cursor) => T): T => {
    const c = new Cursor(next);
    const places = lay(c);
    sizes[name] = c.bytes();
    next += c.bytes();
    return places;
  };
  const bytes = 4 * parameters.count;
  const vectors = part('parameters', c => {
    const own = c.take('parameters', bytes);
    return {
      parameters: own,
      working: method === 'nes' ? c.take('working', bytes) : own,
      tangents: method === 'fmea' ? c.take('tangents', bytes) : null,
    };
  });
  const gradients = part('gradients', c => c.take('gradients', bytes));
  const moments = part('moments', c => ({
    first: c.take('first', bytes),
    second: optimizer === 'adam' ? c.take('second', bytes) : null,
  }));
  const anchor = part('anchor', c => (anchored ? c.take('anchor', bytes) : null));
  const room = new Room(model, choice, parameters);
  const kept = part('checkpoints', c => room.kept(c));
  const body = part('activations', c => room.body(c, kept));
  const head = part('head', c => room.head(c, body.deadAt));
  return {
    budget: sizes as unknown as Omit<TrainBudget, 'plan'>,
    ...vectors,
    gradients,
    ...moments,
    anchor,
    stretch: room.stretch,
    keepsAll: room.keepsAll,
    ...body,
    ...head,
    backward: body.backward === null ? null : { ...body.backward, normedHead: head.gradient },
    planAt: next,
  };
}

/** Another buffer's bytes under a name of their own. */
const as = (name: string, { at }: Place): Dual => ({ name, at, tangent: null });

/** Places for what one sequence needs. */
class Room {
  readonly keepsAll: boolean;
  readonly stretch: number;
  private readonly reverse: boolean;
  private readonly embedding: number;
  private readonly query: number;
  private readonly stride: number;

  constructor(
    private readonly model: Model<BoundTensor>,
    private readonly choice: TrainChoice,
    private readonly parameters: Parameters,
  ) {
    const { h } = model;
    this.reverse = choice.method === 'lora' || choice.method === 'full';
    this.keepsAll = this.reverse && choice.checkpoint === TRAIN_KEEP_ALL;
    this.stretch = this.keepsAll ? 1 : Math.min(choice.checkpoint, h.layers);
    this.embedding = h.embedding;
    this.query = queryLength(h);
    this.stride = this.query + 2 * keyValueLength(h);
  }

  /** The residual stream before each layer: the first of every stretch stays, the others are those of one stretch. Forward modes have one. */
  kept(c: Cursor): readonly Dual[] {
    if (!this.reverse) return [];
    const { layers } = this.model.h;
    const firsts = Array.from({ length: Math.ceil(layers / this.stretch) }, (_, i) =>
      this.rows(c, `residual ${i * this.stretch}`, this.embedding),
    );
    const inner = Array.from({ length: this.stretch - 1 }, (_, i) =>
      this.rows(c, `residual +${i + 1}`, this.embedding),
    );
    return Array.from({ length: layers }, (_, layer) => {
      const within = layer % this.stretch;
      return within === 0 ? firsts[layer / this.stretch]! : inner[within - 1]!;
    });
  }

  /** `deadAt`: what lies from there to the end is dead when logits are computed. */
  body(
    c: Cursor,
    kept: readonly Dual[],
  ): Pick<TrainLayout, 'residuals' | 'layers' | 'angles' | 'scores' | 'row' | 'act'> & {
    readonly backward: Omit<GradientBuffers, 'normedHead'> | null;
    readonly deadAt: number;
  } {
    const { h } = this.model;
    const { ctx } = this.choice;
    const last = this.rows(c, 'residual', this.embedding);
    const angles = c.take('angles', h.rope === null ? 0 : ropeTableBytes(ctx, h.rope.dimensions / 2));
    const scores = c.take('scores', 2 * 4 * ctx);
    const row = c.take('row', 4 * 4 * this.longestRow());
    const residuals = [...Array.from({ length: h.layers }, (_, layer) => kept[layer] ?? last), last];
    return { residuals, angles, scores, row, ...(this.reverse ? this.reversible(c) : this.passing(c, last)) };
  }

  /** Logits and what goes with them, over what is dead then. */
  head(
    c: Cursor,
    deadAt: number,
  ): Pick<TrainLayout, 'normedHead' | 'actHead' | 'logits' | 'logitsStride'> & { readonly gradient: Place } {
    const { picks } = this.choice;
    const logitsStride = Math.ceil(this.model.h.vocabulary / STRIDE) * STRIDE;
    c.release(deadAt);
    const normedHead = this.rows(c, 'normedHead', this.embedding, picks);
    const logits = this.rows(c, 'logits', logitsStride, picks);
    const mark = c.mark();
    const gradient = c.take('gradient of normedHead', this.reverse ? 4 * picks * this.embedding : 0);
    c.release(mark);
    const actHead = c.take('actHead', picks * this.longestAct(true));
    return { normedHead, actHead, logits, logitsStride, gradient };
  }

  /** f32[rows][n], and as many tangents where the method has them. */
  private rows(c: Cursor, name: string, n: number, rows = this.choice.ctx): Dual {
    const value = c.take(name, 4 * rows * n);
    return { ...value, tangent: this.choice.method === 'fmea' ? c.take(`${name}′`, 4 * rows * n) : null };
  }

  /**
   * What gradients need of a layer in bytes of its own, of all layers or of one; what they do not need where gradients come later. The quantised
   * path has no gradient of the residual stream, and its activations lie there.
   */
  private reversible(c: Cursor): Pick<TrainLayout, 'layers' | 'act'> & {
    readonly backward: Omit<GradientBuffers, 'normedHead'>;
    readonly deadAt: number;
  } {
    const { layers } = this.model.h;
    const own = Array.from({ length: this.keepsAll ? layers : 1 }, () => this.needed(c));
    const mark = c.mark();
    const act = c.take('act', this.choice.ctx * this.longestAct(false));
    c.release(mark);
    const stream = c.take('gradient of residual', 4 * this.choice.ctx * this.embedding);
    const deadAt = c.behind();
    const g = this.gradients(c);
    const halves = c.take('halves', this.model.h.architecture.parallel ? 4 * this.choice.ctx * this.embedding : 0);
    const sets = own.map((s): LayerBuffers => {
      const normed = s.normed ?? as('normed', g.normed);
      return {
        ...s,
        normed,
        heads: s.heads ?? as('heads', g.heads),
        between: s.between ?? as('between', halves),
        normedUp: this.model.h.architecture.parallel ? normed : (s.normedUp ?? as('normedUp', g.normed)),
        active: s.active ?? as('active', g.active),
      };
    });
    const layersOf = Array.from({ length: layers }, (_, layer) => sets[this.keepsAll ? layer : 0]!);
    return { layers: layersOf, act, backward: { stream, ...g }, deadAt };
  }

  private needed(c: Cursor): NeededBuffers {
    const { parallel } = this.model.h.architecture;
    const { feedForward } = this.model.h;
    const isRead = (matrices: readonly string[], n: number, name: string): Dual | null =>
      this.isTrained(matrices) ? this.rows(c, name, n) : null;
    const input = ['attn_q', 'attn_k', 'attn_v', 'attn_qkv'];
    const inputUp = ['ffn_gate', 'ffn_up'];
    const qkv = this.rows(c, 'qkv', this.stride);
    const gate = this.rows(c, 'gate', feedForward);
    return {
      normed: isRead(parallel ? [...input, ...inputUp] : input, this.embedding, 'normed'),
      qkv,
      turned: this.hasHeadNorms() ? this.rows(c, 'turned', this.stride) : qkv,
      heads: isRead(['attn_output'], this.query, 'heads'),
      between: parallel ? null : this.rows(c, 'between', this.embedding),
      normedUp: parallel ? null : isRead(inputUp, this.embedding, 'normedUp'),
      gate,
      up: this.isGated() ? this.rows(c, 'up', feedForward) : gate,
      active: isRead(['ffn_down'], feedForward, 'active'),
      mids: new Map([...this.matrices()].map(matrix => [matrix, this.rows(c, `mid ${matrix}`, this.choice.rank)])),
    };
  }

  private gradients(c: Cursor): Omit<GradientBuffers, 'normedHead' | 'stream'> {
    const { ctx, rank, method } = this.choice;
    const normed = c.take('gradient of normed', 4 * ctx * this.embedding);
    const mid = c.take('gradient of mid', method === 'full' ? 0 : 4 * ctx * rank);
    const block = c.mark();
    const qkv = c.take('gradient of qkv', 4 * ctx * this.stride);
    const heads = c.take('gradient of heads', 4 * ctx * this.query);
    c.release(block);
    const active = c.take('gradient of active', 4 * ctx * this.model.h.feedForward);
    c.behind();
    return { normed, mid, qkv, heads, active };
  }

  /** Where nothing is read twice: attention and feed-forward share bytes, and the residual stream is changed in place. */
  private passing(
    c: Cursor,
    residual: Dual,
  ): Pick<TrainLayout, 'layers' | 'act'> & {
    readonly backward: null;
    readonly deadAt: number;
  } {
    const { architecture, feedForward, layers } = this.model.h;
    const deadAt = c.mark();
    const act = c.take('act', this.choice.ctx * this.longestAct(false));
    const normed = this.rows(c, 'normed', this.embedding);
    const between = architecture.parallel ? this.rows(c, 'halves', this.embedding) : residual;
    const mid = this.rows(c, 'mid', this.choice.rank);
    const block = c.mark();
    const qkv = this.rows(c, 'qkv', this.stride);
    const heads = this.rows(c, 'heads', this.query);
    c.release(block);
    const gate = this.rows(c, 'gate', feedForward);
    const up = this.isGated() ? this.rows(c, 'up', feedForward) : gate;
    const mids = new Map([...this.matrices()].map(matrix => [matrix, mid]));
    const set = { normed, qkv, turned: qkv, heads, between, normedUp: normed, gate, up, active: gate, mids };
    return { layers: Array.from({ length: layers }, () => set), act, backward: null, deadAt };
  }

  /** Names of matrices with a pair, without their layer. */
  private matrices(): ReadonlySet<string> {
    return new Set([...this.parameters.pairs.keys()].map(name => name.slice(name.lastIndexOf('.') + 1)));
  }

  /** Something of one of these matrices is trained. */
  private isTrained(matrices: readonly string[]): boolean {
    const own = this.matrices();
    return this.choice.method === 'full' || matrices.some(matrix => own.has(matrix));
  }

  private isGated(): boolean {
    const { feedForward } = this.model.h.architecture;
    return feedForward === 'swiglu' || feedForward === 'geglu_f16';
  }

  private hasHeadNorms(): boolean {
    return this.model.tensors.has('blk.0.attn_q_norm.weight');
  }

  private longestRow(): number {
    return [...this.model.tensors.values()].reduce((most, t) => Math.max(most, t.k), this.choice.rank);
  }

  /** Bytes of a position's activations for the output matrix, or for any other. */
  private longestAct(isHead: boolean): number {
    const { tensors } = this.model;
    const output = tensors.has('output.weight') ? 'output.weight' : 'token_embd.weight';
    let bytes = 0;
    for (const { name, type, k, rows } of tensors.values()) {
      const isRead = isHead ? name === output : rows > 1 && name.startsWith('blk.');
      if (isRead && actKind(type) !== 'f32') bytes = Math.max(bytes, actBytes(type, k));
    }
    return bytes;
  }
}
