// A few words to build the document with: an element with its attributes, listeners and children in one expression, and icons as paths.

type Child = Node | string;
type Attributes = Readonly<Record<string, string | number | boolean | ((event: never) => void)>>;

/** An element. `onclick` and its like are listeners, true and false set and leave out, everything else is an attribute. */
export function el<K extends keyof HTMLElementTagNameMap>(
  name: K,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(key.slice(2), value as (event: Event) => void);
    else if (value === true) element.setAttribute(key, '');
    else if (value !== false) element.setAttribute(key, String(value));
  }
  element.append(...children);
  return element;
}

/** A push button; `label` is what it is called where its text is shorter. */
export function button(text: Child, press: () => void, attributes: Attributes = {}): HTMLButtonElement {
  return el('button', { type: 'button', onclick: press, ...attributes }, text);
}

/** The element of index.html with this id. */
export function byId(id: string): HTMLElement {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`index.html has no element '${id}'`);
  return element;
}

/** Drawn on a field of 16 by 16. */
const ICONS = {
  pause: 'M4 3h3v10H4zM9 3h3v10H9z',
  run: 'M4 2.5v11l9.5-5.5z',
  again: 'M8 2.5a5.5 5.5 0 0 1 4.2 1.95V2.5h1.5v4.6H9.1V5.6h2.2A4 4 0 1 0 12 8.6h1.5A5.5 5.5 0 1 1 8 2.5z',
  close: 'M4.1 3 8 6.9 11.9 3 13 4.1 9.1 8l3.9 3.9-1.1 1.1L8 9.1 4.1 13 3 11.9 6.9 8 3 4.1z',
} as const;

export function icon(name: keyof typeof ICONS): SVGSVGElement {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('viewBox', '0 0 16 16');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

/** `1.2 MB`, in the units of storage. */
export function sizeText(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const power = Math.min(4, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ${['B', 'kB', 'MB', 'GB', 'TB'][power]}`;
}
