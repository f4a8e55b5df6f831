// `llmfinetune eval`: the loss on data, with an adapter and without, in one go and on the path that inference takes: the training device measures, the
// adapter being its parameters, and what is applied or runs beside it does not matter. Each sequence's score, the geometric mean of its
// targets' probabilities, is written down for `llmfinetune drift`.

import { E, SIG, TRAIN_BATCH, TRAIN_STATE, shown, utf8Encode } from '../../../kernel/abi/index.ts';
import type { TrainTensor } from '../../../kernel/abi/index.ts';
import { exp } from '../exp.ts';
import { readText } from '../files.ts';
import { jsonLine } from '../fmt.ts';
import { getopt } from '../getopt.ts';
import type { OptionTable } from '../getopt.ts';
import { failAbout, grouped, wrong } from '../model.ts';
import { lastError, signalStatus } from '../program.ts';
import type { Context } from '../program.ts';
import { ProgressBar } from '../progress.ts';
import { A_SUFFIX, B_SUFFIX, bytesOf, readAdapter } from './adapter-file.ts';
import type { Adapter } from './adapter-file.ts';
import { Device, trainedTensors } from './device.ts';
import { writeFile } from './model-file.ts';
import { settingOptions, settingsOf } from './options.ts';
import type { SettingValues, Settings } from './options.ts';
import { prepareData } from './prepare.ts';
import { Sequences } from './sequences.ts';
import { asVersion, openVersion } from './store.ts';
import type { Place, VersionRecord } from './store.ts';
import { modelToTrain, openDevice } from './train.ts';
import type { Run, commonOptions } from './verb.ts';

const { ctx: ctxOption, 'mask-prompt': maskOption, separator, bad } = settingOptions;
export const evalOptions = {
  ctx: ctxOption,
  'mask-prompt': maskOption,
  separator,
  bad,
} as const satisfies OptionTable;
export const evalTakes = ['ctx', 'mask-prompt', 'separator', 'bad'] as const;

type Ctx = Context<typeof evalOptions & typeof commonOptions>;
type Failing<T> = Generator<void, T | number, void>;

/** Scores that are kept: ten windows of drift. */
const SCORES_KEPT = 10_000;
const SCORES_BYTES = 16 << 20;

/** Names of targets by the matrices of GGUF. */
const TARGET_OF: Readonly<Record<string, string>> = {
  attn_q: 'q',
  attn_k: 'k',
  attn_v: 'v',
  attn_qkv: 'qkv',
  attn_output: 'o',
  ffn_gate: 'gate',
  ffn_up: 'up',
  ffn_down: 'down',
};

/** What sequences lose: Σ −ln p and targets of each. */
interface Measured {
  readonly sums: readonly number[];
  readonly targets: readonly number[];
}
const meanOf = ({ sums, targets }: Measured): number => total(sums) / total(targets);
const total = (values: readonly number[]): number => values.reduce((sum, x) => sum + x, 0);

export function* evaluate(ctx: Ctx, operands: readonly string[]): Run {
  const [data = '', name] = [...operands].reverse();
  const found = name === undefined ? null : yield* openVersion(ctx, name);
  if (typeof found === 'number') return found;
  const adapter = found === null ? null : yield* adapterOf(ctx, found.place, found.record);
  if (typeof adapter === 'number') return adapter;
  const settings = settingsFor(ctx, adapter);
  if (typeof settings === 'string') return yield* wrong(ctx, settings);
  const model = yield* modelToTrain(ctx);
  if (typeof model === 'number') return model;
  yield* ctx.sys.signal(SIG.INT, 1);
  const opened = yield* openDevice(ctx, settings);
  if (typeof opened === 'number') return opened;
  const { device, report } = opened;
  const evaluation = new Evaluation(ctx, device, { ...settings, ctx: report.ctx });
  const result = yield* evaluation.run(data, model, adapter);
  yield* ctx.sys.train_close(device.handle);
  if (typeof result === 'number') return result;
  const { without, adapted } = result;
  if (found !== null && adapted !== null) {
    const kept = yield* keepScores(ctx, found.place, found.record, adapted);
    if (kept !== 0) return kept;
  }
  const losses = { loss_without: meanOf(without), loss: adapted === null ? null : meanOf(adapted) };
  if (ctx.options.json) {
    const facts = { data, model: model.path, sequences: without.sums.length, targets: total(without.targets) };
    const of = { name: found?.place.name ?? null, version: found?.record.version ?? null };
    yield* ctx.out.print(jsonLine({ ...of, ...facts, ...losses, perplexity: exp(losses.loss ?? losses.loss_without) }));
  } else yield* ctx.out.print(reportText(name, losses, without));
  return 0;
}

function reportText(
  name: string | undefined,
  { loss_without: base, loss }: { readonly loss_without: number; readonly loss: number | null },
  { sums, targets }: Measured,
): string {
  const line = (what: string, x: number): string =>
    `${what.padEnd(24)}  loss ${x.toFixed(4)}  perplexity ${exp(x).toFixed(3)}\n`;
  const over = `over ${grouped(total(targets))} tokens of ${grouped(sums.length)} sequences\n`;
  return line('the model alone', base) + (loss === null ? '' : line(`with ${name}`, loss)) + over;
}

/** The adapter that a version is; or the status after a message. */
function* adapterOf(ctx: Ctx, place: Place, record: VersionRecord): Failing<Adapter> {
  const { path } = asVersion(place, record);
  if (record.kind === 'model')
    return yield* ctx.fail(`${place.name}: a whole model: llmctl load ${path}, then llmfinetune eval DATA`);
  const adapter = yield* readAdapter(ctx.sys, path);
  if (typeof adapter === 'number') return yield* ctx.failCall(path, -adapter);
  return typeof adapter === 'string' ? yield* ctx.fail(`${path}: ${adapter}`) : adapter;
}

/** Settings of a training whose parameters the adapter can be, a small one where there is none; or what is wrong. */
function settingsFor({ options }: Ctx, adapter: Adapter | null): Settings | string {
  const defaults = getopt(settingOptions, [], 'gnu').options as SettingValues;
  const { ctx, 'mask-prompt': mask, separator: line, bad: what } = options;
  const given = settingsOf({ ...defaults, ctx, 'mask-prompt': mask, separator: line, bad: what });
  if (typeof given === 'string') return given;
  const small: Settings = { ...given, optimizer: 'sgd', targets: ['v'], rank: 1, share: 0 };
  if (adapter === null) return small;
  const ranks = [...new Set(adapter.pairs.map(p => p.rank))];
  const targets = [
    ...new Set(adapter.pairs.map(p => TARGET_OF[/^blk\.[0-9]+\.(.*)\.weight$/.exec(p.base)?.[1] ?? ''] ?? p.base)),
  ];
  if (ranks.length > 1)
    return `an adapter of several ranks (${ranks.join(', ')}): apply it, and llmctl perplexity measures it`;
  return { ...small, targets, rank: ranks[0]!, alpha: adapter.alpha };
}

/** A measurement under way. */
class Evaluation {
  private readonly bar: ProgressBar;
  private batch = -1;
  private done = 0;

  constructor(
    private readonly ctx: Ctx,
    private readonly device: Device,
    private readonly settings: Settings,
  ) {
    this.bar = new ProgressBar(ctx, (done, all) => `${grouped(done)} of ${grouped(all)} sequences`);
  }

  /** What the data lose without the adapter, and with it where there is one; or the status after a message. */
  *run(
    data: string,
    model: Parameters<typeof prepareData>[3],
    adapter: Adapter | null,
  ): Failing<{ readonly without: Measured; readonly adapted: Measured | null }> {
    const { ctx, settings } = this;
    const { sys } = ctx;
    const files = { data: yield* sys.memfd('sequences'), index: yield* sys.memfd('index') };
    this.batch = yield* sys.memfd('batch');
    if (Math.min(files.data, files.index, this.batch) < 0) return yield* this.failed(-E.MFILE);
    const prepared = yield* prepareData(ctx, data, settings, model, settings.ctx, files);
    if (typeof prepared === 'number') return prepared;
    const sequences = new Sequences(sys, files.data, files.index);
    const all = prepared.sequences * (adapter === null ? 1 : 2);
    const without = yield* this.measure(sequences, prepared.sequences, all);
    if (typeof without === 'number' || adapter === null)
      return typeof without === 'number' ? without : { without, adapted: null };
    const placed = yield* this.place(adapter);
    if (placed !== 0) return placed;
    const adapted = yield* this.measure(sequences, prepared.sequences, all);
    yield* this.bar.end();
    return typeof adapted === 'number' ? adapted : { without, adapted };
  }

  /** The device's parameters become the adapter's pairs: 0, or the status after a message. */
  private *place({ pairs }: Adapter): Run {
    const { ctx, device } = this;
    const tensors = yield* trainedTensors(ctx.sys);
    if (typeof tensors === 'number') return yield* failAbout(ctx, '/proc/traintensors', tensors);
    const halves = new Map<string, Float32Array>();
    for (const { base, a, b } of pairs) halves.set(base + A_SUFFIX, a).set(base + B_SUFFIX, b);
    const fits = ({ name, columns, rows }: TrainTensor): boolean => halves.get(name)?.length === columns * rows;
    const fitting = tensors.filter(fits).map(t => t.name);
    const strange = [...halves.keys()].find(name => !fitting.includes(name));
    if (strange !== undefined) return yield* ctx.fail(`an adapter for another model: ${shown(strange)}`);
    for (const { name, columns, rows, from } of tensors) {
      const values = halves.get(name) ?? new Float32Array(columns * rows);
      const wrote = yield* device.write('parameters', 4 * from, bytesOf(values));
      if (wrote < 0) return yield* this.failed(wrote);
    }
    return 0;
  }

  /** Every sequence alone; or the status after a message. */
  private *measure(sequences: Sequences, count: number, all: number): Failing<Measured> {
    const { ctx, device, batch } = this;
    const { sys } = ctx;
    const sums: number[] = [];
    const targets: number[] = [];
    for (let i = 0; i < count; i++) {
      yield* this.bar.show(this.done++, all);
      yield* sys.ftruncate(batch, 0);
      yield* sys.lseek(batch, 0, 0);
      const sequence = yield* sequences.find(i);
      const copied = typeof sequence === 'number' ? sequence : yield* sequences.copy(sequence, batch);
      if (copied < 0) return yield* this.failed(copied);
      yield* sys.lseek(batch, 0, 0);
      const given = yield* device.give(batch, MEASURE);
      const waited = given < 0 ? given : yield* device.wait(-1);
      if (waited === -E.INTR || sys.signalled()) return signalStatus(SIG.INT);
      if (waited < 0) return yield* this.failed(waited);
      const { state, message, loss, targets: n } = device.state;
      if (TRAIN_STATE[state] !== 'idle') return yield* ctx.fail(message);
      sums.push(loss);
      targets.push(n);
    }
    return { sums, targets };
  }

  private *failed(errno: number): Run {
    yield* this.bar.end();
    return yield* this.ctx.fail(yield* lastError(this.ctx.sys, errno));
  }
}

/** A batch that is only measured. */
const MEASURE: Parameters<Device['give']>[1] = {
  kind: TRAIN_BATCH.measureQuantised,
  update: 0,
  directions: 1,
  ranked: 0,
  seedLow: 0,
  seedHigh: 0,
  rate: 0,
  clip: 0,
  beta1: 0,
  beta2: 0,
  epsilon: 0,
  decay: 0,
  anchor: 0,
  distanceMax: 0,
  sigma: 0,
  tokens: 0,
};

/** Writes scores behind those that are there, the oldest making way. 0, or the status after a message. */
function* keepScores(ctx: Ctx, place: Place, { version }: VersionRecord, { sums, targets }: Measured): Run {
  const before = yield* readText(ctx.sys, place.scoresPath, SCORES_BYTES);
  if (typeof before === 'number' && before !== -E.NOENT) return yield* ctx.failCall(place.scoresPath, -before);
  const lines = typeof before === 'string' ? before.split('\n').slice(0, -1) : [];
  sums.forEach((sum, i) => {
    const loss = sum / targets[i]!;
    lines.push(JSON.stringify({ version, loss, score: exp(-loss) }));
  });
  const text = lines
    .slice(-SCORES_KEPT)
    .map(line => `${line}\n`)
    .join('');
  const wrote = yield* writeFile(ctx.sys, place.scoresPath, utf8Encode(text));
  return wrote < 0 ? yield* ctx.failCall(place.scoresPath, -wrote) : 0;
}
