// Keys and values in blocks, Q8_0 and Q4_0: rows as ggml's reference quantisers write them, attention equal to the bit to attention over an F32
// cache of the dequantised values, whole models against the f64 forward pass, and what a machine says of such a cache. There is no vector of
// llama.cpp for these types: its attention rounds queries to Q8_0 first, this one does not.

import test from 'ava';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { boot } from '../boot/index.ts';
import type { EngineCompute } from '../drivers/engine/compute.ts';
import { TransformerDriver } from '../drivers/engine/transformer/driver.ts';
import {
  GGML_TYPE,
  ggmlTypeName,
  isRefusal,
  KV_PAGE,
  KV_TYPES,
  LOAD_DEFAULTS,
  PAGE_RECORD_BYTES,
} from '../kernel/abi/index.ts';
import { accepted, BUILDS, canRun, optionsOf, random, Rig, shared, soak } from './harness.ts';
import { encode } from './reference/encode.ts';
import * as reference from './reference/kernels.ts';
import { randomConfig, randomModel } from './reference/models.ts';
import { ok } from './support/commands.ts';

const { F32, F16, Q8_0, Q4_0 } = GGML_TYPE;
const BLOCKED: readonly number[] = [Q8_0, Q4_0];

// ── Kernels ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Kernels extends EngineCompute {
  kv_store(type: number, xAt: number, n: number, toAt: number): number;
  attention(
    type: number,
    qAt: number,
    kAt: number,
    vAt: number,
    tableAt: number,
    heads: number,
    headsKv: number,
    headDim: number,
    count: number,
    scaleAt: number,
    scoresAt: number,
    toAt: number,
  ): void;
}
const rigs = BUILDS.filter(canRun).map(build => new Rig(build));
const kernelsOf = (rig: Rig): Kernels => rig.compute as unknown as Kernels;

// Where tests put things.
const [X, SCALE, SCORES, OUT, TABLE, POOL] = [0x1000, 0x8000, 0x9000, 0x10000, 0x18000, 0x20000];

const next = random(41);
const below = (n: number): number => Math.floor(next() * n);
const normal = (): number => (next() + next() + next() + next() - 2) * 1.7;
const floats = (n: number, scale = 1): Float32Array => Float32Array.from({ length: n }, () => normal() * scale);
const bytesOf = (rig: Rig, at: number, n: number): string =>
  Buffer.from(rig.arena.u8.subarray(at, at + n)).toString('hex');
const hex = (x: Float32Array): string => Buffer.from(x.buffer, x.byteOffset, x.byteLength).toString('hex');
/** What a row of these values is worth once it is stored. */
const kept = (type: number, x: Float32Array): Float32Array =>
  reference.dequantize(type, encode(ggmlTypeName(type)!, x), 0, x.length);

test('rows are stored as ggml’s reference quantisers write them, and nothing beside', t => {
  for (const rig of rigs)
    for (const type of BLOCKED)
      for (let i = 0; i < (soak ? 4000 : 400); i++) {
        const n = 32 * (1 + below(6));
        const x = floats(n, 2 ** (below(40) - 30));
        if (i % 5 === 0) x.fill(0, 0, 32); // a block of zeros
        if (i % 5 === 1)
          x.set(
            x.subarray(0, 16).map(v => -v),
            16,
          ); // two values farthest from 0
        const bytes = reference.bytesOf(type, n);
        rig.arena.f32.set(x, X >> 2);
        rig.arena.u8.fill(0xa5, OUT - 64, OUT + bytes + 64);
        t.is(kernelsOf(rig).kv_store(type, X, n, OUT), 1);
        t.is(bytesOf(rig, OUT, bytes), Buffer.from(encode(ggmlTypeName(type)!, x)).toString('hex'));
        t.is(bytesOf(rig, OUT - 64, 64) + bytesOf(rig, OUT + bytes, 64), 'a5'.repeat(128));
      }
});

test('a row says when a value or a scale of it is not finite', t => {
  // The largest scale of a half is 65,504, and 65,520 rounds to infinity; a block holds 127 scales one way, or 8.
  const largest: Record<number, number> = { [Q8_0]: 65504 * 127, [Q4_0]: 65504 * 8 };
  const tooLarge: Record<number, number> = { [Q8_0]: 65520 * 127, [Q4_0]: 65520 * 8 };
  for (const rig of rigs)
    for (const type of BLOCKED)
      for (const [value, finite] of [
        [largest[type]!, 1],
        [-largest[type]!, 1],
        [tooLarge[type]!, 0],
        [-tooLarge[type]!, 0],
        [Infinity, 0],
        [-Infinity, 0],
        [NaN, 0],
      ] as const)
        for (const i of [0, 5, 31, 32, 63]) {
          const x = floats(64);
          x[i] = value;
          rig.arena.f32.set(x, X >> 2);
          t.is(kernelsOf(rig).kv_store(type, X, 64, OUT), finite, `${ggmlTypeName(type)}: ${value} at ${i}`);
        }
});

interface Shape {
  readonly heads: number;
  readonly headsKv: number;
  readonly headDim: number;
  readonly count: number;
}

/** Stores K and V in pages that lie scattered, and runs attention over them. */
function attend(
  rig: Rig,
  type: number,
  { heads, headsKv, headDim, count }: Shape,
  [q, k, v]: readonly Float32Array[],
): Float32Array {
  const { arena } = rig;
  const n = headsKv * headDim;
  const row = reference.bytesOf(type, n);
  const pages = Math.ceil(count / KV_PAGE);
  const order = Array.from({ length: pages }, (_, i) => i).sort(() => next() - 0.5);
  const pageAt = (i: number): number => order[i]! * 2 * KV_PAGE * row;
  for (let i = 0; i < pages; i++) arena.u32[(TABLE >> 2) + i] = pageAt(i);
  const vPlane = KV_PAGE * row;
  for (let j = 0; j < count; j++) {
    const at = POOL + pageAt(Math.floor(j / KV_PAGE)) + (j % KV_PAGE) * row;
    for (const [x, plane] of [
      [k!, 0],
      [v!, vPlane],
    ] as const) {
      arena.f32.set(x.subarray(j * n, (j + 1) * n), X >> 2);
      kernelsOf(rig).kv_store(type, X, n, at + plane);
    }
  }
  arena.f32.set(q!, X >> 2);
  arena.f32[SCALE >> 2] = 1 / Math.sqrt(headDim);
  kernelsOf(rig).attention(type, X, POOL, POOL + vPlane, TABLE, heads, headsKv, headDim, count, SCALE, SCORES, OUT);
  return arena.f32.slice(OUT >> 2, (OUT >> 2) + heads * headDim);
}

/** The same in f64, with nothing rounded on the way. */
function attention64({ heads, headsKv, headDim, count }: Shape, [q, k, v]: readonly Float32Array[]): Float64Array {
  const out = new Float64Array(heads * headDim);
  const n = headsKv * headDim;
  for (let h = 0; h < heads; h++) {
    const at = Math.floor(h / (heads / headsKv)) * headDim;
    const scores = Array.from({ length: count }, (_, j) => {
      let sum = 0;
      for (let i = 0; i < headDim; i++) sum += q![h * headDim + i]! * k![j * n + at + i]!;
      return sum / Math.sqrt(headDim);
    });
    const largest = Math.max(...scores);
    const total = scores.reduce((sum, s) => sum + Math.exp(s - largest), 0);
    for (let j = 0; j < count; j++)
      for (let i = 0; i < headDim; i++)
        out[h * headDim + i]! += (Math.exp(scores[j]! - largest) / total) * v![j * n + at + i]!;
  }
  return out;
}

test('attention over blocks is attention over an F32 cache of their values, to the bit; and near f64', t => {
  let worst = 0;
  for (let i = 0; i < (soak ? 2000 : 120); i++) {
    const headsKv = 1 + below(3);
    const shape = { headsKv, heads: headsKv * (1 + below(3)), headDim: 32 * (1 + below(4)), count: 1 + below(150) };
    const type = BLOCKED[i % 2]!;
    const rows = (count: number): Float32Array => floats(count * headsKv * shape.headDim, 2 ** (below(9) - 4));
    const [q, k, v] = [floats(shape.heads * shape.headDim), rows(shape.count), rows(shape.count)];
    const values = [q, kept(type, k), kept(type, v)] as const;
    const outs = rigs.flatMap(rig => [attend(rig, type, shape, [q, k, v]), attend(rig, F32, shape, values)]);
    const what = `${ggmlTypeName(type)} ${JSON.stringify(shape)}`;
    t.deepEqual(
      outs.map(hex),
      Array.from(outs, () => hex(outs[0]!)),
      what,
    );
    const { heads, headDim, count } = shape;
    const scalar = reference.attention(...values, heads, headsKv, headDim, count, 1 / Math.sqrt(headDim), F32);
    t.is(hex(outs[0]!), hex(scalar), what);
    const exact = attention64(shape, values);
    const size = exact.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    const error = exact.reduce((most, x, j) => Math.max(most, Math.abs(x - outs[0]![j]!)), 0) / size;
    worst = Math.max(worst, error);
    t.true(error < 1e-4, `${what}: ${error}`);
  }
  t.log(`worst distance from f64 ${worst.toExponential(1)} of the largest value`);
});

test('queries are not rounded for a cache of blocks, as they are for one of halves', t => {
  const shape = { heads: 1, headsKv: 1, headDim: 32, count: 2 };
  const q = new Float32Array(32).fill(1 + 2 ** -20);
  const k = floats(64);
  for (const rig of rigs)
    for (const type of [F16, Q8_0, Q4_0]) {
      attend(rig, type, shape, [q, k, k]);
      t.is(rig.arena.f32[X >> 2], type === F16 ? 1 : 1 + 2 ** -20, ggmlTypeName(type));
    }
});

// ── Models ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A model whose heads have so many values. */
function modelWith(headSize: number): Uint8Array {
  for (;;) {
    const config = randomConfig('llama', next);
    if (config.headSize === headSize) return randomModel(config, next).file;
  }
}

test('heads that are no whole blocks are refused, with what keys and values may be kept in', t => {
  const rig = rigs[0]!;
  const driver = new TransformerDriver({ ...rig, tokenizer: rig.bareTokenizer });
  for (const headSize of [8, 16, 32, 48]) {
    const image = accepted(rig.image(modelWith(headSize)));
    for (const kvType of KV_TYPES.map(name => GGML_TYPE[name])) {
      const answer = driver.budget(image, optionsOf({ ctx: 9, kvType, batch: 1 }));
      const fits = headSize === 32 || !BLOCKED.includes(kvType);
      t.is(isRefusal(answer), !fits);
      if (isRefusal(answer))
        t.is(
          `${answer.code} ${answer.message}`,
          `7001 KV type ${ggmlTypeName(kvType)} has blocks of 32 values, heads have ${headSize}: f32 or f16 would be accepted`,
        );
    }
  }
});

// ── The machine ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const image = readFileSync('build/boot.cpio');

/** Bytes of 32 keys or values. */
const BYTES = { F32: 128, F16: 64, Q8_0: 34, Q4_0: 18 } as const;
/** A bound on the loss in nats a token above F32, in a text that is no story. */
const LOSS = { F32: 0, F16: 1e-2, Q8_0: 1e-2, Q4_0: 1e-1 } as const;

test('a machine loads, plans, charges and tells of every type; what it loses is little', t => {
  const machine = boot({ strict: true, image });
  let nats = 0;
  for (const type of KV_TYPES) {
    const name = type.toLowerCase();
    const plan = JSON.parse(ok(machine, `llmctl plan --json --kv ${name} --ctx 64 fable-q8_0`));
    // Six layers, keys and values, two heads of 32.
    t.is(plan.kv_bytes_per_token, 6 * 2 * 2 * BYTES[type]);
    t.is(plan.kv_type, name);
    t.is(
      plan.regions.kv % (KV_PAGE * plan.kv_bytes_per_token + PAGE_RECORD_BYTES) < 64,
      true,
      'pages and their records',
    );
    t.deepEqual(JSON.parse(ok(machine, `llmctl load --json --kv ${type} --ctx 64 fable-q8_0`)).regions, plan.regions);
    t.is(JSON.parse(ok(machine, 'llmctl info --json')).kv_type, name);
    t.regex(ok(machine, 'cat /proc/models'), new RegExp(` kv=${type} `));
    // A strict machine panics when a step is not charged what its certificate says, or leaves its bounds.
    const answer = JSON.parse(ok(machine, 'llminfer --json --seed 7 --max-tokens 40 Once upon a time'));
    t.is(answer.kv_type, name);
    t.true(answer.bcet_cycles <= answer.cycles && answer.cycles <= answer.wcet_cycles);
    const { nll } = JSON.parse(ok(machine, 'llmctl perplexity --json /usr/share/labs/budget.md'));
    if (type === 'F32') nats = nll;
    t.true(Math.abs(nll - nats) <= LOSS[type], `${type}: ${nll} nats a token, F32 ${nats}`);
  }
});

test('a type that is none, or that the heads do not allow, is refused and changes nothing', t => {
  const directory = mkdtempSync(path.join(tmpdir(), 'arena8-kv-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  writeFileSync(path.join(directory, 'small.gguf'), modelWith(16));
  const machine = boot({ strict: true, image, mounts: { '/host': directory } });
  const before = ok(machine, 'llmctl info --json');
  for (const [line, status, message] of [
    ['llmctl load --kv q5_0 fable-f16', 2, "llmctl: --kv 'q5_0' is not f32, f16, q8_0 or q4_0\n"],
    [
      'llmctl load --kv q4_0 /host/small.gguf',
      1,
      'llmctl: EINVAL 7001 InvalidConfig: /host/small.gguf: KV type Q4_0 has blocks of 32 values, heads have 16: f32 or f16 would be accepted\n',
    ],
  ] as const) {
    const answer = machine.exec(line);
    t.is(answer.status, status, line);
    t.is(answer.stderr, message);
  }
  const refusal = machine.kernel.loader.load('/models/fable-f16.gguf', { ...LOAD_DEFAULTS, kvType: 12 });
  t.is(refusal?.message, '/models/fable-f16.gguf: KV type Q4_K is not f32, f16, q8_0 or q4_0');
  t.is(ok(machine, 'llmctl info --json'), before);
});

test('the perplexities in docs/ENGINE.md are those of the held-out stories', t => {
  const rows = [...readFileSync('docs/ENGINE.md', 'utf8').matchAll(/^\| `(\w+)` \|.* (\d+\.\d{4}) \|$/gm)];
  t.deepEqual(
    rows.map(([, name]) => name),
    KV_TYPES.map(name => name.toLowerCase()),
  );
  if (!soak || !existsSync(shared('corpora'))) return void t.log('computed with --soak, four minutes');
  const machine = boot({ image, mounts: { '/mnt': { path: shared('corpora'), readOnly: true } } });
  for (const [, name, perplexity] of rows) {
    ok(machine, `llmctl load --kv ${name} fable-f16`);
    t.regex(
      ok(machine, 'llmctl perplexity /mnt/stories-valid.txt'),
      new RegExp(`^perplexity ${perplexity} over 146,982`),
    );
  }
});
