// A terminal taken over by one program: alternate screen, raw keyboard, rows drawn by their differences. Whoever takes it gives it back,
// on exit, on Ctrl-C and while stopped by Ctrl-Z; a change of its size is told as a key. The keyboard is /dev/tty, so standard input may
// be data. After curses(3), without its library of widgets.

import {
  E,
  IOCTL,
  O,
  SIG,
  codePointWidth,
  textWidth,
  utf8Decode,
  utf8Encode,
  utf8Step,
} from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { writeAll } from './stdio.ts';

/** What came: a character, a key's name (`Up`, `PageDown`, `C-f`, `M-v`), or an event. */
export type Key = string;
/** Events among the keys: Ctrl-C; the size changed or the program was stopped meanwhile; the time is up; the terminal or the program ends. */
export const EVENT = { interrupt: 'interrupt', redraw: 'redraw', timeout: 'timeout', end: 'end' } as const;

const sequences: Readonly<Record<string, Key>> = {
  '[A': 'Up',
  '[B': 'Down',
  '[C': 'Right',
  '[D': 'Left',
  '[H': 'Home',
  '[F': 'End',
  '[1~': 'Home',
  '[4~': 'End',
  '[5~': 'PageUp',
  '[6~': 'PageDown',
  '[7~': 'Home',
  '[8~': 'End',
  OA: 'Up',
  OB: 'Down',
  OC: 'Right',
  OD: 'Left',
  OH: 'Home',
  OF: 'End',
};
const caughtSignals = [SIG.INT, SIG.TERM, SIG.HUP, SIG.TSTP, SIG.WINCH] as const;

const enter = '\x1b[?1049h\x1b[H\x1b[2J';
const leave = '\x1b[?1049l';
const showCursor = '\x1b[?25h';
const hideCursor = '\x1b[?25l';

export interface ScreenOptions {
  /** Draw on the ordinary screen and leave there what was drawn. */
  readonly stay?: boolean;
}

export class Screen {
  columns = 80;
  rows = 24;
  private readonly sys: Sys;
  private readonly fd: number;
  private readonly keyboard: number;
  private readonly stay: boolean;
  private readonly before: number[] = []; // what the caught signals did
  private drawn: string[] = []; // rows as the terminal shows them; empty: unknown
  private readonly pending = new Uint8Array(1024);
  private held = 0; // bytes in `pending`

  private constructor(sys: Sys, fd: number, keyboard: number, stay: boolean) {
    this.sys = sys;
    this.fd = fd;
    this.keyboard = keyboard;
    this.stay = stay;
  }

  /** Takes the terminal on `fd`; -errno when that is none or has nobody at its keyboard. */
  static *open(sys: Sys, fd: number, options: ScreenOptions = {}): Generator<void, Screen | number, void> {
    if (!(yield* isTerminal(sys, fd))) return -E.NOTTY;
    const keyboard = yield* sys.open('/dev/tty', O.RDONLY, 0);
    if (keyboard < 0) return keyboard;
    const screen = new Screen(sys, fd, keyboard, options.stay ?? false);
    for (const signal of caughtSignals) screen.before.push(yield* sys.signal(signal, 1));
    yield* screen.take();
    return screen;
  }

  /** Gives the terminal back as it was. */
  *close(): Generator<void, void, void> {
    yield* this.release();
    for (const [i, signal] of caughtSignals.entries()) yield* this.sys.signal(signal, this.before[i]!);
    yield* this.sys.close(this.keyboard);
  }

  private *take(): Generator<void, void, void> {
    yield* this.sys.ioctl(this.keyboard, IOCTL.raw, 1);
    yield* this.measure();
    yield* this.write((this.stay ? '\x1b[H\x1b[2J' : enter) + hideCursor);
    this.drawn = [];
  }

  private *release(): Generator<void, void, void> {
    const end = this.stay ? `\x1b[${this.rows};1H\r\x1b[m\x1b[K` : leave;
    yield* this.write(`\x1b[m${end}${showCursor}`);
    yield* this.sys.ioctl(this.keyboard, IOCTL.raw, 0);
  }

  private *measure(): Generator<void, void, void> {
    const { columns, rows } = yield* screenSize(this.sys, this.fd);
    this.columns = columns;
    this.rows = rows;
  }

  private *write(text: string): Generator<void, void, void> {
    yield* writeAll(this.sys, this.fd, utf8Encode(text));
  }

  /**
   * Shows these rows, none wider than the screen; those that are not given are blank. With `cursor`, a column of the last row given, the
   * cursor is seen there.
   */
  *show(lines: readonly string[], cursor?: number): Generator<void, void, void> {
    let out = hideCursor;
    for (let i = 0; i < this.rows; i++) {
      const line = lines[i] ?? '';
      // Erased first: erasing behind a full row would take its last character.
      if (this.drawn[i] !== line) out += `\x1b[${i + 1};1H\x1b[m\x1b[K${line}`;
      this.drawn[i] = line;
    }
    out += '\x1b[m';
    if (cursor !== undefined) out += `\x1b[${lines.length};${Math.min(cursor, this.columns - 1) + 1}H${showCursor}`;
    yield* this.write(out);
  }

  /** Shows only the last row anew, the cursor behind its text. */
  *showLast(line: string): Generator<void, void, void> {
    yield* this.show([...Array.from({ length: this.rows - 1 }, (_, i) => this.drawn[i] ?? ''), line], textWidth(line));
  }

  *bell(): Generator<void, void, void> {
    yield* this.write('\x07');
  }

  /** Everything is drawn anew next time. */
  forget(): void {
    this.drawn = [];
  }

  /** The next key or event; waits for it, at most `milliseconds` of virtual time when given. */
  *key(milliseconds = -1): Generator<void, Key, void> {
    for (;;) {
      const event = yield* this.event();
      if (event !== null) return event;
      const key = this.decode();
      if (key !== null) return key;
      const ready = milliseconds < 0 ? 1 : yield* this.sys.poll(this.keyboard, milliseconds);
      if (ready === 0) return EVENT.timeout;
      if (ready < 0) continue; // a signal: see above
      const n = yield* this.sys.read(this.keyboard, this.pending.subarray(this.held));
      if (n > 0) this.held += n;
      else if (n !== -E.INTR) return EVENT.end;
    }
  }

  /** The event that signals tell of, or null. */
  *event(): Generator<void, Key | null, void> {
    if (!this.sys.signalled()) return null;
    const came = yield* this.sys.signals();
    const has = (signal: number): boolean => (came & (1 << signal)) !== 0;
    if (has(SIG.TERM) || has(SIG.HUP)) return EVENT.end;
    if (has(SIG.INT)) {
      this.held = 0;
      return EVENT.interrupt;
    }
    if (has(SIG.TSTP)) {
      yield* this.release();
      yield* this.sys.kill(yield* this.sys.getpid(), SIG.STOP);
      yield* this.take();
    }
    const { columns, rows } = this;
    yield* this.measure();
    // A terminal that was resized may have moved what it shows.
    if (columns !== this.columns || rows !== this.rows) yield* this.write('\x1b[H\x1b[2J');
    this.drawn = [];
    return EVENT.redraw;
  }

  /** Takes the next key out of what was read, or null when the rest of it has yet to come. */
  private decode(): Key | null {
    if (this.held === 0) return null;
    const [key, bytes] = decodeKey(this.pending, this.held);
    if (bytes === 0) return null;
    this.pending.copyWithin(0, bytes, this.held);
    this.held -= bytes;
    return key;
  }
}

/** True when `fd` is a terminal with a person at it. */
export function* isTerminal(sys: Sys, fd: number): Generator<void, boolean, void> {
  return (yield* sys.ioctl(fd, IOCTL.isatty, 0)) === 1;
}

/** The size of the terminal on `fd`; 80 × 24 when it is none. */
export function* screenSize(sys: Sys, fd: number): Generator<void, { columns: number; rows: number }, void> {
  const columns = yield* sys.ioctl(fd, IOCTL.columns, 0);
  const rows = yield* sys.ioctl(fd, IOCTL.rows, 0);
  return { columns: columns < 0 ? 80 : Math.max(2, columns), rows: rows < 0 ? 24 : Math.max(2, rows) };
}

/** The key at the beginning of `bytes` and how long it is; 0: unfinished. An Escape alone joins what follows: there is no timer. */
function decodeKey(bytes: Uint8Array, end: number): [key: Key, bytes: number] {
  const c = bytes[0]!;
  if (c === 0x1b) return decodeEscape(bytes, end);
  if (c === 13 || c === 10) return ['Enter', 1];
  if (c === 9) return ['Tab', 1];
  if (c === 8 || c === 0x7f) return ['Backspace', 1];
  if (c < 0x20) return [`C-${String.fromCharCode(c | 0x60)}`, 1];
  const step = utf8Step(bytes, 0, end);
  return [utf8Decode(bytes, 0, Math.abs(step)), Math.abs(step)];
}

function decodeEscape(bytes: Uint8Array, end: number): [key: Key, bytes: number] {
  if (end === 1) return ['', 0];
  const second = bytes[1]!;
  if (second === 0x1b) return ['Escape', 1];
  if (second !== 0x5b /* [ */ && second !== 0x4f /* O */) return [`M-${utf8Decode(bytes, 1, 2)}`, 2];
  let i = 2;
  while (i < end && second === 0x5b && bytes[i]! >= 0x20 && bytes[i]! < 0x40) i++;
  if (i >= end) return end === bytes.length ? ['Escape', end] : ['', 0];
  return [sequences[utf8Decode(bytes, 1, i + 1)] ?? 'Unknown', i + 1];
}

/** Plain text cut or padded to exactly `columns`; controls must not be in it. */
export function fitted(text: string, columns: number): string {
  const cut = clipped(text, columns);
  return cut + ' '.repeat(columns - textWidth(cut));
}

/** The beginning of a plain text that fits `columns`. */
export function clipped(text: string, columns: number): string {
  let used = 0;
  let end = 0;
  for (const c of text) {
    used += codePointWidth(c.codePointAt(0)!);
    if (used > columns) break;
    end += c.length;
  }
  return text.slice(0, end);
}

export const reverse = (text: string): string => `\x1b[7m${text}\x1b[27m`;
export const bold = (text: string): string => `\x1b[1m${text}\x1b[22m`;
