import test from 'ava';
import {
  isRefusal,
  LIMITS,
  TRAIN_KEEP_ALL,
  TrainOptions,
  TrainStep,
  type RecordValue,
  type Refusal,
} from '../kernel/abi/index.ts';
import { Bench, PID } from './support/service.ts';
import { PlainTraining } from './support/plain-training.ts';

type Options = RecordValue<typeof TrainOptions.fields>;
type Step = RecordValue<typeof TrainStep.fields>;

const BY = { pid: PID, uid: 0, groups: [] };
const OPTIONS: Options = {
  method: 0,
  targets: 1,
  rank: 4,
  alpha: 8,
  ctx: 16,
  batch: 4,
  optimizer: 0,
  anchored: 0,
  checkpoint: 0,
  picks: 0,
  seed: 42,
  sharePpm: 100_000,
  periodNs: 0,
};
const STEP: Step = {
  kind: 0,
  update: 1,
  directions: 1,
  ranked: 0,
  seedLow: 1,
  seedHigh: 0,
  rate: 0.001,
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

function given<T>(r: T | Refusal): T {
  if (isRefusal(r)) throw new Error(r.message);
  return r;
}

class TrainBench extends Bench {
  plain(more = 0): void {
    const { engine } = this;
    Object.assign(engine, { training: new PlainTraining(this.machine.arena, engine, more) });
  }
  get trainer() {
    return this.kernel.sessions.training;
  }
  open(o: Partial<Options> = {}): number {
    return given(this.trainer.begin(BY, { ...OPTIONS, ...o }));
  }
  give(handle: number, sequences: readonly (readonly number[])[], s: Partial<Step> = {}, from = 0): number | Refusal {
    const { vfs, lay } = this.kernel;
    const file = vfs.memfd('batch');
    if (typeof file === 'number') throw new Error('no file');
    const words = Uint32Array.from(sequences.flatMap(ids => [ids.length, from, ...ids]));
    this.machine.arena.u8.set(new Uint8Array(words.buffer), lay.dmaAt);
    file.write(lay.dmaAt, words.byteLength);
    file.seek(0, 0);
    const r = this.trainer.give(given(this.trainer.own(handle, BY)), file, { ...STEP, ...s });
    file.close();
    return r;
  }
  state(handle: number) {
    return this.trainer.state(given(this.trainer.own(handle, BY)));
  }
}

test('a training runs', t => {
  const bench = new TrainBench();
  bench.load('fable-f16', { ctx: 128, pages: 14 });
  bench.plain();
  const report = given(bench.trainer.plan(BY, OPTIONS));
  t.log(report);
  const handle = bench.open();
  t.is(
    given(
      bench.give(handle, [
        [1, 2, 3, 4],
        [5, 6, 7],
      ]),
    ),
    5,
  );
  while (bench.state(handle).state === 1) bench.step();
  t.log(bench.state(handle));
  t.log(bench.trainer.text());
  bench.trainer.end(given(bench.trainer.own(handle, BY)));
});
