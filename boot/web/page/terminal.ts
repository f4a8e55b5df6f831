// The terminal: xterm.js as a VT that the machine's tty drives. Everything is bytes in order, both ways; what has been drawn is told back, so
// that a machine whose output nobody has seen yet waits. Drawn by WebGL where the browser has it, by the document where not or when the
// graphics processor takes its context back. F6 leaves it by keyboard, for Tab is the machine's.

import { FitAddon } from '@xterm/addon-fit';
import type { SearchAddon } from '@xterm/addon-search';
import { WebLinksAddon } from '@xterm/addon-web-links';
import { Terminal } from '@xterm/xterm';
import { button, byId, el, icon } from './dom.ts';
import { KeyRow } from './keys.ts';
import { notice } from './notices.ts';
import { Reader } from './reader.ts';
import { onChoice, settings } from './settings.ts';
import { colour, onTheme, terminalTheme } from './theme.ts';
import { scrollByFinger } from './touch.ts';
import { WIDTHS } from './widths.ts';

export interface TerminalEvents {
  readonly input: (bytes: Uint8Array) => void;
  readonly resized: (columns: number, rows: number) => void;
  /** So many bytes have been parsed. */
  readonly shown: (bytes: number) => void;
  /** The person wants out: F6. */
  readonly leave: (isBackward: boolean) => void;
}

const COLUMNS = 80;
const FONT_PX = { least: 10, most: 14 } as const;
const SCROLLBACK_LINES = 5000;
/** Beside the columns: the scroll bar, and in it where something has been found. */
const SCROLLBAR_PX = 10;

export class TerminalPane {
  readonly xterm: Terminal;
  readonly #events: TerminalEvents;
  readonly #fit = new FitAddon();
  readonly #screen = byId('xterm');
  readonly #keys: KeyRow;
  readonly #find: Find;
  /** A given size, while what somebody has sent is replayed; null: what fits. */
  #fixed: { readonly columns: number; readonly rows: number } | null = null;

  constructor(events: TerminalEvents) {
    this.#events = events;
    const xterm = new Terminal({
      allowProposedApi: true, // unicode, decorations of what is found
      convertEol: false,
      cursorBlink: !matchMedia('(prefers-reduced-motion: reduce)').matches,
      fontFamily: getComputedStyle(document.documentElement).getPropertyValue('--mono').trim(),
      fontSize: FONT_PX.most,
      linkHandler: { activate: (_, uri) => openLink(uri) },
      minimumContrastRatio: 4.5,
      overviewRuler: { width: SCROLLBAR_PX },
      scrollback: SCROLLBACK_LINES,
      smoothScrollDuration: 0,
      theme: terminalTheme(),
    });
    this.xterm = xterm;
    this.#find = new Find(xterm, () => this.focus());
    this.#keys = new KeyRow(byId('keys'), {
      input: data => xterm.input(data),
      focus: () => this.focus(),
      applicationArrows: () => xterm.modes.applicationCursorKeysMode,
    });
    xterm.loadAddon(this.#fit);
    xterm.unicode.register(WIDTHS);
    xterm.unicode.activeVersion = WIDTHS.version;
    xterm.loadAddon(new WebLinksAddon((_, uri) => openLink(uri)));
    xterm.open(this.#screen);
    scrollByFinger(xterm, this.#screen);
    const { textarea } = xterm;
    textarea?.setAttribute('aria-label', 'Terminal input. F6 leaves the terminal.');
    xterm.attachCustomKeyEventHandler(event => this.#key(event));
    const encoder = new TextEncoder();
    xterm.onData(data => events.input(encoder.encode(this.#keys.translate(data))));
    xterm.onResize(({ cols, rows }) => {
      byId('size').textContent = `${cols} × ${rows}`;
      events.resized(cols, rows);
    });
    this.#follow();
    this.#buttons();
    this.fit();
    byId('size').textContent = `${xterm.cols} × ${xterm.rows}`;
  }

  /** What may change while it is shown: its size, the scheme, the choices. */
  #follow(): void {
    const reader = new Reader(this.xterm, byId('spoken'));
    const chosen = (): void => {
      reader.on = settings().isSpoken;
      this.fit();
    };
    onChoice(chosen);
    chosen();
    onTheme(() => {
      this.xterm.options.theme = terminalTheme();
      this.#find.recolour();
    });
    new ResizeObserver(() => this.fit()).observe(this.#screen);
  }

  #buttons(): void {
    const words = [
      ['Find', 'Find in the terminal', () => this.#find.open()],
      ['Copy', 'Copy the selection, or the screen', () => void this.copy()],
      ['Paste', 'Paste into the terminal', () => void this.paste()],
    ] as const;
    byId('strip').append(
      ...words.map(([text, label, press]) => button(text, press, { class: 'quiet', 'aria-label': label })),
    );
  }

  write(bytes: Uint8Array): void {
    byId('veil').hidden = true;
    this.xterm.write(bytes, () => this.#events.shown(bytes.length));
  }

  /** A line of the page's own, on a row of its own. */
  say(text: string): void {
    byId('veil').hidden = true;
    this.xterm.write(`${this.xterm.buffer.active.cursorX > 0 ? '\r\n' : ''}${text}\r\n`);
  }

  /** As after power-on. */
  clear(): void {
    this.xterm.reset();
  }

  focus(): void {
    this.xterm.focus();
  }

  /** Of exactly this size, or, with null, of the one that fits. */
  hold(size: { readonly columns: number; readonly rows: number } | null): void {
    this.#fixed = size;
    this.fit();
  }

  /** The font that gives 80 columns, within what can be read; then as many columns and rows as there is room for. */
  fit(): void {
    if (this.#screen.offsetParent === null) return; // another view has the window
    const { fontPx } = settings();
    this.xterm.options.fontSize = fontPx > 0 ? fontPx : this.#fontFor80();
    if (this.#fixed !== null) this.xterm.resize(this.#fixed.columns, this.#fixed.rows);
    else this.#fit.fit();
  }

  #fontFor80(): number {
    const room = this.#screen.clientWidth - SCROLLBAR_PX;
    return this.#wholeCells(Math.min(FONT_PX.most, Math.max(FONT_PX.least, room / (COLUMNS * this.#cellWidth(1)))));
  }

  /**
   * The nearest smaller font whose columns are whole pixels of the screen and a 30th: the renderer of the document takes columns as they are
   * (measured to a 32nd), WebGL rounds them down.
   */
  #wholeCells(px: number): number {
    const pixels = Math.floor(this.#cellWidth(px) * devicePixelRatio + 0.01);
    return (pixels + 1 / 30) / devicePixelRatio / this.#cellWidth(1);
  }

  /** Pixels a column takes in a font of `px`. */
  #cellWidth(px: number): number {
    const context = document.createElement('canvas').getContext('2d')!;
    context.font = `100px ${this.xterm.options.fontFamily}`;
    return (context.measureText('W').width / 100) * px;
  }

  /** Pixels that 80 columns of the chosen font, or the largest automatic one, take with everything beside them. */
  width80(): number {
    const { paddingLeft } = getComputedStyle(this.#screen.parentElement!);
    // And half a column: engines measure characters to different fractions.
    const cells = Math.ceil((COLUMNS + 0.5) * this.#cellWidth(settings().fontPx || this.#wholeCells(FONT_PX.most)));
    return cells + Number.parseFloat(paddingLeft) + SCROLLBAR_PX;
  }

  /** The selection; without one, what is on the screen. */
  async copy(): Promise<void> {
    const selection = this.xterm.getSelection();
    try {
      await navigator.clipboard.writeText(selection || this.#screenText());
      if (selection === '') notice('note', 'Nothing was selected: the whole screen has been copied.');
    } catch {
      notice('trouble', 'This browser does not let the page write to the clipboard: select, then copy with its menu.');
    }
    this.focus();
  }

  #screenText(): string {
    const buffer = this.xterm.buffer.active;
    const rows = Array.from({ length: this.xterm.rows }, (_, y) => buffer.getLine(buffer.viewportY + y));
    return rows
      .map(row => row?.translateToString(true) ?? '')
      .join('\n')
      .trimEnd();
  }

  async paste(): Promise<void> {
    try {
      this.xterm.paste(await navigator.clipboard.readText());
    } catch {
      notice('trouble', 'This browser does not let the page read the clipboard: paste with Ctrl+Shift+V or its menu.');
    }
    this.focus();
  }

  /** False: the key is not the machine's. */
  #key(event: KeyboardEvent): boolean {
    const chord = event.ctrlKey && event.shiftKey && !event.altKey && !event.metaKey ? event.code : '';
    if (event.key === 'F6') {
      if (event.type === 'keydown') this.#events.leave(event.shiftKey);
    } else if (chord === 'KeyC') {
      if (event.type === 'keydown') void this.copy();
    } else if (chord === 'KeyF') {
      if (event.type === 'keydown') this.#find.open();
    } else return chord !== 'KeyV' && !/^F[89]$/.test(event.key); // pasting is the browser's, F8 and F9 are the time controls'
    event.preventDefault();
    return false;
  }

  /** The fast renderer, fetched when the machine runs already. */
  async drawWithWebgl(): Promise<void> {
    if (!hasGraphics()) return this.#drawnBy('dom');
    try {
      const { WebglAddon } = await import('@xterm/addon-webgl');
      const webgl = new WebglAddon();
      webgl.onContextLoss(() => {
        webgl.dispose();
        this.#drawnBy('dom');
        notice('note', 'The graphics processor is gone: the terminal is drawn without it. Nothing is lost.');
      });
      this.xterm.loadAddon(webgl);
      this.#drawnBy('webgl');
    } catch {
      this.#drawnBy('dom'); // as it was until now
    }
  }

  /** Each has its own width of a column. */
  #drawnBy(renderer: 'webgl' | 'dom'): void {
    this.#screen.dataset['renderer'] = renderer;
    this.fit();
  }
}

/** http and https only, in a window that knows nothing of this one. */
function openLink(uri: string): void {
  if (/^https?:/i.test(uri)) window.open(uri, '_blank', 'noopener,noreferrer');
}

/** The bar that finds text in what the terminal remembers. */
class Find {
  readonly #xterm: Terminal;
  readonly #bar = byId('find');
  readonly #text = el('input', { type: 'search', 'aria-label': 'Text to find', spellcheck: 'false' });
  readonly #count = el('span', { class: 'muted figures', role: 'status' });
  readonly #leave: () => void;
  #addon: Promise<SearchAddon> | null = null;

  constructor(xterm: Terminal, leave: () => void) {
    this.#xterm = xterm;
    this.#leave = leave;
    this.#bar.append(
      this.#text,
      this.#count,
      button('Previous', () => void this.#next(true), { 'aria-label': 'Previous match' }),
      button('Next', () => void this.#next(false), { 'aria-label': 'Next match' }),
      button(icon('close'), () => this.close(), { class: 'quiet', 'aria-label': 'Close the search' }),
    );
    this.#bar.addEventListener('submit', event => event.preventDefault());
    this.#bar.addEventListener('keydown', event => {
      if (event.key === 'Escape') this.close();
      else if (event.key === 'Enter' && event.target === this.#text) void this.#next(!event.shiftKey);
    });
    this.#text.addEventListener('input', () => void this.#first());
  }

  open(): void {
    this.#bar.hidden = false;
    this.#text.focus();
    this.#text.select();
    void this.#load();
  }

  close(): void {
    this.#bar.hidden = true;
    void this.#addon?.then(addon => addon.clearDecorations());
    this.#leave();
  }

  recolour(): void {
    if (!this.#bar.hidden) void this.#first();
  }

  #load(): Promise<SearchAddon> {
    this.#addon ??= import('@xterm/addon-search').then(({ SearchAddon }) => {
      const addon = new SearchAddon();
      this.#xterm.loadAddon(addon);
      addon.onDidChangeResults(({ resultIndex, resultCount }) => {
        if (this.#text.value === '') this.#count.textContent = '';
        else if (resultCount === 0) this.#count.textContent = 'Not found';
        else
          this.#count.textContent = resultIndex < 0 ? `${resultCount} found` : `${resultIndex + 1} of ${resultCount}`;
      });
      return addon;
    });
    return this.#addon;
  }

  /** The newest match of what has just been typed. */
  #first(): Promise<void> {
    this.#xterm.clearSelection();
    return this.#next(true);
  }

  /** On to the next match in that direction. */
  async #next(isBackward: boolean): Promise<void> {
    const addon = await this.#load();
    const decorations = {
      matchBackground: colour('--select'),
      matchOverviewRuler: colour('--accent'),
      activeMatchBackground: colour('--select'),
      activeMatchBorder: colour('--accent'),
      activeMatchColorOverviewRuler: colour('--accent'),
    };
    if (isBackward) addon.findPrevious(this.#text.value, { decorations });
    else addon.findNext(this.#text.value, { decorations });
  }
}

/** Whether a graphics processor draws WebGL here. Done in software, each frame keeps the main thread for longer than 50 ms; elements do not. */
function hasGraphics(): boolean {
  const canvas = document.createElement('canvas');
  const context = canvas.getContext('webgl2', { failIfMajorPerformanceCaveat: true });
  const names = context?.getExtension('WEBGL_debug_renderer_info');
  const renderer = names ? String(context?.getParameter(names.UNMASKED_RENDERER_WEBGL)) : '';
  context?.getExtension('WEBGL_lose_context')?.loseContext(); // browsers have few of them
  return context !== null && !/swiftshader|llvmpipe|software/i.test(renderer);
}
