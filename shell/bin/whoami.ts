// whoami: the name of the effective user.

import { readAccounts } from '../lib/accounts.ts';
import { define } from '../lib/program.ts';

export const whoami = define({
  name: 'whoami',
  summary: 'print the name of the user',
  usage: [''],
  description: 'Prints the name of the user whose rights this process has.',
  *main(ctx) {
    const uid = yield* ctx.sys.geteuid();
    const name = (yield* readAccounts(ctx.sys)).userName(uid);
    if (name === undefined) return yield* ctx.fail(`cannot find name for user ID ${uid}`);
    yield* ctx.out.print(`${name}\n`);
    return 0;
  },
});
