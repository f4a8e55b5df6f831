// help: what commands there are.

import { table } from '../lib/fmt.ts';
import { define, helpText } from '../lib/program.ts';

export const help = define({
  name: 'help',
  summary: 'list the commands',
  usage: ['[COMMAND]'],
  description: 'Lists every command with one line about it; with COMMAND prints what `COMMAND --help` does.',
  *main(ctx) {
    const [name] = ctx.operands;
    if (name !== undefined) {
      const page = ctx.manual.get(name);
      if (page === undefined) return yield* ctx.fail(`no help on '${name}'`);
      yield* ctx.out.print(helpText(page));
      return 0;
    }
    const pages = [...ctx.manual.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    yield* ctx.out.print(table(pages.map(p => [p.name, p.summary])));
    yield* ctx.out.print('\nmore: COMMAND --help, man COMMAND, man intro, ls /usr/share/labs\n');
    return 0;
  },
});
