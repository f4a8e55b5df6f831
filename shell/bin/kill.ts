// kill: sends a signal to processes.

import { SIG, strerror } from '../../kernel/abi/index.ts';
import { define } from '../lib/program.ts';

const options = {
  signal: { short: 's', value: 'SIGNAL', digits: true, help: 'INT, PIPE, TERM (the default) or a number; also -2' },
  list: { short: 'l', help: 'list the signals' },
} as const;

export const kill = define({
  name: 'kill',
  summary: 'send a signal to a process',
  usage: ['[-s SIGNAL] PID...', '-l'],
  options,
  description: 'Sends SIGNAL to each process PID.',
  *main(ctx) {
    if (ctx.options.list) {
      for (const [name, number] of Object.entries(SIG)) yield* ctx.out.print(`${number} ${name}\n`);
      return 0;
    }
    const name = (ctx.options.signal ?? 'TERM').toUpperCase().replace(/^SIG/, '');
    const signal = /^[0-9]+$/.test(name) ? Number(name) : SIG[name as keyof typeof SIG];
    if (signal === undefined) return yield* ctx.fail(`${ctx.options.signal}: invalid signal specification`);
    if (ctx.operands.length === 0) return yield* ctx.usage('no process ID specified');
    let status = 0;
    for (const text of ctx.operands) {
      const errno = /^[0-9]+$/.test(text) ? yield* ctx.sys.kill(Number(text), signal) : null;
      if (errno === null) status = yield* ctx.fail(`${text}: arguments must be process IDs`);
      else if (errno < 0) status = yield* ctx.fail(`(${text}) - ${strerror(errno)}`);
    }
    return status;
  },
});
