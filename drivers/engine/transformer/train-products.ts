// Products of a training plan, forwards and backwards: with the dequantised matrix, its bias and its low-rank pair, on values and on their
// tangents; or as inference computes them, on quantised activations. A product that would take long is cut into records of so many rows: a
// record is what nothing preempts.

import { GGML_BLOCK, ggmlTypeName } from '../../../kernel/abi/index.ts';
import type { TrainChoice, TrainTensor } from '../../../kernel/abi/index.ts';
import { GROUP, Op, TYPE_F32 } from '../ops.ts';
import type { Place, PlanSink } from '../plan.ts';
import { actKind } from '../sizes.ts';
import { queryLength } from './architecture.ts';
import type { PlacedModel } from './compile.ts';
import type { Dual, TrainLayout } from './train-layout.ts';
import type { Parameters } from './train-parameters.ts';

/** Multiply-adds of one record, at most, where four rows of the matrix take no more. */
const PRODUCT_MOST = 1 << 22;
/** Scores of one record of attention times the values behind them, of all heads; a positions' row at least. */
const ATTENTION_MOST = 1 << 20;
/** Rows of a head are taken for so many wherever products are cut: what is summed in which order does not depend on picks. */
const HEAD_ROWS = 32;

/** Values from one of them on. */
export const shifted = <P extends Place>(place: P, values: number): P => ({ ...place, at: place.at + 4 * values });
export const shiftedDual = (d: Dual, values: number): Dual => ({
  ...shifted(d, values),
  tangent: d.tangent === null ? null : shifted(d.tangent, values),
});
/** The values alone. */
export const still = (d: Dual): Dual => ({ ...d, tangent: null });

/** A matrix or vector of the model where the plan reads it: among the weights, or its copy in the parameter vector. */
export interface Weight extends Place {
  readonly type: number;
  readonly k: number;
  readonly rows: number;
}

export interface TrainParts {
  readonly model: PlacedModel;
  readonly choice: TrainChoice;
  readonly parameters: Parameters;
  readonly layout: TrainLayout;
  readonly frequencies: Place;
  readonly block: Place; // TrainBlock
  readonly targets: Place; // u32[ctx]
}

/** A product's result: rows of `stride` values. */
export interface Into {
  readonly name: string; // of the product: blk.0.attn_q
  readonly dst: Dual;
  readonly stride: number;
}

export interface ProductOptions {
  readonly add?: boolean;
  readonly head?: boolean;
}

export class Products {
  readonly layout: TrainLayout;

  constructor(
    readonly parts: TrainParts,
    readonly sink: PlanSink,
  ) {
    this.layout = parts.layout;
  }

  weight(name: string): Weight | undefined {
    const copy = this.parts.parameters.copies.get(name);
    if (copy === undefined) return this.parts.model.tensors.get(name);
    return { ...this.trained(copy, this.layout.working), name };
  }

  /** Positions of a sequence in stretches of about the same work for attention, later ones having more before them. */
  stretches(): { readonly from: number; readonly until: number }[] {
    const { choice, model } = this.parts;
    const { ctx } = choice;
    const count = Math.min(ctx, Math.ceil((ctx * (ctx + 1) * queryLength(model.h)) / 2 / ATTENTION_MOST));
    const ends = Array.from({ length: count + 1 }, (_, i) => Math.round(ctx * Math.sqrt(i / count)));
    return ends
      .slice(1)
      .map((until, i) => ({ from: ends[i]!, until }))
      .filter(({ from, until }) => from < until);
  }

  /** The gradient of a copied tensor; 0 where it is not trained. */
  gradient(name: string): Place | 0 {
    const copy = this.parts.parameters.copies.get(name);
    return copy === undefined ? 0 : { name: `gradient of ${name}`, at: this.layout.gradients.at + 4 * copy.from };
  }

  /** The matrix of a product; of the output the embeddings, where the model has no other. */
  matrixOf(product: string): Weight {
    const w = this.weight(`${product}.weight`);
    return w ?? this.weight('token_embd.weight')!;
  }

  /** dst (+)= W · src + bias + pair, for src f32[…][k]. */
  product(src: Dual, k: number, { name, dst, stride }: Into, options: ProductOptions = {}): void {
    const w = this.matrixOf(name);
    const bias = this.weight(`${name}.bias`);
    this.times(w, src, k, dst, { ...options, bias, stride });
    if (dst.tangent !== null && src.tangent !== null)
      this.times(w, src.tangent, k, dst.tangent, { ...options, stride });
    this.addPair(name, src, k, dst, stride);
  }

  /** Of a product that is computed again only what its gradients need: A · src. */
  middle(name: string, src: Dual, k: number): void {
    const pair = this.parts.parameters.pairs.get(name);
    if (pair === undefined) return;
    this.times(this.trained(pair.a, this.layout.working), src, k, this.midOf(name), { stride: this.parts.choice.rank });
  }

  /** The same of several products on one source as inference has them: activations quantised, once for those of the same kind that follow each other. */
  quantised(src: Dual, k: number, act: Place, into: readonly Into[], options: ProductOptions = {}): void {
    const { add = false, head = false } = options;
    let kept = 'f32';
    for (const { name, dst, stride } of into) {
      const w = this.matrixOf(name);
      const kind = actKind(w.type);
      if (kind !== 'f32' && kind !== kept) {
        this.sink.emit(Op.QUANTIZE, { actAt: act, k, srcAt: src, weightType: w.type }, { head });
        kept = kind;
      }
      const bias = this.weight(`${name}.bias`);
      for (const { row, rows } of this.quantisedPieces(w, head))
        this.sink.emit(
          Op.MUL_MAT,
          {
            dstAt: shifted(dst, row),
            rows,
            k,
            weightsAt: rowOf(w, row),
            weightType: w.type,
            actAt: kind === 'f32' ? src : act,
            biasAt: bias === undefined ? 0 : shifted(bias, row),
            dstStride: stride,
          },
          { add, head },
        );
      this.addPair(name, still(src), k, still(dst), stride);
    }
  }

  /**
   * From the gradient of a product's result, `dy` f32[…][stride], to that of its source, dx (+)=, unless that is null; and to those of
   * what is trained of it.
   */
  back(
    name: string,
    dy: Place,
    stride: number,
    x: Dual,
    k: number,
    dx: Place | null,
    options: ProductOptions = {},
  ): void {
    const w = this.matrixOf(name);
    if (dx !== null) this.timesBack(w, dy, stride, dx, 1, options);
    const { head = false } = options;
    const gradient = this.gradient(w.name);
    if (gradient !== 0) this.outer(gradient, w.rows, k, dy, stride, x, 1, head);
    const bias = this.gradient(`${name}.bias`);
    if (bias !== 0) this.sink.emit(Op.COLUMN_SUM, { dstAt: bias, n: w.rows, srcAt: dy, srcStride: stride }, { head });
    this.pairBack(name, dy, stride, x, k, dx);
  }

  // ── Pairs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** dst += times · B · (A · src); of tangents each factor's in turn. */
  private addPair(name: string, src: Dual, k: number, dst: Dual, stride: number): void {
    const pair = this.parts.parameters.pairs.get(name);
    if (pair === undefined) return;
    const { working, tangents } = this.layout;
    const { rank } = this.parts.choice;
    const mid = this.midOf(name);
    const [a, b] = [this.trained(pair.a, working), this.trained(pair.b, working)];
    const grown = { add: true, times: this.scale, stride };
    this.middle(name, src, k);
    this.times(b, mid, rank, dst, grown);
    if (tangents === null || src.tangent === null || dst.tangent === null || mid.tangent === null) return;
    this.times(a, src.tangent, k, mid.tangent, { stride: rank });
    this.times(this.trained(pair.a, tangents), src, k, mid.tangent, { stride: rank, add: true });
    this.times(b, mid.tangent, rank, dst.tangent, grown);
    this.times(this.trained(pair.b, tangents), mid, rank, dst.tangent, grown);
  }

  private pairBack(name: string, dy: Place, stride: number, x: Dual, k: number, dx: Place | null): void {
    const pair = this.parts.parameters.pairs.get(name);
    if (pair === undefined) return;
    const { working, gradients, backward } = this.layout;
    const { rank } = this.parts.choice;
    const gradMid = backward!.mid;
    const [a, b] = [this.trained(pair.a, working), this.trained(pair.b, working)];
    this.outer(this.trained(pair.b, gradients), b.rows, rank, dy, stride, this.midOf(name), this.scale, false);
    this.timesBack(b, dy, stride, gradMid, this.scale, {});
    this.outer(this.trained(pair.a, gradients), rank, k, gradMid, rank, x, 1, false);
    if (dx !== null) this.timesBack(a, gradMid, rank, dx, 1, { add: true });
  }

  private midOf(name: string): Dual {
    const [, layer = '', matrix = ''] = /^blk\.(\d+)\.(.*)$/.exec(name) ?? [];
    return this.layout.layers[Number(layer)]!.mids.get(matrix)!;
  }

  private trained({ name, columns, rows, from }: TrainTensor, vector: Place): Weight {
    const at = vector.at + 4 * from;
    return { name: `${vector.name} ${name}`, at, isNear: true, type: TYPE_F32, k: columns, rows };
  }

  private get scale(): number {
    const { alpha, rank } = this.parts.choice;
    return alpha / rank;
  }

  // ── Records ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private times(
    w: Weight,
    src: Place,
    k: number,
    dst: Place,
    {
      stride,
      bias,
      times = 1,
      add = false,
      head = false,
    }: ProductOptions & { readonly stride: number; readonly bias?: Place | undefined; readonly times?: number },
  ): void {
    for (const { row, rows } of this.pieces(w.rows, k, head))
      this.sink.emit(
        Op.FLOAT_MUL_MAT,
        {
          dstAt: shifted(dst, row),
          rows,
          k,
          weightsAt: rowOf(w, row),
          weightType: w.type,
          srcAt: src,
          biasAt: bias === undefined ? 0 : shifted(bias, row),
          dstStride: stride,
          srcStride: k,
          rowAt: this.layout.row,
          times: { f32: times },
        },
        { add, head },
      );
  }

  /** dx (+)= times · Wᵀ · dy, in the order of W's rows. */
  private timesBack(
    w: Weight,
    dy: Place,
    stride: number,
    dx: Place,
    times: number,
    { add = false, head = false }: ProductOptions,
  ): void {
    for (const { row, rows } of this.pieces(w.rows, w.k, head))
      this.sink.emit(
        Op.FLOAT_MUL_MAT_BACK,
        {
          dstAt: dx,
          rows,
          k: w.k,
          weightsAt: rowOf(w, row),
          weightType: w.type,
          srcAt: shifted(dy, row),
          biasAt: 0,
          dstStride: w.k,
          srcStride: stride,
          rowAt: this.layout.row,
          times: { f32: times },
        },
        { add: add || row > 0, head },
      );
  }

  /** The gradient of a matrix f32[rows][k] += times · dyᵀ · x. */
  private outer(
    dst: Place,
    rows: number,
    k: number,
    dy: Place,
    stride: number,
    x: Place,
    times: number,
    head: boolean,
  ): void {
    for (const piece of this.pieces(rows, k, head))
      this.sink.emit(
        Op.OUTER,
        {
          dstAt: shifted(dst, piece.row * k),
          rows: piece.rows,
          k,
          srcAt: shifted(dy, piece.row),
          xAt: x,
          srcStride: stride,
          xStride: k,
          times: { f32: times },
        },
        { head },
      );
  }

  /** Rows of a matrix as records take them: whole groups, as even as may be, so that most share their prices. */
  private pieces(rows: number, k: number, head: boolean): Stretch[] {
    return cut(rows, PRODUCT_MOST / (k * this.tokens(head)), GROUP);
  }

  /**
   * Of products on quantised activations: kernels choose the order of additions by whether a matrix has a multiple of two groups of rows, so
   * that no piece must differ from it there.
   */
  private quantisedPieces({ rows, k }: Weight, head: boolean): Stretch[] {
    if (rows % (2 * GROUP) !== 0) return [{ row: 0, rows }];
    return cut(rows, PRODUCT_MOST / (k * this.tokens(head)), 2 * GROUP);
  }

  private tokens(head: boolean): number {
    return head ? HEAD_ROWS : this.parts.choice.ctx;
  }
}

interface Stretch {
  readonly row: number;
  readonly rows: number;
}

/** Multiples of `group` up to `most`, one at least, the last taking the rest. */
function cut(rows: number, most: number, group: number): Stretch[] {
  const groups = Math.ceil(rows / group);
  const count = Math.ceil(groups / Math.max(1, Math.floor(most / group)));
  const each = Math.ceil(groups / count) * group;
  const stretches: Stretch[] = [];
  for (let row = 0; row < rows; row += each) stretches.push({ row, rows: Math.min(each, rows - row) });
  return stretches;
}

/** A matrix from one of its rows on: the first, or the first of a group. */
function rowOf(w: Weight, row: number): Place {
  const [values, bytes] = GGML_BLOCK[ggmlTypeName(w.type)!];
  return { ...w, at: w.at + row * (w.k / values) * bytes };
}
