// The loader: treats a GGUF image as exec treats an executable — parse, check, budget, map — and hands it to the engine that runs it. The
// budget is exact: what `plan` says is what `load` takes, and one byte less is refused here, with the sum, before anything is allocated.
// A load validates everything first; when it fails the previous model is as it was.

import {
  ENGINE_REGIONS,
  GGML_BLOCK,
  GGML_TYPE,
  ggmlTypeName,
  isRefusal,
  KV_PAGE,
  KV_TYPES,
  KV_TYPES_TEXT,
  LIMITS,
  LOAD_DEFAULTS,
  PAGE_RECORD_BYTES,
  PlanReport,
  refuse,
  strerror,
  type Engine,
  type EngineBudget,
  type EngineDriver,
  type EngineOptions,
  type EnginePlace,
  type GgmlTypeName,
  type HashDevice,
  type LoadOptions,
  type RecordValue,
  type ModelImage,
  type ModelShape,
  type PlanRow,
  type Refusal,
  type TokenizerDriver,
  type Vocabulary,
} from './abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import type { Vfs } from '../vfs/vfs.ts';
import { alignUp, type Arena, type Mark } from './arena.ts';
import type { Costs, PlanPrices } from './costs.ts';
import { openImage } from './image.ts';
import type { Layout } from './layout.ts';
import { pagesOf } from './pages.ts';
import { panic } from './panic.ts';
import { encodingBounds } from './wcet/bounds.ts';
import type { Bound, PlanSource } from './wcet/price.ts';
import type { MemoryRegion, Target } from './wcet/targets.ts';

/** What the caller asked for, see LoadOptions: 0 = as much as the default allows and fits. */
export type LoadRequest = RecordValue<typeof LoadOptions.fields>;

/** What is loaded. */
export interface Loaded {
  readonly engine: Engine;
  /** Of its plan, on the target in force. */
  readonly prices: PlanPrices;
  readonly path: string; // absolute; '' for an engine that needs no file
  readonly request: LoadRequest;
  readonly budget: EngineBudget;
  readonly place: EnginePlace;
  readonly digest: string; // SHA-256 of the file
  readonly fileBytes: number;
  readonly tensors: number;
  readonly types: string;
}

/** A model with the prices of its plan on some target: the loaded one, or a file as it would be loaded. */
export interface Priced {
  readonly target: Target;
  readonly prices: PlanPrices;
  readonly shape: ModelShape;
  readonly options: EngineOptions;
  /** The whole machine with this model. */
  readonly arenaBytes: number;
  /** The plan as text, a row a record. */
  readonly rows: () => readonly PlanRow[];
  readonly textBytes: number;
  /** Turning that much text into ids; null: not known. */
  readonly tokenize: Bound | null;
}

type Report = ReturnType<typeof PlanReport.read>;
interface Prepared {
  readonly driver: EngineDriver;
  readonly image: ModelImage;
  readonly shape: ModelShape;
  readonly options: EngineOptions;
  readonly budget: EngineBudget | null; // null: does not fit
  readonly report: Report;
}

/** How much text a request brings: `bytes`, or when that is 0, as many as `tokens` ids can stand for. */
export interface TextSize {
  readonly bytes: number;
  readonly tokens: number;
}

/** What the regions of a model are to a target. The history is read and written with the cache; nothing reads the directory while it runs. */
const TARGET_REGION: Readonly<Record<keyof EngineBudget, MemoryRegion>> = {
  weights: 'weights',
  stream: 'weights',
  tensors: 'plan',
  vocabulary: 'vocabulary',
  kv: 'kv',
  scratch: 'scratch',
  plan: 'plan',
  session: 'kv',
};

/** Where a vocabulary lies, and the working memory of an encode. */
interface VocabularyMemory {
  readonly at: number;
  readonly bytes: number;
  readonly workAt: number;
  readonly workBytes: number;
}

/** The fewest positions a default context may shrink to before loading is refused instead. */
const CTX_LEAST = 16;
/** Of what would be free without it, the share that the pool takes by default: the rest is for vocabularies of other files and the like. */
const POOL_SHARE = 3 / 4;

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

/** What is left open as small as it can be. */
const smallestOf = ({ ctx, kvType, batch, sessions, pages }: EngineOptions): EngineOptions => ({
  ctx,
  kvType,
  batch: batch || 1,
  sessions: sessions || 1,
  pages: pages || pagesOf(ctx),
  draws: 1,
  tileBytes: 0,
  buffers: 0,
  pinBytes: 0,
});

/** Types that keep keys and values in fewer bits. */
const narrowerThan = (kvType: number): readonly (typeof KV_TYPES)[number][] =>
  KV_TYPES.slice(1 + KV_TYPES.findIndex(name => GGML_TYPE[name] === kvType));

/** The context that is asked for, or the default's; the request itself is checked. */
function contextOf(shape: ModelShape, request: LoadRequest): number | Refusal {
  const { ctx, kvType, batch, sessions, pages } = request;
  const bad = checkKvType(kvType);
  if (bad !== null) return bad;
  if (batch > LIMITS.batchMax) return refuse('INVAL', 7001, `batch ${batch} asked, ${LIMITS.batchMax} rows at most`);
  if (sessions > LIMITS.sessionsMax)
    return refuse('INVAL', 7001, `sessions ${sessions} asked, ${LIMITS.sessionsMax} at most`);
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

export class Loader {
  private loaded: Loaded | null = null;
  /** Counts loads and unloads: what was tokenised for another model is stale. */
  generation = 0;
  private readonly base: Mark;
  private lastFile: { readonly path: string; readonly request: LoadRequest } | null = null;

  constructor(
    readonly arena: Arena,
    readonly lay: Layout,
    readonly costs: Costs,
    readonly vfs: Vfs,
    private readonly drivers: readonly EngineDriver[],
    private readonly tokenizer: TokenizerDriver,
    private readonly hash: HashDevice,
    private readonly say: (text: string) => void,
  ) {
    this.base = arena.mark();
  }

  engine(): Engine | null {
    return this.loaded?.engine ?? null;
  }
  current(): Loaded | null {
    return this.loaded;
  }
  prices(): PlanPrices {
    return this.loaded?.prices ?? panic('no model, no prices');
  }

  /** Puts another target's prices into the loaded model's plan; when it is refused, the plan is as it was. */
  reprice(target: Target): Refusal | null {
    if (this.loaded === null) return null;
    const prices = this.costs.price(this.sourceOf(this.loaded), target);
    if (isRefusal(prices)) return prices;
    prices.fill(this.arena.u32);
    this.loaded = { ...this.loaded, prices };
    return null;
  }

  /** What loading `path` would take. Allocates nothing; the refusal, when it does not fit, is in `message`. */
  plan(path: string, request: LoadRequest): Report | Refusal {
    return this.withImage(path, image => {
      const prepared = this.prepare(image, request);
      return isRefusal(prepared) ? prepared : prepared.report;
    });
  }

  /** Loads `path` in place of what is loaded. */
  load(path: string, request: LoadRequest): Refusal | null {
    return this.withImage(path, (image, file) => {
      const prepared = this.prepare(image, request);
      if (isRefusal(prepared)) return prepared;
      if (prepared.budget === null) return refuse('NOMEM', 1003, prepared.report.message);
      const digest = this.digest(file, image.fileBytes);
      if (isRefusal(digest)) return digest;
      return this.replace(prepared, prepared.budget, path, request, digest);
    });
  }

  /** Loads an engine that needs no file (the stub), in one of its forms. */
  loadBuiltin(name: string, form: string, request: LoadRequest = LOAD_DEFAULTS): Refusal | null {
    const driver = this.drivers.find(d => d.name === name && d.builtin !== undefined);
    if (driver === undefined)
      return refuse('INVAL', 7001, `no engine '${name}': ${this.drivers.map(d => d.name).join(', ')}`);
    const image = driver.builtin!(form);
    if (isRefusal(image)) return image;
    const prepared = this.prepareWith(driver, image, request);
    if (isRefusal(prepared)) return prepared;
    if (prepared.budget === null) return refuse('NOMEM', 1003, prepared.report.message);
    return this.replace(prepared, prepared.budget, '', request, '');
  }

  /** Back from a built-in engine to the model file that was loaded last. */
  reloadFile(): Refusal | null {
    if (this.loaded !== null && this.loaded.path !== '') return null;
    if (this.lastFile === null) return refuse('NODEV', 2001, 'no model file was loaded yet: llmctl load FILE');
    return this.load(this.lastFile.path, this.lastFile.request);
  }

  unload(): boolean {
    if (this.loaded === null) return false;
    this.release();
    return true;
  }

  /** What `use` finds in the loaded model's file. */
  inspect<T>(use: (image: ModelImage) => T | Refusal): T | Refusal {
    if (this.loaded === null) return refuse('NODEV', 2001, 'no model loaded: llmctl load FILE');
    const { path, engine } = this.loaded;
    return path === '' ? refuse('INVAL', 6002, `the ${engine.name} engine has no file`) : this.withImage(path, use);
  }

  engineNames(): readonly string[] {
    return this.drivers.map(d => d.name);
  }

  /**
   * Token ids of everything `text` still holds, as u32 in an anonymous file. Work memory is the plan's scratch, which no step is using.
   */
  tokenizeToFile(v: Vocabulary, text: OpenFile, flags: number): { file: OpenFile; count: number } | Refusal {
    const loaded = this.loaded;
    if (loaded === null || loaded.engine.vocabulary !== v)
      return panic('tokenizing with a vocabulary that is not loaded');
    const ids = this.encodeAll(v, text, flags, loaded.place.scratchAt, loaded.budget.scratch);
    this.costs.settle();
    return ids;
  }

  /** The same with the vocabulary of a file (vocabulary-only files too), held in the arena only meanwhile. */
  tokenizeWith(path: string, text: OpenFile, flags: number): { file: OpenFile; count: number } | Refusal {
    return this.withImage(path, image =>
      this.withVocabulary(image, (v, m) => this.encodeAll(v, text, flags, m.workAt, m.workBytes)),
    );
  }

  private withVocabulary<T>(
    image: ModelImage,
    use: (v: Vocabulary, memory: VocabularyMemory) => T | Refusal,
  ): T | Refusal {
    const need = this.tokenizer.budget(image);
    if (isRefusal(need)) return need;
    const work = Math.max(need.workBytes, Math.min(256 * 1024, this.arena.remaining() - need.bytes - 64));
    const total = alignUp(need.bytes, LIMITS.arenaAlign) + alignUp(work, LIMITS.arenaAlign);
    if (!this.arena.can_allocate(total))
      return refuse(
        'NOMEM',
        3001,
        `the vocabulary of ${image.path} needs ${total} bytes, ${this.arena.remaining()} are free` +
          (this.loaded === null
            ? ''
            : `; 'llmctl unload' would free ${this.arena.usage().offset - this.base.offset} more`),
      );
    const mark = this.arena.mark();
    try {
      const at = this.take('vocabulary only', need.bytes);
      const workAt = this.take('vocabulary only', work);
      const v = this.tokenizer.load(image, at, need.bytes);
      return isRefusal(v) ? v : use(v, { at, bytes: need.bytes, workAt, workBytes: work });
    } finally {
      this.arena.release(mark);
    }
  }

  private encodeAll(
    v: Vocabulary,
    text: OpenFile,
    flags: number,
    workAt: number,
    workBytes: number,
  ): { file: OpenFile; count: number } | Refusal {
    const ids = this.vfs.memfd('tokens');
    if (typeof ids === 'number') return refuse('NFILE', 4001, `no file for the token ids: ${strerror(ids)}`);
    let count = 0;
    v.begin(flags, workAt, workBytes);
    for (let final = false; ;) {
      const room = v.inputBytes();
      if (!final && room > 0) {
        const got = text.read(v.inputAt(), room);
        if (got < 0) {
          ids.close();
          return refuse('IO', 4001, `cannot read the text: ${strerror(got)}`);
        }
        final = got === 0;
        v.input(got, final);
      }
      const before = count;
      for (;;) {
        const n = v.encode(this.lay.dmaAt, LIMITS.dmaBytes >> 2);
        if (n < 0) {
          ids.close();
          return v.refusal() ?? panic('a tokenizer refused without saying why');
        }
        if (n === 0) break;
        const wrote = ids.write(this.lay.dmaAt, n * 4);
        if (wrote !== n * 4) {
          ids.close();
          return refuse('NOSPC', 4001, `no room in memory storage for ${count + n} token ids`);
        }
        count += n;
      }
      if (final) break;
      if (count === before && v.inputBytes() === 0) {
        ids.close();
        return panic('a tokenizer neither takes nor gives');
      }
    }
    this.costs.transfer(4 * count);
    ids.seek(0, 0);
    return { file: ids, count };
  }

  // ── Opening, preparing, committing ─────────────────────────────────────────────────────────────────────────────────────────────

  private withImage<T>(path: string, use: (image: ModelImage, file: OpenFile) => T | Refusal): T | Refusal {
    const opened = openImage(this, path, '/');
    if (isRefusal(opened)) return opened;
    const { image, file } = opened;
    try {
      const r = use(image, file);
      // A refusal about a file names the file, once.
      if (isRefusal(r) && !r.message.includes(path)) return { ...r, message: `${path}: ${r.message}` };
      return r;
    } finally {
      this.costs.settle();
      file.close();
    }
  }

  private prepare(image: ModelImage, request: LoadRequest): Prepared | Refusal {
    let first: Refusal | null = null;
    for (const driver of this.drivers) {
      if (driver.builtin !== undefined) continue;
      const prepared = this.prepareWith(driver, image, request);
      if (!isRefusal(prepared)) return prepared;
      first ??= prepared;
    }
    return first ?? refuse('NODEV', 5001, 'no engine runs model files');
  }

  /** Chooses what is left open, the largest that fits: the context first, then rows of a pass, slots, and pages of the pool. */
  private prepareWith(driver: EngineDriver, image: ModelImage, request: LoadRequest): Prepared | Refusal {
    const shape = driver.describe(image);
    if (isRefusal(shape)) return shape;
    const ctx = contextOf(shape, request);
    if (isRefusal(ctx)) return ctx;
    const budgetOf = (options: EngineOptions): EngineBudget | Refusal => driver.budget(image, options);
    const fits = (options: EngineOptions): boolean => {
      const budget = budgetOf(options);
      return !isRefusal(budget) && this.fits(budget);
    };
    const smallest = smallestOf({ ...request, ctx });
    const least = budgetOf(smallest);
    if (isRefusal(least)) return least;
    const model = { driver, image, shape };
    if (this.fits(least)) return this.grown(model, request, smallest, fits);
    const ctxThatFits = largest(ctx - 1, n => fits(smallestOf({ ...request, ctx: n })));
    if (request.ctx === 0 && ctxThatFits >= Math.min(CTX_LEAST, ctx))
      return this.grown(model, request, smallestOf({ ...request, ctx: ctxThatFits }), fits);
    const narrower = narrowerThan(request.kvType).find(name =>
      fits(smallestOf({ ...request, ctx, kvType: GGML_TYPE[name] })),
    );
    return this.prepared(
      model,
      smallest,
      least,
      false,
      [
        ctxThatFits >= CTX_LEAST ? `context ${ctxThatFits}` : '',
        narrower === undefined ? '' : `keys and values in ${narrower}`,
        ...(['batch', 'sessions', 'pages'] as const).map(field => {
          const n = largest(request[field] - 1, x => fits(smallestOf({ ...smallest, [field]: x })));
          return n > 0 ? `${field} ${n}` : '';
        }),
      ],
      ctxThatFits,
    );
  }

  /** From the smallest choice, which fits, to the largest. */
  private grown(
    model: Pick<Prepared, 'driver' | 'image' | 'shape'>,
    request: LoadRequest,
    smallest: EngineOptions,
    fits: (options: EngineOptions) => boolean,
  ): Prepared | Refusal {
    const batch = request.batch || halves(LIMITS.prefillBatch).find(n => fits({ ...smallest, batch: n }))!;
    const sessions =
      request.sessions || halves(LIMITS.sessionsMax).find(n => fits({ ...smallest, batch, sessions: n }))!;
    const options = { ...smallest, batch, sessions };
    const budget = model.driver.budget(model.image, options);
    if (isRefusal(budget)) return budget;
    const room = this.arena.capacity - this.total({ ...budget, kv: 0 });
    const pageBytes = KV_PAGE * model.shape.kvBytesPerToken(options.kvType) + PAGE_RECORD_BYTES;
    const most = Math.min(Math.floor((room * POOL_SHARE) / pageBytes), sessions * pagesOf(options.ctx));
    const pages = request.pages || Math.max(options.pages, most);
    const whole = model.driver.budget(model.image, { ...options, pages });
    return isRefusal(whole) ? whole : this.prepared(model, { ...options, pages }, whole, true, [], options.ctx);
  }

  private fits(budget: EngineBudget): boolean {
    return this.total(budget) <= this.arena.capacity;
  }
  private total(budget: EngineBudget): number {
    return ENGINE_REGIONS.reduce((sum, r) => sum + alignUp(budget[r], LIMITS.arenaAlign), this.base.offset);
  }

  private prepared(
    { driver, image, shape }: Pick<Prepared, 'driver' | 'image' | 'shape'>,
    options: EngineOptions,
    budget: EngineBudget,
    fits: boolean,
    smaller: readonly string[],
    ctxThatFits: number,
  ): Prepared {
    const total = this.total(budget);
    const over = total - this.arena.capacity;
    const typeThatFits = fits ? '' : this.typeThatFits(image, over);
    const ways = [...smaller, typeThatFits === '' ? '' : `${typeThatFits} weights`].filter(w => w !== '');
    const message = fits
      ? ''
      : `need=${total} have=${this.arena.capacity} over=${over} (weights ${budget.weights} + kv ${budget.kv} + vocabulary ${budget.vocabulary} + ` +
        `other ${total - budget.weights - budget.kv - budget.vocabulary}); ` +
        (ways.length === 0 ? 'nothing smaller of this model fits' : `would fit: ${ways.join(' or ')}`);
    const kvBytesPerToken = shape.kvBytesPerToken(options.kvType);
    const report: Report = {
      fits: fits ? 1 : 0,
      ...options,
      tiles: 0,
      streamed: 0,
      pinned: 0,
      pageBytes: KV_PAGE * kvBytesPerToken,
      slotBytes: budget.session / options.sessions,
      fixed: this.base.offset,
      ...budget,
      total,
      capacity: this.arena.capacity,
      kvBytesPerToken,
      parameters: shape.parameters,
      ctxThatFits,
      reserved: 0,
      name: shape.name,
      architecture: shape.architecture,
      typeThatFits,
      message,
    };
    return { driver, image, shape, options, budget: fits ? budget : null, report };
  }

  /** The widest type in which all matrices together save at least `over` bytes; rows that are no multiple of the block stay as they are. */
  private typeThatFits(image: ModelImage, over: number): string {
    const candidates: readonly GgmlTypeName[] = ['F16', 'Q8_0', 'Q4_1', 'Q4_0'];
    for (const name of candidates) {
      const [values, bytes] = GGML_BLOCK[name];
      let saved = 0;
      for (const t of image.tensors) {
        if (t.shape.length < 2 || t.shape[0]! % values !== 0) continue;
        const elements = t.shape.reduce((a, b) => a * b, 1);
        saved += Math.max(0, t.bytes - (elements / values) * bytes);
      }
      if (saved >= over) return name;
    }
    return '';
  }

  private commit(
    p: Prepared,
    budget: EngineBudget,
    path: string,
    request: LoadRequest,
    digest: string,
  ): Loaded | Refusal {
    const place: Record<string, number> = {};
    for (const region of ENGINE_REGIONS) place[`${region}At`] = this.take(region, budget[region]);
    if (this.arena.usage().offset !== p.report.total)
      panic(`planned ${p.report.total} bytes, took ${this.arena.usage().offset}`);
    const engine = p.driver.load(p.image, p.options, budget, place as unknown as EnginePlace);
    if (isRefusal(engine)) {
      this.arena.release(this.base);
      return engine;
    }
    this.costs.settle();
    const located = place as unknown as EnginePlace;
    const prices = this.costs.price(this.sourceOf({ engine, budget, place: located }));
    if (isRefusal(prices)) {
      this.arena.release(this.base);
      return prices;
    }
    prices.fill(this.arena.u32);
    const types = new Set(p.image.tensors.map(t => ggmlTypeName(t.type) ?? String(t.type)));
    this.loaded = {
      engine,
      prices,
      path,
      request,
      budget,
      place: located,
      digest,
      fileBytes: p.image.fileBytes,
      tensors: p.image.tensors.length,
      types: [...types].join(' '),
    };
    this.generation++;
    if (path !== '') this.lastFile = { path, request };
    const { shape } = engine;
    const bytes = p.report.total - p.report.fixed;
    const other = bytes - budget.weights - budget.kv - budget.vocabulary;
    this.say(
      `model: ${shape.name} (${shape.architecture}, ${shape.parameters} parameters, context ${p.options.ctx}, KV ${ggmlTypeName(p.options.kvType)})`,
    );
    this.say(`model: weights ${budget.weights} + vocabulary ${budget.vocabulary} + kv ${budget.kv}`);
    const { batch, sessions, pages } = p.options;
    this.say(`model: ${batch} rows a pass, ${sessions} sessions, ${pages} pages of ${p.report.pageBytes} bytes`);
    this.say(`model: + other ${other} = ${bytes} bytes; ${this.arena.remaining()} of ${this.arena.capacity} free`);
    return this.loaded;
  }

  // ── Prices ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The loaded model on a target; `text` is how many bytes to turn into ids, 0 = so many ids of the longest. Null: nothing is loaded. */
  priced(target: Target, text: TextSize): Priced | Refusal | null {
    const { loaded } = this;
    if (loaded === null) return null;
    const { engine } = loaded;
    const prices = target === this.costs.target ? loaded.prices : this.costs.price(this.sourceOf(loaded), target);
    if (isRefusal(prices)) return prices;
    const size = this.sizeOf(text, engine.vocabulary);
    const { budget, place } = loaded;
    const tokenize = this.tokenizing(prices, size, engine.vocabulary, {
      at: place.vocabularyAt,
      bytes: budget.vocabulary,
      workAt: place.scratchAt,
      workBytes: budget.scratch,
    });
    if (isRefusal(tokenize)) return tokenize;
    const { shape, options } = engine;
    const arenaBytes = this.arena.usage().offset;
    const rows = (): readonly PlanRow[] => engine.ops();
    return { target, prices, shape, options, arenaBytes, rows, textBytes: size, tokenize };
  }

  /** The same for a file, as a load with this request would place it. Its vocabulary is held in free memory meanwhile, if there is enough. */
  pricedFile(path: string, request: LoadRequest, target: Target, text: TextSize): Priced | Refusal {
    return this.withImage<Priced>(path, image => {
      const prepared = this.prepare(image, request);
      if (isRefusal(prepared)) return prepared;
      const { driver, options, budget, shape, report } = prepared;
      if (budget === null) return refuse('NOMEM', 1003, report.message);
      const place = this.placeOf(budget);
      const plan = driver.plan(image, options, budget, place);
      if (isRefusal(plan)) return plan;
      const word = (address: number): number => plan.words[(address - place.planAt) >> 2] ?? 0;
      const prices = this.costs.price(
        {
          ...plan,
          word,
          ...options,
          vocabulary: shape.vocabulary,
          kvAt: place.kvAt,
          historyAt: place.sessionAt,
          rowsAt: this.lay.rowsAt,
          regionOf: this.regionsOf(budget, place),
          stepAt: this.lay.stepAt,
          samplerAt: this.lay.samplerAt,
        },
        target,
      );
      if (isRefusal(prices)) return prices;
      const told = this.withVocabulary(image, (v, m) => {
        const size = this.sizeOf(text, v);
        const bound = this.tokenizing(prices, size, v, { ...m, workBytes: budget.scratch });
        return isRefusal(bound) ? bound : { size, bound };
      });
      const { size: textBytes, bound: tokenize } = isRefusal(told) ? { size: text.bytes, bound: null } : told;
      return { target, prices, shape, options, arenaBytes: report.total, rows: () => plan.rows, textBytes, tokenize };
    });
  }

  private sizeOf(text: TextSize, v: Vocabulary): number {
    return text.bytes > 0 ? text.bytes : text.tokens * this.longestPiece(v);
  }

  private longestPiece(v: Vocabulary): number {
    let longest = 1;
    for (let id = 0; id < v.count; id++)
      longest = Math.max(longest, v.piece(id, this.lay.dmaAt, LIMITS.dmaBytes, true));
    return longest;
  }

  /** A vocabulary that takes no memory has no kernels: its ids are bytes. */
  private tokenizing(
    prices: PlanPrices,
    textBytes: number,
    v: Vocabulary,
    { at, bytes, workAt, workBytes }: VocabularyMemory,
  ): Bound | Refusal {
    if (bytes === 0) return { most: 0, least: 0 };
    v.begin(0, workAt, workBytes);
    return encodingBounds(prices, {
      bytes: textBytes,
      room: v.inputBytes() + 1,
      capacity: LIMITS.dmaBytes >> 2,
      vocabAt: at,
      word: address => (address >= at && address < at + bytes ? this.arena.i32[address >> 2]! : null),
    });
  }

  private sourceOf(m: Pick<Loaded, 'engine' | 'budget' | 'place'>): PlanSource {
    const { engine, budget, place } = m;
    const { bodyAt, headAt, sampleAt, scoreAt, logitsAt, kvAt, slots, options } = engine;
    const { stepAt, rowsAt, samplerAt } = this.lay;
    const places = {
      bodyAt,
      headAt,
      sampleAt,
      scoreAt,
      logitsAt,
      kvAt,
      historyAt: slots.at,
      rowsAt,
      stepAt,
      samplerAt,
    };
    return {
      ...places,
      word: address => this.arena.i32[address >> 2]!,
      ctx: options.ctx,
      batch: options.batch,
      vocabulary: engine.vocabulary.count,
      regionOf: this.regionsOf(budget, place),
    };
  }

  /** In which of the targets' regions an address lies. */
  private regionsOf(budget: EngineBudget, place: EnginePlace): (address: number) => MemoryRegion {
    const { windowAt, dmaAt, pipesAt } = this.lay;
    const io = Math.min(windowAt, dmaAt, pipesAt);
    const ends = ENGINE_REGIONS.filter(r => budget[r] > 0).map(
      r => [place[`${r}At`] + budget[r], TARGET_REGION[r]] as const,
    );
    return address =>
      address < this.base.offset
        ? address < io
          ? 'fixed'
          : 'io'
        : (ends.find(([end]) => address < end)?.[1] ?? panic(`address ${address} lies in no region of the model`));
  }

  /** Where a load puts the regions. */
  private placeOf(budget: EngineBudget): EnginePlace {
    const place: Record<string, number> = {};
    let at = this.base.offset;
    for (const region of ENGINE_REGIONS) {
      place[`${region}At`] = budget[region] === 0 ? 0 : at;
      at += alignUp(budget[region], LIMITS.arenaAlign);
    }
    return place as unknown as EnginePlace;
  }

  private take(region: string, bytes: number): number {
    if (bytes === 0) return 0;
    const at = this.arena.alloc(alignUp(bytes, LIMITS.arenaAlign), LIMITS.arenaAlign, region);
    return at < 0 ? panic(`region ${region}: ${bytes} bytes were planned and are not there`) : at;
  }

  private release(): void {
    this.arena.release(this.base);
    this.loaded = null;
    this.generation++;
  }

  /** Commits in place of what is loaded, which is kept in memory storage meanwhile: weights that turn out bad leave it as it was. */
  private replace(
    prepared: Prepared,
    budget: EngineBudget,
    path: string,
    request: LoadRequest,
    digest: string,
  ): Refusal | null {
    const swap = this.vfs.memfd('swap');
    if (typeof swap === 'number')
      return refuse('NFILE', 3001, `no file to keep the loaded model in: ${strerror(swap)}`);
    try {
      const previous = this.loaded;
      const bytes = this.arena.usage().offset - this.base.offset;
      if (bytes > 0 && swap.write(this.base.offset, bytes) !== bytes)
        return refuse('NOSPC', 3001, `memory storage has no ${bytes} bytes to keep the loaded model in: llmctl unload`);
      this.release();
      const loaded = this.commit(prepared, budget, path, request, digest);
      if (!isRefusal(loaded)) return null;
      if (previous !== null) {
        for (const region of ENGINE_REGIONS) this.take(region, previous.budget[region]);
        swap.readAt(0, this.base.offset, bytes);
        this.loaded = previous;
      }
      return loaded;
    } finally {
      swap.close();
    }
  }

  private digest(file: OpenFile, bytes: number): string | Refusal {
    const hash = this.hash.sha256();
    const dma = this.arena.u8.subarray(this.lay.dmaAt, this.lay.dmaAt + LIMITS.dmaBytes);
    for (let done = 0; done < bytes;) {
      const n = file.readAt(done, this.lay.dmaAt, Math.min(LIMITS.dmaBytes, bytes - done));
      if (n <= 0) return refuse('IO', 1002, `read failed at byte ${done} of ${bytes}`);
      hash.update(dma.subarray(0, n));
      done += n;
    }
    const disk = this.costs.disks.of(file);
    const status = this.costs.transfer(bytes, disk);
    if (status < 0) return { errno: -status, code: 1002, message: disk.complaint(status, bytes, 0) };
    return hash.digest();
  }
}

/** Refuses what no keys and values are kept as. */
export function checkKvType(type: number): Refusal | null {
  const name = ggmlTypeName(type);
  if (KV_TYPES.some(known => known === name)) return null;
  return refuse('INVAL', 7001, `KV type ${name ?? type} is not ${KV_TYPES_TEXT}`);
}
