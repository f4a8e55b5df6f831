// The text under edit: a line, a cursor, and the changes that undo takes back. Every change is one replacement of a range, so that undo is
// its reverse and costs what was changed, not a copy of the line. Positions are UTF-16 indices at the boundaries of user-perceived
// characters. Words are those of GNU Readline: letters and digits, with everything beyond ASCII counted as a letter.

import { utf8Length } from '../../kernel/abi/index.ts';
import { nextCharacter, previousCharacter } from '../../kernel/abi/width.ts';

interface Change {
  readonly at: number;
  readonly removed: string;
  inserted: string;
  /** Where the cursor was before. */
  readonly cursor: number;
  /** Typing goes on in the same step. */
  open: boolean;
}

const undoStepsMax = 1000;
/** Characters typed in a row that one undo takes back. */
const typedTogether = 20;

export class EditBuffer {
  text = '';
  cursor = 0;
  #bytesMax = 0;
  #bytes = 0;
  #changes: Change[] = [];

  /** An empty line of at most `bytesMax` bytes of UTF-8. */
  begin(bytesMax: number): void {
    this.#bytesMax = bytesMax;
    this.load('');
  }

  /** Another text, cut where it is too long, with the cursor at its end or at `cursor`; nothing is left to undo. */
  load(text: string, cursor = text.length): void {
    this.text = beginning(text, this.#bytesMax);
    this.cursor = characterStart(this.text, Math.min(cursor, this.text.length));
    this.#bytes = utf8Length(this.text);
    this.#changes = [];
  }

  /** Moves the cursor. False when it is there already. */
  move(to: number): boolean {
    const start = characterStart(this.text, to);
    if (start === this.cursor) return false;
    this.cursor = start;
    this.close();
    return true;
  }

  /** The next insertion begins an undo step of its own. */
  close(): void {
    const last = this.#changes.at(-1);
    if (last !== undefined) last.open = false;
  }

  /** Puts `text` in place of [start, end), the cursor after it. False, with nothing changed, when the line would be too long. */
  replace(start: number, end: number, text: string): boolean {
    const removed = this.text.slice(start, end);
    const bytes = this.#bytes - utf8Length(removed) + utf8Length(text);
    if (bytes > this.#bytesMax && bytes > this.#bytes) return false;
    this.#changes.push({ at: start, removed, inserted: text, cursor: this.cursor, open: false });
    if (this.#changes.length > undoStepsMax) this.#changes.shift();
    this.#bytes = bytes;
    this.text = this.text.slice(0, start) + text + this.text.slice(end);
    this.cursor = start + text.length;
    // What follows may have joined with the new text: a mark after its base, say.
    const before = characterStart(this.text, this.cursor);
    if (before < this.cursor) this.cursor = nextCharacter(this.text, before);
    return true;
  }

  /** Inserts typed text at the cursor, or as many of its characters as fit. False when some did not. `together`: in one undo step. */
  type(text: string, together = false): boolean {
    const fits = beginning(text, this.#bytesMax - this.#bytes);
    for (let at = 0; at < fits.length;) {
      const step = this.#openStep();
      let end = together ? fits.length : nextCharacter(fits, at);
      const room = typedTogether - (step?.inserted.length ?? 0);
      while (end < fits.length && nextCharacter(fits, end) - at <= room) end = nextCharacter(fits, end);
      this.#typeInto(step !== null && (together || end - at <= room) ? step : null, fits.slice(at, end));
      at = end;
    }
    return fits === text;
  }

  /** The step that typing at the cursor would go on with. */
  #openStep(): Change | null {
    const last = this.#changes.at(-1);
    return last?.open === true && last.at + last.inserted.length === this.cursor ? last : null;
  }

  #typeInto(step: Change | null, text: string): void {
    this.replace(this.cursor, this.cursor, text);
    if (step === null) this.#changes.at(-1)!.open = true;
    else {
      this.#changes.pop();
      step.inserted += text;
    }
  }

  /** Takes the last change back. False when there is none. */
  undo(): boolean {
    const change = this.#changes.pop();
    if (change === undefined) return false;
    const { at, removed, inserted } = change;
    this.text = this.text.slice(0, at) + removed + this.text.slice(at + inserted.length);
    this.#bytes += utf8Length(removed) - utf8Length(inserted);
    this.cursor = change.cursor;
    this.close();
    return true;
  }

  /** Takes every change back. */
  revert(): boolean {
    let changed = false;
    while (this.undo()) changed = true;
    return changed;
  }

  // ── Places ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  get previous(): number {
    return previousCharacter(this.text, this.cursor);
  }

  get next(): number {
    return nextCharacter(this.text, this.cursor);
  }

  /** Where the word before `from` begins. */
  wordBefore(from = this.cursor, belongs = isWord): number {
    return this.skipBack(
      this.skipBack(from, c => !belongs(c)),
      belongs,
    );
  }

  /** Where the word at or after `from` ends. */
  wordAfter(from = this.cursor): number {
    return this.skip(
      this.skip(from, c => !isWord(c)),
      isWord,
    );
  }

  /** The first place from `from` on whose character does not belong. */
  skip(from: number, belongs: (c: string) => boolean): number {
    let i = from;
    while (i < this.text.length && belongs(this.text[i]!)) i = nextCharacter(this.text, i);
    return i;
  }

  /** The first place from `from` back before which a character stands that does not belong. */
  skipBack(from: number, belongs: (c: string) => boolean): number {
    let i = from;
    while (i > 0) {
      const before = previousCharacter(this.text, i);
      if (!belongs(this.text[before]!)) break;
      i = before;
    }
    return i;
  }
}

/** As many characters of a text as `bytes` of UTF-8 hold. */
function beginning(text: string, bytes: number): string {
  if (utf8Length(text) <= bytes) return text;
  let end = 0;
  for (let left = bytes; ;) {
    const next = nextCharacter(text, end);
    left -= utf8Length(text.slice(end, next));
    if (left < 0) return text.slice(0, end);
    end = next;
  }
}

/** `i`, or where the character begins that it is inside of. */
function characterStart(text: string, i: number): number {
  const before = previousCharacter(text, i);
  return nextCharacter(text, before) === i ? i : before;
}

export const isBlank = (c: string): boolean => c === ' ' || c === '\t' || c === '\n';
export const isNotBlank = (c: string): boolean => !isBlank(c);
const isWord = (c: string): boolean => /[0-9A-Za-z\u0080-\uffff]/.test(c);
