// Soundness, tightness and truth of what is said about requests before they run. Random requests on random models, on every target: none may
// cost more or less than its bounds, in any step. For some of them a module that counts instructions does the same work and must come to the
// same cycles. And how far upper bounds lie above what was charged, by the sampler's settings: all of the distance is the sampler's.

import test, { type ExecutionContext } from 'ava';
import { readFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { boot } from '../boot/index.ts';
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
const SHARDS = soak ? 50 : 2;
const PER_TARGET = soak ? 200 : 100; // requests of one model on one target
const TARGETS_PER_MODEL = 2;
const SETTINGS_PER_TARGET = 12; // each needs a bound of its own
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
        const confirmed = witness.take();
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
