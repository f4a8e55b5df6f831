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
  tiles.clear();
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
export type Box = readonly [x: number, y: number, width: number, height: number];

/** Side of a pattern's tile. */
const TILE = 5;
/** What each pattern draws into its tile. */
const STROKES: Readonly<Record<Exclude<Hatch, 'solid' | 'empty'>, string>> = {
  lines: 'M-1 6L6 -1M-1 1L1 -1M4 6L6 4',
  cross: 'M-1 6L6 -1M-1 -1L6 6',
  dots: 'M2 2h1.5v1.5h-1.5z',
};
const tiles = new Map<string, CanvasPattern | string>();

function patternOf(context: CanvasRenderingContext2D, colour: string, hatch: Hatch): CanvasPattern | string {
  if (hatch === 'solid') return colour;
  if (hatch === 'empty') return 'transparent';
  const key = `${colour} ${hatch}`;
  const known = tiles.get(key);
  if (known !== undefined) return known;
  const tile = el('canvas', { width: TILE, height: TILE });
  const inside = tile.getContext('2d')!;
  inside.strokeStyle = colour;
  inside.stroke(new Path2D(STROKES[hatch]));
  const pattern = context.createPattern(tile, 'repeat') ?? colour;
  tiles.set(key, pattern);
  return pattern;
}

/** Fills boxes in one colour and pattern, all at once; nothing is narrower than a pixel, and what is not solid has an edge. */
export function fill(context: CanvasRenderingContext2D, boxes: readonly Box[], colour: string, hatch: Hatch): void {
  if (boxes.length === 0) return;
  context.fillStyle = patternOf(context, colour, hatch);
  context.beginPath();
  for (const [x, y, width, height] of boxes) context.rect(x, y, Math.max(1, width), height);
  context.fill();
  if (hatch === 'solid') return;
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.beginPath();
  for (const [x, y, width, height] of boxes) context.rect(x + 0.5, y + 0.5, Math.max(1, width) - 1, height - 1);
  context.stroke();
}

/** Steps of an axis, 1, 2 or 5 × 10ⁿ, of which some `most` fit into `span`. */
export function tickStep(span: number, most: number): number {
  const least = span / most;
  const power = 10 ** Math.floor(Math.log10(least));
  const times = [1, 2, 5, 10].find(n => n * power >= least)!;
  return times * power;
}
