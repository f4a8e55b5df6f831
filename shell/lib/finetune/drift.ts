// `llmfinetune drift`: whether what is measured of a model has become worse (SIS §15). Scores, each from 0 to 1, are looked at through a window of
// the last ones: their mean against a baseline. A drop of 5 points or more is a warning, of 15 critical; how sure that is follows from how
// many there are. Scores are anybody's, one a line; without a file those that `llmfinetune eval` wrote down.

import { utf8Decode } from '../../../kernel/abi/index.ts';
import { readFile } from '../files.ts';
import { jsonLine } from '../fmt.ts';
import type { OptionTable } from '../getopt.ts';
import { parseDecimal, parseInteger, wrong } from '../model.ts';
import type { Context } from '../program.ts';
import { readAll } from '../stdio.ts';
import { openPlace } from './store.ts';
import type { Run, commonOptions } from './verb.ts';

/** The specification's. */
const BASELINE = 0.9;
const WINDOW = 1000;
const WARNING = 0.05;
const CRITICAL = 0.15;
const CONFIDENCE = [
  [500, 0.95],
  [100, 0.85],
  [50, 0.7],
  [0, 0.5],
] as const;
/** What sums of decimals lack: .9 − .85 is a drop of 5 points. */
const ROUNDING = 1e-9;
const SCORES_BYTES = 16 << 20;

export const driftOptions = {
  baseline: { value: 'X', help: `drift: the score that is expected (default ${BASELINE})` },
  window: { value: 'N', help: `drift: look at the last N scores (default ${WINDOW})` },
} as const satisfies OptionTable;

type Ctx = Context<typeof driftOptions & typeof commonOptions>;

export type Verdict = 'ok' | 'warning' | 'critical';
export interface Drift {
  readonly samples: number; // in the window
  readonly mean: number;
  readonly drop: number; // below the baseline; below 0: better
  readonly verdict: Verdict;
  readonly confidence: number;
}

/** What these scores say; null where there are none. */
export function driftOf(scores: readonly number[], baseline = BASELINE, window = WINDOW): Drift | null {
  const seen = scores.slice(-window);
  if (seen.length === 0) return null;
  const mean = seen.reduce((sum, x) => sum + x, 0) / seen.length;
  const drop = baseline - mean;
  const verdict = drop >= CRITICAL - ROUNDING ? 'critical' : drop >= WARNING - ROUNDING ? 'warning' : 'ok';
  const [, confidence] = CONFIDENCE.find(([least]) => seen.length >= least)!;
  return { samples: seen.length, mean, drop, verdict, confidence };
}

/** Scores, one a line or as the `score` of a line of JSON; or the sentence about the first line that is none. */
export function parseScores(text: string): number[] | string {
  const scores: number[] = [];
  for (const [i, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const score = line.startsWith('{') ? scoreIn(line) : parseDecimal(line.trim());
    if (score === null || score < 0 || score > 1) return `line ${i + 1} is no score from 0 to 1`;
    scores.push(score);
  }
  return scores;
}

function scoreIn(line: string): number | null {
  try {
    const { score } = JSON.parse(line) as { score?: unknown };
    return typeof score === 'number' ? score : null;
  } catch {
    return null;
  }
}

/** 1 where something has become worse. */
export function* drift(ctx: Ctx, [name = '', file]: readonly string[]): Run {
  const { sys, options } = ctx;
  const baseline = options.baseline === undefined ? BASELINE : parseDecimal(options.baseline);
  if (baseline === null || baseline < 0 || baseline > 1)
    return yield* wrong(ctx, `--baseline '${options.baseline}' is not a number from 0 to 1`);
  const window = options.window === undefined ? WINDOW : parseInteger(options.window);
  if (window === null || window < 1) return yield* wrong(ctx, `--window '${options.window}' is not a count`);
  const place = yield* openPlace(ctx, name, false);
  if (typeof place === 'number') return place;
  const path = file ?? place.scoresPath;
  const bytes = path === '-' ? yield* readAll(sys, 0, SCORES_BYTES) : yield* readFile(sys, path, SCORES_BYTES);
  if (typeof bytes === 'number') return yield* ctx.failCall(path, -bytes);
  const scores = parseScores(utf8Decode(bytes));
  if (typeof scores === 'string') return yield* ctx.fail(`${path}: ${scores}`);
  const found = driftOf(scores, baseline, window);
  if (found === null) return yield* ctx.fail(`${path}: no scores`);
  const { samples, mean, drop, verdict, confidence } = found;
  yield* ctx.out.print(
    options.json
      ? jsonLine({ name, samples, baseline, mean, drop, verdict, confidence })
      : `${name}: ${verdict}: mean ${mean.toFixed(4)} of ${samples} ${samples === 1 ? 'score' : 'scores'}, ${(100 * Math.abs(drop)).toFixed(1)} points ${drop < 0 ? 'above' : 'below'} ${baseline}, confidence ${confidence}\n`,
  );
  return verdict === 'ok' ? 0 : 1;
}
