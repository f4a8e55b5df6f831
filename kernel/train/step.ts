// What a program asks of a batch, checked; and what a batch takes before there is one: the cycles that train_plan says.

import {
  LIMITS,
  OPTIMIZERS,
  refuse,
  TRAIN_BATCH,
  type Refusal,
  type TrainProgram,
  type TrainReport,
} from '../abi/index.ts';
import type { TrainingPrices } from '../costs.ts';
import type { Arrangement } from './choice.ts';
import { updateCycles, type Step } from './run.ts';

const bad = (text: string): Refusal => refuse('INVAL', 7001, text);

/** What is wrong with a step of such a training; null: nothing. */
export function checkStep(s: Step, { choice }: Arrangement, { segments }: TrainProgram): Refusal | null {
  if (s.kind > TRAIN_BATCH.measureQuantised) return bad(`no kind of batch ${s.kind}`);
  if (s.kind === TRAIN_BATCH.measureQuantised && segments.forwardQuantised === 0)
    return refuse('NOTSUP', 7001, 'this model has no quantised path beside the one that is trained');
  if (s.kind !== TRAIN_BATCH.learn) return s.update === 0 ? null : bad('a batch that is only measured changes nothing');
  return checkLearning(s, choice) ?? (s.update === 0 ? null : checkUpdate(s, choice));
}

function checkLearning(s: Step, { method }: Arrangement['choice']): Refusal | null {
  if (s.update > 1) return bad(`update ${s.update}: 0 or 1`);
  if (s.ranked > 1) return bad(`ranked ${s.ranked}: 0 or 1`);
  if (s.ranked === 1 && method !== 'nes') return bad(`rank utilities are of nes, not of ${method}`);
  if (method !== 'fmea' && method !== 'nes') return null;
  if (!(s.directions >= 1 && s.directions <= LIMITS.directionsMax))
    return bad(`${s.directions} directions, 1 to ${LIMITS.directionsMax}`);
  if (method === 'nes' && !(s.sigma > 0 && s.sigma < Infinity)) return bad(`sigma ${s.sigma} is no number above 0`);
  return null;
}

function checkUpdate(s: Step, { optimizer, anchored }: Arrangement['choice']): Refusal | null {
  const finite = ['rate', 'clip', 'epsilon', 'decay', 'anchor', 'distanceMax'] as const;
  for (const name of finite)
    if (!(s[name] >= 0 && s[name] < Infinity)) return bad(`${name} ${s[name]} is no number from 0 on`);
  for (const name of ['beta1', 'beta2'] as const)
    if (!(s[name] >= 0 && s[name] < 1)) return bad(`${name} ${s[name]} is not in 0…1, 1 excluded`);
  if (optimizer === OPTIMIZERS[0] && s.epsilon === 0)
    return bad('adam divides by epsilon where a gradient is 0: above 0');
  if (!anchored && (s.anchor > 0 || s.distanceMax > 0))
    return bad('what the parameters were at first is not kept: open it anchored');
  return null;
}

/** Cycles of sequences of `ctx` tokens, all of which count. */
export function cyclesOf(
  { choice, batch }: Arrangement,
  prices: TrainingPrices,
): Partial<ReturnType<typeof TrainReport.read>> {
  const { ctx, method, picks } = choice;
  const over = (name: 'loss' | 'score'): number => prices.groups(name, ctx, ctx, picks);
  const [forward, backward] = [prices.segment('forward', ctx), prices.segment('backward', ctx)];
  const loss = over(method === 'nes' ? 'score' : 'loss');
  const update = updateCycles(prices) + prices.segment('undo', 1);
  const once = batch * (forward + loss + backward);
  const [perturb, gather] = [prices.segment('perturb', 1), prices.segment('gather', 1)];
  const step = method === 'nes' ? 2 * (perturb + once) + gather : method === 'fmea' ? perturb + once + gather : once;
  return {
    forwardCycles: forward,
    lossCycles: loss,
    backwardCycles: backward,
    updateCycles: update,
    stepCycles: step + update,
    scoreCycles: forward + over('score'),
    sliceMax: prices.sliceMax,
  };
}
