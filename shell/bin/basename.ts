// basename: the last part of a path.

import { basename as last } from '../lib/files.ts';
import { define } from '../lib/program.ts';

export const basename = define({
  name: 'basename',
  summary: 'print the last part of a path',
  usage: ['PATH [SUFFIX]'],
  description: 'Prints PATH without its directories, and without SUFFIX at its end.',
  *main(ctx) {
    const [path, suffix = ''] = ctx.operands;
    if (path === undefined) return yield* ctx.usage('missing operand');
    const name = last(path);
    yield* ctx.out.print(
      `${name !== suffix && name.endsWith(suffix) ? name.slice(0, name.length - suffix.length) : name}\n`,
    );
    return 0;
  },
});
