// The kernel's part in a streamed plan, at its hardest: each tile is read into its buffer as early as the plan allows, for as many segments to
// come as are known, and the buffer is spoilt as soon as the plan says that nobody needs it. A tile that is read too early, or used too late,
// shows in the logits.

import { PieceRecord, RowRecord } from '../../kernel/abi/index.ts';
import type { Dma, Engine, StreamProgram } from '../../kernel/abi/index.ts';
import { needsRepack } from '../../drivers/engine/sizes.ts';
import type { Rig } from '../harness.ts';
import { walkGguf } from '../reference/gguf-walk.ts';

export type SegmentName = 'body' | 'head';
export type Piece = ReturnType<typeof PieceRecord.read>;

/** The pieces of a segment, as the kernel reads them from the plan at `u8`, whose first byte is arena offset `originAt`. */
export function piecesOf(u8: Uint8Array, program: StreamProgram, segment: SegmentName, originAt = 0): Piece[] {
  const [at, n] =
    segment === 'body' ? [program.bodyPiecesAt, program.bodyPieces] : [program.headPiecesAt, program.headPieces];
  return Array.from({ length: n }, (_, i) => PieceRecord.read(u8, at - originAt + i * PieceRecord.bytes));
}

export class Streamer {
  readonly #pieces: Readonly<Record<SegmentName, readonly Piece[]>>;
  readonly #inBuffer = new Map<number, Piece>(); // by the buffer's address
  #ahead: Piece[] = []; // tiles to be read, in order
  #segments: SegmentName[] = []; // to come, the first being the next to run
  bytesRead = 0;

  constructor(
    readonly rig: Rig,
    readonly engine: Engine,
    readonly read: Dma,
  ) {
    const { stream } = engine;
    if (stream === null) throw new Error('nothing streams');
    this.#pieces = {
      body: piecesOf(rig.arena.u8, stream, 'body'),
      head: piecesOf(rig.arena.u8, stream, 'head'),
    };
  }

  /** What will run: tiles are read ahead for it. */
  expect(segments: readonly SegmentName[]): void {
    this.#segments.push(...segments);
    for (const s of segments) this.#ahead.push(...this.#pieces[s].filter(p => p.bytes > 0));
    this.#fetch();
  }

  #transfer(fileAt: number, at: number, bytes: number): void {
    if (this.read(fileAt, at, bytes) !== bytes) throw new Error(`${bytes} bytes at ${fileAt} are not in the file`);
    this.bytesRead += bytes;
  }

  /** Reads tiles in order while their buffers are free. */
  #fetch(): void {
    for (;;) {
      const [next] = this.#ahead;
      if (next === undefined || this.#inBuffer.has(next.bufferAt)) return;
      this.#transfer(next.fileAt, next.bufferAt, next.bytes);
      this.#inBuffer.set(next.bufferAt, next);
      this.#ahead.shift();
    }
  }

  /** Runs the next segment, which must be this one. */
  run(segment: SegmentName): void {
    if (this.#segments.shift() !== segment) throw new Error(`${segment} was not expected`);
    if (segment === 'body') this.#gather();
    for (const piece of this.#pieces[segment]) {
      if (piece.bytes > 0 && this.#inBuffer.get(piece.bufferAt) !== piece)
        throw new Error(`the tile at ${piece.fileAt} cannot be in its buffer`);
      this.rig.run(piece.opAt);
      if (piece.bytes === 0) continue;
      this.rig.arena.u8.fill(0xff, piece.bufferAt, piece.bufferAt + piece.bytes);
      this.#inBuffer.delete(piece.bufferAt);
      this.#fetch();
    }
  }

  #gather(): void {
    const [rowsAt, n] = [this.rig.get('rowsAt'), this.rig.get('n')];
    for (const g of this.engine.stream!.gathers) {
      const units = Math.ceil(g.rows / g.unitRows);
      for (let r = 0; r < n; r++) {
        const row = RowRecord.read(this.rig.arena.u8, rowsAt + r * RowRecord.bytes);
        const unit = Math.floor((g.by === 'token' ? row.token : row.pos) / g.unitRows);
        const rows = Math.min(g.unitRows, g.rows - unit * g.unitRows);
        const bytes = (g.unitBytes / g.unitRows) * rows;
        if (unit < units) this.#transfer(g.fileAt + unit * g.unitBytes, g.toAt + r * g.unitBytes, bytes);
      }
    }
  }

  /** Logits after every one of `ids`, in batches: as Rig.logits. */
  logits(ids: readonly number[], batch: number): Float32Array[] {
    const { rig, engine } = this;
    const sizes = Array.from({ length: Math.ceil(ids.length / batch) }, (_, i) =>
      Math.min(batch, ids.length - i * batch),
    );
    this.expect(sizes.flatMap(n => ['body' as const, ...Array<'head'>(n).fill('head')]));
    const found: Float32Array[] = [];
    let pos = 0;
    for (const n of sizes) {
      rig.put(
        engine,
        ids.slice(pos, pos + n).map((id, i) => ({ slot: 0, pos: pos + i, id })),
      );
      this.run('body');
      for (let row = 0; row < n; row++) {
        rig.set('row', row);
        this.run('head');
        found.push(rig.arena.f32.slice(engine.logitsAt >> 2, (engine.logitsAt >> 2) + engine.vocabulary.count));
      }
      pos += n;
    }
    return found;
  }
}

/** The file with its grouped matrices as a prelinked one has them: the same places, the kernels' layout, the types that say so. */
export function interleaved(rig: Rig, file: Uint8Array): Uint8Array {
  const out = file.slice();
  const view = new DataView(out.buffer);
  const { u8 } = rig.arena;
  for (const { name, ne, type, at, typeAt } of walkGguf(file)) {
    const [k = 1, rows = 1] = ne;
    if (!needsRepack(type) || ne.length < 2) continue;
    const bytes = rows * (k / 32) * ({ 2: 18, 3: 20, 8: 34 } as Record<number, number>)[type]!;
    const [from, to] = [1 << 20, 1 << 22];
    if (bytes > to - from) throw new Error(`${name} is too large`);
    u8.set(file.subarray(at, at + bytes), from);
    if (rig.compute.repack(type, from, rows, k, to) !== 0) throw new Error(`${name} is not finite`);
    out.set(u8.subarray(to, to + bytes), at);
    view.setUint32(typeAt, 1000 + type, true);
  }
  return out;
}
