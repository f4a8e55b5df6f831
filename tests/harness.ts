// A bench without the kernel: an arena, the compute device in either build, a model loaded at the next free offset, and steps run
// directly. Tests of engines, kernels and numerics stand on it.

import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import process from 'node:process';
import v8 from 'node:v8';
import {
  isRefusal,
  KV_PAGE,
  LIMITS,
  PickRecord,
  RowRecord,
  SAMPLER_MODE,
  SamplerRecord,
  StepBlock,
} from '../kernel/abi/index.ts';
import type {
  ArenaView,
  Dma,
  Engine,
  EngineBudget,
  EngineDriver,
  EngineOptions,
  EnginePlace,
  ModelImage,
  Refusal,
  TokenizerDriver,
  Vocabulary,
} from '../kernel/abi/index.ts';
import { ENGINE_REGIONS } from '../kernel/abi/index.ts';
import type { EngineCompute } from '../drivers/engine/compute.ts';
import { Tokenizers } from '../drivers/engine/tokenizer.ts';
import { loadUnicode } from '../drivers/engine/unicode.ts';
import { multiplyAddIsFused } from '../boot/fused.ts';
import { parseGguf } from '../vfs/gguf.ts';

export { random } from './reference/random.ts';

v8.setFlagsFromString('--experimental-wasm-relaxed-simd');

/** Fixtures beside the repository, shared by its checkouts. */
export const SHARED = '../shared';
export const shared = (path: string): string => `${SHARED}/${path}`;
export const haveShared = existsSync(SHARED);

export const BUILDS = ['simd128', 'relaxed'] as const;
export type Build = (typeof BUILDS)[number];

/** True when this host compiles the build and gives its results. */
export function canRun(build: Build): boolean {
  return (
    WebAssembly.validate(readFileSync(`build/kernels.${build}.wasm`)) && (build !== 'relaxed' || multiplyAddIsFused())
  );
}

const modules = new Map<Build, WebAssembly.Module>();
function moduleOf(build: Build): WebAssembly.Module {
  const module = modules.get(build) ?? new WebAssembly.Module(readFileSync(`build/kernels.${build}.wasm`));
  modules.set(build, module);
  return module;
}

const STEP_AT = 64;
const SAMPLER_AT = STEP_AT + StepBlock.bytes;
const ROWS_AT = 256; // 32 × 16 B = 512 B
const PICKS_AT = 768; // 32 × 8 B = 256 B
const CONSTANTS_AT = 1024;
const DMA_AT = CONSTANTS_AT + LIMITS.constantsBytes;
/** Where models go: what lies below stands in for the machine's own tables. */
export const MODEL_AT = 72 * 1024;

const alignUp = (n: number): number => Math.ceil(n / LIMITS.arenaAlign) * LIMITS.arenaAlign;

const none = (): number => 0;

/** A vocabulary that only counts: for models made by tests, which have ids and no text. */
class BareTokenizer implements TokenizerDriver {
  budget(): { bytes: number; workBytes: number } {
    return { bytes: 32, workBytes: 32 };
  }
  load(image: ModelImage): Vocabulary {
    return {
      model: 'none',
      count: image.tensor('token_embd.weight')?.shape[1] ?? 0,
      bytes: 32,
      bos: -1,
      eos: -1,
      addBos: false,
      addEos: false,
      isEnd: () => false,
      begin: () => {},
      inputAt: none,
      inputBytes: none,
      input: () => {},
      encode: none,
      refusal: () => null,
      piece: none,
    };
  }
}

/** A token of the session in a slot. */
export interface Row {
  readonly slot: number;
  readonly pos: number;
  readonly id: number;
}

/** The pages of a slot where each has a whole context, in order; in a smaller pool they share. */
function pagesOf({ options }: Engine, slot: number): number[] {
  const each = Math.ceil(options.ctx / KV_PAGE);
  return Array.from({ length: each }, (_, i) => (slot * each + i) % options.pages);
}

/** Options of a load; without more, of one session, a whole context for each slot, logits of all rows together, and weights that stay. */
export type RigOptions = Pick<EngineOptions, 'ctx' | 'kvType' | 'batch'> & Partial<EngineOptions>;
export function optionsOf(o: RigOptions): EngineOptions {
  const sessions = o.sessions ?? 1;
  const pages = sessions * Math.ceil(o.ctx / KV_PAGE);
  return { sessions, pages, draws: o.batch, tileBytes: 0, buffers: 0, pinBytes: 0, adapters: [], ...o };
}

export interface LoadedModel {
  readonly engine: Engine;
  readonly budget: EngineBudget;
  readonly place: EnginePlace;
  readonly endAt: number;
}

/** A file of the host, or bytes, as a block device. */
export function blockDevice(
  rig: Rig,
  file: string | Uint8Array,
): { readonly size: number; readonly read: Dma; readonly close: () => void } {
  if (typeof file !== 'string') {
    const read: Dma = (fileAt, arenaAt, length) => {
      const piece = file.subarray(fileAt, fileAt + length);
      rig.arena.u8.set(piece, arenaAt);
      return piece.length;
    };
    return { size: file.length, read, close: () => {} };
  }
  const fd = openSync(file, 'r');
  return {
    size: fstatSync(fd).size,
    read: (fileAt, arenaAt, length) => readSync(fd, rig.arena.u8, arenaAt, length, fileAt),
    close: () => closeSync(fd),
  };
}

export class Rig {
  readonly arena: ArenaView;
  readonly compute: EngineCompute;
  readonly memory = new WebAssembly.Memory({ initial: 128, maximum: 128 });
  readonly stepAt = STEP_AT;
  readonly dmaAt = DMA_AT;

  constructor(readonly build: Build = 'simd128') {
    const instance = new WebAssembly.Instance(moduleOf(build), { env: { memory: this.memory } });
    const b = this.memory.buffer;
    this.arena = {
      buffer: b,
      u8: new Uint8Array(b),
      u16: new Uint16Array(b),
      i32: new Int32Array(b),
      u32: new Uint32Array(b),
      f32: new Float32Array(b),
      f64: new Float64Array(b),
      view: new DataView(b),
    };
    this.compute = { ...(instance.exports as unknown as EngineCompute), build };
  }

  image(file: string | Uint8Array): ModelImage | Refusal {
    const device = blockDevice(this, file);
    return parseGguf(
      { path: typeof file === 'string' ? file : 'memory', size: device.size, read: device.read },
      this.arena,
      DMA_AT,
      LIMITS.dmaBytes,
    );
  }

  readonly bareTokenizer: TokenizerDriver = new BareTokenizer();

  /** Vocabularies from files' own metadata. */
  tokenizer(): TokenizerDriver {
    loadUnicode(this.arena, CONSTANTS_AT);
    return new Tokenizers(this.arena, this.compute, CONSTANTS_AT);
  }

  /** Budgets and loads at MODEL_AT. A model that does not fit is ENOMEM 1003 with its sum. */
  load(driver: EngineDriver, image: ModelImage, asked: RigOptions): LoadedModel | Refusal {
    const options = optionsOf(asked);
    const budget = driver.budget(image, options);
    if (isRefusal(budget)) return budget;
    let at = MODEL_AT;
    const place: Record<string, number> = {};
    for (const region of ENGINE_REGIONS) {
      place[`${region}At`] = at;
      at += alignUp(budget[region]);
    }
    if (at > LIMITS.arenaBytes) return { errno: 12, code: 1003, message: `need=${at} have=${LIMITS.arenaBytes}` };
    this.arena.u8.fill(0xa5, MODEL_AT); // what a region is not given it must not rely on
    const engine = driver.load(image, options, budget, place as unknown as EnginePlace);
    if (isRefusal(engine)) return engine;
    StepBlock.write(this.arena.u8, STEP_AT, {
      rowsAt: ROWS_AT,
      picksAt: PICKS_AT,
      historyAt: engine.slots.at,
      samplerAt: SAMPLER_AT,
      logitsAt: engine.logitsAt,
      vocabulary: engine.vocabulary.count,
      kvAt: engine.kvAt,
      ctx: options.ctx,
    });
    for (let slot = 0; slot < options.sessions; slot++) this.page(engine, slot, pagesOf(engine, slot));
    SamplerRecord.write(this.arena.u8, SAMPLER_AT, { topP: 1, repeatPenalty: 1, modes: SAMPLER_MODE.greedy });
    return { engine, budget, place: place as unknown as EnginePlace, endAt: at };
  }

  set(field: keyof (typeof StepBlock)['at'], value: number): void {
    this.arena.i32[(STEP_AT + StepBlock.at[field]) >> 2] = value;
  }
  get(field: keyof (typeof StepBlock)['at']): number {
    return this.arena.i32[(STEP_AT + StepBlock.at[field]) >> 2]!;
  }
  step(): ReturnType<typeof StepBlock.read> {
    return StepBlock.read(this.arena.u8, STEP_AT);
  }

  /** Runs one segment; a fault is an error of the test. */
  run(opAt: number): void {
    const status = this.compute.run(STEP_AT, opAt);
    if (status !== 0) throw new Error(`segment at ${opAt} ended with status ${status}`);
  }

  /** Says which pages of the pool hold the positions of slot `slot`, in order. */
  page(engine: Engine, slot: number, pages: readonly number[]): void {
    const { at, bytes, tableAt } = engine.slots;
    this.arena.u32.set(
      pages.map(page => page * engine.pageBytes),
      (at + slot * bytes + tableAt) >> 2,
    );
  }

  /** Writes the rows of the next pass. */
  put(engine: Engine, rows: readonly Row[]): void {
    const { at, bytes, tableAt } = engine.slots;
    rows.forEach(({ slot, pos, id }, i) =>
      RowRecord.write(this.arena.u8, this.get('rowsAt') + i * RowRecord.bytes, {
        token: id,
        pos,
        tableAt: at + slot * bytes + tableAt,
        session: slot + 1,
      }),
    );
    this.set('n', rows.length);
  }

  /** Runs the body over rows of slots. */
  pass(engine: Engine, rows: readonly Row[]): void {
    this.put(engine, rows);
    this.run(engine.bodyAt);
  }

  /** Runs the body for ids of the first slot at `pos`; they go to the history, as the kernel does it. */
  body(engine: Engine, pos: number, ids: readonly number[]): void {
    this.arena.u32.set(ids, (engine.slots.at >> 2) + pos);
    this.pass(
      engine,
      ids.map((id, i) => ({ slot: 0, pos: pos + i, id })),
    );
  }

  /** Says of which rows of the pass the logits are wanted. */
  pick(rows: readonly number[]): void {
    rows.forEach((row, i) => PickRecord.write(this.arena.u8, PICKS_AT + i * PickRecord.bytes, { row }));
    this.set('picks', rows.length);
  }

  /** Logits of rows of the pass just run, as copies; sample and score then find the first ones. Those that are no numbers are an error. */
  heads(engine: Engine, rows: readonly number[]): Float32Array[] {
    this.pick(rows);
    this.run(engine.headAt);
    return this.picked(engine, rows);
  }

  /** Logits of these picks, the head having run. */
  picked(engine: Engine, rows: readonly number[]): Float32Array[] {
    return rows.map((_, i) => {
      const { fault } = PickRecord.read(this.arena.u8, PICKS_AT + i * PickRecord.bytes);
      if (fault !== 0) throw new Error(`the logits of row ${rows[i]} are a fault: ${fault}`);
      const from = (engine.logitsAt + i * engine.logitsStride) >> 2;
      return this.arena.f32.slice(from, from + engine.vocabulary.count);
    });
  }

  /** Logits of row `row`. */
  head(engine: Engine, row: number): Float32Array {
    return this.heads(engine, [row])[0]!;
  }

  /** Logits after every one of `ids`, in batches. */
  logits(engine: Engine, ids: readonly number[], batch: number, pos = 0): Float32Array[] {
    const rows: Float32Array[] = [];
    for (let i = 0; i < ids.length; i += batch) {
      const n = Math.min(batch, ids.length - i);
      this.body(engine, pos + i, ids.slice(i, i + n));
      rows.push(
        ...this.heads(
          engine,
          Array.from({ length: n }, (_, row) => row),
        ),
      );
    }
    return rows;
  }
}

/** The value of a result that must not be a refusal. */
export function accepted<T>(value: T | Refusal): T {
  if (isRefusal(value)) throw new Error(`refused: ${value.errno} ${value.code} ${value.message}`);
  return value;
}

/** Lowest id among the largest logits. */
export function argmax(row: Float32Array): number {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i]! > row[best]!) best = i;
  return best;
}

export const soak = process.env['ARENA8_SOAK'] === '1';
