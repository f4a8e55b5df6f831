// su: runs a shell as somebody else. It is a set-user-ID program: whoever starts it, it has root's right to become another user, and gives
// it up before it starts anything. Root becomes anyone; others only users whose password in /etc/passwd is empty.

import { SIG } from '../../kernel/abi/index.ts';
import { readAccounts } from '../lib/accounts.ts';
import type { User } from '../lib/accounts.ts';
import { runCommand } from '../lib/exec.ts';
import { define } from '../lib/program.ts';
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
    'Runs a shell with the user, group and groups of USER, root when it is not given. Root may become anyone; others only users without a password.',
  examples: [
    ['su user', 'a shell as an ordinary user; exit comes back'],
    ['su user -c "cat /dev/mem"', 'refused: Permission denied'],
  ],
  *main(ctx) {
    const dash = ctx.operands[0] === '-';
    const operands = dash ? ctx.operands.slice(1) : ctx.operands;
    const accounts = yield* readAccounts(ctx.sys);
    const name = operands[0] ?? 'root';
    const user = accounts.users.find(u => u.name === name);
    if (user === undefined)
      return yield* ctx.fail(`user ${name} does not exist or the user entry does not contain all the required fields`);
    if ((yield* ctx.sys.getuid()) !== 0 && user.password !== '') return yield* ctx.fail('Authentication failure');
    const errno = yield* become(ctx, user, accounts.groupsOf(user));
    if (errno < 0) return yield* ctx.fail(`cannot become ${name}`, -errno);
    return yield* runShell(ctx, user, dash || ctx.options.login, operands.slice(1));
  },
});

/** Groups first: afterwards there is no right left to change them. */
function* become({ sys }: Su, user: User, groups: readonly number[]): Generator<void, number, void> {
  const list = new Uint8Array(groups.length * 4);
  groups.forEach((gid, i) => new DataView(list.buffer).setUint32(i * 4, gid, true));
  const errno = (yield* sys.setgroups(list)) || (yield* sys.setgid(user.gid));
  return errno || (yield* sys.setuid(user.uid));
}

function* runShell(ctx: Su, user: User, login: boolean, args: readonly string[]): Generator<void, number, void> {
  const shell = ctx.options.shell ?? (user.shell === '' ? '/bin/sh' : user.shell);
  const env = new Map(login ? [] : ctx.env);
  if (login) env.set('PATH', '/bin');
  env.set('HOME', user.home).set('SHELL', shell);
  if (login || user.uid !== 0) env.set('USER', user.name).set('LOGNAME', user.name);
  if (login) {
    const errno = yield* ctx.sys.chdir(user.home);
    if (errno < 0) yield* ctx.fail(`warning: cannot change directory to ${user.home}`, -errno);
  }
  yield* ctx.sys.signal(SIG.INT, 2); // Ctrl-C is the shell's to take
  const command = ctx.options.command === undefined ? [] : ['-c', ctx.options.command];
  return yield* runCommand({ ...ctx, env }, [shell, ...command, ...args]);
}
