// Models of bench/large.mjs for the reference forward pass: made by the generator, which says what rows it kept; these are read out of the
// file, wherever in it they lie, by offsets from an independent walk over its header. All others are holes, and count as zero.

import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readSync } from 'node:fs';
import process from 'node:process';
import { GGML_TYPE } from '../../kernel/abi/index.ts';
import { walkGguf, type WalkedTensor } from './gguf-walk.ts';
import { bytesOf, dequantize, f16ToF32 } from './kernels.ts';
import type { ArchitectureName, Config, RandomModel, Weight } from './models.ts';

interface Shape {
  readonly architecture?: ArchitectureName;
  readonly width: number;
  readonly layers: number;
  readonly heads: number;
  readonly headsKv: number;
  readonly feedForward: number;
  readonly vocabulary: number;
  readonly context: number;
  readonly ropeBase?: number;
  readonly untied?: boolean;
  readonly biases?: boolean;
}

/** A file of the generator. `kept`: rows that are not zero, of each matrix that has others. */
export interface Large {
  readonly file: string;
  readonly shape: Shape;
  readonly kept: Readonly<Record<string, readonly number[]>>;
}

/** The model of that name, made where it is missing; with the tokenizer of another file, or one made up. */
export function large(name: string, vocabulary?: string): Large {
  const given = vocabulary === undefined ? [name] : [name, vocabulary];
  const { stdout, stderr, status } = spawnSync(process.execPath, ['bench/large.mjs', ...given], {
    encoding: 'utf8',
    maxBuffer: 1 << 24,
  });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}

const HEADER_BYTES = 16 << 20;

/** Reads a file too large for one buffer by position. */
export class Tensors {
  readonly byName: ReadonlyMap<string, WalkedTensor>;
  private readonly fd: number;

  constructor(file: string) {
    this.fd = openSync(file, 'r');
    const header = this.bytes(0, HEADER_BYTES);
    this.byName = new Map(walkGguf(header).map(t => [t.name, t]));
  }

  bytes(position: number, length: number): Uint8Array {
    const buffer = new Uint8Array(length);
    return buffer.subarray(0, readSync(this.fd, buffer, 0, length, position));
  }

  /** Row `row` of a tensor as it is stored. */
  row(name: string, row: number): Uint8Array {
    const { type, ne, at } = this.byName.get(name)!;
    const n = bytesOf(type, ne[0]!);
    return this.bytes(at + row * n, n);
  }

  /** The rows `index` as numbers; without it all. */
  weight(name: string, index?: readonly number[]): Weight {
    const { type, ne } = this.byName.get(name)!;
    const [k, rows = 1] = ne as readonly [number, number?];
    const taken = index ?? Array.from({ length: rows }, (_, i) => i);
    const values = new Float64Array(k * taken.length);
    const minima = type === GGML_TYPE.Q4_1 ? new Float64Array((k / 32) * taken.length) : null;
    taken.forEach((row, i) => {
      const bytes = this.row(name, row);
      values.set(dequantize(type, bytes, 0, k), i * k);
      if (minima === null) return;
      for (let b = 0; b < k / 32; b++)
        minima[(i * k) / 32 + b] = f16ToF32(bytes[20 * b + 2]! | (bytes[20 * b + 3]! << 8));
    });
    return { type, k, rows, ...(index === undefined ? {} : { index }), values, minima };
  }

  close(): void {
    closeSync(this.fd);
  }
}

/** What Forward takes. Of the embeddings only the rows `ids` are read: a tied output has logits of these alone. */
export function referenceModel({ file, shape, kept }: Large, ids: readonly number[]): RandomModel {
  const tensors = new Tensors(file);
  const weights = new Map<string, Weight>();
  const named = [...new Set(ids)].sort((a, b) => a - b);
  for (const name of tensors.byName.keys())
    weights.set(name, tensors.weight(name, name === 'token_embd.weight' ? named : kept[name]));
  tensors.close();
  const headSize = shape.width / shape.heads;
  const config: Config = {
    architecture: shape.architecture ?? 'llama',
    layers: shape.layers,
    heads: shape.heads,
    headsKv: shape.headsKv,
    headSize,
    embedding: shape.width,
    feedForward: shape.feedForward,
    vocabulary: shape.vocabulary,
    context: shape.context,
    epsilon: Math.fround(1e-5),
    ropeDimensions: headSize,
    ropeBase: shape.ropeBase ?? 10000,
    learnedPositions: false,
    tied: shape.untied !== true,
    biases: shape.biases === true,
    fusedQkv: false,
    types: name => weights.get(name)!.type,
    vectorType: GGML_TYPE.F32,
  };
  return { config, file: new Uint8Array(0), weights };
}
