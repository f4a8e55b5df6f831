// `llmctl prelink`: a model laid out as the kernels read it. The kernel makes the image while it is read (kernel/prelink.ts); here it is named,
// written down (write-model.ts) and summed up.

import { PrelinkReport } from '../../kernel/abi/index.ts';
import type { RecordValue } from '../../kernel/abi/index.ts';
import { jsonLine } from './fmt.ts';
import { failAbout, grouped, modelPath } from './model.ts';
import type { Context } from './program.ts';
import { checkTarget, writeModel } from './write-model.ts';

type Ctx = Context<{ readonly json: { readonly help: string } }>;
type Run = Generator<void, number, void>;

export function* prelink(ctx: Ctx, [from = '', out]: readonly string[]): Run {
  const { sys } = ctx;
  const source = yield* modelPath(sys, from);
  const to = out ?? `${source.replace(/\.gguf$/, '')}.prelinked.gguf`;
  const refused = yield* checkTarget(ctx, source, to);
  if (refused !== 0) return refused;
  const record = new Uint8Array(PrelinkReport.bytes);
  const made = yield* sys.model_prelink(source, record);
  if (made < 0) return yield* failAbout(ctx, source, made);
  const report = PrelinkReport.read(record, 0);
  const status = yield* writeModel(ctx, source, made, to, report);
  yield* sys.close(made);
  if (status !== 0) return status;
  yield* ctx.out.print(summary(ctx.options.json, source, to, report));
  return 0;
}

function summary(json: boolean, from: string, to: string, r: RecordValue<typeof PrelinkReport.fields>): string {
  if (json)
    return jsonLine({ from, to, bytes: r.bytes, source_bytes: r.sourceBytes, tensors: r.tensors, grouped: r.grouped });
  return `${to}: ${grouped(r.bytes)} bytes from ${grouped(r.sourceBytes)}; ${r.grouped} of ${r.tensors} tensors in groups of four rows\n`;
}
