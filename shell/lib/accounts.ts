// Users and groups as /etc/passwd and /etc/group list them: names for ids, ids for names; and passwords, for those who may read /etc/shadow. A
// file that cannot be read is empty.

import { E, O, utf8Encode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { readText, stat } from './files.ts';
import { writeAll } from './stdio.ts';

export interface User {
  readonly name: string;
  readonly password: string; // x: what /etc/shadow says; '' lets anyone in; anything else is locked
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

// ── Passwords ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A user with the password that counts. */
export interface Account extends User {
  readonly groups: readonly number[];
}

const SHADOW = '/etc/shadow';
const SHADOW_NEW = '/etc/shadow.new';
const ABANDONED_NS = 10e9; // writing takes some microseconds
const DAY_NS = 86400e9;

/** What a name logs in as; null where there is no such user. Only the superuser reads passwords: for others all that lie in /etc/shadow are locked. */
export function* readAccount(sys: Sys, name: string): Generator<void, Account | null, void> {
  const accounts = yield* readAccounts(sys);
  const user = accounts.users.find(u => u.name === name);
  if (user === undefined) return null;
  const groups = accounts.groupsOf(user);
  if (user.password !== 'x') return { ...user, groups };
  const shadow = yield* readText(sys, SHADOW);
  const lines = typeof shadow === 'string' ? shadow.split('\n') : [];
  const password = lines.find(line => line.startsWith(`${name}:`))?.split(':')[1] ?? '*';
  return { ...user, password, groups };
}

/**
 * Writes a user's password down, and the day; 0 or -errno. The new file takes the old one's place when it is whole; -EEXIST while another is being
 * written. One that nobody has gone on with for a while is of a program that was ended.
 */
export function* writePassword(sys: Sys, name: string, hash: string, nowNs: number): Generator<void, number, void> {
  const left = yield* stat(sys, SHADOW_NEW);
  if (typeof left !== 'number' && nowNs - left.changedNs > ABANDONED_NS) yield* sys.unlink(SHADOW_NEW);
  const shadow = yield* readText(sys, SHADOW);
  if (typeof shadow === 'number' && shadow !== -E.NOENT) return shadow; // the others' lines are not to be lost
  const lines = typeof shadow === 'string' ? shadow.split('\n').filter(line => line !== '') : [];
  const day = Math.floor(nowNs / DAY_NS);
  const line = `${name}:${hash}:${day}::::::`;
  const at = lines.findIndex(other => other.startsWith(`${name}:`));
  if (at < 0) lines.push(line);
  else lines[at] = line;
  const fd = yield* sys.open(SHADOW_NEW, O.WRONLY | O.CREAT | O.EXCL, 0o600);
  if (fd < 0) return fd;
  let errno = yield* writeAll(sys, fd, utf8Encode(`${lines.join('\n')}\n`));
  yield* sys.close(fd);
  if (errno >= 0) errno = yield* sys.rename(SHADOW_NEW, SHADOW);
  if (errno < 0) yield* sys.unlink(SHADOW_NEW);
  return Math.min(0, errno);
}
