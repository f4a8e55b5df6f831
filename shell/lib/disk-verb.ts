// `llmctl disk`: what the disks are, how long they take and what they have done; for the superuser, other times and faults for one. Options
// become calls of one system call, disk(2): one for model, retries and healing, then one for each fault.

import { DISK_SET } from '../../kernel/abi/index.ts';
import { changeDisk, mountPoints, parseFault, readDisks } from './disks.ts';
import type { DiskChange, DiskRow } from './disks.ts';
import { humanBytes } from './blocks.ts';
import { jsonLine, table } from './fmt.ts';
import type { Json } from './fmt.ts';
import type { OptionTable } from './getopt.ts';
import { failAbout, grouped, parseInteger, wrong } from './model.ts';
import type { Context } from './program.ts';

export const diskOptions = {
  retries: { value: 'N', help: 'disk: attempts beyond the first, 0 to 16' },
  fault: {
    value: 'FAULT',
    many: true,
    help: 'disk: put a fault in: error, short, slow, worst or gone, then any of ,every=N ,next=N ,bytes=FROM-TO ,x=N',
  },
  heal: { help: 'disk: take all faults out' },
} as const satisfies OptionTable;

/** Beside --json; --model has a meaning for other verbs too. */
export const diskTakes = ['model', 'retries', 'fault', 'heal'] as const;

type Ctx = Context<
  typeof diskOptions & {
    readonly model: { readonly value: string; readonly help: string };
    readonly json: { readonly help: string };
  }
>;
type Run = Generator<void, number, void>;

export function* disk(ctx: Ctx, [name]: readonly string[]): Run {
  const changes = wantedChanges(ctx);
  if (typeof changes === 'string') return yield* wrong(ctx, changes);
  if (changes.length > 0 && name === undefined) return yield* wrong(ctx, 'disk: whose? Name one, as vda');
  for (const change of changes) {
    const result = yield* changeDisk(ctx.sys, name!, change);
    if (result < 0) return yield* failAbout(ctx, '', result);
  }
  const disks = yield* readDisks(ctx.sys);
  if (typeof disks === 'number') return yield* failAbout(ctx, '/proc/disks', disks);
  const shown = disks.filter(d => name === undefined || d.name === name);
  if (shown.length === 0) return yield* ctx.fail(`no disk '${name}': ${disks.map(d => d.name).join(', ')}`);
  if (ctx.options.json) for (const d of shown) yield* ctx.out.print(jsonLine(diskJson(d)));
  else yield* ctx.out.print(name === undefined ? table(listRows(shown), LIST_RIGHT) : table(detailRows(shown[0]!)));
  return 0;
}

/** One call for model, retries and healing, one for each fault; or what is wrong with an option. */
function wantedChanges({ options }: Ctx): Partial<DiskChange>[] | string {
  const first = { set: 0, retries: 0, model: '' };
  if (options.model !== undefined) Object.assign(first, { set: DISK_SET.model, model: options.model });
  if (options.retries !== undefined) {
    const retries = parseInteger(options.retries);
    if (retries === null || retries < 0) return `--retries '${options.retries}' is not a number of attempts`;
    first.set |= DISK_SET.retries;
    first.retries = retries;
  }
  if (options.heal) first.set |= DISK_SET.heal;
  const faults = options.fault.map(parseFault);
  const bad = faults.find(f => typeof f === 'string');
  if (bad !== undefined) return `--fault: ${bad}`;
  return [...(first.set === 0 ? [] : [first]), ...(faults as Partial<DiskChange>[])];
}

// ── What they are ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** `80 us`, `5 ms`: two digits of it at least. */
function shortTime(ns: number): string {
  const units: readonly (readonly [number, string])[] = [
    [1e9, 's'],
    [1e6, 'ms'],
    [1e3, 'us'],
  ];
  const [scale, unit] = units.find(([least]) => ns >= least) ?? [1, 'ns'];
  return `${Number((ns / scale).toPrecision(3))} ${unit}`;
}

const LIST_RIGHT = [false, false, true, true, true, true, true];
const listRows = (disks: readonly DiskRow[]): string[][] => [
  ['disk', 'model', 'latency', 'rate', 'reads', 'read', 'errors', 'mounted on'],
  ...disks.map(d => [
    d.name,
    d.model,
    shortTime(d.latencyTypical),
    rate(d.rateTypical),
    grouped(d.reads),
    humanBytes(d.bytesRead, 1024),
    grouped(d.errors),
    [...mountPoints(d), ...(d.faults === '' ? [] : [`(${d.faults})`])].join(' '),
  ]),
];

/** The three figures of a time or a rate. */
const threefold = (least: string, typical: string, most: string): string =>
  `${typical}; at best ${least}, at worst ${most}`;
/** `66.5 MB/s`: three digits, as the tables of man disk have. */
const rate = (bytesPerSecond: number): string => {
  const [scale, unit] = bytesPerSecond >= 1e9 ? [1e9, 'GB/s'] : [1e6, 'MB/s'];
  return `${Number((bytesPerSecond / scale).toPrecision(3))} ${unit}`;
};

const detailRows = (d: DiskRow): string[][] => [
  ['disk', `${d.name}, ${d.number}: ${d.source}`],
  ['model', `${d.model}: ${d.title}`],
  ['latency', threefold(shortTime(d.latencyLeast), shortTime(d.latencyTypical), shortTime(d.latencyMost))],
  ['rate', threefold(rate(d.rateMost), rate(d.rateTypical), rate(d.rateLeast))],
  ['sector', `${d.sectorBytes} byte${d.sectorBytes === 1 ? '' : 's'}`],
  ['queue', d.queueDepth === 1 ? 'one command at a time' : `${grouped(d.queueDepth)} commands`],
  ['retries', String(d.retries)],
  ['faults', d.faults === '' ? 'none' : d.faults],
  ['mounted on', mountPoints(d).join(' ') || '-'],
  ['reads', `${grouped(d.reads)} done, ${grouped(d.inFlight)} in flight, ${humanBytes(d.bytesRead, 1024)}`],
  ['waits', `${grouped(d.waits)} reads behind others, ${shortTime(d.waitNs)}`],
  ['busy', shortTime(d.busyNs)],
  ['errors', `${grouped(d.errors)}, ${grouped(d.retried)} attempts made again`],
  ['writes', `${grouped(d.writes)}, ${humanBytes(d.bytesWritten, 1024)}`],
];

const diskJson = (d: DiskRow): Json => ({
  disk: d.name,
  number: d.number,
  source: d.source,
  mounts: mountPoints(d),
  bytes: d.bytes === 0 ? null : d.bytes,
  read_only: d.readOnly !== 0,
  fixed: d.fixed !== 0,
  model: d.model,
  title: d.title,
  sector_bytes: d.sectorBytes,
  queue_depth: d.queueDepth,
  retries: d.retries,
  faults: d.faults === '' ? [] : d.faults.split(' '),
  latency_ns: { least: d.latencyLeast, typical: d.latencyTypical, most: d.latencyMost },
  bytes_per_second: { least: d.rateLeast, typical: d.rateTypical, most: d.rateMost },
  in_flight: d.inFlight,
  reads: d.reads,
  bytes_read: d.bytesRead,
  bytes_moved: d.bytesMoved,
  read_ns: d.readNs,
  waits: d.waits,
  wait_ns: d.waitNs,
  busy_ns: d.busyNs,
  retried: d.retried,
  errors: d.errors,
  writes: d.writes,
  bytes_written: d.bytesWritten,
});
