// The adapters beside the loaded model as programs see them: the kernel's list, and --adapter, which says with which of them a request is computed
// and how strongly. Without it a request takes them as they were applied, or as the session that it continues has them.

import { ADAPTER_COLUMNS, ADAPTERS, NO_ADAPTER, SessionOptions } from '../../kernel/abi/index.ts';
import type { RecordValue, Sys } from '../../kernel/abi/index.ts';
import type { Json } from './fmt.ts';
import type { OptionTable } from './getopt.ts';
import { parseDecimal } from './model.ts';
import { rowsOf } from './registry.ts';

export const adapterOptions = {
  adapter: {
    value: 'NAME[:X]',
    many: true,
    help: `compute with the adapter NAME alone, X times as strongly as it was trained (default: as it was applied); may be repeated; ${NO_ADAPTER}: without any`,
  },
} as const satisfies OptionTable;

export type AdapterRow = Readonly<Record<(typeof ADAPTER_COLUMNS)[number], string>>;
type Scales = Pick<RecordValue<typeof SessionOptions.fields>, 'scale0' | 'scale1' | 'scale2' | 'scale3'>;

/** Those applied, in the kernel's order; none without a model. */
export function* readAdapters(sys: Sys): Generator<void, readonly AdapterRow[], void> {
  const rows = yield* rowsOf(sys, '/proc/adapters', ADAPTER_COLUMNS);
  return typeof rows === 'number' ? [] : rows;
}

/** Writes what --adapter says into a SessionOptions record; or says what is wrong with it. The model that is asked is loaded by now. */
export function* chooseAdapters(
  sys: Sys,
  record: Uint8Array,
  given: readonly string[],
): Generator<void, string | null, void> {
  if (given.length === 0) return null;
  const scales = scalesFrom(given, yield* readAdapters(sys));
  if (typeof scales === 'string') return scales;
  writeScales(record, scales);
  return null;
}

/** What each adapter of `applied` is to count, or what is wrong. */
function scalesFrom(given: readonly string[], applied: readonly AdapterRow[]): readonly number[] | string {
  const scales = applied.map(() => 0);
  if (given.length === 1 && given[0] === NO_ADAPTER) return scales;
  const taken = new Set<string>();
  for (const text of given) {
    const [name = '', factor] = /^([^:]*)(?::(.*))?$/s.exec(text)!.slice(1);
    if (name === NO_ADAPTER) return `--adapter ${NO_ADAPTER} and others exclude each other`;
    const i = applied.findIndex(row => row.name === name);
    if (i < 0) return `--adapter '${name}' is not applied (${namesOf(applied)}): llmfinetune apply ${name}`;
    if (taken.has(name)) return `--adapter '${name}' is given twice`;
    taken.add(name);
    const scale = factor === undefined ? Number(applied[i]!.scale) : parseDecimal(factor);
    if (scale === null || !Number.isFinite(Math.fround(scale)))
      return `--adapter '${text}': '${factor}' is not a number`;
    scales[i] = scale;
  }
  return scales;
}

const namesOf = (applied: readonly AdapterRow[]): string =>
  applied.length === 0 ? 'none is' : applied.map(row => row.name).join(', ');

/** Scales of the applied adapters, in order, into a SessionOptions record. */
export function writeScales(record: Uint8Array, scales: readonly number[]): void {
  const [scale0 = 0, scale1 = 0, scale2 = 0, scale3 = 0] = scales;
  const chosen: Scales = { scale0, scale1, scale2, scale3 };
  const view = new DataView(record.buffer, record.byteOffset);
  view.setUint32(SessionOptions.at.adapters, ADAPTERS.given, true);
  for (const [name, scale] of Object.entries(chosen) as [keyof Scales, number][])
    view.setFloat32(SessionOptions.at[name], scale, true);
}

/** Puts an adapter beside the loaded model under this name: 0, or -errno. */
export function* applyAdapter(sys: Sys, path: string, name: string, scale: number): Generator<void, number, void> {
  const cell = new DataView(new ArrayBuffer(4));
  cell.setFloat32(0, scale);
  return yield* sys.adapter_apply(path, name, cell.getInt32(0));
}

/** As --json tells of them. */
export const adaptersJson = (applied: readonly AdapterRow[]): Json =>
  applied.map(({ name, path, digest, rank, alpha, scale, matrices, bytes }) => ({
    name,
    path,
    digest,
    rank: Number(rank),
    alpha: Number(alpha),
    scale: Number(scale),
    matrices: Number(matrices),
    bytes: Number(bytes),
  }));

/** `warm 1, cold 0.5`. */
export const adaptersText = (applied: readonly AdapterRow[]): string =>
  applied.map(({ name, scale }) => `${name} ${scale}`).join(', ');
