// The transformer's forward pass in plain f64 numbers, one token at a time: what the engine must agree with where no llama.cpp file
// exists. Activations are rounded as CONTRACT says for each weight type; everything else is exact to f64.

import { GGML_TYPE, ggmlTypeName } from '../../kernel/abi/index.ts';
import { encode } from './encode.ts';
import { dequantize } from './kernels.ts';
import { FORMS, roundBf16, roundF16 } from './models.ts';
import type { RandomModel, Weight } from './models.ts';

type Vector = Float64Array;

/** Activations as a product with this weight type sees them; `sums` per block of 32, rounded apart as Q8_1 does (for Q4_1's minima). */
function rounded(x: Vector, type: number): { readonly values: Vector; readonly sums: Vector } {
  const none = new Float64Array(0);
  if (type === GGML_TYPE.F32) return { values: x, sums: none };
  if (type === GGML_TYPE.F16) return { values: x.map(roundF16), sums: none };
  if (type === GGML_TYPE.BF16) return { values: x.map(roundBf16), sums: none };
  const values = new Float64Array(x.length);
  const sums = new Float64Array(x.length / 32);
  for (let b = 0; b < x.length; b += 32) {
    let largest = 0;
    for (let i = 0; i < 32; i++) largest = Math.max(largest, Math.abs(x[b + i]!));
    const d = largest / 127;
    const scale = roundF16(d);
    let total = 0;
    for (let i = 0; i < 32; i++) {
      const y = d === 0 ? 0 : x[b + i]! / d;
      const q = Math.sign(y) * Math.floor(Math.abs(y) + 0.5);
      values[b + i] = q * scale;
      total += q;
    }
    sums[b / 32] = roundF16(total * d);
  }
  return { values, sums };
}

function norm(x: Vector, weight: Vector, bias: Vector | undefined, epsilon: number): Vector {
  const n = x.length;
  const mean = bias === undefined ? 0 : x.reduce((a, b) => a + b, 0) / n; // RMSNorm has no bias and subtracts no mean
  const square = x.reduce((a, b) => a + (b - mean) ** 2, 0) / n;
  const scale = 1 / Math.sqrt(square + epsilon);
  return x.map((v, i) => (v - mean) * scale * weight[i]! + (bias?.[i] ?? 0));
}

/** A low-rank pair beside a product: y += scale · B · (A · x); A [rank][k], B [rows][rank]. */
export interface ReferencePair {
  readonly a: Vector;
  readonly b: Vector;
  readonly rank: number;
  readonly scale: number;
}

const gelu = (x: number): number => 0.5 * x * (1 + Math.tanh(0.7978845608028654 * (x + 0.044715 * x ** 3)));
const silu = (x: number): number => x / (1 + Math.exp(-x));

export class Forward {
  private readonly keys: Vector[][]; // [layer][position]
  private readonly values: Vector[][];
  /** Of the last token: the residual stream before the first layer and behind each. */
  readonly residuals: Vector[] = [];
  /** Of the last token: what each head of each layer weighs the positions with. */
  readonly weights: number[][][] = [];

  constructor(
    private readonly model: RandomModel,
    private readonly kvType: number,
    /** Nothing is rounded: the float function of the dequantised weights. */
    private readonly isExact = false,
    /** By the name of the product. */
    private readonly pairs: ReadonlyMap<string, ReferencePair> = new Map(),
  ) {
    this.keys = Array.from({ length: model.config.layers }, () => []);
    this.values = Array.from({ length: model.config.layers }, () => []);
  }

  /** Logits after the token `id` at the next position. */
  next(id: number): Vector {
    const c = this.model.config;
    const position = this.keys[0]!.length;
    const form = FORMS[c.architecture];
    let x = this.row('token_embd.weight', id);
    if (form.scaled) x = x.map(v => v * Math.sqrt(c.embedding));
    if (c.learnedPositions) x = add(x, this.row('position_embd.weight', position));
    this.residuals.splice(0, Infinity, x);
    for (let layer = 0; layer < c.layers; layer++) {
      const b = `blk.${layer}.`;
      this.weights[layer] = [];
      const a = this.norm(`${b}attn_norm`, x);
      const beside = add(x, this.product(`${b}attn_output`, this.attention(layer, a, position)));
      x = add(beside, this.feedForward(b, form.parallel ? a : this.norm(`${b}ffn_norm`, beside)));
      this.residuals.push(x);
    }
    return this.said(x);
  }

  /** Logits of a residual stream. */
  said(x: Vector): Vector {
    const last = this.norm('output_norm', x);
    const logits = this.multiply(this.weight(this.model.config.tied ? 'token_embd.weight' : 'output.weight'), last);
    const bias = this.model.weights.get('output.bias');
    return bias === undefined ? logits : add(logits, bias.values);
  }

  private feedForward(b: string, f: Vector): Vector {
    const { act, gate } = FORMS[this.model.config.architecture];
    const activate = (v: number): number =>
      act === 'silu' ? silu(v) : act === 'gelu' || this.isExact ? gelu(v) : roundF16(gelu(roundF16(v)));
    const up = this.product(`${b}ffn_up`, f);
    if (!gate) return this.product(`${b}ffn_down`, up.map(activate));
    const gates = this.product(`${b}ffn_gate`, f);
    return this.product(
      `${b}ffn_down`,
      up.map((u, i) => activate(gates[i]!) * u),
    );
  }

  private attention(layer: number, a: Vector, position: number): Vector {
    const c = this.model.config;
    const query = c.heads * c.headSize;
    const kv = c.headsKv * c.headSize;
    const b = `blk.${layer}.`;
    let q: Vector;
    let k: Vector;
    let v: Vector;
    if (c.fusedQkv) {
      const qkv = this.product(`${b}attn_qkv`, a);
      q = qkv.slice(0, query);
      k = qkv.slice(query, query + kv);
      v = qkv.slice(query + kv);
    } else {
      q = this.product(`${b}attn_q`, a);
      k = this.product(`${b}attn_k`, a);
      v = this.product(`${b}attn_v`, a);
    }
    const form = FORMS[c.architecture];
    if (form.headNorms) {
      q = this.headNorm(`${b}attn_q_norm`, q);
      k = this.headNorm(`${b}attn_k_norm`, k);
    }
    if (form.rope !== null) {
      this.rotate(q, position);
      this.rotate(k, position);
    }
    // Two scale the queries before these are rounded for the cache's type, the others the scores.
    const early = c.architecture === 'gemma' || c.architecture === 'phi2';
    if (early) q = q.map(v => v / Math.sqrt(c.headSize));
    // Queries and probabilities are rounded for a cache of halves only, keys and values to what the cache can hold.
    const round = this.kvType === GGML_TYPE.F16 ? roundF16 : (x: number): number => x;
    q = q.map(round);
    this.keys[layer]!.push(this.kept(k));
    this.values[layer]!.push(this.kept(v));
    const out = new Float64Array(query);
    for (let h = 0; h < c.heads; h++) {
      const kvAt = Math.floor(h / (c.heads / c.headsKv)) * c.headSize;
      const scores = this.keys[layer]!.map(key => {
        let sum = 0;
        for (let i = 0; i < c.headSize; i++) sum += q[h * c.headSize + i]! * key[kvAt + i]!;
        return early ? sum : sum / Math.sqrt(c.headSize);
      });
      const largest = Math.max(...scores);
      const weights = scores.map(s => Math.exp(s - largest));
      const total = weights.reduce((x, y) => x + y, 0);
      this.weights[layer]!.push(weights.map(w => w / total));
      weights.forEach((w, p) => {
        for (let i = 0; i < c.headSize; i++)
          out[h * c.headSize + i]! += round(w / total) * this.values[layer]![p]![kvAt + i]!;
      });
    }
    return out;
  }

  /** A row of keys or values as it comes back from the cache; F32 is as good as f64 here. */
  private kept(x: Vector): Vector {
    if (this.kvType === GGML_TYPE.F32) return x;
    const stored = encode(ggmlTypeName(this.kvType)!, Float32Array.from(x));
    return Float64Array.from(dequantize(this.kvType, stored, 0, x.length));
  }

  private rotate(x: Vector, position: number): void {
    const { architecture, headSize, ropeDimensions, ropeBase, ropeFactors, ropeScaling } = this.model.config;
    const pairs = ropeDimensions / 2;
    const adjacent = FORMS[architecture].rope === 'adjacent';
    for (let head = 0; head < x.length; head += headSize)
      for (let i = 0; i < pairs; i++) {
        const full = (position * ropeBase ** (-i / pairs)) / (ropeFactors?.[i] ?? 1);
        const share = ropeScaling?.type === 'yarn' ? this.yarnShare(ropeScaling.contextFirst, i) : 0;
        const angle = ((1 - share) * full) / (ropeScaling?.factor ?? 1) + share * full;
        const grown = ropeScaling?.type === 'yarn' ? this.yarnGrowth(ropeScaling.factor) : 1;
        const size = grown * (ropeScaling?.amplitude ?? 1);
        const [at, other] = adjacent ? [head + 2 * i, head + 2 * i + 1] : [head + i, head + pairs + i];
        const [u, v] = [x[at]!, x[other]!];
        x[at] = size * (u * Math.cos(angle) - v * Math.sin(angle));
        x[other] = size * (u * Math.sin(angle) + v * Math.cos(angle));
      }
  }

  /** YaRN (arXiv 2309.00071) with β 32 and 1: 1 for pairs that turn often in the first context, 0 for those that do not turn once. */
  private yarnShare(context: number, pair: number): number {
    const { ropeDimensions, ropeBase } = this.model.config;
    const turning = (turns: number): number =>
      (ropeDimensions * Math.log(context / (turns * 2 * Math.PI))) / (2 * Math.log(ropeBase));
    const low = Math.max(0, Math.floor(turning(32)));
    const high = Math.min(ropeDimensions - 1, Math.ceil(turning(1)));
    return 1 - Math.min(1, Math.max(0, (pair - low) / Math.max(0.001, high - low)));
  }

  /** 1 + ln(factor) / 10; llama.cpp's way to it leaves a factor below 1 with 1. */
  private yarnGrowth(factor: number): number {
    return factor <= 1 ? 1 : 1 + 0.1 * Math.log(factor);
  }

  private headNorm(name: string, x: Vector): Vector {
    const { headSize, epsilon } = this.model.config;
    const out = new Float64Array(x.length);
    for (let at = 0; at < x.length; at += headSize)
      out.set(norm(x.slice(at, at + headSize), this.weight(`${name}.weight`).values, undefined, epsilon), at);
    return out;
  }

  private norm(name: string, x: Vector): Vector {
    return norm(
      x,
      this.weight(`${name}.weight`).values,
      this.model.weights.get(`${name}.bias`)?.values,
      this.model.config.epsilon,
    );
  }

  private product(name: string, x: Vector): Vector {
    const y = this.multiply(this.weight(`${name}.weight`), x);
    const bias = this.model.weights.get(`${name}.bias`);
    const pair = this.pairs.get(name);
    if (pair !== undefined) addPair(y, pair, x);
    return bias === undefined ? y : add(y, bias.values);
  }

  private multiply(w: Weight, x: Vector): Vector {
    const y = new Float64Array(w.rows);
    if (this.isExact) {
      for (let r = 0; r < w.rows; r++) for (let i = 0; i < w.k; i++) y[r]! += w.values[r * w.k + i]! * x[i]!;
      return y;
    }
    const act = rounded(x, w.type);
    for (let r = 0; r < (w.index?.length ?? w.rows); r++) {
      let sum = 0;
      for (let i = 0; i < w.k; i++) sum += (w.values[r * w.k + i]! - this.minimum(w, r, i)) * act.values[i]!;
      if (w.minima !== null) for (let b = 0; b < act.sums.length; b++) sum += this.minimum(w, r, 32 * b) * act.sums[b]!;
      y[w.index?.[r] ?? r] = sum;
    }
    return y;
  }

  private minimum(w: Weight, row: number, i: number): number {
    return w.minima === null ? 0 : w.minima[(row * w.k + i) >> 5]!;
  }

  private row(name: string, index: number): Vector {
    const w = this.weight(name);
    const at = w.index === undefined ? index : w.index.indexOf(index);
    return at < 0 ? new Float64Array(w.k) : w.values.slice(at * w.k, (at + 1) * w.k);
  }

  private weight(name: string): Weight {
    return this.model.weights.get(name)!;
  }
}

function add(a: Vector, b: Vector): Vector {
  return a.map((x, i) => x + b[i]!);
}

function addPair(y: Vector, { a, b, rank, scale }: ReferencePair, x: Vector): void {
  for (let j = 0; j < rank; j++) {
    let mid = 0;
    for (let i = 0; i < x.length; i++) mid += a[j * x.length + i]! * x[i]!;
    for (let r = 0; r < y.length; r++) y[r]! += scale * b[r * rank + j]! * mid;
  }
}
