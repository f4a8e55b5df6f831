// Whole steps of the machine, measured and counted: what `npm run bench -- --calibrate` fits prices to. A step is one pass of tokens through a
// loaded plan, with or without a draw behind it. It is timed on the kernels alone, and counted by running it once on each of several
// simulated processors on which one thing costs a cycle and nothing else costs anything: the clock then shows how often it happens.
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { load } from '../tools/load.mjs';

const root = new URL('..', import.meta.url).pathname;
const BATCH = 8; // as the loader's
const DRAW = 0x6b8b4567; // a random word like any other
const REGIONS = { tensors: 'plan', session: 'io' }; // by name where an engine's region is not one of the targets'

/** The parts of the machine that steps need. */
export const parts = () =>
  load(
    'kernel/abi/index',
    'tests/harness',
    'drivers/engine/transformer/driver',
    'kernel/wcet/price',
    'kernel/wcet/certificate',
    'kernel/wcet/targets',
  );

const certificatesOf = k =>
  k.accepted(k.Certificates.of(JSON.parse(readFileSync(`${root}build/certificates.json`, 'utf8'))));

/** Prefill steps of several sizes and decode steps, greedy and with the default sampler, over the whole context. */
function stepsOf(ctx) {
  const steps = [];
  for (let i = 0; i <= 8; i++) {
    const pos = Math.floor((i * (ctx - BATCH)) / 8);
    for (const n of [2, 3, 5, 8]) steps.push({ n, pos, draw: null });
    for (const draw of ['greedy', 'topP']) steps.push({ n: 1, pos, draw }, { n: BATCH, pos, draw });
  }
  return steps;
}

/** A model in an arena of its own, every position of its cache filled. */
class Subject {
  constructor(k, { file, ctx, kv }, build) {
    this.k = k;
    this.ctx = ctx;
    this.rig = new k.Rig(build);
    const driver = new k.TransformerDriver({ ...this.rig, tokenizer: this.rig.bareTokenizer });
    const options = { ctx, kvType: k.GGML_TYPE[kv], batch: BATCH };
    this.loaded = k.accepted(this.rig.load(driver, k.accepted(this.rig.image(file)), options));
    const { engine, endAt } = this.loaded;
    if (endAt > k.LIMITS.arenaBytes - k.LIMITS.meterBytes) throw new Error(`${file}: no room for prices behind it`);
    const ids = Array.from({ length: ctx }, (_, i) => 3 + ((i * 7919) % (engine.vocabulary.count - 3)));
    for (let pos = 0; pos < ctx; pos += BATCH) this.rig.body(engine, pos, ids.slice(pos, pos + BATCH));
  }

  run({ n, pos, draw }) {
    const { k, rig } = this;
    const { bodyAt, headAt, sampleAt, slots } = this.loaded.engine;
    const ids = rig.arena.u32.subarray(slots.at >> 2);
    rig.put(
      this.loaded.engine,
      Array.from({ length: n }, (_, i) => ({ slot: 0, pos: pos + i, id: ids[pos + i] })),
    );
    const fields = { historyLength: pos + n, draw: DRAW };
    rig.pick([n - 1]);
    for (const [field, value] of Object.entries(fields)) rig.set(field, value);
    rig.run(bodyAt);
    if (draw === null) return;
    k.SamplerRecord.write(rig.arena.u8, rig.get('samplerAt'), samplerOf(k, draw));
    rig.run(headAt);
    rig.run(sampleAt);
  }

  seconds(step) {
    const start = performance.now();
    this.run(step);
    return (performance.now() - start) / 1000;
  }

  /** Cycles that a target charges for each step. */
  charges(certificates, target, steps) {
    const { k, rig } = this;
    const prices = k.accepted(k.Prices.of(certificates, target, this.#source()));
    prices.fill(rig.arena.u32);
    const tableAt = k.LIMITS.arenaBytes - k.LIMITS.meterBytes; // no model reaches that far: see the constructor
    rig.arena.u32.set(k.meterTable(certificates, target), tableAt >> 2);
    rig.compute.set_prices(tableAt);
    rig.compute.take_spent();
    return steps.map(step => {
      rig.arena.f64[(rig.stepAt + k.StepBlock.at.cycles) >> 3] = 0; // eight bytes of zeros in any type
      this.run(step);
      return rig.step().cycles;
    });
  }

  /** The plan as the pricer wants it. */
  #source() {
    const { k, rig, ctx } = this;
    const { engine, budget, place } = this.loaded;
    const regionAt = at => k.ENGINE_REGIONS.find(r => at < place[`${r}At`] + budget[r]);
    return {
      ...engine,
      word: at => rig.arena.i32[at >> 2],
      regionOf: at => (at < k.MODEL_AT ? 'fixed' : (REGIONS[regionAt(at)] ?? regionAt(at))),
      ctx,
      batch: BATCH,
      draws: engine.options.draws,
      vocabulary: engine.vocabulary.count,
      stepAt: rig.stepAt,
      samplerAt: rig.get('samplerAt'),
      rowsAt: rig.get('rowsAt'),
      picksAt: rig.get('picksAt'),
      historyAt: engine.slots.at,
    };
  }
}

function samplerOf(k, draw) {
  if (draw === 'greedy') return { topP: 1, repeatPenalty: 1, modes: k.SAMPLER_MODE.greedy };
  return { temp: 0.8, topK: 40, topP: 0.95, repeatPenalty: 1, modes: k.SAMPLER_MODE.topP };
}

/** Processor time of this process. */
function cpuMs() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/**
 * Steps of the subjects with their times and what targets charge for them. The steps take turns and the shortest time of each counts: what
 * else the computer does meanwhile can only add.
 * @param {readonly { name: string, file: string, ctx: number, kv: 'F16' | 'F32' }[]} subjects
 * @param {object} k what parts() gives
 * @param {readonly object[]} targets
 * @param {number} ms of this process's processor time to measure for, a sixth of it to warm up: a busy computer measures longer, not less
 * @returns {{ build: string, share: number, steps: { model: string, n: number, pos: number, draw: string | null, seconds: number, counts: number[] }[] }}
 * `share`: of a core that this process had
 */
export function measureSteps(subjects, k, targets, ms) {
  const build = k.canRun('relaxed') ? 'relaxed' : 'simd128'; // as boot chooses
  const certificates = certificatesOf(k);
  const models = subjects.map(subject => {
    const model = new Subject(k, subject, build);
    const list = stepsOf(subject.ctx).map(step => ({ model: subject.name, ...step }));
    const counts = targets.map(target => model.charges(certificates, target, list));
    return { model, list: list.map((step, i) => ({ ...step, counts: counts.map(c => c[i]), seconds: Infinity })) };
  });
  const turnsFor = time => {
    for (const end = cpuMs() + time; cpuMs() < end;)
      for (const { model, list } of models) {
        model.run(list.at(-1)); // brings the model into the caches, as a step before would have
        for (const step of list) step.seconds = Math.min(step.seconds, model.seconds(step));
      }
  };
  turnsFor(ms / 6);
  const start = { cpu: cpuMs(), wall: performance.now() };
  for (const { list } of models) for (const step of list) step.seconds = Infinity;
  turnsFor((5 * ms) / 6);
  const steps = models.flatMap(({ list }) => list);
  return { build, steps, share: (cpuMs() - start.cpu) / (performance.now() - start.wall) };
}
