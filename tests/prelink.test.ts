// Prelinked images: what `llmctl prelink` writes, read by an independent program; values and answers that are those of the source to the bit; what
// is refused, before and after, and that nothing half is left behind.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import test from 'ava';
import { TransformerDriver } from '../drivers/engine/transformer/driver.ts';
import { boot, type Machine } from '../boot/index.ts';
import { directory } from '../boot/host-directory.ts';
import { E, GGML_TYPE, isRefusal, type Compute } from '../kernel/abi/index.ts';
import { Prelinker } from '../kernel/prelink.ts';
import { accepted, BUILDS, canRun, haveShared, random, Rig, SHARED, soak } from './harness.ts';
import { walkGguf } from './reference/gguf-walk.ts';
import { randomConfig, randomModel, type Config } from './reference/models.ts';

const image = readFileSync('build/boot.cpio');
const scratch = mkdtempSync(path.join(os.tmpdir(), 'prelink-'));
test.after.always(() => rmSync(scratch, { recursive: true }));
const withShared = haveShared ? test : test.skip;
const PYTHON = '/usr/bin/python3';
const havePython = existsSync(PYTHON) || process.env['CI'] === 'true'; // a missing oracle fails there
const withPython = havePython ? test : test.skip;

function power(): Machine {
  const shared = haveShared ? [{ guest: '/m', directory: directory(`${SHARED}/models`, true) }] : [];
  return boot({ image, strict: true, mounts: [{ guest: '/o', directory: directory(scratch, false) }, ...shared] });
}
type Is = { is: (a: unknown, b: unknown, message?: string) => unknown };
function ok(t: Is, machine: Machine, line: string): string {
  const { status, stdout, stderr } = machine.exec(line);
  t.is(status, 0, `${line}: ${stderr}`);
  return stdout;
}
const put = (name: string, bytes: Uint8Array): void => writeFileSync(inScratch(name), bytes);
const got = (name: string): Buffer => readFileSync(inScratch(name));

interface Verdict {
  readonly tensors: number;
  readonly grouped: number;
  readonly order: readonly string[];
  readonly wrong: readonly string[];
}
/** What the independent reader says of each pair of a source and its image. */
function outside(...pairs: readonly (readonly [source: string, made: string])[]): Verdict[] {
  const { stdout, stderr } = spawnSync(PYTHON, ['tests/reference/prelinked.py', ...pairs.flat()], {
    encoding: 'utf8',
    maxBuffer: 1 << 24,
  });
  const lines = stdout.trimEnd().split('\n');
  if (lines.length !== pairs.length || stderr !== '') throw new Error(stderr);
  return lines.map(line => JSON.parse(line));
}
const inScratch = (name: string): string => path.join(scratch, name);

/** Matrices of one grouped type; rows that leave one, two or three over; rows of which four do not fit the transfer buffer. */
const AWKWARD: Config = {
  architecture: 'llama',
  layers: 2,
  heads: 3,
  headsKv: 1,
  headSize: 34,
  embedding: 64,
  feedForward: 8736,
  vocabulary: 103,
  context: 64,
  epsilon: 1e-5,
  ropeDimensions: 34,
  ropeBase: 10000,
  learnedPositions: false,
  tied: false,
  biases: true,
  fusedQkv: false,
  types: name => (name.includes('attn_output') ? GGML_TYPE.F16 : GGML_TYPE.Q4_0),
  vectorType: GGML_TYPE.F32,
};
const GROUPED = ['Q4_0', 'Q4_1', 'Q8_0'] as const;
/** attn_output has rows of 102 values, no whole blocks. */
const awkward = (type: (typeof GROUPED)[number], seed: number) =>
  randomModel(
    { ...AWKWARD, types: name => (name.includes('attn_output') ? GGML_TYPE.F16 : GGML_TYPE[type]) },
    random(seed),
    { 'general.alignment': { u32: 64 } },
  );

/** Random models of every architecture, as `count` files in the scratch folder. */
function randomFiles(count: number): string[] {
  const next = random(8);
  return Array.from({ length: count }, (_, i) => {
    const name = `random${i}.gguf`;
    const architecture = (['llama', 'qwen2', 'qwen3', 'gemma', 'phi2', 'gpt2', 'sis'] as const)[i % 7]!;
    put(name, randomModel(randomConfig(architecture, next), next).file);
    return name;
  });
}

// ── What is written ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

withPython('an independent reader finds in the image every byte of the source: models made here', t => {
  const machine = power();
  for (const [i, type] of GROUPED.entries()) put(`${type}.gguf`, awkward(type, i).file);
  const names = [...GROUPED.map(type => `${type}.gguf`), ...randomFiles(14 * (soak ? 20 : 1))];
  const said = names.map(name => JSON.parse(ok(t, machine, `llmctl prelink --json /o/${name} /o/made-${name}`)));
  outside(...names.map(name => [inScratch(name), inScratch(`made-${name}`)] as const)).forEach((verdict, i) => {
    t.deepEqual(verdict.wrong, [], names[i]);
    t.is(said[i].tensors, verdict.tensors);
    t.is(said[i].grouped, verdict.grouped);
    t.is(said[i].bytes, got(`made-${names[i]!}`).length);
    t.is(said[i].source_bytes, got(names[i]!).length);
  });
  const [other] = outside([inScratch('Q4_0.gguf'), inScratch('made-Q4_1.gguf')]);
  t.true(other!.wrong.length > 0, 'it can tell');
});

if (haveShared)
  withPython('the same of the shared models', t => {
    const machine = power();
    const names = ['fable-q4_0', 'fable-q8_0', 'stories260K-q4_1', 'synthgpt2-q4_0', 'synthKQ-q6_k', 'stories260K-f16'];
    for (const name of names) ok(t, machine, `llmctl prelink /m/${name}.gguf /o/${name}.gguf`);
    const pairs = names.map(name => [`${SHARED}/models/${name}.gguf`, inScratch(`${name}.gguf`)] as const);
    outside(...pairs).forEach((verdict, i) => {
      t.deepEqual(verdict.wrong, [], names[i]);
      t.is(verdict.grouped > 0, !/q6_k|f16/.test(names[i]!), names[i]);
    });
  });

const PARTS = ['attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down'];
const layer = (l: number): string[] => PARTS.map(part => `blk.${l}.${part}.weight`);

withPython('tensors stand in the order of execution: embeddings, vectors, then matrices without a gap', t => {
  const machine = power();
  const { file } = awkward('Q8_0', 3);
  put('order.gguf', file);
  ok(t, machine, 'llmctl prelink /o/order.gguf');
  const [{ order }] = outside([inScratch('order.gguf'), inScratch('order.prelinked.gguf')]) as [Verdict];
  const matrices = order.filter(name => name.endsWith('.weight') && !name.includes('norm'));
  t.deepEqual(matrices, ['token_embd.weight', ...layer(0), ...layer(1), 'output.weight']);
  t.deepEqual(order.slice(order.indexOf(layer(0)[0]!)), matrices.slice(1));
});

test('what it says, what its manual promises', t => {
  const machine = power();
  t.is(
    ok(t, machine, 'llmctl quantize fable-f16 /tmp/f.gguf Q4_0 && llmctl prelink /tmp/f.gguf').split('\n')[1],
    '/tmp/f.prelinked.gguf: 775,040 bytes from 774,816; 43 of 56 tensors in groups of four rows',
  );
  ok(t, machine, 'llmctl load /tmp/f.prelinked.gguf');
  const digest = ok(t, machine, 'sha256sum /tmp/f.gguf').slice(0, 64);
  t.is(JSON.parse(ok(t, machine, 'llmctl info --json')).prelinked_from, digest);
  t.is(JSON.parse(ok(t, machine, 'llmctl status --json')).prelinked_from, digest);
  t.regex(ok(t, machine, 'llmctl status'), new RegExp(`prelinked +from ${digest}`));
  t.regex(ok(t, machine, 'llmctl info'), /types +Q4_0_R4 F32/);
  ok(t, machine, 'llmctl load /tmp/f.gguf');
  t.is(JSON.parse(ok(t, machine, 'llmctl info --json')).prelinked_from, null);
});

// ── What is read ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a mounted image shows the values of its source, from any position on, and its own bytes', t => {
  const machine = power();
  for (const [i, type] of GROUPED.entries()) {
    put('a.gguf', awkward(type, 10 + i).file);
    ok(t, machine, 'llmctl prelink /o/a.gguf /o/b.gguf');
    const { tensors } = JSON.parse(machine.exec('llmctl diff --json /o/a.gguf /o/b.gguf').stdout);
    t.true(tensors.every((x: { differing: number }) => x.differing === 0));
    ok(t, machine, 'mkdir -p /mnt/a /mnt/b; mount -t gguf /o/a.gguf /mnt/a; mount -t gguf /o/b.gguf /mnt/b');
    for (const name of ['token_embd.weight', 'blk.1.ffn_down.weight', 'blk.0.attn_q.weight']) {
      const cat = (command: string): string => ok(t, machine, `${command} | sha256sum`);
      t.is(cat(`cat /mnt/a/tensors/${name}/f32`), cat(`cat /mnt/b/tensors/${name}/f32`), name);
      t.is(cat(`tail -c 7777 /mnt/a/tensors/${name}/f32`), cat(`tail -c 7777 /mnt/b/tensors/${name}/f32`), name);
      t.is(ok(t, machine, `cat /mnt/b/tensors/${name}/type`), `${type}_R4\n`);
      ok(t, machine, `cat /mnt/b/tensors/${name}/data > /o/data`);
      const at = Number(ok(t, machine, `cat /mnt/b/tensors/${name}/offset`));
      t.is(Buffer.compare(got('data'), got('b.gguf').subarray(at, at + got('data').length)), 0);
    }
    ok(t, machine, 'umount /mnt/a; umount /mnt/b');
  }
});

/** Logits after each of `ids`, all their bits. */
function logitsOf(rig: Rig, file: Uint8Array, ids: readonly number[]): Float32Array[] {
  const driver = new TransformerDriver({ arena: rig.arena, compute: rig.compute, tokenizer: rig.bareTokenizer });
  const { engine } = accepted(
    rig.load(driver, accepted(rig.image(file)), { ctx: 64, kvType: GGML_TYPE.F16, batch: 4 }),
  );
  return rig.logits(engine, ids, 4);
}

for (const build of BUILDS.filter(canRun))
  test(`${build}: a prelinked model's logits are those of its source, bit by bit`, t => {
    const machine = power();
    const rig = new Rig(build);
    const models = GROUPED.map((type, i) => awkward(type, 20 + i));
    const next = random(99);
    for (let i = 0; i < 14 * (soak ? 20 : 1); i++)
      models.push(
        randomModel({ ...randomConfig((['llama', 'gpt2', 'phi2'] as const)[i % 3]!, next), context: 64 }, next),
      );
    for (const { config, file } of models) {
      put('s.gguf', file);
      ok(t, machine, 'llmctl prelink /o/s.gguf /o/p.gguf');
      const ids = Array.from({ length: 9 }, () => Math.floor(next() * config.vocabulary));
      const plain = logitsOf(rig, file, ids);
      const linked = logitsOf(rig, got('p.gguf'), ids);
      t.true(plain.every((row, i) => Buffer.compare(Buffer.from(row.buffer), Buffer.from(linked[i]!.buffer)) === 0));
    }
  });

withShared('the whole machine: ids, logits and figures of a prelinked model, beside its source', t => {
  const machine = power();
  for (const name of ['fable-q4_0', 'stories260K-q8_0', 'stories260K-q4_1']) {
    ok(t, machine, `llmctl prelink /m/${name}.gguf /tmp/p.gguf`);
    const answers = [`/m/${name}.gguf`, '/tmp/p.gguf'].map(file => {
      ok(t, machine, `llmctl load ${file}`);
      const { tokens, steps, cycles, text } = JSON.parse(
        ok(t, machine, 'llminfer --json --logits 16 --temp 0.9 --seed 5 --max-tokens 24 Once upon a time'),
      );
      return { tokens, steps, cycles, text };
    });
    t.deepEqual(answers[1], answers[0], name);
  }
});

withShared('streamed, whatever the tiles, buffers and pins: the answer of the plain model in memory', t => {
  const machine = power();
  const next = random(77);
  const answer = (line: string): unknown => {
    ok(t, machine, `llmctl load ${line}`);
    const said = 'llminfer --json --logits 16 --temp 0.9 --seed 5 --timeout 86400000 --max-tokens 6 Once upon a time';
    const { tokens, steps, text } = JSON.parse(ok(t, machine, said));
    return { tokens, steps, text };
  };
  for (const name of ['fable-q4_0', 'stories260K-q8_0', 'stories260K-q4_1', 'synthgpt2-q4_0']) {
    ok(t, machine, `llmctl prelink /m/${name}.gguf /o/p.gguf`);
    const want = answer(`/m/${name}.gguf --ctx 64`);
    for (let i = 0; i < 3 * (soak ? 10 : 1); i++) {
      const tile = 8192 + Math.floor(next() * 60_000);
      const buffers = 2 + Math.floor(next() * 3);
      const pin = Math.floor(next() ** 2 * 400_000);
      const how = `--ctx 64 --stream --tile ${tile} --buffers ${buffers} --pin ${pin}`;
      for (const file of ['/o/p.gguf', `/m/${name}.gguf`])
        t.deepEqual(answer(`${file} ${how}`), want, `${file} ${how}`);
    }
  }
});

test('data come before the header, which holds their digest; only what is read in order counts', t => {
  const machine = power();
  const { arena, kernel } = machine;
  const { file: bytes } = randomModel({ ...AWKWARD, feedForward: 96, types: () => GGML_TYPE.F32 }, random(5));
  put('s.gguf', bytes);
  ok(t, machine, 'llmctl prelink /o/s.gguf /o/p.gguf');
  const copying = {
    repack: (_type: number, fromAt: number, rows: number, k: number, toAt: number) =>
      arena.u8.copyWithin(toAt, fromAt, fromAt + 4 * rows * k) === arena.u8 ? 0 : 1,
  };
  const { lay, costs, vfs, loader } = kernel;
  const prelinker = new Prelinker(
    { arena, lay, costs, vfs },
    copying as unknown as Compute,
    () => createHash('sha256'),
    parsed => loader.order(parsed),
  );
  const { file, report } = accepted(prelinker.prelink('/o/s.gguf', '/'));
  const made = Buffer.alloc(report.bytes);
  const read = (position: number, length: number): number => {
    const n = file.readAt(position, lay.windowAt, length);
    if (n > 0) made.set(arena.u8.subarray(lay.windowAt, lay.windowAt + n), position);
    return n;
  };
  const next = random(6);
  for (let at = report.headerBytes; at < report.bytes;) {
    t.is(read(Math.floor(next() * report.headerBytes), 16), -E.INVAL);
    t.regex(file.refusal()!.message, new RegExp(`s.gguf: .* bytes ${at} to ${report.bytes - 1} come first`));
    read(report.headerBytes + Math.floor(next() * (report.bytes - report.headerBytes)), 100);
    at += read(at, 1 + Math.floor(next() * 9000));
  }
  for (let at = 0; at < report.headerBytes;) at += read(at, 1000);
  t.is(Buffer.compare(made, got('p.gguf')), 0);
  file.close();
});

// ── What is refused ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Bytes of the file with `put` over them at `at`. */
function changed(file: Uint8Array, at: number, bytes: readonly number[]): Buffer {
  const copy = Buffer.from(file);
  copy.set(bytes, at);
  return copy;
}

test('a source that cannot be prelinked: one line with name and number, and nothing is left behind', t => {
  const machine = power();
  const { file } = awkward('Q8_0', 30);
  const scale = walkGguf(file).find(x => x.name === 'blk.1.ffn_down.weight')!;
  put('good.gguf', file);
  put('infinite.gguf', changed(file, scale.at + 34 * 3, [0, 0x7c]));
  const norm = walkGguf(file).find(x => x.name === 'output_norm.weight')!;
  put('nan.gguf', changed(file, norm.at + 8, [0, 0, 0xc0, 0x7f]));
  put('short.gguf', file.subarray(0, file.length - 1000));
  put('text.gguf', Buffer.from('not a model'));
  put('vocabulary.gguf', randomModel({ ...AWKWARD }, random(1), { 'general.architecture': { string: 'bert' } }).file);
  ok(t, machine, 'llmctl prelink /o/good.gguf /o/linked.gguf; mkdir /tmp/d');
  const cases: [string, RegExp][] = [
    ['/o/linked.gguf /tmp/x', /EINVAL 7001 .*linked.gguf: is prelinked already, from [0-9a-f]{64}/],
    [
      '/o/infinite.gguf /tmp/x',
      /ENOEXEC 1002 .*infinite.gguf: tensor blk.1.ffn_down.weight: 1 values or scales in its bytes [0-9]+ to/,
    ],
    [
      '/o/nan.gguf /tmp/x',
      /nan.gguf: tensor output_norm.weight: 1 values or scales in its bytes 0 to 255 are not finite/,
    ],
    ['/o/short.gguf /tmp/x', /Truncated tensor data: tensor output.weight ends/],
    ['/o/text.gguf /tmp/x', /Invalid GGUF magic number/],
    ['/o/vocabulary.gguf /tmp/x', /vocabulary.gguf: .*bert/],
    ['/o/none.gguf /tmp/x', /none.gguf: No such file or directory/],
    ['/o/good.gguf /o/good.gguf', /are the same file/],
    ['/o/good.gguf /tmp/d', /\/tmp\/d: Is a directory/],
    ['/o/good.gguf /proc/x', /Read-only file system|Permission denied/],
    ['/o/good.gguf /nope/x', /\/nope\/x: No such file or directory/],
  ];
  for (const [operands, message] of cases) {
    const r = machine.exec(`llmctl prelink ${operands}`);
    t.is(r.status, 1, operands);
    t.regex(r.stderr, message);
    t.is(r.stderr.trimEnd().split('\n').length, 1);
    t.is(r.stdout, '');
  }
  t.is(ok(t, machine, 'ls -A /tmp'), 'd\n');
  t.is(machine.exec('llmctl prelink').status, 2);
  t.regex(
    machine.exec('llmctl quantize /o/linked.gguf /tmp/x F16').stderr,
    /is prelinked: quantize the file that it was made from/,
  );
});

test('no room, a host directory that takes no files: said before a byte is written, or the file is taken back', t => {
  const machine = power();
  put('good.gguf', awkward('Q4_0', 31).file);
  ok(t, machine, 'head -c 61000000 /dev/zero > /tmp/full');
  const full = machine.exec('llmctl prelink /o/good.gguf /tmp/x');
  t.is(full.status, 1);
  t.regex(full.stderr, /\/tmp\/x: needs [0-9,]+ bytes, [0-9,]+ are free: No space left on device/);
  t.is(ok(t, machine, 'ls /tmp'), 'full\n');
  if (process.getuid?.() === 0) return; // whom no mode stops
  chmodSync(scratch, 0o555);
  const r = machine.exec('llmctl prelink /o/good.gguf /o/x');
  chmodSync(scratch, 0o755);
  t.is(r.status, 1);
  t.regex(r.stderr, /\/o\/x.part: Permission denied/);
});

test('a disk that fails under way: said with what it could not read, and nothing is left behind', t => {
  const machine = power();
  put('good.gguf', awkward('Q4_0', 35).file);
  for (const command of [
    'llmctl prelink /o/good.gguf /tmp/x',
    'llmctl quantize --requantize /o/good.gguf /tmp/x Q8_0',
  ]) {
    ok(t, machine, 'llmctl disk vdb --fault error,bytes=500000-');
    const r = machine.exec(command);
    t.is(r.status, 1);
    t.regex(r.stderr, /^llmctl: .*good.gguf: I\/O error reading [0-9]+ bytes at [0-9]+\n$/);
    t.is(ok(t, machine, 'ls -A /tmp'), '');
    ok(t, machine, `llmctl disk vdb --heal; ${command}; rm /tmp/x`);
  }
});

test('a damaged image is refused when it is loaded, and the model before it stays', t => {
  const machine = power();
  ok(t, machine, 'llmctl quantize fable-f16 /o/s.gguf Q4_1 && llmctl prelink /o/s.gguf /o/p.gguf');
  const file = got('p.gguf');
  const dataAt = walkGguf(file)[0]!.at;
  const at = (text: string): number => file.indexOf(text);
  const cases: [name: string, bytes: Uint8Array, message: RegExp][] = [
    ['bit', changed(file, file.length - 5, [file[file.length - 5]! ^ 1]), /data from byte [0-9]+ on are damaged/],
    ['first', changed(file, dataAt, [file[dataAt]! ^ 128]), /data from byte [0-9]+ on are damaged/],
    ['behind', Buffer.concat([file, Buffer.alloc(1)]), /data from byte [0-9]+ on are damaged/],
    [
      'digest',
      changed(file, at('arena8.prelink.sha256') + 33, [0x67]),
      /key arena8.prelink.sha256 is no SHA-256 in hex/,
    ],
    ['version', changed(file, at('arena8.prelink.version') + 26, [2]), /1004 .*prelinked by version 2, read is 1/],
    [
      'key',
      changed(file, at('arena8.prelink.version'), [0x62]),
      /tensor token_embd.weight is Q4_1_R4, and no key arena8.prelink.version/,
    ],
  ];
  ok(t, machine, 'llmctl load fable-f16');
  const before = ok(t, machine, 'llmctl info --json');
  for (const [name, bytes, message] of cases) {
    put('bad.gguf', bytes);
    const r = machine.exec('llmctl load /o/bad.gguf');
    t.is(r.status, 1, name);
    t.regex(r.stderr, message);
  }
  t.is(ok(t, machine, 'llmctl info --json'), before);
  ok(t, machine, 'llminfer --max-tokens 2 Once');
});

test('Ctrl-C ends it with status 130 and leaves nothing', t => {
  const machine = power();
  put('s.gguf', awkward('Q8_0', 33).file);
  const pid = machine.start(['llmctl', 'prelink', '/o/s.gguf', '/o/interrupted']);
  const part = inScratch('interrupted.part');
  for (let i = 0; i < 10_000 && !existsSync(part); i++) machine.run(1);
  t.is(machine.statusOf(pid), undefined);
  machine.interrupt();
  for (let i = 0; i < 10_000 && machine.statusOf(pid) === undefined; i++) machine.run(1);
  t.is(machine.statusOf(pid), 130);
  t.false(existsSync(part));
});

test('every engine can tell the order of its tensors, and refuses what it does not run', t => {
  const rig = new Rig();
  const driver = new TransformerDriver({ arena: rig.arena, compute: rig.compute, tokenizer: rig.bareTokenizer });
  const { file } = awkward('Q4_0', 34);
  const parsed = accepted(rig.image(file));
  const order = accepted(driver.order(parsed) as readonly string[]);
  t.deepEqual(order.toSorted(), parsed.tensors.map(x => x.name).toSorted());
  t.is(order[0], 'token_embd.weight');
  t.is(order.at(-1), 'output.weight');
  const other = randomModel(AWKWARD, random(1), { 'general.architecture': { string: 'other' } });
  t.true(isRefusal(driver.order(accepted(rig.image(other.file)))));
});
