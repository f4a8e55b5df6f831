// Light and dark. The tokens of page.css are the only source of colours: what cannot take a CSS variable (the terminal, a canvas) asks here
// for its present value, and again when the scheme changes.

import type { ITheme } from '@xterm/xterm';
import { onChoice, settings } from './settings.ts';

const dark = matchMedia('(prefers-color-scheme: dark)');
const listeners = new Set<() => void>();

export function isDark(): boolean {
  const { scheme } = settings();
  return scheme === 'system' ? dark.matches : scheme === 'dark';
}

/** Calls back after every change of scheme. */
export function onTheme(listener: () => void): void {
  listeners.add(listener);
}

const probe = document.createElement('canvas').getContext('2d', { willReadFrequently: true })!;

/** `#rrggbb` of a token such as `--accent`, as it is now. */
export function colour(token: string): string {
  const holder = document.createElement('span');
  holder.style.color = `var(${token})`;
  document.body.append(holder);
  probe.fillStyle = getComputedStyle(holder).color;
  holder.remove();
  return probe.fillStyle;
}

/** The sixteen colours of a terminal, legible on the surface of each scheme. */
const ANSI_LIGHT = {
  black: '#18202b',
  red: '#b3202c',
  green: '#1a6e33',
  yellow: '#7d5000',
  blue: '#0a56ad',
  magenta: '#8f2f77',
  cyan: '#00687a',
  white: '#5b6673',
  brightBlack: '#5b6673',
  brightRed: '#c8102e',
  brightGreen: '#147a35',
  brightYellow: '#8a5a00',
  brightBlue: '#0063c6',
  brightMagenta: '#a33789',
  brightCyan: '#00758a',
  brightWhite: '#18202b',
} as const;

const ANSI_DARK = {
  black: '#2a323d',
  red: '#ff8a8a',
  green: '#6fd48e',
  yellow: '#e6b450',
  blue: '#74b4ff',
  magenta: '#e39bd0',
  cyan: '#63cfd8',
  white: '#c9d1db',
  brightBlack: '#8d9bab',
  brightRed: '#ffa3a3',
  brightGreen: '#8be3a5',
  brightYellow: '#f2ca73',
  brightBlue: '#9ccbff',
  brightMagenta: '#f0b6e0',
  brightCyan: '#8ee4ea',
  brightWhite: '#ffffff',
} as const;

export function terminalTheme(): ITheme {
  const [surface, text, accent, select] = ['--surface', '--text', '--accent', '--select'].map(colour) as [
    string,
    string,
    string,
    string,
  ];
  return {
    background: surface,
    foreground: text,
    cursor: accent,
    cursorAccent: surface,
    overviewRulerBorder: surface,
    selectionBackground: select,
    selectionInactiveBackground: select,
    scrollbarSliderBackground: `${colour('--edge')}66`,
    scrollbarSliderHoverBackground: `${colour('--edge')}aa`,
    scrollbarSliderActiveBackground: `${colour('--edge')}cc`,
    ...(isDark() ? ANSI_DARK : ANSI_LIGHT),
  };
}

/** Follows the choice and the system from now on. */
export function followTheme(): void {
  let scheme = settings().scheme;
  const apply = (): void => {
    if (scheme === 'system') delete document.documentElement.dataset['theme'];
    else document.documentElement.dataset['theme'] = scheme;
    for (const listener of listeners) listener();
  };
  apply();
  dark.addEventListener('change', apply);
  onChoice(chosen => {
    if (chosen.scheme === scheme) return;
    scheme = chosen.scheme;
    apply();
  });
}
