// env: shows the environment, or runs a command in a changed one.

import { runCommand } from '../lib/exec.ts';
import { define } from '../lib/program.ts';

const options = {
  'ignore-environment': { short: 'i', help: 'begin with an empty environment' },
  unset: { short: 'u', value: 'NAME', many: true, help: 'remove a variable' },
} as const;

export const env = define({
  name: 'env',
  summary: 'show or change the environment',
  usage: ['[-i] [-u NAME]... [NAME=VALUE]... [COMMAND [ARG]...]'],
  options,
  order: 'posix',
  usageStatus: 125,
  description: 'Runs COMMAND with the environment changed as said. Without COMMAND prints the environment.',
  examples: [['env PATH=/tmp ls', 'runs ls with another PATH: it is not found']],
  *main(ctx) {
    const environment = new Map(ctx.options['ignore-environment'] ? [] : ctx.env);
    for (const name of ctx.options.unset) environment.delete(name);
    let i = 0;
    for (; i < ctx.operands.length; i++) {
      const text = ctx.operands[i]!;
      const eq = text.indexOf('=');
      if (eq < 1) break;
      environment.set(text.slice(0, eq), text.slice(eq + 1));
    }
    if (i < ctx.operands.length) return yield* runCommand({ ...ctx, env: environment }, ctx.operands.slice(i));
    for (const [name, value] of environment) yield* ctx.out.print(`${name}=${value}\n`);
    return 0;
  },
});
