// The system calls of training: arguments are decoded and rights to the training checked here; what they do is in trainer.ts.

import {
  BLOCKED,
  E,
  isRefusal,
  TrainOptions,
  TrainReport,
  TrainState,
  TrainStep,
  TRAIN_STATE,
  type CallName,
  type Handler,
  type Refusal,
} from '../abi/index.ts';
import type { OpenFile } from '../../vfs/file.ts';
import type { Arena } from '../arena.ts';
import type { Submitter } from '../session.ts';
import type { Sessions } from '../sessions.ts';
import type { Trainer } from './trainer.ts';

/** The caller of the call being served, and what the gate offers to handlers. */
export interface TrainGate {
  readonly requester: () => Submitter;
  readonly withFile: (fd: number, use: (file: OpenFile) => number) => number;
  /** Whether a call of so many cycles may run now. */
  readonly hasTime: (cycles: number) => boolean;
  /** BLOCKED until the caller has waited so long, then 0; done(): it waits no more. */
  readonly until: (milliseconds: number) => number;
  readonly done: () => void;
  readonly fail: (r: Refusal) => number;
}

type TrainCall = Extract<CallName, `train_${string}`>;
type TrainHandlers = { readonly [N in TrainCall]: Handler<N> };
type Training = Exclude<ReturnType<Trainer['own']>, Refusal>;

const BUSY = TRAIN_STATE.indexOf('busy');

export function trainCalls(
  { arena, sessions }: { readonly arena: Arena; readonly sessions: Sessions },
  gate: TrainGate,
): TrainHandlers {
  const { u8 } = arena;
  const { training } = sessions;
  const answer = (r: number | Refusal): number => (isRefusal(r) ? gate.fail(r) : r);
  const withTraining = (handle: number, use: (t: Training) => number | Refusal): number => {
    const t = training.own(handle, gate.requester());
    return answer(isRefusal(t) ? t : use(t));
  };
  /** Bytes of a vector from `from` on, as many as there are and as fit. */
  const part = (
    t: Training,
    vector: number,
    from: number,
    capacity: number,
  ): { at: number; bytes: number } | Refusal => {
    const v = training.vector(t, vector);
    if (isRefusal(v)) return v;
    return { at: v.at + from, bytes: Math.max(0, Math.min(capacity, v.bytes - from)) };
  };
  return {
    train_plan: (at, bytes, toAt, capacity) => {
      if (bytes < TrainOptions.bytes) return -E.INVAL;
      if (capacity < TrainReport.bytes) return -E.RANGE;
      const r = training.plan(gate.requester(), TrainOptions.read(u8, at));
      if (isRefusal(r)) return gate.fail(r);
      TrainReport.write(u8, toAt, r);
      return TrainReport.bytes;
    },
    train_open: (at, bytes) => {
      if (bytes < TrainOptions.bytes) return -E.INVAL;
      return answer(training.begin(gate.requester(), TrainOptions.read(u8, at)));
    },
    train_batch: (handle, fd, at, bytes) =>
      withTraining(handle, t =>
        gate.withFile(fd, file => {
          if (bytes < TrainStep.bytes) return -E.INVAL;
          if (!gate.hasTime(training.givingMax(t, file))) return BLOCKED;
          return answer(training.give(t, file, TrainStep.read(u8, at)));
        }),
      ),
    train_wait: (handle, at, capacity, milliseconds) =>
      withTraining(handle, t => {
        if (capacity < TrainState.bytes) return -E.RANGE;
        const state = training.state(t);
        TrainState.write(u8, at, state);
        if (state.state === BUSY) return milliseconds === 0 ? 0 : gate.until(milliseconds);
        gate.done();
        return 1;
      }),
    train_read: (handle, vector, from, at, capacity) =>
      withTraining(handle, t => {
        if (from < 0) return -E.INVAL;
        const p = part(t, vector, from, capacity);
        if (isRefusal(p)) return p;
        u8.copyWithin(at, p.at, p.at + p.bytes);
        return p.bytes;
      }),
    train_write: (handle, vector, from, at, capacity) =>
      withTraining(handle, t => {
        if (from < 0) return -E.INVAL;
        const p = part(t, vector, from, capacity);
        if (isRefusal(p)) return p;
        u8.copyWithin(p.at, at, at + p.bytes);
        return p.bytes;
      }),
    train_steps: (handle, steps, frozen) => withTraining(handle, t => training.resume(t, steps, frozen) ?? 0),
    train_close: handle =>
      withTraining(handle, t => {
        training.end(t);
        return 0;
      }),
  };
}
