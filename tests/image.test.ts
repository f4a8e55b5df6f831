// The boot image: GNU cpio lists and unpacks what tools/image.mjs packs, our reader reads what GNU cpio packs (hard links, links, any
// order), the same sources give the same bytes, and every damaged archive is refused in one line.

import test from 'ava';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { isRefusal, KIND } from '../kernel/abi/index.ts';
import { readCpio, writeCpio } from '../vfs/cpio.ts';
import type { CpioEntry, CpioSource } from '../vfs/cpio.ts';
import { makeRandom } from './support/arena.ts';

const IMAGE = 'build/boot.cpio';
const hasCpio = fs.existsSync('/usr/bin/cpio');
const withCpio = hasCpio || process.env['CI'] === 'true' ? test : test.skip;

function entriesOf(image: Uint8Array): CpioEntry[] {
  const entries = readCpio(image);
  if (isRefusal(entries)) throw new Error(entries.message);
  return entries;
}
const dataOf = (image: Uint8Array, e: CpioEntry): Buffer => Buffer.from(image.subarray(e.dataAt, e.dataAt + e.bytes));
const sha256 = (b: Uint8Array): string => createHash('sha256').update(b).digest('hex');
function inScratch<T>(f: (dir: string) => T): T {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'arena8-image-'));
  try {
    return f(dir);
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
}

const isFile =
  (dir: string) =>
  (name: string): boolean =>
    fs.statSync(path.join(dir, name)).isFile();

/** Modes that are not the usual ones. */
const special: Readonly<Record<string, number>> = {
  'bin/login': 0o4755,
  'bin/passwd': 0o4755,
  'bin/su': 0o4755,
  'etc/shadow': 0o600,
  'home/auditor': 0o700,
  'home/user': 0o700,
  root: 0o700,
  tmp: 0o1777,
  'var/sis/adapters': 0o1777,
};
/** Directories that are not root's. */
const owners: Readonly<Record<string, number>> = { 'home/user': 1000, 'home/auditor': 1001 };

test('the image holds what images/ and shell/bin hold', t => {
  const image = fs.readFileSync(IMAGE);
  const entries = new Map(entriesOf(image).map(e => [e.name, e]));
  t.deepEqual([...entries.keys()], [...entries.keys()].sort(), 'sorted');
  for (const dir of ['bin', 'dev', 'etc', 'home/user', 'mnt', 'models', 'proc', 'tmp'])
    t.is(entries.get(dir)?.kind, KIND.dir, dir);
  for (const e of entries.values()) {
    t.is(e.mtime, 0, e.name);
    const usual = e.kind === KIND.dir || e.name.startsWith('bin/') ? 0o755 : 0o644;
    t.is(e.mode, special[e.name] ?? usual, e.name);
    t.is(e.uid, owners[e.name] ?? 0, e.name);
    t.true(!e.name.includes('/') || entries.has(path.posix.dirname(e.name)), `${e.name} has its directory`);
  }
  for (const file of fs
    .readdirSync('images/root/etc', { recursive: true, encoding: 'utf8' })
    .filter(isFile('images/root/etc')))
    t.deepEqual(dataOf(image, entries.get(`etc/${file}`)!), fs.readFileSync(`images/root/etc/${file}`));
  const card = fs.readFileSync('images/models/fable.md', 'utf8');
  for (const file of fs.readdirSync('images/models').filter(f => f.endsWith('.gguf'))) {
    const digest = sha256(dataOf(image, entries.get(`models/${file}`)!));
    t.is(digest, sha256(fs.readFileSync(`images/models/${file}`)));
    t.deepEqual(dataOf(image, entries.get(`models/${file}.sis`)!), fs.readFileSync(`images/models/${file}.sis`));
    t.true(card.includes(`| \`${file}\` |`) && card.includes(digest), `the card names ${file} and its digest`);
  }
  for (const file of fs.readdirSync('shell/bin').filter(f => f.endsWith('.ts'))) {
    const name = path.basename(file, '.ts');
    t.is(dataOf(image, entries.get(`bin/${name}`)!).toString(), `#!arena8 ${name}\n`);
  }
});

withCpio('GNU cpio lists and unpacks the image, byte for byte', t => {
  inScratch(dir => {
    const image = fs.readFileSync(IMAGE);
    const listing = execFileSync('cpio', ['-t', '--quiet'], { input: image }).toString().trimEnd().split('\n');
    const entries = entriesOf(image);
    t.deepEqual(
      listing,
      entries.map(e => e.name),
    );
    execFileSync('cpio', ['-id', '--quiet', '--no-preserve-owner'], { input: image, cwd: dir });
    for (const e of entries) {
      const stat = fs.statSync(path.join(dir, e.name));
      t.is(stat.isDirectory(), e.kind === KIND.dir, e.name);
      if (e.kind === KIND.file)
        t.is(Buffer.compare(fs.readFileSync(path.join(dir, e.name)), dataOf(image, e)), 0, e.name);
    }
  });
});

withCpio('an archive of GNU cpio is read: links, hard links, empty files, long names, odd sizes', t => {
  inScratch(dir => {
    const at = (name: string): string => path.join(dir, name);
    fs.mkdirSync(at('d/e'), { recursive: true });
    for (let n = 0; n < 9; n++) fs.writeFileSync(at(`d/${'n'.repeat(n + 1)}`), 'x'.repeat(n));
    fs.writeFileSync(at('d/first'), 'shared text');
    fs.linkSync(at('d/first'), at('d/second'));
    fs.symlinkSync('../d/first', at('d/e/link'));
    fs.writeFileSync(at(`d/${'ü'.repeat(120)}`), 'long');
    for (const order of [['-depth'], []]) {
      const list = execFileSync('find', ['.', ...order], { cwd: dir });
      const image = execFileSync('cpio', ['-o', '-H', 'newc', '--quiet'], { cwd: dir, input: list });
      const entries = new Map(entriesOf(image).map(e => [e.name, e]));
      t.is(entries.size, list.toString().trimEnd().split('\n').length);
      t.is(entries.get('')!.kind, KIND.dir);
      for (let n = 0; n < 9; n++) t.is(dataOf(image, entries.get(`d/${'n'.repeat(n + 1)}`)!).toString(), 'x'.repeat(n));
      t.is(dataOf(image, entries.get('d/first')!).toString(), 'shared text');
      t.is(dataOf(image, entries.get('d/second')!).toString(), 'shared text');
      t.is(entries.get('d/e/link')!.kind, KIND.link);
      t.is(dataOf(image, entries.get('d/e/link')!).toString(), '../d/first');
      t.is(dataOf(image, entries.get(`d/${'ü'.repeat(120)}`)!).toString(), 'long');
    }
  });
});

const source = (name: string, data = '', kind: CpioSource['kind'] = KIND.file): CpioSource => ({
  name,
  kind,
  mode: 0o644,
  data: Buffer.from(data),
});

test('writing is reproducible, and reading gives back what was written', t => {
  const sources = [
    source('a', 'one'),
    source('d', '', KIND.dir),
    source('d/b', 'four'),
    source('d/l', '../a', KIND.link),
  ];
  const image = writeCpio(sources);
  t.is(image.length % 512, 0);
  t.is(sha256(image), sha256(writeCpio(sources)));
  t.deepEqual(
    entriesOf(image).map(e => [e.name, e.kind, e.mode, dataOf(image, e).toString()]),
    sources.map(s => [s.name, s.kind, s.mode, Buffer.from(s.data).toString()]),
  );
  t.deepEqual(entriesOf(writeCpio([])), []);
});

function refusal(image: Uint8Array): string {
  const got = readCpio(image);
  return isRefusal(got) ? got.message : 'accepted';
}

test('damaged archives are refused in one line', t => {
  const whole = Buffer.from(writeCpio([source('etc/rc', 'hello'), source('x', 'y')]));
  const change = (f: (b: Buffer) => unknown): Uint8Array => {
    const b = Buffer.from(whole);
    f(b);
    return b;
  };
  const named = (name: string, kind: CpioSource['kind'] = KIND.file): string =>
    refusal(writeCpio([source(name, 'abc', kind)]));
  const table: [string, string][] = [
    [refusal(Buffer.alloc(0)), 'truncated: entry 0 needs 110 bytes at 0, the image has 0'],
    [refusal(Buffer.from('hello world'.repeat(20))), 'bad magic "hello " of entry 0 at 0, want 070701 (newc)'],
    [refusal(change(b => b.write('070702'))), 'bad magic "070702" of entry 0 at 0, want 070701 (newc)'],
    [refusal(change(b => b.write('0000000g', 54))), 'field 6 of entry 0 at 54 is not hexadecimal'],
    [refusal(change(b => b.write('FFFFFFFF', 94))), 'name of entry 0 at 0 has 4294967295 bytes, allowed 2 to 4096'],
    [refusal(change(b => b.write('00000001', 94))), 'name of entry 0 at 0 has 1 bytes, allowed 2 to 4096'],
    [refusal(change(b => b.write('00000006', 94))), 'name of entry 0 at 110 is not text ended by one zero byte'],
    [refusal(change(b => b.fill(255, 110, 112))), 'name of entry 0 at 110 is not text ended by one zero byte'],
    [
      refusal(change(b => b.write('7FFFFFFF', 54))),
      `truncated: etc/rc ends ${0x7fffffff + 120 - whole.length} bytes past the image`,
    ],
    [
      refusal(change(b => b.write('000021A4', 14))),
      'etc/rc has type 2; files (8), directories (4) and symbolic links (10) are read',
    ],
    [refusal(whole.subarray(0, 230)), 'truncated: entry 1 needs 110 bytes at 128, the image has 230'],
    [refusal(whole.subarray(0, 240)), 'truncated: x ends 1 bytes past the image'],
    [refusal(writeCpio([source('a'), source('a')])), 'two entries have the name "a"'],
    [named('/etc/passwd'), 'entry 0 has the name "/etc/passwd"'],
    [named('a/../../b'), 'entry 0 has the name "a/../../b"'],
    [named('a//b'), 'entry 0 has the name "a//b"'],
    [named('.'), 'the root is not a directory'],
    [named('n'.repeat(256)), 'a component of the name of entry 0 is longer than 255 bytes'],
    [refusal(writeCpio([source('l', '', KIND.link)])), 'symbolic link l has a target of 0 bytes, allowed 1 to 4095'],
  ];
  for (const [got, want] of table) t.is(got.replace('cpio image: ', ''), want);
  const random = makeRandom(11);
  for (let i = 0; i < 5000; i++) {
    const image =
      random(3) === 0 ? whole.subarray(0, random(whole.length)) : change(b => (b[random(400)] = random(256)));
    const got = readCpio(image);
    if (isRefusal(got)) {
      if (/[\n\r]/.test(got.message) || got.message.length > 300) t.fail(got.message);
    } else for (const e of got) if (e.dataAt + e.bytes > image.length) t.fail(e.name);
  }
  t.pass();
});
