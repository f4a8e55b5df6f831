// What a training is to be, once nothing is left open: options are checked, then the first arrangement is taken that fits into the free memory —
// the longest context, then the fewest recomputations (Chen et al. 2016), then the most rows of logits at once. Where none fits, the refusal says
// the sum of the parts and what would. Nothing is allocated.

import {
  isRefusal,
  LIMITS,
  OPTIMIZERS,
  PickRecord,
  refuse,
  RowRecord,
  StepBlock,
  TRAIN_KEEP_ALL,
  TRAIN_METHODS,
  TRAIN_SEQUENCE_WORDS,
  TRAIN_TARGETS,
  TrainBlock,
  type Engine,
  type Refusal,
  type Trainable,
  type TrainBudget,
  type TrainChoice,
  type TrainOptions,
  type TrainReport,
} from '../abi/index.ts';
import { alignUp } from '../arena.ts';

export type Options = ReturnType<typeof TrainOptions.read>;
type Report = ReturnType<typeof TrainReport.read>;

/** The engine's parts of the train region, in order; behind them the kernel's own. */
export const TRAIN_PARTS = [
  'parameters',
  'gradients',
  'moments',
  'anchor',
  'checkpoints',
  'activations',
  'head',
  'plan',
] as const satisfies readonly (keyof TrainBudget)[];

/** The kernel's part: addresses, from the address at which it begins. */
export interface OwnPart {
  readonly stepAt: number; // StepBlock
  readonly blockAt: number; // TrainBlock
  readonly rowsAt: number; // ctx × RowRecord
  readonly picksAt: number; // picks × PickRecord
  readonly targetsAt: number; // u32[ctx]
  readonly lossesAt: number; // f64[2 · directionsMax]: of nes, those of its perturbations
  readonly batchAt: number; // u32, as a batch is given
  readonly batchBytes: number;
  readonly endAt: number;
}

/** What training takes. */
export interface Arrangement {
  readonly choice: TrainChoice;
  readonly batch: number;
  readonly budget: TrainBudget;
  readonly total: number;
  readonly matrices: number;
  readonly parameters: number;
}
/** The same where it does not fit: what it would take, and why not. */
interface Misfit extends Arrangement {
  readonly ctxThatFits: number;
  readonly checkpointThatFits: number;
  readonly message: string;
}

/** Ids of a sequence: one more than the positions whose following tokens count. */
export const idsMax = (ctx: number): number => ctx + 1;

export function ownPart(at: number, { ctx, picks, method }: TrainChoice, batch: number): OwnPart {
  const take = (bytes: number): number => {
    const from = at;
    at = alignUp(at + bytes, LIMITS.arenaAlign);
    return from;
  };
  const stepAt = take(StepBlock.bytes);
  const blockAt = take(TrainBlock.bytes);
  const rowsAt = take(ctx * RowRecord.bytes);
  const picksAt = take(picks * PickRecord.bytes);
  const targetsAt = take(4 * ctx);
  const lossesAt = take(method === 'nes' ? 2 * LIMITS.directionsMax * 8 : 0);
  const batchBytes = 4 * batch * (TRAIN_SEQUENCE_WORDS + idsMax(ctx));
  const batchAt = take(batchBytes);
  return { stepAt, blockAt, rowsAt, picksAt, targetsAt, lossesAt, batchAt, batchBytes, endAt: at };
}

/** What is wrong with options by themselves. */
function checkOptions(o: Options, { training, shape }: Engine): Refusal | null {
  const bad = (text: string): Refusal => refuse('INVAL', 7001, text);
  if (isRefusal(training)) return training;
  const method = TRAIN_METHODS[o.method];
  if (method === undefined) return bad(`no method ${o.method}: ${TRAIN_METHODS.join(', ')}`);
  const isFull = method === 'full';
  const all = 2 ** TRAIN_TARGETS.length - 1;
  if (!isFull && (o.targets === 0 || o.targets > all)) return bad(`targets ${o.targets}: bits 1 to ${all}`);
  if (!isFull && !(o.rank >= 1 && o.rank <= LIMITS.rankMax)) return bad(`rank ${o.rank} asked, 1 to ${LIMITS.rankMax}`);
  if (!isFull && !(o.alpha > 0 && o.alpha < Infinity)) return bad(`alpha ${o.alpha} is no number above 0`);
  if (!(o.batch >= 1 && o.batch <= LIMITS.trainBatchMax))
    return bad(`${o.batch} sequences a batch, 1 to ${LIMITS.trainBatchMax}`);
  if (OPTIMIZERS[o.optimizer] === undefined) return bad(`no optimizer ${o.optimizer}: ${OPTIMIZERS.join(', ')}`);
  if (o.anchored > 1) return bad(`anchored ${o.anchored}: 0 or 1`);
  const { layers } = training;
  if (o.checkpoint !== TRAIN_KEEP_ALL && o.checkpoint > layers)
    return bad(`a checkpoint every ${o.checkpoint} layers, the model has ${layers}`);
  if (o.picks > LIMITS.batchMax) return bad(`${o.picks} rows of logits at once, ${LIMITS.batchMax} at most`);
  if (o.sharePpm > LIMITS.utilisationPpm) return bad(`a share of ${o.sharePpm} ppm, ${LIMITS.utilisationPpm} at most`);
  const ctxMost = contextMost(shape.contextTrained);
  if (o.ctx > ctxMost) return bad(`a context of ${o.ctx} tokens, the model has ${ctxMost}`);
  return null;
}

/** Positions that the model knows. */
const contextMost = (trained: number): number =>
  trained === 0 ? LIMITS.contextMax : Math.min(trained, LIMITS.contextMax);

/** From `n` down to 1. */
const halves = (n: number): number[] => (n <= 1 ? [1] : [n, ...halves(n >> 1)]);

/** Layers between kept residual streams: each keeps fewer than the ones before, ⌈L/c⌉ and c − 1 for the stretch that is computed again. */
function checkpointsOf(layers: number): number[] {
  const out = [TRAIN_KEEP_ALL];
  let least = Infinity;
  for (let c = 1; c <= layers; c++) {
    const kept = Math.ceil(layers / c) + c - 1;
    if (kept >= least) continue;
    least = kept;
    out.push(c);
  }
  return out;
}

export class Chooser {
  readonly #o: Options;
  readonly #engine: Engine;
  readonly #training: Trainable;
  readonly #free: number;

  /** What fits into `free` bytes, or what does not; a refusal where the options are none, or the model cannot be trained so. */
  static choose(o: Options, engine: Engine, free: number): Arrangement | Misfit | Refusal {
    const refusal = checkOptions(o, engine);
    if (refusal !== null) return refusal;
    return new Chooser(o, engine, engine.training as Trainable, free).#choose();
  }

  private constructor(o: Options, engine: Engine, training: Trainable, free: number) {
    this.#o = o;
    this.#engine = engine;
    this.#training = training;
    this.#free = free;
  }

  #choose(): Arrangement | Misfit | Refusal {
    const { ctx } = this.#o;
    const first = Math.min(LIMITS.trainContextDefault, contextMost(this.#engine.shape.contextTrained));
    let least: Arrangement | null = null;
    for (const length of ctx === 0 ? halves(first) : [ctx]) {
      const found = this.#at(length, this.#checkpoints(this.#o.checkpoint));
      if (isRefusal(found)) return found;
      if (found.total <= this.#free) return found;
      least ??= found;
    }
    return this.#misfit(least!);
  }

  /** The first arrangement of that context that fits, or the smallest. */
  #at(ctx: number, checkpoints: readonly number[]): Arrangement | Refusal {
    let least: Arrangement | null = null;
    for (const checkpoint of checkpoints)
      for (const picks of this.#picks(ctx)) {
        const found = this.#arrange(ctx, checkpoint, picks);
        if (isRefusal(found)) return found;
        if (found.total <= this.#free) return found;
        if (least === null || found.total < least.total) least = found;
      }
    return least!;
  }

  #checkpoints(asked: number): number[] {
    const method = TRAIN_METHODS[this.#o.method]!;
    if (method === 'fmea' || method === 'nes') return [TRAIN_KEEP_ALL]; // nothing is kept, nothing computed again
    return asked === 0 ? checkpointsOf(this.#training.layers) : [asked];
  }

  #picks(ctx: number): number[] {
    const { picks } = this.#o;
    return picks === 0 ? halves(LIMITS.batchMax).filter(n => n <= ctx) : [Math.min(picks, ctx)];
  }

  #arrange(ctx: number, checkpoint: number, picks: number): Arrangement | Refusal {
    const o = this.#o;
    const choice: TrainChoice = {
      method: TRAIN_METHODS[o.method]!,
      targets: TRAIN_TARGETS.filter((_, i) => (o.targets & (1 << i)) !== 0),
      rank: o.rank,
      alpha: o.alpha,
      ctx,
      optimizer: OPTIMIZERS[o.optimizer]!,
      anchored: o.anchored === 1,
      checkpoint,
      picks,
      seed: o.seed,
    };
    const budget = this.#training.budget(choice);
    if (isRefusal(budget)) return budget;
    const count = this.#training.count(choice);
    if (isRefusal(count)) return count;
    const total = TRAIN_PARTS.reduce((sum, part) => sum + budget[part], 0) + ownPart(0, choice, o.batch).endAt;
    return { choice, batch: o.batch, budget, total, ...count };
  }

  // ── What does not fit ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  #misfit(least: Arrangement): Misfit | Refusal {
    const { ctx } = least.choice;
    const ctxThatFits = this.#longest(ctx - 1);
    const other = this.#at(ctx, this.#checkpoints(0));
    const checkpointThatFits = !isRefusal(other) && other.total <= this.#free ? other.choice.checkpoint : 0;
    const parts = [
      ...TRAIN_PARTS.map(part => [part, least.budget[part]] as const),
      ['batch', ownBytes(least)] as const,
    ];
    const sum = parts.filter(([, bytes]) => bytes > 0).map(([part, bytes]) => `${part} ${bytes}`);
    const message =
      `training with context ${ctx} takes ${least.total} bytes, ${this.#free} are free: ${sum.join(' + ')}; ` +
      this.#advice(ctxThatFits, checkpointThatFits);
    return { ...least, ctxThatFits, checkpointThatFits, message };
  }

  /** The longest context up to `most` that fits in some way; 0: none does. What training takes grows with it. */
  #longest(most: number): number {
    const fits = (ctx: number): boolean => {
      const found = this.#at(ctx, this.#checkpoints(this.#o.checkpoint));
      return !isRefusal(found) && found.total <= this.#free;
    };
    let [low, high] = [0, most];
    while (low < high) {
      const middle = low + Math.ceil((high - low) / 2);
      if (fits(middle)) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #advice(ctx: number, checkpoint: number): string {
    const ways: string[] = [];
    if (checkpoint !== 0) ways.push(`a checkpoint every ${checkpoint} layers fits`);
    if (ctx !== 0) ways.push(`a context of ${ctx} fits`);
    if (ways.length === 0) ways.push('no context fits; fewer targets or a smaller rank take less');
    return `${ways.join('; ')}; fewer KV pages leave more: llmctl load FILE --pages N`;
  }
}

export const isMisfit = (a: Arrangement | Misfit): a is Misfit => 'message' in a;

const ownBytes = ({ choice, batch }: Arrangement): number => ownPart(0, choice, batch).endAt;

/** An arrangement as train_plan tells it, without cycles. */
export function reportOf(a: Arrangement | Misfit, free: number): Partial<Report> {
  const { choice, budget } = a;
  return {
    fits: isMisfit(a) ? 0 : 1,
    ctx: choice.ctx,
    batch: a.batch,
    checkpoint: choice.checkpoint,
    picks: choice.picks,
    matrices: a.matrices,
    parameters: a.parameters,
    parametersBytes: budget.parameters,
    gradientsBytes: budget.gradients,
    momentsBytes: budget.moments,
    anchorBytes: budget.anchor,
    checkpointsBytes: budget.checkpoints,
    activationsBytes: budget.activations,
    headBytes: budget.head,
    planBytes: budget.plan,
    batchBytes: ownBytes(a),
    total: a.total,
    free,
    ...(isMisfit(a)
      ? { ctxThatFits: a.ctxThatFits, checkpointThatFits: a.checkpointThatFits, message: a.message }
      : {}),
  };
}

export const checkpointWord = (checkpoint: number): string => (checkpoint === TRAIN_KEEP_ALL ? 'all' : `${checkpoint}`);

/** What was asked for, with all choices made where there is an arrangement, as records say it. */
export function optionWords(o: Options, a: Arrangement | null): string[] {
  const { ctx, checkpoint, picks } = a?.choice ?? o;
  const targets = TRAIN_TARGETS.filter((_, i) => (o.targets & (1 << i)) !== 0);
  return [
    `method=${TRAIN_METHODS[o.method] ?? o.method}`,
    `targets=${targets.join('+') || o.targets}`,
    `rank=${o.rank}`,
    `alpha=${o.alpha}`,
    `ctx=${ctx}`,
    `batch=${o.batch}`,
    `optimizer=${OPTIMIZERS[o.optimizer] ?? o.optimizer}`,
    `anchored=${o.anchored}`,
    `checkpoint=${checkpointWord(checkpoint)}`,
    `picks=${picks}`,
    `seed=${o.seed}`,
    `share=${o.sharePpm}`,
    `period=${o.periodNs}`,
  ];
}
