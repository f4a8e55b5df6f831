// Soundness, tightness and truth of what is said about requests before they run. Random requests on random models, on every target: none may
// cost more or less than its bounds, in any step. For some of them a module that counts instructions does the same work and must come to the
// same cycles. And how far upper bounds lie above what was charged, by the sampler's settings: all of the distance is the sampler's.

import test, { type ExecutionContext } from 'ava';
import { readFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { boot, type Machine } from '../boot/index.ts';
import { FINISH, GGML_TYPE, LIMITS } from '../kernel/abi/index.ts';
import { TARGETS } from '../kernel/wcet/targets.ts';
import { BUILDS, canRun, random, soak, type Build } from './harness.ts';
import { randomConfig, randomModel } from './reference/models.ts';
import { randomText, spmVocabulary } from './reference/vocabularies.ts';
import {
  Broken,
  DEFAULTS,
  LOGITS,
  randomFile,
  randomRequest,
  randomStages,
  stagesOf,
  below,
  pick,
  Subject,
  type Next,
  type Outcome,
  type RandomModel,
  type Request,
} from './support/requests.ts';
import { Witness } from './support/witness.ts';

const builds = BUILDS.filter(canRun);

// ── Random requests ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

const REQUESTS = soak ? 1_000_000 : 4000;
const SHARDS = soak ? 50 : builds.length;
const PER_TARGET = soak ? 400 : 100; // requests of one model on one target
const TARGETS_PER_MODEL = 2;
const SETTINGS_PER_TARGET = 16; // each needs a bound of its own
const STUB_SHARE = 0.05; // requests of the engine without arithmetic
const WITNESSED = soak ? 100 : 20; // one request in so many

/** What came of all requests so far. */
const totals = {
  requests: 0,
  stub: 0,
  models: 0,
  steps: 0,
  witnessed: 0,
  agreed: 0,
  finishes: new Map<string, number>(),
  targets: new Map<string, number>(),
  /** Upper bound / charged of requests that drew every token, by the sampler's stages. */
  ratios: new Map<string, number[]>(),
};
const count = (of: Map<string, number>, key: string): void => void of.set(key, (of.get(key) ?? 0) + 1);

function record(request: Request, { report, steps, whole }: Outcome, vocabulary: number): void {
  totals.requests++;
  totals.steps += steps;
  count(totals.finishes, request.settings.kind === 1 ? 'score' : FINISH[report.finish]!);
  if (!whole || request.settings.kind === 1) return;
  const stages = stagesOf(request.settings, vocabulary);
  const ratios = totals.ratios.get(stages) ?? [];
  totals.ratios.set(stages, ratios);
  ratios.push(report.wcetCycles / report.cycles);
}

/** Requests of the loaded model on the target in force. */
function requests(subject: Subject, witness: Witness, next: Next, wanted: number): void {
  const { options, vocabulary } = subject.engine;
  const stages = Array.from({ length: SETTINGS_PER_TARGET }, () => randomStages(next, vocabulary.count));
  const top = [1, 2 + below(next, LIMITS.topLogitsMax - 2), LIMITS.topLogitsMax];
  witness.meet();
  for (let done = 0; done < wanted;) {
    const request = randomRequest(next, options.ctx, stages, top);
    subject.observer = totals.requests % WITNESSED === 0 ? witness : null;
    try {
      const outcome = subject.request(request);
      if (outcome === null) continue;
      if (subject.observer !== null) {
        const { cycles } = outcome.report;
        const confirmed = witness.take() + subject.saved;
        if (confirmed !== cycles) throw new Broken(`charged ${cycles} cycles, confirmed ${confirmed}`);
        totals.witnessed++;
      }
      record(request, outcome, vocabulary.count);
      done++;
    } catch (e) {
      const what = JSON.stringify(request, (k, v: unknown) => (k === 'stopBytes' ? undefined : v));
      throw new Error(`${(e as Error).message} — ${subject.machine.kernel.costs.target.name}, ${what}`, { cause: e });
    }
  }
}

/** Loads one model after the other until `wanted` requests are done. */
async function shard(t: ExecutionContext, build: Build, seed: number, wanted: number): Promise<void> {
  const next = random(seed);
  const subject = new Subject(build);
  const witness = new Witness(subject);
  for (let done = 0; done < wanted; done += TARGETS_PER_MODEL * PER_TARGET) {
    let name = 'stub';
    if (next() < STUB_SHARE) {
      subject.builtin(pick(next, ['echo', 'word']));
      totals.stub += TARGETS_PER_MODEL * PER_TARGET;
    } else {
      const model = randomFile(next);
      ({ name } = model);
      subject.load(model);
      totals.models++;
    }
    const first = below(next, TARGETS.length);
    for (let i = 0; i < TARGETS_PER_MODEL; i++) {
      const target = TARGETS[(first + i) % TARGETS.length]!.name;
      subject.switchTarget(target);
      totals.targets.set(target, (totals.targets.get(target) ?? 0) + PER_TARGET);
      try {
        requests(subject, witness, next, PER_TARGET);
      } catch (e) {
        return t.fail(`${build}, seed ${seed}: ${(e as Error).message}\n${name}\n${(e as Error).stack}`);
      }
    }
    await setImmediate(); // the test runner's turn
  }
  totals.agreed += witness.agreed;
  t.pass();
}

for (let s = 0; s < SHARDS; s++) {
  const build = builds[s % builds.length]!;
  test.serial(`${build}: random requests stay within their bounds, part ${s + 1} of ${SHARDS}`, async t => {
    t.timeout(600_000);
    await shard(t, build, 1 + s, REQUESTS / SHARDS);
  });
}

/** Of many ratios the median, the 99th percentile and the largest. */
function spread(ratios: readonly number[]): { median: number; most99: number; most: number } {
  const sorted = Float64Array.from(ratios).toSorted();
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!;
  return { median: at(0.5), most99: at(0.99), most: at(1) };
}
const line = (name: string, ratios: readonly number[]): string => {
  const { median, most99, most } = spread(ratios);
  const figures = [median, most99, most].map(x => x.toFixed(3)).join('  ');
  return `${name.padEnd(46)} ${String(ratios.length).padStart(7)}  ${figures}`;
};
const HEAD = `${'upper bound / charged, whole requests'.padEnd(46)} ${'number'.padStart(7)}  median 99 %  most`;

test.serial('what came of random requests', t => {
  const list = (of: ReadonlyMap<string, number>): string => [...of].map(([key, n]) => `${key} ${n}`).join(', ');
  t.is(totals.requests, REQUESTS);
  t.true(totals.witnessed >= REQUESTS / WITNESSED);
  t.is(totals.targets.size, TARGETS.length);
  for (const finish of ['length', 'context', 'eos', 'cancel', 'score']) t.true(totals.finishes.has(finish), finish);
  t.log(
    `${totals.requests} requests, ${totals.steps} steps, ${totals.models} models; ${totals.stub} of them of the stub`,
  );
  t.log(`${list(totals.targets)}; ended: ${list(totals.finishes)}`);
  t.log(`${totals.witnessed} witnessed: ${totals.agreed} ops and metered calls counted, each to the cycle`);
  t.log(HEAD);
  for (const stages of [...totals.ratios.keys()].sort()) t.log(line(stages, totals.ratios.get(stages)!));
});

// ── Tightness ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A model that fits the arena several times, so that the sampler's share is that of real ones. */
function synthetic(architecture: 'llama' | 'gpt2', type: number): RandomModel {
  const next = random(type + 1);
  const size = { layers: 4, heads: 4, headsKv: 4, headSize: 32, embedding: 128, feedForward: 352, vocabulary: 512 };
  const shape = { ...randomConfig(architecture, next), ...size, context: 256, ropeDimensions: 32 };
  const config = {
    ...shape,
    types: () => type,
    biases: architecture === 'gpt2',
    tied: true,
    vectorType: GGML_TYPE.F32,
  };
  const { file } = randomModel(config, next, spmVocabulary(size.vocabulary, next));
  return { name: `${architecture} of 4 layers`, file, ctx: 256, kvType: GGML_TYPE.F16 };
}

const TIGHT_MODELS: Readonly<Record<string, (subject: Subject) => void>> = {
  ...Object.fromEntries(
    ['fable-f16', 'fable-q8_0', 'fable-q4_0'].map(name => [
      name,
      (s: Subject): void => s.loadFile(`/models/${name}.gguf`, 0, GGML_TYPE.F16),
    ]),
  ),
  'synthetic llama Q4_0': s => s.load(synthetic('llama', GGML_TYPE.Q4_0)),
  'synthetic gpt2 F16': s => s.load(synthetic('gpt2', GGML_TYPE.F16)),
};
/** The first are the defaults. */
const TIGHT_SETTINGS: Readonly<Record<string, Partial<Request['settings']>>> = {
  'defaults: top-k 40, top-p 0.95': {},
  greedy: { temp: 0 },
  'defaults, penalty 1.1': { repeatPenalty: 1.1 },
  'defaults, min-p 0.05': { minP: 0.05 },
  'defaults, five logits shown': { logitsK: 5 },
  'top-k 200, top-p 0.95': { topK: 200 },
  'all tokens': { topK: 0, topP: 1 },
  'all tokens, top-p 0.95': { topK: 0 },
  'all tokens, top-p 0.95, min-p 0.05, penalty': { topK: 0, minP: 0.05, repeatPenalty: 1.1 },
};
const TIGHT = 1.05;

/** Upper bound / charged of one request, with the model's own logits and with each kind of hard ones; ends that came early left out. */
function tightness(subject: Subject, request: Request, next: Next): number[] {
  const fills = [null, ...Object.values(LOGITS)];
  return fills.flatMap(fill => {
    const logits = fill === null ? null : (row: Float32Array): void => fill(row, next);
    const outcome = subject.request({ ...request, logits });
    return outcome?.whole === true ? [outcome.report.wcetCycles / outcome.report.cycles] : [];
  });
}

test.serial('upper bounds of whole requests lie close above what is charged', async t => {
  t.timeout(600_000);
  const next = random(9);
  const subject = new Subject(builds.at(-1)!);
  const bySettings = new Map<string, { all: number[]; worst: number[] }>();
  const byModel = new Map<string, number[]>();
  for (const [model, load] of Object.entries(TIGHT_MODELS)) {
    load(subject);
    for (const target of TARGETS) {
      subject.switchTarget(target.name);
      for (const [name, settings] of Object.entries(TIGHT_SETTINGS)) {
        const ratios = bySettings.get(name) ?? { all: [], worst: [] };
        bySettings.set(name, ratios);
        const isDefault = Object.keys(settings).length === 0;
        for (let i = 0; i < (soak ? 20 : 1); i++) {
          const maxTokens = 2 + below(next, soak ? 40 : 6);
          const text = randomText(1 + below(next, 12), next);
          const whole = { ...DEFAULTS, ...settings, maxTokens, seed: below(next, 1000) };
          const found = tightness(subject, { text, settings: whole, logits: null, cancelAfter: Infinity }, next);
          ratios.all.push(...found);
          if (found.length > 0) ratios.worst.push(Math.min(...found));
          if (isDefault) byModel.set(model, [...(byModel.get(model) ?? []), ...found]);
        }
      }
      await setImmediate();
    }
  }
  t.log(HEAD);
  for (const [name, { all }] of bySettings) t.log(line(name, all));
  t.log('against the dearest of all logits tried:');
  for (const [name, { worst }] of bySettings) t.log(line(name, worst));
  t.log('defaults, by model:');
  for (const [name, all] of byModel) t.log(line(name, all));
  const [defaults] = bySettings.values();
  t.true(defaults!.all.length > 100);
  t.true(Math.max(...defaults!.all) <= TIGHT, `defaults: ${Math.max(...defaults!.all)}`);
  for (const [name, { worst }] of bySettings) t.true(Math.max(...worst) <= TIGHT, `${name}: ${Math.max(...worst)}`);
});

// ── Prices gone wrong ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A machine whose metered kernels count with prices thirty times too high. */
function overpriced(strict: boolean): Machine {
  const machine = boot({ image: readFileSync('build/boot.cpio'), strict });
  const { arena, kernel } = machine;
  const table = arena.u32.subarray(kernel.lay.pricesAt >> 2, (kernel.lay.pricesAt + LIMITS.meterBytes) >> 2);
  for (const [i, price] of table.entries()) table[i] = price * 30;
  return machine;
}

test('a step that costs more than it may: the session faults with an audit record, a strict machine stops', t => {
  const lax = overpriced(false);
  t.not(lax.exec('llminfer --json Once upon a time').status, 0);
  t.regex(
    lax.exec('cat /proc/audit').stdout,
    /op=breach .* tokens=0 wcet_cycles=\d+ .* session=1 cycles=\d+ least=\d+ name=step value=pos=\d+$/m,
  );
  t.regex(lax.exec('cat /proc/sessions /proc/audit').stdout, /FAULTED|fault/);
  const strict = overpriced(true);
  t.throws(() => strict.exec('llminfer Once upon a time'), { message: /halted/ });
});

// ── The same everywhere ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const SCRIPT = [
  'llminfer --json --max-tokens 12 --seed 3 Once upon a time',
  'llmctl load /models/fable-q4_0.gguf --kv f32 --ctx 96',
  'llminfer --json --logits 3 --temp 1.2 --top-k 0 --repeat-penalty 1.3 --min-p 0.05 --max-tokens 12 --seed 5 Lily',
  'llmctl wcet --json --prompt 20 --gen 20',
  'cat /proc/clock; cat /proc/audit',
];

for (const { name: target } of TARGETS)
  (builds.length > 1 ? test : test.skip)(`${target}: both builds show the same clock and leave the same arena`, t => {
    const [one, other] = builds.map(build => {
      const machine = boot({ image: readFileSync('build/boot.cpio'), build, target, strict: true });
      const output = SCRIPT.map(command => machine.exec(command));
      return { output, clock: machine.kernel.clock.record(), digest: machine.kernel.arenaDigest() };
    });
    t.true(one!.output.every(o => o.status === 0));
    t.deepEqual(one, other);
  });
