// time: how much virtual time a command takes.

import { runCommand } from '../lib/exec.ts';
import { times } from '../lib/fmt.ts';
import { define } from '../lib/program.ts';

export const time = define({
  name: 'time',
  summary: 'time a command in virtual time',
  usage: ['COMMAND [ARG]...'],
  order: 'posix',
  usageStatus: 125,
  description:
    'Runs COMMAND, then prints on standard error the virtual time that passed and the cycles that the machine spent.',
  examples: [['time sha256sum /models/*', 'what reading all models costs']],
  *main(ctx) {
    if (ctx.operands.length === 0) return yield* ctx.usage('missing command');
    const before = yield* times(ctx.sys);
    const status = yield* runCommand(ctx, ctx.operands);
    const after = yield* times(ctx.sys);
    const ns = after.nowNs - before.nowNs;
    const seconds = `${Math.floor(ns / 1e9) % 60}.${String(Math.floor(ns / 1e3) % 1e6).padStart(6, '0')}`;
    yield* ctx.err.print(`real\t${Math.floor(ns / 60e9)}m${seconds}s\ncycles\t${after.cycles - before.cycles}\n`);
    return status;
  },
});
