// basename: the last part of a path.

import { basename as last } from '../lib/files.ts';
import { define } from '../lib/program.ts';

const options = {
  multiple: { short: 'a', help: 'every operand is a path' },
  suffix: { short: 's', value: 'SUFFIX', help: 'remove SUFFIX from the end; implies -a' },
  zero: { short: 'z', help: 'end each name with a zero byte instead of a newline' },
} as const;

export const basename = define({
  name: 'basename',
  summary: 'print the last part of a path',
  usage: ['PATH [SUFFIX]', '-a [-s SUFFIX] PATH...'],
  options,
  order: 'posix',
  description: 'Prints PATH without its directories, and without SUFFIX at its end.',
  *main(ctx) {
    const { options, operands } = ctx;
    if (operands.length === 0) return yield* ctx.usage('missing operand');
    const many = options.multiple || options.suffix !== undefined;
    if (!many && operands.length > 2) return yield* ctx.usage(`extra operand '${operands[2]}'`);
    const suffix = options.suffix ?? (many ? '' : (operands[1] ?? ''));
    for (const path of many ? operands : operands.slice(0, 1)) {
      const name = last(path);
      const stem = name !== suffix && name.endsWith(suffix) ? name.slice(0, name.length - suffix.length) : name;
      yield* ctx.out.print(stem + (options.zero ? '\0' : '\n'));
    }
    return 0;
  },
});
