// iostat: what the processor and the disks were doing, since power-on and from report to report in virtual time. After sysstat's iostat: the same
// columns where both have them, and beside them what a simulated disk knows too: waits behind others, retries, errors.

import { readDisks } from '../lib/disks.ts';
import type { DiskRow } from '../lib/disks.ts';
import { readText } from '../lib/files.ts';
import { jsonLine, times } from '../lib/fmt.ts';
import type { Json } from '../lib/fmt.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

const options = {
  cpu: { short: 'c', help: 'the processor only' },
  device: { short: 'd', help: 'the disks only' },
  kilobytes: { short: 'k', help: 'kilobytes of 1024 bytes (the default)' },
  megabytes: { short: 'm', help: 'megabytes' },
  extended: {
    short: 'x',
    help: 'more of each disk: latencies, queue, share of the time that it was busy, retries, errors',
  },
  since: { short: 'y', help: 'with an interval: without the report since power-on, which COUNT then leaves out too' },
  active: { short: 'z', help: 'leave disks out that did nothing' },
  json: { short: 'j', help: 'JSON, a report a line' },
} as const;
type Ctx = Context<typeof options>;

/** One look at everything. */
interface Moment {
  readonly nowNs: number;
  readonly accounts: Readonly<Record<string, number>>; // cycles by what they went to
  readonly disks: readonly DiskRow[];
}

/** What one disk did in `seconds`. */
interface Activity {
  readonly name: string;
  readonly reads: number;
  readonly readBytes: number;
  readonly readNs: number;
  readonly waitNs: number;
  readonly busyNs: number;
  readonly retried: number;
  readonly errors: number;
  readonly writes: number;
  readonly writtenBytes: number;
}

export const iostat = define({
  name: 'iostat',
  summary: 'report on processor and disks',
  usage: ['[-cdkmxyzj] [DISK]... [INTERVAL [COUNT]]'],
  options,
  description: [
    'Prints what the processor spent its time on and what each disk did, since power-on; with INTERVAL again every so many seconds of virtual time, each report about the time since the one before, COUNT reports in all or until Ctrl-C.',
    '',
    'Of the processor: %user, plans and other kernels; %system, calls, switches and the audit log; %iowait, transfers and weights that were waited for; %idle.',
    '',
    'Of a disk: tps, requests a second; kB_read/s, kB_wrtn/s, kB_read, kB_wrtn. With -x: r/s, rkB/s; r_await, milliseconds from a request to its end, and r_wait, how many of them it stood behind others; rareq-sz, kilobytes a request; w/s, wkB/s, wareq-sz for writing, which takes no time; aqu-sz, requests in flight on average; %util, the share of the time in which there was one; retry/s, err/s.',
    '',
    'man disk says what the disks are; the figures are those of /proc/diskstats, /proc/disks and /proc/clock. The keys of --json are in json(7): man json.',
  ].join('\n'),
  examples: [
    ['iostat -x', 'since power-on'],
    ['iostat -dx vda 1 5', 'five reports of vda, a second apart'],
  ],
  *main(ctx) {
    const asked = yield* parse(ctx);
    if (typeof asked === 'number') return asked;
    const { names, seconds, count } = asked;
    const omitted = ctx.options.since && seconds > 0 ? 1 : 0;
    let before: Moment | null = null;
    for (let n = 0; n < omitted + count; n++) {
      if (n > 0) yield* ctx.sys.sleep(Math.round(seconds * 1000));
      const now: Moment | number = yield* look(ctx);
      if (typeof now === 'number') return yield* ctx.fail('/proc/disks', -now);
      if (n > omitted && !ctx.options.json) yield* ctx.out.print('\n');
      if (n >= omitted) yield* ctx.out.print(report(ctx, before, now, names));
      yield* ctx.out.flush();
      before = now;
    }
    return 0;
  },
});

/** The operands: disks, then the interval and how many reports; or the exit status, after a message. */
function* parse(
  ctx: Ctx,
): Generator<void, { names: readonly string[]; seconds: number; count: number } | number, void> {
  const numbers = ctx.operands.filter(o => /^[\d.]+$/.test(o));
  const names = ctx.operands.filter(o => !/^[\d.]+$/.test(o)).map(name => name.replace(/^\/dev\//, ''));
  const [seconds = 0, count] = numbers.map(Number);
  const timed = numbers.length > 0;
  if (numbers.length > 2 || (timed && !(seconds > 0 && seconds < 1e6)))
    return yield* ctx.usage(`'${numbers.join(' ')}' is no interval and count`);
  if (count !== undefined && !(Number.isInteger(count) && count > 0))
    return yield* ctx.usage(`count '${numbers[1]}' is not a number of reports`);
  const now = yield* look(ctx);
  if (typeof now === 'number') return yield* ctx.fail('/proc/disks', -now);
  const unknown = names.find(name => !now.disks.some(d => d.name === name));
  if (unknown !== undefined) return yield* ctx.fail(`no disk '${unknown}': ${now.disks.map(d => d.name).join(', ')}`);
  return { names, seconds, count: timed ? (count ?? Infinity) : 1 };
}

function* look(ctx: Ctx): Generator<void, Moment | number, void> {
  const disks = yield* readDisks(ctx.sys);
  if (typeof disks === 'number') return disks;
  const clock = yield* readText(ctx.sys, '/proc/clock');
  if (typeof clock === 'number') return clock;
  const { nowNs } = yield* times(ctx.sys);
  const accounts = Object.fromEntries(
    clock
      .trimEnd()
      .split('\n')
      .map(line => line.split(' '))
      .map(([name, cycles]) => [name!, Number(cycles)]),
  );
  return { nowNs, accounts, disks };
}

// ── Reports ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function report({ options }: Ctx, before: Moment | null, now: Moment, names: readonly string[]): string {
  const seconds = (now.nowNs - (before?.nowNs ?? 0)) / 1e9;
  const disks = now.disks
    .filter(d => names.length === 0 || names.includes(d.name))
    .map(d =>
      activity(
        d,
        before?.disks.find(b => b.name === d.name),
      ),
    )
    .filter(a => !options.active || a.reads + a.writes > 0);
  const shares = processor(now.accounts, before?.accounts ?? {});
  const wantsCpu = options.cpu || !options.device; // both is neither
  const wantsDisks = options.device || !options.cpu;
  if (options.json)
    return jsonLine({
      seconds,
      ...(wantsCpu ? { cpu: shares } : {}),
      ...(wantsDisks ? { disks: disks.map(a => diskJson(a, seconds)) } : {}),
    });
  const parts: string[] = [];
  if (wantsCpu) parts.push(processorText(shares));
  if (wantsDisks)
    parts.push(
      options.extended ? extendedText(disks, seconds, options.megabytes) : plainText(disks, seconds, options.megabytes),
    );
  return parts.join('\n');
}

/** What a disk did between two looks, or since power-on. */
function activity(now: DiskRow, before: DiskRow | undefined): Activity {
  const since = (
    column: Exclude<keyof DiskRow, 'name' | 'number' | 'source' | 'mounts' | 'model' | 'title' | 'faults'>,
  ): number => now[column] - (before?.[column] ?? 0);
  return {
    name: now.name,
    reads: since('reads'),
    readBytes: since('bytesMoved'),
    readNs: since('readNs'),
    waitNs: since('waitNs'),
    busyNs: since('busyNs'),
    retried: since('retried'),
    errors: since('errors'),
    writes: since('writes'),
    writtenBytes: since('bytesWritten'),
  };
}

type Shares = { readonly user: number; readonly system: number; readonly iowait: number; readonly idle: number };

/** Shares of the time in percent. */
function processor(now: Readonly<Record<string, number>>, before: Readonly<Record<string, number>>): Shares {
  const since = (...accounts: readonly string[]): number =>
    accounts.reduce((sum, a) => sum + (now[a] ?? 0) - (before[a] ?? 0), 0);
  const total = since('total');
  const share = (cycles: number): number => (total === 0 ? 0 : (100 * cycles) / total);
  return {
    user: share(since('plan', 'kernels')),
    system: share(since('calls', 'switches', 'audit')),
    iowait: share(since('transfers', 'stalls')),
    idle: share(since('idle')),
  };
}

/** A figure as sysstat prints it: two decimals, flush right. */
const cell = (n: number, width: number): string => n.toFixed(2).padStart(width);
const ratio = (n: number, by: number): number => (by === 0 ? 0 : n / by);

function processorText(s: Shares): string {
  const names = ['%user', '%system', '%iowait', '%idle'].map(name => name.padStart(8)).join('');
  return `avg-cpu:${names}\n        ${[s.user, s.system, s.iowait, s.idle].map(n => cell(n, 8)).join('')}\n`;
}

function plainText(disks: readonly Activity[], seconds: number, mega: boolean): string {
  const unit = mega ? 'MB' : 'kB';
  const scale = mega ? 1024 * 1024 : 1024;
  const titles = [`${unit}_read/s`, `${unit}_wrtn/s`, `${unit}_read`, `${unit}_wrtn`];
  const head = `${'Device'.padEnd(10)}${'tps'.padStart(10)}${titles.map(t => t.padStart(13)).join('')}\n`;
  const rows = disks.map(a => {
    const sums = [a.readBytes / scale, a.writtenBytes / scale];
    const rates = [(a.reads + a.writes) / seconds, ...sums.map(n => n / seconds)];
    const [tps, ...others] = rates.map(n => (Number.isFinite(n) ? n : 0));
    return `${a.name.padEnd(10)}${cell(tps!, 10)}${[...others, ...sums].map(n => cell(n, 13)).join('')}\n`;
  });
  return head + rows.join('');
}

function extendedText(disks: readonly Activity[], seconds: number, mega: boolean): string {
  const unit = mega ? 'MB' : 'kB';
  const scale = mega ? 1024 * 1024 : 1024;
  const columns: readonly (readonly [string, (a: Activity) => number])[] = [
    ['r/s', a => ratio(a.reads, seconds)],
    [`r${unit}/s`, a => ratio(a.readBytes / scale, seconds)],
    ['r_await', a => ratio(a.readNs / 1e6, a.reads)],
    ['r_wait', a => ratio(a.waitNs / 1e6, a.reads)],
    ['rareq-sz', a => ratio(a.readBytes / 1024, a.reads)],
    ['w/s', a => ratio(a.writes, seconds)],
    [`w${unit}/s`, a => ratio(a.writtenBytes / scale, seconds)],
    ['wareq-sz', a => ratio(a.writtenBytes / 1024, a.writes)],
    ['aqu-sz', a => ratio(a.readNs / 1e9, seconds)],
    ['%util', a => ratio(a.busyNs / 1e7, seconds)],
    ['retry/s', a => ratio(a.retried, seconds)],
    ['err/s', a => ratio(a.errors, seconds)],
  ];
  const width = (title: string): number => Math.max(9, title.length + 1);
  const head = `${'Device'.padEnd(7)}${columns.map(([title]) => title.padStart(width(title))).join('')}\n`;
  const rows = disks.map(a => `${a.name.padEnd(7)}${columns.map(([t, of]) => cell(of(a), width(t))).join('')}\n`);
  return head + rows.join('');
}

const diskJson = (a: Activity, seconds: number): Json => ({
  disk: a.name,
  reads: a.reads,
  read_bytes: a.readBytes,
  reads_per_second: ratio(a.reads, seconds),
  read_bytes_per_second: ratio(a.readBytes, seconds),
  read_await_ms: ratio(a.readNs / 1e6, a.reads),
  read_wait_ms: ratio(a.waitNs / 1e6, a.reads),
  writes: a.writes,
  written_bytes: a.writtenBytes,
  queue: ratio(a.readNs / 1e9, seconds),
  utilisation: ratio(a.busyNs / 1e9, seconds),
  retries: a.retried,
  errors: a.errors,
});
