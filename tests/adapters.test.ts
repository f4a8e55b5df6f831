// Adapters in inference: what they compute against weights that hold them, sessions that choose for themselves, damaged files, budgets, records.

import test from 'ava';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { boot, type Machine } from '../boot/index.ts';
import { TransformerDriver } from '../drivers/engine/transformer/driver.ts';
import { ADAPTER_COLUMNS, GGML_TYPE, KV_TYPES, type AdapterUse, type Engine } from '../kernel/abi/index.ts';
import { accepted, BUILDS, canRun, random, Rig, soak, type LoadedModel, type RigOptions } from './harness.ts';
import { FORMS, NAMES, randomConfig, randomModel, type Config, type RandomModel } from './reference/models.ts';
import { randomAdapter, type Adapter, type AdapterSpec, type Matrix } from './support/adapters.ts';
import { json, ok, refused } from './support/commands.ts';

const { F32, F16, BF16 } = GGML_TYPE;
const builds = BUILDS.filter(canRun);
const bits = (row: Float32Array): string => Buffer.from(row.buffer).toString('hex');

// ── The engine ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const TARGETS = /^blk\.\d+\.(attn_(q|k|v|qkv|output)|ffn_(gate|up|down))\.weight$/;

/** The matrices of a model that pairs may change. */
const matricesOf = ({ weights }: RandomModel): Matrix[] =>
  [...weights].flatMap(([name, { k, rows }]) => (TARGETS.test(name) ? [{ name, k, rows }] : []));

const drivers = new Map<Rig, TransformerDriver>();
const driverOf = (rig: Rig): TransformerDriver => {
  const driver = drivers.get(rig) ?? new TransformerDriver({ ...rig, tokenizer: rig.bareTokenizer });
  drivers.set(rig, driver);
  return driver;
};

const use = (rig: Rig, { file }: Adapter, i: number): AdapterUse => {
  const name = `adapter${i}`;
  return { name, path: `/${name}.gguf`, digest: '', scale: 1, image: accepted(rig.image(file)) };
};

/** Loads a model with adapters; every slot uses these scales until it is told otherwise. */
function load(
  rig: Rig,
  file: Uint8Array,
  adapters: readonly Adapter[],
  options: RigOptions,
  scales: readonly number[],
): LoadedModel {
  const uses = adapters.map((a, i) => use(rig, a, i));
  const loaded = accepted(rig.load(driverOf(rig), accepted(rig.image(file)), { ...options, adapters: uses }));
  for (let slot = 0; slot < loaded.engine.options.sessions; slot++) scale(rig, loaded.engine, slot, scales);
  return loaded;
}

function scale(rig: Rig, { slots, scalesAt }: Engine, slot: number, scales: readonly number[]): void {
  rig.arena.f32.set(scales, (slots.at + slot * slots.bytes + slots.tableAt + scalesAt) >> 2);
}

/** The file of a model whose F32 matrices hold these adapters. */
function merged(rig: Rig, model: RandomModel, adapters: readonly Adapter[], scales: readonly number[]): Uint8Array {
  const file = model.file.slice();
  const image = accepted(rig.image(file));
  const view = new DataView(file.buffer);
  adapters.forEach(({ spec, pairs }, which) => {
    const times = (scales[which]! * spec.alpha) / spec.rank;
    for (const { name, k, rows, rank, a, b } of pairs) {
      const { fileAt } = image.tensor(name)!;
      for (let row = 0; row < rows; row++)
        for (let i = 0; i < k; i++) {
          let sum = 0;
          for (let r = 0; r < rank; r++) sum += b[row * rank + r]! * a[r * k + i]!;
          const at = fileAt + 4 * (row * k + i);
          view.setFloat32(at, view.getFloat32(at, true) + times * sum, true);
        }
    }
  });
  return file;
}

/** The largest difference of these rows, as a part of the largest value. */
function distance(rows: readonly Float32Array[], others: readonly Float32Array[]): number {
  let [most, size] = [0, 0];
  rows.forEach((row, i) =>
    row.forEach((x, j) => {
      most = Math.max(most, Math.abs(x - others[i]![j]!));
      size = Math.max(size, Math.abs(others[i]![j]!));
    }),
  );
  return most / size;
}

const plain = (architecture: Config['architecture'], next: () => number): Config => {
  const { ropeFactors: _, ...config } = randomConfig(architecture, next);
  return { ...config, types: () => F32, vectorType: F32 };
};

for (const architecture of NAMES)
  test(`${architecture}: an adapter beside F32 weights is those weights merged; several are their sum`, t => {
    const next = random(31 * (1 + NAMES.indexOf(architecture)));
    const rig = new Rig(builds[0]!);
    const near = FORMS[architecture].act === 'gelu_f16' ? 2e-4 : 1e-5; // where a half may fall the other way
    let worst = 0;
    for (let m = 0; m < (soak ? 60 : 6); m++) {
      const model = randomModel(plain(architecture, next), next);
      const all = matricesOf(model);
      const count = 1 + (m % 3);
      const adapters = Array.from({ length: count }, (_, i): Adapter => {
        const some = m === 0 ? all : all.filter(() => next() < 0.6);
        const matrices = some.length > 0 ? some : all.slice(0, 1);
        const [rank, alpha] = [1 + Math.floor(next() * 9), [16, 1, 0.5, 8][(m + i) % 4]!];
        return randomAdapter({ architecture, matrices, rank, alpha, size: 0.1, type: [F32, F16, BF16][i % 3]! }, next);
      });
      const scales = adapters.map((_, i) => [1, -0.75, 0.3][(m + i) % 3]!);
      const ids = Array.from({ length: 12 }, () => Math.floor(next() * model.config.vocabulary));
      const options = { ctx: 16, kvType: F32, batch: 4 };
      const with_ = rig.logits(load(rig, model.file, adapters, options, scales).engine, ids, 4);
      const engine = load(rig, merged(rig, model, adapters, scales), [], options, []).engine;
      const error = distance(with_, rig.logits(engine, ids, 4));
      worst = Math.max(worst, error);
      t.true(error < near, `model ${m}: ${error}`);
      const without = rig.logits(load(rig, model.file, [], options, []).engine, ids, 4);
      t.true(distance(with_, without) > 1e-3, `model ${m} says something else with it`);
    }
    t.log(`worst distance ${worst.toExponential(1)}`);
  });

// ── The machine ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const boots = readFileSync('build/boot.cpio');
const FABLE: readonly Matrix[] = Array.from({ length: 6 }, (_, l) => [
  { name: `blk.${l}.attn_q.weight`, k: 128, rows: 128 },
  { name: `blk.${l}.attn_v.weight`, k: 128, rows: 64 },
  { name: `blk.${l}.ffn_down.weight`, k: 384, rows: 128 },
]).flat();
const fableAdapter = (seed: number, more: Partial<AdapterSpec> = {}): Adapter =>
  randomAdapter({ architecture: 'llama', matrices: FABLE, rank: 4, alpha: 8, size: 0.05, ...more }, random(seed));
const warm = fableAdapter(1);
const cold = fableAdapter(2, { rank: 6, type: F16 });
const INFER = 'llminfer --json --seed 7 --max-tokens 24';

/** What a request said, and nothing that depends on when or with whom it ran. */
interface Said {
  readonly tokens: readonly number[];
  readonly logits_sum: string;
}
const said = (machine: Machine, options = '', prompt = 'Once upon a time'): Said => {
  const { tokens, logits_sum } = json<Said>(machine, `${INFER} ${options} ${prompt}`);
  return { tokens, logits_sum };
};

/** A machine with these files under /host. */
function machineWith(t: { teardown: (f: () => void) => void }, files: Readonly<Record<string, Uint8Array>>): Machine {
  const directory = mkdtempSync(path.join(tmpdir(), 'arena8-adapters-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  for (const [name, bytes] of Object.entries(files)) writeFileSync(path.join(directory, name), bytes);
  return boot({ strict: true, image: boots, mounts: { '/host': directory } });
}

/** SHA-256 of a region of the loaded model. */
function regionDigest(machine: Machine, region: 'weights' | 'plan'): string {
  const { place, budget } = machine.kernel.loader.current()!;
  const at = place[`${region}At`];
  return createHash('sha256')
    .update(machine.kernel.loader.arena.u8.subarray(at, at + budget[region]))
    .digest('hex');
}

test('applied and detached again: what was said, the plan and the weights are what they were, to the bit', t => {
  const machine = machineWith(t, { 'warm.gguf': warm.file, 'cold.gguf': cold.file });
  const planDigest = (): string => machine.kernel.loader.current()!.planDigest;
  const before = {
    said: said(machine),
    plan: planDigest(),
    weights: regionDigest(machine, 'weights'),
    info: ok(machine, 'llmctl info --json'),
  };
  ok(machine, 'llmfinetune apply /host/warm.gguf');
  const withWarm = said(machine);
  t.notDeepEqual(withWarm, before.said);
  t.not(planDigest(), before.plan);
  t.is(regionDigest(machine, 'weights'), before.weights);
  t.deepEqual(said(machine, '--adapter none'), before.said);
  t.deepEqual(said(machine, '--adapter warm:0'), before.said);
  t.deepEqual(said(machine, '--adapter warm:1'), withWarm);
  ok(machine, 'llmfinetune apply /host/cold.gguf --scale 0.5');
  t.deepEqual(said(machine, '--adapter warm'), withWarm);
  const both = said(machine);
  t.deepEqual(said(machine, '--adapter cold:0.5 --adapter warm'), both);
  t.notDeepEqual(said(machine, '--adapter cold'), both);
  t.deepEqual(said(machine, '--adapter none'), before.said);
  ok(machine, 'llmfinetune detach warm');
  const onlyCold = said(machine);
  t.is(regionDigest(machine, 'weights'), before.weights);
  ok(machine, 'llmfinetune detach');
  t.deepEqual(
    {
      said: said(machine),
      plan: planDigest(),
      weights: regionDigest(machine, 'weights'),
      info: ok(machine, 'llmctl info --json'),
    },
    before,
  );
  t.is(ok(machine, 'cat /proc/adapters'), `${ADAPTER_COLUMNS.join('\t')}\n`);
  ok(machine, 'llmfinetune apply /host/cold.gguf --scale 0.5');
  t.deepEqual(said(machine), onlyCold);
});
