// `llmfinetune merge`: a model with an adapter worked into its weights. Each matrix that the adapter changes becomes W + s · B · A in f32 and is then
// rounded to the type it had, or to --type; everything else is the base's, byte for byte. Arithmetic, so that it can be repeated: s = scale ·
// alpha / rank; a value's sum over the rank in order, each product and each sum rounded to f32; then times s, then added to the weight. What
// rounding takes away again is said for each matrix.

import { CONVERT, ConvertReport, GGML_TYPE, O, ggmlTypeName, shown } from '../../../kernel/abi/index.ts';
import type { GgmlTypeName, Sys } from '../../../kernel/abi/index.ts';
import { jsonLine, table } from '../fmt.ts';
import type { OptionTable } from '../getopt.ts';
import { failAbout, grouped, loadedModel, modelPath, wrong } from '../model.ts';
import { diffRows } from '../model-diff.ts';
import { lastError } from '../program.ts';
import type { Context } from '../program.ts';
import { checkTarget } from '../write-model.ts';
import { bytesOf, floatsOf, readAdapter } from './adapter-file.ts';
import type { Adapter, Pair } from './adapter-file.ts';
import { namedAdapter, scaleOf } from './apply.ts';
import type { applyOptions } from './apply.ts';
import { NewFile, keysOf, readAt, readModelFile, textOf, textValue } from './model-file.ts';
import type { FileTensor, ModelFile, Stretch } from './model-file.ts';
import type { Run, commonOptions } from './verb.ts';

export const mergeOptions = {
  type: {
    value: 'TYPE',
    help: 'merge: write changed matrices as TYPE (F32, F16, Q8_0, Q4_0, …) instead of as they are',
  },
  base: { value: 'MODEL', help: 'merge: into this model instead of the loaded one' },
} as const satisfies OptionTable;

type Ctx = Context<typeof mergeOptions & typeof applyOptions & typeof commonOptions>;

/** What became of a matrix. */
interface Merged {
  readonly name: string;
  readonly type: GgmlTypeName;
  readonly data: Stretch;
  readonly changeRms: number; // of what was added
  readonly roundingRms: number; // of what the type took away
}

export function* merge(ctx: Ctx, [text = '', to = '']: readonly string[]): Run {
  const { sys, options } = ctx;
  const scale = yield* scaleOf(ctx);
  if (scale === null) return 2;
  const type = options.type?.toUpperCase();
  if (type !== undefined && !Object.hasOwn(GGML_TYPE, type)) return yield* wrong(ctx, `no type '${options.type}'`);
  const named = yield* namedAdapter(ctx, text);
  if (typeof named === 'number') return named;
  const adapter = yield* readAdapter(sys, named.path);
  if (typeof adapter === 'number') return yield* ctx.fail(named.path, -adapter);
  if (typeof adapter === 'string') return yield* ctx.fail(`${named.path}: ${adapter}`);
  const base = yield* basePath(ctx);
  if (typeof base === 'number') return base;
  const target = yield* checkTarget(ctx, base, to);
  if (target !== 0) return target;
  const merger = new Merger(ctx, base, to, adapter, scale, type as GgmlTypeName | undefined);
  const merged = yield* merger.run(named.name);
  yield* merger.end();
  if (typeof merged === 'number') return merged;
  const { bytes, matrices } = merged;
  yield* ctx.out.print(
    options.json
      ? jsonLine({
          file: to,
          bytes,
          base,
          name: named.name,
          version: named.version,
          scale,
          matrices: matrices.map(m => ({
            name: m.name,
            type: m.type,
            change_rms: m.changeRms,
            rounding_rms: m.roundingRms,
          })),
        })
      : reportText(to, bytes, matrices),
  );
  return 0;
}

/** The model to merge into: --base, or the loaded one's file; or the status after a message. */
function* basePath(ctx: Ctx): Generator<void, string | number, void> {
  if (ctx.options.base !== undefined) return yield* modelPath(ctx.sys, ctx.options.base);
  const model = yield* loadedModel(ctx.sys);
  if (typeof model === 'number') return yield* failAbout(ctx, '', model);
  return model.path === '' ? yield* ctx.fail('the loaded engine has no file to merge into: --base MODEL') : model.path;
}

function reportText(to: string, bytes: number, matrices: readonly Merged[]): string {
  const lossy = matrices.filter(m => m.roundingRms > 0);
  const rows = lossy.map(m => [m.name, m.type, m.changeRms.toExponential(2), m.roundingRms.toExponential(2)]);
  const head = ['MATRIX', 'TYPE', 'CHANGE', 'ROUNDING'];
  const losses = rows.length === 0 ? '' : table([head, ...rows], [false, false, true, true]);
  const rounded =
    rows.length === 0
      ? ', nothing rounded'
      : `; root mean squares of what ${rows.length} were changed by, and of their rounding, are above`;
  return `${losses}${to}: ${grouped(bytes)} bytes, ${matrices.length} matrices merged${rounded}\n`;
}

/** A merge under way: files that are open, and those that are in between. */
class Merger {
  private readonly sys: Sys;
  private readonly open: number[] = [];
  private readonly between: string[] = [];

  constructor(
    private readonly ctx: Ctx,
    private readonly base: string,
    private readonly to: string,
    private readonly adapter: Adapter,
    private readonly scale: number,
    private readonly type: GgmlTypeName | undefined,
  ) {
    this.sys = ctx.sys;
  }

  /** Writes the model: its bytes and what became of the matrices; or the status after a message. */
  *run(name: string): Generator<void, { readonly bytes: number; readonly matrices: readonly Merged[] } | number, void> {
    const { ctx } = this;
    const stored = yield* this.openFile(this.base);
    if (typeof stored === 'number') return stored;
    const mistake = misfit(stored, this.adapter);
    if (mistake !== null) return yield* ctx.fail(`${this.base}: ${mistake}`);
    const plain = yield* this.converted(this.base, 'F32', true);
    if (typeof plain === 'number') return plain;
    const byType = new Map<GgmlTypeName, Pair[]>();
    for (const pair of this.adapter.pairs) {
      const type = this.type ?? ggmlTypeName(stored.byName.get(pair.base)!.type)!;
      byType.set(type, [...(byType.get(type) ?? []), pair]);
    }
    const merged = new Map<string, Merged>();
    for (const [type, pairs] of byType) {
      const failed = yield* this.mergeInto(plain, type, pairs, merged);
      if (failed !== 0) return failed;
    }
    const bytes = yield* this.write(stored, merged, name);
    return bytes < 0 ? yield* ctx.failCall(this.to, -bytes) : { bytes, matrices: [...merged.values()] };
  }

  /** Closes what is open, and removes what was in between. */
  *end(): Generator<void, void, void> {
    for (const fd of this.open) yield* this.sys.close(fd);
    for (const path of this.between) yield* this.sys.unlink(path);
  }

  private *openFile(path: string): Generator<void, ModelFile | number, void> {
    const fd = yield* this.sys.open(path, O.RDONLY, 0);
    return fd < 0 ? yield* this.ctx.failCall(path, -fd) : yield* this.look(fd, path);
  }

  private *look(fd: number, path: string): Generator<void, ModelFile | number, void> {
    this.open.push(fd);
    const file = yield* readModelFile(this.sys, fd);
    return typeof file === 'string' ? yield* this.ctx.fail(`${path}: ${file}`) : file;
  }

  /** A model as the kernel makes it of another type while it is read. */
  private *converted(path: string, type: GgmlTypeName, again: boolean): Generator<void, ModelFile | number, void> {
    const report = new Uint8Array(ConvertReport.bytes);
    const fd = yield* this.sys.model_convert(path, GGML_TYPE[type], again ? CONVERT.requantize : 0, report);
    if (fd >= 0) return yield* this.look(fd, path);
    const text = yield* lastError(this.sys, fd);
    return yield* this.ctx.fail(this.type === undefined && type !== 'F32' ? `${text}: --type says another` : text);
  }

  /** Merges the pairs of one type into a file of their own, and has the kernel round that. 0, or the status after a message. */
  private *mergeInto(plain: ModelFile, type: GgmlTypeName, pairs: readonly Pair[], merged: Map<string, Merged>): Run {
    const path = `${this.to}.merged-${type}`;
    const changes = yield* this.writeMerged(path, plain, pairs);
    if (typeof changes === 'number') return changes;
    const rounded = type === 'F32' ? path : yield* this.rounded(path, type);
    if (typeof rounded === 'number') return rounded;
    const file = yield* this.openFile(rounded);
    if (typeof file === 'number') return file;
    const losses = type === 'F32' ? [] : yield* diffRows(this.sys, path, rounded);
    if (typeof losses === 'number') return yield* failAbout(this.ctx, path, losses);
    for (const [i, { base }] of pairs.entries()) {
      const { data, type: stored } = file.byName.get(base)!;
      const roundingRms = Number(losses.find(row => row.name === base)?.rms ?? 0);
      merged.set(base, { name: base, type: ggmlTypeName(stored)!, data, changeRms: changes[i]!, roundingRms });
    }
    return 0;
  }

  /** A file of only these matrices, merged, F32: what each was changed by; or the status after a message. */
  private *writeMerged(
    path: string,
    plain: ModelFile,
    pairs: readonly Pair[],
  ): Generator<void, number[] | number, void> {
    const file = yield* NewFile.begin(this.sys, path);
    if (typeof file === 'number') return yield* this.ctx.failCall(path, -file);
    const tensors = pairs.map(p => plain.byName.get(p.base)!);
    const architecture = textValue(textOf(plain, 'general.architecture'));
    yield* file.head(new Map([['general.architecture', architecture]]), tensors);
    const changes: number[] = [];
    for (const [i, pair] of pairs.entries()) {
      changes.push(yield* this.mergeOne(file, tensors[i]!, pair));
      yield* file.align();
    }
    const failed = yield* file.finish();
    if (failed < 0) return yield* this.ctx.failCall(path, -failed);
    this.between.push(path);
    return changes;
  }

  /** A file as the kernel rounds it to `type`, written down: its path; or the status after a message. */
  private *rounded(path: string, type: GgmlTypeName): Generator<void, string | number, void> {
    const made = yield* this.converted(path, type, false);
    if (typeof made === 'number') return made;
    const to = `${this.to}.rounded-${type}`;
    const file = yield* NewFile.begin(this.sys, to);
    if (typeof file === 'number') return yield* this.ctx.failCall(to, -file);
    yield* file.copy({ fd: made.fd, at: 0, bytes: made.bytes });
    const failed = yield* file.finish();
    if (failed < 0) return yield* this.ctx.failCall(to, -failed);
    this.between.push(to);
    return to;
  }

  /** Writes one matrix, merged, a row at a time: the root mean square of what was added. */
  private *mergeOne(file: NewFile, { data }: FileTensor, pair: Pair): Generator<void, number, void> {
    const { inputs, outputs, rank, a, b } = pair;
    const times = Math.fround(Math.fround(this.scale * Math.fround(this.adapter.alpha)) / rank);
    const bytes = new Uint8Array(4 * inputs);
    const added = new Float32Array(inputs);
    let squares = 0;
    for (let o = 0; o < outputs && file.error === 0; o++) {
      const failed = yield* readAt(this.sys, data.fd, data.at + o * bytes.length, bytes);
      if (failed < 0) file.error = failed;
      const row = floatsOf(bytes);
      added.fill(0);
      for (let r = 0; r < rank; r++) {
        const factor = b[o * rank + r]!;
        for (let i = 0; i < inputs; i++) added[i] = added[i]! + Math.fround(factor * a[r * inputs + i]!);
      }
      for (let i = 0; i < inputs; i++) {
        const change = Math.fround(times * added[i]!);
        row[i] = row[i]! + change;
        squares += change * change;
      }
      yield* file.write(bytesOf(row));
    }
    return Math.sqrt(squares / (inputs * outputs));
  }

  /** The base with the merged matrices in place of its own: bytes, or -errno. */
  private *write(stored: ModelFile, merged: ReadonlyMap<string, Merged>, name: string): Generator<void, number, void> {
    const file = yield* NewFile.begin(this.sys, this.to);
    if (typeof file === 'number') return file;
    const title = [textOf(stored, 'general.name'), name].filter(part => part !== '').join(' + ');
    yield* file.head(
      keysOf(stored, [['general.name', textValue(title)]]),
      stored.tensors.map(t => ({ ...t, type: GGML_TYPE[merged.get(t.name)?.type ?? ggmlTypeName(t.type)!] })),
    );
    for (const { name: tensor, data } of stored.tensors) {
      yield* file.copy(merged.get(tensor)?.data ?? data);
      yield* file.align();
    }
    const failed = yield* file.finish();
    return failed < 0 ? failed : file.bytes;
  }
}

/** Why an adapter is none for a model, or null. */
function misfit(model: ModelFile, { architecture, pairs }: Adapter): string | null {
  const own = textOf(model, 'general.architecture');
  if (architecture !== '' && architecture !== own) return `is ${shown(own)}, the adapter is for ${shown(architecture)}`;
  for (const { base, inputs, outputs } of pairs) {
    const shape = model.byName.get(base)?.shape;
    if (shape === undefined) return `has no tensor ${shown(base)}, which the adapter changes`;
    if (shape.length !== 2 || shape[0] !== inputs || shape[1] !== outputs)
      return `tensor ${shown(base)} is ${shape.join(' × ')}, the adapter is for ${inputs} × ${outputs}`;
  }
  return null;
}
