// Layouts that the tokenizer's driver (tokenizer.ts) and its kernels (simd/tokenize.ts) share: the vocabulary in the arena, the working
// memory of one encode, and the transfer record used while a vocabulary is built. Compiled by TypeScript and by AssemblyScript, so it
// holds enums and integer constants only. Enum values are byte offsets of 32-bit words.
//
// A vocabulary of N tokens, one piece after the other:
//
//   Vocab header │ bytes u32[256] │ tokens u32[N + 1] │ index u32[N] │ buckets u32[B + 1] │ priorities │ specials u32[S] │ text
//
//   token      31 ─ end ─ 30 ─ raw ─ 29 … 27 type ─ 26 … 0 offset of its text; it ends where the next one's begins
//   text       what the token stands for: bytes, not GGUF's spelling (byte-level letters are decoded, ▁ is a space, <0x41> is A)
//   index      ids by hash of their text, bucket by bucket: 31 … 20 hash tag, 19 … 0 id
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
  longest = 60, // bytes of the longest text that the index holds
  longestSpecial = 64,
  startsAll = 68, // 256 bits: the bytes that special tokens begin with
  startsUser = 100, // the same for user-defined ones
  bytes = 160, // of this header
}
export const VOCAB_BPE = 1; // byte-level BPE with merges; otherwise SentencePiece BPE with scores
export const VOCAB_IGNORE_MERGES = 2; // a whole word that is a token is not built from merges
export const VOCAB_SPACE_PREFIX = 4;
export const VOCAB_CROSSING = 8; // llama: some token has a space after another character, so words cannot be cut apart

/** Pre-tokenizers: how byte-level text is cut into words before merging. */
export enum Pre {
  gpt2 = 0,
  llama3 = 1,
  qwen2 = 2,
  smollm = 3,
  fallback = 4, // 'default'
}

/**
 * Working memory of one encode: this header, `symbols` + 1 words where symbols begin, `symbols` priorities, then the text. Positions count
 * bytes from textAt; position 0 is kept free for the space that SentencePiece puts before a text.
 */
export enum Work {
  vocabAt = 0,
  flags = 4, // ENCODE
  textAt = 8,
  textBytes = 12,
  position = 16, // text before it has become tokens
  length = 20, // text that was put
  final = 24,
  plainTo = 28, // no special token begins before this position
  special = 32, // the special token that begins at plainTo, -1 = none found yet
  fresh = 36, // 1: at the beginning of a piece of plain text that gets the space prefix
  pending = 40, // an id to write first, -1 = none
  startsAt = 44,
  prioritiesAt = 48,
  symbols = 52, // capacity: the longest word
  symbol = 56, // next symbol to write
  symbolCount = 60,
  symbolBytes = 64, // of that symbol, already written one by one
  status = 68, // 0, or ENCODE_…
  wordBytes = 72, // of the word that was refused
  lookups = 76, // trip counts, for pricing: texts looked up in the index,
  scans = 80, // symbols passed over by the merge loop,
  characters = 84, // characters classified by the pre-tokenizer, bytes searched for special tokens
  bytes = 96, // of this header
}
export const ENCODE_WORD_TOO_LONG = 1; // more symbols than there is memory for
export const ENCODE_TEXT_TOO_LONG = 2; // the text up to the next possible cut fills the buffer

/** Transfer record: strings of a GGUF array lie at `at`, as u64 length and bytes each. One call takes as many whole strings as there are. */
export enum Transfer {
  vocabAt = 0, // 0 while measuring
  flags = 4, // VOCAB_…
  at = 8,
  bytes = 12,
  typesAt = 16, // i32 types of the tokens from `next` on, or 0 = all normal
  types = 20, // how many
  namesAt = 24, // tokens that are control tokens whatever their type: u8 length, u8 1 = ends generation, bytes …; length 0 ends the list
  next = 28, // token or merge that comes next
  count = 32,
  textBytes = 36, // of the tokens so far
  specials = 40,
  longestSpecial = 44,
  status = 48, // 0, or TRANSFER_…
  number = 52, // the offending length
  scratchAt = 56, // MERGE_BYTES_MAX bytes, to join a merge in
  size = 64, // of this record
}
export const TRANSFER_TOKEN_TOO_LONG = 1;
export const TRANSFER_MERGE_TOO_LONG = 2;
