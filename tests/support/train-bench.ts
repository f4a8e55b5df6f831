// A bench of sessions with a training beside them: opened, given batches, read and written as programs do, or kept busy while schedules run.

import {
  isRefusal,
  TRAIN_METHODS,
  TRAIN_STATE,
  TRAIN_TARGETS,
  TRAIN_VECTORS,
  TrainStep,
  type RecordValue,
  type Refusal,
  type TrainMethod,
  type TrainOptions,
  type TrainState,
} from '../../kernel/abi/index.ts';
import type { Trainer } from '../../kernel/train/trainer.ts';
import { PlainTraining } from './plain-training.ts';
import { Bench, PID } from './service.ts';

export type Options = RecordValue<typeof TrainOptions.fields>;
export type Step = RecordValue<typeof TrainStep.fields>;
export type State = RecordValue<typeof TrainState.fields>;
export type Sequences = readonly (readonly number[])[];

const ROOT = { pid: PID, uid: 0, groups: [] };
/** Cycles that a batch takes to come from storage, at most. */
const GIVING = 4e6;
const BUSY = TRAIN_STATE.indexOf('busy');

/** Options of a training of q and v. */
export function optionsOf(method: TrainMethod, more: Partial<Options> = {}): Options {
  return {
    method: TRAIN_METHODS.indexOf(method),
    targets: (1 << TRAIN_TARGETS.indexOf('q')) | (1 << TRAIN_TARGETS.indexOf('v')),
    rank: 2,
    alpha: 4,
    ctx: 16,
    batch: 2,
    optimizer: 0,
    anchored: 0,
    checkpoint: 0,
    picks: 0,
    seed: 42,
    sharePpm: 100_000,
    periodNs: 0,
    ...more,
  };
}

export const STEP: Step = {
  kind: 0,
  update: 1,
  directions: 2,
  ranked: 0,
  seedLow: 1,
  seedHigh: 0,
  rate: 0.01,
  clip: 0,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  decay: 0,
  anchor: 0,
  distanceMax: 0,
  sigma: 0.01,
  tokens: 0,
};

export function given<T>(r: T | Refusal): T {
  if (isRefusal(r)) throw new Error(r.message);
  return r;
}
export const refusedWith = (r: unknown): string => (isRefusal(r) ? r.message : 'not refused');

export class TrainBench extends Bench {
  handle = 0;
  /** Batches that the training is given one after the other while schedules run; null: it gets none. */
  feed: (() => readonly [Sequences, Partial<Step>]) | null = null;

  private transfers = 0;

  /** Cycles that batches have taken to come from storage since the last time. */
  transferred(): number {
    const cycles = this.transfers;
    this.transfers = 0;
    return cycles;
  }

  get trainer(): Trainer {
    return this.kernel.sessions.training;
  }

  /** In place of the engine's own. */
  plain(more = 0): void {
    Object.assign(this.engine, { training: new PlainTraining(this.machine.arena, this.engine, more) });
  }

  open(o: Options, by = ROOT): number {
    this.handle = given(this.trainer.begin(by, o));
    return this.handle;
  }

  private get training(): Exclude<ReturnType<Trainer['own']>, Refusal> {
    return given(this.trainer.own(this.handle, ROOT));
  }

  close(): void {
    this.trainer.end(this.training);
  }

  /** A batch of words as they are. */
  giveWords(words: readonly number[], s: Partial<Step> = {}, more: readonly number[] = []): number | Refusal {
    const { vfs, lay } = this.kernel;
    const { u8 } = this.machine.arena;
    const file = vfs.memfd('batch');
    if (typeof file === 'number') throw new Error('no file for the batch');
    const bytes = [...new Uint8Array(Uint32Array.from(words).buffer), ...more];
    for (let at = 0; at < bytes.length; at += 8192) {
      const piece = bytes.slice(at, at + 8192);
      u8.set(piece, lay.dmaAt);
      file.write(lay.dmaAt, piece.length);
    }
    file.seek(0, 0);
    const from = this.kernel.clock.cycles();
    const record = new Uint8Array(TrainStep.bytes);
    TrainStep.write(record, 0, { ...STEP, ...s });
    const r = this.trainer.give(this.training, file, TrainStep.read(record, 0));
    this.transfers += this.kernel.clock.cycles() - from;
    file.close();
    return r;
  }

  give(sequences: Sequences, s: Partial<Step> = {}, from = 0): number | Refusal {
    return this.giveWords(
      sequences.flatMap(ids => [ids.length, from, ...ids]),
      s,
    );
  }

  get state(): State {
    return this.trainer.state(this.training);
  }
  get isBusy(): boolean {
    return this.state.state === BUSY;
  }

  /** Runs the batch at hand to its end. */
  settle(): State {
    while (this.isBusy) if (!this.step()) throw new Error('nothing can run, and a batch is under way');
    return this.state;
  }

  /** Learns from a batch, to its end. */
  learn(sequences: Sequences, s: Partial<Step> = {}, from = 0): State {
    given(this.give(sequences, s, from));
    return this.settle();
  }

  /** A vector of its state. */
  vector(name: (typeof TRAIN_VECTORS)[number]): Uint8Array {
    const { at, bytes } = given(this.trainer.vector(this.training, TRAIN_VECTORS.indexOf(name)));
    return this.machine.arena.u8.slice(at, at + bytes);
  }

  put(name: (typeof TRAIN_VECTORS)[number], value: Uint8Array): void {
    const { at } = given(this.trainer.vector(this.training, TRAIN_VECTORS.indexOf(name)));
    this.machine.arena.u8.set(value, at);
  }

  resume(steps: number, frozen = 0): Refusal | null {
    return this.trainer.resume(this.training, steps, frozen);
  }

  override step(): boolean {
    const { sessions } = this.kernel;
    if (this.feed !== null && !this.isBusy && sessions.mayTake(GIVING)) given(this.give(...this.feed()));
    return super.step();
  }
}
