// Architectures as data. One row per value of `general.architecture`: which norm, which positions, which attention and feed-forward
// tensors, and the shape each tensor must have. The forward pass is written once (plan in compile.ts) and reads this table; a new
// member of the family is a new row. Metadata keys and tensor names are GGUF's; the older private keys of SIS §7.2 are tried after them.

import { GGML_TYPE, LIMITS, ggmlTypeName, refuse } from '../../../kernel/abi/index.ts';
import { isNumber, matrixType } from '../sizes.ts';
import type { MetaValue, ModelImage, Refusal, TensorInfo } from '../../../kernel/abi/index.ts';

/** A dimension by meaning: its length follows from the hyperparameters. */
type Dim =
  'embedding' | 'query' | 'keyValue' | 'queryKeyValue' | 'feedForward' | 'vocabulary' | 'context' | 'rotaryPairs';

/** A tensor an architecture names. One dimension: a vector, kept as F32. Two: a matrix, kept in its type, rows of `shape[0]`. */
interface Slot {
  readonly name: string; // `%` stands for the layer
  readonly shape: readonly Dim[];
  readonly required: boolean;
  readonly alias?: string;
}

export interface Architecture {
  readonly norm: 'rms' | 'layer';
  readonly epsilonKey: string;
  readonly epsilonDefault: number | null; // null = the key must be present
  readonly positions: 'rope' | 'learned'; // 'learned' without a position_embd.weight means none at all
  /** 'gelu_f16': argument and result rounded to f16, as ggml has it (a table of all halves). */
  readonly feedForward: 'swiglu' | 'gelu' | 'gelu_f16';
  /** Keys whose presence with any other value changes the arithmetic in a way this build does not have. */
  readonly refuses: readonly { readonly key: string; readonly unless: readonly MetaValue[] }[];
  readonly slots: readonly Slot[];
}

const slot = (name: string, ...shape: Dim[]): Slot => ({ name, shape, required: true });
const optional = (s: Slot): Slot => ({ ...s, required: false });
const aliased = (s: Slot, alias: string): Slot => ({ ...s, alias });

const ends = [
  slot('token_embd.weight', 'embedding', 'vocabulary'),
  optional(slot('output.weight', 'embedding', 'vocabulary')),
  optional(slot('output.bias', 'vocabulary')),
];
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
const attentionOutput = slot('blk.%.attn_output.weight', 'query', 'embedding');
const attentionOutputBias = slot('blk.%.attn_output.bias', 'embedding');
const upDown = [
  slot('blk.%.ffn_up.weight', 'embedding', 'feedForward'),
  slot('blk.%.ffn_down.weight', 'feedForward', 'embedding'),
];
const upDownBias = [slot('blk.%.ffn_up.bias', 'feedForward'), slot('blk.%.ffn_down.bias', 'embedding')];
const layerNorms = [
  aliased(slot('output_norm.weight', 'embedding'), 'ln_f.weight'),
  aliased(slot('output_norm.bias', 'embedding'), 'ln_f.bias'),
  slot('blk.%.attn_norm.weight', 'embedding'),
  slot('blk.%.attn_norm.bias', 'embedding'),
  slot('blk.%.ffn_norm.weight', 'embedding'),
  slot('blk.%.ffn_norm.bias', 'embedding'),
];

/** Keys any architecture may carry that would change the arithmetic. */
const refusedKeys = [
  { key: 'expert_count', unless: [0] },
  { key: 'attention.causal', unless: [true] },
];

export const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  llama: {
    norm: 'rms',
    epsilonKey: 'attention.layer_norm_rms_epsilon',
    epsilonDefault: null,
    positions: 'rope',
    feedForward: 'swiglu',
    refuses: refusedKeys,
    slots: [
      ...ends,
      optional(slot('rope_freqs.weight', 'rotaryPairs')),
      slot('output_norm.weight', 'embedding'),
      slot('blk.%.attn_norm.weight', 'embedding'),
      ...separateQkv,
      ...separateQkvBias.map(optional),
      attentionOutput,
      optional(attentionOutputBias),
      slot('blk.%.ffn_norm.weight', 'embedding'),
      slot('blk.%.ffn_gate.weight', 'embedding', 'feedForward'),
      optional(slot('blk.%.ffn_gate.bias', 'feedForward')),
      ...upDown,
      ...upDownBias.map(optional),
    ],
  },
  gpt2: {
    norm: 'layer',
    epsilonKey: 'attention.layer_norm_epsilon',
    epsilonDefault: null,
    positions: 'learned',
    feedForward: 'gelu_f16',
    refuses: refusedKeys,
    slots: [
      ...ends,
      slot('position_embd.weight', 'embedding', 'context'),
      ...layerNorms,
      slot('blk.%.attn_qkv.weight', 'embedding', 'queryKeyValue'),
      slot('blk.%.attn_qkv.bias', 'queryKeyValue'),
      attentionOutput,
      attentionOutputBias,
      ...upDown,
      ...upDownBias,
    ],
  },
  sis: {
    norm: 'layer',
    epsilonKey: 'attention.layer_norm_epsilon',
    epsilonDefault: 1e-5, // SIS §6
    positions: 'learned',
    feedForward: 'gelu',
    refuses: refusedKeys,
    slots: [
      ...ends,
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
  /** Rotary positions: the first `dimensions` elements of each head turn, pair i by pos · base^(−2i / dimensions). */
  readonly rope: { readonly dimensions: number; readonly base: number } | null;
}

export function queryLength(h: Hyperparameters): number {
  return h.heads * h.headSize;
}
export function keyValueLength(h: Hyperparameters): number {
  return h.headsKv * h.headSize;
}

/** A metadata number, or a refusal naming the key. `fallback` null means the key must be present. */
function number(image: ModelImage, suffix: string, fallback: number | null): number | Refusal {
  const standard = `${image.architecture}.${suffix}`;
  for (const key of [standard, ...(fallbackKeys[suffix] ?? [])]) {
    const value = image.meta(key);
    if (value === undefined) continue;
    if (typeof value === 'number') return value;
    if (typeof value === 'bigint') return Number(value);
    return refuse(
      'NOEXEC',
      6002,
      `metadata ${key}: a number is needed, the file has ${typeof value === 'object' ? 'an array' : `a ${typeof value}`}`,
    );
  }
  return fallback ?? refuse('NOEXEC', 6002, `metadata key ${standard} not found`);
}

/** Scaled rotary positions are refused: a scaling without effect is not one. As in llama.cpp the type is linear where only a factor is given. */
function scaledRotation(image: ModelImage): Refusal | null {
  const read = (suffix: string): MetaValue | undefined => image.meta(`${image.architecture}.rope.${suffix}`);
  const type = read('scaling.type') ?? 'linear';
  const [key, factor] =
    read('scaling.factor') === undefined
      ? ['scale_linear', read('scale_linear') ?? 1]
      : ['scaling.factor', read('scaling.factor')];
  if (type === 'none' || (type === 'linear' && (factor === 0 || factor === 1))) return null;
  const [named, value] = type === 'linear' ? [key, factor] : ['scaling.type', type];
  return refuse('NOTSUP', 1002, `metadata ${image.architecture}.rope.${named} = ${String(value)} is not supported`);
}

/** Reads and checks the hyperparameters. Metadata only; nothing is allocated from them. */
export function hyperparameters(image: ModelImage): Hyperparameters | Refusal {
  const architecture = Object.hasOwn(ARCHITECTURES, image.architecture) ? ARCHITECTURES[image.architecture] : undefined;
  if (architecture === undefined)
    return refuse(
      'NOEXEC',
      1002,
      `architecture "${image.architecture}" is not known; this build runs ${Object.keys(ARCHITECTURES).join(', ')}`,
    );
  for (const { key, unless } of architecture.refuses) {
    const value = image.meta(`${image.architecture}.${key}`);
    if (value !== undefined && !unless.includes(value))
      return refuse(
        'NOTSUP',
        1002,
        `metadata ${image.architecture}.${key} = ${typeof value === 'object' ? 'array' : value} is not supported`,
      );
  }

  if (architecture.positions === 'rope') {
    const scaled = scaledRotation(image);
    if (scaled !== null) return scaled;
  }

  // One reader for every count, so that the first thing wrong is the one named.
  let wrong: Refusal | null = null;
  const count = (suffix: string, max: number, fallback: number | null = null): number => {
    const n = number(image, suffix, fallback);
    if (typeof n !== 'number') wrong ??= n;
    else if (!Number.isInteger(n) || n < 1 || n > max)
      wrong ??= refuse('NOEXEC', 6002, `metadata ${image.architecture}.${suffix} = ${n} is outside 1…${max}`);
    return typeof n === 'number' ? n : 1;
  };
  const real = (suffix: string, fallback: number | null): number => {
    const x = number(image, suffix, fallback);
    if (typeof x !== 'number') wrong ??= x;
    else if (!(x > 0 && x < Infinity))
      wrong ??= refuse('NOEXEC', 6002, `metadata ${image.architecture}.${suffix} = ${x} is not a positive number`);
    return typeof x === 'number' ? x : 1;
  };

  const lengthMax = 1 << 24;
  const layers = count('block_count', LIMITS.layersMax);
  const embedding = count('embedding_length', lengthMax);
  const heads = count('attention.head_count', embedding);
  const headsKv = count('attention.head_count_kv', heads, heads);
  const headSize = count('attention.key_length', lengthMax, Math.floor(embedding / heads));
  const valueSize = count('attention.value_length', lengthMax, headSize);
  const feedForward = count('feed_forward_length', lengthMax);
  const contextTrained = count('context_length', 1 << 30);
  const epsilon = real(architecture.epsilonKey, architecture.epsilonDefault);
  const rotary = architecture.positions === 'rope';
  const dimensions = rotary ? count('rope.dimension_count', headSize, headSize) : 0;
  const base = rotary ? real('rope.freq_base', 10000) : 0;
  if (wrong !== null) return wrong;
  const inconsistent = (text: string): Refusal => refuse('NOEXEC', 1002, `${image.architecture}: ${text}`);
  if (heads % headsKv !== 0) return inconsistent(`${heads} heads cannot share ${headsKv} key/value heads evenly`);
  if (embedding % heads !== 0 && image.meta(`${image.architecture}.attention.key_length`) === undefined)
    return inconsistent(`embedding_length ${embedding} is not a multiple of ${heads} heads`);
  if (valueSize !== headSize)
    return inconsistent(`attention.value_length ${valueSize} differs from the key length ${headSize}`);
  if (dimensions % 2 !== 0) return inconsistent(`rope.dimension_count ${dimensions} is odd`);
  if (base !== 0 && base < 1) return inconsistent(`rope.freq_base ${base} is less than 1`);

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
    rope: rotary ? { dimensions, base } : null,
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
    return refuse('NOTSUP', 1002, `tensor ${stray.name} has no place in architecture ${image.architecture}`);
  return bound;
}
