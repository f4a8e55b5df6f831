// The editor's keys one by one, each typed as a terminal sends it and seen as the screen shows it; the list that Tab makes; and seeded
// sessions of random keys at widths from 10 to 120 in which the screen must always be the picture of what the editor holds.

import test from 'ava';
import { decodeKey } from '../drivers/tty/keys.ts';
import { EditBuffer } from '../drivers/tty/buffer.ts';
import { lastWord } from '../drivers/tty/history.ts';
import { nextCharacter } from '../drivers/tty/width.ts';
import { LineEditor } from '../drivers/tty/editor.ts';
import { Tty } from '../drivers/tty/tty.ts';
import { LIMITS, utf8Decode, utf8Encode, utf8Length } from '../kernel/abi/index.ts';
import { random } from './reference/random.ts';
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
