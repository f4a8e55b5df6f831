// A line of bytes as a terminal shows it: characters with their columns and styles, tabs expanded, what must not reach a terminal made
// visible (^A, <E9>), overstrikes and, when asked for, colour sequences turned into styles; then cut into rows. After less(1).

import { codePointWidth, utf8Step, utf8Decode } from '../../kernel/abi/index.ts';

/** One cell or two. */
export interface Glyph {
  /** A character with the marks on it. */
  text: string;
  readonly width: 1 | 2;
  /** Parameters of an SGR sequence (`1;31`), '' for none. */
  readonly style: string;
  /** Where in the line's text it stands; cells of one tab or one ^A share it. */
  readonly from: number;
}

export interface Line {
  /** The characters alone: what is searched. */
  readonly text: string;
  readonly glyphs: readonly Glyph[];
}

export interface LineOptions {
  /** Colour and style sequences take effect; otherwise they are shown as ESC[…. */
  readonly colours: boolean;
}

const TAB_COLUMNS = 8;
const BOLD = '1';
const UNDERLINE = '4';
const REVERSE = '7';

/** Lays out a line's bytes; its newline is not shown. */
export function layoutLine(bytes: Uint8Array, options: LineOptions): Line {
  return new LineBuilder(bytes, options).build();
}

class LineBuilder {
  private readonly glyphs: Glyph[] = [];
  private text = '';
  private column = 0;
  private style = ''; // by colour sequences
  private readonly bytes: Uint8Array;
  private readonly end: number;
  private readonly options: LineOptions;

  constructor(bytes: Uint8Array, options: LineOptions) {
    this.bytes = bytes;
    this.end = bytes.at(-1) === 10 ? bytes.length - 1 : bytes.length;
    this.options = options;
  }

  build(): Line {
    for (let i = 0; i < this.end;) i += this.take(i);
    return { text: this.text, glyphs: this.glyphs };
  }

  /** Takes what begins at `i`. Returns its bytes. */
  private take(i: number): number {
    const c = this.bytes[i]!;
    if (c === 9) {
      const columns = TAB_COLUMNS - (this.column % TAB_COLUMNS);
      this.add('\t', ' '.repeat(columns), this.style);
      return 1;
    }
    if (c === 0x1b && this.options.colours) {
      const bytes = this.sequence(i);
      if (bytes > 0) return bytes;
    }
    if (c === 8 && this.glyphs.length > 0 && i + 1 < this.end) {
      const bytes = this.overstrike(i + 1);
      if (bytes > 0) return 1 + bytes;
    }
    if (c === 0x1b) return this.visible('\x1b', 'ESC', 1);
    if (c < 0x20 || c === 0x7f) return this.visible(String.fromCharCode(c), `^${String.fromCharCode(c ^ 0x40)}`, 1);
    const step = utf8Step(this.bytes, i, this.end);
    if (step <= 0) return this.visible('\ufffd', `<${hex(c)}>`, 1);
    const text = utf8Decode(this.bytes, i, i + step);
    if (c === 0xc2 && this.bytes[i + 1]! < 0xa0) return this.visible(text, `<${hex(this.bytes[i + 1]!)}>`, step);
    this.character(text, this.style);
    return step;
  }

  private character(text: string, style: string): void {
    const width = codePointWidth(text.codePointAt(0)!);
    const before = this.glyphs.at(-1);
    if (width > 0) {
      this.glyphs.push({ text, width: width as 1 | 2, style, from: this.text.length });
      this.column += width;
    } else if (before === undefined) this.add('', '◌', style);
    if (width === 0) this.glyphs.at(-1)!.text += text;
    this.text += text;
  }

  /** Something shown by other characters, one column each. */
  private add(text: string, shown: string, style: string): void {
    for (const c of shown) this.glyphs.push({ text: c, width: 1, style, from: this.text.length });
    this.column += shown.length;
    this.text += text;
  }

  private visible(text: string, shown: string, bytes: number): number {
    this.add(text, shown, REVERSE);
    return bytes;
  }

  /** ESC [ parameters m changes the style; 0 bytes: it is something else. */
  private sequence(i: number): number {
    let k = i + 2;
    if (this.bytes[i + 1] !== 0x5b) return 0;
    while (k < this.end && ((this.bytes[k]! >= 0x30 && this.bytes[k]! <= 0x39) || this.bytes[k] === 0x3b)) k++;
    if (this.bytes[k] !== 0x6d /* m */ || k >= this.end) return 0;
    const parameters = utf8Decode(this.bytes, i + 2, k);
    if (/^0*$/.test(parameters)) this.style = '';
    else this.style = /^0+;/.test(parameters) || this.style === '' ? parameters : `${this.style};${parameters}`;
    return k + 1 - i;
  }

  /** `_` BACKSPACE X is X underlined, X BACKSPACE X is bold, as nroff wrote for printers. 0: it is neither. */
  private overstrike(i: number): number {
    const step = utf8Step(this.bytes, i, this.end);
    const struck = this.glyphs.at(-1)!;
    if (step <= 0 || this.bytes[i]! < 0x20) return 0;
    const over = utf8Decode(this.bytes, i, i + step);
    const underlined = struck.text === '_' && over !== '_';
    if (!underlined && struck.text !== over) return 0;
    this.glyphs.pop();
    this.text = this.text.slice(0, struck.from);
    this.column -= struck.width;
    this.character(over, joinStyles(struck.style, underlined ? UNDERLINE : BOLD));
    return step;
  }
}

const hex = (byte: number): string => byte.toString(16).toUpperCase().padStart(2, '0');
const joinStyles = (a: string, b: string): string => (a === '' ? b : `${a};${b}`);

// ── Rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Glyphs [from, to) of a line. */
export interface Row {
  readonly from: number;
  readonly to: number;
}

/** The rows that a line takes when it continues below: at least one. */
export function wrapRows({ glyphs }: Line, columns: number): Row[] {
  const rows: Row[] = [];
  let from = 0;
  let used = 0;
  for (let i = 0; i < glyphs.length; i++) {
    const { width } = glyphs[i]!;
    if (used + width > columns) {
      rows.push({ from, to: i });
      from = i;
      used = 0;
    }
    used += width;
  }
  rows.push({ from, to: glyphs.length });
  return rows;
}

/** The one row of a line that is cut: columns [left, left + columns). `more`: something is to the right of it. */
export function chopRow({ glyphs }: Line, left: number, columns: number): Row & { readonly more: boolean } {
  let column = 0;
  let from = 0;
  while (from < glyphs.length && column < left) column += glyphs[from++]!.width;
  let to = from;
  let used = column - left; // a wide character may lie across the edge
  while (to < glyphs.length && used + glyphs[to]!.width <= columns) used += glyphs[to++]!.width;
  return { from, to, more: to < glyphs.length };
}

/** Characters [from, to) of a line's text. */
export type Range = readonly [from: number, to: number];

/** Glyphs as bytes for a terminal, those in `marked` in reverse. */
export function drawRow({ glyphs }: Line, row: Row, marked: readonly Range[]): string {
  let out = '';
  let current = '';
  for (let i = row.from; i < row.to; i++) {
    const { text, style, from } = glyphs[i]!;
    const wanted = marked.some(([a, b]) => from >= a && from < b) ? joinStyles(style, REVERSE) : style;
    if (wanted !== current) out += `\x1b[m${wanted === '' ? '' : `\x1b[${wanted}m`}`;
    current = wanted;
    out += text;
  }
  return current === '' ? out : `${out}\x1b[m`;
}
