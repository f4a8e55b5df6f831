// A person at a machine: a machine whose console is @xterm/headless, keys typed, screens seen. Golden screens are kept in one text file,
// which ARENA8_RECORD=1 writes anew.

import { readFileSync, writeFileSync } from 'node:fs';
import process from 'node:process';
import type { ExecutionContext } from 'ava';
import { boot } from '../../boot/index.ts';
import type { BootOptions, Machine } from '../../boot/index.ts';
import { Tty } from '../../drivers/tty/tty.ts';
import { utf8Encode } from '../../kernel/abi/index.ts';
import { terminal } from './terminal.ts';
import type { Terminal } from './terminal.ts';

const image = readFileSync('build/boot.cpio');

/** A machine with a shell at its prompt. */
export class Seat {
  readonly term: Terminal;
  readonly tty: Tty;
  readonly machine: Machine;
  readonly shell: number;
  #out = '';

  constructor(columns = 60, rows = 12, options: Partial<BootOptions> = {}) {
    this.term = terminal(columns, rows);
    const decoder = new TextDecoder();
    this.tty = new Tty({
      interactive: true,
      columns,
      rows,
      output: bytes => (this.#out += decoder.decode(bytes, { stream: true })),
    });
    this.machine = boot({ image, console: this.tty, ...options });
    this.shell = this.machine.start(['sh']);
    this.settle();
  }

  /** Runs until everything waits for a key, or for `milliseconds` of the machine's time. */
  settle(milliseconds = 0): void {
    const until = this.machine.nowNs() + milliseconds * 1e6;
    for (let i = 0; i < 20_000; i++) {
      const before = this.machine.nowNs();
      if (this.machine.run(1) === 'idle') return;
      // A jump of the clock: nothing was left to do but to wait.
      if (this.machine.nowNs() - before > 50e6 && this.machine.nowNs() > until) return;
    }
    throw new Error('the machine does not come to rest');
  }

  /** Types keys one after the other. */
  async type(...keys: string[]): Promise<void> {
    for (const key of keys) {
      this.tty.feed(utf8Encode(key));
      this.settle();
    }
    await this.drawn();
  }

  async resize(columns: number, rows: number): Promise<void> {
    await this.drawn();
    this.term.resize(columns, rows);
    this.tty.resize(columns, rows);
    this.settle();
    await this.drawn();
  }

  async drawn(): Promise<void> {
    const out = this.#out;
    this.#out = '';
    await new Promise<void>(done => this.term.write(out, done));
  }

  /** The rows as text, without blank ones at the end; `▮` stands before the cell with the cursor. */
  screen(): string[] {
    const buffer = this.term.buffer.active;
    const rows: string[] = [];
    for (let y = 0; y < this.term.rows; y++) {
      const line = buffer.getLine(buffer.baseY + y)!;
      const before = line.translateToString(false, 0, buffer.cursorX);
      const row =
        y === buffer.cursorY && this.cursorSeen
          ? `${before}▮${line.translateToString(false, buffer.cursorX)}`
          : line.translateToString(false);
      rows.push(row.trimEnd());
    }
    while (rows.at(-1) === '') rows.pop();
    return rows;
  }

  get cursorSeen(): boolean {
    return !(this.term as unknown as { _core: { coreService: { isCursorHidden: boolean } } })._core.coreService
      .isCursorHidden;
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
