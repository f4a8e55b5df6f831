// llmctl profile: where a session's time went, told from the trace: every pass that it was in, every draw, every page moved. The parts add up to
// the time between its submission and its end; what is left over it has waited.

import { TRACE } from '../../kernel/abi/index.ts';
import type { TraceKind } from '../../kernel/abi/index.ts';
import { jsonLine, table, times } from './fmt.ts';
import { grouped } from './model.ts';
import type { Context } from './program.ts';
import { findSession, stateName } from './sessions.ts';
import type { Report } from './sessions.ts';
import { readTrace } from './trace.ts';
import type { TraceEvent } from './trace-events.ts';

type Ctx = Context<{ readonly json: { readonly help: string } }>;

/** Times are nanoseconds. */
interface Profile {
  elapsed: number;
  queue: number;
  prefill: number;
  decode: number;
  sampler: number;
  swap: number;
  waiting: number;
  passes: number;
  rows: number;
  /** Passes that had rows of others too. */
  shared: number;
  /** Of the passes' time, its share by rows. */
  spent: number;
  /** The trace reaches back to its submission. */
  isComplete: boolean;
}

/** Adds up what the trace says of a session until its end, or until `nowNs`. */
function profileOf(report: Report, events: readonly TraceEvent[], nowNs: number): Profile {
  const elapsed = (report.endedNs || nowNs) - report.submittedNs;
  const queue = report.beganNs === 0 ? elapsed : report.beganNs - report.submittedNs;
  const p: Profile = {
    elapsed,
    queue,
    prefill: 0,
    decode: 0,
    sampler: 0,
    swap: 0,
    waiting: 0,
    passes: 0,
    rows: 0,
    shared: 0,
    spent: 0,
    isComplete: false,
  };
  let pass = { rows: 1, sessions: 1 }; // told just before the shares in it
  let drawNs = 0; // of the pass that goes on
  for (const e of events) {
    const kind = TRACE[e.kind] as TraceKind;
    if (kind === 'pass') pass = { rows: e.a, sessions: e.b };
    if (e.session !== report.id) continue;
    if (kind === 'submit') p.isComplete = true;
    else if (kind === 'token') drawNs = e.durationNs;
    else if (kind === 'swap-in' || kind === 'swap-out') p.swap += e.durationNs;
    else if (kind === 'prefill' || kind === 'decode') {
      p[kind] += e.durationNs - drawNs;
      p.sampler += drawNs;
      p.passes++;
      p.rows += e.b;
      p.shared += pass.sessions > 1 ? 1 : 0;
      p.spent += (e.durationNs * e.b) / pass.rows;
      drawNs = 0;
    }
  }
  p.waiting = elapsed - queue - p.prefill - p.decode - p.sampler - p.swap;
  return p;
}

export function* profile(ctx: Ctx, [word = 'last']: readonly string[]): Generator<void, number, void> {
  const { sys, out } = ctx;
  const found = yield* findSession(ctx, word);
  if (typeof found === 'number') return found;
  const { report } = found;
  const snapshot = yield* readTrace(ctx);
  if (snapshot === null) return 1;
  const { nowNs, hz } = yield* times(sys);
  const p = profileOf(report, snapshot.events, nowNs);
  const spentCycles = Math.round((p.spent / 1e9) * hz);
  yield* out.print(ctx.options.json ? json(report, p, spentCycles) : text(report, p, spentCycles));
  return 0;
}

function json(r: Report, p: Profile, spentCycles: number): string {
  return jsonLine({
    id: r.id,
    state: stateName(r),
    elapsed_ns: p.elapsed,
    queue_ns: p.queue,
    prefill_ns: p.prefill,
    decode_ns: p.decode,
    sampler_ns: p.sampler,
    swap_ns: p.swap,
    waiting_ns: p.waiting,
    passes: p.passes,
    rows: p.rows,
    shared_passes: p.shared,
    cycles: r.cycles,
    spent_cycles: spentCycles,
    saved_cycles: r.cycles - spentCycles,
    shared_tokens: r.sharedTokens,
    swap_ins: r.swapIns,
    preemptions: r.preemptions,
    is_complete: p.isComplete,
  });
}

function text(r: Report, p: Profile, spentCycles: number): string {
  const row = (name: string, ns: number, note: string): string[] => {
    const share = p.elapsed === 0 ? 0 : (100 * ns) / p.elapsed;
    return [name, grouped(Math.round(ns / 1000)), `${share.toFixed(1)} %`, note];
  };
  const parts = [
    row('queue', p.queue, ''),
    row('prefill', p.prefill, `${grouped(r.promptTokens)} tokens, ${grouped(r.sharedTokens)} of them there already`),
    row('decode', p.decode, `${grouped(r.outputTokens)} tokens`),
    row('sampler', p.sampler, ''),
    row('swap', p.swap, `${grouped(r.swapIns)} pages came back`),
    row('waiting', p.waiting, `preempted ${grouped(r.preemptions)} times`),
    row('elapsed', p.elapsed, ''),
  ];
  const passes = `${grouped(p.rows)} rows in ${grouped(p.passes)} passes, ${grouped(p.shared)} of them shared with others`;
  const cycles = `${grouped(r.cycles)} cycles charged, ${grouped(spentCycles)} spent`;
  const gap = p.isComplete ? '' : 'the trace no longer reaches back to its beginning: some of it is missing\n';
  return `session ${r.id}, ${stateName(r)}, µs:\n${table(parts, [false, true, true])}${passes}\n${cycles}\n${gap}`;
}
