// The editor's keys one by one, each typed as a terminal sends it and seen as the screen shows it; the list that Tab makes; and seeded
// sessions of random keys at widths from 10 to 120 in which the screen must always be the picture of what the editor holds.

import test from 'ava';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { boot, type BootOptions } from '../boot/index.ts';
import { expandHistory } from '../shell/sh/history.ts';
import { decodeKey } from '../drivers/tty/keys.ts';
import { EditBuffer } from '../drivers/tty/buffer.ts';
import { lastWord } from '../drivers/tty/history.ts';
import { nextCharacter } from '../kernel/abi/width.ts';
import { LineEditor } from '../drivers/tty/editor.ts';
import { Tty } from '../drivers/tty/tty.ts';
import { LIMITS, utf8Decode, utf8Encode, utf8Length } from '../kernel/abi/index.ts';
import { random } from './reference/random.ts';
import { Seat } from './support/seat.ts';
import { sitting } from './support/sitting.ts';
import {
  ctrl,
  del,
  Desk,
  down,
  drawn,
  end,
  home,
  left,
  meta,
  pasted,
  picture,
  right,
  screenOf,
  terminal,
  up,
} from './support/terminal.ts';

const soak = process.env['ARENA8_SOAK'] === '1';
const undo = '\x1f';

/** The line that these keys and Enter make, after these lines. */
function run(keys: string, ...before: string[]): string {
  const d = new Desk();
  for (const line of before) d.line(`${line}\r`);
  return d.line(`${keys}\r`)!.slice(1);
}

test('keys as xterm, VT, rxvt and the Linux console send them', t => {
  const name = (sequence: string): string | undefined =>
    decodeKey(utf8Encode(sequence), 0, utf8Encode(sequence).length, false)?.name;
  const expected: Record<string, string> = {
    '\x1b[A': 'Up', '\x1bOA': 'Up', '\x1b[B': 'Down', '\x1b[C': 'Right', '\x1bOD': 'Left',
    '\x1b[H': 'Home', '\x1bOH': 'Home', '\x1b[1~': 'Home', '\x1b[7~': 'Home',
    '\x1b[F': 'End', '\x1bOF': 'End', '\x1b[4~': 'End', '\x1b[8~': 'End', '\x1b[3~': 'Delete',
    '\x1b[1;5C': 'M-f', '\x1b[1;3D': 'M-b', '\x1b[1;2C': 'Right', '\x1b[1;6D': 'M-b', '\x1b[3;5~': 'M-d', '\x1b[3;2~': 'Delete',
    '\x1bOc': 'M-f', '\x1bOd': 'M-b', '\x1b[c': 'Right', '\x1b[3^': 'M-d', '\x1b\x1b[D': 'M-b', '\x1b\x1bOC': 'M-f',
    '\x1b[[A': 'Ignored', '\x1b[15~': 'Ignored', '\x1b[I': 'Ignored', '\x1b[?1;2c': 'Ignored', '\x1b[<0;1;1M': 'Ignored',
    '\x01': 'C-a', '\x1f': 'C-_', '\x1c': 'C-\\', '\x7f': 'Backspace', '\x08': 'Backspace', '\x1b\x7f': 'M-Backspace', '\x1bB': 'M-b',
  }; // prettier-ignore
  for (const [sequence, wanted] of Object.entries(expected)) t.is(name(sequence), wanted, JSON.stringify(sequence));
  for (const part of ['\x1b', '\x1b[', '\x1bO', '\x1b\x1b', '\x1b\x1b[', '\x1b[1;5'])
    t.is(name(part), undefined, JSON.stringify(part));
});

test('undo takes back typing in runs, and every other change by itself', t => {
  t.is(run(`abc${undo}`), '');
  t.is(run(`abc def${ctrl('w')}${undo}`), 'abc def');
  t.is(run(`abc${left}X${undo}`), 'abc');
  t.is(run(`abc${left}X${undo}${undo}`), '');
  t.is(run(`one two${ctrl('x')}${ctrl('u')}`), '');
  t.is(run(`${'x'.repeat(50)}${undo}`), 'x'.repeat(40), 'twenty characters at a time');
  t.is(run(`a${pasted('long pasted text, more than twenty characters')}${undo}`), 'a', 'a paste at once');
  t.is(run(`one two${ctrl('w')}three${meta('r')}`), '');
  t.is(run(`x${meta('r')}`, 'recalled'), '');
  t.is(run(`${up}!${meta('r')}`, 'recalled'), 'recalled');
  const d = new Desk();
  d.line('a');
  d.raw();
  d.line(`${undo}${undo}`);
  t.true(d.raw().includes('\x07'), 'nothing left to undo');
});

test('the kill ring', t => {
  const cut = `one${ctrl('u')}two${ctrl('u')}three${ctrl('u')}`;
  t.is(run(`${cut}${ctrl('y')}`), 'three');
  t.is(run(`${cut}${ctrl('y')}${meta('y')}`), 'two');
  t.is(run(`${cut}${ctrl('y')}${meta('y')}${meta('y')}`), 'one');
  t.is(run(`${cut}${ctrl('y')}${meta('y')}${meta('y')}${meta('y')}`), 'three');
  t.is(run(`${cut}${ctrl('y')}${meta('y')} ${ctrl('y')}`), 'two two', 'the ring stays turned');
  t.is(run(`${cut}${meta('y')}x`), 'x', 'only after a yank');
  t.is(run(`${cut}${ctrl('y')}x${meta('y')}${meta('y')}`), 'threex', 'not after one that did nothing either');
  t.is(run(`a b c${ctrl('w')}${meta('\x7f')}${ctrl('u')}${ctrl('y')}`), 'a b c', 'kills in a row join, whichever way');
  t.is(run(`some words${ctrl('x')}\x7f${ctrl('y')}${ctrl('y')}`), 'some wordssome words');
});

test('words: case, transposing, blanks', t => {
  t.is(run(`one two${ctrl('a')}${meta('u')}${meta('c')}`), 'ONE Two');
  t.is(run(`ONE TWO${ctrl('a')}${meta('l')}${meta('c')}`), 'one Two');
  t.is(run(`żółw${ctrl('a')}${meta('c')}`), 'Żółw');
  t.is(run(`one two${meta('t')}`), 'two one');
  t.is(run(`one  two three${meta('b')}${meta('b')}${meta('t')}!`), 'two  one! three');
  t.is(run(`one${meta('t')}`), 'one');
  t.is(run(`a   b${left}${left}${meta('\\')}X`), 'aXb');
  t.is(run(`${ctrl('v')}\x01${ctrl('q')}\tb`), '\x01\tb', 'C-v inserts what follows as it is');
  t.is(run(`rm x${meta('#')}`), '#rm x');
});

test('the last word of the lines before', t => {
  const before = ['cat /etc/motd', 'echo "a b"', 'ls'];
  t.is(run(`x ${meta('.')}`, ...before), 'x ls');
  t.is(run(`x ${meta('.')}${meta('_')}`, ...before), 'x "a b"');
  t.is(run(`x ${meta('.')}${meta('.')}${meta('.')} y`, ...before), 'x /etc/motd y');
  t.is(run(meta('.')), '');
  for (const [line, word] of [['a b\\ c', 'b\\ c'], ["a 'b c", "'b c"], ['  ', ''], ['x\\', 'x\\'], ['a "b\\" c" ', '"b\\" c"']] as const)
    t.is(lastWord(line), word);
}); // prettier-ignore

test('moving through the history keeps what was changed until the line is given', t => {
  const lines = ['first', 'second', 'third'];
  t.is(run(`${up}${up}!${down}${up}`, ...lines), 'second!');
  t.is(run(`draft${up}${down}`, ...lines), 'draft');
  t.is(run(`draft${meta('<')}`, ...lines), 'first');
  t.is(run(`draft${meta('<')}${meta('>')}`, ...lines), 'draft');
  const d = new Desk();
  for (const line of lines) d.line(`${line}\r`);
  t.is(d.line(`${up}${up}!\r`), 'Lsecond!');
  t.is(d.line(`${up}${up}${up}\r`), 'Lsecond', 'the line that was changed on the way is as it was');
  t.is(d.line(`${meta('<')}${ctrl('o')}`), 'Lfirst');
  t.is(d.line('\r'), 'Lsecond', 'C-o brings up the line after');
});

test('search backwards and forwards, as bash shows it', async t => {
  const d = new Desk(60, 4);
  for (const line of ['echo one', 'make', 'echo two', 'echo two three']) d.line(`${line}\r`);
  await drawn(d.term, `${d.raw()}\x1b[H\x1b[2J`);
  const shows = async (keys: string, row: string): Promise<void> => {
    t.is(d.line(keys), null);
    t.deepEqual(await d.screen(), [row]);
  };
  await shows(`${ctrl('r')}`, "(reverse-i-search)`': ▮");
  await shows('echo', "(reverse-i-search)`echo': ▮echo two three");
  await shows(ctrl('r'), "(reverse-i-search)`echo': ▮echo two");
  await shows(ctrl('r'), "(reverse-i-search)`echo': ▮echo one");
  await shows(ctrl('r'), "(failed reverse-i-search)`echo': ▮echo one");
  await shows(ctrl('s'), "(i-search)`echo': ▮echo two");
  await shows(' two t', "(i-search)`echo two t': ▮echo two three");
  await shows('\x7f\x7f', "(i-search)`echo two': ▮echo two");
  await shows(ctrl('g'), 'sis> ▮');
  await shows(`${ctrl('r')}${ctrl('r')}`, "(reverse-i-search)`echo two': ▮echo two three");
  await shows(right, 'sis> e▮cho two three');
  t.is(d.line(`${ctrl('u')}${end}${ctrl('k')}`), null);
  await shows(`${ctrl('r')}nothing like it`, "(failed reverse-i-search)`nothing like it': echo o▮ne");
  t.is(d.line('\r'), 'Lecho one');
  t.is(
    d.line(`${ctrl('r')}one\x1b[1;5D${ctrl('k')}make\r`),
    'Lmakeone'.slice(0, 1) + 'make',
    'an editing key goes on from what was found',
  );
  t.is(d.line(`${ctrl('r')}ma`), null);
  t.is(d.line(ctrl('c')), 'C');
});

test('Tab lists: many are asked about, long lists come a screenful at a time', async t => {
  const names = (n: number): string[] => Array.from({ length: n }, (_, i) => `name-${String(i).padStart(3, '0')}`);
  const d = new Desk(40, 6);
  const list = (n: number): void => {
    d.line('x');
    d.line('\t');
    d.tty.complete('x', 1, names(n), n);
    d.line('\t');
    d.tty.complete('x', 1, names(n), n);
  };
  list(16);
  t.deepEqual(await d.screen(), [
    'sis> x', 'name-000  name-004  name-008  name-012', 'name-001  name-005  name-009  name-013',
    'name-002  name-006  name-010  name-014', 'name-003  name-007  name-011  name-015', 'sis> x▮',
  ]); // prettier-ignore
  d.line(`${ctrl('u')}${ctrl('l')}`);
  list(40);
  t.is((await d.screen()).at(-1), '--More--▮');
  d.line('\r');
  t.deepEqual((await d.screen()).slice(-2), ['name-005  name-015  name-025  name-035', '--More--▮']);
  d.line('q');
  t.is((await d.screen()).at(-1), 'sis> x▮');
  d.line(`${ctrl('u')}${ctrl('l')}`);
  list(LIMITS.completionsUnasked + 1);
  t.deepEqual(await d.screen(), ['sis> x', 'Display all 101 possibilities? (y or n)▮']);
  d.line('?n');
  t.deepEqual(await d.screen(), ['sis> x', 'Display all 101 possibilities? (y or n)', 'sis> x▮']);
  d.line('\t');
  d.tty.complete('x', 1, names(101), 101);
  d.line('y ');
  t.is((await d.screen()).at(-1), '--More--▮');
  t.is(d.line(ctrl('c')), 'C', 'Ctrl-C ends list and line');
  t.deepEqual((await d.screen()).slice(-2), ['sis> x^C', '▮']);
  d.line('\t');
  d.tty.complete('', 0, ['a\x1b[31mb', 'c\nd'], 2);
  d.line('\t');
  d.tty.complete('', 0, ['a\x1b[31mb', 'c\nd'], 500);
  d.line('y');
  t.true((await d.screen()).includes('… and 498 more'), 'names beyond what a call holds are counted');
  t.true(
    (await d.screen()).some(row => row.startsWith('a^[[31mb  c^Jd')),
    'and what a terminal would obey is shown',
  );
});

test('a list is closed by output and by a new size', async t => {
  const open = (): Desk => {
    const d = new Desk(40, 6);
    d.line('x\t');
    d.tty.complete('x', 1, ['xa', 'xb'], 300);
    d.line('\t');
    d.tty.complete('x', 1, ['xa', 'xb'], 300);
    return d;
  };
  const printed = open();
  printed.print('[    1.0] message\n');
  printed.line('');
  t.deepEqual(await printed.screen(), ['sis> x', '[    1.0] message', 'sis> x▮']);
  const resized = open();
  await resized.screen();
  resized.term.resize(50, 6);
  resized.tty.resize(50, 6);
  t.deepEqual(await resized.screen(), ['sis> x', 'sis> x▮']);
});

test('paste: controls are shown and not obeyed', async t => {
  const d = new Desk(40, 6);
  d.line('');
  t.is(d.line(pasted('a\x03b\x1b[Ac\rd\x7f')), null);
  t.deepEqual(await d.screen(), ['sis> a^Cb^[[Ac', 'd^?▮']);
  t.is(d.line('\r'), 'La\x03b\x1b[Ac\nd\x7f');
  t.is(d.line(`${pasted('x')}y\r`), 'Lxy');
});

test('invalid UTF-8 is replaced, never passed on', async t => {
  const d = new Desk(40, 4);
  d.tty.feed(Uint8Array.of(0x61, 0xff, 0xc3, 0x28, 0xed, 0xa0, 0x80, 0x62));
  d.line('');
  t.deepEqual(await d.screen(), ['sis> a\ufffd\ufffd(\ufffd\ufffd\ufffdb▮']);
  d.line(ctrl('u'));
  d.tty.feed(Uint8Array.of(0xf0, 0x9f));
  d.line('');
  t.deepEqual(await d.screen(), ['sis> ▮'], 'a beginning waits');
  d.tty.feed(Uint8Array.of(0x98, 0x80));
  t.is(d.line('\r'), 'L😀');
});

test('a prompt with colours takes no room for them', async t => {
  const d = new Desk(12, 4);
  const prompt = '\x1b[1;32mab\x1b[0m> ';
  d.line('12345678', prompt);
  t.deepEqual(await d.screen(), ['ab> 12345678', '▮']);
  t.true(d.term.buffer.active.getLine(0)!.getCell(1)!.isBold() !== 0);
  t.is(d.term.buffer.active.getLine(0)!.getCell(4)!.isBold(), 0);
  d.line(`\x7f${home}x`, prompt);
  t.deepEqual(await d.screen(), ['ab> x▮1234567']);
});

// ── A whole machine ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

const image = readFileSync('build/boot.cpio');
const sit = (options: Partial<BootOptions> = {}, columns = 80, rows = 24): Seat => new Seat(columns, rows, options);
/** What is to be seen after these keys. */
async function after(seat: Seat, keys: string): Promise<string[]> {
  await seat.type(keys);
  return seat.screen();
}
const rowOf = (screen: readonly string[]): string => screen.find(row => row.includes('▮')) ?? '';
const rowAfter = async (seat: Seat, keys: string): Promise<string> => rowOf(await after(seat, keys));

test('Tab completes what a command line may hold', async t => {
  const seat = sit();
  seat.machine.exec(
    "mkdir -p '/tmp/my dir' /tmp/mine; cd /tmp; echo 1 > \"my dir/it's\"; echo 2 > 'a$b'; echo 3 > mine/.hidden; echo 4 > eq=x",
  );
  seat.machine.exec("echo 5 > 'new\nline'; echo 6 > ąę; chmod 755 eq=x");
  await seat.type('cd /tmp\rgreet() { echo hi; }\rsleep 100 &\r');
  /** The line that `keys` make. */
  const line = async (keys: string): Promise<string> => {
    const row = await rowAfter(seat, `${ctrl('u')}${ctrl('l')}${keys}`);
    return row.replace('sis> ', '');
  };
  const expected: readonly (readonly [keys: string, line: string])[] = [
    ['sha2\t', 'sha256sum ▮'],
    ['whi\t', 'while ▮'],
    ['if tru\t', 'if true ▮'],
    ['gre\t', 'gre▮'],
    ['gree\t', 'greet ▮'],
    ['kill %\t', 'kill %1 ▮'],
    ['expo\t', 'export ▮'],
    ['env -i sha2\t', 'env -i sha256sum ▮'],
    ['time stra\t', 'time strace ▮'],
    ['echo $(sha2\t', 'echo $(sha256sum ▮'],
    ['echo `sha2\t', 'echo `sha256sum ▮'],
    ['true && sha2\t', 'true && sha256sum ▮'],
    ['A=1 sha2\t', 'A=1 sha256sum ▮'],
    ['/bin/sha2\t', '/bin/sha256sum ▮'],
    // Paths
    ['cat my\t', 'cat my\\ dir/▮'],
    ['cat my\tit\t', "cat my\\ dir/it\\'s ▮"],
    ['cat "my\tit\t', 'cat "my dir/it\'s" ▮'],
    ["cat 'my\tit\t", "cat 'my dir/it'\\''s' ▮"],
    ['cat a\t', 'cat a\\$b ▮'],
    ['cat "a\t', 'cat "a\\$b" ▮'],
    ['cat < a\t', 'cat < a\\$b ▮'],
    ['echo x 2>a\t', 'echo x 2>a\\$b ▮'],
    ['cat mine/\t', 'cat mine/▮'],
    ['cat mine/.h\t', 'cat mine/.hidden ▮'],
    ['cat eq\t', 'cat eq=x ▮'],
    ['cat ne\t', "'line ▮"], // the second row of a name with a newline
    ['cat ą\t', 'cat ąę ▮'],
    ['cat /usr/share/la\t', 'cat /usr/share/labs/▮'],
    ['cat $HOME/../usr/share/la\t', 'cat $HOME/../usr/share/labs/▮'],
    ['cat ~/../usr/share/la\t', 'cat ~/../usr/share/labs/▮'],
    ['ls ~\t', 'ls ~/▮'],
    ['ls ~use\t', 'ls ~user/▮'],
    ['cd m\t', 'cd m▮'],
    ['cd mi\t', 'cd mine/▮'],
    ['cd a\t', 'cd a▮'],
    ['PATH=/usr/sh\t', 'PATH=/usr/share/▮'],
    ['PATH=/bin:/usr/sh\t', 'PATH=/bin:/usr/share/▮'],
    ['./e\t', './eq=x ▮'],
    ['cat # a\t', 'cat # a▮'],
    // Options, verbs, models, names
    ['ls --rev\t', 'ls --reverse ▮'],
    ['llminfer --repeat\t', 'llminfer --repeat-penalty=▮'],
    ['/bin/cat --he\t', '/bin/cat --help ▮'],
    ['cat -- --he\t', 'cat -- --he▮'],
    ['llmctl tokeni\t', 'llmctl tokenize ▮'],
    ['llmctl load fable-q8\t', 'llmctl load fable-q8_0 ▮'],
    ['llmctl plan --ctx 64 fable-q8\t', 'llmctl plan --ctx 64 fable-q8_0 ▮'],
    ['llmctl load /models/fable-q8\t', 'llmctl load /models/fable-q8_0.gguf ▮'],
    ['llmctl wcet --model=fable-q8\t', 'llmctl wcet --model=fable-q8_0 ▮'],
    ['llmctl wcet --model fable-q8\t', 'llmctl wcet --model fable-q8_0 ▮'],
    ['llmctl target sif\t', 'llmctl target sifive-u74 ▮'],
    ['llmctl backend stub:\t', 'llmctl backend stub:word ▮'],
    ['llmctl audit ver\t', 'llmctl audit verify ▮'],
    ['llmctl audit witness tr\t', 'llmctl audit witness trust ▮'],
    ['llmctl audit content of\t', 'llmctl audit content off ▮'],
    ['llmctl key rem\t', 'llmctl key remove ▮'],
    ['llmctl rights test use\t', 'llmctl rights test user ▮'],
    ['llmctl prof\t', 'llmctl profile ▮'],
    ['llmctl quota use\t', 'llmctl quota user ▮'],
    ['llmctl pace auto st\t', 'llmctl pace auto status ▮'],
    ['llmctl sched --policy r\t', 'llmctl sched --policy rr ▮'],
    ['llmctl sched --policy=e\t', 'llmctl sched --policy=edf ▮'],
    ['llminfer --att\t', 'llminfer --attach=▮'],
    ['man fs-g\t', 'man fs-gguf ▮'],
    ['kill -s TER\t', 'kill -s TERM ▮'],
    ['su use\t', 'su user ▮'],
    ['umount /pr\t', 'umount /proc ▮'],
    ['unset HISTF\t', 'unset HISTFILE ▮'],
    ['echo $HISTF\t', 'echo $HISTFILE ▮'],
    ['echo ${HISTF\t', 'echo ${HISTFILE} ▮'],
    ['echo "$HISTF\t', 'echo "$HISTFILE▮'],
    ['cd $HO\t', 'cd $HOME/▮'],
    ["echo '$HISTF\t", "echo '$HISTF▮"],
  ];
  for (const [keys, wanted] of expected) t.is(await line(keys), wanted, JSON.stringify(keys));

  await seat.type(`${ctrl('u')}${ctrl('l')}cat m\t\t`);
  t.deepEqual(seat.screen(), ['sis> cat m', 'mine/    my dir/', 'sis> cat m▮']);
  await seat.type(`${ctrl('u')}clear\rcat my\tit\t\r`);
  t.deepEqual(seat.screen().slice(-3), ["sis> cat my\\ dir/it\\'s", '1', 'sis> ▮'], 'what is inserted is read back');
  await seat.type('clear\rcat ne\t\r');
  t.deepEqual(seat.screen().slice(-2), ['5', 'sis> ▮'], 'a newline in a name too');
});

test('Tab among many files', async t => {
  const seat = sit();
  seat.machine.exec('mkdir /tmp/many');
  for (let i = 0; i < 15; i++) {
    const names = Array.from({ length: 100 }, (_, k) => `/tmp/many/a-rather-long-name-${100 * i + k}`);
    seat.machine.exec(`touch ${names.join(' ')}`);
  }
  await seat.type('ls /tmp/many/\t');
  t.is(rowOf(seat.screen()), 'sis> ls /tmp/many/a-rather-long-name-▮');
  await seat.type('\t\t');
  t.is(rowOf(seat.screen()), 'Display all 1500 possibilities? (y or n)▮');
  await seat.type('y q9\t');
  t.is(rowOf(seat.screen()), 'sis> ls /tmp/many/a-rather-long-name-9▮');
  await seat.type('99\t');
  t.is(rowOf(seat.screen()), 'sis> ls /tmp/many/a-rather-long-name-999 ▮');
});

test('history: the program, the variables, several lines in one entry', async t => {
  const seat = sit();
  const recall = async (n = 1): Promise<string> =>
    (await after(seat, `${ctrl('c')}clear\r${up.repeat(n + 1)}`)).join('\n');
  await seat.type("echo one\recho 'two\rlines'\recho three\r");
  t.is(await recall(2), "sis> echo 'two\nlines'▮");
  t.is(seat.machine.exec('cat /home/.sh_history').stdout, "echo one\necho 'two\n\tlines'\necho three\nclear\n");
  await seat.type(`${ctrl('c')}history 3 | cat > /tmp/h\r`);
  t.is(seat.machine.exec('cat /tmp/h').stdout, '    3  echo three\n    4  clear\n    5  history 3 | cat > /tmp/h\n');
  t.is(seat.machine.exec('HISTFILE=/home/.sh_history history -d 1').status, 0);
  t.is(await recall(4), "sis> echo 'two\nlines'▮", 'what another process does to the file is seen');
  t.is(await recall(9), "sis> echo 'two\nlines'▮");
  t.regex(seat.machine.exec('history -d 99').stderr, /99: no such command/);
  t.regex(seat.machine.exec('history x').stderr, /x: numeric argument required/);
  await seat.type(`${ctrl('c')}history -c\r`);
  t.is(await rowAfter(seat, `${ctrl('l')}${up}`), 'sis> ▮', 'all is forgotten');
  await seat.type('HISTCONTROL=ignorespace:erasedups\r');
  await seat.type('echo a\r echo secret\recho b\recho a\r');
  t.is(seat.machine.exec('cat /home/.sh_history').stdout, 'HISTCONTROL=ignorespace:erasedups\necho b\necho a\n');
  await seat.type('HISTSIZE=2\recho c\r');
  t.is(await recall(9), 'sis> echo c▮');
  await seat.type(`${ctrl('c')}rm /home/.sh_history\r`);
  t.is(await rowAfter(seat, `${ctrl('l')}${up}`), 'sis> ▮');
});

test('history expansion', async t => {
  const entries = ['echo one two', 'cat /etc/motd', "ls 'a b' c"];
  const expanded: readonly (readonly [line: string, text: string | null])[] = [
    ['!!', "ls 'a b' c"], ['x !! y', "x ls 'a b' c y"], ['!1', 'echo one two'], ['!-2', 'cat /etc/motd'], ['!cat', 'cat /etc/motd'],
    ['!?two? x', 'echo one two x'], ['!?one', 'echo one two'], ['echo !$', 'echo c'], ['echo !^', "echo 'a b'"], ['echo !*', "echo 'a b' c"],
    ['!cat:1', '/etc/motd'], ['!echo:$', 'two'], ['!1:*', 'one two'], ['!!$', 'c'], ['echo "!$"', 'echo "c"'], ['^a b^z', "ls 'z' c"], ['^c^d^ e', "ls 'a b' d e"],
    ['echo hi!', null], ['! true', null], ["echo '!!'", null], ['echo \\!!', null], ['[ 1 != 2 ]', null], ['$!', null], ['a!=b', null],
  ]; // prettier-ignore
  for (const [line, text] of expanded) t.deepEqual(expandHistory(line, entries), { text, error: null }, line);
  for (const line of ['!nothing', '!9', '!0', '!-9', '!?none?', '^no^x', '!!:7'])
    t.regex(expandHistory(line, entries).error!, /not found|failed/, line);
  const seat = sit();
  await seat.type('echo one\r!! two\r!zzz\r');
  t.deepEqual(
    seat.screen().slice(-7),
    [
      'sis> echo one',
      'one',
      'sis> !! two',
      'echo one two',
      'one two',
      'sis> !zzz',
      'sh: !zzz: event not found',
      'sis> ▮',
    ].slice(-7),
  );
  t.is(await rowAfter(seat, up), 'sis> echo one two▮', 'the history holds what was run');
});

test('history outlives the machine when a writable home is mounted', async t => {
  const home = mkdtempSync(path.join(tmpdir(), 'arena8-home-'));
  t.teardown(() => rmSync(home, { recursive: true }));
  const mounts = { '/home': home };
  const first = sit({ mounts });
  await first.type("echo 'kept\rhere'\recho 日本\r");
  const second = sit({ mounts });
  t.is(await rowAfter(second, up), 'sis> echo 日本▮');
  t.deepEqual((await after(second, up)).slice(-2), ["sis> echo 'kept", "here'▮"]);
  t.is(await rowAfter(second, `${ctrl('c')}${ctrl('r')}日`), "(reverse-i-search)`日': echo ▮日本");

  const file = path.join(home, '.sh_history');
  writeFileSync(file, Buffer.from([0x65, 0xff, 0x00, 0x1b, 0x5b, 0x41, 0x0a, 0x09, 0x0a]));
  t.is(
    (await after(sit({ mounts }), `${up}!`)).join('\n'),
    'sis> e\ufffd^[[A\n!▮',
    'a damaged file is shown for what it is',
  );
  writeFileSync(file, `${'x'.repeat(1000)}\n`.repeat(1000) + 'last\n');
  t.is(await rowAfter(sit({ mounts }), up), 'sis> last▮', 'of a long file the end is read');
  t.true(statSync(file).size > 900_000, 'and nothing is lost by that alone');
  const readOnly = sit({ mounts: { '/home': { path: home, readOnly: true } } });
  t.is(
    await rowAfter(readOnly, `echo here\r${ctrl('l')}${up}`),
    'sis> echo here▮',
    'without a writable file it lasts as long as the shell',
  );
});

test('a home that another user keeps is not written to', async t => {
  const seat = sit();
  await seat.type('echo mine\rsu user\recho $HISTFILE\r');
  t.true(seat.screen().includes('/home/user/.sh_history'));
});

test('a sitting: completion, search, a new width, a paste', async t => {
  const screens = await sitting(console => boot({ image, console }));
  const last = screens.map(screen => screen.at(-1));
  t.deepEqual(last.slice(0, 4), ['sis> ▮', 'sis> cat /usr/share/labs/shell.md ▮', 'sis> llmctl load ▮', 'sis> ▮']);
  t.deepEqual(screens[2]!.slice(-3), [
    'sis> llmctl load',
    'auditor/    fable-f16   fable-q4_0  fable-q8_0  user/',
    'sis> llmctl load ▮',
  ]);
  t.deepEqual(screens[4], ["sis> echo 'one", "> two'", 'one', 'two', 'sis> ▮']);
  t.is(last[5], "(reverse-i-search)`zaż': echo ▮zażółć 日本 👍");
  t.deepEqual(screens[6]!.slice(-2), [
    'sis> # a comment longer than the screen is wide, so that it',
    'wraps ▮echo zażółć 日本 👍',
  ]);
  t.deepEqual(screens[7]!.slice(-3), [
    'sis> # a comment longer than the sc',
    'reen is wide, so that it wraps !▮ech',
    'o zażółć 日本 👍',
  ]);
  t.deepEqual(screens[8], ['sis> llmctl load fable-q4_0 --ctx 6', '4▮']);
  t.deepEqual(screens[9]!.slice(-5), ['sis> echo 1', 'echo 2', '1', '2', 'sis> ▮']);
});

test('lines that go on, and Ctrl-C among them', async t => {
  const seat = sit({}, 40, 10);
  await seat.type("echo 'a\r");
  t.is(rowOf(seat.screen()), '> ▮');
  await seat.type(`${ctrl('c')}`);
  t.is(rowOf(seat.screen()), 'sis> ▮');
  await seat.type(`clear\r${pasted('echo one\necho two')}`);
  t.deepEqual(seat.screen(), ['sis> echo one', 'echo two▮'], 'a pasted newline runs nothing');
  await seat.type('\r');
  t.deepEqual(seat.screen(), ['sis> echo one', 'echo two', 'one', 'two', 'sis> ▮']);
});

// ── Random sessions ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

const texts = [
  'a',
  'bc ',
  'word',
  '日',
  '本語',
  'e\u0301',
  '\u0301',
  '😀',
  '👨‍👩‍👧',
  'ż',
  '/',
  '"',
  '0123456789',
  'x'.repeat(30),
  '\x1b[200~p\nq\x1b[201~',
  '\x1b[200~\t\x02\x1b[201~',
  `${ctrl('v')}\x01`,
];
const keys = [left, right, home, end, del, '\x7f', meta('b'), meta('f'), '\x1b[1;5C', ctrl('k'), ctrl('u'), ctrl('w'), meta('d'), meta('\x7f'), ctrl('y'), meta('y'), ctrl('t'), meta('t'), meta('u'), meta('c'), meta('l'), undo, meta('r'), meta('\\')]; // prettier-ignore
const recalls = [up, down, ctrl('r'), ctrl('s'), ctrl('g'), meta('.'), meta('<'), meta('>')];

test('random keys: screen and model agree', async t => {
  t.timeout(1_200_000);
  const next = random(20_261_121);
  const pick = <T>(from: readonly T[]): T => from[Math.floor(next() * from.length)]!;
  const sessions = soak ? 50_000 : 2_000;
  const memory = new Uint8Array(LIMITS.windowBytes);
  for (let session = 0; session < sessions; session++) {
    let columns = 10 + Math.floor(next() * 111);
    const rows = 3 + Math.floor(next() * 12);
    const term = terminal(columns, rows);
    let out = '';
    const tty = new Tty({ interactive: true, columns, rows, output: b => (out += utf8Decode(b)) });
    // The same keys to an editor that nobody draws: what the screen must show.
    const editor = new LineEditor();
    const history = ['first line', 'second 日本語 line', 'three\nlines of\ntext', 'x'.repeat(150)];
    tty.remember(history, 10);
    editor.history.append(history, 10);
    editor.begin('sis> ', 400);
    let resized = false;
    const typed: string[] = [];
    for (let step = 0; step < 24; step++) {
      const key = next() < 0.5 ? pick(texts) : next() < 0.75 ? pick(keys) : pick(recalls);
      typed.push(key);
      const bytes = utf8Encode(key);
      tty.feed(bytes);
      tty.readline('sis> ', memory, 0, 401);
      if (key === ctrl('v') + '\x01') {
        editor.press({ name: 'C-v', text: '', bytes: 1 });
        editor.press({ name: 'text', text: '\x01', bytes: 1 });
      } else
        for (let at = 0; at < bytes.length;) {
          const k = decodeKey(bytes, at, bytes.length, editor.pasting)!;
          at += k.bytes;
          editor.press(k);
        }
      const { prompt, text, cursor } = editor.view;
      let boundary = 0;
      while (boundary < cursor) boundary = nextCharacter(text, boundary);
      if (boundary !== cursor || utf8Length(text) > 400) return t.fail(`session ${session}: ${JSON.stringify(typed)}`);
      if (step % 6 < 5) continue;
      await drawn(term, out);
      out = '';
      const expected = picture(prompt, text, cursor, columns);
      const shown = screenOf(term);
      while (shown.at(-1) === '') shown.pop();
      const fits = expected.length <= rows;
      while (fits && expected.at(-1) === '') expected.pop();
      const agree = fits
        ? (resized ? shown.slice(-expected.length) : shown).join('\n') === expected.join('\n')
        : `\n${expected.join('\n')}\n`.includes(`\n${(resized ? shown.slice(-rows) : shown).join('\n')}\n`);
      if (!agree) {
        t.deepEqual(shown, expected, `session ${session}, ${columns}×${rows}: ${JSON.stringify(typed)}`);
        return;
      }
      if (next() < 0.2) {
        columns = 10 + Math.floor(next() * 111);
        term.resize(columns, rows);
        tty.resize(columns, rows);
        resized = true;
        typed.push(`resize ${columns}`);
      }
    }
    term.dispose();
  }
  t.log(`${sessions} sessions`);
  return t.pass();
});

test('random changes are all undone', t => {
  const next = random(7);
  for (let i = 0; i < 500; i++) {
    const buffer = new EditBuffer();
    buffer.begin(200);
    const states: string[] = [];
    for (let step = 0; step < 40; step++) {
      const a = Math.floor(next() * (buffer.text.length + 1));
      const b = Math.floor(next() * (buffer.text.length + 1));
      if (next() < 0.5) buffer.type(texts[Math.floor(next() * 13)]!);
      else buffer.move(Math.min(a, b));
      if (next() < 0.3) {
        const start = buffer.cursor;
        states.push(buffer.text);
        buffer.replace(start, buffer.next, 'Z');
        if (next() < 0.3) {
          buffer.undo();
          t.is(buffer.text, states.at(-1)!);
        }
      }
    }
    while (buffer.undo());
    t.is(buffer.text, '');
    t.is(buffer.cursor, 0);
  }
});
