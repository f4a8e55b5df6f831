// llmfinetune as people type it: data in each format, settings and their refusals, trainings begun, watched, stopped and gone on with; the same seed
// the same bytes, resumed or not; curves. Beneath it: orders, schedules, and readers that never hold a file.
import test from 'ava';
import { rateAt } from '../shell/lib/finetune/schedule.ts';
import { permuted } from '../shell/lib/finetune/permutation.ts';
import { readExamples } from '../shell/lib/finetune/examples.ts';
import type { DataFormat, Found } from '../shell/lib/finetune/examples.ts';
import { drawn } from '../shell/lib/finetune/plot.ts';
import { courseOf, heldOutAt, trainedAt } from '../shell/lib/finetune/loop.ts';
import { settingsOf } from '../shell/lib/finetune/options.ts';
import type { Settings } from '../shell/lib/finetune/options.ts';
import type { Input } from '../shell/lib/stdio.ts';
import { utf8Decode } from '../kernel/abi/index.ts';

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
