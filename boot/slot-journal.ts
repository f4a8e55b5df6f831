// The names of files that lie in slots: a tree, and a journal that brings it back. Each change is one line with a checksum, appended; a line that a
// power cut tore ends the journal, as in the logs of databases. Two files take turns: when one is full, the tree as it is goes into the other
// under the next generation, and counts once it is whole. Room for removing is kept, so that a full disk can be emptied.

import { E, isRefusal, refuse, utf8Decode, utf8Encode, type Refusal } from '../kernel/abi/index.ts';

/** A file that the host opened beforehand, and that stays open. Numbers < 0 are -errno. */
export interface SlotFile {
  size(): number;
  read(position: number, into: Uint8Array, at: number, length: number): number;
  /** Bytes taken: fewer than `length` where there is no room for more, and -ENOSPC where there is none at all. */
  write(position: number, from: Uint8Array, at: number, length: number): number;
  truncate(size: number): number;
  /** What was written outlives a power cut from now on. */
  flush(): number;
}

/** A file or directory. The root has the id 0 and no line in the journal. */
export interface Entry {
  readonly id: number;
  parent: number;
  name: string;
  mode: number;
  uid: number;
  gid: number;
  /** Of a file: where its bytes lie. */
  readonly slot: number;
  /** Of a directory: its entries; null: a file. */
  readonly children: Map<string, Entry> | null;
  /** Of its line in the journal. */
  lineBytes: number;
}

/** One change, as the journal has it. `move` takes the place of what has that name. */
export type Change =
  | readonly ['dir', id: number, parent: number, name: string, mode: number, uid: number, gid: number]
  | readonly ['file', id: number, parent: number, name: string, mode: number, uid: number, gid: number, slot: number]
  | readonly ['move', id: number, parent: number, name: string]
  | readonly ['mode', id: number, mode: number, uid: number, gid: number]
  | readonly ['gone', id: number];

/** How many numbers and texts follow each word. */
const SHAPES: Readonly<Record<string, string>> = {
  dir: 'nnsnnn',
  file: 'nnsnnnn',
  move: 'nns',
  mode: 'nnnn',
  gone: 'n',
};

const VERSION = 1;
/** A journal file at first: some 800 lines. It doubles. */
const CAPACITY_BYTES = 64 * 1024;
/** Lines of 'gone' that fit behind a full tree: what they remove makes room for more. */
const RESERVE_BYTES = 256;
const ZEROS = new Uint8Array(CAPACITY_BYTES);
/** Of the first line and the last one of a tree. */
const FRAME_BYTES = 80;
/** '01234567 ' and the newline. */
const LINE_BYTES = 10;

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

/** CRC-32 (ISO 3309, as in gzip) of `bytes`, going on from that of what came before. */
function crc32(bytes: Uint8Array, before = 0): number {
  let crc = ~before;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ byte) & 0xff]!;
  return ~crc >>> 0;
}

const textOf = (value: readonly unknown[]): Uint8Array => utf8Encode(JSON.stringify(value));

// ── The tree ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export class Names {
  readonly root: Entry = directory(0, 0, '', 0o755, 0, 0);
  private readonly entries = new Map<number, Entry>([[0, this.root]]);
  private readonly taken = new Set<number>();
  private lastId = 0;
  /** Bytes of the lines that would make the tree anew. */
  liveBytes = 0;

  nextId(): number {
    return this.lastId + 1;
  }

  /** Slots that files lie in. */
  slots(): Iterable<number> {
    return this.taken.values();
  }

  hasSlot(slot: number): boolean {
    return this.taken.has(slot);
  }

  /** The lines that would make the tree anew: each directory before what is in it. */
  *lines(of = this.root): Iterable<Change> {
    for (const entry of of.children!.values()) {
      yield made(entry);
      if (entry.children !== null) yield* this.lines(entry);
    }
  }

  /** Makes a change. False where it makes no sense: nothing is changed then. */
  apply(change: Change): boolean {
    const [word, id] = change;
    if (word === 'dir' || word === 'file') return this.add(change);
    const entry = this.entries.get(id);
    if (entry === undefined || entry === this.root) return false;
    if (word === 'mode') [, , entry.mode, entry.uid, entry.gid] = change;
    else if (word === 'move') return this.move(entry, change[2], change[3]);
    else if (entry.children !== null && entry.children.size > 0) return false;
    else this.drop(entry);
    if (word === 'mode') this.measure(entry);
    return true;
  }

  private add(change: Change & readonly ['dir' | 'file', ...unknown[]]): boolean {
    const [word, id, parentId, name, mode, uid, gid] = change;
    const parent = this.entries.get(parentId);
    if (this.entries.has(id) || parent?.children == null || parent.children.has(name)) return false;
    if (word === 'file') {
      if (this.taken.has(change[7])) return false;
      this.taken.add(change[7]);
    }
    const entry =
      word === 'dir'
        ? directory(id, parentId, name, mode, uid, gid)
        : { id, parent: parentId, name, mode, uid, gid, slot: change[7], children: null, lineBytes: 0 };
    this.entries.set(id, entry);
    this.lastId = Math.max(this.lastId, id);
    parent.children.set(name, entry);
    this.measure(entry);
    return true;
  }

  private move(entry: Entry, parentId: number, name: string): boolean {
    const parent = this.entries.get(parentId);
    if (parent?.children == null) return false;
    const old = parent.children.get(name);
    if (old !== undefined) this.drop(old);
    this.entries.get(entry.parent)!.children!.delete(entry.name);
    [entry.parent, entry.name] = [parentId, name];
    parent.children.set(name, entry);
    this.measure(entry);
    return true;
  }

  private drop(entry: Entry): void {
    this.entries.get(entry.parent)!.children!.delete(entry.name);
    this.entries.delete(entry.id);
    this.taken.delete(entry.slot);
    this.liveBytes -= entry.lineBytes;
  }

  private measure(entry: Entry): void {
    const bytes = LINE_BYTES + textOf(made(entry)).length;
    this.liveBytes += bytes - entry.lineBytes;
    entry.lineBytes = bytes;
  }
}

function directory(id: number, parent: number, name: string, mode: number, uid: number, gid: number): Entry {
  return { id, parent, name, mode, uid, gid, slot: -1, children: new Map(), lineBytes: 0 };
}

/** The change that makes an entry. */
function made({ id, parent, name, mode, uid, gid, slot, children }: Entry): Change {
  return children !== null
    ? ['dir', id, parent, name, mode, uid, gid]
    : ['file', id, parent, name, mode, uid, gid, slot];
}

// ── The journal ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What one of the two files holds. */
interface Found {
  readonly generation: number;
  readonly names: Names;
  /** Behind the last whole line, and that line's checksum. */
  readonly end: number;
  readonly crc: number;
}

export class Journal {
  private constructor(
    private readonly files: readonly [SlotFile, SlotFile],
    private found: Found,
    /** Bytes of either file. */
    private capacity: number,
  ) {}

  /**
   * The journal in two files, which are empty the first time. Refused when neither holds a whole tree: what lies in the slots is then nobody's,
   * and stays untouched.
   */
  static open(files: readonly [SlotFile, SlotFile], capacityBytes = CAPACITY_BYTES): Journal | Refusal {
    const found: Found[] = [];
    let isNew = true;
    for (const file of files) {
      const bytes = bytesOf(file);
      if (typeof bytes === 'number') return refuse('IO', 0, 'the list of files cannot be read');
      const there = parse(bytes);
      if (isRefusal(there)) return there;
      if (there !== null) found.push(there);
      else isNew &&= isTornBeginning(bytes);
    }
    // Where growing failed in the middle, one is longer.
    const capacity = Math.max(capacityBytes, Math.min(files[0].size(), files[1].size()));
    const best = found.sort((a, b) => b.generation - a.generation)[0];
    if (best === undefined && !isNew) return refuse('IO', 0, 'the list of files is damaged');
    const journal = new Journal(files, best ?? { generation: 0, names: new Names(), end: 0, crc: 0 }, capacity);
    const status = journal.begin(best === undefined);
    return status < 0
      ? refuse(status === -E.NOSPC ? 'NOSPC' : 'IO', 0, 'the list of files cannot be written')
      : journal;
  }

  get names(): Names {
    return this.found.names;
  }

  private get file(): SlotFile {
    return this.files[this.found.generation % 2]!;
  }

  /** Both files take their room, so that no later line wants any; a new journal gets its first tree. */
  private begin(isNew: boolean): number {
    const status = this.grow(this.capacity);
    return status < 0 || !isNew ? status : this.rewrite();
  }

  /** Writes a change down, then makes it. -ENOSPC: there is no room for it; 'gone' always has. */
  append(change: Change): number {
    const text = textOf(change);
    const bytes = LINE_BYTES + text.length;
    if (change[0] !== 'gone') {
      const status = this.makeRoom(FRAME_BYTES + this.names.liveBytes + bytes + RESERVE_BYTES);
      if (status < 0) return status;
    }
    if (this.found.end + bytes > this.capacity) {
      const status = this.rewrite();
      if (status < 0) return status;
    }
    const { line, crc } = lineOf(text, this.found.crc);
    const status = writeAll(this.file, this.found.end, line, line.length);
    if (status < 0) return status;
    if (!this.names.apply(change)) throw new Error(`a change that makes no sense: ${JSON.stringify(change)}`);
    this.found = { ...this.found, end: this.found.end + line.length, crc };
    return 0;
  }

  flush(): number {
    return this.file.flush();
  }

  /** The files grow while a tree of `bytes` fills more than half of one; where they cannot, it has to fit. */
  private makeRoom(bytes: number): number {
    if (bytes <= this.capacity / 2) return 0;
    const status = this.grow(2 * this.capacity);
    if (status === 0) this.capacity *= 2;
    else for (const file of this.files) file.truncate(this.capacity);
    return bytes <= this.capacity ? 0 : status;
  }

  /** Zeros up to `capacity`, written: a hole would take its room later. */
  private grow(capacity: number): number {
    for (const file of this.files)
      for (let size = file.size(); size < capacity; size = file.size()) {
        const status = writeAll(file, size, ZEROS, Math.min(ZEROS.length, capacity - size));
        if (status < 0) return status;
      }
    return 0;
  }

  /** The tree as it is, into the other file. */
  private rewrite(): number {
    const { names } = this.found;
    const generation = this.found.generation + 1;
    const { bytes, crc } = written(names, generation);
    const other = this.files[generation % 2]!;
    const n = writeAll(other, 0, bytes, bytes.length);
    const status = n < 0 ? n : other.flush();
    if (status < 0) return status;
    this.found = { generation, names, end: bytes.length, crc };
    return 0;
  }
}

/** 0 or -errno. */
function writeAll(file: SlotFile, position: number, from: Uint8Array, length: number): number {
  const n = file.write(position, from, 0, length);
  return n < 0 ? n : n < length ? -E.NOSPC : 0;
}

/** A tree as a journal begins with it. */
function written(names: Names, generation: number): { readonly bytes: Uint8Array; readonly crc: number } {
  const lines: Uint8Array[] = [];
  let crc = 0;
  for (const value of [['arena8 files', VERSION, generation], ...names.lines(), ['whole']]) {
    const next = lineOf(textOf(value), crc);
    lines.push(next.line);
    crc = next.crc;
  }
  const bytes = new Uint8Array(lines.reduce((sum, line) => sum + line.length, 0));
  lines.reduce((at, line) => (bytes.set(line, at), at + line.length), 0);
  return { bytes, crc };
}

/** `CHECKSUM JSON`, the checksum going on from the line before: what an older generation left behind the end does not join on. */
function lineOf(text: Uint8Array, before: number): { readonly line: Uint8Array; readonly crc: number } {
  const crc = crc32(text, before);
  const line = new Uint8Array(LINE_BYTES + text.length);
  line.set(utf8Encode(`${crc.toString(16).padStart(8, '0')} `));
  line.set(text, LINE_BYTES - 1);
  line[line.length - 1] = 0x0a;
  return { line, crc };
}

function bytesOf(file: SlotFile): Uint8Array | number {
  const bytes = new Uint8Array(file.size());
  const n = file.read(0, bytes, 0, bytes.length);
  return n < 0 ? n : bytes.subarray(0, n);
}

/** A journal whose first tree was never whole: nothing but parts of it among zeros. */
function isTornBeginning(bytes: Uint8Array): boolean {
  const { bytes: first } = written(new Names(), 1);
  return bytes.every((byte, i) => byte === 0 || byte === first[i]);
}

/** null: no whole tree. */
function parse(bytes: Uint8Array): Found | Refusal | null {
  const names = new Names();
  let [at, crc, generation, isWhole] = [0, 0, 0, false];
  for (let next; (next = bytes.indexOf(0x0a, at)) >= 0; at = next + 1) {
    const line = bytes.subarray(at, next);
    const text = line.subarray(LINE_BYTES - 1);
    const sum = crc32(text, crc);
    if (text.length === 0 || utf8Decode(line, 0, LINE_BYTES - 2) !== sum.toString(16).padStart(8, '0')) break;
    const value = JSON.parse(utf8Decode(text)) as readonly [string, ...(string | number)[]];
    if (generation === 0) {
      if (value[1] !== VERSION) return refuse('INVAL', 0, 'the list of files is of another version');
      generation = Number(value[2]);
    } else if (value[0] === 'whole') isWhole = true;
    else if (!isChange(value) || !names.apply(value)) return refuse('IO', 0, 'the list of files is damaged');
    crc = sum;
  }
  return isWhole ? { generation, names, end: at, crc } : null;
}

function isChange(value: readonly [string, ...(string | number)[]]): value is Change & typeof value {
  const [word, ...rest] = value;
  return SHAPES[word] === rest.map(item => (typeof item === 'string' ? 's' : 'n')).join('');
}
