// The seams between rooms: what the kernel asks of drivers and of the host, and what it hands to them. Drivers are handed memory,
// offsets and a reader; they never see kernel internals. Everything here is synchronous: one thread, one clock.

import type { Refusal } from './errno.ts';
import type { AdapterUse, Trainable } from './training.ts';

/** The whole arena as typed views. Offsets (`…At`) are bytes from its beginning; element views are indexed by `at >> 2` and so on. */
export interface ArenaView {
  readonly buffer: ArrayBuffer;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly f32: Float32Array;
  readonly f64: Float64Array;
  readonly view: DataView;
}

/**
 * The compute device: the exports of the WebAssembly module that shares the arena. Arguments and results are i32 only (a BigInt or a
 * float would allocate). Addresses are arena offsets.
 */
export interface Compute {
  /** Which build runs: SIMD128, or relaxed SIMD with the same results to the bit. */
  readonly build: 'simd128' | 'relaxed';
  /** hot: runs the plan's op records from `opAt` to the segment's end. Returns StepBlock.status. */
  run(stepAt: number, opAt: number): number;
  /** One record of a plan, no END, as run() runs it. Returns its FAULT and writes no StepBlock.status. */
  run_op(stepAt: number, opAt: number): number;
  /** Expands `n` values (whole blocks) of a ggml type to f32. Returns 0, or -1 when the type is not known to this build. */
  dequantize(type: number, fromAt: number, n: number, toAt: number): number;
  /**
   * Rounds f32[n] (whole blocks) to F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1 or Q8_0, as ggml's reference quantisers do. Returns how many
   * scales and minima, or values of the first three, are not finite; -1 for other types.
   */
  encode(type: number, fromAt: number, n: number, toAt: number): number;
  /**
   * Rewrites `rows` rows of `k` values from ggml's row order at `fromAt` into the kernels' layout at `toAt` (same bytes in all; see ops.ts).
   * A matrix may be repacked in pieces of whole groups of four rows, the last piece taking the rest. Ranges must not overlap, but for F32 they
   * may be the same. Types of prelinked files are in that layout, and are copied.
   * Returns the number of scales (blocked types) or values that are not finite: matrix products assume there are none. -1: no such type.
   */
  repack(type: number, fromAt: number, rows: number, k: number, toAt: number): number;
  /**
   * Cycles that metered kernels have spent since the last call, rounded up: all kernels but the plan's exact ops, whose price the
   * records carry. They count their own instructions, block by block, at the prices of the table at the address given to set_prices:
   * u32 thousandths of a cycle. The result's 32 bits are unsigned; when all are set there may be more, which the next call returns.
   */
  take_spent(): number;
  set_prices(tableAt: number): void;
  /** hot: the K largest of f32[n], descending, ties by lower id, as {u32 id, f32 logit} pairs. K ≤ LIMITS.topLogitsMax; works in the sampler's memory behind the logits. */
  top_k(logitsAt: number, n: number, k: number, outAt: number): void;
}

/** Reads storage into the arena. Returns bytes read (fewer at the end of the file), or -errno. */
export type Dma = (fileAt: number, arenaAt: number, length: number) => number;

// ── Block devices ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A figure of a device: the best there is, what a healthy device shows, the worst that its bound allows. */
export interface Timing {
  readonly least: number;
  readonly typical: number;
  readonly most: number;
}

/** What a kind of storage takes to answer a read: a latency, then bytes one after the other. */
export interface DiskModel {
  readonly name: string; // 'nvme', 'emmc', 'sd', 'qspi', 'ram'
  readonly title: string;
  readonly latencyNs: Timing; // from a command to its first byte
  readonly bytePs: Timing; // picoseconds a byte
  /** Above 1 the latency of a command passes while the one before it transfers. */
  readonly queueDepth: number;
  readonly sectorBytes: number;
  /** Attempts beyond the first that a bound allows for. */
  readonly retries: number;
  readonly source: string;
  readonly why: string;
}

/** What one read takes on a target, in whole cycles. `most` includes every attempt; failed ones are served in place, and overlap with nothing. */
export interface ReadTime {
  readonly latency: number;
  readonly transfer: number;
}

/** A disk as bounds see it: reads are answered one after the other, in order. */
export interface DiskTimes {
  readonly name: string;
  /** A read that begins at `issue` behind one that ends at `before` ends at max(before, issue + latency) + transfer; otherwise at max(before, issue) + latency + transfer. */
  readonly overlaps: boolean;
  read(bytes: number, kind: keyof Timing): ReadTime;
}

/** What one attempt at a read takes, in whole cycles of a target: DiskModel's figures there, sectors already counted. */
export interface DiskRates {
  readonly latency: Timing;
  readonly sectorBytes: number;
  readonly queueDepth: number;
  transfer(bytes: number, kind: keyof Timing): number;
}

/** Kinds of DiskFault. */
export const DISK_FAULTS = ['error', 'short', 'slow', 'worst', 'gone'] as const;
/**
 * A fault put into a disk, to see what becomes of it. It strikes an attempt that touches the bytes `from` … `to` of a file (an attempt anywhere: 0
 * and 2⁵³ − 1), of those every `every`-th, until it has struck `next` times (0: for good).
 * - error: the attempt fails, after the time that it would have taken. short: it brings the first half of its sectors; one sector comes whole.
 * - slow: it takes `factor` times as long; one that takes longer than the worst there is is given up then, and has failed.
 * - worst: the read takes the worst that its bound allows: all attempts the longest there are, and only the last one succeeds.
 * - gone: the disk does not answer.
 */
export interface DiskFault {
  readonly kind: (typeof DISK_FAULTS)[number];
  readonly every: number;
  readonly next: number;
  readonly from: number;
  readonly to: number;
  readonly factor: number;
}

/** What became of a read, which is known when it is submitted. */
export interface ReadAnswer {
  /** When the disk turns to it, and when its last byte is there or it is given up: cycles of the machine's clock. */
  readonly beganAt: number;
  readonly doneAt: number;
  /** 0; -EIO: every attempt failed; -ENODEV: the disk is gone. */
  readonly status: number;
  readonly attempts: number;
  readonly sectors: number; // that came
}

/** The requests of one disk, answered in order; a later read is never done before an earlier one. */
export interface RequestQueue {
  /** `attempts`: how often a read is tried, ≥ 1. Time goes on from call to call. */
  submit(rates: DiskRates, attempts: number, now: number, position: number, bytes: number): ReadAnswer;
  /** When the last read submitted is done. */
  readonly idleAt: number;
  /** It would not answer. */
  readonly isGone: boolean;
  readonly faults: readonly DiskFault[];
  inject(fault: DiskFault): void;
  heal(): void;
}

/** Block devices as the machine has them: the kinds of storage whose times are known, and the queue in front of one. */
export interface BlockDriver {
  readonly models: readonly DiskModel[];
  queue(): RequestQueue;
}

// ── Host directories ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface HostStat {
  readonly kind: number; // KIND.file or KIND.dir
  readonly size: number;
  readonly mode: number;
  /** Where the host keeps owners; elsewhere everything is the superuser's. */
  readonly uid?: number;
  readonly gid?: number;
}

/** A file of the host, open: it stays the one that was opened, whatever comes to lie under its name. Positions to 2⁵³ − 1; numbers < 0 are -errno. */
export interface HostFile {
  /** Up to `length` bytes from `position` on; fewer only at the end of the file as it is now. */
  read(position: number, into: Uint8Array, at: number, length: number): number;
  write(position: number, from: Uint8Array, at: number, length: number): number;
  close(): void;
}

/** A directory of the host given to the machine as a device. Paths are relative, '/'-separated, already free of `.` and `..`. Numbers < 0 are -errno. */
export interface HostDirectory {
  readonly source: string; // what `mount` and `df` print
  readonly readOnly: boolean;
  stat(path: string): HostStat | number;
  list(path: string): readonly { name: string; kind: number }[] | number;
  /** `access`: O.RDONLY, O.WRONLY or O.RDWR. */
  open(path: string, access: number): HostFile | number;
  create(path: string, mode: number, uid?: number, gid?: number): number;
  mkdir(path: string, mode: number, uid?: number, gid?: number): number;
  /** Mode and owner. Where it is missing, they stay as they are. */
  change?(path: string, attributes: { readonly mode: number; readonly uid: number; readonly gid: number }): number;
  remove(path: string): number;
  removeDirectory(path: string): number;
  rename(from: string, to: string): number;
  truncate(path: string, size: number): number;
  /** True when something of one lies in the other too. Where it is missing, nothing does. */
  overlaps?(other: HostDirectory): boolean;
  /** A round of the machine begins: within one, open files may be taken to stay as they are, but for what the machine itself does to them. */
  refresh?(): void;
}

// ── Terminals and other character devices ────────────────────────────────────────────────────────────────────────────────────────

/** A read or a call that cannot finish yet: not an errno. The process yields and asks again. */
export const BLOCKED = -0x40000000;

export interface CharDevice {
  /** Into arena memory; 0 = end of input; BLOCKED; or -errno. */
  read(memory: Uint8Array, at: number, length: number): number;
  write(memory: Uint8Array, at: number, length: number): number;
  ioctl?(command: number, argument: number): number;
  /** Where readers share nothing: the stream that one open gets. */
  open?(): CharDevice;
}

/** ioctl commands. */
export const IOCTL = {
  isatty: 1, // 1 when a person is there
  columns: 2,
  rows: 3,
  raw: 4, // argument 1: every byte typed is delivered at once and unechoed, Ctrl-C and Ctrl-Z excepted; 0: lines again
  waiting: 5, // 1 when input has come, or its end
  execDone: 16, // /dev/exec: the command just read has ended with status `argument`
  traceDropped: 32, // /dev/trace: events before the first one of this open that the ring no longer held
} as const;

/** What readline answers in its first byte; the rest is text. */
export const READLINE = {
  line: 0x4c /* L */,
  complete: 0x54 /* T: the line up to the cursor */,
  end: 0x45 /* E: Ctrl-D */,
  interrupt: 0x43 /* C: Ctrl-C */,
} as const;

/** The console: line discipline and editor. Its host end (node, xterm) feeds bytes in and takes bytes out. */
export interface TtyDevice extends CharDevice {
  readonly interactive: boolean;
  readonly columns: number;
  readonly rows: number;
  /** Edits one line with `prompt`; BLOCKED until there is an answer, then writes READLINE byte + UTF-8 text at `at` and returns its length. */
  readline(prompt: string, memory: Uint8Array, at: number, capacity: number): number;
  /**
   * Answers a completion request. `text` replaces the last `back` UTF-16 units before the cursor: what all candidates begin with, ended
   * when there is one. `names` are the candidates as a list shows them, or the first of `count`.
   */
  complete(text: string, back: number, names: readonly string[], count: number): void;
  /** Appends lines to the history that the editor recalls, of which the last `keep` stay. */
  remember(lines: readonly string[], keep: number): void;
  /** Takes a pending Ctrl-C: true once per press. */
  takeInterrupt(): boolean;
  /** The same for Ctrl-Z. */
  takeSuspend(): boolean;
  /** True once after each change of its size. */
  takeResize(): boolean;
}

// ── Randomness ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A generator whose state lies in the arena (16 bytes at `stateAt`). */
export interface RngDriver {
  seed(arena: ArenaView, stateAt: number, seed: number): void;
  /** hot: advances the state and returns 32 random bits. */
  next(arena: ArenaView, stateAt: number): number;
}

// ── Models and engines ───────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface TensorInfo {
  readonly name: string;
  readonly type: number; // GGML_TYPE
  readonly shape: readonly number[]; // ne[0] first: ne[0] is the contiguous direction
  readonly fileAt: number; // absolute, in the file
  readonly bytes: number;
}

/** An array in the metadata, not read: only where it lies. Strings are stored as u64 length + bytes, one after the other. */
export interface MetaArray {
  readonly elementType: number; // GGUF value type 0…12
  readonly count: number;
  readonly fileAt: number; // of the first element
  readonly bytes: number; // of all elements, length prefixes included
}
export type MetaValue = number | bigint | string | boolean | MetaArray;

/** A parsed and checked GGUF file, as the loader hands it to an engine. */
export interface ModelImage {
  readonly path: string;
  readonly fileBytes: number;
  readonly version: number;
  readonly architecture: string;
  readonly keys: readonly string[];
  meta(key: string): MetaValue | undefined;
  /** GGUF value type 0…12 that a key's value is stored in; undefined when there is no such key. */
  typeOf(key: string): number | undefined;
  readonly tensors: readonly TensorInfo[];
  tensor(name: string): TensorInfo | undefined;
  readonly read: Dma;
  /** Scratch for transfers while parsing and loading. */
  readonly dmaAt: number;
  readonly dmaBytes: number;
}

export interface EngineOptions {
  readonly ctx: number; // ≥ 1
  readonly kvType: number; // GGML_TYPE.F32, F16, Q8_0 or Q4_0
  readonly batch: number; // rows per pass, ≥ 1
  readonly sessions: number; // slots, ≥ 1
  readonly pages: number; // of the KV pool, ≥ ⌈ctx / KV_PAGE⌉
  readonly draws: number; // rows of a pass whose logits are computed together, 1 … batch
  readonly tileBytes: number; // of one buffer that weights stream through; 0: all weights lie in the arena
  readonly buffers: number; // of them, ≥ 2; 0 where nothing streams
  readonly pinBytes: number; // of matrices that would stream, how many bytes stay in the arena, at most
  readonly adapters: readonly AdapterUse[]; // at most LIMITS.adaptersMax
}

/**
 * Where sessions keep what is theirs alone, in the session region: slot i begins at `at` + i · `bytes` with the history u32[ctx]; offsets from
 * there of the block table u32[⌈ctx / KV_PAGE⌉] and of what the engine keeps (the stub's reply).
 */
export interface SessionSlots {
  readonly at: number;
  readonly bytes: number;
  readonly tableAt: number;
  readonly stateAt: number;
}

/** The regions a model takes, in bytes, each a multiple of 32; pure function of image and options. */
export interface EngineBudget {
  readonly weights: number; // those that stay: all of them, or vectors and what is pinned
  readonly adapters: number; // low-rank pairs, as f32
  readonly stream: number; // buffers of those that do not
  readonly tensors: number;
  readonly vocabulary: number;
  readonly kv: number;
  readonly scratch: number;
  readonly plan: number;
  readonly session: number;
}
/** In arena order. */
export const ENGINE_REGIONS = [
  'weights',
  'adapters',
  'stream',
  'tensors',
  'vocabulary',
  'kv',
  'scratch',
  'plan',
  'session',
] as const;
export type EnginePlace = { readonly [R in keyof EngineBudget as `${R}At`]: number };

export interface ModelShape {
  readonly name: string;
  readonly architecture: string;
  readonly tokenizer: string;
  readonly layers: number;
  readonly embedding: number;
  readonly heads: number;
  readonly headsKv: number;
  readonly feedForward: number;
  readonly vocabulary: number;
  readonly contextTrained: number; // 0 = no limit of its own
  readonly parameters: number;
  readonly kvBytesPerToken: (kvType: number) => number;
}

export interface EngineDriver {
  readonly name: string; // 'transformer', 'stub'
  /** An engine that needs no file: its own image, in one of its forms ('' = the first). Such an engine is never asked to run files. */
  builtin?(form: string): ModelImage | Refusal;
  /** Says what the model is, or why this engine does not run it. Reads metadata only. */
  describe(image: ModelImage): ModelShape | Refusal;
  budget(image: ModelImage, options: EngineOptions): EngineBudget | Refusal;
  /** Its tensors by name in the order in which a plan first reads them; those that no plan reads are missing. */
  order(image: ModelImage): readonly string[] | Refusal;
  /** The plan as load() would write it for these places, without loading anything. */
  plan(image: ModelImage, options: EngineOptions, budget: EngineBudget, place: EnginePlace): PlanImage | Refusal;
  /** Fills the regions: weights in the kernels' layout, tensor directory, vocabulary, plan. On refusal the regions are garbage and the kernel releases them. */
  load(image: ModelImage, options: EngineOptions, budget: EngineBudget, place: EnginePlace): Engine | Refusal;
}

/** An operand of an op as its record holds it. */
export interface PlanOperand {
  readonly name: string; // as the engine's ops call it, without its `At`
  readonly word: number; // of the record
  /** `place`: an arena offset; `plane`: bytes from the beginning of a KV page; `type`: a ggml type; `real`: f32 bits. */
  readonly kind: 'place' | 'plane' | 'type' | 'real' | 'integer';
  readonly place: string; // what lies there: a tensor, a buffer; '' unless it is a place
  readonly shape: string; // of that: f32[t][288], t being the rows that the op runs over; '' where it has none
}

/** One op of a plan as text. */
export interface PlanRow {
  readonly segment: string;
  readonly op: string;
  readonly layer: number; // -1 outside of layers
  readonly name: string; // the weights' tensor, or the buffer that is written
  readonly detail: string;
  readonly operands: readonly PlanOperand[];
}

/**
 * A record of a plan as the kernel knows it: `bytes` long, its first word the op (0 ends a segment), of word `flags` bit flagHead set when
 * the op runs for the picks of a pass, flagRows when it runs for one row of the pass after the other. Two words point to prices, u64 cycles, that the
 * kernel fills after a load: an op over n tokens costs tokens[n], and for each of them positions[p] more, p being its position (address 0:
 * nothing more; only an op that runs row by row has them). There are batch + 1 and ctx of them. Ops of equal shape share their prices.
 */
export const PLAN_RECORD = { bytes: 64, flags: 1, flagHead: 1, flagRows: 4, tokens: 13, positions: 14 } as const;

/**
 * A plan whose weights stream: each segment falls apart into pieces, one after the other, each ending with an END of its own. A piece may wait
 * for one read, a tile: rows of one matrix, or of several that follow each other in the file. The read of a tile may begin as soon as the last
 * piece that used its buffer has run; a segment's tiles go round the buffers in order. Rows that tokens or positions name are read one
 * by one before the body's first piece.
 */
export interface StreamProgram {
  readonly bodyPiecesAt: number; // PieceRecords, in the plan region
  readonly bodyPieces: number;
  readonly headPiecesAt: number;
  readonly headPieces: number;
  readonly gathers: readonly Gather[];
  /** Bytes that a body, and a head, reads; without what is gathered. */
  readonly bodyBytes: number;
  readonly headBytes: number;
  /** Bytes of matrices that would stream and are pinned. */
  readonly pinnedBytes: number;
}

/** Rows read singly: for row r of the pass, named by its token or its position, unit ⌊name / unitRows⌋ goes to toAt + r · unitBytes. */
export interface Gather {
  readonly by: 'token' | 'position';
  readonly tensor: string;
  readonly fileAt: number;
  readonly unitBytes: number;
  readonly unitRows: number;
  readonly rows: number; // of the whole matrix, whose last unit may have fewer than others
  readonly toAt: number;
}

/** hot: bytes that the file has of a unit. */
export function bytesOfUnit({ unitBytes, unitRows, rows }: Gather, unit: number): number {
  return (unitBytes / unitRows) * Math.min(unitRows, rows - unit * unitRows);
}

/** A compiled plan: the plan region's words, and its segments as in Engine. `rows` follow the records, END included. */
export interface PlanImage {
  /** null: all weights lie in the arena, and each segment is one run from its first op to END. */
  readonly stream: StreamProgram | null;
  readonly words: Int32Array;
  readonly bodyAt: number;
  readonly headAt: number;
  readonly sampleAt: number;
  readonly scoreAt: number;
  readonly logitsAt: number;
  readonly rows: readonly PlanRow[];
}

/** A tensor of a loaded model: what the arena keeps of it, and where the file has it. */
export interface TensorPlace {
  readonly name: string;
  readonly shape: readonly number[]; // ne[0] first
  readonly type: number; // GGML_TYPE as kept in the arena
  readonly at: number; // in the arena, in the kernels' layout; 0: it streams
  readonly bytes: number; // there
  readonly fileType: number; // GGML_TYPE as stored
  readonly fileAt: number;
  readonly fileBytes: number;
}

/** What a look into a step must know of a plan that has layers: how to take its body apart while it runs. */
export interface Inside {
  /** f32[embedding], of the pass's first row: the residual stream, whole before the first layer's ops and behind the last one's of each; the head reads it. */
  readonly residualAt: number;
  /** The op in which the positions of a layer are weighed. */
  weighingAt(layer: number): number;
  /**
   * Changes that op's record, and the queries that it is about to read, so that running it leaves the weights of this head behind, f32[position + 1]
   * for the pass's one row, bit by bit those of the unchanged op; what else it computes is garbage. Returns where they will lie, and the power
   * of two that they are multiplied by.
   */
  focus(layer: number, head: number): { readonly weightsAt: number; readonly times: number };
}

/** A loaded model. */
export interface Engine {
  readonly name: string;
  readonly shape: ModelShape;
  readonly options: EngineOptions;
  readonly vocabulary: Vocabulary;
  /** Segments of the plan (arena offsets of their first op), or 0 when the engine has none. */
  readonly bodyAt: number; // tokens → hidden state, KV written
  readonly headAt: number; // hidden states of the picks, at most options.draws → a row of logits each
  /**
   * logits → StepBlock.next. The row then holds, as f32, logits behind the penalty where the draw is greedy; else, where top-k is off, each token's
   * mass, e^((logit − largest) / temperature), 0 for those that cannot be drawn. A logit of −∞ is no token's.
   */
  readonly sampleAt: number;
  readonly scoreAt: number; // logits, StepBlock.target → StepBlock.loss
  readonly logitsAt: number; // f32[vocabulary], the first row; behind each row the sampler's memory
  readonly logitsStride: number; // bytes from row to row
  readonly stream: StreamProgram | null;
  /** The KV pool: options.pages × pageBytes, and behind them, at pageRecordsAt, options.pages × PAGE_RECORD_BYTES for the kernel. */
  readonly kvAt: number;
  readonly pageBytes: number;
  readonly pageRecordsAt: number;
  readonly slots: SessionSlots;
  /**
   * A session begins in the slot at `slotAt`, its prompt being in the history: the stub prepares its reply in the slot's state;
   * others have nothing to do.
   */
  begin(slotAt: number, promptTokens: number, maxTokens: number): void;
  /** The plan as rows of text for `llmctl plan --ops` and the teaching views: where nothing streams, a row for each record, segment by segment. */
  ops(): readonly PlanRow[];
  /** Its tensors in the order of the weights region. */
  tensors(): readonly TensorPlace[];
  /** null: it has no layers, or its weights stream. */
  readonly inside: Inside | null;
  /** Why the model cannot be trained, or how. */
  readonly training: Trainable | Refusal;
  /** Bytes from a session's block table to its scales, f32 for each of options.adapters. */
  readonly scalesAt: number;
}

export const ENCODE = { bos: 1, special: 2 } as const;

/**
 * A vocabulary in the arena with its tokenizer. Encoding streams: text comes in pieces, ids go out; a piece is cut only where no token
 * can cross. All work is done by kernels in the arena.
 */
export interface Vocabulary {
  readonly model: string; // 'llama', 'gpt2', 'stub'
  readonly count: number;
  readonly bytes: number;
  readonly bos: number; // -1 = none
  readonly eos: number;
  readonly addBos: boolean;
  readonly addEos: boolean;
  /** True when encoding puts a space before the text: whoever decodes a whole text drops the first byte. */
  readonly spacePrefix?: boolean;
  /** Any token that ends generation: EOS, and EOT/EOM where the file names them. */
  isEnd(id: number): boolean;
  /** Starts a text. flags: ENCODE. `workAt`/`workBytes`: memory for the text being cut and its symbols. */
  begin(flags: number, workAt: number, workBytes: number): void;
  /** Where and how many bytes the next piece of text may be put; 0 bytes when `encode` must run first. */
  inputAt(): number;
  inputBytes(): number;
  /** `length` bytes were put at inputAt(); `final` = no more follow. */
  input(length: number, final: boolean): void;
  /** hot: writes up to `capacity` u32 ids at `outAt`; returns how many; 0 = needs more input, or the end. -1 = refused: see refusal(). */
  encode(outAt: number, capacity: number): number;
  refusal(): Refusal | null;
  /** Writes the bytes that `id` stands for; returns their number (0 for control tokens unless `special`); -1 when `id` is out of range; -2 when `capacity` is too small. */
  piece(id: number, outAt: number, capacity: number, special: boolean): number;
}

/** Builds a vocabulary from a file's own metadata: used by engines, and by `llmctl tokenize --vocab` on vocabulary-only files. */
export interface TokenizerDriver {
  /** Bytes the vocabulary takes (multiple of 32) and the least working memory an encode needs. */
  budget(image: ModelImage): { readonly bytes: number; readonly workBytes: number } | Refusal;
  load(image: ModelImage, at: number, bytes: number): Vocabulary | Refusal;
}

// ── Chat templates ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What is wrong with a template, or with what it did, and the line of the template it happened in. */
export interface TemplateFault {
  readonly line: number;
  readonly message: string;
}

/** A SHA-256 under way: bytes go in piece by piece. */
export interface Hasher {
  update(bytes: Uint8Array): unknown;
  /** Once, at the end. */
  digest(): Uint8Array;
}

/**
 * The key of the audit log, which the host keeps: the kernel asks for signatures and for secrets derived from it, and never sees it. It comes
 * with power-on, never from an image. The same key, label and message give the same bytes on every host (Ed25519 is deterministic).
 */
export interface LogKey {
  /** Of the key, and origin of the log: a name without blanks and plus signs, as C2SP signed-note asks. */
  readonly name: string;
  /** Ed25519, 32 bytes. */
  readonly publicKey: Uint8Array;
  /** True for the key that everybody has, which is used where none is given: it proves order, and nobody's word. */
  readonly isDemonstration: boolean;
  /** Ed25519 signature, 64 bytes. */
  sign(message: Uint8Array): Uint8Array;
  /** HMAC-SHA256 of `message` under a secret that belongs to `label` alone, 32 bytes. */
  mac(label: string, message: Uint8Array): Uint8Array;
}

/**
 * A service of the host that fills in a model's chat template (Jinja). The template is data from a file: it is interpreted within LIMITS.chat…,
 * and cannot reach anything but its variables. The same arguments give the same answer on every host; nothing is thrown.
 */
export interface TemplateDevice {
  /** `seconds`: the machine's clock since 1970, for templates that write a date. */
  render(template: string, variables: Readonly<Record<string, unknown>>, seconds: number): string | TemplateFault;
}
