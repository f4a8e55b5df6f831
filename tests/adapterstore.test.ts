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
import { E, isRefusal } from '../kernel/abi/index.ts';
import { readCpio, writeCpio } from '../vfs/cpio.ts';
import { soak } from './harness.ts';
import { walkGguf } from './reference/gguf-walk.ts';
import { ggufFile, type FileSpec } from './support/gguf.ts';
import { PowerCut, PowerDirectory, type Cut } from './support/power.ts';

const image = readFileSync('build/boot.cpio');
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

/** A directory of the host whose power can be cut, with names that can be changed. */
class StoreDirectory extends PowerDirectory {
  override remove(name: string): number {
    if (!this.files.has(name)) return -E.NOENT;
    return this.act(torn => {
      if (!torn) this.files.delete(name);
      return 0;
    });
  }
  override rename(from: string, to: string): number {
    const bytes = this.files.get(from);
    if (bytes === undefined) return -E.NOENT;
    return this.act(torn => {
      if (torn) return 0;
      this.files.set(to, bytes);
      this.files.delete(from);
      return 0;
    });
  }
  override survivor(): StoreDirectory {
    return new StoreDirectory(new Map([...this.files].map(([name, bytes]) => [name, bytes.slice()])));
  }
}

/** Without models: such a machine is on at once. */
const bare = (() => {
  const entries = readCpio(image);
  if (isRefusal(entries)) throw new Error(entries.message);
  return writeCpio(
    entries
      .filter(({ name }) => !name.startsWith('models/'))
      .map(({ name, kind, mode, uid, dataAt, bytes }) => {
        const data = name === 'etc/model' ? new Uint8Array(0) : image.subarray(dataAt, dataAt + bytes);
        return { name, kind, mode, owner: uid, data };
      }),
  );
})();

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

  t.is(refused(t, machine, `${FT} rollback poet 9`), 'poet: no version 9: there are 1, 2, 3');
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
});
