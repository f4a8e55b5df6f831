// /proc/pages: the page pool of keys and values, a line a page and a line for each page on the swap device; and the same by sessions, as their
// block tables name them.

import { tabbed } from './parse-text.ts';

export interface Page {
  /** From 0; -1: on the swap device. */
  readonly page: number;
  readonly state: string;
  readonly sessions: readonly number[];
  /** Its first position in these sessions; NaN: nobody says. */
  readonly first: number;
  /** How many of its positions hold keys and values. */
  readonly positions: number;
  /** Address in the arena; NaN: it has none. */
  readonly at: number;
  /** All cells, as they stand. */
  readonly cells: readonly string[];
}

export function parsePages(text: string): Page[] {
  return tabbed(text).map(row => ({
    page: row['page'] === '-' ? -1 : Number(row['page']),
    state: row['state']!,
    sessions: row['sessions'] === '-' ? [] : row['sessions']!.split(',').map(Number),
    first: Number(row['first']),
    positions: row['positions'] === '-' ? 0 : Number(row['positions']),
    at: Number(row['at']),
    cells: Object.values(row),
  }));
}

/** Each session's pages in the order of its positions. */
export function bySession(pages: readonly Page[]): Map<number, Page[]> {
  const sessions = new Map<number, Page[]>();
  for (const page of pages)
    for (const id of page.sessions) {
      const of = sessions.get(id) ?? [];
      of.push(page);
      sessions.set(id, of);
    }
  for (const of of sessions.values()) of.sort((a, b) => a.first - b.first);
  return new Map([...sessions].sort(([a], [b]) => a - b));
}

/** `Page 3: shared by sessions 1 and 2, positions 32 to 63, 12 of them there.` */
export function pageText({ page, state, sessions, first, positions }: Page): string {
  const who = sessions.length === 0 ? '' : ` by session${sessions.length > 1 ? 's' : ''} ${sessions.join(', ')}`;
  const where = Number.isNaN(first) ? '' : `, from position ${first}`;
  const filled = state === 'free' ? '' : `, ${positions} of 32 positions filled`;
  return `${page < 0 ? 'A page on the swap device' : `Page ${page}`}: ${state}${state === 'cached' ? '' : who}${where}${filled}.`;
}
