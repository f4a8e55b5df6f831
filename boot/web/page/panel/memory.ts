// Memory: the arena to scale, in rows as text is set in lines, so that also regions of a few KiB can be told apart in 8 MiB. A region opens
// to its own scale; in the weights the tensors are named, in kv the pages. From the arena's map in docs/MEMORY.md.

import { el } from '../dom.ts';
import { enter, FigureTable, roving, setAttribute, setHidden, setText } from './dom.ts';
import { count, percent, size } from './format.ts';
import { parseArena, piecesOf, rowBytesOf, type ArenaMap, type Region } from './parse-arena.ts';
import { modelFile, openCommand, parseTensors, type Tensor } from './parse-tensors.ts';
import { pageText, parsePages, type Page } from './parse-pages.ts';
import type { Desk, Seen, View } from './view.ts';

/** Rows of a map at most: of 512 KiB each where it is the arena. */
const ROWS = 16;
/** Characters that a row surely has room for: names of stretches that are too narrow are left to the list. */
const ROW_CHARACTERS = 50;
/** Regions laid out at boot: the machine itself. */
const FIXED = new Set(['null', 'constants', 'tables', 'prices', 'audit', 'window', 'dma', 'pipes']);

/** What is pointed at, in a sentence: it describes whatever of the list has the focus. */
const CAPTION = 'panel-memory-caption';
const PATHS = ['/proc/arena', '/proc/tensors', '/proc/models'];

/** A stretch of memory that is drawn and named. */
interface Stretch {
  readonly name: string;
  /** In the map, where there is room. */
  readonly label: string;
  readonly startAt: number;
  readonly endAt: number;
  /** How it is filled: a class of panel.css. */
  readonly look: string;
  /** Right in the list: figures that tell it from its neighbours. */
  readonly figures: string;
  /** In a sentence. */
  readonly caption: string;
  readonly open: () => void;
}

export function memoryView(desk: Desk): View {
  return new MemoryView(desk);
}

class MemoryView implements View {
  readonly name = 'memory' as const;
  readonly about = 'The arena to scale: every byte that the machine has.';
  readonly trace = false;
  readonly everyMs = 250;
  private readonly map = new StretchMap();
  private readonly back = el(
    'button',
    { type: 'button', class: 'back', onclick: () => this.zoom(null) },
    'Whole arena',
  );
  private readonly here = el('span', { class: 'here' });
  private readonly crumbs = el('div', { class: 'way' }, this.back, '›', this.here);
  private readonly caption = el('p', { class: 'caption', id: CAPTION });
  private readonly list = el('div', { class: 'stretches', role: 'group' });
  readonly figure = el('div', { class: 'memory' }, this.crumbs, this.map.element, this.caption, this.list);
  private readonly regionsTable = new FigureTable(
    'Regions of the arena, in bytes',
    ['region', 'start', 'end', 'bytes', 'used', 'peak'],
    new Set(['start', 'end', 'bytes', 'used', 'peak']),
  );
  private readonly tensorsTable = new FigureTable(
    'Tensors in the arena',
    ['name', 'type', 'shape', 'at', 'bytes'],
    new Set(['at', 'bytes']),
  );
  readonly tables = [this.regionsTable.element, this.tensorsTable.element];
  /** The region that is seen alone. */
  private opened: string | null = null;
  private drawn = '';
  private stretches: readonly Stretch[] = [];
  private items: StretchItem[] = [];
  private summary = '';
  private pointed = -1;

  constructor(private readonly desk: Desk) {
    const { figure, list } = this;
    figure.addEventListener('pointerover', event => this.point(indexOf(event.target)));
    figure.addEventListener('pointerleave', () => this.point(-1));
    list.addEventListener('focusin', event => this.point(indexOf(event.target)));
    figure.addEventListener('click', event => this.stretches[indexOf(event.target)]?.open());
    figure.addEventListener('keydown', event => {
      if (event.key !== 'Escape' || this.opened === null) return;
      event.preventDefault();
      this.zoom(null);
    });
    roving(list, () => this.buttons);
  }

  get paths(): readonly string[] {
    return this.opened === 'kv' ? [...PATHS, '/proc/pages'] : PATHS;
  }

  command(): string {
    return 'free -v';
  }

  probe(): null {
    return null;
  }

  update(seen: Seen): string {
    const text = [this.opened, ...this.paths.map(path => seen.file(path))].join('\0');
    if (text === this.drawn) return '';
    const arena = parseArena(seen.file('/proc/arena'));
    if (arena === null) return 'The machine is off: switch it on to see its memory.';
    this.drawn = text;
    const tensors = parseTensors(seen.file('/proc/tensors'));
    this.draw(arena, tensors, seen);
    this.regionsTable.set(
      [...arena.regions, arena.total].map(r => [r.name, ...[r.startAt, r.endAt, r.bytes, r.used, r.peak].map(count)]),
    );
    this.tensorsTable.set(
      tensors.map(t => [t.name, t.type, t.shape, t.at < 0 ? 'streamed' : count(t.at), count(t.bytes)]),
    );
    return '';
  }

  private get buttons(): readonly HTMLElement[] {
    return this.items.map(item => item.element);
  }

  private zoom(region: string | null): void {
    const from = this.opened;
    const isInside = this.figure.contains(document.activeElement);
    this.opened = region;
    this.desk.changed();
    // The focus goes along: into what has opened, or back to where it was opened.
    if (!isInside) return;
    requestAnimationFrame(() => {
      const at = region === null ? this.stretches.findIndex(s => s.name === from) : 0;
      this.items[at]?.element.focus();
    });
  }

  /** Marks a stretch in map and list, and says what it is; -1: none. */
  private point(index: number): void {
    this.map.point(index);
    this.items[this.pointed]?.element.classList.remove('pointed');
    this.items[index]?.element.classList.add('pointed');
    this.pointed = index;
    setText(this.caption, this.stretches[index]?.caption ?? this.summary);
  }

  private draw(arena: ArenaMap, tensors: readonly Tensor[], seen: Seen): void {
    const region = arena.regions.find(r => r.name === this.opened) ?? arena.total;
    const isWhole = region === arena.total;
    const file = modelFile(seen.file('/proc/models'));
    if (isWhole) this.stretches = arena.regions.map(r => ofRegion(r, arena, () => this.zoom(r.name)));
    else if (region.name === 'kv') this.stretches = insidePool(region, parsePages(seen.file('/proc/pages')));
    else this.stretches = inside(region, tensors, tensor => this.desk.type(openCommand(file, tensor.name)));
    this.summary = isWhole
      ? `${count(region.used)} of ${count(region.bytes)} bytes used, high-water mark ${count(region.peak)}.`
      : `${region.name}: ${count(region.bytes)} bytes from ${count(region.startAt)} to ${count(region.endAt)}, high-water mark ${count(region.peak)}.`;
    setHidden(this.crumbs, isWhole);
    setText(this.here, region.name);
    this.figure.classList.toggle('inside', !isWhole && region.name !== 'kv');
    this.map.draw(this.stretches, region, isWhole ? region.peak : region.startAt + region.peak);
    this.drawList(isWhole ? 'Regions of the arena' : `Inside ${region.name}`);
    this.point(this.pointed < this.stretches.length ? this.pointed : -1);
  }

  private drawList(label: string): void {
    const { items, list, stretches } = this;
    while (items.length > stretches.length) items.pop()!.element.remove();
    while (items.length < stretches.length) {
      const item = new StretchItem(items.length);
      items.push(item);
      list.append(item.element);
    }
    stretches.forEach((s, i) => items[i]!.set(s));
    setAttribute(list, 'aria-label', label);
    if (!items.some(item => item.element.tabIndex === 0)) enter(this.buttons);
  }
}

/** Which stretch an element stands for; -1: none. */
function indexOf(target: EventTarget | null): number {
  const element = (target as HTMLElement | null)?.closest<HTMLElement>('[data-stretch]');
  return Number(element?.dataset['stretch'] ?? -1);
}

function ofRegion(r: Region, arena: ArenaMap, open: () => void): Stretch {
  return {
    name: r.name,
    label: r.name,
    startAt: r.startAt,
    endAt: r.endAt,
    look: FIXED.has(r.name) ? 'fixed' : r.name,
    figures: size(r.bytes),
    caption: `${r.name}: ${count(r.startAt)} to ${count(r.endAt)}, ${count(r.bytes)} bytes, ${count(r.used)} used, high-water mark ${count(r.peak)}; ${percent(r.bytes / arena.total.bytes)} of the arena.`,
    open,
  };
}

/** The pool's pages, and behind them what the kernel notes of them. */
function insidePool(region: Region, pages: readonly Page[]): Stretch[] {
  const placed = pages.filter(page => page.page >= 0);
  const pageBytes = (placed[1]?.at ?? region.endAt) - region.startAt;
  const stretches = placed.map(page => ({
    name: `page ${page.page}`,
    label: String(page.page),
    startAt: page.at,
    endAt: page.at + pageBytes,
    look: `page ${page.state}`,
    figures: `${page.state}  ${page.sessions.map(id => `#${id}`).join(' ')}`,
    caption: pageText(page),
    open: () => {},
  }));
  return stretches.length === 0 ? inside(region, [], () => {}) : stretches;
}

/** A region's inside: its tensors where it holds some, else itself. */
function inside(region: Region, tensors: readonly Tensor[], open: (tensor: Tensor) => void): Stretch[] {
  const held = tensors.filter(t => t.at >= region.startAt && t.at < region.endAt);
  if (held.length === 0)
    return [
      {
        name: region.name,
        label: region.name,
        startAt: region.startAt,
        endAt: region.endAt,
        look: FIXED.has(region.name) ? 'fixed' : region.name,
        figures: size(region.bytes),
        caption: `${region.name}: ${count(region.bytes)} bytes, ${count(region.used)} used.`,
        open: () => {},
      },
    ];
  return held.map(t => ({
    name: t.name,
    label: t.name.replace(/^blk\./, '').replace(/\.weight$/, ''),
    startAt: t.at,
    endAt: t.at + t.bytes,
    look: `tensor layer-${t.layer < 0 ? 'none' : t.layer % 2}`,
    figures: `${t.type}  ${t.shape}  ${size(t.bytes)}`,
    caption: `${t.name}: ${t.type}, ${t.shape}, ${count(t.bytes)} bytes at ${count(t.at)}. Enter or a click opens it in the shell.`,
    open: () => open(t),
  }));
}

/** A stretch in the list: how keyboards and readers reach it. */
class StretchItem {
  readonly element: HTMLElement;
  private readonly swatch = el('span', { class: 'swatch' });
  private readonly name = el('span', { class: 'name' });
  private readonly figures = el('span', { class: 'figures' });

  constructor(index: number) {
    this.element = el(
      'button',
      { type: 'button', class: 'stretch', 'data-stretch': index, 'aria-describedby': CAPTION, tabindex: -1 },
      this.swatch,
      this.name,
      this.figures,
    );
  }

  set(s: Stretch): void {
    setAttribute(this.swatch, 'class', `swatch ${s.look}`);
    setText(this.name, s.name);
    setText(this.figures, s.figures);
  }
}

/** Stretches in rows. While they lie where they lay only their looks are drawn again. */
class StretchMap {
  readonly element = el('div', { class: 'map', 'aria-hidden': 'true' });
  /** Pieces of each stretch. */
  private pieces: HTMLElement[][] = [];
  private geometry = '';

  /** `markAt`: the high-water mark. */
  draw(stretches: readonly Stretch[], { startAt, endAt }: Region, markAt: number): void {
    const places = stretches.map(s => `${s.name} ${s.startAt} ${s.endAt}`);
    const geometry = [startAt, endAt, markAt, ...places].join(';');
    if (geometry !== this.geometry) this.layOut(stretches, startAt, endAt, markAt);
    this.geometry = geometry;
    stretches.forEach((s, i) => {
      for (const piece of this.pieces[i]!) setAttribute(piece, 'class', `piece ${s.look}`);
    });
  }

  point(index: number): void {
    for (const marked of this.element.querySelectorAll('.pointed')) marked.classList.remove('pointed');
    for (const piece of this.pieces[index] ?? []) piece.classList.add('pointed');
  }

  private layOut(stretches: readonly Stretch[], startAt: number, endAt: number, markAt: number): void {
    const rowBytes = rowBytesOf(endAt - startAt, ROWS);
    const rows = Array.from({ length: Math.ceil((endAt - startAt) / rowBytes) }, () => el('div', { class: 'map-row' }));
    this.pieces = stretches.map((s, index) => {
      const pieces = piecesOf(s.startAt, s.endAt, startAt, rowBytes);
      const widest = Math.max(...pieces.map(p => p.to - p.from));
      const wide = pieces.filter(p => p.to - p.from === widest);
      const named = wide[(wide.length - 1) >> 1];
      return pieces.map(piece => {
        const element = el('div', { 'data-stretch': index });
        element.style.left = `${piece.from * 100}%`;
        element.style.width = `${(piece.to - piece.from) * 100}%`;
        if (piece === named && widest * ROW_CHARACTERS > s.label.length) element.append(el('span', {}, s.label));
        rows[piece.row]!.append(element);
        return element;
      });
    });
    for (const { row, to } of markAt > startAt && markAt <= endAt
      ? piecesOf(markAt - 1, markAt, startAt, rowBytes)
      : []) {
      const mark = el('div', { class: 'mark' });
      mark.style.left = `${to * 100}%`;
      rows[row]!.append(mark);
    }
    const addresses = rows.map((_, i) => el('span', {}, size(startAt + i * rowBytes)));
    this.element.replaceChildren(
      el('div', { class: 'addresses' }, ...addresses),
      el('div', { class: 'rows' }, ...rows),
    );
  }
}
