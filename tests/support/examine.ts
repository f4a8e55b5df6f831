// A model file looked at as `llmctl load` does it — parsed, described, budgeted, loaded — on bare memory, without a machine around it: fast
// enough for a hundred thousand damaged files. Counts what was read, so that work is bounded by the file and not by the clock.

import { GGML_TYPE, isRefusal, LIMITS, RowRecord, SamplerRecord, StepBlock } from '../../kernel/abi/index.ts';
import type { Engine, ModelImage, Refusal, TokenizerDriver } from '../../kernel/abi/index.ts';
import { ENGINE_REGIONS, ENCODE } from '../../kernel/abi/index.ts';
import type { EngineBudget, EnginePlace } from '../../kernel/abi/index.ts';
import { TransformerDriver } from '../../drivers/engine/transformer/driver.ts';
import { parseGguf } from '../../vfs/gguf.ts';
import { MODEL_AT, optionsOf, Rig } from '../harness.ts';

/** How far a file gets. */
export const STAGES = ['container', 'model', 'vocabulary', 'memory', 'weights', 'accepted'] as const;
export type Stage = (typeof STAGES)[number];

export interface Finding {
  readonly stage: Stage;
  readonly refusal: Refusal | null;
}

const CTX = 16;
const alignUp = (n: number): number => Math.ceil(n / LIMITS.arenaAlign) * LIMITS.arenaAlign;

export class Examiner {
  private readonly rig = new Rig();
  private readonly tokenizer: TokenizerDriver = this.rig.tokenizer();
  private readonly driver = new TransformerDriver({ ...this.rig, tokenizer: this.tokenizer });
  /** Bytes that the last file was asked for. */
  bytesRead = 0;
  /** Called at each transfer of the file: a place to look at the heap from inside. */
  onRead: () => void = () => {};

  parse(file: Uint8Array): ModelImage | Refusal {
    const { arena, dmaAt } = this.rig;
    this.bytesRead = 0;
    const read = (fileAt: number, at: number, length: number): number => {
      if (fileAt < 0 || length <= 0 || !Number.isSafeInteger(fileAt + length))
        throw new Error(`read ${fileAt} ${length}`);
      const piece = file.subarray(fileAt, fileAt + length);
      arena.u8.set(piece, at);
      this.bytesRead += piece.length;
      this.onRead();
      return piece.length;
    };
    return parseGguf({ path: '/m', size: file.length, read }, arena, dmaAt, LIMITS.dmaBytes);
  }

  /** Everything a load does; with `use`, an accepted model also reads a text and makes a step. */
  examine(file: Uint8Array, use = false): Finding {
    const image = this.parse(file);
    if (isRefusal(image)) return { stage: 'container', refusal: image };
    const shape = this.driver.describe(image);
    if (isRefusal(shape)) return { stage: 'model', refusal: shape };
    const options = optionsOf({ ctx: Math.min(CTX, shape.contextTrained), kvType: GGML_TYPE.F16, batch: 1 });
    const budget = this.driver.budget(image, options);
    if (isRefusal(budget)) return { stage: 'vocabulary', refusal: budget };
    const total = ENGINE_REGIONS.reduce((sum, region) => sum + alignUp(budget[region]), MODEL_AT);
    if (!(total <= LIMITS.arenaBytes))
      return { stage: 'memory', refusal: { errno: 12, code: 1003, message: `need=${total}` } };
    const place = placeOf(budget);
    const engine = this.driver.load(image, options, budget, place);
    if (isRefusal(engine)) return { stage: 'weights', refusal: engine };
    if (use) this.use(engine, budget, place);
    return { stage: 'accepted', refusal: null };
  }

  /** A text in, a step, a row of logits out. What may happen is a fault of the step (NaN), not a trap. */
  private use(engine: Engine, budget: EngineBudget, place: EnginePlace): void {
    const { arena, compute, stepAt, dmaAt } = this.rig;
    const v = engine.vocabulary;
    v.begin(ENCODE.bos | ENCODE.special, place.scratchAt, budget.scratch);
    const text = Buffer.from('ab abc\n</s>a \xff<0x61>');
    const n = Math.min(text.length, v.inputBytes());
    arena.u8.set(text.subarray(0, n), v.inputAt());
    v.input(n, true);
    let ids = 0;
    for (let got = v.encode(dmaAt, 64); got > 0; got = v.encode(dmaAt, 64)) {
      for (let i = 0; i < got; i++)
        if (arena.u32[(dmaAt >> 2) + i]! >= v.count) throw new Error('an id past the vocabulary');
      ids += got;
      if (ids > text.length + 8) throw new Error('more ids than text');
    }
    for (let id = 0; id < v.count; id++) v.piece(id, dmaAt, LIMITS.dmaBytes, true);
    const { at: historyAt, tableAt } = engine.slots;
    const samplerAt = stepAt + StepBlock.bytes;
    const rowsAt = samplerAt + SamplerRecord.bytes;
    const picksAt = rowsAt + RowRecord.bytes;
    SamplerRecord.write(arena.u8, samplerAt, { topP: 1, repeatPenalty: 1 });
    StepBlock.write(arena.u8, stepAt, {
      historyAt,
      samplerAt,
      logitsAt: engine.logitsAt,
      vocabulary: v.count,
      kvAt: engine.kvAt,
      ctx: engine.options.ctx,
      picksAt,
      picks: 1,
      rowsAt,
      n: 1,
    });
    RowRecord.write(arena.u8, rowsAt, { token: v.count - 1, tableAt: historyAt + tableAt });
    arena.u32[(historyAt + tableAt) >> 2] = 0; // a page, which there is
    if (compute.run(stepAt, engine.bodyAt) === 0) compute.run(stepAt, engine.headAt);
  }
}

function placeOf(budget: EngineBudget): EnginePlace {
  const place: Record<string, number> = {};
  let at = MODEL_AT;
  for (const region of ENGINE_REGIONS) {
    place[`${region}At`] = at;
    at += alignUp(budget[region]);
  }
  return place as unknown as EnginePlace;
}
