// Looking at a machine from outside changes nothing of it: not a byte of its arena or its files, not its clock, its log, its trace, and not
// what it does next. What is shared in a link is what the link gives back, and comes to the same state on every host; a link that somebody has
// tampered with is refused in one line.
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { boot, BUILD_DIGEST, type BootOptions, type Machine, type RunState } from '../boot/index.ts';
import type { StopAt } from '../boot/machine.ts';
import { formatLink, LINK_LIMITS, parseLink, replay, sharedOptions, type Replayed, type Share } from '../boot/share.ts';
import { Tty } from '../drivers/tty/tty.ts';
import { E, isRefusal, KIND, LIMITS, TRACE, TraceRecord, utf8Decode, utf8Encode } from '../kernel/abi/index.ts';
import { BROWSERS, bundled, transcriptOf, type Site } from './support/browser.ts';

const image = readFileSync('build/boot.cpio');
const powerOn = (options: Partial<BootOptions> = {}): Machine => boot({ image, ...options });

const text = (bytes: Uint8Array | number): string =>
  typeof bytes === 'number' ? `errno ${-bytes}` : utf8Decode(bytes);

const soak = process.env['ARENA8_SOAK'] === '1';

// ── Looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Every file and directory that can be looked at, from `path` down; devices and what cannot be read answer with their errno. */
function everything(machine: Machine, directory: string, seen: Map<string, string> = new Map()): Map<string, string> {
  const entries = machine.observeList(directory);
  if (typeof entries === 'number') return seen.set(directory, `errno ${-entries}`);
  for (const { name, kind, bytes } of entries) {
    const child = directory === '/' ? `/${name}` : `${directory}/${name}`;
    if (kind === KIND.dir) everything(machine, child, seen);
    else seen.set(child, text(machine.observe(child, 0, bytes < 100_000 ? Infinity : 100)));
  }
  return seen;
}

/** Looks at everything that can be looked at, and finds the machine as it was. */
function look(t: ExecutionContext, machine: Machine, from: readonly string[]): void {
  const before = [
    machine.kernel.arenaDigest(),
    machine.nowNs(),
    machine.kernel.audit?.next,
    machine.traceSince(0).total,
  ];
  for (const directory of from) everything(machine, directory);
  if (from.includes('/')) machine.stateDigest();
  machine.traceSince(0);
  t.deepEqual(
    [machine.kernel.arenaDigest(), machine.nowNs(), machine.kernel.audit?.next, machine.traceSince(0).total],
    before,
  );
}

/** What a life leaves behind. */
interface Traces {
  readonly digests: readonly string[];
  readonly outputs: readonly string[];
  readonly trace: Uint8Array;
  readonly kmsg: string;
  readonly times: readonly string[];
  readonly state: string;
}

/** When everything in the tree was read, written and changed last, in nanoseconds. */
function timesOf(machine: Machine): string[] {
  return [...everything(machine, '/').keys(), '/etc', '/home', '/tmp', '/'].map(file => {
    const stat = machine.kernel.vfs.stat('/', file, false);
    return typeof stat === 'number' ? file : `${file} ${stat.accessedNs} ${stat.modifiedNs} ${stat.changedNs}`;
  });
}

const COMMANDS = [
  'llmctl load /models/fable-q4_0.gguf --ctx 128',
  'llminfer --json --seed 3 --max-tokens 12 Once upon a time',
  'llminfer --max-tokens 20 --temp 0 The old man & llminfer --max-tokens 20 Lily; wait',
  'ln -s /etc/rc /tmp/rc; sleep 1; cat /tmp/rc > /dev/null; sleep 1; stat /tmp/rc /etc/rc /etc /bin /home; ls -la /tmp',
  'mkdir /tmp/model; mount -t gguf /models/fable-q4_0.gguf /tmp/model; cat /tmp/model/metadata/general.name; iostat',
  'echo "alice read *" >> /etc/llm/rights; cat /proc/rights; llmctl audit list | tail -n 3',
  'cat /audit/head; cat /audit/salt/2; tail -n 3 /audit/log; cat /proc/clock /proc/kv /proc/trace',
];

/** A machine turned round by round, or from stop to stop; `looks` after each. */
function lived(
  looks: (machine: Machine, state: RunState) => void,
  commands: readonly string[] = COMMANDS,
  stopAt: StopAt | null = null,
): Traces {
  const machine = powerOn();
  const { kernel } = machine;
  const run = kernel.run.bind(kernel);
  kernel.run = slices => {
    machine.stopAt = stopAt;
    const state = run(slices);
    looks(machine, state);
    return state;
  };
  const outputs: string[] = [];
  const digests: string[] = [];
  for (const command of commands) {
    const { status, stdout, stderr } = machine.exec(command);
    outputs.push(`${status}\n${stdout}\n${stderr}`);
    digests.push(kernel.arenaDigest());
  }
  const { bytes: trace } = machine.traceSince(0);
  const kmsg = text(machine.observe('/proc/kmsg'));
  return { digests, outputs, trace, kmsg, times: timesOf(machine), state: machine.stateDigest() };
}

test('a machine that is looked at after every round is the one that nobody looks at', t => {
  let rounds = 0;
  const alone = lived(() => {});
  const watched = lived(machine => look(t, machine, rounds++ % (soak ? 1 : 40) === 0 ? ['/'] : ['/proc', '/audit']));
  t.true(rounds > 50, `${rounds}`);
  t.deepEqual(watched, alone);
});

test('a processor that is held in the middle of a pass may be looked at', t => {
  const commands = [
    'llminfer --max-tokens 2 Lily & llminfer --seed 1 --max-tokens 2 The old man; wait',
    'llmctl load /models/fable-q4_0.gguf --ctx 64 --stream --tile 16K --pin 0',
    'llminfer --max-tokens 2 Lily',
    'cat /proc/clock /proc/stream /audit/head',
  ];
  const alone = lived(() => {}, commands);
  let stops = 0;
  const watched = lived(
    (machine, state) => {
      if (state !== 'stopped' || stops++ % (soak ? 1 : 14) !== 0) return;
      t.regex(text(machine.observe('/proc/step')), /^state held$/m);
      look(t, machine, stops % (soak ? 10 : 140) === 1 ? ['/'] : ['/proc', '/audit']);
    },
    commands,
    'op',
  );
  t.true(stops > 300, `${stops}`);
  t.deepEqual(watched, alone);
});

test('the machine may be looked at in the middle of a system call', t => {
  const share = shareOf({
    commands: ['cat /proc/ps /proc/quotas', 'llminfer --max-tokens 8 Lily', 'ls -l /audit', 'exit 3'],
  });
  let machine: Machine | null = null;
  let looks = 0;
  const alone = replayed(share);
  const { done, output } = replayed(share, {
    made: made => (machine = made),
    output: () => {
      if (machine === null || looks++ % 10 !== 0) return;
      look(t, machine, ['/proc', '/audit']);
    },
  });
  t.true(looks > 50, `${looks}`);
  t.deepEqual({ done, output }, alone);
});

test('what is looked at is what the superuser reads, whoever is at work', t => {
  const machine = powerOn({ user: 'user' });
  const read = (file: string): string => text(machine.observe(file));
  machine.exec('echo secret > /tmp/mine; chmod 600 /tmp/mine; ln -s /tmp/mine /home/user/link; ln -s mine /tmp/link');
  t.is(read('/tmp/mine'), 'secret\n');
  t.is(read('/home/user/link'), 'secret\n', 'links are followed');
  t.is(machine.observe('/tmp/link'), -E.ACCES, 'but not where the superuser would not: protected_symlinks');
  t.is(read('/etc/hostname'), machine.exec('cat /etc/hostname').stdout);
  t.is(read('/proc/version'), machine.exec('cat /proc/version').stdout);
  t.true(read('/proc/arena').startsWith('region start end'));
  t.is(text(machine.observe('/etc/hostname', 3, 2)), read('/etc/hostname').slice(3, 5));
  t.is(text(machine.observe('/proc/version', 7, 5)), read('/proc/version').slice(7, 12));
  t.is(text(machine.observe('/etc/hostname', 100)), '');
  t.deepEqual(machine.observe('/dev/mem', 0, 64), new Uint8Array(64), 'devices with positions');
  t.is((machine.observe('/dev/ram0') as Uint8Array).length, image.length);
  for (const [file, errno] of [
    ['/nowhere', E.NOENT],
    ['/etc', E.ISDIR],
    ['/etc/hostname/x', E.NOTDIR],
    ['/dev/random', E.INVAL],
    ['/dev/console', E.INVAL],
    ['/dev/trace', E.INVAL],
    ['/audit/salt/0', E.NOENT],
  ] as const)
    t.is(machine.observe(file), -errno, file);
});

test('the superuser looks, even while a program of somebody else writes', t => {
  const seen: string[] = [];
  let machine: Machine | null = null;
  const console = new Tty({
    interactive: false,
    output: () => void seen.push(text(machine!.observe('/proc/audit')), text(machine!.observe('/etc/shadow'))),
  });
  machine = powerOn({ user: 'user', console });
  const pid = machine.start(['sh', '-c', 'cat /proc/audit > /tmp/own; cat /etc/hostname']);
  while (machine.statusOf(pid) === undefined) machine.run(1);
  t.deepEqual(seen, [text(machine.observe('/proc/audit')), text(machine.observe('/etc/shadow'))]);
  t.true(seen[0]!.length > text(machine.observe('/tmp/own')).length, 'the program itself saw its own only');
});

test('directories are listed in order, links as links, and what is mounted as what it is', t => {
  const machine = powerOn();
  machine.exec('mkdir /tmp/b; echo 12345 > /tmp/a; ln -s /etc /tmp/c; mkdir /tmp/m');
  machine.exec('mount -t gguf /models/fable-q4_0.gguf /tmp/m');
  t.deepEqual(machine.observeList('/tmp'), [
    { name: 'a', kind: KIND.file, bytes: 6 },
    { name: 'b', kind: KIND.dir, bytes: 0 },
    { name: 'c', kind: KIND.link, bytes: 4 },
    { name: 'm', kind: KIND.dir, bytes: 0 },
  ]);
  t.is(machine.observeList('/tmp/a'), -E.NOTDIR);
  t.is(machine.observeList('/tmp/x'), -E.NOENT);
  t.is(machine.observeList('/tmp/m'), -E.NOTSUP, 'fs-gguf reads in the time of the machine');
  t.is(machine.observe('/tmp/m/metadata/general.name'), -E.NOTSUP);
  t.deepEqual(machine.observeList('/audit/salt'), [], 'nobody discloses by accident');
});

test('the audit log is shown as it is stored: nothing is stored for who looks', t => {
  const machine = powerOn();
  machine.exec('llmctl sched --bound 80');
  const { next, size } = machine.kernel.audit!;
  const head = text(machine.observe('/audit/head'));
  t.is(head.split('\n')[1], `${size}`);
  t.is(text(machine.observe('/audit/log')).trimEnd().split('\n').length, size);
  t.is(machine.kernel.audit!.next, next);
});

test('the trace is told in pieces, and what was lost between them is counted', t => {
  const machine = powerOn();
  const all = machine.traceSince(0);
  t.is(all.bytes.length, all.total * TraceRecord.bytes);
  machine.exec('llminfer --max-tokens 4 Lily');
  const news = machine.traceSince(all.total);
  t.is(news.total, all.total + news.bytes.length / TraceRecord.bytes);
  t.is(news.dropped, 0);
  t.deepEqual(Buffer.from(machine.traceSince(0).bytes), Buffer.concat([all.bytes, news.bytes]));
  t.is(machine.traceSince(news.total).bytes.length, 0);
  const { kind } = TraceRecord.read(news.bytes, 0);
  t.true(kind > 0 && kind < TRACE.length);
  while (machine.traceSince(0).total < LIMITS.traceRecords + 100)
    machine.exec('llminfer --max-tokens 400 --temp 0 Lily');
  const late = machine.traceSince(all.total);
  t.is(late.dropped, late.total - LIMITS.traceRecords - all.total);
  t.is(late.bytes.length, LIMITS.traceRecords * TraceRecord.bytes);
});

// ── What lies where ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Rows of a table of /proc by its titles. */
function table(bytes: Uint8Array | number): Record<string, string>[] {
  const [titles = [], ...rows] = text(bytes)
    .trimEnd()
    .split('\n')
    .map(line => line.split('\t'));
  return rows.map(row => Object.fromEntries(row.map((cell, i) => [titles[i]!, cell])));
}

for (const options of ['', '--stream --tile 16K --pin 0'])
  test(`/proc/tensors: what the arena and the file hold ${options}`, t => {
    const machine = powerOn();
    machine.exec('llmctl unload');
    t.is(text(machine.observe('/proc/tensors')), '');
    t.is(machine.exec(`llmctl load /models/fable-q4_0.gguf --ctx 64 ${options}`).status, 0);
    machine.exec('mkdir /tmp/m; mount -t gguf /models/fable-q4_0.gguf /tmp/m');
    const rows = table(machine.observe('/proc/tensors'));
    const names = machine.exec('ls /tmp/m/tensors').stdout.trim().split('\n');
    t.deepEqual(rows.map(r => r['name']!).sort(), names.sort());
    const file = machine.observe('/models/fable-q4_0.gguf') as Uint8Array;
    const [, from, to] = /^weights (\d+) (\d+) /m.exec(text(machine.observe('/proc/arena')))!.map(Number);
    let resident = 0;
    for (const r of rows) {
      const of = (what: string): string => machine.exec(`cat /tmp/m/tensors/${r['name']}/${what}`).stdout.trim();
      t.is(
        `${r['fileType']} ${r['shape']} ${r['fileAt']} ${r['fileBytes']}`,
        `${of('type')} ${of('shape').replaceAll(' ', 'x')} ${of('offset')} ${of('size')}`,
      );
      const [at, bytes, fileAt] = [Number(r['at']), Number(r['bytes']), Number(r['fileAt'])];
      if (at === 0) {
        t.is(bytes, 0);
        continue;
      }
      resident++;
      t.true(at >= from! && at + bytes <= to!);
      if (r['fileType'] === 'F32')
        t.deepEqual(machine.arena.u8.slice(at, at + bytes), file.slice(fileAt, fileAt + bytes));
    }
    t.is(resident === rows.length, options === '');
  });

test('/proc/pages: a line a page, and who names it', t => {
  const machine = powerOn();
  machine.exec('llmctl unload');
  t.is(text(machine.observe('/proc/pages')), '');
  machine.exec('llmctl load /models/fable-q4_0.gguf --ctx 128 --pages 6');
  const story =
    'Once upon a time there was a little girl who lived in a small house near the sea with her mother and a very old cat that slept all day long';
  const states = new Set<string>();
  const check = (): void => {
    const rows = table(machine.observe('/proc/pages'));
    const sessions = table(machine.observe('/proc/sessions'));
    const kv = Object.fromEntries(
      text(machine.observe('/proc/kv'))
        .trimEnd()
        .split('\n')
        .map(line => line.split(' ')),
    );
    const count = (state: string): number => rows.filter(r => r['state'] === state).length;
    t.is(rows.length - count('swapped'), Number(kv['total']));
    for (const state of ['free', 'cached', 'shared', 'swapped']) t.is(count(state), Number(kv[state]), state);
    for (const r of rows) states.add(r['state']!);
    for (const s of sessions) {
      const own = rows.filter(r => r['sessions']!.split(',').includes(s['id']!));
      const swapped = own.filter(r => r['state'] === 'swapped');
      if (['DONE', 'QUEUED'].includes(s['state']!)) t.is(own.length, 0);
      else t.deepEqual([own.length - swapped.length, swapped.length], [Number(s['pages']), Number(s['swappedPages'])]);
      t.true(own.every(r => r['uid'] === s['uid']));
      const firsts = own.map(r => Number(r['first'])).sort((x, y) => x - y);
      t.deepEqual(
        firsts,
        firsts.map((_, n) => 32 * n),
        'from the first position on',
      );
    }
  };
  for (const who of ['user', 'root'])
    for (const seed of [1, 2]) {
      machine.exec(`su ${who} -c 'llminfer --seed ${seed} --detach --max-tokens 80 ${story}'; sleep 0.3`);
      check();
    }
  for (let i = 0; i < 200; i++) {
    machine.run(1);
    check();
  }
  t.deepEqual([...states].sort(), ['cached', 'free', 'shared', 'swapped', 'used']);
  const seen = table(utf8Encode(machine.exec("su user -c 'cat /proc/pages'").stdout));
  t.true(seen.length > 0 && seen.every(r => ['-', '1000'].includes(r['uid']!)));
  t.true(seen.some(r => r['state'] !== 'free' && r['uid'] === '-' && r['positions'] === '-'));
});

// ── Storing ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a file from outside lies where it is put, whole or not at all', t => {
  const machine = powerOn();
  const nowNs = machine.nowNs();
  const arena = machine.kernel.arenaDigest();
  t.is(machine.store('/home/user/new/a.txt', utf8Encode('one\n')), 0);
  t.is(machine.store('/home/user/b.txt', utf8Encode('two\n')), 0);
  t.is(machine.store('/home/user/b.txt', utf8Encode('three\n')), 0);
  t.deepEqual([machine.nowNs(), machine.kernel.arenaDigest()], [nowNs, arena]);
  t.is(machine.exec('cat /home/user/new/a.txt /home/user/b.txt').stdout, 'one\nthree\n');
  t.regex(machine.exec('ls -l /home/user/b.txt').stdout, /^-rw-r--r-- 1 user user 6 /);
  t.is(machine.store('/etc', utf8Encode('x')), -E.ISDIR);
  t.is(machine.store('/proc/version', utf8Encode('x')), -E.ROFS);
  t.is(machine.store('/dev/null', utf8Encode('x')), -E.INVAL);
  t.is(machine.store('/audit/ctl', utf8Encode('content off')), -E.ROFS);
  t.is(machine.store('/etc/hostname/x', utf8Encode('x')), -E.NOTDIR);
  const before = everything(machine, '/home');
  t.is(machine.store('/home/user/b.txt', new Uint8Array(LIMITS.tmpfsBytes)), -E.NOSPC);
  t.deepEqual(everything(machine, '/home'), before, 'what is there stays');
  machine.exec('ln -s /home/user/b.txt /tmp/link');
  t.is(machine.store('/tmp/link', utf8Encode('four\n')), 0);
  t.is(machine.exec('cat /home/user/b.txt; readlink /tmp/link').stdout, 'four\n/home/user/b.txt\n');
});

test('rights that are put in from outside are in force, and recorded', t => {
  const machine = powerOn();
  const { stdout: before } = machine.exec('cat /proc/rights');
  t.is(machine.store('/etc/llm/rights', utf8Encode('user read *\n')), 0);
  t.is(text(machine.observe('/proc/rights')), before, 'looking does not make them so');
  t.is(machine.exec('cat /proc/rights').stdout, '1 user read *\n');
  t.is(text(machine.observe('/proc/rights')), '1 user read *\n');
});

// ── The digest of the state ──────────────────────────────────────────────────────────────────────────────────────────────────────────

test('the digest of the state is that of equal machines, and of no others', t => {
  const machine = powerOn();
  const other = powerOn({ build: 'simd128' });
  t.is(other.stateDigest(), machine.stateDigest());
  const seen = new Set([machine.stateDigest(), powerOn({ seed: 1 }).stateDigest()]);
  let expected = seen.size;
  t.is(expected, 2);
  for (const act of [
    (m: Machine) => m.store('/tmp/a', utf8Encode('a')),
    (m: Machine) => m.store('/tmp/a', utf8Encode('b')),
    (m: Machine) => m.store('/tmp/b', utf8Encode('b')),
    (m: Machine) => m.kernel.vfs.chmod('/', '/tmp/a', 0o600),
    (m: Machine) => m.kernel.vfs.chown('/', '/tmp/a', 7, 7),
    (m: Machine) => m.kernel.vfs.rename('/', '/tmp/a', '/tmp/c\nd'),
    (m: Machine) => m.kernel.vfs.symlink('/', '/etc', '/tmp/a'),
    (m: Machine) => m.kernel.vfs.mkdir('/', '/tmp/e', 0o755),
    (m: Machine) => m.kernel.vfs.unlink('/', '/tmp/b'),
    (m: Machine) => m.exec('sleep 1').status,
    (m: Machine) => m.exec('llminfer --max-tokens 1 Lily').status,
    (m: Machine) => m.exec('mkdir /tmp/f; mount -t tmpfs tmpfs /tmp/f').status,
  ]) {
    t.is(act(machine), 0);
    t.is(act(other), 0);
    t.is(machine.stateDigest(), other.stateDigest());
    seen.add(machine.stateDigest());
    t.is(seen.size, ++expected, `${act}`);
  }
});

// ── Links ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const shareOf = (given: Partial<Share> = {}): Share => ({
  seed: 0,
  target: '',
  columns: 80,
  rows: 24,
  commands: [],
  files: [],
  digest: '',
  build: '',
  ...given,
});

/** A link as anybody could make it; `behind`: bytes that follow its end. */
const packed = (bytes: Uint8Array | string, behind = 0): string =>
  `arena8=1.${Buffer.concat([deflateRawSync(bytes), Buffer.alloc(behind, 0x55)]).toString('base64url')}`;

/** As a link has it: bytes in base64url. */
const plainOf = (share: Share): object => ({
  ...share,
  files: share.files.map(({ path: at, bytes }) => ({ bytes: Buffer.from(bytes).toString('base64url'), path: at })),
});
/** Its fields in the order in which a link is read. */
const inOrder = ({ build, columns, commands, digest: state, files, rows, seed, target }: Share): object => ({
  build,
  columns,
  commands,
  digest: state,
  files: files.map(({ path: at, bytes }) => ({ bytes, path: at })),
  rows,
  seed,
  target,
});
const bytesAsList = (_: string, value: unknown): unknown => (value instanceof Uint8Array ? [...value] : value);

const digest = fc.oneof(fc.constant(''), fc.stringMatching(/^[0-9a-f]{64}$/));
const typable = fc.string({ unit: 'grapheme', maxLength: 60 }).filter(s => !/[\p{Cc}\p{Cs}]/u.test(s));
const name = typable.filter(s => s !== '' && s !== '.' && s !== '..' && !s.includes('/') && utf8Encode(s).length < 255);
const shares: fc.Arbitrary<Share> = fc.record({
  seed: fc.integer({ min: -(2 ** 31), max: 2 ** 32 - 1 }),
  target: fc.constantFrom('', 'cortex-a72', 'sifive-u74'),
  columns: fc.integer({ min: 2, max: LINK_LIMITS.sizeMax }),
  rows: fc.integer({ min: 2, max: LINK_LIMITS.sizeMax }),
  commands: fc.array(typable, { maxLength: 20 }),
  files: fc.array(
    fc.record({
      path: fc
        .tuple(fc.constantFrom('/home', '/tmp'), fc.array(name, { minLength: 1, maxLength: 4 }))
        .map(([d, n]) => [d, ...n].join('/')),
      bytes: fc.uint8Array({ maxLength: 300 }),
    }),
    { maxLength: 5 },
  ),
  digest,
  build: digest,
});

test('a link gives back what was put into it', async t => {
  await fc.assert(
    fc.asyncProperty(shares, async share => {
      const link = await formatLink(share);
      if (isRefusal(link)) return t.fail(link.message);
      t.regex(link, /^arena8=1\.[\w-]+$/);
      for (const url of [link, `#${link}`, `https://example.org/a/b/?q=1#${link}`]) {
        const back = await parseLink(url);
        if (back === null || isRefusal(back)) return t.fail(`${back?.message}`);
        t.is(JSON.stringify(back, bytesAsList), JSON.stringify(inOrder(share), bytesAsList));
      }
      const json = inflateRawSync(Buffer.from(link.slice('arena8=1.'.length), 'base64url')).toString();
      const keys = Object.keys(JSON.parse(json) as object);
      t.deepEqual(keys, keys.toSorted(), 'canonical');
      t.is(json, JSON.stringify(JSON.parse(json)));
    }),
    { numRuns: soak ? 2000 : 100 },
  );
});

/** One line that says why, and no exception. */
async function refused(t: ExecutionContext, link: string, why: RegExp): Promise<void> {
  const answer = await parseLink(link);
  if (answer === null || !isRefusal(answer)) return t.fail(`taken: ${link.slice(0, 60)}`);
  t.regex(answer.message, why);
  t.false(answer.message.includes('\n'), answer.message);
  t.true(answer.message.length < 200, answer.message);
}

test('what is no link of ours is none, and hostile ones are refused in one line', async t => {
  for (const url of ['', '#', 'https://example.org/', '#other=1.abc', 'arena', 'https://example.org/arena8=1.abc?x#y'])
    t.is(await parseLink(url), null, url);
  const plain = shareOf({ commands: ['ls'] });
  const json = (change: object): string => packed(JSON.stringify({ ...plain, ...change }));
  t.false(isRefusal(await parseLink(json({}))));
  await refused(t, `arena8=1.${'A'.repeat(LINK_LIMITS.characters)}`, /^link: 65545 characters, at most 65536$/);
  await refused(t, 'arena8=2.abc', /^link: version '2', this arena8 reads version 1$/);
  await refused(t, 'arena8=1', /version/);
  await refused(t, `arena8=${'9'.repeat(5000)}.abc`, /^link: version '9{20}'/);
  for (const digits of ['abc=', 'ab c', 'a', 'abcde', 'ab+/', '%41', 'é', 'AB'])
    await refused(t, `arena8=1.${digits}`, /not base64url/);
  await refused(t, 'arena8=1.', /does not inflate/);
  await refused(t, 'arena8=1._____w', /does not inflate/);
  const whole = packed(JSON.stringify(plain));
  await refused(t, whole.slice(0, -8), /not base64url|does not inflate/);
  await refused(t, packed(JSON.stringify(plain), 1), /does not inflate/);
  await refused(t, packed(JSON.stringify(plain), 100), /does not inflate/);
  await refused(t, packed(Uint8Array.of(0x22, 0xff, 0x22)), /no UTF-8/);
  await refused(t, packed('{"seed":'), /no JSON/);
  for (const value of ['null', '3', '"x"', '[]', '[{}]'])
    await refused(t, packed(value), /^link: what is in it is no object$/);
  await refused(t, json({ more: 1 }), /a field 'more' that nothing is known of/);
  await refused(t, packed('{"__proto__":{"seed":1}}'), /__proto__/);
  for (const seed of [1.5, -(2 ** 31) - 1, 2 ** 32, '0', null, undefined, [], true])
    await refused(t, json({ seed }), /^link: seed is no whole number/);
  for (const columns of [1, 1001, 80.5, '80', null])
    await refused(t, json({ columns }), /^link: columns is no whole number from 2 to 1000$/);
  for (const rows of [0, -3, 1e9, {}]) await refused(t, json({ rows }), /^link: rows/);
  for (const target of ['A72', '../x', 7, null, 'x'.repeat(41)])
    await refused(t, json({ target }), /^link: target is not the name/);
  for (const commands of ['ls', { 0: 'ls' }, null]) await refused(t, json({ commands }), /^link: commands is no list$/);
  for (const command of [1, null, 'a\rb', 'a\nb', '\x03', '\x1b[A', 'a\tb', '\x7f', '\u0085', '\ud800', ['ls']])
    await refused(t, json({ commands: ['ls', command] }), /^link: commands\[1\] is no line of text$/);
  await refused(
    t,
    json({ commands: ['x'.repeat(LIMITS.lineBytes)] }),
    /^link: commands\[0\] has 65536 bytes, a line at most 65535$/,
  );
  await refused(t, json({ commands: Array.from({ length: 1001 }, () => 'ls') }), /^link: 1001 commands, at most 1000$/);
  for (const file of [
    '/etc/passwd',
    '/home',
    '/home/',
    '/home//a',
    '/home/../etc/rc',
    '/home/user/../../etc/rc',
    '/home/./a',
    'home/a',
    '../a',
    '/tmp/a/',
    '/tmp/a\0b',
    '/tmp/a\nb',
    `/tmp/${'n'.repeat(255)}`,
    `/tmp${'/nnnnnnnnn'.repeat(410)}`,
    3,
    null,
  ])
    await refused(
      t,
      json({ files: [{ path: file, bytes: '' }] }),
      /^link: files\[0\]\.path is no path of a file in \/home\/ or \/tmp\/$/,
    );
  for (const bytes of ['=', 'a', 7, null, [1]])
    await refused(t, json({ files: [{ path: '/tmp/a', bytes }] }), /^link: files\[0\]\.bytes is not base64url$/);
  await refused(t, json({ files: [{ path: '/tmp/a', bytes: '', mode: 7 }] }), /^link: files\[0\] has a field 'mode'/);
  await refused(
    t,
    json({ files: Array.from({ length: 65 }, () => ({ path: '/tmp/a', bytes: '' })) }),
    /^link: 65 files, at most 64$/,
  );
  for (const wrongDigest of ['x', 'A'.repeat(64), 'a'.repeat(63), 1])
    await refused(t, json({ digest: wrongDigest }), /^link: digest is not the digest of a state$/);
  await refused(t, json({ build: 'z' }), /^link: build/);
});

test('a link that inflates without end is refused as soon as it is too much', async t => {
  const bomb = packed(new Uint8Array(40 * 1024 * 1024)); // 40 MiB of zeros in 54 KiB
  t.true(bomb.length < LINK_LIMITS.characters);
  await refused(t, bomb, /^link: it inflates to more than 1048576 bytes$/);
  const spaces = packed(`${' '.repeat(LINK_LIMITS.inflatedBytes)}{}`);
  await refused(t, spaces, /inflates to more than/);
});

test('whatever is done to a link, it is refused or says something that may be shared', async t => {
  const link = packed(
    JSON.stringify(shareOf({ commands: ['ls', 'llminfer Lily'], files: [{ path: '/tmp/a', bytes: 'AAAA' as never }] })),
  );
  await fc.assert(
    fc.asyncProperty(fc.nat(link.length - 1), fc.string({ maxLength: 3 }), fc.nat(3), async (at, put, cut) => {
      const answer = await parseLink(link.slice(0, at) + put + link.slice(at + cut));
      if (answer === null || isRefusal(answer)) return t.pass();
      return t.false(isRefusal(await formatLink(answer)));
    }),
    { numRuns: soak ? 5000 : 300 },
  );
  await fc.assert(
    fc.asyncProperty(fc.jsonValue(), async value => {
      const answer = await parseLink(packed(JSON.stringify(value)));
      t.true(isRefusal(answer));
    }),
    { numRuns: soak ? 2000 : 100 },
  );
});

test('what does not fit into a link is refused with its length', async t => {
  let state = 1;
  const noise = Uint8Array.from({ length: 60_000 }, () => (state = Math.imul(state, 1103515245) + 12345) >>> 16);
  const link = await formatLink(shareOf({ files: [{ path: '/home/user/noise', bytes: noise }] }));
  t.true(
    isRefusal(link) &&
      /^link: it would have \d{5} characters, at most 65536: share fewer or smaller files$/.test(link.message),
    JSON.stringify(link),
  );
  const large = await formatLink(shareOf({ files: [{ path: '/home/user/zeros', bytes: new Uint8Array(2 ** 20) }] }));
  t.true(
    isRefusal(large) && /^link: \d{7} bytes of commands and files, at most 1048576$/.test(large.message),
    JSON.stringify(large),
  );
  const escaping = await formatLink(shareOf({ files: [{ path: '/etc/rc', bytes: noise.slice(0, 1) }] }));
  t.true(isRefusal(escaping));
});

for (const [browser, file] of BROWSERS) {
  const here = existsSync(file);
  const declare = here || process.env['CI'] === 'true' ? test.serial : test.serial.skip;
  declare(`${file} makes and reads links as Node does`, async t => {
    t.timeout(120_000);
    if (!here) return t.fail(`${file} is missing`);
    const plain = JSON.stringify(shareOf());
    const links = [
      '#other',
      packed(plain),
      packed(plain, 1),
      packed(plain, 50),
      packed(plain).slice(0, -4),
      packed(plain.slice(1)),
      packed(new Uint8Array(40 * 1024 * 1024)),
      packed(Uint8Array.of(0xff)),
      'arena8=1.',
      'arena8=1.____',
      'arena8=2.x',
      ...fc.sample(shares, 20).map(share => packed(JSON.stringify(plainOf(share)))),
    ];
    const given = shareOf({
      seed: 3,
      commands: ['echo zażółć 👍'],
      files: [{ path: '/tmp/a', bytes: new Uint8Array(3000).fill(7) }],
    });
    const page = `
import { formatLink, parseLink } from './boot/web/protocol/link.ts';
const plain = (_, value) => (value instanceof Uint8Array ? [...value] : value);
const answers = [];
for (const link of ${JSON.stringify(links)}) answers.push(JSON.stringify(await parseLink(link), plain));
const given = ${JSON.stringify(plainOf(given))};
const files = given.files.map(({ path }) => ({ path, bytes: new Uint8Array(3000).fill(7) }));
globalThis.transcript = { answers, link: await formatLink({ ...given, files }) };
`;
    const site: Site = new Map([['/page.js', ['text/javascript', await bundled(page)]]]);
    const { answers, link } = (await transcriptOf(t, browser, file, site)) as { answers: string[]; link: string };
    for (const [i, answer] of answers.entries())
      t.is(answer, JSON.stringify(await parseLink(links[i]!), bytesAsList), links[i]!.slice(0, 80));
    t.deepEqual(JSON.stringify(await parseLink(link), bytesAsList), JSON.stringify(inOrder(given), bytesAsList));
    return undefined;
  });
}

// ── Coming to it again ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Run {
  readonly done: Replayed;
  readonly output: string;
}

function replayed(
  share: Share,
  hooks: { made?: (machine: Machine) => void; output?: () => void; build?: 'simd128' | 'relaxed' } = {},
): Run {
  let output = '';
  const shared = sharedOptions(share, bytes => {
    output += utf8Decode(bytes);
    hooks.output?.();
  });
  const machine = powerOn({ ...shared, ...(hooks.build === undefined ? {} : { build: hooks.build }) });
  hooks.made?.(machine);
  const steps = replay(machine, shared.console, share);
  for (;;) {
    const step = steps.next();
    if (step.done !== true) continue;
    if (isRefusal(step.value)) throw new Error(step.value.message);
    return { done: step.value, output };
  }
}

test('a replay comes to the same bytes, through a link and back', async t => {
  const share = shareOf({
    seed: 7,
    columns: 60,
    rows: 12,
    commands: [
      'cat a.txt; ls /',
      'llminfer --seed 3 --max-tokens 8 Once',
      'for i in 1 2',
      'do echo $i',
      'done',
      'head -c 4 /dev/random | od -x',
      'cat > /tmp/typed',
      'a line',
    ],
    files: [{ path: '/home/a.txt', bytes: utf8Encode('zażółć 日本\n') }],
  });
  const first = replayed(share);
  t.is(first.done.given, share.commands.length);
  t.true(first.output.includes('zażółć 日本'));
  const link = await formatLink({ ...share, digest: first.done.digest, build: BUILD_DIGEST });
  const back = await parseLink(link as string);
  if (back === null || isRefusal(back)) return t.fail();
  t.deepEqual(replayed(back), first);
  t.deepEqual(replayed(back, { build: 'simd128' }).done, first.done, 'on every build of the kernels');
  t.is(back.digest, first.done.digest);
  t.not(replayed({ ...back, seed: 8 }).done.digest, first.done.digest);
  t.not(replayed({ ...back, columns: 30 }).output, first.output);
  return undefined;
});

test('a line is typed when everything waits, and when a program takes keys one by one and has had its second', t => {
  const { done, output } = replayed(
    shareOf({ commands: ['sleep 3', 'echo after', 'top', 'q', 'echo behind', 'less /etc/rc', 'q', 'echo end'] }),
  );
  t.is(done.given, 8);
  t.regex(output, /after[^]*behind[^]*end/);
});

test('a shell that ends takes the rest with it', t => {
  const { done } = replayed(shareOf({ commands: ['exit 4', 'echo never'] }));
  t.is(done.given, 1);
});

// ── arena8 share ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const word = (args: readonly string[], input = ''): { status: number | null; stdout: string; stderr: string } => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['build/arena8.js', 'share', ...args], {
    encoding: 'utf8',
    input,
  });
  return { status, stdout, stderr };
};

test('arena8 share makes a link and comes to it again; its status says whether it is the same', async t => {
  const directory = mkdtempSync(path.join(tmpdir(), 'arena8-share-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  writeFileSync(path.join(directory, 'note.txt'), 'a note\n');
  const file = path.join(directory, 'note.txt');
  const made = word([
    '--make',
    '--seed',
    '5',
    '--size',
    '70x20',
    '--file',
    file,
    '--url',
    'https://example.org/',
    'cat user/note.txt',
    'llminfer --max-tokens 4 Lily',
  ]);
  t.deepEqual([made.status, made.stderr], [0, '']);
  t.regex(made.stdout, /^https:\/\/example\.org\/#arena8=1\.[\w-]+\n$/);
  const url = made.stdout.trim();
  const shown = word([url]);
  t.is(shown.status, 0, shown.stderr);
  t.true(shown.stdout.includes('a note') && shown.stdout.includes('as the link tells'));
  const { stdout, status } = word(['--json', '-'], `${url}\n`);
  t.is(status, 0);
  const json = JSON.parse(stdout) as Record<string, unknown>;
  t.deepEqual(Object.keys(json), ['text', 'digest', 'expected', 'head', 'typed', 'commands', 'build', 'ours']);
  t.is(json['digest'], json['expected']);
  const share = await parseLink(url);
  if (share === null || isRefusal(share)) return t.fail();
  t.deepEqual([share.seed, share.columns, share.rows, share.files[0]!.path], [5, 70, 20, '/home/user/note.txt']);
  const other = word([`#${(await formatLink({ ...share, digest: 'a'.repeat(64), build: 'b'.repeat(64) })) as string}`]);
  t.is(other.status, 1);
  t.true(
    other.stdout.includes(`the link tells of ${'a'.repeat(64)}`) && other.stdout.includes('the link was made by bbbb'),
  );
  return undefined;
});

test('arena8 share: what is wrong is said', t => {
  const usage = "Try 'arena8 share --help'\n";
  t.regex(word(['--help']).stdout, /^Usage: arena8 share \[--json\] URL/);
  t.deepEqual(word([]), { status: 2, stdout: '', stderr: `arena8 share: missing operand: URL\n${usage}` });
  t.deepEqual(word(['--make']), { status: 2, stdout: '', stderr: `arena8 share: missing operand: COMMAND\n${usage}` });
  t.is(word(['a', 'b']).stderr, `arena8 share: extra operand 'b'\n${usage}`);
  t.is(
    word(['--seed', '1', 'a']).stderr,
    `arena8 share: --seed, --target, --size, --file and --url are for --make\n${usage}`,
  );
  t.deepEqual(word(['https://example.org/']), {
    status: 2,
    stdout: '',
    stderr: 'arena8 share: no link of arena8: #arena8=… is missing\n',
  });
  t.is(word(['#arena8=1.@']).stderr, 'arena8 share: link: not base64url: a part of it is missing or was changed\n');
  t.is(word(['--make', '--size', '80', 'ls']).stderr, "arena8 share: --size: '80' is not COLUMNSxROWS\n");
  t.is(word(['--make', '--seed', 'x', 'ls']).stderr, "arena8 share: --seed: 'x' is no whole number\n");
  t.is(
    word(['--make', '--file', '/nowhere', 'ls']).stderr,
    "arena8 share: --file: cannot read '/nowhere': no such file or directory\n",
  );
  t.regex(
    word(['--make', '--target', 'pentium', 'ls']).stderr,
    /^arena8 share: link: no target 'pentium': cortex-a72, /,
  );
});
