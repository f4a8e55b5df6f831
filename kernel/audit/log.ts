// The audit log: every record is a leaf of a Merkle tree (RFC 6962) whose root is signed (C2SP tlog-checkpoint) and written to /var/audit before
// anyone is told that the thing it records is over. Records wait in the arena's ring; a flush, work of the kernel that takes slack as programs
// do, hashes and stores what waits and signs one new head. What a head in the store covers is acknowledged, and can be lost no more.

import { errnoName, isRefusal, LIMITS, refuse, utf8Encode, type LogKey, type Refusal } from '../abi/index.ts';
import {
  formatCheckpoint,
  formatNoteKey,
  formatProof,
  joined,
  frame,
  leafHash,
  noteKey,
  rowLength,
  signNote,
  TILE_WIDTH,
  tileHashes,
  Tree,
  type AuditFields,
  type AuditOp,
  type NoteKey,
  type Sha256,
} from '../../trust/index.ts';
import type { TmpPool } from '../../vfs/fs-tmp.ts';
import type { Appender } from '../../vfs/fs-append.ts';
import { ROOT } from '../../vfs/permission.ts';
import type { Arena } from '../arena.ts';
import type { Clock } from '../clock.ts';
import type { Costs } from '../costs.ts';
import type { Disk } from '../disks.ts';
import { HashFile } from './hashes.ts';
import { decodeRecord, encodeRecord, recordLine } from './record.ts';
import { recover, type Recovered } from './recovery.ts';
import { AuditRing, FRAME_BYTES } from './ring.ts';
import { Store } from './store.ts';
import { Witnesses, type Cosigned, type Head } from './witnesses.ts';

/** Bytes of the ring that the longest record takes. */
export const FRAME_BYTES_MOST = FRAME_BYTES + LIMITS.auditRecordBytes;

/** Bytes hashed for one record (ids of prompt and output beside itself) that its price covers. */
const HASHED_BYTES = 16 * 1024;

export interface LogParts {
  readonly arena: Arena;
  /** Of the ring. */
  readonly at: number;
  readonly clock: Clock;
  readonly costs: Costs;
  readonly key: LogKey;
  readonly sha256: Sha256;
  readonly nameOf: (uid: number) => string;
  /** The host reads: what it reads counts for nobody else. */
  readonly isLookedAt: () => boolean;
}

/** Where the log lies: what only it may write, the hashes' storage, the disk that is waited for. */
export interface LogStorage {
  readonly appender: Appender;
  readonly pool: TmpPool;
  readonly disk: Disk;
}

interface AppendOptions {
  readonly hashed?: number;
  readonly when?: 'now' | 'soon' | 'later';
}

export class AuditLog {
  private readonly ring: AuditRing;
  private readonly noteKey: NoteKey;
  private store!: Store;
  private hashes!: HashFile;
  private tree!: Tree;
  private disk!: Disk;
  readonly witnesses = new Witnesses();
  private boot = 0;
  /** In the store. */
  private written: Head = { size: 0, note: '' };
  /** Acknowledged: the disk has said so. */
  private acknowledged: Head = { size: 0, note: '' };
  /** When the disk will have it all; null: it is idle. */
  private doneAt: number | null = null;
  /** Of texts in the store that no write to the disk has counted yet. */
  private contentBytes = 0;
  /** Prices' worth of each record that is not stored yet. */
  private readonly weights: number[] = [];
  /** When they are to be stored: somebody waits for one of them; when nothing else is to be done; with the next that is. */
  private due: 'now' | 'soon' | 'later' = 'later';
  /** Why the last flush failed, and how many records there were. */
  private failure: Refusal | null = null;
  private failedAt = -1;

  constructor(private readonly k: LogParts) {
    this.ring = new AuditRing(k.arena, k.at);
    const known = noteKey(k.key.name, k.key.publicKey);
    if (isRefusal(known)) throw new Error(`log key: ${known.message}`);
    this.noteKey = known;
  }

  // ── Power-on ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  place({ appender, pool, disk }: LogStorage): void {
    this.store = new Store(appender, this.k.isLookedAt);
    this.hashes = new HashFile(pool);
    this.disk = disk;
  }

  /** Goes on with the log that is in storage, or begins one. */
  open(): Recovered | Refusal {
    const found = recover(this.store, this.noteKey, this.hashes, this.k.sha256);
    if (isRefusal(found)) return found;
    const { tree, head, boots, witnesses } = found;
    const cosignatures = this.store.cosignatures(tree.size);
    if (isRefusal(cosignatures)) return cosignatures;
    this.tree = tree;
    this.boot = boots;
    this.acknowledged = this.written = { size: tree.size, note: head ?? '' };
    for (const vkey of witnesses) this.witnesses.trust(vkey);
    if (head !== null) this.witnesses.add(this.written);
    for (const line of cosignatures) this.witnesses.cosign(line);
    this.ring.begin(tree.size);
    return this.store.begin(tree.size) ?? found;
  }

  // ── Records ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Number of the next record. */
  get next(): number {
    return this.ring.next;
  }

  /** Salt of a record's digests. */
  saltOf(number: number): Uint8Array {
    const message = new Uint8Array(8);
    new DataView(message.buffer).setBigUint64(0, BigInt(number));
    return this.k.key.mac('salt', message);
  }

  /** Bytes of the ring for what nobody has reserved, when each of `live` sessions keeps room for its end. */
  room(live: number): number {
    return this.ring.room - live * FRAME_BYTES_MOST;
  }

  /**
   * Adds a record of these attributes and returns its number. `hashed`: bytes of ids in its digests. `when` it is stored: `now`, for somebody waits; `soon`, with the
   * next one or when there is nothing else to do; `later`, with the next one.
   */
  append(
    op: AuditOp,
    uid: number,
    parts: readonly AuditFields[],
    { hashed = 0, when = 'now' }: AppendOptions = {},
  ): number {
    const number = this.ring.next;
    const every: AuditFields = {
      'arena8.record': number,
      'arena8.op': op,
      'arena8.boot': this.boot,
      'arena8.time_ns': this.k.clock.nowNs(),
      'arena8.user': this.k.nameOf(uid),
      'arena8.uid': uid,
      'arena8.code': 0,
    };
    this.ring.append(encodeRecord(op, every, ...parts));
    this.weights.push(1 + Math.floor(hashed / HASHED_BYTES));
    if (when === 'now' || (when === 'soon' && this.due === 'later')) this.due = when;
    return number;
  }

  /** Why nothing is acknowledged any more; null while the log goes on. */
  get stopped(): Refusal | null {
    return this.failure;
  }
  /** The next flush tries again, though nothing is new. */
  retry(): void {
    this.failedAt = -1;
  }
  isAcknowledged(number: number): boolean {
    return number < this.acknowledged.size;
  }

  // ── The flush ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The most that a flush of one record takes. */
  get flushLeast(): number {
    const { auditRecordCycles, auditCheckpointCycles } = this.k.costs.target.overhead;
    return auditRecordCycles + auditCheckpointCycles;
  }

  /** When the disk has written what it was given, in cycles; null: it is idle. */
  nextEvent(): number | null {
    return this.doneAt;
  }

  /**
   * Takes the disk's answer, and gives it what waits: as many records as `slack` cycles go for. Records that nobody waits for yet go with others,
   * or when the ring is half full, or when the machine is `idle`. True when something was done.
   */
  flush(slack: () => number, idle: boolean): boolean {
    const { clock } = this.k;
    if (this.doneAt !== null && clock.cycles() < this.doneAt) return false;
    const answered = this.doneAt !== null;
    this.doneAt = null;
    this.acknowledged = this.written;
    if (this.weights.length === 0 && this.written.size === this.tree.size) return answered;
    const { bytes, records, from } = this.ring.unstored;
    const isTime = this.due === 'now' || (idle && this.due === 'soon') || 2 * bytes > LIMITS.auditRingBytes;
    if (!isTime || this.ring.next === this.failedAt) return answered;
    // A head that could not be stored comes before more records: what no head covers never exceeds the ring.
    const owesHead = this.written.size < this.tree.size;
    const room = owesHead ? 0 : LIMITS.auditFileRecords - (from % LIMITS.auditFileRecords);
    const { auditRecordCycles, auditCheckpointCycles } = this.k.costs.target.overhead;
    const most = slack() - auditCheckpointCycles;
    if (most < 0) return answered;
    let [count, spent] = [0, 0];
    const takesMore = (): boolean => {
      if (spent + auditRecordCycles > most) return false;
      spent += auditRecordCycles;
      return true;
    };
    // What is done of a record that is worth several prices need not be done again: the shortest flush is one price long.
    for (; count < Math.min(records, room); count++) {
      while (this.weights[count]! > 0 && takesMore()) this.weights[count]!--;
      if (this.weights[count]! > 0) break;
    }
    const isReady = count > 0 || owesHead;
    clock.advance(spent + (isReady ? auditCheckpointCycles : 0), 'audit');
    if (!isReady) return answered || spent > 0;
    this.failure = this.write(this.ring.pending(count), from);
    this.failedAt = this.failure === null ? -1 : this.ring.next;
    if (this.failure === null && this.ring.unstored.records === 0) this.due = 'later';
    return true;
  }

  /** Everything at once, whatever it takes: at power-on, when nobody is served. */
  settle(): Refusal | null {
    do if (this.doneAt !== null) this.k.clock.jumpTo(this.doneAt);
    while (this.flush(() => Infinity, true));
    return this.failure;
  }

  /** Records into the store, and a head that covers them. What fails leaves everything as it was, to be tried again. */
  private write(records: readonly Uint8Array[], from: number): Refusal | null {
    const { clock, costs } = this.k;
    if (this.disk.isGone) return refuse('NODEV', 0, `disk ${this.disk.name} is gone`);
    if (!this.hashes.hasRoom) return refuse('NOSPC', 0, 'memory storage has no room for the hashes of the audit log');
    const refusal = records.length === 0 ? null : this.store.append(from, records);
    if (refusal !== null) return refusal;
    for (const record of records) this.tree.append(leafHash(record, this.k.sha256));
    this.ring.stored(records.length);
    this.weights.splice(0, records.length);
    const { size } = this.tree;
    const note = this.sign(size);
    const unsigned = this.store.appendCheckpoint(note);
    if (unsigned !== null) return unsigned;
    this.written = { size, note };
    this.witnesses.add(this.written);
    const bytes =
      records.reduce((sum, r) => sum + FRAME_BYTES + r.length, 0) + utf8Encode(note).length + this.contentBytes;
    this.contentBytes = 0;
    this.disk.wrote(bytes);
    const { latency, transfer } = this.disk.times(costs.target).read(bytes, 'typical');
    this.doneAt = clock.cycles() + latency + transfer;
    return null;
  }

  private sign(size: number): string {
    const text = formatCheckpoint({ origin: this.k.key.name, size, root: this.tree.root(size) });
    return signNote(text, { key: this.noteKey, sign: message => this.k.key.sign(message) });
  }

  // ── What is shown ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The ring, newest first, a line each, as a user sees it: their own records, the superuser all. */
  lines(uid: number): string[] {
    const own = this.ring.all().flatMap(bytes => {
      const record = decodeRecord(bytes);
      return record !== null && (uid === ROOT.euid || record['arena8.uid'] === uid) ? [recordLine(record)] : [];
    });
    return own.reverse();
  }

  /** How many records the head covers. */
  get size(): number {
    return this.acknowledged.size;
  }
  /** What the size will be when all is stored that does not wait for another record; as it is where storage has failed. */
  get expected(): number {
    if (this.failure !== null) return this.acknowledged.size;
    return this.due === 'later' ? this.written.size : this.ring.next;
  }
  /** The newest checkpoint with the witnesses' signatures. */
  get head(): string {
    return this.witnesses.signed(this.acknowledged);
  }
  get publicKey(): string {
    return `${formatNoteKey(this.noteKey)}\n`;
  }

  record(number: number): Uint8Array | null {
    return Number.isSafeInteger(number) && number >= 0 && number < this.size ? this.store.record(number) : null;
  }
  proof(number: number): string | null {
    const hashes = this.tree.inclusion(number, this.size);
    return isRefusal(hashes) ? null : formatProof({ index: number, hashes, checkpoint: this.head });
  }
  content(number: number): Uint8Array | null {
    return number < this.size ? this.store.content(number) : null;
  }
  contents(): readonly number[] {
    return this.store.contents().filter(number => number < this.size);
  }

  /** Texts of the next record, encrypted: in the store before it is; their way to the disk is counted with that of the record. */
  putContent(bytes: Uint8Array): Refusal | null {
    if (this.disk.isGone) return refuse('NODEV', 0, `disk ${this.disk.name} is gone`);
    const refusal = this.store.putContent(this.next, bytes);
    if (refusal === null) this.contentBytes += bytes.length;
    return refusal;
  }
  /** A witness's signature. */
  keep({ size, line }: Cosigned): Refusal | null {
    return this.store.appendCosignature(size, line);
  }

  /** Hashes of a tile, or of `level` -1 a bundle of records; null where the head covers no such tile. */
  tile(level: number, index: number, width: number): Uint8Array | null {
    const row = level < 0 ? ('entries' as const) : level;
    const isThere = width > 0 && width <= TILE_WIDTH && index * TILE_WIDTH + width <= rowLength(row, this.size);
    if (!isThere) return null;
    if (row !== 'entries') return tileHashes(this.tree, row, index, width);
    const records = Array.from({ length: width }, (_, i) => this.record(index * TILE_WIDTH + i));
    return records.includes(null) ? null : joined(...records.map(r => frame(r!)));
  }

  /** For a refusal of requests: what is wrong with the log. */
  static why(failure: Refusal): Refusal {
    return {
      ...failure,
      code: 9999,
      message: `the audit log has stopped, and nothing runs unrecorded: ${failure.message} (${errnoName(failure.errno)})`,
    };
  }
}
