// The console: line discipline and line editor between programs and whoever is at the other end. It knows no host: the host end feeds
// bytes in and is handed bytes out. With a person there (interactive) a read is canonical — echo, erasing, Ctrl-D, Ctrl-C — and
// readline() edits. Without one, input is delivered as it is, a line at a time, so that what a program reads never depends on how the
// host happened to cut the stream. Input waits, bounded, until a program asks: all editing happens in the machine's time.
// After termios(3) and xv6's console.c.

import { BLOCKED, E, IOCTL, LIMITS, READLINE, utf8Decode, utf8Encode, utf8Write } from '../../kernel/abi/index.ts';
import type { TtyDevice } from '../../kernel/abi/index.ts';
import { LineEditor } from './editor.ts';
import { decodeKey, literalKey } from './keys.ts';
import type { Key } from './keys.ts';
import { eraseRow, Menu } from './menu.ts';
import { LineScreen } from './screen.ts';
import { previousCharacter, textWidth } from '../../kernel/abi/width.ts';

export interface TtyOptions {
  /** Takes what goes to the terminal. The bytes are the callee's only until it returns. */
  readonly output: (bytes: Uint8Array) => void;
  readonly interactive: boolean;
  readonly columns?: number; // 80; 0: it does not say
  readonly rows?: number; // 24; 0: it does not say
  /** Follows what programs are given. */
  readonly heard?: (heard: Heard) => void;
}

/** A line made with the editor, and behind which prompt; what is read without it; a signal or an end that was typed instead, with the editor or without. */
export type Heard =
  | { readonly is: 'line'; readonly text: string; readonly prompt: string }
  | { readonly is: 'input'; readonly text: string }
  | { readonly is: 'signal'; readonly prompt: string | null };

const CTRL_C = 3;
const CTRL_Z = 0x1a;
const CTRL_D = 4;
const NEWLINE = 10;
const RETURN = 13;
const CTRL_U = 0x15;
const CTRL_W = 0x17;
const BACKSPACE = 8;
const DEL = 0x7f;

const bell = '\x07';
const pasteOn = '\x1b[?2004h';
const pasteOff = '\x1b[?2004l';
const columnsMin = 2; // a wide character must fit

/** The size of a screen; a terminal behind a serial line or a bare pseudoterminal says 0 × 0, which is none. */
const sizeOf = (columns: number, rows: number): readonly [columns: number, rows: number] => [
  Math.max(columnsMin, columns || 80),
  Math.max(1, rows || 24),
];

export class Tty implements TtyDevice {
  readonly interactive: boolean;
  #columns: number;
  #rows: number;
  readonly #output: (bytes: Uint8Array) => void;
  readonly #heard: (heard: Heard) => void;

  // Type-ahead: queue[head … tail).
  readonly #queue = new Uint8Array(LIMITS.typeAheadBytes);
  #head = 0;
  #tail = 0;
  #ended = false;
  #interrupts = 0;
  #suspends = 0;
  #resized = false;
  #raw = false; // a program draws by itself: reads deliver every byte
  #discarding = false; // the rest of a line too long to deliver

  // Canonical reads: the line being typed, then being delivered from lineAt on.
  readonly #line = new Uint8Array(LIMITS.lineBytes);
  #lineAt = 0;
  #lineEnd = 0;
  #lineDone = false;

  // readline()
  readonly #editor = new LineEditor();
  readonly #screen: LineScreen;
  #editing = false; // from the first call to the answer
  #shown = false; // the edited line is on the screen, or a menu below where it was
  #menu: Menu | null = null; // candidates being listed: the keys are the menu's
  readonly #column = new ColumnTracker();

  constructor(options: TtyOptions) {
    this.interactive = options.interactive;
    this.#output = options.output;
    this.#heard = options.heard ?? (() => {});
    [this.#columns, this.#rows] = sizeOf(options.columns ?? 0, options.rows ?? 0);
    this.#screen = new LineScreen(this.#columns, this.#rows);
  }

  get columns(): number {
    return this.#columns;
  }

  get rows(): number {
    return this.#rows;
  }

  // ── The host's end ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Bytes of input that feed() will take. */
  get room(): number {
    return this.#queue.length - (this.#tail - this.#head);
  }

  /** Input. Returns how many bytes were taken; the others do not fit until a program has read. A person hears a bell then. */
  feed(bytes: Uint8Array): number {
    let from = 0;
    if (this.interactive && !this.#editing) {
      from = 1 + Math.max(bytes.lastIndexOf(CTRL_C), bytes.lastIndexOf(CTRL_Z));
      for (const c of bytes.subarray(0, from)) {
        if (c === CTRL_C) this.interrupt();
        else if (c === CTRL_Z) this.#suspend();
      }
    }
    if (this.#head > 0) {
      this.#queue.copyWithin(0, this.#head, this.#tail);
      this.#tail -= this.#head;
      this.#head = 0;
    }
    const n = Math.min(bytes.length - from, this.#queue.length - this.#tail);
    this.#queue.set(bytes.subarray(from, from + n), this.#tail);
    this.#tail += n;
    if (from + n < bytes.length && this.interactive) this.#print(bell);
    return from + n;
  }

  /** No input will follow. False when that was known. */
  end(): boolean {
    const news = !this.#ended;
    this.#ended = true;
    return news;
  }

  /** Ctrl-C, or the host's own SIGINT: what was typed before is dropped, as the terminals of Unix do. */
  interrupt(): void {
    if (this.interactive && this.#editing) {
      this.#head = 0;
      this.#tail = 1;
      this.#queue[0] = CTRL_C;
      this.#editor.pasting = this.#editor.quoting = false;
      return;
    }
    this.#interrupts++;
    this.#heard({ is: 'signal', prompt: null });
    if (this.interactive) this.#dropInput('^C');
  }

  /** Ctrl-Z while no line is edited. */
  #suspend(): void {
    this.#suspends++;
    this.#heard({ is: 'signal', prompt: null });
    this.#dropInput('^Z');
  }

  #dropInput(mark: string): void {
    this.#head = this.#tail = 0;
    this.#lineAt = this.#lineEnd = 0;
    this.#lineDone = false;
    if (!this.#raw) this.#printTracked(mark);
  }

  resize(columns: number, rows: number): void {
    [this.#columns, this.#rows] = sizeOf(columns, rows);
    this.#resized = true;
    if (!this.#shown) return;
    this.#menu = null; // its row is erased with the line's
    const view = this.#editor.view;
    this.#print(this.#screen.resize(this.#columns, this.#rows, view) + this.#screen.show(view));
  }

  // ── The machine's end ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  takeInterrupt(): boolean {
    if (this.#interrupts === 0) return false;
    this.#interrupts--;
    return true;
  }

  takeSuspend(): boolean {
    if (this.#suspends === 0) return false;
    this.#suspends--;
    return true;
  }

  takeResize(): boolean {
    const resized = this.#resized;
    this.#resized = false;
    return resized;
  }

  /** A program draws the whole screen by itself. */
  get raw(): boolean {
    return this.#raw;
  }

  ioctl(command: number, argument = 0): number {
    if (command === IOCTL.isatty) return this.interactive ? 1 : 0;
    if (command === IOCTL.columns) return this.#columns;
    if (command === IOCTL.rows) return this.#rows;
    if (command === IOCTL.raw) return this.#setRaw(argument !== 0);
    if (command === IOCTL.waiting) return this.#head < this.#tail || this.#lineDone || this.#ended ? 1 : 0;
    return -E.INVAL;
  }

  #setRaw(raw: boolean): number {
    if (!this.interactive) return -E.NOTTY;
    this.#raw = raw;
    if (raw) this.#editing = false;
    return 0;
  }

  write(memory: Uint8Array, at: number, length: number): number {
    const bytes = memory.subarray(at, at + length);
    if (!this.interactive) {
      this.#output(bytes);
      return length;
    }
    if (this.#shown) {
      this.#print(this.#menu === null ? this.#screen.hide() : eraseRow);
      this.#menu = null;
      this.#shown = false; // until readline is asked again
    }
    this.#column.follow(bytes);
    let newlines = 0;
    for (const c of bytes) if (c === NEWLINE) newlines++;
    const out = new Uint8Array(length + newlines);
    let n = 0;
    for (const c of bytes) {
      if (c === NEWLINE) out[n++] = RETURN;
      out[n++] = c;
    }
    this.#output(out);
    return length;
  }

  /** A line or a part of it; 0 at the end of the input; BLOCKED. */
  read(memory: Uint8Array, at: number, length: number): number {
    if (length === 0) return 0;
    if (!this.interactive) return this.#readAsIs(memory, at, length);
    this.#editing = false;
    if (this.#raw) return this.#readRaw(memory, at, length);
    while (!this.#lineDone && this.#head < this.#tail) this.#type(this.#queue[this.#head++]!);
    if (!this.#lineDone && this.#ended) this.#lineDone = true;
    if (!this.#lineDone) return BLOCKED;
    const n = Math.min(length, this.#lineEnd - this.#lineAt);
    memory.set(this.#line.subarray(this.#lineAt, this.#lineAt + n), at);
    this.#lineAt += n;
    if (this.#lineAt === this.#lineEnd) {
      this.#lineAt = this.#lineEnd = 0;
      this.#lineDone = false;
    }
    return n;
  }

  #readRaw(memory: Uint8Array, at: number, length: number): number {
    const n = Math.min(length, this.#tail - this.#head);
    if (n === 0) return this.#ended ? 0 : BLOCKED;
    memory.set(this.#queue.subarray(this.#head, this.#head + n), at);
    this.#head += n;
    this.#heard({ is: 'input', text: utf8Decode(memory, at, n) });
    return n;
  }

  /** Every read ends at a line's end, when `length` bytes are there, or at the end of the input: the same cuts however the input came. */
  #readAsIs(memory: Uint8Array, at: number, length: number): number {
    const waiting = this.#tail - this.#head;
    const newline = this.#queue.subarray(this.#head, this.#head + Math.min(waiting, length)).indexOf(NEWLINE);
    const whole = newline >= 0 || waiting >= length || waiting === this.#queue.length || this.#ended;
    if (!whole) return BLOCKED;
    const n = Math.min(length, newline >= 0 ? newline + 1 : waiting);
    memory.set(this.#queue.subarray(this.#head, this.#head + n), at);
    this.#head += n;
    return n;
  }

  /** One typed byte of a canonical line: stored, echoed, or obeyed. */
  #type(c: number): void {
    if (c === RETURN || c === NEWLINE) {
      this.#heard({ is: 'input', text: utf8Decode(this.#line, 0, this.#lineEnd) });
      this.#line[this.#lineEnd++] = NEWLINE;
      this.#lineDone = true;
      this.#printTracked('\r\n');
    } else if (c === CTRL_D) {
      this.#heard({ is: 'signal', prompt: null });
      this.#lineDone = true;
    } else if (c === BACKSPACE || c === DEL) this.#eraseTyped(text => previousCharacter(text, text.length));
    else if (c === CTRL_W) this.#eraseTyped(text => text.length - /[^ \t]*[ \t]*$/.exec(text)![0].length);
    else if (c === CTRL_U) this.#eraseTyped(() => 0);
    else if (this.#lineEnd >= this.#line.length - 1) this.#print(bell);
    else {
      this.#line[this.#lineEnd++] = c;
      this.#column.follow([c]);
      if (c < 0x20) this.#print(`^${String.fromCharCode(c ^ 0x40)}`);
      else this.#output(Uint8Array.of(c));
    }
  }

  /** Takes back what was typed after the first `keep(text)` units of it, on the screen too. */
  #eraseTyped(keep: (text: string) => number): void {
    const text = utf8Decode(this.#line, 0, this.#lineEnd);
    const kept = text.slice(0, keep(text));
    const gone = text.slice(kept.length);
    this.#lineEnd = Math.max(0, utf8Write(kept, this.#line, 0, this.#line.length)); // malformed text may have grown
    this.#print('\b \b'.repeat(textWidth(gone) + controls(gone)));
  }

  readline(prompt: string, memory: Uint8Array, at: number, capacity: number): number {
    if (!this.interactive) return this.#wholeLine(memory, at, capacity);
    if (this.#raw || this.#column.alternate) this.#recover();
    if (!this.#editing) {
      this.#editing = true;
      this.#editor.begin(prompt, Math.min(LIMITS.lineBytes, capacity - 1));
    }
    let changed = !this.#shown;
    if (!this.#shown) {
      this.#print((this.#column.atStart ? '' : '\r\n') + pasteOn);
      this.#shown = true;
    }
    for (;;) {
      const key = this.#nextKey();
      if (key === null) break;
      this.#head += key.bytes;
      if (this.#menu !== null) {
        this.#menuKey(this.#menu, key);
        if (key.name !== 'C-c') continue;
      }
      const outcome = this.#editor.press(key);
      changed = true;
      if (outcome === 'bell') this.#print(bell);
      else if (outcome === 'clear') this.#print(this.#screen.clear());
      else if (outcome === 'line') return this.#answer(READLINE.line, this.#editor.text, '', memory, at);
      else if (outcome === 'interrupt') return this.#answer(READLINE.interrupt, '', '^C', memory, at);
      else if (outcome === 'end') return this.#answer(READLINE.end, '', '', memory, at);
      else if (outcome === 'complete') {
        this.#print(this.#screen.show(this.#editor.view));
        memory[at] = READLINE.complete;
        return 1 + utf8Write(this.#editor.text.slice(0, this.#editor.cursor), memory, at + 1, capacity - 1);
      }
    }
    if (this.#ended) return this.#answer(READLINE.end, '', '', memory, at);
    if (changed && this.#menu === null) this.#print(this.#screen.show(this.#editor.view));
    return BLOCKED;
  }

  #nextKey(): Key | null {
    const character = this.#menu !== null && this.#queue[this.#head]! >= 0x20; // a menu takes them one by one
    if (this.#editor.quoting || character) return literalKey(this.#queue, this.#head, this.#tail);
    return decodeKey(this.#queue, this.#head, this.#tail, this.#editor.pasting);
  }

  /** A key while the list of candidates is on the screen. */
  #menuKey(menu: Menu, key: Key): void {
    this.#print(menu.press(key) ?? bell);
    if (!menu.done) return;
    this.#menu = null;
    this.#print(this.#screen.show(this.#editor.view));
  }

  /** A program that drew by itself ended without giving the screen back. */
  #recover(): void {
    this.#raw = false;
    this.#printTracked(`\x1b[m${this.#column.alternate ? '\x1b[?1049l' : ''}\x1b[?25h`);
  }

  /** Ends editing: the line stays on the screen with `mark` after it, the answer goes to `at`. */
  #answer(kind: number, text: string, mark: string, memory: Uint8Array, at: number): number {
    if (this.#menu !== null) this.#print(eraseRow);
    this.#menu = null;
    const { prompt, text: typed } = this.#editor.view;
    this.#heard(kind === READLINE.line ? { is: 'line', text, prompt } : { is: 'signal', prompt });
    const left = typed + mark;
    this.#print(this.#screen.show({ prompt, text: left, cursor: left.length }) + pasteOff + this.#screen.finish());
    this.#editing = this.#shown = false;
    this.#column.atStart = true;
    memory[at] = kind;
    return 1 + utf8Write(text, memory, at + 1, utf8Encode(text).length);
  }

  complete(text: string, back: number, names: readonly string[], count: number): void {
    if (!this.#editing || !this.#shown) return;
    const { outcome, list } = this.#editor.complete(text, back, names);
    if (outcome === 'bell') this.#print(bell);
    const view = this.#editor.view;
    if (list) {
      this.#print(this.#screen.show({ ...view, cursor: view.text.length }) + this.#screen.finish());
      const menu = new Menu(names, count, this.#columns, this.#rows);
      this.#print(menu.open());
      if (!menu.done) {
        this.#menu = menu;
        return;
      }
    }
    this.#print(this.#screen.show(view));
  }

  remember(lines: readonly string[], keep: number): void {
    this.#editor.history.append(lines, keep);
  }

  /** Without a person: the next line, without its end; a line that `capacity` cannot hold is dropped and answered by -E2BIG. */
  #wholeLine(memory: Uint8Array, at: number, capacity: number): number {
    const waiting = this.#queue.subarray(this.#head, this.#tail);
    const newline = waiting.indexOf(NEWLINE);
    const full = waiting.length === this.#queue.length;
    if (newline < 0 && !full && !this.#ended) return BLOCKED;
    const length = newline >= 0 ? newline : waiting.length;
    const rest = this.#discarding;
    this.#discarding = newline < 0 && !this.#ended;
    this.#head += newline >= 0 ? newline + 1 : length;
    if (rest) return this.#wholeLine(memory, at, capacity);
    if (this.#discarding || length > capacity - 1) return -E.TOOBIG;
    if (length === 0 && newline < 0) {
      memory[at] = READLINE.end;
      return 1;
    }
    memory[at] = READLINE.line;
    memory.set(waiting.subarray(0, length), at + 1);
    return 1 + length;
  }

  #print(text: string): void {
    if (text !== '') this.#output(utf8Encode(text));
  }

  #printTracked(text: string): void {
    this.#print(text);
    this.#column.follow(utf8Encode(text));
  }
}

function controls(text: string): number {
  let n = 0;
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) < 0x20) n++;
  return n;
}

/** Follows output to know whether the terminal's cursor is in the first column: a prompt begins on a row of its own. */
class ColumnTracker {
  atStart = true;
  /** The alternate screen is on. */
  alternate = false;
  #atStartBefore = true; // on the ordinary screen meanwhile
  #state: 'text' | 'escape' | 'sequence' = 'text';
  #parameters = '';

  follow(bytes: Iterable<number>): void {
    for (const c of bytes) {
      if (this.#state === 'escape') {
        this.#state = c === 0x5b /* [ */ ? 'sequence' : 'text';
        this.#parameters = '';
      } else if (this.#state === 'sequence') {
        if (c < 0x40) this.#parameters = (this.#parameters + String.fromCharCode(c)).slice(-8);
        else {
          this.#state = 'text';
          this.#sequence(c);
        }
      } else if (c === 0x1b) this.#state = 'escape';
      else if (c === NEWLINE || c === RETURN) this.atStart = true;
      else if (c >= 0x20 && c !== DEL) this.atStart = false;
    }
  }

  #sequence(final: number): void {
    if (final === 0x48 /* H: home */ && this.#parameters === '') this.atStart = true;
    if (this.#parameters !== '?1049' || (final !== 0x68 && final !== 0x6c)) return; // h: the alternate screen, l: back
    const on = final === 0x68;
    if (on === this.alternate) return;
    this.alternate = on;
    if (on) this.#atStartBefore = this.atStart;
    else this.atStart = this.#atStartBefore;
  }
}
