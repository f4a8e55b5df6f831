// The line editor: a pure state machine over one line of text, its history and its kill buffer. Keys go in (keys.ts), an outcome comes
// out; what to show is read from `view` and drawn by screen.ts. The keys are Emacs's, as in GNU Readline; history is bounded and holds no
// line twice in a row. Positions are UTF-16 indices at the boundaries of user-perceived characters.

import { LIMITS, utf8Length } from '../../kernel/abi/index.ts';
import type { Key } from './keys.ts';
import { nextCharacter, previousCharacter } from './width.ts';

/**
 * - `edited`: show the view again. `bell`: nothing could be done. `clear`: clear the screen first.
 * - `line`: `text` is the answer. `end`: Ctrl-D on an empty line. `interrupt`: Ctrl-C. `complete`: candidates are wanted.
 */
export type Outcome = 'edited' | 'bell' | 'clear' | 'line' | 'end' | 'interrupt' | 'complete';

export interface View {
  readonly prompt: string;
  readonly text: string;
  readonly cursor: number;
}

interface Search {
  query: string;
  /** History index of the entry shown; history.length: the line being edited. */
  at: number;
  failed: boolean;
  readonly text: string; // what was there before
  readonly cursor: number;
}

export class LineEditor {
  text = '';
  cursor = 0;
  pasting = false;
  #prompt = '';
  #bytesMax = 0;
  readonly #history: string[] = [];
  #historyAt = 0; // #history.length: the line being edited
  #draft = ''; // that line, while an entry of the history is shown
  #killed = '';
  #previous = ''; // name of the key before: kills in a row join
  #tabs = 0; // Tab keys in a row: the second one lists
  #search: Search | null = null;

  /** Starts a line of at most `bytesMax` bytes. History and kill buffer stay. */
  begin(prompt: string, bytesMax: number): void {
    this.#prompt = prompt;
    this.#bytesMax = bytesMax;
    this.text = '';
    this.cursor = 0;
    this.pasting = false;
    this.#historyAt = this.#history.length;
    this.#draft = '';
    this.#previous = '';
    this.#tabs = 0;
    this.#search = null;
  }

  get view(): View {
    const s = this.#search;
    if (s === null) return { prompt: this.#prompt, text: this.text, cursor: this.cursor };
    return {
      prompt: `(${s.failed ? 'failed ' : ''}reverse-i-search)'${s.query}': `,
      text: this.text,
      cursor: this.cursor,
    };
  }

  press(key: Key): Outcome {
    if (this.#search !== null) {
      const outcome = this.#searchKey(this.#search, key);
      if (outcome !== null) return outcome;
      this.#search = null; // any other key takes what was found and then does its own work
    }
    const outcome = key.name === 'text' ? this.#insert(key.text) : this.#command(key.name);
    if (key.name !== 'Ignored') this.#previous = key.name;
    this.#tabs = key.name === 'Tab' ? this.#tabs + 1 : 0;
    return outcome;
  }

  #command(name: string): Outcome {
    switch (name) {
      case 'Enter':
        this.#remember();
        return 'line';
      case 'C-c':
        return 'interrupt';
      case 'C-d':
        return this.text === '' ? 'end' : this.#erase(this.cursor, nextCharacter(this.text, this.cursor));
      case 'Tab':
        return 'complete';
      case 'C-l':
        return 'clear';
      case 'PasteBegin':
      case 'PasteEnd':
        this.pasting = name === 'PasteBegin';
        return 'edited';

      case 'C-a':
      case 'Home':
        return this.#move(0);
      case 'C-e':
      case 'End':
        return this.#move(this.text.length);
      case 'C-b':
      case 'Left':
        return this.#move(previousCharacter(this.text, this.cursor));
      case 'C-f':
      case 'Right':
        return this.#move(nextCharacter(this.text, this.cursor));
      case 'M-b':
        return this.#move(this.#wordBefore(isWord));
      case 'M-f':
        return this.#move(this.#wordAfter());

      case 'Backspace':
        return this.#erase(previousCharacter(this.text, this.cursor), this.cursor);
      case 'Delete':
        return this.#erase(this.cursor, nextCharacter(this.text, this.cursor));
      case 'C-k':
        return this.#kill(this.cursor, this.text.length);
      case 'C-u':
        return this.#kill(0, this.cursor);
      case 'C-w':
        return this.#kill(this.#wordBefore(isNotBlank), this.cursor);
      case 'M-Backspace':
        return this.#kill(this.#wordBefore(isWord), this.cursor);
      case 'M-d':
        return this.#kill(this.cursor, this.#wordAfter());
      case 'C-y':
        return this.#insert(this.#killed);
      case 'C-t':
        return this.#transpose();

      case 'C-p':
      case 'Up':
        return this.#recall(this.#historyAt - 1);
      case 'C-n':
      case 'Down':
        return this.#recall(this.#historyAt + 1);
      case 'C-r':
        this.#search = { query: '', at: this.#history.length, failed: false, text: this.text, cursor: this.cursor };
        return 'edited';
      case 'Ignored':
        return 'edited';
      default:
        return 'bell';
    }
  }

  // ── Moving and changing ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #move(to: number): Outcome {
    if (to === this.cursor) return 'bell';
    this.cursor = to;
    return 'edited';
  }

  #replace(start: number, end: number, text: string): void {
    this.text = this.text.slice(0, start) + text + this.text.slice(end);
    this.cursor = start + text.length;
  }

  #insert(text: string): Outcome {
    if (text === '' || utf8Length(this.text) + utf8Length(text) > this.#bytesMax) return 'bell';
    this.#replace(this.cursor, this.cursor, text);
    return 'edited';
  }

  #erase(start: number, end: number): Outcome {
    if (start === end) return 'bell';
    this.#replace(start, end, '');
    return 'edited';
  }

  #kill(start: number, end: number): Outcome {
    if (start === end) return 'bell';
    const cut = this.text.slice(start, end);
    const joined = kills.has(this.#previous) ? this.#killed : '';
    this.#killed = end === this.cursor ? cut + joined : joined + cut;
    this.#replace(start, end, '');
    return 'edited';
  }

  /** Exchanges the characters around the cursor, at the end of the line the last two. */
  #transpose(): Outcome {
    const end = this.cursor === this.text.length ? this.cursor : nextCharacter(this.text, this.cursor);
    const middle = previousCharacter(this.text, end);
    const start = previousCharacter(this.text, middle);
    if (start === middle) return 'bell';
    this.#replace(start, end, this.text.slice(middle, end) + this.text.slice(start, middle));
    return 'edited';
  }

  #wordBefore(belongs: (c: string) => boolean): number {
    let i = this.cursor;
    while (i > 0 && !belongs(this.text[i - 1]!)) i--;
    while (i > 0 && belongs(this.text[i - 1]!)) i--;
    return i;
  }

  #wordAfter(): number {
    let i = this.cursor;
    while (i < this.text.length && !isWord(this.text[i]!)) i++;
    while (i < this.text.length && isWord(this.text[i]!)) i++;
    return i;
  }

  // ── History ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  #remember(): void {
    if (this.text.trim() === '' || this.text === this.#history.at(-1)) return;
    this.#history.push(this.text);
    if (this.#history.length > LIMITS.historyLines) this.#history.shift();
  }

  #recall(at: number): Outcome {
    if (at < 0 || at > this.#history.length) return 'bell';
    if (this.#historyAt === this.#history.length) this.#draft = this.text;
    this.#historyAt = at;
    this.text = this.#history[at] ?? this.#draft;
    this.cursor = this.text.length;
    return 'edited';
  }

  /** A key while searching; null when it ends the search and means something of its own. */
  #searchKey(s: Search, key: Key): Outcome | null {
    switch (key.name) {
      case 'text':
        s.query += key.text;
        return this.#find(s, s.at);
      case 'C-r':
        return s.query === '' ? 'bell' : this.#find(s, s.at - 1);
      case 'Backspace':
        s.query = s.query.slice(0, previousCharacter(s.query, s.query.length));
        return this.#find(s, this.#history.length);
      case 'C-g':
        this.#search = null;
        this.text = s.text;
        this.cursor = s.cursor;
        return 'edited';
      case 'Ignored':
        return 'edited';
      default:
        return null;
    }
  }

  /** Shows the newest entry not after `from` that contains the query; one that looks the same as what is shown does not count as older. */
  #find(s: Search, from: number): Outcome {
    for (let i = from; i >= 0; i--) {
      const entry = i === this.#history.length ? s.text : this.#history[i]!;
      const found = entry.indexOf(s.query);
      if (found < 0 || (from < s.at && entry === this.text)) continue;
      s.at = i;
      s.failed = false;
      this.#historyAt = i;
      this.text = entry;
      this.cursor = found;
      return 'edited';
    }
    s.failed = true;
    return 'bell';
  }

  // ── Completion ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Answers Tab: each candidate is a whole replacement of the word before the cursor. What all of them begin with is inserted; a single
   * one is followed by a space unless it ends in '/'. Returns the candidates to list when Tab came twice and nothing more is common.
   */
  complete(candidates: readonly string[]): { readonly outcome: 'edited' | 'bell'; readonly list: readonly string[] } {
    const [word] = /(?:\\.|[^\s|&;<>()\\])*$/s.exec(this.text.slice(0, this.cursor))!; // to the last blank or operator not quoted by \
    const start = this.cursor - word.length;
    const [first] = candidates;
    if (first === undefined) return { outcome: 'bell', list: [] };
    let common = candidates.reduce(commonPrefix);
    if (candidates.length === 1 && !common.endsWith('/')) common += ' ';
    if (common.length > word.length || (candidates.length === 1 && common !== word)) {
      if (utf8Length(this.text) + utf8Length(common) > this.#bytesMax) return { outcome: 'bell', list: [] };
      this.#replace(start, this.cursor, common);
      return { outcome: candidates.length === 1 ? 'edited' : 'bell', list: [] };
    }
    return { outcome: 'bell', list: this.#tabs > 1 && candidates.length > 1 ? candidates : [] };
  }
}

const kills = new Set(['C-k', 'C-u', 'C-w', 'M-Backspace', 'M-d']);
const isNotBlank = (c: string): boolean => c !== ' ' && c !== '\t' && c !== '\n';
/** Letters and digits; everything beyond ASCII counts as a letter. */
const isWord = (c: string): boolean => /[0-9A-Za-z\u0080-\uffff]/.test(c);

function commonPrefix(a: string, b: string): string {
  let i = 0;
  while (
    i < a.length &&
    nextCharacter(a, i) === nextCharacter(b, i) &&
    a.slice(i, nextCharacter(a, i)) === b.slice(i, nextCharacter(b, i))
  ) {
    i = nextCharacter(a, i);
  }
  return a.slice(0, i);
}
