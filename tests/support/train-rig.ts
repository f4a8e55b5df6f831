// A training plan without the kernel: the model in a rig, behind it a block, targets, rows and picks of training, and the train region between
// two stretches of canaries. Segments are run as the kernel does it: a forward pass, losses in groups of picks, a backward pass.

import {
  isRefusal,
  PickRecord,
  RowRecord,
  TRAIN_KEEP_ALL,
  TrainBlock,
  type Refusal,
  type RecordValue,
  type Trainable,
  type TrainBudget,
  type TrainChoice,
  type TrainImage,
  type TrainProgram,
  type TrainSegment,
} from '../../kernel/abi/index.ts';
import { accepted, type LoadedModel, type Rig } from '../harness.ts';

export const CHOICE: TrainChoice = {
  method: 'lora',
  targets: ['q', 'v'],
  rank: 2,
  alpha: 4,
  ctx: 8,
  optimizer: 'adam',
  anchored: false,
  checkpoint: TRAIN_KEEP_ALL,
  picks: 4,
  seed: 42,
};
export const NO_TARGET = 0xffffffff;
const CANARY = 0xa5;
const CANARY_BYTES = 4096;

/** The engine's training; a refusal is an error of the test. */
export const trainableOf = ({ engine }: LoadedModel): Trainable => accepted(engine.training);

const sizes = (b: TrainBudget): number => Object.values(b).reduce((sum, n) => sum + n, 0);
const up = (n: number): number => Math.ceil(n / 64) * 64;

export class TrainRig {
  readonly program: TrainProgram;
  readonly budget: TrainBudget;
  readonly choice: TrainChoice;
  readonly at: number;
  readonly endAt: number;
  private readonly blockAt: number;
  private readonly targetsAt: number;
  private readonly rowsAt: number;
  private readonly picksAt: number;

  constructor(
    readonly rig: Rig,
    readonly loaded: LoadedModel,
    choice: Partial<TrainChoice>,
  ) {
    this.choice = { ...CHOICE, ...choice };
    const { ctx, picks } = this.choice;
    const training = trainableOf(loaded);
    this.budget = accepted(training.budget(this.choice));
    this.blockAt = up(loaded.endAt);
    this.targetsAt = up(this.blockAt + TrainBlock.bytes);
    this.rowsAt = up(this.targetsAt + 4 * ctx);
    this.picksAt = up(this.rowsAt + ctx * RowRecord.bytes);
    const canaryAt = up(this.picksAt + picks * PickRecord.bytes);
    this.at = canaryAt + CANARY_BYTES;
    this.endAt = this.at + sizes(this.budget);
    const { u8 } = rig.arena;
    if (this.endAt + CANARY_BYTES > u8.length) throw new Error(`the train region ends at ${this.endAt}`);
    u8.fill(CANARY, canaryAt, this.endAt + CANARY_BYTES);
    u8.fill(0, this.blockAt, canaryAt);
    const place = { at: this.at, blockAt: this.blockAt, targetsAt: this.targetsAt };
    this.program = accepted(training.load(this.choice, place));
    rig.set('rowsAt', this.rowsAt);
    rig.set('picksAt', this.picksAt);
    rig.set('ctx', ctx);
  }

  plan(): TrainImage | Refusal {
    const { at, blockAt, targetsAt } = this;
    return trainableOf(this.loaded).plan(this.choice, { at, blockAt, targetsAt });
  }

  /** True while nobody has written before or behind the region. */
  get isSound(): boolean {
    const { u8 } = this.rig.arena;
    const around = [u8.subarray(this.at - CANARY_BYTES, this.at), u8.subarray(this.endAt, this.endAt + CANARY_BYTES)];
    return around.every(bytes => bytes.every(b => b === CANARY));
  }

  vector(at: number): Float32Array {
    return this.rig.arena.f32.subarray(at >> 2, (at >> 2) + this.program.parameters);
  }
  get parameters(): Float32Array {
    return this.vector(this.program.parametersAt);
  }
  /** What lies behind them: parameters that are perturbed, or tangents. */
  get beside(): Float32Array {
    return this.vector(this.program.parametersAt + Math.ceil(this.program.parameters / 8) * 32);
  }
  get gradients(): Float32Array {
    return this.vector(this.program.gradientsAt);
  }
  block(): RecordValue<typeof TrainBlock.fields> {
    return TrainBlock.read(this.rig.arena.u8, this.blockAt);
  }
  set(values: Partial<RecordValue<typeof TrainBlock.fields>>): void {
    TrainBlock.write(this.rig.arena.u8, this.blockAt, { ...this.block(), ...values });
  }

  run(segment: TrainSegment, n = 1): void {
    this.rig.set('n', n);
    this.rig.run(this.program.segments[segment]);
  }

  /** Puts a sequence in place: ids, and for each the one that follows, from the position `from` on. Returns the positions that count. */
  put(ids: readonly number[], from = 0): number[] {
    const { u8, u32 } = this.rig.arena;
    ids.forEach((token, pos) => RowRecord.write(u8, this.rowsAt + pos * RowRecord.bytes, { token, pos }));
    const positions = ids.map((_, i) => i).filter(i => i >= from && i + 1 < ids.length);
    ids.forEach((_, i) => (u32[(this.targetsAt >> 2) + i] = positions.includes(i) ? ids[i + 1]! : NO_TARGET));
    return positions;
  }

  /** A segment over these rows, in groups of picks. */
  groups(segment: TrainSegment, n: number, positions: readonly number[]): void {
    const { picks } = this.choice;
    this.rig.set('n', n);
    for (let i = 0; i < positions.length; i += picks) {
      const group = positions.slice(i, i + picks);
      group.forEach((row, j) => PickRecord.write(this.rig.arena.u8, this.picksAt + j * PickRecord.bytes, { row }));
      this.rig.set('picks', group.length);
      this.rig.run(this.program.segments[segment]);
    }
  }

  /** The loss of a sequence; its gradients are added to those that are there. */
  learn(ids: readonly number[], from = 0): number {
    const positions = this.put(ids, from);
    this.set({ loss: 0, slope: 0, count: 0 });
    this.run('forward', ids.length);
    this.groups('loss', ids.length, positions);
    if (this.program.segments.backward !== 0) this.run('backward', ids.length);
    return this.block().loss;
  }

  score(ids: readonly number[], from = 0, isQuantised = false): number {
    const positions = this.put(ids, from);
    this.set({ loss: 0, count: 0 });
    this.run(isQuantised ? 'forwardQuantised' : 'forward', ids.length);
    this.groups(isQuantised ? 'scoreQuantised' : 'score', ids.length, positions);
    return this.block().loss;
  }
}

/** The message of a refusal. */
export const refusalOf = (value: unknown | Refusal): string => (isRefusal(value) ? value.message : 'no refusal');
