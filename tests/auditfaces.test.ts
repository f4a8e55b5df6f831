// What people see of the audit log: /audit as files, the verbs of llmctl audit, and the reserved word of the host. The log itself is one that
// the tests have written (tests/support/fake-log.ts); the kernel's own is in audit.test.ts.

import test from 'ava';
import type { ExecutionContext } from 'ava';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { auditWord } from '../boot/audit-word.ts';
import { directory } from '../boot/host-directory.ts';
import { boot, type Machine } from '../boot/index.ts';
import { BLOCKED, E, errnoName, isRefusal, KIND, O } from '../kernel/abi/index.ts';
import { listRecords } from '../shell/lib/audit-list.ts';
import type { Face } from '../shell/lib/audit-face.ts';
import { auditVerbs } from '../shell/lib/audit.ts';
import { openLog, type LogFiles } from '../shell/lib/audit-reader.ts';
import { ATTRIBUTES, fromBase64, verifyConsistency } from '../trust/index.ts';
import { AUDITOR_GID, AuditFs } from '../vfs/fs-audit.ts';
import type { OpenFile } from '../vfs/file.ts';
import { credentialsOf } from '../vfs/permission.ts';
import { Vfs, type Place, type View } from '../vfs/vfs.ts';
import { makeArena } from './support/arena.ts';
import { cosign, FakeLog, keyOf, verifierKey, type Fields } from './support/fake-log.ts';
import { BUFFER_AT, namesIn } from './support/file-systems.ts';
import { Seat } from './support/seat.ts';

const arena = makeArena();

/** A log of `count` plain records. */
function logOf(count: number): FakeLog {
  const log = new FakeLog();
  for (let i = 0; i < count; i++)
    log.append({
      'arena8.time_ns': `${i}`,
      ...(i === 0 ? { 'arena8.op': 'boot' } : { 'arena8.op': 'config', 'arena8.name': 'pace' }),
    });
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

/** A log whose newest records are on their way to storage. */
class Slow extends FakeLog {
  stored = 2;
  due = 3;

  override size(): number {
    return this.stored;
  }
  override expected(): number {
    return this.due;
  }
}

test('/audit/head, checkpoint, log: who reads them waits for what had been recorded when they were opened', t => {
  for (const name of ['head', 'checkpoint', 'log']) {
    const log = new Slow();
    for (let i = 0; i < 5; i++) log.append({ 'arena8.op': 'config' });
    const { vfs } = mounted(log);
    const read = (file: OpenFile): string => {
      const n = file.read(BUFFER_AT, 4096);
      return n === BLOCKED
        ? 'waits'
        : n < 0
          ? errnoName(n)
          : Buffer.from(arena.u8.slice(BUFFER_AT, BUFFER_AT + n)).toString();
    };
    const [first, second] = [0, 0].map(() => opened(vfs.open('/', `/audit/${name}`, O.RDONLY, 0)));
    t.deepEqual([read(first!), read(second!)], ['waits', 'waits'], name);
    log.due = 5; // more has happened since
    log.stored = 3;
    const three =
      name === 'log'
        ? log.records
            .slice(0, 3)
            .map(r => `${Buffer.from(r).toString()}\n`)
            .join('')
        : log.head();
    t.is(read(first!), three, 'no longer than for that');
    log.due = 3; // storage has failed: nothing more is expected
    const third = opened(vfs.open('/', `/audit/${name}`, O.RDONLY, 0));
    t.is(read(third), three);
    log.due = 4;
    const fourth = opened(vfs.open('/', `/audit/${name}`, O.RDONLY, 0));
    t.is(read(fourth), 'waits');
    log.due = 3;
    t.is(read(fourth), three, 'nor for what will not come');
  }
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
  const group = fs.readFileSync('images/root/etc/group', 'utf8');
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

// ── llmctl audit ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const image = fs.readFileSync('build/boot.cpio');

/** A day at a machine: two power-ons, requests that come to their end and others, a load that is refused. */
function dayOf(log = new FakeLog()): FakeLog {
  const at = (boot: number, seconds: number, op: string, user: string, more: Fields = {}): void =>
    void log.append({
      'arena8.op': op,
      'arena8.boot': boot,
      'arena8.time_ns': `${Math.round(seconds * 1e9)}`,
      'arena8.user': user,
      'arena8.uid': user === 'root' ? 0 : 1000,
      'arena8.code': 0,
      ...more,
    });
  const request = (session: number, more: Fields = {}): Fields => ({
    'gen_ai.conversation.id': `${session}`,
    'gen_ai.usage.input_tokens': 4,
    ...more,
  });
  const ended = (session: number, submitted: number, tokens: number, finish: string, more: Fields = {}): Fields =>
    request(session, {
      'arena8.submitted': submitted,
      'gen_ai.request.model': 'fable-f16',
      'arena8.model.digest': 'ab'.repeat(32),
      'gen_ai.usage.output_tokens': tokens,
      'gen_ai.response.finish_reasons': [finish],
      'arena8.cycles': '2500000',
      'arena8.late': false,
      ...more,
    });
  const refusal = { 'arena8.code': 3003, 'error.type': 'EDQUOT', 'arena8.message': 'user asked 512 tokens, 37 left' };
  at(0, 0.1, 'boot', 'root', { 'arena8.version': '0.7.0', 'arena8.target': 'cortex-a72' });
  at(0, 0.2, 'load', 'root', { 'gen_ai.request.model': 'fable-f16', 'arena8.path': '/models/fable-f16.gguf' });
  at(0, 0.5, 'submit', 'user', request(1));
  at(0, 1.25, 'infer', 'user', ended(1, 2, 12, 'length'));
  at(0, 2, 'reject', 'user', { ...refusal, 'gen_ai.usage.input_tokens': 4 });
  at(0, 2.25, 'submit', 'root', request(2));
  at(0, 2.5, 'cancel', 'root', ended(2, 5, 3, 'cancel'));
  at(1, 0.1, 'boot', 'root', { 'arena8.version': '0.7.0', 'arena8.target': 'sifive-u74' });
  at(1, 0.5, 'submit', 'user', request(1));
  at(1, 0.75, 'infer', 'user', ended(1, 8, 12, 'eos', { 'arena8.late': true, 'arena8.cycles': '2600000' }));
  at(1, 0.76, 'submit', 'user', request(2));
  at(1, 0.8, 'fault', 'user', ended(2, 10, 0, 'fault', { 'arena8.message': 'not a number\u001b[2J in the logits' }));
  at(1, 0.9, 'config', 'root', { 'arena8.name': 'target', 'arena8.value': 'sifive-u74' });
  return log;
}

/** A machine whose /audit is this log's. */
function machineWith(log: FakeLog, mounts: readonly { guest: string; directory: string }[] = []): Machine {
  const machine = boot({
    image,
    audit: false,
    mounts: mounts.map(m => ({ guest: m.guest, directory: directory(m.directory, false) })),
  });
  const { vfs } = machine.kernel;
  vfs.mkdir('/', '/audit', 0o755);
  vfs.mount('/audit', new AuditFs(log, () => 0), 'audit', false);
  return machine;
}

const newest = (text: string): string => text.trimEnd().split('\n').at(-1)!;

test('llmctl audit list: a line a record, its end with a sign; filters; --json is the records themselves', t => {
  const log = dayOf();
  const machine = machineWith(log);
  const run = (words: string): string => {
    const { stdout, stderr, status } = machine.exec(`llmctl audit ${words}`);
    t.is(status, 0, `${words}: ${stderr}`);
    return stdout;
  };
  t.is(
    run(''),
    `record          time user     what       end       about
     0    0:0.100000 root     boot       + ok      arena8 0.7.0 on cortex-a72
     1    0:0.200000 root     load       + ok      fable-f16, /models/fable-f16.gguf
     2    0:0.500000 user     submit     + ok      #1, 4 tokens
     3    0:1.250000 user     infer      + ok      #1 fable-f16, 4 > 12 tokens, length
     4    0:2.000000 user     reject     - refused 4 tokens, EDQUOT: user asked 512 tokens, 37 left
     5    0:2.250000 root     submit     + ok      #2, 4 tokens
     6    0:2.500000 root     cancel     ~ cut     #2 fable-f16, 4 > 3 tokens, cancel
     7    1:0.100000 root     boot       + ok      arena8 0.7.0 on sifive-u74
     8    1:0.500000 user     submit     + ok      #1, 4 tokens
     9    1:0.750000 user     infer      ! late    #1 fable-f16, 4 > 12 tokens, eos
    10    1:0.760000 user     submit     + ok      #2, 4 tokens
    11    1:0.800000 user     fault      x fault   #2 fable-f16, 4 > 0 tokens, fault, not a number?[2J in the logits
    12    1:0.900000 root     config     + ok      target=sifive-u74
`,
  );
  t.is(run('list'), run(''));
  t.is(machine.exec('llmjson').stdout, run('list --json'));
  const numbers = (words: string): string =>
    run(`list --json ${words}`)
      .split('\n')
      .filter(Boolean)
      .map(line => JSON.parse(line)['arena8.record'])
      .join(' ');
  t.is(run('list --json'), log.records.map(record => `${Buffer.from(record).toString()}\n`).join(''));
  for (const [words, wanted] of [
    ['--user user', '2 3 4 8 9 10 11'],
    ['--user 1000', '2 3 4 8 9 10 11'],
    ['--user nobody', ''],
    ['--session 2', '5 6 10 11'],
    ['--model fable-f16', '1 3 6 9 11'],
    ['--model abababab', '3 6 9 11'],
    ['--model abab', ''],
    ['--model /models/fable-f16.gguf', ''],
    ['--status refused,cut', '4 6'],
    ['--status late', '9'],
    ['--status fault', '11'],
    ['--op infer,boot', '0 3 7 9'],
    ['--since 0.75', '9 10 11 12'],
    ['--since 0:2', '4 5 6 7 8 9 10 11 12'],
    ['--until 0:1.25', '0 1 2 3'],
    ['--until 0.1', '0 1 2 3 4 5 6 7'],
    ['--since 0:0.2 --until 0:2 --user user', '2 3 4'],
    ['--last 2', '11 12'],
    ['--last 0', ''],
    ['--last 99', '0 1 2 3 4 5 6 7 8 9 10 11 12'],
    ['--status ok --last 3', '8 10 12'],
  ] as const)
    t.is(numbers(words), wanted, words);
  t.is(
    machineWith(new FakeLog()).exec('llmctl audit').stdout,
    'record          time user     what       end       about\n',
  );
});

test('llmctl audit: what is wrong is said in one line, with its status', t => {
  const machine = machineWith(dayOf());
  for (const [words, status, message] of [
    ['list --last x', 2, "--last 'x' is not a number of records"],
    ['list --status good', 2, "--status 'good' is none of ok, late, refused, cut, fault"],
    ['list --since noon', 2, "--since 'noon' is not a time: [BOOT:]SECONDS of the machine's clock, as 12.5 or 2:12.5"],
    ['show 13', 1, '/audit: no record 13: the log has 13'],
    ['show -- -1', 2, "'-1' is not the number of a record, nor last"],
    ['show x', 2, "'x' is not the number of a record, nor last"],
    ['diff 1 x', 2, "'x' is not the number of a record, nor last"],
    ['prove 99', 1, '/audit: no record 99: the log has 13'],
    ['verify /tmp', 1, '/tmp: no audit log: neither `checkpoint` and `tile/`, nor `checkpoints` and `entries/`'],
    [
      'list --log /nowhere',
      1,
      '/nowhere: no audit log: neither `checkpoint` and `tile/`, nor `checkpoints` and `entries/`',
    ],
    ['witness trust badkey', 1, "no command 'witness badkey'"],
    ['witness request 14', 1, "'14' is no size that the log has had: it has 13 records"],
  ] as const) {
    const { stderr, status: was } = machine.exec(`llmctl audit ${words}`);
    t.is(was, status, words);
    t.is(stderr, `llmctl: ${message}\n`, words);
  }
  for (const [words, message] of [
    ['nonesuch', 'audit: unknown verb'],
    ['show', 'audit show: missing operand'],
    ['show 1 2', "audit show: extra operand '2'"],
    ['show 1 --last 2', 'audit show takes no --last'],
    ['content on', 'content on: whose KEY?'],
    ['content maybe', 'content:'],
    ['witness dance', 'witness:'],
  ] as const) {
    const { stderr, status } = machine.exec(`llmctl audit ${words}`);
    t.is(status, 2, words);
    t.true(stderr.startsWith(`llmctl: ${message}`), stderr);
  }
  const off = boot({ image, audit: false }).exec('llmctl audit');
  t.deepEqual([off.status, off.stderr], [1, 'llmctl: /audit: this machine keeps no audit log (--audit off)\n']);
  const stranger = machine.exec("su user -c 'llmctl audit'");
  t.is(stranger.status, 1);
  t.regex(
    stranger.stderr,
    /^llmctl: \/audit: Permission denied: the log is for root and the group auditor; .*\/proc\/audit\n$/,
  );
  t.is(machine.exec("su auditor -c 'llmctl audit list --last 1 --json'").status, 0);
});

test('llmctl audit show: all attributes in the order of the table, with units and what they mean', t => {
  const log = dayOf();
  const machine = machineWith(log);
  const { stdout } = machine.exec('llmctl audit show 9');
  const lines = stdout.split('\n');
  t.is(lines[0], 'record 9 of example.com/log: ! late');
  const shown = lines
    .slice(1)
    .flatMap(
      line =>
        /^([a-z_]\S*)  +(.*)$/
          .exec(line)
          ?.slice(1, 3)
          .map(s => [s]) ?? [],
    )
    .flat();
  const names = shown.filter((_, i) => i % 2 === 0);
  const wanted = Object.keys(JSON.parse(Buffer.from(log.records[9]!).toString()));
  t.deepEqual(
    names,
    Object.keys(ATTRIBUTES).filter(name => wanted.includes(name)),
  );
  t.true(lines.includes(`    ${ATTRIBUTES['arena8.cycles'].help}`));
  t.regex(stdout, /^arena8\.cycles +2,600,000 cycles$/m);
  t.regex(stdout, /^arena8\.time_ns +750,000,000 ns \(0\.75 s\)$/m);
  t.regex(stdout, /^gen_ai\.usage\.output_tokens +12 tokens$/m);
  t.is(machine.exec('llmctl audit show 9 --json').stdout, `${Buffer.from(log.records[9]!).toString()}\n`);
  t.is(machine.exec('llmctl audit show last --json').stdout, `${Buffer.from(log.records[12]!).toString()}\n`);
  t.false(machine.exec('llmctl audit show 11').stdout.includes('\x1b'), 'a record moves no cursor');
});

test('llmctl audit diff: what two records differ in, and apart from it what any two do', t => {
  const machine = machineWith(dayOf());
  const { stdout, status } = machine.exec('llmctl audit diff 3 9');
  t.is(status, 1);
  t.is(
    stdout,
    `gen_ai.response.finish_reasons
  3  length
  9  eos
arena8.cycles
  3  2,500,000 cycles
  9  2,600,000 cycles
arena8.late
  3  false
  9  true
of the occasion: arena8.record arena8.boot arena8.time_ns arena8.submitted
`,
  );
  t.is(machine.exec('llmctl audit diff 3 3').status, 0);
  t.deepEqual(JSON.parse(machine.exec('llmctl audit diff 0 7 --json').stdout), {
    a: 0,
    b: 7,
    differs: [{ attribute: 'arena8.target', a: 'cortex-a72', b: 'sifive-u74' }],
    occasion: [
      { attribute: 'arena8.record', a: 0, b: 7 },
      { attribute: 'arena8.boot', a: 0, b: 1 },
    ],
  });
});

test('llmctl audit prove, head: the proof and the checkpoint alone on standard output', t => {
  const log = dayOf();
  const machine = machineWith(log);
  const { stdout, stderr, status } = machine.exec('llmctl audit prove 3');
  t.is(status, 0, stderr);
  t.is(stdout, log.proof(3)!);
  t.regex(stderr, /number\s+3\s+of\s+the\s+13\s+records/);
  t.regex(stderr, /tlog\.CheckRecord/);
  t.is(machine.exec('llmctl audit head').stdout, log.head());
  const facts = JSON.parse(machine.exec('llmctl audit prove 3 --json').stdout);
  t.is(facts.leaf, log.leaves[3]!.toString('hex'));
  t.is(facts.proof, log.proof(3));
  machine.exec('llmctl audit export /tmp/copy');
  t.is(machine.exec('llmctl audit prove 3 --log /tmp/copy').stdout, log.proof(3)!, 'made from the tiles');
  t.is(machine.exec(`llmctl audit prove 3 --key ${verifierKey('example.com/log', keyOf('another'))}`).status, 1);
  const other = new FakeLog('example.com/log', keyOf('another'));
  for (const record of log.records) other.append(JSON.parse(Buffer.from(record).toString()));
  const forged = machineWith(other);
  other.publicKey = () => log.publicKey();
  const refused = forged.exec('llmctl audit prove 3');
  t.is(refused.status, 1, 'a proof that its own key does not hold up is not handed out');
  t.is(refused.stdout, '');
});

// ── Exports ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function temporary(t: ExecutionContext): string {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), 'arena8-audit-'));
  t.teardown(() => fs.rmSync(made, { recursive: true, force: true }));
  return made;
}

function filesIn(folder: string): Record<string, string> {
  const entries = fs.readdirSync(folder, { recursive: true, withFileTypes: true }).filter(e => e.isFile());
  return Object.fromEntries(
    entries
      .map(e => path.join(e.parentPath, e.name))
      .toSorted()
      .map(file => [path.relative(folder, file), fs.readFileSync(file).toString('latin1')]),
  );
}
const filesOf = (log: FakeLog): Record<string, string> =>
  Object.fromEntries([...log.files()].toSorted().map(([name, bytes]) => [name, Buffer.from(bytes).toString('latin1')]));

test('llmctl audit export: the files of a static log; it grows, and never overwrites what is longer or another', t => {
  const folder = temporary(t);
  const out = path.join(folder, 'out');
  const log = dayOf();
  for (let i = 0; i < 250; i++) log.append({ 'arena8.op': 'config', 'arena8.boot': 1, 'arena8.time_ns': `${2e9 + i}` });
  const machine = machineWith(log, [{ guest: '/mnt/h', directory: folder }]);
  const run = (words: string, on = machine): [number, string] => {
    const { status, stdout, stderr } = on.exec(`llmctl audit ${words}`);
    return [status, stdout + stderr];
  };
  t.deepEqual(run('export /mnt/h/out'), [
    0,
    '/mnt/h/out: 263 records of example.com/log, 263 of them new, 7 files written\n',
  ]);
  t.deepEqual(filesIn(out), filesOf(log), 'and nothing else');
  t.deepEqual(run('export /mnt/h/out'), [
    0,
    '/mnt/h/out: 263 records of example.com/log, 0 of them new, 0 files written\n',
  ]);
  const before = log.checkpoint();
  fs.writeFileSync(path.join(folder, 'seen'), before);
  for (let i = 0; i < 300; i++) log.append({ 'arena8.op': 'config', 'arena8.boot': 1, 'arena8.time_ns': `${3e9 + i}` });
  t.is(run('export /mnt/h/out')[0], 0);
  t.deepEqual(filesIn(out), filesOf(log), 'tiles that were not full then are gone');
  t.is(run(`verify /mnt/h/out --key ${log.publicKey().trim()} --seen /mnt/h/seen`)[0], 0);
  fs.mkdirSync(path.join(out, 'tile/0/000.p'));
  for (const left of ['tile/0/000.p/9', 'tile/0/001.part', 'checkpoint.part'])
    fs.writeFileSync(path.join(out, left), 'x');
  t.is(run('export /mnt/h/out')[0], 0);
  t.deepEqual(filesIn(out), filesOf(log), 'nor what an export left that was cut off');
  t.deepEqual(JSON.parse(run('export /mnt/h/out --json')[1]), {
    directory: '/mnt/h/out',
    origin: 'example.com/log',
    size: 563,
    was: 563,
    written: 0,
  });

  const kept = filesIn(out);
  const refusals: [FakeLog, string][] = [
    [dayOf(), '/mnt/h/out: holds 563 records, this log only 13: nothing is overwritten'],
    [dayOf(new FakeLog('example.com/other')), '/mnt/h/out: a log of example.com/log, this is example.com/other'],
  ];
  const fork = dayOf();
  for (const record of log.records.slice(13))
    fork.append({ ...JSON.parse(Buffer.from(record).toString()), ...(fork.size() === 300 && { 'arena8.op': 'key' }) });
  fork.append({ 'arena8.op': 'config' });
  refusals.push([fork, '/mnt/h/out: another log: record 300 differs']);
  for (const [other, message] of refusals) {
    const at = machineWith(other, [{ guest: '/mnt/h', directory: folder }]);
    t.deepEqual(run('export /mnt/h/out', at), [1, `llmctl: ${message}\n`]);
    t.deepEqual(filesIn(out), kept);
  }
  const tile = path.join(out, 'tile/0/000');
  const bytes = fs.readFileSync(tile);
  bytes[77]! ^= 1;
  fs.writeFileSync(tile, bytes);
  t.deepEqual(run('export /mnt/h/out'), [
    1,
    'llmctl: /mnt/h/out/tile/0/000: differs from the log: nothing is overwritten\n',
  ]);
  t.is(run('verify /mnt/h/out')[0], 1);
  t.regex(newest(run('verify /mnt/h/out')[1]), /^llmctl: \/mnt\/h\/out: tile\/0\/000: hash 2 \(byte 64\)/);
});

test('what llmctl audit export writes, and a copy of /audit, are what the log says they are, tile by tile', t => {
  const folder = temporary(t);
  const log = dayOf();
  const machine = machineWith(log, [{ guest: '/mnt/h', directory: folder }]);
  t.is(machine.exec('mkdir /mnt/h/copy; cp -r /audit/checkpoint /audit/tile /mnt/h/copy').status, 0);
  const { pubkey, ...static_ } = filesOf(log);
  t.truthy(pubkey);
  t.deepEqual(filesIn(path.join(folder, 'copy')), static_);
  t.is(machine.exec('llmctl audit verify /mnt/h/copy --key /audit/pubkey').status, 0);
  const keyless = machine.exec('llmctl audit verify /mnt/h/copy');
  t.is(keyless.status, 1);
  t.regex(keyless.stderr, /whose log is it\? --key VKEY/);
});

// ── Witnesses, texts, salts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

test('llmctl audit witness: whom the log trusts, what a witness is asked, and its answer', t => {
  const log = dayOf();
  const machine = machineWith(log);
  const ok = (words: string): string => {
    const { stdout, stderr, status } = machine.exec(`llmctl audit ${words}`);
    t.is(status, 0, stderr);
    return stdout;
  };
  const key = keyOf('witness');
  const vkey = verifierKey('witness.example/w', key, 4);
  t.is(ok('witness'), 'no witness is trusted: llmctl audit witness trust KEY\n');
  ok(`witness trust ${vkey}`);
  log.inForce = `content off\nwitness ${vkey}\n`;
  t.is(ok('witness list'), 'witness            has seen the head of 13\nwitness.example/w  not yet\n');
  const line = cosign(log.body(), 'witness.example/w', key, 1_795_000_000);
  ok(`witness cosign '${line.trim()}'`);
  t.deepEqual(
    log.commands.map(c => c.command),
    [`witness ${vkey}`, `cosign ${line.trim()}`],
  );
  log.cosignatures = line;
  t.is(ok('witness list'), 'witness            has seen the head of 13\nwitness.example/w  2026-11-18 11:06 UTC\n');
  t.deepEqual(JSON.parse(ok('witness --json')), {
    size: 13,
    witnesses: [{ name: 'witness.example/w', time: 1_795_000_000 }],
  });

  t.is(ok('witness request'), `old 0\n\n${log.head()}`);
  t.is(ok('witness request 13'), `old 13\n\n${log.head()}`);
  const [asked = ''] = ok('witness request 6').split('\n\n');
  const [old, ...hashes] = asked.split('\n');
  t.is(old, 'old 6');
  const rootOf = (size: number): Uint8Array => fromBase64(log.body(size).split('\n')[2]!)!;
  t.is(
    verifyConsistency(
      6,
      rootOf(6),
      13,
      rootOf(13),
      hashes.map(hash => fromBase64(hash)!),
    ),
    null,
  );
});

test('llmctl audit content, disclose: what is asked of the log, and what it says', t => {
  const log = dayOf();
  const machine = machineWith(log);
  const ok = (words: string): string => {
    const { stdout, stderr, status } = machine.exec(`llmctl audit ${words}`);
    t.is(status, 0, stderr);
    return stdout;
  };
  t.is(ok('content'), 'texts of requests are not stored\n');
  ok('content on age1qqq');
  ok('content off');
  t.deepEqual(
    log.commands.map(c => c.command),
    ['content on age1qqq', 'content off'],
  );
  log.inForce = 'content on age1qqq\n';
  t.is(ok('content status'), 'texts of requests are stored, encrypted to age1qqq\n');
  t.deepEqual(JSON.parse(ok('content --json')), { content: true, recipients: ['age1qqq'] });
  t.is(ok('disclose 3'), log.salt(3, 0)!);
  t.deepEqual(JSON.parse(ok('disclose 3 --json')), { record: 3, salt: log.salt(3, 0)!.trim() });
});

test('man audit names every verb, at the host too; json(7) has the keys of every --json form, in their order', t => {
  const page = fs.readFileSync('images/root/usr/share/man/audit.md', 'utf8');
  for (const verb of Object.keys(auditVerbs)) t.regex(page, new RegExp(`^ {4}${verb}\\b`, 'm'), verb);
  for (const verb of word('nonesuch').stderr.split(': ').at(-1)!.split('\n')[0]!.split(', '))
    t.regex(page, new RegExp(`(?:arena8 audit|,)\\s+${verb} (?:DIR|FILE)`), verb);
  const machine = machineWith(dayOf());
  machine.exec('llmctl audit export /tmp/log');
  const json = fs.readFileSync('images/root/usr/share/man/json.md', 'utf8');
  for (const [form, command] of [
    ['diff A B', 'diff 3 9'],
    ['head', 'head'],
    ['prove N', 'prove 3'],
    ['export DIR', 'export /tmp/log'],
    ['verify DIR', 'verify /tmp/log'],
    ['witness', 'witness'],
    ['content', 'content'],
    ['disclose N', 'disclose 3'],
  ] as const) {
    const [, section = ''] = json.split(`\nllmctl audit ${form} --json\n`);
    const rows = section.slice(0, section.indexOf('\nllmctl ')).matchAll(/^ {2}(\S+(?:, \S+)*) {2,}/gm);
    const keys = [...rows].flatMap(([, names]) => names!.split(', '));
    t.deepEqual(keys, Object.keys(JSON.parse(machine.exec(`llmctl audit ${command} --json`).stdout)), form);
  }
});

// ── Width ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Runs a generator that waits for nothing. */
function drain<T>(run: Generator<void, T, void>): T {
  for (;;) {
    const step = run.next();
    if (step.done === true) return step.value;
  }
}

const inMemory = (files: ReadonlyMap<string, Uint8Array>): LogFiles => ({
  place: 'memory',
  *read(name) {
    return files.get(name) ?? null;
  },
  *paths() {
    return [...files.keys()];
  },
});

test('llmctl audit list is no wider than the terminal, whatever the characters', t => {
  const log = dayOf();
  log.append({
    'arena8.op': 'load',
    'arena8.time_ns': '1',
    'arena8.user': 'アンナアンナアンナ',
    'arena8.path': '/家/模型.gguf'.repeat(9),
  });
  const opened = drain(openLog(inMemory(log.files())));
  if (isRefusal(opened)) return t.fail(opened.message);
  for (const columns of [40, 60, 61, 62, 80, 200]) {
    let text = '';
    const print = function* (s: string): Generator<void, void, void> {
      text += s;
    };
    const face = {
      options: { seen: [], witness: [] },
      out: { print, write: print },
      err: { print },
      columns,
    } as unknown as Face;
    t.is(drain(listRecords(face, opened)), 0);
    const widths = text.split('\n').map(line => [...line].reduce((sum, c) => sum + (c > '\u2e80' ? 2 : 1), 0));
    t.true(Math.max(...widths) <= columns, `${Math.max(...widths)} of ${columns}`);
    t.is(text.trimEnd().split('\n').length, 15);
  }
});

test('at a terminal: tables as wide as it, and how far a long piece of work is', async t => {
  const log = dayOf();
  for (let i = 0; i < 3000; i++)
    log.append({ 'arena8.op': 'config', 'arena8.boot': 1, 'arena8.time_ns': `${2e9 + i}` });
  const folder = put(log, path.join(temporary(t), 'log'));
  const seat = new Seat(66, 12, { mounts: [{ guest: '/mnt/h', directory: directory(folder, true) }] });
  await seat.type('clear; llmctl audit list --status refused --log /mnt/h\r');
  t.deepEqual(seat.screen().slice(0, 2), [
    'record          time user     what       end       about',
    '     4    0:2.000000 user     reject     - refused 4 tokens, EDQU>',
  ]);
  await seat.type('clear; llmctl audit verify /mnt/h --key /mnt/h/pubkey\r');
  t.deepEqual(seat.screen().slice(0, 2), [
    `[${'='.repeat(40)}] 100 %  27 of 27 files`,
    'ok: 3,013 records of example.com/log, 2 power-ons, root ' + log.body().split('\n')[2]!.slice(0, 10),
  ]);
});

// ── arena8 audit ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Said {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The word as the host's command line runs it. */
function word(...argv: string[]): Said {
  const pieces: Record<1 | 2, Uint8Array[]> = { 1: [], 2: [] };
  const write = (fd: 1 | 2, bytes: Uint8Array): void => void pieces[fd].push(bytes.slice());
  const status = auditWord(argv, { write, columns: Infinity, watched: false });
  return { status, stdout: Buffer.concat(pieces[1]).toString(), stderr: Buffer.concat(pieces[2]).toString() };
}

/** Writes an export as files of the host. */
function put(log: FakeLog, folder: string): string {
  fs.rmSync(folder, { recursive: true, force: true });
  for (const [name, bytes] of log.files()) {
    const file = path.join(folder, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, bytes);
  }
  return folder;
}

test('arena8 audit says of an export what llmctl audit says, and verifies it', t => {
  const log = dayOf();
  const machine = machineWith(log);
  const folder = put(log, path.join(temporary(t), 'log'));
  for (const [verb, words] of [
    ['list', ''],
    ['list', '--status refused --json'],
    ['list', '--since 0:1 --last 3'],
    ['show', '3'],
    ['show', '3 --json'],
    ['diff', '3 9'],
    ['head', ''],
    ['head', '--json'],
    ['prove', '3'],
    ['prove', '3 --json'],
  ] as const) {
    const inside = machine.exec(`llmctl audit ${verb} ${words}`);
    const outside = word(verb, folder, ...words.split(' ').filter(Boolean));
    t.deepEqual(
      [outside.status, outside.stdout, outside.stderr],
      [inside.status, inside.stdout, inside.stderr],
      `${verb} ${words}`,
    );
  }
  const verified = word('verify', folder, '--key', log.publicKey().trim());
  t.deepEqual([verified.status, verified.stderr], [0, '']);
  t.regex(verified.stdout, /^ok: 13 records of example\.com\/log, 2 power-ons, root \S+\n$/);
  t.regex(word('verify', folder).stderr, /the key is the one beside the log, example\.com\/log/);
  const stranger = verifierKey('example.com/log', keyOf('stranger'));
  t.deepEqual(word('verify', folder, '--key', stranger).status, 1);
  const bundle = path.join(folder, 'tile/entries/000.p/13');
  const bytes = fs.readFileSync(bundle);
  bytes[bytes.indexOf('"length"') + 1]! ^= 1;
  fs.writeFileSync(bundle, bytes);
  const tampered = word('verify', folder, '--key', log.publicKey().trim());
  t.is(tampered.status, 1);
  t.regex(
    tampered.stderr,
    /^arena8 audit: \S+: tile\/entries\/000\.p\/13: record 3 \(byte \d+\): its leaf hash differs/,
  );
});

test('arena8 audit: wrong command lines, and files that are not there', t => {
  const folder = temporary(t);
  for (const [argv, message] of [
    [
      ['nonesuch'],
      "unknown verb 'nonesuch': list, show, diff, head, prove, export, verify, witness, keygen, vkey, replay",
    ],
    [['list'], 'list: missing operand: DIR [FILTER]...'],
    [['head', folder, 'more'], "head: extra operand 'more'"],
    [['head', folder, '--last', '2'], 'head takes no --last'],
    [['head', folder, '--nonesuch'], "unrecognized option '--nonesuch'"],
    [['witness', folder], 'witness: --key FILE and --state FILE are needed'],
  ] as const)
    t.deepEqual(word(...argv), {
      status: 2,
      stdout: '',
      stderr: `arena8 audit: ${message}\nTry 'arena8 audit --help'\n`,
    });
  t.is(word().status, 2);
  t.is(word('--help').status, 0);
  const nowhere = path.join(folder, 'nowhere');
  t.is(
    word('list', nowhere).stderr,
    `arena8 audit: ${nowhere}: no audit log: neither \`checkpoint\` and \`tile/\`, nor \`checkpoints\` and \`entries/\`\n`,
  );
  t.is(word('vkey', nowhere).stderr, `arena8 audit: ${nowhere}: no such file or directory\n`);
});

test('arena8 audit: whatever lies in a directory, reading it ends', t => {
  const folder = temporary(t);
  const checkpoints = path.join(folder, 'checkpoints');
  fs.mkdirSync(path.join(folder, 'entries'));
  fs.writeFileSync(path.join(folder, 'entries', '0'.repeat(16)), '');
  const root = Buffer.alloc(32).toString('base64');
  fs.writeFileSync(checkpoints, `a\n9007199254740991\n${root}\n\n— a ${root}\n`);
  t.regex(word('head', folder).stderr, /checkpoints: of 9007199254740991 records; 1 files hold 256 at most\n$/);
  fs.writeFileSync(checkpoints, 'a'.repeat(1 << 20)); // a line without an end
  t.regex(word('head', folder).stderr, /not one whole checkpoint\n$/);
  fs.truncateSync(checkpoints, (1 << 26) + 1);
  t.regex(word('head', folder).stderr, /checkpoints: 67108865 bytes, at most 67108864\n$/);
  fs.symlinkSync('/dev/zero', path.join(folder, 'checkpoint'));
  t.regex(word('head', folder).stderr, /checkpoint: not a regular file\n$/);
});

test('arena8 audit keygen, vkey: a key that openssl reads, once, for its owner alone', t => {
  const file = path.join(temporary(t), 'key.pem');
  const made = word('keygen', file, '--name', 'example.com/a');
  t.is(made.status, 0, made.stderr);
  t.is(fs.statSync(file).mode & 0o777, 0o600);
  t.is(word('vkey', file, '--name', 'example.com/a').stdout, made.stdout);
  t.regex(word('vkey', file).stdout, /^arena8\.invalid\/log\+/);
  t.regex(word('vkey', file, '--cosigner').stdout, /^arena8\.invalid\/witness\+[0-9a-f]{8}\+B/);
  t.is(word('keygen', file).stderr, `arena8 audit: ${file}: file already exists\n`);
  t.not(word('keygen', `${file}2`).stdout, word('keygen', `${file}3`).stdout);
  t.is(word('keygen', `${file}4`, '--name', 'two words').status, 1);
  const age = word('keygen', `${file}5`, '--age');
  t.regex(age.stdout, /^age1[a-z0-9]{58}\n$/);
  t.is(fs.statSync(`${file}5`).mode & 0o777, 0o600);
  t.is(fs.readFileSync(`${file}5`, 'utf8').split('\n')[0], `# public key: ${age.stdout.trim()}`);
  const keygen = spawnSync('age-keygen', ['-y', `${file}5`], { encoding: 'utf8' });
  if (keygen.status === 0) t.is(keygen.stdout, age.stdout, 'age reads it');
  const openssl = spawnSync('openssl', ['pkey', '-in', file, '-pubout', '-outform', 'DER']);
  if (openssl.status === 0) {
    const raw = Buffer.from(made.stdout.trim().split('+').slice(2).join('+'), 'base64').subarray(1);
    t.deepEqual(openssl.stdout.subarray(-32), raw);
  }
});

test('arena8 audit witness: signs a head when the log continues what it signed, and nothing else', t => {
  const folder = temporary(t);
  const [key, state] = [path.join(folder, 'w.pem'), path.join(folder, 'state')];
  const vkey = word('keygen', key, '--cosigner', '--name', 'witness.example/w').stdout.trim();
  const log = dayOf();
  const logKey = log.publicKey().trim();
  const at = path.join(folder, 'log');
  const ask = (of: FakeLog, ...more: string[]): Said =>
    word('witness', put(of, at), '--key', key, '--state', state, '--name', 'witness.example/w', ...more);
  const first = ask(log, '--log', logKey);
  t.is(first.status, 0, first.stderr);
  t.regex(first.stdout, /^— witness\.example\/w [A-Za-z0-9+/]+=*\n$/);
  log.cosignatures = first.stdout;
  t.is(word('verify', put(log, at), '--key', logKey, '--witness', vkey).status, 0, 'the line holds');
  log.cosignatures = '';

  log.append({ 'arena8.op': 'config', 'arena8.boot': 1, 'arena8.time_ns': '2000000000' });
  t.is(ask(log).status, 0, 'it has grown');
  t.is(ask(log).status, 0, 'it is as it was');
  const kept = fs.readFileSync(state, 'utf8');
  const refusals: [string, FakeLog, RegExp][] = [
    ['rolled back', dayOf(), /not signed: .*rollback: 13 records, 14 were seen/],
    ['another past', new FakeLog(), /not signed: .*fork/],
    ['another key', new FakeLog('example.com/log', keyOf('thief')), /not signed: .*checkpoint: /],
  ];
  for (const [, other] of refusals.slice(1)) {
    dayOf(other);
    other.append({ 'arena8.op': 'key', 'arena8.boot': 1, 'arena8.time_ns': '2000000000' });
    other.append({ 'arena8.op': 'config', 'arena8.boot': 1, 'arena8.time_ns': '2000000000' });
  }
  for (const [what, other, message] of refusals) {
    const { status, stdout, stderr } = ask(other);
    t.deepEqual([status, stdout], [1, ''], what);
    t.regex(stderr, message);
    t.is(fs.readFileSync(state, 'utf8'), kept, 'nothing is remembered of it');
  }
  t.regex(
    ask(log, '--log', verifierKey('example.com/log', keyOf('thief'))).stderr,
    /another key than the one remembered/,
  );
  fs.writeFileSync(`${state}.lock`, '');
  t.regex(ask(log).stderr, /another witness is at work/);
  fs.rmSync(`${state}.lock`);
  fs.writeFileSync(state, '{"example.com/log":7}');
  t.regex(ask(log).stderr, /not what a witness remembers/);
});

// ── The kernel's own log ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('the whole way: a machine keeps its log in a directory of the host, and what it shows is what lies there', t => {
  const folder = temporary(t);
  const store = temporary(t);
  const on = (): Machine =>
    boot({
      image,
      mounts: [
        { guest: '/var/audit', directory: directory(store, false) },
        { guest: '/mnt/h', directory: directory(folder, false) },
      ],
    });
  const first = on();
  const ok = (machine: Machine, line: string): string => {
    const { status, stdout, stderr } = machine.exec(line);
    t.is(status, 0, `${line}: ${stderr}`);
    return stdout;
  };
  ok(first, 'llminfer --seed 7 --max-tokens 4 "Once upon a time"');
  t.is(first.exec('llmctl load fable-q8_0 --ctx 100000').status, 1);
  t.is(
    ok(first, 'llmctl audit list --status refused').trim().split('\n').length,
    2,
    'it is there as soon as it is asked for',
  );
  ok(first, 'llmctl audit export /mnt/h/log; cp /mnt/h/log/checkpoint /mnt/h/seen');
  const second = on();
  ok(second, 'llminfer --seed 8 --max-tokens 4 "The end"; llmctl audit export /mnt/h/log');
  const [log, seen] = [path.join(folder, 'log'), path.join(folder, 'seen')];
  for (const words of [['list'], ['list', '--json'], ['head']] as const) {
    const inside = ok(second, `llmctl audit ${words.join(' ')}`);
    for (const place of [log, store]) {
      const [verb, ...options] = words;
      const { status, stdout, stderr } = word(verb, place, ...options);
      t.deepEqual([status, stdout, stderr], [0, inside, ''], `${words.join(' ')} of ${place}`);
    }
  }
  t.is(ok(second, 'cat /audit/log'), ok(second, 'llmctl audit list --json'));
  const key = path.join(log, 'pubkey');
  const verified = word('verify', log, '--key', key, '--seen', seen);
  t.regex(verified.stdout, /^ok: \d+ records of arena8\.invalid\/demonstration, 2 power-ons, /, verified.stderr);
  t.deepEqual(word('verify', store, '--key', key, '--seen', seen), verified, 'the store as its export');
  const file = path.join(store, 'entries/0000000000000000');
  const bytes = fs.readFileSync(file);
  bytes[100]! ^= 1;
  fs.writeFileSync(file, bytes);
  t.is(word('verify', store, '--key', key).status, 1);
  t.regex(
    word('export', store, path.join(folder, 'x')).stderr,
    /its records are not those of its checkpoint: nothing is exported/,
  );
  bytes[100]! ^= 1;
  fs.writeFileSync(file, bytes);
  const out = path.join(folder, 'out');
  t.is(word('export', store, out).status, 0);
  const { pubkey, ...exported } = filesIn(log);
  t.truthy(pubkey);
  t.deepEqual(filesIn(out), exported, 'the store as it would have been exported from within');
  t.deepEqual(JSON.parse(word('export', store, out, '--json').stdout).written, 0);
  t.is(word('prove', store, '1', '--key', key).stdout, ok(second, 'llmctl audit prove 1'));

  const witness = path.join(folder, 'w.pem');
  const vkey = word('keygen', witness, '--cosigner').stdout.trim();
  ok(second, `llmctl audit witness trust ${vkey}; llmctl audit export /mnt/h/log`);
  const signed = word('witness', log, '--key', witness, '--state', path.join(folder, 'state'), '--log', key);
  t.is(signed.status, 0, signed.stderr);
  ok(second, `llmctl audit witness cosign '${signed.stdout.trim()}'`);
  t.regex(ok(second, 'llmctl audit witness'), /^arena8\.invalid\/witness  \d{4}-\d\d-\d\d \d\d:\d\d UTC$/m);
  const beside = word('verify', store, '--key', key, '--witness', vkey);
  t.is(beside.status, 0, `the store has the line beside it: ${beside.stderr}`);
  ok(second, 'llmctl audit export /mnt/h/log');
  t.is(word('verify', log, '--key', key, '--witness', vkey).status, 0);
});
