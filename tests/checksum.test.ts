// The checksum over logits: the op against XXH32 as its specification has it, in both builds; then on whole machines against the rows that the
// test itself finds in the arena before each draw and each loss, whatever a session shares the machine with and however its weights come.

import test from 'ava';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { boot } from '../boot/index.ts';
import { sha256 } from '../boot/web/worker/sha256.ts';
import {
  LOAD_DEFAULTS,
  LOGITS_BEGIN,
  logitsSum,
  RESIDENCY,
  SERVER,
  SESSION_KIND,
  StepBlock,
} from '../kernel/abi/index.ts';
import type { LogitsLanes } from '../kernel/abi/index.ts';
import type { LoadRequest } from '../kernel/fit.ts';
import { Op } from '../drivers/engine/ops.ts';
import { BUILDS, canRun, random, Rig, soak } from './harness.ts';
import { consume, fold, type Lanes, lanesOf, xxh32 } from './reference/xxh32.ts';
import { json, ok } from './support/commands.ts';
import { Bench, type Options, type Outcome } from './support/service.ts';

const builds = BUILDS.filter(canRun);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const lanes = ({ logits0, logits1, logits2, logits3 }: LogitsLanes): Lanes => [logits0, logits1, logits2, logits3];
const text = ([logits0, logits1, logits2, logits3]: Lanes): string =>
  hex(logitsSum({ logits0, logits1, logits2, logits3 }));

/** A row's bytes in whole stripes. */
function stripes(row: Uint8Array): Uint8Array {
  const filled = new Uint8Array(Math.ceil(row.length / 16) * 16);
  filled.set(row);
  return filled;
}

test('the reference is XXH32', t => {
  const of = (word: string, seed = 0): string => xxh32(new TextEncoder().encode(word), seed).toString(16);
  t.is(of(''), '2cc5d05');
  t.is(of('abc'), '32d153ff');
  t.is(of('Nobody inspects the spammish repetition'), 'e2293b2f');
  t.deepEqual(lanesOf(0), lanes(LOGITS_BEGIN));
});

// ── The op ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const [LOGITS_AT, PLAN_AT] = [0x10000, 0x80000];

for (const build of builds)
  test(`${build}: rows of any length and any values; folded, the hash of all of them`, t => {
    const rig = new Rig(build);
    const { u8, i32, u32 } = rig.arena;
    const next = random(32);
    i32.fill(0, PLAN_AT >> 2, (PLAN_AT >> 2) + 32);
    i32[PLAN_AT >> 2] = Op.LOGITS_SUM;
    for (let round = 0; round < (soak ? 2000 : 60); round++) {
      let want = lanesOf(0);
      const seen: Uint8Array[] = [];
      StepBlock.write(u8, rig.stepAt, { ...LOGITS_BEGIN, logitsAt: LOGITS_AT, n: 1 });
      for (let rows = 1 + Math.floor(next() * 4); rows > 0; rows--) {
        const n = 1 + Math.floor(next() * (round % 10 === 0 ? 5000 : 70));
        // Any bits: the op takes whatever is finite, and these need not be.
        for (let i = 0; i < n + 8; i++) u32[(LOGITS_AT >> 2) + i] = Math.floor(next() * 2 ** 32);
        const before = u8.slice(LOGITS_AT, LOGITS_AT + 4 * (n + 8));
        const row = stripes(before.subarray(0, 4 * n));
        rig.set('vocabulary', n);
        rig.run(PLAN_AT);
        want = consume(want, row);
        seen.push(row);
        t.deepEqual(lanes(rig.step()), want, `${n} values`);
        const after = before.slice();
        after.set(row);
        t.deepEqual(u8.slice(LOGITS_AT, LOGITS_AT + 4 * (n + 8)), after, 'the row stays, and what lies behind it');
      }
      const all = Buffer.concat(seen);
      t.is(fold(lanes(rig.step()), all.length), xxh32(all, 0));
    }
  });

test('a row in which one value is another, however little, has another sum', t => {
  const next = random(33);
  const row = Float32Array.from({ length: 96 }, () => next() * 30 - 15);
  const bytes = (): Uint8Array => new Uint8Array(row.slice().buffer);
  const sum = text(consume(lanesOf(0), bytes()));
  const sums = new Set([sum]);
  for (let bit = 0; bit < 96 * 32; bit++) {
    const other = bytes();
    other[bit >> 3]! ^= 1 << (bit & 7);
    sums.add(text(consume(lanesOf(0), other)));
  }
  t.is(sums.size, 1 + 96 * 32);
});

// ── On a machine ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const LONG = 'Once upon a time there was a little girl named Lily. '.repeat(6);
const REQUESTS: readonly (readonly [text: string, options: Options])[] = [
  ['Once upon a time', { maxTokens: 12 }],
  ['Once upon a time there was a dog', { maxTokens: 9, temp: 0, logitsK: 5 }],
  ['The cat', { maxTokens: 14, seed: 3, topK: 0, topP: 1, repeatPenalty: 1.3 }],
  ['In the park', { maxTokens: 20, seed: 4, temp: 1.5, topK: 200, logitsK: 2 }],
  [LONG, { kind: SESSION_KIND.score, maxTokens: 1 }],
  [LONG, { maxTokens: 30 }],
];

/** A bench on which the test goes over each row itself, before the machine draws from it or takes a loss. */
function observed(
  path: string,
  request: Partial<LoadRequest>,
  build?: (typeof BUILDS)[number],
): { readonly bench: Bench; readonly sums: Map<number, Lanes> } {
  const bench = new Bench(build);
  bench.load(path, request);
  const sums = new Map<number, Lanes>();
  const { compute } = bench.service;
  const { run } = compute;
  const summed = (stepAt: number, opAt: number): number => {
    const { engine, kernel } = bench;
    if (opAt === engine.sampleAt || opAt === engine.scoreAt) {
      const { logitsAt, vocabulary } = StepBlock.read(bench.machine.arena.u8, stepAt);
      const id = kernel.sessions.current();
      const row = bench.machine.arena.u8.slice(logitsAt, logitsAt + 4 * vocabulary);
      sums.set(id, consume(sums.get(id) ?? lanesOf(0), stripes(row)));
    }
    return run(stepAt, opAt);
  };
  Object.assign(compute, { run: summed });
  return { bench, sums };
}

/** The sum in a report, which must be that of the rows. */
const sumOf = ({ report }: Outcome): string => hex(logitsSum(report));

const RESIDENT = { ctx: 128 } as const;
const expected = REQUESTS.map(([prompt, options]) => {
  const { bench, sums } = observed('fable-q4_0', RESIDENT);
  const outcome = bench.alone(prompt, options);
  return { outcome, sum: text(sums.get(outcome.report.id)!) };
});

test('a session’s sum is that of the rows it drew from or was scored by', t => {
  for (const { outcome, sum } of expected) t.is(sumOf(outcome), sum);
  t.is(new Set(expected.map(e => e.sum)).size, expected.length);
  t.deepEqual(
    expected.map(({ outcome }) => outcome.finish),
    REQUESTS.map(() => 'length'),
  );
});

const STREAMED = { ...RESIDENT, stream: RESIDENCY.streamed, tileBytes: 16_384, pinBytes: 0 } as const;
for (const [name, request, build] of [
  ['simd128', RESIDENT, 'simd128'],
  ['relaxed', RESIDENT, 'relaxed'],
  ['streamed', STREAMED, undefined],
  ['some of it pinned', { ...STREAMED, pinBytes: 300_000, buffers: 3 }, undefined],
  ['one row at a time', { ...RESIDENT, batch: 1, draws: 1 }, undefined],
  ['32 rows at a time', { ...RESIDENT, batch: 32, draws: 32 }, undefined],
] as const)
  (build === undefined || canRun(build) ? test : test.skip)(
    `${name}, side by side: each session’s sum is the same`,
    t => {
      const { bench, sums } = observed('fable-q4_0', request, build);
      const live = REQUESTS.map(([prompt, options]) => bench.accepted(prompt, options));
      for (const [i, handle] of live.entries()) {
        const outcome = bench.finish(handle);
        t.is(sumOf(outcome), expected[i]!.sum, REQUESTS[i]![0]);
        t.is(text(sums.get(outcome.report.id)!), expected[i]!.sum);
        t.deepEqual(outcome.tokens, expected[i]!.outcome.tokens);
      }
    },
  );

test('swapped out, preempted by servers, with and without a shared prefix: the same sums', t => {
  const { bench } = observed('fable-q4_0', { ...RESIDENT, pages: 5, sessions: 8 });
  const live = REQUESTS.map(([prompt, options]) => bench.accepted(prompt, options));
  const { stepMax } = bench.kernel.sessions.schedule();
  const periodNs = Math.floor(((12 * stepMax) / bench.kernel.clock.hz) * 1e9);
  for (let i = 0; i < 12; i++) bench.step();
  live.push(bench.accepted(REQUESTS[0]![0], { ...REQUESTS[0]![1], server: SERVER.hard, periodNs }));
  const outcomes = live.map(handle => bench.finish(handle));
  for (const [i, outcome] of outcomes.entries()) t.is(sumOf(outcome), expected[i % REQUESTS.length]!.sum, `${i}`);
  const total = (of: (o: Outcome) => number): number => outcomes.reduce((n, o) => n + of(o), 0);
  t.true(total(o => o.report.preemptions) > 0 && total(o => o.report.swapIns) > 0);
  t.true(total(o => o.report.sharedTokens) > 0);
});

test('a session that ends early has the sum of what it drew; one that drew nothing, and any of the stub, that of nothing', t => {
  const { bench, sums } = observed('fable-q4_0', RESIDENT);
  const handle = bench.accepted(LONG, { maxTokens: 30 });
  t.is(hex(logitsSum(bench.report(handle))), hex(logitsSum(LOGITS_BEGIN)));
  while (bench.report(handle).outputTokens < 7) bench.step();
  bench.kernel.sessions.cancel(handle);
  const cut = bench.finish(handle);
  t.is(cut.finish, 'cancel');
  t.is(sumOf(cut), text(sums.get(cut.report.id)!));
  t.not(sumOf(cut), expected.at(-1)!.sum);
  bench.kernel.sessions.closeOwnedBy(4711);

  bench.load('stub', { ...LOAD_DEFAULTS, ctx: 64 });
  t.is(sumOf(bench.alone('hello', { maxTokens: 5 })), hex(logitsSum(LOGITS_BEGIN)));
});

// ── For people ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const image = readFileSync('build/boot.cpio');

test('commands print it, of a prelinked file too; its op is listed and takes less than a hundredth of a step', t => {
  const machine = boot({ strict: true, image });
  ok(machine, 'llmctl load fable-q4_0 --ctx 128; llmctl prelink fable-q4_0 /tmp/p.gguf');
  const ask = 'llminfer --json --temp 0 --max-tokens 8 Once upon a time';
  const { logits_sum: sum } = json<{ logits_sum: string }>(machine, ask);
  t.regex(sum, /^[0-9a-f]{32}$/);
  const score = 'llmctl perplexity --json /usr/share/labs/budget.md';
  const { logits_sum: scored } = json<{ logits_sum: string }>(machine, score);
  ok(machine, 'llmctl unload; llmctl load /tmp/p.gguf --ctx 128 --stream --pin 0');
  t.is(json<{ logits_sum: string }>(machine, ask).logits_sum, sum);
  t.is(json<{ logits_sum: string }>(machine, score).logits_sum, scored);
  t.regex(
    ok(machine, 'llmctl plan --ops'),
    /\nsample +LOGITS_SUM\nsample +SAMPLE\n.*\nscore +LOGITS_SUM\nscore +SCORE\n/,
  );

  for (const model of ['fable-f16', 'fable-q8_0', 'fable-q4_0'])
    for (const target of ['cortex-a72', 'sifive-u74', 'cortex-m7', 'host']) {
      const { steps } = json<{
        steps: { segments: { most_cycles: number }[]; ops: { op: string; most_cycles: number }[] }[];
      }>(machine, `llmctl plan ${model} --cost --json --target ${target}`);
      const { segments, ops } = steps.at(-1)!;
      const step = segments.reduce((sum, s) => sum + s.most_cycles, 0);
      const own = ops.find(op => op.op === 'LOGITS_SUM')!.most_cycles;
      t.log(`${model} on ${target}: ${((100 * own) / step).toFixed(2)} %`);
      t.true(own > 0 && own < step / 100);
    }
});

test('SHA-256 in WebAssembly is SHA-256, however its bytes come', t => {
  const next = random(256);
  const bytes = Uint8Array.from({ length: 200_000 }, () => next() * 256);
  const expected = (length: number): Buffer => createHash('sha256').update(bytes.subarray(0, length)).digest();
  for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 120, 127, 128, 32_767, 32_768, 32_769, 65_600, 200_000]) {
    const [whole, pieces] = [sha256(), sha256()]; // side by side
    for (let at = 0; at < length;) {
      const end = Math.min(length, at + 1 + Math.floor(next() ** 3 * 70_000));
      pieces.update(bytes.subarray(at, end));
      at = end;
    }
    whole.update(bytes.subarray(0, length));
    t.deepEqual(Buffer.from(whole.digest()), expected(length), `${length} bytes`);
    t.deepEqual(Buffer.from(pieces.digest()), expected(length), `${length} bytes in pieces`);
  }
});
