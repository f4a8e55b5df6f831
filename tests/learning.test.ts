// Learning, held against PyTorch: with the same data, first values, rates and order, the machine's losses are the reference's step by step, and what
// was not trained on gets as much better. The reference itself is held against logits that llama.cpp has written.
import test from 'ava';
import { readFileSync } from 'node:fs';
import { boot } from '../boot/index.ts';
import type { Machine } from '../boot/machine.ts';
import { parseArena } from '../boot/web/page/panel/parse-arena.ts';
import type { TrainTarget } from '../kernel/abi/index.ts';
import { haveShared, shared } from './harness.ts';
import { haveTorch, TORCH, torch, wantsTorch, type TorchAnswer, type TorchSequence } from './support/torch.ts';
import { textOf, trained, type TrainedSequence, type Training } from './support/training.ts';

const declare = wantsTorch ? test : test.skip;
const declareShared = wantsTorch && haveShared ? test : test.skip;

interface Recorded {
  readonly runs: readonly {
    readonly tokens: readonly number[];
    readonly greedy: readonly number[];
    readonly top: readonly (readonly (readonly [id: number, logit: number])[])[];
  }[];
}

/** F32 weights, and quantised ones whose recorded logits are of exact activations; the largest distance of a logit is one of roundings. */
const LOGITS: readonly (readonly [model: string, recorded: string])[] = [
  ['fable-f32', 'fable-f32'],
  ['stories260K-f32', 'stories260K-f32'],
  ['stories260K-pad192-q4_0', 'stories260K-pad192-q4_0-deq32'],
  ['stories260K-pad192-q8_0', 'stories260K-pad192-q8_0-deq32'],
];

declareShared('the reference in PyTorch says what llama.cpp says', t => {
  if (!haveTorch) return t.fail(`${TORCH} is missing`);
  for (const [model, recorded] of LOGITS) {
    const [run] = (JSON.parse(readFileSync(shared(`vectors/logits/${recorded}.kvf32.json`), 'utf8')) as Recorded).runs;
    const ids = [...run!.tokens, ...run!.greedy.slice(0, -1)];
    const [logits] = torch({ model: shared(`models/${model}.gguf`), logits: [ids] }).logits;
    const distance = Math.max(
      ...run!.top.flatMap((row, at) => row.map(([id, logit]) => Math.abs(logits![at]![id]! - logit))),
    );
    t.true(distance < 5e-5, `${model}: ${distance}`);
  }
  return undefined;
});

// ── The same training twice ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** A machine with a model of the image, or of the fixtures, and both sets of examples in /data. */
function powerOn(model: string): Machine {
  const machine = boot({
    image: readFileSync('build/boot.cpio'),
    mounts: {
      '/data': { path: 'tests/fixtures/finetune', readOnly: true },
      ...(haveShared ? { '/mnt/models': { path: shared('models'), readOnly: true } } : {}),
    },
  });
  run(machine, `llmctl load ${model} --ctx 128 --sessions 1 --pages 4`);
  return machine;
}

function run(machine: Machine, line: string): string {
  const { status, stdout, stderr } = machine.exec(line);
  if (status !== 0) throw new Error(`${line}: ${status}: ${stderr}`);
  return stdout;
}

const asTorch = (s: TrainedSequence): TorchSequence => [s.from, s.ids];

/** The same training in PyTorch. */
function again(training: Training, model: string): TorchAnswer {
  const { settings } = training.run;
  return torch({
    ...settings,
    model,
    method: settings.method === 'full' ? 'full' : 'lora',
    targets: settings.targets as readonly TrainTarget[],
    beta1: settings.optimizer === 'adam' ? 0.9 : 0,
    steps: training.batches.map((batch, i) => ({ rate: training.updates[i]!.rate, sequences: batch.map(asTorch) })),
    held: training.heldOut.map(asTorch),
  });
}

const apart = (a: number, b: number): number => Math.abs(a - b) / Math.abs(b);

/** Relative distances: of both losses before anything is learnt, of each step's, and of what was held out at the end. */
interface Agreement {
  readonly first: number;
  readonly steps: number;
  readonly norms: number;
  readonly held: number;
}

function agreement(training: Training, answer: TorchAnswer): Agreement {
  const worst = (ours: readonly number[], theirs: readonly number[]): number =>
    Math.max(...ours.map((x, i) => apart(x, theirs[i]!)));
  return {
    first: apart(training.looks[0]!.held_out_loss, answer.held[0]),
    steps: worst(
      training.updates.map(u => u.loss),
      answer.losses,
    ),
    norms: worst(
      training.updates.map(u => u.gradient_norm),
      answer.norms,
    ),
    held: apart(training.looks.at(-1)!.held_out_loss, answer.held[1]),
  };
}

const PAIRS = '--targets q,v --rank 4 --alpha 16';
const COMMON = '--epochs 6 --batch 4 --ctx 80 --val 0.25 --rollback no';
const IMAGE = 'images/models';

/** Settings, where the model is for either, and how much of the held-out loss has to go. */
const CASES = [
  ['adam', 'fable-q4_0', `${PAIRS} --lr 0.01`, 0.5],
  ['sgd', 'fable-q4_0', `${PAIRS} --optimizer sgd --lr 0.3 --schedule linear --warmup 2 --clip 0`, 0.8],
  [
    'all targets, decay, anchor',
    'fable-q8_0',
    '--targets q,k,v,o,gate,up,down --rank 2 --alpha 8 --lr 0.005 --decay 0.1 --anchor 0.01',
    0.5,
  ],
] as const;

for (const [name, model, options, left] of CASES)
  declare(`lora learns as the reference does: ${name}`, t => {
    if (!haveTorch) return t.fail(`${TORCH} is missing`);
    const training = trained(powerOn(model), 'learner', `/data/style.jsonl learner --method lora ${options} ${COMMON}`);
    const answer = again(training, `${IMAGE}/${model}.gguf`);
    const { first, steps, norms, held } = agreement(training, answer);
    t.true(first < 1e-6, `before: ${first}`);
    t.true(steps < 5e-5, `losses of the steps: ${steps}`);
    t.true(norms < 5e-4, `norms of the gradients: ${norms}`);
    t.true(held < 1e-5, `held out: ${held}`);
    const [before, after] = [training.looks[0]!.held_out_loss, training.looks.at(-1)!.held_out_loss];
    t.true(after < left * before, `${before} → ${after}`);
    t.log(`held out ${before.toFixed(4)} → ${after.toFixed(4)}, PyTorch ${answer.held[1].toFixed(4)}`);
    t.log(`apart: ${[first, steps, norms, held].map(x => x.toExponential(1)).join(', ')}`);
    return undefined;
  });

// ── Without a stored graph ───────────────────────────────────────────────────────────────────────────────────────────────────────

for (const method of ['fmea --directions 4', 'nes --directions 4 --sigma 0.01'])
  test(`${method}: what was held out gets better too, and the base stays what it was`, t => {
    const machine = powerOn('fable-q4_0');
    const weights = (): Uint8Array => {
      const { startAt, endAt } = parseArena(textOf(machine, '/proc/arena'))!.regions.find(r => r.name === 'weights')!;
      return machine.observe('/dev/mem', startAt, endAt - startAt) as Uint8Array;
    };
    const before = weights();
    const training = trained(
      machine,
      'learner',
      `/data/facts.jsonl learner --method ${method} ${PAIRS} --lr 0.01 --epochs 4 --batch 3 --ctx 32 --val 0.25`,
    );
    const losses = training.looks.map(look => look.held_out_loss);
    t.true(losses.at(-1)! < 0.85 * losses[0]!, losses.map(x => x.toFixed(3)).join(' '));
    t.deepEqual(weights(), before);
    t.log(`held out ${losses.map(x => x.toFixed(3)).join(' ')}`);
  });
