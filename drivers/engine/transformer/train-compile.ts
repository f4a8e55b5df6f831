// The training plan of a transformer, once for every architecture and method. forward: one sequence from position 0; loss: rows of logits,
// cross-entropy, and what the method wants of it; backward: gradients of what is trained; forwardQuantised: what inference would compute. Then
// ops over vectors of parameters, cut into records that are not long: directions of the forward-only methods, norms, the optimizer's step.

import { TrainBlock } from '../../../kernel/abi/index.ts';
import type { TrainSegment } from '../../../kernel/abi/index.ts';
import { Op } from '../ops.ts';
import type { Place, PlanSink } from '../plan.ts';
import { TrainBackward } from './train-backward.ts';
import { TrainForward } from './train-forward.ts';
import { Products, shifted } from './train-products.ts';
import type { TrainParts } from './train-products.ts';

export type TrainSegments = Readonly<Record<TrainSegment, number>>;

/** Values of one record over vectors of parameters, at most; and of one that draws normals. */
const VECTOR_MOST = 1 << 17;
const NORMALS_MOST = 1 << 14;

/** Emits the whole plan. */
export function compileTraining(parts: TrainParts, sink: PlanSink): TrainSegments {
  return new TrainCompiler(parts, sink).compile();
}

class TrainCompiler {
  private readonly forward: TrainForward;
  private readonly inference: TrainForward;
  private readonly backward: TrainBackward | null;

  constructor(
    private readonly parts: TrainParts,
    private readonly sink: PlanSink,
  ) {
    const products = new Products(parts, sink);
    this.forward = new TrainForward(products, 'float');
    this.inference = new TrainForward(products, 'quantised');
    const { backward } = parts.layout;
    this.backward = backward === null ? null : new TrainBackward(products, this.forward, backward);
  }

  compile(): TrainSegments {
    const { backward, forward, inference } = this;
    const draws = backward === null; // gradients come of directions
    return {
      forward: this.segment('forward', () => {
        forward.body();
        backward?.begin();
      }),
      loss: this.segment('loss', () => this.loss()),
      backward: backward === null ? 0 : this.segment('backward', () => backward.body()),
      forwardQuantised: this.segment('forwardQuantised', () => inference.body()),
      score: this.segment('score', () => this.score(forward)),
      scoreQuantised: this.segment('scoreQuantised', () => this.score(inference)),
      zero: this.segment('zero', () => this.zero()),
      perturb: draws ? this.segment('perturb', () => this.perturb()) : 0,
      gather: draws ? this.segment('gather', () => this.gather()) : 0,
      measure: this.segment('measure', () => this.measure()),
      update: this.segment('update', () => this.update()),
      check: this.segment('check', () => this.check()),
      undo: this.segment('undo', () => this.undo()),
    };
  }

  private segment(name: TrainSegment, emit: () => void): number {
    const at = this.sink.segment(name);
    emit();
    this.sink.emit(Op.END, {});
    return at;
  }

  private loss(): void {
    if (this.backward !== null) return this.backward.loss();
    this.forward.head();
    const isDual = this.parts.layout.tangents !== null;
    this.forward.crossEntropy(isDual ? Op.CROSS_ENTROPY_JVP : Op.CROSS_ENTROPY);
  }

  private score(of: TrainForward): void {
    of.head();
    of.crossEntropy(Op.CROSS_ENTROPY);
  }

  // ── Vectors ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private zero(): void {
    const { gradients } = this.parts.layout;
    for (const { from, n } of this.pieces(VECTOR_MOST))
      this.sink.emit(Op.FILL, { dstAt: shifted(gradients, from), n, value: { f32: 0 } }, { once: true });
  }

  /** Of fmea the tangent of the parameters; of nes parameters beside them. */
  private perturb(): void {
    const { block, layout } = this.parts;
    const { parameters, working, tangents } = layout;
    for (const { from, n } of this.pieces(NORMALS_MOST)) {
      const dstAt = shifted(tangents ?? working, from);
      const srcAt = tangents === null ? shifted(parameters, from) : 0;
      this.sink.emit(Op.PERTURB, { dstAt, n, srcAt, blockAt: block, from }, { once: true });
    }
  }

  private gather(): void {
    const { block, layout } = this.parts;
    for (const { from, n } of this.pieces(NORMALS_MOST)) {
      const dstAt = shifted(layout.gradients, from);
      this.sink.emit(Op.ACCUMULATE, { dstAt, n, srcAt: 0, blockAt: block, from }, { once: true });
    }
  }

  private measure(): void {
    const { gradients, parameters, anchor } = this.parts.layout;
    this.squares(gradients, null, TrainBlock.at.squares);
    if (anchor !== null) this.squares(parameters, anchor, TrainBlock.at.distance);
  }

  private squares(of: Place, anchor: Place | null, sumAt: number): void {
    for (const { from, n } of this.pieces(VECTOR_MOST)) {
      const anchorAt = anchor === null ? 0 : shifted(anchor, from);
      const operands = { srcAt: shifted(of, from), n, anchorAt, blockAt: this.parts.block, sumAt };
      this.sink.emit(Op.SQUARES, operands, { once: true });
    }
  }

  private update(): void {
    const { block, choice, layout } = this.parts;
    const { parameters, gradients, first, second, anchor } = layout;
    for (const { from, n } of this.pieces(VECTOR_MOST)) {
      const operands = {
        dstAt: shifted(parameters, from),
        n,
        gradAt: shifted(gradients, from),
        firstAt: shifted(first, from),
        secondAt: second === null ? 0 : shifted(second, from),
        anchorAt: anchor === null ? 0 : shifted(anchor, from),
        blockAt: block,
      };
      this.sink.emit(choice.optimizer === 'adam' ? Op.ADAM : Op.SGD, operands, { once: true });
    }
  }

  /** Of what an update has left. */
  private check(): void {
    const { parameters, anchor } = this.parts.layout;
    this.squares(parameters, null, TrainBlock.at.squares);
    if (anchor !== null) this.squares(parameters, anchor, TrainBlock.at.distance);
  }

  /** An update leaves what parameters were where gradients are. */
  private undo(): void {
    const { gradients, parameters } = this.parts.layout;
    for (const { from, n } of this.pieces(VECTOR_MOST))
      this.sink.emit(Op.COPY, { dstAt: shifted(parameters, from), n, srcAt: shifted(gradients, from) }, { once: true });
  }

  private *pieces(most: number): Generator<{ readonly from: number; readonly n: number }> {
    const { count } = this.parts.parameters;
    for (let from = 0; from < count; from += most) yield { from, n: Math.min(most, count - from) };
  }
}
