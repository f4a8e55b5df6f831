// Architectures as data. One row per value of `general.architecture`: which norm, which positions, which attention and feed-forward
// tensors, in which order a block's halves run, and the shape each tensor must have. The forward pass is written once (plan in compile.ts) and reads this table; a new
// member of the family is a new row. Metadata keys and tensor names are GGUF's; the older private keys of SIS §7.2 are tried after them.

import { GGML_TYPE, LIMITS, ggmlTypeName, isRefusal, refuse, shown } from '../../../kernel/abi/index.ts';
import { ROPE_ADJACENT, ROPE_HALVES } from '../ops.ts';
import { isNumber, matrixType } from '../sizes.ts';
import type { MetaValue, ModelImage, Refusal, TensorInfo } from '../../../kernel/abi/index.ts';

/** A dimension by meaning: its length follows from the hyperparameters. */
type Dim =
  | 'embedding'
  | 'head'
  | 'query'
  | 'keyValue'
  | 'queryKeyValue'
  | 'feedForward'
  | 'vocabulary'
  | 'context'
  | 'rotaryPairs';

/** A tensor an architecture names. One dimension: a vector, kept as F32. Two: a matrix, kept in its type, rows of `shape[0]`. */
interface Slot {
  readonly name: string; // `%` stands for the layer
  readonly shape: readonly Dim[];
  readonly required: boolean;
  readonly alias?: string;
  readonly unless?: string; // where the file has this tensor, it must not have the slot's
}

export interface Architecture {
  readonly norm: 'rms' | 'layer';
  readonly epsilonKey: string;
  readonly epsilonDefault: number | null; // null = the key must be present
  /** Rotary positions: which pairs of a head turn (ROPE_…). null = learned ones, or none at all without a position_embd.weight. */
  readonly rope: number | null;
  /** A head may have more elements than turn. */
  readonly partialRotation: boolean;
  /**
   * Of the gate and up = W_up · f: 'swiglu' silu(gate) · up, 'geglu_f16' gelu(gate) · up; without a gate 'gelu' or 'gelu_f16' of up. '…_f16': gelu's
   * argument and result rounded to f16, as ggml has it (a table of all halves).
   */
  readonly feedForward: 'swiglu' | 'geglu_f16' | 'gelu' | 'gelu_f16';
  /** Attention and feed-forward both read the one norm of the block, and what they give is added together. */
  readonly parallel: boolean;
  /** Token embeddings are multiplied by √embedding. */
  readonly scaledEmbedding: boolean;
  /** Queries are multiplied by 1/√headSize before scores are taken, not the scores after: the same but for roundings. */
  readonly scaledQueries: boolean;
  /** The heads together are as long as an embedding, whatever length the file gives them: llama.cpp has nothing else. */
  readonly headsFillEmbedding: boolean;
  /** Keys whose presence with any other value changes the arithmetic in a way this build does not have. */
  readonly refuses: readonly { readonly key: string; readonly unless: readonly MetaValue[] }[];
  readonly slots: readonly Slot[];
}

const slot = (name: string, ...shape: Dim[]): Slot => ({ name, shape, required: true });
const optional = (s: Slot): Slot => ({ ...s, required: false });
const aliased = (s: Slot, alias: string): Slot => ({ ...s, alias });
const instead = (of: string, s: Slot): Slot => ({ ...s, unless: of });

const embeddings = slot('token_embd.weight', 'embedding', 'vocabulary');
const output = slot('output.weight', 'embedding', 'vocabulary'); // left out: the embeddings serve
const outputBias = slot('output.bias', 'vocabulary');
const ends = [embeddings, optional(output)];

const FUSED = 'blk.%.attn_qkv.weight';
const fusedQkv = slot(FUSED, 'embedding', 'queryKeyValue');
const fusedQkvBias = slot('blk.%.attn_qkv.bias', 'queryKeyValue');
const separateQkv = [
  slot('blk.%.attn_q.weight', 'embedding', 'query'),
  slot('blk.%.attn_k.weight', 'embedding', 'keyValue'),
  slot('blk.%.attn_v.weight', 'embedding', 'keyValue'),
];
const separateQkvBias = [
  slot('blk.%.attn_q.bias', 'query'),
  slot('blk.%.attn_k.bias', 'keyValue'),
  slot('blk.%.attn_v.bias', 'keyValue'),
];
/** Queries, keys and values by one matrix or by three, with biases where the file has them. */
const anyQkv = [
  ...[fusedQkv, fusedQkvBias].map(optional),
  ...[...separateQkv, ...separateQkvBias.map(optional)].map(s => instead(FUSED, s)),
];
const headNorms = [slot('blk.%.attn_q_norm.weight', 'head'), slot('blk.%.attn_k_norm.weight', 'head')];
const attentionOutput = slot('blk.%.attn_output.weight', 'query', 'embedding');
const attentionOutputBias = slot('blk.%.attn_output.bias', 'embedding');
const gate = slot('blk.%.ffn_gate.weight', 'embedding', 'feedForward');
const gateBias = slot('blk.%.ffn_gate.bias', 'feedForward');
const upDown = [
  slot('blk.%.ffn_up.weight', 'embedding', 'feedForward'),
  slot('blk.%.ffn_down.weight', 'feedForward', 'embedding'),
];
const upDownBias = [slot('blk.%.ffn_up.bias', 'feedForward'), slot('blk.%.ffn_down.bias', 'embedding')];
const outputNorm = slot('output_norm.weight', 'embedding');
const attentionNorm = slot('blk.%.attn_norm.weight', 'embedding');
const feedForwardNorm = slot('blk.%.ffn_norm.weight', 'embedding');
const outputLayerNorm = [
  aliased(outputNorm, 'ln_f.weight'),
  aliased(slot('output_norm.bias', 'embedding'), 'ln_f.bias'),
];
const attentionLayerNorm = [attentionNorm, slot('blk.%.attn_norm.bias', 'embedding')];
const feedForwardLayerNorm = [feedForwardNorm, slot('blk.%.ffn_norm.bias', 'embedding')];
const layerNorms = [...outputLayerNorm, ...attentionLayerNorm, ...feedForwardLayerNorm];

/** A block with RMS norms, a gate and no biases but those of queries, keys and values. */
const gatedBlock = [attentionNorm, ...anyQkv, attentionOutput, feedForwardNorm, gate, ...upDown];

/** What most have in common. */
const common = {
  partialRotation: false,
  parallel: false,
  scaledEmbedding: false,
  scaledQueries: false,
  headsFillEmbedding: false,
  /**
   * Keys any architecture may carry that change the arithmetic; 0 says that there is no such thing. Others (sliding windows, capped logits, scales) do so in
   * architectures that are not here; in these llama.cpp does not look at them, though some files have them.
   */
  refuses: [
    { key: 'expert_count', unless: [0] },
    { key: 'attention.causal', unless: [true] },
  ],
} as const;
const withRms = {
  ...common,
  norm: 'rms',
  epsilonKey: 'attention.layer_norm_rms_epsilon',
  epsilonDefault: null,
} as const;
const withLayerNorm = {
  ...common,
  norm: 'layer',
  epsilonKey: 'attention.layer_norm_epsilon',
  epsilonDefault: null,
} as const;

export const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  llama: {
    ...withRms,
    rope: ROPE_ADJACENT,
    feedForward: 'swiglu',
    slots: [
      ...ends,
      optional(slot('rope_freqs.weight', 'rotaryPairs')), // llama 3's divisors of the angles
      outputNorm,
      attentionNorm,
      ...anyQkv,
      attentionOutput,
      optional(attentionOutputBias),
      feedForwardNorm,
      gate,
      optional(gateBias),
      ...upDown,
      ...upDownBias.map(optional),
    ],
  },
  qwen2: {
    ...withRms,
    rope: ROPE_HALVES,
    feedForward: 'swiglu',
    headsFillEmbedding: true,
    slots: [...ends, optional(outputBias), outputNorm, ...gatedBlock],
  },
  qwen3: {
    ...withRms,
    rope: ROPE_HALVES,
    feedForward: 'swiglu',
    slots: [...ends, outputNorm, ...gatedBlock, ...headNorms],
  },
  gemma: {
    ...withRms, // the file has 1 + the weights of the model's authors
    rope: ROPE_HALVES,
    partialRotation: true,
    feedForward: 'geglu_f16',
    scaledEmbedding: true,
    scaledQueries: true,
    slots: [embeddings, outputNorm, ...gatedBlock],
  },
  phi2: {
    ...withLayerNorm,
    rope: ROPE_HALVES,
    partialRotation: true,
    feedForward: 'gelu_f16',
    parallel: true,
    scaledQueries: true,
    headsFillEmbedding: true,
    slots: [
      embeddings,
      output,
      outputBias,
      ...outputLayerNorm,
      ...attentionLayerNorm,
      ...anyQkv,
      attentionOutput,
      attentionOutputBias,
      ...upDown,
      ...upDownBias,
    ],
  },
  gpt2: {
    ...withLayerNorm,
    rope: null,
    feedForward: 'gelu_f16',
    headsFillEmbedding: true,
    slots: [
      ...ends,
      slot('position_embd.weight', 'embedding', 'context'),
      ...layerNorms,
      fusedQkv,
      fusedQkvBias,
      attentionOutput,
      attentionOutputBias,
      ...upDown,
      ...upDownBias,
    ],
  },
  sis: {
    ...withLayerNorm,
    epsilonDefault: 1e-5, // SIS §6
    rope: null,
    feedForward: 'gelu',
    slots: [
      ...ends,
      optional(outputBias),
      optional(slot('position_embd.weight', 'embedding', 'context')),
      ...layerNorms,
      ...separateQkv,
      ...separateQkvBias.map(optional),
      attentionOutput,
      optional(attentionOutputBias),
      ...upDown,
      ...upDownBias.map(optional),
    ],
  },
};

/** Private metadata keys of SIS §7.2 by the standard key they stand for; tried in this order when the standard one is absent. */
const fallbackKeys: Readonly<Record<string, readonly string[]>> = {
  context_length: ['llm.context_length', 'gpt_neox.n_ctx'],
  embedding_length: ['llm.embedding_length', 'gpt_neox.n_embd'],
  'attention.head_count': ['llm.attention.head_count', 'llm.head_count', 'gpt_neox.n_head'],
  block_count: ['llm.block_count', 'llm.layer_count', 'gpt_neox.n_layer'],
  feed_forward_length: ['llm.feed_forward_length'],
};

/** What a file says the model is, checked to be consistent in itself. Lengths in elements. */
export interface Hyperparameters {
  readonly architecture: Architecture;
  readonly layers: number;
  readonly embedding: number;
  readonly heads: number;
  readonly headsKv: number;
  readonly headSize: number;
  readonly feedForward: number;
  readonly vocabulary: number;
  readonly contextTrained: number;
  readonly epsilon: number;
  readonly rope: Rotation | null;
}

/** Rotary positions: the first `dimensions` elements of each head turn, pair i by pos · base^(−2i / dimensions). */
export interface Rotation {
  readonly mode: number; // ROPE_…
  readonly dimensions: number;
  readonly base: number;
  readonly scaling: RotationScaling | null;
}

/** Angles other than those the model was first trained with. */
export interface RotationScaling {
  readonly angle: number; // an f32 by which angles are multiplied: all, or with YaRN those of the slow pairs
  readonly amplitude: number; // cosines and sines are multiplied by it, and with YaRN by a logarithm of `angle` too
  readonly yarn: boolean;
  readonly contextFirst: number; // positions the model was first trained on
}

export function queryLength(h: Hyperparameters): number {
  return h.heads * h.headSize;
}
export function keyValueLength(h: Hyperparameters): number {
  return h.headsKv * h.headSize;
}

function printed(value: MetaValue): string {
  return typeof value === 'object' ? 'array' : shown(String(value));
}

// GGUF value types.
const GGUF_UINT32 = 4;
const GGUF_FLOAT32 = 6;
const GGUF_STRING = 8;
const TYPE_WORD = { [GGUF_UINT32]: 'u32', [GGUF_FLOAT32]: 'f32' } as const;

/** A metadata number stored as `type`, as llama.cpp asks, or a refusal naming the key. `fallback` null means the key must be present. */
function number(
  image: ModelImage,
  type: keyof typeof TYPE_WORD,
  suffix: string,
  fallback: number | null,
): number | Refusal {
  const standard = `${image.architecture}.${suffix}`;
  for (const key of [standard, ...(fallbackKeys[suffix] ?? [])]) {
    const value = image.meta(key);
    if (value === undefined) continue;
    const found = image.typeOf(key);
    if (found === type) return value as number;
    return refuse('NOEXEC', 6002, `metadata ${key} has type ${found}, want ${type} (${TYPE_WORD[type]})`);
  }
  return fallback ?? refuse('NOEXEC', 6002, `metadata key ${standard} not found`);
}

/**
 * Linear and YaRN scaling, as llama.cpp reads them: linear where only a factor is given, no factor where it is 0. A scaling without effect is none. What is
 * not a positive number is refused, and so is any other type.
 */
function rotationScaling(image: ModelImage, contextTrained: number): RotationScaling | Refusal | null {
  const key = (suffix: string): string => `${image.architecture}.rope.${suffix}`;
  const type = image.meta(key('scaling.type')) ?? 'linear';
  if (type !== 'none' && type !== 'linear' && type !== 'yarn')
    return refuse('NOTSUP', 1002, `metadata ${key('scaling.type')} = ${printed(type)} is not supported`);
  const named = image.meta(key('scaling.factor')) === undefined ? 'scale_linear' : 'scaling.factor';
  const factor = number(image, GGUF_FLOAT32, `rope.${named}`, 0);
  const amplitude = number(image, GGUF_FLOAT32, 'rope.scaling.attn_factor', 1);
  const first = number(image, GGUF_UINT32, 'rope.scaling.original_context_length', contextTrained);
  for (const x of [factor, amplitude, first]) if (typeof x !== 'number') return x;
  const numbers = { factor: factor as number, amplitude: amplitude as number, first: first as number };
  for (const [suffix, x] of [
    [named, numbers.factor || 1],
    ['scaling.attn_factor', numbers.amplitude],
    ['scaling.original_context_length', numbers.first || 1],
  ] as const)
    if (!(x > 0 && x < Infinity))
      return refuse('NOEXEC', 6002, `metadata ${key(suffix)} = ${x} is not a positive number`);
  const angle = type === 'none' || numbers.factor === 0 ? 1 : Math.fround(1 / numbers.factor);
  if (type !== 'yarn' && angle === 1 && numbers.amplitude === 1) return null;
  return {
    angle,
    amplitude: numbers.amplitude,
    yarn: type === 'yarn',
    contextFirst: numbers.first || contextTrained,
  };
}

/** Reads and checks the hyperparameters. Metadata only; nothing is allocated from them. */
export function hyperparameters(image: ModelImage): Hyperparameters | Refusal {
  const named = image.typeOf('general.architecture');
  if (named !== GGUF_STRING)
    return refuse(
      'NOEXEC',
      6002,
      named === undefined
        ? 'metadata key general.architecture not found'
        : `metadata general.architecture has type ${named}, want 8 (string)`,
    );
  const architecture = Object.hasOwn(ARCHITECTURES, image.architecture) ? ARCHITECTURES[image.architecture] : undefined;
  if (architecture === undefined)
    return refuse(
      'NOEXEC',
      1002,
      `architecture ${shown(image.architecture)} is not known; this build runs ${Object.keys(ARCHITECTURES).join(', ')}`,
    );
  for (const { key, unless } of architecture.refuses) {
    const value = image.meta(`${image.architecture}.${key}`);
    if (value !== undefined && !unless.includes(value))
      return refuse('NOTSUP', 1002, `metadata ${image.architecture}.${key} = ${printed(value)} is not supported`);
  }

  // One reader for every count, so that the first thing wrong is the one named.
  let wrong: Refusal | null = null;
  const count = (suffix: string, max: number, fallback: number | null = null): number => {
    const n = number(image, GGUF_UINT32, suffix, fallback);
    if (typeof n !== 'number') wrong ??= n;
    else if (!Number.isInteger(n) || n < 1 || n > max)
      wrong ??= refuse('NOEXEC', 6002, `metadata ${image.architecture}.${suffix} = ${n} is outside 1…${max}`);
    return typeof n === 'number' ? n : 1;
  };
  const real = (suffix: string, fallback: number | null): number => {
    const x = number(image, GGUF_FLOAT32, suffix, fallback);
    if (typeof x !== 'number') wrong ??= x;
    else if (!(x > 0 && x < Infinity))
      wrong ??= refuse('NOEXEC', 6002, `metadata ${image.architecture}.${suffix} = ${x} is not a positive number`);
    return typeof x === 'number' ? x : 1;
  };

  const lengthMax = 1 << 24;
  const layers = count('block_count', LIMITS.layersMax);
  const embedding = count('embedding_length', lengthMax);
  const heads = count('attention.head_count', embedding);
  const inconsistent = (text: string): Refusal => refuse('NOEXEC', 1002, `${image.architecture}: ${text}`);
  if (embedding % heads !== 0 && image.meta(`${image.architecture}.attention.key_length`) === undefined)
    wrong ??= inconsistent(`embedding_length ${embedding} is not a multiple of ${heads} heads`);
  const headsKv = count('attention.head_count_kv', heads, heads);
  const headSize = count('attention.key_length', lengthMax, Math.floor(embedding / heads));
  const valueSize = count('attention.value_length', lengthMax, headSize);
  const feedForward = count('feed_forward_length', lengthMax);
  const contextTrained = count('context_length', 0xffffffff);
  const epsilon = real(architecture.epsilonKey, architecture.epsilonDefault);
  const rotary = architecture.rope !== null;
  const dimensions = rotary ? count('rope.dimension_count', headSize, headSize) : 0;
  const base = rotary ? real('rope.freq_base', 10000) : 0;
  if (wrong !== null) return wrong;
  if (heads % headsKv !== 0) return inconsistent(`${heads} heads cannot share ${headsKv} key/value heads evenly`);
  if (architecture.headsFillEmbedding && heads * headSize !== embedding)
    return inconsistent(`${heads} heads of ${headSize} elements do not make embedding_length ${embedding}`);
  if (valueSize !== headSize)
    return inconsistent(`attention.value_length ${valueSize} differs from the key length ${headSize}`);
  if (rotary && dimensions !== headSize && !architecture.partialRotation)
    return inconsistent(`rope.dimension_count ${dimensions} differs from the head's ${headSize} elements`);
  if (dimensions % 2 !== 0) return inconsistent(`rope.dimension_count ${dimensions} is odd`);
  if (base !== 0 && base < 1) return inconsistent(`rope.freq_base ${base} is less than 1`);
  const scaling = rotary ? rotationScaling(image, contextTrained) : null;
  if (scaling !== null && isRefusal(scaling)) return scaling;

  const tokens = image.meta('tokenizer.ggml.tokens');
  const vocabulary = typeof tokens === 'object' ? tokens.count : (image.tensor('token_embd.weight')?.shape[1] ?? 0);
  if (vocabulary < 1 || vocabulary > LIMITS.vocabularyMax)
    return inconsistent(`a vocabulary of ${vocabulary} tokens is outside 1…${LIMITS.vocabularyMax}`);
  return {
    architecture,
    layers,
    embedding,
    heads,
    headsKv,
    headSize,
    feedForward,
    vocabulary,
    contextTrained,
    epsilon,
    rope: architecture.rope === null ? null : { mode: architecture.rope, dimensions, base, scaling },
  };
}

/** A tensor of the file in the place the architecture gives it. */
export interface BoundTensor {
  readonly name: string; // standard name, whatever the file calls it
  readonly info: TensorInfo;
  readonly type: number; // GGML_TYPE as kept in the arena: vectors, F64 and integers are F32
  readonly k: number; // elements of a row
  readonly rows: number;
}

/** Finds every tensor the architecture needs and checks type and shape. In slot order, layer by layer. Refuses tensors it has no place for. */
export function bind(image: ModelImage, h: Hyperparameters): ReadonlyMap<string, BoundTensor> | Refusal {
  const lengths: Record<Dim, number> = {
    embedding: h.embedding,
    head: h.headSize,
    query: queryLength(h),
    keyValue: keyValueLength(h),
    queryKeyValue: queryLength(h) + 2 * keyValueLength(h),
    feedForward: h.feedForward,
    vocabulary: h.vocabulary,
    context: h.contextTrained,
    rotaryPairs: (h.rope?.dimensions ?? 0) / 2,
  };
  const bound = new Map<string, BoundTensor>();
  const taken = new Set<string>();
  const place = (s: Slot, layer: string): Refusal | null => {
    if (s.unless !== undefined && bound.has(s.unless.replace('%', layer))) return null;
    const name = s.name.replace('%', layer);
    const info = image.tensor(name) ?? (s.alias === undefined ? undefined : image.tensor(s.alias));
    if (info === undefined) return s.required ? refuse('NOEXEC', 6003, `tensor ${name} not found`) : null;
    const [k, rows = 1] = s.shape.map(d => lengths[d]) as [number, number?];
    const [ne0, ne1 = 1, ...outer] = info.shape as [number, ...number[]];
    if (ne0 !== k || ne1 !== rows || outer.some(n => n !== 1)) {
      const needed = s.shape.map(d => lengths[d]).join('×');
      return refuse('NOEXEC', 1002, `tensor ${info.name} has shape ${info.shape.join('×')}, ${needed} is needed`);
    }
    const vector = s.shape.length === 1;
    const type = vector ? (isNumber(info.type) ? GGML_TYPE.F32 : null) : matrixType(info.type);
    if (type === null)
      return refuse(
        'NOTSUP',
        1002,
        `tensor ${info.name} has type ${ggmlTypeName(info.type) ?? info.type}, which this build does not compute${vector ? ' in a vector' : ''}`,
      );
    bound.set(name, { name, info, type, k, rows });
    taken.add(info.name);
    return null;
  };
  for (const s of h.architecture.slots) {
    if (s.name.includes('%')) continue;
    const refusal = place(s, '');
    if (refusal !== null) return refusal;
  }
  for (let layer = 0; layer < h.layers; layer++) {
    for (const s of h.architecture.slots) {
      if (!s.name.includes('%')) continue;
      const refusal = place(s, String(layer));
      if (refusal !== null) return refusal;
    }
  }
  const stray = image.tensors.find(t => !taken.has(t.name));
  if (stray !== undefined)
    return refuse('NOTSUP', 1002, `tensor ${shown(stray.name)} has no place in architecture ${image.architecture}`);
  return bound;
}
