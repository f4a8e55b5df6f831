// Streamed plans: whatever the size of tiles, the number of buffers and what is pinned, every logit is to the bit what the resident engine
// computes, for plain files and prelinked ones; the budget is what is taken; the pieces obey the rules that the kernel relies on.

import { existsSync, readFileSync } from 'node:fs';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { GGML_TYPE, LIMITS, isRefusal } from '../kernel/abi/index.ts';
import type { EngineOptions, StreamProgram } from '../kernel/abi/index.ts';
import { TransformerDriver } from '../drivers/engine/transformer/driver.ts';
import { accepted, blockDevice, BUILDS, canRun, random, Rig, shared, soak } from './harness.ts';
import type { RigOptions } from './harness.ts';
import { llamaModel, RECIPES } from './reference/llama-models.ts';
import { kvTypeFor, NAMES, randomConfig, randomModel } from './reference/models.ts';
import type { Config } from './reference/models.ts';
import { interleaved, piecesOf, Streamer } from './support/streamer.ts';

const builds = BUILDS.filter(canRun);
const rigs = new Map(builds.map(build => [build, new Rig(build)]));
const rigOf = (i = 0): Rig => rigs.get(builds[i % builds.length]!)!;
const bits = (rows: readonly Float32Array[]): string => rows.map(row => Buffer.from(row.buffer).toString('hex')).join();

const driverOf = (rig: Rig): TransformerDriver => new TransformerDriver({ ...rig, tokenizer: rig.bareTokenizer });

function residentLogits(rig: Rig, file: Uint8Array, options: RigOptions, ids: readonly number[]): string {
  const { engine } = accepted(rig.load(driverOf(rig), accepted(rig.image(file)), options));
  return bits(rig.logits(engine, ids, options.batch));
}

/** The same through tiles; null where the tiles asked for cannot hold a group of rows. */
function streamedLogits(
  t: ExecutionContext,
  rig: Rig,
  file: Uint8Array,
  options: RigOptions,
  ids: readonly number[],
): { logits: string; program: StreamProgram } | null {
  const loaded = rig.load(driverOf(rig), accepted(rig.image(file)), options);
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
    for (let m = 0; m < (soak ? 400 : 12); m++) {
      const config = oddVocabulary(randomConfig(architecture, next), next);
      const { file } = randomModel(config, next);
      const rig = rigOf(m);
      const ids = Array.from({ length: 7 }, () => Math.floor(next() * config.vocabulary));
      const options = { ctx: 20, kvType: kvTypeFor(config, next), batch: 1 };
      const wanted = residentLogits(rig, file, options, ids);
      const prelinked = interleaved(rig, file);
      t.is(residentLogits(rig, prelinked, options, ids), wanted, `model ${m}: prelinked, resident`);
      for (const form of [file, prelinked])
        for (let v = 0; v < 3; v++) {
          const asked = { ...options, batch: 1 + Math.floor(next() * 8), ...randomStream(next, file.length) };
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
