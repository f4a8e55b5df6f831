// The compute device as engine drivers see it: what they call of the WebAssembly module (drivers/engine/simd). All arguments and results
// are i32; addresses are arena offsets. The kernel sees only the Compute part.

import type { Compute } from '../../kernel/abi/index.ts';

export interface EngineCompute extends Compute {
  /**
   * Writes f32[pairs][2] at `toAt`: base^(−1/pairs), the ratio of an angle to the one before, and the divisor that only this pair's angle
   * gets. The base is the f64 at `baseAt`, the divisors f32[pairs] at `factorsAt`; 0 = all 1.
   */
  rope_frequencies(baseAt: number, factorsAt: number, pairs: number, toAt: number): void;
  /**
   * Writes f32[2 + pairs] at `toAt`: what all angles are multiplied by, what cosines and sines are, and for each pair the share of its angle that
   * is left as it was (YaRN's ramp; 0 = none). From f64[5] at `fromAt`: base, scale of the angles, scale of cosines and sines, 1 for YaRN
   * or 0, and the positions the model was first trained on.
   */
  rope_scaling(fromAt: number, pairs: number, toAt: number): void;

  // Vocabulary and tokenizer: addresses of a Vocab, Work or Transfer record (vocabulary.ts).
  /** Takes whole token strings from a Transfer; returns the bytes taken. Measures only, when it names no vocabulary. */
  vocab_tokens(transferAt: number): number;
  /** When the tokens are stored: the sizes of the index's buckets. Then vocab_index completes index, byte tokens and special tokens. */
  vocab_count(vocabAt: number): void;
  vocab_index(vocabAt: number): void;
  /** Takes whole merge strings from a Transfer, to count (0) or to place (1) them; returns the bytes taken. */
  vocab_merges(transferAt: number, place: number): number;
  /** Between counting and placing. */
  vocab_merge_groups(vocabAt: number): void;
  /** Cuts `bytes` bytes of text that are new (length − scanned) into words and special tokens, as far as can be told. */
  tokenize_cut(vocabAt: number, workAt: number, bytes: number): void;
  /** Merges the symbols of `bytes` bytes of words (begin − merged). */
  tokenize_merge(vocabAt: number, workAt: number, bytes: number): void;
  /** hot: writes up to `capacity` u32 ids at `outAt` of `bytes` bytes of merged words (merged − written); returns how many, maybe 0. */
  tokenize_write(vocabAt: number, workAt: number, bytes: number, outAt: number, capacity: number): number;
  /** Cuts a word that fills the room at a place in its last `bytes` bytes that no token can cross; 0: there is none. */
  tokenize_split(vocabAt: number, workAt: number, bytes: number): number;
  /** Moves the text's last `bytes` bytes, which begin at `from`, to position 1. */
  tokenize_shift(workAt: number, from: number, bytes: number): void;
}
