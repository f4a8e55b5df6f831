// A training carried out: the device opened, data prepared, the loop run with its log and checkpoints, the result made a version. `start` begins one,
// `resume` goes on with one that was stopped or that the power left; both come to the same bytes.

import { O, SIG, TRAIN_BATCH } from '../../../kernel/abi/index.ts';
import { listDirectory, join, stat } from '../files.ts';
import { jsonLine, times } from '../fmt.ts';
import type { Json } from '../fmt.ts';
import { failAbout, loadedModel, wrong } from '../model.ts';
import type { Model } from '../model.ts';
import { signalStatus } from '../program.ts';
import type { Context } from '../program.ts';
import { loadCheckpoint, loadParameters, readProgress, saveCheckpoint, saveParameters } from './checkpoint.ts';
import type { Progress } from './checkpoint.ts';
import { Device, planTraining, trainedTensors } from './device.ts';
import type { Report, State } from './device.ts';
import { LogWriter } from './log.ts';
import type { HeldLine, StepLine } from './log.ts';
import { BEGINNING, Loop, courseOf, isOver } from './loop.ts';
import type { Ending, Failed, Finished, Keeper, Stopped } from './loop.ts';
import { settingsJson, settingsOf, trainOptionsOf, vectorsOf } from './options.ts';
import type { Settings, settingOptions } from './options.ts';
import { prepareData } from './prepare.ts';
import type { Prepared } from './prepare.ts';
import { announce, bestPath, dataPath, indexPath, isUnderWay, readRun, thisProcess, writeRun } from './run.ts';
import type { Run } from './run.ts';
import { Sequences } from './sequences.ts';
import { commit, openPlace, readVersions, writeTrained } from './store.ts';
import type { Place, Version } from './store.ts';
import { Meter, closing } from './meter.ts';
import type { commonOptions } from './verb.ts';

export const runOptions = {
  restart: { help: 'start: begin anew where a training of that name has not ended' },
  quiet: { help: 'no progress, and nothing at the end' },
  key: { value: 'KEY', help: 'sign the new version with this private key' },
} as const;

export type RunCtx = Context<typeof settingOptions & typeof runOptions & typeof commonOptions>;
type Status = Generator<void, number, void>;
type Failing<T> = Generator<void, T | number, void>;

// ── Beginning ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export function* start(ctx: RunCtx, [data = '', name = '']: readonly string[]): Status {
  const settings = settingsOf(ctx.options);
  if (typeof settings === 'string') return yield* wrong(ctx, settings);
  const free = yield* checkName(ctx, name);
  if (free !== 0) return free;
  const model = yield* modelToTrain(ctx);
  if (typeof model === 'number') return model;
  const there = yield* stat(ctx.sys, data);
  if (typeof there === 'number') return yield* ctx.failCall(data, -there);
  yield* heed(ctx);
  const opened = yield* openDevice(ctx, settings);
  if (typeof opened === 'number') return opened;
  const { device, report } = opened;
  const place = yield* openPlace(ctx, name, true);
  const status =
    typeof place === 'number' ? place : yield* begin(ctx, place, model, data, { ...settings, ctx: report.ctx }, device);
  yield* ctx.sys.train_close(device.handle);
  return status;
}

/** A training of that name that has not ended is not thrown away unasked, and its versions can be read. 0, or the status after a message. */
function* checkName(ctx: RunCtx, name: string): Status {
  const place = yield* openPlace(ctx, name, false);
  if (typeof place === 'number') return place;
  const versions = yield* readVersions(ctx, place);
  if (typeof versions === 'number') return versions;
  const run = yield* readRun(ctx, place);
  if (typeof run === 'number') return run;
  if (run === null) return 0;
  if (yield* isUnderWay(ctx, run))
    return yield* ctx.fail(
      `${name}: is being trained (process ${run.process.pid}); 'llmfinetune cancel ${name}' stops it`,
    );
  if (run.state === 'done' || ctx.options.restart) return 0;
  return yield* ctx.fail(
    `${name}: its training has not ended: 'llmfinetune resume ${name}' goes on, --restart begins anew`,
  );
}

/** The loaded model, which has to have come from a file; or the status after a message. */
export function* modelToTrain(ctx: Pick<RunCtx, 'sys' | 'fail'>): Failing<Model> {
  const model = yield* loadedModel(ctx.sys);
  if (typeof model === 'number') return yield* ctx.fail('no model loaded: llmctl load FILE');
  return model.path === '' ? yield* ctx.fail(`${model.engine} has no weights to train: llmctl load FILE`) : model;
}

/** Ctrl-C and cancel end the training at its next batch, unless somebody wanted Ctrl-C ignored. */
function* heed(ctx: RunCtx): Generator<void, void, void> {
  const IGNORED = 2;
  if ((yield* ctx.sys.signal(SIG.INT, 1)) === IGNORED) yield* ctx.sys.signal(SIG.INT, IGNORED);
  yield* ctx.sys.signal(SIG.TERM, 1);
}

/** The device for these settings, with what it takes; or the status after a message. */
export function* openDevice(
  ctx: Pick<RunCtx, 'sys' | 'fail'>,
  settings: Settings,
): Failing<{ readonly device: Device; readonly report: Report }> {
  const { sys } = ctx;
  const options = trainOptionsOf(settings);
  const report = yield* planTraining(sys, options);
  if (typeof report === 'number') return yield* failAbout(ctx, '', report);
  if (report.fits === 0) return yield* ctx.fail(report.message);
  const handle = yield* sys.train_open(trainOptionsOf({ ...settings, ctx: report.ctx }));
  return handle < 0 ? yield* failAbout(ctx, '', handle) : { device: new Device(sys, handle), report };
}

function* begin(ctx: RunCtx, place: Place, model: Model, path: string, settings: Settings, device: Device): Status {
  const { sys } = ctx;
  // The record goes first: what lies there from now on is nobody's until there is a new one.
  yield* sys.unlink(place.runPath);
  yield* forget(ctx, place);
  yield* sys.unlink(place.logPath);
  const data = yield* makeData(ctx, place, path, settings, model);
  if (typeof data === 'number') return data;
  const tensors = yield* trainedTensors(sys);
  if (typeof tensors === 'number') return yield* failAbout(ctx, '/proc/traintensors', tensors);
  const { bootEpochSeconds, nowNs } = yield* times(sys);
  const run: Omit<Run, 'format'> = {
    state: 'running',
    reason: '',
    model: { path: model.path, name: model.name, digest: model.digest },
    data: { ...data, path },
    settings,
    course: courseOf(settings, data.sequences),
    parameters: tensors.reduce((sum, t) => sum + t.columns * t.rows, 0),
    begun: bootEpochSeconds + Math.floor(nowNs / 1e9),
    process: yield* thisProcess(ctx),
  };
  const wrote = yield* writeRun(ctx, place, run);
  return wrote !== 0 ? wrote : yield* new Training(ctx, place, run, device).carryOut(BEGINNING);
}

const partOf = (path: string): string => `${path}.part`;

/** Writes the sequences of the data at `path` into the place; or the status after a message. */
function* makeData(ctx: RunCtx, place: Place, path: string, settings: Settings, model: Model): Failing<Prepared> {
  const { sys } = ctx;
  const paths = [dataPath(place), indexPath(place)];
  const fds: number[] = [];
  for (const to of paths) {
    const fd = yield* sys.open(partOf(to), O.WRONLY | O.CREAT | O.TRUNC, 0o600);
    if (fd < 0) return yield* ctx.failCall(partOf(to), -fd);
    fds.push(fd);
  }
  const made = yield* prepareData(ctx, path, settings, model, settings.ctx, { data: fds[0]!, index: fds[1]! });
  for (const fd of fds) yield* sys.close(fd);
  for (const to of paths) {
    const status = typeof made === 'number' ? yield* sys.unlink(partOf(to)) : yield* sys.rename(partOf(to), to);
    if (status < 0) return yield* ctx.failCall(to, -status);
  }
  return made;
}

/** Removes what only a training that goes on needs. */
function* forget(ctx: RunCtx, place: Place): Generator<void, void, void> {
  const { sys } = ctx;
  yield* sys.unlink(place.checkpointPath);
  const entries = yield* listDirectory(sys, place.directory);
  if (typeof entries === 'number') return;
  for (const { name } of entries) {
    const path = join(place.directory, name);
    if (/^best\.[0-9]+$/.test(name) || path === dataPath(place) || path === indexPath(place)) yield* sys.unlink(path);
  }
}

// ── Going on ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export function* resume(ctx: RunCtx, [name = '']: readonly string[]): Status {
  const place = yield* openPlace(ctx, name, false);
  if (typeof place === 'number') return place;
  const run = yield* readRun(ctx, place);
  if (typeof run === 'number') return run;
  if (run === null) return yield* ctx.fail(`${name}: no training of that name`);
  if (yield* isUnderWay(ctx, run)) return yield* ctx.fail(`${name}: is being trained (process ${run.process.pid})`);
  if (run.state === 'done') return yield* ctx.fail(`${name}: its training has ended: llmfinetune versions ${name}`);
  const model = yield* modelToTrain(ctx);
  if (typeof model === 'number') return model;
  if (model.digest !== run.model.digest)
    return yield* ctx.fail(
      `${name}: was trained on ${run.model.path}, which is not loaded: llmctl load ${run.model.path}`,
    );
  const progress = yield* readProgress(ctx, place.checkpointPath);
  if (typeof progress === 'number') return progress;
  yield* heed(ctx);
  const opened = yield* openDevice(ctx, run.settings);
  if (typeof opened === 'number') return opened;
  const { device } = opened;
  const status = yield* goOn(ctx, place, run, device, progress);
  yield* ctx.sys.train_close(device.handle);
  return status;
}

function* goOn(ctx: RunCtx, place: Place, before: Run, device: Device, progress: Progress | null): Status {
  if (progress !== null) {
    const status = yield* loadCheckpoint(ctx, place.checkpointPath, device);
    if (status !== 0) return status;
  }
  const run: Run = { ...before, state: 'running', reason: '', process: yield* thisProcess(ctx) };
  const wrote = yield* writeRun(ctx, place, run);
  return wrote !== 0 ? wrote : yield* new Training(ctx, place, run, device).carryOut(progress ?? BEGINNING);
}

// ── Carrying it out ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** How a training came out. */
export interface Result {
  readonly ending: Finished['kind'];
  readonly progress: Progress;
  readonly keptStep: number;
  /** Mean losses of what was kept, over the held-out part or the first sequences; null: nothing was. */
  readonly loss: number | null;
  readonly quantisedLoss: number | null;
  readonly version: Version | null;
}

class Training implements Keeper {
  private readonly meter: Meter;
  private log!: LogWriter;
  private loop!: Loop;

  constructor(
    private readonly ctx: RunCtx,
    private readonly place: Place,
    private readonly run: Omit<Run, 'format'>,
    private readonly device: Device,
  ) {
    this.meter = new Meter(ctx, run.course.steps);
  }

  /** From `progress` to the end, or to where it is stopped: the exit status. */
  *carryOut(progress: Progress): Status {
    const { ctx, place, run, device } = this;
    const { sys } = ctx;
    const log = yield* LogWriter.open(ctx, place.logPath, progress.logBytes);
    if (typeof log === 'number') return log;
    this.log = log;
    yield* announce(ctx, place);
    const data = yield* sys.open(dataPath(place), O.RDONLY, 0);
    const index = data < 0 ? data : yield* sys.open(indexPath(place), O.RDONLY, 0);
    if (index < 0) return yield* ctx.failCall(dataPath(place), -index);
    const parts = { sys, device, settings: run.settings, course: run.course, keeper: this };
    const waitMs = yield* this.meter.begin(progress);
    this.loop = new Loop({ ...parts, sequences: new Sequences(sys, data, index), waitMs }, progress);
    const ending = yield* this.loop.run();
    const status = yield* this.end(ending);
    yield* this.meter.end();
    yield* log.close();
    return status;
  }

  *stepped(line: StepLine): Status {
    yield* this.meter.step(this.loop.progress, null);
    return yield* this.told(line);
  }
  *looked(line: HeldLine): Status {
    yield* this.meter.step(this.loop.progress, null);
    return yield* this.told(line);
  }
  *waiting(state: State): Generator<void, void, void> {
    yield* this.meter.step(this.loop.progress, state);
  }
  *best(step: number): Status {
    return yield* saveParameters(this.ctx, bestPath(this.place, step), this.device);
  }

  *checkpoint(progress: Progress): Status {
    const { ctx, place } = this;
    const state = { ...progress, logBytes: this.log.bytes };
    const vectors = vectorsOf(this.run.settings);
    const status = yield* saveCheckpoint(ctx, place.checkpointPath, this.device, vectors, state);
    const entries = status === 0 ? yield* listDirectory(ctx.sys, place.directory) : [];
    if (typeof entries === 'number') return status;
    // The best step before this one is nobody's now.
    const kept = progress.best === null ? '' : bestPath(place, progress.best.step);
    for (const { name } of entries) {
      const path = join(place.directory, name);
      if (/^best\.[0-9]+$/.test(name) && path !== kept) yield* ctx.sys.unlink(path);
    }
    return status;
  }

  private *told(line: StepLine | HeldLine): Status {
    const status = yield* this.log.write(line);
    if (status !== 0 || !this.ctx.options.json) return status;
    yield* this.ctx.out.print(jsonLine({ ...line }));
    yield* this.ctx.out.flush();
    return 0;
  }

  // ── The end ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private *end(ending: Ending): Status {
    const { ctx, place, run } = this;
    const result = ending.kind === 'failed' || ending.kind === 'stopped' ? ending : yield* this.keep(ending.kind);
    if (!isOver(result)) return yield* this.report(result);
    yield* this.meter.clear();
    const { step } = this.loop.progress;
    const failed = result.kind === 'failed';
    const reason = result.kind === 'failed' ? result.message : '';
    yield* writeRun(ctx, place, { ...run, state: result.kind, reason });
    const where = `after step ${step} of ${run.course.steps}; 'llmfinetune resume ${place.name}' goes on`;
    if (failed && reason !== '') yield* ctx.fail(`${place.name}: ${reason}`);
    yield* ctx.fail(`${place.name}: stopped ${where}`);
    return failed ? 1 : signalStatus(SIG.INT);
  }

  /** Makes the parameters that are to be kept a version; how it came out, or that it is over. */
  private *keep(ending: Finished['kind']): Generator<void, Result | Failed | Stopped, void> {
    const { place, device, loop } = this;
    const { settings } = this.run;
    const { progress } = loop;
    const best = settings.rollback && progress.best !== null ? progress.best.step : progress.step;
    const nothing = { ending, progress, keptStep: 0, loss: null, quantisedLoss: null, version: null };
    if (best === 0) return nothing;
    const back = best === progress.step ? 0 : yield* loadParameters(this.ctx, bestPath(place, best), device);
    if (back !== 0) return { kind: 'failed', message: '' };
    const loss = yield* loop.finalLoss(TRAIN_BATCH.measure);
    if (isOver(loss)) return loss;
    const quantised = yield* loop.finalLoss(TRAIN_BATCH.measureQuantised);
    if (isOver(quantised)) return quantised;
    const facts = { ...nothing, keptStep: best, loss: loss.loss, quantisedLoss: quantised.loss };
    const version = yield* this.makeVersion(facts);
    return typeof version === 'number' ? { kind: 'failed', message: '' } : { ...facts, version };
  }

  private *makeVersion(result: Result): Failing<Version> {
    const { ctx, place, run, device } = this;
    const tensors = yield* trainedTensors(ctx.sys);
    if (typeof tensors === 'number') return yield* failAbout(ctx, '/proc/traintensors', tensors);
    const { method, alpha } = run.settings;
    const trained = { method, name: place.name, base: run.model.path, alpha, tensors };
    const bytes = yield* writeTrained(ctx, place.newPath, trained, (from, buffer) =>
      device.read('parameters', from, buffer),
    );
    if (bytes < 0) return -bytes;
    return yield* commit(ctx, place, place.newPath, this.manifest(result));
  }

  private manifest(r: Result): Readonly<Record<string, Json>> {
    const { run } = this;
    return {
      model: run.model,
      data: { ...run.data },
      settings: settingsJson(run.settings),
      held_out: run.course.heldOut,
      steps: r.progress.step,
      kept_step: r.keptStep,
      first_loss: r.progress.first ?? r.progress.began,
      final_loss: r.loss,
      quantised_loss: r.quantisedLoss,
      tokens: r.progress.tokens,
      cycles: r.progress.cycles,
    };
  }

  private *report(result: Result): Status {
    const { ctx, place, run } = this;
    yield* this.meter.clear();
    const wrote = yield* writeRun(ctx, place, { ...run, state: 'done' });
    if (wrote !== 0) return wrote;
    yield* forget(ctx, place);
    if (ctx.options.json) yield* ctx.out.print(jsonLine(finalJson(place.name, run, result)));
    else if (!ctx.options.quiet) yield* ctx.out.print(closing(place.name, run, result));
    if (result.version !== null) return 0;
    const { best } = result.progress;
    return yield* ctx.fail(
      `${place.name}: the held-out loss has not fallen below ${(best?.loss ?? 0).toFixed(4)}, where it began: nothing is kept (--rollback no keeps the last parameters)`,
    );
  }
}

/** The last line of --json; its first five keys are the specification's. */
function finalJson(name: string, run: Omit<Run, 'format'>, r: Result): Readonly<Record<string, Json>> {
  const { course, data, settings } = run;
  const { progress: p, version } = r;
  return {
    epochs_completed: Math.floor(p.step / course.stepsPerEpoch),
    final_loss: r.loss,
    duration_ms: Math.round(p.elapsedNs / 1e6),
    examples_processed: Math.min(
      p.step * settings.batch * settings.accumulate,
      (course.sequences - course.heldOut) * Math.ceil(p.step / course.stepsPerEpoch),
    ),
    adapter_size_bytes: version?.bytes ?? null,
    name,
    version: version?.number ?? null,
    id: version?.id ?? null,
    digest: version?.digest ?? null,
    path: version?.path ?? null,
    ended: r.ending,
    method: settings.method,
    parameters: run.parameters,
    steps: p.step,
    kept_step: r.keptStep,
    held_out: course.heldOut,
    first_held_out_loss: p.first,
    quantised_loss: r.quantisedLoss,
    first_loss: p.began,
    last_loss: p.loss,
    sequences: course.sequences,
    cut: data.cut,
    bad: data.bad,
    tokens: p.tokens,
    measured_tokens: p.measured,
    cycles: p.cycles,
    tokens_per_second: p.elapsedNs === 0 ? null : ((p.tokens + p.measured) * 1e9) / p.elapsedNs,
  };
}
