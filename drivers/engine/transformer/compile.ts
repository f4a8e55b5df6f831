// The transformer's forward pass, once for every architecture in the table: places for its activations and the ops of its four
// segments. body: tokens → hidden state of the batch, keys and values stored; head: hidden states of the picks → logits; sample; score.
// Pre-norm blocks as in GPT-2 and llama, or with both halves side by side as in GPT-J and phi; a quantised product first quantises its
// activations, as ggml does.

import { GGML_BLOCK, ggmlTypeName, KV_PAGE } from '../../../kernel/abi/index.ts';
import type { EngineOptions, SessionSlots } from '../../../kernel/abi/index.ts';
import { Cursor } from '../memory.ts';
import { Op } from '../ops.ts';
import { emitDraws } from '../plan.ts';
import type { Place, PlanSink, Segments, TileRead } from '../plan.ts';
import { layOutSlots } from '../sessions.ts';
import { actBytes, actKind, logitsBytes, ropeTableBytes, scoresBytes } from '../sizes.ts';
import { rankMost } from './adapters.ts';
import type { BoundAdapter, PlacedPair } from './adapters.ts';
import { keyValueLength, queryLength } from './architecture.ts';
import type { BoundTensor, Hyperparameters } from './architecture.ts';

/** A tensor with its place in the weights region; of one that streams, 0 bytes at 0. */
export type PlacedTensor = BoundTensor & Place & { readonly bytes: number };

/** Rows of a matrix that streams, where their tile has them. */
export interface PlacedPart {
  readonly row: number;
  readonly rows: number;
  readonly at: number;
  /** The tile's first part: what its read is. */
  readonly read: TileRead | null;
  /** Where it is repacked to before its product. */
  readonly packed: Place | null;
}

/** Where rows that are read singly lie, one unit for each row of the pass. */
export interface GatheredRows extends Place {
  readonly unitBytes: number;
  readonly unitRows: number;
}

/** A model bound to its tensors; `tensors` by standard name. */
export interface Model<T extends BoundTensor = PlacedTensor> {
  readonly h: Hyperparameters;
  readonly options: EngineOptions;
  readonly tensors: ReadonlyMap<string, T>;
  /** In the order of options.adapters. */
  readonly adapters: readonly BoundAdapter[];
}

/** Where the weights are: in the arena, or, by the same names, in tiles or among gathered rows. */
export interface Weights {
  readonly tensors: ReadonlyMap<string, PlacedTensor>;
  readonly parts: ReadonlyMap<string, readonly PlacedPart[]>;
  readonly gathered: ReadonlyMap<string, GatheredRows>;
  /** Low-rank pairs that change a matrix, adapter after adapter. */
  readonly pairs: ReadonlyMap<string, readonly PlacedPair[]>;
}
export type PlacedModel = Model & Weights;

/** Buffers of the scratch region. Shapes in values, f32 unless said; B = batch, D = draws. */
export interface Scratch {
  readonly hidden: Place; // [B][embedding] residual stream
  readonly normed: Place; // [B][max(embedding, query)] a norm's output; then attention's
  readonly act: Place; // [B] activations quantised from `normed`
  readonly angles: Place; // [B][pairs][2] cos and sin
  readonly halves: Place; // [B][embedding] sum of a parallel block's two halves
  readonly mid: Place; // [rank] between the factors of a low-rank pair
  readonly query: Place; // [B][query + 2 · keyValue]: query, key, value of a token side by side
  readonly key: Place;
  readonly value: Place;
  readonly scores: Place; // [ctx]
  readonly gate: Place; // [B][feedForward]; the only one where up has no gate
  readonly up: Place; // [B][feedForward]; dead when its product with the gate is taken
  readonly actDown: Place; // [B] activations quantised from `gate`, over `up`
  readonly normedHead: Place; // [D][embedding]
  readonly actHead: Place; // [D] activations quantised from `normedHead`
  readonly logits: Place; // [D] × logitsBytes: [vocabulary], and the sampler's memory
  readonly bytes: number;
}

/** Bytes of KV cache per position: keys and values of every layer. */
export function kvBytesPerToken(h: Hyperparameters, kvType: number): number {
  return h.layers * 2 * kvPlaneBytes(h, kvType, 1);
}

/** One layer's keys, or values: [positions][keyValue] elements of the KV type. */
function kvPlaneBytes(h: Hyperparameters, kvType: number, positions: number): number {
  const [values, bytes] = GGML_BLOCK[ggmlTypeName(kvType)!];
  return positions * (keyValueLength(h) / values) * bytes;
}

/** The activation function of each feed-forward: of gate and up, or of up alone. */
const ACTIVATION = {
  swiglu: { op: Op.SILU_MUL, gated: true },
  geglu_f16: { op: Op.GELU_MUL_F16, gated: true },
  gelu: { op: Op.GELU, gated: false },
  gelu_f16: { op: Op.GELU_F16, gated: false },
} as const;

/** Lays the scratch region out from `at`. Buffers whose lives do not meet share bytes: attention and feed-forward, body and head. */
export function layOutScratch({ h, options, tensors, adapters }: Model<BoundTensor>, at: number): Scratch {
  const [B, D] = [options.batch, options.draws];
  const query = queryLength(h);
  const kv = keyValueLength(h);
  const { parallel, feedForward } = h.architecture;
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
  const halves = c.take('halves', parallel ? 4 * B * h.embedding : 0);
  const mid = c.take('mid', 4 * rankMost(adapters));
  const block = c.mark();
  const queryPlace = c.take('query', 4 * B * (query + 2 * kv));
  const key = { name: 'key', at: queryPlace.at + 4 * query };
  const value = { name: 'value', at: key.at + 4 * kv };
  const scores = c.take('scores', scoresBytes(options.ctx));
  c.release(block);
  const gate = c.take('gate', 4 * B * h.feedForward);
  const afterGate = c.mark();
  const up = c.take('up', ACTIVATION[feedForward].gated ? 4 * B * h.feedForward : 0);
  c.release(afterGate);
  const actDown = c.take('actDown', B * act(h.feedForward, /ffn_down\.weight/));

  c.release(shared);
  const normedHead = c.take('normedHead', 4 * D * h.embedding);
  const actHead = c.take(
    'actHead',
    D * act(h.embedding, tensors.has('output.weight') ? /^output\.weight/ : /^token_embd\.weight/),
  );
  const logits = c.take('logits', D * logitsBytes(h.vocabulary));
  return {
    hidden,
    normed,
    act: actPlace,
    angles,
    halves,
    mid,
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

/** Emits the whole plan. `frequencies`: what RopeTable.frequenciesAt says. */
export function compile(model: PlacedModel, scratch: Scratch, frequencies: Place, sink: PlanSink): Segments {
  return new Compiler(model, scratch, frequencies, sink).compile();
}

/** Bytes from a session's block table to its scales of the adapters. */
export function scalesAt(options: EngineOptions): number {
  const { tableAt, stateAt } = slotsAt(options, 0);
  return stateAt - tableAt;
}

/** Slots from `at` on: what the engine keeps of a session are its scales, f32 for each of options.adapters. */
export const slotsAt = (options: EngineOptions, at: number): SessionSlots =>
  layOutSlots(options, 4 * options.adapters.length, at);

/** The same f32 values from one of them on. */
const fromRow = ({ name, at }: Place, row: number): Place => ({ name, at: at + 4 * row });

class Compiler {
  constructor(
    private readonly model: PlacedModel,
    private readonly s: Scratch,
    private readonly frequencies: Place,
    private readonly sink: PlanSink,
  ) {}

  compile(): Segments {
    const { sink, s } = this;
    const { h } = this.model;
    const embeddings = this.tensor('token_embd.weight');

    const bodyAt = sink.segment('body');
    this.rows(embeddings, Op.GET_ROWS, Op.GET_GATHERED);
    const positions = this.model.tensors.get('position_embd.weight');
    if (positions !== undefined) this.rows(positions, Op.ADD_ROWS, Op.ADD_GATHERED);
    if (h.architecture.scaledEmbedding)
      this.scale(s.hidden, h.embedding, h.embedding, Math.fround(Math.sqrt(h.embedding)));
    if (h.rope !== null)
      sink.emit(h.rope.scaling === null ? Op.ROPE_TABLE : Op.ROPE_TABLE_SCALED, {
        tableAt: s.angles,
        pairs: h.rope.dimensions / 2,
        frequenciesAt: this.frequencies,
      });
    for (let layer = 0; layer < h.layers; layer++) {
      sink.layer(layer);
      if (h.architecture.parallel) this.parallelBlock(layer);
      else this.block(layer);
    }
    sink.layer(-1);
    sink.emit(Op.END, {});

    const headAt = sink.segment('head');
    this.norm('output_norm', s.normedHead, true);
    const output = this.model.tensors.has('output.weight') ? 'output' : 'token_embd'; // tied: the embedding matrix read as rows of output
    const stride = logitsBytes(h.vocabulary) / 4;
    this.products(s.normedHead, h.embedding, s.actHead, [{ name: output, bias: 'output', dst: s.logits, stride }], {
      head: true,
    });
    sink.emit(Op.CHECK, { at: s.logits, n: h.vocabulary, stride }, { head: true });
    sink.emit(Op.END, {});
    return { bodyAt, headAt, ...emitDraws(sink, { sums: true }) };
  }

  /** Rows of a matrix that tokens or positions name, to the residual stream: by `resident` where it is in the arena. */
  private rows(
    w: PlacedTensor,
    resident: Op.GET_ROWS | Op.ADD_ROWS,
    gathered: Op.GET_GATHERED | Op.ADD_GATHERED,
  ): void {
    const units = this.model.gathered.get(w.name);
    const operands = { dstAt: this.s.hidden, k: w.k, weightsAt: units ?? w, weightType: w.type, rows: w.rows };
    if (units === undefined) return this.sink.emit(resident, operands);
    this.sink.emit(gathered, { ...operands, unitBytes: units.unitBytes, unitRows: units.unitRows });
  }

  /** hidden += attention(norm(hidden)); hidden += feedForward(norm(hidden)) */
  private block(layer: number): void {
    const { s } = this;
    this.norm(`blk.${layer}.attn_norm`, s.normed);
    this.attention(layer, s.hidden);
    this.norm(`blk.${layer}.ffn_norm`, s.normed);
    this.feedForward(layer, s.hidden, true);
  }

  /** hidden += attention(f) + feedForward(f), f = norm(hidden). Attention comes last: what it gathers lies where the norm was. */
  private parallelBlock(layer: number): void {
    const { sink, s } = this;
    this.norm(`blk.${layer}.attn_norm`, s.normed);
    this.feedForward(layer, s.halves, false);
    this.attention(layer, s.halves);
    sink.emit(Op.ADD, { dstAt: s.hidden, n: this.model.h.embedding, srcAt: s.halves, upAt: 0 });
  }

  /** sum += W_output · attention over `normed`, which it overwrites */
  private attention(layer: number, sum: Place): void {
    const { sink, s } = this;
    const { h, options, tensors } = this.model;
    const query = queryLength(h);
    const kv = keyValueLength(h);
    const stride = query + 2 * kv;
    const name = (part: string): string => `blk.${layer}.${part}`;
    const fused = tensors.has(name('attn_qkv.weight'));
    const into = (part: string, dst: Place) => ({ name: name(part), dst, stride });
    this.products(
      s.normed,
      h.embedding,
      s.act,
      fused ? [into('attn_qkv', s.query)] : [into('attn_q', s.query), into('attn_k', s.key), into('attn_v', s.value)],
    );
    this.headNorm(name('attn_q_norm'), s.query, h.heads, stride);
    this.headNorm(name('attn_k_norm'), s.key, h.headsKv, stride);
    // Queries and keys lie side by side, so that one op turns the heads of both.
    if (h.rope !== null)
      sink.emit(Op.ROPE, {
        at: s.query,
        heads: h.heads + h.headsKv,
        headDim: h.headSize,
        pairs: h.rope.dimensions / 2,
        tableAt: s.angles,
        stride,
        mode: h.rope.mode,
      });
    const scale = 1 / Math.fround(Math.sqrt(h.headSize));
    if (h.architecture.scaledQueries) this.scale(s.query, query, stride, scale);
    const planeBytes = kvPlaneBytes(h, options.kvType, KV_PAGE); // a page: the planes of every layer, keys before values
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
      scale: { f32: h.architecture.scaledQueries ? 1 : scale },
      scoresAt: s.scores,
      qStride: stride,
    });
    this.products(s.normed, query, s.act, [{ ...into('attn_output', sum), stride: h.embedding }], { add: true });
  }

  /** sum += W_down · (act(W_gate · normed) · (W_up · normed)), or W_down · act(W_up · normed); without `add` sum = */
  private feedForward(layer: number, sum: Place, add: boolean): void {
    const { sink, s } = this;
    const { h } = this.model;
    const into = (part: string, dst: Place) => ({ name: `blk.${layer}.${part}`, dst, stride: h.feedForward });
    const { op, gated } = ACTIVATION[h.architecture.feedForward];
    this.products(
      s.normed,
      h.embedding,
      s.act,
      gated ? [into('ffn_gate', s.gate), into('ffn_up', s.up)] : [into('ffn_up', s.gate)],
    );
    sink.emit(op, { dstAt: s.gate, n: h.feedForward, srcAt: s.gate, upAt: gated ? s.up : 0 });
    this.products(s.gate, h.feedForward, s.actDown, [{ ...into('ffn_down', sum), stride: h.embedding }], { add });
  }

  /** The first n values of every token at `at`, times a factor. */
  private scale(at: Place, n: number, stride: number, factor: number): void {
    this.sink.emit(Op.SCALE, { at, n, stride, factor: { f32: factor } });
  }

  /** Normalises every head at `at`, where the model has weights for it. */
  private headNorm(name: string, at: Place, heads: number, stride: number): void {
    const { h, tensors } = this.model;
    const weights = tensors.get(`${name}.weight`);
    if (weights === undefined) return;
    const eps = { f32: h.epsilon };
    this.sink.emit(Op.RMS_NORM_HEADS, { at, heads, headDim: h.headSize, stride, weightsAt: weights, eps });
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
      const biases = this.model.tensors.get(`${bias}.bias`);
      for (const { row, rows, weights } of this.stretches(w, options.head === true))
        this.sink.emit(
          Op.MUL_MAT,
          {
            dstAt: fromRow(dst, row),
            rows,
            k,
            weightsAt: weights,
            weightType: w.type,
            actAt: kind === 'f32' ? src : act,
            biasAt: biases === undefined ? 0 : fromRow(biases, row),
            dstStride: stride,
          },
          options,
        );
      this.pairs(w, src, dst, stride);
    }
  }

  /** dst += scale · alpha / rank · B · A · src, for every pair that changes the matrix. */
  private pairs({ name, k, rows }: PlacedTensor, src: Place, dst: Place, stride: number): void {
    for (const { adapter, a, b, times } of this.model.pairs.get(name) ?? [])
      this.sink.emit(Op.LORA, {
        dstAt: dst,
        rows,
        k,
        aAt: a,
        bAt: b,
        rank: a.rows,
        srcAt: src,
        dstStride: stride,
        midAt: this.s.mid,
        scalesAt: scalesAt(this.model.options) + 4 * adapter,
        times: { f32: times },
      });
  }

  /** A matrix as its products take it: whole, or the rows of each tile, after waiting for it and repacking where the file has another layout. */
  private *stretches(
    w: PlacedTensor,
    head: boolean,
  ): Generator<{ readonly row: number; readonly rows: number; readonly weights: Place }> {
    const { sink } = this;
    const parts = this.model.parts.get(w.name);
    if (parts === undefined) return yield { row: 0, rows: w.rows, weights: w };
    for (const { row, rows, at, read, packed } of parts) {
      if (read !== null) sink.tile(read);
      const weights: Place = { name: w.name, at, isNear: true };
      if (packed !== null)
        sink.emit(Op.REPACK, { dstAt: packed, rows, k: w.k, weightsAt: weights, weightType: w.type }, { head });
      yield { row, rows, weights: packed === null ? weights : { ...weights, at: packed.at } };
    }
  }

  private tensor(name: string): PlacedTensor {
    return this.model.tensors.get(name)!;
  }
}
