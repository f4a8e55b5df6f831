// history: the command lines typed so far, which an interactive shell appends to $HISTFILE.

import { readText } from '../lib/files.ts';
import { define } from '../lib/program.ts';

export const history = define({
  name: 'history',
  summary: 'list the commands typed',
  usage: ['[N]'],
  description: 'Prints the lines of $HISTFILE with their numbers; with N only the last N.',
  *main(ctx) {
    const [limit] = ctx.operands;
    if (limit !== undefined && !/^[0-9]+$/.test(limit)) return yield* ctx.fail(`${limit}: numeric argument required`);
    const file = ctx.env.get('HISTFILE');
    const text = file === undefined ? '' : yield* readText(ctx.sys, file);
    if (typeof text === 'number') return 0; // nothing typed yet
    const lines = text.split('\n').slice(0, -1);
    const from = limit === undefined ? 0 : Math.max(0, lines.length - Number(limit));
    for (let i = from; i < lines.length; i++) yield* ctx.out.print(`${String(i + 1).padStart(5)}  ${lines[i]}\n`);
    return 0;
  },
});
