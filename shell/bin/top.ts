// top: what the machine is doing, drawn again as its time goes by: processes by the cycles they took, sessions, the arena, and where
// the cycles went since the last screen.

import { readAccounts } from '../lib/accounts.ts';
import type { Accounts } from '../lib/accounts.ts';
import { readText } from '../lib/files.ts';
import { table, times } from '../lib/fmt.ts';
import { clockTime, minuteTime, processTable } from '../lib/processes.ts';
import type { ProcessRow } from '../lib/processes.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { EVENT, Screen, bold, clipped, fitted, reverse } from '../lib/screen.ts';
import { hasEnded, sessionCells, sessionRight, sessionTable, sessionTitles } from '../lib/sessions.ts';
import type { SessionRow } from '../lib/sessions.ts';

const options = {
  batch: { short: 'b', help: 'print one screen (or -n), without taking the terminal' },
  iterations: { short: 'n', value: 'N', help: 'end after N screens' },
  delay: { short: 'd', value: 'SECONDS', help: 'of virtual time between screens (3; at least 0.1)' },
  order: { short: 'o', value: 'COLUMN', help: 'sort by cpu, time or pid' },
} as const;
type TopContext = Context<typeof options>;

const delayMsMin = 100;
const orders = {
  cpu: (a: Taken, b: Taken) => b.taken - a.taken || b.cycles - a.cycles || a.pid - b.pid,
  time: (a: Taken, b: Taken) => b.cycles - a.cycles || a.pid - b.pid,
  pid: (a: Taken, b: Taken) => a.pid - b.pid,
} as const;
type Order = keyof typeof orders;
const orderKeys: Readonly<Record<string, Order>> = { P: 'cpu', T: 'time', N: 'pid' };
/** Accounts of the clock as the third line names them. */
const accounts = ['plan', 'kernels', 'calls', 'switches', 'transfers', 'stalls', 'audit', 'idle'] as const;

/** A process, and the cycles it took since the screen before. */
interface Taken extends ProcessRow {
  readonly taken: number;
}

/** Everything one screen is made from, read at one moment. */
interface Sample {
  readonly nowNs: number;
  readonly hz: number;
  readonly target: string;
  readonly processes: readonly ProcessRow[];
  readonly clock: ReadonlyMap<string, number>;
  readonly memory: ReadonlyMap<string, number>; // KiB
  readonly model: string;
  readonly sessions: readonly SessionRow[];
  readonly accounts: Accounts;
}

export const top = define({
  name: 'top',
  summary: 'show processes and what the machine does',
  usage: ['[-b] [-n N] [-d SECONDS] [-o COLUMN]'],
  options,
  description:
    'Shows on the whole screen, every three seconds of virtual time: how long the machine has run, processes by state, what the cycles since the screen before went into, the arena in KiB, the model and its sessions, then the processes with their share of those cycles, and below them the sessions (llmctl sessions says what the columns are). Keys: q ends, P T N sort by share, time or number, S shows the sessions alone or both, SPACE draws at once. With -b prints to standard output, which need not be a terminal.',
  examples: [['top -b', 'one screen as text']],
  *main(ctx) {
    if (ctx.operands.length > 0) return yield* ctx.usage(`extra operand '${ctx.operands[0]}'`);
    const { iterations, delay, batch } = ctx.options;
    const order = ctx.options.order ?? 'cpu';
    if (!(order in orders)) return yield* ctx.usage(`unknown column '${order}': ${Object.keys(orders).join(', ')}`);
    if (iterations !== undefined && !/^[1-9][0-9]{0,8}$/.test(iterations))
      return yield* ctx.usage(`bad iterations '${iterations}'`);
    const seconds = Number(delay ?? 3);
    if (delay === '' || !(seconds >= 0 && seconds < 1e6)) return yield* ctx.usage(`bad delay '${delay}'`);
    const milliseconds = Math.max(delayMsMin, Math.round(seconds * 1000));
    const screens = Number(iterations ?? (batch ? 1 : Infinity));
    if (batch) return yield* printing(ctx, order as Order, milliseconds, screens);
    const screen = yield* Screen.open(ctx.sys, 1);
    if (typeof screen === 'number') return yield* ctx.fail('standard output is not a terminal; use -b');
    yield* drawing(ctx, screen, order as Order, milliseconds, screens);
    yield* screen.close();
    return 0;
  },
});

function* printing(
  ctx: TopContext,
  order: Order,
  milliseconds: number,
  screens: number,
): Generator<void, number, void> {
  let before: Sample | null = null;
  for (let n = 0; n < screens; n++) {
    if (n > 0) yield* ctx.sys.sleep(milliseconds);
    const now: Sample = yield* sample(ctx);
    const { head, tables } = screenOf(now, before, order);
    yield* ctx.out.print(`${n > 0 ? '\n' : ''}${[head, ...tables].map(rows => rows.join('\n')).join('\n\n')}\n`);
    yield* ctx.out.flush();
    before = now;
  }
  return 0;
}

function* drawing(
  ctx: TopContext,
  screen: Screen,
  by: Order,
  milliseconds: number,
  screens: number,
): Generator<void, void, void> {
  let order = by;
  let sessionsAlone = false;
  let before: Sample | null = null;
  for (let n = 0; n < screens; n++) {
    const now: Sample = yield* sample(ctx);
    for (;;) {
      const { head, tables } = screenOf(now, before, order);
      const [first = '', ...facts] = head.map(line => clipped(line, screen.columns));
      const shown = sessionsAlone ? tables.slice(-1) : tables;
      const rows = stacked(shown, screen.rows - head.length).map(({ text, isTitle }) =>
        isTitle ? reverse(fitted(text, screen.columns)) : clipped(text, screen.columns),
      );
      yield* screen.show([bold(first), ...facts, ...rows].slice(0, screen.rows));
      const key = yield* screen.key(milliseconds);
      if (key === 'q' || key === 'Q' || key === EVENT.interrupt || key === EVENT.end) return;
      if (key === 'S' || key === 's') sessionsAlone = !sessionsAlone;
      else if (orderKeys[key] !== undefined) order = orderKeys[key];
      else if (key !== EVENT.redraw) break;
    }
    before = now;
  }
}

interface ScreenRow {
  readonly text: string;
  readonly isTitle: boolean;
}

/** Tables one below the other in so many rows: where they do not fit, the last one leaves half of the rows to those above. */
function stacked(tables: readonly (readonly string[])[], rows: number): ScreenRow[] {
  const last = tables.at(-1)!.length + 1; // a blank row before each
  const above = tables.slice(0, -1).reduce((sum, table) => sum + table.length + 1, 0);
  const most = Math.max(rows - Math.min(last, Math.floor(rows / 2)), rows - last);
  const parts = tables.map((table, i) =>
    table.slice(0, i < tables.length - 1 && above > most ? Math.max(1, most - 1) : undefined),
  );
  return parts.flatMap(table => [
    { text: '', isTitle: false },
    ...table.map((text, i) => ({ text, isTitle: i === 0 })),
  ]);
}

function* sample(ctx: TopContext): Generator<void, Sample, void> {
  const { sys } = ctx;
  const text = function* (path: string): Generator<void, string, void> {
    const found = yield* readText(sys, path);
    return typeof found === 'string' ? found : '';
  };
  const { nowNs, hz } = yield* times(sys);
  const processes = yield* processTable(sys);
  const sessions = yield* sessionTable(sys);
  return {
    nowNs,
    hz,
    target: /model name\t: (.*)/.exec(yield* text('/proc/cpuinfo'))?.[1] ?? '',
    processes: typeof processes === 'number' ? [] : processes,
    clock: figures(yield* text('/proc/clock'), ' '),
    memory: figures(yield* text('/proc/meminfo'), ':'),
    model: (yield* text('/proc/models')).split(' sha256=', 1)[0]!,
    sessions: typeof sessions === 'number' ? [] : sessions,
    accounts: yield* readAccounts(sys),
  };
}

/** `NAME: NUMBER …` a line. */
function figures(text: string, separator: string): Map<string, number> {
  const rows = text.split('\n').filter(Boolean);
  return new Map(rows.map(row => [row.split(separator, 1)[0]!, Number(/ ([0-9]+)/.exec(row)?.[1] ?? 0)]));
}

/** The lines above the tables, and the tables with their titles: processes and, where there are some, sessions, those that run first. */
function screenOf(now: Sample, before: Sample | null, order: Order): { head: string[]; tables: string[][] } {
  const elapsed = now.clock.get('total')! - (before?.clock.get('total') ?? 0);
  const earlier = new Map(before?.processes.map(p => [p.pid, p.cycles]));
  const processes: Taken[] = now.processes.map(p => ({
    ...p,
    taken: Math.max(0, p.cycles - (earlier.get(p.pid) ?? 0)),
  }));
  const rows = processes
    .toSorted(orders[order])
    .map(p => [
      String(p.pid),
      now.accounts.userName(p.uid) ?? String(p.uid),
      p.stat[0]!,
      percent(p.taken, elapsed),
      minuteTime(p.cycles / now.hz),
      String(p.cycles),
      p.wchan,
      p.command,
    ]);
  const titles = ['PID', 'USER', 'S', '%CPU', 'TIME', 'CYCLES', 'WAITS IN', 'COMMAND'];
  const tables = [lines([titles, ...rows], [true, false, false, true, true, true])];
  if (now.sessions.length > 0) {
    const sessions = now.sessions.toSorted((a, b) => Number(hasEnded(a)) - Number(hasEnded(b)) || a.id - b.id);
    const cells = sessions.map(s => sessionCells(s, now.accounts, now.hz));
    tables.push(lines([sessionTitles, ...cells], sessionRight));
  }
  return { head: headOf(now, before, elapsed), tables };
}

const lines = (rows: readonly (readonly string[])[], right: readonly boolean[]): string[] =>
  table(rows, right, ' ').trimEnd().split('\n');

function headOf(now: Sample, before: Sample | null, elapsed: number): string[] {
  const inState = (state: string): number => now.processes.filter(p => p.stat.startsWith(state)).length;
  const spent = accounts.map(
    name => `${percent(now.clock.get(name)! - (before?.clock.get(name) ?? 0), elapsed)} ${name}`,
  );
  const inSession = (which: (s: SessionRow) => boolean): number => now.sessions.filter(which).length;
  const { memory } = now;
  const total = memory.get('MemTotal') ?? 0;
  const free = memory.get('MemFree') ?? 0;
  return [
    `top - up ${clockTime(now.nowNs / 1e9)} (virtual), ${now.target} at ${now.hz / 1e6} MHz`,
    `Processes: ${now.processes.length} total, ${inState('R')} running, ${inState('S')} waiting, ${inState('T')} stopped, ${inState('Z')} ended`,
    `%Cycles: ${spent.join(', ')}`,
    `KiB Arena: ${total} total, ${total - free} used, ${free} free, ${memory.get('MemPeak') ?? 0} peak`,
    `Model: ${now.model === '' ? 'none' : now.model}`,
    `Sessions: ${now.sessions.length} total, ${inSession(isRunning)} running, ${inSession(isQueued)} queued, ${inSession(hasEnded)} ended`,
  ];
}

const isQueued = (s: SessionRow): boolean => s.state === 'QUEUED';
const isRunning = (s: SessionRow): boolean => !isQueued(s) && !hasEnded(s);

const percent = (part: number, whole: number): string => (whole > 0 ? (100 * part) / whole : 0).toFixed(1);
