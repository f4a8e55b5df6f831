// Streamed plans: whatever the size of tiles, the number of buffers and what is pinned, every logit is to the bit what the resident engine
// computes, for plain files and prelinked ones; the budget is what is taken; the pieces obey the rules that the kernel relies on.

import { existsSync, readFileSync } from 'node:fs';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { ENGINE_REGIONS, GGML_TYPE, isRefusal, LIMITS, PLAN_RECORD } from '../kernel/abi/index.ts';
import type { EngineOptions, EnginePlace, ModelImage, StreamProgram, TensorInfo } from '../kernel/abi/index.ts';
import { TransformerDriver } from '../drivers/engine/transformer/driver.ts';
import { TensorRecord } from '../drivers/engine/tensors.ts';
import { cutTiles, spreadPins } from '../drivers/engine/tiles.ts';
import type { Matrix } from '../drivers/engine/tiles.ts';
import { accepted, blockDevice, BUILDS, canRun, optionsOf, random, Rig, shared, soak } from './harness.ts';
import type { RigOptions } from './harness.ts';
import { llamaModel, RECIPES } from './reference/llama-models.ts';
import { kvTypeFor, NAMES, randomConfig, randomModel } from './reference/models.ts';
import type { Config } from './reference/models.ts';
import { shapeImage } from './support/shapes.ts';
import { interleaved, piecesOf, Streamer } from './support/streamer.ts';
import type { Piece } from './support/streamer.ts';

const builds = BUILDS.filter(canRun);
const rigs = new Map(builds.map(build => [build, new Rig(build)]));
const rigOf = (i = 0): Rig => rigs.get(builds[i % builds.length]!)!;
const bits = (rows: readonly Float32Array[]): string => rows.map(row => Buffer.from(row.buffer).toString('hex')).join();

const driverOf = (rig: Rig): TransformerDriver => new TransformerDriver({ ...rig, tokenizer: rig.bareTokenizer });

/** A file and the image of it, whichever rig's. */
interface Form {
  readonly file: Uint8Array;
  readonly image: (rig: Rig) => ModelImage;
}
const plain = (file: Uint8Array): Form => ({ file, image: rig => accepted(rig.image(file)) });
/** Its matrices in the kernels' layout. */
function prelinked(rig: Rig, plainFile: Uint8Array): Form {
  const { file, image } = interleaved(rig, plainFile);
  return { file, image: other => ({ ...image, read: blockDevice(other, file).read }) };
}

function residentLogits(rig: Rig, { image }: Form, options: RigOptions, ids: readonly number[]): string {
  const { engine } = accepted(rig.load(driverOf(rig), image(rig), options));
  return bits(rig.logits(engine, ids, options.batch));
}

/** The same through tiles; null where the tiles asked for cannot hold a group of rows. */
function streamedLogits(
  t: ExecutionContext,
  rig: Rig,
  { file, image }: Form,
  options: RigOptions,
  ids: readonly number[],
): { logits: string; program: StreamProgram } | null {
  const loaded = rig.load(driverOf(rig), image(rig), options);
  if (isRefusal(loaded)) {
    t.regex(loaded.message, /^tiles of \d+ bytes: \d rows of \S+ take \d+$/);
    return null;
  }
  const { engine, budget, place, endAt } = loaded;
  const before = rig.arena.u8.slice(endAt);
  const resident = rig.arena.u8.slice(place.weightsAt, place.weightsAt + budget.weights);
  const plan = rig.arena.u8.slice(place.planAt, place.planAt + budget.plan);
  const logits = bits(new Streamer(rig, engine, blockDevice(rig, file).read).logits(ids, options.batch));
  const same = (at: number, bytes: Uint8Array): boolean =>
    Buffer.compare(rig.arena.u8.subarray(at, at + bytes.length), bytes) === 0;
  t.true(same(endAt, before), 'something was written behind the model');
  t.true(same(place.weightsAt, resident), 'weights changed');
  t.true(same(place.planAt, plan), 'the plan changed');
  const program = engine.stream!;
  checkPieces(t, rig.arena.u8, program, engine.options, [place.streamAt, place.streamAt + budget.stream]);
  return { logits, program };
}

/** What the kernel relies on. */
function checkPieces(
  t: ExecutionContext,
  u8: Uint8Array,
  program: StreamProgram,
  { tileBytes, buffers, batch, pinBytes }: EngineOptions,
  [from, to]: readonly [from: number, to: number],
): void {
  const ends: number[] = [];
  for (const segment of ['body', 'head'] as const) {
    const tiles = piecesOf(u8, program, segment).filter(p => p.bytes > 0);
    const ring = [...new Set(tiles.map(p => p.bufferAt))].sort((a, b) => a - b);
    t.true(ring.length <= buffers);
    t.true(tiles.every((p, i) => p.bytes <= tileBytes && p.bufferAt === tiles[i % buffers]!.bufferAt));
    t.true(ring.every((at, i) => at % LIMITS.arenaAlign === 0 && at >= from && (ring[i + 1] ?? to) - at > 0));
    for (const p of tiles) ends.push(p.bufferAt + p.bytes);
    const bytes = tiles.reduce((sum, p) => sum + p.bytes, 0);
    t.is(bytes, segment === 'body' ? program.bodyBytes : program.headBytes);
  }
  for (const g of program.gathers) ends.push(g.toAt + batch * g.unitBytes);
  t.true(ends.every(end => end <= to));
  t.true(program.pinnedBytes <= pinBytes);
}

/** Options of a stream: tiles from the least to larger than any matrix, and pins from nothing to everything. */
function randomStream(next: () => number, fileBytes: number): Partial<EngineOptions> {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)]!;
  return {
    tileBytes: Math.ceil(pick([64, 300, 1000, 2000, 5000, 20000, fileBytes]) * (0.5 + next())),
    buffers: 2 + Math.floor(next() * 4),
    pinBytes: Math.floor(pick([0, 0, 0.1, 0.3, 0.6, 0.9, 1, 2]) * fileBytes),
  };
}

/** Vocabularies that leave odd groups, and half groups, of rows. */
function oddVocabulary(config: Config, next: () => number): Config {
  const sizes = [5, 33, 64, 101, 108, 135, 400];
  return { ...config, vocabulary: sizes[Math.floor(next() * sizes.length)]! };
}

for (const architecture of NAMES)
  test(`${architecture}: streamed, partly or wholly pinned and prelinked, random models give the resident engine's bits`, t => {
    const next = random(6007 * (1 + NAMES.indexOf(architecture)));
    let [runs, tiles, pinned, refused] = [0, 0, 0, 0];
    for (let m = 0; m < (soak ? 120 : 12); m++) {
      const config = oddVocabulary(randomConfig(architecture, next), next);
      const { file } = randomModel(config, next);
      const rig = rigOf(m);
      const ids = Array.from({ length: 7 }, () => Math.floor(next() * config.vocabulary));
      const options = { ctx: 20, kvType: kvTypeFor(config, next), batch: 1 };
      const forms = [plain(file), prelinked(rig, file)];
      const [wanted, linked] = forms.map(form => residentLogits(rig, form, options, ids));
      t.is(linked, wanted, `model ${m}: prelinked, resident`);
      for (const form of forms)
        for (let v = 0; v < 3; v++) {
          const batch = 1 + Math.floor(next() * 8);
          const draws = 1 + Math.floor(next() * batch);
          const asked = { ...options, batch, draws, ...randomStream(next, file.length) };
          const found = streamedLogits(t, rigOf(m + v), form, asked, ids);
          if (found === null) {
            refused++;
            continue;
          }
          if (found.logits !== wanted)
            return void t.fail(`model ${m} ${JSON.stringify(config)} ${JSON.stringify(asked)} differs`);
          runs++;
          tiles += found.program.bodyPieces - 1 + found.program.headPieces - 1;
          pinned += found.program.pinnedBytes;
        }
    }
    t.log(`${runs} runs, ${tiles} tiles a pass and head, ${pinned} bytes pinned, ${refused} refused`);
    t.true(runs > refused);
  });

/** Logits of random ids, resident and through some streams, are the same; how many streams were tried. */
function compareStreams(
  t: ExecutionContext,
  name: string,
  forms: readonly Form[],
  resident: RigOptions,
  vocabulary: number,
  streams: readonly Partial<EngineOptions>[],
): void {
  const next = random(name.length);
  const ids = Array.from({ length: resident.ctx }, () => Math.floor(next() * vocabulary));
  const wanted = residentLogits(rigOf(), forms[0]!, resident, ids);
  for (const [i, stream] of streams.entries())
    for (const form of forms) {
      const found = streamedLogits(t, rigOf(i), form, { ...resident, ...stream }, ids);
      t.true(found !== null && found.logits === wanted, `${name} ${JSON.stringify(stream)}`);
    }
}

const recipes = Object.keys(RECIPES).filter((_, i) => soak || i % 3 === 0);
test(`models of many types and shapes: ${recipes.length} recipes`, t => {
  for (const name of recipes) {
    const { file } = llamaModel(name);
    const image = accepted(rigOf().image(file));
    const vocabulary = image.tensor('token_embd.weight')!.shape[1]!;
    const streams = [
      { tileBytes: 40000, buffers: 2, pinBytes: 0, batch: 1 },
      { tileBytes: 70000, buffers: 5, pinBytes: file.length >> 1, batch: 32 },
    ];
    const forms = [plain(file), prelinked(rigOf(), file)];
    compareStreams(t, name, forms, { ctx: 9, kvType: GGML_TYPE.F32, batch: 4 }, vocabulary, streams);
  }
});

const SHARED_MODELS = [
  'fable-q4_0',
  'fable-f16',
  'synthgpt2-q4_0',
  'stories260K-q4_1',
  'synth8M-q4_0',
  ...'bf16 iq4_nl iq4_xs q2_k q3_k_s q4_0 q4_1 q4_k_s q5_0 q5_1 q5_k_s q6_k q8_0 tq1_0 tq2_0'
    .split(' ')
    .map(type => `synthKQ-${type}`),
];
for (const name of SHARED_MODELS) {
  const path = shared(`models/${name}.gguf`);
  (existsSync(path) ? test : test.skip)(`${name}: streamed as resident`, t => {
    const file = new Uint8Array(readFileSync(path));
    const streams = [
      { tileBytes: 1 << 16, buffers: 2, pinBytes: 0, batch: 8 },
      { tileBytes: 1 << 14, buffers: 3, pinBytes: Math.floor(file.length / 3), batch: 32 },
      { tileBytes: 1 << 20, buffers: 2, pinBytes: 0, batch: 1 },
    ].slice(0, soak ? 3 : 2);
    const ctx = name.endsWith('q4_0') || soak ? 34 : 10; // more than a batch of 32
    compareStreams(t, name, [plain(file)], { ctx, kvType: GGML_TYPE.F16, batch: 8 }, 500, streams);
  });
}

/** Of a model of which sizes matter. */
const SIZES = {
  heads: 4,
  headsKv: 2,
  headSize: 16,
  embedding: 64,
  feedForward: 96,
  vocabulary: 101,
  ropeDimensions: 16,
};

test('a streamed plan is listed tile by tile, and is compiled alone as it is loaded', t => {
  const rig = rigOf();
  const next = random(77);
  const config = { ...randomConfig('llama', next), layers: 2, tied: true, types: () => GGML_TYPE.F16, ...SIZES };
  const { file } = randomModel(config, next);
  const image = accepted(rig.image(file));
  const driver = driverOf(rig);
  const asked = { ctx: 20, kvType: GGML_TYPE.F32, batch: 3, tileBytes: 4000, buffers: 3, pinBytes: 6000 };
  const { engine, budget, place } = accepted(rig.load(driver, image, asked));
  const compiled = accepted(driver.plan(image, engine.options, budget, place));
  t.deepEqual(compiled.stream, engine.stream);
  const { bodyAt, headAt, sampleAt, scoreAt, logitsAt } = engine;
  t.like(compiled, { bodyAt, headAt, sampleAt, scoreAt, logitsAt });
  const { u8, i32 } = rig.arena;
  const frequencies = (bodyAt - place.planAt) >> 2; // the kernels write them, not the compiler
  t.deepEqual(
    compiled.words.subarray(frequencies),
    i32.slice((place.planAt >> 2) + frequencies, (place.planAt + budget.plan) >> 2),
  );
  // A row for each record; of the ENDs between pieces it is the tile that the next piece waits for.
  const rows = engine.ops();
  t.deepEqual(rows, compiled.rows);
  const pieces = (['body', 'head'] as const).flatMap(s => piecesOf(u8, engine.stream!, s));
  for (const [i, { segment, op, name, detail }] of rows.entries()) {
    const at = bodyAt + i * PLAN_RECORD.bytes;
    t.is(i32[at >> 2] === 0, op === 'END' || op === 'TILE', `${i} ${op}`);
    if (op !== 'TILE') continue;
    const piece = pieces.find(p => p.opAt === at + PLAN_RECORD.bytes)!;
    t.regex(detail, new RegExp(` bytes=${piece.bytes} file=${piece.fileAt} buffer=[012]$`), segment);
    const tensor = image.tensor(name)!;
    t.true(piece.fileAt >= tensor.fileAt && piece.fileAt < tensor.fileAt + tensor.bytes);
  }
  t.is(rows.filter(r => r.op === 'END').length, 4);
  t.is(rows.filter(r => r.op === 'TILE').length, pieces.filter(p => p.bytes > 0).length);
});

test('what streams is in the directory with its place in the file, and nowhere in the arena', t => {
  const rig = rigOf();
  const next = random(5);
  const config = { ...randomConfig('gpt2', next), ...SIZES, headsKv: 4, types: () => GGML_TYPE.Q8_0 };
  const { file } = randomModel(config, next);
  const image = accepted(rig.image(file));
  const asked = { ctx: 20, kvType: GGML_TYPE.F32, batch: 3, tileBytes: 30000, buffers: 2, pinBytes: 10000 };
  const { engine, budget, place } = accepted(rig.load(driverOf(rig), image, asked));
  const absent = new Set<string>();
  for (let i = 0; i < image.tensors.length; i++) {
    const r = TensorRecord.read(rig.arena.u8, place.tensorsAt + i * TensorRecord.bytes);
    const info = image.tensor(Buffer.from(rig.arena.u8.subarray(r.nameAt, r.nameAt + r.nameBytes)).toString())!;
    t.deepEqual([r.index, r.fileAt, r.fileBytes], [i, info.fileAt, info.bytes]);
    if (r.at === 0) absent.add(info.name);
    t.is(r.bytes === 0, r.at === 0);
    t.true(r.at === 0 || (r.at >= place.weightsAt && r.at + r.bytes <= place.weightsAt + budget.weights));
  }
  const bytesOf = (names: readonly string[]): number => names.reduce((sum, name) => sum + image.tensor(name)!.bytes, 0);
  const matrices = image.tensors.filter(x => x.shape.length > 1).map(x => x.name);
  t.deepEqual(
    [...absent].filter(name => !matrices.includes(name)),
    [],
  );
  const { bodyBytes, headBytes, pinnedBytes, gathers } = engine.stream!;
  t.true(pinnedBytes > 0);
  t.is(bytesOf([...absent]) + pinnedBytes, bytesOf(matrices));
  const byRow = ['token_embd.weight', 'position_embd.weight'].filter(name => absent.has(name));
  t.deepEqual(
    gathers.map(g => g.tensor),
    byRow,
  );
  const tied = image.tensor('output.weight') === undefined;
  const onlyByRow = byRow.filter(name => !tied || name !== 'token_embd.weight');
  const once = bytesOf([...absent]) - bytesOf(onlyByRow);
  const between = bodyBytes + headBytes - once; // vectors that are read over
  t.true(between >= 0 && between < image.tensors.length * 1024, `${between} bytes beside the matrices`);
});

test('refused by name: tiles without room for a group of rows, a single buffer', t => {
  const rig = rigOf();
  const next = random(9);
  const config = { ...randomConfig('llama', next), types: () => GGML_TYPE.F32, ...SIZES };
  const image = accepted(rig.image(randomModel(config, next).file));
  const driver = driverOf(rig);
  const options = optionsOf({ ctx: 20, kvType: GGML_TYPE.F32, batch: 1, tileBytes: 8, buffers: 2 });
  let asked = options;
  for (let tries = 0; ; tries++) {
    const budget = driver.budget(image, asked);
    if (!isRefusal(budget)) break;
    t.is(budget.code, 7001);
    const [, needed] = /^tiles of \d+ bytes: \d rows of \S+ take (\d+)$/.exec(budget.message)!;
    t.true(Number(needed) > asked.tileBytes && tries < 20);
    asked = { ...asked, tileBytes: Number(needed) };
  }
  const one = driver.budget(image, { ...asked, buffers: 1 });
  t.true(isRefusal(one) && one.message.startsWith('buffers 1 asked'));
});

test('a tile that is not finite ends the pass where it is repacked', t => {
  const rig = rigOf();
  const next = random(31);
  const config = { ...randomConfig('llama', next), types: () => GGML_TYPE.Q4_0, ...SIZES };
  const { file } = randomModel(config, next);
  const { fileAt } = accepted(rig.image(file)).tensor('blk.0.ffn_up.weight')!;
  file.set([0x00, 0x7c], fileAt + 18); // a scale of infinity
  const options = { ctx: 20, kvType: GGML_TYPE.F32, batch: 1, tileBytes: 1 << 16, buffers: 2 };
  const refused = rig.load(driverOf(rig), accepted(rig.image(file)), { ...options, tileBytes: 0 });
  t.true(isRefusal(refused) && refused.message.includes('ffn_up'));
  const { engine } = accepted(rig.load(driverOf(rig), accepted(rig.image(file)), options));
  const streamer = new Streamer(rig, engine, blockDevice(rig, file).read);
  t.throws(() => streamer.logits([1, 2], 1), { message: /ended with status 1$/ });
});

// ── Cutting and pinning ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Matrices of some layers, some behind each other in the file and some apart. */
function randomMatrices(next: () => number): Matrix[] {
  const below = (n: number): number => Math.floor(next() * n);
  let fileAt = below(1e6);
  return Array.from({ length: 1 + below(20) }, (_, i) => {
    const matrix = { name: `m${i}`, layer: i >> 2, fileAt, rows: 1 + below(300), rowBytes: 18 * (1 + below(40)) };
    fileAt += matrix.rows * matrix.rowBytes + [0, 0, 14, 3000, 100000][below(5)]!;
    return matrix;
  });
}

test('tiles hold every row once, in order, in groups that products may be cut at, and go round the buffers', t => {
  const next = random(19);
  let [whole, cut] = [0, 0];
  for (let i = 0; i < (soak ? 20000 : 1500); i++) {
    const matrices = randomMatrices(next);
    const tileBytes = 200 + Math.floor(next() * 40000);
    const buffers = 2 + Math.floor(next() * 4);
    const tiles = cutTiles(matrices, tileBytes, buffers);
    if (isRefusal(tiles)) {
      const least = Math.max(...matrices.map(m => (m.rows % 8 === 0 ? 8 : Math.min(4, m.rows)) * m.rowBytes));
      t.true(least > tileBytes);
      continue;
    }
    cut++;
    if (tiles.length % buffers === 0) whole++;
    const parts = tiles.flatMap(tile => tile.parts.map(part => ({ ...part, tile })));
    let at = 0;
    for (const m of matrices)
      for (let row = 0; row < m.rows; row += parts[at++]!.rows) {
        const { matrix, row: first, rows, offset, tile } = parts[at]!;
        t.true(matrix === m && first === row && tile.bytes <= tileBytes);
        t.true(tile.fileAt + offset === m.fileAt + row * m.rowBytes && offset + rows * m.rowBytes <= tile.bytes);
        t.is(rows % 8 === 0, m.rows % 8 === 0, 'products add up alike');
        t.true(row % 4 === 0);
      }
    t.is(at, parts.length);
  }
  t.true(whole > 0.9 * cut, `${whole} of ${cut} fill the ring`);
});

test('as few tiles as there can be, and none much larger than the others, where one matrix follows the other', t => {
  const [rows, rowBytes] = [576, 324];
  for (const tileBytes of [20000, 50000, 100000, 190000]) {
    const matrices = [0, 1, 2].map(i => ({ name: `m${i}`, layer: 0, fileAt: i * rows * rowBytes, rows, rowBytes }));
    const tiles = cutTiles(matrices, tileBytes, 1);
    if (isRefusal(tiles)) return void t.fail(tiles.message);
    const total = 3 * rows * rowBytes;
    t.true(tiles.length <= Math.ceil(total / (tileBytes - 8 * rowBytes)));
    const largest = Math.max(...tiles.map(tile => tile.bytes));
    t.true(largest <= total / tiles.length + 8 * rowBytes, `${largest} of ${tiles.length} tiles`);
  }
});

test('what is pinned fits, leaves no room for another, and is spread over the program', t => {
  const next = random(23);
  for (let i = 0; i < 500; i++) {
    const matrices = Array.from({ length: 1 + Math.floor(next() * 60) }, (_, n) => ({
      name: `m${n}`,
      bytes: 32 * (1 + Math.floor(next() * 1000)),
    }));
    const total = matrices.reduce((sum, m) => sum + m.bytes, 0);
    const budget = Math.floor(next() * 1.2 * total);
    const pinned = spreadPins(matrices, budget);
    const left = budget - matrices.reduce((sum, m) => sum + (pinned.has(m.name) ? m.bytes : 0), 0);
    t.true(left >= 0 && matrices.every(m => pinned.has(m.name) || m.bytes > left));
  }
  const alike = Array.from({ length: 120 }, (_, n) => ({ name: `m${n}`, bytes: 1000 }));
  for (const share of [2, 3, 5, 7, 30]) {
    const pinned = spreadPins(alike, (120 * 1000) / share);
    const gaps = alike.flatMap((m, n) => (pinned.has(m.name) ? [n] : [])).map((n, k, all) => n - (all[k - 1] ?? -1));
    t.true(
      gaps.every(gap => gap <= Math.ceil(share) + 1 && gap >= Math.floor(share) - 1),
      `${share}: ${gaps.join(' ')}`,
    );
  }
});

// ── Models far larger than the arena ─────────────────────────────────────────────────────────────────────────────────────────────

const PLACE = Object.fromEntries(ENGINE_REGIONS.map(region => [`${region}At`, 0])) as unknown as EnginePlace;
const SHAPES = {
  '135 M': { layers: 30, width: 576, heads: 9, headsKv: 3, feedForward: 1536, vocabulary: 49152 },
  '1.1 B': { layers: 22, width: 2048, heads: 32, headsKv: 4, feedForward: 5632, vocabulary: 32000 },
  '7 B': { layers: 32, width: 4096, heads: 32, headsKv: 32, feedForward: 11008, vocabulary: 32000 },
} as const;
const UNTIED = { context: 2048, untied: true } as const;
/** Where a file's data begin: at once, or behind what 32 bits can say. */
const [NEAR, FAR] = [0x1000, 5e9];
const moved = (p: Piece): Piece => ({ ...p, fileAt: p.bytes === 0 ? 0 : p.fileAt + FAR - NEAR });
const DOCUMENTED = readFileSync('docs/ENGINE.md', 'utf8');

for (const [name, shape] of Object.entries(SHAPES))
  test(`a model of ${name} parameters takes what docs/ENGINE.md says, also beyond 4 GiB of its file`, t => {
    const row = DOCUMENTED.split('\n').find(line => line.startsWith(`| ${name}: `))!;
    const columns = row.split(' | ').slice(1);
    const [unit, size] = [/MiB/.test(columns[1]!) ? 1 << 20 : 1 << 10, parseInt(columns[1]!, 10)];
    const numbers = (column: number): number[] => columns[column]!.replaceAll(/[,|]/g, '').match(/\d+/g)!.map(Number);
    const [weights] = numbers(0);
    const tiles = columns[2]!.split(', ').map(n => Number(n.replace(',', '')));
    const streamAsked = { tileBytes: unit * size, buffers: 2, pinBytes: 0 };
    const options = optionsOf({ ctx: 256, kvType: GGML_TYPE.F16, batch: 8, draws: 1, ...streamAsked });
    for (const [i, type] of (['Q4_0', 'Q4_0_R4'] as const).entries()) {
      const rig = rigOf();
      const driver = driverOf(rig);
      const image = (fileAt: number): ModelImage => shapeImage(rig, { ...shape, ...UNTIED, type }, fileAt);
      const [low, high] = [image(NEAR), image(FAR)];
      const budget = accepted(driver.budget(low, options));
      t.deepEqual([budget.weights, budget.stream, budget.plan], [weights!, numbers(3)[i]!, numbers(4)[i]!]);
      const [a, b] = [low, high].map(model => {
        const plan = accepted(driver.plan(model, options, budget, PLACE));
        const u8 = new Uint8Array(plan.words.buffer);
        return (['body', 'head'] as const).map(s => piecesOf(u8, plan.stream!, s));
      }) as [Piece[][], Piece[][]];
      t.deepEqual(
        a.map(pieces => pieces.length - 1),
        tiles,
      );
      t.deepEqual(
        b,
        a.map(pieces => pieces.map(moved)),
      );
    }
  });

test('a matrix of a type that is kept as F32 stays, whatever streams', t => {
  const rig = rigOf();
  const driver = driverOf(rig);
  const streamAsked = { tileBytes: 1 << 18, buffers: 2, pinBytes: 0 };
  const options = optionsOf({ ctx: 64, kvType: GGML_TYPE.F16, batch: 8, ...streamAsked });
  const image = shapeImage(rig, { ...SHAPES['135 M'], ...UNTIED, type: 'Q4_0' });
  const wide = 'blk.3.ffn_up.weight';
  const { shape } = image.tensor(wide)!;
  const values = shape.reduce((a, b) => a * b, 1);
  const tensors = image.tensors.map(x => (x.name === wide ? { ...x, type: GGML_TYPE.F64, bytes: 8 * values } : x));
  const tensor = (name: string): TensorInfo | undefined => tensors.find(x => x.name === name);
  const budget = accepted(driver.budget({ ...image, tensors, tensor }, options));
  t.is(budget.weights, accepted(driver.budget(image, options)).weights + 4 * values);
  const { rows } = accepted(driver.plan({ ...image, tensors, tensor }, options, budget, PLACE));
  t.deepEqual(
    rows.filter(row => row.name === wide).map(row => row.op),
    ['MUL_MAT'],
  );
});
