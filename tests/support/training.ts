// A training as its files in the adapter store tell it: settings, the sequences that it was made of, the order in which they were taken, the
// log. What a test needs to do the same elsewhere.

import type { Machine } from '../../boot/machine.ts';
import { heldOutAt, trainedAt, type Course } from '../../shell/lib/finetune/loop.ts';
import type { HeldLine, LogLine, StepLine } from '../../shell/lib/finetune/log.ts';
import type { Settings } from '../../shell/lib/finetune/options.ts';
import type { Run } from '../../shell/lib/finetune/run.ts';

export interface TrainedSequence {
  readonly from: number; // the first position whose following token counts
  readonly ids: readonly number[];
}

export interface Training {
  readonly run: Run;
  readonly updates: readonly StepLine[];
  readonly looks: readonly HeldLine[];
  /** The batches of each update, as one. */
  readonly batches: readonly (readonly TrainedSequence[])[];
  readonly heldOut: readonly TrainedSequence[];
}

/** Bytes of a file of the machine; throws where there is none. */
export function bytesOf(machine: Machine, path: string): Uint8Array {
  const bytes = machine.observe(path);
  if (typeof bytes === 'number') throw new Error(`${path}: ${bytes}`);
  return bytes;
}
export const textOf = (machine: Machine, path: string): string => new TextDecoder().decode(bytesOf(machine, path));

/** {n, from, ids …} after each other, u32. */
function sequencesOf(bytes: Uint8Array): TrainedSequence[] {
  const words = new Uint32Array(bytes.slice().buffer);
  const found: TrainedSequence[] = [];
  for (let at = 0; at < words.length; at += 2 + words[at]!)
    found.push({ from: words[at + 1]!, ids: [...words.subarray(at + 2, at + 2 + words[at]!)] });
  return found;
}

/** The sequences of update `step`, from 0. */
function batchOf(s: Settings, c: Course, all: readonly TrainedSequence[], step: number): TrainedSequence[] {
  const each = s.batch * s.accumulate;
  const from = (step % c.stepsPerEpoch) * each;
  const to = Math.min(from + each, c.sequences - c.heldOut);
  const epoch = Math.floor(step / c.stepsPerEpoch);
  return Array.from({ length: to - from }, (_, i) => all[trainedAt(s, c, epoch, from + i)]!);
}

const STORE = '/tmp/store';
const DATA = '/tmp/sequences';

/** Trains `name` as these operands and options of llmfinetune start say, and says what became of it; throws with its message where it fails. */
export function trained(machine: Machine, name: string, options: string): Training {
  // The sequences are kept only as long as the training lasts.
  const line = `llmfinetune start --store ${STORE} ${options} > /tmp/said & n=0; until cp ${STORE}/${name}/data ${DATA} 2> /dev/null || [ $((n += 1)) -gt 1000 ]; do sleep 0.01; done; wait $!`;
  const { status, stderr } = machine.exec(line);
  if (status !== 0) throw new Error(`${line}: ${status}: ${stderr}`);
  return trainingIn(machine, `${STORE}/${name}`);
}

/** The training that is kept in a directory of the machine, its sequences beside it. */
function trainingIn(machine: Machine, directory: string): Training {
  const run = JSON.parse(textOf(machine, `${directory}/run.json`)) as Run;
  const log = textOf(machine, `${directory}/log.jsonl`)
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as LogLine);
  const all = sequencesOf(bytesOf(machine, DATA));
  const { settings, course } = run;
  return {
    run,
    updates: log.filter((line): line is StepLine => 'loss' in line),
    looks: log.filter((line): line is HeldLine => 'held_out_loss' in line),
    batches: Array.from({ length: course.steps }, (_, step) => batchOf(settings, course, all, step)),
    heldOut: Array.from({ length: course.heldOut }, (_, i) => all[heldOutAt(settings, course, i)]!),
  };
}
