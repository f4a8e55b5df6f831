// A terminal and whoever sits at it: @xterm/headless shows what a person would see of what was typed. It works in a browser as well.

import xterm from '@xterm/headless';
import { Tty } from '../../drivers/tty/tty.ts';
import { codePointWidth, textWidth } from '../../kernel/abi/width.ts';
import type { Machine } from '../../boot/machine.ts';
import { BLOCKED, LIMITS, utf8Decode, utf8Encode } from '../../kernel/abi/index.ts';

export type Terminal = InstanceType<typeof xterm.Terminal>;

/** A terminal that agrees with our width table (xterm's own knows Unicode 6 only). */
export function terminal(columns: number, rows: number): Terminal {
  const term = new xterm.Terminal({ cols: columns, rows, allowProposedApi: true });
  term.unicode.register({
    version: 'arena8',
    wcwidth: codePointWidth,
    charProperties(c, preceding) {
      const width = codePointWidth(c);
      const widthBefore = (preceding >> 1) & 3;
      const joins = width === 0 && widthBefore > 0;
      return ((joins ? Math.max(width, widthBefore) : width) << 1) | Number(joins);
    },
  });
  term.unicode.activeVersion = 'arena8';
  return term;
}

/** False while a program hides the cursor. */
const cursorSeen = (term: Terminal): boolean =>
  !(term as unknown as { _core: { coreService: { isCursorHidden: boolean } } })._core.coreService.isCursorHidden;

/** What the screen shows, without blank rows at the end; `▮` stands before the cell that the cursor is on. */
export function screenOf(term: Terminal): string[] {
  const buffer = term.buffer.active;
  const rows: string[] = [];
  for (let y = 0; y < term.rows; y++) {
    const line = buffer.getLine(buffer.baseY + y)!;
    const before = line.translateToString(false, 0, buffer.cursorX);
    const marked = y === buffer.cursorY && cursorSeen(term);
    const row = marked ? `${before}▮${line.translateToString(false, buffer.cursorX)}` : line.translateToString(false);
    rows.push(row.trimEnd());
  }
  while (rows.at(-1) === '') rows.pop();
  return rows;
}

export const drawn = (term: Terminal, out: string): Promise<void> => new Promise(done => term.write(out, done));

/** A person at a terminal, and a program that asks for lines. */
export class Desk {
  readonly term: Terminal;
  readonly tty: Tty;
  readonly memory = new Uint8Array(LIMITS.lineBytes);
  #out = '';
  #last = '';

  constructor(columns = 40, rows = 8) {
    this.term = terminal(columns, rows);
    const decoder = new TextDecoder();
    this.tty = new Tty({
      output: b => (this.#out += decoder.decode(b, { stream: true })),
      interactive: true,
      columns,
      rows,
    });
  }

  /** Types `keys` while the program asks for a line; returns its answer, null while it waits. Lines are remembered. */
  line(keys: string, prompt = 'sis> '): string | null {
    this.tty.feed(utf8Encode(keys));
    const n = this.tty.readline(prompt, this.memory, 0, 16384);
    if (n === BLOCKED) return null;
    const answer = utf8Decode(this.memory, 0, n);
    const text = answer.slice(1);
    if (answer.startsWith('L') && text.trim() !== '' && text !== this.#last) {
      this.#last = text;
      this.tty.remember([text], LIMITS.historyLines);
    }
    return answer;
  }

  read(keys: string, length = 100): string | number {
    this.tty.feed(utf8Encode(keys));
    const n = this.tty.read(this.memory, 0, length);
    return n <= 0 ? n : utf8Decode(this.memory, 0, n);
  }

  print(text: string): void {
    const bytes = utf8Encode(text);
    this.tty.write(bytes, 0, bytes.length);
  }

  async screen(): Promise<string[]> {
    await drawn(this.term, this.raw());
    return screenOf(this.term);
  }

  /** What was sent to the terminal since the last look. */
  raw(): string {
    const out = this.#out;
    this.#out = '';
    return out;
  }
}

/** What a terminal sends. */
export const [up, down, right, left, home, end, del] = ['A', 'B', 'C', 'D', 'H', 'F', '3~'].map(k => `\x1b[${k}`) as [
  string,
  string,
  string,
  string,
  string,
  string,
  string,
];
export const ctrl = (letter: string): string => String.fromCharCode(letter.charCodeAt(0) & 31);
export const meta = (key: string): string => `\x1b${key}`;
export const pasted = (text: string): string => `\x1b[200~${text}\x1b[201~`;

/** Where the last character with a width begins. */
function lastCell(row: string): number {
  const cells = [...row];
  while (codePointWidth(cells.pop()!.codePointAt(0)!) === 0);
  return cells.join('').length;
}

/** What the cursor's row and the rows around it should be for a line under edit: laid out plainly, one character after the other. */
export function picture(prompt: string, text: string, cursor: number, columns: number): string[] {
  const rows = [''];
  const width = (row: string): number => textWidth(row.replace('▮', ''));
  const put = (cell: string, marked: boolean): void => {
    if (width(rows.at(-1)!) + textWidth(cell) > columns) rows.push('');
    rows[rows.length - 1] += (marked ? '▮' : '') + cell;
  };
  const all = prompt + text;
  const at = prompt.length + cursor;
  for (let i = 0; i < all.length;) {
    const c = all.codePointAt(i)!;
    let end = i + (c > 0xffff ? 2 : 1);
    const control = c < 32 || (c >= 0x7f && c < 0xa0);
    while (!control && end < all.length && end !== prompt.length && codePointWidth(all.codePointAt(end)!) === 0)
      end += all.codePointAt(end)! > 0xffff ? 2 : 1;
    const marked = i === at;
    if (c === 9) for (let n = 8 - (width(rows.at(-1)!) % 8), k = 0; k < n; k++) put(' ', marked && k === 0);
    else if ((c < 32 && c !== 10) || c === 127)
      [`^`, String.fromCharCode(c ^ 64)].forEach((shown, k) => put(shown, marked && k === 0));
    else if (c >= 0x80 && c < 0xa0) put('\ufffd', marked);
    else if (c !== 10) put((codePointWidth(c) === 0 ? '◌' : '') + all.slice(i, end), marked);
    if (c === 10) {
      // A cursor before a line end behind a full row waits in the last column.
      if (marked) {
        const row = rows.at(-1)!;
        const last = width(row) < columns ? row.length : lastCell(row);
        rows[rows.length - 1] = `${row.slice(0, last)}▮${row.slice(last)}`;
      }
      rows.push('');
      end = i + 1;
    }
    i = end;
  }
  if (at === all.length) {
    if (width(rows.at(-1)!) === columns) rows.push('');
    rows[rows.length - 1] += '▮';
  }
  return rows.map(row => row.trimEnd());
}

/** A person at the terminal of a whole machine, with a shell at its prompt. */
export class MachineSeat {
  readonly term: Terminal;
  readonly tty: Tty;
  readonly machine: Machine;
  readonly shell: number;
  #out = '';

  constructor(powerOn: (console: Tty) => Machine, columns = 80, rows = 24) {
    this.term = terminal(columns, rows);
    const decoder = new TextDecoder();
    this.tty = new Tty({
      interactive: true,
      columns,
      rows,
      output: bytes => (this.#out += decoder.decode(bytes, { stream: true })),
    });
    this.machine = powerOn(this.tty);
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
    await drawn(this.term, out);
  }

  screen(): string[] {
    return screenOf(this.term);
  }

  get cursorSeen(): boolean {
    return cursorSeen(this.term);
  }
}
