// What turning a text into token ids takes at most and at least, by its length and the vocabulary alone. The tokenizer's kernels are certified
// for a number of bytes each; a text that its working memory holds at once goes through each of them once. They count for themselves,
// as the sampler does, so what is spent lies between these bounds.

import { isRefusal } from '../abi/index.ts';
import type { Refusal } from '../abi/index.ts';
import { countsAt } from './certificate.ts';
import type { Certificates, WordReader } from './certificate.ts';
import { meteredPrices } from './price.ts';
import type { Bound } from './price.ts';
import { MILLI, lowerMilli } from './targets.ts';
import type { Target } from './targets.ts';

export interface TextSource {
  /** Of the text. */
  readonly bytes: number;
  /** The vocabulary, in the arena that `word` reads. */
  readonly vocabularyAt: number;
  readonly word: WordReader;
  readonly workAt: number;
  /** The ids that are taken at a time: some for each byte of a text that the working memory holds. */
  readonly ids: number;
}

/** The text in one piece: with the space that some vocabularies put before it, one byte more. */
export function textBound(certificates: Certificates, target: Target, text: TextSource): Bound | Refusal {
  const { bytes, vocabularyAt, workAt, ids } = text;
  if (bytes === 0) return { most: 0, least: 0 };
  const write = (capacity: number): Call => ['tokenize_write', [vocabularyAt, workAt, bytes + 1, 0, capacity]];
  // All calls together take a step for each byte, and a call one more when it ends within a step. It ends when `ids` are written, and a byte
  // may be a special token and begin a word too, which is two; or after `ids` steps.
  const calls = 1 + Math.floor((3 * (bytes + 1)) / ids);
  const all: readonly (readonly [Call, times: number])[] = [
    [['tokenize_cut', [vocabularyAt, workAt, bytes]], 1],
    [['tokenize_merge', [vocabularyAt, workAt, bytes + 1]], 1],
    [write(bytes + 1), 1],
    [write(1), calls - 1],
  ];
  const prices = meteredPrices(target, 'random');
  let most = 0;
  let least = 0;
  for (const [[name, args], times] of all) {
    const c = certificates.get(name);
    if (isRefusal(c)) return c;
    const counts = countsAt(c, args, text.word);
    if (isRefusal(counts)) return counts;
    most += times * counts.most.reduce((sum, n, cls) => sum + Number(n) * (prices[cls] ?? 0), 0);
    if (times > 0) least = Math.max(least, lowerMilli(target, counts.least.map(Number)));
  }
  return { most: Math.ceil(most / MILLI), least: Math.floor(least / MILLI) };
}
type Call = readonly [kernel: string, args: readonly number[]];
