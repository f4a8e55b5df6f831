// A training without derivatives: its "gradients" are the normalised rows of the embedding, which its update adds to the parameters. It stands in for
// the transformer's where only scheduling, prices and refusals matter, and computes with ops that inference has.

import {
  PLAN_RECORD,
  refuse,
  TRAIN_KEEP_ALL,
  TRAIN_SEGMENTS,
  type ArenaView,
  type Engine,
  type Refusal,
  type Trainable,
  type TrainBudget,
  type TrainChoice,
  type TrainImage,
  type TrainPlace,
  type TrainProgram,
  type TrainSegment,
} from '../../kernel/abi/index.ts';
import {
  Elementwise,
  FLAG_HEAD,
  FLAG_ROWS,
  GetRows,
  Norm,
  Op,
  Scale,
  WORD_FLAGS,
  WORD_TOKENS,
} from '../../drivers/engine/ops.ts';

/** A record: the op, its operands by word, its flags. */
type Record = readonly [op: Op, words: Readonly<globalThis.Record<number, number>>, flags?: number];

const alignUp = (n: number): number => Math.ceil(n / 32) * 32;
const F32 = 4;

export class PlainTraining implements Trainable {
  readonly layers: number;
  /** null: an engine without weights. */
  private readonly embedding: { readonly at: number; readonly type: number; readonly rows: number } | null;
  private readonly k: number;

  constructor(
    private readonly arena: ArenaView,
    engine: Engine,
    /** Ops of each forward beyond the first two. */
    private readonly more = 0,
  ) {
    this.layers = engine.shape.layers;
    const embd = engine.tensors().find(t => t.name === 'token_embd.weight');
    this.embedding = embd === undefined ? null : { at: embd.at, type: embd.type, rows: embd.shape[1]! };
    this.k = embd?.shape[0] ?? 64;
  }

  count({ ctx }: TrainChoice): { matrices: number; parameters: number } {
    return { matrices: 1, parameters: ctx * this.k };
  }

  budget(choice: TrainChoice): TrainBudget | Refusal {
    if (choice.rank === 13) return refuse('NOTSUP', 0, 'no rank of 13');
    const { ctx, picks, checkpoint, optimizer, anchored } = choice;
    const row = F32 * this.k;
    const kept = checkpoint === TRAIN_KEEP_ALL ? 4 * this.layers : Math.ceil(this.layers / checkpoint) + checkpoint - 1;
    const vector = ctx * row;
    return {
      parameters: vector,
      gradients: vector,
      moments: optimizer === 'adam' ? 2 * vector : vector,
      anchor: anchored ? vector : 0,
      checkpoints: kept * vector,
      activations: 2 * vector,
      head: alignUp(picks * row),
      plan: alignUp(this.records(choice, 0).size),
    };
  }

  plan(choice: TrainChoice, { at }: TrainPlace): TrainImage {
    const b = this.budget(choice) as TrainBudget;
    const planAt = at + b.parameters + b.gradients + b.moments + b.anchor + b.checkpoints + b.activations + b.head;
    const { segments, words } = this.records(choice, planAt, at);
    return { segments, words: Int32Array.from(words), rows: [], planAt, logitsAt: planAt - b.head };
  }

  load(choice: TrainChoice, { at }: TrainPlace): TrainProgram {
    const { u32, f32 } = this.arena;
    const b = this.budget(choice) as TrainBudget;
    const parametersAt = at;
    const planAt = at + b.parameters + b.gradients + b.moments + b.anchor + b.checkpoints + b.activations + b.head;
    const { parameters } = this.count(choice);
    for (let i = 0; i < parameters; i++) f32[(parametersAt >> 2) + i] = (choice.seed % 7) / 8 + i / 1024;
    const { segments, words } = this.records(choice, planAt, at);
    u32.set(words, planAt >> 2);
    const firstAt = at + b.parameters + b.gradients;
    return {
      segments,
      parameters,
      parametersAt,
      gradientsAt: at + b.parameters,
      firstAt,
      secondAt: choice.optimizer === 'adam' ? firstAt + b.parameters : 0,
      anchorAt: choice.anchored ? firstAt + b.moments : 0,
      tensors: [{ name: 'all', columns: this.k, rows: choice.ctx, from: 0 }],
      logitsAt: planAt - b.head,
    };
  }

  /** The plan for a region that begins at `at`, its records at `planAt`; each has prices of its own behind them. */
  private records(
    choice: TrainChoice,
    planAt: number,
    at = 0,
  ): { segments: globalThis.Record<TrainSegment, number>; words: Uint32Array; size: number } {
    const { ctx, picks } = choice;
    const { k } = this;
    const vector = ctx * F32 * k;
    const gradients = at + vector;
    const x = planAt - alignUp(picks * F32 * k) - 2 * vector;
    const [y, head, n] = [x + vector, x + 2 * vector, ctx * k];
    const eps = new Uint32Array(new Float32Array([1e-5]).buffer)[0]!;
    const norm = (dstAt: number, srcAt: number, flags = 0): Record => [
      Op.RMS_NORM,
      { [Norm.dstAt]: dstAt, [Norm.n]: k, [Norm.srcAt]: srcAt, [Norm.eps]: eps },
      flags,
    ];
    const add = (dstAt: number, srcAt: number, length: number): Record => [
      Op.ADD,
      { [Elementwise.dstAt]: dstAt, [Elementwise.n]: length, [Elementwise.srcAt]: srcAt },
    ];
    const get = (): Record[] => {
      if (this.embedding === null) return [];
      const { at: weightsAt, type, rows } = this.embedding;
      const operands = { [GetRows.weightsAt]: weightsAt, [GetRows.weightType]: type, [GetRows.rows]: rows };
      return [[Op.GET_ROWS, { [GetRows.dstAt]: x, [GetRows.k]: k, ...operands }]];
    };
    const zero: Record = [Op.SCALE, { [Scale.at]: gradients, [Scale.n]: n, [Scale.stride]: n, [Scale.factor]: 0 }];
    const more = Array.from({ length: this.more }, () => norm(y, x));
    const plan: Partial<globalThis.Record<TrainSegment, readonly Record[]>> = {
      forward: [...get(), norm(y, x), ...more],
      loss: [norm(head, y, FLAG_HEAD | FLAG_ROWS)],
      backward: [add(gradients, y, k), add(y, x, k)],
      score: [norm(head, y, FLAG_HEAD | FLAG_ROWS)],
      zero: [zero],
      update: [add(at, gradients, n)],
    };
    const segments = {} as globalThis.Record<TrainSegment, number>;
    const list = Object.entries(plan) as [TrainSegment, readonly Record[]][];
    const count = list.reduce((sum, [, records]) => sum + records.length + 1, 0);
    const words: number[] = [];
    let pricesAt = planAt + count * PLAN_RECORD.bytes;
    for (const name of TRAIN_SEGMENTS) segments[name] = 0;
    for (const [name, records] of list) {
      segments[name] = planAt + 4 * words.length;
      for (const [op, operands, flags = 0] of records) {
        const record = Array.from({ length: 16 }, (_, i) => operands[i] ?? 0);
        record[0] = op;
        record[WORD_FLAGS] = flags;
        record[WORD_TOKENS] = pricesAt;
        pricesAt += 8 * (ctx + 1);
        words.push(...record);
      }
      words.push(...Array.from({ length: 16 }, () => 0));
    }
    return { segments, words: Uint32Array.from(words), size: pricesAt - planAt };
  }
}
