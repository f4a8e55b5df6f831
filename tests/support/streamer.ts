// The kernel's part in a streamed plan, at its hardest: each tile is read into its buffer as early as the plan allows, for as many segments to
// come as are known, and the buffer is spoilt as soon as the plan says that nobody needs it. A tile that is read too early, or used too late,
// shows in the logits.

import { PieceRecord, RowRecord } from '../../kernel/abi/index.ts';
import type { Dma, Engine, ModelImage, StreamProgram, TensorInfo } from '../../kernel/abi/index.ts';
import { GROUP, TYPE_Q4_0, TYPE_Q4_0_R4 } from '../../drivers/engine/ops.ts';
import { needsRepack } from '../../drivers/engine/sizes.ts';
import { accepted } from '../harness.ts';
import type { Rig } from '../harness.ts';

const INTERLEAVED = TYPE_Q4_0_R4 - TYPE_Q4_0;

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
    const { draws } = engine.options;
    this.expect(sizes.flatMap(n => ['body' as const, ...Array<'head'>(Math.ceil(n / draws)).fill('head')]));
    const found: Float32Array[] = [];
    let pos = 0;
    for (const n of sizes) {
      rig.put(
        engine,
        ids.slice(pos, pos + n).map((id, i) => ({ slot: 0, pos: pos + i, id })),
      );
      this.run('body');
      for (let row = 0; row < n; row += draws) {
        const picks = Array.from({ length: Math.min(draws, n - row) }, (_, i) => row + i);
        rig.pick(picks);
        this.run('head');
        found.push(...rig.picked(engine, picks));
      }
      pos += n;
    }
    return found;
  }
}

/** A file as prelinking leaves its matrices, in their old places: bytes, and the image whose tensors say so. */
export function interleaved(rig: Rig, file: Uint8Array): { readonly file: Uint8Array; readonly image: ModelImage } {
  const out = file.slice();
  const { u8 } = rig.arena;
  const [fromAt, toAt] = [1 << 20, 1 << 22];
  const image = accepted(rig.image(out));
  const tensors = image.tensors.map(t => {
    const [k = 1, rows = 1] = t.shape;
    if (!needsRepack(t.type) || rows < GROUP) return t;
    if (t.bytes > toAt - fromAt) throw new Error(`${t.name} is too large`);
    u8.set(file.subarray(t.fileAt, t.fileAt + t.bytes), fromAt);
    if (rig.compute.repack(t.type, fromAt, rows, k, toAt) !== 0) throw new Error(`${t.name} is not finite`);
    out.set(u8.subarray(toAt, toAt + t.bytes), t.fileAt);
    return { ...t, type: t.type + INTERLEAVED };
  });
  const tensor = (name: string): TensorInfo | undefined => tensors.find(t => t.name === name);
  const { path, fileBytes, version, architecture, keys, read, dmaAt, dmaBytes } = image;
  const [meta, typeOf] = [(key: string) => image.meta(key), (key: string) => image.typeOf(key)];
  return {
    file: out,
    image: { path, fileBytes, version, architecture, keys, meta, typeOf, tensors, tensor, read, dmaAt, dmaBytes },
  };
}
