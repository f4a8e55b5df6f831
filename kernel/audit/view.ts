// The log's face to the files of /audit: what its head covers, proofs of it, salts, and the commands that auditors give. What is asked for here
// and matters to others (a salt that was read, a witness that was trusted) is a record of the log itself.

import { bytesToHex } from '@noble/hashes/utils.js';
import { isRefusal, refuse, type Refusal } from '../abi/index.ts';
import { ATTRIBUTES, formatNoteKey } from '../../trust/index.ts';
import type { AuditView } from '../../vfs/fs-audit.ts';
import { ROOT } from '../../vfs/permission.ts';
import type { AuditJournal } from './journal.ts';
import type { AuditLog } from './log.ts';
import { quotedBytes } from './record.ts';

export class LogView implements AuditView {
  constructor(
    private readonly log: AuditLog,
    private readonly journal: AuditJournal,
    /** Nobody is served: there is time to store what waits. */
    private readonly hasTime: () => boolean,
    /** The host reads: what has been stored is shown, and nothing is stored or disclosed for it. */
    private readonly isLookedAt: () => boolean,
  ) {}

  /** What was done before somebody reads is in what they read, where there is time. */
  private catchUp(): AuditLog {
    if (this.hasTime() && !this.isLookedAt()) this.log.settle();
    return this.log;
  }

  size(): number {
    return this.catchUp().size;
  }
  expected(): number {
    return this.isLookedAt() ? this.log.size : this.log.expected;
  }
  record(number: number): Uint8Array | null {
    return this.log.record(number);
  }
  proof(number: number): string | null {
    return this.log.proof(number);
  }
  content(number: number): Uint8Array | null {
    return this.log.content(number);
  }
  contents(): readonly number[] {
    return this.log.contents();
  }
  head(): string {
    return this.catchUp().head;
  }
  publicKey(): string {
    return this.log.publicKey;
  }
  tile(level: number, index: number, width: number): Uint8Array | null {
    return this.log.tile(level, index, width);
  }

  salt(number: number, uid: number): string | null {
    if (this.isLookedAt()) return null;
    if (number >= this.log.size || this.journal.gate() !== true) return null;
    this.journal.note('disclose', uid, { 'arena8.name': 'salt', 'arena8.value': `${number}` });
    if (this.catchUp().stopped !== null) return null; // it is not told where nobody can know that it was
    return `${bytesToHex(this.log.saltOf(number))}\n`;
  }

  settings(): string {
    const content = this.journal.sealer === null ? 'content off' : `content on ${this.journal.sealer.recipient}`;
    return [content, ...this.log.witnesses.settings()].map(line => `${line}\n`).join('');
  }

  control(command: string, uid: number): Refusal | null {
    const room = this.journal.gate();
    if (room !== true)
      return room === false ? refuse('AGAIN', 3002, 'the audit ring is full until it is flushed') : room;
    const [, verb = '', rest = ''] = /^(\S+)\s*(.*)$/.exec(command) ?? [];
    // Whom texts are stored for and which witnesses count is the superuser's to say; a witness's line speaks for itself.
    if (verb !== 'cosign' && uid !== ROOT.euid)
      return refuse('PERM', 0, `${verb}: only the superuser tells the log this; cosign LINE is for its auditors too`);
    switch (verb) {
      case 'witness':
        return this.trust(rest, uid);
      case 'cosign':
        return this.cosign(rest, uid);
      case 'content':
        return this.journal.storeTexts(rest, uid);
      default:
        return refuse('INVAL', 7001, `no command '${verb}': content on KEY, content off, witness VKEY, cosign LINE`);
    }
  }

  private trust(line: string, uid: number): Refusal | null {
    const most = ATTRIBUTES['arena8.value'].most; // the record is where power-on finds it again
    if (quotedBytes(line) > most) return refuse('NAMETOOLONG', 0, `a witness's key of more than ${most} bytes`);
    const key = this.log.witnesses.trust(line);
    if (isRefusal(key)) return key;
    this.journal.note('witness', uid, { 'arena8.name': 'trust', 'arena8.value': formatNoteKey(key) });
    return null;
  }

  private cosign(line: string, uid: number): Refusal | null {
    const signed = this.log.witnesses.cosign(line);
    if (isRefusal(signed)) return signed;
    const refusal = this.log.keep(signed);
    if (refusal !== null) return refusal;
    const { witness, size, time } = signed;
    this.log.append('witness', uid, [{ 'arena8.name': witness.name, 'arena8.value': `size=${size} time=${time}` }], {
      when: 'later',
    });
    return null;
  }
}
