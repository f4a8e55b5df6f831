// The log in storage, under /var/audit: records as frames (u16 big-endian length, then the record) in files of 256, named after the number of
// their first record; checkpoints, signed notes one behind the other. A file ends where the next one begins, whatever lies behind: a power cut
// may leave frames that no checkpoint covers, and half of one. Nothing is ever changed that a checkpoint covers.

import { LIMITS, refuse, strerror, utf8Decode, utf8Encode, type Refusal } from '../abi/index.ts';
import { frame, joined, readFrames } from '../../trust/index.ts';
import type { Appender, AppendFile } from '../../vfs/fs-append.ts';

export const ENTRIES = 'entries';
const CHECKPOINTS = 'checkpoints';
const COSIGNATURES = 'cosignatures';
const CONTENT = 'content';
const NUMBER_DIGITS = 16;

/** `entries/0000000000000256`: the file whose first record has that number. */
export const entriesPath = (first: number): string => `${ENTRIES}/${String(first).padStart(NUMBER_DIGITS, '0')}`;

/** Lines of a checkpoint in its file: origin, size, root, an empty one, one signature. */
const CHECKPOINT_LINES = 5;

/** The whole checkpoints of their file, and where what is left of it begins. */
function notesIn(bytes: Uint8Array): { readonly notes: readonly string[]; readonly ends: number } {
  const notes: string[] = [];
  let [begin, lines] = [0, 0];
  for (let at = 0; at < bytes.length; at++) {
    if (bytes[at] !== 0x0a || ++lines % CHECKPOINT_LINES !== 0) continue;
    notes.push(utf8Decode(bytes, begin, at + 1));
    begin = at + 1;
  }
  return { notes, ends: begin };
}

const failed = (what: string, errno: number): Refusal => ({
  errno: -errno,
  code: 0,
  message: `/var/audit/${what}: ${strerror(errno)}`,
});

/** The records of a file. */
interface Shelf {
  readonly first: number;
  readonly records: readonly Uint8Array[];
}

export class Store {
  /** First numbers of the files of records, in order. */
  private readonly firsts: number[] = [];
  private entries: AppendFile | null = null;
  private checkpoints: AppendFile | null = null;
  /** The file that was read last, by the machine and by who looks at it: records are asked for in order, and neither spares the other a read. */
  private readonly shelves: { machine: Shelf | null; looker: Shelf | null } = { machine: null, looker: null };

  constructor(
    private readonly files: Appender,
    private readonly isLookedAt: () => boolean,
  ) {}

  // ── Reading it at power-on ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Finds the files of records. One of another name is refused, by what is to be done: nothing else belongs there. */
  open(): Refusal | null {
    const names = this.files.list(ENTRIES);
    if (typeof names === 'number') return failed(ENTRIES, names);
    for (const name of names) {
      if (!/^[0-9]{16}$/.test(name))
        return refuse('INVAL', 0, `/var/audit/${ENTRIES}/${name}: no file of the audit log`);
      this.firsts.push(Number(name));
    }
    const file = this.files.open(CHECKPOINTS);
    if (typeof file === 'number') return failed(CHECKPOINTS, file);
    this.checkpoints = file;
    return null;
  }

  get starts(): readonly number[] {
    return this.firsts;
  }

  /** The checkpoints that are whole, oldest first; half of one at the end is cut off. */
  notes(): readonly string[] | Refusal {
    const file = this.checkpoints!;
    const bytes = file.read(0, file.bytes);
    if (typeof bytes === 'number') return failed(CHECKPOINTS, bytes);
    const { notes, ends } = notesIn(bytes);
    const cut = file.cut(ends);
    return cut < 0 ? failed(CHECKPOINTS, cut) : notes;
  }

  /** Everything that lies in the file that begins with record `first`. */
  bytesFrom(first: number): Uint8Array | Refusal {
    const path = entriesPath(first);
    const file = this.files.open(path);
    if (typeof file === 'number') return failed(path, file);
    const bytes = file.read(0, file.bytes);
    file.close();
    return typeof bytes === 'number' ? failed(path, bytes) : bytes;
  }

  /** Files that were begun behind the last checkpoint are emptied: what lay in them has been told, and is not to be told again. */
  dropBehind(size: number): Refusal | null {
    for (const first of this.firsts.filter(number => number > size)) {
      const file = this.files.open(entriesPath(first));
      if (typeof file === 'number') return failed(entriesPath(first), file);
      const cut = file.cut(0);
      file.close();
      if (cut < 0) return failed(entriesPath(first), cut);
    }
    return null;
  }

  // ── Writing ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The next record will have that number, and is the first of a file: one of that name holds nothing that counts. */
  begin(number: number): Refusal | null {
    const path = entriesPath(number);
    const file = this.files.open(path);
    if (typeof file === 'number') return failed(path, file);
    const cut = file.cut(0);
    if (cut < 0) return failed(path, cut);
    this.entries?.close();
    this.entries = file;
    if (this.firsts.at(-1) !== number) this.firsts.push(number);
    return null;
  }

  /** Records number `from` and the following, all of one file. */
  append(from: number, records: readonly Uint8Array[]): Refusal | null {
    if (this.entries === null || from % LIMITS.auditFileRecords === 0) {
      const refusal = this.begin(from);
      if (refusal !== null) return refusal;
    }
    const status = this.entries!.append(joined(...records.map(frame)));
    if (status < 0) return failed(entriesPath(this.firsts.at(-1)!), status);
    this.shelves.machine = this.shelves.looker = null;
    return null;
  }

  appendCheckpoint(note: string): Refusal | null {
    const status = this.checkpoints!.append(utf8Encode(note));
    return status < 0 ? failed(CHECKPOINTS, status) : null;
  }

  /** The encrypted texts of a request: written once, before its record. */
  putContent(number: number, bytes: Uint8Array): Refusal | null {
    const path = `${CONTENT}/${String(number).padStart(NUMBER_DIGITS, '0')}`;
    const file = this.files.open(path);
    if (typeof file === 'number') return failed(path, file);
    const cut = file.cut(0); // of a record with that number which no checkpoint came to cover
    const status = cut < 0 ? cut : file.append(bytes);
    file.close();
    return status < 0 ? failed(path, status) : null;
  }

  /** A witness's signature line of the head of that size. */
  appendCosignature(size: number, line: string): Refusal | null {
    const file = this.files.open(COSIGNATURES);
    if (typeof file === 'number') return failed(COSIGNATURES, file);
    const status = file.append(utf8Encode(`${size} ${line}`));
    file.close();
    return status < 0 ? failed(COSIGNATURES, status) : null;
  }

  /** The signature lines of the head of that size; half of one at the end is cut off. */
  cosignatures(size: number): readonly string[] | Refusal {
    const file = this.files.open(COSIGNATURES);
    if (typeof file === 'number') return failed(COSIGNATURES, file);
    const bytes = file.read(0, file.bytes);
    if (typeof bytes === 'number') return failed(COSIGNATURES, bytes);
    const end = bytes.lastIndexOf(0x0a) + 1;
    const cut = file.cut(end);
    file.close();
    if (cut < 0) return failed(COSIGNATURES, cut);
    const lines = utf8Decode(bytes, 0, end).split('\n');
    return lines.flatMap(line => (line.startsWith(`${size} `) ? [line.slice(`${size} `.length)] : []));
  }

  // ── Reading ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Numbers of the records whose texts are there. */
  contents(): readonly number[] {
    const names = this.files.list(CONTENT);
    return typeof names === 'number' ? [] : names.filter(name => /^[0-9]{16}$/.test(name)).map(Number);
  }

  content(number: number): Uint8Array | null {
    const name = String(number).padStart(NUMBER_DIGITS, '0');
    const names = this.files.list(CONTENT);
    if (typeof names === 'number' || !names.includes(name)) return null;
    const file = this.files.open(`${CONTENT}/${name}`);
    if (typeof file === 'number') return null;
    const bytes = file.read(0, file.bytes);
    file.close();
    return typeof bytes === 'number' ? null : bytes;
  }

  /** A record that is in the store; null where storage does not give it back. */
  record(number: number): Uint8Array | null {
    let i = this.firsts.length - 1;
    while (i > 0 && this.firsts[i]! > number) i--;
    const first = this.firsts[i];
    if (first === undefined) return null;
    const whose = this.isLookedAt() ? 'looker' : 'machine';
    let shelf = this.shelves[whose];
    if (shelf?.first !== first) {
      const bytes = this.bytesFrom(first);
      if (!(bytes instanceof Uint8Array)) return null;
      shelf = this.shelves[whose] = { first, records: readFrames(bytes).records };
    }
    return shelf.records[number - first] ?? null;
  }
}
