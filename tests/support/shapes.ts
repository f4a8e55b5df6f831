// Models that are only shapes: the image of a file with the tensors of a llama of any size, all bytes of which are zero. Enough to compile its
// plan and to price it; nothing of it is stored.

import {
  GGML_BLOCK,
  GGML_TYPE,
  type GgmlTypeName,
  type MetaValue,
  type ModelImage,
  type TensorInfo,
} from '../../kernel/abi/index.ts';
import type { Rig } from '../harness.ts';

export interface LlamaShape {
  readonly width: number;
  readonly layers: number;
  readonly heads: number;
  readonly headsKv: number;
  readonly feedForward: number;
  readonly vocabulary: number;
  readonly context: number;
  readonly type: GgmlTypeName; // of matrices; one in groups of four rows: the file is prelinked
  readonly untied?: boolean; // the output has a matrix of its own
}

/** In the order in which the plan goes over them; in a prelinked file norms come before all matrices. `fileAt`: where the data begin. */
export function shapeImage(rig: Rig, s: LlamaShape, fileAt = 0): ModelImage {
  const tensors: TensorInfo[] = [];
  const add = (name: string, type: GgmlTypeName, ...shape: number[]): void => {
    const [values, bytes] = GGML_BLOCK[type];
    const size = (shape.reduce((a, b) => a * b, 1) / values) * bytes;
    tensors.push({ name, type: GGML_TYPE[type], shape, fileAt, bytes: size });
    fileAt += Math.ceil(size / 32) * 32;
  };
  const kv = (s.width / s.heads) * s.headsKv;
  const layers = Array.from({ length: s.layers }, (_, i) => `blk.${i}`);
  const prelinked = s.type.endsWith('_R4');
  if (prelinked)
    for (const layer of layers)
      for (const norm of ['attn_norm', 'ffn_norm']) add(`${layer}.${norm}.weight`, 'F32', s.width);
  for (const layer of layers) {
    const norm = (name: string): void => (prelinked ? undefined : add(`${layer}.${name}.weight`, 'F32', s.width));
    const matrix = (name: string, k: number, rows: number): void => add(`${layer}.${name}.weight`, s.type, k, rows);
    norm('attn_norm');
    matrix('attn_q', s.width, s.width);
    matrix('attn_k', s.width, kv);
    matrix('attn_v', s.width, kv);
    matrix('attn_output', s.width, s.width);
    norm('ffn_norm');
    matrix('ffn_gate', s.width, s.feedForward);
    matrix('ffn_up', s.width, s.feedForward);
    matrix('ffn_down', s.feedForward, s.width);
  }
  add('output_norm.weight', 'F32', s.width);
  add('token_embd.weight', s.type, s.width, s.vocabulary);
  if (s.untied === true) add('output.weight', s.type, s.width, s.vocabulary);
  const meta = new Map<string, MetaValue>([
    ['general.architecture', 'llama'],
    ['llama.context_length', s.context],
    ['llama.embedding_length', s.width],
    ['llama.block_count', s.layers],
    ['llama.feed_forward_length', s.feedForward],
    ['llama.attention.head_count', s.heads],
    ['llama.attention.head_count_kv', s.headsKv],
    ['llama.attention.layer_norm_rms_epsilon', 1e-5],
    ['llama.rope.dimension_count', s.width / s.heads],
  ]);
  const read = (_fileAt: number, arenaAt: number, length: number): number => {
    rig.arena.u8.fill(0, arenaAt, arenaAt + length);
    return length;
  };
  return {
    path: 'shape',
    fileBytes: fileAt,
    version: 3,
    architecture: 'llama',
    keys: [...meta.keys()],
    meta: key => meta.get(key),
    typeOf: key => (key === 'general.architecture' ? 8 : key.endsWith('epsilon') ? 6 : 4),
    tensors,
    tensor: name => tensors.find(t => t.name === name),
    read,
    dmaAt: 0,
    dmaBytes: 0,
  };
}
