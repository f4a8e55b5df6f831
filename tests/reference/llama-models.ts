// Small random models that llama.cpp accepts, made again from their names alone: what it answered for them is recorded in
// tests/fixtures/llama. Between them they cover heads and positions, types alone and mixed, both vocabularies, and odd sizes.

import { GGML_TYPE } from '../../kernel/abi/index.ts';
import type { MetaInput } from './gguf-writer.ts';
import { randomModel } from './models.ts';
import type { Config } from './models.ts';
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

/** The model of this name, from the name's own seed. */
export function llamaModel(name: string): Made {
  const recipe = RECIPES[name]!;
  let seed = 0;
  for (const letter of name) seed = (Math.imul(seed, 31) + letter.charCodeAt(0)) >>> 0;
  const next = random(seed);
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
