// How a training is asked for: one table of options, their ranges and defaults (those of the specification, §15), and one reading of them for
// planning and for training.

import {
  LIMITS,
  OPTIMIZERS,
  TRAIN_KEEP_ALL,
  TRAIN_METHODS,
  TRAIN_TARGETS,
  TrainOptions,
} from '../../../kernel/abi/index.ts';
import type { RecordValue, TrainMethod } from '../../../kernel/abi/index.ts';
import type { OptionTable, ParsedOptions } from '../getopt.ts';
import type { Json } from '../fmt.ts';
import { decimal, integer, numbersOf, positive } from '../sampling.ts';
import type { VectorName } from './device.ts';
import { SEPARATOR_DEFAULT } from './examples.ts';
import { SCHEDULES } from './schedule.ts';
import type { ScheduleName } from './schedule.ts';

export const settingOptions = {
  method: {
    value: 'M',
    help: 'lora (default): gradients by reverse mode; fmea: by forward mode along random directions; nes: by differences of losses at perturbed parameters; full: all weights of a small F32 model',
  },
  targets: { value: 'LIST', help: `matrices that get a pair: q,v (default), of ${TRAIN_TARGETS.join(',')}` },
  rank: { value: 'R', help: `of each pair, 1 to ${LIMITS.rankMax} (default 4)` },
  alpha: { value: 'A', help: 'a pair adds A / R of its product (default 16)' },
  lr: { value: 'L', help: 'learning rate (default 0.001)' },
  epochs: { value: 'E', help: 'times that each example is seen (default 1)' },
  steps: { value: 'N', help: 'instead of --epochs: N updates, however many epochs these are' },
  batch: { value: 'B', help: `sequences at once, 1 to ${LIMITS.trainBatchMax} (default 1)` },
  accumulate: { value: 'G', help: 'batches up to an update (default 1)' },
  ctx: { value: 'N', help: `tokens of a sequence at most (default ${LIMITS.trainContextDefault}, or what fits)` },
  val: { value: 'FRACTION', help: 'part of the examples that is held out, for measuring (default 0.1); 0: none' },
  seed: { value: 'S', help: 'of the first values, of the order and of what is held out (default 42)' },
  optimizer: { value: 'NAME', help: 'adam (default) or sgd' },
  schedule: { value: 'NAME', help: 'of the learning rate: constant (default), linear or cosine, down to 0' },
  warmup: { value: 'N', help: 'steps that the learning rate rises over (default 0)' },
  decay: { value: 'W', help: 'weight decay, decoupled (default 0)' },
  clip: { value: 'C', help: "the gradient's norm at most (default 1); 0: any" },
  anchor: { value: 'LAMBDA', help: 'penalty on the squared distance from the first values (default 0)' },
  'max-delta': { value: 'N', help: 'end before the parameters are farther than N from their first values' },
  patience: { value: 'P', help: 'end when the held-out loss has not fallen P times in a row' },
  rollback: {
    value: 'yes|no',
    help: 'keep the parameters with the least held-out loss, not the last ones (default yes)',
  },
  directions: { value: 'K', help: `of fmea and nes: directions of a batch, 1 to ${LIMITS.directionsMax} (default 4)` },
  sigma: { value: 'S', help: 'of nes: how far parameters are perturbed (default 0.02)' },
  ranked: { help: 'of nes: weigh losses by their ranks' },
  share: {
    value: 'PCT',
    help: 'of the processor, promised to the training (default 10); 0: only what nobody else wants',
  },
  checkpoint: {
    value: 'K',
    help: 'layers from one kept residual stream to the next, or all: nothing is computed twice (default: the fewest that fit)',
  },
  'mask-prompt': { value: 'yes|no', help: 'only tokens of completions count (default yes)' },
  bad: { value: 'WHAT', help: 'with lines that are no examples: stop (default) or skip them' },
  separator: { value: 'LINE', help: `of plain text, the line between documents (default ${SEPARATOR_DEFAULT})` },
  every: {
    value: 'N',
    help: 'steps from one checkpoint and look at the held-out part to the next (default: 50, and each epoch)',
  },
} as const satisfies OptionTable;

export type SettingValues = ParsedOptions<typeof settingOptions>;
export const settingNames = Object.keys(settingOptions) as readonly (keyof typeof settingOptions)[];

/** Everything that decides what a training computes. Kept as JSON with a run, so that it goes on as it began. */
export interface Settings {
  readonly method: TrainMethod;
  readonly targets: readonly string[];
  readonly rank: number;
  readonly alpha: number;
  readonly lr: number;
  readonly epochs: number; // 0: `steps` says
  readonly steps: number; // 0: `epochs` says
  readonly batch: number;
  readonly accumulate: number;
  readonly ctx: number; // 0: what fits
  readonly val: number;
  readonly seed: number;
  readonly optimizer: (typeof OPTIMIZERS)[number];
  readonly schedule: ScheduleName;
  readonly warmup: number;
  readonly decay: number;
  readonly clip: number;
  readonly anchor: number;
  readonly max_delta: number; // 0: none
  readonly patience: number; // 0: none
  readonly rollback: boolean;
  readonly directions: number;
  readonly sigma: number;
  readonly ranked: boolean;
  readonly share: number;
  readonly checkpoint: number; // 0: what fits; TRAIN_KEEP_ALL
  readonly mask_prompt: boolean;
  readonly bad: 'skip' | 'stop';
  readonly separator: string;
  readonly every: number; // 0: not said
}

const COUNT_MAX = 1_000_000_000;
const numbers = {
  rank: integer('rank', 1, LIMITS.rankMax, 4),
  alpha: positive('alpha', 65536, 16),
  lr: positive('lr', 100, 0.001),
  epochs: integer('epochs', 1, 1_000_000, 1),
  steps: integer('steps', 1, COUNT_MAX, 0),
  batch: integer('batch', 1, LIMITS.trainBatchMax, 1),
  accumulate: integer('accumulate', 1, 4096, 1),
  ctx: integer('ctx', 2, LIMITS.contextMax, 0),
  seed: integer('seed', 0, 2 ** 32 - 1, 42),
  warmup: integer('warmup', 0, COUNT_MAX, 0),
  decay: decimal('decay', 1, 0),
  clip: decimal('clip', 1e9, 1),
  anchor: decimal('anchor', 1e9, 0),
  max_delta: positive('max-delta', 1e9, 0),
  patience: integer('patience', 1, COUNT_MAX, 0),
  directions: integer('directions', 1, LIMITS.directionsMax, 4),
  sigma: positive('sigma', 100, 0.02),
  share: decimal('share', LIMITS.utilisationPpm / 10_000, 10),
  every: integer('every', 1, COUNT_MAX, 0),
  val: {
    ...decimal('val', 1, 0.1),
    isValid: (n: number) => n >= 0 && n < 1,
    range: 'a number from 0 to 1, 1 excluded',
  },
} as const;

/** What these options ask for, or what is wrong with them. */
export function settingsOf(given: SettingValues): Settings | string {
  const n = numbersOf(numbers, given);
  if (typeof n === 'string') return n;
  const words = wordsOf(given);
  if (typeof words === 'string') return words;
  const { method } = words;
  const stray = strayOption(given, method);
  if (stray !== '') return stray;
  const targets = targetsOf(given.targets);
  if (typeof targets === 'string') return targets;
  const kept =
    given.checkpoint === 'all'
      ? TRAIN_KEEP_ALL
      : numbersOf({ n: integer('checkpoint', 1, LIMITS.layersMax, 0) }, given);
  if (typeof kept === 'string') return `${kept}, nor all`;
  const separator = given.separator ?? SEPARATOR_DEFAULT;
  if (!/^[\x20-\x7e]{1,80}$/.test(separator)) return `--separator '${separator}' is not 1 to 80 characters of ASCII`;
  if (given.steps !== undefined && given.epochs !== undefined) return '--steps and --epochs exclude each other';
  return {
    ...n,
    ...words,
    targets,
    epochs: given.steps !== undefined ? 0 : n.epochs,
    ranked: given.ranked,
    checkpoint: typeof kept === 'number' ? kept : kept.n,
    separator,
  };
}

const words = {
  method: TRAIN_METHODS,
  optimizer: OPTIMIZERS,
  schedule: SCHEDULES,
  bad: ['stop', 'skip'],
  rollback: ['yes', 'no'],
  'mask-prompt': ['yes', 'no'],
} as const;

type Words = Pick<Settings, 'method' | 'optimizer' | 'schedule' | 'bad' | 'rollback' | 'mask_prompt'>;

function wordsOf(given: SettingValues): Words | string {
  for (const [name, known] of Object.entries(words)) {
    const text = given[name as keyof typeof words];
    if (text !== undefined && !(known as readonly string[]).includes(text))
      return `--${name} '${text}' is not ${known.slice(0, -1).join(', ')} or ${known.at(-1)}`;
  }
  return {
    method: (given.method ?? 'lora') as Settings['method'],
    optimizer: (given.optimizer ?? 'adam') as Settings['optimizer'],
    schedule: (given.schedule ?? 'constant') as ScheduleName,
    bad: (given.bad ?? 'stop') as Settings['bad'],
    rollback: given.rollback !== 'no',
    mask_prompt: given['mask-prompt'] !== 'no',
  };
}

/** What an option that the method knows nothing of is told; '' when there is none. */
function strayOption(given: SettingValues, method: TrainMethod): string {
  const only: readonly (readonly [keyof SettingValues, readonly TrainMethod[]])[] = [
    ['targets', ['lora', 'fmea', 'nes']],
    ['rank', ['lora', 'fmea', 'nes']],
    ['alpha', ['lora', 'fmea', 'nes']],
    ['checkpoint', ['lora', 'full']],
    ['directions', ['fmea', 'nes']],
    ['sigma', ['nes']],
    ['ranked', ['nes']],
  ];
  const wrong = only.find(([name, of]) => given[name] !== undefined && given[name] !== false && !of.includes(method));
  return wrong === undefined ? '' : `--${wrong[0]} is nothing of --method ${method}`;
}

function targetsOf(text = 'q,v'): readonly string[] | string {
  const names = text.split(',');
  const wrong = names.find(
    (name, i) => !(TRAIN_TARGETS as readonly string[]).includes(name) || names.indexOf(name) < i,
  );
  if (wrong !== undefined) return `--targets '${text}' is not a list of ${TRAIN_TARGETS.join(', ')}, each once at most`;
  return TRAIN_TARGETS.filter(name => names.includes(name));
}

const isAnchored = (s: Settings): boolean => s.anchor > 0 || s.max_delta > 0;

/** The vectors that are a training's state between updates. */
export const vectorsOf = (s: Settings): readonly VectorName[] => [
  'parameters',
  'first',
  ...(s.optimizer === 'adam' ? (['second'] as const) : []),
  ...(isAnchored(s) ? (['anchor'] as const) : []),
];

/** The TrainOptions record of these settings. */
export function trainOptionsOf(s: Settings): Uint8Array {
  const record = new Uint8Array(TrainOptions.bytes);
  const options: RecordValue<typeof TrainOptions.fields> = {
    method: TRAIN_METHODS.indexOf(s.method),
    targets: TRAIN_TARGETS.reduce((bits, name, i) => (s.targets.includes(name) ? bits | (1 << i) : bits), 0),
    rank: s.rank,
    alpha: s.alpha,
    ctx: s.ctx,
    batch: s.batch,
    optimizer: OPTIMIZERS.indexOf(s.optimizer),
    anchored: isAnchored(s) ? 1 : 0,
    checkpoint: s.checkpoint,
    picks: 0,
    seed: s.seed,
    sharePpm: Math.round(s.share * 10_000),
    periodNs: 0,
  };
  TrainOptions.write(record, 0, options);
  return record;
}

/** Settings as JSON states them. */
export const settingsJson = (s: Settings): Readonly<Record<string, Json>> => ({ ...s });
