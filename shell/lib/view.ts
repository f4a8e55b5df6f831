// A window onto a document: which rows of which lines a screen shows, moving by rows, and searching. A place is a line's byte offset and
// a row within the line, so that moving costs the same anywhere in a text of any length.

import { utf8Decode } from '../../kernel/abi/index.ts';
import type { Document } from './document.ts';
import { chopRow, drawRow, layoutLine, wrapRows } from './layout.ts';
import type { Line, Range, Row } from './layout.ts';
import type { Regex } from './regex.ts';

export interface Place {
  readonly at: number;
  readonly row: number;
}

/** What a person can switch while reading. */
export interface ViewOptions {
  numbers: boolean; // -N
  chop: boolean; // -S: long lines are cut instead of continued below
  colours: boolean; // -R
}

interface Laid {
  readonly line: Line;
  readonly rows: readonly Row[];
  readonly end: number; // where the next line begins
}

const GUTTER_COLUMNS = 8; // `     12 `
const LAID_MAX = 128;
/** What a row shows that is cut on the right. */
const CUT_MARK = '\x1b[7m>\x1b[m';

export class View {
  top: Place = { at: 0, row: 0 };
  /** Where the screen just drawn ends: the first place below it. */
  below: Place = { at: 0, row: 0 };
  left = 0; // columns hidden on the left, with -S
  pattern: Regex | null = null;
  highlight = true;
  columns = 80;
  height = 23; // rows of text
  readonly doc: Document;
  readonly options: ViewOptions;
  private readonly laid = new Map<number, Laid>();

  constructor(doc: Document, options: ViewOptions) {
    this.doc = doc;
    this.options = options;
  }

  /** Widths, options or the text have changed. */
  reset(): void {
    this.laid.clear();
    this.top = { at: this.top.at, row: 0 };
  }

  resize(columns: number, height: number): void {
    if (columns !== this.columns) this.reset();
    this.columns = columns;
    this.height = height;
  }

  /** True when the screen just drawn shows the end of the text. */
  get atEnd(): boolean {
    return this.doc.ended && this.below.at >= this.doc.size;
  }

  private get textColumns(): number {
    return Math.max(1, this.columns - (this.options.numbers ? GUTTER_COLUMNS : 0));
  }

  /** The line at an offset as rows; null when a signal came before its end was known. */
  private *layout(at: number): Generator<void, Laid | null, void> {
    const known = this.laid.get(at);
    if (known !== undefined) return known;
    const end = yield* this.doc.lineEnd(at);
    if (end < 0) return null;
    const line = layoutLine(yield* this.doc.bytes(at, end), { colours: this.options.colours });
    const rows = this.options.chop ? [{ from: 0, to: line.glyphs.length }] : wrapRows(line, this.textColumns);
    if (this.laid.size >= LAID_MAX) this.laid.clear();
    const laid = { line, rows, end };
    this.laid.set(at, laid);
    return laid;
  }

  /** True when there is text at an offset; reads a stream as far as that takes. */
  private *exists(at: number): Generator<void, boolean, void> {
    if (at >= this.doc.size) yield* this.doc.fill(at + 1);
    return at < this.doc.size;
  }

  // ── Drawing ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The screen's rows from the top on; a text that ends higher than it must is moved down. */
  *draw(): Generator<void, string[], void> {
    const rows = yield* this.drawFrom(this.top);
    const started = this.top.at === 0 && this.top.row === 0;
    if (rows.length >= this.height || started || !this.atEnd) return rows;
    this.top = { at: this.doc.size, row: 0 };
    yield* this.backward(this.height);
    return yield* this.drawFrom(this.top);
  }

  private *drawFrom({ at, row }: Place): Generator<void, string[], void> {
    const rows: string[] = [];
    while (rows.length < this.height && (yield* this.exists(at))) {
      const laid = yield* this.layout(at);
      if (laid === null) break;
      const marked = this.marked(laid.line);
      for (; row < laid.rows.length && rows.length < this.height; row++) {
        const gutter = yield* this.gutter(at, row);
        rows.push(gutter + this.drawOne(laid, row, marked));
      }
      if (row < laid.rows.length) break;
      at = laid.end;
      row = 0;
    }
    this.below = { at, row };
    return rows;
  }

  private drawOne({ line, rows }: Laid, row: number, marked: readonly Range[]): string {
    if (!this.options.chop) return drawRow(line, rows[row]!, marked);
    const columns = this.textColumns;
    const whole = chopRow(line, this.left, columns);
    return whole.more
      ? drawRow(line, chopRow(line, this.left, columns - 1), marked) + CUT_MARK
      : drawRow(line, whole, marked);
  }

  private *gutter(at: number, row: number): Generator<void, string, void> {
    if (!this.options.numbers) return '';
    const begins = row === 0 && (at === 0 || (yield* this.doc.bytes(at - 1, at))[0] === 10);
    return (begins ? String(yield* this.doc.lineNumber(at)) : '').padStart(GUTTER_COLUMNS - 1) + ' ';
  }

  private marked({ text }: Line): Range[] {
    if (this.pattern === null || !this.highlight) return [];
    return this.pattern.matchesIn(text);
  }

  // ── Moving ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Down by at most `n` rows, as far as the text goes. Returns how many. */
  *forward(n: number): Generator<void, number, void> {
    let moved = 0;
    while (moved < n && (yield* this.exists(this.below.at))) {
      const below = yield* this.nextRow(this.below);
      const top = yield* this.nextRow(this.top);
      if (below === null || top === null) break;
      this.below = below;
      this.top = top;
      moved++;
    }
    return moved;
  }

  private *nextRow({ at, row }: Place): Generator<void, Place | null, void> {
    const laid = yield* this.layout(at);
    if (laid === null) return null;
    return row + 1 < laid.rows.length ? { at, row: row + 1 } : { at: laid.end, row: 0 };
  }

  /** Up by at most `n` rows. Returns how many. */
  *backward(n: number): Generator<void, number, void> {
    let moved = 0;
    for (; moved < n; moved++) {
      const { at, row } = this.top;
      if (row > 0) this.top = { at, row: row - 1 };
      else if (at === 0) break;
      else {
        const before = yield* this.doc.lineBefore(at);
        const laid = yield* this.layout(before);
        if (laid === null) break;
        this.top = { at: before, row: laid.rows.length - 1 };
      }
    }
    return moved;
  }

  /** The last screenful. False: a signal came before the end was known. */
  *toEnd(): Generator<void, boolean, void> {
    if (!(yield* this.doc.fill(Infinity))) return false;
    this.top = { at: this.doc.size, row: 0 };
    yield* this.backward(this.height);
    return true;
  }

  /** The line that byte `at` of the text is in comes to the top. */
  *toByte(at: number): Generator<void, void, void> {
    yield* this.doc.fill(at + 1);
    this.top = { at: yield* this.doc.lineStart(Math.max(0, Math.min(at, this.doc.size - 1))), row: 0 };
  }

  *toLine(number: number): Generator<void, void, void> {
    const at = yield* this.doc.lineAt(number);
    if (at >= 0) this.top = { at, row: 0 };
  }

  // ── Searching ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * The next line with the pattern, from the line at `from` on or, backwards, before it. -1: there is none; null: a signal came first.
   */
  *search(pattern: Regex, from: number, backwards: boolean): Generator<void, number | null, void> {
    for (let at = from; ;) {
      if (this.doc.interrupted) return null;
      if (backwards) {
        if (at === 0) return -1;
        at = yield* this.doc.lineBefore(at);
      } else if (!(yield* this.exists(at))) return this.doc.ended ? -1 : null;
      const end = yield* this.doc.lineEnd(at);
      if (end < 0) return null;
      if (pattern.test(this.textOf(yield* this.doc.bytes(at, end)))) return at;
      if (!backwards) at = end;
    }
  }

  /** A line's text as layoutLine() has it, without the work where bytes are what they look like. */
  private textOf(bytes: Uint8Array): string {
    if (bytes.includes(0x1b) || bytes.includes(8)) return layoutLine(bytes, this.options).text;
    return utf8Decode(bytes, 0, bytes.at(-1) === 10 ? bytes.length - 1 : bytes.length);
  }
}
