// Which of a model's weights stay in the arena and which come through it tile by tile; and the stream region: a ring of buffers, a place
// for a tile in the kernels' layout where the file has another, and room for the rows that tokens and positions name. The same sums give
// the budget and the places. Vectors stay, and so do matrices that are kept in another type than the file's.

import { isRefusal, refuse } from '../../../kernel/abi/index.ts';
import type { Gather, Refusal } from '../../../kernel/abi/index.ts';
import { alignUp, Cursor } from '../memory.ts';
import { GROUP, Op } from '../ops.ts';
import type { Place, PlanSink, StreamFacts, TileRead } from '../plan.ts';
import { isInterleaved, matrixType, needsRepack } from '../sizes.ts';
import { cutTiles, spreadPins } from '../tiles.ts';
import type { Matrix, Tile } from '../tiles.ts';
import type { BoundTensor } from './architecture.ts';
import { compile, layOutScratch } from './compile.ts';
import type { GatheredRows, Model, PlacedPart, Weights } from './compile.ts';

/** What of a model streams, before any of it has a place. */
export interface Streaming {
  /** Names of the tensors that are not in the arena. */
  readonly tensors: ReadonlySet<string>;
  readonly body: readonly Tile[];
  readonly head: readonly Tile[];
  readonly gathered: readonly (Omit<Gather, 'toAt'> & { readonly name: string })[];
  readonly pinnedBytes: number;
}

/** A matrix of which rows are read by name, and what names them. */
const GATHERED = { 'token_embd.weight': 'token', 'position_embd.weight': 'position' } as const;

/** null: all of the model stays. */
export function streaming(model: Model<BoundTensor>): Streaming | Refusal | null {
  const { tileBytes, buffers, pinBytes } = model.options;
  if (tileBytes === 0) return null;
  if (buffers < 2)
    return refuse('INVAL', 7001, `${buffers} buffers: a tile is read while another computes, so it takes 2`);
  const order = programOrder(model);
  const could = new Map<string, BoundTensor>();
  for (const name of [...order.body, ...order.head, ...Object.keys(GATHERED)].map(m =>
    typeof m === 'string' ? m : m.name,
  )) {
    const t = model.tensors.get(name);
    if (t !== undefined && canStream(t)) could.set(name, t);
  }
  const pinned = spreadPins(
    [...could].map(([name, t]) => ({ name, bytes: alignUp(t.info.bytes) })),
    pinBytes,
  );
  const streams = ({ name }: { readonly name: string }): boolean => could.has(name) && !pinned.has(name);
  const body = cutTiles(order.body.filter(streams), tileBytes, buffers);
  if (isRefusal(body)) return body;
  const head = cutTiles(order.head.filter(streams), tileBytes, buffers);
  if (isRefusal(head)) return head;
  const gathered = Object.entries(GATHERED).flatMap(([name, by]) => {
    const t = could.get(name);
    if (t === undefined || pinned.has(name)) return [];
    const unitRows = isInterleaved(t.info.type) ? GROUP : 1;
    const { info, rows } = t;
    const unitBytes = (info.bytes / rows) * unitRows;
    return [{ name, by, tensor: info.name, fileAt: info.fileAt, unitBytes, unitRows, rows }];
  });
  return {
    tensors: new Set([...could.keys()].filter(name => !pinned.has(name))),
    body,
    head,
    gathered,
    pinnedBytes: [...pinned].reduce((sum, name) => sum + (could.get(name)?.info.bytes ?? 0), 0),
  };
}

/** A matrix that the kernels can take as the file has it, or after a REPACK. */
function canStream({ info, type, rows }: BoundTensor): boolean {
  return (
    info.shape.length > 1 &&
    rows > 1 &&
    (type === info.type || isInterleaved(info.type)) &&
    matrixType(info.type) === type
  );
}

/** The matrices of body and head as the program goes over them: those of the products, as the compiler emits them. */
function programOrder(model: Model<BoundTensor>): Readonly<Record<'body' | 'head', readonly Matrix[]>> {
  const nowhere = (t: BoundTensor): BoundTensor & Place & { bytes: number } => ({ ...t, at: 0, bytes: 0 });
  const weights: Weights = {
    tensors: new Map([...model.tensors].map(([name, t]) => [name, nowhere(t)])),
    parts: new Map(),
    gathered: new Map(),
  };
  const found: Record<string, Matrix[]> = { body: [], head: [] };
  let [segment, layer] = ['', -1];
  const sink: PlanSink = {
    segment: name => {
      segment = name;
      return 0;
    },
    layer: index => void (layer = index),
    tile: () => {},
    emit: (op, operands) => {
      if (op !== Op.MUL_MAT) return;
      const { name } = (operands as unknown as { readonly weightsAt: Place }).weightsAt;
      const { info, rows } = model.tensors.get(name)!;
      found[segment]?.push({ name, layer, fileAt: info.fileAt, rows, rowBytes: info.bytes / rows });
    },
  };
  compile({ ...model, ...weights }, layOutScratch(model, 0), { name: 'frequencies', at: 0 }, sink);
  return found as Record<'body' | 'head', Matrix[]>;
}

/** The stream region, laid out. */
export interface StreamPlaces extends Pick<Weights, 'parts' | 'gathered'> {
  readonly facts: StreamFacts;
  readonly bytes: number;
}

const largest = (numbers: readonly number[]): number => numbers.reduce((a, b) => Math.max(a, b), 0);

/** Lays the stream region out from `at` on: buffers, the place for a repacked tile, gathered rows. */
export function placeStream({ tensors, options }: Model<BoundTensor>, s: Streaming, at: number): StreamPlaces {
  const c = new Cursor(at);
  const tiles = [...s.body, ...s.head];
  const bufferBytes = largest(tiles.map(tile => tile.bytes));
  const ring = Array.from({ length: options.buffers }, (_, i) => c.take(`tile ${i}`, bufferBytes));
  const repacked = ({ name }: Matrix): boolean => needsRepack(tensors.get(name)!.info.type);
  const packedBytes = tiles.flatMap(({ parts }) =>
    parts.filter(p => repacked(p.matrix)).map(({ matrix, rows }) => rows * matrix.rowBytes),
  );
  const packed = c.take('packed', largest(packedBytes));

  const index = new Map([...tensors.keys()].map((name, i) => [name, i]));
  const parts = new Map<string, PlacedPart[]>();
  for (const segment of [s.body, s.head])
    segment.forEach((tile, i) => {
      const buffer = i % ring.length;
      const bufferAt = ring[buffer]!.at;
      const named = tile.parts.map(({ matrix, row, rows }) => ({ name: matrix.name, row, rows }));
      const tensor = index.get(named[0]!.name)!;
      const read: TileRead = { bufferAt, buffer, bytes: tile.bytes, fileAt: tile.fileAt, tensor, parts: named };
      tile.parts.forEach(({ matrix, row, rows, offset }, n) => {
        const known = parts.get(matrix.name) ?? [];
        parts.set(matrix.name, known);
        const place = { at: bufferAt + offset, packed: repacked(matrix) ? packed : null };
        known.push({ row, rows, ...place, read: n === 0 ? read : null });
      });
    });

  const gathers: Gather[] = [];
  const gathered = new Map<string, GatheredRows>();
  for (const { name, ...gather } of s.gathered) {
    const { at: toAt } = c.take(name, options.batch * gather.unitBytes);
    gathers.push({ ...gather, toAt });
    gathered.set(name, { name, at: toAt, unitBytes: gather.unitBytes, unitRows: gather.unitRows });
  }
  const bytesOf = (segment: readonly Tile[]): number => segment.reduce((sum, tile) => sum + tile.bytes, 0);
  const facts = { gathers, bodyBytes: bytesOf(s.body), headBytes: bytesOf(s.head), pinnedBytes: s.pinnedBytes };
  return { parts, gathered, facts, bytes: c.bytes() };
}
