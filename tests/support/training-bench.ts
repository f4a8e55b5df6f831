// Trainings of a kernel's own device, batch by batch, with their vectors in reach: of a tiny transformer, and of functions whose gradients are
// known on paper, which stand in for one behind the same interface and are run by the same code.

import { Plan, type PlanSink, type Place } from '../../drivers/engine/plan.ts';
import { Op } from '../../drivers/engine/ops.ts';
import {
  GGML_TYPE,
  LIMITS,
  LOAD_DEFAULTS,
  O,
  TRAIN_BATCH,
  TRAIN_SEGMENTS,
  TrainBlock,
  TrainOptions,
  TrainState,
  TrainStep,
  type ArenaView,
  type RecordValue,
  type Trainable,
  type TrainBudget,
  type TrainChoice,
  type TrainImage,
  type TrainPlace,
  type TrainProgram,
  type TrainSegment,
} from '../../kernel/abi/index.ts';
import type { Trainer } from '../../kernel/train/trainer.ts';
import { accepted, random } from '../harness.ts';
import { randomConfig, randomModel } from '../reference/models.ts';
import { spmVocabulary } from '../reference/vocabularies.ts';
import { Bench, PID } from './service.ts';

export type Options = RecordValue<typeof TrainOptions.fields>;
export type Step = RecordValue<typeof TrainStep.fields>;
export type State = RecordValue<typeof TrainState.fields>;

const BY = { pid: PID, uid: 0, groups: [] };
const OPTIONS: Options = {
  method: 0,
  targets: 1,
  rank: 1,
  alpha: 2,
  ctx: 8,
  batch: 1,
  optimizer: 1,
  anchored: 0,
  checkpoint: 0,
  picks: 0,
  seed: 42,
  sharePpm: 0,
  periodNs: 0,
};
const STEP: Step = {
  kind: TRAIN_BATCH.learn,
  update: 0,
  directions: 1,
  ranked: 0,
  seedLow: 1,
  seedHigh: 0,
  rate: 0,
  clip: 0,
  beta1: 0,
  beta2: 0.999,
  epsilon: 1e-8,
  decay: 0,
  anchor: 0,
  distanceMax: 0,
  sigma: 0.01,
  tokens: 0,
};

/** One training on a machine of its own. */
export class TrainingBench extends Bench {
  #handle = 0;

  get #trainer(): Trainer {
    return this.kernel.sessions.training;
  }
  get #training(): Exclude<ReturnType<Trainer['own']>, { readonly message: string }> {
    return accepted(this.#trainer.own(this.#handle, BY)) as never;
  }
  get program(): TrainProgram {
    return this.#training.program;
  }

  /** A llama of one layer with F32 weights and a few hundred pieces. */
  loadTiny(seed: number): void {
    const next = random(seed);
    const size = { layers: 1, heads: 2, headsKv: 1, headSize: 8, embedding: 16, feedForward: 32, vocabulary: 290 };
    const types = { types: () => GGML_TYPE.F32, vectorType: GGML_TYPE.F32 };
    const plain = { biases: false, tied: true, fusedQkv: false, ropeDimensions: 8, context: 32 };
    const config = { ...randomConfig('llama', next), ...size, ...types, ...plain };
    const { file } = randomModel(config, next, spmVocabulary(size.vocabulary, next));
    const { vfs, lay, loader } = this.kernel;
    const to = vfs.open('/', '/tiny.gguf', O.CREAT | O.TRUNC | O.WRONLY, 0o644);
    if (typeof to === 'number') throw new Error(`/tiny.gguf: ${to}`);
    for (let at = 0; at < file.length; at += LIMITS.dmaBytes) {
      const piece = file.subarray(at, at + LIMITS.dmaBytes);
      this.machine.arena.u8.set(piece, lay.dmaAt);
      to.write(lay.dmaAt, piece.length);
    }
    to.close();
    const refusal = loader.load('/tiny.gguf', { ...LOAD_DEFAULTS, ctx: 16 });
    if (refusal !== null) throw new Error(refusal.message);
  }

  /** A function of so many parameters in the model's place. */
  loadFunction(of: FunctionName, first: readonly number[], about: readonly number[]): void {
    Object.assign(this.engine, { training: new PlainFunction(this.machine.arena, of, first, about) });
  }

  open(o: Partial<Options> = {}): void {
    this.#handle = accepted(this.#trainer.begin(BY, { ...OPTIONS, ...o }));
  }
  close(): void {
    this.#trainer.end(this.#training);
  }

  /** Gives a batch and runs it to its end. */
  batch(sequences: readonly (readonly number[])[], s: Partial<Step> = {}): State {
    const { vfs, lay } = this.kernel;
    const file = vfs.memfd('batch');
    if (typeof file === 'number') throw new Error('no file');
    const words = Uint32Array.from(sequences.flatMap(ids => [ids.length, 0, ...ids]));
    this.machine.arena.u8.set(new Uint8Array(words.buffer), lay.dmaAt);
    file.write(lay.dmaAt, words.byteLength);
    file.seek(0, 0);
    accepted(this.#trainer.give(this.#training, file, { ...STEP, ...s }));
    file.close();
    while (this.#training.batch !== null) this.step();
    const state = this.#trainer.state(this.#training) as State;
    if (state.message !== '') throw new Error(state.message);
    return state;
  }

  #vector(at: number): Float32Array {
    return this.machine.arena.f32.subarray(at >> 2, (at >> 2) + this.program.parameters);
  }
  get parameters(): Float32Array {
    return this.#vector(this.program.parametersAt);
  }
  get gradients(): Float32Array {
    return this.#vector(this.program.gradientsAt);
  }

  /** The gradients that a batch leaves, from none. */
  gradient(sequences: readonly (readonly number[])[], s: Partial<Step> = {}): Float64Array {
    this.gradients.fill(0);
    this.batch(sequences, s);
    return Float64Array.from(this.gradients);
  }
}

// ── Functions ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** sphere: |θ − about|²; choice: −ln soft_max(θ)[target], the target being the batch's token. */
type FunctionName = 'sphere' | 'choice';

const NONE = Object.fromEntries(TRAIN_SEGMENTS.map(name => [name, 0])) as Record<TrainSegment, number>;

/** A function as a training: of nes the sphere, of fmea the choice. Parameters, those that are perturbed or their tangents, and the centre lie behind each other. */
class PlainFunction implements Trainable {
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
