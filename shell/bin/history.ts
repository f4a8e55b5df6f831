// history: the commands typed so far, which an interactive shell appends to $HISTFILE and reads from there. Whatever this program makes of
// the file is what the shell recalls from its next prompt on.

import { E } from '../../kernel/abi/index.ts';
import { historyFile, readHistory, writeHistory } from '../lib/history.ts';
import { define } from '../lib/program.ts';

export const history = define({
  name: 'history',
  summary: 'list the commands typed',
  usage: ['[N]', '-c', '-d NUMBER'],
  options: {
    c: { help: 'forget all' },
    d: { value: 'NUMBER', help: 'forget the command with that number' },
  },
  description:
    'Prints the commands of $HISTFILE (default ~/.sh_history) with their numbers; with N only the last N. At the prompt !NUMBER types such a command again; the other forms are in `man line-editing`.',
  examples: [
    ['history 5', 'the last five commands'],
    ['history | grep llmctl', 'commands that had to do with llmctl'],
  ],
  *main(ctx) {
    const { options, operands, sys } = ctx;
    const [limit = options.d] = operands;
    if (limit !== undefined && !/^[0-9]+$/.test(limit)) return yield* ctx.fail(`${limit}: numeric argument required`);
    const file = historyFile(name => ctx.env.get(name));
    const entries = yield* readHistory(sys, file);
    if (entries === -E.NOENT) return 0; // nothing typed yet
    if (typeof entries === 'number') return yield* ctx.fail(file, -entries);
    if (options.c || options.d !== undefined) {
      const at = Number(options.d) - 1;
      if (!options.c && entries[at] === undefined) return yield* ctx.fail(`${options.d}: no such command`);
      const result = yield* writeHistory(sys, file, options.c ? [] : entries.toSpliced(at, 1));
      return result < 0 ? yield* ctx.fail(file, -result) : 0;
    }
    const from = limit === undefined ? 0 : Math.max(0, entries.length - Number(limit));
    for (let i = from; i < entries.length; i++) yield* ctx.out.print(`${String(i + 1).padStart(5)}  ${entries[i]}\n`);
    return 0;
  },
});
