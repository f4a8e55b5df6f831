// Damaged model files, by name and by seed. A file is a list of keys, tensors and bytes that a change may spoil before it is written, and
// bytes that it may spoil after; the changes are what other readers of GGUF are known to have stumbled over. DAMAGED is the policy
// in docs/FILES.md, row by row; damagedFile(seed) draws from the same faults without end. Nothing of vfs/gguf.ts is used.

import { GGML_BLOCK, GGML_TYPE, ggmlTypeName } from '../../kernel/abi/index.ts';
import { ggufFile } from './gguf.ts';
import type { TensorSpec, Value } from './gguf.ts';
import { makeRandom } from './arena.ts';

type Random = (n: number) => number;
type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type Tensor = Mutable<TensorSpec>;

/** A file before it is written. Offsets are given when it is written, except those that a change has set. */
export interface Draft {
  keys: [string | Uint8Array, Value][];
  tensors: (Omit<Tensor, 'offset'> & { offset?: number | bigint })[];
  magic?: string;
  version?: number;
  keyCount?: number | bigint;
  tensorCount?: number | bigint;
  alignment: number;
}

// ── Good files ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const TOKENS = [
  '<unk>',
  '<s>',
  '</s>',
  '<0x0A>',
  '<0x61>',
  '▁',
  'a',
  'b',
  'c',
  'ab',
  'bc',
  '▁a',
  '▁ab',
  'abc',
  'é',
  '▁▁',
];
const TOKEN_TYPES = [2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4];
const SCORES = TOKENS.map((_, i) => -i);
const EMBEDDING = 32;

/** The kinds of good file that are spoilt: two vocabularies and two architectures between them. */
export const KINDS = ['llama', 'qwen2'] as const;
export type Kind = (typeof KINDS)[number];

/** A model of one layer with 16 tokens, about 8 KiB: small enough to break in every place, whole enough to run. */
export function draft(kind: Kind = 'llama'): Draft {
  const { F32, F16, Q4_0, Q8_0 } = GGML_TYPE;
  const u32 = (key: string, n: number): [string, Value] => [`${kind}.${key}`, ['u32', n]];
  const matrix = (name: string, type: number, rows = EMBEDDING): Draft['tensors'][number] => ({
    name: `${name}.weight`,
    shape: [EMBEDDING, rows],
    type,
  });
  const vector = (name: string, length = EMBEDDING): Draft['tensors'][number] => ({ name, shape: [length], type: F32 });
  const bpe = kind === 'qwen2';
  const tokens = bpe ? [...'!"#$%abcde', 'ab', 'Ġa', 'Ġ', 'abc', '<|im_end|>', 'Ċ'] : TOKENS;
  return {
    alignment: 32,
    keys: [
      ['general.architecture', ['string', kind]],
      ['general.name', ['string', 'whole']],
      ['general.alignment', ['u32', 32]],
      u32('block_count', 1),
      u32('context_length', 64),
      u32('embedding_length', EMBEDDING),
      u32('feed_forward_length', EMBEDDING),
      u32('attention.head_count', 4),
      u32('attention.head_count_kv', 2),
      u32('rope.dimension_count', 8),
      [`${kind}.rope.freq_base`, ['f32', 10000]],
      [`${kind}.attention.layer_norm_rms_epsilon`, ['f32', 1e-5]],
      ['tokenizer.ggml.model', ['string', bpe ? 'gpt2' : 'llama']],
      ...(bpe ? [['tokenizer.ggml.pre', ['string', 'qwen2']] as [string, Value]] : []),
      ['tokenizer.ggml.tokens', ['array', 'string', tokens]],
      ...(bpe
        ? [['tokenizer.ggml.merges', ['array', 'string', ['a b', 'ab c', 'Ġ a']]] as [string, Value]]
        : [['tokenizer.ggml.scores', ['array', 'f32', SCORES]] as [string, Value]]),
      [
        'tokenizer.ggml.token_type',
        ['array', 'i32', bpe ? tokens.map(s => (s === '<|im_end|>' ? 3 : 1)) : TOKEN_TYPES],
      ],
      ['tokenizer.ggml.bos_token_id', ['u32', bpe ? 14 : 1]],
      ['tokenizer.ggml.eos_token_id', ['u32', bpe ? 14 : 2]],
      ['tokenizer.ggml.add_bos_token', ['bool', bpe ? 0 : 1]],
    ],
    tensors: [
      matrix('token_embd', F16, tokens.length),
      vector('output_norm.weight'),
      vector('blk.0.attn_norm.weight'),
      matrix('blk.0.attn_q', Q4_0),
      matrix('blk.0.attn_k', Q8_0, 16),
      matrix('blk.0.attn_v', Q8_0, 16),
      ...(bpe ? [vector('blk.0.attn_q.bias'), vector('blk.0.attn_k.bias', 16), vector('blk.0.attn_v.bias', 16)] : []),
      matrix('blk.0.attn_output', Q4_0),
      vector('blk.0.ffn_norm.weight'),
      matrix('blk.0.ffn_gate', Q4_0),
      matrix('blk.0.ffn_up', Q8_0),
      matrix('blk.0.ffn_down', Q4_0),
    ],
  };
}

/** Bytes of a tensor as its shape and type say; 0 where they say nothing. */
function bytesOf({ shape, type }: { readonly shape: TensorSpec['shape']; readonly type: number }): number {
  const [values, bytes] = GGML_BLOCK[ggmlTypeName(type) ?? 'I8'];
  const count = shape.reduce<number>((product, n) => product * Number(n), 1);
  return count < 1 << 20 ? Math.ceil(count / values) * bytes : 0;
}

const NOISE = (() => {
  const random = makeRandom(7);
  return Buffer.from(Array.from({ length: 1 << 16 }, () => random(256)));
})();

/** Bytes that are small finite numbers in any type: the upper byte of each scale, half or float is that of a number near 0.01. */
function weights(type: number, into: Uint8Array): void {
  for (let at = 0; at < into.length; at += NOISE.length) into.set(NOISE.subarray(0, into.length - at), at);
  const [, block] = GGML_BLOCK[ggmlTypeName(type) ?? 'I8'];
  if (type === GGML_TYPE.F32) for (let i = 3; i < into.length; i += 4) into[i] = 0x3c;
  else for (let i = 1; i < into.length; i += block) into[i] = 0x24;
}

const padded = (n: number, alignment = 32): number => Math.ceil(n / alignment) * alignment;

/** Writes a draft: tensors one behind the other, each at the alignment, filled with numbers. */
export function written(d: Draft): Buffer {
  let end = 0;
  const placed = d.tensors.map(t => {
    const at = end;
    end = padded(end + bytesOf(t), d.alignment);
    return { ...t, offset: t.offset ?? at, at, bytes: bytesOf(t) };
  });
  const { alignment, ...rest } = d;
  const file = ggufFile({ ...rest, alignment, tensors: placed, data: end });
  const data = file.length - end;
  for (const t of placed) weights(t.type, file.subarray(data + t.at, data + t.at + t.bytes));
  return file;
}

// ── Faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Gives `key` another value; one that is not there is added. */
function set(d: Draft, key: string, value: Value): void {
  const found = d.keys.find(([k]) => k === key);
  if (found === undefined) d.keys.push([key, value]);
  else found[1] = value;
}
function tensor(d: Draft, name: string): Draft['tensors'][number] {
  return d.tensors.find(t => t.name === name)!;
}
function without(d: Draft, key: string): void {
  d.keys = d.keys.filter(([k]) => k !== key);
}
/** A GGUF array with any count and any bytes after it. */
function rawArray(elementType: number, count: bigint, ...rest: number[]): Value {
  const head = Buffer.alloc(12);
  head.writeUInt32LE(elementType, 0);
  head.writeBigUInt64LE(BigInt.asUintN(64, count), 4);
  return ['raw', 9, Buffer.concat([head, Buffer.from(rest)])];
}
function rawString(length: bigint): Value {
  const head = Buffer.alloc(8);
  head.writeBigUInt64LE(BigInt.asUintN(64, length));
  return ['raw', 8, head];
}
const spoilt =
  (change: (d: Draft) => void, kind: Kind = 'llama') =>
  (): Buffer => {
    const d = draft(kind);
    change(d);
    return written(d);
  };
/** The good file with bytes changed after it was written; `dataAt` is where the tensors begin. */
const overwritten = (change: (file: Buffer, dataAt: number) => Uint8Array | void) => (): Uint8Array => {
  const d = draft();
  const file = written(d);
  const bytes = d.tensors.reduce((end, t) => padded(end + bytesOf(t)), 0);
  return change(file, file.length - bytes) ?? file;
};
const tokensWith = (id: number, token: string | Uint8Array): Value => [
  'array',
  'string',
  TOKENS.map((s, i) => (i === id ? token : s)),
];

/** What llama.cpp does with a file: takes it, says no, or ends the process. */
export type Theirs = 'accepts' | 'refuses' | 'aborts';

/** A row of the policy: what is wrong, what llama.cpp does with it (v0.5.0, tried through node-llama-cpp 3.22.1), and such a file. */
export type Damaged = readonly [name: string, theirs: Theirs, file: () => Uint8Array];

const I8_VALUES = 0x7fffffffffffffc0n;
const EPSILON = 'llama.attention.layer_norm_rms_epsilon';
const TYPES = 'tokenizer.ggml.token_type';
const SCORES_KEY = 'tokenizer.ggml.scores';
const Q = 'blk.0.attn_q.weight';

/** A whole file with `n` keys more. */
export function manyKeys(n: number): Uint8Array {
  const keyBytes = 8 + 16 + 4 + 4; // a multiple of the alignment: what follows only moves
  const keys = Buffer.alloc(n * keyBytes);
  for (let i = 0; i < n; i++) {
    const at = i * keyBytes;
    keys.writeUInt32LE(16, at);
    keys.write(i.toString(16).padStart(16, 'k'), at + 8);
    keys.writeUInt32LE(4, at + 24);
  }
  const file = written({ ...draft(), keyCount: draft().keys.length + n });
  return Buffer.concat([file.subarray(0, 24), keys, file.subarray(24)]);
}

/** A file with `n` tensors that no architecture knows, one byte each. */
export function manyTensors(n: number): Uint8Array {
  const tensorBytes = 8 + 8 + 4 + 8 + 4 + 8;
  const d = { ...draft(), alignment: 1, tensors: [], tensorCount: n };
  set(d, 'general.alignment', ['u32', 1]);
  const tensors = Buffer.alloc(n * tensorBytes);
  for (let i = 0; i < n; i++) {
    const at = i * tensorBytes;
    tensors.writeUInt32LE(8, at);
    tensors.write(i.toString(16).padStart(8, 't'), at + 8);
    tensors.writeUInt32LE(1, at + 16);
    tensors.writeUInt32LE(1, at + 20);
    tensors.writeUInt32LE(GGML_TYPE.I8, at + 28);
    tensors.writeUInt32LE(i, at + 32);
  }
  return Buffer.concat([written(d), tensors, Buffer.alloc(n)]);
}

/** A whole file with `n` tokens of a type: a vocabulary of any size, with embeddings that are all zero. */
export function manyTokens(n: number, token: (id: number) => string, type = 1): Uint8Array {
  const d = draft();
  without(d, SCORES_KEY);
  set(d, 'tokenizer.ggml.tokens', ['array', 'string', Array.from({ length: n }, (_, id) => token(id))]);
  set(d, TYPES, ['raw', 9, arrayOfI32(n, type)]);
  const [embeddings, ...others] = d.tensors;
  const offset = others.reduce((end, t) => padded(end + bytesOf(t)), 0);
  const shape = [EMBEDDING, n];
  const file = written({ ...d, tensors: [...others, { ...embeddings!, shape, type: GGML_TYPE.Q4_0, offset }] });
  return Buffer.concat([file, Buffer.alloc((n * EMBEDDING * 18) / 32)]);
}

function arrayOfI32(n: number, value: number): Buffer {
  const array = Buffer.alloc(12 + 4 * n);
  array.writeUInt32LE(5, 0);
  array.writeUInt32LE(n, 4);
  for (let i = 0; i < n; i++) array.writeInt32LE(value, 12 + 4 * i);
  return array;
}

export const DAMAGED: Readonly<Record<string, readonly Damaged[]>> = {
  Header: [
    ['an empty file', 'refuses', () => new Uint8Array(0)],
    ['4 bytes: `GGUF`', 'refuses', () => Buffer.from('GGUF')],
    ['the magic `GGML`', 'refuses', spoilt(d => (d.magic = 'GGML'))],
    ['version 0', 'refuses', spoilt(d => (d.version = 0))],
    ['version 1', 'refuses', spoilt(d => (d.version = 1))],
    ['version 4', 'refuses', spoilt(d => (d.version = 4))],
    ['big-endian', 'refuses', spoilt(d => (d.version = 0x03000000))],
    ['n_kv −1', 'refuses', spoilt(d => (d.keyCount = -1))],
    ['n_kv 2⁶³ − 1', 'refuses', spoilt(d => (d.keyCount = 2n ** 63n - 1n))],
    ['n_kv · size of an entry passes 2⁶⁴', 'refuses', spoilt(d => (d.keyCount = 2n ** 58n + 1n))],
    ['one key more than there are', 'refuses', spoilt(d => (d.keyCount = d.keys.length + 1))],
    ['one key less than there are', 'refuses', spoilt(d => (d.keyCount = d.keys.length - 1))],
    ['n_tensors −1', 'refuses', spoilt(d => (d.tensorCount = -1))],
    ['n_tensors · size of an entry passes 2⁶⁴', 'refuses', spoilt(d => (d.tensorCount = 2n ** 57n + 1n))],
    ['one tensor more than there are', 'refuses', spoilt(d => (d.tensorCount = d.tensors.length + 1))],
    ['one tensor less than there are', 'refuses', spoilt(d => (d.tensorCount = d.tensors.length - 1))],
    ['no keys and no tensors', 'refuses', spoilt(d => ((d.keys = []), (d.tensors = [])))],
    ['1,000,000 keys', 'refuses', () => manyKeys(1e6)],
    ['100,000 tensors', 'refuses', () => manyTensors(1e5)],
  ],
  Keys: [
    ['an empty key', 'refuses', spoilt(d => d.keys.push(['', ['u8', 1]]))],
    ['a key twice', 'refuses', spoilt(d => d.keys.push(['general.name', ['string', 'again']]))],
    ['a key of 65,536 bytes', 'accepts', spoilt(d => d.keys.push(['k'.repeat(65536), ['u8', 1]]))],
    ['a key that is not UTF-8', 'accepts', spoilt(d => d.keys.push([Buffer.from([0x61, 0xff]), ['u8', 1]]))],
    ['a key length of 2⁶⁴ − 1', 'refuses', overwritten(file => file.fill(0xff, 24, 32))],
    ['a key length of 2³²', 'refuses', overwritten(file => void file.writeBigUInt64LE(2n ** 32n, 24))],
    ['a string length of 2⁶⁴ − 1', 'refuses', spoilt(d => d.keys.push(['k', rawString(-1n)]))],
    ['a string length of 2⁶³', 'refuses', spoilt(d => d.keys.push(['k', rawString(2n ** 63n)]))],
    ['a string of 2³¹ bytes', 'refuses', spoilt(d => d.keys.push(['k', rawString(2n ** 31n)]))],
    [
      'a string that is not UTF-8',
      'accepts',
      spoilt(d => set(d, 'general.name', ['string', Buffer.from([0x61, 0xc3])])),
    ],
    ['a value of type 13', 'refuses', spoilt(d => d.keys.push(['k', ['raw', 13, Buffer.alloc(8)]]))],
    ['a value of type −1', 'refuses', spoilt(d => d.keys.push(['k', ['raw', -1, Buffer.alloc(8)]]))],
    ['a bool of 2', 'accepts', spoilt(d => set(d, 'tokenizer.ggml.add_bos_token', ['bool', 2]))],
    ['an array of 2⁶⁴ − 1 bytes', 'refuses', spoilt(d => d.keys.push(['k', rawArray(0, -1n)]))],
    ['an array of 2⁶¹ + 1 u64', 'refuses', spoilt(d => d.keys.push(['k', rawArray(10, 2n ** 61n + 1n)]))],
    ['an array of 2⁶⁰ strings', 'refuses', spoilt(d => d.keys.push(['k', rawArray(8, 2n ** 60n)]))],
    [
      'an array of arrays',
      'refuses',
      spoilt(d => d.keys.push(['k', rawArray(9, 1n, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)])),
    ],
    ['an array of type 13', 'refuses', spoilt(d => d.keys.push(['k', rawArray(13, 0n)]))],
    ['an empty array of strings', 'accepts', spoilt(d => d.keys.push(['k', rawArray(8, 0n)]))],
    ['`general.alignment` 0', 'refuses', spoilt(d => set(d, 'general.alignment', ['u32', 0]))],
    ['`general.alignment` 13', 'refuses', spoilt(d => set(d, 'general.alignment', ['u32', 13]))],
    ['`general.alignment` 2³⁰', 'refuses', spoilt(d => set(d, 'general.alignment', ['u32', 2 ** 30]))],
    ['`general.alignment` 2³¹', 'refuses', spoilt(d => set(d, 'general.alignment', ['u32', 0x80000000]))],
    ['`general.alignment` an i32', 'refuses', spoilt(d => set(d, 'general.alignment', ['i32', 32]))],
    ['no `general.alignment`', 'accepts', spoilt(d => without(d, 'general.alignment'))],
  ],
  Tensors: [
    ['an empty name', 'refuses', spoilt(d => (tensor(d, Q).name = ''))],
    ['a name of 129 bytes', 'refuses', spoilt(d => (tensor(d, Q).name = 'n'.repeat(129)))],
    ['a name of 100 bytes', 'refuses', spoilt(d => (tensor(d, Q).name = 'n'.repeat(100)))],
    ['a name twice', 'refuses', spoilt(d => (tensor(d, Q).name = 'output_norm.weight'))],
    ['no dimensions', 'refuses', spoilt(d => (tensor(d, Q).shape = []))],
    ['5 dimensions', 'refuses', spoilt(d => (tensor(d, Q).shape = [32, 32, 1, 1, 1]))],
    ['n_dims 1,000,000', 'refuses', spoilt(d => (tensor(d, Q).dims = 1e6))],
    ['n_dims 2³² − 1', 'refuses', spoilt(d => (tensor(d, Q).dims = -1))],
    ['a dimension of 0', 'refuses', spoilt(d => (tensor(d, Q).shape = [32, 0]))],
    ['a dimension of −1', 'refuses', spoilt(d => (tensor(d, Q).shape = [32, -1]))],
    ['dimensions whose product passes 2⁶⁴', 'refuses', spoilt(d => (tensor(d, Q).shape = [2n ** 40n, 2n ** 40n]))],
    [
      'a dimension of 2⁴² + 1',
      'refuses',
      spoilt(d => Object.assign(tensor(d, 'output_norm.weight'), { shape: [2n ** 42n + 1n] })),
    ],
    [
      'F32 with 2⁶² − 1 values',
      'refuses',
      spoilt(d => Object.assign(tensor(d, 'output_norm.weight'), { shape: [2n ** 62n - 1n] })),
    ],
    [
      'F32 with 2⁵³ − 1 values',
      'refuses',
      spoilt(d => Object.assign(tensor(d, 'output_norm.weight'), { shape: [2n ** 53n - 1n] })),
    ],
    [
      'two I8 tensors with ne0 = 0x7FFFFFFFFFFFFFC0',
      'refuses',
      spoilt(d => {
        const { I8 } = GGML_TYPE;
        d.tensors = ['a', 'b'].map((name, i) => ({
          name,
          shape: [I8_VALUES],
          type: I8,
          offset: i === 0 ? 0n : I8_VALUES,
        }));
      }),
    ],
    [
      'padded sizes whose sum passes 2⁶⁴',
      'refuses',
      spoilt(d => {
        const { I8 } = GGML_TYPE;
        d.tensors = ['a', 'b'].map((name, i) => ({ name, shape: [2 ** 52, 2], type: I8, offset: i * 2 ** 53 }));
      }),
    ],
    ['a row that is no whole number of blocks', 'refuses', spoilt(d => (tensor(d, Q).shape = [16, 64]))],
    ['type 4 (Q4_2, removed)', 'refuses', spoilt(d => (tensor(d, Q).type = 4))],
    ['type −1', 'refuses', spoilt(d => (tensor(d, Q).type = -1))],
    ['an offset that is no multiple of the alignment', 'refuses', spoilt(d => (tensor(d, Q).offset = 16))],
    ['an offset of 2⁶⁴ − 32', 'refuses', spoilt(d => (tensor(d, Q).offset = -32))],
    ['an offset past the file', 'refuses', spoilt(d => (tensor(d, Q).offset = 1 << 20))],
    ['two tensors in one place', 'refuses', spoilt(d => (tensor(d, 'blk.0.attn_k.weight').offset = 0))],
    ['a gap of 32 bytes', 'refuses', spoilt(d => d.tensors.splice(1, 0, { ...d.tensors.pop()!, offset: 8192 }))],
    ['the file ends 1 byte early', 'refuses', overwritten(file => file.subarray(0, -1))],
    ['the file ends 4,096 bytes early', 'refuses', overwritten(file => file.subarray(0, -4096))],
    ['1,000 bytes behind the last tensor', 'accepts', overwritten(file => Buffer.concat([file, Buffer.alloc(1000)]))],
  ],
  Model: [
    ['no `general.architecture`', 'refuses', spoilt(d => without(d, 'general.architecture'))],
    ['an architecture nobody knows', 'refuses', spoilt(d => set(d, 'general.architecture', ['string', '\u001b[2J\n']))],
    ['`general.architecture` a number', 'refuses', spoilt(d => set(d, 'general.architecture', ['u32', 1]))],
    ['no block_count', 'refuses', spoilt(d => without(d, 'llama.block_count'))],
    ['block_count 0', 'aborts', spoilt(d => set(d, 'llama.block_count', ['u32', 0]))],
    ['block_count 513', 'aborts', spoilt(d => set(d, 'llama.block_count', ['u32', 513]))],
    ['block_count 2, one block there', 'refuses', spoilt(d => set(d, 'llama.block_count', ['u32', 2]))],
    ['block_count an i32', 'refuses', spoilt(d => set(d, 'llama.block_count', ['i32', 1]))],
    ['block_count a string', 'refuses', spoilt(d => set(d, 'llama.block_count', ['string', '1']))],
    ['embedding_length 2³² − 1', 'refuses', spoilt(d => set(d, 'llama.embedding_length', ['u32', -1]))],
    ['head_count 0', 'refuses', spoilt(d => set(d, 'llama.attention.head_count', ['u32', 0]))],
    ['head_count 5 of 32 elements', 'refuses', spoilt(d => set(d, 'llama.attention.head_count', ['u32', 5]))],
    ['head_count_kv 3 of 4 heads', 'refuses', spoilt(d => set(d, 'llama.attention.head_count_kv', ['u32', 3]))],
    ['head_count_kv 0', 'refuses', spoilt(d => set(d, 'llama.attention.head_count_kv', ['u32', 0]))],
    ['context_length 0', 'accepts', spoilt(d => set(d, 'llama.context_length', ['u32', 0]))],
    ['context_length 2³² − 1', 'accepts', spoilt(d => set(d, 'llama.context_length', ['u32', -1]))],
    ['rope.dimension_count 7', 'refuses', spoilt(d => set(d, 'llama.rope.dimension_count', ['u32', 7]))],
    ['rope.dimension_count 64 of 8', 'refuses', spoilt(d => set(d, 'llama.rope.dimension_count', ['u32', 64]))],
    ['rope.freq_base 0', 'accepts', spoilt(d => set(d, 'llama.rope.freq_base', ['f32', 0]))],
    ['rope.freq_base NaN', 'accepts', spoilt(d => set(d, 'llama.rope.freq_base', ['f32', NaN]))],
    ['rope.scaling.type `what`', 'aborts', spoilt(d => set(d, 'llama.rope.scaling.type', ['string', 'what']))],
    ['the epsilon NaN', 'accepts', spoilt(d => set(d, EPSILON, ['f32', NaN]))],
    ['the epsilon −1', 'accepts', spoilt(d => set(d, EPSILON, ['f32', -1]))],
    ['the epsilon an f64', 'refuses', spoilt(d => set(d, EPSILON, ['f64', 1e-5]))],
    ['no epsilon', 'refuses', spoilt(d => without(d, EPSILON))],
    ['expert_count 8', 'aborts', spoilt(d => set(d, 'llama.expert_count', ['u32', 8]))],
    ['a tensor missing', 'refuses', spoilt(d => (d.tensors = d.tensors.filter(t => t.name !== Q)))],
    ['a tensor that nobody asked for', 'refuses', spoilt(d => (tensor(d, Q).name = 'blk.0.attn_\u001bq.weight'))],
    ['a tensor more', 'refuses', spoilt(d => d.tensors.push({ name: 'blk.0.more', shape: [32], type: GGML_TYPE.F32 }))],
    ['a matrix turned round', 'refuses', spoilt(d => (tensor(d, 'blk.0.attn_k.weight').shape = [16, 32]), 'qwen2')],
    ['a tensor of another shape', 'refuses', spoilt(d => (tensor(d, Q).shape = [32, 64]))],
    ['a norm in Q8_0', 'accepts', spoilt(d => (tensor(d, 'output_norm.weight').type = GGML_TYPE.Q8_0))],
    ['a matrix in Q8_1, which no file has', 'accepts', spoilt(d => (tensor(d, Q).type = GGML_TYPE.Q8_1))],
    ['a weight that is NaN', 'accepts', overwritten((file, at) => void file.writeUInt16LE(0x7e00, at + 64))],
    [
      'a scale that is infinite',
      'accepts',
      overwritten((file, at) => void file.writeUInt16LE(0x7c00, at + 1024 + 128 + 128)),
    ],
  ],
  Vocabulary: [
    ['no tokenizer.ggml.model', 'refuses', spoilt(d => without(d, 'tokenizer.ggml.model'))],
    ['a tokenizer nobody knows', 'refuses', spoilt(d => set(d, 'tokenizer.ggml.model', ['string', 'a\u0007b']))],
    ['no tokens', 'refuses', spoilt(d => without(d, 'tokenizer.ggml.tokens'))],
    [
      'tokens that are u32',
      'refuses',
      spoilt(d => set(d, 'tokenizer.ggml.tokens', ['array', 'u32', TOKENS.map((_, i) => i)])),
    ],
    [
      'a token less than embeddings',
      'refuses',
      spoilt(d => set(d, 'tokenizer.ggml.tokens', ['array', 'string', TOKENS.slice(1)])),
    ],
    ['scores that are u8', 'refuses', spoilt(d => set(d, SCORES_KEY, ['array', 'u8', SCORES.map(Math.abs)]))],
    ['fewer scores than tokens', 'refuses', spoilt(d => set(d, SCORES_KEY, ['array', 'f32', [0]]))],
    ['scores that are NaN', 'accepts', spoilt(d => set(d, SCORES_KEY, ['array', 'f32', SCORES.map(() => NaN)]))],
    ['no scores', 'accepts', spoilt(d => without(d, SCORES_KEY))],
    ['token_type of u8', 'refuses', spoilt(d => set(d, TYPES, ['array', 'u8', TOKEN_TYPES]))],
    ['fewer token types than tokens', 'refuses', spoilt(d => set(d, TYPES, ['array', 'i32', [1]]))],
    [
      'token types −1 and 99',
      'accepts',
      spoilt(d => set(d, TYPES, ['array', 'i32', TOKEN_TYPES.map((x, i) => (i < 7 ? x : i % 2 ? -1 : 99))])),
    ],
    ['a byte token `<0x-1>`', 'accepts', spoilt(d => set(d, 'tokenizer.ggml.tokens', tokensWith(3, '<0x-1>')))],
    ['a byte token `<0x`', 'accepts', spoilt(d => set(d, 'tokenizer.ggml.tokens', tokensWith(3, '<0x')))],
    ['a token twice', 'aborts', spoilt(d => set(d, 'tokenizer.ggml.tokens', tokensWith(7, 'a')))],
    ['an empty token', 'accepts', spoilt(d => set(d, 'tokenizer.ggml.tokens', tokensWith(7, '')))],
    [
      'a token that is not UTF-8',
      'accepts',
      spoilt(d => set(d, 'tokenizer.ggml.tokens', tokensWith(7, Buffer.from([0xff])))),
    ],
    [
      'a token of 5,000 bytes',
      'accepts',
      spoilt(d => set(d, 'tokenizer.ggml.tokens', tokensWith(7, 'a'.repeat(5000)))),
    ],
    [
      'a token longer than 2³¹ bytes',
      'refuses',
      spoilt(d => set(d, 'tokenizer.ggml.tokens', rawArray(8, 1n, 1, 0, 0, 128, 0, 0, 0, 0))),
    ],
    ['eos_token_id past the tokens', 'accepts', spoilt(d => set(d, 'tokenizer.ggml.eos_token_id', ['u32', 16]))],
    ['bos_token_id 2³² − 1', 'accepts', spoilt(d => set(d, 'tokenizer.ggml.bos_token_id', ['u32', -1]))],
    ['bos_token_id an i32', 'refuses', spoilt(d => set(d, 'tokenizer.ggml.bos_token_id', ['i32', 1]))],
    ['add_bos_token a u32', 'refuses', spoilt(d => set(d, 'tokenizer.ggml.add_bos_token', ['u32', 1]))],
    ['no merges', 'refuses', spoilt(d => without(d, 'tokenizer.ggml.merges'), 'qwen2')],
    [
      'merges of tokens that are not there',
      'accepts',
      spoilt(d => set(d, 'tokenizer.ggml.merges', ['array', 'string', ['x y', 'b', '', ' ', 'a ']]), 'qwen2'),
    ],
    ['merges that are u32', 'refuses', spoilt(d => set(d, 'tokenizer.ggml.merges', ['array', 'u32', [1]]), 'qwen2')],
    [
      'a pre-tokenizer nobody knows',
      'refuses',
      spoilt(d => set(d, 'tokenizer.ggml.pre', ['string', 'nobody']), 'qwen2'),
    ],
  ],
};

// ── Faults by seed ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

const NUMBERS: readonly bigint[] = [
  0n,
  1n,
  2n,
  3n,
  7n,
  13n,
  31n,
  32n,
  33n,
  64n,
  127n,
  255n,
  256n,
  512n,
  513n,
  4096n,
  65535n,
].concat(
  [16, 20, 24, 30, 31, 32, 42, 52, 53, 56, 61, 62, 63, 64].flatMap(n => [
    2n ** BigInt(n) - 1n,
    2n ** BigInt(n),
    2n ** BigInt(n) + 1n,
  ]),
);
const REALS = [0, -0, 1, -1, 0.5, 1e-30, 1e30, 3.4e38, -1e-5, NaN, Infinity, -Infinity];
const TEXTS = [
  '',
  'llama',
  'gpt2',
  'qwen2',
  'gemma',
  'phi2',
  'sis',
  'none',
  'yarn',
  'linear',
  'default',
  '<0x-1>',
  '<0x41>',
  '\u2581',
  'a\nb',
  '\u001b[2J',
  '__proto__',
  'x'.repeat(300),
];
/** Keys that change what a model is, whether the good file has them or not. */
const KEYS = (
  'block_count context_length embedding_length feed_forward_length attention.head_count attention.head_count_kv attention.key_length attention.value_length ' +
  'attention.layer_norm_rms_epsilon attention.layer_norm_epsilon rope.dimension_count rope.freq_base rope.scaling.type rope.scaling.factor rope.scale_linear ' +
  'rope.scaling.attn_factor rope.scaling.original_context_length expert_count attention.causal attention.sliding_window attn_logit_softcapping'
).split(' ');
const GENERAL = (
  'general.architecture general.name general.alignment tokenizer.ggml.model tokenizer.ggml.pre tokenizer.ggml.tokens tokenizer.ggml.scores tokenizer.ggml.merges ' +
  'tokenizer.ggml.token_type tokenizer.ggml.bos_token_id tokenizer.ggml.eos_token_id tokenizer.ggml.eot_token_id tokenizer.ggml.unknown_token_id ' +
  'tokenizer.ggml.add_bos_token tokenizer.ggml.add_space_prefix __proto__ constructor'
).split(' ');

function anyValue(random: Random): Value {
  const pick = <T>(from: readonly T[]): T => from[random(from.length)]!;
  const small = random(2) === 0 ? random(70) : Number(pick(NUMBERS) & 0xffffffffn);
  switch (random(12)) {
    case 0:
    case 1:
    case 2:
      return ['u32', small];
    case 3:
      return ['i32', small | 0];
    case 4:
      return [pick(['u64', 'i64'] as const), pick(NUMBERS)];
    case 5:
      return ['f32', pick(REALS)];
    case 6:
      return ['f64', pick(REALS)];
    case 7:
      return ['bool', random(3)];
    case 8:
      return ['string', pick(TEXTS)];
    case 9:
      return [
        'array',
        'string',
        Array.from({ length: random(40) }, () =>
          random(3) === 0 ? pick(TEXTS) : String.fromCodePoint(97 + random(30)),
        ),
      ];
    case 10:
      return [
        'array',
        pick(['u8', 'i32', 'u32', 'f32', 'bool', 'u64']),
        Array.from({ length: random(2) === 0 ? 16 : random(40) }, () => random(5)),
      ];
    default:
      return random(4) === 0
        ? ['raw', random(20), Buffer.alloc(random(20), random(256))]
        : rawArray(random(14), pick(NUMBERS), ...Array.from({ length: random(30) }, () => random(256)));
  }
}

/** Spoils the draft in one way. */
function spoil(d: Draft, kind: Kind, random: Random): void {
  const pick = <T>(from: readonly T[]): T => from[random(from.length)]!;
  const t = d.tensors[random(d.tensors.length)];
  const shape = (): bigint[] => Array.from({ length: random(6) }, () => (random(3) === 0 ? pick(NUMBERS) : 32n));
  switch (t === undefined ? random(6) : random(14)) {
    case 0:
      return set(d, `${kind}.${pick(KEYS)}`, anyValue(random));
    case 1:
      return set(d, `${kind}.${pick(KEYS)}`, random(4) === 0 ? ['f32', pick(REALS)] : ['u32', random(70)]);
    case 2:
      return set(d, pick(GENERAL), anyValue(random));
    case 3:
      if (d.keys.length > 0) d.keys.splice(random(d.keys.length), 1);
      return;
    case 4:
      if (d.keys.length > 0) d.keys.splice(random(d.keys.length), 0, pick(d.keys));
      return;
    case 5:
      if (random(2) === 0) d.keyCount = random(2) === 0 ? pick(NUMBERS) : d.keys.length + random(5) - 2;
      else d.tensorCount = random(2) === 0 ? pick(NUMBERS) : d.tensors.length + random(5) - 2;
      return;
    case 6:
      t!.name = random(2) === 0 ? pick(d.tensors).name : pick(TEXTS);
      return;
    case 7:
      t!.shape = shape();
      return;
    case 8:
      t!.type = random(2) === 0 ? random(42) : Number(pick(NUMBERS) & 0xffffffffn);
      return;
    case 9:
      t!.offset = random(2) === 0 ? pick(NUMBERS) : 32 * random(300);
      return;
    case 10:
      t!.dims = random(2) === 0 ? random(7) : Number(pick(NUMBERS) & 0xffffffffn);
      return;
    case 11:
      d.tensors.splice(random(d.tensors.length), 1);
      return;
    case 12:
      d.tensors.splice(random(d.tensors.length), 0, {
        ...pick(d.tensors),
        ...(random(2) === 0 ? { name: `blk.${random(3)}.attn_q.bias` } : {}),
      });
      return;
    default:
      d.alignment = pick([1, 2, 8, 32, 64, 4096]);
      return set(d, 'general.alignment', ['u32', random(2) === 0 ? d.alignment : Number(pick(NUMBERS) & 0xffffffffn)]);
  }
}

/** Changes bytes, most often of the header: a bit, a byte, a number, a run, a cut, a shift. */
function scratch(file: Buffer, random: Random): Buffer {
  const header = Math.min(file.length, 1900);
  const at = random(random(8) === 0 ? file.length : header);
  const bytes = Buffer.from(file);
  switch (random(9)) {
    case 0:
      return bytes.subarray(0, random(file.length));
    case 1:
      bytes[at] = random(256);
      return bytes;
    case 2:
      bytes.fill(random(2) * 255, at, Math.min(bytes.length, at + 1 + random(16)));
      return bytes;
    case 3:
    case 4:
      if (at + 8 <= bytes.length) bytes.writeBigUInt64LE(NUMBERS[random(NUMBERS.length)]! & (2n ** 64n - 1n), at);
      return bytes;
    case 5:
      return Buffer.concat([bytes.subarray(0, at), Buffer.alloc(1 + random(40), random(256)), bytes.subarray(at)]);
    case 6:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(Math.min(bytes.length, at + 1 + random(40)))]);
    case 7: {
      const from = random(header);
      bytes.copy(bytes, at, from, from + random(200));
      return bytes;
    }
    default:
      bytes[at]! ^= 1 << random(8);
      return bytes;
  }
}

const good = KINDS.map(kind => written(draft(kind)));

/** The file of a seed: one to three faults, in what is written or in its bytes. */
export function damagedFile(seed: number): Buffer {
  const random = makeRandom(Math.imul(seed + 1, 0x9e3779b1));
  for (let i = 0; i < 4; i++) random(2);
  const which = random(KINDS.length);
  let file = good[which]!;
  const faults = random(3);
  if (faults > 0) {
    const d = draft(KINDS[which]!);
    for (let i = 0; i < faults; i++) spoil(d, KINDS[which]!, random);
    file = written(d);
  }
  for (let i = faults === 0 ? 1 + random(2) : random(4) === 0 ? 1 : 0; i > 0 && file.length > 0; i--)
    file = scratch(file, random);
  return file;
}
