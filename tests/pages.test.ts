// The page pool and the swap device against a naive reference: every session's positions hold a hash of its user and its tokens so far, and
// after each of many random operations every session reads through its table exactly its own. Then the edge cases by name.
import v8 from 'node:v8';
import test, { type ExecutionContext } from 'ava';
import { alignUp, Arena } from '../kernel/arena.ts';
import { ABSENT, PAGE, PagePool, pagesOf, type PoolPlace, SWAPPED } from '../kernel/pages.ts';
import { Swap } from '../kernel/swap.ts';
import {
  type Engine,
  GGML_TYPE,
  isRefusal,
  KV_PAGE,
  LIMITS,
  PAGE_RECORD_BYTES,
  type Refusal,
} from '../kernel/abi/index.ts';
import { TransformerDriver } from '../drivers/engine/transformer/driver.ts';
import { accepted, type LoadedModel, random, Rig, soak } from './harness.ts';
import { type ArchitectureName, NAMES, randomConfig, randomModel } from './reference/models.ts';

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
    const slack = LIMITS.nullBytes + 4 * LIMITS.arenaAlign; // 4 allocations, each rounded up
    const bytes = slack + sessions * SLOT_BYTES + pages * (PAGE_BYTES + PAGE_RECORD_BYTES);
    this.arena = new Arena(new ArrayBuffer(alignUp(bytes, LIMITS.arenaAlign)));
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

  /** Pages that no other table names: what swapOut can move. */
  ownPages(s: Session): number {
    const entries = Array.from({ length: Math.ceil(CTX / KV_PAGE) }, (_, i) => this.entry(s, i));
    return entries.filter(entry => entry < SWAPPED && this.note(entry / this.place.pageBytes, 'refs') === 1).length;
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
    if (this.mixed.remembers && this.world.pool.figures().free < 60) this.forget();
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
    const own = this.world.ownPages(s);
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

  /** A model is loaded again: nothing is known. */
  private forget(): void {
    for (const s of this.world.sessions) if (s.live) this.world.end(s);
    this.world.pool.reset(this.world.place);
    this.known.length = 0;
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
/** `part` of the operations. */
const MIXES: readonly (Mix & { readonly name: string; readonly part: number })[] = [
  {
    name: 'scarce, with a swap device',
    pages: 9,
    sessions: 5,
    swapPages: 6,
    rewinds: false,
    remembers: false,
    part: 0.3,
  },
  {
    name: 'scarce, with everything',
    pages: 12,
    sessions: 6,
    swapPages: 20,
    rewinds: true,
    remembers: false,
    part: 0.3,
  },
  { name: 'one context', pages: 6, sessions: 3, swapPages: 0, rewinds: true, remembers: false, part: 0.2 },
  { name: 'all is remembered', pages: 300, sessions: 5, swapPages: 0, rewinds: true, remembers: true, part: 0.2 },
];

for (const mixed of MIXES) {
  const steps = STEPS * mixed.part;
  test(`${steps} random operations, ${mixed.name}: everybody sees exactly their own, and the counts add up`, t => {
    const { pool } = play(t, mixed, steps, 5).world;
    const f = pool.figures();
    t.log(JSON.stringify(f));
    t.true(f.prefixTokens > 0 && f.copies > 0);
    t.is(f.evictions > 0, !mixed.remembers);
    t.is(f.swapOuts > 0 && f.swapIns > 0, mixed.swapPages > 0);
  });
}

// ── By name ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const ADA = 101; // a byte: rows carry it
const BOB = 102;
const text = (length: number, seed = 0): number[] => Array.from({ length }, (_, i) => mix(seed, i));

/** The books and what every session sees, after a step of a test. */
function sound(t: ExecutionContext, world: World): void {
  t.is(world.audit(), '');
  for (const s of world.sessions) if (s.live) t.is(world.seen(s), '');
}

test('a prompt that is known is shared by reference but for its last token', t => {
  const world = new World(10);
  const [a, b, c] = world.sessions as [Session, Session, Session];
  const tokens = text(70);
  t.is(world.start(a, ADA, tokens), 0);
  world.run(a, 70);
  t.is(world.start(b, ADA, tokens), 69, 'the last token is computed: logits stand behind it');
  t.deepEqual(
    [0, 1, 2].map(i => world.entry(a, i) === world.entry(b, i)),
    [true, true, true],
  );
  t.is(world.pool.figures().shared, 3);
  t.is(world.reserve(b, 70), 1, 'its last position lies in a page that the other one reads: a copy');
  world.compute(b, 70);
  t.is(world.pool.figures().copies, 1);
  sound(t, world);
  t.is(world.start(c, BOB, tokens), 0, 'another user finds nothing');
  t.is(world.pool.figures().prefixTokens, 69);
});

test('sharing ends at a page boundary, or inside a page, where prompts part', t => {
  for (const length of [31, 32, 33, 63, 64, 65]) {
    const world = new World(12);
    const [a, b] = world.sessions as [Session, Session];
    world.start(a, ADA, text(100));
    world.run(a, 100);
    t.is(world.start(b, ADA, [...text(length), ...text(30, 1)]), length);
    t.is(world.reserve(b, length + 30), pagesOf(length + 30) - Math.floor(length / KV_PAGE));
    world.compute(b, length + 30);
    t.is(world.pool.figures().copies, length % KV_PAGE === 0 ? 0 : 1);
    sound(t, world);
  }
});

test('a prompt of one token, or of none, shares nothing', t => {
  const world = new World(4);
  const [a, b] = world.sessions as [Session, Session];
  world.start(a, ADA, text(8));
  world.run(a, 8);
  t.is(world.start(b, ADA, text(1)), 0);
  world.end(b);
  t.is(world.start(b, ADA, []), 0);
  sound(t, world);
});

test('a session that goes on alone in its partial page appends in place', t => {
  const world = new World(4);
  const [a] = world.sessions as [Session];
  world.start(a, ADA, text(40));
  world.run(a, 10);
  const entry = world.entry(a, 0);
  for (let pos = 10; pos < 40; pos++) {
    t.is(world.reserve(a, pos + 1), pos === 32 ? 1 : 0);
    world.compute(a, pos + 1);
  }
  t.is(world.entry(a, 0), entry);
  t.is(world.pool.figures().copies, 0);
  sound(t, world);
});

test('of two that continue one partial page, its writer goes on in place and the other one copies', t => {
  const world = new World(4);
  const [a, b] = world.sessions as [Session, Session];
  world.start(a, ADA, text(20));
  world.run(a, 10);
  world.start(b, ADA, [...text(10), ...text(9, 1)]);
  t.is(world.reserve(a, 20), 0);
  t.is(world.reserve(b, 19), 1);
  world.compute(b, 19);
  world.compute(a, 20);
  sound(t, world);

  // The writer is gone: the first of the others to go on takes its place, the second copies.
  const [, , c, d] = world.sessions as [Session, Session, Session, Session];
  world.start(c, ADA, [...text(20), ...text(5, 2)]);
  world.start(d, ADA, [...text(20), ...text(5, 3)]);
  world.end(a);
  t.is(world.reserve(d, 25), 0);
  t.is(world.reserve(c, 25), 1);
  world.compute(d, 25);
  world.compute(c, 25);
  sound(t, world);
});

test('who was promised room but has not used it yet is not overtaken', t => {
  const world = new World(6);
  const [a, b] = world.sessions as [Session, Session];
  world.start(a, ADA, text(64));
  world.run(a, 10);
  t.is(world.reserve(a, 64), 1, 'all of it is promised');
  t.is(world.start(b, ADA, [...text(10), ...text(20, 1)]), 10);
  t.is(world.reserve(b, 30), 1);
  world.compute(b, 30);
  world.compute(a, 64);
  sound(t, world);
});

test('what was computed but not told is nobody else’s, and is cleared for the next writer', t => {
  const world = new World(6);
  const [a, b] = world.sessions as [Session, Session];
  world.start(a, ADA, text(30));
  world.run(a, 10);
  t.is(world.start(b, ADA, text(20)), 10);
  world.reserve(a, 30);
  world.compute(a, 30, false);
  world.end(a);
  t.is(world.reserve(b, 11), 0, 'in place');
  world.compute(b, 11);
  sound(t, world);
});

test('two that compute the same prompt side by side end up with one copy of its full pages', t => {
  const world = new World(8);
  const [a, b] = world.sessions as [Session, Session];
  for (const s of [a, b]) world.start(s, ADA, text(70));
  for (const s of [a, b]) world.run(s, 40);
  for (const s of [a, b]) world.run(s, 70);
  t.deepEqual(
    [0, 1, 2].map(i => world.entry(a, i) === world.entry(b, i)),
    [true, true, false],
  );
  t.is(world.pool.figures().shared, 2);
  sound(t, world);
  world.end(a);
  world.end(b);
  t.is(world.pool.figures().cached, 3, 'of two partial pages that say the same one stays');
});

test('the same tokens behind another beginning are another page', t => {
  const world = new World(8);
  const [a, b] = world.sessions as [Session, Session];
  const tail = text(40, 7);
  world.start(a, ADA, [...text(32), ...tail]);
  world.run(a, 72);
  t.is(world.start(b, ADA, [...text(32, 1), ...tail]), 0);
  world.run(b, 72);
  t.is(world.pool.figures().shared, 0);
  sound(t, world);
});

test('a pool of one page', t => {
  const world = new World(1);
  const [a, b] = world.sessions as [Session, Session];
  world.start(a, ADA, text(32));
  world.run(a, 32);
  t.is(world.reserve(a, 33), -1);
  t.is(world.start(b, ADA, text(20)), 19);
  t.is(world.reserve(b, 20), -1, 'others read it, and there is no page for a copy');
  world.end(a);
  t.is(world.reserve(b, 20), 0, 'alone, it goes on in place and the page forgets the rest');
  world.compute(b, 20);
  sound(t, world);
  world.end(b);
  t.is(world.start(a, ADA, text(32)), 20);
  world.end(a);
  t.is(world.start(a, BOB, text(32)), 0);
  t.is(world.reserve(a, 32), 1);
  t.is(world.pool.figures().evictions, 1);
  sound(t, world);
});

test('a pool that is exactly full, and one position more', t => {
  const world = new World(TABLE_PAGES + 2);
  const [a, b] = world.sessions as [Session, Session];
  world.start(a, ADA, text(CTX));
  world.run(a, CTX);
  world.start(b, BOB, text(65));
  world.run(b, 64);
  t.is(world.pool.available(), 0);
  t.is(world.pool.needed(b.tableAt, 64, 65), 1);
  t.is(world.reserve(b, 65), -1);
  sound(t, world);
  world.end(a);
  t.is(world.reserve(b, 65), 1);
  sound(t, world);
});

/** Positions of a prompt that the pool knows, read from its records: looking is no use. */
function remembered(world: World, tokens: readonly number[]): number {
  let parent = 0;
  for (let n = 0; ; n += KV_PAGE) {
    const says = (page: number): readonly number[] => {
      const at = (world.place.recordsAt + page * PAGE_RECORD_BYTES + PAGE.tokens) >> 2;
      return [...world.arena.u32.subarray(at, at + world.note(page, 'fill'))];
    };
    const pages = Array.from({ length: world.pages }, (_, page) => page).filter(
      page => world.key(page, 'parent') === parent && common(says(page), tokens.slice(n)) > 0,
    );
    if (pages.length === 0) return n;
    const equal = common(says(pages[0]!), tokens.slice(n));
    if (equal < KV_PAGE) return n + equal;
    parent = world.key(pages[0]!, 'key');
  }
}

test('the longest unused is evicted first, of one prompt the end before the beginning', t => {
  const world = new World(8);
  const [a, b] = world.sessions as [Session, Session];
  const prompts = [text(65), text(96, 1), text(64, 2)];
  for (const tokens of prompts) {
    world.start(a, ADA, tokens);
    world.run(a, tokens.length);
    world.end(a);
  }
  t.is(world.pool.figures().cached, 8);
  t.is(world.start(a, ADA, [...prompts[0]!, 9]), 65, 'a use: now it is the newest');
  world.end(a);
  world.start(b, BOB, text(CTX, 9));
  const left: string[] = [];
  for (let pages = 1; pages <= 6; pages++) {
    t.is(world.reserve(b, pages * KV_PAGE > CTX ? CTX : pages * KV_PAGE), 1);
    world.compute(b, Math.min(CTX, pages * KV_PAGE));
    left.push(prompts.map(tokens => remembered(world, tokens)).join(' '));
  }
  t.deepEqual(left, ['65 64 64', '65 32 64', '65 0 64', '65 0 32', '65 0 0', '64 0 0']);
  t.is(world.pool.figures().evictions, 6);
  sound(t, world);
});

test('pages are zeroed when a session gets them', t => {
  const world = new World(3);
  const [a, b] = world.sessions as [Session, Session];
  world.start(a, ADA, text(96));
  world.run(a, 96);
  world.end(a);
  world.start(b, BOB, text(96));
  t.is(world.reserve(b, 96), 3);
  const { kvAt, pageBytes, pages } = world.place;
  t.true(world.arena.u8.subarray(kvAt, kvAt + pages * pageBytes).every(byte => byte === 0));
});

test('a session that goes back leaves what it knew to others', t => {
  const world = new World(8);
  const [a, b] = world.sessions as [Session, Session];
  world.start(a, ADA, text(80));
  world.run(a, 80);
  a.hashes.length = 20;
  a.tokens = [...text(20), ...text(60, 1)];
  world.run(a, 80);
  sound(t, world);
  t.is(world.start(b, ADA, text(80)), 79);
  world.end(a);
  world.end(b);
  sound(t, world);
});

test('a page that says something else has other followers', t => {
  const world = new World(3);
  const [a, b, c] = world.sessions as [Session, Session, Session];
  world.start(b, BOB, text(20));
  world.run(b, 20);
  world.start(a, ADA, text(64));
  world.run(a, 64);
  a.hashes.length = 0;
  a.tokens = text(32, 1);
  t.is(world.reserve(a, 32), 0, 'there is no room to keep what it knew');
  world.compute(a, 32);
  t.is(world.start(c, ADA, [...text(32, 1), ...text(64).slice(32)]), 32);
  world.end(c);
  t.is(world.start(c, ADA, text(64)), 0);
  sound(t, world);
});

test('swapped out and in again: the last positions go first, the first come first, and nothing is lost', t => {
  const world = new World(6, 3, 10);
  const [a, b, c] = world.sessions as [Session, Session, Session];
  const { pool, swap } = world;
  world.start(a, ADA, text(150));
  world.run(a, 130);
  t.is(world.start(b, ADA, text(60)), 59);
  t.is(world.ownPages(a), 3, 'two of five are shared');
  const out = (): boolean[] => [0, 1, 2, 3, 4].map(i => world.entry(a, i) >= SWAPPED);
  t.is(pool.swapOut(a.tableAt, CTX, 2), 2);
  t.deepEqual(out(), [false, false, false, true, true]);
  t.is(pool.swapOut(a.tableAt, CTX, 9), 1, 'shared pages stay');
  t.is(pool.swapOut(a.tableAt, CTX, 9), 0);
  t.is(pool.swapped(a.tableAt, CTX), 3);
  t.is(pool.named(a.tableAt, CTX), 2);
  t.deepEqual(swap.usage(), { used: 3, slots: 10 });
  world.start(c, BOB, text(128));
  world.run(c, 128);
  t.is(pool.available(), 0);
  t.is(pool.swapIn(a.tableAt, CTX, 9), -1, 'without room');
  world.end(b);
  t.is(pool.swapIn(a.tableAt, CTX, 9), -1, 'its first pages are still named');
  sound(t, world);
  world.end(c);
  t.is(pool.swapIn(a.tableAt, CTX, 2), 2);
  t.deepEqual(out(), [false, false, false, false, true]);
  t.is(pool.swapIn(a.tableAt, CTX, 9), 1);
  t.is(pool.swapIn(a.tableAt, CTX, 9), 0);
  world.run(a, 150);
  sound(t, world);
  t.is(world.start(b, ADA, text(150)), 149, 'what it knew came back with it');
  t.deepEqual(swap.usage(), { used: 0, slots: 10 });
});

test('a session that ends while its pages are out drops them', t => {
  const world = new World(4, 2, 4);
  const [a] = world.sessions as [Session];
  world.start(a, ADA, text(100));
  world.run(a, 100);
  t.is(world.pool.swapOut(a.tableAt, CTX, 3), 3);
  world.end(a);
  t.is(world.swap.usage().used, 0);
  sound(t, world);
  t.is(world.start(a, ADA, text(100)), 32);
});

test('a full swap device takes what it can', t => {
  const world = new World(6, 2, 3);
  const [a, b] = world.sessions as [Session, Session];
  world.start(a, ADA, text(64));
  world.run(a, 64);
  world.start(b, ADA, text(100, 1));
  world.run(b, 100);
  t.is(world.pool.swapOut(a.tableAt, CTX, 2), 2);
  t.is(world.pool.swapOut(b.tableAt, CTX, 4), 1);
  t.is(world.pool.swapOut(b.tableAt, CTX, 4), 0);
  sound(t, world);
  t.is(world.pool.swapIn(a.tableAt, CTX, 9), 2);
  t.is(world.pool.swapOut(b.tableAt, CTX, 4), 2);
  sound(t, world);
});

test('what must not be asked for is a panic', t => {
  const world = new World(4, 2, 4);
  const [a] = world.sessions as [Session];
  world.start(a, ADA, text(64));
  world.run(a, 64);
  world.pool.swapOut(a.tableAt, CTX, 1);
  t.throws(() => world.pool.reserve(a.tableAt, ADA, 40, 50), { message: /page 1 .* is on the swap device/ });
  t.throws(() => world.pool.filled(a.tableAt, a.historyAt, 96, 97), { message: /page 3 .* is absent/ });
  t.throws(() => world.swap.drop(3), { message: 'slot 3 of the swap device holds nothing' });
});

test('without a model every call succeeds and does nothing', t => {
  const world = new World(2);
  const [a] = world.sessions as [Session];
  world.pool.reset(null);
  t.is(world.start(a, ADA, text(64)), 0);
  t.is(world.reserve(a, 64), 0);
  world.pool.filled(a.tableAt, a.historyAt, 0, 64);
  t.is(world.pool.swapOut(a.tableAt, CTX, 9), 0);
  t.is(world.pool.swapIn(a.tableAt, CTX, 9), 0);
  world.end(a);
  t.is(world.pool.figures().total, 0);
});

test('the swap device: storage is taken piece by piece, slots from the lowest, and /proc/swaps is as Linux prints it', t => {
  const arena = new Arena(new ArrayBuffer(1 << 20));
  const swap = new Swap(arena);
  const pageBytes = 300_000; // pages cross the device's pieces
  swap.format(pageBytes);
  t.is(swap.usage().slots, Math.floor(LIMITS.swapBytes / (pageBytes + PAGE_RECORD_BYTES)));
  const pageAt = 64;
  const recordAt = pageAt + pageBytes + 4;
  const paint = (seed: number): void => {
    for (let i = 0; i < pageBytes + 4 + PAGE_RECORD_BYTES; i += 4) arena.u32[(pageAt + i) >> 2] = mix(seed, i);
  };
  const digest = (): number => {
    let h = 0;
    for (let i = 0; i < pageBytes; i += 4) h = mix(h, arena.u32[(pageAt + i) >> 2]!);
    for (let i = 0; i < PAGE_RECORD_BYTES; i += 4) h = mix(h, arena.u32[(recordAt + i) >> 2]!);
    return h;
  };
  const digests: number[] = [];
  for (let slot = 0; slot < swap.usage().slots; slot++) {
    paint(slot);
    digests.push(digest());
    t.is(swap.put(pageAt, recordAt), slot);
  }
  t.is(swap.put(pageAt, recordAt), -1);
  const next = random(3);
  for (let i = 0; i < 200; i++) {
    const slot = Math.floor(next() * digests.length);
    paint(-1);
    swap.take(slot, pageAt, recordAt);
    if (digest() !== digests[slot]) t.fail(`slot ${slot} came back otherwise`);
    paint(1000 + i);
    digests[slot] = digest();
    t.is(swap.put(pageAt, recordAt), slot);
  }
  swap.drop(7);
  swap.drop(3);
  t.is(swap.put(pageAt, recordAt), 3);
  t.is(
    swap.text(),
    'Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n' +
      `/dev/ram1                               partition\t32768\t\t${Math.ceil((110 * 300_160) / 1024)}\t\t-2\n`,
  );
  swap.format(0);
  t.deepEqual(swap.usage(), { used: 0, slots: 0 });
});

// ── With an engine ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Run {
  readonly slot: number;
  readonly uid: number;
  readonly tokens: readonly number[];
  readonly alone: readonly Float32Array[]; // its logits, position by position
  length: number; // computed
}

/** A few sessions of a random model over a pool that is too small for them, rows of several in a pass. */
class Crew {
  readonly rig = new Rig();
  readonly engine: Engine;
  readonly pool: PagePool;
  private readonly other = new Rig();
  private readonly single: Engine;
  private readonly runs: (Run | null)[];

  constructor(
    architecture: ArchitectureName,
    kvType: number,
    private readonly next: () => number,
  ) {
    // Not every random model's keys are whole blocks of a quantised type.
    for (let attempts = 1; ; attempts++) {
      const config = { ...randomConfig(architecture, next), context: CTX };
      const { file } = randomModel(config, next);
      const load = (rig: Rig, sessions: number, pages: number): LoadedModel | Refusal => {
        const driver = new TransformerDriver({ ...rig, tokenizer: rig.bareTokenizer });
        return rig.load(driver, accepted(rig.image(file)), { ctx: CTX, kvType, batch: 8, sessions, pages });
      };
      const loaded = load(this.rig, 4, TABLE_PAGES + 2);
      if (isRefusal(loaded) && attempts < 100) continue;
      this.engine = accepted(loaded).engine;
      this.single = accepted(load(this.other, 1, TABLE_PAGES)).engine;
      break;
    }
    const { kvAt, pageBytes, pageRecordsAt: recordsAt, options, shape } = this.engine;
    this.pool = new PagePool(this.rig.arena, new Swap(this.rig.arena));
    this.pool.reset({ kvAt, pageBytes, pages: options.pages, planes: 2 * shape.layers, recordsAt });
    this.runs = Array.from({ length: options.sessions }, () => null);
  }

  private below(n: number): number {
    return Math.floor(this.next() * n);
  }
  private historyOf(slot: number): number {
    return this.engine.slots.at + slot * this.engine.slots.bytes;
  }
  private tableOf(slot: number): number {
    return this.historyOf(slot) + this.engine.slots.tableAt;
  }

  private begin(slot: number): void {
    const vocabulary = this.engine.vocabulary.count;
    const family = 1 + this.below(2);
    const parts = this.below(100);
    const tokens = Array.from({ length: 40 + this.below(CTX - 40) }, (_, i) =>
      i < parts ? mix(family, i) % vocabulary : this.below(vocabulary),
    );
    const uid = this.below(2);
    this.rig.arena.u32.set(tokens, this.historyOf(slot) >> 2);
    this.pool.begin(this.tableOf(slot), CTX);
    const length = this.pool.share(this.tableOf(slot), uid, this.historyOf(slot), tokens.length);
    const alone = this.other.logits(this.single, tokens, 8);
    this.runs[slot] = { slot, uid, tokens, alone, length };
  }

  private end(run: Run): void {
    this.pool.release(this.tableOf(run.slot), CTX);
    this.runs[run.slot] = null;
  }

  /** Pages for `n` rows more; when there are none, somebody else's go out. */
  private isReady(run: Run, n: number): boolean {
    const tableAt = this.tableOf(run.slot);
    for (;;) {
      if (this.pool.swapped(tableAt, CTX) > 0) {
        if (this.pool.swapIn(tableAt, CTX, 1) > 0) continue;
      } else if (this.pool.reserve(tableAt, run.uid, run.length, run.length + n) >= 0) return true;
      const others = this.runs.filter(r => r !== null && r !== run);
      if (!others.some(r => this.pool.swapOut(this.tableOf(r!.slot), CTX, 1 + this.below(3)) > 0)) return false;
    }
  }

  /** One pass: rows of one session, and of those others that are ready. How many logits were not those of the session alone. */
  pass(): number {
    const slot = this.below(this.runs.length);
    if (this.runs[slot] === null) this.begin(slot);
    const first = this.runs[slot]!;
    if (this.below(40) === 0 || first.length === first.tokens.length) {
      this.end(first);
      return 0;
    }
    const parts: [Run, number][] = [];
    let rows = 1 + this.below(Math.min(8, first.tokens.length - first.length));
    if (!this.isReady(first, rows)) {
      this.end(first);
      return 0;
    }
    parts.push([first, rows]);
    for (const run of this.runs) {
      if (run === null || run === first || run.length === run.tokens.length || rows === 8 || this.below(2) === 0)
        continue;
      const tableAt = this.tableOf(run.slot);
      if (this.pool.swapped(tableAt, CTX) > 0) continue;
      if (this.pool.reserve(tableAt, run.uid, run.length, run.length + 1) < 0) continue;
      parts.push([run, 1]);
      rows++;
    }
    return this.compute(parts);
  }

  private compute(parts: readonly [Run, number][]): number {
    const rows = parts.flatMap(([run, n]) =>
      Array.from({ length: n }, (_, i) => ({ slot: run.slot, pos: run.length + i, id: run.tokens[run.length + i]! })),
    );
    this.rig.pass(this.engine, rows);
    let wrong = 0;
    rows.forEach(({ slot, pos }, row) => {
      const [a, b] = [this.rig.head(this.engine, row), this.runs[slot]!.alone[pos]!];
      if (Buffer.compare(Buffer.from(a.buffer), Buffer.from(b.buffer)) !== 0) wrong++;
    });
    for (const [run, n] of parts) {
      this.pool.filled(this.tableOf(run.slot), this.historyOf(run.slot), run.length, run.length + n);
      run.length += n;
    }
    return wrong;
  }
}

const { F32, F16, Q8_0, Q4_0 } = GGML_TYPE;
for (const [kv, kvType] of Object.entries({ F32, F16, Q8_0, Q4_0 }))
  test(`keys and values in ${kv}: shared, copied, evicted and swapped, every logit is what the session computes alone`, t => {
    for (const architecture of NAMES) {
      const crew = new Crew(architecture, kvType, random(31 + kvType));
      let wrong = 0;
      for (let pass = 0; pass < (soak ? 5_000 : 150); pass++) wrong += crew.pass();
      t.is(wrong, 0, architecture);
      const f = crew.pool.figures();
      for (const what of ['prefixTokens', 'copies', 'evictions', 'swapOuts', 'swapIns'] as const)
        t.true(f[what] > 0, `${architecture}: ${what}`);
    }
  });

// ── The hot path ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const heap = (): number => v8.getHeapStatistics().used_heap_size;

test('a decode step’s pages cost nothing on the JavaScript heap', t => {
  const world = new World(8, 2);
  const [a] = world.sessions as [Session];
  const { pool } = world;
  const { u32 } = world.arena;
  const { tableAt, historyAt } = a;
  let token = 0;
  // Sessions of 160 tokens, one position at a time: pages are taken, filled, cached, found again and evicted.
  const loop = (sessions: number): void => {
    for (let n = 0; n < sessions; n++) {
      pool.begin(tableAt, CTX);
      for (let i = 0; i < 160; i++) u32[(historyAt >> 2) + i] = i < 40 ? i : ++token;
      for (let pos = pool.share(tableAt, ADA, historyAt, 60); pos < 160; pos++) {
        pool.reserve(tableAt, ADA, pos, pos + 1);
        pool.filled(tableAt, historyAt, pos, pos + 1);
      }
      pool.release(tableAt, CTX);
    }
  };
  for (let i = 0; i < 40; i++) loop(50);
  // What measuring itself allocates is taken away; the least of some runs, since the compiler may still be at work beside them.
  let least = Infinity;
  for (let i = 0; i < 8; i++) {
    (globalThis as { gc?: () => void }).gc?.();
    heap();
    const empty = -(heap() - heap());
    const before = heap();
    loop(50);
    least = Math.min(least, heap() - before - empty);
  }
  t.log(`${least} B over 50 sessions of 160 tokens, ${pool.figures().evictions} evictions in all`);
  t.true(least <= 50, `${least} B: less than one a session, so none`);
});
