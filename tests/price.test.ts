// Prices: what every op is charged against what an instrumented module counts, and what caches do with a traced one, when it runs the very
// record; sums of the executor, of requests and of ops against each other; and every lower bound below its upper one.

import test from 'ava';
import type { ExecutionContext } from 'ava';
import { readFileSync } from 'node:fs';
import {
  ENCODE,
  ENGINE_REGIONS,
  GGML_TYPE,
  isRefusal,
  KV_TYPES,
  KV_PAGE,
  PieceRecord,
  PLAN_RECORD,
  PickRecord,
  SAMPLER_MODE,
  SamplerRecord,
  StepBlock,
} from '../kernel/abi/index.ts';
import type { DiskTimes, EngineOptions, ModelImage } from '../kernel/abi/index.ts';
import { StubDriver } from '../drivers/engine/stub/driver.ts';
import { TransformerDriver } from '../drivers/engine/transformer/driver.ts';
import { encodingBounds, requestBounds, scoreBounds } from '../kernel/wcet/bounds.ts';
import { countsAt, spansAt } from '../kernel/wcet/certificate.ts';
import type { Counts } from '../kernel/wcet/certificate.ts';
import { meterTable, Prices } from '../kernel/wcet/price.ts';
import type { Bound, Draw, OpCost, PlanSource, Segment } from '../kernel/wcet/price.ts';
import { TARGETS, upperMilli } from '../kernel/wcet/targets.ts';
import type { MemoryRegion, Target } from '../kernel/wcet/targets.ts';
import { CLASSES, classIndex } from '../kernel/wcet/wasm.ts';
import { accepted, MODEL_AT, random, Rig, soak } from './harness.ts';
import type { LoadedModel, RigOptions, Row } from './harness.ts';
import { kvTypeFor, randomConfig, randomModel } from './reference/models.ts';
import { certificates, REGIONS } from './support/certified.ts';
import { Counter } from './support/counter.ts';
import { Cache, Tracer } from './support/tracer.ts';
import type { TracedAccess } from './support/tracer.ts';

const PLAIN = readFileSync('build/kernels.relaxed.plain.wasm'); // the program that is priced
const SEGMENTS = ['body', 'head', 'sample', 'score'] as const;
const MODELS = TARGETS.filter(target => target.kind === 'model');

/** Answers at once. */
const NO_DISK: DiskTimes = { name: 'none', overlaps: false, read: () => ({ latency: 0, transfer: 0 }) };

/** A loaded model with its plan as the kernel hands it to the pricer. */
interface Subject {
  readonly rig: Rig;
  readonly loaded: LoadedModel;
  readonly source: PlanSource;
}

function subjectOf(rig: Rig, loaded: LoadedModel): Subject {
  const { engine, budget, place } = loaded;
  const { bodyAt, headAt, sampleAt, scoreAt, logitsAt, kvAt, slots } = engine;
  const source: PlanSource = {
    word: at => rig.arena.i32[at >> 2]!,
    bodyAt,
    headAt,
    sampleAt,
    scoreAt,
    logitsAt,
    kvAt,
    historyAt: slots.at,
    rowsAt: rig.get('rowsAt'),
    picksAt: rig.get('picksAt'),
    regionOf: at => {
      if (at < MODEL_AT) return 'fixed';
      const region = ENGINE_REGIONS.find(r => at < place[`${r}At`] + budget[r]);
      if (region === undefined) throw new Error(`address ${at} lies nowhere`);
      return REGIONS[region];
    },
    ctx: engine.options.ctx,
    batch: engine.options.batch,
    draws: engine.options.draws,
    stream: engine.stream === null ? null : { program: engine.stream, disk: NO_DISK },
    vocabulary: engine.vocabulary.count,
    stepAt: rig.stepAt,
    samplerAt: rig.stepAt + StepBlock.bytes,
  };
  return { rig, loaded, source };
}

const bare = (rig: Rig): TransformerDriver => new TransformerDriver({ ...rig, tokenizer: rig.bareTokenizer });

function fable(file: string, options: Partial<EngineOptions> = {}): Subject {
  const rig = new Rig('simd128');
  const image = accepted(rig.image(`images/models/${file}.gguf`));
  const all = { ctx: 512, kvType: GGML_TYPE.F16, batch: 8, sessions: 2, ...options };
  return subjectOf(rig, accepted(rig.load(bare(rig), image, all)));
}

function fableStreamed(file: string): Subject {
  const rig = new Rig('simd128');
  const image = accepted(rig.image(`images/models/${file}.gguf`));
  return streamedOf(rig, image, {
    ctx: 512,
    kvType: GGML_TYPE.F16,
    batch: 8,
    tileBytes: 16_384,
    buffers: 2,
    pinBytes: 0,
  });
}

const next = random(11);
const below = (n: number): number => Math.floor(next() * n);
const oneOf = <T>(list: readonly T[]): T => list[below(list.length)]!;

function anyModel(): Subject {
  const rig = new Rig('simd128');
  const config = randomConfig(oneOf(['llama', 'gpt2', 'sis'] as const), next);
  const ctx = 1 + below(config.context);
  const options = { ctx, kvType: kvTypeFor(config, next), batch: 1 + below(8), sessions: 1 + below(3) };
  return subjectOf(rig, accepted(rig.load(bare(rig), accepted(rig.image(randomModel(config, next).file)), options)));
}

/** One whose weights stream, or most of them: what is in its buffers is zero. */
function anyStreamed(): Subject {
  const rig = new Rig('simd128');
  const config = randomConfig(oneOf(['llama', 'gpt2', 'sis'] as const), next);
  const { file } = randomModel(config, next);
  const image = accepted(rig.image(file));
  const ctx = 1 + below(config.context);
  const options = { ctx, kvType: kvTypeFor(config, next), batch: 1 + below(8), buffers: 2 + below(2) };
  const pinBytes = Math.floor(oneOf([0, 0, 0.4]) * file.length);
  const tileBytes = Math.max(
    ...image.tensors.map(({ bytes, shape }) => (8 * bytes) / (shape[1] ?? 8)),
    2000 + below(20_000),
  );
  return streamedOf(rig, image, { ...options, tileBytes, pinBytes });
}

function streamedOf(rig: Rig, image: ModelImage, options: RigOptions): Subject {
  const loaded = accepted(rig.load(bare(rig), image, options));
  const { place, budget } = loaded;
  rig.arena.u8.fill(0, place.streamAt, place.streamAt + budget.stream);
  return subjectOf(rig, loaded);
}

const pricesOf = ({ source }: Subject, target: Target): Prices => accepted(Prices.of(certificates, target, source));

/** One record of a plan and the pass in which it runs: `n` rows of any sessions, at positions from `pos` on; as many picks of a head. */
interface Case {
  readonly segment: Segment;
  readonly index: number;
  readonly record: number;
  readonly n: number;
  readonly pos: number;
}

/** Where the ops of a segment begin: of one whose weights stream, those of each piece. */
function beginningsOf(source: PlanSource, segment: Segment): number[] {
  const at = source[`${segment}At`];
  if (source.stream === null || (segment !== 'body' && segment !== 'head')) return at === 0 ? [] : [at];
  const { bodyPiecesAt, bodyPieces, headPiecesAt, headPieces } = source.stream.program;
  const [piecesAt, pieces] = segment === 'body' ? [bodyPiecesAt, bodyPieces] : [headPiecesAt, headPieces];
  return Array.from({ length: pieces }, (_, i) => source.word(piecesAt + i * PieceRecord.bytes + PieceRecord.at.opAt));
}

function casesOf({ source }: Subject, times: number): Case[] {
  const records = SEGMENTS.flatMap(segment => {
    const list: Omit<Case, 'n' | 'pos'>[] = [];
    for (let record of beginningsOf(source, segment))
      for (; source.word(record) !== 0; record += PLAN_RECORD.bytes) list.push({ segment, index: list.length, record });
    return list;
  });
  return Array.from({ length: times }, () => {
    const chosen = oneOf(records);
    const isDraw = chosen.segment === 'sample' || chosen.segment === 'score'; // of one pick
    const n = isDraw ? 1 : 1 + below(Math.min(source.batch, source.ctx));
    return { ...chosen, n, pos: oneOf([0, source.ctx - n, below(source.ctx - n + 1)]) };
  });
}

/** A random permutation of 0 … n − 1. */
function shuffled(n: number): number[] {
  const list = Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = below(i + 1);
    [list[i], list[j]] = [list[j]!, list[i]!];
  }
  return list;
}

/** Scatters the pages of all slots over the pool. */
function scatter({ rig, loaded: { engine } }: Subject): void {
  const pages = shuffled(engine.options.pages);
  const each = Math.ceil(engine.options.ctx / KV_PAGE);
  for (let slot = 0; slot < engine.options.sessions; slot++)
    rig.page(engine, slot, pages.slice(slot * each, (slot + 1) * each));
}

/** Rows of any slots, at these positions. */
const rowsAt = ({ source, loaded }: Subject, positions: readonly number[]): Row[] =>
  positions.map(pos => ({ slot: below(loaded.engine.options.sessions), pos, id: below(source.vocabulary) }));

/** Puts the model's arena into another memory, ready to run one record: the next one ends the segment. */
function prepare(s: Subject, to: Uint8Array, c: Case): void {
  const { rig, source, loaded } = s;
  const { u8, u32 } = rig.arena;
  for (let i = 0; i < source.ctx; i++) u32[(source.historyAt >> 2) + i] = below(source.vocabulary);
  scatter(s);
  rig.put(
    loaded.engine,
    rowsAt(
      s,
      Array.from({ length: c.n }, (_, i) => c.pos + i),
    ),
  );
  rig.pick(Array.from({ length: c.n }, () => below(c.n)));
  rig.set('historyLength', c.pos + c.n);
  rig.set('target', below(source.vocabulary));
  to.set(u8.subarray(0, to.length));
  new DataView(to.buffer).setInt32(c.record + PLAN_RECORD.bytes, 0, true);
}

/** How often a record is executed: once, or for each row. */
const turnsOf = ({ source }: Subject, c: Case): number =>
  (source.word(c.record + 4 * PLAN_RECORD.flags) & PLAN_RECORD.flagRows) === 0 ? 1 : c.n;

const opOf = (prices: Prices, c: Case): OpCost => prices.ops(c.segment, c.n, c.pos)[c.index]!;
const INSTRUCTIONS = CLASSES.map((cls, i) => (cls.startsWith('bytes_') ? -1 : i)).filter(i => i >= 0);
const sum = (list: readonly number[]): number => list.reduce((total, x) => total + x, 0);

/** What the executor's loops over one record may take beside the op, by class. */
function loopsOf(turns: number): Counts {
  const [run, op] = (['run', 'run_op'] as const).map((name, i) =>
    accepted(countsAt(accepted(certificates.get(name)), [4096, 8192], () => 0, i === 0 ? 1 : turns)),
  );
  const both = (side: 'least' | 'most'): bigint[] => run![side].map((x, i) => x + op![side][i]!);
  return { least: both('least'), most: both('most') };
}

function counted(t: ExecutionContext, s: Subject, device: Counter, times: number): number {
  const all = MODELS.map(target => [target, pricesOf(s, target)] as const);
  for (const c of casesOf(s, times)) {
    if (c.segment === 'sample') continue; // meters itself
    prepare(s, device.u8, c);
    const counts = device.count('run', [s.source.stepAt, c.record]).map(Number);
    if (device.word(s.source.stepAt + StepBlock.at.status) !== 0) continue; // a fault ends the run within the pass
    const loops = loopsOf(turnsOf(s, c));
    for (const [target, prices] of all) {
      const op = opOf(prices, c);
      const figures = [
        [upperMilli(target, counts), op.compute, (list: readonly bigint[]) => upperMilli(target, list.map(Number))],
        [
          sum(INSTRUCTIONS.map(i => counts[i]!)),
          op.instructions,
          (list: readonly bigint[]) => sum(INSTRUCTIONS.map(i => Number(list[i]))),
        ],
        [
          counts[classIndex('bytes_loaded')]!,
          op.loaded,
          (list: readonly bigint[]) => Number(list[classIndex('bytes_loaded')]),
        ],
        [
          counts[classIndex('bytes_stored')]!,
          op.stored,
          (list: readonly bigint[]) => Number(list[classIndex('bytes_stored')]),
        ],
      ] as const;
      for (const [i, [found, priced, of]] of figures.entries())
        if (found - priced < of(loops.least) || found - priced > of(loops.most))
          t.fail(
            `${target.name} ${JSON.stringify(c)} op ${s.source.word(c.record)}: figure ${i} is ${found}, priced ${priced} and ${of(loops.least)} … ${of(loops.most)}`,
          );
    }
  }
  return times;
}

test('ops execute exactly what they are charged for: random models, every target', t => {
  const device = new Counter(PLAIN);
  let cases = 0;
  for (let m = 0; m < (soak ? 200 : 12); m++) cases += counted(t, anyModel(), device, soak ? 200 : 60);
  t.log(`${cases} records`);
  t.pass();
});

test('ops of streamed plans too: tiles, repacked ones, rows that were gathered', t => {
  const device = new Counter(PLAIN);
  let cases = 0;
  for (let m = 0; m < (soak ? 200 : 10); m++) cases += counted(t, anyStreamed(), device, soak ? 200 : 50);
  for (const file of ['fable-q8_0', 'fable-q4_0']) cases += counted(t, fableStreamed(file), device, soak ? 1000 : 80);
  t.log(`${cases} records`);
  t.pass();
});

for (const file of ['fable-f16', 'fable-q8_0', 'fable-q4_0'])
  test(`${file}: ops execute exactly what they are charged for, at every position`, t => {
    for (const kvType of KV_TYPES.map(name => GGML_TYPE[name]))
      t.log(`${counted(t, fable(file, { kvType }), new Counter(PLAIN), soak ? 2000 : 80)} records`);
    t.pass();
  });

// ── Memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Thousandths of a cycle that a trace spends beyond the nearest level, on caches of full size; without caches, each word of it. */
function playedMilli(target: Target, trace: readonly TracedAccess[], regionOf: (at: number) => MemoryRegion): number {
  const price = (level: number): number => target.levels[level]!.lineUpper;
  const sizes = target.levels.map(level => 4 * level.reuseBytesMax); // a quarter of a cache is what the model relies on
  const caches = sizes.filter(bytes => bytes > 0).map(bytes => new Cache(bytes, target.lineBytes));
  let milli = 0;
  for (const { at, bytes } of trace) {
    if (bytes === 0) continue;
    const home = target.home[regionOf(at)];
    if (caches.length === 0) milli += Math.ceil(bytes / 4) * price(home);
    else
      for (let line = Math.floor(at / target.lineBytes); line * target.lineBytes < at + bytes; line++) {
        const hits = caches.map(cache => cache.touch(line));
        const found = hits.indexOf(true);
        milli += price(found < 0 || found > home ? home : found);
      }
  }
  return milli;
}

function played(t: ExecutionContext, s: Subject, tracer: Tracer, times: number): number {
  const all = MODELS.map(target => [target, pricesOf(s, target)] as const);
  let tightest = Infinity;
  for (const c of casesOf(s, times)) {
    if (c.segment === 'sample') continue;
    prepare(s, tracer.u8, c);
    const view = new DataView(tracer.u8.buffer);
    const word = (at: number): number => view.getInt32(at, true);
    const args = [s.source.stepAt, c.record];
    const op = accepted(certificates.op(s.source.word(c.record)));
    const [run, runOp] = (['run', 'run_op'] as const).map(name => accepted(certificates.get(name)));
    const turns = turnsOf(s, c);
    const tokens = turns === 1 ? c.n : 1;
    const rowOf = (to: number): number => (c.segment === 'head' ? word(s.source.picksAt + to * PickRecord.bytes) : to);
    const spans = [
      ...Array.from({ length: turns }, (_, to) => spansAt(op, [...args, tokens, c.pos + to, rowOf(to), to], word)),
      spansAt(run!, args, word, 1),
      spansAt(runOp!, args, word, turns),
    ].flatMap(list => accepted(list));
    const strays = [...op.strays, ...run!.strays, ...runOp!.strays];
    const trace = tracer.run('run', args);
    const outside = trace.filter(
      a => a.bytes > 0 && !spans.some(x => x.store === a.store && x.from <= a.at && a.at + a.bytes <= x.to),
    );
    for (const a of outside)
      if (!strays.some(x => x.store === a.store))
        return (t.fail(`${op.name} ${JSON.stringify(c)} touches ${JSON.stringify(a)}`), 0);
    for (const [target, prices] of all) {
      const { memory, overhead } = opOf(prices, c);
      const charged = memory + overhead - turns * target.overhead.recordCycles * 1000;
      const found = playedMilli(target, trace, s.source.regionOf);
      if (found > charged)
        t.fail(`${target.name} ${op.name} ${JSON.stringify(c)}: memory takes ${found}, charged ${charged}`);
      tightest = Math.min(tightest, charged / Math.max(1, found));
    }
  }
  return tightest;
}

test('every access lies where the certificate says, and caches never make an op slower than its price', t => {
  const tracer = new Tracer(PLAIN);
  for (let m = 0; m < (soak ? 100 : 8); m++) played(t, anyModel(), tracer, soak ? 100 : 40);
  for (let m = 0; m < (soak ? 100 : 6); m++) played(t, anyStreamed(), tracer, soak ? 100 : 30);
  for (const file of ['fable-f16', 'fable-q8_0', 'fable-q4_0'])
    t.log(
      `${file}: charged ${played(t, fable(file), tracer, soak ? 400 : 30).toFixed(2)} times as much as played, or more`,
    );
  t.pass();
});

// ── Sums ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const isBound = (b: Bound): boolean => Number.isSafeInteger(b.most) && b.least >= 0 && b.least <= b.most;

test('the executor charges what segments cost; ops add up to them; no lower bound passes its upper one', t => {
  for (let m = 0; m < (soak ? 100 : 12); m++) {
    const s = anyModel();
    const { rig, source, loaded } = s;
    const engine = loaded.engine;
    const target = oneOf(TARGETS);
    const prices = pricesOf(s, target);
    prices.fill(rig.arena.u32);
    rig.arena.u32.set(meterTable(certificates, target), loaded.endAt >> 2);
    rig.compute.set_prices(loaded.endAt);
    for (let i = 0; i < 12; i++) {
      const n = 1 + below(Math.min(source.batch, source.ctx));
      const pos = below(source.ctx - n + 1);
      const charge = (): number => {
        const { cycles } = rig.step();
        rig.arena.f64[(rig.stepAt + StepBlock.at.cycles) >> 3] = 0;
        return cycles;
      };
      charge();
      rig.body(
        engine,
        pos,
        Array.from({ length: n }, () => below(source.vocabulary)),
      );
      t.is(charge(), prices.segment('body', n, pos).most);
      rig.head(engine, n - 1);
      t.is(charge(), prices.segment('head', 1, pos + n - 1).most);
      rig.set('target', 0);
      rig.run(engine.scoreAt);
      t.is(charge(), prices.segment('score', 1, pos + n - 1).most);
      const draw = anyDraw(s, pos + n);
      rig.compute.take_spent();
      rig.run(engine.sampleAt);
      const sampled = charge() - prices.segment('sample', 1, pos + n - 1).most;
      const bound = prices.draw(draw, pos + n);
      t.true(
        isBound(bound) && sampled >= bound.least && sampled <= bound.most,
        `${sampled} in ${JSON.stringify(bound)}`,
      );
      for (const segment of SEGMENTS) {
        const rows = segment === 'body' ? n : segment === 'head' ? Math.min(n, source.draws) : 1;
        const whole = prices.segment(segment, rows, pos);
        const ops = prices.ops(segment, rows, pos);
        t.is(sum(ops.map(op => op.most)), whole.most);
        t.true(isBound(whole) && ops.every(op => isBound(op) && op.compute >= 0 && op.memory >= 0 && op.overhead > 0));
        t.is(sum(ops.map(op => op.compute + op.memory + op.overhead)), 1000 * whole.most);
      }
      const step = prices.step(n, pos, true, draw, pos + n);
      t.true(isBound(step));
      t.is(
        step.most,
        prices.segment('body', n, pos).most +
          prices.segment('head', 1, pos).most +
          prices.segment('sample', 1, pos).most +
          bound.most,
      );
    }
  }
});

test('a pass of several sessions is charged for its rows and for the position of each', t => {
  for (let m = 0; m < (soak ? 100 : 12); m++) {
    const s = anyModel();
    const { rig, source, loaded } = s;
    const prices = pricesOf(s, oneOf(TARGETS));
    prices.fill(rig.arena.u32);
    for (let i = 0; i < 12; i++) {
      scatter(s);
      const positions = Array.from({ length: 1 + below(source.batch) }, () => below(source.ctx));
      rig.arena.f64[(rig.stepAt + StepBlock.at.cycles) >> 3] = 0;
      rig.pass(loaded.engine, rowsAt(s, positions));
      t.is(
        rig.step().cycles,
        prices.bodyTokens(positions.length) + sum(positions.map(pos => prices.bodyPosition(pos))),
      );
    }
    const [n, pos] = [Math.min(source.batch, source.ctx), source.ctx - Math.min(source.batch, source.ctx)];
    const all = Array.from({ length: n }, (_, i) => prices.bodyPosition(pos + i));
    t.is(prices.segment('body', n, pos).most, prices.bodyTokens(n) + sum(all));
  }
});

/** Sampler settings, written where the sampler reads them; a history of `length`. */
function anyDraw({ rig, source }: Subject, length: number): Draw {
  const topK = oneOf([0, 1, 2, 5, 40, source.vocabulary]);
  const modes =
    (next() < 0.5 ? SAMPLER_MODE.penalty : 0) |
    (next() < 0.2 || topK === 1 ? SAMPLER_MODE.greedy : 0) |
    (next() < 0.5 ? SAMPLER_MODE.topP : 0) |
    (next() < 0.5 ? SAMPLER_MODE.minP : 0);
  SamplerRecord.write(rig.arena.u8, source.samplerAt, {
    temp: 0.8,
    topK,
    topP: 0.9,
    minP: 0.05,
    repeatPenalty: 1.1,
    modes,
  });
  rig.set('historyLength', length);
  rig.set('draw', below(2 ** 31));
  for (let i = 0; i < length; i++) rig.arena.u32[(source.historyAt >> 2) + i] = below(source.vocabulary);
  return { modes, topK };
}

test('bounds of requests are the sums of their steps', t => {
  for (let m = 0; m < (soak ? 100 : 10); m++) {
    const s = anyModel();
    const prices = pricesOf(s, oneOf(TARGETS));
    const { ctx, batch } = s.source;
    const draw = anyDraw(s, 0);
    const prompt = 1 + below(ctx);
    const generate = 1 + below(ctx);
    const logitsK = oneOf([0, 3]);
    const top = logitsK === 0 ? { most: 0, least: 0 } : prices.topK(logitsK);
    const steps: Bound[] = [];
    for (let pos = 0; pos < prompt; pos += batch) {
      const n = Math.min(batch, prompt - pos);
      steps.push(prices.step(n, pos, pos + n === prompt, draw, prompt));
    }
    const decode: Bound[] = [];
    for (let pos = prompt; pos < ctx && decode.length < generate - 1 && prompt + decode.length + 1 < ctx; pos++)
      decode.push(prices.step(1, pos, true, draw, pos + 1));
    const most = (list: readonly Bound[], draws: number): number => sum(list.map(x => x.most)) + draws * top.most;
    const least = (list: readonly Bound[], draws: number): number => sum(list.map(x => x.least)) + draws * top.least;
    const r = requestBounds(prices, { prompt, generate, draw, logitsK });
    t.deepEqual(r.prefill, { most: most(steps, 1), least: least(steps, 1) });
    t.deepEqual(r.full, {
      most: most([...steps, ...decode], 1 + decode.length),
      least: least([...steps, ...decode], 1 + decode.length),
    });
    t.deepEqual(r.total, { most: r.full.most, least: r.prefill.least });
    if (decode.length > 0) {
      t.is(r.decode.most, Math.max(...decode.map(x => x.most)) + top.most);
      t.is(r.decode.least, Math.min(...decode.map(x => x.least)) + top.least);
      t.is(decode[r.decodeWorstPos - prompt]!.most + top.most, r.decode.most);
    } else t.deepEqual(r.decode, { most: 0, least: 0 });

    for (const prefix of [0, 1] as const) {
      const tokens = below(4 * ctx) + 1;
      if (ctx < 2) continue;
      let naive = 0;
      for (let done = 0; done < tokens; done += ctx - 1) {
        const length = prefix + Math.min(ctx - 1, tokens - done);
        for (let pos = 0; pos < length; pos += batch) {
          const n = Math.min(batch, length - pos);
          naive += prices.segment('body', n, pos).most;
          for (let row = 0; row < n; row++) {
            const target = pos + row + 1;
            if (target <= prefix || target >= length) continue;
            naive += prices.segment('head', 1, pos + row).most + prices.segment('score', 1, pos + row).most;
          }
        }
      }
      t.is(scoreBounds(prices, tokens, prefix).most, naive);
      t.true(isBound(scoreBounds(prices, tokens, prefix)));
    }
  }
});

test('at least, a step brings every weight that it must read from memory', t => {
  // On a machine whose processor takes no time and whose caches keep nothing, a line costs what the target says.
  const bus: Target = { ...MODELS[0]!, lower: [], cacheBytes: 0 };
  const line = bus.levels[bus.home.weights]!.lineLower;
  for (const file of ['fable-f16', 'fable-q8_0', 'fable-q4_0']) {
    const s = fable(file);
    const step = pricesOf(s, bus).step(3, 5, true, { modes: SAMPLER_MODE.greedy, topK: 0 }, 8);
    const bytes = ((step.least * 1000) / line) * bus.lineBytes;
    const matrices = accepted(s.rig.image(`images/models/${file}.gguf`)).tensors.filter(x => x.shape.length > 1);
    const all = sum(matrices.map(x => x.bytes)); // the embeddings are the output too
    t.true(bytes <= s.loaded.budget.weights && bytes > all - 2 * bus.lineBytes, `${bytes} of ${all}`);
  }
});

test('turning a text into ids stays within its bounds, in one part and in several', t => {
  const rig = new Rig('simd128');
  const options = { ctx: 64, kvType: GGML_TYPE.F16, batch: 8 };
  const driver = new TransformerDriver({ ...rig, tokenizer: rig.tokenizer() });
  const s = subjectOf(rig, accepted(rig.load(driver, accepted(rig.image('images/models/fable-q4_0.gguf')), options)));
  const { engine, endAt, place, budget } = s.loaded;
  const v = engine.vocabulary;
  const tableAt = endAt;
  const [outAt, workAt, capacity] = [endAt + 16384, endAt + 65536, 256];
  rig.compute.set_prices(tableAt);
  const text = 'Once upon a time there was a dog, 42 cats & Zoë!  It said: "don\'t". ';
  const kinds = [text, 'a', '\n ', ' !', 'ab1', '\u00e9', '<|endoftext|>', 'the '];
  for (let i = 0; i < (soak ? 400 : 60); i++) {
    const target = oneOf(TARGETS);
    rig.arena.u32.set(meterTable(certificates, target), tableAt >> 2);
    const length = oneOf([0, 1, 2, 64, 255, 256, 1000, 2047, below(12_000)]);
    const kind = oneOf(kinds);
    const bytes = new TextEncoder().encode(kind.repeat(1 + Math.ceil(length / kind.length))).subarray(0, length);
    rig.compute.take_spent();
    // What may be one word, however often repeated, has to fit in the room whole.
    const work = oneOf([32 * 1024, 200 * 1024]);
    v.begin(oneOf([0, ENCODE.special]), workAt, kind.trim().length > 2 && kind.includes(' ') ? work : 200 * 1024);
    const room = v.inputBytes() + 1;
    for (let at = 0, final = false; !final;) {
      const n = Math.min(v.inputBytes(), bytes.length - at);
      rig.arena.u8.set(bytes.subarray(at, at + n), v.inputAt());
      at += n;
      final = at === bytes.length;
      v.input(n, final);
      let ids = 0;
      do t.true((ids = v.encode(outAt, capacity)) >= 0);
      while (ids > 0);
    }
    const spent = rig.compute.take_spent() >>> 0;
    const at = place.vocabularyAt;
    const bound = accepted(
      encodingBounds(pricesOf(s, target), {
        bytes: length,
        room,
        capacity,
        vocabAt: at,
        word: a => (a >= at && a < at + budget.vocabulary ? rig.arena.i32[a >> 2]! : null),
      }),
    );
    t.true(
      isBound(bound) && spent >= bound.least && spent <= bound.most,
      `${length} bytes of ${kind} in ${room} on ${target.name}: ${spent} in ${JSON.stringify(bound)}`,
    );
    if (i < 20) t.log(`${length} bytes, room ${room}, ${target.name}: ${bound.least} ≤ ${spent} ≤ ${bound.most}`);
  }
});

test('the stub is priced too; a plan that cannot be priced is refused by name', t => {
  const rig = new Rig('simd128');
  const driver = new StubDriver(rig.arena);
  const image = accepted(driver.builtin(''));
  const s = subjectOf(rig, accepted(rig.load(driver, image, { ctx: 64, kvType: GGML_TYPE.F16, batch: 4 })));
  for (const target of TARGETS) t.true(isBound(pricesOf(s, target).segment('head', 1, 3)));
  const word = (at: number): number => (at === s.source.headAt ? 77 : s.source.word(at));
  const refused = Prices.of(certificates, TARGETS[0]!, { ...s.source, word });
  t.regex(isRefusal(refused) ? refused.message : '', /no certificate for op 77/);
});
