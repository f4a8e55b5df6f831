// Functions whose gradients are known on paper, in a transformer's place: their plans are a few records, and the kernel trains them by the same code.

import { Op } from '../../drivers/engine/ops.ts';
import { Plan, type Place, type PlanSink } from '../../drivers/engine/plan.ts';
import {
  TRAIN_SEGMENTS,
  TrainBlock,
  type ArenaView,
  type Trainable,
  type TrainBudget,
  type TrainChoice,
  type TrainImage,
  type TrainPlace,
  type TrainProgram,
  type TrainSegment,
} from '../../kernel/abi/index.ts';

/** sphere: |θ − about|²; choice: −ln soft_max(θ)[target], the target being the batch's token. */
export type FunctionName = 'sphere' | 'choice';

const NONE = Object.fromEntries(TRAIN_SEGMENTS.map(name => [name, 0])) as Record<TrainSegment, number>;

/** A function as a training: of nes the sphere, of fmea the choice. Parameters, those that are perturbed or their tangents, and the centre lie behind each other. */
export class PlainFunction implements Trainable {
  readonly layers = 1;

  constructor(
    private readonly arena: ArenaView,
    private readonly of: FunctionName,
    private readonly first: readonly number[],
    private readonly about: readonly number[],
  ) {}

  private get vectorBytes(): number {
    return Math.ceil(this.first.length / 8) * 32;
  }

  count(): { matrices: number; parameters: number } {
    return { matrices: 1, parameters: this.first.length };
  }

  budget(choice: TrainChoice): TrainBudget {
    const vector = this.vectorBytes;
    const plan = this.planned(choice, { at: 0, blockAt: 0, targetsAt: 0 });
    const nothing = { anchor: 0, checkpoints: 0, activations: 0, head: 0 };
    return { parameters: 3 * vector, gradients: vector, moments: vector, ...nothing, plan: plan.endAt() - 5 * vector };
  }

  plan(choice: TrainChoice, place: TrainPlace): TrainImage {
    const planAt = place.at + 5 * this.vectorBytes;
    const { words, rows, stream: _, ...segments } = this.planned(choice, place).image(planAt);
    return { segments, words, rows, planAt, logitsAt: place.at };
  }

  load(choice: TrainChoice, place: TrainPlace): TrainProgram {
    const { at } = place;
    const { f32, u8 } = this.arena;
    const vector = this.vectorBytes;
    u8.fill(0, at, at + 5 * vector);
    f32.set(this.first, at >> 2);
    f32.set(this.about, (at + 2 * vector) >> 2);
    const { stream: _, ...segments } = this.planned(choice, place).load(this.arena);
    const parameters = this.first.length;
    return {
      segments,
      parameters,
      parametersAt: at,
      gradientsAt: at + 3 * vector,
      firstAt: at + 4 * vector,
      secondAt: 0,
      anchorAt: 0,
      tensors: [{ name: 'all', columns: parameters, rows: 1, from: 0 }],
      logitsAt: at,
    };
  }

  private planned({ ctx, picks }: TrainChoice, { at, blockAt, targetsAt }: TrainPlace): Plan<typeof NONE> {
    const vector = this.vectorBytes;
    const n = this.first.length;
    const place = (name: string, i: number): Place => ({ name, at: at + i * vector });
    const [theta, beside, about, gradients] = [
      place('θ', 0),
      place('beside', 1),
      place('about', 2),
      place('gradients', 3),
    ];
    const momentum = place('momentum', 4);
    const block = { name: 'block', at: blockAt };
    const isDual = this.of === 'choice';
    const emit = (sink: PlanSink): typeof NONE => {
      const segment = (name: string, work: () => void): number => {
        const opAt = sink.segment(name);
        work();
        sink.emit(Op.END, {});
        return opAt;
      };
      const once = { once: true };
      const squares = (srcAt: Place, anchorAt: Place | 0, sumAt: number): void =>
        sink.emit(Op.SQUARES, { srcAt, n, anchorAt, blockAt: block, sumAt }, once);
      const { squares: norm, loss } = TrainBlock.at;
      const logits = { at: theta, n, stride: n, targetsAt: { name: 'targets', at: targetsAt }, blockAt: block };
      return {
        ...NONE,
        forward: segment('forward', () => {}),
        loss: segment('loss', () => sink.emit(Op.CROSS_ENTROPY_JVP, { ...logits, tangentAt: beside }, { head: true })),
        score: segment('score', () => squares(beside, about, loss)),
        zero: segment('zero', () => sink.emit(Op.FILL, { dstAt: gradients, n, value: { f32: 0 } }, once)),
        perturb: segment('perturb', () =>
          sink.emit(Op.PERTURB, { dstAt: beside, n, srcAt: isDual ? 0 : theta, blockAt: block, from: 0 }, once),
        ),
        gather: segment('gather', () =>
          sink.emit(Op.ACCUMULATE, { dstAt: gradients, n, srcAt: 0, blockAt: block, from: 0 }, once),
        ),
        measure: segment('measure', () => squares(gradients, 0, norm)),
        update: segment('update', () => {
          const operands = { dstAt: theta, n, gradAt: gradients, firstAt: momentum, secondAt: 0, anchorAt: 0 };
          sink.emit(Op.SGD, { ...operands, blockAt: block }, once);
        }),
        check: segment('check', () => squares(theta, 0, norm)),
        undo: segment('undo', () => sink.emit(Op.COPY, { dstAt: theta, n, srcAt: gradients }, once)),
      };
    };
    return new Plan(emit, at + 5 * vector, { batch: ctx, picks, ctx });
  }
}
