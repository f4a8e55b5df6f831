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


for (const method of [0, 1, 2, 3])
  test(`a real training runs: ${method}`, t => {
    const bench = new TrainBench();
    bench.load(method === 3 ? 'fable-f32' : 'fable-f16', { ctx: 64, pages: 4 });
    const clock0 = performance.now();
    const o = { ...OPTIONS, method, targets: 5, ctx: 32, anchored: 1 };
    const plan = bench.trainer.plan(BY, o);
    if (isRefusal(plan)) return t.log(plan.message);
    const clock1 = performance.now();
    t.log(JSON.stringify(plan));
    const r = bench.trainer.begin(BY, o);
    if (isRefusal(r)) return t.log(r.message);
    const clock2 = performance.now();
    t.log('plan', clock1 - clock0, 'open', clock2 - clock1);
    const ids = [12, 55, 300, 7, 89, 14, 200, 31, 2, 90, 11, 12, 55, 300, 7, 89];
    for (let i = 0; i < 5; i++) {
      given(bench.give(r, [ids, ids.slice(3)], { directions: 4, rate: 0.01, seedLow: i }));
      while (bench.state(r).state === 1) bench.step();
      const s = bench.state(r);
      t.log(s.loss / s.targets, s.gradientNorm, s.distance, s.cycles, s.cyclesMost, s.slices, s.sliceMax, s.steps, s.message);
    }
    t.log('5 steps', performance.now() - clock2);
    t.log(bench.trainer.text());
    bench.trainer.end(given(bench.trainer.own(r, BY)));
    t.pass();
  });
