// dirname: a path without its last part.

import { dirname as first } from '../lib/files.ts';
import { define } from '../lib/program.ts';

const options = { zero: { short: 'z', help: 'end each name with a zero byte instead of a newline' } } as const;

export const dirname = define({
  name: 'dirname',
  summary: 'print a path without its last part',
  usage: ['[-z] PATH...'],
  options,
  description: 'Prints each PATH without its last part; `.` when there is only one.',
  *main(ctx) {
    if (ctx.operands.length === 0) return yield* ctx.usage('missing operand');
    for (const path of ctx.operands) yield* ctx.out.print(`${first(path)}${ctx.options.zero ? '\0' : '\n'}`);
    return 0;
  },
});
