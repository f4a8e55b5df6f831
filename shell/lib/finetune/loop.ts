// The loop of a training: batches in a seeded order, learning rates by their schedule, looks at the held-out part, checkpoints. Where it stands is
// the number of updates alone: everything else follows from it, so that a training that was stopped goes on to the same bytes.

import { E, LIMITS, SEEK, TRAIN_BATCH, TRAIN_STATE } from '../../../kernel/abi/index.ts';
import type { Sys } from '../../../kernel/abi/index.ts';
import { times } from '../fmt.ts';
import { lastError } from '../program.ts';
import type { Progress } from './checkpoint.ts';
import type { Device, State, Step } from './device.ts';
import type { HeldLine, StepLine } from './log.ts';
import type { Settings } from './options.ts';
import { mixed, permuted } from './permutation.ts';
import { rateAt } from './schedule.ts';
import type { Sequences } from './sequences.ts';

/** How many sequences there are, and what becomes of them. */
export interface Course {
  readonly sequences: number;
  readonly heldOut: number;
  readonly stepsPerEpoch: number;
  readonly steps: number;
}

/** Steps from one checkpoint to the next when nothing is said. */
const EVERY_DEFAULT = 50;
/** Sequences that are measured where none are held out. */
export const MEASURED_MAX = 32;
const ADAM = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 } as const;

/** The course of a training over so many sequences. At least one is trained on; at least one is held out where a part is. */
export function courseOf(s: Settings, sequences: number): Course {
  const part = Math.round(s.val * sequences);
  const heldOut = Math.min(part, sequences - 1);
  const stepsPerEpoch = Math.ceil((sequences - heldOut) / (s.batch * s.accumulate));
  return { sequences, heldOut, stepsPerEpoch, steps: s.epochs === 0 ? s.steps : s.epochs * stepsPerEpoch };
}

/** Which sequence is the `i`-th of the held-out ones. */
export const heldOutAt = (s: Settings, c: Course, i: number): number => permuted(i, c.sequences, s.seed, 0);

/** Which sequence is the `i`-th of an epoch, from 0. */
export function trainedAt(s: Settings, c: Course, epoch: number, i: number): number {
  const place = permuted(i, c.sequences - c.heldOut, s.seed, epoch + 1);
  return permuted(c.heldOut + place, c.sequences, s.seed, 0);
}

/** How a loop ends: at its end, one way or the other; by a signal; by a batch that faulted or was refused (without a message: it is told already). */
export interface Finished {
  readonly kind: 'done' | 'patience' | 'frozen';
}
export interface Stopped {
  readonly kind: 'stopped';
}
export interface Failed {
  readonly kind: 'failed';
  readonly message: string;
}
export type Ending = Finished | Stopped | Failed;

/** Whoever runs a loop. What returns a number returns 0, or something else after a message: then the loop ends. */
export interface Keeper {
  stepped(line: StepLine): Generator<void, number, void>;
  looked(line: HeldLine): Generator<void, number, void>;
  /** While a batch is under way. */
  waiting(state: State): Generator<void, void, void>;
  /** The parameters are the best so far, at that step: they are to be kept. */
  best(step: number): Generator<void, number, void>;
  checkpoint(progress: Progress): Generator<void, number, void>;
}

/** Of one or more batches. */
interface Loss {
  readonly sum: number; // Σ -ln p
  readonly targets: number;
  readonly tokens: number;
  readonly cycles: number;
  readonly most: number; // cycles, as the plan bounds them
}
type Outcome<T> = Generator<void, T | Failed | Stopped, void>;

const mean = (loss: Loss): number => loss.sum / loss.targets;

const STOPPED: Stopped = { kind: 'stopped' };
const TOLD: Failed = { kind: 'failed', message: '' };
const NOTHING: Loss = { sum: 0, targets: 0, tokens: 0, cycles: 0, most: 0 };
const together = (a: Loss, b: Loss): Loss => ({
  sum: a.sum + b.sum,
  targets: a.targets + b.targets,
  tokens: a.tokens + b.tokens,
  cycles: a.cycles + b.cycles,
  most: a.most + b.most,
});
/** What became of a part of the loop: it is over, for one reason or the other, or has what it was for. */
export const isOver = (outcome: object): outcome is Failed | Stopped => 'kind' in outcome;

export const BEGINNING: Progress = {
  step: 0,
  best: null,
  stale: 0,
  looked: -1,
  first: null,
  held: null,
  began: null,
  loss: null,
  tokens: 0,
  measured: 0,
  cycles: 0,
  elapsedNs: 0,
  logBytes: 0,
};

/** What a loop works with. */
export interface LoopParts {
  readonly sys: Sys;
  readonly device: Device;
  readonly settings: Settings;
  readonly course: Course;
  readonly sequences: Sequences;
  readonly keeper: Keeper;
  /** Milliseconds from one call of Keeper.waiting to the next; -1: none. */
  readonly waitMs: number;
}

export class Loop {
  private stopping = false;
  private saved: Progress | null = null;
  private batchFd = -1;
  private sinceNs = 0; // all but what `progress` counts

  constructor(
    private readonly parts: LoopParts,
    public progress: Progress,
  ) {}

  /** Trains to the end, or until a signal comes. What happened up to the last update is in `progress`, and on the device. */
  *run(): Generator<void, Ending, void> {
    const { sys } = this.parts;
    this.sinceNs = (yield* times(sys)).nowNs - this.progress.elapsedNs;
    const ending = yield* this.steps();
    // Whatever the reason, it can go on from here.
    return (yield* this.save()) || ending.kind === 'failed' ? ending : TOLD;
  }

  /** A checkpoint of where the loop stands, once. */
  private *save(): Generator<void, boolean, void> {
    if (this.progress === this.saved) return true;
    this.saved = this.progress;
    return (yield* this.parts.keeper.checkpoint(this.progress)) === 0;
  }

  private *steps(): Generator<void, Ending, void> {
    const { settings, course } = this.parts;
    for (;;) {
      const looked = yield* this.look(this.isDue(this.progress.step, settings.every));
      if (isOver(looked)) return looked;
      const { step, stale } = this.progress;
      if (step > 0 && (looked.better || this.isDue(step, settings.every || EVERY_DEFAULT)))
        if (!(yield* this.save())) return TOLD;
      if (settings.patience > 0 && stale >= settings.patience) return { kind: 'patience' };
      if (step >= course.steps) return { kind: 'done' };
      const updated = yield* this.update();
      if (isOver(updated)) return updated;
      if (!updated.frozen) continue;
      const last = yield* this.look(true);
      return isOver(last) ? last : { kind: 'frozen' };
    }
  }

  private isDue(step: number, every: number): boolean {
    const { stepsPerEpoch, steps } = this.parts.course;
    return step % stepsPerEpoch === 0 || step === steps || (every > 0 && step % every === 0);
  }

  // ── Updates ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The next update: all batches up to it, the last of which makes it. */
  private *update(): Outcome<{ readonly frozen: boolean }> {
    const { settings, course, device, keeper } = this.parts;
    const { step } = this.progress;
    const epoch = Math.floor(step / course.stepsPerEpoch);
    const perStep = settings.batch * settings.accumulate;
    const from = (step % course.stepsPerEpoch) * perStep;
    const to = Math.min(from + perStep, course.sequences - course.heldOut);
    const picked = Array.from({ length: to - from }, (_, i) => trainedAt(settings, course, epoch, from + i));
    const targets = yield* this.targetsOf(picked);
    if (typeof targets !== 'number') return targets;
    const rate = rateAt(
      { name: settings.schedule, rate: settings.lr, warmup: settings.warmup, steps: course.steps },
      step,
    );
    let loss = NOTHING;
    for (let at = 0; at < picked.length; at += settings.batch) {
      const last = at + settings.batch >= picked.length;
      const batch = step * settings.accumulate + at / settings.batch;
      const record = this.learning(rate, targets, batch, last);
      const part = yield* this.batch(picked.slice(at, at + settings.batch), record);
      if (isOver(part)) return part;
      loss = together(loss, part);
      if (this.stopping && !last) return STOPPED; // the batches before the update are done again
    }
    const { state } = device;
    if (state.frozen !== 0) return { frozen: true };
    const elapsedNs = yield* this.elapsed();
    const { tokens, cycles, began } = this.progress;
    const about = { tokens: tokens + loss.tokens, cycles: cycles + loss.cycles, elapsedNs };
    this.progress = { ...this.progress, ...about, step: step + 1, began: began ?? mean(loss), loss: mean(loss) };
    const line: StepLine = {
      step: step + 1,
      epoch: epoch + 1,
      loss: mean(loss),
      rate,
      gradient_norm: state.gradientNorm,
      distance: settings.anchor > 0 || settings.max_delta > 0 ? state.distance : null,
      targets: loss.targets,
      tokens: loss.tokens,
      cycles: loss.cycles,
      cycles_most: loss.most,
      elapsed_ns: elapsedNs,
    };
    return (yield* keeper.stepped(line)) === 0 ? { frozen: false } : TOLD;
  }

  private learning(rate: number, targets: number, batch: number, update: boolean): Step {
    const { settings } = this.parts;
    const adam = settings.optimizer === 'adam' ? ADAM : { beta1: 0, beta2: 0, epsilon: 0 };
    return {
      kind: TRAIN_BATCH.learn,
      update: update ? 1 : 0,
      directions: settings.directions,
      ranked: settings.ranked ? 1 : 0,
      seedLow: mixed(settings.seed),
      seedHigh: Math.imul(batch, LIMITS.directionsMax) >>> 0,
      rate,
      clip: settings.clip,
      ...adam,
      decay: settings.decay,
      anchor: settings.anchor,
      distanceMax: settings.max_delta,
      sigma: settings.sigma,
      tokens: targets,
    };
  }

  // ── Looks at the held-out part ─────────────────────────────────────────────────────────────────────────────────────────────────

  /** Measures the held-out part, where that is due at this step and was not done yet. */
  private *look(isDue: boolean): Outcome<{ readonly better: boolean }> {
    const { course, keeper } = this.parts;
    const { step, looked, best } = this.progress;
    if (course.heldOut === 0 || looked === step || !isDue) return { better: false };
    const loss = yield* this.measure(TRAIN_BATCH.measure);
    if (isOver(loss)) return loss;
    const held = mean(loss);
    const better = best === null || held < best.loss;
    this.progress = {
      ...this.progress,
      best: better ? { step, loss: held } : best,
      stale: better ? 0 : this.progress.stale + 1,
      looked: step,
      first: this.progress.first ?? held,
      held,
      elapsedNs: yield* this.elapsed(),
    };
    if ((yield* keeper.looked({ step, held_out_loss: held, targets: loss.targets })) !== 0) return TOLD;
    if (better && step > 0 && (yield* keeper.best(step)) !== 0) return TOLD;
    return { better };
  }

  /** The mean loss over the held-out part, or where nothing is held out over the first sequences: of the parameters as they are. */
  *finalLoss(kind: number): Outcome<{ readonly loss: number }> {
    const loss = yield* this.measure(kind);
    return isOver(loss) ? loss : { loss: mean(loss) };
  }

  private *measure(kind: number): Outcome<Loss> {
    const { settings, course } = this.parts;
    const count = course.heldOut || Math.min(course.sequences, MEASURED_MAX);
    let loss = NOTHING;
    for (let at = 0; at < count; at += settings.batch) {
      const length = Math.min(settings.batch, count - at);
      const picked = Array.from({ length }, (_, i) => heldOutAt(settings, course, at + i));
      const part = yield* this.batch(picked, { ...this.learning(0, 0, 0, false), kind });
      if (isOver(part)) return part;
      loss = together(loss, part);
      this.progress = { ...this.progress, measured: this.progress.measured + part.tokens };
      if (this.stopping && at + length < count) return STOPPED;
    }
    return loss;
  }

  // ── Batches ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private *targetsOf(picked: readonly number[]): Outcome<number> {
    let targets = 0;
    for (const i of picked) {
      const sequence = yield* this.parts.sequences.find(i);
      if (typeof sequence === 'number') return yield* this.failed(sequence);
      targets += sequence.targets;
    }
    return targets;
  }

  /** Has the device do these sequences, and waits for it. */
  private *batch(picked: readonly number[], step: Step): Outcome<Loss> {
    const { sys, device, sequences } = this.parts;
    if (this.batchFd < 0) this.batchFd = yield* sys.memfd('batch');
    if (this.batchFd < 0) return yield* this.failed(this.batchFd);
    yield* sys.ftruncate(this.batchFd, 0);
    yield* sys.lseek(this.batchFd, 0, SEEK.set);
    for (const i of picked) {
      const sequence = yield* sequences.find(i);
      const status = typeof sequence === 'number' ? sequence : yield* sequences.copy(sequence, this.batchFd);
      if (status < 0) return yield* this.failed(status);
    }
    yield* sys.lseek(this.batchFd, 0, SEEK.set);
    if (this.stopping || sys.signalled()) return STOPPED;
    const given = yield* device.give(this.batchFd, step);
    if (given < 0) return yield* this.failed(given);
    const waited = yield* this.wait();
    if (waited < 0) return yield* this.failed(waited);
    const { state, message, loss, targets, tokens, cycles, cyclesMost } = device.state;
    if (TRAIN_STATE[state] !== 'idle') return { kind: 'failed', message };
    return { sum: loss, targets, tokens, cycles, most: cyclesMost };
  }

  /** Until the batch is done, which a signal does not keep it from. 1, or -errno. */
  private *wait(): Generator<void, number, void> {
    const { sys, device, keeper, waitMs } = this.parts;
    for (;;) {
      const done = yield* device.wait(waitMs);
      if (done === -E.INTR) {
        this.stopping = true;
        yield* sys.signals();
      } else if (done !== 0) return done;
      else yield* keeper.waiting(device.state);
    }
  }

  private *failed(errno: number): Generator<void, Failed, void> {
    return { kind: 'failed', message: yield* lastError(this.parts.sys, errno) };
  }

  /** Machine time since the training began, without what it was not running. */
  private *elapsed(): Generator<void, number, void> {
    return (yield* times(this.parts.sys)).nowNs - this.sinceNs;
  }
}
