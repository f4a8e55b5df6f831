// Screen-reader mode: what the machine prints goes into a log that is read out (ARIA's live region), each line once, as text without control
// sequences, and stays there to be gone back to. xterm.js has a live region too; it reads by characters as they arrive, so a line that is
// redrawn is heard again. Here the screen is read like a person reads it: when it has come to rest, what stands there and was not there before.
// What is echoed of typing is not read: the screen reader has said the keys already.

import type { IMarker, Terminal } from '@xterm/xterm';
import { el } from './dom.ts';

/** Rest after the last output before the unfinished line is read, and the longest that reading waits for it. */
const restMs = 200;
const waitMsMax = 1000;
const LINES_MAX = 500;

export class Reader {
  readonly #terminal: Terminal;
  readonly #region: HTMLElement;
  #on = false;
  /** Where reading goes on: the first row of a line, of which `#said` has been read. */
  #mark: IMarker | undefined;
  #said = '';
  #typed = '';
  #screen: string[] = []; // of a program that has the whole screen, as it was last read
  #timer = 0;
  #firstMs = 0; // when output began to come, of what is unread

  constructor(terminal: Terminal, region: HTMLElement) {
    this.#terminal = terminal;
    this.#region = region;
    terminal.onWriteParsed(() => this.#later());
    terminal.onData(data => {
      if (this.#on) this.#typed += data;
    });
  }

  /** From the cursor's line on; what is above it was there before. */
  set on(on: boolean) {
    if (on === this.#on) return;
    this.#on = on;
    this.#region.replaceChildren();
    this.#typed = '';
    this.#restart('');
    if (on) this.#later();
  }

  #later(): void {
    if (!this.#on) return;
    const now = performance.now();
    if (this.#timer === 0) this.#firstMs = now;
    clearTimeout(this.#timer);
    const wait = Math.max(0, Math.min(restMs, this.#firstMs + waitMsMax - now));
    this.#timer = window.setTimeout(() => {
      this.#timer = 0;
      this.#read();
    }, wait);
  }

  #restart(said: string): void {
    this.#mark?.dispose();
    const buffer = this.#terminal.buffer.normal;
    const first = this.#firstRow(buffer.baseY + buffer.cursorY);
    this.#mark = this.#terminal.registerMarker(first - buffer.baseY - buffer.cursorY);
    this.#said = said;
  }

  /** A line that is too long for the screen has several rows. */
  #firstRow(row: number): number {
    const { normal } = this.#terminal.buffer;
    while (row > 0 && normal.getLine(row)?.isWrapped) row--;
    return row;
  }

  #read(): void {
    if (this.#terminal.buffer.active.type === 'alternate') this.#readScreen();
    else this.#readLines();
  }

  /** A program that draws: the rows that are not as they were. */
  #readScreen(): void {
    const buffer = this.#terminal.buffer.active;
    const rows = Array.from(
      { length: this.#terminal.rows },
      (_, y) => buffer.getLine(y)?.translateToString(true) ?? '',
    );
    const before = new Set(this.#screen);
    this.#say(rows.filter(row => row.trim() !== '' && !before.has(row)));
    this.#screen = rows;
    this.#typed = '';
  }

  #readLines(): void {
    this.#screen = [];
    const buffer = this.#terminal.buffer.normal;
    const cursorRow = this.#firstRow(buffer.baseY + buffer.cursorY);
    let from = this.#mark?.line ?? cursorRow;
    // Scrolled out of memory, all of which is new then; or the screen was cleared, and the cursor is above.
    if (from < 0 || from > cursorRow) {
      from = Math.min(Math.max(from, 0), cursorRow);
      this.#said = '';
    }
    const lines: string[] = [];
    for (let row = from; row <= cursorRow;) {
      let text = '';
      const first = row;
      do text += buffer.getLine(row)?.translateToString(true) ?? '';
      while (++row < buffer.length && buffer.getLine(row)!.isWrapped);
      const unread = first === from ? this.#unread(text) : text;
      if (unread.trim() !== '') lines.push(unread);
      if (row > cursorRow) this.#restart(text);
    }
    this.#typed = '';
    this.#say(lines);
  }

  /** What of the line where reading goes on was neither read nor typed. */
  #unread(text: string): string {
    const rest = text.startsWith(this.#said) ? text.slice(this.#said.length) : text;
    const typed = this.#typed.split('\r', 1)[0]!;
    return rest.trim() === typed.trim() ? '' : rest;
  }

  #say(lines: readonly string[]): void {
    const left = lines.length - LINES_MAX;
    const shown = left > 0 ? [`${left} lines before this are in the terminal.`, ...lines.slice(left)] : lines;
    this.#region.append(...shown.map(line => el('div', {}, line)));
    while (this.#region.childElementCount > LINES_MAX) this.#region.firstElementChild!.remove();
  }
}
