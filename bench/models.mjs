// The models the bench measures. Two are synthetic llamas with seeded random weights, written once into build/bench/: the largest that
// leave an 8 MiB arena a context of 512 positions. The third is the default image. What the weights say does not matter for speed; the shapes do.
import { closeSync, existsSync, mkdirSync, openSync, readSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import seedrandom from 'seedrandom';
import { writeGguf } from './gguf.mjs';

const root = new URL('..', import.meta.url).pathname;

/** Shapes: sizes in values; `headsKv` < `heads` is grouped-query attention. The output matrix is the embedding (tied). */
export const SYNTHETIC = [
  // 4,096×288 + 6 × (4×288² + 3×288×768) = 7.15M weights × 18/32 B = 4.02 MB; KV in F16: 6 × 2 × 288 × 2 B = 6.75 KiB a position
  {
    name: 'synth-8M-q4_0',
    type: 'Q4_0',
    width: 288,
    layers: 6,
    heads: 6,
    headsKv: 6,
    feedForward: 768,
    vocabulary: 4096,
  },
  // 2,048×256 + 6 × (2×256² + 2×256×128 + 3×256×704) = 4.95M weights × 34/32 B = 5.26 MB; KV in F16: 6 × 2 × 128 × 2 B = 3 KiB a position
  {
    name: 'synth-5M-q8_0',
    type: 'Q8_0',
    width: 256,
    layers: 6,
    heads: 8,
    headsKv: 4,
    feedForward: 704,
    vocabulary: 2048,
  },
];

/** For the calibration beside these: weights in F32. 1,024×160 + 4 × (2×160² + 2×160×80 + 3×160×416) = 1.27M weights × 4 B = 5.08 MB */
export const SYNTHETIC_F32 = {
  name: 'synth-1M-f32',
  type: 'F32',
  width: 160,
  layers: 4,
  heads: 4,
  headsKv: 2,
  feedForward: 416,
  vocabulary: 1024,
};

/** llama.cpp's llama_ftype of a model whose matrices are of that type. */
const FILE_TYPES = { F32: 0, Q4_0: 2, Q4_1: 3, Q8_0: 7 };

/** In vocabularyOf's: the end token, and those of single bytes. */
export const [PLAIN_FROM, PLAIN_TO] = [2, 259];

/**
 * A SentencePiece-style vocabulary of `count` entries: unknown, begin, end, 256 bytes, printable ASCII, then pieces each of which is two
 * earlier pieces joined, scored by age: every piece can be reached by merging. Punctuation and digits join nothing.
 */
function pieces(count, random) {
  const tokens = ['<unk>', '<s>', '</s>'];
  const types = [2, 3, 3]; // 1 normal, 2 unknown, 3 control, 6 byte
  for (let b = 0; b < 256; b++) {
    tokens.push(`<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`);
    types.push(6);
  }
  const space = '\u2581';
  const letters = [...'etaoinshrdlcumwfgypbvkjxqz'];
  const joined = [space, ...letters];
  const known = new Set(joined);
  tokens.push(...joined);
  for (let c = 0x21; c < 0x7f; c++) if (!known.has(String.fromCharCode(c))) tokens.push(String.fromCharCode(c));
  const pick = limit => joined[Math.floor(random() ** 2 * Math.min(limit, joined.length))];
  // Large vocabularies join more kinds of pieces, or they would run out of new ones.
  const [lefts, rights] = [Math.max(400, count >> 4), Math.max(60, count >> 7)];
  while (tokens.length < count) {
    const piece = pick(lefts) + pick(rights);
    if (piece.length > 7 || piece.indexOf(space, 1) > 0 || known.has(piece)) continue;
    known.add(piece);
    joined.push(piece);
    tokens.push(piece);
  }
  while (types.length < count) types.push(1);
  return { tokens, types, scores: tokens.map((_, id) => (types[id] === 1 ? -id : 0)) };
}

const vector = (name, length) => ({ name, shape: [length], type: 'F32' });

/** The tensors of a llama of that shape, in the file's order. `untied`: the output has a matrix of its own; `biases`: as qwen2 has them. */
export function tensorsOf({
  type,
  width,
  layers,
  heads,
  headsKv,
  feedForward,
  vocabulary,
  untied = false,
  biases = false,
}) {
  const matrix = (name, k, rows) => ({ name, shape: [k, rows], type });
  const norm = name => vector(name, width);
  const kvWidth = (width / heads) * headsKv;
  const tensors = [matrix('token_embd.weight', width, vocabulary), norm('output_norm.weight')];
  if (untied) tensors.push(matrix('output.weight', width, vocabulary));
  for (let i = 0; i < layers; i++) {
    tensors.push(
      norm(`blk.${i}.attn_norm.weight`),
      matrix(`blk.${i}.attn_q.weight`, width, width),
      matrix(`blk.${i}.attn_k.weight`, width, kvWidth),
      matrix(`blk.${i}.attn_v.weight`, width, kvWidth),
      matrix(`blk.${i}.attn_output.weight`, width, width),
      norm(`blk.${i}.ffn_norm.weight`),
      matrix(`blk.${i}.ffn_gate.weight`, width, feedForward),
      matrix(`blk.${i}.ffn_down.weight`, feedForward, width),
      matrix(`blk.${i}.ffn_up.weight`, width, feedForward),
    );
    if (biases)
      tensors.push(
        vector(`blk.${i}.attn_q.bias`, width),
        vector(`blk.${i}.attn_k.bias`, kvWidth),
        vector(`blk.${i}.attn_v.bias`, kvWidth),
      );
  }
  return tensors;
}

/** The metadata of a model of that shape, its vocabulary excepted. */
export function metadataOf({
  name,
  type,
  architecture = 'llama',
  width,
  layers,
  heads,
  headsKv,
  feedForward,
  vocabulary,
  context = 1024,
  ropeBase = 10000,
}) {
  return [
    ['general.architecture', 'string', architecture],
    ['general.name', 'string', name],
    ['general.file_type', 'u32', FILE_TYPES[type]],
    ['general.quantization_version', 'u32', 2],
    [`${architecture}.context_length`, 'u32', context],
    [`${architecture}.embedding_length`, 'u32', width],
    [`${architecture}.block_count`, 'u32', layers],
    [`${architecture}.feed_forward_length`, 'u32', feedForward],
    [`${architecture}.attention.head_count`, 'u32', heads],
    [`${architecture}.attention.head_count_kv`, 'u32', headsKv],
    [`${architecture}.rope.dimension_count`, 'u32', width / heads],
    [`${architecture}.vocab_size`, 'u32', vocabulary],
    [`${architecture}.attention.layer_norm_rms_epsilon`, 'f32', 1e-5],
    [`${architecture}.rope.freq_base`, 'f32', ropeBase],
  ];
}

/** A made-up SentencePiece vocabulary of that many entries, as metadata. */
export function vocabularyOf(count, random) {
  const { tokens, types, scores } = pieces(count, random);
  return [
    ['tokenizer.ggml.model', 'string', 'llama'],
    ['tokenizer.ggml.tokens', 'strings', tokens],
    ['tokenizer.ggml.scores', 'f32s', scores],
    ['tokenizer.ggml.token_type', 'i32s', types],
    ['tokenizer.ggml.bos_token_id', 'u32', 1],
    ['tokenizer.ggml.eos_token_id', 'u32', 2],
    ['tokenizer.ggml.unknown_token_id', 'u32', 0],
    ['tokenizer.ggml.add_bos_token', 'bool', true],
    ['tokenizer.ggml.add_eos_token', 'bool', false],
    ['tokenizer.ggml.add_space_prefix', 'bool', true],
  ];
}

function makeModel(shape) {
  const random = seedrandom.xor128(shape.name);
  const vocabulary = vocabularyOf(shape.vocabulary, random);
  const tensors = tensorsOf(shape).map(tensor => {
    const [k, rows] = tensor.shape;
    if (rows === undefined) return { ...tensor, values: new Float32Array(k).fill(1) };
    const scale = Math.sqrt(3 / k); // unit variance is kept from layer to layer
    return { ...tensor, values: Float32Array.from({ length: k * rows }, () => (random() * 2 - 1) * scale) };
  });
  // The logits of the end token and of single bytes are always 0: greedy decoding never stops early and writes valid UTF-8, which some peers need.
  tensors[0].values.fill(0, PLAIN_FROM * shape.width, PLAIN_TO * shape.width);
  return writeGguf([...metadataOf(shape), ...vocabulary], tensors);
}

/** Where made models are kept. */
export function benchFolder() {
  const folder = path.join(root, 'build/bench');
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** Makes what is missing; returns the files. Delete build/bench/ after changing a shape. */
export function syntheticModels(shapes = SYNTHETIC) {
  const folder = benchFolder();
  return shapes.map(shape => {
    const file = path.join(folder, `${shape.name}.gguf`);
    if (!existsSync(file)) writeFileSync(file, makeModel(shape));
    return { name: shape.name, file };
  });
}

/** What one decoded token costs, from the file's own header: multiply-adds and bytes read, at a given context length with F16 KV. */
export function workOf(file, context) {
  const { metadata, tensors } = readHeader(file);
  const architecture = metadata.get('general.architecture');
  const layers = metadata.get(`${architecture}.block_count`);
  const heads = metadata.get(`${architecture}.attention.head_count`);
  const headsKv = metadata.get(`${architecture}.attention.head_count_kv`) ?? heads;
  const width = metadata.get(`${architecture}.embedding_length`);
  const tied = !tensors.some(t => t.name === 'output.weight');
  let parameters = 0;
  let multiplyAdds = 2 * layers * width * context; // scores and weighted sum of attention
  let bytes = 2 * layers * (width / heads) * headsKv * 2 * context;
  for (const t of tensors) {
    parameters += t.values;
    // The embedding is only looked up, unless it is the output matrix too.
    if (t.shape.length !== 2 || (t.name === 'token_embd.weight' && !tied) || t.name === 'position_embd.weight')
      continue;
    multiplyAdds += t.values;
    bytes += t.bytes;
  }
  const types = new Set(tensors.filter(t => t.shape.length === 2).map(t => t.type));
  return {
    parameters,
    multiplyAdds,
    bytes,
    types: [...types],
    contextTrained: metadata.get(`${architecture}.context_length`),
  };
}

/** No header of a model is longer: 151,936 tokens and their merges take 6 MB. */
const HEADER_BYTES_MAX = 16 << 20;

/** Scalars of the metadata, all values as stored (type and bytes), and the tensor directory of a GGUF file that the bench itself trusts. */
export function readHeader(path) {
  const fd = openSync(path, 'r');
  const buffer = Buffer.alloc(HEADER_BYTES_MAX);
  const file = buffer.subarray(0, readSync(fd, buffer, 0, buffer.length, 0));
  closeSync(fd);
  let at = 8;
  const u32 = () => file.readUInt32LE((at += 4) - 4);
  const u64 = () => Number(file.readBigUInt64LE((at += 8) - 8));
  const string = () => {
    const length = u64();
    return file.toString('utf8', at, (at += length));
  };
  const bytesOf = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };
  const value = type => {
    if (type === 8) return string();
    if (type === 9) {
      const element = u32();
      for (let n = u64(); n > 0; n--) value(element);
      return undefined;
    }
    at += bytesOf[type];
    return type === 6
      ? file.readFloatLE(at - 4)
      : bytesOf[type] === 4
        ? file.readUInt32LE(at - 4)
        : file[at - bytesOf[type]];
  };
  const blocks = {
    0: ['F32', 1, 4],
    1: ['F16', 1, 2],
    2: ['Q4_0', 32, 18],
    3: ['Q4_1', 32, 20],
    8: ['Q8_0', 32, 34],
    30: ['BF16', 1, 2],
  };
  const tensorCount = u64();
  const metadata = new Map();
  const stored = new Map();
  for (let n = u64(); n > 0; n--) {
    const key = string();
    const from = at;
    metadata.set(key, value(u32()));
    stored.set(key, file.subarray(from, at));
  }
  const tensors = [];
  for (let i = 0; i < tensorCount; i++) {
    const name = string();
    const shape = Array.from({ length: u32() }, u64);
    const [type, blockValues, blockBytes] = blocks[u32()];
    u64();
    const values = shape.reduce((product, n) => product * n, 1);
    tensors.push({ name, shape, type, values, bytes: (values / blockValues) * blockBytes });
  }
  return { metadata, stored, tensors };
}
