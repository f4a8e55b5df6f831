// The verbs of llmctl that say who may take how much: the period budget of the machine (`budget`) and users' quotas (`quota`). Limits are the
// kernel's and so is every figure; anybody reads the budget and quotas of their own, the superuser sets them.

import { BudgetRecord, LIMITS, QUOTA_DEFAULTS, QUOTA_SET, QuotaRecord } from '../../kernel/abi/index.ts';
import type { RecordValue, Sys } from '../../kernel/abi/index.ts';
import { readAccounts } from './accounts.ts';
import type { Accounts } from './accounts.ts';
import { jsonLine, table, times } from './fmt.ts';
import type { Json } from './fmt.ts';
import { duration } from './forecast.ts';
import type { OptionTable } from './getopt.ts';
import { failAbout, grouped, parseDecimal, wrong } from './model.ts';
import type { Context } from './program.ts';
import { integer, numbersOf } from './sampling.ts';
import { timeOfDay } from './strftime.ts';

export const quotaOptions = {
  'wcet-cycles': { value: 'N', help: 'budget: a request is late after so many cycles; 0: after its own bound' },
  'period-ns': { value: 'N', help: 'budget: the period in nanoseconds; 0: no budget' },
  period: { value: 'MS', help: 'budget: the same in milliseconds' },
  'max-tokens-per-period': { value: 'N', help: 'budget: tokens that the machine draws in a period; 0: no budget' },
  tokens: { value: 'N', help: 'quota: tokens an hour; 0, here as for the other limits: none' },
  cycles: { value: 'N', help: 'quota: cycles an hour' },
} as const satisfies OptionTable;

/** The options of each verb beside --json, by name; --kv and --sessions have meanings for other verbs too. */
export const budgetTakes = ['wcet-cycles', 'period-ns', 'period', 'max-tokens-per-period'] as const;
export const quotaTakes = ['tokens', 'cycles', 'kv', 'sessions'] as const;

type Valued<Name extends string> = { readonly [K in Name]: { readonly value: string; readonly help: string } };
type Ctx = Context<
  Valued<keyof typeof quotaOptions | 'kv' | 'sessions'> & { readonly json: { readonly help: string } }
>;
type Run = Generator<void, number, void>;
type Budget = RecordValue<typeof BudgetRecord.fields>;
export type Quota = RecordValue<typeof QuotaRecord.fields>;

const MOST = Number.MAX_SAFE_INTEGER;

// ── The period budget ────────────────────────────────────────────────────────────────────────────────────────────────────────────

export function* budget(ctx: Ctx): Run {
  const now = yield* callBudget(ctx.sys, { set: 0 });
  if (typeof now === 'number') return yield* failAbout(ctx, '', now);
  const wanted = wantedBudget(ctx, now);
  if (typeof wanted === 'string') return yield* wrong(ctx, wanted);
  if (wanted === null) {
    yield* ctx.out.print(ctx.options.json ? jsonLine(budgetJson(now)) : yield* budgetText(ctx.sys, now));
    return 0;
  }
  const set = yield* callBudget(ctx.sys, { ...wanted, set: 1 });
  if (typeof set === 'number') return yield* failAbout(ctx, '', set);
  yield* ctx.out.print(ctx.options.json ? jsonLine(budgetJson(set)) : '[LLM] budget configured\n');
  return 0;
}

/** Sets it where `set` is 1: the budget of now, or -errno. */
export function* callBudget(sys: Sys, wanted: Partial<Budget>): Generator<void, Budget | number, void> {
  const record = new Uint8Array(BudgetRecord.bytes);
  const answer = new Uint8Array(BudgetRecord.bytes);
  BudgetRecord.write(record, 0, wanted);
  const result = yield* sys.budget(record, answer);
  return result < 0 ? result : BudgetRecord.read(answer, 0);
}

/** What the options make of the budget of now; null when they set nothing; or what is wrong with one. */
function wantedBudget(
  { options }: Ctx,
  now: Budget,
): Pick<Budget, 'wcetCycles' | 'periodNs' | 'maxTokens'> | string | null {
  if (budgetTakes.every(name => options[name] === undefined)) return null;
  if (options.period !== undefined && options['period-ns'] !== undefined)
    return 'budget: --period and --period-ns exclude each other';
  const numbers = numbersOf(
    {
      wcetCycles: integer('wcet-cycles', 0, MOST, now.wcetCycles),
      periodNs: integer('period-ns', 0, MOST, now.periodNs),
      maxTokens: integer('max-tokens-per-period', 0, MOST, now.maxTokens),
    },
    options,
  );
  if (typeof numbers === 'string' || options.period === undefined) return numbers;
  const ns = (parseDecimal(options.period) ?? NaN) * 1e6;
  if (!(ns >= 0 && ns <= MOST)) return `--period '${options.period}' is not a number of milliseconds`;
  return { ...numbers, periodNs: Math.round(ns) };
}

const isOn = (b: Budget): boolean => b.periodNs > 0 && b.maxTokens > 0;

function* budgetText(sys: Sys, b: Budget): Generator<void, string, void> {
  const { hz } = yield* times(sys);
  const rows = [['budget', isOn(b) ? `${grouped(b.maxTokens)} tokens a period of ${b.periodNs / 1e6} ms` : 'off']];
  if (isOn(b)) {
    const until = yield* timeOfDay(sys, b.windowStartNs + b.periodNs);
    rows.push(['issued', `${grouped(b.issued)}, ${grouped(Math.max(0, b.maxTokens - b.issued))} left until ${until}`]);
  }
  rows.push(['refused', grouped(b.rejects)]);
  rows.push([
    'late',
    `after ${b.wcetCycles === 0 ? 'its own bound' : `${grouped(b.wcetCycles)} cycles, ${duration(b.wcetCycles, hz)}`}`,
  ]);
  return table(rows);
}

const budgetJson = (b: Budget): Json => ({
  wcet_cycles: b.wcetCycles,
  period_ns: b.periodNs,
  max_tokens_per_period: b.maxTokens,
  window_start_ns: isOn(b) ? b.windowStartNs : null,
  issued: b.issued,
  left: isOn(b) ? Math.max(0, b.maxTokens - b.issued) : null,
  rejects: b.rejects,
});

// ── Quotas ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** `*` on the command line and in the table: the defaults. */
const EVERYBODY = '*';

export function* quota(ctx: Ctx, [name]: readonly string[]): Run {
  const { sys, out } = ctx;
  const limits = wantedLimits(ctx);
  if (typeof limits === 'string') return yield* wrong(ctx, limits);
  if (limits.set !== 0 && name === undefined) return yield* ctx.usage('quota: whose limits? USER is missing');
  const accounts = yield* readAccounts(sys);
  const self = yield* sys.getuid();
  if (name === undefined && self === 0) return yield* everybody(ctx, accounts);
  const uid = name === undefined ? self : name === EVERYBODY ? QUOTA_DEFAULTS : accounts.uid(name);
  if (uid === null) return yield* ctx.fail(`no user '${name}'`);
  const q = yield* callQuota(sys, { ...limits, uid });
  if (typeof q === 'number') return yield* failAbout(ctx, '', q);
  yield* out.print(ctx.options.json ? jsonLine(quotaJson(q, accounts)) : yield* quotaText(sys, q, accounts));
  return 0;
}

/** Sets the limits that `set` names: the user's figures of now, or -errno. */
export function* callQuota(sys: Sys, wanted: Partial<Quota>): Generator<void, Quota | number, void> {
  const record = new Uint8Array(QuotaRecord.bytes);
  const answer = new Uint8Array(QuotaRecord.bytes);
  QuotaRecord.write(record, 0, wanted);
  const result = yield* sys.quota(record, answer);
  return result < 0 ? result : QuotaRecord.read(answer, 0);
}

type Limits = Pick<Quota, 'set' | 'tokensPerHour' | 'cyclesPerHour' | 'kvBytes' | 'sessions'>;

function wantedLimits({ options }: Ctx): Limits | string {
  const numbers = numbersOf(
    {
      tokensPerHour: integer('tokens', 0, MOST, 0),
      cyclesPerHour: integer('cycles', 0, MOST, 0),
      kvBytes: integer('kv', 0, LIMITS.arenaBytes, 0),
      sessions: integer('sessions', 0, LIMITS.sessionsMax, 0),
    },
    options,
  );
  if (typeof numbers === 'string') return numbers;
  return {
    ...numbers,
    set: quotaTakes.reduce((bits, name) => bits | (options[name] === undefined ? 0 : QUOTA_SET[name]), 0),
  };
}

/** A line a user of /etc/passwd, the defaults first. */
function* everybody(ctx: Ctx, accounts: Accounts): Run {
  const { sys, out } = ctx;
  const found: Quota[] = [];
  for (const uid of new Set([QUOTA_DEFAULTS, ...accounts.users.map(user => user.uid)])) {
    const q = yield* callQuota(sys, { uid });
    if (typeof q === 'number') return yield* failAbout(ctx, '', q);
    found.push(q);
  }
  if (ctx.options.json) {
    yield* out.print(jsonLine({ users: found.map(q => quotaJson(q, accounts)) }));
    return 0;
  }
  const taken = (n: number, limit: number, q: Quota): string =>
    q.uid === QUOTA_DEFAULTS ? limitText(limit) : `${grouped(n)} / ${limitText(limit)}`;
  const rows = found.map(q => [
    nameOf(q, accounts),
    taken(q.tokensUsed + q.tokensReserved, q.tokensPerHour, q),
    taken(q.cyclesUsed + q.cyclesReserved, q.cyclesPerHour, q),
    taken(q.kvBytesUsed, q.kvBytes, q),
    taken(q.sessionsUsed, q.sessions, q),
    q.uid === QUOTA_DEFAULTS ? '' : grouped(q.refused),
  ]);
  const until = yield* timeOfDay(sys, found[0]!.hourEndNs);
  const header = ['USER', 'TOKENS/HOUR', 'CYCLES/HOUR', 'KV BYTES', 'SESSIONS', 'REFUSED'];
  yield* out.print(`${table([header, ...rows], [false, true, true, true, true, true])}the hour ends at ${until}\n`);
  return 0;
}

/** What is held now of a limit on what is held at any time. */
const held = (limit: number, used: number): string =>
  `${grouped(used)}, ${limit === 0 ? 'no limit' : `${grouped(limit)} at most`}`;
const limitText = (limit: number): string => (limit === 0 ? '-' : grouped(limit));
const nameOf = (q: Quota, accounts: Accounts): string =>
  q.uid === QUOTA_DEFAULTS ? EVERYBODY : (accounts.userName(q.uid) ?? String(q.uid));

function* quotaText(sys: Sys, q: Quota, accounts: Accounts): Generator<void, string, void> {
  const until = yield* timeOfDay(sys, q.hourEndNs);
  const hour = (unit: string, limit: number, used: number, reserved: number): string => {
    const also = reserved > 0 ? ` and ${grouped(reserved)} reserved` : '';
    if (limit === 0) return `${grouped(used)}${also} since the hour began, no limit`;
    return `${grouped(used)}${also} of ${grouped(limit)} ${unit}, ${grouped(Math.max(0, limit - used - reserved))} left until ${until}`;
  };
  if (q.uid === QUOTA_DEFAULTS)
    return table([
      ['user', `${EVERYBODY}, everybody without limits of their own`],
      ['tokens', `${limitText(q.tokensPerHour)} an hour`],
      ['cycles', `${limitText(q.cyclesPerHour)} an hour`],
      ['KV bytes', limitText(q.kvBytes)],
      ['sessions', limitText(q.sessions)],
    ]);
  return table([
    ['user', nameOf(q, accounts)],
    ['tokens', hour('an hour', q.tokensPerHour, q.tokensUsed, q.tokensReserved)],
    ['cycles', hour('an hour', q.cyclesPerHour, q.cyclesUsed, q.cyclesReserved)],
    ['KV bytes', held(q.kvBytes, q.kvBytesUsed)],
    ['sessions', held(q.sessions, q.sessionsUsed)],
    ['refused', grouped(q.refused)],
  ]);
}

/** Limits of 0 are none. */
const orNull = (limit: number): number | null => (limit === 0 ? null : limit);

function quotaJson(q: Quota, accounts: Accounts): Json {
  return {
    user: nameOf(q, accounts),
    uid: q.uid === QUOTA_DEFAULTS ? null : q.uid,
    own: quotaTakes.filter(name => (q.set & QUOTA_SET[name]) !== 0),
    tokens_per_hour: orNull(q.tokensPerHour),
    cycles_per_hour: orNull(q.cyclesPerHour),
    kv_bytes_most: orNull(q.kvBytes),
    sessions_most: orNull(q.sessions),
    tokens_used: q.tokensUsed,
    tokens_reserved: q.tokensReserved,
    tokens_left: q.tokensPerHour === 0 ? null : Math.max(0, q.tokensPerHour - q.tokensUsed - q.tokensReserved),
    cycles_used: q.cyclesUsed,
    cycles_reserved: q.cyclesReserved,
    kv_bytes: q.kvBytesUsed,
    sessions: q.sessionsUsed,
    hour_end_ns: q.hourEndNs,
    refused: q.refused,
  };
}
