// Memory: the arena to scale, in rows as text is set in lines, so that also regions of a few KiB can be told apart in 8 MiB. A region opens
// to its own scale; in the weights the tensors are named, in kv the pages. From the arena's map in docs/MEMORY.md.

import { el } from '../dom.ts';
import { enter, FigureTable, roving, setHidden, setText } from './dom.ts';
import { count, percent, size } from './format.ts';
import { parseArena, piecesOf, rowBytesOf, type ArenaMap, type Region } from './parse-arena.ts';
import { parseTensors, openCommand, type Tensor } from './parse-tensors.ts';
import { pageText, parsePages, type Page } from './parse-pages.ts';
import type { Desk, Seen, View } from './view.ts';

/** Rows of a map at most: of 512 KiB each where it is the arena. */
const ROWS = 16;
/** Regions laid out at boot: the machine itself. */
const FIXED = new Set(['null', 'constants', 'tables', 'prices', 'audit', 'window', 'dma', 'pipes']);

const PATHS = ['/proc/arena', '/proc/tensors', '/proc/models'];

/** A stretch of memory that is drawn and named. */
interface Stretch {
  readonly name: string;
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
  const map = el('div', { class: 'map', 'aria-hidden': 'true' });
  const back = el('button', { type: 'button', class: 'crumb', onclick: () => zoom(null) }, 'Whole arena');
  const here = el('span', { class: 'here' });
  const caption = el('p', { class: 'caption' });
  const list = el('div', { class: 'stretches', role: 'group' });
  const crumbs = el('div', { class: 'crumbs' }, back, '›', here);
  const figure = el('div', { class: 'memory' }, crumbs, map, caption, list);
  const regionsTable = new FigureTable(
    'Regions of the arena, in bytes',
    ['region', 'start', 'end', 'bytes', 'used', 'peak'],
    new Set(['start', 'end', 'bytes', 'used', 'peak']),
  );
  const tensorsTable = new FigureTable(
    'Tensors in the arena',
    ['name', 'type', 'shape', 'at', 'bytes'],
    new Set(['at', 'bytes']),
  );

  let opened: string | null = null;
  let drawn = '';
  let stretches: readonly Stretch[] = [];
  let buttons: readonly HTMLElement[] = [];
  let summary = '';

  function zoom(region: string | null): void {
    opened = region;
    desk.changed();
  }

  /** Marks a stretch in map and list, and says what it is. */
  function point(index: number): void {
    for (const marked of figure.querySelectorAll('.pointed')) marked.classList.remove('pointed');
    for (const piece of map.querySelectorAll(`[data-stretch="${index}"]`)) piece.classList.add('pointed');
    buttons[index]?.classList.add('pointed');
    setText(caption, stretches[index]?.caption ?? summary);
  }
  const indexOf = (target: EventTarget | null): number =>
    Number((target as HTMLElement | null)?.closest<HTMLElement>('[data-stretch]')?.dataset['stretch'] ?? -1);
  figure.addEventListener('pointerover', event => point(indexOf(event.target)));
  figure.addEventListener('pointerleave', () => point(-1));
  list.addEventListener('focusin', event => point(indexOf(event.target)));
  figure.addEventListener('click', event => stretches[indexOf(event.target)]?.open());
  figure.addEventListener('keydown', event => {
    if (event.key !== 'Escape' || opened === null) return;
    event.preventDefault();
    zoom(null);
  });
  roving(list, () => buttons);

  function draw(arena: ArenaMap, seen: Seen): void {
    const region = arena.regions.find(r => r.name === opened) ?? null;
    const file = modelFile(seen.file('/proc/models'));
    const tensors = parseTensors(seen.file('/proc/tensors'));
    stretches =
      region === null
        ? arena.regions.map(r => ofRegion(r, arena, () => zoom(r.name)))
        : region.name === 'kv'
          ? insidePool(region, parsePages(seen.file('/proc/pages')))
          : inside(region, tensors, tensor => desk.type(openCommand(file, tensor.name)));
    summary =
      region === null
        ? `${count(arena.total.used)} of ${count(arena.total.bytes)} bytes used, high-water mark ${count(arena.total.peak)}.`
        : `${region.name}: ${count(region.bytes)} bytes from ${count(region.startAt)} to ${count(region.endAt)}, high-water mark ${count(region.peak)}.`;
    setHidden(crumbs, region === null);
    figure.classList.toggle('inside', region !== null && region.name !== 'kv');
    setText(here, region === null ? '' : region.name);
    const [startAt, endAt] = region === null ? [0, arena.total.endAt] : [region.startAt, region.endAt];
    const had = buttons.includes(document.activeElement as HTMLElement) || document.activeElement === back;
    drawMap(map, stretches, startAt, endAt, region === null ? arena.total.peak : region.startAt + region.peak);
    buttons = stretches.map((s, i) => rowOf(s, i));
    list.replaceChildren(...buttons);
    list.setAttribute('aria-label', region === null ? 'Regions of the arena' : `Inside ${region.name}`);
    enter(buttons);
    if (had) buttons[0]?.focus();
    point(-1);
    regionsTable.set(
      [...arena.regions, arena.total].map(r => [r.name, ...[r.startAt, r.endAt, r.bytes, r.used, r.peak].map(count)]),
    );
    tensorsTable.set(tensors.map(t => [t.name, t.type, t.shape, t.at < 0 ? 'streamed' : count(t.at), count(t.bytes)]));
  }

  return {
    name: 'memory',
    about: 'The arena to scale: every byte that the machine has.',
    command: () => 'free -v',
    get paths() {
      return opened === 'kv' ? [...PATHS, '/proc/pages'] : PATHS;
    },
    trace: false,
    probe: () => null,
    everyMs: 250,
    figure,
    tables: [regionsTable.element, tensorsTable.element],
    update(seen) {
      const texts = [opened, ...this.paths.map(path => seen.file(path))].join('\0');
      if (texts === drawn) return '';
      const arena = parseArena(seen.file('/proc/arena'));
      if (arena === null) return 'The machine is off: switch it on to see its memory.';
      drawn = texts;
      draw(arena, seen);
      return '';
    },
  };
}

/** Path of the loaded model's file; '' = none. */
const modelFile = (text: string): string => text.split('\n')[0]?.split(' ')[1] ?? '';

function ofRegion(r: Region, arena: ArenaMap, open: () => void): Stretch {
  return {
    name: r.name,
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
    name: String(page.page),
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
    startAt: t.at,
    endAt: t.at + t.bytes,
    look: `tensor layer-${t.layer < 0 ? 'none' : t.layer % 2}`,
    figures: `${t.type}  ${t.shape}  ${size(t.bytes)}`,
    caption: `${t.name}: ${t.type}, ${t.shape}, ${count(t.bytes)} bytes at ${count(t.at)}. Enter or a click opens it in the shell.`,
    open: () => open(t),
  }));
}

function rowOf(s: Stretch, index: number): HTMLElement {
  return el(
    'button',
    { type: 'button', class: 'stretch', 'data-stretch': index, 'aria-label': s.caption },
    el('span', { class: `swatch ${s.look}` }),
    el('span', { class: 'name' }, s.name),
    el('span', { class: 'figures' }, s.figures),
  );
}

/** Draws stretches in rows; `markAt` is the high-water mark. */
function drawMap(
  map: HTMLElement,
  stretches: readonly Stretch[],
  startAt: number,
  endAt: number,
  markAt: number,
): void {
  const rowBytes = rowBytesOf(endAt - startAt, ROWS);
  const rows = Array.from({ length: Math.ceil((endAt - startAt) / rowBytes) }, (_, i) => {
    const row = el('div', { class: 'map-row' });
    row.style.setProperty('--end', String(Math.min(1, (endAt - startAt) / rowBytes - i)));
    return row;
  });
  stretches.forEach((s, index) => {
    const pieces = piecesOf(s.startAt, s.endAt, startAt, rowBytes);
    const widest = Math.max(...pieces.map(p => p.to - p.from));
    const wide = pieces.filter(p => p.to - p.from === widest);
    const named = wide[(wide.length - 1) >> 1];
    for (const piece of pieces) {
      const element = el('div', { class: `piece ${s.look}`, 'data-stretch': index });
      element.style.setProperty('left', `${piece.from * 100}%`);
      element.style.setProperty('width', `${(piece.to - piece.from) * 100}%`);
      if (piece === named && widest * 56 > s.name.length) element.append(el('span', {}, s.name)); // some 56 characters a row
      rows[piece.row]!.append(element);
    }
  });
  for (const piece of markAt > startAt && markAt <= endAt ? piecesOf(markAt - 1, markAt, startAt, rowBytes) : []) {
    const mark = el('div', { class: 'mark' });
    mark.style.setProperty('left', `${piece.to * 100}%`);
    rows[piece.row]!.append(mark);
  }
  const addresses = rows.map((_, i) => el('span', {}, size(startAt + i * rowBytes)));
  map.replaceChildren(el('div', { class: 'addresses' }, ...addresses), el('div', { class: 'rows' }, ...rows));
}
