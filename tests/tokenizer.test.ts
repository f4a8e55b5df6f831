// Tokenizers: llama.cpp's own test texts to the id, a plain reference on random texts and random vocabularies, bytes in = bytes out,
// streaming that does not show, memory exactly as budgeted, refusals in words.

import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { existsSync, readFileSync } from 'node:fs';
import process from 'node:process';
import {
  ENCODE,
  isRefusal,
  LIMITS,
  type MetaArray,
  type MetaValue,
  type ModelImage,
  type Refusal,
  type Vocabulary,
} from '../kernel/abi/index.ts';
import { ENCODE_WORK_BYTES, Tokenizers } from '../drivers/engine/tokenizer.ts';
import { loadUnicode, UNICODE_BYTES, UNICODE_VERSION } from '../drivers/engine/unicode.ts';
import type { EngineCompute } from '../drivers/engine/compute.ts';
import { countsAt } from '../kernel/wcet/certificate.ts';
import { certify, isCertificate } from '../kernel/wcet/certify.ts';
import type { Certificate } from '../kernel/wcet/certify.ts';
import { counterName, instrument } from '../kernel/wcet/instrument.ts';
import { CLASSES, decodeModule } from '../kernel/wcet/wasm.ts';
import type { Module } from '../kernel/wcet/wasm.ts';
import { accepted, type Build, BUILDS, canRun, haveShared, MODEL_AT, Rig, shared, soak } from './harness.ts';
import { byteLetters, type PlainVocabulary, ReferenceTokenizer, words } from './reference/tokenizer.ts';
import { ggufFile, type Value } from './support/gguf.ts';

const UNICODE_AT = 1024; // where the harness keeps constants
const IDS_AT = LIMITS.arenaBytes - 4096;
const WORK_END = IDS_AT;
const runs = soak ? 3000 : 150;
const vocabularyFile = (name: string): string => shared(`vectors/tokenizer/ggml-vocab-${name}.gguf`);
const whenShared = haveShared ? test : test.skip;

class Bench {
  readonly rig: Rig;
  readonly tokenizers: Tokenizers;
  constructor(build: Build = 'simd128', computeOf = (rig: Rig): EngineCompute => rig.compute) {
    this.rig = new Rig(build);
    loadUnicode(this.rig.arena, UNICODE_AT);
    this.tokenizers = new Tokenizers(this.rig.arena, computeOf(this.rig), UNICODE_AT);
  }

  open(file: string | Uint8Array, changes: Record<string, MetaValue> = {}): Opened {
    const image = accepted(this.rig.image(typeof file === 'string' ? file : file));
    const changed: ModelImage = Object.create(image, {
      meta: { value: (key: string) => changes[key] ?? image.meta(key) },
    });
    const { bytes } = accepted(this.tokenizers.budget(changed));
    return { bench: this, image: changed, bytes, v: accepted(this.tokenizers.load(changed, MODEL_AT, bytes)) };
  }

  refusal(keys: readonly (readonly [string, Value])[]): Refusal | null {
    const result = this.tokenizers.budget(accepted(this.rig.image(ggufFile({ keys }))));
    return isRefusal(result) ? result : null;
  }
}

interface Opened {
  readonly bench: Bench;
  readonly image: ModelImage;
  readonly bytes: number;
  readonly v: Vocabulary;
}

interface Streaming {
  readonly flags?: number;
  readonly workBytes?: number;
  readonly piece?: number; // most bytes put at a time
  readonly capacity?: number; // most ids taken at a time
}

/** Everything `text` encodes to, or the refusal. */
function encode(
  { bench, v }: Opened,
  text: Uint8Array,
  { flags = 0, workBytes = 256 * 1024, piece = Infinity, capacity = 512 }: Streaming = {},
): number[] | Refusal {
  const { u8, u32 } = bench.rig.arena;
  const ids: number[] = [];
  v.begin(flags, (WORK_END - workBytes) & -4, workBytes);
  for (let at = 0, final = false; ;) {
    const n = Math.min(v.inputBytes(), piece, text.length - at);
    if (!final && (n > 0 || at === text.length)) {
      u8.set(text.subarray(at, at + n), v.inputAt());
      at += n;
      final = at === text.length;
      v.input(n, final);
    }
    for (;;) {
      const got = v.encode(IDS_AT, capacity);
      if (got < 0) return v.refusal()!;
      if (got === 0) break;
      for (let i = 0; i < got; i++) ids.push(u32[(IDS_AT >> 2) + i]!);
    }
    if (final) return ids;
  }
}
const encoded = (o: Opened, text: string | Uint8Array, s: Streaming = {}): number[] =>
  accepted(encode(o, Buffer.from(text), s));

function decode({ bench, v }: Opened, ids: readonly number[], special = false): Buffer {
  const parts = ids.map(id => {
    const n = v.piece(id, IDS_AT, 4096, special);
    if (n < 0) throw new Error(`piece of ${id} is ${n}`);
    return Buffer.from(bench.rig.arena.u8.slice(IDS_AT, IDS_AT + n));
  });
  const bytes = Buffer.concat(parts);
  return v.spacePrefix === true && bytes[0] === 0x20 ? bytes.subarray(1) : bytes;
}

/** The vocabulary as the file spells it, read without the tokenizer. */
function plain(file: Uint8Array, image: ModelImage): PlainVocabulary {
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const strings = (key: string): string[] => {
    const a = image.meta(key) as MetaArray | undefined;
    const out: string[] = [];
    let at = a?.fileAt ?? 0;
    for (let i = 0; i < (a?.count ?? 0); i++) {
      const n = Number(view.getBigUint64(at, true));
      out.push(Buffer.from(file.subarray(at + 8, at + 8 + n)).toString());
      at += 8 + n;
    }
    return out;
  };
  const numbers = (key: string, read: (at: number) => number): number[] => {
    const a = image.meta(key) as MetaArray | undefined;
    return Array.from({ length: a?.count ?? 0 }, (_, i) => read(a!.fileAt + 4 * i));
  };
  const tokens = strings('tokenizer.ggml.tokens');
  const types = numbers('tokenizer.ggml.token_type', at => view.getInt32(at, true));
  return {
    model: String(image.meta('tokenizer.ggml.model')),
    pre: String(image.meta('tokenizer.ggml.pre') ?? 'default'),
    tokens,
    types: types.length > 0 ? types : tokens.map(() => 1),
    scores: numbers('tokenizer.ggml.scores', at => view.getFloat32(at, true)),
    merges: strings('tokenizer.ggml.merges'),
    spacePrefix:
      image.meta('tokenizer.ggml.model') === 'llama' && image.meta('tokenizer.ggml.add_space_prefix') !== false,
  };
}

// ── llama.cpp's texts ────────────────────────────────────────────────────────────────────────────────────────────────────────────

function vectors(t: ExecutionContext, build: Build, model: string, texts: string, ids: string, flags: number): void {
  const opened = new Bench(build).open(shared(model));
  const inputs = readFileSync(shared(`vectors/tokenizer/${texts}`), 'utf8').split('\n__ggml_vocab_test__\n');
  const lines = readFileSync(shared(`vectors/tokenizer/${ids}`), 'utf8').split('\n');
  t.is(inputs.pop(), '');
  t.is(lines.pop(), '');
  t.is(inputs.length, lines.length);
  inputs.forEach((text, i) => {
    const expected = lines[i]!.split(' ').filter(Boolean).map(Number);
    t.deepEqual(encoded(opened, text, { flags }), expected, `text ${i}: ${JSON.stringify(text)}`);
    t.deepEqual(
      encoded(opened, text, { flags, workBytes: ENCODE_WORK_BYTES, piece: 1, capacity: 1 }),
      expected,
      `byte by byte, text ${i}`,
    );
    t.deepEqual(decode(opened, expected), Buffer.from(text), `decoded, text ${i}`);
  });
}
for (const build of BUILDS.filter(canRun)) {
  for (const name of ['gpt-2', 'llama-bpe', 'qwen2', 'llama-spm']) {
    const file = `ggml-vocab-${name}.gguf`;
    whenShared(
      `${name}: the ids of llama.cpp's test texts (${build})`,
      vectors,
      build,
      `vectors/tokenizer/${file}`,
      `${file}.inp`,
      `${file}.out`,
      0,
    );
  }
  const stories = 'models/stories260K-f32.gguf';
  whenShared(
    `stories260K: the same texts (${build})`,
    vectors,
    build,
    stories,
    'ggml-vocab-llama-spm.gguf.inp',
    'tok512-spm.nobos.out',
    0,
  );
  whenShared(
    `stories260K: the same texts after BOS (${build})`,
    vectors,
    build,
    stories,
    'ggml-vocab-llama-spm.gguf.inp',
    'tok512-spm.bos.out',
    ENCODE.bos,
  );
}

// ── A plain reference on random texts ────────────────────────────────────────────────────────────────────────────────────────────

const visible =
  "' 's 'S 'll 'Re 've 'd a Z hello The é ß ſ K д ह ी 我 가 0 7 12 345 ٣ ½ Ⅷ ² _ - -- ! ? . $ + < = > ^ ` ~ | … 。 « € 🙂 👩‍👩‍👧 ing";
const white = ' |  | the| and|\n|\r\n|\t|\v|\u0085|\u00a0|\u3000|\u2028|\u200b|\ufeff|\u0301|\0|\u001c|\ufffd';
const hard = [...visible.split(' '), ...white.split('|')];
const hardText = fc
  .array(
    fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom(...hard) },
      { weight: 1, arbitrary: fc.string({ unit: 'grapheme' }) },
    ),
    { maxLength: 24 },
  )
  .map(a => a.join('').replaceAll('▁', '_'));

for (const [name, file] of [
  ['gpt-2', vocabularyFile('gpt-2')],
  ['llama-bpe', vocabularyFile('llama-bpe')],
  ['qwen2', vocabularyFile('qwen2')],
  ['smollm', vocabularyFile('gpt-2')],
  ['default', vocabularyFile('gpt-2')],
  ['llama', vocabularyFile('llama-spm')],
  ['llama, 512 tokens', shared('models/stories260K-f32.gguf')],
] as const) {
  whenShared(`${name}: the reference's ids for random texts`, t => {
    const opened = new Bench().open(file, name.startsWith('llama') ? {} : { 'tokenizer.ggml.pre': name });
    const reference = new ReferenceTokenizer(plain(readFileSync(file), opened.image));
    fc.assert(
      fc.property(hardText, fc.boolean(), (text, special) => {
        t.deepEqual(
          encoded(opened, text, { flags: special ? ENCODE.special : 0 }),
          reference.encode(text, special),
          JSON.stringify(text),
        );
      }),
      { numRuns: 4 * runs, seed: 1 },
    );
    t.pass();
  });
}

test('the reference cuts words as the expressions say', t => {
  t.deepEqual(words("I've  12345 x's\n\n y", 'gpt-2'), ['I', "'ve", ' ', ' 12345', ' x', "'s", '\n\n', ' y']);
  t.deepEqual(words("I'VE  12345\n\n  y!\n", 'llama-bpe'), [
    'I',
    "'VE",
    ' ',
    ' ',
    '123',
    '45',
    '\n\n',
    ' ',
    ' y',
    '!\n',
  ]);
  t.deepEqual(words('a 123,45', 'smollm'), ['a', ' ', '1', '2', '3', ',', '4', '5']);
  t.deepEqual(words('a 12345 b,c', 'default'), ['a', ' ', '123', '45', ' b', ',', 'c']);
});

// ── Bytes in = bytes out ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 200 }),
  hardText.map(s => new Uint8Array(Buffer.from(s))),
  fc
    .tuple(hardText, fc.uint8Array({ maxLength: 4 }), hardText)
    .map(([a, b, c]) => new Uint8Array(Buffer.concat([Buffer.from(a), b, Buffer.from(c)]))),
  fc
    .constantFrom('▁', 'a▁b', ' ▁ ', '\xff\xe2\x96', '<0x41>', '<s>', '</s>', '<unk>', '<|endoftext|>')
    .map(s => new Uint8Array(Buffer.from(s))),
);
const fable = 'images/models/fable-f16.gguf';
for (const [name, file] of [
  ['fable', fable],
  ['gpt-2', vocabularyFile('gpt-2')],
  ['llama-bpe', vocabularyFile('llama-bpe')],
  ['qwen2', vocabularyFile('qwen2')],
  ['llama', vocabularyFile('llama-spm')],
  ['llama, 512 tokens', shared('models/stories260K-f32.gguf')],
] as const) {
  (existsSync(file) ? test : test.skip)(`${name}: decode(encode(bytes)) = bytes, however they come`, t => {
    const opened = new Bench().open(file);
    fc.assert(
      fc.property(
        bytes,
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 9 }),
        fc.constantFrom(0, ENCODE.bos),
        (text, piece, capacity, flags) => {
          const ids = encoded(opened, text, { flags });
          t.deepEqual(encoded(opened, text, { flags, workBytes: ENCODE_WORK_BYTES, piece, capacity }), ids);
          t.true(ids.every(id => id >= 0 && id < opened.v.count));
          t.deepEqual(decode(opened, ids), Buffer.from(text));
        },
      ),
      { numRuns: 2 * runs, seed: 2 },
    );
    t.pass();
  });
}

// ── Random vocabularies ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const hexByte = (b: number): string => `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`;

/** A SentencePiece file of some words over few letters: tokens that cross words, equal scores, user-defined and control tokens. */
function spmFile(extra: readonly { text: string; type: number; score: number }[], prefix: boolean): Uint8Array {
  const rows = [
    { text: '<unk>', type: 2, score: 0 },
    { text: '<s>', type: 3, score: 0 },
    { text: '</s>', type: 3, score: 0 },
    ...Array.from({ length: 256 }, (_, b) => ({ text: hexByte(b), type: 6, score: 0 })),
    ...extra,
  ];
  return ggufFile({
    keys: [
      ['tokenizer.ggml.model', ['string', 'llama']],
      ['tokenizer.ggml.tokens', ['array', 'string', rows.map(r => r.text)]],
      ['tokenizer.ggml.token_type', ['array', 'i32', rows.map(r => r.type)]],
      ['tokenizer.ggml.scores', ['array', 'f32', rows.map(r => r.score)]],
      ['tokenizer.ggml.add_space_prefix', ['bool', prefix ? 1 : 0]],
    ],
  });
}

const row = fc.record({
  text: fc.oneof(
    { weight: 1, arbitrary: fc.constantFrom('a', 'b', '▁', 'é') },
    { weight: 4, arbitrary: fc.string({ unit: fc.constantFrom('a', 'b', '▁', 'é'), minLength: 2, maxLength: 5 }) },
  ),
  type: fc.constant(1),
  score: fc.integer({ min: -6, max: 0 }),
});
const special = fc.record({
  text: fc.string({ unit: fc.constantFrom('a', 'b', ' ', '<'), minLength: 1, maxLength: 4 }),
  type: fc.constantFrom(3, 4, 4),
  score: fc.constant(0),
});
const unique = { selector: (r: { text: string }): string => r.text };

test('SentencePiece: random vocabularies, special tokens and all, agree with the reference', t => {
  const bench = new Bench();
  fc.assert(
    fc.property(
      fc.uniqueArray(row, { ...unique, maxLength: 14 }),
      fc.uniqueArray(special, { ...unique, maxLength: 5 }),
      fc.boolean(),
      fc.array(fc.string({ unit: fc.constantFrom('a', 'b', ' ', 'é', '<'), maxLength: 30 }), {
        minLength: 1,
        maxLength: 6,
      }),
      (rows, specials, prefix, texts) => {
        const names = new Set(rows.map(r => r.text));
        const file = spmFile([...rows, ...specials.filter(s => !names.has(s.text))], prefix);
        const opened = bench.open(file);
        const reference = new ReferenceTokenizer(plain(file, opened.image));
        for (const text of texts) {
          for (const flags of [0, ENCODE.special]) {
            const expected = reference.encode(text, flags !== 0);
            t.deepEqual(encoded(opened, text, { flags }), expected, JSON.stringify(text));
            t.deepEqual(
              encoded(opened, text, { flags, piece: 2, capacity: 1 }),
              expected,
              `streamed ${JSON.stringify(text)}`,
            );
          }
        }
      },
    ),
    { numRuns: 2 * runs, seed: 3 },
  );
  t.pass();
});

/** A byte-level file over the letters a … d and space; merges made of tokens already there, in random order. */
function bpeFile(
  merges: readonly string[],
  specials: readonly { text: string; type: number }[],
  pre = 'gpt-2',
): Uint8Array {
  const letters = Array.from({ length: 256 }, (_, b) => byteLetters(Uint8Array.of(b)));
  const made = [...new Set(merges.map(m => m.replace(' ', '')))].filter(m => !letters.includes(m));
  const rows = [
    ...letters.map(text => ({ text, type: 1 })),
    ...made.map(text => ({ text, type: 1 })),
    ...specials.filter(s => !letters.includes(s.text) && !made.includes(s.text)),
  ];
  return ggufFile({
    keys: [
      ['tokenizer.ggml.model', ['string', 'gpt2']],
      ['tokenizer.ggml.pre', ['string', pre]],
      ['tokenizer.ggml.tokens', ['array', 'string', rows.map(r => r.text)]],
      ['tokenizer.ggml.token_type', ['array', 'i32', rows.map(r => r.type)]],
      ['tokenizer.ggml.merges', ['array', 'string', merges]],
    ],
  });
}

test('byte-level BPE: random merges in any order, special tokens and all, agree with the reference', t => {
  const bench = new Bench();
  const part = fc.string({ unit: fc.constantFrom('a', 'b', 'c', 'Ġ'), minLength: 1, maxLength: 3 });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(part, part), { maxLength: 25 }),
      fc.uniqueArray(special, { ...unique, maxLength: 5 }),
      fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'c', ' ', '<'), maxLength: 30 }), {
        minLength: 1,
        maxLength: 6,
      }),
      (pairs, specials, texts) => {
        const file = bpeFile(
          pairs.map(p => p.join(' ')),
          specials,
        );
        const opened = bench.open(file);
        const reference = new ReferenceTokenizer(plain(file, opened.image));
        for (const text of texts) {
          for (const flags of [0, ENCODE.special]) {
            const expected = reference.encode(text, flags !== 0);
            t.deepEqual(encoded(opened, text, { flags }), expected, JSON.stringify(text));
            t.deepEqual(
              encoded(opened, text, { flags, piece: 3, capacity: 2 }),
              expected,
              `streamed ${JSON.stringify(text)}`,
            );
          }
        }
      },
    ),
    { numRuns: 2 * runs, seed: 4 },
  );
  t.pass();
});

// ── Special tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

whenShared('special tokens are ids when asked for and plain text otherwise; they print when asked for', t => {
  const qwen = new Bench().open(vocabularyFile('qwen2'));
  const text = '<|im_start|>user\nhi<|im_end|>';
  const ids = encoded(qwen, text, { flags: ENCODE.special });
  t.deepEqual([ids[0], ids.at(-1)], [151644, 151645]);
  t.is(decode(qwen, ids).toString(), 'user\nhi');
  t.is(decode(qwen, ids, true).toString(), text);
  const asText = encoded(qwen, text);
  t.true(asText.every(id => id < 151643));
  t.is(decode(qwen, asText).toString(), text);
  t.deepEqual([qwen.v.bos, qwen.v.eos, qwen.v.addBos, qwen.v.addEos], [151643, 151643, false, false]);
  t.deepEqual(
    [151643, 151645, 151644, 0, -1, 151936].map(id => qwen.v.isEnd(id)),
    [true, true, false, false, false, false],
  );
});

whenShared('each family says whether BOS belongs in front', t => {
  const bench = new Bench();
  const facts = (file: string): unknown[] => {
    const { v } = bench.open(file);
    return [v.model, v.count, v.bos, v.eos, v.addBos, v.addEos, v.spacePrefix, v.isEnd(v.eos)];
  };
  t.deepEqual(facts(vocabularyFile('llama-bpe')), ['gpt2', 128256, 128000, 128001, true, false, false, true]);
  t.deepEqual(facts(vocabularyFile('gpt-2')), ['gpt2', 50257, 50256, 50256, false, false, false, true]);
  t.deepEqual(facts(vocabularyFile('llama-spm')), ['llama', 32000, 1, 2, true, false, true, true]);
  t.deepEqual(encoded(bench.open(vocabularyFile('llama-spm')), '', { flags: ENCODE.bos }), [1]);
});

test('of overlapping special tokens the longest is taken, wherever it begins', t => {
  const file = bpeFile(
    [],
    [
      { text: '<ab', type: 4 },
      { text: 'abcd', type: 4 },
      { text: 'dd<', type: 4 },
    ],
  );
  const opened = new Bench().open(file);
  const reference = new ReferenceTokenizer(plain(file, opened.image));
  for (const text of ['x<abcdy', '<ab', 'abcdd<ab', '<abcdd<ab', 'dd<abcdd<']) {
    t.deepEqual(encoded(opened, text), reference.encode(text, false), text);
    t.deepEqual(encoded(opened, text, { piece: 1 }), reference.encode(text, false), text);
  }
});

// ── Memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

for (const [name, file, most] of [
  ['synth8M', shared('models/synth8M-q8_0.gguf'), 66 * 1024],
  ['gpt-2', vocabularyFile('gpt-2'), 2e6],
  ['llama-bpe', vocabularyFile('llama-bpe'), 4.8e6],
  ['qwen2', vocabularyFile('qwen2'), 5e6],
  ['llama-spm', vocabularyFile('llama-spm'), 6e5],
] as const) {
  whenShared(`${name}: the vocabulary takes the bytes it said, and no other`, t => {
    const bench = new Bench();
    const { u8 } = bench.rig.arena;
    const image = accepted(bench.rig.image(file));
    const { bytes: taken } = accepted(bench.tokenizers.budget(image));
    t.log(`${taken} bytes`);
    t.is(taken % LIMITS.arenaAlign, 0);
    t.true(taken <= most);
    u8.fill(0xa5, MODEL_AT);
    const v = accepted(bench.tokenizers.load(image, MODEL_AT, taken));
    t.is(v.bytes, taken);
    t.true(
      u8.subarray(MODEL_AT + taken).every(b => b === 0xa5),
      'bytes above are untouched',
    );
    t.true(
      u8.subarray(MODEL_AT + taken - 32, MODEL_AT + taken).some(b => b !== 0xa5),
      'the last block is used',
    );
    // The same again elsewhere gives the same ids: nothing is left over from before.
    u8.fill(0x5a, MODEL_AT);
    const again = accepted(bench.tokenizers.load(image, MODEL_AT + 64, taken));
    t.deepEqual(encoded({ bench, image, bytes: taken, v: again }, 'Hello world, 123!').length > 2, true);
    t.true(
      u8.subarray(MODEL_AT, MODEL_AT + 64).every(b => b === 0x5a),
      'bytes below are untouched',
    );
    const small = bench.tokenizers.load(image, MODEL_AT, taken - 32);
    t.regex(isRefusal(small) ? small.message : '', /takes \d+ bytes, given \d+/);
  });
}

whenShared('an encode stays inside its working memory and makes no garbage', t => {
  const opened = new Bench().open(vocabularyFile('gpt-2'));
  const { u8 } = opened.bench.rig.arena;
  const text = Buffer.from('Once upon a time there was a little engine. '.repeat(40));
  const workAt = WORK_END - ENCODE_WORK_BYTES;
  u8.fill(0xa5, workAt - 4096, WORK_END);
  encoded(opened, text, { workBytes: ENCODE_WORK_BYTES });
  t.true(u8.subarray(workAt - 4096, workAt).every(b => b === 0xa5));
  const { v } = opened;
  const once = (): void => {
    v.begin(0, workAt, ENCODE_WORK_BYTES);
    u8.set(text, v.inputAt());
    v.input(text.length, true);
    while (v.encode(IDS_AT, 64) > 0);
  };
  for (let i = 0; i < 200; i++) once();
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  for (let i = 0; i < 200; i++) once();
  const grown = process.memoryUsage().heapUsed - before;
  t.log(`${grown} bytes of heap for ${200 * 440} ids`);
  t.true(grown < 64 * 1024, `${grown}`);
});

// ── Long words ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

whenShared('words that do not fit are refused with the number', t => {
  const opened = new Bench().open(vocabularyFile('gpt-2'));
  const refused = encode(opened, Buffer.from('a'.repeat(4000)), { workBytes: ENCODE_WORK_BYTES }) as Refusal;
  t.is(refused.code, 4001);
  t.regex(refused.message, /a word of 2715 bytes or more.* 24576 bytes of working memory hold 2715/);
  const endless = encode(opened, Buffer.from(`a ${'b'.repeat(9000)}`), { workBytes: ENCODE_WORK_BYTES }) as Refusal;
  t.regex(endless.message, /a word of \d+ bytes or more/);
  t.regex(
    (encode(opened, Buffer.from('a'), { workBytes: 4096 }) as Refusal).message,
    /takes 24576 bytes of working memory, given 4096/,
  );
});

whenShared('SentencePiece text without spaces is cut where no token can cross', t => {
  const opened = new Bench().open(vocabularyFile('llama-spm'));
  const text = '我想在工作天上看见一个小小的机器它会讲故事给孩子们听'.repeat(200);
  const whole = encoded(opened, text, { workBytes: 512 * 1024 });
  t.deepEqual(encoded(opened, text, { workBytes: ENCODE_WORK_BYTES }), whole);
  t.deepEqual(encoded(opened, text, { workBytes: ENCODE_WORK_BYTES, piece: 100 }), whole);
  const crossing = new Bench().open(
    spmFile(
      [...'ab▁']
        .map(s => ({ text: s, type: 1, score: 0 }))
        .concat([
          { text: 'a▁b', type: 1, score: -1 },
          { text: 'a▁', type: 1, score: -1 },
        ]),
      true,
    ),
  );
  const long = 'aa a b a ba bbb '.repeat(1000);
  t.deepEqual(
    encoded(crossing, long, { workBytes: ENCODE_WORK_BYTES }),
    encoded(crossing, long, { workBytes: 512 * 1024 }),
  );
});

// ── Bounds ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A compute device that counts what it executes and holds it against the certificates. */
class Watched {
  readonly most = new Map<string, number>(); // instructions certified and counted since the last reset, by kernel
  readonly counted = new Map<string, number>();
  readonly #bytes: Uint8Array;
  readonly #module: Module;
  readonly #certificates: ReadonlyMap<string, Certificate>;
  constructor(build: Build) {
    this.#bytes = readFileSync(`build/kernels.${build}.plain.wasm`);
    this.#module = decodeModule(this.#bytes);
    const kernels = this.#module.exports.filter(e => /^(tokenize|vocab)_/.test(e.name));
    this.#certificates = new Map(
      kernels.map(({ name, index }) => {
        const c = certify(this.#module, index, name);
        if (!isCertificate(c)) throw new Error(`${name}: ${c.reason}`);
        return [name, c];
      }),
    );
  }
  compute(rig: Rig): EngineCompute {
    const instance = new WebAssembly.Instance(
      new WebAssembly.Module(Buffer.from(instrument(this.#bytes, this.#module))),
      { env: { memory: rig.memory } },
    );
    const exports = instance.exports as Record<string, unknown>;
    const counters = CLASSES.map(c => exports[counterName(c)] as WebAssembly.Global);
    const watched = [...this.#certificates].map(([name, c]) => {
      const kernel = exports[name] as (...args: number[]) => number;
      const call = (...args: number[]): number => {
        const { least, most } = accepted(countsAt(c, args, at => rig.arena.view.getInt32(at, true)));
        for (const counter of counters) counter.value = 0n;
        const result = kernel(...args);
        CLASSES.forEach((cls, i) => {
          const n = counters[i]!.value as bigint;
          if (n < least[i]! || n > most[i]!)
            throw new Error(`${name}(${args.join()}): ${cls} counted ${n}, certified ${least[i]} … ${most[i]}`);
          if (cls.startsWith('bytes')) return;
          this.counted.set(name, (this.counted.get(name) ?? 0) + Number(n));
          this.most.set(name, (this.most.get(name) ?? 0) + Number(most[i]!));
        });
        return result;
      };
      return [name, call] as const;
    });
    return { ...rig.compute, ...Object.fromEntries(watched) };
  }
  reset(): void {
    this.most.clear();
    this.counted.clear();
  }
  /** Instructions, all kernels together. */
  sums(): readonly [counted: number, most: number] {
    const sum = (m: Map<string, number>): number => [...m.values()].reduce((a, b) => a + b, 0);
    return [sum(this.counted), sum(this.most)];
  }
}

const english = 'Once upon a time there was a little engine, and it said: "I\'ll pull 3 cars!" ';
/** Texts that make work: one long word of letters that merge, of letters that do not, beginnings of special tokens. */
const TEXTS: Record<string, (n: number) => string> = {
  english: n => english.repeat(n / english.length + 1).slice(0, n),
  'one word': n => Array.from({ length: n }, (_, i) => 'etaoinsrhldcum'[(i * i * 7 + i * 3 + (i >> 3)) % 14]).join(''),
  'one letter': n => 'a'.repeat(n),
  'rare letters': n => 'qzjxvkwh'.repeat(n / 8 + 1).slice(0, n),
  'almost special': n => '<|endoftex'.repeat(n / 10 + 1).slice(0, n),
};
const LENGTHS = [64, 1024, 16384];

for (const build of BUILDS.filter(canRun)) {
  const watched = new Watched(build);
  for (const [name, file] of [
    ['fable', fable],
    ['gpt-2', vocabularyFile('gpt-2')],
    ['llama-bpe', vocabularyFile('llama-bpe')],
    ['llama', vocabularyFile('llama-spm')],
    ['llama, 512 tokens', shared('models/stories260K-f32.gguf')],
  ] as const) {
    (existsSync(file) ? test : test.skip)(
      `${name}: no text takes more than its length is certified for (${build})`,
      t => {
        const opened = new Bench(build, rig => watched.compute(rig)).open(file);
        const certified = new Map<number, number>();
        for (const [what, text] of Object.entries(TEXTS)) {
          const counts = LENGTHS.map(n => {
            watched.reset();
            encoded(opened, text(n), { workBytes: 256 * 1024, capacity: 1024 });
            const [counted, most] = watched.sums();
            certified.set(n, most);
            return counted;
          });
          t.true(counts[2]! < 20 * counts[1]!, `${what}: the work is proportional to the text`);
          t.log(`${what}: ${LENGTHS.map((n, i) => `${n} bytes ${counts[i]!} of ${certified.get(n)!}`).join(', ')}`);
        }
        fc.assert(
          fc.property(
            fc.oneof(
              bytes,
              hardText.map(s => new Uint8Array(Buffer.from(s))),
            ),
            fc.boolean(),
            (text, special) => {
              const flags = special ? ENCODE.special : 0;
              encoded(opened, text, { flags });
              encoded(opened, text, { flags, workBytes: ENCODE_WORK_BYTES, piece: 7, capacity: 3 });
            },
          ),
          { numRuns: runs / 5, seed: 5 },
        );
      },
    );
  }
  test(`random vocabularies: the same (${build})`, t => {
    const bench = new Bench(build, rig => watched.compute(rig));
    const texts = fc.string({ unit: fc.constantFrom('a', 'b', 'c', ' ', 'é', '<'), maxLength: 60 });
    fc.assert(
      fc.property(
        fc.uniqueArray(row, { ...unique, maxLength: 14 }),
        fc.uniqueArray(special, { ...unique, maxLength: 5 }),
        fc.boolean(),
        texts,
        (rows, specials, prefix, text) => {
          const names = new Set(rows.map(r => r.text));
          const others = specials.filter(s => !names.has(s.text));
          encoded(bench.open(spmFile([...rows, ...others], prefix)), text, { flags: ENCODE.special });
          const merges = rows.flatMap(r => (r.text.length > 1 ? [`${r.text[0]} ${r.text.slice(1)}`] : []));
          encoded(bench.open(bpeFile(merges, specials)), text, { flags: ENCODE.special });
        },
      ),
      { numRuns: runs / 2, seed: 6 },
    );
    t.pass();
  });
}

// ── Refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('what is wrong with a tokenizer is said with its key and number', t => {
  const bench = new Bench();
  const good: [string, Value][] = [
    ['tokenizer.ggml.model', ['string', 'llama']],
    ['tokenizer.ggml.tokens', ['array', 'string', ['<unk>', 'a', 'ab']]],
    ['tokenizer.ggml.scores', ['array', 'f32', [0, -1, -2]]],
  ];
  const but = (key: string, value: Value | null): [string, Value][] => [
    ...good.filter(([k]) => k !== key),
    ...(value === null ? [] : [[key, value] as [string, Value]]),
  ];
  t.is(bench.refusal(good), null);
  const says = (keys: [string, Value][], pattern: RegExp): void => {
    t.regex(bench.refusal(keys)?.message ?? 'accepted', pattern);
  };
  says(but('tokenizer.ggml.model', null), /no tokenizer\.ggml\.model/);
  says(but('tokenizer.ggml.model', ['string', 'bert']), /tokenizer\.ggml\.model is bert, known are llama and gpt2/);
  says(but('tokenizer.ggml.tokens', null), /no tokenizer\.ggml\.tokens/);
  says(but('tokenizer.ggml.tokens', ['u32', 7]), /tokenizer\.ggml\.tokens is not an array/);
  says(but('tokenizer.ggml.tokens', ['array', 'string', []]), /tokens has 0 elements, expected 1 to 1048576/);
  says(but('tokenizer.ggml.scores', ['array', 'f32', [1]]), /scores has 1 elements, expected 3/);
  says(but('tokenizer.ggml.scores', ['array', 'i32', [1, 2, 3]]), /scores has elements of type 5, expected 6/);
  says(but('tokenizer.ggml.token_type', ['array', 'i32', [1, 1]]), /token_type has 2 elements, expected 3/);
  says(
    but('tokenizer.ggml.tokens', ['array', 'string', ['a', 'b', 'c'.repeat(1024)]]),
    /tokens\[2\] is 1024 bytes long, at most 1023/,
  );
  says(but('tokenizer.ggml.model', ['string', 'gpt2']), /no tokenizer\.ggml\.merges/);
  const bpe: [string, Value][] = [
    ...but('tokenizer.ggml.model', ['string', 'gpt2']),
    ['tokenizer.ggml.merges', ['array', 'string', []]],
  ];
  t.is(bench.refusal(bpe), null);
  says(
    [...bpe, ['tokenizer.ggml.pre', ['string', 'tekken']]],
    /tokenizer\.ggml\.pre is tekken, known are default gpt-2/,
  );

  const long = accepted(
    bench.rig.image(
      ggufFile({
        keys: [...bpe.slice(0, -1), ['tokenizer.ggml.merges', ['array', 'string', [`a ${'b'.repeat(5000)}`]]]],
      }),
    ),
  );
  const { bytes: size } = accepted(bench.tokenizers.budget(long));
  const refused = bench.tokenizers.load(long, MODEL_AT, size);
  t.regex(isRefusal(refused) ? refused.message : '', /merges\[0\] is 5002 bytes long, at most 4096/);
  const broken: ModelImage = Object.create(accepted(bench.rig.image(ggufFile({ keys: good }))), {
    read: { value: () => 0 },
  });
  const cut = bench.tokenizers.budget(broken);
  t.regex(isRefusal(cut) ? cut.message : '', /tokenizer\.ggml\.tokens ends early/);
});

test('broken ids, repeated merges, merges without a token and missing bytes do not stop a vocabulary', t => {
  const file = ggufFile({
    keys: [
      ['tokenizer.ggml.model', ['string', 'gpt2']],
      ['tokenizer.ggml.tokens', ['array', 'string', ['a', 'b', 'ab', 'ba', '', 'UNK', 'Ġ']]],
      ['tokenizer.ggml.merges', ['array', 'string', ['b a', 'a b', 'b a', 'a x', 'nothing', '', 'ab ab']]],
      ['tokenizer.ggml.bos_token_id', ['u32', 4294967295]],
      ['tokenizer.ggml.unknown_token_id', ['u32', 5]],
    ],
  });
  const opened = new Bench().open(file);
  t.deepEqual([opened.v.bos, opened.v.eos], [-1, -1]);
  t.deepEqual(encoded(opened, 'abab', { flags: ENCODE.bos }), [0, 3, 1]);
  t.deepEqual(encoded(opened, 'abx a'), [2, 5, 6, 0]);
  t.deepEqual(
    [opened.v.piece(7, IDS_AT, 8, false), opened.v.piece(2, IDS_AT, 1, false), opened.v.piece(4, IDS_AT, 8, false)],
    [-1, -2, 0],
  );
});

// ── Unicode ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const sameUnicode = process.versions['unicode'] === UNICODE_VERSION;
(sameUnicode ? test : test.skip)("the pinned character classes are this Node's, which has the same Unicode", t => {
  const { arena } = new Rig();
  t.is(loadUnicode(arena, UNICODE_AT), UNICODE_BYTES);
  t.true(UNICODE_BYTES <= LIMITS.constantsBytes);
  const count = arena.u32[UNICODE_AT >> 2]!;
  const classes = [/[^]/u, /\p{L}/u, /\p{N}/u, /\p{White_Space}/u, /\p{P}/u];
  let differing = 0;
  for (let i = 1; i <= count; i++) {
    const first = arena.u32[(UNICODE_AT >> 2) + i]!;
    const end = i < count ? arena.u32[(UNICODE_AT >> 2) + i + 1]! & 0x1fffff : 0x110000;
    for (let c = first & 0x1fffff; c < end; c++) {
      const k = [1, 2, 3, 4].find(n => classes[n]!.test(String.fromCodePoint(c))) ?? 0;
      if (k + 1 !== first >>> 21) differing++;
    }
  }
  t.is(differing, 0);
});
