// seq: a sequence of whole numbers.

import { define } from '../lib/program.ts';

const options = {
  separator: { short: 's', value: 'TEXT', help: 'what stands between numbers (default a newline)' },
} as const;

export const seq = define({
  name: 'seq',
  summary: 'print a sequence of numbers',
  usage: ['LAST', 'FIRST LAST', 'FIRST STEP LAST'],
  options,
  order: 'posix',
  description: 'Prints the whole numbers from FIRST (default 1) to LAST in steps of STEP (default 1).',
  *main(ctx) {
    if (ctx.operands.length === 0) return yield* ctx.usage('missing operand');
    if (ctx.operands.length > 3) return yield* ctx.usage(`extra operand '${ctx.operands[3]}'`);
    const bad = ctx.operands.find(text => !/^[-+]?[0-9]{1,15}$/.test(text));
    if (bad !== undefined) return yield* ctx.usage(`invalid whole number argument: '${bad}'`);
    const numbers = ctx.operands.map(Number);
    const last = numbers.at(-1)!;
    const first = numbers.length > 1 ? numbers[0]! : 1;
    const step = numbers.length > 2 ? numbers[1]! : 1;
    if (step === 0) return yield* ctx.usage("invalid Zero increment value: '0'");
    const separator = ctx.options.separator ?? '\n';
    let printed = false;
    for (let n = first; step > 0 ? n <= last : n >= last; n += step) {
      yield* ctx.out.print(`${printed ? separator : ''}${n}`);
      printed = true;
    }
    if (printed) yield* ctx.out.print('\n');
    return 0;
  },
});
