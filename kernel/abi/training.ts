// Training as the kernel offers it: a device beside sessions that changes a vector of parameters by the losses of sequences of tokens. A program
// opens it for the loaded model, gives it batches, waits, reads and writes its state; epochs, learning rates and files are the program's. The
// device is a plan of its own in an arena region of its own, priced like any other, run in slices between the passes of inference.

import type { EngineOptions, ModelImage, PlanRow } from './device.ts';
import type { Refusal } from './errno.ts';
import { layout } from './records.ts';

/** How gradients come about: reverse mode; forward mode, directions drawn (FMEA); differences of losses at perturbed parameters (NES). */
export const TRAIN_METHODS = ['lora', 'fmea', 'nes', 'full'] as const;
export type TrainMethod = (typeof TRAIN_METHODS)[number];
/** Matrices that a low-rank pair can be trained for, bit i of TrainOptions.targets; `qkv`: of models that keep the three in one matrix. */
export const TRAIN_TARGETS = ['q', 'k', 'v', 'o', 'gate', 'up', 'down', 'qkv'] as const;
export type TrainTarget = (typeof TRAIN_TARGETS)[number];
export const OPTIMIZERS = ['adam', 'sgd'] as const;

export const TrainOptions = layout({
  method: 'u32', // index into TRAIN_METHODS
  targets: 'u32', // bits, see TRAIN_TARGETS; not of full
  rank: 'u32', // of each pair, 1 … LIMITS.rankMax; not of full
  alpha: 'f32', // a pair adds alpha / rank · B · A; not of full
  ctx: 'u32', // tokens of a sequence at most; 0 = 128, or the model's context, or what fits
  batch: 'u32', // sequences of a batch at most, 1 … LIMITS.trainBatchMax
  optimizer: 'u32', // index into OPTIMIZERS
  anchored: 'u32', // 1: what the parameters were at first is kept, for the anchor penalty and the distance from there
  checkpoint: 'u32', // layers from one kept residual stream to the next; 0 = the fewest recomputations that fit; 1 … layers; TRAIN_KEEP_ALL: nothing is recomputed
  picks: 'u32', // rows of the output matrix's product at once; 0 = what fits
  seed: 'u32', // of the first values of the pairs' A; of full, none: the model's own weights are the first
  sharePpm: 'u32', // of the processor, that its server is promised; 0 = only what nobody else wants
  periodNs: 'u64', // of that server; 0 = as long as holds its longest op ten times over at that share, and twice the longest segment beside it
});
export const TRAIN_KEEP_ALL = 0xffffffff;

/** What training takes, before anything is taken. Cycles are upper bounds on the target in force; a sequence has `ctx` tokens, all of which count. */
export const TrainReport = layout({
  fits: 'u32',
  ctx: 'u32',
  batch: 'u32',
  checkpoint: 'u32', // chosen
  picks: 'u32', // chosen
  matrices: 'u32', // with a trained pair; of full, tensors
  parameters: 'u64', // trained
  // Bytes of the train region, by part; together they are `total`.
  parametersBytes: 'u64',
  gradientsBytes: 'u64',
  momentsBytes: 'u64',
  anchorBytes: 'u64',
  checkpointsBytes: 'u64', // residual streams that are kept
  activationsBytes: 'u64',
  headBytes: 'u64', // logits and what goes with them, beyond what activations leave them
  planBytes: 'u64',
  batchBytes: 'u64', // the batch's ids, rows, block
  total: 'u64',
  free: 'u64', // of the arena, that nothing has taken
  // Cycles.
  forwardCycles: 'u64', // of a sequence
  lossCycles: 'u64', // of a sequence: head and loss of all its tokens, with their gradients where the method has any
  backwardCycles: 'u64', // of a sequence
  updateCycles: 'u64', // of a step
  stepCycles: 'u64', // of a whole step: `batch` sequences (in each direction of fmea and nes, of which there is one) and the update
  scoreCycles: 'u64', // of a sequence that is only measured
  sliceMax: 'u64', // the longest op: what inference waits for at most
  ctxThatFits: 'u32',
  checkpointThatFits: 'u32',
  message: 's512', // why it does not fit, with what would
});

/** What is done with a batch. learn: gradients are added to those that are there; measure: only losses; measureQuantised: those of the path that inference takes. */
export const TRAIN_BATCH = { learn: 0, measure: 1, measureQuantised: 2 } as const;
export const TrainStep = layout({
  kind: 'u32', // TRAIN_BATCH
  update: 'u32', // 1: behind the batch parameters change, and gradients are 0 again
  directions: 'u32', // of fmea: tangents; of nes: pairs. ≥ 1
  ranked: 'u32', // of nes: 1: losses become rank utilities (PERSPECTIVE §11) before they weigh
  seedLow: 'u32', // of the directions of this batch
  seedHigh: 'u32',
  rate: 'f32', // learning rate
  clip: 'f32', // most that the gradient's norm may be; 0 = no matter
  beta1: 'f32', // Adam; SGD: momentum
  beta2: 'f32',
  epsilon: 'f32',
  decay: 'f32', // weight decay, decoupled
  anchor: 'f32', // λ of the penalty λ · |θ − θ0|²; 0 = none
  distanceMax: 'f32', // an update that would take |θ − θ0| beyond is not made, and the parameters are frozen from then on; 0 = no matter
  sigma: 'f32', // of nes
  tokens: 'u32', // that the loss is the mean over: all targets of the batches up to the update; 0 = those of this batch
});

/** A batch as the descriptor gives it, u32 each: for every sequence tokens n, targets from (the first position whose following token counts), n ids. */
export const TRAIN_SEQUENCE_WORDS = 2;

export const TRAIN_STATE = ['idle', 'busy', 'faulted', 'closed'] as const;
export const TrainState = layout({
  state: 'u32', // index into TRAIN_STATE
  id: 'u32', // of the training, for the audit log
  steps: 'u32', // updates since it was opened
  frozen: 'u32', // 1: distanceMax was reached
  // Of the last batch.
  loss: 'f64', // Σ −ln p over its targets, at the parameters themselves (nes: the mean over its pairs)
  targets: 'u32',
  tokens: 'u32',
  gradientNorm: 'f64', // before clipping; 0 without an update
  distance: 'f64', // |θ − θ0|; 0 unless anchored
  cycles: 'u64', // charged
  cyclesMost: 'u64', // the bound said before
  // Since it was opened.
  cyclesTotal: 'u64',
  tokensTotal: 'u64',
  slices: 'u64',
  sliceMax: 'u64', // the longest
  misses: 'u32', // of its server's deadlines
  progressPpm: 'u32', // of the batch under way
  message: 's256', // of a fault
});

/** Which vector of the state train_read and train_write mean; f32 each, in the order of TrainTensor. */
export const TRAIN_VECTORS = ['parameters', 'first', 'second', 'anchor', 'gradients'] as const;

/** The columns of /proc/traintensors: a line of these names, then a line a trained tensor, with tabs between. */
export const TRAIN_COLUMNS = ['name', 'columns', 'rows', 'from', 'count'] as const;

/** Registers between the kernel and a training plan's ops (drivers/engine/ops.ts, TRAIN_…). */
export const TrainBlock = layout({
  loss: 'f64', // Σ −ln p
  slope: 'f64', // Σ weight · derivative of −ln p along the tangent
  squares: 'f64', // Σ gradient²
  distance: 'f64', // Σ (θ − θ0)²
  seedLow: 'u32', // of the stream of normals
  seedHigh: 'u32',
  count: 'u32', // targets that loss sums
  weight: 'f32', // of each target in gradients and slope
  rate: 'f32',
  times: 'f32', // what gradients are multiplied by first: clipping
  beta1: 'f32',
  beta2: 'f32',
  correction1: 'f32', // 1 − beta1^steps
  correction2: 'f32',
  epsilon: 'f32',
  decay: 'f32',
  anchor: 'f32',
  sigma: 'f32', // of PERTURB
  coefficient: 'f32', // of ACCUMULATE
  reserved: 'u32',
});

/** A request to be trained, as an engine sees it: TrainOptions with all choices made. */
export interface TrainChoice {
  readonly method: TrainMethod;
  readonly targets: readonly TrainTarget[];
  readonly rank: number;
  readonly alpha: number;
  readonly ctx: number;
  readonly optimizer: (typeof OPTIMIZERS)[number];
  readonly anchored: boolean;
  readonly checkpoint: number; // 1 … layers, or TRAIN_KEEP_ALL
  readonly picks: number; // ≥ 1
  readonly seed: number;
}

/** Bytes of the train region that an engine lays out, each a multiple of the arena's alignment. */
export interface TrainBudget {
  readonly parameters: number;
  readonly gradients: number;
  readonly moments: number;
  readonly anchor: number;
  readonly checkpoints: number;
  readonly activations: number;
  readonly head: number;
  readonly plan: number;
}

/**
 * The segments of a training plan, as arena offsets of their first ops; 0: the method has none. Over the rows of a sequence (StepBlock.n):
 * forward, forwardQuantised, backward. Over picks, after a forward: loss (with what the method wants of it), score (only TrainBlock.loss),
 * scoreQuantised. Over one row: zero (gradients = 0), perturb (of nes: working parameters = parameters + sigma · normals, which is what all its
 * forward passes read: with sigma 0 the parameters themselves; of fmea: tangents = normals, sigma being 1), gather (gradients += coefficient ·
 * normals), measure (TrainBlock.squares of the gradients, and distance), update (the gradients' place then holds what the parameters were), check
 * (squares of the parameters, and distance), undo (parameters = what they were). Records have prices for as many rows: ctx, picks, or one.
 */
export const TRAIN_SEGMENTS = [
  'forward',
  'loss',
  'backward',
  'forwardQuantised',
  'score',
  'scoreQuantised',
  'zero',
  'perturb',
  'gather',
  'measure',
  'update',
  'check',
  'undo',
] as const;
export type TrainSegment = (typeof TRAIN_SEGMENTS)[number];

/** A tensor of the parameter vector. */
export interface TrainTensor {
  readonly name: string; // of GGUF: blk.0.attn_q.weight.lora_a; of full the model's own
  readonly columns: number; // ne[0]
  readonly rows: number;
  readonly from: number; // index of its first value in the vector
}

/** A training plan in the arena. Addresses of vectors are 0 where the method keeps none. */
export interface TrainProgram {
  readonly segments: Readonly<Record<TrainSegment, number>>;
  readonly parameters: number; // how many
  readonly parametersAt: number;
  readonly gradientsAt: number;
  readonly firstAt: number;
  readonly secondAt: number;
  readonly anchorAt: number;
  readonly tensors: readonly TrainTensor[];
  /** f32[picks][vocabulary …], as Engine.logitsAt: what StepBlock.logitsAt is to name. */
  readonly logitsAt: number;
}

/** A training plan as load() would write it: its words from planAt on, prices empty. `rows` follow the records, segment by segment, END included. */
export interface TrainImage {
  readonly segments: TrainProgram['segments'];
  readonly planAt: number;
  readonly words: Int32Array;
  readonly rows: readonly PlanRow[];
  readonly logitsAt: number;
}

/** Where the kernel keeps what training plans refer to: TrainBlock, targets u32[ctx]. */
export interface TrainPlace {
  readonly at: number; // of the first byte, TrainBudget's parts in order
  readonly blockAt: number;
  readonly targetsAt: number;
}

/** What an engine offers of a model that it has loaded; a refusal where the model cannot be trained in that way. */
export interface Trainable {
  budget(choice: TrainChoice): TrainBudget | Refusal;
  /** The plan for these places, nothing being written: for prices, and for people. */
  plan(choice: TrainChoice, place: TrainPlace): TrainImage | Refusal;
  /** Lays the region out and writes first values: A by its seed, B = 0; of full the model's weights. Prices are not filled yet. */
  load(choice: TrainChoice, place: TrainPlace): TrainProgram | Refusal;
  /** Layers, and how many trained tensors and parameters a choice has. */
  readonly layers: number;
  count(choice: TrainChoice): { readonly matrices: number; readonly parameters: number } | Refusal;
}

// ── Adapters ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** An adapter that a load puts beside the weights: a GGUF file of LoRA pairs, and the scale of sessions that do not say otherwise. */
export interface AdapterUse {
  readonly name: string;
  readonly path: string;
  readonly digest: string; // SHA-256 of the file
  readonly scale: number;
  readonly image: ModelImage;
}
export type EngineAdapters = EngineOptions['adapters'];

/** Which adapters a session uses: as they were applied; none; SessionOptions.scale0 … */
export const ADAPTERS = { applied: 0, none: 1, given: 2 } as const;

/** What command lines say for none: no adapter is called so. */
export const NO_ADAPTER = 'none';

/** The columns of /proc/adapters: a line of these names, then a line an applied adapter, in the order of SessionOptions.scale0 …, with tabs between. */
export const ADAPTER_COLUMNS = ['name', 'path', 'digest', 'rank', 'alpha', 'scale', 'matrices', 'bytes'] as const;
