// What engines keep for sessions: the KV pool in the kv region, pages and behind them the kernel's records of pages; and in the session region
// the slots, each a history, a block table and what the engine itself keeps. Every engine lays them out alike, so the kernel manages all
// alike. Blocks of a fixed number of positions named by a table per session are vLLM's.

import { KV_PAGE, PAGE_RECORD_BYTES } from '../../kernel/abi/index.ts';
import type { EngineOptions, SessionSlots } from '../../kernel/abi/index.ts';
import { Cursor } from './memory.ts';

export interface KvPool {
  readonly kvAt: number;
  readonly pageBytes: number;
  readonly pageRecordsAt: number;
  readonly bytes: number;
}

/** The pool at `at`: pages of KV_PAGE positions of `positionBytes` each. */
export function layOutPool({ pages }: EngineOptions, positionBytes: number, at: number): KvPool {
  const c = new Cursor(at);
  const pageBytes = KV_PAGE * positionBytes;
  const { at: kvAt } = c.take('pages', pages * pageBytes);
  const { at: pageRecordsAt } = c.take('page records', pages * PAGE_RECORD_BYTES);
  return { kvAt, pageBytes, pageRecordsAt, bytes: c.bytes() };
}

/** Slots from `at` on, with `stateBytes` for the engine in each; together they take options.sessions × bytes. */
export function layOutSlots({ ctx }: EngineOptions, stateBytes: number, at: number): SessionSlots {
  const c = new Cursor(0);
  c.take('history', 4 * ctx);
  const table = c.take('block table', 4 * Math.ceil(ctx / KV_PAGE));
  const state = c.take('state', stateBytes);
  return { at, bytes: c.bytes(), tableAt: table.at, stateAt: state.at };
}
