// sleep: waits in virtual time; nobody outside the machine notices.

import { define } from '../lib/program.ts';

const units: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86400 };

export const sleep = define({
  name: 'sleep',
  summary: 'wait in virtual time',
  usage: ['NUMBER[smhd]...'],
  description: 'Waits the sum of its arguments: seconds, or minutes, hours, days with a suffix. Fractions are allowed.',
  *main(ctx) {
    if (ctx.operands.length === 0) return yield* ctx.usage('missing operand');
    let milliseconds = 0;
    for (const text of ctx.operands) {
      const [, number, unit] = /^([0-9]*\.?[0-9]+|[0-9]+\.)([smhd]?)$/.exec(text) ?? [];
      if (number === undefined) return yield* ctx.usage(`invalid time interval '${text}'`);
      milliseconds += Number(number) * 1000 * units[unit || 's']!;
    }
    for (let left = Math.ceil(milliseconds); left > 0; left -= 0x7fffffff) {
      const errno = yield* ctx.sys.sleep(Math.min(left, 0x7fffffff));
      if (errno < 0) return yield* ctx.fail('cannot sleep so long', -errno);
    }
    return 0;
  },
});
