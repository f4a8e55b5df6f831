// Engines: the transformer against an independent f64 forward pass on random small models, bit equality between builds, batches and
// recomputation, exact budgets, refusals by name, a step loop that leaves no garbage, and the stub.

import { existsSync } from 'node:fs';
import v8 from 'node:v8';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import {
  ENGINE_REGIONS,
  GGML_TYPE,
  isRefusal,
  KV_PAGE,
  LIMITS,
  PAGE_RECORD_BYTES,
  PLAN_RECORD,
  RowRecord,
  StepBlock,
} from '../kernel/abi/index.ts';
import type { Engine, EngineDriver, EngineOptions, ModelImage, SpecCode } from '../kernel/abi/index.ts';
import { GetRows, KvStore, MulMat, Norm, Op, Quantize } from '../drivers/engine/ops.ts';
import { StubDriver } from '../drivers/engine/stub/driver.ts';
import { TensorRecord } from '../drivers/engine/tensors.ts';
import { TransformerDriver } from '../drivers/engine/transformer/driver.ts';
import { accepted, BUILDS, canRun, optionsOf, random, Rig, shared, soak } from './harness.ts';
import type { LoadedModel, RigOptions, Row } from './harness.ts';
import { Forward } from './reference/forward.ts';
import { tensorBytes, writeGguf } from './reference/gguf-writer.ts';
import type { MetaInput, TensorInput } from './reference/gguf-writer.ts';
import { kvTypeFor, NAMES, randomConfig, randomModel } from './reference/models.ts';

const bare = (rig: Rig): TransformerDriver => new TransformerDriver({ ...rig, tokenizer: rig.bareTokenizer });
const builds = BUILDS.filter(canRun);

/** Loads bytes with the bare tokenizer; returns what a run needs. */
function open(file: Uint8Array, options: RigOptions, build = builds[0]!): { rig: Rig; loaded: LoadedModel } {
  const rig = new Rig(build);
  return { rig, loaded: accepted(rig.load(bare(rig), accepted(rig.image(file)), options)) };
}

const bits = (row: Float32Array): string => Buffer.from(row.buffer).toString('hex');

// An int8 activation that falls the other way moves a small model's logits by percents, and the f64 reference has its own ties. So most
// positions must agree as float arithmetic does, and the few others within what such a step can do.
const CLOSE = 2e-4;
const FAR = { exact: 2e-4, half: 2e-2, int8: 6e-2 };

for (const architecture of NAMES) {
  test(`${architecture}: random models agree with the f64 forward pass; batches, builds and recomputation to the bit`, t => {
    const next = random(7919 * (1 + NAMES.indexOf(architecture)));
    const rigs = new Map(builds.map(build => [build, new Rig(build)]));
    const load = (
      file: Uint8Array,
      options: RigOptions,
      build: (typeof builds)[number],
    ): { rig: Rig; engine: Engine } => {
      const rig = rigs.get(build)!;
      return { rig, engine: accepted(rig.load(bare(rig), accepted(rig.image(file)), options)).engine };
    };
    let worst = 0;
    let positions = 0;
    let close = 0;
    const models = soak ? 400 : 40;
    for (let m = 0; m < models; m++) {
      const config = randomConfig(architecture, next);
      const model = randomModel(config, next);
      const kvType = kvTypeFor(config, next);
      const ids = Array.from({ length: 14 }, () => Math.floor(next() * config.vocabulary));
      const ctx = config.context - 5;
      const single = load(model.file, { ctx, kvType, batch: 1 }, builds[0]!);
      const rows = single.rig.logits(single.engine, ids, 1);

      const forward = new Forward(model, kvType);
      const types = [...model.weights.values()].map(w => w.type);
      const int8 = types.some(x => x === GGML_TYPE.Q4_0 || x === GGML_TYPE.Q4_1 || x === GGML_TYPE.Q8_0);
      const half = kvType !== GGML_TYPE.F32 || types.some(x => x !== GGML_TYPE.F32);
      const allowed = int8 || kvType === GGML_TYPE.Q4_0 ? FAR.int8 : half ? FAR.half : FAR.exact;
      for (const [i, id] of ids.entries()) {
        const expected = forward.next(id);
        const scale = expected.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
        const error = expected.reduce((a, b, k) => Math.max(a, Math.abs(b - rows[i]![k]!)), 0) / scale;
        worst = Math.max(worst, error);
        positions++;
        if (error <= CLOSE) close++;
        t.true(error <= allowed, `model ${m} ${JSON.stringify(config)} position ${i}: ${error} of ${allowed}`);
      }
      for (const batch of [2, 3, 5, 8]) {
        const build = builds[batch % builds.length]!;
        const other = load(model.file, { ctx, kvType, batch }, build);
        const batched = other.rig.logits(other.engine, ids, batch);
        t.is(
          batched.map(bits).join(),
          rows.map(bits).join(),
          `model ${m} ${JSON.stringify(config)}: batch ${batch}, ${build}`,
        );
      }
      // Without a cache: for a few positions, everything before them is computed again.
      for (const length of [1, 4, 9]) {
        const again = load(model.file, { ctx, kvType, batch: length }, builds[0]!);
        again.rig.body(again.engine, 0, ids.slice(0, length));
        t.is(
          bits(again.rig.head(again.engine, length - 1)),
          bits(rows[length - 1]!),
          `model ${m}: recomputed ${length}`,
        );
      }
    }
    t.log(`${close} of ${positions} positions within ${CLOSE}, worst ${worst.toExponential(1)}, ${models} models`);
    t.true(close > 0.8 * positions);
  });
}

/** A random permutation of 0 … n − 1. */
function shuffled(n: number, next: () => number): number[] {
  const list = Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [list[i], list[j]] = [list[j]!, list[i]!];
  }
  return list;
}

for (const architecture of NAMES)
  test(`${architecture}: passes that mix sessions, over pages anywhere, give each the bits it has alone`, t => {
    const next = random(104729 * (1 + NAMES.indexOf(architecture)));
    const below = (n: number): number => Math.floor(next() * n);
    let [passes, rows] = [0, 0];
    for (let m = 0; m < (soak ? 60 : 4); m++) {
      const config = { ...randomConfig(architecture, next), context: 112 };
      const { file } = randomModel(config, next);
      const ctx = 65 + below(48); // three pages or four, the last one rarely whole
      const kvType = kvTypeFor(config, next);
      const sessions = 2 + below(4);
      const ids = Array.from({ length: sessions }, () =>
        Array.from({ length: 1 + below(ctx) }, () => below(config.vocabulary)),
      );
      const alone = open(file, { ctx, kvType, batch: 1 });
      const wanted = ids.map(list => alone.rig.logits(alone.loaded.engine, list, 1).map(bits));
      for (const build of builds) {
        const batch = 1 + below(LIMITS.batchMax);
        const each = Math.ceil(ctx / KV_PAGE);
        const { rig, loaded } = open(file, { ctx, kvType, batch, sessions, pages: sessions * each + 3 }, build);
        const pages = shuffled(loaded.engine.options.pages, next);
        ids.forEach((_, slot) => rig.page(loaded.engine, slot, pages.slice(slot * each, (slot + 1) * each)));
        const done = ids.map(() => 0);
        while (ids.some((list, slot) => done[slot]! < list.length)) {
          const waiting: Row[] = [];
          ids.forEach((list, slot) => {
            const room = Math.min(batch - waiting.length, list.length - done[slot]!, next() < 0.3 ? 0 : 1 + below(8));
            const first = done[slot]!;
            for (let pos = first; pos < first + room; pos++) waiting.push({ slot, pos, id: list[pos]! });
            done[slot] = first + Math.max(0, room);
          });
          if (waiting.length === 0) continue;
          const pass = shuffled(waiting.length, next).map(i => waiting[i]!); // keys go to the cache before any row reads them
          rig.pass(loaded.engine, pass);
          const order = shuffled(pass.length, next);
          while (order.length > 0) {
            const group = order.splice(0, 1 + below(batch));
            const logits = rig.heads(loaded.engine, group);
            for (const [i, row] of group.entries()) {
              const { slot, pos } = pass[row]!;
              if (bits(logits[i]!) !== wanted[slot]![pos])
                return void t.fail(
                  `model ${m} ${JSON.stringify(config)}, ${build}, batch ${batch}: slot ${slot}, position ${pos}, ${i} of ${group.length}`,
                );
            }
          }
          passes++;
          rows += pass.length;
        }
      }
    }
    t.log(`${rows} rows in ${passes} passes`);
    t.pass();
  });

/** Offsets of every region, and of what follows the model. */
function regions(rig: Rig, { budget, place, endAt }: LoadedModel): Map<string, Uint8Array> {
  const found = new Map<string, Uint8Array>();
  for (const region of ENGINE_REGIONS)
    found.set(region, rig.arena.u8.slice(place[`${region}At`], place[`${region}At`] + budget[region]));
  found.set('after', rig.arena.u8.slice(endAt));
  return found;
}

function checkPlaced(
  t: ExecutionContext,
  rig: Rig,
  image: ModelImage,
  options: EngineOptions,
  loaded: LoadedModel,
): void {
  const { engine, budget } = loaded;
  const before = regions(rig, loaded);
  t.true(
    before.get('after')!.every(b => b === 0xa5),
    'loading wrote after its last region',
  );
  for (const region of ENGINE_REGIONS) t.is(budget[region] % LIMITS.arenaAlign, 0, region);
  const ids = Array.from({ length: options.batch }, (_, i) => i % engine.vocabulary.count);
  for (let pos = 0; pos < options.ctx; pos += options.batch) rig.body(engine, pos, ids.slice(0, options.ctx - pos));
  rig.heads(
    engine,
    Array.from({ length: options.draws }, () => 0),
  );
  rig.set('logitsAt', engine.logitsAt + (options.draws - 1) * engine.logitsStride);
  rig.run(engine.sampleAt);
  const after = regions(rig, loaded);
  for (const region of ['weights', 'tensors', 'vocabulary', 'plan', 'after'])
    t.is(Buffer.compare(after.get(region)!, before.get(region)!), 0, `${region} changed while running`);
  t.true(budget.weights >= image.tensors.reduce((sum, i) => sum + i.bytes, 0), 'fewer bytes than the file has');
  // Of a page each position of each plane is somebody's: after a full context those within it are written, and nothing else is.
  const { kvAt, pageBytes, shape } = engine;
  const positionBytes = pageBytes / KV_PAGE / (2 * shape.layers);
  const untouched = Buffer.alloc(positionBytes, 0xa5);
  for (let i = 0; i < options.pages * KV_PAGE * 2 * shape.layers; i++) {
    const pos = Math.floor(i / (KV_PAGE * 2 * shape.layers)) * KV_PAGE + (i % KV_PAGE);
    const at = kvAt + i * positionBytes;
    const same = Buffer.compare(rig.arena.u8.subarray(at, at + positionBytes), untouched) === 0;
    if (same !== pos >= options.ctx) t.fail(`position ${pos} of ${options.ctx}, plane at ${at}`);
  }
  const records = rig.arena.u8.subarray(engine.pageRecordsAt, engine.pageRecordsAt + options.pages * PAGE_RECORD_BYTES);
  t.true(records.every(b => b === 0xa5) && engine.pageRecordsAt >= kvAt + options.pages * pageBytes);
  t.is(budget.session, options.sessions * engine.slots.bytes);
}

test('regions: bytes taken are bytes planned, for every shape', t => {
  const next = random(20);
  for (let m = 0; m < (soak ? 300 : 60); m++) {
    const architecture = NAMES[m % NAMES.length]!;
    const config = randomConfig(architecture, next);
    const options = {
      ctx: 1 + Math.floor(next() * config.context),
      kvType: kvTypeFor(config, next),
      batch: 1,
    };
    const batched = optionsOf({ ...options, batch: Math.min(options.ctx, 1 + Math.floor(next() * 8)) });
    const rig = new Rig(builds[0]);
    const image = accepted(rig.image(randomModel(config, next).file));
    checkPlaced(t, rig, image, batched, accepted(rig.load(bare(rig), image, batched)));
  }
});

const models = [
  'fable-f16',
  'fable-f32',
  'fable-q4_0',
  'fable-q8_0',
  'stories260K-q4_1',
  'synthKQ-bf16',
  'synthgpt2-q4_0',
  'synth8M-q4_0',
  'synth8M-q8_0',
];
for (const name of models) {
  const path = shared(`models/${name}.gguf`);
  (existsSync(path) ? test : test.skip)(`regions: ${name}`, t => {
    const rig = new Rig(builds[0]);
    const driver = new TransformerDriver({ ...rig, tokenizer: rig.tokenizer() });
    const image = accepted(rig.image(path));
    const tight = name === 'synth8M-q8_0'; // has room for one page
    const options = optionsOf({ ctx: tight ? 32 : 43, kvType: GGML_TYPE.F32, batch: tight ? 1 : 8 });
    const loaded = accepted(rig.load(driver, image, options));
    checkPlan(t, rig, driver, image, options, loaded);
    checkPlaced(t, rig, image, options, loaded);
    const directory = Array.from({ length: image.tensors.length }, (_, i) =>
      TensorRecord.read(rig.arena.u8, loaded.place.tensorsAt + i * TensorRecord.bytes),
    );
    for (const r of directory) {
      const info = image.tensor(Buffer.from(rig.arena.u8.subarray(r.nameAt, r.nameAt + r.nameBytes)).toString())!;
      t.deepEqual([r.fileAt, r.fileBytes, r.type, r.ne0], [info.fileAt, info.bytes, info.type, info.shape[0]!]);
      t.true(
        r.at >= loaded.place.weightsAt &&
          r.at + r.bytes <= loaded.place.weightsAt + loaded.budget.weights &&
          r.at % 32 === 0,
      );
    }
    t.log(
      Object.entries(loaded.budget)
        .map(([region, bytes]) => `${region} ${bytes}`)
        .join(' · '),
    );
  });
}

test('the plan is listed op by op', t => {
  const config = { ...randomConfig('llama', random(3)), layers: 2 };
  const { loaded } = open(randomModel(config, random(4)).file, { ctx: 16, kvType: GGML_TYPE.F16, batch: 4 });
  const rows = loaded.engine.ops();
  t.deepEqual([...new Set(rows.map(r => r.segment))], ['body', 'head', 'sample', 'score']);
  const down = rows.find(r => r.op === 'MUL_MAT' && r.detail.includes('weights=blk.1.ffn_down.weight'))!;
  t.deepEqual([down.layer, down.name], [1, 'blk.1.ffn_down.weight']);
  // Layers follow each other; what precedes and follows them belongs to none.
  const layers = rows.map(r => r.layer);
  t.deepEqual(
    layers.filter((l, i) => l !== layers[i - 1]),
    [-1, 0, 1, -1],
  );
  for (const r of rows) t.is(r.name === '', r.op === 'END', `${r.op} ${r.detail}`);
});

/** The records of a plan, segment by segment, as the kernel reads them. */
function* records(plan: {
  readonly word: (at: number) => number;
  readonly bodyAt: number;
  readonly headAt: number;
  readonly sampleAt: number;
  readonly scoreAt: number;
}): Generator<{ segment: string; at: number; head: boolean; tokensAt: number; positionsAt: number }> {
  for (const segment of ['body', 'head', 'sample', 'score'] as const)
    for (let at = plan[`${segment}At`]; plan.word(at) !== 0; at += PLAN_RECORD.bytes)
      yield {
        segment,
        at,
        head: (plan.word(at + 4 * PLAN_RECORD.flags) & PLAN_RECORD.flagHead) !== 0,
        tokensAt: plan.word(at + 4 * PLAN_RECORD.tokens),
        positionsAt: plan.word(at + 4 * PLAN_RECORD.positions),
      };
}

/** Checks plan() against load(): the same words, without touching the arena; every record has its rows, behind the records and apart. */
function checkPlan(
  t: ExecutionContext,
  rig: Rig,
  driver: EngineDriver,
  image: ModelImage,
  options: EngineOptions,
  { engine, budget, place }: LoadedModel,
): void {
  const before = rig.arena.u8.slice();
  const plan = accepted(driver.plan(image, options, budget, place));
  t.is(Buffer.compare(rig.arena.u8, before), 0, 'compiling wrote into the arena');
  const { bodyAt, headAt, sampleAt, scoreAt, logitsAt } = engine;
  t.like(plan, { bodyAt, headAt, sampleAt, scoreAt, logitsAt });
  t.deepEqual(plan.rows, engine.ops());
  t.is(plan.words.byteLength, budget.plan);
  const first = (bodyAt - place.planAt) >> 2; // before it lie frequencies
  t.deepEqual(
    plan.words.slice(first),
    rig.arena.i32.slice(bodyAt >> 2, (place.planAt + budget.plan) >> 2),
    'words of the plan',
  );
  t.true(plan.words.subarray(0, first).every(w => w === 0));

  const rows = new Map<number, { entries: number; shape: string }>();
  let last = 0;
  const word = (at: number): number => plan.words[(at - place.planAt) >> 2]!;
  const all = [...records({ ...plan, word })];
  for (const { at, tokensAt, positionsAt } of all) {
    const op = word(at) as Op;
    const shape = `${op} ${word(at + 4)} ${(LENGTHS[op] ?? []).map(w => word(at + 4 * w)).join()}`;
    t.is(positionsAt !== 0, op === Op.ATTENTION, Op[op]);
    t.is((word(at + 4 * PLAN_RECORD.flags) & PLAN_RECORD.flagRows) !== 0, isByRows(op, word(at + 4)), Op[op]);
    for (const [rowAt, entries] of [
      [tokensAt, options.batch + 1],
      ...(positionsAt === 0 ? [] : [[positionsAt, options.ctx]]),
    ] as [number, number][]) {
      t.is(rowAt % 8, 0);
      t.deepEqual(rows.get(rowAt) ?? { entries, shape }, { entries, shape }, 'a row is shared by ops of one shape');
      rows.set(rowAt, { entries, shape });
    }
    last = Math.max(last, at);
  }
  const sorted = [...rows].sort((a, b) => a[0] - b[0]);
  t.true(sorted.every(([at], i) => at >= (sorted[i - 1]?.[0] ?? last) + 8 * (sorted[i - 1]?.[1].entries ?? 16)));
  const [lastAt, lastRow] = sorted.at(-1)!;
  const endAt = lastAt + 8 * lastRow.entries;
  const spare = place.planAt + budget.plan - endAt;
  t.true(spare >= 0 && spare < LIMITS.arenaAlign, `${spare} bytes beyond the last row`);
  t.true(
    rig.arena.u8.subarray(sorted[0]![0], place.planAt + budget.plan).every(b => b === 0),
    'rows are empty',
  );
}

/** What needs the position of a row, or its session's pages. */
const BY_ROWS: ReadonlySet<Op> = new Set([Op.ADD_ROWS, Op.ROPE_TABLE, Op.ROPE_TABLE_SCALED, Op.KV_STORE, Op.ATTENTION]);
/** Those, and the norm of a head, which takes its rows from anywhere in the pass. */
const isByRows = (op: Op, flags: number): boolean =>
  BY_ROWS.has(op) || ((flags & PLAN_RECORD.flagHead) !== 0 && (op === Op.RMS_NORM || op === Op.LAYER_NORM));

/** The words of a record that say how much it does. */
const LENGTHS: Partial<Record<Op, readonly number[]>> = {
  [Op.GET_ROWS]: [GetRows.k, GetRows.weightType, GetRows.rows],
  [Op.ADD_ROWS]: [GetRows.k, GetRows.weightType, GetRows.rows],
  [Op.RMS_NORM]: [Norm.n],
  [Op.LAYER_NORM]: [Norm.n],
  [Op.QUANTIZE]: [Quantize.k, Quantize.weightType],
  [Op.MUL_MAT]: [MulMat.rows, MulMat.k, MulMat.weightType, MulMat.dstStride],
  [Op.KV_STORE]: [KvStore.n, KvStore.srcStride, KvStore.kvType],
};

test('a plan compiled without loading is the plan that is loaded', t => {
  const next = random(21);
  for (let m = 0; m < (soak ? 300 : 60); m++) {
    const config = randomConfig(NAMES[m % NAMES.length]!, next);
    const options = optionsOf({
      ctx: 1 + Math.floor(next() * config.context),
      kvType: kvTypeFor(config, next),
      batch: 1 + Math.floor(next() * 8),
      sessions: 1 + Math.floor(next() * 8),
    });
    const rig = new Rig(builds[0]);
    const image = accepted(rig.image(randomModel(config, next).file));
    checkPlan(t, rig, bare(rig), image, options, accepted(rig.load(bare(rig), image, options)));
  }
  const rig = new Rig(builds[0]);
  const driver = new StubDriver(rig.arena);
  const image = accepted(driver.builtin(''));
  const options = optionsOf({ ctx: 33, kvType: GGML_TYPE.F16, batch: 8 });
  checkPlan(t, rig, driver, image, options, accepted(rig.load(driver, image, options)));
});

test('ops of one shape share their prices, however many layers there are', t => {
  const options = { ctx: 16, kvType: GGML_TYPE.F16, batch: 4 };
  const config = { ...randomConfig('llama', random(6)), types: () => GGML_TYPE.F16 };
  const rows = [2, 5].map(layers => {
    const { rig, loaded } = open(randomModel({ ...config, layers }, random(7)).file, options);
    const word = (at: number): number => rig.arena.i32[at >> 2]!;
    const all = [...records({ ...loaded.engine, word })];
    return { ops: all.length, rows: new Set(all.map(r => r.tokensAt)).size };
  });
  t.is(rows[0]!.rows, rows[1]!.rows);
  t.true(rows[1]!.ops > 2 * rows[1]!.rows, `${rows[1]!.ops} ops, ${rows[1]!.rows} rows`);
});

test('a step is charged what its ops cost, whatever the data', t => {
  for (const architecture of ['llama', 'gpt2'] as const) {
    const next = random(architecture.length);
    const config = randomConfig(architecture, next);
    const options = { ctx: 16, kvType: GGML_TYPE.F32, batch: 4 };
    const { rig, loaded } = open(randomModel(config, next).file, options);
    const { engine } = loaded;
    const { view, i32 } = rig.arena;
    const all = [...records({ ...engine, word: at => i32[at >> 2]! })];
    const price = (at: number, i: number): bigint => view.getBigUint64(at + 8 * i, true);
    for (const { tokensAt, positionsAt } of all) {
      for (let n = 1; n <= options.batch; n++)
        view.setBigUint64(tokensAt + 8 * n, BigInt(Math.floor(next() * 2 ** 40)), true);
      if (positionsAt !== 0)
        for (let p = 0; p < options.ctx; p++)
          view.setBigUint64(positionsAt + 8 * p, BigInt(Math.floor(next() * 2 ** 40)), true);
    }
    const cyclesAt = rig.stepAt + StepBlock.at.cycles;
    for (let round = 0; round < 40; round++) {
      const n = 1 + Math.floor(next() * options.batch);
      const pos = Math.floor(next() * (options.ctx - n + 1));
      const picks = Array.from({ length: 1 + Math.floor(next() * options.batch) }, () => Math.floor(next() * n));
      view.setBigUint64(cyclesAt, 0n, true);
      rig.body(
        engine,
        pos,
        Array.from({ length: n }, () => Math.floor(next() * config.vocabulary)),
      );
      rig.heads(engine, picks);
      rig.set('picks', 1);
      rig.run(engine.scoreAt);
      const want = all
        .filter(r => r.segment !== 'sample')
        .reduce((sum, { segment, head, tokensAt, positionsAt }) => {
          const positions = positionsAt === 0 ? [] : Array.from({ length: n }, (_, i) => price(positionsAt, pos + i));
          return positions.reduce(
            (all, x) => all + x,
            sum + price(tokensAt, segment === 'score' ? 1 : head ? picks.length : n),
          );
        }, 0n);
      t.is(view.getBigUint64(cyclesAt, true), want, `${architecture}: ${n} tokens from ${pos}`);
    }
  }
});

// ── Refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Parts {
  meta: Record<string, MetaInput>;
  tensors: TensorInput[];
}

const zeros = (name: string, ...shape: number[]): TensorInput => ({
  name,
  type: GGML_TYPE.F32,
  shape,
  data: new Uint8Array(tensorBytes(GGML_TYPE.F32, shape)),
});

function tiny(change: (parts: Parts) => void, architecture = 'llama'): Uint8Array {
  const parts: Parts = {
    meta: {
      'general.architecture': { string: architecture },
      [`${architecture}.block_count`]: { u32: 1 },
      [`${architecture}.context_length`]: { u32: 64 },
      [`${architecture}.embedding_length`]: { u32: 32 },
      [`${architecture}.feed_forward_length`]: { u32: 64 },
      [`${architecture}.attention.head_count`]: { u32: 4 },
      [`${architecture}.attention.layer_norm_rms_epsilon`]: { f32: 1e-5 },
    },
    tensors: [
      zeros('token_embd.weight', 32, 10),
      zeros('output_norm.weight', 32),
      zeros('blk.0.attn_norm.weight', 32),
      zeros('blk.0.attn_q.weight', 32, 32),
      zeros('blk.0.attn_k.weight', 32, 32),
      zeros('blk.0.attn_v.weight', 32, 32),
      zeros('blk.0.attn_output.weight', 32, 32),
      zeros('blk.0.ffn_norm.weight', 32),
      zeros('blk.0.ffn_gate.weight', 32, 64),
      zeros('blk.0.ffn_up.weight', 32, 64),
      zeros('blk.0.ffn_down.weight', 64, 32),
    ],
  };
  change(parts);
  return writeGguf(parts.meta, parts.tensors);
}

const refusals: readonly [
  name: string,
  code: SpecCode,
  text: RegExp,
  change: (p: Parts) => void,
  architecture?: string,
][] = [
  [
    'an architecture it does not know',
    1002,
    /architecture mamba is not known; this build runs llama, qwen2, qwen3, gemma, phi2, gpt2, sis/,
    () => {},
    'mamba',
  ],
  ['a missing key', 6002, /metadata key llama\.block_count not found/, p => delete p.meta['llama.block_count']],
  [
    'a key of the wrong type',
    6002,
    /llama\.block_count has type 8, want 4 \(u32\)/,
    p => (p.meta['llama.block_count'] = { string: '1' }),
  ],
  [
    'a count outside its range',
    6002,
    /llama\.block_count = 100000 is outside 1…512/,
    p => (p.meta['llama.block_count'] = { u32: 100000 }),
  ],
  [
    'an epsilon that is not positive',
    6002,
    /layer_norm_rms_epsilon = 0 is not a positive number/,
    p => (p.meta['llama.attention.layer_norm_rms_epsilon'] = { f32: 0 }),
  ],
  [
    'heads that do not divide',
    1002,
    /4 heads cannot share 3 key\/value heads evenly/,
    p => (p.meta['llama.attention.head_count_kv'] = { u32: 3 }),
  ],
  [
    'an odd rotation',
    1002,
    /rope\.dimension_count 3 is odd/,
    p => (p.meta['gemma.rope.dimension_count'] = { u32: 3 }),
    'gemma',
  ],
  [
    'a rotation of part of a head where all of it must turn',
    1002,
    /llama: rope\.dimension_count 4 differs from the head's 8 elements/,
    p => (p.meta['llama.rope.dimension_count'] = { u32: 4 }),
  ],
  [
    'heads that are together longer than an embedding',
    1002,
    /qwen2: 4 heads of 16 elements do not make embedding_length 32/,
    p => (p.meta['qwen2.attention.key_length'] = { u32: 16 }),
    'qwen2',
  ],
  [
    'value heads of another size',
    1002,
    /value_length 4 differs from the key length 8/,
    p => (p.meta['llama.attention.value_length'] = { u32: 4 }),
  ],
  [
    'rotary positions scaled in a way it does not have',
    1002,
    /llama\.rope\.scaling\.type = longrope is not supported/,
    p => (p.meta['llama.rope.scaling.type'] = { string: 'longrope' }),
  ],
  ['a block without its head norms', 6003, /tensor blk\.0\.attn_q_norm\.weight not found/, () => {}, 'qwen3'],
  [
    'queries in one matrix with the keys and apart from them',
    1002,
    /tensor blk\.0\.attn_q\.weight has no place in architecture llama/,
    p => p.tensors.push(zeros('blk.0.attn_qkv.weight', 32, 96)),
  ],
  ['experts', 1002, /llama\.expert_count = 8 is not supported/, p => (p.meta['llama.expert_count'] = { u32: 8 })],
  [
    'a missing tensor',
    6003,
    /tensor blk\.0\.ffn_up\.weight not found/,
    p => (p.tensors = p.tensors.filter(t => t.name !== 'blk.0.ffn_up.weight')),
  ],
  [
    'a tensor of the wrong shape',
    1002,
    /tensor blk\.0\.attn_k\.weight has shape 32×32, 32×16 is needed/,
    p => (p.meta['llama.attention.head_count_kv'] = { u32: 2 }),
  ],
  [
    'a tensor of a type without kernels',
    1002,
    /tensor output\.weight has type Q8_1, which this build does not compute/,
    p => p.tensors.push({ name: 'output.weight', type: GGML_TYPE.Q8_1, shape: [32, 10], data: new Uint8Array(360) }),
  ],
  [
    'a quantised norm',
    1002,
    /output_norm\.weight has type Q8_0.* in a vector/,
    p => (p.tensors[1] = { name: 'output_norm.weight', type: GGML_TYPE.Q8_0, shape: [32], data: new Uint8Array(34) }),
  ],
  [
    'positions scaled by a number that is not positive',
    6002,
    /llama\.rope\.scaling\.factor = -4 is not a positive number/,
    p => (p.meta['llama.rope.scaling.factor'] = { f32: -4 }),
  ],
  [
    'a tensor without a place',
    1002,
    /tensor blk\.0\.attn_rot_embd\.weight has no place in architecture llama/,
    p => p.tensors.push(zeros('blk.0.attn_rot_embd.weight', 4)),
  ],
];
for (const [name, code, text, change, architecture] of refusals)
  test(`refuses ${name}`, t => {
    const rig = new Rig(builds[0]);
    const image = accepted(rig.image(tiny(change, architecture)));
    for (const answer of [
      bare(rig).describe(image),
      bare(rig).budget(image, optionsOf({ ctx: 8, kvType: GGML_TYPE.F32, batch: 1 })),
    ]) {
      if (!isRefusal(answer)) return t.fail('accepted');
      t.is(answer.code, code);
      t.regex(answer.message, text);
    }
  });

test('refuses a value that is not finite, naming tensor and rows', t => {
  const rig = new Rig(builds[0]);
  const file = tiny(p => p.tensors[3]!.data.set([0, 0, 0xc0, 0x7f], 4 * (5 * 32 + 1)));
  const answer = rig.load(bare(rig), accepted(rig.image(file)), { ctx: 8, kvType: GGML_TYPE.F32, batch: 1 });
  t.regex(
    isRefusal(answer) ? answer.message : 'accepted',
    /tensor blk\.0\.attn_q\.weight: 1 values in rows .* are not finite/,
  );
});

test('refuses a vector in half precision that is not finite', t => {
  const rig = new Rig(builds[0]);
  const data = new Uint8Array(64);
  data.set([0, 0x7c], 10);
  const file = tiny(p => (p.tensors[1] = { name: 'output_norm.weight', type: GGML_TYPE.F16, shape: [32], data }));
  const answer = rig.load(bare(rig), accepted(rig.image(file)), { ctx: 8, kvType: GGML_TYPE.F32, batch: 1 });
  t.regex(isRefusal(answer) ? answer.message : 'accepted', /tensor output_norm\.weight: 1 values .* not finite/);
});

test('private keys and aliases of the specification are read when the standard ones are absent', t => {
  const next = random(77);
  const config = {
    ...randomConfig('sis', next),
    headsKv: 2,
    heads: 2,
    headSize: 16,
    embedding: 32,
    learnedPositions: true,
  };
  const model = randomModel(config, random(78));
  const rig = new Rig(builds[0]);
  const image = accepted(rig.image(model.file));
  const standard: Record<string, string> = {
    'gpt_neox.n_ctx': 'sis.context_length',
    'llm.embedding_length': 'sis.embedding_length',
    'gpt_neox.n_head': 'sis.attention.head_count',
    'llm.layer_count': 'sis.block_count',
    'llm.feed_forward_length': 'sis.feed_forward_length',
  };
  const renamed: ModelImage = {
    ...imageParts(image),
    typeOf: key => image.typeOf(standard[key] ?? key),
    meta: key => {
      if (Object.values(standard).includes(key)) return undefined;
      return image.meta(standard[key] ?? key);
    },
    tensors: image.tensors.map(i => ({ ...i, name: i.name.replace('output_norm', 'ln_f') })),
    tensor: name => renamed.tensors.find(i => i.name === name),
  };
  const options = { ctx: 16, kvType: GGML_TYPE.F32, batch: 4 };
  const ids = [1, 2, 3, 4, 0];
  const plain = rig.logits(accepted(rig.load(bare(rig), image, options)).engine, ids, 4).map(bits);
  t.deepEqual(rig.logits(accepted(rig.load(bare(rig), renamed, options)).engine, ids, 4).map(bits), plain);
});

test('scaled positions: the older key and a factor alone mean linear scaling; none means none, whatever the factor', t => {
  const { ropeScaling: _, ...plainConfig } = randomConfig('llama', random(31));
  const config = { ...plainConfig, headSize: 16, ropeDimensions: 16, types: () => GGML_TYPE.F32 };
  const logits = (more: Record<string, MetaInput>): string => {
    const { file } = randomModel(config, random(32), more);
    const { rig, loaded } = open(file, { ctx: 16, kvType: GGML_TYPE.F32, batch: 4 });
    return rig.logits(loaded.engine, [1, 2, 3, 4, 0], 4).map(bits).join();
  };
  const plain = logits({});
  const scaled = logits({
    'llama.rope.scaling.type': { string: 'linear' },
    'llama.rope.scaling.factor': { f32: 4 },
  });
  t.not(scaled, plain);
  t.is(logits({ 'llama.rope.scaling.factor': { f32: 4 } }), scaled);
  t.is(logits({ 'llama.rope.scale_linear': { f32: 4 } }), scaled);
  t.is(logits({ 'llama.rope.scaling.type': { string: 'none' }, 'llama.rope.scaling.factor': { f32: 4 } }), plain);
  t.is(logits({ 'llama.rope.scaling.factor': { f32: 0 } }), plain);
  t.not(logits({ 'llama.rope.scaling.attn_factor': { f32: 1.5 } }), plain);
});

function imageParts(image: ModelImage): Omit<ModelImage, 'meta' | 'typeOf' | 'tensors' | 'tensor'> {
  const { path, fileBytes, version, architecture, keys, read, dmaAt, dmaBytes } = image;
  return { path, fileBytes, version, architecture, keys, read, dmaAt, dmaBytes };
}

// ── The hot path ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const hotModel = ['fable-q8_0', 'stories260K-q4_0'].map(n => shared(`models/${n}.gguf`)).find(p => existsSync(p));

const used = (): number => v8.getHeapStatistics().used_heap_size;

test('a token allocates nothing on the JavaScript heap', t => {
  const rig = new Rig(builds.at(-1));
  const config = { ...randomConfig('llama', random(1)), context: 2048 };
  const file = hotModel ?? randomModel(config, random(2)).file;
  const { engine } = accepted(
    rig.load(bare(rig), accepted(rig.image(file)), { ctx: 256, kvType: GGML_TYPE.F16, batch: 1 }),
  );
  const { stepAt } = rig;
  const { i32 } = rig.arena;
  const { compute } = rig;
  const row = rig.get('rowsAt') >> 2;
  const [tokenAt, posAt] = [row + (RowRecord.at.token >> 2), row + (RowRecord.at.pos >> 2)];
  const nextAt = (stepAt + StepBlock.at.next) >> 2;
  rig.body(engine, 0, [1]);
  const history = engine.slots.at >> 2;
  const loop = (tokens: number): void => {
    for (let pos = 1; pos <= tokens; pos++) {
      i32[posAt] = pos;
      i32[tokenAt] = i32[history + pos]!;
      compute.run(stepAt, engine.bodyAt);
      compute.run(stepAt, engine.headAt);
      compute.run(stepAt, engine.sampleAt);
      i32[history + pos + 1] = i32[nextAt]!;
    }
  };
  i32[history + 1] = 2;
  for (let i = 0; i < 40; i++) loop(250); // until the optimising compiler is done with it
  (globalThis as { gc?: () => void }).gc?.();
  // The measurement itself allocates: what an empty one costs is taken away.
  used();
  const empty = -(used() - used());
  const before = used();
  loop(250);
  const bytes = used() - before - empty;
  t.log(`${bytes} B over 250 tokens`);
  t.true(bytes <= 250, `${bytes} B: less than one a token, so none`);
});

// ── The stub ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function stubReply(form: string, prompt: string, maxTokens = 1000): string {
  const rig = new Rig(builds[0]);
  const driver = new StubDriver(rig.arena);
  const { engine, place, budget } = accepted(
    rig.load(driver, accepted(driver.builtin(form)), { ctx: 256, kvType: GGML_TYPE.F16, batch: 8 }),
  );
  const v = engine.vocabulary;
  const bytes = new TextEncoder().encode(prompt);
  v.begin(0, place.scratchAt, budget.scratch);
  rig.arena.u8.set(bytes, v.inputAt());
  v.input(bytes.length, true);
  const ids: number[] = [];
  const idsAt = rig.dmaAt;
  for (let n = v.encode(idsAt, 7); n > 0; n = v.encode(idsAt, 7))
    ids.push(...rig.arena.u32.subarray(idsAt >> 2, (idsAt >> 2) + n));
  if (ids.length === 0) ids.push(v.bos);
  rig.arena.u32.set(ids, engine.slots.at >> 2);
  engine.begin(engine.slots.at, ids.length, maxTokens);
  const out: number[] = [];
  for (let pos = 0; pos < ids.length; pos += 8) rig.body(engine, pos, ids.slice(pos, pos + 8));
  for (let pos = ids.length - 1, row = (ids.length - 1) % 8; ; pos++, row = 0) {
    if (pos >= ids.length) rig.body(engine, pos, [out.at(-1)!]);
    rig.head(engine, row);
    rig.run(engine.sampleAt);
    const token = rig.get('next');
    if (v.isEnd(token)) break;
    out.push(token);
  }
  return Buffer.from(out.map(id => (v.piece(id, idsAt, 16, false) === 1 ? rig.arena.u8[idsAt]! : 0x3f))).toString();
}

test('stub: echo and word forms', t => {
  t.is(stubReply('', 'Hello world'), '[STUB] Hello world ...');
  t.is(stubReply('echo', 'é\n'), '[STUB] é\n ...');
  t.is(stubReply('word', '  Hello, World42!\tx '), '⟨hello?⟩ ⟨world42?⟩ ⟨x⟩');
  t.is(stubReply('word', 'one two three', 2), '⟨one⟩ ⟨two⟩');
  t.is(stubReply('word', ''), '');
  t.is(stubReply('echo', 'a'.repeat(20)), `[STUB] ${'a'.repeat(20)} ...`);
  const driver = new StubDriver(new Rig(builds[0]).arena);
  const refusal = driver.builtin('mime');
  t.true(isRefusal(refusal) && refusal.message.includes('echo, word'));
});
