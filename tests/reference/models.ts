// Random tiny transformers: a GGUF file and, beside it, the same weights as plain f64 numbers for the reference forward pass. The
// decoding here is written from the format's description, not from the kernels.

import { GGML_BLOCK, GGML_TYPE, ggmlTypeName, KV_TYPES } from '../../kernel/abi/index.ts';
import { tensorBytes, writeGguf } from './gguf-writer.ts';
import type { MetaInput, TensorInput } from './gguf-writer.ts';

/** What the architectures of llama.cpp, and sis, do; written from their descriptions, not from the engine's table. */
export const FORMS = {
  llama: { norm: 'rms', rope: 'adjacent', act: 'silu', gate: true, headNorms: false, parallel: false, scaled: false },
  qwen2: { norm: 'rms', rope: 'halves', act: 'silu', gate: true, headNorms: false, parallel: false, scaled: false },
  qwen3: { norm: 'rms', rope: 'halves', act: 'silu', gate: true, headNorms: true, parallel: false, scaled: false },
  gemma: { norm: 'rms', rope: 'halves', act: 'gelu_f16', gate: true, headNorms: false, parallel: false, scaled: true },
  phi2: {
    norm: 'layer',
    rope: 'halves',
    act: 'gelu_f16',
    gate: false,
    headNorms: false,
    parallel: true,
    scaled: false,
  },
  gpt2: { norm: 'layer', rope: null, act: 'gelu_f16', gate: false, headNorms: false, parallel: false, scaled: false },
  sis: { norm: 'layer', rope: null, act: 'gelu', gate: false, headNorms: false, parallel: false, scaled: false },
} as const;
export type ArchitectureName = keyof typeof FORMS;
export const NAMES = Object.keys(FORMS) as ArchitectureName[];

export interface Config {
  readonly architecture: ArchitectureName;
  readonly layers: number;
  readonly heads: number;
  readonly headsKv: number;
  readonly headSize: number;
  readonly embedding: number;
  readonly feedForward: number;
  readonly vocabulary: number;
  readonly context: number;
  readonly epsilon: number;
  readonly ropeDimensions: number;
  readonly ropeBase: number;
  readonly ropeFactors?: readonly number[]; // divisors of the angles, [ropeDimensions / 2]
  readonly ropeScaling?: RopeScaling;
  readonly learnedPositions: boolean; // sis: optional
  readonly tied: boolean;
  readonly biases: boolean; // of products: gpt2 and phi2 always, llama and sis optional; qwen2, qwen3, gemma: of queries, keys and values
  readonly fusedQkv: boolean; // gpt2 always
  readonly types: (name: string) => number; // storage type of a matrix
  readonly vectorType: number; // of norms and biases: F32, F16 or BF16
}

export interface RopeScaling {
  readonly type: 'linear' | 'yarn';
  readonly factor: number;
  readonly amplitude: number; // rope.scaling.attn_factor
  readonly contextFirst: number; // rope.scaling.original_context_length
}

export interface Weight {
  readonly type: number;
  readonly k: number;
  readonly rows: number;
  readonly index?: readonly number[]; // the rows that `values` has, ascending, the others being zero; without it all
  readonly values: Float64Array; // [rows][k]
  readonly minima: Float64Array | null; // Q4_1: [rows][k / 32], already part of the values
}

export interface RandomModel {
  readonly config: Config;
  readonly file: Uint8Array;
  readonly weights: ReadonlyMap<string, Weight>;
}

/** Nearest half-precision number, ties to even. */
export function roundF16(x: number): number {
  if (x === 0 || !Number.isFinite(x)) return x;
  const exponent = Math.max(Math.floor(Math.log2(Math.abs(x))), -14);
  const quantum = 2 ** (exponent - 10);
  const y = x / quantum;
  let r = Math.round(y);
  if (Math.abs(y - Math.trunc(y)) === 0.5 && r % 2 !== 0) r -= 1;
  return r * quantum;
}

function f16Bits(x: number): number {
  const v = Math.abs(x);
  const sign = x < 0 ? 0x8000 : 0;
  if (v < 2 ** -14) return sign | Math.round(v / 2 ** -24);
  const e = Math.floor(Math.log2(v));
  return sign | (((e + 15) << 10) + Math.round(v / 2 ** (e - 10)) - 1024);
}

/** Nearest bfloat16, ties to even. */
export function roundBf16(x: number): number {
  const f = new Float32Array([x]);
  const u = new Uint32Array(f.buffer);
  u[0] = ((u[0]! + 0x7fff + ((u[0]! >> 16) & 1)) & 0xffff0000) >>> 0;
  return f[0]!;
}

/** Numbers in a float storage type, and what they are after being rounded to it. */
function encodeFloats(type: number, n: number, draw: () => number): { data: Uint8Array; values: Float64Array } {
  const data = new Uint8Array(tensorBytes(type, [n]));
  const view = new DataView(data.buffer);
  const values = new Float64Array(n);
  const f32 = new DataView(new ArrayBuffer(4));
  for (let i = 0; i < n; i++) {
    if (type === GGML_TYPE.F32) view.setFloat32(4 * i, (values[i] = Math.fround(draw())), true);
    else if (type === GGML_TYPE.F16) view.setUint16(2 * i, f16Bits((values[i] = roundF16(draw()))), true);
    else {
      f32.setFloat32(0, (values[i] = roundBf16(draw())));
      view.setUint16(2 * i, f32.getUint16(0), true);
    }
  }
  return { data, values };
}

/**
 * Where ggml's other types keep a block's f16 scale, and the largest product of whole numbers it is multiplied by; and, of those that have one, where
 * the scale of the minima is, and by how much that is the larger.
 */
const SCALES: ReadonlyMap<number, readonly [at: number, most: number, minimumAt?: number, minimum?: number]> = new Map([
  [GGML_TYPE.Q5_0, [0, 16]],
  [GGML_TYPE.Q5_1, [0, 16, 2, -16]],
  [GGML_TYPE.Q2_K, [80, 30, 82, 1.5]],
  [GGML_TYPE.Q3_K, [108, 128]],
  [GGML_TYPE.Q4_K, [0, 500, 2, 7.5]],
  [GGML_TYPE.Q5_K, [0, 1000, 2, 15]],
  [GGML_TYPE.Q6_K, [208, 4064]],
  [GGML_TYPE.IQ4_NL, [0, 127]],
  [GGML_TYPE.IQ4_XS, [0, 4064]],
  [GGML_TYPE.TQ1_0, [52, 1.5]],
  [GGML_TYPE.TQ2_0, [64, 1.5]],
] as const);

/** Random blocks of a type that is not decoded here: random bits with scales that make values about ±`scale`. */
function randomBlocks(type: number, n: number, scale: number, next: () => number): Uint8Array {
  const [at, most, minimumAt, minimum = 0] = SCALES.get(type)!;
  const [values, blockBytes] = GGML_BLOCK[ggmlTypeName(type)!];
  const data = Uint8Array.from({ length: (n / values) * blockBytes }, () => Math.floor(next() * 256));
  const view = new DataView(data.buffer);
  for (let block = 0; block < data.length; block += blockBytes) {
    const d = (scale * (0.5 + next())) / most;
    view.setUint16(block + at, f16Bits(d), true);
    if (minimumAt !== undefined) view.setUint16(block + minimumAt, f16Bits(d * minimum * (0.8 + 0.4 * next())), true);
  }
  return data;
}

/** Random contents of a matrix: values about ±`scale`, and what they decode to (nothing for types of SCALES). */
function randomMatrix(
  type: number,
  k: number,
  rows: number,
  scale: number,
  next: () => number,
): { data: Uint8Array; values: Float64Array; minima: Float64Array | null } {
  if (SCALES.has(type))
    return { data: randomBlocks(type, k * rows, scale, next), values: new Float64Array(0), minima: null };
  const q8 = type === GGML_TYPE.Q8_0;
  const q4 = type === GGML_TYPE.Q4_0;
  if (!q8 && !q4 && type !== GGML_TYPE.Q4_1)
    return { ...encodeFloats(type, k * rows, () => (2 * next() - 1) * scale), minima: null };
  const data = new Uint8Array(tensorBytes(type, [k, rows]));
  const view = new DataView(data.buffer);
  const values = new Float64Array(k * rows);
  const minima = type === GGML_TYPE.Q4_1 ? new Float64Array(values.length / 32) : null;
  const blockBytes = tensorBytes(type, [32]);
  for (let b = 0; b < values.length / 32; b++) {
    const at = b * blockBytes;
    const d = roundF16(((next() < 0.5 ? -1 : 1) * scale * (0.5 + next())) / (q8 ? 127 : 8));
    const m = minima === null ? 0 : roundF16(-8 * d * (0.8 + 0.4 * next()));
    view.setUint16(at, f16Bits(d), true);
    if (minima !== null) {
      view.setUint16(at + 2, f16Bits(m), true);
      minima[b] = m;
    }
    const quantsAt = at + (minima === null ? 2 : 4);
    for (let i = 0; i < (q8 ? 32 : 16); i++) {
      const byte = Math.floor(next() * 256);
      data[quantsAt + i] = byte;
      if (q8) values[b * 32 + i] = d * ((byte << 24) >> 24);
      else {
        values[b * 32 + i] = d * ((byte & 15) - (q4 ? 8 : 0)) + m;
        values[b * 32 + 16 + i] = d * ((byte >> 4) - (q4 ? 8 : 0)) + m;
      }
    }
  }
  return { data, values, minima };
}

/** A model of this configuration with random weights. `more`: metadata added to, or put in place of, what the configuration says. */
export function randomModel(
  c: Config,
  next: () => number,
  more: Readonly<Record<string, MetaInput>> = {},
): RandomModel {
  const tensors: TensorInput[] = [];
  const weights = new Map<string, Weight>();
  const matrix = (name: string, k: number, rows: number, scale = 1.5 / Math.sqrt(k)): void => {
    const type = c.types(name);
    const { data, values, minima } = randomMatrix(type, k, rows, scale, next);
    tensors.push({ name, type, shape: [k, rows], data });
    weights.set(name, { type, k, rows, values, minima });
  };
  const vector = (name: string, n: number, centre: number, spread: number): void => {
    const { data, values } = encodeFloats(c.vectorType, n, () => centre + (2 * next() - 1) * spread);
    tensors.push({ name, type: c.vectorType, shape: [n], data });
    weights.set(name, { type: GGML_TYPE.F32, k: n, rows: 1, values, minima: null });
  };
  const form = FORMS[c.architecture];
  const norm = (name: string): void => {
    vector(`${name}.weight`, c.embedding, 1, 0.3);
    if (form.norm === 'layer') vector(`${name}.bias`, c.embedding, 0, 0.3);
  };
  const product = (name: string, k: number, rows: number, biases = c.biases): void => {
    matrix(`${name}.weight`, k, rows);
    if (biases) vector(`${name}.bias`, rows, 0, 0.2);
  };
  const query = c.heads * c.headSize;
  const kv = c.headsKv * c.headSize;
  const onlyQkvBiases = ['qwen2', 'qwen3', 'gemma'].includes(c.architecture);
  const biases = c.biases && !onlyQkvBiases;
  matrix('token_embd.weight', c.embedding, c.vocabulary, form.scaled ? 1 / Math.sqrt(c.embedding) : 1);
  if (c.ropeFactors !== undefined) {
    const data = new Uint8Array(Float32Array.from(c.ropeFactors).buffer);
    tensors.push({ name: 'rope_freqs.weight', type: GGML_TYPE.F32, shape: [c.ropeFactors.length], data });
  }
  if (c.learnedPositions) matrix('position_embd.weight', c.embedding, c.context, 0.5);
  for (let l = 0; l < c.layers; l++) {
    const b = `blk.${l}.`;
    norm(`${b}attn_norm`);
    if (c.fusedQkv) product(`${b}attn_qkv`, c.embedding, query + 2 * kv);
    else {
      product(`${b}attn_q`, c.embedding, query);
      product(`${b}attn_k`, c.embedding, kv);
      product(`${b}attn_v`, c.embedding, kv);
    }
    if (form.headNorms) {
      vector(`${b}attn_q_norm.weight`, c.headSize, 1, 0.3);
      vector(`${b}attn_k_norm.weight`, c.headSize, 1, 0.3);
    }
    product(`${b}attn_output`, query, c.embedding, biases);
    if (!form.parallel) norm(`${b}ffn_norm`);
    if (form.gate) product(`${b}ffn_gate`, c.embedding, c.feedForward, biases);
    product(`${b}ffn_up`, c.embedding, c.feedForward, biases);
    product(`${b}ffn_down`, c.feedForward, c.embedding, biases);
  }
  norm('output_norm');
  if (!c.tied) matrix('output.weight', c.embedding, c.vocabulary, 3 / Math.sqrt(c.embedding));
  if (c.architecture === 'phi2') vector('output.bias', c.vocabulary, 0, 0.5);

  const a = c.architecture;
  const meta: Record<string, MetaInput> = {
    'general.architecture': { string: a },
    'general.name': { string: `random ${a}` },
    [`${a}.block_count`]: { u32: c.layers },
    [`${a}.context_length`]: { u32: c.context },
    [`${a}.embedding_length`]: { u32: c.embedding },
    [`${a}.feed_forward_length`]: { u32: c.feedForward },
    [`${a}.attention.head_count`]: { u32: c.heads },
    [`${a}.attention.head_count_kv`]: { u32: c.headsKv },
    [`${a}.attention.key_length`]: { u32: c.headSize },
    [`${a}.attention.value_length`]: { u32: c.headSize },
    [`${a}.attention.${form.norm === 'rms' ? 'layer_norm_rms_epsilon' : 'layer_norm_epsilon'}`]: { f32: c.epsilon },
  };
  if (form.rope !== null) {
    meta[`${a}.rope.dimension_count`] = { u32: c.ropeDimensions };
    meta[`${a}.rope.freq_base`] = { f32: c.ropeBase };
  }
  if (c.ropeScaling !== undefined) {
    const { type, factor, amplitude, contextFirst } = c.ropeScaling;
    meta[`${a}.rope.scaling.type`] = { string: type };
    meta[`${a}.rope.scaling.factor`] = { f32: factor };
    meta[`${a}.rope.scaling.attn_factor`] = { f32: amplitude };
    meta[`${a}.rope.scaling.original_context_length`] = { u32: contextFirst };
  }
  return { config: c, file: writeGguf({ ...meta, ...more }, tensors), weights };
}

const MATRIX_TYPES = [GGML_TYPE.F32, GGML_TYPE.F16, GGML_TYPE.BF16, GGML_TYPE.Q4_0, GGML_TYPE.Q4_1, GGML_TYPE.Q8_0];

/** A random type that a model's heads let keys and values be kept in. */
export function kvTypeFor({ headSize }: Pick<Config, 'headSize'>, next: () => number): number {
  const fitting = KV_TYPES.filter(name => headSize % GGML_BLOCK[name][0] === 0);
  return GGML_TYPE[fitting[Math.floor(next() * fitting.length)]!];
}

/** A random small configuration. Rows that are no whole blocks get a float type; one model in three mixes types. */
export function randomConfig(architecture: Config['architecture'], next: () => number): Config {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)]!;
  const headsKv = pick([1, 2, 3]);
  const heads = headsKv * pick([1, 2, 3]);
  const headSize = pick([2, 4, 6, 8, 16, 32, 48]);
  const query = heads * headSize;
  const filled = ['gpt2', 'qwen2', 'phi2'].includes(architecture);
  const embedding = filled ? query : pick([query, query, 32, 96, 20]);
  const feedForward = pick([32, 64, 96, 172, 30]);
  const { rope } = FORMS[architecture];
  const mixed = next() < 1 / 3;
  const uniform = pick(MATRIX_TYPES);
  const chosen = new Map<string, number>();
  const rowLength = (name: string): number =>
    name.includes('ffn_down') ? feedForward : name.includes('attn_output') ? query : embedding;
  const partial = architecture === 'gemma' || architecture === 'phi2';
  const ropeDimensions = partial ? pick([headSize, Math.max(2, 2 * Math.floor(headSize / 4))]) : headSize;
  const scaling: RopeScaling = {
    type: pick(['linear', 'yarn']),
    factor: pick([1, 2, 4, 0.5, 3.7]),
    amplitude: pick([1, 1, 1.25]),
    contextFirst: pick([8, 64, 700, 4096]),
  };
  const scaled = next() < 0.4;
  return {
    architecture,
    layers: pick([1, 2, 3]),
    heads,
    headsKv,
    headSize,
    embedding,
    feedForward,
    vocabulary: pick([5, 33, 64, 101]),
    context: pick([24, 32]),
    epsilon: Math.fround(pick([1e-5, 1e-6])),
    ropeDimensions,
    ropeBase: pick([10000, 500000]),
    ...(rope !== null && scaled ? { ropeScaling: scaling } : {}),
    ...(architecture === 'llama' && next() < 0.2
      ? { ropeFactors: Array.from({ length: ropeDimensions / 2 }, () => 1 + 7 * next()) }
      : {}),
    learnedPositions: architecture === 'gpt2' || (architecture === 'sis' && next() < 0.7),
    tied: architecture === 'gemma' || (architecture !== 'phi2' && next() < 0.5),
    biases: architecture === 'gpt2' || architecture === 'phi2' || next() < (architecture === 'qwen2' ? 0.8 : 0.3),
    fusedQkv: architecture === 'gpt2' || (architecture !== 'sis' && next() < 0.2),
    vectorType: pick([GGML_TYPE.F32, GGML_TYPE.F32, GGML_TYPE.F16, GGML_TYPE.BF16]),
    types: name => {
      const wanted = chosen.get(name) ?? (mixed ? pick(MATRIX_TYPES) : uniform);
      chosen.set(name, wanted);
      const blocked = wanted === GGML_TYPE.Q4_0 || wanted === GGML_TYPE.Q4_1 || wanted === GGML_TYPE.Q8_0;
      return blocked && rowLength(name) % 32 !== 0 ? GGML_TYPE.F16 : wanted;
    },
  };
}
