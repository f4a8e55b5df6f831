// Who is who: users and groups as /etc/passwd and /etc/group list them, names for ids and ids for names, as the kernel's own reader of the
// two sees them. They are read again when they change. What a line means is passwd(5)'s; passwords are no business of the kernel's.

import { EtcFile, type EtcContext } from './etc-file.ts';

const PASSWD_FILE = '/etc/passwd';
const GROUP_FILE = '/etc/group';

export interface User {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

interface Group {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/** The lines of both files; what is no line of seven or four fields with an id in the third is left out. Of two that are alike the first counts. */
export class Names {
  readonly users: readonly User[];
  private readonly groups: readonly Group[];

  constructor(passwd: string, group: string) {
    this.users = rows(passwd, 7).map(([name, , uid, gid, , home]) => ({
      name: name!,
      uid: Number(uid),
      gid: Number(gid),
      home: home!,
    }));
    this.groups = rows(group, 4).map(([name, , gid, members]) => ({
      name: name!,
      gid: Number(gid),
      members: members!.split(','),
    }));
  }

  user(name: string): User | undefined {
    return this.users.find(u => u.name === name);
  }
  /** The id of a user's name; a number stands for itself where no user is called so. null when it is neither. */
  uid(name: string): number | null {
    return this.user(name)?.uid ?? plainId(name);
  }
  /** What a user is called; the number of one that is not listed. */
  name(uid: number): string {
    return this.users.find(u => u.uid === uid)?.name ?? `${uid}`;
  }
  gid(name: string): number | null {
    return this.groups.find(g => g.name === name)?.gid ?? null;
  }
  /** A user's own group, then those that list it. */
  groupsOf({ name, gid }: User): number[] {
    const listed = this.groups.filter(g => g.members.includes(name)).map(g => g.gid);
    return [gid, ...listed.filter(other => other !== gid)];
  }
}

export class Accounts {
  /** As they were read last. */
  names = new Names('', '');
  private readonly passwd: EtcFile;
  private readonly group: EtcFile;

  constructor(k: EtcContext) {
    this.passwd = new EtcFile(k, PASSWD_FILE);
    this.group = new EtcFile(k, GROUP_FILE);
  }

  /** Reads what has changed; the files that did. */
  refresh(): readonly EtcFile[] {
    const changed = [this.passwd, this.group].filter(file => file.refresh());
    if (changed.length > 0) this.names = new Names(this.passwd.text, this.group.text);
    return changed;
  }
}

/** Lines of `fields` fields between colons whose third is an id. */
function rows(text: string, fields: number): string[][] {
  return text
    .split('\n')
    .map(line => line.split(':'))
    .filter(row => row.length === fields && plainId(row[2]!) !== null);
}

/** Ids are 31 bits: -1 has a meaning of its own. */
function plainId(text: string): number | null {
  return /^[0-9]{1,10}$/.test(text) && Number(text) <= 0x7fffffff ? Number(text) : null;
}
