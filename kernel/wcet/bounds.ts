// Bounds of requests: what a prompt and its answer, or a text that is scored, take on a target at most and at least, before anything runs. A
// request is a sequence of steps; each is looked up in the plan's prices, so a bound costs a few additions a token and is no looser than
// the steps themselves. The dearest step is found by looking at every one.

import { isRefusal, type Refusal } from '../abi/index.ts';
import type { Bound, Draw, Prices } from './price.ts';

/** What is asked: tokens in, tokens out at most, how they are drawn, and how many of the largest logits are reported with each. */
export interface Request {
  readonly prompt: number;
  readonly generate: number;
  readonly draw: Draw;
  readonly logitsK: number;
}

export interface RequestBounds {
  /** Until the first token is drawn. */
  readonly prefill: Bound;
  /** The dearest decode step, and the cheapest; 0 when there is none. */
  readonly decode: Bound;
  /** Position of the dearest. */
  readonly decodeWorstPos: number;
  /** All decode steps at most, divided by their number. */
  readonly decodeMeanMost: number;
  /** At most: with every token; at least: the first token ends it. */
  readonly total: Bound;
  /** With every token. */
  readonly full: Bound;
}

/** What is asked of a plan's prices. */
export type Priced = Pick<Prices, 'ctx' | 'batch' | 'segment' | 'step' | 'topK'>;

const add = (a: Bound, b: Bound): Bound => ({ most: a.most + b.most, least: a.least + b.least });
const NOTHING: Bound = { most: 0, least: 0 };

export function requestBounds(prices: Priced, { prompt, generate, draw, logitsK }: Request): RequestBounds {
  const top = logitsK > 0 ? prices.topK(logitsK) : NOTHING;
  const drawing = (n: number, pos: number): Bound => add(prices.step(n, pos, true, draw, pos + n), top);
  let prefill = NOTHING;
  for (let pos = 0; pos < prompt; pos += prices.batch) {
    const n = Math.min(prices.batch, prompt - pos);
    prefill = add(prefill, pos + n < prompt ? prices.segment('body', n, pos) : drawing(n, pos));
  }
  // The token drawn last goes through the plan before the next draw, while the context has room for it.
  const steps = Math.max(0, Math.min(generate, prices.ctx - prompt) - 1);
  let all = NOTHING;
  let [most, least, worst] = [0, Infinity, prompt];
  for (let pos = prompt; pos < prompt + steps; pos++) {
    const step = drawing(1, pos);
    all = add(all, step);
    if (step.most > most) [most, worst] = [step.most, pos];
    least = Math.min(least, step.least);
  }
  const full = add(prefill, all);
  return {
    prefill,
    decode: steps === 0 ? NOTHING : { most, least },
    decodeWorstPos: worst,
    decodeMeanMost: steps === 0 ? 0 : Math.ceil(all.most / steps),
    total: { most: full.most, least: prefill.least },
    full,
  };
}

/**
 * Perplexity of a text: chunks of context − 1 tokens, each behind a first token (`prefix` 1) if the model has one, in batches; every text
 * token but the first of a chunk is scored from the position before it.
 */
export function scoreBounds(prices: Priced, tokens: number, prefix: 0 | 1): Bound {
  const chunk = prices.ctx - 1;
  const whole = Math.floor(tokens / chunk);
  const [first, last] = [
    chunkBounds(prices, prefix + chunk, prefix),
    chunkBounds(prices, prefix + (tokens % chunk), prefix),
  ];
  const all = { most: whole * first.most, least: whole * first.least };
  return tokens % chunk === 0 ? all : add(all, last);
}

function chunkBounds(prices: Priced, length: number, prefix: 0 | 1): Bound {
  let sum = NOTHING;
  for (let pos = 0; pos < length; pos += prices.batch) {
    const n = Math.min(prices.batch, length - pos);
    sum = add(sum, prices.segment('body', n, pos));
    for (let at = pos; at < pos + n; at++)
      if (at + 1 > prefix && at + 1 < length)
        sum = add(sum, add(prices.segment('head', 1, at), prices.segment('score', 1, at)));
  }
  return sum;
}

/** A text to be turned into ids by the kernels of a vocabulary. */
export interface Encoding {
  readonly bytes: number;
  /** Bytes of text that working memory holds at once, and ids that are taken from it at once. */
  readonly room: number;
  readonly capacity: number;
  readonly vocabAt: number;
  /** An i32 of the vocabulary's header. */
  readonly word: (address: number) => number | null;
}

/**
 * Of a text that working memory holds (with one byte more, a space before it) each kernel runs once: it is cut into words, they are merged,
 * the ids written. A longer one goes through in parts: two in a row are no shorter together than the memory, or a word would not have fitted.
 */
export function encodingBounds(prices: Pick<Prices, 'kernel'>, e: Encoding): Bound | Refusal {
  if (e.bytes === 0) return NOTHING;
  const whole = e.bytes < e.room;
  const parts = whole ? 1 : 2 * Math.ceil(e.bytes / (e.room - 1)) + 2;
  const bytes = whole ? [e.bytes, e.bytes + 1] : [e.room];
  const writes = Math.ceil((2 * (e.bytes + 1)) / e.capacity); // at least half as many bytes as ids
  const kernels: [name: string, calls: number, more: readonly number[]][] = [
    ['tokenize_cut', parts, []],
    ['tokenize_merge', parts, []],
    ['tokenize_write', parts + writes - 1, [0, e.capacity]], // where to does not matter
  ];
  if (!whole) kernels.push(['tokenize_shift', parts, []], ['tokenize_split', 2 * parts, []]);
  let sum = NOTHING;
  for (const [name, calls, more] of kernels) {
    const each = bytes.map(n =>
      prices.kernel(name, name === 'tokenize_shift' ? [0, 1, n] : [e.vocabAt, 0, n, ...more], e.word),
    );
    const refusal = each.find(isRefusal);
    if (refusal !== undefined) return refusal;
    const bounds = each as Bound[];
    const once = name !== 'tokenize_shift' && name !== 'tokenize_split';
    sum = add(sum, {
      most: calls * Math.max(...bounds.map(b => b.most)),
      least: once ? Math.min(...bounds.map(b => b.least)) : 0,
    });
  }
  return sum;
}
