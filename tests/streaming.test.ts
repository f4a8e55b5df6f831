// Weights that stream, on whole machines: whatever the tiles, buffers, pins, disks and faults are, a streamed model says what the resident one
// says, to the bit of every logit; it takes exactly the memory that was planned, is charged what was said before it ran, and one pass over
// the file serves every session.

import test, { type ExecutionContext } from 'ava';
import { existsSync, readFileSync } from 'node:fs';
import process from 'node:process';
import { boot, type Machine } from '../boot/index.ts';
import { json, ok } from './support/commands.ts';

const soak = process.env['ARENA8_SOAK'] === '1';
const SHARED = '../shared/models';
const image = readFileSync('build/boot.cpio');

interface Answer {
  readonly tokens: readonly number[];
  readonly steps: readonly { readonly token: number; readonly top: readonly (readonly [number, number])[] }[];
  readonly cycles: number;
  readonly wcet_cycles: number;
  readonly finish_reason: string;
}

const power = (strict = true): Machine =>
  boot({ strict, image, mounts: existsSync(SHARED) ? { '/mnt': SHARED } : {} });

/** What a prompt is answered, with the largest logits of every step. */
function ask(machine: Machine, tokens = 12, prompt = 'Once upon a time there was a small dragon who'): Answer {
  return json(machine, `llminfer --json --seed 7 --max-tokens ${tokens} --logits 64 "${prompt}"`) as unknown as Answer;
}

const said = ({ tokens, steps, finish_reason: finish }: Answer): unknown => ({ tokens, steps, finish });

const FORMS = [
  '--pin 0',
  '--pin 0 --tile 64K',
  '--pin 0 --tile 20000 --buffers 3',
  '--pin 0 --tile 8K --buffers 2 --batch 3',
  '--pin 0 --tile 12K --buffers 7 --batch 16 --draws 1',
  '--pin 300K --tile 32K',
  '--pin 1M --tile 128K --buffers 4',
  '--pin auto --tile 16K',
];

for (const model of ['fable-f16', 'fable-q8_0', 'fable-q4_0'])
  test(`${model}: streamed is resident, to the bit`, t => {
    const machine = power();
    ok(machine, `llmctl load ${model} --stream=off`);
    const resident = said(ask(machine));
    for (const form of FORMS) {
      ok(machine, `llmctl load ${model} --stream ${form}`);
      t.deepEqual(said(ask(machine)), resident, form);
    }
  });
