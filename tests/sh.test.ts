// The shell's language against Debian's dash: scripts recorded by tools/record-dash.mjs, and fresh ones where dash is installed, run on a
// whole machine and compared by output, status and the kind of the first message. Where this shell means to differ is in
// tests/fixtures/sh/DIFFERENCES.md. Then what no script shows: jobs at a terminal, and pipes that stream.

import { readdirSync, readFileSync } from 'node:fs';
import process from 'node:process';
import test from 'ava';
import { boot as powerOn } from '../boot/index.ts';
import type { Machine } from '../boot/index.ts';
import { Tty } from '../drivers/tty/tty.ts';
import { quote } from '../shell/sh/quote.ts';
import { Dash, haveDash } from './reference/dash.ts';
import type { Recorded } from './reference/dash.ts';
import { errorKind, generateScripts } from './reference/sh-scripts.ts';
import { soak } from './harness.ts';

const fixtures = 'tests/fixtures/sh/';
const image = readFileSync('build/boot.cpio');
const boot = (): Machine => powerOn({ image });
const prepare = readFileSync(`${fixtures}prepare.txt`, 'utf8');
const files = readdirSync(fixtures).filter(n => n.endsWith('.jsonl'));

function read(name: string): Recorded[] {
  const lines = readFileSync(fixtures + name, 'utf8')
    .trimEnd()
    .split('\n');
  return lines.map(line => JSON.parse(line) as Recorded);
}

/** The scripts that DIFFERENCES.md lists. */
const listed: readonly string[] = Array.from(
  readFileSync(`${fixtures}DIFFERENCES.md`, 'utf8').matchAll(/^```sh\n(.*?)\n```$/gms),
  m => m[1]!,
);

/** Runs a script in a fresh directory. */
function run(m: Machine, script: string): Recorded {
  m.exec(`cd /tmp; rm -rf case; mkdir case; cd case; ${prepare}`);
  const { stdout, stderr, status } = m.exec(`HOME=/tmp/case sh -c ${quote(script)}`);
  const error = errorKind(stderr);
  return { script, stdout, status, ...(error === null ? {} : { error }) };
}

/** What this shell does otherwise, with the script that shows it first. */
function differences(wanted: Iterable<Recorded>): { script: string; wanted: Recorded; got: Recorded }[] {
  const m = boot();
  const found = [];
  for (const record of wanted) {
    const got = run(m, record.script);
    if (JSON.stringify(got) !== JSON.stringify(record)) found.push({ script: record.script, wanted: record, got });
  }
  return found;
}

// ── Scripts ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

for (const name of files) {
  test(`${name.replace('.jsonl', '')}: what dash does`, t => {
    const recorded = read(name);
    const found = differences(recorded);
    t.deepEqual(
      found.filter(d => !listed.includes(d.script)),
      [],
    );
    const stale = recorded.filter(r => listed.includes(r.script) && !found.some(d => d.script === r.script));
    t.deepEqual(stale, [], 'these are listed as differences and do not differ');
  });
}

test('at least 1000 different scripts are recorded, and at least 99 % are equal', t => {
  const scripts = new Set(files.flatMap(name => read(name).map(r => r.script)));
  t.true(scripts.size >= 1000);
  t.true(listed.length <= scripts.size / 100);
  for (const script of listed) t.true(scripts.has(script), script);
});

const withDash = haveDash || process.env['CI'] === 'true' ? test : test.skip;
withDash('scripts with a fresh seed: what dash does', t => {
  const seed = soak ? Date.now() % 1e9 : 77_001;
  const dash = new Dash(prepare);
  const recorded = generateScripts(seed, soak ? 3000 : 60).map(script => dash.record(script));
  dash.close();
  t.deepEqual(differences(recorded), [], `seed ${seed}`);
});

// ── Jobs at a terminal ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const CTRL_C = '\x03';
const CTRL_D = '\x04';
const CTRL_Z = '\x1a';

/** A person at a terminal: types, and gives back what was shown. */
function terminal(): (text: string) => string {
  let shown = '';
  const output = (bytes: Uint8Array): void => void (shown += new TextDecoder().decode(bytes));
  const tty = new Tty({ interactive: true, output });
  const machine = powerOn({ image, console: tty });
  machine.start(['sh']);
  const settle = (): string => {
    for (let i = 0; i < 500 && machine.run(64) !== 'idle'; i++);
    const text = shown;
    shown = '';
    return text;
  };
  settle();
  return text => {
    let said = '';
    for (const key of text) {
      tty.feed(new TextEncoder().encode(key));
      said += settle();
    }
    return said;
  };
}

test('Ctrl-Z stops the job in the foreground; fg goes on with it', t => {
  const type = terminal();
  type('cat\r');
  t.regex(type('one\r'), /one\r\none\r\n/);
  t.regex(type(CTRL_Z), /\[1\] \+ Stopped +cat\r\n/);
  t.regex(type('echo $?\r'), /148\r\n/);
  t.regex(type('jobs\r'), /\[1\] \+ Stopped +cat\r\n/);
  t.regex(type('jobs -l\r'), /\[1\] \+ [0-9]+ Stopped +cat\r\n/);
  t.regex(type('fg\r'), /cat\r\n/);
  t.regex(type('two\r'), /two\r\ntwo\r\n/);
  t.regex(type(CTRL_D), /sis> /);
  t.regex(type('echo $?; jobs\r'), /0\r\n.*sis> $/s);
});

test('a pipeline is one job: it stops, goes on and ends together', t => {
  const type = terminal();
  type('cat | wc -l\r');
  type('a\r');
  t.regex(type(CTRL_Z), /\[1\] \+ Stopped +cat \| wc -l\r\n/);
  t.regex(type('fg %1\r'), /cat \| wc -l/);
  type('b\r');
  t.regex(type(CTRL_D), /\b2\r\n/);
  type('cat | wc -l\r');
  t.regex(type(CTRL_C), /sis> /);
  t.regex(type('echo $?; jobs\r'), /130\r\n.*sis> $/s);
});

test('a job in the background that reads the terminal stops; bg, kill and wait name it', t => {
  const type = terminal();
  t.regex(type('cat &\r'), /\[1\] [0-9]+\r\n/);
  t.regex(type('jobs\r'), /\[1\] \+ Stopped +cat/);
  t.regex(type('bg\r'), /\[1\] cat/);
  t.regex(type('jobs\r'), /\[1\] \+ Stopped +cat/);
  t.regex(type('sleep 1000000 & jobs\r'), /\[1\] \+ Stopped +cat *\r\n\[2\] - Running +sleep 1000000/);
  t.regex(type('kill %cat; wait %1; echo status $?\r'), /status 143\r\n/);
  t.regex(type('fg %7\r'), /No such job: %7/);
  t.regex(type('fg\r'), /sleep 1000000|No current job/);
});

test('a stopped job is not lost by exit at once', t => {
  const type = terminal();
  type('cat\r');
  type(CTRL_Z);
  t.regex(type('exit\r'), /You have stopped jobs\.\r\n/);
  t.regex(type('echo here\r'), /here\r\n/);
});

test('an end in the background is told at the next prompt', t => {
  const type = terminal();
  type('(exit 3) &\r');
  t.regex(type('\r'), /\[1\] \+ Done\(3\) +\( *exit 3 *\)\r\n/);
  type('sleep 5 &\r');
  t.regex(type('wait\r') + type('\r'), /sis> /);
  t.regex(type('jobs; echo none\r'), /\n\r?none\r\n/);
});

// ── Streams ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a fast writer waits for its reader, and ends by SIGPIPE when the reader is gone', t => {
  const m = boot();
  const cases: readonly (readonly [script: string, stdout: string])[] = [
    ['while true; do echo y; done | head -n 1; echo $?', 'y\n0\n'],
    ['i=0; while [ $i -lt 3000 ]; do echo "line $i"; i=$((i+1)); done | { sleep 1; tail -n 1; }', 'line 2999\n'],
    ['seq 200000 | head -n 2 | tail -n 1', '2\n'],
    ['{ seq 200000; echo "ended $?" >&2; } 2>status | head -n 1; cat status', '1\nended 141\n'],
    ['(while true; do echo y; done; echo never >&2) | head -n 2', 'y\ny\n'],
    ['f() { while true; do echo $#; done; }; f a b | head -n 1', '2\n'],
    [
      "trap '' PIPE; { echo a; sleep 1; echo b; echo $? >&2; } 2>status | true; cat status",
      'echo: write error: Broken pipe\n1\n',
    ],
  ];
  m.exec('mkdir /tmp/s; cd /tmp/s');
  for (const [script, stdout] of cases) t.is(m.exec(script).stdout, stdout, script);
});

test('a long pipeline moves its data through pipes of one ring each, and leaves nothing', t => {
  const m = boot();
  const before = m.exec('ps | wc -l').stdout;
  t.is(m.exec('seq 20000 | cat | cat | cat | cat | cat | wc -l').stdout, '20000\n');
  t.is(m.exec('seq 20000 | while read n; do case $n in *999) echo $n;; esac; done | wc -l').stdout, '20\n');
  t.is(m.exec('ps | wc -l').stdout, before);
});

// ── Misuse ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('what grows without end is refused by a limit, and the machine goes on', t => {
  const m = boot();
  const cases: readonly (readonly [script: string, says: RegExp])[] = [
    ['f() { f; }; f', /nested more than 200 deep/],
    ['x=\'eval "$x"\'; eval "$x"', /nested more than 200 deep/],
    ['x=abcd; while :; do x=$x$x; done', /expansion of more than 4194304 bytes/],
    ['set -- a b; while :; do set -- "$@" "$@"; done', /expansion of more than 4194304 bytes/],
    [
      'x=$(printf %1000000s); i=0; while :; do i=$((i+1)); eval "v$i=\\$x"; done',
      /variables are limited to 16777216 bytes/,
    ],
    ['i=0; while i=$((i+1)); do eval "f$i() { :; }"; done', /more than 4096 functions/],
    ['i=0; while i=$((i+1)); do alias a$i=b || exit; done', /more than 4096 aliases/],
    ['bomb() { bomb | bomb & }; bomb; sleep 1', /Cannot fork|Too many open files/],
    ['x=$(cat /dev/zero | head -c 3000000 | cat)', /File too large/],
  ];
  for (const [script, says] of cases) {
    t.regex(m.exec(`sh -c ${quote(script)}`).stderr, says, script);
    t.is(m.exec('echo alive').stdout, 'alive\n');
  }
  t.is(m.exec('i=0; while [ $i -lt 200 ]; do true & i=$((i+1)); done; wait; jobs').stdout, '');
});
