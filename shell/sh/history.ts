// The history of an interactive shell. The file is the truth: what is typed is appended to it at once, and before a prompt the shell looks
// whether somebody else — a second shell, `history -c` — has changed it. Without a file that can be written it lasts as long as the
// shell. Also csh's history expansion, as far as people use it daily: !! !N !-N !PREFIX !?TEXT? !$ !^ !* and ^OLD^NEW.

import { ACCESS, E, LIMITS, utf8Encode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { stat } from '../lib/files.ts';
import { appendHistory, readHistory, writeHistory } from '../lib/history.ts';

/** What is asked of the shell's variables. */
type Get = (name: string) => string | undefined;

export class CommandHistory {
  #entries: string[] = [];
  #seen = ''; // which state of which file the entries are
  #keep = -1; // how many the terminal was told to keep
  readonly #sys: Sys;
  readonly #get: Get;

  constructor(sys: Sys, get: Get) {
    this.#sys = sys;
    this.#get = get;
  }

  get entries(): readonly string[] {
    return this.#entries;
  }

  /** Reads the file again if it has changed, and tells the terminal. */
  *refresh(): Generator<void, void, void> {
    const file = this.#get('HISTFILE') ?? '';
    const size = this.#get('HISTSIZE') ?? '';
    const keep = /^[0-9]{1,6}$/.test(size) ? Math.min(Number(size), LIMITS.historyLines) : LIMITS.historyLines;
    const state = yield* this.#state(file);
    if (state === this.#seen && keep === this.#keep) return;
    if (state !== this.#seen) yield* this.#read(file, this.#keep < 0 ? keep : 0);
    this.#entries = this.#entries.slice(Math.max(0, this.#entries.length - keep));
    this.#keep = keep;
    yield* this.#sys.remember(0, 0, new Uint8Array(0));
    yield* this.#tell(this.#entries);
  }

  /** What the file says now. A file with more than `most` entries (0: any number) is cut to these. */
  *#read(file: string, most: number): Generator<void, void, void> {
    const entries = yield* readHistory(this.#sys, file);
    if (typeof entries !== 'number') this.#entries = entries;
    else if (entries === -E.NOENT) this.#entries = [];
    if (most > 0 && this.#entries.length > most) yield* writeHistory(this.#sys, file, this.#entries.slice(-most));
    this.#seen = yield* this.#state(file);
  }

  /** Remembers a command, unless $HISTCONTROL says otherwise. */
  *add(text: string): Generator<void, void, void> {
    const entry = text.trim().replaceAll('\0', '');
    const control = (this.#get('HISTCONTROL') ?? 'ignoredups').split(':');
    const ignores = (what: string): boolean => control.includes(what) || control.includes('ignoreboth');
    if (entry === '' || this.#keep === 0) return;
    if (ignores('ignorespace') && text.startsWith(' ')) return;
    if (ignores('ignoredups') && entry === this.#entries.at(-1)) return;
    const file = this.#get('HISTFILE') ?? '';
    const kept = control.includes('erasedups') ? this.#entries.filter(e => e !== entry) : this.#entries;
    const erased = kept.length < this.#entries.length;
    this.#entries = [...kept, entry].slice(-this.#keep);
    if (erased) {
      yield* writeHistory(this.#sys, file, this.#entries);
      yield* this.#sys.remember(0, 0, new Uint8Array(0));
      yield* this.#tell(this.#entries);
    } else {
      yield* appendHistory(this.#sys, file, entry);
      yield* this.#tell([entry]);
    }
    this.#seen = yield* this.#state(file);
  }

  /** Which file there is, and what can be seen of its being changed; '' when there is none. */
  *#state(file: string): Generator<void, string, void> {
    const st = yield* stat(this.#sys, file);
    return typeof st === 'number' ? '' : `${file} ${st.device} ${st.inode} ${st.size} ${st.modifiedNs}`;
  }

  /** Gives entries to the terminal's editor, as many at a time as a call holds. */
  *#tell(entries: readonly string[]): Generator<void, void, void> {
    let block = '';
    for (const entry of entries) {
      if (block.length + entry.length > LIMITS.windowBytes / 4) {
        yield* this.#sys.remember(0, this.#keep, utf8Encode(block));
        block = '';
      }
      block += `${entry}\0`;
    }
    if (block !== '') yield* this.#sys.remember(0, this.#keep, utf8Encode(block));
  }
}

/** The history file for this user: an inherited one that another user keeps is not ours. */
export function* ownHistoryFile(sys: Sys, get: Get): Generator<void, string, void> {
  const inherited = get('HISTFILE');
  if (inherited !== undefined && (yield* sys.access(inherited, ACCESS.write)) !== -E.ACCES) return inherited;
  return `${get('HOME') ?? ''}/.sh_history`;
}

// ── Expansion ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** `!` and what may follow it: `!!`, a number, `?text?`, a prefix, or a word of the last command by itself; then a word designator. */
const designator =
  /^!(?:(!)|(-?[0-9]+)|\?([^?\n]*)\??|(?=[$^*])|([^\s=(;&|<>"'!$^*:?-][^\s:;&|<>"'$^*]*))(:?[$^*]|:[0-9]+)?/;

/** The line with history expanded: `text` is null when there is none in it, `error` says what was not found. */
export function expandHistory(
  line: string,
  entries: readonly string[],
): { readonly text: string | null; readonly error: string | null } {
  if (/^\^[^^]+\^/.test(line)) {
    const [, from = '', to = '', rest = ''] = /^\^([^^]+)\^([^^\n]*)\^?([^]*)$/.exec(line)!;
    const last = entries.at(-1);
    if (last?.includes(from) !== true) return { text: null, error: `${line}: substitution failed` };
    return { text: last.replace(from, () => to) + rest, error: null };
  }
  let out = '';
  let quoted = false; // between double quotes a single one is ordinary
  let changed = false;
  for (let i = 0; i < line.length;) {
    const c = line[i]!;
    let piece = c;
    if (c === '"') quoted = !quoted;
    else if (c === '\\') piece = line.slice(i, i + 2);
    else if (c === "'" && !quoted) {
      const end = line.indexOf("'", i + 1);
      piece = line.slice(i, end < 0 ? line.length : end + 1);
    } else if (c === '!') {
      const found = designator.exec(line.slice(i));
      if (found !== null) {
        const text = event(found, entries);
        if (text === null) return { text: null, error: `${found[0]}: event not found` };
        out += text;
        i += found[0].length;
        changed = true;
        continue;
      }
    }
    out += piece;
    i += piece.length;
  }
  return { text: changed ? out : null, error: null };
}

/** The text that a designator stands for, or null. */
function event(found: RegExpExecArray, entries: readonly string[]): string | null {
  const [, , number, inside, prefix, which] = found;
  let line: string | undefined;
  if (number !== undefined) line = entries.at(Number(number) - (Number(number) > 0 ? 1 : 0));
  else if (inside !== undefined) line = entries.findLast(e => e.includes(inside));
  else if (prefix !== undefined) line = entries.findLast(e => e.startsWith(prefix));
  else line = entries.at(-1);
  if (line === undefined || number === '0') return null;
  if (which === undefined) return line;
  const words = wordsOf(line);
  const letter = which.replace(':', '');
  if (letter === '*') return words.slice(1).join(' ');
  const word = letter === '$' ? words.at(-1) : words[letter === '^' ? 1 : Number(letter)];
  return word ?? null;
}

const wordsOf = (line: string): string[] =>
  line.match(/(?:\\[^]|'[^']*'?|"(?:\\[^]|[^"\\])*"?|[^\s'"\\;&|<>()]|\\$)+|[;&|<>()]+/g) ?? [];
