// llmctl trace: what the kernel did last, written to a file for a trace viewer. /dev/trace shows one moment however long this takes; what comes
// while the file is written is not in it.

import { E, IOCTL, LIMITS, O, TraceRecord, utf8Encode } from '../../kernel/abi/index.ts';
import { ctfMetadata, ctfStream } from './ctf.ts';
import { isDirectory, join } from './files.ts';
import { jsonLine, table } from './fmt.ts';
import { grouped } from './model.ts';
import { perfettoTrace } from './perfetto.ts';
import type { Context } from './program.ts';
import { readAll, writeAll } from './stdio.ts';
import { countEvents, decodeEvents } from './trace-events.ts';
import type { TraceEvent } from './trace-events.ts';

export const traceOptions = {
  format: { value: 'FORMAT', help: 'trace: perfetto (default), or ctf, where FILE is a directory' },
} as const;

type Ctx = Context<typeof traceOptions & { readonly json: { readonly help: string } }>;
type Run = Generator<void, number, void>;

const DEVICE = '/dev/trace';
/** The tokens of everybody's sessions are in a trace. */
const [FILE_MODE, DIRECTORY_MODE] = [0o600, 0o700];

interface Snapshot {
  readonly events: readonly TraceEvent[];
  /** Events before the first of these. */
  readonly dropped: number;
}

export function* trace(ctx: Ctx, [path = '']: readonly string[]): Run {
  const format = ctx.options.format ?? 'perfetto';
  if (format !== 'perfetto' && format !== 'ctf')
    return yield* ctx.usage(`trace: no format '${format}': perfetto or ctf`);
  const snapshot = yield* readTrace(ctx);
  if (snapshot === null) return 1;
  const { events, dropped } = snapshot;
  const pieces = format === 'ctf' ? ctfStream(events, dropped) : [perfettoTrace(events, dropped)];
  let target = path;
  if (format === 'ctf') {
    target = join(path, 'stream');
    const made = yield* makeDirectory(ctx, path);
    if (made !== 0) return made;
    const metadata = yield* writeFile(ctx, join(path, 'metadata'), [utf8Encode(ctfMetadata())]);
    if (metadata < 0) return 1;
  }
  const bytes = yield* writeFile(ctx, target, pieces);
  if (bytes < 0) return 1;
  yield* ctx.out.print(ctx.options.json ? json(path, format, bytes, snapshot) : report(path, bytes, snapshot));
  return 0;
}

/** The ring as it is now; null after a message. */
export function* readTrace(ctx: Pick<Ctx, 'sys' | 'fail'>): Generator<void, Snapshot | null, void> {
  const { sys } = ctx;
  const fd = yield* sys.open(DEVICE, O.RDONLY, 0);
  const bytes = fd < 0 ? fd : yield* readAll(sys, fd, LIMITS.traceRecords * TraceRecord.bytes);
  if (typeof bytes === 'number') {
    yield* ctx.fail(DEVICE, -bytes);
    return null;
  }
  const dropped = yield* sys.ioctl(fd, IOCTL.traceDropped, 0);
  yield* sys.close(fd);
  return { events: decodeEvents(bytes), dropped };
}

/** 0, also when it is there; else the status after a message. */
function* makeDirectory(ctx: Ctx, path: string): Run {
  const made = yield* ctx.sys.mkdir(path, DIRECTORY_MODE);
  if (made === 0 || (made === -E.EXIST && (yield* isDirectory(ctx.sys, path)))) return 0;
  return yield* ctx.fail(path, -made);
}

/** Bytes written, or -1 after a message. */
function* writeFile(ctx: Ctx, path: string, pieces: Iterable<Uint8Array>): Run {
  const { sys } = ctx;
  const fd = yield* sys.open(path, O.WRONLY | O.CREAT | O.TRUNC, FILE_MODE);
  let bytes = 0;
  let failed = Math.min(0, fd);
  for (const piece of pieces) {
    if (failed < 0) break;
    failed = yield* writeAll(sys, fd, piece);
    bytes += piece.length;
  }
  if (fd >= 0) yield* sys.close(fd);
  if (failed === 0) return bytes;
  yield* ctx.fail(path, -failed);
  return -1;
}

function json(path: string, format: string, bytes: number, { events, dropped }: Snapshot): string {
  return jsonLine({
    file: path,
    format,
    bytes,
    events: events.length,
    dropped,
    first_ns: events[0]?.atNs ?? null,
    last_ns: events.at(-1)?.atNs ?? null,
    counts: Object.fromEntries(countEvents(events)),
  });
}

function report(path: string, bytes: number, { events, dropped }: Snapshot): string {
  const rows = countEvents(events).map(([kind, count]) => [kind, grouped(count)]);
  const lost = dropped === 0 ? '' : `; ${grouped(dropped)} older ones are gone`;
  return `${table(rows, [false, true])}${path}: ${grouped(events.length)} events, ${grouped(bytes)} bytes${lost}\n`;
}
