// Which of a model's weights stay in the arena and which come through it tile by tile; and the stream region: a ring of buffers, a place
// for a tile in the kernels' layout where the file has another, and room for the rows that tokens and positions name. The same sums give
// the budget and the places. Vectors stay, and so do matrices that are kept in another type than the file's.

import { isGrouped, isRefusal, refuse } from '../../../kernel/abi/index.ts';
import type { Gather, Refusal } from '../../../kernel/abi/index.ts';
import { alignUp, Cursor } from '../memory.ts';
import { GROUP, Op } from '../ops.ts';
import type { Operands, Place, PlanSink, StreamFacts } from '../plan.ts';
import { needsRepack } from '../sizes.ts';
import { cutTiles, spreadPins } from '../tiles.ts';
import type { Matrix, Tile } from '../tiles.ts';
import type { BoundTensor } from './architecture.ts';
import { compile, layOutScratch } from './compile.ts';
import type { GatheredRows, Model, PlacedPart, PlacedTensor, Weights } from './compile.ts';

/** What of a model streams, before any of it has a place. */
export interface Streaming {
  /** Names of the tensors that are not in the arena. */
  readonly tensors: ReadonlySet<string>;
  readonly body: readonly Tile[];
  readonly head: readonly Tile[];
  readonly gathered: readonly GatheredMatrix[];
  readonly pinnedBytes: number;
}

/** A matrix of which rows are read singly. */
interface GatheredMatrix {
  readonly name: string;
  readonly gather: Omit<Gather, 'toAt'>;
}

/** Matrices of which only rows are read, beside products with them; and what names the rows. */
const BY_ROWS = { 'token_embd.weight': 'token', 'position_embd.weight': 'position' } as const;

/** null: all of the model stays. */
export function streaming(model: Model<BoundTensor>): Streaming | Refusal | null {
  const { tileBytes, buffers, pinBytes } = model.options;
  if (tileBytes === 0) return null;
  if (buffers < 2)
    return refuse('INVAL', 7001, `buffers ${buffers} asked: one tile is read while another computes, so 2 at least`);
  const order = programOrder(model);
  // In the order of use: matrices that are read by the row alone are the last to be worth their room.
  const could = new Map<string, BoundTensor>();
  for (const name of [...[...order.body, ...order.head].map(m => m.name), ...Object.keys(BY_ROWS)]) {
    const t = model.tensors.get(name);
    if (t !== undefined && canStream(t)) could.set(name, t);
  }
  const pinned = spreadPins(
    [...could].map(([name, t]) => ({ name, bytes: alignUp(t.info.bytes) })),
    pinBytes,
  );
  const tensors = new Set([...could.keys()].filter(name => !pinned.has(name)));
  const [body, head] = [order.body, order.head].map(matrices =>
    cutTiles(
      matrices.filter(m => tensors.has(m.name)),
      tileBytes,
      buffers,
    ),
  ) as [readonly Tile[] | Refusal, readonly Tile[] | Refusal];
  if (isRefusal(body)) return body;
  if (isRefusal(head)) return head;
  const pinnedBytes = [...pinned].reduce((sum, name) => sum + could.get(name)!.info.bytes, 0);
  return { tensors, body, head, gathered: gatheredOf(model, tensors), pinnedBytes };
}

/** A matrix that the kernels take as the file has it, or after a REPACK. */
function canStream({ info, type, rows }: BoundTensor): boolean {
  return info.shape.length > 1 && rows > 1 && (type === info.type || isGrouped(info.type));
}

function gatheredOf({ tensors }: Model<BoundTensor>, streamed: ReadonlySet<string>): GatheredMatrix[] {
  return Object.entries(BY_ROWS).flatMap(([name, by]) => {
    const t = tensors.get(name);
    if (t === undefined || !streamed.has(name)) return [];
    const { info, rows } = t;
    const unitRows = isGrouped(info.type) ? GROUP : 1;
    const unitBytes = (info.bytes / rows) * unitRows;
    return [{ name, gather: { by, tensor: info.name, fileAt: info.fileAt, unitBytes, unitRows, rows } }];
  });
}

const nowhere = (t: BoundTensor): PlacedTensor => ({ ...t, at: 0, bytes: 0 });

/** The matrices of body and head as the program goes over them: those of its products. */
function programOrder(model: Model<BoundTensor>): Record<'body' | 'head', readonly Matrix[]> {
  const tensors = new Map([...model.tensors].map(([name, t]) => [name, nowhere(t)]));
  const sink = new ProductOrder(model.tensors);
  const scratch = layOutScratch(model, 0);
  compile(
    { ...model, tensors, parts: new Map(), gathered: new Map(), pairs: new Map() },
    scratch,
    { name: 'frequencies', at: 0 },
    sink,
  );
  return sink.found;
}

/** Takes no ops but the matrices of products. */
class ProductOrder implements PlanSink {
  readonly found: Record<'body' | 'head', Matrix[]> = { body: [], head: [] };
  private current: Matrix[] = [];
  private currentLayer = -1;

  constructor(private readonly tensors: ReadonlyMap<string, BoundTensor>) {}

  segment(name: string): number {
    this.current = name === 'body' ? this.found.body : this.found.head;
    return 0;
  }

  layer(index: number): void {
    this.currentLayer = index;
  }

  tile(): void {}

  emit<O extends Op>(op: O, operands: Operands<O>): void {
    if (op !== Op.MUL_MAT) return;
    const { name } = (operands as Operands<Op.MUL_MAT>).weightsAt as Place;
    const { info, rows } = this.tensors.get(name)!;
    const rowBytes = info.bytes / rows;
    this.current.push({ name, layer: this.currentLayer, fileAt: info.fileAt, rows, rowBytes });
  }
}

// ── Places ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The stream region, laid out. */
export interface StreamPlaces extends Pick<Weights, 'parts' | 'gathered'> {
  readonly facts: StreamFacts;
  readonly bytes: number;
}

const largest = (numbers: readonly number[]): number => numbers.reduce((a, b) => Math.max(a, b), 0);
const bytesOf = (tiles: readonly Tile[]): number => tiles.reduce((sum, tile) => sum + tile.bytes, 0);

/** Lays the stream region out from `at` on: buffers, the place for a repacked tile, gathered rows. */
export function placeStream({ tensors, options }: Model<BoundTensor>, s: Streaming, at: number): StreamPlaces {
  const c = new Cursor(at);
  const tiles = [...s.body, ...s.head];
  const bufferBytes = largest(tiles.map(tile => tile.bytes));
  const ring = Array.from({ length: options.buffers }, (_, i) => c.take(`buffer ${i}`, bufferBytes));
  const toRepack = ({ name }: Matrix): boolean => needsRepack(tensors.get(name)!.info.type);
  const repacked = tiles.flatMap(tile => tile.parts.filter(part => toRepack(part.matrix)));
  const packed = c.take('packed', largest(repacked.map(({ matrix, rows }) => rows * matrix.rowBytes)));

  const index = new Map([...tensors.keys()].map((name, i) => [name, i]));
  const parts = new Map<string, PlacedPart[]>();
  for (const segment of [s.body, s.head])
    segment.forEach((tile, i) => {
      const buffer = i % ring.length;
      const bufferAt = ring[buffer]!.at;
      for (const part of tile.parts) {
        const { matrix, row, rows, offset } = part;
        const isFirst = part === tile.parts[0];
        const read = isFirst ? { tile, bufferAt, buffer, tensor: index.get(matrix.name)! } : null;
        const placed = parts.get(matrix.name) ?? [];
        placed.push({ row, rows, at: bufferAt + offset, read, packed: toRepack(matrix) ? packed : null });
        parts.set(matrix.name, placed);
      }
    });

  const gathers: Gather[] = [];
  const gathered = new Map<string, GatheredRows>();
  for (const { name, gather } of s.gathered) {
    const { unitBytes, unitRows } = gather;
    const place = c.take(name, options.batch * unitBytes);
    gathers.push({ ...gather, toAt: place.at });
    gathered.set(name, { ...place, unitBytes, unitRows });
  }
  const facts = { gathers, bodyBytes: bytesOf(s.body), headBytes: bytesOf(s.head), pinnedBytes: s.pinnedBytes };
  return { parts, gathered, facts, bytes: c.bytes() };
}
