// llmctl quantize: writes down what the kernel makes of a model while it is read. The new file grows as OUT.part beside its final name and takes
// that name when it is whole, so that whatever happens in between, OUT is what it was.

import { CONVERT, ConvertReport, E, GGML_TYPE, KIND, O, SIG } from '../../kernel/abi/index.ts';
import type { GgmlTypeName, RecordValue } from '../../kernel/abi/index.ts';
import { dirname, fileSystem, stat } from './files.ts';
import { humanSize, jsonLine } from './fmt.ts';
import { failAbout, grouped, isTerminal, modelPath, wrong } from './model.ts';
import { signalStatus } from './program.ts';
import type { Context } from './program.ts';
import { CHUNK_BYTES, writeAll } from './stdio.ts';

export const quantizeOptions = {
  requantize: { help: 'quantize: round again what is quantized already' },
} as const;

type Ctx = Context<typeof quantizeOptions & { readonly json: { readonly help: string } }>;
type Run = Generator<void, number, void>;
type Report = RecordValue<typeof ConvertReport.fields>;

export function* quantize(ctx: Ctx, [from = '', to = '', typeText = '']: readonly string[]): Run {
  const { sys } = ctx;
  const type = typeText.toUpperCase();
  if (!Object.hasOwn(GGML_TYPE, type)) return yield* wrong(ctx, `no type '${typeText}'`);
  const source = yield* modelPath(sys, from);
  const refused = yield* checkTarget(ctx, source, to);
  if (refused !== 0) return refused;
  const record = new Uint8Array(ConvertReport.bytes);
  const flags = ctx.options.requantize ? CONVERT.requantize : 0;
  const made = yield* sys.model_convert(source, GGML_TYPE[type as GgmlTypeName], flags, record);
  if (made < 0) return yield* failAbout(ctx, source, made);
  const report = ConvertReport.read(record, 0);
  const status = yield* writeModel(ctx, source, made, to, report);
  yield* sys.close(made);
  if (status !== 0) return status;
  yield* ctx.out.print(summary(ctx.options.json, source, to, type, report));
  return 0;
}

/** OUT must be a file, or nothing yet, and not the model itself. 0, or the status after a message. */
function* checkTarget(ctx: Ctx, source: string, to: string): Run {
  const target = yield* stat(ctx.sys, to);
  if (typeof target === 'number') return target === -E.NOENT ? 0 : yield* ctx.fail(to, -target);
  const model = yield* stat(ctx.sys, source);
  if (typeof model !== 'number' && model.device === target.device && model.inode === target.inode)
    return yield* ctx.fail(`'${source}' and '${to}' are the same file`);
  if (target.kind !== KIND.file) return yield* ctx.fail(to, target.kind === KIND.dir ? E.ISDIR : E.INVAL);
  return 0;
}

function* writeModel(ctx: Ctx, source: string, from: number, to: string, { bytes }: Report): Run {
  const { sys } = ctx;
  const part = `${to}.part`;
  const fs = yield* fileSystem(sys, dirname(to));
  if (typeof fs === 'number') return yield* ctx.fail(to, -fs);
  const free = fs.totalBytes - fs.usedBytes;
  if (fs.totalBytes > 0 && bytes > free)
    return yield* ctx.fail(`${to}: needs ${grouped(bytes)} bytes, ${grouped(free)} are free`, E.NOSPC);
  const fd = yield* sys.open(part, O.WRONLY | O.CREAT | O.TRUNC, 0o666);
  if (fd < 0) return yield* ctx.failCall(part, -fd);
  yield* sys.signal(SIG.INT, 1);
  const status = yield* pump(ctx, source, from, fd, to, bytes);
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

/** All of `from` to `fd`, a person seeing how far it is. 0, or the status after a message. */
function* pump(ctx: Ctx, source: string, from: number, fd: number, to: string, bytes: number): Run {
  const { sys, err } = ctx;
  const buffer = new Uint8Array(CHUNK_BYTES);
  const watched = yield* isTerminal(sys, 2);
  let shown = -1;
  for (let done = 0; ;) {
    const percent = bytes === 0 ? 100 : Math.floor((100 * done) / bytes);
    if (watched && percent !== shown) yield* err.print(progressLine((shown = percent), done, bytes));
    const n = yield* sys.read(from, buffer);
    if (n <= 0 && watched) yield* err.print('\n');
    if (n === 0) return 0;
    if (n < 0) return yield* failAbout(ctx, source, n);
    const result = yield* writeAll(sys, fd, buffer.subarray(0, n));
    if (result < 0) {
      if (watched) yield* err.print('\n');
      return yield* ctx.fail(`${to}: after ${grouped(done)} of ${grouped(bytes)} bytes`, -result);
    }
    done += n;
    // Neither call waits for anybody: here others run, and a Ctrl-C is heard.
    if ((yield* sys.sched_yield()) === -E.INTR) {
      if (watched) yield* err.print('\n');
      return signalStatus(SIG.INT);
    }
  }
}

const BAR_COLUMNS = 40;

/** `[=====>    ]  52 %  1.2M of 2.3M`, over the one before. */
function progressLine(percent: number, done: number, bytes: number): string {
  const bar = '='.repeat(Math.floor((BAR_COLUMNS * percent) / 100));
  const head = percent < 100 ? '>' : '';
  const size = `${humanSize(done)} of ${humanSize(bytes)}`;
  return `\r[${(bar + head).padEnd(BAR_COLUMNS)}] ${String(percent).padStart(3)} %  ${size} `;
}

function summary(json: boolean, from: string, to: string, type: string, r: Report): string {
  if (json) {
    const facts = { from, to, type, bytes: r.bytes, source_bytes: r.sourceBytes };
    return jsonLine({ ...facts, tensors: r.tensors, converted: r.converted, ragged: r.ragged });
  }
  const ragged = r.ragged === 0 ? '' : `, ${r.ragged} of them to F16: their rows are no multiple of 32`;
  return `${to}: ${type}, ${grouped(r.bytes)} bytes from ${grouped(r.sourceBytes)}; ${r.converted} of ${r.tensors} tensors converted${ragged}\n`;
}
