// passwd: sets a password. A set-user-ID program: /etc/shadow is the superuser's to read and write, and users change their own line through
// here, having given the one before. After passwd(1) of shadow.

import { sha256 } from '@noble/hashes/sha2.js';
import { E, O, SIG, utf8Encode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { readAccount, readAccounts, writePassword } from '../lib/accounts.ts';
import type { Account } from '../lib/accounts.ts';
import { times } from '../lib/fmt.ts';
import { askPassword, authenticate, hashPassword, SALT_BYTES } from '../lib/password.ts';
import { define, signalStatus } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

/** Characters of a password that a user chooses; root chooses any. */
const SHORTEST = 8;

const options = {
  delete: { short: 'd', help: 'no password: everybody is let in (root only)' },
  lock: { short: 'l', help: 'lock the account: no password is right (root only)' },
  stdin: { help: 'the new password is the next line of the input, not asked for twice' },
} as const;
type Passwd = Context<typeof options>;

export const passwd = define({
  name: 'passwd',
  summary: "change a user's password",
  usage: ['[-d|-l] [--stdin] [USER]'],
  options,
  description: [
    'Sets the password of USER, without one of whoever types it. Root sets any; others their own, after the one they have, of 8 characters at least. What is typed is not shown, and asked for twice.',
    '',
    'Passwords lie in /etc/shadow, which root alone may read, nine fields between colons: name, password, the day of its last change since 1970, and six that are not used. The password is in the form $7$ of crypt(5): scrypt with N = 8192, r = 8, p = 1 and a salt of 16 bytes, which any libxcrypt can check. That takes 8 MiB, as much as the machine has: an attacker who has the file pays as much for each guess, less than servers ask for today (128 MiB). An empty field lets everybody in, as user has it in a new machine; what is no such form, as * or !, is right for no password. /etc/passwd has x in its second field where /etc/shadow counts.',
  ].join('\n'),
  examples: [
    ['passwd', "a new password of one's own"],
    ['echo "correct horse" | passwd --stdin user', 'one for user'],
    ['passwd -l user', 'nobody logs in as user'],
  ],
  *main(ctx) {
    const { sys, operands } = ctx;
    if (operands.length > 1) return yield* ctx.usage(`extra operand '${operands[1]}'`);
    const { delete: none, lock, stdin } = ctx.options;
    if (Number(none) + Number(lock) + Number(stdin) > 1)
      return yield* ctx.usage('-d, -l and --stdin exclude each other');
    const by = yield* sys.getuid();
    const name = operands[0] ?? (yield* readAccounts(sys)).userName(by);
    const account = name === undefined ? null : yield* readAccount(sys, name);
    if (account === null) return yield* ctx.fail(`user '${name ?? by}' does not exist`);
    if (by !== 0 && (account.uid !== by || none || lock))
      return yield* ctx.fail(`You may not view or modify password information for ${account.name}.`);
    const hash = none ? '' : lock ? '!' : yield* newHash(ctx, account, by);
    return typeof hash === 'number' ? hash : yield* keep(ctx, account, hash);
  },
});

/** The line's new field; or the exit status where there is none. */
function* newHash(ctx: Passwd, account: Account, by: number): Generator<void, string | number, void> {
  if (by !== 0) {
    const isRight = yield* authenticate(ctx, account.name, account, 'Current password: ');
    if (isRight === null) return signalStatus(SIG.INT);
    if (!isRight) return yield* ctx.fail('Authentication failure');
  }
  const first = yield* askPassword(ctx, 'New password: ');
  const second = ctx.options.stdin || first === null ? first : yield* askPassword(ctx, 'Retype new password: ');
  if (first === null || second === null) return signalStatus(SIG.INT);
  if (first !== second) return yield* ctx.fail('Sorry, passwords do not match.');
  if (first === '') return yield* ctx.fail('No password was given: nothing is changed.');
  if (by !== 0 && [...first].length < SHORTEST)
    return yield* ctx.fail(`You must choose a longer password: ${SHORTEST} characters at least.`);
  const salt = yield* saltFor(ctx.sys, account.name);
  return typeof salt === 'number' ? yield* ctx.fail('/dev/random', salt) : hashPassword(first, salt);
}

/**
 * A salt need not be secret, but nobody else's, and not the one before: /dev/random, which gives the same bytes to every machine of one seed, with
 * the name and the time. Or an errno.
 */
function* saltFor(sys: Sys, name: string): Generator<void, Uint8Array | number, void> {
  const random = new Uint8Array(SALT_BYTES);
  const fd = yield* sys.open('/dev/random', O.RDONLY, 0);
  const n = fd < 0 ? fd : yield* sys.read(fd, random);
  if (n !== SALT_BYTES) return n < 0 ? -n : E.IO;
  yield* sys.close(fd);
  const { cycles } = yield* times(sys);
  const hash = sha256
    .create()
    .update(random)
    .update(utf8Encode(`${cycles} ${name}`));
  return hash.digest().subarray(0, SALT_BYTES);
}

function* keep(ctx: Passwd, account: Account, hash: string): Generator<void, number, void> {
  const { sys } = ctx;
  yield* sys.signal(SIG.INT, 2); // a file half written is nobody's
  const { bootEpochSeconds, nowNs } = yield* times(sys);
  const errno = yield* writePassword(sys, account.name, hash, bootEpochSeconds * 1e9 + nowNs);
  if (errno === -E.EXIST) return yield* ctx.fail('/etc/shadow is being changed by somebody else; try again later.');
  if (errno < 0) return yield* ctx.fail('/etc/shadow', -errno);
  yield* ctx.out.print(`passwd: password of ${account.name} changed\n`);
  return 0;
}
