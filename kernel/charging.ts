// What a session is charged, and whether that is what was said before it ran. A session pays as if it were alone on the machine: its prompt
// in whole batches from position 0, then its tokens one by one, whoever else was in the same pass and whatever was shared. What batching
// and sharing save is the machine's. Every charge is held against the plan's prices, as aiT's users hold measured times against computed ones.

import { RNG, SESSION_KIND, type Engine, type FinishReason, type SessionOptions } from './abi/index.ts';
import type { PlanPrices } from './costs.ts';
import type { Service } from './service.ts';
import { drawOf, type Breach, type Session } from './session.ts';
import { requestBounds, scoreBounds } from './wcet/bounds.ts';
import type { Bound, Draw, Segment } from './wcet/price.ts';

type Options = ReturnType<typeof SessionOptions.read>;

/** Tokens put before every chunk of a text that is scored. */
export const prefixOf = (engine: Engine): 0 | 1 => (engine.vocabulary.bos >= 0 ? 1 : 0);

/** Positions that a session has tokens for: of a score session, those of the chunk it is in. */
export function lengthOf(s: Session, engine: Engine): number {
  if (!s.isScore) return s.get('promptTokens') + s.get('outputTokens');
  return prefixOf(engine) + Math.min(engine.options.ctx - 1, s.idCount - s.get('promptTokens'));
}

/** Position up to which tokens come in batches; behind it one by one. */
const batchedTo = (s: Session, engine: Engine): number => (s.isScore ? lengthOf(s, engine) : s.get('promptTokens'));

export class Charging {
  constructor(private readonly k: Service) {}

  private get prices(): PlanPrices {
    return this.k.loader.prices();
  }

  // ── Before it runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Of a whole request. */
  request(engine: Engine, o: Options, tokens: number, maxTokens: number): Bound {
    if (o.kind === SESSION_KIND.score) return scoreBounds(this.prices, tokens, prefixOf(engine));
    const asked = { prompt: tokens, generate: maxTokens, draw: drawOf(o), logitsK: o.logitsK };
    return requestBounds(this.prices, asked).total;
  }

  /** The most that a draw takes when `historyLength` tokens are there: head, sampler, the largest logits. */
  tailMost(draw: Draw, logitsK: number, historyLength: number): number {
    const { prices } = this;
    const last = historyLength - 1;
    const sampled = prices.computed('sample', 1, last) + prices.draw(draw, historyLength).most;
    return prices.headMost(1) + sampled + (logitsK > 0 ? prices.topK(logitsK).most : 0);
  }

  /** The most that a step of one session takes alone: `n` rows from `pos` on, and the draw behind the last; of scored rows each its head and loss. */
  step(s: Session, engine: Engine, pos: number, n: number): number {
    const { prices } = this;
    let positions = 0;
    for (let p = pos; p < pos + n; p++) positions += prices.bodyPosition(p);
    let cycles = prices.passMost(n, positions);
    if (s.isScore) for (let p = pos; p < pos + n; p++) cycles += this.isScored(s, engine, p) ? this.lossMost(p) : 0;
    else if (pos + n === lengthOf(s, engine)) cycles += this.tailMost(s.draw, s.get('logitsK'), pos + n);
    return cycles;
  }

  /** Nothing predicts the first text token of a chunk; nothing follows the last. */
  isScored(s: Session, engine: Engine, pos: number): boolean {
    return pos >= s.get('scoredTo') && pos + 1 > prefixOf(engine) && pos + 1 < lengthOf(s, engine);
  }
  /** The most that the loss behind a scored position takes: head and probability. */
  lossMost(pos: number): number {
    return this.prices.headMost(1) + this.prices.computed('score', 1, pos);
  }

  // ── While it runs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** hot: its tokens up to `pos` are in the pool: charges the batches that are complete, as they would have run alone. */
  body(s: Session, engine: Engine, pos: number): void {
    const { batch } = engine.options;
    const to = batchedTo(s, engine);
    for (let from = s.get('priced'); from < pos; from = s.get('priced')) {
      const end = from < to ? Math.min(to, from - (from % batch) + batch) : from + 1;
      if (end > pos) return;
      s.stepCycles = 0;
      s.charge(this.prices.charged('body', end - from, from));
      s.set('priced', end);
    }
  }

  /** Ops of plans are charged exactly what they were priced; only the sampler's share depends on data. */
  isCharged(s: Session, what: Segment, pos: number, cycles: number, price: number): boolean {
    return cycles === price || this.isWithin(s, what, pos, cycles, { most: price, least: price });
  }

  /** The step that has just drawn a token, `pos` being the last that went through the plan. */
  isDrawn(s: Session, engine: Engine, pos: number): boolean {
    const length = pos + 1;
    const prompt = s.get('promptTokens');
    const from = pos < prompt ? pos - (pos % engine.options.batch) : pos;
    const { most, least } = this.prices.step(length - from, from, true, s.draw, length);
    const k = s.get('logitsK');
    const bound = { most: most + (k > 0 ? this.prices.topK(k).most : 0), least };
    return this.isWithin(s, 'step', from, s.stepCycles, bound);
  }

  /** A session that drew its first token, or scored its whole text, has cost at least what its request must. */
  isEnded(s: Session, why: FinishReason): boolean {
    const whole = s.isScore ? why === 'length' : s.get('outputTokens') > 0;
    const bound = { most: s.u64('wcetCycles'), least: whole ? s.u64('bcetCycles') : 0 };
    return this.isWithin(s, 'session', s.get('pos'), s.u64('cycles'), bound);
  }

  /** False, and it is told, when the charge lies outside its bound. */
  private isWithin(s: Session, what: Breach['what'], pos: number, charged: number, { most, least }: Bound): boolean {
    if (charged <= most && charged >= least) return true;
    const outputTokens = s.get('outputTokens');
    this.k.breached({ what, session: s.id, outputTokens, pos, charged, most, least });
    return false;
  }

  /** Draws 32 bits for a session. */
  random(s: Session): number {
    const { rng, arena } = this.k;
    return (s.get('rng') === RNG.lcg ? rng.lcg : rng.xor128).next(arena, s.rngAt);
  }
  seed(s: Session, seed: number): void {
    const { rng, arena } = this.k;
    (s.get('rng') === RNG.lcg ? rng.lcg : rng.xor128).seed(arena, s.rngAt, seed);
  }
}
