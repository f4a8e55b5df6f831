// An audit log as its readers find it: /audit or an exported directory, where records lie in bundles as C2SP tlog-tiles has them, or a store as
// the kernel keeps it (/var/audit), frames with checkpoints beside them. One way of reading for programs of the machine and for the host's
// `arena8 audit`: files come through an interface, and what waits for them is a generator. Nothing here is believed or checked: that is verify's.

import { isRefusal, LIMITS, refuse, utf8Decode, utf8Encode } from '../../kernel/abi/index.ts';
import type { Refusal } from '../../kernel/abi/index.ts';
import {
  frame,
  joined,
  leafHash,
  parseEntryBundle,
  parseCanonical,
  parseCheckpoint,
  parseNote,
  parseHashTile,
  parseTilePath,
  readFrames,
  rowLength,
  TILE_WIDTH,
  tileHashes,
  tilePath,
  tilesOf,
  Tree,
} from '../../trust/index.ts';
import type { Checkpoint, Json, JsonObject, TileName } from '../../trust/index.ts';

/** The files of a log by their paths in its directory. */
export interface LogFiles {
  /** The directory, as messages name it. */
  readonly place: string;
  /** A whole file; null where there is none. */
  read(path: string): Generator<void, Uint8Array | null | Refusal, void>;
  /** The paths of all files there are, in any order. */
  paths(): Generator<void, readonly string[] | Refusal, void>;
}

/** A log that can be read, record by record. */
export interface OpenLog {
  readonly place: string;
  /** The newest checkpoint, as it is signed. */
  readonly head: string;
  /** What it says; nobody's signature has been looked at. */
  readonly checkpoint: Checkpoint;
  /** A record's bytes, number 0 to size - 1. */
  record(number: number): Generator<void, Uint8Array | Refusal, void>;
  /** The tree over the leaf hashes that the log has of its records. */
  tree(): Generator<void, Tree | Refusal, void>;
  /** The files of the log as C2SP tlog-tiles lays it out: those that lie there, or for a store those that its records give. */
  readonly tiled: LogFiles;
}

/** Bytes of a file at most, a store's checkpoints being the longest; whoever made the directory may have put anything there. */
export const LOG_FILE_BYTES_MOST = 1 << 26;

/** Beside the log in an export: the verifier key that it says is its own. */
export const PUBLIC_KEY_FILE = 'pubkey';

/** The newest checkpoint of an export. */
export const CHECKPOINT_FILE = 'checkpoint';

const NO_LOG = 'no audit log: neither `checkpoint` and `tile/`, nor `checkpoints` and `entries/`';

/** The log in these files, whichever of the two forms it has. */
export function* openLog(files: LogFiles): Generator<void, OpenLog | Refusal, void> {
  const tiled = yield* files.read(CHECKPOINT_FILE);
  if (isRefusal(tiled)) return tiled;
  if (tiled !== null) {
    const head = readHead(files.place, tiled);
    return isRefusal(head) ? head : new TiledLog(files, head.text, head.checkpoint);
  }
  const stored = yield* files.read('checkpoints');
  if (isRefusal(stored)) return stored;
  return stored === null ? refuse('NOENT', 0, `${files.place}: ${NO_LOG}`) : yield* openStore(files, stored);
}

interface Head {
  readonly text: string;
  readonly checkpoint: Checkpoint;
}

function readHead(place: string, bytes: Uint8Array): Head | Refusal {
  const note = parseNote(bytes);
  const checkpoint = isRefusal(note) ? note : parseCheckpoint(note.text);
  if (isRefusal(checkpoint)) return { ...checkpoint, message: `${place}/checkpoint: ${checkpoint.message}` };
  return { text: utf8Decode(bytes), checkpoint };
}

// ── Bundles and tiles ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The last bundle that was read is kept: whoever goes through a log reads each once. */
class TiledLog implements OpenLog {
  readonly place: string;
  private bundle = -1;
  private records: readonly Uint8Array[] = [];

  constructor(
    readonly tiled: LogFiles,
    readonly head: string,
    readonly checkpoint: Checkpoint,
  ) {
    this.place = tiled.place;
  }

  *record(number: number): Generator<void, Uint8Array | Refusal, void> {
    const index = Math.floor(number / TILE_WIDTH);
    if (index !== this.bundle) {
      const records = yield* this.tile('entries', index, parseEntryBundle);
      if (isRefusal(records)) return records;
      this.bundle = index;
      this.records = records;
    }
    return this.records[number % TILE_WIDTH] ?? refuse('NOENT', 0, noSuchRecord(number, this.checkpoint.size));
  }

  *tree(): Generator<void, Tree | Refusal, void> {
    const tree = new Tree();
    for (let index = 0; index * TILE_WIDTH < this.checkpoint.size; index++) {
      const hashes = yield* this.tile(0, index, parseHashTile);
      if (isRefusal(hashes)) return hashes;
      for (const hash of hashes) tree.append(hash);
    }
    return tree;
  }

  /** What `parse` makes of the file of a tile, full or as wide as it is in a log of this size. */
  private *tile<T extends readonly unknown[]>(
    level: TileName['level'],
    index: number,
    parse: (bytes: Uint8Array, width: number) => T | Refusal,
  ): Generator<void, T | Refusal, void> {
    const width = Math.min(TILE_WIDTH, rowLength(level, this.checkpoint.size) - index * TILE_WIDTH);
    if (width < 1) return refuse('NOENT', 0, noSuchRecord(index * TILE_WIDTH, this.checkpoint.size));
    const path = tilePath({ level, index, width });
    const bytes = yield* this.tiled.read(path);
    if (isRefusal(bytes)) return bytes;
    if (bytes === null) return refuse('NOENT', 0, `${this.place}/${path}: missing`);
    const parsed = parse(bytes, width);
    return isRefusal(parsed) ? { ...parsed, message: `${this.place}/${path}: ${parsed.message}` } : parsed;
  }
}

/** `no record 7: the log has 5`. */
export const noSuchRecord = (number: number, size: number): string => `no record ${number}: the log has ${size}`;

// ── Frames, as the kernel stores them ────────────────────────────────────────────────────────────────────────────────────────────────

/** The last whole checkpoint of a store, and which of its files each record is in. */
function* openStore(files: LogFiles, checkpoints: Uint8Array): Generator<void, OpenLog | Refusal, void> {
  const { place } = files;
  const head = lastHead(checkpoints);
  if (head === null) return refuse('NOENT', 0, `${place}/checkpoints: not one whole checkpoint`);
  const paths = yield* files.paths();
  if (isRefusal(paths)) return paths;
  const cosigned = yield* files.read('cosignatures');
  if (isRefusal(cosigned)) return cosigned;
  const text = head.text + witnessLines(cosigned ?? new Uint8Array(), head.checkpoint.size);
  const starts = paths.flatMap(path => /^entries\/([0-9]{16})$/.exec(path)?.slice(1).map(Number) ?? []);
  const { size } = head.checkpoint;
  const most = starts.length * LIMITS.auditFileRecords;
  if (size > most)
    return refuse('PROTO', 0, `${place}/checkpoints: of ${size} records; ${starts.length} files hold ${most} at most`);
  return new StoredLog(
    files,
    text,
    head.checkpoint,
    starts.toSorted((a, b) => a - b),
  );
}

/** What witnesses have signed the head of that size with, the last line of each: `SIZE — NAME SIGNATURE` in the store. */
function witnessLines(bytes: Uint8Array, size: number): string {
  const lines = utf8Decode(bytes).split('\n').slice(0, -1);
  const own = lines.filter(line => line.startsWith(`${size} — `)).map(line => line.slice(`${size} `.length));
  const byName = new Map(own.map(line => [line.split(' ')[1], `${line}\n`]));
  return [...byName.values()].join('');
}

/** Lines of a checkpoint in a store: origin, size, root, an empty one, the log's signature. */
const CHECKPOINT_LINES = 5;

/** Signed notes stand one after the other. What is torn at the end is not there. */
function lastHead(bytes: Uint8Array): Head | null {
  const lines = utf8Decode(bytes).split('\n');
  const whole = Math.floor((lines.length - 1) / CHECKPOINT_LINES);
  for (let end = whole * CHECKPOINT_LINES; end > 0; end -= CHECKPOINT_LINES) {
    const text = `${lines.slice(end - CHECKPOINT_LINES, end).join('\n')}\n`;
    const note = parseNote(utf8Encode(text));
    const checkpoint = isRefusal(note) ? note : parseCheckpoint(note.text);
    if (!isRefusal(checkpoint)) return { text, checkpoint };
  }
  return null;
}

class StoredLog implements OpenLog {
  readonly place: string;
  readonly tiled: LogFiles;
  private file = -1; // the one that is held
  private records: readonly Uint8Array[] = [];
  private hashes: Tree | null = null;

  constructor(
    private readonly files: LogFiles,
    readonly head: string,
    readonly checkpoint: Checkpoint,
    /** The first record of each file, ascending. */
    private readonly starts: readonly number[],
  ) {
    this.place = files.place;
    const paths = [CHECKPOINT_FILE, ...[...tilesOf(checkpoint.size)].map(tilePath)];
    this.tiled = {
      place: this.place,
      *paths() {
        return paths;
      },
      read: path => this.asTile(path),
    };
  }

  *record(number: number): Generator<void, Uint8Array | Refusal, void> {
    const start = this.starts.findLast(first => first <= number);
    if (start === undefined || number >= this.checkpoint.size)
      return refuse('NOENT', 0, `${this.place}: ${noSuchRecord(number, this.checkpoint.size)}`);
    const path = `entries/${String(start).padStart(16, '0')}`;
    if (start !== this.file) {
      const bytes = yield* this.files.read(path);
      if (isRefusal(bytes)) return bytes;
      this.records = readFrames(bytes ?? new Uint8Array()).records;
      this.file = start;
    }
    return this.records[number - start] ?? refuse('NOENT', 0, `${this.place}/${path}: record ${number} is missing`);
  }

  *tree(): Generator<void, Tree | Refusal, void> {
    if (this.hashes !== null) return this.hashes;
    const tree = new Tree();
    for (let number = 0; number < this.checkpoint.size; number++) {
      const record = yield* this.record(number);
      if (isRefusal(record)) return record;
      tree.append(leafHash(record));
    }
    return (this.hashes = tree);
  }

  /** The file of an export that would have this path. */
  private *asTile(path: string): Generator<void, Uint8Array | null | Refusal, void> {
    if (path === CHECKPOINT_FILE) return utf8Encode(this.head);
    const name = parseTilePath(path);
    if (isRefusal(name)) return null;
    const { level, index, width } = name;
    if (level !== 'entries') {
      const tree = yield* this.tree();
      return isRefusal(tree) ? tree : tileHashes(tree, level, index, width);
    }
    const frames: Uint8Array[] = [];
    for (let i = 0; i < width; i++) {
      const record = yield* this.record(index * TILE_WIDTH + i);
      if (isRefusal(record)) return record;
      frames.push(frame(record));
    }
    return joined(...frames);
  }
}

// ── Records ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A record by its attributes. */
export type LogRecord = JsonObject;

/** Record `number` taken apart, and the bytes that it was. */
export function* readRecord(
  log: OpenLog,
  number: number,
): Generator<void, { readonly bytes: Uint8Array; readonly record: LogRecord } | Refusal, void> {
  const bytes = yield* log.record(number);
  if (isRefusal(bytes)) return bytes;
  const json = parseCanonical(bytes);
  if (isRefusal(json)) return { ...json, message: `record ${number}: ${json.message}` };
  const record = json.value;
  return isObject(record) ? { bytes, record } : refuse('INVAL', 0, `record ${number} is no JSON object`);
}

const isObject = (value: Json): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
