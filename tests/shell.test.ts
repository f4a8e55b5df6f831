// The shell room on a whole machine: its language and utilities against recordings of Debian's, its interactive side through the real
// terminal driver, its library by properties, and misuse that must leave the machine as it was.

import { readFileSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import { boot as powerOn } from '../boot/index.ts';
import type { BootOptions, Machine } from '../boot/index.ts';
import { Tty } from '../drivers/tty/tty.ts';
import { manual, programs } from '../shell/index.ts';
import { getopt } from '../shell/lib/getopt.ts';
import { civilTime, columns, humanSize, parseSize, wrap } from '../shell/lib/fmt.ts';
import { basename, byteOrder, dirname } from '../shell/lib/files.ts';
import { compilePattern, escapePattern, hasMagic, matches, unescape } from '../shell/lib/glob.ts';
import { compileRegex } from '../shell/lib/regex.ts';
import { Parser } from '../shell/sh/parse.ts';
import { quote } from '../shell/sh/quote.ts';

interface Recorded {
  readonly script: string;
  readonly stdout: string;
  readonly stderr?: string;
  readonly status: number;
}
const recorded = JSON.parse(readFileSync('tests/fixtures/sh/recorded.json', 'utf8')) as {
  readonly prepare: string;
  readonly language: readonly Recorded[];
  readonly utilities: readonly Recorded[];
};
const encoder = new TextEncoder();
const image = readFileSync('build/boot.cpio');
const boot = (options: BootOptions = {}): Machine => powerOn({ image, ...options });

/** Runs each recorded script in a fresh directory of one machine; returns what differs. */
function differences(cases: readonly Recorded[], command: (script: string) => string): string[] {
  const machine = boot();
  const wrong: string[] = [];
  for (const { script, ...wanted } of cases) {
    machine.exec('rm -rf /tmp/case; mkdir /tmp/case; cd /tmp/case');
    machine.exec(recorded.prepare);
    const { stdout, stderr, status } = machine.exec(command(script));
    const got = wanted.stderr === undefined ? { stdout, status } : { stdout, stderr, status };
    if (JSON.stringify(got) !== JSON.stringify(wanted)) {
      wrong.push(`${script}\n  want ${JSON.stringify(wanted)}\n  got  ${JSON.stringify(got)} ${stderr}`);
    }
    machine.exec('cd /tmp');
  }
  return wrong;
}

test('the language does what dash does', t => {
  t.true(recorded.language.length >= 60);
  t.deepEqual(
    differences(recorded.language, script => `sh -c ${quote(script)}`),
    [],
  );
});

test('the utilities print what coreutils, grep and hexdump print, messages included', t => {
  t.true(recorded.utilities.length >= 150);
  t.deepEqual(
    differences(recorded.utilities, script => script),
    [],
  );
});

// ── The machine's line in ────────────────────────────────────────────────────────────────────────────────────────────────────────

test('exec keeps directory, variables and options between lines, and gives no input', t => {
  const m = boot();
  m.exec('cd /tmp; x=kept; export E=exported');
  t.is(m.exec("pwd; echo $x; sh -c 'echo $E'").stdout, '/tmp\nkept\nexported\n');
  t.is(m.exec('cat').stdout, '');
  t.is(m.exec('exit 5').status, 5);
  t.is(m.exec('echo $x').stdout, 'kept\n');
  t.is(m.exec('false').status, 1);
  t.is(m.exec('echo $?').stdout, '1\n');
  t.is(m.exec('').status, 0);
});

test('errors of the shell name the line, the token and the command', t => {
  const m = boot();
  const run = (text: string): [string, number] => {
    const r = m.exec(text);
    return [r.stderr, r.status];
  };
  t.deepEqual(run('echo a | | b'), ["sh: line 1: syntax error near unexpected token '|'\n", 2]);
  t.deepEqual(run('echo a\n\n&& b'), ["sh: line 3: syntax error near unexpected token '&&'\n", 2]);
  t.deepEqual(run("echo 'a\nb"), ["sh: line 1: unexpected end of file while looking for matching `''\n", 2]);
  t.deepEqual(run('echo a &&'), ['sh: line 1: syntax error: unexpected end of file\n', 2]);
  t.deepEqual(run('& sleep 1'), ["sh: line 1: syntax error near unexpected token '&'\n", 2]);
  t.deepEqual(run('true\nif true; echo x; fi'), ["sh: line 2: syntax error near unexpected token 'fi'\n", 2]);
  t.deepEqual(run('foo'), ['sh: foo: not found\n', 127]);
  t.deepEqual(run('/tmp'), ['sh: /tmp: Permission denied\n', 126]);
  t.deepEqual(run('/no/such'), ['sh: /no/such: not found\n', 127]);
  t.deepEqual(run('echo x > /no/such'), ['sh: /no/such: No such file or directory\n', 2]);
  t.deepEqual(run('echo x >&7'), ['sh: 7: Bad file descriptor\n', 2]);
  t.deepEqual(run('echo ${x y}'), ['sh: Bad substitution\n', 2]);
});

test('a script is run by its interpreter line, without one by sh, and binaries not at all', t => {
  const m = boot();
  m.exec('cd /tmp; cp /bin/cat tool');
  t.is(m.exec('./tool /etc/hostname').stdout, m.exec('cat /etc/hostname').stdout);
  m.exec('echo \'echo "$0|$1|$#"\' > plain; cat /bin/true > prog; mkdir bin');
  t.is(m.exec('sh plain "a b" c').stdout, 'plain|a b|2\n');
  t.is(m.exec('. ./plain x').stdout, 'sh|x|1\n');
  t.is(m.exec('./plain').status, 126); // no execute permission
});

test('sh reads standard input no further than the line it runs', t => {
  const m = boot();
  m.exec(
    "cd /tmp; echo 'echo first; cat' > s; echo rest >> s; echo 'read x' > r; echo value >> r; echo 'echo got $x' >> r",
  );
  t.is(m.exec('sh < s').stdout, 'first\nrest\n');
  t.is(m.exec('cat s | sh').stdout, 'first\nrest\n');
  t.is(m.exec('cat r | sh').stdout, 'got value\n');
});

// ── A person at the terminal ─────────────────────────────────────────────────────────────────────────────────────────────────────

function terminal(): { type(text: string): string; status(): number | undefined; exec(line: string): string } {
  let shown = '';
  const tty = new Tty({
    interactive: true,
    output: bytes => {
      shown += new TextDecoder().decode(bytes);
    },
  });
  const machine = boot({ console: tty });
  const pid = machine.start(['sh']);
  const settle = (): string => {
    for (let i = 0; i < 500 && machine.run(64) !== 'idle'; i++);
    const text = shown;
    shown = '';
    return text;
  };
  settle();
  return {
    type(text) {
      let said = '';
      for (const key of text) {
        tty.feed(encoder.encode(key));
        said += settle();
      }
      return said;
    },
    status: () => machine.statusOf(pid),
    exec: line => machine.exec(line).stdout,
  };
}

test('the prompt runs lines, asks for more when a command is unfinished, and ends with exit', t => {
  const term = terminal();
  t.regex(term.type('echo typed\r'), /typed\r\n.*sis> /s);
  t.regex(term.type("echo 'two\r"), /> $/);
  t.regex(term.type("lines'\r"), /two\r\nlines\r\n/);
  t.regex(term.type('echo a |\r'), /> $/);
  t.regex(term.type('cat -n\r'), / {5}1\ta\r\n/);
  t.regex(term.type('nosuch\r'), /sh: nosuch: not found/);
  t.regex(term.type(') x\r'), /syntax error near unexpected token '\)'/);
  t.regex(term.type('history\r'), /1 {2}echo typed\r\n {4}2 {2}echo 'two\r\nlines'\r\n/);
  term.type('exit 3\r');
  t.is(term.status(), 3);
});

test('Ctrl-C ends the command, not the shell; Ctrl-D ends the shell', t => {
  const term = terminal();
  term.type('half a line\x03');
  t.regex(term.type('echo $?\r'), /130\r\n/);
  term.type('cat\r');
  term.type('echoed\r');
  term.type('\x03');
  t.regex(term.type('echo after $?\r'), /after 130\r\n/);
  term.type('cat; echo never\r');
  t.notRegex(term.type('\x03'), /never/);
  term.type('\x04');
  t.is(term.status(), 130);
});

test('Tab completes commands and paths, quoting what the shell would split', t => {
  const term = terminal();
  term.exec("mkdir /tmp/dir; echo z > '/tmp/dir/odd name'; echo y > /tmp/dir/other");
  t.regex(term.type('sha2\t/tmp/di\tot\t\r'), /[0-9a-f]{64} {2}\/tmp\/dir\/other/);
  t.regex(term.type('cat /tmp/dir/od\t\r'), /\bz\r\n/);
  t.regex(term.type('cat < /tmp/dir/oth\t\r'), /\by\r\n/);
});

test('on a terminal ls makes columns', t => {
  const term = terminal();
  t.regex(term.type('ls /bin\r'), /basename {2,}\S+ {2,}\S+/);
});

// ── Commands of the machine ──────────────────────────────────────────────────────────────────────────────────────────────────────

test('every program is in /bin and answers --help; every command has a manual page', t => {
  const m = boot();
  t.deepEqual(m.exec('ls /bin').stdout.trim().split('\n'), [...programs.keys()].sort(byteOrder));
  for (const name of programs.keys()) {
    const r = m.exec(`/bin/${name} --help`); // builtins of the same name follow POSIX, which knows no --help
    if (name !== '[') t.is(r.status, 0, `${name} --help`);
    t.true(
      r.stdout.split('\n').every(line => line.length <= 80),
      `${name} --help is too wide`,
    );
    t.true(name === '[' || r.stdout.startsWith(`Usage: ${name}`), `${name} --help: ${r.stdout}`);
  }
  for (const [name, page] of manual) {
    const r = m.exec(`man '${name}'`);
    t.true(r.stdout.startsWith(`NAME\n    ${name} - ${page.summary}\n`), `man ${name}`);
    t.notRegex(page.summary, /^[A-Z]|\.$/, `summary of ${name}`);
    t.true(
      r.stdout.split('\n').every(line => line.length <= 80),
      `man ${name} is too wide`,
    );
  }
  const help = m.exec('help').stdout;
  for (const name of manual.keys())
    t.true(help.includes(`\n${name} `) || help.startsWith(`${name} `), `help lists ${name}`);
});

test('topics and labs are pages of the boot image, no wider than a screen', t => {
  const m = boot();
  for (const topic of [
    'adapters',
    'intro',
    'arena',
    'audit',
    'finetune',
    'fs-gguf',
    'limits',
    'line-editing',
    'page',
    'quota',
    'rights',
    'sessions',
    'syscalls',
    'trust',
    'wcet',
  ]) {
    const r = m.exec(`man ${topic}`);
    t.is(r.status, 0, topic);
    t.true(r.stdout.startsWith(`NAME\n    ${topic} - `), topic);
  }
  const files = m.exec('ls /usr/share/man/* /usr/share/labs/*').stdout.trim().split('\n');
  for (const file of files) {
    const wide = m
      .exec(`cat ${file}`)
      .stdout.split('\n')
      .filter(line => line.length > 80);
    t.deepEqual(wide, [], file);
  }
  t.regex(m.exec('man -k tensor').stdout, /^fs-gguf +- /m);
  t.deepEqual([m.exec('man nosuch').status, m.exec('man nosuch').stderr], [16, 'man: No manual entry for nosuch\n']);
});

test('the commands that the labs of this room tell to type work', t => {
  const m = boot();
  const failing = new Map([
    ['llmctl load fable-q8_0 --ctx 100000', 1],
    ['strace ls /nowhere', 2],
  ]);
  for (const name of ['shell', 'editing', 'arena', 'gguf', 'strace']) {
    const text = m.exec(`cat /usr/share/labs/${name}.md`).stdout;
    const commands = text.split('\n').flatMap(line => /^ {4}\$ (.*)$/.exec(line)?.[1] ?? []);
    t.true(commands.length >= 4, name);
    for (const command of commands) {
      const r = m.exec(command);
      t.is(r.status, failing.get(command) ?? 0, `${name}: ${command}: ${r.stderr}`);
    }
  }
});

test('a model mounted as a directory is read like any other', t => {
  const m = boot();
  t.is(m.exec('mkdir -p /mnt/x && mount -t gguf /models/fable-q8_0.gguf /mnt/x').status, 0);
  t.regex(m.exec('mount').stdout, /^\/models\/fable-q8_0\.gguf on \/mnt\/x type gguf \(ro\)$/m);
  t.is(m.exec('cat /mnt/x/metadata/general.architecture').stdout, 'llama\n');
  const whole = m.exec('wc -c < /mnt/x/tensors/token_embd.weight/data').stdout.trim();
  t.is(m.exec('cat /mnt/x/tensors/token_embd.weight/size').stdout.trim(), whole);
  t.is(
    m.exec('rm /mnt/x/metadata/general.architecture').stderr,
    "rm: cannot remove '/mnt/x/metadata/general.architecture': Read-only file system\n",
  );
  t.is(m.exec('umount /mnt/x; ls /mnt/x').stdout, '');
  const bad = m.exec('mount -t gguf /etc/motd /mnt/x');
  t.is(bad.status, 32);
  t.regex(bad.stderr, /^mount: \/mnt\/x: .*1002 InvalidModelFormat: .*\n$/);
  t.regex(m.exec('umount /mnt/x').stderr, /^umount: \/mnt\/x: /);
});

test('free, df, uptime, dmesg, ps, time and strace report the machine', t => {
  const m = boot();
  t.regex(m.exec('free').stdout, /^ +total +used +free +available\nMem: +8192 +\d+ +\d+ +\d+\n$/);
  const regions = m.exec('free -v').stdout.trim().split('\n');
  const listed = m.exec('cat /proc/arena').stdout.trim().split('\n');
  t.deepEqual(
    regions.map(line => line.trim().split(/ +/).slice(0, 4)),
    listed.map(line => line.trim().split(/ +/).slice(0, 4)),
  );
  t.regex(m.exec('df -h /tmp').stdout, /^Filesystem .*\n\S+ +\d+M +0 .* 0% \/tmp\n$/);
  t.regex(m.exec('uptime').stdout, /^up 0:00:\d\d\.\d{6} \(virtual\), \d+ cycles at \d+ MHz\n$/);
  t.regex(m.exec('dmesg | head -n 1').stdout, /^\[ +0\.\d{6}\] arena8 /);
  t.regex(m.exec('ps').stdout, /ps\n$/);
  const timed = m.exec('time false');
  t.is(timed.status, 1);
  t.regex(timed.stderr, /^real\t0m0\.\d{6}s\ncycles\t\d+\n$/);
  const traced = m.exec('strace cat /etc/hostname');
  t.regex(traced.stderr, /^open\("\/etc\/hostname", O_RDONLY, 0+\) = \d\nread\(/m);
  t.regex(traced.stderr, /\+\+\+ exited with 0 \+\+\+\n$/);
  t.regex(m.exec("strace sh -c 'true | cat'").stderr, /^\[pid \d+\] read\(0, "", \d+\) = 0\n/m);
  t.regex(m.exec('strace -c ls /nofile').stderr, /^ +1 +1 +stat$/m);
});

test('every byte passes through cat, cp, head, tail, tee and pipes unchanged', t => {
  const m = boot();
  const source = '/models/fable-q4_0.gguf';
  const sum = (command: string): string => m.exec(command).stdout.split(' ')[0]!;
  const wanted = sum(`sha256sum ${source}`);
  t.is(sum(`cat ${source} | sha256sum`), wanted);
  t.is(sum(`cat < ${source} | cat | cat | sha256sum`), wanted);
  t.is(sum(`cp ${source} /tmp/c; sha256sum /tmp/c`), wanted);
  t.is(sum(`head -c 100M ${source} | tail -c +1 | tee /tmp/t | sha256sum`), wanted);
  t.is(sum('sha256sum /tmp/t'), wanted);
  m.exec('rm /tmp/t /tmp/c');
});

// ── Misuse ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('what is too large is refused, and the machine goes on', t => {
  const m = boot();
  const long = 'x'.repeat(9000);
  t.regex(m.exec(`x=${long}; /bin/echo $x$x`).stderr, /^sh: \/bin\/echo: Argument list too long\n$/);
  t.is(m.exec(`echo ${long} | wc -c`).stdout, '9001\n');
  const pipes = Array.from({ length: 60 }, () => 'cat').join(' | ');
  const r = m.exec(`echo through | ${pipes}`);
  t.true(r.stdout === 'through\n' || r.stderr !== '', 'sixty stages work or say why not');
  t.regex(m.exec(`cat ${'d/'.repeat(600)}x`).stderr, /File name too long|No such file/);
  for (let i = 0; i < 200; i++)
    if (m.exec('echo a | cat | wc -c > /tmp/n; cat < /tmp/n').stdout !== '2\n') t.fail(`round ${i}`);
  t.is(m.exec('ps | wc -l').stdout, '4\n');
});

test('a producer whose reader has gone is ended; one that fails to write says so', t => {
  const m = boot();
  t.is(m.exec('seq 1000000 | head -n 1').stdout, '1\n');
  t.is(m.exec('echo full > /dev/full').stderr, 'echo: write error: No space left on device\n');
  t.is(m.exec('cat /etc/motd >&-').status === 0, false);
});

test('random texts never break the parser, and what it accepts it ends', t => {
  const alphabet = [
    'a',
    ' ',
    '\n',
    "'",
    '"',
    '\\',
    '$',
    '{',
    '}',
    '|',
    '&',
    ';',
    '<',
    '>',
    '(',
    ')',
    '#',
    '=',
    '1',
    '~',
    '*',
    ':',
    '-',
  ];
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...alphabet), { maxLength: 40 }), pieces => {
      const parser = new Parser(pieces.join(''));
      for (let i = 0; i <= pieces.length; i++) if (parser.next().kind !== 'list') return true;
      return false;
    }),
    { numRuns: 5000, seed: 7 },
  );
  const m = boot();
  for (const text of [
    '',
    '  ',
    '#',
    '\\',
    '$',
    '${',
    '"$',
    "'",
    '`',
    '!',
    '! ',
    ';;',
    '<<',
    '<<x',
    'a <<-b',
    '&',
    '|',
    '>',
    '2>',
    '=',
    '=x',
    '1=2',
  ]) {
    m.exec(text);
    t.is(m.exec('echo alive').stdout, 'alive\n', text);
  }
});

// ── The library ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('quoting comes back through the shell unchanged', t => {
  const m = boot();
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(...'ab \'"\\$*?[]~#|&;<>()!{}\n\té漢😀'), maxLength: 30 }), text => {
      return m.exec(`printf %s ${quote(text)}`).stdout === text;
    }),
    { numRuns: 200, seed: 3 },
  );
  t.pass();
});

test('patterns match what the equivalent regular expression matches', t => {
  const piece = fc.constantFrom(
    '*',
    '?',
    'a',
    'b',
    '.',
    '[ab]',
    '[!a]',
    '[a-c]',
    '\\*',
    '[]a]',
    '[[:digit:]]',
    '1',
    '😀',
  );
  const asRegExp: Readonly<Record<string, string>> = {
    '*': '.*',
    '?': '.',
    '[!a]': '[^a]',
    '\\*': '\\*',
    '[]a]': '[\\]a]',
    '[[:digit:]]': '[0-9]',
    '.': '\\.',
  };
  const text = fc.string({ unit: fc.constantFrom(...'abc.*]1😀'), maxLength: 10 });
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), text, (pieces, subject) => {
      const regex = new RegExp(`^${pieces.map(p => asRegExp[p] ?? p).join('')}$`, 'su');
      return matches(compilePattern(pieces.join('')), subject) === regex.test(subject);
    }),
    { numRuns: 5000, seed: 1 },
  );
  fc.assert(
    fc.property(
      text,
      s =>
        unescape(escapePattern(s)) === s && !hasMagic(escapePattern(s)) && matches(compilePattern(escapePattern(s)), s),
    ),
    { numRuns: 500, seed: 2 },
  );
  // A pattern with many stars does not take exponential time.
  t.false(matches(compilePattern(`${'a*'.repeat(30)}b`), 'a'.repeat(2000)));
});

test('regular expressions are POSIX', t => {
  const plain = { ignoreCase: false, word: false, line: false };
  const holds = (pattern: string, syntax: 'basic' | 'extended', text: string): boolean => {
    const regex = compileRegex(pattern, syntax, plain);
    return typeof regex !== 'string' && regex.test(text);
  };
  t.true(holds('a\\{2,3\\}$', 'basic', 'baaa'));
  t.true(holds('a+b', 'basic', 'a+b'));
  t.true(holds('a\\+b', 'basic', 'aaab'));
  t.true(holds('(a|b)+c', 'extended', 'abac'));
  t.true(holds('(a|b)', 'basic', '(a|b)'));
  t.true(holds('\\(ab\\)*\\1', 'basic', 'abab'));
  t.true(holds('^*a', 'basic', '*a'));
  t.true(holds('a^b$c', 'basic', 'a^b$c'));
  t.true(holds('[]x]', 'basic', ']'));
  t.true(holds('[^]x]', 'basic', 'y'));
  t.true(holds('[a-]', 'basic', '-'));
  t.true(holds('[\\n]', 'basic', '\\'));
  t.true(holds('^.$', 'extended', '😀'));
  t.true(holds('{', 'extended', '{'));
  t.is(compileRegex('a\\', 'basic', plain), 'Trailing backslash');
  t.is(compileRegex('\\(a', 'basic', plain), 'Unmatched ( or \\(');
  t.is(compileRegex('a\\{1', 'basic', plain), 'Unmatched \\{');
});

test('options parse as GNU getopt_long does', t => {
  const table = {
    all: { short: 'a', help: '' },
    lines: { short: 'n', value: 'N', digits: true, help: '' },
    line: { value: 'N', help: '' },
    stop: { value: 'S', many: true, help: '' },
    l: { help: '' },
  } as const;
  const parse = (...args: string[]) => getopt(table, args, 'gnu');
  t.like(parse('-al', 'x', '-n5', 'y'), {
    options: { all: true, l: true, lines: '5' },
    operands: ['x', 'y'],
    error: null,
  });
  t.like(parse('--lines=7', '--line', '3', '--stop=a', '--stop', 'b'), {
    options: { lines: '7', line: '3', stop: ['a', 'b'] },
  });
  t.like(parse('--al', '-12', '--', '-a'), { options: { all: true, lines: '12' }, operands: ['-a'] });
  t.like(parse('-', '--help'), { operands: ['-'], help: true });
  t.is(parse('--li', '3').error, "option '--li' is ambiguous");
  t.is(parse('--nope').error, "unrecognized option '--nope'");
  t.is(parse('--all=1').error, "option '--all' doesn't allow an argument");
  t.is(parse('-n').error, "option requires an argument -- 'n'");
  t.is(parse('-z').error, "invalid option -- 'z'");
  t.deepEqual(getopt(table, ['-a', 'cmd', '-n'], 'posix').operands, ['cmd', '-n']);
  t.deepEqual(getopt(table, ['-x', '--', '--help'], 'none').operands, ['-x', '--', '--help']);
});

test('figures, dates, columns and paths', t => {
  const sizes: [number, string][] = [
    [0, '0'],
    [1023, '1023'],
    [1024, '1.0K'],
    [1025, '1.1K'],
    [10239, '10K'],
    [1048575, '1.0M'],
    [4873728, '4.7M'],
    [67108864, '64M'],
  ];
  for (const [bytes, text] of sizes) t.is(humanSize(bytes), text);
  t.deepEqual(['12', '4K', '2kB', '1M', '3b', 'x', '-1', ''].map(parseSize), [
    12,
    4096,
    2000,
    1048576,
    1536,
    null,
    null,
    null,
  ]);
  fc.assert(
    fc.property(fc.integer({ min: -(10 ** 10), max: 10 ** 11 }), seconds => {
      const date = new Date(seconds * 1000);
      const c = civilTime(seconds);
      return (
        c.year === date.getUTCFullYear() &&
        c.month === date.getUTCMonth() + 1 &&
        c.day === date.getUTCDate() &&
        c.hour === date.getUTCHours() &&
        c.minute === date.getUTCMinutes() &&
        c.second === date.getUTCSeconds() &&
        c.weekday === date.getUTCDay()
      );
    }),
  );
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 12 })),
      fc.integer({ min: 10, max: 100 }),
      (names, width) =>
        columns(names, width)
          .split('\n')
          .every(line => line.length <= Math.max(width, 12)),
    ),
  );
  t.is(wrap('a bb ccc dddd', 8, 2), '  a bb\n  ccc\n  dddd\n');
  const full = fc.string({ unit: 'binary' });
  fc.assert(
    fc.property(
      full,
      full,
      (a, b) => Math.sign(byteOrder(a, b)) === Math.sign(Buffer.compare(Buffer.from(a), Buffer.from(b))),
    ),
  );
  t.deepEqual(['/', 'a', 'a/', '/a/b//', ''].map(basename), ['/', 'a', 'a', 'b', '']);
  t.deepEqual(['/', 'a', '/a', 'a/b/', '//a//b'].map(dirname), ['/', '.', '/', 'a', '//a']);
});
