// What a person has chosen, kept in the browser's local storage under one name. A browser that refuses storage forgets; nothing else changes.

export interface Settings {
  readonly scheme: 'system' | 'light' | 'dark';
  /** Pixels; 0: what gives 80 columns. */
  readonly fontPx: number;
  /** Output is read out. */
  readonly isSpoken: boolean;
  readonly home: 'kept' | 'lost';
  readonly log: 'kept' | 'lost';
  readonly seed: number;
  /** '' = the machine's default. */
  readonly target: string;
  /** The terminal's part of the desk, in percent; 0: as wide as 80 columns. */
  readonly splitPercent: number;
}

const KEY = 'arena8';

const DEFAULTS: Settings = {
  scheme: 'system',
  fontPx: 0,
  isSpoken: false,
  home: 'kept',
  log: 'lost',
  seed: 0,
  target: '',
  splitPercent: 0,
};

/** Values of another kind than the default's are dropped: somebody else may have written there. */
function stored(): Settings {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(KEY) ?? '{}');
    const entries = Object.entries(found as object).filter(
      ([key, value]) => typeof value === typeof DEFAULTS[key as keyof Settings],
    );
    return { ...DEFAULTS, ...Object.fromEntries(entries) };
  } catch {
    return DEFAULTS;
  }
}

let current = stored();
const listeners = new Set<(settings: Settings) => void>();

export const settings = (): Settings => current;

export function choose(changes: Partial<Settings>): void {
  current = { ...current, ...changes };
  try {
    localStorage.setItem(KEY, JSON.stringify(current));
  } catch {
    // It holds as long as the page does.
  }
  for (const listener of listeners) listener(current);
}

export function onChoice(listener: (settings: Settings) => void): void {
  listeners.add(listener);
}
