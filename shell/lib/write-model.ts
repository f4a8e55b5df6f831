// Writing down a model that the kernel makes while it is read. The new file grows as OUT.part beside its final name and takes that name when it
// is whole, so that whatever happens in between, OUT is what it was.

import { E, KIND, O, SEEK, SIG } from '../../kernel/abi/index.ts';
import { dirname, fileSystem, stat } from './files.ts';
import { humanSize } from './fmt.ts';
import { failAbout, grouped } from './model.ts';
import { signalStatus } from './program.ts';
import type { Context } from './program.ts';
import { ProgressBar } from './progress.ts';
import { CHUNK_BYTES, writeAll } from './stdio.ts';

/** What these helpers need of a program. */
type Caller = Pick<Context, 'sys' | 'err' | 'fail' | 'failCall'>;
type Run = Generator<void, number, void>;

/** Bytes of a new model, and of its beginning that can be read only after all the others. */
export interface NewModel {
  readonly bytes: number;
  readonly headerBytes: number;
}

/** OUT must be a file, or nothing yet, and not the model itself. 0, or the status after a message. */
export function* checkTarget(ctx: Caller, source: string, to: string): Run {
  const target = yield* stat(ctx.sys, to);
  if (typeof target === 'number') return target === -E.NOENT ? 0 : yield* ctx.fail(to, -target);
  const model = yield* stat(ctx.sys, source);
  if (typeof model !== 'number' && model.device === target.device && model.inode === target.inode)
    return yield* ctx.fail(`'${source}' and '${to}' are the same file`);
  if (target.kind !== KIND.file) return yield* ctx.fail(to, target.kind === KIND.dir ? E.ISDIR : E.INVAL);
  return 0;
}

/** All of `from`, a model that is made while it is read, to the file `to`. 0, or the status after a message. */
export function* writeModel(ctx: Caller, source: string, from: number, to: string, size: NewModel): Run {
  const { sys } = ctx;
  const part = `${to}.part`;
  const fs = yield* fileSystem(sys, dirname(to));
  if (typeof fs === 'number') return yield* ctx.fail(to, -fs);
  const free = fs.totalBytes - fs.usedBytes;
  if (fs.totalBytes > 0 && size.bytes > free)
    return yield* ctx.fail(`${to}: needs ${grouped(size.bytes)} bytes, ${grouped(free)} are free`, E.NOSPC);
  const fd = yield* sys.open(part, O.WRONLY | O.CREAT | O.TRUNC, 0o666);
  if (fd < 0) return yield* ctx.failCall(part, -fd);
  yield* sys.signal(SIG.INT, 1);
  const pump = new Pump(ctx, source, from, fd, to, size.bytes);
  let status = yield* pump.run(size.headerBytes, size.bytes);
  if (status === 0 && size.headerBytes > 0) status = yield* pump.run(0, size.headerBytes);
  yield* pump.end();
  yield* sys.close(fd);
  if (status === 0) {
    const renamed = yield* sys.rename(part, to);
    if (renamed === 0) return 0;
    yield* sys.unlink(part);
    return yield* ctx.fail(to, -renamed);
  }
  yield* sys.unlink(part);
  return status;
}

/** Moves stretches of one descriptor to the same place of another, a person seeing how far it is. */
class Pump {
  private readonly buffer = new Uint8Array(CHUNK_BYTES);
  private done = 0;
  private readonly bar: ProgressBar;

  constructor(
    private readonly ctx: Caller,
    private readonly source: string,
    private readonly from: number,
    private readonly fd: number,
    private readonly to: string,
    private readonly bytes: number,
  ) {
    this.bar = new ProgressBar(ctx, (done, total) => `${humanSize(done)} of ${humanSize(total)}`);
  }

  /** Bytes `at` to `end`. 0, or the status after a message. */
  *run(at: number, end: number): Run {
    const { ctx, from, fd } = this;
    const { sys } = ctx;
    for (const side of [from, fd]) yield* sys.lseek(side, at, SEEK.set);
    for (let left = end - at; left > 0;) {
      yield* this.bar.show(this.done, this.bytes);
      const n = yield* sys.read(from, this.buffer.subarray(0, Math.min(left, CHUNK_BYTES)));
      if (n <= 0) return yield* this.failed(failAbout(ctx, this.source, n === 0 ? -E.IO : n));
      const result = yield* writeAll(sys, fd, this.buffer.subarray(0, n));
      const place = `${this.to}: after ${grouped(this.done)} of ${grouped(this.bytes)} bytes`;
      if (result < 0) return yield* this.failed(ctx.fail(place, -result));
      this.done += n;
      left -= n;
      // Neither call waits for anybody: here others run, and a Ctrl-C is heard.
      if ((yield* sys.sched_yield()) === -E.INTR) return signalStatus(SIG.INT);
    }
    return 0;
  }

  /** Leaves the line of the progress bar. */
  *end(): Generator<void, void, void> {
    yield* this.bar.show(this.done, this.bytes);
    yield* this.bar.end();
  }

  private *failed(message: Run): Run {
    yield* this.end();
    return yield* message;
  }
}
