// id: the user and the groups of this process, or of an account.

import { readAccounts, supplementaryGroups } from '../lib/accounts.ts';
import type { Accounts } from '../lib/accounts.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

const options = {
  group: { short: 'g', help: 'print the effective group only' },
  groups: { short: 'G', help: 'print all groups' },
  name: { short: 'n', help: 'with -u, -g or -G: names instead of numbers' },
  real: { short: 'r', help: 'with -u or -g: the real id instead of the effective one' },
  user: { short: 'u', help: 'print the effective user only' },
} as const;

interface Identity {
  readonly uid: number;
  readonly euid: number;
  readonly gid: number;
  readonly egid: number;
  readonly groups: readonly number[];
}

export const id = define({
  name: 'id',
  summary: 'print user and group ids',
  usage: ['[-u|-g|-G] [-n] [-r] [USER]'],
  options,
  description: 'Prints the ids of this process, or those that USER gets.',
  examples: [['id user', 'what /etc/passwd and /etc/group say of an account']],
  *main(ctx) {
    const { options, operands } = ctx;
    if (operands.length > 1) return yield* ctx.usage(`extra operand '${operands[1]}'`);
    const chosen = [options.user, options.group, options.groups].filter(on => on).length;
    if (chosen > 1) return yield* ctx.fail("cannot print 'only' of more than one choice");
    if (chosen === 0 && (options.name || options.real))
      return yield* ctx.fail('printing only names or real IDs requires -u, -g, or -G');
    const accounts = yield* readAccounts(ctx.sys);
    const who = operands[0] === undefined ? yield* ownIdentity(ctx) : identityOf(accounts, operands[0]);
    if (who === null) return yield* ctx.fail(`'${operands[0]}': no such user`);
    const uid = (n: number): string => (options.name && accounts.userName(n)) || String(n);
    const gid = (n: number): string => (options.name && accounts.groupName(n)) || String(n);
    let text = everything(accounts, who);
    if (options.user) text = uid(options.real ? who.uid : who.euid);
    else if (options.group) text = gid(options.real ? who.gid : who.egid);
    else if (options.groups) text = allGroups(who).map(gid).join(' ');
    yield* ctx.out.print(`${text}\n`);
    return 0;
  },
});

function* ownIdentity({ sys }: Pick<Context, 'sys'>): Generator<void, Identity, void> {
  return {
    uid: yield* sys.getuid(),
    euid: yield* sys.geteuid(),
    gid: yield* sys.getgid(),
    egid: yield* sys.getegid(),
    groups: yield* supplementaryGroups(sys),
  };
}

function identityOf(accounts: Accounts, name: string): Identity | null {
  const user = accounts.user(name);
  if (user === undefined) return null;
  const { uid, gid } = user;
  return { uid, euid: uid, gid, egid: gid, groups: accounts.groupsOf(user) };
}

/** The effective group first, each once. */
const allGroups = (who: Identity): number[] => [...new Set([who.egid, ...who.groups])];

/** `uid=1000(user) gid=1000(user) groups=1000(user),100(users)`, effective ids where they differ. */
function everything(accounts: Accounts, who: Identity): string {
  const named = (n: number, name: string | undefined): string => (name === undefined ? String(n) : `${n}(${name})`);
  const user = (n: number): string => named(n, accounts.userName(n));
  const group = (n: number): string => named(n, accounts.groupName(n));
  const parts = [`uid=${user(who.uid)}`, `gid=${group(who.gid)}`];
  if (who.euid !== who.uid) parts.push(`euid=${user(who.euid)}`);
  if (who.egid !== who.gid) parts.push(`egid=${group(who.egid)}`);
  parts.push(`groups=${allGroups(who).map(group).join(',')}`);
  return parts.join(' ');
}
