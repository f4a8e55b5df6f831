// Programs of verbs: each verb is a row of a table that says which options it takes, and how many operands. What a command line has besides is
// refused in one sentence before anything runs.

import type { Context } from './program.ts';

interface Verb<C> {
  readonly usage: string;
  readonly takes: readonly string[];
  readonly operands: readonly [least: number, most: number];
  run(ctx: C, operands: readonly string[]): Generator<void, number, void>;
}
/** Of an option: whether it is there, its value, or all of them. */
type Value = boolean | string | readonly string[] | undefined;
type Caller = Pick<Context, 'usage'> & { readonly options: Readonly<Record<string, Value>> };

/** Runs a verb, called `name` in messages, whose options are those of `own` that it takes: its exit status. */
export function* runVerb<C extends Caller>(
  ctx: C,
  name: string,
  verb: Verb<C>,
  own: readonly string[],
  operands: readonly string[],
): Generator<void, number, void> {
  const stray = own.find(option => !verb.takes.includes(option) && isGiven(ctx.options[option]));
  if (stray !== undefined) return yield* ctx.usage(`${name} takes no --${stray}`);
  const [least, most] = verb.operands;
  if (operands.length < least) return yield* ctx.usage(`${name}: missing operand: ${verb.usage}`);
  if (operands.length > most) return yield* ctx.usage(`${name}: extra operand '${operands[most]}'`);
  return yield* verb.run(ctx, operands);
}

const isGiven = (value: Value): boolean =>
  Array.isArray(value) ? value.length > 0 : value !== undefined && value !== false;
