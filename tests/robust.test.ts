// A careless stranger at the machine: nonsense commands, bad files, broken images, directories without end. Whatever is typed, the kernel
// goes on, nothing stays behind — no process, open file, pipe, session or byte of arena — and the loaded model is as it was.

import { readFileSync } from 'node:fs';
import process from 'node:process';
import test from 'ava';
import { boot, type BootOptions, type Machine } from '../boot/index.ts';
import { singleFile } from '../boot/host-directory.ts';
import { KIND, LIMITS } from '../kernel/abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import { readCpio, writeCpio, type CpioSource } from '../vfs/cpio.ts';
import { programs } from '../shell/index.ts';
import { makeRandom } from './support/arena.ts';

const soak = process.env['ARENA8_SOAK'] === '1';
const image = readFileSync('build/boot.cpio');
const model = readFileSync('images/models/fable-q4_0.gguf');
const text = (s: string): Uint8Array => new TextEncoder().encode(s);

const power = (options: BootOptions = {}): Machine => boot({ strict: true, image, ...options });

// ── What must not stay behind ────────────────────────────────────────────────────────────────────────────────────────────────────

/** The kernel's bookkeeping, looked at from outside: what commands use while they run and must give back. */
interface Inside {
  readonly processes: { all(): Iterable<{ readonly name: string; readonly files: readonly (OpenFile | null)[] }> };
  readonly vfs: { readonly filesOpen: number; mounts(): readonly { readonly fs: { readonly type: string } }[] };
  readonly sessions: { active(): number };
}

function leftovers(machine: Machine): string[] {
  const { processes, vfs, sessions } = machine.kernel as unknown as Inside;
  const alive = [...processes.all()];
  const held = new Set(alive.flatMap(p => p.files).filter(f => f !== null));
  const mounted = vfs.mounts().filter(m => m.fs.type === 'gguf').length; // each keeps its model's file open
  const wrong: string[] = [];
  if (alive.length > 1) wrong.push(`processes: ${alive.map(p => p.name).join(' ')}`);
  if (vfs.filesOpen !== held.size + mounted)
    wrong.push(`${vfs.filesOpen} open files, ${held.size} held, ${mounted} mounted`);
  if (sessions.active() > 0) wrong.push(`${sessions.active()} sessions`);
  if (machine.exec(`${'true | '.repeat(LIMITS.pipesMax)}true`).status !== 0) wrong.push('pipes');
  return wrong;
}

/** The model region, byte by byte. */
function modelRegion(machine: Machine): string {
  const regions = machine.arena.regions();
  const weights = regions.find(r => r.name === 'weights');
  if (weights === undefined) return 'none';
  return Buffer.from(machine.arena.u8.subarray(weights.startAt, machine.arena.usage().offset)).toString('base64');
}

// ── Nonsense ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Paths that end when read: an endless device is given to nobody but `head -c`. */
const PATHS = (
  '/ . .. /etc /etc/motd /etc/passwd /models /models/fable-q4_0.gguf fable-q8_0 /tmp /tmp/a /tmp/b /tmp/d /tmp/d/e /home /proc /proc/arena ' +
  '/proc/ps /dev/null /dev/tty /dev/exec-out /mnt /mnt/x /mnt/x/tensors /mnt/x/metadata/* /mnt/x/tensors/*/type /nope /etc/motd/x /bin/sh - * ? [a-z]* ' +
  '/*/m* /tmp/* ~ ~nobody "" $x "$x" ${x:-y} $HOME é \\* \'*\' -'
).split(' ');
const OPTIONS = (
  '-a -l -R -r -f -rf -n -c -1 -n1 -5 -C -d -p -h -v -i -E -o -k -t gguf -s -- --help --json --nope --ctx 16 --kv f32 --temp 0 --seed 7 --max-tokens 4 ' +
  '--logits 2 --top-k 3 --stop a --bos --special --file --vocab --ops -m 0 1 3 99999999999 -1 +2 x'
).split(' ');
const WORDS = (
  'a b hello x=1 X=$x root . .* [ ] = -eq ! load unload status info plan backend stub stub:word transformer tokenize detokenize perplexity models ' +
  'tmpfs proc'
)
  .split(' ')
  .concat('"one two"', "'it is'", '"$x $y"', '');
const SEPARATORS = [';', '&&', '||', '|', '|', '; !', '\n', '> /tmp/a;', '2>&1 |', '| head -n 2;', '| wc |', '| sh;'];
const REDIRECTIONS = [
  '> /tmp/a',
  '>> /tmp/b',
  '< /etc/motd',
  '< /nope',
  '2> /tmp/e',
  '2>&1',
  '>&2',
  '<&3',
  '> /dev/full',
  '# rest',
];
const PHRASES = [
  'head -c 100 /dev/zero',
  'head -c 50 /dev/random | hexdump -C',
  'mkdir -p /tmp/d/e',
  'cp -r /etc /tmp/d',
  'mount -t gguf /models/fable-q4_0.gguf /mnt/x',
  'mkdir /mnt/x',
  'umount /mnt/x',
  'sleep 1000',
  'cat /tmp/a >> /tmp/a',
  'echo ". /tmp/r" > /tmp/r; . /tmp/r',
  'exec 3< /etc/motd',
  'exec 3<&-',
  'llminfer --max-tokens 3 hello',
  'strace -c ls /',
  'kill 2',
];
const COMMANDS = [
  ...programs.keys(),
  'cd',
  'eval',
  'export',
  'read',
  'set',
  'unset',
  '.',
  ':',
  'type',
  'nosuch',
  '/etc/motd',
  '/bin',
];

/** One line of words, options, operators and paths, in an order that may mean something. */
function nonsense(random: (n: number) => number): string {
  const pick = <T>(from: readonly T[]): T => from[random(from.length)]!;
  const parts: string[] = [];
  const commands = 1 + random(3);
  for (let i = 0; i < commands; i++) {
    if (i > 0) parts.push(pick(SEPARATORS));
    if (random(5) === 0) parts.push(pick(PHRASES));
    else {
      parts.push(pick(COMMANDS));
      const operands = random(5);
      for (let j = 0; j < operands; j++) parts.push(pick(pick([PATHS, PATHS, OPTIONS, WORDS])));
    }
    if (random(8) === 0) parts.push(pick(REDIRECTIONS));
  }
  const line = parts.join(random(20) === 0 ? '' : ' ');
  if (random(25) > 0) return line;
  const at = random(line.length + 1);
  return (
    line.slice(0, at) + pick(['"', "'", '\\', '$', '${', '`', '(', '\0', '\n', '|', '#', '\ud800']) + line.slice(at)
  );
}

test('nonsense command lines: the kernel goes on, and nothing stays behind', t => {
  const lines = soak ? 20000 : 300;
  const linesPerMachine = 25; // some of them remove half of the machine
  for (let n = 0; n < lines;) {
    const random = makeRandom(1 + n);
    const machine = power();
    const said: string[] = [];
    for (let i = 0; i < linesPerMachine && n < lines; i++, n++) {
      said.push(nonsense(random));
      const r = machine.exec(said.at(-1)!);
      if (!(r.status >= 0 && r.status <= 255)) t.fail(`status ${r.status} of ${said.at(-1)}`);
    }
    const stuck = leftovers(machine);
    if (stuck.length > 0 && machine.exec('ls /bin/true').status === 0)
      t.fail(`${stuck.join(', ')} after\n${said.join('\n')}`);
    if (/crashed/.test(machine.exec('cat /proc/kmsg').stdout)) t.fail(`a program crashed among\n${said.join('\n')}`);
  }
  t.pass();
});

test('what fails gives everything back', t => {
  const machine = power();
  machine.exec('mkdir /mnt/x');
  const before = machine.exec('cat /proc/arena').stdout;
  for (const line of [
    'cat /nope /etc /proc/nope; ls /nope > /tmp/a; cat < /nope; cat < /etc/motd > /nope/x',
    'head -c 1000000 /dev/zero | head -c 1; seq 100000 | true; seq 100000 | head -n 1 | false',
    'cat | cat | cat | cat | cat | cat | cat | cat | cat | cat | cat | cat',
    'mount -t gguf /etc/motd /mnt/x; mount -t gguf /models/fable-q4_0.gguf /nope; mount -t none x /mnt/x',
    'mount -t gguf /models/fable-q4_0.gguf /mnt/x; mount -t gguf /models/fable-q4_0.gguf /mnt/x; umount /mnt/x; umount /mnt/x',
    'llminfer --file /nope; llminfer --max-tokens 9999 x; llminfer --stop a --stop b x | true; llmctl tokenize --vocab /etc/motd x',
    'llmctl plan /etc/motd; llmctl perplexity /nope; llmctl detokenize 99999; llmctl tokenize --file /etc',
    'strace -o /nope/x ls; time nosuch; env nosuch; sh -c "exec 5< /etc/motd; kill \\$\\$"',
    'cat /dev/tty',
    'kill $$',
    'exec echo',
    'exec 4< /nope; exec 4< /etc/motd; exec 4<&-',
  ]) {
    machine.exec(line);
    t.deepEqual(leftovers(machine), [], line);
  }
  t.is(machine.exec('cat /proc/arena').stdout, before);
});

test('scripts that call themselves end, in this shell and in others', t => {
  const machine = power();
  machine.exec(
    "echo '. /tmp/r; . /tmp/r' > /tmp/r; echo 'sh /tmp/s; sh /tmp/s' > /tmp/s; echo 'cat /tmp/p | sh' > /tmp/p",
  );
  const own = machine.exec('. /tmp/r; echo not reached');
  t.deepEqual(
    [own.status, own.stdout, own.stderr],
    [2, '', `sh: commands are nested more than ${LIMITS.callDepthMax} deep\n`],
  );
  t.is(machine.exec('e=\'eval $e\'; eval "$e"').status, 2);
  t.regex(machine.exec('sh /tmp/p').stderr, /Too many open files|Resource temporarily unavailable/);
  t.is(
    machine.exec(`echo ${'${x:-'.repeat(1000)}${'}'.repeat(1000)}`).stderr,
    'sh: line 1: nested more than 100 deep\n',
  );
  t.deepEqual(leftovers(machine), []);
});

// ── Bad models ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Offset in a GGUF file of tensor `name`'s data, as the machine itself shows it. */
function dataAt(machine: Machine, name: string): number {
  machine.exec('mkdir -p /mnt/x; mount -t gguf /models/fable-f16.gguf /mnt/x');
  const offset = Number(machine.exec(`cat /mnt/x/tensors/${name}/offset`).stdout);
  machine.exec('umount /mnt/x; rmdir /mnt/x');
  return offset;
}

test('after every load that fails the model before is as it was, its file gone or not', t => {
  const good = readFileSync('images/models/fable-f16.gguf');
  const broken = Uint8Array.from(good);
  broken.set([0x00, 0x7e], dataAt(power(), 'blk.3.ffn_up.weight') + 2000); // a NaN half way: found while the weights are read
  const machine = power({
    mounts: [
      { guest: '/bad', directory: singleFile('nan.gguf', broken) },
      { guest: '/cut', directory: singleFile('cut.gguf', good.subarray(0, 100_000)) },
    ],
  });
  machine.exec('rm /models/fable-f16.gguf');
  const region = modelRegion(machine);
  const arena = machine.exec('cat /proc/arena').stdout;
  const told = machine.exec('llmctl info; llmctl status').stdout;
  for (const [file, code] of [
    ['/nope', 'ENOENT 1001 ModelNotFound: /nope'],
    ['/models', 'EISDIR 1002 InvalidModelFormat: /models: Is a directory'],
    ['/dev/zero', 'EINVAL 1002 InvalidModelFormat: /dev/zero: not a regular file'],
    ['/proc/arena', 'ENOEXEC 6001'],
    ['/etc/motd', 'ENOEXEC 1002 InvalidModelFormat: /etc/motd: Invalid GGUF magic'],
    ['/cut/cut.gguf', 'ENOEXEC 6001 GgufParseError: /cut/cut.gguf: '],
    ['/bad/nan.gguf', 'ENOEXEC 1002 InvalidModelFormat: /bad/nan.gguf: tensor blk.3.ffn_up.weight: 1 values'],
    ['--ctx 100000 fable-q8_0', 'EINVAL 2003 ContextLengthExceeded: /models/fable-q8_0.gguf: context 100000'],
  ] as const) {
    const { status, stderr } = machine.exec(`llmctl load ${file}`);
    t.is(status, 1, file);
    t.true(stderr.startsWith(`llmctl: ${code}`), stderr);
    t.is(stderr.split('\n').length, 2, stderr);
    t.true(modelRegion(machine) === region, `${file} changed the model region`);
  }
  // The load that got furthest passed through the largest use so far: peaks may have risen, nothing else.
  const used = (s: string): string[] => s.split('\n').map(line => line.split(' ').slice(0, 5).join(' '));
  t.deepEqual(used(machine.exec('cat /proc/arena').stdout), used(arena));
  t.is(machine.exec('llmctl info; llmctl status').stdout, told);
  t.is(machine.exec('llminfer --max-tokens 8 --temp 0 Once').status, 0);
  t.deepEqual(leftovers(machine), []);
});

test('a full memory storage stops a load, not the model', t => {
  const machine = power();
  machine.exec('cp /dev/zero /tmp/full');
  const { status, stderr } = machine.exec('llmctl load fable-q4_0');
  t.is(status, 1);
  t.regex(stderr, /^llmctl: ENOSPC 3001 OutOfMemory: .*memory storage has no \d+ bytes/);
  t.regex(machine.exec('llminfer Once').stderr, /^llminfer: .*No space left on device\n$/); // a prompt lies in storage until it is read
  machine.exec('rm /tmp/full');
  t.is(machine.exec('llminfer --max-tokens 4 Once').status, 0);
  t.is(machine.exec('llmctl load fable-q4_0').status, 0);
});

// ── Broken images ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The boot image with entries left out or replaced. */
function imageWith(changes: Readonly<Record<string, Partial<CpioSource> | null>>): Uint8Array {
  const entries = readCpio(image) as Exclude<ReturnType<typeof readCpio>, { errno: number }>;
  const sources = entries.flatMap((e): CpioSource[] => {
    const change = changes[e.name];
    if (change === null) return [];
    return [{ ...e, data: image.subarray(e.dataAt, e.dataAt + e.bytes), ...change }];
  });
  for (const [name, change] of Object.entries(changes))
    if (change !== null && !sources.some(s => s.name === name))
      sources.push({ name, kind: KIND.file, mode: 0o644, data: new Uint8Array(), ...change });
  return writeCpio(sources);
}

test('an image that cannot boot says why in one line', t => {
  const without = (name: string): string => {
    const error = t.throws(() =>
      power({ image: imageWith({ [name]: { data: text('x'), kind: KIND.file } }) }).exec('true'),
    );
    return error.message;
  };
  t.is(without('proc'), 'cannot mount proc on /proc');
  t.is(without('bin/sh'), 'cannot start /bin/sh: Exec format error');
  t.is(
    t.throws(() => power({ image: imageWith({ 'bin/sh': null }) }).exec('true')).message,
    'cannot start /bin/sh: No such file or directory',
  );
  t.is(
    t.throws(() => power({ image: imageWith({ 'bin/sh': { mode: 0o644 } }) }).exec('true')).message,
    'cannot start /bin/sh: Permission denied',
  );
  t.is(
    t.throws(() => power({ image: new Uint8Array(0) })).message,
    'cpio image: truncated: entry 0 needs 110 bytes at 0, the image has 0',
  );
  t.is(
    t.throws(() => power({ image: writeCpio([]) }).exec('true')).message,
    'cannot start /bin/sh: No such file or directory',
  );
  const directory = singleFile('f', text('x'));
  for (const [guest, why] of [
    ['/etc/motd', 'Not a directory'],
    ['/', 'Device or resource busy'],
    ['/proc/x', 'Read-only file system'],
  ])
    t.is(
      t.throws(() => power({ mounts: [{ guest: guest!, directory }] })).message,
      `cannot mount f on ${guest}: ${why}`,
    );
});

test('an image whose model is missing or bad boots all the same, and says so', t => {
  const line = (etcModel: Partial<CpioSource> | null): string => {
    const log: string[] = [];
    const machine = power({ image: imageWith({ 'etc/model': etcModel }), log: l => log.push(l) });
    t.is(machine.exec('echo up; llmctl status').status, 0);
    return log
      .filter(l => l.includes('model:'))
      .map(l => l.replace(/^\[.*?\] /, ''))
      .join('\n');
  };
  t.is(line(null), '');
  t.is(line({ data: text('') }), 'model: /etc/model names none');
  t.is(line({ data: text('/nope\n') }), 'model: ENOENT 1001 ModelNotFound: /nope: No such file or directory');
  t.regex(
    line({ data: text('/etc/motd') }),
    /^model: ENOEXEC 1002 InvalidModelFormat: \/etc\/motd: Invalid GGUF magic[^\n]*$/,
  );
});

test('the boot log fits a terminal of 80 columns and adds the model up', t => {
  const log: string[] = [];
  const machine = power({ seed: -(2 ** 31), log: line => log.push(line) });
  t.deepEqual(
    log.filter(line => line.length > 80),
    [],
  );
  const [weights, vocabulary, kv] = /weights (\d+) \+ vocabulary (\d+) \+ kv (\d+)/
    .exec(log.join('\n'))!
    .slice(1)
    .map(Number);
  const [other, total, free] = /other (\d+) = (\d+) bytes; (\d+) of/.exec(log.join('\n'))!.slice(1).map(Number);
  t.is(weights! + vocabulary! + kv! + other!, total!);
  t.is(free, machine.arena.remaining());
});

// ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('whatever can be made can be removed: deep directories, long names, ten thousand files', t => {
  const machine = power();
  machine.exec('cd /tmp');
  let depth = 0;
  while (machine.exec('mkdir dd && cd dd').status === 0) depth++;
  t.is(depth, Math.floor((LIMITS.pathBytes - 1 - '/tmp'.length) / '/dd'.length));
  t.is(machine.exec('echo > dd').status, 2); // no room for a name here
  t.is(machine.exec('cd /; rm -r /tmp/dd; ls /tmp').stdout, '');
  t.is(machine.exec(`mkdir -p /tmp/${'a/'.repeat(2100)}`).status, 1);
  t.is(machine.exec('rm -r /tmp/a; ls /tmp').stdout, '');
  t.is(machine.exec(`cd /tmp; touch ${'é'.repeat(127)}; touch ${'é'.repeat(128)}; ls | wc -c; rm é*`).stdout, '255\n');
  machine.exec('mkdir /tmp/many; cd /tmp/many');
  const names = Array.from({ length: 10_000 }, (_, i) => `f${i}`);
  for (let i = 0; i < names.length; i += 500) machine.exec(`touch ${names.slice(i, i + 500).join(' ')}`);
  t.is(
    machine.exec('ls | wc -l; echo f999*; ls -l | tail -n 1 | wc -w').stdout,
    '10000\nf999 f9990 f9991 f9992 f9993 f9994 f9995 f9996 f9997 f9998 f9999\n8\n',
  );
  t.is(machine.exec('cd ..; rm -r many; ls').stdout, '');
  t.regex(machine.exec('df /tmp').stdout, / 0 +\d+ +0% \/tmp\n$/);
});

test('trees with devices in them are copied, moved and searched to an end', t => {
  const machine = power();
  t.regex(
    machine.exec('cp -r /dev /tmp/d').stderr,
    /^(cp: cannot create special file '\/tmp\/d\/[a-z0-9-]+': Operation not supported\n)+$/,
  );
  t.is(machine.exec('rm -r /tmp/d; grep -r "no such thing at all" /; echo $?').stdout.slice(-2), '0\n'); // its own line in /proc/ps
  t.is(machine.exec('head /dev/zero').stderr, 'head: /dev/zero: Value too large for defined data type\n');
  t.is(machine.exec('read x < /dev/zero; echo $?').stdout, '0\n');
  t.deepEqual(leftovers(machine), []);
});

test('a host directory shows the names of what it does not give', t => {
  const stat = (path: string): { kind: number; size: number; mode: number } | number =>
    path === ''
      ? { kind: KIND.dir, size: 0, mode: 0o755 }
      : path === 'f'
        ? { kind: KIND.file, size: 1, mode: 0o644 }
        : -13;
  const list = (): { name: string; kind: number }[] => ['f', 'secret'].map(name => ({ name, kind: KIND.file }));
  const machine = power({ mounts: [{ guest: '/h', directory: { ...singleFile('f', text('x')), stat, list } }] });
  t.deepEqual(machine.exec('ls /h').stdout, 'f\nsecret\n');
  const long = machine.exec('ls -l /h');
  t.is(long.stderr, "ls: cannot access '/h/secret': Permission denied\n");
  t.regex(long.stdout, /^\?{10} +\? +\? +\? +\? +\? +secret$/m);
  t.is(long.status, 1);
});

// ── The library's line in ────────────────────────────────────────────────────────────────────────────────────────────────────────

test('exec: bytes as they are, output and commands of any length, no waiting', t => {
  const machine = power();
  t.deepEqual([...machine.exec("echo -ne '\\0\\xff\\x80a'").stdoutBytes], [0, 255, 128, 97]);
  machine.exec('head -c 10000000 /dev/zero > /tmp/z');
  t.is(machine.exec('cat /tmp/z').stdoutBytes.length, 10_000_000);
  for (const n of [LIMITS.windowBytes - 4, LIMITS.windowBytes - 3, LIMITS.windowBytes, 100_000])
    t.is(
      machine.exec(`x=${'é'.repeat(n / 2)}${'y'.repeat(n % 2)}; echo \${#x}`).stdout,
      `${Math.floor(n / 2) + (n % 2)}\n`,
    );
  const started = Date.now();
  t.is(machine.exec('sleep 1000000').status, 0);
  t.true(Date.now() - started < 5000);
  t.regex(machine.exec('uptime').stdout, /^up 11 days, 13:46:40\./);
  t.is(machine.exec('sleep 99999999999; echo $?').stdout, '1\n');
  t.is(machine.exec('cat; cat /dev/tty').status, 130);
  t.is(machine.exec('cat /dev/exec').status, 130);
  t.is(machine.exec('exit 7').status, 7);
  t.is(machine.exec('kill $$').status, 143);
  t.is(machine.exec('echo again').stdout, 'again\n');
});

test('the same commands give the same bytes and the same arena', t => {
  const lines = [
    'llminfer --seed 5 --max-tokens 12 Once upon a time',
    'ls -lR / | sha256sum; cat /proc/arena /proc/ps; date; uptime',
    'sleep 3; time true; strace ls /etc; head -c 16 /dev/random | hexdump -C',
    'llmctl load fable-q4_0; llmctl tokenize hello; llmstats --json; dmesg | tail -n 5',
  ];
  const run = (): readonly string[] => {
    const machine = power({ seed: 9 });
    const said = lines.flatMap(line => {
      const { status, stdout, stderr } = machine.exec(line);
      return [String(status), stdout, stderr];
    });
    return [...said, machine.kernel.arenaDigest()];
  };
  t.deepEqual(run(), run());
});

test('a model file from the host is the same as one in the image', t => {
  const machine = power();
  const host = power({ mounts: [{ guest: '/h', directory: singleFile('m.gguf', model) }] });
  machine.exec('llmctl load fable-q4_0');
  host.exec('llmctl load /h/m.gguf');
  t.is(
    host.exec('llminfer --seed 3 --max-tokens 16 One day').stdout,
    machine.exec('llminfer --seed 3 --max-tokens 16 One day').stdout,
  );
});
