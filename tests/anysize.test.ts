// Any size: models of 0.5, 1.1 and 7 billion parameters in an arena of 8 MiB, against a forward pass in f64 over the few rows of them that are not
// zero; positions beyond 2^32; a vocabulary of 151,936 tokens, which tokenizes as its authors say while its model streams. The files are
// sparse, made by bench/large.mjs. The largest takes minutes on a busy machine: with --soak.

import path from 'node:path';
import { existsSync, readFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { boot, type Machine } from '../boot/index.ts';
import { directory } from '../boot/host-directory.ts';
import { GGML_TYPE, LIMITS } from '../kernel/abi/index.ts';
import { shared, soak } from './harness.ts';
import { Forward } from './reference/forward.ts';
import { dequantize } from './reference/kernels.ts';
import { large, referenceModel, Tensors, type Large } from './reference/large.ts';

const image = readFileSync('build/boot.cpio');
const QWEN2 = shared('vectors/tokenizer/ggml-vocab-qwen2.gguf');
const whenQwen = existsSync(QWEN2) ? test : test.skip;
const whenSoak = soak ? test : test.skip;

function power({ file }: Large): Machine {
  return boot({
    image,
    strict: true,
    mounts: [
      { guest: '/m', directory: directory(path.dirname(file), true) },
      ...(existsSync(shared('vectors')) ? [{ guest: '/v', directory: directory(shared('vectors'), true) }] : []),
    ],
  });
}
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const guest = ({ file }: Large): string => `/m/${path.basename(file)}`;

function ok(t: ExecutionContext, machine: Machine, line: string): string {
  const { status, stdout, stderr } = machine.exec(line);
  t.is(status, 0, `${line}: ${stderr}`);
  return stdout;
}

interface Answer {
  readonly prompt_tokens: readonly number[];
  readonly tokens: readonly number[];
  readonly steps: readonly {
    readonly token: number;
    readonly top: readonly (readonly [id: number, logit: number])[];
  }[];
}

/** Draws greedily and holds every step's best logits against the reference; the arena's peak is what was planned. */
function holdsAgainst(t: ExecutionContext, model: Large, choice: string, kvType: number, tokens: number): Machine {
  const machine = power(model);
  const loaded = JSON.parse(ok(t, machine, `llmctl load --json ${guest(model)} ${choice}`));
  const answer: Answer & { readonly arena_peak_bytes: number } = JSON.parse(
    ok(t, machine, `llminfer --json --temp 0 --logits 20 --timeout 86400000 --max-tokens ${tokens} the one`),
  );
  t.true(loaded.total_bytes <= LIMITS.arenaBytes);
  t.is(Number(/^total .*$/m.exec(ok(t, machine, 'cat /proc/arena'))![0].split(' ')[4]), loaded.total_bytes);
  const ids = [...answer.prompt_tokens, ...answer.tokens];
  const wanted = answer.steps.flatMap(step => step.top.map(([id]) => id));
  const spread = Array.from({ length: 500 }, (_, i) => Math.floor((i * model.shape.vocabulary) / 500));
  const forward = new Forward(referenceModel(model, [...ids, ...wanted, ...spread]), kvType);
  let logits: Float64Array = new Float64Array(0);
  for (const id of answer.prompt_tokens) logits = forward.next(id);
  answer.steps.forEach(({ token, top }, i) => {
    if (i > 0) logits = forward.next(answer.tokens[i - 1]!);
    const largest = logits.reduce((a, b) => Math.max(a, b), 0);
    const tolerance = 0.01 * largest;
    t.true(largest > 0.1, 'something flows');
    t.is(token, top[0]![0]);
    for (const [id, logit] of top)
      t.true(Math.abs(logit - logits[id]!) < tolerance, `step ${i}, token ${id}: ${logit} instead of ${logits[id]}`);
    const least = top.at(-1)![1];
    t.true(
      logits.every((x, id) => x < least + tolerance || top.some(([other]) => other === id)),
      `step ${i}: the best are there`,
    );
  });
  t.is(answer.steps.length, tokens);
  return machine;
}

test('1.1 billion parameters: loaded, planned, and two steps as the reference has them', t => {
  holdsAgainst(t, large('1.1B-q4_0'), '--ctx 64', GGML_TYPE.F16, 2);
});

whenSoak('7 billion parameters, a file beyond 2^32 bytes: two steps as the reference has them', t => {
  holdsAgainst(t, large('7B-q4_1'), '--kv q4_0', GGML_TYPE.Q4_0, 2);
});

test('7 billion parameters: planned to the byte, and what does not fit says what would', t => {
  const model = large('7B-q4_1');
  const machine = power(model);
  const plan = JSON.parse(ok(t, machine, `llmctl plan --json ${guest(model)} --kv q4_0 --ctx 64 --tile 512K`));
  t.true(plan.total_bytes <= LIMITS.arenaBytes);
  t.is(plan.parameters, 7_241_732_096);
  // Keys and values of 32 positions are 4 MiB in F16: fewer bits alone do not do for 512 positions, nor do fewer positions alone.
  const refused = machine.exec(`llmctl load ${guest(model)} --ctx 512 --kv f32 --tile 512K`);
  t.is(refused.status, 1);
  t.regex(refused.stderr, /ENOMEM 1003 .* over=[0-9]+ .*; would fit: context 32 with keys and values in Q8_0\n$/);
});

test('a tensor beyond 2^32 bytes is read where it lies', t => {
  const model = large('7B-q4_1');
  const machine = power(model);
  const tensors = new Tensors(model.file);
  const last = 'blk.31.ffn_up.weight';
  const { at, ne } = tensors.byName.get(last)!;
  const [k, rows] = ne as [number, number];
  const end = at + (k / 32) * 20 * rows;
  t.true(end > 2 ** 32);
  ok(t, machine, `mkdir /mnt/x; mount -t gguf ${guest(model)} /mnt/x`);
  t.is(ok(t, machine, `cat /mnt/x/tensors/${last}/offset`), `${at}\n`);
  // Its last row, as it is stored and as numbers.
  const stored = tensors.row(last, rows - 1);
  t.true(stored.some(byte => byte !== 0));
  const said = ok(t, machine, `tail -c 64 /mnt/x/tensors/${last}/data | od -A n -v -t x1`).replace(/\s/g, '');
  t.is(said, hex(stored.subarray(-64)));
  const numbers = ok(t, machine, `tail -c 64 /mnt/x/tensors/${last}/f32 | od -A n -v -t x1`).replace(/\s/g, '');
  t.is(numbers, hex(new Uint8Array(dequantize(GGML_TYPE.Q4_1, stored, 0, k).slice(-16).buffer)));
  tensors.close();
});

whenQwen('a vocabulary of 151,936 tokens: two steps as the reference has them, and so many bytes of tables', t => {
  const model = large('0.5B-q4_0', QWEN2);
  const machine = holdsAgainst(t, model, '--ctx 64', GGML_TYPE.F16, 2);
  const { vocabulary } = JSON.parse(ok(t, machine, `llmctl plan --json ${guest(model)} --ctx 64`)).regions;
  const told = /\| Qwen2 \| 151,936 \| ([0-9,]+) \|/.exec(readFileSync('docs/MEMORY.md', 'utf8'))?.[1];
  t.is(vocabulary.toLocaleString('en-US'), told);
});

whenQwen('its texts are cut as llama.cpp cuts them while the model streams', t => {
  const model = large('0.5B-q4_0', QWEN2);
  const machine = power(model);
  ok(t, machine, `llmctl load ${guest(model)} --ctx 64`);
  const pid = machine.start(['llminfer', '--timeout', '86400000', '--max-tokens', '12', 'Hello']);
  const texts = readFileSync(`${QWEN2}.inp`, 'utf8').split('\n__ggml_vocab_test__\n').slice(0, -1);
  const ids = readFileSync(`${QWEN2}.out`, 'utf8').split('\n').slice(0, -1);
  let during = 0;
  texts.forEach((text, i) => {
    if (machine.statusOf(pid) === undefined) during++;
    const bytes = [...Buffer.from(text)].map(byte => `\\${byte.toString(8).padStart(3, '0')}`).join('');
    const said = JSON.parse(ok(t, machine, `printf '${bytes}' | llmctl tokenize --json -`));
    t.deepEqual(said.tokens, ids[i]!.split(' ').filter(Boolean).map(Number), `text ${i}`);
  });
  t.true(during > 0);
  machine.interrupt();
});
