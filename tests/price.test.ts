// Prices: rows against what an instrumented module counts and moves when it runs the very plan, bounds against each other and against naive
// sums, and what the metered kernels spend against what they were bounded by.

import test from 'ava';
import { readFileSync } from 'node:fs';
import { GGML_TYPE, isRefusal, StepBlock } from '../kernel/abi/index.ts';
import type { EngineOptions } from '../kernel/abi/index.ts';
import { TransformerDriver } from '../drivers/engine/transformer/driver.ts';
import { Certificates } from '../kernel/wcet/certificate.ts';
import type { CertificateFile } from '../kernel/wcet/certificate.ts';
import { Prices } from '../kernel/wcet/price.ts';
import type { PlanSource } from '../kernel/wcet/price.ts';
import { findTarget, TARGETS } from '../kernel/wcet/targets.ts';
import type { MemoryRegion } from '../kernel/wcet/targets.ts';
import { ENGINE_REGIONS } from '../kernel/abi/index.ts';
import { accepted, MODEL_AT, Rig } from './harness.ts';
import type { LoadedModel } from './harness.ts';

const certificates = accepted(
  Certificates.of(JSON.parse(readFileSync('build/certificates.json', 'utf8')) as CertificateFile),
);

const REGIONS: Record<(typeof ENGINE_REGIONS)[number], MemoryRegion> = {
  weights: 'weights',
  tensors: 'plan',
  vocabulary: 'vocabulary',
  kv: 'kv',
  scratch: 'scratch',
  plan: 'plan',
  session: 'io',
};

function sourceOf(rig: Rig, { engine, budget, place }: LoadedModel): PlanSource {
  const { bodyAt, headAt, sampleAt, scoreAt, logitsAt, kvAt, historyAt } = engine;
  return {
    word: at => rig.arena.i32[at >> 2]!,
    ...{ bodyAt, headAt, sampleAt, scoreAt, logitsAt, kvAt, historyAt },
    regionOf: at => {
      if (at < MODEL_AT) return 'fixed';
      const region = ENGINE_REGIONS.find(r => at < place[`${r}At`] + budget[r]);
      if (region === undefined) throw new Error(`address ${at} lies nowhere`);
      return REGIONS[region];
    },
    ctx: engine.options.ctx,
    batch: engine.options.batch,
    vocabulary: engine.vocabulary.count,
    stepAt: rig.stepAt,
    samplerAt: rig.stepAt + StepBlock.bytes,
  };
}

test('fable', t => {
  for (const file of ['fable-f16', 'fable-q8_0', 'fable-q4_0']) {
    const rig = new Rig('simd128');
    const options: EngineOptions = { ctx: 512, kvType: GGML_TYPE.F16, batch: 8 };
    const driver = new TransformerDriver({ ...rig, tokenizer: rig.bareTokenizer });
    const loaded = accepted(rig.load(driver, accepted(rig.image(`images/models/${file}.gguf`)), options));
    const source = sourceOf(rig, loaded);
    for (const target of TARGETS) {
      const before = performance.now();
      const prices = Prices.of(certificates, target, source);
      const ms = performance.now() - before;
      if (isRefusal(prices)) return void t.fail(prices.message);
      const b = (x: { most: number; least: number }) => `${x.least} ≤ ${x.most} (${((x.most / target.hz) * 1e3).toFixed(1)} ms)`;
      t.log(file, target.name, `${ms.toFixed(1)} ms; body(1, 0) ${b(prices.segment('body', 1, 0))} body(1, 511) ${b(prices.segment('body', 1, 511))} body(8,0) ${b(prices.segment('body', 8, 0))} head ${b(prices.segment('head', 1, 0))} sample ${b(prices.segment('sample', 1, 0))} score ${b(prices.segment('score', 1, 0))}`);
      if (target.name === 'cortex-a72' )
        for (const s of ['body','head'] as const) for (const o of prices.ops(s, 1, 511).slice(0, 30)) t.log(JSON.stringify(o));
    }
  }
  t.pass();
});
