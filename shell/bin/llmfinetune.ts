// llmfinetune: adapts the loaded model to a user's own examples, and keeps what comes of it in versions. One verb a command, from two tables:
// those that train (lib/finetune/train-verbs.ts) and those about what was trained (lib/finetune/store-verbs.ts).

import { define } from '../lib/program.ts';
import { storeVerbOptions, storeVerbs } from '../lib/finetune/store-verbs.ts';
import { trainOptions, trainVerbs } from '../lib/finetune/train-verbs.ts';
import { commonOptions } from '../lib/finetune/verb.ts';
import type { Verb } from '../lib/finetune/verb.ts';
import { runVerb } from '../lib/verbs.ts';

const options = { ...commonOptions, ...trainOptions, ...storeVerbOptions } as const;
const ownOptions = Object.keys(options).filter(option => !Object.hasOwn(commonOptions, option));

const verbs: Readonly<Record<string, Verb<typeof options>>> = { ...trainVerbs, ...storeVerbs };

const rows = Object.entries(verbs);
const nameColumns = Math.max(0, ...rows.map(([name]) => name.length)) + 2;

export const llmfinetune = define({
  name: 'llmfinetune',
  summary: 'adapt the loaded model to your own examples',
  usage: rows.map(([name, verb]) => `${name} ${verb.usage}`.trimEnd()),
  description: [
    'NAME is what the result is called: an adapter that lies beside a model and changes what it says, never the model itself. Each training of a name makes its next version. How training works, what data look like and what it costs are explained in finetune(7): man finetune.',
    '',
    ...rows.map(([name, verb]) => `  ${name.padEnd(nameColumns)}${verb.help}`),
    '',
    'The keys of every --json form are in json(7): man json.',
    '',
    'Exit status: 0, 1 for an error or what does not fit, 2 for a wrong command line, 130 after Ctrl-C.',
  ].join('\n'),
  options,
  usageStatus: 2,
  main: function* (ctx) {
    const [name, ...operands] = ctx.operands;
    if (name === undefined) return yield* ctx.usage('missing command');
    if (!Object.hasOwn(verbs, name)) return yield* ctx.usage(`unknown command '${name}'`);
    return yield* runVerb(ctx, name, verbs[name]!, ownOptions, operands);
  },
});
