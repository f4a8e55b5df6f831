// `llmfinetune apply` and `detach`: an adapter of the store, or of a file, beside the loaded model, and away again. The kernel does it in one
// step: what was applied stays as it was where it cannot.

import { ADAPTER_COLUMNS } from '../../../kernel/abi/index.ts';
import type { Sys } from '../../../kernel/abi/index.ts';
import { applyAdapter } from '../adapters.ts';
import { basename } from '../files.ts';
import { jsonLine } from '../fmt.ts';
import type { OptionTable } from '../getopt.ts';
import { defaultChoice, failAbout, grouped, parseDecimal, planModel, wrong } from '../model.ts';
import type { Context } from '../program.ts';
import { rowsOf } from '../registry.ts';
import { asVersion, openVersion } from './store.ts';
import type { Run, commonOptions } from './verb.ts';

export const applyOptions = {
  scale: { value: 'X', help: 'apply, merge: multiply what the adapter adds by X (default 1)' },
} as const satisfies OptionTable;

type Ctx = Context<typeof applyOptions & typeof commonOptions>;

/** What --scale says, as f32: or null after a message about what is none. */
export function* scaleOf(ctx: Pick<Ctx, 'options' | 'sys' | 'fail'>): Generator<void, number | null, void> {
  const text = ctx.options.scale;
  const scale = text === undefined ? 1 : parseDecimal(text);
  if (scale !== null && Number.isFinite(Math.fround(scale))) return Math.fround(scale);
  yield* wrong(ctx, `--scale '${text}' is not a number`);
  return null;
}

/** A version of the store, or a file: what it is called and where it lies; or the status after a message. */
export interface Named {
  readonly name: string;
  readonly version: number | null; // of a file: none
  readonly path: string;
}
export function* namedAdapter(ctx: Ctx, text: string): Generator<void, Named | number, void> {
  if (text.includes('/') || text.endsWith('.gguf'))
    return { name: basename(text).replace(/\.gguf$/, ''), version: null, path: text };
  const found = yield* openVersion(ctx, text);
  if (typeof found === 'number') return found;
  const { place, record } = found;
  if (record.kind === 'model')
    return yield* ctx.fail(`${text}: a whole model: llmctl load ${asVersion(place, record).path}`);
  return { name: place.name, version: record.version, path: asVersion(place, record).path };
}

export function* apply(ctx: Ctx, [text = '']: readonly string[]): Run {
  const scale = yield* scaleOf(ctx);
  if (scale === null) return 2;
  const adapter = yield* namedAdapter(ctx, text);
  if (typeof adapter === 'number') return adapter;
  const { name, version, path } = adapter;
  const result = yield* applyAdapter(ctx.sys, path, name, scale);
  if (result < 0) return yield* failAbout(ctx, path, result);
  const plan = yield* planModel(ctx.sys, '', defaultChoice);
  if (typeof plan === 'number') return yield* failAbout(ctx, path, plan);
  const { adapters, total } = plan;
  yield* ctx.out.print(
    ctx.options.json
      ? jsonLine({ name, version, path, scale, adapters_bytes: adapters, total_bytes: total })
      : `${name}${version === null ? '' : ` version ${version}`} applied at scale ${scale}: adapters take ${grouped(adapters)} bytes\n`,
  );
  return 0;
}

export function* detach(ctx: Ctx, [name = '']: readonly string[]): Run {
  const count = yield* ctx.sys.adapter_detach(name);
  if (count < 0) return yield* failAbout(ctx, name, count);
  yield* ctx.out.print(
    ctx.options.json ? jsonLine({ detached: count }) : `${count} ${count === 1 ? 'adapter' : 'adapters'} detached\n`,
  );
  return 0;
}

/** Digests of the adapters that are applied now; none where the kernel lists none. */
export function* appliedDigests(sys: Sys): Generator<void, ReadonlySet<string>, void> {
  const rows = yield* rowsOf(sys, '/proc/adapters', ADAPTER_COLUMNS);
  return new Set(typeof rows === 'number' ? [] : rows.map(row => row.digest));
}
