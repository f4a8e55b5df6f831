// login: begins somebody's session at a terminal: asks who it is and for the password, becomes that user and then the user's shell. What was
// there before, environment, working directory, whoever had the keyboard, has no part in it. After login(1) of util-linux and shadow.

import { SIG } from '../../kernel/abi/index.ts';
import { readAccount } from '../lib/accounts.ts';
import type { Account } from '../lib/accounts.ts';
import { findProgram, launch, STATUS } from '../lib/exec.ts';
import { readText } from '../lib/files.ts';
import { become, freshEnvironment, shellOf } from '../lib/identity.ts';
import { isTerminal } from '../lib/model.ts';
import { authenticate, readLine } from '../lib/password.ts';
import { define, signalStatus } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

const TRIES = 3;

export const login = define({
  name: 'login',
  summary: 'begin a session as a user',
  usage: ['[USER]'],
  description:
    "Asks for a user of /etc/passwd, unless USER is given, and for the password, which is not shown; then becomes that user, and the user's shell, in the user's home with a fresh environment. Users without a password are let in, locked ones never. After three wrong answers login gives up. Every login, and every wrong password, is in the audit log; after a wrong one the next for that user waits 2 seconds of the machine's time, then 4, 8, up to 32. `exec login` ends the shell that it is typed at; the host's option --user NAME begins the first shell as a user without asking.",
  examples: [['exec login', 'ends this session and begins another']],
  *main(ctx) {
    if (ctx.operands.length > 1) return yield* ctx.usage(`extra operand '${ctx.operands[1]}'`);
    yield* takeTerminal(ctx);
    for (let attempt = 0; attempt < TRIES; attempt++) {
      const name = (attempt === 0 ? ctx.operands[0] : undefined) ?? (yield* askName(ctx));
      if (name === null) return 1;
      const account = yield* readAccount(ctx.sys, name);
      const isRight = yield* authenticate(ctx, name, account);
      if (isRight === null) return signalStatus(SIG.INT);
      if (isRight) return yield* begin(ctx, account!);
      yield* ctx.err.print('Login incorrect\n');
    }
    return 1;
  },
});

/** What others have left running does not get the keys. */
function* takeTerminal({ sys }: Context): Generator<void, void, void> {
  if (!(yield* isTerminal(sys, 0))) return;
  yield* sys.setpgid(0, 0);
  yield* sys.tcsetpgrp(0, yield* sys.getpid());
}

/** The next line of the input that is not empty; null at its end. */
function* askName(ctx: Context): Generator<void, string | null, void> {
  const host = yield* readText(ctx.sys, '/etc/hostname');
  const prompt = `${typeof host === 'string' ? host.trim() : 'arena8'} login: `;
  for (;;) {
    if (yield* isTerminal(ctx.sys, 0)) {
      yield* ctx.err.print(prompt);
      yield* ctx.err.flush();
    }
    const line = yield* readLine(ctx.sys);
    if (line === null) return null;
    const name = line.trim();
    if (name !== '') return name;
  }
}

/** Returns only when there is no shell to be. */
function* begin(ctx: Context, account: Account): Generator<void, number, void> {
  const { sys } = ctx;
  const errno = yield* become(sys, account);
  if (errno < 0) return yield* ctx.fail(`cannot become ${account.name}`, -errno);
  const env = freshEnvironment(account);
  const away = yield* sys.chdir(account.home);
  if (away < 0) {
    yield* ctx.fail(`no directory ${account.home}: beginning in /`, -away);
    yield* sys.chdir('/');
  }
  yield* ctx.out.flush();
  const shell = shellOf(account);
  const path = yield* findProgram(sys, shell, '/bin');
  const failed = typeof path === 'number' ? path : yield* launch(sys, path, [shell], env, [0, 1, 2], -1, 'exec');
  yield* ctx.fail(`'${shell}'`, -failed);
  return STATUS.cannotExecute;
}
