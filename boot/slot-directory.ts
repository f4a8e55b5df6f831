// A whole directory tree for a host whose files can only be opened while nobody waits: empty files, slots, are opened beforehand, and take the names
// that are asked for. So a worker of a browser, where opening is asynchronous and reading and writing are not, keeps a home or an audit log. The
// names lie in a journal (slot-journal.ts); a power cut at any moment leaves each file under its old name or its new one, and what a name comes
// back to is what was there.

import {
  E,
  isRefusal,
  KIND,
  O,
  type HostDirectory,
  type HostFile,
  type HostStat,
  type Refusal,
} from '../kernel/abi/index.ts';
import { Journal, type Change, type Entry, type SlotFile } from './slot-journal.ts';

export type { SlotFile };

/** A file that has a slot, and perhaps no name any longer, or not yet. */
interface Body {
  readonly slot: number;
  readonly file: SlotFile;
  opens: number;
  isNamed: boolean;
}

/** A file that is coming from outside: it has no name before it is whole. */
export interface Incoming {
  readonly write: SlotFile['write'];
  /** Gives it its name. 0 or -errno, as create() answers: then it has none yet. */
  name(path: string, mode: number, uid: number, gid: number): number;
  /** It will not be whole. */
  drop(): void;
}

export interface SlotHost {
  /** What `mount` and `df` print. */
  readonly source: string;
  readonly journals: readonly [SlotFile, SlotFile];
  /** Files, at most. */
  readonly slotsMost: number;
  /** Of each journal at first. */
  readonly journalBytes?: number;
  /** A slot whose file was large is emptied and no longer in use: it can be closed, where only that gives its room back. */
  readonly close?: (slot: number) => void;
}

/** What a file may have been long for its slot to be used again. */
const REUSED_BYTES_MOST = 1024 * 1024;

/**
 * A file that was made when no slot was open. It lies in memory until its own is, which the host opens before the machine goes on; a power cut
 * in between leaves it empty.
 */
class LateFile implements SlotFile {
  private bytes = new Uint8Array(0);
  private file: SlotFile | null = null;

  get isLate(): boolean {
    return this.file === null;
  }

  /** Its slot is open. 0 or -errno: then it stays in memory. */
  settle(file: SlotFile): number {
    const n = file.write(0, this.bytes, 0, this.bytes.length);
    if (n < this.bytes.length) return n < 0 ? n : -E.NOSPC;
    this.file = file;
    this.bytes = new Uint8Array(0);
    return 0;
  }

  size(): number {
    return this.file?.size() ?? this.bytes.length;
  }
  read(position: number, into: Uint8Array, at: number, length: number): number {
    if (this.file !== null) return this.file.read(position, into, at, length);
    const piece = this.bytes.subarray(position, position + length);
    into.set(piece, at);
    return piece.length;
  }
  write(position: number, from: Uint8Array, at: number, length: number): number {
    if (this.file !== null) return this.file.write(position, from, at, length);
    if (position + length > this.bytes.length) this.truncate(position + length);
    this.bytes.set(from.subarray(at, at + length), position);
    return length;
  }
  truncate(size: number): number {
    if (this.file !== null) return this.file.truncate(size);
    const bytes = new Uint8Array(size);
    bytes.set(this.bytes.subarray(0, size));
    this.bytes = bytes;
    return 0;
  }
  flush(): number {
    return this.file?.flush() ?? 0;
  }
}

export class SlotDirectory implements HostDirectory {
  readonly readOnly = false;
  readonly source: string;
  private readonly slotsMost: number;
  /** Numbers of slots that are in use: open, being opened, or to be opened. */
  private readonly numbers: Set<number>;
  private lowest = 0;
  private readonly bodies = new Map<number, Body>();
  /** Empty ones, the next one first. */
  private readonly spare: Body[] = [];
  /** Removed, but not yet in the journal on the disk: their old names could come back, and then want the bytes that were theirs. */
  private readonly freed: Body[] = [];
  private readonly late = new Map<number, LateFile>();
  private readonly dirty = new Set<SlotFile>();
  private isJournalDirty = false;

  private constructor(
    private readonly host: SlotHost,
    private readonly journal: Journal,
  ) {
    this.source = host.source;
    this.slotsMost = host.slotsMost;
    this.numbers = new Set(journal.names.slots());
  }

  /** The tree in the journals; `slotsTaken` have to be added before it is used. Refused as Journal.open refuses. */
  static open(host: SlotHost): SlotDirectory | Refusal {
    const journal = Journal.open(host.journals, host.journalBytes);
    return isRefusal(journal) ? journal : new SlotDirectory(host, journal);
  }

  // ── Slots ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Slots that files lie in. */
  slotsTaken(): readonly number[] {
    return [...this.journal.names.slots()];
  }

  /** Slots that files lie in already and that have yet to be opened. */
  slotsLate(): readonly number[] {
    return [...this.late.keys()];
  }

  /** The number of a slot that the host opens to spare; -1: there are as many as there may be. */
  reserve(): number {
    if (this.numbers.size >= this.slotsMost) return -1;
    while (this.numbers.has(this.lowest)) this.lowest++;
    this.numbers.add(this.lowest);
    return this.lowest;
  }

  isUsed(slot: number): boolean {
    return this.numbers.has(slot);
  }

  /** A slot is open. One that no file lies in is emptied: it may hold what a power cut left behind. */
  add(slot: number, file: SlotFile): void {
    const late = this.late.get(slot);
    if (late !== undefined) {
      if ((file.size() === 0 || file.truncate(0) === 0) && this.withRoom(() => late.settle(file), 0) === 0)
        this.late.delete(slot);
      return;
    }
    const isNamed = this.journal.names.hasSlot(slot);
    const body: Body = { slot, file, opens: 0, isNamed };
    this.bodies.set(slot, body);
    if (isNamed) return;
    if (file.size() > 0) file.truncate(0);
    this.spare.push(body);
  }

  /** Files that can be made without a late slot. */
  get spares(): number {
    return this.spare.length + this.freed.length;
  }

  private take(): Body | undefined {
    if (this.spare.length === 0 && this.freed.length > 0) this.flush();
    const body = this.spare.shift();
    if (body !== undefined) return body;
    const slot = this.reserve();
    if (slot < 0) return undefined;
    const file = new LateFile();
    this.late.set(slot, file);
    const made: Body = { slot, file, opens: 0, isNamed: false };
    this.bodies.set(slot, made);
    return made;
  }

  private release(body: Body): void {
    if (body.isNamed || body.opens > 0) return;
    this.dirty.delete(body.file);
    this.freed.push(body);
  }

  /** No name can come back to it: its room is free, and it may take another. */
  private empty(body: Body): void {
    const { slot, file } = body;
    const isLarge = file.size() > REUSED_BYTES_MOST && !this.late.has(slot);
    file.truncate(0);
    if (!isLarge || this.host.close === undefined) return void this.spare.push(body);
    this.host.close(slot);
    this.bodies.delete(slot);
    this.numbers.delete(slot);
    this.lowest = Math.min(this.lowest, slot);
  }

  /** Does what takes room; where there is too little, once more when what was removed has given its own back. */
  private withRoom(act: () => number, wanted: number): number {
    const got = act();
    const isShort = got === -E.NOSPC || (got >= 0 && got < wanted);
    return isShort && this.freed.length > 0 && this.flush() === 0 ? act() : got;
  }

  get isDirty(): boolean {
    return this.isJournalDirty || this.dirty.size > 0;
  }

  /** Everything written until now outlives a power cut. 0 or -errno. */
  flush(): number {
    let status = 0;
    for (const file of this.dirty) status = Math.min(status, file.flush());
    this.dirty.clear();
    if (this.isJournalDirty) status = Math.min(status, this.journal.flush());
    if (status < 0) return status;
    this.isJournalDirty = false;
    for (const body of this.freed.splice(0)) this.empty(body);
    return 0;
  }

  /** Room for a file from outside; -ENOSPC: there is none. */
  incoming(): Incoming | number {
    const body = this.take();
    if (body === undefined) return -E.NOSPC;
    const { file } = body;
    return {
      write: (position, from, at, length) => this.withRoom(() => file.write(position, from, at, length), length),
      name: (path, mode, uid, gid) => {
        const status = file.flush();
        return status < 0 ? status : this.make(path, mode, uid, gid, body);
      },
      drop: () => this.empty(body), // it never had a name
    };
  }

  // ── Names ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private find(path: string): Entry | number {
    let entry = this.journal.names.root;
    if (path === '') return entry;
    for (const name of path.split('/')) {
      if (entry.children === null) return -E.NOTDIR;
      const next = entry.children.get(name);
      if (next === undefined) return -E.NOENT;
      entry = next;
    }
    return entry;
  }

  /** The directory that a path's last name is in, and that name. */
  private place(path: string): { readonly parent: Entry; readonly name: string } | number {
    if (path === '') return -E.BUSY; // the mount point itself
    const cut = path.lastIndexOf('/');
    const parent = this.find(path.slice(0, Math.max(0, cut)));
    if (typeof parent === 'number') return parent;
    return parent.children === null ? -E.NOTDIR : { parent, name: path.slice(cut + 1) };
  }

  private write(change: Change): number {
    const status = this.withRoom(() => this.journal.append(change), 0);
    if (status === 0) this.isJournalDirty = true;
    return status;
  }

  private bodyOf(entry: Entry): Body {
    const body = this.bodies.get(entry.slot);
    if (body === undefined) throw new Error(`slot ${entry.slot} has not been opened`);
    return body;
  }

  private unname(body: Body): void {
    body.isNamed = false;
    this.release(body);
  }

  stat(path: string): HostStat | number {
    const entry = this.find(path);
    if (typeof entry === 'number') return entry;
    const { mode, uid, gid, children } = entry;
    if (children !== null) return { kind: KIND.dir, size: 0, mode, uid, gid };
    return { kind: KIND.file, size: this.bodyOf(entry).file.size(), mode, uid, gid };
  }

  list(path: string): readonly { name: string; kind: number }[] | number {
    const entry = this.find(path);
    if (typeof entry === 'number') return entry;
    if (entry.children === null) return -E.NOTDIR;
    return [...entry.children.values()]
      .map(({ name, children }) => ({ name, kind: children === null ? KIND.file : KIND.dir }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** A file by its path. */
  private fileAt(path: string): Body | number {
    const entry = this.find(path);
    if (typeof entry === 'number') return entry;
    return entry.children === null ? this.bodyOf(entry) : -E.ISDIR;
  }

  open(path: string, access: number): HostFile | number {
    const body = this.fileAt(path);
    if (typeof body === 'number') return body;
    body.opens++;
    const { file } = body;
    return {
      read: (position, into, at, length) => (access === O.WRONLY ? -E.BADF : file.read(position, into, at, length)),
      write: (position, from, at, length) => {
        if (access === O.RDONLY) return -E.BADF;
        this.dirty.add(file);
        return this.withRoom(() => file.write(position, from, at, length), length);
      },
      close: () => {
        body.opens--;
        this.release(body);
      },
    };
  }

  truncate(path: string, size: number): number {
    const body = this.fileAt(path);
    if (typeof body === 'number') return body;
    this.dirty.add(body.file);
    return this.withRoom(() => body.file.truncate(size), 0);
  }

  create(path: string, mode: number, uid = 0, gid = 0): number {
    const body = this.take();
    const status = body === undefined ? -E.NOSPC : this.make(path, mode, uid, gid, body);
    if (status < 0 && body !== undefined) this.spare.unshift(body);
    return status;
  }

  private make(path: string, mode: number, uid: number, gid: number, body: Body): number {
    const place = this.place(path);
    if (typeof place === 'number') return place === -E.BUSY ? -E.EXIST : place;
    const { parent, name } = place;
    if (parent.children!.has(name)) return -E.EXIST;
    const id = this.journal.names.nextId();
    const status = this.write(['file', id, parent.id, name, mode, uid, gid, body.slot]);
    if (status === 0) body.isNamed = true;
    return status;
  }

  mkdir(path: string, mode: number, uid = 0, gid = 0): number {
    const place = this.place(path);
    if (typeof place === 'number') return place;
    const { parent, name } = place;
    if (parent.children!.has(name)) return -E.EXIST;
    return this.write(['dir', this.journal.names.nextId(), parent.id, name, mode, uid, gid]);
  }

  change(path: string, { mode, uid, gid }: { mode: number; uid: number; gid: number }): number {
    const entry = this.find(path);
    if (typeof entry === 'number') return entry;
    return entry.id === 0 ? -E.PERM : this.write(['mode', entry.id, mode, uid, gid]);
  }

  remove(path: string): number {
    const entry = path === '' ? -E.BUSY : this.find(path);
    if (typeof entry === 'number') return entry;
    if (entry.children !== null) return -E.ISDIR;
    const body = this.bodyOf(entry);
    const status = this.write(['gone', entry.id]);
    if (status === 0) this.unname(body);
    return status;
  }

  removeDirectory(path: string): number {
    const entry = path === '' ? -E.BUSY : this.find(path);
    if (typeof entry === 'number') return entry;
    if (entry.children === null) return -E.NOTDIR;
    return entry.children.size > 0 ? -E.NOTEMPTY : this.write(['gone', entry.id]);
  }

  rename(from: string, to: string): number {
    if (from === '' || to === '') return -E.BUSY;
    const place = this.place(to);
    if (typeof place === 'number') return place;
    const entry = this.find(from);
    if (typeof entry === 'number') return entry;
    const old = place.parent.children!.get(place.name);
    if (old === entry) return 0;
    if (entry.children !== null && `${to}/`.startsWith(`${from}/`)) return -E.INVAL;
    if (old !== undefined && `${from}/`.startsWith(`${to}/`)) return -E.NOTEMPTY;
    if (entry.children !== null && old !== undefined && old.children === null) return -E.NOTDIR;
    if (entry.children === null && old !== undefined && old.children !== null) return -E.ISDIR;
    if ((old?.children?.size ?? 0) > 0) return -E.NOTEMPTY;
    const replaced = old?.children === null ? this.bodyOf(old) : null;
    // What takes the place of a file is on the disk first: editors rely on it.
    const status = replaced === null || entry.children !== null ? 0 : this.settle(this.bodyOf(entry).file);
    if (status < 0) return status;
    const moved = this.write(['move', entry.id, place.parent.id, place.name]);
    if (moved === 0 && replaced !== null) this.unname(replaced);
    return moved;
  }

  private settle(file: SlotFile): number {
    return this.dirty.delete(file) ? file.flush() : 0;
  }
}
