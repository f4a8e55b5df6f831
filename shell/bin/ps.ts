// ps: the processes of the machine, chosen and printed in the columns one asks for. Times are virtual: cycles of the processor.

import { readAccounts } from '../lib/accounts.ts';
import type { Accounts } from '../lib/accounts.ts';
import { table, times } from '../lib/fmt.ts';
import { clockTime, processTable } from '../lib/processes.ts';
import type { ProcessRow } from '../lib/processes.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

const options = {
  e: { short: 'eA', help: 'all processes; otherwise those of this user on the terminal' },
  full: { short: 'f', help: 'columns UID PID PPID STIME TTY TIME CMD' },
  long: { short: 'l', help: 'columns S UID PID PPID PGID WCHAN TTY TIME CMD' },
  pid: { short: 'p', value: 'PID,...', many: true, help: 'these processes' },
  user: { short: 'u', value: 'USER,...', many: true, help: 'processes of these users' },
  format: { short: 'o', value: 'COLUMN[=TITLE],...', many: true, help: 'these columns; see below' },
  sort: { value: '[-]COLUMN', help: 'in this order; with - the greatest first' },
  'no-headers': { help: 'no line of titles' },
} as const;
type PsContext = Context<typeof options>;

/** What columns are made from. */
interface Moment {
  readonly nowSeconds: number;
  readonly hz: number;
  readonly accounts: Accounts;
}
interface Column {
  readonly title: string;
  readonly right?: true;
  readonly value: (p: ProcessRow, m: Moment) => string | number;
}

const userOf = ({ uid }: ProcessRow, { accounts }: Moment): string => accounts.userName(uid) ?? String(uid);
const elapsed = (p: ProcessRow, { nowSeconds }: Moment): number => nowSeconds - p.startNs / 1e9;

const columns: Readonly<Record<string, Column>> = {
  pid: { title: 'PID', right: true, value: p => p.pid },
  ppid: { title: 'PPID', right: true, value: p => p.ppid },
  pgid: { title: 'PGID', right: true, value: p => p.pgid },
  uid: { title: 'UID', right: true, value: p => p.uid },
  user: { title: 'USER', value: userOf },
  stat: { title: 'STAT', value: p => p.stat },
  s: { title: 'S', value: p => p.stat[0]! },
  tty: { title: 'TTY', value: p => p.tty },
  stime: { title: 'STIME', value: p => clockTime(p.startNs / 1e9) },
  etime: { title: 'ELAPSED', right: true, value: (p, m) => clockTime(elapsed(p, m)) },
  time: { title: 'TIME', right: true, value: (p, m) => clockTime(p.cycles / m.hz) },
  cycles: { title: 'CYCLES', right: true, value: p => p.cycles },
  wchan: { title: 'WCHAN', value: p => p.wchan },
  comm: { title: 'COMMAND', value: p => p.command.split(' ', 1)[0]! },
  args: { title: 'COMMAND', value: p => p.command },
};
const aliases: Readonly<Record<string, string>> = {
  cmd: 'args',
  command: 'args',
  state: 's',
  ruser: 'user',
  tt: 'tty',
};
const layouts = {
  plain: 'pid,tty,stat,time,args=CMD',
  full: 'user=UID,pid,ppid,stime,tty,time,args=CMD',
  long: 's,uid,pid,ppid,pgid,wchan,tty,time,args=CMD',
  bsd: 'user,pid,ppid,stat,cycles,stime,time,args',
};

export const ps = define({
  name: 'ps',
  summary: 'list processes',
  usage: ['[-ef] [-l] [-p PID,...] [-u USER,...] [-o COLUMN,...]', 'aux'],
  options,
  description: `Prints a line for each process. STAT is R for one that runs or could, S for one that waits in the system call WCHAN, T when it is stopped, Z when it has ended and its parent has not asked; + marks the group in the foreground of the terminal. TIME is virtual: cycles of its system calls and of the sessions it has open, at the processor's rate. Columns of -o: ${Object.keys(columns).join(' ')}.`,
  examples: [
    ['ps -ef', 'everything that there is'],
    ['ps -o pid,stat,wchan,args', 'what each process waits for'],
  ],
  *main(ctx) {
    const bsd = ctx.operands.length === 1 && /^[aux]+$/.test(ctx.operands[0]!);
    if (ctx.operands.length > 0 && !bsd) return yield* ctx.usage(`extra operand '${ctx.operands[0]}'`);
    const shown = parseColumns(layoutOf(ctx, bsd));
    if (typeof shown === 'string') return yield* ctx.usage(`unknown column '${shown}'`);
    const all = yield* processTable(ctx.sys);
    if (typeof all === 'number') return yield* ctx.fail('/proc/ps', -all);
    const { nowNs, hz } = yield* times(ctx.sys);
    const moment = { nowSeconds: nowNs / 1e9, hz, accounts: yield* readAccounts(ctx.sys) };
    const chosen = yield* choose(ctx, all, moment, bsd);
    if (typeof chosen === 'string') return yield* ctx.usage(chosen);
    const order = sortColumn(ctx.options.sort);
    if (order === null) return yield* ctx.usage(`unknown column '${ctx.options.sort}'`);
    if (order !== undefined)
      chosen.sort((a, b) => order.sign * compare(order.column.value(a, moment), order.column.value(b, moment)));
    const rows = chosen.map(p => shown.map(({ column }) => String(column.value(p, moment))));
    const titled = !ctx.options['no-headers'] && shown.some(({ title }) => title !== '');
    const head = titled ? [shown.map(({ title }) => title)] : [];
    yield* ctx.out.print(
      table(
        [...head, ...rows],
        shown.map(({ column }) => column.right ?? false),
        ' ',
      ),
    );
    return rows.length > 0 ? 0 : 1;
  },
});

function layoutOf({ options }: PsContext, bsd: boolean): string {
  if (options.format.length > 0) return options.format.join(',');
  return layouts[bsd ? 'bsd' : options.long ? 'long' : options.full ? 'full' : 'plain'];
}

/** Columns with their titles, or the name that is none. */
function parseColumns(text: string): { column: Column; title: string }[] | string {
  const shown: { column: Column; title: string }[] = [];
  for (const part of text.split(',')) {
    const [name = '', title] = part.split('=', 2);
    const column = columnOf(name);
    if (column === undefined) return name;
    shown.push({ column, title: title ?? column.title });
  }
  return shown;
}

const columnOf = (name: string): Column | undefined => columns[aliases[name] ?? name];

/** What --sort names: undefined without it, null when there is no such column. */
function sortColumn(text: string | undefined): { column: Column; sign: number } | undefined | null {
  if (text === undefined) return undefined;
  const column = columnOf(text.replace(/^[-+]/, ''));
  return column === undefined ? null : { column, sign: text.startsWith('-') ? -1 : 1 };
}

const compare = (a: string | number, b: string | number): number => (a < b ? -1 : a > b ? 1 : 0);

/** The processes that the command line selects, or what is wrong with it. */
function* choose(
  ctx: PsContext,
  all: readonly ProcessRow[],
  { accounts }: Moment,
  bsd: boolean,
): Generator<void, ProcessRow[] | string, void> {
  const { options } = ctx;
  const pids = options.pid.join(',').split(/[, ]+/).filter(Boolean);
  const bad = pids.find(text => !/^[0-9]+$/.test(text));
  if (bad !== undefined) return `'${bad}' is not a process ID`;
  const users = options.user.join(',').split(/[, ]+/).filter(Boolean);
  const uids = users.map(name => accounts.uid(name));
  const unknown = users[uids.indexOf(null)];
  if (unknown !== undefined) return `user '${unknown}' does not exist`;
  if (options.e || bsd) return [...all];
  if (pids.length + uids.length > 0) return all.filter(p => pids.includes(String(p.pid)) || uids.includes(p.uid));
  const own = yield* ctx.sys.geteuid();
  const terminal = all.some(p => p.tty !== '?');
  return all.filter(p => p.uid === own && (!terminal || p.tty !== '?'));
}
