// A batch under way: which segment of the training plan runs next, over which sequence, group of picks, direction or perturbation. Between any two ops
// the processor may go to somebody else, so how far it has come is written down and not on the stack, and all that ops read lies in the train region.
// What follows from a segment does not depend on when it ran: a batch ends with the same bytes alone, preempted, or on another processor.

import {
  FAULT,
  PickRecord,
  PLAN_RECORD,
  RowRecord,
  StepBlock,
  TRAIN_BATCH,
  TRAIN_SEQUENCE_WORDS,
  TrainBlock,
  type Compute,
  type TrainProgram,
  type TrainSegment,
  type TrainStep,
} from '../abi/index.ts';
import type { Arena } from '../arena.ts';
import type { TrainingPrices } from '../costs.ts';
import type { Arrangement, OwnPart } from './choice.ts';
import { rankUtilities } from './utilities.ts';

export type Step = ReturnType<typeof TrainStep.read>;

const step = StepBlock.at;
const block = TrainBlock.at;
/** As NO_TARGET of the ops: nothing is wanted of the token behind this one. */
const NO_TARGET = 0xffffffff;

/** What a batch has come to. */
export interface Outcome {
  loss: number;
  targets: number;
  tokens: number;
  gradientNorm: number;
  distance: number;
}

/** What a batch is charged: exactly so much where the update is made, `undo` more at most. */
export interface BatchBound {
  readonly cycles: number;
  readonly undo: number;
}

export class Run {
  /** Of the batch at hand, or the last one. */
  outcome: Outcome = { loss: 0, targets: 0, tokens: 0, gradientNorm: 0, distance: 0 };
  /** Why the batch has failed; '' = it has not. */
  fault = '';
  /** Updates so far. */
  steps = 0;
  frozen = false;
  /** The op that runs next; 0: no batch is under way. */
  private opAt = 0;
  private segment: TrainSegment = 'forward';
  private step!: Step;
  /** Sequences of the batch, and which one runs: where its words are, its rows, the first row that is wanted, the first of the group of picks. */
  private sequences = 0;
  private sequence = 0;
  private wordsAt = 0;
  private rows = 0;
  private from = 0;
  private group = 0;
  /** Of fmea and nes: which direction; of nes the perturbations whose losses are there. */
  private direction = 0;
  private losses = 0;
  private weight = 0;

  constructor(
    private readonly arena: Arena,
    private readonly compute: Compute,
    private readonly own: OwnPart,
    private readonly arrangement: Arrangement,
    private readonly program: TrainProgram,
    private readonly prices: TrainingPrices,
    vocabulary: number,
  ) {
    const { ctx } = arrangement.choice;
    this.setStep(step.rowsAt, own.rowsAt);
    this.setStep(step.picksAt, own.picksAt);
    this.setStep(step.logitsAt, program.logitsAt);
    this.setStep(step.vocabulary, vocabulary);
    this.setStep(step.ctx, ctx);
    for (let pos = 0; pos < ctx; pos++) arena.u32[(own.rowsAt + pos * RowRecord.bytes + RowRecord.at.pos) >> 2] = pos;
  }

  get isBusy(): boolean {
    return this.opAt !== 0;
  }

  // ── Before it runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Targets and rows of the batch in the region. */
  measure(sequences: number): { readonly targets: number; readonly tokens: number } {
    let [targets, tokens] = [0, 0];
    this.eachSequence(sequences, (rows, from) => {
      targets += rows - from;
      tokens += rows;
    });
    return { targets, tokens };
  }

  /** What the batch in the region takes. */
  bound(s: Step, sequences: number): BatchBound {
    const { prices } = this;
    const { method, picks } = this.arrangement.choice;
    const isLearned = s.kind === TRAIN_BATCH.learn;
    const [forward, loss] = this.segmentsOf(s);
    const isBack = isLearned && this.program.segments.backward !== 0;
    let once = 0;
    this.eachSequence(sequences, (rows, from) => {
      once += prices.segment(forward, rows) + prices.groups(loss, rows, rows - from, picks);
      if (isBack) once += prices.segment('backward', rows);
    });
    const [perturb, gather] = [prices.segment('perturb', 1), prices.segment('gather', 1)];
    let cycles = once;
    if (method === 'nes') cycles = isLearned ? s.directions * (2 * (perturb + once) + gather) : perturb + once;
    if (method === 'fmea' && isLearned) cycles = s.directions * (perturb + once + gather);
    if (!isLearned || s.update === 0) return { cycles, undo: 0 };
    return { cycles: cycles + updateCycles(prices), undo: prices.segment('undo', 1) };
  }

  private eachSequence(sequences: number, use: (rows: number, from: number) => void): void {
    const { u32 } = this.arena;
    let at = this.own.batchAt >> 2;
    for (let i = 0; i < sequences; i++) {
      const n = u32[at]!;
      use(n - 1, u32[at + 1]!);
      at += TRAIN_SEQUENCE_WORDS + n;
    }
  }

  /** What a batch of that kind runs over each sequence, and over its picks. */
  private segmentsOf({ kind }: Step): readonly [TrainSegment, TrainSegment] {
    if (kind === TRAIN_BATCH.measureQuantised) return ['forwardQuantised', 'scoreQuantised'];
    const { method } = this.arrangement.choice;
    return ['forward', kind === TRAIN_BATCH.learn && method !== 'nes' ? 'loss' : 'score'];
  }

  // ── It runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The batch in the region begins. */
  begin(s: Step, sequences: number): void {
    const { method } = this.arrangement.choice;
    const { targets, tokens } = this.measure(sequences);
    this.step = s;
    this.sequences = sequences;
    this.outcome = { loss: 0, targets, tokens, gradientNorm: 0, distance: 0 };
    this.direction = 0;
    this.losses = 0;
    this.weight = 1 / (s.tokens === 0 ? targets : s.tokens);
    this.setReal(block.weight, this.weight);
    this.clearSums();
    if (method === 'nes' || (method === 'fmea' && s.kind === TRAIN_BATCH.learn)) this.perturb();
    else this.beginSequences();
  }

  /** hot: what the next op takes. */
  get next(): number {
    return chargeOf(this.arena.u32, this.own.stepAt, this.opAt);
  }

  /** hot: runs ops until the next one would pass `limit`, but at least one; what they were charged. */
  slice(limit: number): number {
    const { arena, compute } = this;
    const { stepAt } = this.own;
    const i = (stepAt + step.cycles) >> 2;
    arena.u32[i] = 0;
    arena.u32[i + 1] = 0;
    let spent = 0;
    do {
      const fault = compute.run_op(stepAt, this.opAt);
      spent = arena.u32[i]! + arena.u32[i + 1]! * 4294967296;
      this.opAt += PLAN_RECORD.bytes;
      if (fault !== FAULT.none) this.fail(fault === FAULT.nan ? 'a value is not finite' : 'an index lies outside');
      else if (arena.u32[this.opAt >> 2] === 0) this.follow();
    } while (this.opAt !== 0 && spent + this.next <= limit);
    return spent;
  }

  /** A segment has ended: what follows from it. */
  private follow(): void {
    switch (this.segment) {
      case 'perturb':
        return this.beginSequences();
      case 'forward':
      case 'forwardQuantised':
        this.group = this.from;
        return this.beginGroup();
      case 'loss':
      case 'score':
      case 'scoreQuantised':
        return this.groupEnded();
      case 'backward':
        return this.sequenceEnded();
      case 'gather':
        return this.gathered();
      case 'measure':
        return this.measured();
      case 'update':
        return this.start('check', 1);
      case 'check':
        return this.checked();
      case 'undo':
        return this.start('zero', 1);
      case 'zero':
        this.opAt = 0;
    }
  }

  /** A segment begins; one without ops, or that the plan does not have, has ended. */
  private start(segment: TrainSegment, rows: number): void {
    this.segment = segment;
    this.setStep(step.n, rows);
    this.opAt = this.program.segments[segment];
    if (this.opAt === 0 || this.arena.u32[this.opAt >> 2] === 0) this.follow();
  }

  // ── Sequences ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private beginSequences(): void {
    this.sequence = 0;
    this.wordsAt = this.own.batchAt;
    this.beginSequence();
  }

  /** Writes the rows of a sequence and what follows each; the last id is only a target. */
  private beginSequence(): void {
    const { u32 } = this.arena;
    const words = this.wordsAt >> 2;
    const ids = words + TRAIN_SEQUENCE_WORDS;
    this.rows = u32[words]! - 1;
    this.from = u32[words + 1]!;
    const [rows, targets] = [this.own.rowsAt >> 2, this.own.targetsAt >> 2];
    for (let i = 0; i < this.rows; i++) {
      u32[rows + (i * RowRecord.bytes + RowRecord.at.token) / 4] = u32[ids + i]!;
      u32[targets + i] = i < this.from ? NO_TARGET : u32[ids + i + 1]!;
    }
    this.start(this.segmentsOf(this.step)[0], this.rows);
  }

  /** The next rows whose logits are wanted. */
  private beginGroup(): void {
    const { u8 } = this.arena;
    const m = Math.min(this.arrangement.choice.picks, this.rows - this.group);
    for (let i = 0; i < m; i++) PickRecord.write(u8, this.own.picksAt + i * PickRecord.bytes, { row: this.group + i });
    this.group += m;
    this.setStep(step.picks, m);
    this.start(this.segmentsOf(this.step)[1], this.rows);
  }

  private groupEnded(): void {
    if (!Number.isFinite(this.real64(block.loss)) || !Number.isFinite(this.real64(block.slope)))
      return this.fail('the loss is not finite');
    if (this.group < this.rows) return this.beginGroup();
    if (this.step.kind === TRAIN_BATCH.learn && this.program.segments.backward !== 0) this.start('backward', this.rows);
    else this.sequenceEnded();
  }

  private sequenceEnded(): void {
    this.wordsAt += 4 * (TRAIN_SEQUENCE_WORDS + this.rows + 1);
    this.sequence++;
    if (this.sequence < this.sequences) this.beginSequence();
    else this.sequencesEnded();
  }

  /** All sequences have been gone through, once. */
  private sequencesEnded(): void {
    const { method } = this.arrangement.choice;
    if (this.step.kind === TRAIN_BATCH.learn && method === 'nes') return this.perturbed();
    this.outcome.loss = this.real64(block.loss);
    if (this.step.kind !== TRAIN_BATCH.learn) this.opAt = 0;
    else if (method === 'fmea') this.gather(this.real64(block.slope) / this.step.directions);
    else this.learned();
  }

  private clearSums(): void {
    this.setReal64(block.loss, 0);
    this.setReal64(block.slope, 0);
    this.setBlock(block.count, 0);
  }

  // ── Directions ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private isLearningNes(): boolean {
    return this.arrangement.choice.method === 'nes' && this.step.kind === TRAIN_BATCH.learn;
  }

  /** The normals of the direction at hand: of fmea the tangents themselves; of nes added and taken away; nothing is added to what is only measured. */
  private perturb(): void {
    const { sigma } = this.step;
    this.seed();
    this.setReal(block.sigma, this.isLearningNes() ? (this.losses % 2 === 0 ? sigma : -sigma) : this.isFmea() ? 1 : 0);
    this.start('perturb', 1);
  }

  private isFmea(): boolean {
    return this.arrangement.choice.method === 'fmea';
  }

  private seed(): void {
    this.setBlock(block.seedLow, this.step.seedLow);
    this.setBlock(block.seedHigh, this.step.seedHigh + this.direction);
  }

  /** The gradients take so much of the direction at hand. */
  private gather(coefficient: number): void {
    this.seed();
    this.setReal(block.coefficient, coefficient);
    this.start('gather', 1);
  }

  private gathered(): void {
    this.direction++;
    if (this.direction === this.step.directions) return this.learned();
    if (!this.isFmea()) return this.gather(this.pairWeight(this.direction));
    this.clearSums();
    this.perturb();
  }

  /** The losses at one perturbation are there. */
  private perturbed(): void {
    const { f64 } = this.arena;
    const { directions } = this.step;
    const loss = this.real64(block.loss);
    f64[(this.own.lossesAt >> 3) + this.losses] = loss;
    this.losses++;
    this.outcome.loss += loss / (2 * directions);
    this.clearSums();
    if (this.losses === 2 * directions) {
      this.direction = 0;
      return this.gather(this.pairWeight(0));
    }
    this.direction = this.losses >> 1;
    this.perturb();
  }

  /**
   * Of the gradient of the loss, which is that of the fitness turned round: ĝ = 1/(2Mσ) · Σ [L(θ + σε) − L(θ − σε)] ε, L the mean loss; or with
   * rank utilities of all 2M fitnesses in their place.
   */
  private pairWeight(pair: number): number {
    const { directions, ranked, sigma } = this.step;
    const lossAt = this.own.lossesAt >> 3;
    const losses = Array.from({ length: 2 * directions }, (_, i) => this.arena.f64[lossAt + i]!);
    const cost = ranked === 0 ? losses.map(l => l * this.weight) : rankUtilities(losses.map(l => -l)).map(u => -u);
    return (cost[2 * pair]! - cost[2 * pair + 1]!) / (2 * directions * sigma);
  }

  // ── The update ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The gradients of this batch are there. */
  private learned(): void {
    if (this.step.update === 0) {
      this.opAt = 0;
      return;
    }
    this.clearSquares();
    this.start('measure', 1);
  }

  private measured(): void {
    const s = this.step;
    const norm = Math.sqrt(this.real64(block.squares));
    const distance = Math.sqrt(this.real64(block.distance));
    this.outcome.gradientNorm = norm;
    this.outcome.distance = distance;
    if (!Number.isFinite(norm) || !Number.isFinite(distance)) return this.fail('the gradient is not finite');
    if (this.frozen) return this.start('zero', 1);
    const count = this.steps + 1;
    this.setReal(block.times, s.clip > 0 && norm > s.clip ? s.clip / norm : 1);
    this.setReal(block.rate, s.rate);
    this.setReal(block.beta1, s.beta1);
    this.setReal(block.beta2, s.beta2);
    this.setReal(block.correction1, 1 - power(s.beta1, count));
    this.setReal(block.correction2, 1 - power(s.beta2, count));
    this.setReal(block.epsilon, s.epsilon);
    this.setReal(block.decay, s.decay);
    this.setReal(block.anchor, s.anchor);
    this.clearSquares();
    this.start('update', 1);
  }

  /** The update is made; it is taken back where it has led to no numbers, or too far from where the parameters began. */
  private checked(): void {
    const squares = this.real64(block.squares);
    const distance = Math.sqrt(this.real64(block.distance));
    if (!Number.isFinite(squares) || !Number.isFinite(distance)) {
      this.fault = 'the update leads to values that are not finite';
      return this.start('undo', 1);
    }
    if (this.step.distanceMax > 0 && distance > this.step.distanceMax) {
      this.frozen = true;
      return this.start('undo', 1);
    }
    this.outcome.distance = distance;
    this.steps++;
    this.start('zero', 1);
  }

  private clearSquares(): void {
    this.setReal64(block.squares, 0);
    this.setReal64(block.distance, 0);
  }

  private fail(why: string): void {
    const isVector = this.prices.isOverVector(this.segment);
    this.fault = isVector ? `${why} in ${this.segment}` : `${why} in ${this.segment} of sequence ${this.sequence + 1}`;
    this.opAt = 0;
  }

  // ── Memory ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private setStep(field: number, value: number): void {
    this.arena.i32[(this.own.stepAt + field) >> 2] = value;
  }
  private setBlock(field: number, value: number): void {
    this.arena.u32[(this.own.blockAt + field) >> 2] = value;
  }
  private setReal(field: number, value: number): void {
    this.arena.f32[(this.own.blockAt + field) >> 2] = value;
  }
  private real64(field: number): number {
    return this.arena.f64[(this.own.blockAt + field) >> 3]!;
  }
  private setReal64(field: number, value: number): void {
    this.arena.f64[(this.own.blockAt + field) >> 3] = value;
  }
}

/** What changes the parameters, behind the gradients, where the update is not taken back. */
export function updateCycles(prices: TrainingPrices): number {
  const segments = ['measure', 'update', 'check', 'zero'] as const;
  return segments.reduce((sum, name) => sum + prices.segment(name, 1), 0);
}

/** x to the n-th by squaring: the same on every engine, and whether or not a training has been resumed. */
function power(x: number, n: number): number {
  let result = 1;
  for (; n > 0; n = Math.floor(n / 2)) {
    if (n % 2 === 1) result *= x;
    x *= x;
  }
  return result;
}

/** hot: what the op at `opAt` is charged: over picks, or over rows at positions 0 … n − 1. */
function chargeOf(u32: Uint32Array, stepAt: number, opAt: number): number {
  const isHead = (u32[(opAt >> 2) + PLAN_RECORD.flags]! & PLAN_RECORD.flagHead) !== 0;
  const n = u32[(stepAt + (isHead ? step.picks : step.n)) >> 2]!;
  const tokens = (u32[(opAt >> 2) + PLAN_RECORD.tokens]! >> 2) + 2 * n;
  const positions = u32[(opAt >> 2) + PLAN_RECORD.positions]! >> 2;
  let cycles = u32[tokens]! + u32[tokens + 1]! * 4294967296;
  if (positions === 0) return cycles;
  for (let i = positions; i < positions + 2 * n; i += 2) cycles += u32[i]! + u32[i + 1]! * 4294967296;
  return cycles;
}
