// Checks a whole exported log (C2SP tlog-tiles): a reader who has the key, and perhaps heads seen before and witnesses, learns that nothing was
// altered, dropped, reordered or added unseen, or the first place where something was. One pass over the files, one bundle and one tile a level
// in memory. Records are believed where they give the signed root; a tile is then at fault, else the record whose leaf is not in its tile.

import { isRefusal, shown, utf8Encode, utf8Length } from '../kernel/abi/index.ts';
import type { Refusal } from '../kernel/abi/index.ts';
import { HASH_BYTES, malformed, sameBytes, sha256, unproven } from './bytes.ts';
import type { Sha256 } from './bytes.ts';
import { parseCanonical } from './canonical.ts';
import type { Json, JsonObject } from './canonical.ts';
import { openCheckpoint } from './checkpoint.ts';
import type { OpenedCheckpoint } from './checkpoint.ts';
import { formatNoteKey } from './note.ts';
import type { NoteKey } from './note.ts';
import { ATTRIBUTES, AUDIT_OPS, groupsOf, isEnding } from './record.ts';
import type { AttributeKind, AuditOp } from './record.ts';
import { TILE_WIDTH, parseTilePath, readFrames, rowLength, tilePath } from './tiles.ts';
import type { TileName } from './tiles.ts';
import { leafHash, nodeHash } from './tree.ts';

/** What the reader knows from others than the log. */
export interface LogTrust {
  readonly key: NoteKey;
  /** Checkpoints seen before, signed by the same key: the log must continue each of them. */
  readonly seen?: readonly Uint8Array[];
  readonly witnesses?: readonly NoteKey[];
  /** Witnesses that must have cosigned; without it all of them. */
  readonly threshold?: number;
  /** A host's own SHA-256. */
  readonly hash?: Sha256;
}

export interface VerifiedLog {
  readonly checkpoint: OpenedCheckpoint;
  /** Power-ons. */
  readonly boots: number;
  /** Requests that were admitted and had not ended: they were running, or the power was cut. */
  readonly open: number;
}

/**
 * Asks for one file after the other by path, is answered with its bytes (null: there is none), and ends with what was verified or a refusal that
 * names the first bad place. `paths`: every file of the export, in any order.
 */
export function* verifyLog(
  paths: Iterable<string>,
  { key, seen = [], witnesses = [], threshold = witnesses.length, hash = sha256 }: LogTrust,
): Generator<string, VerifiedLog | Refusal, Uint8Array | null> {
  const note = yield CHECKPOINT;
  if (note === null) return malformed(`${CHECKPOINT}: missing`);
  const head = openCheckpoint(note, key, witnesses);
  if (isRefusal(head)) return within(CHECKPOINT, head);
  const missing = witnesses.filter(w => !head.witnessed.some(s => s.key === w));
  if (witnesses.length - missing.length < threshold)
    return unproven(`${CHECKPOINT}: not cosigned by ${missing.map(w => shown(w.name)).join(', ')}`);
  const heads = openHeads(seen, key, head, hash);
  if (isRefusal(heads)) return heads;
  for (const path of paths) {
    if (!belongs(path, head.size)) return unproven(`${shown(path)}: no file of a log of ${head.size} records`);
    if (path !== PUBLIC_KEY) continue;
    const told = yield PUBLIC_KEY;
    if (told === null || !sameBytes(told, utf8Encode(`${formatNoteKey(key)}\n`)))
      return unproven(`${PUBLIC_KEY}: not the key that was given`);
  }

  const walk = new Walk(head.size, heads, hash);
  while (walk.size < head.size) {
    for (const name of walk.needed()) {
      const path = tilePath(name);
      const bytes = yield path;
      const wrong = bytes === null ? malformed(`${path}: missing`) : walk.take(name, bytes);
      if (wrong !== null) return walk.firstDifference() ?? wrong;
    }
  }
  return walk.verdict(head) ?? { checkpoint: head, ...walk.order.counts };
}

/** `verifyLog` where files can be read at once. */
export function verifyFiles(
  paths: Iterable<string>,
  read: (path: string) => Uint8Array | null,
  trust: LogTrust,
): VerifiedLog | Refusal {
  const steps = verifyLog(paths, trust);
  let step = steps.next();
  while (step.done !== true) step = steps.next(read(step.value));
  return step.value;
}

const CHECKPOINT = 'checkpoint';
/** What the log says its key is: not believed, but it must not say another. */
const PUBLIC_KEY = 'pubkey';

const within = (place: string, { message, ...rest }: Refusal): Refusal => ({
  ...rest,
  message: message.startsWith(place) ? message : `${place}: ${message}`,
});

/** Whether an export of a log of `size` has this file. */
function belongs(path: string, size: number): boolean {
  if (path === CHECKPOINT || path === PUBLIC_KEY) return true;
  const name = parseTilePath(path);
  if (isRefusal(name)) return false;
  return name.width === widthOf(name, size);
}

/** Hashes or records of a tile in a tree of `size`; 0 or less: there is no such tile. */
const widthOf = ({ level, index }: Pick<TileName, 'level' | 'index'>, size: number): number =>
  Math.min(TILE_WIDTH, rowLength(level, size) - index * TILE_WIDTH);

type Head = Pick<OpenedCheckpoint, 'size' | 'root'>;

/** The heads seen before, smallest first; refused when one is not the log's, or already longer than it. */
function openHeads(
  notes: readonly Uint8Array[],
  key: NoteKey,
  { size }: Head,
  hash: Sha256,
): readonly Head[] | Refusal {
  const heads: Head[] = [];
  for (const [i, bytes] of notes.entries()) {
    const head = openCheckpoint(bytes, key);
    if (isRefusal(head)) return within(`seen head ${i + 1}`, head);
    if (head.size > size) return unproven(`${CHECKPOINT}: rollback: ${size} records, ${head.size} were seen`);
    if (head.size === 0 && !sameBytes(head.root, hash()))
      return unproven(`seen head ${i + 1}: its root is not that of no records`);
    heads.push(head);
  }
  return heads.sort((a, b) => a.size - b.size);
}

/** A hash of a tile that is not the one the records give. */
interface Difference {
  readonly path: string;
  readonly hash: number;
  /** The record whose leaf it is, as a place in its bundle; null above level 0. */
  readonly record: string | null;
}

/** The way through the records: their tree, as the one hash a level that still waits for its right sibling, beside the tiles. */
class Walk {
  readonly order = new Order();
  size = 0;
  readonly #end: number;
  readonly #heads: readonly Head[];
  readonly #hash: Sha256;
  readonly #waiting: Uint8Array[] = [];
  /** The tile of each level that the next hash of the level should be found in. */
  readonly #tiles: { readonly path: string; readonly bytes: Uint8Array }[] = [];
  #difference: Difference | null = null;
  /** How many of the heads the records have been found to continue. */
  #headsKept: number;
  #forked = false;

  constructor(end: number, heads: readonly Head[], hash: Sha256) {
    this.#end = end;
    this.#heads = heads;
    this.#hash = hash;
    this.#headsKept = heads.filter(h => h.size === 0).length;
  }

  /** The tiles that begin with the next bundle, and the bundle. */
  *needed(): Generator<TileName> {
    for (let [level, index] = [0, this.size / TILE_WIDTH]; ; [level, index] = [level + 1, index / TILE_WIDTH]) {
      const width = widthOf({ level, index }, this.#end);
      if (!Number.isInteger(index) || width <= 0) break;
      yield { level, index, width };
    }
    const bundle = { level: 'entries', index: this.size / TILE_WIDTH } as const;
    yield { ...bundle, width: widthOf(bundle, this.#end) };
  }

  take(name: TileName, bytes: Uint8Array): Refusal | null {
    const path = tilePath(name);
    if (name.level === 'entries') return this.#takeBundle(path, name.width, bytes);
    const length = name.width * HASH_BYTES;
    if (bytes.length !== length) return malformed(`${path}: ${bytes.length} bytes, not ${length}`);
    this.#tiles[name.level] = { path, bytes };
    return null;
  }

  #takeBundle(path: string, width: number, bytes: Uint8Array): Refusal | null {
    const { records, end } = readFrames(bytes);
    let at = 0;
    for (const record of records.slice(0, width)) {
      const place = `${path}: record ${this.size} (byte ${at})`;
      const fault = this.order.fault(record, this.size);
      if (fault !== null) return within(place, fault);
      this.#append(leafHash(record, this.#hash), place);
      at += 2 + record.length;
    }
    if (records.length < width) return malformed(`${path}: record ${this.size} (byte ${end}): cut off`);
    return at < bytes.length ? malformed(`${path}: ${bytes.length - at} bytes behind its last record`) : null;
  }

  #append(leaf: Uint8Array, place: string): void {
    let hash = leaf;
    let [level, n] = [0, this.size++];
    for (; ; level++, n = (n - 1) / 2) {
      if (level % 8 === 0) this.#compare(level / 8, n, hash, place);
      if (n % 2 === 0) break;
      hash = nodeHash(this.#waiting[level]!, hash, this.#hash);
    }
    this.#waiting[level] = hash;
    while (this.#heads[this.#headsKept]?.size === this.size && !this.#forked) {
      this.#forked = !sameBytes(this.#heads[this.#headsKept]!.root, this.#root());
      if (!this.#forked) this.#headsKept++;
    }
  }

  /** Holds hash `n` of a row of tiles against the tile; only the first difference is kept. */
  #compare(level: number, n: number, hash: Uint8Array, place: string): void {
    const { path, bytes } = this.#tiles[level]!;
    const i = n % TILE_WIDTH;
    if (this.#difference !== null || sameBytes(bytes.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES), hash)) return;
    this.#difference = { path, hash: i, record: level === 0 ? place : null };
  }

  /** Root of the records so far: the hashes that wait, from the right. */
  #root(): Uint8Array {
    let root: Uint8Array | null = null;
    for (let [level, rest] = [0, this.size]; rest > 0; [level, rest] = [level + 1, Math.floor(rest / 2)]) {
      if (rest % 2 === 0) continue;
      const left = this.#waiting[level]!;
      root = root === null ? left : nodeHash(left, root, this.#hash);
    }
    return root ?? this.#hash();
  }

  /** Where records and tiles part, when it is not known which of them are as they were signed. */
  firstDifference(): Refusal | null {
    if (this.#difference === null) return null;
    const { path, hash, record } = this.#difference;
    return record === null
      ? this.#tileFault()
      : unproven(`${record}: its leaf hash differs from hash ${hash} of ${path}`);
  }

  #tileFault(): Refusal {
    const { path, hash } = this.#difference!;
    return unproven(`${path}: hash ${hash} (byte ${hash * HASH_BYTES}): not that of the records`);
  }

  /** After the last record: null when all agrees with the signed head and continues those that were seen. */
  verdict(head: Head): Refusal | null {
    const asSigned = sameBytes(this.#root(), head.root);
    if (this.#difference !== null) return asSigned ? this.#tileFault() : this.firstDifference();
    const kept = this.#heads[this.#headsKept - 1]?.size ?? 0;
    if (!asSigned)
      return unproven(
        `${CHECKPOINT}: its root is not that of the ${head.size} records; ${kept} of them are as seen before`,
      );
    if (!this.#forked) return null;
    const { size } = this.#heads[this.#headsKept]!;
    return unproven(
      `${CHECKPOINT}: fork: of the ${size} records that were seen, one in ${kept}…${size - 1} is another`,
    );
  }
}

/**
 * What records say about their own place: numbers without a gap; power-ons numbered from 0, each beginning with a record `boot`; time that does not
 * go back within one; every request admitted once and ended once, what the power cut off before anything else is admitted.
 */
class Order {
  #boot = -1;
  #timeNs = '';
  /** Submit records without an end, by the power-on they are of. */
  readonly #open = new Map<number, number>();

  get counts(): Pick<VerifiedLog, 'boots' | 'open'> {
    return { boots: this.#boot + 1, open: this.#open.size };
  }

  /** What is wrong with the record's form or place, or null. */
  fault(bytes: Uint8Array, number: number): Refusal | null {
    const parsed = parseCanonical(bytes);
    if (isRefusal(parsed)) return parsed;
    const record = parsed.value;
    if (record === null || typeof record !== 'object' || Array.isArray(record)) return malformed('not a JSON object');
    return attributesFault(record as JsonObject) ?? this.#placeFault(record as JsonObject, number);
  }

  #placeFault(record: JsonObject, number: number): Refusal | null {
    const own = record['arena8.record'];
    if (own !== number) return unproven(`it calls itself ${JSON.stringify(own)}`);
    const [op, boot, time] = [record['arena8.op'], record['arena8.boot'], record['arena8.time_ns'] as string];
    const expected = op === 'boot' ? this.#boot + 1 : this.#boot;
    if (boot !== expected) return unproven(`${op} of power-on ${boot}, where that of ${expected} is to be`);
    if (op !== 'boot' && isLess(time, this.#timeNs)) return unproven(`at ${time} ns, after one at ${this.#timeNs}`);
    [this.#boot, this.#timeNs] = [expected, time];
    if (op === 'submit') return this.#submitFault(number);
    const submitted = record['arena8.submitted'] as number | undefined;
    if (!isEnding(op as AuditOp)) return null;
    if (submitted === undefined) return op === 'reject' ? null : unproven(`${op} does not say which request it ends`);
    if (this.#open.delete(submitted)) return null;
    return unproven(`${op} of the request of record ${submitted}, which was not waiting for its end`);
  }

  #submitFault(number: number): Refusal | null {
    const [oldest] = this.#open;
    if (oldest !== undefined && oldest[1] < this.#boot)
      return unproven(`admits a request before that of record ${oldest[0]}, of power-on ${oldest[1]}, has its end`);
    this.#open.set(number, this.#boot);
    return null;
  }
}

/** Of decimal numbers to 2⁵³. */
const isLess = (a: string, b: string): boolean => Number(a) < Number(b);

const ALWAYS = ['arena8.record', 'arena8.op', 'arena8.boot', 'arena8.time_ns'] as const;

/** Whether the attributes are ones of the table, of their kind and within their length. */
function attributesFault(record: JsonObject): Refusal | null {
  const absent = ALWAYS.find(name => record[name] === undefined);
  if (absent !== undefined) return malformed(`no ${absent}`);
  const op = record['arena8.op'] as AuditOp;
  if (!AUDIT_OPS.includes(op)) return malformed(`unknown operation ${shown(String(op))}`);
  const groups = groupsOf(op);
  for (const [name, value] of Object.entries(record)) {
    const attribute = Object.hasOwn(ATTRIBUTES, name) ? ATTRIBUTES[name as keyof typeof ATTRIBUTES] : null;
    if (attribute === null) return malformed(`unknown attribute ${shown(name)}`);
    const { kind, most = Infinity }: { readonly kind: AttributeKind; readonly most?: number } = attribute;
    if (!groups.includes(attribute.in)) return malformed(`${op} does not say ${name}`);
    if (!IS_KIND[kind](value, most))
      return malformed(`${name} is not what it should be: ${shown(JSON.stringify(value))}`);
  }
  return null;
}

/** Bytes of a value in JSON, without its quotes or brackets. */
const innerBytes = (value: Json): number => utf8Length(JSON.stringify(value)) - 2;

const IS_KIND: Record<AttributeKind, (value: Json, most: number) => boolean> = {
  count: v => Number.isSafeInteger(v),
  u64: v => typeof v === 'string' && /^(0|[1-9][0-9]{0,15})$/.test(v) && Number.isSafeInteger(Number(v)),
  real: v => typeof v === 'number',
  flag: v => typeof v === 'boolean',
  text: (v, most) => typeof v === 'string' && innerBytes(v) <= most,
  hex: (v, most) => typeof v === 'string' && v.length === 2 * most && /^[0-9a-f]*$/.test(v),
  words: (v, most) => Array.isArray(v) && v.every(w => typeof w === 'string') && innerBytes(v) <= most,
};
