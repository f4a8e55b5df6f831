// Layouts that the tokenizer's driver (tokenizer.ts) and its kernels (simd/tokenize.ts, simd/lexicon.ts) share: the vocabulary in the
// arena, the working memory of one encode, and the transfer record used while a vocabulary is built. Compiled by TypeScript and by
// AssemblyScript, so it holds enums and integer constants only. Enum values are byte offsets of 32-bit words.
//
// A vocabulary of N tokens, one piece after the other:
//
//   Vocab header │ bytes u32[256] │ tokens u32[N + 1] │ index u32[N] │ buckets u32[B + 1] │ priorities │ specials u32[S] │ text
//
//   token      31 ─ end ─ 30 ─ raw ─ 29 … 27 type ─ 26 … 0 offset of its text; it ends where the next one's begins
//   text       what the token stands for: bytes, not GGUF's spelling (byte-level letters are decoded, ▁ is a space, <0x41> is A)
//   index      ids by hash of their text, bucket by bucket, ascending within one: 31 … 20 hash tag, 19 … 0 id
//   buckets    where each bucket begins in the index
//   priorities llama: f32 score per token. gpt2: u32[N + 1] where each token's merges begin in u32[M], each merge
//              31 … 10 rank, 9 … 0 bytes of its left part: token text and this length are the pair.
//   specials   ids of control, unknown and user-defined tokens, longest text first

/** A token's text in merges differs from what is stored, or no merge may make it: the index has no entry. */
export const TOKEN_RAW = 0x40000000;
/** Ends generation. */
export const TOKEN_END = 0x80000000;
export const TOKEN_TYPE_SHIFT = 27;
export const TOKEN_TEXT_MASK = 0x07ffffff;

// llama.cpp's token types.
export const TYPE_NORMAL = 1;
export const TYPE_UNKNOWN = 2;
export const TYPE_CONTROL = 3;
export const TYPE_USER_DEFINED = 4;
export const TYPE_BYTE = 6;

export const INDEX_ID_BITS = 20;
/** A search in the table of character classes halves this often: its runs are fewer than 2 to this power. */
export const UNICODE_HALVINGS = 11;
export const MERGE_LEFT_BITS = 10;
export const MERGES_MAX = 0x400000;
export const TOKEN_BYTES_MAX = 1023;
export const MERGE_BYTES_MAX = 4096; // one merge as the file spells it: at most 2 · 2 · 1,023 + 1

export enum Vocab {
  count = 0,
  flags = 4, // VOCAB_…
  pre = 8, // Pre
  unicodeAt = 12,
  tokensAt = 16,
  textAt = 20,
  indexAt = 24,
  bucketsAt = 28,
  buckets = 32, // a power of two
  prioritiesAt = 36,
  mergesAt = 40,
  specialsAt = 44,
  specials = 48,
  bytesAt = 52, // the token of each byte, -1 = none
  unknown = 56, // -1 = none
  // What looking things up is bounded by, counted while the vocabulary is built:
  longest = 60, // bytes of the longest text that the index holds
  crossing = 64, // 1: some token has a space after another character, so the words of `llama` cannot be cut apart
  bucketMost = 68, // tokens in the fullest bucket
  halvings = 72, // of a search in that bucket
  groupMost = 76, // most merges that make one token
  tagMost = 80, // most tokens of one bucket with one tag
  longestSpecial = 84,
  startsAll = 88, // 256 bits: the bytes that special tokens begin with
  startsUser = 120, // the same for user-defined ones
  bytes = 160, // of this header
}
export const VOCAB_BPE = 1; // byte-level BPE with merges; otherwise SentencePiece BPE with scores
export const VOCAB_IGNORE_MERGES = 2; // a whole word that is a token is not built from merges
export const VOCAB_SPACE_PREFIX = 4;

/** Pre-tokenizers: how byte-level text is cut into words before merging. */
export enum Pre {
  gpt2 = 0,
  llama3 = 1,
  qwen2 = 2,
  smollm = 3,
  fallback = 4, // 'default'
}

/**
 * Working memory of one encode: this header, then for each of `room` bytes of text a value (i32), a node and a length (u16 each) and the
 * byte itself. Positions count bytes from textAt; position 0 is kept free for the space that SentencePiece puts before a text.
 *
 *      0        written      merged        begin         scanned       decided       checked        length        room
 *      │ free   │ ids wait   │ words wait  │ word being   │ plain or    │ may belong  │ not looked   │ free         │
 *      │        │ to be taken│ for merging │ cut          │ special     │ to a special│ at           │              │
 *
 * From `written` to `begin` the text is items, one behind the other: a word of n bytes or a special token. Of an item at b:
 *   nodes[b]            n, ITEM_SPECIAL set for a special token, whose id is values[b]
 *   values[b + n − 1]   of a word: the special token that lies before it without bytes of its own, or −1
 *   lengths[p]          bytes of the symbol that begins, or ends, with byte p
 *   values[p]           how urgently the symbol at p and the next want to be merged: lower first
 *   nodes[b + 1 …]      a tournament of those n − 1 values, a heap-ordered tree: the winner's p − b; node 1 has the best
 */
export enum Work {
  flags = 0, // ENCODE
  textAt = 4,
  lengthsAt = 8,
  nodesAt = 12,
  valuesAt = 16,
  room = 20,
  length = 24, // text that was put
  final = 28,
  checked = 32,
  clusterEnd = 36, // where the special tokens end that overlap one another and were seen last
  found = 40, // 1: a special token was seen since `decided`
  decided = 44,
  scanned = 48,
  begin = 52,
  merged = 56,
  written = 60,
  itemEnd = 64, // of the item whose ids are being written
  spelled = 68, // bytes of the symbol there that were written one by one
  state = 72, // registers of the pre-tokenizer, see simd/pretokenize.ts
  last = 76,
  lineEnd = 80,
  digits = 84,
  lead = 88,
  fresh = 92, // 1: at the beginning of a piece of plain text, which gets the space prefix
  before = 96, // the special token without bytes before the word being cut, -1 = none
  bytes = 112, // of this header
}
export const WORK_BYTES_PER_CHARACTER = 9; // of text: a value, a node, a length and the byte
export const WORK_ROOM_MAX = 0x7ff8;
export const ITEM_SPECIAL = 0x8000;

/** Transfer record: strings of a GGUF array lie at `at`, as u64 length and bytes each. One call takes as many whole strings as there are. */
export enum Transfer {
  vocabAt = 0, // 0 while measuring
  flags = 4, // VOCAB_…
  at = 8,
  bytes = 12,
  typesAt = 16, // i32 types of the tokens from `next` on, or 0 = all normal
  types = 20, // how many
  namesAt = 24, // tokens that are control tokens whatever their type: u8 length, u8 1 = ends generation, bytes …
  names = 28, // how many; none has more than nameMost bytes
  nameMost = 32,
  next = 36, // token or merge that comes next
  count = 40,
  scratchAt = 44, // MERGE_BYTES_MAX bytes, to join a merge in
  // What the kernels write:
  textBytes = 48, // of the tokens so far
  specials = 52, // of them
  taken = 56, // strings that the last call took
  status = 60, // 0, or TRANSFER_…
  number = 64, // the offending length
  size = 68, // of this record
}
export const TRANSFER_TOKEN_TOO_LONG = 1;
export const TRANSFER_MERGE_TOO_LONG = 2;
