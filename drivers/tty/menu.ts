// The list that Tab shows: names in columns below the line being edited, after a question when they are many, a screenful at a time when
// they are more than the screen holds. It owns the keys until it is done. After Readline's rl_display_match_list.

import { LIMITS } from '../../kernel/abi/index.ts';
import type { Key } from './keys.ts';
import { textWidth } from '../../kernel/abi/width.ts';

const more = '--More--';
export const eraseRow = '\r\x1b[K';

export class Menu {
  done = false;
  #asking = false;
  readonly #lines: string[];
  readonly #rows: number;
  #at = 0; // lines shown
  readonly #count: number;

  /** `count`: how many names there are in all, when not all of them were handed over. */
  constructor(names: readonly string[], count: number, columns: number, rows: number) {
    this.#rows = Math.max(2, rows);
    this.#count = count;
    this.#lines = inColumns(names, columns);
    if (count > names.length) this.#lines.push(`… and ${count - names.length} more`);
  }

  /** What to show first; the cursor is at the beginning of an empty row. */
  open(): string {
    if (this.#count <= LIMITS.completionsUnasked) return this.#page(this.#rows - 1);
    this.#asking = true;
    return `Display all ${this.#count} possibilities? (y or n)`;
  }

  /** What a key shows. `done` afterwards: the cursor is at the beginning of an empty row again. */
  press({ name, text }: Key): string | null {
    const key = name === 'text' ? text : name;
    if (['n', 'N', 'q', 'Q', '\x7f', 'Backspace', 'Delete', 'C-g', 'C-c', 'C-d'].includes(key)) return this.#leave();
    if (this.#asking) {
      if (!['y', 'Y', ' '].includes(key)) return null;
      this.#asking = false;
      return `\r\n${this.#page(this.#rows - 1)}`;
    }
    if (['y', 'Y', ' ', 'Tab'].includes(key)) return eraseRow + this.#page(this.#rows - 1);
    if (key === 'Enter' || key === 'Down') return eraseRow + this.#page(1);
    return null;
  }

  #leave(): string {
    this.done = true;
    return this.#asking ? '\r\n' : eraseRow;
  }

  #page(lines: number): string {
    const shown = this.#lines.slice(this.#at, this.#at + lines);
    this.#at += shown.length;
    this.done = this.#at === this.#lines.length;
    return shown.map(line => `${line}\r\n`).join('') + (this.done ? '' : more);
  }
}

/** Names in columns, as `ls` prints them. What a terminal would obey is made visible. */
function inColumns(names: readonly string[], columns: number): string[] {
  const shown = names.map(visible);
  const width = shown.reduce((widest, name) => Math.max(widest, textWidth(name)), 0) + 2;
  const across = Math.max(1, Math.floor(columns / width));
  const down = Math.ceil(shown.length / across);
  const lines: string[] = [];
  for (let i = 0; i < down; i++) {
    let line = '';
    for (let k = i; k < shown.length; k += down) line += shown[k]! + ' '.repeat(width - textWidth(shown[k]!));
    lines.push(line.trimEnd());
  }
  return lines;
}

/** Control characters as ^X, or as the replacement character. */
export function visible(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replace(/[\0-\x1f\x7f-\x9f]/g, c =>
    c < '\x80' ? `^${String.fromCharCode(c.charCodeAt(0) ^ 0x40)}` : '\ufffd',
  );
}
