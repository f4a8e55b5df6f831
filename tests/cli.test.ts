// The `arena8` command as a user meets it: the built program is spawned with options, scripts, pipes and, through script(1), a terminal.
// Before that, the host directories it mounts: what they show, what they refuse, and that nothing leads out of them.

import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'ava';
import { FileCache } from '../boot/file-cache.ts';
import { directory, singleFile } from '../boot/host-directory.ts';
import { HOST_PRIOR, TARGETS } from '../kernel/wcet/targets.ts';
import { E, KIND, O, utf8Decode, utf8Encode } from '../kernel/abi/index.ts';
import type { HostDirectory } from '../kernel/abi/index.ts';

const PROGRAM = path.resolve('build/arena8.js');
const SCRIPT_COMMAND = '/usr/bin/script';
const testBuilt = fs.existsSync(PROGRAM) ? test : test.skip;
const hasTerminal = fs.existsSync(SCRIPT_COMMAND) || process.env['CI'] === 'true'; // a missing oracle fails there
const testTerminal = fs.existsSync(PROGRAM) && hasTerminal ? test : test.skip;
const watchdogMs = 60_000;

function temporary(t: { teardown(f: () => void): void }): string {
  const made = fs.mkdtempSync(path.join(tmpdir(), 'arena8-'));
  t.teardown(() => fs.rmSync(made, { recursive: true, force: true }));
  return made;
}

const descriptors = (): number => fs.readdirSync('/proc/self/fd').length;

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function arena8(args: readonly string[], input = ''): Ended {
  const r = spawnSync(process.execPath, [PROGRAM, ...args], { input, encoding: 'utf8', timeout: watchdogMs });
  return { status: r.status, stdout: r.stdout, stderr: r.stderr };
}

/** One read of a file of `d`, opened for it. */
function readOf(d: HostDirectory, name: string, position: number, memory: Uint8Array, at: number, n: number): number {
  const file = d.open(name, O.RDONLY);
  if (typeof file === 'number') return file;
  const got = file.read(position, memory, at, n);
  file.close();
  return got;
}

/** One write, the same way. */
function writeOf(d: HostDirectory, name: string, position: number, bytes: Uint8Array): number {
  const file = d.open(name, O.WRONLY);
  if (typeof file === 'number') return file;
  const got = file.write(position, bytes, 0, bytes.length);
  file.close();
  return got;
}

// ── Host directories ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a host directory: listing, reading, writing, errors', t => {
  const root = temporary(t);
  fs.writeFileSync(path.join(root, 'b.txt'), 'hello');
  fs.mkdirSync(path.join(root, 'sub'));
  fs.writeFileSync(path.join(root, 'sub/ä'), '');
  const d = directory(root, false);
  t.is(d.source, root);
  t.deepEqual(d.list(''), [
    { name: 'b.txt', kind: KIND.file },
    { name: 'sub', kind: KIND.dir },
  ]);
  t.deepEqual(d.list('sub'), [{ name: 'ä', kind: KIND.file }]);
  t.like(d.stat('b.txt'), { kind: KIND.file, size: 5 });
  t.like(d.stat(''), { kind: KIND.dir });

  const memory = new Uint8Array(16);
  t.is(readOf(d, 'b.txt', 1, memory, 4, 3), 3);
  t.is(utf8Decode(memory, 4, 7), 'ell');
  t.is(readOf(d, 'b.txt', 5, memory, 0, 3), 0);
  t.is(d.create('new', 0o644), 0);
  t.is(writeOf(d, 'new', 3, utf8Encode('xyz')), 3);
  t.deepEqual(fs.readFileSync(path.join(root, 'new')), Buffer.from('\0\0\0xyz'));
  t.is(d.truncate('new', 4), 0);
  t.like(d.stat('new'), { size: 4 });
  t.is(d.rename('new', 'sub/moved'), 0);
  t.is(d.mkdir('sub/deep', 0o755), 0);
  t.is(d.remove('sub/moved'), 0);

  t.is(d.stat('none'), -E.NOENT);
  t.is(d.stat('b.txt/x'), -E.NOTDIR);
  t.is(d.list('b.txt'), -E.NOTDIR);
  t.is(readOf(d, 'sub', 0, memory, 0, 1), -E.ISDIR);
  t.is(writeOf(d, 'sub', 0, memory), -E.ISDIR);
  t.is(d.create('b.txt', 0o644), -E.EXIST);
  t.is(d.create('none/x', 0o644), -E.NOENT);
  t.is(d.mkdir('sub', 0o755), -E.EXIST);
  t.is(d.remove('sub'), -E.ISDIR);
  t.is(d.remove('none'), -E.NOENT);
  t.is(d.removeDirectory('sub'), -E.NOTEMPTY);
  t.is(d.removeDirectory('sub/deep'), 0);
  t.is(d.create('x'.repeat(300), 0o644), -E.NAMETOOLONG);
});

test('a host directory shows what the host changes', t => {
  const root = temporary(t);
  const d = directory(root, true);
  const memory = new Uint8Array(4);
  for (let i = 0; i < 40; i++) fs.writeFileSync(path.join(root, `f${i}`), `${i}`);
  const before = fs.existsSync('/proc/self/fd') ? descriptors() : 0;
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < 40; i++) {
      const n = readOf(d, `f${i}`, 0, memory, 0, 4);
      t.is(utf8Decode(memory, 0, n), `${i}`);
    }
  }
  if (before > 0) t.is(descriptors(), before, 'what is closed is closed');
  fs.writeFileSync(path.join(root, 'other'), 'new');
  fs.renameSync(path.join(root, 'other'), path.join(root, 'f39'));
  t.is(utf8Decode(memory, 0, readOf(d, 'f39', 0, memory, 0, 4)), 'new', 'a file put in the place of an open one');
  fs.rmSync(path.join(root, 'f39'));
  t.is(readOf(d, 'f39', 0, memory, 0, 4), -E.NOENT);
});

test('what is kept of host files is what they hold: whole, at their ends, after every change, within its limit', t => {
  const folder = temporary(t);
  const bytes = Uint8Array.from({ length: 2_500_000 }, (_, i) => (i * 31 + (i >> 8)) & 255);
  const [a, b] = ['a', 'b'].map(name => path.join(folder, name)) as [string, string];
  const cache = new FileCache(3_000_000, 0);
  const into = new Uint8Array(3_000_000);
  const read = (file: string, position: number, length: number): Uint8Array => {
    const fd = fs.openSync(file, 'r');
    const n = cache.read(fd, position, into, 7, length);
    cache.closed(fd);
    fs.closeSync(fd);
    return into.slice(7, 7 + n);
  };
  fs.writeFileSync(a, bytes);
  fs.writeFileSync(b, bytes);
  for (let round = 0; round < 4; round++)
    for (const file of [a, b])
      // together more than it keeps
      for (const [position, length] of [
        [0, 10],
        [1_048_570, 20],
        [5, 2_400_000],
        [2_499_990, 100],
        [2_500_000, 5],
        [3_000_000, 5],
      ] as const)
        t.is(Buffer.compare(read(file, position, length), bytes.subarray(position, position + length)), 0);
  fs.writeFileSync(
    a,
    bytes.map(x => x ^ 255),
  );
  fs.utimesSync(a, 1, 1); // a host whose clock does not move
  t.is(read(a, 4, 1)[0], bytes[4]! ^ 255);
  fs.truncateSync(a, 100);
  t.is(read(a, 90, 100).length, 10);
  fs.writeFileSync(b, new Uint8Array(4_000_000).fill(9)); // more than it keeps at all
  t.deepEqual(read(b, 3_999_999, 9), Uint8Array.of(9));
  const settling = new FileCache();
  const fd = fs.openSync(a, 'r');
  for (let value = 0; value < 20; value++) {
    fs.writeFileSync(a, new Uint8Array(100).fill(value)); // as often within one step of the host's clock
    settling.refresh();
    for (let i = 0; i < 3; i++) t.deepEqual([settling.read(fd, 0, into, 0, 200), into[99]], [100, value]);
  }
  fs.closeSync(fd);
});

test('a read-only host directory refuses every change', t => {
  const root = temporary(t);
  fs.writeFileSync(path.join(root, 'f'), 'kept');
  for (const d of [directory(root, true), singleFile('f', utf8Encode('kept'))]) {
    const results = [
      writeOf(d, 'f', 0, new Uint8Array(1)),
      d.create('g', 0o644),
      d.mkdir('g', 0o755),
      d.remove('f'),
      d.removeDirectory('f'),
      d.rename('f', 'g'),
      d.rename('f', 'none/g'),
      d.truncate('f', 0),
    ];
    t.true(results.every(r => r === -E.ROFS));
    const memory = new Uint8Array(8);
    t.is(utf8Decode(memory, 0, readOf(d, 'f', 1, memory, 0, 8)), 'ept');
    t.like(d.stat('f'), { kind: KIND.file, size: 4 });
    t.deepEqual(d.list(''), [{ name: 'f', kind: KIND.file }]);
    t.is(d.stat('g'), -E.NOENT);
  }
  t.deepEqual(fs.readdirSync(root), ['f']);
});

test('nothing leads out of a host directory', t => {
  const outside = temporary(t);
  const root = temporary(t);
  fs.writeFileSync(path.join(outside, 'secret'), 'secret');
  fs.mkdirSync(path.join(root, 'in'));
  fs.writeFileSync(path.join(root, 'in/file'), 'inside');
  fs.symlinkSync(path.join(outside, 'secret'), path.join(root, 'leak'));
  fs.symlinkSync(outside, path.join(root, 'door'));
  fs.symlinkSync('in/file', path.join(root, 'fine'));
  fs.symlinkSync(path.join(outside, 'not yet'), path.join(root, 'dangling'));
  fs.symlinkSync('loop', path.join(root, 'loop'));
  spawnSync('mkfifo', [path.join(root, 'fifo')]);
  const d = directory(root, false);
  const memory = new Uint8Array(16);

  t.is(readOf(d, 'fine', 0, memory, 0, 16), 6, 'a link inside is followed');
  t.is(d.stat('leak'), -E.ACCES);
  t.is(readOf(d, 'leak', 0, memory, 0, 16), -E.ACCES);
  t.is(writeOf(d, 'leak', 0, memory), -E.ACCES);
  t.is(d.truncate('leak', 0), -E.ACCES);
  t.is(d.list('door'), -E.ACCES);
  t.is(readOf(d, 'door/secret', 0, memory, 0, 16), -E.ACCES);
  t.is(d.create('door/new', 0o644), -E.ACCES);
  t.is(d.mkdir('door/new', 0o755), -E.ACCES);
  t.is(d.remove('door/secret'), -E.ACCES);
  t.is(d.rename('in/file', 'door/file'), -E.ACCES);
  t.is(d.rename('door/secret', 'mine'), -E.ACCES);
  t.is(d.create('dangling', 0o644), -E.EXIST, 'a dangling link is not written through');
  t.is(writeOf(d, 'dangling', 0, memory), -E.NOENT);
  t.is(d.stat('../secret'), -E.NOENT);
  t.is(d.list('..'), -E.ACCES);
  t.is(d.stat('loop'), -E.LOOP);
  if (fs.existsSync(path.join(root, 'fifo')))
    t.is(readOf(d, 'fifo', 0, memory, 0, 1), -E.ACCES, 'a pipe would stop the machine');
  t.deepEqual(fs.readdirSync(outside), ['secret']);
  t.is(fs.readFileSync(path.join(outside, 'secret'), 'utf8'), 'secret');
  t.is(d.remove('leak'), 0, 'the link itself may go');
  t.throws(() => directory(path.join(root, 'none'), true), {
    message: /^cannot mount '.*none': no such file or directory$/,
  });
  t.throws(() => directory(path.join(root, 'in/file'), true), { message: /: not a directory$/ });
});

// ── The command ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

testBuilt('--version, --help, reserved words', t => {
  const { version } = JSON.parse(fs.readFileSync('package.json', 'utf8')) as { version: string };
  t.deepEqual(arena8(['--version']), { status: 0, stdout: `arena8 ${version}\n`, stderr: '' });
  const help = arena8(['--help']);
  t.is(help.status, 0);
  for (const option of [
    '-c',
    '--mount',
    '--home',
    '--image',
    '--seed',
    '--target',
    '--calibration',
    '--disk',
    '--pace',
    '--version',
    '--help',
  ])
    t.true(help.stdout.includes(option));
  t.true(help.stdout.includes('arena8 audit'));
  t.regex(arena8(['audit', '--help']).stdout, /^Usage: arena8 audit list DIR/);
  t.deepEqual(arena8(['audit', 'head']), {
    status: 2,
    stdout: '',
    stderr: "arena8 audit: head: missing operand: DIR\nTry 'arena8 audit --help'\n",
  });
  for (const word of ['replay', 'simulate', 'campaign', 'serve']) {
    t.deepEqual(arena8([word]), {
      status: 2,
      stdout: '',
      stderr: `arena8: '${word}' is reserved; not in this build\n`,
    });
  }
});

testBuilt('bad command lines say what is wrong in one line', t => {
  const hint = "\nTry 'arena8 --help'\n";
  const cases: [string[], number, string][] = [
    [['--nope'], 2, `unknown option '--nope'${hint}`],
    [['-x'], 2, `unknown option '-x'${hint}`],
    [['-c'], 2, `option '-c' needs an argument${hint}`],
    [['--seed', 'abc'], 2, `--seed: 'abc' is not an integer from -2147483648 to 4294967295${hint}`],
    [['--seed=4294967296'], 2, `--seed: '4294967296' is not an integer from -2147483648 to 4294967295${hint}`],
    [['--mount', '/nowhere:/mnt/x'], 2, "--mount: cannot mount '/nowhere': no such file or directory\n"],
    [['--mount', 'x'], 2, `--mount: 'x' is not HOSTPATH:GUESTPATH[:ro] with an absolute GUESTPATH${hint}`],
    [
      ['--mount', '/tmp:mnt'],
      2,
      `--mount: '/tmp:mnt' is not HOSTPATH:GUESTPATH[:ro] with an absolute GUESTPATH${hint}`,
    ],
    [
      ['--image', '/nowhere.cpio', '-c', 'true'],
      2,
      "--image: cannot read '/nowhere.cpio': no such file or directory\n",
    ],
    [['--target', 'z80'], 2, `--target: no target 'z80': ${TARGETS.map(target => target.name).join(', ')}${hint}`],
    [['--pace', 'fast'], 2, `--pace: 'fast' is not real, max or N% with N above 0${hint}`],
    [['--target'], 2, `option '--target' needs an argument${hint}`],
    [['--pace', '-5%'], 2, `--pace: '-5%' is not real, max or N% with N above 0${hint}`],
    [['--pace', '0%'], 2, `--pace: '0%' is not real, max or N% with N above 0${hint}`],
    [['--calibration', '/nowhere.json'], 2, "--calibration: cannot read '/nowhere.json': no such file or directory\n"],
    [['--calibration', 'LICENSE'], 2, '--calibration: LICENSE: not JSON\n'],
    [['/nowhere.sh'], 127, "cannot open '/nowhere.sh': no such file or directory\n"],
  ];
  for (const [args, status, message] of cases) {
    t.deepEqual(arena8(args), { status, stdout: '', stderr: `arena8: ${message}` }, args.join(' '));
  }
  const broken = arena8(['--image', 'package.json', '-c', 'true']);
  t.is(broken.status, 1);
  t.is(broken.stdout, '');
  t.regex(broken.stderr.split('\n').at(-2)!, /^arena8: /);
});

testBuilt('-c: output, status, and nothing else on standard output', t => {
  const hello = arena8(['-c', 'echo hello; echo there']);
  t.is(hello.stdout, 'hello\nthere\n');
  t.is(hello.status, 0);
  t.regex(hello.stderr, /^\[ *\d+\.\d{6}\] arena8 /, 'the boot log is on standard error');
  t.deepEqual(
    ['true', 'false', 'exit 7', 'nonesuch', 'false; true'].map(c => arena8(['-c', c]).status),
    [0, 1, 7, 127, 0],
  );
  const missing = arena8(['-c', 'ls /nonesuch']);
  t.is(missing.stdout, '');
  t.true(missing.stderr.endsWith("ls: cannot access '/nonesuch': No such file or directory\n"));
  t.is(arena8(['-c', 'echo "$0 $1 $2"', 'zero', 'one', '--two']).stdout, 'zero one --two\n');
  t.is(arena8(['-c', 'cat | wc -l'], 'a\nb\nc\n').stdout.trim(), '3', 'commands read standard input');
});

type Timed = Ended & { seconds: number };
function timed(args: readonly string[]): Timed {
  const from = performance.now();
  const ended = arena8(args);
  return { ...ended, seconds: (performance.now() - from) / 1000 };
}

testBuilt('--pace holds output back until the simulated processor would have got there, and changes no byte', t => {
  const command = 'echo before; sleep 1; echo after; exit 3';
  const run = (pace: string): Timed => timed(['--pace', pace, '-c', command]);
  const [max, real, double] = [run('max'), run('real'), run('50%')];
  for (const { status, stdout, stderr } of [real, double])
    t.deepEqual({ status, stdout, stderr }, { status: 3, stdout: 'before\nafter\n', stderr: max.stderr });
  t.true(real.seconds >= 1, `a second of virtual time took ${real.seconds} s`);
  t.true(double.seconds >= 2, `at half the speed ${double.seconds} s`);
  t.is(timed(['--pace', 'max', '-c', 'sleep 1000000']).status, 0, 'at once');
});

testBuilt('--pace shows what is due and keeps the rest', t => {
  const stamped = `"$0" "$1" --pace=real -c 'echo before; sleep 4; echo after' | while read -r l; do date "+$l %s"; done`;
  const { stdout } = spawnSync('sh', ['-c', stamped, process.execPath, PROGRAM], { encoding: 'utf8' });
  const [, before, after] = /^before (\d+)\nafter (\d+)\n$/.exec(stdout) ?? [];
  t.true(Number(after) - Number(before) >= 2, `four seconds, less what a busy host was late with the first: ${stdout}`);
});

testBuilt('a calibration: the target host tells its name, and a damaged one is refused in one line', t => {
  const root = temporary(t);
  const file = path.join(root, 'calibration.json');
  const write = (value: unknown): void => fs.writeFileSync(file, JSON.stringify(value));
  const run = (...more: string[]): Ended => arena8(['--calibration', file, ...more, '-c', 'llmctl target']);
  const good = { cpu: 'Some CPU', hz: 2e9, prices: HOST_PRIOR, errorMilli: 50 };
  write(good);
  t.regex(run('--target', 'host').stdout, /^\* host +2000 MHz +This host, Some CPU: a fit, ±5 %, not a bound$/m);
  t.regex(run().stdout, /^\* cortex-a72[^]*^ {2}host .*Some CPU/m, 'it is known even where it is not in force');
  const damaged: [unknown, string][] = [
    [{}, 'cpu is not a name of 1 to 64 ASCII characters'],
    [7, 'cpu is not a name of 1 to 64 ASCII characters'],
    [{ ...good, cpu: 'two\nlines' }, 'cpu is not a name of 1 to 64 ASCII characters'],
    [{ ...good, hz: 0 }, 'hz 0 is not 10⁶ … 10¹¹'],
    [{ ...good, errorMilli: 0.5 }, 'errorMilli 0.5 is not 0 … 10⁹'],
    [{ ...good, prices: null }, 'price of scalar: undefined is not 0 … 10⁹'],
    [{ ...good, prices: { ...HOST_PRIOR, float: -1 } }, 'price of float: -1 is not 0 … 10⁹'],
  ];
  for (const [value, message] of damaged) {
    write(value);
    t.deepEqual(run(), { status: 2, stdout: '', stderr: `arena8: --calibration: ${file}: ${message}\n` });
  }
  fs.writeFileSync(file, JSON.stringify(good).slice(0, -1));
  t.is(run().stderr, `arena8: --calibration: ${file}: not JSON\n`, 'cut short');
});

testBuilt('a script of the host, with arguments and standard input', t => {
  const root = temporary(t);
  const script = path.join(root, 'run me.sh');
  fs.writeFileSync(script, '#!/usr/bin/env arena8\necho "$# $1 $2"\ncat\nexit 3\n');
  const r = arena8([script, 'one', '--two'], 'typed\n');
  t.is(r.stdout, '2 one --two\ntyped\n');
  t.is(r.status, 3);
  fs.writeFileSync(script, `${'# a long script\n'.repeat(5000)}echo end\n`);
  t.is(arena8([script]).stdout, 'end\n');
  fs.writeFileSync(script, 'cat /mnt/d/f\n');
  fs.writeFileSync(path.join(root, 'f'), 'mounted\n');
  t.is(arena8([script, '--mount', `${root}:/mnt/d:ro`]).stdout, 'mounted\n', 'our options may follow the script');
});

testBuilt('--mount: read-write and read-only', t => {
  const root = temporary(t);
  fs.writeFileSync(path.join(root, 'in.txt'), 'from the host\n');
  const rw = arena8([
    '--mount',
    `${root}:/mnt/h`,
    '-c',
    'cat /mnt/h/in.txt; echo from the machine > /mnt/h/out.txt; mkdir /mnt/h/dir',
  ]);
  t.is(rw.stdout, 'from the host\n');
  t.is(rw.status, 0, rw.stderr);
  t.is(fs.readFileSync(path.join(root, 'out.txt'), 'utf8'), 'from the machine\n');
  t.true(fs.statSync(path.join(root, 'dir')).isDirectory());
  const ro = arena8(['--mount', `${root}:/mnt/h:ro`, '-c', 'cat /mnt/h/in.txt; echo x > /mnt/h/in.txt']);
  t.is(ro.stdout, 'from the host\n');
  t.not(ro.status, 0);
  t.true(ro.stderr.includes('Read-only file system'));
  t.is(fs.readFileSync(path.join(root, 'in.txt'), 'utf8'), 'from the host\n');
});

testBuilt('--home: what is kept there outlives the machine', t => {
  const root = temporary(t);
  t.is(arena8(['--home', root, '-c', 'echo kept > ~/note']).status, 0);
  t.is(arena8([`--home=${root}`, '-c', 'cat ~/note']).stdout, 'kept\n');
  t.regex(
    arena8(['--home', '/nowhere']).stderr,
    /^arena8: --home: cannot mount '\/nowhere': no such file or directory\n$/,
  );
});

testBuilt('commands from standard input, after the demonstration', t => {
  const none = arena8([]);
  t.is(none.status, 0, none.stderr);
  t.true(none.stdout.length > 100, 'the demonstration writes');
  const some = arena8([], 'echo marker\ncat\nthis is data\n');
  t.true(some.stdout.endsWith('marker\nthis is data\n'));
  t.is(arena8([], 'echo x\nexit 5\n').status, 5);
  t.is(arena8([], 'false\n').status, 1);
  t.is(none.stdout, some.stdout.slice(0, none.stdout.length), 'two runs, the same bytes');
});

testBuilt('the same bytes however fast the host delivers input', async t => {
  const input = 'echo one\ncat /proc/uptime\necho two; wc -c\ndata\n';
  const whole = arena8(['-c', 'sh'], input).stdout;
  const child = spawn(process.execPath, [PROGRAM, '-c', 'sh'], { stdio: ['pipe', 'pipe', 'ignore'] });
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (s: string) => (out += s));
  for (let i = 0; i < input.length; i += 7) {
    child.stdin.write(input.slice(i, i + 7));
    await new Promise(done => setTimeout(done, 20));
  }
  child.stdin.end();
  await new Promise(done => child.on('close', done));
  t.is(out, whole);
});

testBuilt('a reader that goes away ends the run quietly', async t => {
  const child = spawn(process.execPath, [PROGRAM, '-c', 'cat /dev/random'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let complaints = '';
  child.stderr.setEncoding('utf8').on('data', (s: string) => (complaints += s));
  await new Promise(first => child.stdout.once('data', first));
  child.stdout.destroy();
  t.is(await new Promise(done => child.on('close', done)), 141);
  t.notRegex(complaints, /EPIPE|Error/);
});

/** The status of a run that gets `signal` in the middle of a command. */
async function stopped(signal: NodeJS.Signals, command: string, ...options: string[]): Promise<number | null> {
  const child = spawn(process.execPath, [PROGRAM, ...options, '-c', `echo begun; ${command}`], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  await new Promise(begun => child.stdout.once('data', begun));
  child.kill(signal);
  return new Promise(done => child.on('close', done));
}

testBuilt('SIGINT and SIGTERM', async t => {
  t.is(await stopped('SIGINT', 'cat /dev/zero > /dev/null'), 130);
  t.is(await stopped('SIGTERM', 'cat /dev/zero > /dev/null'), 143);
  t.is(await stopped('SIGINT', 'sleep 1000000', '--pace', 'real'), 130, 'nobody waits for a pace after Ctrl-C');
  t.is(await stopped('SIGTERM', 'sleep 1000000', '--pace', 'real'), 143);
});

// ── A terminal ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The command on a pseudo-terminal: waits for texts and types. */
class Terminal {
  readonly #child;
  #seen = '';
  #from = 0;

  constructor(options = '') {
    const command = `sh -c 'echo pid $$; exec "${process.execPath}" "${PROGRAM}" ${options}'`;
    this.#child = spawn(
      SCRIPT_COMMAND,
      ['-qec', `stty rows 24 cols 80; ${command}; echo "status $?"; stty -a`, '/dev/null'],
      { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, TERM: 'xterm' } },
    );
    this.#child.stdout.setEncoding('utf8').on('data', (s: string) => (this.#seen += s.replaceAll('\r', '')));
  }

  /** Waits until `text` appears after what was last waited for. Returns what came before it. */
  async until(text: string): Promise<string> {
    const deadline = Date.now() + watchdogMs;
    for (;;) {
      const at = this.#seen.indexOf(text, this.#from);
      if (at >= 0) {
        const before = this.#seen.slice(this.#from, at);
        this.#from = at + text.length;
        return before;
      }
      if (Date.now() > deadline)
        throw new Error(`'${text}' did not appear in ${JSON.stringify(this.#seen.slice(this.#from).slice(-400))}`);
      await new Promise(done => setTimeout(done, 10));
    }
  }

  type(keys: string): void {
    this.#child.stdin.write(keys);
  }

  end(): void {
    this.#child.kill();
  }
}

testTerminal('a terminal: prompt, editing, Ctrl-C during a generation, modes restored', async t => {
  const terminal = new Terminal();
  t.teardown(() => terminal.end());
  await terminal.until('sis> ');
  terminal.type('echo wrld\x1b[D\x1b[D\x1b[Do\r');
  await terminal.until('\nworld\n');
  terminal.type('echo /etc/mot\t\r');
  await terminal.until('\n/etc/motd\n');
  terminal.type('\x1b[A\x1b[A\r'); // two lines back
  await terminal.until('\nworld\n');
  terminal.type('llminfer --temp 0 --max-tokens 400 "Once upon a time"; echo "ended $?"\r');
  await terminal.until('a time"; echo');
  await terminal.until(' '); // it writes
  await terminal.until(' ');
  terminal.type('\x03');
  await terminal.until('^C');
  t.true((await terminal.until('sis> ')).length < 400, 'few tokens after the key');
  terminal.type('echo alive $?\r');
  await terminal.until('\nalive 130\n');
  terminal.type('sleep 1000000; cat\r');
  await terminal.until('\x1b[?2004l');
  terminal.type('typed\r');
  await terminal.until('typed\ntyped\n');
  terminal.type('\x04');
  await terminal.until('sis> ');
  terminal.type('false\r');
  await terminal.until('sis> ');
  terminal.type('\x04');
  await terminal.until('status 1');
  const modes = await terminal.until('echoke');
  t.regex(modes, /(^|\s)icanon/, 'cooked again');
  t.regex(modes, /(^|\s)echo\s/);
});

testTerminal('a paced terminal: keys are not held back, and Ctrl-C ends the wait', async t => {
  const terminal = new Terminal('--pace real');
  t.teardown(() => terminal.end());
  await terminal.until('sis> ');
  terminal.type('sleep 1000000; echo "ended $?"\r');
  await terminal.until('ended $?"');
  await terminal.until('\x1b[?2004l'); // the line is taken
  terminal.type('\x03');
  await terminal.until('^C');
  await terminal.until('sis> ');
  terminal.type('echo alive $?\r');
  t.notRegex(await terminal.until('\nalive 130\n'), /ended/);
  terminal.type('\x04');
  await terminal.until('status 0');
});

testTerminal('a signal leaves the terminal as it was', async t => {
  const terminal = new Terminal();
  t.teardown(() => terminal.end());
  const pid = Number(/pid (\d+)/.exec(await terminal.until('sis> '))![1]);
  process.kill(pid, 'SIGTERM');
  await terminal.until('status 143');
  t.regex(await terminal.until('echoke'), /(^|\s)icanon/);
});
