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
  t.is(seat.screen().at(-2), 'whole', `${when}: the shell works`);
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
