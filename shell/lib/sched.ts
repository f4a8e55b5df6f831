// The verbs of llmctl that turn the scheduler (`sched`) and the pace (`pace`), and what `llmctl status` says of both: how much of the
// processor is promised, and the longest time that nothing can interrupt.

import { LIMITS, POLICY, SCHED_KEEP, SchedOptions, SchedReport } from '../../kernel/abi/index.ts';
import type { Policy, RecordValue, Sys } from '../../kernel/abi/index.ts';
import { readText } from './files.ts';
import { jsonLine, table, times } from './fmt.ts';
import type { Json } from './fmt.ts';
import { duration } from './forecast.ts';
import type { OptionTable } from './getopt.ts';
import { failAbout, grouped, parseCycles, wrong } from './model.ts';
import type { Context } from './program.ts';
import { integer, numbersOf } from './sampling.ts';

export const schedOptions = {
  policy: { value: 'edf|fp|rr', help: 'sched: earliest deadline first, fixed priorities, or in turn' },
  bound: { value: 'PPM', help: `sched: parts per million that servers may use (default ${LIMITS.utilisationPpm})` },
  'segment-max': {
    value: 'TIME',
    help: 'sched: the longest pass that may run unbroken, in cycles, or in milliseconds as 2.5ms; 0: a whole batch',
  },
  scale: { value: 'PCT', help: 'pace: percent, 50 to 500; what lies beyond becomes the nearest' },
} as const satisfies OptionTable;

/** The options of each verb beside --json, by name; --batch has a meaning for other verbs too. */
export const schedTakes = ['policy', 'bound', 'segment-max', 'batch'] as const;
export const paceTakes = ['scale'] as const;

type Valued<Name extends string> = { readonly [K in Name]: { readonly value: string; readonly help: string } };
type Ctx = Context<Valued<keyof typeof schedOptions | 'batch'> & { readonly json: { readonly help: string } }>;
type Run = Generator<void, number, void>;
type Options = RecordValue<typeof SchedOptions.fields>;
export type Sched = RecordValue<typeof SchedReport.fields>;

const KEEP: Options = {
  policy: SCHED_KEEP,
  boundPpm: SCHED_KEEP,
  segmentCycles: SCHED_KEEP,
  paceScale: SCHED_KEEP,
  paceAuto: SCHED_KEEP,
  batch: SCHED_KEEP,
};

/** Sets what `wanted` has, null setting nothing: the scheduler of now, or -errno. */
export function* callSched(sys: Sys, wanted: Partial<Options> | null): Generator<void, Sched | number, void> {
  const record = new Uint8Array(wanted === null ? 0 : SchedOptions.bytes);
  const answer = new Uint8Array(SchedReport.bytes);
  if (wanted !== null) SchedOptions.write(record, 0, { ...KEEP, ...wanted });
  const result = yield* sys.sched(record, answer);
  return result < 0 ? result : SchedReport.read(answer, 0);
}

// ── The scheduler ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export function* sched(ctx: Ctx): Run {
  const { sys, out, options } = ctx;
  const { hz } = yield* times(sys);
  const wanted = wantedSched(ctx, hz);
  if (typeof wanted === 'string') return yield* wrong(ctx, wanted);
  const report = yield* callSched(sys, wanted);
  if (typeof report === 'number') return yield* failAbout(ctx, '', report);
  const training = yield* readTraining(sys);
  yield* out.print(
    options.json
      ? jsonLine({ ...schedJson(report), training: trainingJson(training) })
      : table([...schedRows(report, hz), ...trainingRows(training, hz)]),
  );
  return 0;
}

/** What the options set; null: nothing; or what is wrong with one. */
function wantedSched({ options }: Ctx, hz: number): Partial<Options> | string | null {
  if (schedTakes.every(name => options[name] === undefined)) return null;
  const policy = options.policy === undefined ? SCHED_KEEP : POLICY.indexOf(options.policy.toLowerCase() as Policy);
  if (policy < 0) return `--policy '${options.policy}' is not edf, fp or rr`;
  const segmentCycles = options['segment-max'] === undefined ? SCHED_KEEP : parseCycles(options['segment-max'], hz);
  if (segmentCycles === null || segmentCycles > SCHED_KEEP)
    return `--segment-max '${options['segment-max']}' is neither cycles nor milliseconds as 2.5ms`;
  const numbers = numbersOf(
    { boundPpm: integer('bound', 1, 1_000_000, SCHED_KEEP), batch: integer('batch', 0, LIMITS.batchMax, SCHED_KEEP) },
    options,
  );
  return typeof numbers === 'string' ? numbers : { ...numbers, policy, segmentCycles };
}

const schedRows = (s: Sched, hz: number): string[][] => [
  ['policy', POLICY[s.policy] ?? String(s.policy)],
  ['servers', `${s.servers}, ${grouped(s.usedPpm)} of ${grouped(s.boundPpm)} ppm`],
  ['admission', `${grouped(s.accepted)} accepted, ${grouped(s.rejected)} rejected since boot`],
  ['deadlines', `${grouped(s.misses)} missed`],
  ['segment', segmentText(s, hz)],
  ['step', `${cyclesText(s.stepMax, hz)}, the dearest alone`],
  ['call', `${cyclesText(s.callMax, hz)}, the longest while servers run`],
  ['batch', `${s.batch} sessions in a pass at most`],
  ['passes', `${grouped(s.passes)}, ${grouped(s.preemptions)} preemptions`],
  ['pace', `${s.paceScale} %, auto ${s.paceAuto !== 0 ? 'on' : 'off'}`],
];

const cyclesText = (cycles: number, hz: number): string => `${grouped(cycles)} cycles (${duration(cycles, hz)})`;

/** The longest time that nothing can interrupt, as a bound and as seen. */
export const segmentText = (s: Sched, hz: number): string =>
  `${cyclesText(s.segmentMax, hz)} at most, ${cyclesText(s.segmentSeen, hz)} the longest so far`;

const schedJson = (s: Sched): Readonly<Record<string, Json>> => ({
  policy: POLICY[s.policy] ?? null,
  ...detJson(s),
  servers: s.servers,
  batch: s.batch,
  step_max_cycles: s.stepMax,
  call_max_cycles: s.callMax,
  passes: s.passes,
  preemptions: s.preemptions,
  pace_scale_percent: s.paceScale,
  pace_auto: s.paceAuto !== 0,
});

// ── The training ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What /proc/training says, figure by figure; of another user's only whose it is. */
type Training = ReadonlyMap<string, string>;

/** The training that is open, which has a place beside sessions; null: none is. */
function* readTraining(sys: Sys): Generator<void, Training | null, void> {
  const text = yield* readText(sys, '/proc/training');
  if (typeof text === 'number' || text === '') return null;
  const pairs = text.trimEnd().split('\n');
  return new Map(pairs.map(line => [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)]));
}

function trainingRows(training: Training | null, hz: number): string[][] {
  if (training === null) return [];
  const [budget, period] = [Number(training.get('budget')), Number(training.get('period'))];
  const missed = `, ${training.get('misses')} deadlines missed`;
  const share =
    period === 0 ? ', what others leave' : `, ${cyclesText(budget, hz)} every ${duration(period, hz)}${missed}`;
  return [['training', `of user ${training.get('uid')}${training.has('period') ? share : ''}`]];
}

function trainingJson(training: Training | null): Json {
  if (training === null) return null;
  const figure = (name: string): number | null => (training.has(name) ? Number(training.get(name)) : null);
  return {
    uid: figure('uid'),
    state: training.get('state') ?? null,
    budget_cycles: figure('budget'),
    period_cycles: figure('period'),
    misses: figure('misses'),
    slice_max_cycles: figure('sliceMax'),
  };
}

// ── Status ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The specification's line on determinism. */
export const detLine = (s: Sched): string =>
  `[LLM][DET] used_ppm=${s.usedPpm} accepted=${s.accepted} rejected=${s.rejected} deadline_misses=${s.misses} jitter_p99_ns=${s.jitterP99Ns}\n`;

/** The keys that `llmctl status --json` and `llmctl sched --json` have in common. */
export const detJson = (s: Sched): Readonly<Record<string, Json>> => ({
  bound_ppm: s.boundPpm,
  used_ppm: s.usedPpm,
  accepted: s.accepted,
  rejected: s.rejected,
  deadline_misses: s.misses,
  jitter_p99_ns: s.jitterP99Ns,
  segment_max_cycles: s.segmentMax,
  segment_seen_cycles: s.segmentSeen,
});

// ── The pace ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export function* pace(ctx: Ctx, [what, state, ...more]: readonly string[]): Run {
  const { sys, out, options } = ctx;
  const usable = what === undefined || (what === 'auto' && (state === 'on' || state === 'off' || state === 'status'));
  if (!usable || more.length > 0) return yield* ctx.usage('pace: auto on, auto off or auto status');
  const scale = numbersOf({ paceScale: integer('scale', 0, 0x7fffffff, SCHED_KEEP) }, options);
  if (typeof scale === 'string') return yield* wrong(ctx, scale);
  const paceAuto = state === 'on' ? 1 : state === 'off' ? 0 : SCHED_KEEP;
  const reads = scale.paceScale === SCHED_KEEP && paceAuto === SCHED_KEEP;
  const report = yield* callSched(sys, reads ? null : { ...scale, paceAuto });
  if (typeof report === 'number') return yield* failAbout(ctx, '', report);
  yield* out.print(
    options.json ? jsonLine({ scale_percent: report.paceScale, auto: report.paceAuto !== 0 }) : `${paceText(report)}\n`,
  );
  return 0;
}

const paceText = (s: Sched): string => `[LLM][PACE] scale=${s.paceScale}% auto=${s.paceAuto !== 0 ? 'ON' : 'OFF'}`;
