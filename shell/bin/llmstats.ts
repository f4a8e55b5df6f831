// llmstats: what the machine has inferred since boot and how its sessions were served, as the specification's one line, as a table that can
// be watched, and as JSON. Every figure is the kernel's own: LlmStats, SchedReport, and the QuotaRecord of each user.

import { NO_SLACK, POLICY } from '../../kernel/abi/index.ts';
import type { LlmStats, RecordValue, Sys } from '../../kernel/abi/index.ts';
import { readAccounts } from '../lib/accounts.ts';
import { jsonLine, table, times } from '../lib/fmt.ts';
import type { Json } from '../lib/fmt.ts';
import { failAbout, grouped, llmStats, parseDecimal, wrong } from '../lib/model.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { callQuota } from '../lib/quota.ts';
import type { Quota } from '../lib/quota.ts';
import { callSched } from '../lib/sched.ts';
import type { Sched } from '../lib/sched.ts';
import { statusText, streamFigures, streamJson } from '../lib/speed.ts';
import type { StreamFigures } from '../lib/speed.ts';
import { EVENT, Screen, bold, clipped } from '../lib/screen.ts';

const options = {
  json: { help: 'print one JSON object on one line' },
  watch: { value: 'N', optional: true, help: 'on the whole screen, every N seconds of virtual time (2), until q' },
} as const;
type Ctx = Context<typeof options>;

interface UserQuota extends Quota {
  readonly name: string;
}

/** Everything shown, read at one moment. */
interface Moment {
  readonly nowNs: number;
  readonly llm: RecordValue<typeof LlmStats.fields>;
  readonly sched: Sched;
  readonly users: readonly UserQuota[];
  /** Null: no weights stream. */
  readonly stream: StreamFigures | null;
  readonly hz: number;
}

const secondsMin = 0.1;
const secondsMax = 1e6;
const microseconds = (ns: number): number => Math.round(ns / 1000);

export const llmstats = define({
  name: 'llmstats',
  summary: 'show inference statistics since boot',
  usage: ['[--json]', '--watch [N]'],
  description: [
    'Prints one line of key=value pairs, then a table: requests and tokens; how long the first token and a step took, half of them at most and 99 of 100 at most (of the last 64); the least time that servers had left at their deadlines; how much of the processor is used and promised; what sharing passes over the weights has saved; the pages of keys and values; the weights that were streamed, and what was waited for; the tokens of each user in this hour. Times are virtual.',
    '',
    'Jitter is the difference between what a step took and its proven bound.',
    '',
    'The keys of --json are in json(7): man json.',
  ].join('\n'),
  options,
  usageStatus: 2,
  examples: [['llmstats --watch 1', 'the figures every second, while jobs run in the background']],
  main: function* (ctx) {
    const { out, options, operands } = ctx;
    const [operand, ...extra] = operands;
    const stray = options.watch === undefined ? operand : extra[0];
    if (stray !== undefined) return yield* ctx.usage(`extra operand '${stray}'`);
    if (options.watch !== undefined) {
      const text = operand ?? (options.watch === '' ? '2' : options.watch);
      const seconds = parseDecimal(text);
      if (seconds === null || seconds < secondsMin || seconds > secondsMax)
        return yield* wrong(ctx, `--watch '${text}' is not a number of seconds from ${secondsMin} to ${secondsMax}`);
      if (options.json) return yield* ctx.usage('--watch and --json exclude each other');
      return yield* watching(ctx, Math.round(seconds * 1000));
    }
    const now = yield* moment(ctx);
    if (typeof now === 'number') return now;
    yield* out.print(options.json ? jsonLine(json(now)) : `${[...linesOf(now)].join('\n')}\n`);
    return 0;
  },
});

function* watching(ctx: Ctx, milliseconds: number): Generator<void, number, void> {
  const screen = yield* Screen.open(ctx.sys, 1);
  if (typeof screen === 'number') return yield* ctx.fail('standard output is not a terminal');
  let status = 0;
  for (;;) {
    const now: Moment | number = yield* moment(ctx);
    if (typeof now === 'number') {
      status = now;
      break;
    }
    const [first = '', ...rest] = linesOf(now).map(line => clipped(line, screen.columns));
    yield* screen.show([bold(first), ...rest].slice(0, screen.rows));
    const key = yield* screen.key(milliseconds);
    if (key === 'q' || key === 'Q' || key === EVENT.interrupt || key === EVENT.end) break;
  }
  yield* screen.close();
  return status;
}

/** The figures of now; or an exit status, after a message. */
function* moment(ctx: Ctx): Generator<void, Moment | number, void> {
  const { sys } = ctx;
  const { nowNs, hz } = yield* times(sys);
  const llm = yield* llmStats(sys);
  const sched = yield* callSched(sys, null);
  if (typeof llm === 'number') return yield* failAbout(ctx, '', llm);
  if (typeof sched === 'number') return yield* failAbout(ctx, '', sched);
  return { nowNs, hz, llm, sched, users: yield* quotas(sys), stream: yield* streamFigures(sys) };
}

/** What users have taken of this hour, those who have taken something: the superuser sees all, others themselves. */
function* quotas(sys: Sys): Generator<void, readonly UserQuota[], void> {
  const accounts = yield* readAccounts(sys);
  const found: UserQuota[] = [];
  for (const { uid, name } of accounts.users) {
    const quota = yield* callQuota(sys, { uid });
    if (typeof quota !== 'number' && quota.tokensUsed + quota.tokensReserved > 0) found.push({ ...quota, name });
  }
  return found;
}

/** Of the time since boot, parts per million spent in passes. */
const busyPpm = ({ nowNs, llm }: Moment): number => (nowNs === 0 ? 0 : Math.round((llm.busyNs / nowNs) * 1e6));
/** A sample of none is 0, that of a slack NO_SLACK. */
const sampled = (ns: number): number | null => (ns === 0 || ns === NO_SLACK ? null : ns);

function json(now: Moment): Json {
  const { llm: s, sched } = now;
  return {
    sessions_total: s.sessionsTotal,
    sessions_active: s.sessionsActive,
    queue_depth: s.queueDepth,
    queue_depth_max: s.queueDepthMax,
    prompt_tokens: s.promptTokens,
    output_tokens: s.outputTokens,
    cancelled: s.cancelled,
    faulted: s.faulted,
    deadline_misses: s.deadlineMisses,
    rejects: s.rejects,
    last_latency_ns: s.lastLatencyNs,
    last_first_token_ns: s.lastFirstTokenNs,
    cycles_total: String(s.cyclesTotal),
    ttft_p50_ns: sampled(s.ttftP50Ns),
    ttft_p99_ns: sampled(s.ttftP99Ns),
    step_p50_ns: sampled(s.stepP50Ns),
    step_p99_ns: sampled(s.stepP99Ns),
    slack_p50_ns: sampled(s.slackP50Ns),
    slack_p1_ns: sampled(s.slackP1Ns),
    jitter_p99_ns: sampled(s.jitterP99Ns),
    busy_ns: s.busyNs,
    busy_ppm: busyPpm(now),
    policy: POLICY[sched.policy]!,
    servers: sched.servers,
    servers_ppm: sched.usedPpm,
    servers_bound_ppm: sched.boundPpm,
    servers_accepted: sched.accepted,
    servers_rejected: sched.rejected,
    server_misses: sched.misses,
    preemptions: sched.preemptions,
    segment_max_cycles: sched.segmentMax,
    segment_seen_cycles: sched.segmentSeen,
    passes: s.passes,
    rows: s.rows,
    saved_cycles: String(s.savedCycles),
    prefix_tokens: s.prefixTokens,
    pages: {
      total: s.pagesTotal,
      free: s.pagesFree,
      cached: s.pagesCached,
      shared: s.pagesShared,
      swapped: s.pagesSwapped,
      copies: s.copies,
      evictions: s.evictions,
      swap_outs: s.swapOuts,
      swap_ins: s.swapIns,
    },
    users: now.users.map(u => ({
      uid: u.uid,
      user: u.name,
      tokens_used: u.tokensUsed,
      tokens_reserved: u.tokensReserved,
      tokens_per_hour: u.tokensPerHour,
    })),
    stream: now.stream === null ? null : streamJson(now.stream),
  };
}

function linesOf(now: Moment): string[] {
  const { llm: s, sched } = now;
  const line =
    `[LLM] queue_depth_max=${s.queueDepthMax} total_tokens=${s.outputTokens} deadline_misses=${s.deadlineMisses} ` +
    `last_latency_us=${microseconds(s.lastLatencyNs)}`;
  const rows: readonly (readonly [name: string, figure: string, note: string])[] = [
    ['sessions', grouped(s.sessionsTotal), `${s.sessionsActive} active, ${s.queueDepth} queued`],
    ['prompt tokens', grouped(s.promptTokens), `${grouped(s.prefixTokens)} not computed again`],
    ['output tokens', grouped(s.outputTokens), ''],
    ['cancelled', grouped(s.cancelled), ''],
    ['faulted', grouped(s.faulted), ''],
    ['out of time', grouped(s.deadlineMisses), ''],
    ['refused', grouped(s.rejects), ''],
    ['last latency', grouped(microseconds(s.lastLatencyNs)), 'µs from submission to the end'],
    ['last first token', grouped(microseconds(s.lastFirstTokenNs)), 'µs from submission'],
    ['first token', time(s.ttftP50Ns), `µs, p50; p99 ${time(s.ttftP99Ns)}`],
    ['step', time(s.stepP50Ns), `µs, p50; p99 ${time(s.stepP99Ns)}; jitter p99 ${time(s.jitterP99Ns)}`],
    ['slack', time(s.slackP1Ns), `µs at a deadline, p1; p50 ${time(s.slackP50Ns)}`],
    ['cycles', grouped(s.cyclesTotal), `charged; ${grouped(s.savedCycles)} saved by sharing`],
    ['busy', percent(busyPpm(now)), `of the time; ${grouped(s.passes)} passes, ${rowsPerPass(s)} rows in one`],
    [
      'servers',
      percent(sched.usedPpm),
      `promised to ${sched.servers}, ${percent(sched.boundPpm)} at most, ${POLICY[sched.policy]}`,
    ],
    [
      'pages',
      grouped(s.pagesTotal),
      `${s.pagesFree} free, ${s.pagesCached} cached, ${s.pagesShared} shared, ${s.copies} copied, ${s.evictions} evicted`,
    ],
    ['swapped', grouped(s.pagesSwapped), `pages out now; ${s.swapOuts} went, ${s.swapIns} came back`],
    ...(now.stream === null
      ? []
      : [['streamed', grouped(now.stream.reads), `tiles; ${statusText(now.stream, now.hz)}`] as const]),
    ...now.users.map(
      u =>
        [
          `user ${u.name}`,
          grouped(u.tokensUsed),
          `tokens this hour, ${u.tokensReserved} reserved, ${limit(u.tokensPerHour)}`,
        ] as const,
    ),
  ];
  return [line, ...table(rows, [false, true]).trimEnd().split('\n')];
}

const time = (ns: number): string => (sampled(ns) === null ? '-' : grouped(microseconds(ns)));
const percent = (ppm: number): string => `${(ppm / 1e4).toFixed(2)} %`;
const rowsPerPass = (s: Moment['llm']): string => (s.passes === 0 ? 0 : s.rows / s.passes).toFixed(2);
const limit = (tokens: number): string => (tokens === 0 ? 'no limit' : `${grouped(tokens)} at most`);
