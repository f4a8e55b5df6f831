// Exported logs that somebody has tampered with, put to three verifiers that share no code: ours, Go's sumdb packages, and Python with its own
// SHA-256. Each has to reject every case and point at what was changed, or at the first place where it shows. `--soak` makes 100,000 of them.

import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { createInterface } from 'node:readline';
import test, { type ExecutionContext } from 'ava';
import { boot } from '../boot/index.ts';
import { directory } from '../boot/host-directory.ts';
import { isRefusal } from '../kernel/abi/index.ts';
import {
  formatCheckpoint,
  formatNoteKey,
  frame,
  joined,
  leafHash,
  parseNoteKey,
  parseTilePath,
  readFrames,
  TILE_WIDTH,
  tileHashes,
  tilePath,
  tilesOf,
  Tree,
  verifyFiles,
  verifyLog,
} from '../trust/index.ts';
import type { JsonObject, LogTrust, VerifiedLog } from '../trust/index.ts';
import { makeRandom } from './support/arena.ts';
import { encoded, makeRecords, nativeSha256, signed, sure, TestLog, type Files } from './support/exported-log.ts';
import { DEEDS, Export, SIGNERS, tamper, turned, type Overlay, type Tampered } from './support/tampering.ts';

const soak = process.env['ARENA8_SOAK'] === '1';
const PYTHON = '/usr/bin/python3';
const GO = '/usr/bin/go';
const MOD = '/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog';
const OPENSSL = '/usr/bin/openssl';
const haveOracles =
  [OPENSSL, PYTHON, '/usr/lib/python3/dist-packages/cryptography', GO, MOD].every(existsSync) ||
  process.env['CI'] === 'true';
const withOutsiders = haveOracles ? test : test.skip;

const scratch = mkdtempSync(path.join(tmpdir(), 'arena8-tamper-'));
test.after.always(() => rmSync(scratch, { recursive: true, force: true }));

const VKEY = formatNoteKey(SIGNERS.log.key);
const WITNESS_VKEY = formatNoteKey(SIGNERS.witness.key);

function written(files: Files, dir: string): void {
  for (const [name, bytes] of files) {
    mkdirSync(path.dirname(path.join(dir, name)), { recursive: true });
    writeFileSync(path.join(dir, name), bytes);
  }
}

/** Our verifier's answer in a line, as the others give theirs. */
function ours(e: Export, overlay: Overlay): string {
  const files = e.with(overlay);
  const trust = { key: SIGNERS.log.key, witnesses: [SIGNERS.witness.key], seen: [e.seen], hash: nativeSha256 };
  const answer = verifyFiles(files.keys(), name => files.get(name) ?? null, trust);
  return isRefusal(answer) ? answer.message : 'ok';
}

/** A verifier of others that has read one log, and is asked about overlays of it. */
class Outsider {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(command: string, args: readonly string[], dir: string) {
    const options = [
      '--seen',
      path.join(dir, 'seen'),
      '--witness',
      WITNESS_VKEY,
      '--batch',
      path.join(dir, 'log'),
      VKEY,
    ];
    this.#child = spawn(command, [...args, ...options], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface(this.#child.stdout!)[Symbol.asyncIterator]();
  }

  async ask(overlays: readonly Overlay[]): Promise<string[]> {
    this.#child.stdin!.write(Buffer.concat(overlays.flatMap(framed)));
    const answers: string[] = [];
    for (const _ of overlays) answers.push(String((await this.#lines.next()).value));
    return answers;
  }

  close(): void {
    this.#child.kill();
  }
}

/** A case as both programs read it: a number of files, and each with its length, -1 where it is gone. */
function framed(overlay: Overlay): Buffer[] {
  const parts = [Buffer.from(`${overlay.size}\n`)];
  for (const [name, bytes] of overlay)
    parts.push(Buffer.from(`${name} ${bytes === null ? -1 : bytes.length}\n`), Buffer.from(bytes ?? []));
  return parts;
}

/** Whether a line begins so, and its last number is not longer there. */
const pointsAt = (line: string, place: string): boolean =>
  line.startsWith(place) && !(/\d$/.test(place) && /^\d/.test(line.slice(place.length)));

const goVerifier = path.join(scratch, 'verify');
test.before(t => {
  if (!haveOracles) return;
  const env = { ...process.env, GO111MODULE: 'off', GOPATH: '/usr/share/gocode', GOCACHE: path.join(scratch, 'go') };
  const built = spawnSync(GO, ['build', '-o', goVerifier, 'tests/outside/verify.go'], { env, encoding: 'utf8' });
  t.is(built.status, 0, built.stderr);
});
// ── A machine's own log ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a machine with a store on the host exports, after each of some power-ons that end without a word. */
class MachineLog {
  readonly #store = path.join(scratch, 'store');
  readonly #host = path.join(scratch, 'copies');
  readonly heads: Uint8Array[] = [];
  files: Files = new Map();

  constructor() {
    for (const folder of [this.#store, this.#host]) mkdirSync(folder, { recursive: true });
  }

  /** Switches the machine on, has it do this, and copies the log out. */
  day(...commands: readonly string[]): void {
    const machine = boot({
      image: readFileSync('build/boot.cpio'),
      mounts: [
        { guest: '/var/audit', directory: directory(this.#store, false) },
        { guest: '/o', directory: directory(this.#host, false) },
      ],
    });
    const folder = `day${this.heads.length}`;
    const copy = `mkdir /o/${folder} && cp -r /audit/tile /audit/checkpoint /audit/pubkey /o/${folder}`;
    for (const command of [...commands, copy]) machine.exec(command);
    const from = path.join(this.#host, folder);
    const names = readdirSync(from, { recursive: true, encoding: 'utf8' });
    this.files = new Map(
      names.flatMap(n =>
        statSync(path.join(from, n)).isFile() ? [[n, new Uint8Array(readFileSync(path.join(from, n)))]] : [],
      ),
    );
    this.heads.push(this.files.get('checkpoint')!);
  }
}
const machineLog = new MachineLog();
test.before(() => {
  machineLog.day();
  machineLog.day(
    'llmctl load /models/fable-f16.gguf',
    'llminfer "once upon a time" --max-tokens 5',
    'llminfer nothing --max-tokens 100000',
    'llminfer "the cat" --max-tokens 400 &',
    'llminfer "a dog" --max-tokens 3 --temp 0.8 --seed 7',
    'for i in 1 2 3 4 5 6 7 8 9; do llminfer --detach "day $i" --max-tokens 90; done',
    'llmcancel 5; llmcancel 7; llminfer --timeout 1 "too late" --max-tokens 200',
  );
  machineLog.day('llmctl load /models/nothing.gguf', 'llmstream "once" --max-tokens 4', 'llmctl unload');
});

withOutsiders('a machine’s own log stands before all three, on the command line too', t => {
  const { files, heads } = machineLog;
  const key = sure(parseNoteKey(Buffer.from(files.get('pubkey')!).toString()));
  const whole = verifyFiles(files.keys(), name => files.get(name) ?? null, { key, seen: heads });
  t.like(whole, { boots: 3, open: 0 });
  const size = (whole as VerifiedLog).checkpoint.size;

  const dir = path.join(scratch, 'exported');
  written(files, dir);
  const seen = path.join(scratch, 'seen-before');
  writeFileSync(seen, heads[1]!);
  const programs = [[goVerifier], [PYTHON, '-B', 'tests/outside/verify.py']] as const;
  const answers = () =>
    programs.map(([program, ...args]) => {
      const run = spawnSync(program, [...args, '--seen', seen, dir, formatNoteKey(key)], { encoding: 'utf8' });
      return `${run.status} ${run.stdout}${run.stderr}`;
    });
  for (const answer of answers()) t.true(answer.startsWith(`0 ok ${size} records, root `), answer);
  const bundle = [...files.keys()].find(name => name.startsWith('tile/entries/'))!;
  const bytes = files.get(bundle)!.slice();
  bytes[bytes.length - 3]! ^= 1;
  writeFileSync(path.join(dir, bundle), bytes);
  for (const answer of answers()) t.true(answer.startsWith(`1 ${bundle}: record ${size - 1}`), answer);
});

withOutsiders('what docs/AUDIT.md tells a stranger to type works', t => {
  const { files, heads } = machineLog;
  const cwd = path.join(scratch, 'stranger');
  written(files, path.join(cwd, 'log'));
  writeFileSync(path.join(cwd, 'vkey'), files.get('pubkey')!);
  writeFileSync(path.join(cwd, 'seen'), heads[0]!);
  const blocks = [...readFileSync('docs/AUDIT.md', 'utf8').matchAll(/```sh\n([^]*?)```/g)].map(([, block]) => block!);
  const env = { ...process.env, ARENA8: process.cwd(), GOCACHE: path.join(scratch, 'go') };
  const typed = () =>
    blocks.map(block => spawnSync('bash', ['-euo', 'pipefail', '-c', block], { cwd, env, encoding: 'utf8' }));
  t.deepEqual(
    typed().map(({ status, stderr }) => (status === 0 ? '' : `${status}: ${stderr}`)),
    ['', '', ''],
  );
  // Somebody else's signature and records are told apart by each of them.
  const checkpoint = Buffer.from(files.get('checkpoint')!).toString();
  writeFileSync(
    path.join(cwd, 'log/checkpoint'),
    checkpoint.replace(/\n\d+\n./, found => `${found.slice(0, -1)}=`),
  );
  t.true(typed().every(({ status }) => status !== 0));
});

// ── Tampering ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Puts cases to all three, a block at a time, and holds every answer against the places that it may name. */
async function judge(t: ExecutionContext, e: Export, cases: Iterable<[string, Tampered]>): Promise<void> {
  const dir = path.join(scratch, `${e.size}-${e.seenSize}`);
  written(e.files, path.join(dir, 'log'));
  writeFileSync(path.join(dir, 'seen'), e.seen);
  const others = [new Outsider(goVerifier, [], dir), new Outsider(PYTHON, ['-B', 'tests/outside/verify.py'], dir)];
  const untouched = async (): Promise<void> => {
    const answers = await Promise.all(others.map(o => o.ask([new Map()])));
    t.deepEqual([ours(e, new Map()), ...answers.flat()], ['ok', 'ok', 'ok'], `${e.size} records as exported`);
  };
  try {
    await untouched();
    let block: [string, Tampered][] = [];
    for (const c of cases) {
      block.push(c);
      if (block.length < 64) continue;
      await settle(t, e, others, block);
      block = [];
    }
    await settle(t, e, others, block);
    await untouched();
  } finally {
    for (const o of others) o.close();
  }
}

async function settle(
  t: ExecutionContext,
  e: Export,
  others: readonly Outsider[],
  block: readonly [string, Tampered][],
) {
  const overlays = block.map(([, c]) => c.overlay);
  const asked = Promise.all(others.map(o => o.ask(overlays)));
  const own = overlays.map(o => ours(e, o)); // while the others are at it
  const [go, python] = await asked;
  const wrong: string[] = [];
  for (const [i, [name, { places }]] of block.entries())
    for (const [who, lines] of [
      ['ours', own],
      ['Go', go!],
      ['Python', python!],
    ] as const)
      if (!places.some(p => pointsAt(lines[i]!, p)))
        wrong.push(`${e.size} records, ${name}: ${who} says "${lines[i]}", not "${places.join('" or "')}"`);
  t.deepEqual(wrong, []);
}

/** Sizes at the edges of the tree's shape, seen heads at the edges of theirs; the largest has three tiles and one above them. */
const LOGS: readonly { readonly size: number; readonly seenSize: number; readonly share: number }[] = [
  { size: 1, seenSize: 1, share: 1 },
  { size: 2, seenSize: 1, share: 1 },
  { size: 5, seenSize: 5, share: 1 },
  { size: 8, seenSize: 3, share: 1 },
  { size: 17, seenSize: 16, share: 1 },
  { size: 33, seenSize: 20, share: 1 },
  { size: 40, seenSize: 1, share: 1 },
  { size: 600, seenSize: 300, share: 0.5 },
];
const CASES = soak ? 100_000 : 510;

withOutsiders('three verifiers reject every tampered log, and name the place', async t => {
  if (soak) t.timeout(4 * 3_600_000);
  const deeds = Object.keys(DEEDS);
  const counts = new Map(deeds.map(d => [d, 0]));
  const made = LOGS.map(({ size, seenSize, share }, i) => ({
    e: new Export(makeRecords(size, i + 1), seenSize),
    share,
  }));
  const machines = [...machineLog.files].flatMap(([name, bytes]) =>
    /entries/.test(name) ? readFrames(bytes).records : [],
  );
  const logs = [...made, { e: new Export(machines, machines.length >> 1), share: 1 }];
  const shares = logs.reduce((sum, { share }) => sum + share, 0);
  const started = performance.now();
  for (const [i, { e, share }] of logs.entries()) {
    const random = makeRandom(1000 + i);
    const most = Math.ceil((CASES * share) / shares);
    await judge(t, e, drawn(e, most, deeds, random, counts));
  }
  const total = [...counts.values()].reduce((a, b) => a + b);
  t.true(total >= CASES, `${total} cases`);
  for (const [deed, count] of counts) t.true(count > 0, deed);
  if (soak) t.log([...counts].map(([deed, count]) => `${count} ${deed}`).join('\n'));
  t.log(`${total} cases of ${deeds.length} kinds in ${((performance.now() - started) / 1000).toFixed(0)} s`);
});

function* drawn(
  e: Export,
  most: number,
  deeds: readonly string[],
  random: (n: number) => number,
  counts: Map<string, number>,
): Generator<[string, Tampered]> {
  for (let made = 0, turn = 0; made < most; turn++) {
    const deed = deeds[turn % deeds.length]!;
    const c = tamper(e, deed, random);
    if (c === null) continue;
    counts.set(deed, counts.get(deed)! + 1);
    yield [`${deed} (${made++})`, c];
  }
}

// ── What only a reader of records can see ────────────────────────────────────────────────────────────────────────────────────────────

/** Our verifier's answer about a log of these records, truly signed. */
function read(records: readonly Uint8Array[], trust: Partial<LogTrust> = {}): VerifiedLog | string {
  const files = new TestLog(records).files(records.length, SIGNERS.log, SIGNERS.witness);
  const answer = verifyFiles(files.keys(), name => files.get(name) ?? null, { key: SIGNERS.log.key, ...trust });
  return isRefusal(answer) ? answer.message : answer;
}

const power = { 'arena8.op': 'boot', 'arena8.boot': 0, 'arena8.time_ns': '5' };
const config = { 'arena8.op': 'config', 'arena8.boot': 0, 'arena8.time_ns': '7' };
const submit = { ...config, 'arena8.op': 'submit' };
const infer = { ...config, 'arena8.op': 'infer', 'arena8.submitted': 1 };
const records = (...list: JsonObject[]): Uint8Array[] =>
  list.map((fields, i) => encoded({ 'arena8.record': i, ...fields }));

test('a log that its own key has signed is read critically all the same', t => {
  const reject = { ...config, 'arena8.op': 'reject' }; // was never admitted, so it ends no other record
  t.like(read(records(power, submit, reject, infer)), { boots: 1, open: 0 });
  const cases: [string, Uint8Array[]][] = [
    ['it calls itself 7', records(power, { ...config, 'arena8.record': 7 })],
    ['no arena8.boot', records({ 'arena8.op': 'boot', 'arena8.time_ns': '5' })],
    ['boot of power-on 1, where that of 0 is to be', records({ ...power, 'arena8.boot': 1 })],
    ['config of power-on 0, where that of -1 is to be', records(config)],
    ['boot of power-on 0, where that of 1 is to be', records(power, power)],
    ['config of power-on 1, where that of 0 is to be', records(power, { ...config, 'arena8.boot': 1 })],
    ['at 4 ns, after one at 7', records(power, config, { ...config, 'arena8.time_ns': '4' })],
    ['infer of the request of record 1, which was not waiting', records(power, config, infer)],
    ['infer of the request of record 1, which was not waiting', records(power, submit, infer, infer)],
    ...(['infer', 'stream', 'score', 'cancel', 'timeout', 'exhausted', 'fault'] as const).map(
      (op): [string, Uint8Array[]] => [
        `${op} does not say which request it ends`,
        records(power, submit, { ...config, 'arena8.op': op }),
      ],
    ),
    [
      'admits a request before that of record 1, of power-on 0, has its end',
      records(power, submit, { ...power, 'arena8.boot': 1 }, { ...submit, 'arena8.boot': 1 }),
    ],
    ['unknown operation', records(power, { ...config, 'arena8.op': 'chat' })],
    ['unknown attribute arena8.colour', records(power, { ...config, 'arena8.colour': 'red' })],
    ['config does not say arena8.cycles', records(power, { ...config, 'arena8.cycles': '1' })],
    ['arena8.time_ns is not what it should be', records(power, { ...config, 'arena8.time_ns': 7 })],
    ['arena8.time_ns is not what it should be', records(power, { ...config, 'arena8.time_ns': '07' })],
    ['arena8.digest is not what it should be', records(power, { ...config, 'arena8.digest': 'AB' })],
    ['arena8.name is not what it should be', records(power, { ...config, 'arena8.name': 'x'.repeat(65) })],
    ['not a JSON object', [...records(power), new Uint8Array(Buffer.from('[1]'))]],
    ['JSON, byte 0', [...records(power), new Uint8Array(Buffer.from(' {}'))]],
    ['JSON, byte 7', [...records(power), new Uint8Array(Buffer.from('{"b":1,"a":2}'))]],
  ];
  for (const [why, list] of cases) {
    const place = `tile/entries/000.p/${list.length}: record `;
    const line = read(list);
    t.true(typeof line === 'string' && line.startsWith(place) && line.includes(why), `${why}: ${JSON.stringify(line)}`);
  }
});

test('heads seen before and witnesses say what the key alone cannot', t => {
  const log = new TestLog(makeRecords(60, 1));
  const another = turned(log.records, 60, 25, makeRandom(1));
  const seen = [10, 20, 30].map(size => log.checkpoint(size, SIGNERS.log));
  const accepted = { checkpoint: { size: 60 } };
  t.like(read(log.records, { seen }), accepted);
  t.like(read(another), accepted); // to whoever has seen nothing, another past is as good as any
  t.like(read(another, { seen: seen.slice(0, 2) }), accepted);
  t.is(read(another, { seen }), 'checkpoint: fork: of the 30 records that were seen, one in 20…29 is another');
  t.is(read(log.records.slice(0, 29), { seen }), 'checkpoint: rollback: 29 records, 30 were seen');
  const foreign = new TestLog(log.records).checkpoint(10, SIGNERS.otherWitness);
  t.regex(String(read(log.records, { seen: [foreign] })), /^seen head 1: /);

  const [one, other] = [SIGNERS.witness.key, SIGNERS.otherWitness.key];
  const found = read(log.records, { witnesses: [one, other], threshold: 1 });
  t.like(found, { checkpoint: { witnessed: [{ key: one, time: 1_790_000_001 }] } });
  t.is(read(log.records, { witnesses: [one, other] }), 'checkpoint: not cosigned by witness.example/w2');
});

const heap = (): number => {
  globalThis.gc?.();
  return process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
};

test('a log is read once, tile by tile, whatever its size', t => {
  const size = soak ? 1_000_000 : 66_000;
  const list = { length: size, at: (i: number) => encoded({ 'arena8.record': i, ...(i === 0 ? power : config) }) };
  const tree = new Tree(undefined, nativeSha256);
  for (let i = 0; i < size; i++) tree.append(leafHash(list.at(i), nativeSha256));
  const head = signed(formatCheckpoint({ origin: SIGNERS.log.key.name, size, root: tree.root() }), SIGNERS.log);
  const paths = ['checkpoint', ...[...tilesOf(size)].map(tilePath)];
  const asked: string[] = [];
  const steps = verifyLog(paths, { key: SIGNERS.log.key, hash: nativeSha256 });
  const before = heap();
  let most = 0;
  let step = steps.next();
  for (; step.done !== true;) {
    asked.push(step.value);
    if (asked.length % 128 === 0) most = Math.max(most, heap() - before);
    const name = parseTilePath(step.value);
    if (isRefusal(name)) step = steps.next(head);
    else if (name.level !== 'entries') step = steps.next(tileHashes(tree, name.level, name.index, name.width));
    else {
      const records = Array.from({ length: name.width }, (_, i) => frame(list.at(name.index * TILE_WIDTH + i)));
      step = steps.next(joined(...records));
    }
  }
  t.like(step.value, { checkpoint: { size }, boots: 1, open: 0 });
  t.deepEqual(asked.toSorted(), paths.toSorted());
  t.true(most < 4 << 20, `${most} bytes more than before`);
});
