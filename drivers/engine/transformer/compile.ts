// The transformer's forward pass, once for every architecture in the table: places for its activations and the ops of its four
// segments. body: tokens → hidden state of the batch, keys and values stored; head: hidden state of one token → logits; sample; score.
// Pre-norm blocks as in GPT-2 and llama; a quantised product first quantises its activations, as ggml does.

import { GGML_BLOCK, ggmlTypeName } from '../../../kernel/abi/index.ts';
import type { EngineOptions } from '../../../kernel/abi/index.ts';
import { Cursor } from '../memory.ts';
import { Op, ROPE_ADJACENT } from '../ops.ts';
import type { Place, PlanSink, Segments } from '../plan.ts';
import { actBytes, actKind, logitsBytes, ropeTableBytes, scoresBytes } from '../sizes.ts';
import { keyValueLength, queryLength } from './architecture.ts';
import type { BoundTensor, Hyperparameters } from './architecture.ts';

/** A tensor with its place in the weights region. */
export type PlacedTensor = BoundTensor & Place & { readonly bytes: number };

/** A model bound to its tensors; `tensors` by standard name. */
export interface Model<T extends BoundTensor = PlacedTensor> {
  readonly h: Hyperparameters;
  readonly options: EngineOptions;
  readonly tensors: ReadonlyMap<string, T>;
}

/** Buffers of the scratch region. Shapes in values, f32 unless said; B = batch. */
export interface Scratch {
  readonly hidden: Place; // [B][embedding] residual stream
  readonly normed: Place; // [B][max(embedding, query)] a norm's output; then attention's
  readonly act: Place; // [B] activations quantised from `normed`
  readonly angles: Place; // [B][pairs][2] cos and sin
  readonly query: Place; // [B][query + 2 · keyValue]: query, key, value of a token side by side
  readonly key: Place;
  readonly value: Place;
  readonly scores: Place; // [ctx]
  readonly gate: Place; // [B][feedForward]; for GELU the only one
  readonly up: Place; // [B][feedForward]; dead when its product with the gate is taken
  readonly actDown: Place; // [B] activations quantised from `gate`, over `up`
  readonly normedHead: Place; // [embedding]
  readonly actHead: Place; // one token
  readonly logits: Place; // [vocabulary], and the sampler's memory
  readonly bytes: number;
}

/** Bytes of KV cache per position: keys and values of every layer. */
export function kvBytesPerToken(h: Hyperparameters, kvType: number): number {
  return h.layers * 2 * kvPlaneBytes(h, kvType, 1);
}

/** One layer's keys, or values: [position][keyValue] elements of the KV type. */
function kvPlaneBytes(h: Hyperparameters, kvType: number, positions: number): number {
  return positions * keyValueLength(h) * GGML_BLOCK[ggmlTypeName(kvType)!][1];
}

/** Lays the scratch region out from `at`. Buffers whose lives do not meet share bytes: attention and feed-forward, body and head. */
export function layOutScratch({ h, options, tensors }: Model<BoundTensor>, at: number): Scratch {
  const B = options.batch;
  const query = queryLength(h);
  const kv = keyValueLength(h);
  const swiglu = h.architecture.feedForward === 'swiglu';
  // Activations for every product with rows of `k` values: F32 weights read the values themselves.
  const act = (k: number, names: RegExp): number => {
    let bytes = 0;
    for (const t of tensors.values())
      if (names.test(t.name) && actKind(t.type) !== 'f32') bytes = Math.max(bytes, actBytes(t.type, k));
    return bytes;
  };
  const c = new Cursor(at);
  const hidden = c.take('hidden', 4 * B * h.embedding);
  const shared = c.mark();

  const normed = c.take('normed', 4 * B * Math.max(h.embedding, query));
  const actBlock = Math.max(
    act(h.embedding, /attn_(q|k|v|qkv)\.weight|ffn_(gate|up)\.weight/),
    act(query, /attn_output\.weight/),
  );
  const actPlace = c.take('act', B * actBlock);
  const angles = c.take('angles', h.rope === null ? 0 : ropeTableBytes(B, h.rope.dimensions / 2));
  const block = c.mark();
  const queryPlace = c.take('query', 4 * B * (query + 2 * kv));
  const key = { name: 'key', at: queryPlace.at + 4 * query };
  const value = { name: 'value', at: key.at + 4 * kv };
  const scores = c.take('scores', scoresBytes(options.ctx));
  c.release(block);
  const gate = c.take('gate', 4 * B * h.feedForward);
  const afterGate = c.mark();
  const up = c.take('up', swiglu ? 4 * B * h.feedForward : 0);
  c.release(afterGate);
  const actDown = c.take('actDown', B * act(h.feedForward, /ffn_down\.weight/));

  c.release(shared);
  const normedHead = c.take('normedHead', 4 * h.embedding);
  const actHead = c.take(
    'actHead',
    act(h.embedding, tensors.has('output.weight') ? /^output\.weight/ : /^token_embd\.weight/),
  );
  const logits = c.take('logits', logitsBytes(h.vocabulary));
  return {
    hidden,
    normed,
    act: actPlace,
    angles,
    query: queryPlace,
    key,
    value,
    scores,
    gate,
    up,
    actDown,
    normedHead,
    actHead,
    logits,
    bytes: c.bytes(),
  };
}

/** Emits the whole plan. `frequencies`: f32[pairs][2], see EngineCompute.rope_frequencies. */
export function compile(model: Model, scratch: Scratch, frequencies: Place, sink: PlanSink): Segments {
  return new Compiler(model, scratch, frequencies, sink).compile();
}

class Compiler {
  constructor(
    private readonly model: Model,
    private readonly s: Scratch,
    private readonly frequencies: Place,
    private readonly sink: PlanSink,
  ) {}

  compile(): Segments {
    const { sink, s } = this;
    const { h } = this.model;
    const embeddings = this.tensor('token_embd.weight');

    const bodyAt = sink.segment('body');
    sink.emit(Op.GET_ROWS, {
      dstAt: s.hidden,
      k: h.embedding,
      weightsAt: embeddings,
      weightType: embeddings.type,
      rows: embeddings.rows,
    });
    const positions = this.model.tensors.get('position_embd.weight');
    if (positions !== undefined)
      sink.emit(Op.ADD_ROWS, {
        dstAt: s.hidden,
        k: h.embedding,
        weightsAt: positions,
        weightType: positions.type,
        rows: positions.rows,
      });
    if (h.rope !== null)
      sink.emit(Op.ROPE_TABLE, { tableAt: s.angles, pairs: h.rope.dimensions / 2, frequenciesAt: this.frequencies });
    for (let layer = 0; layer < h.layers; layer++) {
      sink.layer(layer);
      this.attention(layer);
      this.feedForward(layer);
    }
    sink.layer(-1);
    sink.emit(Op.END, {});

    const headAt = sink.segment('head');
    this.norm('output_norm', s.normedHead, true);
    const output = this.model.tensors.has('output.weight') ? 'output' : 'token_embd'; // tied: the embedding matrix read as rows of output
    this.products(
      s.normedHead,
      h.embedding,
      s.actHead,
      [{ name: output, bias: 'output', dst: s.logits, stride: h.vocabulary }],
      { head: true },
    );
    sink.emit(Op.CHECK, { at: s.logits, n: h.vocabulary }, { head: true });
    sink.emit(Op.END, {});

    const sampleAt = sink.segment('sample');
    sink.emit(Op.SAMPLE, {}, { head: true });
    sink.emit(Op.END, {});

    const scoreAt = sink.segment('score');
    sink.emit(Op.SCORE, {}, { head: true });
    sink.emit(Op.END, {});
    return { bodyAt, headAt, sampleAt, scoreAt };
  }

  /** hidden += W_output · attention(norm(hidden)) */
  private attention(layer: number): void {
    const { sink, s } = this;
    const { h, options } = this.model;
    const query = queryLength(h);
    const kv = keyValueLength(h);
    const stride = query + 2 * kv;
    const name = (part: string): string => `blk.${layer}.${part}`;
    this.norm(name('attn_norm'), s.normed);
    const fused = this.model.tensors.has(name('attn_qkv.weight'));
    const into = (part: string, dst: Place) => ({ name: name(part), dst, stride });
    this.products(
      s.normed,
      h.embedding,
      s.act,
      fused ? [into('attn_qkv', s.query)] : [into('attn_q', s.query), into('attn_k', s.key), into('attn_v', s.value)],
    );
    // Queries and keys lie side by side, so that one op turns the heads of both.
    if (h.rope !== null)
      sink.emit(Op.ROPE, {
        at: s.query,
        heads: h.heads + h.headsKv,
        headDim: h.headSize,
        pairs: h.rope.dimensions / 2,
        tableAt: s.angles,
        stride,
        mode: ROPE_ADJACENT,
      });
    const planeBytes = kvPlaneBytes(h, options.kvType, options.ctx);
    const kPlaneAt = 2 * layer * planeBytes;
    const vPlaneAt = kPlaneAt + planeBytes;
    sink.emit(Op.KV_STORE, { srcAt: s.key, n: kv, srcStride: stride, planeAt: kPlaneAt, kvType: options.kvType });
    sink.emit(Op.KV_STORE, { srcAt: s.value, n: kv, srcStride: stride, planeAt: vPlaneAt, kvType: options.kvType });
    sink.emit(Op.ATTENTION, {
      dstAt: s.normed,
      qAt: s.query,
      heads: h.heads,
      headsKv: h.headsKv,
      headDim: h.headSize,
      kPlaneAt,
      vPlaneAt,
      kvType: options.kvType,
      scale: { f32: 1 / Math.fround(Math.sqrt(h.headSize)) },
      scoresAt: s.scores,
      qStride: stride,
    });
    this.products(s.normed, query, s.act, [{ ...into('attn_output', s.hidden), stride: h.embedding }], { add: true });
  }

  /** hidden += W_down · (silu(W_gate · f) · (W_up · f)), or W_down · gelu(W_up · f), f = norm(hidden) */
  private feedForward(layer: number): void {
    const { sink, s } = this;
    const { h } = this.model;
    const name = (part: string): string => `blk.${layer}.${part}`;
    const into = (part: string, dst: Place) => ({ name: name(part), dst, stride: h.feedForward });
    this.norm(name('ffn_norm'), s.normed);
    if (h.architecture.feedForward === 'swiglu') {
      this.products(s.normed, h.embedding, s.act, [into('ffn_gate', s.gate), into('ffn_up', s.up)]);
      sink.emit(Op.SILU_MUL, { dstAt: s.gate, n: h.feedForward, srcAt: s.gate, upAt: s.up });
    } else {
      this.products(s.normed, h.embedding, s.act, [into('ffn_up', s.gate)]);
      sink.emit(h.architecture.feedForward === 'gelu_f16' ? Op.GELU_F16 : Op.GELU, {
        dstAt: s.gate,
        n: h.feedForward,
        srcAt: s.gate,
        upAt: 0,
      });
    }
    this.products(s.gate, h.feedForward, s.actDown, [{ ...into('ffn_down', s.hidden), stride: h.embedding }], {
      add: true,
    });
  }

  private norm(name: string, dst: Place, head = false): void {
    const { h, tensors } = this.model;
    const op = h.architecture.norm === 'rms' ? Op.RMS_NORM : Op.LAYER_NORM;
    const operands = { dstAt: dst, n: h.embedding, srcAt: this.s.hidden, weightsAt: this.tensor(`${name}.weight`) };
    this.sink.emit(op, { ...operands, biasAt: tensors.get(`${name}.bias`) ?? 0, eps: { f32: h.epsilon } }, { head });
  }

  /** Products of one activation with several matrices: it is quantised once for those of the same kind that follow each other. */
  private products(
    src: Place,
    k: number,
    act: Place,
    matrices: readonly {
      readonly name: string;
      readonly bias?: string;
      readonly dst: Place;
      readonly stride: number;
    }[],
    options: { readonly head?: boolean; readonly add?: boolean } = {},
  ): void {
    let quantised = 'f32';
    for (const { name, bias = name, dst, stride } of matrices) {
      const w = this.tensor(`${name}.weight`);
      const kind = actKind(w.type);
      if (kind !== 'f32' && kind !== quantised) {
        this.sink.emit(Op.QUANTIZE, { actAt: act, k, srcAt: src, weightType: w.type }, { head: options.head === true });
        quantised = kind;
      }
      this.sink.emit(
        Op.MUL_MAT,
        {
          dstAt: dst,
          rows: w.rows,
          k,
          weightsAt: w,
          weightType: w.type,
          actAt: kind === 'f32' ? src : act,
          biasAt: this.model.tensors.get(`${bias}.bias`) ?? 0,
          dstStride: stride,
        },
        options,
      );
    }
  }

  private tensor(name: string): PlacedTensor {
    return this.model.tensors.get(name)!;
  }
}
