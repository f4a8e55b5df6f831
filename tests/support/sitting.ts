// A sitting at the terminal that must look the same in Node and in a web page: typing, completing, searching, resizing, several lines.

import type { Tty } from '../../drivers/tty/tty.ts';
import type { Machine } from '../../boot/machine.ts';
import { ctrl, left, MachineSeat, pasted, up } from './terminal.ts';

/** The screens, one after each thing that is done. */
export async function sitting(powerOn: (console: Tty) => Machine): Promise<string[][]> {
  const seat = new MachineSeat(powerOn, 60, 12);
  const screens: string[][] = [];
  const look = async (keys: string): Promise<void> => {
    await seat.type(keys);
    seat.settle(10_000); // commands that take time
    await seat.drawn();
    screens.push(seat.screen());
  };
  await look('echo zażółć 日本 👍\r');
  await look(`cat /usr/share/la\tshe\t`);
  await look(`${ctrl('u')}llmctl load \t\t`);
  await look(`fable-q4\t--ctx 64\r`);
  await look(`${ctrl('l')}echo 'one\rtwo'\r`);
  await look(`${ctrl('r')}zaż`);
  await look(`${left}${ctrl('a')}# a comment longer than the screen is wide, so that it wraps `);
  await seat.resize(35, 12);
  await look('!');
  await look(`${ctrl('c')}${ctrl('l')}${up}${up}`);
  await look(`${ctrl('c')}${pasted('echo 1\necho 2')}\r`);
  return screens;
}
