// Small random models that llama.cpp accepts, made again from their names alone: what it answered for them is recorded in
// tests/fixtures/llama. Between them they cover heads and positions, types alone and mixed, both vocabularies, and odd sizes.

import { GGML_BLOCK, GGML_TYPE, ggmlTypeName } from '../../kernel/abi/index.ts';
import type { MetaInput } from './gguf-writer.ts';
import { FORMS, NAMES, randomModel } from './models.ts';
import type { Config, RopeScaling } from './models.ts';
import { random } from './random.ts';
import { bpeVocabulary, randomText, spmVocabulary } from './vocabularies.ts';

const { F32, F16, BF16, Q4_0, Q4_1, Q8_0 } = GGML_TYPE;

interface Recipe {
  readonly config: Partial<Config> & { readonly types: Config['types'] };
  readonly vocabulary: 'spm' | 'bpe';
  readonly kv?: 'f32' | 'f16';
  readonly words?: number; // of the prompt
  readonly more?: Readonly<Record<string, MetaInput>>;
}

const all = (type: number) => (): number => type;
/** Types by the ends of names; the others get `otherwise`. */
const mixed =
  (otherwise: number, types: Readonly<Record<string, number>>): Config['types'] =>
  name =>
    Object.entries(types).find(([part]) => name.includes(part))?.[1] ?? otherwise;

const heads = (count: number, kv: number, size: number): Partial<Config> => ({
  heads: count,
  headsKv: kv,
  headSize: size,
  embedding: count * size,
});
const gpt2 = { architecture: 'gpt2', learnedPositions: true, biases: true, fusedQkv: true } as const;

const qwen2 = { architecture: 'qwen2', biases: true } as const;
const gemma = { architecture: 'gemma', tied: true } as const;
const phi2 = { architecture: 'phi2', biases: true } as const;

export const RECIPES: Readonly<Record<string, Recipe>> = {
  'mha-f32': { config: { ...heads(4, 4, 8), types: all(F32) }, vocabulary: 'spm' },
  'gqa-f32-base-1e6': {
    config: {
      ...heads(6, 2, 10),
      feedForward: 77,
      ropeBase: 1e6,
      epsilon: 1e-6,
      tied: true,
      vocabulary: 303,
      types: all(F32),
    },
    vocabulary: 'bpe',
    kv: 'f16',
  },
  'mqa-f16': { config: { ...heads(5, 1, 16), feedForward: 129, ropeBase: 500000, types: all(F16) }, vocabulary: 'bpe' },
  'gqa-bf16': { config: { ...heads(4, 2, 20), feedForward: 96, types: all(BF16) }, vocabulary: 'spm' },
  'key-length': {
    config: { heads: 4, headsKv: 2, headSize: 24, embedding: 52, feedForward: 65, types: mixed(F32, { ffn: F16 }) },
    vocabulary: 'spm',
    more: { 'tokenizer.ggml.add_space_prefix': { bool: false } },
  },
  'rope-factors': {
    config: {
      ...heads(4, 2, 12),
      ropeFactors: [1, 1, 1.5, 2, 4, 8],
      ropeBase: 500000,
      types: mixed(F32, { output: F16 }),
    },
    vocabulary: 'bpe',
    more: { 'tokenizer.ggml.pre': { string: 'llama-bpe' } },
  },
  'head-128-q8_0': {
    config: { ...heads(2, 1, 128), feedForward: 160, ropeBase: 1e6, tied: true, types: all(Q8_0) },
    vocabulary: 'spm',
    kv: 'f16',
  },
  q4_0: {
    config: { ...heads(4, 2, 24), feedForward: 224, vocabulary: 401, types: all(Q4_0) },
    vocabulary: 'bpe',
    more: { 'tokenizer.ggml.add_bos_token': { bool: true } },
  },
  q4_1: { config: { ...heads(4, 1, 32), feedForward: 96, types: all(Q4_1) }, vocabulary: 'spm' },
  q8_0: {
    config: { ...heads(3, 3, 32), feedForward: 224, types: all(Q8_0) },
    vocabulary: 'spm',
    more: { 'general.alignment': { u32: 8 } },
  },
  mixed: {
    config: {
      ...heads(4, 2, 16),
      feedForward: 108,
      types: mixed(Q4_0, {
        token_embd: Q8_0,
        output: Q4_0,
        attn_output: F32,
        attn_v: Q8_0,
        attn_k: F16,
        ffn_down: F16,
      }),
    },
    vocabulary: 'spm',
    more: { 'general.alignment': { u32: 64 } },
  },
  biases: {
    config: { ...heads(4, 2, 16), biases: true, types: mixed(Q8_0, { token_embd: Q4_0 }), tied: true },
    vocabulary: 'bpe',
  },
  'rope-linear': {
    config: {
      ...heads(4, 2, 12),
      ropeScaling: { type: 'linear', factor: 3.7, amplitude: 1, contextFirst: 40 },
      types: all(F32),
    },
    vocabulary: 'spm',
  },
  'rope-yarn': {
    config: {
      ...heads(4, 2, 32),
      ropeScaling: { type: 'yarn', factor: 4, amplitude: 1, contextFirst: 400 },
      ropeBase: 1000,
      types: all(F32),
    },
    vocabulary: 'spm',
    words: 40,
  },
  'rope-yarn-amplitude': {
    config: {
      ...heads(2, 2, 20),
      ropeScaling: { type: 'yarn', factor: 0.7, amplitude: 1.3, contextFirst: 64 },
      ropeFactors: [1, 1, 1.5, 2, 3, 3, 4, 5, 6, 8],
      types: all(F16),
    },
    vocabulary: 'bpe',
    more: { 'llama.rope.scaling.yarn_beta_fast': { f32: 8 } },
  },
  'llama-fused-qkv': { config: { ...heads(4, 2, 12), fusedQkv: true, types: all(F32) }, vocabulary: 'spm' },
  'qwen2-f32': {
    config: { ...qwen2, ...heads(6, 2, 10), feedForward: 77, tied: true, ropeBase: 1e6, types: all(F32) },
    vocabulary: 'bpe',
  },
  'qwen2-q4_0': {
    config: { ...qwen2, ...heads(4, 2, 32), feedForward: 224, types: mixed(Q4_0, { output: Q8_0 }) },
    vocabulary: 'bpe',
    kv: 'f16',
  },
  'qwen2-yarn': {
    config: {
      ...qwen2,
      ...heads(4, 2, 16),
      ropeScaling: { type: 'yarn', factor: 4, amplitude: 1, contextFirst: 32 },
      types: all(F16),
    },
    vocabulary: 'bpe',
    words: 16,
  },
  'qwen2-no-bias': {
    config: { ...qwen2, ...heads(4, 2, 16), biases: false, types: all(F32) },
    vocabulary: 'bpe',
  },
  'qwen3-f32': {
    config: { architecture: 'qwen3', heads: 4, headsKv: 2, headSize: 24, embedding: 52, types: all(F32) },
    vocabulary: 'bpe',
  },
  'qwen3-q8_0': {
    config: { architecture: 'qwen3', ...heads(4, 1, 32), epsilon: 1e-6, tied: true, types: all(Q8_0) },
    vocabulary: 'bpe',
    kv: 'f16',
  },
  'gemma-f32': {
    config: { ...gemma, heads: 2, headsKv: 1, headSize: 36, embedding: 52, feedForward: 99, types: all(F32) },
    vocabulary: 'spm',
  },
  'gemma-q4_0': {
    config: { ...gemma, ...heads(3, 1, 32), types: mixed(Q4_0, { token_embd: Q8_0 }) },
    vocabulary: 'spm',
    kv: 'f16',
  },
  'phi2-f32': {
    config: { ...phi2, ...heads(4, 4, 20), ropeDimensions: 8, feedForward: 90, types: all(F32) },
    vocabulary: 'bpe',
  },
  'phi2-q8_0-fused': {
    config: { ...phi2, ...heads(3, 3, 32), ropeDimensions: 12, fusedQkv: true, types: all(Q8_0) },
    vocabulary: 'bpe',
    kv: 'f16',
  },
  'gpt2-f32-tied': {
    config: { ...gpt2, ...heads(4, 4, 10), feedForward: 90, tied: true, types: all(F32) },
    vocabulary: 'bpe',
  },
  'gpt2-f16': { config: { ...gpt2, ...heads(2, 2, 24), types: all(F16) }, vocabulary: 'bpe', kv: 'f16' },
  'gpt2-q4_0-q8_0': {
    config: {
      ...gpt2,
      ...heads(3, 3, 32),
      feedForward: 384,
      types: mixed(Q4_0, { output: Q8_0, position_embd: F32, ffn_down: Q8_0 }),
    },
    vocabulary: 'bpe',
    more: { 'general.alignment': { u32: 16 } },
  },
};

const SPARE = 24; // positions left for generated tokens

export interface Made {
  readonly file: Uint8Array;
  readonly prompt: string;
  readonly kv: 'f32' | 'f16';
}

/** Drawn models whose answers are recorded, too. */
export const DRAWN: readonly string[] = Array.from({ length: 40 }, (_, i) => `drawn-${i}`);

const TYPES = (
  'F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS TQ1_0 TQ2_0'.split(
    ' ',
  ) as (keyof typeof GGML_TYPE)[]
).map(name => GGML_TYPE[name]);

/**
 * Any model that llama.cpp has of these architectures, drawn: sizes, heads, types alone and mixed, scaled positions, optional tensors, vocabulary. Rows
 * are whole blocks where the type drawn for them wants that; else the type is one of smaller blocks.
 */
export function drawnRecipe(next: () => number): Recipe {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)]!;
  const architecture = pick(NAMES.filter(name => name !== 'sis'));
  const { rope } = FORMS[architecture];
  const plain = architecture === 'gpt2' || architecture === 'phi2';
  const unit = pick([1, 32, 256, 256]); // rows are multiples of it, so that types with such blocks can be
  const headSize = pick(unit === 256 ? [32, 64, 128, 256] : unit === 32 ? [16, 32, 64, 96] : [2, 6, 10, 24, 40, 80]);
  const headsKv = pick(unit === 256 ? [1, 2, 4] : [1, 2, 3]);
  const query = (n: number): boolean => n % unit === 0 && n <= 1024;
  const shares = [1, 2, 3, 4, 8].filter(
    n => query(n * headsKv * headSize) && (!plain || n === 1 || architecture === 'phi2'),
  );
  if (shares.length === 0) return drawnRecipe(next);
  const count = headsKv * pick(shares);
  const free = unit === 1 ? [20, 52, 36] : unit === 32 ? [32, 96, 160] : [256, 512];
  const tiedToQuery = plain || architecture === 'qwen2' || next() < 0.5;
  const embedding = tiedToQuery ? count * headSize : pick(free);
  const feedForward = pick(unit === 1 ? [30, 65, 77, 172] : unit === 32 ? [32, 96, 224] : [256, 768]);
  const uniform = pick(TYPES);
  const several = next() < 0.5;
  const drawn = new Map<string, number>();
  const types = (name: string): number => {
    const row = name.includes('ffn_down') ? feedForward : name.includes('attn_output') ? count * headSize : embedding;
    const fits = TYPES.filter(type => row % GGML_BLOCK[ggmlTypeName(type)!][0] === 0);
    const kind = name.replace(/[0-9]+/, '%');
    const type = drawn.get(kind) ?? (several || !fits.includes(uniform) ? pick(fits) : uniform);
    drawn.set(kind, type);
    return type;
  };
  const partial = architecture === 'phi2' && next() < 0.7;
  const ropeDimensions = partial ? Math.max(2, 2 * Math.floor(headSize / pick([3, 4, 5]))) : headSize;
  const scaling: RopeScaling = {
    type: pick(['linear', 'yarn']),
    factor: pick([1, 2, 4, 0.5, 3.7]),
    amplitude: pick([1, 1, 1.25]),
    contextFirst: pick([8, 64, 700, 4096]),
  };
  return {
    config: {
      architecture,
      layers: pick([1, 2]),
      heads: count,
      headsKv: architecture === 'gpt2' ? count : headsKv,
      headSize,
      embedding,
      feedForward,
      vocabulary: pick([290, 303, 322]),
      epsilon: Math.fround(pick([1e-5, 1e-6])),
      ropeDimensions,
      ropeBase: pick([10000, 500000, 1e6]),
      ...(rope !== null && next() < 0.4 ? { ropeScaling: scaling } : {}),
      ...(architecture === 'llama' && next() < 0.2
        ? { ropeFactors: Array.from({ length: ropeDimensions / 2 }, () => 1 + 7 * next()) }
        : {}),
      learnedPositions: architecture === 'gpt2',
      tied: architecture === 'gemma' || (architecture !== 'phi2' && next() < 0.4),
      biases: plain || next() < (architecture === 'qwen2' ? 0.8 : 0.2),
      fusedQkv: architecture === 'gpt2' || next() < 0.2,
      types,
    },
    vocabulary: architecture === 'gemma' ? 'spm' : architecture === 'llama' ? pick(['spm', 'bpe']) : 'bpe',
    kv: pick(['f32', 'f32', 'f16']),
    more: next() < 0.3 ? { 'tokenizer.ggml.add_space_prefix': { bool: false } } : {},
  };
}

/** The model of this name, from the name's own seed: of RECIPES, or any other one, drawn. */
export function llamaModel(name: string): Made {
  let seed = 0;
  for (const letter of name) seed = (Math.imul(seed, 31) + letter.charCodeAt(0)) >>> 0;
  const known = RECIPES[name];
  const next = random(known === undefined ? Math.imul(seed, 0x9e3779b1) >>> 0 : seed); // names that follow each other are to differ
  const recipe = known ?? drawnRecipe(next);
  const words = recipe.words ?? 8;
  const config: Config = {
    architecture: 'llama',
    layers: 2,
    heads: 2,
    headsKv: 2,
    headSize: 16,
    embedding: 32,
    feedForward: 64,
    vocabulary: 290,
    context: 8 * words + SPARE,
    epsilon: 1e-5,
    ropeDimensions: recipe.config.headSize ?? 16,
    ropeBase: 10000,
    learnedPositions: false,
    tied: false,
    biases: false,
    fusedQkv: false,
    vectorType: F32,
    ...recipe.config,
  };
  const vocabulary = recipe.vocabulary === 'spm' ? spmVocabulary : bpeVocabulary;
  const prompt = randomText(words, next);
  const { file } = randomModel(config, next, { ...vocabulary(config.vocabulary, next), ...recipe.more });
  return { file, prompt, kv: recipe.kv ?? 'f32' };
}
