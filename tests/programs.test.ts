// The text programs on a whole machine against recordings of Debian's coreutils, diffutils, findutils, binutils and grep: what they print,
// how their first message reads, their status. diff may differ where GNU's leaves out lines that are too frequent and so misses the shortest
// script. Then their bounds: refusals by number, expressions that match in linear time.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import test from 'ava';
import fc from 'fast-check';
import { boot as powerOn } from '../boot/index.ts';
import { memoryFile } from '../boot/listed-directory.ts';
import type { Machine } from '../boot/index.ts';
import { E, KIND, LIMITS, O } from '../kernel/abi/index.ts';
import type { HostDirectory, HostFile } from '../kernel/abi/index.ts';
import { changes } from '../shell/lib/diff.ts';
import { codePoints, compileRegex } from '../shell/lib/regex.ts';
import { quote } from '../shell/sh/quote.ts';
import { soak } from './harness.ts';

interface Case {
  readonly command: string;
  readonly files?: Readonly<Record<string, string>>;
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number;
}
type Recording = readonly [common: Case, ...cases: Case[]];
const read = (file: string): Recording =>
  readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as Case) as [Case, ...Case[]];

const image = readFileSync('build/boot.cpio');

/** A directory of the host whose files are given as byte strings. */
class Given implements HostDirectory {
  readonly source = 'given';
  readonly readOnly = true;
  files: Readonly<Record<string, string>> = {};

  stat(path: string): { kind: number; size: number; mode: number } | number {
    const name = path.replace(/^\//, '');
    if (name === '') return { kind: KIND.dir, size: 0, mode: 0o755 };
    const file = this.files[name];
    return file === undefined ? -E.NOENT : { kind: KIND.file, size: file.length, mode: 0o644 };
  }
  list(): { name: string; kind: number }[] {
    return Object.keys(this.files).map(name => ({ name, kind: KIND.file }));
  }
  open(path: string): HostFile | number {
    return memoryFile(Buffer.from(this.files[path.replace(/^\//, '')]!, 'latin1')).open(O.RDONLY);
  }
  create = (): number => -E.ROFS;
  mkdir = (): number => -E.ROFS;
  remove = (): number => -E.ROFS;
  removeDirectory = (): number => -E.ROFS;
  rename = (): number => -E.ROFS;
  truncate = (): number => -E.ROFS;
}

const given = new Given();
const boot = (): Machine => powerOn({ image, mounts: [{ guest: '/given', directory: given }] });

/** What differs from a recording, or null. */
function difference(machine: Machine, common: Case, c: Case): string | null {
  given.files = { ...common.files, ...c.files };
  machine.exec('cd /tmp; rm -rf /tmp/case; mkdir /tmp/case; cp /given/* /tmp/case; cd /tmp/case');
  const { stdoutBytes, stderr, status } = machine.exec(`sh -c ${quote(c.command)} < /given/in`);
  const got = {
    stdout: Buffer.from(stdoutBytes).toString('latin1'),
    stderr: stderr.split('\n', 1)[0]!,
    status,
  };
  const wanted = { stdout: c.stdout, stderr: c.stderr, status: c.status };
  if (JSON.stringify(got) === JSON.stringify(wanted)) return null;
  const files = c.files === undefined ? '' : `  with ${JSON.stringify(c.files)}\n`;
  return `${c.command}\n${files}  want ${JSON.stringify(wanted)}\n  got  ${JSON.stringify(got)}`;
}

/** Where ours are meant to differ. */
const KNOWN: readonly { readonly command: RegExp; readonly why: string }[] = [
  { command: /^grep .*-w.* -x.* -o/, why: 'with -o -w -x GNU grep prints an empty line after what matches' },
];

function differences([common, ...cases]: Recording): string[] {
  const machine = boot();
  return cases
    .filter(c => !KNOWN.some(known => known.command.test(c.command)))
    .flatMap(c => difference(machine, common, c) ?? []);
}

test('the text programs do what those of Debian do', t => {
  const recording = read('tests/fixtures/programs/recorded.jsonl');
  t.true(recording.length > 1300);
  t.true(recording.filter(c => KNOWN.some(known => known.command.test(c.command))).length < recording.length / 100);
  t.deepEqual(differences(recording), []);
});

(soak ? test : test.skip)('the same with commands from fresh seeds', t => {
  const file = path.join(mkdtempSync(path.join(tmpdir(), 'programs-')), 'recorded.jsonl');
  for (let seed = 1; seed <= 8; seed++) {
    const r = spawnSync(process.execPath, ['tools/record-programs.mjs', '--fresh', String(Date.now() + seed), file]);
    t.is(r.status, 0, String(r.stderr));
    const recording = read(file);
    const wrong = differences(recording);
    t.log(`${wrong.length} of ${recording.length - 1} differ`);
    t.true(wrong.length <= recording.length / 100, wrong.join('\n'));
  }
  rmSync(path.dirname(file), { recursive: true });
});

// ── Bounds ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('expressions that make backtracking matchers stall take linear time', t => {
  const none = { ignoreCase: false, word: false, line: false };
  const line = codePoints('a'.repeat(20_000));
  for (const pattern of ['(a*)*b', '(a|a)*b', '(a|aa)+$b', 'a{0,200}a{200}b', '(.*)(.*)(.*)(.*)x', '((a?){30}){30}b']) {
    const regex = compileRegex(pattern, 'extended', none);
    if (typeof regex === 'string') return t.fail(regex);
    const began = Date.now();
    t.is(regex.find(line, 0), null, pattern);
    t.true(Date.now() - began < 20_000, pattern);
  }
  t.is(compileRegex('((a{1000}){1000}){1000}', 'extended', none), 'Regular expression too big');
});

test('a match is the leftmost, then the longest: against every way to match tried one by one', t => {
  const pattern = fc.letrec<{ node: string; atom: string }>(tie => ({
    atom: fc.oneof(
      { depthSize: 'small' },
      fc.constantFrom('a', 'b', '.', '[^a]', '[ab]'),
      tie('node').map(n => `(${n})`),
    ),
    node: fc.oneof(
      { depthSize: 'small' },
      tie('atom'),
      fc.tuple(tie('node'), tie('node')).map(([x, y]) => x + y),
      fc.tuple(tie('node'), tie('node')).map(([x, y]) => `${x}|${y}`),
      fc.tuple(tie('atom'), fc.constantFrom('*', '+', '?', '{2}', '{1,3}')).map(([x, y]) => x + y),
    ),
  })).node;
  const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 7 });
  fc.assert(
    fc.property(pattern, text, (source, line) => {
      const regex = compileRegex(source, 'extended', { ignoreCase: false, word: false, line: false });
      if (typeof regex === 'string') throw new Error(regex);
      const whole = new RegExp(`^(?:${source})$`, 'u');
      let wanted: { start: number; end: number } | null = null;
      for (let start = 0; start <= line.length && wanted === null; start++)
        for (let end = line.length; end >= start && wanted === null; end--)
          if (whole.test(line.slice(start, end))) wanted = { start, end };
      t.deepEqual(regex.find(codePoints(line), 0), wanted, `${source} on ${line}`);
    }),
    { numRuns: soak ? 50_000 : 2_000 },
  );
});

test('back-references end after a stated number of steps, and grep says so', t => {
  given.files = { f: `${'a'.repeat(300)}b\nxyxy\n` };
  const r = boot().exec("grep -nE '(a*)(a*)(a*)(a*)\\1\\2\\3\\4c|(xy)\\5' /given/f");
  t.is(r.stdout, '2:xyxy\n');
  t.is(r.stderr, `grep: /given/f: line 1: back-references take more than ${LIMITS.regexSteps} steps\n`);
  t.is(r.status, 2);
});

test('a change script is right whatever the bound on edits, and the shortest below it', t => {
  const lines = fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 24 });
  fc.assert(
    fc.property(lines, lines, fc.constantFrom(1, 2, 4096), (from, to, editsMax) => {
      const [a, b] = [Int32Array.from(from), Int32Array.from(to)];
      const found = changes(a, b, editsMax);
      const built: number[] = [];
      let x = 0;
      let edits = 0;
      for (const c of found) {
        built.push(...a.slice(x, c.from), ...b.slice(c.start, c.end));
        x = c.to;
        edits += c.to - c.from + c.end - c.start;
      }
      t.deepEqual([...built, ...a.slice(x)], to);
      if (editsMax === 4096) t.is(edits, from.length + to.length - 2 * longestCommon(from, to));
    }),
    { numRuns: soak ? 100_000 : 3_000 },
  );
});

/** Length of the longest common subsequence, by the textbook's table. */
function longestCommon(a: readonly number[], b: readonly number[]): number {
  const table = Array.from({ length: a.length + 1 }, () => new Int32Array(b.length + 1));
  for (let i = 1; i <= a.length; i++)
    for (let j = 1; j <= b.length; j++)
      table[i]![j] = a[i - 1] === b[j - 1] ? table[i - 1]![j - 1]! + 1 : Math.max(table[i - 1]![j]!, table[i]![j - 1]!);
  return table[a.length]![b.length]!;
}

test('what does not fit is refused with the limit', t => {
  const line = `${'x'.repeat(4095)}\n`;
  given.files = { big: line.repeat(LIMITS.textBytes / line.length + 1) };
  const machine = boot();
  const refusal = (command: string): string => {
    const { status, stderr } = machine.exec(command);
    return `${status} ${stderr}`;
  };
  t.is(refusal('sort /given/big'), `2 sort: /given/big: more than ${LIMITS.textBytes} bytes to sort\n`);
  t.is(refusal('diff /given/big /etc/motd'), `2 diff: /given/big: more than ${LIMITS.textBytes} bytes to compare\n`);
  t.is(refusal('tail -c 17M /given/big'), `1 tail: /given/big: more than ${LIMITS.textBytes} bytes to hold back\n`);
  t.is(machine.exec('tail -n 1 /given/big').stdout, line);
});

test('xargs fills commands as far as they fit, and loses nothing', t => {
  const machine = boot();
  machine.exec('cd /tmp; seq 5000 > numbers; xargs echo < numbers > lines');
  t.true(Number(machine.exec('wc -l < lines').stdout) > 4);
  t.is(machine.exec("tr ' ' '\\n' < lines | cmp - numbers").status, 0);
  given.files = { long: 'y'.repeat(LIMITS.argBytes) };
  t.is(machine.exec('xargs echo < /given/long').stderr, 'xargs: argument line too long\n');
});

test('the commands of the lab work', t => {
  const machine = boot();
  const text = machine.exec('cat /usr/share/labs/text-tools.md').stdout;
  const commands = text.split('\n').flatMap(line => /^ {4}\$ (.*)$/.exec(line)?.[1] ?? []);
  t.true(commands.length > 15);
  for (const command of commands) {
    const r = machine.exec(command);
    t.is(r.status, 0, `${command}: ${r.stderr}`);
    t.is(r.stderr, '', command);
  }
});
