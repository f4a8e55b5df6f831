// The adapter store: versions of what was trained and what is done with them, with the power cut at every write; adapters as files that others
// read and write; adapters merged into models; models with random first weights.

import { execFileSync } from 'node:child_process';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test from 'ava';
import { gguf } from '@huggingface/gguf';
import { boot, type Machine } from '../boot/index.ts';
import { directory } from '../boot/host-directory.ts';
import { listedDirectory, memoryFile } from '../boot/listed-directory.ts';
import { driftOf } from '../shell/lib/finetune/drift.ts';
import { soak } from './harness.ts';
import { walkGguf } from './reference/gguf-walk.ts';
import { bare, StoreDirectory } from './support/adapter-store.ts';
import { makeRandom } from './support/arena.ts';
import { ggufFile, type FileSpec } from './support/gguf.ts';
import { PowerCut, type Cut } from './support/power.ts';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'adapterstore-'));
test.after.always(() => rmSync(scratch, { recursive: true }));

type Check = { is: (a: unknown, b: unknown, message?: string) => unknown };
const ok = (t: Check, machine: Machine, line: string): string => {
  const { status, stdout, stderr } = machine.exec(line);
  t.is(status, 0, `${line}: ${stderr}`);
  return stdout;
};
const refused = (t: Check, machine: Machine, line: string): string => {
  const { status, stderr } = machine.exec(line);
  t.is(status, 1, line);
  return stderr.trim().replace('llmfinetune: ', '');
};

// ── Adapters by hand ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Half {
  readonly name: string;
  readonly shape: readonly [number, number];
  readonly values: readonly number[];
  readonly type?: 0 | 1 | 30; // F32, F16, BF16
}

/** The bits of a half, of a value that is one. */
function half(x: number): number {
  if (x === 0) return Object.is(x, -0) ? 0x8000 : 0;
  const sign = x < 0 ? 0x8000 : 0;
  const exponent = Math.max(-14, Math.floor(Math.log2(Math.abs(x))));
  const fraction = Math.abs(x) / 2 ** exponent;
  return fraction < 1 ? sign | (fraction * 1024) : sign | ((exponent + 15) << 10) | ((fraction - 1) * 1024);
}

/** A GGUF adapter, written by the tests' own writer. */
function adapterFile(halves: readonly Half[], alpha: number, changes: Partial<FileSpec> = {}): Buffer {
  const up = (n: number): number => Math.ceil(n / 32) * 32;
  let offset = 0;
  const tensors = halves.map(({ name, shape, type = 0, values }) => {
    const tensor = { name, shape, type, offset };
    offset += up(values.length * (type === 0 ? 4 : 2));
    return tensor;
  });
  const file = ggufFile({
    keys: [
      ['general.architecture', ['string', 'llama']],
      ['general.type', ['string', 'adapter']],
      ['adapter.type', ['string', 'lora']],
      ['adapter.lora.alpha', ['f32', alpha]],
    ],
    tensors,
    data: offset,
    ...changes,
  });
  const dataAt = file.length - offset;
  halves.forEach(({ type = 0, values }, i) =>
    values.forEach((x, j) => {
      const at = dataAt + tensors[i]!.offset;
      if (type === 0) file.writeFloatLE(x, at + 4 * j);
      else if (type === 1) file.writeUInt16LE(half(x), at + 2 * j);
      else file.writeUInt16LE(Buffer.from(Float32Array.of(x).buffer).readUInt16LE(2), at + 2 * j);
    }),
  );
  return file;
}

/** A pair for a matrix of 2 outputs and 3 inputs: the specification's vector (SIS §15), times a factor. */
const pair = (times = 1, type: 0 | 1 | 30 = 0): Half[] => [
  { name: 'blk.0.attn_q.weight.lora_a', shape: [3, 1], values: [times, 0, -times], type },
  { name: 'blk.0.attn_q.weight.lora_b', shape: [1, 2], values: [0.5, -1], type },
];

/** A machine with these files in /in and the store in /s. */
const power = (files: Readonly<Record<string, Uint8Array>> = {}, store = new StoreDirectory(), from = bare): Machine =>
  boot({
    image: from,
    strict: true,
    mounts: [
      { guest: '/o', directory: directory(scratch, false) },
      { guest: '/s', directory: store },
      {
        guest: '/in',
        directory: listedDirectory(
          'in',
          new Map(Object.entries(files).map(([name, bytes]) => [name, memoryFile(bytes)])),
          true,
        ),
      },
    ],
  });

const { privateKey, publicKey: publicHalf } = generateKeyPairSync('ed25519');
const secretKey = Buffer.from(privateKey.export({ type: 'pkcs8', format: 'pem' }));
const publicKey = Buffer.from(publicHalf.export({ type: 'spki', format: 'pem' }));

const FT = 'export LLM_ADAPTERS=/s; llmfinetune';
const versionsOf = (t: Check, machine: Machine, name: string): any =>
  JSON.parse(ok(t, machine, `${FT} versions ${name} --json`));

// ── Versions ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('versions follow one another, are found by number, digest and tag, and going back loses none', t => {
  const store = new StoreDirectory();
  const files = Object.fromEntries([1, 2, 3].map(n => [`a${n}.gguf`, adapterFile(pair(n), 2)]));
  const machine = power(files, store);
  for (const n of [1, 2, 3]) ok(t, machine, `${FT} import /in/a${n}.gguf poet`);
  const digest = (n: number): string => createHash('sha256').update(files[`a${n}.gguf`]!).digest('hex');
  const id = (n: number): string => digest(n).slice(0, 12);
  const all = versionsOf(t, machine, 'poet');
  t.is(all.current, 3);
  t.deepEqual(
    all.versions.map((v: any) => [v.version, v.digest, v.parent, v.kind, v.current]),
    [
      [1, digest(1), null, 'adapter', false],
      [2, digest(2), 1, 'adapter', false],
      [3, digest(3), 2, 'adapter', true],
    ],
  );
  t.deepEqual([...store.files.keys()].sort(), [
    'poet/',
    `poet/v1_${id(1)}.gguf`,
    `poet/v2_${id(2)}.gguf`,
    `poet/v3_${id(3)}.gguf`,
    'poet/versions.json',
  ]);
  t.deepEqual(Buffer.from(store.files.get(`poet/v2_${id(2)}.gguf`)!), files['a2.gguf']);

  ok(t, machine, `${FT} tag poet best 2`);
  ok(t, machine, `${FT} rollback poet`);
  t.is(versionsOf(t, machine, 'poet').current, 2);
  t.regex(ok(t, machine, `${FT} rollback poet ${id(1)}`), /version 1 is current, it was 2/);
  ok(t, machine, `${FT} rollback poet best`);
  const after = versionsOf(t, machine, 'poet');
  t.is(after.current, 2);
  t.is(after.versions.length, 3);
  t.deepEqual(after.versions[1].tags, ['best']);
  t.deepEqual(
    after.history.map((d: any) => [d.deed, d.version]),
    [
      ['import', 1],
      ['import', 2],
      ['import', 3],
      ['tag', 3],
      ['rollback', 2],
      ['rollback', 1],
      ['rollback', 2],
    ],
  );

  // The same bytes are the same version, which is current again.
  ok(t, machine, `${FT} import /in/a3.gguf poet`);
  const again = versionsOf(t, machine, 'poet');
  t.deepEqual([again.current, again.versions.length], [3, 3]);

  t.is(refused(t, machine, `${FT} rollback poet 9`), 'poet: no version 9: it has 1, 2, 3');
  t.is(refused(t, machine, `${FT} rollback nobody`), 'nobody: has no version');
  t.is(refused(t, machine, `${FT} versions nobody`), 'nobody: has no version');
  t.is(machine.exec(`${FT} tag poet v2`).status, 2);
  t.regex(refused(t, machine, `${FT} versions ../etc`), /is not a name/);
  t.true(machine.exec('llmctl audit list').stdout.includes('hash'), 'the audit log has each version');
});

const CUTS: readonly Cut[] = ['before', 'torn', 'behind'];

test('the power is cut at every write: the versions are the old or the new ones, and gc leaves nothing over', t => {
  const files = { 'a.gguf': adapterFile(pair(1), 2), 'b.gguf': adapterFile(pair(2), 2), 'key.pem': secretKey };
  const begun = new StoreDirectory();
  ok(t, power(files, begun), `${FT} import /in/a.gguf poet`);
  const lines = [
    `${FT} import /in/b.gguf poet --key /in/key.pem`,
    `${FT} tag poet best`,
    `${FT} rollback poet`,
    `${FT} gc poet --keep 1`,
  ];
  const untilCut = (store: StoreDirectory): void => {
    const machine = power(files, store);
    store.operations = 0;
    try {
      for (const line of lines) machine.exec(line);
    } catch (error) {
      if (!(error instanceof PowerCut) && !/halted/.test((error as Error).message)) throw error;
    }
  };
  const whole = begun.survivor();
  untilCut(whole);
  const { operations } = whole;
  t.true(operations > 15, `${operations}`);
  const states = new Set<string>();
  for (let at = 0; at < operations; at++)
    for (const cut of soak ? CUTS : [CUTS[at % 3]!]) {
      const store = begun.survivor();
      Object.assign(store, { cutAt: at, cut });
      untilCut(store);
      const left = store.survivor();
      const machine = power(files, left);
      const found = versionsOf(t, machine, 'poet');
      states.add(JSON.stringify(found.history.map((d: any) => d.deed)));
      const { status, stdout } = machine.exec(`${FT} versions poet --verify --json`);
      const checks = JSON.parse(stdout).versions.map((v: any) => v.check);
      t.true(
        status === 1 ? checks.includes('bad signature') : checks.every((c: string) => c === 'ok'),
        `${at} ${cut}: ${stdout}`,
      );
      for (const v of found.versions)
        t.is(
          createHash('sha256')
            .update(left.files.get(v.path.slice('/s/'.length))!)
            .digest('hex'),
          v.digest,
          `${at} ${cut}`,
        );
      ok(t, machine, `${FT} gc poet`);
      const kept = found.versions.flatMap((v: any) => [v.path, ...(v.signed ? [`${v.path}.sis`] : [])]);
      t.deepEqual(
        [...left.files.keys()]
          .filter(name => name !== 'poet/')
          .map(name => `/s/${name}`)
          .sort(),
        [...kept, '/s/poet/versions.json'].sort(),
        `${at} ${cut}`,
      );
      ok(t, machine, `${FT} tag poet after`);
    }
  t.deepEqual(
    [...states].sort((x, y) => x.length - y.length),
    ['["import"]', '["import","import"]', '["import","import","tag"]', '["import","import","tag","rollback"]'],
    'each change is whole or not there',
  );
});

test('gc forgets what is old, and leaves what is current, tagged or being made', t => {
  const store = new StoreDirectory();
  const files = Object.fromEntries([1, 2, 3, 4, 5].map(n => [`a${n}.gguf`, adapterFile(pair(n), 2)]));
  const machine = power(files, store);
  for (const n of [1, 2, 3, 4, 5]) ok(t, machine, `${FT} import /in/a${n}.gguf poet`);
  ok(t, machine, `${FT} tag poet good 2; ${FT} rollback poet 3`);
  store.files.set('poet/new-9999.gguf.part', new Uint8Array(10));
  store.files.set('poet/checkpoint', new Uint8Array(10));
  const before = [...store.files.keys()].sort();
  const dry = JSON.parse(ok(t, machine, `${FT} gc poet --keep 1 --dry-run --json`));
  t.deepEqual(dry.names[0].versions, [1, 4]);
  t.is(dry.names[0].files.length, 3);
  t.deepEqual([...store.files.keys()].sort(), before, 'a dry run changes nothing');
  t.deepEqual({ ...JSON.parse(ok(t, machine, `${FT} gc --keep 1 --json`)), dry_run: true }, dry);
  t.deepEqual(
    versionsOf(t, machine, 'poet').versions.map((v: any) => v.version),
    [2, 3, 5],
  );
  t.true(store.files.has('poet/checkpoint'));
  t.regex(ok(t, machine, `${FT} gc poet --keep 1`), /nothing to remove/);
  const beside = ok(
    t,
    machine,
    `sleep 9 & echo > /s/poet/new-$!.gguf.part; ${FT} gc poet; ls /s/poet; kill $!; wait; ${FT} gc poet`,
  );
  t.regex(beside, /nothing to remove[^]*new-[^]*1 file: 1 bytes removed/, 'a process makes it, until it ends');
  ok(t, machine, `${FT} import /in/a1.gguf poet`);
  t.is(versionsOf(t, machine, 'poet').current, 6, 'no number is given twice');
});

test('two that change a name at once take turns, and a lock that a power cut left is nobody’s', t => {
  const store = new StoreDirectory();
  const files = Object.fromEntries([1, 2, 3, 4, 5, 6].map(n => [`a${n}.gguf`, adapterFile(pair(n), 2)]));
  const machine = power(files, store);
  let holder = '';
  store.look = () => (holder ||= Buffer.from(store.files.get('poet/lock') ?? []).toString());
  const together = [1, 2, 3, 4, 5, 6]
    .map(n => `llmfinetune import /in/a${n}.gguf poet --store /s > /dev/null &`)
    .join(' ');
  ok(t, machine, `${together} wait`);
  const { versions, history } = versionsOf(t, machine, 'poet');
  t.deepEqual(
    versions.map((v: any) => v.version),
    [1, 2, 3, 4, 5, 6],
  );
  t.is(history.length, 6);
  t.is(new Set(versions.map((v: any) => v.digest)).size, 6);
  t.regex(holder, /^[0-9]+ [0-9]+ [0-9]+\n$/);
  const epoch = holder.split(' ')[2]!.trim();
  const held = machine.exec(
    `sleep 9 & echo $! $(grep "^$! " /proc/ps | cut -d ' ' -f 7) ${epoch} > /s/poet/lock; ${FT} rollback poet; kill $!`,
  );
  t.regex(held.stderr, /poet: is being changed by another program/);
  for (const stale of ['', '1 5 5\n', `9999 0 ${epoch}\n`]) {
    store.files.set('poet/lock', Buffer.from(stale));
    ok(t, machine, `${FT} rollback poet`);
    t.false(store.files.has('poet/lock'));
  }
});

test('a version is signed, and what was changed since is found', t => {
  const store = new StoreDirectory();
  const files = {
    'a.gguf': adapterFile(pair(1), 2),
    'b.gguf': adapterFile(pair(2), 2),
    'key.pem': secretKey,
    'key.pub': publicKey,
  };
  const machine = power(files, store);
  ok(t, machine, `${FT} import /in/a.gguf poet --key /in/key.pem; ${FT} import /in/b.gguf poet`);
  t.regex(machine.exec(`${FT} versions poet --verify`).stdout, /bad signature/, 'nobody trusts that key yet');
  ok(t, machine, `${FT} versions poet --verify --key /in/key.pub`);
  ok(t, machine, 'llmctl key add /in/key.pub');
  const checked = JSON.parse(ok(t, machine, `${FT} versions poet --verify --json`));
  t.deepEqual(
    checked.versions.map((v: any) => v.check),
    ['signed', 'ok'],
  );
  const { path: first } = checked.versions[0];
  const bytes = store.files.get(first.slice(3))!;
  bytes[bytes.length - 1]! ^= 1;
  const { status, stdout } = machine.exec(`${FT} versions poet --verify --json`);
  t.is(status, 1);
  t.deepEqual(
    JSON.parse(stdout).versions.map((v: any) => v.check),
    ['changed', 'ok'],
  );
  const whole = machine.exec(`${FT} versions --verify`);
  t.is(whole.status, 1);
  t.regex(whole.stdout, /^NAME +CURRENT +VERSIONS +SIZE +CHECK\npoet .* 1 changed\n$/);
  const [all] = JSON.parse(machine.exec(`${FT} versions --verify --json`).stdout).names;
  t.deepEqual(all.checks, [
    { version: 1, check: 'changed' },
    { version: 2, check: 'ok' },
  ]);
  for (const verb of ['apply poet@1', 'export poet@1', 'merge poet@1 /tmp/m.gguf', 'eval poet@1 /in/a.gguf'])
    t.regex(refused(t, machine, `${FT} ${verb}`), /v1_[0-9a-f]+\.gguf: was changed since it became version 1 of poet$/);
  ok(t, machine, `${FT} export poet -o /tmp/b.gguf; cmp /tmp/b.gguf /in/b.gguf`);
  store.files.delete(first.slice(3));
  t.regex(refused(t, machine, `${FT} export poet@1`), /v1_[0-9a-f]+\.gguf: No such file/);
});

test('what nobody could use is refused before the work: a name that means none, and versions that cannot be read', t => {
  const store = new StoreDirectory();
  const machine = power({ 'a.gguf': adapterFile(pair(1), 2), 'd.txt': Buffer.from('Once upon a time') }, store);
  t.regex(refused(t, machine, `${FT} import /in/a.gguf none`), /^'none' is not a name/);
  ok(t, machine, `${FT} import /in/a.gguf poet`);
  store.files.set('poet/versions.json', Buffer.from('{'));
  const training = `${FT} start /in/d.txt poet --steps 1 --quiet`;
  t.is(refused(t, machine, training), '/s/poet/versions.json: not a list of versions');
  t.false(store.files.has('poet/run.json'), 'nothing was begun');
});

// ── Files for others, and of others ──────────────────────────────────────────────────────────────────────────────────────────────

test('an adapter comes out as it went in, and as safetensors; halves of other types come in', t => {
  const given = adapterFile(pair(3), 2);
  const files = {
    'a.gguf': given,
    'f16.gguf': adapterFile(pair(3, 1), 2),
    'bf16.gguf': adapterFile(pair(3, 30), 2),
  };
  const machine = power(files);
  ok(t, machine, `${FT} import /in/a.gguf poet; ${FT} import /in/f16.gguf poet; ${FT} import /in/bf16.gguf poet`);
  ok(t, machine, `${FT} export poet@1 -o /o/out.gguf`);
  t.deepEqual(readFileSync(path.join(scratch, 'out.gguf')), given);
  for (const version of [1, 2, 3])
    ok(t, machine, `${FT} export poet@${version} --format safetensors -o /o/v${version}.safetensors`);
  const [first, ...others] = [1, 2, 3].map(n => readFileSync(path.join(scratch, `v${n}.safetensors`)));
  for (const other of others) t.deepEqual(dataOf(other), dataOf(first!), 'F16 and BF16 hold these values exactly');
  t.deepEqual([...new Float32Array(Uint8Array.from(dataOf(first!)).buffer)], [3, 0, -3, 0.5, -1]);

  // And back: the same numbers, in a file of our own, which another reader of GGUF takes.
  ok(t, machine, `${FT} import /o/v1.safetensors back; ${FT} export back -o /o/back.gguf`);
  const back = readFileSync(path.join(scratch, 'back.gguf'));
  const tensors = walkGguf(back);
  t.deepEqual(
    tensors.map(({ name, type, ne }) => [name, type, ne]),
    [
      ['blk.0.attn_q.weight.lora_a', 0, [3, 1]],
      ['blk.0.attn_q.weight.lora_b', 0, [1, 2]],
    ],
  );
  t.deepEqual(
    [0, 4, 8].map(i => back.readFloatLE(tensors[0]!.at + i)),
    [3, 0, -3],
  );
  t.deepEqual(
    [0, 4].map(i => back.readFloatLE(tensors[1]!.at + i)),
    [0.5, -1],
  );
});

/** What lies behind the header of a safetensors file. */
const dataOf = (file: Buffer): Buffer => file.subarray(8 + Number(file.readBigUInt64LE(0)));

const PYTHON = '/usr/bin/python3';
const withPython = existsSync(PYTHON) || process.env['CI'] === 'true' ? test : test.skip;

withPython('a reader in Python, written from the format’s rules, takes our safetensors', t => {
  const halves = [...pair(), ...pair(2).map(h => ({ ...h, name: h.name.replace('blk.0', 'blk.1') }))];
  const machine = power({ 'a.gguf': adapterFile(halves, 2) });
  ok(t, machine, `${FT} import /in/a.gguf poet; cd /o; ${FT} export poet --format safetensors`);
  const file = path.join(scratch, 'poet-finetuned.safetensors');
  const { metadata, tensors } = JSON.parse(
    execFileSync(PYTHON, ['tests/outside/safetensors.py', file], { encoding: 'utf8' }),
  );
  t.deepEqual(metadata, { format: 'arena8-lora', architecture: 'llama', name: '', alpha: '2' });
  const f32 = (shape: number[], values: number[]): object => ({ dtype: 'F32', shape, values });
  t.deepEqual(tensors, {
    'blk.0.attn_q.weight.lora_a': f32([1, 3], [1, 0, -1]),
    'blk.0.attn_q.weight.lora_b': f32([2, 1], [0.5, -1]),
    'blk.1.attn_q.weight.lora_a': f32([1, 3], [2, 0, -2]),
    'blk.1.attn_q.weight.lora_b': f32([2, 1], [0.5, -1]),
  });
});

test('Hugging Face’s reader of GGUF finds an adapter’s keys and tensors as llama.cpp names them', async t => {
  const machine = power({ 'a.gguf': adapterFile(pair(), 4) });
  ok(t, machine, `${FT} import /in/a.gguf x; ${FT} export x --format safetensors -o /o/x.safetensors`);
  ok(t, machine, `${FT} import /o/x.safetensors y; ${FT} export y -o /o/y.gguf`);
  const { metadata, tensorInfos } = await gguf(path.join(scratch, 'y.gguf'), { allowLocalFile: true });
  const keys = metadata as unknown as Record<string, unknown>;
  t.deepEqual(
    ['general.type', 'general.architecture', 'general.name', 'adapter.type', 'adapter.lora.alpha'].map(k => keys[k]),
    ['adapter', 'llama', 'y', 'lora', 4],
  );
  t.deepEqual(
    tensorInfos.map(i => [i.name, i.shape.map(Number), i.dtype]),
    [
      ['blk.0.attn_q.weight.lora_a', [3, 1], 0],
      ['blk.0.attn_q.weight.lora_b', [1, 2], 0],
    ],
  );
});

test('what is no adapter is not taken in, with the reason', t => {
  const [a, b] = pair() as [Half, Half];
  const files = {
    text: Buffer.from('hello there, this is text'),
    'short.gguf': adapterFile(pair(), 2).subarray(0, 100),
    'model.gguf': adapterFile([], 2, { keys: [['general.architecture', ['string', 'llama']]] }),
    'one.gguf': adapterFile([a], 2),
    'ranks.gguf': adapterFile([a, { ...b, shape: [2, 1] }], 2),
    'alpha.gguf': adapterFile(pair(), 2, {
      keys: [
        ['general.type', ['string', 'adapter']],
        ['adapter.type', ['string', 'lora']],
      ],
    }),
    'other.gguf': adapterFile([...pair(), { name: 'blk.0.attn_q.bias', shape: [2, 1], values: [1, 2] }], 2),
  };
  const machine = power(files);
  const reasons = Object.keys(files).map(name => refused(t, machine, `${FT} import /in/${name} poet`));
  t.deepEqual(reasons, [
    '/in/text: is neither GGUF nor safetensors, whose header would have 7526676540175443000 bytes',
    '/in/short.gguf: ends at byte 100, 8 bytes are due at 93',
    '/in/model.gguf: is no adapter: general.type is not adapter',
    '/in/one.gguf: tensor blk.0.attn_q.weight.lora_a has no .lora_b beside it',
    '/in/ranks.gguf: blk.0.attn_q.weight: 3 × 1 and 2 × 1 are no low-rank pair',
    '/in/alpha.gguf: has no key adapter.lora.alpha',
    '/in/other.gguf: tensor blk.0.attn_q.bias is no half of a low-rank pair',
  ]);
});

test('a diff says how far apart two versions are in what they add', t => {
  const [a, b] = pair() as [Half, Half];
  const files = {
    'a.gguf': adapterFile([a, b], 2),
    'b.gguf': adapterFile(
      [
        { ...a, values: [0, 2, 0] },
        b,
        { ...a, name: 'blk.1.attn_q.weight.lora_a' },
        { ...b, name: 'blk.1.attn_q.weight.lora_b' },
      ],
      2,
    ),
  };
  const machine = power(files);
  ok(t, machine, `${FT} import /in/a.gguf poet; ${FT} import /in/b.gguf poet`);
  const { matrices } = JSON.parse(ok(t, machine, `${FT} diff poet 1 --json`));
  // 2 · B · A: [1 0 −1; −2 0 2] of norm √10, and [0 2 0; 0 −4 0] of norm √20, at right angles to it.
  const near = (x: number, y: number): boolean => Math.abs(x - y) < 1e-12;
  t.deepEqual(
    matrices.map((m: any) => m.name),
    ['blk.0.attn_q.weight', 'blk.1.attn_q.weight'],
  );
  t.true(near(matrices[0].left, Math.sqrt(10)) && near(matrices[0].right, Math.sqrt(20)));
  t.true(near(matrices[0].change, Math.sqrt(30)) && near(matrices[0].cosine, 0));
  t.is(matrices[1].left, null);
  t.true(near(matrices[1].change, Math.sqrt(10)));
  t.regex(ok(t, machine, `${FT} diff poet 1 2`), /^MATRIX +NORM v1 +NORM v2 +CHANGE +COSINE\nblk.0/);
  t.regex(ok(t, machine, `${FT} diff poet 2`), /have the same bytes/);
});

test('drift is the specification’s: windows, drops, confidence', t => {
  const scores = (n: number, share: number): number[] => Array.from({ length: n }, (_, i) => (i < n * share ? 1 : 0));
  const verdict = (list: number[]): unknown[] => {
    const d = driftOf(list)!;
    return [d.samples, d.verdict, d.confidence];
  };
  t.deepEqual(verdict(scores(1000, 0.9)), [1000, 'ok', 0.95]);
  t.deepEqual(verdict(scores(100, 0.86)), [100, 'ok', 0.85]); // a drop of 4 points
  t.deepEqual(verdict(scores(500, 0.85)), [500, 'warning', 0.95]);
  t.deepEqual(verdict(scores(99, 77 / 99)), [99, 'warning', 0.7]);
  t.deepEqual(verdict(scores(100, 0.75)), [100, 'critical', 0.85]);
  t.deepEqual(verdict([1]), [1, 'ok', 0.5]);
  t.deepEqual(verdict([...Array.from({ length: 500 }, () => 0), ...scores(1000, 0.95)]), [1000, 'ok', 0.95]);
  t.is(driftOf([]), null);
  const machine = power({ s: Buffer.from('1\n0.5\n{"score":0.6}\n'), bad: Buffer.from('1\n2\n') });
  const { status, stdout } = machine.exec(`${FT} drift poet /in/s --json`);
  t.is(status, 1);
  t.like(JSON.parse(stdout), { samples: 3, verdict: 'critical', confidence: 0.5, baseline: 0.9 });
  t.is(refused(t, machine, `${FT} drift poet /in/bad`), '/in/bad: line 2 is no score from 0 to 1');
});

// ── Merging, and models from nothing ─────────────────────────────────────────────────────────────────────────────────────────────

test("merging is the specification's: W + alpha / rank · B · A", t => {
  const base = adapterFile([{ name: 'blk.0.attn_q.weight', shape: [3, 2], values: [1, 2, 3, 4, 5, 6] }], 0, {
    keys: [
      ['general.architecture', ['string', 'llama']],
      ['general.name', ['string', 'tiny']],
    ],
  });
  const machine = power({ 'base.gguf': base, 'a.gguf': adapterFile(pair(), 2) });
  ok(t, machine, `${FT} import /in/a.gguf poet`);
  ok(t, machine, `${FT} merge poet /o/merged.gguf --base /in/base.gguf`);
  const merged = readFileSync(path.join(scratch, 'merged.gguf'));
  const [w] = walkGguf(merged);
  t.deepEqual(
    Array.from({ length: 6 }, (_, i) => merged.readFloatLE(w!.at + 4 * i)),
    [2, 2, 2, 2, 5, 8],
  );
  ok(t, machine, `${FT} merge poet /o/merged.gguf --base /in/base.gguf --scale -1 --type F16`);
  const half = readFileSync(path.join(scratch, 'merged.gguf'));
  const [h] = walkGguf(half);
  t.is(h!.type, 1);
  t.deepEqual(
    Array.from({ length: 6 }, (_, i) => half.readUInt16LE(h!.at + 2 * i)),
    [0, 2, 4, 6, 5, 4].map(halfOf),
  );
  t.regex(refused(t, machine, `${FT} merge poet /o/x.gguf --base /in/a.gguf`), /has no tensor blk.0.attn_q.weight/);
  t.false(existsSync(path.join(scratch, 'x.gguf')));
  t.deepEqual(ok(t, machine, 'ls /o').match(/merged-|rounded-|part/g), null, 'nothing in between is left');
});
const halfOf = half;

/** A small model of 256 bytes as tokens, F32. */
const CONFIG = JSON.stringify({
  embedding: 64,
  layers: 2,
  heads: 4,
  kv_heads: 2,
  feed_forward: 96,
  context: 64,
  seed: 7,
});

test('a model with random first weights loads and runs; the same seed is the same bytes', t => {
  const machine = power({ 'c.json': Buffer.from(CONFIG) });
  const said = JSON.parse(ok(t, machine, 'llmfinetune init /in/c.json /o/a.gguf --json'));
  ok(t, machine, 'llmfinetune init /in/c.json /o/b.gguf; cmp /o/a.gguf /o/b.gguf');
  const bytes = readFileSync(path.join(scratch, 'a.gguf'));
  t.is(
    createHash('sha256').update(bytes).digest('hex'),
    '8b020494e3499e826eadd105463f1260107d4f33e9638eb6d509f34fd7844b27',
  );
  ok(t, machine, 'llmctl load /o/a.gguf');
  t.is(JSON.parse(ok(t, machine, 'llmctl tokenize --json "aé"')).tokens.join(' '), '97 195 169');
  ok(t, machine, 'llminfer --max-tokens 8 hello');

  // Normally distributed: mean and deviation of each matrix, and the share within one deviation.
  const tensors = walkGguf(bytes);
  t.is(
    tensors.reduce((sum, w) => sum + w.ne.reduce((p, n) => p * n, 1), 0),
    said.parameters,
  );
  for (const { name, ne, at } of tensors) {
    const x = Array.from({ length: ne.reduce((p, n) => p * n, 1) }, (_, i) => bytes.readFloatLE(at + 4 * i));
    if (ne.length === 1) {
      t.true(
        x.every(v => v === 1),
        name,
      );
      continue;
    }
    const sigma = /attn_output|ffn_down/.test(name) ? 0.02 / 2 : 0.02;
    const mean = x.reduce((sum, v) => sum + v, 0) / x.length;
    const deviation = Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / x.length);
    const inside = x.filter(v => Math.abs(v) < sigma).length / x.length;
    t.true(Math.abs(mean) < (4 * sigma) / Math.sqrt(x.length), `${name}: mean ${mean}`);
    t.true(Math.abs(deviation / sigma - 1) < 4 / Math.sqrt(2 * x.length), `${name}: deviation ${deviation}`);
    t.true(Math.abs(inside - 0.6827) < 2 / Math.sqrt(x.length), `${name}: ${inside} within one deviation`);
  }
  for (const [config, why] of [
    ['{', 'is not JSON'],
    ['{"layer": 1}', 'layer is not known'],
    ['{"heads": 3}', 'embedding is 64: no even number'],
    ['{"heads": "3"}', 'heads is no number'],
  ] as const) {
    const line = refused(t, power({ 'c.json': Buffer.from(config) }), 'llmfinetune init /in/c.json /o/c.gguf');
    t.true(line.startsWith(`/in/c.json: ${why}`), line);
  }
});

/** Pairs for that model, seeded. */
function pairsFor(seed: number, rank = 4): Half[] {
  const random = makeRandom(seed);
  const draw = (n: number): number[] => Array.from({ length: n }, () => (random(2001) - 1000) / 4000);
  const matrices = [
    ['blk.0.attn_q', 64, 64],
    ['blk.0.attn_v', 64, 32],
    ['blk.1.ffn_down', 96, 64],
  ] as const;
  return matrices.flatMap(([name, inputs, outputs]) => [
    { name: `${name}.weight.lora_a`, shape: [inputs, rank], values: draw(inputs * rank) },
    { name: `${name}.weight.lora_b`, shape: [rank, outputs], values: draw(rank * outputs) },
  ]);
}

/** What a machine infers: the digest of all logits, and the logits of each step by token. */
function inferred(t: Check, machine: Machine): { readonly sum: string; readonly logits: Map<number, number>[] } {
  const { logits_sum, steps } = JSON.parse(ok(t, machine, 'llminfer --json --max-tokens 6 --logits 64 "hello there"'));
  return { sum: logits_sum, logits: steps.map((s: any) => new Map(s.top)) };
}

/** The greatest difference of logits that both have. */
function apart(a: readonly Map<number, number>[], b: readonly Map<number, number>[]): number {
  let most = 0;
  a.forEach((step, i) => {
    for (const [token, logit] of step) most = Math.max(most, Math.abs(logit - (b[i]!.get(token) ?? logit)));
  });
  return most;
}

test('applied is as good as merged, another version makes way, and detached is as if nothing had been', t => {
  const files = {
    'c.json': Buffer.from(CONFIG),
    'a.gguf': adapterFile(pairsFor(1), 8),
    'b.gguf': adapterFile(pairsFor(2, 3), 8),
  };
  const machine = power(files);
  ok(t, machine, `llmfinetune init /in/c.json /o/base.gguf; llmctl load /o/base.gguf --kv f32`);
  ok(t, machine, `${FT} import /in/a.gguf poet; ${FT} import /in/b.gguf poet`);
  const digest = ok(t, machine, 'sha256sum /o/base.gguf');
  const plain = inferred(t, machine);
  ok(t, machine, `${FT} apply poet@1`);
  const first = inferred(t, machine);
  t.not(first.sum, plain.sum);
  t.true(apart(first.logits, plain.logits) > 0.01, 'it makes a difference');
  ok(t, machine, `${FT} apply poet`);
  const second = inferred(t, machine);
  t.not(second.sum, first.sum);
  const rows = ok(t, machine, 'cat /proc/adapters').trim().split('\n');
  t.is(rows.length, 2, 'one adapter of that name');
  t.deepEqual(
    versionsOf(t, machine, 'poet').versions.map((v: any) => v.applied),
    [false, true],
  );
  ok(t, machine, `${FT} apply poet@1 --scale 0.5`);
  const halved = inferred(t, machine);
  ok(t, machine, `${FT} detach poet`);
  t.is(inferred(t, machine).sum, plain.sum, 'to the bit');
  t.is(ok(t, machine, 'sha256sum /o/base.gguf'), digest);

  for (const [version, scale, applied] of [
    [1, 1, first],
    [2, 1, second],
    [1, 0.5, halved],
  ] as const) {
    ok(t, machine, `llmctl load /o/base.gguf --kv f32; ${FT} merge poet@${version} /o/merged.gguf --scale ${scale}`);
    ok(t, machine, 'llmctl load /o/merged.gguf --kv f32');
    const merged = inferred(t, machine);
    const difference = apart(merged.logits, applied.logits);
    t.true(difference < 1e-5, `version ${version} at ${scale}: ${difference}`);
  }
});

test('merged into a quantised model matrices keep their type, the rest its bytes, and rounding is said', t => {
  const machine = power({ 'c.json': Buffer.from(CONFIG), 'a.gguf': adapterFile(pairsFor(1), 8) });
  ok(t, machine, `llmfinetune init /in/c.json /o/base.gguf; llmctl quantize /o/base.gguf /o/q8.gguf Q8_0`);
  ok(t, machine, `${FT} import /in/a.gguf poet`);
  const said = JSON.parse(ok(t, machine, `${FT} merge poet /o/m8.gguf --base /o/q8.gguf --json`));
  t.deepEqual(
    said.matrices.map((m: any) => [m.name, m.type]),
    [
      ['blk.0.attn_q.weight', 'Q8_0'],
      ['blk.0.attn_v.weight', 'Q8_0'],
      ['blk.1.ffn_down.weight', 'Q8_0'],
    ],
  );
  // A block's step is its largest value / 127; rounding is uniform over it: an rms of 0.29 steps.
  for (const m of said.matrices) t.true(m.rounding_rms > 0 && m.rounding_rms < m.change_rms / 50, JSON.stringify(m));
  const [before, after] = ['q8', 'm8'].map(name => readFileSync(path.join(scratch, `${name}.gguf`)));
  const [old, now] = [walkGguf(before!), walkGguf(after!)];
  t.deepEqual(
    now.map(w => [w.name, w.type, w.ne]),
    old.map(w => [w.name, w.type, w.ne]),
  );
  const changed = new Set(said.matrices.map((m: any) => m.name));
  const dataBytes = (w: { ne: readonly number[]; type: number }): number =>
    w.ne.reduce((p, n) => p * n, 1) * (w.type === 0 ? 4 : 34 / 32);
  now.forEach((w, i) => {
    const bytes = dataBytes(w);
    const same = after!.subarray(w.at, w.at + bytes).equals(before!.subarray(old[i]!.at, old[i]!.at + bytes));
    t.is(same, !changed.has(w.name), w.name);
  });
  ok(t, machine, 'llmctl load /o/m8.gguf');
  ok(t, machine, 'llminfer --max-tokens 2 hello');
  t.regex(refused(t, machine, `${FT} merge poet /o/x.gguf --base /o/q8.gguf --type Q6_K`), /cannot write type Q6_K/);
});

test('eval says what an adapter is worth, on the path of inference, and keeps scores for drift', t => {
  const examples = ['hello there', 'good day', 'how are you'].map(prompt => ({ prompt, completion: ' my friend' }));
  const store = new StoreDirectory();
  const files = {
    'c.json': Buffer.from(CONFIG),
    'a.gguf': adapterFile(pairsFor(1), 8),
    'd.json': Buffer.from(JSON.stringify({ examples })),
    'wrong.gguf': adapterFile(pair(), 8),
  };
  const machine = power(files, store);
  ok(t, machine, 'llmfinetune init /in/c.json /o/base.gguf; llmctl load /o/base.gguf --kv f32 --pages 8');
  ok(t, machine, `${FT} import /in/a.gguf poet; ${FT} import /in/wrong.gguf other`);
  const said = JSON.parse(ok(t, machine, `${FT} eval poet /in/d.json --json`));
  t.like(said, { name: 'poet', version: 1, sequences: 3, targets: 3 * 11 });
  t.true(Math.abs(said.loss - said.loss_without) > 1e-4);
  const alone = (): any => JSON.parse(ok(t, machine, `${FT} eval /in/d.json --json`));
  t.is(alone().loss_without, said.loss_without);
  t.is(alone().loss, null);
  // Random weights know nothing: the loss is about that of 257 equal chances.
  t.true(Math.abs(said.loss_without - Math.log(257)) < 0.2);
  ok(t, machine, `${FT} apply poet`);
  t.is(alone().loss_without, said.loss_without, 'what is applied does not matter');
  t.regex(
    refused(t, machine, `${FT} eval other /in/d.json`),
    /an adapter for another model: blk.0.attn_q.weight.lora_a/,
  );

  const scores = Buffer.from(store.files.get('poet/scores.jsonl')!)
    .toString()
    .trim()
    .split('\n')
    .map(l => JSON.parse(l));
  t.is(scores.length, 3);
  for (const { score, loss, version } of scores) {
    t.is(version, 1);
    t.true(Math.abs(score - Math.exp(-loss)) < 1e-12);
  }
  t.regex(machine.exec(`${FT} drift poet`).stdout, /^poet: critical: mean 0.00.. of 3 scores/);
  ok(t, machine, `${FT} drift poet --baseline 0.004`);

  ok(t, machine, `${FT} merge poet /o/merged.gguf; llmctl load /o/merged.gguf --kv f32 --pages 8`);
  t.true(Math.abs(alone().loss_without - said.loss) < 1e-6, 'merged is as good as applied');
});

test('tools/train.mjs makes a model from a corpus, the same from the same', t => {
  const at = (name: string): string => path.join(scratch, name);
  writeFileSync(at('corpus.txt'), 'the cat sat on the mat. the dog sat on the log. '.repeat(10));
  writeFileSync(at('small.json'), JSON.stringify({ name: 'small', embedding: 32, layers: 1, heads: 2, context: 32 }));
  const settings = ['--ctx', '32', '--batch', '4', '--lr', '0.01', '--steps', '6'];
  for (const out of ['one.gguf', 'two.gguf']) {
    const given = [at('corpus.txt'), '--config', at('small.json'), '--out', at(out), ...settings];
    execFileSync(process.execPath, ['tools/train.mjs', ...given], { stdio: ['ignore', 'ignore', 'pipe'] });
  }
  t.deepEqual(readFileSync(at('one.gguf')), readFileSync(at('two.gguf')));
  const machine = power({});
  const losses = ['one.gguf.work/first.gguf', 'one.gguf'].map(name => {
    ok(t, machine, `llmctl load /o/${name} --pages 1`);
    return JSON.parse(ok(t, machine, 'llmfinetune eval /o/corpus.txt --ctx 32 --json')).loss_without;
  });
  t.true(losses[1] < losses[0] - 0.5, `${losses.join(' → ')}`);
});
