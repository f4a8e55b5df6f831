// Which sessions' keys and values are in the page pool. A server's pages are taken whole before its first step and stay. The others take pages
// as they grow; when there are none, the one that is last in order goes to the swap device, one page a segment, and waits until there is
// room again, as processes were swapped before demand paging: whole sessions wait, so that those that run do not steal from each other.
// Nobody waits for ever: one session alone always fits, and what cannot be swapped is given up and computed again, to the same bits.

import { KV_PAGE, PAGE_RECORD_BYTES, type Engine } from './abi/index.ts';
import { Roots, scalesOf } from './adapters.ts';
import { lengthOf } from './charging.ts';
import { pagesOf } from './pages.ts';
import { panic } from './panic.ts';
import type { Service } from './service.ts';
import type { Session } from './session.ts';
import { transferCycles } from './wcet/targets.ts';

/** Where a session's own memory lies: its history begins it. */
export interface Slot {
  readonly historyAt: number;
  readonly tableAt: number;
  readonly stateAt: number;
}

export class Residency {
  /** The load that the pool is laid out for. */
  private generation = -1;
  /** For whom pages are being moved: what is free is kept for it until it has its step, or has none any more. */
  private mover: Session | null = null;
  private readonly roots = new Roots();
  /** What the trace knows of memory in use. */
  private tracedBytes = 0;
  private tracedPages = 0;

  constructor(private readonly k: Service) {}

  private get engine(): Engine {
    return this.k.loader.engine() ?? panic('sessions without a model');
  }
  private get ctx(): number {
    return this.engine.options.ctx;
  }

  /** After a load or unload the pool is another one: true the first time. No session is live then. */
  sync(): boolean {
    const { loader, pool } = this.k;
    if (this.isLaidOut) return false;
    this.generation = loader.generation;
    this.mover = null;
    const engine = loader.engine();
    if (engine === null) pool.reset(null);
    else this.layOut(engine);
    return true;
  }

  /** The pool is that of the loaded model. */
  get isLaidOut(): boolean {
    return this.generation === this.k.loader.generation;
  }

  private layOut(engine: Engine): void {
    const { kvAt, pageBytes, pageRecordsAt, shape, options } = engine;
    const planes = Math.max(1, 2 * shape.layers);
    this.k.pool.reset({
      kvAt,
      pageBytes,
      pages: pageBytes === 0 ? 0 : options.pages,
      planes,
      recordsAt: pageRecordsAt,
    });
  }

  /** Where it keeps what is its own; null when it has no slot of the model that is loaded. */
  slotOf(s: Session): Slot | null {
    const place = s.get('place');
    if (place === 0 || s.get('model') !== this.k.loader.generation) return null;
    const { at, bytes, tableAt, stateAt } = this.engine.slots;
    const historyAt = at + (place - 1) * bytes;
    return { historyAt, tableAt: historyAt + tableAt, stateAt: historyAt + stateAt };
  }
  private tableOf(s: Session): number {
    return this.slotOf(s)?.tableAt ?? panic(`session ${s.id} has no block table`);
  }

  /** The lowest engine slot (1 …) that nobody has, or 0. */
  freePlace(): number {
    const taken = new Set(this.k.table.all().map(s => s.get('place')));
    for (let place = 1; place <= this.engine.options.sessions; place++) if (!taken.has(place)) return place;
    return 0;
  }

  // ── A session's pages ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A session that has just got a slot and its history: finds what the pool knows of it already. Returns the positions. */
  begin(s: Session): number {
    const { tableAt, historyAt } = this.slotOf(s)!;
    s.root = this.roots.of(scalesOf(s.scales, this.engine.options.adapters.length));
    this.k.pool.begin(tableAt, this.ctx);
    return s.isScore ? 0 : this.k.pool.share(tableAt, s.uid, historyAt, s.idCount, s.root);
  }

  /** Servers take the pages that they were promised as soon as they are there, in the order in which they were promised them. */
  settle(): void {
    for (const s of this.k.table.live())
      if (s.isServer && s.isRunning && !s.isResident && this.isReady(s, 0)) this.take(s, 0);
  }

  /** Its keys and values up to `pos` have been computed: other sessions of its user may share them. */
  computed(s: Session, from: number, pos: number): void {
    const { tableAt, historyAt } = this.slotOf(s)!;
    if (!s.isScore) this.k.pool.filled(tableAt, historyAt, from, pos, s.root);
  }

  /** It has ended: its pages stay cached until they are wanted. */
  release(s: Session): void {
    const slot = this.slotOf(s);
    if (slot === null) return;
    s.set('pages', this.k.pool.named(slot.tableAt, this.ctx));
    this.k.pool.release(slot.tableAt, this.ctx);
  }

  named(s: Session): number {
    return s.isRunning ? this.k.pool.named(this.tableOf(s), this.ctx) : s.get('pages');
  }
  swapped(s: Session): number {
    return s.isRunning ? this.k.pool.swapped(this.tableOf(s), this.ctx) : 0;
  }

  /** The last position, exclusive, that its next step needs room for: a server's is its last of all. */
  private wanted(s: Session, toPos: number): number {
    if (!s.isServer) return toPos;
    return Math.min(this.ctx, s.get('promptTokens') + s.get('maxTokens') - 1);
  }

  /** Pages that must be had before its next step, those that are out included. */
  private lacking(s: Session, toPos: number): number {
    const tableAt = this.tableOf(s);
    const out = this.k.pool.swapped(tableAt, this.ctx);
    return out > 0 ? out : this.k.pool.needed(tableAt, s.get('pos'), this.wanted(s, toPos));
  }

  /** Pages that others will take before this session does: servers that came first and have not theirs yet; and who has pages moved for it. */
  private claimed(by: Session): number {
    const servers = this.claimedByServers(by.isServer ? by.id : Infinity);
    const mover = this.moving();
    const waits = mover !== null && mover !== by && !mover.isServer && !by.isServer;
    return waits ? servers + this.lacking(mover, mover.get('pos') + 1) : servers;
  }

  /** Pages that servers submitted before session `id` have been promised and do not have yet. */
  private claimedByServers(id: number): number {
    let pages = 0;
    for (const s of this.k.table.live())
      if (s.isServer && s.isRunning && !s.isResident && s.id < id) pages += this.lacking(s, 0);
    return pages;
  }

  /** How many of so many pages a server that came now would have moved for it. */
  lackingFor(pages: number): number {
    return Math.max(0, pages - (this.k.pool.available() - this.claimedByServers(Infinity)));
  }

  /** For whom pages are being moved, while it could use them. */
  private moving(): Session | null {
    const { mover } = this;
    return mover !== null && mover.isRunning && mover.isAwake && !mover.isSuspended ? mover : null;
  }

  /** Pages that a session may have now, without taking them from anybody. */
  private spare(s: Session): number {
    return this.k.pool.available() - this.claimed(s);
  }

  /** True when nothing need be moved before a step up to `toPos`. */
  isReady(s: Session, toPos: number): boolean {
    if (s.isResident) return true;
    const tableAt = this.tableOf(s);
    return this.k.pool.swapped(tableAt, this.ctx) === 0 && this.lacking(s, toPos) <= this.spare(s);
  }

  /** Takes the pages of a step up to `toPos`; isReady() has said that they are there. */
  take(s: Session, toPos: number): void {
    if (s.isResident) return;
    const { pool, trace } = this.k;
    const { copies } = pool;
    const pos = s.get('pos');
    const taken = pool.reserve(this.tableOf(s), s.uid, pos, this.wanted(s, toPos));
    if (taken < 0) panic(`the pages of session ${s.id} were counted and are not there`);
    if (this.mover === s) this.mover = null;
    if (pool.copies > copies) trace.emit('copy', s.id, this.pageAt(s, pos), 0); // only the page that it goes on in can be somebody else's
    s.isResident = s.isServer;
  }

  /** The number, in the pool, of the page of its position `pos`. */
  private pageAt(s: Session, pos: number): number {
    return this.k.arena.u32[(this.tableOf(s) >> 2) + Math.floor(pos / KV_PAGE)]! / this.engine.pageBytes;
  }

  /** Pages of the pool that servers hold or will hold. */
  promised(): number {
    let pages = 0;
    for (const s of this.k.table.live()) if (s.isServer) pages += pagesOf(this.wanted(s, 0));
    return pages;
  }

  /** A session that waits in the queue, or for its pages, can begin without taking pages from others. */
  fits(s: Session): boolean {
    if (s.isQueued) return pagesOf(Math.min(this.ctx, s.idCount)) <= this.spare(s);
    return this.lacking(s, lengthOf(s, this.engine)) <= this.spare(s);
  }

  /** Notes memory in use when it has changed. */
  traceMemory(): void {
    const { arena, pool, trace } = this.k;
    const [bytes, pages] = [arena.usage().offset, pool.used()];
    if (bytes === this.tracedBytes && pages === this.tracedPages) return;
    this.tracedBytes = bytes;
    this.tracedPages = pages;
    trace.emit('arena', 0, bytes, pages);
  }

  // ── The swap device ────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Pages are moved for one session at a time. Not so for servers: what is free goes to who was promised first. */
  mayMove(s: Session): boolean {
    const mover = this.moving();
    return s.isServer || mover === null || mover === s;
  }

  /** What moving a page costs, always. */
  moveCycles(): number {
    return transferCycles(this.k.costs.target, this.engine.pageBytes + PAGE_RECORD_BYTES).upper;
  }

  /**
   * One page moves so that a session comes nearer to its step: one of its own in, or one of somebody else's out, of whom comes last in
   * `order` or is not in it. False when there is nobody to take from: it waits.
   */
  move(s: Session, order: readonly number[]): boolean {
    const { pool } = this.k;
    this.mover = s;
    const tableAt = this.tableOf(s);
    if (pool.swapped(tableAt, this.ctx) > 0 && this.spare(s) > 0) {
      if (pool.swapIn(tableAt, this.ctx, 1) < 0) panic(`a page was free and is not`);
      s.set('swapIns', s.get('swapIns') + 1);
      this.moved(s, 'swap-in');
      return true;
    }
    for (const victim of this.victims(s, order)) {
      victim.isSuspended = true;
      if (pool.swapOut(this.tableOf(victim), this.ctx, 1) > 0) {
        this.moved(victim, 'swap-out');
        return true;
      }
      // All its pages are shared, or the device is full: it computes them again some time. What it shared with this session is that one's now.
      this.giveUp(victim);
      if (this.spare(s) > 0 || this.isReady(s, s.get('pos') + 1)) return true;
    }
    return false;
  }

  /** Sessions without a server that have pages: those that wait first, then who is last in order. */
  private victims(s: Session, order: readonly number[]): Session[] {
    const rank = (v: Session): number => (v.isSuspended ? Infinity : order.indexOf(v.slot));
    const waits = (v: Session): number => (rank(v) < 0 ? LAST : rank(v));
    return this.k.table
      .live()
      .filter(v => v !== s && v.isRunning && !v.isServer && this.named(v) > 0)
      .sort((a, b) => waits(b) - waits(a) || a.u64('ranNs') - b.u64('ranNs'));
  }

  private giveUp(victim: Session): void {
    this.k.pool.release(this.tableOf(victim), this.ctx);
    victim.set('pos', 0);
  }

  /** A session goes on that had given up its pages: others may have kept what it had. */
  regain(s: Session): void {
    if (s.isScore || s.get('pos') > 0) return;
    const { tableAt, historyAt } = this.slotOf(s)!;
    s.set('pos', this.k.pool.share(tableAt, s.uid, historyAt, lengthOf(s, this.engine), s.root));
  }

  private moved(s: Session, kind: 'swap-in' | 'swap-out'): void {
    const { clock, costs, trace } = this.k;
    const bytes = this.engine.pageBytes + PAGE_RECORD_BYTES;
    const from = clock.nowNs();
    costs.transfer(bytes);
    trace.emit(kind, s.id, 1, bytes, clock.nowNs() - from);
  }
}

/** Behind everyone in order, before those that are suspended. */
const LAST = 1 << 20;
