// strace: shows the system calls of a command. The kernel formats the lines, from the same table that made the calls.

import { O, SEEK, utf8Decode, utf8Encode } from '../../kernel/abi/index.ts';
import { startCommand, waitFor } from '../lib/exec.ts';
import { table } from '../lib/fmt.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { Input, writeAll } from '../lib/stdio.ts';

const options = {
  'summary-only': { short: 'c', help: 'count calls and errors by name instead' },
  output: { short: 'o', value: 'FILE', help: 'write to FILE instead of standard error' },
} as const;

export const strace = define({
  name: 'strace',
  summary: 'show the system calls of a command',
  usage: ['[-c] [-o FILE] COMMAND [ARG]...'],
  options,
  order: 'posix',
  description:
    'Runs COMMAND and prints each system call that it and its children make, with arguments and result; [pid N] before those of several processes at a time. Ends with the status of COMMAND.',
  examples: [['strace cat /etc/hostname', 'the calls that printing a file takes']],
  *main(ctx) {
    const { options, operands, sys } = ctx;
    if (operands.length === 0) return yield* ctx.usage('must have a command');
    let to = 2;
    if (options.output !== undefined) {
      to = yield* sys.open(options.output, O.WRONLY | O.CREAT | O.TRUNC, 0o666);
      if (to < 0) return yield* ctx.fail(options.output, -to);
    }
    if (options['summary-only']) return yield* summarize(ctx, to);
    const pid = yield* startCommand(ctx, operands, to);
    if (pid < 0) return -pid;
    const status = yield* waitFor(sys, pid);
    yield* writeAll(sys, to, utf8Encode(`+++ exited with ${status} +++\n`));
    return status;
  },
});

interface Tally {
  calls: number;
  errors: number;
}

/** Runs the command with its trace in memory storage, counts lines by call, prints the table. */
function* summarize(ctx: Context<typeof options>, to: number): Generator<void, number, void> {
  const { sys } = ctx;
  const trace = yield* sys.memfd('strace');
  if (trace < 0) return yield* ctx.fail('cannot make a trace file', -trace);
  const pid = yield* startCommand(ctx, ctx.operands, trace);
  if (pid < 0) return -pid;
  const status = yield* waitFor(sys, pid);
  yield* sys.lseek(trace, 0, SEEK.set);
  const tallies = new Map<string, Tally>();
  const lines = new Input(sys, trace);
  let line: Uint8Array | null;
  while ((line = yield* lines.line()) !== null) {
    const text = utf8Decode(line);
    const [, name = ''] = /^(?:\[pid \d+\] )?(\w+)\(/.exec(text) ?? [];
    const tally = tallies.get(name) ?? { calls: 0, errors: 0 };
    tally.calls++;
    if (/ = -1 E\S+ \(.*\)\n$/.test(text)) tally.errors++;
    tallies.set(name, tally);
  }
  const sorted = [...tallies].sort(([a, x], [b, y]) => y.calls - x.calls || (a < b ? -1 : 1));
  const rows = sorted.map(([name, t]) => [String(t.calls), t.errors === 0 ? '' : String(t.errors), name]);
  const text = table([['calls', 'errors', 'syscall'], ...rows], [true, true]);
  yield* writeAll(sys, to, utf8Encode(text));
  return status;
}
