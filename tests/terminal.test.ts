// Programs that take the whole screen (less, man, top, watch), as a person at a terminal meets them: golden screens, facts that hold on
// every screen, and what is left of the terminal when they end, however they end.

import test from 'ava';
import type { ExecutionContext } from 'ava';
import { Seat, seen } from './support/seat.ts';

const [up, down, right, left, home, end] = ['A', 'B', 'C', 'D', 'H', 'F'].map(k => `\x1b[${k}`) as [
  string,
  string,
  string,
  string,
  string,
  string,
];
const ctrl = (letter: string): string => String.fromCharCode(letter.charCodeAt(0) & 31);

/** A prompt on the ordinary screen, and a shell that takes commands. */
async function whole(t: ExecutionContext, seat: Seat, when: string): Promise<void> {
  t.is(seat.screenKind, 'normal', `${when}: the ordinary screen`);
  t.true(seat.cursorSeen, `${when}: the cursor is seen`);
  t.regex(seat.screen().at(-1)!, /^sis> ▮$/, `${when}: the prompt`);
  await seat.type('echo "wh"ole\r');
  t.true(seat.screen().includes('whole'), `${when}: the shell works`);
}

test('less: forward and back, by lines, windows and halves, to ends, lines and percents', async t => {
  const seat = new Seat();
  await seat.type('clear; seq 100 > /tmp/n; less /tmp/n\r');
  seen(t, seat, 'less begins with the name of the file');
  t.is(seat.screenKind, 'alternate');
  const top = async (...keys: string[]): Promise<string> => {
    await seat.type(...keys);
    return seat.screen()[0]!;
  };
  t.is(await top(' '), '12');
  t.is(await top('f'), '23');
  t.is(await top('b'), '12');
  t.is(await top('j'), '13');
  t.is(await top(down, '\r', 'e'), '16');
  t.is(await top('k', up), '14');
  t.is(await top('5', 'j'), '19');
  t.is(await top('d'), '24');
  t.is(await top(ctrl('u')), '19');
  t.is(await top('4', '2', 'g'), '42');
  t.is(await top('G'), '90');
  seen(t, seat, 'less at the end');
  t.is(await top('j'), '90', 'no further than the end');
  t.is(await top('g'), '1');
  t.is(await top('k'), '1');
  t.is(await top('5', '0', '%'), '52');
  t.is(await top('m', 'a', 'g', "'", 'a'), '52');
  t.is(await top("'", "'"), '1');
  t.is(await top(home), '1');
  t.is(await top(end), '90');
  await seat.type('1', '2');
  seen(t, seat, 'less: a number being typed');
  await seat.type('\x7f', '\x7f', '=');
  seen(t, seat, 'less: where am I');
  await seat.type('h');
  seen(t, seat, 'less: help');
  await seat.type('q');
  t.is(seat.screen()[0], '90');
  await seat.type('q');
  t.is(seat.screenKind, 'normal');
  t.deepEqual(seat.screen(), ['sis> ▮']);
  await whole(t, seat, 'q');
});

test('less: patterns forward, backward, again, in reverse on the screen, and what is not found', async t => {
  const seat = new Seat();
  await seat.type('clear; seq 300 > /tmp/n; less /tmp/n\r', '/7$\r');
  seen(t, seat, 'less: the first match');
  t.is(seat.attributed(0, 'Inverse'), '', 'a match on the screen does not move it');
  t.is(seat.attributed(6, 'Inverse'), '7');
  await seat.type('n', 'n');
  t.is(seat.screen()[0], '17', 'off the screen it comes to the top');
  await seat.type('N');
  t.is(seat.screen()[0], '17');
  await seat.type('?^1.$\r');
  t.is(seat.screen()[0], '16');
  await seat.type('5', '/9\r');
  t.is(seat.screen()[0], '59');
  await seat.type('/nothing\r');
  seen(t, seat, 'less: a pattern that is not there');
  await seat.type('/[\r');
  t.regex(seat.screen().at(-1)!, /Invalid regular expression/);
  await seat.type('/12', '\x7f', '\x7f', '\x7f');
  t.regex(seat.screen().at(-1)!, /^:▮$/, 'an empty pattern is given up by Backspace');
  await seat.type('\x1bu');
  t.is(seat.attributed(0, 'Inverse'), '');
  await seat.type('q');
  await whole(t, seat, 'q');
});

const strange = [
  String.raw`printf 'tab\there\n\033[1mbold\033[m \001\177 \351t\351 ok\n'`,
  String.raw`printf '日本語のとても長い行はここで折り返されるはずです、たぶん。\n'`,
  String.raw`printf 'e\314\201a\314\210o\314\202 combining\n'`,
  String.raw`printf 'b\bbo\bol\bld\bd _\bu_\bn_\bd\n'`,
  String.raw`printf '%s\n' "$(seq 40 | tr '\n' ' ')"`,
  String.raw`printf 'last, without a newline'`,
].join('; ');

test('less: wide and combining characters, controls, overstrikes, colours, long lines', async t => {
  const seat = new Seat(40, 14);
  await seat.type(`{ ${strange}; } > /tmp/s; clear; less /tmp/s\r`);
  seen(t, seat, 'less: characters of every kind');
  t.is(seat.attributed(5, 'Bold'), 'bold');
  t.is(seat.attributed(5, 'Underline'), 'und');
  await seat.type('-', 'R');
  seen(t, seat, 'less: with -R');
  t.is(seat.attributed(1, 'Bold'), 'bold');
  await seat.type('-', 'S', '-', 'N', ' ');
  seen(t, seat, 'less: cut and numbered');
  await seat.type(right);
  seen(t, seat, 'less: shifted to the right');
  await seat.type(left, 'q');
  await whole(t, seat, 'q');
});

test('less: no row is wider than the screen, in any size, and what is on it is the text', async t => {
  const seat = new Seat(30, 8);
  await seat.type(`{ ${strange}; seq 200; } > /tmp/s; less -R /tmp/s\r`);
  for (const [columns, rows] of [
    [17, 5],
    [2, 3],
    [80, 24],
    [31, 9],
  ] as const) {
    await seat.resize(columns, rows);
    t.is(seat.term.buffer.active.baseY, 0, 'nothing scrolls away');
    t.is(seat.term.buffer.active.cursorY, rows - 1, 'the cursor waits in the last row');
    for (let y = 0; y < rows; y++)
      t.false(seat.term.buffer.active.getLine(y)!.isWrapped, `${columns}×${rows}, row ${y}`);
  }
  seen(t, seat, 'less: after four sizes');
  await seat.type('G');
  t.regex(seat.screen().at(-2)!, /^200$/);
  await seat.type('q');
  await whole(t, seat, 'q');
});

test('less: a pipe is read as far as it is looked at, and back again', async t => {
  const seat = new Seat();
  await seat.type('clear; i=0; while :; do echo line $((i += 1)); done | less -M\r');
  seen(t, seat, 'less: an endless pipe');
  await seat.type(' ', ' ', 'b');
  t.is(seat.screen()[0], 'line 12');
  await seat.type('9', '9', 'g');
  t.is(seat.screen()[0], 'line 99');
  await seat.type('q');
  await whole(t, seat, 'q');

  await seat.type('clear; sleep 3 | less\r');
  await seat.type('q');
  await whole(t, seat, 'an empty pipe');

  await seat.type('clear; less -F /etc/hostname\r');
  t.is(seat.screenKind, 'normal');
  seen(t, seat, 'less -F prints what fits');
  await seat.type('clear; less -X /etc/passwd\r');
  t.is(seat.screenKind, 'normal');
  await seat.type('q');
  t.regex(seat.screen().join('\n'), /nobody:/, 'less -X leaves what was read');
  await whole(t, seat, '-X');
});

test('less: several files, files that are none, followed files', async t => {
  const seat = new Seat();
  await seat.type('clear; echo one > /tmp/1; echo two > /tmp/2; less /tmp/1 /nope /tmp/2\r');
  seen(t, seat, 'less: the first of two files');
  await seat.type(':', 'n');
  t.is(seat.screen()[0], 'two');
  await seat.type(':', 'n');
  t.regex(seat.screen().at(-1)!, /No next file/);
  await seat.type(':', 'p', 'q');
  await seat.type('clear; less /tmp; less /nope\r');
  t.deepEqual(seat.screen().slice(0, 2), ['less: /tmp is a directory', 'less: /nope: No such file or directory']);
  await whole(t, seat, 'nothing to read');
  await seat.type('seq 20 > /tmp/f; (sleep 2; echo more >> /tmp/f) & clear; less +F /tmp/f\r');
  t.is(seat.screen().at(-2), '20');
  seat.settle(5000);
  await seat.drawn();
  t.is(seat.screen().at(-2), 'more');
  await seat.type(ctrl('c'));
  t.is(seat.screenKind, 'alternate', 'Ctrl-C ends the waiting');
  await seat.type('q');
});

test('Ctrl-C, Ctrl-Z, kill -9: the terminal is whole afterwards', async t => {
  const seat = new Seat();
  await seat.type('seq 100 > /tmp/n; clear; less /tmp/n\r', ctrl('c'));
  await whole(t, seat, 'Ctrl-C');
  await seat.type('echo $?\r', 'clear; less /tmp/n\r', ' ', ctrl('z'));
  t.is(seat.screenKind, 'normal');
  t.regex(seat.screen().join('\n'), /Stopped/);
  await whole(t, seat, 'Ctrl-Z');
  await seat.type('fg\r');
  t.is(seat.screenKind, 'alternate');
  t.is(seat.screen()[0], '12', 'where it was');
  await seat.type('q');
  await whole(t, seat, 'fg and q');
  await seat.type('(sleep 1; kill -9 $(ps -e -o pid=,comm= | grep less | cut -c 1-6)) & clear; less /tmp/n\r');
  seat.settle(3000);
  await seat.drawn();
  t.is(seat.screenKind, 'normal', 'killed: the driver gives the screen back');
  await whole(t, seat, 'kill -9');
  for (const command of ['top', 'watch uptime', 'man ls', 'watch -n 1 sleep 100']) {
    await seat.type(`clear; ${command}\r`);
    t.is(seat.screenKind, 'alternate', command);
    await seat.type(ctrl('c'));
    await whole(t, seat, command);
  }
});

test('man: a page with bold and underlined words, through a pager; sections', async t => {
  const seat = new Seat(70, 20);
  await seat.type('clear; man mv\r');
  seen(t, seat, 'man mv');
  t.is(seat.attributed(0, 'Bold'), 'NAME');
  await seat.type('q');
  await whole(t, seat, 'man');
  await seat.type('clear; PAGER=cat man 2 poll\r');
  seen(t, seat, 'man 2 poll');
  await seat.type('clear; man nope; man 2 nope; man 7\r');
  seen(t, seat, 'man of what is not there');
});

test('top: a screen of facts, sorted, at its times', async t => {
  const seat = new Seat(78, 16);
  await seat.type('clear; sleep 1000 & top\r');
  const screen = seat.screen();
  t.regex(screen[0]!, /^top - up 00:00:\d\d \(virtual\), cortex-a72 at 1500 MHz$/);
  t.regex(screen[1]!, /^Processes: 3 total, \d running, \d waiting, 0 stopped, 0 ended$/);
  t.regex(screen[3]!, /^KiB Arena: 8192 total, \d+ used, \d+ free, \d+ peak$/);
  t.true(screen.some(row => /^ *\d+ root +R .* top$/.test(row)));
  t.regex(
    seat.attributed(
      screen.findIndex(row => / PID /.test(` ${row}`)),
      'Inverse',
    ),
    /^ *PID *USER/,
  );
  const before = seat.machine.nowNs();
  seat.settle(3500);
  t.true(seat.machine.nowNs() - before >= 3e9);
  await seat.type('N');
  t.regex(seat.screen()[8]!, /^ *1 root +S .* wait +sh$/, 'sorted by number');
  t.true(seat.screen().some(row => /^ *\d+ root +S .* sleep +sleep 1000$/.test(row)));
  await seat.resize(40, 8);
  t.is(seat.term.buffer.active.baseY, 0);
  await seat.type('q');
  await whole(t, seat, 'q');
  await seat.type('clear; top -b -n 2 | grep -c ^top\r');
  seat.settle(4000);
  await seat.drawn();
  t.is(seat.screen()[0], '2');
});

test('watch: the screen follows a command, changes in reverse', async t => {
  const seat = new Seat();
  await seat.type("clear; watch -d 'echo x >> /tmp/c; wc -l < /tmp/c; echo same'\r");
  t.regex(seat.screen()[0]!, /^Every 2\.0s: echo x >> .* arena8: .*1970$/);
  t.deepEqual(seat.screen().slice(2, 4), ['1', 'same']);
  const before = seat.machine.nowNs();
  await seat.type(' ');
  t.true(seat.machine.nowNs() - before < 2.1e9);
  t.deepEqual(seat.screen().slice(2, 4), ['2', 'same']);
  t.is(seat.attributed(2, 'Inverse'), '2');
  t.is(seat.attributed(3, 'Inverse'), '');
  await seat.type('q');
  await whole(t, seat, 'q');
  await seat.type("clear; watch -t -e 'echo out; exit 3'; echo $?\r");
  t.is(seat.screen()[0], '3');
  await seat.type('watch ls | cat\r');
  t.regex(seat.screen().join('\n'), /watch: standard output is not a terminal/);
});
