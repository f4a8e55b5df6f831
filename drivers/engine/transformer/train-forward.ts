// The forward pass of a training plan: the float function of the dequantised weights with exact f32 activations, and beside each value its
// tangent where the method carries one; or the same layers as inference computes them, on quantised activations and with its gelu. A layer
// can be computed again from its residual stream: what is emitted is the same, and so are the bits.

import { Op } from '../ops.ts';
import type { Place, PlanSink } from '../plan.ts';
import { keyValueLength, queryLength } from './architecture.ts';
import type { Hyperparameters } from './architecture.ts';
import type { Dual, LayerBuffers, TrainLayout } from './train-layout.ts';
import { shiftedDual, still } from './train-products.ts';
import type { Into, ProductOptions, Products } from './train-products.ts';

/** The activation of each feed-forward, its derivative along a tangent, and what inference takes for it. */
const ACTIVATION = {
  swiglu: { op: Op.SILU_MUL, jvp: Op.SILU_MUL_JVP, inference: Op.SILU_MUL, gated: true },
  geglu_f16: { op: Op.GELU_MUL, jvp: Op.GELU_MUL_JVP, inference: Op.GELU_MUL_F16, gated: true },
  gelu: { op: Op.GELU, jvp: Op.GELU_JVP, inference: Op.GELU, gated: false },
  gelu_f16: { op: Op.GELU, jvp: Op.GELU_JVP, inference: Op.GELU_F16, gated: false },
} as const;

export type Arithmetic = 'float' | 'quantised';

export class TrainForward {
  private readonly sink: PlanSink;
  private readonly layout: TrainLayout;
  private readonly h: Hyperparameters;

  constructor(
    private readonly products: Products,
    private readonly arithmetic: Arithmetic,
  ) {
    this.sink = products.sink;
    this.layout = products.layout;
    this.h = products.parts.model.h;
  }

  /** Tokens → the residual stream behind the last layer. */
  body(): void {
    const { sink, h, layout } = this;
    this.embed(this.dual(layout.residuals[0]!));
    if (h.rope !== null)
      sink.emit(h.rope.scaling === null ? Op.ROPE_TABLE : Op.ROPE_TABLE_SCALED, {
        tableAt: layout.angles,
        pairs: h.rope.dimensions / 2,
        frequenciesAt: this.products.parts.frequencies,
      });
    for (let layer = 0; layer < h.layers; layer++) {
      sink.layer(layer);
      this.layer(layer, true);
    }
    sink.layer(-1);
  }

  /** The ops of a layer; without `whole` only what its gradients need, not the sums that become the residual stream. */
  layer(layer: number, whole: boolean): void {
    const s = this.layout.layers[layer]!;
    const [from, to] = [this.dual(this.layout.residuals[layer]!), this.dual(this.layout.residuals[layer + 1]!)];
    const between = this.dual(s.between);
    this.norm(`blk.${layer}.attn_norm`, from, this.dual(s.normed));
    if (this.h.architecture.parallel) {
      this.activate(layer, s);
      this.down(layer, s, whole ? between : null, false);
      this.attend(layer, s);
      this.attentionOutput(layer, s, whole ? between : null);
      if (!whole) return;
      this.copy(from, to);
      this.add(between, to);
      return;
    }
    this.attend(layer, s);
    this.copy(from, between);
    this.attentionOutput(layer, s, between);
    this.norm(`blk.${layer}.ffn_norm`, between, this.dual(s.normedUp));
    this.activate(layer, s);
    if (whole) this.copy(between, to);
    this.down(layer, s, whole ? to : null, true);
  }

  /** The residual stream of the picks → their logits. */
  head(): void {
    const { layout, h } = this;
    const normed = this.dual(layout.normedHead);
    this.norm('output_norm', this.dual(layout.residuals[h.layers]!), normed, true);
    const into = { name: 'output', dst: this.dual(layout.logits), stride: layout.logitsStride };
    this.multiply(normed, h.embedding, layout.actHead, [into], { head: true });
  }

  /** Losses of the logits; with their derivative along the tangent where there is one. */
  crossEntropy(op: Op.CROSS_ENTROPY | Op.CROSS_ENTROPY_BACK | Op.CROSS_ENTROPY_JVP): void {
    const { logits, logitsStride } = this.layout;
    const { block, targets } = this.products.parts;
    this.sink.emit(
      op,
      {
        at: logits,
        n: this.h.vocabulary,
        stride: logitsStride,
        targetsAt: targets,
        blockAt: block,
        tangentAt: op === Op.CROSS_ENTROPY_JVP ? logits.tangent! : 0,
      },
      { head: true },
    );
  }

  // ── Parts of a layer ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  private embed(to: Dual): void {
    const { sink, h, products } = this;
    for (const [name, op] of [
      ['token_embd.weight', Op.GET_ROWS],
      ['position_embd.weight', Op.ADD_ROWS],
    ] as const) {
      const w = products.weight(name);
      if (w !== undefined) sink.emit(op, { dstAt: to, k: w.k, weightsAt: w, weightType: w.type, rows: w.rows });
    }
    if (h.architecture.scaledEmbedding) this.scale(still(to), h.embedding, h.embedding, embeddingScale(h));
    if (to.tangent !== null) sink.emit(Op.FILL, { dstAt: to.tangent, n: h.embedding, value: { f32: 0 } });
  }

  /** normed → heads */
  private attend(layer: number, s: LayerBuffers): void {
    const { sink, h, products } = this;
    const query = queryLength(h);
    const kv = keyValueLength(h);
    const stride = query + 2 * kv;
    const [qkv, turned] = [this.dual(s.qkv), this.dual(s.turned)];
    const into = (part: string, value: number): Into => ({
      name: `blk.${layer}.${part}`,
      dst: shiftedDual(qkv, value),
      stride,
    });
    const isFused = products.weight(`blk.${layer}.attn_qkv.weight`) !== undefined;
    this.multiply(
      this.dual(s.normed),
      h.embedding,
      this.layout.act,
      isFused ? [into('attn_qkv', 0)] : [into('attn_q', 0), into('attn_k', query), into('attn_v', query + kv)],
    );
    this.copy(qkv, turned, stride);
    this.headNorm(`blk.${layer}.attn_q_norm.weight`, turned, h.heads, stride);
    this.headNorm(`blk.${layer}.attn_k_norm.weight`, shiftedDual(turned, query), h.headsKv, stride);
    this.rotate(turned, stride);
    if (h.architecture.scaledQueries) this.scale(turned, query, stride, queryScale(h));
    const shape = { heads: h.heads, headsKv: h.headsKv, headDim: h.headSize, stride };
    const scale = { f32: scoreScale(h) };
    const heads = this.dual(s.heads);
    const scoresAt = this.layout.scores;
    for (const { from, until } of products.stretches()) {
      const shared = { ...shape, scale, scoresAt, from, until };
      if (heads.tangent !== null)
        sink.emit(Op.CAUSAL_ATTENTION_JVP, { dstAt: heads.tangent, srcAt: turned.tangent!, qAt: turned, ...shared });
      sink.emit(Op.CAUSAL_ATTENTION, { dstAt: heads, qAt: turned, ...shared });
    }
  }

  /** sum += W_output · heads */
  private attentionOutput(layer: number, s: LayerBuffers, sum: Dual | null): void {
    this.addUp(`blk.${layer}.attn_output`, s.heads, queryLength(this.h), sum, true);
  }

  /** normedUp → active */
  private activate(layer: number, s: LayerBuffers): void {
    const { sink, h } = this;
    const { op, jvp, inference, gated } = ACTIVATION[h.architecture.feedForward];
    const [gate, up, active] = [this.dual(s.gate), this.dual(s.up), this.dual(s.active)];
    const into = (part: string, dst: Dual): Into => ({ name: `blk.${layer}.${part}`, dst, stride: h.feedForward });
    this.multiply(
      this.dual(s.normedUp),
      h.embedding,
      this.layout.act,
      gated ? [into('ffn_gate', gate), into('ffn_up', up)] : [into('ffn_up', gate)],
    );
    const [srcAt, upAt] = [gate, gated ? up : 0];
    if (active.tangent !== null)
      sink.emit(jvp, {
        dstAt: active.tangent,
        n: h.feedForward,
        srcAt,
        upAt,
        gradAt: gate.tangent!,
        upGradAt: gated ? up.tangent! : 0,
      });
    const own = this.arithmetic === 'quantised' ? inference : op;
    sink.emit(own, { dstAt: active, n: h.feedForward, srcAt, upAt });
  }

  /** sum (+)= W_down · active */
  private down(layer: number, s: LayerBuffers, sum: Dual | null, add: boolean): void {
    this.addUp(`blk.${layer}.ffn_down`, s.active, this.h.feedForward, sum, add);
  }

  /** A product that goes to the residual stream; without a sum only what its gradients need. */
  private addUp(name: string, src: Dual, k: number, sum: Dual | null, add: boolean): void {
    if (sum === null) return this.products.middle(name, src, k);
    const into = { name, dst: sum, stride: this.h.embedding };
    this.multiply(this.dual(src), k, this.layout.act, [into], { add });
  }

  private multiply(src: Dual, k: number, act: Place, into: readonly Into[], options: ProductOptions = {}): void {
    if (this.arithmetic === 'quantised') return this.products.quantised(src, k, act, into, options);
    for (const one of into) this.products.product(src, k, one, options);
  }

  // ── Ops on values and tangents: a tangent first where its op reads what the value's overwrites ──────────────────────────────────

  private norm(name: string, src: Dual, dst: Dual, head = false): void {
    const { sink, h, products } = this;
    const isRms = h.architecture.norm === 'rms';
    const weightsAt = products.weight(`${name}.weight`)!;
    const [n, eps] = [h.embedding, { f32: h.epsilon }];
    const own = { dstAt: dst, n, srcAt: src, weightsAt, biasAt: products.weight(`${name}.bias`) ?? 0, eps };
    sink.emit(isRms ? Op.RMS_NORM : Op.LAYER_NORM, own, { head });
    if (dst.tangent === null) return;
    const along = { dstAt: dst.tangent, n, srcAt: src.tangent!, xAt: src, weightsAt, eps };
    sink.emit(isRms ? Op.RMS_NORM_JVP : Op.LAYER_NORM_JVP, { ...along, weightsGradAt: 0, biasGradAt: 0 }, { head });
  }

  /** Normalises every head at `x` in place, where the model has weights for it. */
  private headNorm(name: string, x: Dual, heads: number, stride: number): void {
    const { sink, h } = this;
    const weightsAt = this.products.weight(name);
    if (weightsAt === undefined) return;
    const shape = { heads, headDim: h.headSize, stride, weightsAt, eps: { f32: h.epsilon } };
    if (x.tangent !== null) sink.emit(Op.RMS_NORM_HEADS_JVP, { at: x.tangent, ...shape, xAt: x, weightsGradAt: 0 });
    sink.emit(Op.RMS_NORM_HEADS, { at: x, ...shape });
  }

  /** Turns the heads of queries and keys, which lie side by side. */
  private rotate(x: Dual, stride: number): void {
    const { h } = this;
    if (h.rope === null) return;
    const heads = h.heads + h.headsKv;
    const shape = { heads, headDim: h.headSize, pairs: h.rope.dimensions / 2, stride, mode: h.rope.mode };
    for (const at of eachOf(x)) this.sink.emit(Op.ROPE, { at, ...shape, tableAt: this.layout.angles });
  }

  private scale(x: Dual, n: number, stride: number, factor: number): void {
    for (const at of eachOf(x)) this.sink.emit(Op.SCALE, { at, n, stride, factor: { f32: factor } });
  }

  /** to = from, unless they are the same. */
  private copy(from: Dual, to: Dual, n = this.h.embedding): void {
    if (from.at === to.at) return;
    this.sink.emit(Op.COPY, { dstAt: to, n, srcAt: from });
    if (to.tangent !== null) this.sink.emit(Op.COPY, { dstAt: to.tangent, n, srcAt: from.tangent! });
  }

  private add(from: Dual, to: Dual): void {
    const n = this.h.embedding;
    this.sink.emit(Op.ADD, { dstAt: to, n, srcAt: from, upAt: 0 });
    if (to.tangent !== null) this.sink.emit(Op.ADD, { dstAt: to.tangent, n, srcAt: from.tangent!, upAt: 0 });
  }

  /** Tangents are of the float function only. */
  private dual(d: Dual): Dual {
    return this.arithmetic === 'float' ? d : still(d);
  }
}

const eachOf = (d: Dual): Place[] => (d.tangent === null ? [d] : [d, d.tangent]);

/** What token embeddings are multiplied by, as f32 has it. */
export const embeddingScale = (h: Hyperparameters): number => Math.fround(Math.sqrt(h.embedding));
/** What queries are multiplied by, where these are and not the scores. */
export const queryScale = (h: Hyperparameters): number => 1 / Math.fround(Math.sqrt(h.headSize));
export const scoreScale = (h: Hyperparameters): number => (h.architecture.scaledQueries ? 1 : queryScale(h));
