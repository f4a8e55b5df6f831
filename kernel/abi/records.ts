// Records that cross the system-call window or live in the arena: name, type and order of every field, once. A layout is little-endian
// and packed in the order written, each field aligned to its own size; docs/ABI.md is printed from these tables.

import { utf8Decode, utf8Write } from './utf8.ts';

type Scalar = 'i32' | 'u32' | 'f32' | 'f64' | 'u64';
/** `s64` is a fixed field of 64 bytes holding UTF-8, zero-padded, cut at a character's end. */
export type FieldType = Scalar | `s${number}`;
type ValueOf<T extends FieldType> = T extends Scalar ? number : string;
export type RecordValue<T extends Record<string, FieldType>> = { -readonly [K in keyof T]: ValueOf<T[K]> };

const scalarBytes: Record<Scalar, number> = { i32: 4, u32: 4, f32: 4, f64: 8, u64: 8 };

export interface Layout<T extends Record<string, FieldType>> {
  readonly fields: T;
  readonly bytes: number;
  /** Byte offset of each field inside the record. */
  readonly at: { readonly [K in keyof T]: number };
  read(memory: Uint8Array, at: number): RecordValue<T>;
  /** Fields not given are written as zero. */
  write(memory: Uint8Array, at: number, value: Partial<RecordValue<T>>): void;
}

export function layout<const T extends Record<string, FieldType>>(fields: T): Layout<T> {
  const at: Record<string, number> = {};
  let bytes = 0;
  let widest = 4;
  for (const [name, type] of Object.entries(fields)) {
    const size = type in scalarBytes ? scalarBytes[type as Scalar] : Number(type.slice(1));
    const align = type in scalarBytes ? size : 4;
    widest = Math.max(widest, align);
    bytes = (bytes + align - 1) & -align;
    at[name] = bytes;
    bytes += size;
  }
  bytes = (bytes + widest - 1) & -widest;
  return {
    fields,
    bytes,
    at: at as Layout<T>['at'],
    read(memory, base) {
      const v = new DataView(memory.buffer, memory.byteOffset + base, bytes);
      const out: Record<string, number | string> = {};
      for (const [name, type] of Object.entries(fields)) {
        const p = at[name]!;
        if (type === 'i32') out[name] = v.getInt32(p, true);
        else if (type === 'u32') out[name] = v.getUint32(p, true);
        else if (type === 'f32') out[name] = v.getFloat32(p, true);
        else if (type === 'f64') out[name] = v.getFloat64(p, true);
        else if (type === 'u64') out[name] = v.getUint32(p, true) + v.getUint32(p + 4, true) * 2 ** 32;
        else {
          const size = Number(type.slice(1));
          let end = 0;
          while (end < size && memory[base + p + end] !== 0) end++;
          out[name] = utf8Decode(memory, base + p, base + p + end);
        }
      }
      return out as RecordValue<T>;
    },
    write(memory, base, value) {
      const v = new DataView(memory.buffer, memory.byteOffset + base, bytes);
      const given = value as Record<string, number | string | undefined>;
      for (const [name, type] of Object.entries(fields)) {
        const p = at[name]!;
        const x = given[name];
        if (type === 'i32') v.setInt32(p, Number(x ?? 0), true);
        else if (type === 'u32') v.setUint32(p, Number(x ?? 0), true);
        else if (type === 'f32') v.setFloat32(p, Number(x ?? 0), true);
        else if (type === 'f64') v.setFloat64(p, Number(x ?? 0), true);
        else if (type === 'u64') {
          const n = Number(x ?? 0);
          v.setUint32(p, n % 2 ** 32, true);
          v.setUint32(p + 4, Math.floor(n / 2 ** 32), true);
        } else writeFixed(memory, base + p, Number(type.slice(1)), String(x ?? ''));
      }
    },
  };
}

function writeFixed(memory: Uint8Array, at: number, size: number, text: string): void {
  memory.fill(0, at, at + size);
  let s = text;
  while (utf8Write(s, memory, at, size) < 0) {
    // Cut to whole characters: at most `size` UTF-16 units can fit, then one character less until it does.
    const shorter = s.length > size ? size : s.length - 1;
    const c = s.charCodeAt(shorter - 1);
    s = s.slice(0, (c & 0xfc00) === 0xd800 ? shorter - 1 : shorter);
    memory.fill(0, at, at + size);
  }
}

/** What an inode is; the high digits are Linux's S_IFMT >> 12, so `kind << 12 | mode` is st_mode. */
export const KIND = { fifo: 1, char: 2, dir: 4, block: 6, file: 8, link: 10 } as const;
export type Kind = (typeof KIND)[keyof typeof KIND];

export const Stat = layout({
  kind: 'u32',
  mode: 'u32', // permission bits, e.g. 0o644, 0o4755, 0o1777
  size: 'u64',
  inode: 'u64',
  device: 'u32',
  links: 'u32',
  uid: 'u32',
  gid: 'u32',
  modifiedNs: 'u64', // virtual time, as the next two: data or entries changed
  accessedNs: 'u64', // read; noted once after each change
  changedNs: 'u64', // the inode itself changed
  blocks: 'u64', // storage taken, in units of 512 bytes
  deviceNumber: 'u32', // devices: major << 8 | minor
});

/** utimens: each time is set, made now or left (UTIME). */
export const Utimes = layout({ accessedNs: 'u64', modifiedNs: 'u64', accessed: 'u32', modified: 'u32' });

/** statfs: sizes of the file system a path is on. */
export const FsStat = layout({
  type: 's16',
  source: 's128',
  target: 's128',
  totalBytes: 'u64',
  usedBytes: 'u64',
  files: 'u64',
  readOnly: 'u32',
});

/** Storage types of a KV cache and of tensors: ggml's numbers. */
export const GGML_TYPE = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q4_1: 3,
  Q5_0: 6,
  Q5_1: 7,
  Q8_0: 8,
  Q8_1: 9,
  Q2_K: 10,
  Q3_K: 11,
  Q4_K: 12,
  Q5_K: 13,
  Q6_K: 14,
  Q8_K: 15,
  IQ2_XXS: 16,
  IQ2_XS: 17,
  IQ3_XXS: 18,
  IQ1_S: 19,
  IQ4_NL: 20,
  IQ3_S: 21,
  IQ2_S: 22,
  IQ4_XS: 23,
  I8: 24,
  I16: 25,
  I32: 26,
  I64: 27,
  F64: 28,
  IQ1_M: 29,
  BF16: 30,
  TQ1_0: 34,
  TQ2_0: 35,
  // Prelinked: rows in groups of four as the kernels read them (ops.ts); numbers that no other reader takes for its own
  Q4_0_R4: 1002,
  Q4_1_R4: 1003,
  Q8_0_R4: 1008,
} as const;
export type GgmlTypeName = keyof typeof GGML_TYPE;
/** The prelinked type of each type that has one; all other types are prelinked as they are. */
export const GROUPED_TYPE: ReadonlyMap<number, number> = new Map([
  [GGML_TYPE.Q4_0, GGML_TYPE.Q4_0_R4],
  [GGML_TYPE.Q4_1, GGML_TYPE.Q4_1_R4],
  [GGML_TYPE.Q8_0, GGML_TYPE.Q8_0_R4],
]);
const PLAIN_TYPE: ReadonlyMap<number, number> = new Map([...GROUPED_TYPE].map(([plain, grouped]) => [grouped, plain]));
/** The type of a tensor's blocks once its rows are taken apart: its own, where they are not in groups. */
export const plainType = (type: number): number => PLAIN_TYPE.get(type) ?? type;
export const isGrouped = (type: number): boolean => PLAIN_TYPE.has(type);

/** What keys and values are kept as, in falling precision; types with blocks take heads of whole blocks only. */
export const KV_TYPES = ['F32', 'F16', 'Q8_0', 'Q4_0'] as const satisfies readonly GgmlTypeName[];
/** For a sentence: `f32, f16, q8_0 or q4_0`. */
export const KV_TYPES_TEXT = KV_TYPES.map(name => name.toLowerCase())
  .join(', ')
  .replace(/, (\w+)$/, ' or $1');

/** Values per block and bytes per block of every tensor type whose size is known. */
export const GGML_BLOCK: Record<GgmlTypeName, readonly [values: number, bytes: number]> = {
  F32: [1, 4],
  F16: [1, 2],
  BF16: [1, 2],
  F64: [1, 8],
  I8: [1, 1],
  I16: [1, 2],
  I32: [1, 4],
  I64: [1, 8],
  Q4_0: [32, 18],
  Q4_1: [32, 20],
  Q5_0: [32, 22],
  Q5_1: [32, 24],
  Q8_0: [32, 34],
  Q8_1: [32, 36],
  Q2_K: [256, 84],
  Q3_K: [256, 110],
  Q4_K: [256, 144],
  Q5_K: [256, 176],
  Q6_K: [256, 210],
  Q8_K: [256, 292],
  IQ2_XXS: [256, 66],
  IQ2_XS: [256, 74],
  IQ2_S: [256, 82],
  IQ3_XXS: [256, 98],
  IQ3_S: [256, 110],
  IQ1_S: [256, 50],
  IQ1_M: [256, 56],
  IQ4_NL: [32, 18],
  IQ4_XS: [256, 136],
  TQ1_0: [256, 54],
  TQ2_0: [256, 66],
  Q4_0_R4: [32, 18],
  Q4_1_R4: [32, 20],
  Q8_0_R4: [32, 34],
};

const typeNames = new Map<number, GgmlTypeName>();
for (const name of Object.keys(GGML_TYPE) as GgmlTypeName[]) typeNames.set(GGML_TYPE[name], name);

/** The name of a ggml type number, or undefined when no such type is known. */
export function ggmlTypeName(type: number): GgmlTypeName | undefined {
  return typeNames.get(type);
}

export const LoadOptions = layout({
  ctx: 'u32', // context length in positions; 0 = min(model's, 512, what fits)
  kvType: 'u32', // GGML_TYPE.F16 (default), F32, Q8_0 or Q4_0
  batch: 'u32', // rows per pass over the weights; 0 = 8, or fewer when memory is short
  sessions: 'u32', // slots for sessions that have a history and a block table; 0 = 32, or what fits
  pages: 'u32', // of the KV pool, KV_PAGE positions each; 0 = one whole context at least, and three quarters of what would be free
  draws: 'u32', // rows whose logits are computed together; 0 = as many as fit well
  stream: 'u32', // RESIDENCY
  tileBytes: 'u32', // of a buffer of streamed weights; 0 = 256 KiB, or less when memory is short
  buffers: 'u32', // 0 = 2
  pinBytes: 'u32', // of streamed matrices, kept in the arena; PIN_AUTO = as many as fit
});
/** auto: weights stream when they do not fit. */
export const RESIDENCY = { auto: 0, resident: 1, streamed: 2 } as const;
export const PIN_AUTO = 0xffffffff;
/** Everything as the defaults and the memory allow. */
export const LOAD_DEFAULTS: RecordValue<typeof LoadOptions.fields> = {
  ctx: 0,
  kvType: GGML_TYPE.F16,
  batch: 0,
  sessions: 0,
  pages: 0,
  draws: 0,
  stream: RESIDENCY.auto,
  tileBytes: 0,
  buffers: 0,
  pinBytes: PIN_AUTO,
};
/** One piece of a segment whose weights stream: its first op, and the read that it waits for (0 bytes: none). */
export const PieceRecord = layout({
  opAt: 'u32',
  bufferAt: 'u32',
  bytes: 'u32',
  tensor: 'u32', // index, in the directory, of the matrix the tile begins in
  fileAt: 'u64',
});
/** Positions of a page of keys and values: a block of the weighted sums, so that no block spans two pages. */
export const KV_PAGE = 32;
/** What the kernel notes of each page, behind the pages in the kv region: whose it is, who names it, the tokens it holds. */
export const PAGE_RECORD_BYTES = 160; // 32 B + KV_PAGE × u32

/** What a model takes, region by region, in bytes. `total` = fixed + every region; loading takes exactly that. */
export const PlanReport = layout({
  fits: 'u32',
  ctx: 'u32',
  kvType: 'u32',
  batch: 'u32', // rows per pass
  sessions: 'u32', // slots
  pages: 'u32', // of the KV pool: kv = pages × pageBytes
  pageBytes: 'u32', // KV_PAGE × kvBytesPerToken
  slotBytes: 'u32', // session = sessions × slotBytes
  draws: 'u32', // rows whose logits are computed together
  tileBytes: 'u32', // of a buffer of streamed weights; 0: nothing streams
  buffers: 'u32',
  tiles: 'u32', // reads in a pass that draws
  streamed: 'u64', // bytes of them
  pinned: 'u64', // of matrices that would stream, bytes that stay in the arena
  fixed: 'u64', // the machine itself: null page, constants, kernel tables, buffers
  weights: 'u64', // those that stay in the arena
  adapters: 'u64', // low-rank pairs
  stream: 'u64', // buffers of those that do not
  tensors: 'u64', // tensor directory
  vocabulary: 'u64',
  kv: 'u64',
  scratch: 'u64', // activations, logits; the tokenizer's working memory overlays it
  plan: 'u64',
  session: 'u64', // slots: each a token history, a block table and what the engine keeps
  total: 'u64',
  capacity: 'u64',
  kvBytesPerToken: 'u64',
  parameters: 'u64',
  ctxThatFits: 'u32', // the largest context that would have fitted; 0 when none does
  reserved: 'u32',
  name: 's64', // of the model
  architecture: 's32',
  typeThatFits: 's16', // the widest uniform weight type that would fit at `ctx`, or empty
  message: 's256', // the refusal, when it does not fit
});

export const ModelInfo = layout({
  loaded: 'u32',
  layers: 'u32',
  embedding: 'u32',
  heads: 'u32',
  headsKv: 'u32',
  feedForward: 'u32',
  vocabulary: 'u32',
  contextTrained: 'u32',
  ctx: 'u32',
  kvType: 'u32',
  batch: 'u32', // rows per pass
  sessions: 'u32', // slots
  pages: 'u32', // of the KV pool
  draws: 'u32',
  tileBytes: 'u32', // 0: nothing streams
  buffers: 'u32',
  tiles: 'u32', // reads in a pass that draws
  streamed: 'u64', // bytes of them
  pinned: 'u64', // of matrices that would stream, bytes that stay in the arena
  bos: 'i32', // -1 when the model has none
  eos: 'i32',
  addBos: 'u32',
  spacePrefix: 'u32', // 1: the tokenizer puts a space before a text; decoding a whole text drops it
  tensors: 'u32',
  parameters: 'u64',
  fileBytes: 'u64',
  name: 's64',
  architecture: 's32',
  tokenizer: 's32',
  types: 's64', // tensor types present, e.g. `Q8_0 F32`
  path: 's256',
  digest: 's64', // SHA-256 of the file, hex
  source: 's64', // of a prelinked file, SHA-256 of the one that it was made from; empty: it is none
  engine: 's16',
});

export const RNG = { xor128: 0, lcg: 1 } as const;

export const SessionOptions = layout({
  maxTokens: 'u32', // 0 = the default (64), or what the context leaves
  topK: 'u32', // 0 = off
  temp: 'f32', // 0 = argmax
  topP: 'f32', // 1 = off
  minP: 'f32', // 0 = off
  repeatPenalty: 'f32', // 1 = off
  seed: 'i32',
  rng: 'u32', // RNG
  logitsK: 'u32', // 0 = no logits in the events
  kind: 'u32', // SESSION_KIND
  stopCount: 'u32',
  flags: 'u32', // SESSION_FLAG
  parent: 'u32', // id of an ended session of the same user that this prompt continues; 0 = none
  priority: 'u32', // for the fixed-priority policy: 0 (most urgent) … PRIORITY_MAX; PRIORITY_DEFAULT
  server: 'u32', // SERVER: none (best effort), hard or soft
  timeoutMs: 'u32', // 0 = LIMITS.sessionTimeoutMs, or the request's own bound or what a server promises if that is longer
  periodNs: 'u64', // of the server; 0 with a server = deadlineNs
  budgetCycles: 'u64', // each period; 0 = one dearest step of the request, or the whole request where there is a deadline
  deadlineNs: 'u64', // after submission, of the whole request; 0 = none
  adapters: 'u32', // ADAPTERS
  scale0: 'f32', // of the applied adapters, in the order of /proc/adapters, with ADAPTERS.given; LIMITS.adaptersMax of them
  scale1: 'f32',
  scale2: 'f32',
  scale3: 'f32',
  reserved: 'u32',
  stopBytes: 's520', // stop strings, 8 × (1 + 64) B: each a length byte, then its bytes; written and read raw, not as text
});
/**
 * special: special tokens in the prompt's text are parsed as such. detached: the session outlives the process that submitted it, until it is
 * closed or its memory is wanted. paced: tokens come no faster than the pace allows. stream: the period budget cuts it short, token by token,
 * instead of refusing it. ids: the prompt is token ids, u32 little-endian, taken as they are: no first token is put before them.
 */
export const SESSION_FLAG = { special: 1, detached: 2, paced: 4, stream: 8, ids: 16 } as const;
/** How a session is served: as the others leave time; or Q cycles every period, after which it waits (hard) or postpones its deadline (soft). */
export const SERVER = { none: 0, hard: 1, soft: 2 } as const;
export const PRIORITY_DEFAULT = 16;
export const PRIORITY_MAX = 31;
export const SESSION_KIND = { generate: 0, score: 1 } as const;

/** A refused request has no session, so that none is ever REJECTED: the word is the specification's. */
// prettier-ignore
export const SESSION_STATE = ['FREE', 'QUEUED', 'PREFILL', 'DECODE', 'DONE', 'FAULTED', 'CANCELLED', 'TIMEOUT', 'REJECTED'] as const;
export const FINISH = ['', 'eos', 'length', 'stop', 'context', 'cancel', 'timeout', 'quota', 'fault'] as const;
export type FinishReason = (typeof FINISH)[number];

/** One thing that happened in a session, read by session_read: this header, then `pieceBytes` of text, then `topCount` × {u32 id, f32 logit}. */
export const SessionEvent = layout({
  kind: 'u32', // EVENT
  token: 'u32', // the token drawn; for progress, tokens done
  pieceBytes: 'u32',
  topCount: 'u32',
  nll: 'f64', // score sessions: the sum so far
});
export const EVENT = { token: 1, progress: 2, end: 3 } as const;

export const SessionReport = layout({
  id: 'u32',
  state: 'u32', // index into SESSION_STATE
  finish: 'u32', // index into FINISH
  promptTokens: 'u32',
  outputTokens: 'u32',
  seed: 'i32',
  scored: 'u32', // score sessions: tokens scored
  uid: 'u32', // whose it is
  parent: 'u32', // the session it continues, or 0
  priority: 'u32',
  server: 'u32', // SERVER
  pages: 'u32', // of the KV pool that its block table names, shared ones too
  sharedTokens: 'u32', // of the prompt, whose keys and values were there already
  swappedPages: 'u32', // of its pages, on the swap device now
  swapIns: 'u32', // pages brought back so far
  misses: 'u32', // of its server's deadlines
  preemptions: 'u32', // times another session's pass came between two of its steps
  consumed: 'u32', // output tokens that its reader has taken: the others can be read without waiting
  logits0: 'u32', // logitsSum()
  logits1: 'u32',
  logits2: 'u32',
  logits3: 'u32',
  nll: 'f64', // score sessions: mean natural-log loss per scored token
  arenaPeak: 'u64', // the machine's peak since submission
  kvBytes: 'u64',
  cycles: 'u64', // what the session was charged
  wcetCycles: 'u64', // before it ran: it cannot be charged more
  bcetCycles: 'u64', // nor can the same request on this target take less
  periodNs: 'u64', // of its server
  budgetCycles: 'u64',
  deadlineNs: 'u64', // of the whole request, on the clock; 0 = none
  responseNs: 'u64', // of a server: the request ends no later than this after it has begun, whatever others do; 0 = nothing is promised
  slackNs: 'u64', // the least time that was left at the end of a server's job; NO_SLACK = no job ended yet
  submittedNs: 'u64',
  beganNs: 'u64', // it left the queue
  firstTokenNs: 'u64',
  endedNs: 'u64',
  model: 's64',
  fault: 's256', // what could not be read in its turn, of a session that ended for it
});

/** A checksum over logits, lane by lane. */
export type LogitsLanes = Pick<RecordValue<typeof SessionReport.fields>, 'logits0' | 'logits1' | 'logits2' | 'logits3'>;
/** Before the first row: XXH32's lanes with seed 0. */
export const LOGITS_BEGIN: LogitsLanes = { logits0: 0x24234428, logits1: 0x85ebca77, logits2: 0, logits3: 0x61c8864f };

/**
 * Checksum of every row of logits that a session drew a token from or took a loss of, in that order and as the model gave them, before penalty
 * and temperature: the lanes of XXH32's main loop over the rows' bytes, each row filled up with zeros to 16 bytes, not folded; little-endian.
 */
export function logitsSum({ logits0, logits1, logits2, logits3 }: LogitsLanes): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  [logits0, logits1, logits2, logits3].forEach((lane, i) => view.setUint32(4 * i, lane, true));
  return bytes;
}

/** No job of the session's server has ended yet. */
export const NO_SLACK = 2 ** 53 - 1;

export const LlmStats = layout({
  sessionsTotal: 'u32',
  sessionsActive: 'u32',
  queueDepth: 'u32',
  queueDepthMax: 'u32',
  promptTokens: 'u64',
  outputTokens: 'u64',
  cancelled: 'u32',
  faulted: 'u32',
  deadlineMisses: 'u32',
  rejects: 'u32',
  lastLatencyNs: 'u64',
  lastFirstTokenNs: 'u64',
  cyclesTotal: 'u64', // charged to sessions, each as if alone
  passes: 'u64', // of the plan's body over the weights
  rows: 'u64', // tokens in them
  savedCycles: 'u64', // what batching and shared prefixes saved: charged to sessions less spent by the machine; 0 where it cost more
  busyNs: 'u64', // time spent in passes
  // Of the last SAMPLES samples each: the sample at index ⌊(n − 1) · q⌋ in ascending order
  ttftP50Ns: 'u64',
  ttftP99Ns: 'u64',
  stepP50Ns: 'u64',
  stepP99Ns: 'u64',
  slackP50Ns: 'u64',
  slackP1Ns: 'u64', // the low end is what matters
  jitterP99Ns: 'u64', // |actual − bound| of steps
  // The KV pool, in pages
  pagesTotal: 'u32',
  pagesFree: 'u32', // never used or given back
  pagesCached: 'u32', // of ended sessions, kept for prompts that begin alike
  pagesShared: 'u32', // named by more than one block table
  pagesSwapped: 'u32', // on the swap device
  copies: 'u32', // pages copied on write
  evictions: 'u32', // cached pages given to somebody else
  swapOuts: 'u32', // pages
  swapIns: 'u32',
  prefixTokens: 'u32', // prompt tokens that were not computed again
});
/** Samples that percentiles are taken of. */
export const SAMPLES = 64;

// ── The scheduler, budgets and quotas ────────────────────────────────────────────────────────────────────────────────────────────

/** edf: earliest deadline first among servers, then best effort in turn; fp: fixed priorities; rr: everyone in turn, servers are not enforced. */
export const POLICY = ['edf', 'fp', 'rr'] as const;
export type Policy = (typeof POLICY)[number];

/** What `sched` sets; a field that is SCHED_KEEP stays as it is. */
export const SCHED_KEEP = 0xffffffff;
/** What `disk` changes: bits of `set`. A fault is one of DISK_FAULTS, see DiskFault; healing comes before it. */
export const DISK_SET = { model: 1, retries: 2, heal: 4, fault: 8 } as const;
export const DiskOptions = layout({
  set: 'u32',
  retries: 'u32', // attempts beyond the first
  fault: 'u32', // index into DISK_FAULTS
  every: 'u32', // of the attempts that it could strike, 1: each
  next: 'u32', // how many it strikes; 0: for good
  factor: 'u32', // slow: times as long
  from: 'u64', // bytes of a file that it strikes at, first and last
  to: 'u64',
  model: 's32', // its times; with the retries that come with them
});
export const SchedOptions = layout({
  policy: 'u32', // index into POLICY; another one only while no server is admitted
  boundPpm: 'u32', // what servers may use together, 1 … 1,000,000 (default 850,000)
  segmentCycles: 'u32', // the longest pass that may run unbroken; 0 = as long as a whole batch of a prompt, or of a text that is scored. At least one dearest step.
  paceScale: 'u32', // percent, 50 … 500
  paceAuto: 'u32', // 1 on, 0 off
  batch: 'u32', // sessions in one pass at most; 1 = no batching; 0 = as many rows as the plan has
});
export const SchedReport = layout({
  policy: 'u32',
  boundPpm: 'u32',
  usedPpm: 'u32', // of admitted servers
  accepted: 'u32', // servers since boot
  rejected: 'u32',
  misses: 'u32', // of servers' deadlines
  servers: 'u32', // admitted now
  batch: 'u32',
  paceScale: 'u32',
  paceAuto: 'u32',
  segmentMax: 'u64', // cycles: the longest segment that is not preempted, a bound
  stepMax: 'u64', // of it, one dearest step alone: segmentCycles cannot be less
  callMax: 'u64', // the longest system call while servers are admitted, a bound
  segmentSeen: 'u64', // the longest so far, under this model, target and limit
  jitterP99Ns: 'u64',
  passes: 'u64',
  preemptions: 'u64',
});

/** The period budget of the whole machine (SIS §10). periodNs 0 or maxTokens 0: off. */
export const BudgetRecord = layout({
  wcetCycles: 'u64', // a request that takes longer is a miss; 0 = its own proven bound
  periodNs: 'u64',
  maxTokens: 'u64', // in a period
  windowStartNs: 'u64', // out: of the period now; none has begun where it is now
  issued: 'u64', // out: tokens in it, those reserved by requests that have not ended included
  rejects: 'u32', // out: requests refused and streams cut since boot
  set: 'u32', // in: 1 = set the first three
});

/**
 * One user's quotas. Limits of 0: none. `set`: bits of QUOTA_SET say which limits a call changes, for the superuser only; read, they say which
 * limits are the user's own. The others are those of QUOTA_DEFAULTS, which stands for a user id; the superuser has none.
 */
export const QuotaRecord = layout({
  uid: 'u32',
  set: 'u32',
  tokensPerHour: 'u64',
  cyclesPerHour: 'u64',
  kvBytes: 'u64', // of the pool at any time
  sessions: 'u32', // at any time
  sessionsUsed: 'u32', // out, as all below
  tokensUsed: 'u64', // in the hour
  tokensReserved: 'u64', // by requests that have not ended
  cyclesUsed: 'u64',
  cyclesReserved: 'u64',
  kvBytesUsed: 'u64',
  hourEndNs: 'u64', // on the clock: when used falls to 0
  refused: 'u32', // requests since boot
});
export const QUOTA_SET = { tokens: 1, cycles: 2, kv: 4, sessions: 8 } as const;
/** The user id whose limits all users have that have none of their own. */
export const QUOTA_DEFAULTS = 0xffffffff;

/**
 * One thing that the kernel did, read from /dev/trace in order, oldest first. `a` and `b` by kind. Times are the clock's, so equal machines
 * have equal traces.
 */
export const TraceRecord = layout({
  atNs: 'u64', // the end of what has a duration
  durationNs: 'u64',
  kind: 'u32', // index into TRACE
  session: 'u32', // id, or 0
  a: 'u32',
  b: 'u32',
});
export const TRACE = [
  '',
  'submit', // a prompt tokens, b most tokens
  'admit', // a: the server's parts per million, b: SERVER
  'reject', // a: the code of the refusal, b: errno; session 0
  'begin', // it left the queue. a: its slot, b: tokens shared
  'pass', // duration. a: rows, b: sessions
  'prefill', // duration: the pass, told once for each session in it, after its `pass`. a: first position, b: tokens
  'decode', // the same. a: position, b: 1
  'token', // duration: output matrix and draw. a: the token, b: how many so far
  'throttle', // its server's budget is used up. a: milliseconds until it is filled again
  'refill', // a server's budget. a: cycles (low 32 bits)
  'miss', // a deadline. a: microseconds late
  'preempt', // another session's pass goes before it. a: that session
  'swap-out', // duration, on the block device. a: pages, b: bytes
  'swap-in', // the same
  'copy', // a page, on write. a: page
  'end', // a: index into FINISH, b: output tokens
  'queue', // a: sessions that wait, b: sessions that run
  'arena', // a: bytes in use, b: KV pages in use
  'train', // duration: ops of a training, one after the other; session 0. a: the training, b: updates so far
] as const;
export type TraceKind = Exclude<(typeof TRACE)[number], ''>;

/** The error of a process's last failed call: errno, the specification's code, and the sentence. */
export const LastError = layout({ errno: 'u32', code: 'u32', message: 's512' });

/**
 * The step block: registers between the kernel and the plan executor, one per machine, in the kernel tables. The kernel writes what the
 * step needs, calls the executor once per segment, and reads what came out. All i32/u32.
 */
export const StepBlock = layout({
  status: 'i32', // out: 0, or a FAULT
  rowsAt: 'i32', // RowRecords of the pass
  n: 'i32', // how many, 1 … plan's batch
  picks: 'i32', // how many PickRecords, 1 … plan's draws: what the head segment reads
  draw: 'u32', // one 32-bit random draw, for the sample segment
  next: 'i32', // out: the token sampled
  historyAt: 'i32', // u32 ids of prompt + output so far of the session that draws, for the repetition penalty
  historyLength: 'i32',
  samplerAt: 'i32', // SamplerRecord
  logitsAt: 'i32', // f32[vocabulary] for the sample or score segment: one of the rows that the head segment has written
  vocabulary: 'i32',
  kvAt: 'i32', // the KV pool
  ctx: 'i32', // positions that a session can have
  target: 'i32', // score segment: the token whose loss is wanted
  picksAt: 'i32', // PickRecords
  failed: 'i32', // out: the row of the pass at which the last op ended; after a fault of an op that runs row by row, whose it is
  logits0: 'u32', // sample and score segment, in and out: the session's checksum over logits, as SessionReport has it
  logits1: 'u32',
  logits2: 'u32',
  logits3: 'u32',
  cycles: 'u64', // accumulated by the executor, op by op
  loss: 'f64', // score segment, out: -ln p(target)
});
/**
 * One row of a pass: a token of some session at its position, and where that session's block table lies. A pass mixes rows of sessions, in any
 * order; the positions before a row's own are in the cache or in the same pass. A table is u32[⌈ctx / KV_PAGE⌉]: bytes
 * from StepBlock.kvAt to the page that holds positions KV_PAGE · i … of the session.
 */
export const RowRecord = layout({ token: 'u32', pos: 'u32', tableAt: 'u32', session: 'u32' });
/** A row of the pass whose logits are wanted: the i-th pick's go to Engine.logitsAt + i · logitsStride. */
export const PickRecord = layout({
  row: 'i32',
  fault: 'i32', // out: 0, or FAULT.nan where one of its logits is not finite
});
/** io: weights that stream could not be read; of the others plans know. */
export const FAULT = { none: 0, nan: 1, badOp: 2, io: 3 } as const;

/** What a look into a step shows: the next token's probabilities, a head's attention, the logit lens. */
export const PROBES = ['probs', 'attention', 'lens'] as const;
export const ProbeOptions = layout({
  what: 'u32', // index into PROBES
  layer: 'u32', // of attention
  head: 'u32',
  top: 'u32', // tokens, 1 … topLogitsMax; not of attention
  position: 'u32', // PROBE_LAST: that of the last step
});
export const PROBE_LAST = 0xffffffff;
/** The same as the host asks it. */
export interface ProbeWish {
  readonly session: number; // id; 0: of those that took a step, the last
  readonly what: (typeof PROBES)[number];
  readonly layer: number;
  readonly head: number;
  readonly top: number;
  /** Default: that of the last step. */
  readonly position?: number;
}

export const SamplerRecord = layout({
  temp: 'f32',
  topK: 'i32',
  topP: 'f32',
  minP: 'f32',
  repeatPenalty: 'f32',
  modes: 'u32', // SAMPLER_MODE: which stages run, as integers, so that a certificate can depend on them
});
/** Stages of the sampler that are on. greedy: temperature 0 or top-k 1, nothing is drawn. Top-k is on when 0 < topK < vocabulary. */
export const SAMPLER_MODE = { penalty: 1, greedy: 2, topP: 4, minP: 8 } as const;

/** A request whose bounds are wanted. */
export const WcetOptions = layout({
  ctx: 'u32', // as LoadOptions; used only with a model that is not the loaded one
  kvType: 'u32',
  prompt: 'u32', // tokens
  generate: 'u32', // tokens at most
  promptBytes: 'u32', // of the prompt's text; 0 = prompt tokens × the bytes of a longest token
  topK: 'u32', // sampler settings as in SessionOptions
  temp: 'f32',
  topP: 'f32',
  minP: 'f32',
  repeatPenalty: 'f32',
  target: 's16', // empty = the machine's
});

/**
 * What callsMax and callsMin count, as `llminfer` makes them with its output on a console or in a file: session_open, session_report, two
 * session_reads that tell the end, the write of the last newline, session_close; for each token a session_read and a write. A switch to the
 * program for each token, one to submit and one to finish. The shell that starts the program and its reading of options are not counted.
 */
export const WCET_CALLS = { calls: 6, callsPerToken: 2, switches: 2, switchesPerToken: 1 } as const;

/** Cycles of `target`, at most (…Max) and at least (…Min). */
export const WcetReport = layout({
  hz: 'u64',
  sound: 'u32', // 1: bounds; 0: the target is a fit and bounds nothing
  ctx: 'u32',
  kvType: 'u32',
  batch: 'u32',
  prompt: 'u32',
  generate: 'u32',
  promptBytes: 'u32',
  decodeWorstPos: 'u32', // position at which the dearest decode step of the request stands
  tokenizeMax: 'u64', // text to ids, before the request is admitted; 0: not known
  tokenizeMin: 'u64',
  prefillMax: 'u64', // submission to first token
  prefillMin: 'u64',
  decodeMax: 'u64', // the dearest, the cheapest decode step of the request
  decodeMin: 'u64',
  decodeMeanMax: 'u64', // all decode steps at most, divided by their number
  contextMax: 'u64', // a decode step at the last position of the context
  drawMax: 'u64', // of a step, the sampler
  drawMin: 'u64',
  requestMax: 'u64', // prefill and the longest generation permitted
  requestMin: 'u64', // prefill and one token
  fullMin: 'u64', // prefill and every token, at least
  callsMax: 'u64', // system calls and switches of submitting and reading it all
  callsMin: 'u64',
  transferMax: 'u64', // token ids between storage and arena
  transferMin: 'u64',
  arenaBytes: 'u64', // the whole machine with the model: no request changes it
  kvBytes: 'u64', // of it, keys and values
  target: 's16',
  title: 's128', // of the target
  model: 's64',
});

/** Whose speed is wanted, and where. */
export const SpeedOptions = layout({
  ...LoadOptions.fields,
  target: 's16', // a simulated processor; empty: the machine's
  disk: 's16', // a kind of storage; empty: that of the model's file
});

/** One token after the other, in the middle of the context, drawn as llminfer does by default. Cycles of `target`. */
export const SpeedReport = layout({
  hz: 'u64',
  sound: 'u32', // 1: tokenMost is a bound; 0: the target is a fit and bounds nothing
  position: 'u32', // of the token
  tokenCycles: 'u64', // from one to the next, the disk being in good health
  tokenMost: 'u64', // the dearest: nothing is there when it begins, every read takes the longest and is tried as often as may be
  computed: 'u64', // what the processor does for it
  transfers: 'u64', // for how long the disk is busy; 0: nothing streams
  target: 's16',
  disk: 's16', // kind of storage; empty: nothing streams
});

/** What model_convert's descriptor will give. */
export const ConvertReport = layout({
  bytes: 'u64', // of the file
  sourceBytes: 'u64', // of the model's file
  tensors: 'u32',
  converted: 'u32', // tensors that change their type
  ragged: 'u32', // of those, to F16: their rows are no whole blocks of the type asked for
});
/** What model_prelink's descriptor will give: the data, which are read first and in order, then the header before them. */
export const PrelinkReport = layout({
  bytes: 'u64', // of the file
  sourceBytes: 'u64', // of the model's file
  headerBytes: 'u64', // where the data begin
  tensors: 'u32',
  grouped: 'u32', // tensors with rows in groups of four
});
/** What model_convert may be told. Requantize: round again what is rounded already. */
export const CONVERT = { requantize: 1 } as const;

/** What was found out about a model file and its package. `size`: of the file, bytes; `digest`: SHA-256 of the file, hex. */
export const PackageReport = layout({
  result: 'u32', // of the specification, by number: 0 Success
  id: 'u32', // of the package; 0: the format has none
  version: 'u32',
  permissions: 'u32', // a bit each; of a package that is not registered, what the policy leaves
  ctx: 'u32', // longest context that it may be loaded with; 0: any
  reserved: 'u32',
  size: 'u64',
  format: 's8', // sis or oms
  digest: 's64',
  key: 's64', // the trusted key's name; empty: another
  signer: 's64', // Ed25519: the public key; else SHA-256 of its PEM; hex
  message: 's256', // why it does not hold
});
