// Models written down with other weights, and held against each other: the rounding kernel against ggml's rules, whole files against llama.cpp's,
// what is refused, what is left behind; tensors of a mounted model as numbers; `llmctl diff`.

import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test from 'ava';
import { boot, type Machine } from '../boot/index.ts';
import { Tty } from '../drivers/tty/tty.ts';
import { directory, singleFile } from '../boot/host-directory.ts';
import { GGML_BLOCK, GGML_TYPE, type GgmlTypeName } from '../kernel/abi/index.ts';
import { BUILDS, canRun, haveShared, Rig, SHARED, soak } from './harness.ts';
import { makeRandom } from './support/arena.ts';
import { ggufFile, type FileSpec, type Value } from './support/gguf.ts';
import { encode } from './reference/encode.ts';
import { dequantize } from './reference/kernels.ts';

const TYPES = ['F32', 'F16', 'BF16', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q8_0'] as const satisfies GgmlTypeName[];
const image = readFileSync('build/boot.cpio');
const withShared = haveShared ? test : test.skip;
const scratch = mkdtempSync(path.join(os.tmpdir(), 'quantize-'));
test.after.always(() => rmSync(scratch, { recursive: true }));

function power(files: Readonly<Record<string, Uint8Array>> = {}): Machine {
  const given = Object.entries(files).map(([name, bytes]) => ({
    guest: `/in/${name}`,
    directory: singleFile(`${name}.gguf`, bytes),
  }));
  const shared = haveShared ? [{ guest: '/m', directory: directory(`${SHARED}/models`, true) }] : [];
  return boot({
    image,
    strict: true,
    mounts: [{ guest: '/o', directory: directory(scratch, false) }, ...given, ...shared],
  });
}

// ── The kernel ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const FROM_AT = 1 << 20;
const TO_AT = 2 << 20;

/** Values that rounding finds hard, and ordinary ones. */
function awkward(random: (n: number) => number): number {
  const cell = new DataView(new ArrayBuffer(4));
  cell.setInt32(0, random(2 ** 32) | 0);
  const ordinary = random(2 ** 24) / 2 ** 23 - 1;
  const all = [
    () => ordinary,
    () => ordinary * 2 ** (random(40) - 20),
    () => random(32) - 16,
    () => (random(64) - 32) / 2,
    () => [0, -0, 1e-45, -1e-45, 1e-40, 65504, 65519, 65520, -70000, 3.4e38, 0.49999997, -0.49999997][random(12)]!,
    () => cell.getFloat32(0), // any bits
    () => [NaN, Infinity, -Infinity][random(3)]!,
  ];
  return all[random(all.length)]!();
}

/** Blocks of one sort each: extremes in every block would hide all else. */
function values(random: (n: number) => number, n: number): Float32Array {
  const out = new Float32Array(n);
  for (let i = 0; i < n; i += 32) {
    const sort = random(6);
    const scale = 2 ** (random(300) - 150);
    for (let j = i; j < i + 32; j++)
      out[j] = sort === 0 ? awkward(random) : sort === 1 ? [0, -0][random(2)]! : (random(2001) - 1000) * scale;
  }
  return out;
}

for (const build of BUILDS.filter(canRun))
  test(`${build}: every block is what ggml's reference quantiser makes of it, to the bit`, t => {
    const rig = new Rig(build);
    const random = makeRandom(77);
    const blocks = (1 << 10) * (soak ? 100 : 1);
    for (const type of TYPES) {
      const x = values(random, 32 * blocks);
      for (let i = 0; i < x.length; i += 32 * 1024) {
        const piece = x.subarray(i, i + 32 * 1024);
        rig.arena.f32.set(piece, FROM_AT >> 2);
        rig.compute.encode(GGML_TYPE[type], FROM_AT, piece.length, TO_AT);
        const want = encode(type, piece);
        const [perBlock, bytes] = GGML_BLOCK[type];
        for (let b = 0; b < piece.length / perBlock; b++) {
          const got = rig.arena.u8.slice(TO_AT + b * bytes, TO_AT + (b + 1) * bytes);
          const expected = want.subarray(b * bytes, (b + 1) * bytes);
          const isNaN16 = type === 'F16' && Number.isNaN(piece[b]!); // its sign and payload are nobody's
          if (!isNaN16 && Buffer.compare(got, expected) !== 0)
            return t.fail(
              `${type} block ${b}: ${piece.subarray(b * perBlock, (b + 1) * perBlock).join(' ')}: ${Buffer.from(got).toString('hex')} instead of ${Buffer.from(expected).toString('hex')}`,
            );
        }
      }
    }
    t.is(rig.compute.encode(GGML_TYPE.Q4_K, FROM_AT, 256, TO_AT), -1, 'a type that is not written');
    rig.arena.f32.fill(1, FROM_AT >> 2, (FROM_AT >> 2) + 64);
    rig.arena.f32[(FROM_AT >> 2) + 3] = 1e6;
    t.is(rig.compute.encode(GGML_TYPE.F16, FROM_AT, 64, TO_AT), 1, 'one value is too large for a half');
    rig.arena.f32[(FROM_AT >> 2) + 3] = 1e7;
    t.is(rig.compute.encode(GGML_TYPE.Q8_0, FROM_AT, 64, TO_AT), 1, 'one scale is too large');
  });

// ── Whole files ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const ok = (t: { is: (a: unknown, b: unknown, m?: string) => unknown }, machine: Machine, line: string): string => {
  const { status, stdout, stderr } = machine.exec(line);
  t.is(status, 0, `${line}: ${stderr}`);
  return stdout;
};

withShared("files are llama.cpp's to the byte: every type, metadata and order of tensors too", t => {
  const machine = power();
  for (const type of TYPES.filter(name => name !== 'F32')) {
    ok(t, machine, `llmctl quantize /m/synthKQ-f32.gguf /o/made.gguf ${type}`);
    const want = readFileSync(`${SHARED}/models/synthKQ-${type.toLowerCase()}.gguf`);
    t.is(Buffer.compare(readFileSync(path.join(scratch, 'made.gguf')), want), 0, type);
  }
});

withShared("a mixed model's tensors are those of the reference files: ragged rows become F16", t => {
  const machine = power();
  for (const [model, type] of [
    ['stories260K', 'F16'],
    ['stories260K', 'Q4_0'],
    ['stories260K', 'Q4_1'],
    ['stories260K', 'Q8_0'],
    ['fable', 'Q4_0'],
    ['fable', 'Q8_0'],
  ] as const) {
    const said = ok(t, machine, `llmctl quantize --json /m/${model}-f32.gguf /tmp/made.gguf ${type}`);
    const quantized = model === 'stories260K' && type !== 'F16';
    t.is(JSON.parse(said).ragged, quantized ? 5 : 0);
    const name = `${model}-${type.toLowerCase()}.gguf`;
    const { status, stdout } = machine.exec(`llmctl diff --json /m/${name} /tmp/made.gguf`);
    const { metadata, tensors } = JSON.parse(stdout);
    t.deepEqual(metadata, [], name);
    t.true(
      tensors.every((x: { left: string; right: string; differing: number }) => x.left === x.right && x.differing === 0),
      name,
    );
    t.is(status, 0);
  }
});

withShared('a model that is larger than the arena is converted all the same', t => {
  const machine = power();
  ok(t, machine, 'llmctl quantize /m/synthgpt2-f16.gguf /o/made.gguf Q5_0');
  const made = readFileSync(path.join(scratch, 'made.gguf'));
  t.true(made.length > 6 << 20);
  const { stdout } = machine.exec('llmctl diff --json /m/synthgpt2-f16.gguf /o/made.gguf');
  const { tensors } = JSON.parse(stdout);
  for (const x of tensors) {
    const matrix = /blk.*(?:attn_output|attn_qkv|ffn_down|ffn_up)\.weight|token_embd\.weight/.test(x.name);
    t.is(x.right.split(' ')[0], matrix ? 'Q5_0' : x.left.split(' ')[0], x.name);
    t.true(matrix ? x.cosine > 0.995 : x.differing === 0, x.name);
  }
});

test('what is converted answers as before', t => {
  const machine = power();
  const said = ok(t, machine, 'llmctl quantize fable-f16 /tmp/f.gguf q5_1');
  t.is(said, '/tmp/f.gguf: Q5_1, 1,020,576 bytes from 2,658,976; 43 of 56 tensors converted\n');
  ok(t, machine, 'llmctl load /tmp/f.gguf');
  t.regex(ok(t, machine, 'llminfer --temp 0 --max-tokens 8 Once upon a time'), /there was a/);
  // F16 from F16: everything but the order of the file is as it was.
  ok(t, machine, 'llmctl quantize fable-f16 /tmp/g.gguf F16 && llmctl diff fable-f16 /tmp/g.gguf');
});

// ── Small models made here ───────────────────────────────────────────────────────────────────────────────────────────────────────

interface Made {
  readonly name: string;
  readonly type: GgmlTypeName;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}
const floats = (...x: number[]): Uint8Array => new Uint8Array(Float32Array.from(x).buffer);
const ramp = (n: number, of: (i: number) => number = i => i / n): Uint8Array =>
  floats(...Array.from({ length: n }, (_, i) => of(i)));

function model(tensors: readonly Made[], keys: FileSpec['keys'] = []): Buffer {
  let offset = 0;
  const placed = tensors.map(x => {
    const spec = { name: x.name, shape: x.shape, type: GGML_TYPE[x.type], offset };
    offset += Math.ceil(x.bytes.length / 32) * 32;
    return spec;
  });
  const architecture: Value = ['string', 'test'];
  const file = ggufFile({ keys: [['general.architecture', architecture], ...keys], tensors: placed, data: offset });
  tensors.forEach((x, i) => file.set(x.bytes, file.length - offset + placed[i]!.offset));
  return file;
}
const matrix = (name: string, bytes: Uint8Array, type: GgmlTypeName = 'F32', rows = 2): Made => ({
  name,
  type,
  shape: [(bytes.length / rows / GGML_BLOCK[type][1]) * GGML_BLOCK[type][0], rows],
  bytes,
});

test('what is refused, with the name and the number, and nothing is left behind', t => {
  const infinite = ramp(128);
  infinite.set(floats(Infinity), 4 * 70);
  const machine = power({
    good: model([matrix('a.weight', ramp(64))]),
    bad: model([matrix('a.weight', ramp(64)), matrix('b.weight', infinite)]),
    part: model([], [['split.count', ['u16', 3]]]),
    text: Buffer.from('not a model'),
    odd: model([matrix('a.weight', new Uint8Array(132), 'IQ2_XXS')]),
  });
  const cases: [string, number, RegExp][] = [
    ['/in/good/good.gguf /tmp/x Q3_X', 2, /^llmctl: no type 'Q3_X'\n$/],
    [
      '/in/good/good.gguf /tmp/x Q4_K',
      1,
      /EINVAL 7001 InvalidConfig: .*cannot write type Q4_K: F32, F16, Q4_0, Q4_1, Q8_0, Q5_0, Q5_1, BF16/,
    ],
    [
      '/in/bad/bad.gguf /tmp/x Q8_0',
      1,
      /ERANGE 6001 GgufParseError: .*bad.gguf: tensor b.weight: values 0 to 127 are not all finite in Q8_0/,
    ],
    ['/in/part/part.gguf /tmp/x Q8_0', 1, /one of 3 parts of a model: key split.count/],
    ['/in/text/text.gguf /tmp/x Q8_0', 1, /Invalid GGUF magic number/],
    ['/in/none.gguf /tmp/x Q8_0', 1, /none.gguf: No such file or directory/],
    ['/in/good/good.gguf /in/good/good.gguf Q8_0', 1, /are the same file/],
    ['/in/good/good.gguf /tmp Q8_0', 1, /\/tmp: Is a directory/],
    ['/in/good/good.gguf /nope/x Q8_0', 1, /\/nope\/x: No such file or directory/],
    ['fable-q8_0 /tmp/x Q4_0', 1, /tensor token_embd.weight is Q8_0 already/],
    ['--requantize /in/odd/odd.gguf /tmp/x Q8_0', 1, /odd.gguf: tensor a.weight: values of IQ2_XXS cannot be decoded/],
    ['/in/good/good.gguf /tmp/x', 2, /missing operand/],
  ];
  for (const [operands, status, message] of cases) {
    const r = machine.exec(`llmctl quantize ${operands}`);
    t.is(r.status, status, operands);
    t.regex(r.stderr, message);
    t.is(r.stdout, '');
  }
  t.is(ok(t, machine, 'ls /tmp'), '');
  // What is there stays what it is until the new file is whole.
  ok(t, machine, 'echo precious > /tmp/x');
  t.is(machine.exec('llmctl quantize /in/bad/bad.gguf /tmp/x Q8_0').status, 1);
  t.is(ok(t, machine, 'ls /tmp; cat /tmp/x'), 'x\nprecious\n');
  t.is(machine.exec('llmctl quantize --requantize fable-q8_0 /tmp/x Q4_0').status, 0);
});

test('no room: said with the numbers before a byte is written', t => {
  const machine = power();
  ok(t, machine, 'head -c 61000000 /dev/zero > /tmp/full');
  const r = machine.exec('llmctl quantize fable-f16 /tmp/x Q8_0');
  t.is(r.status, 1);
  t.regex(r.stderr, /\/tmp\/x: needs 1,430,176 bytes, [0-9,]+ are free: No space left on device/);
  t.is(ok(t, machine, 'ls /tmp'), 'full\n');
});

test('Ctrl-C ends it with status 130 and leaves nothing', t => {
  const out = path.join(scratch, 'interrupted');
  writeFileSync(out, 'old');
  const machine = power();
  const pid = machine.start(['llmctl', 'quantize', 'fable-f16', '/o/interrupted', 'Q4_0']);
  for (let i = 0; i < 10_000 && !existsSync(`${out}.part`); i++) machine.run(1);
  t.is(machine.statusOf(pid), undefined);
  machine.interrupt();
  for (let i = 0; i < 10_000 && machine.statusOf(pid) === undefined; i++) machine.run(1);
  t.is(machine.statusOf(pid), 130);
  t.false(existsSync(`${out}.part`));
  t.is(readFileSync(out, 'utf8'), 'old');
});

test('a person sees how far it is', t => {
  let screen = '';
  const console = new Tty({ interactive: true, output: bytes => (screen += Buffer.from(bytes).toString()) });
  const machine = boot({ image, console });
  const pid = machine.start(['llmctl', 'quantize', 'fable-f16', '/tmp/x', 'Q4_0']);
  for (let i = 0; i < 10_000 && machine.statusOf(pid) === undefined; i++) machine.run(16);
  t.is(machine.statusOf(pid), 0);
  const bars = screen.split('\r').filter(line => line.startsWith('['));
  t.is(bars[0], `[>${' '.repeat(39)}]   0 %  0 of 757K `);
  t.true(bars.length > 20 && bars.length <= 101);
  t.is(bars.at(-1)!.trimEnd(), `[${'='.repeat(40)}] 100 %  757K of 757K`);
  t.true(screen.includes('/tmp/x: Q4_0, 774,816 bytes from 2,658,976; 43 of 56 tensors converted'));
});

// ── Tensors as numbers ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const DECODED = Object.keys(GGML_TYPE).filter(
  name => !/^IQ[123]|Q8_1|Q8_K|IQ4|^I|F64|_R4$/.test(name) || name.startsWith('IQ4'),
) as GgmlTypeName[];

test('tensors/NAME/f32 is what ggml makes of each type, from any position on', t => {
  const random = makeRandom(31);
  const made = DECODED.map(type => {
    const [perBlock, bytes] = GGML_BLOCK[type];
    const blocks = (2 * 1536) / perBlock; // more than a piece, and no whole number of them
    const data = Uint8Array.from({ length: blocks * bytes }, () => random(256));
    return matrix(`${type}.weight`, data, type);
  });
  const machine = power({ m: model(made) });
  ok(t, machine, 'mkdir /mnt/m; mount -t gguf /in/m/m.gguf /mnt/m');
  for (const { name, type, shape, bytes } of made) {
    const count = shape[0]! * shape[1]!;
    const want = dequantize(GGML_TYPE[type], bytes, 0, count);
    ok(t, machine, `cat /mnt/m/tensors/${name}/f32 > /o/f32`);
    const got = readFileSync(path.join(scratch, 'f32'));
    t.is(got.length, 4 * count, name);
    const wrong = want.findIndex((x, i) => !Object.is(x, got.readFloatLE(4 * i)));
    t.is(wrong, -1, `${name}[${wrong}]: ${got.readFloatLE(4 * Math.max(0, wrong))} instead of ${want[wrong]}`);
    const from = 1 + random(4 * count - 2);
    ok(t, machine, `tail -c +${from + 1} /mnt/m/tensors/${name}/f32 > /o/tail`);
    t.is(Buffer.compare(readFileSync(path.join(scratch, 'tail')), got.subarray(from)), 0, `${name} from ${from}`);
  }
});

test('tensors/NAME/stats: counts, extremes, moments, histogram', t => {
  const x = [
    3,
    -1,
    0,
    -0,
    NaN,
    Infinity,
    -Infinity,
    0.1,
    7,
    ...Array.from({ length: 2000 }, (_, i) => Math.fround(Math.sin(i))),
  ];
  const machine = power({
    m: model([
      { name: 'x', type: 'F32', shape: [x.length], bytes: floats(...x) },
      { name: 'none', type: 'F32', shape: [2], bytes: floats(NaN, Infinity) },
      { name: 'flat', type: 'F32', shape: [3], bytes: floats(2, 2, 2) },
      { name: 'strange', type: 'IQ1_S', shape: [256], bytes: new Uint8Array(50) },
    ]),
  });
  ok(t, machine, 'mkdir /mnt/m; mount -t gguf /in/m/m.gguf /mnt/m');
  const stats = (name: string) =>
    Object.fromEntries(
      ok(t, machine, `cat /mnt/m/tensors/${name}/stats`)
        .trimEnd()
        .split('\n')
        .map(line => [line.split(' ')[0]!, line.split(' ').slice(1).map(Number)]),
    );
  const finite = x.map(Math.fround).filter(Number.isFinite);
  const mean = finite.reduce((a, b) => a + b, 0) / finite.length;
  const histogram = Array.from({ length: 16 }, () => 0);
  for (const v of finite) histogram[Math.min(15, Math.floor((v + 1) * 2))]!++;
  const l2 = Math.sqrt(finite.reduce((a, b) => a + b * b, 0));
  const variance = finite.reduce((a, b) => a + (b - mean) ** 2, 0) / finite.length;
  t.deepEqual(stats('x'), {
    count: [2009],
    nan: [1],
    infinite: [2],
    zeros: [3],
    min: [-1],
    max: [7],
    mean: [mean],
    variance: [variance],
    l2: [l2],
    histogram,
  });
  t.like(stats('flat'), { min: [2], variance: [0], histogram: [3, ...Array.from({ length: 15 }, () => 0)] });
  t.is(
    ok(t, machine, 'cat /mnt/m/tensors/none/stats'),
    `count 2\nnan 1\ninfinite 1\nzeros 0\nmin NaN\nmax NaN\nmean NaN\nvariance NaN\nl2 0\nhistogram ${'0 '.repeat(16).trim()}\n`,
  );
  t.regex(machine.exec('cat /mnt/m/tensors/strange/stats').stderr, /Operation not supported/);
});

test('a vocabulary and an adapter are directories', t => {
  const lora = (name: string, shape: number[]): Made => ({
    name,
    type: 'F32',
    shape,
    bytes: ramp(shape[0]! * shape[1]!),
  });
  const adapter: FileSpec['keys'] = [
    ['general.type', ['string', 'adapter']],
    ['adapter.type', ['string', 'lora']],
    ['adapter.lora.alpha', ['f32', 16]],
  ];
  const words: FileSpec['keys'] = [
    ['tokenizer.ggml.model', ['string', 'llama']],
    ['tokenizer.ggml.tokens', ['array', 'string', ['<s>', 'a']]],
    ['tokenizer.chat_template', ['string', '{{ x }}']],
  ];
  const pairs = [lora('q.weight.lora_a', [32, 4]), lora('q.weight.lora_b', [4, 64]), lora('alone.lora_a', [8, 2])];
  const machine = power({ a: model(pairs, adapter), v: model([], words) });
  ok(t, machine, 'mkdir /mnt/a /mnt/v; mount -t gguf /in/a/a.gguf /mnt/a; mount -t gguf /in/v/v.gguf /mnt/v');
  t.is(
    ok(t, machine, 'ls /mnt/a /mnt/v'),
    '/mnt/a:\nadapter\nmetadata\ntensors\n\n/mnt/v:\nmetadata\ntensors\nvocabulary\n',
  );
  t.is(
    ok(t, machine, 'cd /mnt/a/adapter; ls . tensors tensors/q.weight'),
    '.:\nalpha\ntensors\ntype\n\ntensors:\nq.weight\n\ntensors/q.weight:\na\nb\nrank\nscale\n',
  );
  t.is(
    ok(
      t,
      machine,
      'cd /mnt/a/adapter; cat type alpha tensors/q.weight/rank tensors/q.weight/scale tensors/q.weight/b/shape',
    ),
    'lora\n16\n4\n4\n4 64\n',
  );
  t.is(ok(t, machine, 'cd /mnt/v/vocabulary; ls; cat tokens model'), 'chat_template\nmodel\ntokens\n<s>\na\nllama\n');
});

// ── Differences ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('llmctl diff: metadata and tensors, status 0, 1 or 2', t => {
  const words = (second: string): Value => ['array', 'string', ['<s>', second]];
  const keys: FileSpec['keys'] = [
    ['general.name', ['string', 'one']],
    ['only.left', ['u32', 1]],
    ['words', words('a')],
    ['same', ['array', 'f32', [1, 2]]],
  ];
  const others: FileSpec['keys'] = [
    ['general.name', ['string', 'two']],
    ['words', words('b')],
    ['same', ['array', 'f32', [1, 2]]],
    ['only.right', ['bool', 1]],
  ];
  const left = [
    matrix('w', floats(1, 2, 3, 4)),
    matrix('n', floats(NaN, 1)),
    matrix('x', ramp(8)),
    matrix('l', ramp(8)),
  ];
  const right = [
    matrix('w', floats(1, 2, 3, 8)),
    matrix('n', floats(NaN, 1)),
    matrix('x', ramp(16)),
    matrix('r', ramp(8)),
  ];
  const machine = power({ l: model(left, keys), r: model(right, others) });
  const r = machine.exec('llmctl diff --json /in/l/l.gguf /in/r/r.gguf');
  t.is(r.status, 1);
  const { equal, metadata, tensors } = JSON.parse(r.stdout);
  t.false(equal);
  t.deepEqual(metadata, [
    { key: 'general.name', left: 'one', right: 'two' },
    { key: 'only.left', left: '1', right: null },
    { key: 'words', left: 'string[2]', right: 'string[2]' },
    { key: 'only.right', left: null, right: 'true' },
  ]);
  const none = { count: null, differing: null, max: null, rms: null, cosine: null };
  t.deepEqual(tensors, [
    {
      name: 'w',
      left: 'F32 2×2',
      right: 'F32 2×2',
      count: 4,
      differing: 1,
      max: 4,
      rms: 2,
      cosine: 46 / (Math.sqrt(30) * Math.sqrt(78)),
    },
    { name: 'n', left: 'F32 1×2', right: 'F32 1×2', count: 2, differing: 0, max: 0, rms: 0, cosine: 1 },
    { name: 'x', left: 'F32 4×2', right: 'F32 8×2', ...none },
    { name: 'l', left: 'F32 4×2', right: null, ...none },
    { name: 'r', left: null, right: 'F32 4×2', ...none },
  ]);
  const shown = machine.exec('llmctl diff /in/l/l.gguf /in/r/r.gguf');
  t.is(shown.status, 1);
  t.regex(shown.stdout, /^4 of 6 keys and 4 of 5 tensors differ$/m);
  t.regex(shown.stdout, /^w +F32 2×2 +F32 2×2 +25\.0 % +4\.000 +2\.000 +0\.950933$/m);
  t.is(machine.exec('llmctl diff fable-f16 fable-f16').stdout, '0 of 26 keys and 0 of 56 tensors differ\n');
  t.is(machine.exec('llmctl diff fable-f16 /etc/motd').status, 2);
  t.is(machine.exec('llmctl diff fable-f16').status, 2);
  const odd = power({ o: model([matrix('a.weight', new Uint8Array(132), 'IQ2_XXS')]) });
  t.regex(
    odd.exec('llmctl diff fable-f16 /in/o/o.gguf').stderr,
    /tensor a.weight: values of IQ2_XXS cannot be decoded/,
  );
});

// ── llama.cpp reads what is written here ─────────────────────────────────────────────────────────────────────────────────────────

const peers = 'bench/peers/node_modules';
const llama = `${peers}/node-llama-cpp/dist/index.js`;
const withLlama = existsSync(llama) ? test : test.skip;

withLlama('llama.cpp loads what is written here and goes on with the same words (npm run bench:peers)', t => {
  const machine = power();
  const want = TYPES.map(type => {
    ok(t, machine, `llmctl quantize fable-f16 /o/${type}.gguf ${type}; llmctl load /o/${type}.gguf --kv f32`);
    return JSON.parse(ok(t, machine, 'llminfer --json --temp 0 --max-tokens 12 Once upon a time')).tokens;
  });
  // Its own process, beside a copy of the peers: the library writes into its folder.
  const folder = mkdtempSync(path.join(os.tmpdir(), 'llama-'));
  cpSync(peers, path.join(folder, 'node_modules'), { recursive: true, verbatimSymlinks: true });
  const script = path.join(folder, 'run.mjs');
  writeFileSync(script, LLAMA);
  const files = TYPES.map(type => path.join(scratch, `${type}.gguf`));
  const said = execFileSync(process.execPath, [script, ...files], { encoding: 'utf8' });
  rmSync(folder, { recursive: true });
  t.deepEqual(JSON.parse(said.trim().split('\n').at(-1)!), want);
});

const LLAMA = `
import { getLlama } from 'node-llama-cpp';
const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error' });
const answers = [];
for (const modelPath of process.argv.slice(2)) {
  const model = await llama.loadModel({ modelPath, useMmap: false });
  const sequence = (await model.createContext({ contextSize: 256, threads: 1 })).getSequence();
  const prompt = [model.tokens.bos, ...model.tokenize('Once upon a time')];
  const ids = [];
  for await (const id of sequence.evaluate(prompt, { temperature: 0 })) if (ids.push(id) === 12) break;
  answers.push(ids);
}
console.log(JSON.stringify(answers));
process.exit(0);
`;
