// Pages: the pool of keys and values as it lies in the arena, page by page, and below it the same pages as each session's block table names
// them: what is shared, what is kept for a prompt that begins alike, what has gone to the swap device. From docs/MEMORY.md.

import { el } from '../dom.ts';
import { enter, FigureTable, roving, setAttribute, setHidden, setStyle, setText } from './dom.ts';
import { count } from './format.ts';
import { bySession, pageText, parsePages, type Page } from './parse-pages.ts';
import { figure as valueOf, keyed } from './parse-text.ts';
import type { View } from './view.ts';

const COLUMNS = 16;
/** Positions of a page (KV_PAGE). */
const POSITIONS = 32;

export function pagesView(): View {
  const sum = el('p', { class: 'sum' });
  const grid = el('div', { class: 'pool', role: 'grid', 'aria-label': 'Pages of the pool' });
  const caption = el('p', { class: 'caption' });
  const tables = el('div', { class: 'blocks' });
  const none = el('p', { class: 'caption' }, 'No session holds pages now.');
  const figure = el(
    'div',
    { class: 'pages' },
    sum,
    grid,
    caption,
    legend(),
    el('h3', {}, 'By session, in the order of positions'),
    tables,
    none,
  );
  const titles = ['page', 'state', 'uid', 'sessions', 'first', 'positions', 'known', 'at'];
  const table = new FigureTable(
    'Pages of the pool',
    titles,
    new Set(titles.filter(t => t !== 'state' && t !== 'sessions')),
  );
  let cells: HTMLElement[] = [];
  let pages: readonly Page[] = [];
  let drawn = '';
  roving(
    grid,
    () => cells,
    () => COLUMNS,
  );

  const tell = (event: Event): void => {
    const index = cells.indexOf((event.target as HTMLElement).closest<HTMLElement>('[role="gridcell"]')!);
    if (pages[index] !== undefined) setText(caption, pageText(pages[index]));
  };
  grid.addEventListener('pointerover', tell);
  grid.addEventListener('focusin', tell);

  function draw(text: string, kv: ReadonlyMap<string, string>): void {
    const all = parsePages(text);
    pages = all.filter(page => page.page >= 0);
    if (cells.length !== pages.length) {
      cells = pages.map(() =>
        el('span', { role: 'gridcell', class: 'page' }, el('i', { 'aria-hidden': 'true' }), el('b')),
      );
      const rows: HTMLElement[] = [];
      for (let i = 0; i < cells.length; i += COLUMNS)
        rows.push(el('div', { role: 'row' }, ...cells.slice(i, i + COLUMNS)));
      grid.replaceChildren(...rows);
      enter(cells);
    }
    pages.forEach((page, i) => drawPage(cells[i]!, page));
    const sessions = bySession(all);
    drawTables(tables, sessions);
    setHidden(none, sessions.size > 0);
    table.set(all.map(page => page.cells));
    const figures = ['total', 'free', 'cached', 'shared', 'swapped'].map(key => valueOf(kv, key));
    const [total, free, cached, shared, swapped] = figures.map(count);
    setText(
      sum,
      `${total} pages of ${POSITIONS} positions: ${free} free, ${cached} cached, ${shared} shared; ${swapped} on the swap device.`,
    );
    if (caption.textContent === '')
      setText(
        caption,
        `${count(valueOf(kv, 'copies'))} copied on write, ${count(valueOf(kv, 'evictions'))} evicted, ${count(valueOf(kv, 'prefixTokens'))} prompt tokens found in pages that were there.`,
      );
  }

  return {
    name: 'pages',
    about: 'Keys and values, in pages of 32 positions that sessions share.',
    command: () => 'cat /proc/kv /proc/pages',
    paths: ['/proc/pages', '/proc/kv'],
    trace: false,
    probe: () => null,
    everyMs: 150,
    figure,
    tables: [table.element],
    update(seen) {
      const [text, kv] = [seen.file('/proc/pages'), seen.file('/proc/kv')];
      if (text === '') return 'No pages yet: type llmctl load fable-f16, then llminfer Once upon a time';
      if (text + kv === drawn) return '';
      drawn = text + kv;
      draw(text, keyed(kv));
      return '';
    },
  };
}

/** What stands in a page: whose it is. */
function shortText({ state, sessions }: Page): string {
  if (state === 'cached') return 'c';
  if (sessions.length > 2) return `${sessions.length}×`;
  return sessions.join('+');
}

function drawPage(cell: HTMLElement, page: Page): void {
  const [level, text] = cell.children as unknown as [HTMLElement, HTMLElement];
  setAttribute(cell, 'class', `page ${page.state}`);
  setAttribute(cell, 'aria-label', [shortText(page), pageText(page)].filter(part => part !== '').join(': '));
  setStyle(level, 'height', `${(page.positions / POSITIONS) * 100}%`);
  setText(text, shortText(page));
}

/** A line a session: its pages in order. Lines and pages are kept while their number stays. */
function drawTables(element: HTMLElement, sessions: ReadonlyMap<number, readonly Page[]>): void {
  const lines = [...element.children] as HTMLElement[];
  while (lines.length > sessions.size) lines.pop()!.remove();
  let i = 0;
  for (const [id, pages] of sessions) {
    let line = lines[i++];
    if (line === undefined) {
      line = el('div', { class: 'block-table' }, el('b'), el('ol'));
      element.append(line);
    }
    const [name, list] = line.children as unknown as [HTMLElement, HTMLElement];
    setText(name, `#${id}`);
    while (list.children.length > pages.length) list.lastElementChild!.remove();
    while (list.children.length < pages.length) list.append(el('li'));
    pages.forEach((page, n) => {
      const item = list.children[n]!;
      setAttribute(item, 'class', page.state);
      setText(
        item,
        `${page.page < 0 ? 'out' : page.page}${page.state === 'shared' ? ' shared' : ''} ${page.positions}/${POSITIONS}`,
      );
    });
  }
}

function legend(): HTMLElement {
  const entries = [
    ['used', 'one session’s'],
    ['shared', 'shared by several'],
    ['cached', 'c: kept, nobody’s'],
    ['free', 'free'],
  ] as const;
  return el(
    'ul',
    { class: 'legend' },
    ...entries.map(([state, text]) => el('li', {}, el('span', { class: `page ${state}` }, el('i')), text)),
  );
}
