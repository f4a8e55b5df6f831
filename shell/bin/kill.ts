// kill: sends a signal to processes or to process groups.

import { SIG, strerror } from '../../kernel/abi/index.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { signalName, signalNumber } from '../sh/traps.ts';

const options = {
  signal: {
    short: 's',
    value: 'SIGNAL',
    help: 'a name (TERM, the default; INT, SIGKILL, ...) or a number; also -SIGNAL',
  },
  list: { short: 'l', help: 'list the signals, or name those of the operands' },
} as const;

export const kill = define({
  name: 'kill',
  summary: 'send a signal to a process',
  usage: ['[-s SIGNAL | -SIGNAL] PID...', '-l [NUMBER | STATUS | NAME]...'],
  options,
  order: 'none',
  description:
    'Sends SIGNAL to each process PID; a negative PID means a process group. Signal 0 only asks whether the process is there and may be signalled. -l takes an exit status beyond 128 for the signal that caused it. In the shell, kill is a builtin that also knows jobs: kill %1.',
  examples: [
    ['kill -STOP 7', 'stops process 7; kill -CONT 7 lets it go on'],
    ['kill -l 130', 'INT: what ended a command with status 130'],
  ],
  *main(ctx) {
    let args = ctx.operands;
    let name = 'TERM';
    const [first = ''] = args;
    if (first === '-l' || first === '--list') return yield* list(ctx, args.slice(1));
    const [, joined] = /^(?:--signal=|-s)(.+)$/.exec(first) ?? [];
    if (first === '-s' || first === '--signal') [name, args] = [args[1] ?? '', args.slice(2)];
    else if (joined !== undefined) [name, args] = [joined, args.slice(1)];
    else if (/^-[A-Za-z0-9]/.test(first)) [name, args] = [first.slice(1), args.slice(1)];
    if (args[0] === '--') args = args.slice(1);
    const signal = signalOf(name);
    if (signal === null) return yield* ctx.fail(`${name}: invalid signal specification`);
    if (args.length === 0) return yield* ctx.usage('no process ID specified');
    let status = 0;
    for (const text of args) {
      const errno = /^-?[0-9]{1,9}$/.test(text) ? yield* ctx.sys.kill(Number(text), signal) : null;
      if (errno === null) status = yield* ctx.fail(`${text}: arguments must be process IDs`);
      else if (errno < 0) status = yield* ctx.fail(`(${text}) - ${strerror(errno)}`);
    }
    return status;
  },
});

/** As signalNumber; EXIT is a trap of the shell and no signal. */
const signalOf = (text: string): number | null => (/^(SIG)?EXIT$/i.test(text) ? null : signalNumber(text));

function* list(ctx: Context<typeof options>, wanted: readonly string[]): Generator<void, number, void> {
  const every = Object.entries(SIG).map(([name, number]) => `${String(number).padStart(2)} ${name}\n`);
  if (wanted.length === 0) yield* ctx.out.print(every.join(''));
  let status = 0;
  for (const text of wanted) {
    const number = signalOf(/^[0-9]+$/.test(text) ? String(Number(text) & 127) : text);
    if (number === null) status = yield* ctx.fail(`${text}: invalid signal specification`);
    else yield* ctx.out.print(`${/^[0-9]/.test(text) ? signalName(number) : number}\n`);
  }
  return status;
}
