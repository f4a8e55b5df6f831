// Colours and patterns for canvases, which no style sheet reaches: read from the page's custom properties, and read again when light turns
// dark. What a pattern means is told by its shape alone; the colour only helps.

import { el } from '../dom.ts';

export interface Palette {
  readonly text: string;
  readonly muted: string;
  readonly line: string;
  readonly surface: string;
  readonly accent: string;
  readonly warn: string;
  readonly bad: string;
  /** --series-1 … --series-8. */
  readonly series: readonly string[];
  readonly mono: string;
}

let current: Palette | null = null;
const listeners = new Set<() => void>();

function changed(): void {
  current = null;
  for (const listener of listeners) listener();
}

let isWatching = false;
function watch(): void {
  isWatching = true;
  new MutationObserver(changed).observe(document.documentElement, {
    attributes: true,
    attributeFilter: ['class', 'data-theme', 'style'],
  });
  for (const query of ['(prefers-color-scheme: dark)', '(prefers-contrast: more)'])
    matchMedia(query).addEventListener('change', changed);
}

/** The colours in force. */
export function palette(): Palette {
  if (!isWatching) watch();
  if (current !== null) return current;
  const style = getComputedStyle(document.documentElement);
  const sample = el('span', { hidden: true });
  document.body.append(sample);
  // A property's own text may be a function of the scheme; as a colour it is what is drawn.
  const of = (name: string): string => {
    sample.style.color = `var(--${name})`;
    return getComputedStyle(sample).color;
  };
  current = {
    text: of('text'),
    muted: of('muted'),
    line: of('line'),
    surface: of('surface'),
    accent: of('accent'),
    warn: of('warn'),
    bad: of('bad'),
    series: Array.from({ length: 8 }, (_, i) => of(`series-${i + 1}`)),
    mono: style.getPropertyValue('--mono').trim(),
  };
  sample.remove();
  return current;
}

/** Calls when colours have changed. */
export function onPalette(listener: () => void): void {
  listeners.add(listener);
}

/** A canvas that is as sharp as the screen, with `css` pixels as its unit. Returns null where it has no size. */
export function prepared(canvas: HTMLCanvasElement, width: number, height: number): CanvasRenderingContext2D | null {
  const context = canvas.getContext('2d');
  if (context === null || width <= 0 || height <= 0) return null;
  const scale = devicePixelRatio;
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w) canvas.width = w;
  if (canvas.height !== h) canvas.height = h;
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

export type Hatch = 'solid' | 'lines' | 'dots' | 'cross' | 'empty';

/** Fills a rectangle in a colour and a pattern; nothing is narrower than a pixel. */
export function fill(
  context: CanvasRenderingContext2D,
  [x, y, width, height]: readonly [number, number, number, number],
  colour: string,
  hatch: Hatch,
): void {
  const w = Math.max(1, width);
  context.fillStyle = colour;
  context.strokeStyle = colour;
  context.lineWidth = 1;
  if (hatch === 'solid' || w < 4) {
    context.fillRect(x, y, w, height);
    return;
  }
  context.save();
  context.beginPath();
  context.rect(x, y, w, height);
  context.clip();
  context.beginPath();
  if (hatch === 'lines' || hatch === 'cross')
    for (let i = -height; i < w; i += 5) {
      context.moveTo(x + i, y + height);
      context.lineTo(x + i + height, y);
    }
  if (hatch === 'cross')
    for (let i = -height; i < w; i += 5) {
      context.moveTo(x + i, y);
      context.lineTo(x + i + height, y + height);
    }
  context.stroke();
  if (hatch === 'dots')
    for (let i = 2; i < w; i += 5) for (let j = 2; j < height; j += 5) context.fillRect(x + i, y + j, 1.5, 1.5);
  context.restore();
  context.strokeRect(x + 0.5, y + 0.5, w - 1, height - 1);
}

/** Steps of an axis, 1, 2 or 5 × 10ⁿ, of which some `most` fit into `span`. */
export function tickStep(span: number, most: number): number {
  const least = span / most;
  const power = 10 ** Math.floor(Math.log10(least));
  const times = [1, 2, 5, 10].find(n => n * power >= least)!;
  return times * power;
}
