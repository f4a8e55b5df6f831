// What is trained: the tensors of the parameter vector, one behind the other without gaps, in the order of the program's layers. Of low-rank
// adaptation (Hu et al. 2021) a pair A, B for each target matrix; of full training every tensor of the model. First values of A come from the
// specification's generator (SIS §15), B is zero, so that the first function is the model's own.

import { GGML_TYPE, ggmlTypeName, LIMITS, refuse, TRAIN_TARGETS } from '../../../kernel/abi/index.ts';
import type { Refusal, TrainChoice, TrainTarget, TrainTensor } from '../../../kernel/abi/index.ts';
import type { BoundTensor } from './architecture.ts';
import type { Model } from './compile.ts';

/** The matrix of a layer that a target means. */
const MATRIX: Readonly<Record<TrainTarget, string>> = {
  q: 'attn_q',
  k: 'attn_k',
  v: 'attn_v',
  o: 'attn_output',
  gate: 'ffn_gate',
  up: 'ffn_up',
  down: 'ffn_down',
  qkv: 'attn_qkv',
};

/** How a model is that has no such matrix. */
const TOGETHER = 'keeps queries, keys and values in one matrix';
const WITHOUT: Readonly<Partial<Record<TrainTarget, string>>> = {
  q: TOGETHER,
  k: TOGETHER,
  v: TOGETHER,
  qkv: 'keeps queries, keys and values apart',
};

/** Not a weight: divisors of angles. */
const CONSTANT = 'rope_freqs.weight';

/** B · A beside a matrix: A f32[rank][k], B f32[rows][rank]. */
export interface Pair {
  readonly a: TrainTensor;
  readonly b: TrainTensor;
}

export interface Parameters {
  readonly tensors: readonly TrainTensor[];
  readonly count: number; // values
  /** By the name of the product, blk.0.attn_q; none of full. */
  readonly pairs: ReadonlyMap<string, Pair>;
  /** By the standard name of the tensor that each is a copy of; of full only. */
  readonly copies: ReadonlyMap<string, TrainTensor>;
}

/** Lays the parameter vector out; a refusal where the model has no such matrix, or a type that full training does not change. */
export function parametersOf(model: Model<BoundTensor>, choice: TrainChoice): Parameters | Refusal {
  return choice.method === 'full' ? allOf(model) : pairsOf(model, choice);
}

class Vector {
  readonly tensors: TrainTensor[] = [];
  count = 0;

  take(name: string, columns: number, rows: number): TrainTensor {
    const tensor = { name, columns, rows, from: this.count };
    this.tensors.push(tensor);
    this.count += columns * rows;
    return tensor;
  }
}

function allOf({ tensors }: Model<BoundTensor>): Parameters | Refusal {
  const vector = new Vector();
  const copies = new Map<string, TrainTensor>();
  for (const t of tensors.values()) {
    if (t.name === CONSTANT) continue;
    if (t.type !== GGML_TYPE.F32)
      return refuse(
        'NOTSUP',
        7001,
        `full training is of F32 models: ${t.info.name} is ${ggmlTypeName(t.type)}; convert the file to F32, or use method lora`,
      );
    copies.set(t.name, vector.take(t.info.name, t.k, t.rows));
  }
  return { tensors: vector.tensors, count: vector.count, pairs: new Map(), copies };
}

function pairsOf(model: Model<BoundTensor>, { targets, rank }: TrainChoice): Parameters | Refusal {
  const refusal = checkTargets(model, targets) ?? checkRank(rank);
  if (refusal !== null) return refusal;
  const vector = new Vector();
  const pairs = new Map<string, Pair>();
  for (let layer = 0; layer < model.h.layers; layer++)
    for (const target of TRAIN_TARGETS) {
      const name = `blk.${layer}.${MATRIX[target]}`;
      const w = model.tensors.get(`${name}.weight`);
      if (w === undefined || !targets.includes(target)) continue;
      const a = vector.take(`${w.info.name}.lora_a`, w.k, rank);
      pairs.set(name, { a, b: vector.take(`${w.info.name}.lora_b`, rank, w.rows) });
    }
  return { tensors: vector.tensors, count: vector.count, pairs, copies: new Map() };
}

/** Targets that some layer of the model has. */
function targetsOf({ h, tensors }: Model<BoundTensor>): readonly TrainTarget[] {
  const layers = Array.from({ length: h.layers }, (_, layer) => layer);
  return TRAIN_TARGETS.filter(t => layers.some(layer => tensors.has(`blk.${layer}.${MATRIX[t]}.weight`)));
}

function checkTargets(model: Model<BoundTensor>, targets: readonly TrainTarget[]): Refusal | null {
  const known = targetsOf(model);
  const has = `has ${known.join(', ')}`;
  if (targets.length === 0) return refuse('INVAL', 7001, `no target to train; the model ${has}`);
  const missing = targets.find(t => !known.includes(t));
  if (missing === undefined) return null;
  return refuse('INVAL', 7001, `target ${missing}: this model ${WITHOUT[missing] ?? 'has none'}; it ${has}`);
}

function checkRank(rank: number): Refusal | null {
  if (Number.isInteger(rank) && rank >= 1 && rank <= LIMITS.rankMax) return null;
  return refuse('INVAL', 7001, `rank ${rank} is outside 1…${LIMITS.rankMax}`);
}

/** The specification's generator: x ← 1103515245 x + 12345 mod 2³², whose bits 16 … 30 make values of −0.005 … 0.005. */
export class FirstValues {
  private state: number;

  constructor(seed: number) {
    this.state = seed | 0;
  }

  next(): number {
    this.state = (Math.imul(this.state, 1103515245) + 12345) | 0;
    return (((this.state >>> 16) & 0x7fff) / 0x8000 - 0.5) * 0.01;
  }
}
