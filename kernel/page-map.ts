// The page pool as a map: a line a page, who names it, which positions lie in it, and a line for each page that waits on the swap device. After
// Linux's /proc/PID/pagemap and /proc/kpagecount, read the other way round: from frames to who uses them.

import { KV_PAGE } from './abi/index.ts';
import { pagesOf, type PagePool } from './pages.ts';
import { ROOT } from '../vfs/permission.ts';
import type { Session } from './session.ts';

/** A session and its block table; `ctx` positions long. */
export interface Holder {
  readonly session: Session;
  readonly tableAt: number;
}

interface Use {
  readonly sessions: Session[];
  /** Its first position in each of them: a page is found behind the same beginning only. */
  readonly first: number;
}

export const PAGE_COLUMNS = ['page', 'state', 'uid', 'sessions', 'first', 'positions', 'known', 'at'] as const;
type Row = Readonly<Record<(typeof PAGE_COLUMNS)[number], string | number>>;

const NOTHING = { uid: '-', sessions: '-', first: '-', positions: '-', known: '-' } as const;

/** Positions of the page that begins at `first` whose keys and values are there, in whichever session has most. */
const filled = (sessions: readonly Session[], first: number): number =>
  Math.max(0, ...sessions.map(s => Math.min(KV_PAGE, s.get('pos') - first)));

/** PAGE_COLUMNS, then a line a page, with tabs between. Of pages of others a user sees their state alone: how long a text is, is its owner's. */
export function pageMap(pool: PagePool, holders: readonly Holder[], ctx: number, reader: number): string {
  const uses = new Map<number, Use>();
  const waiting: Row[] = [];
  for (const { session, tableAt } of holders)
    for (let i = 0; i < pagesOf(ctx); i++) {
      const page = pool.pageOf(tableAt, i);
      const first = i * KV_PAGE;
      if (page >= 0) {
        const use = uses.get(page);
        if (use === undefined) uses.set(page, { sessions: [session], first });
        else use.sessions.push(session);
      } else if (pool.isOut(tableAt, i) && session.isSeenBy(reader)) {
        const positions = filled([session], first);
        waiting.push({
          page: '-',
          state: 'swapped',
          uid: session.uid,
          sessions: session.id,
          first,
          positions,
          known: '-',
          at: '-',
        });
      }
    }
  const rows: Row[] = [];
  for (let page = 0; page < pool.total; page++) rows.push(rowOf(pool, page, uses.get(page), reader));
  const lines = [...rows, ...waiting].map(row => PAGE_COLUMNS.map(column => row[column]).join('\t'));
  return [PAGE_COLUMNS.join('\t'), ...lines].map(line => `${line}\n`).join('');
}

function rowOf(pool: PagePool, page: number, use: Use | undefined, reader: number): Row {
  const { refs, uid, fill, at } = pool.describe(page);
  const state = refs > 1 ? 'shared' : refs === 1 ? 'used' : fill > 0 ? 'cached' : 'free';
  if (state === 'free' || (reader !== ROOT.euid && reader !== uid)) return { ...NOTHING, page, state, at };
  if (use === undefined) return { ...NOTHING, page, state, uid, positions: fill, known: fill, at };
  const sessions = use.sessions.map(s => s.id).join(',');
  return { page, state, uid, sessions, first: use.first, positions: filled(use.sessions, use.first), known: fill, at };
}
