// The training device as programs use it: the calls train_…, with their records read and written, and its state as one stream of bytes.

import { E, TRAIN_COLUMNS, TRAIN_VECTORS, TrainReport, TrainState, TrainStep } from '../../../kernel/abi/index.ts';
import type { RecordValue, Sys, TrainTensor } from '../../../kernel/abi/index.ts';
import { readText } from '../files.ts';
import { CHUNK_BYTES } from '../stdio.ts';

export type Report = RecordValue<typeof TrainReport.fields>;
export type Step = RecordValue<typeof TrainStep.fields>;
export type State = RecordValue<typeof TrainState.fields>;
export type VectorName = (typeof TRAIN_VECTORS)[number];

/** What training with these TrainOptions would take, or -errno. */
export function* planTraining(sys: Sys, options: Uint8Array): Generator<void, Report | number, void> {
  const record = new Uint8Array(TrainReport.bytes);
  const result = yield* sys.train_plan(options, record);
  return result < 0 ? result : TrainReport.read(record, 0);
}

/** The trained tensors of the training that is open, or -errno. */
export function* trainedTensors(sys: Sys): Generator<void, TrainTensor[] | number, void> {
  const text = yield* readText(sys, '/proc/traintensors');
  if (typeof text === 'number') return text;
  const [head = '', ...lines] = text.trimEnd().split('\n');
  const columns = head.split('\t');
  return lines.map(line => {
    const cells = line.split('\t');
    const cell = (name: (typeof TRAIN_COLUMNS)[number]): string => cells[columns.indexOf(name)]!;
    return {
      name: cell('name'),
      columns: Number(cell('columns')),
      rows: Number(cell('rows')),
      from: Number(cell('from')),
    };
  });
}

/** A training that is open. */
export class Device {
  private readonly stepRecord = new Uint8Array(TrainStep.bytes);
  private readonly stateRecord = new Uint8Array(TrainState.bytes);

  constructor(
    private readonly sys: Sys,
    readonly handle: number,
  ) {}

  /** Gives it the batch that `fd` holds from its position on: its targets, or -errno. */
  *give(fd: number, step: Step): Generator<void, number, void> {
    TrainStep.write(this.stepRecord, 0, step);
    return yield* this.sys.train_batch(this.handle, fd, this.stepRecord);
  }

  /** Waits so many milliseconds at most (-1: for ever): 1 when the batch is done, 0 when not, -EINTR after a signal, or -errno. */
  *wait(milliseconds: number): Generator<void, number, void> {
    return yield* this.sys.train_wait(this.handle, this.stateRecord, milliseconds);
  }

  /** As the last wait that was not refused has found it. */
  get state(): State {
    return TrainState.read(this.stateRecord, 0);
  }

  /** f32 values of a vector from a byte on: bytes read, 0 at its end, or -errno. */
  *read(vector: VectorName, from: number, buffer: Uint8Array): Generator<void, number, void> {
    return yield* this.sys.train_read(this.handle, TRAIN_VECTORS.indexOf(vector), from, buffer);
  }

  /** A vector, piece by piece, to whoever takes it: its bytes, or -errno. */
  *drain(
    vector: VectorName,
    take: (bytes: Uint8Array) => Generator<void, number, void>,
  ): Generator<void, number, void> {
    const buffer = new Uint8Array(CHUNK_BYTES);
    for (let at = 0; ;) {
      const n = yield* this.read(vector, at, buffer);
      if (n <= 0) return n < 0 ? n : at;
      const status = yield* take(buffer.subarray(0, n));
      if (status < 0) return status;
      at += n;
    }
  }

  /** A vector of `bytes` bytes from a descriptor: 0, or -errno. `see` is shown every piece. */
  *fill(
    vector: VectorName,
    fd: number,
    bytes: number,
    see: (bytes: Uint8Array) => void = () => {},
  ): Generator<void, number, void> {
    const buffer = new Uint8Array(CHUNK_BYTES);
    for (let at = 0; at < bytes;) {
      let n = yield* this.sys.read(fd, buffer.subarray(0, Math.min(buffer.length, bytes - at)));
      if (n <= 0 || n % 4 !== 0) return n < 0 ? n : -E.IO;
      see(buffer.subarray(0, n));
      const wrote = yield* this.write(vector, at, buffer.subarray(0, n));
      if (wrote < 0) return wrote;
      at += n;
    }
    return 0;
  }

  /** Writes values into a vector from a byte on: 0, or -errno. */
  *write(vector: VectorName, at: number, bytes: Uint8Array): Generator<void, number, void> {
    for (let done = 0; done < bytes.length;) {
      const piece = bytes.subarray(done, done + CHUNK_BYTES / 2); // call arguments and bytes share a window
      const wrote = yield* this.sys.train_write(this.handle, TRAIN_VECTORS.indexOf(vector), at + done, piece);
      if (wrote <= 0) return wrote < 0 ? wrote : -E.IO;
      done += wrote;
    }
    return 0;
  }
}
