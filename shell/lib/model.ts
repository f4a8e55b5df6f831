// What the model commands share: how a model is named, how text reaches the kernel, how records become figures. A prompt of any length
// travels as an open descriptor, never through the system-call window.

import {
  ENGINE_REGIONS,
  GGML_TYPE,
  IOCTL,
  KIND,
  KV_PAGE,
  KV_TYPES,
  KV_TYPES_TEXT,
  LIMITS,
  LlmStats,
  LOAD_DEFAULTS,
  LoadOptions,
  ModelInfo,
  O,
  PlanReport,
  RESIDENCY,
  SEEK,
  ggmlTypeName,
  strerror,
  utf8Decode,
  utf8Encode,
} from '../../kernel/abi/index.ts';
import type { RecordValue, Sys } from '../../kernel/abi/index.ts';
import { copyDescriptor, fstat, readFile, stat, textBytesMax } from './files.ts';
import type { Json } from './fmt.ts';
import { lastError } from './program.ts';
import type { Context } from './program.ts';
import { readAll, writeAll } from './stdio.ts';
import { streamingChoice } from './streaming.ts';
import type { StreamingValues } from './streaming.ts';

export type Model = RecordValue<typeof ModelInfo.fields>;
export type Plan = RecordValue<typeof PlanReport.fields>;
/** What these helpers need of a program. */
type Caller = Pick<Context, 'sys' | 'fail'>;

// ── Names ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A path as it is; a bare name that is no file here is one of the models in /models: `fable-f16` is /models/fable-f16.gguf. */
export function* modelPath(sys: Sys, name: string): Generator<void, string, void> {
  if (name.includes('/')) return name;
  const st = yield* stat(sys, name);
  if (typeof st !== 'number' && st.kind === KIND.file) return name;
  return `${LIMITS.modelsDirectory}/${name}${name.endsWith('.gguf') ? '' : '.gguf'}`;
}

/** `f16`, as --kv takes it and JSON states it. */
export const kvName = (type: number): string => (ggmlTypeName(type) ?? String(type)).toLowerCase();

/** The type that --kv names, or null. */
export function kvType(name: string): number | null {
  const type = KV_TYPES.find(known => known === name.toUpperCase());
  return type === undefined ? null : GGML_TYPE[type];
}

// ── The loaded model, and what loading takes ─────────────────────────────────────────────────────────────────────────────────────

/** The loaded model, or -errno. */
export function* loadedModel(sys: Sys): Generator<void, Model | number, void> {
  const record = new Uint8Array(ModelInfo.bytes);
  const result = yield* sys.model_info(record);
  return result < 0 ? result : ModelInfo.read(record, 0);
}

/** What the machine has inferred since boot, or -errno. */
export function* llmStats(sys: Sys): Generator<void, RecordValue<typeof LlmStats.fields> | number, void> {
  const record = new Uint8Array(LlmStats.bytes);
  const result = yield* sys.llm_stats(record);
  return result < 0 ? result : LlmStats.read(record, 0);
}

/** What JSON calls the model: its path, or `ENGINE:FORM` for one that needs no file. */
export const modelId = (model: Model): string => (model.path === '' ? `${model.engine}:${model.name}` : model.path);

/** True when the loaded model came from the file at `path`, however that is spelt. */
export function* isLoaded(sys: Sys, path: string): Generator<void, boolean, void> {
  const model = yield* loadedModel(sys);
  if (typeof model === 'number' || model.path === '') return false;
  const [a, b] = [yield* stat(sys, model.path), yield* stat(sys, path)];
  return typeof a !== 'number' && typeof b !== 'number' && a.device === b.device && a.inode === b.inode;
}

/** What a load is to take; 0: as much as the default allows and fits. */
export type LoadChoice = RecordValue<typeof LoadOptions.fields>;
export const defaultChoice: LoadChoice = LOAD_DEFAULTS;

/** Options of a load as getopt leaves them; a verb may lack all but the first two. */
interface LoadOptionValues extends StreamingValues {
  readonly ctx: string | undefined;
  readonly kv: string | undefined;
  readonly batch?: string | undefined;
  readonly sessions?: string | undefined;
  readonly pages?: string | undefined;
}

const PAGES_MAX = LIMITS.arenaBytes / KV_PAGE; // of one byte a position

/** What these options ask for beyond `otherwise`, or what is wrong with them. */
export function loadChoice(given: LoadOptionValues, otherwise = defaultChoice): LoadChoice | string {
  const most = { ctx: LIMITS.contextMax, batch: LIMITS.batchMax, sessions: LIMITS.sessionsMax, pages: PAGES_MAX };
  const choice = { ...otherwise };
  for (const name of ['ctx', 'batch', 'sessions', 'pages'] as const) {
    const text = given[name];
    if (text === undefined) continue;
    const n = parseInteger(text);
    if (n === null || n < 1 || n > most[name]) return `--${name} '${text}' is not an integer from 1 to ${most[name]}`;
    choice[name] = n;
  }
  const type = given.kv === undefined ? otherwise.kvType : kvType(given.kv);
  if (type === null) return `--kv '${given.kv}' is not ${KV_TYPES_TEXT}`;
  const streaming = streamingChoice(given, otherwise);
  return typeof streaming === 'string' ? streaming : { ...choice, ...streaming, kvType: type };
}

/** The loaded model's file, to be planned or loaded again as it was, or with other options in its context and KV type; or -errno. */
export function* loadedFile(
  sys: Sys,
  given: LoadOptionValues,
  choice: LoadChoice,
): Generator<void, { path: string; choice: LoadChoice } | number, void> {
  const model = yield* loadedModel(sys);
  if (typeof model === 'number') return model;
  const { ctx, kv, ...sizes } = given;
  const asked = ctx !== undefined || kv !== undefined || loadSizes.some(name => sizes[name] !== undefined);
  return {
    path: model.path,
    choice: {
      ...(asked ? choice : choiceOf(model)),
      ctx: ctx === undefined ? model.ctx : choice.ctx,
      kvType: kv === undefined ? model.kvType : choice.kvType,
    },
  };
}

/** Names of the options that say how large what a load takes is. */
export const loadSizes = ['batch', 'sessions', 'pages', 'stream', 'tile', 'buffers', 'pin', 'draws'] as const;

/** What would load the model as it is. */
export const choiceOf = (m: Model): LoadChoice => ({
  ctx: m.ctx,
  kvType: m.kvType,
  batch: m.batch,
  sessions: m.sessions,
  pages: m.pages,
  draws: m.draws,
  stream: m.tileBytes === 0 ? RESIDENCY.resident : RESIDENCY.streamed,
  tileBytes: m.tileBytes,
  buffers: m.buffers,
  pinBytes: m.pinned,
});

/** The LoadOptions record of a choice. */
export function loadOptions(choice: LoadChoice): Uint8Array {
  const record = new Uint8Array(LoadOptions.bytes);
  LoadOptions.write(record, 0, choice);
  return record;
}

/** Loads the file at `path`: 0, or -errno. */
export function* loadModel(sys: Sys, path: string, choice: LoadChoice): Generator<void, number, void> {
  return yield* sys.model_load(path, loadOptions(choice));
}

/** What loading the file at `path` would take, or -errno. */
export function* planModel(sys: Sys, path: string, choice: LoadChoice): Generator<void, Plan | number, void> {
  const record = new Uint8Array(PlanReport.bytes);
  const result = yield* sys.model_plan(path, loadOptions(choice), record);
  return result < 0 ? result : PlanReport.read(record, 0);
}

/** The kernel's sentence about the call that just failed, led by `path` where it does not name it. Returns 1. */
export function* failAbout(ctx: Caller, path: string, errno: number): Generator<void, number, void> {
  const text = yield* lastError(ctx.sys, errno);
  return yield* ctx.fail(path === '' || text.includes(path) ? text : `${path}: ${text}`);
}

/** A wrong value on the command line: the message; returns 2. */
export function* wrong(ctx: Caller, message: string): Generator<void, number, void> {
  yield* ctx.fail(message);
  return 2;
}

// ── Text for the kernel ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Where a text comes from: a file, standard input (the operand `-`), or the operands joined by one space. */
export interface TextSource {
  readonly file: string | undefined;
  readonly words: readonly string[];
}

/** What is wrong with a text source, or null. */
export function textSourceError(source: TextSource, what: string): string | null {
  if (source.file !== undefined && source.words.length > 0) return `--file and ${what} exclude each other`;
  if (source.file === undefined && source.words.length === 0)
    return `missing ${what} (or --file FILE, or - for standard input)`;
  return null;
}

/** A descriptor at the beginning of the text's exact bytes; or minus the exit status, after a message. */
export function* openText(ctx: Caller, source: TextSource): Generator<void, number, void> {
  const { sys } = ctx;
  if (source.file !== undefined) return yield* openFileText(ctx, source.file);
  if (source.words.length !== 1 || source.words[0] !== '-')
    return yield* openBytes(ctx, utf8Encode(source.words.join(' ')));
  const fd = yield* sys.memfd('prompt');
  return fd < 0 ? -(yield* ctx.fail(strerror(fd))) : yield* copyText(ctx, 0, fd, 'standard input');
}

/** A regular file is read where it lies; what cannot be read twice (a pipe, a device) is copied first. */
function* openFileText(ctx: Caller, path: string): Generator<void, number, void> {
  const { sys } = ctx;
  const file = yield* sys.open(path, O.RDONLY, 0);
  if (file < 0) return -(yield* ctx.fail(path, -file));
  const st = yield* fstat(sys, file);
  if (typeof st !== 'number' && st.kind === KIND.file && st.size > 0) return file;
  const fd = yield* sys.memfd('prompt');
  const copy = fd < 0 ? -(yield* ctx.fail(strerror(fd))) : yield* copyText(ctx, file, fd, path);
  yield* sys.close(file);
  return copy;
}

/** A descriptor of the token ids that a file, or with `-` standard input, names; or minus the exit status, after a message. */
export function* openIds(ctx: Caller, path: string): Generator<void, number, void> {
  const { sys } = ctx;
  const isInput = path === '-';
  const bytes = yield* isInput ? readAll(sys, 0, textBytesMax) : readFile(sys, path, textBytesMax);
  const name = isInput ? 'standard input' : path;
  if (typeof bytes === 'number') return -(yield* ctx.fail(name, -bytes));
  const ids = parseIds(utf8Decode(bytes));
  return typeof ids === 'string' ? -(yield* ctx.fail(`${name}: ${ids}`)) : yield* openBytes(ctx, idBytes(ids));
}

/** A descriptor at the beginning of these bytes; or minus the exit status, after a message. */
export function* openBytes(ctx: Caller, bytes: Uint8Array): Generator<void, number, void> {
  const { sys } = ctx;
  const fd = yield* sys.memfd('prompt');
  if (fd < 0) return -(yield* ctx.fail(strerror(fd)));
  const result = yield* writeAll(sys, fd, bytes);
  return result < 0 ? -(yield* ctx.fail(strerror(result))) : yield* rewind(sys, fd);
}

function* copyText(ctx: Caller, from: number, to: number, name: string): Generator<void, number, void> {
  const failure = yield* copyDescriptor(ctx.sys, from, to);
  return failure === 0 ? yield* rewind(ctx.sys, to) : -(yield* ctx.fail(name, failure.errno));
}

function* rewind(sys: Sys, fd: number): Generator<void, number, void> {
  yield* sys.lseek(fd, 0, SEEK.set);
  return fd;
}

// ── Figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** True when a person reads what is written to `fd`. */
export function* isTerminal(sys: Sys, fd: number): Generator<void, boolean, void> {
  return (yield* sys.ioctl(fd, IOCTL.isatty, 0)) === 1;
}

/** A decimal integer, or null. */
export function parseInteger(text: string): number | null {
  return /^[+-]?[0-9]+$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : null;
}

/** A decimal number, or null: no hexadecimal, no infinity, no blanks. */
export function parseDecimal(text: string): number | null {
  if (!/^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?$/i.test(text)) return null;
  return Number.isFinite(Number(text)) ? Number(text) : null;
}

/** `3000000` cycles, or `2ms` of a processor of `hz`, cut to whole ones. Null when it is neither, or no exact number ≥ 0. */
export function parseCycles(text: string, hz: number): number | null {
  const ms = text.endsWith('ms') ? parseDecimal(text.slice(0, -2)) : null;
  const cycles = ms === null ? parseInteger(text) : Math.floor((ms * hz) / 1000);
  return cycles !== null && cycles >= 0 && Number.isSafeInteger(cycles) ? cycles : null;
}

/** `8,388,608`. */
export const grouped = (n: number): string => String(n).replace(/\B(?=([0-9]{3})+$)/g, ',');

/** Token ids as they travel: little-endian u32. */
export function idsOf(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: bytes.length >> 2 }, (_, i) => view.getUint32(i * 4, true));
}

export function idBytes(ids: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(ids.length * 4);
  const view = new DataView(bytes.buffer);
  ids.forEach((id, i) => view.setUint32(i * 4, id, true));
  return bytes;
}

/** Token ids as people write them, decimal with blanks between; or the sentence about the first word that is none. */
export function parseIds(text: string): number[] | string {
  const ids: number[] = [];
  for (const word of text.split(/[ \t\n\r]+/).filter(w => w !== '')) {
    const id = parseInteger(word);
    if (id === null || id < 0 || id >= 2 ** 32) return `'${word}' is not a token id`;
    ids.push(id);
  }
  return ids;
}

/** The names of a plan's regions, in arena order. */
export const planRegions = ['fixed', ...ENGINE_REGIONS] as const;

/** The keys that `llmctl plan --json` and `llmctl load --json` have in common. */
export function planJson(plan: Plan): Readonly<Record<string, Json>> {
  return {
    ctx: plan.ctx,
    kv_type: kvName(plan.kvType),
    batch: plan.batch,
    sessions: plan.sessions,
    pages: plan.pages,
    page_bytes: plan.pageBytes,
    slot_bytes: plan.slotBytes,
    draws: plan.draws,
    tile_bytes: plan.tileBytes,
    buffers: plan.buffers,
    tiles: plan.tiles,
    streamed_bytes: plan.streamed,
    pinned_bytes: plan.pinned,
    regions: Object.fromEntries(planRegions.map(region => [region, plan[region]])),
    total_bytes: plan.total,
    capacity_bytes: plan.capacity,
    kv_bytes_per_token: plan.kvBytesPerToken,
    parameters: plan.parameters,
  };
}
