// How fast a model goes before it runs: tokens a second on a processor with a kind of storage, and where the time of a token goes when weights
// stream — computing, transfers, and what of these is waited for. The figures are the kernel's; here they are asked for and set in tables.

import { GGML_BLOCK, SpeedOptions, SpeedReport, type STREAM_FIGURES } from '../../kernel/abi/index.ts';
import type { GgmlTypeName, PlanReport, RecordValue, Sys } from '../../kernel/abi/index.ts';
import { readText } from './files.ts';
import { table } from './fmt.ts';
import type { Json } from './fmt.ts';
import { threeDigits } from './forecast.ts';
import { grouped } from './model.ts';
import type { LoadChoice } from './model.ts';

export type Speed = RecordValue<typeof SpeedReport.fields>;
type Streaming = Pick<RecordValue<typeof PlanReport.fields>, 'tileBytes' | 'tiles' | 'streamed' | 'pinned' | 'draws'>;

/** A line about weights that stream, or nothing. */
export const streamingText = ({ tileBytes, tiles, streamed, pinned, draws }: Streaming): string =>
  tileBytes === 0
    ? ''
    : tiles === 0
      ? `all ${grouped(pinned)} bytes of matrices are pinned: nothing streams\n`
      : `streams ${grouped(streamed)} bytes a token in ${grouped(tiles)} tiles, ${grouped(pinned)} bytes are pinned; logits of ${draws === 1 ? '1 row' : `${draws} rows`} at once\n`;

/** How fast the file at `path` would go as it would be loaded, on a target and a kind of storage ('': the machine's, the file's own); or -errno. */
export function* speedOf(
  sys: Sys,
  path: string,
  choice: LoadChoice,
  where: { readonly target: string; readonly disk: string },
): Generator<void, Speed | number, void> {
  const [options, report] = [new Uint8Array(SpeedOptions.bytes), new Uint8Array(SpeedReport.bytes)];
  SpeedOptions.write(options, 0, { ...choice, ...where });
  const result = yield* sys.model_speed(path, options, report);
  return result < 0 ? result : SpeedReport.read(report, 0);
}

/** Kinds of storage that there are, or -errno. */
export function* diskModels(sys: Sys): Generator<void, readonly string[] | number, void> {
  const text = yield* readText(sys, '/proc/diskmodels');
  if (typeof text === 'number') return text;
  return text
    .split('\n')
    .filter(line => line !== '')
    .map(line => line.split(' ', 1)[0]!);
}

const perSecond = (hz: number, cycles: number): number => (cycles === 0 ? 0 : hz / cycles);
/** Of the disk's time, the share in which the processor has something to do. */
const overlap = (s: Speed): number =>
  s.transfers === 0 ? 1 : Math.min(1, Math.max(0, (s.computed + s.transfers - s.tokenCycles) / s.transfers));

export const speedJson = (s: Speed): Readonly<Record<string, Json>> => ({
  target: s.target,
  disk: s.disk === '' ? null : s.disk,
  sound: s.sound !== 0,
  position: s.position,
  token_cycles: s.tokenCycles,
  token_cycles_most: s.tokenMost,
  computed_cycles: s.computed,
  transfer_cycles: s.transfers,
  stall_cycles: Math.max(0, s.tokenCycles - s.computed),
  overlapped_ppm: Math.floor(1e6 * overlap(s)),
  tokens_per_second: perSecond(s.hz, s.tokenCycles),
  tokens_per_second_least: perSecond(s.hz, s.tokenMost),
});

/** A table of speeds: tokens a second as usual and at least, and what of a token's time is waiting for the disk. */
export function speedText(speeds: readonly Speed[]): string {
  const ms = (s: Speed, cycles: number): string => `${threeDigits((cycles / s.hz) * 1000)} ms`;
  const rows = speeds.map(s => [
    s.target,
    s.disk === '' ? '-' : s.disk,
    threeDigits(perSecond(s.hz, s.tokenCycles)),
    s.sound === 0 ? '-' : threeDigits(perSecond(s.hz, s.tokenMost)),
    ms(s, s.computed),
    s.disk === '' ? '-' : ms(s, s.transfers),
    s.disk === '' ? '-' : ms(s, Math.max(0, s.tokenCycles - s.computed)),
    s.disk === '' ? '-' : `${Math.floor(100 * overlap(s))} %`,
  ]);
  const titles = ['TARGET', 'DISK', 'TOKENS/S', 'AT LEAST', 'COMPUTE', 'TRANSFER', 'STALL', 'OVERLAP'];
  return table([titles, ...rows], [false, false, true, true, true, true, true, true]);
}

// ── While it runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The figures of /proc/stream by name. */
export type StreamFigures = Readonly<Record<(typeof STREAM_FIGURES)[number], number>>;

/** What has been streamed since the model was loaded; null where nothing streams. */
export function* streamFigures(sys: Sys): Generator<void, StreamFigures | null, void> {
  const text = yield* readText(sys, '/proc/stream');
  if (typeof text === 'number' || text === '') return null;
  const lines = text.trimEnd().split('\n');
  return Object.fromEntries(lines.map(line => [line.split(' ')[0]!, Number(line.split(' ')[1])])) as StreamFigures;
}

export const streamJson = (s: StreamFigures): Readonly<Record<string, Json>> => ({
  reads: s.reads,
  bytes: s.bytes,
  gathers: s.gathers,
  gather_bytes: s.gatherBytes,
  stalls: s.stalls,
  stall_cycles: s.stallCycles,
  disk_cycles: s.diskCycles,
  overlapped_ppm: s.overlappedPpm,
  errors: s.errors,
  dropped: s.dropped,
});

/** `5,678 bytes; 12.3 ms waited, 81 % of transfers overlapped`. */
export function statusText(s: StreamFigures, hz: number): string {
  const waited = threeDigits((s.stallCycles / hz) * 1000);
  const bad = s.errors === 0 ? '' : `, ${grouped(s.errors)} failed`;
  return `${grouped(s.bytes)} bytes${bad}; ${waited} ms waited, ${Math.floor(s.overlappedPpm / 1e4)} % of transfers overlapped`;
}

/** Matrices that products take from where they stay, by the rows of a plan: segment, op, detail. */
export function pinnedOf(
  rows: readonly (readonly string[])[],
): readonly { readonly name: string; readonly bytes: number }[] {
  const tiles = rows.filter(([, op]) => op === 'TILE').map(([, , detail = '']) => detail);
  const found = new Map<string, number>();
  for (const [, op, detail = ''] of rows) {
    const word = (key: string): string => new RegExp(`(?:^| )${key}=([^ ]+)`).exec(detail)?.[1] ?? '';
    const name = word('weights');
    if ((op !== 'MUL_MAT' && op !== 'GET_ROWS') || tiles.some(tile => tile.includes(`${name}[`))) continue;
    const [values, bytes] = GGML_BLOCK[word('weightType') as GgmlTypeName] ?? [1, 0];
    found.set(name, (Number(word('rows')) * Number(word('k')) * bytes) / values);
  }
  return [...found].map(([name, bytes]) => ({ name, bytes }));
}
