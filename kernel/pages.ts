// The page pool: keys and values of all sessions in pages of KV_PAGE positions, as a kernel keeps the memory of its processes. Block tables
// name pages; prompts of one user that begin alike name the same pages, and who writes behind a shared beginning gets a copy. What ended
// sessions knew stays cached until the room is wanted; what waits can go to the swap device. After every call, free + cached + named pages
// are the whole pool, and a page is counted as often as tables name it. After vLLM's block tables and Linux's copy on write and page cache.

import { KV_PAGE, PAGE_RECORD_BYTES, type ArenaView } from './abi/index.ts';
import { panic } from './panic.ts';

/** Where the pool lies. A page is `planes` planes of KV_PAGE rows, a row of a plane being what one position has there. */
export interface PoolPlace {
  readonly kvAt: number; // the first page
  readonly pageBytes: number;
  readonly pages: number;
  readonly planes: number; // 2 × layers: keys and values of each
  readonly recordsAt: number; // pages × PAGE_RECORD_BYTES, at a multiple of 8
}

/** Storage for pages that wait, with their records: slots of equal size, counted from 0. */
export interface SwapDevice {
  /** Forgets everything; from now on a slot holds a page of `pageBytes` and its record. */
  format(pageBytes: number): void;
  /** Writes a page and its record; the slot, or -1 when the device is full. */
  put(pageAt: number, recordAt: number): number;
  /** Reads a slot back and frees it. */
  take(slot: number, pageAt: number, recordAt: number): void;
  drop(slot: number): void;
}

/**
 * A block table is u32[⌈ctx / KV_PAGE⌉]. An entry is the bytes from kvAt to its page; or the highest bit and a slot of the swap device; or
 * ABSENT. Only the first kind may reach the executor.
 */
export const SWAPPED = 0x80000000;
export const ABSENT = 0xffffffff;

/**
 * Offsets of what is noted of each page: 32 B + 32 × 4 B = 160 B.
 *
 *     0         2         4         6         8                   12                  16
 *     ┌─────────┬─────────┬─────────┬─────────┬───────────────────┬───────────────────┐
 *     │ refs    │ fill    │ next    │ prev    │ uid               │ writer            │
 *     ├─────────┴─────────┴─────────┴─────────┼───────────────────┴───────────────────┤ 16
 *     │ key                              f64  │ parent                           f64  │
 *     ├───────────────────────────────────────┴───────────────────────────────────────┤ 32
 *     │ tokens                                                              u32[32]   │
 *     └───────────────────────────────────────────────────────────────────────────────┘ 160
 *
 * refs: table entries that name the page. 0 and fill 0: free; 0 and fill > 0: cached. fill: positions, from the first, whose tokens are known
 * and whose keys and values have been computed: they never change while more than one table names the page. next, prev: neighbours in the
 * list of cached pages, newer and older; of free pages, next alone. uid: whose it is. writer: address of the one table that may write behind
 * `fill`, or 0. key: a number for what the page says, never used again when it says something else; counted in a double, which holds 2⁵³.
 * parent: the key of the page before it, of a first page its root: the same tokens behind another beginning have other keys and values.
 */
export const PAGE = {
  refs: 0,
  fill: 2,
  next: 4,
  prev: 6,
  uid: 8,
  writer: 12,
  key: 16,
  parent: 24,
  tokens: 32,
} as const;

/** No page: the arena holds fewer than 8 MiB / 160 B = 52,428. */
const NONE = 0xffff;
/**
 * The parent of first pages whose keys and values are the model's own. What adapters have changed begins from roots below 0, one for each set of
 * scales: it is never found by who computes with another.
 */
const ROOT = 0;

/** What writing at some position of a page asks for. */
const IN_PLACE = 0; // the table may write there
const WISHED = 1; // nobody else names the page, but it knows more than is kept: a copy saves that, if there is room
const NEEDED = 2; // there is no page, or others read what would be overwritten

const NOWHERE: PoolPlace = { kvAt: 0, pageBytes: 0, pages: 0, planes: 1, recordsAt: 0 };

/**
 * Positions are a session's, from 0. `tableAt` is the address of its block table, which names its session too: one writer per table. Without a
 * pool (no model, or one without keys and values) every call succeeds and does nothing. Only `figures` and the swap device allocate JavaScript objects.
 */
export class PagePool {
  /** Pages copied on write since power-on. */
  copies = 0;
  private place = NOWHERE;
  private firstFree = NONE;
  private freeCount = 0;
  private oldest = NONE; // of the cached pages
  private newest = NONE;
  private cachedCount = 0;
  private lastKey = ROOT;
  private matched = 0; // positions, of the page that find() answered
  private out = 0; // pages on the swap device
  private evictions = 0;
  private swapOuts = 0;
  private swapIns = 0;
  private prefixTokens = 0;

  constructor(
    private readonly arena: ArenaView,
    private readonly swap: SwapDevice,
  ) {}

  /** A model was loaded, or unloaded (null): all pages are free, nothing is known, the swap device is empty. Figures go on. */
  reset(place: PoolPlace | null): void {
    this.place = place ?? NOWHERE;
    const { pages, pageBytes, recordsAt } = this.place;
    this.swap.format(pageBytes);
    this.arena.u8.fill(0, recordsAt, recordsAt + pages * PAGE_RECORD_BYTES);
    this.firstFree = NONE;
    this.oldest = NONE;
    this.newest = NONE;
    this.freeCount = 0;
    this.cachedCount = 0;
    this.out = 0;
    for (let page = pages - 1; page >= 0; page--) this.free(page);
  }

  /** A session begins: its table, of ⌈positions / KV_PAGE⌉ entries, names nothing. Whatever the table said before is not looked at. */
  begin(tableAt: number, positions: number): void {
    this.arena.i32.fill(-1, tableAt >> 2, (tableAt >> 2) + pagesOf(positions));
  }

  /**
   * The longest beginning of `tokens` tokens at `historyAt` whose keys and values the pool holds for this user, the last token left out:
   * it must be computed for the logits behind it. Its pages are named in the table; returns its positions, which may end inside a page.
   */
  share(tableAt: number, uid: number, historyAt: number, tokens: number, root = ROOT): number {
    const covered = this.follow(tableAt, uid, historyAt, tokens - 1, root, true);
    this.prefixTokens += covered;
    return covered;
  }

  /**
   * The same for all `tokens`, to look at: the table is written and nothing else, so it holds until pages are taken, and whoever asked clears it
   * (begin).
   */
  recall(tableAt: number, uid: number, historyAt: number, tokens: number, root = ROOT): number {
    return this.follow(tableAt, uid, historyAt, tokens, root, false);
  }

  /** Writes the pages of the longest beginning of `tokens` tokens that is known for this user into the table; `refers`: it counts. Returns its positions. */
  private follow(
    tableAt: number,
    uid: number,
    historyAt: number,
    tokens: number,
    root: number,
    refers: boolean,
  ): number {
    let covered = 0;
    let parent = root;
    for (let i = 0; covered < tokens; i++) {
      const page = this.find(parent, uid, historyAt + covered * 4, Math.min(KV_PAGE, tokens - covered), NONE);
      if (page === NONE) break;
      if (refers) this.refer(tableAt, i, page);
      else this.arena.u32[(tableAt >> 2) + i] = page * this.place.pageBytes;
      covered += this.matched;
      if (this.matched < KV_PAGE) break;
      parent = this.keyOf(page, PAGE.key);
    }
    return covered;
  }

  /** Pages that reserve() must have to succeed: free or cached. */
  needed(tableAt: number, fromPos: number, toPos: number): number {
    if (this.place.pages === 0 || toPos <= fromPos) return 0;
    let pages = 0;
    for (let i = (fromPos / KV_PAGE) | 0; i * KV_PAGE < toPos; i++)
      if (this.claim(tableAt, i, keptOf(i, fromPos)) === NEEDED) pages++;
    return pages;
  }

  /**
   * hot: makes positions fromPos … toPos − 1 present and the session's own, whose content ends at fromPos: what lies behind is given up.
   * New pages are zeroed; a shared beginning of the first page is copied, and a cached page, the oldest first, is given up where none is
   * free. Returns how many pages were taken; -1, and nothing has changed, when there are not enough.
   */
  reserve(tableAt: number, uid: number, fromPos: number, toPos: number): number {
    if (this.place.pages === 0 || toPos <= fromPos) return 0;
    let spare = this.available() - this.needed(tableAt, fromPos, toPos);
    if (spare < 0) return -1;
    let taken = 0;
    for (let i = (fromPos / KV_PAGE) | 0; i * KV_PAGE < toPos; i++) {
      const kept = keptOf(i, fromPos);
      const claim = this.claim(tableAt, i, kept);
      if (claim === NEEDED || (claim === WISHED && spare-- > 0)) {
        this.replace(tableAt, uid, i, kept);
        taken++;
      } else this.own(tableAt, i, kept);
    }
    return taken;
  }

  /**
   * hot: keys and values of all positions up to toPos have been computed, those before fromPos have been told: others of the same user may
   * share them. `historyAt`: the tokens from position 0. Of a page that fills up and says what another one says already, that other one
   * takes the place: the bits are the same.
   */
  filled(tableAt: number, historyAt: number, fromPos: number, toPos: number, root = ROOT): void {
    if (this.place.pages === 0) return;
    for (let i = (fromPos / KV_PAGE) | 0; i * KV_PAGE < toPos; i++) {
      const page = this.pageAt(tableAt, i);
      const fill = Math.min(KV_PAGE, toPos - i * KV_PAGE);
      if (fill <= this.get16(page, PAGE.fill)) continue;
      this.setKey(page, PAGE.parent, i === 0 ? root : this.keyOf(this.pageAt(tableAt, i - 1), PAGE.key));
      const tokensAt = (historyAt >> 2) + i * KV_PAGE;
      this.arena.u32.copyWithin((this.recordAt(page) + PAGE.tokens) >> 2, tokensAt, tokensAt + fill);
      this.know(tableAt, i, page, fill);
    }
  }

  /**
   * The session is over, or begins anew: its table names nothing any more, of at least the positions that were reserved (the context always
   * does). Pages whose tokens are known stay cached; a page's followers count as older than it, since they are found through it alone.
   */
  release(tableAt: number, positions: number): void {
    if (this.place.pages === 0) return;
    const { i32 } = this.arena;
    for (let i = pagesOf(positions) - 1; i >= 0; i--) {
      const entry = i32[(tableAt >> 2) + i]!;
      if (entry >= 0) this.drop(tableAt, this.pageAt(tableAt, i));
      else if (entry !== -1) {
        this.swap.drop(entry & ~SWAPPED);
        this.out--;
      }
      i32[(tableAt >> 2) + i] = -1;
    }
  }

  /**
   * Moves up to `most` pages that this table alone names to the swap device; returns how many, fewer when there are no more or the device
   * is full. The last positions go first: what stays is a beginning, which others can still share, since pages are found from the first on.
   */
  swapOut(tableAt: number, positions: number, most: number): number {
    let moved = 0;
    for (let i = pagesOf(positions) - 1; i >= 0 && moved < most; i--) {
      if (!this.isPrivate(tableAt, i)) continue;
      const page = this.pageAt(tableAt, i);
      const slot = this.swap.put(this.addressOf(page), this.recordAt(page));
      if (slot < 0) break;
      this.arena.i32[(tableAt >> 2) + i] = slot | SWAPPED;
      this.free(page);
      moved++;
    }
    this.out += moved;
    this.swapOuts += moved;
    return moved;
  }

  /** Brings up to `most` pages back as they were, the first positions first; returns how many; -1 when one is out and there is no room for it. */
  swapIn(tableAt: number, positions: number, most: number): number {
    let moved = 0;
    const pages = pagesOf(positions);
    for (let i = 0; i < pages && moved < most; i++) {
      const entry = this.arena.i32[(tableAt >> 2) + i]!;
      if (entry >= 0 || entry === -1) continue;
      const page = this.take();
      if (page === NONE) break;
      this.swap.take(entry & ~SWAPPED, this.addressOf(page), this.recordAt(page));
      this.out--;
      this.swapIns++;
      moved++;
      this.arena.u32[(tableAt >> 2) + i] = page * this.place.pageBytes;
    }
    return moved === 0 && this.swapped(tableAt, positions) > 0 && most > 0 ? -1 : moved;
  }

  /** How many pages of these positions are out. */
  swapped(tableAt: number, positions: number): number {
    let count = 0;
    for (let i = pagesOf(positions) - 1; i >= 0; i--) if (this.isOut(tableAt, i)) count++;
    return count;
  }

  /** How many pages of these positions the table names, shared ones too, those that are out not. */
  named(tableAt: number, positions: number): number {
    let count = 0;
    for (let i = pagesOf(positions) - 1; i >= 0; i--) if (this.arena.i32[(tableAt >> 2) + i]! >= 0) count++;
    return count;
  }

  /** Pages that can be had: free or cached. */
  available(): number {
    return this.freeCount + this.cachedCount;
  }

  /** Pages that tables name. */
  used(): number {
    return this.place.pages - this.available();
  }

  /** What there is to say of page `page` (from 0): how many tables name it, whose it is, positions that others could share, its address. */
  describe(page: number): { readonly refs: number; readonly uid: number; readonly fill: number; readonly at: number } {
    const [refs, fill] = [this.get16(page, PAGE.refs), this.get16(page, PAGE.fill)];
    return { refs, fill, uid: this.get32(page, PAGE.uid), at: this.addressOf(page) };
  }

  /** Which page entry `i` of the table names; -1: none, or it is on the swap device. */
  pageOf(tableAt: number, i: number): number {
    return this.arena.i32[(tableAt >> 2) + i]! < 0 ? -1 : this.pageAt(tableAt, i);
  }

  /** Whether it is on the swap device. */
  isOut(tableAt: number, i: number): boolean {
    const entry = this.arena.i32[(tableAt >> 2) + i]!;
    return entry < 0 && entry !== -1;
  }

  /** Pages of the pool. */
  get total(): number {
    return this.place.pages;
  }

  /** Pages now; copies, evictions, pages moved and prompt tokens found, since power-on. */
  figures(): {
    readonly total: number;
    readonly free: number;
    readonly cached: number;
    readonly shared: number;
    readonly swapped: number;
    readonly copies: number;
    readonly evictions: number;
    readonly swapOuts: number;
    readonly swapIns: number;
    readonly prefixTokens: number;
  } {
    const { copies, evictions, swapOuts, swapIns, prefixTokens } = this;
    const total = this.place.pages;
    let shared = 0;
    for (let page = 0; page < total; page++) if (this.get16(page, PAGE.refs) > 1) shared++;
    const now = { total, free: this.freeCount, cached: this.cachedCount, shared, swapped: this.out };
    return { ...now, copies, evictions, swapOuts, swapIns, prefixTokens };
  }

  // ── Who may write where ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * What it takes to write in page `i` of the table behind its first `kept` positions. Those whom others can see, the first `fill`, are
   * written by nobody; behind them writes the page's one writer, and who comes when there is none becomes it. So the first of two sessions
   * that continue one partial page goes on in place, and the other one copies.
   */
  private claim(tableAt: number, i: number, kept: number): number {
    const entry = this.arena.i32[(tableAt >> 2) + i]!;
    if (entry === -1) return NEEDED;
    const page = this.pageAt(tableAt, i);
    const writer = this.get32(page, PAGE.writer);
    if (this.get16(page, PAGE.fill) <= kept && (writer === tableAt || writer === 0)) return IN_PLACE;
    return this.get16(page, PAGE.refs) === 1 ? WISHED : NEEDED;
  }

  /** The table goes on in place. A page that nobody else names forgets what it knew behind `kept`, and its followers with it. */
  private own(tableAt: number, i: number, kept: number): void {
    const page = this.pageAt(tableAt, i);
    const forgets = this.get16(page, PAGE.fill) > kept;
    if (forgets) {
      this.set16(page, PAGE.fill, kept);
      this.setKey(page, PAGE.key, ++this.lastKey);
    } else if (this.get32(page, PAGE.writer) === tableAt) return;
    this.set32(page, PAGE.writer, tableAt);
    this.clearRows(page, kept);
  }

  /** A new page for page `i` of the table, with the first `kept` positions of the one there. There is a page to be had. */
  private replace(tableAt: number, uid: number, i: number, kept: number): void {
    const page = this.take();
    if (page === NONE) panic(`no page, although ${this.available()} were counted`);
    const at = this.addressOf(page);
    this.arena.u8.fill(0, at, at + this.place.pageBytes);
    this.set32(page, PAGE.uid, uid);
    this.setKey(page, PAGE.key, ++this.lastKey);
    if (this.arena.i32[(tableAt >> 2) + i]! >= 0) {
      const from = this.pageAt(tableAt, i);
      if (kept > 0) this.copyRows(from, page, kept);
      this.drop(tableAt, from);
    }
    this.set16(page, PAGE.refs, 1);
    this.set32(page, PAGE.writer, tableAt);
    this.arena.u32[(tableAt >> 2) + i] = page * this.place.pageBytes;
  }

  private copyRows(from: number, to: number, count: number): void {
    if (this.get16(from, PAGE.fill) < count) panic(`${count} positions of page ${from} are kept and fewer are known`);
    const { planes, pageBytes } = this.place;
    const planeBytes = pageBytes / planes;
    const bytes = (planeBytes / KV_PAGE) * count;
    for (let plane = 0; plane < planes; plane++) {
      const at = this.addressOf(from) + plane * planeBytes;
      this.arena.u8.copyWithin(this.addressOf(to) + plane * planeBytes, at, at + bytes);
    }
    this.copies++;
  }

  /** What another session has written behind the first `kept` positions is nothing to the page's new writer. */
  private clearRows(page: number, kept: number): void {
    const { planes, pageBytes } = this.place;
    const planeBytes = pageBytes / planes;
    const keptBytes = (planeBytes / KV_PAGE) * kept;
    for (let plane = 0; plane < planes; plane++) {
      const at = this.addressOf(page) + plane * planeBytes;
      this.arena.u8.fill(0, at + keptBytes, at + planeBytes);
    }
  }

  // ── What pages say ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * The page of this user behind `parent` whose known tokens agree with the `most` at `tokensAt` for longest, `except` left out; NONE
   * when none does. How long is left in `matched`. A scan: a pool has some hundred pages.
   */
  private find(parent: number, uid: number, tokensAt: number, most: number, except: number): number {
    let best = NONE;
    this.matched = 0;
    for (let page = 0; page < this.place.pages && this.matched < most; page++) {
      const fill = this.get16(page, PAGE.fill);
      if (fill <= this.matched || page === except) continue;
      if (this.keyOf(page, PAGE.parent) !== parent || this.get32(page, PAGE.uid) !== uid) continue;
      const equal = this.agreement(page, tokensAt, Math.min(fill, most));
      if (equal <= this.matched) continue;
      best = page;
      this.matched = equal;
    }
    return best;
  }

  private agreement(page: number, tokensAt: number, most: number): number {
    const { u32 } = this.arena;
    const a = (this.recordAt(page) + PAGE.tokens) >> 2;
    const b = tokensAt >> 2;
    let n = 0;
    while (n < most && u32[a + n] === u32[b + n]) n++;
    return n;
  }

  /**
   * The first `fill` tokens of page `i` are known; they stand in its record. Where a full page says the same already, the table names that
   * one: what follows either is then found behind both. Others who name the page for its beginning keep that.
   */
  private know(tableAt: number, i: number, page: number, fill: number): void {
    if (fill === KV_PAGE) {
      const tokensAt = this.recordAt(page) + PAGE.tokens;
      const parent = this.keyOf(page, PAGE.parent);
      const twin = this.find(parent, this.get32(page, PAGE.uid), tokensAt, KV_PAGE, page);
      if (twin !== NONE && this.matched === KV_PAGE) {
        this.refer(tableAt, i, twin);
        this.drop(tableAt, page);
        return;
      }
    }
    this.set16(page, PAGE.fill, fill);
  }

  /** True when another page says all that this partial one does. */
  private isKnownElsewhere(page: number, fill: number): boolean {
    const tokensAt = this.recordAt(page) + PAGE.tokens;
    this.find(this.keyOf(page, PAGE.parent), this.get32(page, PAGE.uid), tokensAt, fill, page);
    return this.matched === fill;
  }

  // ── Free, cached, named ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A page off the lists, with an empty record: a free one, or the oldest cached one, which is then forgotten; NONE. */
  private take(): number {
    let page = this.firstFree;
    if (page !== NONE) {
      this.firstFree = this.get16(page, PAGE.next);
      this.freeCount--;
    } else {
      page = this.oldest;
      if (page === NONE) return NONE;
      this.uncache(page);
      this.evictions++;
    }
    this.arena.u32.fill(0, this.recordAt(page) >> 2, (this.recordAt(page) + PAGE_RECORD_BYTES) >> 2);
    return page;
  }

  /** The table names the page too, for what is known of it. */
  private refer(tableAt: number, i: number, page: number): void {
    const refs = this.get16(page, PAGE.refs);
    if (refs === 0) this.uncache(page);
    this.set16(page, PAGE.refs, refs + 1);
    this.arena.u32[(tableAt >> 2) + i] = page * this.place.pageBytes;
  }

  /** One table less names the page. */
  private drop(tableAt: number, page: number): void {
    const refs = this.get16(page, PAGE.refs) - 1;
    const fill = this.get16(page, PAGE.fill);
    this.set16(page, PAGE.refs, refs);
    if (this.get32(page, PAGE.writer) === tableAt) this.set32(page, PAGE.writer, 0);
    if (refs > 0) return;
    if (fill === 0 || (fill < KV_PAGE && this.isKnownElsewhere(page, fill))) this.free(page);
    else this.cache(page);
  }

  private free(page: number): void {
    this.set16(page, PAGE.refs, 0);
    this.set16(page, PAGE.fill, 0);
    this.set16(page, PAGE.next, this.firstFree);
    this.firstFree = page;
    this.freeCount++;
  }

  private cache(page: number): void {
    this.set16(page, PAGE.next, NONE);
    this.set16(page, PAGE.prev, this.newest);
    if (this.newest === NONE) this.oldest = page;
    else this.set16(this.newest, PAGE.next, page);
    this.newest = page;
    this.cachedCount++;
  }

  private uncache(page: number): void {
    const next = this.get16(page, PAGE.next);
    const prev = this.get16(page, PAGE.prev);
    if (prev === NONE) this.oldest = next;
    else this.set16(prev, PAGE.next, next);
    if (next === NONE) this.newest = prev;
    else this.set16(next, PAGE.prev, prev);
    this.cachedCount--;
  }

  // ── Words ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private isPrivate(tableAt: number, i: number): boolean {
    return this.arena.i32[(tableAt >> 2) + i]! >= 0 && this.get16(this.pageAt(tableAt, i), PAGE.refs) === 1;
  }

  /** The page that entry `i` of the table names. It must name one. */
  private pageAt(tableAt: number, i: number): number {
    const entry = this.arena.i32[(tableAt >> 2) + i]!;
    if (entry < 0) panic(`page ${i} of the table at ${tableAt} is ${entry === -1 ? 'absent' : 'on the swap device'}`);
    return (entry / this.place.pageBytes) | 0;
  }
  private addressOf(page: number): number {
    return this.place.kvAt + page * this.place.pageBytes;
  }
  private recordAt(page: number): number {
    return this.place.recordsAt + page * PAGE_RECORD_BYTES;
  }
  private get16(page: number, field: number): number {
    return this.arena.u16[(this.recordAt(page) + field) >> 1]!;
  }
  private set16(page: number, field: number, value: number): void {
    this.arena.u16[(this.recordAt(page) + field) >> 1] = value;
  }
  private get32(page: number, field: number): number {
    return this.arena.u32[(this.recordAt(page) + field) >> 2]!;
  }
  private set32(page: number, field: number, value: number): void {
    this.arena.u32[(this.recordAt(page) + field) >> 2] = value;
  }
  private keyOf(page: number, field: number): number {
    return this.arena.f64[(this.recordAt(page) + field) >> 3]!;
  }
  private setKey(page: number, field: number, value: number): void {
    this.arena.f64[(this.recordAt(page) + field) >> 3] = value;
  }
}

/** Pages that this many positions take. */
export function pagesOf(positions: number): number {
  return ((positions + KV_PAGE - 1) / KV_PAGE) | 0;
}

/** Positions of page `i` before `fromPos`, which lies in it or in a page before. */
function keptOf(i: number, fromPos: number): number {
  return Math.max(0, fromPos - i * KV_PAGE);
}
