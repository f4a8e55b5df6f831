// The transformer engine: an accelerator driver that maps a GGUF model into the arena and compiles it into a plan. It never runs the
// plan itself. What budget() says is what load() takes, region by region; a model it does not compute exactly is refused by name.

import {
  GGML_BLOCK,
  GGML_TYPE,
  ggmlTypeName,
  isGrouped,
  isRefusal,
  KV_TYPES,
  printable,
  refuse,
} from '../../../kernel/abi/index.ts';
import type {
  ArenaView,
  Engine,
  EngineBudget,
  EngineDriver,
  EngineOptions,
  EnginePlace,
  ModelImage,
  ModelShape,
  PlanImage,
  Refusal,
  TensorPlace,
  TokenizerDriver,
} from '../../../kernel/abi/index.ts';
import type { EngineCompute } from '../compute.ts';
import { alignUp, Cursor } from '../memory.ts';
import { GROUP, type Op } from '../ops.ts';
import { Plan } from '../plan.ts';
import type { Operand, Operands, Place, PlanSink } from '../plan.ts';
import { layOutPool } from '../sessions.ts';
import { logitsBytes, ropeFrequenciesBytes } from '../sizes.ts';
import { directoryBytes, writeDirectory } from '../tensors.ts';
import { bindAdapters, placeAdapters } from './adapters.ts';
import { bind, hyperparameters } from './architecture.ts';
import type { BoundTensor, Hyperparameters } from './architecture.ts';
import { compile, kvBytesPerToken, layOutScratch, scalesAt, slotsAt } from './compile.ts';
import type { Model, PlacedModel, PlacedTensor, Scratch } from './compile.ts';
import { insideOf } from './inside.ts';
import { placeStream, streaming } from './residency.ts';
import type { Streaming } from './residency.ts';
import { Training } from './train.ts';

export interface TransformerParts {
  readonly arena: ArenaView;
  readonly compute: EngineCompute;
  readonly tokenizer: TokenizerDriver;
}

export class TransformerDriver implements EngineDriver {
  readonly name = 'transformer';

  constructor(private readonly parts: TransformerParts) {}

  describe(image: ModelImage): ModelShape | Refusal {
    const h = hyperparameters(image);
    if (isRefusal(h)) return h;
    const tensors = bind(image, h);
    return isRefusal(tensors) ? tensors : shapeOf(image, h);
  }

  order(image: ModelImage): readonly string[] | Refusal {
    const opened = this.open(image, LEAST_OPTIONS);
    if (isRefusal(opened)) return opened;
    const { model, scratch, frequencies } = layOut(opened, NOWHERE);
    const sink = new TensorOrder(model.tensors);
    compile(model, scratch, frequencies, sink);
    return [...sink.names];
  }

  budget(image: ModelImage, options: EngineOptions): EngineBudget | Refusal {
    const opened = this.open(image, options);
    if (isRefusal(opened)) return opened;
    const { model } = opened;
    const vocabulary = this.parts.tokenizer.budget(image);
    if (isRefusal(vocabulary)) return vocabulary;
    const layout = layOut(opened, NOWHERE);
    return {
      weights: layout.weightsBytes,
      adapters: layout.adaptersBytes,
      stream: layout.streamBytes,
      tensors: directoryBytes(model.tensors.values()),
      vocabulary: vocabulary.bytes,
      kv: layOutPool(options, kvBytesPerToken(model.h, options.kvType), 0).bytes,
      // The tokenizer cuts text in the scratch region while no step runs, and tensors pass through it while the model is loaded.
      scratch: alignUp(Math.max(layout.scratch.bytes, vocabulary.workBytes, stagingBytes(tensorsRead(opened)))),
      plan: layout.plan.endAt(),
      session: options.sessions * slotsAt(options, 0).bytes,
    };
  }

  load(image: ModelImage, options: EngineOptions, budget: EngineBudget, place: EnginePlace): Engine | Refusal {
    const opened = this.open(image, options);
    if (isRefusal(opened)) return opened;
    const layout = layOut(opened, place);
    const { model } = layout;
    const staging = { name: 'staging', at: place.scratchAt, bytes: budget.scratch };
    for (const { name } of resident(opened)) {
      const refusal = this.loadTensor(image, model.tensors.get(name)!, staging);
      if (refusal !== null) return refusal;
    }
    for (const { adapter, a, b } of [...model.pairs.values()].flat()) {
      const { path, image: file } = options.adapters[adapter]!;
      const refusal = this.loadTensor(file, a, staging) ?? this.loadTensor(file, b, staging);
      if (refusal !== null) return { ...refusal, message: `${path}: ${refusal.message}` };
    }
    const { arena, tokenizer } = this.parts;
    const directory = writeDirectory(arena.u8, place.tensorsAt, [...model.tensors.values()]);
    const vocabulary = tokenizer.load(image, place.vocabularyAt, budget.vocabulary);
    if (isRefusal(vocabulary)) return vocabulary;
    this.writeFrequencies(layout);
    const { weightsBytes: weights, adaptersBytes: adapters, streamBytes: stream } = layout;
    const taken = { weights, adapters, stream, tensors: directory, plan: layout.plan.endAt() - place.planAt };
    for (const region of ['weights', 'adapters', 'stream', 'tensors', 'plan'] as const)
      if (taken[region] !== budget[region])
        return refuse('NOMEM', 9999, `region ${region}: ${budget[region]} bytes planned, ${taken[region]} taken`);
    const { kvAt, pageBytes, pageRecordsAt } = layOutPool(
      options,
      kvBytesPerToken(model.h, options.kvType),
      place.kvAt,
    );
    const placed = layout.plan.load(arena);
    return {
      name: this.name,
      shape: shapeOf(image, model.h),
      options,
      vocabulary,
      ...placed,
      logitsAt: layout.scratch.logits.at,
      logitsStride: logitsBytes(model.h.vocabulary),
      kvAt,
      pageBytes,
      pageRecordsAt,
      slots: slotsAt(options, place.sessionAt),
      begin: () => {},
      ops: () => layout.plan.rows(),
      tensors: () => [...model.tensors.values()].map(placeOf),
      inside:
        placed.stream === null ? insideOf(arena, placed.bodyAt, layout.plan.rows(), layout.scratch.hidden.at) : null,
      training:
        placed.stream === null
          ? new Training(arena, model, layout.frequencies)
          : refuse(
              'NOTSUP',
              7001,
              'weights that stream cannot be trained: load the model with --stream resident, or a smaller one',
            ),
      scalesAt: scalesAt(options),
    };
  }

  plan(image: ModelImage, options: EngineOptions, _budget: EngineBudget, place: EnginePlace): PlanImage | Refusal {
    const opened = this.open(image, options);
    if (isRefusal(opened)) return opened;
    const layout = layOut(opened, place);
    return { ...layout.plan.image(place.planAt), logitsAt: layout.scratch.logits.at };
  }

  private open(image: ModelImage, options: EngineOptions): Opened | Refusal {
    const h = hyperparameters(image);
    if (isRefusal(h)) return h;
    const tensors = bind(image, h);
    if (isRefusal(tensors)) return tensors;
    const learned = tensors.get('position_embd.weight');
    if (learned !== undefined && options.ctx > learned.rows)
      return refuse('INVAL', 2003, `context ${options.ctx}: the model has ${learned.rows} learned positions`);
    const bad = checkHeads(h, options.kvType);
    if (bad !== null) return bad;
    const adapters = bindAdapters(options.adapters, image.architecture, tensors);
    if (isRefusal(adapters)) return adapters;
    const model = { h, options, tensors, adapters };
    const streams = streaming(model);
    return isRefusal(streams) ? streams : { model, streams };
  }

  /** Brings one tensor from the file into place: pieces of whole groups of rows go through the staging buffer and are repacked out of it. */
  private loadTensor(image: ModelImage, t: PlacedTensor, staging: Place & { readonly bytes: number }): Refusal | null {
    const { compute } = this.parts;
    const fileRow = t.info.bytes / t.rows;
    const placedRow = t.bytes / t.rows;
    const piece = Math.max(1, Math.floor(staging.bytes / fileRow / GROUP) * GROUP);
    for (let row = 0; row < t.rows; row += piece) {
      const rows = Math.min(piece, t.rows - row);
      const bytes = rows * fileRow;
      const got = image.read(t.info.fileAt + row * fileRow, staging.at, bytes);
      if (got !== bytes)
        return refuse(
          'IO',
          6001,
          `tensor ${t.info.name}: ${bytes} bytes wanted at ${t.info.fileAt + row * fileRow}, ${Math.max(0, got)} read`,
        );
      const at = t.at + row * placedRow;
      const wide = !isGrouped(t.info.type) && t.type !== t.info.type;
      if (wide) compute.dequantize(t.info.type, staging.at, rows * t.k, at); // kept as F32, and looked through where it lies
      const bad = compute.repack(wide ? t.type : t.info.type, wide ? at : staging.at, rows, t.k, at);
      if (bad !== 0)
        return refuse(
          'NOEXEC',
          1002,
          `tensor ${t.info.name}: ${bad} values in rows ${row}…${row + rows - 1} are not finite`,
        );
    }
    return null;
  }

  /** The rotary frequencies, at the start of the plan region. Numbers travel through scratch: no float crosses into WebAssembly. */
  private writeFrequencies({ model: { h, tensors }, scratch, frequencies }: Layout): void {
    if (h.rope === null) return;
    const { base, dimensions, scaling } = h.rope;
    const { arena, compute } = this.parts;
    const from = scratch.hidden.at;
    arena.f64[from >> 3] = base;
    const factorsAt = tensors.get('rope_freqs.weight')?.at ?? 0;
    compute.rope_frequencies(from, factorsAt, dimensions / 2, frequencies.at);
    if (scaling === null) return;
    const { angle, amplitude, yarn, contextFirst } = scaling;
    arena.f64.set([base, angle, amplitude, Number(yarn), contextFirst], from >> 3);
    compute.rope_scaling(from, dimensions / 2, frequencies.at + 8 * (dimensions / 2));
  }
}

/** Of a plan whose records nobody runs. */
const LEAST_OPTIONS: EngineOptions = {
  ctx: 1,
  kvType: GGML_TYPE.F32,
  batch: 1,
  sessions: 1,
  pages: 1,
  draws: 1,
  tileBytes: 0,
  buffers: 0,
  pinBytes: 0,
  adapters: [],
};

/** Takes no ops but the names, as the file has them, of the tensors that they read. */
class TensorOrder implements PlanSink {
  readonly names = new Set<string>();

  constructor(private readonly tensors: ReadonlyMap<string, BoundTensor>) {}

  segment(): number {
    return 0;
  }
  layer(): void {}
  tile(): void {}
  emit<O extends Op>(_op: O, operands: Operands<O>): void {
    for (const operand of Object.values<Operand>(operands)) {
      const tensor = typeof operand === 'object' && 'name' in operand ? this.tensors.get(operand.name) : undefined;
      if (tensor !== undefined) this.names.add(tensor.info.name);
    }
  }
}

function placeOf({ info, type, at, bytes }: PlacedTensor): TensorPlace {
  return {
    name: info.name,
    shape: info.shape,
    type,
    at,
    bytes,
    fileType: info.type,
    fileAt: info.fileAt,
    fileBytes: info.bytes,
  };
}

/** A model bound to its tensors, and what of it streams (null: nothing, all of it is resident). */
interface Opened {
  readonly model: Model<BoundTensor>;
  readonly streams: Streaming | null;
}

/** Tensors that are in the arena. */
function resident({ model, streams }: Opened): BoundTensor[] {
  return [...model.tensors.values()].filter(({ name }) => streams?.tensors.has(name) !== true);
}

/** Tensors that are read while the model is loaded: those of its file that are in the arena, and the factors of adapters. */
function tensorsRead(opened: Opened): BoundTensor[] {
  const factors = opened.model.adapters.flatMap(({ pairs }) => [...pairs.values()].flatMap(({ a, b }) => [a, b]));
  return [...resident(opened), ...factors];
}

/** A model with places for everything its plan refers to. The plan region begins with the frequencies. */
interface Layout {
  readonly model: PlacedModel;
  readonly weightsBytes: number;
  readonly adaptersBytes: number;
  readonly streamBytes: number;
  readonly scratch: Scratch;
  readonly frequencies: Place;
  readonly plan: Plan;
}

/** Of a layout that is only measured. */
const NOWHERE = { weightsAt: 0, adaptersAt: 0, streamAt: 0, scratchAt: 0, planAt: 0 };

function layOut(
  opened: Opened,
  { weightsAt, adaptersAt, streamAt, scratchAt, planAt }: Pick<EnginePlace, keyof typeof NOWHERE>,
): Layout {
  const { h, options, adapters } = opened.model;
  const { tensors, bytes: weightsBytes } = placeTensors(opened, weightsAt);
  const { pairs, bytes: adaptersBytes } = placeAdapters(adapters, adaptersAt);
  const stream = opened.streams === null ? null : placeStream(opened.model, opened.streams, streamAt);
  const { parts, gathered } = stream ?? { parts: new Map(), gathered: new Map() };
  const model = { h, options, tensors, adapters, parts, gathered, pairs };
  const scratch = layOutScratch(model, scratchAt);
  const frequencies = { name: 'frequencies', at: planAt };
  const frequenciesBytes = h.rope === null ? 0 : ropeFrequenciesBytes(h.rope.dimensions / 2, h.rope.scaling !== null);
  const recordsAt = planAt + alignUp(frequenciesBytes);
  const plan = new Plan(sink => compile(model, scratch, frequencies, sink), recordsAt, options, stream?.facts ?? null);
  return { model, weightsBytes, adaptersBytes, streamBytes: stream?.bytes ?? 0, scratch, frequencies, plan };
}

/** Keys and values kept in blocks: every head begins with a block, so its size must be a multiple of one. */
function checkHeads({ headSize }: Hyperparameters, kvType: number): Refusal | null {
  const accepted = KV_TYPES.filter(name => headSize % GGML_BLOCK[name][0] === 0);
  const name = ggmlTypeName(kvType)!;
  if (accepted.some(other => other === name)) return null;
  const blocks = `KV type ${name} has blocks of ${GGML_BLOCK[name][0]} values, heads have ${headSize}`;
  return refuse('INVAL', 7001, `${blocks}: ${accepted.join(' or ').toLowerCase()} would be accepted`);
}

/** Gives every tensor that stays its place from `at` on: matrices as many bytes as in the file, each on a boundary of the arena's alignment. */
function placeTensors(
  { model, streams }: Opened,
  at: number,
): { readonly tensors: ReadonlyMap<string, PlacedTensor>; readonly bytes: number } {
  const cursor = new Cursor(at);
  const placed = new Map<string, PlacedTensor>();
  for (const [name, t] of model.tensors) {
    if (streams?.tensors.has(name) === true) {
      placed.set(name, { ...t, at: 0, bytes: 0 });
      continue;
    }
    const [values, blockBytes] = GGML_BLOCK[ggmlTypeName(t.type)!];
    const bytes = ((t.k * t.rows) / values) * blockBytes;
    placed.set(name, { ...t, ...cursor.take(name, bytes), bytes });
  }
  return { tensors: placed, bytes: cursor.bytes() };
}

/** The largest piece one of these tensors must be read in: a group of rows. */
function stagingBytes(tensors: readonly BoundTensor[]): number {
  let bytes = 0;
  for (const { info, rows } of tensors) bytes = Math.max(bytes, (info.bytes / rows) * Math.min(rows, GROUP));
  return bytes;
}

function shapeOf(image: ModelImage, h: Hyperparameters): ModelShape {
  const text = (key: string): string => {
    const value = image.meta(key);
    return typeof value === 'string' ? value : '';
  };
  return {
    name: printable(text('general.name')) || image.path.slice(image.path.lastIndexOf('/') + 1),
    architecture: image.architecture,
    tokenizer: printable(text('tokenizer.ggml.model')),
    layers: h.layers,
    embedding: h.embedding,
    heads: h.heads,
    headsKv: h.headsKv,
    feedForward: h.feedForward,
    vocabulary: h.vocabulary,
    contextTrained: h.contextTrained,
    parameters: image.tensors.reduce((sum, t) => sum + t.shape.reduce((product, n) => product * n, 1), 0),
    kvBytesPerToken: kvType => kvBytesPerToken(h, kvType),
  };
}
