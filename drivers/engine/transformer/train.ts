// Training of a loaded transformer: what a choice of method, targets and memory would take, and its region laid out, first values and plan
// written. The walk that says what is taken is the walk that takes it. Weights are read where inference has them and never written: low-rank
// pairs (Hu et al. 2021) or a whole copy of the model change beside them.

import { refuse, isRefusal } from '../../../kernel/abi/index.ts';
import type {
  ArenaView,
  Refusal,
  Trainable,
  TrainBudget,
  TrainChoice,
  TrainImage,
  TrainPlace,
  TrainProgram,
} from '../../../kernel/abi/index.ts';
import type { Place } from '../plan.ts';
import { Plan } from '../plan.ts';
import type { PlacedModel } from './compile.ts';
import { compileTraining } from './train-compile.ts';
import type { TrainSegments } from './train-compile.ts';
import { layOutTraining } from './train-layout.ts';
import type { TrainLayout } from './train-layout.ts';
import { FirstValues, parametersOf } from './train-parameters.ts';
import type { Parameters } from './train-parameters.ts';

interface Laid {
  readonly parameters: Parameters;
  readonly layout: TrainLayout;
  readonly plan: Plan<TrainSegments>;
}

/** Of an engine whose weights all lie in the arena. */
export class Training implements Trainable {
  readonly layers: number;

  constructor(
    private readonly arena: ArenaView,
    private readonly model: PlacedModel,
    private readonly frequencies: Place,
  ) {
    this.layers = model.h.layers;
  }

  count(choice: TrainChoice): { readonly matrices: number; readonly parameters: number } | Refusal {
    const parameters = parametersOf(this.model, choice);
    if (isRefusal(parameters)) return parameters;
    const { pairs, tensors, count } = parameters;
    return { matrices: choice.method === 'full' ? tensors.length : pairs.size, parameters: count };
  }

  budget(choice: TrainChoice): TrainBudget | Refusal {
    const laid = this.layOut(choice, { at: 0, blockAt: 0, targetsAt: 0 });
    if (isRefusal(laid)) return laid;
    const { layout, plan } = laid;
    return { ...layout.budget, plan: plan.endAt() - layout.planAt };
  }

  plan(choice: TrainChoice, place: TrainPlace): TrainImage | Refusal {
    const laid = this.layOut(choice, place);
    if (isRefusal(laid)) return laid;
    const { layout, plan } = laid;
    const { words, rows, stream: _, ...segments } = plan.image(layout.planAt);
    return { segments, words, rows, planAt: layout.planAt, logitsAt: layout.logits.at };
  }

  load(choice: TrainChoice, place: TrainPlace): TrainProgram | Refusal {
    const laid = this.layOut(choice, place);
    if (isRefusal(laid)) return laid;
    const { layout, parameters, plan } = laid;
    this.writeVectors(choice, laid);
    const { stream: _, ...segments } = plan.load(this.arena);
    return {
      segments,
      parameters: parameters.count,
      parametersAt: layout.parameters.at,
      gradientsAt: layout.gradients.at,
      firstAt: layout.first.at,
      secondAt: layout.second?.at ?? 0,
      anchorAt: layout.anchor?.at ?? 0,
      tensors: parameters.tensors,
      logitsAt: layout.logits.at,
    };
  }

  private layOut(choice: TrainChoice, { at, blockAt, targetsAt }: TrainPlace): Laid | Refusal {
    const { model, frequencies } = this;
    const learned = model.tensors.get('position_embd.weight');
    if (learned !== undefined && choice.ctx > learned.rows)
      return refuse('INVAL', 2003, `context ${choice.ctx}: the model has ${learned.rows} learned positions`);
    const parameters = parametersOf(model, choice);
    if (isRefusal(parameters)) return parameters;
    const layout = layOutTraining(model, choice, parameters, at);
    const block = { name: 'train block', at: blockAt };
    const targets = { name: 'targets', at: targetsAt };
    const parts = { model, choice, parameters, layout, frequencies, block, targets };
    const { ctx, picks } = choice;
    const plan = new Plan(sink => compileTraining(parts, sink), layout.planAt, { batch: ctx, picks, ctx });
    return { parameters, layout, plan };
  }

  /** First values; no gradient, no moment yet. */
  private writeVectors(choice: TrainChoice, { layout, parameters }: Laid): void {
    const { f32, u8 } = this.arena;
    const { parameters: p, gradients, moments, anchor } = layout.budget;
    u8.fill(0, layout.parameters.at, layout.parameters.at + p + gradients + moments + anchor);
    const from = layout.parameters.at >> 2;
    for (const [name, copy] of parameters.copies) {
      const at = this.model.tensors.get(name)!.at >> 2;
      f32.copyWithin(from + copy.from, at, at + copy.columns * copy.rows);
    }
    const first = new FirstValues(choice.seed);
    for (const { a } of parameters.pairs.values())
      for (let i = 0; i < a.columns * a.rows; i++) f32[from + a.from + i] = first.next();
    if (layout.anchor !== null) f32.copyWithin(layout.anchor.at >> 2, from, from + parameters.count);
  }
}
