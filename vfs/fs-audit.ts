// auditfs: the audit log as files under /audit, for root and the group auditor. log, head, pubkey, record/N, proof/N, salt/N, content/N, the log
// as a static one (checkpoint and tile/, after C2SP tlog-tiles, so that copying the two gives what any client reads), and ctl, which takes
// commands as Plan 9's do. Everything is made when it is opened and directories when they are listed: a log of a hundred thousand records
// costs nothing to mount. Nothing can be written but ctl.

import { BLOCKED, E, KIND, O, utf8Decode, utf8Encode } from '../kernel/abi/index.ts';
import type { Kind, Refusal } from '../kernel/abi/index.ts';
import type { DirEntry, FileSystem, FsUsage, Handle, Listing } from './inode.ts';
import { Inode, readBytes, StaticDir } from './inode.ts';

/** What the kernel's log shows of itself. Texts end in a newline. Records are those that the head covers, by number from 0. */
export interface AuditView {
  /** How many records the head covers. */
  size(): number;
  /** How many it will cover once what is on its way is stored; its size where nothing is, and where the log has stopped. */
  expected(): number;
  /** A record in canonical JSON, as it was hashed; null where there is none. */
  record(number: number): Uint8Array | null;
  /** Why record `number` is in the log: C2SP tlog-proof v1. */
  proof(number: number): string | null;
  /** The salt of a record's digests in hex; that it was read is recorded. `uid`: who reads. */
  salt(number: number, uid: number): string | null;
  /** The texts of a request, encrypted (age v1); null where they were not stored. */
  content(number: number): Uint8Array | null;
  /** Records whose texts are stored, in ascending order. */
  contents(): readonly number[];
  /** The newest checkpoint: a signed note, with the witnesses' signatures. */
  head(): string;
  /** The log's public key as a note verifier key. */
  publicKey(): string;
  /** Hashes of the tile at `level` with `width` (256: a full one) hashes, or of `level` -1 the entry bundle; null where the log has no such tile. */
  tile(level: number, index: number, width: number): Uint8Array | null;
  /** What is in force, a line each, in the commands that ctl takes. */
  settings(): string;
  /** A command written to ctl by `uid`. */
  control(command: string, uid: number): Refusal | null;
}

/** The group that reads the log, as /etc/group of the boot image has it. */
export const AUDITOR_GID = 101;

/** Hashes in a full tile, records in a full bundle. */
const TILE_WIDTH = 256;
const BUNDLE = -1;

/** Directories are open to the group, files readable by it: who writes what is in them is the kernel. */
const MODE = { directory: 0o750, file: 0o440, control: 0o660 } as const;

const NEWLINE = Uint8Array.of(0x0a);

/** Numbers of inodes: the fixed ones, then four for each record, then, from 2³¹ on, a hash of the path of what is in tile/. */
const NUMBER = {
  root: 1,
  log: 2,
  head: 3,
  publicKey: 4,
  checkpoint: 5,
  control: 6,
  tile: 7,
  numbered: 8,
  records: 16,
} as const;
const TILE_NUMBERS = 0x80000000;

abstract class AuditInode extends Inode {
  constructor(number: number, mode: number) {
    super(number, mode);
    this.gid = AUDITOR_GID;
  }
}

// ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A file whose bytes are made when it is opened, so that one reader sees one moment. As in procfs, the size is not known before. */
class MadeFile extends AuditInode {
  readonly kind = KIND.file;

  constructor(
    number: number,
    private readonly make: () => Uint8Array | null,
  ) {
    super(number, MODE.file);
  }
  override open(flags: number): Handle | number {
    if ((flags & O.ACCMODE) !== O.RDONLY) return -E.PERM;
    const bytes = this.make();
    if (bytes === null) return -E.NOENT;
    return {
      read: (memory, position, at, length) => readBytes(bytes, memory, position, at, length),
      write: () => -E.BADF,
    };
  }
}

/** True until the head covers what had been recorded when this was made: whoever reads the log finds what he has seen happen. */
function settling(view: AuditView): () => boolean {
  const wanted = view.expected();
  return () => view.size() < Math.min(wanted, view.expected());
}

/** The head, which its reader waits for. */
class HeadFile extends AuditInode {
  readonly kind = KIND.file;

  constructor(
    number: number,
    private readonly view: AuditView,
  ) {
    super(number, MODE.file);
  }
  override open(flags: number): Handle | number {
    if ((flags & O.ACCMODE) !== O.RDONLY) return -E.PERM;
    const isSettling = settling(this.view);
    let bytes = isSettling() ? null : utf8Encode(this.view.head());
    return {
      read: (memory, position, at, length) => {
        if (bytes === null && isSettling()) return BLOCKED;
        bytes ??= utf8Encode(this.view.head());
        return readBytes(bytes, memory, position, at, length);
      },
      write: () => -E.BADF,
    };
  }
}

/** All records as lines, those that had been made when it was opened. Reading on is cheap; reading back starts over. */
class LogLines implements Handle {
  private readonly isSettling: () => boolean;
  private size = -1; // not known yet
  private number = 0; // the next record
  private line: Uint8Array = new Uint8Array(); // the one before it
  private lineAt = 0;

  constructor(private readonly view: AuditView) {
    this.isSettling = settling(view);
    if (!this.isSettling()) this.size = view.size();
  }
  read(memory: Uint8Array, position: number, at: number, length: number): number {
    if (this.size < 0 && this.isSettling()) return BLOCKED;
    if (this.size < 0) this.size = this.view.size();
    if (position < this.lineAt) this.rewind();
    let done = 0;
    while (done < length) {
      const from = position + done - this.lineAt;
      if (from < this.line.length) done += readBytes(this.line, memory, from, at + done, length - done);
      else if (this.number >= this.size) break;
      else if (!this.advance()) return done > 0 ? done : -E.IO;
    }
    return done;
  }
  write(): number {
    return -E.BADF;
  }
  private rewind(): void {
    this.number = this.lineAt = 0;
    this.line = new Uint8Array();
  }
  private advance(): boolean {
    const record = this.view.record(this.number);
    if (record === null) return false; // the head covers it, and the store does not give it
    this.lineAt += this.line.length;
    this.line = new Uint8Array(record.length + 1);
    this.line.set(record);
    this.line.set(NEWLINE, record.length);
    this.number++;
    return true;
  }
}

class LogFile extends AuditInode {
  readonly kind = KIND.file;

  constructor(private readonly view: AuditView) {
    super(NUMBER.log, MODE.file);
  }
  override open(flags: number): Handle | number {
    return (flags & O.ACCMODE) === O.RDONLY ? new LogLines(this.view) : -E.PERM;
  }
}

/** Reading tells what is in force, writing takes commands: each write is whole lines. The first that is refused ends it, with its reason. */
class ControlFile extends AuditInode {
  readonly kind = KIND.file;

  constructor(
    private readonly view: AuditView,
    private readonly caller: () => number,
  ) {
    super(NUMBER.control, MODE.control);
  }
  override truncate(): number {
    return 0;
  }
  override open(): Handle {
    const settings = utf8Encode(this.view.settings());
    let refusal: Refusal | null = null;
    return {
      read: (memory, position, at, length) => readBytes(settings, memory, position, at, length),
      write: (memory, _position, at, length) => {
        const lines = utf8Decode(memory, at, at + length).split('\n');
        for (const command of lines.map(line => line.trim()).filter(line => line !== '')) {
          refusal = this.view.control(command, this.caller());
          if (refusal !== null) return -refusal.errno;
        }
        return length;
      },
      refusal: () => refusal,
    };
  }
}

// ── Directories by number ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a name of digits stands for, without leading zeros; -1: for none. */
const numberOf = (name: string): number => (/^(?:0|[1-9][0-9]{0,9})$/.test(name) ? Number(name) : -1);

/** record/, proof/, salt/ and content/: a file for each record, made when it is looked up. */
class NumberedDir extends AuditInode {
  readonly kind = KIND.dir;

  constructor(
    number: number,
    private readonly view: AuditView,
    private readonly names: () => Listing,
    private readonly make: (record: number) => Inode,
  ) {
    super(number, MODE.directory);
  }
  override lookup(name: string): Inode | number {
    const record = numberOf(name);
    return record < 0 || record >= this.view.size() ? -E.NOENT : this.make(record);
  }
  override list(): Listing {
    return this.names();
  }
}

const fileEntry = (name: string): DirEntry => ({ name, kind: KIND.file });

/** The numbers below `length`, each made when it is asked for. */
const numbersBelow = (length: number): Listing => ({
  length,
  at: position => (position < length ? fileEntry(String(position)) : undefined),
});

// ── Tiles ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** FNV-1a of a path in tile/, in the upper half of inode numbers. */
function tileNumber(path: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < path.length; i++) h = Math.imul(h ^ path.charCodeAt(i), 0x01000193);
  return TILE_NUMBERS + (h & 0x7fffffff);
}

const three = (n: number): string => String(n).padStart(3, '0');

/** How many tiles of a level are full, and how wide the one behind them is (0: there is none) in a log of `size` records. */
function tilesOf(size: number, level: number): { readonly full: number; readonly width: number } {
  const hashes = Math.floor(size / TILE_WIDTH ** Math.max(0, level));
  return { full: Math.floor(hashes / TILE_WIDTH), width: hashes % TILE_WIDTH };
}

/** tile/: a directory for each level that has hashes, and entries/. */
class TileRoot extends AuditInode {
  readonly kind = KIND.dir;

  constructor(private readonly view: AuditView) {
    super(NUMBER.tile, MODE.directory);
  }
  override lookup(name: string): Inode | number {
    const level = name === 'entries' ? BUNDLE : name.length === 1 ? numberOf(name) : -2;
    return level < BUNDLE || !this.has(level) ? -E.NOENT : new TileDir(this.view, level, 0, 0, `tile/${name}`);
  }
  override list(): Listing {
    const entries: DirEntry[] = [];
    for (let level = 0; this.has(level); level++) entries.push({ name: String(level), kind: KIND.dir });
    if (this.has(BUNDLE)) entries.push({ name: 'entries', kind: KIND.dir });
    return entries;
  }
  private has(level: number): boolean {
    const { full, width } = tilesOf(this.view.size(), level);
    return full + width > 0;
  }
}

/**
 * A directory on the way to tiles: tile 1234067 of a level is x001/x234/067. The one for the digits of `prefix`, `depth` groups of three,
 * holds tiles 1000 · prefix to 1000 · prefix + 999, and a directory for each longer prefix. A tile that is not full is NNN.p/WIDTH.
 */
class TileDir extends AuditInode {
  readonly kind = KIND.dir;

  constructor(
    private readonly view: AuditView,
    private readonly level: number,
    private readonly prefix: number,
    private readonly depth: number,
    private readonly path: string,
  ) {
    super(tileNumber(path), MODE.directory);
  }
  /** What is below `prefix` · 1000 + `digits`: its first tile is there. Numbers have no leading group of zeros. */
  private leads(digits: number, tiles: number): boolean {
    return (digits > 0 || this.depth > 0) && (this.prefix * 1000 + digits) * 1000 < tiles;
  }
  override lookup(name: string): Inode | number {
    const [, further, digits, partial] = /^(x?)([0-9]{3})(\.p)?$/.exec(name) ?? [];
    if (digits === undefined || (further !== '' && partial !== undefined)) return -E.NOENT;
    const { view, level, depth } = this;
    const { full, width } = tilesOf(view.size(), level);
    const index = this.prefix * 1000 + Number(digits);
    const path = `${this.path}/${name}`;
    if (further !== '')
      return this.leads(Number(digits), full + Number(width > 0))
        ? new TileDir(view, level, index, depth + 1, path)
        : -E.NOENT;
    if (partial !== undefined) {
      if (index > full || (index === full && width === 0)) return -E.NOENT;
      return new PartialDir(view, level, index, path);
    }
    return index < full ? tileFile(view, level, index, TILE_WIDTH, path) : -E.NOENT;
  }
  override list(): Listing {
    const { full, width } = tilesOf(this.view.size(), this.level);
    const entries: DirEntry[] = [];
    const add = (name: string, kind: Kind): void => void entries.push({ name, kind });
    for (let digits = 0; digits < 1000; digits++) {
      const index = this.prefix * 1000 + digits;
      if (index < full) add(three(digits), KIND.file);
      else if (index === full && width > 0) add(`${three(digits)}.p`, KIND.dir);
      if (this.leads(digits, full + Number(width > 0))) add(`x${three(digits)}`, KIND.dir);
    }
    return entries;
  }
}

/** NNN.p/: the newest width is listed; the narrower ones, which older checkpoints ask for, are there by name. */
class PartialDir extends AuditInode {
  readonly kind = KIND.dir;

  constructor(
    private readonly view: AuditView,
    private readonly level: number,
    private readonly index: number,
    private readonly path: string,
  ) {
    super(tileNumber(path), MODE.directory);
  }
  /** The widest that is there; 255 of a tile that is full by now. */
  private get widest(): number {
    const { full, width } = tilesOf(this.view.size(), this.level);
    return this.index < full ? TILE_WIDTH - 1 : width;
  }
  override lookup(name: string): Inode | number {
    const width = numberOf(name);
    if (width < 1 || width > this.widest) return -E.NOENT;
    return tileFile(this.view, this.level, this.index, width, `${this.path}/${name}`);
  }
  override list(): Listing {
    const { full, width } = tilesOf(this.view.size(), this.level);
    return this.index < full ? [] : [fileEntry(String(width))];
  }
}

const tileFile = (view: AuditView, level: number, index: number, width: number, path: string): Inode =>
  new MadeFile(tileNumber(path), () => view.tile(level, index, width));

// ── The file system ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export class AuditFs implements FileSystem {
  readonly type = 'auditfs';
  readonly readOnly = false; // ctl
  readonly root: StaticDir;

  /** `caller`: the effective user who is at work on it now. */
  constructor(
    private readonly view: AuditView,
    caller: () => number,
  ) {
    this.root = new StaticDir(NUMBER.root, MODE.directory);
    this.root.gid = AUDITOR_GID;
    const all = (): Listing => numbersBelow(view.size());
    const files: Readonly<Record<string, Inode>> = {
      log: new LogFile(view),
      head: new HeadFile(NUMBER.head, view),
      pubkey: new MadeFile(NUMBER.publicKey, () => utf8Encode(view.publicKey())),
      checkpoint: new HeadFile(NUMBER.checkpoint, view),
      ctl: new ControlFile(view, caller),
      tile: new TileRoot(view),
      record: this.numbered(0, all, n => view.record(n)),
      proof: this.numbered(1, all, n => textOrNull(view.proof(n))),
      // To read a salt is to disclose it: whoever copies the whole tree, or searches it, must not do that by accident.
      salt: this.numbered(
        2,
        () => [],
        n => textOrNull(view.salt(n, caller())),
      ),
      content: this.numbered(
        3,
        () => view.contents().map(n => fileEntry(String(n))),
        n => view.content(n),
      ),
    };
    for (const [name, inode] of Object.entries(files)) this.root.children.set(name, inode);
  }

  /** The `which`th of the directories by number, each of whose files has a number of its own. */
  private numbered(which: number, names: () => Listing, bytes: (record: number) => Uint8Array | null): Inode {
    return new NumberedDir(
      NUMBER.numbered + which,
      this.view,
      names,
      record => new MadeFile(NUMBER.records + 4 * record + which, () => bytes(record)),
    );
  }

  usage(): FsUsage {
    return { totalBytes: 0, usedBytes: 0, files: 4 * this.view.size() };
  }
}

const textOrNull = (text: string | null): Uint8Array | null => (text === null ? null : utf8Encode(text));
