// What people see of the audit log: /audit as files, the verbs of llmctl audit, and the reserved word of the host. The log itself is one that
// the tests have written (tests/support/fake-log.ts); the kernel's own is in audit.test.ts.

import test from 'ava';
import { readFileSync } from 'node:fs';
import { E, errnoName, KIND, O } from '../kernel/abi/index.ts';
import { AUDITOR_GID, AuditFs } from '../vfs/fs-audit.ts';
import type { OpenFile } from '../vfs/file.ts';
import { credentialsOf } from '../vfs/permission.ts';
import { Vfs, type Place, type View } from '../vfs/vfs.ts';
import { makeArena } from './support/arena.ts';
import { FakeLog } from './support/fake-log.ts';
import { BUFFER_AT, namesIn } from './support/file-systems.ts';

const arena = makeArena();

/** A log of `count` plain records. */
function logOf(count: number): FakeLog {
  const log = new FakeLog();
  for (let i = 0; i < count; i++) log.append({ 'arena8.op': i === 0 ? 'boot' : 'infer', 'arena8.time_ns': `${i}` });
  return log;
}

// ── /audit ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Mounted {
  readonly vfs: Vfs;
  uid: number;
}

function mounted(log: FakeLog): Mounted {
  const vfs = new Vfs(arena, () => 0);
  vfs.mount('/', vfs.tmpfs(0o755), 'root', false);
  vfs.mkdir('/', '/audit', 0o755);
  const m: Mounted = { vfs, uid: 0 };
  vfs.mount('/audit', new AuditFs(log, () => m.uid), 'audit', false);
  return m;
}

const opened = (file: OpenFile | number): OpenFile => {
  if (typeof file === 'number') throw new Error(errnoName(file));
  return file;
};

/** A whole file, read in pieces of `step` bytes. */
function contents({ vfs }: Mounted, path: string, step = 1000): Buffer {
  const file = opened(vfs.open('/', path, O.RDONLY, 0));
  const pieces: Buffer[] = [];
  for (let n; (n = file.read(BUFFER_AT, step)) !== 0;) {
    if (n < 0) throw new Error(errnoName(n));
    pieces.push(Buffer.from(arena.u8.slice(BUFFER_AT, BUFFER_AT + n)));
  }
  file.close();
  return Buffer.concat(pieces);
}

function names({ vfs }: Mounted, path: string): string[] {
  const directory = opened(vfs.open('/', path, O.RDONLY | O.DIRECTORY, 0));
  const found = namesIn(arena, directory);
  directory.close();
  return found;
}

function write({ vfs }: Mounted, path: string, text: string): { readonly result: number; readonly why: string } {
  const file = opened(vfs.open('/', path, O.WRONLY | O.TRUNC, 0));
  const bytes = Buffer.from(text);
  arena.u8.set(bytes, BUFFER_AT);
  const result = file.write(BUFFER_AT, bytes.length);
  const why = file.refusal()?.message ?? '';
  file.close();
  return { result, why };
}

test('/audit: records, proofs and the head as files, each made when it is opened', t => {
  const log = logOf(3);
  const m = mounted(log);
  t.deepEqual(names(m, '/audit').toSorted(), [
    'checkpoint',
    'content',
    'ctl',
    'head',
    'log',
    'proof',
    'pubkey',
    'record',
    'salt',
    'tile',
  ]);
  t.deepEqual(contents(m, '/audit/record/1'), Buffer.from(log.records[1]!));
  t.is(contents(m, '/audit/proof/2').toString(), log.proof(2)!);
  t.is(contents(m, '/audit/head').toString(), log.head());
  t.is(contents(m, '/audit/checkpoint').toString(), log.head());
  t.is(contents(m, '/audit/pubkey').toString(), log.publicKey());
  t.deepEqual(names(m, '/audit/record'), ['0', '1', '2']);
  t.deepEqual(names(m, '/audit/content'), ['2']);
  t.regex(contents(m, '/audit/content/2').toString(), /^age-encryption/);
  for (const path of [
    'record/3',
    'record/01',
    'record/-1',
    'record/x',
    'content/1',
    'proof/9999999999',
    'tile/9',
    'tile/1',
  ])
    t.is(m.vfs.open('/', `/audit/${path}`, O.RDONLY, 0), -E.NOENT, path);
  const open = opened(m.vfs.open('/', '/audit/head', O.RDONLY, 0));
  const before = log.head();
  log.append({ 'arena8.op': 'unload' });
  t.is(open.read(BUFFER_AT, 4096), Buffer.byteLength(before), 'a reader sees one moment');
  open.close();
  t.is(contents(m, '/audit/head').toString(), log.head());
});

test('/audit/log: all records as lines, whatever the pieces that it is read in', t => {
  const log = logOf(40);
  const m = mounted(log);
  const whole = Buffer.concat(log.records.flatMap(record => [record, Buffer.from('\n')]));
  for (const step of [1, 7, 64, 100_000]) t.deepEqual(contents(m, '/audit/log', step), whole);
  const file = opened(m.vfs.open('/', '/audit/log', O.RDONLY, 0));
  log.append({ 'arena8.op': 'late' });
  for (const at of [500, 100, whole.length - 5, 0, whole.length]) {
    const n = file.readAt(at, BUFFER_AT, 50);
    t.deepEqual(Buffer.from(arena.u8.slice(BUFFER_AT, BUFFER_AT + n)), whole.subarray(at, at + 50), `from ${at} on`);
  }
  file.close();
});

test('/audit/ctl: commands a line each, by whom, until one is refused with its reason; reading tells what is in force', t => {
  const log = logOf(1);
  const m = mounted(log);
  m.uid = 1001;
  t.deepEqual(write(m, '/audit/ctl', 'content off\n\n  witness a+b+c \n'), { result: 30, why: '' });
  t.deepEqual(log.commands, [
    { command: 'content off', uid: 1001 },
    { command: 'witness a+b+c', uid: 1001 },
  ]);
  t.deepEqual(write(m, '/audit/ctl', 'content off\nbad idea\ncontent on'), {
    result: -E.INVAL,
    why: "no command 'bad idea'",
  });
  t.is(log.commands.length, 3, 'what comes behind is not done');
  t.is(contents(m, '/audit/ctl').toString(), 'content off\n');
});

test('/audit: for root and the auditors only, and nothing can be changed in it', t => {
  const log = logOf(300);
  const m = mounted(log);
  const { vfs } = m;
  const cwd = vfs.resolve('/', '/') as Place;
  const as = (uid: number, gid: number): View => ({ cwd, credentials: credentialsOf(uid, gid), umask: 0o022 });
  const auditor = as(1001, AUDITOR_GID);
  const user = as(1000, 1000);
  for (const path of ['', '/record', '/record/0', '/head', '/ctl', '/tile/0/000'])
    t.is(vfs.open(user, `/audit${path}`, O.RDONLY, 0), -E.ACCES, path);
  for (const path of ['/record', '/record/0', '/salt/0', '/head', '/ctl', '/tile/0/000'])
    opened(vfs.open(auditor, `/audit${path}`, O.RDONLY, 0)).close();
  opened(vfs.open(auditor, '/audit/ctl', O.WRONLY | O.TRUNC, 0)).close();
  for (const path of ['record/0', 'log', 'head', 'tile/0/000']) {
    t.is(vfs.open(auditor, `/audit/${path}`, O.RDWR, 0), -E.ACCES, path);
    t.is(vfs.open('/', `/audit/${path}`, O.RDWR, 0), -E.PERM, path);
    t.is(vfs.truncate('/', `/audit/${path}`, 0), -E.ROFS);
    t.is(vfs.unlink('/', `/audit/${path}`), -E.ROFS);
    t.is(vfs.chmod('/', `/audit/${path}`, 0o777), -E.PERM);
  }
  t.is(vfs.open('/', '/audit/new', O.WRONLY | O.CREAT, 0o644), -E.ROFS);
  t.is(vfs.mkdir('/', '/audit/new', 0o755), -E.ROFS);
  t.is(vfs.rename('/', '/audit/head', '/audit/tail'), -E.ROFS);
  const group = readFileSync('images/root/etc/group', 'utf8');
  t.regex(group, new RegExp(`^auditor:x:${AUDITOR_GID}:`, 'm'));
});

test('/audit/salt: to read one is to disclose it, so they are not listed, and each reading is told', t => {
  const log = logOf(3);
  const m = mounted(log);
  m.uid = 1001;
  t.deepEqual(names(m, '/audit/salt'), []);
  t.is((m.vfs.stat('/', '/audit/salt/1') as { kind: number }).kind, KIND.file);
  t.deepEqual(log.disclosed, [], 'a stat tells nothing');
  t.regex(contents(m, '/audit/salt/1').toString(), /^[0-9a-f]{64}\n$/);
  t.deepEqual(log.disclosed, [{ number: 1, uid: 1001 }]);
});

/** All paths below a directory. */
function walk(m: Mounted, path: string): string[] {
  return names(m, path).flatMap(name => {
    const child = `${path}/${name}`;
    const kind = (m.vfs.stat('/', child) as { kind: number }).kind;
    return kind === KIND.dir ? walk(m, child) : [child.slice('/audit/'.length)];
  });
}

test('/audit/tile: the tiles that C2SP tlog-tiles asks for, and their bytes', t => {
  const log = logOf(600);
  const m = mounted(log);
  const found = walk(m, '/audit/tile');
  t.deepEqual(found.toSorted(), [
    'tile/0/000',
    'tile/0/001',
    'tile/0/002.p/88',
    'tile/1/000.p/2',
    'tile/entries/000',
    'tile/entries/001',
    'tile/entries/002.p/88',
  ]);
  t.deepEqual(contents(m, '/audit/tile/0/001'), Buffer.from(log.tile(0, 1, 256)!));
  t.deepEqual(contents(m, '/audit/tile/1/000.p/2'), Buffer.from(log.tile(1, 0, 2)!));
  t.deepEqual(contents(m, '/audit/tile/entries/002.p/88'), Buffer.from(log.tile(-1, 2, 88)!));
  t.deepEqual(contents(m, '/audit/tile/0/000.p/7'), Buffer.from(log.tile(0, 0, 7)!), 'an older checkpoint needs it');
  for (const path of [
    '0/002',
    '0/002.p/89',
    '0/002.p/0',
    '0/003.p/1',
    '0/2',
    '1/000',
    'entries/x000',
    '2',
    '-1',
    '00/000',
  ])
    t.is(m.vfs.open('/', `/audit/tile/${path}`, O.RDONLY, 0), -E.NOENT, path);
  t.deepEqual(walk(mounted(logOf(0)), '/audit/tile'), [], 'an empty log has none');
  t.deepEqual(walk(mounted(logOf(256)), '/audit/tile').toSorted(), [
    'tile/0/000',
    'tile/1/000.p/1',
    'tile/entries/000',
  ]);
});

/** A log of so many records that are not there: what may be listed and looked up, and no more is asked for. */
class Vast extends FakeLog {
  asked = 0;

  constructor(private readonly count: number) {
    super();
  }
  override size(): number {
    return this.count;
  }
  override tile(level: number, index: number, width: number): Uint8Array {
    this.asked++;
    return Buffer.from(`${level} ${index} ${width}`);
  }
  override record(number: number): Uint8Array {
    this.asked++;
    return Buffer.from(`${number}`);
  }
}

test('a long log costs nothing to mount: names are made as they are listed, tiles lie where their numbers say', t => {
  const log = new Vast(100_000);
  const m = mounted(log);
  const all = names(m, '/audit/record');
  t.is(all.length, 100_000);
  t.is(all[99_999], '99999');
  const listing = (m.vfs.resolve('/', '/audit/record') as Place).inode.list();
  t.false(Array.isArray(listing), 'no array of them');
  t.is(log.asked, 0);
  t.is(contents(m, '/audit/record/77777').toString(), '77777');

  // 1,234,068 full tiles and a partial one: 1234067 is x001/x234/067.
  const vast = mounted(new Vast(1_234_068 * 256 + 5));
  t.is(contents(vast, '/audit/tile/0/x001/x234/067').toString(), '0 1234067 256');
  t.is(contents(vast, '/audit/tile/0/x001/x234/068.p/5').toString(), '0 1234068 5');
  t.is(contents(vast, '/audit/tile/0/x999/999').toString(), '0 999999 256');
  t.is(contents(vast, '/audit/tile/0/x001/x000/000').toString(), '0 1000000 256');
  for (const path of ['x000/000', 'x001/x235/000', 'x002/x000/000', 'x001/x234/069', '1234067', 'x001/234.p/1/x'])
    t.true((vast.vfs.open('/', `/audit/tile/0/${path}`, O.RDONLY, 0) as number) < 0, path);
  t.is(names(vast, '/audit/tile/0').length, 1999, '000 to 999, x001 to x999');
  t.deepEqual(names(vast, '/audit/tile/0/x001/x234').slice(-2), ['067', '068.p']);
  t.deepEqual(
    names(vast, '/audit/tile/0/x001')
      .filter(n => n.startsWith('x'))
      .slice(-1),
    ['x234'],
  );
  t.deepEqual(
    names(vast, '/audit/tile/0/x002').filter(n => n.startsWith('x')),
    [],
  );
  t.deepEqual(names(vast, '/audit/tile'), ['0', '1', '2', '3', 'entries']);
});
