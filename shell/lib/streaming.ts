// Weights that stream, on the command line: how a load is told whether they do and through what. Sizes are bytes with the suffixes of dd and
// head; a size of a tile, of buffers or of what is pinned asks for streaming without more words.

import { LIMITS, PIN_AUTO, RESIDENCY } from '../../kernel/abi/index.ts';
import type { LoadOptions, RecordValue } from '../../kernel/abi/index.ts';
import type { OptionTable } from './getopt.ts';
import { parseSize } from './fmt.ts';

export const streamingOptions = {
  stream: {
    value: 'WHEN',
    optional: true,
    help: 'load, plan: weights stream from the file through buffers: on (also without WHEN), off, or auto: where they do not fit (default)',
  },
  tile: { value: 'SIZE', help: 'load, plan: bytes of a buffer that weights stream through (default: 256K, or less)' },
  buffers: { value: 'N', help: `load, plan: how many of them, 2 to ${LIMITS.buffersMax} (default 2)` },
  pin: {
    value: 'SIZE',
    help: 'load, plan: bytes of streamed matrices that stay in the arena, or auto: as many as fit (default)',
  },
  draws: {
    value: 'N',
    help: 'load, plan: rows of a pass whose logits are computed together, 1 to --batch (default: as many as an eighth of what is left holds)',
  },
} as const satisfies OptionTable;

export type StreamingValues = { readonly [K in keyof typeof streamingOptions]?: string | undefined };
type Choice = Pick<RecordValue<typeof LoadOptions.fields>, 'stream' | 'tileBytes' | 'buffers' | 'pinBytes' | 'draws'>;

const WHEN: Readonly<Record<string, number>> = {
  '': RESIDENCY.streamed,
  on: RESIDENCY.streamed,
  off: RESIDENCY.resident,
  auto: RESIDENCY.auto,
};

/** What these options ask for beyond `otherwise`, or what is wrong with them. */
export function streamingChoice(given: StreamingValues, otherwise: Choice): Choice | string {
  const sized = given.tile !== undefined || given.buffers !== undefined || given.pin !== undefined;
  const stream = given.stream === undefined ? (sized ? RESIDENCY.streamed : otherwise.stream) : WHEN[given.stream];
  if (stream === undefined) return `--stream '${given.stream}' is not on, off or auto`;
  if (stream === RESIDENCY.resident && sized) return '--stream=off excludes --tile, --buffers and --pin';
  const tileBytes = given.tile === undefined ? otherwise.tileBytes : parseSize(given.tile);
  if (tileBytes === null || tileBytes > LIMITS.tileBytesMax || (given.tile !== undefined && tileBytes < 1))
    return `--tile '${given.tile}' is not a size from 1 to ${LIMITS.tileBytesMax}`;
  const pinBytes = given.pin === undefined ? otherwise.pinBytes : pinSize(given.pin);
  if (pinBytes === null) return `--pin '${given.pin}' is not auto, nor a size up to ${LIMITS.arenaBytes}`;
  const buffers = count(given.buffers, otherwise.buffers);
  if (buffers === null || (given.buffers !== undefined && (buffers < 2 || buffers > LIMITS.buffersMax)))
    return `--buffers '${given.buffers}' is not an integer from 2 to ${LIMITS.buffersMax}`;
  const draws = count(given.draws, otherwise.draws);
  if (draws === null || (given.draws !== undefined && (draws < 1 || draws > LIMITS.batchMax)))
    return `--draws '${given.draws}' is not an integer from 1 to ${LIMITS.batchMax}`;
  return { stream, tileBytes, pinBytes, buffers, draws };
}

/** Bytes to pin, PIN_AUTO for `auto`, or null. */
export function pinSize(text: string): number | null {
  if (text === 'auto') return PIN_AUTO;
  const bytes = parseSize(text);
  return bytes !== null && bytes <= LIMITS.arenaBytes ? bytes : null;
}

const count = (text: string | undefined, otherwise: number): number | null =>
  text === undefined ? otherwise : /^[0-9]{1,9}$/.test(text) ? Number(text) : null;
