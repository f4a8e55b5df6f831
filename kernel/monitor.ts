// The reference monitor: the one place that says who somebody is and what they may do beyond files. It keeps the accounts and the rights of
// /etc, reads them again when they change, and writes down what the audit log must know of people: who has become whom, which passwords were
// wrong, which of its own files have changed. After Anderson's report of 1972: always asked, never passed by, small enough to be read.

import { LIMITS, refuse, type Hasher, type Refusal } from './abi/index.ts';
import type { AuditFields } from '../trust/index.ts';
import { credentialsOf, ROOT, type Credentials } from '../vfs/permission.ts';
import { Accounts, type User } from './accounts.ts';
import { refusedFields } from './audit/journal.ts';
import type { Clock } from './clock.ts';
import { EtcFile, type EtcContext } from './etc-file.ts';
import { isRight, Rights, RIGHTS, RIGHTS_FILE, type Right, type Subject } from './rights.ts';
import type { Journal } from './service.ts';

export interface MonitorContext extends EtcContext {
  readonly clock: Clock;
  readonly journal: Journal;
  readonly sha256: () => Hasher;
  readonly print: (line: string) => void;
}

/** What somebody typed who is no user: never written down, it may be a password in the wrong place. */
const UNKNOWN = 'UNKNOWN';
const UNKNOWN_UID = -1;

interface Failures {
  count: number; // in a row
  untilNs: number; // nobody may try before
}

export class Monitor {
  readonly accounts: Accounts;
  private readonly rights = new Rights();
  private readonly rightsFile: EtcFile;
  /** By user id; those that are not listed share one. */
  private readonly failures = new Map<number, Failures>();

  constructor(private readonly k: MonitorContext) {
    this.accounts = new Accounts(k);
    this.rightsFile = new EtcFile(k, RIGHTS_FILE);
  }

  // ── Files ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Takes the files as they are at power-on: what they are is part of the image. */
  begin(): void {
    this.accounts.refresh();
    this.rightsFile.refresh();
    this.takeRights();
  }

  /** Takes what has changed since, and writes it down as found by user `uid`. */
  refresh(uid: number): void {
    const changed = [...this.accounts.refresh()];
    const isOwn = this.rightsFile.refresh();
    if (isOwn) changed.push(this.rightsFile);
    const refusal = changed.length > 0 ? this.takeRights() : null;
    for (const file of changed) {
      const isRights = file === this.rightsFile;
      const name = isRights ? 'rights' : 'accounts';
      const fields: AuditFields = { 'arena8.name': name, 'arena8.path': file.path, ...this.digestOf(file) };
      const failed = isRights && refusal !== null ? refusedFields(refusal) : {};
      this.k.journal.note('config', uid, { ...fields, ...failed });
    }
  }

  private takeRights(): Refusal | null {
    const refusal = this.rights.take(this.rightsFile.text, this.accounts.names);
    if (refusal !== null) this.k.print(`rights: ${refusal.message}: the rules before stay in force`);
    return refusal;
  }

  private digestOf({ bytes }: EtcFile): AuditFields {
    if (bytes === null) return {};
    const hash = this.k.sha256();
    hash.update(bytes);
    return { 'arena8.digest': hash.digest() };
  }

  // ── Rights ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** EACCES where the subject has no such right to a model's path, or to what is managed. */
  refusal(subject: Subject, right: Right, object: string): Refusal | null {
    if (subject.uid === ROOT.euid) return null;
    this.refresh(subject.uid);
    return this.rights.refusal(subject, this.nameOf(subject.uid), right, object);
  }

  /** What the rules say of a user who is not here: the line that gives the right, 0 where none is needed, or why not. */
  test(by: number, name: string, right: string, object: string): number | Refusal {
    this.refresh(by);
    const { names } = this.accounts;
    const user = names.user(name);
    if (user === undefined) return refuse('INVAL', 7001, `no user ${name}`);
    if (!isRight(right)) return refuse('INVAL', 7001, `no right ${right}: ${RIGHTS.join(', ')}`);
    const subject = { uid: user.uid, groups: names.groupsOf(user) };
    const refusal = this.refusal(subject, right, object);
    return refusal ?? (user.uid === ROOT.euid ? 0 : (this.rights.decides(subject, object)?.line ?? 0));
  }

  /** The rules in force; `refreshed`: those of the file as it is now, which then are. */
  rightsText(refreshed: boolean): string {
    if (refreshed) this.refresh(ROOT.euid);
    return this.rights.text();
  }

  // ── Identity ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A user as /etc/passwd has it now. */
  user(name: string): User | undefined {
    this.refresh(ROOT.euid);
    return this.accounts.names.user(name);
  }

  /** What a user is called, as it was read last: the answer needs no file. */
  nameOf(uid: number): string {
    return this.accounts.names.name(uid);
  }

  /** What a process of this user runs with when the machine starts it for the host. */
  enter(user: User): Credentials {
    this.loggedIn(ROOT.euid, user.uid, 'the host');
    return credentialsOf(user.uid, user.gid, this.accounts.names.groupsOf(user));
  }

  /**
   * A process of the superuser's rights has become another user than the one who started it: a login, whoever wrote the program. Where it had asked
   * whether the password of `tried` may be judged, that was right.
   */
  becomes({ uid: from }: Credentials, to: number, tried: string): void {
    if (tried !== '' && this.keyOf(tried) === to) this.failures.delete(to);
    this.refresh(from);
    if (from !== to) this.loggedIn(from, to, this.nameOf(from));
  }

  private loggedIn(from: number, to: number, whence: string): void {
    this.k.journal.note('login', from, {
      'arena8.name': this.nameOf(to),
      'arena8.value': `from ${whence}`,
    });
  }

  /** When a password of that name may be tried next: after every wrong one twice as long has to pass. */
  mayTryNs(name: string): number {
    return this.failures.get(this.keyOf(name))?.untilNs ?? 0;
  }

  /** Somebody whom `by` started has given a wrong password for that name. */
  failed(name: string, by: number): void {
    const key = this.keyOf(name);
    const count = (this.failures.get(key)?.count ?? 0) + 1;
    const delayMs = Math.min(LIMITS.loginDelayMs * 2 ** (count - 1), LIMITS.loginDelayMaxMs);
    this.failures.set(key, { count, untilNs: this.k.clock.nowNs() + delayMs * 1e6 });
    this.k.journal.note('login', by, {
      'arena8.name': key === UNKNOWN_UID ? UNKNOWN : name,
      'arena8.value': `from ${this.nameOf(by)}`,
      ...refusedFields(refuse('ACCES', 0, 'wrong password')),
    });
  }

  private keyOf(name: string): number {
    return this.user(name)?.uid ?? UNKNOWN_UID;
  }
}
