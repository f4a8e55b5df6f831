// su: runs a shell as somebody else. It is a set-user-ID program: whoever starts it, it has root's right to become another user, and gives
// it up before it starts anything. Root becomes anyone; others give the password of who they want to be.

import { SIG } from '../../kernel/abi/index.ts';
import { readAccount } from '../lib/accounts.ts';
import type { Account } from '../lib/accounts.ts';
import { runCommand } from '../lib/exec.ts';
import { become, freshEnvironment, shellOf } from '../lib/identity.ts';
import { authenticate } from '../lib/password.ts';
import { define, signalStatus } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

const options = {
  command: { short: 'c', value: 'COMMAND', help: 'run one command line instead of a shell that asks for them' },
  login: { short: 'l', help: "begin in the user's home with a fresh environment; `-` means the same" },
  shell: { short: 's', value: 'SHELL', help: "run SHELL instead of the user's" },
} as const;
type Su = Context<typeof options>;

export const su = define({
  name: 'su',
  summary: 'become another user',
  usage: ['[-l] [-c COMMAND] [-s SHELL] [-] [USER [ARG]...]'],
  options,
  order: 'posix',
  description:
    'Runs a shell with the user, group and groups of USER, root when it is not given. Root may become anyone; others are asked for the password of USER (man passwd), those without one for none. A wrong password is written to the audit log, and the next one for that user has to wait longer: 2 seconds, 4, 8, up to 32. Who becomes whom is in the log too.',
  examples: [
    ['su user', 'a shell as an ordinary user; exit comes back'],
    ['su user -c "cat /dev/mem"', 'refused: Permission denied'],
  ],
  *main(ctx) {
    const dash = ctx.operands[0] === '-';
    const operands = dash ? ctx.operands.slice(1) : ctx.operands;
    const name = operands[0] ?? 'root';
    const account = yield* readAccount(ctx.sys, name);
    if (account === null)
      return yield* ctx.fail(`user ${name} does not exist or the user entry does not contain all the required fields`);
    if ((yield* ctx.sys.getuid()) !== 0) {
      const isRight = yield* authenticate(ctx, name, account);
      if (isRight === null) return signalStatus(SIG.INT);
      if (!isRight) return yield* ctx.fail('Authentication failure');
    }
    const errno = yield* become(ctx.sys, account);
    if (errno < 0) return yield* ctx.fail(`cannot become ${name}`, -errno);
    return yield* runShell(ctx, account, dash || ctx.options.login, operands.slice(1));
  },
});

function* runShell(ctx: Su, account: Account, login: boolean, args: readonly string[]): Generator<void, number, void> {
  const shell = ctx.options.shell ?? shellOf(account);
  const fresh = freshEnvironment(account);
  const kept = account.uid === 0 ? ['HOME'] : ['HOME', 'USER', 'LOGNAME'];
  const env = login ? fresh : new Map([...ctx.env, ...[...fresh].filter(([name]) => kept.includes(name))]);
  env.set('SHELL', shell);
  if (login) {
    const errno = yield* ctx.sys.chdir(account.home);
    if (errno < 0) yield* ctx.fail(`warning: cannot change directory to ${account.home}`, -errno);
  }
  yield* ctx.sys.signal(SIG.INT, 2); // Ctrl-C is the shell's to take
  const command = ctx.options.command === undefined ? [] : ['-c', ctx.options.command];
  return yield* runCommand({ ...ctx, env }, [shell, ...command, ...args]);
}
