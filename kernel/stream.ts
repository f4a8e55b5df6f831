// Streams: the weights of a model larger than the arena come from its disk while it computes. A segment falls apart into pieces; the read of a
// tile is submitted when its buffer falls free, awaited when its piece is next (the clock jumps: a stall), and its bytes are moved just
// before they are used. The order of reads is known, so that reading goes on across segments and passes: the body's tiles, the head's for
// each group of draws, the next body's. After the double buffering of out-of-core solvers, with the disk's queue in the place of a second thread.

import {
  E,
  FAULT,
  PieceRecord,
  RowRecord,
  STREAM_FIGURES,
  StepBlock,
  bytesOfUnit,
  type Gather,
  type StreamProgram,
} from './abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import type { Arena } from './arena.ts';
import type { Clock } from './clock.ts';
import type { Disk } from './disks.ts';
import type { Layout } from './layout.ts';
import { panic } from './panic.ts';

const piece = PieceRecord.at;
const step = StepBlock.at;

/** Where weights come from. */
export interface WeightSource {
  readonly file: OpenFile;
  readonly disk: Pick<Disk, 'name' | 'submit' | 'complaint'>; // that it lies on
}

/** What was streamed since the model was loaded. */
type Figures = Record<Exclude<(typeof STREAM_FIGURES)[number], 'waiting' | 'overlappedPpm'>, number>;

const nothing = (): Figures => ({
  reads: 0,
  bytes: 0,
  gathers: 0,
  gatherBytes: 0,
  stalls: 0,
  stallCycles: 0,
  diskCycles: 0,
  errors: 0,
  dropped: 0,
});

/**
 * The tiles of one model on their way. A *run* is one execution of a segment: runs are counted on, a pass being the run of its body and one of
 * the head for each group of draws. Reads are submitted in the order of runs and pieces, no further than the body behind the present pass.
 */
export class Streams {
  private figures = nothing();
  private program: StreamProgram | null = null;
  private source: WeightSource | null = null;
  /** Buffers by number: where each lies, and 1 while a tile is in it or on its way. */
  private buffersAt = new Int32Array(0);
  private taken = new Uint8Array(0);
  /** Reads submitted and not used up yet, a ring with the oldest at `first`: PieceRecord, run, end in cycles, status. */
  private pieceAt = new Int32Array(0);
  private runOf = new Int32Array(0);
  private doneAt = new Float64Array(0);
  private status = new Int32Array(0);
  private first = 0;
  private count = 0;
  /** The next read to submit. */
  private nextRun = 0;
  private nextPiece = 0;
  /** The run of the present, or the next, pass's body; that of the body behind it, while a pass runs; the one that runs. */
  private bodyRun = 0;
  private lastRun = 0;
  private run = 0;
  /** Of that run the piece that is next, how many there are from it on, and whether a tile's is under way. */
  private nextAt = 0;
  private left = 0;
  private isInTile = false;
  /** Until when the disk is busy with what was submitted here. */
  private busyUntil = 0;
  /** Whether one of this pass has failed, and the last that did. */
  private failed = false;
  private failedAt = 0;
  private failedBytes = 0;
  private failedStatus = 0;

  constructor(
    private readonly arena: Arena,
    private readonly lay: Layout,
    private readonly clock: Clock,
  ) {}

  get isStreaming(): boolean {
    return this.program !== null;
  }

  /** A plan has been loaded; what was on its way for another one was drained. */
  attach(program: StreamProgram, source: WeightSource): void {
    this.program = program;
    this.source = source;
    this.figures = nothing();
    const found = new Set<number>();
    this.eachTile((at, bytes) => {
      if (bytes > 0) found.add(this.word(at + piece.bufferAt));
    });
    this.buffersAt = Int32Array.from([...found].sort((a, b) => a - b));
    const n = this.buffersAt.length;
    this.taken = new Uint8Array(n);
    this.pieceAt = new Int32Array(n);
    this.runOf = new Int32Array(n);
    this.doneAt = new Float64Array(n);
    this.status = new Int32Array(n);
    this.restart();
  }

  /** The model is unloaded, or another one comes: nothing may be moved into its buffers any more. */
  detach(): void {
    this.drain();
    this.program = null;
    this.source = null;
  }

  /** Waits for all that is on its way, and forgets it. */
  drain(): void {
    let until = 0;
    for (let i = 0; i < this.count; i++) until = Math.max(until, this.doneAt[this.at(i)]!);
    this.figures.dropped += this.count;
    this.await(until);
    this.restart();
  }

  // ── A pass ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A pass begins, and will run its head so many times. */
  begin(heads: number): void {
    this.lastRun = this.bodyRun + heads + 1;
    this.run = this.bodyRun;
    this.failed = false;
  }

  /** hot: the body over `rows` rows of the pass begins. Returns a FAULT; StepBlock.failed: the row that it is about. */
  body(rows: number): number {
    const { bodyPiecesAt, bodyPieces } = this.current();
    this.beginRun(bodyPiecesAt, bodyPieces);
    const fault = this.gather(rows);
    this.submit();
    return fault;
  }

  /** hot: the head begins once more. */
  head(): void {
    const { headPiecesAt, headPieces } = this.current();
    this.run++;
    if (this.run >= this.lastRun)
      panic(`the head runs more often than was said, ${this.lastRun - this.bodyRun - 1} times`);
    this.beginRun(headPiecesAt, headPieces);
  }

  /**
   * hot: the next piece of the run: the one before has run, and its tile's buffer is free; its own tile is awaited and moved. Returns the arena
   * offset of its first op; 0: the run is over; -1: its tile could not be read, and StepBlock.failed says whose turn it is.
   */
  next(): number {
    if (this.isInTile) {
      this.release();
      this.submit();
    }
    if (this.left === 0) {
      this.isInTile = false;
      return 0;
    }
    const at = this.nextAt;
    this.isInTile = this.word(at + piece.bytes) !== 0;
    if (this.isInTile && !this.arrive(at)) return -1;
    this.nextAt = at + PieceRecord.bytes;
    this.left--;
    return this.word(at + piece.opAt);
  }

  /** The pass has ended, perhaps before it had run all that was said: what was read for that is waited for and forgotten. */
  end(): void {
    let until = 0;
    while (this.count > 0 && this.runOf[this.first]! < this.lastRun) {
      until = Math.max(until, this.doneAt[this.first]!);
      this.figures.dropped++;
      this.release();
    }
    this.await(until);
    this.bodyRun = this.lastRun;
    if (this.nextRun < this.bodyRun) {
      this.nextRun = this.bodyRun;
      this.nextPiece = 0;
    }
    if (!this.failed) this.submit(); // else nobody may be there to read for
  }

  /** Something that was read ahead has failed: it is to be drained before a pass begins, which asks for it again. */
  get hasFailed(): boolean {
    for (let i = 0; i < this.count; i++) if (this.status[this.at(i)] !== 0) return true;
    return false;
  }

  /** What failed last, as a sentence. */
  failure(): string {
    const { file, disk } = this.source ?? panic('nothing streams');
    return `${file.path}: ${disk.complaint(this.failedStatus, this.failedBytes, this.failedAt)}`;
  }

  /** /proc/stream: a line a figure. */
  text(): string {
    if (this.program === null) return '';
    const all = { ...this.figures, waiting: this.count, overlappedPpm: this.overlappedPpm() };
    return STREAM_FIGURES.map(name => `${name} ${all[name]}\n`).join('');
  }

  /** Of the time in which the disk was busy, the share in which nobody waited for it. */
  private overlappedPpm(): number {
    const { stallCycles, diskCycles } = this.figures;
    return diskCycles === 0 ? 0 : Math.floor((1e6 * Math.max(0, diskCycles - stallCycles)) / diskCycles);
  }

  // ── Pieces ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** hot: reads of this run that may begin do, before the first piece; those of later runs wait for rows that are read singly. */
  private beginRun(piecesAt: number, pieces: number): void {
    this.nextAt = piecesAt;
    this.left = pieces;
    this.isInTile = false;
    this.submit(this.run);
  }

  /** hot: rows of matrices that tokens and positions name, read one by one behind the first tiles. The first piece waits for all of them. */
  private gather(rows: number): number {
    const { gathers } = this.current();
    const { u32 } = this.arena;
    let until = 0;
    let failed = -1;
    for (let g = 0; g < gathers.length; g++) {
      const gather = gathers[g]!;
      for (let r = 0; r < rows; r++) {
        const unit = this.unitOf(gather, r);
        if (unit < 0) continue;
        const position = gather.fileAt + unit * gather.unitBytes;
        const bytes = bytesOfUnit(gather, unit);
        const status = this.read(position, bytes);
        until = Math.max(until, this.busyUntil);
        this.figures.gathers++;
        this.figures.gatherBytes += bytes;
        if (status !== 0 && failed < 0) failed = this.fail(position, bytes, status, r);
      }
    }
    this.await(until);
    for (let g = 0; g < gathers.length && failed < 0; g++) failed = this.moveRows(g, rows);
    if (failed < 0) return FAULT.none;
    u32[(this.lay.stepAt + step.failed) >> 2] = failed;
    return FAULT.io;
  }

  /** hot: the bytes of one gather's rows. Returns the row that could not be read, or -1. */
  private moveRows(g: number, rows: number): number {
    const gather = this.current().gathers[g]!;
    for (let r = 0; r < rows; r++) {
      const unit = this.unitOf(gather, r);
      if (unit < 0) continue;
      const position = gather.fileAt + unit * gather.unitBytes;
      const bytes = bytesOfUnit(gather, unit);
      const status = this.move(position, bytes, gather.toAt + r * gather.unitBytes);
      if (status !== 0) return this.fail(position, bytes, status, r);
    }
    return -1;
  }

  /** hot: the unit that row `r` of the pass names; -1: none, which is a fault of the op that wants it. */
  private unitOf({ by, unitRows, rows }: Gather, r: number): number {
    const field = by === 'token' ? RowRecord.at.token : RowRecord.at.pos;
    const name = this.arena.u32[(this.lay.rowsAt + r * RowRecord.bytes + field) >> 2]!;
    return name < rows ? Math.floor(name / unitRows) : -1;
  }

  /** hot: the tile of the piece at `at` is awaited and moved. False when it could not be read: whose turn it is bears it. */
  private arrive(at: number): boolean {
    const { first } = this;
    if (this.count === 0 || this.pieceAt[first] !== at || this.runOf[first] !== this.run)
      panic(`the tile at ${this.fileAt(at)} was not asked for in its turn`);
    this.await(this.doneAt[first]!);
    const bytes = this.word(at + piece.bytes);
    let status = this.status[first]!;
    if (status === 0) status = this.move(this.fileAt(at), bytes, this.word(at + piece.bufferAt));
    if (status === 0) return true;
    this.arena.u32[(this.lay.stepAt + step.failed) >> 2] = this.fail(this.fileAt(at), bytes, status, 0);
    return false;
  }

  // ── Reads ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** hot: submits reads up to a run, as long as the next one's buffer is free. */
  private submit(last = this.lastRun): void {
    const { bodyPiecesAt, bodyPieces, headPiecesAt, headPieces } = this.current();
    while (this.nextRun <= last) {
      const isBody = this.nextRun === this.bodyRun || this.nextRun === this.lastRun;
      if (this.nextPiece === (isBody ? bodyPieces : headPieces)) {
        this.nextRun++;
        this.nextPiece = 0;
        continue;
      }
      const at = (isBody ? bodyPiecesAt : headPiecesAt) + this.nextPiece * PieceRecord.bytes;
      const bytes = this.word(at + piece.bytes);
      if (bytes > 0) {
        const buffer = this.buffersAt.indexOf(this.word(at + piece.bufferAt));
        if (this.taken[buffer] === 1) return;
        this.taken[buffer] = 1;
        const i = this.at(this.count++);
        this.pieceAt[i] = at;
        this.runOf[i] = this.nextRun;
        this.status[i] = this.read(this.fileAt(at), bytes);
        this.doneAt[i] = this.busyUntil;
        this.figures.reads++;
        this.figures.bytes += bytes;
      }
      this.nextPiece++;
    }
  }

  /** hot: submits one read. Returns its status; it ends at `busyUntil`. */
  private read(position: number, bytes: number): number {
    const now = this.clock.cycles();
    const { doneAt, status } = this.source!.disk.submit(now, position, bytes);
    this.figures.diskCycles += Math.max(0, doneAt - Math.max(now, this.busyUntil));
    this.busyUntil = doneAt;
    if (status !== 0) this.figures.errors++;
    return status;
  }

  /** hot: the bytes themselves. Returns 0 or -errno; a file that has become shorter has no such bytes. */
  private move(position: number, bytes: number, to: number): number {
    const { file } = this.source!;
    for (let done = 0; done < bytes;) {
      const n = file.readAt(position + done, to + done, bytes - done);
      if (n <= 0) return n === 0 ? -E.IO : n;
      done += n;
    }
    return 0;
  }

  /** hot: the clock jumps to a read's end. */
  private await(until: number): void {
    const wait = until - this.clock.cycles();
    if (wait <= 0) return;
    this.clock.advance(wait, 'stalls');
    this.figures.stalls++;
    this.figures.stallCycles += wait;
  }

  /** hot: the oldest read is used up, and its buffer free. */
  private release(): void {
    this.taken[this.buffersAt.indexOf(this.word(this.pieceAt[this.first]! + piece.bufferAt))] = 0;
    this.first = this.at(1);
    this.count--;
  }

  /** Notes what failed; returns `row`. */
  private fail(position: number, bytes: number, status: number, row: number): number {
    this.failed = true;
    this.failedAt = position;
    this.failedBytes = bytes;
    this.failedStatus = status;
    return row;
  }

  /** Nothing is on its way; the next read is the first of a body. */
  private restart(): void {
    this.bodyRun = 0;
    this.lastRun = 0;
    this.run = 0;
    this.nextRun = 0;
    this.nextPiece = 0;
    this.first = 0;
    this.count = 0;
    this.taken.fill(0);
  }

  private eachTile(use: (at: number, bytes: number) => void): void {
    const { bodyPiecesAt, bodyPieces, headPiecesAt, headPieces } = this.current();
    for (const [at, count] of [
      [bodyPiecesAt, bodyPieces],
      [headPiecesAt, headPieces],
    ] as const)
      for (let p = 0; p < count; p++)
        use(at + p * PieceRecord.bytes, this.word(at + p * PieceRecord.bytes + piece.bytes));
  }

  private current(): StreamProgram {
    return this.program ?? panic('nothing streams');
  }

  /** hot: the ring's entry behind `i` older ones. */
  private at(i: number): number {
    const n = this.first + i;
    return n < this.doneAt.length ? n : n - this.doneAt.length;
  }
  private word(at: number): number {
    return this.arena.u32[at >> 2]!;
  }
  private fileAt(at: number): number {
    return this.word(at + piece.fileAt) + this.word(at + piece.fileAt + 4) * 4294967296;
  }
}
