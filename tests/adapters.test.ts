// Adapters in inference: what they compute against weights that hold them, sessions that choose for themselves, damaged files, budgets, records.

import test from 'ava';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { boot, type Machine } from '../boot/index.ts';
import { Roots } from '../kernel/adapters.ts';
import { fit } from '../kernel/fit.ts';
import { TransformerDriver } from '../drivers/engine/transformer/driver.ts';
import {
  ADAPTER_COLUMNS,
  ENGINE_REGIONS,
  GGML_TYPE,
  KV_TYPES,
  LIMITS,
  LOAD_DEFAULTS,
  RESIDENCY,
  type AdapterUse,
  type Engine,
} from '../kernel/abi/index.ts';
import { formatPublicPem, formatSecretPem, secretKey } from '../trust/index.ts';
import { accepted, BUILDS, canRun, random, Rig, soak, type LoadedModel, type RigOptions } from './harness.ts';
import {
  FORMS,
  kvTypeFor,
  NAMES,
  randomConfig,
  randomModel,
  type Config,
  type RandomModel,
} from './reference/models.ts';
import {
  adapterFile,
  FABLE,
  randomAdapter,
  type Adapter,
  type AdapterSpec,
  type Matrix,
  type Pair,
} from './support/adapters.ts';
import { json, ok, refused } from './support/commands.ts';
import { IDENTITY, RECIPIENT } from './support/replaying.ts';

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

for (const architecture of NAMES)
  test(`${architecture}: sessions in one pass that choose other scales say what each says alone; none is a model without`, t => {
    const next = random(9001 * (1 + NAMES.indexOf(architecture)));
    const below = (n: number): number => Math.floor(next() * n);
    for (let m = 0; m < (soak ? 40 : 3); m++) {
      const config = randomConfig(architecture, next);
      const model = randomModel(config, next);
      const matrices = matricesOf(model);
      const [one, two] = [1 + below(8), 1 + below(8)].map(rank =>
        randomAdapter({ architecture, matrices, rank, alpha: 8, size: 0.2, type: [F32, BF16][rank % 2]! }, next),
      ) as [Adapter, Adapter];
      const scales = [[], [1, 0], [0, 1], [0.5, -2], [0, 0], [1, 1]] as const; // of each slot; none: the model without adapters
      const kvType = kvTypeFor(config, next);
      const options = { ctx: 16, kvType, batch: 1 };
      const rig = new Rig(builds[m % builds.length]!);
      const ids = scales.map(() => Array.from({ length: 10 }, () => below(config.vocabulary)));
      const alone = scales.map((s, slot) =>
        rig.logits(load(rig, model.file, s.length === 0 ? [] : [one, two], options, s).engine, ids[slot]!, 1).map(bits),
      );
      const together = { ...options, batch: 12, sessions: scales.length };
      const { engine } = load(rig, model.file, [one, two], together, []);
      scales.forEach((s, slot) => scale(rig, engine, slot, s.length === 0 ? [0, 0] : s));
      const said = scales.map((): string[] => []);
      for (let pos = 0; pos < 10; pos += 2) {
        const rows = scales.flatMap((_, slot) => [0, 1].map(i => ({ slot, pos: pos + i, id: ids[slot]![pos + i]! })));
        rig.pass(engine, rows);
        const logits = rig.heads(engine, [...rows.keys()]);
        rows.forEach(({ slot }, i) => said[slot]!.push(bits(logits[i]!)));
      }
      t.deepEqual(said, alone, `model ${m} ${JSON.stringify(config)}`);
    }
  });

// ── The machine ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const boots = readFileSync('build/boot.cpio');
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
function regionDigest(machine: Machine, region: 'weights' | 'adapters'): string {
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

/** Waits until no session runs, and closes those that are read. */
const drain = (machine: Machine): string =>
  ok(
    machine,
    'for i in $(seq 200); do [ $(llmctl sessions --json | grep -c -e QUEUED -e PREFILL -e DECODE) = 0 ] && break; sleep 1; done',
  );

test('sessions at one time, with their own scales, say what each says alone; perplexity likewise', t => {
  const machine = machineWith(t, { 'warm.gguf': warm.file, 'cold.gguf': cold.file });
  const plain = said(machine);
  const scored = 'llmctl perplexity --json /usr/share/labs/budget.md';
  const score = ok(machine, scored);
  ok(machine, 'llmfinetune apply /host/warm.gguf; llmfinetune apply /host/cold.gguf --scale 0.5');
  const choices = [
    '',
    '--adapter none',
    '--adapter warm',
    '--adapter cold:-1',
    '--adapter warm:0.25 --adapter cold',
    '--adapter cold:0',
  ];
  const alone = choices.map(choice => said(machine, choice));
  t.deepEqual(alone[1], plain);
  t.is(new Set(alone.map(a => a.logits_sum)).size, 5);
  const ids = choices.map(choice =>
    ok(machine, `llmctl submit --seed 7 --max-tokens 24 ${choice} Once upon a time`).trim(),
  );
  drain(machine);
  const together = ids.map(id => {
    const { tokens, logits_sum } = json<Said>(machine, `llminfer --json --attach ${id}`);
    return { tokens, logits_sum };
  });
  t.deepEqual(together, alone);
  t.is(ok(machine, `${scored} --adapter none`), score);
  t.not(ok(machine, scored), score);
});

test('streamed, prelinked, with every type of keys and values: the same to the bit', t => {
  const machine = machineWith(t, { 'warm.gguf': warm.file, 'cold.gguf': cold.file });
  ok(machine, 'llmctl prelink fable-q8_0 /tmp/p.gguf');
  for (const kv of KV_TYPES.map(name => name.toLowerCase())) {
    const heard = [
      'fable-q8_0',
      'fable-q8_0 --stream --tile 32K --pin 100K',
      '/tmp/p.gguf',
      '/tmp/p.gguf --stream --tile 16K --pin 0',
    ].map(load => {
      ok(machine, `llmctl load --ctx 64 --kv ${kv} ${load}`);
      const without = said(machine);
      ok(machine, 'llmfinetune apply /host/warm.gguf; llmfinetune apply /host/cold.gguf');
      const { tile_bytes } = json<{ tile_bytes: number }>(machine, 'llmctl info --json');
      t.is(tile_bytes > 0, load.includes('--stream'), load);
      t.deepEqual(said(machine, '--adapter none'), without, load);
      return [without, said(machine), said(machine, '--adapter cold')];
    });
    for (const other of heard.slice(1)) t.deepEqual(other, heard[0], kv);
    t.notDeepEqual(heard[0]![1], heard[0]![0]);
  }
});

test('charges lie within the bounds said before, whatever the scales; one that drives logits to infinity faults alone', t => {
  const machine = machineWith(t, { 'warm.gguf': warm.file });
  const charged = (choice: string): readonly number[] => {
    const line = `${INFER} ${choice} Once upon a time`;
    const { cycles, bcet_cycles: least, wcet_cycles: most } = json<Record<string, number>>(machine, line);
    t.true(least! <= cycles! && cycles! <= most!, choice);
    return [cycles!, least!, most!];
  };
  const [without] = charged('');
  ok(machine, 'llmfinetune apply /host/warm.gguf');
  const [with_] = charged('');
  t.true(with_! > without!);
  t.deepEqual(
    charged('--adapter none').slice(1),
    charged('').slice(1),
    'what is said before does not depend on scales',
  );
  const good = said(machine);
  const id = ok(machine, 'llmctl submit --seed 7 --max-tokens 24 Once upon a time').trim();
  const { status, stderr } = machine.exec('llminfer --adapter warm:1e30 Once upon a time');
  t.is(status, 1);
  t.regex(stderr, /fault/i);
  const { tokens, logits_sum } = json<Said>(machine, `llminfer --json --attach ${id}`);
  t.deepEqual({ tokens, logits_sum }, good);
});

test('equal scales have one root, others another; forgotten ones come back as new ones', t => {
  const roots = new Roots();
  t.is(roots.of([]), 0);
  t.is(roots.of([0, -0]), 0);
  const first = roots.of([0.5, 1]);
  t.true(first < 0);
  t.is(roots.of([0.5, 1]), first);
  t.not(roots.of([1, 0.5]), first);
  const seen = new Set([0, first]);
  for (let i = 0; i < 2 * LIMITS.scaleSetsMax; i++) {
    const root = roots.of([i, 2]);
    t.false(seen.has(root) && root !== first);
    seen.add(root);
    if (i < LIMITS.scaleSetsMax) t.is(roots.of([0.5, 1]), first, 'what is used stays');
  }
  t.false(seen.has(roots.of([0.5, 1])));
});

test('what others have computed is found under the same scales alone; a continuation keeps them', t => {
  const machine = machineWith(t, { 'warm.gguf': warm.file });
  const prompt =
    'Once upon a time there was a little girl who lived in a small house near the woods with her mother and her old dog';
  const shared = (choice: string): number =>
    json<{ shared_tokens: number }>(machine, `llminfer --json --max-tokens 2 ${choice} ${prompt}`).shared_tokens;
  ok(machine, 'llmfinetune apply /host/warm.gguf');
  const choices = ['', '--adapter none', '--adapter warm:0.5'];
  t.deepEqual(choices.map(shared), [0, 0, 0]);
  for (const choice of [...choices, '--adapter warm:1', '--adapter warm:0', '--adapter warm:-0'])
    t.true(shared(choice) > 20, choice);
  t.is(shared('--adapter warm:0.25'), 0);

  interface Kept extends Said {
    readonly id: number;
    readonly prompt_tokens: readonly number[];
  }
  for (const choice of choices) {
    const first = json<Kept>(machine, `${INFER} --keep ${choice} Once upon`);
    const second = json<Kept>(machine, `${INFER} --continue ${first.id} " and then"`);
    const ids = `echo ${second.prompt_tokens.join(' ')} | ${INFER} --ids - ${choice}`;
    const { tokens, logits_sum } = json<Said>(machine, ids);
    t.deepEqual({ tokens, logits_sum }, { tokens: second.tokens, logits_sum: second.logits_sum }, choice);
    const other = json<Kept>(machine, `${INFER} --continue ${first.id} --adapter warm:2 " and then"`);
    t.not(other.logits_sum, second.logits_sum);
    ok(machine, `llmctl cancel ${first.id}`);
  }
});

test('a look into a step computes with the scales of its session', t => {
  const machine = machineWith(t, { 'warm.gguf': warm.file });
  ok(machine, 'llmfinetune apply /host/warm.gguf');
  for (const choice of ['', '--adapter none', '--adapter warm:-3']) {
    const { id, steps } = json<{ id: number; steps: { top: [number, number][] }[] }>(
      machine,
      `llminfer --json --keep --logits 5 --max-tokens 5 --seed 7 ${choice} Once upon a time`,
    );
    const { top } = json<{ top: { id: number; logit: number }[] }>(machine, `llmctl probs --json ${id} --top 5`);
    t.deepEqual(
      top.map(x => [x.id, x.logit]),
      steps.at(-1)!.top,
      choice,
    );
    ok(machine, `llmctl lens --json ${id}`);
    ok(machine, `llmctl attention --json ${id} --layer 3 --head 1`);
  }
  t.regex(
    ok(machine, 'llmctl plan --ops'),
    /^body +LORA +dst=query rows=128 k=128 a=warm:blk\.0\.attn_q\.weight\.lora_a b=warm:\S+ rank=4 src=normed /m,
  );
  t.regex(ok(machine, 'llmctl plan --cost'), /LORA/);
  t.regex(ok(machine, 'cat /proc/plan'), /LORA/);
});

// ── What is refused ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

const [Q] = FABLE as [Matrix];
const only = (pairs: readonly Pair[], meta = {}): Uint8Array =>
  adapterFile({ architecture: 'llama', alpha: 8, meta }, pairs);
const [pair] = warm.pairs as [Pair];

/** A file with one mistake, and what is said of it. */
const MISTAKES: Readonly<Record<string, readonly [Uint8Array, RegExp]>> = {
  architecture: [
    fableAdapter(3, { architecture: 'gpt2' }).file,
    /metadata general\.architecture is gpt2, llama is needed/,
  ],
  'a whole model': [readFileSync('images/models/fable-q4_0.gguf'), /metadata general\.type is \S+, adapter is needed/],
  'no adapter type': [
    only([pair], { 'adapter.type': { string: 'control_vector' } }),
    /metadata adapter\.type is control_vector, lora is needed/,
  ],
  activated: [
    only([pair], { 'adapter.alora.invocation_tokens': { i32s: [1] } }),
    /metadata adapter\.alora\.invocation_tokens: adapters that begin at certain tokens/,
  ],
  alpha: [only([pair], { 'adapter.lora.alpha': { f32: NaN } }), /metadata adapter\.lora\.alpha is no finite number/],
  'no tensors': [only([]), /it has no tensors/],
  'no such tensor': [
    only([{ ...pair, name: 'blk.6.attn_q.weight' }]),
    /tensor blk\.6\.attn_q\.weight\.lora_a: the model has no such tensor/,
  ],
  'the embedding': [
    only([{ ...pair, name: 'token_embd.weight' }]),
    /tensor token_embd\.weight\.lora_a: pairs change matrices of blocks alone/,
  ],
  'a norm': [
    only([{ ...pair, name: 'blk.0.attn_norm.weight' }]),
    /tensor blk\.0\.attn_norm\.weight\.lora_a: pairs change matrices of blocks alone/,
  ],
  'columns of A': [
    fableAdapter(3, { matrices: [{ ...Q, k: 96 }] }).file,
    /tensor blk\.0\.attn_q\.weight\.lora_a has shape 96×4, 128×4 is needed/,
  ],
  'rows of B': [
    fableAdapter(3, { matrices: [{ ...Q, rows: 64 }] }).file,
    /tensor blk\.0\.attn_q\.weight\.lora_b has shape 4×64, 4×128 is needed/,
  ],
  rank: [
    fableAdapter(3, { matrices: [Q], rank: LIMITS.rankMax + 1 }).file,
    /tensor blk\.0\.attn_q\.weight\.lora_a has rank 257, 256 at most/,
  ],
  'half a pair': [
    renamed(only([pair]), 'lora_b', 'lora_a', 'attn_k'),
    /tensor blk\.0\.attn_\w\.weight\.lora_a: its other half blk\.0\.attn_\w\.weight\.lora_b is not there/,
  ],
  'another tensor': [
    renamed(only([pair]), 'lora_a', 'lora_x'),
    /tensor blk\.0\.attn_q\.weight\.lora_x is no half of a pair/,
  ],
  type: [
    only([pair]).map((b, i, all) => (i === typeAt(all) ? GGML_TYPE.I32 : b)),
    /tensor blk\.0\.attn_q\.weight\.lora_a has type I32: F32, F16 or BF16 are read/,
  ],
  'a number that is none': [
    only([{ ...pair, a: pair.a.map((x, i) => (i === 77 ? NaN : x)) }]),
    /tensor blk\.0\.attn_q\.weight\.lora_a: 1 values in rows 0…3 are not finite/,
  ],
  'a file cut short': [
    warm.file.subarray(0, warm.file.length - 4000),
    /tensor \S+.*(beyond|outside|past|end|truncated|bytes)/,
  ],
  'no GGUF': [new Uint8Array(100).fill(65), /magic|not a GGUF/i],
  nothing: [new Uint8Array(0), /./],
};

/** The file with the last tensor's name changed in place, to one as long. */
function renamed(file: Uint8Array, from: string, to: string, layer = 'attn_q'): Uint8Array {
  const text = Buffer.from(file).toString('latin1');
  const at = text.lastIndexOf(from);
  const named = `${text.slice(0, at)}${to}${text.slice(at + from.length)}`;
  const before = named.lastIndexOf('attn_q', at);
  return Uint8Array.from(Buffer.from(`${named.slice(0, before)}${layer}${named.slice(before + 6)}`, 'latin1'));
}

/** Where the first tensor's type stands: behind its name, the number of dimensions and two of them. */
function typeAt(file: Uint8Array): number {
  return Buffer.from(file).indexOf('lora_a') + 6 + 4 + 16;
}

test('a file with a mistake is refused in one line, and everything is as it was', t => {
  const files = Object.fromEntries(Object.values(MISTAKES).map(([file], i) => [`m${i}.gguf`, file]));
  const machine = machineWith(t, { ...files, 'warm.gguf': warm.file, 'two words.gguf': warm.file });
  const without = said(machine);
  ok(machine, 'llmfinetune apply /host/warm.gguf');
  const state = (): unknown => [
    machine.kernel.loader.current()!.planDigest,
    regionDigest(machine, 'weights'),
    regionDigest(machine, 'adapters'),
    ok(machine, "cat /proc/adapters /proc/models; cut -d' ' -f1-5 /proc/arena"),
  ];
  const [before, heard] = [state(), said(machine)];
  for (const [i, [what, [, message]]] of Object.entries(MISTAKES).entries()) {
    const { status, stdout, stderr } = machine.exec(`llmfinetune apply /host/m${i}.gguf`);
    t.deepEqual([status, stdout], [1, ''], what);
    t.regex(stderr, new RegExp(`^llmfinetune: [^\\n]*/host/m${i}\\.gguf: [^\\n]*\\n$`), what);
    t.regex(stderr, message, what);
    t.deepEqual(state(), before, what);
  }
  t.deepEqual(said(machine), heard);
  t.deepEqual(said(machine, '--adapter none'), without);

  refused(
    t,
    machine,
    'llmfinetune apply "/host/two words.gguf"',
    1,
    /adapter name .*two words.*: a name has 1 to 32 letters, digits/,
  );
  refused(t, machine, 'llmfinetune apply /host/absent.gguf', 1, /\/host\/absent\.gguf: .*No such file/);
  refused(t, machine, 'llmfinetune detach cold', 1, /no adapter cold is applied: warm/);
  refused(
    t,
    machine,
    'llminfer --adapter cold Once',
    2,
    /^llminfer: --adapter 'cold' is not applied \(warm\): llmfinetune apply cold\n$/,
  );
  refused(t, machine, 'llminfer --adapter warm:x Once', 2, /--adapter 'warm:x': 'x' is not a number/);
  refused(t, machine, 'llminfer --adapter warm --adapter warm:2 Once', 2, /'warm' is given twice/);
  refused(t, machine, 'llminfer --adapter none --adapter warm Once', 2, /none and others exclude each other/);
  for (const name of ['a', 'b', 'c'])
    ok(machine, `cp /host/warm.gguf /tmp/${name}.gguf; llmfinetune apply /tmp/${name}.gguf --scale 0.1`);
  refused(
    t,
    machine,
    'cp /host/warm.gguf /tmp/d.gguf; llmfinetune apply /tmp/d.gguf',
    1,
    /4 adapters are applied \(warm, a, b, c\), that is the most/,
  );
  ok(machine, 'llmfinetune detach; llmctl backend stub');
  refused(t, machine, 'llmfinetune apply /host/warm.gguf', 1, /the stub engine takes no adapters/);
});

test('while a session is there adapters stay as they are; who may not manage applies none', t => {
  const machine = machineWith(t, { 'warm.gguf': warm.file });
  const id = ok(machine, 'llmctl submit --max-tokens 60 Once upon a time').trim();
  refused(t, machine, 'llmfinetune apply /host/warm.gguf', 1, /EBUSY .*1 session is running/);
  refused(t, machine, 'llmfinetune detach', 1, /EBUSY .*1 session is running/);
  ok(machine, `llmctl cancel ${id}; llmctl cancel ${id}`);
  drain(machine);
  ok(machine, 'chmod 644 /host/warm.gguf 2> /dev/null; cp /host/warm.gguf /tmp/w.gguf');
  const rights = machine.exec('su auditor -c "llmfinetune apply /tmp/w.gguf"');
  t.is(rights.status, 1);
  t.regex(rights.stderr, /user auditor may not manage adapters: \/etc\/llm\/rights:\d+ decides/);
  ok(machine, 'llmctl policy enforce');
  refused(
    t,
    machine,
    'llmfinetune apply /host/warm.gguf',
    1,
    /\/host\/warm\.gguf: SignatureFailure: nobody has signed it \(policy enforce\)/,
  );
});

test('permissions of an adapter bind whoever uses the model that it lies beside', t => {
  const key = accepted(secretKey('ed25519', new Uint8Array(32).fill(7)));
  const machine = machineWith(t, {
    'warm.gguf': warm.file,
    'key.pem': Buffer.from(formatSecretPem(key)),
    'test.pub': Buffer.from(formatPublicPem(key.public)),
  });
  ok(machine, 'llmctl key add /host/test.pub; cp /host/warm.gguf /tmp/warm.gguf');
  ok(machine, 'llmctl sign /tmp/warm.gguf --key /host/key.pem --id 7; llmctl register /tmp/warm.gguf --grant load');
  ok(machine, 'llmfinetune apply /tmp/warm.gguf');
  refused(t, machine, 'llminfer Once', 1, /PermissionDenied: package 7 has no permission EXECUTE/);
  refused(t, machine, 'llmctl attest', 1, /PermissionDenied: package 7 has no permission ATTEST/);
  ok(machine, 'llmctl register /tmp/warm.gguf --grant load,execute; llminfer --max-tokens 1 Once');
  ok(machine, 'llmctl register /tmp/warm.gguf --grant load; llmfinetune detach; llminfer --max-tokens 1 Once');
});

// ── Budgets ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What factors of that rank take in the arena. */
const bytes = (rank: number): number => FABLE.reduce((sum, { k, rows }) => sum + 4 * rank * (k + rows), 0);

test('what adapters take is said before and taken to the byte; one byte less is refused with the sum and what would fit', t => {
  const machine = machineWith(t, { 'warm.gguf': warm.file, 'cold.gguf': cold.file });
  ok(machine, 'llmctl load fable-q4_0 --ctx 64 --batch 4 --sessions 2 --pages 4');
  const { loader } = machine.kernel;
  const bare = loader.current()!.report;
  ok(machine, 'llmfinetune apply /host/warm.gguf; llmfinetune apply /host/cold.gguf');
  const { report, budget } = loader.current()!;
  t.is(report.adapters, bytes(4) + bytes(6));
  t.is(report.slotBytes, bare.slotBytes + LIMITS.arenaAlign, 'two scales');
  t.is(report.total, loader.arena.usage().offset);
  t.deepEqual([report.ctx, report.batch, report.sessions, report.pages], [64, 4, 2, 4]);
  const regions = ENGINE_REGIONS.reduce((sum, region) => sum + budget[region], report.fixed);
  t.is(report.total, regions);
  const rows = ok(machine, 'cat /proc/adapters').split('\n');
  t.deepEqual(
    rows.slice(1, 3).map(row => row.split('\t').slice(3)),
    [
      ['4', '8', '1', '18', `${bytes(4)}`],
      ['6', '8', '1', '18', `${bytes(6)}`],
    ],
  );
  t.regex(ok(machine, 'cat /proc/arena'), /adapters/);
  t.regex(ok(machine, 'llmctl status'), /adapters +warm 1, cold 1\n/);
  t.deepEqual(
    json<{ adapters: { name: string; bytes: number }[] }>(machine, 'llmctl status --json').adapters.map(a => [
      a.name,
      a.bytes,
    ]),
    [
      ['warm', bytes(4)],
      ['cold', bytes(6)],
    ],
  );

  // The same load, in a machine that has one byte less.
  const rig = new Rig(builds[0]!);
  const file = readFileSync('images/models/fable-q4_0.gguf');
  const driver = new TransformerDriver({ ...rig, tokenizer: rig.tokenizer() });
  const image = accepted(rig.image(file));
  const model = { driver, image, shape: accepted(driver.describe(image)) };
  const uses = [use(rig, warm, 0), use(rig, cold, 1)];
  const request = {
    ...LOAD_DEFAULTS,
    ctx: 64,
    batch: 4,
    sessions: 2,
    pages: 4,
    draws: report.draws,
    stream: RESIDENCY.resident,
  };
  const room = { fixed: report.fixed, capacity: report.total };
  const whole = accepted(fit(model, request, room, uses));
  t.deepEqual([whole.fits, whole.total], [true, report.total]);
  const less = accepted(fit(model, request, { ...room, capacity: report.total - 1 }, uses));
  t.deepEqual([less.fits, less.total], [false, report.total]);
  t.true(less.ways.includes('no adapters'), less.ways.join());
  t.true(
    less.ways.some(way => way.startsWith('context ')),
    less.ways.join(),
  );
});

test('an adapter that does not fit is refused with the sum; what was left open gives way before the context does', t => {
  const huge = fableAdapter(5, { rank: 170 });
  const machine = machineWith(t, { 'warm.gguf': warm.file, 'huge.gguf': huge.file });
  const info = (): { ctx: number; pages: number; tile_bytes: number } => json(machine, 'llmctl info --json');
  const before = info();
  ok(machine, 'llmfinetune apply /host/huge.gguf'); // 3.9 MB of factors
  const after = info();
  t.is(after.ctx, before.ctx);
  t.true(after.pages < before.pages);
  t.is(after.tile_bytes, 0);
  refused(
    t,
    machine,
    'cp /host/huge.gguf /tmp/more.gguf; llmfinetune apply /tmp/more.gguf',
    1,
    /ENOMEM 1003 .*need=\d+ have=8388608 over=\d+ \(weights \d+ \+ adapters \d+ \+ kv \d+ .*would fit: .*no adapters/,
  );
  t.deepEqual(info(), after);
});

// ── Records ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Line {
  readonly record: number;
  readonly op: string;
  readonly result: string;
  readonly reason?: string;
}
const replayedLines = (machine: Machine, options = ''): Line[] =>
  machine
    .exec(`llmctl audit replay --all --json ${options}`)
    .stdout.trimEnd()
    .split('\n')
    .slice(0, -1)
    .map(line => JSON.parse(line) as Line);

const digest = ({ file }: Adapter): string => createHash('sha256').update(file).digest('hex');

test('records name adapters and scales; requests are run again with them, or it is said which file is missing', t => {
  const machine = machineWith(t, { 'warm.gguf': warm.file, 'cold.gguf': cold.file });
  ok(machine, 'llmctl audit content on ' + RECIPIENT);
  ok(
    machine,
    'cp /host/cold.gguf /tmp/cold.gguf; llmfinetune apply /host/warm.gguf --scale 0.3; llmfinetune apply /tmp/cold.gguf',
  );
  const lines = ['', '--adapter none', '--adapter cold:-0.1', '--adapter warm --adapter cold'];
  for (const choice of lines) ok(machine, `llminfer --seed 7 --max-tokens 8 ${choice} Once upon a time`);
  ok(machine, 'llmctl perplexity --adapter warm /usr/share/labs/budget.md > /tmp/p');
  ok(machine, 'llmfinetune detach cold');
  ok(machine, 'llminfer --seed 7 --max-tokens 8 Once upon a time');
  interface Shown {
    readonly [name: string]: unknown;
  }
  const records = (op: string): Shown[] =>
    ok(machine, `llmctl audit list --json --op ${op}`)
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line) as Shown);
  const both = [`warm:${digest(warm)}:0.3`, `cold:${digest(cold)}:1`];
  t.deepEqual(
    records('apply').map(r => [
      r['arena8.name'],
      r['arena8.path'],
      r['arena8.digest'],
      r['arena8.value'],
      r['arena8.adapters'],
    ]),
    [
      ['warm', '/host/warm.gguf', digest(warm), 'scale 0.3', both.slice(0, 1)],
      ['cold', '/tmp/cold.gguf', digest(cold), 'scale 1', both],
    ],
  );
  t.deepEqual(
    records('detach').map(r => r['arena8.name']),
    ['cold'],
  );
  t.deepEqual(
    records('infer').map(r => [r['arena8.adapters'], r['arena8.request.scales']]),
    [
      [both, undefined],
      [both, ['0', '0']],
      [both, ['0', '-0.1']],
      [both, undefined],
      [both.slice(0, 1), undefined],
    ],
  );
  t.deepEqual(
    records('score').map(r => r['arena8.request.scales']),
    [['0.3', '0']],
  );

  const identity = '/tmp/identity';
  ok(machine, `echo ${IDENTITY} > ${identity}`);
  const state = (): string => ok(machine, 'cat /proc/adapters; llmctl info');
  const before = state();
  const agree = replayedLines(machine, `--identity ${identity}`).filter(line => line.result === 'agrees');
  t.is(agree.length, 6);
  t.is(state(), before);
  ok(machine, 'mv /tmp/cold.gguf /tmp/elsewhere.gguf');
  const again = replayedLines(machine, `--identity ${identity}`).filter(line => line.op === 'infer');
  const missing = `no adapter cold with the digest ${digest(cold).slice(0, 16)}…: /tmp/cold.gguf is not there`;
  const reasons = again.slice(0, 5).map(line => line.reason ?? line.result); // behind them come those that were run again
  t.deepEqual(reasons, [missing, missing, missing, missing, 'agrees']);
  t.is(state(), before);

  const { payload } = json<{ payload: string }>(machine, 'llmctl attest');
  const statement = JSON.parse(Buffer.from(payload, 'base64').toString()) as {
    subject: { name: string; digest: { sha256: string } }[];
    predicate: { model: { adapters: unknown } };
  };
  t.deepEqual(statement.subject.at(-1), { name: 'adapter/warm', digest: { sha256: digest(warm) } });
  t.deepEqual(statement.predicate.model.adapters, [{ name: 'warm', scale: '0.3' }]);
});

test('a rollback and a way back from the stub bring adapters with the model; a load brings none', t => {
  const machine = machineWith(t, { 'warm.gguf': warm.file });
  ok(machine, 'llmfinetune apply /host/warm.gguf');
  const heard = said(machine);
  const names = (): string => ok(machine, 'cut -f1 /proc/adapters | tail -n +2');
  ok(machine, 'llmctl backend stub; llmctl backend transformer');
  t.is(names(), 'warm\n');
  t.deepEqual(said(machine), heard);
  ok(machine, 'llmctl load fable-q8_0');
  t.is(names(), '');
  ok(machine, 'llmctl rollback');
  t.is(names(), 'warm\n');
  t.deepEqual(said(machine), heard);
  ok(machine, 'llmctl unload');
  t.is(names(), '');
  refused(t, machine, 'llmfinetune apply /host/warm.gguf', 1, /no model loaded/);
});
