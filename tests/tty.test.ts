// The console, seen through a terminal: keys are typed, @xterm/headless shows what a person would see. Golden screens for every editing
// function; a random run that compares drawing by differences with drawing from scratch; line discipline without a person.

import test from 'ava';
import fc from 'fast-check';
import { LineEditor } from '../drivers/tty/editor.ts';
import { History } from '../drivers/tty/history.ts';
import { decodeKey } from '../drivers/tty/keys.ts';
import { LineScreen } from '../drivers/tty/screen.ts';
import { Tty } from '../drivers/tty/tty.ts';
import { codePointWidth, nextCharacter, previousCharacter, textWidth } from '../kernel/abi/width.ts';
import { BLOCKED, E, IOCTL, LIMITS, utf8Decode, utf8Encode } from '../kernel/abi/index.ts';
import { ctrl, del, Desk, down, drawn, end, home, left, right, screenOf, terminal, up } from './support/terminal.ts';

/** The line that these keys and Enter make. */
const run = (keys: string): string => new Desk().line(`${keys}\r`)!.slice(1);

test('typing, moving and editing in the middle', async t => {
  const d = new Desk();
  t.is(d.line('hello wrld'), null);
  t.deepEqual(await d.screen(), ['sis> hello wrld▮']);
  t.is(d.line(`${left}${left}${left}o`), null);
  t.deepEqual(await d.screen(), ['sis> hello wo▮rld']);
  t.is(d.line(`${home}say ${ctrl('f')}${ctrl('f')}`), null);
  t.deepEqual(await d.screen(), ['sis> say he▮llo world']);
  t.is(d.line(`${del}\x7f`), null);
  t.deepEqual(await d.screen(), ['sis> say h▮lo world']);
  t.is(d.line(`${end}!${ctrl('a')}${ctrl('b')}`), null);
  t.deepEqual(await d.screen(), ['sis> ▮say hlo world!']);
  t.is(d.line('\r'), 'Lsay hlo world!');
  t.deepEqual(await d.screen(), ['sis> say hlo world!', '▮']);
});

test('words, kills, yank, transpose', t => {
  t.is(run(`one two three\x1bb\x1bbX`), 'one Xtwo three');
  t.is(run(`one two${ctrl('a')}\x1bfX`), 'oneX two');
  t.is(run(`one two\x1b[1;5D_`), 'one _two');
  t.is(run(`a b/c d${ctrl('w')}${ctrl('w')}`), 'a ');
  t.is(run(`a b/c\x1b\x7f`), 'a b/');
  t.is(run(`one two three${ctrl('a')}\x1bd\x1bd${ctrl('e')}${ctrl('y')}`), ' threeone two');
  t.is(run(`one two three${ctrl('w')}${ctrl('w')}${ctrl('a')}${ctrl('y')}`), 'two threeone ');
  t.is(run(`abc def\x1bb${ctrl('k')}${ctrl('a')}${ctrl('y')}-`), 'def-abc ');
  t.is(run(`abc def\x1bb${ctrl('u')}${ctrl('e')}${ctrl('y')}`), 'defabc ');
  t.is(run(`abc${ctrl('t')}`), 'acb');
  t.is(run(`abc${ctrl('a')}${right}${ctrl('t')}X`), 'baXc');
  t.is(run(`ab${left}${ctrl('d')}`), 'a');
  t.is(run(`日本語${left}${left}\x7f`), '本語');
  t.is(run(`e\u0301a\u0308x${left}${left}\x7f`), 'a\u0308x', 'a base and its mark are one character');
  t.is(run(`👨‍👩‍👧!${left}\x7f`), '!', 'joined emoji are one character');
  t.is(run(`a\x1b[99~\x1b[I\x1bOP\x1b[[Ab`), 'ab', 'keys without meaning do nothing');
});

test('a line wraps at the right edge and unwraps again', async t => {
  const d = new Desk(10, 6);
  d.line('12345');
  t.deepEqual(await d.screen(), ['sis> 12345', '▮']);
  d.line('6789');
  t.deepEqual(await d.screen(), ['sis> 12345', '6789▮']);
  d.line(`${ctrl('a')}ab`);
  t.deepEqual(await d.screen(), ['sis> ab▮123', '456789']);
  d.line(`${ctrl('e')}0123x`);
  t.deepEqual(await d.screen(), ['sis> ab123', '4567890123', 'x▮']);
  t.true(
    d.term.buffer.active.getLine(1)!.isWrapped && d.term.buffer.active.getLine(2)!.isWrapped,
    'one line to the terminal',
  );
  d.line('\x7f\x7f\x7f\x7f\x7f\x7f');
  t.deepEqual(await d.screen(), ['sis> ab123', '45678▮']);
  d.line(ctrl('u'));
  t.deepEqual(await d.screen(), ['sis> ▮']);
  t.is(d.line('12345\r'), 'L12345');
  t.deepEqual(await d.screen(), ['sis> 12345', '▮'], 'no blank row after a line that fills its row');
});

test('wide and combining characters', async t => {
  const d = new Desk(12, 6);
  d.line('日本e\u0301');
  t.deepEqual(await d.screen(), ['sis> 日本e\u0301▮']);
  t.is(d.term.buffer.active.cursorX, 10);
  d.line('x語');
  t.deepEqual(await d.screen(), ['sis> 日本e\u0301x', '語▮'], 'a wide character does not straddle the edge');
  d.line(left!);
  t.deepEqual(await d.screen(), ['sis> 日本e\u0301x', '▮語']);
  d.line(`${left}${left}${left}😀`);
  t.deepEqual(await d.screen(), ['sis> 日😀▮本e\u0301', 'x語']);
  d.line(`\x7f\x7f\u0301`);
  t.deepEqual(await d.screen(), ['sis> ◌\u0301▮本e\u0301x語'], 'a mark without a character to stand on');
});

test('control characters and tabs show in columns', async t => {
  const d = new Desk(20, 6);
  d.line('\x1b[200~a\tb\nc\x01d\x1b[201~');
  t.deepEqual(await d.screen(), ['sis> a  b', 'c^Ad▮']);
  t.is(d.line('\r'), 'La\tb\nc\x01d');
});

test('history: recall, draft, bounded, no line twice in a row', async t => {
  const d = new Desk();
  for (const line of ['first', 'second', 'second', '', '  ', 'third']) t.is(d.line(`${line}\r`), `L${line}`);
  await drawn(d.term, `${d.raw()}\x1b[H\x1b[2J`);
  d.line('draft');
  d.line(up!);
  t.deepEqual(await d.screen(), ['sis> third▮']);
  d.line(ctrl('p') + up!);
  t.deepEqual(await d.screen(), ['sis> first▮']);
  d.line(up!);
  t.true(d.raw().includes('\x07'));
  d.line(`${down}${down}${ctrl('n')}`);
  t.deepEqual(await d.screen(), ['sis> draft▮']);
  const many = new History();
  for (let i = 0; i < LIMITS.historyLines + 10; i++) many.append([`line ${i}`], LIMITS.historyLines);
  t.is(many.length, LIMITS.historyLines);
  t.is(many.line(0), 'line 10');
  many.append([], 2);
  t.is(many.length, 2);
  many.append(
    Array.from({ length: 20 }, () => 'x'.repeat(LIMITS.historyBytes / 8)),
    LIMITS.historyLines,
  );
  t.is(many.length, 8, 'their bytes are bounded too');
  many.append([], 0);
  t.is(many.length, 0);
});

test('reverse search', async t => {
  const d = new Desk();
  for (const line of ['cat /etc/motd', 'ls /models', 'cat /etc/passwd', 'pwd']) d.line(`${line}\r`);
  await drawn(d.term, `${d.raw()}\x1b[H\x1b[2J`);
  d.line(`${ctrl('r')}cat`);
  t.deepEqual(await d.screen(), ["(reverse-i-search)`cat': ▮cat /etc/passwd"]);
  d.line(ctrl('r'));
  t.deepEqual(await d.screen(), ["(reverse-i-search)`cat': ▮cat /etc/motd"]);
  d.line(ctrl('r'));
  t.deepEqual(await d.screen(), ["(failed reverse-i-search)`cat': ▮cat /etc", '/motd']);
  d.line(`${ctrl('g')}${ctrl('r')}ls`);
  t.deepEqual(await d.screen(), ["(reverse-i-search)`ls': ls /mode▮ls"]);
  d.line(end!);
  t.deepEqual(await d.screen(), ['sis> ls /models▮']);
  d.line(`${ctrl('u')}mine${ctrl('r')}pass${ctrl('g')}`);
  t.deepEqual(await d.screen(), ['sis> mine▮']);
  t.is(d.line(`${ctrl('r')}motd\r`), 'Lcat /etc/motd');
});

test('completion: common prefix, second Tab lists, directories stay open', async t => {
  const d = new Desk(40, 8);
  const models = ['fable-f16.gguf', 'fable-q4_0.gguf', 'fable-q8_0.gguf'];
  t.is(d.line('cat /mo\t'), 'Tcat /mo');
  d.tty.complete('models/', 2, ['models/'], 1);
  d.line('');
  t.deepEqual(await d.screen(), ['sis> cat /models/▮']);
  t.is(d.line('fa\t'), 'Tcat /models/fa');
  d.tty.complete('fable-', 2, models, 3);
  t.deepEqual(await d.screen(), ['sis> cat /models/fable-▮']);
  t.is(d.line('\t'), 'Tcat /models/fable-');
  d.tty.complete('fable-', 6, models, 3);
  t.deepEqual(await d.screen(), [
    'sis> cat /models/fable-',
    'fable-f16.gguf   fable-q8_0.gguf',
    'fable-q4_0.gguf',
    'sis> cat /models/fable-▮',
  ]);
  t.is(d.line('f\t'), 'Tcat /models/fable-f');
  d.tty.complete('fable-f16.gguf ', 7, [models[0]!], 1);
  t.is(d.line('| wc\r'), 'Lcat /models/fable-f16.gguf | wc');
  t.is(d.line('xyz\t'), 'Txyz');
  d.raw();
  d.tty.complete('', 0, [], 0);
  t.true(d.raw().includes('\x07'));
});

test('bracketed paste inserts, line ends included, and runs nothing', async t => {
  const d = new Desk(30, 6);
  t.is(d.line('\x1b[200~echo 1\r\necho 2\r'), null);
  t.is(d.line('\x1b[201'), null, 'the end mark may come in pieces');
  t.is(d.line('~'), null);
  t.deepEqual(await d.screen(), ['sis> echo 1', 'echo 2', '▮']);
  d.line(`\x7f${ctrl('a')}`);
  t.deepEqual(await d.screen(), ['sis> ▮echo 1', 'echo 2']);
  t.is(d.line('\r'), 'Lecho 1\necho 2');
  t.true(d.raw().includes('\x1b[?2004l'), 'paste marks are asked for only while a line is edited');
  d.line('');
  t.true(d.raw().includes('\x1b[?2004h'));
});

test('a line taller than the screen shows the rows around the cursor', async t => {
  const d = new Desk(10, 3);
  d.line('abcdefghijklmnopqrstuvwxyz0123456789');
  t.deepEqual(await d.screen(), ['pqrstuvwxy', 'z012345678', '9▮']);
  d.line(ctrl('a'));
  t.deepEqual(await d.screen(), ['sis> ▮abcde', 'fghijklmno', 'pqrstuvwxy']);
  d.line(`${ctrl('e')}!`);
  t.deepEqual(await d.screen(), ['pqrstuvwxy', 'z012345678', '9!▮']);
});

test('the terminal is resized while a line is edited', async t => {
  const d = new Desk(20, 6);
  d.print('before\n');
  d.line('0123456789abcdefghij');
  t.deepEqual(await d.screen(), ['before', 'sis> 0123456789abcde', 'fghij▮']);
  d.term.resize(12, 6);
  d.tty.resize(12, 6);
  t.deepEqual((await d.screen()).slice(-4), ['before', 'sis> 0123456', '789abcdefghi', 'j▮']);
  d.term.resize(40, 6);
  d.tty.resize(40, 6);
  const wide = await d.screen();
  t.is(wide.at(-1), 'sis> 0123456789abcdefghij▮');
  t.is(wide[0], 'before', 'nothing above the line is erased');
  t.is(d.tty.ioctl(IOCTL.columns), 40);
});

test('Ctrl-L, Ctrl-C, Ctrl-D while editing', async t => {
  const d = new Desk();
  d.print('old\n');
  d.line(`abc${ctrl('l')}`);
  t.deepEqual(await d.screen(), ['sis> abc▮']);
  t.is(d.line(`${left}${ctrl('c')}`), 'C');
  t.false(d.tty.takeInterrupt(), 'the answer is the interrupt');
  t.deepEqual(await d.screen(), ['sis> abc^C', '▮']);
  t.is(d.line(ctrl('d')), 'E');
  t.deepEqual(await d.screen(), ['sis> abc^C', 'sis>', '▮']);
});

test('output in the first column before a prompt, and while a line is edited', async t => {
  const d = new Desk();
  d.print('no newline');
  d.line('ab');
  t.deepEqual(await d.screen(), ['no newline', 'sis> ab▮']);
  d.print('[    1.5] kernel message\n');
  t.deepEqual(await d.screen(), ['no newline', '[    1.5] kernel message', '▮']);
  d.line('c');
  t.deepEqual(await d.screen(), ['no newline', '[    1.5] kernel message', 'sis> abc▮']);
  t.is(d.line('\r'), 'Labc');
  d.print('\x1b[31mred\x1b[0m\n\x1b[H\x1b[2J');
  d.line('x');
  t.deepEqual(await d.screen(), ['sis> x▮'], 'a cleared screen is a first column');
});

test('keys that arrive in pieces, and random keys, draw as from scratch', async t => {
  const d = new Desk();
  for (const byte of utf8Encode(`日${left}a\x1b[1;5C本`)) {
    d.tty.feed(Uint8Array.of(byte));
    t.is(d.tty.readline('sis> ', d.memory, 0, 100), BLOCKED);
  }
  t.deepEqual(await d.screen(), ['sis> a日本▮']);

  const key = fc.constantFrom(
    'a',
    'bc ',
    '日',
    'e\u0301',
    '😀',
    '\t',
    '\x01',
    'wörter',
    left!,
    right!,
    up!,
    home!,
    end!,
    '\x7f',
    del!,
    '\x1bb',
    '\x1bf',
    ctrl('k'),
    ctrl('w'),
    ctrl('y'),
    ctrl('t'),
    ctrl('r'),
    ctrl('g'),
    '\x1b[200~x\ny\t\x1b[201~',
    '0123456789',
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(key, { maxLength: 40 }),
      fc.integer({ min: 4, max: 14 }),
      fc.integer({ min: 2, max: 5 }),
      async (keys, columns, rows) => {
        const editor = new LineEditor();
        const screen = new LineScreen(columns, rows);
        const term = terminal(columns, rows);
        for (const k of keys) {
          const bytes = utf8Encode(k);
          let out = '';
          for (let at = 0; at < bytes.length;) {
            const decoded = decodeKey(bytes, at, bytes.length, editor.pasting)!;
            at += decoded.bytes;
            editor.press(decoded);
            out += screen.show(editor.view);
          }
          await drawn(term, out);
        }
        // A fresh screen may have scrolled differently when the line is taller than it: compare only when all of it is visible.
        const fresh = new LineScreen(columns, 60);
        const whole = terminal(columns, 60);
        await drawn(whole, fresh.show(editor.view));
        const expected = screenOf(whole);
        const got = screenOf(term);
        if (expected.length <= rows) t.deepEqual(got, expected);
        else t.true(`\n${expected.join('\n')}`.includes(`\n${got.join('\n')}`));
      },
    ),
    { numRuns: process.env['ARENA8_SOAK'] ? 5000 : 200 },
  );
});

test('canonical reads: echo, erasing, end of input', async t => {
  const d = new Desk();
  t.is(d.read('hello'), BLOCKED);
  t.deepEqual(await d.screen(), ['hello▮']);
  t.is(d.read('\x7f\x7f日\x7fp!\r'), 'help!\n');
  t.deepEqual(await d.screen(), ['help!', '▮']);
  t.is(d.read(`one two${ctrl('w')}2\r`), 'one 2\n');
  t.is(d.read(`gone${ctrl('u')}\x01\r`), '\x01\n');
  t.deepEqual((await d.screen()).slice(1), ['one 2', '^A', '▮']);
  t.is(d.read(`part${ctrl('d')}`), 'part', 'Ctrl-D delivers what was typed');
  t.is(d.read(ctrl('d')), 0, 'and on an empty line ends the input');
  t.is(d.read('abcdef\r', 4), 'abcd', 'a short read leaves the rest');
  t.is(d.read('', 4), 'ef\n');
  t.is(d.read('next\rafter\r'), 'next\n', 'one line a read');
  t.is(d.read(''), 'after\n');
  d.tty.end();
  t.is(d.read(''), 0);
});

test('Ctrl-C while a program runs', async t => {
  const d = new Desk();
  t.is(d.read('typed'), BLOCKED);
  d.tty.feed(utf8Encode(`ahead${ctrl('c')}kept\r`));
  t.true(d.tty.takeInterrupt());
  t.false(d.tty.takeInterrupt());
  t.deepEqual(await d.screen(), ['typed^C▮']);
  t.is(d.read(''), 'kept\n');
  d.tty.interrupt();
  d.tty.interrupt();
  t.deepEqual([d.tty.takeInterrupt(), d.tty.takeInterrupt(), d.tty.takeInterrupt()], [true, true, false]);
});

test('a terminal that says no size has 80 columns and 24 rows', t => {
  const tty = new Tty({ output: () => {}, interactive: true, columns: 0, rows: 0 });
  const size = (): number[] => [tty.ioctl(IOCTL.columns, 0), tty.ioctl(IOCTL.rows, 0)];
  t.deepEqual(size(), [80, 24]);
  tty.resize(1, 7);
  t.deepEqual(size(), [2, 7], 'a wide character fits');
  tty.resize(0, 0);
  t.deepEqual(size(), [80, 24]);
});

test('type-ahead is bounded', t => {
  const d = new Desk();
  const much = new Uint8Array(LIMITS.typeAheadBytes + 1000).fill(0x61);
  t.is(d.tty.feed(much), LIMITS.typeAheadBytes);
  t.true(d.raw().endsWith('\x07'));
  t.is(d.tty.feed(Uint8Array.of(0x62)), 0);
  t.is(d.tty.feed(Uint8Array.of(3, 0x62)), 2, 'Ctrl-C always gets through');
  t.true(d.tty.takeInterrupt());
  t.is(d.line('\r'), 'Lb');
  d.raw();
  t.is(d.line(`${'x'.repeat(20000)}\r`), `L${'x'.repeat(16383)}`, 'what the answer cannot hold is left out');
  t.true(d.raw().includes('\x07'), 'with a bell');
});

test('without a person: no echo, no prompt, the same cuts however input arrives', t => {
  const out: number[] = [];
  const plain = (): Tty => new Tty({ output: b => void out.push(...b), interactive: false });
  const memory = new Uint8Array(LIMITS.lineBytes);
  const reads = (pieces: readonly number[]): string[] => {
    const tty = plain();
    const input = utf8Encode('one\ntwo long line\n\nlast');
    const got: string[] = [];
    let fed = 0;
    for (let i = 0; got.at(-1) !== '';) {
      const n = tty.read(memory, 0, 8);
      if (n === BLOCKED) {
        if (fed === input.length) tty.end();
        fed += tty.feed(input.subarray(fed, fed + pieces[i++ % pieces.length]!));
      } else got.push(utf8Decode(memory, 0, n));
    }
    return got;
  };
  const expected = ['one\n', 'two long', ' line\n', '\n', 'last', ''];
  for (const pieces of [[1], [3], [100], [2, 5, 1]]) t.deepEqual(reads(pieces), expected);

  const tty = plain();
  tty.feed(utf8Encode(`a line\x03\n\n${'y'.repeat(100)}\nend`));
  const line = (): string | number => {
    const n = tty.readline('prompt', memory, 0, 50);
    return n < 0 ? n : utf8Decode(memory, 0, n);
  };
  t.is(line(), 'La line\x03');
  t.is(line(), 'L');
  t.is(line(), -E.TOOBIG);
  t.is(line(), BLOCKED);
  tty.end();
  t.is(line(), 'Lend');
  t.is(line(), 'E');
  t.is(line(), 'E');
  t.deepEqual(out, []);
  tty.write(utf8Encode('x\ny'), 0, 3);
  t.deepEqual(out, [...utf8Encode('x\ny')]);
  t.is(tty.ioctl(IOCTL.isatty), 0);
  t.is(tty.ioctl(99), -E.INVAL);

  const endless = plain();
  const block = new Uint8Array(LIMITS.typeAheadBytes).fill(0x7a);
  endless.feed(block);
  t.is(endless.readline('', memory, 0, 50), -E.TOOBIG, 'a line longer than the type-ahead');
  endless.feed(utf8Encode('zzz\nnext\n'));
  t.is(utf8Decode(memory, 0, endless.readline('', memory, 0, 50)), 'Lnext', 'its rest is not taken for a line');
});

test('the width table', t => {
  const cases: [string, number][] = [
    ['a', 1],
    ['é', 1],
    ['\u0301', 0],
    ['\u200b', 0],
    ['\u00ad', 1],
    ['日', 2],
    ['ｱ', 1],
    ['Ａ', 2],
    ['한', 2],
    ['\u1161', 0],
    ['😀', 2],
    ['🏽', 2],
    ['\ufe0f', 0],
    ['☺', 1],
    ['⚡', 2],
    ['𠀀', 2],
    ['\u{10ffff}', 1],
    ['┃', 1],
  ];
  for (const [c, width] of cases) t.is(codePointWidth(c.codePointAt(0)!), width as 0 | 1 | 2, c);
  for (let c = 0; c < 0x110000; c++) {
    if ((c & 0x1ff800) === 0xd800) continue;
    const s = String.fromCodePoint(c);
    const mark = c !== 0xad && /[\p{Mn}\p{Me}\p{Cf}]/u.test(s);
    if (
      mark !== (codePointWidth(c) === 0) &&
      !/[\p{Cn}\u1160-\u11ff\ud7b0-\ud7ff]/u.test(s) &&
      Number(process.versions['unicode']) === 17
    ) {
      t.fail(`U+${c.toString(16)}`);
    }
  }
  t.is(textWidth('a日e\u0301'), 4);
  const text = 'a👨‍👩‍👧e\u0301\n日';
  const starts = [0];
  while (starts.at(-1)! < text.length) starts.push(nextCharacter(text, starts.at(-1)!));
  const back = [text.length];
  while (back.at(-1)! > 0) back.push(previousCharacter(text, back.at(-1)!));
  t.deepEqual(back.reverse(), starts);
  t.is(starts.length, 6);
});
