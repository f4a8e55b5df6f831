// A person at a machine: a machine whose console is @xterm/headless, keys typed, screens seen. Golden screens are kept in one text file,
// which ARENA8_RECORD=1 writes anew.

import { readFileSync, writeFileSync } from 'node:fs';
import process from 'node:process';
import type { ExecutionContext } from 'ava';
import { boot } from '../../boot/index.ts';
import type { BootOptions } from '../../boot/index.ts';
import { MachineSeat } from './terminal.ts';

const image = readFileSync('build/boot.cpio');

/** A machine of the boot image with a shell at its prompt. */
export class Seat extends MachineSeat {
  constructor(columns = 60, rows = 12, options: Partial<BootOptions> = {}) {
    super(console => boot({ image, console, ...options }), columns, rows);
  }

  /** Which screen is shown. */
  get screenKind(): 'normal' | 'alternate' {
    return this.term.buffer.active.type;
  }

  /** Cells of a row that have an attribute, as the characters there. */
  attributed(y: number, attribute: 'Bold' | 'Underline' | 'Inverse'): string {
    const { active: buffer } = this.term.buffer;
    const line = buffer.getLine(buffer.baseY + y)!;
    let text = '';
    for (let x = 0; x < this.term.cols; x++) {
      const cell = line.getCell(x)!;
      if (cell[`is${attribute}`]() !== 0) text += cell.getChars();
    }
    return text;
  }
}

const goldenFile = 'tests/fixtures/terminal/screens.txt';
const recording = process.env['ARENA8_RECORD'] === '1';
const recorded = new Map<string, string[]>();

function load(): Map<string, string[]> {
  const screens = new Map<string, string[]>();
  let rows: string[] = [];
  for (const line of readFileSync(goldenFile, 'utf8').split('\n')) {
    const [, name] = /^══ (.*)$/.exec(line) ?? [];
    if (name === undefined) rows.push(line.replace(/^│/, ''));
    else screens.set(name, (rows = []));
  }
  for (const screen of screens.values()) while (screen.at(-1) === '') screen.pop();
  return screens;
}
const golden = recording ? recorded : load();

/** The screen is as recorded under this name. */
export function seen(t: ExecutionContext, seat: Seat, name: string): void {
  const screen = seat.screen();
  if (!recording) return void t.deepEqual(screen, golden.get(name), name);
  recorded.set(name, screen);
  const sorted = [...recorded].sort(([a], [b]) => (a < b ? -1 : 1));
  const text = sorted.map(([key, rows]) => `══ ${key}\n${rows.map(row => `│${row}\n`).join('')}`).join('\n');
  writeFileSync(goldenFile, text);
  t.pass();
}
