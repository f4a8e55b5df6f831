// How tokens are drawn, as command lines say it: the sampler's options with their ranges and defaults, in one place for the program that
// draws and for the one that foretells what drawing costs.

import { LIMITS } from '../../kernel/abi/index.ts';
import type { OptionTable } from './getopt.ts';
import { parseDecimal, parseInteger } from './model.ts';

export const SAMPLER_DEFAULTS = { temp: 0.8, topK: 40, topP: 0.95, minP: 0, repeatPenalty: 1 } as const;

export const samplerOptions = {
  temp: { value: 'T', help: 'temperature, 0 to 100 (default 0.8); 0 takes the most likely token' },
  'top-k': { value: 'K', help: 'draw among the K most likely (default 40); 0 is off' },
  'top-p': { value: 'P', help: 'draw among the likeliest that reach probability P (default 0.95); 1 is off' },
  'min-p': { value: 'P', help: 'drop tokens below P times the likeliest (default 0, off)' },
  'repeat-penalty': { value: 'R', help: 'divide the logits of tokens already there by R (default 1, off)' },
} as const satisfies OptionTable;

/** How the value of a number option is read, what it is without the option, and in which words a wrong one is refused. */
export interface NumberRule {
  readonly option: string;
  readonly otherwise: number;
  readonly parse: (text: string) => number | null;
  readonly isValid: (n: number) => boolean;
  readonly range: string;
}

export const integer = (option: string, least: number, most: number, otherwise: number): NumberRule => ({
  option,
  otherwise,
  parse: parseInteger,
  isValid: n => n >= least && n <= most,
  range: `an integer from ${least} to ${most}`,
});

export const decimal = (option: string, most: number, otherwise: number): NumberRule => ({
  option,
  otherwise,
  parse: parseDecimal,
  isValid: n => n >= 0 && n <= most,
  range: `a number from 0 to ${most}`,
});

/** The value is stored as f32: one that rounds to 0 there is 0. */
export const positive = (option: string, most: number, otherwise: number): NumberRule => ({
  ...decimal(option, most, otherwise),
  isValid: n => Math.fround(n) > 0 && n <= most,
  range: `a number from 0 to ${most}, 0 excluded`,
});

export const samplerRules = {
  temp: decimal('temp', 100, SAMPLER_DEFAULTS.temp),
  topK: integer('top-k', 0, LIMITS.vocabularyMax, SAMPLER_DEFAULTS.topK),
  topP: positive('top-p', 1, SAMPLER_DEFAULTS.topP),
  minP: decimal('min-p', 1, SAMPLER_DEFAULTS.minP),
  repeatPenalty: positive('repeat-penalty', 100, SAMPLER_DEFAULTS.repeatPenalty),
} as const;

/** The numbers that a command line gives, by the names of their rules; or what is wrong with the first that is. */
export function numbersOf<const R extends Readonly<Record<string, NumberRule>>>(
  rules: R,
  given: Readonly<Record<string, unknown>>,
): { readonly [K in keyof R]: number } | string {
  const values: Record<string, number> = {};
  for (const [name, rule] of Object.entries(rules)) {
    const text = given[rule.option];
    const n = typeof text === 'string' ? rule.parse(text) : rule.otherwise;
    if (n === null || (typeof text === 'string' && !rule.isValid(n)))
      return `--${rule.option} '${text}' is not ${rule.range}`;
    values[name] = n;
  }
  return values as { [K in keyof R]: number };
}
