// Budgets for a build server: a file of limits, one object of numbers, held against the bounds of a forecast. Only what is proven counts: a
// limit is met when the upper bound is within it, or for what is to be large, when the lower one is.

import { bounds, standing } from './forecast.ts';
import type { Forecast, Quantity } from './forecast.ts';
import type { Json } from './fmt.ts';

export interface Check {
  readonly key: string;
  /** What the forecast says, in the key's unit; null when it does not. */
  readonly bound: number | null;
  readonly limit: number;
  readonly relation: 'at most' | 'at least';
  readonly met: boolean;
}

/** Every key that a budget may have for this forecast: the bound, and on which side of the limit it must lie. */
function budgetKeys(f: Forecast): ReadonlyMap<string, Pick<Check, 'bound' | 'relation'>> {
  const { report } = f;
  const keys = new Map<string, Pick<Check, 'bound' | 'relation'>>();
  for (const [name, { most }] of Object.entries(bounds(f)) as [Quantity, { most: number | null }][])
    for (const [unit, perSecond] of Object.entries({ cycles: report.hz, ns: 1e9, ms: 1e3 }))
      keys.set(`${name}_${unit}`, {
        bound: most === null ? null : unit === 'cycles' ? most : (most * perSecond) / report.hz,
        relation: 'at most',
      });
  const { guaranteed, typical } = standing(f);
  keys.set('tokens_per_second', { bound: guaranteed, relation: 'at least' });
  keys.set('tokens_per_second_typical', { bound: typical, relation: 'at least' });
  keys.set('arena_bytes', { bound: report.arenaBytes, relation: 'at most' });
  keys.set('kv_bytes', { bound: report.kvBytes, relation: 'at most' });
  keys.set('ctx', { bound: report.ctx, relation: 'at least' });
  return keys;
}

/** The limits of a budget held against a forecast, in the file's order; or what is wrong with the text, as `LINE:COLUMN: WHAT`. */
export function checkBudget(text: string, f: Forecast): Check[] | string {
  const limits = parseBudget(text);
  if (typeof limits === 'string') return limits;
  const keys = budgetKeys(f);
  const checks: Check[] = [];
  for (const { key, limit, at } of limits) {
    const known = keys.get(key);
    if (known === undefined) return `${position(text, at)}: unknown key '${key}'`;
    const { bound, relation } = known;
    const met = bound !== null && (relation === 'at most' ? bound <= limit : bound >= limit);
    checks.push({ key, bound, limit, relation, met });
  }
  return checks;
}

export const checkJson = (checks: readonly Check[]): Json => ({
  met: checks.every(c => c.met),
  check: checks.map(c => ({ ...c })),
});

interface Limit {
  readonly key: string;
  readonly limit: number;
  readonly at: number;
}

/** `{"KEY": NUMBER, …}` in JSON's syntax, nothing nested. Own parser: hosts word their messages differently and not all tell where. */
function parseBudget(text: string): Limit[] | string {
  const limits: Limit[] = [];
  let at = 0;
  const take = (token: RegExp): string | null => {
    at += /^[ \t\r\n]*/.exec(text.slice(at))![0].length;
    const found = token.exec(text.slice(at))?.[0] ?? null;
    at += found?.length ?? 0;
    return found;
  };
  const expected = (what: string): string => `${position(text, at)}: ${what} expected`;
  if (take(/^\{/) === null) return expected("'{'");
  if (take(/^\}/) === null)
    for (;;) {
      const name = take(/^"[^"\\\n]*"/);
      if (name === null) return expected('a key in quotes');
      const key = name.slice(1, -1);
      const keyAt = at - name.length;
      if (limits.some(l => l.key === key)) return `${position(text, keyAt)}: '${key}' again`;
      if (take(/^:/) === null) return expected("':'");
      const limit = take(/^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/);
      if (limit === null) return expected('a number');
      limits.push({ key, limit: Number(limit), at: keyAt });
      if (take(/^,/) !== null) continue;
      if (take(/^\}/) !== null) break;
      return expected("',' or '}'");
    }
  take(/^/);
  return at < text.length ? expected('the end') : limits;
}

/** `LINE:COLUMN`, counted from 1. */
function position(text: string, at: number): string {
  const before = text.slice(0, at).split('\n');
  return `${before.length}:${before.at(-1)!.length + 1}`;
}
