// Machines drawn at random: models in the arena or streaming from any disk, in tiles, buffers, pins and batches of any size; sessions that
// generate, score, share prefixes, are preempted, swapped out, cancelled or served; reads that are late, repeated, or fail for good. Whatever it
// is, each session says what it says alone on that machine and is charged what it is charged there, and alone it says what it says where all
// weights are in the arena. Whom a failed read has ended has said a beginning.

import test from 'ava';
import { setImmediate } from 'node:timers/promises';
import { isRefusal, LOAD_DEFAULTS, RESIDENCY, SESSION_KIND } from '../kernel/abi/index.ts';
import type { Disk } from '../kernel/disks.ts';
import type { LoadRequest } from '../kernel/fit.ts';
import { random, soak } from './harness.ts';
import { Bench, type Wish } from './support/service.ts';
import { agrees, ALONE, below, oneOf, wishOf, type Mix, type Next } from './support/wishes.ts';

const MODELS = ['fable-q4_0', 'fable-q8_0', 'fable-f16'] as const;
const ALWAYS = { every: 1, next: 0, from: 0, to: Number.MAX_SAFE_INTEGER, factor: 1 } as const;

function requestOf(next: Next): LoadRequest {
  const ctx = 33 + below(next, 96);
  const batch = 1 + below(next, 32);
  const shared = {
    ...LOAD_DEFAULTS,
    ctx,
    batch,
    sessions: 1 + below(next, 12),
    pages: Math.ceil(ctx / 32) + below(next, 12),
    draws: next() < 0.3 ? 0 : 1 + below(next, batch),
  };
  if (next() < 0.25) return { ...shared, stream: RESIDENCY.resident };
  const pinBytes = next() < 0.4 ? 0 : below(next, 2_000_000);
  const tileBytes = 9000 + below(next, oneOf(next, [4000, 40_000, 200_000]));
  return { ...shared, stream: RESIDENCY.streamed, tileBytes, buffers: 2 + below(next, 5), pinBytes };
}

/** Some disk, and what is wrong with it that its retries make good. Returns it in words. */
function spoil(next: Next, bench: Bench, vda: Disk): string {
  const name = oneOf(next, ['default', 'nvme', 'emmc', 'sd', 'qspi', 'ram']);
  const model = bench.kernel.disks.model(name);
  if (isRefusal(model)) throw new Error(model.message);
  vda.become(model);
  const kinds = vda.retries > 0 ? (['worst', 'error', 'short'] as const) : (['worst'] as const);
  if (next() < 0.5) return name;
  const kind = oneOf(next, kinds);
  vda.inject({ ...ALWAYS, kind, every: 2 + below(next, 6) });
  return `${name} ${kind}`;
}

function vdaOf(bench: Bench): Disk {
  const found = bench.kernel.disks.find('vda');
  if (isRefusal(found)) throw new Error(found.message);
  return found;
}

/** A wish, or that the loss of its text be measured. */
function anyWish(next: Next, bench: Bench, mix: Mix): Wish {
  const wish = wishOf(next, bench, mix);
  if (next() > 0.3) return { ...wish, options: { ...wish.options, timeoutMs: 3_600_000 } };
  const text = `${wish.text} ${wish.text}`;
  return { ...wish, text, options: { ...ALONE, kind: SESSION_KIND.score, maxTokens: 1 } };
}

test('any machine, any sessions: each says what it says alone, and where all weights are in the arena', async t => {
  t.timeout(3_600_000);
  const bench = new Bench();
  const resident = new Bench();
  const vda = vdaOf(bench);
  const seen = {
    machines: 0,
    streamed: 0,
    requests: 0,
    refused: 0,
    scores: 0,
    servers: 0,
    cancelled: 0,
    faulted: 0,
    swaps: 0,
  };
  for (let seed = 1; seed <= (soak ? 200 : 8); seed++) {
    const next = random(seed);
    const model = oneOf(next, MODELS);
    const request = requestOf(next);
    bench.kernel.loader.unload();
    vda.heal();
    const on = spoil(next, bench, vda);
    bench.load(model, request);
    resident.load(model, { ctx: bench.engine.options.ctx, stream: RESIDENCY.resident });
    const what = `seed ${seed}: ${model} ${JSON.stringify(bench.engine.options)} on ${on}`;
    const isStreamed = bench.engine.stream !== null;
    // Reads that fail for good: what others lose by that is time, so that nothing is promised.
    const fails = isStreamed && next() < 0.4;
    const mix = { wordsMax: 16, tokensMax: 14, users: 3, servers: !fails };
    const wishes = Array.from({ length: soak ? 16 : 8 }, () => anyWish(next, bench, mix));
    bench.forget();
    const outcomes = bench.together(wishes, () => {
      if (fails && next() < 0.02) vda.inject({ ...ALWAYS, kind: 'error', next: vda.retries + 1 });
    });
    vda.heal();
    seen.machines++;
    seen.streamed += isStreamed ? 1 : 0;
    for (const [i, together] of outcomes.entries()) {
      const wish = wishes[i]!;
      seen.requests++;
      if (together === null) {
        seen.refused++;
        continue;
      }
      seen.scores += wish.options.kind === SESSION_KIND.score ? 1 : 0;
      seen.servers += (wish.options.server ?? 0) !== 0 ? 1 : 0;
      seen.cancelled += together.finish === 'cancel' ? 1 : 0;
      seen.faulted += together.finish === 'fault' ? 1 : 0;
      const alone = bench.alone(wish.text, { ...wish.options, ...ALONE }, wish.uid);
      agrees(t, together, alone, wish, ['cancel', 'timeout', ...(fails ? ['fault'] : [])]);
      const { tokens, text, tops, finish } = resident.alone(wish.text, { ...wish.options, ...ALONE }, wish.uid);
      t.like(alone, { tokens, text, tops, finish }, what);
      await setImmediate();
    }
    seen.swaps = bench.kernel.pool.figures().swapOuts;
    if (!t.passed) return void t.log(what);
  }
  t.log(seen);
  for (const kind of ['streamed', 'scores', 'servers', 'faulted'] as const) t.true(seen[kind] > 0, kind);
});
