// Trainings seen and stopped from outside: what the store says of each, and whether its process is there.

import { SIG } from '../../../kernel/abi/index.ts';
import { join, listDirectory, stat } from '../files.ts';
import { jsonLine, table } from '../fmt.ts';
import type { Json } from '../fmt.ts';
import { signalStatus } from '../program.ts';
import { isStep, readLog } from './log.ts';
import type { HeldLine, LogLine, StepLine } from './log.ts';
import { duration } from './meter.ts';
import { isUnderWay, readRun } from './run.ts';
import type { Run } from './run.ts';
import { openPlace, storeDirectory } from './store.ts';
import type { Place } from './store.ts';
import type { RunCtx } from './train.ts';

/** Milliseconds of machine time from one look to the next. */
const LOOK_MS = 200;

export const statusOptions = {
  follow: { short: 'f', help: 'status: print each step of the training under way, until it ends' },
} as const;

type Status = Generator<void, number, void>;
type StatusCtx = RunCtx & { readonly options: { readonly follow: boolean } };

interface Seen {
  readonly place: Place;
  readonly run: Run;
  readonly state: string;
  readonly step: StepLine | null; // the last
  readonly held: HeldLine | null; // the last
}

export function* status(ctx: StatusCtx, [name]: readonly string[]): Status {
  const seen = yield* allRuns(ctx, name);
  if (typeof seen === 'number') return seen;
  if (ctx.options.follow) return yield* follow(ctx, seen.find(s => s.state === 'running') ?? null);
  if (ctx.options.json) {
    for (const one of seen) yield* ctx.out.print(jsonLine(seenJson(one)));
    return 0;
  }
  const rows = seen.map(rowOf);
  const heads = ['NAME', 'STATE', 'METHOD', 'STEP', 'OF', 'LOSS', 'HELD-OUT', 'LEFT'];
  yield* ctx.out.print(
    rows.length === 0 ? 'no training\n' : table([heads, ...rows], [false, false, false, true, true, true, true, true]),
  );
  return 0;
}

/** The trainings of the store, or the one of that name; or the status after a message. */
function* allRuns(ctx: StatusCtx, name: string | undefined): Generator<void, Seen[] | number, void> {
  const entries = name === undefined ? yield* listDirectory(ctx.sys, storeDirectory(ctx)) : [];
  const names = name === undefined ? (typeof entries === 'number' ? [] : entries.map(e => e.name)) : [name];
  const all: Seen[] = [];
  for (const one of names) {
    if (
      name === undefined &&
      typeof (yield* stat(ctx.sys, join(join(storeDirectory(ctx), one), 'run.json'))) === 'number'
    )
      continue;
    const seen = yield* look(ctx, one);
    if (typeof seen === 'number') return seen;
    all.push(seen);
  }
  return all;
}

function* look(ctx: StatusCtx, name: string): Generator<void, Seen | number, void> {
  const place = yield* openPlace(ctx, name, false);
  if (typeof place === 'number') return place;
  const run = yield* readRun(ctx, place);
  if (typeof run === 'number') return run;
  if (run === null) return yield* ctx.fail(`${name}: no training of that name`);
  const lines = yield* readLog(ctx, place.logPath);
  if (typeof lines === 'number') return lines;
  const underWay = yield* isUnderWay(ctx, run);
  const state = run.state === 'running' && !underWay ? 'cut off' : run.state;
  const step = lines.findLast(isStep) ?? null;
  const held = lines.findLast((line): line is HeldLine => !isStep(line)) ?? null;
  return { place, run, state, step, held };
}

/** Nanoseconds that are left at the pace so far; null where it does not go on, or nothing is known. */
const leftNs = ({ run, state, step }: Seen): number | null =>
  state !== 'running' || step === null ? null : (step.elapsed_ns / step.step) * (run.course.steps - step.step);

function rowOf(seen: Seen): string[] {
  const { place, run, state, step, held } = seen;
  const left = leftNs(seen);
  const figures = [String(step?.step ?? 0), String(run.course.steps), step?.loss.toFixed(4) ?? '-'];
  const rest = [held?.held_out_loss.toFixed(4) ?? '-', left === null ? '-' : duration(left)];
  return [place.name, state, run.settings.method, ...figures, ...rest];
}

function seenJson(seen: Seen): Readonly<Record<string, Json>> {
  const { place, run, state, step, held } = seen;
  return {
    name: place.name,
    state,
    reason: run.reason === '' ? null : run.reason,
    method: run.settings.method,
    model: run.model.path,
    data: run.data.path,
    step: step?.step ?? 0,
    steps: run.course.steps,
    steps_per_epoch: run.course.stepsPerEpoch,
    loss: step?.loss ?? null,
    held_out_loss: held?.held_out_loss ?? null,
    elapsed_ns: step?.elapsed_ns ?? 0,
    left_ns: leftNs(seen),
    pid: state === 'running' ? run.process.pid : null,
  };
}

/** A line of the log as people read it. */
function lineText(line: LogLine): string {
  if (!isStep(line)) return `step ${line.step}  held-out ${line.held_out_loss.toFixed(4)}\n`;
  const { step, epoch, loss, rate, gradient_norm } = line;
  return `step ${step}  epoch ${epoch}  loss ${loss.toFixed(4)}  rate ${rate.toPrecision(3)}  norm ${gradient_norm.toPrecision(3)}\n`;
}

/** Prints what is logged as it comes, until the training has ended. */
function* follow(ctx: StatusCtx, seen: Seen | null): Status {
  const { sys, out } = ctx;
  if (seen === null) return yield* ctx.fail('no training is under way');
  yield* sys.signal(SIG.INT, 1);
  for (let told = 0; ;) {
    const now = yield* look(ctx, seen.place.name);
    if (typeof now === 'number') return now;
    const lines = yield* readLog(ctx, seen.place.logPath);
    if (typeof lines === 'number') return lines;
    for (const line of lines.slice(told)) yield* out.print(ctx.options.json ? jsonLine({ ...line }) : lineText(line));
    yield* out.flush();
    told = lines.length;
    if (now.state !== 'running') return 0;
    if ((yield* sys.sleep(LOOK_MS)) < 0 || sys.signalled()) return signalStatus(SIG.INT);
  }
}

/** Has a training stop at its next batch, and waits until it has: its checkpoint is there then. */
export function* cancel(ctx: StatusCtx, [name = '']: readonly string[]): Status {
  const { sys, out } = ctx;
  const before = yield* look(ctx, name);
  if (typeof before === 'number') return before;
  const { run, state } = before;
  if (state !== 'running') return yield* ctx.fail(`${name}: is not being trained: its training is ${state}`);
  const sent = yield* sys.kill(run.process.pid, SIG.TERM);
  if (sent < 0) return yield* ctx.failCall(name, -sent);
  for (;;) {
    const now = yield* look(ctx, name);
    if (typeof now === 'number') return now;
    if (now.state === 'running') {
      if ((yield* sys.sleep(LOOK_MS)) < 0) return signalStatus(SIG.INT);
      continue;
    }
    const { step } = now;
    const end = `${name}: ${now.state} after step ${step?.step ?? 0} of ${run.course.steps}`;
    if (ctx.options.json) yield* out.print(jsonLine(seenJson(now)));
    else yield* out.print(now.state === 'done' ? `${end}\n` : `${end}; 'llmfinetune resume ${name}' goes on\n`);
    return 0;
  }
}
