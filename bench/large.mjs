// Models larger than the arena, for the streaming bench and tests: llamas with the shapes of well-known ones. Dense ones have random blocks
// everywhere; sparse ones have a few rows in each matrix, the rest being holes of the file, so that a model of gigabytes takes seconds to make
// and megabytes to keep. Blocks are drawn as bits, 32 at a time, so nothing is rounded. A tensor depends on names alone: each row has a seed of
// its own, and can be drawn again without the file.
import { closeSync, existsSync, ftruncateSync, openSync, renameSync, writeSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import seedrandom from 'seedrandom';
import { f16Bits, layOutGguf, rowBytes } from './gguf.mjs';
import { benchFolder, metadataOf, PLAIN_FROM, PLAIN_TO, readHeader, tensorsOf, vocabularyOf } from './models.mjs';

const smol = { width: 576, layers: 30, heads: 9, headsKv: 3, feedForward: 1536, vocabulary: 49152, context: 2048 };

/**
 * Shapes as in models.mjs. `rowsKept`: of each matrix but the embeddings, rows that are not zero; without it all are.
 */
export const LARGE = {
  // SmolLM-135M: 49,152×576 + 30 × (2×576² + 2×576×192 + 3×576×1,536) = 134.5M weights × 18/32 B = 75.6 MB
  '135M-q4_0': { ...smol, type: 'Q4_0' },
  '135M-q8_0': { ...smol, type: 'Q8_0' }, // × 34/32 B = 142.9 MB
  // TinyLlama-1.1B: 2 × 32,000×2,048 + 22 × (2×2,048² + 2×2,048×256 + 3×2,048×5,632) = 1.10G weights × 18/32 B = 619 MB
  '1.1B-q4_0': {
    type: 'Q4_0',
    width: 2048,
    layers: 22,
    heads: 32,
    headsKv: 4,
    feedForward: 5632,
    vocabulary: 32000,
    context: 2048,
    untied: true,
    rowsKept: 16,
  },
  // Mistral-7B: 2 × 32,000×4,096 + 32 × (2×4,096² + 2×4,096×1,024 + 3×4,096×14,336) = 7.24G weights × 20/32 B = 4.53 GB: beyond 2^32
  '7B-q4_1': {
    type: 'Q4_1',
    width: 4096,
    layers: 32,
    heads: 32,
    headsKv: 8,
    feedForward: 14336,
    vocabulary: 32000,
    context: 32768,
    untied: true,
    rowsKept: 16,
  },
  // Qwen2-0.5B: 151,936×896 + 24 × (2×896² + 2×896×128 + 3×896×4,864) = 494M weights × 18/32 B = 278 MB. Its tokenizer comes from a file.
  '0.5B-q4_0': {
    architecture: 'qwen2',
    type: 'Q4_0',
    width: 896,
    layers: 24,
    heads: 14,
    headsKv: 2,
    feedForward: 4864,
    vocabulary: 151936,
    context: 32768,
    ropeBase: 1000000,
    biases: true,
    rowsKept: 16,
  },
};

const EMBEDDINGS = 'token_embd.weight';

/** 32 random bits a word from a seed: xorshift, Marsaglia 2003. */
function drawWords(words, seed) {
  let x = seed === 0 ? 1 : seed;
  for (let i = 0; i < words.length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[i] = x;
  }
}

/** FNV-1a of a text, then of a number: a seed. */
function seedOf(text, number) {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  for (let i = 0; i < 32; i += 8) h = Math.imul(h ^ ((number >>> i) & 255), 0x01000193);
  return h;
}

/** Of uniform quants: the variance of one, and what a minimum is in scales so that the mean is 0. */
const QUANTS = {
  Q4_0: { variance: (16 ** 2 - 1) / 12 },
  Q4_1: { variance: (16 ** 2 - 1) / 12, minimum: -7.5 },
  Q8_0: { variance: (255 ** 2 - 1) / 12 },
};
const SCALES = 64;

/** Scales (and minima) of blocks in rows of `k` values, as halves: SCALES of them within a quarter of 1/√(k · variance), so that rows keep unit variance. */
function scalesOf(type, k) {
  const { variance, minimum } = QUANTS[type];
  const d = i => (0.75 + i / (2 * SCALES)) / Math.sqrt(k * variance);
  return {
    scales: Uint16Array.from({ length: SCALES }, (_, i) => f16Bits(d(i))),
    minima: minimum === undefined ? null : Uint16Array.from({ length: SCALES }, (_, i) => f16Bits(minimum * d(i))),
  };
}

/** Row `row` of tensor `name`, a matrix of rows of `k` values, into `bytes`. `scales`: scalesOf its type and k. */
function drawRow(name, row, type, { scales, minima }, bytes) {
  drawWords(new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2), seedOf(name, row));
  const blockBytes = rowBytes(type, 32);
  // -128 is no quant of ggml's Q8_0.
  if (type === 'Q8_0') for (let i = 0; i < bytes.length; i++) if (bytes[i] === 0x80) bytes[i] = 0x81;
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length >> 1);
  for (let at = 0; at < halves.length; at += blockBytes >> 1) {
    const i = halves[at] % SCALES;
    halves[at] = scales[i];
    if (minima !== null) halves[at + 1] = minima[i];
  }
}

/** The rows of a matrix that are not zero, in order: all, or `rowsKept` spread over it, the first and the last among them. */
function keptRows({ name, shape: [, rows] }, { rowsKept }) {
  const every = name === EMBEDDINGS || rowsKept === undefined;
  const count = every ? rows : Math.min(rows, name === 'output.weight' ? 32 * rowsKept : rowsKept);
  const all = Array.from({ length: count }, (_, i) => Math.round((i * (rows - 1)) / (count - 1)));
  // The logits of the end token and of single bytes are always 0, as in models.mjs.
  return /^(token_embd|output)\./.test(name) ? all.filter(row => row < PLAIN_FROM || row >= PLAIN_TO) : all;
}

/** A vector: weights of a norm, 1 within a quarter, or a bias, 0 within an eighth. */
function drawVector(name, length) {
  const words = new Int32Array(length);
  drawWords(words, seedOf(name, 0));
  const bias = name.endsWith('.bias');
  return Float32Array.from(words, x => (bias ? x / 2 ** 34 : 1 + x / 2 ** 33));
}

/** The values of a tensor into the file, a megabyte at a time. */
function writeTensor(fd, tensor, at, shape) {
  const [k, rows] = tensor.shape;
  if (rows === undefined) {
    writeSync(fd, new Uint8Array(drawVector(tensor.name, k).buffer), 0, 4 * k, at);
    return;
  }
  const bytes = rowBytes(tensor.type, k);
  const scales = scalesOf(tensor.type, k);
  const capacity = Math.max(1, Math.floor((1 << 20) / bytes));
  const buffer = new Uint8Array(capacity * bytes);
  let first = 0; // rows first … first + n - 1 wait in the buffer
  let n = 0;
  const flush = () => {
    if (n > 0) writeSync(fd, buffer, 0, n * bytes, at + first * bytes);
    n = 0;
  };
  for (const row of keptRows(tensor, shape)) {
    if (n === capacity || row !== first + n) flush();
    if (n === 0) first = row;
    drawRow(tensor.name, row, tensor.type, scales, buffer.subarray(n * bytes, (n + 1) * bytes));
    n++;
  }
  flush();
}

/** The tokenizer's keys of a GGUF file. */
function vocabularyFrom(file) {
  return [...readHeader(file).stored]
    .filter(([key]) => key.startsWith('tokenizer.'))
    .map(([key, value]) => [key, 'stored', value]);
}

/** Writes a model of that shape, with the tokenizer of `vocabularyFile` or a made-up one; rows that are zero are holes where the file system has such. */
function writeLarge(file, name, shape, vocabularyFile) {
  const vocabulary =
    vocabularyFile === undefined
      ? vocabularyOf(shape.vocabulary, seedrandom.xor128(name))
      : vocabularyFrom(vocabularyFile);
  const tensors = tensorsOf(shape);
  const { header, places, fileBytes } = layOutGguf([...metadataOf({ name, ...shape }), ...vocabulary], tensors);
  // Under another name until it is whole.
  const part = `${file}.${process.pid}.part`;
  const fd = openSync(part, 'w');
  ftruncateSync(fd, fileBytes);
  writeSync(fd, header, 0, header.length, 0);
  tensors.forEach((tensor, i) => writeTensor(fd, tensor, places[i].at, shape));
  closeSync(fd);
  renameSync(part, file);
}

/** The model of LARGE by that name, made when it is missing. Delete build/bench/ after changing a shape. */
export function largeModel(name, vocabularyFile) {
  const full = `synth-${name}`;
  const file = path.join(benchFolder(), `${full}.gguf`);
  if (!existsSync(file)) writeLarge(file, full, LARGE[name], vocabularyFile);
  return { name: full, file };
}

/** `node bench/large.mjs NAME [VOCABULARY]`: makes it, and prints the file, the shape, and which rows of each matrix but the embeddings are kept. */
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [name, vocabularyFile] = process.argv.slice(2);
  const shape = LARGE[name];
  if (shape === undefined) throw new Error(`no model '${name}': ${Object.keys(LARGE).join(', ')}`);
  const { file } = largeModel(name, vocabularyFile);
  const holed = tensorsOf(shape).filter(t => t.shape.length > 1 && t.name !== EMBEDDINGS && shape.rowsKept > 0);
  const kept = Object.fromEntries(holed.map(t => [t.name, keptRows(t, shape)]));
  console.log(JSON.stringify({ file, shape, kept }));
}
