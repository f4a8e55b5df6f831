// The audit log in the kernel: what its records hold and how long they get, that N requests leave N endings whatever becomes of them, that what
// is acknowledged survives a power cut at every operation on storage, and that a log which does not hold together is not gone on with.

import test, { type ExecutionContext } from 'ava';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { boot, logKeyFrom, nodeSigner, type Machine } from '../boot/index.ts';
import { demonstrationKey, logKey, parseLogKey } from '../boot/log-key.ts';
import { E, isRefusal, LIMITS, O, refuse, type LogKey } from '../kernel/abi/index.ts';
import { Arena } from '../kernel/arena.ts';
import { refusedFields } from '../kernel/audit/journal.ts';
import { decodeRecord, encodeRecord, recordLine } from '../kernel/audit/record.ts';
import { AuditRing, FRAME_BYTES, RingState } from '../kernel/audit/ring.ts';
import {
  ATTRIBUTES,
  AUDIT_OPS,
  formatNoteKey,
  formatNoteSecret,
  formatRecipient,
  groupsOf,
  isEnding,
  leafHash,
  NOTE_TYPE,
  noteKey,
  noteSigner,
  openCheckpoint,
  openProof,
  parseCanonical,
  parseNoteKey,
  recordBytesMost,
  readFrames,
  secretKey,
  sha256,
  signatureLine,
  Tree,
  type AuditFields,
  type AuditOp,
  type NoteKey,
  type SecretKey,
} from '../trust/index.ts';
import { readCpio, writeCpio } from '../vfs/cpio.ts';
import { random } from './harness.ts';
import { PowerCut, PowerDirectory, type Cut } from './support/power.ts';
import { Bench } from './support/service.ts';
import { Slots } from './support/slots.ts';
import { wishOf } from './support/wishes.ts';

const SOAK = process.env['ARENA8_SOAK'] === '1';

type Json = Readonly<Record<string, unknown>>;

/** The boot image without a model to load: it is up at once. */
const image = ((): Uint8Array => {
  const whole = readFileSync('build/boot.cpio');
  const entries = readCpio(whole);
  if (isRefusal(entries)) throw new Error(entries.message);
  return writeCpio(
    entries
      .filter(({ name }) => !name.startsWith('models/'))
      .map(({ name, kind, mode, uid, dataAt, bytes }) => {
        const data = name === 'etc/model' ? new Uint8Array(0) : whole.subarray(dataAt, dataAt + bytes);
        return { name, kind, mode, owner: uid, data };
      }),
  );
})();

/** A machine over a directory; without one its log is in memory. */
const powerOn = (directory?: PowerDirectory, key?: LogKey): Machine =>
  boot({
    image,
    strict: true,
    ...(directory === undefined ? {} : { mounts: [{ guest: '/var/audit', directory }] }),
    ...(key === undefined ? {} : { logKey: key }),
  });

const ok = (machine: Machine, line: string): string => {
  const { status, stdout, stderr } = machine.exec(line);
  if (status !== 0) throw new Error(`${line}: ${status} ${stderr}`);
  return stdout;
};

/** All records that the head covers. */
const records = (machine: Machine): Json[] =>
  ok(machine, 'cat /audit/log')
    .split('\n')
    .slice(0, -1)
    .map(line => JSON.parse(line) as Json);
const opsOf = (list: readonly Json[]): string[] => list.map(r => String(r['arena8.op']));

const demonstration = ((): NoteKey => {
  const { name, publicKey } = demonstrationKey();
  return noteKey(name, publicKey) as NoteKey;
})();

// ── Records ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Every attribute that a record of `op` may have, as long as it can be. */
function longest(op: AuditOp): AuditFields {
  const fields: Record<string, unknown> = {};
  for (const [name, { in: group, kind, most = 0 }] of Object.entries<{
    in: (typeof ATTRIBUTES)[keyof typeof ATTRIBUTES]['in'];
    kind: string;
    most?: number;
  }>(ATTRIBUTES)) {
    if (!groupsOf(op).includes(group)) continue;
    if (kind === 'count') fields[name] = -Number.MAX_SAFE_INTEGER;
    else if (kind === 'u64') fields[name] = Number.MAX_SAFE_INTEGER;
    else if (kind === 'real') fields[name] = -1.7976931348623157e308;
    else if (kind === 'flag') fields[name] = false;
    else if (kind === 'hex') fields[name] = new Uint8Array(most).fill(255);
    else if (kind === 'text') fields[name] = 'x'.repeat(2 * most);
    else fields[name] = Array.from({ length: most }, () => 'y');
  }
  return fields as AuditFields;
}

test('no record is longer than the table says, and the longest fits', t => {
  for (const op of AUDIT_OPS) {
    t.true(recordBytesMost(op) <= LIMITS.auditRecordBytes, op);
    const bytes = encodeRecord(op, longest(op));
    t.true(bytes.length <= recordBytesMost(op), op);
    t.true(bytes.length > recordBytesMost(op) - 40, `${op}: ${bytes.length} of ${recordBytesMost(op)}`); // lists end at whole words
  }
});

test('records are canonical JSON, whatever texts they are given; what is too long is cut at a character', t => {
  const next = random(7);
  const pieces = ['a', '"', '\\', '\n', '\u0001', 'é', '€', '𝄞', '\ud800', '\udc00', ' '];
  for (let i = 0; i < 500; i++) {
    const text = Array.from(
      { length: Math.floor(next() * 200) },
      () => pieces[Math.floor(next() * pieces.length)],
    ).join('');
    const bytes = encodeRecord('mount', { 'arena8.record': i, 'arena8.path': text, 'arena8.value': text });
    const parsed = parseCanonical(bytes);
    if (isRefusal(parsed)) return t.fail(parsed.message);
    const path = (parsed.value as Json)['arena8.path'] as string;
    const whole = text.replace(/[\ud800-\udfff]/gu, '\ufffd');
    t.true(whole.startsWith(path));
    t.true(path === whole || Buffer.byteLength(JSON.stringify(path)) > 128 + 2 - 6);
    t.true(bytes.length <= recordBytesMost('mount'));
  }
  t.deepEqual(
    decodeRecord(encodeRecord('boot', { 'arena8.disks': ['a'.repeat(100), 'b'.repeat(100), 'c'] }))!['arena8.disks'],
    ['a'.repeat(100)],
  );
  t.throws(() => encodeRecord('mount', { 'arena8.cycles': 1 }), { message: /mount does not say arena8.cycles/ });
  t.throws(() => encodeRecord('infer', { 'arena8.cycles': -1 }), { message: /is no u64/ });
});

test('§11, the line of a refusal: op 3, status 2, no tokens', t => {
  const refusal = refuse('DQUOT', 3003, '9 tokens asked');
  const fields = {
    'arena8.record': 1,
    'arena8.op': 'reject',
    'arena8.time_ns': 1000,
    'arena8.uid': 1001,
    'gen_ai.usage.input_tokens': 2,
  };
  const line = recordLine(decodeRecord(encodeRecord('reject', { ...fields, ...refusedFields(refusal) }))!);
  t.is(
    line,
    '[LLM][AUD] op=3 prompt_len=2 tokens=0 wcet_cycles=0 period_ns=0 status=2 ts_ns=1000 record=1 what=reject user=1001 code=3003 message="9 tokens asked"\n',
  );
});

test('the ring keeps the newest records, and never gives up one that is not stored', t => {
  const next = random(3);
  const arena = new Arena(new ArrayBuffer(1 << 20));
  const ring = new AuditRing(arena, arena.alloc(RingState.bytes + LIMITS.auditRingBytes));
  ring.begin(5);
  const all: Uint8Array[] = [];
  let stored = 0;
  for (let i = 0; i < 3000; i++) {
    const record = new Uint8Array(1 + Math.floor(next() * LIMITS.auditRecordBytes)).fill(i);
    if (FRAME_BYTES + record.length <= ring.room && next() < 0.8) {
      ring.append(record);
      all.push(record);
    } else {
      const count = Math.floor(next() * (1 + all.length - stored));
      t.deepEqual(ring.pending(count), all.slice(stored, stored + count));
      ring.stored(count);
      stored += count;
    }
    t.like(ring.unstored, { records: all.length - stored, from: 5 + stored });
    if (i % 100 === 0) {
      const kept = ring.all();
      t.deepEqual(kept, all.slice(all.length - kept.length));
      t.true(kept.length >= all.length - stored);
    }
  }
  t.is(ring.next, 5 + all.length);
  const full = new Uint8Array(LIMITS.auditRecordBytes);
  t.throws(
    () => {
      for (;;) ring.append(full);
    },
    { message: /full of records that are not stored/ },
  );
});

// ── In the machine ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('every call that changes something, and every refusal of one, is a record with its attributes', t => {
  const machine = powerOn();
  const done: [string, string, Json][] = [
    ['llmctl backend stub', 'load', { 'arena8.name': 'backend', 'arena8.value': 'stub', 'arena8.engine': 'stub' }],
    [
      'llmctl load /models/none.gguf',
      'load',
      { 'arena8.path': '/models/none.gguf', 'error.type': 'ENOENT', 'arena8.code': 1001 },
    ],
    ['llmctl quota user --tokens 100', 'quota', { 'arena8.name': '1000', 'arena8.value': 'tokens=100' }],
    ["su user -c 'llmctl quota user --tokens 999'", 'quota', { 'arena8.uid': 1000, 'error.type': 'EACCES' }],
    [
      'llmctl budget --period-ns 5000 --max-tokens-per-period 8',
      'budget',
      { 'arena8.value': 'wcet_cycles=0 period_ns=5000 max_tokens=8' },
    ],
    ['llmctl budget --period-ns 0', 'budget', { 'arena8.value': 'wcet_cycles=0 period_ns=0 max_tokens=8' }],
    ['llmctl target cortex-m7', 'config', { 'arena8.name': 'target', 'arena8.value': 'cortex-m7' }],
    ['llmctl target nothing', 'config', { 'arena8.name': 'target', 'arena8.value': 'nothing', 'arena8.code': 7001 }],
    ['llmctl disk vda --model nvme', 'config', { 'arena8.name': 'disk vda', 'arena8.value': 'model=nvme' }],
    ['mount -t tmpfs none /mnt', 'mount', { 'arena8.path': '/mnt', 'arena8.name': 'tmpfs', 'arena8.value': 'none' }],
    ['mount -t nothing none /mnt', 'mount', { 'error.type': 'ENODEV' }],
    ["su user -c 'umount /mnt'", 'umount', { 'arena8.uid': 1000, 'arena8.user': 'user', 'error.type': 'EPERM' }],
    ['umount /mnt', 'umount', { 'arena8.path': '/mnt' }],
    ['llminfer --max-tokens 3 --seed 9 hello', 'infer', { 'gen_ai.usage.output_tokens': 3, 'gen_ai.request.seed': 9 }],
    ['llmstream --max-tokens 3 hello', 'stream', { 'arena8.request.flags': ['paced', 'stream'] }],
    ['llminfer --continue 77 hello', 'reject', { 'arena8.parent': 77, 'error.type': 'ESRCH', 'arena8.code': 7001 }],
    ['llmctl unload', 'unload', { 'arena8.engine': 'stub' }],
    ['llmctl unload', 'unload', { 'error.type': 'ENODEV', 'arena8.message': 'no model loaded' }],
  ];
  for (const [line, op, fields] of done) {
    const before = machine.kernel.audit!.next;
    machine.exec(line);
    const own = records(machine)
      .slice(before)
      .filter(r => r['arena8.op'] !== 'submit' && r['arena8.op'] !== 'login');
    t.deepEqual(opsOf(own), [op], line);
    t.like(own[0], fields, line);
  }
  const all = records(machine);
  all.forEach((r, i) => t.is(r['arena8.record'], i));
  for (const [i, r] of all.entries())
    if (i > 0) t.true(BigInt(String(r['arena8.time_ns'])) >= BigInt(String(all[i - 1]!['arena8.time_ns'])));
  t.is(all[0]!['arena8.op'], 'boot');
});

test('digests are salted with the record’s own salt, and hold what was said', t => {
  const machine = powerOn();
  ok(machine, 'llmctl backend stub');
  const { tokens, prompt_tokens: prompt } = JSON.parse(
    ok(machine, 'llminfer --json --max-tokens 5 --stop zzz hello'),
  ) as {
    tokens: number[];
    prompt_tokens: number[];
  };
  const [submit, ending] = records(machine).slice(-2) as [Json, Json];
  const digest = (n: number, bytes: Uint8Array): string => {
    const salt = Buffer.from(ok(machine, `cat /audit/salt/${n}`).trim(), 'hex');
    t.is(salt.length, 32);
    return Buffer.from(sha256(salt, bytes)).toString('hex');
  };
  const ids = (list: readonly number[]): Uint8Array => new Uint8Array(Uint32Array.from(list).buffer);
  const [s, e] = [Number(submit['arena8.record']), Number(ending['arena8.record'])];
  t.is(ending['arena8.submitted'], s);
  t.is(submit['arena8.prompt.digest'], digest(s, ids(prompt)));
  t.is(ending['arena8.prompt.digest'], digest(e, ids(prompt)));
  t.is(ending['arena8.output.digest'], digest(e, ids(tokens)));
  t.is(ending['arena8.stops.digest'], digest(e, Buffer.from('\x03zzz')));
  t.not(submit['arena8.prompt.digest'], ending['arena8.prompt.digest']);
  const disclosed = records(machine).filter(r => r['arena8.op'] === 'disclose');
  t.deepEqual(
    disclosed.map(r => r['arena8.value']),
    [s, e, e, e].map(String),
  );
});

test('the log is read only, for root too, and only root and auditors read it', t => {
  const machine = powerOn();
  for (const line of [
    'echo x >> /var/audit/checkpoints',
    'echo x > /var/audit/checkpoints',
    'rm /var/audit/checkpoints',
    'mv /var/audit/checkpoints /var/audit/other',
    'mv /var/audit/entries /var/audit/other',
    'chmod 666 /var/audit/checkpoints',
    'chown user /var/audit/checkpoints',
    'touch /var/audit/new',
    'mkdir /var/audit/new',
    'ln -s /etc/passwd /var/audit/link',
    'ln /var/audit/checkpoints /var/audit/link',
    'rmdir /var/audit/entries',
    'truncate -s 0 /var/audit/checkpoints',
  ]) {
    const { status, stderr } = machine.exec(line);
    t.not(status, 0, line);
    if (!line.startsWith('truncate')) t.regex(stderr, /Operation not permitted/, line);
  }
  const { vfs } = machine.kernel;
  t.is(vfs.open('/', '/var/audit/checkpoints', O.WRONLY, 0), -E.PERM);
  t.is(vfs.open('/', '/var/audit/checkpoints', O.RDONLY | O.TRUNC, 0), -E.PERM);
  t.is(vfs.truncate('/', '/var/audit/checkpoints', 0), -E.PERM);
  t.regex(machine.exec('umount /var/audit').stderr, /busy/);
  t.regex(machine.exec("su user -c 'cat /var/audit/checkpoints'").stderr, /Permission denied/);
  t.is(ok(machine, "su auditor -c 'cat /var/audit/checkpoints'"), ok(machine, 'cat /var/audit/checkpoints'));
});

test('proofs and heads hold for everyone who has the public key', t => {
  const machine = powerOn();
  ok(machine, 'llmctl backend stub');
  for (let i = 0; i < 5; i++) ok(machine, 'llminfer --max-tokens 2 hello');
  // Two machines that do the same leave the same log.
  const again = powerOn();
  ok(again, 'llmctl backend stub');
  for (let i = 0; i < 5; i++) ok(again, 'llminfer --max-tokens 2 hello');
  t.is(again.kernel.arenaDigest(), machine.kernel.arenaDigest());
  t.is(again.kernel.audit!.head, machine.kernel.audit!.head);
  const key = parseNoteKey(ok(machine, 'cat /audit/pubkey'));
  if (isRefusal(key)) return t.fail(key.message);
  const { size } = machine.kernel.audit!;
  for (let n = 0; n < size; n++) {
    const proof = openProof(
      Buffer.from(ok(machine, `cat /audit/proof/${n}`)),
      Buffer.from(ok(machine, `cat /audit/record/${n}`)),
      key,
    );
    if (isRefusal(proof)) return t.fail(proof.message);
    t.is(proof.index, n);
    t.is(proof.checkpoint.size, size);
  }
  t.is(machine.exec(`cat /audit/proof/${size}`).status, 1);
});

test('a machine without a log: nothing is recorded, nothing is mounted', t => {
  const lines: string[] = [];
  const machine = boot({ image, strict: true, audit: false, log: line => lines.push(line) });
  ok(machine, 'llmctl backend stub');
  t.is(ok(machine, 'llminfer --max-tokens 3 --seed 1 hello').length > 0, true);
  t.is(ok(machine, 'cat /proc/audit'), '');
  t.is(machine.exec('ls /var/audit').status === 0, false);
  t.true(lines.some(l => l.includes('audit: off')));
});

// ── Keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a log key comes from PKCS#8 or a note signer’s line, and signs the same everywhere', t => {
  const seed = Uint8Array.from({ length: 32 }, (_, i) => i * 7);
  const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]);
  const pem = `-----BEGIN PRIVATE KEY-----\n${der.toString('base64')}\n-----END PRIVATE KEY-----\n`;
  const message = Buffer.from('what is signed');
  const plain = parseLogKey(pem, null) as LogKey;
  const native = parseLogKey(pem, 'example.org/log', nodeSigner) as LogKey;
  t.is(plain.name, 'arena8.invalid/log');
  t.is(native.name, 'example.org/log');
  t.deepEqual(Buffer.from(plain.sign(message)), Buffer.from(native.sign(message)));
  t.deepEqual(plain.mac('salt', message), native.mac('salt', message));
  t.notDeepEqual(plain.mac('salt', message), plain.mac('other', message));
  const known = noteKey('example.org/other', plain.publicKey) as NoteKey;
  const line = parseLogKey(formatNoteSecret(known, seed), null) as LogKey;
  t.is(line.name, 'example.org/other');
  t.deepEqual(line.publicKey, plain.publicKey);
  t.deepEqual(logKeyFrom(pem, 'example.org/log').publicKey, plain.publicKey);
  t.throws(() => logKeyFrom('nonsense'), { message: /PEM/ });
  t.true(isRefusal(parseLogKey('nonsense', null)));
  t.true(isRefusal(logKey('a b', seed)));
  t.true(demonstrationKey().isDemonstration);
});

test('host options: --log-key, --log-name, --audit', t => {
  const dir = mkdtempSync(path.join(tmpdir(), 'arena8-audit-'));
  try {
    const seed = Buffer.alloc(32, 5);
    const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]);
    writeFileSync(
      `${dir}/key.pem`,
      `-----BEGIN PRIVATE KEY-----\n${der.toString('base64')}\n-----END PRIVATE KEY-----\n`,
    );
    writeFileSync(`${dir}/image`, image);
    const host = (...args: string[]) => {
      const r = spawnSync(process.execPath, ['build/arena8.js', '--image', `${dir}/image`, ...args], {
        encoding: 'utf8',
      });
      return { status: r.status, stdout: r.stdout, stderr: r.stderr };
    };
    const named = host('--log-key', `${dir}/key.pem`, '--log-name', 'example.org/log', '-c', 'cat /audit/pubkey');
    t.is(named.status, 0, named.stderr);
    t.regex(named.stdout, /^example\.org\/log\+[0-9a-f]{8}\+/);
    t.regex(host('--audit', 'off', '-c', 'true').stderr, /audit: off/);
    t.regex(host('--audit', 'perhaps', '-c', 'true').stderr, /neither on nor off/);
    t.regex(host('--log-key', `${dir}/none`, '-c', 'true').stderr, /cannot read/);
    t.regex(host('--log-key', `${dir}/image`, '-c', 'true').stderr, /--log-key: .*PEM/);
    t.regex(host('--log-name', 'x', '-c', 'true').stderr, /--log-key FILE/);
    // Written through to a directory of the host, and gone on with.
    mkdirSync(`${dir}/log`);
    for (const boots of [0, 1, 2]) {
      const r = host(
        '--mount',
        `${dir}/log:/var/audit`,
        '-c',
        'llmctl backend stub >/dev/null; grep -c op.:.boot /audit/log',
      );
      t.is(r.stdout, `${boots + 1}\n`, r.stderr);
    }
    // What the last command did is stored before the machine is off.
    const last = host(
      '--mount',
      `${dir}/log:/var/audit`,
      '-c',
      'llmctl quota user --tokens 1; llmctl quota user --tokens 2',
    );
    t.is(last.status, 0);
    t.is(host('--mount', `${dir}/log:/var/audit`, '-c', 'grep -c op.:.quota /audit/log').stdout, '2\n');
    t.deepEqual(
      readdirSync(`${dir}/log/entries`),
      [0, 2, 5, 8, 12].map(n => String(n).padStart(16, '0')),
    );
    t.regex(host('--mount', `${dir}/log:/var/audit:ro`, '-c', 'true').stderr, /cannot be written/);
    t.regex(
      host('--mount', `${dir}/log:/var/audit`, '--log-key', `${dir}/key.pem`, '-c', 'true').stderr,
      /checkpoint \d+: /,
    );
    // Nobody has another way into it.
    const twice = host('--mount', `${dir}/log:/var/audit`, '--mount', `${dir}:/mnt/h`, '-c', 'true');
    t.regex(twice.stderr, /^arena8: \/var\/audit: what lies in it could be written through \/mnt\/h, a mount of /m);
    t.is(twice.status, 1);
    t.is(host('--mount', `${dir}/log:/var/audit`, '--mount', `${dir}:/mnt/h:ro`, '-c', 'true').status, 0);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

// ── Power ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Found {
  readonly list: readonly Json[];
  readonly tree: Tree;
}

/** What lies in a directory, read without the kernel: as an outsider does. Throws where it does not hold. */
function outside({ files }: PowerDirectory, key: NoteKey = demonstration): Found {
  const notes = Buffer.from(files.get('checkpoints')!)
    .toString()
    .split(/(?<=\n— .*\n)/);
  const last = notes.findLast(note => /\n— .*\n$/.test(note))!;
  const checkpoint = openCheckpoint(Buffer.from(last), key);
  if (isRefusal(checkpoint)) throw new Error(checkpoint.message);
  const tree = new Tree();
  const list: Json[] = [];
  const starts = [...files.keys()].filter(name => /^entries\/\d/.test(name)).sort();
  for (const [i, name] of starts.entries()) {
    const first = Number(name.slice('entries/'.length));
    const end = Math.min(
      checkpoint.size,
      i + 1 < starts.length ? Number(starts[i + 1]!.slice('entries/'.length)) : Infinity,
    );
    if (first !== tree.size && first < checkpoint.size) throw new Error(`${name} does not follow ${tree.size}`);
    for (const record of readFrames(files.get(name)!).records.slice(0, Math.max(0, end - first))) {
      tree.append(leafHash(record));
      list.push(JSON.parse(Buffer.from(record).toString()) as Json);
    }
  }
  if (tree.size !== checkpoint.size) throw new Error(`${tree.size} records, ${checkpoint.size} are signed`);
  if (Buffer.compare(tree.root(), checkpoint.root) !== 0) throw new Error('another root');
  return { list, tree };
}

/** Each request that was admitted has one ending, and it comes behind. `open`: requests may be without one. */
function pairs(t: ExecutionContext, list: readonly Json[], open = 0): void {
  const waiting = new Set<number>();
  for (const r of list) {
    if (r['arena8.op'] === 'submit') waiting.add(Number(r['arena8.record']));
    else if (isEnding(r['arena8.op'] as AuditOp) && r['arena8.op'] !== 'reject') {
      const submitted = Number(r['arena8.submitted']);
      if (!waiting.delete(submitted))
        t.fail(`record ${String(r['arena8.record'])} ends ${submitted}, which has ended or never began`);
    }
  }
  if (waiting.size > open) t.fail(`requests ${[...waiting].join()} have no ending`);
}

const COMMANDS = [
  'llmctl backend stub',
  'llminfer --max-tokens 3 one',
  'llminfer --continue 77 two',
  'llmstream --max-tokens 2 three & llminfer --max-tokens 4 four; wait',
  'llmctl quota user --tokens 100',
  'llminfer --max-tokens 1 five',
  'llmctl unload',
];

/** What was acknowledged, as the machine knew it: size and root of the head. */
interface Acknowledged {
  readonly size: number;
  readonly root: string;
}

/** Runs the commands on a machine until its power goes; the last head that it acknowledged. Null: none was. */
function untilCut(directory: PowerDirectory): Acknowledged | null {
  let machine: Machine | null = null;
  let last: Acknowledged | null = null;
  directory.look = () => {
    const head = machine?.kernel.audit?.head ?? '';
    const [, size = '0', root = ''] = head.split('\n');
    if (head !== '') last = { size: Number(size), root };
  };
  try {
    machine = powerOn(directory);
    for (const line of COMMANDS) machine.exec(line);
  } catch (error) {
    if (!(error instanceof PowerCut) && !/halted/.test((error as Error).message)) throw error;
  }
  return last;
}

test('power is cut at every operation on storage: what was acknowledged is there, and the log goes on', t => {
  const whole = new PowerDirectory();
  untilCut(whole);
  const { operations } = whole;
  t.true(operations > 16, `${operations}`);
  const cuts: readonly Cut[] = ['before', 'torn', 'behind'];
  let dropped = 0;
  for (let at = 0; at < operations; at++)
    for (const cut of SOAK || at < 12 ? cuts : [cuts[at % 3]!]) {
      const directory = new PowerDirectory();
      Object.assign(directory, { cutAt: at, cut });
      const acknowledged = untilCut(directory);
      // A second cut, at the first thing that the machine does to storage when power is back: nothing more is lost.
      const again = directory.survivor();
      Object.assign(again, { cutAt: at % 5, cut });
      untilCut(again);
      const last = again.survivor();
      const machine = powerOn(last);
      ok(machine, 'llmctl backend stub');
      ok(machine, 'llminfer --max-tokens 2 more');
      const { list, tree } = outside(last);
      t.is(tree.size, machine.kernel.audit!.size);
      if (acknowledged !== null) {
        t.true(acknowledged.size <= tree.size, `${at} ${cut}`);
        t.is(Buffer.from(tree.root(acknowledged.size)).toString('base64'), acknowledged.root, `${at} ${cut}`);
      }
      pairs(t, list);
      list.forEach((r, i) => t.is(r['arena8.record'], i));
      dropped += list.filter(r => r['arena8.op'] === 'recover').reduce((n, r) => n + Number(r['arena8.value']), 0);
      const boots = list.filter(r => r['arena8.op'] === 'boot');
      boots.forEach((r, i) => t.is(r['arena8.boot'], i));
    }
  t.true(dropped > 0);
  t.log(`${operations} operations, ${dropped} records were on their way when the power went`);
});

test('requests that a power cut has ended are ended in the log when power is back', t => {
  const directory = new PowerDirectory();
  const machine = powerOn(directory);
  ok(machine, 'llmctl backend stub');
  ok(machine, "su user -c 'llminfer --detach --max-tokens 300 --pace 50 one' & sleep 1; llminfer --max-tokens 2 two");
  const live = outside(directory).list.filter(r => r['arena8.op'] === 'submit').length;
  t.true(live >= 1);
  const next = powerOn(directory.survivor());
  const faults = records(next).filter(r => r['arena8.op'] === 'fault');
  pairs(t, records(next));
  for (const fault of faults)
    t.like(fault, { 'arena8.message': 'the machine was switched off before it ended', 'arena8.boot': 1 });
});

test('a log that does not hold together is not gone on with, and the first bad place is named', t => {
  const whole = new PowerDirectory();
  for (let i = 0; i < 2; i++) {
    const machine = powerOn(whole);
    ok(machine, 'llmctl backend stub');
    ok(machine, 'llminfer --max-tokens 2 one');
  }
  const refused = (change: (files: Map<string, Uint8Array>) => void, message: RegExp, key?: LogKey): void => {
    const directory = whole.survivor();
    change(directory.files);
    t.throws(() => powerOn(directory, key), { message });
  };
  const names = [...whole.files.keys()].filter(n => /^entries\/\d/.test(n)).sort();
  t.is(names.length, 2);
  refused(files => (files.get(names[0]!)![40]! ^= 1), /checkpoint 1: records 0 to 0 are not those that it has signed/);
  refused(
    files => (files.get(names[1]!)![40]! ^= 1),
    /checkpoint \d+: records 4 to 5 are not those that it has signed/,
  );
  refused(files => files.delete(names[0]!), /entries\/0000000000000000: 0 of 9 records/);
  refused(files => files.delete(names[1]!), /entries\/0000000000000000: 4 of 9 records/);
  refused(files => files.set(names[1]!, files.get(names[1]!)!.slice(0, 100)), /0000000000000004: 0 of 5 records/);
  refused(
    files =>
      files.get('checkpoints')!.at(-20) === 0x41
        ? 0
        : (files.get('checkpoints')![files.get('checkpoints')!.length - 20] = 0x41),
    /checkpoint \d+: /,
  );
  refused(files => files.set('entries/notes.txt', new Uint8Array(1)), /entries\/notes\.txt: no file of the audit log/);
  const other = logKey('arena8.invalid/demonstration', new Uint8Array(32)) as LogKey;
  refused(() => {}, /checkpoint \d+: .*not signed by a known key/, other);
  t.notThrows(() => powerOn(whole.survivor()));

  // Checkpoints that were there and are gone: records that somebody has seen acknowledged would be dropped.
  const first = (files: Map<string, Uint8Array>, notes: number): Uint8Array => {
    const lines = Buffer.from(files.get('checkpoints')!).toString().split('\n');
    return Buffer.from(`${lines.slice(0, 5 * notes).join('\n')}\n`);
  };
  refused(
    files => files.set('checkpoints', first(files, 1)),
    /the last one is of 1 records, later ones are missing \(entries\/0000000000000004: begun at a power-on with 4 records\)/,
  );
  const many = new Uint8Array(LIMITS.auditRingBytes + 1);
  refused(files => {
    files.delete('checkpoints');
    files.delete(names[1]!);
    files.set(names[0]!, many);
  }, /the last one is of 0 records, later ones are missing \(entries: \d+ bytes behind it, a power cut leaves \d+\)/);
});

test('what lay behind the last checkpoint is counted over all files, and told once', t => {
  const directory = new PowerDirectory();
  ok(powerOn(directory), 'llmctl backend stub');
  const [last = ''] = [...directory.files.keys()].filter(n => /^entries\/\d/.test(n)).sort();
  const frames = [Buffer.from([0, 3, 1, 2, 3]), Buffer.from([0, 1, 7, 0, 1, 8])];
  directory.files.set(last, Buffer.concat([directory.files.get(last)!, frames[0]!]));
  directory.files.set('entries/0000000000000256', frames[1]!);
  const again = powerOn(directory);
  const told = records(again).find(r => r['arena8.op'] === 'recover');
  t.is(told?.['arena8.value'], '3');
  t.is(told?.['arena8.digest'], Buffer.from(sha256(...frames)).toString('hex'));
  const third = records(powerOn(directory.survivor())).filter(r => r['arena8.op'] === 'recover');
  t.deepEqual(
    third.map(r => r['arena8.value']),
    ['3', '0'],
  );
});

test('storage that does not take the log: nothing runs unrecorded, and when it does again all goes on', t => {
  const directory = new PowerDirectory();
  const machine = powerOn(directory);
  ok(machine, 'llmctl backend stub');
  ok(machine, 'llminfer --max-tokens 2 one');
  directory.failure = -E.NOSPC;
  const running = machine.exec('llminfer --max-tokens 2 two');
  t.is(running.status, 1);
  t.regex(
    running.stderr,
    /the audit log has stopped, and nothing runs unrecorded: .*No space left on device \(ENOSPC\)/,
  );
  t.regex(machine.exec('llminfer --max-tokens 2 three').stderr, /ENOSPC/); // refused
  const { size } = machine.kernel.audit!;
  directory.failure = 0;
  ok(machine, 'sleep 1');
  t.is(machine.exec('llminfer --max-tokens 2 four').status, 1); // refused still: its record is what the log is tried with again
  t.regex(ok(machine, 'llminfer --max-tokens 2 five'), /./);
  t.true(machine.kernel.audit!.size > size);
  const { list } = outside(directory);
  pairs(t, list);
  t.is(list.filter(r => isEnding(r['arena8.op'] as AuditOp)).length, 5);
});

test('a ring full of records that cannot be stored: what would leave one more is refused, and none is lost', t => {
  const directory = new PowerDirectory();
  const bench = new Bench(undefined, undefined, { mounts: [{ guest: '/var/audit', directory }], image });
  bench.load('stub', { ctx: 64 });
  const { machine, kernel } = bench;
  const audit = kernel.audit!;
  // While nothing is flushed, as in the middle of a round: a request is refused that would find no room for its end.
  const live = Array.from({ length: 20 }, () => bench.accepted('one', { maxTokens: 1 }, 1000));
  let refused = 0;
  let refusal: ReturnType<Bench['submit']> = null;
  do {
    refusal = bench.submit('two', { parent: 77 }, 1000);
    refused++;
  } while (isRefusal(refusal) && refusal.errno === E.SRCH);
  if (!isRefusal(refusal)) return t.fail('admitted');
  t.like(refusal, { errno: E.AGAIN, code: 3002 });
  t.regex(
    refusal.message,
    new RegExp(
      `^the audit ring has \\d+ of ${LIMITS.auditRingBytes} bytes left until it is flushed, a request reserves \\d+$`,
    ),
  );
  for (const handle of live) bench.finish(handle);
  t.is(audit.settle(), null);
  // Where storage refuses for good, calls fail before they do anything.
  directory.failure = -E.NOSPC;
  let more = 0;
  while (audit.room(0) >= 6 * (FRAME_BYTES + LIMITS.auditRecordBytes)) {
    bench.submit('three', { parent: 77 }, 1000);
    more++;
    bench.step();
  }
  const { next } = audit;
  for (const line of ['llminfer four', 'llmctl load /models/none.gguf', "su user -c 'true'"])
    t.regex(machine.exec(line).stderr, /the audit log has stopped/, line);
  t.is(audit.next, next);
  directory.failure = 0;
  machine.exec('llminfer five');
  ok(machine, 'llminfer --max-tokens 1 six');
  t.is(audit.settle(), null);
  const { list } = outside(directory);
  const ends = list.filter(r => r['arena8.uid'] === 1000 && isEnding(r['arena8.op'] as AuditOp));
  t.is(ends.length, live.length + refused + more);
  pairs(t, list);
});

test('N requests, N endings: 32 sessions, refused, cancelled and timed out, while the power goes', t => {
  const next = random(11);
  for (let round = 0; round < (SOAK ? 40 : 4); round++) {
    const directory = new PowerDirectory();
    if (round % 2 === 1)
      Object.assign(directory, {
        cutAt: 40 + Math.floor(next() * 120),
        cut: (['before', 'torn', 'behind'] as const)[round % 3],
      });
    const mounts = [{ guest: '/var/audit', directory }];
    let asked = 0;
    let refused = 0;
    let cut = false;
    try {
      const bench = new Bench(undefined, undefined, { mounts, image });
      bench.load('stub', { ctx: 128, sessions: 32 });
      const submit = bench.submit.bind(bench);
      bench.submit = (...args) => {
        const handle = submit(...args);
        if (handle !== null) asked++;
        if (isRefusal(handle)) refused++;
        return handle;
      };
      const mix = { wordsMax: 30, tokensMax: 20, users: 4, servers: round % 4 < 2 };
      const wishes = Array.from({ length: 80 }, () => {
        const wish = wishOf(next, bench, mix);
        return next() < 0.2 ? { ...wish, options: { ...wish.options, maxTokens: 5000 } } : wish;
      });
      bench.together(wishes);
      t.is(bench.kernel.audit!.settle(), null);
    } catch (error) {
      if (!(error instanceof PowerCut)) throw error;
      cut = true;
    }
    const last = directory.survivor();
    powerOn(last);
    const { list } = outside(last);
    pairs(t, list);
    const endings = list.filter(r => isEnding(r['arena8.op'] as AuditOp));
    const rejects = endings.filter(r => r['arena8.op'] === 'reject').length;
    if (cut) t.true(endings.length <= asked);
    else {
      t.is(endings.length, asked);
      t.is(rejects, refused);
    }
    t.log(
      `${asked} requests, ${endings.length} endings${cut ? ', cut' : ''}: ${[...new Set(opsOf(endings))].sort().join(' ')}`,
    );
  }
});

test('witnesses: whom the machine trusts, and what they have signed, outlive the machine', t => {
  const directory = new PowerDirectory();
  const machine = powerOn(directory);
  const witness = noteSigner('witness.example', new Uint8Array(32).fill(9), NOTE_TYPE.cosignature);
  if (isRefusal(witness)) return t.fail(witness.message);
  const vkey = formatNoteKey(witness.key);
  const reader = formatRecipient((secretKey('x25519', new Uint8Array(32).fill(5)) as SecretKey).public);
  t.is(machine.exec(`echo 'cosign — witness.example AAAA' > /audit/ctl`).status, 1);
  ok(machine, `echo 'witness ${vkey}' > /audit/ctl`);
  t.is(machine.exec(`echo 'witness ${vkey}' > /audit/ctl`).status, 1); // once
  t.is(ok(machine, 'cat /audit/ctl'), `content off\nwitness ${vkey}\n`);
  for (const line of [`witness ${vkey}`, 'content off', `content on ${reader}`])
    t.regex(machine.exec(`su auditor -c "echo '${line}' | tee /audit/ctl"`).stderr, /Operation not permitted/);
  const long = noteSigner('w'.repeat(120), new Uint8Array(32).fill(9), NOTE_TYPE.cosignature);
  if (isRefusal(long)) return t.fail(long.message);
  t.regex(machine.exec(`echo 'witness ${formatNoteKey(long.key)}' | tee /audit/ctl`).stderr, /too long/);
  ok(machine, 'true');
  const head = ok(machine, 'cat /audit/head');
  const text = head.slice(0, head.indexOf('\n\n') + 1);
  const cosign = (time: number): string =>
    `echo 'cosign ${signatureLine(text, witness, time).trim()}' | tee /audit/ctl > /dev/null`;
  ok(machine, cosign(1_699_999_999));
  ok(machine, cosign(1_700_000_000)); // the newer one in its place
  t.regex(machine.exec(cosign(1_700_000_000)).stderr, /File exists/);
  for (const m of [machine, powerOn(directory.survivor())]) {
    const signed = m === machine ? ok(m, 'cat /audit/head') : null;
    if (signed !== null) {
      const opened = openCheckpoint(Buffer.from(signed), demonstration, [witness.key]);
      if (isRefusal(opened)) return t.fail(opened.message);
      t.deepEqual(
        opened.witnessed.map(w => w.time),
        [1_700_000_000],
      );
    }
    t.is(ok(m, 'cat /audit/ctl'), `content off\nwitness ${vkey}\n`);
  }
});

test('a log in files that are open from the beginning goes on from one machine to the next', t => {
  let slots = new Slots();
  for (const boots of [1, 2, 3]) {
    const directory = slots.directory();
    const machine = boot({ image, strict: true, mounts: [{ guest: '/var/audit', directory }] });
    ok(machine, 'llmctl backend stub');
    ok(machine, 'llminfer --max-tokens 2 hello');
    t.is(opsOf(records(machine)).filter(op => op === 'boot').length, boots);
    t.deepEqual(ok(machine, 'ls /var/audit').split('\n'), ['checkpoints', 'cosignatures', 'entries', '']);
    t.is(machine.exec('rm /var/audit/checkpoints').status, 1);
    machine.powerOff();
    slots = slots.survivor();
  }
  const directory = slots.directory(5); // checkpoints, cosignatures, a file for each boot until now
  t.throws(() => boot({ image, mounts: [{ guest: '/var/audit', directory }] }), { message: /No space left/ });
});
