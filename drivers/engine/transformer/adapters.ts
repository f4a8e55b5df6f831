// Low-rank adapters beside a model's weights (LoRA, Hu et al. 2021): what a GGUF adapter file says, in llama.cpp's names, checked against the
// model that it is for, and where its factors lie in the adapters region. A pair changes one matrix: behind W · x comes scale · alpha / rank ·
// B · A · x. The weights themselves stay as they are. Factors are kept as f32; a file that is not computed exactly is refused by the tensor's name.

import { GGML_TYPE, ggmlTypeName, isRefusal, LIMITS, refuse, shown } from '../../../kernel/abi/index.ts';
import type { AdapterUse, Refusal, TensorInfo } from '../../../kernel/abi/index.ts';
import { Cursor } from '../memory.ts';
import type { BoundTensor } from './architecture.ts';
import type { PlacedTensor } from './compile.ts';

/** The factors that change a matrix of the model: A takes its argument to `rank` values, B those to its result. */
interface Factors<T extends BoundTensor> {
  readonly a: T; // [rank rows][k]
  readonly b: T; // [rows][rank values]
}

/** An adapter whose tensors have been found and fit the model. */
export interface BoundAdapter {
  readonly use: AdapterUse;
  /** What a pair is multiplied by beside its session's scale. */
  readonly timesOf: (rank: number) => number;
  /** By the standard name of the matrix that it changes. */
  readonly pairs: ReadonlyMap<string, Factors<BoundTensor>>;
}

/** A pair in the arena, of the adapter with that number among those that are applied. */
export interface PlacedPair extends Factors<PlacedTensor> {
  readonly adapter: number;
  readonly times: number;
}

/** Types that factors may have in the file. */
const TYPES: readonly number[] = [GGML_TYPE.F32, GGML_TYPE.F16, GGML_TYPE.BF16];
/** Matrices that a pair may change, by their names in a block. */
const CHANGED = /^blk\.\d+\.(attn_(q|k|v|qkv|output)|ffn_(gate|up|down))\.weight$/;
const HALVES = /^(.*)\.lora_([ab])$/s;

/** Checks adapters against the model whose tensors these are, by standard name. A refusal names file and tensor. */
export function bindAdapters(
  adapters: readonly AdapterUse[],
  architecture: string,
  tensors: ReadonlyMap<string, BoundTensor>,
): readonly BoundAdapter[] | Refusal {
  const byFileName = new Map([...tensors.values()].map(t => [t.info.name, t]));
  const bound: BoundAdapter[] = [];
  for (const use of adapters) {
    const adapter = checkHeader(use, architecture) ?? bindAdapter(use, byFileName);
    if (isRefusal(adapter)) return { ...adapter, message: `${use.path}: ${adapter.message}` };
    bound.push(adapter);
  }
  return bound;
}

/** Whether the file is an adapter of a kind that is computed, for a model of this architecture. */
function checkHeader({ image }: AdapterUse, architecture: string): Refusal | null {
  const wanted = { 'general.type': 'adapter', 'adapter.type': 'lora', 'general.architecture': architecture };
  for (const [key, value] of Object.entries(wanted)) {
    const found = image.meta(key);
    if (found === value) continue;
    const is = typeof found === 'string' ? shown(found) : found === undefined ? 'missing' : 'no text';
    return refuse('NOEXEC', 6002, `metadata ${key} is ${is}, ${value} is needed`);
  }
  const activated = image.keys.find(key => key.startsWith('adapter.alora.'));
  if (activated === undefined) return null;
  return refuse('NOTSUP', 6002, `metadata ${activated}: adapters that begin at certain tokens are not computed`);
}

function bindAdapter(use: AdapterUse, tensors: ReadonlyMap<string, BoundTensor>): BoundAdapter | Refusal {
  const { image } = use;
  const alpha = image.meta('adapter.lora.alpha') ?? 0; // without it a pair counts as it is, as with llama.cpp
  if (typeof alpha !== 'number' || !Number.isFinite(alpha))
    return refuse('NOEXEC', 6002, 'metadata adapter.lora.alpha is no finite number');
  const pairs = new Map<string, Factors<BoundTensor>>();
  for (const info of image.tensors) {
    const [, base = '', half = ''] = HALVES.exec(info.name) ?? [];
    if (half === '')
      return refuse('NOTSUP', 6003, `tensor ${shown(info.name)} is no half of a pair: .lora_a or .lora_b`);
    const matrix = tensors.get(base);
    if (matrix === undefined) return refuse('NOEXEC', 6003, `tensor ${shown(info.name)}: the model has no such tensor`);
    if (!CHANGED.test(matrix.name))
      return refuse('NOTSUP', 6003, `tensor ${info.name}: pairs change matrices of blocks alone, not ${matrix.name}`);
    if (half === 'b' && image.tensor(`${base}.lora_a`) !== undefined) continue; // with the other half
    const pair = bindPair(matrix, image.tensor(`${base}.lora_a`), image.tensor(`${base}.lora_b`));
    if (isRefusal(pair)) return pair;
    pairs.set(matrix.name, pair);
  }
  if (pairs.size === 0) return refuse('NOEXEC', 6003, 'it has no tensors');
  return { use, pairs, timesOf: rank => (alpha === 0 ? 1 : Math.fround(alpha / rank)) };
}

function bindPair(matrix: BoundTensor, a?: TensorInfo, b?: TensorInfo): Factors<BoundTensor> | Refusal {
  const there = a ?? b!;
  if (a === undefined || b === undefined) {
    const missing = `${matrix.info.name}.lora_${a === undefined ? 'a' : 'b'}`;
    return refuse('NOEXEC', 6003, `tensor ${there.name}: its other half ${missing} is not there`);
  }
  const rank = a.shape[1] ?? 1;
  const needed = { a: [matrix.k, rank], b: [rank, matrix.rows] };
  for (const [info, shape] of [
    [a, needed.a],
    [b, needed.b],
  ] as const) {
    const [ne0, ne1 = 1, ...outer] = info.shape;
    if (ne0 !== shape[0] || ne1 !== shape[1] || outer.some(n => n !== 1))
      return refuse(
        'NOEXEC',
        1002,
        `tensor ${info.name} has shape ${info.shape.join('×')}, ${shape.join('×')} is needed`,
      );
    if (!TYPES.includes(info.type)) {
      const type = ggmlTypeName(info.type) ?? info.type;
      return refuse('NOTSUP', 1002, `tensor ${info.name} has type ${type}: F32, F16 or BF16 are read`);
    }
  }
  if (rank > LIMITS.rankMax)
    return refuse('NOTSUP', 1002, `tensor ${a.name} has rank ${rank}, ${LIMITS.rankMax} at most`);
  const factor = (info: TensorInfo, k: number, rows: number): BoundTensor => {
    return { name: info.name, info, type: GGML_TYPE.F32, k, rows };
  };
  return { a: factor(a, matrix.k, rank), b: factor(b, rank, matrix.rows) };
}

/** Gives every factor its place from `at` on, adapter after adapter in the files' order. */
export function placeAdapters(
  adapters: readonly BoundAdapter[],
  at: number,
): { readonly pairs: ReadonlyMap<string, readonly PlacedPair[]>; readonly bytes: number } {
  const cursor = new Cursor(at);
  const placed = new Map<string, PlacedPair[]>();
  adapters.forEach(({ use, pairs, timesOf }, adapter) => {
    const place = (t: BoundTensor): PlacedTensor => {
      const bytes = 4 * t.k * t.rows;
      return { ...t, ...cursor.take(`${use.name}:${t.name}`, bytes), bytes };
    };
    for (const [name, { a, b }] of pairs) {
      const all = placed.get(name) ?? [];
      all.push({ adapter, a: place(a), b: place(b), times: timesOf(a.rows) });
      placed.set(name, all);
    }
  });
  return { pairs: placed, bytes: cursor.bytes() };
}

/** The largest rank of all pairs; 0: there are none. */
export function rankMost(adapters: readonly BoundAdapter[]): number {
  let most = 0;
  for (const { pairs } of adapters) for (const { a } of pairs.values()) most = Math.max(most, a.rows);
  return most;
}
