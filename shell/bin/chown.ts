// chown: changes owner and group.

import { KIND } from '../../kernel/abi/index.ts';
import { readAccounts } from '../lib/accounts.ts';
import type { Accounts } from '../lib/accounts.ts';
import { lstat } from '../lib/files.ts';
import { define } from '../lib/program.ts';
import { below } from '../lib/walk.ts';

const options = {
  'no-dereference': { short: 'h', help: 'change symbolic links themselves' },
  recursive: { short: 'R', help: 'change directories and what is in them' },
} as const;

export const chown = define({
  name: 'chown',
  summary: 'change owner and group',
  usage: ['[-h] [-R] OWNER[:[GROUP]] FILE...', '[-h] [-R] :GROUP FILE...'],
  options,
  description:
    'Gives each FILE to OWNER, a name of /etc/passwd or a number, and to GROUP. A colon without GROUP means the group of OWNER. Root only; an owner may give a file to a group that it is in.',
  examples: [['chown -R user: /home/user', 'gives a tree to a user and its group']],
  *main(ctx) {
    const [whom, ...files] = ctx.operands;
    if (whom === undefined) return yield* ctx.usage('missing operand');
    if (files.length === 0) return yield* ctx.usage(`missing operand after '${whom}'`);
    const ids = idsOf(yield* readAccounts(ctx.sys), whom);
    if (typeof ids === 'string') return yield* ctx.fail(ids);
    const { sys, options } = ctx;
    let status = 0;
    for (const path of files) {
      const inside = options.recursive ? yield* below(ctx, path) : [];
      for (const [i, file] of [path, ...inside].entries()) {
        const st = yield* lstat(sys, file);
        const asLink = options['no-dereference'] || (i > 0 && typeof st !== 'number' && st.kind === KIND.link);
        const errno = typeof st === 'number' ? st : yield* sys[asLink ? 'lchown' : 'chown'](file, ...ids);
        if (errno < 0)
          status = yield* ctx.fail(
            typeof st === 'number' ? `cannot access '${file}'` : `changing ownership of '${file}'`,
            -errno,
          );
      }
    }
    return status;
  },
});

/** What `OWNER:GROUP` means, -1 for what it leaves out; the error when a name is unknown. */
function idsOf(accounts: Accounts, text: string): [uid: number, gid: number] | string {
  const [owner = '', group] = text.split(':', 2);
  const uid = owner === '' ? -1 : accounts.uid(owner);
  if (uid === null) return `invalid user: '${text}'`;
  if (group === undefined) return [uid, -1];
  if (group === '') return [uid, owner === '' ? -1 : (accounts.user(owner)?.gid ?? uid)];
  const gid = accounts.gid(group);
  return gid === null ? `invalid group: '${text}'` : [uid, gid];
}
