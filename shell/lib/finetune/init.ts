// `llmfinetune init`: a model of the llama architecture with random first weights, to be trained from nothing (--method full). Its sizes come from
// a file of JSON; its tokenizer is another model's, taken over byte for byte, or a vocabulary of the 256 bytes. Matrices begin as N(0, 0.02²),
// those that write into the residual stream divided by √(2 · layers) (GPT-2), norms as ones. The same seed gives the same bytes.

import { GGML_TYPE, GGUF_TYPE, O, shown } from '../../../kernel/abi/index.ts';
import { readText } from '../files.ts';
import { jsonLine } from '../fmt.ts';
import { grouped, modelPath } from '../model.ts';
import type { Context } from '../program.ts';
import { bytesOf } from './adapter-file.ts';
import { NewFile, f32Value, readModelFile, tensorBytes, textValue, u32Value } from './model-file.ts';
import type { NewValue, TensorShape } from './model-file.ts';
import { Normals } from './normals.ts';
import type { Run, commonOptions } from './verb.ts';

type Ctx = Context<typeof commonOptions>;

/** What CONFIG.json says; what it does not is as here. */
const DEFAULTS = {
  architecture: 'llama',
  name: 'model',
  tokenizer: 'bytes', // or a GGUF file whose tokenizer it is to have
  context: 256,
  embedding: 64,
  layers: 4,
  heads: 4,
  kv_heads: 0, // 0: as many as heads
  feed_forward: 0, // 0: 8/3 · embedding, up to a multiple of 32
  rope_base: 10000,
  rms_epsilon: 1e-5,
  tied: true, // the output matrix is the embedding
  seed: 1,
};
export type ModelConfig = typeof DEFAULTS;

/** Standard deviation of the first weights. */
const SIGMA = 0.02;
/** Blocks of the quantised types: extents that are a multiple can be rounded later. */
const BLOCK = 32;

/** The configuration, or what is wrong with it. */
export function parseConfig(text: string): ModelConfig | string {
  let given: unknown;
  try {
    given = JSON.parse(text);
  } catch {
    return 'is not JSON';
  }
  if (typeof given !== 'object' || given === null || Array.isArray(given)) return 'is not a JSON object';
  const values = given as Readonly<Record<string, unknown>>;
  for (const [key, value] of Object.entries(values)) {
    if (!Object.hasOwn(DEFAULTS, key)) return `${shown(key)} is not known: ${Object.keys(DEFAULTS).join(', ')}`;
    const wanted = typeof DEFAULTS[key as keyof ModelConfig];
    if (typeof value !== wanted) return `${key} is no ${wanted}`;
  }
  const config = { ...DEFAULTS, ...values };
  config.kv_heads ||= config.heads;
  config.feed_forward ||= Math.ceil((8 * config.embedding) / 3 / BLOCK) * BLOCK;
  return mistakeIn(config) ?? config;
}

function mistakeIn(c: ModelConfig): string | null {
  if (c.architecture !== 'llama') return `architecture ${shown(c.architecture)}: known is llama`;
  for (const key of ['context', 'embedding', 'layers', 'heads', 'kv_heads', 'feed_forward'] as const)
    if (!Number.isInteger(c[key]) || c[key] < 1 || c[key] > 1 << 20) return `${key} is ${c[key]}, no count`;
  if (!Number.isInteger(c.seed)) return `seed is ${c.seed}, no integer`;
  if (c.embedding % c.heads !== 0 || (c.embedding / c.heads) % 2 !== 0)
    return `embedding is ${c.embedding}: no even number for each of ${c.heads} heads`;
  if (c.heads % c.kv_heads !== 0) return `heads are ${c.heads}, no multiple of kv_heads, ${c.kv_heads}`;
  return c.rope_base > 0 && c.rms_epsilon > 0 ? null : 'rope_base and rms_epsilon are above 0';
}

/** The model's tensors in the order of the file, and of its random numbers. */
function tensorsOf(c: ModelConfig, vocabulary: number): TensorShape[] {
  const matrix = (name: string, columns: number, rows: number): TensorShape => ({
    name: `${name}.weight`,
    type: GGML_TYPE.F32,
    shape: [columns, rows],
  });
  const norm = (name: string): TensorShape => ({
    name: `${name}_norm.weight`,
    type: GGML_TYPE.F32,
    shape: [c.embedding],
  });
  const kv = (c.embedding / c.heads) * c.kv_heads;
  const layers = Array.from({ length: c.layers }, (_, i) => [
    norm(`blk.${i}.attn`),
    matrix(`blk.${i}.attn_q`, c.embedding, c.embedding),
    matrix(`blk.${i}.attn_k`, c.embedding, kv),
    matrix(`blk.${i}.attn_v`, c.embedding, kv),
    matrix(`blk.${i}.attn_output`, c.embedding, c.embedding),
    norm(`blk.${i}.ffn`),
    matrix(`blk.${i}.ffn_gate`, c.embedding, c.feed_forward),
    matrix(`blk.${i}.ffn_up`, c.embedding, c.feed_forward),
    matrix(`blk.${i}.ffn_down`, c.feed_forward, c.embedding),
  ]);
  const output = c.tied ? [] : [matrix('output', c.embedding, vocabulary)];
  return [matrix('token_embd', c.embedding, vocabulary), ...layers.flat(), norm('output'), ...output];
}

function keysFor(c: ModelConfig, tokenizer: ReadonlyMap<string, NewValue>): ReadonlyMap<string, NewValue> {
  return new Map([
    ['general.architecture', textValue(c.architecture)],
    ['general.name', textValue(c.name)],
    ['general.file_type', u32Value(0)], // F32
    ['llama.context_length', u32Value(c.context)],
    ['llama.embedding_length', u32Value(c.embedding)],
    ['llama.block_count', u32Value(c.layers)],
    ['llama.feed_forward_length', u32Value(c.feed_forward)],
    ['llama.attention.head_count', u32Value(c.heads)],
    ['llama.attention.head_count_kv', u32Value(c.kv_heads)],
    ['llama.attention.layer_norm_rms_epsilon', f32Value(c.rms_epsilon)],
    ['llama.rope.freq_base', f32Value(c.rope_base)],
    ['llama.rope.dimension_count', u32Value(c.embedding / c.heads)],
    ...tokenizer,
  ]);
}

// ── Tokenizers ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Keys of a tokenizer and how many tokens it has. `fd`: of the file that they lie in, or -1. */
interface Tokenizer {
  readonly keys: ReadonlyMap<string, NewValue>;
  readonly count: number;
  readonly fd: number;
}

/**
 * Bytes as tokens, in GPT-2's alphabet, where a byte that is no visible character of Latin-1 stands as the next free character from U+0100 on;
 * no merges; behind them the token that ends a text.
 */
function byteTokenizer(): Tokenizer {
  const visible = (b: number): boolean => (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b !== 0xad);
  let next = 0x100;
  const tokens = Array.from({ length: 256 }, (_, b) => String.fromCharCode(visible(b) ? b : next++));
  const end = tokens.length;
  const NORMAL = 1;
  const CONTROL = 3;
  const types = [...tokens.map(() => NORMAL), CONTROL];
  const keys = new Map<string, NewValue>([
    ['tokenizer.ggml.model', textValue('gpt2')],
    ['tokenizer.ggml.pre', textValue('gpt-2')],
    ['tokenizer.ggml.tokens', { elementType: GGUF_TYPE.string, elements: [...tokens, '<|endoftext|>'] }],
    ['tokenizer.ggml.token_type', { elementType: GGUF_TYPE.i32, elements: types }],
    ['tokenizer.ggml.merges', { elementType: GGUF_TYPE.string, elements: [] }],
    ['tokenizer.ggml.bos_token_id', u32Value(end)],
    ['tokenizer.ggml.eos_token_id', u32Value(end)],
    ['tokenizer.ggml.add_bos_token', { type: GGUF_TYPE.bool, value: true }],
  ]);
  return { keys, count: types.length, fd: -1 };
}

/** The tokenizer of a GGUF file; or the status after a message. */
function* tokenizerOf(ctx: Ctx, name: string): Generator<void, Tokenizer | number, void> {
  const path = yield* modelPath(ctx.sys, name);
  const fd = yield* ctx.sys.open(path, O.RDONLY, 0);
  if (fd < 0) return yield* ctx.failCall(path, -fd);
  const file = yield* readModelFile(ctx.sys, fd);
  if (typeof file === 'string') return yield* ctx.fail(`${path}: ${file}`);
  const keys = [...file.keys].filter(([key]) => key.startsWith('tokenizer.'));
  const count = file.keys.get('tokenizer.ggml.tokens')?.count ?? 0;
  if (count === 0) return yield* ctx.fail(`${path}: has no tokenizer`);
  return { keys: new Map(keys.map(([key, { stored }]) => [key, { stored }])), count, fd };
}

// ── The file ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export function* init(ctx: Ctx, [configPath = '', to = '']: readonly string[]): Run {
  const text = yield* readText(ctx.sys, configPath);
  if (typeof text === 'number') return yield* ctx.fail(configPath, -text);
  const config = parseConfig(text);
  if (typeof config === 'string') return yield* ctx.fail(`${configPath}: ${config}`);
  const tokenizer = config.tokenizer === 'bytes' ? byteTokenizer() : yield* tokenizerOf(ctx, config.tokenizer);
  if (typeof tokenizer === 'number') return tokenizer;
  const tensors = tensorsOf(config, tokenizer.count);
  const file = yield* NewFile.begin(ctx.sys, to);
  if (typeof file === 'number') return yield* ctx.failCall(to, -file);
  yield* file.head(keysFor(config, tokenizer.keys), tensors);
  yield* writeWeights(file, config, tensors);
  const failed = yield* file.finish();
  if (tokenizer.fd >= 0) yield* ctx.sys.close(tokenizer.fd);
  if (failed < 0) return yield* ctx.failCall(to, -failed);
  const parameters = tensors.reduce((sum, t) => sum + tensorBytes(t) / 4, 0);
  const facts = { file: to, parameters, bytes: file.bytes, vocabulary: tokenizer.count, seed: config.seed };
  yield* ctx.out.print(
    ctx.options.json
      ? jsonLine(facts)
      : `${to}: ${grouped(parameters)} parameters, ${grouped(file.bytes)} bytes, ${grouped(tokenizer.count)} tokens, seed ${config.seed}\n`,
  );
  return 0;
}

/** Values that are drawn before they are written. */
const PIECE = 2048;

function* writeWeights(
  file: NewFile,
  { layers, seed }: ModelConfig,
  tensors: readonly TensorShape[],
): Generator<void, void, void> {
  const normals = new Normals(seed);
  const piece = new Float32Array(PIECE);
  for (const tensor of tensors) {
    const isNorm = tensor.shape.length === 1;
    const intoStream = /\.(?:attn_output|ffn_down)\.weight$/.test(tensor.name);
    const sigma = intoStream ? SIGMA / Math.sqrt(2 * layers) : SIGMA;
    for (let left = tensorBytes(tensor) / 4; left > 0; left -= PIECE) {
      const n = Math.min(PIECE, left);
      for (let i = 0; i < n; i++) piece[i] = isNorm ? 1 : sigma * normals.next();
      yield* file.write(bytesOf(piece.subarray(0, n)));
    }
    yield* file.align();
  }
}
