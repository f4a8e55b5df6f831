// `llmfinetune plan`: what a training would take before it is begun: bytes of the arena part by part, cycles of a step at most, and how long all
// of it would last at most. Nothing is allocated, nothing written.

import { TRAIN_KEEP_ALL } from '../../../kernel/abi/index.ts';
import { duration as cyclesText } from '../forecast.ts';
import { jsonLine, table, times } from '../fmt.ts';
import type { Json } from '../fmt.ts';
import { failAbout, grouped, wrong } from '../model.ts';
import type { Model } from '../model.ts';
import { planTraining } from './device.ts';
import type { Report } from './device.ts';
import { courseOf } from './loop.ts';
import type { Course } from './loop.ts';
import { settingsOf, trainOptionsOf } from './options.ts';
import type { Settings } from './options.ts';
import { prepareData } from './prepare.ts';
import type { Prepared } from './prepare.ts';
import { modelToTrain } from './train.ts';
import type { RunCtx } from './train.ts';

/** The parts of the train region in the order of the report, with what is said of each. */
const PARTS = [
  ['parameters', 'parametersBytes', 'trained values'],
  ['gradients', 'gradientsBytes', 'a value each'],
  ['moments', 'momentsBytes', "of the optimizer, or a method's own copies"],
  ['anchor', 'anchorBytes', 'the first values'],
  ['checkpoints', 'checkpointsBytes', 'residual streams that are kept'],
  ['activations', 'activationsBytes', 'of the layers computed again'],
  ['head', 'headBytes', 'logits and their gradients'],
  ['plan', 'planBytes', 'op records'],
  ['batch', 'batchBytes', 'token ids of a batch'],
] as const;

export function* plan(ctx: RunCtx, [data = '']: readonly string[]): Generator<void, number, void> {
  const { sys, out } = ctx;
  const settings = settingsOf(ctx.options);
  if (typeof settings === 'string') return yield* wrong(ctx, settings);
  const model = yield* modelToTrain(ctx);
  if (typeof model === 'number') return model;
  const report = yield* planTraining(sys, trainOptionsOf(settings));
  if (typeof report === 'number') return yield* failAbout(ctx, '', report);
  const files = [yield* sys.memfd('data'), yield* sys.memfd('index')] as const;
  const most = report.ctx || settings.ctx || report.ctxThatFits;
  const prepared = yield* prepareData(ctx, data, settings, model, most, { data: files[0], index: files[1] });
  for (const fd of files) yield* sys.close(fd);
  if (typeof prepared === 'number') return prepared;
  const course = courseOf(settings, prepared.sequences);
  const { hz } = yield* times(sys);
  const whole: Whole = { model, settings, report, prepared, course, cycles: wholeCycles(settings, course, report), hz };
  yield* out.print(ctx.options.json ? jsonLine(planJson(whole)) : planText(whole));
  if (report.fits !== 0) return 0;
  return yield* ctx.fail(report.message);
}

interface Whole {
  readonly model: Model;
  readonly settings: Settings;
  readonly report: Report;
  readonly prepared: Prepared;
  readonly course: Course;
  readonly cycles: number;
  readonly hz: number;
}

/** Cycles of a whole training at most: each sequence as long as it may be, each look and the two measures at the end included. */
function wholeCycles(s: Settings, course: Course, r: Report): number {
  const directions = s.method === 'fmea' || s.method === 'nes' ? s.directions : 1;
  const perSequence = ((r.stepCycles - r.updateCycles) / r.batch) * directions;
  const trained = Math.min(course.steps * s.batch * s.accumulate, trainedSequences(course));
  const looks = course.heldOut === 0 ? 0 : 1 + Math.ceil(course.steps / (s.every || course.stepsPerEpoch));
  return course.steps * r.updateCycles + trained * perSequence + (looks + 2) * course.heldOut * r.scoreCycles;
}

/** Sequences that are trained on, those seen again counted again. */
const trainedSequences = (c: Course): number => Math.ceil((c.steps / c.stepsPerEpoch) * (c.sequences - c.heldOut));

/** What of a forward pass is there when the backward pass needs it; of methods without one, nothing. */
function keptText({ method }: Settings, { checkpoint: n }: Report): string {
  if (method === 'fmea' || method === 'nes') return '';
  if (n === TRAIN_KEEP_ALL) return '; all activations are kept';
  return `; the input of ${n === 1 ? 'each layer' : `one layer in ${n}`} is kept, the rest computed again`;
}

function planText(w: Whole): string {
  const { settings: s, report: r, prepared: d, course: c, hz } = w;
  const pairs = s.method === 'full' ? 'all weights' : `rank ${s.rank} for ${s.targets.join(', ')}`;
  const bytes = PARTS.filter(([, key]) => r[key] > 0).map(([name, key, what]) => [name, grouped(r[key]), what]);
  const cost = (name: string, cycles: number): string[] => [name, grouped(cycles), cyclesText(cycles, hz)];
  const costs = [
    cost('forward', r.forwardCycles),
    cost('loss', r.lossCycles),
    ...(r.backwardCycles > 0 ? [cost('backward', r.backwardCycles)] : []),
    cost('update', r.updateCycles),
    cost('step', r.stepCycles),
    cost('longest op', r.sliceMax),
  ];
  const held = c.heldOut === 0 ? 'none held out' : `${grouped(c.heldOut)} held out`;
  return [
    `${s.method} on ${w.model.name}: ${pairs}, ${r.matrices} tensors, ${grouped(r.parameters)} parameters\n`,
    `${counted(d.sequences, 'sequence')} of ${r.ctx} tokens at most, ${held}; ${grouped(d.tokens)} tokens${d.cut > 0 ? `, ${grouped(d.cut)} cut` : ''}\n`,
    `${counted(c.steps, 'step')}, ${grouped(c.stepsPerEpoch)} to an epoch${keptText(s, r)}\n\n`,
    table(
      [['REGION', 'BYTES', ''], ...bytes, ['total', grouped(r.total), `of ${grouped(r.free)} that are free`]],
      [false, true],
    ),
    ...(r.fits === 0 ? [] : ['\n', table([['AT MOST', 'CYCLES', 'TIME'], ...costs], [false, true, true])]),
    ...(r.fits === 0 ? [] : [`\nall of it: ${cyclesText(w.cycles, hz)} of the processor at most\n`]),
  ].join('');
}

const counted = (n: number, what: string): string => `${grouped(n)} ${what}${n === 1 ? '' : 's'}`;

function planJson(w: Whole): Readonly<Record<string, Json>> {
  const { settings: s, report: r, prepared: d, course: c } = w;
  const cycles = (n: number): number | null => (r.fits === 0 ? null : n);
  return {
    fits: r.fits !== 0,
    method: s.method,
    model: w.model.path,
    ctx: r.ctx,
    batch: r.batch,
    checkpoint: r.checkpoint === TRAIN_KEEP_ALL ? 'all' : r.checkpoint,
    picks: r.picks,
    tensors: r.matrices,
    parameters: r.parameters,
    regions: Object.fromEntries(PARTS.map(([name, key]) => [name, r[key]])),
    total_bytes: r.total,
    free_bytes: r.free,
    forward_cycles: cycles(r.forwardCycles),
    loss_cycles: cycles(r.lossCycles),
    backward_cycles: cycles(r.backwardCycles),
    update_cycles: cycles(r.updateCycles),
    step_cycles: cycles(r.stepCycles),
    score_cycles: cycles(r.scoreCycles),
    slice_max_cycles: cycles(r.sliceMax),
    sequences: d.sequences,
    held_out: c.heldOut,
    tokens: d.tokens,
    cut: d.cut,
    bad: d.bad,
    steps_per_epoch: c.stepsPerEpoch,
    steps: c.steps,
    cycles: cycles(w.cycles),
    hz: w.hz,
    message: r.fits !== 0 ? null : r.message,
  };
}
