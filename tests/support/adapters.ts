// LoRA adapters for tests: random factors for any matrices of a model, in the names and metadata of llama.cpp, and the plain numbers beside the
// file. Independent of what the project writes itself.

import { GGML_TYPE } from '../../kernel/abi/index.ts';
import { writeGguf } from '../reference/gguf-writer.ts';
import type { MetaInput, TensorInput } from '../reference/gguf-writer.ts';

/** A matrix that a pair changes: by its name in the model's file. */
export interface Matrix {
  readonly name: string;
  readonly k: number;
  readonly rows: number;
}

export interface Pair extends Matrix {
  readonly rank: number;
  readonly a: Float32Array; // [rank][k]
  readonly b: Float32Array; // [rows][rank]
}

export interface AdapterSpec {
  readonly architecture: string;
  readonly matrices: readonly Matrix[];
  readonly rank: number;
  readonly alpha: number;
  /** Of the factors' values. */
  readonly size: number;
  readonly type?: number;
  readonly meta?: Readonly<Record<string, MetaInput>>;
}

export interface Adapter {
  readonly spec: AdapterSpec;
  readonly pairs: readonly Pair[];
  readonly file: Uint8Array;
}

/** Of the models in images/models: queries, values and the second half of the feed-forward of every layer. */
export const FABLE: readonly Matrix[] = Array.from({ length: 6 }, (_, l) => [
  { name: `blk.${l}.attn_q.weight`, k: 128, rows: 128 },
  { name: `blk.${l}.attn_v.weight`, k: 128, rows: 64 },
  { name: `blk.${l}.ffn_down.weight`, k: 384, rows: 128 },
]).flat();

/** f32 values that BF16 and F16 hold exactly, within ±size. */
function factor(n: number, size: number, next: () => number): Float32Array {
  const step = 2 ** Math.ceil(Math.log2(size) - 7);
  return Float32Array.from({ length: n }, () => Math.round(((2 * next() - 1) * size) / step) * step);
}

/** A value as a file of that type stores it. */
function encode(type: number, values: Float32Array): Uint8Array {
  if (type === GGML_TYPE.F32) return new Uint8Array(values.slice().buffer);
  const bits = new Uint32Array(values.slice().buffer);
  const half = (x: number): number => {
    const exponent = ((x >> 23) & 255) - 127;
    const [sign, mantissa] = [(x >>> 16) & 0x8000, x & 0x7fffff];
    if (exponent < -14) return sign | Math.round(((mantissa | 0x800000) / 2 ** 23) * 2 ** (exponent + 24));
    return sign | ((exponent + 15) << 10) | (mantissa >> 13);
  };
  const short = (x: number): number => (type === GGML_TYPE.BF16 ? x >>> 16 : half(x));
  return new Uint8Array(Uint16Array.from(bits, x => ((x & 0x7fffffff) === 0 ? 0 : short(x))).buffer);
}

/** The file of these pairs. */
export function adapterFile(
  { architecture, alpha, type = GGML_TYPE.F32, meta = {} }: Omit<AdapterSpec, 'matrices' | 'rank' | 'size'>,
  pairs: readonly Pair[],
): Uint8Array {
  const keys: Readonly<Record<string, MetaInput>> = {
    'general.architecture': { string: architecture },
    'general.type': { string: 'adapter' },
    'adapter.type': { string: 'lora' },
    'adapter.lora.alpha': { f32: alpha },
    ...meta,
  };
  const tensors = pairs.flatMap(({ name, k, rows, rank, a, b }): TensorInput[] => [
    { name: `${name}.lora_a`, type, shape: [k, rank], data: encode(type, a) },
    { name: `${name}.lora_b`, type, shape: [rank, rows], data: encode(type, b) },
  ]);
  return writeGguf(keys, tensors);
}

/** Random factors, none of them 0 throughout. */
export function randomAdapter(spec: AdapterSpec, next: () => number): Adapter {
  const { matrices, rank, size } = spec;
  const pairs = matrices.map(({ name, k, rows }): Pair => {
    return { name, k, rows, rank, a: factor(rank * k, size, next), b: factor(rows * rank, size, next) };
  });
  return { spec, pairs, file: adapterFile(spec, pairs) };
}
