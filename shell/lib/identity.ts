// Becoming somebody: what su and login do once a password was right. Groups first, the user last: afterwards there is no right left to change
// anything. The kernel sees setuid and writes the login down, whatever program it was.

import type { Sys } from '../../kernel/abi/index.ts';
import type { Account } from './accounts.ts';

/** This process becomes that user, for good; 0 or -errno. */
export function* become(sys: Sys, { uid, gid, groups }: Account): Generator<void, number, void> {
  const list = new Uint8Array(groups.length * 4);
  groups.forEach((group, i) => new DataView(list.buffer).setUint32(i * 4, group, true));
  const errno = (yield* sys.setgroups(list)) || (yield* sys.setgid(gid));
  return errno || (yield* sys.setuid(uid));
}

/** The shell that a user gets. */
export const shellOf = ({ shell }: Account): string => (shell === '' ? '/bin/sh' : shell);

/** An environment that has nothing of whoever was there before. */
export function freshEnvironment(account: Account): Map<string, string> {
  const { name, home } = account;
  return new Map([
    ['PATH', '/bin'],
    ['HOME', home],
    ['SHELL', shellOf(account)],
    ['USER', name],
    ['LOGNAME', name],
  ]);
}
