// The line editor: a state machine over one line of text (buffer.ts), its history and its kill ring. Keys go in (keys.ts), an outcome
// comes out; what to show is read from `view` and drawn by screen.ts. The keys and what they do are Emacs's, as in GNU Readline. The
// editor keeps no history of its own accord: whoever asks for lines says what is to be remembered.

import type { Key } from './keys.ts';
import { EditBuffer, isBlank, isNotBlank } from './buffer.ts';
import { History, lastWord } from './history.ts';
import { nextCharacter, previousCharacter } from '../../kernel/abi/width.ts';

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

/** One step of an incremental search; Backspace goes back to the one before. */
interface Found {
  readonly query: string;
  readonly line: number;
  readonly at: number;
  readonly failed: boolean;
}
interface Search {
  backwards: boolean;
  steps: Found[];
  /** What was there before. */
  readonly line: number;
  readonly text: string;
  readonly cursor: number;
}

const killRingSize = 32;
const done = (changed: boolean): Outcome => (changed ? 'edited' : 'bell');

export class LineEditor {
  readonly history = new History();
  pasting = false;
  /** The next byte is text whatever it is (C-v). */
  quoting = false;
  readonly #buffer = new EditBuffer();
  #prompt = '';
  #line = 0; // of the history; history.length: the line being edited
  #following: number | null = null; // the line that C-o brings up next
  /** What lines look like that were left changed, the one being edited among them. */
  readonly #drafts = new Map<number, string>();
  readonly #kills: string[] = [];
  #kill = 0; // what C-y inserts
  #inserted = 0; // where the text that C-y or M-. inserted begins
  #wordOf = 0; // the line whose last word M-. inserted
  #previous = ''; // name of the key before: kills in a row join
  #tabs = 0; // Tab keys in a row: the second one lists
  #prefix = ''; // C-x
  #search: Search | null = null;
  #lastQuery = '';

  get text(): string {
    return this.#buffer.text;
  }

  get cursor(): number {
    return this.#buffer.cursor;
  }

  /** Starts a line of at most `bytesMax` bytes. Kill ring and last search stay. */
  begin(prompt: string, bytesMax: number): void {
    this.#prompt = prompt;
    this.#buffer.begin(bytesMax);
    this.pasting = this.quoting = false;
    this.#drafts.clear();
    this.#line = this.history.length;
    this.#previous = this.#prefix = '';
    this.#tabs = 0;
    this.#search = null;
    if (this.#following !== null) this.#recall(this.#following);
    this.#following = null;
  }

  get view(): View {
    const { text, cursor } = this.#buffer;
    const s = this.#search;
    if (s === null) return { prompt: this.#prompt, text, cursor };
    const { query, failed } = s.steps.at(-1)!;
    const name = `${failed ? 'failed ' : ''}${s.backwards ? 'reverse-' : ''}i-search`;
    return { prompt: `(${name})\`${query}': `, text, cursor };
  }

  press(key: Key): Outcome {
    if (key.name === 'Ignored') return 'edited';
    if (this.#search !== null) {
      const outcome = this.#searchKey(this.#search, key);
      if (outcome !== null) return outcome;
      this.#endSearch(this.#search); // any other key takes what was found and then does its own work
    }
    const name = this.#prefix + key.name;
    this.#prefix = '';
    this.#tabs = name === 'Tab' ? this.#tabs + 1 : 0;
    const outcome = name === 'text' ? this.#type(key.text) : this.#command(name);
    // A key that did nothing is no beginning of a row: M-y M-y without a yank before.
    this.#previous = outcome !== 'bell' || name === this.#previous ? name : '';
    return outcome;
  }

  #type(text: string): Outcome {
    this.quoting = false;
    const typed = this.#previous === 'text' || this.#previous === 'C-v';
    if (!typed) this.#buffer.close();
    return done(this.#buffer.type(text, this.pasting) && text !== '');
  }

  #command(name: string): Outcome {
    const command = LineEditor.#keys[name];
    return command === undefined ? 'bell' : command(this);
  }

  /** What every key does, under Readline's names for it. */
  // prettier-ignore
  static readonly #keys: Readonly<Record<string, (e: LineEditor) => Outcome>> = {
    // accept-line, operate-and-get-next, insert-comment, end-of-file, abort, clear-screen, complete, possible-completions
    'Enter': () => 'line',
    'C-o': e => { e.#following = e.#line + 1 < e.history.length ? e.#line + 1 : null; return 'line'; },
    'M-#': e => { e.#buffer.replace(0, 0, '#'); return 'line'; },
    'C-c': () => 'interrupt',
    'C-d': e => (e.text === '' ? 'end' : e.#erase(e.cursor, e.#buffer.next)),
    'C-g': () => 'bell',
    'C-l': () => 'clear',
    'Tab': () => 'complete',
    'M-?': e => { e.#tabs = 2; return 'complete'; },
    'M-=': e => { e.#tabs = 2; return 'complete'; },
    'PasteBegin': e => { e.pasting = true; e.#buffer.close(); return 'edited'; },
    'PasteEnd': e => { e.pasting = false; e.#buffer.close(); return 'edited'; },
    'C-v': e => { e.quoting = true; return 'edited'; },
    'C-q': e => { e.quoting = true; return 'edited'; },
    'C-x': e => { e.#prefix = 'C-x '; return 'edited'; },

    // beginning-of-line, end-of-line, …-char, …-word
    'C-a': e => e.#move(0),
    'Home': e => e.#move(0),
    'C-e': e => e.#move(e.text.length),
    'End': e => e.#move(e.text.length),
    'C-b': e => e.#move(e.#buffer.previous),
    'Left': e => e.#move(e.#buffer.previous),
    'C-f': e => e.#move(e.#buffer.next),
    'Right': e => e.#move(e.#buffer.next),
    'M-b': e => e.#move(e.#buffer.wordBefore()),
    'M-f': e => e.#move(e.#buffer.wordAfter()),

    // delete-char, kill-line, unix-line-discard, unix-word-rubout, kill-word, yank, undo, transpose, …-case-word
    'Backspace': e => e.#erase(e.#buffer.previous, e.cursor),
    'Delete': e => e.#erase(e.cursor, e.#buffer.next),
    'M-\\': e => e.#erase(e.#buffer.skipBack(e.cursor, isBlank), e.#buffer.skip(e.cursor, isBlank)),
    'C-k': e => e.#cut(e.cursor, e.text.length),
    'C-u': e => e.#cut(0, e.cursor),
    'C-x Backspace': e => e.#cut(0, e.cursor),
    'C-w': e => e.#cut(e.#buffer.wordBefore(e.cursor, isNotBlank), e.cursor),
    'M-Backspace': e => e.#cut(e.#buffer.wordBefore(), e.cursor),
    'M-d': e => e.#cut(e.cursor, e.#buffer.wordAfter()),
    'C-y': e => e.#yank(),
    'M-y': e => e.#yankOlder(),
    'C-_': e => done(e.#buffer.undo()),
    'C-x C-u': e => done(e.#buffer.undo()),
    'M-r': e => done(e.#buffer.revert()),
    'C-t': e => e.#transposeCharacters(),
    'M-t': e => e.#transposeWords(),
    'M-u': e => e.#changeWord(word => word.toUpperCase()),
    'M-l': e => e.#changeWord(word => word.toLowerCase()),
    'M-c': e => e.#changeWord(word => word.slice(0, nextCharacter(word, 0)).toUpperCase() + word.slice(nextCharacter(word, 0)).toLowerCase()),

    // …-history, …-search-history, yank-last-arg
    'C-p': e => e.#recall(e.#line - 1),
    'Up': e => e.#recall(e.#line - 1),
    'C-n': e => e.#recall(e.#line + 1),
    'Down': e => e.#recall(e.#line + 1),
    'M-<': e => e.#recall(e.#line === 0 ? -1 : 0),
    'M->': e => e.#recall(e.#line === e.history.length ? -1 : e.history.length),
    'C-r': e => e.#startSearch(true),
    'C-s': e => e.#startSearch(false),
    'M-.': e => e.#yankLastWord(),
    'M-_': e => e.#yankLastWord(),
  };

  // ── Moving and changing ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #move(to: number): Outcome {
    return done(this.#buffer.move(to));
  }

  #erase(start: number, end: number): Outcome {
    return done(start < end && this.#buffer.replace(start, end, ''));
  }

  #cut(start: number, end: number): Outcome {
    const cut = this.text.slice(start, end);
    if (cut === '') return 'bell';
    if (!kills.has(this.#previous) || this.#kills.length === 0) {
      this.#kills.push('');
      if (this.#kills.length > killRingSize) this.#kills.shift();
    }
    const joined = this.#kills.at(-1)!;
    this.#kill = this.#kills.length - 1;
    this.#kills[this.#kill] = end === this.cursor ? cut + joined : joined + cut;
    return this.#erase(start, end);
  }

  #yank(): Outcome {
    const text = this.#kills[this.#kill];
    this.#inserted = this.cursor;
    return done(text !== undefined && this.#buffer.replace(this.cursor, this.cursor, text));
  }

  /** In place of what C-y has just inserted, what was cut before that. */
  #yankOlder(): Outcome {
    if (this.#previous !== 'C-y' && this.#previous !== 'M-y') return 'bell';
    if (this.#kills.length === 0) return 'bell';
    this.#kill = (this.#kill + this.#kills.length - 1) % this.#kills.length;
    return done(this.#buffer.replace(this.#inserted, this.cursor, this.#kills[this.#kill]!));
  }

  /** The last word of the line before; again: of the line before that, in its place. */
  #yankLastWord(): Outcome {
    const again = this.#previous === 'M-.' || this.#previous === 'M-_';
    const start = again ? this.#inserted : this.cursor;
    let line = again ? this.#wordOf : this.#line;
    let word = '';
    while (word === '' && line > 0) word = lastWord(this.history.line(--line)!);
    if (word === '' || !this.#buffer.replace(start, this.cursor, word)) return 'bell';
    this.#inserted = start;
    this.#wordOf = line;
    return 'edited';
  }

  /** Exchanges the characters around the cursor, at the end of the line the last two. */
  #transposeCharacters(): Outcome {
    const { text, cursor, next } = this.#buffer;
    if (cursor === 0) return 'bell';
    const middle = previousCharacter(text, next);
    return this.#exchange(previousCharacter(text, middle), middle, middle, next);
  }

  /** Exchanges the word before the cursor with the one at or after it, at the end of the line the last two. */
  #transposeWords(): Outcome {
    const b = this.#buffer;
    const end = b.wordAfter();
    const second = b.wordBefore(end);
    const first = b.wordBefore(second);
    return this.#exchange(first, b.wordAfter(first), second, b.wordAfter(second));
  }

  /** Exchanges two ranges; the cursor goes after both. */
  #exchange(start: number, startEnd: number, other: number, otherEnd: number): Outcome {
    if (startEnd > other || start === startEnd || other === otherEnd) return 'bell';
    const { text } = this;
    const between = text.slice(startEnd, other);
    return done(
      this.#buffer.replace(start, otherEnd, text.slice(other, otherEnd) + between + text.slice(start, startEnd)),
    );
  }

  #changeWord(change: (word: string) => string): Outcome {
    const start = this.#buffer.skip(this.cursor, c => !/[0-9A-Za-z\u0080-\uffff]/.test(c));
    const end = this.#buffer.wordAfter();
    return done(start < end && this.#buffer.replace(start, end, change(this.text.slice(start, end))));
  }

  // ── History ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** What line `i` looks like: as it was left in this edit, or as it is remembered. */
  #lineText(i: number): string {
    return this.#drafts.get(i) ?? this.history.line(i) ?? '';
  }

  #recall(line: number, cursor?: number): Outcome {
    if (line < 0 || line > this.history.length) return 'bell';
    if (this.text !== this.#lineText(this.#line)) this.#drafts.set(this.#line, this.text);
    this.#line = line;
    this.#buffer.load(this.#lineText(line), cursor);
    return 'edited';
  }

  #startSearch(backwards: boolean): Outcome {
    const { text, cursor } = this;
    const step = { query: '', line: this.#line, at: cursor, failed: false };
    this.#search = { backwards, steps: [step], line: this.#line, text, cursor };
    return 'edited';
  }

  /** A key while searching; null when it ends the search and means something of its own. */
  #searchKey(s: Search, key: Key): Outcome | null {
    const last = s.steps.at(-1)!;
    switch (key.name) {
      case 'text': {
        let outcome: Outcome = 'bell';
        for (const c of key.text) {
          const { query, at } = s.steps.at(-1)!;
          outcome = this.#find(s, query + c, at);
        }
        return outcome;
      }
      case 'C-r':
      case 'C-s': {
        const turned = s.backwards !== (key.name === 'C-r');
        s.backwards = key.name === 'C-r';
        if (last.query === '') return turned ? 'edited' : this.#find(s, this.#lastQuery, last.at);
        return this.#find(s, last.query, last.at + (s.backwards ? -1 : 1));
      }
      case 'Backspace':
        if (s.steps.length === 1) return 'bell';
        s.steps.pop();
        return this.#showFound(s.steps.at(-1)!);
      case 'C-g':
        this.#endSearch(s);
        this.#recall(s.line);
        this.#buffer.load(s.text, s.cursor);
        return 'bell';
      case 'PasteBegin':
      case 'PasteEnd':
        this.pasting = key.name === 'PasteBegin';
        return 'edited';
      default:
        return null;
    }
  }

  #endSearch(s: Search): void {
    this.#lastQuery = s.steps.at(-1)!.query || this.#lastQuery;
    this.#search = null;
  }

  #find(s: Search, query: string, at: number): Outcome {
    if (query === '') return 'bell';
    const { line } = s.steps.at(-1)!;
    const draft = this.#drafts.get(this.history.length) ?? (s.line === this.history.length ? s.text : '');
    const match = this.history.search(query, { line, at }, this.text, draft, s.backwards);
    const step = { query, failed: match === null, ...(match ?? { line, at: s.steps.at(-1)!.at }) };
    s.steps.push(step);
    return match === null ? 'bell' : this.#showFound(step);
  }

  #showFound({ line, at }: Found): Outcome {
    if (line !== this.#line) this.#recall(line, at);
    else this.#buffer.move(at);
    return 'edited';
  }

  // ── Completion ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Answers Tab: `text` goes in place of the last `back` UTF-16 units before the cursor, and is what all of the `names` that are meant
   * begin with. True when the names are to be listed: Tab came twice and nothing more is common to them.
   */
  complete(
    text: string,
    back: number,
    names: readonly string[],
  ): { readonly outcome: Outcome; readonly list: boolean } {
    const start = Math.max(0, this.cursor - back);
    if (names.length === 0) return { outcome: 'bell', list: false };
    if (this.text.slice(start, this.cursor) !== text) {
      this.#tabs = Math.min(this.#tabs, 1);
      const changed = this.#buffer.replace(start, this.cursor, text);
      return { outcome: changed && names.length === 1 ? 'edited' : 'bell', list: false };
    }
    return {
      outcome: names.length > 1 && this.#tabs > 1 ? 'edited' : 'bell',
      list: names.length > 1 && this.#tabs > 1,
    };
  }
}

const kills = new Set(['C-k', 'C-u', 'C-w', 'C-x Backspace', 'M-Backspace', 'M-d']);
