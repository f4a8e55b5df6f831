// The edited line on the screen: prompt and text are laid out in rows as a terminal would wrap them, compared with the rows already
// there, and only the difference is drawn. All movement is relative to the line's first row, so nothing needs to be known about where
// on the screen that is. Rows that run on are written so that the terminal wraps them itself: they stay one line when it is resized or
// copied from. A line taller than the screen shows the rows around the cursor. After linenoise and Readline's redisplay.

import type { View } from './editor.ts';
import { codePointWidth, isControl, textWidth } from '../../kernel/abi/width.ts';

interface Row {
  readonly cells: string[]; // a character with its marks, one or two columns each
  width: number;
  /** The row goes on from the one above by wrapping, not by a line end in the text. */
  readonly wrapped: boolean;
}

interface Layout {
  readonly rows: Row[];
  readonly cursorRow: number;
  readonly cursorColumn: number;
}

const tabStop = 8;
const blankRow = (wrapped = false): Row => ({ cells: [], width: 0, wrapped });

// oxlint-disable-next-line no-control-regex
const colour = /^\x1b\[[0-9;:]*m/;
const plain = '\x1b[m';

/**
 * Lays the view out in `columns` columns. Control characters show as ^X, tabs as blanks. Colours (SGR) of the prompt are obeyed: every
 * cell of it carries its own, so that it can be drawn by itself.
 */
function layout(view: View, columns: number): Layout {
  const rows = [blankRow()];
  let colours = '';
  const put = (cell: string): void => {
    let row = rows.at(-1)!;
    const width = textWidth(cell);
    if (row.width + width > columns) rows.push((row = blankRow(true)));
    row.cells.push(colours === '' ? cell : colours + cell + plain);
    row.width += width;
  };
  const putAll = (text: string, cursor: number): { row: number; column: number } | null => {
    let found: { row: number; column: number } | null = null;
    for (let i = 0; i < text.length;) {
      const [sequence = ''] = cursor < 0 && text[i] === '\x1b' ? (colour.exec(text.slice(i)) ?? []) : [];
      if (sequence !== '') {
        colours = /\[0*m$/.test(sequence) ? '' : colours + sequence;
        i += sequence.length;
        continue;
      }
      const row = rows.at(-1)!;
      const [from, cells] = [rows.length - 1, row.cells.length];
      const c = text.codePointAt(i)!;
      const end = cellEnd(text, i);
      if (c === 0x0a) rows.push(blankRow());
      else if (c === 0x09) for (let n = tabStop - (row.width % tabStop); n > 0; n--) put(' ');
      else if (c < 0x20 || c === 0x7f) for (const shown of `^${String.fromCharCode(c ^ 0x40)}`) put(shown);
      else if (c >= 0x80 && c < 0xa0) put('\ufffd');
      else put((codePointWidth(c) === 0 ? '\u25cc' : '') + text.slice(i, end)); // a mark alone needs something to stand on
      // The cell may have wrapped: the cursor is where it went. Before a line end behind a full row it stays on the last cell.
      if (i === cursor) {
        const wrapped = c !== 0x0a && row.cells.length === cells;
        const before = c === 0x0a && row.width === columns ? cells - 1 : cells;
        found = wrapped ? { row: from + 1, column: 0 } : { row: from, column: widthOf(row.cells, before) };
      }
      i = end;
    }
    return found;
  };
  putAll(view.prompt, -1);
  colours = '';
  let at = putAll(view.text, view.cursor);
  if (at === null) {
    if (rows.at(-1)!.width === columns) rows.push(blankRow(true));
    at = { row: rows.length - 1, column: rows.at(-1)!.width };
  }
  return { rows, cursorRow: at.row, cursorColumn: at.column };
}

/** A cell is a code point with the marks that take no column of their own; a control stands alone. */
function cellEnd(text: string, at: number): number {
  const c = text.codePointAt(at)!;
  let end = at + (c > 0xffff ? 2 : 1);
  while (!isControl(c) && end < text.length && codePointWidth(text.codePointAt(end)!) === 0)
    end += text.codePointAt(end)! > 0xffff ? 2 : 1;
  return end;
}

function widthOf(cells: readonly string[], count: number): number {
  let width = 0;
  for (let i = 0; i < count; i++) width += cellWidth(cells[i]!);
  return width;
}

/** A cell that begins with Escape is coloured: ESC [ … m … ESC [ m. */
function cellWidth(cell: string): number {
  // oxlint-disable-next-line no-control-regex
  return textWidth(cell.startsWith('\x1b') ? cell.replace(/\x1b\[[0-9;:]*m/g, '') : cell);
}

/** Draws a line being edited. Every method returns what to send to the terminal. */
export class LineScreen {
  #columns: number;
  #height: number;
  #drawn: Row[] = [blankRow()];
  #top = 0; // the first row of the layout that is drawn
  #row = 0; // the terminal's cursor, relative to the first drawn row
  #column = 0; // = columns: a character was written into the last column and the next one wraps
  #out = '';

  constructor(columns: number, height: number) {
    this.#columns = columns;
    this.#height = height;
  }

  /** Brings the screen from what is drawn to `view`. The first time, the cursor must be at the beginning of an empty row. */
  show(view: View): string {
    const all = layout(view, this.#columns);
    this.#top = Math.min(
      Math.max(this.#top, all.cursorRow - this.#height + 1),
      all.cursorRow,
      Math.max(0, all.rows.length - this.#height),
    );
    const rows = all.rows.slice(this.#top, this.#top + this.#height);
    for (const [i, row] of rows.entries()) {
      const old = this.#drawn[i];
      if (old === undefined) this.#append(i, row);
      else this.#change(i, old, row);
      this.#drawn[i] = row;
    }
    if (this.#drawn.length > rows.length) {
      this.#goTo(rows.length, 0);
      this.#out += '\x1b[J';
      this.#drawn.length = rows.length;
    }
    this.#goTo(all.cursorRow - this.#top, all.cursorColumn);
    return this.#take();
  }

  /** Leaves the line as it is and goes to the beginning of the row below it. */
  finish(): string {
    const last = this.#drawn.length - 1;
    this.#goTo(last, 0);
    if (this.#drawn[last]!.width > 0 || !this.#drawn[last]!.wrapped) this.#out += '\r\n';
    return this.#forget();
  }

  /** Takes the line off the screen; the cursor is then where it began. */
  hide(): string {
    this.#goTo(0, 0);
    this.#out += '\r\x1b[J';
    return this.#forget();
  }

  /** Clears the whole screen. */
  clear(): string {
    this.#out += '\x1b[H\x1b[2J';
    return this.#forget();
  }

  /**
   * The terminal has a new size. Some terminals re-wrap a line that the cursor is in, some do not: of the two rows where it may now
   * begin the lower is believed, so that nothing above the line is ever erased. Show the view again after this.
   */
  resize(columns: number, height: number, view: View): string {
    const rowsAbove = Math.min(this.#row, layout(view, columns).cursorRow);
    this.#columns = columns;
    this.#height = height;
    this.#out += `\r${rowsAbove > 0 ? `\x1b[${rowsAbove}A` : ''}\x1b[J`;
    return this.#forget();
  }

  #take(): string {
    const out = this.#out;
    this.#out = '';
    return out;
  }

  #forget(): string {
    this.#drawn = [blankRow()];
    this.#top = this.#row = this.#column = 0;
    return this.#take();
  }

  #write(row: Row, from: number): void {
    for (let i = from; i < row.cells.length; i++) this.#out += row.cells[i]!;
    this.#column = row.width;
  }

  /** Rewrites a drawn row from the first cell that differs. */
  #change(i: number, old: Row, row: Row): void {
    let same = 0;
    while (same < row.cells.length && row.cells[same] === old.cells[same]) same++;
    if (same < row.cells.length) {
      this.#goTo(i, widthOf(row.cells, same));
      this.#write(row, same);
    }
    if (row.width < old.width) {
      this.#goTo(i, row.width);
      this.#out += '\x1b[K';
    }
  }

  /** Adds a row below the last drawn one; at the bottom of the screen the terminal scrolls. */
  #append(i: number, row: Row): void {
    const above = this.#drawn[i - 1]!;
    if (row.wrapped) {
      if (this.#row !== i - 1 || this.#column !== above.width) {
        const last = above.cells.length - 1;
        this.#goTo(i - 1, widthOf(above.cells, last));
        this.#write(above, last);
      }
      if (row.cells.length === 0) this.#out += ' \r';
    } else {
      this.#goTo(i - 1, 0);
      this.#out += '\r\n';
    }
    this.#row = i;
    this.#column = 0;
    this.#write(row, 0);
  }

  #goTo(row: number, column: number): void {
    if (this.#column >= this.#columns) {
      this.#out += '\r';
      this.#column = 0;
    }
    if (row < this.#row) this.#out += `\x1b[${this.#row - row}A`;
    if (row > this.#row) this.#out += `\x1b[${row - this.#row}B`;
    if (column === 0 && this.#column > 0) this.#out += '\r';
    else if (column < this.#column) this.#out += `\x1b[${this.#column - column}D`;
    else if (column > this.#column) this.#out += `\x1b[${column - this.#column}C`;
    this.#row = row;
    this.#column = column;
  }
}
