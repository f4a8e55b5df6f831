// Power-on with a log that is there already: what of it is acknowledged. That is what the last whole checkpoint covers, signed with the machine's
// own key over the root of the very records that lie there; frames behind it were on their way when the power went, and are dropped. A
// store in which something is missing, changed or signed by others is refused, and the first bad place is named. After littlefs' mount.

import { isRefusal, LIMITS, refuse, utf8Encode, type Refusal } from '../abi/index.ts';
import {
  formatNoteKey,
  isEnding,
  leafHash,
  openCheckpoint,
  parseCheckpoint,
  parseNote,
  readFrames,
  sameBytes,
  Tree,
  type AuditOp,
  type NoteKey,
  type OpenedCheckpoint,
  type Sha256,
} from '../../trust/index.ts';
import type { HashFile } from './hashes.ts';
import { decodeRecord } from './record.ts';
import { ENTRIES, entriesPath, type Store } from './store.ts';

/** A request that had been submitted and not ended when the power went. */
export interface OpenRequest {
  readonly submitted: number; // its submit record
  readonly uid: number;
  readonly session: string;
}

export interface Recovered {
  readonly tree: Tree;
  /** The last checkpoint, a signed note; null: the log is new. */
  readonly head: string | null;
  /** How many times the machine had been switched on with this log. */
  readonly boots: number;
  readonly open: readonly OpenRequest[];
  /** Keys of the witnesses that were trusted, and of the reader that texts were stored for; '': they were not. */
  readonly witnesses: readonly string[];
  readonly recipient: string;
  /** What lay behind the last checkpoint. */
  readonly dropped: { readonly records: number; readonly bytes: number; readonly digest: Uint8Array };
}

export function recover(store: Store, key: NoteKey, hashes: HashFile, sha256: Sha256): Recovered | Refusal {
  const opened = store.open();
  if (opened !== null) return opened;
  const notes = store.notes();
  if (isRefusal(notes)) return notes;
  const head = notes.at(-1) ?? null;
  const checkpoint = head === null ? null : openHead(head, notes.length, key);
  if (isRefusal(checkpoint)) return checkpoint;
  const size = checkpoint?.size ?? 0;
  const lost = store.starts.find(first => first > size && first % LIMITS.auditFileRecords !== 0);
  if (lost !== undefined) return headsMissing(`${entriesPath(lost)}: begun at a power-on with ${lost} records`, size);
  const reader = new Reader(new Tree(hashes, sha256), sha256);
  const starts = store.starts;
  if (size > 0 && starts[0] !== 0) return missing(entriesPath(0), 0, size);
  const tails: Uint8Array[] = [];
  for (const [i, first] of starts.entries()) {
    if (!hashes.hasRoom)
      return refuse(
        'NOSPC',
        0,
        `memory storage has no room for the hashes of more than ${first} records of the audit log`,
      );
    const bytes = store.bytesFrom(first);
    if (isRefusal(bytes)) return bytes;
    const wanted = Math.max(0, Math.min(starts[i + 1] ?? size, size) - first);
    const taken = reader.take(bytes, wanted);
    if (taken < wanted) return missing(entriesPath(first), taken, wanted);
    // What lies behind the head, in its file and in those that had been begun; in files before, a later one has taken its place.
    if ((starts[i + 1] ?? Infinity) > size) tails.push(bytes.subarray(reader.at));
  }
  if (reader.tree.size < size) return missing(entriesPath(reader.tree.size), 0, size - reader.tree.size);
  if (checkpoint !== null && !sameBytes(reader.tree.root(), checkpoint.root)) return firstChange(notes, reader.tree);
  const dropped = {
    records: tails.reduce((sum, tail) => sum + readFrames(tail).records.length, 0),
    bytes: tails.reduce((sum, tail) => sum + tail.length, 0),
    digest: sha256(...tails),
  };
  if (dropped.bytes > LIMITS.auditRingBytes)
    return headsMissing(
      `${ENTRIES}: ${dropped.bytes} bytes behind it, a power cut leaves ${LIMITS.auditRingBytes}`,
      size,
    );
  const uncut = store.dropBehind(size);
  if (uncut !== null) return uncut;
  const { tree, boots, open, witnesses, recipient } = reader;
  return { tree, head, boots, open: [...open.values()], witnesses, recipient, dropped };
}

const bad = (message: string): Refusal => refuse('PROTO', 0, `the audit log does not hold together: ${message}`);

const missing = (path: string, there: number, wanted: number): Refusal =>
  bad(`/var/audit/${path}: ${there} of ${wanted} records`);

/** Checkpoints that were there are gone: to go on would be to drop acknowledged records. */
const headsMissing = (what: string, size: number): Refusal =>
  bad(`/var/audit/checkpoints: the last one is of ${size} records, later ones are missing (${what})`);

function openHead(head: string, count: number, key: NoteKey): OpenedCheckpoint | Refusal {
  const opened = openCheckpoint(utf8Encode(head), key);
  if (!isRefusal(opened)) return opened;
  const own = `this machine signs as ${formatNoteKey(key)}, and a log goes on only with the key that it began with`;
  return bad(`/var/audit/checkpoints, checkpoint ${count}: ${opened.message} (${own})`);
}

/** The first checkpoint whose root is not that of the records: what has been changed is new in it. */
function firstChange(notes: readonly string[], tree: Tree): Refusal {
  let before = 0;
  for (const [i, text] of notes.entries()) {
    const note = parseNote(utf8Encode(text));
    const checkpoint = isRefusal(note) ? note : parseCheckpoint(note.text);
    const where = `/var/audit/checkpoints, checkpoint ${i + 1}`;
    if (isRefusal(checkpoint)) return bad(`${where}: ${checkpoint.message}`);
    const { size, root } = checkpoint;
    if (size < before || size > tree.size) return bad(`${where}: a size of ${size} behind one of ${before}`);
    if (!sameBytes(tree.root(size), root))
      return bad(`${where}: records ${before} to ${size - 1} are not those that it has signed`);
    before = size;
  }
  return bad('/var/audit/checkpoints: the last checkpoint is not the root of its records');
}

/** Takes records in order: their hashes, and what must be known of them. */
class Reader {
  boots = 0;
  /** By the number of the submit record. */
  readonly open = new Map<number, OpenRequest>();
  readonly witnesses: string[] = [];
  recipient = '';
  /** Where the file's first record begins that was not taken. */
  at = 0;

  constructor(
    readonly tree: Tree,
    private readonly sha256: Sha256,
  ) {}

  /** The first `count` records of a file; how many there are. */
  take(bytes: Uint8Array, count: number): number {
    const { records } = readFrames(bytes);
    this.at = 0;
    for (const record of records.slice(0, count)) {
      this.at += 2 + record.length;
      this.tree.append(leafHash(record, this.sha256));
      this.note(record);
    }
    return Math.min(records.length, count);
  }

  private note(bytes: Uint8Array): void {
    const record = decodeRecord(bytes);
    if (record === null) return; // its root is not that of the checkpoint
    const op = record['arena8.op'] as AuditOp;
    const submitted = Number(record['arena8.submitted']);
    if (op === 'boot') this.boots = Number(record['arena8.boot']) + 1;
    if (isEnding(op)) this.open.delete(submitted);
    const value = String(record['arena8.value']);
    if (op === 'witness' && record['arena8.name'] === 'trust') this.witnesses.push(value);
    if (op === 'content' && record['error.type'] === undefined) this.recipient = value;
    if (op === 'submit') {
      const number = Number(record['arena8.record']);
      const session = String(record['gen_ai.conversation.id']);
      this.open.set(number, { submitted: number, uid: Number(record['arena8.uid']), session });
    }
  }
}
