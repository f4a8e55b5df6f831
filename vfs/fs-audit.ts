// auditfs: the audit log as files under /audit, for root and the group auditor: log, head, pubkey, record/N, proof/N, salt/N, the log as
// C2SP tiles, and ctl, which takes commands. Everything is made when it is opened; nothing can be written but ctl.

import type { Refusal } from '../kernel/abi/index.ts';

/** What the kernel's log shows of itself. Texts end in a newline. Records are those that the head covers, by number from 0. */
export interface AuditView {
  /** How many records the head covers. */
  size(): number;
  /** A record in canonical JSON, as it was hashed; null where there is none. */
  record(number: number): Uint8Array | null;
  /** Why record `number` is in the log: C2SP tlog-proof v1. */
  proof(number: number): string | null;
  /** The salt of a record's digests in hex; that it was read is recorded. `uid`: who reads. */
  salt(number: number, uid: number): string | null;
  /** The texts of a request, encrypted (age v1); null where they were not stored. */
  content(number: number): Uint8Array | null;
  /** The newest checkpoint: a signed note, with the witnesses' signatures. */
  head(): string;
  /** The log's public key as a note verifier key. */
  publicKey(): string;
  /** Hashes of the tile at `level` with `width` (256: a full one) hashes, or of `level` -1 the entry bundle; null where the log has no such tile. */
  tile(level: number, index: number, width: number): Uint8Array | null;
  /** A command written to ctl by `uid`. */
  control(command: string, uid: number): Refusal | null;
}
