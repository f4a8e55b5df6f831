// llmfinetune as people type it: data in each format, settings and their refusals, trainings begun, watched, stopped and gone on with; the same seed
// the same bytes, resumed or not; curves. Beneath it: orders, schedules, and readers that never hold a file.
import { createHash } from 'node:crypto';
import test from 'ava';
import type { Machine } from '../boot/machine.ts';
import { rateAt } from '../shell/lib/finetune/schedule.ts';
import { permuted } from '../shell/lib/finetune/permutation.ts';
import { readExamples } from '../shell/lib/finetune/examples.ts';
import type { DataFormat, Found } from '../shell/lib/finetune/examples.ts';
import { drawn } from '../shell/lib/finetune/plot.ts';
import { courseOf, heldOutAt, trainedAt } from '../shell/lib/finetune/loop.ts';
import { settingsOf } from '../shell/lib/finetune/options.ts';
import type { Settings } from '../shell/lib/finetune/options.ts';
import type { Input } from '../shell/lib/stdio.ts';
import { utf8Decode, utf8Encode } from '../kernel/abi/index.ts';
import { soak } from './harness.ts';
import { StoreDirectory, storeMachine } from './support/adapter-store.ts';
import { json, ok, refused } from './support/commands.ts';
import { MachineSeat } from './support/terminal.ts';

// ── Beneath ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('schedules: a rise, then a constant, a line or half a cosine, as Math.cos has it', t => {
  for (const name of ['constant', 'linear', 'cosine'] as const) {
    const s = { name, rate: 0.01, warmup: 10, steps: 110 };
    for (let step = 0; step < 110; step++) {
      const done = (step - 10) / 100;
      const after = { constant: 1, linear: 1 - done, cosine: 0.5 * (1 + Math.cos(Math.PI * done)) }[name];
      const expected = step < 10 ? (0.01 * (step + 1)) / 10 : 0.01 * after;
      t.true(Math.abs(rateAt(s, step) - expected) < 1e-16, `${name} ${step}`);
      t.true(rateAt(s, step) > 0);
    }
  }
  t.is(rateAt({ name: 'linear', rate: 1, warmup: 0, steps: 1 }, 0), 1);
});

test('orders: every index once, another order for another seed and round', t => {
  for (const n of [1, 2, 3, 4, 5, 16, 17, 100, 1000, 4097]) {
    const order = Array.from({ length: n }, (_, i) => permuted(i, n, 42, 1));
    t.is(new Set(order).size, n);
    t.true(order.every(i => i >= 0 && i < n));
  }
  const order = (seed: number, round: number) =>
    Array.from({ length: 100 }, (_, i) => permuted(i, 100, seed, round)).join();
  t.is(new Set([order(42, 0), order(42, 1), order(43, 0), order(0, 0)]).size, 4);
  t.not(order(42, 0), Array.from({ length: 100 }, (_, i) => i).join());
  // No place is preferred: where index 0 of eight goes, over many seeds.
  const places = Array.from({ length: 8 }, () => 0);
  for (let seed = 0; seed < 8000; seed++) places[permuted(0, 8, seed, 0)]!++;
  for (const count of places) t.true(Math.abs(count - 1000) < 150, String(places));
});

test('courses: what is held out is never trained on, and an epoch sees all the rest once', t => {
  const given = (changes: Partial<Settings>): Settings => ({ ...(settingsOf(noOptions) as Settings), ...changes });
  const s = given({ val: 0.25, batch: 3, accumulate: 2 });
  const c = courseOf(s, 42);
  t.deepEqual(c, { sequences: 42, heldOut: 11, stepsPerEpoch: 6, steps: 6 });
  const held = new Set(Array.from({ length: c.heldOut }, (_, i) => heldOutAt(s, c, i)));
  t.is(held.size, 11);
  for (const epoch of [0, 1]) {
    const seen = Array.from({ length: 31 }, (_, i) => trainedAt(s, c, epoch, i));
    t.is(new Set([...seen, ...held]).size, 42);
  }
  t.notDeepEqual(trainedAt(s, c, 0, 0), trainedAt(s, c, 1, 0));
  t.deepEqual(courseOf(given({ val: 0.9 }), 1), { sequences: 1, heldOut: 0, stepsPerEpoch: 1, steps: 1 });
  t.is(courseOf(given({ epochs: 0, steps: 70 }), 10).steps, 70);
});

/** getopt's result where nothing was given. */
const noOptions = { ranked: false } as Parameters<typeof settingsOf>[0];

// ── Reading examples ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What the readers find in a text that comes in pieces of `size` bytes, and what is wrong with all of it. */
function found(
  text: string,
  format: DataFormat,
  size: number,
  separator = '<|endoftext|>',
): { all: Found[]; error: string } {
  const bytes = new TextEncoder().encode(text);
  let at = 0;
  const input = {
    error: 0,
    *chunk() {
      const piece = bytes.slice(at, at + size);
      at += piece.length;
      return piece.length === 0 ? null : piece;
    },
  } as unknown as Input;
  const { reader } = readExamples(input, format, separator);
  const all: Found[] = [];
  for (;;) {
    const { done, value } = reader.next().next();
    if (done !== true) throw new Error('a reader waits for a descriptor that has everything');
    if (value === null) return { all, error: reader.error };
    all.push(value);
  }
}

/** The same however the bytes come. */
function foundAnyhow(t: { deepEqual(a: unknown, b: unknown, m?: string): void }, text: string, format: DataFormat) {
  const whole = found(text, format, 1 << 20);
  for (const size of [1, 2, 3, 7, 64]) t.deepEqual(found(text, format, size), whole, `pieces of ${size}`);
  return whole;
}

const pair = (prompt: string, completion: string) => ({ kind: 'pair', prompt, completion });

test('examples of a .json file: the list is found wherever it is, whatever brackets and quotes are in its texts', t => {
  const text = JSON.stringify({
    examples_of: [1, [2, { examples: [3] }]],
    note: 'examples ] } [ { " \\ " "examples"',
    examples: [
      { prompt: 'a "b" \\ ] }', completion: '\u00e9\u{1f600}\n' },
      { prompt: '', completion: 'x', more: { deep: [[[]]] } },
    ],
    after: [{ prompt: 'no', completion: 'no' }],
  });
  const { all, error } = foundAnyhow(t, text, 'json');
  t.is(error, '');
  t.deepEqual(
    all.map(f => f.example),
    [pair('a "b" \\ ] }', '\u00e9\u{1f600}\n'), pair('', 'x')] as never,
  );
});

test('examples of a .json file: what is wrong has its line, and spoils no other', t => {
  const text = `{\n "examples": [\n {"prompt": "a", "completion": "b"},\n 5,\n {"prompt": "a"},\n {"prompt" "a"},\n\n {"prompt": "a", "completion": ""}, [], ,\n {"text": "c"}\n ]\n}\n`;
  const { all, error } = foundAnyhow(t, text, 'json');
  t.is(error, '');
  t.deepEqual(all as unknown[], [
    { line: 3, example: pair('a', 'b') },
    { line: 4, example: 'not an object' },
    { line: 5, example: 'no "prompt" and "completion", no "messages", no "text"' },
    { line: 6, example: 'not JSON' },
    { line: 8, example: 'the completion is empty' },
    { line: 8, example: 'no "prompt" and "completion", no "messages", no "text"' },
    { line: 8, example: 'not JSON' },
    { line: 9, example: pair('', 'c') },
  ]);
});

test('a .json file that is none: one sentence about all of it', t => {
  const wrong: readonly (readonly [string, string])[] = [
    ['', 'line 1: not JSON: nothing is there'],
    ['[]', 'line 1: not JSON: one object with "examples" is expected'],
    ['\n"x"', 'line 2: not JSON: one object with "examples" is expected'],
    ['{}', 'line 1: no list "examples"'],
    ['{"examples": 5}', 'line 1: no list "examples"'],
    ['{"examples": [}', 'line 1: not JSON: a bracket that closes none'],
    ['{"examples": [', 'line 1: the file ends in the middle'],
    ['{"examples": []} x', 'line 1: not JSON: one object with "examples" is expected'],
    [`{"examples": ${'['.repeat(300)}`, 'line 1: more than 256 brackets in one another'],
  ];
  for (const [text, error] of wrong) t.is(foundAnyhow(t, text, 'json').error, error, text);
  t.deepEqual(foundAnyhow(t, '{"examples": []}', 'json'), { all: [], error: '' });
});

test('examples of a .jsonl file: pairs, conversations, texts; empty lines are none', t => {
  const turns = [
    { role: 'user', content: 'hi' },
    { role: 'assistant', content: 'ho' },
  ];
  const lines = [
    JSON.stringify({ prompt: 'a', completion: 'b' }),
    '',
    '  \t\r',
    JSON.stringify({ messages: turns }),
    JSON.stringify({ messages: turns.slice(0, 1) }),
    JSON.stringify({ messages: [{ role: 'user' }] }),
    JSON.stringify({ messages: [null] }),
    '{"prompt": ',
    JSON.stringify({ text: 'whole' }),
    JSON.stringify({ text: '' }),
    JSON.stringify({ text: 'x'.repeat(70000) }),
    JSON.stringify({ text: 'x'.repeat(600000) }),
  ];
  const { all } = found(lines.join('\n'), 'jsonl', 1 << 14);
  t.deepEqual(all as unknown[], [
    { line: 1, example: pair('a', 'b') },
    { line: 4, example: { kind: 'chat', messages: turns } },
    { line: 5, example: 'no message of the assistant' },
    { line: 6, example: 'a message has no "role" and "content"' },
    { line: 7, example: 'a message is not an object' },
    { line: 8, example: 'not JSON' },
    { line: 9, example: pair('', 'whole') },
    { line: 10, example: 'the text is empty' },
    { line: 11, example: 'its text is 70000 characters long, 65536 at most' },
    { line: 12, example: 'more than 524288 bytes long' },
  ]);
  foundAnyhow(t, `${lines.slice(0, 9).join('\n')}\n`, 'jsonl');
});

test('plain text: documents end at their separator; the newline before it is not theirs', t => {
  const documents = (text: string, size: number, separator?: string) => {
    const texts: string[] = [''];
    for (const { example } of found(text, 'text', size, separator).all) {
      if (typeof example === 'string' || example.kind !== 'text') throw new Error('not a piece of text');
      texts[texts.length - 1] += utf8Decode(example.bytes);
      if (example.last) texts.push('');
    }
    return texts.slice(0, -1);
  };
  for (const size of [1, 3, 1000]) {
    t.deepEqual(documents('a\n\nb\n<|endoftext|>\nc <|endoftext|>\n<|endoftext|>\n<|endoftext|>\nd', size), [
      'a\n\nb',
      'c <|endoftext|>',
      '',
      'd',
    ]);
    t.deepEqual(documents('a\n---\nb\n', size, '---'), ['a', 'b']);
    t.deepEqual(documents('', size), []);
  }
});

// ── Curves ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a curve: from the highest loss to the lowest, held-out looks upon it, no wider than asked', t => {
  const train = Array.from({ length: 200 }, (_, i) => [i + 1, 1 + 2 / (1 + i / 20)] as const);
  const held = [0, 100, 200].map(step => [step, 1 + 2 / (1 + step / 20)] as const);
  for (const ascii of [false, true])
    for (const columns of [40, 80, 132]) {
      const text = drawn({ train, held }, columns, 12, ascii);
      const lines = text.split('\n');
      t.is(lines.length, 12 + 3 + 1);
      for (const line of lines) t.true([...line].length <= columns, `${columns}: ${line}`);
      t.regex(lines[0]!, /^3\.00 [┤+][o○]/);
      t.regex(lines[11]!, /^1\.18 [┤+]/);
      t.regex(lines[13]!, /^ +step 0 +200$/);
      t.is(/^[\x20-\x7e\n]*$/.test(text), ascii);
      t.is(text.match(ascii ? /o/g : /○/g)!.length >= 3, true);
    }
  // One step, equal losses, a gap: all are drawn.
  for (const points of [
    [[1, 2]],
    [
      [1, 2],
      [2, 2],
    ],
    [
      [1, 3],
      [1000, 2],
    ],
  ] as [number, number][][])
    t.notThrows(() => drawn({ train: points, held: [] }, 60, 8, false));
});

// ── On a machine ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A model of 10,000 parameters, of which a step takes no time. */
const tiny = (() => {
  const store = new StoreDirectory();
  const config = { name: 'tiny', context: 64, embedding: 32, layers: 2, heads: 2, feed_forward: 32, seed: 3 };
  ok(storeMachine({ 'tiny.json': JSON.stringify(config) }, store), 'llmfinetune init /in/tiny.json /s/tiny.gguf');
  return store.files.get('tiny.gguf')!;
})();

const WORDS = ['fox', 'dog', 'cat', 'owl', 'bee', 'ant', 'cow', 'hen', 'pig', 'eel', 'elk', 'emu'];
const pairs = WORDS.map(word => ({ prompt: `the ${word}`, completion: ` says ${word}.` }));
const data = {
  'd.json': JSON.stringify({ examples: pairs }),
  'd.jsonl': pairs.map(p => `${JSON.stringify(p)}\n`).join(''),
  'd.txt': pairs.map(p => `${p.prompt}${p.completion}\n`).join('<|endoftext|>\n'),
  'four.json': JSON.stringify({ examples: pairs.slice(0, 4) }),
  'bad.jsonl': `{"prompt": 5}\n${JSON.stringify(pairs[0])}\nhello\n${JSON.stringify({ prompt: 'x'.repeat(90), completion: 'y' })}\n`,
  'none.json': '{"examples": []}',
  'empty.txt': '',
  'long.txt': 'a longer text than a sequence holds, so it is cut into some of them, each token once',
};

const FT = 'export LLM_ADAPTERS=/s; llmfinetune';

/** A machine with the tiny model loaded, data in /in and the store in /s. */
function trainer(store = new StoreDirectory(), files: Readonly<Record<string, Uint8Array | string>> = {}): Machine {
  const machine = storeMachine({ 'tiny.gguf': tiny, ...data, ...files }, store);
  ok(machine, 'llmctl load /in/tiny.gguf');
  return machine;
}

/** The objects that a command prints, one a line. */
const lines = (machine: Machine, line: string): Record<string, unknown>[] =>
  ok(machine, line)
    .trimEnd()
    .split('\n')
    .map(text => JSON.parse(text) as Record<string, unknown>);

/** The adapter that training with these options makes. */
function adapter(options: string, source = 'd.json'): Uint8Array {
  const store = new StoreDirectory();
  const { path } = lines(trainer(store), `${FT} start /in/${source} x --json ${options}`).at(-1)! as { path: string };
  return store.files.get(path.slice('/s/'.length))!;
}

test('settings: what each takes, in one sentence, before anything is touched', t => {
  const machine = trainer();
  const wrong: readonly (readonly [string, string])[] = [
    ['--method adam', "--method 'adam' is not lora, fmea, nes or full"],
    ['--targets q,x', "--targets 'q,x' is not a list of q, k, v, o, gate, up, down, qkv, each once at most"],
    ['--targets q,q', "--targets 'q,q' is not a list of q, k, v, o, gate, up, down, qkv, each once at most"],
    ['--rank 0', "--rank '0' is not an integer from 1 to 256"],
    ['--alpha 0', "--alpha '0' is not a number from 0 to 65536, 0 excluded"],
    ['--lr -1', "--lr '-1' is not a number from 0 to 100, 0 excluded"],
    ['--lr 1e-99', "--lr '1e-99' is not a number from 0 to 100, 0 excluded"],
    ['--epochs 0', "--epochs '0' is not an integer from 1 to 1000000"],
    ['--steps 0', "--steps '0' is not an integer from 1 to 1000000000"],
    ['--steps 3 --epochs 2', '--steps and --epochs exclude each other'],
    ['--batch 65', "--batch '65' is not an integer from 1 to 64"],
    ['--accumulate 0', "--accumulate '0' is not an integer from 1 to 4096"],
    ['--ctx 1', "--ctx '1' is not an integer from 2 to 131072"],
    ['--val 1', "--val '1' is not a number from 0 to 1, 1 excluded"],
    ['--seed -1', "--seed '-1' is not an integer from 0 to 4294967295"],
    ['--optimizer lion', "--optimizer 'lion' is not adam or sgd"],
    ['--schedule step', "--schedule 'step' is not constant, linear or cosine"],
    ['--warmup x', "--warmup 'x' is not an integer from 0 to 1000000000"],
    ['--decay 2', "--decay '2' is not a number from 0 to 1"],
    ['--clip -1', "--clip '-1' is not a number from 0 to 1000000000"],
    ['--anchor -1', "--anchor '-1' is not a number from 0 to 1000000000"],
    ['--max-delta 0', "--max-delta '0' is not a number from 0 to 1000000000, 0 excluded"],
    ['--patience 0', "--patience '0' is not an integer from 1 to 1000000000"],
    ['--rollback maybe', "--rollback 'maybe' is not yes or no"],
    ['--directions 4', '--directions is nothing of --method lora'],
    ['--method nes --directions 65', "--directions '65' is not an integer from 1 to 64"],
    ['--method fmea --sigma 1', '--sigma is nothing of --method fmea'],
    ['--ranked', '--ranked is nothing of --method lora'],
    ['--method full --rank 4', '--rank is nothing of --method full'],
    ['--method nes --checkpoint 1', '--checkpoint is nothing of --method nes'],
    ['--method nes --sigma 0', "--sigma '0' is not a number from 0 to 100, 0 excluded"],
    ['--share 86', "--share '86' is not a number from 0 to 85"],
    ['--checkpoint some', "--checkpoint 'some' is not an integer from 1 to 512, nor all"],
    ['--mask-prompt 1', "--mask-prompt '1' is not yes or no"],
    ['--bad ignore', "--bad 'ignore' is not stop or skip"],
    ['--separator ""', "--separator '' is not 1 to 80 characters of ASCII"],
    ['--every 0', "--every '0' is not an integer from 1 to 1000000000"],
  ];
  for (const [options, message] of wrong)
    for (const verb of ['plan /in/d.json', 'start /in/d.json x'])
      refused(t, machine, `llmfinetune ${verb} ${options}`, 2, `llmfinetune: ${message}`);
  refused(t, machine, 'llmfinetune', 2, /^llmfinetune: missing command\n/);
  refused(t, machine, 'llmfinetune train', 2, /^llmfinetune: unknown command 'train'\n/);
  refused(t, machine, 'llmfinetune start /in/d.json', 2, /^llmfinetune: start: missing operand: DATA NAME/);
  refused(t, machine, 'llmfinetune plot x y', 2, /^llmfinetune: plot: extra operand 'y'\n/);
  refused(t, machine, 'llmfinetune plot x --rank 4', 2, /^llmfinetune: plot takes no --rank\n/);
  refused(t, machine, `${FT} start /in/d.json ../x`, 1, /^llmfinetune: '..\/x' is not a name: /);
  refused(t, machine, `${FT} start /in/nothing x`, 1, 'llmfinetune: /in/nothing: No such file or directory');
  for (const verb of ['resume', 'cancel', 'status'])
    refused(t, machine, `${FT} ${verb} x`, 1, 'llmfinetune: x: no training of that name');
  refused(t, machine, `${FT} plot x`, 1, 'llmfinetune: x: no step of a training was logged');
  t.is(ok(machine, `${FT} status`), 'no training\n');
  t.is(ok(machine, 'ls /s'), '');
  ok(machine, 'llmctl unload');
  refused(t, machine, `${FT} start /in/d.json x`, 1, 'llmfinetune: no model loaded: llmctl load FILE');
  ok(machine, 'llmctl backend stub');
  refused(t, machine, `${FT} plan /in/d.json`, 1, 'llmfinetune: stub has no weights to train: llmctl load FILE');
});

test('data: the same examples in each format are the same training; bad lines are named, and stop or are skipped', t => {
  const machine = trainer();
  const plan = (file: string, options = '') => json(machine, `${FT} plan --json /in/${file} ${options}`);
  const { sequences, tokens, held_out: heldOut, cut, steps } = plan('d.json');
  t.deepEqual([sequences, heldOut, cut, steps], [12, 1, 0, 11]);
  // A byte a token, between BOS and the end token.
  const bytes = pairs.map(p => p.prompt.length + p.completion.length);
  t.is(
    tokens,
    bytes.reduce((sum, n) => sum + 1 + n + 1, 0),
  );
  t.is(plan('d.jsonl')['tokens'], tokens);
  t.like(plan('d.txt'), { sequences: 12, tokens });
  t.like(plan('d.json', '--ctx 12'), { tokens: 12 * 12, cut: 12, ctx: 12 });
  // A document longer than a sequence: BOS before each piece of it, the end token behind the last.
  const pieces = Math.ceil((data['long.txt'].length + 1) / 15);
  t.like(plan('long.txt', '--ctx 16'), { sequences: pieces, tokens: data['long.txt'].length + 1 + pieces, cut: 0 });
  t.deepEqual(adapter('--steps 3'), adapter('--steps 3', 'd.jsonl'));
  t.notDeepEqual(adapter('--steps 3'), adapter('--steps 3 --mask-prompt no'));

  const bad = 'llmfinetune: /in/bad.jsonl:1: no "prompt" and "completion", no "messages", no "text"';
  refused(t, machine, `${FT} plan /in/bad.jsonl`, 1, `${bad} (--bad skip goes on without it)`);
  const r = machine.exec(`${FT} plan --json /in/bad.jsonl --bad skip`);
  t.is(r.status, 0);
  t.deepEqual(r.stderr.trimEnd().split('\n'), [
    bad,
    'llmfinetune: /in/bad.jsonl:3: not JSON',
    'llmfinetune: /in/bad.jsonl:4: its prompt alone has 91 tokens, a sequence 64 at most',
    'llmfinetune: /in/bad.jsonl: 3 bad lines skipped',
  ]);
  t.like(JSON.parse(r.stdout), { sequences: 1, held_out: 0, bad: 3 });
  t.regex(ok(machine, `${FT} plan /in/bad.jsonl --bad skip 2> /dev/null`), /\n1 sequence of .*\n1 step, 1 to an epoch/);
  for (const file of ['none.json', 'empty.txt'])
    refused(t, machine, `${FT} start /in/${file} x`, 1, 'llmfinetune: No training data loaded');
});

test('conversations: the chat template writes them, and each turn of the assistant is a sequence', t => {
  const template =
    '{% for m in messages %}[{{ m.role }}]{{ m.content }};{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}';
  const messages = ['user', 'assistant', 'user', 'assistant'].map((role, i) => ({ role, content: `turn ${i}` }));
  const files = { 'chat.gguf': withTemplate(tiny, template), 'chat.jsonl': JSON.stringify({ messages }) };
  const machine = trainer(undefined, files);
  const refusedLine = machine.exec(`${FT} plan /in/chat.jsonl --ctx 64`).stderr;
  t.regex(refusedLine, /^llmfinetune: \/in\/chat.jsonl:1: .*no tokenizer.chat_template \(--bad skip/);
  ok(machine, 'llmctl load /in/chat.gguf');
  const whole = messages.map(m => `[${m.role}]${m.content};`).join('');
  const first = whole.length / 2;
  t.like(json(machine, `${FT} plan --json /in/chat.jsonl --ctx 64`), {
    sequences: 2,
    tokens: 1 + first + 1 + whole.length,
    cut: 0,
  });
});

/** A GGUF file with a chat template put before its other keys, padded so that tensors stay aligned. */
function withTemplate(file: Uint8Array, template: string): Uint8Array {
  const KEYS_AT = 24; // magic, version, tensors, keys
  const key = 'tokenizer.chat_template';
  const fixed = 8 + key.length + 4 + 8;
  const text = template.padEnd(template.length + ((32 - ((fixed + template.length) % 32)) % 32));
  const entry = Buffer.alloc(fixed + text.length);
  entry.writeBigUInt64LE(BigInt(key.length), 0);
  entry.write(key, 8);
  entry.writeUInt32LE(8, 8 + key.length); // string
  entry.writeBigUInt64LE(BigInt(text.length), 12 + key.length);
  entry.write(text, fixed);
  const whole = Buffer.concat([file.subarray(0, KEYS_AT), entry, file.subarray(KEYS_AT)]);
  whole.writeBigUInt64LE(whole.readBigUInt64LE(16) + 1n, 16);
  return whole;
}

test('a file larger than the arena is read in pieces', t => {
  const note = 'x'.repeat(9 << 20);
  const machine = trainer(undefined, { 'large.json': JSON.stringify({ note, examples: pairs }) });
  t.like(json(machine, `${FT} plan --json /in/large.json`), { sequences: 12 });
});

test('a training: its log, its last line, its version; the loss of four examples seen again and again falls', t => {
  const store = new StoreDirectory();
  const machine = trainer(store);
  const digest = json(machine, 'llmctl info --json')['digest'];
  const all = lines(machine, `${FT} start /in/four.json parrot --json --steps 24 --lr 0.02 --val 0 --every 10`);
  const last = all.pop()!;
  t.is(all.length, 24);
  t.deepEqual(Object.keys(last).slice(0, 5), [
    'epochs_completed',
    'final_loss',
    'duration_ms',
    'examples_processed',
    'adapter_size_bytes',
  ]);
  t.like(last, {
    epochs_completed: 6,
    examples_processed: 24,
    name: 'parrot',
    version: 1,
    steps: 24,
    kept_step: 24,
    ended: 'done',
    held_out: 0,
  });
  const losses = all.map(line => Number(line['loss']));
  const mean = (from: number): number => losses.slice(from, from + 4).reduce((a, b) => a + b, 0) / 4;
  t.true(mean(20) < mean(0), `${mean(0)} … ${mean(20)}`);
  t.true((last['final_loss'] as number) < mean(0));
  for (const line of all) t.true((line['cycles'] as number) <= (line['cycles_most'] as number));
  t.is(ok(machine, 'cat /s/parrot/log.jsonl'), all.map(line => `${JSON.stringify(line)}\n`).join(''));
  const { path } = last as { path: string };
  const file = store.files.get(path.slice('/s/'.length))!;
  t.is(file.length, Number(last['adapter_size_bytes']));
  t.is(createHash('sha256').update(file).digest('hex'), String(last['digest']));
  // Nothing of the training is left but its records; the base is what it was.
  t.deepEqual(
    [...store.files.keys()].filter(name => /checkpoint|best|data|part/.test(name)),
    [],
  );
  t.is(json(machine, 'llmctl info --json')['digest'], digest);
  t.regex(ok(machine, `${FT} status`), /^NAME +STATE .*\nparrot +done +lora +24 +24 +[0-9.]+ +- +-\n$/);
  t.regex(ok(machine, `${FT} plot parrot`), /step 1 +24\n +⠒ training loss\n$/);
  t.like(json(machine, `${FT} plot --json parrot`), { name: 'parrot', held_out: [] });
  // The next training of the name is its next version; the same again is the same version.
  t.like(lines(machine, `${FT} start /in/four.json parrot --json --steps 2 --val 0`).at(-1)!, { version: 2 });
  t.like(lines(machine, `${FT} start /in/four.json parrot --json --steps 2 --val 0`).at(-1)!, { version: 2 });
});

test('the closing block, and what --quiet leaves of it', t => {
  const machine = trainer();
  t.regex(
    ok(machine, `${FT} start /in/d.json x --steps 12 --lr 0.02 --val 0.25`),
    /^x v1 [0-9a-f]{12} {2}[0-9,]+ bytes\n {2}held out +5\.[0-9]{4} → [0-9.]+ {2}\(3 sequences that were not trained on\)\n {2}inference +[0-9.]+ .*\n {2}trained .*\n {2}steps +12.*\n {2}tokens .*\nllmfinetune apply x\n$/,
  );
  t.is(ok(machine, `${FT} start /in/d.json y --steps 2 --quiet`), '');
});

test('the same seed, the same bytes; another seed, others; however many layers are computed again', t => {
  const options = '--steps 4 --batch 2 --accumulate 2 --schedule cosine --warmup 2 --decay 0.01 --lr 0.01';
  const one = adapter(options);
  t.deepEqual(adapter(options), one);
  t.notDeepEqual(adapter(`${options} --seed 43`), one);
  for (const kept of ['all', '1', '2']) t.deepEqual(adapter(`${options} --checkpoint ${kept}`), one, kept);
  for (const method of ['fmea', 'nes', 'nes --ranked']) {
    const other = adapter(`--steps 2 --method ${method} --val 0`);
    t.deepEqual(adapter(`--steps 2 --method ${method} --val 0`), other, method);
    t.notDeepEqual(adapter(`--steps 2 --method ${method} --val 0 --seed 43`), other, method);
  }
});

// ── Stopping and going on ────────────────────────────────────────────────────────────────────────────────────────────────────────

const RUN = 'start /in/d.json x --epochs 2 --batch 2 --val 0.25 --lr 0.02 --every 2 --json';

/** The version that a training ended with, and its log without times. */
function outcome(store: StoreDirectory): { readonly version: Uint8Array; readonly log: readonly unknown[] } {
  const names = [...store.files.keys()].filter(name => /^x\/v[0-9]+_/.test(name));
  if (names.length !== 1) throw new Error(`versions: ${names.join()}`);
  const log = new TextDecoder().decode(store.files.get('x/log.jsonl')).trimEnd().split('\n');
  const timeless = log.map(line => ({ ...(JSON.parse(line) as object), elapsed_ns: 0 }));
  return { version: store.files.get(names[0]!)!, log: timeless };
}

const uninterrupted = (() => {
  const store = new StoreDirectory();
  const machine = trainer(store);
  const before = store.operations;
  ok(machine, `${FT} ${RUN}`);
  return { ...outcome(store), operations: store.operations - before };
})();

test('power cut at any change of a file: what is there goes on to the same bytes', t => {
  const { operations } = uninterrupted;
  t.true(operations > 50, String(operations));
  const cuts = soak
    ? Array.from({ length: operations }, (_, i) => i)
    : [0, 3, 9, 17, 30, 41, operations - 9, operations - 2];
  for (const [i, at] of cuts.entries())
    for (const cut of soak
      ? (['before', 'torn', 'behind'] as const)
      : ([(['before', 'torn', 'behind'] as const)[i % 3]!] as const)) {
      const store = new StoreDirectory();
      const machine = trainer(store);
      store.cutAt = store.operations + at;
      store.cut = cut;
      t.throws(() => machine.exec(`${FT} ${RUN}`), { message: 'the machine has halted: see the kernel log' });
      const rest = store.survivor();
      const next = trainer(rest);
      const resumed = next.exec(`${FT} resume x --quiet`);
      // Cut before there was a record of it, or behind the last one: there is nothing to resume, and beginning again is what is left to do.
      if (resumed.status !== 0) {
        t.regex(resumed.stderr, /no training of that name|its training has ended/, `${at} ${cut}`);
        if (resumed.stderr.includes('no training')) ok(next, `${FT} ${RUN}`);
      }
      t.deepEqual(outcome(rest), { version: uninterrupted.version, log: uninterrupted.log }, `${at} ${cut}`);
    }
});

test('cancelled in the background: its checkpoint is there, status tells, and resume ends with the same bytes', t => {
  const store = new StoreDirectory();
  const machine = trainer(store);
  const line = 'start /in/d.json x --epochs 20 --batch 2 --val 0.25 --lr 0.02';
  const script = [
    `llmfinetune ${line} &`,
    'while [ ! -s /s/x/log.jsonl ]; do sleep 0.05; done',
    'llmfinetune status --json x',
    'llmctl sched --json',
    'llmctl sched | grep training',
    "su user -c 'llmctl sched' | grep training",
    'llmfinetune start /in/d.json x',
    'llmfinetune start /in/d.json y',
    'llmctl load /in/tiny.gguf',
    'llmfinetune cancel x',
    'wait',
    'llmfinetune cancel x',
    'llmfinetune start /in/d.json x',
  ];
  const { stdout, stderr } = machine.exec(`export LLM_ADAPTERS=/s\n${script.join('\n')}`);
  const [status = '', sched = '', own = '', others = '', cancelled = ''] = stdout.trimEnd().split('\n');
  const seen = JSON.parse(status) as Record<string, unknown>;
  t.like(seen, { name: 'x', state: 'running', method: 'lora', data: '/in/d.json', steps: 100, steps_per_epoch: 5 });
  const { training } = JSON.parse(sched) as { training: Record<string, number> };
  t.like(training, { uid: 0, misses: 0 });
  t.is(Math.round(training['period_cycles']! / training['budget_cycles']!), 10);
  t.regex(own, /^training +of user 0, [0-9,]+ cycles \([^)]+\) every .*, 0 deadlines missed$/);
  t.regex(others, /^training +of user 0$/);
  t.regex(cancelled, /^x: stopped after step [0-9]+ of 100; 'llmfinetune resume x' goes on$/);
  const told = stderr.trimEnd().split('\n');
  t.is(told.length, 6, stderr);
  t.regex(told[0]!, /^llmfinetune: x: is being trained \(process [0-9]+\); 'llmfinetune cancel x' stops it$/);
  t.regex(told[1]!, /EBUSY/);
  t.regex(told[2]!, /^llmctl: .*EBUSY .* training 1 of user root is open$/);
  t.regex(told[3]!, /^llmfinetune: x: stopped after step [0-9]+ of 100; 'llmfinetune resume x' goes on$/);
  t.is(told[4], 'llmfinetune: x: is not being trained: its training is stopped');
  t.regex(
    told[5]!,
    /^llmfinetune: x: its training has not ended: 'llmfinetune resume x' goes on, --restart begins anew$/,
  );
  ok(machine, `${FT} resume x --quiet`);
  const whole = new StoreDirectory();
  ok(trainer(whole), `${FT} ${line}`);
  t.deepEqual(outcome(store), outcome(whole));
  refused(t, machine, `${FT} resume x`, 1, 'llmfinetune: x: its training has ended: llmfinetune versions x');
});

test('another model is loaded: a training cannot go on, and says with which it could', t => {
  const store = new StoreDirectory();
  const other = Buffer.from(tiny);
  other[other.length - 1]! ^= 1;
  const machine = trainer(store, { 'other.gguf': other });
  machine.exec(
    `${FT} start /in/d.json x --steps 500 & while [ ! -s /s/x/log.jsonl ]; do sleep 0.05; done; kill $!; wait`,
  );
  ok(machine, 'llmctl load /in/other.gguf');
  refused(
    t,
    machine,
    `${FT} resume x`,
    1,
    'llmfinetune: x: was trained on /in/tiny.gguf, which is not loaded: llmctl load /in/tiny.gguf',
  );
  t.regex(ok(machine, `${FT} status x`), /\nx +stopped +lora +[0-9]+ +500 /);
});

test('a damaged checkpoint is refused, wherever the damage is', t => {
  const store = new StoreDirectory();
  const machine = trainer(store);
  machine.exec(
    `${FT} start /in/d.json x --steps 500 & while [ ! -s /s/x/log.jsonl ]; do sleep 0.05; done; kill $!; wait`,
  );
  const whole = store.files.get('x/checkpoint')!;
  const damages: [at: number, why: string][] = [
    [0, 'damaged: its digest is another'],
    [whole.lastIndexOf(0x7b), 'not a whole checkpoint'], // the line is no JSON
    [whole.length - 1, 'not a whole checkpoint'],
  ];
  for (const [at, why] of damages) {
    store.files.set('x/checkpoint', whole.with(at, whole[at]! ^ 4));
    refused(t, machine, `${FT} resume x`, 1, `llmfinetune: /s/x/checkpoint: ${why}`);
  }
  store.files.set('x/checkpoint', whole);
  t.regex(
    machine.exec(`${FT} resume x --quiet & sleep 0.2; kill $!; wait`).stderr,
    /x: stopped after step [0-9]+ of 500/,
  );
});

test('a quota of cycles ends a training; with another one it goes on', t => {
  const machine = trainer();
  ok(machine, 'llmctl quota user --cycles 300000000');
  const start = machine.exec("su user -c 'llmfinetune start /in/d.json x --steps 60 --store ~/a'");
  t.is(start.status, 1);
  t.regex(start.stderr, /^llmfinetune: x: EDQUOT .*\nllmfinetune: x: stopped after step [0-9]+ of 60; /);
  ok(machine, 'llmctl quota user --cycles 0');
  t.regex(ok(machine, "su user -c 'llmfinetune resume x --store ~/a'"), /^x v1 /);
});

test('early ends: patience, the distance that is allowed, and a held-out loss that never falls', t => {
  const machine = trainer();
  const last = (options: string) => lines(machine, `${FT} start /in/d.json x --json --restart ${options}`).at(-1)!;
  t.like(last('--steps 200 --lr 0.3 --clip 0 --val 0.25 --every 1 --patience 3'), { ended: 'patience' });
  const far = last('--steps 200 --lr 0.02 --max-delta 0.5');
  t.like(far, { ended: 'frozen' });
  t.true(Number(far['steps']) < 200);
  const distances = ok(machine, 'grep -o distance.:[0-9.]* /s/x/log.jsonl')
    .trim()
    .split('\n')
    .map(d => Number(d.split(':')[1]));
  t.true(distances.every(d => d <= 0.5) && distances.at(-1)! > 0.3, distances.join());
  // What is kept is the best that was seen.
  const { kept_step: kept, final_loss: loss } = last('--steps 60 --lr 0.3 --clip 0 --val 0.25 --every 5 --seed 5') as {
    kept_step: number;
    final_loss: number;
  };
  const seen = ok(machine, 'grep held_out /s/x/log.jsonl')
    .trim()
    .split('\n')
    .map(l => JSON.parse(l) as { step: number; held_out_loss: number });
  const best = seen.reduce((a, b) => (b.held_out_loss < a.held_out_loss ? b : a));
  t.is(best.step, kept);
  t.true(Math.abs(best.held_out_loss - loss) < 1e-12);
  t.true(kept < 60);
  const r = machine.exec(`${FT} start /in/d.json y --steps 3 --lr 90 --clip 0 --val 0.5`);
  t.is(r.status, 1);
  t.regex(
    r.stderr,
    /^llmfinetune: y: the held-out loss has not fallen below 5\.[0-9]{4}, where it began: nothing is kept /,
  );
  t.false(ok(machine, 'ls /s/y').includes('gguf'));
});

// ── Somebody who looks ───────────────────────────────────────────────────────────────────────────────────────────────────────────

test('at a terminal: a bar with loss, speed and time left; Ctrl-C stops; in the background nothing is drawn', async t => {
  const store = new StoreDirectory();
  const seat = new MachineSeat(console => storeMachine({ 'tiny.gguf': tiny, ...data }, store, { console }), 100, 24);
  await seat.type('export LLM_ADAPTERS=/s; llmctl load /in/tiny.gguf | tail -n 1\r');
  /** Lets the machine run until the log of a training has so many lines. */
  const until = async (name: string, count: number): Promise<string> => {
    const logged = (): number => (store.files.get(`${name}/log.jsonl`) ?? []).filter(byte => byte === 10).length;
    for (let i = 0; i < 100_000 && logged() < count; i++) seat.machine.run(1);
    await seat.drawn();
    return seat.screen().join('\n');
  };
  seat.tty.feed(utf8Encode('llmfinetune start /in/d.json x --steps 4000 --val 0.25\r'));
  t.regex(
    await until('x', 20),
    /\n\[=*> *\] +[0-9]+ % {2}step [0-9]+\/4000 {2}loss [0-9.]+ {2}held-out [0-9.]+ {2}[0-9,]+ tok\/s {2}[0-9ms ]+ left/,
  );
  await seat.type('\x03');
  t.regex(seat.screen().join('\n'), /x: stopped after step [0-9]+ of 4000; 'llmfinetune resume x' goes on\n/);
  await seat.type('clear\r');
  seat.tty.feed(utf8Encode('llmfinetune start /in/d.json y --steps 30 &\r'));
  t.notRegex(await until('y', 20), /step [0-9]|\[=/);
  seat.tty.feed(utf8Encode('fg\r'));
  t.regex(await until('y', 29), /\[=+> *\] +[0-9]+ % {2}step/);
});
