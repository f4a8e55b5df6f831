// Drawing without waste: elements are made once, and a text or an attribute is written only when it differs, so that an update of a view
// that has not changed touches no node and costs the browser no layout.

import { el } from '../dom.ts';

const SVG = 'http://www.w3.org/2000/svg';

export function svg<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string | number>> = {},
  ...children: readonly (Node | string)[]
): SVGElementTagNameMap[K] {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

export function setText(node: Node, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(element: Element, name: string, value: string): void {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export function setHidden(element: HTMLElement, isHidden: boolean): void {
  if (element.hidden !== isHidden) element.hidden = isHidden;
}

/** A size in CSS, as `width`, without which a bar is drawn anew each time. */
export function setStyle(element: HTMLElement | SVGElement, property: string, value: string): void {
  if (element.style.getPropertyValue(property) !== value) element.style.setProperty(property, value);
}

/** The same figures as text: rows are kept, and only cells that differ are written. */
export class FigureTable {
  readonly element: HTMLTableElement;
  private readonly body = el('tbody');
  /** What the rows show: asking the document would be slower. */
  private shown: string[] = [];

  /** `right`: titles of columns of numbers. */
  constructor(
    caption: string,
    private readonly titles: readonly string[],
    private readonly right: ReadonlySet<string> = new Set(),
  ) {
    const head = titles.map(title => el('th', { scope: 'col', class: right.has(title) ? 'number' : '' }, title));
    this.element = el('table', {}, el('caption', {}, caption), el('thead', {}, el('tr', {}, ...head)), this.body);
  }

  set(rows: readonly (readonly string[])[]): void {
    const { body, shown } = this;
    while (shown.length > rows.length) {
      body.deleteRow(-1);
      shown.pop();
    }
    rows.forEach((cells, i) => {
      const text = cells.join('\0');
      if (shown[i] === text) return;
      shown[i] = text;
      const row = body.rows[i] ?? this.grow();
      cells.forEach((cell, c) => setText(row.cells[c]!, cell));
    });
  }

  private grow(): HTMLTableRowElement {
    const cells = this.titles.map((title, c) => {
      const isNumber = this.right.has(title);
      return c === 0
        ? el('th', { scope: 'row', class: isNumber ? 'number' : '' })
        : el('td', { class: isNumber ? 'number' : '' });
    });
    const row = el('tr', {}, ...cells);
    this.body.append(row);
    return row;
  }
}

/**
 * Arrow keys, Home and End move the focus among the elements that `cells` gives, of which one at a time is reached by Tab (a roving tabindex, as the
 * ARIA practices call it). `columns` > 1: a grid of rows of so many, up and down go by a row.
 */
export function roving(
  container: HTMLElement,
  cells: () => readonly HTMLElement[],
  columns: () => number = () => 1,
): void {
  const goTo = (cell: HTMLElement): void => {
    for (const other of cells()) if (other.tabIndex === 0) other.tabIndex = -1;
    cell.tabIndex = 0;
    cell.focus();
  };
  container.addEventListener('keydown', event => {
    const all = cells();
    const here = all.indexOf(event.target as HTMLElement);
    if (here < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
    const width = columns();
    const steps: Record<string, number> = {
      ArrowRight: here + 1,
      ArrowLeft: here - 1,
      ArrowDown: here + width,
      ArrowUp: here - width,
      Home: 0,
      End: all.length - 1,
    };
    const to = steps[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const cell = all[to];
    if (cell !== undefined) goTo(cell);
  });
  container.addEventListener('focusin', event => {
    const cell = event.target as HTMLElement;
    if (cell.tabIndex !== 0 && cells().includes(cell)) goTo(cell);
  });
}

/** New cells of a roving container: the one at `index` is reached by Tab. */
export function enter(cells: readonly HTMLElement[], index = 0): void {
  cells.forEach((cell, i) => {
    cell.tabIndex = i === index ? 0 : -1;
  });
}
