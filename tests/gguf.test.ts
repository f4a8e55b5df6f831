// GGUF reader, writer and fs-gguf: every model at hand against a second, trusting reader; one bad file for each rule, with the line it gives;
// seeded corruptions, none of which may throw, hang or allocate; and a model as a directory, read at any position.

import test from 'ava';
import { gguf } from '@huggingface/gguf';
import * as fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createHash } from 'node:crypto';
import {
  E,
  formatRefusal,
  ggmlTypeName,
  GGML_BLOCK,
  GGML_TYPE,
  GGUF_TYPE,
  GGUF_VALUE_BYTES,
  isRefusal,
  LIMITS,
  O,
  SEEK,
} from '../kernel/abi/index.ts';
import type { GgufScalar, MetaArray, Refusal } from '../kernel/abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import { fileNameOf, GgufFs } from '../vfs/fs-gguf.ts';
import { parseGguf } from '../vfs/gguf.ts';
import type { GgufImage } from '../vfs/gguf.ts';
import { contentOf, layOutGguf } from '../vfs/gguf-writer.ts';
import type { GgufContent, GgufValue, Piece } from '../vfs/gguf-writer.ts';
import { readBytes } from '../vfs/inode.ts';
import { Vfs } from '../vfs/vfs.ts';
import { makeArena, makeRandom } from './support/arena.ts';
import { ggufFile } from './support/gguf.ts';
import type { FileSpec } from './support/gguf.ts';

const arena = makeArena();
const DMA_AT = 64;
const BUFFER_AT = 65536;
/** No compute device here: F32 alone can be read as numbers. */
const decode = (): number => -1;
const soak = process.env['ARENA8_SOAK'] === '1';

function parse(bytes: Uint8Array, dmaBytes: number = LIMITS.dmaBytes): GgufImage | Refusal {
  const read = (fileAt: number, at: number, length: number): number => {
    const n = Math.max(0, Math.min(length, bytes.length - fileAt));
    if (at < BUFFER_AT && (at < DMA_AT || at + length > DMA_AT + dmaBytes))
      throw new Error(`transfer of ${length} to ${at} leaves the buffer`);
    arena.u8.set(bytes.subarray(fileAt, fileAt + n), at);
    return n;
  };
  return parseGguf({ path: '/models/test.gguf', size: bytes.length, read }, arena, DMA_AT, dmaBytes);
}
function parsed(bytes: Uint8Array, dmaBytes?: number): GgufImage {
  const image = parse(bytes, dmaBytes);
  if (isRefusal(image)) throw new Error(formatRefusal(image));
  return image;
}

const shared = ['../shared/models', '../shared/vectors/tokenizer'];
const models = shared.flatMap(dir =>
  fs.existsSync(dir)
    ? fs
        .readdirSync(dir)
        .filter(f => f.endsWith('.gguf'))
        .map(f => path.join(dir, f))
    : [],
);
const withModels = models.length > 0 ? test : test.skip;

// ── A second reader, which believes everything ───────────────────────────────────────────────────────────────────────────────────

interface Plain {
  version: number;
  values: Map<string, unknown>;
  arrays: Map<string, { type: number; count: number; at: number; end: number }>;
  tensors: { name: string; shape: number[]; type: number; at: number }[];
}

function readPlainly(b: Buffer): Plain {
  let at = 8;
  const u32 = (): number => b.readUInt32LE((at += 4) - 4);
  const u64 = (): number => Number(b.readBigUInt64LE((at += 8) - 8));
  const string = (): string => b.toString('utf8', at + 8, (at += 8 + Number(b.readBigUInt64LE(at))));
  const value = (type: number): unknown => {
    at += [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8][type]!;
    if (type === 0) return b.readUInt8(at - 1);
    if (type === 1) return b.readInt8(at - 1);
    if (type === 2) return b.readUInt16LE(at - 2);
    if (type === 3) return b.readInt16LE(at - 2);
    if (type === 4) return b.readUInt32LE(at - 4);
    if (type === 5) return b.readInt32LE(at - 4);
    if (type === 6) return b.readFloatLE(at - 4);
    if (type === 7) return b[at - 1] === 1;
    if (type === 8) return string();
    if (type === 10) return Number(b.readBigUInt64LE(at - 8));
    if (type === 11) return Number(b.readBigInt64LE(at - 8));
    return b.readDoubleLE(at - 8);
  };
  const version = b.readUInt32LE(4);
  const tensorCount = u64();
  const keyCount = u64();
  const values = new Map<string, unknown>();
  const arrays: Plain['arrays'] = new Map();
  for (let i = 0; i < keyCount; i++) {
    const key = string();
    const type = u32();
    if (type !== 9) values.set(key, value(type));
    else {
      const element = u32();
      const count = u64();
      const start = at;
      const elements = Array.from({ length: count }, () => value(element));
      values.set(key, elements);
      arrays.set(key, { type: element, count, at: start, end: at });
    }
  }
  const tensors = Array.from({ length: tensorCount }, () => {
    const name = string();
    const shape = Array.from({ length: u32() }, u64);
    return { name, shape, type: u32(), at: u64() };
  });
  const alignment = (values.get('general.alignment') as number | undefined) ?? 32;
  const data = at + ((alignment - (at % alignment)) % alignment);
  return { version, values, arrays, tensors: tensors.map(x => ({ ...x, at: x.at + data })) };
}

withModels('every model and vocabulary at hand parses as a second reader says', t => {
  for (const file of models) {
    const bytes = fs.readFileSync(file);
    const want = readPlainly(bytes);
    const got = parsed(bytes);
    t.is(got.version, want.version);
    t.deepEqual([...got.keys], [...want.values.keys()], file);
    t.is(got.architecture, want.values.get('general.architecture') as string);
    for (const [key, value] of want.values) {
      const array = want.arrays.get(key);
      if (array === undefined) t.is(got.meta(key), value as never, `${file} ${key}`);
      else
        t.deepEqual(
          got.meta(key),
          { elementType: array.type, count: array.count, fileAt: array.at, bytes: array.end - array.at },
          `${file} ${key}`,
        );
    }
    t.is(got.tensors.length, want.tensors.length, file);
    want.tensors.forEach((w, i) => {
      const g = got.tensors[i]!;
      const [values, blockBytes] = GGML_BLOCK[ggmlTypeName(w.type)!];
      const count = w.shape.reduce((a, b) => a * b, 1);
      t.deepEqual(g, {
        name: w.name,
        type: w.type,
        shape: w.shape,
        fileAt: w.at,
        bytes: (count / values) * blockBytes,
      });
      t.is(got.tensor(w.name), g);
    });
    // The size of the buffer changes nothing.
    const small = parsed(bytes, 96);
    t.deepEqual(small.tensors, got.tensors);
    t.deepEqual([...small.keys], [...got.keys]);
  }
  t.log(`${models.length} files`);
});

test('the worked vector of the specification (§7.3)', t => {
  const spec: FileSpec = {
    keys: [
      ['general.architecture', ['string', 'sis']],
      ['sis.block_count', ['u32', 2]],
      ['tokenizer.ggml.tokens', ['array', 'string', ['<unk>', 'a', 'bc']]],
    ],
    tensors: [
      { name: 'a', shape: [3, 2], type: GGML_TYPE.F32, offset: 0 },
      { name: 'b', shape: [2], type: GGML_TYPE.F16, offset: 32 },
    ],
    data: 64,
  };
  const bytes = ggufFile(spec);
  for (let i = 0; i < 6; i++) bytes.writeFloatLE(i + 1, 256 + 4 * i);
  bytes.fill(0, 280).writeUInt16LE(0x3c00, 290);
  t.is(
    createHash('sha256').update(bytes).digest('hex'),
    '98e08b5a0f2775cdf95773b91afa8a81d602524da97002e65373919295adc3c2',
  );
  const image = parsed(bytes);
  t.is(image.architecture, 'sis');
  t.is(image.meta('sis.block_count'), 2);
  t.is((image.meta('tokenizer.ggml.tokens') as MetaArray).count, 3);
  t.deepEqual(
    image.tensors.map(x => [x.name, x.shape.join(), x.fileAt, x.bytes]),
    [
      ['a', '3,2', 256, 24],
      ['b', '2', 288, 4],
    ],
  );
});

test('what is accepted: version 2, no tensors, no keys, trailing bytes, long strings, all types', t => {
  t.is(parsed(ggufFile({ version: 2 })).version, 2);
  t.is(parsed(ggufFile({})).architecture, '');
  const template = 'ä€😀'.repeat(20_000);
  const image = parsed(
    ggufFile({
      keys: [
        ['t', ['string', template]],
        ['u8', ['u8', 255]],
        ['i8', ['i8', -128]],
        ['u16', ['u16', 65535]],
        ['i16', ['i16', -32768]],
        ['u32', ['u32', 4294967295]],
        ['i32', ['i32', -2147483648]],
        ['f32', ['f32', 1e-5]],
        ['f64', ['f64', 1e-5]],
        ['bool', ['bool', 1]],
        ['u64', ['u64', 2n ** 64n - 1n]],
        ['safe', ['u64', 2n ** 53n - 1n]],
        ['i64', ['i64', -(2n ** 63n)]],
        ['empty', ['array', 'string', []]],
        ['none', ['string', '']],
        ['general.alignment', ['u32', 1]],
      ],
      alignment: 1,
      tensors: [
        { name: 'first', shape: [32, 2], type: GGML_TYPE.Q4_0, offset: 0 },
        { name: 'second', shape: [4, 1, 1, 1], type: GGML_TYPE.I8, offset: 36 },
      ],
      data: 1000,
    }),
    64,
  );
  t.is(image.meta('t'), template);
  t.deepEqual(
    image.keys.slice(1, 13).map(k => image.meta(k)),
    [
      255,
      -128,
      65535,
      -32768,
      4294967295,
      -2147483648,
      Math.fround(1e-5),
      1e-5,
      true,
      2n ** 64n - 1n,
      2 ** 53 - 1,
      -(2n ** 63n),
    ],
  );
  t.is(image.typeOf('f32'), 6);
  t.is(image.typeOf('missing'), undefined);
  t.is(image.tensor('second')!.fileAt - image.tensor('first')!.fileAt, 36);
});

const f32 = GGML_TYPE.F32;
const utf16 = Buffer.from([0x61, 0xff, 0x62]);
/** Name of the situation, file, code, and the line it must give. */
const BAD: readonly (readonly [string, Uint8Array, number, string])[] = [
  ['empty file', Buffer.alloc(0), 6001, 'Buffer underflow: the header needs 4 bytes at 0, the file ends at 0'],
  ['three bytes', Buffer.from('GGU'), 6001, 'Buffer underflow: the header needs 4 bytes at 0, the file ends at 3'],
  ['magic', ggufFile({ magic: 'ggml' }), 1002, 'Invalid GGUF magic number: 67676d6c, want 47475546'],
  ['version 1', ggufFile({ version: 1 }), 1004, 'Unsupported GGUF version: 1, read are 2 and 3'],
  ['version 4', ggufFile({ version: 4 }), 1004, 'Unsupported GGUF version: 4, read are 2 and 3'],
  ['big-endian', ggufFile({ version: 0x03000000 }), 1004, 'Unsupported GGUF version: 50331648, a big-endian file'],
  [
    'header only',
    ggufFile({}).subarray(0, 20),
    6001,
    'Buffer underflow: the header needs 8 bytes at 16, the file ends at 20',
  ],
  ['key count', ggufFile({ keyCount: 3 }), 6001, 'Buffer underflow: 3 keys cannot be in the 8 bytes after the header'],
  [
    'key count 2^63',
    ggufFile({ keyCount: 2n ** 63n }),
    6001,
    'the header: key count is 9223372036854775808, above 2^53 - 1',
  ],
  [
    'tensor count',
    ggufFile({ tensorCount: 9 }),
    6001,
    'Buffer underflow: 9 tensors cannot be in the 8 bytes after the header',
  ],
  ['many keys', ggufFile({ keyCount: 1025, data: 1 << 20 }), 6001, '1025 keys, the limit is 1024'],
  ['many tensors', ggufFile({ tensorCount: 4097, data: 1 << 20 }), 6001, '4097 tensors, the limit is 4096'],
  ['empty key', ggufFile({ keys: [['', ['u32', 1]]], data: 32 }), 6001, 'key 0 has an empty name'],
  [
    'long key',
    ggufFile({ keys: [['k'.repeat(1025), ['u8', 1]]] }),
    6001,
    'key 0: name of 1025 bytes at 32, the limit is 1024',
  ],
  [
    'key past the file',
    ggufFile({ keys: [['abc', ['u8', 1]]], data: 0 }).fill(0x70, 24, 25),
    6001,
    'Buffer underflow: key 0: name of 112 bytes at 32, the file ends at 64',
  ],
  ['key not UTF-8', ggufFile({ keys: [[utf16, ['u8', 1]]] }), 6001, 'Invalid UTF-8 in string: key 0, name, byte 1'],
  [
    'cut character',
    ggufFile({ keys: [['k', ['string', Buffer.from([0x61, 0xe2, 0x82])]]] }),
    6001,
    'Invalid UTF-8 in string: key k, value, byte 1',
  ],
  [
    'value not UTF-8',
    ggufFile({ keys: [['k', ['string', utf16]]] }),
    6001,
    'Invalid UTF-8 in string: key k, value, byte 1',
  ],
  [
    'duplicate key',
    ggufFile({
      keys: [
        ['a', ['u8', 1]],
        ['b', ['u8', 1]],
        ['a', ['u8', 1]],
      ],
    }),
    6001,
    'Duplicate key a: keys 0 and 2',
  ],
  [
    'unknown type',
    ggufFile({ keys: [['k', ['raw', 13, Buffer.alloc(8)]]] }),
    6001,
    'Unknown GGUF type: key k has type 13, known are 0 to 12',
  ],
  ['bool 2', ggufFile({ keys: [['k', ['bool', 2]]], data: 8 }), 6001, 'key k: bool is 2 at 37, want 0 or 1'],
  [
    'bool array',
    ggufFile({ keys: [['k', ['array', 'bool', [0, 1, 7]]]] }),
    6001,
    'key k: bool is 7 at 51, want 0 or 1',
  ],
  [
    'nested array',
    ggufFile({ keys: [['k', ['array', 'array', [0n]]]] }),
    6001,
    'Unsupported metadata type: key k is an array of arrays',
  ],
  [
    'array of unknown',
    ggufFile({ keys: [['k', ['raw', 9, Buffer.from([99, 0, 0, 0, ...Array<number>(12).fill(0)])]]] }),
    6001,
    'Unknown GGUF type: key k is an array of type 99, known are 0 to 12',
  ],
  [
    'array count',
    ggufFile({ keys: [['k', ['raw', 9, Buffer.from([4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0])]]] }),
    6001,
    'Buffer underflow: key k: array of 4294967296 elements at 49, the file ends at 64',
  ],
  [
    'array string',
    ggufFile({ keys: [['k', ['raw', 9, Buffer.from([8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0])]]] }),
    6001,
    'Buffer underflow: key k: element 0 of 99 bytes at 57, the file ends at 64',
  ],
  [
    'odd name shown',
    ggufFile({ keys: [['a\nb', ['raw', 77, Buffer.alloc(4)]]] }),
    6001,
    'Unknown GGUF type: key "a\\u{a}b" has type 77, known are 0 to 12',
  ],
  [
    'alignment 48',
    ggufFile({ keys: [['general.alignment', ['u32', 48]]] }),
    6001,
    'key general.alignment is 48, want a power of two',
  ],
  [
    'alignment 0',
    ggufFile({ keys: [['general.alignment', ['u32', 0]]] }),
    6001,
    'key general.alignment is 0, want a power of two',
  ],
  [
    'alignment u64',
    ggufFile({ keys: [['general.alignment', ['u64', 32]]] }),
    6002,
    'Metadata key not found or wrong type: general.alignment has type 10, want 4 (u32)',
  ],
  [
    'no dimensions',
    ggufFile({ tensors: [{ name: 't', shape: [], type: f32, offset: 0 }], data: 64 }),
    6001,
    'tensor t has 0 dimensions, allowed 1 to 4',
  ],
  [
    'five dimensions',
    ggufFile({ tensors: [{ name: 't', shape: [1, 1, 1, 1, 1], type: f32, offset: 0 }], data: 64 }),
    6001,
    'tensor t has 5 dimensions, allowed 1 to 4',
  ],
  [
    'zero dimension',
    ggufFile({ tensors: [{ name: 't', shape: [4, 0], type: f32, offset: 0 }], data: 64 }),
    6001,
    'tensor t: dimension 1 is 0',
  ],
  [
    'product',
    ggufFile({ tensors: [{ name: 't', shape: [2 ** 31, 2 ** 31], type: f32, offset: 0 }], data: 64 }),
    6001,
    'tensor t: product overflow, 2147483648 × 2147483648 values',
  ],
  [
    'dimension 2^63',
    ggufFile({ tensors: [{ name: 't', shape: [2n ** 63n], type: f32, offset: 0 }], data: 64 }),
    6001,
    'tensor t: dimension 0 is 9223372036854775808, above 2^53 - 1',
  ],
  [
    'tensor type',
    ggufFile({ tensors: [{ name: 't', shape: [32], type: 4, offset: 0 }], data: 64 }),
    6001,
    'Unknown GGUF type: tensor t has tensor type 4',
  ],
  [
    'row and block',
    ggufFile({ tensors: [{ name: 't', shape: [48, 2], type: GGML_TYPE.Q4_0, offset: 0 }], data: 64 }),
    6001,
    "tensor t: rows of 48 values are not a multiple of Q4_0's block of 32",
  ],
  [
    'misaligned',
    ggufFile({ tensors: [{ name: 't', shape: [4], type: f32, offset: 8 }], data: 64 }),
    6001,
    'tensor t: offset 8 is not a multiple of the alignment 32',
  ],
  [
    'past the file',
    ggufFile({ tensors: [{ name: 'blk.0.attn_q.weight', shape: [1024, 2], type: f32, offset: 0 }], data: 4096 }),
    6001,
    'Truncated tensor data: tensor blk.0.attn_q.weight ends 4096 bytes past the file',
  ],
  [
    'overlap',
    ggufFile({
      tensors: [
        { name: 'a', shape: [16], type: f32, offset: 0 },
        { name: 'b', shape: [4], type: f32, offset: 32 },
      ],
      data: 64,
    }),
    6001,
    'tensor b: offset 32, want 64: tensors follow each other without gap or overlap',
  ],
  [
    'duplicate tensor',
    ggufFile({
      tensors: [
        { name: 'a', shape: [8], type: f32, offset: 0 },
        { name: 'a', shape: [8], type: f32, offset: 32 },
      ],
      data: 64,
    }),
    6001,
    'Duplicate tensor a: tensors 0 and 1',
  ],
  [
    'empty tensor name',
    ggufFile({ tensors: [{ name: '', shape: [8], type: f32, offset: 0 }], data: 64 }),
    6001,
    'tensor 0 has an empty name',
  ],
  [
    'long tensor name',
    ggufFile({ tensors: [{ name: 'n'.repeat(129), shape: [8], type: f32, offset: 0 }], data: 64 }),
    6001,
    'tensor 0: name of 129 bytes at 32, the limit is 128',
  ],
  [
    'tensor cut',
    ggufFile({ tensors: [{ name: 'abcdefghi', shape: [8, 1, 1, 1], type: f32, offset: 0 }] }).subarray(0, 60),
    6001,
    'Buffer underflow: tensor abcdefghi needs 8 bytes at 53, the file ends at 60',
  ],
];

test('each rule refuses with its own line', t => {
  for (const [name, bytes, code, line] of BAD) {
    const got = parse(bytes);
    if (!isRefusal(got)) t.fail(`${name}: accepted`);
    else t.deepEqual([got.message, got.code, got.errno], [line, code, E.NOEXEC] as never, name);
    t.false(/[\n\r]/.test(isRefusal(got) ? got.message : ''), name);
  }
  const broken = parseGguf({ path: 'x', size: 100, read: () => -E.IO }, arena, DMA_AT, 1024);
  t.deepEqual(broken, { errno: E.IO, code: 6001, message: 'the header: reading 4 bytes at 0 failed' });
  const shrunk = parseGguf({ path: 'x', size: 100, read: () => 0 }, arena, DMA_AT, 1024);
  t.true(isRefusal(shrunk));
});

/** A small model with a little of everything, for corrupting. */
function smallModel(): Buffer {
  return ggufFile({
    keys: [
      ['general.architecture', ['string', 'llama']],
      ['general.alignment', ['u32', 32]],
      ['llama.block_count', ['u32', 2]],
      ['llama.rope.freq_base', ['f32', 10000]],
      ['tokenizer.ggml.add_bos_token', ['bool', 1]],
      ['tokenizer.ggml.tokens', ['array', 'string', ['<s>', 'a', 'ab', '\n']]],
      ['tokenizer.ggml.scores', ['array', 'f32', [0, -1, -2.5, 3]]],
      ['general.size', ['u64', 1000]],
    ],
    tensors: [
      { name: 'token_embd.weight', shape: [32, 4], type: GGML_TYPE.Q8_0, offset: 0 },
      { name: 'output_norm.weight', shape: [32], type: f32, offset: 160 },
      { name: 'output.weight', shape: [32, 4], type: GGML_TYPE.F16, offset: 288 },
    ],
    data: 544,
  });
}

function corrupt(good: Buffer, random: (n: number) => number): Buffer {
  const end = Math.min(good.length, random(2) === 0 ? 1200 : good.length);
  const kind = random(6);
  if (kind === 0) return good.subarray(0, random(good.length));
  const bytes = Buffer.from(good);
  for (let i = 1 + random(3); i > 0; i--) {
    const at = random(end);
    if (kind === 1) bytes[at]! ^= 1 << random(8);
    else if (kind === 2) bytes[at] = random(256);
    else if (kind === 3) bytes.subarray(at, at + 1 + random(8)).fill(255);
    else if (kind === 4) bytes.subarray(at, at + 1 + random(64)).fill(0);
    else bytes.writeBigUInt64LE(BigInt(random(0xffffffff)) << BigInt(random(32)), Math.min(at, bytes.length - 8));
  }
  return bytes;
}

test('corrupted files are refused in one line or are valid, quickly and without large allocations', t => {
  const random = makeRandom(97);
  const bases = [smallModel(), ...models.filter(f => fs.statSync(f).size < 3e6).map(f => fs.readFileSync(f))];
  const rounds = soak ? 40_000 : 2_000;
  let refused = 0;
  let slowest = 0;
  let heapMax = 0;
  for (let i = 0; i < rounds; i++) {
    const bytes = corrupt(i % 2 === 0 ? bases[0]! : bases[random(bases.length)]!, random);
    const heap = process.memoryUsage().heapUsed;
    const start = performance.now();
    const got = parse(bytes);
    slowest = Math.max(slowest, performance.now() - start);
    heapMax = Math.max(heapMax, process.memoryUsage().heapUsed - heap);
    if (isRefusal(got)) {
      refused++;
      if (got.message === '' || /[\n\r]/.test(got.message) || got.message.length > 400)
        t.fail(`round ${i}: ${got.message}`);
    } else for (const x of got.tensors) if (x.fileAt + x.bytes > bytes.length) t.fail(`round ${i}: ${x.name}`);
  }
  t.log(
    `${refused} of ${rounds} refused; slowest ${slowest.toFixed(1)} ms, largest heap growth ${(heapMax / 1024).toFixed(0)} KiB`,
  );
  t.true(refused > rounds / 4);
  t.true(heapMax < 16 << 20);
  t.true(slowest < 1000); // a watchdog; the figure is in the log
});

// ── A model as a directory ───────────────────────────────────────────────────────────────────────────────────────────────────────

function mountModel(bytes: Uint8Array): Vfs {
  const vfs = new Vfs(arena, () => 0);
  vfs.mount('/', vfs.tmpfs(), 'root', false);
  vfs.mkdir('/', '/models', 0o755);
  vfs.mkdir('/', '/mnt', 0o755);
  const out = vfs.open('/', '/models/m.gguf', O.WRONLY | O.CREAT, 0o644) as OpenFile;
  for (let done = 0; done < bytes.length; done += 1 << 16) {
    const piece = bytes.subarray(done, done + (1 << 16));
    arena.u8.set(piece, BUFFER_AT);
    out.write(BUFFER_AT, piece.length);
  }
  out.close();
  const file = vfs.open('/', '/models/m.gguf', O.RDONLY, 0) as OpenFile;
  const source = {
    path: '/models/m.gguf',
    size: bytes.length,
    read: (fileAt: number, at: number, length: number) => file.readAt(fileAt, at, length),
  };
  const image = parseGguf(source, arena, DMA_AT, LIMITS.dmaBytes);
  if (isRefusal(image)) throw new Error(image.message);
  vfs.mount('/mnt', new GgufFs(image, arena, decode, () => file.close()), source.path, true);
  return vfs;
}
function list(vfs: Vfs, dir: string): string[] {
  const file = vfs.open('/', dir, O.RDONLY | O.DIRECTORY, 0) as OpenFile;
  const found: string[] = [];
  for (let n; (n = file.readdir(BUFFER_AT, 4096)) > 0;)
    for (let p = BUFFER_AT; p < BUFFER_AT + n; p += 2 + arena.u8[p + 1]!)
      found.push(Buffer.from(arena.u8.slice(p + 2, p + 2 + arena.u8[p + 1]!)).toString());
  file.close();
  return found;
}
function contents(vfs: Vfs, name: string, piece = 8192): Buffer {
  const file = vfs.open('/', name, O.RDONLY, 0);
  if (typeof file === 'number') throw new Error(`${name}: ${file}`);
  const parts: Buffer[] = [];
  for (let n; (n = file.read(BUFFER_AT, piece)) !== 0;) {
    if (n < 0) throw new Error(`${name}: ${n}`);
    parts.push(Buffer.from(arena.u8.slice(BUFFER_AT, BUFFER_AT + n)));
  }
  file.close();
  return Buffer.concat(parts);
}

test('fs-gguf: the tree, scalars, arrays, data, read-only, unmounting', t => {
  const bytes = ggufFile({
    keys: [
      ['general.architecture', ['string', 'llama']],
      ['eps', ['f32', 1e-5]],
      ['third', ['f32', 1 / 3]],
      ['big', ['u64', 2n ** 64n - 1n]],
      ['flag', ['bool', 0]],
      ['template', ['string', '{{ a }}\nsecond']],
      ['tokens', ['array', 'string', ['a', '', 'b\nc', 'ä\\', '\x00\t', Buffer.from([0xff])]]],
      ['scores', ['array', 'f32', [0, -1.5, 0.1]]],
      ['flags', ['array', 'bool', [0, 1]]],
      ['wide', ['array', 'i64', [-(2n ** 63n), 5]]],
      ['none', ['array', 'u32', []]],
      ['a/b%', ['u8', 1]],
    ],
    tensors: [
      { name: 'x.weight', shape: [32, 4], type: GGML_TYPE.Q8_0, offset: 0 },
      { name: '..', shape: [8], type: f32, offset: 160 },
    ],
    data: 192,
  });
  const vfs = mountModel(bytes);
  const read = (name: string): string => contents(vfs, `/mnt/${name}`).toString();
  t.deepEqual(list(vfs, '/mnt'), ['metadata', 'tensors']);
  t.deepEqual(list(vfs, '/mnt/tensors'), ['x.weight', '%2E%2E']);
  t.deepEqual(list(vfs, '/mnt/tensors/x.weight'), ['type', 'shape', 'offset', 'size', 'data', 'f32', 'stats']);
  t.is(
    list(vfs, '/mnt/metadata').join(),
    'general.architecture,eps,third,big,flag,template,tokens,scores,flags,wide,none,a%2Fb%25',
  );
  t.is(read('metadata/general.architecture'), 'llama\n');
  t.is(read('metadata/eps'), '0.00001\n');
  t.is(read('metadata/third'), '0.33333334\n');
  t.is(read('metadata/big'), '18446744073709551615\n');
  t.is(read('metadata/flag'), 'false\n');
  t.is(read('metadata/template'), '{{ a }}\nsecond\n');
  t.is(read('metadata/a%2Fb%25'), '1\n');
  const want = Buffer.concat([Buffer.from('a\n\nb\\nc\nä\\\\\n\\x00\\t\n'), Buffer.from([0xff, 0x0a])]);
  t.deepEqual(contents(vfs, '/mnt/metadata/tokens'), want);
  t.deepEqual(contents(vfs, '/mnt/metadata/tokens', 1), want);
  t.is(read('metadata/scores'), '0\n-1.5\n0.1\n');
  t.is(read('metadata/flags'), 'false\ntrue\n');
  t.is(read('metadata/wide'), '-9223372036854775808\n5\n');
  t.is(read('metadata/none'), '');
  t.is(read('tensors/x.weight/type'), 'Q8_0\n');
  t.is(read('tensors/x.weight/shape'), '32 4\n');
  t.is(read('tensors/x.weight/size'), '136\n');
  const at = Number(read('tensors/x.weight/offset'));
  t.deepEqual(contents(vfs, '/mnt/tensors/x.weight/data', 7), bytes.subarray(at, at + 136));
  for (const dir of ['metadata', 'tensors/x.weight'])
    for (const name of list(vfs, `/mnt/${dir}`).filter(f => f !== 'f32' && f !== 'stats')) {
      const stat = vfs.stat('/', `/mnt/${dir}/${name}`) as { size: number };
      t.is(stat.size, contents(vfs, `/mnt/${dir}/${name}`).length, name);
    }
  // Any position, forwards and back, gives the same bytes as reading through.
  const file = vfs.open('/', '/mnt/metadata/tokens', O.RDONLY, 0) as OpenFile;
  const random = makeRandom(3);
  for (let i = 0; i < 500; i++) {
    const from = random(want.length + 2);
    const n = 1 + random(12);
    file.seek(from, SEEK.set);
    const got = file.read(BUFFER_AT, n);
    t.deepEqual(Buffer.from(arena.u8.slice(BUFFER_AT, BUFFER_AT + got)), want.subarray(from, from + n));
  }
  t.is(vfs.umount('/mnt'), -E.BUSY);
  file.close();
  t.is(vfs.open('/', '/mnt/metadata/eps', O.WRONLY, 0) as number, -E.ROFS);
  t.is(vfs.mkdir('/', '/mnt/x', 0o755), -E.ROFS);
  t.is(vfs.open('/', '/mnt/metadata/missing', O.RDONLY, 0) as number, -E.NOENT);
  t.is(vfs.open('/', '/mnt/tensors/x.weight/bias', O.RDONLY, 0) as number, -E.NOENT);
  t.is(vfs.umount('/mnt'), 0);
});

const long = (end: string): string => 'ä😀'.repeat(60) + end;

test('names from a file become file names that fit and stay different', t => {
  const names = ['a/b', 'a%2Fb', '.', '..', '...', 'a\nb', long('1'), long('2'), 'x'.repeat(255), 'x'.repeat(256)];
  const made = names.map((name, i) => fileNameOf(name, i));
  t.is(new Set(made).size, names.length);
  for (const name of made) {
    t.true(Buffer.byteLength(name) <= LIMITS.nameBytes);
    t.false(name.includes('/') || name === '.' || name === '..' || name.includes('\n'), name);
    t.is(Buffer.from(name).toString(), name);
  }
});

/** A token as fs-gguf shows it, by the rule of docs/IMAGE.md. */
function escapeToken(token: string): string {
  const named: Record<string, string> = { '\n': '\\n', '\t': '\\t', '\r': '\\r', '\\': '\\\\' };
  return Array.from(
    token,
    c => named[c] ?? (c < ' ' || c === '\x7f' ? `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}` : c),
  ).join('');
}

withModels('fs-gguf shows a real model whole: tokens, and every tensor byte for byte', t => {
  const file = models.find(f => f.endsWith('fable-q8_0.gguf'))!;
  const bytes = fs.readFileSync(file);
  const plain = readPlainly(bytes);
  const vfs = mountModel(bytes);
  const tokens = plain.values.get('tokenizer.ggml.tokens') as string[];
  t.is(
    contents(vfs, '/mnt/metadata/tokenizer.ggml.tokens').toString(),
    tokens.map(s => `${escapeToken(s)}\n`).join(''),
  );
  for (const x of plain.tensors) {
    const [values, blockBytes] = GGML_BLOCK[ggmlTypeName(x.type)!];
    const size = (x.shape.reduce((a, b) => a * b, 1) / values) * blockBytes;
    t.is(
      Buffer.compare(contents(vfs, `/mnt/tensors/${x.name}/data`, 16384), bytes.subarray(x.at, x.at + size)),
      0,
      x.name,
    );
  }
  t.is(list(vfs, '/mnt/tensors').length, plain.tensors.length);
});

// ── The writer ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const pieceOf = (bytes: Uint8Array): Piece => ({
  bytes: bytes.length,
  read: (memory, position, at, length) => readBytes(bytes, memory, position, at, length),
});

/** All bytes of a laid-out file, read in steps of `step`. */
function written(content: GgufContent, step = 4096): Buffer {
  const file = layOutGguf(content);
  if (isRefusal(file)) throw new Error(formatRefusal(file));
  const bytes = Buffer.alloc(file.bytes);
  for (let at = 0; at < bytes.length;) {
    const n = file.read(arena.u8, at, BUFFER_AT, Math.min(step, bytes.length - at));
    if (n <= 0) throw new Error(`read ${n} at ${at} of ${bytes.length}`);
    at += Buffer.from(arena.u8.buffer, BUFFER_AT, n).copy(bytes, at);
  }
  if (file.read(arena.u8, bytes.length, BUFFER_AT, 1) !== 0) throw new Error('bytes after the end');
  return bytes;
}

/** Scalars that a type can hold, its edges among them; each reads back as itself. */
function scalarOf(type: number, random: (n: number) => number): GgufScalar {
  const range = (low: number, high: number): number =>
    [low, high, 0, low + random(256)][random(4)]! > high ? high : [low, high, 0][random(3)]!;
  const wide = [0n, 1n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n - 1n];
  const exact = (x: bigint): number | bigint => (Number.isSafeInteger(Number(x)) ? Number(x) : x);
  switch (type) {
    case GGUF_TYPE.bool:
      return random(2) === 1;
    case GGUF_TYPE.string:
      return ['', 'a', 'ä€😀', 'x'.repeat(random(5000)), 'a\0b\n'][random(5)]!;
    case GGUF_TYPE.f32:
      return [0, -1.5, Math.fround(0.1), -Infinity, Math.fround(3.4e38)][random(5)]!;
    case GGUF_TYPE.f64:
      return [0, -1.5, 0.1, Infinity, 5e-324][random(5)]!;
    case GGUF_TYPE.u64:
      return exact([...wide, 2n ** 64n - 1n][random(6)]!);
    case GGUF_TYPE.i64:
      return exact([...wide, -(2n ** 63n)][random(6)]!);
    default: {
      const bits = 8 * GGUF_VALUE_BYTES[type]!;
      const signed = type === GGUF_TYPE.i8 || type === GGUF_TYPE.i16 || type === GGUF_TYPE.i32;
      return signed ? range(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) : range(0, 2 ** bits - 1);
    }
  }
}

function randomContent(random: (n: number) => number): { content: GgufContent; data: Uint8Array[] } {
  const keys = new Map<string, GgufValue>();
  if (random(2) === 0) keys.set('general.alignment', { type: GGUF_TYPE.u32, value: [1, 8, 32, 64, 4096][random(5)]! });
  for (let i = random(20); i > 0; i--) {
    const type = random(13);
    if (type !== GGUF_TYPE.array) keys.set(`k${i}.${'ä'.repeat(random(3))}`, { type, value: scalarOf(type, random) });
    else {
      const elementType = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12][random(12)]!;
      const elements = Array.from({ length: random(50) }, () => scalarOf(elementType, random));
      keys.set(`a${i}`, { elementType, elements });
    }
  }
  const data: Uint8Array[] = [];
  // Private types stand in prelinked images only: tests/prelink.test.ts.
  const names = (Object.keys(GGML_TYPE) as (keyof typeof GGML_TYPE)[]).filter(name => !name.endsWith('_R4'));
  const tensors = Array.from({ length: random(12) }, (_, i) => {
    const typeName = names[random(names.length)]!;
    const [values, bytes] = GGML_BLOCK[typeName];
    const blocks = 1 + random(5);
    const shape = [values * blocks, ...Array.from({ length: random(4) }, () => 1 + random(4))];
    const count = shape.reduce((a, b) => a * b, 1);
    data.push(Uint8Array.from({ length: (count / values) * bytes }, () => random(256)));
    return { name: `t${i}`, type: GGML_TYPE[typeName], shape, data: pieceOf(data.at(-1)!) };
  });
  return { content: { keys, tensors }, data };
}

test('read(write(x)) = x for every type of value and tensor, at any alignment and in any steps', t => {
  const random = makeRandom(404);
  for (let round = 0; round < (soak ? 20_000 : 400); round++) {
    const { content, data } = randomContent(random);
    const bytes = written(content, 1 + random(5000));
    const image = parsed(bytes);
    const wrong: string[] = [];
    if (image.version !== 3 || image.keys.join() !== [...content.keys.keys()].join()) wrong.push('keys');
    const plain = readPlainly(bytes);
    for (const [key, value] of content.keys) {
      if ('type' in value) {
        if (image.typeOf(key) !== value.type || !Object.is(image.meta(key), value.value)) wrong.push(key);
      } else if ('elements' in value) {
        const array = image.meta(key) as MetaArray;
        if (array.elementType !== value.elementType || array.count !== value.elements.length) wrong.push(key);
        const want = value.elements.map(x => (typeof x === 'bigint' ? Number(x) : x));
        const exact = want.every((x, i) => Object.is(x, (plain.values.get(key) as unknown[])[i]));
        if (!exact) wrong.push(`${key}: elements`);
      }
    }
    content.tensors.forEach(({ name, type, shape }, i) => {
      const got = image.tensor(name)!;
      if (got.type !== type || got.shape.join() !== shape.join()) wrong.push(name);
      if (Buffer.compare(bytes.subarray(got.fileAt, got.fileAt + got.bytes), data[i]!) !== 0)
        wrong.push(`${name}: data`);
    });
    t.deepEqual(wrong, [], `round ${round}`);
    // A file that the writer made is laid out again as it is.
    if (Buffer.compare(written(contentOf(image), 1 + random(5000)), bytes) !== 0) t.fail(`round ${round}: again`);
  }
});

withModels('write(read(file)) = file, byte for byte, for every model and vocabulary at hand', t => {
  for (const file of models) {
    const bytes = fs.readFileSync(file);
    const again = written(contentOf(parsed(bytes)), 60_000);
    // llama.cpp ends the descriptions with zeros even where no tensor follows; who wrote these vocabularies did not.
    const filled = parsed(bytes).tensors.length > 0 ? 0 : again.length - bytes.length;
    t.is(Buffer.compare(again.subarray(0, again.length - filled), bytes), 0, file);
    t.true(filled < 32 && again.subarray(again.length - filled).every(byte => byte === 0), file);
  }
});

test('what the writer makes is accepted by @huggingface/gguf', async t => {
  const random = makeRandom(405);
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'gguf-')), 'made.gguf');
  for (let round = 0; round < 40; round++) {
    const { content } = randomContent(random);
    fs.writeFileSync(file, written(content));
    const { metadata, tensorInfos, tensorDataOffset } = await gguf(file, { allowLocalFile: true });
    const image = parsed(fs.readFileSync(file));
    t.is(Number(metadata.tensor_count), content.tensors.length);
    for (const [key, value] of content.keys) {
      const got = (metadata as Record<string, unknown>)[key];
      if ('type' in value)
        t.is(typeof got === 'bigint' ? BigInt(got) : got, wideAs(got, value.value) as never, `${round} ${key}`);
      else if ('elements' in value) t.is((got as unknown[]).length, value.elements.length, `${round} ${key}`);
    }
    tensorInfos.forEach((info, i) => {
      const want = image.tensors[i]!;
      const at = Number(tensorDataOffset + info.offset);
      t.deepEqual([info.name, info.dtype, info.shape.map(Number), at], [
        want.name,
        want.type,
        want.shape,
        want.fileAt,
      ] as never);
    });
  }
  fs.rmSync(path.dirname(file), { recursive: true });
});

/** A number in the form another reader gives it: some give 64-bit integers as bigint. */
const wideAs = (got: unknown, want: GgufScalar): GgufScalar =>
  typeof got === 'bigint' && typeof want === 'number' ? BigInt(want) : want;

test('what the reader would refuse, the writer refuses', t => {
  const tensor = (change: object) => ({
    keys: new Map<string, GgufValue>(),
    tensors: [{ name: 'a', type: GGML_TYPE.F32, shape: [8], data: pieceOf(new Uint8Array(32)), ...change }],
  });
  const key = (name: string, value: GgufValue) => ({ keys: new Map([[name, value]]), tensors: [] });
  const cases: [GgufContent, string][] = [
    [key('', { type: 4, value: 1 }), 'a key of 0 bytes, 1 to 1024 are allowed'],
    [key('a', { type: 9, value: 1 }), 'key a: no value can be of type 9'],
    [key('a', { elementType: 9, elements: [] }), 'key a: no value can be of type 9'],
    [key('general.alignment', { type: 4, value: 24 }), 'general.alignment is no u32 that is a power of two'],
    [tensor({ name: '' }), 'tensor name "" of 0 bytes is empty, too long or there twice'],
    [tensor({ type: 77 }), 'tensor a: no type 77'],
    [tensor({ type: GGML_TYPE.Q4_0 }), 'tensor a: Q4_0 cannot have the shape 8'],
    [tensor({ shape: [9] }), 'tensor a: 32 bytes of data, its shape asks for 36'],
  ];
  for (const [content, line] of cases) {
    const r = layOutGguf(content);
    t.is(isRefusal(r) ? r.message : 'accepted', line);
  }
});
