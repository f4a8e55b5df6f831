// Users and groups as /etc/passwd and /etc/group list them: names for ids, ids for names. A file that cannot be read is empty.

import type { Sys } from '../../kernel/abi/index.ts';
import { readText } from './files.ts';

export interface User {
  readonly name: string;
  readonly password: string; // '' lets anyone in; anything else is locked
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly shell: string;
}
export interface Group {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

export class Accounts {
  readonly users: readonly User[];
  readonly groups: readonly Group[];

  constructor(passwd: string, group: string) {
    this.users = rows(passwd, 7).map(([name, password, uid, gid, , home, shell]) => ({
      name: name!,
      password: password!,
      uid: Number(uid),
      gid: Number(gid),
      home: home!,
      shell: shell!,
    }));
    this.groups = rows(group, 4).map(([name, , gid, members]) => ({
      name: name!,
      gid: Number(gid),
      members: members === '' ? [] : members!.split(','),
    }));
  }

  /** By name, or by number where no name is like that. */
  user(text: string): User | undefined {
    return this.users.find(u => u.name === text) ?? this.users.find(u => String(u.uid) === text);
  }
  group(text: string): Group | undefined {
    return this.groups.find(g => g.name === text) ?? this.groups.find(g => String(g.gid) === text);
  }
  userName(uid: number): string | undefined {
    return this.users.find(u => u.uid === uid)?.name;
  }
  groupName(gid: number): string | undefined {
    return this.groups.find(g => g.gid === gid)?.name;
  }
  /** The id that an operand names, listed or a plain number; null when it is neither. */
  uid(text: string): number | null {
    return this.user(text)?.uid ?? plainId(text);
  }
  gid(text: string): number | null {
    return this.group(text)?.gid ?? plainId(text);
  }
  /** The groups that list a user, and its own. */
  groupsOf(user: User): number[] {
    const listed = this.groups.filter(g => g.members.includes(user.name)).map(g => g.gid);
    return [user.gid, ...listed.filter(gid => gid !== user.gid)];
  }
}

/** Ids are 31 bits: -1 has a meaning of its own. */
function plainId(text: string): number | null {
  const id = Number(text);
  return /^[0-9]{1,10}$/.test(text) && id <= 0x7fffffff ? id : null;
}

/** Lines of `fields` fields between colons whose third is a number. */
function rows(text: string, fields: number): string[][] {
  return text
    .split('\n')
    .map(line => line.split(':'))
    .filter(row => row.length === fields && plainId(row[2]!) !== null);
}

export function* readAccounts(sys: Sys): Generator<void, Accounts, void> {
  const passwd = yield* readText(sys, '/etc/passwd');
  const group = yield* readText(sys, '/etc/group');
  return new Accounts(typeof passwd === 'string' ? passwd : '', typeof group === 'string' ? group : '');
}

/** Supplementary groups of this process. */
export function* supplementaryGroups(sys: Sys): Generator<void, number[], void> {
  const bytes = new Uint8Array(4 * 64);
  const n = yield* sys.getgroups(bytes);
  const view = new DataView(bytes.buffer);
  return Array.from({ length: Math.max(0, n) >> 2 }, (_, i) => view.getUint32(i * 4, true));
}
