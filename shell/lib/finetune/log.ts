// The log of a training: log.jsonl, a line of JSON for each update and each look at the held-out part. It is appended to as training goes, cut back to
// where a checkpoint was made when it goes on from there, and read by whoever watches.

import { E, O, SEEK, utf8Decode, utf8Encode } from '../../../kernel/abi/index.ts';
import { fstat } from '../files.ts';
import { jsonLine } from '../fmt.ts';
import type { Json } from '../fmt.ts';
import type { Context } from '../program.ts';
import { Input, writeAll } from '../stdio.ts';

type Caller = Pick<Context, 'sys' | 'failCall'>;

/** An update, as it is logged and as --json prints it. */
export interface StepLine {
  readonly step: number; // from 1
  readonly epoch: number; // from 1
  readonly loss: number; // mean -ln p of the targets, before the update
  readonly rate: number;
  readonly gradient_norm: number; // before clipping
  readonly distance: number | null; // from the first values; null: not kept
  readonly targets: number;
  readonly tokens: number;
  readonly cycles: number;
  readonly cycles_most: number; // as the plan bounds it
  readonly elapsed_ns: number;
}

/** A look at the held-out part: its mean loss. */
export interface HeldLine {
  readonly step: number;
  readonly held_out_loss: number;
  readonly targets: number;
}

export type LogLine = StepLine | HeldLine;
export const isStep = (line: LogLine): line is StepLine => 'loss' in line;

export class LogWriter {
  private constructor(
    private readonly ctx: Caller,
    private readonly path: string,
    private readonly fd: number,
    /** Bytes so far. */
    public bytes: number,
  ) {}

  /** The log cut to its first `bytes` bytes, where it has as many; or the status after a message. */
  static *open(ctx: Caller, path: string, bytes: number): Generator<void, LogWriter | number, void> {
    const fd = yield* ctx.sys.open(path, O.WRONLY | O.CREAT, 0o644);
    if (fd < 0) return yield* ctx.failCall(path, -fd);
    const st = yield* fstat(ctx.sys, fd);
    const kept = typeof st === 'number' ? 0 : Math.min(bytes, st.size);
    yield* ctx.sys.ftruncate(fd, kept);
    yield* ctx.sys.lseek(fd, kept, SEEK.set);
    return new LogWriter(ctx, path, fd, kept);
  }

  /** 0, or the status after a message. */
  *write(line: LogLine): Generator<void, number, void> {
    const bytes = utf8Encode(jsonLine(line as unknown as Json));
    const status = yield* writeAll(this.ctx.sys, this.fd, bytes);
    this.bytes += bytes.length;
    return status < 0 ? yield* this.ctx.failCall(this.path, -status) : 0;
  }

  *close(): Generator<void, void, void> {
    yield* this.ctx.sys.close(this.fd);
  }
}

/** What was logged so far, in order, a line that is still being written left out; or the status after a message. */
export function* readLog(ctx: Caller, path: string): Generator<void, LogLine[] | number, void> {
  const fd = yield* ctx.sys.open(path, O.RDONLY, 0);
  if (fd < 0) return fd === -E.NOENT ? [] : yield* ctx.failCall(path, -fd);
  const input = new Input(ctx.sys, fd);
  const lines: LogLine[] = [];
  for (let line: Uint8Array | null; (line = yield* input.line()) !== null && line.at(-1) === 0x0a;)
    lines.push(JSON.parse(utf8Decode(line)) as LogLine);
  yield* ctx.sys.close(fd);
  return input.error === 0 ? lines : yield* ctx.failCall(path, input.error);
}
