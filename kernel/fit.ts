// How a model fits into the arena: what a load leaves open is chosen here, the largest that fits, resident if that is possible and streamed if
// not. Engines say what a choice takes, to the byte; a choice that does not fit comes back with what would have. The order of growth is the
// order of use: the context first, then rows of a pass, sessions, pages; and of weights that stream as many as there is room left for are pinned.

import {
  GGML_TYPE,
  isRefusal,
  KV_PAGE,
  KV_TYPES,
  KV_TYPES_TEXT,
  LIMITS,
  PAGE_RECORD_BYTES,
  PIN_AUTO,
  ENGINE_REGIONS,
  refuse,
  RESIDENCY,
  ggmlTypeName,
  type AdapterUse,
  type EngineBudget,
  type EngineDriver,
  type EngineOptions,
  type LoadOptions,
  type ModelImage,
  type ModelShape,
  type RecordValue,
  type Refusal,
} from './abi/index.ts';
import { alignUp } from './arena.ts';
import { pagesOf } from './pages.ts';
import { panic } from './panic.ts';

/** What the caller asked for, see LoadOptions: 0 = as much as the default allows and fits. */
export type LoadRequest = RecordValue<typeof LoadOptions.fields>;

/** A model that some engine runs. */
export interface Candidate {
  readonly driver: EngineDriver;
  readonly image: ModelImage;
  readonly shape: ModelShape;
}

/** The room there is: the machine itself takes `fixed` of `capacity` bytes. */
export interface Room {
  readonly fixed: number;
  readonly capacity: number;
}

/** What a load takes. */
export interface Fit {
  readonly options: EngineOptions;
  readonly budget: EngineBudget;
  /** The whole machine with the model. */
  readonly total: number;
  readonly fits: boolean;
  /** When it does not: what would, in words; and the largest context that would, or 0. */
  readonly ways: readonly string[];
  readonly ctxThatFits: number;
}

/** The fewest positions a default context may shrink to before loading is refused instead. */
const CTX_LEAST = 16;
/** Of what would be free without it, the share that the pool takes by default: the rest is for vocabularies of other files and the like. */
const POOL_SHARE = 3 / 4;

/**
 * Weights that stream: what a pass and a buffer may take, the best first. More rows in a pass are more work for each byte read, and larger
 * tiles fewer commands; where memory is short both give way to the context. The plan has some 270 bytes for each tile: of a model of gigabytes
 * it takes more than the buffers do, and large tiles take less in all.
 */
const STREAMED = [
  { batch: 32, tileBytes: 256 * 1024 },
  { batch: 16, tileBytes: 128 * 1024 },
  { batch: 8, tileBytes: 64 * 1024 },
  { batch: 4, tileBytes: 32 * 1024 },
  { batch: 1, tileBytes: 4 * 1024 },
  { batch: 1, tileBytes: 512 * 1024 },
  { batch: 1, tileBytes: 1024 * 1024 },
] as const;
const TILE_LEAST = 4 * 1024;
/** From here on the default context shrinks first, down to what is worth having, before they do; of the last ones to the least there is. */
const SHRINKING = 2;
const CTX_WORTHWHILE = 128;
const SHRUNK = 4;
const BUFFERS = 2;
/** Of what is free: the logits of further draws; where weights stream, then pages beyond one context, and the rest is for pinned ones. */
const DRAWS_SHARE = 1 / 8;
const PAGES_SHARE = 1 / 4;
/** Of what is left when no further matrix can be pinned: more draws again. */
const REST_SHARE = 1 / 2;
/** Sizes of what is pinned are tried in steps. */
const PIN_STEP = 16 * 1024;

/** n, n/2, … 1. */
const halves = (n: number): number[] => (n < 1 ? [] : [n, ...halves(n >> 1)]);

/** The largest n ≤ `most` that fits, as all below it do; 0: none. */
function largest(most: number, fits: (n: number) => boolean): number {
  let [low, high] = [0, Math.max(0, most) + 1];
  while (low + 1 < high) {
    const middle = (low + high) >> 1;
    if (fits(middle)) low = middle;
    else high = middle;
  }
  return low;
}

/** Types that keep keys and values in fewer bits. */
const narrowerThan = (kvType: number): readonly (typeof KV_TYPES)[number][] =>
  KV_TYPES.slice(1 + KV_TYPES.findIndex(name => GGML_TYPE[name] === kvType));

/** Refuses what no keys and values are kept as. */
export function checkKvType(type: number): Refusal | null {
  const name = ggmlTypeName(type);
  if (KV_TYPES.some(known => known === name)) return null;
  return refuse('INVAL', 7001, `KV type ${name ?? type} is not ${KV_TYPES_TEXT}`);
}

/** The context that is asked for, or the default's; the request itself is checked. */
function contextOf(shape: ModelShape, request: LoadRequest): number | Refusal {
  const { ctx, kvType, pages } = request;
  const bad = checkKvType(kvType) ?? checkSizes(request);
  if (bad !== null) return bad;
  const trained = shape.contextTrained === 0 ? LIMITS.contextMax : shape.contextTrained;
  const most = Math.min(trained, LIMITS.contextMax);
  if (ctx > most) return refuse('INVAL', 2003, `context ${ctx} asked, the model was made for ${most}`);
  if (pages > 0 && pages < pagesOf(ctx))
    return refuse(
      'INVAL',
      2003,
      `pages ${pages} asked, one context of ${ctx} takes ${pagesOf(ctx)}, of ${KV_PAGE} positions each`,
    );
  return ctx > 0 ? ctx : Math.min(most, LIMITS.contextDefault, pages > 0 ? pages * KV_PAGE : most);
}

function checkSizes({ batch, sessions, draws, stream, tileBytes, buffers }: LoadRequest): Refusal | null {
  const bad = (text: string): Refusal => refuse('INVAL', 7001, text);
  if (batch > LIMITS.batchMax) return bad(`batch ${batch} asked, ${LIMITS.batchMax} rows at most`);
  if (sessions > LIMITS.sessionsMax) return bad(`sessions ${sessions} asked, ${LIMITS.sessionsMax} at most`);
  const rows = batch || LIMITS.batchMax;
  if (draws > rows) return bad(`draws ${draws} asked, a pass has ${rows} rows at most`);
  if (stream > RESIDENCY.streamed) return bad(`unknown residency ${stream}`);
  if (tileBytes > LIMITS.tileBytesMax) return bad(`tiles of ${tileBytes} bytes asked, ${LIMITS.tileBytesMax} at most`);
  if (buffers === 1 || buffers > LIMITS.buffersMax)
    return bad(`buffers ${buffers} asked, ${BUFFERS} to ${LIMITS.buffersMax} are allowed`);
  return null;
}

/** Chooses what is left open. A model that cannot be had in any way comes back with its smallest form and what would fit. */
export function fit(
  model: Candidate,
  request: LoadRequest,
  room: Room,
  adapters: readonly AdapterUse[] = [],
): Fit | Refusal {
  const ctx = contextOf(model.shape, request);
  if (isRefusal(ctx)) return ctx;
  const fitter = new Fitter(model, request, room, ctx, adapters);
  const resident = request.stream === RESIDENCY.streamed ? null : fitter.resident();
  if (resident !== null && (isRefusal(resident) || resident.fits || request.stream === RESIDENCY.resident))
    return resident;
  const streamed = fitter.streamed();
  // An engine that does not stream: then what it takes as it is.
  return isRefusal(streamed) ? (resident ?? streamed) : streamed;
}

class Fitter {
  private readonly known = new Map<string, EngineBudget | Refusal>();

  constructor(
    private readonly model: Candidate,
    private readonly request: LoadRequest,
    private readonly room: Room,
    /** As it was asked for, or the default. */
    private readonly ctx: number,
    private readonly adapters: readonly AdapterUse[],
  ) {}

  // ── Resident ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** All weights in the arena: the context first, then rows of a pass, slots, and pages of the pool. */
  resident(): Fit | Refusal {
    const smallest = this.smallest(this.ctx);
    const least = this.budget(smallest);
    if (isRefusal(least)) return least;
    if (this.inRoom(least)) return this.grown(smallest);
    const ctx = this.request.ctx === 0 ? this.largestCtx(n => this.smallest(n)) : 0;
    if (this.mayShrinkTo(ctx, CTX_LEAST)) return this.grown(this.smallest(ctx));
    return this.misfit(smallest, ['batch', 'sessions', 'pages']);
  }

  /** What is left open as small as it can be. */
  private smallest(ctx: number): EngineOptions {
    const { kvType, batch, sessions, pages, draws } = this.request;
    return {
      ctx,
      kvType,
      batch: batch || Math.max(1, draws),
      sessions: sessions || 1,
      pages: pages || pagesOf(ctx),
      draws: draws || 1,
      tileBytes: 0,
      buffers: 0,
      pinBytes: 0,
      adapters: this.adapters,
    };
  }

  /** From the smallest choice, which fits, to the largest. */
  private grown(smallest: EngineOptions): Fit | Refusal {
    const { request } = this;
    const batch =
      request.batch ||
      this.firstFit(halves(LIMITS.prefillBatch), n => ({ ...smallest, batch: Math.max(n, smallest.batch) }));
    const served = this.withSessions({ ...smallest, batch: Math.max(batch, smallest.batch) });
    return this.withPages(this.withDraws(served), POOL_SHARE);
  }

  private withSessions(o: EngineOptions): EngineOptions {
    const n = this.firstFit(halves(LIMITS.sessionsMax), sessions => ({ ...o, sessions }));
    return this.request.sessions > 0 ? o : { ...o, sessions: n };
  }

  /** With as many pages as sessions can use, of `share` of what is left. */
  private withPages(o: EngineOptions, share: number): Fit | Refusal {
    const budget = this.budget(o);
    if (isRefusal(budget)) return budget;
    const left = this.room.capacity - this.total({ ...budget, kv: 0 });
    const most = Math.min(Math.floor((left * share) / this.pageBytes(o)), o.sessions * pagesOf(o.ctx));
    return this.made({ ...o, pages: this.request.pages || Math.max(o.pages, most) });
  }

  // ── Streamed ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Weights come while they are wanted, but for those that are pinned. */
  streamed(): Fit | Refusal {
    const tileLeast = this.tileLeast();
    if (isRefusal(tileLeast)) return tileLeast;
    const forms = STREAMED.map(form => (ctx: number) => this.form(ctx, form, tileLeast));
    const best = (ctx: number): EngineOptions | undefined => forms.map(form => form(ctx)).find(o => this.fits(o));
    for (const [i, form] of forms.entries()) {
      if (this.fits(form(this.ctx))) return this.pinned(form(this.ctx));
      if (i < SHRINKING || this.request.ctx > 0 || !this.fits(form(Math.min(KV_PAGE, this.ctx)))) continue;
      const ctx = KV_PAGE * largest(pagesOf(this.ctx) - 1, n => this.fits(form(n * KV_PAGE)));
      if (this.mayShrinkTo(ctx, i < SHRUNK ? CTX_WORTHWHILE : CTX_LEAST)) return this.pinned(best(ctx) ?? form(ctx));
    }
    const asked = ['batch', 'sessions', 'pages', 'draws', 'buffers'] as const;
    return this.misfit(this.leastOf(forms.slice(SHRUNK).map(form => form(this.ctx))), asked);
  }

  /** The one that takes the fewest bytes. */
  private leastOf(choices: readonly EngineOptions[]): EngineOptions {
    let [least, bytes] = [choices[0]!, Infinity];
    for (const options of choices) {
      const made = this.made(options);
      if (isRefusal(made) || made.total >= bytes) continue;
      [least, bytes] = [options, made.total];
    }
    return least;
  }

  private form(ctx: number, { batch, tileBytes }: (typeof STREAMED)[number], tileLeast: number): EngineOptions {
    const { request } = this;
    const pinBytes = request.pinBytes === PIN_AUTO ? 0 : request.pinBytes;
    return {
      ...this.smallest(ctx),
      batch: request.batch || Math.max(batch, request.draws),
      tileBytes: request.tileBytes || Math.max(tileBytes, tileLeast),
      buffers: request.buffers || BUFFERS,
      pinBytes,
    };
  }

  /** The smallest power of two that a tile may be: a group of rows of the widest matrix. Where one was asked for, that, if the engine takes it. */
  private tileLeast(): number | Refusal {
    const { request } = this;
    const of = (tileBytes: number): EngineBudget | Refusal =>
      this.budget({ ...this.smallest(this.ctx), tileBytes, buffers: request.buffers || BUFFERS });
    let refusal: Refusal | null = null;
    for (let bytes = TILE_LEAST; bytes <= LIMITS.tileBytesMax; bytes *= 2) {
      const budget = of(request.tileBytes || bytes);
      if (!isRefusal(budget)) return request.tileBytes || bytes;
      refusal = budget;
      if (request.tileBytes > 0) break;
    }
    return refusal ?? panic('no size of a tile was tried');
  }

  /** A form that fits, with sessions, draws and pages, and as much pinned as there is room left for. */
  private pinned(form: EngineOptions): Fit | Refusal {
    const paged = this.withPages(this.withDraws(this.withSessions(form)), PAGES_SHARE);
    if (isRefusal(paged) || !paged.fits || this.request.pinBytes !== PIN_AUTO) return paged;
    const left = this.room.capacity - paged.total;
    const pin = (steps: number): EngineOptions => ({ ...paged.options, pinBytes: steps * PIN_STEP });
    const most = pin(largest(Math.ceil(left / PIN_STEP), n => this.fits(pin(n))));
    return this.made(this.withDraws(most, REST_SHARE)); // what no further matrix fits into
  }

  /** Logits for as many rows as a small share of what is left holds: the output matrix is then read once for all of them. */
  private withDraws(o: EngineOptions, share = DRAWS_SHARE): EngineOptions {
    const budget = this.budget(o);
    if (this.request.draws > 0 || isRefusal(budget)) return o;
    const most = this.total(budget) + (this.room.capacity - this.total(budget)) * share;
    const draws = halves(o.batch).find(n => {
      const more = this.budget({ ...o, draws: n });
      return n > o.draws && !isRefusal(more) && this.total(more) <= most;
    });
    return { ...o, draws: draws ?? o.draws };
  }

  // ── Sums ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Engines compile the plan to know its size: what has been asked is kept. Of adapters all are asked for, or none. */
  private budget(options: EngineOptions): EngineBudget | Refusal {
    const key = Object.values(options).join();
    const budget = this.known.get(key) ?? this.model.driver.budget(this.model.image, options);
    this.known.set(key, budget);
    return budget;
  }
  private pageBytes({ kvType }: EngineOptions): number {
    return KV_PAGE * this.model.shape.kvBytesPerToken(kvType) + PAGE_RECORD_BYTES;
  }
  private total(budget: EngineBudget): number {
    return ENGINE_REGIONS.reduce((sum, r) => sum + alignUp(budget[r], LIMITS.arenaAlign), this.room.fixed);
  }
  private inRoom(budget: EngineBudget): boolean {
    return this.total(budget) <= this.room.capacity;
  }
  private fits(options: EngineOptions): boolean {
    // Without asking the engine, where keys and values alone are too much.
    if (options.pages * this.pageBytes(options) > this.room.capacity) return false;
    const budget = this.budget(options);
    return !isRefusal(budget) && this.inRoom(budget);
  }
  private firstFit(sizes: readonly number[], of: (n: number) => EngineOptions): number {
    return sizes.find(n => this.fits(of(n))) ?? 1;
  }

  /** The largest context below the default's of such a choice that fits; 0: none of CTX_LEAST and more. */
  private largestCtx(of: (ctx: number) => EngineOptions): number {
    return this.fits(of(Math.min(CTX_LEAST, this.ctx))) ? largest(this.ctx - 1, n => this.fits(of(n))) : 0;
  }
  /** The default context may give way, down to `least`. */
  private mayShrinkTo(ctx: number, least: number): boolean {
    return this.request.ctx === 0 && ctx >= Math.min(least, this.ctx);
  }

  private made(options: EngineOptions): Fit | Refusal {
    const budget = this.budget(options);
    if (isRefusal(budget)) return budget;
    const total = this.total(budget);
    const fits = total <= this.room.capacity;
    return { options, budget, total, fits, ways: [], ctxThatFits: options.ctx };
  }

  /** What does not fit, and which one of its figures, made smaller, would let it; or which two. */
  private misfit(
    options: EngineOptions,
    asked: readonly ('batch' | 'sessions' | 'pages' | 'draws' | 'buffers')[],
  ): Fit | Refusal {
    const made = this.made(options);
    if (isRefusal(made)) return made;
    const { request } = this;
    const less = (name: string, field: Exclude<keyof EngineOptions, 'adapters'>, least = 1, step = 1): string => {
      const n = largest(Math.floor(options[field] / step) - 1, x => this.fits({ ...options, [field]: x * step }));
      return n * step >= least ? `${name} ${n * step}` : '';
    };
    const types = narrowerThan(request.kvType);
    const narrower = types.find(name => this.fits({ ...options, kvType: GGML_TYPE[name] }));
    const smallerTile = halves(options.tileBytes >> 1).find(tileBytes => this.fits({ ...options, tileBytes }));
    const ctxThatFits = this.ctxOf(options, request.kvType);
    const ways = [
      ctxThatFits >= CTX_LEAST ? `context ${ctxThatFits}` : '',
      narrower === undefined ? '' : `keys and values in ${narrower}`,
      ...asked.map(field => (request[field] > 0 ? less(field, field, field === 'buffers' ? BUFFERS : 1) : '')),
      smallerTile === undefined ? '' : `tiles of ${smallerTile}`,
      options.pinBytes > 0 ? less('pinned bytes', 'pinBytes', PIN_STEP, PIN_STEP) : '',
      this.adapters.length > 0 && this.fits({ ...options, adapters: [] }) ? 'no adapters' : '',
    ].filter(way => way !== '');
    if (ways.length === 0) {
      const both = types
        .map(name => ({ name, ctx: this.ctxOf(options, GGML_TYPE[name]) }))
        .find(x => x.ctx >= CTX_LEAST);
      if (both !== undefined) ways.push(`context ${both.ctx} with keys and values in ${both.name}`);
    }
    return { ...made, ways, ctxThatFits };
  }

  /** The largest context of such a choice that fits with keys and values of a type; 0: none. */
  private ctxOf(options: EngineOptions, kvType: number): number {
    const pages = (ctx: number): number => this.request.pages || pagesOf(ctx);
    return this.largestCtx(ctx => ({ ...options, ctx, kvType, pages: pages(ctx) }));
  }
}
