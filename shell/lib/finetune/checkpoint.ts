// What a training has come to, in a file that it can go on from: the device's vectors, then a line of JSON with everything that the loop
// knows, then the length of that line and a magic number. Ends with the digest of the vectors in the line: what is torn is seen.

import { sha256 } from '@noble/hashes/sha2.js';
import { E, O, SEEK, utf8Decode, utf8Encode } from '../../../kernel/abi/index.ts';
import { toHex } from '../../../trust/index.ts';
import { fstat } from '../files.ts';
import type { Context } from '../program.ts';
import { readUpTo } from '../stdio.ts';
import type { Device, VectorName } from './device.ts';
import { NewFile } from './model-file.ts';

type Caller = Pick<Context, 'sys' | 'fail' | 'failCall'>;

/** The loop's own state behind an update. */
export interface Progress {
  readonly step: number; // updates made
  /** The look with the least held-out loss, whose parameters lie beside the checkpoint; null: none yet. */
  readonly best: { readonly step: number; readonly loss: number } | null;
  readonly stale: number; // looks since
  readonly looked: number; // step of the last look at the held-out part; -1: none yet
  readonly first: number | null; // held-out loss before the first update
  readonly held: number | null; // at the last look
  readonly began: number | null; // loss of the first update
  readonly loss: number | null; // of the last
  readonly tokens: number; // trained on
  readonly measured: number; // tokens that were only measured
  readonly cycles: number;
  readonly elapsedNs: number;
  readonly logBytes: number;
}

const MAGIC = 0x4b433841; // A8CK
const TAIL_BYTES = 8;
const LINE_BYTES_MAX = 4096;

interface Line {
  readonly progress: Progress;
  readonly vectors: readonly (readonly [name: VectorName, bytes: number])[]; // in their order
  readonly sha256: string;
}

/** Writes the state behind an update, `names` being the vectors that it is made of: 0, or the status after a message. */
export function* saveCheckpoint(
  ctx: Caller,
  path: string,
  device: Device,
  names: readonly VectorName[],
  progress: Progress,
): Generator<void, number, void> {
  return yield* writeWhole(ctx, path, function* (file) {
    const hash = sha256.create();
    const vectors: [VectorName, number][] = [];
    for (const name of names) {
      const n = yield* device.drain(name, function* (piece) {
        hash.update(piece);
        yield* file.write(piece);
        return file.error;
      });
      if (n < 0) return n;
      vectors.push([name, n]);
    }
    const line = utf8Encode(`${JSON.stringify({ progress, vectors, sha256: toHex(hash.digest()) } satisfies Line)}\n`);
    const tail = new Uint8Array(TAIL_BYTES);
    new DataView(tail.buffer).setUint32(0, line.length, true);
    new DataView(tail.buffer).setUint32(4, MAGIC, true);
    yield* file.write(line);
    yield* file.write(tail);
    return 0;
  });
}

/** A file that is there whole or as it was before: 0, or the status after a message. `fill` returns 0 or -errno. */
function* writeWhole(
  ctx: Caller,
  path: string,
  fill: (file: NewFile) => Generator<void, number, void>,
): Generator<void, number, void> {
  const file = yield* NewFile.begin(ctx.sys, path);
  if (typeof file === 'number') return yield* ctx.failCall(path, -file);
  const filled = yield* fill(file);
  if (filled < 0) file.error = filled;
  const status = yield* file.finish();
  return status < 0 ? yield* ctx.failCall(path, -status) : 0;
}

/** What a checkpoint says, null where there is none; or the status after a message. */
export function* readProgress(ctx: Caller, path: string): Generator<void, Progress | null | number, void> {
  const fd = yield* ctx.sys.open(path, O.RDONLY, 0);
  if (fd === -E.NOENT) return null;
  if (fd < 0) return yield* ctx.failCall(path, -fd);
  const line = yield* readLine(ctx, fd);
  yield* ctx.sys.close(fd);
  return line === null ? yield* ctx.fail(`${path}: not a whole checkpoint`) : line.progress;
}

/** Puts the device into the state of a checkpoint: 0, or the status after a message. */
export function* loadCheckpoint(ctx: Caller, path: string, device: Device): Generator<void, number, void> {
  const { sys } = ctx;
  const fd = yield* sys.open(path, O.RDONLY, 0);
  if (fd < 0) return yield* ctx.failCall(path, -fd);
  const line = yield* readLine(ctx, fd);
  const hash = sha256.create();
  yield* sys.lseek(fd, 0, SEEK.set);
  let filled = 0;
  for (const [name, bytes] of line?.vectors ?? [])
    filled = filled < 0 ? filled : yield* device.fill(name, fd, bytes, piece => hash.update(piece));
  yield* sys.close(fd);
  if (line === null) return yield* ctx.fail(`${path}: not a whole checkpoint`);
  if (filled < 0) return yield* ctx.failCall(path, -filled);
  if (toHex(hash.digest()) !== line.sha256) return yield* ctx.fail(`${path}: damaged: its digest is another`);
  const status = yield* sys.train_steps(device.handle, line.progress.step, 0);
  return status < 0 ? yield* ctx.failCall(path, -status) : 0;
}

/** The line of JSON at the end of an open checkpoint; null when it is none. */
function* readLine(ctx: Caller, fd: number): Generator<void, Line | null, void> {
  const { sys } = ctx;
  const st = yield* fstat(sys, fd);
  if (typeof st === 'number' || st.size < TAIL_BYTES) return null;
  yield* sys.lseek(fd, st.size - TAIL_BYTES, SEEK.set);
  const tail = yield* readUpTo(sys, fd, TAIL_BYTES);
  const view = new DataView(tail.buffer, tail.byteOffset, tail.length);
  const length = view.getUint32(0, true);
  if (view.getUint32(4, true) !== MAGIC || length > Math.min(LINE_BYTES_MAX, st.size - TAIL_BYTES)) return null;
  yield* sys.lseek(fd, st.size - TAIL_BYTES - length, SEEK.set);
  const text = utf8Decode(yield* readUpTo(sys, fd, length));
  try {
    return JSON.parse(text) as Line;
  } catch {
    return null;
  }
}

/** Writes the parameters alone, as they are: 0, or the status after a message. */
export function* saveParameters(ctx: Caller, path: string, device: Device): Generator<void, number, void> {
  return yield* writeWhole(ctx, path, function* (file) {
    const n = yield* device.drain('parameters', function* (piece) {
      yield* file.write(piece);
      return file.error;
    });
    return Math.min(0, n);
  });
}

/** Puts parameters that were written so back: 0, or the status after a message. */
export function* loadParameters(ctx: Caller, path: string, device: Device): Generator<void, number, void> {
  const fd = yield* ctx.sys.open(path, O.RDONLY, 0);
  if (fd < 0) return yield* ctx.failCall(path, -fd);
  const st = yield* fstat(ctx.sys, fd);
  const status = typeof st === 'number' ? st : yield* device.fill('parameters', fd, st.size);
  yield* ctx.sys.close(fd);
  return status < 0 ? yield* ctx.failCall(path, -status) : 0;
}
