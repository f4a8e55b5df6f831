// Tokenizers from a file's own metadata: `llama` (SentencePiece BPE by scores, byte fallback) and `gpt2` (byte-level BPE by merges). The
// vocabulary is built in the arena by kernels, from strings that pass through the transfer buffer; its size is known before anything is
// allocated and taken exactly. Meanings follow llama.cpp, so that its files give its ids.
//
// Where we differ from it, on purpose: text that is not UTF-8 keeps its bytes (there it becomes U+FFFD); a literal ▁ in a text for a
// `llama` vocabulary is encoded as its three bytes (there it turns into a space), and a space that has no token as its one; unknown, control
// and byte tokens are never the result of merging; a merge whose result is no token is left out. So decode(encode(bytes)) = bytes, unless the vocabulary lacks tokens for single
// bytes, or is `llama` with user-defined tokens in the text (each is followed by another space prefix, as in llama.cpp).

import type {
  ArenaView,
  MetaArray,
  MetaValue,
  ModelImage,
  Refusal,
  TokenizerDriver,
  Vocabulary,
} from '../../kernel/abi/index.ts';
import { ENCODE, isRefusal, LIMITS, refuse, shown, utf8Write } from '../../kernel/abi/index.ts';
import type { EngineCompute } from './compute.ts';
import { alignUp } from './memory.ts';
import {
  MERGE_BYTES_MAX,
  MERGES_MAX,
  Pre,
  TOKEN_BYTES_MAX,
  TOKEN_END,
  TOKEN_TEXT_MASK,
  TOKEN_TYPE_SHIFT,
  Transfer,
  TRANSFER_TOKEN_TOO_LONG,
  TYPE_CONTROL,
  TYPE_UNKNOWN,
  Vocab,
  VOCAB_BPE,
  VOCAB_IGNORE_MERGES,
  VOCAB_SPACE_PREFIX,
  Work,
  WORK_BYTES_PER_CHARACTER,
  WORK_ROOM_MAX,
} from './vocabulary.ts';

/** The least working memory of an encode. A word may have a ninth as many bytes. */
export const ENCODE_WORK_BYTES = 24 * 1024;

interface PreTokenizer {
  readonly names: string;
  readonly pre: Pre;
  readonly ignoreMerges?: boolean;
  readonly addBos?: boolean;
}
/** `tokenizer.ggml.pre`: the names in the field, those that mean the same together. */
const PRE_TOKENIZERS: readonly PreTokenizer[] = [
  { names: 'default', pre: Pre.fallback },
  {
    names:
      'gpt-2 phi-2 mpt olmo jais gigachat roberta-bpe jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code trillion granite-docling a.x-4.0 mellum exaone4 modern-bert',
    pre: Pre.gpt2,
  },
  {
    names: 'llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano',
    pre: Pre.llama3,
    ignoreMerges: true,
    addBos: true,
  },
  { names: 'dbrx smaug-bpe', pre: Pre.llama3 },
  { names: 'qwen2 stablelm2 megrez deepseek-r1-qwen hunyuan kormo', pre: Pre.qwen2 },
  { names: 'smollm starcoder refact command-r codeshell exaone minerva-7b', pre: Pre.smollm },
];

// Tokens that llama.cpp knows by their text: control tokens whatever their type says; the first list also ends generation.
const END_NAMES = (
  '<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|> </s> <|eom_id|> <EOT> _<EOT> [EOT] ' +
  '[EOS] <|end_of_text|> <end_of_utterance> <eos> <turn|> <|tool_response> <｜end▁of▁sentence｜> <|fim_pad|> <fim-pad> <PAD> <|fim_repo|> ' +
  '<|repo_name|> <fim-repo> <REPO> <|file_sep|>'
).split(' ');
const CONTROL_NAMES = (
  '<|fim_prefix|> <fim-prefix> <｜fim▁begin｜> <PRE> <|fim_suffix|> <fim-suffix> <｜fim▁hole｜> <SUF> <|fim_middle|> <fim-middle> ' +
  '<｜fim▁end｜> <MID>'
).split(' ');

/** The names as vocab_tokens reads them: u8 length, u8 1 = ends generation, bytes. A multiple of 4 bytes. */
function listOf(ends: readonly string[], others: readonly string[]): { list: Uint8Array; count: number; most: number } {
  const list = new Uint8Array(1024);
  let at = 0;
  let most = 0;
  for (const name of [...ends, ...others]) {
    const length = utf8Write(name, list, at + 2, list.length - at - 2);
    list[at] = length;
    list[at + 1] = ends.includes(name) ? 1 : 0;
    at += 2 + length;
    most = Math.max(most, length);
  }
  return { list: list.subarray(0, (at + 3) & -4), count: ends.length + others.length, most };
}

// The transfer buffer while a vocabulary is built: record, names, a window of token types, a merge being joined, then strings.
const TYPES_WINDOW = 512;
const NAMES = listOf(END_NAMES, CONTROL_NAMES);
const FIXED_BYTES = Transfer.size + NAMES.list.length + 4 * TYPES_WINDOW + MERGE_BYTES_MAX;
const STRING_PREFIX = 8; // u64 length

// GGUF value types.
const GGUF_UINT32 = 4;
const GGUF_INT32 = 5;
const GGUF_FLOAT32 = 6;
const GGUF_BOOL = 7;
const GGUF_STRING = 8;

const FLAGS = ['add_bos_token', 'add_eos_token', 'add_space_prefix'] as const;
const IDS = ['bos_token_id', 'eos_token_id', 'eot_token_id', 'eom_token_id', 'unknown_token_id'] as const;
type Flag = (typeof FLAGS)[number];
type Id = (typeof IDS)[number];
/** Keys with the one type that each may have, as in llama.cpp. */
const SCALARS = [
  ...FLAGS.map(key => [key, GGUF_BOOL, 'bool'] as const),
  ...IDS.map(key => [key, GGUF_UINT32, 'u32'] as const),
];

/** What the metadata says, checked. */
interface Facts {
  readonly model: 'llama' | 'gpt2';
  readonly flags: number;
  readonly pre: Pre;
  readonly count: number;
  readonly tokens: MetaArray;
  readonly types: MetaArray | null;
  readonly scores: MetaArray | null;
  readonly merges: MetaArray | null;
  readonly addBos: boolean;
  readonly addEos: boolean;
  readonly bos: number;
  readonly eos: number;
  readonly eot: number;
  readonly eom: number;
  readonly unknown: number;
}

/** Where the parts of a vocabulary lie, from its beginning; each is a multiple of 4. */
interface Parts {
  readonly buckets: number; // how many
  readonly bytesAt: number;
  readonly tokensAt: number;
  readonly indexAt: number;
  readonly bucketsAt: number;
  readonly prioritiesAt: number;
  readonly mergesAt: number;
  readonly specialsAt: number;
  readonly textAt: number;
  readonly bytes: number;
}

export class Tokenizers implements TokenizerDriver {
  private readonly bytesOf = new WeakMap<ModelImage, number>();

  /** `unicodeAt`: where loadUnicode put its table. */
  constructor(
    private readonly arena: ArenaView,
    private readonly compute: EngineCompute,
    private readonly unicodeAt: number,
  ) {}

  /** Asked again for the same image it answers from memory: the strings are not read once for each context that is tried. */
  budget(image: ModelImage): { readonly bytes: number; readonly workBytes: number } | Refusal {
    const known = this.bytesOf.get(image);
    if (known !== undefined) return { bytes: known, workBytes: ENCODE_WORK_BYTES };
    const facts = readFacts(image);
    if (isRefusal(facts)) return facts;
    const parts = this.measure(image, facts);
    if (isRefusal(parts)) return parts;
    this.bytesOf.set(image, parts.bytes);
    return { bytes: parts.bytes, workBytes: ENCODE_WORK_BYTES };
  }

  load(image: ModelImage, at: number, bytes: number): Vocabulary | Refusal {
    const facts = readFacts(image);
    if (isRefusal(facts)) return facts;
    const parts = this.measure(image, facts);
    if (isRefusal(parts)) return parts;
    if (parts.bytes !== bytes)
      return refuse('NOMEM', 3001, `vocabulary of ${image.path} takes ${parts.bytes} bytes, given ${bytes}`);
    this.writeHeader(facts, parts, at);
    const failed = this.fill(image, facts, parts, at);
    return failed ?? new ArenaVocabulary(this.arena, this.compute, facts, at, bytes);
  }

  /** Reads all tokens once, to learn how many bytes of text and how many special tokens there are. */
  private measure(image: ModelImage, facts: Facts): Parts | Refusal {
    const transfer = this.beginTransfer(image, facts, 0, facts.count);
    if (isRefusal(transfer)) return transfer;
    const failed = this.transferTokens(image, facts, transfer);
    if (failed !== null) return failed;
    return partsOf(facts, this.word(transfer + Transfer.textBytes), this.word(transfer + Transfer.specials));
  }

  private fill(image: ModelImage, facts: Facts, parts: Parts, at: number): Refusal | null {
    const transfer = this.beginTransfer(image, facts, at, facts.count);
    if (isRefusal(transfer)) return transfer;
    const failed = this.transferTokens(image, facts, transfer);
    if (failed !== null) return failed;
    this.compute.vocab_count(at);
    this.compute.vocab_index(at);
    for (const id of [facts.eos, facts.eot, facts.eom]) {
      if (id >= 0) this.arena.u32[((at + parts.tokensAt) >> 2) + id]! |= TOKEN_END;
    }
    return facts.merges === null
      ? this.readScores(image, facts, at + parts.prioritiesAt)
      : this.readMerges(image, facts, facts.merges, parts, at);
  }

  private readScores(image: ModelImage, facts: Facts, to: number): Refusal | null {
    const bytes = 4 * facts.count;
    if (facts.scores === null) this.arena.u8.fill(0, to, to + bytes);
    else if (image.read(facts.scores.fileAt, to, bytes) !== bytes) return cutShort(image, 'tokenizer.ggml.scores');
    return null;
  }

  /** Two passes over the merges: count those of each token, then place each in its group. */
  private readMerges(image: ModelImage, facts: Facts, merges: MetaArray, parts: Parts, at: number): Refusal | null {
    const counts = (at + parts.prioritiesAt) >> 2;
    this.arena.u32.fill(0, counts, counts + facts.count + 1);
    for (let place = 0; place < 2; place++) {
      const transfer = this.beginTransfer(image, facts, at, merges.count);
      if (isRefusal(transfer)) return transfer;
      const failed = this.transferStrings(image, 'tokenizer.ggml.merges', merges, transfer, () =>
        this.compute.vocab_merges(transfer, place),
      );
      if (failed !== null) return failed;
      if (place === 0) this.compute.vocab_merge_groups(at);
      // A token of n bytes has n − 1 pairs: more merges than that repeat each other, and looking one up would take as long as the file likes.
      const group = this.word(at + Vocab.groupMost);
      if (group > TOKEN_BYTES_MAX)
        return refuse(
          'INVAL',
          1002,
          `tokenizer.ggml.merges has ${group} merges of one token, at most ${TOKEN_BYTES_MAX} are allowed`,
        );
    }
    return null;
  }

  // ── Transfers ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private word(at: number): number {
    return this.arena.i32[at >> 2]!;
  }

  /** Prepares the record at the head of the transfer buffer; returns where it is. */
  private beginTransfer(image: ModelImage, facts: Facts, vocabAt: number, count: number): number | Refusal {
    const at = (image.dmaAt + 3) & -4;
    const needed = FIXED_BYTES + STRING_PREFIX + MERGE_BYTES_MAX + 3;
    if (image.dmaBytes < needed)
      return refuse(
        'NOMEM',
        3001,
        `reading a vocabulary takes a transfer buffer of ${needed} bytes, there are ${image.dmaBytes}`,
      );
    this.arena.u8.fill(0, at, at + FIXED_BYTES);
    const set = (field: Transfer, value: number): void => {
      this.arena.i32[(at + field) >> 2] = value;
    };
    let next = at + Transfer.size;
    set(Transfer.vocabAt, vocabAt);
    set(Transfer.flags, facts.flags);
    set(Transfer.count, count);
    set(Transfer.namesAt, next);
    this.arena.u8.set(NAMES.list, next);
    set(Transfer.names, NAMES.count);
    set(Transfer.nameMost, NAMES.most);
    next += NAMES.list.length;
    set(Transfer.typesAt, facts.types === null ? 0 : next);
    next += 4 * TYPES_WINDOW;
    set(Transfer.scratchAt, next);
    set(Transfer.at, next + MERGE_BYTES_MAX);
    return at;
  }

  private transferTokens(image: ModelImage, facts: Facts, transfer: number): Refusal | null {
    const { types } = facts;
    return this.transferStrings(image, 'tokenizer.ggml.tokens', facts.tokens, transfer, () => {
      if (types !== null) {
        const next = this.word(transfer + Transfer.next);
        const window = Math.min(TYPES_WINDOW, facts.count - next);
        if (image.read(types.fileAt + 4 * next, this.word(transfer + Transfer.typesAt), 4 * window) !== 4 * window)
          return 0;
        this.arena.i32[(transfer + Transfer.types) >> 2] = window;
      }
      return this.compute.vocab_tokens(transfer);
    });
  }

  /** Brings an array's strings into the buffer piece by piece; `take` consumes what it can of a piece and returns the bytes it took. */
  private transferStrings(
    image: ModelImage,
    key: string,
    array: MetaArray,
    transfer: number,
    take: () => number,
  ): Refusal | null {
    const at = this.word(transfer + Transfer.at);
    const capacity = image.dmaAt + image.dmaBytes - at;
    let fileAt = array.fileAt;
    while (this.word(transfer + Transfer.next) < array.count) {
      const read = image.read(fileAt, at, Math.min(capacity, array.fileAt + array.bytes - fileAt));
      this.arena.i32[(transfer + Transfer.bytes) >> 2] = Math.max(0, read);
      const taken = take();
      this.arena.i32[(transfer + Transfer.next) >> 2]! += this.word(transfer + Transfer.taken);
      const status = this.word(transfer + Transfer.status);
      if (status !== 0) {
        const limit = status === TRANSFER_TOKEN_TOO_LONG ? TOKEN_BYTES_MAX : MERGE_BYTES_MAX;
        const index = this.word(transfer + Transfer.next);
        return refuse(
          'INVAL',
          1002,
          `${key}[${index}] is ${this.word(transfer + Transfer.number) >>> 0} bytes long, at most ${limit} are allowed`,
        );
      }
      if (taken === 0) return cutShort(image, key);
      fileAt += taken;
    }
    return null;
  }

  private writeHeader(facts: Facts, parts: Parts, at: number): void {
    const set = (field: Vocab, value: number): void => {
      this.arena.i32[(at + field) >> 2] = value;
    };
    this.arena.u8.fill(0, at, at + Vocab.bytes);
    set(Vocab.count, facts.count);
    set(Vocab.flags, facts.flags);
    set(Vocab.pre, facts.pre);
    set(Vocab.unicodeAt, this.unicodeAt);
    set(Vocab.tokensAt, at + parts.tokensAt);
    set(Vocab.textAt, at + parts.textAt);
    set(Vocab.indexAt, at + parts.indexAt);
    set(Vocab.bucketsAt, at + parts.bucketsAt);
    set(Vocab.buckets, parts.buckets);
    set(Vocab.prioritiesAt, at + parts.prioritiesAt);
    set(Vocab.mergesAt, at + parts.mergesAt);
    set(Vocab.specialsAt, at + parts.specialsAt);
    set(Vocab.specials, (parts.textAt - parts.specialsAt) >> 2);
    set(Vocab.bytesAt, at + parts.bytesAt);
    set(Vocab.unknown, facts.unknown);
  }
}

// ── Metadata ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function nameOf(value: MetaValue): string {
  return typeof value === 'string' ? shown(value) : typeof value === 'object' ? 'an array' : String(value);
}

function cutShort(image: ModelImage, key: string): Refusal {
  return refuse('IO', 1002, `${image.path}: ${key} ends early`);
}

function partsOf(facts: Facts, textBytes: number, specials: number): Parts {
  const words = facts.count;
  let buckets = 1;
  while (buckets * 16 < words) buckets *= 2; // 8 to 16 tokens a bucket
  const bytesAt = Vocab.bytes;
  const tokensAt = bytesAt + 4 * 256;
  const indexAt = tokensAt + 4 * (words + 1);
  const bucketsAt = indexAt + 4 * words;
  const prioritiesAt = bucketsAt + 4 * (buckets + 1);
  const mergesAt = prioritiesAt + 4 * (facts.merges === null ? words : words + 1);
  const specialsAt = mergesAt + 4 * (facts.merges?.count ?? 0);
  const textAt = specialsAt + 4 * specials;
  return {
    buckets,
    bytesAt,
    tokensAt,
    indexAt,
    bucketsAt,
    prioritiesAt,
    mergesAt,
    specialsAt,
    textAt,
    bytes: alignUp(textAt + textBytes),
  };
}

function readFacts(image: ModelImage): Facts | Refusal {
  const model = image.meta('tokenizer.ggml.model');
  if (model === undefined) return refuse('INVAL', 6002, `${image.path}: no tokenizer.ggml.model`);
  if (model !== 'llama' && model !== 'gpt2')
    return refuse('NOTSUP', 1002, `tokenizer.ggml.model is ${nameOf(model)}, known are llama and gpt2`);
  const name = image.meta('tokenizer.ggml.pre') ?? 'default';
  const pre: PreTokenizer | undefined =
    model === 'llama' ? PRE_TOKENIZERS[0] : PRE_TOKENIZERS.find(p => p.names.split(' ').includes(String(name)));
  if (pre === undefined) {
    return refuse(
      'NOTSUP',
      1002,
      `tokenizer.ggml.pre is ${nameOf(name)}, known are default gpt-2 llama-bpe qwen2 smollm and names that mean the same`,
    );
  }

  const tokens = arrayOf(image, 'tokenizer.ggml.tokens', [GGUF_STRING], 1, LIMITS.vocabularyMax);
  if (isRefusal(tokens)) return tokens;
  if (tokens === null) return refuse('INVAL', 6002, `${image.path}: no tokenizer.ggml.tokens`);
  const { count } = tokens;
  const types = arrayOf(image, 'tokenizer.ggml.token_type', [GGUF_INT32, GGUF_UINT32], count, count);
  if (isRefusal(types)) return types;
  const scores = model === 'llama' ? arrayOf(image, 'tokenizer.ggml.scores', [GGUF_FLOAT32], count, count) : null;
  if (isRefusal(scores)) return scores;
  const merges = model === 'gpt2' ? arrayOf(image, 'tokenizer.ggml.merges', [GGUF_STRING], 0, MERGES_MAX) : null;
  if (isRefusal(merges)) return merges;
  if (model === 'gpt2' && merges === null) return refuse('INVAL', 6002, `${image.path}: no tokenizer.ggml.merges`);

  const spm = model === 'llama';
  for (const [key, wanted, word] of SCALARS) {
    const type = image.typeOf(`tokenizer.ggml.${key}`) ?? wanted;
    if (type !== wanted)
      return refuse('NOEXEC', 6002, `tokenizer.ggml.${key} has type ${type}, want ${wanted} (${word})`);
  }
  const flag = (key: Flag, otherwise: boolean): boolean => (image.meta(`tokenizer.ggml.${key}`) ?? otherwise) === true;
  // An id that is no token counts as absent.
  const id = (key: Id, otherwise: number): number => {
    const value = image.meta(`tokenizer.ggml.${key}`);
    return typeof value === 'number' && value < count ? value : otherwise < count ? otherwise : -1;
  };
  const { ignoreMerges = false, addBos = spm } = pre;
  return {
    model,
    flags:
      (spm ? 0 : VOCAB_BPE) |
      (ignoreMerges ? VOCAB_IGNORE_MERGES : 0) |
      (spm && flag('add_space_prefix', true) ? VOCAB_SPACE_PREFIX : 0),
    pre: pre.pre,
    count,
    tokens,
    types,
    scores,
    merges,
    addBos: flag('add_bos_token', addBos),
    addEos: flag('add_eos_token', false),
    bos: id('bos_token_id', spm ? 1 : -1),
    eos: id('eos_token_id', spm ? 2 : -1),
    eot: id('eot_token_id', -1),
    eom: id('eom_token_id', -1),
    unknown: id('unknown_token_id', spm ? 0 : -1),
  };
}

/** The array under a key, its element type and count checked; null when there is none. */
function arrayOf(
  image: ModelImage,
  key: string,
  types: readonly number[],
  countMin: number,
  countMax: number,
): MetaArray | null | Refusal {
  const value = image.meta(key);
  if (value === undefined) return null;
  if (typeof value !== 'object') return refuse('INVAL', 1002, `${key} is not an array`);
  if (!types.includes(value.elementType))
    return refuse('INVAL', 1002, `${key} has elements of type ${value.elementType}, expected ${types.join(' or ')}`);
  if (value.count < countMin || value.count > countMax) {
    const expected = countMin === countMax ? `${countMin}` : `${countMin} to ${countMax}`;
    return refuse('INVAL', 1002, `${key} has ${value.count} elements, expected ${expected}`);
  }
  return value;
}

// ── The loaded vocabulary ────────────────────────────────────────────────────────────────────────────────────────────────────────

class ArenaVocabulary implements Vocabulary {
  readonly model: string;
  readonly count: number;
  readonly bos: number;
  readonly eos: number;
  readonly addBos: boolean;
  readonly addEos: boolean;
  readonly spacePrefix: boolean;
  private readonly tokens: number; // index in arena.u32
  private readonly textAt: number;
  private workAt = 0;
  private workBytes = 0;
  private pending = -1; // an id to write first
  private refused = 0; // bytes of a word that is too long

  constructor(
    private readonly arena: ArenaView,
    private readonly compute: EngineCompute,
    facts: Facts,
    private readonly at: number,
    readonly bytes: number,
  ) {
    this.model = facts.model;
    this.count = facts.count;
    this.bos = facts.bos;
    this.eos = facts.eos;
    this.addBos = facts.addBos;
    this.addEos = facts.addEos;
    this.spacePrefix = (facts.flags & VOCAB_SPACE_PREFIX) !== 0;
    this.tokens = arena.i32[(at + Vocab.tokensAt) >> 2]! >> 2;
    this.textAt = arena.i32[(at + Vocab.textAt) >> 2]!;
  }

  isEnd(id: number): boolean {
    return id >= 0 && id < this.count && (this.arena.u32[this.tokens + id]! & TOKEN_END) !== 0;
  }

  begin(flags: number, workAt: number, workBytes: number): void {
    this.workAt = workAt;
    this.workBytes = workBytes;
    if (workBytes < ENCODE_WORK_BYTES) return;
    const room = Math.min(Math.floor((workBytes - Work.bytes) / WORK_BYTES_PER_CHARACTER) & -4, WORK_ROOM_MAX);
    const valuesAt = workAt + Work.bytes;
    const nodesAt = valuesAt + 4 * room;
    const lengthsAt = nodesAt + 2 * room;
    this.arena.u8.fill(0, workAt, valuesAt);
    this.set(Work.flags, flags);
    this.set(Work.textAt, lengthsAt + 2 * room);
    this.set(Work.lengthsAt, lengthsAt);
    this.set(Work.nodesAt, nodesAt);
    this.set(Work.valuesAt, valuesAt);
    this.set(Work.room, room);
    this.set(Work.length, 1);
    this.restart(1);
    this.set(Work.fresh, 1);
    this.set(Work.before, -1);
    this.pending = (flags & ENCODE.bos) !== 0 ? this.bos : -1;
    this.refused = 0;
  }

  /** Nothing is looked at from the position `scanned` on, and there are no items. */
  private restart(scanned: number): void {
    for (const field of [Work.checked, Work.clusterEnd, Work.decided, Work.scanned]) this.set(field, scanned);
    for (const field of [Work.begin, Work.merged, Work.written, Work.itemEnd]) this.set(field, 1);
    this.set(Work.found, 0);
  }

  private set(field: Work, value: number): void {
    this.arena.i32[(this.workAt + field) >> 2] = value;
  }
  private get(field: Work): number {
    return this.arena.i32[(this.workAt + field) >> 2]!;
  }

  inputAt(): number {
    return this.get(Work.textAt) + this.get(Work.length);
  }
  inputBytes(): number {
    if (this.workBytes < ENCODE_WORK_BYTES || this.get(Work.final) !== 0) return 0;
    return this.get(Work.room) - this.get(Work.length);
  }
  input(length: number, final: boolean): void {
    if (this.workBytes < ENCODE_WORK_BYTES) return;
    this.set(Work.length, this.get(Work.length) + length);
    if (final) this.set(Work.final, 1);
  }

  /** Work begins when the text is complete or fills the room, so that each kernel runs once for a text that the room holds. */
  encode(outAt: number, capacity: number): number {
    if (this.workBytes < ENCODE_WORK_BYTES || this.refused > 0) return -1;
    if (this.pending >= 0) {
      this.arena.i32[outAt >> 2] = this.pending;
      this.pending = -1;
      return 1;
    }
    const { compute, at, workAt } = this;
    for (;;) {
      for (let left = this.unwritten(); left > 0; left = this.unwritten()) {
        const n = compute.tokenize_write(at, workAt, left, outAt, capacity);
        if (n > 0) return n;
      }
      if (!this.cut()) return this.refused > 0 ? -1 : 0;
      compute.tokenize_merge(at, workAt, this.get(Work.begin) - this.get(Work.merged));
    }
  }

  private unwritten(): number {
    return this.get(Work.merged) - this.get(Work.written);
  }

  /** Cuts text into items when all those before are written; false when there are none: the text has ended, or more of it is needed. */
  private cut(): boolean {
    const { compute, at, workAt } = this;
    const final = this.get(Work.final) !== 0;
    if (!final) this.shift();
    const length = this.get(Work.length);
    if (!final && length < this.get(Work.room)) return false;
    if (this.get(Work.begin) === length) return false;
    compute.tokenize_cut(at, workAt, length - this.get(Work.scanned));
    if (this.get(Work.begin) > this.get(Work.merged)) return true;
    if (final) return false;
    const bytes = length - this.get(Work.begin);
    // Most often there is a place near the end.
    const nearby = Math.min(bytes, 4 * this.arena.i32[(at + Vocab.longest) >> 2]!);
    if (
      this.model === 'llama' &&
      (compute.tokenize_split(at, workAt, nearby) !== 0 || compute.tokenize_split(at, workAt, bytes) !== 0)
    )
      return true;
    this.refused = bytes;
    return false;
  }

  /** Moves what is not yet cut to the beginning of the room. */
  private shift(): void {
    const from = this.get(Work.begin);
    const by = from - 1;
    if (by <= 0) return;
    const bytes = this.get(Work.length) - from;
    this.compute.tokenize_shift(this.workAt, from, bytes);
    this.set(Work.length, bytes + 1);
    for (const field of [Work.last, Work.lineEnd]) this.set(field, Math.max(0, this.get(field) - by));
    this.restart(this.get(Work.scanned) - by);
  }

  refusal(): Refusal | null {
    if (this.workBytes < ENCODE_WORK_BYTES) {
      return refuse(
        'NOMEM',
        4001,
        `encoding takes ${ENCODE_WORK_BYTES} bytes of working memory, given ${this.workBytes}`,
      );
    }
    if (this.refused === 0) return null;
    return refuse(
      'TOOBIG',
      4001,
      `a word of ${this.refused} bytes or more without a place to cut: ${this.workBytes} bytes of working memory hold ${this.get(Work.room) - 1}`,
    );
  }

  piece(id: number, outAt: number, capacity: number, special: boolean): number {
    if (id < 0 || id >= this.count) return -1;
    const { u8, u32 } = this.arena;
    const entry = u32[this.tokens + id]!;
    const type = (entry >>> TOKEN_TYPE_SHIFT) & 7;
    if (!special && (type === TYPE_CONTROL || type === TYPE_UNKNOWN)) return 0;
    const begin = this.textAt + (entry & TOKEN_TEXT_MASK);
    const end = this.textAt + (u32[this.tokens + id + 1]! & TOKEN_TEXT_MASK);
    if (end - begin > capacity) return -2;
    u8.copyWithin(outAt, begin, end);
    return end - begin;
  }
}
