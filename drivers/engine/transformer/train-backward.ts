// Reverse mode over a training plan's forward pass (Rumelhart, Hinton and Williams 1986): from the gradient of the logits back to the embeddings,
// layer by layer, gradients of activations in buffers of one layer, those of what is trained added up in the gradient vector. Where nothing
// below is trained any more it ends. Layers whose activations were not kept are computed again first.

import { Op } from '../ops.ts';
import type { Place, PlanSink } from '../plan.ts';
import { keyValueLength, queryLength } from './architecture.ts';
import type { Hyperparameters } from './architecture.ts';
import { embeddingScale, queryScale, scoreScale } from './train-forward.ts';
import type { TrainForward } from './train-forward.ts';
import type { GradientBuffers, LayerBuffers, TrainLayout } from './train-layout.ts';
import { shifted, shiftedDual } from './train-products.ts';
import type { Products } from './train-products.ts';

/** Gated activations' derivatives; of the others GELU_BACK. */
const GATED = { swiglu: Op.SILU_MUL_BACK, geglu_f16: Op.GELU_MUL_BACK } as const;

export class TrainBackward {
  private readonly sink: PlanSink;
  private readonly layout: TrainLayout;
  private readonly h: Hyperparameters;
  private readonly isFull: boolean;

  constructor(
    private readonly products: Products,
    private readonly forward: TrainForward,
    private readonly g: GradientBuffers,
  ) {
    this.sink = products.sink;
    this.layout = products.layout;
    this.h = products.parts.model.h;
    this.isFull = products.parts.choice.method === 'full';
  }

  /** Behind a forward pass: nothing is known of the residual stream's gradient yet. */
  begin(): void {
    this.sink.emit(Op.FILL, { dstAt: this.g.stream, n: this.h.embedding, value: { f32: 0 } });
  }

  /** Losses of the picks; their gradients are added to that of the residual stream. */
  loss(): void {
    const { forward, layout, g, h } = this;
    forward.head();
    forward.crossEntropy(Op.CROSS_ENTROPY_BACK);
    this.products.back('output', layout.logits, layout.logitsStride, layout.normedHead, h.embedding, g.normedHead, {
      head: true,
    });
    this.norm('output_norm', g.normedHead, layout.residuals[h.layers]!, true);
  }

  /** From the gradient of the last residual stream to those of all that is trained. */
  body(): void {
    const { layers } = this.h;
    const { stretch, keepsAll } = this.layout;
    const lastFirst = Math.floor((layers - 1) / stretch) * stretch;
    for (let first = lastFirst; first >= 0; first -= stretch) {
      const end = Math.min(first + stretch, layers);
      // The forward pass has left the residual streams of the last stretch, and the activations of the last layer.
      if (first !== lastFirst) for (let layer = first; layer < end - 1; layer++) this.again(layer, true);
      for (let layer = end - 1; layer >= first; layer--) {
        if (!keepsAll && layer !== layers - 1) this.again(layer, false);
        this.sink.layer(layer);
        this.layer(layer);
      }
    }
    this.sink.layer(-1);
    if (this.isFull) this.embeddings();
  }

  private again(layer: number, whole: boolean): void {
    this.sink.layer(layer);
    this.forward.layer(layer, whole);
  }

  private layer(layer: number): void {
    const s = this.layout.layers[layer]!;
    // Below the first layer only full training has something to change.
    const below = layer > 0 || this.isFull;
    const from = this.layout.residuals[layer]!;
    const name = `blk.${layer}`;
    if (this.h.architecture.parallel) {
      this.feedForward(layer, s, below);
      this.attention(layer, s, below, true);
      if (below) this.norm(`${name}.attn_norm`, this.g.normed, from);
      return;
    }
    const inAttention = below || this.isTrained(layer, ['attn_q', 'attn_k', 'attn_v', 'attn_qkv', 'attn_output']);
    this.feedForward(layer, s, inAttention);
    if (!inAttention) return;
    this.norm(`${name}.ffn_norm`, this.g.normed, s.between);
    this.attention(layer, s, below, false);
    if (below) this.norm(`${name}.attn_norm`, this.g.normed, from);
  }

  /** g.stream → g.normed =, where that is wanted. */
  private feedForward(layer: number, s: LayerBuffers, wanted: boolean): void {
    const { sink, h, g, products } = this;
    const n = h.feedForward;
    const name = (part: string): string => `blk.${layer}.${part}`;
    const inside = wanted || this.isTrained(layer, ['ffn_gate', 'ffn_up']);
    const active = inside ? g.active : null;
    products.back(name('ffn_down'), g.stream, h.embedding, s.active, n, active);
    if (!inside) return;
    const normed = wanted ? g.normed : null;
    const { feedForward } = h.architecture;
    if (feedForward === 'swiglu' || feedForward === 'geglu_f16') {
      const operands = { dstAt: g.active, n, srcAt: s.gate, upAt: s.up, gradAt: g.active, upGradAt: s.up };
      sink.emit(GATED[feedForward], operands);
      products.back(name('ffn_gate'), g.active, n, s.normedUp, h.embedding, normed);
      products.back(name('ffn_up'), s.up, n, s.normedUp, h.embedding, normed, { add: true });
      return;
    }
    sink.emit(Op.GELU_BACK, { dstAt: g.active, n, srcAt: s.gate, upAt: 0, gradAt: g.active, upGradAt: 0 });
    products.back(name('ffn_up'), g.active, n, s.normedUp, h.embedding, normed);
  }

  /** g.stream → g.normed =, or += with `add`, where that is wanted. */
  private attention(layer: number, s: LayerBuffers, wanted: boolean, add: boolean): void {
    const { sink, h, g, products } = this;
    const query = queryLength(h);
    const kv = keyValueLength(h);
    const stride = query + 2 * kv;
    const name = (part: string): string => `blk.${layer}.${part}`;
    const inside = wanted || this.isTrained(layer, ['attn_q', 'attn_k', 'attn_v', 'attn_qkv']);
    products.back(name('attn_output'), g.stream, h.embedding, s.heads, query, inside ? g.heads : null);
    if (!inside) return;
    for (const { from, until } of products.stretches())
      sink.emit(Op.CAUSAL_ATTENTION_BACK, {
        dstAt: g.qkv,
        srcAt: g.heads,
        qAt: s.turned,
        heads: h.heads,
        headsKv: h.headsKv,
        headDim: h.headSize,
        stride,
        scale: { f32: scoreScale(h) },
        scoresAt: this.layout.scores,
        from,
        until,
      });
    if (h.architecture.scaledQueries)
      sink.emit(Op.SCALE, { at: g.qkv, n: query, stride, factor: { f32: queryScale(h) } });
    if (h.rope !== null)
      sink.emit(Op.ROPE_BACK, {
        at: g.qkv,
        heads: h.heads + h.headsKv,
        headDim: h.headSize,
        pairs: h.rope.dimensions / 2,
        tableAt: this.layout.angles,
        stride,
        mode: h.rope.mode,
      });
    this.headNorm(name('attn_q_norm.weight'), g.qkv, s.qkv, h.heads, stride);
    this.headNorm(name('attn_k_norm.weight'), shifted(g.qkv, query), shiftedDual(s.qkv, query), h.headsKv, stride);
    const normed = wanted ? g.normed : null;
    const isFused = products.weight(name('attn_qkv.weight')) !== undefined;
    const parts = isFused ? { attn_qkv: 0 } : { attn_q: 0, attn_k: query, attn_v: query + kv };
    let isFirst = !add;
    for (const [part, value] of Object.entries(parts)) {
      products.back(name(part), shifted(g.qkv, value), stride, s.normed, h.embedding, normed, { add: !isFirst });
      isFirst = false;
    }
  }

  /** Embeddings of tokens and positions; those of tokens have had their share of the output matrix where they are that too. */
  private embeddings(): void {
    const { sink, h, g, products } = this;
    if (h.architecture.scaledEmbedding)
      sink.emit(Op.SCALE, { at: g.stream, n: h.embedding, stride: h.embedding, factor: { f32: embeddingScale(h) } });
    for (const [name, byPosition] of [
      ['token_embd.weight', 0],
      ['position_embd.weight', 1],
    ] as const) {
      const dstAt = products.gradient(name);
      const rows = products.weight(name)?.rows ?? 0;
      if (dstAt !== 0) sink.emit(Op.ROWS_BACK, { dstAt, k: h.embedding, srcAt: g.stream, rows, byPosition });
    }
  }

  /** g.stream += the gradient through a norm of `x`. */
  private norm(name: string, src: Place, x: Place, head = false): void {
    const { sink, h, products } = this;
    sink.emit(
      h.architecture.norm === 'rms' ? Op.RMS_NORM_BACK : Op.LAYER_NORM_BACK,
      {
        dstAt: this.g.stream,
        n: h.embedding,
        srcAt: src,
        xAt: x,
        weightsAt: products.weight(`${name}.weight`)!,
        eps: { f32: h.epsilon },
        weightsGradAt: products.gradient(`${name}.weight`),
        biasGradAt: products.gradient(`${name}.bias`),
      },
      { head },
    );
  }

  private headNorm(name: string, at: Place, x: Place, heads: number, stride: number): void {
    const { sink, h, products } = this;
    const weightsAt = products.weight(name);
    if (weightsAt === undefined) return;
    sink.emit(Op.RMS_NORM_HEADS_BACK, {
      at,
      heads,
      headDim: h.headSize,
      stride,
      weightsAt,
      eps: { f32: h.epsilon },
      xAt: x,
      weightsGradAt: products.gradient(name),
    });
  }

  /** Something of these matrices of the layer is trained. */
  private isTrained(layer: number, parts: readonly string[]): boolean {
    const { pairs } = this.products.parts.parameters;
    return this.isFull || parts.some(part => pairs.has(`blk.${layer}.${part}`));
  }
}
