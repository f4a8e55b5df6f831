// The loader: treats a GGUF image as exec treats an executable — parse, check, budget, map — and hands it to the engine that runs it. The
// budget is exact: what `plan` says is what `load` takes, and one byte less is refused here, with the sum, before anything is allocated.
// A load validates everything first; when it fails the previous model is as it was.

import { bytesToHex } from '@noble/hashes/utils.js';
import {
  ENGINE_REGIONS,
  GGML_BLOCK,
  ggmlTypeName,
  isRefusal,
  KV_PAGE,
  LIMITS,
  LOAD_DEFAULTS,
  PieceRecord,
  PlanReport,
  refuse,
  RESIDENCY,
  shown,
  strerror,
  type AdapterUse,
  type Engine,
  type DiskTimes,
  type EngineBudget,
  type EngineDriver,
  type EngineOptions,
  type EnginePlace,
  type Hasher,
  type GgmlTypeName,
  type ModelImage,
  type ModelShape,
  type PlanImage,
  type PlanRow,
  type Refusal,
  type StreamProgram,
  type TokenizerDriver,
  type Vocabulary,
} from './abi/index.ts';
import { failure, refusalOf, type Permission } from '../trust/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import { f32Text } from '../vfs/fs-gguf.ts';
import { PRELINK_KEYS, prelinkOf } from '../vfs/prelink.ts';
import type { Vfs } from '../vfs/vfs.ts';
import type { AdapterWish } from './adapters.ts';
import { alignUp, type Arena, type Mark } from './arena.ts';
import type { Costs, PlanPrices } from './costs.ts';
import { openImage, readAll, type OpenImage } from './image.ts';
import type { Disk } from './disks.ts';
import type { Layout } from './layout.ts';
import { NOBODY, type Packages, type Voucher } from './packages.ts';
import { fit, type Candidate, type Fit, type LoadRequest } from './fit.ts';
import { panic } from './panic.ts';
import type { Streams } from './stream.ts';
import { encodingBounds } from './wcet/bounds.ts';
import type { Bound, PlanSource } from './wcet/price.ts';
import type { MemoryRegion, Target } from './wcet/targets.ts';

/** What a model file is loaded with. */
interface Wanted {
  readonly path: string; // absolute; '' for an engine that needs no file
  readonly request: LoadRequest;
  readonly adapters: readonly AdapterWish[];
  /** What stays as it was when the first adapter came, though the request leaves it open: adapters take their room from elsewhere. */
  readonly keeps: Pick<LoadRequest, 'ctx' | 'stream'> | null;
}

/** What is loaded. */
export interface Loaded extends Wanted {
  readonly engine: Engine;
  /** Of its plan, on the target in force. */
  readonly prices: PlanPrices;
  readonly budget: EngineBudget;
  /** What was planned, and taken. */
  readonly report: Report;
  readonly place: EnginePlace;
  readonly digest: string; // SHA-256 of the file
  /** Who vouched for the file when it was loaded. */
  readonly voucher: Voucher;
  readonly planDigest: string; // SHA-256 of the plan as it was compiled, before it got its prices
  readonly source: string; // of a prelinked file: SHA-256 of the one it was made from; '' = it is none
  readonly fileBytes: number;
  readonly tensors: number;
  readonly types: string;
  /** Open while weights stream from it, and the disk that it lies on. */
  readonly file: OpenFile | null;
  readonly disk: Disk | null;
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
interface Prepared extends Candidate {
  readonly options: EngineOptions;
  readonly budget: EngineBudget | null; // null: does not fit
  readonly report: Report;
}

/** A plan as a load would write it; `word`: an i32 of it. */
interface PlacedPlan extends PlanImage {
  readonly place: EnginePlace;
  readonly word: (address: number) => number;
}

/** How much text a request brings: `bytes`, or when that is 0, as many as `tokens` ids can stand for. */
export interface TextSize {
  readonly bytes: number;
  readonly tokens: number;
}

/** The file a model is loaded from; an engine that needs none has path ''. */
interface ModelFile extends Wanted, Pick<Loaded, 'digest' | 'voucher'> {
  readonly file: OpenFile | null;
}

/** What the regions of a model are to a target. The history is read and written with the cache; nothing reads the directory while it runs. */
const TARGET_REGION: Readonly<Record<keyof EngineBudget, MemoryRegion>> = {
  weights: 'weights',
  adapters: 'weights',
  stream: 'stream',
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

const NOT_STREAMING = { tiles: 0, streamed: 0, pinned: 0 };

/** Reads, and bytes of them, in a pass that draws; bytes of matrices that would stream and are pinned. `word`: an i32 of the plan region. */
export function streamingOf(
  program: StreamProgram | null,
  word: (address: number) => number,
): { readonly tiles: number; readonly streamed: number; readonly pinned: number } {
  if (program === null) return NOT_STREAMING;
  const { bodyPiecesAt, bodyPieces, headPiecesAt, headPieces, bodyBytes, headBytes, pinnedBytes } = program;
  let tiles = 0;
  const count = (at: number, pieces: number): void => {
    for (let p = 0; p < pieces; p++) if (word(at + p * PieceRecord.bytes + PieceRecord.at.bytes) !== 0) tiles++;
  };
  count(bodyPiecesAt, bodyPieces);
  count(headPiecesAt, headPieces);
  return { tiles, streamed: bodyBytes + headBytes, pinned: pinnedBytes };
}

/** Regions that a refusal names; those that most models do without, where they take anything. */
const SAID = ['weights', 'adapters', 'stream', 'kv', 'vocabulary'] as const;
const OFTEN_NONE: ReadonlySet<keyof EngineBudget> = new Set(['adapters', 'stream']);

/** `a, b`. */
const namesOf = ({ adapters }: Loaded): string => adapters.map(a => a.name).join(', ');

export class Loader {
  private loaded: Loaded | null = null;
  /** Counts loads and unloads: what was tokenised for another model is stale. */
  generation = 0;
  private readonly base: Mark;
  private lastFile: Wanted | null = null;
  /** The model file that was loaded before, as it was when another one took its place. */
  before: (Wanted & Pick<Loaded, 'digest'>) | null = null;

  constructor(
    readonly arena: Arena,
    readonly lay: Layout,
    readonly costs: Costs,
    readonly vfs: Vfs,
    private readonly drivers: readonly EngineDriver[],
    private readonly tokenizer: TokenizerDriver,
    private readonly sha256: () => Hasher,
    private readonly streams: Streams,
    private readonly packages: Packages,
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

  /** The most that reads which are on their way ahead of a pass take to end: one into each buffer. */
  drainMost(): number {
    if (this.loaded?.disk == null) return 0;
    const { tileBytes, buffers } = this.loaded.engine.options;
    const { latency, transfer } = this.loaded.disk.times(this.costs.target).read(tileBytes, 'most');
    return buffers * (latency + transfer);
  }

  /** Puts another target's prices into the loaded model's plan; when it is refused, the plan is as it was. */
  reprice(target: Target): Refusal | null {
    if (this.loaded === null) return null;
    const prices = this.costs.price(this.sourceOf(this.loaded, target), target);
    if (isRefusal(prices)) return prices;
    if (this.streams.isStreaming) this.streams.drain(); // its times are cycles of the processor that they were submitted on
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

  /** Loads `path` in place of what is loaded, if it may be; `expected`: only a file with this SHA-256. */
  load(path: string, request: LoadRequest, expected = ''): Refusal | null {
    return this.loadAs({ path, request, adapters: [], keeps: null }, expected);
  }

  private loadAs(wanted: Wanted, expected: string): Refusal | null {
    const { path, request, keeps } = wanted;
    const beside = wanted.adapters.map(adapter => adapter.path);
    return this.withAdapters(wanted.adapters, adapters => {
      const load = (image: ModelImage, file: OpenFile): Refusal | null => {
        const prepared = this.prepare(image, { ...request, ...keeps }, adapters);
        if (isRefusal(prepared)) return prepared;
        if (prepared.budget === null) return refuse('NOMEM', 1003, prepared.report.message);
        const digest = this.digestExpected(file, image, expected);
        if (isRefusal(digest)) return digest;
        const { ctx } = prepared.options;
        const voucher = this.packages.admit({ path, size: image.fileBytes, digest }, ctx);
        const refused = isRefusal(voucher) ? voucher : this.admitAdapters(adapters, ctx);
        if (isRefusal(voucher) || refused !== null) return refused;
        const hashed = wanted.adapters.map((wish, i) => ({ ...wish, digest: adapters[i]!.digest }));
        return this.replace(prepared, prepared.budget, { ...wanted, adapters: hashed, file, digest, voucher });
      };
      return this.withImage(path, load, beside);
    });
  }

  /** What holds for models holds for what is put beside them. */
  private admitAdapters(adapters: readonly AdapterUse[], ctx: number): Refusal | null {
    for (const { path, digest, image } of adapters) {
      const voucher = this.packages.admit({ path, size: image.fileBytes, digest }, ctx);
      if (isRefusal(voucher)) return { ...voucher, message: `${path}: ${voucher.message}` };
    }
    return null;
  }

  /** Puts an adapter beside the loaded model, in place of one of the same name. */
  applyAdapter(wish: AdapterWish): Refusal | null {
    const { loaded } = this;
    if (loaded === null) return refuse('NODEV', 2001, 'no model loaded: llmctl load FILE');
    if (loaded.path === '') return refuse('NOTSUP', 5001, `the ${loaded.engine.name} engine takes no adapters`);
    const i = loaded.adapters.findIndex(a => a.name === wish.name);
    const adapters = i < 0 ? [...loaded.adapters, wish] : loaded.adapters.with(i, wish);
    if (adapters.length > LIMITS.adaptersMax)
      return refuse('NOSPC', 7001, `${LIMITS.adaptersMax} adapters are applied (${namesOf(loaded)}), that is the most`);
    return this.reload(loaded, adapters);
  }

  /** Takes an adapter away, or with '' all; returns how many. */
  detachAdapter(name: string): number | Refusal {
    const { loaded } = this;
    if (loaded === null) return refuse('NODEV', 2001, 'no model loaded: llmctl load FILE');
    const { adapters } = loaded;
    if (name !== '' && !adapters.some(a => a.name === name))
      return refuse('NOENT', 7001, `no adapter ${shown(name)} is applied: ${namesOf(loaded) || 'there is none'}`);
    const kept = name === '' ? [] : adapters.filter(a => a.name !== name);
    if (adapters.length === 0) return 0;
    return this.reload(loaded, kept) ?? adapters.length - kept.length;
  }

  /** The same model with other adapters; what was loaded before it remains that. */
  private reload(loaded: Loaded, adapters: readonly AdapterWish[]): Refusal | null {
    const { before } = this;
    const { path, request, digest, engine } = loaded;
    const { ctx, tileBytes } = engine.options;
    const stream = tileBytes === 0 ? RESIDENCY.resident : RESIDENCY.streamed;
    const keeps = adapters.length === 0 ? null : (loaded.keeps ?? { ctx, stream });
    const refusal = this.loadAs({ path, request, adapters, keeps }, digest);
    this.before = before;
    return refusal;
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
    const from = { path: '', request, adapters: [], keeps: null, file: null, digest: '', voucher: NOBODY };
    return this.replace(prepared, prepared.budget, from);
  }

  /** Loads again, as it was, the model before the one loaded. */
  rollBack(): Refusal | null {
    const before = this.before ?? panic('no model to roll back to');
    return this.loadAs(before, before.digest);
  }

  /** Back from a built-in engine to the model file that was loaded last. */
  reloadFile(): Refusal | null {
    if (this.loaded !== null && this.loaded.path !== '') return null;
    if (this.lastFile === null) return refuse('NODEV', 2001, 'no model file was loaded yet: llmctl load FILE');
    return this.loadAs(this.lastFile, '');
  }

  /** What rights to the loaded model are about: its path, or the name of a built-in engine; '' without a model. */
  source(): string {
    const { path, engine } = this.loaded ?? { path: '', engine: null };
    return path === '' ? (engine?.name ?? '') : path;
  }

  /** The model file that reloadFile() loads; '' where there was none. */
  get lastPath(): string {
    return this.lastFile?.path ?? '';
  }

  unload(): boolean {
    if (this.loaded === null) return false;
    const { file } = this.loaded;
    this.remember(this.loaded);
    this.release();
    file?.close();
    return true;
  }

  /** What was loaded is what a rollback goes back to; an engine without a file is not. */
  private remember(previous: Loaded | null): void {
    if (previous === null || previous.path === '') return;
    const { path, request, adapters, keeps, digest } = previous;
    this.before = { path, request, adapters, keeps, digest };
  }

  /** What `use` finds in the loaded model's file. */
  inspect<T>(use: (image: ModelImage) => T | Refusal): T | Refusal {
    if (this.loaded === null) return refuse('NODEV', 2001, 'no model loaded: llmctl load FILE');
    const { path, engine } = this.loaded;
    return path === '' ? refuse('INVAL', 6002, `the ${engine.name} engine has no file`) : this.withImage(path, use);
  }

  /** The tensors of a model in the order in which a plan of the engine that runs it first reads them. */
  order(image: ModelImage): readonly string[] | Refusal {
    return this.byEngine(driver => driver.order(image));
  }

  /** Whether the weights of what is loaded stream from that inode of that device. */
  streamsFrom(device: number, inode: number): boolean {
    const file = this.loaded?.file ?? null;
    return file !== null && file.opening.device === device && file.inode.number === inode;
  }

  /** Whether a package rules this use of what is loaded out: the model's, or that of an adapter beside it. */
  denies(use: Permission): Refusal | null {
    for (const { digest } of this.loaded === null ? [] : [this.loaded, ...this.loaded.engine.options.adapters]) {
      const refusal = this.packages.denies(digest, use);
      if (refusal !== null) return refusal;
    }
    return null;
  }

  /** Who vouches for what is loaded, in words. */
  vouched(): string {
    return this.loaded?.voucher.text ?? '';
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

  /** `beside`: other files that a refusal may be about. */
  private withImage<T>(
    path: string,
    use: (image: ModelImage, file: OpenFile) => T | Refusal,
    beside: readonly string[] = [],
  ): T | Refusal {
    const opened = openImage(this, path, '/');
    if (isRefusal(opened)) return opened;
    const { image, file, unread } = opened;
    try {
      const r = use(image, file);
      if (!isRefusal(r)) return r;
      // A refusal about a file names the file, once.
      const isNamed = [path, ...beside].some(name => r.message.includes(name));
      return unread() ?? (isNamed ? r : { ...r, message: `${path}: ${r.message}` });
    } finally {
      this.costs.settle();
      file.close();
    }
  }

  /** Opens the files of adapters and hashes them; they are closed when `use` has returned. */
  private withAdapters<T>(
    wishes: readonly AdapterWish[],
    use: (adapters: readonly AdapterUse[]) => T | Refusal,
  ): T | Refusal {
    const opened: OpenImage[] = [];
    const adapters: AdapterUse[] = [];
    try {
      for (const wish of wishes) {
        const one = openImage(this, wish.path, '/');
        if (isRefusal(one)) return one;
        opened.push(one);
        const digest = this.digestExpected(one.file, one.image, wish.digest);
        if (isRefusal(digest)) return one.unread() ?? { ...digest, message: `${wish.path}: ${digest.message}` };
        adapters.push({ ...wish, digest, image: one.image });
      }
      const r = use(adapters);
      const unread = opened.map(one => one.unread()).find(refusal => refusal !== null);
      return isRefusal(r) ? (unread ?? r) : r;
    } finally {
      this.costs.settle();
      for (const { file } of opened) file.close();
    }
  }

  private prepare(image: ModelImage, request: LoadRequest, adapters: readonly AdapterUse[] = []): Prepared | Refusal {
    return this.byEngine(driver => this.prepareWith(driver, image, request, adapters));
  }

  /** What the first engine says that runs the file; the first one's refusal, where none does. */
  private byEngine<T>(ask: (driver: EngineDriver) => T | Refusal): T | Refusal {
    let first: Refusal | null = null;
    for (const driver of this.drivers) {
      if (driver.builtin !== undefined) continue;
      const answer = ask(driver);
      if (!isRefusal(answer)) return answer;
      first ??= answer;
    }
    return first ?? refuse('NODEV', 5001, 'no engine runs model files');
  }

  private prepareWith(
    driver: EngineDriver,
    image: ModelImage,
    request: LoadRequest,
    adapters: readonly AdapterUse[] = [],
  ): Prepared | Refusal {
    const shape = driver.describe(image);
    if (isRefusal(shape)) return shape;
    const model = { driver, image, shape };
    const chosen = fit(model, request, { fixed: this.base.offset, capacity: this.arena.capacity }, adapters);
    return isRefusal(chosen) ? chosen : this.prepared(model, chosen);
  }

  private prepared(
    { driver, image, shape }: Candidate,
    { options, budget, total, fits, ways, ctxThatFits }: Fit,
  ): Prepared | Refusal {
    const over = total - this.arena.capacity;
    const typeThatFits = fits || options.tileBytes > 0 ? '' : this.typeThatFits(image, over);
    const all = typeThatFits === '' ? ways : [...ways, `${typeThatFits} weights`];
    const named = SAID.filter(r => budget[r] > 0 || !OFTEN_NONE.has(r));
    const other = total - named.reduce((sum, region) => sum + budget[region], 0);
    const message = fits
      ? ''
      : `need=${total} have=${this.arena.capacity} over=${over} ` +
        `(${named.map(region => `${region} ${budget[region]} + `).join('')}other ${other}); ` +
        (all.length === 0 ? 'nothing smaller of this model fits' : `would fit: ${all.join(' or ')}`);
    const kvBytesPerToken = shape.kvBytesPerToken(options.kvType);
    const plan = fits && options.tileBytes > 0 ? this.planOf({ driver, image, shape }, options, budget) : null;
    if (isRefusal(plan)) return plan;
    const report: Report = {
      fits: fits ? 1 : 0,
      ...options,
      ...(plan === null ? NOT_STREAMING : streamingOf(plan.stream, plan.word)),
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

  /** The plan as a load would write it. */
  private planOf({ driver, image }: Candidate, options: EngineOptions, budget: EngineBudget): PlacedPlan | Refusal {
    const place = this.placeOf(budget);
    const plan = driver.plan(image, options, budget, place);
    if (isRefusal(plan)) return plan;
    return { ...plan, place, word: address => plan.words[(address - place.planAt) >> 2] ?? 0 };
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
    { path, request, adapters, keeps, file, digest, voucher }: ModelFile,
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
    const streams = engine.stream !== null;
    if (streams && file === null) panic('weights stream from no file');
    const disk = streams && file !== null ? this.costs.disks.of(file) : null;
    const prices = this.costs.price(this.sourceOf({ engine, budget, place: located, disk }));
    if (isRefusal(prices)) {
      this.arena.release(this.base);
      return prices;
    }
    const planDigest = this.digestOf(located.planAt, budget.plan);
    prices.fill(this.arena.u32);
    const types = new Set(p.image.tensors.map(t => ggmlTypeName(t.type) ?? String(t.type)));
    this.loaded = {
      engine,
      prices,
      path,
      request,
      adapters,
      keeps,
      budget,
      report: p.report,
      place: located,
      digest,
      voucher,
      planDigest,
      source: prelinkOf(p.image)?.sourceSha256 ?? '',
      fileBytes: p.image.fileBytes,
      tensors: p.image.tensors.length,
      types: [...types].join(' '),
      file: streams && file !== null ? file.retain() : null,
      disk,
    };
    this.stream(this.loaded);
    this.generation++;
    if (path !== '') this.lastFile = { path, request, adapters, keeps };
    const { shape } = engine;
    const bytes = p.report.total - p.report.fixed;
    const other = bytes - budget.weights - budget.adapters - budget.kv - budget.vocabulary;
    this.say(
      `model: ${shape.name} (${shape.architecture}, ${shape.parameters} parameters, context ${p.options.ctx}, KV ${ggmlTypeName(p.options.kvType)})`,
    );
    const beside = budget.adapters === 0 ? '' : ` + adapters ${budget.adapters}`;
    this.say(`model: weights ${budget.weights}${beside} + vocabulary ${budget.vocabulary} + kv ${budget.kv}`);
    const { batch, sessions, pages } = p.options;
    this.say(`model: ${batch} rows a pass, ${sessions} sessions, ${pages} pages of ${p.report.pageBytes} bytes`);
    for (const { name, scale } of adapters) this.say(`model: adapter ${name}, scale ${f32Text(scale)}`);
    this.say(`model: + other ${other} = ${bytes} bytes; ${this.arena.remaining()} of ${this.arena.capacity} free`);
    return this.loaded;
  }

  // ── Prices ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The loaded model on a target; `text` is how many bytes to turn into ids, 0 = so many ids of the longest. Null: nothing is loaded. */
  priced(target: Target, text: TextSize): Priced | Refusal | null {
    const { loaded } = this;
    if (loaded === null) return null;
    const { engine } = loaded;
    const prices =
      target === this.costs.target ? loaded.prices : this.costs.price(this.sourceOf(loaded, target), target);
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
    return this.withImage<Priced>(path, (image, file) => {
      const prepared = this.prepare(image, request);
      if (isRefusal(prepared)) return prepared;
      const { options, budget, shape, report } = prepared;
      if (budget === null) return refuse('NOMEM', 1003, report.message);
      const plan = this.planOf(prepared, options, budget);
      if (isRefusal(plan)) return plan;
      const prices = this.costs.price(
        this.sourceOfFile(prepared, budget, plan, this.timesOf(file, '', target)),
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

  /** Prices of a file as a load with this request would place it, or of what is loaded (path ''), on a target and a kind of storage; '': the file's own. */
  pricesOn(
    path: string,
    request: LoadRequest,
    target: Target,
    diskModel: string,
  ): { readonly prices: PlanPrices; readonly disk: string } | Refusal {
    if (path !== '')
      return this.withImage(path, (image, file) => this.filePricesOn(image, file, request, target, diskModel));
    const { loaded } = this;
    if (loaded === null) return refuse('NODEV', 2001, 'no model loaded: llmctl load FILE');
    const times = loaded.file === null ? null : this.timesOf(loaded.file, diskModel, target);
    if (isRefusal(times)) return times;
    const prices = this.costs.price(this.sourceOf(loaded, target, times), target);
    return isRefusal(prices) ? prices : { prices, disk: times?.name ?? '' };
  }

  private filePricesOn(
    image: ModelImage,
    file: OpenFile,
    request: LoadRequest,
    target: Target,
    diskModel: string,
  ): { readonly prices: PlanPrices; readonly disk: string } | Refusal {
    const prepared = this.prepare(image, request);
    if (isRefusal(prepared)) return prepared;
    const { options, budget, report } = prepared;
    if (budget === null) return refuse('NOMEM', 1003, report.message);
    const plan = this.planOf(prepared, options, budget);
    if (isRefusal(plan)) return plan;
    const times = this.timesOf(file, diskModel, target);
    if (isRefusal(times)) return times;
    const prices = this.costs.price(this.sourceOfFile(prepared, budget, plan, times), target);
    return isRefusal(prices) ? prices : { prices, disk: plan.stream === null ? '' : times.name };
  }

  /** Times of a kind of storage on a target; '': of the disk that a file lies on. */
  private timesOf(file: OpenFile, model: '', target: Target): DiskTimes;
  private timesOf(file: OpenFile, model: string, target: Target): DiskTimes | Refusal;
  private timesOf(file: OpenFile, model: string, target: Target): DiskTimes | Refusal {
    const { disks } = this.costs;
    return model === '' ? disks.of(file).times(target) : disks.timesOf(model, target);
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

  private sourceOf(
    { engine, budget, place, disk }: Pick<Loaded, 'engine' | 'budget' | 'place' | 'disk'>,
    target = this.costs.target,
    times = disk?.times(target) ?? null,
  ): PlanSource {
    const { bodyAt, headAt, sampleAt, scoreAt, logitsAt, kvAt, slots, options } = engine;
    const { stepAt, rowsAt, picksAt, samplerAt } = this.lay;
    const places = {
      bodyAt,
      headAt,
      sampleAt,
      scoreAt,
      logitsAt,
      kvAt,
      historyAt: slots.at,
      rowsAt,
      picksAt,
      stepAt,
      samplerAt,
    };
    return {
      ...places,
      word: address => this.arena.i32[address >> 2]!,
      ctx: options.ctx,
      batch: options.batch,
      draws: options.draws,
      stream: engine.stream === null || times === null ? null : { program: engine.stream, disk: times },
      vocabulary: engine.vocabulary.count,
      regionOf: this.regionsOf(budget, place),
    };
  }

  /** The same of a plan that is not loaded. */
  private sourceOfFile(
    { options, shape }: Prepared,
    budget: EngineBudget,
    plan: PlacedPlan,
    times: DiskTimes,
  ): PlanSource {
    const { place } = plan;
    const { stepAt, rowsAt, picksAt, samplerAt } = this.lay;
    return {
      ...plan,
      ...options,
      stream: plan.stream === null ? null : { program: plan.stream, disk: times },
      vocabulary: shape.vocabulary,
      kvAt: place.kvAt,
      historyAt: place.sessionAt,
      rowsAt,
      picksAt,
      regionOf: this.regionsOf(budget, place),
      stepAt,
      samplerAt,
    };
  }

  /** In which of the targets' regions an address of the loaded model, or below it, lies. */
  regionOf(): (address: number) => MemoryRegion {
    const { budget, place } = this.loaded ?? panic('no model, no regions');
    return this.regionsOf(budget, place);
  }

  /** The same of any model. */
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

  /** Weights that stream come from the model's file from now on. */
  private stream({ engine, file, disk }: Loaded): void {
    if (engine.stream !== null && file !== null && disk !== null) this.streams.attach(engine.stream, { file, disk });
  }

  private release(): void {
    this.streams.detach();
    this.arena.release(this.base);
    this.loaded = null;
    this.generation++;
  }

  /** Commits in place of what is loaded, which is kept in memory storage meanwhile: weights that turn out bad leave it as it was. */
  private replace(prepared: Prepared, budget: EngineBudget, from: ModelFile): Refusal | null {
    const swap = this.vfs.memfd('swap');
    if (typeof swap === 'number')
      return refuse('NFILE', 3001, `no file to keep the loaded model in: ${strerror(swap)}`);
    try {
      const previous = this.loaded;
      const bytes = this.arena.usage().offset - this.base.offset;
      if (bytes > 0 && swap.write(this.base.offset, bytes) !== bytes)
        return refuse('NOSPC', 3001, `memory storage has no ${bytes} bytes to keep the loaded model in: llmctl unload`);
      this.release();
      const loaded = this.commit(prepared, budget, from);
      if (!isRefusal(loaded)) {
        previous?.file?.close();
        this.remember(previous);
        return null;
      }
      if (previous !== null) {
        for (const region of ENGINE_REGIONS) this.take(region, previous.budget[region]);
        swap.readAt(0, this.base.offset, bytes);
        this.loaded = previous;
        this.stream(previous);
      }
      return loaded;
    } finally {
      swap.close();
    }
  }

  private digestOf(at: number, bytes: number): string {
    const hash = this.sha256();
    hash.update(this.arena.u8.subarray(at, at + bytes));
    return bytesToHex(hash.digest());
  }

  /** The same of a file that has that SHA-256 or is refused; '' = it may have any. */
  private digestExpected(file: OpenFile, image: ModelImage, expected: string): string | Refusal {
    const digest = this.digest(file, image);
    if (isRefusal(digest) || expected === '' || digest === expected) return digest;
    return refusalOf(failure('HashMismatch', `the file's SHA-256 is ${digest}, not ${expected}`));
  }

  /** SHA-256 of the file. A prelinked image whose data are not those that it was written with is refused: they are hashed on the way. */
  private digest(file: OpenFile, image: ModelImage): string | Refusal {
    const bytes = image.fileBytes;
    const prelink = prelinkOf(image);
    const dataAt = prelink?.dataAt ?? bytes;
    const [hash, dataHash] = [this.sha256(), this.sha256()];
    const unread = readAll(this, file, bytes, (piece, at) => {
      hash.update(piece);
      if (at + piece.length > dataAt) dataHash.update(piece.subarray(Math.max(0, dataAt - at)));
    });
    if (unread !== null) return unread;
    if (prelink !== null && bytesToHex(dataHash.digest()) !== prelink.dataSha256)
      return refuse(
        'NOEXEC',
        1002,
        `data from byte ${dataAt} on are damaged: their SHA-256 is not that of ${PRELINK_KEYS.data}`,
      );
    return bytesToHex(hash.digest());
  }
}
