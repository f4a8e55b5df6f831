// `llmfinetune export` and `import`: versions as files for others, and others' files as versions. GGUF goes out and comes in as it is, byte for
// byte; safetensors is another form of the same numbers.

import { O, utf8Decode } from '../../../kernel/abi/index.ts';
import type { Sys } from '../../../kernel/abi/index.ts';
import { fstat } from '../files.ts';
import { jsonLine } from '../fmt.ts';
import type { OptionTable } from '../getopt.ts';
import { grouped, loadedModel, wrong } from '../model.ts';
import type { Context } from '../program.ts';
import { readAdapter, writeAdapter } from './adapter-file.ts';
import type { Adapter } from './adapter-file.ts';
import { NewFile } from './model-file.ts';
import { readSafetensors, writeSafetensors } from './safetensors.ts';
import { asVersion, commit, openPlace, openVersion } from './store.ts';
import type { Run, commonOptions } from './verb.ts';

const FORMATS = ['gguf', 'safetensors'] as const;
type Format = (typeof FORMATS)[number];

export const exchangeOptions = {
  format: { value: 'FORMAT', help: `export: ${FORMATS.join(' (default) or ')}` },
  output: {
    short: 'o',
    value: 'FILE',
    help: 'export: to FILE (default: NAME-vN.gguf, or NAME-finetuned.safetensors, here)',
  },
} as const satisfies OptionTable;

type Ctx = Context<
  typeof exchangeOptions & { key: { readonly value: string; readonly help: string } } & typeof commonOptions
>;

export function* exportFile(ctx: Ctx, [text = '']: readonly string[]): Run {
  const format = FORMATS.find(known => known === (ctx.options.format ?? 'gguf'));
  if (format === undefined) return yield* wrong(ctx, `--format '${ctx.options.format}' is not ${FORMATS.join(' or ')}`);
  const found = yield* openVersion(ctx, text);
  if (typeof found === 'number') return found;
  const { place, record } = found;
  const version = asVersion(place, record);
  const to = ctx.options.output ?? nameOf(place.name, record.version, format);
  if (format === 'safetensors' && record.kind === 'model')
    return yield* ctx.fail(`${text}: a whole model: only adapters are written as safetensors`);
  const bytes = format === 'gguf' ? yield* copyFile(ctx.sys, version.path, to) : yield* convert(ctx, version.path, to);
  if (typeof bytes !== 'number') return bytes.status;
  if (bytes < 0) return yield* ctx.failCall(to, -bytes);
  yield* ctx.out.print(
    ctx.options.json
      ? jsonLine({ name: place.name, version: record.version, digest: record.digest, format, file: to, bytes })
      : `${to}: ${place.name} version ${record.version}, ${grouped(bytes)} bytes\n`,
  );
  return 0;
}

const nameOf = (name: string, version: number, format: Format): string =>
  format === 'gguf' ? `${name}-v${version}.gguf` : `${name}-finetuned.safetensors`;

/** A file's bytes as another file: how many, or -errno. */
function* copyFile(sys: Sys, from: string, to: string): Generator<void, number, void> {
  const fd = yield* sys.open(from, O.RDONLY, 0);
  if (fd < 0) return fd;
  const st = yield* fstat(sys, fd);
  const file = typeof st === 'number' ? st : yield* NewFile.begin(sys, to);
  if (typeof file !== 'number' && typeof st !== 'number') yield* file.copy({ fd, at: 0, bytes: st.size });
  yield* sys.close(fd);
  if (typeof file === 'number') return file;
  const failed = yield* file.finish();
  return failed < 0 ? failed : file.bytes;
}

/** What has been said already. */
interface Told {
  readonly status: number;
}

/** An adapter as safetensors: bytes, or -errno; or the status after a message. */
function* convert(ctx: Ctx, from: string, to: string): Generator<void, number | Told, void> {
  const adapter = yield* readAdapter(ctx.sys, from);
  if (typeof adapter === 'string') return { status: yield* ctx.fail(`${from}: ${adapter}`) };
  return typeof adapter === 'number' ? adapter : yield* writeSafetensors(ctx.sys, to, adapter);
}

export function* importFile(ctx: Ctx, [from = '', name = '']: readonly string[]): Run {
  const { sys } = ctx;
  const isGguf = yield* startsAsGguf(sys, from);
  if (typeof isGguf === 'number') return yield* ctx.fail(from, -isGguf);
  const adapter = yield* isGguf ? readAdapter(sys, from) : readSafetensors(sys, from);
  if (typeof adapter === 'number') return yield* ctx.fail(from, -adapter);
  if (typeof adapter === 'string') return yield* ctx.fail(`${from}: ${adapter}`);
  const place = yield* openPlace(ctx, name, true);
  if (typeof place === 'number') return place;
  const bytes = yield* isGguf
    ? copyFile(sys, from, place.newPath)
    : writeAdapter(sys, place.newPath, yield* withArchitecture(sys, adapter, name));
  if (bytes < 0) return yield* ctx.failCall(place.newPath, -bytes);
  const version = yield* commit(
    ctx,
    place,
    place.newPath,
    { imported: from, matrices: adapter.pairs.length },
    'import',
  );
  if (typeof version === 'number') {
    yield* sys.unlink(place.newPath);
    return version;
  }
  yield* ctx.out.print(
    ctx.options.json
      ? jsonLine({ name, version: version.number, digest: version.digest, matrices: adapter.pairs.length, bytes })
      : `${name} version ${version.number}: ${adapter.pairs.length} matrices, ${grouped(bytes)} bytes\n`,
  );
  return 0;
}

/** Whether a file begins as GGUF does; or -errno. */
function* startsAsGguf(sys: Sys, path: string): Generator<void, boolean | number, void> {
  const fd = yield* sys.open(path, O.RDONLY, 0);
  if (fd < 0) return fd;
  const magic = new Uint8Array(4);
  const n = yield* sys.read(fd, magic);
  yield* sys.close(fd);
  return n < 0 ? n : utf8Decode(magic) === 'GGUF';
}

/** An adapter that does not say what it is for is for the loaded model. */
function* withArchitecture(sys: Sys, adapter: Adapter, name: string): Generator<void, Adapter, void> {
  if (adapter.architecture !== '') return { ...adapter, name };
  const model = yield* loadedModel(sys);
  return { ...adapter, name, architecture: typeof model === 'number' ? '' : model.architecture };
}
