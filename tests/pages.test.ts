// The page pool and the swap device against a naive reference: every session's positions hold a hash of its user and its tokens so far, and
// after each of many random operations every session reads through its table exactly its own. Then the edge cases by name.
import v8 from 'node:v8';
import test, { type ExecutionContext } from 'ava';
import { Arena } from '../kernel/arena.ts';
import { ABSENT, PAGE, PagePool, pagesOf, type PoolPlace, SWAPPED } from '../kernel/pages.ts';
import { Swap } from '../kernel/swap.ts';
import { KV_PAGE, LIMITS, PAGE_RECORD_BYTES } from '../kernel/abi/index.ts';
import { random, soak } from './harness.ts';

const PLANES = 3;
const ROW_BYTES = 8; // of one plane: two words
const PAGE_BYTES = PLANES * KV_PAGE * ROW_BYTES; // 768
const CTX = 5 * KV_PAGE + 7; // the last page of a table is never full
const TABLE_PAGES = pagesOf(CTX);
const SLOT_BYTES = (CTX + TABLE_PAGES) * 4;

/** Two words of one row: the user in the highest byte of the first, so that no row of a user is zero. */
const mix = (a: number, b: number): number => {
  const h = Math.imul(a ^ Math.imul(b + 1, 0x9e3779b1), 0x85ebca6b);
  return (h ^ (h >>> 15)) >>> 0;
};

class Session {
  tokens: number[] = []; // of the computed positions, then of the prompt that is still to come
  hashes: number[] = []; // of the tokens up to each computed position
  written = 0; // the most positions it has computed
  uid = 0;
  live = false;
  constructor(readonly historyAt: number) {}
  get tableAt(): number {
    return this.historyAt + CTX * 4;
  }
  get length(): number {
    return this.hashes.length;
  }
}

/** A pool in an arena of its own, with sessions that fill it as a model would. */
class World {
  readonly arena: Arena;
  readonly swap: Swap;
  readonly pool: PagePool;
  readonly place: PoolPlace;
  readonly sessions: Session[];
  constructor(
    readonly pages: number,
    sessions = 5,
    swapPages = 8,
  ) {
    this.arena = new Arena(new ArrayBuffer(1 << 17));
    const take = (bytes: number): number => {
      const at = this.arena.alloc(bytes);
      if (at < 0) throw new Error('the world is too small');
      return at;
    };
    take(LIMITS.nullBytes);
    const slotsAt = take(sessions * SLOT_BYTES);
    this.place = {
      kvAt: take(pages * PAGE_BYTES),
      pageBytes: PAGE_BYTES,
      pages,
      planes: PLANES,
      recordsAt: take(pages * PAGE_RECORD_BYTES),
    };
    this.arena.u8.fill(0xa5, slotsAt); // what is not given must not be relied on
    this.swap = new Swap(this.arena, swapPages * (PAGE_BYTES + PAGE_RECORD_BYTES));
    this.pool = new PagePool(this.arena, this.swap);
    this.pool.reset(this.place);
    this.sessions = Array.from({ length: sessions }, (_, i) => new Session(slotsAt + i * SLOT_BYTES));
  }

  entry(s: Session, i: number): number {
    return this.arena.u32[(s.tableAt >> 2) + i]!;
  }
  note(page: number, field: 'refs' | 'fill'): number {
    return this.arena.u16[(this.place.recordsAt + page * PAGE_RECORD_BYTES + PAGE[field]) >> 1]!;
  }
  key(page: number, field: 'key' | 'parent'): number {
    return this.arena.f64[(this.place.recordsAt + page * PAGE_RECORD_BYTES + PAGE[field]) >> 3]!;
  }
  writer(page: number): number {
    return this.arena.u32[(this.place.recordsAt + page * PAGE_RECORD_BYTES + PAGE.writer) >> 2]!;
  }

  /** Begins a session with a prompt; the positions found. Nothing is computed yet. */
  start(s: Session, uid: number, prompt: readonly number[]): number {
    s.live = true;
    s.uid = uid;
    s.tokens = [...prompt];
    s.hashes = [];
    s.written = 0;
    this.arena.u32.set(s.tokens, s.historyAt >> 2);
    this.pool.begin(s.tableAt, CTX);
    const shared = this.pool.share(s.tableAt, uid, s.historyAt, prompt.length);
    for (let pos = 0; pos < shared; pos++) this.hash(s, pos);
    return shared;
  }

  reserve(s: Session, toPos: number): number {
    return this.pool.reserve(s.tableAt, s.uid, s.length, toPos);
  }

  /** Computes positions up to `toPos`, as a pass does: rows are written through the table. They are reserved. */
  compute(s: Session, toPos: number, tell = true): void {
    const from = s.length;
    this.arena.u32.set(s.tokens.slice(from, toPos), (s.historyAt >> 2) + from);
    for (let pos = from; pos < toPos; pos++) {
      this.hash(s, pos);
      for (let plane = 0; plane < PLANES; plane++) {
        const i = this.rowAt(s, pos, plane) >> 2;
        this.arena.u32[i] = this.word(s, pos, plane);
        this.arena.u32[i + 1] = ~this.word(s, pos, plane);
      }
    }
    s.written = Math.max(s.written, toPos);
    if (tell) this.pool.filled(s.tableAt, s.historyAt, from, toPos);
  }

  /** Both at once, for sessions that have room. */
  run(s: Session, toPos: number): void {
    if (this.reserve(s, toPos) < 0) throw new Error('no room');
    this.compute(s, toPos);
  }

  end(s: Session): void {
    this.pool.release(s.tableAt, CTX);
    s.live = false;
  }

  private hash(s: Session, pos: number): void {
    s.hashes[pos] = mix(pos === 0 ? s.uid : s.hashes[pos - 1]!, s.tokens[pos]!);
  }
  private word(s: Session, pos: number, plane: number): number {
    return ((s.uid << 24) | (mix(s.hashes[pos]!, plane) & 0xffffff)) >>> 0;
  }
  private rowAt(s: Session, pos: number, plane: number): number {
    const entry = this.entry(s, Math.floor(pos / KV_PAGE));
    if (entry >= SWAPPED) throw new Error(`position ${pos} is not in the arena`);
    return this.place.kvAt + entry + plane * KV_PAGE * ROW_BYTES + (pos % KV_PAGE) * ROW_BYTES;
  }

  /** What is wrong with what a session sees: '' when it is exactly its own positions, and no row of another user. */
  seen(s: Session): string {
    const { u32 } = this.arena;
    for (let i = 0; i < TABLE_PAGES; i++) {
      const entry = this.entry(s, i);
      if (entry === ABSENT && i * KV_PAGE < s.length) return `page ${i} is absent`;
      if (entry >= SWAPPED) continue;
      const isWriter = this.writer(entry / PAGE_BYTES) === s.tableAt;
      for (let row = 0; row < KV_PAGE; row++)
        for (let plane = 0; plane < PLANES; plane++) {
          const pos = i * KV_PAGE + row;
          const at = (this.place.kvAt + entry + (plane * KV_PAGE + row) * ROW_BYTES) >> 2;
          if (pos < s.length) {
            const word = this.word(s, pos, plane);
            if (u32[at] !== word || u32[at + 1] !== ~word >>> 0) return `position ${pos} is not its own`;
          } else if (u32[at] !== 0 && u32[at]! >>> 24 !== s.uid) return `position ${pos} is another user's`;
          else if (isWriter && pos >= s.written && u32[at] !== 0) return `position ${pos} was not cleared`;
        }
    }
    return '';
  }

  /** What is wrong with the books: '' when every count is what the tables say. */
  audit(): string {
    const { pages } = this.place;
    const named = new Map<number, Session[]>();
    const slots = new Set<number>();
    for (const s of this.sessions.filter(s => s.live))
      for (let i = 0; i < TABLE_PAGES; i++) {
        const entry = this.entry(s, i);
        if (entry === ABSENT) continue;
        if (entry >= SWAPPED) {
          if (slots.has(entry)) return `slot ${entry - SWAPPED} is named twice`;
          slots.add(entry);
          continue;
        }
        const page = entry / PAGE_BYTES;
        if (!Number.isInteger(page) || page >= pages) return `entry ${entry} is no page`;
        const by = named.get(page) ?? [];
        if (by.includes(s)) return `page ${page} stands twice in a table`;
        named.set(page, [...by, s]);
      }
    let cached = 0;
    for (let page = 0; page < pages; page++) {
      const by = named.get(page) ?? [];
      const writer = this.writer(page);
      if (this.note(page, 'refs') !== by.length)
        return `page ${page}: ${this.note(page, 'refs')} refs, ${by.length} tables`;
      if (by.length > 0 && writer !== 0 && !by.some(s => s.tableAt === writer))
        return `page ${page}: a stranger writes`;
      if (new Set(by.map(s => s.uid)).size > 1) return `page ${page}: users share it`;
      if (by.length === 0 && this.note(page, 'fill') > 0) cached++;
    }
    const f = this.pool.figures();
    const free = pages - cached - named.size;
    const shared = [...named.values()].filter(by => by.length > 1).length;
    const expected = [pages, free, cached, shared, slots.size, slots.size, free + cached];
    const actual = [f.total, f.free, f.cached, f.shared, f.swapped, this.swap.usage().used, this.pool.available()];
    return expected.join() === actual.join() ? '' : `figures ${actual} for ${expected}`;
  }
}

// ── Random operations ────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Mix {
  readonly pages: number;
  readonly sessions: number;
  readonly swapPages: number; // 0: nothing is swapped
  readonly rewinds: boolean; // sessions go back to an earlier position
  /** Nothing is ever forgotten: the longest beginning in common with all that was computed must be found. */
  readonly remembers: boolean;
}

/** Prompts of a few families, so that many begin alike; a tail of two letters, so that they part anywhere. */
function prompt(next: () => number): number[] {
  const family = Math.floor(next() * 3);
  const length = 1 + Math.floor(next() * (CTX - 12));
  const parts = Math.floor(next() * (length + 1));
  return Array.from({ length }, (_, i) => (i < parts ? mix(family, i) % 4 : Math.floor(next() * 2)));
}

const common = (a: readonly number[], b: readonly number[]): number => {
  let n = 0;
  while (n < a.length && n < b.length && a[n] === b[n]) n++;
  return n;
};

class Player {
  readonly world: World;
  private readonly next: () => number;
  private readonly known: { uid: number; tokens: number[] }[] = [];
  constructor(
    private readonly mixed: Mix,
    seed: number,
  ) {
    this.world = new World(mixed.pages, mixed.sessions, mixed.swapPages);
    this.next = random(seed);
  }

  private below(n: number): number {
    return Math.floor(this.next() * n);
  }

  /** One operation; what was wrong with it, or ''. */
  play(): string {
    const { world, mixed } = this;
    const s = world.sessions[this.below(mixed.sessions)]!;
    if (!s.live) return this.begin(s);
    const out = world.pool.swapped(s.tableAt, CTX);
    const what = this.below(20);
    if (what === 0) {
      world.end(s);
      return '';
    }
    if (mixed.swapPages > 0 && what < 3) return this.swapOut(s);
    if (out > 0) return this.swapIn(s, out);
    if (mixed.rewinds && what === 3 && s.length > 0) this.rewind(s);
    return what === 4 ? this.together() : this.go(s);
  }

  private begin(s: Session): string {
    const tokens = prompt(this.next);
    const uid = 1 + this.below(2);
    const found = this.world.start(s, uid, tokens);
    const asked = tokens.slice(0, -1);
    if (found > asked.length) return `${found} positions of ${tokens.length} were shared`;
    if (!this.mixed.remembers) return '';
    const longest = Math.max(0, ...this.known.map(k => (k.uid === uid ? common(k.tokens, asked) : 0)));
    return found === longest ? '' : `${found} positions were shared, ${longest} are known`;
  }

  /** Up to some positions more: of the prompt, then of tokens drawn. Without room nothing changes. */
  private go(s: Session): string {
    const toPos = this.target(s);
    if (toPos === s.length) return '';
    const reserved = this.reserve(s, toPos + (this.below(4) === 0 ? this.below(CTX - toPos) : 0));
    if (reserved !== '') return reserved === 'full' ? '' : reserved;
    this.compute(s, toPos);
    return '';
  }

  /** Several sessions in one pass: all have room before any row is written, and all are told after. */
  private together(): string {
    const rows: [Session, number][] = [];
    for (const s of this.world.sessions) {
      if (!s.live || this.world.pool.swapped(s.tableAt, CTX) > 0 || this.below(3) === 0) continue;
      const toPos = this.target(s);
      if (toPos === s.length) continue;
      const reserved = this.reserve(s, toPos);
      if (reserved === 'full') continue;
      if (reserved !== '') return reserved;
      rows.push([s, toPos]);
    }
    const from = rows.map(([s]) => s.length);
    for (const [s, toPos] of rows) this.world.compute(s, toPos, false);
    rows.forEach(([s, toPos], i) => {
      this.world.pool.filled(s.tableAt, s.historyAt, from[i]!, toPos);
      this.note(s);
    });
    return '';
  }

  private target(s: Session): number {
    const toPos = Math.min(CTX, s.length + 1 + this.below(this.below(4) === 0 ? 70 : 6));
    while (s.tokens.length < toPos) s.tokens.push(this.below(2));
    return toPos;
  }

  private reserve(s: Session, toPos: number): string {
    const { pool, arena } = this.world;
    const needed = pool.needed(s.tableAt, s.length, toPos);
    const had = pool.available();
    const before = needed > had ? arena.u8.slice() : null;
    const taken = this.world.reserve(s, toPos);
    if (before === null) return taken >= needed ? '' : `${taken} pages taken, ${needed} needed`;
    if (taken !== -1) return `${taken} pages taken although ${needed} were needed and ${had} there`;
    return Buffer.compare(before, arena.u8) === 0 ? 'full' : 'refused, and something has changed';
  }

  private compute(s: Session, toPos: number): void {
    this.world.compute(s, toPos);
    this.note(s);
  }
  private note(s: Session): void {
    if (this.mixed.remembers) this.known.push({ uid: s.uid, tokens: s.tokens.slice(0, s.length) });
  }

  /** Back to an earlier position, with other tokens from there. */
  private rewind(s: Session): void {
    s.hashes.length = this.below(s.length);
    s.tokens.length = s.length;
  }

  private swapOut(s: Session): string {
    const { pool, swap } = this.world;
    const most = 1 + this.below(4);
    const own = pool.ownPages(s.tableAt, CTX);
    const room = swap.usage().slots - swap.usage().used;
    const moved = pool.swapOut(s.tableAt, CTX, most);
    return moved === Math.min(most, own, room)
      ? ''
      : `${moved} pages went out: at most ${most}, ${own} own, ${room} slots`;
  }

  private swapIn(s: Session, out: number): string {
    const { pool } = this.world;
    const most = 1 + this.below(4);
    const had = pool.available();
    const moved = pool.swapIn(s.tableAt, CTX, most);
    const expected = had === 0 ? -1 : Math.min(most, out, had);
    return moved === expected ? '' : `${moved} pages came in: at most ${most} of ${out}, ${had} to be had`;
  }

  /** All is given back. */
  finish(): string {
    for (const s of this.world.sessions) if (s.live) this.world.end(s);
    const { free, cached, total, swapped } = this.world.pool.figures();
    return free + cached === total && swapped === 0 ? this.world.audit() : 'something leaks';
  }
}

function play(t: ExecutionContext, mixed: Mix, steps: number, seed: number): Player {
  const player = new Player(mixed, seed);
  const { world } = player;
  for (let step = 0; step < steps; step++) {
    const wrong =
      player.play() || world.audit() || world.sessions.map(s => (s.live ? world.seen(s) : '')).find(w => w !== '');
    if (wrong === undefined) continue;
    t.fail(`seed ${seed}, step ${step}: ${wrong}`);
    break;
  }
  t.is(player.finish(), '', `seed ${seed}`);
  return player;
}

const STEPS = soak ? 1_000_000 : 20_000;
const MIXES: readonly (Mix & { readonly name: string; readonly share: number })[] = [
  {
    name: 'scarce, with a swap device',
    pages: 9,
    sessions: 5,
    swapPages: 6,
    rewinds: false,
    remembers: false,
    share: 0.3,
  },
  {
    name: 'scarce, with everything',
    pages: 12,
    sessions: 6,
    swapPages: 20,
    rewinds: true,
    remembers: false,
    share: 0.3,
  },
  { name: 'one context', pages: 6, sessions: 3, swapPages: 0, rewinds: true, remembers: false, share: 0.2 },
  { name: 'some room', pages: 24, sessions: 5, swapPages: 0, rewinds: false, remembers: false, share: 0.2 },
];

for (const mixed of MIXES) {
  const steps = STEPS * mixed.share;
  test(`${steps} random operations, ${mixed.name}: everybody sees exactly their own, and the counts add up`, t => {
    const { pool } = play(t, mixed, steps, 5).world;
    const f = pool.figures();
    t.log(JSON.stringify(f));
    t.true(f.prefixTokens > 0 && f.copies > 0 && f.evictions > 0);
    t.is(f.swapOuts > 0 && f.swapIns > 0, mixed.swapPages > 0);
  });
}
