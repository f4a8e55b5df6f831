// `llmctl quantize`: the kernel rounds a model's weights to another type while the new file is read (kernel/convert.ts); here the type is
// named, the file written down (write-model.ts) and the report printed.

import { CONVERT, ConvertReport, GGML_TYPE } from '../../kernel/abi/index.ts';
import type { GgmlTypeName, RecordValue } from '../../kernel/abi/index.ts';
import { jsonLine } from './fmt.ts';
import { failAbout, grouped, modelPath, wrong } from './model.ts';
import type { Context } from './program.ts';
import { checkTarget, writeModel } from './write-model.ts';

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
  const status = yield* writeModel(ctx, source, made, to, { bytes: report.bytes, headerBytes: 0 });
  yield* sys.close(made);
  if (status !== 0) return status;
  yield* ctx.out.print(summary(ctx.options.json, source, to, type, report));
  return 0;
}

function summary(json: boolean, from: string, to: string, type: string, r: Report): string {
  if (json) {
    const facts = { from, to, type, bytes: r.bytes, source_bytes: r.sourceBytes };
    return jsonLine({ ...facts, tensors: r.tensors, converted: r.converted, ragged: r.ragged });
  }
  const ragged = r.ragged === 0 ? '' : `, ${r.ragged} of them to F16: their rows are no multiple of 32`;
  return `${to}: ${type}, ${grouped(r.bytes)} bytes from ${grouped(r.sourceBytes)}; ${r.converted} of ${r.tensors} tensors converted${ragged}\n`;
}
