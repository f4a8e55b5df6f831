// The pager: what a person does with a text on a screen. Keys are less's; each is a row of the table that dispatches, makes the help
// screen and the manual page. It reads the keyboard beside the text, so the text may come through a pipe.

import { strerror, utf8Encode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { Document } from './document.ts';
import { compileRegex } from './regex.ts';
import type { Regex } from './regex.ts';
import { EVENT, clipped, reverse } from './screen.ts';
import type { Key, Screen } from './screen.ts';
import { writeAll } from './stdio.ts';
import { View } from './view.ts';
import type { ViewOptions } from './view.ts';

export interface PagerOptions extends ViewOptions {
  ignoreCase: boolean; // -i: unless the pattern has a capital
  longPrompt: boolean; // -M
  follow: boolean; // +F
  /** Where to begin: a line, or a pattern. */
  start: string;
}

/** A text to page through and what to call it ('' = standard input). */
export interface Source {
  readonly name: string;
  readonly doc: Document;
}

const FOLLOW_MS = 1000;
const LINE_INPUT_MAX = 256;

type Step = Generator<void, void, void>;
interface Command {
  readonly keys: readonly Key[];
  /** As the help screen prints it; '' = another row already does. */
  readonly shown: string;
  readonly help: string;
  /** `n`: the number typed before it, or null. */
  readonly run: (p: Pager, n: number | null) => Step;
}

const command = (keys: string, shown: string, help: string, run: Command['run']): Command => ({
  keys: keys.split(' '),
  shown,
  help,
  run,
});

// One command a line: a table, kept from the formatter.
// prettier-ignore
const commands: readonly Command[] = [
  command('SPACE f C-f C-v PageDown', 'SPACE f C-f', 'forward one window (or N lines)', (p, n) => p.down(n ?? p.view.height)),
  command('b C-b M-v PageUp', 'b C-b', 'backward one window (or N lines)', (p, n) => p.up(n ?? p.view.height)),
  command('j e Enter Down C-n C-e', 'j ENTER DOWN', 'forward one line (or N)', (p, n) => p.down(n ?? 1)),
  command('k y Up C-p C-k C-y', 'k y UP', 'backward one line (or N)', (p, n) => p.up(n ?? 1)),
  command('d C-d', 'd C-d', 'forward half a window (or N lines)', (p, n) => p.down(n ?? p.half)),
  command('u C-u', 'u C-u', 'backward half a window (or N lines)', (p, n) => p.up(n ?? p.half)),
  command('Right', 'RIGHT LEFT', 'with -S: shift by half a screen', p => p.shift(1)),
  command('Left', '', '', p => p.shift(-1)),
  command('g < Home', 'g <', 'to the first line (or line N)', (p, n) => p.view.toLine(n ?? 1)),
  command('G > End', 'G >', 'to the last line (or line N)', (p, n) => p.toEnd(n)),
  command('p %', 'p %', 'to N percent of the text', (p, n) => p.toPercent(n ?? 0)),
  command('F', 'F', 'to the end, and wait there for more', p => p.startFollowing()),
  command('/', '/PATTERN', 'search forward for an extended regular expression', (p, n) => p.ask('/', n)),
  command('?', '?PATTERN', 'search backward', (p, n) => p.ask('?', n)),
  command('n', 'n', 'to the next match (the N-th)', (p, n) => p.searchAgain(n ?? 1, false)),
  command('N', 'N', 'the same in the other direction', (p, n) => p.searchAgain(n ?? 1, true)),
  command('M-u', 'ESC-u', 'show matches in reverse, or not', p => p.toggleHighlight()),
  command('m', 'm LETTER', 'mark the place at the top', p => p.mark()),
  command("'", "' LETTER", "go to a mark; '' is where the last jump began", p => p.toMark()),
  command('-', '-N -S -R -i -M', 'switch an option of the command line', p => p.toggle()),
  command('= C-g', '=', 'say where in the text this is', p => p.tell()),
  command(':', ':n :p', 'to the next, the previous file', p => p.colon()),
  command('r C-l', 'r C-l', 'draw the screen again', p => p.redraw()),
  command('h H', 'h', 'this help', p => p.help()),
  command('q Q', 'q Q', 'quit', p => p.quit()),
];
const byKey = new Map(commands.flatMap(c => c.keys.map(key => [key === 'SPACE' ? ' ' : key, c] as const)));
/** Commands that jump: where they began is the mark `'`. */
const jumps = ['g', 'G', 'p', 'n', 'N'];

/** The keys as rows of a list: for --help, the manual and the help screen. */
export const keyList: string = commands
  .filter(c => c.shown !== '')
  .map(c => `  ${c.shown.padEnd(16)}${c.help}`)
  .join('\n');

/** Pages through texts on a screen that is taken. Returns the exit status. */
export class Pager {
  view!: View;
  private readonly sys: Sys;
  private readonly screen: Screen;
  private readonly sources: readonly Source[];
  private readonly options: PagerOptions;
  private file = 0;
  private count = ''; // digits typed
  private message = '';
  private fresh = true; // the prompt is the file's name
  private following = false;
  private leaving = false;
  private status = 0;
  private search: { readonly pattern: Regex; readonly backwards: boolean; lineAt: number } | null = null;
  private readonly marks = new Map<string, number>();

  constructor(sys: Sys, screen: Screen, sources: readonly Source[], options: PagerOptions) {
    this.sys = sys;
    this.screen = screen;
    this.sources = sources;
    this.options = options;
  }

  get half(): number {
    return Math.max(1, this.view.height >> 1);
  }

  *run(): Generator<void, number, void> {
    this.open(0);
    this.view.resize(this.screen.columns, this.screen.rows - 1);
    const { start } = this.options;
    if (start === 'G') yield* this.toEnd(null);
    else if (/^[0-9]+$/.test(start)) yield* this.view.toLine(Number(start));
    else if (start.startsWith('/')) yield* this.begin(start.slice(1), false, 1);
    if (this.options.follow) yield* this.startFollowing();
    while (!this.leaving) {
      yield* this.draw();
      yield* this.press(yield* this.screen.key(this.following ? FOLLOW_MS : -1));
    }
    return this.status;
  }

  private open(file: number): void {
    this.file = file;
    this.view = new View(this.sources[file]!.doc, this.options);
    this.view.pattern = this.search?.pattern ?? null;
    this.fresh = true;
  }

  // ── The screen ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private *draw(): Step {
    const { view, screen } = this;
    view.resize(screen.columns, screen.rows - 1);
    const rows = yield* view.draw();
    while (rows.length < view.height) rows.push('~');
    const prompt = yield* this.prompt();
    yield* screen.show([...rows, prompt.text], prompt.columns);
  }

  private *prompt(): Generator<void, { text: string; columns: number }, void> {
    const marked = (text: string): { text: string; columns: number } => {
      const cut = clipped(text, this.screen.columns - 1);
      return { text: reverse(cut), columns: cut.length };
    };
    if (this.message !== '') return marked(this.message);
    if (this.following) return marked('Waiting for data... (Ctrl-C or a key ends it)');
    if (this.count !== '') return { text: `:${this.count}`, columns: 1 + this.count.length };
    const end = this.view.atEnd ? '(END)' : '';
    if (this.options.longPrompt) return marked(yield* this.position());
    if (this.fresh && this.name !== '') return marked(`${this.name} ${end}`.trimEnd());
    return end === '' ? { text: ':', columns: 1 } : marked(end);
  }

  private get name(): string {
    const { name } = this.sources[this.file]!;
    return this.sources.length > 1 ? `${name} (file ${this.file + 1} of ${this.sources.length})` : name;
  }

  /** `NAME lines 1-23 45%`. */
  private *position(): Generator<void, string, void> {
    const { doc, top, below, atEnd } = this.view;
    const first = yield* doc.lineNumber(top.at);
    const last = yield* doc.lineNumber(Math.max(top.at, below.row > 0 ? below.at : below.at - 1));
    const share = atEnd ? '(END)' : doc.ended ? `${Math.floor((100 * below.at) / doc.size)}%` : '';
    const trouble = atEnd && doc.trouble !== '' ? `(${doc.trouble})` : '';
    return [this.name, doc.size === 0 ? 'empty' : `lines ${first}-${last}`, share, trouble].filter(Boolean).join(' ');
  }

  // ── Keys ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private *press(key: Key): Step {
    this.message = '';
    if (key === EVENT.timeout) return yield* this.follow();
    if (key === EVENT.end) return yield* this.quit();
    if (key === EVENT.redraw) return;
    const followed = this.following;
    this.following = false;
    if (key === EVENT.interrupt) return followed || this.count !== '' ? void (this.count = '') : yield* this.abandon();
    if (/^[0-9]$/.test(key) && this.count.length < 9) return void (this.count += key);
    if (key === 'Escape' || key === 'Backspace') return void (this.count = this.count.slice(0, -1));
    if (key === 'Z') return (yield* this.screen.key()) === 'Z' ? yield* this.quit() : undefined;
    const found = byKey.get(key);
    const n = this.count === '' ? null : Number(this.count);
    this.count = '';
    if (found === undefined) return yield* this.screen.bell();
    this.fresh = false;
    if (jumps.includes(found.keys[0]!)) this.marks.set("'", this.view.top.at);
    yield* found.run(this, n);
  }

  /** Ctrl-C: ends reading or searching where one waits for it, else the pager. */
  private *abandon(): Step {
    if (!this.view.doc.ended && this.view.below.at >= this.view.doc.size && this.view.top.at > 0) return;
    this.status = 2;
    yield* this.quit();
  }

  *quit(): Step {
    this.leaving = true;
  }

  *down(n: number): Step {
    if ((yield* this.view.forward(n)) === 0) yield* this.screen.bell();
  }

  *up(n: number): Step {
    if ((yield* this.view.backward(n)) === 0) yield* this.screen.bell();
  }

  *shift(direction: number): Step {
    const { view } = this;
    const wanted = Math.max(0, view.left + direction * (view.columns >> 1));
    if (!this.options.chop || wanted === view.left) return yield* this.screen.bell();
    view.left = wanted;
  }

  *toEnd(line: number | null): Step {
    if (line !== null) yield* this.view.toLine(line);
    else if (!(yield* this.view.toEnd())) this.message = 'Interrupted';
  }

  *toPercent(percent: number): Step {
    if (!(yield* this.view.doc.fill(Infinity))) return void (this.message = 'Interrupted');
    yield* this.view.toByte(Math.floor((this.view.doc.size * Math.min(percent, 100)) / 100));
  }

  *redraw(): Step {
    this.screen.forget();
  }

  *tell(): Step {
    const { doc } = this.view;
    this.message = `${yield* this.position()} byte ${this.view.below.at}${doc.ended ? `/${doc.size}` : ''}`;
  }

  // ── Following ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  *startFollowing(): Step {
    this.following = true;
    yield* this.follow();
  }

  /** The end, as it is now. A stream is waited for, and what comes is shown, until it ends or a key interrupts. */
  private *follow(): Step {
    const { doc } = this.view;
    while (!doc.ended) {
      yield* this.lastScreen();
      yield* this.draw();
      if (!(yield* doc.fill(doc.size + 1))) return;
    }
    yield* doc.grow();
    yield* this.lastScreen();
  }

  private *lastScreen(): Step {
    this.view.reset();
    this.view.top = { at: this.view.doc.size, row: 0 };
    yield* this.view.backward(this.view.height);
  }

  // ── Searching ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  *ask(mark: '/' | '?', n: number | null): Step {
    const text = yield* this.line(mark);
    if (text === null) return;
    if (text === '') return yield* this.searchAgain(n ?? 1, mark === '?' && this.search?.backwards === false);
    yield* this.begin(text, mark === '?', n ?? 1);
  }

  private *begin(text: string, backwards: boolean, n: number): Step {
    const ignoreCase = this.options.ignoreCase && text === text.toLowerCase();
    const pattern = compileRegex(text, 'extended', { ignoreCase, word: false, line: false });
    if (typeof pattern === 'string') return void (this.message = pattern);
    this.marks.set("'", this.view.top.at);
    this.search = { pattern, backwards, lineAt: -1 };
    this.view.pattern = pattern;
    this.view.highlight = true;
    yield* this.searchAgain(n, false);
  }

  /** Goes on from the last match where that is on the screen, else from the screen. */
  *searchAgain(n: number, opposite: boolean): Step {
    const { search, view } = this;
    if (search === null) return void (this.message = 'No previous regular expression');
    const backwards = search.backwards !== opposite;
    const { top, below, doc } = view;
    const seen = search.lineAt >= top.at && search.lineAt < below.at;
    let at = seen ? search.lineAt : top.at;
    for (let i = 0; i < n; i++) {
      const from = backwards || (i === 0 && !seen) ? at : yield* doc.lineEnd(at);
      const found = from < 0 ? null : yield* view.search(search.pattern, from, backwards);
      if (found === null) return void (this.message = 'Interrupted');
      if (found < 0) return void (this.message = 'Pattern not found');
      at = found;
    }
    search.lineAt = at;
    if (at < top.at || at >= below.at) view.top = { at, row: 0 };
  }

  *toggleHighlight(): Step {
    this.view.highlight = !this.view.highlight;
  }

  // ── Other things asked for on the last row ─────────────────────────────────────────────────────────────────────────────────────

  /** A line typed on the last row; null when it is given up. */
  private *line(prompt: string): Generator<void, string | null, void> {
    let text = '';
    for (;;) {
      yield* this.lastRow(prompt + text);
      const key = yield* this.screen.key();
      if (key === 'Enter') return text;
      if (key === EVENT.end) yield* this.quit();
      if (key === EVENT.end || key === EVENT.interrupt || key === 'C-g' || key === 'Escape') return null;
      if (key === 'Backspace' && text === '') return null;
      if (key === 'Backspace') text = text.slice(0, text.length - [...text].at(-1)!.length);
      else if (key === 'C-u') text = '';
      else if (key === EVENT.redraw) yield* this.draw();
      else if ([...key].length === 1 && text.length < LINE_INPUT_MAX) text += key;
      else yield* this.screen.bell();
    }
  }

  private *lastRow(text: string): Step {
    // The end of a long line is what is being typed.
    let shown = text;
    while (clipped(shown, this.screen.columns - 1) !== shown) shown = shown.slice([...shown][0]!.length);
    yield* this.screen.showLast(shown);
  }

  /** One key after a prompt. */
  private *keyAfter(prompt: string): Generator<void, Key, void> {
    yield* this.lastRow(prompt);
    return yield* this.screen.key();
  }

  *mark(): Step {
    const letter = yield* this.keyAfter('mark: ');
    if (/^[a-zA-Z]$/.test(letter)) this.marks.set(letter, this.view.top.at);
    else yield* this.screen.bell();
  }

  *toMark(): Step {
    const letter = yield* this.keyAfter('goto mark: ');
    const at = letter === '^' ? 0 : letter === '$' ? this.view.doc.size : this.marks.get(letter);
    if (at === undefined) return void (this.message = 'Mark not set');
    const { top } = this.view;
    this.view.top = { at: Math.min(at, this.view.doc.size), row: 0 };
    this.marks.set("'", top.at);
  }

  *toggle(): Step {
    const letter = yield* this.keyAfter('-');
    const { options } = this;
    const switches: Record<string, keyof ViewOptions | 'ignoreCase' | 'longPrompt'> = {
      N: 'numbers',
      S: 'chop',
      R: 'colours',
      i: 'ignoreCase',
      M: 'longPrompt',
    };
    const name = switches[letter];
    if (name === undefined) return yield* this.screen.bell();
    options[name] = !options[name];
    this.view.left = 0;
    this.view.reset();
    this.message = `-${letter} is ${options[name] ? 'on' : 'off'}`;
  }

  *colon(): Step {
    const key = yield* this.keyAfter(':');
    const wanted = key === 'n' ? this.file + 1 : key === 'p' ? this.file - 1 : -1;
    if (key === 'q') return yield* this.quit();
    if (key !== 'n' && key !== 'p') return yield* this.screen.bell();
    if (this.sources[wanted] === undefined) this.message = `No ${key === 'n' ? 'next' : 'previous'} file`;
    else this.open(wanted);
  }

  *help(): Step {
    const fd = yield* this.sys.memfd('help');
    if (fd < 0) return void (this.message = strerror(fd));
    const text = `Keys. N is a number typed before the key.\n\n${keyList}\n\nOutside of these: Ctrl-Z stops, Ctrl-C interrupts.\n`;
    yield* writeAll(this.sys, fd, utf8Encode(text));
    const doc = yield* Document.open(this.sys, fd);
    if (typeof doc === 'number') return void (this.message = strerror(doc));
    const options = { ...this.options, numbers: false, follow: false, start: '' };
    yield* new Pager(this.sys, this.screen, [{ name: 'help: q goes back', doc }], options).run();
    yield* this.sys.close(fd);
  }
}
